"""Runs one source to its end, whatever that is, and accounts for what happened."""

import json
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio
import structlog

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import (
    LeaseLost,
    PlanOutdated,
    PlanRefused,
    SourceLocked,
    SyncError,
    first_error,
)
from pipeline.events import (
    DeadLettersOutstanding,
    DeletesWithheld,
    Observer,
    OutstandingLetter,
    Reconciled,
    RunStarted,
    Wait,
    telling,
)
from pipeline.job import SourceJob
from pipeline.model import DeadLetter, LastRun, RecordContent
from pipeline.planner import DeletePolicy
from pipeline.report import REPLAY_WENT_THROUGH, SourceReport
from pipeline.reporting.listeners import fan_out
from pipeline.reporting.tally import Tally
from pipeline.runs.parts import open_job, open_plan, pacer_of
from pipeline.runs.recording import close_report, open_report
from pipeline.sync import preview, replay, sync

if TYPE_CHECKING:
    from pipeline.run_diff import RunDiff

Verb = Literal["run", "plan", "replay"]
Act = Callable[[SourceJob], Awaitable[None]]

NO_EDITS: Mapping[str, RecordContent] = {}


@dataclass(slots=True)
class Stop:
    """A wish to stop, from a signal; it reaches the source that runs and those that have not begun."""

    signal_number: int | None = None
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def ask(self, signal_number: int) -> None:
        self.signal_number = signal_number
        self._scope.cancel()

    @contextmanager
    def heeded(self) -> Iterator[anyio.CancelScope]:
        with anyio.CancelScope() as scope:
            self._scope = scope
            if self.signal_number is not None:
                scope.cancel()
            yield scope


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of one source came to. `withheld` tells of deletions that were held back.

    A plan that was refused has left everything as it was, also what is known of the source.
    """

    report: SourceReport
    withheld: DeletesWithheld | None = None
    is_plan_outdated: bool = False
    is_plan_refused: bool = False


async def run_source(
    settings: SourceSettings,
    verb: Verb,
    *,
    run_id: str,
    stop: Stop,
    observers: tuple[Observer, ...] = (),
    allow_mass_delete: bool = False,
    repaired: Reconciled | None = None,
    chosen: Collection[str] | None = None,
    edits: Mapping[str, RecordContent] = NO_EDITS,
    act: Act | None = None,
) -> Outcome:
    """Run, plan or replay one source to its end, whatever that is: faults are in the report, not raised.

    `repaired` is what was mended in the ledger just before, for the report that the run leaves. A replay sends the
    letters whose ids are `chosen`, or all that are not dropped, with the `edits` of some. `act` is what to do instead
    of what `verb` usually means.
    """
    tally = Tally(settings.name)
    report = tally.report
    recorder = diff = None
    if verb != "plan":
        diff = _new_diff(settings)
        recorder = open_report(settings, verb, run_id, report, pacer_of(settings), repaired, diff)
    started = time.monotonic()
    is_plan_outdated = is_plan_refused = False
    deletes = DeletePolicy(settings.deletes.enabled, settings.deletes.max_fraction, allow_mass_delete)
    try:
        async with AsyncExitStack() as stack:
            observe = fan_out(tally, *([recorder] if recorder else []), *observers)
            if verb == "plan":
                job = await stack.enter_async_context(open_plan(settings, run_id, deletes, observe))
            else:
                job = await stack.enter_async_context(open_job(settings, run_id, deletes, observe))
                job = replace(job, chosen=chosen, edits=edits)
                if recorder is not None and diff is not None:
                    job = replace(job, state=diff.watch(job.state, job.destination))
            await execute(job, verb, report, stop, act)
    except* Exception as errors:  # a fault of ours must not take the other sources with it
        error = first_error(errors)
        if isinstance(error, SyncError):
            _note_failure(report, error)
            is_plan_outdated, is_plan_refused = isinstance(error, PlanOutdated), isinstance(error, PlanRefused)
        else:
            structlog.get_logger().error("unexpected_error", source=settings.name, exc_info=error)
            report.status = "failed"
            report.error = (
                f"Unexpected {type(error).__name__}: a fault of memsync; the log has the trace. Nothing was lost, what"
                " is not stored yet stays in the outbox. Please report it."
            )
    report.seconds = round(time.monotonic() - started, 3)
    report.dead_letters_path = str(settings.dead_letters_path)
    if recorder is not None:
        close_report(recorder, settings)
    return Outcome(report, tally.withheld, is_plan_outdated, is_plan_refused)


def _new_diff(settings: SourceSettings) -> "RunDiff | None":
    """What takes down for the report of a run how texts change; None if nobody wants to see that."""
    if not settings.reports.diff_documents:
        return None
    from pipeline.run_diff import RunDiff  # noqa: PLC0415 - most runs do without

    return RunDiff(settings.reports.diff_documents)


async def execute(job: SourceJob, verb: Verb, report: SourceReport, stop: Stop, act: Act | None = None) -> None:
    """Do what `verb` says, or `act`, and close the account, also if that was cut short.

    Raises:
        SyncError, or a group of such: it could not be done; `report` tells so.
    """
    started = job.clock()
    is_refused = False
    counts = await job.state.counts()
    job.observe(RunStarted(job.rules.source, job.run_id, verb, counts.documents, counts.batches))
    if verb != "plan":
        await job.state.begin_run(job.run_id, verb, job.now())
    try:
        with stop.heeded() as scope:
            usual: dict[Verb, Act] = {"run": sync, "plan": preview, "replay": replay}
            await (act or usual[verb])(job)
            # Whoever comes next must not be overtaken by what we sent.
            with telling(job.observe, Wait("write", "late_writes")):
                await job.lease.wait_for_unheard(job.now)
        if scope.cancelled_caught:
            report.status = "interrupted"
    except BaseExceptionGroup as errors:
        _note_failure(report, first_error(errors))
        raise
    except SyncError as error:
        is_refused = isinstance(error, PlanRefused)
        _note_failure(report, error)
        raise
    finally:
        report.seconds = round(job.clock() - started, 3)
        with anyio.CancelScope(shield=True):
            await _close_account(job, verb, report)
            if is_refused:  # how the source stands is what the run before has left
                await job.state.drop_run(job.run_id)


async def _close_account(job: SourceJob, verb: Verb, report: SourceReport) -> None:
    counts = await job.state.counts()
    last = await job.state.last_run(before=job.run_id)
    letters = sum(counts.letters.values())
    report.records.dead_lettered = letters
    report.records.dropped = counts.dropped
    report.records.pending = counts.pending
    report.dead_letters_by_code = dict(counts.letters)
    outstanding = await job.state.letters(with_records=False)
    report.quarantined = sum(map(job.auto_replay.is_quarantined, outstanding))
    due_at = filter(None, map(job.auto_replay.next_attempt_at, outstanding))
    report.next_attempt_at = min(due_at, default=None)
    if report.status == "in_sync":
        if report.withheld_documents and job.deletes.is_enabled:
            report.status = "guarded"
        elif letters:
            report.status = "dead_letters"
    if verb == "replay":
        _carry_over(report, _account_of(last))
    if verb != "plan":
        # In this order: a run that lost its lease fails here and leaves the file to the one that has it.
        await job.state.end_run(job.run_id, json.dumps(asdict(report)), job.now())
        left = await job.state.letters()
        await job.dead_letters.rewrite(left)
        job.observe(DeadLettersOutstanding([_outstanding(letter) for letter in left]))


def _outstanding(letter: DeadLetter) -> OutstandingLetter:
    return OutstandingLetter(
        letter.document_id,
        letter.stage,
        letter.code,
        letter.message,
        letter.attempts,
        letter.first_failed_at,
        letter.last_failed_at,
    )


def _account_of(last: LastRun | None) -> dict[str, Any]:
    """The report of the last run; if there is none, what stands for it."""
    if last is None:
        return {"status": "failed", "error": "there was none, and the source has not been read yet."}
    if last.report is None:
        return {"status": "interrupted"}
    report: dict[str, Any] = json.loads(last.report)
    return report


def _carry_over(report: SourceReport, last: dict[str, Any]) -> None:
    """A replay does not list the source: what kept the last run from bringing the memory in line still holds."""
    if report.status in ("in_sync", "dead_letters") and last["status"] in ("guarded", "failed", "interrupted"):
        report.status = "guarded" if last["status"] == "guarded" else "failed"
        report.withheld_documents = last.get("withheld_documents", 0)
        if report.status == "failed":
            problem = last.get("error") or "it was interrupted."
            report.error = REPLAY_WENT_THROUGH + problem.removeprefix(REPLAY_WENT_THROUGH)


def _note_failure(report: SourceReport, error: BaseException) -> None:
    report.status = "locked" if isinstance(error, SourceLocked | LeaseLost) else "failed"
    report.error = str(error)


def new_run_id() -> str:
    return uuid.uuid4().hex
