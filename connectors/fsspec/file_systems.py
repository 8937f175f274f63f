"""fsspec's file systems as they are: how each is opened and asked, and what its answers are worth.

All calls wait for their answer. What they raise is the library's own; `fault_of` says what it means.
"""

import errno
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1
from stat import S_ISDIR
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pipeline.errors import SourceError

Info = Mapping[str, Any]

WORDS_MAX = 300  # characters of what a library says that a message repeats

# Of what went wrong. Those in `SAYS_NOTHING` say nothing of what was asked for: it may be there and fine.
MISSING, NOT_ALLOWED, NOT_A_FILE = "missing", "not_allowed", "not_a_file"
LOGIN, STRANGER = "login_refused", "unknown_host_key"
NO_ANSWER, BROKEN_ANSWER, BROKEN_OFF = "no_answer", "broken_answer", "broken_off"
SAYS_NOTHING = {NO_ANSWER, BROKEN_ANSWER, BROKEN_OFF}

# By name, since their libraries need not be there.
LOGIN_ERRORS = {
    "ClientAuthenticationError",
    "CredentialUnavailableError",
    "DefaultCredentialsError",
    "LogonFailure",
    "PermissionDenied",
    "RefreshError",
    "SMBAuthenticationError",
}
NOT_ALLOWED_ERRORS = {"AccessDenied", "SFTPPermissionDenied", "error_perm"}  # the last is FTP's word for all it refuses
ACCESS_DENIED = 0xC000_0022  # of SMB
MISSING_ERRORS = {"SFTPNoSuchFile", "SFTPNoSuchPath", "SFTPNotADirectory"}


