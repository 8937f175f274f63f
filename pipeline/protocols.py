"""What can be swapped: where documents come from, how they are read, where records go, where the ledger is."""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from pipeline.expiry import NOTHING_EXPIRES, Renewal, RenewalPlace
from pipeline.model import (
    Batch,
    BatchResult,
    Call,
    Change,
    Checkpoint,
    ClientToken,
    DeadLetter,
    Document,
    DocumentId,
    DocumentPlan,
    DocumentRef,
    DocumentState,
    Entry,
    Fetched,
    Fingerprint,
    FoundRecord,
    KnownDocument,
    KnownRecord,
    LastRun,
    MemoryRecord,
    MemoryRecordId,
    Operation,
    Parsed,
    PastRun,
    Planned,
    PlanUse,
    RecordContent,
    RecordKey,
    RecordPlace,
    Settlement,
    SourceEvent,
    StateCounts,
)

Result = TypeVar("Result")


class SourceConnector(Protocol):
    """Lists and fetches the documents of one source.

    Ids are stable: the same document has the same id in every scan, and no two documents share one.
    """

    def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        """Yield what the source has, in lists of up to a thousand.

        Ends with a `ScanComplete` for every scope that was listed to its end. A source that only tells what is new
        since a `Checkpoint` says `ScanIncremental` instead, `DocumentRemoved` of what is gone, and then the next
        checkpoint. `since` is the last that was stored: all before it is dealt with. It is None whenever everything
        must be listed: at first, after the settings have changed, and after the ledger was repaired.

        Raises:
            SourceError: the source cannot be read at all (a missing root is never an empty one).
        """
        ...

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the content of `ref`, whole and from one moment.

        Raises:
            UnreadableDocument: it could not be read, is too large, or kept changing while it was read.
            DocumentVanished: it is not there any more.
            UnsupportedDocument: it is of a kind that is left out.
            SourceError: the source itself is gone; this must not look like the document's end.
        """
        ...

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the document as the source has it now; None if the source is certain that it has no such document
        (or that the settings leave it out).

        Raises:
            SourceError: the source cannot tell.
        """
        ...


@runtime_checkable
class HoldsConnections(Protocol):
    """A connector that must be closed. Need not be."""

    async def aclose(self) -> None:
        """Let go of all that it holds. Safe to repeat."""
        ...


@runtime_checkable
class ReadsFolder(Protocol):
    """A connector whose documents are files below a folder of this machine, where a run may write, too."""

    @property
    def root(self) -> Path:
        """That folder."""
        ...

    def leave_out(self, patterns: Sequence[str]) -> None:
        """Take no file that one of these stands for, in the language of .gitignore, from `root`, for a document."""
        ...


@runtime_checkable
class RecognisesRenames(Protocol):
    """A connector that can tell which document a new one may have been before. Need not be.

    Then the records of a document that was renamed are updated where they are, instead of being deleted and created.
    """

    def trace(self, ref: DocumentRef) -> str | None:
        """What a renamed document's fingerprint began with under its former id; None if that cannot be told.

        Wrong guesses do no harm: only what has gone for certain is taken over, and made into what `ref` is now.
        """
        ...


class DocumentReader(Protocol):
    """Fetches documents by nothing but blocking calls, as from a disk. A value that can be pickled."""

    def read(self, ref: DocumentRef) -> Document:
        """Return and raise what `fetch` of its connector does."""
        ...


@runtime_checkable
class HasDocumentReader(Protocol):
    """A connector whose documents can be read where they are parsed: in another thread or process. Need not be."""

    @property
    def document_reader(self) -> DocumentReader: ...


class DocumentParser(Protocol):
    """Turns content into text."""

    def reason_to_skip(self, ref: DocumentRef) -> str | None:
        """Tell from the ref alone why a document has no text to give ("unsupported type .png"), or None."""
        ...

    @property
    def abilities(self) -> str:
        """Names all that can be read. What was left out is tried again once this is another."""
        ...

    def parse(self, document: Document) -> Iterator[Parsed]:
        """Yield the text of `document`: once for most, once for each part of those that have parts.

        Plain computation, run in a thread, or in a process of which the parser is sent a pickled copy.

        Raises:
            UnreadableDocument: broken content.
            UnsupportedDocument: it turned out to be binary.
        """
        ...


