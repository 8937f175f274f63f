"""What to start, and what not, now. Pure: it is told the time, and does nothing itself."""

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.timetable import Timetable

# Later than this a run counts as missed. More than a run ever waits because others are looked at first.
MISSED_AFTER_S = 120.0
# A clock that was put back by less has been corrected: what was started just before is not started again.
CORRECTION_MAX_S = 600.0

# behind: a time went by without a run, or without one that came to its end. again: the run before left something to do.
Reason = Literal["due", "behind", "changed", "again"]


@dataclass(frozen=True, slots=True)
class Start:
    """Start a run of this source. `late_s` is how long ago it should have begun."""

    source: str
    reason: Reason
    late_s: float


@dataclass(frozen=True, slots=True)
class Skip:
    """This time is left out; the next is at `next_at`.

    running: the run before has not ended. waiting: it has not begun yet, since others fill all places.
    missed: nobody could start it in time, and it does not catch up.
    """

    source: str
    reason: Literal["running", "waiting", "missed"]
    next_at: float


Decision = Start | Skip


@dataclass(slots=True)
class _Entry:
    timetable: Timetable | None
    catches_up: bool
    due_at: float = math.inf
    taken_at: float = -math.inf  # when the source was last found due
    wanted: Reason | None = None
    wanted_at: float = 0.0
    is_running: bool = False
    is_dropped: bool = False

    def want(self, reason: Reason, at: float) -> None:
        if self.wanted is None:
            self.wanted, self.wanted_at = reason, at

    def look_ahead(self, moment: float) -> None:
        self.due_at = self.timetable.due_after(moment) if self.timetable else math.inf


class Agenda:
    """Which sources are due, wait for a place, or run; at most `places` at a time, each source once."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._entries: dict[str, _Entry] = {}
        self._now = -math.inf

    @property
    def running(self) -> list[str]:
        return [name for name, entry in self._entries.items() if entry.is_running]

    def due_at(self, source: str) -> float:
        """When the source is due next; infinity: only when asked for, or not at all."""
        entry = self._entries.get(source)
        return entry.due_at if entry else math.inf

    def put(
        self, source: str, timetable: Timetable | None, now: float, *, catches_up: bool = True, is_behind: bool = False
    ) -> None:
        """Take a source in, or change its timetable; None: it runs only when it is asked for.

        `is_behind` says that a time went by before `now` for which there was no run.
        """
        entry = self._entries.get(source)
        if entry is None:
            entry = self._entries[source] = _Entry(timetable, catches_up)
            entry.look_ahead(now)
            if is_behind and catches_up:
                entry.want("behind", now)
            return
        entry.is_dropped = False
        if (entry.timetable, entry.catches_up) != (timetable, catches_up):
            entry.timetable, entry.catches_up = timetable, catches_up
            entry.look_ahead(now)

    def drop(self, source: str) -> None:
        """Start no more runs of a source; one that is under way still has its place until it ended."""
        entry = self._entries[source]
        entry.timetable, entry.wanted, entry.due_at = None, None, math.inf
        entry.is_dropped = True
        if not entry.is_running:
            del self._entries[source]

    def ask(self, source: str, now: float, reason: Reason = "changed") -> None:
        """Run a source as soon as there is a place; once more if it is running, which may have passed by the change."""
        if source in self._entries:
            self._entries[source].want(reason, now)

    def ended(self, source: str) -> None:
        """The run of a source is over."""
        entry = self._entries[source]
        entry.is_running = False
        if entry.is_dropped:
            del self._entries[source]

    def decide(self, now: float) -> list[Decision]:
        """What is to be done at `now`; what is to be started counts as running from here on."""
        if now < self._now:
            self._clock_was_put_back(now)
        self._now = now
        skips = [skip for name, entry in self._entries.items() if (skip := _take_due(name, entry, now))]
        return [*skips, *self._starts(now)]

    def wake_at(self) -> float:
        """When there is something to decide next, if nothing else happens; infinity: nothing."""
        return min((entry.due_at for entry in self._entries.values()), default=math.inf)

    def _starts(self, now: float) -> list[Start]:
        free = self._places - len(self.running)
        waiting = [
            (entry.wanted_at, name, entry)
            for name, entry in self._entries.items()
            if entry.wanted and not entry.is_running
        ]
        starts = []
        for wanted_at, name, entry in sorted(waiting, key=lambda item: item[:2])[:free]:
            assert entry.wanted is not None
            starts.append(Start(name, entry.wanted, max(0.0, now - wanted_at)))
            entry.wanted, entry.is_running = None, True
        return starts

    def _clock_was_put_back(self, now: float) -> None:
        """Times that were reckoned from a clock that was ahead may be years away."""
        for entry in self._entries.values():
            is_correction = entry.taken_at - now < CORRECTION_MAX_S
            entry.look_ahead(max(now, entry.taken_at) if is_correction else now)


def _take_due(name: str, entry: _Entry, now: float) -> Skip | None:
    """Take note if the source is due; however many times went by, it is due once."""
    if entry.due_at > now:
        return None
    due_at, entry.taken_at = entry.due_at, now
    entry.look_ahead(now)
    is_missed = now - due_at > MISSED_AFTER_S
    if entry.is_running:
        return Skip(name, "running", entry.due_at)
    if entry.wanted:
        return Skip(name, "waiting", entry.due_at)
    if is_missed and not entry.catches_up:
        return Skip(name, "missed", entry.due_at)
    entry.want("behind" if is_missed else "due", due_at)
    return None
