"""What is remembered of a site between two runs: no text, only what spares asking for pages that are as they were.

A file beside the state, its owner's alone. It may be removed at any time: then the next run asks for every page. It is
never what a deletion rests on alone.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import SourceError

VERSION = 1
BUSY_S = 30.0
SCANS_KEPT = 100  # for which a page is remembered that was not found any more

_SCHEMA = """
CREATE TABLE visit (
    url TEXT PRIMARY KEY, etag TEXT, last_modified TEXT, modified_at TEXT, lastmod TEXT, size_bytes INTEGER NOT NULL,
    fingerprint TEXT NOT NULL, canonical TEXT, is_indexed INTEGER NOT NULL, has_password_field INTEGER NOT NULL,
    has_end INTEGER NOT NULL, is_blank INTEGER NOT NULL, links BLOB NOT NULL,
    seen INTEGER NOT NULL, changed INTEGER NOT NULL, listed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX visit_fingerprint ON visit (fingerprint);
CREATE TABLE moved (url TEXT PRIMARY KEY, target TEXT NOT NULL, seen INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE doubt (url TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, scan INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE missed (url TEXT PRIMARY KEY, scan INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE scans (number INTEGER PRIMARY KEY);
"""
_FRONTIER = """
CREATE TEMP TABLE frontier (
    place INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, depth INTEGER NOT NULL, lastmod TEXT
);
"""


@dataclass(frozen=True, slots=True)
class Visit:
    """A page as it was when it was read last.

    `etag` and `last_modified` are the server's own words, to ask with whether it has changed; None if they cannot be
    relied on. `modified_at` is Last-Modified in any case, `lastmod` the sitemap's. `canonical` is the page that this
    one may be a copy of. `links` are the pages of this source that it leads to.
    """

    url: str
    etag: str | None
    last_modified: str | None
    modified_at: str | None
    lastmod: str | None
    size_bytes: int
    fingerprint: str
    canonical: str | None
    is_indexed: bool
    has_password_field: bool
    has_end: bool
    is_blank: bool
    links: tuple[str, ...]


class Waiting(NamedTuple):
    """A page that is to be asked for. `depth` is how many links it is away from the start."""

    url: str
    depth: int
    lastmod: str | None


@contextmanager
def faults_told(path: Path) -> Iterator[None]:
    """Turn what sqlite says of the file into what a run ends with.

    Raises:
        SourceError: the file cannot be read or written.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise SourceError(
            f"What is remembered of the site, in {path}, cannot be read or written: {error}. Nothing was concluded from"
            " that. Is there room on the disk? The file can be removed; then the next run asks for every page."
        ) from error


_COLUMNS = ", ".join(field.name for field in fields(Visit))


class Visits:
    """The file, and the pages that the scan under way has still to ask for."""

    def __init__(self, path: Path) -> None:
        """Open the file; make it anew if it is not one of ours.

        Raises:
            SourceError: it cannot be made.
        """
        self.scan = 0
        self.found = 0
        self._last_place = 0
        try:
            _make_private(path)
            try:
                self._db = _opened(path)
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)
                for suffix in ("-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
                _make_private(path)
                self._db = _opened(path)
            self._db.executescript(_FRONTIER)
        except (OSError, sqlite3.Error) as error:
            raise SourceError(
                f"What is remembered of the site cannot be kept in {path}: {error}. Nothing was concluded from that."
                " Is the folder yours, and is there room?"
            ) from error

    def close(self) -> None:
        self._db.close()

    def begin(self) -> None:
        """Begin a scan, with nothing to ask for yet."""
        with self._db:
            self._db.execute("DELETE FROM frontier")
            self._db.execute("INSERT INTO scans DEFAULT VALUES")
            (self.scan,) = self._db.execute("SELECT max(number) FROM scans").fetchone()
            self._db.execute("DELETE FROM scans WHERE number < ?", (self.scan,))
            for table, column in (("visit", "seen"), ("moved", "seen"), ("doubt", "scan"), ("missed", "scan")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} < ?", (self.scan - SCANS_KEPT,))  # noqa: S608
        self.found = self._last_place = 0

    # ---------------------------------------------------------------------------------- what is to be asked

    def add(self, pages: Iterable[tuple[str, str | None]], depth: int, *, pages_max: int) -> bool:
        """Put pages, each with its lastmod, behind the others unless they were found before; False if that makes more
        than `pages_max`."""
        has_room = True
        with self._db:
            for url, lastmod in pages:
                if self.found < pages_max:
                    self.found += self._db.execute(
                        "INSERT OR IGNORE INTO frontier (url, depth, lastmod) VALUES (?, ?, ?)", (url, depth, lastmod)
                    ).rowcount
                elif not self.is_found(url):
                    has_room = False
        return has_room

    def next(self, limit: int) -> list[Waiting]:
        """The next pages to ask for."""
        rows = self._db.execute(
            "SELECT place, url, depth, lastmod FROM frontier WHERE place > ? ORDER BY place LIMIT ?",
            (self._last_place, limit),
        ).fetchall()
        if rows:
            self._last_place = rows[-1][0]
        return [Waiting(*row[1:]) for row in rows]

    def is_found(self, url: str) -> bool:
        return self._has("SELECT 1 FROM frontier WHERE url = ?", url)

    # ------------------------------------------------------------------------------------- what was learnt

    def last(self, url: str) -> Visit | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM visit WHERE url = ?", (url,)).fetchone()  # noqa: S608
        return _visit(row) if row else None

    def note(self, visit: Visit) -> None:
        """Remember a page as the scan under way read it."""
        before = self.last(visit.url)
        is_changed = before is not None and before.fingerprint != visit.fingerprint
        values = [*astuple(visit)[:-1], zlib.compress(json.dumps(visit.links).encode(), 1)]
        with self._db:
            self._db.execute(
                f"INSERT INTO visit ({_COLUMNS}, seen, changed, listed) VALUES ({'?, ' * len(values)}?, 0, 0)"  # noqa: S608
                " ON CONFLICT (url) DO UPDATE SET seen = excluded.seen, "
                + ", ".join(f"{field.name} = excluded.{field.name}" for field in fields(Visit)),
                (*values, self.scan),
            )
            if is_changed:
                self._db.execute("UPDATE visit SET changed = ? WHERE url = ?", (self.scan, visit.url))
            self._db.execute("DELETE FROM doubt WHERE url = ?", (visit.url,))
            self._db.execute("DELETE FROM moved WHERE url = ?", (visit.url,))

    def note_listed(self, url: str) -> None:
        """The page is a document in the scan under way."""
        with self._db:
            self._db.execute("UPDATE visit SET listed = ? WHERE url = ?", (self.scan, url))
            self._db.execute("DELETE FROM missed WHERE url = ?", (url,))

    def note_moved(self, url: str, target: str) -> None:
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO moved VALUES (?, ?, ?)", (url, target, self.scan))

    def forget(self, url: str) -> None:
        with self._db:
            for table in ("visit", "moved", "doubt"):
                self._db.execute(f"DELETE FROM {table} WHERE url = ?", (url,))  # noqa: S608 - one of these names

    def moved_to(self, url: str) -> str | None:
        """Where the scan under way was sent from `url`."""
        row = self._db.execute("SELECT target FROM moved WHERE url = ? AND seen = ?", (url, self.scan)).fetchone()
        return row[0] if row else None

    def was_moved(self, url: str) -> bool:
        """Whether `url` was no page of its own when it was asked for last."""
        return self._has("SELECT 1 FROM moved WHERE url = ?", url)

    def moved(self) -> list[str]:
        """The pages that sent the scan under way elsewhere."""
        return [row[0] for row in self._db.execute("SELECT url FROM moved WHERE seen = ?", (self.scan,))]

    def is_listed(self, url: str) -> bool:
        """Whether the scan under way, or the last, listed the page."""
        return self._has("SELECT 1 FROM visit WHERE url = ? AND listed = ?", url, self.scan)

    def is_seen(self, url: str) -> bool:
        """Whether the scan under way, or the last, has read the page."""
        return self._has("SELECT 1 FROM visit WHERE url = ? AND seen = ?", url, self.scan)

    def was_listed(self, url: str) -> bool:
        """Whether any scan did."""
        return self._has("SELECT 1 FROM visit WHERE url = ? AND listed > 0", url)

    def is_new_text_of_another(self, url: str, fingerprint: str) -> bool:
        """Whether another page than `url` has changed in this scan, and to just this text."""
        return self._has(
            "SELECT 1 FROM visit WHERE fingerprint = ? AND url != ? AND changed = ?", fingerprint, url, self.scan
        )

    def is_text_of_another(self, urls: Collection[str], fingerprint: str) -> bool:
        """Whether a page of this scan that is none of `urls` has just this text."""
        rows = self._db.execute("SELECT url FROM visit WHERE fingerprint = ? AND seen = ?", (fingerprint, self.scan))
        return any(url not in urls for (url,) in rows)

    def copies(self, after: str, limit: int) -> Sequence[Visit]:
        """Pages of the scan under way that may be copies of others, behind `after`, in order."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM visit"  # noqa: S608 - names of ours
            " WHERE seen = ? AND canonical IS NOT NULL AND url > ? ORDER BY url LIMIT ?",
            (self.scan, after, limit),
        )
        return [_visit(row) for row in rows]

    def is_believed(self, url: str, fingerprint: str) -> bool:
        """Whether an earlier scan doubted the page for the very same answer; if not, it is noted as doubted."""
        row = self._db.execute("SELECT fingerprint, scan FROM doubt WHERE url = ?", (url,)).fetchone()
        if row is not None and row[0] == fingerprint:
            return bool(row[1] < self.scan)
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO doubt VALUES (?, ?, ?)", (url, fingerprint, self.scan))
        return False

    def is_missed_again(self, url: str) -> bool:
        """Whether an earlier complete scan, too, did not list the page; if not, it is noted for the next."""
        row = self._db.execute("SELECT scan FROM missed WHERE url = ?", (url,)).fetchone()
        if row is None:
            with self._db:
                self._db.execute("INSERT INTO missed VALUES (?, ?)", (url, self.scan))
        return row is not None and row[0] < self.scan

    def _has(self, query: str, *values: object) -> bool:
        return self._db.execute(query, values).fetchone() is not None


def _visit(row: tuple[Any, ...]) -> Visit:
    values = dict(zip((field.name for field in fields(Visit)), row, strict=True))
    flags = {name: bool(values[name]) for name in ("is_indexed", "has_password_field", "has_end", "is_blank")}
    return Visit(**{**values, **flags, "links": tuple(json.loads(zlib.decompress(values["links"])))})


def _make_private(path: Path) -> None:
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
    if path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o077:
        path.unlink()  # others may have written what it says
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _require_version(db: sqlite3.Connection) -> None:
    if _version(db) != VERSION:
        raise sqlite3.DatabaseError("it is of another version")


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level="IMMEDIATE", check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if _version(db) == 0:
            db.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")
        _require_version(db)
        db.execute(f"SELECT {_COLUMNS}, changed FROM visit LIMIT 1")  # noqa: S608 - names of ours
    except BaseException:
        db.close()
        raise
    return db
