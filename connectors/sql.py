"""Documents that are rows of a table or of a query, in any database that SQLAlchemy speaks to."""

import os
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar
from urllib.parse import quote

from anyio import CancelScope, Lock
from anyio.to_thread import run_sync
from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.kit.budget import ErrorBudget
from connectors.row_values import DUPLICATE_ID, NOT_UTF8, WRITTEN, Fault, MediaType, NamesOfColumns, read_id
from connectors.rows import Rows, schema_and_name
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    ScanComplete,
    ScanError,
    SourceEvent,
)

if TYPE_CHECKING:  # settings are checked without SQLAlchemy, and who reads no database need not have it
    from sqlalchemy import URL, Connection, Engine, ExceptionContext, Transaction

Answer = TypeVar("Answer")

ROWS_BUFFERED_MAX = 100  # of a page: a table of long texts must not fill the memory

# What to install for a driver that does not bear its package's name.
PACKAGE_BY_MODULE = {"psycopg": "'psycopg[binary]'", "MySQLdb": "mysqlclient", "cx_Oracle": "cx-oracle"}

# Where a URL can hold a secret: between user and host, and in a parameter of some driver.
_PASSWORD = re.compile(r"^[^:/]*://[^:/]*:[^@]*@")
_SECRET_PARAMETER = re.compile(r"\?.*(passw|passphrase|pwd|secret|token)\w*(=|%3D)", re.IGNORECASE)


class SqlSettings(BaseModel):
    """Which rows of which database are documents."""

    # What is refused may hold a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["sql"]
    url: str | None = Field(
        default=None,
        description=(
            "The database, as SQLAlchemy names it: `postgresql+psycopg://reader@db.example.com/wiki`, "
            "`mysql+pymysql://…`, `sqlite:///wiki.db` (relative to the folder of this file). Never with a password."
        ),
    )
    url_variable: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of `url`: the name of the environment variable that holds it, then also with a password.",
    )
    password_variable: str | None = Field(
        default=None, min_length=1, description="The name of the environment variable that holds the password."
    )
    table: str | None = Field(
        default=None, min_length=1, description="The table or view whose rows are documents: `pages`, `wiki.pages`."
    )
    query: str | None = Field(
        default=None, description="Instead of `table`: a SELECT whose rows are documents. Its own order is ignored."
    )
    id: NamesOfColumns = Field(
        description=(
            "The column that identifies a row, or a list of them: unique, never NULL, and best a primary key or "
            "otherwise indexed. Its value is the document's id."
        )
    )
    text: NamesOfColumns | None = Field(
        default=None,
        description="The column with the text, or a list of them; null: all text columns of the table but those below.",
    )
    title: str | None = Field(default=None, min_length=1, description="The column with the title.")
    modified_at: str | None = Field(
        default=None,
        min_length=1,
        description="The column with the time of the last change; a time without a zone counts as UTC.",
    )
    version: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A column whose value changes with every change of the row: then a run reads only this of rows that are "
            "unchanged. null: the text itself is compared."
        ),
    )
    media_type: MediaType = Field(
        default="plain", description="What the text is: plain, markdown or html. The latter two for one column only."
    )
    page_rows: int = Field(default=1000, ge=1, le=1000, description="Rows in one question to the database.")

    @model_validator(mode="before")
    @classmethod
    def _may_be_one(cls, settings: object) -> object:
        if not isinstance(settings, Mapping):
            return settings
        lists = {name: (settings[name],) for name in ("id", "text") if isinstance(settings.get(name), str)}
        return {**settings, **lists}

    # Of the model and not of the field, whose fault would be told with its value.
    @model_validator(mode="after")
    def _has_no_secret(self) -> "SqlSettings":
        if self.url is not None:
            if _PASSWORD.match(self.url) or _SECRET_PARAMETER.search(self.url):
                raise ValueError(
                    "a password must not stand in `url`; put it into an environment variable and that one's name "
                    "into `password_variable`, or the whole URL into one that `url_variable` names"
                )
            if not re.match(r"[A-Za-z][\w+]*://", self.url):
                raise ValueError("`url` should be a URL of SQLAlchemy such as postgresql+psycopg://USER@HOST/DATABASE")
        return self

    @model_validator(mode="after")
    def _is_unambiguous(self) -> "SqlSettings":
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("one of `url` and `url_variable` should be given")
        if (self.table is None) == (self.query is None):
            raise ValueError("one of `table` and `query` should be given")
        if self.query is not None and not re.match(r"\s*(select|with|values|\()", self.query, re.IGNORECASE):
            raise ValueError("`query` should be a SELECT")
        if self.query is not None and self.text is None:
            raise ValueError("`text` should name columns of the query: which are text is known of a table only")
        for name, columns in (("id", self.id), ("text", self.text or ())):
            if len(set(columns)) < len(columns):
                raise ValueError(f"`{name}` should name each column once")
        if self.media_type != "plain" and (self.text is None or len(self.text) > 1):
            raise ValueError(f"`media_type: {self.media_type}` needs a `text` of one column")
        return self


