"""Who may write to a state, and whether it is the one that the last run left."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from trio.testing import MockClock

from pipeline.errors import LeaseLost, SourceLocked
from pipeline.lease import RENEW_EVERY_S, RENEWALS_MISSED_MAX, Lease, hold_lease
from pipeline.state import sqlite
from pipeline.state.mark import FileMark
from pipeline.state.sqlite import SqliteStateStore, open_state
from tests.contract.state_store import batch, entry, plan, settled

NOW = 1_750_000_000.0
LATER = NOW + 3600
REQUEST_S = 70.0

Result = TypeVar("Result")


async def in_place(work: Callable[[], Result]) -> Result:
    return work()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStateStore]:
    async with open_state(path, source="docs", destination="memory", offload=in_place) as state:
        yield state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite3"


@pytest.fixture
async def first(path: Path) -> AsyncIterator[SqliteStateStore]:
    async with opened(path) as state:
        yield state


@pytest.fixture
async def second(path: Path) -> AsyncIterator[SqliteStateStore]:
    """Another process's view of the state that `first` has open."""
    async with opened(path) as state:
        yield state


# ------------------------------------------------------------------------------------------------ the lease


async def test_only_one_run_has_the_lease(first: SqliteStateStore, second: SqliteStateStore) -> None:
    """The second one is told who has it and until when, and has done nothing."""
    await first.take_lease("run 1 on a", has_lock=False, now=NOW, ends_at=LATER)

    with pytest.raises(SourceLocked, match="run 1 on a"):
        await second.take_lease("run 2 on b", has_lock=False, now=NOW + 1, ends_at=LATER)

    await first.save([], [plan("a.md")])
    assert await second.is_leased(has_lock=False, now=NOW + 1)


async def test_who_has_the_lease_can_be_asked(first: SqliteStateStore, second: SqliteStateStore) -> None:
    """Whoever is kept out wants to know by whom, also by one that was killed and never gave it back."""
    assert await second.lease_holder() is None

    await first.take_lease("run 1 on a", has_lock=False, now=NOW, ends_at=LATER)

    assert await second.lease_holder() == ("run 1 on a", LATER)
    await first.release_lease(NOW + 5)
    assert await second.lease_holder() is None


async def test_a_lease_that_was_given_back_or_has_ended_is_free(
    first: SqliteStateStore, second: SqliteStateStore
) -> None:
    """The next run learns until when the one before can have sent something."""
    assert await first.take_lease("run 1", has_lock=False, now=NOW, ends_at=LATER) is None
    await first.release_lease(NOW + 5)

    assert not await second.is_leased(has_lock=False, now=NOW + 6)
    assert await second.take_lease("run 2", has_lock=False, now=NOW + 6, ends_at=NOW + 10) == NOW + 5
    assert await first.take_lease("run 3", has_lock=False, now=NOW + 11, ends_at=LATER) == NOW + 10


@pytest.mark.parametrize(
    ("had_lock", "has_lock", "machine", "is_free"),
    [
        (True, True, "this", True),
        (True, False, "this", False),
        (False, True, "this", False),
        (True, True, "another", False),
    ],
)
async def test_a_live_lease_is_taken_over_only_from_a_run_that_is_known_to_be_dead(
    first: SqliteStateStore,
    second: SqliteStateStore,
    monkeypatch: pytest.MonkeyPatch,
    had_lock: bool,
    has_lock: bool,
    machine: str,
    is_free: bool,
) -> None:
    """The system's lock ends with the process that holds it; locks of another machine say nothing here."""
    await first.take_lease("run 1", has_lock=had_lock, now=NOW, ends_at=LATER)
    if machine == "another":
        monkeypatch.setattr(sqlite, "_machine", lambda: "another")

    assert await second.is_leased(has_lock=has_lock, now=NOW + 1) is not is_free
    if is_free:
        assert await second.take_lease("run 2", has_lock=has_lock, now=NOW + 1, ends_at=LATER) == LATER
    else:
        with pytest.raises(SourceLocked):
            await second.take_lease("run 2", has_lock=has_lock, now=NOW + 1, ends_at=LATER)


