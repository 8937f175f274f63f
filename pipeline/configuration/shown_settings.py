"""The settings of a source as a report may show them."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pipeline.configuration.settings import SourceSettings

NOT_SHOWN = "(not shown)"


def shown_settings(settings: SourceSettings) -> dict[str, Any]:
    """The settings in force, from the file and the environment, by section.

    Of what is told to a connector, neither mappings (headers, parameters, options of a driver) are shown nor what an
    address says behind its path: these are where secrets end up that should not stand there.
    """
    shown = settings.model_dump(mode="json", exclude={"name"})
    shown["source"] = {name: _shown(value) for name, value in shown["source"].items()}
    return shown


def _shown(value: Any) -> Any:
    match value:
        case dict():
            return NOT_SHOWN if value else value
        case list():
            return [_shown(item) for item in value]
        case str() if "://" in value:
            return _without_secrets(value)
        case _:
            return value


def _without_secrets(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return NOT_SHOWN
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, NOT_SHOWN if parts.query else "", ""))
