"""What a run changes in the texts of records, for its report: those that the memory had beside those it has now.

An old text is asked for before its batch is saved, and so before the first byte of it leaves. Whatever becomes of the
batch then, sent twice, split or answered late, what was read is what was replaced. A moment before the request would be
too late: a run that has looked at its lease must not wait any more. And what is shown is what the ledger has settled.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from anyio import CancelScope, Semaphore, create_task_group, current_time

from pipeline.errors import DestinationError, FatalError
from pipeline.model import (
    Batch,
    Checkpoint,
    ClientToken,
    DocumentId,
    DocumentPlan,
    DocumentState,
    Entry,
    Operation,
    RecordKey,
    Settlement,
)
from pipeline.plan_diff import (
    LINES_PER_DOCUMENT_MAX,
    RECORDS_PER_DOCUMENT_MAX,
    DocumentDiff,
    RecordDiff,
    diff_lines,
)
from pipeline.protocols import Destination, StateStore

READING_S_MAX = 10.0  # by which a run may be held up, in all
READ_AT_ONCE = 8  # a memory that takes 0.4 s to answer then gives the 20 records a second that it allows

NOT_IN_TIME = "(the old text was not read: the memory takes too long to show its records)"
GONE_BEFORE = "(the memory did not have this record any more)"


@dataclass(frozen=True, slots=True)
class _Shown:
    """How one record changes, as far as that is shown. `order` is its place in the document."""

    diff: RecordDiff
    order: float
    lines_left_out: int


@dataclass(slots=True)
class _Document:
    """What is `foreseen` of a record is `done` once it is settled. `room` is how many lines more may be shown."""

    outcome: str
    room: int = LINES_PER_DOCUMENT_MAX
    records: int = 0
    foreseen: dict[RecordKey, _Shown] = field(default_factory=dict)
    done: list[_Shown] = field(default_factory=list)
    records_left_out: int = 0

    @property
    def has_room(self) -> bool:
        return self.room > 0 and self.records < RECORDS_PER_DOCUMENT_MAX

    def foresee(self, operation: Operation, entry: Entry, lines: Sequence[str]) -> None:
        shown = lines[: self.room]
        self.room -= len(shown)
        self.records += 1
        self.foreseen[entry.key] = _Shown(RecordDiff(operation, entry.key, shown), entry.order, len(lines) - len(shown))

    def settle(self, key: RecordKey) -> None:
        if (shown := self.foreseen.pop(key, None)) is not None:
            self.done.append(shown)
        else:
            self.records_left_out += 1

    def fail(self, key: RecordKey) -> None:
        self.outcome = "failed"
        self.foreseen.pop(key, None)

    def told(self, name: DocumentId) -> DocumentDiff:
        in_order = sorted(self.done, key=lambda shown: shown.order)
        return DocumentDiff(
            name,
            self.outcome,
            [shown.diff for shown in in_order],
            self.records_left_out,
            sum(shown.lines_left_out for shown in in_order),
        )


@dataclass(frozen=True, slots=True)
class _Change:
    """A change that is about to be saved. `text` is the new one, none for a deletion."""

    operation: Operation
    entry: Entry
    text: str


@dataclass(slots=True)
class RunDiff:
    """Keeps how a run changes the first `documents_max` documents that it writes records of, within a plan's bounds.

    It never fails a run, and holds it up by `READING_S_MAX` at the most: what could not be read is told so. That a
    record lives on for longer is no change.
    """

    documents_max: int
    _documents: dict[DocumentId, _Document] = field(default_factory=dict)
    _batches: set[ClientToken] = field(default_factory=set)  # that this run has saved and not settled
    _has_more: bool = False
    _records_of_earlier_run: int = 0
    _problem: str | None = None
    _reading_s_left: float = READING_S_MAX
    _given_up: str | None = None  # what is shown of texts that are not asked for any more

    def watch(self, state: StateStore, memory: Destination) -> StateStore:
        """Return `state` as one that lets this know what is saved and settled; old texts come from `memory`."""
        return cast("StateStore", _WatchedState(state, memory, self))

    def as_json(self) -> dict[str, Any]:
        """What is settled so far; its `documents` are like those of a plan."""
        told = [document.told(name) for name, document in self._documents.items()]
        return {
            "documents": [asdict(document) for document in told if document.records or document.records_left_out],
            "has_more": self._has_more,
            "records_of_earlier_run": self._records_of_earlier_run,
            "problem": self._problem,
        }

    # ---------------------------------------------------------------------------------------- before it is saved

    async def foresee(self, batches: Sequence[Batch], state: StateStore, memory: Destination) -> None:
        """Find out how `batches`, which are about to be saved, will change texts."""
        self._batches.update(batch.client_token for batch in batches)
        try:
            await self._compare(await self._wanted(batches, state, memory), memory)
        except Exception as error:  # whatever it is, the run is more important
            self._note_problem(f"Unexpected {type(error).__name__}: a fault of memsync. Please report it.")

    async def _wanted(
        self, batches: Sequence[Batch], state: StateStore, memory: Destination
    ) -> Mapping[DocumentId, Sequence[_Change]]:
        """The changes in `batches` that may be shown, by document."""
        removed = await self._removed(batches, state)
        wanted: dict[DocumentId, list[_Change]] = {}
        for batch in batches:
            are_shown = [self._is_shown(entry, removed) for entry in batch.entries]
            if any(are_shown):  # else there is no need to take it apart
                for entry, member, is_shown in zip(batch.entries, memory.members(batch), are_shown, strict=True):
                    if is_shown:
                        text = "" if batch.operation is Operation.DELETE else memory.content_of(member).text
                        wanted.setdefault(entry.document, []).append(_Change(batch.operation, entry, text))
        return wanted

    async def _removed(self, batches: Sequence[Batch], state: StateStore) -> Collection[DocumentId]:
        """The documents, of those that `batches` may bring in here by a deletion, which the ledger has no more."""
        room = self.documents_max - len(self._documents)
        if not room:
            return ()
        deletes = [batch for batch in batches if batch.operation is Operation.DELETE]
        new = {entry.document: None for batch in deletes for entry in batch.entries}.keys() - self._documents.keys()
        return new - (await state.documents(new)).keys() if new else ()

    def _is_shown(self, entry: Entry, removed: Collection[DocumentId]) -> bool:
        if _is_renewal(entry):
            return False
        if entry.document not in self._documents:
            if len(self._documents) == self.documents_max:
                return False
            outcome = "removed" if entry.document in removed else entry.counted_as or "changed"
            self._documents[entry.document] = _Document(outcome)
        return self._documents[entry.document].has_room

    async def _compare(self, wanted: Mapping[DocumentId, Sequence[_Change]], memory: Destination) -> None:
        """Compare the texts of `wanted`, of several documents side by side, for as long as there is time."""
        slots = Semaphore(READ_AT_ONCE)
        if wanted and self._given_up is None:
            began = current_time()
            with CancelScope(deadline=began + self._reading_s_left) as asking:
                async with create_task_group() as tasks:
                    for name, changes in wanted.items():
                        tasks.start_soon(self._compare_document, self._documents[name], changes, memory, slots)
            self._reading_s_left -= current_time() - began
            if asking.cancelled_caught:
                self._given_up = NOT_IN_TIME
        for name, changes in wanted.items():  # those that were not come to; nothing is asked for them
            await self._compare_document(self._documents[name], changes, memory, slots)

    async def _compare_document(
        self, document: _Document, changes: Sequence[_Change], memory: Destination, slots: Semaphore
    ) -> None:
        """One record after the other: nobody would see those behind the last line that is shown."""
        for change in changes:
            if not document.has_room:
                return
            if change.entry.key not in document.foreseen:
                async with slots:
                    lines = await self._lines_of(change, memory)
                document.foresee(change.operation, change.entry, lines)

    async def _lines_of(self, change: _Change, memory: Destination) -> list[str]:
        if change.operation is Operation.CREATE:
            return list(diff_lines("", change.text))
        if self._given_up is not None:
            return [f" {self._given_up}"]
        assert change.entry.memory_record_id is not None, "only a create has none"
        try:
            record = await memory.get(change.entry.memory_record_id)
        except DestinationError as error:
            self._note_problem(str(error))
            not_read = f"(the old text could not be read: {error.code})"
            if isinstance(error, FatalError):
                self._given_up = not_read
            return [f" {not_read}"]
        if record is None and change.operation is Operation.DELETE:
            return [f" {GONE_BEFORE}"]
        return list(diff_lines("" if record is None else record.text, change.text))

    def _note_problem(self, problem: str) -> None:
        self._problem = self._problem or problem

    # ----------------------------------------------------------------------------------------- once it is settled

    def settle(self, settlement: Settlement) -> None:
        """Show what has become of a batch, now that it is settled."""
        done = [*(entry for entry, _ in settlement.stored), *settlement.deleted]
        if settlement.batch.client_token not in self._batches:
            self._records_of_earlier_run += len(done)
            return
        self._batches.remove(settlement.batch.client_token)
        self._batches.update(batch.client_token for batch in settlement.follow_ups)
        for entry in done:
            if document := self._documents.get(entry.document):
                document.settle(entry.key)
            elif not _is_renewal(entry):
                self._has_more = True
        for letter in settlement.letters:
            if letter.key is not None and (document := self._documents.get(letter.document_id)):
                document.fail(letter.key)


def _is_renewal(entry: Entry) -> bool:
    """Whether the record says already what it should, and would lapse: of its document, nothing else is new."""
    return entry.counted_as == "unchanged"


class _WatchedState:
    """A state store that lets a `RunDiff` know what is saved and settled; all else is that of the store itself."""

    def __init__(self, state: StateStore, memory: Destination, diff: RunDiff) -> None:
        self._state = state
        self._memory = memory
        self._diff = diff

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    async def save(
        self,
        batches: Sequence[Batch],
        plans: Sequence[DocumentPlan],
        checkpoint: Checkpoint | None = None,
        *,
        begun: Sequence[DocumentState] = (),
    ) -> None:
        await self._diff.foresee(batches, self._state, self._memory)
        await self._state.save(batches, plans, checkpoint, begun=begun)

    async def settle(self, settlement: Settlement) -> None:
        await self._state.settle(settlement)
        self._diff.settle(settlement)
