"""Puts the parts of one source together from its settings, runs them, and accounts for what happened."""

import json
import os
import random
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import anyio
import structlog
from filelock import FileLock, Timeout

from pipeline.auto_replay import AutoReplay
from pipeline.configuration.resolving import make_connector
from pipeline.configuration.settings import REQUESTS_PER_SECOND_MAX, SourceSettings, listing_basis, recipe
from pipeline.configuration.values import LOCAL
from pipeline.dead_letters import JsonLinesFile
from pipeline.destinations.agentcore import AgentCoreConnection, AgentCoreDestination, open_agentcore
from pipeline.errors import (
    FatalError,
    LeaseLost,
    PlanOutdated,
    PlanRefused,
    SourceError,
    SourceLocked,
    StateError,
    SyncError,
    first_error,
    ungrouped,
)
from pipeline.events import (
    DeadLettersOutstanding,
    DeletesWithheld,
    Observer,
    OutstandingLetter,
    Reconciled,
    RunStarted,
    Wait,
    nobody,
    telling,
)
from pipeline.files import make_folder
from pipeline.hosts import is_loopback
from pipeline.identity import METADATA_ESCAPE, decode
from pipeline.job import SourceJob
from pipeline.lease import ENDED_LEASE, Lease, hold_lease
from pipeline.limits import service_limits
from pipeline.mapping import RecordRules, namespace_root
from pipeline.memory_check import MemoryCheck
from pipeline.model import CALLS, ClientToken, DeadLetter, LastRun, RecordContent
from pipeline.pacing import Pacer
from pipeline.parsing import Parser
from pipeline.planner import DeletePolicy
from pipeline.protocols import HoldsConnections, SourceConnector, StateStore
from pipeline.provenance import DOCUMENT_METADATA_KEY, SOURCE_METADATA_KEY
from pipeline.report import REPLAY_WENT_THROUGH, SourceReport
from pipeline.reporting.listeners import fan_out
from pipeline.reporting.listings import SearchHit
from pipeline.reporting.tally import Tally
from pipeline.runs.measured import timing_of
from pipeline.runs.recording import close_report, open_report
from pipeline.state.sqlite import open_state
from pipeline.sync import preview, rebuild, repair, replay, sync
from pipeline.verifying import SourceComparison, Verification, Verifier, compare_source
from pipeline.workers import open_workers, processes_here

if TYPE_CHECKING:
    from pipeline.run_diff import RunDiff

Verb = Literal["run", "plan", "replay"]
Act = Callable[[SourceJob], Awaitable[None]]
Result = TypeVar("Result")

STATE_FILE = "state.sqlite3"
LOCK_FILE = "run.lock"
LOCAL_MEMORY_FILE = "local-memory.sqlite3"

NO_EDITS: Mapping[str, RecordContent] = {}

REQUEST_OVERHEAD_S = 5.0  # what a request takes beside its timeouts: signing, waiting for its turn on this machine

# Neither is checked by a memory on this machine; botocore will not send without.
LOCAL_CREDENTIALS = ("local", "local")
_CREDENTIAL_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


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
                job = await stack.enter_async_context(_open_plan(settings, run_id, deletes, observe))
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


# ------------------------------------------------------------------------------------- verify and search


async def verify_source(settings: SourceSettings) -> tuple[Verification, SourceComparison | SourceError]:
    """Compare the ledger of a source with its memory, and with the source itself (or tell why not). Changes nothing.

    Raises:
        SyncError: the ledger or the memory could not be read.
    """
    async with (
        open_source_state(settings, is_read_only=True) as state,
        open_destination(settings) as memory,
    ):
        rules = record_rules(settings)
        verifier = Verifier(state, memory, rules, service_limits(), timing_of(settings).settle_s, time.time)
        found = await verifier.verify()
        source: SourceComparison | SourceError
        try:
            async with open_connector(settings) as connector:
                parser = Parser(settings.parsing.rules())
                source = await compare_source(state, connector, parser, rules.recipe, _basis(settings, parser))
        except SourceError as error:
            source = error
        return found, source


async def repair_source(settings: SourceSettings) -> Verification:
    """Bring the ledger of a source in line with its memory; the next run writes what is missing or changed.

    Raises:
        SyncError: it could not be done, or only in part.
    """
    with ungrouped():
        async with open_job(settings, new_run_id(), DeletePolicy(), nobody) as job:
            return await repair(job)


