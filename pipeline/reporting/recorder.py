"""The report of one run of one source, put together while it happens: `memsync/report/1`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
    Reconciled,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    ScanProblem,
    StateIsCopy,
)
from pipeline.model import Operation
from pipeline.report import SourceReport
from pipeline.reporting.changed_documents import ChangedDocuments
from pipeline.reporting.reasons import Kind, kind_of, reason_of
from pipeline.reporting.timeline import Timeline

SCHEMA = "memsync/report/1"
RUNNING = "running"  # the status of a report whose run has not ended, or was killed

DRAFT_EVERY_S = 3.0  # what a killed run leaves, and what is shown of one at work, is at most so old
NAMED_PER_REASON_MAX = 20
REASONS_MAX = 50
PROBLEMS_MAX = 50
CODES_MAX = 50
ACTIVE_S = 2.0  # an operation that has sent nothing for so long takes no part in the allowed rate

StageName = Literal["prepare", "catch_up", "list", "read", "write", "delete", "close"]
Save = Callable[[Mapping[str, Any], bool], None]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run before it begins. `settings` hold no secret."""

    source: str
    run_id: str
    verb: Literal["run", "replay", "repair"]
    file: str
    settings: Mapping[str, Any]
    machine: str
    started_at: float


@dataclass(slots=True)
class OperationCounts:
    """The requests of one operation. `seconds` adds up what went on side by side."""

    sent: int = 0
    throttled: int = 0
    retried: int = 0
    refused: int = 0
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0


@dataclass(slots=True)
class RunRecorder:
    """A listener that keeps the report of one run, and saves it: a draft at once and every few seconds, then the whole.

    `account` is kept up to date by somebody who hears the same events before. `save` takes a report and whether it is
    the last word. `allowed_per_s` tells how many requests of an operation may be sent now, `versions` what is at work,
    `clock` measures seconds; `diff` tells how texts have changed, where somebody wants to know. What it remembers does
    not grow with the number of documents.
    """

    facts: RunFacts
    account: SourceReport
    save: Save
    allowed_per_s: Callable[[Operation], float]
    versions: Callable[[], Mapping[str, str]]
    clock: Callable[[], float]
    diff: Callable[[], Mapping[str, Any] | None] = lambda: None
    has_begun: bool = False
    _started_s: float = field(init=False)
    _saved_s: float = field(init=False)
    _documents: ChangedDocuments = field(default_factory=ChangedDocuments)
    _timeline: Timeline = field(default_factory=Timeline)
    _stages: dict[StageName, list[float]] = field(default_factory=dict)
    _requests: dict[Operation, OperationCounts] = field(default_factory=dict)
    _codes: Counter[str] = field(default_factory=Counter)
    _asked_s: dict[Operation, float] = field(default_factory=dict)
    _problems: list[ScanProblem] = field(default_factory=list)
    _problems_total: int = 0
    _withheld: DeletesWithheld | None = None
    _reconciled: Reconciled | None = None
    _was_copy: bool = False
    _listing: Literal["not_begun", "under_way", "done", "incomplete"] = "not_begun"
    _letters: Sequence[OutstandingLetter] | None = None

    def __post_init__(self) -> None:
        self._started_s = self._saved_s = self.clock()

    def __call__(self, event: RunEvent) -> None:
        now_s = self.clock()
        self._hear(event, now_s - self._started_s)
        if isinstance(event, RunStarted):
            self.has_begun = True
            self._save_draft()
        elif self.has_begun and now_s - self._saved_s >= DRAFT_EVERY_S:
            self._save_draft()

    def _save_draft(self) -> None:
        self._saved_s = self.clock()
        with suppress(OSError):  # if the disk does not mend, it is said at the end
            self.save(self._report(RUNNING, None), False)

    def finish(self, ended_at: float) -> None:
        """Save the whole report, now that `account` is closed. Does nothing for a run that could not begin.

        Raises:
            OSError: it could not be written.
        """
        if self.has_begun:
            self.save(self._report(self.account.status, ended_at), True)

    # --------------------------------------------------------------------------------------------- what it hears

    def _hear(self, event: RunEvent, at_s: float) -> None:
        match event:
            case RunStarted():
                self._during("prepare", 0.0)
                self._during("prepare", at_s)
            case DocumentsListed() | ScanFinished() | ScanProblem():
                self._hear_listing(event, at_s)
            case DocumentsDecided():
                self._during("read", at_s)
                self._documents.hear_decided(event)
                self._timeline.count(at_s, documents=event.documents)
            case DocumentSkippedByReason():
                self._during("read", at_s)
            case DocumentsRenamed():
                self._documents.hear_renamed(event)
            case DocumentsRemoved():
                self._during("delete", at_s)
                self._documents.hear_removed(event)
            case RequestSent():
                self._hear_request(event, at_s)
            case BatchSettled():
                self._during(self._stage_of(event.operation), at_s)
                self._timeline.count(at_s, records=event.succeeded)
            case DeadLettered():
                self._documents.hear_dead_lettered(event)
            case DeadLettersOutstanding():
                self._letters = event.letters
            case DeletesWithheld():
                self._withheld = event
                self._documents.hear_withheld(event)
            case Reconciled():
                self._during("catch_up", at_s)
                self._reconciled = event
            case StateIsCopy():
                self._was_copy = True

    def _hear_listing(self, event: DocumentsListed | ScanFinished | ScanProblem, at_s: float) -> None:
        self._during("list", at_s)
        match event:
            case DocumentsListed():
                if self._listing == "not_begun":
                    self._listing = "under_way"
            case ScanFinished():
                self._listing = "done" if event.is_complete else "incomplete"
            case ScanProblem():
                self._problems_total += 1
                if len(self._problems) < PROBLEMS_MAX:
                    self._problems.append(event)

    def _hear_request(self, event: RequestSent, at_s: float) -> None:
        # A request is told when it is answered; it was under way before.
        self._during(self._stage_of(event.operation), max(0.0, at_s - event.duration_s))
        self._during(self._stage_of(event.operation), at_s)
        counts = self._requests.setdefault(event.operation, OperationCounts())
        counts.sent += 1
        counts.records += event.records
        counts.bytes += event.body_bytes
        counts.seconds += event.duration_s
        counts.slowest_s = max(counts.slowest_s, event.duration_s)
        counts.throttled += event.outcome == "throttled"
        counts.retried += event.outcome == "retryable"
        counts.refused += event.outcome == "refused"
        if event.code and (event.code in self._codes or len(self._codes) < CODES_MAX):
            self._codes[event.code] += 1
        self._timeline.count(
            at_s, requests=1, throttled=event.outcome == "throttled", retried=event.outcome == "retryable"
        )
        self._asked_s[event.operation] = at_s
        active = [operation for operation, asked_s in self._asked_s.items() if asked_s > at_s - ACTIVE_S]
        self._timeline.note_allowed(at_s, sum(map(self.allowed_per_s, active)))

    def _stage_of(self, operation: Operation) -> StageName:
        if self._listing == "not_begun" and self.facts.verb != "replay":
            return "catch_up"  # what an interrupted run left
        return "delete" if operation is Operation.DELETE else "write"

    def _during(self, stage: StageName, at_s: float) -> None:
        """`stage` was at work at `at_s`."""
        span = self._stages.setdefault(stage, [at_s, at_s])
        span[0], span[1] = min(span[0], at_s), max(span[1], at_s)

    # ---------------------------------------------------------------------------------------------- what it tells

    def _report(self, status: str, ended_at: float | None) -> dict[str, Any]:
        facts, seconds = self.facts, round(self.clock() - self._started_s, 3)
        stages = {name: [round(at_s, 3) for at_s in span] for name, span in self._stages.items()}
        if ended_at is not None:
            stages["close"] = [max((span[1] for span in stages.values()), default=0.0), seconds]
        return {
            "schema": SCHEMA,
            "run_id": facts.run_id,
            "source": facts.source,
            "verb": facts.verb,
            "file": facts.file,
            "machine": facts.machine,
            "status": status,
            "started_at": facts.started_at,
            "ended_at": ended_at,
            "seconds": seconds,
            "account": asdict(self.account) if ended_at is not None else {**asdict(self.account), "status": status},
            "guard": None if self._withheld is None else _guard(self._withheld),
            "listing": {
                "state": self._listing,
                "problems": {"total": self._problems_total, "first": [asdict(problem) for problem in self._problems]},
            },
            "state_was_copy": self._was_copy,
            "reconciled": None if self._reconciled is None else asdict(self._reconciled),
            "documents": self._documents.as_json(self.account.documents),
            "diff": self.diff(),
            "dead_letters": None if self._letters is None else _by_reason(self._letters),
            "requests": {
                "by_operation": {operation.value: _rounded(counts) for operation, counts in self._requests.items()},
                "by_code": dict(self._codes),
            },
            "timeline": self._timeline.as_json(),
            "stages": stages,
            "settings": facts.settings,
            "versions": self.versions(),
        }


