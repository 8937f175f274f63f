"""Reports to make pages of: each is what a recorder makes of events, as from a run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DeadLettersOutstanding,
    DeletesWithheld,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsListed,
    DocumentsRemoved,
    DocumentsRenamed,
    OutstandingLetter,
    RequestOutcome,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    ScanProblem,
)
from pipeline.model import ClientToken, DocumentId, Operation, RecordKey
from pipeline.report import SourceReport, Status
from pipeline.reporting.histories import PastRunRow, PastStatus
from pipeline.reporting.recorder import RunFacts, RunRecorder
from pipeline.reporting.tally import Tally

RUN_ID = "6e7e91f939124d9b955ff12c6be3e30d"
STARTED_AT = 1_795_831_200.0
TOKEN = ClientToken("token")


class ExampleRun:
    """Events on a clock of their own, and the report that they make."""

    def __init__(self, source: str = "handbook") -> None:
        self._now_s = 0.0
        self._tally = Tally(source)
        self._saved: dict[str, Any] = {}
        self.diff: dict[str, Any] | None = None
        facts = RunFacts(
            source=source,
            run_id=RUN_ID,
            verb="run",
            file=f"/srv/{source}.yaml",
            settings={"source": {"type": "filesystem", "path": source}, "schedule": None},
            machine="here",
            started_at=STARTED_AT,
        )
        self._recorder = RunRecorder(
            facts,
            self.account,
            self._save,
            lambda _: 20.0,
            lambda: {"memsync": "0.1.0"},
            lambda: self._now_s,
            lambda: self.diff,
        )
        self.hear(RunStarted(source, RUN_ID, "run", documents_known=0, batches_in_outbox=0), after_s=0.5)

    @property
    def account(self) -> SourceReport:
        return self._tally.report

    def _save(self, report: Mapping[str, Any], _is_whole: bool) -> None:
        self._saved = json.loads(json.dumps(report))

    def hear(self, event: RunEvent, *, after_s: float = 0.0) -> None:
        self._now_s += after_s
        self._tally(event)
        self._recorder(event)

    def draft(self) -> dict[str, Any]:
        """What is there while the run is at work, and if it is killed."""
        self.hear(DocumentsListed(0), after_s=60.0)
        return self._saved

    def end(
        self, status: Status = "in_sync", *, letters: Sequence[OutstandingLetter] = (), error: str | None = None
    ) -> dict[str, Any]:
        self.account.status, self.account.error, self.account.seconds = status, error, self._now_s
        self.account.dead_letters_by_code = {letter.code: 1 for letter in letters}
        self.account.records.dead_lettered = len(letters)
        self.hear(DeadLettersOutstanding(letters))
        self._recorder.finish(STARTED_AT + self._now_s)
        return self._saved


def busy_run(source: str = "handbook", name: str = "notes") -> ExampleRun:
    """A run in which everything happens, to documents and with messages called `name`."""
    run = ExampleRun(source)
    run.hear(ScanProblem(f"{name}/", name, name), after_s=1.0)
    run.hear(DocumentsListed(10), after_s=1.0)
    run.hear(DocumentSkippedByReason(name))
    for outcome in ("added", "changed"):
        document = DocumentId(f"{outcome}-{name}")
        planned = [(Operation.CREATE, RecordKey("c" * 40)), (Operation.DELETE, RecordKey("d" * 40))]
        run.hear(DocumentsDecided(outcome, 1, created=1, updated=2, obsolete=1, document=document, planned=planned))
    run.hear(DocumentsDecided("failed", 1, document=DocumentId(name)))
    run.hear(DeadLettered(DocumentId(name), "parse", name, name))
    run.hear(DocumentsRenamed(1, [(DocumentId(f"before-{name}"), DocumentId(f"after-{name}"))]))
    run.hear(ScanFinished(is_complete=True), after_s=1.0)
    answer: RequestOutcome
    for number in range(40):
        answer = "throttled" if number % 5 == 0 else "ok"
        run.hear(RequestSent(Operation.CREATE, 100, 9_000, 0.2, answer, name if number % 5 == 0 else None), after_s=0.2)
        run.hear(BatchSettled(TOKEN, Operation.CREATE, 100))
    run.hear(DocumentsRemoved(1, 2, [DocumentId(f"removed-{name}")]))
    run.hear(DeletesWithheld("disabled", 1, 10, [DocumentId(f"kept-{name}")]))
    lines = [f" {name}", f"-{name}", f"+{name}", "@", f"+{name}"]
    run.diff = diff_of(
        shown("changed", f"changed-{name}", lines, lines, records_left_out=3, lines_left_out=1),
        shown("changed", f"after-{name}", lines),
        has_more=True,
        records_of_earlier_run=2,
        problem=name,
    )
    return run


def diff_of(*documents: dict[str, Any], **told: Any) -> dict[str, Any]:
    """What a run tells of the texts of `documents`."""
    return {
        "documents": list(documents),
        "has_more": False,
        "records_of_earlier_run": 0,
        "problem": None,
        **told,
    }


def shown(outcome: str, document: str, *records: list[str], **left_out: int) -> dict[str, Any]:
    """How the text of a document changed, each of its records by these lines."""
    return {
        "document": document,
        "outcome": outcome,
        "records": [
            {"operation": "update", "key": f"{number:040}", "lines": lines} for number, lines in enumerate(records)
        ],
        "records_left_out": 0,
        "lines_left_out": 0,
        **left_out,
    }


def letter(name: str) -> OutstandingLetter:
    return OutstandingLetter(DocumentId(name), "parse", name, name, 2, STARTED_AT - 86_400, STARTED_AT)


def past_run(status: PastStatus, number: int, records: int = 100) -> PastRunRow:
    run_id = RUN_ID if number == 0 else f"{number:032x}"
    seconds = None if status in ("interrupted", "running") else 12.0
    return PastRunRow(run_id, "run", status, STARTED_AT - 3_600 * number, seconds, records=records, error="<b>no</b>")
