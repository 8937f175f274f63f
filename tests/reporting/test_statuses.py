"""What `memsync status` prints."""

import pytest

from pipeline.report import Status
from pipeline.reporting.statuses import StatusRow, age, render_status
from pipeline.reporting.text import Style

NOW = 1_790_000_000.0
HOUR = 3_600.0
HOSTILE = "evil\x1b[2J\nIn sync.\u202e\ud800"


def test_sources_stand_by_urgency_and_the_last_line_is_the_verdict() -> None:
    """With forty sources, the one that failed must not stand in line thirty."""
    rows = [
        StatusRow("handbook", "in_sync", NOW - HOUR, 1_240, 4_200, next_run_at=NOW + 600, last_in_sync_at=NOW - HOUR),
        StatusRow("new", None),
        StatusRow("wiki", "guarded", NOW - HOUR, 90, 400, withheld_documents=31, last_in_sync_at=NOW - 30 * HOUR),
        StatusRow("tickets", "failed", NOW - HOUR, 7, 9, error="The credentials have expired."),
    ]

    assert render_status(rows, now=NOW).splitlines() == [
        "  SOURCE    STATUS            LAST IN SYNC  LAST RUN  NEXT RUN   DOCUMENTS  RECORDS  DEAD LETTERS  WITHHELD",
        "✗ tickets   failed            never         1 h ago   by hand            7        9             0         0",
        "! wiki      deletes withheld  30 h ago      1 h ago   by hand           90      400             0        31",
        "  new       never ran         never         never     by hand            0        0             0         0",
        "✓ handbook  in sync           1 h ago       1 h ago   in 10 min      1,240    4,200             0         0",
        "",
        "tickets: The credentials have expired.",
        "wiki: 31 documents gone from the source; the records were kept. `memsync report` names them.",
        "",
        "Not in sync: 3 of 4 sources.",
    ]


@pytest.mark.parametrize(
    "row",
    [
        StatusRow("wiki", "in_sync", NOW, pending_batches=1),
        StatusRow("wiki", "in_sync", NOW, dead_letters=1),
        StatusRow("wiki", "in_sync", NOW, next_run_at=NOW + 1, due_since=NOW - HOUR),
        *(StatusRow("wiki", status, NOW) for status in ("failed", "interrupted", "guarded", "dead_letters", "locked")),
        StatusRow("wiki", None),
    ],
)
def test_nothing_but_in_sync_is_called_so(row: StatusRow) -> None:
    """Letters, waiting batches and runs that did not come: whatever the last run said, it does not hold any more."""
    assert render_status([row], now=NOW).splitlines()[-1] == "Not in sync: 1 of 1 source."


def test_all_in_sync_is_one_line_of_good_news() -> None:
    """The usual case. What is zero everywhere takes no room."""
    rows = [StatusRow(name, "in_sync", NOW, last_in_sync_at=NOW) for name in ("a", "b")]

    shown = render_status(rows, now=NOW)

    assert shown.splitlines()[-1] == "In sync since the last run: all 2 sources."
    assert render_status(rows[:1], now=NOW).splitlines()[-1] == "In sync since the last run."
    assert "WITHHELD" not in shown
    assert "PENDING" not in shown


def test_a_source_that_did_not_run_when_it_was_due_is_told() -> None:
    """A cron job that was removed leaves everything in sync, for ever: nothing else would tell."""
    row = StatusRow("wiki", "in_sync", NOW - 50 * HOUR, next_run_at=NOW + 60, due_since=NOW - 49 * HOUR)

    shown = render_status([row], now=NOW)

    assert "overdue by 2 days" in shown
    assert "wiki: it was due 2 days ago and has not run. Does what starts it still run?" in shown


def test_a_source_whose_state_cannot_be_read_comes_first() -> None:
    """It never ran, as far as the row tells; that is not what is the matter with it."""
    rows = [StatusRow("wiki", "failed", NOW), StatusRow("docs", None, error="The state is damaged.")]

    lines = render_status(rows, now=NOW).splitlines()

    assert lines[1].startswith("✗ docs    unknown")
    assert "docs: The state is damaged." in lines


@pytest.mark.parametrize(("status", "code"), [("failed", "31"), ("in_sync", "32"), ("guarded", "33"), ("locked", "36")])
def test_a_terminal_shows_the_status_in_colour(status: Status, code: str) -> None:
    """Found at a glance; the name of a source that is called as its status is not painted instead."""
    words = {"failed": "failed", "in_sync": "in sync", "guarded": "deletes withheld", "locked": "running"}[status]

    shown = render_status([StatusRow("failed", status, NOW)], now=NOW, style=Style(is_colored=True))

    assert f"  \x1b[{code}m{words}\x1b[0m" in shown.splitlines()[1]


def test_what_came_from_outside_cannot_drive_a_terminal() -> None:
    """Names and messages are shown escaped, and no line of theirs stands at the margin."""
    shown = render_status([StatusRow(HOSTILE, "failed", NOW, error=HOSTILE)], now=NOW)

    assert all(line.isprintable() for line in shown.splitlines())
    assert "In sync." not in shown.splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5.0, "under a minute"), (59.0, "under a minute"), (60.0, "1 min"), (3_599.0, "59 min"), (3_600.0, "1 h"),
        (47.9 * 3_600, "47 h"), (48 * 3_600.0, "2 days"), (400 * 86_400.0, "400 days"),
    ],
)  # fmt: skip
def test_ages_are_told_as_people_do(seconds: float, words: str) -> None:
    """A clock that was put back must not show minus five seconds."""
    assert age(seconds) == words


def test_the_status_tells_what_becomes_of_dead_letters() -> None:
    """A number does not say whether to wait or to act, and a dropped letter is no reason to say that all is there."""
    waiting = StatusRow("handbook", "dead_letters", NOW, dead_letters=3, next_attempt_at=60.0, quarantined=1, dropped=1)
    dropped = StatusRow("wiki", "in_sync", NOW, dropped=2)

    assert render_status([waiting], now=NOW).splitlines()[-3:] == [
        (
            "handbook: what may have passed is sent again by a run from 1970-01-01 00:01 UTC on,"
            " 1 dead letter quarantined after replays in vain, 1 dead letter dropped by hand."
        ),
        "",
        "Not in sync: 1 of 1 source.",
    ]
    assert render_status([dropped], now=NOW).splitlines()[-3:] == [
        "wiki: 2 dead letters dropped by hand.",
        "",
        "In sync since the last run, but for 2 dead letters dropped by hand.",
    ]
