"""Changes become batches: full requests of one operation, saved before they are sent."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from anyio import CancelScope, EndOfStream, current_time
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.expiry import said_of_update
from pipeline.model import (
    Batch,
    Change,
    Checkpoint,
    ClientToken,
    Create,
    Delete,
    DocumentId,
    DocumentOutcome,
    DocumentPlan,
    DocumentState,
    Entry,
    Operation,
    Update,
)
from pipeline.protocols import DeadLetterFile, Destination, StateStore

# The requests that go together: of one operation, and what they say of the expiry of their records.
_Kind = tuple[Operation, int | None]
Keep = Callable[[list[DocumentPlan | Checkpoint]], Awaitable[list[DocumentPlan | Checkpoint]]]


@dataclass(slots=True, eq=False)
class _OpenPlan:
    """A plan whose changes are not all in batches yet."""

    plan: DocumentPlan
    waiting: int


@dataclass(slots=True)
class Batcher:
    """Fills requests up to the destination's limits in records and bytes. Pure: it neither saves nor sends.

    All records of a request are to lapse after the same time: `expiry_days`; None: never.

    A plan is finished once all its changes, and those of all plans before it, are in batches: whoever saves the
    batches records it with them. The order matters for a file of parts: it may be remembered as read only after them.
    """

    destination: Destination
    new_token: Callable[[], ClientToken]
    now: Callable[[], float]
    expiry_days: int | None = None
    _queues: dict[_Kind, list[tuple[Entry, bytes, _OpenPlan]]] = field(
        default_factory=lambda: {(operation, None): [] for operation in Operation}
    )
    _bytes: dict[_Kind, int] = field(default_factory=dict)
    _plans: deque[_OpenPlan] = field(default_factory=deque)  # not taken yet, oldest first
    _open: set[DocumentId] = field(default_factory=set)  # the documents that these are of

    @property
    def is_empty(self) -> bool:
        return not self._plans

    def add(self, plan: DocumentPlan) -> list[Batch]:
        """Take in `plan`; return the batches that are full now."""
        full = []
        if plan.state:
            if plan.state.id in self._open:
                return []  # listed twice
            self._open.add(plan.state.id)
        slot = _OpenPlan(plan, len(plan.changes))
        self._plans.append(slot)
        for change in plan.changes:
            operation, entry = _entry(change, plan.outcome, self.expiry_days)
            kind = operation, entry.expiry_days
            member = self.destination.encode(change)
            queue = self._queues.setdefault(kind, [])
            if queue and self._bytes[kind] + len(member) + 1 > self.destination.request_bytes_max:
                full.append(self._cut(kind))
                queue = self._queues[kind]
            queue.append((entry, member, slot))
            self._bytes[kind] = self._bytes.get(kind, 0) + len(member) + 1  # and its comma
            if len(queue) == self.destination.records_per_batch_max:
                full.append(self._cut(kind))
        return full

    def flush(self) -> list[Batch]:
        """Return what waits, in batches that are not full."""
        return [self._cut(kind) for kind, queue in self._queues.items() if queue]

    def take_finished(self) -> list[DocumentPlan]:
        """Return, once, the plans that are finished, in the order in which they came."""
        finished = []
        while self._plans and self._plans[0].waiting == 0:
            plan = self._plans.popleft().plan
            if plan.state:
                self._open.remove(plan.state.id)
            finished.append(plan)
        return finished

    def begun(self) -> list[DocumentState]:
        """The documents some of whose changes are in batches that were returned, and some are not."""
        return [slot.plan.state for slot in self._plans if slot.plan.state and slot.waiting < len(slot.plan.changes)]

    def _cut(self, kind: _Kind) -> Batch:
        queue, self._queues[kind], self._bytes[kind] = self._queues[kind], [], 0
        for _, _, slot in queue:
            slot.waiting -= 1
        entries = tuple(entry for entry, _, _ in queue)
        members = [member for _, member, _ in queue]
        return new_batch(self.destination, kind[0], entries, members, self.new_token(), self.now())


def new_batch(
    destination: Destination,
    operation: Operation,
    entries: Sequence[Entry],
    members: Sequence[bytes],
    token: ClientToken,
    now: float,
) -> Batch:
    body = destination.encode_request(operation, members, token, entries[0].expiry_days)
    return Batch(token, operation, tuple(entries), body, saved_at=now)


def _entry(change: Change, outcome: DocumentOutcome | None, expiry_days: int | None) -> tuple[Operation, Entry]:
    match change:
        case Create(record):
            return Operation.CREATE, Entry(
                record.key,
                record.document,
                record.namespace,
                record.digest,
                record.order,
                edited_from=record.edited_from,
                expiry_days=expiry_days,
                counted_as=outcome,
            )
        case Update(known, record):
            return Operation.UPDATE, Entry(
                record.key,
                record.document,
                record.namespace,
                record.digest,
                record.order,
                memory_record_id=known.memory_record_id,
                replaces=known.key,
                edited_from=record.edited_from,
                expiry_days=said_of_update(known, expiry_days),
                counted_as=outcome,
            )
        case Delete(known):
            return Operation.DELETE, Entry(
                known.key,
                known.document,
                known.namespace,
                known.digest,
                known.order,
                memory_record_id=known.memory_record_id,
            )


async def make_batches(
    planned: MemoryObjectReceiveStream[list[DocumentPlan | Checkpoint]],
    batches: MemoryObjectSendStream[Batch],
    *,
    batcher: Batcher,
    state: StateStore,
    dead_letters: DeadLetterFile,
    saved_together_max: int,
    linger_s: float,
    keep: Keep | None = None,
) -> None:
    """Group changes into batches and save them before they go on to be sent; with `keep`, only what it returns.

    Up to `saved_together_max` batches that become full at the same time are saved in one go, which takes hardly longer
    than saving one. A batch that is not full leaves `linger_s` seconds after its first change came, so that a slow
    source's changes do not wait for its next ones.
    """

    async def ship(full: Sequence[Batch], checkpoint: Checkpoint | None = None) -> None:
        plans = batcher.take_finished()
        await dead_letters.append([letter for plan in plans for letter in plan.letters])
        if full or plans or checkpoint:
            await state.save(full, plans, checkpoint, begun=batcher.begun())
        for batch in full:
            await batches.send(batch)

    async with planned, batches:
        deadline = float("inf")
        while True:
            with CancelScope(deadline=deadline) as waiting:
                try:
                    plans = await planned.receive()
                except EndOfStream:
                    break
            if waiting.cancelled_caught:
                await ship(batcher.flush())
                deadline = float("inf")
                continue
            full: list[Batch] = []
            for plan in await keep(plans) if keep else plans:
                if isinstance(plan, Checkpoint):
                    await ship(full + batcher.flush(), plan)
                    full = []
                    continue
                full += batcher.add(plan)
                if len(full) >= saved_together_max:
                    await ship(full)
                    full = []
            if full:
                await ship(full)
            deadline = min(deadline, current_time() + linger_s) if not batcher.is_empty else float("inf")
        await ship(batcher.flush())
