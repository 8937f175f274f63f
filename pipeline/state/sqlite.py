"""The ledger, outbox and dead letters of one source in one SQLite file.

The SQL is plain synchronous code on one connection; `offload` carries it to a worker thread in production and runs
it in place in a simulation, so both run the same code. `synchronous=FULL` since a batch must be on the disk before
its first byte leaves: with NORMAL, a power cut loses transactions that were acknowledged.
"""

import functools
import importlib.resources
import json
import os
import shlex
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import anyio
import orjson

from pipeline import letters as letter_json
from pipeline.errors import ConfigurationError, LeaseLost, SourceLocked, StateError
from pipeline.expiry import NOTHING_EXPIRES, Renewal, RenewalPlace, life_of
from pipeline.files import is_open_to_all, make_folder, sync_folder
from pipeline.identity import digest_of
from pipeline.letters import LAPSING
from pipeline.model import (
    UNKNOWN_EXPIRY,
    Batch,
    Checkpoint,
    ClientToken,
    DeadLetter,
    DocumentId,
    DocumentPlan,
    DocumentState,
    Entry,
    Fingerprint,
    FoundRecord,
    KnownDocument,
    KnownRecord,
    LastRun,
    MemoryRecordId,
    Operation,
    PastRun,
    PlanUse,
    RecordKey,
    RecordPlace,
    Settlement,
    StateCounts,
)
from pipeline.protocols import Offload
from pipeline.state.comparison import SqliteComparison
from pipeline.state.mark import FileMark, Mark
from pipeline.state.migrations import back_up, migrate

SCHEMA_VERSION = 6
MARK_FILE = "state.mark"
RUNS_KEPT = 1000
PLANS_KEPT = 100  # whose use is remembered, the latest
# 32 MiB of log before it is copied into the file: the pages of the outbox are written again and again until then.
WAL_PAGES = 8000
LAST_CHARACTER = "\U0010ffff"  # behind all others
ITEMS_PER_QUERY = 500  # SQLite allows 32,766 parameters; more than this gains nothing

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Item = TypeVar("Item")

_RECORD_COUNT = "(SELECT count(*) FROM record r WHERE r.document = d.id AND r.obsolete = 0)"
_DOCUMENT_COLUMNS = f"""
    d.row, d.id, d.origin, d.fingerprint, d.recipe, d.has_parts, d.skipped, {_RECORD_COUNT},
    (SELECT count(*) FROM dead_letter l WHERE l.document = d.id AND l.stage <> 'scan' AND l.dropped_at IS NULL),
    (SELECT count(*) FROM dead_letter l WHERE l.document = d.id AND l.dropped_at IS NOT NULL),
    (SELECT count(*) FROM dead_letter l WHERE l.document = d.id AND l.dropped_at IS NULL
       AND json_extract(CAST(l.letter AS TEXT), '$.operation') = 'update')
"""  # noqa: S608 - constants
_SAVED_OF_ENTRY = Entry._fields.index("counted_as")  # this many members; those from here on are not saved
_RECORD_COLUMNS = "key, document, namespace, digest, position, memory_record_id, expiry_days, lapses_at, edited_from"
# Of a record `r`. What a person has edited is due once it has lapsed, and nothing can be said of it before.
_DUE_AT = "CASE WHEN r.edited_from IS NULL THEN r.renew_at ELSE r.lapses_at END"
# Reading its document is of no use for what has no digest, which is read anyway or waits for a dead letter; nor where
# that could not be parsed.
_CAN_RENEW = "r.obsolete = 0 AND r.digest <> ''"
_ORIGIN = "(SELECT d.origin FROM document d WHERE d.id = r.document)"
# Of the document itself, of the file that it is a part of, or of another part of that which it is a part of; `$` comes
# next after `#`.
_LETTERS_OF_UNREAD = f"""
    SELECT 1 FROM dead_letter l WHERE l.stage = 'parse'
      AND (l.document = r.document OR l.document = {_ORIGIN}
        OR (l.document > {_ORIGIN} || '#' AND l.document < {_ORIGIN} || '$'
          AND substr(r.document, 1, length(l.document) + 1) = l.document || '#'))
"""  # noqa: S608 - constants
_IS_UNREAD = f"EXISTS ({_LETTERS_OF_UNREAD})"
# Whoever dropped that letter before did not know that the record would lapse: it is tried, and told, once.
_IS_KNOWN_TO_LAPSE = f"""
    EXISTS ({_LETTERS_OF_UNREAD} AND (l.dropped_at IS NULL OR l.code = '{LAPSING}' OR l.dropped_at >= {_DUE_AT}))
"""
# Given the time of a `Renewal`, and its days before that.
_IS_DUE = f"{_DUE_AT} <= ? AND NOT {_IS_KNOWN_TO_LAPSE} AND {_CAN_RENEW}"
_IS_TO_RENEW = f"(r.edited_from IS NULL AND r.expiry_days IS NOT ? AND NOT {_IS_UNREAD} AND {_CAN_RENEW} OR {_IS_DUE})"
_STATE_COLUMNS = "id, origin, fingerprint, recipe, has_parts, skipped"


@dataclass(slots=True, eq=False)
class _Wanted:
    """A change that somebody waits for."""

    work: Callable[[], Any]
    result: Any = None
    error: Exception | None = None
    is_done: bool = False
    is_given_up: bool = False


