"""Differences of texts, for people: whatever the texts hold."""

from collections.abc import Sequence

import pytest

from pipeline.model import DocumentId, Operation
from pipeline.plan_diff import DocumentDiff, RecordDiff
from pipeline.reporting.diffs import render_diffs
from pipeline.reporting.text import Style


def document(*records: Sequence[str], name: str = "a.md", outcome: str = "changed", **left_out: int) -> DocumentDiff:
    shown = [RecordDiff(Operation.UPDATE, "key", lines) for lines in records]
    return DocumentDiff(DocumentId(name), outcome, shown, **left_out)


def test_the_texts_stand_below_their_documents() -> None:
    """What goes, what comes, and a line around it; a gap where something is left out."""
    documents = [
        document([" One.", "-Two.", "+2.", "@", " Three."], ["+Four."]),
        document(["-Old."], name="b.md", outcome="removed", records_left_out=3, lines_left_out=1),
        document([], name="c.md", outcome="added"),
    ]

    assert render_diffs("docs", documents, left_out=4).splitlines() == [
        "docs  the texts of the first 3 of 7 documents that would change",
        "",
        "    ~ a.md  changed",
        "       One.",
        "      -Two.",
        "      +2.",
        "      ...",
        "       Three.",
        "      ...",
        "      +Four.",
        "",
        "    - b.md  removed",
        "      -Old.",
        "      (1 line and 3 records more)",
        "",
        "    + c.md  added",
    ]


def test_without_a_change_it_says_so() -> None:
    """Nothing at all could also be a fault."""
    assert render_diffs("docs", [], left_out=0) == "docs  no text would change"


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\u202egpj.exe", "a\rb", "\x00", "\ud800"]
)
def test_neither_names_nor_texts_can_drive_a_terminal(hostile: str) -> None:
    """Whoever can write a document could otherwise rewrite what its reviewer sees."""
    style = Style(is_colored=True)
    text = render_diffs(hostile, [document([f"-{hostile}", f"+{hostile}"], name=hostile)], left_out=0, style=style)
    colors = {style.paint("", color) for color in ("bold", "dim", "red", "green", "yellow")}
    for start in {color[:-4] for color in colors} | {"\x1b[0m"}:
        text = text.replace(start, "")

    assert text.replace("\n", "").isprintable()


def test_colors_tell_what_goes_from_what_comes() -> None:
    """Only where somebody sees them."""
    colored = render_diffs("docs", [document(["-Old.", "+New."])], left_out=0, style=Style(is_colored=True))

    assert "\x1b[31m-Old.\x1b[0m" in colored
    assert "\x1b[32m+New.\x1b[0m" in colored
    assert "\x1b" not in render_diffs("docs", [document(["-Old."])], left_out=0)
