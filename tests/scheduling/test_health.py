"""What those who watch over the scheduler are told."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.errors import ConfigurationError
from pipeline.scheduling.health import STUCK_AFTER_S, Health, RunStatus, SourceHealth, status_of
from pipeline.timetable import Timetable

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
HOUR_S = 3600.0
HOURLY = Timetable("0 * * * *")


def source(timetable: Timetable | None = HOURLY, **known: Any) -> SourceHealth:
    return SourceHealth("docs", timetable, known_since=NOON, **known)


def health_of(*sources: SourceHealth, ticked_at: float = 0.0) -> Health:
    return Health(3, ticked_at, {each.name: each for each in sources})


@pytest.mark.parametrize("status", ["failed", "guarded", "locked", "interrupted", "died", "misconfigured"])
def test_a_source_that_does_not_succeed_for_some_periods_is_told_of(status: RunStatus) -> None:
    """One failure is the weather; three in a row are for somebody to look at."""
    docs = source()
    docs.note_end("in_sync", NOON + 60)
    for hour in (1, 2):
        docs.note_end(status, NOON + hour * HOUR_S + 60)
        assert health_of(docs).is_ready(NOON + hour * HOUR_S + 120, 0.0)

    assert not health_of(docs).is_ready(NOON + 3 * HOUR_S, 0.0)

    docs.note_end("dead_letters", NOON + 3 * HOUR_S + 60)
    assert health_of(docs).is_ready(NOON + 3 * HOUR_S + 120, 0.0)


def test_a_source_that_is_due_once_a_week_may_be_silent_for_weeks() -> None:
    """Periods count, not hours: an alarm that is always on is none."""
    weekly = source(timetable=Timetable("0 3 * * 1"), succeeded_at=NOON)

    assert not weekly.is_behind(NOON + 14 * 24 * HOUR_S, 3)
    assert weekly.is_behind(NOON + 21 * 24 * HOUR_S, 3)


def test_a_source_without_a_schedule_is_judged_by_its_last_run() -> None:
    """One that is only watched has no periods."""
    docs = source(timetable=None)
    assert health_of(docs).is_ready(NOON, 0.0)

    docs.note_end("failed", NOON)

    assert not health_of(docs).is_ready(NOON, 0.0)


def test_a_loop_that_is_stuck_is_neither_alive_nor_ready() -> None:
    """A process that answers and does nothing is what a liveness probe is for; failing sources are not."""
    health = health_of(source(succeeded_at=NOON), ticked_at=1000.0)

    assert health.is_alive(1000.0 + STUCK_AFTER_S - 1)
    assert not health.is_alive(1000.0 + STUCK_AFTER_S)
    assert not health.is_ready(NOON, 1000.0 + STUCK_AFTER_S)

    behind = health_of(source(), ticked_at=1000.0)
    assert behind.is_alive(1000.0)
    assert not behind.is_ready(NOON + 24 * HOUR_S, 1000.0)


def test_the_report_has_names_and_times_and_no_messages() -> None:
    """Health may be asked for by anybody on the network; a message can name hosts and paths."""
    health = health_of(source(status="failed", ended_at=NOON, due_at=float("inf")))
    health.broken = [ConfigurationError("`url` is 'https://internal/'", path="/srv/wiki.yaml", line=1, column=2)] * 2

    report = json.loads(json.dumps(health.report(NOON, 0.0), allow_nan=False))

    assert report["broken_files"] == ["wiki.yaml"]
    assert "internal" not in json.dumps(report)
    assert "/srv" not in json.dumps(report)
    (docs,) = report["sources"]
    assert docs["last_ended_at"] == "2026-05-01T12:00:00+00:00"
    assert docs["next_due_at"] is None
    assert not report["ready"]


@pytest.mark.parametrize(
    ("exit_code", "status"),
    [(0, "in_sync"), (1, "failed"), (2, "misconfigured"), (3, "dead_letters"), (4, "guarded"), (5, "locked"),
     (130, "interrupted"), (143, "interrupted"), (-15, "interrupted"), (-9, "died"), (70, "failed")],
)  # fmt: skip
def test_every_end_of_a_run_has_a_name(exit_code: int, status: str) -> None:
    """The exit codes of `memsync run` are a contract; any other is a failure."""
    assert status_of(exit_code) == status
