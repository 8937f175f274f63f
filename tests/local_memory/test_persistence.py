"""The file that a local memory is."""

import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipeline.local_memory import LocalMemory, UnreadableStoreError
from pipeline.local_memory.store import Store, UnavailableStoreError

from .conftest import MEMORY_ID, record, serve


@contextmanager
def full_disk() -> Iterator[None]:
    """In which no file can be written to by this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_records_outlive_the_server(tmp_path: Path) -> None:
    """Everything is found again after a restart: records, memories, filters, search."""
    data = tmp_path / "memory.db"
    with serve(data=data) as service:
        (record_id,) = service.create(record("tortoise", metadata={"memsync-key": {"stringValue": "k"}}))

    with serve(data=data, memories=[]) as service:
        assert [stored.record_id for stored in service.stored()] == [record_id]
        assert service.found_texts("tortoise") == ["tortoise"]
        assert service.control.get_memory(memoryId=MEMORY_ID)["memory"]["status"] == "ACTIVE"


def test_a_page_token_outlives_the_server(tmp_path: Path) -> None:
    """A token holds all that is needed to go on."""
    data = tmp_path / "memory.db"
    with serve(data=data) as service:
        service.create_texts([str(number) for number in range(25)])
        token = service.data.list_memory_records(memoryId=MEMORY_ID, namespacePath="/")["nextToken"]

    with serve(data=data) as service:
        page = service.data.list_memory_records(memoryId=MEMORY_ID, namespacePath="/", nextToken=token)

        assert [entry["content"]["text"] for entry in page["memoryRecordSummaries"]] == [
            "20",
            "21",
            "22",
            "23",
            "24",
        ]


def test_two_servers_may_share_a_file(tmp_path: Path) -> None:
    """What one commits the other sees at once."""
    data = tmp_path / "memory.db"
    with serve(data=data) as first, serve(data=data) as second:
        first.create(record("from the first"))
        second.create(record("from the second"))

        assert first.stored_texts() == second.stored_texts() == ["from the first", "from the second"]


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    """It holds the text of documents, in its side files too."""
    data = tmp_path / "folder" / "memory.db"

    with serve(data=data) as service:
        service.create(record("text"))
        files = list(data.parent.iterdir())

        assert data in files
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(data.parent.stat().st_mode) == 0o700


async def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    """A wrong path must not cost a file."""
    data = tmp_path / "notes.txt"
    data.write_text("My notes. " * 100)

    with pytest.raises(UnreadableStoreError, match=r"notes\.txt"):
        async with LocalMemory.serve(data):
            pass

    assert data.read_text() == "My notes. " * 100


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """SQLite would gladly add our tables to it."""
    data = tmp_path / "contacts.db"
    with closing(sqlite3.connect(data)) as connection:
        connection.execute("CREATE TABLE contacts (name TEXT)")
    before = data.read_bytes()

    with pytest.raises(UnreadableStoreError, match="another program"):
        Store(data)

    assert data.read_bytes() == before


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """An older program must not guess what a newer one wrote."""
    data = tmp_path / "memory.db"
    store = Store(data)
    store._connection.execute("PRAGMA user_version = 99")
    store.close()

    with pytest.raises(UnreadableStoreError, match="newer version"):
        Store(data)


def test_a_disk_that_takes_nothing_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    """Whoever is told to move a good file away because the disk is full loses what is in it."""
    data = tmp_path / "memory.db"
    Store(data).close()
    before = data.read_bytes()

    with full_disk(), pytest.raises(UnavailableStoreError, match=r"memory\.db cannot be used now") as refused:
        Store(data)

    assert "Leave the file where it is" in refused.value.cure
    assert data.read_bytes() == before


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A folder in the file's place, or a folder that may not be written, is no fault of memsync."""
    with pytest.raises(UnavailableStoreError, match="cannot be opened: Is a directory"):
        Store(tmp_path)


def test_without_a_file_nothing_is_kept() -> None:
    """Tests and rehearsals start empty."""
    with serve() as service:
        service.create(record("text"))

    with serve() as service:
        assert service.stored() == []
