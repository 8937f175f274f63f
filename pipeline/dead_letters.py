"""The dead-letter file: one JSON object a line, for people and for other programs.

The ledger holds the same letters and is what a run goes by; the file is written before the ledger, so that no
letter that the ledger counts is missing here after a crash. A line may then stand here twice: its `id` tells.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import aiofiles
import aiofiles.os

from pipeline import letters as letter_json
from pipeline.errors import StateError
from pipeline.files import make_folder, sync_folder
from pipeline.model import DeadLetter


class JsonLinesFile:
    """A `DeadLetterFile` at `path`, readable by its owner only. Lines of other sources than `source` are kept."""

    def __init__(self, path: Path, source: str) -> None:
        self.path = path
        self._source = source

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        try:
            await aiofiles.os.wrap(make_folder)(self.path.parent)
            async with aiofiles.open(self.path, "ab+", opener=_owner_only) as file:
                # A line that a crash tore apart must not swallow the next one.
                size = await file.seek(0, os.SEEK_END)
                if size:
                    await file.seek(size - 1)
                    if await file.read(1) != b"\n":
                        await file.write(b"\n")
                await file.write(_lines(letters))
                await _sync(file)
            if not size:
                await _sync_name(self.path)
        except OSError as error:
            raise self._failure(error) from error

    async def rewrite(self, letters: Sequence[DeadLetter]) -> None:
        if not letters and not await aiofiles.os.path.exists(self.path):
            return
        written = self.path.with_name(self.path.name + ".new")
        try:
            await aiofiles.os.wrap(make_folder)(self.path.parent)
            others = await self._lines_of_others()
            with suppress(FileNotFoundError):
                await aiofiles.os.remove(written)  # of a rewrite that was cut off, or whatever else bears the name
            async with aiofiles.open(written, "xb", opener=_owner_only) as file:
                await file.write(others + _lines(letters))
                await _sync(file)
            await aiofiles.os.replace(written, self.path)
            await _sync_name(self.path)
        except OSError as error:
            raise self._failure(error) from error

    async def _lines_of_others(self) -> bytes:
        if not await aiofiles.os.path.exists(self.path):
            return b""
        async with aiofiles.open(self.path, "rb", opener=_owner_only) as file:
            lines = await file.readlines()
        return b"".join(line for line in lines if _source_of(line) not in (None, self._source))

    def _failure(self, error: OSError) -> StateError:
        return StateError(
            f"The dead-letter file {self.path} could not be written: {error.strerror}. The run stopped before anything"
            " was given up on. Check the disk, its free space and the folder's permissions, then run again."
        )


def _source_of(line: bytes) -> str | None:
    """Whose letter a line is; None if it cannot be read (a crash tore it apart)."""
    try:
        return letter_json.from_json(line).source
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def _owner_only(path: str, flags: int) -> int:
    """Open a file that nobody else can read: what a link leads to, or what another user put here, is not written to.

    Raises:
        OSError: it is not such a file, or it cannot be opened.
    """
    if os.path.islink(path):  # noqa: PTH114 - said in better words than the system's "too many levels of links"
        raise PermissionError(errno.EPERM, "it is a symbolic link, which is not followed; name the file itself")
    # Without waiting for a reader, if it is a FIFO.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        _require_own(os.fstat(descriptor))
        os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_own(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(errno.EPERM, "it is not a regular file")
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user, who could read what is written to it")


def _lines(letters: Sequence[DeadLetter]) -> bytes:
    return b"".join(letter_json.to_json(letter) + b"\n" for letter in letters)


async def _sync(file: "aiofiles.threadpool.binary.AsyncBufferedIOBase") -> None:
    await file.flush()
    await aiofiles.os.wrap(os.fsync)(file.fileno())


async def _sync_name(path: Path) -> None:
    """Make the name of a new file durable: a power cut can take it, and all that was synced to the file with it."""
    await aiofiles.os.wrap(sync_folder)(path.parent)