def _guard(withheld: DeletesWithheld) -> dict[str, Any]:
    return {
        "reason": withheld.reason,
        "removed": withheld.removed,
        "known": withheld.known,
        "is_of_asked": withheld.is_of_asked,
    }


def _rounded(counts: OperationCounts) -> dict[str, Any]:
    return {**asdict(counts), "seconds": round(counts.seconds, 3), "slowest_s": round(counts.slowest_s, 3)}


def _by_reason(letters: Sequence[OutstandingLetter]) -> dict[str, Any]:
    """The letters grouped by their reason, the most frequent first."""
    groups: dict[Kind, list[OutstandingLetter]] = {}
    for letter in letters:
        groups.setdefault(kind_of(letter), []).append(letter)
    by_count = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return {
        "total": len(letters),
        "reasons_total": len(groups),
        "reasons": [_reason(group) for _, group in by_count[:REASONS_MAX]],
    }


def _reason(letters: Sequence[OutstandingLetter]) -> dict[str, Any]:
    example = letters[0]
    documents = list(dict.fromkeys(letter.document_id for letter in letters))
    return {
        "stage": example.stage,
        "code": example.code,
        "message": example.message,
        "cause": reason_of(example).cause,
        "advice": reason_of(example).cure,
        "count": len(letters),
        "documents": {"total": len(documents), "first": documents[:NAMED_PER_REASON_MAX]},
        "attempts": max(letter.attempts for letter in letters),
        "first_failed_at": min(letter.first_failed_at for letter in letters),
        "last_failed_at": max(letter.last_failed_at for letter in letters),
    }
