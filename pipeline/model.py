"""The words of the pipeline, as types.

A document on its way changes its type at every stage: a `DocumentRef` is listed, a `Document` fetched, a
`ParsedDocument` read, a `Chunk` cut, a `Record` derived, a `Change` planned, a `Batch` saved and sent, and a
`BatchResult` settled. Everything here is a frozen value; nothing here does any input or output.

What there is one of for each record or document is a named tuple: made in a third of a frozen dataclass's time, and
sent from one process to another in a fifth.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple, NewType

DocumentId = NewType("DocumentId", str)  # stable within its source
Fingerprint = NewType("Fingerprint", str)  # opaque; equal fingerprints mean equal content
RecordKey = NewType("RecordKey", str)  # ours; names a record before the memory has given it an id
MemoryRecordId = NewType("MemoryRecordId", str)  # the memory's own
ClientToken = NewType("ClientToken", str)  # names one delivery of one batch

MetadataValue = str | float | tuple[str, ...]

ORDER_METADATA_KEY = "memsync-chunk"  # part of a public contract, like all of a record's provenance


# ------------------------------------------------------------------------------------- what a source says


class DocumentRef(NamedTuple):
    """A document as a listing shows it, without its content.

    `fingerprint` is None if the source has no signal of change (or none that can be trusted yet): such a
    document is fetched on every run and compared by content. A listing may leave `modified_at` and `title` to the
    fetch, whose ref is the one that records are made of.
    """

    id: DocumentId
    uri: str
    fingerprint: Fingerprint | None = None
    size_bytes: int | None = None
    modified_at: datetime | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentSkipped:
    """A document that the source has and that is left out on purpose; counted by its reason."""

    id: DocumentId
    reason: str


@dataclass(frozen=True, slots=True)
class ScanError:
    """Something below `scope` could not be listed.

    A scope is a prefix of document ids. Everything known below it counts as present: nothing is deleted there.
    """

    scope: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ScanComplete:
    """The source's explicit word that everything below `scope` was listed (but for what a `ScanError` named)."""

    scope: str = ""


@dataclass(frozen=True, slots=True)
class ScanIncremental:
    """The source's explicit word that everything below `scope` that is new or changed since the checkpoint was listed.

    Nothing is concluded from the absence of a document there.
    """

    scope: str = ""


@dataclass(frozen=True, slots=True)
class DocumentRemoved:
    """The source's explicit word that a document is gone. `locate` must say the same."""

    id: DocumentId


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the connector can resume with its next scan; only the connector understands `value`."""

    value: str


SourceEvent = DocumentRef | DocumentSkipped | DocumentRemoved | ScanError | ScanComplete | ScanIncremental | Checkpoint


# --------------------------------------------------------------------------------- from bytes to records


NO_METADATA: Mapping[str, object] = {}


class Document(NamedTuple):
    """A document with its content. `ref` is as it was when the content was read.

    `metadata` is what the source says of it beside the content: words, lists of words, numbers, times. The ref's
    fingerprint covers it.
    """

    ref: DocumentRef
    content: bytes
    media_type: str | None = None  # None: to be told from the name and the content
    metadata: Mapping[str, object] = NO_METADATA


class Markup(enum.Enum):
    """How a parsed text shows its structure."""

    MARKDOWN = "markdown"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of one document, ready to be cut.

    `id` is the fetched document's own id, or, for a part of it (a line of a table, an attachment of a mail, a file in
    an archive), that id followed by `#` and the part's own. `metadata` holds what the document says of itself (front
    matter, chosen fields), and what its source says of it.
    """

    id: DocumentId
    text: str
    markup: Markup = Markup.PLAIN
    title: str | None = None
    modified_at: datetime | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnreadPart:
    """A part of a document that could not be read. It becomes a dead letter of its own; the other parts go on."""

    id: DocumentId
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LeftOutPart:
    """A part of a document that has no text to give."""

    id: DocumentId
    reason: str


Parsed = ParsedDocument | UnreadPart | LeftOutPart


class Chunk(NamedTuple):
    """A piece of a document: never blank, and at most as long as the chunking settings allow."""

    text: str
    ordinal: int  # from 0
    heading_path: tuple[str, ...] = ()


# What flows between fetch and plan, beside the types above. Each names the `DocumentRef` that it comes from.


