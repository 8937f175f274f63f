"""A record goes to an editor and comes back: nothing may change that the person has not changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline.identity import encode_metadata
from pipeline.letter_edit import UnusableEdit, from_edit, to_edit, with_text
from pipeline.limits import service_limits
from pipeline.model import MetadataValue, RecordContent

LIMITS = service_limits()
NOTES = ["Dead letter 1"]
PROVENANCE: dict[str, MetadataValue] = {"memsync-key": "key", "memsync-chunk": 1.0}
RECORD = RecordContent("The text.\n\nIts end.", {"team": "support", "weight": 2.0, "tags": ("a", "b"), **PROVENANCE})


def edited(old: str, new: str, record: RecordContent = RECORD) -> RecordContent:
    shown = to_edit(record, NOTES)
    assert old in shown
    return from_edit(shown.replace(old, new), record, LIMITS)


def test_what_a_person_sees_is_metadata_and_text() -> None:
    """What is memsync's own is nobody's to edit."""
    assert to_edit(RECORD, NOTES).splitlines() == [
        "---",
        "# Dead letter 1",
        "team: support",
        "weight: 2",
        "tags:",
        "- a",
        "- b",
        "---",
        "The text.",
        "",
        "Its end.",
    ]


texts = some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip)
values = (
    texts.map(lambda text: encode_metadata(text, LIMITS.metadata_string.max))
    | some.floats(-1e9, 1e9)
    | some.lists(texts, min_size=1, max_size=3).map(
        lambda items: tuple(encode_metadata(item, LIMITS.metadata_list_string.max) for item in items)
    )
)
names = some.from_regex(r"[a-zA-Z0-9._:/=+@-]{1,20}", fullmatch=True)


@given(texts, some.dictionaries(names, values, max_size=4))
def test_what_is_not_touched_comes_back_as_it_was(text: str, metadata: dict[str, MetadataValue]) -> None:
    """Whatever a document says, also what looks like YAML, like a fence or like an escape."""
    record = RecordContent(text, {**metadata, **PROVENANCE})

    assert from_edit(to_edit(record, NOTES), record, LIMITS) == record


def test_what_a_person_changes_is_what_is_sent() -> None:
    """Values are written as the memory allows them, and keep their kinds."""
    assert edited("Its end.", "Another end.").text == "The text.\n\nAnother end."
    assert edited("team: support", "team: Größe").metadata["team"] == "Gr=C3=B6=C3=9Fe"
    assert edited("team: support", "new: true").metadata == {
        "new": "true",
        "weight": 2.0,
        "tags": ("a", "b"),
        **PROVENANCE,
    }
    assert edited("weight: 2", "weight: 2.5").metadata["weight"] == 2.5
    assert edited("- b", "- c").metadata["tags"] == ("a", "c")


def test_all_metadata_and_notes_can_be_taken_out() -> None:
    """An editor can delete any line."""
    assert from_edit("---\n---\nThe text.\n", RECORD, LIMITS) == RecordContent("The text.", PROVENANCE)


def test_ends_of_lines_of_another_system_are_no_change() -> None:
    """Some editors write them; but where the document has them, they stay."""
    windows = RecordContent("one\r\ntwo", PROVENANCE)

    assert from_edit(to_edit(RECORD, NOTES).replace("\n", "\r\n"), RECORD, LIMITS) == RECORD
    assert from_edit(to_edit(windows, NOTES), windows, LIMITS) == windows


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("---\nThe", "The", "three dashes"),
        ("---\n#", "#", "three dashes"),
        ("team: support", "team: [", "not YAML, in line"),
        ("team: support", "- a", "not YAML|no mapping"),
        ("team: support", "team:", "'team' is no text, number or list of texts"),
        ("team: support", "team: {a: 1}", "'team' is no text"),
        ("- a", "- 1", "'tags' is no text"),
        ("team: support", "memsync-key: mine", "'memsync-key' is not yours to set"),
        ("team: support", "te§am: support", "'te§am'"),
        ("team: support", "weight2: .nan", "a number that JSON cannot carry"),
        ("Its end.", "x" * 17_000, "content.text has 1.* characters, 16000 are allowed"),
        ("The text.\n\nIts end.", " ", "blank"),
        ("The text.\n\nIts end.\n", "", "content.text has 0 characters"),
        ("team: support", "".join(f"k{n}: 1\n" for n in range(60)), "metadata has .* entries"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is(old: str, new: str, said: str) -> None:
    """The message names the fault and does not repeat the text."""
    with pytest.raises(UnusableEdit, match=said) as caught:
        edited(old, new)

    assert "Its end" not in str(caught.value)


def test_a_text_alone_can_be_replaced() -> None:
    """By a program, which has no editor."""
    assert with_text("Another text.", RECORD, LIMITS) == RECORD._replace(text="Another text.")
