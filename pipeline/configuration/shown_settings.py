"""The settings of a source as a report may show them."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pipeline.configuration.masking import is_by_reference, is_secret, without_plain_secrets, without_secret_arguments
from pipeline.configuration.settings import ReferringSettings, SourceSettings

NOT_SHOWN = "(not shown)"


def shown_settings(settings: SourceSettings) -> dict[str, Any]:
    """The settings in force, from the file and the environment, by section.

    Of what is told to a connector, neither mappings (headers, parameters, options of a driver) are shown nor what an
    address says behind its path: these are where secrets end up that should not stand there. A reference is shown as it
    is written.
    """
    shown = settings.model_dump(mode="json", exclude={"name"})
    source = settings.source
    if isinstance(source, ReferringSettings):
        shown["source"] = {name: _written(name, value) for name, value in source.written.items()}
    else:
        shown["source"] = {name: _shown(value) for name, value in shown["source"].items()}
    return shown


def _written(name: str, value: Any) -> Any:
    """A setting beside one with a reference: nothing has been checked, so it may be a secret in the wrong place."""
    if isinstance(value, str) and is_by_reference(value):
        return value
    if is_secret([name]) and not name.endswith(("_variable", "_variables")):
        return NOT_SHOWN
    if isinstance(value, list):
        return [_written(name, item) for item in _shown(value)]
    return _shown(without_plain_secrets(value)) if isinstance(value, str) else _shown(value)


def _shown(value: Any) -> Any:
    match value:
        case dict():
            return NOT_SHOWN if value else value
        case list():
            if all(isinstance(item, str) for item in value):
                value = without_secret_arguments(value)
            return [_shown(item) for item in value]
        case str() if "://" in value:
            return _shown_address(value)
        case _:
            return value


def _shown_address(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return NOT_SHOWN
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, NOT_SHOWN if parts.query else "", ""))
