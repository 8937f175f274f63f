"""What `memsync init` learns of a source from its address and a few answers."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import click

from pipeline.commands.shared import safe, wait_for
from pipeline.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    from pipeline.commands.questions import Questions
    from pipeline.starting.addresses import Place
    from pipeline.starting.draft import Draft, Setting

# Types whose settings nobody can type one by one, and what of them is asked for instead.
BY_ADDRESS = {
    "rest": "The address of a listing of the API, such as https://example.com/api/pages",
    "sql": "The database, such as postgresql://USER@HOST/DATABASE or a file of SQLite",
    "web": "The address of the site, such as https://example.com/docs/",
}
UNKNOWN_PLACE = "A source"  # of a type that was named
ADDRESS_SETTINGS = ("url", "base_url", "urls", "start", "path", "host")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    where: str | None
    type_name: str | None
    name: str | None
    memory_id: str | None
    region: str | None
    endpoint_url: str | None
    assignments: tuple[str, ...]
    is_yes: bool
    no_look: bool
    out: Path | None

    @property
    def base(self) -> Path:
        """The folder of the file that will be written."""
        return self.out.parent if self.out else Path()


def note(text: str) -> None:
    """Tell what is being done, beside the result."""
    click.echo(f"memsync: {safe(text)}", err=True)


def source_draft(asked: Asked, questions: "Questions", given: "Sequence[Setting]") -> "tuple[Draft, Place]":
    """The section `source` as addresses and answers tell it, and the place that was recognised."""
    from pipeline.starting.draft import Setting, tree, value_at, with_settings
    from pipeline.starting.fields import value_of, wanted

    place = _place(asked, questions, given)
    type_setting = Setting(("source", "type"), place.type)
    draft = with_settings((type_setting,), [*place.settings, *(each for each in given if each.path[0] == "source")])
    if place.password is not None:
        draft = with_settings(draft, [_kept_out(place, asked, questions, value_at(draft, *place.password_variable))])
    model = _settings_model(place.type)
    if place.type == "sql":
        draft = with_settings(draft, _table(draft, asked, questions))
    while missing := wanted(model, tree(draft)["source"]):
        setting = missing[0]
        said = "the environment variable that holds the secret, which stays out of the file"
        words = f"{setting.name}: {said if setting.is_secret_name else setting.description}"
        default = _variable_name(asked.name or place.name, setting.name) if setting.is_secret_name else None
        value = questions.text(
            words,
            f"--set source.{setting.name}=VALUE",
            default=default,
            meaning=partial(value_of, model, tree(draft)["source"], setting.name),
        )
        draft = with_settings(draft, [Setting(("source", setting.name), value)])
    return draft, place


def _place(asked: Asked, questions: "Questions", given: "Sequence[Setting]") -> "Place":
    """Where the documents are, as the argument says or, if there is none, an answer."""
    from pipeline.starting.addresses import Place

    where, type_name = asked.where, asked.type_name
    if where is None and type_name is None:
        where = questions.text(
            "Where are the documents? A folder, or an address (? lists the types)", "FOLDER_OR_URL", meaning=_somewhere
        )
        if where == "?":
            where, type_name = None, questions.choice("The types of sources", "--type", _types())
    if type_name is not None:
        _settings_model(type_name)
    if where is None and type_name in BY_ADDRESS and not any(setting.path[0] == "source" for setting in given):
        where = questions.text(BY_ADDRESS[type_name], "FOLDER_OR_URL")
    if where is None:
        assert type_name is not None
        return Place(type_name, UNKNOWN_PLACE, type_name)
    found = _recognised(where, asked)
    if type_name is None:
        if found is None:
            raise ConfigurationError(_unknown_place(where))
        return _chosen(found, questions)
    options = [] if found is None else [found, *found.alternatives]
    return next((each for each in options if each.type == type_name), None) or _with_address(type_name, where, asked)


def _recognised(where: str, asked: Asked) -> "Place | None":
    from pipeline.starting.addresses import place_of
    from pipeline.starting.websites import place_behind, place_by_name

    place = place_of(where, asked.base)
    if place is None or not place.is_webpage:
        return place
    if asked.no_look:
        place = place_by_name(where)
    else:
        note(f"asks {place.name} what is there")
        place = wait_for(partial(place_behind, where))
    if place.type != "rest":
        _refuse_secret(where, place.type)
    return place


def _refuse_secret(url: str, type_name: str) -> None:
    """Refuse an address that would take a secret into the file; an API's is taken out of it."""
    from pipeline.starting.apis import is_secret

    parts = urlsplit(url)
    said = [*parse_qsl(parts.query), *parse_qsl(parts.fragment)]
    found = next((name for name, _ in said if is_secret(name)), None)
    if found is not None:
        # Feeds keep a digest of the query. The address of a page is a document's id, in the memory and in reports.
        otherwise = {
            "feed": "; or, if the server wants it there, write the file with another address, and set"
            """ MEMSYNC_SOURCE__URLS to '["ADDRESS"]', the true one, for each run""",
            "web": ". If the server wants it there, the pages cannot be read as a site: their addresses, and the secret"
            " with them, would stand in the memory, in reports and in the log",
        }.get(type_name, "")
        raise ConfigurationError(
            f"The address has a {found!r}, which looks like a secret: no file should hold that. Nothing was done."
            f" Leave it out{otherwise}."
        )


