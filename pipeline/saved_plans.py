"""Saved plans: a file of all that a run would change in the memory, and the table that it is compared in.

The file is JSON Lines, sorted by document. It names documents and records; it holds no text. The table is a database
of SQLite's that is on the disk where it does not fit into some memory, and gone when it is closed: a plan may be of any
size.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.errors import ConfigurationError, StateError
from pipeline.files import sync_folder
from pipeline.model import (
    Change,
    Create,
    Delete,
    DocumentId,
    DocumentPlan,
    KnownRecord,
    LeftChanges,
    Operation,
    PlanDifferences,
    PlanHeader,
    Update,
)
from pipeline.protocols import Offload

SCHEMA = "memsync/saved-plan/1"
CHANGES_PER_LINE = 1000  # a document that has more takes several lines
LINE_BYTES_MAX = 1024 * 1024  # far above what such a line has, so that some other file is not read as one line

_TABLES = """
CREATE TABLE change (
    document   TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    operation  TEXT NOT NULL,
    key        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    replaces   TEXT NOT NULL,
    is_planned INTEGER NOT NULL DEFAULT 0,
    is_found   INTEGER NOT NULL DEFAULT 0,
    is_made    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (operation, key, digest, replaces)
) WITHOUT ROWID;
CREATE TABLE noted (document TEXT PRIMARY KEY) WITHOUT ROWID;
"""

_ROW_COLUMNS = "document, outcome, operation, key, digest, replaces"
Row = tuple[str, str, str, str, str, str]  # the first six columns
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PlanTotals:
    """How much a plan changes."""

    documents: int
    created: int
    updated: int
    deleted: int


@dataclass(frozen=True, slots=True)
class PlanSection:
    """Where the plan of one source is in a file, and what it says before its changes. `file` is the YAML file."""

    path: Path
    header: PlanHeader
    file: Path
    first_line: int
    offset: int


# ------------------------------------------------------------------------------------------------ the table


@dataclass(slots=True)
class ChangeTable:
    """Changes that a dry run found, those that a saved plan has, and which were made. Close it."""

    offload: Offload
    _connection: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        self._connection = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_TABLES}")

    def close(self) -> None:
        self._connection.close()

    async def note(self, plan: DocumentPlan, obsolete: Sequence[KnownRecord]) -> None:
        rows = [_row_of(change, plan.told_outcome) for change in (*plan.changes, *map(Delete, obsolete))]
        has_last_word = [plan.state.id] if plan.state and plan.obsolete is not None else []
        if rows or has_last_word:
            await self._do(lambda: self._note(rows, has_last_word))

    async def note_deletes(self, records: Sequence[KnownRecord], *, of_earlier_run: bool = False) -> None:
        rows = [_row_of(Delete(record), "removed") for record in records]
        await self._do(lambda: self._note(self._unsaid(rows) if of_earlier_run else rows))

    async def withhold_deletes(self) -> None:
        await self._do(
            lambda: self._connection.execute("UPDATE change SET is_found = 0 WHERE operation = ?", (Operation.DELETE,))
        )

    def _note(self, rows: Iterable[Row], has_last_word: Iterable[DocumentId] = ()) -> None:
        self._add("is_found", rows)
        self._connection.executemany("INSERT OR IGNORE INTO noted VALUES (?)", [(each,) for each in has_last_word])

    def _unsaid(self, rows: Sequence[Row]) -> list[Row]:
        """Those of `rows` about which no document has the last word."""
        query = "SELECT 1 FROM noted WHERE document = ?"
        return [row for row in rows if self._connection.execute(query, row[:1]).fetchone() is None]

    def load(self, rows: Iterable[Row]) -> None:
        """Take in what a saved plan says."""
        self._connection.execute("BEGIN")
        self._add("is_planned", rows)
        self._connection.execute("COMMIT")

    def _add(self, flag: str, rows: Iterable[Row]) -> None:
        statement = (
            f"INSERT INTO change ({_ROW_COLUMNS}, {flag}) VALUES (?, ?, ?, ?, ?, ?, 1)"  # noqa: S608 - constants
            f" ON CONFLICT DO UPDATE SET {flag} = 1"
        )
        self._connection.executemany(statement, rows)

    async def allow(self, changes: Sequence[Change]) -> Sequence[bool]:
        query = (
            "SELECT 1 FROM change WHERE operation = ? AND key = ? AND digest = ? AND replaces = ? AND is_planned = 1"
        )
        return await self._do(
            lambda: [self._connection.execute(query, _id_of(change)).fetchone() is not None for change in changes]
        )

    async def note_made(self, changes: Sequence[Change]) -> None:
        statement = "UPDATE change SET is_made = 1 WHERE operation = ? AND key = ? AND digest = ? AND replaces = ?"
        await self._do(lambda: self._connection.executemany(statement, [_id_of(change) for change in changes]))

    async def differences(self, examples_max: int) -> PlanDifferences:
        return await self._do(lambda: self._differences(examples_max))

    def _differences(self, examples_max: int) -> PlanDifferences:
        def documents(condition: str) -> int:
            query = f"SELECT count(DISTINCT document) FROM change WHERE {condition}"  # noqa: S608 - ours
            return int(self._connection.execute(query).fetchone()[0])

        unplanned = documents("is_found = 1 AND is_planned = 0")
        missing = documents(
            "is_found = 0 AND is_planned = 1 AND document NOT IN"
            " (SELECT document FROM change WHERE is_found = 1 AND is_planned = 0)"
        )
        # First those that the plan does not speak of: they also tell when it is carried on with.
        query = """
            SELECT document FROM change WHERE is_found <> is_planned
            GROUP BY document ORDER BY min(is_planned), document LIMIT ?
        """
        examples = [DocumentId(document) for (document,) in self._connection.execute(query, (examples_max,))]
        return PlanDifferences(unplanned, missing, examples)

    async def left(self, is_told: Callable[[DocumentId, Operation], bool], examples_max: int) -> LeftChanges:
        return await self._do(lambda: self._left(is_told, examples_max))

    def _left(self, is_told: Callable[[DocumentId, Operation], bool], examples_max: int) -> LeftChanges:
        query = """
            SELECT document, operation, count(*) FROM change WHERE is_found = 1 AND is_made = 0
            GROUP BY document, operation ORDER BY document, operation
        """
        total = 0
        examples: list[tuple[DocumentId, Operation, int]] = []
        for document, operation, count in self._connection.execute(query):
            if not is_told(DocumentId(document), Operation(operation)):
                total += count
                if len(examples) < examples_max:
                    examples.append((DocumentId(document), Operation(operation), count))
        return LeftChanges(total, examples)

    def totals(self) -> PlanTotals:
        """How much the dry run found."""
        query = "SELECT operation, count(*) FROM change WHERE is_found = 1 GROUP BY operation"
        counts = dict(self._connection.execute(query).fetchall())
        (documents,) = self._connection.execute(
            "SELECT count(DISTINCT document) FROM change WHERE is_found = 1"
        ).fetchone()
        return PlanTotals(
            documents, counts.get(Operation.CREATE, 0), counts.get(Operation.UPDATE, 0), counts.get(Operation.DELETE, 0)
        )

    def found(self) -> Iterator[Row]:
        """What the dry run found, by document."""
        yield from self._connection.execute(
            f"SELECT {_ROW_COLUMNS} FROM change WHERE is_found = 1 ORDER BY {_ROW_COLUMNS}"  # noqa: S608 - constants
        )

    async def _do(self, work: Callable[[], Result]) -> Result:
        def with_errors() -> Result:
            with _table_errors():
                return work()

        return await self.offload(with_errors)


@contextmanager
def _table_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(
            f"The changes of the plan could not be kept in a file for the time being: {error}. Nothing more was sent."
            " Check the free space of the folder for temporary files (TMPDIR)."
        ) from error


def _row_of(change: Change, outcome: str) -> Row:
    document = change.known.document if isinstance(change, Delete) else change.record.document
    return document, outcome, *_id_of(change)


def _id_of(change: Change) -> tuple[str, str, str, str]:
    """What makes a change the same: all but when it was planned, and the number that orders a document's chunks."""
    match change:
        case Create(record):
            return Operation.CREATE.value, record.key, record.digest, ""
        case Update(known, record):
            return Operation.UPDATE.value, record.key, record.digest, known.key
        case Delete(known):
            return Operation.DELETE.value, known.key, "", ""


