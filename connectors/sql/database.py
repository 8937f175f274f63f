"""A database that is asked over one connection, by calls that wait for their answers."""

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from connectors.kit.row_values import DUPLICATE_ID, WRITTEN, Fault, read_id
from connectors.kit.secrets import from_environment
from connectors.sql.cursor import CursorValue, ListedRows, are_compared, cursor_value, lower_bound
from connectors.sql.rows import Rows, schema_and_name
from connectors.sql.settings import SqlSettings
from pipeline.errors import SourceError
from pipeline.model import Document, DocumentId, DocumentRef, ScanError

if TYPE_CHECKING:  # settings are checked without SQLAlchemy, and who reads no database need not have it
    from sqlalchemy import URL, Connection, Engine, ExceptionContext


Answer = TypeVar("Answer")

ROWS_BUFFERED_MAX = 100  # of a page: a table of long texts must not fill the memory

# What to install for a driver that does not bear its package's name.
PACKAGE_BY_MODULE = {"psycopg": "'psycopg[binary]'", "MySQLdb": "mysqlclient", "cx_Oracle": "cx-oracle"}

# What drivers call the seconds that they wait: for a connection, for an answer, for what they say to be taken.
TIME_LIMITS = {
    "psycopg": ("connect_timeout",),
    "psycopg2": ("connect_timeout",),
    "pymysql": ("connect_timeout", "read_timeout", "write_timeout"),
    "mysqldb": ("connect_timeout", "read_timeout", "write_timeout"),
    "pg8000": ("timeout",),
}


@dataclass
class Listing:
    """How far a listing came, and what keeps it from being complete, in the order in which it was found."""

    changed_since: CursorValue | None = None  # of the rows that it is to show; None: of all
    newest: CursorValue | None = None  # that the cursor had when it began
    problems: dict[ScanError, None] = field(default_factory=dict)
    last_key: tuple[object, ...] | None = None
    last_id: DocumentId | None = None
    is_at_end: bool = False

    @property
    def is_of_all(self) -> bool:
        """Whether it is to show all rows."""
        return self.changed_since is None


@dataclass(frozen=True, slots=True)
class TableDescription:
    """A table or a view: its columns in their order, with the kind of each (`text`, `time`, `number`, `other`)."""

    name: str
    kinds: Mapping[str, str]
    primary_key: tuple[str, ...] = ()


