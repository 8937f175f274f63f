"""The parts of one source, opened from its settings: connector, ledger, memory, and the job that they make."""

import os
import random
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import cache, partial
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from filelock import FileLock, Timeout

from pipeline.auto_replay import AutoReplay
from pipeline.configuration.resolving import make_connector
from pipeline.configuration.settings import (
    LOCAL_MEMORY_FILE,
    LOCK_FILE,
    REQUESTS_PER_SECOND_MAX,
    STATE_FILE,
    SourceSettings,
    listing_basis,
    recipe,
)
from pipeline.configuration.values import LOCAL
from pipeline.dead_letters import JsonLinesFile
from pipeline.destinations.agentcore import AgentCoreConnection, AgentCoreDestination, open_agentcore
from pipeline.errors import (
    FatalError,
    StateError,
)
from pipeline.events import (
    Observer,
    Wait,
    nobody,
    telling,
)
from pipeline.files import make_folder
from pipeline.hosts import is_loopback
from pipeline.job import SourceJob
from pipeline.lease import ENDED_LEASE, Lease, hold_lease
from pipeline.limits import service_limits
from pipeline.mapping import RecordRules
from pipeline.memory_check import MemoryCheck
from pipeline.model import CALLS, ClientToken
from pipeline.pacing import Pacer
from pipeline.parsing import Parser
from pipeline.planner import DeletePolicy
from pipeline.protocols import HoldsConnections, SourceConnector, StateStore
from pipeline.runs.measured import timing_of
from pipeline.state.sqlite import open_state
from pipeline.workers import open_workers, processes_here

Result = TypeVar("Result")

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
        hold_source(settings, run_id, observe) as (state, lease),
        open_destination(settings, observe=observe) as destination,
        open_connector(settings) as connector,
    ):
        yield _job(settings, run_id, connector, state, destination, lease, deletes, observe)


@asynccontextmanager
async def hold_source(
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
async def open_plan(
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
        listing_basis=basis_of_listings(settings, parser),
        auto_replay=auto_replay(settings),
    )


def auto_replay(settings: SourceSettings) -> AutoReplay:
    """When a run of the source sends its dead letters again by itself."""
    letters = settings.dead_letters
    return AutoReplay(letters.auto_replay, letters.quarantine_after, letters.backoff_s, letters.backoff_max_s)


def basis_of_listings(settings: SourceSettings, parser: Parser) -> str:
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
