"""Batches are sent until each is settled: retried, narrowed, recorded."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from anyio import CancelScope, Semaphore, create_task_group, sleep
from anyio.streams.memory import MemoryObjectReceiveStream

from pipeline.errors import BatchRefused, DestinationError, FatalError, RetryableError
from pipeline.events import (
    BatchSettled,
    DeadLettered,
    Observer,
    RequestOutcome,
    RequestSent,
    Wait,
    telling,
)
from pipeline.lease import LATE_WRITE_S, Lease
from pipeline.memory_check import MemoryCheck
from pipeline.model import (
    Batch,
    BatchResult,
    ClientToken,
    DocumentId,
    KnownRecord,
    Operation,
    RecordKey,
    Settlement,
)
from pipeline.pacing import REFUSED_MAX_S, Pacer, Turn
from pipeline.protocols import DeadLetterFile, Destination, StateStore
from pipeline.settling import NOT_FOUND, Settler

# How long a record can be too young to be updated: 10 s were seen.
YOUNG_RECORD_S = 12.0

UNCLEAR_ANSWERS_MAX = 3  # that leave out records before the batch is left for the next run to look up

# What was sent too long ago is looked up in a listing, which may lag and need not be the same on every server.
READ_AGAIN_S = 5.0
READS_MAX = 6
LOOKED_UP_AT_ONCE = 8  # batches, so that the memory they take has a bound

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sends batches and settles them. Safe to interrupt anywhere: what is not settled stays in the outbox.

    `under_way` bounds the requests that wait for an answer, `attempts_max` the tries of one whose outcome stays
    unknown; throttling does not count. `token_trust_s` is how long the memory can be trusted to recognise a token,
    `settle_s` how long its listing may lag behind what was written, `young_record_s` how long a record may be too young
    to be updated. Nothing is sent before `check` has passed, nor without the lease.
    """

    destination: Destination
    state: StateStore
    dead_letters: DeadLetterFile
    settler: Settler
    pacer: Pacer
    under_way: Semaphore
    lease: Lease
    check: MemoryCheck
    attempts_max: int
    token_trust_s: float
    settle_s: float
    young_record_s: float
    clock: Callable[[], float]
    now: Callable[[], float]
    observe: Observer

    async def deliver(self, batch: Batch, *, was_sent: bool = False) -> None:
        """Send `batch`, and whatever follows from it, until all is settled.

        `was_sent` tells that it may be stored already: then it must not be sent once its token is too old.

        Raises:
            FatalError: the memory cannot be reached or does not let us in; the batch stays in the outbox.
            LeaseLost: another run may have taken over.
        """
        # An update that an earlier run saw fail may be of a record that is still too young for it.
        may_be_young = batch.operation is Operation.UPDATE and _failures(batch) > 0
        waiting = [(batch, was_sent, self.young_record_s if may_be_young else 0.0)]
        # A record that alone is refused for its rate, again and again, is refused for something else.
        believes_throttles_until = self.clock() + REFUSED_MAX_S
        while waiting:
            batch, was_sent, wait_s = waiting.pop()
            if failures := _failures(batch):
                wait_s = max(wait_s, self.pacer.backoff_s(failures))
            if wait_s:
                await self._pause(wait_s)
            follow_ups = await self._deliver_one(batch, believes_throttles_until, was_sent=was_sent)
            waiting.extend((follow_up, False, wait_s) for follow_up, wait_s in follow_ups)

    async def deliver_outbox(self) -> Mapping[DocumentId, set[RecordKey]]:
        """Deliver what an interrupted run left: planning must see what that run wrote.

        Creates that are too old for their token are looked up first and taken over where they are found. Returns
        the records that are stored by this, by document.
        """
        if await self.state.acquainted_at() is None:
            # Also if there will be nothing to send: a lost ledger must not say that all is well.
            await self._asked(self.check.pass_once)
        sent: dict[RecordKey, DocumentId] = {}
        old: list[ClientToken] = []
        has_updates = False
        tokens = await self.state.outbox()
        unheard_at = await self.state.unheard_at()
        self.lease.note_unheard(unheard_at)
        if tokens:
            self.lease.note_unheard(self.lease.predecessor_until)
        for token in tokens:
            batch = await self.state.batch(token)
            sent.update((entry.key, entry.document) for entry in batch.entries)
            has_updates = has_updates or batch.operation is Operation.UPDATE
            if self._is_too_old(batch):
                old.append(token)
            else:
                await self.deliver(batch, was_sent=True)
        for start in range(0, len(old), LOOKED_UP_AT_ONCE):
            batches = [await self.state.batch(token) for token in old[start : start + LOOKED_UP_AT_ONCE]]
            await self._take_over(batches)
        if has_updates or unheard_at + LATE_WRITE_S > self.now():
            # What was sent last may still arrive; it must not arrive after what is planned now.
            with telling(self.observe, Wait("write", "late_writes")):
                await self.lease.wait_for_unheard(self.now)
        delivered: dict[DocumentId, set[RecordKey]] = {}
        for key in await self.state.records_at([(document, key) for key, document in sent.items()]):
            delivered.setdefault(sent[key], set()).add(key)
        return delivered

    def _is_too_old(self, batch: Batch) -> bool:
        """Whether the memory may have forgotten the token. A clock that was put back tells no age: then it may, too."""
        age_s = self.now() - batch.saved_at
        return batch.operation is Operation.CREATE and not 0 <= age_s <= self.token_trust_s

    async def _take_over(self, batches: Sequence[Batch]) -> None:
        """Settle creates by what the memory holds of them, and send the rest anew."""
        await self._asked(self.check.pass_once)
        found = await self._look_up(batches)
        for batch in batches:
            settlement = self.settler.adopted(batch, found)
            stored = {entry.key: memory_record_id for entry, memory_record_id in settlement.stored}
            await self._settle(settlement, BatchResult(stored))
            for follow_up in settlement.follow_ups:
                await self.deliver(follow_up)

    async def _look_up(self, batches: Sequence[Batch]) -> Mapping[RecordKey, KnownRecord]:
        """What the memory holds of `batches`: a record is absent if two readings agree on that, late enough.

        Late enough: when everything that was ever sent of it must show.
        """
        with telling(self.observe, Wait("write", "late_writes")):
            await self.lease.wait_for_unheard(self.now, self.settle_s)
        entries = [entry for batch in batches for entry in batch.entries]
        saved_after = min(batch.saved_at for batch in batches)
        earlier: AbstractSet[RecordKey] | None = None
        for _ in range(READS_MAX):
            found = await self._asked(partial(self.destination.find, entries, saved_after=saved_after))
            if len(found) == len(entries) or found.keys() == earlier:
                return found
            earlier = found.keys()
            await self._pause(min(READ_AGAIN_S, self.settle_s))
        raise FatalError(
            f"The memory's listing showed something else each of {READS_MAX} times, so it is not known which of"
            f" {len(entries)} records are stored. Their batches stay in the outbox; run again later.",
            code="unsettled_listing",
        )

    async def _asked(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `ask` returns; it is called again if the memory cannot be reached for a while."""
        for failures in range(1, self.attempts_max):
            with suppress(RetryableError):
                return await ask()
            await self._pause(self.pacer.backoff_s(failures))
        return await ask()

    async def _pause(self, seconds: float) -> None:
        with telling(self.observe, Wait("write", "backoff", seconds=seconds)):
            await sleep(seconds)

    async def _deliver_one(
        self, batch: Batch, believes_throttles_until: float, *, was_sent: bool
    ) -> list[tuple[Batch, float]]:
        """Settle `batch`; return what follows from it, and how many seconds that should wait at least."""
        try:
            async with self.under_way:
                result = await self._send_until_clear(batch, was_sent=was_sent)
        except BatchRefused as refusal:
            settlement = self.settler.refused(batch, refusal)
            result = BatchResult({})
        else:
            if self.clock() > believes_throttles_until:
                result = replace(result, failed=[replace(failure, is_throttle=False) for failure in result.failed])
            settlement = self.settler.answered(batch, result, await self._lost(batch, result))
        await self._settle(settlement, result)
        wait_s = 0.0
        if any(failure.is_throttle for failure in result.failed):
            wait_s = self.pacer.pause_s()
        if any(failure.code == NOT_FOUND for failure in result.failed):
            wait_s = self.young_record_s
        return [(follow_up, wait_s) for follow_up in settlement.follow_ups]

    async def _lost(self, batch: Batch, result: BatchResult) -> set[RecordKey]:
        """The records that failed to be updated because the memory has them no more.

        An update does not find a record that is younger than some 10 s either, and one that was created a moment ago
        may not even be found by its id: so only what was not found twice, some time apart, is asked for.
        """
        entries = {entry.key: entry for entry in batch.entries}
        lost = set()
        for failure in result.failed:
            entry = entries[failure.key]
            if failure.code == NOT_FOUND and entry.memory_record_id is not None and entry.attempts:
                with suppress(RetryableError):  # nobody knows: then it counts as young
                    if await self.destination.get(entry.memory_record_id) is None:
                        lost.add(entry.key)
        return lost

    async def _send_until_clear(self, batch: Batch, *, was_sent: bool) -> BatchResult:
        """The same bytes with the same token, until the answer tells the outcome of every record."""
        for _ in range(UNCLEAR_ANSWERS_MAX):
            result = await self._send_until_answered(batch, was_sent=was_sent)
            if not result.unknown:
                return result
            was_sent = True
        raise FatalError(
            f"The memory answered batch {batch.client_token} ({len(batch.entries)} {batch.operation.value}s)"
            f" {UNCLEAR_ANSWERS_MAX} times without saying what became of {len(result.unknown)} of its records. The"
            " batch stays in the outbox; run again later, and the memory is asked what it holds.",
            code="incomplete_answer",
        )

    async def _send_until_answered(self, batch: Batch, *, was_sent: bool) -> BatchResult:
        failures = 0
        turn = self.pacer.turn(batch.operation)
        while True:
            with telling(self.observe, Wait("write", "pacer", seconds=turn.closed_s)):
                await turn.wait()
            try:
                result = await self._send(batch, turn, was_sent=was_sent or failures > 0)
            except RetryableError as error:
                if error.is_throttle:
                    turn.throttled(error.retry_after_s)
                    continue
                failures += 1
                if batch.operation is Operation.UPDATE:
                    self.lease.note_unheard(self.now())
                if failures >= self.attempts_max:
                    raise FatalError(
                        f"{error} The memory did not take batch {batch.client_token} ({len(batch.entries)}"
                        f" {batch.operation.value}{'s' if len(batch.entries) > 1 else ''}) in {failures} attempts; it"
                        " stays in the outbox. Run again once the memory can be reached. If it is this batch alone that"
                        " fails in every run, `memsync verify --repair` gives it up and plans its documents anew.",
                        code=error.code,
                    ) from error
                await self._pause(error.retry_after_s or self.pacer.backoff_s(failures))
            else:
                if any(failure.is_throttle for failure in result.failed):
                    turn.taken_in_part()
                else:
                    turn.taken()
                return result

    async def _send(self, batch: Batch, turn: Turn, *, was_sent: bool) -> BatchResult:
        """One attempt, told to the observers."""
        await self.check.pass_once()
        self.lease.check(self.now())
        if was_sent and self._is_too_old(batch):
            raise FatalError(
                f"The outcome of batch {batch.client_token} ({len(batch.entries)} creates) stayed unknown for longer"
                " than its token can be trusted. It stays in the outbox; the next run looks up what the memory holds"
                " of it.",
                code="token_too_old",
            )
        started = self.clock()

        def tell(answer: BatchResult | DestinationError) -> None:
            outcome: RequestOutcome
            match answer:
                case BatchResult():
                    outcome = "ok"
                case RetryableError():
                    outcome = "throttled" if answer.is_throttle else "retryable"
                case BatchRefused():
                    outcome = "refused"
                case _:
                    outcome = "fatal"
            self.observe(
                RequestSent(
                    batch.operation,
                    records=len(batch.entries),
                    body_bytes=len(batch.body),
                    duration_s=self.clock() - started,
                    outcome=outcome,
                    code=answer.code if isinstance(answer, DestinationError) else None,
                    http_status=answer.http_status,
                    request_id=answer.request_id,
                    allowed_per_s=turn.allowed_per_s,
                )
            )

        try:
            with telling(self.observe, Wait("write", "service")):
                result = await self.destination.write(batch)
        except DestinationError as error:
            tell(error)
            raise
        tell(result)
        return result

    async def _settle(self, settlement: Settlement, result: BatchResult) -> None:
        if settlement.batch.operation is Operation.UPDATE:
            settlement = replace(settlement, unheard_at=self.lease.unheard_at)
        # Once the memory has answered, a cancelled run still writes down what it said.
        with CancelScope(shield=True):
            await self.dead_letters.append(settlement.letters)
            await self.state.settle(settlement)
        batch = settlement.batch
        self.observe(
            BatchSettled(
                batch.client_token,
                batch.operation,
                succeeded=len(result.succeeded),
                dead_lettered=len(settlement.letters),
                sent_again=sum(len(follow_up.entries) for follow_up in settlement.follow_ups),
            )
        )
        counted_as = {entry.document: entry.counted_as for entry in batch.entries}
        for letter in settlement.letters:
            outcome = counted_as[letter.document_id]
            self.observe(DeadLettered(letter.document_id, letter.stage, letter.code, letter.message, outcome))


def _failures(batch: Batch) -> int:
    return max(entry.attempts for entry in batch.entries)


async def write_batches(batches: MemoryObjectReceiveStream[Batch], *, delivery: Delivery, writers: int) -> None:
    """Deliver batches, several side by side."""

    async def write() -> None:
        async for batch in batches:
            await delivery.deliver(batch)

    async with batches, create_task_group() as tasks:
        for _ in range(writers):
            tasks.start_soon(write)
