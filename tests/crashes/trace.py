"""What a run did to its files and when it sent: the system calls of a process, read from a trace of strace."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS_TRACED = (
    "openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,lseek,"
    "write,writev,pwrite64,pwritev,ftruncate,truncate,fallocate,copy_file_range,sendfile,"
    "fsync,fdatasync,sync_file_range,msync,close,sendto,sendmsg"
)
OPTIONS = ("-f", "-y", "-xx", "-s", "16000000", f"--trace={CALLS_TRACED}")

_WHOLE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_UNFINISHED = " <unfinished ...>"
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(-?\d+|AT_FDCWD)<([^>]*)>")


@dataclass(frozen=True, slots=True)
class Made:
    """A new name: of an empty file, or of a folder."""

    path: Path
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    path: Path
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """The file ends at `size` bytes now."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Renamed:
    path: Path
    to: Path


@dataclass(frozen=True, slots=True)
class Removed:
    path: Path


@dataclass(frozen=True, slots=True)
class Synced:
    """A file's content, or a folder's names, are on the disk from now on."""

    path: Path


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes left through a socket."""

    data: bytes


Event = Made | Written | Cut | Renamed | Removed | Synced | Sent


@dataclass(slots=True)
class _Descriptor:
    path: Path
    appends: bool
    place: int = 0


@dataclass(slots=True)
class TraceReader:
    """Turns lines of strace into events, of files below `root` and of sockets. `sizes` are the files' at the start.

    A call counts from its end: until then, nobody can rely on it.
    """

    root: Path
    sizes: dict[Path, int]
    _begun: dict[str, str] = field(default_factory=dict)
    _descriptors: dict[int, _Descriptor] = field(default_factory=dict)

    def events(self, lines: Iterable[str]) -> Iterator[Event]:
        for line in lines:
            thread, _, call = line.rstrip("\n").partition(" ")
            call = call.strip()
            if call.endswith(_UNFINISHED):
                self._begun[thread] = call.removesuffix(_UNFINISHED)
                continue
            if resumed := _RESUMED.fullmatch(call):
                call = self._begun.pop(thread) + resumed[1]
            whole = _WHOLE.match(call)
            if whole and int(whole[3]) >= 0:
                yield from self._events(whole[1], whole[2], int(whole[3]))

    def _events(self, call: str, arguments: str, result: int) -> Iterator[Event]:
        strings = [bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(arguments)]
        if call in ("sendto", "sendmsg", "writev") and "ocket:" in _descriptor(arguments)[1]:
            if len(data := b"".join(strings)) > 1:  # a single byte wakes up the event loop of the process itself
                yield Sent(data)
        elif call in ("openat", "creat"):
            yield from self._opened(self._path(strings[0]), arguments, result)
        elif call in ("mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat", "renameat2"):
            paths = [self._path(string) for string in strings]
            if self._is_ours(paths[0]):
                yield from self._named(call, paths)
        else:
            number, name = _descriptor(arguments)
            path = Path(name.removesuffix("(deleted)"))
            if self._is_ours(path):
                yield from self._changed(call, number, path, arguments, strings, result)

    def _opened(self, path: Path, arguments: str, result: int) -> Iterator[Event]:
        if not self._is_ours(path):
            return
        number = int(result)
        self._descriptors[number] = _Descriptor(path, "O_APPEND" in arguments)
        if "O_CREAT" in arguments and path not in self.sizes:
            self.sizes[path] = 0
            yield Made(path)
        elif "O_TRUNC" in arguments and self.sizes[path]:
            self.sizes[path] = 0
            yield Cut(path, 0)

    def _named(self, call: str, paths: list[Path]) -> Iterator[Event]:
        if call.startswith("mkdir"):
            yield Made(paths[0], is_folder=True)
        elif call.startswith("unlink"):
            self.sizes.pop(paths[0], None)
            yield Removed(paths[0])
        else:
            self.sizes[paths[1]] = self.sizes.pop(paths[0])
            yield Renamed(*paths)

    def _changed(
        self, call: str, number: int, path: Path, arguments: str, strings: list[bytes], result: int
    ) -> Iterator[Event]:
        match call:
            case "fsync" | "fdatasync":
                yield Synced(path)
            case "ftruncate":
                self.sizes[path] = int(arguments.rsplit(", ", 1)[1])
                yield Cut(path, self.sizes[path])
            case "pwrite64":
                yield self._written(path, int(arguments.rsplit(", ", 1)[1]), strings[0][:result])
            case "write":
                descriptor = self._descriptors[number]
                offset = self.sizes[path] if descriptor.appends else descriptor.place
                descriptor.place = offset + result
                yield self._written(path, offset, strings[0][:result])
            case "lseek":
                if number in self._descriptors:
                    self._descriptors[number].place = result
            case "close":
                self._descriptors.pop(number, None)
            case _:
                raise NotImplementedError(f"the model of the disk does not know {call}, called for {path}")

    def _written(self, path: Path, offset: int, data: bytes) -> Written:
        self.sizes[path] = max(self.sizes[path], offset + len(data))
        return Written(path, offset, data)

    def _path(self, name: bytes) -> Path:
        return self.root / name.decode(errors="surrogateescape")  # relative ones are the folder's that memsync runs in

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self.root)


def _descriptor(arguments: str) -> tuple[int, str]:
    """The number of the file descriptor that comes first, and what it leads to."""
    found = _DESCRIPTOR.match(arguments)
    if found is None or found[1] == "AT_FDCWD":
        return -1, ""
    name = found[2]
    if "\\x" in name:
        name = bytes.fromhex("".join(re.findall(r"\\x([0-9a-f]{2})", name))).decode(errors="surrogateescape")
    return int(found[1]), name
