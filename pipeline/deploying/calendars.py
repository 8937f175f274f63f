"""The times of a cron expression, in the languages of others: exactly, or not at all."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from cronsim import CronSim

ALL_DAYS = frozenset(range(1, 32))
ALL_WEEKDAYS = frozenset(range(7))  # 0 is Sunday
DAYS_IN_WEEK = 7
_SYSTEMD_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")

# last_day, last_weekday: of a month, the latter from Monday to Friday. last: of the weekday in the month. 1 to 5: of
# the weekday in the month.
Special = Literal["last_day", "last_weekday", "last", 1, 2, 3, 4, 5]


class CannotBeSaid(Exception):
    """A language has no words for these times; the message says for which."""


@dataclass(frozen=True, slots=True)
class Days:
    """Some days: those that are among `days` and `weekdays`, and are the special one if there is one."""

    days: frozenset[int] = ALL_DAYS
    weekdays: frozenset[int] = ALL_WEEKDAYS
    special: Special | None = None

    def and_also(self, other: "Days") -> "Days":
        if self.special and other.special:
            raise CannotBeSaid("two conditions on one day of the month")
        return Days(self.days & other.days, self.weekdays & other.weekdays, self.special or other.special)


@dataclass(frozen=True, slots=True)
class Calendar:
    """What a cron expression means: on any of `alternatives`, at each of these hours and minutes."""

    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    alternatives: tuple[Days, ...]


def calendar_of(expression: str) -> Calendar:
    """The calendar of an expression that the settings have let through."""
    cron = CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    days = list(_days_of_month(cron))
    weekdays = list(_weekdays(cron))
    # As in cron: days of the month and of the week both count, unless one of them begins with a star.
    both = [one.and_also(other) for one in days for other in weekdays] if cron.day_and else [*days, *weekdays]
    possible = (each for each in both if each.days and each.weekdays)
    return Calendar(
        frozenset(cron.minutes), frozenset(cron.hours), frozenset(cron.months), tuple(dict.fromkeys(possible))
    )


def _days_of_month(cron: CronSim) -> Iterator[Days]:
    if plain := frozenset(cron.days) & ALL_DAYS:
        yield Days(days=plain)
    if CronSim.LAST in cron.days:
        yield Days(special="last_day")
    if CronSim.LAST_WEEKDAY in cron.days:
        yield Days(special="last_weekday")


def _weekdays(cron: CronSim) -> Iterator[Days]:
    plain = frozenset(each % DAYS_IN_WEEK for each in cron.weekdays if isinstance(each, int))
    if plain:
        yield Days(weekdays=plain)
    for each in sorted(each for each in cron.weekdays if isinstance(each, tuple)):
        weekday, number = each
        yield Days(weekdays=frozenset({weekday % DAYS_IN_WEEK}), special="last" if number < 0 else number)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- systemd


def on_calendar(expression: str, zone: str | None) -> list[str]:
    """The values of `OnCalendar=` that together are the times of `expression`.

    Raises:
        CannotBeSaid: systemd has no words for them.
    """
    calendar = calendar_of(expression)
    months = _listed(calendar.months, range(1, 13), "..")
    time = f"{_listed(calendar.hours, range(24), '..')}:{_listed(calendar.minutes, range(60), '..')}:00"
    suffix = f" {zone}" if zone else ""
    lines = []
    for days in calendar.alternatives:
        for weekdays, day in _systemd_days(days):
            words = ",".join(_SYSTEMD_WEEKDAYS[each] for each in sorted(weekdays)) + " "
            lines.append(f"{'' if weekdays == ALL_WEEKDAYS else words}*-{months}{day} {time}{suffix}")
    return lines


def _systemd_days(days: Days) -> Iterator[tuple[frozenset[int], str]]:
    """Weekdays, and the day of the month: `-` counts from its beginning, `~` from its end."""
    match days.special:
        case None:
            yield days.weekdays, f"-{_listed(days.days, range(1, 32), '..')}"
        case int(number):
            within = days.days & frozenset(range(7 * number - 6, min(7 * number, 31) + 1))
            if within:
                yield days.weekdays, f"-{_listed(within, range(1, 32), '..')}"
        case _ if days.days != ALL_DAYS:
            raise CannotBeSaid("days counted from the end of a month that are also counted from its beginning")
        case "last_day":
            yield days.weekdays, "~01"
        case "last":
            yield days.weekdays, "~07/1"
        case "last_weekday":
            if weekdays := days.weekdays & {1, 2, 3, 4, 5}:
                yield weekdays, "~01"
            if 5 in days.weekdays:  # before a Saturday or a Sunday that ends the month
                yield frozenset({5}), "~02"
                yield frozenset({5}), "~03"


# -------------------------------------------------------------------------------------------------- others


def plain_cron(expression: str) -> str:
    """The expression with numbers only, for programs that know nothing but numbers, lists, ranges and stars.

    Raises:
        CannotBeSaid: it has more to say than that, or means a step of all days by its star.
    """
    calendar = calendar_of(expression)
    days, weekdays = ALL_DAYS, ALL_WEEKDAYS
    for each in calendar.alternatives:
        _check_is_plain(each)
        if each.weekdays == ALL_WEEKDAYS:
            days = each.days
        else:
            weekdays = each.weekdays
    is_or = len(calendar.alternatives) > 1
    return " ".join(
        (
            _listed(calendar.minutes, range(60), "-"),
            _listed(calendar.hours, range(24), "-"),
            # Where both are given and either counts, a star would say that both must.
            _listed(days, () if is_or else range(1, 32), "-"),
            _listed(calendar.months, range(1, 13), "-"),
            _listed(weekdays, () if is_or else range(7), "-"),
        )
    )


def debian_cron(expression: str) -> str:
    """The expression for cron itself, which knows also what its star with a step means.

    Raises:
        CannotBeSaid: it counts days in a way that cron does not know.
    """
    try:
        return plain_cron(expression)
    except CannotBeSaid:
        if any(each.special for each in calendar_of(expression).alternatives):
            raise
        return expression


def event_bridge(expression: str) -> list[str]:
    """The schedule expressions of Amazon EventBridge that together are the times of `expression`.

    Raises:
        CannotBeSaid: EventBridge has no words for them.
    """
    calendar = calendar_of(expression)
    minutes, hours = _listed(calendar.minutes, range(60), "-"), _listed(calendar.hours, range(24), "-")
    months = _listed(calendar.months, range(1, 13), "-")
    return [f"cron({minutes} {hours} {_event_bridge_days(each, months)} *)" for each in calendar.alternatives]


def _event_bridge_days(days: Days, months: str) -> str:
    weekdays = frozenset(each + 1 for each in days.weekdays)  # 1 is Sunday
    match days.special:
        case "last_day" if (days.days, days.weekdays) == (ALL_DAYS, ALL_WEEKDAYS):
            return f"L {months} ?"
        case "last" if days.days == ALL_DAYS:
            return f"? {months} {min(weekdays)}L"
        case int(number) if days.days == ALL_DAYS:
            return f"? {months} {min(weekdays)}#{number}"
        case None if days.weekdays == ALL_WEEKDAYS:
            return f"{_listed(days.days, range(1, 32), '-')} {months} ?"
        case None if days.days == ALL_DAYS:
            return f"? {months} {_listed(weekdays, (), '-')}"
        case "last_weekday":
            raise CannotBeSaid("the last day from Monday to Friday of a month")
    raise CannotBeSaid("a day of the week that is also a certain day of the month")


def _check_is_plain(days: Days) -> None:
    if days.special:
        raise CannotBeSaid("days counted from the end of a month, or weekdays counted in it")
    if days.days != ALL_DAYS and days.weekdays != ALL_WEEKDAYS:
        raise CannotBeSaid("a day of the week that is also a certain day of the month")


def _listed(numbers: Iterable[int], every: Sequence[int], to: str) -> str:
    """`*`, or a list of numbers and ranges such as `1,3-5`."""
    ordered = sorted(numbers)
    if ordered == list(every):
        return "*"
    runs: list[list[int]] = []
    for number in ordered:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}{to}{last}" for first, last in runs)
