"""A service with a hard quota, and what is left of it for a backlog of batches: all in virtual time, from a seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from anyio import create_task_group, current_time, sleep

from pipeline.model import CALLS, Operation
from pipeline.pacing import Pacer
from tests.pipeline.examples import run_on_virtual_clock

TICK_S = 1e-6  # what sums of floats may be off by
ANSWER_S = 0.25
REFUSAL_S = (0.02, 0.04)


@dataclass(slots=True)
class Quota:
    """A bucket of tokens: `per_second` come in, no more than `burst` are kept."""

    per_second: float
    burst: float
    _tokens: float = field(init=False)
    _counted_at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self) -> bool:
        now = current_time()
        self._tokens = min(self.burst, self._tokens + (now - self._counted_at) * self.per_second)
        self._counted_at = now
        if self._tokens < 1.0 - TICK_S:
            return False
        self._tokens -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody else who uses the quota: so many requests a second between two times."""

    per_second: float
    begins_s: float
    ends_s: float


@dataclass(slots=True)
class Backlog:
    """When requests were taken and refused, by which machine, and how long each batch waited until it was taken."""

    taken: list[tuple[float, int]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)

    def used(self, begins_s: float, ends_s: float, per_second: float) -> float:
        """The share of `per_second` that was used between two times."""
        return sum(begins_s <= at < ends_s for at, _ in self.taken) / (per_second * (ends_s - begins_s))

    def wasted(self, begins_s: float, ends_s: float) -> float:
        """The share of the requests that were refused."""
        refused = sum(begins_s <= at < ends_s for at in self.refused)
        return refused / max(1, refused + sum(begins_s <= at < ends_s for at, _ in self.taken))

    def longest_wait_s(self, begins_s: float, ends_s: float) -> float:
        """What 99 of 100 batches did not wait longer than."""
        waits = sorted(wait_s for at, wait_s in self.waits if begins_s <= at < ends_s)
        return waits[int(0.99 * len(waits))]

    def back_after_s(self, at_s: float, per_second: float) -> float:
        """How long after `at_s` nine tenths of `per_second` are used again, over five seconds."""
        return next(after for after in range(1000) if self.used(at_s + after, at_s + after + 5, per_second) >= 0.9)

    def shares(self, begins_s: float, ends_s: float, machines: int) -> list[float]:
        """What each machine had of what was taken, as a multiple of an equal share."""
        counts = [0] * machines
        for at, machine in self.taken:
            counts[machine] += begins_s <= at < ends_s
        return [count * machines / sum(counts) for count in counts]


def deliver(
    limit: float | None,
    quota: Quota,
    *,
    seconds: float = 300.0,
    writers: int = 32,
    machines: int = 1,
    tenants: Sequence[Tenant] = (),
    seed: int = 0,
) -> Backlog:
    """Send batches without end, through the pacer of each machine, which is told `limit` for its rate."""
    rng = random.Random(seed)
    backlog = Backlog()

    async def write(pacer: Pacer, machine: int) -> None:
        while current_time() < seconds:
            asked_at = current_time()
            turn = pacer.turn(Operation.CREATE)
            await turn.wait()
            while not quota.take():
                backlog.refused.append(current_time())
                await sleep(rng.uniform(*REFUSAL_S))
                turn.throttled()
                await turn.wait()
            backlog.taken.append((current_time(), machine))
            backlog.waits.append((current_time(), current_time() - asked_at))
            await sleep(ANSWER_S)
            turn.taken()

    async def use_up(tenant: Tenant) -> None:
        await sleep(tenant.begins_s)
        while current_time() < tenant.ends_s:
            quota.take()
            await sleep(rng.expovariate(tenant.per_second))

    async def main() -> None:
        async with create_task_group() as tasks:
            for machine in range(machines):
                pacer = Pacer(dict.fromkeys(CALLS, limit), clock=current_time, rng=random.Random(seed + machine))
                for _ in range(writers):
                    tasks.start_soon(write, pacer, machine)
            for tenant in tenants:
                tasks.start_soon(use_up, tenant)

    run_on_virtual_clock(main)
    return backlog
