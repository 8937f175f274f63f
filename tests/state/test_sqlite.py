"""The state in SQLite: the contract in every way in which it is run, and what the file itself must keep."""
# ruff: noqa: ASYNC240 - a test may look at a small file while nothing else waits

import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from anyio import to_thread

from pipeline.errors import ConfigurationError, SourceLocked, StateError
from pipeline.model import FIRST_PLACE, Checkpoint, DocumentId, Operation, RecordKey, Settlement
from pipeline.state import sqlite
from pipeline.state.sqlite import SqliteStateStore, open_state
from tests.contract.state_store import (
    EMPTY,
    StateStoreContract,
    batch,
    entry,
    keys,
    known,
    letter,
    memory_id,
    plan,
    records_of,
    settled,
    store,
    update,
)

SOURCE, DESTINATION = "handbook", "handbook-a1B2c3D4e5"
RULES = [name for name in dir(StateStoreContract) if name.startswith("test_")]

Result = TypeVar("Result")


async def inline(work: Callable[[], Result]) -> Result:
    """Run `work` in place, as the simulation does."""
    return work()


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run `work` in a worker thread, as production does."""
    return await to_thread.run_sync(work)


def opened(path: Path | None, **options: Any) -> Any:
    return open_state(path, **{"source": SOURCE, "destination": DESTINATION, "offload": in_thread, **options})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".memsync" / "handbook.db"


class TestStateInFile(StateStoreContract):
    @pytest.fixture
    async def state(self, path: Path) -> AsyncIterator[SqliteStateStore]:
        async with opened(path) as state:
            yield state


class TestStateInMemory(StateStoreContract):
    @pytest.fixture
    async def state(self) -> AsyncIterator[SqliteStateStore]:
        async with opened(None) as state:
            yield state


@pytest.mark.parametrize("rule", RULES)
def test_the_contract_holds_in_place_under_trio(rule: str) -> None:
    """The simulation runs the very SQL of production, on its own event loop and without threads."""

    async def check() -> None:
        async with opened(None, offload=inline) as state:
            await getattr(StateStoreContract(), rule)(state)

    anyio.run(check, backend="trio")


@pytest.mark.parametrize("rule", RULES)
async def test_the_contract_holds_across_closing(rule: str, path: Path) -> None:
    """A run ends at any time: what a method returned from is what the next run finds."""
    await getattr(StateStoreContract(), rule)(_Reopening(path))


class _Reopening:
    """A state store that opens its file for every call, as one run after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = anyio.Lock()

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            async with self._turn, opened(self._path) as state:
                return await getattr(state, name)(*arguments, **named)

        return call

    @asynccontextmanager
    async def compared(self) -> AsyncIterator[Any]:
        async with self._turn, opened(self._path) as state, state.compared() as comparison:
            yield comparison


# ------------------------------------------------------------------------------------------------- durability