async def count_unattributed(settings: SourceSettings) -> int:
    """How many records of no document the ledger of a source has.

    Raises:
        StateError, ConfigurationError: the ledger could not be read.
    """
    async with open_source_state(settings, is_read_only=True) as state:
        return (await state.counts()).unattributed


async def recover_source(settings: SourceSettings) -> Verification:
    """Rebuild the lost ledger of a source from its memory.

    Raises:
        SyncError: there is a ledger, or it could not be rebuilt.
    """
    with ungrouped():
        async with open_job(settings, new_run_id(), DeletePolicy(), nobody) as job:
            counts = await job.state.counts()
            if (counts.records or counts.batches) and await job.state.acquainted_at() is not None:
                raise StateError(
                    f"The ledger is there: it knows {counts.records} records. Nothing was done. `memsync verify`"
                    " compares it with the memory, `memsync verify --repair` mends it."
                )
            return await rebuild(job)


async def drop_letters(settings: SourceSettings, ids: Collection[str]) -> int:
    """Give dead letters up for good; return how many that were.

    Raises:
        SyncError: none was dropped, or another run has the source.
    """
    with ungrouped():
        async with _hold_source(settings, new_run_id()) as (state, _):
            before = await state.counts()
            await state.drop_letters(ids, time.time())
            # The ledger decides; the file follows, at the latest with the next run.
            await JsonLinesFile(settings.dead_letters_path, settings.name).rewrite(await state.letters())
            return (await state.counts()).dropped - before.dropped


async def search_source(settings: SourceSettings, query: str, count_max: int) -> list[SearchHit]:
    """The records of a source that answer `query` best.

    Raises:
        SyncError: the memory could not be asked.
    """
    async with open_destination(settings) as memory:
        found = await memory.search(query, namespace_path=namespace_root(record_rules(settings)), count_max=count_max)
    return [
        SearchHit(
            record.score or 0.0,
            record.text,
            document_id=decode(str(record.metadata.get(DOCUMENT_METADATA_KEY, "")), METADATA_ESCAPE) or None,
            source=decode(str(record.metadata.get(SOURCE_METADATA_KEY, "")), METADATA_ESCAPE) or None,
        )
        for record in found
    ]


# ------------------------------------------------------------------------------------------------ the parts


@asynccontextmanager
async def open_job(
    settings: SourceSettings, run_id: str, deletes: DeletePolicy, observe: Observer
) -> AsyncIterator[SourceJob]:
    """All that it takes to write for a source, which nobody else can do meanwhile.

    Raises:
        SourceLocked: another run does.
        SyncError: the state or the settings cannot be used.
    """
    async with (
        _hold_source(settings, run_id, observe) as (state, lease),
        open_destination(settings, observe=observe) as destination,
        open_connector(settings) as connector,
    ):
        yield _job(settings, run_id, connector, state, destination, lease, deletes, observe)


@asynccontextmanager
async def _hold_source(
    settings: SourceSettings, run_id: str, observe: Observer = nobody
) -> AsyncIterator[tuple[StateStore, Lease]]:
    """The ledger of a source, for nobody but us.

    Raises:
        SourceLocked: another run has it.
        SyncError: the state or the settings cannot be used.
    """
    timeouts_s = settings.destination.connect_timeout_s + settings.destination.read_timeout_s
    with _os_lock(settings) as has_lock:
        async with open_source_state(settings, is_read_only=False, observe=observe) as state:
            holder = f"run {run_id[:8]}, process {os.getpid()} on {socket.gethostname()}"
            request_s = timeouts_s + REQUEST_OVERHEAD_S
            async with hold_lease(state, holder, has_lock=has_lock, request_s=request_s, now=time.time) as lease:
                yield state, lease


@asynccontextmanager
async def _open_plan(
    settings: SourceSettings, run_id: str, deletes: DeletePolicy, observe: Observer
) -> AsyncIterator[SourceJob]:
    async with (
        open_source_state(settings, is_read_only=True, observe=observe) as state,
        open_destination(settings, is_dry=True) as destination,
        open_connector(settings) as connector,
    ):
        yield _job(settings, run_id, connector, state, destination, ENDED_LEASE, deletes, observe)


