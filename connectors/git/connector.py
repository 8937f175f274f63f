"""Documents that are files of a git repository, at a branch, a tag or a commit."""

import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import anyio
from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.files import document_id, relative_path
from connectors.git.mirror import Mirror
from connectors.git.objects import NO_GIT, TOO_LARGE, TOO_SLOW, CatFile, Entry, Fault, Git, parse_tree
from connectors.kit.budget import ErrorBudget
from connectors.kit.refusals import too_large
from connectors.patterns import PatternList, Patterns
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument, UnsupportedDocument
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

EVENTS_PER_LIST_MAX = 1_000
SIZES_AT_ONCE = 100  # questions and answers must both fit into a pipe, of which the smallest hold 16 KiB
READS_MAX = 3  # of one object, each by a process that has just been started
FOLDERS_REMEMBERED = 32
FOLDER_BYTES_MAX = COMMIT_BYTES_MAX = 256 * 1024 * 1024

CACHE_FOLDER = Path(".memsync", "git")
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
LFS_POINTER_BYTES_MAX = 1_024  # git-lfs looks at no larger file either

SYMLINK, SUBMODULE = 0o120000, 0o160000
SKIPPED = {SYMLINK: "symlink", SUBMODULE: "submodule"}

IS_NO_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-./@]$|^[-./]|[/.]$").search
IS_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match
IS_HELPER = re.compile(r"[^/]*::").match  # `ext::sh -c ...` runs what stands behind it
SCP_ADDRESS = re.compile(r"(?P<host>(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^/@]*(?:/.*)?)")
COMMITTED_AT = re.compile(rb"^committer .*> (\d{1,11}) [+-]\d{4}$", re.MULTILINE)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class GitSettings(BaseModel):
    """Which files of which repository are documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["git"]
    url: str = Field(
        min_length=1,
        description=(
            "The repository: `https://HOST/PATH`, `ssh://USER@HOST/PATH`, `USER@HOST:PATH`, `file:///PATH`, or a path, "
            "relative to the folder of this YAML file, to a repository that is read where it is. Never with a "
            "password: git takes that from its credential helper or from SSH."
        ),
    )
    ref: str | None = Field(
        default=None,
        description="A branch, a tag or a commit's full id; null: the branch that the repository itself names (HEAD).",
    )
    path: str = Field(
        default="", description="Take only what lies in this folder of the repository: `docs`; empty: everything."
    )
    include: PatternList = Field(
        default=["**/*"],
        min_length=1,
        description=(
            "Patterns of the files to take, by their path in the repository, in the language of .gitignore; the last "
            "that matches decides."
        ),
    )
    exclude: PatternList = Field(default=[], description="Patterns of files and folders to leave out; they always win.")
    max_bytes: int = Field(
        default=50 * 1024 * 1024, gt=0, description="A larger file is not read; it becomes a dead letter."
    )

    timeout_s: float = Field(
        default=120,
        gt=0,
        le=86_400,
        description="A fetch of which nothing is heard for so many seconds is given up, and the run ends.",
    )

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        if not url.isprintable():
            raise ValueError("should have no control characters")
        if url.startswith("-"):
            raise ValueError("should not begin with `-`, which would be an option of git; a path can begin with `./`")
        if IS_HELPER(url):
            raise ValueError("should not begin with `NAME::`, which would run another program")
        if not IS_REMOTE(url):
            address = SCP_ADDRESS.fullmatch(url)
            if address is None and ":" in url.split("/", maxsplit=1)[0]:
                raise ValueError("should be `USER@HOST:PATH`, without a password; a path can begin with `./`")
            return url
        try:
            parts = urlsplit(url)
            host, has_password = parts.hostname, parts.password is not None
        except ValueError:
            raise ValueError("is not a URL") from None
        if parts.scheme not in ("https", "ssh", "file"):
            raise ValueError("should begin with `https://`, `ssh://` or `file://`, or be a path")
        if parts.query or parts.fragment:
            raise ValueError("should have nothing behind `?` or `#`")
        if has_password or ("@" in parts.netloc and parts.scheme != "ssh"):
            raise ValueError("should have no password or token in it; git takes them from its credential helper")
        if parts.scheme == "file":
            if host is not None or not parts.path.startswith("/"):
                raise ValueError("should be `file:///PATH`")
        elif not host or parts.netloc.startswith("-") or host.startswith("-") or not parts.path.strip("/"):
            raise ValueError("should name a host and a path")
        return url

    @field_validator("ref")
    @classmethod
    def _is_ref(cls, ref: str | None) -> str | None:
        if ref is not None and (not ref or IS_NO_REF(ref) or ref == "@"):
            raise ValueError("is not the name of a branch or a tag, nor a commit's id")
        return ref

    @field_validator("path")
    @classmethod
    def _is_folder(cls, path: str) -> str:
        path = path.strip("/")
        if path and relative_path(document_id(path)) is None:
            raise ValueError("should be a folder's path in the repository, without `..`")
        return path


class GitConnector:
    """Every file that the settings take in is a document, in the repository's one state that the scan began with; its
    path is its id.

    A file's blob id, which is a hash of its content, tells that it is unchanged: also after a rebase, in a new clone,
    and whatever its times say. What is gone is what the tree does not hold. Every folder and every file is held
    against its own id when it is read, so that nothing can be missing from a listing unnoticed. There are no
    checkpoints.

    A repository behind a URL is fetched into a mirror beside the state, without its history. Fetching and locating
    speak of the commit of the last scan; without one, of what the ref meant when they were first asked.
    """

    settings_model: ClassVar[type[GitSettings]] = GitSettings

    def __init__(self, settings: GitSettings, base_folder: Path) -> None:
        self._settings = settings
        self._include = None if settings.include == ["**/*"] else Patterns(settings.include)
        self._exclude = Patterns(settings.exclude)
        self._budget = ErrorBudget(f"The repository {settings.url!r}")
        self._folder = settings.path and settings.path + "/"
        folders = accumulate(f"{name}/" for name in settings.path.split("/"))
        self._takes_any = not any(self._exclude.last_match(folder) for folder in folders)
        address = None if IS_REMOTE(settings.url) else SCP_ADDRESS.fullmatch(settings.url)
        self._mirror: Mirror | None = None
        if address is not None:
            uri = f"ssh://{address['host']}/{quote(address['path'].lstrip('/'))}"
        elif IS_REMOTE(settings.url):
            uri = settings.url
        else:
            root = Path(os.path.abspath(base_folder / Path(settings.url).expanduser()))  # noqa: PTH100 - keeps links
            uri = f"file://{quote(str(root), errors='surrogateescape')}"
            self._git = Git(root / ".git" if (root / ".git").exists() else root)
        if address is not None or IS_REMOTE(settings.url):
            self._mirror = Mirror(settings.url, base_folder / CACHE_FOLDER, settings.timeout_s)
            self._git = self._mirror.git
        self._uri = f"git+{uri}#"
        self._objects = CatFile(self._git, "--batch")
        self._sizes = CatFile(self._git, "--batch-check")
        self._resolving = anyio.Lock()
        self._resolved: _Snapshot | None = None
        self._folders: dict[str, Mapping[bytes, Entry]] = {}

    async def aclose(self) -> None:
        """End git's processes. They are started again if more is asked for."""
        await self._objects.aclose()
        await self._sizes.aclose()

    # ------------------------------------------------------------------------------------------- listing

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the files of one commit, folder by folder, in an order that depends on their names alone."""
        async with self._resolving:
            self._resolved = snapshot = await self._resolve()
        events: list[SourceEvent] = []
        pending = [(self._folder, snapshot.folder)] if self._takes_any else []
        while pending:
            folder, tree = pending.pop()
            try:
                entries = await self._entries(tree)
            except Fault as fault:
                events.append(await self._unlistable(folder, fault))
                continue
            events.extend(await self._files(folder, entries))
            below = [(self._path(folder, name) + "/", entry.id) for name, entry in entries.items() if entry.is_folder]
            pending.extend(reversed([each for each in below if self._enters(each[0])]))
            while len(events) >= EVENTS_PER_LIST_MAX:
                yield events[:EVENTS_PER_LIST_MAX]
                events = events[EVENTS_PER_LIST_MAX:]
        if events:
            yield events
        yield [ScanComplete("")]

    async def _files(self, folder: str, entries: Mapping[bytes, Entry]) -> list[SourceEvent]:
        """What a scan says of the files that lie in `folder` itself."""
        paths = {self._path(folder, name): entry for name, entry in entries.items() if not entry.is_folder}
        taken = {path: entry for path, entry in paths.items() if not self._leaves_out(path)}
        sizes = await self._sizes_of([entry.id for entry in taken.values() if entry.mode not in SKIPPED])
        return [self._event(path, entry, sizes.get(entry.id)) for path, entry in taken.items()]

    async def _unlistable(self, folder: str, fault: Fault) -> ScanError:
        """What a scan says of a folder of which git does not give the tree."""
        where = document_id(folder)
        message = f"Cannot list {where or 'the repository'!r} of {self._settings.url!r}: {fault}."
        await self._require_commit(message, fault)
        if folder == self._folder:
            raise SourceError(f"{message} Nothing was concluded from that. `git fsck` tells what is broken.") from fault
        return ScanError(where, fault.code, f"{message} What is known below it was left alone.")

    def _path(self, folder: str, name: bytes) -> str:
        return folder + os.fsdecode(name)

    def _enters(self, folder: str) -> bool:
        """Whether a scan looks into `folder`, which ends with a slash."""
        return not self._exclude.last_match(folder)

    def _leaves_out(self, path: str) -> bool:
        if self._include and not self._include.last_match(path, or_above=True):
            return True
        return bool(self._exclude.last_match(path))

    def _event(self, path: str, entry: Entry, size: int | None) -> DocumentRef | DocumentSkipped:
        document = document_id(path)
        if entry.mode in SKIPPED:
            return DocumentSkipped(document, SKIPPED[entry.mode])
        return DocumentRef(document, self._uri + quote(path, errors="surrogateescape"), Fingerprint(entry.id), size)

    def trace(self, ref: DocumentRef) -> str | None:
        return ref.fingerprint  # of its content alone, whatever its path

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the file as a scan would list it; None if a scan would not."""
        snapshot = await self._snapshot()
        try:
            entry = await self._find(snapshot, document)
            if entry is None:
                return None
            sizes = await self._sizes_of([entry.id])
        except Fault as fault:
            message = f"Cannot tell whether {document!r} is still there: {fault}."
            await self._require_commit(message, fault)
            raise SourceError(f"{message} `git fsck` tells what is broken.") from fault
        event = self._event(relative_path(document) or "", entry, sizes.get(entry.id))
        return event if isinstance(event, DocumentRef) else None

    async def _find(self, snapshot: "_Snapshot", document: DocumentId) -> Entry | None:
        """The entry of the file that a scan lists as `document`.

        Raises:
            Fault: a folder on the way to it cannot be read.
        """
        path = relative_path(document)
        if path is None or not path.startswith(self._folder) or not self._takes_any or self._leaves_out(path):
            return None
        folder, tree = self._folder, snapshot.folder
        *above, name = path[len(folder) :].split("/")
        for each in above:
            entry = (await self._entries(tree)).get(os.fsencode(each))
            folder += each + "/"
            if entry is None or not entry.is_folder or not self._enters(folder):
                return None
            tree = entry.id
        entry = (await self._entries(tree)).get(os.fsencode(name))
        return None if entry is None or entry.is_folder or entry.mode in SKIPPED else entry

    # ------------------------------------------------------------------------------------------ fetching

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the file's content at the commit that was listed; its time is that of the commit."""
        snapshot = await self._snapshot()
        try:
            entry = await self._find(snapshot, ref.id)
            if entry is None:
                raise DocumentVanished(f"{ref.id!r} is not there in {self._settings.url!r} at {snapshot.commit}.")
            size = ref.size_bytes or 0
            if ref.fingerprint == entry.id and size > self._settings.max_bytes:
                raise too_large(ref.id, size, self._settings.max_bytes)
            content = await self._read(entry.id, "blob", self._settings.max_bytes)
        except Fault as fault:
            if fault.size is not None:
                raise too_large(ref.id, fault.size, self._settings.max_bytes) from fault
            message = f"Cannot read {ref.id!r}: {fault}."
            await self._require_commit(message, fault)
            self._budget.failed(fault)
            raise UnreadableDocument(fault.code, f"{message} `git fsck` tells what is broken.") from fault
        self._budget.succeeded()
        if content.startswith(LFS_POINTER) and len(content) < LFS_POINTER_BYTES_MAX:
            raise UnsupportedDocument("Git LFS pointer")
        found = self._event(relative_path(ref.id) or "", entry, len(content))
        assert isinstance(found, DocumentRef)
        return Document(found._replace(modified_at=snapshot.committed_at), content)

    # ---------------------------------------------------------------------------------------- the commit

    async def _snapshot(self) -> "_Snapshot":
        """The commit of the last scan, or else the one that the ref means now."""
        async with self._resolving:
            if self._resolved is None:
                self._resolved = await self._resolve()
            return self._resolved

    async def _resolve(self) -> "_Snapshot":
        """What the ref means now.

        Raises:
            SourceError: the repository, the ref or the folder is not there, or cannot be read.
        """
        wanted = self._settings.ref or "HEAD"
        try:
            if self._mirror is None:
                commit = await self._git.commit(wanted)
            else:
                commit = await self._mirror.fetch(wanted)
        except Fault as fault:
            url = self._settings.url
            by_hand = f"`git ls-remote {url} {wanted}` must answer this user without a question"
            check = by_hand if self._mirror is not None else "the repository must have it, with a commit"
            advice = f"Check `source.url` and `source.ref`: {check}."
            raise SourceError(
                f"Cannot read {wanted!r} of the repository {url!r}: {fault}. Nothing was concluded from that."
                f"{fault.advice(advice)}"
            ) from fault
        if self._mirror is not None:
            await self.aclose()  # the mirror may be a new one
        try:
            content = await self._read(commit, "commit", COMMIT_BYTES_MAX)
            committed_at = COMMITTED_AT.search(content)
            tree: str | None = content[len("tree ") :].split(b"\n", 1)[0].decode("ascii", "replace")
            for name in filter(None, self._settings.path.split("/")):
                entry = (await self._entries(tree or "")).get(os.fsencode(name))
                tree = entry.id if entry is not None and entry.is_folder else None
                if tree is None:
                    break
        except Fault as fault:
            message = f"Cannot read the commit {commit} of {self._settings.url!r}: {fault}."
            await self._discard_mirror(message, fault)
            raise SourceError(
                f"{message} Nothing was concluded from that.{fault.advice('`git fsck` tells what is broken.')}"
            ) from fault
        if tree is None:
            raise SourceError(
                f"There is no folder {self._settings.path!r} in {self._settings.url!r} at {commit}. Nothing was"
                " concluded from that. Check `source.path`, which begins at the top of the repository."
            )
        seconds = int(committed_at[1]) if committed_at else 0
        return _Snapshot(commit, tree, EPOCH + timedelta(seconds=seconds) if committed_at else None)

    async def _require_commit(self, message: str, fault: Fault) -> None:
        """Make sure that what could not be read is missing from a repository that is there.

        Raises:
            SourceError: it is not; or this is a mirror, which the next run makes anew.
        """
        assert self._resolved is not None
        await self._discard_mirror(message, fault)
        try:
            await self._read(self._resolved.commit, "commit", COMMIT_BYTES_MAX)
        except Fault as worse:
            raise SourceError(
                f"{message} Nor can its commit be read any more: {worse}. Nothing was concluded from that."
                f"{worse.advice()}"
            ) from worse

    async def _discard_mirror(self, message: str, fault: Fault) -> None:
        if self._mirror is not None and fault.code != NO_GIT:
            await self.aclose()
            await self._mirror.discard()
            raise SourceError(
                f"{message} Nothing was concluded from that. The mirror was thrown away; the next run makes a new one."
            ) from fault

    # ------------------------------------------------------------------------------------------- reading

    async def _entries(self, tree: str) -> Mapping[bytes, Entry]:
        """What lies in a folder, by name.

        Raises:
            Fault: it cannot be read.
        """
        entries = self._folders.get(tree)
        if entries is None:
            entries = parse_tree(await self._read(tree, "tree", FOLDER_BYTES_MAX), id_bytes=len(tree) // 2)
            while len(self._folders) >= FOLDERS_REMEMBERED:
                self._folders.pop(next(iter(self._folders)))
            self._folders[tree] = entries
        return entries

    async def _read(self, object_id: str, kind: str, bytes_max: int) -> bytes:
        """The content of an object, if need be by another process.

        Raises:
            Fault: it cannot be had.
        """
        for attempt in range(1, READS_MAX + 1):
            try:
                return await self._objects.read(object_id, kind, bytes_max)
            except Fault as fault:
                if attempt == READS_MAX or fault.code in (TOO_LARGE, TOO_SLOW, NO_GIT):
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _sizes_of(self, ids: Sequence[str]) -> dict[str, int]:
        """The sizes of those blobs that git has.

        A size only helps to plan ahead, so that a listing without sizes is a whole one.
        """
        sizes: dict[str, int] = {}
        for start in range(0, len(ids), SIZES_AT_ONCE):
            for _ in range(READS_MAX):
                try:
                    sizes.update(await self._sizes.sizes(ids[start : start + SIZES_AT_ONCE]))
                    break
                except Fault:
                    continue
            else:
                break
        return sizes


class _Snapshot(NamedTuple):
    """A commit, and the tree of the folder that the settings name. `committed_at` is None if it does not say."""

    commit: str
    folder: str
    committed_at: datetime | None
