"""The ledger beside what the memory shows, as a temporary table: neither has to fit into memory."""

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pipeline.model import DocumentId, FoundRecord, KnownRecord, MemoryRecordId, RecordKey, RecordPlace

_TABLE = """
CREATE TEMP TABLE shown (
    memory_record_id TEXT PRIMARY KEY,
    key              TEXT NOT NULL,
    document         TEXT NOT NULL,
    origin           TEXT NOT NULL,
    namespace        TEXT NOT NULL,
    digest           TEXT NOT NULL,
    position         REAL NOT NULL,
    created_at       REAL NOT NULL,
    last_listing     INTEGER NOT NULL,
    is_known         INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID
"""
_COLUMNS = "key, memory_record_id, document, origin, namespace, digest, position, created_at"
_KNOWN_COLUMNS = "r.key, r.document, r.namespace, r.digest, r.position, r.memory_record_id, r.expiry_days, r.lapses_at"
# What a batch in the outbox speaks of is on its way: nobody knows how it should look.
_NOT_ON_ITS_WAY = "key NOT IN (SELECT key FROM main.outbox_key)"
_UNSEEN = (
    "main.record r"  # noqa: S608 - constants of this file
    " WHERE NOT EXISTS (SELECT 1 FROM temp.shown s"
    # A second copy, which is obsolete, is shown under the key of the first.
    " WHERE s.memory_record_id = r.memory_record_id AND (s.key = r.key OR r.obsolete = 1) AND s.last_listing >= ?)"
    f" AND r.{_NOT_ON_ITS_WAY}"
)
_CHANGED = (
    "main.record r JOIN temp.shown s ON s.memory_record_id = r.memory_record_id AND s.key = r.key"
    f" WHERE s.digest <> r.digest AND r.document <> '' AND r.obsolete = 0 AND r.{_NOT_ON_ITS_WAY}"
)
_UNATTRIBUTED = (
    "main.record r JOIN temp.shown s ON s.memory_record_id = r.memory_record_id AND s.key = r.key"
    f" WHERE r.document = '' AND s.document = '' AND r.obsolete = 0 AND r.{_NOT_ON_ITS_WAY}"
)
_UNKNOWN = f"temp.shown s WHERE s.is_known = 0 AND s.{_NOT_ON_ITS_WAY}"

Read = Callable[..., Coroutine[Any, Any, Any]]


class SqliteComparison:
    """A `Comparison` on the connection of a state; `read` carries out work on it, one piece after another."""

    def __init__(self, connection: sqlite3.Connection, read: Read) -> None:
        self._connection = connection
        self._read = read

    async def begin(self) -> None:
        await self._read(self._begin)

    def _begin(self) -> None:
        self._end()
        self._connection.execute(_TABLE)
        self._connection.execute("CREATE INDEX temp.shown_key ON shown (key, created_at, memory_record_id)")

    async def end(self) -> None:
        await self._read(self._end)

    def _end(self) -> None:
        self._connection.execute("DROP TABLE IF EXISTS temp.shown")

    async def note(self, shown: Sequence[FoundRecord], *, listing: int) -> None:
        await self._read(self._note, shown, listing)

    def _note(self, shown: Sequence[FoundRecord], listing: int) -> None:
        with self._connection:
            self._connection.executemany(
                f"INSERT INTO temp.shown ({_COLUMNS}, last_listing) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                " ON CONFLICT (memory_record_id) DO UPDATE"
                " SET key = excluded.key, document = excluded.document, origin = excluded.origin,"
                " namespace = excluded.namespace, digest = excluded.digest, position = excluded.position,"
                " last_listing = excluded.last_listing, is_known = 0",
                [
                    (
                        record.key,
                        record.memory_record_id,
                        record.document,
                        record.origin,
                        record.namespace,
                        record.digest,
                        record.order,
                        record.created_at,
                        listing,
                    )
                    for record in shown
                ],
            )

    async def counts(self) -> tuple[int, int]:
        return await self._read(self._counts)  # type: ignore[no-any-return]

    def _counts(self) -> tuple[int, int]:
        self._mark_known()

        def number(query: str, *parameters: int) -> int:
            counted = self._connection.execute(f"SELECT count(*) FROM {query}", parameters)  # noqa: S608 - ours
            return int(counted.fetchone()[0])

        return number("temp.shown"), number(_UNSEEN, 1) + number(_CHANGED) + number(_UNKNOWN)

    async def unseen(self, after: RecordPlace, *, listing: int, limit: int) -> Sequence[KnownRecord]:
        return await self._read(self._select_known, _UNSEEN, (listing,), after, limit)  # type: ignore[no-any-return]

    async def changed(self, after: RecordPlace, *, limit: int) -> Sequence[KnownRecord]:
        return await self._read(self._select_known, _CHANGED, (), after, limit)  # type: ignore[no-any-return]

    async def unattributed(self, after: RecordPlace, *, limit: int) -> Sequence[KnownRecord]:
        return await self._read(self._select_known, _UNATTRIBUTED, (), after, limit)  # type: ignore[no-any-return]

    def _select_known(
        self, condition: str, parameters: tuple[int, ...], after: RecordPlace, limit: int
    ) -> list[KnownRecord]:
        rows = self._connection.execute(
            f"SELECT {_KNOWN_COLUMNS} FROM {condition}"  # noqa: S608 - constants of this file
            " AND (r.document, r.key) > (?, ?) ORDER BY r.document, r.key LIMIT ?",
            (*parameters, *after, limit),
        )
        return [
            KnownRecord(
                RecordKey(key), DocumentId(document), namespace, digest, position, MemoryRecordId(record_id), *expiry
            )
            for key, document, namespace, digest, position, record_id, *expiry in rows
        ]

    async def unknown(self, after: FoundRecord | None, *, listing: int, limit: int) -> Sequence[FoundRecord]:
        return await self._read(self._unknown, after, listing, limit)  # type: ignore[no-any-return]

    def _unknown(self, after: FoundRecord | None, listing: int, limit: int) -> list[FoundRecord]:
        if after is None:
            self._mark_known()
        place = ("", 0.0, "") if after is None else (after.key, after.created_at, after.memory_record_id)
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM {_UNKNOWN} AND s.last_listing = ?"  # noqa: S608 - constants of this file
            " AND (s.key, s.created_at, s.memory_record_id) > (?, ?, ?)"
            " ORDER BY s.key, s.created_at, s.memory_record_id LIMIT ?",
            (listing, *place, limit),
        )
        return [FoundRecord(RecordKey(key), MemoryRecordId(record_id), *rest) for key, record_id, *rest in rows]

    def _mark_known(self) -> None:
        """Note which of the shown the ledger has; not those that say by now whose they are, which it does not know."""
        with self._connection:
            self._connection.execute(
                "UPDATE temp.shown SET is_known = 1 WHERE memory_record_id IN ("
                " SELECT s.memory_record_id FROM main.record r JOIN temp.shown s USING (memory_record_id)"
                " WHERE r.obsolete = 1 OR (r.key = s.key AND (r.document <> '' OR s.document = '')))"
            )
