"""The time zone of this machine, as one that knows when its clocks change."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import tzlocal

from pipeline.errors import ConfigurationError


def zone_called(name: str | None) -> ZoneInfo:
    """The time zone of that name; None: this machine's.

    Raises:
        ConfigurationError: this machine does not tell which one it is in.
    """
    if name is not None:
        return ZoneInfo(name)  # the settings have seen that there is one
    try:
        return tzlocal.get_localzone()
    except (ZoneInfoNotFoundError, ValueError, OSError, UserWarning) as error:
        raise ConfigurationError(
            "The time zone of this machine cannot be told from TZ, /etc/timezone and /etc/localtime. Nothing was"
            " started. Set `schedule_zone`, such as `schedule_zone: Europe/Berlin`."
        ) from error
