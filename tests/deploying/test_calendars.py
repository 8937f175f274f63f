"""The times of a schedule are the same in every language that it is put into."""

import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from cronsim import CronSim

from pipeline.deploying.calendars import CannotBeSaid, event_bridge, on_calendar, plain_cron

START = datetime(2026, 1, 15, 10, 7, tzinfo=UTC)
TIMES = 40

PLAIN = [
    "*/30 * * * *", "0 3 * * *", "15 1-5/2 * * *", "0 0 1 * *", "0 9,17 * * 1-5", "30 6 * 3-5,11 *", "0 0 * * 7",
    "0 0 * * 0-7", "0 0 1,15 * 1", "0 0 29 2 *", "0 12 13 * 5", "5 4 1-31 * 1", "* * * * *", "0 0 31 1-12 *",
    "7 0-23 * * SUN",
]  # fmt: skip
STEPS = ["0 0 */2 * 1", "0 6 */10 * 1-5", "0 6 1-7 * */2"]
COUNTED = ["0 3 * * 5L", "0 3 * * 1#1", "0 3 * * 1#1,3#2", "0 3 L * *", "0 3 * * 5#5"]
LAST_WEEKDAY = ["0 3 LW * *"]
ODD = ["0 3 L * 1", "0 3 1,L * *", "0 3 L * */2", "0 3 */2 * 1#1", "0 3 LW * */2", "0 3 LW 2,5 5L"]


def expected(expression: str) -> list[datetime]:
    times = CronSim(expression, START)
    return [next(times) for _ in range(TIMES)]


def by_systemd(line: str) -> list[datetime]:
    shown = subprocess.run(
        ["systemd-analyze", "calendar", line, f"--iterations={TIMES}", f"--base-time={START:%Y-%m-%d %H:%M:%S} UTC"],
        capture_output=True,
        text=True,
        check=True,
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin", "LANG": "C"},
    ).stdout
    times = [row.split(": ")[1] for row in shown.splitlines() if "Next elapse: " in row or "Iter. #" in row]
    return [datetime.strptime(time, "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC) for time in times]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("expression", [*PLAIN, *STEPS, *COUNTED, *LAST_WEEKDAY, *ODD])
def test_systemd_elapses_at_the_times_of_the_schedule(expression: str) -> None:
    """A timer that is a day off, or runs on Mondays and the first instead of either, looks right until it matters."""
    lines = on_calendar(expression, None)

    found = sorted({time for line in lines for time in by_systemd(line)})[:TIMES]

    assert found == expected(expression)


def test_systemd_is_told_the_zone() -> None:
    """Three in the morning of Berlin is not that of the machine."""
    assert on_calendar("0 3 * * 1", "Europe/Berlin") == ["Mon *-*-* 3:0:00 Europe/Berlin"]


@pytest.mark.parametrize("expression", PLAIN)
def test_numbers_alone_say_the_same(expression: str) -> None:
    """Kubernetes has no day 7 and no names in lists, and knows nothing of cron's stars with a step."""
    plain = plain_cron(expression)

    times = CronSim(plain, START)
    assert [next(times) for _ in range(TIMES)] == expected(expression)
    assert set(plain) <= set("0123456789,-* ")
    assert not any("7" in part.split("-") for part in plain.split()[4].split(","))


@pytest.mark.parametrize("expression", [*STEPS, *COUNTED, *LAST_WEEKDAY, *ODD])
def test_what_numbers_cannot_say_is_refused(expression: str) -> None:
    """A schedule that is nearly the right one is worse than none."""
    with pytest.raises(CannotBeSaid):
        plain_cron(expression)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("*/30 * * * *", ["cron(0,30 * * * ? *)"]),
        ("0 9 * * 1-5", ["cron(0 9 ? * 2-6 *)"]),
        ("0 9 * * 0", ["cron(0 9 ? * 1 *)"]),
        ("0 9 * * 7", ["cron(0 9 ? * 1 *)"]),
        ("0 0 1,15 * 1", ["cron(0 0 1,15 * ? *)", "cron(0 0 ? * 2 *)"]),
        ("0 3 * * 5L", ["cron(0 3 ? * 6L *)"]),
        ("0 3 * 6 1#1", ["cron(0 3 ? 6 2#1 *)"]),
        ("0 3 L * *", ["cron(0 3 L * ? *)"]),
    ],
)
def test_event_bridge_is_told_in_its_own_words(expression: str, said: list[str]) -> None:
    """Its week begins at 1, it wants a question mark, and has no either-or: two schedules say that."""
    assert event_bridge(expression) == said


@pytest.mark.parametrize("expression", [*STEPS, *LAST_WEEKDAY])
def test_what_event_bridge_cannot_say_is_refused(expression: str) -> None:
    """A schedule that is nearly the right one is worse than none."""
    with pytest.raises(CannotBeSaid):
        event_bridge(expression)
