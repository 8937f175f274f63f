"""What is to be deployed: the sources at hand, with all that others must know of them."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline.configuration.faults import dotted
from pipeline.configuration.local_references import local_value
from pipeline.configuration.settings import ReferringSettings, SourceSettings
from pipeline.configuration.source_files import read_source_file
from pipeline.deploying.calendars import CannotBeSaid
from pipeline.errors import ConfigurationError
from pipeline.model import API_NAMES
from pipeline.references import Reference, parse, texts_with_marks
from pipeline.reporting.text import printable

SLUG_CHARACTERS_MAX = 40  # Kubernetes allows 52 for a CronJob, of which a prefix takes some
FILESYSTEM = "filesystem"
OF_THIS_MACHINE = ("file", "keyring")  # schemes of references

# How long a run may take to stop; the grace of `memsync schedule` is 20 seconds.
STOP_S = 30

# A run that nobody could start in time is started late, up to so much: with or without `schedule_catch_up`.
CATCH_UP_S, LATE_S = 3600, 120

RUNS_AT_ONCE = 2  # of `memsync schedule`, unless it is told otherwise

# Those that a run may call; see the README.
AGENTCORE_ACTIONS = tuple(f"bedrock-agentcore:{name}" for name in (*API_NAMES.values(), "GetMemory"))

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A file to be written, or shown."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """The sources, and what the command line says of how they are to run.

    `is_service` asks for one process that stays up, in place of one that is started for each run. `program` is how
    memsync is called on this machine; `image` is the container image that holds it elsewhere.
    """

    sources: Sequence["Source"]
    is_service: bool
    program: Sequence[str]
    version: str
    user: str
    image: str
    memory_mib: int
    role_arn: str | None = None
    mail_to: str | None = None

    @property
    def variables(self) -> list[str]:
        """The names of the secrets that any of the sources needs."""
        return list(dict.fromkeys(variable for source in self.sources for variable in source.variables))


@dataclass(frozen=True, slots=True)
class Source:
    """A source with a schedule. `slug` is its name as names elsewhere may be: a-z, 0-9 and dashes."""

    settings: SourceSettings
    schedule: str
    slug: str

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def variables(self) -> list[str]:
        """The environment variables that the settings name or refer to: they hold secrets."""
        named = _variables(self.settings.model_dump(mode="json"))
        referred_to = (each.name for each in self.references if each.scheme == "env")
        return list(dict.fromkeys([*named, *referred_to]))

    @property
    def values(self) -> dict[str, Any]:
        """What the YAML file says, together with those that it extends."""
        return read_source_file(self.settings.file).values

    @property
    def references(self) -> list[Reference]:
        """What stands in the files for something else, such as a secret."""
        return [each for _, text in texts_with_marks(self.values) for each in parse(text).references]

    @property
    def documents(self) -> Path | None:
        """The folder that the documents are in; None: they are not on this machine.

        Raises:
            ConfigurationError: its name refers to something that this machine does not know.
        """
        source = self.settings.source
        if source.type != FILESYSTEM:
            return None
        path = (
            self._filled(source.written["path"])
            if isinstance(source, ReferringSettings)
            else source.model_dump()["path"]
        )
        return Path(os.path.normpath(self.settings.folder / Path(path).expanduser()))

    def _filled(self, text: str) -> str:
        template = parse(text)
        try:
            return template.filled({each: local_value(each, self.settings.folder) for each in template.references})
        except LookupError as error:
            raise ConfigurationError(
                f"`source.path`: {error.args[0]}. Nothing was written.", path=str(self.settings.file)
            ) from None

    def said(self, say: Callable[[], Said], where: str) -> Said:
        """What `say` makes of the schedule.

        Raises:
            ConfigurationError: it has no words for it.
        """
        try:
            return say()
        except CannotBeSaid as error:
            raise ConfigurationError(
                f"`schedule: {json.dumps(self.schedule)}` means {error}, for which {where} has no words. Nothing was"
                " written. Change it, or have `memsync schedule` look at the clock: --service does, for systemd,"
                " kubernetes and ecs.",
                path=str(self.settings.file),
            ) from error

    def moved_yaml(self, *, state: str, documents: str) -> str:
        """One YAML file of this source for another machine, with its state and its documents in these folders.

        Raises:
            ConfigurationError: it refers to something that only this machine has.
        """
        values = self.values
        values["name"] = self.name  # it may come from the name of this file
        values["state"] = {"path": state}
        # What runs leave behind goes with the state; nobody there reads a file of metrics.
        for section, key in (("dead_letters", "path"), ("reports", "path"), ("telemetry", "prometheus_file")):
            if (values.get(section) or {}).get(key) is not None:
                values[section] = {**values[section], key: None}
        if self.documents is not None:
            values["source"] = {**values["source"], "path": documents}
        if self.settings.destination.profile is not None:  # it is of this machine; there a role is in its place
            values["destination"] = {**values["destination"], "profile": None}
        self._refuse_what_stays_here(values)
        return yaml_text(values)

    def _refuse_what_stays_here(self, values: Mapping[str, Any]) -> None:
        for location, text in texts_with_marks(values):
            for reference in parse(text).references:
                if reference.scheme in OF_THIS_MACHINE:
                    raise ConfigurationError(
                        f"`{dotted(location)}`: {reference} is known to this machine only. Nothing was written. Take it"
                        " from ${env:NAME}, ${aws-sm:NAME} or ${ssm:NAME}, or run memsync here: `memsync deploy"
                        " systemd`.",
                        path=str(self.settings.file),
                    )


def _variables(values: Any) -> Iterator[str]:
    """What stands under keys such as `password_variable`, or `header_variables` for several."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            if key.endswith("_variable") and isinstance(value, str):
                yield value
            elif key.endswith("_variables") and isinstance(value, Mapping):
                yield from (each for each in value.values() if isinstance(each, str))
            else:
                yield from _variables(value)
    elif isinstance(values, list):
        for value in values:
            yield from _variables(value)


def sources_to_deploy(valid: Sequence[SourceSettings]) -> tuple[list[Source], list[str]]:
    """The sources that have a schedule, and the names of those that have none.

    Raises:
        ConfigurationError: none has.
    """
    sources = [
        Source(settings, settings.schedule, slug(settings.name)) for settings in valid if settings.schedule is not None
    ]
    without = [settings.name for settings in valid if settings.schedule is None]
    if not sources:
        raise ConfigurationError(
            f"No source here has a schedule: {', '.join(without)}. Nothing was written. Give it one in its YAML file,"
            ' such as `schedule: "*/30 * * * *"`.'
        )
    return sources, without


def slug(name: str) -> str:
    """The name in a-z, 0-9 and dashes; where that loses something, with a digest that keeps it apart from others."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain == name and len(plain) <= SLUG_CHARACTERS_MAX:
        return plain
    digest = sha256(name.encode()).hexdigest()[:6]
    return f"{plain[: SLUG_CHARACTERS_MAX - 7].strip('-')}-{digest}".lstrip("-")


# ---------------------------------------------------------------------------------------------------- text


def comment(*sentences: str) -> str:
    """Lines of a comment; what they quote cannot end it."""
    return "".join(f"# {printable(line)}\n" if line else "#\n" for line in sentences)


def yaml_text(*documents: Mapping[str, Any]) -> str:
    """The documents as YAML, in the order of their keys."""
    return "---\n".join(yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=110) for each in documents)


class _Dumper(yaml.SafeDumper):
    """Writes what another reader of YAML could take for a number in quotes, and text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - an alias saves lines and costs readers
        return True


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if re.match(r"[-+.\d]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)