def _job(
    settings: SourceSettings,
    run_id: str,
    connector: SourceConnector,
    state: StateStore,
    destination: AgentCoreDestination,
    lease: Lease,
    deletes: DeletePolicy,
    observe: Observer,
) -> SourceJob:
    rng = random.SystemRandom()
    rules = record_rules(settings)
    timing = timing_of(settings)
    processes = settings.workers.processes
    parser = Parser(settings.parsing.rules())
    return SourceJob(
        run_id=run_id,
        connector=connector,
        parser=parser,
        rules=rules,
        limits=service_limits(),
        destination=destination,
        state=state,
        dead_letters=JsonLinesFile(settings.dead_letters_path, settings.name),
        pacer=pacer_of(settings),
        check=MemoryCheck(state, destination, rules, service_limits(), timing.settle_s, rng, time.time),
        lease=lease,
        deletes=deletes,
        observe=observe,
        open_workers=partial(
            open_workers, processes=processes_here() if processes is None else processes, observe=observe
        ),
        new_token=lambda: ClientToken(str(uuid.uuid4())),
        clock=time.monotonic,
        now=time.time,
        writers=settings.writers.concurrency,
        linger_s=settings.writers.linger_s,
        request_attempts_max=settings.writers.max_attempts,
        record_attempts_max=settings.dead_letters.max_attempts,
        token_trust_s=timing.token_trust_s,
        settle_s=timing.settle_s,
        young_record_s=timing.young_record_s,
        listing_basis=_basis(settings, parser),
        auto_replay=auto_replay(settings),
    )


def auto_replay(settings: SourceSettings) -> AutoReplay:
    """When a run of the source sends its dead letters again by itself."""
    letters = settings.dead_letters
    return AutoReplay(letters.auto_replay, letters.quarantine_after, letters.backoff_s, letters.backoff_max_s)


def _basis(settings: SourceSettings, parser: Parser) -> str:
    """What a listing rests on: with another parser, documents that were left out have to be listed again."""
    return f"{listing_basis(settings)} {parser.abilities}"


async def offload(work: Callable[[], Result], observe: Observer = nobody) -> Result:
    """Run plain computation on the ledger in a worker thread."""
    with telling(observe, Wait("ledger", "disk")):
        return await anyio.to_thread.run_sync(work)


@asynccontextmanager
async def open_connector(settings: SourceSettings) -> AsyncIterator[SourceConnector]:
    """The connector of a source; what it holds is closed with this."""
    connector = await make_connector(settings)
    try:
        yield connector
    finally:
        if isinstance(connector, HoldsConnections):
            with anyio.CancelScope(shield=True):
                await connector.aclose()


def record_rules(settings: SourceSettings) -> RecordRules:
    return RecordRules(
        source=settings.name,
        recipe=recipe(settings),
        namespace=settings.record.namespace,
        metadata=settings.record.metadata,
        strategy_id=settings.record.strategy_id,
        max_chars=settings.chunking.max_chars,
        overlap_chars=settings.chunking.overlap_chars,
        heading_path=settings.chunking.heading_path,
        expiry_days=settings.record.expiry_days,
    )


def memory_name(settings: SourceSettings) -> str:
    """What tells the memory of a source from any other.

    An endpoint may change (a proxy, a VPC endpoint) and lead to the same memory; a local memory is another one.
    """
    memory_id = settings.destination.memory_id.rsplit("/", 1)[-1]
    return f"local:{memory_id}" if settings.destination.endpoint_url == LOCAL else memory_id


@asynccontextmanager
async def open_source_state(
    settings: SourceSettings, *, is_read_only: bool, observe: Observer = nobody
) -> AsyncIterator[StateStore]:
    """Open the ledger of a source.

    Raises:
        StateError, ConfigurationError: as for `open_state`.
    """
    async with open_state(
        settings.state_folder / STATE_FILE,
        source=settings.name,
        destination=memory_name(settings),
        offload=partial(offload, observe=observe),
        is_read_only=is_read_only,
    ) as state:
        yield state


