"""What is asked of a database for its documents, and what the rows mean that it answers with."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from uuid import UUID

from pipeline.model import DocumentId, DocumentRef, Fingerprint, ScanError

if TYPE_CHECKING:  # settings are checked without SQLAlchemy, and who reads no database need not have it
    from sqlalchemy import ColumnClause, ColumnElement, Connection, FromClause, Select

    from connectors.sql import SqlSettings

MILLISECONDS_FROM = 1e11  # a larger number of seconds would be in the year 5138 or later

MEDIA_TYPES = {"plain": "text/plain", "markdown": "text/markdown", "html": "text/html"}


# Faults of a row, which the database gave as it should.
DUPLICATE_ID, NOT_UTF8 = "duplicate_id", "not_utf8"


class Fault(Exception):
    """The database refused a question, or did not answer it; `code` is its word for that, or ours."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Rows:
    """What is asked of the database, and what its rows mean."""

    def __init__(
        self,
        settings: "SqlSettings",
        name: str,
        text: tuple[str, ...],
        is_known_to_be_unique: bool,
        connection: "Connection",
    ) -> None:
        from sqlalchemy import column, table  # noqa: PLC0415 - see above
        from sqlalchemy import text as sql  # noqa: PLC0415

        others = [name for name in (settings.version, settings.modified_at, settings.title) if name is not None]
        listed = list(dict.fromkeys((*settings.id, *others)))
        names = list(dict.fromkeys((*listed, *text)))
        self._place = {name: place for place, name in enumerate(names)}
        self._settings = settings
        self._text = text
        self._is_known_to_be_unique = is_known_to_be_unique
        self._shape = (text, settings.title, settings.modified_at, settings.version, settings.media_type)
        columns: list[ColumnClause[Any]] = [column(name) for name in names]
        if settings.table is not None:
            schema, table_name = schema_and_name(settings.table)
            self._source: FromClause = table(table_name, *columns, schema=schema)
        else:
            # SQLAlchemy takes a colon for a parameter; a comment in the last line must end before our bracket.
            query = (settings.query or "").strip().rstrip(";").replace(":", r"\:")
            self._source = sql(f"{query}\n").columns(*columns).subquery("documents")
        self._columns = [self._source.c[name] for name in names]
        self._listed = self._columns if settings.version is None else self._columns[: len(listed)]
        self._id = [self._source.c[name] for name in settings.id]
        url = connection.engine.url
        file = url.database or ""
        path = unquote(file.removeprefix("file:")).lstrip("/") if url.get_backend_name() == "sqlite" else file
        table_path = f"/{quote(settings.table)}" if settings.table else ""
        port = f":{url.port}" if url.port else ""
        self._uri = f"{url.get_backend_name()}://{url.host or ''}{port}/{quote(path)}{table_path}/"
        ids = ", ".join(repr(name) for name in settings.id)
        until = "What is gone from there is deleted once that is corrected, or `source.id` is."
        self._null_id = ScanError("", "null_id", f"Rows of {name} have NULL in {ids} and were left out. {until}")
        self._duplicate_id = ScanError(
            "", DUPLICATE_ID, f"Rows of {name} share their value of {ids}, which does not tell them apart. {until}"
        )
        self.unusable_id = ScanError(
            "",
            "unusable_id",
            f"Rows of {name} have a value in {ids} of a kind that cannot be an id, or not of the kind that others have,"
            f" and were left out. {until}",
        )

    # ------------------------------------------------------------------------------------------- to be asked

    def none(self) -> "Select[Any]":
        from sqlalchemy import false, select  # noqa: PLC0415 - see above

        return select(*self._columns).where(false())

    def first(self) -> "Select[Any]":
        return self.page(None, 1)

    def page(self, after: tuple[object, ...] | None, limit: int) -> "Select[Any]":
        """Up to `limit` rows behind a key, by key, in whatever order the database has for it."""
        from sqlalchemy import select  # noqa: PLC0415 - see above

        asked = select(*self._listed).where(*(column.is_not(None) for column in self._id))
        if after is not None:
            asked = asked.where(self._behind(after))
        return asked.order_by(*self._id).limit(limit)

    def at(self, key: tuple[object, ...]) -> "Select[Any]":
        """The row with this key, and a second one if there is."""
        from sqlalchemy import select  # noqa: PLC0415 - see above

        is_it = (column == _bound(value) for column, value in zip(self._id, key, strict=True))
        return select(*self._columns).where(*is_it).limit(2)

    def doubts(self) -> "Iterator[tuple[ScanError, Select[Any]]]":
        """What would keep a listing from being complete, and how to ask for it: an answer means that it is so."""
        from sqlalchemy import func, literal_column, or_, select  # noqa: PLC0415 - see above

        one: ColumnElement[int] = literal_column("1")
        yield (
            self._null_id,
            select(one).select_from(self._source).where(or_(*(column.is_(None) for column in self._id))).limit(1),
        )  # also of a primary key: SQLite lets it be NULL
        if not self._is_known_to_be_unique:
            yield (
                self._duplicate_id,
                select(one)
                .select_from(self._source)
                .where(*(column.is_not(None) for column in self._id))
                .group_by(*self._id)
                .having(func.count() > one)
                .limit(1),
            )

    def _behind(self, key: tuple[object, ...]) -> "ColumnElement[bool]":
        """Behind `key`, in a form that every database knows and whose first part finds the place in an index."""
        from sqlalchemy import and_, or_  # noqa: PLC0415 - see above

        *before, (column, value) = zip(self._id, key, strict=True)
        behind: ColumnElement[bool] = column > _bound(value)
        for column, value in reversed(before):
            behind = and_(column >= _bound(value), or_(column > _bound(value), behind))
        return behind

    # ------------------------------------------------------------------------------------------ as answered

    def key(self, row: Sequence[Any]) -> tuple[object, ...]:
        return tuple(_as_bytes(value) for value in row[: len(self._id)])

    def id(self, row: Sequence[Any]) -> DocumentId | None:
        key = self.key(row)
        return _write_id(key) if all(type(value) in WRITTEN for value in key) else None

    def uri(self, document: DocumentId) -> str:
        return f"{self._uri}{document}"

    def ref(self, row: Sequence[Any]) -> DocumentRef:
        document = _write_id(self.key(row))
        title = " ".join(_shown(self._value(row, self._settings.title)).split())
        modified_at = _as_time(self._value(row, self._settings.modified_at))
        return DocumentRef(
            document, self.uri(document), self._fingerprint(row), modified_at=modified_at, title=title or None
        )

    def _fingerprint(self, row: Sequence[Any]) -> Fingerprint | None:
        if self._settings.version is None:
            values = [self._value(row, name) for name in (self._settings.title, *self._text)]
        else:
            values = [self._value(row, self._settings.version)]
            if values == [None]:
                return None
        digest = blake2b(repr(self._shape).encode(), digest_size=16)  # other columns make another document
        for value in values:
            content = value if isinstance(value, bytes) else _shown(value).encode(errors="replace")
            digest.update(b"NULL" if value is None else b"%s %d " % (type(value).__name__.encode(), len(content)))
            digest.update(content)
        return Fingerprint(digest.hexdigest())

    def content(self, row: Sequence[Any]) -> tuple[bytes, str]:
        """The text and its media type."""
        media_type = MEDIA_TYPES[self._settings.media_type]
        if len(self._text) == 1:
            value = self._value(row, self._text[0])
            if isinstance(value, bytes):
                return value, media_type
            return _shown(value).encode(errors="replace"), f"{media_type}; charset=utf-8"
        parts: list[str] = []
        for name in self._text:
            value = self._value(row, name)
            try:
                text = (value.decode() if isinstance(value, bytes) else _shown(value)).strip()
            except UnicodeDecodeError:
                raise Fault(
                    NOT_UTF8, f"the column {name!r} has bytes that are not UTF-8"
                ) from None  # the error has them
            if text:
                parts.append(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}")
        return "\n\n".join(parts).encode(errors="replace"), f"{media_type}; charset=utf-8"

    def _value(self, row: Sequence[Any], name: str | None) -> Any:
        return None if name is None else _as_bytes(row[self._place[name]])


def schema_and_name(table: str) -> tuple[str | None, str]:
    schema, _, name = table.rpartition(".")
    return schema or None, name


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


def _write_id(key: Sequence[object]) -> DocumentId:
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
    return key if _write_id(key) == document else None


def _bound(value: object) -> "ColumnElement[Any]":
    """`value` as a parameter whose type is the column's: PostgreSQL would compare as another one otherwise."""
    from sqlalchemy import bindparam  # noqa: PLC0415 - see above
    from sqlalchemy.types import NullType  # noqa: PLC0415

    return bindparam(None, value, type_=NullType(), unique=True)


def _as_bytes(value: Any) -> Any:
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def _shown(value: Any) -> str:
    """A value as text; nothing for NULL."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case dict() | list():
            return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)


def _as_time(value: Any) -> datetime | None:
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
