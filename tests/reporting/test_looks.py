"""What `memsync init` prints of what it has seen."""

from pipeline.reporting.looks import FoundKind, Look, render_look, size_of
from pipeline.reporting.previews import DocumentPreview, TextPreview


def test_what_was_found_is_told_by_kind() -> None:
    """One line a kind: what there is, how much, and what will be missing and why."""
    look = Look(
        kinds=[FoundKind(".md", 1200, 3_400_000), FoundKind(".pdf", 3, None, "unsupported type .pdf")],
        skipped={"symlink": 2},
        is_complete=False,
        seconds=15.0,
        previews=[
            DocumentPreview(
                "a.md", "", 1, None, [TextPreview("a.md", None, None, 10), TextPreview("b", None, None, 30)]
            ),
            DocumentPreview("b.md", "", 1, None, problem="a dead letter"),
        ],
    )

    assert render_look(look).splitlines() == [
        "✓ at least 1,203 documents, 3.2 MB, listed in 15 s",
        "",
        "  NAME ENDS  DOCUMENTS  SIZE",
        "  .md            1,200  3.2 MB",
        "  .pdf               3          left out: unsupported type .pdf",
        "                     2          left out: symlink",
        "",
        "  Read 2 of them: 2 texts of 10 to 30 characters (half of them up to 30), 0 records.",
        "  ! b.md: a dead letter",
    ]


def test_an_empty_source_is_no_success() -> None:
    """Most often the address is wrong, or a pattern."""
    shown = render_look(Look())

    assert shown.startswith("! 0 documents")
    assert "nothing to read" in shown


def test_names_cannot_drive_the_terminal() -> None:
    """Names of files come from anybody."""
    look = Look(kinds=[FoundKind(".\x1b[2J\n", 1)], problems=["\x1b]0;x\x07"], skipped={"\u202e": 1})

    assert "\x1b" not in render_look(look)
    assert "\u202e" not in render_look(look)


def test_sizes_are_short() -> None:
    """Bytes with nine digits are not read by anybody."""
    assert [size_of(size) for size in (0, 1023, 1024, 5 * 1024**2, 3 * 1024**3)] == [
        "0 bytes",
        "1,023 bytes",
        "1.0 kB",
        "5.0 MB",
        "3.0 GB",
    ]