@asynccontextmanager
async def open_destination(
    settings: SourceSettings, *, is_dry: bool = False, observe: Observer = nobody
) -> AsyncIterator[AgentCoreDestination]:
    """Open the memory of a source; `local` is served from here for as long as it is open.

    A dry one is never connected to: it only checks and encodes.

    Raises:
        FatalError: the file of a local memory cannot be used.
    """
    destination = settings.destination
    async with AsyncExitStack() as stack:
        endpoint_url = destination.endpoint_url
        if endpoint_url == LOCAL and not is_dry:
            # A memory in AWS needs no server.
            from pipeline.local_memory import LocalMemory, UnreadableStoreError  # noqa: PLC0415

            data = settings.state_folder.parent / LOCAL_MEMORY_FILE
            try:
                server = await stack.enter_async_context(LocalMemory.serve(data, memories=[destination.memory_id]))
            except UnreadableStoreError as error:
                raise FatalError(
                    f"The memory on this machine: {error}. Nothing was sent. {error.cure}", code="local_memory"
                ) from error
            endpoint_url = server.url
        connection = connection_of(settings, endpoint_url)
        yield await stack.enter_async_context(open_agentcore(connection, pacer_of(settings), observe))


def connection_of(settings: SourceSettings, endpoint_url: str | None) -> AgentCoreConnection:
    """How the memory of a source is reached, at `endpoint_url`; None: AWS."""
    destination = settings.destination
    return AgentCoreConnection(
        memory_id=destination.memory_id,
        region=destination.region or os.environ.get("AWS_REGION"),  # which botocore does not look at
        endpoint_url=endpoint_url,
        profile=destination.profile,
        concurrency=settings.writers.concurrency,
        connect_timeout_s=destination.connect_timeout_s,
        read_timeout_s=destination.read_timeout_s,
        credentials=_local_credentials(endpoint_url, destination.profile),
        asks_quotas=settings.writers.requests_per_second is None and not destination.is_on_this_machine,
    )


def pacer_of(settings: SourceSettings) -> Pacer:
    """The gate of the source's memory: one for all sources of this process that share it, and with it a quota."""
    destination, per_second = settings.destination, settings.writers.requests_per_second
    if per_second is None and destination.endpoint_url == LOCAL:
        per_second = REQUESTS_PER_SECOND_MAX
    return _pacer(destination.memory_id, destination.region, destination.endpoint_url, destination.profile, per_second)


@cache
def _pacer(
    _memory_id: str, _region: str | None, _endpoint_url: str | None, _profile: str | None, per_second: float | None
) -> Pacer:
    return Pacer(dict.fromkeys(CALLS, per_second), clock=time.monotonic, rng=random.SystemRandom())


def _local_credentials(endpoint_url: str | None, profile: str | None) -> tuple[str, str] | None:
    """Stand-ins for a memory on this machine, unless the user has set credentials."""
    has_own = profile is not None or any(os.environ.get(name) for name in _CREDENTIAL_VARIABLES)
    return LOCAL_CREDENTIALS if is_loopback(urlsplit(endpoint_url or "").hostname) and not has_own else None


async def is_running(settings: SourceSettings, state: StateStore) -> bool:
    """Whether a run, here or on another machine, may be at work on the source now."""
    path = settings.state_folder / LOCK_FILE
    has_lock = False
    try:
        if path.exists():
            with FileLock(path, timeout=0, mode=0o600):
                has_lock = True
    except Timeout:
        return True
    except OSError:  # a folder that can only be read: the lease tells
        pass
    return await state.is_leased(has_lock=has_lock, now=time.time())


@contextmanager
def _os_lock(settings: SourceSettings) -> Iterator[bool]:
    """Lock the source for this process; the lock ends with the process, however that ends.

    Yields False if another process has it: then the lease in the ledger tells whether that one is still at work.
    """
    path = settings.state_folder / LOCK_FILE
    lock = FileLock(path, timeout=0, mode=0o600)
    try:
        make_folder(path.parent)
        lock.acquire()
    except Timeout:
        pass
    except OSError as error:
        raise StateError(
            f"The state folder {path.parent} cannot be used: {error.strerror}. Nothing was sent. Check its permissions"
            " and the disk, or set state.path to a folder that can be written."
        ) from error
    try:
        yield lock.is_locked
    finally:
        lock.release()


def new_run_id() -> str:
    return uuid.uuid4().hex
