"""A state of an older schema: read as it is, upgraded in one step, and never the reason to write a record again."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigurationError
from pipeline.local_memory import StoredRecord
from pipeline.state import migrations, sqlite
from pipeline.state.migrations import back_up, migrate
from pipeline.state.sqlite import SCHEMA_VERSION, open_state
from tests.state.schema_1 import CASES, FIXTURES, LONG_NAME, MEMORY_ID, dump_of, lay_out, records_of, write_state
from tests.stateful.memory import OpenMemory, open_memory
from tests.stateful.zygote import Zygote

DESTINATION = MEMORY_ID
ADDED = {"record": ("edited_from",), "dead_letter": ("dropped_at",)}
EXPIRY = ("expiry_days", "lapses_at", "renew_at")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.sqlite3"


async def _inline(work: Any) -> Any:
    return work()


def opened(path: Path | None, **options: Any) -> Any:
    return open_state(path, source="docs", destination=DESTINATION, offload=_inline, **options)


def dump(path: Path) -> str:
    """All that a state holds, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def rows_of(connection: sqlite3.Connection, table: str) -> list[dict[str, object]]:
    """What a table holds, in any order of rows and columns; a key in the outbox does not name its batch any more."""
    cursor = connection.execute(f"SELECT * FROM {table}")
    names = [name for name, *_ in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    # What later schemas have added says nothing of what was there before.
    for row, name in product(rows, ADDED.get(table, ())):
        assert row.pop(name, None) is None
    if table == "outbox_key":
        rows = [{"document": row["document"], "key": row["key"]} for row in rows]
    if table == "record":  # in older schemas no record lapses, which newer ones say by saying nothing
        rows = [{name: value for name, value in row.items() if name not in EXPIRY or value is not None} for row in rows]
    return sorted(rows, key=lambda row: repr(sorted(row.items())))


def shape(connection: sqlite3.Connection) -> dict[str, object]:
    """Every table with its columns, keys and storage, and every index: what programs can tell of a schema."""
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    indexes = connection.execute(
        "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    )
    return {
        "columns": {table: connection.execute(f"PRAGMA table_info({table})").fetchall() for table in tables},
        "tables": {row[1]: row[2:] for row in connection.execute("PRAGMA table_list") if row[1] in tables},
        "indexes": sorted(indexes.fetchall()),
        "others": connection.execute("SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index')").fetchall(),
    }


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below `folder`, with its time of change and its bytes."""
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in folder.rglob("*")
        if file.is_file()
    }


# ------------------------------------------------------------------------------------------ the upgrade itself


def test_the_steps_lead_to_the_schema_that_a_new_state_has() -> None:
    """Else a program would work on one user's state and fail on another's."""
    with closing(sqlite3.connect(":memory:")) as upgraded, closing(sqlite3.connect(":memory:")) as new:
        upgraded.executescript(dump_of("in-sync"))
        new.executescript(resources.files("pipeline.state").joinpath("schema.sql").read_text())

        migrate(upgraded, 1, SCHEMA_VERSION)

        assert shape(upgraded) == shape(new)
        assert upgraded.execute("SELECT * FROM lease").fetchall() == new.execute("SELECT * FROM lease").fetchall()


@pytest.mark.parametrize("case", CASES)
async def test_opening_upgrades_a_state_and_keeps_all_that_it_holds(case: str, path: Path) -> None:
    """Documents, records, batches and dead letters mean the same in every schema."""
    write_state(case, path)
    with closing(sqlite3.connect(path)) as old:
        tables = ["document", "record", "outbox", "outbox_key", "dead_letter", "run"]
        before = {table: rows_of(old, table) for table in tables}

    async with opened(path) as state:
        is_acquainted = await state.acquainted_at() is not None

    with closing(sqlite3.connect(path)) as new:
        assert new.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone() == (str(SCHEMA_VERSION),)
        assert {table: rows_of(new, table) for table in tables} == before
    assert is_acquainted, "a ledger that was always right has met its memory"


@pytest.mark.parametrize("case", CASES)
async def test_the_state_as_it_was_is_kept_beside_the_new_one(case: str, path: Path) -> None:
    """Whoever has to go back to the older version puts it in place; it reads it as if nothing had happened."""
    write_state(case, path)
    copy = path.with_name("state.sqlite3.schema-1")

    async with opened(path):
        pass

    assert dump(copy) == dump_of(case)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert {file.name for file in path.parent.iterdir()} == {path.name, copy.name}


async def test_opening_again_upgrades_nothing(path: Path) -> None:
    """A second copy would be one of the new schema, in the place of the old one."""
    write_state("in-sync", path)
    async with opened(path):
        pass
    before = path.with_name("state.sqlite3.schema-1").read_bytes()

    async with opened(path):
        pass

    assert path.with_name("state.sqlite3.schema-1").read_bytes() == before


def _steps() -> list[str]:
    """All statements of an upgrade from schema 1, and its commit."""
    statements: list[str] = []
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(dump_of("in-sync"))
        connection.set_trace_callback(statements.append)
        migrate(connection, 1, SCHEMA_VERSION)
    return statements


@pytest.mark.parametrize("last", range(len(_steps())))
def test_an_upgrade_that_is_cut_off_leaves_the_old_state(last: int, path: Path) -> None:
    """What a killed process leaves is what the disk holds at that moment: the copy that is made before a statement."""
    write_state("outbox", path)
    cut_off = path.parent / "cut-off"
    seen = 0

    def keep(_statement: str) -> None:
        nonlocal seen
        if seen == last:
            cut_off.mkdir()
            for file in path.parent.glob("state.sqlite3*"):
                shutil.copy(file, cut_off)
        seen += 1

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA cache_size = 1")  # so that changes reach the disk before the commit
        connection.set_trace_callback(keep)
        migrate(connection, 1, SCHEMA_VERSION)

    assert dump(cut_off / path.name) == dump_of("outbox")
    assert dump(path) != dump_of("outbox")


async def test_an_upgrade_that_fails_leaves_the_old_state(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that does not fit must not leave half of what it did; the next version can try again."""
    write_state("outbox", path)
    monkeypatch.setitem(migrations.STEPS, 2, f"{migrations.STEPS[2].strip()}\nINSERT INTO nowhere VALUES (1);\n")

    with pytest.raises(Exception, match="nowhere"):
        async with opened(path):
            pass

    assert dump(path) == dump_of("outbox")


def test_a_copy_has_its_name_only_once_it_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a crash would leave half a copy where whoever goes back takes a whole one from."""
    write_state("in-sync", path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("the power is gone")))

    with closing(sqlite3.connect(path)) as connection, pytest.raises(OSError, match="power"):
        back_up(connection, path, 1)

    assert not path.with_name("state.sqlite3.schema-1").exists()


@pytest.mark.parametrize("is_read_only", [False, True])
async def test_a_newer_schema_is_refused_and_not_touched(path: Path, is_read_only: bool) -> None:
    """Nobody knows what it means; what its own version has not written into the file yet must stay beside it."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA journal_mode = WAL")
        newer.executescript(dump_of("in-sync"))
        newer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        newer.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA_VERSION + 1),))
        newer.commit()
        copies = path.parent.with_name("as-a-crash-leaves-it")
        copies.mkdir()
        for name in ("state.sqlite3", "state.sqlite3-wal"):
            shutil.copy(path.with_name(name), copies / name)
    before = {file.name: file.read_bytes() for file in copies.iterdir()}

    with pytest.raises(ConfigurationError, match="newer memsync"):
        async with opened(copies / path.name, is_read_only=is_read_only):
            pass

    after = {file.name: file.read_bytes() for file in copies.iterdir() if not file.name.endswith("-shm")}
    assert after == before


