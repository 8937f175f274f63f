"""Which tables a database has, and which of a table's columns are what."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync

from pipeline.concealing import NOTHING_CONCEALED, Concealer
from pipeline.configuration.resolving import concealed_errors
from pipeline.configuration.secret_stores import Surroundings, look_up
from pipeline.errors import ConfigurationError, SourceError
from pipeline.references import Reference, has_marks, parse
from pipeline.starting.draft import Draft, Setting, source_setting, value_at

if TYPE_CHECKING:  # a source of another type does without
    from connectors.sql.database import TableDescription

TIMEOUT_S = 20.0

TITLES = ("title", "name", "subject", "headline", "summary", "question")
VERSIONS = ("version", "revision", "row_version", "rowversion", "etag", "xmin")
TIMES = ("updated_at", "modified_at", "last_modified", "modified", "updated", "changed_at", "update_time", "mtime")
TEXTS = ("body", "text", "content", "description", "message", "answer", "markdown", "html", "notes", "comment")
WORTH_KEEPING = (
    "author",
    "category",
    "tags",
    "status",
    "type",
    "language",
    "team",
    "product",
    "section",
    "url",
    "link",
)
IDS = ("id", "uuid", "key", "slug", "pk")


async def tables_of(draft: Draft, base: Path) -> "list[TableDescription]":
    """The tables and views of the database that `draft` names, maybe by reference.

    Raises:
        SourceError: it cannot be asked, or what a reference stands for cannot be had.
    """
    from connectors.sql.database import Database  # noqa: PLC0415
    from connectors.sql.settings import SqlSettings  # noqa: PLC0415 - see above

    url, concealer = await _address(draft, base)
    # What must be said of a table is not known yet.
    settings = SqlSettings.model_construct(
        type="sql",
        url=url,
        url_variable=value_at(draft, "source", "url_variable"),
        password_variable=value_at(draft, "source", "password_variable"),
        timeout_s=TIMEOUT_S,
    )
    with concealed_errors(concealer):
        return await run_sync(Database(settings, base).tables)


async def _address(draft: Draft, base: Path) -> tuple[str | None, Concealer]:
    """The address with what its references stand for, and what hides that."""
    written = value_at(draft, "source", "url")
    if not isinstance(written, str) or not has_marks(written):
        return written, NOTHING_CONCEALED
    try:
        template = parse(written)
    except ValueError as error:
        raise ConfigurationError(f"`source.url`: {error}") from None
    region, profile = (value_at(draft, "destination", name) for name in ("region", "profile"))
    values: dict[Reference, str] = {}
    for reference, value in (await look_up(template.references, Surroundings(base, region, profile))).items():
        if isinstance(value, LookupError):
            raise SourceError(f"`source.url`: {value.args[0]}.") from None
        values[reference] = value
    return template.filled(values), Concealer({value: str(reference) for reference, value in values.items()})


def likely(tables: "Sequence[TableDescription]") -> "list[TableDescription]":
    """`tables`, those first that look as if their rows had a text to give."""
    return sorted(tables, key=lambda table: (not _texts(table), not table.primary_key, table.name))


def columns_of(table: "TableDescription") -> list[Setting]:
    """What the columns of a table are, told from its key, their types and their names."""
    kinds = table.kinds
    key = list(table.primary_key) or [_named(IDS, list(kinds)) or next(iter(kinds))]
    version = _named(VERSIONS, [name for name, kind in kinds.items() if kind in ("number", "text")])
    modified = _named(TIMES, list(kinds))
    title = _named(TITLES, [name for name, kind in kinds.items() if kind == "text" and name not in key])
    text = [name for name in _texts(table) if name not in (*key, title, version, modified)]
    is_key = "its primary key" if table.primary_key else "must be unique and never NULL: the table has no primary key"
    settings = [
        source_setting("table", table.name),
        source_setting("id", key[0] if len(key) == 1 else key, is_key),
    ]
    if text:
        settings.append(source_setting("text", text[0] if len(text) == 1 else text, "what becomes the text of records"))
    if title:
        settings.append(source_setting("title", title))
    if modified:
        settings.append(source_setting("modified_at", modified, "the time that records bear"))
    if version:
        why = "must change with every change of a row: then only changed rows are read"
        settings.append(source_setting("version", version, why))
    elif modified and kinds[modified] == "time":
        settings.append(
            source_setting(
                "cursor",
                modified,
                "must grow with every change of a row: then runs list changed rows, and all of them once a day",
            )
        )
    used = {*key, *text, title, modified, version}
    kept = [name for name in kinds if name.lower() in WORTH_KEEPING and name not in used]
    if kept:
        settings.append(source_setting("metadata", kept, "go along, for `record.metadata` to use"))
    return settings


def _texts(table: "TableDescription") -> list[str]:
    """The columns that are likely to hold texts rather than words: by their names, or else all that could."""
    words = [name for name, kind in table.kinds.items() if kind == "text"]
    named = [name for name in words if any(part in name.lower() for part in TEXTS)]
    return named or [name for name in words if name not in (*table.primary_key, _named(TITLES, words))]


def _named(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    by_letters = {name.lower(): name for name in names}
    return next((by_letters[name] for name in wanted if name in by_letters), None)
