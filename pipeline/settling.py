"""What an answer means: which records are stored, which are given up on, which are sent again. Pure computation."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.batcher import new_batch
from pipeline.errors import BatchRefused
from pipeline.letters import record_letter_id
from pipeline.model import (
    Batch,
    BatchResult,
    ClientToken,
    DeadLetter,
    Entry,
    FailedRecord,
    KnownRecord,
    Operation,
    RecordKey,
    Settlement,
)
from pipeline.protocols import Destination

NOT_FOUND = "404"
# Only what was not found twice is asked for, and created anew if it is gone: see `Delivery`.
NOT_FOUND_ATTEMPTS_MIN = 2
MESSAGE_CHARACTERS_MAX = 500  # of the service's own words in a dead letter


@dataclass(frozen=True, slots=True)
class Settler:
    """`record_attempts_max` is how often one record may fail in a way that might heal before it is given up on; an
    update that finds no record, twice at least.
    """

    source: str
    run_id: str
    destination: Destination
    record_attempts_max: int
    new_token: Callable[[], ClientToken]
    now: Callable[[], float]

    def answered(self, batch: Batch, result: BatchResult, lost_keys: Collection[RecordKey] = ()) -> Settlement:
        """Settle a batch by its answer. Nothing in it may be unknown.

        `lost_keys` are updates that failed since the memory has no such record: they become creates.
        """
        assert not result.unknown
        entries = {entry.key: entry for entry in batch.entries}
        members = dict(zip(entries, self.destination.members(batch), strict=True)) if result.failed else {}
        letters, again, lost = [], [], []
        for failure in result.failed:
            entry = entries[failure.key]
            entry = entry._replace(attempts=entry.attempts + (not failure.is_throttle))
            if entry.key in lost_keys:
                lost.append(entry)
            elif failure.is_throttle or (failure.is_retryable and entry.attempts < self._attempts_max(failure)):
                again.append(entry)
            else:
                letters.append(self._letter(batch, entry, members[entry.key], failure))
        done = [(entries[key], memory_record_id) for key, memory_record_id in result.succeeded.items()]
        is_delete = batch.operation is Operation.DELETE
        return Settlement(
            batch,
            stored=() if is_delete else tuple(done),
            deleted=tuple(entry for entry, _ in done) if is_delete else (),
            lost=tuple(lost),
            letters=tuple(letters),
            follow_ups=(*self._again(batch, [again], members), *self._anew(lost, members)),
        )

    def _attempts_max(self, failure: FailedRecord) -> int:
        return max(self.record_attempts_max, NOT_FOUND_ATTEMPTS_MIN if failure.code == NOT_FOUND else 0)

    def refused(self, batch: Batch, refusal: BatchRefused) -> Settlement:
        """Narrow a refused batch: those whom the service named go alone, the others together; else it is halved.

        A named record is given up on only once it was refused alone: how the service counts is not documented, and
        a wrong guess would cost an innocent one.
        """
        members = dict(zip((entry.key for entry in batch.entries), self.destination.members(batch), strict=True))
        if len(batch.entries) == 1:
            entry = batch.entries[0]._replace(attempts=batch.entries[0].attempts + 1)
            failure = FailedRecord(entry.key, refusal.code, str(refusal), is_retryable=False)
            return Settlement(batch, letters=(self._letter(batch, entry, members[entry.key], failure),))
        named = [[entry] for index, entry in enumerate(batch.entries) if index in refusal.culprits]
        others = [entry for index, entry in enumerate(batch.entries) if index not in refusal.culprits]
        middle = len(others) // 2
        parts = [*named, others] if named else [others[:middle], others[middle:]]
        return Settlement(batch, follow_ups=self._again(batch, parts, members))

    def adopted(self, batch: Batch, found: Mapping[RecordKey, KnownRecord]) -> Settlement:
        """Settle creates by what the memory was seen to hold: that is taken over, the rest is sent anew."""
        stored = tuple(
            (_as_found(entry, there), there.memory_record_id)
            for entry in batch.entries
            if (there := found.get(entry.key)) is not None
        )
        missing = [entry for entry in batch.entries if entry.key not in found]
        members = dict(zip((entry.key for entry in batch.entries), self.destination.members(batch), strict=True))
        return Settlement(batch, stored=stored, follow_ups=self._again(batch, [missing], members))

    def _again(
        self, batch: Batch, parts: Sequence[Sequence[Entry]], members: Mapping[RecordKey, bytes]
    ) -> tuple[Batch, ...]:
        """Batches for what is sent again: other bytes, so a token of their own."""
        return tuple(
            new_batch(
                self.destination,
                batch.operation,
                entries,
                [members[entry.key] for entry in entries],
                self.new_token(),
                self.now(),
            )
            for entries in parts
            if entries
        )

    def _anew(self, lost: Sequence[Entry], members: Mapping[RecordKey, bytes]) -> tuple[Batch, ...]:
        """A batch that creates what was to be updated and is not there."""
        if not lost:
            return ()
        # What shall have no expiry any more has none when it is created and nothing is said.
        entries = [
            entry._replace(memory_record_id=None, replaces=None, expiry_days=entry.expiry_days or None)
            for entry in lost
        ]
        created = [self.destination.encode_lost(entry, members[entry.key]) for entry in entries]
        return (new_batch(self.destination, Operation.CREATE, entries, created, self.new_token(), self.now()),)

    def _letter(self, batch: Batch, entry: Entry, member: bytes, failure: FailedRecord) -> DeadLetter:
        now = self.now()
        version = entry.edited_from or entry.digest
        return DeadLetter(
            id=record_letter_id(entry.key, version),
            source=self.source,
            document_id=entry.document,
            stage="write",
            code=failure.code,
            message=failure.message[:MESSAGE_CHARACTERS_MAX],
            attempts=entry.attempts,
            first_failed_at=now,
            last_failed_at=now,
            run_id=self.run_id,
            key=entry.key,
            digest=version,
            operation=batch.operation,
            record=member,
            client_token=batch.client_token,
            is_retryable=failure.is_retryable,
            is_edited=entry.edited_from is not None,
        )


def _as_found(entry: Entry, there: KnownRecord) -> Entry:
    """`entry` as the memory holds it, which may be another version than the one that was to be sent."""
    edited_from = entry.edited_from if there.digest == entry.digest else None
    return entry._replace(digest=there.digest, order=there.order, edited_from=edited_from)
