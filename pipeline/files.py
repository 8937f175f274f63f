"""What files need beside their content."""

import os
import stat
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names of what is in `folder` durable: a power cut can take a new name, and the file's content with it.

    Raises:
        OSError: it cannot be opened, or the disk failed.
    """
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make `folder`, and those that it stands in, for their owner alone; durably, if they are new.

    Raises:
        OSError: it cannot be made.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        sync_folder(each.parent)
    folder.mkdir(exist_ok=True)  # says so if it is a file


def is_open_to_all(folder: Path) -> bool:
    """Whether every user of this machine may put one file in place of another in `folder`, as a wrong `chmod` allows.

    Raises:
        OSError: it cannot be looked at.
    """
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