class Fault(Exception):
    """A file system refused or did not answer; `code` is one word for that."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Entry(NamedTuple):
    """What a file system says of a name in a folder.

    `version` changes with the content: with each of its writes if it `is_strong`, else only if no two of them share
    a moment. None if nothing tells. `encoding` is how the content is packed.
    """

    name: str
    kind: str
    size: int | None = None
    version: str | None = None
    is_strong: bool = False
    modified_at: datetime | None = None
    encoding: str | None = None


FILE, FOLDER, LINK, OTHER = "file", "directory", "link", "other"
KINDS = {"file": FILE, "directory": FOLDER, "link": LINK, "symlink": LINK, "other": OTHER, "unknown": OTHER}


@dataclass(frozen=True, slots=True)
class Signs:
    """The fields of an answer that tell one content of a file from another.

    `content` are hashes and numbers of writes, of which the first that is there counts. `tag` is one that many servers
    make of the time and the size, so that it counts only beside those.
    """

    content: tuple[str, ...] = ()
    tag: str = ""
    time: str = ""


class FileSystem:
    """A file system of fsspec of which nothing special is known.

    `extra` is what to install for it. `holds_session` tells that it must be opened again once its connection is lost,
    `calls_at_once` how many threads may ask it, `is_frank` that it gives an empty listing of empty folders alone.
    """

    extra: ClassVar[str] = "files"
    signs: ClassVar[Signs] = Signs()
    holds_session: ClassVar[bool] = False
    calls_at_once: ClassVar[int] = 1
    is_frank: ClassVar[bool] = False

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        from fsspec import get_filesystem_class  # noqa: PLC0415 - settings are checked without fsspec
        from fsspec.dircache import DirCache  # noqa: PLC0415

        self.timeout_s = timeout_s
        made = self._kind(get_filesystem_class, url.partition("://")[0])
        self.fs = made(**self._arguments(made, url, options), skip_instance_cache=True)
        # A listing must never be one of the past. Those that keep theirs in another way forget it before each question.
        if isinstance(getattr(self.fs, "dircache", None), DirCache):
            self.fs.dircache = DirCache(use_listings_cache=False)
        self.root = self._root(url)

    def _kind(self, by_protocol: Callable[[str], Any], protocol: str) -> Any:
        return by_protocol(protocol)

    def _arguments(self, made: Any, url: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**made._get_kwargs_from_urls(url), **options}  # noqa: SLF001 - this is how fsspec's own opener does it

    def _root(self, url: str) -> str:
        return str(self.fs._strip_protocol(url))  # noqa: SLF001 - see above

    def list(self, path: str) -> Iterable[Info]:
        """What lies in the folder at `path` itself."""
        self.fs.invalidate_cache()
        found: Iterable[Info] = self._ask("ls", path, detail=True)
        return found

    def info(self, path: str) -> Info:
        self.fs.invalidate_cache()
        found: Info = self._ask("info", path)
        return found

    def read(self, path: str, bytes_max: int) -> bytes:  # noqa: ARG002 - for those that can stop early
        """The content, of which no more need come than `bytes_max` and one byte."""
        content: bytes = self._ask("cat_file", path)
        return content

    @staticmethod
    def proves(content: bytes, version: str | None) -> bool:  # noqa: ARG004 - for those that can
        """Whether the content itself shows that it is just that of `version`."""
        return False

    def close(self) -> None:
        """Let go of the connection."""

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        if not getattr(self.fs, "async_impl", False):
            return getattr(self.fs, method)(*arguments, **options)
        from fsspec.asyn import sync  # noqa: PLC0415 - see above

        # With a limit of its own: a thread that waits for its loop could not be ended.
        return sync(self.fs.loop, getattr(self.fs, f"_{method}"), *arguments, timeout=self.timeout_s, **options)

    def entry(self, info: Info) -> Entry:
        """What `info` says.

        Raises:
            Fault: it is no answer of a file system.
        """
        try:
            name = str(info["name"]).rstrip("/").rpartition("/")[2]
            kind = KINDS.get(info["type"] or "")
            size = None if info.get("size") is None else int(info["size"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Fault(BROKEN_ANSWER, "the answer is no listing of files") from error
        if kind is None:
            raise Fault(BROKEN_ANSWER, f"the answer does not say whether {name!r} is a file or a folder")
        if kind != FILE:
            return Entry(name, kind)
        modified_at = moment(info.get(self.signs.time))
        version, is_strong = self._version(info, size, modified_at)
        encoding = info.get("contentEncoding") or (info.get("content_settings") or {}).get("content_encoding")
        return Entry(name, FILE, size, version, is_strong, modified_at, encoding)

    def _version(self, info: Info, size: int | None, modified_at: datetime | None) -> tuple[str | None, bool]:
        for field in self.signs.content:
            if info.get(field):
                return f"{field}-{info[field]}-{size}", True
        tag = str(info.get(self.signs.tag) or "")
        if modified_at is None:  # a tag that is not made of a time
            return (f"{tag}-{size}", True) if tag and not tag.startswith("W/") else (None, False)
        return (None, False) if size is None else (f"{size}-{modified_at.timestamp():.6f}-{tag}", False)


# ------------------------------------------------------------------------------------------ by their protocols


class GoogleStorage(FileSystem):
    extra = "gcs"
    signs = Signs(content=("md5Hash", "generation"), time="mtime")
    calls_at_once = 8


class AzureStorage(FileSystem):
    extra = "azure"
    signs = Signs(content=("etag",), time="last_modified")
    calls_at_once = 8


class GitHub(FileSystem):
    """The sha is the hash of the content, which proves what was read."""

    signs = Signs(content=("sha",))
    calls_at_once = 4

    def list(self, path: str) -> Iterable[Info]:
        for info in super().list(path):
            yield {**info, "type": "link"} if info.get("mode") == "120000" else info

    def read(self, path: str, bytes_max: int) -> bytes:
        with self.fs.open(path, "rb") as file:
            content: bytes = file.read(bytes_max + 1)
        return content

    @staticmethod
    def proves(content: bytes, version: str | None) -> bool:
        blob = sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        return version == f"sha-{blob.hexdigest()}-{len(content)}"


class HuggingFace(FileSystem):
    extra = "hf"
    signs = Signs(content=("blob_id",))


class Sftp(FileSystem):
    """Of files it tells no more than size and seconds. Host keys are checked, as `ssh` does it by default."""

    extra = "sftp"
    signs = Signs(time="mtime")
    holds_session = True
    is_frank = True
    calls_at_once = 8

    def _kind(self, by_protocol: Callable[[str], Any], protocol: str) -> Any:  # noqa: ARG002
        from sshfs import SSHFileSystem  # noqa: PLC0415 - see above

        return SSHFileSystem

    def _arguments(self, made: Any, url: str, options: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {
            "known_hosts": (),  # those of the user; sshfs by itself believes anyone
            "config": None,  # which can name programs to run
            "timeout": self.timeout_s,
            "sftp_client_kwargs": {"path_errors": "surrogateescape"},
            **super()._arguments(made, url, options),
        }
        if isinstance(arguments["known_hosts"], str):
            arguments["known_hosts"] = str(_path(arguments["known_hosts"]))
        return arguments

    def close(self) -> None:
        self.fs.loop.call_soon_threadsafe(self.fs.client.close)


class WebDav(FileSystem):
    extra = "webdav"
    signs = Signs(tag="etag", time="modified")
    calls_at_once = 8

    def _kind(self, by_protocol: Callable[[str], Any], protocol: str) -> Any:  # noqa: ARG002
        from webdav4.fsspec import WebdavFileSystem  # noqa: PLC0415 - see above

        return WebdavFileSystem

    def _arguments(self, made: Any, url: str, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        parts = urlsplit(url.partition("+")[2])
        given = dict(options)
        user = given.pop("username", None) or (unquote(parts.username) if parts.username else None)
        password = given.pop("password", "")
        base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        return {
            "base_url": base,
            "auth": (user, password) if user else None,
            "retry": False,  # it is asked again by us, who can be interrupted meanwhile
            "timeout": self.timeout_s,
            "event_hooks": {"request": [_stay_at(base)]},
            **given,
        }

    def _root(self, url: str) -> str:  # noqa: ARG002
        return ""

    # Paths go quoted: the library takes the file `a%20b` for `a b`, and no `?` at all.

    def list(self, path: str) -> Iterable[Info]:
        return super().list(quote(path))

    def info(self, path: str) -> Info:
        return super().info(quote(path))

    def read(self, path: str, bytes_max: int) -> bytes:
        client = self.fs.client
        content = bytearray()
        with client.http.stream("GET", client.join_url(quote(path))) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                content.extend(piece)
                if len(content) > bytes_max:
                    break
        return bytes(content)

    def close(self) -> None:
        self.fs.client.http.close()


def _stay_at(base: str) -> Callable[[Any], None]:
    """What keeps a client from following a redirect to another server, for it lists as if it were this one."""
    home = urlsplit(base)

    def check(request: Any) -> None:
        asked = urlsplit(str(request.url))
        if (asked.scheme, asked.hostname, asked.port) != (home.scheme, home.hostname, home.port):
            raise Fault(NOT_ALLOWED, "the server leads to another one, which was not asked")

    return check


class Ftp(FileSystem):
    """Asked by ftplib's own commands: fsspec's listing of a folder that cannot be listed is empty."""

    signs = Signs(time="modify")
    holds_session = True
    is_frank = True

    def _kind(self, by_protocol: Callable[[str], Any], protocol: str) -> Any:
        from ftplib import FTP, FTP_TLS  # noqa: PLC0415 - see above
        from ssl import create_default_context  # noqa: PLC0415

        class CheckingFtp(by_protocol(protocol)):  # type: ignore[misc]
            """fsspec's own believes any certificate."""

            def _connect(self) -> None:
                options = {"timeout": self.timeout, "encoding": self.encoding}
                self.ftp = FTP_TLS(**options, context=create_default_context()) if self.tls else FTP(**options)  # noqa: S321
                self.ftp.connect(self.host, self.port)
                self.ftp.login(*self.cred)

        return CheckingFtp

    def _arguments(self, made: Any, url: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"timeout": self.timeout_s, **super()._arguments(made, url, options)}

    def list(self, path: str) -> Iterable[Info]:
        for name, facts in self.fs.ftp.mlsd(path):
            kind = facts.get("type", "").lower()
            if kind not in ("cdir", "pdir") and name not in (".", ".."):
                yield {
                    "name": f"{path.rstrip('/')}/{name}",
                    "type": FTP_KINDS.get(kind, LINK if "slink" in kind else OTHER),
                    "size": facts.get("size"),
                    "modify": facts.get("modify"),
                }

    def info(self, path: str) -> Info:
        ftp = self.fs.ftp
        ftp.voidcmd("TYPE I")  # or some servers do not tell a size
        return {"name": path, "type": FILE, "size": ftp.size(path), "modify": ftp.voidcmd(f"MDTM {path}")[4:]}

    def read(self, path: str, bytes_max: int) -> bytes:
        content = bytearray()

        def take(piece: bytes) -> None:
            content.extend(piece)
            if len(content) > bytes_max:
                raise Fault(BROKEN_ANSWER, f"more than {bytes_max:,} bytes came")

        self.fs.ftp.retrbinary(f"RETR {path}", take)
        return bytes(content)

    def close(self) -> None:
        self.fs.ftp.close()


