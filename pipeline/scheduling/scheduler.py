"""Starts the runs that the agenda wants, sees them end, and says how everything is.

Each run is a process: one that dies takes nothing along, and what it needed of memory is free afterwards. The loop
looks at the wall clock every few seconds, however long the next run is away: a machine that was asleep, or a clock
that was set, is noticed as soon as the process goes on.
"""

import math
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog
from anyio import CancelScope, Event, create_task_group, move_on_after, to_thread
from anyio.abc import TaskGroup

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError, SyncError
from pipeline.reporting.relay import relay
from pipeline.reporting.statuses import StatusRow
from pipeline.runs.changed_files import FileLooks, Snapshot
from pipeline.runs.notifying import notify_of_process
from pipeline.runs.status import status_row
from pipeline.scheduling.agenda import Agenda, Skip, Start
from pipeline.scheduling.clocks import Clocks
from pipeline.scheduling.health import FAILURES, SUCCESSES, Health, RunStatus, SourceHealth, status_of
from pipeline.scheduling.processes import Ended, Stopping, run_in_process
from pipeline.scheduling.sources import Scheduled, read_sources
from pipeline.timetable import Timetable

TICK_S = 5.0
HEARTBEAT_S = 15.0
LOCKED_AGAIN_S = 30.0  # until a change is looked for again that came while somebody else ran the source
# Until a run is tried again that has failed and may have nothing else to bring it on: twice as long each time.
FAILED_AGAIN_S = 60.0
FAILED_AGAIN_MAX_S = 3600.0
BROKEN_AGAIN_S = 30.0  # until files that are not valid are read again: what they refer to may have been mended
JUMP_S = 30.0  # more than the clocks differ after a tick that a busy machine has delayed

Attend = Callable[[SourceSettings, Callable[[], None]], Awaitable[None]]
"""Attends to a source for as long as its settings stay as they are; calls what it is given when a run is wanted."""

_WORDS_BY_REASON = {
    "running": "the run before has not ended",
    "waiting": "it waits for other runs to end; --concurrency lets more of them run at once",
    "missed": "nobody could start it in time, and schedule_catch_up is false",
}
_DEATH = (
    "nothing is lost, the next run carries on. A SIGKILL that nobody sent is mostly the kernel's, for want of memory:"
    " give it more, or lower --concurrency or workers.processes"
)
_KILLED = "it did not stop in time; nothing is lost, the next run carries on"