class Derive(Protocol):
    """Makes records of documents beside the event loop."""

    async def __call__(self, items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
        """Return what `items` become, in their order, in lists.

        Awaiting the call waits until there is room for `items`. Calls are served in their order: the lists of one
        may come only after those of the calls before it were taken.

        Raises:
            SourceError: the source itself is gone (while the lists are taken).
        """
        ...


class Turn(Protocol):
    """The place of one request in the queue before the memory; it is kept until the request was taken."""

    @property
    def closed_s(self) -> float:
        """For how long nobody is let through yet: a request waits at least that long."""
        ...

    async def wait(self) -> None:
        """Return when the request may be sent."""
        ...

    def taken(self) -> None:
        """The request was answered."""
        ...

    def throttled(self, retry_after_s: float | None = None) -> None:
        """The request was refused for its rate; wait again.

        Raises:
            FatalError: for a long time nothing has been taken.
        """
        ...


class Gate(Protocol):
    """What every request to a memory passes."""

    def turn(self, call: Call) -> Turn:
        """The place in the queue of a request that begins to wait now."""
        ...

    def know(self, limits: Mapping[Call, float]) -> None:
        """Hold these quotas from now on, in requests per second."""
        ...


class Destination(Protocol):
    """A memory that records are written to.

    One attempt a write: its pacing and retrying are the pipeline's. Reads pass the gate by themselves.
    """

    @property
    def records_per_batch_max(self) -> int: ...

    @property
    def request_bytes_max(self) -> int: ...

    def check(self, change: Change) -> str | None:
        """Tell which limit of the destination `change` breaks, in words, or None if it may be sent."""
        ...

    def encode(self, change: Change) -> bytes:
        """Return `change` as a member of a request."""
        ...

    def encode_request(
        self, operation: Operation, members: Sequence[bytes], token: ClientToken, expiry_days: int | None = None
    ) -> bytes:
        """Return the exact body of a request for `members`, which are to lapse after `expiry_days`; `NO_EXPIRY`: never
        any more. None says nothing of it.
        """
        ...

    def members(self, batch: Batch) -> Sequence[bytes]:
        """Return the members of a saved batch, in the order of its entries."""
        ...

    async def write(self, batch: Batch) -> BatchResult:
        """Send `batch.body` once and return the outcome of each of its records.

        Safe to repeat: creates are recognised by their token, and repeating an update or a delete changes nothing.

        Raises:
            RetryableError: the outcome is unknown, or it was throttled. Send the same batch again.
            BatchRefused: invalid as a whole; nothing was done.
            FatalError: sending again will not help.
        """
        ...

    def encode_lost(self, entry: Entry, member: bytes) -> bytes:
        """Return `member`, which updates a record that is not there, as one that creates it."""
        ...

    def content_of(self, member: bytes) -> RecordContent:
        """Return what `member`, which creates or updates a record, says of its text and metadata."""
        ...

    async def get(self, memory_record_id: MemoryRecordId) -> MemoryRecord | None:
        """Return the record of this id, however young; None if there is none.

        Raises:
            RetryableError, FatalError: as for `write`.
        """
        ...

    def list_records(self, *, namespace_path: str) -> AsyncGenerator[Sequence[MemoryRecord], None]:
        """Yield all records below `namespace_path`, in pages. A listing shows a record some time after it was written.

        Raises:
            RetryableError, FatalError: as for `write`.
        """
        ...

    async def find(self, entries: Sequence[Entry], *, saved_after: float) -> Mapping[RecordKey, KnownRecord]:
        """Look up by key which of `entries` the memory holds, and as what. It sees what a listing shows.

        None of them was sent before `saved_after`, in seconds since the epoch.

        Raises:
            RetryableError, FatalError: as for `write`.
        """
        ...


class StateStore(Protocol):
    """The ledger, outbox and dead letters of one source. Every method is one durable transaction.

    Raises:
        StateError: it could not be read or written; nothing of the method's work was done.
        LeaseLost: another store has taken the lease since this one did; nothing was written.
    """

    async def take_lease(self, owner: str, *, has_lock: bool, now: float, ends_at: float) -> float | None:
        """Take the right to write until `ends_at`; only this store can write from now on.

        Returns until when the one before had it, None if there was none. A lease that has not ended is taken over if
        its owner is known to be dead: it held the lock of this machine's operating system, and now we do.

        Raises:
            SourceLocked: somebody has it.
        """
        ...

    async def is_leased(self, *, has_lock: bool, now: float) -> bool:
        """Whether `take_lease` would be refused: a run that may live has the lease."""
        ...

    async def lease_holder(self) -> tuple[str, float] | None:
        """Who has the lease, in words for people, and when it ends; None if nobody has it. It may have ended."""
        ...

    async def renew_lease(self, ends_at: float) -> None: ...

    async def release_lease(self, now: float) -> None:
        """Give the lease back, if this store still has it."""
        ...

    async def is_copy(self) -> bool:
        """Whether this is not the state as its last run left it, but a copy or an older one put in its place.

        Then the memory may hold what the state does not know of.
        """
        ...

    async def put_mark(self) -> None:
        """From now on, this is the state that is not a copy."""
        ...

    async def counts(self) -> StateCounts: ...

    async def last_row(self) -> int:
        """The highest row that a document has been given so far; rows of later documents are higher."""
        ...

    async def documents(self, ids: Collection[DocumentId]) -> Mapping[DocumentId, KnownDocument]: ...

    async def unchanged(
        self, fingerprints: Mapping[DocumentId, Fingerprint | None], recipe: str, renewal: Renewal = NOTHING_EXPIRES
    ) -> Sequence[tuple[DocumentId, int, int]]:
        """Those documents that are known with just this fingerprint and recipe: id, row and number of records.

        None is no fingerprint, and equal to none. Documents of which there is more to say are left out: files of
        parts, those that were skipped, those with dead letters, and those with records to be renewed.
        """
        ...

    async def to_renew(self, documents: Collection[DocumentId], renewal: Renewal) -> Collection[DocumentId]:
        """Those of `documents` that have records to be renewed, or whose parts have.

        Not for what could not be parsed, nor for records of which the ledger is in doubt: these wait for other reasons.
        """
        ...

    async def renew_later(self, documents: Collection[DocumentId], renewal: Renewal) -> None:
        """Put off the turn of the records of `documents`, and of their parts, until what `Renewal.later` says."""
        ...

    async def next_to_renew(
        self, after: RenewalPlace, renewal: Renewal, *, limit: int
    ) -> Sequence[tuple[RenewalPlace, DocumentId]]:
        """Up to `limit` records whose turn to be renewed has come, behind `after`, in order; each with the document to
        be read for it.
        """
        ...

    async def parts(self, origin: DocumentId) -> Sequence[KnownDocument]:
        """The documents that fetching `origin` gave, without `origin` itself."""
        ...

    async def traced(self, traces: Collection[str]) -> Mapping[str, Sequence[tuple[DocumentId, int]]]:
        """The documents, with their rows, whose fingerprints begin with each of `traces`; no parts, and none that was
        skipped."""
        ...

    async def rows_after(self, row: int, *, up_to: int, limit: int) -> Sequence[int]:
        """Up to `limit` rows of documents above `row` and not above `up_to`, ascending."""
        ...

    async def documents_at(self, rows: Sequence[int]) -> Sequence[KnownDocument]:
        """The documents with these rows, by row."""
        ...

    async def known(
        self, documents: Collection[DocumentId], *, records_of: Collection[DocumentId]
    ) -> tuple[Mapping[DocumentId, KnownDocument], Mapping[DocumentId, Sequence[KnownRecord]]]:
        """What `documents` returns, and the records of each of `records_of` in the order of their text, also of
        documents that were removed since."""
        ...

    async def records_after(self, place: RecordPlace, *, limit: int, settled: bool = False) -> Sequence[KnownRecord]:
        """Up to `limit` records behind `place`, in order.

        With `settled`, only those that no batch in the outbox speaks of.
        """
        ...

    async def letters(
        self,
        documents: Collection[DocumentId] | None = None,
        *,
        with_dropped: bool = False,
        with_records: bool = True,
    ) -> Sequence[DeadLetter]:
        """The dead letters of `documents`, or all, oldest first.

        Those that a person has dropped only `with_dropped`. Not `with_records`: to look at many without their texts.
        """
        ...

    async def remove_letters(self, ids: Collection[str]) -> None:
        """Forget letters of which nothing is to be said any more."""
        ...

    async def drop_letters(self, ids: Collection[str], now: float) -> None:
        """Keep letters as dropped by a person at `now`: they count as such, and no run sends them by itself.

        They end as others do: when their document has another version or is gone, or their record is stored after all.
        Documents with dropped records are read by the next run, whatever their fingerprint says.
        """
        ...

    async def checkpoint(self) -> Checkpoint | None: ...

    async def save(
        self,
        batches: Sequence[Batch],
        plans: Sequence[DocumentPlan],
        checkpoint: Checkpoint | None = None,
        *,
        begun: Sequence[DocumentState] = (),
    ) -> None:
        """Put `batches` into the outbox and record `plans`, whose last changes are among them; one plan for a document.

        `begun` have more changes to come. They are noted without a fingerprint, so that their records belong to a
        document, and will be read again if nothing more comes.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Record what the memory confirmed, and replace the batch by its follow-ups."""
        ...

    async def unheard_at(self) -> float:
        """When an update left last whose answer was lost and that was settled since, as its settlement told."""
        ...

    async def outbox(self) -> Sequence[ClientToken]:
        """The tokens of the batches that are saved and not settled, oldest first."""
        ...

    async def batch(self, token: ClientToken) -> Batch: ...

    async def obsolete(self, after: RecordPlace, *, limit: int, despite: Collection[str] = ()) -> Sequence[KnownRecord]:
        """Up to `limit` records that nothing asks for any more, behind `after`, in order.

        Not those of documents with dead letters, other than those whose ids are in `despite`: the old stays until the
        new is stored.
        """
        ...

    async def emptied(self) -> int:
        """How many documents that are still there would lose all their records."""
        ...

    async def remove(self, documents: Collection[DocumentId]) -> None:
        """Forget documents that the source has no more; their records become obsolete, their letters go."""
        ...

    async def rename(self, names: Mapping[DocumentId, DocumentId]) -> None:
        """Give documents other ids, and their parts and records with them; the next run reads them, whatever their
        fingerprint says. No batch in the outbox may speak of them. One whose new ids are taken keeps its old ones.
        """
        ...

    async def records_at(self, places: Collection[RecordPlace]) -> Mapping[RecordKey, KnownRecord]: ...

    async def records_by_key(self, keys: Collection[RecordKey]) -> Mapping[RecordKey, KnownRecord]:
        """The records with these keys, whatever document they are of. Looks through the whole ledger."""
        ...

    async def adopt(
        self, found: Sequence[FoundRecord], surplus: Sequence[FoundRecord], unattributed: Sequence[FoundRecord] = ()
    ) -> None:
        """Take over records that the memory was seen to hold and the ledger does not know.

        Their documents are derived anew by the next run, which keeps what it wants and makes the rest obsolete.
        `surplus` are second copies: they are obsolete at once. `unattributed` are kept as records of no document, with
        no digest, until one claims them.
        """
        ...

    async def discard_outbox(self) -> None:
        """Give up what waits to be sent; its documents are derived anew by the next run.

        From now on the memory may hold what the ledger does not know of: it is not acquainted any more.
        """
        ...

    def compared(self) -> AbstractAsyncContextManager["Comparison"]:
        """A comparison of the ledger with the memory; it changes neither."""
        ...

    async def acquainted_at(self) -> float | None:
        """When a listing showed that the memory holds nothing of this source but what this ledger knows.

        None: it was never looked. 0: another listing, so much later that the first cannot have been late, agreed.
        """
        ...

    async def note_acquainted(self, at: float = 0.0) -> None: ...

    async def forget(self, missing: Collection[KnownRecord], changed: Collection[KnownRecord]) -> None:
        """Let go of records that the memory does not hold, or not as it was told.

        Their documents are derived anew by the next run, which creates the missing and updates the changed.
        """
        ...

    async def plan_use(self, plan_id: str) -> PlanUse | None:
        """What has become of a saved plan; None if no run has begun to carry it out, or that is long ago."""
        ...

    async def note_plan_use(self, plan_id: str, use: PlanUse) -> None: ...

    async def begin_run(self, run_id: str, verb: str, now: float) -> None: ...

    async def end_run(self, run_id: str, report: str, now: float) -> None:
        """Keep the report of a run, as JSON."""
        ...

    async def drop_run(self, run_id: str) -> None:
        """Forget that a run began: it turned out to be none."""
        ...

    async def last_run(self, *, before: str = "") -> LastRun | None:
        """The last run that began, other than the one whose id is `before`."""
        ...

    async def runs(self, *, limit: int) -> Sequence[PastRun]:
        """The last runs that began, the newest first."""
        ...

    async def last_success(self) -> float | None:
        """When a run last ended in sync, in seconds since the epoch; None if none of those remembered did."""
        ...


class Comparison(Protocol):
    """The ledger beside listings of the memory. On disk, so that both may be of any size."""

    async def note(self, shown: Sequence[FoundRecord], *, listing: int) -> None:
        """Take in what a listing shows; listings are numbered from 1."""
        ...

    async def counts(self) -> tuple[int, int]:
        """How many records were shown, and how many differences there are between them and the ledger."""
        ...

    async def unseen(self, after: RecordPlace, *, listing: int, limit: int) -> Sequence[KnownRecord]:
        """Records of the ledger that listing number `listing`, the last, did not show; behind `after`, in order."""
        ...

    async def changed(self, after: RecordPlace, *, limit: int) -> Sequence[KnownRecord]:
        """Records of the ledger whose content is shown as another one, behind `after`, in order."""
        ...

    async def unattributed(self, after: RecordPlace, *, limit: int) -> Sequence[KnownRecord]:
        """Records of the ledger that are of no document and were shown, behind `after`, in order."""
        ...

    async def unknown(self, after: FoundRecord | None, *, listing: int, limit: int) -> Sequence[FoundRecord]:
        """Records that listing number `listing` was the last to show, neither in the ledger nor on their way.

        By key, the oldest first; a key that the ledger has under another id shows a second copy.
        """
        ...


class DeadLetterFile(Protocol):
    """What people and other programs read of the dead letters: one JSON object a line."""

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Write `letters` durably. A letter may be written twice; the later line holds."""
        ...

    async def rewrite(self, letters: Sequence[DeadLetter]) -> None:
        """Make the file hold exactly `letters`, in one step."""
        ...


class ChangeSink(Protocol):
    """Takes down what a dry run would change in the memory."""

    async def note(self, plan: DocumentPlan, obsolete: Sequence[KnownRecord]) -> None:
        """Take down what one document asks for; `obsolete` are those of its records that would be deleted."""
        ...

    async def note_deletes(self, records: Sequence[KnownRecord], *, of_earlier_run: bool = False) -> None:
        """Take down records that would be deleted since their document is gone.

        `of_earlier_run`: an earlier run has planned that, and not done it. A document that was noted has the last word.
        """
        ...

    async def withhold_deletes(self) -> None:
        """Nothing would be deleted after all, whatever was noted."""
        ...


class PlannedChanges(Protocol):
    """The changes that a saved plan allows a run to make."""

    async def allow(self, changes: Sequence[Change]) -> Sequence[bool]:
        """Whether the plan has each of `changes`."""
        ...

    async def note_made(self, changes: Sequence[Change]) -> None:
        """These are about to be sent."""
        ...


class Offload(Protocol):
    """Runs plain computation where it does not stop the event loop: a worker thread, or in place in a simulation."""

    async def __call__(self, work: Callable[[], Result]) -> Result: ...
