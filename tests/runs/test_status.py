"""What `memsync status` reads off a state."""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import SourceSettings
from pipeline.reporting.statuses import render_status
from pipeline.runs.parts import open_source_state
from pipeline.runs.status import OVERDUE_AFTER_S, status_row
from pipeline.scheduling.scheduler import is_behind
from pipeline.timetable import Timetable

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC).timestamp()
HOUR = 3_600.0


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Schedules go by the clocks of the machine; some are half an hour off."""
    with monkeypatch.context() as environment:
        environment.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def hourly(tmp_path: Path) -> SourceSettings:
    file = tmp_path / "docs.yaml"
    file.write_text(
        "source: {type: filesystem, path: .}\n"
        "destination: {type: agentcore, endpoint_url: local}\n"
        "schedule: 0 * * * *\n"
    )
    return load_sources([file])[0]


async def ran(settings: SourceSettings, runs: Sequence[tuple[float, str | None]], last_verb: str = "run") -> None:
    """Let runs have begun at these times and have ended a minute later, but for those without a status."""
    async with open_source_state(settings, is_read_only=False) as state:
        await state.take_lease("test", has_lock=True, now=NOON, ends_at=NOON)
        for number, (started_at, status) in enumerate(runs):
            await state.begin_run(f"run-{number}", last_verb if number == len(runs) - 1 else "run", started_at)
            if status is not None:
                report = {"status": status, "error": "It broke." if status == "failed" else None}
                await state.end_run(f"run-{number}", json.dumps(report), started_at + 60)
        await state.release_lease(NOON)


async def test_the_last_good_run_is_told_however_many_failed_since(hourly: SourceSettings) -> None:
    """A source that failed last night is another thing than one that has failed for a week."""
    await ran(hourly, [(NOON - 3 * HOUR, "in_sync"), (NOON - 2 * HOUR, "failed"), (NOON - HOUR, "failed")])

    row = await status_row(hourly, NOON - HOUR + 120)

    assert (row.status, row.error) == ("failed", "It broke.")
    assert (row.last_in_sync_at, row.last_run_at) == (NOON - 3 * HOUR + 60, NOON - HOUR + 60)


@pytest.mark.parametrize(
    ("late_s", "is_overdue"), [(-60.0, False), (OVERDUE_AFTER_S, False), (OVERDUE_AFTER_S + 1, True)]
)
async def test_a_source_is_overdue_once_its_run_is_late_for_certain(
    late_s: float, is_overdue: bool, hourly: SourceSettings
) -> None:
    """Cron may take its time, and so may the jitter; whoever looks then must not be sent to look for a fault."""
    await ran(hourly, [(NOON - HOUR, "in_sync")])

    row = await status_row(hourly, NOON + hourly.schedule_jitter_s + late_s)

    assert row.due_since == (NOON if is_overdue else None)
    assert row.next_run_at == NOON + HOUR


async def test_before_its_first_run_nothing_is_overdue(hourly: SourceSettings) -> None:
    """Whoever has just written the configuration has missed nothing."""
    row = await status_row(hourly, NOON)

    assert (row.status, row.due_since, row.last_in_sync_at) == (None, None, None)


async def test_a_killed_run_is_interrupted(hourly: SourceSettings) -> None:
    """It has no report, and nobody is at work; to say that it never ran would send people to look for cron."""
    await ran(hourly, [(NOON - HOUR, "in_sync"), (NOON, None)])

    row = await status_row(hourly, NOON + 60)

    assert (row.status, row.last_in_sync_at) == ("interrupted", NOON - HOUR + 60)
    assert (row.last_run_at, row.last_started_at) == (None, NOON)
    assert "1 min ago" in render_status([row], now=NOON + 60)


async def test_a_replay_does_not_hide_that_a_run_is_overdue(hourly: SourceSettings) -> None:
    """It has not looked at the source: neither who reads the status nor `memsync schedule` may take it for the run."""
    await ran(hourly, [(NOON - 3 * HOUR, "in_sync"), (NOON - 30 * 60, "in_sync")], last_verb="replay")

    row = await status_row(hourly, NOON - 10 * 60)

    assert row.due_since == NOON - 2 * HOUR
    assert row.last_run_at == NOON - 30 * 60 + 60
    assert is_behind(row, Timetable("0 * * * *"), NOON - 10 * 60)
