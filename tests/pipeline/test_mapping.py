"""Documents become records: their names, namespaces, metadata, provenance and limits."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.identity import METADATA_ESCAPE, decode
from pipeline.limits import service_limits
from pipeline.mapping import (
    HEADING_PATH_CHARACTERS_MAX,
    NO_TIME,
    MetadataTemplate,
    RecordRules,
    cut,
    derive_records,
    namespace_root,
)
from pipeline.model import Chunk, Create, DocumentId, DocumentRef, Markup, MetadataValue, ParsedDocument, Record
from pipeline.provenance import PROVENANCE_KEYS, own_metadata

LIMITS = service_limits()
RULES = RecordRules(source="handbook", recipe="recipe-1")

NAUGHTY = [
    "",
    "/",
    "//",
    "../../etc/passwd",
    "a//b///c.md",
    "/absolute/path.md",
    "C:\\Users\\a b.txt",
    ".hidden",
    "no-suffix",
    "trailing/",
    "*",
    "/**/",
    ":",
    "::41",
    "=41",
    "{source}{id}",
    "{0.__class__}",
    "%s%n",
    "a\x00b\n\t\r",
    " ",
    "\u202eevil\u2066",
    "résumé/naïve.md",
    "文書/設計.md",
    "\U0001f600" * 100,
    "\udc80\udcff.md",
    "x" * 5000,
    "/".join(["deep"] * 400),
    "é/" * 600,
    "file.jsonl#line#2",
    "#",
]
ANY_NAME = st.one_of(st.sampled_from(NAUGHTY), st.text(st.characters(), max_size=80), st.text("ab/.:=#é*", max_size=30))
ANY_VALUE: st.SearchStrategy[MetadataValue] = st.one_of(
    ANY_NAME, st.floats(allow_nan=False, allow_infinity=False), st.lists(ANY_NAME, max_size=8).map(tuple)
)

# What the settings let through: begins and ends with a slash, letters, digits, `_` and `-` around fields.
NAMESPACES = [
    "/",
    "/docs/",
    "/docs/{source}/",
    "/{folder}/{name}/",
    "/docs/{source}/{id}/{title}/",
    "/{metadata.topic}/{stem}/",
    "/{source}-{title}_{metadata.topic}x{stem}/",
    "/{folder}{title}/{folder}/",
]
METADATA: Mapping[str, MetadataTemplate] = {
    "team": "support",
    "title": "{title}",
    "where": "in {folder}, as {name}",
    "topic": "{metadata.topic}",
    "uri": "{uri}",
    "absent": "{metadata.absent}",
    "number": 7,
    "flag": True,
    "list": ("x", "é" * 64),
}


def derived(
    *,
    document_id: str = "docs/a.md",
    title: str | None = None,
    metadata: Mapping[str, MetadataValue] | None = None,
    rules: RecordRules = RULES,
    texts: Sequence[str] = ("text",),
) -> list[Record]:
    ref = DocumentRef(DocumentId(document_id), uri=f"memory:///{document_id}")
    document = ParsedDocument(ref.id, "", title=title, metadata=metadata or {})
    return derive_records(ref, document, chunks(*texts), rules, LIMITS)


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk(text, ordinal) for ordinal, text in enumerate(texts)]


def namespace_of(template: str, document_id: str, title: str | None = None) -> str:
    (one,) = derived(document_id=document_id, title=title, rules=replace(RULES, namespace=template))
    return one.namespace


def metadata_of(
    templates: Mapping[str, MetadataTemplate],
    *,
    document_id: str = "docs/a.md",
    title: str | None = None,
    **of_document: MetadataValue,
) -> Mapping[str, MetadataValue]:
    (one,) = derived(
        document_id=document_id, title=title, metadata=of_document, rules=replace(RULES, metadata=templates)
    )
    return own_metadata(one.metadata)


def segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


# ------------------------------------------------------------------------------------- hostile names and values


@given(
    template=st.sampled_from(NAMESPACES),
    source=ANY_NAME.filter(bool),
    document_id=ANY_NAME.filter(bool),
    title=ANY_NAME,
    topic=ANY_VALUE,
)
def test_whatever_a_document_is_called_its_records_can_be_stored(
    template: str, source: str, document_id: str, title: str, topic: MetadataValue
) -> None:
    """Names come from people and file systems; none may cost a document its place in the memory."""
    rules = replace(RULES, source=source, namespace=template, metadata=METADATA)

    (one,) = derived(document_id=document_id, title=title, metadata={"topic": topic}, rules=rules)

    assert LIMITS.breach(Create(one)) is None


@given(template=st.sampled_from(NAMESPACES), document_id=ANY_NAME, title=ANY_NAME, topic=ANY_VALUE)
def test_a_namespace_begins_and_ends_with_a_slash_and_has_no_empty_segment(
    template: str, document_id: str, title: str, topic: MetadataValue
) -> None:
    """The service compares namespaces as text: `/docs/py` would also find `/docs/python`."""
    (one,) = derived(
        document_id=document_id, title=title, metadata={"topic": topic}, rules=replace(RULES, namespace=template)
    )

    assert one.namespace.startswith("/")
    assert one.namespace.endswith("/")
    assert "//" not in one.namespace
    assert "*" not in one.namespace, "a wildcard would match what is not meant"


@pytest.mark.parametrize("name", NAUGHTY)
@pytest.mark.parametrize("template", NAMESPACES)
def test_naughty_names_give_sound_namespaces(template: str, name: str) -> None:
    """The cases that a property would need luck to find."""
    namespace = namespace_of(template, f"{name}/{name}", title=name)

    assert LIMITS.namespace.breach(namespace) is None
    assert re.fullmatch(r"/(?:[^/*]+/)*", namespace)


@given(folder=ANY_NAME, other=ANY_NAME)
def test_one_namespace_stands_below_another_only_if_its_folder_does(folder: str, other: str) -> None:
    """`/docs/py` never prefixes `/docs/python`, however the names are written."""
    namespace, other_namespace = (namespace_of("/{folder}/", f"{name}/a.md") for name in (folder, other))
    are_whole = ":-" not in namespace + other_namespace
    assume(are_whole and "#" not in folder + other)

    is_below = namespace.startswith(other_namespace)

    assert is_below == (segments(folder)[: len(segments(other))] == segments(other))


def test_py_does_not_prefix_python() -> None:
    """The very case that everybody runs into."""
    namespaces = [namespace_of("/docs/{folder}/", document) for document in ("py/a.md", "python/a.md")]

    assert namespaces == ["/docs/py/", "/docs/python/"]


def test_a_title_is_one_segment_and_a_folder_keeps_its_slashes() -> None:
    """A slash in a title is a character of the title."""
    namespace = namespace_of("/{folder}/{title}/", "guides/setup/a.md", title="TCP/IP")

    assert namespace == "/guides/setup/TCP:2FIP/"


def test_a_field_without_a_value_leaves_no_empty_segment() -> None:
    """Documents in the root have no folder."""
    assert namespace_of("/docs/{folder}/{metadata.topic}/", "a.md") == "/docs/"


@given(tail=st.text("abé/", max_size=20), other_tail=st.text("abé/", max_size=20))
def test_namespaces_that_are_too_long_are_cut_and_stay_different(tail: str, other_tail: str) -> None:
    """Deep folders must neither be refused nor fall into one."""
    assume(segments(tail) != segments(other_tail))
    deep = "/".join(["folder", "é"] * 120)

    namespace, other = (namespace_of("/{folder}/", f"{deep}/{end}/a.md") for end in (tail, other_tail))

    assert namespace != other
    for one in (namespace, other):
        assert len(one) <= LIMITS.namespace.max
        assert LIMITS.namespace.breach(one) is None


@pytest.mark.parametrize("shift", range(12))
def test_a_cut_namespace_ends_in_no_half_escape(shift: int) -> None:
    """The digits of half an escape would be read as text."""
    namespace = namespace_of("/{folder}/", f"{'x' * shift}/{'é/' * 300}a.md")

    kept, mark, _ = namespace.rpartition(":-")
    assert mark
    assert re.fullmatch(r"(?:[a-z/]|:[0-9A-F]{2})*", kept)


@given(
    template=st.sampled_from(NAMESPACES),
    source=st.from_regex("[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}", fullmatch=True),
    document_id=ANY_NAME,
    title=ANY_NAME,
)
def test_the_namespace_root_is_a_prefix_of_every_namespace(
    template: str, source: str, document_id: str, title: str
) -> None:
    """What a search or a verification looks below must hold all that the source wrote."""
    rules = replace(RULES, source=source, namespace=template)

    (one,) = derived(document_id=document_id, title=title, rules=rules)

    assert one.namespace.startswith(namespace_root(rules))


@pytest.mark.parametrize(
    ("template", "root"),
    [
        ("/docs/{source}/", "/docs/hand:2Ebook/"),
        ("/docs/{source}/{folder}/", "/docs/hand:2Ebook/"),
        ("/docs/{source}-{folder}/", "/docs/"),
        ("/{title}/docs/", "/"),
        ("/docs/", "/docs/"),
        ("/", "/"),
    ],
)
def test_the_namespace_root_is_as_deep_as_all_documents_allow(template: str, root: str) -> None:
    """The deeper it is, the fewer records of others are listed."""
    assert namespace_root(replace(RULES, source="hand.book", namespace=template)) == root


def test_the_namespace_root_has_no_empty_segment_either() -> None:
    """Settings let `//` pass, and a search below `/docs//handbook/` finds nothing in `/docs/handbook/`."""
    rules = replace(RULES, namespace="/docs//{source}/")

    (one,) = derived(rules=rules)

    assert one.namespace.startswith(namespace_root(rules))


# ---------------------------------------------------------------------------------------------------- metadata


def test_a_bare_field_keeps_its_type() -> None:
    """Numbers and lists can be filtered by in a search only as what they are."""
    metadata = metadata_of(
        {"rank": "{metadata.rank}", "tags": "{metadata.tags}", "mixed": "rank {metadata.rank}, {metadata.tags}"},
        rank=2.5,
        tags=("a", "b"),
    )

    assert metadata == {"rank": 2.5, "tags": ("a", "b"), "mixed": "rank 2.5=2C a=2C b"}


def test_constants_are_taken_as_what_they_are() -> None:
    """The service knows texts, numbers and lists; true and false become words."""
    metadata = metadata_of({"text": "support", "number": 3, "fraction": 0.0, "flag": False, "list": ["x", "y"]})

    assert metadata == {"text": "support", "number": 3.0, "fraction": 0.0, "flag": "false", "list": ("x", "y")}
    assert isinstance(metadata["number"], float)


def test_what_is_empty_is_left_out() -> None:
    """The service refuses empty values, and a record must not be lost for a missing title."""
    metadata = metadata_of(
        {"title": "{title}", "absent": "{metadata.absent}", "list": "{metadata.tags}", "kept": "x"},
        tags=("", ""),
    )

    assert metadata == {"kept": "x"}


@given(value=st.text(st.characters(), min_size=200, max_size=400))
def test_values_that_are_too_long_are_cut(value: str) -> None:
    """A long title costs its end, not the record."""
    metadata = metadata_of({"one": "{metadata.value}", "list": "{metadata.values}"}, value=value, values=(value,))

    assert isinstance(metadata["one"], str)
    assert len(metadata["one"]) <= LIMITS.metadata_string.max
    assert isinstance(metadata["list"], tuple)
    assert len(metadata["list"][0]) <= LIMITS.metadata_list_string.max


def test_lists_are_capped() -> None:
    """The service takes five; the first are most likely the most important."""
    metadata = metadata_of({"tags": "{metadata.tags}"}, tags=tuple("abcdefgh"))

    assert metadata == {"tags": tuple("abcde")}


@pytest.mark.parametrize("number", [1234567.0, 20240131.0, 0.12345678])
def test_a_number_within_a_text_is_written_in_full(number: float) -> None:
    """Ticket 1234567 and ticket 1234568 must not share a namespace or a label."""
    metadata = metadata_of({"label": "ticket {metadata.number}"}, number=number)

    assert float(str(metadata["label"]).removeprefix("ticket ")) == number


@given(value=st.integers(-999_999, 999_999))
def test_a_whole_number_within_a_text_has_no_fraction(value: int) -> None:
    """JSON and YAML know only `7`, and so does whoever wrote the template."""
    assert metadata_of({"label": "no{metadata.number}"}, number=float(value)) == {"label": f"no{value}"}


# --------------------------------------------------------------------------------------------------- provenance


@given(document_id=ANY_NAME.filter(lambda name: name.isascii() and 0 < len(name) < 80))
def test_every_record_tells_where_it_came_from(document_id: str) -> None:
    """A lost ledger can be rebuilt from the memory itself; the keys are a public contract."""
    records = derived(document_id=document_id, texts=["one", "two", "three"])

    for number, one in enumerate(records, start=1):
        assert one.metadata["memsync-source"] == "handbook"
        assert decode(str(one.metadata["memsync-document"]), METADATA_ESCAPE) == document_id
        assert one.metadata["memsync-chunk"] == one.order == float(number)
        assert one.metadata["memsync-key"] == one.key
        assert one.metadata["memsync-digest"] == one.digest


def test_the_user_s_metadata_cannot_replace_provenance() -> None:
    """Records under a false name would be deleted, or kept, for another document's sake."""
    rules = replace(RULES, metadata=dict.fromkeys(PROVENANCE_KEYS, "forged"))

    (one,) = derived(rules=rules)

    assert "forged" not in one.metadata.values()