@dataclass(frozen=True, slots=True)
class Unread:
    """A document that could not be fetched or parsed; it counts as present and keeps its records.

    `origin` is the id of the document that it is a part of; None if it is none. `has_parts` if parts of it went before.
    """

    ref: DocumentRef
    stage: "Stage"
    code: str
    message: str
    origin: DocumentId | None = None
    has_parts: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A document that was fetched and has no text to give. `origin` is as for `Unread`."""

    ref: DocumentRef
    reason: str
    origin: DocumentId | None = None


@dataclass(frozen=True, slots=True)
class Vanished:
    """A document that was listed and was not there any more when it was fetched."""

    ref: DocumentRef


@dataclass(frozen=True, slots=True)
class PartsEnd:
    """All documents that `ref` holds went before."""

    ref: DocumentRef


class Record(NamedTuple):
    """What the memory should hold for one chunk.

    `digest` covers all that is sent, but for two members that an edit elsewhere in the document may move without
    the record having changed: `timestamp`, and `order`, the number that sorts the chunks of a document.
    `metadata` is encoded already. A record that a person has edited holds `edited_from`, the digest of the version that
    its document asks for and that it takes the place of.
    """

    key: RecordKey
    document: DocumentId
    namespace: str
    text: str
    timestamp: datetime
    metadata: Mapping[str, MetadataValue]
    digest: str
    order: float
    strategy_id: str | None = None
    edited_from: str | None = None

    @property
    def version(self) -> str:
        """The digest that the document asks for."""
        return self.edited_from or self.digest

    def at(self, order: float) -> "Record":
        """The same record at another place of its document."""
        if order == self.order and order == self.metadata.get(ORDER_METADATA_KEY):
            return self
        return self._replace(order=order, metadata={**self.metadata, ORDER_METADATA_KEY: order})


class RecordContent(NamedTuple):
    """What a person may edit of a record. `metadata` is encoded already; of it, provenance is never a person's."""

    text: str
    metadata: Mapping[str, MetadataValue]


class Derived(NamedTuple):
    """All the records that one document implies, in order."""

    ref: DocumentRef
    document: DocumentId
    records: tuple[Record, ...]


# Between fetch and derive: a `DocumentRef` stands for a document whose content is read where it is parsed.
Fetched = DocumentRef | Document | Unread | LeftOut | Vanished | ScanError | Checkpoint
# Between derive and plan.
Planned = Derived | PartsEnd | Unread | LeftOut | Vanished | ScanError | Checkpoint


# -------------------------------------------------------------------------------- what the ledger knows


UNKNOWN_EXPIRY = -1


class KnownRecord(NamedTuple):
    """A record that the memory holds, as its answers confirmed.

    It was told to lapse `expiry_days` after it was written, which is not before `lapses_at`, in seconds since the
    epoch; None: never, as far as anybody knows; `UNKNOWN_EXPIRY`: it may have been told.
    """

    key: RecordKey
    document: DocumentId
    namespace: str
    digest: str
    order: float
    memory_record_id: MemoryRecordId
    expiry_days: int | None = None
    lapses_at: float | None = None
    edited_from: str | None = None  # as of the record

    @property
    def place(self) -> "RecordPlace":
        return self.document, self.key


# Where a record stands in the ledger, which is sorted by document. The first place is before every record.
RecordPlace = tuple[DocumentId, RecordKey]
FIRST_PLACE: RecordPlace = (DocumentId(""), RecordKey(""))


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record as the memory shows it. `score` only in answers to a search, `expires_at` only when asked for by id."""

    id: MemoryRecordId
    namespace: str
    text: str
    metadata: Mapping[str, MetadataValue]
    created_at: datetime
    score: float | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record of ours in the memory, as its provenance tells.

    `digest` is of what it holds now, which somebody may have changed. `created_at` is in seconds since the epoch.
    """

    key: RecordKey
    memory_record_id: MemoryRecordId
    document: DocumentId
    origin: DocumentId
    namespace: str
    digest: str
    order: float
    created_at: float


class DocumentState(NamedTuple):
    """What the ledger keeps of a document once all its changes are in the outbox.

    `origin` is the id of the document that was fetched to get this one: its own, except for a part. `recipe` names
    the settings that it was derived with, and of what was left out also what could be read then.
    """

    id: DocumentId
    origin: DocumentId
    fingerprint: Fingerprint | None
    recipe: str
    has_parts: bool = False  # a file of parts; not counted as a document itself
    skipped: str | None = None  # the reason, if it was fetched and then left out


class KnownDocument(NamedTuple):
    """A document as the last run left it. `row` numbers the ledger's documents and is never used twice."""

    row: int
    state: DocumentState
    records: int  # that the memory holds of it
    dead_letters: int
    dropped: int = 0  # dead letters that a person has dropped
    not_updated: int = 0  # of the records, those whose update is among the dead letters

    @property
    def unchanged(self) -> int:
        """How many records are as the document asks for; each of the others is counted as a dead letter."""
        return max(0, self.records - self.not_updated)


