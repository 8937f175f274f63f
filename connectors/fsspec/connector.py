"""Documents that are files on any file system that fsspec knows: WebDAV, SFTP, SMB, Google's and Azure's storage ..."""

import os
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.files import document_id, relative_path
from connectors.fsspec.file_systems import (
    BROKEN_OFF,
    FILE,
    FOLDER,
    LINK,
    PROTOCOLS,
    SAYS_NOTHING,
    Entry,
    Fault,
    FileSystem,
    open_file_system,
)
from connectors.fsspec.share import ATTEMPTS_MAX, Listing, Share
from connectors.kit.budget import ErrorBudget
from connectors.kit.packages import extra_for
from connectors.kit.refusals import too_large
from connectors.kit.secrets import from_environment
from connectors.patterns import PatternList, Patterns
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument, UnsupportedDocument, ungrouped
from pipeline.hosts import is_loopback
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    DocumentSkipped,
    Fingerprint,
    ScanComplete,
    ScanError,
    SourceEvent,
)
from pipeline.references import plain_part

EVENTS_PER_LIST_MAX = 1_000
DEPTH_MAX = 64  # folders within each other

# A file that was changed this short a time before it was listed could be changed again unseen: times have whole
# seconds, and clocks differ.
YOUNG_S = 60.0

CHANGED, LOOP = "changed_while_read", "looping_folders"

# What is read by another type of source, or is no place to read from.
BETTER_READ = {
    "file": "`type: filesystem` reads local files",
    "local": "`type: filesystem` reads local files",
    "s3": "`type: s3` reads S3",
    "s3a": "`type: s3` reads S3",
    "git": "`type: git` reads git repositories",
    "http": "the links of a web page are no listing of a folder",
    "https": "the links of a web page are no listing of a folder; WebDAV is `webdav+https://`",
    "webdav": "WebDAV is `webdav+https://HOST/PATH`",
    "webdavs": "WebDAV is `webdav+https://HOST/PATH`",
    "dav": "WebDAV is `webdav+https://HOST/PATH`",
    "davs": "WebDAV is `webdav+https://HOST/PATH`",
}
NO_PLACES = {
    "arrow_hdfs", "async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "dask", "data", "dir", "dvc",
    "filecache", "generic", "hdfs", "jlab", "jupyter", "libarchive", "pyscript", "reference", "root", "simplecache",
    "tar", "zip",
}  # fmt: skip
UNENCRYPTED = {"ftp", "webdav+http", "webhdfs"}

MODULES_BY_EXTRA = {
    "azure": ("adlfs",), "files": ("fsspec",), "gcs": ("gcsfs",), "hf": ("huggingface_hub",), "sftp": ("sshfs",),
    "smb": ("fsspec", "smbclient"), "webdav": ("fsspec", "webdav4"),
}  # fmt: skip

# What would run a program, read programs to run from a file, or make a client of other code.
FORBIDDEN_OPTIONS = {
    "client", "client_factory", "config", "event_hooks", "follow_redirects", "fs", "get_client", "http_client",
    "pool_type", "proxy_command", "skip_instance_cache", "transport", "use_listings_cache",
}  # fmt: skip
_SECRET_OPTION = re.compile(
    r"passw|passphrase|pwd|secret|token|(account|access|api|shared).?key|connection_string|sas_"
)
_NO_SECRETS = {"anon", "browser", "cache", "cloud", "google_default"}  # as a `token` for gcsfs


