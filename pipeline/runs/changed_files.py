"""Tells those who stay up whether the files of their sources have changed since they read them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.configuration.loading import source_files
from pipeline.configuration.source_files import FILES_MAX, extended_by
from pipeline.configuration.yaml_source import read_yaml
from pipeline.errors import ConfigurationError


class Look(NamedTuple):
    """When a file was changed, its size and which one it is."""

    modified_at_ns: int
    size: int
    inode: int


# None: it cannot be looked at. What a file extends may be missing, and come.
Snapshot = dict[Path, Look | None]


class FileLooks:
    """Looks at the sources below `paths` and at all that they extend; reads a file only when it has changed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._extended: dict[Path, tuple[Look | None, Sequence[Path]]] = {}

    def take(self) -> Snapshot:
        """What differs once a file has changed, or is new or gone; nothing, if a folder cannot be read."""
        try:
            sources = source_files(self._paths)
        except ConfigurationError:
            return {}
        snapshot: Snapshot = {}
        for source in sources:
            snapshot |= self._reached(source)
        self._extended = {file: known for file, known in self._extended.items() if file in snapshot}
        return snapshot

    def _reached(self, source: Path) -> Iterator[tuple[Path, Look | None]]:
        """The file and those that it extends, each once, as far as they can be read."""
        waiting, seen = [source], {os.path.realpath(source)}
        while waiting:
            file = waiting.pop()
            look = look_at(file)
            yield file, look
            for extended in self._extended_by(file, look):
                real_path = os.path.realpath(extended)
                if real_path not in seen and len(seen) < FILES_MAX:
                    seen.add(real_path)
                    waiting.append(extended)

    def _extended_by(self, file: Path, look: Look | None) -> Sequence[Path]:
        known = self._extended.get(file)
        if known is None or known[0] != look:
            known = self._extended[file] = look, _read_extended(file)
        return known[1]


def look_at(file: Path) -> Look | None:
    """How the file is now, or what a link of that name leads to; None: it cannot be looked at."""
    try:
        status = os.stat(file)  # noqa: PTH116 - of what a link leads to: Kubernetes changes that
    except OSError:
        return None
    return Look(status.st_mtime_ns, status.st_size, status.st_ino)


def _read_extended(file: Path) -> Sequence[Path]:
    try:
        return [path for _, path in extended_by(read_yaml(file))]
    except ConfigurationError:  # whoever reads the source tells of it; once it is mended, it looks different
        return ()
