"""What a run tells its listeners: progress, logs and reports all hear the same events.

No event holds a document's text or a secret; ids of documents and messages of errors may appear.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pipeline.model import ClientToken, DocumentId, DocumentOutcome, Operation, Stage


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

    `missing` and `changed` were let go of, `foreign` taken over, `duplicate` made obsolete; `unattributed` were left
    alone.
    """

    checked: int
    missing: int
    changed: int
    foreign: int
    duplicate: int
    unattributed: int


@dataclass(frozen=True, slots=True)
class DocumentsListed:
    count: int


@dataclass(frozen=True, slots=True)
class DocumentsRenamed:
    """The source has documents under other ids than before; their records are updated where they are."""

    documents: int


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
    say already what they should, and would lapse.
    """

    outcome: DocumentOutcome
    documents: int
    unchanged: int = 0
    created: int = 0
    updated: int = 0
    obsolete: int = 0
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


@dataclass(frozen=True, slots=True)
class DeletesWithheld:
    """Deletions that were planned and not done. `removed` of `known` documents would have gone."""

    reason: Literal["guard", "disabled"]
    removed: int
    known: int


RequestOutcome = Literal["ok", "throttled", "retryable", "refused", "fatal"]


@dataclass(frozen=True, slots=True)
class RequestSent:
    """One attempt of one request, answered or not.

    outcome: `ok`; `throttled` and `retryable` are sent again; `refused` is narrowed; `fatal` ends the run.
    """

    operation: Operation
    records: int
    body_bytes: int
    duration_s: float
    outcome: RequestOutcome
    code: str | None = None


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


RunEvent = (
    RunStarted
    | StateIsCopy
    | Reconciled
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
)

Observer = Callable[[RunEvent], None]
