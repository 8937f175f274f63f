"""The page of a run, made of its report and of the runs before it."""

from pathlib import Path

import structlog

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError, SyncError
from pipeline.report import SourceReport
from pipeline.reporting.report_files import write_for_owner
from pipeline.runs.history import find_report, past_runs


async def write_page(settings: SourceSettings, run_id: str | None = None, out: Path | None = None) -> Path:
    """Write the page of the last run, or of that whose id begins with `run_id`; return its file.

    That is `out`, a file or a folder; None: beside the report.

    Raises:
        ConfigurationError: there is no such report, or the page cannot be written there.
        StateError: the report or the state cannot be read.
    """
    from pipeline.reporting.pages import TREND_RUNS_MAX, render_page  # noqa: PLC0415 - few runs leave a page

    file, report = await find_report(settings, run_id)
    page = render_page(report, await past_runs(settings, TREND_RUNS_MAX))
    path = file.with_suffix(".html") if out is None else _place(settings.name, out)
    try:
        write_for_owner(path, page.encode())
    except OSError as error:
        raise ConfigurationError(
            f"the page cannot be written to {path}: {error.strerror}; --out names another"
        ) from error
    return path


def _place(source: str, out: Path) -> Path:
    return out / f"{source}.html" if out.is_dir() else out


async def leave_page(settings: SourceSettings, run_id: str, account: SourceReport) -> None:
    """Write the page of a run that has just ended, if it changed something or a person should see how it ended.

    Most hourly runs do neither, and making a page takes as long as they do. Nothing is raised: the run is what it was.
    """
    documents = account.documents
    has_changed = bool(documents.added or documents.changed or documents.removed or documents.failed)
    is_wanted = settings.reports.enabled and settings.reports.page
    if not is_wanted or account.status == "locked" or (account.status == "in_sync" and not has_changed):
        return
    try:
        await find_report(settings, run_id)
    except SyncError:
        return  # it left no report: it did not begin, or that is said already
    try:
        await write_page(settings, run_id)
    except Exception as error:  # whatever it is, the run is more important
        structlog.get_logger().warning(
            "report_not_written",
            source=settings.name,
            folder=str(settings.reports_folder),
            error=str(error) if isinstance(error, SyncError) else type(error).__name__,
            consequence="`memsync report` makes the page of this run; the run itself lacks nothing",
        )
