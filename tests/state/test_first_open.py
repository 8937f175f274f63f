"""A state whose very first open was cut off by a power cut."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copyfile
from typing import TypeVar

from pipeline.state.sqlite import open_state

Result = TypeVar("Result")


async def in_place(work: Callable[[], Result]) -> Result:
    return work()


async def test_a_state_that_a_power_cut_left_with_a_journal_and_a_log_is_opened(tmp_path: Path) -> None:
    """SQLite makes a new file a WAL database by way of a journal, whose removal is not on the disk yet when the log
    begins. Whoever opens it has to roll the journal back, which nobody can who may only read."""
    path = tmp_path / "state.sqlite3"
    leave_journal(tmp_path / "dying.sqlite3", path)
    path.with_name("state.sqlite3-wal").touch()

    async with open_state(path, source="docs", destination="memory", offload=in_place) as state:
        assert (await state.counts()).documents == 0


def leave_journal(dying: Path, path: Path) -> None:
    """Make `path` what a transaction of a new file leaves that was cut off after it began to write."""
    with closing(sqlite3.connect(dying, isolation_level=None)) as connection:
        connection.executescript("PRAGMA cache_size = 1; BEGIN; CREATE TABLE half (done BLOB)")
        connection.executemany("INSERT INTO half VALUES (?)", [(bytes(4000),)] * 100)
        for suffix in ("", "-journal"):
            copyfile(f"{dying}{suffix}", f"{path}{suffix}")
        connection.execute("ROLLBACK")
