"""The log lines that tell a run that waits from one that is stuck."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.events import (
    DocumentsDecided,
    DocumentsListed,
    RequestOutcome,
    RequestSent,
    RunEvent,
    Wait,
    WaitEnded,
    WaitStarted,
)
from pipeline.model import DocumentId, Operation
from pipeline.reporting.logs import configure_logging
from pipeline.reporting.pulse import Pulse, moves


@dataclass
class Watched:
    """A pulse on a clock that is set by hand, and what it has logged."""

    now_s: float = 0.0
    stream: io.StringIO = field(default_factory=io.StringIO)
    pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        configure_logging(self.stream, is_terminal=False)
        self.pulse = Pulse("handbook", "run-1", every_s=60.0, stalled_after_s=300.0, clock=lambda: self.now_s)

    def beat_until(self, end_s: float, every_s: float = 60.0) -> None:
        while self.now_s < end_s:
            self.now_s += every_s
            self.pulse.beat()

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.said()]


def request(outcome: RequestOutcome) -> RequestSent:
    return RequestSent(Operation.CREATE, 100, 1000, 0.2, outcome)


def test_a_run_that_goes_on_says_so_now_and_then() -> None:
    """Nobody should have to guess from the absence of lines."""
    watched = Watched()
    watched.pulse(DocumentsListed(50))
    watched.pulse(DocumentsDecided("added", 20, created=40))
    watched.pulse(WaitStarted(Wait("fetch", "source", DocumentId("a.pdf"), seconds=90.0)))

    watched.beat_until(60.0)

    (line,) = watched.said()
    assert (line["event"], line["level"]) == ("still_running", "info")
    assert (line["running_s"], line["documents_listed"], line["documents_done"]) == (60.0, 50, 20)
    assert line["waits"] == [
        {"stage": "fetch", "for": "source", "count": 1, "longest_s": 60.0, "left_s": 30.0, "document_id": "a.pdf"}
    ]


def test_a_run_in_which_nothing_moves_is_warned_of_with_what_it_waits_for() -> None:
    """Again only when the silence has doubled: a night of it is a dozen lines; and it is told when it is over."""
    watched = Watched()
    watched.pulse(WaitStarted(wait := Wait("scan", "source")))

    watched.beat_until(3000.0)
    watched.pulse(WaitEnded(wait))

    warnings = [line for line in watched.said() if line["event"] == "nothing_moved"]
    assert [line["idle_s"] for line in warnings] == [300.0, 600.0, 1200.0, 2400.0]
    assert warnings[0]["level"] == "warning"
    assert warnings[0]["waits_for"] == "the source to list more, for 5 min 0 s"
    assert warnings[0]["advice"] == "see whether the source answers"
    assert watched.said()[-1]["event"] == "moving_again"
    assert watched.said()[-1]["idle_s"] == 3000.0


def test_a_run_that_moves_is_not_warned_of_however_long_it_takes() -> None:
    """A warning that comes every night is read by nobody."""
    watched = Watched()

    for hour_s in range(0, 36_000, 240):
        watched.pulse(request("ok"))
        watched.beat_until(hour_s)

    assert set(watched.events()) == {"still_running"}


def test_a_run_of_which_nothing_is_known_is_said_to_be_that() -> None:
    """It waits for nothing and does nothing: that is a fault of memsync, and worth a report."""
    watched = Watched()

    watched.beat_until(300.0)

    assert watched.said()[-1]["waits_for"] == "nothing that is known"


@pytest.mark.parametrize(
    ("event", "is_moving"),
    [
        (request("ok"), True),
        (request("refused"), True),
        (request("throttled"), False),
        (request("retryable"), False),
        (WaitStarted(Wait("scan", "source")), False),
        (WaitEnded(Wait("scan", "source")), True),
        (WaitEnded(Wait("parse", "parser")), True),
        (WaitEnded(Wait("read", "service")), True),
        (WaitEnded(Wait("write", "service")), False),
        (WaitEnded(Wait("write", "pacer")), False),
        (WaitEnded(Wait("ledger", "disk")), False),
    ],
)
def test_only_what_gets_a_run_on_counts_as_moving(event: RunEvent, *, is_moving: bool) -> None:
    """A memory that refuses everything, or a lease that is renewed, would hide for ever that nothing is stored."""
    assert moves(event) is is_moving


@pytest.mark.parametrize(("every_s", "stalled_after_s", "expected"), [(0.0, 300.0, 1), (60.0, 0.0, 0)])
def test_each_of_the_two_can_be_turned_off(every_s: float, stalled_after_s: float, expected: int) -> None:
    """Whoever collects no logs needs no heartbeat."""
    watched = Watched()
    clock: Callable[[], float] = lambda: watched.now_s  # noqa: E731 - the pulse asks it each time
    watched.pulse = Pulse("handbook", "run-1", every_s=every_s, stalled_after_s=stalled_after_s, clock=clock)

    watched.beat_until(300.0, every_s=300.0)

    assert watched.events().count("nothing_moved") == expected
    assert watched.events().count("still_running") == (1 if every_s else 0)