class SqlConnector:
    """Every row of the table or query is a document; its key is its id.

    A single text column is the document as it stands. Several become plain text, each value behind its column's name:
    as Markdown, headings within the values and those for the columns would mix.

    An edit shows by `version`, or by a digest of title and text, which are then read with every listing. A time of the
    last change is not relied on: not every edit moves it. What is gone is what a complete listing does not show, and
    what is not there when it is asked for once more.

    Pages follow each other by key, and not by number, so that rows that come and go meanwhile neither hide others nor
    show them twice. They are of one moment where the database can say what was: its snapshot is kept until the listing
    is over. There are no checkpoints.
    """

    settings_model: ClassVar[type[SqlSettings]] = SqlSettings

    def __init__(self, settings: SqlSettings, base_folder: Path) -> None:
        self._database = _Database(settings, base_folder)
        self._budget = ErrorBudget(f"The database of {self._database.name}")
        self._one_at_a_time = Lock()

    async def aclose(self) -> None:
        """Close the connection. It is opened again if there is more to ask."""
        with CancelScope(shield=True):
            await self._ask(self._database.close)

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the rows in the order of their keys."""
        is_listing = False
        try:
            listing = await self._ask(self._database.begin)
            try:
                while refs := await self._ask(partial(self._database.next_page, listing)):
                    is_listing = True
                    yield refs
                await self._ask(partial(self._database.end, listing))
            finally:
                with CancelScope(shield=True):
                    await self._ask(partial(self._database.abandon, listing))
        except Fault as fault:
            message = f"Cannot list {self._database.name}: {fault}. Nothing was concluded from that"
            if not is_listing:
                raise SourceError(f"{message}; the next run tries again.") from fault
            yield [ScanError("", fault.code, f"{message} but what came before; the next run lists it anew.")]
        else:
            yield list(listing.problems) or [ScanComplete()]

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the row's text as it is now, or as it was when the listing that goes on began."""
        try:
            document = await self._ask(partial(self._database.read, ref.id))
        except Fault as fault:
            if fault.code not in (DUPLICATE_ID, NOT_UTF8):
                self._budget.failed(fault)
            raise UnreadableDocument(fault.code, f"Cannot read {ref.id!r}: {fault}.") from fault
        self._budget.succeeded()
        if document is None:
            raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.")
        return document

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the row as a scan would list it now; None if there is none."""
        try:
            return await self._ask(partial(self._database.locate, document))
        except Fault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer, while no other question is put: drivers wait for answers, and talk to one thread at a time."""
        async with self._one_at_a_time:
            return await run_sync(question)


