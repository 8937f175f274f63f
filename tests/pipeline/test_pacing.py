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

from pipeline.errors import FatalError
from pipeline.model import CALLS, Lookup, Operation
from pipeline.pacing import BACKOFF_FIRST_S, BACKOFF_MAX_S, REFUSED_MAX_S, Pacer
from tests.pipeline.examples import run_on_virtual_clock

CREATE, UPDATE = Operation.CREATE, Operation.UPDATE
TICK_S = 1e-6  # what sums of floats may be off by


class HighestDraw(random.Random):
    """Draws the upper end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        return b


def pacer(requests_per_second: float | None) -> Pacer:
    return Pacer(dict.fromkeys(CALLS, requests_per_second), clock=current_time, rng=HighestDraw(0))


def on_virtual_clock(body: Callable[[], Awaitable[None]]) -> None:
    run_on_virtual_clock(body)


async def ask(gate: Pacer, times: list[float], operation: Operation = CREATE) -> None:
    await gate.turn(operation).wait()
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
        await gate.turn(CREATE).wait()
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
            await gate.turn(CREATE).wait()
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
        await gate.turn(CREATE).wait()
        async with create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask, gate, times)
            await sleep(0.05)
            gate.turn(CREATE).throttled(7.0)

    on_virtual_clock(body)

    assert times[0] == pytest.approx(7.05)
    assert all(later - earlier >= 0.1 - TICK_S for earlier, later in pairwise(times))


@pytest.mark.parametrize("retry_after_s", [0.0, 0.01, 3.0, 90.0])
def test_the_service_s_own_wish_is_honoured(retry_after_s: float) -> None:
    """Never earlier, and no later than the rate asks for anyway."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(10.0)
        await gate.turn(CREATE).wait()
        gate.turn(CREATE).throttled(retry_after_s)
        await ask(gate, times)

    on_virtual_clock(body)

    assert times[0] >= retry_after_s
    assert times[0] <= max(retry_after_s, 1.0)


def test_a_shorter_wish_does_not_open_the_gate_earlier() -> None:
    """Answers to requests that were under way together come in any order."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(10.0)
        gate.turn(CREATE).throttled(9.0)
        gate.turn(CREATE).throttled(1.0)
        await ask(gate, times)

    on_virtual_clock(body)

    assert times == pytest.approx([9.0])


def test_operations_are_independent() -> None:
    """The service limits each on its own: deletes must not wait for creates."""
    creates: list[float] = []
    updates: list[float] = []

    async def body() -> None:
        gate = pacer(1.0)
        gate.turn(CREATE).throttled(60.0)
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
        await gate.turn(CREATE).wait()
        gate.turn(CREATE).throttled(None)

    assert min(pauses_after(throttled, requests_per_second=10.0)) > 0.1 + TICK_S


def test_an_answer_that_refuses_some_records_slows_down_too_and_never_ends_a_run() -> None:
    """The memory takes requests; only whoever sends one record again and again should hear of it."""

    async def refused_in_part(gate: Pacer) -> None:
        for _ in range(20):
            turn = gate.turn(CREATE)
            await turn.wait()
            turn.taken_in_part()
            await sleep(REFUSED_MAX_S / 10)

    assert min(pauses_after(refused_in_part, requests_per_second=10.0)) > 0.1 + TICK_S


def test_requests_that_are_refused_together_slow_down_once() -> None:
    """They were refused for one reason; sixteen halvings would stop the run."""

    async def throttled(gate: Pacer, count: int) -> None:
        await gate.turn(CREATE).wait()
        for _ in range(count):
            gate.turn(CREATE).throttled(None)
            await sleep(0.01)

    once = pauses_after(lambda gate: throttled(gate, 1), requests_per_second=10.0)
    often = pauses_after(lambda gate: throttled(gate, 16), requests_per_second=10.0)

    assert often == pytest.approx(once)


def test_however_often_it_is_throttled_a_run_goes_on() -> None:
    """A rate that sank to nothing would never learn that the service has recovered."""

    async def throttled(gate: Pacer) -> None:
        for _ in range(400):
            gate.turn(CREATE).throttled(None)
            await sleep(2.0)

    assert max(pauses_after(throttled, requests_per_second=10.0)) <= 20.0 + TICK_S


def test_a_run_ends_if_for_a_long_time_nothing_was_taken() -> None:
    """Whoever uses up the quota goes on doing so: somebody must hear of it, and the next run waits for this one."""
    ended_at = 0.0

    async def body() -> None:
        nonlocal ended_at
        gate = pacer(10.0)
        turn = gate.turn(CREATE)
        await turn.wait()
        turn.taken()
        await sleep(1000.0)

        async def try_for_ever() -> None:
            while True:
                await turn.wait()
                turn.throttled(5.0)

        with pytest.raises(FatalError, match=r"refused every create for its rate for 15 minutes") as caught:
            await try_for_ever()
        assert caught.value.code == "throttled"
        ended_at = current_time()

    on_virtual_clock(body)

    assert 1000.0 + REFUSED_MAX_S < ended_at < 1000.0 + REFUSED_MAX_S + 60.0


def test_a_silence_of_ours_is_no_refusal_of_theirs() -> None:
    """A slow source sends nothing for hours; the first throttle after that is one like any other."""

    async def body() -> None:
        gate = pacer(10.0)
        turn = gate.turn(CREATE)
        await turn.wait()
        turn.taken()
        await sleep(10 * REFUSED_MAX_S)
        turn = gate.turn(CREATE)
        await turn.wait()
        turn.throttled()

    on_virtual_clock(body)


def test_a_refused_request_goes_before_those_that_came_after_it() -> None:
    """Else it would wait once more behind all of them, and again whenever it is refused."""
    passed: list[str] = []

    async def body() -> None:
        gate = pacer(10.0)

        async def ask_as(name: str, refusals: int) -> None:
            turn = gate.turn(CREATE)
            for _ in range(refusals):
                await turn.wait()
                turn.throttled()
            await turn.wait()
            passed.append(name)

        async with create_task_group() as tasks:
            for name in ("refused", "second", "third"):
                tasks.start_soon(ask_as, name, 2 if name == "refused" else 0)
                await sleep(0.001)

    on_virtual_clock(body)

    assert passed == ["refused", "second", "third"]


def test_a_lane_that_knows_no_quota_begins_slowly_and_doubles_its_rate() -> None:
    """A burst of requests at an unknown service is how other programs get throttled with theirs."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(None)
        async with create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(ask, gate, times)

    on_virtual_clock(body)

    per_two_seconds = [sum(start <= time < start + 2.0 for time in times) for start in (0.0, 2.0, 4.0, 6.0)]
    assert per_two_seconds[0] <= 16
    assert all(1.7 < later / earlier < 2.3 for earlier, later in pairwise(per_two_seconds))