def test_own_metadata_is_what_the_user_asked_for() -> None:
    """The digest is over that, so verification must get back to it from what the service returns."""
    (one,) = derived(rules=replace(RULES, metadata={"team": "support"}))

    assert own_metadata({**one.metadata, "x-amz-agentcore-memory-type": "x"}) == {"team": "support"}


# --------------------------------------------------------------------------------------------- keys and digests


@given(st.lists(st.sampled_from(["alpha", "beta", "gamma"]), min_size=1, max_size=12))
def test_equal_chunks_get_different_keys(texts: list[str]) -> None:
    """A document may say the same thing twice, and the memory then holds it twice."""
    keys = [one.key for one in derived(texts=texts)]

    assert len(set(keys)) == len(texts)


@given(
    texts=st.lists(st.text("ab", min_size=1, max_size=3), max_size=8),
    inserted=st.text("abc", min_size=1, max_size=3),
    data=st.data(),
)
def test_a_record_s_key_and_digest_survive_an_insertion_elsewhere(
    texts: list[str], inserted: str, data: st.DataObject
) -> None:
    """Else an edit at the top would write the whole document again."""
    position = data.draw(st.integers(0, len(texts)))

    before = derived(texts=texts)
    after = derived(texts=[*texts[:position], inserted, *texts[position:]])

    assert {(one.key, one.digest) for one in before} < {(one.key, one.digest) for one in after}


