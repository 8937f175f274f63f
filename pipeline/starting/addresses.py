"""What a folder or an address says about a source: its type, and the settings that are in the address already."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from pipeline.configuration.values import SOURCE_NAME_CHARACTERS_MAX
from pipeline.starting.draft import Setting, source_setting

# Read by fsspec; what else it knows is set up with `--type fsspec`.
SHARES = {
    "webdav+https",
    "webdav+http",
    "sftp",
    "ssh+sftp",
    "smb",
    "ftp",
    "ftps",
    "gs",
    "gcs",
    "abfs",
    "abfss",
    "az",
    "hf",
}
# What SQLAlchemy calls a database, the driver that is best read with, and the module that it is.
DRIVERS = {
    "postgresql": ("postgresql+psycopg", "psycopg"),
    "postgres": ("postgresql+psycopg", "psycopg"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "mariadb": ("mariadb+pymysql", "pymysql"),
}
DATABASES = {*DRIVERS, "sqlite", "oracle", "mssql", "duckdb", "snowflake", "bigquery", "redshift", "cockroachdb"}
FORGES = {"github.com", "gitlab.com", "codeberg.org", "bitbucket.org"}
SQLITE_START = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Place:
    """A source as far as its address tells. `settings` are those of the section `source`, without `type`.

    `password` is what stood in the address; `password_variable` is the setting for the name of the variable that is to
    hold it. `is_webpage` tells that only what answers there can show what it is.
    """

    type: str
    words: str
    name: str
    settings: tuple[Setting, ...] = ()
    password: str | None = field(default=None, repr=False)
    password_variable: tuple[str, ...] = ()
    alternatives: tuple["Place", ...] = ()
    is_webpage: bool = False


def place_of(where: str, base: Path) -> Place | None:
    """What `where` means: a folder or a file here, or an address; None if nothing that is known.

    Paths become relative to `base`, the folder of the YAML file.
    """
    if (local := Path(where).expanduser()).exists():
        return _local(local, base)
    if re.fullmatch(r"[\w.-]+@[\w.-]+:[^/].*", where):
        return _git(where)
    scheme, separator, _ = where.partition("://")
    scheme = scheme.lower()
    if not separator:
        return None
    try:
        parts = urlsplit(where)
        _ = parts.hostname, parts.port
    except ValueError:
        return None
    if scheme in ("http", "https") and not _is_repository(parts):
        return Place("web", "Pages of a website", slug(parts.hostname or "site"), is_webpage=True)
    if scheme.partition("+")[0] in DATABASES:
        return _database(parts)
    by_scheme: Mapping[str, Callable[[SplitResult], Place]] = {
        "s3": _bucket,
        "imap": _mailbox,
        "imaps": _mailbox,
        **dict.fromkeys(("http", "https", "ssh", "file", "git+https", "git+ssh"), lambda _: _git(where)),
        **dict.fromkeys(SHARES, _share),
    }
    return by_scheme[scheme](parts) if scheme in by_scheme else None


def slug(text: str) -> str:
    """`text` as the name of a source."""
    plain = re.sub(r"[^a-zA-Z0-9._-]+", "-", text).strip("-._")[:SOURCE_NAME_CHARACTERS_MAX]
    return plain or "source"


def is_private(host: str) -> bool:
    """Whether the host is named as one that only this network, or this machine, can reach."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def relative_to(path: Path, base: Path) -> str:
    """`path` as the YAML file in `base` names it: relative if they are near each other, else from the root."""
    absolute, base = path.absolute(), base.absolute()
    relative = os.path.relpath(absolute, base)
    return str(absolute) if relative.startswith("../../../") else relative


def _local(path: Path, base: Path) -> Place:
    resolved = path.resolve()
    if not path.is_dir():
        return _file(path, base)
    name = slug(resolved.name or "root")
    if _is_bare_repository(path):
        return Place("git", "Files of a git repository", name.removesuffix(".git"), _repository(path, base))
    files = Place(
        "filesystem",
        "Files below a folder",
        name,
        (source_setting("path", relative_to(path, base), "relative to this file"),),
    )
    if not (path / ".git").exists():
        return files
    committed = Place("git", "Files of a git repository, as committed", name, _repository(path, base))
    return Place(files.type, files.words, name, files.settings, alternatives=(committed,))


