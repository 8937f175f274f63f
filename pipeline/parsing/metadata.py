"""Values that documents state of themselves, in the types that metadata can have."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime

from pipeline.model import MetadataValue
from pipeline.parsing.decoding import clean

SECONDS_MIN = 1e8  # 1973; what is smaller is a version or a year
SECONDS_MAX = 1e10  # the year 2286


def metadata_value(value: object) -> MetadataValue | None:
    """`value` as metadata can hold it; None if there is nothing to hold. What is nested becomes JSON.

    Raises:
        ValueError: it contains itself.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str):
        return clean(value).strip() or None
    if isinstance(value, list | tuple) and not any(isinstance(item, list | tuple | dict) for item in value):
        words = tuple(_word(item) for item in value if item is not None)
        return tuple(word for word in words if word) or None
    return None if value is None else clean(as_json(value))


def metadata_of(values: Mapping[str, object]) -> dict[str, MetadataValue]:
    """All of `values` that hold something, under the same names."""
    converted = ((clean(name), metadata_value(value)) for name, value in values.items())
    return {name: value for name, value in converted if value is not None and name}


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def as_time(value: object) -> datetime | None:
    """The time that `value` states, in UTC if it names no zone; None if it does not look like one.

    Text is ISO 8601 or a number; a number counts seconds since 1970, or milliseconds if it is so large.
    """
    if isinstance(value, str):
        value = _from_iso(value.strip()) or _from_digits(value)
    if isinstance(value, int | float) and SECONDS_MIN <= value <= SECONDS_MAX * 1000:
        return datetime.fromtimestamp(value if value <= SECONDS_MAX else value / 1000, UTC)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return None


def _from_iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _from_digits(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number(value: float) -> MetadataValue | None:
    try:
        number = float(value)
    except OverflowError:
        return str(value)
    if not math.isfinite(number):
        return None
    return number if number == value else str(value)  # a large int that is not exact as a float


def _word(item: object) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, datetime | date):
        return item.isoformat()
    return clean(str(item)).strip()
