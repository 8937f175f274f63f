"""A disk that loses power: what was synced is on it, of all else any part may be.

What POSIX allows, not what one file system does: of a file's writes and truncations since its last sync, each may
have been kept, lost or torn between sectors, in any order; of a folder's new, renamed and removed names since its
last sync, each may be there or not. Writing back, a disk may hold them all as well.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.crashes.trace import Cut, Event, Made, Removed, Renamed, Sent, Synced, Written

SECTORS_BYTES = (512, 4096)

Luck = Literal["all", "none", "chance"]  # of what is kept that was not synced


@dataclass(slots=True, eq=False)
class File:
    synced: bytes = b""
    waiting: list[Written | Cut] = field(default_factory=list)

    def left(self, luck: Luck, rng: random.Random) -> bytes:
        content = bytearray(self.synced)
        for change in self.waiting:
            fate = rng.choice(("kept", "lost", "torn")) if luck == "chance" else luck
            if fate in ("kept", "all"):
                _apply(content, change)
            elif fate == "torn" and isinstance(change, Written):
                for piece in _some_sectors(change, rng):
                    _apply(content, piece)
        return bytes(content)

    def sync(self) -> None:
        content = bytearray(self.synced)
        for change in self.waiting:
            _apply(content, change)
        self.synced = bytes(content)
        self.waiting.clear()


@dataclass(slots=True, eq=False)
class Folder:
    """`waiting` are steps that happen whole or not at all: which name leads to what from then on, or to nothing."""

    synced: dict[str, "Node"] = field(default_factory=dict)
    names: dict[str, "Node"] = field(default_factory=dict)  # as programs see it
    waiting: list[dict[str, "Node | None"]] = field(default_factory=list)

    def change(self, step: dict[str, "Node | None"]) -> None:
        _rename(self.names, step)
        self.waiting.append(step)

    def left(self, luck: Luck, rng: random.Random) -> dict[str, "Node"]:
        names = dict(self.synced)
        for step in self.waiting:
            if luck == "all" or (luck == "chance" and rng.random() < 0.5):
                _rename(names, step)
        return names

    def sync(self) -> None:
        self.synced = dict(self.names)
        self.waiting.clear()


Node = File | Folder


@dataclass(slots=True)
class Disk:
    """All below `root`; what is there at the start has long been synced."""

    root: Path
    top: Folder = field(default_factory=Folder)

    @classmethod
    def holding(cls, root: Path, files: Mapping[Path, bytes | None]) -> "Disk":
        """A disk with `files`, by path relative to `root`; None stands for a folder."""
        top = Folder()
        for path, content in files.items():
            folder = top
            for name in path.parts[:-1]:
                inner = folder.names.setdefault(name, Folder())
                assert isinstance(inner, Folder)
                folder = inner
            if content is not None:
                folder.names[path.name] = File(content)
            else:
                folder.names.setdefault(path.name, Folder())
        _sync_all(top)
        return cls(root, top)

    def sizes(self) -> dict[Path, int]:
        return {path: len(node.synced) for path, node in _files(self.root, self.top, lambda folder: folder.names)}

    def happen(self, event: Event) -> None:
        match event:
            case Made(path, is_folder):
                self._parent(path).change({path.name: Folder() if is_folder else File()})
            case Removed(path):
                self._parent(path).change({path.name: None})
            case Renamed(path, to):
                assert path.parent == to.parent, "a move between folders is not modelled"
                folder = self._parent(path)
                folder.change({path.name: None, to.name: folder.names[path.name]})
            case Written(path) | Cut(path):
                file = self._node(path)
                assert isinstance(file, File)
                file.waiting.append(event)
            case Synced(path):
                self._node(path).sync()
            case Sent():
                pass

    def after_power_cut(self, luck: Luck, rng: random.Random) -> dict[Path, bytes]:
        """The files, by path relative to `root`, that somebody may find when the power is back."""
        found = _files(Path(), self.top, lambda folder: folder.left(luck, rng))
        return {path: file.left(luck, rng) for path, file in found}

    def _parent(self, path: Path) -> Folder:
        folder = self._node(path.parent)
        assert isinstance(folder, Folder)
        return folder

    def _node(self, path: Path) -> Node:
        node: Node = self.top
        for name in path.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            node = node.names[name]
        return node


def _sync_all(folder: Folder) -> None:
    folder.sync()
    for node in folder.names.values():
        if isinstance(node, Folder):
            _sync_all(node)


def _files(path: Path, folder: Folder, names: Callable[[Folder], dict[str, Node]]) -> Iterator[tuple[Path, File]]:
    for name, node in names(folder).items():
        if isinstance(node, Folder):
            yield from _files(path / name, node, names)
        else:
            yield path / name, node


def _rename(names: dict[str, Node], step: dict[str, Node | None]) -> None:
    for name, node in step.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _some_sectors(change: Written, rng: random.Random) -> Iterator[Written]:
    """Parts of a write: each sector of the disk that it touches was reached, or not."""
    sector_bytes = rng.choice(SECTORS_BYTES)
    begin, end = change.offset, change.offset + len(change.data)
    while begin < end:
        until = min(end, (begin // sector_bytes + 1) * sector_bytes)
        if rng.random() < 0.5:
            yield Written(change.path, begin, change.data[begin - change.offset : until - change.offset])
        begin = until


def _apply(content: bytearray, change: Written | Cut) -> None:
    """Do what was called for; what lies between the end and a later place reads as zeros."""
    match change:
        case Cut(_, size):
            del content[size:]
            content.extend(bytes(size - len(content)))
        case Written(_, offset, data):
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
