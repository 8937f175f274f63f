"""Checks side by side: one that fails or hangs hides nothing of the others."""

import threading
from collections.abc import Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint

from pipeline.doctor.checks import Check, Once, in_own_thread, run_checks
from pipeline.errors import StateError
from pipeline.reporting.examinations import Finding


async def well() -> Sequence[Finding]:
    return [Finding("well", "ok", "there"), Finding("also well", "ok", "there")]


async def test_a_check_that_hangs_is_given_up_and_the_others_are_told() -> None:
    """A server that takes a connection and says nothing is the usual case."""

    async def hang() -> Sequence[Finding]:
        await anyio.sleep_forever()
        raise AssertionError

    found = await run_checks([Check("hangs", hang, 0.01, when_silent="problem"), Check("well", well)])

    assert [(finding.check, finding.verdict) for finding in found] == [
        ("hangs", "problem"),
        ("well", "ok"),
        ("also well", "ok"),
    ]
    assert found[0].found == "no answer within 0.0 s"


async def test_a_check_that_blocks_its_thread_for_good_is_left_behind() -> None:
    """A disk that is gone blocks a thread in the kernel; no cancellation reaches it."""
    is_over = threading.Event()

    async def block() -> Sequence[Finding]:
        assert is_over.wait(60)
        return []

    async def look() -> Sequence[Finding]:
        return await in_own_thread(block)

    found = await run_checks([Check("blocks", look, 0.01), Check("well", well)])
    left = [thread.daemon for thread in threading.enumerate() if thread.name == "memsync doctor"]
    is_over.set()

    assert left == [True]  # the process does not wait for it
    assert [finding.verdict for finding in found] == ["not_known", "ok", "ok"]


async def test_a_check_that_fails_is_named_and_its_words_are_not_shown() -> None:
    """Words of a library may hold anything; those of our own errors are made for people."""

    async def fail() -> Sequence[Finding]:
        raise RuntimeError("password=kumquat")

    async def say() -> Sequence[Finding]:
        raise StateError("the disk is full")

    found = await run_checks([Check("fails", fail), Check("says", say), Check("well", well)])

    assert [(finding.check, finding.verdict) for finding in found[:2]] == [("fails", "not_known"), ("says", "problem")]
    assert found[0].found == "the check itself failed: RuntimeError"
    assert found[1].found == "the disk is full"
    assert len(found) == 4


async def test_what_a_thread_raises_is_raised_here() -> None:
    """As if it had run here."""

    async def fail() -> None:
        raise StateError("the disk is full")

    with pytest.raises(StateError, match="the disk is full"):
        await in_own_thread(fail)


async def test_a_question_is_asked_once_and_the_answer_kept() -> None:
    """Six checks ask for the memory; an account with a low rate should not notice."""
    asked = []

    async def ask() -> str:
        asked.append("question")
        await checkpoint()
        if len(asked) > 1:
            raise StateError("no")
        return "answer"

    question = Once(ask)
    answers: list[str] = []

    async def listen() -> None:
        answers.append(await question())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(listen)

    assert (asked, answers) == (["question"], ["answer"] * 3)


async def test_an_error_is_an_answer_and_an_asker_who_left_is_none() -> None:
    """Whoever gives up must not leave the others without: the next one asks again."""
    asked = []

    async def ask() -> str:
        asked.append("question")
        if len(asked) == 1:
            await anyio.sleep_forever()
        raise StateError("no")

    question = Once(ask)
    with anyio.move_on_after(0.01):
        await question()

    for _ in range(2):
        with pytest.raises(StateError, match="no"):
            await question()

    assert len(asked) == 2
