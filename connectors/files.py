"""One file below a folder: what a listing says of it, and its content from one moment.

Apart from the connector, since it is also sent to the processes that read documents: these import little.
"""

# Names are plain strings here, not `Path` objects, which cost more than asking the file system does.
# ruff: noqa: PTH115, PTH116

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from connectors.kit.refusals import too_large
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import Document, DocumentId, DocumentRef, Fingerprint

READS_MAX = 2

# Kernels stamp files with the time of their last timer interrupt, at most 10 ms old. A time without a
# fraction may come from a file system such as FAT, which counts in steps of two seconds.
CLOCK_TICK_NS = 50_000_000
WHOLE_SECONDS_TICK_NS = 2_000_000_000

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MODIFIED_AT_MAX_US = (datetime(9999, 12, 31, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

IS_PLAIN = re.compile(r"[\w./~-]*", re.ASCII).fullmatch
TO_ESCAPE = re.compile("[\udc80-\udcff]|%(?=25|[89A-F][0-9A-F])")
ESCAPED = re.compile("%(25|[89A-F][0-9A-F])")

KINDS = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISCHR, "device"),
)


@dataclass(frozen=True, slots=True)
class FileReader:
    """Reads files below `root`, which ends with a slash.

    A larger file than `max_bytes` is not read. Links lead nowhere out of the root, and nowhere at all unless they are
    followed. `now_ns` is the time of day, by which a file is judged too young to be known by its times.
    """

    root: str
    max_bytes: int
    follows_symlinks: bool
    now_ns: Callable[[], int]
    _root_uri: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_root_uri", "file://" + _quoted(self.root))

    def read(self, ref: DocumentRef) -> Document:
        """Return the file's bytes; the document's ref has the size and times of just those bytes.

        Raises:
            UnreadableDocument, DocumentVanished: as `fetch` of a connector does.
            SourceError: the root is gone.
        """
        document = ref.id
        relative = relative_path(document)
        if relative is None:
            raise DocumentVanished(f"No file can have the id {document!r}.")
        try:
            for _ in range(READS_MAX):
                read = self._read_once(document, relative)
                if read is not None:
                    return read
        except (FileNotFoundError, NotADirectoryError) as error:
            self.identify_root()  # without its root every file is missing, and none is known to be gone
            raise DocumentVanished(f"{document!r} was listed and is not there any more.") from error
        except OSError as error:
            code = type(error).__name__
            raise UnreadableDocument(code, f"Cannot read {document!r}: {reason(error)}.") from error
        raise UnreadableDocument(
            "changed_while_read",
            f"{document!r} changed while it was read, {READS_MAX} times. The next run tries again.",
        )

    def listed(self, relative: str, status: os.stat_result, now_ns: int) -> DocumentRef:
        """What a listing at `now_ns` says of the file: not its time, which only those that are read need, and those
        without a fingerprint."""
        fingerprint = _fingerprint(status, now_ns)
        if fingerprint is None:
            uri = self._root_uri + _quoted(relative)
            return DocumentRef(document_id(relative), uri, None, status.st_size, _modified_at(status))
        if IS_PLAIN(relative):  # as most are, and then they stand everywhere as they are
            return DocumentRef(DocumentId(relative), self._root_uri + relative, fingerprint, status.st_size)
        return DocumentRef(document_id(relative), self._root_uri + _quoted(relative), fingerprint, status.st_size)

    def trace(self, ref: DocumentRef) -> str | None:
        """What the fingerprint of the file began with under another name: a new name changes its change time only."""
        if ref.fingerprint is not None:
            return ref.fingerprint[: ref.fingerprint.rindex("-") + 1]
        if ref.modified_at is None:
            return None
        return f"{ref.size_bytes}-{(ref.modified_at - EPOCH) // timedelta(microseconds=1)}"

    def identify_root(self) -> tuple[int, int]:
        """Return the root's device and inode.

        Raises:
            SourceError: it is not a folder that can be listed.
        """
        try:
            with os.scandir(self.root):
                status = os.stat(self.root)
        except OSError as error:
            raise SourceError(
                f"Cannot list the folder {self.root!r}: {reason(error)}. Nothing was concluded from that. "
                "Check `source.path` (relative to the YAML file), its permissions and that it is mounted."
            ) from error
        return status.st_dev, status.st_ino

    def may_be_read(self, relative: str, target: str) -> bool:
        """Tell whether `target`, which is where `relative` leads in the end, is a place to read from."""
        if target == self.root + relative:
            return True  # no link on the way
        root = os.path.realpath(self.root).rstrip("/") + "/"
        if self.follows_symlinks:
            return (target + "/").startswith(root)
        return target == root + relative

    def _read_once(self, document: DocumentId, relative: str) -> Document | None:
        """Return the file as it was at one moment; None if it changed meanwhile."""
        path = self.root + relative
        now_ns = self.now_ns()
        descriptor = open_without_waiting(path, os.O_RDONLY)
        try:
            before = os.fstat(descriptor)
            self._check_size_and_kind(document, before)
            # Judged by what was opened: a folder on the way may have become a link since the scan.
            if not _is_just_there(descriptor, path):
                target = os.path.realpath(path, strict=True)
                if not self.may_be_read(relative, target):
                    raise UnreadableDocument("outside_root", f"{document!r} leads out of the source's folder.")
                if not os.path.samestat(before, os.stat(target)):
                    return None
            # The byte too many shows that a file grew, without following it for as long as it does.
            content = _read(descriptor, before.st_size + 1)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if len(content) != before.st_size or _version(before) != _version(after):
            return None
        return Document(self.listed(relative, after, now_ns)._replace(modified_at=_modified_at(after)), content)

    def _check_size_and_kind(self, document: DocumentId, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableDocument("not_a_file", f"{document!r} is a {kind(status)} now, not a file.")
        if status.st_size > self.max_bytes:
            raise too_large(document, status.st_size, self.max_bytes)


# ------------------------------------------------------------------------------------------------- opening


def open_without_waiting(path: str, flags: int) -> int:
    """Open `path` even if a FIFO took the place of the file; it would wait for a writer forever."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _is_just_there(descriptor: int, path: str) -> bool:
    """Tell whether the open file is the one at `path`, with no link on the way: Linux knows, and says it at once."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == path
    except OSError:
        return False


def _read(descriptor: int, bytes_max: int) -> bytes:
    """Read to the end, or so many bytes."""
    content = os.read(descriptor, bytes_max)
    if len(content) >= bytes_max - 1:  # nearly always: all that there was
        return content
    pieces = [content]
    while content and (bytes_max := bytes_max - len(content)):
        content = os.read(descriptor, bytes_max)
        pieces.append(content)
    return b"".join(pieces)


# ------------------------------------------------------------------------------------------ what a ref says


def document_id(relative: str) -> DocumentId:
    """Return `relative` with each byte that is not UTF-8 as `%XX`.

    A percent sign becomes `%25` only where it would otherwise read as such an escape.
    """
    if relative.isascii() and "%" not in relative:
        return DocumentId(relative)
    return DocumentId(TO_ESCAPE.sub(_escape, relative))


def _escape(found: re.Match[str]) -> str:
    return f"%{os.fsencode(found[0])[0]:02X}"


def _unescape(found: re.Match[str]) -> str:
    return os.fsdecode(bytes.fromhex(found[1]))


def relative_path(document: DocumentId) -> str | None:
    """Return the path that has this id; None if there can be none."""
    try:
        relative = os.fsdecode(os.fsencode(ESCAPED.sub(_unescape, document)))
    except UnicodeEncodeError:
        return None
    if "\0" in relative or not {"", ".", ".."}.isdisjoint(relative.split("/")):
        return None
    return relative if document_id(relative) == document else None


def _quoted(path: str) -> str:
    """Return `path` as it stands in a URI."""
    return quote(path, errors="surrogateescape")


def _fingerprint(status: os.stat_result, now_ns: int) -> Fingerprint | None:
    """Return the file's size and times; None while another write could still leave all three as they are.

    The change time stands beside the modification time because no program can set it: an edit of equal length
    that restores the modification time (rsync, tar and editors do that) would go unseen.
    """
    modified_ns, changed_ns = status.st_mtime_ns, status.st_ctime_ns
    # Nearly every file is old by any measure, and needs no closer look.
    if now_ns - max(modified_ns, changed_ns) < WHOLE_SECONDS_TICK_NS and (
        _is_young(changed_ns, now_ns)
        # A modification time that lies in the future was set by hand, and the next write takes it back.
        or (modified_ns <= now_ns and _is_young(modified_ns, now_ns))
    ):
        return None
    return Fingerprint(f"{status.st_size}-{modified_ns}-{changed_ns}")


def _is_young(changed_ns: int, now_ns: int) -> bool:
    """Tell whether a write now could get the same time; git calls such a file racily clean."""
    tick_ns = WHOLE_SECONDS_TICK_NS if changed_ns % 1_000_000_000 == 0 else CLOCK_TICK_NS
    return now_ns - changed_ns < tick_ns


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _modified_at(status: os.stat_result) -> datetime:
    """Return the modification time, moved into the years 1970 to 9999 if it lies outside."""
    modified_at_us = min(max(status.st_mtime_ns // 1_000, 0), MODIFIED_AT_MAX_US)
    return EPOCH + timedelta(microseconds=modified_at_us)


# ---------------------------------------------------------------------------------------- words for trouble


def reason(error: OSError) -> str:
    """What the operating system says of it."""
    return error.strerror or type(error).__name__


def kind(status: os.stat_result) -> str:
    """What it is, if it is no file: "folder", "socket"."""
    for is_kind, name in KINDS:
        if is_kind(status.st_mode):
            return name
    return "special file"
