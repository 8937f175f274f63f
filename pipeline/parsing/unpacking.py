"""Compressed files and archives: what is in them, within limits. Nothing is ever written to a disk."""

import bz2
import gzip
import importlib
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, cast

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.parsing.decoding import clean
from pipeline.parsing.media_types import reason_to_leave_out, without_compression, zstd_library
from pipeline.parsing.readings import Content, Member, Reading, UnpackingLimits

RATIO_MAX = 200  # of what comes out to what went in; text that a program wrote a thousand times over stays below
RATIO_COUNTS_FROM_BYTES = 10 * 1024**2
BLOCK_BYTES = 256 * 1024

# What the libraries raise for broken content; zipfile and tarfile know more ways than their documentation.
_FAULTS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
)
ZSTD_NEEDS = "needs: pip install backports.zstd"
_ZSTD_START = b"\x28\xb5\x2f\xfd"
_UNWANTED = ("__MACOSX/",)


def _open_zstd(stream: IO[bytes]) -> IO[bytes]:
    library = zstd_library()
    if library is None:
        raise UnsupportedDocument(f"unsupported type .zst ({ZSTD_NEEDS})")
    return cast("IO[bytes]", importlib.import_module(library).open(stream))


_OPEN_BY_START: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda stream: cast("IO[bytes]", gzip.GzipFile(fileobj=stream)),
    b"BZh": lambda stream: cast("IO[bytes]", bz2.BZ2File(stream)),
    b"\xfd7zXZ\0": lambda stream: cast("IO[bytes]", lzma.LZMAFile(stream)),  # noqa: SIM115 - closed by the caller
    _ZSTD_START: _open_zstd,
}


def decompress(content: Content, limits: UnpackingLimits) -> Reading:
    """The file that was compressed, under its name without the last suffix.

    Raises:
        UnreadableDocument: it is broken, or more comes out than may.
        UnsupportedDocument: there is no library for it.
    """
    opened = next((opener for start, opener in _OPEN_BY_START.items() if content.data.startswith(start)), None)
    if opened is None:
        raise UnreadableDocument("broken_archive", "it is not compressed in a way that its first bytes tell")
    budget = _Budget(limits.bytes_max)
    library = zstd_library() if opened is _open_zstd else None
    faults = (*_FAULTS, importlib.import_module(library).ZstdError) if library else _FAULTS
    try:
        with opened(io.BytesIO(content.data)) as stream:
            data = budget.take(stream, len(content.data))
    except _Bomb as error:
        raise UnreadableDocument("too_large", str(error)) from error
    except faults as error:
        raise _broken(error) from error
    return Reading(members=[Member(Content(without_compression(content.name), data))], is_wrapped=True)


