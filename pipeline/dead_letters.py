"""The dead-letter file: one JSON object a line, for people and for other programs.

The ledger holds the same letters and is what a run goes by; the file is written before the ledger, so that no
letter that the ledger counts is missing here after a crash. A line may then stand here twice: its `id` tells.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import aiofiles
import aiofiles.os

from pipeline import letters as letter_json
from pipeline.errors import StateError
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
            await aiofiles.os.makedirs(self.path.parent, mode=0o700, exist_ok=True)
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
            await aiofiles.os.makedirs(self.path.parent, mode=0o700, exist_ok=True)
            others = await self._lines_of_others()
            async with aiofiles.open(written, "wb", opener=_owner_only) as file:
                await file.write(others + _lines(letters))
                await _sync(file)
            await aiofiles.os.replace(written, self.path)
            await _sync_name(self.path)
        except OSError as error:
            raise self._failure(error) from error

    async def _lines_of_others(self) -> bytes:
        if not await aiofiles.os.path.exists(self.path):
            return b""
        async with aiofiles.open(self.path, "rb") as file:
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
    except (KeyError, TypeError, ValueError):
        return None


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lines(letters: Sequence[DeadLetter]) -> bytes:
    return b"".join(letter_json.to_json(letter) + b"\n" for letter in letters)


async def _sync(file: "aiofiles.threadpool.binary.AsyncBufferedIOBase") -> None:
    await file.flush()
    await aiofiles.os.wrap(os.fsync)(file.fileno())


async def _sync_name(path: Path) -> None:
    """Make the name of a new file durable: a power cut can take it, and all that was synced to the file with it."""
    if os.name == "posix":  # elsewhere folders cannot be opened
        await aiofiles.os.wrap(_sync_folder)(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
