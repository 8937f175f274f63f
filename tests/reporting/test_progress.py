"""The live display of a run."""

import io
import sys

import pytest

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsListed,
    DocumentsRemoved,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    Wait,
    WaitStarted,
)
from pipeline.model import ClientToken, DocumentId, Operation
from pipeline.reporting.progress import (
    ProgressDisplay,
    SourceProgress,
    activity,
    documents_line,
    estimate_words,
    records_line,
    waiting_line,
)


def started(*, documents_known: int = 0, batches_in_outbox: int = 0) -> RunStarted:
    return RunStarted("handbook", "run-1", "run", documents_known, batches_in_outbox)


def settled(count: int, operation: Operation = Operation.CREATE) -> BatchSettled:
    return BatchSettled(ClientToken("token"), operation, succeeded=count)


def progress_after(*events: RunEvent, now_s: float = 0.0) -> SourceProgress:
    progress = SourceProgress(started_at_s=0.0)
    for event in events:
        progress.hear(event, now_s)
    return progress


def test_without_a_base_there_is_no_estimate() -> None:
    """On a first run nobody knows how much is still to be listed."""
    progress = progress_after(started(), DocumentsListed(50), DocumentsDecided("added", 20))

    assert estimate_words(progress, 60.0) is None
    assert documents_line(progress, 60.0) == "20 of 50 listed so far"


def test_the_last_run_is_a_base_for_an_estimate() -> None:
    """Most runs see about what the one before saw."""
    progress = progress_after(started(documents_known=200), DocumentsListed(50), DocumentsDecided("unchanged", 50))

    assert documents_line(progress, 60.0) == "50 of about 200   about 3 min 0 s left"


def test_a_finished_listing_replaces_what_the_last_run_saw() -> None:
    """Then the number is known and not guessed; what was left out counts as passed."""
    progress = progress_after(
        started(documents_known=900),
        DocumentsListed(100),
        ScanFinished(is_complete=True),
        DocumentsDecided("unchanged", 40),
        DocumentSkippedByReason("empty", 10),
    )

    assert documents_line(progress, 30.0) == "50 of 100   about 30 s left"


def test_records_on_their_way_delay_the_end() -> None:
    """Deciding is quick; what is decided must still be written."""
    progress = progress_after(
        started(),
        DocumentsListed(100),
        ScanFinished(is_complete=True),
        DocumentsDecided("changed", 100, created=150, obsolete=20),
        DocumentsRemoved(5, records=30),
        settled(30),
        settled(20, Operation.DELETE),
    )

    assert progress.time_left_s(10.0) == pytest.approx(30.0)
    assert activity(progress) == "writing"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """A pause must show, however fast it went before."""
    progress = progress_after(started(), settled(500), now_s=5.0)

    assert progress.records_per_second(10.0) == 50.0
    assert progress.records_per_second(30.0) == 0.0
    assert records_line(progress, 10.0) == "500 stored   50/s"


def test_throttling_tells_what_is_waited_for_until_an_answer_comes() -> None:
    """Otherwise a slow run looks like a dead one."""
    throttled = RequestSent(Operation.CREATE, 100, 10, 0.1, "throttled", "ThrottlingException")
    progress = progress_after(started(), throttled)

    waiting_for = progress.waiting_for
    progress.hear(RequestSent(Operation.CREATE, 100, 10, 0.1, "ok"), 1.0)

    assert waiting_for == "the memory asks for a slower pace (ThrottlingException); nothing is lost"
    assert progress.waiting_for is None
    assert records_line(progress, 1.0).endswith("throttled 1 time")


def test_a_wait_is_shown_once_it_takes_long_enough_to_wonder() -> None:
    """Each request waits for a moment: shown at once, the line would only flicker."""
    progress = progress_after(started(), WaitStarted(Wait("fetch", "source", DocumentId("a.pdf"))))

    assert waiting_line(progress, 2.0) is None
    assert waiting_line(progress, 5.0) == "the source to send a.pdf, for 5 s"


def test_a_throttled_run_says_until_when() -> None:
    """The memory may ask for minutes."""
    throttled = RequestSent(Operation.CREATE, 100, 10, 0.1, "throttled", "ThrottlingException")
    progress = progress_after(started(), throttled, WaitStarted(Wait("write", "pacer", seconds=90.0)))

    assert waiting_line(progress, 30.0) == (
        "the memory asks for a slower pace (ThrottlingException); nothing is lost; 1 min 0 s more at least"
    )


def test_an_interrupted_run_is_delivered_first() -> None:
    """The wait before the first document has a reason."""
    progress = progress_after(started(batches_in_outbox=3), settled(100))

    assert activity(progress) == "delivering 2 batches of an interrupted run"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_hostile_source_name_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of messages and names are shown escaped."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()

    with ProgressDisplay(terminal, clock=lambda: 0.0) as display:
        display(RunStarted("a\x1b]0;evil\x07b[bold]", "run-1", "run", 0, 0))
        display(RequestSent(Operation.CREATE, 1, 1, 0.1, "throttled", "\x1b]0;evil\x07"))

    assert r"a\x1b]0;evil\x07b[bold]" in terminal.getvalue()
    assert "\x1b]0;" not in terminal.getvalue()


def test_nothing_is_shown_before_the_run_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening the state is waited for as well; a line without a name would be about nothing."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()

    with ProgressDisplay(terminal, clock=lambda: 0.0) as display:
        display(WaitStarted(Wait("ledger", "disk")))

    assert "listing" not in terminal.getvalue()


def test_what_is_written_to_standard_error_appears_above_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines must not tear it, and results go to standard output untouched."""
    monkeypatch.setenv("TERM", "xterm")
    terminal, output = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", output)

    with ProgressDisplay(terminal, clock=lambda: 0.0) as display:
        display(started())
        display(DeadLettered(DocumentId("a.pdf"), "parse", "broken_pdf", "No cross-reference table."))
        sys.stderr.write("a log line\n")
        sys.stdout.write("a result\n")

    assert sys.stderr is terminal
    assert output.getvalue() == "a result\n"
    _, line, after = terminal.getvalue().partition("a log line\n")
    assert line
    assert "handbook" in after
    assert "1 dead letter" in after
