"""What can be swapped: where documents come from, how they are read, where records go, where the ledger is."""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from pipeline.model import (
    Batch,
    BatchResult,
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
    KnownDocument,
    KnownRecord,
    LastRun,
    MemoryRecordId,
    Operation,
    ParsedDocument,
    RecordKey,
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
        """Yield what the source has, in lists of up to a few hundred.

        Ends with a `ScanComplete` for every scope that was listed to its end. Stopping without it is allowed and
        means that nothing may be concluded from a document's absence.

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


class DocumentParser(Protocol):
    """Turns content into text."""

    def reason_to_skip(self, ref: DocumentRef) -> str | None:
        """Tell from the ref alone why a document has no text to give ("unsupported type .png"), or None."""
        ...

    def parse(self, document: Document) -> Iterator[ParsedDocument]:
        """Yield the text of `document`: once for most, once a line for files that hold a document a line.

        Plain computation, run in a worker thread.

        Raises:
            UnreadableDocument: broken content.
            UnsupportedDocument: it turned out to be binary.
        """
        ...


class Destination(Protocol):
    """A memory that records are written to. One attempt a call: pacing and retrying are the pipeline's."""

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

    def encode_request(self, operation: Operation, members: Sequence[bytes], token: ClientToken) -> bytes:
        """Return the exact body of a request for `members`."""
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

    async def holds(self, memory_record_id: MemoryRecordId) -> bool:
        """Whether the memory has a record of this id, however young.

        Raises:
            RetryableError, FatalError: as for `write`.
        """
        ...

    async def find(self, entries: Sequence[Entry]) -> Mapping[RecordKey, MemoryRecordId]:
        """Look up by key (and digest) which of `entries` the memory holds already.

        Raises:
            RetryableError, FatalError: as for `write`.
        """
        ...


class StateStore(Protocol):
    """The ledger, outbox and dead letters of one source. Every method is one durable transaction.

    Raises:
        StateError: it could not be read or written; nothing of the method's work was done.
    """

    async def counts(self) -> StateCounts: ...

    async def last_row(self) -> int:
        """The highest row that a document has been given so far; rows of later documents are higher."""
        ...

    async def documents(self, ids: Collection[DocumentId]) -> Mapping[DocumentId, KnownDocument]: ...

    async def parts(self, origin: DocumentId) -> Sequence[KnownDocument]:
        """The documents that fetching `origin` gave, without `origin` itself."""
        ...

    async def documents_after(self, row: int, *, up_to: int, limit: int) -> Sequence[KnownDocument]:
        """Up to `limit` documents with a row above `row` and not above `up_to`, by row."""
        ...

    async def records(self, documents: Collection[DocumentId]) -> Mapping[DocumentId, Sequence[KnownRecord]]:
        """The records of `documents`, in the order of their text; also of documents that were removed since."""
        ...

    async def records_after(self, key: RecordKey, *, limit: int) -> Sequence[KnownRecord]:
        """Up to `limit` records with a key above `key`, by key; the empty key begins."""
        ...

    async def letters(self, documents: Collection[DocumentId] | None = None) -> Sequence[DeadLetter]:
        """The dead letters of `documents`, or all, oldest first."""
        ...

    async def drop_letters(self, ids: Collection[str]) -> None: ...

    async def checkpoint(self) -> Checkpoint | None: ...

    async def save(
        self,
        batches: Sequence[Batch],
        plans: Sequence[DocumentPlan],
        checkpoint: Checkpoint | None = None,
        *,
        begun: Sequence[DocumentState] = (),
    ) -> None:
        """Put `batches` into the outbox and record `plans`, whose last changes are among them.

        `begun` have more changes to come. They are noted without a fingerprint, so that their records belong to a
        document, and will be read again if nothing more comes.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Record what the memory confirmed, and replace the batch by its follow-ups."""
        ...

    async def outbox(self) -> Sequence[ClientToken]:
        """The tokens of the batches that are saved and not settled, oldest first."""
        ...

    async def batch(self, token: ClientToken) -> Batch: ...

    async def obsolete(self, after: RecordKey, *, limit: int) -> Sequence[KnownRecord]:
        """Up to `limit` records that nothing asks for any more, with a key above `after`, by key.

        Not those of documents with dead letters: the old stays until the new is stored.
        """
        ...

    async def emptied(self) -> int:
        """How many documents that are still there would lose all their records."""
        ...

    async def remove(self, documents: Collection[DocumentId]) -> None:
        """Forget documents that the source has no more; their records become obsolete, their letters go."""
        ...

    async def records_by_key(self, keys: Collection[RecordKey]) -> Mapping[RecordKey, KnownRecord]: ...

    async def forget(self, missing: Collection[RecordKey], changed: Collection[RecordKey]) -> None:
        """Let go of records that the memory does not hold, or not as it was told.

        Their documents are derived anew by the next run, which creates the missing and updates the changed.
        """
        ...

    async def begin_run(self, run_id: str, verb: str, now: float) -> None: ...

    async def end_run(self, run_id: str, report: str, now: float) -> None:
        """Keep the report of a run, as JSON."""
        ...

    async def last_run(self, *, before: str = "") -> LastRun | None:
        """The last run that began, other than the one whose id is `before`."""
        ...


class DeadLetterFile(Protocol):
    """What people and other programs read of the dead letters: one JSON object a line."""

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Write `letters` durably. A letter may be written twice; the later line holds."""
        ...

    async def rewrite(self, letters: Sequence[DeadLetter]) -> None:
        """Make the file hold exactly `letters`, in one step."""
        ...


class Offload(Protocol):
    """Runs plain computation where it does not stop the event loop: a worker thread, or in place in a simulation."""

    async def __call__(self, work: Callable[[], Result]) -> Result: ...