FTP_KINDS = {"file": FILE, "dir": FOLDER}


class Smb(FileSystem):
    """Asked by the library below fsspec: it lists a folder with one question, and not with one more for each file.

    The library keeps the connections, and closes them in the end: a handle that is left over would wait for ever for an
    answer of one that was closed before.
    """

    extra = "smb"
    signs = Signs(time="mtime")
    holds_session = True
    is_frank = True
    calls_at_once = 4

    def __init__(self, url: str, options: Mapping[str, Any], timeout_s: float) -> None:
        super().__init__(url, {**options, "register_session_retries": -1}, timeout_s)
        from smbclient import register_session  # noqa: PLC0415 - see above

        self._connection = {
            "username": self.fs.username,
            "password": self.fs.password,
            "port": self.fs.port or 445,
            "encrypt": self.fs.encrypt,
            "connection_timeout": timeout_s,
        }
        register_session(self.fs.host, **self._connection)

    def list(self, path: str) -> Iterable[Info]:
        from smbclient import scandir  # noqa: PLC0415 - see above

        for found in scandir(self._unc(path), **self._connection):
            yield {
                "name": f"{path.rstrip('/')}/{found.name}",
                "type": LINK if found.is_symlink() else FOLDER if found.is_dir() else FILE,
                "size": found.smb_info.end_of_file,
                "mtime": found.smb_info.last_write_time,
            }

    def info(self, path: str) -> Info:
        from smbclient import stat  # noqa: PLC0415 - see above

        said = stat(self._unc(path), **self._connection)
        seconds, nanoseconds = divmod(said.st_mtime_ns, 1_000_000_000)
        return {
            "name": path,
            "type": FOLDER if S_ISDIR(said.st_mode) else FILE,
            "size": said.st_size,
            "mtime": datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1_000),
        }

    def read(self, path: str, bytes_max: int) -> bytes:
        from smbclient import open_file  # noqa: PLC0415 - see above

        with open_file(self._unc(path), mode="rb", share_access="rwd", **self._connection) as file:
            content: bytes = file.read(bytes_max + 1)
        return content

    def _unc(self, path: str) -> str:
        return f"\\\\{self.fs.host}" + path.replace("/", "\\")


