"""Chance, time and processes: what everything else in the simulation stands on."""

import gc
import hashlib
import random
import warnings
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

from pipeline.deriving import Deriver
from pipeline.model import Fetched, Planned
from pipeline.protocols import Derive

EPOCH = 1_750_000_000.0  # what the clocks of the simulated machines show when it begins

Result = TypeVar("Result")


class Died(BaseException):
    """Raised by whatever a dead process still tries to do."""


@dataclass
class World:
    """One history. `hits` counts what has happened by kind; `violations` are breaches of the promise."""

    seed: int
    is_verbose: bool = False
    rng: random.Random = field(init=False)
    hits: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    nursery: trio.Nursery = field(init=False)
    has_faults: bool = True
    disk_s_max: float = 0.0  # how long a piece of work on the state may take
    events: int = 0
    _trace: Any = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def now(self) -> float:
        return EPOCH + trio.current_time()

    def happens(self, kind: str, probability: float) -> bool:
        """Whether the fault `kind` strikes now; if so, it is counted."""
        strikes = self.has_faults and probability > 0 and self.rng.random() < probability
        if strikes:
            self.hits[kind] += 1
        return strikes

    def note(self, event: str) -> None:
        """Add `event` to the trace."""
        line = f"{trio.current_time():12.3f}  {event}"
        self._trace.update(line.encode("utf-8", "surrogatepass") + b"\n")
        self.events += 1
        if self.is_verbose:
            print(line)  # noqa: T201 - that is what a replay is for

    def violate(self, kind: str, what: str) -> None:
        self.note(f"VIOLATION {kind}: {what}")
        self.violations.append(f"{kind}: {what}")

    def trace(self) -> str:
        return str(self._trace.hexdigest())


# ---------------------------------------------------------------------------------------------- processes

_PROCESS: ContextVar["Process | None"] = ContextVar("process", default=None)


@dataclass(eq=False)
class Process:
    """A run of the program, which can be killed, stopped for a while, or asked to end, between any two of its steps.

    `at_step` says what happens at which step; `at_point` the same for the n-th time that a named point is passed.
    """

    world: World
    name: str
    at_step: tuple[int, Callable[["Process"], None]] | None = None
    at_point: tuple[str, int, Callable[["Process"], None]] | None = None
    is_dead: bool = False
    is_frozen: bool = False
    has_lock: bool = False
    was_frozen: bool = False
    began_at: float = 0.0
    steps: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ask_to_stop: Callable[[], None] = lambda: None
    _held: list[Any] = field(default_factory=list)
    _passed: Counter[str] = field(default_factory=Counter)

    def spawn(self, *task: Any) -> None:
        """Start what goes on whatever becomes of this process."""
        token = _PROCESS.set(None)
        try:
            self.world.nursery.start_soon(*task)
        finally:
            _PROCESS.reset(token)

    async def live(self, life: Callable[[], Any]) -> None:
        """Run `life` until it ends, or the process is killed."""
        self.began_at = self.world.now()
        token = _PROCESS.set(self)
        try:
            with self.scope:
                try:
                    await life()
                except BaseException as error:
                    if not self.is_dead:
                        raise
                    if cancelled := _only_cancelled(error):
                        raise cancelled from None
        finally:
            _PROCESS.reset(token)

    def kill(self) -> None:
        self.world.note(f"{self.name} is killed at step {self.steps}")
        self.is_dead = True
        self.has_lock = False
        self.thaw()
        self.scope.cancel()

    def freeze(self) -> None:
        self.world.note(f"{self.name} is stopped at step {self.steps}")
        self.is_frozen = self.was_frozen = True

    def thaw(self) -> None:
        if self.is_frozen:
            self.world.note(f"{self.name} wakes up")
        self.is_frozen = False
        held, self._held = self._held, []
        for task in held:
            task._runner.runq.append(task)

    def require_life(self) -> None:
        if self.is_dead:
            raise Died

    def passes(self, point: str) -> None:
        """Go through a point that has a name."""
        self.require_life()
        self._passed[point] += 1
        if self.at_point and self.at_point[:2] == (point, self._passed[point]):
            self.world.hits[f"at {point}"] += 1
            self.at_point[2](self)
            self.require_life()

    async def offload(self, work: Callable[[], Result]) -> Result:
        """Carry out `work` in place, with a chance to die before it and after it."""
        name = _name_of(work)
        await trio.sleep(self.world.rng.uniform(0, self.world.disk_s_max) if self.world.disk_s_max else 0)
        self.passes(f"before {name}")
        result = work()
        self.passes(f"after {name}")
        await trio.lowlevel.cancel_shielded_checkpoint()
        self.require_life()
        return result

    @asynccontextmanager
    async def open_workers(self, deriver: Deriver) -> AsyncIterator[Derive]:
        """Derive in place."""

        async def derive(items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
            return lists(items)

        async def lists(items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
            derived = deriver.derive_lists(items)

            def derive_some() -> tuple[int, list[Planned]] | None:
                return next(derived, None)

            while some := await self.offload(derive_some):
                yield some[1]

        yield derive


def _name_of(work: Any) -> str:
    """What a piece of work on the state is called: the method that it was made from."""
    while hasattr(work, "func"):
        inner = next((argument for argument in work.args if callable(argument)), None)
        work = inner if inner is not None else work.func
    name = str(getattr(work, "__qualname__", "work"))
    return name.replace(".<locals>.<lambda>", "").rpartition(".")[2].lstrip("_")


def _only_cancelled(error: BaseException) -> BaseException | None:
    if isinstance(error, trio.Cancelled):
        return error
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[0]
    return None


class Steps(trio.abc.Instrument):
    """Counts the steps of processes and lets happen what is to happen at one."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        process = task.context.get(_PROCESS)
        if process is None or process.is_dead:
            return
        process.steps += 1
        if process.at_step and process.steps == process.at_step[0]:
            process.at_step[1](process)


def play(world: World, story: Callable[[], Any], clock: trio.abc.Clock) -> None:
    """Run `story` on trio with the scheduler's chance taken from the seed, and processes that can be frozen."""
    from trio._core import _run

    runner = _run.Runner
    reschedule, state, is_deterministic = runner.reschedule, _run._r.getstate(), _run._ALLOW_DETERMINISTIC_SCHEDULING

    def hold_back_the_frozen(self: Any, task: Any, *arguments: Any) -> None:
        reschedule(self, task, *arguments)
        process = task.context.get(_PROCESS)
        if process is not None and process.is_frozen:
            process._held.append(self.runq.pop())

    # When the collector runs depends on all that went before; it would close the generators of dead processes.
    gc.collect(0)
    gc.disable()
    try:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
        _run._r.seed(world.seed)
        runner.reschedule = hold_back_the_frozen  # type: ignore[method-assign,assignment]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the dead close nothing
            trio.run(story, clock=clock, instruments=[Steps()])
            gc.collect(0)
    finally:
        gc.enable()
        runner.reschedule = reschedule  # type: ignore[method-assign]
        _run._ALLOW_DETERMINISTIC_SCHEDULING = is_deterministic  # type: ignore[misc]
        _run._r.setstate(state)
