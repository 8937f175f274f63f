"""The gate that every request passes, on a clock that tests turn."""

import math
import random
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import pytest
from anyio import create_task_group, current_time, sleep
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import Operation
from pipeline.pacing import BACKOFF_FIRST_S, BACKOFF_MAX_S, Pacer
from tests.pipeline.examples import run_on_virtual_clock

CREATE, UPDATE = Operation.CREATE, Operation.UPDATE
TICK_S = 1e-6  # what sums of floats may be off by


class HighestDraw(random.Random):
    """Draws the upper end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        return b


def pacer(requests_per_second: float) -> Pacer:
    return Pacer(requests_per_second, clock=current_time, rng=HighestDraw(0))


def on_virtual_clock(body: Callable[[], Awaitable[None]]) -> None:
    run_on_virtual_clock(body)


async def ask(gate: Pacer, times: list[float], operation: Operation = CREATE) -> None:
    await gate.wait(operation)
    times.append(current_time())


def busiest_second(times: Sequence[float]) -> int:
    """The most requests that any second holds."""
    return max(bisect_left(times, time + 1.0 - TICK_S) - position for position, time in enumerate(times))


@given(
    requests_per_second=st.one_of(st.sampled_from([0.3, 1.0, 2.5, 20.0]), st.floats(0.1, 500.0)),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.3, 5.0]), min_size=1, max_size=60),
)
@settings(max_examples=40)
def test_no_second_has_more_requests_than_the_rate(requests_per_second: float, pauses: list[float]) -> None:
    """A burst after a silence is throttled just as well; the service's own burst size is not documented."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(requests_per_second)
        async with create_task_group() as tasks:
            for pause in pauses:
                await sleep(pause)
                tasks.start_soon(ask, gate, times)

    on_virtual_clock(body)

    assert len(times) == len(pauses)
    assert busiest_second(times) <= math.ceil(requests_per_second) + 1


@pytest.mark.parametrize("requests_per_second", [0.5, 1.0, 20.0])
def test_waiting_requests_go_at_exactly_the_rate(requests_per_second: float) -> None:
    """A rate that is not used is time lost."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(requests_per_second)
        async with create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask, gate, times)

    on_virtual_clock(body)

    assert times == pytest.approx([number / requests_per_second for number in range(10)])


def test_a_silence_earns_nothing() -> None:
    """A burst would be throttled, and then wait longer than it has gained."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(10.0)
        await gate.wait(CREATE)
        await sleep(60.0)
        async with create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask, gate, times)

    on_virtual_clock(body)

    assert times == pytest.approx([60.0, 60.1, 60.2, 60.3])


def test_requests_pass_in_the_order_in_which_they_asked() -> None:
    """Else a batch could be overtaken for as long as there are others."""
    passed: list[int] = []

    async def body() -> None:
        gate = pacer(10.0)

        async def ask_as(number: int) -> None:
            await gate.wait(CREATE)
            passed.append(number)

        async with create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask_as, number)
                await sleep(0.001)

    on_virtual_clock(body)

    assert passed == list(range(30))


def test_a_throttle_holds_the_gate_for_all_behind_it() -> None:
    """They would all be throttled as well, and each would prolong it."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(10.0)
        await gate.wait(CREATE)
        async with create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask, gate, times)
            await sleep(0.05)
            gate.throttled(CREATE, 7.0)

    on_virtual_clock(body)

    assert times[0] == pytest.approx(7.05)
    assert all(later - earlier >= 0.1 - TICK_S for earlier, later in pairwise(times))


@pytest.mark.parametrize("retry_after_s", [0.0, 0.01, 3.0, 90.0])
def test_the_service_s_own_wish_is_honoured(retry_after_s: float) -> None:
    """Never earlier, and no later than the rate asks for anyway."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(10.0)
        await gate.wait(CREATE)
        gate.throttled(CREATE, retry_after_s)
        await ask(gate, times)

    on_virtual_clock(body)

    assert times[0] >= retry_after_s
    assert times[0] <= max(retry_after_s, 1.0)


