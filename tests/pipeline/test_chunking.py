"""Chunks fit, hold everything, follow the text's structure, and stay what they were when something else changes."""

import hashlib
import random
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chunking import chunk
from pipeline.model import Chunk, Markup

PIECES = st.sampled_from(
    [
        "# Heading\n", "## Second\n\n", "Title\n===\n", "Other\n---\n", "- item\n", "    code\n", "\n\n", "\n", "\t",
        "```\n", "```python\n", "~~~\n", "| a | b |\n", "|---|---|\n", "A sentence. ", "Is it? Yes! ", "word ",
        "e.g. so ", " ", "   ", "\u00a0", "\u2028", "文は終わる。", "春天来了！", "क्षि", "각", "한", "x" * 40,
        "0123456789", "🇩🇪", "🇫🇷🇮🇹🇪", "👨‍👩‍👧", "❤️", "👍🏽", "e\u0301", "a\u0301\u0302\u0303",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=12), max_size=60).map("".join)
MARKUPS = st.sampled_from(Markup)


def cut(text: str, max_chars: int = 400, markup: Markup = Markup.MARKDOWN, overlap_chars: int = 0) -> list[Chunk]:
    return chunk(text, markup, max_chars=max_chars, max_bytes=4 * max_chars, overlap_chars=overlap_chars)


def texts(chunks: list[Chunk]) -> list[str]:
    return [piece.text for piece in chunks]


