"""Small values that the tests of the pipeline's parts are made of."""

import itertools
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import ClassVar, TypeVar

import anyio
from anyio.lowlevel import checkpoint
from trio.testing import MockClock

from pipeline.deriving import Deriver
from pipeline.destinations.agentcore import AgentCoreConnection, AgentCoreDestination
from pipeline.identity import digest_of
from pipeline.model import (
    CALLS,
    Change,
    ClientToken,
    Create,
    Delete,
    DocumentId,
    Fetched,
    KnownRecord,
    MemoryRecordId,
    MetadataValue,
    Operation,
    Planned,
    Record,
    RecordKey,
    Update,
)
from pipeline.pacing import Pacer
from pipeline.protocols import Derive

Result = TypeVar("Result")

MEMORY_ID = "local-0000000000"
WRITTEN_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def record(
    key: str = "key",
    *,
    digest: str = "digest",
    order: float = 1.0,
    text: str = "text",
    namespace: str = "/docs/",
    metadata: Mapping[str, MetadataValue] | None = None,
    strategy_id: str | None = None,
) -> Record:
    return Record(
        key=RecordKey(key),
        document=DocumentId("a.md"),
        namespace=namespace,
        text=text,
        timestamp=WRITTEN_AT,
        metadata={"topic": "tests"} if metadata is None else metadata,
        digest=digest,
        order=order,
        strategy_id=strategy_id,
    )


def known(
    key: str = "key", *, digest: str = "digest", order: float = 1.0, memory_record_id: str | None = None
) -> KnownRecord:
    memory_record_id = memory_id_of(key) if memory_record_id is None else memory_record_id
    return KnownRecord(RecordKey(key), DocumentId("a.md"), "/docs/", digest, order, MemoryRecordId(memory_record_id))


def memory_id_of(key: str) -> MemoryRecordId:
    return MemoryRecordId(f"mem-{digest_of(key)[:36]}")


def change(operation: Operation, key: str, *, text: str = "text") -> Change:
    """A change after which the memory holds, or does not hold, a record of `key`."""
    match operation:
        case Operation.CREATE:
            return Create(record(key, text=text))
        case Operation.UPDATE:
            return Update(known(f"{key}-before"), record(key, text=text))
        case Operation.DELETE:
            return Delete(known(key))


def tokens() -> Callable[[], ClientToken]:
    """Tokens that are never the same: token-0, token-1, …"""
    numbers = itertools.count()
    return lambda: ClientToken(f"token-{next(numbers)}")


def gate(requests_per_second: float = 1000.0) -> Pacer:
    """A gate that holds nobody up for long."""
    return Pacer(dict.fromkeys(CALLS, requests_per_second), clock=time.monotonic, rng=random.Random(0))


def memory() -> AgentCoreDestination:
    """A destination that can say all of a request, and is never connected."""
    return AgentCoreDestination(AgentCoreConnection(MEMORY_ID), gate())


class SmallRequestMemory(AgentCoreDestination):
    """A destination whose requests are full soon."""

    records_per_batch_max: ClassVar[int] = 5
    request_bytes_max: ClassVar[int] = 2000


async def inline(work: Callable[[], Result]) -> Result:
    return work()


@asynccontextmanager
async def workers_in_place(deriver: Deriver) -> AsyncIterator[Derive]:
    """No workers at all."""

    async def derive(items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
        return lists(items)

    async def lists(items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
        for _, derived in deriver.derive_lists(items):
            await checkpoint()
            yield derived

    yield derive


def run_on_virtual_clock(main: Callable[[], Awaitable[Result]]) -> Result:
    """Run `main` on trio, where time passes only while every task waits, and then at once."""
    return anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
