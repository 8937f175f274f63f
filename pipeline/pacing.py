"""The gate that every request passes."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from anyio import Lock, sleep

from pipeline.model import Operation

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 20.0

# A service with a hard quota shows no sign of it but the refusals, so the rate follows what it takes: a little below
# that after a refusal, and slowly up again after a while without one.
WINDOW_S = 5.0
SHARE_OF_ACCEPTED = 0.95
RISE_PER_S = 0.05  # requests per second, each second; it grows with the time since the last refusal
SLOWDOWN_EVERY_S = 1.0  # requests that were under way together are refused together, for one reason


@dataclass(slots=True)
class _Lane:
    """The requests of one operation. Times are the clock's, in seconds."""

    requests_per_second: float
    turn: Lock = field(default_factory=Lock)
    open_at: float = 0.0
    slowed_at: float = float("-inf")
    raised_at: float = 0.0
    accepted_at: deque[float] = field(default_factory=deque)


class Pacer:
    """Lets requests of one operation through at an even rate, in the order in which they asked.

    `requests_per_second` is never exceeded; while the service throttles, the rate is lower. There is no burst: a
    second of silence earns nothing, since the service's own burst size is not documented.
    """

    def __init__(self, requests_per_second: float, *, clock: Callable[[], float], rng: random.Random) -> None:
        self._requests_per_second_max = requests_per_second
        self._clock = clock
        self._rng = rng
        self._lanes = {operation: _Lane(requests_per_second) for operation in Operation}

    async def wait(self, operation: Operation) -> None:
        """Return when the next request of `operation` may be sent."""
        lane = self._lanes[operation]
        async with lane.turn:
            while (delay_s := lane.open_at - self._clock()) > 0:  # noqa: ASYNC110 - it may be put off meanwhile
                await sleep(delay_s)
            lane.open_at = self._clock() + 1.0 / lane.requests_per_second

    def accepted(self, operation: Operation) -> None:
        """A request was answered: the rate may rise."""
        lane, now = self._lanes[operation], self._clock()
        lane.accepted_at.append(now)
        _forget_old(lane, now)
        quiet_s = now - lane.slowed_at
        if quiet_s > WINDOW_S and lane.requests_per_second < self._requests_per_second_max:
            rise = RISE_PER_S * (1.0 + ((quiet_s - WINDOW_S) / 10.0) ** 2) * min(now - lane.raised_at, 1.0)
            lane.requests_per_second = min(self._requests_per_second_max, lane.requests_per_second + rise)
        lane.raised_at = now

    def throttled(self, operation: Operation, retry_after_s: float | None) -> None:
        """A request was refused for its rate: slow down, and hold the gate for as long as the service asks."""
        lane, now = self._lanes[operation], self._clock()
        if retry_after_s is not None:
            lane.open_at = max(lane.open_at, now + retry_after_s)
        if now - lane.slowed_at < SLOWDOWN_EVERY_S:
            return
        _forget_old(lane, now)
        slower = lane.requests_per_second / 2.0
        if lane.accepted_at:
            slower = SHARE_OF_ACCEPTED * len(lane.accepted_at) / max(SLOWDOWN_EVERY_S, now - lane.accepted_at[0])
        lane.requests_per_second = min(lane.requests_per_second, max(slower, self._requests_per_second_max / 1000.0))
        lane.slowed_at = now
        lane.open_at = max(lane.open_at, now + 1.0 / lane.requests_per_second)

    def backoff_s(self, failures: int) -> float:
        """How long to wait after `failures` in a row: up to twice as long each time.

        Jitter covers the whole interval: writers that failed together must not come back together.
        """
        return self._rng.uniform(0.0, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10)))


def _forget_old(lane: _Lane, now: float) -> None:
    while lane.accepted_at and lane.accepted_at[0] <= now - WINDOW_S:
        lane.accepted_at.popleft()
