"""The gate that every request passes: one for each memory, with a lane for each of its operations.

A service with a hard quota shows no sign of it but refusals. So the rate of a lane follows what the service takes: a
little below that after a refusal, slowly and then faster up again after a while without one, and never above the quota
that is known. Where none is known, the lane begins slowly and doubles its rate until the first refusal.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappush
from itertools import count

from anyio import Event, sleep

from pipeline.errors import FatalError
from pipeline.model import Call

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 20.0
PAUSE_MAX_S = 5.0

WINDOW_S = 5.0
SHARE_OF_TAKEN = 0.95
RISE = 0.0025  # each second, as a share of the best rate that was seen; it grows with the time since the last refusal
RISE_GROWS_S = 10.0
SLOWDOWN_EVERY_S = 1.0  # requests that were under way together are refused together, for one reason
SLOWEST_PER_S = 0.05  # a lane that stood still would not notice that the service has recovered

# A quarter of the service's own default quota (20 creates, updates or deletes a second).
UNKNOWN_FIRST_PER_S = 5.0
UNKNOWN_DOUBLES_S = 2.0  # in which a lane that is used without a pause doubles its rate

# A service that takes nothing for so long will not take it in this run: whoever is responsible should hear of it.
REFUSED_MAX_S = 900.0


@dataclass(slots=True)
class _Lane:
    """The requests of one operation. Rates are in requests per second, times the clock's, in seconds.

    `limit` is never exceeded; None: it is not known. `is_searching` as long as the rate doubles.
    """

    call: Call
    clock: Callable[[], float]
    limit: float | None
    rate: float = UNKNOWN_FIRST_PER_S
    is_searching: bool = True
    waiting: list["Turn"] = field(default_factory=list)  # a heap
    open_at: float = 0.0
    slowed_at: float = float("-inf")
    raised_at: float = 0.0
    refused_since: float | None = None  # the first request that was, since one was taken
    best: float = 1.0  # the most that was taken in a second so far, as a mean of WINDOW_S
    taken_at: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        if self.limit is not None:
            self.know(self.limit)

    def know(self, limit: float) -> None:
        """From now on, `limit` is never exceeded."""
        self.limit = limit
        if self.is_searching:
            self.rate, self.is_searching = limit, False
        self.rate = min(self.rate, limit)

    async def let_pass(self, turn: "Turn") -> None:
        heappush(self.waiting, turn)
        try:
            while True:
                if self.waiting[0] is not turn:
                    turn.is_first = Event()
                    await turn.is_first.wait()
                # What comes meanwhile may put it off, or go before it.
                elif (delay_s := self.open_at - self.clock()) > 0:
                    await sleep(delay_s)
                else:
                    break
            self._close_for_a_while()
        finally:
            self.waiting.remove(turn)
            heapify(self.waiting)
            if self.waiting and (is_first := self.waiting[0].is_first):
                is_first.set()

    def _close_for_a_while(self) -> None:
        self.open_at = self.clock() + 1.0 / self.rate
        if self.is_searching:
            # For the time that this request stands for: silence proves nothing.
            self.rate *= 2.0 ** (1.0 / (self.rate * UNKNOWN_DOUBLES_S))

    def taken(self) -> None:
        now = self.clock()
        self.refused_since = None
        self.taken_at.append(now)
        self._forget_old(now)
        if not self.is_searching:
            self.best = max(self.best, len(self.taken_at) / WINDOW_S)
        if self.slowed_at > float("-inf"):
            self._rise(now)
        self.raised_at = now

    def taken_in_part(self) -> None:
        self.refused_since = None
        self.taken_at.append(self.clock())
        self._slow_down()

    def _rise(self, now: float) -> None:
        quiet_s = now - self.slowed_at - WINDOW_S
        if quiet_s > 0.0:
            rise = RISE * self.best * (1.0 + (quiet_s / RISE_GROWS_S) ** 2) * min(now - self.raised_at, 1.0)
            self.rate = self.rate + rise if self.limit is None else min(self.rate + rise, self.limit)

    def throttled(self, retry_after_s: float | None) -> None:
        now = self.clock()
        if retry_after_s is not None:
            self.open_at = max(self.open_at, now + retry_after_s)
        self._slow_down()
        if self.refused_since is None:
            self.refused_since = now
        refused_s = now - self.refused_since
        if refused_s > REFUSED_MAX_S:
            raise FatalError(
                f"The memory has refused every {self.call.value} for its rate for {refused_s / 60.0:.0f} minutes. What"
                " is not stored stays in the outbox. See who else uses the account's quota, or have it raised, and run"
                " again.",
                code="throttled",
            )

    def _slow_down(self) -> None:
        now = self.clock()
        if now - self.slowed_at < SLOWDOWN_EVERY_S:
            return
        self._forget_old(now)
        slower = self.rate / 2.0
        if self.is_searching:
            # What was taken before the last second came at a lower rate, and tells nothing.
            slower = max(slower, SHARE_OF_TAKEN * sum(at > now - 1.0 for at in self.taken_at))
        elif self.taken_at:
            slower = SHARE_OF_TAKEN * len(self.taken_at) / max(SLOWDOWN_EVERY_S, now - self.taken_at[0])
        self.is_searching = False
        self.rate = min(self.rate, max(slower, SLOWEST_PER_S))
        self.slowed_at = now
        self.open_at = max(self.open_at, now + 1.0 / self.rate)

    def _forget_old(self, now: float) -> None:
        while self.taken_at and self.taken_at[0] <= now - WINDOW_S:
            self.taken_at.popleft()


@dataclass(order=True)
class Turn:
    """The place of one request in the queue. It keeps it until the request was taken, however often it is refused."""

    number: int
    _lane: _Lane = field(compare=False, repr=False)
    is_first: Event | None = field(default=None, compare=False, repr=False)  # set when those before it are through

    async def wait(self) -> None:
        """Return when the request may be sent."""
        await self._lane.let_pass(self)

    @property
    def closed_s(self) -> float:
        """For how long nobody is let through yet: a request waits at least that long."""
        return max(0.0, self._lane.open_at - self._lane.clock())

    @property
    def allowed_per_s(self) -> float:
        """The pace of this operation now, in requests a second."""
        return self._lane.rate

    def taken(self) -> None:
        """The request was answered: the rate may rise."""
        self._lane.taken()

    def taken_in_part(self) -> None:
        """The request was answered, and some of its records were refused for their rate: slow down."""
        self._lane.taken_in_part()

    def throttled(self, retry_after_s: float | None = None) -> None:
        """The request was refused for its rate: slow down, and hold the gate for as long as the service asks.

        Raises:
            FatalError: for a long time nothing has been taken.
        """
        self._lane.throttled(retry_after_s)


class Pacer:
    """Lets the requests of one memory through at an even rate for each operation, in the order in which they asked.

    `limits` are requests per second that are never exceeded; None: not known. There is no burst: a second of silence
    earns nothing, since the service's own burst size is not documented. Whoever shares the memory stands in one queue.
    """

    def __init__(self, limits: Mapping[Call, float | None], *, clock: Callable[[], float], rng: random.Random) -> None:
        self._rng = rng
        self._lanes = {call: _Lane(call, clock, limit) for call, limit in limits.items()}
        self._numbers = count()

    def turn(self, call: Call) -> Turn:
        """The place in the queue of a request that begins to wait now."""
        return Turn(next(self._numbers), self._lanes[call])

    def know(self, limits: Mapping[Call, float]) -> None:
        """Hold these quotas from now on, in requests per second."""
        for call, limit in limits.items():
            self._lanes[call].know(limit)

    def allowed_per_s(self, call: Call) -> float:
        """How many requests of one kind may be sent in a second, as things are."""
        return self._lanes[call].rate

    def pause_s(self) -> float:
        """How long records wait that the memory refused for their rate while it took others: up to 5 s."""
        return self._rng.uniform(0.0, PAUSE_MAX_S)

    def backoff_s(self, failures: int) -> float:
        """How long to wait after `failures` in a row: up to twice as long each time.

        Jitter covers the whole interval: writers that failed together must not come back together.
        """
        return self._rng.uniform(0.0, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10)))
