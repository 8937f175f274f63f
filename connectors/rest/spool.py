"""What a listing showed, kept on disk until it is asked for."""

import sqlite3
from typing import NamedTuple

from pipeline.errors import SourceError


class Shown(NamedTuple):
    """What was kept of a key: the number of the listing that showed it last, and its content."""

    listing: int
    content: bytes


class Spool:
    """Keeps content by key, whatever its size, in a file of no name: only this process can read it, and it is gone
    with it.

    Listings are numbered by who uses it; a later one takes the place of an earlier one's content.
    """

    def __init__(self) -> None:
        self._opened: sqlite3.Connection | None = None

    def clear(self) -> None:
        """Let go of everything, and of the file. Safe to repeat."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def put(self, key: str, listing: int, content: bytes) -> bool:
        """Keep `content`; False, and nothing is kept, if this listing has shown the key before.

        Raises:
            SourceError: there is no room for it.
        """
        try:
            done = self._database.execute(
                "INSERT INTO shown VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE"
                " SET listing = excluded.listing, content = excluded.content WHERE listing <> excluded.listing",
                (key, listing, content),
            )
        except sqlite3.Error as error:
            raise SourceError(
                f"What the source lists cannot be kept on disk until it is read: {error}. Nothing was concluded from"
                " that. Make room for temporary files, or let TMPDIR name a folder that has some."
            ) from error
        return done.rowcount == 1

    def get(self, key: str) -> Shown | None:
        found = self._database.execute("SELECT listing, content FROM shown WHERE key = ?", (key,)).fetchone()
        return None if found is None else Shown(*found)

    @property
    def _database(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._opened.execute("PRAGMA journal_mode = OFF")
            self._opened.execute(
                "CREATE TABLE shown (key TEXT PRIMARY KEY, listing INTEGER, content BLOB) WITHOUT ROWID"
            )
        return self._opened
