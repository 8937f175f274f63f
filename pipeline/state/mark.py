"""Tells whether a state file is the one that the last run left, or a copy: restored, or moved from elsewhere.

A copy is dangerous: the memory may have moved on since it was taken, and what the ledger does not know of would be
written a second time. A small file beside the state shows it. Its time of change is set by the operating system
alone, whatever tool copies it, and the state remembers that time: if they differ, one of the two was replaced.
"""

import os
from pathlib import Path
from typing import Protocol

from pipeline.files import sync_folder


class Mark(Protocol):
    """Something beside the state that changes whenever it is put, in a way that no copy reproduces."""

    def seen(self) -> str | None:
        """How it looks now, to be compared and nothing else; None if it is not there."""
        ...

    def put(self, content: str) -> str:
        """Write `content` into it, for people; return how it looks now."""
        ...


class FileMark:
    """A `Mark` in a file, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def seen(self) -> str | None:
        try:
            return str(self._path.stat().st_ctime_ns)
        except FileNotFoundError:
            return None

    def put(self, content: str) -> str:
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, content.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self._path.parent)
        return str(self._path.stat().st_ctime_ns)
