"""What the values of a row mean, wherever it comes from: an id, a title, a time, a text."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote
from uuid import UUID

from pydantic import Field

from connectors.kit.one_or_more import OneOrMore
from pipeline.model import DocumentId, Fingerprint

MediaType = Literal["plain", "markdown", "html"]
NameOfColumn = Annotated[str, Field(min_length=1)]
NamesOfColumns = Annotated[tuple[NameOfColumn, ...], Field(min_length=1), OneOrMore]

MILLISECONDS_FROM = 1e11  # a larger number of seconds would be in the year 5138 or later

MEDIA_TYPES = {"plain": "text/plain", "markdown": "text/markdown", "html": "text/html"}


# Faults of a row, which its source gave as it should.
DUPLICATE_ID, NOT_UTF8 = "duplicate_id", "not_utf8"


class Fault(Exception):
    """A source of rows refused a question, or did not answer it; `code` is its word for that, or ours."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# -------------------------------------------------------------------------------------------- what a row becomes


def title_of(value: object) -> str | None:
    return " ".join(shown(value).split()) or None


def fingerprint_of(shape: object, values: Iterable[object]) -> Fingerprint:
    """A digest of `values`, each with its type; other columns, as `shape` tells, make another document."""
    digest = blake2b(repr(shape).encode(errors="replace"), digest_size=16)
    for value in values:
        content = value if isinstance(value, bytes) else shown(value).encode(errors="replace")
        digest.update(b"NULL" if value is None else b"%s %d " % (type(value).__name__.encode(), len(content)))
        digest.update(content)
    return Fingerprint(digest.hexdigest())


def content_of(columns: Sequence[tuple[str, object]], kind: MediaType) -> tuple[bytes, str]:
    """The text of a row and its media type. A single column is taken as it stands; of several, each has its name.

    Raises:
        Fault: one of several is bytes that are not text.
    """
    media_type = MEDIA_TYPES[kind]
    if len(columns) == 1:
        ((_, value),) = columns
        if isinstance(value, bytes):
            return value, media_type
        return shown(value).encode(errors="replace"), f"{media_type}; charset=utf-8"
    parts: list[str] = []
    for name, value in columns:
        try:
            text = (value.decode() if isinstance(value, bytes) else shown(value)).strip()
        except UnicodeDecodeError:
            raise Fault(NOT_UTF8, f"the column {name!r} has bytes that are not UTF-8") from None  # the error has them
        if text:
            parts.append(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}")
    return "\n\n".join(parts).encode(errors="replace"), f"{media_type}; charset=utf-8"


# ----------------------------------------------------------------------------------------------------- values

# Kinds of values that can be a key, and how they are written and read. A binary fraction is none: it need not be equal
# to itself after it was written.
WRITTEN: Mapping[type, Callable[[Any], str]] = {
    bool: lambda value: "true" if value else "false",
    int: str,
    str: str,
    bytes: bytes.hex,
    Decimal: lambda value: format(value, "f"),
    UUID: str,
    date: date.isoformat,
    datetime: lambda value: (value if value.tzinfo is None else value.astimezone(UTC)).isoformat(),
}
_READ: Mapping[type, Callable[[str], object]] = {
    bool: {"true": True, "false": False}.__getitem__,
    int: int,
    str: str,
    bytes: bytes.fromhex,
    Decimal: Decimal,
    UUID: UUID,
    date: date.fromisoformat,
    datetime: datetime.fromisoformat,
}


def write_id(key: Sequence[object]) -> DocumentId:
    """The key's parts with `/` between them.

    An empty part is written `%`, and a dot is escaped: an id that ends with `.png` would be taken for a picture's.
    """
    parts = (quote(WRITTEN[type(value)](value), safe=":@+=,").replace(".", "%2E") or "%" for value in key)
    return DocumentId("/".join(parts))


def read_id(document: DocumentId, kinds: Sequence[type]) -> tuple[object, ...] | None:
    """The key that is written so; None if no key of these kinds is."""
    parts = document.split("/")
    if len(parts) != len(kinds) or not set(kinds) <= _READ.keys():
        return None
    try:
        key = tuple(
            _READ[kind]("" if part == "%" else unquote(part, errors="strict"))
            for part, kind in zip(parts, kinds, strict=True)
        )
    except (ValueError, ArithmeticError, KeyError):
        return None
    return key if write_id(key) == document else None


def as_bytes(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def shown(value: Any) -> str:
    """A value as text; nothing for NULL.

    Raises:
        Fault: it is nested too deeply.
    """
    match value:
        case None:
            return ""
        case str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case dict() | list():
            try:
                return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
            except RecursionError:
                raise Fault("too_deep", "a value is nested too deeply") from None
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)


def as_time(value: Any) -> datetime | None:
    """A moment: a time, ISO 8601, or seconds or milliseconds since 1970; None if it is none of these."""
    try:
        match value:
            case datetime():
                moment = value
            case date():
                moment = datetime.combine(value, time())
            case str():
                moment = datetime.fromisoformat(value.strip())
            case bool():
                return None
            case int() | float() | Decimal():
                seconds = float(value)
                moment = datetime.fromtimestamp(seconds / 1000 if abs(seconds) > MILLISECONDS_FROM else seconds, UTC)
            case _:
                return None
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