# The protocols of which more is known. Of any other, everything is read in each run.
PROTOCOLS: Mapping[str, type[FileSystem]] = {
    "abfs": AzureStorage,
    "abfss": AzureStorage,
    "az": AzureStorage,
    "ftp": Ftp,
    "gcs": GoogleStorage,
    "github": GitHub,
    "gs": GoogleStorage,
    "hf": HuggingFace,
    "sftp": Sftp,
    "smb": Smb,
    "ssh": Sftp,
    "webdav+http": WebDav,
    "webdav+https": WebDav,
}


def open_file_system(url: str, options: Mapping[str, Any], timeout_s: float) -> FileSystem:
    """The file system of `url`, logged in.

    Raises:
        SourceError: fsspec does not know its protocol, or a package is not installed.
    """
    protocol = url.partition("://")[0]
    kind = PROTOCOLS.get(protocol, FileSystem)
    try:
        import fsspec  # noqa: PLC0415 - see above

        if protocol not in PROTOCOLS and protocol not in fsspec.available_protocols():
            raise SourceError(
                f"fsspec knows no file system for {protocol}://. Nothing was done. Correct `source.url`, or install the"
                " package that brings it along."
            )
        return kind(url, options, timeout_s)
    except ImportError as error:
        advice = f"pip install 'agentcore-memory-sync[{kind.extra}]'"
        if kind is FileSystem and "fsspec" not in (error.name or ""):
            advice = f"{advice}, and the package that fsspec names: {_words(error)}"
        raise SourceError(
            f"{protocol}:// cannot be read without a package that is not installed. Nothing was done. Install it:"
            f" {advice}"
        ) from error