Write = Callable[[SqliteStateStore], Any]
WRITES: dict[str, Write] = {
    "save": lambda state: state.save([batch("token-2", entry("b"))], []),
    "settle": lambda state: state.settle(settled(batch("token-1", entry("a")))),
    "remove": lambda state: state.remove([]),
    "forget": lambda state: state.forget([], []),
    "adopt": lambda state: state.adopt([], []),
    "discard_outbox": lambda state: state.discard_outbox(),
    "remove_letters": lambda state: state.remove_letters([]),
    "drop_letters": lambda state: state.drop_letters([], 0.0),
    "note_acquainted": lambda state: state.note_acquainted(),
    "begin_run": lambda state: state.begin_run("run-1", "run", NOW),
    "end_run": lambda state: state.end_run("run-1", "{}", NOW),
    "drop_run": lambda state: state.drop_run("run-1"),
    "renew_lease": lambda state: state.renew_lease(LATER),
    "release_lease": lambda state: state.release_lease(NOW),
    "put_mark": lambda state: state.put_mark(),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_run_that_was_overtaken_writes_nothing(
    write: str, first: SqliteStateStore, second: SqliteStateStore
) -> None:
    """It was stopped, has woken up and believes that it still is the one."""
    await first.take_lease("run 1", has_lock=False, now=NOW, ends_at=NOW + 1)
    await first.save([batch("token-1", entry("a"))], [])
    await second.take_lease("run 2", has_lock=False, now=NOW + 2, ends_at=LATER)
    before = (await second.counts(), await second.is_leased(has_lock=False, now=NOW + 3))

    with pytest.raises(LeaseLost):
        await WRITES[write](first)

    assert (await second.counts(), await second.is_leased(has_lock=False, now=NOW + 3)) == before
    await second.settle(settled(await second.batch((await second.outbox())[0])))


def on_virtual_time(story: Callable[[], Any]) -> None:
    anyio.run(story, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def test_a_run_keeps_its_lease_as_long_as_it_goes_on(path: Path) -> None:
    """Hours, if it must; afterwards the next one need not wait."""

    async def story() -> None:
        async with opened(path) as ours, opened(path) as theirs:
            async with hold_lease(ours, "run 1", has_lock=False, request_s=REQUEST_S, now=anyio.current_time) as lease:
                for _ in range(100):
                    await anyio.sleep(60)
                    assert await theirs.is_leased(has_lock=False, now=anyio.current_time())
                    lease.check(anyio.current_time())
            assert not await theirs.is_leased(has_lock=False, now=anyio.current_time())

    on_virtual_time(story)


def test_a_run_whose_lease_was_taken_ends(path: Path) -> None:
    """It learns of it when it renews the lease, if not before."""

    async def story() -> None:
        async with opened(path) as ours, opened(path) as theirs:

            async def be_overtaken() -> None:
                async with hold_lease(ours, "run 1", has_lock=False, request_s=1.0, now=anyio.current_time):
                    far = anyio.current_time() + 10_000
                    await theirs.take_lease("run 2", has_lock=False, now=far, ends_at=far + 1000)
                    await anyio.sleep_forever()

            with pytest.raises(ExceptionGroup) as caught:
                await be_overtaken()
        assert caught.group_contains(LeaseLost)

    on_virtual_time(story)


def test_no_request_begins_that_might_outlast_the_lease() -> None:
    """A successor must meet nothing of ours under way."""
    lease = Lease(ends_at=NOW + 100, request_s=REQUEST_S)

    lease.check(NOW + 100 - REQUEST_S)
    with pytest.raises(LeaseLost, match="outbox"):
        lease.check(NOW + 100 - REQUEST_S + 0.001)


def test_a_lease_outlasts_some_renewals_that_failed_to_come() -> None:
    """A busy disk must not end a run."""
    assert RENEWALS_MISSED_MAX * RENEW_EVERY_S >= 60


# ----------------------------------------------------------------------------------------------- the mark


async def test_a_state_that_never_had_a_mark_is_no_copy(first: SqliteStateStore) -> None:
    """One of an older version, or one that is new."""
    assert not await first.is_copy()


async def test_a_marked_state_is_no_copy_of_itself(path: Path) -> None:
    """Opening, writing and marking it again changes nothing about that."""
    for _ in range(3):
        async with opened(path) as state:
            assert not await state.is_copy()
            await state.put_mark()
            await state.save([], [plan("a.md")])
            assert not await state.is_copy()


async def marked(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    async with opened(path) as state:
        await state.put_mark()
    return path


async def test_a_state_that_was_restored_is_a_copy(path: Path, tmp_path: Path) -> None:
    """With all files beside it, and with the times that they had."""
    folder = (await marked(tmp_path / "now" / path.name)).parent
    shutil.copytree(folder, tmp_path / "backup")
    async with opened(folder / path.name) as state:
        await state.put_mark()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)

    async with opened(folder / path.name) as state:
        assert await state.is_copy()
        await state.put_mark()
        assert not await state.is_copy()


@pytest.mark.parametrize("brought_back", ["state.sqlite3", "state.mark"])
async def test_one_file_of_the_two_that_was_brought_back_shows(path: Path, tmp_path: Path, brought_back: str) -> None:
    """Somebody who restores the database may leave the mark as it is, or the other way round."""
    await marked(path)
    shutil.copytree(path.parent, tmp_path / "backup")
    await marked(path)
    path.with_name(brought_back).unlink()
    shutil.copy2(tmp_path / "backup" / brought_back, path.with_name(brought_back))

    async with opened(path) as state:
        assert await state.is_copy()


async def test_a_state_without_its_mark_is_a_copy(path: Path) -> None:
    """Somebody took the database along and not what stands beside it."""
    await marked(path)
    path.with_name("state.mark").unlink()

    async with opened(path) as state:
        assert await state.is_copy()


async def test_a_folder_that_was_moved_on_its_disk_is_no_copy(path: Path, tmp_path: Path) -> None:
    """Its files are the same ones: nothing can have been written to another."""
    folder = (await marked(tmp_path / "here" / path.name)).parent
    folder.rename(tmp_path / "there")

    async with opened(tmp_path / "there" / path.name) as state:
        assert not await state.is_copy()


async def test_a_run_that_dies_while_it_marks_leaves_what_counts_as_a_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that was taken at that moment looks the same; comparing once too often does no harm."""
    await marked(path)
    async with opened(path) as state:
        with monkeypatch.context() as patched:
            patched.setattr(FileMark, "put", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await state.put_mark()

    async with opened(path) as state:
        assert await state.is_copy()