@pytest.mark.parametrize(
    "other",
    [
        lambda: derived(document_id="docs/b.md"),
        lambda: derived(rules=replace(RULES, source="other")),
        lambda: derived(texts=["other text"]),
    ],
    ids=["document", "source", "text"],
)
def test_keys_of_different_chunks_differ(other: Callable[[], list[Record]]) -> None:
    """A key stands for one chunk of one document of one source, in a memory that many may share."""
    assert other()[0].key != derived()[0].key


@pytest.mark.parametrize(
    "rules",
    [
        replace(RULES, namespace="/other/"),
        replace(RULES, metadata={"team": "support"}),
        replace(RULES, strategy_id="strategy-1"),
    ],
    ids=["namespace", "metadata", "strategy"],
)
def test_a_change_of_rules_changes_digests_and_keeps_keys(rules: RecordRules) -> None:
    """So that records are updated where they stand."""
    (before,), (after,) = derived(), derived(rules=rules)

    assert after.key == before.key
    assert after.digest != before.digest


# --------------------------------------------------------------------------------------------------- timestamps

EARLIER = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2021, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5)))


@pytest.mark.parametrize(
    ("of_document", "of_ref", "expected"),
    [(EARLIER, LATER, EARLIER), (None, LATER, LATER), (None, None, NO_TIME)],
    ids=["the document's own", "the listing's", "none"],
)
def test_a_timestamp_comes_from_the_document_and_never_from_the_clock(
    of_document: datetime | None, of_ref: datetime | None, expected: datetime
) -> None:
    """After a crash the same bytes must go out again, whenever that is."""
    ref = DocumentRef(DocumentId("a.md"), uri="memory:///a.md", modified_at=of_ref)
    document = ParsedDocument(ref.id, "", modified_at=of_document)

    (one,) = derive_records(ref, document, chunks("text"), RULES, LIMITS)

    assert one.timestamp == expected