@dataclass
class _Listing:
    """How far a listing came, and what kept it from being complete, in the order in which it was found."""

    transaction: "Transaction"
    problems: dict[ScanError, None]
    last_key: tuple[object, ...] | None = None
    last_id: DocumentId | None = None
    is_at_end: bool = False


class _Database:
    """The source, asked over one connection by calls that wait for their answer; one at a time."""

    def __init__(self, settings: SqlSettings, base_folder: Path) -> None:
        self._settings = settings
        self._base_folder = base_folder
        self.name = f"the table {settings.table!r}" if settings.table else "the query"
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._listing: _Listing | None = None
        self._rows: Rows | None = None
        self._kinds: tuple[type, ...] | None = None

    def close(self) -> None:
        connection, engine = self._connection, self._engine
        self._connection = self._engine = self._listing = None
        if connection is not None:
            with suppress(*_errors()):  # nothing was written, so nothing is lost
                connection.close()
        if engine is not None:
            engine.dispose()

    # ------------------------------------------------------------------------------------------ questions

    def begin(self) -> _Listing:
        """Begin a listing; one that goes on breaks off.

        Raises:
            Fault, SourceError: it cannot be listed.
        """
        if self._listing is not None:
            self.close()
        return self._with_second_try(self._begin)

    def _begin(self) -> _Listing:
        connection, rows = self._connected()
        self._kinds = None
        with _faults():
            connection.rollback()
            listing = _Listing(connection.begin(), {})
            for problem, question in rows.doubts():
                if connection.execute(question).first() is not None:
                    listing.problems[problem] = None
        self._listing = listing
        return listing

    def next_page(self, listing: _Listing) -> list[DocumentRef]:
        """The next documents; none at the end.

        Raises:
            Fault: the listing is broken.
        """
        refs: list[DocumentRef] = []
        while not refs and not listing.is_at_end:  # a page on which no row has a usable key is not the end
            connection = self._still_listing(listing)
            try:
                with _faults():
                    refs = self._page(connection, listing)
            except Fault:
                self.close()
                raise
        return refs

    def _page(self, connection: "Connection", listing: _Listing) -> list[DocumentRef]:
        assert self._rows is not None
        rows, limit = self._rows, self._settings.page_rows
        refs: list[DocumentRef] = []
        count = 0
        key = listing.last_key
        options = {"yield_per": min(limit, ROWS_BUFFERED_MAX)}
        with connection.execute(rows.page(key, limit), execution_options=options) as answer:
            for row in answer:
                count += 1
                key = rows.key(row)
                kinds = tuple(type(value) for value in key)
                self._kinds = self._kinds or (kinds if set(kinds) <= WRITTEN.keys() else None)
                if kinds != self._kinds:
                    listing.problems[rows.unusable_id] = None
                    continue
                ref = rows.ref(row)
                if ref.id != listing.last_id:  # of rows that share a key, one stands for them
                    refs.append(ref)
                listing.last_id = ref.id
        if count and key == listing.last_key:
            raise Fault("looping_listing", "the database does not go on behind a key that it listed")
        listing.last_key = key
        listing.is_at_end = count < limit
        return refs

    def end(self, listing: _Listing) -> None:
        """Leave the moment that was listed.

        Raises:
            Fault: not all pages were of one moment.
        """
        self._still_listing(listing)
        self.abandon(listing)

    def abandon(self, listing: _Listing) -> None:
        """Let go of a listing, wherever it is. Safe to repeat."""
        if self._listing is listing:
            self._listing = None
            try:
                with _faults():
                    listing.transaction.rollback()
            except Fault:
                self.close()

    def _still_listing(self, listing: _Listing) -> "Connection":
        if self._listing is not listing or self._connection is None or not listing.transaction.is_active:
            raise Fault("connection_lost", "the connection was lost, and with it the moment that was listed")
        return self._connection

    def read(self, document: DocumentId) -> Document | None:
        """The document with its content; None if there is none.

        Raises:
            Fault: it cannot be read.
            SourceError: nor can any other.
        """
        row = self._with_second_try(partial(self._find, document))
        if row is None:
            return None
        assert self._rows is not None
        if row == ():
            raise Fault(DUPLICATE_ID, f"several rows of {self.name} have this key")
        return Document(self._rows.ref(row), *self._rows.content(row))

    def locate(self, document: DocumentId) -> DocumentRef | None:
        """The document as a listing shows it; None if there is none.

        Raises:
            Fault, SourceError: the database cannot tell.
        """
        row = self._with_second_try(partial(self._find, document))
        if row is None:
            return None
        assert self._rows is not None
        return self._rows.ref(row) if row else DocumentRef(document, self._rows.uri(document))  # reading it will tell

    def _find(self, document: DocumentId) -> Sequence[Any] | None:
        """The row; None if there is none, and empty if there are several."""
        connection, rows = self._connected()
        try:
            with _faults():
                if self._kinds is None:
                    first = connection.execute(rows.first()).first()
                    self._kinds = None if first is None else tuple(type(value) for value in rows.key(first))
                if self._kinds is not None and not set(self._kinds) <= WRITTEN.keys():
                    raise Fault("unusable_id", "the id column has values that cannot be an id")
                key = None if self._kinds is None else read_id(document, self._kinds)
                if key is None:
                    return None
                found = connection.execute(rows.at(key)).all()
        finally:
            if self._listing is None:  # or the answers of hours would be of one moment
                with suppress(Fault), _faults():
                    connection.rollback()
        if not any(rows.id(row) == document for row in found):  # `A` finds `a` in many collations
            return None
        return found[0] if len(found) == 1 else ()

    def _with_second_try(self, question: Callable[[], Answer]) -> Answer:
        """The answer; asked over a new connection if the one that we have gives none.

        Opening it shows whether what failed is the source.
        """
        try:
            return question()
        except Fault:
            self.close()
        try:
            return question()
        except Fault:
            self.close()
            raise

    # --------------------------------------------------------------------------------------------- opening

    def _connected(self) -> "tuple[Connection, Rows]":
        """The connection, on which the columns were seen.

        Raises:
            SourceError: there is no such database, or no such table or column in it.
        """
        if self._connection is None or self._rows is None or self._connection.invalidated:
            self.close()
            password = None
            try:
                url, password = self._url()
                self._engine = _engine(url)
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
            url = make_url(settings.url or _from_environment("url_variable", settings.url_variable))
        except (ArgumentError, ValueError):  # whose words are the URL
            where = "`source.url`" if settings.url else f"the environment variable {settings.url_variable}"
            raise SourceError(f"What {where} holds is no URL of SQLAlchemy. Nothing was done; correct it.") from None
        if settings.password_variable:
            url = url.set(password=_from_environment("password_variable", settings.password_variable))
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
                others = {*settings.id, settings.title, settings.modified_at, settings.version}
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


# --------------------------------------------------------------------------------------------------- connecting


def _engine(url: "URL") -> "Engine":
    """An engine for `url`, which connects to nothing yet.

    Raises:
        SourceError: its dialect or driver is not installed.
    """
    from sqlalchemy import create_engine, event  # noqa: PLC0415 - see above
    from sqlalchemy.exc import NoSuchModuleError  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
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
        connection.rollback()
    except BaseException:
        connection.close()
        raise
    return connection


def _from_environment(setting: str, variable: str | None) -> str:
    found = os.environ.get(variable or "")
    if not found:
        raise SourceError(
            f"The environment variable {variable}, which `source.{setting}` names, is not set. Nothing was done; set"
            " it."
        )
    return found


# ----------------------------------------------------------------------------------------------------- errors


def _errors() -> tuple[type[Exception], ...]:
    """What asking a database can raise: SQLAlchemy's errors, and what drivers raise over a value or a socket."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - see above

    return (SQLAlchemyError, OSError, ValueError, ArithmeticError)


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
