"""When a source is due. Pure: every time is given, in seconds since the epoch."""

import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from cronsim import CronSim


@dataclass(frozen=True, slots=True)
class Timetable:
    """A cron expression, the time zone that it is read in, and the delay that is this source's own.

    When the clocks change, a time that does not exist comes as soon as it can, one that exists twice comes once, and
    an interval of minutes stays what it is.
    """

    expression: str
    zone: tzinfo = UTC
    delay_s: int = 0

    def due_after(self, moment: float) -> float:
        """The first time behind `moment` at which the source is due; infinity if there is none in 50 years."""
        times = CronSim(self.expression, datetime.fromtimestamp(moment - self.delay_s, self.zone))
        for time in times:
            due_at = time.timestamp() + self.delay_s
            # From the second of two equal hours on, cronsim begins with a time of the first one.
            if due_at > moment:
                return due_at
        return math.inf

    def nth_due_after(self, moment: float, count: int) -> float:
        """The time at which the source has been due `count` times since `moment`."""
        for _ in range(count):
            moment = self.due_after(moment)
        return moment


def delay_of(source: str, jitter_s: int) -> int:
    """Whole seconds from 0 to `jitter_s`: always the same for one name, evenly spread over many."""
    digest = hashlib.sha256(source.encode()).digest()
    return int.from_bytes(digest[:8]) * (jitter_s + 1) >> 64
