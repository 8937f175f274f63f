"""What is started when: whole days, in no time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pipeline.scheduling.agenda import Agenda, Skip, Start
from pipeline.timetable import Timetable

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


def every(minutes: int) -> Timetable:
    return Timetable(f"*/{minutes} * * * *")


HOURLY = Timetable("0 * * * *")


@dataclass
class World:
    """An agenda, a clock that only we move, and runs that take as long as we say."""

    agenda: Agenda
    now: float = NOON
    durations_s: Mapping[str, float] = field(default_factory=dict)
    starts: list[tuple[float, Start]] = field(default_factory=list)
    skips: list[tuple[float, Skip]] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    most_at_once: int = 0

    def step(self) -> None:
        """What the scheduler does at each tick."""
        for source, end in list(self.ends.items()):
            if end <= self.now:
                del self.ends[source]
                self.agenda.ended(source)
        for decision in self.agenda.decide(self.now):
            if isinstance(decision, Start):
                assert decision.source not in self.ends, "two runs of one source at once"
                self.starts.append((self.now, decision))
                self.ends[decision.source] = self.now + self.durations_s.get(decision.source, 1.0)
            else:
                self.skips.append((self.now, decision))
        self.most_at_once = max(self.most_at_once, len(self.ends))

    def live(self, duration_s: float, *, tick_s: float = 5.0) -> None:
        end = self.now + duration_s
        while self.now < end:
            self.step()
            self.now += min(tick_s, end - self.now)
        self.step()

    def sleep(self, duration_s: float) -> None:
        """The machine sleeps, or the clock is set: nobody is there meanwhile."""
        self.now += duration_s

    def started(self, source: str = "docs") -> list[str]:
        """When runs of the source began, since noon of the first day."""
        return [_shown(at) for at, start in self.starts if start.source == source]


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%d %H:%M")


def test_a_week_of_hourly_runs_is_a_run_an_hour() -> None:
    """Not one more, not one less, and none late."""
    world = World(Agenda(places=1))
    world.agenda.put("docs", HOURLY, world.now)

    world.live(7 * DAY_S)

    assert len(world.starts) == 7 * 24
    assert {start.reason for _, start in world.starts} == {"due"}
    assert max(start.late_s for _, start in world.starts) < 5
    assert world.skips == []


def test_a_year_of_nightly_runs_is_a_run_a_night() -> None:
    """Whatever the clocks of the zone do twice in it."""
    world = World(Agenda(places=1))
    world.agenda.put("docs", Timetable("30 2 * * *", BERLIN), world.now)

    world.live(365 * DAY_S, tick_s=600)

    nights = [datetime.fromtimestamp(at, BERLIN).date() for at, _ in world.starts]
    assert len(nights) == len(set(nights)) == 365


def test_a_run_that_is_under_way_is_not_doubled() -> None:
    """The times that come meanwhile are left out, and said."""
    world = World(Agenda(places=4), durations_s={"docs": 2.5 * HOUR_S})
    world.agenda.put("docs", HOURLY, world.now)

    world.live(5.5 * HOUR_S)

    assert world.started() == ["01 13:00", "01 16:00"]
    assert [(_shown(at), skip.reason, _shown(skip.next_at)) for at, skip in world.skips] == [
        ("01 14:00", "running", "01 15:00"),
        ("01 15:00", "running", "01 16:00"),
        ("01 17:00", "running", "01 18:00"),
    ]


def test_no_more_than_the_places_run_at_once_and_all_get_their_turn() -> None:
    """Memory is for so many runs; a source whose name comes last must not starve."""
    names = [f"source-{number}" for number in range(9)]
    world = World(Agenda(places=2), durations_s=dict.fromkeys(names, 10 * MINUTE_S))
    for name in names:
        world.agenda.put(name, HOURLY, world.now)

    world.live(5.9 * HOUR_S)

    assert world.most_at_once == 2
    assert {name: len(world.started(name)) for name in names} == dict.fromkeys(names, 5)


def test_with_too_few_places_the_one_that_waits_longest_is_next() -> None:
    """Where not all can be run in time, each is run now and then, and what is left out is said."""
    names = [f"source-{number}" for number in range(4)]
    world = World(Agenda(places=1), durations_s=dict.fromkeys(names, 30 * MINUTE_S))
    for name in names:
        world.agenda.put(name, HOURLY, world.now)

    world.live(12 * HOUR_S)

    counts = [len(world.started(name)) for name in names]
    assert max(counts) - min(counts) <= 1
    assert {skip.reason for _, skip in world.skips} == {"waiting"}


def test_a_machine_that_slept_makes_up_for_it_once() -> None:
    """A laptop that was closed for the night runs once in the morning, not eight times."""
    world = World(Agenda(places=1))
    world.agenda.put("docs", HOURLY, world.now)
    world.live(1.5 * HOUR_S)

    world.sleep(8.25 * HOUR_S)
    world.live(0.5 * HOUR_S)

    assert world.started() == ["01 13:00", "01 21:45", "01 22:00"]
    assert world.starts[1][1].reason == "behind"
    assert world.starts[1][1].late_s == pytest.approx(7.75 * HOUR_S, abs=5)


def test_what_was_slept_through_can_be_left_alone() -> None:
    """A source that may only be read at night is not read in the morning, and that is said."""
    world = World(Agenda(places=1))
    world.agenda.put("docs", Timetable("0 2 * * *"), world.now, catches_up=False)

    world.sleep(20 * HOUR_S)
    world.live(HOUR_S)

    assert world.starts == []
    assert [(skip.reason, _shown(skip.next_at)) for _, skip in world.skips] == [("missed", "03 02:00")]


def test_what_was_missed_before_the_start_is_made_up_for_at_once() -> None:
    """A scheduler that was down at two in the morning runs when it comes up, unless it was told not to."""
    world = World(Agenda(places=2))
    world.agenda.put("docs", HOURLY, world.now, is_behind=True)
    world.agenda.put("nightly", HOURLY, world.now, is_behind=True, catches_up=False)
    world.agenda.put("fresh", HOURLY, world.now)

    world.live(5 * MINUTE_S)

    assert [(start.source, start.reason) for _, start in world.starts] == [("docs", "behind")]


def test_a_clock_that_is_corrected_by_seconds_starts_nothing_twice() -> None:
    """Time servers put clocks back by a little all the time."""
    world = World(Agenda(places=1))
    world.agenda.put("docs", HOURLY, world.now)
    world.live(HOUR_S + 10)
    assert world.started() == ["01 13:00"]

    world.now -= 30
    world.live(HOUR_S)

    assert world.started() == ["01 13:00"]
    assert world.skips == []
    world.live(MINUTE_S)
    assert world.started() == ["01 13:00", "01 14:00"]


def test_a_clock_that_was_years_ahead_does_not_stop_the_runs_for_years() -> None:
    """A machine that starts before it has asked for the time may believe in 2099."""
    world = World(Agenda(places=1))
    world.now += 73 * 365 * DAY_S
    world.agenda.put("docs", HOURLY, world.now)
    world.live(1.5 * HOUR_S)
    world.starts.clear()
    world.ends.clear()
    world.agenda.ended("docs")

    world.now = NOON
    world.live(2.5 * HOUR_S)

    assert world.started() == ["01 13:00", "01 14:00"]


def test_a_change_during_a_run_is_followed_by_another_run() -> None:
    """The run may have passed by the file already: the change would wait for the next one, or for ever.

    Nor may it begin beside that run, though there is a place for it.
    """
    world = World(Agenda(places=2), durations_s={"docs": 10 * MINUTE_S})
    world.agenda.put("docs", None, world.now)
    world.agenda.ask("docs", world.now)
    world.live(MINUTE_S)

    for _ in range(3):
        world.agenda.ask("docs", world.now)
    world.live(HOUR_S)

    assert world.started() == ["01 12:00", "01 12:10"]


def test_a_source_that_is_dropped_runs_to_its_end_and_never_again() -> None:
    """A YAML file that is gone, or broken: its run is not cut short, and its place is taken until it ends."""
    world = World(Agenda(places=1), durations_s={"docs": 3 * HOUR_S})
    world.agenda.put("docs", HOURLY, world.now)
    world.agenda.put("other", Timetable("30 * * * *"), world.now)
    world.live(1.1 * HOUR_S)

    world.agenda.drop("docs")
    world.agenda.ask("docs", world.now)
    world.live(5 * HOUR_S)

    assert world.started() == ["01 13:00"]
    assert world.started("other")[:2] == ["01 12:30", "01 16:00"]
    assert world.most_at_once == 1


def test_a_dropped_source_that_comes_back_keeps_to_one_run_at_a_time() -> None:
    """A file that is broken for a moment while it is edited must not have its source run twice at once."""
    world = World(Agenda(places=2), durations_s={"docs": 1.5 * HOUR_S})
    world.agenda.put("docs", HOURLY, world.now)
    world.live(1.1 * HOUR_S)

    world.agenda.drop("docs")
    world.agenda.put("docs", every(10), world.now, is_behind=True)
    world.live(2 * HOUR_S)

    assert world.started() == ["01 13:00", "01 14:30"]


def test_a_new_timetable_holds_from_now_on() -> None:
    """Who changes `schedule` from nightly to every ten minutes does not wait for the night."""
    world = World(Agenda(places=1))
    world.agenda.put("docs", Timetable("0 2 * * *"), world.now)
    world.live(HOUR_S)

    world.agenda.put("docs", every(10), world.now)
    world.live(25 * MINUTE_S)

    assert world.started() == ["01 13:10", "01 13:20"]


def test_it_tells_when_there_is_something_to_decide_next() -> None:
    """The loop sleeps until then; a source that is only asked for keeps nobody up."""
    agenda = Agenda(places=1)
    agenda.put("asked", None, NOON)
    assert agenda.wake_at() == float("inf")

    agenda.put("docs", HOURLY, NOON)

    assert agenda.wake_at() == NOON + HOUR_S
    assert agenda.due_at("docs") == NOON + HOUR_S
    assert agenda.due_at("unknown") == float("inf")
