"""What files with a document a line have in common: ids, and fields that are found by their usual names."""

import hashlib
from collections.abc import Iterable, Mapping

from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentId
from pipeline.parsing.decoding import clean

ID_NAMES = ("id", "_id", "key", "uuid", "guid", "url")
TEXT_NAMES = ("text", "content", "body", "markdown", "message", "description", "summary")
TITLE_NAMES = ("title", "name", "subject", "headline")
MODIFIED_NAMES = ("updated_at", "modified_at", "last_modified", "updatedat", "modifiedat", "lastmodified", "updated")


class LineIds:
    """The ids of the documents in one file: of lines with the same id, the later ones get `~2`, `~3`, …"""

    def __init__(self, file: DocumentId) -> None:
        self._file = file
        self._uses: dict[str, int] = {}

    def id_for(self, line_id: str) -> DocumentId:
        unique = line_id
        while unique in self._uses:
            self._uses[line_id] += 1
            unique = f"{line_id}~{self._uses[line_id]}"
        self._uses[unique] = 1
        return DocumentId(f"{self._file}#{unique}")


def usual_name(names: Iterable[str], usual: tuple[str, ...]) -> str | None:
    """The one of `names` that stands first among the `usual` ones, in small or capital letters."""
    by_small_name: dict[str, str] = {}
    for name in names:
        by_small_name.setdefault(name.lower(), name)
    return next((by_small_name[name] for name in usual if name in by_small_name), None)


def line_id(fields: Mapping[str, object], name: str | None, raw: str, line: int) -> str:
    """The value of the field `name`, or of the usual one, or else the digest of the line.

    Raises:
        UnreadableDocument: `name` was configured, and the line has no value for it.
    """
    value = fields.get(name if name is not None else usual_name(fields, ID_NAMES) or "")
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        cleaned = clean(str(value)).strip()
        if cleaned:
            return cleaned
    if name is not None:
        raise UnreadableDocument("missing_id", f"line {line} has no value in the field {name!r}, the configured id")
    return hashlib.blake2b(raw.encode(), digest_size=12).hexdigest()


def render(fields: Iterable[tuple[str, str]]) -> str:
    """Each field that is not blank on a line of its own, behind its name."""
    return "\n".join(f"{name}: {value.strip()}" for name, value in fields if value.strip())