class FsspecSettings(BaseModel):
    """Which files below which folder of which file system are documents."""

    # What is refused may hold a password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["fsspec"]
    url: str = Field(
        description=(
            "The folder: `webdav+https://HOST/PATH`, `sftp://USER@HOST/PATH`, `smb://USER@HOST/SHARE/PATH`, "
            "`ftp://HOST/PATH`, `gs://BUCKET/PATH`, `abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`, or what else "
            "fsspec knows. Never with a password."
        )
    )
    options: dict[str, Any] = Field(
        default={},
        description=(
            "What the file system's own class is told beside the URL, by its names: `{username: reader, port: 2022}`. "
            "Never a password, but by reference: `{password: ${env:NAME}}`."
        ),
    )
    option_variables: dict[str, str] = Field(
        default={},
        description=(
            "Options that stand in environment variables, by their names: `{password: SFTP_PASSWORD}`; for secrets."
        ),
    )
    include: PatternList = Field(
        default=["**/*"],
        min_length=1,
        description=(
            "Patterns of the files to take, by their path below the folder, in the language of .gitignore; the last "
            "that matches decides."
        ),
    )
    exclude: PatternList = Field(default=[], description="Patterns of files and folders to leave out; they always win.")
    max_bytes: int = Field(
        default=50 * 1024 * 1024, gt=0, description="A larger file is not read; it becomes a dead letter."
    )
    timeout_s: float = Field(
        default=120.0, gt=0, description="After how many seconds the listing of a folder or a file is given up."
    )
    allow_unencrypted: bool = Field(
        default=False, description="Permit a protocol without encryption (FTP, HTTP) to another machine."
    )

    # Of the model and not of the fields, whose faults would be told with their values.
    @model_validator(mode="after")
    def _is_a_place(self) -> "FsspecSettings":
        try:
            parts = urlsplit(self.url)
            has_password = parts.password is not None
        except ValueError:
            raise ValueError("`url` is no URL") from None
        protocol, slashes, _ = self.url.partition("://")
        if not slashes or not self.url.isprintable() or not re.fullmatch(r"[a-z][a-z0-9+]*", protocol):
            raise ValueError("`url` should be PROTOCOL://PATH, such as sftp://USER@HOST/PATH")
        if "::" in self.url or protocol in NO_PLACES:
            raise ValueError("`url` should name a place to read from, not what fsspec makes of another one")
        if protocol in BETTER_READ:
            raise ValueError(f"`url` is not for {protocol}://: {BETTER_READ[protocol]}")
        if has_password and protocol != "github":  # where it is the name of the repository
            raise ValueError(
                "a password must not stand in `url`; put a reference to it into `options`, such as "
                "`options: {password: ${env:NAME}}`"
            )
        if parts.query or parts.fragment:
            raise ValueError("`url` should have nothing behind `?` or `#`")
        is_open = protocol in UNENCRYPTED and not self.options.get("tls")
        if is_open and not is_loopback(parts.hostname) and not self.allow_unencrypted:
            raise ValueError(
                f"{protocol}:// is not encrypted; `allow_unencrypted: true` permits reading documents, and sending "
                "passwords, that way"
            )
        return self

    @model_validator(mode="after")
    def _has_no_secret_or_program(self) -> "FsspecSettings":
        for name in (*self.options, *self.option_variables):
            if name in FORBIDDEN_OPTIONS:
                raise ValueError(f"`options` must not have {name!r}: it is memsync's, or would run something else")
        for name, value in self.options.items():
            if not _is_plain(value):
                raise ValueError(f"`options.{name}` should be text, a number, yes or no, or a list or mapping of those")
            if name == "verify" and value is False:
                raise ValueError("`options.verify` must not be false; it can name a file with the server's certificate")
            if name == "tls" and value not in (True, False):
                raise ValueError("`options.tls` should be true or false")
            if _SECRET_OPTION.search(name.lower()) and not _is_public(value):
                raise ValueError(
                    f"`options.{name}` looks like a secret; put a reference there, such as ${{env:NAME}}, or the name "
                    f"of an environment variable into `option_variables.{name}`"
                )
        return self


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    return value is None or isinstance(value, str | int | float | bool)


def _is_public(value: object) -> bool:
    if isinstance(value, str):
        written = plain_part(value)
        return written in _NO_SECRETS or written == "" or written.endswith(".json")
    return value is None or isinstance(value, bool)


