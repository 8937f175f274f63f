"""What `memsync metrics` tells of sources, for Prometheus."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from pydantic import TypeAdapter

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import SyncError
from pipeline.model import LastRun
from pipeline.report import SourceReport
from pipeline.reporting.prometheus import EndedRun, SourceMetrics, exposition
from pipeline.runs.parts import is_running, open_source_state
from pipeline.runs.status import next_run_at

_STORED_REPORT = TypeAdapter(SourceReport)  # as this version or another one has stored it


async def metrics_text(sources: Sequence[SourceSettings], tell: Callable[[SourceSettings, SyncError], None]) -> str:
    """Return the metrics of `sources` in Prometheus' text format, from their states alone.

    A state that cannot be read is one of the metrics; `tell` hears why.
    """
    return exposition([await source_metrics(settings, partial(tell, settings)) for settings in sources])


async def source_metrics(settings: SourceSettings, tell: Callable[[SyncError], None]) -> SourceMetrics:
    """One source as its state knows it; nothing is asked of source or memory."""
    try:
        return await _read_metrics(settings)
    except SyncError as error:
        tell(error)
        return SourceMetrics(settings.name, is_readable=False)


async def _read_metrics(settings: SourceSettings) -> SourceMetrics:
    async with open_source_state(settings, is_read_only=True) as state:
        counts = await state.counts()
        last = await state.last_run()
        is_at_work = last is not None and last.report is None and await is_running(settings, state)
        if last is not None and is_at_work:
            last = await state.last_run(before=last.id)
        last_success_at = await state.last_success()
    return SourceMetrics(
        settings.name,
        documents=counts.documents,
        records=counts.records,
        pending_records=counts.pending,
        dead_letters_by_code=counts.letters,
        is_running=is_at_work,
        last_run=_ended(last) if last else None,
        last_success_at=last_success_at,
        next_run_at=next_run_at(settings, time.time()),
    )


def _ended(run: LastRun) -> EndedRun:
    if run.report is None:
        return EndedRun("interrupted")
    report = _STORED_REPORT.validate_json(run.report)
    return EndedRun(report.status, run.ended_at, report)
