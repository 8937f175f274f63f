"""The time zone of this machine, as one that knows when its clocks change."""

import time
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal

from pipeline.errors import ConfigurationError


def zone_called(name: str | None) -> tzinfo:
    """The time zone of that name; None: this machine's.

    Raises:
        ConfigurationError: this machine's clocks change, and it does not tell by the rules of which zone.
    """
    if name is not None:
        return ZoneInfo(name)  # the settings have seen that there is one
    try:
        return tzlocal.get_localzone()
    except (ZoneInfoNotFoundError, ValueError, OSError, UserWarning) as error:
        if not time.daylight:  # such as TZ=UTC0, or a container that has no files on time zones
            return timezone(timedelta(seconds=-time.timezone))
        raise ConfigurationError(
            "The time zone of this machine cannot be told from TZ, /etc/timezone and /etc/localtime. Nothing was"
            " started. Set `schedule_zone`, such as `schedule_zone: Europe/Berlin`."
        ) from error