# ------------------------------------------------------------------------------------------------- the file


def write_plans(path: Path, plans: Sequence[tuple[PlanHeader, ChangeTable, Path]]) -> None:
    """Write the plans of sources, each with its YAML file, to `path`, readable by its owner only; in one step.

    Raises:
        ConfigurationError: something else is there.
        StateError: it could not be written.
    """
    refuse_other_file(path)
    written = path.with_name(f"{path.name}.new")
    try:
        with suppress(FileNotFoundError):
            written.unlink()  # of a writing that was cut off
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for header, table, settings_file in plans:
                with _table_errors():
                    _write_section(file, header, table, settings_file)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            written.unlink()
        raise StateError(
            f"The plan could not be written to {path}: {error.strerror}. Check the disk, its free space and the"
            " folder's permissions."
        ) from error


def refuse_other_file(path: Path) -> None:
    """Let no plan take the place of anything but a plan.

    Raises:
        ConfigurationError: there is another file, or no folder to write one in.
    """
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent} to save the plan in")
    try:
        if path.exists():
            for _ in read_sections(path):
                break
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path} is there already, and no saved plan. It was not touched. Choose another name for the plan."
        ) from error


def _write_section(file: BinaryIO, header: PlanHeader, table: ChangeTable, settings_file: Path) -> None:
    hashed = hashlib.sha256()

    def write(line: dict[str, Any]) -> None:
        written = json.dumps(line).encode() + b"\n"  # in ASCII: an id may hold what UTF-8 cannot carry
        hashed.update(written)
        file.write(written)

    write(
        {
            "schema": SCHEMA,
            "plan_id": header.plan_id,
            "source": header.source,
            "file": str(settings_file),
            "memory": header.memory,
            "basis": header.basis,
            "planned_at": datetime.fromtimestamp(header.planned_at, UTC).isoformat(),
            "last_run": header.last_run,
            "allows_mass_deletion": header.allows_mass_deletion,
            "withheld_documents": header.withheld,
        }
    )
    for (document, outcome), rows in groupby(table.found(), key=lambda row: row[:2]):
        changes = list(rows)
        for start in range(0, len(changes), CHANGES_PER_LINE):
            line: dict[str, Any] = {"document": document, "outcome": outcome}
            for _, _, operation, key, digest, replaces in changes[start : start + CHANGES_PER_LINE]:
                line.setdefault(operation, []).append([each for each in (key, digest, replaces) if each])
            write(line)
    totals = table.totals()
    end = {
        "end_of": header.plan_id,
        "documents": totals.documents,
        "created": totals.created,
        "updated": totals.updated,
        "deleted": totals.deleted,
    }
    file.write(json.dumps({**end, "sha256": hashed.hexdigest()}).encode() + b"\n")