def test_a_shorter_wish_does_not_open_the_gate_earlier() -> None:
    """Answers to requests that were under way together come in any order."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(10.0)
        gate.throttled(CREATE, 9.0)
        gate.throttled(CREATE, 1.0)
        await ask(gate, times)

    on_virtual_clock(body)

    assert times == pytest.approx([9.0])


def test_operations_are_independent() -> None:
    """The service limits each on its own: deletes must not wait for creates."""
    creates: list[float] = []
    updates: list[float] = []

    async def body() -> None:
        gate = pacer(1.0)
        gate.throttled(CREATE, 60.0)
        async with create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask, gate, creates, CREATE)
                tasks.start_soon(ask, gate, updates, UPDATE)

    on_virtual_clock(body)

    assert updates == pytest.approx([0.0, 1.0, 2.0])
    assert creates[0] == pytest.approx(60.0)


def pauses_after(body: Callable[[Pacer], Awaitable[None]], *, requests_per_second: float) -> list[float]:
    """How far apart five requests are, that wait together once `body` is done."""
    times: list[float] = []

    async def main() -> None:
        gate = pacer(requests_per_second)
        await body(gate)
        async with create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(ask, gate, times)

    on_virtual_clock(main)
    return [later - earlier for earlier, later in pairwise(times)]


def test_a_throttle_slows_down_what_comes_after_it() -> None:
    """The same rate would be refused again."""

    async def throttled(gate: Pacer) -> None:
        await gate.wait(CREATE)
        gate.throttled(CREATE, None)

    assert min(pauses_after(throttled, requests_per_second=10.0)) > 0.1 + TICK_S


def test_requests_that_are_refused_together_slow_down_once() -> None:
    """They were refused for one reason; sixteen halvings would stop the run."""

    async def throttled(gate: Pacer, count: int) -> None:
        await gate.wait(CREATE)
        for _ in range(count):
            gate.throttled(CREATE, None)
            await sleep(0.01)

    once = pauses_after(lambda gate: throttled(gate, 1), requests_per_second=10.0)
    often = pauses_after(lambda gate: throttled(gate, 16), requests_per_second=10.0)

    assert often == pytest.approx(once)


def test_however_often_it_is_throttled_a_run_goes_on() -> None:
    """A rate that sank to nothing would never learn that the service has recovered."""

    async def throttled(gate: Pacer) -> None:
        for _ in range(1000):
            gate.throttled(CREATE, None)
            await sleep(2.0)

    assert max(pauses_after(throttled, requests_per_second=10.0)) <= 1000 / 10.0 + TICK_S


def test_a_service_that_recovers_gets_the_whole_rate_again() -> None:
    """Some minutes after the last refusal; and never more than that."""

    async def recovered(gate: Pacer) -> None:
        for _ in range(5):
            gate.throttled(CREATE, None)
            await sleep(2.0)
        ends_at = current_time() + 600.0
        while current_time() < ends_at:
            await gate.wait(CREATE)
            gate.accepted(CREATE)

    assert pauses_after(recovered, requests_per_second=10.0) == pytest.approx([0.1] * 5)


@pytest.mark.parametrize("burst", [1, 20, 100])
@pytest.mark.parametrize("quota_per_second", [5, 10, 20])
def test_the_rate_follows_a_quota_that_nobody_told(quota_per_second: int, burst: int) -> None:
    """The demand of T10 for a service that shows nothing but its refusals: 92 % of it used, 3 % of calls wasted."""
    taken: list[float] = []
    refused: list[float] = []

    async def body() -> None:
        gate = pacer(100.0)
        rng = random.Random(quota_per_second * burst)
        tokens, counted_at = float(burst), 0.0

        async def write() -> None:
            nonlocal tokens, counted_at
            while current_time() < 300.0:
                await gate.wait(CREATE)
                now = current_time()
                tokens, counted_at = min(burst, tokens + (now - counted_at) * quota_per_second), now
                if tokens >= 1.0 - TICK_S:
                    tokens -= 1.0
                    taken.append(now)
                    await sleep(0.25)
                    gate.accepted(CREATE)
                else:
                    refused.append(now)
                    await sleep(rng.uniform(0.02, 0.04))
                    gate.throttled(CREATE, None)

        async with create_task_group() as tasks:
            for _ in range(32):
                tasks.start_soon(write)

    on_virtual_clock(body)

    settled_taken, settled_refused = (sum(60.0 <= time < 300.0 for time in times) for times in (taken, refused))
    assert settled_taken >= 0.92 * 240.0 * quota_per_second
    assert settled_refused <= 0.03 * (settled_taken + settled_refused)


def test_a_request_that_is_cancelled_while_it_waits_keeps_nobody_waiting() -> None:
    """A run that is stopped cancels its writers one after the other."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(1.0)
        await gate.wait(CREATE)
        async with create_task_group() as tasks:
            tasks.start_soon(ask, gate, [])
            await sleep(0.5)
            tasks.cancel_scope.cancel()
        await ask(gate, times)

    on_virtual_clock(body)

    assert times == pytest.approx([1.0])


def test_backoff_grows_and_is_bounded() -> None:
    """Long enough to let a service recover, short enough to notice that it has."""
    gate = Pacer(1.0, clock=lambda: 0.0, rng=HighestDraw(0))

    delays = [gate.backoff_s(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 8, 1000, 10**9)]

    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 20.0, 20.0]
    assert (delays[0], delays[-1]) == (BACKOFF_FIRST_S, BACKOFF_MAX_S)


@given(seed=st.integers(), failures=st.integers(1, 100))
def test_backoff_is_spread_over_its_whole_interval(seed: int, failures: int) -> None:
    """Writers that failed together must not come back together."""
    gate = Pacer(1.0, clock=lambda: 0.0, rng=random.Random(seed))
    longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** (failures - 1))

    delays = [gate.backoff_s(failures) for _ in range(100)]

    assert all(0.0 <= delay <= longest for delay in delays)
    assert min(delays) < longest / 4
    assert max(delays) > longest * 3 / 4
