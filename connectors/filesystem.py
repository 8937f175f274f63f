"""Documents that are files below a folder."""

# Names are plain strings here, not `Path` objects, which cost more than asking the file system does.
# ruff: noqa: PTH100, PTH116

import errno
import os
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field

from connectors.files import FileReader, document_id, kind, open_without_waiting, reason, relative_path
from connectors.patterns import PatternList, Patterns
from pipeline.errors import SourceError
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    DocumentSkipped,
    ScanComplete,
    ScanError,
    SourceEvent,
)

EVENTS_PER_LIST_MAX = 1_000  # a hop into a worker thread costs as much as looking at ten files
IGNORE_FILE_MAX_BYTES = 1024 * 1024
NAME_OF = attrgetter("name")


class FilesystemSettings(BaseModel):
    """Which files below which folder are documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["filesystem"]
    path: Path = Field(description="The folder, relative to the folder of this YAML file; `~` is the home folder.")
    include: PatternList = Field(
        default=["**/*"],
        min_length=1,
        description=(
            "Patterns of the files to take, in the language of .gitignore: `**/*.md` and `*.md` match at any "
            "depth, `/*.md` at the top only, `docs/` takes all below a folder, `!` takes out again. "
            "The last pattern that matches decides."
        ),
    )
    exclude: PatternList = Field(
        default=[],
        description="Patterns of files and folders to leave out, in the same language; they always win.",
    )
    ignore_files: list[Annotated[str, Field(pattern=r"^[^/]+$")]] = Field(
        default=[".gitignore", ".memsyncignore"],
        description=(
            "Names of files with patterns to leave out, honoured with git's rules in the folder where they "
            "stand and below it; of two in one folder the later name has the last word."
        ),
    )
    hidden: bool = Field(
        default=False,
        description="Take files and folders whose name starts with a dot. Exclude `.git/` if you have one.",
    )
    follow_symlinks: bool = Field(
        default=True,
        description="Follow symbolic links. Those that lead out of the folder are never followed.",
    )
    max_bytes: int = Field(
        default=50 * 1024 * 1024,
        gt=0,
        description="A larger file is not read; it becomes a dead letter.",
    )


class FilesystemConnector:
    """Every regular file below the root that the settings take in is a document; its path is its id.

    A file is a document under each of its names: a symbolic or hard link is a document of its own, and a
    linked folder is walked under the link's name, unless that would go round in circles. Size and times tell
    that a file is unchanged, without opening it. What is gone is what a complete scan does not list. There
    are no checkpoints: a scan is cheap and starts from the beginning.
    """

    settings_model: ClassVar[type[FilesystemSettings]] = FilesystemSettings

    def __init__(
        self,
        settings: FilesystemSettings,
        base_folder: Path,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._root = os.path.abspath(base_folder / settings.path.expanduser()).rstrip("/") + "/"
        self.document_reader = FileReader(self._root, settings.max_bytes, settings.follow_symlinks, now_ns)
        takes_everything = settings.include == ["**/*"]
        self._include = None if takes_everything else Patterns(settings.include)
        self._exclude = Patterns(settings.exclude)
        self._takes_all = takes_everything and not settings.exclude
        self._now_ns = now_ns

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the files folder by folder, in an order that depends on their names alone.

        Only the names in one folder, and those of the folders still to be walked, are held in memory.
        """
        events = self._walk()
        # Reading changes nothing, so a cancelled run need not wait for a slow disk.
        while listed := await to_thread.run_sync(_take, events, abandon_on_cancel=True):
            yield listed

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the file's bytes; the document's ref has the size and times of just those bytes."""
        return await to_thread.run_sync(self.document_reader.read, ref, abandon_on_cancel=True)

    def trace(self, ref: DocumentRef) -> str | None:
        return self.document_reader.trace(ref)

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the file as a scan would list it now; None if a scan would not."""
        return await to_thread.run_sync(self._find, document, abandon_on_cancel=True)

    @property
    def root(self) -> Path:
        """The folder whose files are documents."""
        return Path(self._root)

    def leave_out(self, patterns: Sequence[str]) -> None:
        """Exclude these as well. What is hidden needs none: it costs a question for each file."""
        if not self._settings.hidden:
            patterns = [pattern for pattern in patterns if "/." not in pattern]
        self._exclude = Patterns([*self._settings.exclude, *patterns])
        self._takes_all = self._takes_all and not patterns

    def may_take(self, relative: str) -> bool:
        """Tell whether a file at `relative` might be a document, as far as its name and the settings say."""
        if not self._settings.hidden and any(name.startswith(".") for name in relative.split("/")):
            return self._is_ignore_file(relative)
        if self._include and not self._include.last_match(relative, or_above=True):
            return self._is_ignore_file(relative)
        return not self._exclude.last_match(relative, or_above=True)

    def _is_ignore_file(self, relative: str) -> bool:
        return relative.rpartition("/")[2] in self._settings.ignore_files

    # ------------------------------------------------------------------------------------------- listing

    def _walk(self) -> Iterator[SourceEvent]:
        root_at_start = self.document_reader.identify_root()
        pending = [_Folder("")]
        while pending:
            folder = pending.pop()
            now_ns = self._now_ns()  # before any file is looked at, so that none passes for older than it is
            try:
                folder = self._with_ignore_files(folder)
                with os.scandir(self._root + folder.relative) as entries:
                    entries_by_name = sorted(entries, key=NAME_OF)
            except FileNotFoundError:
                continue  # removed since the folder above was listed
            except OSError as error:
                yield _scan_error(folder.relative, error)
                continue
            subfolders = []
            for entry in entries_by_name:
                found = self._examine(folder, entry, now_ns)
                if isinstance(found, _Folder):
                    subfolders.append(found)
                elif found is not None:
                    yield found
            pending.extend(reversed(subfolders))
        self._check_root_is_still(root_at_start)
        yield ScanComplete("")

    def _examine(self, folder: "_Folder", entry: os.DirEntry[str], now_ns: int) -> "_Found":
        """Tell what a scan makes of `entry`, one of the names in `folder`."""
        if entry.name.startswith(".") and not self._settings.hidden:
            return None
        relative = folder.relative + entry.name
        try:
            if self._takes_all and not folder.ignore_rules and entry.is_file(follow_symlinks=False):
                return self._file(relative, None, entry, now_ns)  # as nearly all are, and without a question more
            reason_to_skip = self._reason_not_to_follow(folder, entry) if entry.is_symlink() else None
            if reason_to_skip is None and entry.is_dir():
                return self._subfolder(folder, relative + "/")
            if self._leaves_out(folder, relative):
                return None
            return self._file(relative, reason_to_skip, entry, now_ns)
        except FileNotFoundError:
            return None  # removed since the folder was listed
        except OSError as error:
            return _scan_error(relative, error)

    def _subfolder(self, folder: "_Folder", relative: str) -> "_Folder | None":
        if self._exclude.last_match(relative) or folder.ignores(relative):
            return None
        return _Folder(relative, folder, folder.ignore_rules)

    def _leaves_out(self, folder: "_Folder", relative: str) -> bool:
        """Tell whether the settings or an ignore file leave out the file at `relative`."""
        if self._include and not self._include.last_match(relative, or_above=True):
            return True
        return bool(self._exclude.last_match(relative)) or folder.ignores(relative)

    def _file(
        self, relative: str, reason_to_skip: str | None, entry: os.DirEntry[str], now_ns: int
    ) -> DocumentRef | DocumentSkipped:
        if reason_to_skip is None:
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                return self.document_reader.listed(relative, status, now_ns)
            reason_to_skip = kind(status)
        return DocumentSkipped(document_id(relative), reason_to_skip)

    def _reason_not_to_follow(self, folder: "_Folder", link: os.DirEntry[str]) -> str | None:
        if not self._settings.follow_symlinks:
            return "symlink"
        try:
            target = os.path.realpath(link.path, strict=True)
        except FileNotFoundError:
            return "broken symlink"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return "symlink loop"
            raise
        if not self.document_reader.may_be_read(folder.relative + link.name, target):
            return "symlink out of the root"
        status, above = os.stat(target), folder.and_above()
        if any(os.path.samestat(status, os.stat(self._root + folder.relative)) for folder in above):
            return "symlink loop"
        return None

    def _with_ignore_files(self, folder: "_Folder") -> "_Folder":
        """Return `folder` with the rules of the ignore files in it put before those from above."""
        path = self._root + folder.relative
        lines = [line for name in self._settings.ignore_files for line in _read_lines(path + name)]
        if not lines:
            return folder
        own_rules = (folder.relative, Patterns(lines))
        return replace(folder, ignore_rules=(own_rules, *folder.ignore_rules))

    def _find(self, document: DocumentId) -> DocumentRef | None:
        root_at_start = self.document_reader.identify_root()
        found: _Found = None
        relative = relative_path(document)
        if relative is not None and not _is_missing(self._root + relative):
            now_ns = self._now_ns()
            found = _Folder("")
            for name in relative.split("/"):
                found = self._find_in(found, name, now_ns) if isinstance(found, _Folder) else found
        if isinstance(found, DocumentRef):
            return found
        if isinstance(found, ScanError):
            raise SourceError(f"Cannot tell whether {document!r} is still there. {found.message}")
        self._check_root_is_still(root_at_start)
        return None

    def _find_in(self, folder: "_Folder", name: str, now_ns: int) -> "_Found":
        """Tell what a scan makes of `name` in `folder`.

        Looked up in the listing: a file system that ignores case answers to names that it does not list.
        """
        try:
            folder = self._with_ignore_files(folder)
            with os.scandir(self._root + folder.relative) as entries:
                entry = next((entry for entry in entries if entry.name == name), None)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _scan_error(folder.relative, error)
        return entry and self._examine(folder, entry, now_ns)

    def _check_root_is_still(self, root_at_start: tuple[int, int]) -> None:
        if self.document_reader.identify_root() != root_at_start:
            raise SourceError(
                f"The folder {self._root!r} was replaced by another one while it was listed. "
                "Nothing was concluded from what is missing; the next run lists it again."
            )


