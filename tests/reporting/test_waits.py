"""What a run waits for, in words."""

import pytest

from pipeline.events import Wait, WaitEnded, WaitStarted
from pipeline.model import DocumentId
from pipeline.reporting.waits import ADVICE_ELSE, Waits, advice, words


def waits_of(*began: tuple[Wait, float]) -> Waits:
    waits = Waits()
    for wait, at_s in began:
        waits.hear(WaitStarted(wait), at_s)
    return waits


def test_waits_of_a_kind_are_told_together_the_longest_first() -> None:
    """Sixteen lines for sixteen requests would hide the one that matters."""
    waits = waits_of(
        (Wait("write", "service"), 10.0),
        (Wait("fetch", "source", DocumentId("a.pdf")), 2.0),
        (Wait("write", "service"), 12.0),
        (Wait("fetch", "source", DocumentId("b.pdf")), 13.0),
    )

    assert [words(group) for group in waits.groups(20.0)] == [
        "the source to send a.pdf and 1 more, for 18 s",
        "the memory to answer 2 requests, for 10 s",
    ]


def test_a_wait_that_has_ended_is_not_told_of() -> None:
    """Two that look the same are two: one of them may go on."""
    first, second = Wait("write", "service"), Wait("write", "service")
    waits = waits_of((first, 0.0), (second, 5.0))

    waits.hear(WaitEnded(first), 8.0)

    (group,) = waits.groups(9.0)
    assert (group.count, group.longest_s) == (1, 4.0)


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (Wait("scan", "source"), "the source to list more, for 5 s"),
        (Wait("parse", "parser", DocumentId("a\x1b[2J.pdf")), r"a\x1b[2J.pdf to be parsed, for 5 s"),
        (Wait("ledger", "disk"), "the disk of the state folder, for 5 s"),
        (Wait("write", "pacer", seconds=25.0), "the memory's pace, with 1 request, for 5 s, 20 s more at least"),
        (Wait("write", "backoff", seconds=5.0), "another try of 1 request to the memory, for 5 s"),
    ],
)
def test_each_reason_has_its_words(wait: Wait, expected: str) -> None:
    """They are read by somebody who wonders whether to stop the run; names come from anybody."""
    (group,) = waits_of((wait, 0.0)).groups(5.0)

    assert words(group) == expected


def test_the_advice_is_about_the_longest_wait() -> None:
    """What has just begun is not what holds the run up; where nothing is known, that is said."""
    groups = waits_of((Wait("write", "service"), 100.0), (Wait("ledger", "disk"), 0.0)).groups(300.0)

    assert "disk" in advice(groups)
    assert advice([]) == ADVICE_ELSE
