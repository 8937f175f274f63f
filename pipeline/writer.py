"""Batches are sent until each is settled: retried, narrowed, recorded."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from anyio import CancelScope, sleep
from anyio.streams.memory import MemoryObjectReceiveStream

from pipeline.errors import BatchRefused, DestinationError, FatalError, RetryableError
from pipeline.events import BatchSettled, DeadLettered, Observer, RequestOutcome, RequestSent
from pipeline.model import Batch, BatchResult, DocumentId, MemoryRecordId, Operation, RecordKey, Settlement
from pipeline.pacing import Pacer
from pipeline.protocols import DeadLetterFile, Destination, StateStore
from pipeline.settling import NOT_FOUND, Settler

# How long a service can be trusted to recognise a token. Not documented; past it, what was created is looked up.
TOKEN_TRUST_S = 600.0

# How long a record can be too young to be updated: 10 s were seen.
YOUNG_RECORD_S = 12.0

UNCLEAR_ANSWERS_MAX = 3  # that leave out records before the batch is left for the next run to look up


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sends batches and settles them. Safe to interrupt anywhere: what is not settled stays in the outbox.

    `attempts_max` bounds the tries of one request whose outcome stays unknown; throttling does not count.
    """

    destination: Destination
    state: StateStore
    dead_letters: DeadLetterFile
    settler: Settler
    pacer: Pacer
    attempts_max: int
    clock: Callable[[], float]
    now: Callable[[], float]
    observe: Observer

    async def deliver(self, batch: Batch) -> None:
        """Send `batch`, and whatever follows from it, until all is settled.

        Raises:
            FatalError: the memory cannot be reached or does not let us in; the batch stays in the outbox.
        """
        waiting = [(batch, 0.0)]
        while waiting:
            batch, wait_s = waiting.pop()
            failures = max(entry.attempts for entry in batch.entries)
            if failures:
                await sleep(max(wait_s, self.pacer.backoff_s(failures)))
            waiting.extend(await self._deliver_one(batch))

    async def deliver_outbox(self) -> Mapping[DocumentId, set[RecordKey]]:
        """Deliver what an interrupted run left: planning must see what that run wrote.

        Creates that are too old for their token are looked up first and taken over where they are found. Returns
        the records that are stored by this, by document.
        """
        sent: dict[RecordKey, DocumentId] = {}
        for token in await self.state.outbox():
            batch = await self.state.batch(token)
            sent.update((entry.key, entry.document) for entry in batch.entries)
            if batch.operation is Operation.CREATE and self.now() - batch.saved_at > TOKEN_TRUST_S:
                found = await self._look_up(batch)
                settlement = self.settler.adopted(batch, found)
                await self._settle(settlement, BatchResult(found))
                for follow_up in settlement.follow_ups:
                    await self.deliver(follow_up)
            else:
                await self.deliver(batch)
        delivered: dict[DocumentId, set[RecordKey]] = {}
        for key in await self.state.records_by_key(sent):
            delivered.setdefault(sent[key], set()).add(key)
        return delivered

    async def _deliver_one(self, batch: Batch) -> list[tuple[Batch, float]]:
        """Settle `batch`; return what follows from it, and how many seconds that should wait at least."""
        try:
            result = await self._send_until_clear(batch)
        except BatchRefused as refusal:
            settlement = self.settler.refused(batch, refusal)
            result = BatchResult({})
        else:
            result = await self._tell_young_from_lost(batch, result)
            settlement = self.settler.answered(batch, result)
        await self._settle(settlement, result)
        is_young = any(failure.code == NOT_FOUND for failure in result.failed)
        return [(follow_up, YOUNG_RECORD_S if is_young else 0.0) for follow_up in settlement.follow_ups]

    async def _tell_young_from_lost(self, batch: Batch, result: BatchResult) -> BatchResult:
        """An update does not find a record that is younger than some 10 s, nor one that somebody deleted."""
        ids = {entry.key: entry.memory_record_id for entry in batch.entries}
        failed = []
        for failure in result.failed:
            memory_record_id = ids[failure.key]
            if failure.code == NOT_FOUND and memory_record_id is not None:
                with suppress(RetryableError):  # nobody knows: then it counts as young
                    if not await self.destination.holds(memory_record_id):
                        failure = replace(failure, is_retryable=False)  # noqa: PLW2901
            failed.append(failure)
        return replace(result, failed=failed)

    async def _look_up(self, batch: Batch) -> Mapping[RecordKey, MemoryRecordId]:
        for failures in range(1, self.attempts_max):
            with suppress(RetryableError):
                return await self.destination.find(batch.entries)
            await sleep(self.pacer.backoff_s(failures))
        return await self.destination.find(batch.entries)

    async def _send_until_clear(self, batch: Batch) -> BatchResult:
        """The same bytes with the same token, until the answer tells the outcome of every record."""
        for _ in range(UNCLEAR_ANSWERS_MAX):
            result = await self._send_until_answered(batch)
            if not result.unknown:
                return result
        raise FatalError(
            f"The memory answered batch {batch.client_token} ({len(batch.entries)} {batch.operation.value}s)"
            f" {UNCLEAR_ANSWERS_MAX} times without saying what became of {len(result.unknown)} of its records. The"
            " batch stays in the outbox; run again later, and the memory is asked what it holds.",
            code="incomplete_answer",
        )

    async def _send_until_answered(self, batch: Batch) -> BatchResult:
        failures = 0
        while True:
            await self.pacer.wait(batch.operation)
            if failures and batch.operation is Operation.CREATE and self.now() - batch.saved_at > TOKEN_TRUST_S:
                raise FatalError(
                    f"The outcome of batch {batch.client_token} ({len(batch.entries)} creates) stayed unknown for"
                    " longer than its token can be trusted. It stays in the outbox; the next run looks up what the"
                    " memory holds of it.",
                    code="token_too_old",
                )
            try:
                result = await self._send(batch)
            except RetryableError as error:
                if error.is_throttle:
                    self.pacer.throttled(batch.operation, error.retry_after_s)
                    continue
                failures += 1
                if failures >= self.attempts_max:
                    raise FatalError(
                        f"{error} The memory did not take batch {batch.client_token} ({len(batch.entries)}"
                        f" {batch.operation.value}s) in {failures} attempts; it stays in the outbox. Run again once the"
                        " memory can be reached.",
                        code=error.code,
                    ) from error
                await sleep(error.retry_after_s or self.pacer.backoff_s(failures))
            else:
                self.pacer.accepted(batch.operation)
                return result

    async def _send(self, batch: Batch) -> BatchResult:
        """One attempt, told to the observers."""
        started = self.clock()

        def tell(error: DestinationError | None) -> None:
            outcome: RequestOutcome
            match error:
                case None:
                    outcome = "ok"
                case RetryableError():
                    outcome = "throttled" if error.is_throttle else "retryable"
                case BatchRefused():
                    outcome = "refused"
                case _:
                    outcome = "fatal"
            code = error.code if error else None
            duration_s = self.clock() - started
            self.observe(RequestSent(batch.operation, len(batch.entries), len(batch.body), duration_s, outcome, code))

        try:
            result = await self.destination.write(batch)
        except DestinationError as error:
            tell(error)
            raise
        tell(None)
        return result

    async def _settle(self, settlement: Settlement, result: BatchResult) -> None:
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


async def write_batches(batches: MemoryObjectReceiveStream[Batch], *, delivery: Delivery) -> None:
    """Deliver batches, one at a time; several of these run side by side."""
    async with batches:
        async for batch in batches:
            await delivery.deliver(batch)
