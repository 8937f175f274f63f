"""What files need beside their content."""

import os
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
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)
