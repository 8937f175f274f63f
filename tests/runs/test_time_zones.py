"""Which time zone a schedule without one is in."""

import json
import os
import subprocess
import sys

import pytest

SHOW = """
import json, sys
from datetime import UTC, datetime
from pipeline.errors import ConfigurationError
from pipeline.runs.time_zones import zone_called

moments = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
try:
    zone = zone_called(json.loads(sys.argv[1]))
    print(json.dumps([moment.astimezone(zone).utcoffset().total_seconds() / 3600 for moment in moments]))
except ConfigurationError as error:
    print(json.dumps(str(error)))
"""


def summer_and_winter(machine: str, name: str | None = None) -> list[float] | str:
    """Hours ahead of UTC on a machine that is told its zone by TZ; or the message. In a process: TZ is read once."""
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, json.dumps(name)],
        env={**os.environ, "TZ": machine},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[float] | str = json.loads(shown.stdout)
    return found


@pytest.mark.parametrize("zone", ["Europe/Berlin", ":Europe/Berlin"])
def test_the_machine_s_zone_knows_summer_and_winter(zone: str) -> None:
    """With the offset of today, every schedule would be an hour off for half of the year."""
    assert summer_and_winter(zone) == [2, 1]


@pytest.mark.parametrize(("zone", "hours"), [("UTC0", 0), ("<+0530>-5:30", 5.5)])
def test_a_zone_without_a_name_is_an_offset(zone: str, hours: float) -> None:
    """Containers are often told their zone so, and `status` must not fail for it."""
    assert summer_and_winter(zone) == [hours, hours]


def test_clocks_that_change_by_unknown_rules_are_asked_about() -> None:
    """A guess would be wrong for half of the year."""
    assert "Set `schedule_zone`" in summer_and_winter("XYZ-1XYS")


def test_a_name_wins_over_the_machine() -> None:
    """The same YAML file means the same on a laptop and in a container."""
    assert summer_and_winter("America/New_York", "Asia/Tokyo") == [9, 9]
