"""What `memsync status` tells of a source."""

import json
from typing import Any

from pipeline.configuration.settings import SourceSettings
from pipeline.model import PastRun
from pipeline.report import Status
from pipeline.reporting.statuses import StatusRow
from pipeline.runs.parts import auto_replay, is_running, open_source_state
from pipeline.runs.time_zones import zone_called
from pipeline.timetable import Timetable

RUNS_LOOKED_AT = 1_000  # for the last that ended in sync
OVERDUE_AFTER_S = 120.0  # what starts a run may be a little late, and so may a run in telling that it has begun


async def status_row(settings: SourceSettings, now: float) -> StatusRow:
    """The source as its last run left it, from its state alone; nothing is asked of source or memory.

    Raises:
        StateError, ConfigurationError: the state cannot be read.
    """
    async with open_source_state(settings, is_read_only=True) as state:
        counts = await state.counts()
        runs = await state.runs(limit=RUNS_LOOKED_AT)
        last = runs[0] if runs else None
        is_at_work = last is not None and last.report is None and await is_running(settings, state)
        letters = await state.letters(with_records=False)
    last_sync = next((run for run in runs if run.verb == "run"), None)
    report = _report(last)
    status: Status | None = None
    if last is not None:
        status = report["status"] if report else "locked" if is_at_work else "interrupted"
    rule = auto_replay(settings)
    return StatusRow(
        settings.name,
        status,
        last_started_at=last.started_at if last else None,
        last_run_at=last.ended_at if last else None,
        documents=counts.documents,
        records=counts.records,
        dead_letters=sum(counts.letters.values()),
        pending_batches=counts.batches,
        next_run_at=next_run_at(settings, now),
        last_in_sync_at=next((run.ended_at for run in runs if _report(run).get("status") == "in_sync"), None),
        due_since=None if is_at_work else _due_since(last_sync, settings, now),
        withheld_documents=report.get("withheld_documents", 0),
        error=report.get("error"),
        quarantined=sum(map(rule.is_quarantined, letters)),
        dropped=counts.dropped,
        next_attempt_at=min(filter(None, map(rule.next_attempt_at, letters)), default=None),
        last_sync_at=last_sync.ended_at if last_sync else None,
    )


def _report(run: PastRun | None) -> dict[str, Any]:
    """The report of a run; empty if it has none."""
    return {} if run is None or run.report is None else json.loads(run.report)


def next_run_at(settings: SourceSettings, at: float) -> float | None:
    """When the source is due next after `at`, by its schedule and before its jitter; None without a schedule.

    Both are in seconds since the epoch.
    """
    if settings.schedule is None:
        return None
    return Timetable(settings.schedule, zone_called(settings.schedule_zone)).due_after(at)


def _due_since(last: PastRun | None, settings: SourceSettings, now: float) -> float | None:
    """When the source was due and nothing ran; None if it is not overdue. Before its first run nothing is expected."""
    due = None if last is None else next_run_at(settings, last.started_at)
    return due if due is not None and due + settings.schedule_jitter_s + OVERDUE_AFTER_S < now else None