class Launch(Protocol):
    """Runs a source to its end; see `run_in_process`."""

    async def __call__(self, file: Path, hear: Callable[[str], None], stopping: Stopping, grace_s: float) -> Ended: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How many runs at a time, how long a run may take to stop, and the file to be touched while all is well."""

    concurrency: int
    grace_s: float
    heartbeat: Path | None = None


class Scheduler:
    """Made for one `serve`. `stop`, `kill` and `reload` are for the signals of the process."""

    def __init__(
        self,
        paths: Sequence[Path],
        options: Options,
        health: Health,
        clocks: Clocks,
        *,
        attend: Attend | None = None,
        launch: Launch = run_in_process,
    ) -> None:
        self._paths = paths
        self._looks = FileLooks(paths)
        self._options = options
        self._health = health
        self._clocks = clocks
        self._attend = attend
        self._launch = launch
        self._agenda = Agenda(options.concurrency)
        self._sources: dict[str, Scheduled] = {}
        self._attended: dict[str, tuple[SourceSettings, CancelScope]] = {}
        self._files: Snapshot = {}
        self._changed_files: Snapshot | None = None
        self._read_at = -math.inf  # by the clock that never jumps
        self._is_reload_asked = False
        self._stopping = Stopping(Event(), Event())
        self._wake = Event()
        self._running_since: dict[str, float] = {}
        self._failures: Counter[str] = Counter()  # in a row, of sources that are attended to
        self._retries: dict[str, CancelScope] = {}
        self._said: set[str] = set()
        self._ticked: tuple[float, float] | None = None
        self._beat_at = -math.inf
        self._log = structlog.get_logger()

    # ------------------------------------------------------------------------------------------- from outside

    def stop(self) -> None:
        """Start nothing more; runs under way are asked to stop, and killed if they do not in time."""
        self._stopping.asked.set()
        self._wake.set()

    def kill(self) -> None:
        """End all runs on the spot."""
        self._stopping.forced.set()

    def reload(self) -> None:
        """Read the YAML files again, now."""
        self._is_reload_asked = True
        self._wake.set()

    async def serve(self) -> None:
        """Run sources when they are due, until `stop`.

        Raises:
            ConfigurationError: no file is valid, or no source has a schedule: there would be nothing to do.
        """
        self._files = await to_thread.run_sync(self._looks.take)  # before they are read: they may change
        sources, faults = await to_thread.run_sync(read_sources, self._paths)
        if not sources and faults:
            raise ConfigurationError("\n".join(dict.fromkeys(map(str, faults))))
        if self._attend is None and all(source.timetable is None for source in sources.values()):
            raise ConfigurationError(
                f"No source here has a schedule: {', '.join(sources)}. Nothing was started. Give it one in its YAML"
                ' file, such as `schedule: "*/30 * * * *"`.'
            )
        async with create_task_group() as tasks:
            await self._take_in(sources, faults, tasks)
            while not self._stopping.asked.is_set():
                await self._tick(tasks)
                await self._wait_until(self._agenda.wake_at())
            self._log.info("scheduler_stopping", running=[*self._running_since])
            self._attend_to({}, tasks)
            while self._running_since:
                self._note_time()
                await self._wait_until(math.inf)
        self._log.info("scheduler_stopped")

    # ------------------------------------------------------------------------------------------------ the loop

    async def _tick(self, tasks: TaskGroup) -> None:
        now = self._note_time()
        await self._look_at_files(tasks)
        for decision in self._agenda.decide(now):
            match decision:
                case Start():
                    self._begin(decision, now, tasks)
                case Skip():
                    self._log.warning(
                        "run_skipped",
                        source=decision.source,
                        reason=_WORDS_BY_REASON[decision.reason],
                        next_due_at=_time(decision.next_at),
                    )
        for name, source in self._health.sources.items():
            source.due_at = self._agenda.due_at(name)

    async def _wait_until(self, moment: float) -> None:
        with move_on_after(max(0.0, min(TICK_S, moment - self._clocks.now()))):
            await self._wake.wait()
        if self._wake.is_set():
            self._wake = Event()

    def _note_time(self) -> float:
        now, ticks = self._clocks.now(), self._clocks.ticks()
        if self._ticked is not None:
            jumped_s = (now - self._ticked[0]) - (ticks - self._ticked[1])
            if abs(jumped_s) > JUMP_S:
                self._log.warning("clock_jumped", seconds=round(jumped_s), cause="the machine slept, or it was set")
        self._ticked = now, ticks
        self._health.ticked_at = ticks
        if self._options.heartbeat is not None and ticks - self._beat_at >= HEARTBEAT_S:
            self._beat_at = ticks
            self._beat(self._options.heartbeat)
        return now

    def _beat(self, heartbeat: Path) -> None:
        try:
            heartbeat.touch(mode=0o600)
        except OSError as error:
            self._say_once("heartbeat_failed", file=str(heartbeat), message=error.strerror)

    # ------------------------------------------------------------------------------------------------- the runs

    def _begin(self, start: Start, now: float, tasks: TaskGroup) -> None:
        self._log.info("process_started", source=start.source, reason=start.reason, late_s=round(start.late_s))
        self._health.sources[start.source].running_since = self._running_since[start.source] = now
        if retry := self._retries.get(start.source):  # this is it
            retry.cancel()
        tasks.start_soon(self._run, self._sources[start.source].settings)

    async def _run(self, settings: SourceSettings) -> None:
        name, started = settings.name, self._clocks.ticks()
        try:
            ended = await self._launch(
                settings.file, lambda line: relay(line, source=name), self._stopping, self._options.grace_s
            )
        except OSError as error:  # such as no memory for one more process
            self._log.error("process_not_started", source=name, message=error.strerror)
            ended = Ended(exit_code=1)
        if (problem := _untold(ended)) is not None and not self._stopping.asked.is_set():
            await self._tell(settings, problem)
        again_s = self._note_end(name, ended, self._clocks.ticks() - started)
        self._wake.set()
        if again_s is not None:
            await self._ask_later(name, again_s)

    async def _tell(self, settings: SourceSettings, problem: str) -> None:
        try:
            await notify_of_process(settings, problem)
        except Exception:  # whatever it is, the other sources are more important
            self._log.exception("observer_failed", source=settings.name)

    async def _ask_later(self, name: str, delay_s: float) -> None:
        """Have the source run once more, unless another run comes before that, or the end."""
        with CancelScope() as scope:
            self._retries[name] = scope
            with move_on_after(delay_s):
                await self._stopping.asked.wait()
            self._agenda.ask(name, self._clocks.now(), "again")
            self._wake.set()
        if self._retries.get(name) is scope:
            del self._retries[name]

    def _again_after(self, name: str, status: RunStatus) -> float | None:
        """The seconds until a source that is attended to is run again, without any change; None: not for now.

        What wanted the run that left something to do came from a change, and there may be no other.
        """
        if name not in self._attended or self._stopping.asked.is_set():
            return None
        if status == "locked":
            return LOCKED_AGAIN_S
        if status not in FAILURES:
            del self._failures[name]
            return None
        doublings = min(self._failures[name], 20)  # far beyond the most
        self._failures[name] += 1
        return min(FAILED_AGAIN_S * 2.0**doublings, FAILED_AGAIN_MAX_S)

    def _note_end(self, name: str, ended: Ended, duration_s: float) -> float | None:
        """Say how the run ended; returns the seconds until it is to be run again, None: when it is due or asked for."""
        status: RunStatus = "interrupted" if ended.was_killed else status_of(ended.exit_code)
        del self._running_since[name]
        self._agenda.ended(name)
        if health := self._health.sources.get(name):  # its file may be gone
            health.note_end(status, self._clocks.now())
        fields: dict[str, Any] = {"source": name, "status": status, "duration_s": round(duration_s, 1)}
        if not self._stopping.asked.is_set():
            fields["next_due_at"] = _time(self._agenda.due_at(name))
        again_s = self._again_after(name, status)
        if again_s is not None:
            fields["again_in_s"] = round(again_s)
        if status == "died":
            fields["signal"] = _signal_name(-ended.exit_code)
            self._log.error("process_died", **fields, consequence=_DEATH)
        elif ended.was_killed:
            self._log.warning("process_killed", **fields, consequence=_KILLED)
        elif status in SUCCESSES:
            self._log.info("process_ended", **fields)
        else:
            self._log.warning("process_ended", **fields, exit_code=ended.exit_code)
        return again_s

    # ------------------------------------------------------------------------------------------- the YAML files

    async def _look_at_files(self, tasks: TaskGroup) -> None:
        is_asked, self._is_reload_asked = self._is_reload_asked, False
        files = await to_thread.run_sync(self._looks.take, abandon_on_cancel=True)
        if files == self._files and not is_asked:
            self._changed_files = None
            if self._health.broken and self._clocks.ticks() - self._read_at >= BROKEN_AGAIN_S:
                await self._look_at_broken(tasks)
            return
        if files != self._changed_files and not is_asked:
            self._changed_files = files  # it may still be being written: read when it stays as it is for a while
            return
        self._files, self._changed_files = files, None
        self._said.clear()
        sources, faults = await to_thread.run_sync(read_sources, self._paths, abandon_on_cancel=True)
        await self._take_in(sources, faults, tasks)

    async def _look_at_broken(self, tasks: TaskGroup) -> None:
        """Read the files again though they look the same: a secret that they refer to may be there by now."""
        self._read_at = self._clocks.ticks()
        sources, faults = await to_thread.run_sync(read_sources, self._paths, abandon_on_cancel=True)
        if [*map(str, faults)] != [*map(str, self._health.broken)]:
            await self._take_in(sources, faults, tasks)

    async def _take_in(self, sources: dict[str, Scheduled], faults: list[ConfigurationError], tasks: TaskGroup) -> None:
        now, self._read_at = self._clocks.now(), self._clocks.ticks()
        for name in self._sources.keys() - sources.keys():
            self._agenda.drop(name)
            self._health.sources.pop(name)
        for name, source in sources.items():
            if name not in self._sources:
                await self._meet(source, now)
            self._agenda.put(name, source.timetable, now, catches_up=source.settings.schedule_catch_up)
            self._health.sources[name].timetable = source.timetable
        self._sources = sources
        self._health.broken = faults
        self._log.info(
            "configuration_read",
            sources={name: _time(self._agenda.due_at(name)) or "not scheduled" for name in sources},
            broken_files=len({fault.path for fault in faults}),
        )
        for fault in faults:
            self._say_once("configuration_broken", message=str(fault))
        self._attend_to(sources, tasks)

    async def _meet(self, source: Scheduled, now: float) -> None:
        """Take in a source that is new here, as its last run left it."""
        settings, timetable = source.settings, source.timetable
        health = SourceHealth(settings.name, timetable, known_since=now)
        health.running_since = self._running_since.get(settings.name)
        self._health.sources[settings.name] = health
        try:
            row = await status_row(settings, now)
        except SyncError as error:
            self._log.warning("state_not_read", source=settings.name, message=str(error))
            row = None
        if row is not None and row.status not in (None, "locked"):
            health.status, health.ended_at = row.status, row.last_run_at
            health.succeeded_at = row.last_run_at if row.status in SUCCESSES else None
        self._agenda.put(
            settings.name,
            timetable,
            now,
            catches_up=settings.schedule_catch_up,
            is_behind=timetable is not None and row is not None and is_behind(row, timetable, now),
        )

    def _attend_to(self, sources: dict[str, Scheduled], tasks: TaskGroup) -> None:
        """Attend to these sources as they are now, and to no others."""
        if self._attend is None:
            return
        for name, (settings, scope) in list(self._attended.items()):
            if name not in sources or sources[name].settings != settings:
                scope.cancel()
                del self._attended[name]
        for name, source in sources.items():
            if name not in self._attended:
                scope = CancelScope()
                self._attended[name] = source.settings, scope
                tasks.start_soon(self._attend_one, self._attend, source.settings, scope)

    async def _attend_one(self, attend: Attend, settings: SourceSettings, scope: CancelScope) -> None:
        def want() -> None:
            self._agenda.ask(settings.name, self._clocks.now())
            self._wake.set()

        with scope:
            await attend(settings, want)

    def _say_once(self, event: str, **fields: Any) -> None:
        """Log what is found again at every look once for each change of the files."""
        if repr(fields) not in self._said:
            self._said.add(repr(fields))
            self._log.error(event, **fields)


def is_behind(row: StatusRow, timetable: Timetable, now: float) -> bool:
    """Whether a run of the source should have begun before `now` and did not, or did not come to its end."""
    if row.status == "locked":
        return False
    if row.status == "interrupted" or row.last_sync_at is None:
        return True
    return timetable.due_after(row.last_sync_at) <= now


def _untold(ended: Ended) -> str | None:
    """What people are to hear of a process that has ended, if its run cannot have told them; None: nothing."""
    if ended.was_killed:
        return None
    match status_of(ended.exit_code):
        case "died":
            return f"The process of a run was ended by {_signal_name(-ended.exit_code)}: {_DEATH}."
        case "misconfigured":
            return "A run could not begin, as its settings cannot be used. The log of the scheduler tells why."
        case _:
            return None


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in [*signal.Signals] else str(number)  # not all have names


def _time(moment: float) -> str | None:
    return None if math.isinf(moment) else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