class Database:
    """The source. Every question is put in a transaction of its own, and again over a new connection if it fails.

    From one thread at a time, but for `give_up`.
    """

    def __init__(self, settings: SqlSettings, base_folder: Path) -> None:
        self._settings = settings
        self._base_folder = base_folder
        self.name = f"the table {settings.table!r}" if settings.table else "the query"
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._line: Any = None  # the driver's own connection, also while it is only being opened
        self._is_given_up = False
        self._rows: Rows | None = None
        self._kinds: tuple[type, ...] | None = None

    def close(self) -> None:
        connection, engine, line = self._connection, self._engine, self._line
        self._connection = self._engine = self._line = None
        if connection is not None:
            with suppress(*_errors()):  # nothing was written, so nothing is lost
                connection.close()
        if engine is not None:
            engine.dispose()
        if line is not None:  # which SQLAlchemy forgets if it fails before it is a connection
            with suppress(Exception):  # as it mostly is closed by now; every driver has its own word for that
                line.close()

    def give_up(self) -> None:
        """Wake the thread that waits for an answer. Nothing more is asked, and the connection is closed by it."""
        self._is_given_up = True
        line = self._line
        with suppress(Exception):  # as above: it may have been closed at this moment
            if hasattr(line, "interrupt"):  # SQLite's
                line.interrupt()
            elif hasattr(line, "fileno"):  # PostgreSQL's; others' limits are among `TIME_LIMITS`
                with socket.socket(fileno=os.dup(line.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    # ------------------------------------------------------------------------------------------ questions

    def tables(self) -> list[TableDescription]:
        """The tables and views that can be read without naming a schema, by name. Opens a connection of its own.

        Raises:
            SourceError: the database cannot be asked.
        """
        from sqlalchemy import inspect  # noqa: PLC0415 - see above

        password = None
        try:
            url, password = self._url()
            self._engine = _engine(url, self._settings.timeout_s, self._remember)
            self._connection = _connect(self._engine)
            inspector = inspect(self._connection)
            names = sorted({*inspector.get_table_names(), *inspector.get_view_names()})
            return [
                TableDescription(
                    name,
                    {found["name"]: _kind_of(found["type"]) for found in inspector.get_columns(name)},
                    tuple(inspector.get_pk_constraint(name)["constrained_columns"]),
                )
                for name in names
            ]
        except _errors() as error:
            raise SourceError(
                f"The database cannot be read: {_words(error, password)}. Nothing was done. Check its address, and that"
                " it runs and lets its user read there."
            ) from error
        finally:
            self.close()

    def open(self) -> None:
        """Make sure that it can be asked.

        Raises:
            Fault, SourceError: it cannot.
        """
        self._answered(self._connected)

    def begin(self, now: datetime, listed_before: ListedRows | None = None) -> Listing:
        """Begin a listing: of all rows, or of those that may have changed since others were listed.

        Raises:
            Fault, SourceError: it cannot be listed.
        """
        return self._answered(partial(self._begin, now, listed_before))

    def _begin(self, now: datetime, before: ListedRows | None) -> Listing:
        listing = Listing()
        self._kinds = None
        with self._asking() as (connection, rows):
            # Before any row is read: what changes while they are read is then newer, and shows in the next listing.
            listing.newest = self._newest(connection, rows, now)
            if (
                before is not None
                and before.newest is not None
                and listing.newest is not None
                and are_compared(before.newest, listing.newest)
            ):
                listing.changed_since = lower_bound(before.newest, self._settings.cursor_overlap)
            for problem, question in rows.doubts() if listing.is_of_all else ():
                if connection.execute(question).first() is not None:
                    listing.problems[problem] = None
        return listing

    def _newest(self, connection: "Connection", rows: Rows, now: datetime) -> CursorValue | None:
        if rows.newest is None:
            return None
        newest = connection.execute(rows.newest).scalar()
        try:
            return cursor_value(newest, now)
        except ValueError:
            if rows.newest_of_past is not None:  # it may be a time such as `infinity`
                with suppress(*_errors()):
                    return cursor_value(connection.execute(rows.newest_of_past).scalar(), now)
        raise SourceError(
            f"The highest value of {self._settings.cursor!r} in {self.name} is neither a time nor a number (Python"
            f" has it as {type(newest).__name__}), so what has changed cannot be told by it. Nothing was concluded"
            " from that. Correct `source.cursor`, or the rows."
        )

    def next_page(self, listing: Listing) -> list[DocumentRef]:
        """The next documents; none at the end.

        Raises:
            Fault, SourceError: it cannot be listed.
        """
        refs: list[DocumentRef] = []
        while not refs and not listing.is_at_end:  # a page on which no row has a usable key is not the end
            refs = self._answered(partial(self._page, listing))
        return refs

    def _page(self, listing: Listing) -> list[DocumentRef]:
        limit = self._settings.page_rows
        refs: list[DocumentRef] = []
        count = 0
        key, last_id = listing.last_key, listing.last_id
        options = {"yield_per": min(limit, ROWS_BUFFERED_MAX)}
        with (
            self._asking() as (connection, rows),
            connection.execute(rows.page(key, limit, listing.changed_since), execution_options=options) as answer,
        ):
            for row in answer:
                count += 1
                key = rows.key(row)
                kinds = tuple(type(value) for value in key)
                self._kinds = self._kinds or (kinds if set(kinds) <= WRITTEN.keys() else None)
                if kinds != self._kinds:
                    listing.problems[rows.unusable_id] = None
                    continue
                ref = rows.ref(row)
                if ref.id != last_id:  # of rows that share a key, one stands for them
                    refs.append(ref)
                last_id = ref.id
        if count and key == listing.last_key:
            raise Fault("looping_listing", "the database does not go on behind a key that it listed")
        listing.last_key, listing.last_id, listing.is_at_end = key, last_id, count < limit
        return refs

    def read(self, document: DocumentId) -> Document | None:
        """The document with its content; None if there is none.

        Raises:
            Fault: it cannot be read.
            SourceError: nor can any other.
        """
        row = self._answered(partial(self._find, document))
        if row is None:
            return None
        assert self._rows is not None
        if row == ():
            raise Fault(DUPLICATE_ID, f"several rows of {self.name} have this key")
        return Document(self._rows.ref(row), *self._rows.content(row), self._rows.metadata(row))

    def locate(self, document: DocumentId) -> DocumentRef | None:
        """The document as a listing shows it; None if there is none.

        Raises:
            Fault, SourceError: the database cannot tell.
        """
        row = self._answered(partial(self._find, document))
        if row is None:
            return None
        assert self._rows is not None
        return self._rows.ref(row) if row else DocumentRef(document, self._rows.uri(document))  # reading it will tell

    def _find(self, document: DocumentId) -> Sequence[Any] | None:
        """The row; None if there is none, and empty if there are several."""
        with self._asking() as (connection, rows):
            if self._kinds is None:
                first = connection.execute(rows.first()).first()
                self._kinds = None if first is None else tuple(type(value) for value in rows.key(first))
            if self._kinds is not None and not set(self._kinds) <= WRITTEN.keys():
                raise Fault("unusable_id", "the id column has values that cannot be an id")
            key = None if self._kinds is None else read_id(document, self._kinds)
            if key is None:
                return None
            found = connection.execute(rows.at(key)).all()
        if not any(rows.id(row) == document for row in found):  # `A` finds `a` in many collations
            return None
        return found[0] if len(found) == 1 else ()

    def _answered(self, question: Callable[[], Answer]) -> Answer:
        """The answer; asked over a new connection if the one that we have gives none.

        Opening it shows whether what failed is the source.
        """
        try:
            try:
                return question()
            except Fault:
                self.close()
            return question()
        except Fault:
            self.close()
            raise
        finally:
            if self._is_given_up:
                self.close()

    @contextmanager
    def _asking(self) -> "Iterator[tuple[Connection, Rows]]":
        """The connection, within a transaction, and what to ask over it."""
        connection, rows = self._connected()
        try:
            with _faults():
                yield connection, rows
        finally:
            with suppress(*_errors()):  # a question that was answered is answered; the next one will tell
                connection.rollback()

    # --------------------------------------------------------------------------------------------- opening

    def _connected(self) -> "tuple[Connection, Rows]":
        """The connection, on which the columns were seen.

        Raises:
            SourceError: there is no such database, or no such table or column in it.
        """
        if self._is_given_up:
            raise Fault("given_up", "nobody waits for the answer any more")
        if self._connection is None or self._rows is None or self._connection.invalidated:
            self.close()
            password = None
            try:
                url, password = self._url()
                self._engine = _engine(url, self._settings.timeout_s, self._remember)
                self._connection = _connect(self._engine)
                self._rows = self._look(self._connection)
            except SourceError:
                self.close()
                raise
            except _errors() as error:
                self.close()
                words = _words(error, password)
                raise SourceError(
                    f"{self.name[0].upper()}{self.name[1:]} cannot be read: {words}. Nothing was concluded from that."
                    " Check `source`, and that the database runs and lets its user read there."
                ) from error
        return self._connection, self._rows

    def _remember(self, line: Any, _record: Any) -> None:
        self._line = line

    def _url(self) -> "tuple[URL, str | None]":
        settings = self._settings
        try:
            from sqlalchemy import make_url  # noqa: PLC0415 - see above
            from sqlalchemy.exc import ArgumentError  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise SourceError(
                "A database cannot be read without SQLAlchemy. Nothing was done. Install it:"
                " pip install 'agentcore-memory-sync[sql]'"
            ) from error
        try:
            url = make_url(settings.url or from_environment("url_variable", settings.url_variable))
        except (ArgumentError, ValueError):  # whose words are the URL
            where = "`source.url`" if settings.url else f"the environment variable {settings.url_variable}"
            raise SourceError(f"What {where} holds is no URL of SQLAlchemy. Nothing was done; correct it.") from None
        if settings.password_variable:
            url = url.set(password=from_environment("password_variable", settings.password_variable))
        if url.get_backend_name() == "sqlite":
            url = self._of_existing_file(url)
        return url, None if url.password is None else str(url.password)

    def _of_existing_file(self, url: "URL") -> "URL":
        """The URL of an SQLite file that is read where it is and never made."""
        file = url.database or ""
        if file in ("", ":memory:"):
            raise SourceError("SQLite needs a file to read: sqlite:///FILE. Nothing was done; correct `source.url`.")
        if file.startswith("file:"):
            return url
        path = quote(str(self._base_folder.absolute() / Path(file).expanduser()))
        return url.set(database=f"file:{path}").update_query_dict({"mode": "rw", "uri": "true"})

    def _look(self, connection: "Connection") -> "Rows":
        """What is to be selected.

        Asks for the columns without reading a row, so that what the database says to that can be shown.
        """
        from sqlalchemy import Enum, String, inspect  # noqa: PLC0415 - see above

        settings = self._settings
        primary_key: set[str] = set()
        text = settings.text or ()
        if settings.table is not None:
            schema, name = schema_and_name(settings.table)
            inspector = inspect(connection)
            primary_key = set(inspector.get_pk_constraint(name, schema=schema)["constrained_columns"])
            if settings.text is None:
                named = (settings.title, settings.modified_at, settings.version, settings.cursor)
                others = {*settings.id, *named, *settings.metadata}
                text = tuple(
                    found["name"]
                    for found in inspector.get_columns(name, schema=schema)
                    if isinstance(found["type"], String)
                    and not isinstance(found["type"], Enum)
                    and found["name"] not in others
                )
                if not text:
                    raise SourceError(
                        f"{self.name[0].upper()}{self.name[1:]} has no text columns but those that are used already."
                        " Nothing was done. Name those to read in `source.text`."
                    )
        rows = Rows(settings, self.name, text, bool(primary_key) and primary_key <= set(settings.id), connection)
        connection.execute(rows.none())
        connection.rollback()
        return rows


def _kind_of(column_type: object) -> str:
    from sqlalchemy import Date, DateTime, Enum, Integer, Numeric, String  # noqa: PLC0415 - see above

    match column_type:
        case Enum():
            return "other"
        case String():
            return "text"
        case DateTime() | Date():
            return "time"
        case Integer() | Numeric():
            return "number"
        case _:
            return "other"


# --------------------------------------------------------------------------------------------------- connecting


def missing_driver(url: str) -> list[str]:
    """What to tell `pip install` so that `url` can be connected to; nothing if that is there, or cannot be told."""
    from sqlalchemy import make_url  # noqa: PLC0415 - see above
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        make_url(url).get_dialect().import_dbapi()
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        return [PACKAGE_BY_MODULE.get(name, name)] if name else []
    except (ArgumentError, ValueError):  # no URL, or one of a dialect that SQLAlchemy does not know
        return []
    return []


def _engine(url: "URL", timeout_s: float, remember: Callable[[Any, Any], None]) -> "Engine":
    """An engine for `url`, which connects to nothing yet and tells `remember` of the connections that it will make.

    Raises:
        SourceError: its dialect or driver is not installed.
    """
    from sqlalchemy import create_engine, event  # noqa: PLC0415 - see above
    from sqlalchemy.exc import NoSuchModuleError  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    try:
        # A second later than who waits for the answer: then the thread ends too.
        limits = dict.fromkeys(TIME_LIMITS.get(url.get_driver_name(), ()), math.ceil(timeout_s) + 1)
        limits = {name: seconds for name, seconds in limits.items() if name not in url.query}
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=limits)
    except NoSuchModuleError as error:
        raise SourceError(
            f"SQLAlchemy knows no {url.drivername!r}. Nothing was done. Correct `source.url`, or install the package"
            " that brings it along."
        ) from error
    except ImportError as error:
        name = (error.name or url.get_driver_name()).partition(".")[0]
        raise SourceError(
            f"The driver {name!r} for {url.drivername!r} cannot be loaded. Nothing was done. Install it:"
            f" pip install {PACKAGE_BY_MODULE.get(name, name)}"
        ) from error
    if engine.dialect.is_async:
        raise SourceError(
            f"{url.drivername!r} is a driver for asyncio. Nothing was done. Take one that is not, such as"
            " postgresql+psycopg, mysql+pymysql or sqlite."
        )
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # of lost connections, the error tells
    event.listen(engine, "connect", remember, insert=True)  # before SQLAlchemy asks whom it is talking to
    event.listen(engine, "handle_error", _close_cursor)
    return engine


def _close_cursor(context: "ExceptionContext") -> None:
    """Close what a lost connection leaves open; SQLAlchemy does not, and psycopg warns of that."""
    cursor = getattr(context.execution_context, "cursor", None)
    if context.is_disconnect and cursor is not None:
        with suppress(*_errors(), context.dialect.loaded_dbapi.Error):
            cursor.close()


def _connect(engine: "Engine") -> "Connection":
    """A connection that only reads, and whose transactions see one moment where the database can do that."""
    match engine.dialect.name:
        case "postgresql":
            options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            session: tuple[str, ...] = ()
        case "mysql" | "mariadb":
            options = {"isolation_level": "REPEATABLE READ"}
            session = ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'")
        case "sqlite":
            # Its snapshot would keep others from writing for as long as the listing takes.
            options = {"isolation_level": "AUTOCOMMIT"}
            session = ("PRAGMA query_only = ON",)
        case _:
            options, session = {}, ()
    connection = engine.connect()
    try:
        connection = connection.execution_options(**options)
        for statement in session:
            connection.exec_driver_sql(statement)
        if engine.dialect.driver == "psycopg":
            _take_all_times(connection.connection.driver_connection)
        connection.rollback()
    except BaseException:
        connection.close()
        raise
    return connection


def _take_all_times(line: Any) -> None:
    """Have psycopg give a time that Python does not have, such as `infinity`, as text: one would fail all its page."""
    from psycopg import DataError  # noqa: PLC0415 - see above
    from psycopg.types import datetime as loaders  # noqa: PLC0415

    def lenient(base: Any) -> Any:
        class Lenient(base):  # type: ignore[misc]  # known at run time only
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except DataError:
                    return bytes(data).decode()

        return Lenient

    for name, loader in (
        ("date", loaders.DateLoader),
        ("timestamp", loaders.TimestampLoader),
        ("timestamptz", loaders.TimestamptzLoader),
    ):
        line.adapters.register_loader(name, lenient(loader))


# ----------------------------------------------------------------------------------------------------- errors


def _errors() -> tuple[type[Exception], ...]:
    """What asking a database can raise: SQLAlchemy's errors, and what drivers raise over a value or a socket.

    JSON that is nested deeply raises RecursionError.
    """
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - see above

    return (SQLAlchemyError, OSError, ValueError, ArithmeticError, RecursionError)


@contextmanager
def _faults() -> Iterator[None]:
    """Turn what a question about rows can raise into a `Fault`.

    Its words are kept back, and so is the error: they can hold what stands in a row.
    """
    try:
        yield
    except _errors() as error:
        name, code = _name_and_code(error)
        raise Fault(code or name, f"{name} ({code})" if code else name) from None


def _name_and_code(error: Exception) -> tuple[str, str]:
    """The error's name, and the database's word for it, or ""."""
    original = getattr(error, "orig", None) or error
    first = original.args[0] if original.args else None
    codes = (
        getattr(original, "sqlstate", None),
        getattr(original, "pgcode", None),
        getattr(original, "sqlite_errorname", None),
        first if isinstance(first, int) and not isinstance(error, OSError) else None,
    )
    return type(original).__name__, next((str(code) for code in codes if code), "")


def _words(error: Exception, password: str | None) -> str:
    """What a database says to a question about no row, on one line."""
    words = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".") or type(error).__name__
    return words.replace(password, "…") if password else words
