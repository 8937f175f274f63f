"""What `memsync history` prints."""

from pipeline.reporting.histories import PastRunRow, render_history
from pipeline.reporting.text import Style

STARTED_AT = 1_795_831_200.0
TABLE = """\
handbook  3 runs, 1 of them in sync
STARTED               RUN              STATUS        TOOK        ADDED  CHANGED  REMOVED  RECORDS  DEAD LETTERS
2026-11-28 04:00 UTC  run 33333333     interrupted   -               -        -        -        -             -
2026-11-28 03:00 UTC  replay 22222222  dead letters  3 min 20 s  1,200       30        2    3,700             4
2026-11-28 02:00 UTC  run 11111111     in sync       4.2 s           0        1        0        2             0"""


def test_runs_stand_in_a_table_and_what_is_not_known_is_not_made_up() -> None:
    """A killed run has counted nothing; a zero would say that it did nothing."""
    runs = [
        PastRunRow("3" * 32, "run", "interrupted", STARTED_AT + 7_200),
        PastRunRow("2" * 32, "replay", "dead_letters", STARTED_AT + 3_600, 200.0, 1_200, 30, 2, 4, 3_700, 4),
        PastRunRow("1" * 32, "run", "in_sync", STARTED_AT, 4.2, changed=1, records=2),
    ]

    assert render_history({"handbook": runs}) == TABLE


def test_a_source_without_runs_says_so() -> None:
    """An empty table would look like a fault."""
    assert render_history({"wiki": []}) == "wiki  never ran"
    assert render_history({}) == "No sources."


def test_what_came_from_outside_cannot_drive_a_terminal() -> None:
    """A run's id and a source's name come from files that others may have written."""
    shown = render_history({"a\x1b[2J": [PastRunRow("\x1b[31m", "run", "failed", STARTED_AT)]})

    assert all(line.isprintable() for line in shown.splitlines())


def test_a_terminal_shows_how_each_run_ended_by_colour() -> None:
    """A red line among green ones is found at a glance."""
    runs = [
        PastRunRow("1" * 32, "run", "failed", STARTED_AT, 1.0),
        PastRunRow("2" * 32, "run", "in_sync", STARTED_AT, 1.0),
    ]

    shown = render_history({"handbook": runs}, style=Style(is_colored=True))

    assert "\x1b[31mfailed\x1b[0m" in shown
    assert "\x1b[32min sync\x1b[0m" in shown
