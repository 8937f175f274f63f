"""The counts of one source, added up from its events."""

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DeletesWithheld,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsRemoved,
    DocumentsRenamed,
    LettersResent,
    RequestSent,
    RunEvent,
    RunStarted,
)
from pipeline.model import DocumentId, Operation
from pipeline.report import SourceReport


class Tally:
    """A listener that keeps the report of one source up to date.

    What only the ledger knows (`records.dead_lettered`, `records.pending`) and what only the caller knows
    (status, seconds, error) is left alone. `report.dead_letters_by_code` counts the letters of this run.

    A plan settles nothing: after a `RunStarted` with that verb, `created`, `updated` and `deleted` count what
    would be.
    """

    def __init__(self, source: str) -> None:
        self.report = SourceReport(source)
        self.withheld: DeletesWithheld | None = None  # for the summary: how many of how many, and why
        self._is_plan = False
        self._given_up: set[DocumentId] = set()

    def __call__(self, event: RunEvent) -> None:
        match event:
            case RunStarted():
                self._is_plan = event.verb == "plan"
            case LettersResent():
                self.report.resent += event.count
            case DocumentsDecided():
                self._count_documents(event)
            case DocumentSkippedByReason():
                skipped = self.report.documents.skipped
                skipped[event.reason] = skipped.get(event.reason, 0) + event.count
            case DocumentsRemoved():
                self.report.documents.removed += event.documents
                if self._is_plan:
                    self.report.records.deleted += event.records
            case DocumentsRenamed():
                self.report.documents.renamed += event.documents
            case DeletesWithheld():
                self._note_withheld(event)
            case RequestSent():
                self._count_request(event)
            case BatchSettled():
                self._count_stored(event.operation, event.succeeded)
            case DeadLettered():
                self._count_letter(event)
            case _:
                pass  # what is listed or scanned counts only once it is decided

    def _count_documents(self, event: DocumentsDecided) -> None:
        documents = self.report.documents
        documents.seen += event.documents
        documents.renewed += event.documents if event.renewed else 0
        match event.outcome:
            case "unchanged":
                documents.unchanged += event.documents
            case "added":
                documents.added += event.documents
            case "changed":
                documents.changed += event.documents
            case "failed":
                documents.failed += event.documents

        self.report.records.unchanged += event.unchanged
        if self._is_plan:
            self.report.records.created += event.created
            self.report.records.updated += event.updated
            self.report.records.deleted += event.obsolete

    def _count_letter(self, event: DeadLettered) -> None:
        by_code = self.report.dead_letters_by_code
        by_code[event.code] = by_code.get(event.code, 0) + 1
        documents = self.report.documents
        # A document stands in one class: it was counted when it was planned, before the memory refused a record.
        if event.counted_as not in (None, "failed") and event.document_id not in self._given_up:
            self._given_up.add(event.document_id)
            documents.failed += 1
            match event.counted_as:
                case "added":
                    documents.added -= 1
                case "changed":
                    documents.changed -= 1
                case "unchanged":  # and to be renewed
                    documents.unchanged -= 1

    def _note_withheld(self, event: DeletesWithheld) -> None:
        self.withheld = event
        self.report.withheld_documents += event.removed

    def _count_request(self, event: RequestSent) -> None:
        requests = self.report.requests
        requests.sent += 1
        match event.outcome:
            case "throttled":
                requests.throttled += 1
            case "retryable":
                requests.retried += 1
            case _:
                pass

    def _count_stored(self, operation: Operation, count: int) -> None:
        records = self.report.records
        match operation:
            case Operation.CREATE:
                records.created += count
            case Operation.UPDATE:
                records.updated += count
            case Operation.DELETE:
                records.deleted += count