class SqliteStateStore:
    """A `StateStore` in a file; made by `open_state`."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None, offload: Offload, mark: Mark | None = None
    ) -> None:
        self._connection = connection
        self._path = path
        self._offload = offload
        self._mark = mark
        self._turn = anyio.Lock()
        self._wanted: list[_Wanted] = []
        self._fence = 0  # as long as nobody ever took a lease, none is needed

    async def _read(
        self, work: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """Run `work` after what was asked for earlier."""
        async with self._turn:
            return await self._offload(functools.partial(self._look, functools.partial(work, *arguments, **named)))

    async def _write(
        self, work: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """Run `work` in a transaction under the lease, after what was asked for earlier.

        Whatever waits at the same time goes into one: the disk takes as long for a commit of much as for one of little.
        """
        wanted = _Wanted(functools.partial(work, *arguments, **named))
        self._wanted.append(wanted)
        try:
            async with self._turn:
                if not wanted.is_done:
                    await self._carry_out_all()
        finally:
            wanted.is_given_up = not wanted.is_done
        if wanted.error is not None:
            raise wanted.error
        return wanted.result  # type: ignore[no-any-return]

    async def _carry_out_all(self) -> None:
        group = [wanted for wanted in self._wanted if not wanted.is_given_up]
        self._wanted = []
        try:
            if not await self._carry_out(group):
                for wanted in group:
                    await self._carry_out([wanted])
        finally:
            # Whoever carries it out may be cancelled; the others still want theirs done.
            self._wanted[:0] = [wanted for wanted in group if not wanted.is_done]

    async def _carry_out(self, group: Sequence[_Wanted]) -> bool:
        """Carry out `group` as one transaction. False: nothing of it was done, since one of several failed."""
        try:
            results = await self._offload(functools.partial(self._transact, *(wanted.work for wanted in group)))
        except Exception as error:
            if len(group) > 1:
                return False
            results, group[0].error = [None], error
        for wanted, result in zip(group, results, strict=True):
            wanted.result, wanted.is_done = result, True
        return True

    def _look(self, work: Callable[[], Result]) -> Result:
        with _state_errors(self._path):
            return work()

    def _transact(self, *works: Callable[[], Any]) -> list[Any]:
        with _state_errors(self._path), self._connection:
            # The right to write is checked in the same transaction, which nobody can come in between.
            self._connection.execute("BEGIN IMMEDIATE")
            self._check_fence()
            return [work() for work in works]

    # ------------------------------------------------------------------------------- lease and trust

    async def take_lease(self, owner: str, *, has_lock: bool, now: float, ends_at: float) -> float | None:
        async with self._turn:
            return await self._offload(lambda: self._take_lease(owner, has_lock, now, ends_at))

    def _take_lease(self, owner: str, has_lock: bool, now: float, ends_at: float) -> float | None:
        with _state_errors(self._path), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            fence, holder, its_end, is_held = self._lease(has_lock, now)
            if is_held:
                assert its_end is not None
                until = datetime.fromtimestamp(its_end, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
                raise SourceLocked(
                    f"Another run holds the source {self._meta('source')!r}: {holder}. This one did nothing. If that"
                    f" run is dead, its lease ends by itself at {until}."
                )
            self._connection.execute(
                "UPDATE lease SET fence = fence + 1, owner = ?, machine = ?, has_lock = ?, ends_at = ?",
                (owner, _machine(), has_lock, ends_at),
            )
        if self._path is not None:
            with _state_errors(self._path):
                sync_folder(self._path.parent)  # the log is made anew by the first transaction of each run
        self._fence = fence + 1
        return None if its_end is None else float(its_end)

    def _lease(self, has_lock: bool, now: float) -> tuple[int, str | None, float | None, bool]:
        """The fence, the holder for people, the end, and whether somebody who may live has the lease."""
        fence, holder, machine, had_lock, ends_at = self._connection.execute(
            "SELECT fence, owner, machine, has_lock, ends_at FROM lease"
        ).fetchone()
        is_dead = has_lock and had_lock and machine == _machine()
        return fence, holder, ends_at, holder is not None and now < ends_at and not is_dead

    async def is_leased(self, *, has_lock: bool, now: float) -> bool:
        return await self._read(lambda: self._lease(has_lock, now)[-1])

    async def lease_holder(self) -> tuple[str, float] | None:
        return await self._read(
            lambda: self._connection.execute("SELECT owner, ends_at FROM lease WHERE owner IS NOT NULL").fetchone()
        )

    async def renew_lease(self, ends_at: float) -> None:
        await self._write(lambda: self._connection.execute("UPDATE lease SET ends_at = ?", (ends_at,)))

    async def release_lease(self, now: float) -> None:
        query = "UPDATE lease SET owner = NULL, ends_at = ?"
        await self._write(lambda: self._connection.execute(query, (now,)))

    async def is_copy(self) -> bool:
        return await self._read(self._is_copy)

    def _is_copy(self) -> bool:
        marked_at = self._meta("marked_at")
        return self._mark is not None and marked_at is not None and self._mark.seen() != marked_at

    async def put_mark(self) -> None:
        if self._mark is None:
            return
        # Whoever is cut off in between leaves what counts as a copy: one that was taken at that moment looks the same.
        await self._write(self._set_meta, "marked_at", "")
        marked_at = await self._read(self._mark.put, str(self._fence))
        await self._write(self._set_meta, "marked_at", marked_at)

    def _check_fence(self) -> None:
        (fence,) = self._connection.execute("SELECT fence FROM lease").fetchone()
        if fence != self._fence:
            raise LeaseLost(
                "Another run has taken the source over, since this one was stopped for longer than its lease. This one"
                " has written nothing since; the other one carries on with all that was in the outbox."
            )

    # ------------------------------------------------------------------------------------------- reading

    async def counts(self) -> StateCounts:
        return await self._read(self._counts)

    def _counts(self) -> StateCounts:
        def number(query: str) -> int:
            return int(self._connection.execute(query).fetchone()[0])

        documents, rows = self._connection.execute(
            "SELECT count(*) FILTER (WHERE has_parts = 0 AND skipped IS NULL), count(*) FROM document"
        ).fetchone()
        letters = self._connection.execute(
            "SELECT code, count(*) FROM dead_letter WHERE dropped_at IS NULL GROUP BY code ORDER BY 2 DESC, 1"
        )
        return StateCounts(
            documents=documents,
            rows=rows,
            records=number("SELECT count(*) FROM record"),
            unattributed=number("SELECT count(*) FROM record WHERE document = '' AND obsolete = 0"),
            batches=number("SELECT count(*) FROM outbox"),
            pending=number("SELECT coalesce(sum(json_array_length(entries)), 0) FROM outbox"),
            letters=dict(letters.fetchall()),
            dropped=number("SELECT count(*) FROM dead_letter WHERE dropped_at IS NOT NULL"),
        )

    async def last_row(self) -> int:
        return await self._read(
            lambda: int(
                self._connection.execute(
                    "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'document'"
                ).fetchone()[0]
            )
        )

    async def documents(self, ids: Collection[DocumentId]) -> Mapping[DocumentId, KnownDocument]:
        return await self._read(self._documents, list(ids))

    def _documents(self, ids: list[DocumentId]) -> dict[DocumentId, KnownDocument]:
        found = {}
        for some in _portions(ids):
            marks = ",".join("?" * len(some))
            query = f"SELECT {_DOCUMENT_COLUMNS} FROM document d WHERE d.id IN ({marks})"  # noqa: S608 - only marks
            for row in self._connection.execute(query, some):
                document = _known_document(row)
                found[document.state.id] = document
        return found

    async def unchanged(
        self, fingerprints: Mapping[DocumentId, Fingerprint | None], recipe: str, renewal: Renewal = NOTHING_EXPIRES
    ) -> Sequence[tuple[DocumentId, int, int]]:
        return await self._read(self._unchanged, list(fingerprints.items()), recipe, renewal) if fingerprints else []

    def _unchanged(
        self, fingerprints: list[tuple[DocumentId, Fingerprint | None]], recipe: str, renewal: Renewal
    ) -> list[tuple[DocumentId, int, int]]:
        found = []
        may_renew = self._may_renew(renewal)
        not_to_renew = (
            f"AND NOT EXISTS (SELECT 1 FROM record r WHERE r.document = d.id AND {_IS_TO_RENEW})" if may_renew else ""  # noqa: S608
        )
        for some in _portions(fingerprints):
            marks = ",".join(["(?,?)"] * len(some))
            # A cross join is done in the order in which it is written: what is listed is looked up, not the reverse.
            query = f"""
                WITH listed (id, fingerprint) AS (VALUES {marks})
                SELECT d.id, d.row, {_RECORD_COUNT} FROM listed CROSS JOIN document d ON d.id = listed.id
                WHERE d.fingerprint = listed.fingerprint AND d.recipe = ? AND d.has_parts = 0 AND d.skipped IS NULL
                  AND NOT EXISTS (SELECT 1 FROM dead_letter l WHERE l.document = d.id)
                  {not_to_renew}
            """  # noqa: S608 - only marks
            parameters = [*chain.from_iterable(some), recipe, *(renewal if may_renew else ())]
            found += self._connection.execute(query, parameters).fetchall()
        return found

    def _may_renew(self, renewal: Renewal) -> bool:
        """Whether there can be anything to renew: not where no record has an expiry, and none shall have one."""
        query = "SELECT 1 FROM record WHERE renew_at IS NOT NULL LIMIT 1"
        return renewal.expiry_days is not None or self._connection.execute(query).fetchone() is not None

    async def to_renew(self, documents: Collection[DocumentId], renewal: Renewal) -> Collection[DocumentId]:
        return await self._read(self._to_renew, list(documents), renewal)

    def _to_renew(self, documents: list[DocumentId], renewal: Renewal) -> set[DocumentId]:
        found: set[DocumentId] = set()
        for some in _portions(documents if self._may_renew(renewal) else []):
            marks = ",".join("?" * len(some))
            of_itself = f"SELECT r.document FROM record r WHERE r.document IN ({marks}) AND {_IS_TO_RENEW}"  # noqa: S608
            of_parts = f"""
                SELECT d.origin FROM document d JOIN record r ON r.document = d.id
                WHERE d.origin IN ({marks}) AND d.origin <> d.id AND {_IS_TO_RENEW}
            """  # noqa: S608 - only marks
            rows = self._connection.execute(f"{of_itself} UNION {of_parts}", [*some, *renewal, *some, *renewal])
            found.update(document for (document,) in rows)
        return found

    async def renew_later(self, documents: Collection[DocumentId], renewal: Renewal) -> None:
        await self._write(self._renew_later, list(documents), renewal)

    def _renew_later(self, documents: list[DocumentId], renewal: Renewal) -> None:
        query = (
            "SELECT document, key, renew_at, lapses_at FROM record WHERE renew_at IS NOT NULL AND document IN"
            " (SELECT ? UNION SELECT id FROM document WHERE origin = ? AND origin <> id)"
        )
        for document in documents:
            found = self._connection.execute(query, (document, document)).fetchall()
            later = [
                (at, of, key) for of, key, renew_at, lapses_at in found if (at := renewal.later(lapses_at)) > renew_at
            ]
            self._connection.executemany("UPDATE record SET renew_at = ? WHERE document = ? AND key = ?", later)

    async def next_to_renew(
        self, after: RenewalPlace, renewal: Renewal, *, limit: int
    ) -> Sequence[tuple[RenewalPlace, DocumentId]]:
        query = f"""
            SELECT r.renew_at, r.document, r.key, d.origin FROM record r JOIN document d ON d.id = r.document
            WHERE r.renew_at IS NOT NULL AND (r.renew_at, r.document, r.key) > (?, ?, ?) AND r.renew_at <= ?
              AND {_IS_DUE}
            ORDER BY r.renew_at, r.document, r.key LIMIT ?
        """  # noqa: S608 - constants
        given = (*after, renewal.now, renewal.now, limit)
        rows = await self._read(lambda: self._connection.execute(query, given).fetchall())
        return [((renew_at, document, key), origin) for renew_at, document, key, origin in rows]

    async def parts(self, origin: DocumentId) -> Sequence[KnownDocument]:
        return await self._read(
            self._select_documents, "WHERE d.origin = ? AND d.origin <> d.id ORDER BY d.row", (origin,)
        )

    async def traced(self, traces: Collection[str]) -> Mapping[str, Sequence[tuple[DocumentId, int]]]:
        return await self._read(self._traced, list(traces))

    def _traced(self, traces: list[str]) -> dict[str, list[tuple[DocumentId, int]]]:
        found: dict[str, list[tuple[DocumentId, int]]] = {}
        for some in _portions([(trace, trace + LAST_CHARACTER) for trace in traces]):
            marks = ",".join(["(?,?)"] * len(some))
            query = f"""
                WITH wanted (trace, behind) AS (VALUES {marks})
                SELECT trace, d.id, d.row FROM wanted
                CROSS JOIN document d ON d.fingerprint >= trace AND d.fingerprint < behind
                WHERE d.fingerprint IS NOT NULL AND d.origin = d.id AND d.skipped IS NULL ORDER BY d.row
            """  # noqa: S608 - only marks
            for trace, document, row in self._connection.execute(query, [*chain.from_iterable(some)]):
                found.setdefault(trace, []).append((document, row))
        return found

    async def rows_after(self, row: int, *, up_to: int, limit: int) -> Sequence[int]:
        query = "SELECT row FROM document WHERE row > ? AND row <= ? ORDER BY row LIMIT ?"
        return await self._read(
            lambda: [found for (found,) in self._connection.execute(query, (row, up_to, limit)).fetchall()]
        )

    async def documents_at(self, rows: Sequence[int]) -> Sequence[KnownDocument]:
        marks = ",".join("?" * len(rows))
        return await self._read(self._select_documents, f"WHERE d.row IN ({marks}) ORDER BY d.row", rows)

    def _select_documents(self, condition: str, parameters: Sequence[object]) -> list[KnownDocument]:
        query = f"SELECT {_DOCUMENT_COLUMNS} FROM document d {condition}"  # noqa: S608 - constants of this file
        return [_known_document(row) for row in self._connection.execute(query, parameters)]

    async def known(
        self, documents: Collection[DocumentId], *, records_of: Collection[DocumentId]
    ) -> tuple[Mapping[DocumentId, KnownDocument], Mapping[DocumentId, Sequence[KnownRecord]]]:
        return await self._read(lambda: (self._documents(list(documents)), self._records(list(records_of))))

    def _records(self, documents: list[DocumentId]) -> dict[DocumentId, list[KnownRecord]]:
        found: dict[DocumentId, list[KnownRecord]] = {document: [] for document in documents}
        for some in _portions(documents):
            marks = ",".join("?" * len(some))
            query = f"""
                SELECT {_RECORD_COLUMNS.replace("digest", "coalesce(edited_from, digest)")} FROM record
                WHERE document IN ({marks}) ORDER BY document, position
            """  # noqa: S608 - constants, and only marks
            for row in self._connection.execute(query, some):
                record = _known_record(row)
                found[record.document].append(record)
        return found

    async def records_after(self, place: RecordPlace, *, limit: int, settled: bool = False) -> Sequence[KnownRecord]:
        settled_only = "AND key NOT IN (SELECT key FROM outbox_key)" if settled else ""
        condition = f"WHERE (document, key) > (?, ?) {settled_only} ORDER BY document, key LIMIT ?"
        return await self._read(self._select_records, condition, (*place, limit))

    async def obsolete(self, after: RecordPlace, *, limit: int, despite: Collection[str] = ()) -> Sequence[KnownRecord]:
        condition = """
            WHERE obsolete = 1 AND (document, key) > (?, ?)
              AND document NOT IN (
                SELECT document FROM dead_letter
                WHERE dropped_at IS NULL AND id NOT IN (SELECT value FROM json_each(?))
              )
              AND key NOT IN (SELECT key FROM outbox_key)
            ORDER BY document, key LIMIT ?
        """
        return await self._read(self._select_records, condition, (*after, orjson.dumps(list(despite)).decode(), limit))

    def _select_records(self, condition: str, parameters: Sequence[object]) -> list[KnownRecord]:
        query = f"SELECT {_RECORD_COLUMNS} FROM record {condition}"  # noqa: S608 - constants of this file
        return [_known_record(row) for row in self._connection.execute(query, parameters)]

    async def emptied(self) -> int:
        query = """
            SELECT count(DISTINCT document) FROM record
            WHERE obsolete = 1
              AND document NOT IN (SELECT document FROM dead_letter WHERE dropped_at IS NULL)
              AND EXISTS (SELECT 1 FROM document d WHERE d.id = record.document)
              AND NOT EXISTS (SELECT 1 FROM record other WHERE other.document = record.document AND other.obsolete = 0)
        """
        return await self._read(lambda: int(self._connection.execute(query).fetchone()[0]))

    async def letters(
        self,
        documents: Collection[DocumentId] | None = None,
        *,
        with_dropped: bool = False,
        with_records: bool = True,
    ) -> Sequence[DeadLetter]:
        among = None if documents is None else list(documents)
        return await self._read(self._letters, among, with_dropped=with_dropped, with_records=with_records)

    def _letters(
        self, documents: list[DocumentId] | None, *, with_dropped: bool, with_records: bool
    ) -> list[DeadLetter]:
        letter = "letter" if with_records else "json_set(CAST(letter AS TEXT), '$.record', NULL)"
        kept = "" if with_dropped else "AND dropped_at IS NULL"
        query = f"SELECT first_failed_at, id, {letter} FROM dead_letter WHERE true {kept}"  # noqa: S608 - constants
        if documents is None:
            rows = self._connection.execute(query).fetchall()
        else:
            rows = []
            for some in _portions(documents):
                marks = ",".join("?" * len(some))
                rows += self._connection.execute(f"{query} AND document IN ({marks})", some).fetchall()
        return [letter_json.from_json(letter) for _, _, letter in sorted(rows)]

    async def checkpoint(self) -> Checkpoint | None:
        value = await self._read(self._meta, "checkpoint")
        return Checkpoint(value) if value is not None else None

    def _meta(self, name: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    async def unheard_at(self) -> float:
        written = await self._read(self._meta, "unheard_at")
        return float(written or "-inf")

    async def outbox(self) -> Sequence[ClientToken]:
        query = "SELECT token FROM outbox ORDER BY number"
        return await self._read(lambda: [ClientToken(token) for (token,) in self._connection.execute(query)])

    async def batch(self, token: ClientToken) -> Batch:
        return await self._read(self._batch, token)

    def _batch(self, token: ClientToken) -> Batch:
        query = "SELECT operation, entries, body, saved_at FROM outbox WHERE token = ?"
        operation, entries, body, saved_at = self._connection.execute(query, (token,)).fetchone()
        return Batch(token, Operation(operation), _read_entries(entries), body, saved_at)

    # ------------------------------------------------------------------------------------------- writing

    async def save(
        self,
        batches: Sequence[Batch],
        plans: Sequence[DocumentPlan],
        checkpoint: Checkpoint | None = None,
        *,
        begun: Sequence[DocumentState] = (),
    ) -> None:
        await self._write(self._save, batches, plans, checkpoint, begun)

    def _save(
        self,
        batches: Sequence[Batch],
        plans: Sequence[DocumentPlan],
        checkpoint: Checkpoint | None,
        begun: Sequence[DocumentState],
    ) -> None:
        self._add_to_outbox(batches)
        self._record_documents({plan.state.id: plan for plan in plans if plan.state is not None})
        for plan in plans:
            self._add_letters(plan.letters)
        self._for_rows(
            f"INSERT OR IGNORE INTO document ({_STATE_COLUMNS}) {{rows}}",
            [_written_state(state._replace(fingerprint=None, recipe="", skipped=None)) for state in begun],
        )
        if checkpoint is not None:
            self._set_meta("checkpoint", checkpoint.value)

    def _add_to_outbox(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self._connection.execute(
                "INSERT INTO outbox (token, operation, entries, body, saved_at) VALUES (?, ?, ?, ?, ?)",
                (
                    batch.client_token,
                    batch.operation.value,
                    orjson.dumps([_written_entry(entry) for entry in batch.entries]).decode(),
                    batch.body,
                    batch.saved_at,
                ),
            )
            self._for_rows("INSERT INTO outbox_key (document, key) {rows}", list(_places_of(batch.entries)))

    def _record_documents(self, plans: Mapping[DocumentId, DocumentPlan]) -> None:
        self._for_rows(
            f"INSERT INTO document ({_STATE_COLUMNS}) {{rows}}"
            " ON CONFLICT (id) DO UPDATE SET origin = excluded.origin, fingerprint = excluded.fingerprint,"
            " recipe = excluded.recipe, has_parts = excluded.has_parts, skipped = excluded.skipped",
            [_written_state(plan.state) for plan in plans.values() if plan.state],
        )
        told = {document: plan.obsolete for document, plan in plans.items() if plan.obsolete is not None}
        self._for_rows(
            "UPDATE record SET obsolete = 0 WHERE obsolete = 1 AND document IN (SELECT * FROM ({rows}))",
            [(document,) for document in told],
        )
        self._for_rows(
            "UPDATE record SET obsolete = 1 WHERE (document, key) IN (SELECT * FROM ({rows}))",
            [(document, key) for document, keys in told.items() for key in keys],
        )
        for some in _portions(list(plans)):
            marks = ",".join("?" * len(some))
            query = f"SELECT document, id FROM dead_letter WHERE document IN ({marks})"  # noqa: S608 - only marks
            letters = self._connection.execute(query, some).fetchall()
            standing = {document: letter_json.standing_letters(plans[document]) for document, _ in letters}
            overtaken = [(letter_id,) for document, letter_id in letters if letter_id not in standing[document]]
            self._for_rows("DELETE FROM dead_letter WHERE id IN (SELECT * FROM ({rows}))", overtaken)

    def _add_letters(self, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            # A delete that failed leaves its record without a digest, so that the next failure has another id.
            is_delete = letter.operation is Operation.DELETE
            where, name = ("key = ?", letter.key) if is_delete else ("id = ?", letter.id)
            query = f"SELECT letter FROM dead_letter WHERE {where}"  # noqa: S608 - constants
            before = self._connection.execute(query, (name,)).fetchone()
            self._connection.execute(f"DELETE FROM dead_letter WHERE {where}", (name,))  # noqa: S608
            self._put_letter(letter if before is None else letter.again_after(letter_json.from_json(before[0])))

    def _put_letter(self, letter: DeadLetter) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO dead_letter (id, document, key, stage, code, first_failed_at, letter, dropped_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                letter.id,
                letter.document_id,
                letter.key,
                letter.stage,
                letter.code,
                letter.first_failed_at,
                letter_json.to_json(letter),
                letter.dropped_at,
            ),
        )

    def _for_rows(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Carry out `statement` for all of `rows` at once, which stand for its `{rows}`.

        Before each step of SQLite, other threads of Python have their turn: with a step for each row, a busy event
        loop lets a transaction wait a hundred times. Where they stand behind IN they are selected from: for a plain
        list of rows, SQLite uses no index.
        """
        for some in _portions(rows):
            row = f"({','.join('?' * len(some[0]))})"
            values = f"VALUES {','.join([row] * len(some))}"
            self._connection.execute(statement.format(rows=values), list(chain.from_iterable(some)))

    async def remove_letters(self, ids: Collection[str]) -> None:
        query = "DELETE FROM dead_letter WHERE id = ?"
        await self._write(lambda: self._connection.executemany(query, [(letter_id,) for letter_id in ids]))

    async def drop_letters(self, ids: Collection[str], now: float) -> None:
        await self._write(self._drop_letters, list(ids), now)

    def _drop_letters(self, ids: list[str], now: float) -> None:
        query = "SELECT letter FROM dead_letter WHERE id = ? AND dropped_at IS NULL"
        unread = (
            "SELECT 1 FROM dead_letter WHERE stage = 'parse'"
            " AND document IN (SELECT ? UNION SELECT origin FROM document WHERE id = ?)"
        )
        for letter_id in ids:
            for (written,) in self._connection.execute(query, (letter_id,)).fetchall():
                letter = letter_json.from_json(written)
                self._put_letter(replace(letter, dropped_at=now))
                document = letter.document_id
                # By its fingerprint it is known which version of a document could not be read.
                if not self._connection.execute(unread, (document, document)).fetchone():
                    self._read_again([document])

    async def settle(self, settlement: Settlement) -> None:
        await self._write(self._settle, settlement)

    def _settle(self, settlement: Settlement) -> None:
        token = settlement.batch.client_token
        dropped = self._connection.execute("DELETE FROM outbox WHERE token = ?", (token,))
        assert dropped.rowcount == 1, "a batch is settled once"
        self._for_rows(
            "DELETE FROM outbox_key WHERE (document, key) IN (SELECT * FROM ({rows}))",
            list(_places_of(settlement.batch.entries)),
        )
        stored = [entry for entry, _ in settlement.stored]
        gone = [(entry.document, entry.replaces) for entry in (*stored, *settlement.lost) if entry.replaces]
        gone += [(entry.document, entry.key) for entry in settlement.deleted]
        self._for_rows("DELETE FROM record WHERE (document, key) IN (SELECT * FROM ({rows}))", _also_of_none(gone))
        self._for_rows(
            f"INSERT OR REPLACE INTO record ({_RECORD_COLUMNS}, renew_at) {{rows}}",
            [
                (
                    entry.key,
                    entry.document,
                    entry.namespace,
                    entry.digest,
                    entry.order,
                    memory_record_id,
                    life.expiry_days,
                    life.lapses_at,
                    entry.edited_from,
                    life.renew_at,
                )
                for entry, memory_record_id in settlement.stored
                for life in (life_of(entry, settlement.batch.saved_at),)
            ],
        )
        self._for_rows(
            "DELETE FROM dead_letter WHERE key IN (SELECT * FROM ({rows}))",
            [(entry.key,) for entry in (*stored, *settlement.deleted)],
        )
        # An update or delete that failed for good may have been carried out by an earlier attempt whose answer was
        # lost: whatever the document says next, the record is written then.
        given_up = {letter.key for letter in settlement.letters}
        doubted = [
            (entry.document, entry.replaces or entry.key) for entry in settlement.batch.entries if entry.key in given_up
        ]
        self._for_rows(
            "UPDATE record SET digest = '', edited_from = NULL WHERE (document, key) IN (SELECT * FROM ({rows}))",
            _also_of_none(doubted),
        )
        self._add_letters(settlement.letters)
        self._add_to_outbox(settlement.follow_ups)
        if settlement.unheard_at > float("-inf"):
            self._set_meta("unheard_at", str(settlement.unheard_at))

    async def remove(self, documents: Collection[DocumentId]) -> None:
        await self._write(self._remove, [(document,) for document in documents])

    def _remove(self, documents: list[tuple[DocumentId]]) -> None:
        self._connection.executemany("UPDATE record SET obsolete = 1 WHERE document = ?", documents)
        self._connection.executemany("DELETE FROM dead_letter WHERE document = ?", documents)
        self._connection.executemany("DELETE FROM document WHERE id = ?", documents)

    async def rename(self, names: Mapping[DocumentId, DocumentId]) -> None:
        await self._write(self._rename, names)

    def _rename(self, names: Mapping[DocumentId, DocumentId]) -> None:
        for before, now in names.items():
            found = "SELECT id FROM document WHERE id = ? OR (origin = ? AND origin <> id)"
            moved = [
                (DocumentId(f"{now}{document[len(before) :]}"), document)
                for (document,) in self._connection.execute(found, (before, before)).fetchall()
            ]
            if self._documents([new for new, _ in moved]):
                continue  # a file that is called like a line of another one
            self._connection.executemany("UPDATE record SET document = ? WHERE document = ?", moved)
            self._connection.executemany("DELETE FROM dead_letter WHERE document = ?", [(old,) for _, old in moved])
            # Without a recipe it is read; by its fingerprint it can be renamed once more, or back, before that.
            self._connection.executemany(
                "UPDATE document SET id = ?, origin = ?, recipe = '' WHERE id = ?",
                [(new, now, old) for new, old in moved],
            )

    async def records_at(self, places: Collection[RecordPlace]) -> Mapping[RecordKey, KnownRecord]:
        return await self._read(self._records_at, list(places))

    def _records_at(self, places: list[RecordPlace]) -> dict[RecordKey, KnownRecord]:
        found = (self._select_records("WHERE document = ? AND key = ?", place) for place in places)
        return {record.key: record for records in found for record in records}

    async def records_by_key(self, keys: Collection[RecordKey]) -> Mapping[RecordKey, KnownRecord]:
        return await self._read(self._records_by_key, list(keys))

    def _records_by_key(self, keys: list[RecordKey]) -> dict[RecordKey, KnownRecord]:
        found = {}
        for some in _portions(keys):
            marks = ",".join("?" * len(some))
            for record in self._select_records(f"WHERE key IN ({marks})", some):
                found[record.key] = record
        return found

    async def forget(self, missing: Collection[KnownRecord], changed: Collection[KnownRecord]) -> None:
        await self._write(self._forget, [record.place for record in missing], [record.place for record in changed])

    def _forget(self, missing: list[RecordPlace], changed: list[RecordPlace]) -> None:
        self._derive_anew([document for document, _ in missing + changed])
        self._connection.executemany("DELETE FROM record WHERE document = ? AND key = ?", missing)
        self._connection.executemany(
            "UPDATE record SET digest = '', edited_from = NULL WHERE document = ? AND key = ?", changed
        )

    async def adopt(
        self, found: Sequence[FoundRecord], surplus: Sequence[FoundRecord], unattributed: Sequence[FoundRecord] = ()
    ) -> None:
        await self._write(self._adopt, found, surplus, unattributed)

    def _adopt(
        self, found: Sequence[FoundRecord], surplus: Sequence[FoundRecord], unattributed: Sequence[FoundRecord]
    ) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO document (id, origin, fingerprint, recipe, has_parts, skipped)"
            " VALUES (?, ?, NULL, '', 0, NULL)",
            [(record.document, record.origin) for record in found],
        )
        self._derive_anew([document for record in found for document in (record.document, record.origin)])
        # A second copy goes under a key of its own, which no document will ever ask for.
        copies = [replace(record, key=RecordKey(digest_of("copy", record.memory_record_id))) for record in surplus]
        # What was of nobody may say by now whose it is.
        self._connection.executemany(
            "DELETE FROM record WHERE document = '' AND key = ?", [(record.key,) for record in found]
        )
        # Without a digest, whoever claims it writes it anew: then it says whose it is.
        unclaimed = [replace(record, document=DocumentId(""), digest="") for record in unattributed]
        # A listing does not show when a record lapses. Where others do, it may: then a run says anew what it shall do.
        expiry = (UNKNOWN_EXPIRY, 0.0) if self._may_renew(NOTHING_EXPIRES) else (None, None)
        self._connection.executemany(
            "INSERT OR REPLACE INTO record"
            " (key, document, namespace, digest, position, memory_record_id, obsolete, expiry_days, renew_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    record.key,
                    record.document,
                    record.namespace,
                    record.digest,
                    record.order,
                    record.memory_record_id,
                    is_obsolete,
                    *expiry,
                )
                for records, is_obsolete in ((found, False), (copies, True), (unclaimed, False))
                for record in records
            ],
        )

    def _derive_anew(self, documents: Iterable[DocumentId]) -> None:
        """Let the next run read `documents`, whatever their fingerprint says and whatever was listed before."""
        asked_for = list(dict.fromkeys(documents))
        self._read_again(asked_for)
        if asked_for:
            self._connection.execute("DELETE FROM meta WHERE name = 'checkpoint'")

    def _read_again(self, documents: Iterable[DocumentId]) -> None:
        """Let the next run that is shown `documents` read them, whatever their fingerprint says."""
        self._connection.executemany(
            "UPDATE document SET fingerprint = NULL WHERE id = ? OR id = (SELECT origin FROM document WHERE id = ?)",
            [(document, document) for document in documents],
        )

    async def discard_outbox(self) -> None:
        await self._write(self._discard_outbox)

    def _discard_outbox(self) -> None:
        documents = self._connection.execute("SELECT DISTINCT document FROM outbox_key").fetchall()
        self._derive_anew([DocumentId(document) for (document,) in documents])
        # What was sent of it may have told a record to lapse sooner.
        self._connection.execute(
            "UPDATE record SET expiry_days = ?, renew_at = 0"
            " WHERE renew_at IS NOT NULL AND (document, key) IN outbox_key",
            (UNKNOWN_EXPIRY,),
        )
        self._connection.execute("DELETE FROM outbox_key")
        self._connection.execute("DELETE FROM outbox")
        self._connection.execute("DELETE FROM meta WHERE name = 'acquainted_at'")

    @asynccontextmanager
    async def compared(self) -> AsyncIterator[SqliteComparison]:
        comparison = SqliteComparison(self._connection, self._read)
        await comparison.begin()
        try:
            yield comparison
        finally:
            with anyio.CancelScope(shield=True):
                await comparison.end()

    async def acquainted_at(self) -> float | None:
        value = await self._read(self._meta, "acquainted_at")
        return None if value is None else float(value)

    async def note_acquainted(self, at: float = 0.0) -> None:
        await self._write(self._set_meta, "acquainted_at", repr(at))

    def _set_meta(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    async def plan_use(self, plan_id: str) -> PlanUse | None:
        uses = await self._read(self._plan_uses)
        return PlanUse(uses[plan_id]) if plan_id in uses else None

    async def note_plan_use(self, plan_id: str, use: PlanUse) -> None:
        await self._write(self._note_plan_use, plan_id, use.ended_at)

    def _plan_uses(self) -> dict[str, float | None]:
        return dict(json.loads(self._meta("plans") or "[]"))

    def _note_plan_use(self, plan_id: str, ended_at: float | None) -> None:
        uses = self._plan_uses()
        uses.pop(plan_id, None)
        self._set_meta("plans", json.dumps([*uses.items(), (plan_id, ended_at)][-PLANS_KEPT:]))

    async def begin_run(self, run_id: str, verb: str, now: float) -> None:
        await self._write(self._begin_run, run_id, verb, now)

    def _begin_run(self, run_id: str, verb: str, now: float) -> None:
        self._connection.execute("INSERT INTO run (id, verb, started_at) VALUES (?, ?, ?)", (run_id, verb, now))
        self._connection.execute("DELETE FROM run WHERE number <= (SELECT max(number) FROM run) - ?", (RUNS_KEPT,))

    async def end_run(self, run_id: str, report: str, now: float) -> None:
        query = "UPDATE run SET report = ?, ended_at = ? WHERE id = ?"
        await self._write(lambda: self._connection.execute(query, (report, now, run_id)))

    async def drop_run(self, run_id: str) -> None:
        await self._write(lambda: self._connection.execute("DELETE FROM run WHERE id = ?", (run_id,)))

    async def last_run(self, *, before: str = "") -> LastRun | None:
        query = "SELECT id, ended_at, report FROM run WHERE id <> ? ORDER BY number DESC LIMIT 1"
        row = await self._read(lambda: self._connection.execute(query, (before,)).fetchone())
        return None if row is None else LastRun(*row)

    async def runs(self, *, limit: int) -> Sequence[PastRun]:
        query = "SELECT id, verb, started_at, ended_at, report FROM run ORDER BY number DESC LIMIT ?"
        rows = await self._read(lambda: self._connection.execute(query, (limit,)).fetchall())
        return [PastRun(*row) for row in rows]

    async def last_success(self) -> float | None:
        query = "SELECT max(ended_at) FROM run WHERE json_extract(report, '$.status') = 'in_sync'"
        return await self._read(lambda: self._connection.execute(query).fetchone()[0])


@asynccontextmanager
async def open_state(
    path: Path | None,
    *,
    source: str,
    destination: str,
    offload: Offload,
    is_read_only: bool = False,
    mark: Mark | None = None,
) -> AsyncIterator[SqliteStateStore]:
    """Open the state of `source`, made on first use; None keeps it in memory.

    `destination` names the memory that the ledger describes: another memory needs another ledger. A read-only
    state that does not exist yet is an empty one in memory. `mark` is a file beside the state unless given.

    Raises:
        StateError: it cannot be read or written.
        ConfigurationError: it belongs to another source or memory, or to a newer version of memsync.
    """
    connection = await offload(lambda: _open(path, source, destination, is_read_only=is_read_only))
    try:
        if mark is None and path is not None:
            mark = FileMark(path.with_name(MARK_FILE))
        yield SqliteStateStore(connection, path, offload, mark)
    finally:
        connection.close()


def stored_schema(path: Path) -> int | None:
    """The version of the schema of the state at `path`, None if there is no state yet. Changes nothing.

    Raises:
        StateError: it cannot be read.
        ConfigurationError: it is something else, or of a newer version of memsync.
    """
    with _state_errors(path):
        if not path.exists():
            return None
        with closing(_connect(path, is_read_only=True)) as looking:
            return _schema_of(looking, path)


def _open(path: Path | None, source: str, destination: str, *, is_read_only: bool) -> sqlite3.Connection:
    with _state_errors(path):
        if is_read_only and (path is None or not path.exists()):
            path, is_read_only = None, False
        # A journal means that the very first open was cut off: only who may write can roll it back.
        has_journal = path is not None and path.with_name(f"{path.name}-journal").exists()
        if path is not None and not is_read_only and _wal_of(path).exists() and not has_journal:
            # SQLite would move the WAL into the file when a connection that may write is closed, even one that only
            # looked: a newer version's state must not be touched like that.
            with closing(_connect(path, is_read_only=True)) as looking:
                _schema_of(looking, path)
        connection = _connect(path, is_read_only=is_read_only)
        try:
            found = _schema_of(connection, path)
            if is_read_only and found != SCHEMA_VERSION:
                connection = _in_memory(connection, found)
                is_read_only = False
            elif not is_read_only:
                _prepare(connection, path, found)
            _check_identity(connection, path, source, destination, is_read_only=is_read_only)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect(path: Path | None, *, is_read_only: bool) -> sqlite3.Connection:
    if path is None:
        return sqlite3.connect(":memory:", check_same_thread=False)
    if is_read_only:
        # To read a WAL database, SQLite makes its side files, and leaves them there. Without them no run has the state
        # open, and it is read as a file that nobody changes: a run that begins meanwhile writes beside it first.
        access = "mode=ro" if _wal_of(path).exists() else "mode=ro&immutable=1"
        return sqlite3.connect(f"{path.absolute().as_uri()}?{access}", uri=True, check_same_thread=False)
    make_folder(path.parent)
    if is_open_to_all(path.parent):
        raise StateError(
            f"Every user of this machine may replace the files in {path.parent}, where the state is. Nothing was sent."
            f" `chmod o-w {shlex.quote(str(path.parent))}` closes it."
        )
    # Not through a link: whoever put it here would have our documents, or ruin a file of ours.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    return sqlite3.connect(path, check_same_thread=False, timeout=10)


def _wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _schema_of(connection: sqlite3.Connection, path: Path | None) -> int:
    """The version of the schema, 0 for a new file. Refuses what is no state before a byte of it is written."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    found = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone() if "meta" in tables else None
    if found is None:
        raise ConfigurationError(
            f"{path} is a database, but not a state of memsync. It was not touched. Choose another state.path."
        )
    if int(found[0]) > SCHEMA_VERSION:
        raise ConfigurationError(
            f"state {path} was written by a newer memsync (schema {found[0]}, this one knows {SCHEMA_VERSION})."
            " It was not touched. Use that version, or another state.path."
        )
    return int(found[0])


def _prepare(connection: sqlite3.Connection, path: Path | None, found: int) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    if not found:
        _create(connection)
    elif found < SCHEMA_VERSION:
        assert path is not None
        back_up(connection, path, found)
        migrate(connection, found, SCHEMA_VERSION)


def _create(connection: sqlite3.Connection) -> None:
    schema = importlib.resources.files("pipeline.state").joinpath("schema.sql").read_text()
    connection.executescript(
        f"BEGIN; {schema} INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}'); COMMIT;"  # noqa: S608 - ours
    )


def _in_memory(connection: sqlite3.Connection, found: int) -> sqlite3.Connection:
    """A copy in memory, of the newest schema: for looking at an older state, or one that was never finished."""
    copy = _connect(None, is_read_only=False)
    connection.backup(copy)
    connection.close()
    if found:
        migrate(copy, found, SCHEMA_VERSION)
    else:
        _create(copy)
    return copy


def _check_identity(
    connection: sqlite3.Connection, path: Path | None, source: str, destination: str, *, is_read_only: bool
) -> None:
    """Refuse a ledger that speaks of something else: trusting it would lose or strand records without a word.

    One that holds no record yet strands none: a mistyped memory can be corrected.
    """
    meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    has_records = connection.execute("SELECT 1 FROM record LIMIT 1").fetchone() is not None
    for name, ours in (("source", source), ("destination", destination)):
        theirs = meta.get(name)
        if theirs == ours:
            continue
        if theirs is not None and has_records:
            raise ConfigurationError(
                f"state {path} belongs to the {name} {theirs!r}, the configuration names {ours!r}. Nothing was sent."
                f" Give the new {name} a state of its own (another `name` or `state.path`), or move this state away."
            )
        if not is_read_only:
            with connection:
                connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, ours))


@functools.cache
def _machine() -> str:
    """What tells this machine's operating system, since it was started, from any other: its locks are its own."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


@contextmanager
def _state_errors(path: Path | None) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise SourceLocked(
                f"Another run is writing to the state in {path or 'memory'} and does not go on: it was stopped, or its"
                " disk hangs. This one did nothing more. Let that run go on, or end it."
            ) from error
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StateError(
                f"The state in {path or 'memory'} is ruined: {error}. Nothing more was sent. Check the disk; bring the"
                " state back from a backup, or move it away, and `memsync recover` rebuilds it from the memory."
            ) from error
        raise StateError(
            f"The state in {path or 'memory'} could not be used: {error}. The run stopped; what was confirmed before"
            " is kept, the rest is sent again. Check the disk, its free space and the folder's permissions."
        ) from error


def _portions(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), ITEMS_PER_QUERY):
        yield items[start : start + ITEMS_PER_QUERY]