@contextmanager
def looking_into(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as another program sees it; what it changes is committed."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_file_and_its_folder_belong_to_their_owner_alone(path: Path) -> None:
    """They hold the text of documents, whatever the umask of the process says."""
    before = os.umask(0)
    try:
        async with opened(path) as state:
            await store(state, entry("a"))
            modes = {file.name: mode_of(file) for file in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"handbook.db": 0o600, "handbook.db-wal": 0o600, "handbook.db-shm": 0o600}
    assert mode_of(path.parent) == 0o700


async def test_what_is_saved_survives_a_power_cut(path: Path) -> None:
    """With anything less than FULL, a transaction that was acknowledged can be lost, and its batch be sent anew."""
    async with opened(path) as state:
        pragmas = {
            name: state._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


async def test_reopening_keeps_everything(path: Path) -> None:
    """The ledger is the only account of what the memory holds."""
    waiting = batch("token-1", update("new", replaces="a"), operation=Operation.UPDATE)
    async with opened(path) as state:
        await store(state, entry("a"), entry("b"))
        await state.save([waiting], [plan("a.md", letters=(letter("1"),))], Checkpoint("page-1"))
        before = await state.counts()

    async with opened(path) as state:
        assert await state.counts() == before
        assert await state.batch(waiting.client_token) == waiting
        assert await state.letters() == [letter("1")]
        assert await state.checkpoint() == Checkpoint("page-1")
        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["a", "b"]


async def test_a_state_in_memory_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` of a source that never ran must touch nothing."""
    monkeypatch.chdir(tmp_path)

    async with opened(None) as state:
        await store(state, entry("a"))

    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- whose file it is


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
@pytest.mark.parametrize("is_read_only", [False, True])
async def test_a_newer_schema_is_refused_and_its_file_not_touched(
    path: Path, journal_mode: str, is_read_only: bool
) -> None:
    """Going back to an older version must not spoil the ledger for the newer one."""
    async with opened(path) as state:
        await store(state, entry("a"))
    with looking_into(path) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(sqlite.SCHEMA_VERSION + 1),))
    with looking_into(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match=r"newer memsync .* Use that version, or another state\.path"):
        async with opened(path, is_read_only=is_read_only):
            pass

    assert path.read_bytes() == before


@pytest.mark.parametrize("is_read_only", [False, True])
@pytest.mark.parametrize("other", [{"source": "tickets"}, {"destination": "tickets-a1B2c3D4e5"}])
async def test_the_state_of_another_source_or_memory_is_refused(
    path: Path, other: dict[str, str], is_read_only: bool
) -> None:
    """Trusting it would take records for stored that another memory holds, or delete those of another source."""
    async with opened(path) as state:
        await store(state, entry("a"))

    with pytest.raises(ConfigurationError) as caught:
        async with opened(path, is_read_only=is_read_only, **other):
            pass

    ((name, theirs),) = other.items()
    assert repr({"source": SOURCE, "destination": DESTINATION}[name]) in str(caught.value)
    assert repr(theirs) in str(caught.value)
    assert f"Give the new {name} a state of its own" in str(caught.value)
    async with opened(path) as state:
        assert (await state.counts()).records == 1


@pytest.mark.parametrize("is_read_only", [False, True])
@pytest.mark.parametrize("table", ["accounts (name)", "meta (name, value)"])
async def test_the_database_of_another_program_is_refused_and_not_touched(
    path: Path, table: str, is_read_only: bool
) -> None:
    """A wrong `state.path` must not write tables into somebody's data."""
    path.parent.mkdir()
    with looking_into(path) as connection:
        connection.execute(f"CREATE TABLE {table}")
    before = path.read_bytes()

    with pytest.raises(ConfigurationError, match=r"not a state of memsync.*state\.path"):
        async with opened(path, is_read_only=is_read_only):
            pass

    assert path.read_bytes() == before


@pytest.mark.parametrize("is_read_only", [False, True])
async def test_a_file_that_is_no_database_is_refused_and_not_touched(path: Path, is_read_only: bool) -> None:
    """Whatever it is, it is not ours to overwrite."""
    path.parent.mkdir()
    path.write_text("a letter to a friend, " * 100)
    before = path.read_bytes()

    with pytest.raises(StateError, match="not a database"):
        async with opened(path, is_read_only=is_read_only):
            pass

    assert path.read_bytes() == before


@pytest.mark.parametrize("is_read_only", [True, False])
@pytest.mark.parametrize("journal_mode", [None, "wal"])
async def test_an_empty_file_is_an_empty_state(path: Path, journal_mode: str | None, is_read_only: bool) -> None:
    """A run that was killed while it made the file leaves one."""
    path.parent.mkdir()
    path.touch()
    with looking_into(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")

    async with opened(path, is_read_only=is_read_only) as state:
        assert await state.counts() == EMPTY


# -------------------------------------------------------------------------------------------------- read-only


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in `folder`, itself included, and when it was changed."""
    files = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    return {".": (folder.stat().st_mtime_ns, b""), **files}


async def test_a_read_only_state_that_does_not_exist_creates_nothing(path: Path) -> None:
    """`plan` and `status` touch nothing, not even a folder."""
    async with opened(path, is_read_only=True) as state:
        counts = await state.counts()

    assert counts == EMPTY
    assert not path.parent.exists()


async def test_a_read_only_state_shows_what_is_there_and_takes_nothing(path: Path) -> None:
    """Whatever a caller does by mistake, the ledger stays as it is."""
    async with opened(path) as state:
        await store(state, entry("a"))
    before = snapshot(path.parent)

    async with opened(path, is_read_only=True) as state:
        counts = await state.counts()
        with pytest.raises(StateError):
            await state.save([batch("token-1", entry("b"))], [])
        during = snapshot(path.parent)

    assert counts == replace(EMPTY, records=1)
    assert during == before
    assert snapshot(path.parent) == before


async def test_a_state_that_a_run_left_in_a_hurry_can_be_read(path: Path) -> None:
    """After a kill, what was committed last stands beside the file itself."""
    async with opened(path) as state:
        await store(state, entry("a"))
        killed = path.with_name("killed.db")
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")

    async with opened(killed, is_read_only=True) as state:
        assert await state.counts() == replace(EMPTY, records=1)


async def test_a_state_can_be_read_while_a_run_writes_it(path: Path) -> None:
    """`status` works during a run, and sees only whole transactions."""
    async with opened(path) as running:
        await store(running, entry("a"))
        async with opened(path, is_read_only=True) as state:
            await store(running, entry("b"), token="token-2")
            counts = await state.counts()

    assert counts == replace(EMPTY, records=2)


# ----------------------------------------------------------------------------------- transactions and full disks


async def everything(state: SqliteStateStore) -> list[Any]:
    """All rows of all tables."""
    tables = ("meta", "document", "record", "outbox", "outbox_key", "dead_letter", "run")
    return [state._connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables]


@pytest.mark.parametrize(
    "event",
    [
        "DELETE ON outbox",
        "DELETE ON outbox_key",
        "DELETE ON record",
        "INSERT ON record",
        "DELETE ON dead_letter",
        "INSERT ON dead_letter",
        "INSERT ON outbox",
        "INSERT ON outbox_key",
    ],
)
async def test_a_batch_is_settled_as_a_whole_or_not_at_all(path: Path, event: str) -> None:
    """A record in the ledger whose batch is still in the outbox would be created twice, or never."""
    fails, stored = entry("fails"), update("new", replaces="old")
    saved = batch("token-1", stored, fails, operation=Operation.UPDATE)
    letters = (letter("1", key=RecordKey("new")),)
    settlement = settled(
        saved,
        stored=((stored, memory_id("old")),),
        letters=(letter("2", key=RecordKey("fails")),),
        follow_ups=(batch("token-2", fails),),
    )
    async with opened(path, offload=inline) as state:
        await store(state, entry("old"))
        await state.save([saved], [plan("a.md", letters=letters)])
        before = await everything(state)
        trigger = f"CREATE TEMP TRIGGER breaks BEFORE {event} BEGIN SELECT RAISE(ABORT, 'the disk broke'); END"
        state._connection.execute(trigger)

        with pytest.raises(StateError, match="the disk broke"):
            await state.settle(settlement)

        assert await everything(state) == before
        state._connection.execute("DROP TRIGGER breaks")
        await state.settle(settlement)
        assert await state.outbox() == ["token-2"]
        assert [each.id for each in await state.letters()] == ["2"]
        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["new"]


async def test_a_batch_is_settled_once(path: Path) -> None:
    """Settling twice is a mistake of ours, and must not undo what came after the first time."""
    async with opened(path) as state:
        saved = batch("token-1", entry("a"))
        await state.save([saved], [])
        await state.settle(settled(saved))

        with pytest.raises(AssertionError, match="settled once"):
            await state.settle(settled(saved, stored=(), deleted=(entry("a"),)))

        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["a"]


# ------------------------------------------------------------------------------- what waits at the same time


class SlowDisk:
    """An offload whose first work waits until it is told to go on, and that counts the pieces of work."""

    def __init__(self) -> None:
        self.works = 0
        self.is_at_work = anyio.Event()
        self.may_go_on = anyio.Event()

    async def __call__(self, work: Callable[[], Result]) -> Result:
        self.works += 1
        if self.works == 1:
            self.is_at_work.set()
            await self.may_go_on.wait()
        return await in_thread(work)


@asynccontextmanager
async def busy(state: SqliteStateStore) -> AsyncIterator[tuple[SlowDisk, anyio.abc.TaskGroup]]:
    """A state whose disk is busy with one change; what the block starts waits, and is done at the end."""
    disk = SlowDisk()
    state._offload = disk
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(state.save, [batch("first", entry("first"))], [])
        await disk.is_at_work.wait()
        yield disk, tasks
        await anyio.wait_all_tasks_blocked()
        disk.may_go_on.set()


async def test_what_waits_is_made_durable_together(path: Path) -> None:
    """Each commit waits for the disk, however little is in it."""
    async with opened(path) as state:
        async with busy(state) as (disk, tasks):
            for name in "abc":
                tasks.start_soon(state.save, [batch(f"token-{name}", entry(name))], [])

        assert disk.works == 2
        assert await state.outbox() == ["first", "token-a", "token-b", "token-c"]


async def test_of_what_is_made_durable_together_only_what_is_at_fault_fails(path: Path) -> None:
    """A batch that was settled already must not undo the answer to another one."""
    batches = [batch(f"token-{name}", entry(name)) for name in "abc"]
    failed: list[Exception] = []

    async def settle(settlement: Settlement) -> None:
        try:
            await state.settle(settlement)
        except AssertionError as error:
            failed.append(error)

    async with opened(path) as state:
        await state.save(batches, [])
        await state.settle(settled(batches[1]))
        async with busy(state) as (_, tasks):
            for each in batches:
                tasks.start_soon(settle, settled(each))

        assert len(failed) == 1
        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["a", "b", "c"]
        assert await state.outbox() == ["first"]


async def test_a_change_whose_asker_was_cancelled_while_it_waited_is_not_made(path: Path) -> None:
    """Nobody would know of it."""
    async with opened(path) as state:
        async with busy(state) as (_, tasks):
            given_up = anyio.CancelScope()

            async def ask() -> None:
                with given_up:
                    await state.save([batch("given-up", entry("x"))], [])

            tasks.start_soon(ask)
            tasks.start_soon(state.save, [batch("token-a", entry("a"))], [])
            await anyio.wait_all_tasks_blocked()
            given_up.cancel()

        assert await state.outbox() == ["first", "token-a"]


async def test_what_waits_is_made_durable_if_whoever_was_to_do_it_is_cancelled(path: Path) -> None:
    """A run that is stopped cancels its tasks one after the other; some of them still write down what they heard."""
    async with opened(path) as state:
        async with busy(state) as (disk, tasks):
            carrier = anyio.CancelScope()

            async def carry() -> None:
                with carrier:
                    await state.save([batch("carried", entry("x"))], [])

            async def cancel_as_it_begins(work: Callable[[], Result]) -> Result:
                if disk.works == 1:
                    disk.works += 1
                    carrier.cancel()
                    await anyio.lowlevel.checkpoint()
                return await in_thread(work)

            tasks.start_soon(carry)
            tasks.start_soon(state.save, [batch("token-a", entry("a"))], [])
            await anyio.wait_all_tasks_blocked()
            state._offload = cancel_as_it_begins

        assert await state.outbox() == ["first", "token-a"]


async def test_a_full_disk_stops_the_run_and_loses_nothing(path: Path) -> None:
    """The message says what to do, and once there is room the same state goes on."""
    async with opened(path, offload=inline) as state:
        await store(state, entry("a"))
        (pages,) = state._connection.execute("PRAGMA page_count").fetchone()
        state._connection.execute(f"PRAGMA max_page_count = {pages}")
        large = replace(batch("token-1", entry("b")), body=bytes(1_000_000))

        with pytest.raises(StateError) as caught:
            await state.save([large], [plan("b.md")], Checkpoint("page-1"))

        assert "full" in str(caught.value)
        assert str(path) in str(caught.value)
        assert "Check the disk, its free space" in str(caught.value)
        assert await state.counts() == replace(EMPTY, records=1)
        assert await state.checkpoint() is None
        state._connection.execute("PRAGMA max_page_count = 1000000")
        await state.save([large], [plan("b.md")], Checkpoint("page-1"))
        assert await state.outbox() == ["token-1"]


async def test_a_disk_that_cannot_be_written_is_named(path: Path) -> None:
    """It can turn read-only under a run, as after a fault of the file system."""
    async with opened(path, offload=inline) as state:
        state._connection.execute("PRAGMA query_only = ON")

        with pytest.raises(StateError, match=r"readonly.*Check the disk"):
            await state.save([batch("token-1", entry("a"))], [])


async def test_a_path_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where a folder should be, found before anything is sent."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "handbook.db"

    with pytest.raises(StateError) as caught:
        async with opened(path):
            pass

    assert str(path) in str(caught.value)
    assert "the folder's permissions" in str(caught.value)


async def test_another_program_that_holds_the_file_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while of waiting, and without having written half of anything."""
    async with opened(path, offload=inline) as state:
        state._connection.execute("PRAGMA busy_timeout = 1")
        other = sqlite3.connect(path)
        try:
            other.execute("BEGIN IMMEDIATE")

            with pytest.raises(SourceLocked, match="does not go on"):
                await state.save([batch("token-1", entry("a"))], [])
        finally:
            other.close()

        assert await state.outbox() == []


async def test_no_message_holds_a_document(path: Path) -> None:
    """Messages go to logs; a refused batch holds text in its body."""
    async with opened(path) as state:
        secret = replace(batch("token-1", entry("a")), body=b"secret text")
        await state.save([secret], [])

        with pytest.raises(StateError) as caught:
            await state.save([replace(batch("token-2", entry("a")), body=b"secret text")], [])

    assert "secret" not in str(caught.value)


async def test_a_document_name_may_hold_anything(path: Path) -> None:
    """Names come from file systems and web pages, down to bytes that are no text."""
    names = [DocumentId(name) for name in ("it's; DROP TABLE record; --", "文書", "\x00", "%_", " ")]
    async with opened(path) as state:
        await state.save([], [plan(name) for name in names])
        await store(state, *(entry(f"key-{number}", name) for number, name in enumerate(names)))

        assert set(await state.documents(names)) == set(names)
        assert [len(found) for found in (await records_of(state, names)).values()] == [1] * len(names)


async def test_no_change_looks_through_a_whole_table(path: Path) -> None:
    """It would take the longer the larger the ledger is, for each batch."""
    statements: list[str] = []
    changed = update("new", replaces="old")
    given_up = Settlement(batch("token-3", changed), letters=(letter("1", key=changed.key),))
    async with opened(path) as state:
        state._connection.set_trace_callback(statements.append)
        await store(state, entry("old"))
        await state.save(
            [batch("token-2", changed)], [plan("a.md", obsolete=(RecordKey("old"),), letters=(letter("1"),))]
        )
        await state.settle(settled(batch("token-2", changed)))
        await state.save([batch("token-3", changed)], [plan("a.md")])
        await state.settle(given_up)
        await state.forget([known(entry("new"))], [])
        await state.remove([DocumentId("a.md")])
        state._connection.set_trace_callback(None)

        for statement in statements:
            if statement.startswith(("INSERT", "UPDATE", "DELETE")):
                steps = [row[3] for row in state._connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
                for table in ("document", "record", "outbox", "outbox_key", "dead_letter"):
                    assert f"SCAN {table}" not in steps, statement
