"""Tells whether a state file is the one that the last run left, or a copy: restored, or moved from elsewhere.

A copy is dangerous: the memory may have moved on since it was taken, and what the ledger does not know of would be
written a second time. A small file beside the state shows it. Its time of change is set by the operating system
alone, whatever tool copies it, and the state remembers that time: if they differ, one of the two was replaced.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.files import sync_folder


@dataclass(frozen=True, slots=True)
class Seen:
    """What the mark says: what was last written into it, and when that was, in a form that is only compared."""

    content: str
    changed_at: str


class Mark(Protocol):
    """Something beside the state that changes with it, and that no copy reproduces."""

    def read(self) -> Seen | None: ...

    def write(self, content: str) -> Seen: ...


class FileMark:
    """A `Mark` in a file, readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Seen | None:
        try:
            return Seen(self._path.read_text(), str(self._path.stat().st_ctime_ns))
        except FileNotFoundError:
            return None

    def write(self, content: str) -> Seen:
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, content.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self._path.parent)
        return Seen(content, str(self._path.stat().st_ctime_ns))