# ------------------------------------------------------------------------------------------------ folders


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder below the root, with the ignore rules that hold in it.

    `relative` ends with a slash, or is empty for the root. Each rule goes with the path of the folder that
    its patterns start from; the nearest folder comes first.
    """

    relative: str
    parent: "_Folder | None" = None
    ignore_rules: tuple[tuple[str, Patterns], ...] = ()

    def ignores(self, path: str) -> bool:
        for base, patterns in self.ignore_rules:
            answer = patterns.last_match(path[len(base) :])
            if answer is not None:
                return answer
        return False

    def and_above(self) -> "Iterator[_Folder]":
        folder: _Folder | None = self
        while folder is not None:
            yield folder
            folder = folder.parent


# What an entry of a folder is to a scan: a folder to walk, an event, or None if it is left out.
_Found = _Folder | DocumentRef | DocumentSkipped | ScanError | None


def _read_lines(path: str) -> list[str]:
    """Return the lines of an ignore file, none if there is no such file."""
    try:
        with open(path, "rb", opener=open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return []
            text = file.read(IGNORE_FILE_MAX_BYTES).decode("utf-8-sig", errors="surrogateescape")
    except (FileNotFoundError, IsADirectoryError):
        return []
    return text.split("\n")


def _take(events: Iterator[SourceEvent]) -> list[SourceEvent]:
    return list(islice(events, EVENTS_PER_LIST_MAX))


def _is_missing(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # the listing will tell
    return False


# ---------------------------------------------------------------------------------------- words for trouble


def _scan_error(relative: str, error: OSError) -> ScanError:
    """Return the event for a folder (`relative` ends with a slash) or file that could not be looked at."""
    scope = document_id(relative)
    message = f"Cannot look at {scope!r}: {reason(error)}. What is known below it was left alone."
    return ScanError(scope, type(error).__name__, message)