def test_a_lane_that_was_not_used_does_not_begin_with_a_burst() -> None:
    """A slow source sends one batch, and an hour later a hundred."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(None)
        await gate.turn(CREATE).wait()
        await sleep(3600.0)
        async with create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(ask, gate, times)

    on_virtual_clock(body)

    assert times[-1] - times[0] > 1.0


def test_a_memory_that_never_refuses_is_not_too_much_for_the_gate() -> None:
    """A first sync may go on for hours at whatever rate there is."""

    async def body() -> None:
        gate = pacer(None)
        for _ in range(20_000):
            turn = gate.turn(CREATE)
            await turn.wait()
            turn.taken()
        assert current_time() < 60.0

    on_virtual_clock(body)


def test_a_quota_that_becomes_known_is_held_from_then_on() -> None:
    """It is asked for when the first request is about to leave."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(None)
        gate.know({CREATE: 40.0})
        async with create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask, gate, times)

    on_virtual_clock(body)

    assert times == pytest.approx([number / 40.0 for number in range(20)])


def test_look_ups_have_a_lane_of_their_own() -> None:
    """A verification must not slow down the writing, nor the reverse."""
    listings: list[float] = []

    async def body() -> None:
        gate = pacer(1.0)
        gate.turn(CREATE).throttled(60.0)
        for _ in range(3):
            turn = gate.turn(Lookup.LIST)
            await turn.wait()
            listings.append(current_time())

    on_virtual_clock(body)

    assert listings == pytest.approx([0.0, 1.0, 2.0])


def test_a_service_that_recovers_gets_the_whole_rate_again() -> None:
    """Some minutes after the last refusal; and never more than that."""

    async def recovered(gate: Pacer) -> None:
        for _ in range(5):
            gate.turn(CREATE).throttled(None)
            await sleep(2.0)
        ends_at = current_time() + 600.0
        while current_time() < ends_at:
            await gate.turn(CREATE).wait()
            gate.turn(CREATE).taken()

    assert pauses_after(recovered, requests_per_second=10.0) == pytest.approx([0.1] * 5)


def test_a_request_that_is_cancelled_while_it_waits_keeps_nobody_waiting() -> None:
    """A run that is stopped cancels its writers one after the other."""
    times: list[float] = []

    async def body() -> None:
        gate = pacer(1.0)
        await gate.turn(CREATE).wait()
        async with create_task_group() as tasks:
            tasks.start_soon(ask, gate, [])
            await sleep(0.5)
            tasks.cancel_scope.cancel()
        await ask(gate, times)

    on_virtual_clock(body)

    assert times == pytest.approx([1.0])


def test_backoff_grows_and_is_bounded() -> None:
    """Long enough to let a service recover, short enough to notice that it has."""
    gate = Pacer(dict.fromkeys(CALLS, 1.0), clock=lambda: 0.0, rng=HighestDraw(0))

    delays = [gate.backoff_s(failures) for failures in (1, 2, 3, 4, 5, 6, 7, 8, 1000, 10**9)]

    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0, 20.0, 20.0]
    assert (delays[0], delays[-1]) == (BACKOFF_FIRST_S, BACKOFF_MAX_S)


@given(seed=st.integers(), failures=st.integers(1, 100))
def test_backoff_is_spread_over_its_whole_interval(seed: int, failures: int) -> None:
    """Writers that failed together must not come back together."""
    gate = Pacer(dict.fromkeys(CALLS, 1.0), clock=lambda: 0.0, rng=random.Random(seed))
    longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** (failures - 1))

    delays = [gate.backoff_s(failures) for _ in range(100)]

    assert all(0.0 <= delay <= longest for delay in delays)
    assert min(delays) < longest / 4
    assert max(delays) > longest * 3 / 4
