"""The files that hold documents are their owner's alone, whatever somebody else has put in their place."""

import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline.dead_letters import JsonLinesFile
from pipeline.errors import StateError
from pipeline.local_memory.store import Store
from pipeline.runs.parts import offload
from pipeline.state.sqlite import open_state
from tests.pipeline.test_dead_letters import SOURCE, letter

METHODS = ["append", "rewrite"]


@pytest.fixture(autouse=True)
def _no_umask() -> Iterator[None]:
    """Nothing may depend on the user's umask."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def write(path: Path, method: str) -> None:
    await getattr(JsonLinesFile(path, SOURCE), method)([letter("1")])


@pytest.mark.parametrize("method", METHODS)
async def test_dead_letters_are_for_their_owner_alone(tmp_path: Path, method: str) -> None:
    """They hold the records' text."""
    path = tmp_path / "above" / "folder" / "letters.jsonl"

    await write(path, method)

    assert [mode_of(each) for each in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]


@pytest.mark.parametrize("method", METHODS)
async def test_a_file_that_all_could_read_is_closed_to_them(tmp_path: Path, method: str) -> None:
    """Made by an editor or unpacked from a backup, it would stay open for ever."""
    path = tmp_path / "letters.jsonl"
    path.touch(mode=0o666)

    await write(path, method)

    assert mode_of(path) == 0o600


@pytest.mark.parametrize("method", METHODS)
async def test_a_link_in_place_of_the_dead_letter_file_is_not_written_through(tmp_path: Path, method: str) -> None:
    """In a shared folder anyone can put one there, and have our documents, or ruin a file of ours."""
    target, path = tmp_path / "target", tmp_path / "letters.jsonl"
    target.write_text("precious")
    path.symlink_to(target)

    with pytest.raises(StateError, match="symbolic link"):
        await write(path, method)

    assert target.read_text() == "precious"


async def test_a_link_in_place_of_the_new_dead_letter_file_is_not_written_through(tmp_path: Path) -> None:
    """A rewrite goes to a file beside it first, whose name can be guessed."""
    target, path = tmp_path / "target", tmp_path / "letters.jsonl"
    target.write_text("precious")
    path.with_name("letters.jsonl.new").symlink_to(target)

    await write(path, "rewrite")

    assert target.read_text() == "precious"
    assert not path.is_symlink()
    assert mode_of(path) == 0o600


@pytest.mark.timeout(10)
@pytest.mark.parametrize("method", METHODS)
async def test_a_pipe_in_place_of_the_dead_letter_file_is_refused(tmp_path: Path, method: str) -> None:
    """Opening it would wait for ever, and what is written to it would be gone."""
    path = tmp_path / "letters.jsonl"
    os.mkfifo(path)

    with pytest.raises(StateError, match=r"not a regular file|not seekable|No such device"):
        await write(path, method)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("method", METHODS)
async def test_a_file_of_another_user_is_not_written_to(tmp_path: Path, method: str) -> None:
    """Its owner can read all that is written to it, whatever its mode."""
    path = tmp_path / "letters.jsonl"
    path.touch()
    os.chown(path, 12345, 12345)

    with pytest.raises(StateError, match="another user"):
        await write(path, method)

    assert path.read_bytes() == b""


@pytest.mark.parametrize("line", [b"[" * 100_000, b"[]", b'"text"', b"\xff", b'{"schema": "memsync/dead-letter/1"}'])
async def test_a_line_that_is_no_letter_stops_nothing(tmp_path: Path, line: bytes) -> None:
    """The file lies where other programs can write to it."""
    path = tmp_path / "letters.jsonl"
    path.write_bytes(line + b"\n")

    await write(path, "rewrite")

    assert len(path.read_bytes().splitlines()) == 1


async def test_a_link_in_place_of_the_state_is_not_written_through(tmp_path: Path) -> None:
    """It would make a database of ours, with our documents in it, wherever its author wants one."""
    target, path = tmp_path / "target", tmp_path / "state.db"
    path.symlink_to(target)

    with pytest.raises(StateError, match="could not be used"):
        async with open_state(path, source=SOURCE, destination="memory", offload=offload):
            pass

    assert not target.exists()


async def test_the_state_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Ledger and outbox hold the records' text, and so do the files that SQLite puts beside them."""
    path = tmp_path / "above" / "folder" / "state.db"

    async with open_state(path, source=SOURCE, destination="memory", offload=offload):
        modes = {file.name: mode_of(file) for file in path.parent.iterdir()}

    assert mode_of(path.parent) == mode_of(path.parent.parent) == 0o700
    assert "state.db-wal" in modes
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(("mode", "is_refused"), [(0o777, True), (0o702, True), (0o1777, False), (0o770, False)])
async def test_a_folder_in_which_all_may_replace_files_is_refused(
    tmp_path: Path, *, mode: int, is_refused: bool
) -> None:
    """They could put an outbox of theirs there, and it would be sent; a sticky folder does not allow that."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    opened = open_state(folder / "state.db", source=SOURCE, destination="memory", offload=offload)

    with pytest.raises(StateError, match="chmod o-w") if is_refused else nullcontext():
        async with opened:
            pass

    assert (folder / "state.db").exists() is not is_refused


async def test_a_local_memory_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds all documents, readable."""
    path = tmp_path / "above" / "folder" / "memory.db"

    Store(path).close()

    assert [mode_of(each) for each in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]