@dataclass(frozen=True, slots=True)
class StateCounts:
    """How much the ledger holds. `pending` counts records in the outbox, `letters` dead letters by code.

    `unattributed` of the `records` are of no document. `rows` counts files of parts and what was skipped, too. Letters
    that a person has `dropped` are not among the others.
    """

    documents: int
    rows: int
    records: int
    unattributed: int
    batches: int
    pending: int
    letters: Mapping[str, int]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class LastRun:
    """`report` is the run's report as JSON, `ended_at` in seconds since the epoch; None if it did not get that far."""

    id: str
    ended_at: float | None
    report: str | None


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that has begun. Times are in seconds since the epoch; `ended_at` and `report` are as for `LastRun`."""

    id: str
    verb: str
    started_at: float
    ended_at: float | None
    report: str | None


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What a saved plan rests on. `basis` names the settings, and what can be read where it was made.

    `planned_at` is in seconds since the epoch. `last_run` is the id of the run before it; None: there was none.
    With `allows_mass_deletion` its deletions were asked for whatever the guard says; the guard held back those of
    `withheld` documents.
    """

    plan_id: str
    source: str
    memory: str
    basis: str
    planned_at: float
    last_run: str | None = None
    allows_mass_deletion: bool = False
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class PlanDifferences:
    """How what a run would do now differs from a saved plan, in documents.

    `unplanned` ask for changes that the plan does not have, `missing` not for all that it has. `examples` are of both,
    the unplanned first.
    """

    unplanned: int
    missing: int
    examples: Sequence[DocumentId]


@dataclass(frozen=True, slots=True)
class LeftChanges:
    """How many changes of a plan were not made, and some of them: a document, an operation and how many such."""

    count: int
    examples: "Sequence[tuple[DocumentId, Operation, int]]"  # Operation stands further below


@dataclass(frozen=True, slots=True)
class PlanUse:
    """A run has begun to carry out a saved plan. `ended_at` is in seconds since the epoch; None if it was cut off."""

    ended_at: float | None = None


# ------------------------------------------------------------------------------------------------ changes


class Operation(enum.StrEnum):
    """The three things that can be asked of a memory."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Lookup(enum.StrEnum):
    """What is asked of a memory without changing it."""

    LIST = "list"
    GET = "get"
    SEARCH = "search"


Call = Operation | Lookup
CALLS: tuple[Call, ...] = (*Operation, *Lookup)
# What AgentCore calls them: botocore bedrock-agentcore. Credentials must allow actions of the same names.
API_NAMES: Mapping[Call, str] = {
    Operation.CREATE: "BatchCreateMemoryRecords",
    Operation.UPDATE: "BatchUpdateMemoryRecords",
    Operation.DELETE: "BatchDeleteMemoryRecords",
    Lookup.LIST: "ListMemoryRecords",
    Lookup.GET: "GetMemoryRecord",
    Lookup.SEARCH: "RetrieveMemoryRecords",
}


class Create(NamedTuple):
    record: Record


class Update(NamedTuple):
    """Make the record that `known` describes into `record`; it keeps its id in the memory."""

    known: KnownRecord
    record: Record


class Delete(NamedTuple):
    known: KnownRecord


Change = Create | Update | Delete

DocumentOutcome = Literal["unchanged", "added", "changed", "failed"]


class DocumentPlan(NamedTuple):
    """All that follows from one version of a document.

    `state` is None where only changes or letters are to be written. `obsolete` names the records that this version
    has no place for: they are deleted once everything else is stored; None leaves what was said of them before.
    `letters` are new; `standing` names older ones that still speak of this version, as do those about its changes.
    Any other letter of the document is overtaken and goes.
    """

    state: DocumentState | None
    changes: tuple[Change, ...] = ()
    obsolete: tuple[RecordKey, ...] | None = ()
    letters: tuple["DeadLetter", ...] = ()
    standing: frozenset[str] = frozenset()
    outcome: DocumentOutcome | None = None  # how the document was counted

    @property
    def told_outcome(self) -> str:
        """How to call it where its changes are shown: what is unchanged and has some is renewed."""
        return "renewed" if self.outcome == "unchanged" and self.changes else self.outcome or "changed"


NO_EXPIRY = 0  # of an update: the record, which has an expiry, shall have none


class Entry(NamedTuple):
    """What must be remembered of one change to settle it: the request's body holds the rest.

    `expiry_days` are what the request says, for all of its records; None: nothing.
    """

    key: RecordKey
    document: DocumentId
    namespace: str
    digest: str
    order: float
    memory_record_id: MemoryRecordId | None = None  # None: a create
    replaces: RecordKey | None = None  # an update that gives the record a new key
    attempts: int = 0  # known failures so far; a lost answer is not one
    edited_from: str | None = None  # as of the record
    expiry_days: int | None = None
    counted_as: "DocumentOutcome | None" = None  # how this run has counted the document; not saved


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: entries of one operation, and the exact bytes that are sent for them.

    The same token always goes with the same bytes. `saved_at` is when it entered the outbox, in seconds since the
    epoch: no byte of it left earlier, so it bounds the age of its token.
    """

    client_token: ClientToken
    operation: Operation
    entries: tuple[Entry, ...]
    body: bytes
    saved_at: float

    def __post_init__(self) -> None:
        assert self.entries
        assert len({entry.key for entry in self.entries}) == len(self.entries), "a key stands in a batch once"
        assert len({entry.expiry_days for entry in self.entries}) == 1, "a request says one expiry for all its records"


