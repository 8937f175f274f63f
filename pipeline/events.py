"""What a run tells its listeners: progress, logs and reports all hear the same events.

No event holds a document's text or a secret; ids of documents and messages of errors may appear.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pipeline.model import ClientToken, DocumentId, DocumentOutcome, Operation, RecordKey, Stage


@dataclass(frozen=True, slots=True)
class RunStarted:
    """`batches_in_outbox` is what an interrupted run left to deliver; `documents_known` what the last run saw."""

    source: str
    run_id: str
    verb: Literal["run", "plan", "replay"]
    documents_known: int
    batches_in_outbox: int


@dataclass(frozen=True, slots=True)
class StateIsCopy:
    """The state is not as its last run left it: it was restored or moved. It is compared with the memory first."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The ledger was brought in line with the memory; the counts are in records.

    `missing`, `expired` and `changed` were let go of, `foreign` taken over, `duplicate` made obsolete; `unattributed`
    were left alone.
    """

    checked: int
    missing: int
    expired: int
    changed: int
    foreign: int
    duplicate: int
    unattributed: int


@dataclass(frozen=True, slots=True)
class LettersDue:
    """Dead letters that this run is to send again by itself: if their documents still ask for it, and can be read."""

    count: int


@dataclass(frozen=True, slots=True)
class LettersResent:
    """Dead letters whose records or deletions go out again, or whose documents could be read after all."""

    count: int


@dataclass(frozen=True, slots=True)
class DocumentsListed:
    count: int


@dataclass(frozen=True, slots=True)
class DocumentsRenamed:
    """The source has documents under other ids than before; their records are updated where they are.

    `names` has the former and the new id of each.
    """

    documents: int
    names: Sequence[tuple[DocumentId, DocumentId]] = ()


@dataclass(frozen=True, slots=True)
class ScanFinished:
    """`is_complete` is False if the connector stopped without saying that it listed everything."""

    is_complete: bool


@dataclass(frozen=True, slots=True)
class ScanProblem:
    """A part of the source could not be listed; nothing is deleted there."""

    scope: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class DocumentsDecided:
    """What became of documents, and what that means for their records. Said once for each document.

    `created`, `updated` and `obsolete` count records whose change is planned, not done. Of the `updated`, the `renewed`
    say already what they should, and would lapse. `document` is None where the event is of many, or of one of which
    nothing is new; `planned` tells of its records what is to be done with which.
    """

    outcome: DocumentOutcome
    documents: int
    unchanged: int = 0
    created: int = 0
    updated: int = 0
    obsolete: int = 0
    document: DocumentId | None = None
    planned: Sequence[tuple[Operation, RecordKey]] = ()
    renewed: int = 0


@dataclass(frozen=True, slots=True)
class DocumentSkippedByReason:
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class DocumentsRemoved:
    """Documents that the source has no more and whose records are about to be deleted."""

    documents: int
    records: int
    ids: Sequence[DocumentId] = ()


@dataclass(frozen=True, slots=True)
class DeletesWithheld:
    """Deletions that were planned and not done. `removed` of `known` documents would have gone.

    `some` are the first of them; that the source has them no more was not asked a second time. With `is_of_asked`, it
    has none of those that it was asked for.
    """

    reason: Literal["guard", "disabled"]
    removed: int
    known: int
    some: Sequence[DocumentId] = ()
    is_of_asked: bool = False


RequestOutcome = Literal["ok", "throttled", "retryable", "refused", "fatal"]


@dataclass(frozen=True, slots=True)
class RequestSent:
    """One attempt of one request, answered or not.

    outcome: `ok`; `throttled` and `retryable` are sent again; `refused` is narrowed; `fatal` ends the run.
    `http_status` and `request_id` are the answer's, None where none came. `allowed_per_s` is the pace that the memory
    allows after it, in requests of this operation a second.
    """

    operation: Operation
    records: int
    body_bytes: int
    duration_s: float
    outcome: RequestOutcome
    code: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    allowed_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class BatchSettled:
    """A batch has left the outbox, and each of its records stands in one of the three counts.

    The `dead_lettered` were given up on, the `sent_again` follow in other batches.
    """

    client_token: ClientToken
    operation: Operation
    succeeded: int
    dead_lettered: int = 0
    sent_again: int = 0


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """`counted_as` is how this run had counted the document before; None if it had not, or as failed already."""

    document_id: DocumentId
    stage: Stage
    code: str
    message: str
    counted_as: DocumentOutcome | None = None


@dataclass(frozen=True, slots=True)
class OutstandingLetter:
    """What may be shown of a dead letter. Times are in seconds since the epoch."""

    document_id: DocumentId
    stage: Stage
    code: str
    message: str
    attempts: int
    first_failed_at: float
    last_failed_at: float


@dataclass(frozen=True, slots=True)
class DeadLettersOutstanding:
    """All that is given up on, now that the run has ended, by this one and those before."""

    letters: Sequence[OutstandingLetter]


WaitingStage = Literal["scan", "fetch", "parse", "ledger", "write", "read", "verify"]
WaitReason = Literal["source", "parser", "disk", "pacer", "service", "backoff", "late_writes"]


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """One thing that one task of a stage waits for. Each is another, also where two are for the same.

    reason: `source`, `parser` and `service` (the memory) are to answer; `disk` is to read or write the ledger; `pacer`
    lets a request through in its turn; after `backoff` something is tried again; `late_writes` are requests of unknown
    outcome that may still be carried out. `document` is the one concerned, of several the first. `seconds` is how long
    it will take at least, None if nobody can tell.
    """

    stage: WaitingStage
    reason: WaitReason
    document: DocumentId | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class WaitStarted:
    wait: Wait


@dataclass(frozen=True, slots=True)
class WaitEnded:
    """What was waited for came, failed, or is not wanted any more."""

    wait: Wait


RunEvent = (
    RunStarted
    | StateIsCopy
    | Reconciled
    | LettersDue
    | LettersResent
    | DocumentsListed
    | DocumentsRenamed
    | ScanFinished
    | ScanProblem
    | DocumentsDecided
    | DocumentSkippedByReason
    | DocumentsRemoved
    | DeletesWithheld
    | RequestSent
    | BatchSettled
    | DeadLettered
    | DeadLettersOutstanding
    | WaitStarted
    | WaitEnded
)

Observer = Callable[[RunEvent], None]


def nobody(_event: RunEvent) -> None:
    """Hears nothing of it."""


@contextmanager
def telling(observe: Observer, wait: Wait) -> Iterator[None]:
    """Tell that `wait` lasts as long as the block."""
    observe(WaitStarted(wait))
    try:
        yield
    finally:
        observe(WaitEnded(wait))
