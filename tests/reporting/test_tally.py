"""The counts of one source."""

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DeletesWithheld,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsListed,
    DocumentsRemoved,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
)
from pipeline.model import ClientToken, DocumentId, Operation
from pipeline.report import DocumentCounts, RecordCounts, RequestCounts, SourceReport
from pipeline.reporting.tally import Tally

TOKEN = ClientToken("token")


def report_of(*events: RunEvent) -> SourceReport:
    tally = Tally("handbook")
    for event in events:
        tally(event)
    return tally.report


def test_every_document_is_in_exactly_one_class() -> None:
    """seen = unchanged + added + changed + failed; what was skipped or removed was not seen."""
    report = report_of(
        DocumentsListed(12),
        DocumentsDecided("unchanged", 5, unchanged=40),
        DocumentsDecided("added", 2, created=9),
        DocumentsDecided("changed", 1, updated=1, unchanged=3),
        DocumentsDecided("failed", 1),
        DocumentSkippedByReason("empty"),
        DocumentSkippedByReason("empty", 2),
        DocumentsRemoved(4, records=31),
        ScanFinished(is_complete=True),
    )

    assert report.documents == DocumentCounts(
        seen=9, unchanged=5, added=2, changed=1, removed=4, failed=1, skipped={"empty": 3}
    )


def test_a_record_counts_as_stored_once_the_memory_confirmed_it() -> None:
    """What was decided is on its way only; failed and unknown records are not stored."""
    report = report_of(
        DocumentsDecided("added", 2, created=100, updated=5, unchanged=7),
        BatchSettled(TOKEN, Operation.CREATE, succeeded=90, dead_lettered=3, sent_again=7),
        BatchSettled(TOKEN, Operation.UPDATE, succeeded=5),
        BatchSettled(TOKEN, Operation.DELETE, succeeded=2),
    )

    assert report.records == RecordCounts(created=90, updated=5, deleted=2, unchanged=7)


def test_a_plan_counts_what_would_be_stored() -> None:
    """A plan settles nothing."""
    report = report_of(
        RunStarted("handbook", "run-1", "plan", documents_known=0, batches_in_outbox=0),
        DocumentsDecided("changed", 2, created=9, updated=1, unchanged=3, obsolete=2),
        DocumentsRemoved(1, records=5),
    )

    assert report.records == RecordCounts(created=9, updated=1, deleted=7, unchanged=3)


def test_requests_that_are_made_again_are_counted_apart() -> None:
    """Throttled is a matter of pace, retried one of faults."""
    report = report_of(
        RequestSent(Operation.CREATE, 1, 10, 0.1, "ok"),
        RequestSent(Operation.CREATE, 1, 10, 0.1, "throttled"),
        RequestSent(Operation.CREATE, 1, 10, 0.1, "throttled"),
        RequestSent(Operation.CREATE, 1, 10, 0.1, "retryable"),
        RequestSent(Operation.CREATE, 1, 10, 0.1, "refused"),
        RequestSent(Operation.CREATE, 1, 10, 0.1, "fatal"),
    )

    assert report.requests == RequestCounts(sent=6, throttled=2, retried=1)


def test_withheld_deletions_are_counted() -> None:
    """The summary says how many of how many."""
    guarded = Tally("handbook")

    guarded(DeletesWithheld("guard", removed=312, known=340))

    assert guarded.report.withheld_documents == 312
    assert guarded.withheld == DeletesWithheld("guard", removed=312, known=340)


def test_dead_letters_are_counted_by_code_only() -> None:
    """How many are outstanding is the ledger's to say."""
    letter = DeadLettered(DocumentId("a.pdf"), "parse", "broken_pdf", "No cross-reference table.")

    report = report_of(letter, letter)

    assert report.dead_letters_by_code == {"broken_pdf": 2}
    assert report.records.dead_lettered == 0