@dataclass(frozen=True, slots=True)
class FailedRecord:
    key: RecordKey
    code: str
    message: str
    is_retryable: bool
    is_throttle: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What an answer says of each record of a batch: every key stands in exactly one of the three.

    `http_status` and `request_id` are the answer's own, for those who look for it in the service's logs.
    """

    succeeded: Mapping[RecordKey, MemoryRecordId]
    failed: Sequence[FailedRecord] = ()
    unknown: frozenset[RecordKey] = frozenset()
    http_status: int | None = field(default=None, compare=False)
    request_id: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a batch, to be written in one transaction.

    `stored` are entries that the memory now holds, with their ids there; `deleted` are gone from it; `lost` were to
    be updated and turned out not to be there. `follow_ups` are batches for what is sent again under a new token.
    `unheard_at` is when an update left last whose answer was lost, in seconds since the epoch: it may still come.
    """

    batch: Batch
    stored: tuple[tuple[Entry, MemoryRecordId], ...] = ()
    deleted: tuple[Entry, ...] = ()
    lost: tuple[Entry, ...] = ()
    letters: tuple["DeadLetter", ...] = ()
    follow_ups: tuple[Batch, ...] = ()
    unheard_at: float = float("-inf")


# ------------------------------------------------------------------------------------------- dead letters

Stage = Literal["scan", "fetch", "parse", "derive", "write"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record, or a whole document, that was given up on, with all that is needed to understand and resend it.

    `record` is the exact member of the request, as the destination writes it; None if the document never got
    that far. Times are in seconds since the epoch.

    `attempts` counts requests, `rounds` how often it was given up on: once, and once more after each replay in vain.
    `is_retryable` tells that its reason may pass, `is_edited` that `record` is as a person has edited it. One with a
    `dropped_at` is given up for good, until its document changes.
    """

    id: str
    source: str
    document_id: DocumentId
    stage: Stage
    code: str
    message: str
    attempts: int
    first_failed_at: float
    last_failed_at: float
    run_id: str
    key: RecordKey | None = None
    digest: str | None = None
    operation: Operation | None = None
    record: bytes | None = None
    client_token: ClientToken | None = None
    rounds: int = 1
    is_retryable: bool = False
    is_edited: bool = False
    dropped_at: float | None = None

    @property
    def can_be_dropped(self) -> bool:
        """False for what every run tries again anyway, and for deletions, of which something would be left for ever."""
        return self.stage in ("parse", "derive", "write") and self.operation is not Operation.DELETE

    def again_after(self, earlier: "DeadLetter") -> "DeadLetter":
        """This letter, as a further failure of what `earlier` spoke of."""
        return replace(
            self,
            attempts=earlier.attempts + self.attempts,
            rounds=earlier.rounds + self.rounds,
            first_failed_at=earlier.first_failed_at,
        )


@dataclass(frozen=True, slots=True)
class Resends:
    """The dead letters that a run sends again, by their ids; `deletions` are the keys of those about a deletion.

    `origins` are the documents to be read for that, whatever their fingerprint says. `edits` is what a person has made
    of some of the records.
    """

    letters: frozenset[str] = frozenset()
    deletions: Mapping[str, RecordKey] = field(default_factory=dict)
    origins: frozenset[DocumentId] = frozenset()
    edits: Mapping[str, RecordContent] = field(default_factory=dict)


NO_RESENDS = Resends()
