"""The configuration, what it needs on this machine, and when the source is due. Nothing is asked of anybody."""

import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from pipeline.configuration.faults import VARIABLE_PREFIX, dotted
from pipeline.configuration.known_settings import known_settings, references_of, written_settings
from pipeline.configuration.local_references import local_value
from pipeline.configuration.readiness import named_variables
from pipeline.configuration.settings import SourceSettings
from pipeline.model import LastRun
from pipeline.references import LOCAL_SCHEMES, Reference, has_marks
from pipeline.reporting.examinations import Finding
from pipeline.reporting.text import duration, moment

RUNS_MISSED_MAX = 2  # one may be late, or still at work


class Need(NamedTuple):
    """Something that has to be installed: a package of Python, or a program. `cure` tells how it comes here."""

    name: str
    is_there: bool
    cure: str


async def check_configuration(settings: SourceSettings) -> Sequence[Finding]:
    variables = sorted(name for name in os.environ if name.upper().startswith(VARIABLE_PREFIX))
    above = f"; above the file: {', '.join(variables)}" if variables else ""
    return [Finding("configuration", "ok", f"valid, type {settings.source.type}{above}")]


# ----------------------------------------------------------------------------------------------- packages


async def check_packages(settings: SourceSettings) -> Sequence[Finding]:
    source = known_settings(settings)
    if source is None:
        told = "what the source needs depends on references whose values are not known here; reading it tells"
        return [Finding("packages", "not_known", told)]
    needs = list(needs_of(source, settings.folder))
    missing = [need for need in needs if not need.is_there]
    if missing:
        names = ", ".join(need.name for need in missing)
        cures = "\n".join(f"  {need.cure}" for need in missing)
        return [Finding("packages", "problem", f"not installed: {names}", f"Install it where memsync is:\n{cures}")]
    names = ", ".join(need.name for need in needs)
    return [Finding("packages", "ok", f"{names}: there" if needs else "this type of source needs nothing more")]


def needs_of(source: Any, folder: Path) -> Iterator[Need]:
    """What the type of the source needs beyond what comes with memsync; `folder` is that of its YAML file."""
    match source.type:
        case "feed":
            yield _package("feedparser", "feed")
        case "web":
            yield _package("protego", "web")
        case "git":
            yield _program("git", "apt install git")
        case "singer":
            program = source.command[0]
            place = shutil.which(program) or shutil.which(folder / program)
            yield Need(program, place is not None, f"pipx install {program}")
        case "sql":
            yield _package("sqlalchemy", "sql")
            if find_spec("sqlalchemy") and (url := source.url or os.environ.get(source.url_variable or "")):
                yield from _driver(url)
        case "fsspec":
            yield from _file_system(source.url.partition("://")[0])


def _package(module: str, extra: str) -> Need:
    return Need(module, find_spec(module) is not None, f"pip install 'agentcore-memory-sync[{extra}]'")


def _program(name: str, cure: str) -> Need:
    return Need(name, shutil.which(name) is not None, cure)


def _driver(url: str) -> Iterator[Need]:
    from sqlalchemy import make_url  # noqa: PLC0415 - of an extra
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415

    from connectors.sql.database import PACKAGE_BY_MODULE  # noqa: PLC0415

    try:
        name = make_url(url).drivername
        dialect = make_url(url).get_dialect()
    except (ArgumentError, ValueError):  # whose words are the URL; reading the source tells what is wrong
        return
    except NoSuchModuleError:
        yield Need(f"a dialect of SQLAlchemy for {name}", False, "pip install PACKAGE, of that database")
        return
    try:
        dialect.import_dbapi()
    except ImportError as error:
        module = (error.name or name).partition(".")[0]
        yield Need(f"driver {module}", False, f"pip install {PACKAGE_BY_MODULE.get(module, module)}")
    else:
        yield Need(f"driver {dialect.driver}", True, "")