def test_a_new_timestamp_alone_changes_no_digest() -> None:
    """A checkout or a copy touches every file's time and no file's text."""
    records = []
    for modified_at in (EARLIER, LATER):
        ref = DocumentRef(DocumentId("a.md"), uri="memory:///a.md", modified_at=modified_at)
        records += derive_records(ref, ParsedDocument(ref.id, ""), chunks("text"), RULES, LIMITS)

    assert records[0].timestamp != records[1].timestamp
    assert records[0].digest == records[1].digest


# -------------------------------------------------------------------------------------------- texts and headings


def text_below(headings: tuple[str, ...], text: str, rules: RecordRules = RULES) -> str:
    ref = DocumentRef(DocumentId("a.md"), uri="memory:///a.md")
    (one,) = derive_records(ref, ParsedDocument(ref.id, ""), [Chunk(text, 0, headings)], rules, LIMITS)
    return one.text


def test_a_chunk_is_led_by_the_headings_that_it_stands_under() -> None:
    """`Restart it twice.` means nothing without the name of what to restart."""
    assert text_below(("Printer", "Repair"), "Restart it twice.") == "Printer > Repair\n\nRestart it twice."


def test_a_heading_that_the_chunk_begins_with_is_not_said_twice() -> None:
    """It would weigh double in a search."""
    assert text_below(("Printer", "Repair"), "## Repair\n\nRestart it.") == "Printer\n\n## Repair\n\nRestart it."
    assert text_below(("Printer",), "# Printer\n\nText") == "# Printer\n\nText"