# ------------------------------------------------------------------------------------------------------ answers


def moment(said: object) -> datetime | None:
    """The moment that a field tells, with a time zone; None if it tells none."""
    try:
        if isinstance(said, str):  # of FTP, in UTC; fractions are left out, as not all its answers have them
            return datetime.strptime(said[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        if isinstance(said, int | float):
            return datetime.fromtimestamp(said, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    if not isinstance(said, datetime):
        return None
    return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)


def fault_of(error: Exception, secrets: Iterable[str] = ()) -> Fault:
    """What `error`, of whatever library, means. Without `secrets` in its words."""
    if isinstance(error, Fault):
        return error
    return Fault(_code(error), _words(error, secrets))


def _code(error: Exception) -> str:
    name, status = type(error).__name__, _status(error)
    number = getattr(error, "errno", None)
    if name == "HostKeyNotVerifiable":
        return STRANGER
    if status == 401 or name in LOGIN_ERRORS:
        return LOGIN
    if isinstance(error, FileNotFoundError | NotADirectoryError) or number in (errno.ENOENT, errno.ENOTDIR):
        return MISSING
    if status in (404, 410) or name in MISSING_ERRORS:
        return MISSING
    if isinstance(error, PermissionError) or number in (errno.EACCES, errno.EPERM):
        return NOT_ALLOWED
    if status == 403 or name in NOT_ALLOWED_ERRORS or getattr(error, "ntstatus", 0) == ACCESS_DENIED:
        return NOT_ALLOWED
    if isinstance(error, IsADirectoryError):
        return NOT_A_FILE
    is_of_library = not isinstance(error, LookupError | TypeError | ValueError | AttributeError | AssertionError)
    return NO_ANSWER if is_of_library else BROKEN_ANSWER


def _status(error: Exception) -> int | None:
    """The HTTP status that it was made of, if any."""
    for place in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            found = getattr(place, name, None)
            if isinstance(found, int) and 100 <= found <= 599:
                return found
    return None


_ADDRESS = re.compile(r"\?\S+")


def _words(error: Exception, secrets: Iterable[str] = ()) -> str:
    """What the library says, on one line, without secrets."""
    said = " ".join(str(error).split())
    for secret in secrets:
        said = said.replace(secret, "…")
    said = _ADDRESS.sub("?…", said)[:WORDS_MAX].rstrip(". ")
    name = type(error).__name__
    return said if said.startswith(name) or isinstance(error, Fault) else f"{name}: {said}" if said else name


def _path(path: str) -> Any:
    from pathlib import Path  # noqa: PLC0415 - one setting of one protocol

    return Path(path).expanduser()


def close_quietly(file_system: FileSystem) -> None:
    """Let go of the connection, which may be broken."""
    with suppress(Exception):  # nothing was written, so nothing is lost
        file_system.close()
