"""What `memsync status` tells of a source."""

import json
from datetime import UTC, datetime

from cronsim import CronSim

from pipeline.report import Status
from pipeline.reporting.listings import StatusRow
from pipeline.runner import is_running, open_source_state
from pipeline.settings import SourceSettings


async def status_row(settings: SourceSettings) -> StatusRow:
    """The source as its last run left it, from its state alone; nothing is asked of source or memory.

    Raises:
        StateError, ConfigurationError: the state cannot be read.
    """
    async with open_source_state(settings, is_read_only=True) as state:
        counts = await state.counts()
        last = await state.last_run()
        has_ended = last is None or last.report is not None
        is_at_work = not has_ended and await is_running(settings, state)
    next_run = next(CronSim(settings.schedule, datetime.now(UTC).astimezone())) if settings.schedule else None
    status: Status | None = None
    if last is not None:
        status = json.loads(last.report)["status"] if last.report else "locked" if is_at_work else "interrupted"
    return StatusRow(
        settings.name,
        status,
        last_run_at=last.ended_at if last else None,
        documents=counts.documents,
        records=counts.records,
        dead_letters=sum(counts.letters.values()),
        pending_batches=counts.batches,
        next_run_at=next_run.timestamp() if next_run else None,
    )
