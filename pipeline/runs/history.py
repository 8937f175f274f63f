"""The past runs of a source: what the ledger knows of them, and the reports that they left."""

import json
from pathlib import Path
from typing import Any

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError
from pipeline.model import PastRun
from pipeline.reporting.histories import PastRunRow
from pipeline.reporting.recorder import RUNNING
from pipeline.reporting.report_files import ReportFolder, read_report, run_id_of
from pipeline.runs.parts import is_running, open_source_state


async def past_runs(settings: SourceSettings, count: int) -> list[PastRunRow]:
    """The last `count` runs of a source that began, the newest first. Nothing is asked of source or memory.

    Raises:
        StateError, ConfigurationError: the state cannot be read.
    """
    async with open_source_state(settings, is_read_only=True) as state:
        runs = await state.runs(limit=count)
        is_at_work = bool(runs) and runs[0].ended_at is None and await is_running(settings, state)
    reports = {run_id_of(file): str(file) for file in ReportFolder(settings.reports_folder).files()}
    return [_row(run, reports.get(run.id), is_at_work=is_at_work and run is runs[0]) for run in runs]


def _row(run: PastRun, report: str | None, *, is_at_work: bool) -> PastRunRow:
    if run.report is None:
        status = "running" if is_at_work else "interrupted"
        return PastRunRow(run.id, run.verb, status, run.started_at, report=report)  # type: ignore[arg-type]
    account = json.loads(run.report)
    documents, records = account["documents"], account["records"]
    return PastRunRow(
        run.id,
        run.verb,
        account["status"],
        run.started_at,
        seconds=None if run.ended_at is None else max(0.0, run.ended_at - run.started_at),
        added=documents["added"],
        changed=documents["changed"],
        removed=documents["removed"],
        failed=documents["failed"],
        records=records["created"] + records["updated"] + records["deleted"],
        dead_letters=sum(account["dead_letters_by_code"].values()),
        error=account["error"],
        report=report,
    )


async def find_report(settings: SourceSettings, run_id: str | None) -> tuple[Path, dict[str, Any]]:
    """The report of the last run, or of the run whose id begins with `run_id`, and its file.

    Of a run that is still at work, the status is `running`; of one that was killed, `interrupted`.

    Raises:
        ConfigurationError: there is none, or there are several.
        StateError: it cannot be read.
    """
    files = ReportFolder(settings.reports_folder).files()
    found = [file for file in files if run_id is None or run_id_of(file).startswith(run_id)]
    if not found:
        raise ConfigurationError(_no_report(settings, run_id, has_others=bool(files)))
    if run_id is not None and len(found) > 1:
        raise ConfigurationError(f"source {settings.name!r}: {len(found)} runs have an id that begins with {run_id!r}")
    file = found[0]
    report = read_report(file)
    if report["status"] == RUNNING and not await _is_at_work(settings, report["run_id"]):
        report["status"] = report["account"]["status"] = "interrupted"
    return file, report


def _no_report(settings: SourceSettings, run_id: str | None, *, has_others: bool) -> str:
    if run_id is not None:
        return (
            f"source {settings.name!r} has no report of a run whose id begins with {run_id!r};"
            f" `memsync history` shows the ids, and the last {settings.reports.keep} reports are kept"
        )
    reason = "no run has left one yet" if settings.reports.enabled else "`reports.enabled` is off"
    assert not has_others
    return f"source {settings.name!r} has no report: {reason}"


async def _is_at_work(settings: SourceSettings, run_id: str) -> bool:
    async with open_source_state(settings, is_read_only=True) as state:
        last = await state.last_run()
        is_last = last is not None and last.id == run_id and last.report is None
        return is_last and await is_running(settings, state)