def _places_of(entries: Iterable[Entry]) -> Iterator[RecordPlace]:
    for entry in entries:
        yield entry.document, entry.key
        if entry.replaces not in (None, entry.key):
            yield entry.document, entry.replaces


def _also_of_none(places: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """`places`, and those of the same keys without a document: it may have claimed a record that was of none."""
    return [each for document, key in places for each in ((document, key), ("", key))]


def _written_state(state: DocumentState) -> tuple[object, ...]:
    return state.id, state.origin, state.fingerprint, state.recipe, state.has_parts, state.skipped


def _written_entry(entry: Entry) -> list[object]:
    return list(entry[:_SAVED_OF_ENTRY])


def _read_entries(written: str) -> tuple[Entry, ...]:
    return tuple(Entry(*values) for values in orjson.loads(written))


def _known_document(row: tuple[Any, ...]) -> KnownDocument:
    number, document, origin, fingerprint, recipe, has_parts, skipped, *counts = row
    state = DocumentState(document, origin, fingerprint, recipe, bool(has_parts), skipped)
    return KnownDocument(number, state, *counts)


def _known_record(row: Sequence[Any]) -> KnownRecord:
    key, document, namespace, digest, position, memory_record_id, expiry_days, lapses_at, edited_from = row
    return KnownRecord(
        RecordKey(key),
        DocumentId(document),
        namespace,
        digest,
        float(position),
        MemoryRecordId(memory_record_id),
        expiry_days,
        lapses_at,
        edited_from,
    )
