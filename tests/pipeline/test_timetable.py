"""When a source is due, over the changes of the clocks and for whole fleets."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.timetable import Timetable, delay_of

BERLIN = ZoneInfo("Europe/Berlin")
YEAR_S = 366 * 24 * 3600


def at(text: str) -> float:
    """Seconds since the epoch of a time with its offset, or of UTC."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def times(timetable: Timetable, after: str, count: int) -> list[str]:
    moment, found = at(after), []
    for _ in range(count):
        moment = timetable.due_after(moment)
        found.append(datetime.fromtimestamp(moment, BERLIN).isoformat(timespec="minutes"))
    return found


def test_a_time_that_the_clocks_skip_comes_as_soon_as_it_can() -> None:
    """On the last Sunday of March there is no half past two: that day's run must not be lost."""
    nightly = Timetable("30 2 * * *", BERLIN)

    assert times(nightly, "2026-03-27T12:00", 3) == [
        "2026-03-28T02:30+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:30+02:00",
    ]


def test_a_time_that_comes_twice_is_taken_once() -> None:
    """On the last Sunday of October half past two comes twice: a nightly run is still one a night."""
    nightly = Timetable("30 2 * * *", BERLIN)

    assert times(nightly, "2026-10-24T12:00", 3) == [
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
        "2026-10-27T02:30+01:00",
    ]


def test_an_interval_stays_what_it_is_when_the_clocks_change() -> None:
    """A source that is due every half hour must not rest for an hour, nor run on the spot."""
    for day in ("2026-03-28T23:00", "2026-10-24T23:00"):
        moment = at(day)
        for _ in range(12):
            due_at = Timetable("*/30 * * * *", BERLIN).due_after(moment)
            assert due_at - moment == 1800
            moment = due_at


def test_the_second_of_two_equal_hours_leads_on_and_not_back() -> None:
    """A time in the past would be due at once, again and again, for an hour."""
    second_half_past_two = at("2026-10-25T02:30+01:00")

    due_at = Timetable("45 2 * * *", BERLIN).due_after(second_half_past_two)

    assert due_at == at("2026-10-26T02:45+01:00")


@given(
    moment=st.floats(min_value=1.7e9, max_value=1.7e9 + 3 * YEAR_S),
    expression=st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "0 2,3 * * *", "15 1 * * 0", "0 0 1 * 1"]),
    delay_s=st.integers(0, 90_000),
)
def test_the_next_time_is_always_ahead(moment: float, expression: str, delay_s: int) -> None:
    """The loop takes a time as done when it asks for the next: one that is not ahead would never let it rest."""
    timetable = Timetable(expression, BERLIN, delay_s)

    due_at = timetable.due_after(moment)

    assert due_at > moment
    assert timetable.due_after(due_at) > due_at


def test_a_source_keeps_its_delay_and_a_fleet_spreads() -> None:
    """A delay that changed would make intervals uneven; equal ones would have all sources throttle each other."""
    delays = [delay_of(f"source-{number}", 60) for number in range(1000)]

    assert delays == [delay_of(f"source-{number}", 60) for number in range(1000)]
    assert set(delays) == set(range(61))
    assert delay_of("handbook", 0) == 0
    hourly = Timetable("0 * * * *", UTC, 17)
    assert hourly.due_after(at("2026-05-01T10:00:16")) == at("2026-05-01T10:00:17")
    assert hourly.due_after(at("2026-05-01T10:00:17")) == at("2026-05-01T11:00:17")


@pytest.mark.parametrize(("count", "expected"), [(1, "2026-05-01T11:00"), (3, "2026-05-01T13:00")])
def test_times_are_counted(count: int, expected: str) -> None:
    """Health asks how long ago a source should have been run so many times."""
    assert Timetable("0 * * * *").nth_due_after(at("2026-05-01T10:30"), count) == at(expected)
