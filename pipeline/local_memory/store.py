"""The SQLite file of the local memory.

Several processes may have it open at once. A request's writes are one transaction; a process that is killed
leaves whole requests behind, never half of one.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipeline.files import make_folder
from pipeline.local_memory.search import TOKENIZER, searchable

__all__ = ("Memory", "Metadata", "Selection", "Store", "StoredRecord", "UnavailableStoreError", "UnreadableStoreError")

Metadata = Mapping[str, Mapping[str, Any]]

APPLICATION_ID = 0x6D73796E  # "msyn", in the header of the file: it is ours
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0

# `sequence` is never used twice, so that it can say where a page of a listing ended.
# `indexed_values` holds the metadata that can be filtered on: a row for each value of an indexed key, and for
# each element of a list.
SCHEMA = """
CREATE TABLE memories (
    memory_id TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE records (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    memory_id TEXT NOT NULL REFERENCES memories ON DELETE CASCADE,
    record_id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    text TEXT NOT NULL,
    timestamp REAL NOT NULL,
    strategy_id TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    expires_at REAL
);
CREATE INDEX records_by_memory ON records (memory_id, sequence);
CREATE INDEX records_by_namespace ON records (memory_id, namespace, sequence);
CREATE INDEX records_by_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE indexed_values (
    sequence INTEGER NOT NULL REFERENCES records ON DELETE CASCADE,
    memory_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value NOT NULL
);
CREATE INDEX indexed_values_by_value ON indexed_values (memory_id, key, value, sequence);
CREATE INDEX indexed_values_by_record ON indexed_values (sequence);
CREATE VIRTUAL TABLE words USING fts5 (searchable, tokenize = 'TOKENIZER');
CREATE TRIGGER words_of_deleted_record AFTER DELETE ON records BEGIN
    DELETE FROM words WHERE rowid = old.sequence;
END;
CREATE TABLE client_tokens (
    scope TEXT NOT NULL,
    client_token TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    answer BLOB NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (scope, client_token)
);
CREATE INDEX client_tokens_by_age ON client_tokens (created_at);
"""

RECORD_COLUMNS = (
    "memory_id, record_id, namespace, text, timestamp, strategy_id, metadata, created_at, updated_at, expires_at"
)


class UnreadableStoreError(Exception):
    """Raised when the file is no store of this local memory, or one of a newer version; `cure` says what to do."""

    cure = "Move the file away; `memsync verify --repair` makes a new one and fills it."


class UnavailableStoreError(UnreadableStoreError):
    """Raised when the file cannot be used now, and nothing speaks against what is in it."""

    cure = "Leave the file where it is: see that its disk has room and that it may be written, then try again."


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory: its id, and what CreateMemory and UpdateMemory were given."""

    memory_id: str
    settings: Mapping[str, Any]
    created_at: float

    @property
    def indexed_keys(self) -> dict[str, str]:
        """The metadata keys that can be filtered on, with their types: STRING, STRINGLIST or NUMBER."""
        return {entry["key"]: entry["type"] for entry in self.settings.get("indexedKeys", ())}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """A record as the memory holds it; `metadata` without what the service adds of its own.

    Times are epoch seconds. `namespace` and `strategy_id` are empty if the record has none.
    """

    memory_id: str
    record_id: str
    namespace: str
    text: str
    timestamp: float
    strategy_id: str
    metadata: Metadata
    created_at: float
    updated_at: float
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Selection:
    """A condition on the table `records`, as SQL and its parameters."""

    condition: str
    parameters: tuple[Any, ...]


class Store:
    """The memories, their records and the client tokens that were used."""

    def __init__(self, path: Path | None) -> None:
        """Open or create the file at `path`, readable by its owner only; None keeps everything in memory.

        Raises:
            UnreadableStoreError: the file is something else, or was written by a newer version.
            UnavailableStoreError: it cannot be opened or written, as on a full disk.
        """
        try:
            if path is not None:
                make_folder(path.parent)
                # SQLite gives its side files the mode of the file itself.
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=BUSY_TIMEOUT_S)
        except OSError as error:
            raise UnavailableStoreError(f"{path} cannot be opened: {error.strerror}") from error
        except sqlite3.OperationalError as error:
            raise UnavailableStoreError(f"{path} cannot be opened: {error}") from error
        try:
            self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path | None) -> None:
        try:
            if not self._is_ours_or_empty():
                raise UnreadableStoreError(f"{path} is the database of another program")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            with self.transaction():
                version = self._pragma("user_version")
                if version == 0:
                    self._create_schema()
        except sqlite3.OperationalError as error:  # of the disk, or of who else uses the file
            raise UnavailableStoreError(f"{path} cannot be used now: {error}") from error
        except sqlite3.DatabaseError as error:
            raise UnreadableStoreError(f"{path} cannot be used as a local memory: {error}") from error
        if version > SCHEMA_VERSION:
            raise UnreadableStoreError(
                f"{path} was written by a newer version (schema {version}, this one reads {SCHEMA_VERSION})"
            )

    def _is_ours_or_empty(self) -> bool:
        (table_count,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return table_count == 0 or self._pragma("application_id") == APPLICATION_ID

    def _pragma(self, name: str) -> int:
        (value,) = self._connection.execute(f"PRAGMA {name}").fetchone()
        assert isinstance(value, int)
        return value

    def _create_schema(self) -> None:
        # executescript() would commit the transaction that keeps two processes from creating it twice.
        statement = ""
        for line in SCHEMA.replace("TOKENIZER", TOKENIZER).splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self._connection.execute(statement)
                statement = ""
        self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def close(self) -> None:
        """Close the file. What was committed stays."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is stored together, or not at all if an exception leaves it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # Memories

    def add_memory(self, memory: Memory) -> None:
        """Store a memory whose id is new."""
        self._connection.execute(
            "INSERT INTO memories VALUES (?, ?, ?)",
            (memory.memory_id, orjson.dumps(memory.settings).decode(), memory.created_at),
        )

    def change_memory(self, memory: Memory) -> None:
        """Store the settings of a memory that there is."""
        self._connection.execute(
            "UPDATE memories SET settings = ? WHERE memory_id = ?",
            (orjson.dumps(memory.settings).decode(), memory.memory_id),
        )

    def memory(self, memory_id: str) -> Memory | None:
        """The memory with this id, if there is one."""
        rows = self._connection.execute("SELECT * FROM memories WHERE memory_id = ?", (memory_id,))
        return next(map(_read_memory, rows), None)

    def memories(self, after_id: str = "", limit: int = -1) -> list[Memory]:
        """The memories by id, from behind `after_id`; a negative limit is none."""
        rows = self._connection.execute(
            "SELECT * FROM memories WHERE memory_id > ? ORDER BY memory_id LIMIT ?", (after_id, limit)
        )
        return [_read_memory(row) for row in rows]

    def delete_memory(self, memory_id: str) -> None:
        """Delete a memory, all that it holds and the client tokens that were used in it."""
        self._connection.execute("DELETE FROM client_tokens WHERE scope = ?", (memory_id,))
        self._connection.execute("DELETE FROM memories WHERE memory_id = ?", (memory_id,))

    # Records

    def insert(self, record: StoredRecord, indexed_values: Iterable[tuple[str, str | float]]) -> None:
        """Store a new record."""
        cursor = self._connection.execute(
            f"INSERT INTO records ({RECORD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            _record_row(record),
        )
        assert cursor.lastrowid is not None
        self._index(cursor.lastrowid, record, indexed_values)

    def replace(self, record: StoredRecord, indexed_values: Iterable[tuple[str, str | float]]) -> None:
        """Store a new state of the record with the same id; its place in listings stays."""
        ((sequence,),) = self._connection.execute(
            f"UPDATE records SET ({RECORD_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
            " WHERE record_id = ? RETURNING sequence",
            (*_record_row(record), record.record_id),
        ).fetchall()
        self._connection.execute("DELETE FROM indexed_values WHERE sequence = ?", (sequence,))
        self._connection.execute("DELETE FROM words WHERE rowid = ?", (sequence,))
        self._index(sequence, record, indexed_values)

    def delete(self, memory_id: str, record_id: str, now: float) -> bool:
        """Delete a record; False if there is none that has not expired."""
        deleted = self._connection.execute(
            "DELETE FROM records WHERE memory_id = ? AND record_id = ? AND ifnull(expires_at > ?, 1)",
            (memory_id, record_id, now),
        )
        return deleted.rowcount > 0

    def record(self, memory_id: str, record_id: str, now: float) -> StoredRecord | None:
        """The record with this id, unless it has expired."""
        rows = self._connection.execute(
            f"SELECT {RECORD_COLUMNS} FROM records"  # noqa: S608
            " WHERE memory_id = ? AND record_id = ? AND ifnull(expires_at > ?, 1)",
            (memory_id, record_id, now),
        )
        return next((_read_record(row) for row in rows), None)

    def select(
        self, selection: Selection, *, after_sequence: int = 0, limit: int = -1
    ) -> list[tuple[int, StoredRecord]]:
        """The selected records in the order in which they were created, each with its sequence number."""
        rows = self._connection.execute(
            f"SELECT sequence, {RECORD_COLUMNS} FROM records"  # noqa: S608
            f" WHERE {selection.condition} AND sequence > ? ORDER BY sequence LIMIT ?",
            (*selection.parameters, after_sequence, limit),
        )
        return [(row[0], _read_record(row[1:])) for row in rows]

    def search(
        self, expression: str, selection: Selection, *, skip: int, limit: int
    ) -> list[tuple[float, StoredRecord]]:
        """The selected records that match an FTS5 expression, best first, each with its bm25."""
        rows = self._connection.execute(
            f"SELECT bm25(words) AS relevance, {RECORD_COLUMNS} FROM words"  # noqa: S608
            " JOIN records ON records.sequence = words.rowid"
            f" WHERE words MATCH ? AND {selection.condition} ORDER BY relevance, sequence LIMIT ? OFFSET ?",
            (expression, *selection.parameters, limit, skip),
        )
        return [(row[0], _read_record(row[1:])) for row in rows]

    def forget_expired(self, now: float, tokens_before: float) -> None:
        """Delete the records that have expired and the client tokens used before a time."""
        self._connection.execute("DELETE FROM records WHERE expires_at <= ?", (now,))
        self._connection.execute("DELETE FROM client_tokens WHERE created_at < ?", (tokens_before,))

    def _index(self, sequence: int, record: StoredRecord, indexed_values: Iterable[tuple[str, str | float]]) -> None:
        self._connection.execute(
            "INSERT INTO words (rowid, searchable) VALUES (?, ?)", (sequence, searchable(record.text))
        )
        self._connection.executemany(
            "INSERT INTO indexed_values VALUES (?, ?, ?, ?)",
            [(sequence, record.memory_id, key, value) for key, value in indexed_values],
        )

    # Client tokens

    def remember(
        self, scope: str, client_token: str, request_digest: str, answer: Mapping[str, Any], now: float
    ) -> None:
        """Keep the answer of a request under its token, which is new within `scope`."""
        self._connection.execute(
            "INSERT INTO client_tokens VALUES (?, ?, ?, ?, ?)",
            (scope, client_token, request_digest, orjson.dumps(answer), now),
        )

    def remembered(self, scope: str, client_token: str) -> tuple[str, dict[str, Any]] | None:
        """The digest of the request that used this token, and its answer."""
        row = self._connection.execute(
            "SELECT request_digest, answer FROM client_tokens WHERE scope = ? AND client_token = ?",
            (scope, client_token),
        ).fetchone()
        return row and (row[0], orjson.loads(row[1]))


def _read_memory(row: tuple[Any, ...]) -> Memory:
    memory_id, settings, created_at = row
    return Memory(memory_id, orjson.loads(settings), created_at)


def _record_row(record: StoredRecord) -> tuple[Any, ...]:
    return (
        record.memory_id,
        record.record_id,
        record.namespace,
        record.text,
        record.timestamp,
        record.strategy_id,
        orjson.dumps(record.metadata).decode(),
        record.created_at,
        record.updated_at,
        record.expires_at,
    )


def _read_record(row: tuple[Any, ...]) -> StoredRecord:
    columns = dict(zip(RECORD_COLUMNS.split(", "), row, strict=True))
    return StoredRecord(**{**columns, "metadata": orjson.loads(columns["metadata"])})
