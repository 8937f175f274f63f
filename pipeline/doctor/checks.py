"""What a check is, and how checks are run: beside each other, each with a time limit, none able to hide another."""

import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

from pipeline.errors import SyncError, first_error
from pipeline.reporting.examinations import Finding, Verdict
from pipeline.reporting.text import duration

Answer = TypeVar("Answer")

LIMIT_S = 20.0  # of a check, unless it says otherwise; requests to AWS give up before


class Look(Protocol):
    """Looks at one thing, changes nothing, and says what it found.

    What it raises becomes a finding: a `SyncError` a problem, anything else a fault of the check.
    """

    async def __call__(self) -> Sequence[Finding]: ...


@dataclass(frozen=True, slots=True)
class Check:
    """A look with its name and its time. `when_silent` is the verdict if that is over."""

    name: str
    look: Look
    limit_s: float = LIMIT_S
    when_silent: Verdict = "not_known"


async def run_checks(checks: Sequence[Check]) -> list[Finding]:
    """What all `checks` found, in their order."""
    found: list[Sequence[Finding]] = [()] * len(checks)

    async def run(position: int, check: Check) -> None:
        found[position] = await _findings(check)

    async with anyio.create_task_group() as tasks:
        for position, check in enumerate(checks):
            tasks.start_soon(run, position, check)
    return [finding for findings in found for finding in findings]


async def _findings(check: Check) -> Sequence[Finding]:
    try:
        with anyio.move_on_after(check.limit_s) as scope:
            return await check.look()
    except Exception as raised:  # whatever it is, the other checks have something to say, too
        error = first_error(raised)
        if isinstance(error, SyncError):
            return [Finding(check.name, "problem", str(error))]
        return [
            Finding(
                check.name,
                "not_known",
                f"the check itself failed: {type(error).__name__}",
                "This is a fault of memsync; please report it.",
            )
        ]
    assert scope.cancelled_caught
    return [
        Finding(
            check.name,
            check.when_silent,
            f"no answer within {duration(check.limit_s)}",
            "Something hangs, or is very slow: the network, a disk, or the other side.",
        )
    ]


async def in_own_thread(work: Callable[[], Awaitable[Answer]]) -> Answer:
    """What `work` returns, which an event loop in a thread of its own runs.

    A library that blocks for good cannot be cancelled: whoever is tired of waiting leaves the thread behind, and it
    ends with the process.
    """
    outcome: list[Answer] = []
    errors: list[BaseException] = []
    is_over, here = anyio.Event(), current_token()

    async def run() -> None:
        outcome.append(await work())

    def run_in_thread() -> None:
        try:
            anyio.run(run)
        except BaseException as error:
            errors.append(error)
        with suppress(anyio.RunFinishedError):
            from_thread.run_sync(is_over.set, token=here)

    threading.Thread(target=run_in_thread, name="memsync doctor", daemon=True).start()
    await is_over.wait()
    if errors:
        raise errors[0]
    return outcome[0]


class Once(Generic[Answer]):
    """A question that several checks have, and that is asked once; all get the same answer or the same error."""

    def __init__(self, ask: Callable[[], Awaitable[Answer]]) -> None:
        self._ask = ask
        self._turn = anyio.Lock()
        self._answers: list[Answer] = []
        self._error: Exception | None = None

    async def __call__(self) -> Answer:
        async with self._turn:
            if not self._answers and self._error is None:
                try:
                    self._answers.append(await self._ask())
                except Exception as error:
                    self._error = error
        if self._error is not None:
            raise self._error
        return self._answers[0]
