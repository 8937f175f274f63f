"""The report that each run of a source leaves: begun before the run, closed behind it, and never worth the run."""

import socket
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import structlog

from pipeline.configuration.settings import SourceSettings
from pipeline.configuration.shown_settings import shown_settings
from pipeline.events import Reconciled
from pipeline.pacing import Pacer
from pipeline.report import SourceReport
from pipeline.reporting.recorder import RunFacts, RunRecorder
from pipeline.reporting.report_files import ReportFolder

if TYPE_CHECKING:
    from pipeline.run_diff import RunDiff


def open_report(
    settings: SourceSettings,
    verb: Literal["run", "replay"],
    run_id: str,
    account: SourceReport,
    pacer: Pacer,
    repaired: Reconciled | None,
    diff: "RunDiff | None" = None,
) -> RunRecorder | None:
    """The listener that writes the report of a run; None if nobody wants one, or none can be made.

    `account` is kept up to date by the caller, `repaired` is what was mended in the ledger just before, and `diff`
    takes down how texts change.
    """
    if not settings.reports.enabled:
        return None
    try:
        facts = RunFacts(
            source=settings.name,
            run_id=run_id,
            verb=verb if repaired is None else "repair",
            file=str(settings.file),
            settings=shown_settings(settings),
            machine=socket.gethostname(),
            started_at=time.time(),
        )
        save = ReportFolder(settings.reports_folder).save
        recorder = RunRecorder(facts, account, save, pacer.allowed_per_s, _versions, time.monotonic)
        if diff is not None:
            recorder.diff = diff.as_json
        if repaired is not None:
            recorder(repaired)
    except Exception as error:  # whatever it is, the run is more important
        _warn(settings, error)
        return None
    return recorder


def close_report(recorder: RunRecorder, settings: SourceSettings) -> None:
    """Write the report of a run that has ended, and remove those that are too many."""
    try:
        recorder.finish(time.time())
        if recorder.has_begun:
            ReportFolder(settings.reports_folder).prune(settings.reports.keep)
    except Exception as error:  # whatever it is, the run is what it was
        _warn(settings, error)


def _warn(settings: SourceSettings, error: Exception) -> None:
    structlog.get_logger().warning(
        "report_not_written",
        source=settings.name,
        folder=str(settings.reports_folder),
        error=(error.strerror if isinstance(error, OSError) else None) or str(error),
        consequence="`memsync report` cannot show this run; the run itself lacks nothing",
    )


def _versions() -> dict[str, str]:
    """What is at work. The AWS client is not loaded to be asked."""
    client = sys.modules.get("botocore")
    return {
        "memsync": version("agentcore-memory-sync"),
        "python": sys.version.split()[0],
        "system": sys.platform,
        **({"botocore": client.__version__} if client else {}),
    }