def read_sections(path: Path) -> Iterator[PlanSection]:
    """The plans in a file, one for each source, without their changes.

    Raises:
        ConfigurationError: it cannot be read, or is no saved plan.
    """
    number = offset = 0
    with _file_errors(path), path.open("rb") as file:
        while line := file.readline(LINE_BYTES_MAX):
            number += 1
            read = _parsed(line, path, number)
            if number == 1 and read.get("schema") != SCHEMA:
                problem = f"is no saved plan of a kind that this memsync knows ({SCHEMA})"
                raise ConfigurationError(problem, path=str(path))
            if "schema" in read:
                with _as_damage(path, number):
                    yield PlanSection(path, _read_header(read), Path(read["file"]), number, offset)
            offset += len(line)
    if not number:
        raise ConfigurationError("is empty, and no saved plan", path=str(path))


def read_changes(section: PlanSection) -> Iterator[Row]:
    """The changes of one plan, checked against what its last line says.

    Raises:
        ConfigurationError: it was changed or cut off since it was written; by then some rows were yielded.
    """
    hashed = hashlib.sha256()
    number = section.first_line
    with _file_errors(section.path), section.path.open("rb") as file:
        file.seek(section.offset)
        hashed.update(file.readline())
        while line := file.readline(LINE_BYTES_MAX):
            number += 1
            read = _parsed(line, section.path, number)
            with _as_damage(section.path, number):
                if "end_of" in read:
                    if read["end_of"] != section.header.plan_id or read["sha256"] != hashed.hexdigest():
                        raise ValueError("the digest differs")
                    return
                yield from _read_rows(read)
            hashed.update(line)
    raise _damaged(section.path, number)


def _read_header(read: dict[str, Any]) -> PlanHeader:
    return PlanHeader(
        plan_id=str(read["plan_id"]),
        source=str(read["source"]),
        memory=str(read["memory"]),
        basis=str(read["basis"]),
        planned_at=datetime.fromisoformat(read["planned_at"]).timestamp(),
        last_run=read["last_run"],
        allows_mass_deletion=bool(read["allows_mass_deletion"]),
        withheld=int(read["withheld_documents"]),
    )


def _read_rows(read: dict[str, Any]) -> Iterator[Row]:
    for operation in Operation:
        for names in read.get(operation.value, ()):
            key, digest, replaces = [*names, "", ""][:3]
            yield str(read["document"]), str(read["outcome"]), operation.value, str(key), str(digest), str(replaces)


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number) from error
    if not isinstance(read, dict):
        raise _damaged(path, number)
    return read


def _damaged(path: Path, number: int) -> ConfigurationError:
    return ConfigurationError(
        "is not, or not any more, a saved plan as memsync wrote it. Nothing was sent. Plan again.",
        path=str(path),
        line=max(1, number),
    )


@contextmanager
def _as_damage(path: Path, number: int) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, number) from error


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"the saved plan cannot be read: {error.strerror}", path=str(path)) from error