def _repository(path: Path, base: Path) -> tuple[Setting, ...]:
    relative = relative_to(path, base)
    written = relative if relative.startswith(("/", "./", "..")) else f"./{relative}"
    return (source_setting("url", written, "relative to this file; read where it is"),)


def _is_bare_repository(path: Path) -> bool:
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def _file(path: Path, base: Path) -> Place:
    with path.open("rb") as file:
        is_database = file.read(len(SQLITE_START)) == SQLITE_START
    name = slug(path.stem)
    if is_database:
        url = f"sqlite:///{relative_to(path, base)}"
        return Place("sql", "Rows of a database", name, (source_setting("url", url, "relative to this file"),))
    settings = (
        source_setting("path", relative_to(path.parent, base), "relative to this file"),
        source_setting("include", [f"/{_as_pattern(path.name)}"], "this file alone"),
    )
    return Place("filesystem", "A file", name, settings)


def _as_pattern(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return re.sub(r"([\\*?\[\] !#])", r"\\\1", name)


def _is_repository(parts: SplitResult) -> bool:
    steps = [step for step in parts.path.split("/") if step]
    return parts.path.endswith(".git") or ((parts.hostname or "").lower() in FORGES and len(steps) == 2)


def _git(url: str) -> Place:
    url = url.removeprefix("git+")
    name = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    why = "without a password: git takes that from its credential helper or from SSH"
    return Place("git", "Files of a git repository", slug(name), (source_setting("url", url, why),))


def _bucket(parts: SplitResult) -> Place:
    prefix = unquote(parts.path.lstrip("/"))
    settings = [source_setting("bucket", parts.netloc)]
    if prefix:
        settings.append(source_setting("prefixes", [prefix], "what the keys of documents begin with"))
    name = slug("-".join([parts.netloc, *prefix.strip("/").split("/")]))
    return Place("s3", "Objects of a bucket", name, tuple(settings))


def _database(parts: SplitResult) -> Place:
    scheme, password = parts.scheme, _password(parts)
    if scheme in DRIVERS and (scheme == "postgres" or find_spec(DRIVERS[scheme][1]) is not None):
        scheme = DRIVERS[scheme][0]
    # Three slashes of `sqlite:///FILE` go with an empty host, which urlunsplit leaves out.
    url = f"{scheme}://{_without_password(parts)}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    name = slug(Path(unquote(parts.path)).stem or parts.hostname or "database")
    return Place(
        "sql", "Rows of a database", name, (source_setting("url", url),), password, ("source", "password_variable")
    )


def _mailbox(parts: SplitResult) -> Place:
    host, user = parts.hostname or "", unquote(parts.username or "")
    settings = [source_setting("host", host)]
    if parts.port is not None:
        settings.append(source_setting("port", parts.port))
    if parts.scheme == "imap" and parts.port not in (None, 993):
        settings.append(source_setting("security", "starttls", "encrypted before the password is sent, or not at all"))
    if user:
        settings.append(source_setting("user", user))
    if folder := unquote(parts.path.strip("/")):
        settings.append(source_setting("folders", [f"/{folder}"], "this folder and those in it; leave it out for all"))
    name = slug(user.partition("@")[0] or host)
    password = _password(parts)
    return Place("imap", "Mails of an account", name, tuple(settings), password, ("source", "password_variable"))


def _share(parts: SplitResult) -> Place:
    url = urlunsplit(parts._replace(netloc=_without_password(parts)))
    name = slug("-".join(filter(None, [parts.hostname, *parts.path.strip("/").split("/")])))
    variable = ("source", "option_variables", "password")
    return Place(
        "fsspec", "Files of another file system", name, (source_setting("url", url),), _password(parts), variable
    )


def _password(parts: SplitResult) -> str | None:
    return unquote(parts.password) if parts.password else None


def _without_password(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    return f"{user.partition(':')[0]}{at}{host}"