def test_heading_paths_can_be_turned_off() -> None:
    """Some want the bare text."""
    assert text_below(("Printer",), "Restart it.", replace(RULES, heading_path=False)) == "Restart it."


@given(st.lists(st.text(min_size=1, max_size=400), min_size=1, max_size=6))
def test_a_heading_path_is_bounded(headings: list[str]) -> None:
    """A paragraph set as a heading must not push the text out."""
    text = text_below(tuple(headings), "The text itself.")

    path, separator, rest = text.rpartition("\n\nThe text itself.")
    assert separator or text == "The text itself."
    assert not rest
    assert len(path) <= HEADING_PATH_CHARACTERS_MAX


# Pieces that count differently in characters, UTF-16 units and bytes, or that cannot be cut anywhere.
PIECES = [
    "word ",
    "x",
    "é",
    "中",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "e\u0301\u0302",
    "\n\n",
    "\n",
    "\n# Heading \U0001f600\n\n",
    "\n###### " + "中" * 150 + "\n",
    "\n```\ncode\n```\n",
    "\n| a | b |\n|---|---|\n| c | d |\n",
    "Sentence. ",
    "\x00",
    "\ufffd",
]
RUNS = st.tuples(st.sampled_from(PIECES), st.one_of(st.sampled_from([1, 2, 6000]), st.integers(1, 6000)))
LONG_TEXT = st.lists(RUNS, max_size=4).map(lambda runs: "".join(piece * times for piece, times in runs)[:60_000])
BYTES_BELOW_A_HEADING_OF_BYTES = f"# {'中' * 150}\n\n{'文' * 20_000}"


@given(
    text=LONG_TEXT,
    markup=st.sampled_from(Markup),
    max_chars=st.sampled_from([200, 4000, 16_000]),
    heading_path=st.booleans(),
    overlaps=st.booleans(),
)
@example(
    text=BYTES_BELOW_A_HEADING_OF_BYTES, markup=Markup.MARKDOWN, max_chars=16_000, heading_path=True, overlaps=False
)
@settings(max_examples=60)
def test_every_record_s_text_is_within_the_limits_in_characters_and_bytes(
    text: str, markup: Markup, max_chars: int, *, heading_path: bool, overlaps: bool
) -> None:
    """Whether the service counts characters, UTF-16 units or bytes is not documented: all must fit."""
    rules = replace(
        RULES, max_chars=max_chars, overlap_chars=max_chars // 3 if overlaps else 0, heading_path=heading_path
    )
    ref = DocumentRef(DocumentId("a.md"), uri="memory:///a.md")
    document = ParsedDocument(ref.id, text, markup)

    records = derive_records(ref, document, cut(document, rules, LIMITS), rules, LIMITS)

    for one in records:
        assert LIMITS.breach(Create(one)) is None
        assert len(one.text) <= max_chars
        assert len(one.text.encode("utf-16-le")) // 2 <= LIMITS.text.max
        assert len(one.text.encode()) <= LIMITS.text.max
        assert one.text.strip()
    assert bool(records) == bool(text.strip())


def test_an_overlap_that_the_settings_allow_can_be_cut() -> None:
    """It would end every run of the source with a traceback."""
    rules = replace(RULES, max_chars=4000, overlap_chars=1999)
    document = ParsedDocument(DocumentId("a.md"), "word " * 5000)

    assert len(cut(document, rules, LIMITS)) > 1


def test_the_same_document_always_gives_the_same_records() -> None:
    """What is planned, what is previewed and what is replayed must agree."""
    rules = replace(RULES, metadata=METADATA, namespace="/{folder}/{title}/")

    first, second = (derived(title="A title", rules=rules, texts=["one", "two", "one"]) for _ in range(2))

    assert first == second