class FsspecConnector:
    """Every file below the root that the settings take in is a document; its path is its id.

    What tells that a file is unchanged is the strongest that its file system says in a listing: a hash or the number
    of a write, else size and time, if that is not too young for another write to share it, else nothing: then it is
    read in each run. What is gone is what a listing of its folder does not show, and another one either. There are no
    checkpoints.

    Folders are listed one by one, never as a tree: only so does every error come through. Symbolic links are counted
    and left out. Folders that lie within themselves, as on servers that follow links, are an error.
    """

    settings_model: ClassVar[type[FsspecSettings]] = FsspecSettings

    @staticmethod
    def missing_packages(settings: FsspecSettings) -> Sequence[str]:
        """The library that speaks the protocol, as far as we know it."""
        extra = PROTOCOLS.get(settings.url.partition("://")[0], FileSystem).extra
        return extra_for(extra, *MODULES_BY_EXTRA[extra])

    def __init__(
        self,
        settings: FsspecSettings,
        base_folder: Path,  # noqa: ARG002 - nothing is relative to it
        *,
        now: Callable[[], float] = time.time,
        opener: Callable[[str, Mapping[str, Any], float], FileSystem] = open_file_system,
    ) -> None:
        self._settings = settings
        self._include = None if settings.include == ["**/*"] else Patterns(settings.include)
        self._exclude = Patterns(settings.exclude)
        self._now = now
        self._url = settings.url.rstrip("/") + "/"
        self._budget = ErrorBudget(f"The file system {settings.url}")
        self._kind = PROTOCOLS.get(settings.url.partition("://")[0], FileSystem)
        self._share = Share(
            f"The folder {settings.url}",
            lambda: opener(settings.url, {**settings.options, **self._from_environment()}, settings.timeout_s),
            calls_at_once=self._kind.calls_at_once,
            is_frank=self._kind.is_frank,
            timeout_s=settings.timeout_s,
            secrets=lambda: list(filter(None, map(os.environ.get, settings.option_variables.values()))),
        )

    async def aclose(self) -> None:
        """Let go of the connection. It is opened again if more is asked for."""
        await self._share.aclose()

    def _from_environment(self) -> dict[str, str]:
        named = self._settings.option_variables.items()
        return {option: from_environment(f"option_variables.{option}", variable) for option, variable in named}

    # ------------------------------------------------------------------------------------------- listing

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the files folder by folder, in an order that depends on their names alone.

        Only what lies in the folders that are being listed, and the names of those still to be, is held in memory.
        """
        self._share.forget()
        events: list[SourceEvent] = []
        pending = [_Folder("")]
        while pending:
            now = self._now()  # before any is listed, so that no file passes for older than it is
            folders = [pending.pop() for _ in range(min(self._kind.calls_at_once, len(pending)))]
            below: list[_Folder] = []
            for folder, listed in zip(folders, await self._list(folders), strict=True):
                if isinstance(listed, ScanError):
                    events.append(listed)
                elif listed is not None:
                    events.extend(self._events(folder, listed, now))
                    below.extend(self._below(folder, listed))
                while len(events) >= EVENTS_PER_LIST_MAX:
                    yield events[:EVENTS_PER_LIST_MAX]
                    events = events[EVENTS_PER_LIST_MAX:]
            pending.extend(reversed(below))
        if events:
            yield events
        yield [ScanComplete("")]

    async def _list(self, folders: "Sequence[_Folder]") -> "list[Listing | ScanError | None]":
        """The listing of each, what keeps it from being listed, or None if it is gone."""
        listings: list[Listing | ScanError | None] = [None] * len(folders)

        async def list_one(position: int) -> None:
            listings[position] = await self._list_one(folders[position])

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for position in range(len(folders)):
                    tasks.start_soon(list_one, position)
        return listings

    async def _list_one(self, folder: "_Folder") -> "Listing | ScanError | None":
        path = folder.path
        try:
            listing = await self._share.listing(path)
        except Fault as fault:
            if not path:
                raise self._share.unreadable(fault) from fault
            if fault.code in SAYS_NOTHING:
                await self._share.require_root()
            if await self._is_gone(path):
                return None
            return _scan_error(path, fault)
        folder.look = _look(listing)
        if folder.is_within_itself():
            words = "it lies within itself, as through a link on the server; leave it out with `source.exclude`"
            return _scan_error(path, Fault(LOOP, words))
        return listing

    async def _is_gone(self, folder: str) -> bool:
        """Whether a folder that was listed, and cannot be, is not there any more."""
        try:
            return await self._share.entry(folder) is None
        except Fault:
            return False

    def _events(self, folder: "_Folder", listing: Listing, now: float) -> Iterator[SourceEvent]:
        """What a scan says of the files that lie in `folder` itself."""
        for name in sorted(listing):
            path, entry = folder.path + name, listing[name]
            if entry.kind == FOLDER or self._leaves_out(path):
                continue
            if entry.kind == FILE:
                yield self._ref(path, entry, now)
            else:
                yield DocumentSkipped(document_id(path), "symlink" if entry.kind == LINK else "special file")

    def _below(self, folder: "_Folder", listing: Listing) -> Iterator["_Folder"]:
        for name in sorted(listing):
            path = folder.path + name
            if listing[name].kind == FOLDER and self._enters(path):
                yield _Folder(path, folder)

    def _enters(self, folder: str) -> bool:
        return not self._exclude.last_match(folder)

    def _leaves_out(self, path: str) -> bool:
        if self._include and not self._include.last_match(path, or_above=True):
            return True
        return bool(self._exclude.last_match(path))

    def _ref(self, path: str, entry: Entry, now: float) -> DocumentRef:
        uri = self._url + quote(path, errors="surrogateescape")
        fingerprint = Fingerprint(entry.version) if _tells_changes(entry, now) and entry.version else None
        return DocumentRef(document_id(path), uri, fingerprint, entry.size, entry.modified_at)

    def trace(self, ref: DocumentRef) -> str | None:
        """A hash; or size and time, without the tag that a new name may change."""
        if self._kind.signs.content:
            return ref.fingerprint
        if ref.fingerprint is not None:
            return "-".join(ref.fingerprint.split("-", 2)[:2]) + "-"
        return None if ref.modified_at is None else f"{ref.size_bytes}-{ref.modified_at.timestamp():.6f}-"

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the file as a scan would list it now; None if a scan would not."""
        path = relative_path(document)
        if path is None or self._leaves_out(path) or not all(map(self._enters, _folders_above(path))):
            return None
        now = self._now()
        try:
            entry = await self._share.entry(path)
        except Fault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault
        return self._ref(path, entry, now) if entry is not None and entry.kind == FILE else None

    # ------------------------------------------------------------------------------------------ fetching

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the file's content; the document's ref has the size and signs of just that content."""
        path = relative_path(ref.id)
        if path is None:
            raise DocumentVanished(f"No file can have the id {ref.id!r}.")
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                document = await self._fetch_once(path, ref if attempt == 1 else None)
            except Fault as fault:
                if fault.code not in (*SAYS_NOTHING, CHANGED) or attempt == ATTEMPTS_MAX:
                    raise await self._failure(path, ref.id, fault) from fault
                if fault.code != CHANGED:
                    await self._share.pause(attempt)
            else:
                self._budget.succeeded()
                return document
        raise AssertionError("the last attempt returns or raises")

    async def _fetch_once(self, path: str, listed: DocumentRef | None) -> Document:
        """The content as it was at one moment.

        What was listed counts as a first look if it tells changes.
        """
        now, bytes_max = self._now(), self._settings.max_bytes
        if listed is None or listed.fingerprint is None:
            before = await self._share.info(path)
        else:
            before = Entry(path, FILE, listed.size_bytes, listed.fingerprint, modified_at=listed.modified_at)
        self._require_readable(before, document_id(path))
        content = await self._share.read(path, bytes_max)
        if len(content) > bytes_max:
            raise too_large(document_id(path), len(content), bytes_max)
        if self._kind.proves(content, before.version):
            return Document(self._ref(path, before._replace(is_strong=True), now), content)
        after = await self._share.info(path)
        self._require_readable(after, document_id(path))
        if after.version != before.version:
            raise Fault(CHANGED, f"it changed while it was read, {ATTEMPTS_MAX} times. The next run tries again")
        if after.size is not None and len(content) != after.size:
            raise Fault(BROKEN_OFF, f"{len(content):,} of {after.size:,} bytes came")
        return Document(self._ref(path, after, now), content)

    def _require_readable(self, entry: Entry, document: DocumentId) -> None:
        if entry.kind != FILE:
            raise UnreadableDocument("not_a_file", f"{document!r} is a {entry.kind} now, not a file.")
        if entry.encoding:
            raise UnsupportedDocument(f"content encoding {entry.encoding}")
        if (entry.size or 0) > self._settings.max_bytes:
            raise too_large(document, entry.size or 0, self._settings.max_bytes)

    async def _failure(self, path: str, document: DocumentId, fault: Fault) -> UnreadableDocument:
        """The error for a document that could not be read.

        Raises:
            SourceError: nothing else can be read either.
        """
        try:
            entry = await self._share.entry(path)
        except Fault:
            entry = Entry("", FILE)  # nobody can tell, so it counts as there
        if entry is None:
            return DocumentVanished(f"{document!r} was listed and is not there any more.")
        if fault.code in SAYS_NOTHING:
            self._budget.failed(fault)
        return UnreadableDocument(fault.code, f"Cannot read {document!r}: {fault}.")


class _Folder:
    """A folder below the root; `path` ends with a slash, or is empty for the root."""

    __slots__ = ("look", "parent", "path")

    def __init__(self, path: str, parent: "_Folder | None" = None) -> None:
        self.path, self.parent = path, parent
        self.look: bytes | None = None

    def is_within_itself(self) -> bool:
        """Whether it lies too deep, or a folder above looks just like it: then it is the same one."""
        above = self.parent
        while above is not None and (above.look is None or above.look != self.look):
            above = above.parent
        return self.path.count("/") > DEPTH_MAX or above is not None


def _look(listing: Listing) -> bytes | None:
    """A digest of all that a listing says; None if it cannot be that of a folder within itself, or is too plain."""
    kinds = {entry.kind for entry in listing.values() if entry.version or entry.kind == FOLDER}
    if not kinds >= {FILE, FOLDER}:
        return None
    return sha256(repr(sorted(listing.items())).encode(errors="surrogateescape")).digest()


def _folders_above(path: str) -> Iterator[str]:
    return accumulate(f"{name}/" for name in path.split("/")[:-1])


def _tells_changes(entry: Entry, now: float) -> bool:
    """Whether no later write can leave the version as it is."""
    if entry.version is None or entry.is_strong or entry.modified_at is None:
        return entry.version is not None
    return now - entry.modified_at.timestamp() >= YOUNG_S


def _scan_error(path: str, fault: Fault) -> ScanError:
    scope = document_id(path)
    return ScanError(scope, fault.code, f"Cannot list {scope!r}: {fault}. What is known below it was left alone.")