def _file_system(protocol: str) -> Iterator[Need]:
    from connectors.fsspec.file_systems import PROTOCOLS, FileSystem  # noqa: PLC0415

    extra = PROTOCOLS.get(protocol, FileSystem).extra
    cure = f"pip install 'agentcore-memory-sync[{extra}]'"
    try:
        from fsspec import get_filesystem_class  # noqa: PLC0415 - of an extra

        get_filesystem_class(protocol.partition("+")[0])
    except (ImportError, ValueError) as error:  # whose words may name a package
        yield Need(f"the file system of {protocol}:// ({error})", False, cure)
    else:
        yield Need(f"the file system of {protocol}://", True, cure)


# ------------------------------------------------------------------------------------------------ secrets


async def check_secrets(settings: SourceSettings) -> Sequence[Finding]:
    """Whether there is what the source's settings name or refer to. What that holds is not looked at."""
    named = dict(secret_variables(settings.source))
    references = {reference for _, reference in references_of(settings.source)}
    stores = sorted(reference for reference in references if reference.scheme not in LOCAL_SCHEMES)
    files = sorted(reference for reference in references if reference.scheme == "file")
    if not named and not files and not stores:
        return [Finding("secrets", "ok", "the source names no environment variables")]
    unset = {setting: variable for setting, variable in named.items() if not os.environ.get(variable)}
    unread = [problem for file in files if (problem := _problem_of(file, settings.folder))]
    if unset or unread:
        missing = ", ".join(f"{variable} (source.{setting})" for setting, variable in unset.items())
        cure = "Set it for whoever runs memsync, cron and services included:\n" + "\n".join(
            f"  export {variable}=..." for variable in dict.fromkeys(unset.values())
        )
        found = [Finding("secrets", "problem", f"not set: {missing}", cure)] if unset else []
        return [*found, *(Finding("secrets", "problem", problem) for problem in unread)]
    told = [
        *([f"set: {', '.join(sorted(set(named.values())))}"] if named else []),
        *([f"there: {', '.join(map(str, files))}"] if files else []),
        *([f"looked up when the source is read: {', '.join(map(str, stores))}"] if stores else []),
    ]
    return [Finding("secrets", "ok", "; ".join(told))]


def _problem_of(reference: Reference, folder: Path) -> str | None:
    try:
        local_value(reference, folder)
    except LookupError as error:
        return str(error.args[0])
    return None


def secret_variables(source: BaseModel) -> Iterator[tuple[str, str]]:
    """The settings that name environment variables or refer to some, and the variables' names."""
    for location, variable in named_variables(written_settings(source), ()):
        if not has_marks(variable):
            yield dotted(location), variable
    for location, reference in references_of(source):
        if reference.scheme == "env":
            yield dotted(location[1:]), reference.name


# ----------------------------------------------------------------------------------------------- schedule


def judge_schedule(schedule: str | None, last: LastRun | None, now: datetime) -> Finding:
    """Whether the last run is as recent as `schedule` says; `now` has the time zone that the schedule counts in."""
    if schedule is None:
        return Finding("schedule", "ok", "none set: runs are started by hand, or by whom memsync does not know")
    from cronsim import CronSim  # noqa: PLC0415 - few sources have a schedule

    due, following = next(upcoming := CronSim(schedule, now)), next(upcoming)
    every = following - due
    found = f"`{schedule}`: next due {moment(due.timestamp())}"
    if last is None:
        return Finding("schedule", "ok", f"{found}; it never ran")
    if last.ended_at is None:  # of which the state tells
        return Finding("schedule", "ok", found)
    age = now.astimezone(UTC) - datetime.fromtimestamp(last.ended_at, UTC)
    if age > every * (RUNS_MISSED_MAX + 1) and age > timedelta(minutes=5):
        return Finding(
            "schedule",
            "warning",
            f"{found}, and the last run was {duration(age.total_seconds())} ago",
            "memsync does not start itself: see whether cron, the timer or the job that should still does.",
        )
    return Finding("schedule", "ok", found)