def unpack_zip(data: bytes, limits: UnpackingLimits) -> Reading:
    """
    Raises:
        UnreadableDocument: it is broken, or more comes out of it than may.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _require_few(len(entries), limits)
            _require_all_listed(data, len(entries))
            budget = _Budget(limits.bytes_max)
            members = [
                _zip_member(archive, entry, budget)
                for entry in entries
                if not entry.is_dir() and not entry.filename.startswith(_UNWANTED)
            ]
    except _FAULTS as error:
        raise _broken(error) from error
    return Reading(members=members)


def _zip_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: "_Budget") -> Member:
    name = member_name(entry.filename)
    modified_at = None
    with suppress(ValueError):
        modified_at = datetime(*entry.date_time, tzinfo=UTC)
    empty = Content(name, b"")
    if entry.create_system == 3 and stat.S_ISLNK(entry.external_attr >> 16):  # made on Unix
        return Member(empty, left_out="link in an archive")
    if reason := reason_to_leave_out(name):
        return Member(empty, left_out=reason)
    if entry.flag_bits & 0x1:
        return Member(empty, left_out="encrypted file in an archive")
    try:
        with archive.open(entry) as stream:
            return Member(Content(name, budget.take(stream, entry.compress_size)), modified_at)
    except _Bomb as error:
        return Member(empty, problem=("too_large", str(error)))
    except _FAULTS as error:
        broken = _broken(error)
        return Member(empty, problem=(broken.code, str(broken)))


def unpack_tar(data: bytes, limits: UnpackingLimits) -> Reading:
    """
    Raises:
        UnreadableDocument: it is broken, or has more in it than may be.
    """
    members = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            budget = _Budget(limits.bytes_max)
            for count, entry in enumerate(archive, start=1):
                _require_few(count, limits)
                if not entry.isdir():
                    members.append(_tar_member(archive, entry, budget))
            _require_end(data, archive.offset)
    except _FAULTS as error:
        raise _broken(error) from error
    return Reading(members=members)


def _tar_member(archive: tarfile.TarFile, entry: tarfile.TarInfo, budget: "_Budget") -> Member:
    name = member_name(entry.name)
    empty = Content(name, b"")
    if not entry.isreg():
        kind = "link" if entry.issym() or entry.islnk() else "device"
        return Member(empty, left_out=f"{kind} in an archive")
    if reason := reason_to_leave_out(name):
        return Member(empty, left_out=reason)
    modified_at = None
    with suppress(ValueError, OverflowError, OSError):
        modified_at = datetime.fromtimestamp(entry.mtime, UTC)
    stream = archive.extractfile(entry)
    assert stream is not None, "a regular file has a content"
    with stream:
        data = budget.take(stream, entry.size)
    if len(data) < entry.size:
        return Member(empty, problem=("broken_archive", "the archive ends in the middle of this file"))
    return Member(Content(name, data), modified_at)


def member_name(path: str) -> str:
    """The path of a file in an archive as a part of a document's id: no way out, no `#`."""
    steps = [step for step in clean(path).replace("\\", "/").split("/") if step.strip() not in ("", ".", "..")]
    return "/".join(steps).replace("\n", " ").replace("\t", " ") or "file"


class _Bomb(Exception):
    """A small content unpacks to a large one."""


class _Budget:
    """How many bytes may still come out."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, stream: IO[bytes], packed_bytes: int) -> bytes:
        """All of `stream`.

        Raises:
            UnreadableDocument: that is too much.
            _Bomb: it is, for what it was packed in.
        """
        taken = bytearray()
        allowed = max(RATIO_MAX * packed_bytes, RATIO_COUNTS_FROM_BYTES)
        for block in _blocks(stream):
            taken += block
            self._left -= len(block)
            if self._left < 0:
                raise UnreadableDocument(
                    "too_large",
                    "more comes out of it than may; `parsing.limits.unpacked_bytes` allows more",
                )
            if len(taken) > allowed:
                raise _Bomb(f"it unpacks to more than {RATIO_MAX} times its size")
        return bytes(taken)


_ZIP_END = b"PK\5\6"
_ENTRIES_COUNT = struct.Struct("<10xH")  # in the record at the end
_MANY = 0xFFFF  # or more


def _require_all_listed(data: bytes, count: int) -> None:
    """The library takes a list that was cut short for a short list; what is not in it would be deleted.

    Raises:
        UnreadableDocument: the end of the archive tells of another number of entries.
    """
    end = data.rfind(_ZIP_END)
    (told,) = _ENTRIES_COUNT.unpack_from(data, end) if 0 <= end <= len(data) - _ENTRIES_COUNT.size else (0,)
    if told not in (count, _MANY):
        raise UnreadableDocument("broken_archive", f"the archive tells of {told:,} entries and lists {count:,}")


def _require_end(data: bytes, position: int) -> None:
    """The library takes a broken entry for the end, unless it is the first.

    Raises:
        UnreadableDocument: what is at `position` is not the end, which is zeros and nothing else.
    """
    left = len(data) - position
    if left < tarfile.BLOCKSIZE or data.count(0, position) < left:
        raise UnreadableDocument("broken_archive", "the archive is cut off, or broken in the middle")


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := stream.read(BLOCK_BYTES):
        yield block


def _require_few(count: int, limits: UnpackingLimits) -> None:
    if count > limits.entries_max:
        raise UnreadableDocument(
            "too_many_entries",
            f"the archive has more than {limits.entries_max:,} entries; `parsing.limits.entries` allows more",
        )


def _broken(error: Exception) -> UnreadableDocument:
    return UnreadableDocument("broken_archive", f"it cannot be unpacked ({type(error).__name__}): it may be cut off")
