"""Documents that are rows of a table or of a query, in any database that SQLAlchemy speaks to."""

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from anyio import CancelScope, Lock, fail_after
from anyio.to_thread import run_sync

from connectors.kit.budget import ErrorBudget
from connectors.kit.packages import extra_for
from connectors.kit.row_values import DUPLICATE_ID, NOT_UTF8, Fault
from connectors.sql.cursor import ListedRows
from connectors.sql.database import Database, missing_driver
from connectors.sql.settings import SqlSettings
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)

Answer = TypeVar("Answer")

NO_ANSWER, TOO_LARGE = "no_answer", "too_large"


def _now() -> datetime:
    return datetime.now(UTC)


class SqlConnector:
    """Every row of the table or query is a document; its key is its id.

    A single text column is the document as it stands. Several become plain text, each value behind its column's name:
    as Markdown, headings within the values and those for the columns would mix.

    An edit shows by `version`, or by a digest of title and text, which are then read with every listing. A time of the
    last change is not relied on: not every edit moves it. What is gone is what a complete listing does not show, and
    what is not there when it is asked for once more.

    With a `cursor`, listings between the complete ones show the rows that have changed since the last listing began,
    and those of the overlap before. The checkpoint says how far the cursor had come when the listing began, and when
    the last complete one did.

    Pages follow each other by key, and not by number, so that rows that come and go meanwhile neither hide others nor
    show them twice. Each page is of its own moment: a transaction that stayed open would keep the table from being
    changed, and what was deleted from being thrown away, for as long as the listing takes.
    """

    settings_model: ClassVar[type[SqlSettings]] = SqlSettings

    @staticmethod
    def missing_packages(settings: SqlSettings) -> Sequence[str]:
        """SQLAlchemy, and the driver of the database."""
        url = settings.url or os.environ.get(settings.url_variable or "", "")
        return extra_for("sql", "sqlalchemy") or missing_driver(url)

    def __init__(self, settings: SqlSettings, base_folder: Path, *, now: Callable[[], datetime] = _now) -> None:
        self._settings = settings
        self._now = now
        self._base_folder = base_folder
        self._database = Database(settings, base_folder)
        self._budget = ErrorBudget(f"The database of {self._database.name}")
        self._one_at_a_time = Lock()

    async def aclose(self) -> None:
        """Close the connection. It is opened again if there is more to ask."""
        with CancelScope(shield=True), suppress(Fault):
            await self._ask(Database.close)

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        """Yield the rows in the order of their keys: all, or those that may have changed since the checkpoint."""
        now = self._now()
        before = self._to_go_on_from(since, now)
        is_listing = False
        try:
            listing = await self._ask(partial(Database.begin, now=now, listed_before=before))
            while refs := await self._ask(partial(Database.next_page, listing=listing)):
                is_listing = True
                yield refs
        except Fault as fault:
            message = f"Cannot list {self._database.name}: {fault}. Nothing was concluded from that"
            if not is_listing:
                raise SourceError(f"{message}; the next run tries again.") from fault
            yield [ScanError("", fault.code, f"{message} but what came before; the next run lists it anew.")]
            return
        if listing.problems:
            yield list(listing.problems)
            return
        yield [ScanComplete() if listing.is_of_all else ScanIncremental()]
        if self._settings.cursor is not None:
            full_at = now if before is None or listing.is_of_all else before.full_at
            yield [ListedRows(listing.newest, full_at).to_checkpoint()]

    def _to_go_on_from(self, since: Checkpoint | None, now: datetime) -> ListedRows | None:
        """What was listed before, if only what has changed since is to be listed; None if everything is."""
        before = None if since is None or self._settings.cursor is None else ListedRows.from_checkpoint(since)
        if before is None or before.newest is None:
            return None
        full_for = timedelta(hours=self._settings.full_every_h)
        return before if now - full_for < before.full_at <= now else None

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the row's text as it is now."""
        try:
            document = await self._ask(partial(Database.read, document=ref.id))
        except Fault as fault:
            if fault.code == NO_ANSWER:
                await self._require_database(fault)
            if fault.code not in (DUPLICATE_ID, NOT_UTF8):
                self._budget.failed(fault)
            raise UnreadableDocument(fault.code, f"Cannot read {ref.id!r}: {fault}.") from fault
        self._budget.succeeded()
        if document is None:
            raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.")
        if len(document.content) > self._settings.max_bytes:
            raise UnreadableDocument(
                TOO_LARGE,
                f"{ref.id!r} has {len(document.content):,} bytes, and `source.max_bytes` allows"
                f" {self._settings.max_bytes:,}. Raise it, or leave the row out by a `source.query`.",
            )
        return document

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the row as a scan would list it now; None if there is none."""
        try:
            return await self._ask(partial(Database.locate, document=document))
        except Fault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault

    def trace(self, ref: DocumentRef) -> str | None:
        # A digest of what the row says, whatever its key. A version says nothing of that.
        return ref.fingerprint if self._settings.version is None else None

    async def _require_database(self, fault: Fault) -> None:
        """Make sure that it is a row for which no answer comes, and not the database."""
        try:
            await self._ask(Database.open)
        except Fault as worse:
            raise SourceError(
                f"The database of {self._database.name} does not answer: {worse}. Nothing was concluded from that; the"
                " next run tries again."
            ) from fault

    async def _ask(self, question: Callable[[Database], Answer]) -> Answer:
        """The answer, while no other question is put: drivers wait for answers, and talk to one thread at a time.

        Raises:
            Fault: there is none, or not within `timeout_s`. Then the connection is given up.
            SourceError: nothing can be asked at all.
        """
        async with self._one_at_a_time:
            database = self._database
            try:
                with fail_after(self._settings.timeout_s):
                    return await run_sync(question, database, abandon_on_cancel=True)
            except (Fault, SourceError):
                raise
            except BaseException as error:  # no answer, or nobody who still wants it
                self._database = Database(self._settings, self._base_folder)
                database.give_up()
                if isinstance(error, TimeoutError):
                    seconds = f"{self._settings.timeout_s:g}"
                    raise Fault(NO_ANSWER, f"no answer came within {seconds} s (`source.timeout_s`)") from None
                raise