def _chosen(place: "Place", questions: "Questions") -> "Place":
    """The place, or what else it can be read as."""
    if not place.alternatives:
        return place
    options = [place, *place.alternatives]
    chosen = questions.choice(
        "That folder can be read as", "--type", [(each.type, each.words) for each in options], default=place.type
    )
    return next(each for each in options if each.type == chosen)


def _somewhere(typed: str) -> str:
    if not typed:
        raise ValueError("a folder, an address, or ? for the list of types")
    if typed != "?" and "://" not in typed and "@" not in typed and not Path(typed).expanduser().exists():
        raise ValueError(f"there is no {typed!r} here; an address has `://` in it")
    return typed


def _unknown_place(where: str) -> str:
    if "://" in where:
        scheme = where.partition("://")[0]
        return (
            f"Which type of source reads {scheme}:// is not known. Nothing was done. Name the type with --type;"
            " `memsync sources` lists them."
        )
    name = "of that name" if "@" in where else repr(where)  # which may be an address with a password
    return (
        f"There is no folder or file {name}, and an address has `://` in it. Nothing was done. Correct it; or name"
        " a type with --type, `memsync sources` lists them."
    )


def _with_address(type_name: str, where: str, asked: Asked) -> "Place":
    """A source of a type that the user has named, with the address in the setting that such sources have it in."""
    from pipeline.starting.addresses import Place, relative_to, slug
    from pipeline.starting.apis import described_api
    from pipeline.starting.draft import source_setting

    name = slug(where.partition("://")[2] or Path(where).name)
    if type_name == "rest":
        return Place(type_name, UNKNOWN_PLACE, name, described_api(where, None))
    _refuse_secret(where, type_name)
    fields = _settings_model(type_name).model_fields
    setting = next((each for each in ADDRESS_SETTINGS if each in fields), None)
    if setting is None:
        raise click.UsageError(f"A source of type {type_name} has no single address; give --set source.KEY=VALUE.")
    value: Any = relative_to(Path(where), asked.base) if setting == "path" else where
    return Place(
        type_name, UNKNOWN_PLACE, name, (source_setting(setting, [value] if setting in ("urls", "start") else value),)
    )


def _types() -> list[tuple[str, str]]:
    from pipeline.configuration.source_types import source_types

    return [(each.type, f"{each.type:<11} {each.summary or each.problem or ''}") for each in source_types()]


def _settings_model(type_name: str) -> Any:
    from connectors import connector_types
    from pipeline.starting.fields import unknown_type

    types = connector_types()
    if type_name not in types:
        raise ConfigurationError(unknown_type(type_name, sorted(types)))
    return types[type_name].settings_model


def _variable_name(name: str, setting: str) -> str:
    """A name for the environment variable that a secret of the source comes from."""
    kind = setting.removesuffix("_variable").upper()  # PASSWORD, KEY, TOKEN
    plain = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_").lstrip("0123456789_")
    return f"{plain or 'SOURCE'}_{kind}"


def _kept_out(place: "Place", asked: Asked, questions: "Questions", given: str | None) -> "Setting":
    """The setting that names the variable for the secret that stood in the address, which no file may hold."""
    from pipeline.starting.draft import Setting

    variable = given or questions.text(
        "The secret in the address does not go into the file. Which environment variable will hold it?",
        f"--set {'.'.join(place.password_variable)}=NAME",
        default=_variable_name(asked.name or place.name, place.password_variable[-1]),
    )
    os.environ.setdefault(variable, place.password or "")  # for the look, in this process alone
    return Setting(place.password_variable, variable, "the environment variable that holds it")


def _table(draft: "Draft", asked: Asked, questions: "Questions") -> "list[Setting]":
    """The table to read, of those that are there, and what its columns are; nothing if that is said already."""
    from pipeline.starting.databases import columns_of, likely, tables_of
    from pipeline.starting.draft import source_setting, value_at

    has_address = value_at(draft, "source", "url") or value_at(draft, "source", "url_variable")
    if not has_address or value_at(draft, "source", "query"):
        return []
    table = value_at(draft, "source", "table")
    if asked.no_look:
        if not table:
            table = questions.text("The table or view whose rows are documents", "--set source.table=NAME")
        return [source_setting("table", table)]
    try:
        tables = {found.name: found for found in likely(wait_for(partial(tables_of, draft, asked.base)))}
    except SourceError as error:
        raise SourceError(
            f"{error} No file was written; --no-look writes it without a look, with --set source.table=NAME"
            " --set source.id=COLUMN."
        ) from error
    if not tables:
        raise SourceError(
            "The database has no tables that can be seen. Nothing was written. Name one with --set source.table=NAME."
        )
    if not table:
        labels = [(name, f"{name}  ({', '.join(list(found.kinds)[:8])})") for name, found in tables.items()]
        table = questions.choice("Whose rows are documents", "--set source.table=NAME", labels, default=labels[0][0])
    if table not in tables:  # of another schema
        return [source_setting("table", table)]
    known = [setting.path for setting in draft]
    return [setting for setting in columns_of(tables[table]) if setting.path not in known]
