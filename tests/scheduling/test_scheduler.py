"""The loop, on a clock that only its waiting moves, with runs that are none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import create_task_group, sleep
from structlog.testing import capture_logs
from trio.testing import MockClock

from pipeline.configuration.settings import SourceSettings
from pipeline.scheduling.clocks import Clocks
from pipeline.scheduling.health import Health
from pipeline.scheduling.processes import Ended, Stopping
from pipeline.scheduling.scheduler import Attend, Options, Scheduler

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
HOUR_S = 3600.0


@dataclass
class World:
    """A folder of YAML files, and what happens to a scheduler that looks after it."""

    folder: Path
    wall_ahead_s: float = 0.0
    run_s: float = 60.0
    exit_codes: dict[str, int] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    logs: list[Any] = field(default_factory=list)
    attend: Attend | None = None
    health: Health = field(default_factory=lambda: Health(3, 0.0))

    def write(self, name: str, schedule: str, **settings: str) -> None:
        lines = [f'schedule: "{schedule}"', "schedule_zone: UTC", "schedule_jitter_s: 0"]
        lines += [f"{key}: {value}" for key, value in settings.items()]
        lines += ["source: {type: filesystem, path: docs}", "destination: {type: agentcore, endpoint_url: local}"]
        (self.folder / f"{name}.yaml").write_text("\n".join(lines))

    def now(self) -> float:
        return NOON + anyio.current_time() - self._began_at + self.wall_ahead_s

    async def launch(self, file: Path, hear: Callable[[str], None], stopping: Stopping, grace_s: float) -> Ended:
        self.starts.append(f"{datetime.fromtimestamp(self.now(), UTC):%H:%M} {file.stem}")
        await sleep(self.run_s)
        return Ended(self.exit_codes.get(file.stem, 0))

    def live(self, *happens: tuple[float, Callable[[], None]], hours: float, places: int = 2) -> None:
        """Let so many hours go by; at `happens`, in seconds from the start, these are done."""

        async def play() -> None:
            self._began_at = anyio.current_time()
            clocks = Clocks(now=self.now, ticks=anyio.current_time)
            options = Options(places, 20.0)
            scheduler = Scheduler([self.folder], options, self.health, clocks, attend=self.attend, launch=self.launch)
            async with create_task_group() as tasks:
                tasks.start_soon(scheduler.serve)
                for at_s, do in (*happens, (hours * HOUR_S, scheduler.stop)):
                    await sleep(self._began_at + at_s - anyio.current_time())
                    do()

        with capture_logs() as self.logs:
            anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})

    def events(self, name: str) -> list[Any]:
        return [log for log in self.logs if log["event"] == name]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    async def run_here(work: Callable[..., Any], *arguments: Any, **_options: Any) -> Any:
        """The clock goes on when all wait: nobody may wait for a thread."""
        return work(*arguments)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_here)
    folder = tmp_path / "sources"
    folder.mkdir()
    return World(folder)


def test_sources_are_run_at_their_times(world: World) -> None:
    """A first run at once, and then by the schedule."""
    world.write("half", "*/30 * * * *")
    world.write("hour", "15 * * * *", schedule_catch_up="false")

    world.live(hours=1.9)

    assert sorted(world.starts) == ["12:00 half", "12:15 hour", "12:30 half", "13:00 half", "13:15 hour", "13:30 half"]
    assert world.health.sources["half"].status == "in_sync"


def test_a_machine_that_slept_is_noticed_and_made_up_for(world: World) -> None:
    """The wall clock is ahead by the time that it slept, the other one is not."""
    world.write("hour", "0 * * * *")
    world.write("left", "30 * * * *", schedule_catch_up="false")

    world.live((1000, lambda: setattr(world, "wall_ahead_s", 8 * HOUR_S)), hours=1.1)

    assert world.starts == ["12:00 hour", "20:16 hour", "20:30 left", "21:00 hour"]
    (jumped,) = world.events("clock_jumped")
    assert jumped["seconds"] == pytest.approx(8 * HOUR_S, abs=5)


def test_a_clock_that_was_wrong_is_noticed_and_does_not_stop_it(world: World) -> None:
    """A machine may start with a clock that is years ahead, until it hears the time."""
    world.wall_ahead_s = 10 * 365 * 24 * HOUR_S
    world.write("half", "*/30 * * * *")

    world.live((100, lambda: setattr(world, "wall_ahead_s", 0.0)), hours=1.2)

    assert world.starts[1:] == ["12:30 half", "13:00 half"]
    assert world.events("clock_jumped")[0]["seconds"] < 0


def test_a_file_is_read_again_when_it_has_settled(world: World) -> None:
    """One that is read in the middle of its being written would be told as broken."""
    world.write("one", "0 0 1 1 *")
    broken = world.folder / "two.yaml"

    def begin_to_write() -> None:
        broken.write_text("schedule: '*/10 * * * *'\n")

    world.live((601, begin_to_write), (604, lambda: world.write("two", "*/10 * * * *")), hours=0.7)

    assert world.events("configuration_broken") == []
    assert [start for start in world.starts if "two" in start] == ["12:10 two", "12:20 two", "12:30 two", "12:40 two"]


def test_a_file_that_a_source_extends_is_read_again_too(world: World) -> None:
    """The schedule that many sources share is changed in one place: all of them would keep to the old one."""
    shared = world.folder / "_shared.yaml"
    shared.write_text('schedule: "0 0 1 1 *"\nschedule_zone: UTC\nschedule_jitter_s: 0\n')
    (world.folder / "one.yaml").write_text(
        "extends: _shared.yaml\nsource: {type: filesystem, path: docs}\n"
        "destination: {type: agentcore, endpoint_url: local}\n"
    )

    def write(schedule: str) -> None:
        shared.write_text(shared.read_text().replace("0 0 1 1 *", schedule))

    world.live((601, lambda: write("*/20 * * * *")), hours=1.1)

    assert world.starts[-3:] == ["12:20 one", "12:40 one", "13:00 one"]


def test_a_source_whose_extended_file_is_missing_is_back_when_that_is(world: World) -> None:
    """It would stay out until its own file is touched, though nothing is wrong with it any more."""
    world.write("other", "0 0 1 1 *")
    world.write("one", "*/20 * * * *", extends="_shared.yaml")

    def mend() -> None:
        (world.folder / "_shared.yaml").write_text("reports: {keep: 3}\n")

    world.live((601, mend), hours=0.7)

    assert [start for start in world.starts if "one" in start][-2:] == ["12:20 one", "12:40 one"]


def test_a_file_that_settings_refer_to_is_noticed_when_it_is_there(world: World) -> None:
    """A secret that is mounted late, or was repaired: the YAML file itself has not changed, and nobody sends SIGHUP."""
    world.write("other", "0 0 1 1 *")
    world.write("one", "*/20 * * * *", record="{namespace: '/docs/${file:team}/'}")

    def mend() -> None:
        (world.folder / "team").write_text("support")

    world.live((601, mend), hours=0.7)

    assert [start for start in world.starts if "one" in start][-2:] == ["12:20 one", "12:40 one"]
    assert len(world.events("configuration_broken")) == 1
    assert len(world.events("configuration_read")) == 2
    assert world.health.broken == []


def test_a_folder_that_is_gone_for_a_while_is_said_and_made_up_for(world: World) -> None:
    """A disk with the YAML files that is not mounted: the scheduler stays, and goes on when it is back."""
    world.write("half", "*/10 * * * *")
    away = world.folder.with_name("away")

    def unmount() -> None:
        world.folder.rename(away)

    def mount() -> None:
        away.rename(world.folder)

    world.live((1000, unmount), (2000, mount), hours=0.9)

    assert world.starts == ["12:00 half", "12:10 half", "12:33 half", "12:40 half", "12:50 half"]
    assert len(world.events("configuration_broken")) == 1
    assert world.health.broken == []


def test_a_run_that_takes_longer_than_its_period_is_said(world: World) -> None:
    """Who reads the log learns that the schedule is too tight."""
    world.write("half", "*/30 * * * *")
    world.run_s = 45 * 60

    world.live(hours=1.6)

    assert world.starts == ["12:00 half", "13:00 half"]
    assert [log["reason"] for log in world.events("run_skipped")] == ["the run before has not ended"] * 2


@pytest.mark.parametrize(
    ("exit_code", "event"), [(-9, "process_died"), (-35, "process_died"), (1, "process_ended"), (2, "process_ended")]
)
def test_an_end_that_is_no_success_is_told_with_its_next_time(world: World, exit_code: int, event: str) -> None:
    """That is what one looks for in the log."""
    world.write("half", "*/30 * * * *")
    world.exit_codes["half"] = exit_code

    world.live(hours=0.3)

    (told,) = world.events(event)
    assert told["next_due_at"] == "2026-05-01T12:30:00+00:00"
    assert told["log_level"] in ("warning", "error")


def test_a_change_that_came_while_somebody_else_ran_the_source_is_not_lost(world: World) -> None:
    """`memsync run` by hand, or a button of the console, has passed by a file; nothing else would ever bring it in."""

    async def attend(_settings: SourceSettings, want: Callable[[], None]) -> None:
        await sleep(600)
        want()

    def let_go() -> None:
        world.exit_codes["docs"] = 0

    world.write("docs", "0 0 1 1 *", schedule_catch_up="false")
    world.attend, world.run_s, world.exit_codes["docs"] = attend, 1.0, 5

    world.live((650, let_go), hours=0.5)

    assert world.starts == ["12:10 docs", "12:10 docs", "12:11 docs"]


def test_a_run_that_failed_is_tried_again_without_any_change(world: World) -> None:
    """The service was down for some minutes after the one edit of the day: the memory would stay behind for ever."""

    async def attend(_settings: SourceSettings, want: Callable[[], None]) -> None:
        want()

    def recover() -> None:
        world.exit_codes["docs"] = 0

    world.write("docs", "0 0 1 1 *", schedule_catch_up="false")
    world.attend, world.run_s, world.exit_codes["docs"] = attend, 1.0, 1

    world.live((600, recover), hours=3)

    assert world.starts == [f"12:{minute} docs" for minute in ("00", "01", "03", "07", "15")]
    assert [log.get("again_in_s") for log in world.events("process_ended")] == [60, 120, 240, 480, None]
    assert [log["reason"] for log in world.events("process_started")] == ["changed"] + ["again"] * 4


def test_a_source_that_goes_on_failing_is_tried_once_an_hour(world: World) -> None:
    """A service that is down for a week must hear of it within the hour, and not more often."""

    async def attend(_settings: SourceSettings, want: Callable[[], None]) -> None:
        want()

    world.write("docs", "0 0 1 1 *", schedule_catch_up="false")
    world.attend, world.run_s, world.exit_codes["docs"] = attend, 0.0, -9

    world.live(hours=24 * 7)

    waits = [log["again_in_s"] for log in world.events("process_died")]
    assert waits[:8] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert 7 * 24 < len(waits) < 7 * 24 + 10


def test_a_change_comes_before_the_next_try_and_takes_its_place(world: World) -> None:
    """The run that it brings on looks at everything: one more would find nothing to do."""

    async def attend(_settings: SourceSettings, want: Callable[[], None]) -> None:
        want()
        await sleep(30)
        world.exit_codes["docs"] = 0
        want()

    world.write("docs", "0 0 1 1 *", schedule_catch_up="false")
    world.attend, world.run_s, world.exit_codes["docs"] = attend, 1.0, 1

    world.live(hours=1)

    assert world.starts == ["12:00 docs", "12:00 docs"]


def test_a_schedule_alone_says_when_a_run_that_failed_is_tried_again(world: World) -> None:
    """Who chose the times meant them."""
    world.write("half", "*/30 * * * *")
    world.exit_codes["half"] = 1

    world.live(hours=0.9)

    assert world.starts == ["12:00 half", "12:30 half"]
