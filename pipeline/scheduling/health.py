"""How the scheduler and its sources are, for those who watch over them. Pure: it is told the time.

Health is asked for over the network: names, times and words of ours, no messages, which the log has.
"""

import math
import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import ConfigurationError
from pipeline.report import Status
from pipeline.timetable import Timetable

SCHEMA = "memsync/health/1"
# The loop comes by every few seconds; reading YAML files from a slow disk may hold it up for a while.
STUCK_AFTER_S = 120.0

# died: the process of the run ended without a word, by a signal that nobody here sent.
RunStatus = Status | Literal["misconfigured", "died"]

# What the exit code of `memsync run` says; one that is not here is a failure.
STATUS_BY_EXIT_CODE: dict[int, RunStatus] = {
    0: "in_sync",
    1: "failed",
    2: "misconfigured",
    3: "dead_letters",
    4: "guarded",
    5: "locked",
    130: "interrupted",
    143: "interrupted",
    -signal.SIGINT: "interrupted",  # before it was up far enough to listen
    -signal.SIGTERM: "interrupted",
}
# The memory is as it can be: dead letters wait for a person, who hears of them elsewhere, and not for a run.
SUCCESSES: frozenset[RunStatus] = frozenset({"in_sync", "dead_letters"})
# What another try may mend. The guard waits for a person, and who interrupted a run had a reason.
FAILURES: frozenset[RunStatus] = frozenset({"failed", "misconfigured", "died"})


def status_of(exit_code: int) -> RunStatus:
    """What the end of a run's process says; below zero is the number of the signal that ended it."""
    return STATUS_BY_EXIT_CODE.get(exit_code, "died" if exit_code < 0 else "failed")


@dataclass(slots=True)
class SourceHealth:
    """What is known of a source. Times are in seconds since the epoch, None if there is none."""

    name: str
    timetable: Timetable | None
    known_since: float
    status: RunStatus | None = None  # of the last run that ended; None: there was none
    ended_at: float | None = None
    succeeded_at: float | None = None
    running_since: float | None = None
    due_at: float = math.inf

    def note_end(self, status: RunStatus, now: float) -> None:
        self.status, self.ended_at, self.running_since = status, now, None
        if status in SUCCESSES:
            self.succeeded_at = now

    def is_behind(self, now: float, periods_max: int) -> bool:
        """Whether the source was due `periods_max` times since its last success, or since it is known here.

        One without a timetable is behind if its last run was no success.
        """
        if self.timetable is None:
            return self.status is not None and self.status not in SUCCESSES and self.status != "locked"
        since = self.known_since if self.succeeded_at is None else self.succeeded_at
        return self.timetable.nth_due_after(since, periods_max) <= now


@dataclass(slots=True)
class Health:
    """What is known of all sources, and of the files that are none since they are not valid."""

    periods_max: int
    ticked_at: float  # by the clock that never jumps
    sources: dict[str, SourceHealth] = field(default_factory=dict)
    broken: list[ConfigurationError] = field(default_factory=list)

    def is_alive(self, ticked_now: float) -> bool:
        """Whether the loop has come by lately. `ticked_now` is by the clock that never jumps."""
        return ticked_now - self.ticked_at < STUCK_AFTER_S

    def is_ready(self, now: float, ticked_now: float) -> bool:
        """Whether the loop runs, all files are valid, and no source is behind."""
        is_behind = any(source.is_behind(now, self.periods_max) for source in self.sources.values())
        return self.is_alive(ticked_now) and not self.broken and not is_behind

    def report(self, now: float, ticked_now: float) -> dict[str, Any]:
        """All of it, as a JSON object."""
        return {
            "schema": SCHEMA,
            "alive": self.is_alive(ticked_now),
            "ready": self.is_ready(now, ticked_now),
            "now": _time(now),
            "sources": [self._source(source, now) for source in self.sources.values()],
            "broken_files": sorted({Path(fault.path).name for fault in self.broken if fault.path}),
        }

    def _source(self, source: SourceHealth, now: float) -> dict[str, Any]:
        return {
            "name": source.name,
            "status": source.status,
            "behind": source.is_behind(now, self.periods_max),
            "schedule": source.timetable.expression if source.timetable else None,
            "running_since": _time(source.running_since),
            "last_ended_at": _time(source.ended_at),
            "last_succeeded_at": _time(source.succeeded_at),
            "next_due_at": _time(source.due_at),
        }


def _time(moment: float | None) -> str | None:
    if moment is None or math.isinf(moment):
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