def words_of(text: str) -> str:
    return "".join(text.split())


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class Writer:
    """Makes paragraphs that look like prose and never repeat."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def sentence(self) -> str:
        words = ("".join(self.random.choices("aeioulmnrst", k=self.random.randint(2, 9))) for _ in range(12))
        return " ".join(words).capitalize() + "."

    def paragraph(self) -> str:
        return " ".join(self.sentence() for _ in range(self.random.randint(2, 6)))


# ------------------------------------------------------------------------------------------------- limits


@given(TEXTS, MARKUPS, st.integers(2, 120), st.integers(4, 200), st.data())
def test_no_chunk_exceeds_its_limits_or_is_blank(
    text: str, markup: Markup, max_chars: int, max_bytes: int, data: st.DataObject
) -> None:
    """The memory refuses what is too long, in whichever way it counts, and what is blank."""
    overlap_chars = data.draw(st.integers(0, max_chars // 2))

    chunks = chunk(text, markup, max_chars=max_chars, max_bytes=max_bytes, overlap_chars=overlap_chars)

    for piece in chunks:
        assert utf16_units(piece.text) <= max_chars
        assert len(piece.text.encode()) <= max_bytes
        assert piece.text.strip()
    assert [piece.ordinal for piece in chunks] == list(range(len(chunks)))


@given(TEXTS, MARKUPS, st.integers(2, 120), st.integers(4, 200))
def test_the_chunks_hold_everything_once_and_in_order(
    text: str, markup: Markup, max_chars: int, max_bytes: int
) -> None:
    """Nothing of a document may be missing from the memory, or stand there twice."""
    chunks = chunk(text, markup, max_chars=max_chars, max_bytes=max_bytes)

    assert "".join(words_of(piece.text) for piece in chunks) == words_of(text)


@given(TEXTS, MARKUPS, st.integers(20, 120), st.integers(0, 10))
def test_with_an_overlap_every_chunk_but_the_first_begins_within_the_one_before(
    text: str, markup: Markup, max_chars: int, overlap_chars: int
) -> None:
    """The overlap is the text itself, not something made up, and never more than was asked for."""
    chunks = chunk(text, markup, max_chars=max_chars, max_bytes=500, overlap_chars=overlap_chars)

    surplus = sum(len(words_of(piece.text)) for piece in chunks) - len(words_of(text))

    assert 0 <= surplus <= overlap_chars * max(0, len(chunks) - 1)
    assert all(words_of(piece.text) in words_of(text) for piece in chunks)


def test_an_overlap_begins_with_a_word() -> None:
    """Half a word at the start would be found by nobody."""
    text = " ".join(Writer(1).sentence() for _ in range(20))

    chunks = cut(text, 300, overlap_chars=50)

    for before, after in pairwise(chunks):
        shared = next(size for size in range(50, 0, -1) if before.text.endswith(after.text[:size].rstrip()))
        assert shared > 20
        assert f" {after.text[:shared].rstrip()}" in before.text


@pytest.mark.parametrize("space", [" ", "\u3000"])
def test_indentation_never_takes_the_room_of_what_it_stands_before(space: str) -> None:
    """Hypothesis found four spaces and a letter in a chunk of four bytes."""
    chunks = chunk(space * 4 + "code", Markup.MARKDOWN, max_chars=12, max_bytes=4)

    assert texts(chunks) == ["code"]


def test_limits_that_hold_no_character_are_refused() -> None:
    """They would lose text or never end."""
    with pytest.raises(ValueError, match="room for one character"):
        chunk("a", Markup.PLAIN, max_chars=1, max_bytes=100)
    with pytest.raises(ValueError, match="half a chunk"):
        chunk("a", Markup.PLAIN, max_chars=10, max_bytes=100, overlap_chars=6)


@pytest.mark.parametrize("text", ["", " ", "\n\n\n", "\u2003\t"])
def test_a_blank_text_has_no_chunks(text: str) -> None:
    """There is nothing to remember."""
    assert cut(text) == []


def test_a_short_text_is_one_chunk_that_keeps_its_indentation() -> None:
    """Indentation means something in code, lists and YAML; blank lines around the text do not."""
    assert texts(cut("\n\n  - first\n  - second\n\n")) == ["  - first\n  - second"]


# ------------------------------------------------------------------------------------- what stays together


def joins(before: str, after: str) -> bool:
    """What must not be parted, by rules that are written here apart from those under test."""
    return (
        unicodedata.combining(after) != 0
        or after in "\u200d\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"
        or before == "\u200d"
    )


CLUSTERS = ["🇩🇪", "🇫🇷", "👨‍👩‍👧", "❤️", "👍🏽", "e\u0301", "a\u0301\u0302", "각", "🏴\U000e0067\U000e007f", "x", "文"]


@given(st.lists(st.sampled_from(CLUSTERS), min_size=20, max_size=200), st.integers(16, 60))
def test_what_a_reader_sees_as_one_character_is_never_parted(clusters: list[str], max_chars: int) -> None:
    """Half an emoji is another emoji, and half a flag is a letter."""
    ends = {0}
    for cluster in clusters:
        ends.add(max(ends) + len(cluster))

    position = 0
    for piece in chunk("".join(clusters), Markup.PLAIN, max_chars=max_chars, max_bytes=4 * max_chars):
        position += len(piece.text)

        assert position in ends


@given(TEXTS, st.integers(60, 200))
def test_no_chunk_begins_with_what_belongs_to_the_character_before(text: str, max_chars: int) -> None:
    """The same for any text, with spaces, lines and sentences in it."""
    chunks = chunk(text, Markup.PLAIN, max_chars=max_chars, max_bytes=4 * max_chars)

    for before, after in pairwise(chunks):
        if before.text + after.text in text:
            run = next((size for size, letter in enumerate(after.text) if not joins("", letter)), len(after.text))
            assert not joins(before.text[-1], after.text[0]) or run >= max_chars // 6


def test_an_accent_stays_with_the_space_that_carries_it() -> None:
    """A chunk that began with it would put the accent on nothing."""
    chunks = cut("word \u0301and " * 200, 100)

    assert not any(piece.text.startswith("\u0301") for piece in chunks)


def test_a_cluster_larger_than_a_chunk_is_cut_where_it_must() -> None:
    """Zalgo text has no end; the limit stands."""
    text = "a" + "\u0301" * 1000

    chunks = cut(text, 100)

    assert "".join(texts(chunks)) == text


def test_sentences_stay_whole_where_there_are_no_lines() -> None:
    """A sentence is the least that makes sense on its own."""
    text = " ".join(Writer(2).sentence() for _ in range(60))

    assert all(piece.text.endswith(".") for piece in cut(text, 500))


def test_chinese_and_japanese_sentences_stay_whole() -> None:
    """They end without a space."""
    text = "今日は天気がいいですね。散歩に行きましょう！本当に？" * 40

    assert all(piece.text[-1] in "。！？" for piece in cut(text, 200))


def test_an_abbreviation_does_not_end_a_sentence() -> None:
    """A small letter follows it."""
    text = "Some tools, e.g. hammers and i.e. saws, are sharp. " * 30

    assert all(piece.text.endswith("sharp.") for piece in cut(text, 200))


def test_words_stay_whole_where_there_are_no_sentences() -> None:
    """A search for a word finds it only in one piece."""
    words = [f"word{number}" for number in range(2_000)]

    assert [word for piece in cut(" ".join(words)) for word in piece.text.split()] == words


def test_paragraphs_stay_whole_where_they_fit() -> None:
    """A blank line is stronger than a line's end, and that than a sentence's."""
    writer = Writer(3)
    paragraphs = [writer.paragraph() for _ in range(60)]

    chunks = cut("\n\n".join(paragraphs), 1_500)

    assert [paragraph for piece in chunks for paragraph in piece.text.split("\n\n")] == paragraphs


def test_a_chunk_begins_at_the_highest_heading_within_reach() -> None:
    """A chapter's end and the next one's beginning do not belong together."""
    writer = Writer(4)
    chapters = [
        f"# Chapter {number}\n\n" + "\n\n".join(f"## Part\n\n{writer.paragraph()}" for _ in range(3))
        for number in range(20)
    ]

    chunks = cut("\n\n".join(chapters), 2_000)

    assert len(chunks) < 25
    assert all(piece.text.startswith("# Chapter") for piece in chunks)


def test_small_sections_are_packed_together() -> None:
    """A record for every heading would be many that say little."""
    text = "\n\n".join(f"### Option {number}\n\nTurns the thing on." for number in range(200))

    chunks = cut(text, 1_000)

    assert len(chunks) < len(text) / 500
    assert all(piece.text.startswith("### Option") for piece in chunks)


def test_a_heading_stays_with_what_it_stands_over() -> None:
    """At the end of a chunk it would say nothing, and the text behind it would have lost its name."""
    writer = Writer(5)
    sections = (
        "\n\n".join([f"## {writer.sentence()} {writer.sentence()}", *(writer.sentence() for _ in range(4))])
        for _ in range(100)
    )

    chunks = cut("\n\n".join(sections), 350)

    assert not any(piece.text.splitlines()[-1].startswith("##") for piece in chunks)


def test_fenced_code_is_kept_whole_where_it_fits() -> None:
    """Half an example does not run."""
    writer = Writer(6)
    example = "```python\n" + "\n\n".join(f"call_{number}()" for number in range(50)) + "\n```"
    text = "\n\n".join(f"{writer.sentence()}\n\n{example}" for _ in range(20))

    chunks = cut(text, len(example) + 10)

    assert sum(piece.text.count(example) for piece in chunks) == 20


def test_fenced_code_that_does_not_fit_is_cut_between_lines() -> None:
    """A line of code is the least that makes sense."""
    lines = [f"value_{number} = compute({number})" for number in range(3_000)]

    chunks = cut("```\n" + "\n".join(lines) + "\n```")

    kept = [line for piece in chunks for line in piece.text.splitlines() if not line.startswith("```")]
    assert kept == lines


def test_a_table_is_cut_between_rows() -> None:
    """A cell without its neighbours says nothing."""
    rows = [f"| {number} | {'some words. And more ' * 5}|" for number in range(400)]
    table = "| Number | Words |\n|---|---|\n" + "\n".join(rows)

    chunks = cut(table, 500)

    assert [line for piece in chunks for line in piece.text.splitlines()] == table.splitlines()


def test_the_head_of_a_table_stays_with_its_first_row() -> None:
    """A head without a row says nothing, and a row without its head little."""
    head = f"| {'a long name of a column ' * 8}|\n|---|\n"
    tables = [head + "\n".join(f"| {table} {row} |" for row in range(20)) for table in range(30)]

    chunks = cut("\n\n".join(tables), 400)

    for piece in chunks:
        lines = piece.text.splitlines()
        assert not lines[0].startswith("|---")
        assert not lines[-1].startswith(("|---", "| a long name"))


def test_a_long_row_is_kept_whole_where_it_fits() -> None:
    """Even if the only other boundary within reach leaves a small chunk."""
    rows = [f"| {number} | {'Some words. ' * (number % 2 * 32)}|" for number in range(20)]

    chunks = cut("\n".join(rows), 400)

    assert [line for piece in chunks for line in piece.text.splitlines()] == rows


def test_no_crumb_is_left_at_the_end() -> None:
    """A last record of three words is found for the wrong questions."""
    text = "\n\n".join(Writer(7).sentence() for _ in range(100))

    for size in range(len(text) - 3_000, len(text), 37):
        assert len(cut(text[:size], 1_000)[-1].text) >= 250


# ------------------------------------------------------------------------------------------------ headings


def paths_by_start(text: str) -> dict[str, tuple[str, ...]]:
    return {piece.text.partition("\n")[0]: piece.heading_path for piece in cut(text, 200)}


def filler(seed: int) -> str:
    return "\n\n".join(Writer(seed).sentence() for _ in range(3))


def test_the_heading_path_names_the_headings_in_force() -> None:
    """A chunk on its own does not tell what it is about; its path does."""
    text = "\n\n".join(
        ["# Guide", filler(1), "## Setup", filler(2), "### Linux", filler(3), "## Use", filler(4), "# End", filler(5)]
    )

    paths = paths_by_start(text)

    assert paths["# Guide"] == ("Guide",)
    assert paths["## Setup"] == ("Guide", "Setup")
    assert paths["### Linux"] == ("Guide", "Setup", "Linux")
    assert paths["## Use"] == ("Guide", "Use")
    assert paths["# End"] == ("End",)
    assert ("Guide", "Setup", "Linux") in [
        piece.heading_path for piece in cut(text, 200) if not piece.text.startswith("#")
    ]


def test_underlined_headings_count() -> None:
    """Markdown has two ways to write them."""
    text = f"Guide\n=====\n\n{filler(1)}\n\nSetup\n-----\n\n{filler(2)}"

    paths = paths_by_start(text)

    assert paths["Guide"] == ("Guide",)
    assert paths["Setup"] == ("Guide", "Setup")


@pytest.mark.parametrize(
    "text",
    [
        "```\n# a comment\n```",
        "~~~~ sh\n```\n# a comment\n~~~~",
        "    # code by its indentation",
        "#hashtag",
        "####### seven",
        "a paragraph\nof two lines\n---",
        "- item\n---",
        "---\n\ntext\n\n---",
        "| a |\n|---|",
    ],
)
def test_what_only_looks_like_a_heading_is_none(text: str) -> None:
    """A comment in an example is not a chapter."""
    (last,) = cut(f"{text}\n")[-1:]

    assert last.heading_path == ()
    assert all(path == () for path in paths_by_start(f"{text}\n\n{filler(1)}").values())


def test_plain_text_has_no_headings() -> None:
    """A hash is a comment in most of what is not Markdown."""
    assert cut("# comment\n\ntext", markup=Markup.PLAIN)[0].heading_path == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("# `json` — *JSON* [encoder](x.html)¶", "json — JSON encoder"),
        ("## Closed ##", "Closed"),
        ("# C#", "C#"),
        ("# The snake_case and `__init__` {#anchor}", "The snake_case and __init__"),
        ("# A \\# <b>bold</b>  one", "A # bold one"),
    ],
)
def test_a_heading_in_the_path_is_free_of_markup(line: str, words: str) -> None:
    """The path goes into metadata, which is shown and filtered as it is."""
    assert cut(line)[0].heading_path == (words,)


# ------------------------------------------------------------------------------------------------ stability


def changed_chunks(before: str, after: str, max_chars: int) -> int:
    """How many records an edit makes new."""
    return (Counter(texts(cut(after, max_chars))) - Counter(texts(cut(before, max_chars)))).total()


def test_an_insertion_in_the_middle_changes_few_chunks_of_paragraphs() -> None:
    """Every changed chunk is a record to write; a greedy splitter changes half of the document."""
    writer = Writer(8)
    paragraphs = [writer.paragraph() for _ in range(800)]
    paragraphs[::100] = [f"## {paragraph[:30]}" for paragraph in paragraphs[::100]]
    before = "\n\n".join(paragraphs)

    changes = []
    for place in range(100, 700, 15):
        after = "\n\n".join([*paragraphs[:place], writer.paragraph(), *paragraphs[place:]])
        changes.append(changed_chunks(before, after, 2_000))

    assert len(cut(before, 2_000)) >= 100
    assert sum(changes) / len(changes) <= 2
    assert max(changes) <= 8


@pytest.mark.parametrize("separator", [" ", "\n"])
def test_an_insertion_in_the_middle_changes_few_chunks_of_an_unstructured_text(separator: str) -> None:
    """The same where there are only lines, or only sentences."""
    writer = Writer(9)
    sentences = [writer.sentence() for _ in range(3_000)]
    before = separator.join(sentences)

    changes = []
    for place in range(300, 2_700, 60):
        after = separator.join([*sentences[:place], writer.sentence(), *sentences[place:]])
        changes.append(changed_chunks(before, after, 1_500))

    assert len(cut(before, 1_500)) >= 100
    assert sum(changes) / len(changes) <= 2
    assert max(changes) <= 8


def test_without_spaces_an_insertion_changes_few_chunks_as_well() -> None:
    """Base64, or a language without spaces, has no better boundaries than any place."""
    letters = "".join(Writer(10).random.choices("abcdefghijklmnopqrstuvwxyz", k=60_000))

    changes = [
        changed_chunks(letters, f"{letters[:place]}inserted{letters[place:]}", 500)
        for place in range(5_000, 55_000, 2_500)
    ]

    assert sum(changes) / len(changes) <= 2


@given(st.integers(0, 10_000), st.integers(50, 250), st.integers(0, 3))
@settings(max_examples=60)
def test_chunks_before_an_edit_stay_and_those_behind_fall_back_into_step(seed: int, place: int, removed: int) -> None:
    """Whatever the edit, the first and the last part of a long document are left alone."""
    writer = Writer(seed)
    paragraphs = [writer.paragraph() for _ in range(300)]
    edited = [*paragraphs[:place], writer.sentence(), *paragraphs[place + removed :]]

    before, after = texts(cut("\n\n".join(paragraphs), 1_000)), texts(cut("\n\n".join(edited), 1_000))

    untouched = sum(1 for piece in before if "\n\n".join(paragraphs[:place]).find(piece) >= 0)
    assert before[: untouched - 2] == after[: untouched - 2]
    assert (Counter(after) - Counter(before)).total() <= 15


@given(TEXTS, MARKUPS, st.integers(10, 100))
def test_the_same_text_always_gives_the_same_chunks(text: str, markup: Markup, max_chars: int) -> None:
    """A second run over unchanged documents must find nothing to do."""
    assert cut(text, max_chars, markup) == cut(text, max_chars, markup)


# ----------------------------------------------------------------------------------------------- large texts


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "a\n" * 100_000,
        "x" * 1_000_000,
        " " * 1_000_000,
        "a" + " " * 1_000_000 + "b",
        "!" * 500_000,
        ". " * 500_000,
        "#" * 1_000_000,
        "`" * 1_000_000,
        "|" * 1_000_000,
        "[" * 300_000,
        "# [" * 100_000,
        "x\n===\n" * 50_000,
        "🇩🇪" * 100_000,
        "\u0301" * 300_000,
        "```\n" + "call()\n" * 3_000 + "```",
        "| a | b |\n|---|---|\n" + "| c | d |\n" * 4_000,
        "\n" * 500_000 + "a",
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_no_text_takes_more_than_linear_time(text: str) -> None:
    """One hostile file must not stop a run; anything quadratic would take minutes here."""
    chunks = chunk(text, Markup.MARKDOWN, max_chars=4_000, max_bytes=16_000)

    assert "".join(words_of(piece.text) for piece in chunks) == words_of(text)


LINES = (
    "# Heading", "## Part", "Under", "=====", "-----", "words in a line", "- an item", "1. first", "    code", "\tcode",
    "```", "```python", "~~~", "````", "  ```", "| a | b |", "|---|---|", "| 1 | 2 |", "> said", "#tag", "### ", "",
    "", "  ", "\x0b", "\u2028", "One sentence. Another one! And 水火木金。土日月山。", "a word " * 30,
)  # fmt: skip


def test_a_new_version_cuts_as_the_one_before() -> None:
    """Records are named after their text: to cut elsewhere is to write every document anew."""
    rng = random.Random(4)
    seen = hashlib.sha256()
    for _ in range(300):
        text = "\n".join(rng.choices(LINES, k=rng.randrange(1, 60)))
        for markup in Markup:
            for piece in chunk(text, markup, max_chars=rng.choice((12, 30, 60, 120, 400)), max_bytes=500):
                seen.update(repr((piece.text, piece.heading_path)).encode())
    assert seen.hexdigest()[:16] == "8d56d9680306732e"
