"""What the commands print that only look."""

import pytest

from pipeline.reporting.listings import (
    ComparedDocuments,
    SearchHit,
    VerifiedSource,
    render_search,
    render_verify,
)

PATHS = {"handbook": "handbook.yaml", "wiki": "my wiki.yaml"}
HOSTILE = "evil\x1b[2J\nNo dead letters.\u202e\ud800"


@pytest.mark.parametrize(
    "text",
    [
        render_search([SearchHit(0.5, HOSTILE, HOSTILE, HOSTILE, HOSTILE)]),
        render_verify([VerifiedSource(HOSTILE, 1)]),
    ],
    ids=["search", "verify"],
)
def test_what_came_from_outside_cannot_drive_a_terminal(text: str) -> None:
    """Names and messages are shown escaped, and no line of theirs stands at the margin."""
    assert all(line.isprintable() for line in text.splitlines())


def test_search_shows_where_a_text_is_from_and_its_beginning() -> None:
    """The text is the wanted result: it keeps its lines and is cut where it is long."""
    hits = [
        SearchHit(0.8312, "Install it.\n\nRun it.", "setup.md", "Install > Linux", "handbook"),
        SearchHit(0.4, "x" * 30),
    ]

    text = render_search(hits, characters_max=20)

    assert text.splitlines() == [
        "1. handbook: setup.md > Install > Linux  (0.831)",
        "   Install it.",
        "   Run it.",
        "",
        "2. a record of somebody else  (0.400)",
        "   " + "x" * 20 + "...",
    ]
    assert render_search([]) == "Nothing found."


def test_search_shows_the_lines_that_speak_of_the_query() -> None:
    """The answer may stand far down in a long record; its first lines would not show why it was found."""
    hit = SearchHit(0.5, "An introduction.\n" * 50 + "To replay dead letters:\nmemsync replay", "a.md")

    text = render_search([hit], query="how do I replay?", characters_max=60)

    assert "To replay dead letters" in text
    assert text.count("An introduction") < 5


def test_verify_tells_how_to_repair_what_differs() -> None:
    """Only the sources that need it are in the command."""
    clean, drifted = (
        VerifiedSource("handbook", 4_211),
        VerifiedSource(
            "wiki",
            12,
            missing=2,
            foreign=1,
            unattributed=1,
            examples=["mem-1"],
            documents=ComparedDocuments(listed=7, added=1, removed=2, is_complete=True),
        ),
    )

    text = render_verify([clean, drifted], paths=PATHS)

    assert text.splitlines() == [
        "SOURCE    CHECKED  MISSING  EXPIRED  CHANGED  FOREIGN  DUPLICATE  UNATTRIBUTED",
        "handbook    4,211        0        0        0        0          0             0",
        "wiki           12        2        0        0        1          0             1",
        "",
        "wiki: the source lists 7 documents: 1 not in the ledger, 2 gone. A run brings that in.",
        "1 record bears the name of a source, and it does not say of which document.",
        "Unless a document has just its text, memsync leaves it alone; you can tell whether to delete it.",
        "In the memory:",
        "  mem-1",
        "3 records in the memory differ from the ledger. To mend that, with a run:",
        "  memsync verify 'my wiki.yaml' --repair",
    ]


def test_verify_says_that_all_is_well_only_if_it_is() -> None:
    """Repaired differences are told, too."""
    clean = VerifiedSource("handbook", 4_211)
    repaired = VerifiedSource("wiki", 12, missing=2, is_repaired=True)

    assert render_verify([clean]).endswith("The memory is as the ledger says: 4,211 records checked.")
    assert render_verify([clean, repaired]).endswith("What the ledger says is in the memory, after 2 repairs.")
