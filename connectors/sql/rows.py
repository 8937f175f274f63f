"""What is asked of a database for its documents, and what the rows mean that it answers with."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from connectors.kit.row_values import (
    DUPLICATE_ID,
    WRITTEN,
    as_bytes,
    as_time,
    content_of,
    fingerprint_of,
    shown,
    title_of,
    write_id,
)
from connectors.sql.cursor import CursorValue
from connectors.sql.settings import SqlSettings
from pipeline.model import DocumentId, DocumentRef, Fingerprint, ScanError

if TYPE_CHECKING:  # settings are checked without SQLAlchemy, and who reads no database need not have it
    from sqlalchemy import ColumnClause, ColumnElement, Connection, FromClause, Select


class Rows:
    """What is asked of the database, and what its rows mean."""

    def __init__(
        self,
        settings: SqlSettings,
        name: str,
        text: tuple[str, ...],
        is_known_to_be_unique: bool,
        connection: "Connection",
    ) -> None:
        from sqlalchemy import column, table  # noqa: PLC0415 - see above
        from sqlalchemy import text as sql  # noqa: PLC0415

        named = (settings.version, settings.modified_at, settings.title)
        listed = list(dict.fromkeys((*settings.id, *(name for name in named if name is not None))))
        names = list(dict.fromkeys((*listed, *text, *settings.metadata)))
        self._place = {name: place for place, name in enumerate(names)}
        self._settings = settings
        self._text = text
        self._is_known_to_be_unique = is_known_to_be_unique
        self._shape: tuple[object, ...] = (
            *(text, settings.title, settings.modified_at, settings.version, settings.media_type),
            *((settings.metadata,) if settings.metadata else ()),
        )
        # What is selected, and the cursor, whose value in a row nobody asks for.
        known = names if settings.cursor is None else list(dict.fromkeys((*names, settings.cursor)))
        columns: list[ColumnClause[Any]] = [column(name) for name in known]
        if settings.table is not None:
            schema, table_name = schema_and_name(settings.table)
            self._source: FromClause = table(table_name, *columns, schema=schema)
        else:
            # SQLAlchemy takes a colon for a parameter; a comment in the last line must end before our bracket.
            query = (settings.query or "").strip().rstrip(";").replace(":", r"\:")
            self._source = sql(f"{query}\n").columns(*columns).subquery("documents")
        self._columns = [self._source.c[name] for name in names]
        self._listed = self._columns if settings.version is None else self._columns[: len(listed)]
        self._is_of_any_kind = connection.dialect.name == "sqlite"
        self._has_endless_times = connection.dialect.name == "postgresql"
        self._id = [self._source.c[name] for name in settings.id]
        self._cursor = None if settings.cursor is None else self._source.c[settings.cursor]
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

        newest = [] if self.newest is None else [self.newest.where(false()).scalar_subquery()]
        return select(*self._columns, *newest).where(false())

    def first(self) -> "Select[Any]":
        return self.page(None, 1)

    @property
    def newest(self) -> "Select[Any] | None":
        """The highest value of the cursor, if there is one."""
        from sqlalchemy import func, select  # noqa: PLC0415 - see above

        return None if self._cursor is None else select(func.max(self._cursor))

    @property
    def newest_of_past(self) -> "Select[Any] | None":
        """The highest time of the cursor up to now, where the database has times that Python has not."""
        from sqlalchemy import func  # noqa: PLC0415 - see above

        if self.newest is None or self._cursor is None or not self._has_endless_times:
            return None
        return self.newest.where(self._cursor >= _bound("0001-01-02"), self._cursor <= func.current_timestamp())

    def page(
        self, after: tuple[object, ...] | None, limit: int, changed_since: CursorValue | None = None
    ) -> "Select[Any]":
        """Up to `limit` rows behind a key, by key, in whatever order the database has for it.

        Only those whose cursor has at least the value `changed_since`, or none; if that is None, all.
        """
        from sqlalchemy import or_, select  # noqa: PLC0415 - see above

        asked = select(*self._listed).where(*(column.is_not(None) for column in self._id))
        if after is not None:
            asked = asked.where(self._behind(after))
        if changed_since is not None and self._cursor is not None:
            asked = asked.where(or_(*self._may_have_changed(self._cursor, changed_since)))
        return asked.order_by(*self._id).limit(limit)

    def _may_have_changed(self, cursor: "ColumnElement[Any]", since: CursorValue) -> "Iterator[ColumnElement[bool]]":
        """The ways in which a row shows that it may have changed since the cursor had the value `since`."""
        from sqlalchemy import and_  # noqa: PLC0415 - see above

        yield cursor >= _bound(since)
        yield cursor.is_(None)
        if isinstance(since, str):
            # Others may write times of the same day in another form, which comes before this one as text.
            day, separator, clock = since[:10], since[10:11], since[11:]
            if separator:
                yield cursor == _bound(day)
            if separator == "T":
                yield and_(cursor >= _bound(f"{day} {clock}"), cursor < _bound(f"{day}T"))
            if self._is_of_any_kind:  # in SQLite, numbers come before all text
                yield cursor < _bound("")

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
        return tuple(as_bytes(value) for value in row[: len(self._id)])

    def id(self, row: Sequence[Any]) -> DocumentId | None:
        key = self.key(row)
        return write_id(key) if all(type(value) in WRITTEN for value in key) else None

    def uri(self, document: DocumentId) -> str:
        return f"{self._uri}{document}"

    def ref(self, row: Sequence[Any]) -> DocumentRef:
        document = write_id(self.key(row))
        modified_at = as_time(self._value(row, self._settings.modified_at))
        return DocumentRef(
            document,
            self.uri(document),
            self._fingerprint(row),
            modified_at=modified_at,
            title=title_of(self._value(row, self._settings.title)),
        )

    def _fingerprint(self, row: Sequence[Any]) -> Fingerprint | None:
        if self._settings.version is None:
            values = [self._value(row, name) for name in (self._settings.title, *self._text, *self._settings.metadata)]
        else:
            values = [self._value(row, self._settings.version)]
            if values == [None]:
                return None
        return fingerprint_of(self._shape, values)

    def content(self, row: Sequence[Any]) -> tuple[bytes, str]:
        """The text and its media type."""
        return content_of([(name, self._value(row, name)) for name in self._text], self._settings.media_type)

    def metadata(self, row: Sequence[Any]) -> Mapping[str, object]:
        """The values that are no part of the text, by their columns' names; NULL is none."""
        values = {name: self._value(row, name) for name in self._settings.metadata}
        return {
            name: value if isinstance(value, bool | int | float | date | list) else shown(value)
            for name, value in values.items()
            if value is not None
        }

    def _value(self, row: Sequence[Any], name: str | None) -> Any:
        return None if name is None else as_bytes(row[self._place[name]])


def schema_and_name(table: str) -> tuple[str | None, str]:
    schema, _, name = table.rpartition(".")
    return schema or None, name


def _bound(value: object) -> "ColumnElement[Any]":
    """`value` as a parameter whose type is the column's: PostgreSQL would compare as another one otherwise."""
    from sqlalchemy import bindparam  # noqa: PLC0415 - see above
    from sqlalchemy.types import NullType  # noqa: PLC0415

    return bindparam(None, value, type_=NullType(), unique=True)