def test_there_is_a_step_to_every_schema() -> None:
    """A new schema without a step would lock out whoever has a state."""
    assert sorted(migrations.STEPS) == list(range(2, sqlite.SCHEMA_VERSION + 1))


# ------------------------------------------------------------------------------------------ for those who upgrade


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def memory() -> Iterator[OpenMemory]:
    with open_memory(MEMORY_ID) as memory:
        yield memory


@dataclass(frozen=True, slots=True)
class User:
    """Who had the old version, and has the new one now."""

    folder: Path
    memory: OpenMemory
    zygote: Zygote

    def has(self, case: str) -> None:
        lay_out(self.folder, self.memory.url, case)
        self.memory.put(records_of(case))

    def memsync(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a command; return its exit code and what it says of the source."""
        output = self.folder.with_name("output")
        output.mkdir(exist_ok=True)
        code, stdout, stderr = self.zygote.run(self.folder, output, *arguments, "docs.yaml", "--json")
        assert stdout, stderr
        answer = json.loads(stdout.splitlines()[-1])
        return code, answer.get("sources", [answer])[0]


@pytest.fixture
def user(tmp_path: Path, memory: OpenMemory, zygote: Zygote) -> User:
    return User(tmp_path / "user", memory, zygote)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("command", ["plan", "status", "verify", "dead-letters"])
def test_looking_at_an_old_state_changes_no_byte(command: str, case: str, user: User) -> None:
    """Whoever only looks may want to go back to the old version."""
    user.has(case)
    before = files_of(user.folder)

    user.memsync(command)

    assert files_of(user.folder) == before


@pytest.mark.parametrize("case", ["in-sync", "outbox"])
def test_the_first_run_after_an_upgrade_writes_nothing_that_is_stored(case: str, user: User) -> None:
    """Documents that did not change are not written again because memsync did, even if all of them are read again."""
    user.has(case)
    before = user.memory.records()

    code, source = user.memsync("run")

    assert code == 0, source
    assert source["records"]["pending"] == 0
    assert user.memory.records() == before
    assert user.memory.writes("BatchCreateMemoryRecords") == user.memory.writes("BatchUpdateMemoryRecords") == 0


def test_the_first_run_after_an_upgrade_completes_what_was_interrupted(user: User) -> None:
    """The old version's batches mean the same to the new one."""
    user.has("interrupted")

    code, source = user.memsync("run")

    assert (code, source["records"]["pending"]) == (0, 0), source
    assert sorted(user.memory.texts()) == sorted(record.text for record in records_of("in-sync"))


def test_old_dead_letters_stay_and_can_be_sent_again(user: User) -> None:
    """An upgrade settles nothing by itself."""
    user.has("dead-letters")

    code, source = user.memsync("run")
    replayed, _ = user.memsync("replay")

    assert (code, source["records"]["dead_lettered"]) == (3, 1)
    assert replayed == 0
    assert sorted(user.memory.texts()) == sorted(record.text for record in records_of("in-sync"))


def test_records_of_the_old_version_can_be_verified(user: User) -> None:
    """They lack what newer ones say of themselves, and are right all the same."""
    user.has("in-sync")

    code, source = user.memsync("verify")

    assert (code, source["checked"]) == (0, 5), source
    assert (source["missing"], source["changed"], source["foreign"], source["duplicate"]) == (0, 0, 0, 0)


def test_a_ledger_can_be_rebuilt_from_records_of_the_old_version(user: User) -> None:
    """Parts of a file, too, though these do not say yet where the file's id ends."""
    user.has("in-sync")
    (user.folder / "docs" / LONG_NAME).unlink()
    user.memory.remove([record.record_id for record in records_of("in-sync") if "whose name" in record.text])
    shutil.rmtree(user.folder / ".memsync")
    before = user.memory.records()

    recovered, _ = user.memsync("recover")
    code, source = user.memsync("run")

    assert (recovered, code) == (0, 0), source
    assert user.memory.records() == before


def test_a_record_that_cannot_say_its_document_is_told(user: User) -> None:
    """The old version cut an id that is too long, and nothing in the memory tells what it was."""
    user.has("in-sync")
    shutil.rmtree(user.folder / ".memsync")

    recovered, source = user.memsync("recover")

    assert (recovered, source["unattributed"]) == (0, 1), source


def test_a_record_that_cannot_say_its_document_is_not_written_twice(user: User) -> None:
    """Its key tells, once the document has been read."""
    user.has("in-sync")
    shutil.rmtree(user.folder / ".memsync")

    user.memsync("recover")
    user.memsync("run")
    code, source = user.memsync("verify")

    assert user.memory.holds_everything_once()
    assert (code, source["unattributed"]) == (0, 0), source


# ------------------------------------------------------------------------------------------ dead letters of schema 4


async def test_letters_of_schema_4_are_what_they_would_be_now(path: Path) -> None:
    """None is lost, and whether its reason may pass is told from what it says."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as old:
        old.executescript((FIXTURES / "schema-4-dead-letters.sql").read_text())

    async with opened(path) as state:
        letters = await state.letters()
        counts = await state.counts()

    assert [(each.document_id, each.code, each.rounds, each.is_retryable) for each in letters] == [
        ("broken.jsonl", "broken_json", 1, False),
        ("notes/old.md", "500", 1, True),
    ]
    assert letters[1].record is not None
    assert (counts.letters, counts.dropped, counts.records) == ({"500": 1, "broken_json": 1}, 0, 4)


def test_letters_of_schema_4_whose_reason_has_passed_are_sent_by_the_next_run(user: User) -> None:
    """Whoever upgrades has waited long enough for them; the others stay."""
    lay_out(user.folder, user.memory.url, "in-sync")
    state = user.folder / ".memsync" / "docs" / "state.sqlite3"
    for file in state.parent.iterdir():
        file.unlink()
    with closing(sqlite3.connect(state)) as old:
        old.executescript((FIXTURES / "schema-4-dead-letters.sql").read_text())
    (user.folder / "docs" / "broken.jsonl").write_text('{"id": "a", "te')
    before = [
        StoredRecord(**record) for record in json.loads((FIXTURES / "schema-4-dead-letters.memory.json").read_text())
    ]
    user.memory.put(before)

    code, source = user.memsync("run")

    assert (code, source["records"]["created"], source["records"]["dead_lettered"]) == (3, 1, 1), source
    assert source["resent"] == 1
    assert sorted(user.memory.texts()) == sorted(record.text for record in records_of("in-sync"))
