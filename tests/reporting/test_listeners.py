"""Several listeners as one."""

import io

import structlog

from pipeline.events import DocumentsListed, RunEvent
from pipeline.reporting.listeners import fan_out
from pipeline.reporting.logs import configure_logging


class Recorder:
    """A listener that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[RunEvent] = []

    def __call__(self, event: RunEvent) -> None:
        self.heard.append(event)


class Faulty(Recorder):
    """A listener that fails whenever it hears something."""

    def __call__(self, event: RunEvent) -> None:
        super().__call__(event)
        raise ZeroDivisionError


def test_a_failing_listener_is_logged_once_and_dropped() -> None:
    """A fault in a display must not stop a run, nor flood its log."""
    faulty, recorder = Faulty(), Recorder()
    tell = fan_out(faulty, recorder)

    with structlog.testing.capture_logs() as logs:
        tell(DocumentsListed(1))
        tell(DocumentsListed(2))

    assert faulty.heard == [DocumentsListed(1)]
    assert recorder.heard == [DocumentsListed(1), DocumentsListed(2)]
    assert [(line["event"], line["listener"], line["log_level"]) for line in logs] == [
        ("listener_failed", "Faulty", "error")
    ]


def test_a_run_goes_on_when_even_the_log_is_gone() -> None:
    """`memsync run 2>&1 | head` closes stderr in the middle of a run."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False)
    stream.close()
    recorder = Recorder()

    fan_out(Faulty(), recorder)(DocumentsListed(1))

    assert recorder.heard == [DocumentsListed(1)]
