"""What a record of an API means: which document it is, and what tells that it is unchanged."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from connectors.kit.row_values import as_time, write_id
from connectors.rest.api import Fault, find, is_true
from connectors.rest.settings import Resource
from pipeline.model import DocumentId, Fingerprint

GRAIN_SPARE_S = 2.0  # beside the grain of a version that is a time: clocks and answers have grains, too

_PLAIN_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

Key = tuple[str, ...]  # the ids of the records above, and the record's own


@dataclass(frozen=True, slots=True)
class Kept:
    """A record, and when it was said, in seconds since the epoch."""

    record: Any
    at: float

    def encoded(self) -> bytes:
        """What `decoded` takes.

        Raises:
            Fault: the record cannot be kept.
        """
        return _encoded([self.at, self.record])

    @classmethod
    def decoded(cls, content: bytes) -> "Kept":
        at, record = orjson.loads(content)
        return cls(record, at)


def document_id(resource: Resource, key: Key) -> DocumentId:
    return DocumentId(f"{resource.scope}{write_id(key)}")


def path_of(resource: Resource, parent: Key) -> str:
    """What the ids of all records below `parent` begin with."""
    return f"{resource.scope}{write_id(parent)}/" if parent else resource.scope


def id_of(value: object) -> str | None:
    """A record's id as text; None if it is none."""
    if isinstance(value, str) and value:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def is_taken(resource: Resource, record: object) -> bool:
    return resource.where is None or is_true(find(resource.where, record))


def is_absent(path: str, record: object) -> bool:
    """Whether a path of plain steps leads to no field of the record, not even to one that is null."""
    steps = path.split(".") if _PLAIN_PATH.fullmatch(path) else []
    at: object = record
    for step in steps:
        if not isinstance(at, dict):
            return False
        if step not in at:
            return True
        at = at[step]
    return False


def as_title(resource: Resource, record: object) -> str | None:
    found = None if resource.title is None else find(resource.title, record)
    words = "".join(item for item in found if isinstance(item, str)) if isinstance(found, list) else found
    return " ".join(str(words).split()) or None if isinstance(words, str | int) else None


def shape_of(resource: Resource) -> str:
    """What of the settings makes another document of the same record."""
    deciding = {"text", "title", "format", "parts", "version", "uri", "modified_at", "metadata"}
    return resource.model_dump_json(include=deciding)


def fingerprint(resource: Resource, record: object, shape: str, uri: str, at: float) -> Fingerprint | None:
    """What tells that a document is unchanged; None if nothing does.

    Raises:
        Fault: a digest of it cannot be made.
    """
    if resource.version is not None:
        values = [find(resource.version, record)]
        if _says_nothing(values[0]) or _is_too_young(resource, values[0], at):
            return None
    elif not resource.is_read_from_listing or has_parts(resource, record):
        return None
    else:
        paths = [path for path in (resource.title, *(resource.text or ()), *resource.metadata.values()) if path]
        values = [uri, *(find(path, record) for path in paths)]
    content = _encoded([shape, values], orjson.OPT_SORT_KEYS)
    return Fingerprint(blake2b(content, digest_size=16).hexdigest())


def _encoded(value: object, option: int = 0) -> bytes:
    try:
        return orjson.dumps(value, option=option)
    except TypeError:  # it reads what is nested more deeply than it writes
        raise Fault("unusable_record", "it is nested too deeply, or has a number of more than 64 bits") from None


def _says_nothing(version: object) -> bool:
    """Whether there is no version, or of several not one."""
    several = list(version.values()) if isinstance(version, dict) else version
    return version is None or (isinstance(several, list) and bool(several) and all(one is None for one in several))


def has_parts(resource: Resource, record: object) -> bool:
    parts = resource.parts
    return parts is not None and (parts.needed is None or is_true(find(parts.needed, record)))


def _is_too_young(resource: Resource, version: object, at: float) -> bool:
    """Whether the record can still change without its version telling."""
    if not resource.version_grain_s:
        return False
    moment = as_time(version)
    return moment is None or at - moment.timestamp() < resource.version_grain_s + GRAIN_SPARE_S


def without_ending(uri: str) -> str:
    """`uri`, written so that its end is not taken for a file's: a page on `logo.png` is no picture."""
    parts = urlsplit(uri)
    folder, slash, name = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=folder + slash + name.replace(".", "%2E")))


def join_parts(texts: Iterable[str]) -> str:
    """The texts with blank lines between them, but for items of a list and rows of a table."""
    joined = ""
    mark = ""
    for text in texts:
        before, mark = mark, text[:1] if text[:2] in ("- ", "| ", "> ") or text[:3] == "1. " else ""
        joined += ("\n" if mark and mark == before else "\n\n") + text if joined else text
    return joined
