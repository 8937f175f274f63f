"""The report of a run, from its events."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pipeline.events import (
    BatchSettled,
    DeadLettersOutstanding,
    DeletesWithheld,
    DocumentsDecided,
    DocumentsListed,
    DocumentsRemoved,
    OutstandingLetter,
    Reconciled,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    ScanProblem,
)
from pipeline.model import ClientToken, DocumentId, Operation
from pipeline.report import SourceReport
from pipeline.reporting.recorder import DRAFT_EVERY_S, RunFacts, RunRecorder

TOKEN = ClientToken("token")
STARTED = RunStarted("docs", "run-1", "run", documents_known=0, batches_in_outbox=0)
FACTS = RunFacts(
    source="docs",
    run_id="run-1",
    verb="run",
    file="docs.yaml",
    settings={"writers": {"concurrency": 16}},
    machine="here",
    started_at=1_000.0,
)


class Recording:
    """A recorder, its clock, and all that it saved."""

    def __init__(self, facts: RunFacts = FACTS) -> None:
        self.now_s = 50.0
        self.saved: list[tuple[dict[str, Any], bool]] = []
        self.account = SourceReport("docs")
        self.is_disk_full = False
        self.recorder = RunRecorder(
            facts, self.account, self._save, lambda _: 20.0, lambda: {"memsync": "1"}, lambda: self.now_s
        )

    def _save(self, report: Mapping[str, Any], is_whole: bool) -> None:
        if self.is_disk_full:
            raise OSError(28, "No space left on device")
        self.saved.append((json.loads(json.dumps(report)), is_whole))

    def hear(self, event: RunEvent, *, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.recorder(event)

    def finish(self) -> dict[str, Any]:
        self.recorder.finish(1_010.0)
        report, is_whole = self.saved[-1]
        assert is_whole
        return report


@pytest.fixture
def recording() -> Recording:
    return Recording()


def letter(document: str, message: str, code: str = "limit") -> OutstandingLetter:
    return OutstandingLetter(DocumentId(document), "derive", code, message, 2, 100.0, 200.0)


def test_a_draft_is_saved_at_once_and_then_as_the_run_goes_on(recording: Recording) -> None:
    """A run that is killed leaves what it did up to half a minute before; its report does not say how it ended."""
    recording.hear(STARTED)
    recording.hear(DocumentsDecided("added", 3), after_s=1.0)
    recording.hear(DocumentsDecided("added", 4), after_s=DRAFT_EVERY_S)

    assert [(report["status"], report["ended_at"], is_whole) for report, is_whole in recording.saved] == [
        ("running", None, False),
        ("running", None, False),
    ]
    assert recording.saved[-1][0]["account"]["status"] == "running"
    assert sum(recording.saved[-1][0]["timeline"]["documents"]) == 7


def test_a_run_that_could_not_begin_leaves_no_report(recording: Recording) -> None:
    """Every few minutes one finds the source locked by a long run: its reports would push out those of the runs."""
    recording.recorder.finish(1_010.0)

    assert recording.saved == []


def test_a_full_disk_is_told_at_the_end_and_no_sooner(recording: Recording) -> None:
    """A draft that cannot be written is no reason to stop listening: the disk may have room again by the end."""
    recording.is_disk_full = True
    recording.hear(STARTED)
    recording.is_disk_full = False
    recording.hear(DocumentsDecided("added", 3))

    assert sum(recording.finish()["timeline"]["documents"]) == 3
    recording.is_disk_full = True
    with pytest.raises(OSError, match="No space left"):
        recording.recorder.finish(1_010.0)


def test_stages_tell_from_when_to_when_they_were_at_work(recording: Recording) -> None:
    """They overlap: whoever wants to know what took the time sees which went on alone."""
    recording.hear(STARTED, after_s=1.0)
    recording.hear(DocumentsListed(10), after_s=1.0)
    recording.hear(DocumentsDecided("added", 5), after_s=1.0)
    recording.hear(ScanFinished(is_complete=True), after_s=1.0)
    recording.hear(RequestSent(Operation.CREATE, 100, 5_000, 0.5, "ok"), after_s=1.0)
    recording.hear(BatchSettled(TOKEN, Operation.CREATE, 100), after_s=1.0)
    recording.hear(DocumentsRemoved(1, 3), after_s=1.0)
    recording.hear(RequestSent(Operation.DELETE, 3, 300, 0.5, "ok"), after_s=1.0)
    recording.now_s += 1.0

    assert recording.finish()["stages"] == {
        "prepare": [0.0, 1.0],
        "list": [2.0, 4.0],
        "read": [3.0, 3.0],
        "write": [4.5, 6.0],
        "delete": [7.0, 8.0],
        "close": [8.0, 9.0],
    }


def test_what_an_interrupted_run_left_is_delivered_in_a_stage_of_its_own(recording: Recording) -> None:
    """It is written before anything is listed, and is not the work of this run."""
    recording.hear(STARTED)
    recording.hear(RequestSent(Operation.CREATE, 100, 5_000, 0.5, "ok"), after_s=1.0)
    recording.hear(DocumentsListed(1), after_s=1.0)

    assert recording.finish()["stages"]["catch_up"] == [0.5, 1.0]


def test_requests_are_told_by_operation_and_by_what_came_back(recording: Recording) -> None:
    """A throttled night looks like a slow one until one sees the codes."""
    recording.hear(STARTED)
    recording.hear(DocumentsListed(1))
    recording.hear(RequestSent(Operation.CREATE, 100, 5_000, 0.5, "ok"), after_s=1.0)
    recording.hear(RequestSent(Operation.CREATE, 100, 5_000, 1.5, "throttled", "ThrottledException"))
    recording.hear(RequestSent(Operation.UPDATE, 1, 50, 0.1, "retryable", "timeout"))

    report = recording.finish()
    assert report["requests"]["by_operation"]["create"] == {
        "sent": 2, "throttled": 1, "retried": 0, "refused": 0, "records": 200, "bytes": 10_000, "seconds": 2.0,
        "slowest_s": 1.5,
    }  # fmt: skip
    assert report["requests"]["by_code"] == {"ThrottledException": 1, "timeout": 1}
    assert report["timeline"]["requests"] == [0, 0, 3]
    assert report["timeline"]["throttled"] == [0, 0, 1]
    # Two operations were at work, each of which may send twenty a second.
    assert report["timeline"]["allowed_per_s"] == [None, None, 40.0]


def test_dead_letters_stand_by_reason_with_what_to_do(recording: Recording) -> None:
    """A thousand of one reason are one thing to mend."""
    recording.hear(STARTED)
    letters = [letter(f"{number}.md", f"{number}.md has {16_000 + number} characters") for number in range(30)]
    recording.hear(DeadLettersOutstanding([letter("x.md", "Odd.", "other"), *letters]))

    told = recording.finish()["dead_letters"]
    assert (told["total"], told["reasons_total"]) == (31, 2)
    first = told["reasons"][0]
    assert (first["count"], first["code"], first["documents"]["total"]) == (30, "limit", 30)
    assert first["documents"]["first"] == [f"{number}.md" for number in range(20)]
    assert "chunking" in first["advice"]


def test_reasons_without_end_are_cut_and_counted(recording: Recording) -> None:
    """Messages come from anybody: a report must stay readable."""
    recording.hear(STARTED)
    recording.hear(DeadLettersOutstanding([letter("x.md", "x" * number) for number in range(1, 200)]))

    told = recording.finish()["dead_letters"]
    assert (len(told["reasons"]), told["reasons_total"]) == (50, 199)


def test_what_else_a_person_must_know_is_there(recording: Recording) -> None:
    """The guard, scopes that could not be listed, and how the run ended."""
    recording.hear(STARTED)
    recording.hear(ScanProblem("secret/", "PermissionError", "No."))
    recording.hear(ScanFinished(is_complete=False))
    recording.hear(DeletesWithheld("guard", removed=80, known=100, some=[DocumentId("gone.md")]))
    recording.account.status = "guarded"

    report = recording.finish()
    assert report["status"] == report["account"]["status"] == "guarded"
    assert report["guard"] == {"reason": "guard", "removed": 80, "known": 100, "is_of_asked": False}
    assert report["documents"]["withheld"] == {"total": 80, "first": [{"id": "gone.md"}]}
    assert report["listing"]["state"] == "incomplete"
    assert report["listing"]["problems"] == {
        "total": 1,
        "first": [{"scope": "secret/", "code": "PermissionError", "message": "No."}],
    }


def test_a_repair_is_told_with_what_it_mended(recording: Recording) -> None:
    """The ledger is mended before the run begins."""
    recording.hear(Reconciled(10, missing=3, expired=2, changed=0, foreign=0, duplicate=0, unattributed=0))
    recording.hear(STARTED)

    reconciled = recording.finish()["reconciled"]
    assert (reconciled["missing"], reconciled["expired"]) == (3, 2)
