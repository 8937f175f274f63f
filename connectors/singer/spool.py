"""What one run of a source printed, kept on disk until it is fetched."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.kit.row_values import Fault
from pipeline.model import DocumentId, Fingerprint

CACHE_KIB = 16 * 1024


class Spool:
    """Lines by the id of their document, for a source that cannot be asked for one document again.

    In a file of its own. Not to be used by two threads at the same time.

    Nothing in it outlives the run, so nothing is synced to the disk.
    """

    def __init__(self, file: Path) -> None:
        with _faults():
            self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = OFF")
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            # The lines lie in the order in which they came, and only the ids in one of their own.
            self._connection.execute("CREATE TABLE line (number INTEGER PRIMARY KEY, schema, fingerprint, line)")
            self._connection.execute("CREATE TABLE document (id PRIMARY KEY, number) WITHOUT ROWID")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Keep what is put meanwhile in one go."""
        with _faults():
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def put(self, document: DocumentId, schema: int, fingerprint: Fingerprint | None, line: bytes | None) -> None:
        """Keep the line of a document instead of one before; None says that it is gone."""
        cursor = self._connection.execute(
            "INSERT INTO line (schema, fingerprint, line) VALUES (?, ?, ?)", (schema, fingerprint, line)
        )
        self._connection.execute("INSERT OR REPLACE INTO document VALUES (?, ?)", (document, cursor.lastrowid))

    def fingerprint(self, document: DocumentId) -> tuple[Fingerprint | None] | None:
        """The fingerprint of what is kept of a document, None in it if it is gone; None if nothing is kept."""
        query = "SELECT fingerprint FROM line JOIN document USING (number) WHERE id = ?"
        return self._first(query, document)

    def line(self, document: DocumentId) -> tuple[int, bytes | None] | None:
        """The number of its schema and its line, None if it is gone; None if nothing is kept."""
        return self._first("SELECT schema, line FROM line JOIN document USING (number) WHERE id = ?", document)

    def _first(self, query: str, document: DocumentId) -> tuple[Any, ...] | None:
        with _faults():
            found: tuple[Any, ...] | None = self._connection.execute(query, (document,)).fetchone()
        return found


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Fault("spool_failed", f"what it printed could not be kept in a temporary file ({error})") from error
