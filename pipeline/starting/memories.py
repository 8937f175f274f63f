"""The memory of a source that is being set up."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser, Error
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from pydantic import TypeAdapter, ValidationError

from pipeline.configuration.values import LOCAL, MemoryId, Region
from pipeline.destinations.memories import MemorySummary, has_credentials, list_memories
from pipeline.errors import DestinationError
from pipeline.starting.draft import Setting

DEFAULT_REGION = "us-east-1"
_ARN = re.compile(r"arn:[a-z-]+:bedrock-agentcore:([a-z0-9-]+):")


@dataclass(frozen=True, slots=True)
class KnownMemories:
    """The memories of the account; `problem` tells why they could not be listed. Both empty without credentials."""

    memories: Sequence[MemorySummary] = ()
    problem: str = ""


async def known_memories(region: str, within_s: float) -> KnownMemories:
    """The memories that there are to choose from, as far as AWS says so in time."""
    try:
        with anyio.move_on_after(within_s):
            if not await has_credentials():
                return KnownMemories()
            return KnownMemories(await list_memories(region))
    except DestinationError as error:
        return KnownMemories(problem=str(error))
    return KnownMemories(problem=f"AWS gave no answer in {within_s:g} s.")


def read_memory_id(typed: str) -> str:
    """A memory's id or ARN.

    Raises:
        ValueError: `typed` is none.
    """
    return _checked(MemoryId, typed)


def read_region(typed: str) -> str:
    """A region.

    Raises:
        ValueError: `typed` is none.
    """
    return _checked(Region, typed)


def _checked(kind: Any, typed: str) -> str:
    try:
        return str(TypeAdapter(kind).validate_python(typed))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def region_in(memory_id: str) -> str | None:
    """The region in a memory's ARN; None for a bare id."""
    found = _ARN.match(memory_id)
    return found[1] if found else None


def region_here(environ: Mapping[str, str] = os.environ) -> str | None:
    """The region that the environment or the AWS configuration names, read without the AWS client, which takes long."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if environ.get(name):
            return environ[name]
    configuration = ConfigParser()
    profile = environ.get("AWS_PROFILE", "default")
    try:
        configuration.read(Path(environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser())
    except (Error, OSError, UnicodeDecodeError, RuntimeError):
        return None
    section = "default" if profile == "default" else f"profile {profile}"
    return configuration.get(section, "region", fallback=None)


def local_memory(name: str, region: str | None) -> list[Setting]:
    """The memory on this machine, and how to go on to one in AWS."""
    return [
        Setting(("destination", "type"), "agentcore"),
        Setting(
            ("destination", "endpoint_url"),
            LOCAL,
            "a memory on this machine, to begin with",
            below=(
                f"For AWS, put these two in its place, and remove the state, which speaks of this one: .memsync/{name}",
                "memory_id: NAME-XXXXXXXXXX",
                f"region: {region or DEFAULT_REGION}",
            ),
        ),
    ]


def in_aws(memory_id: str, region: str | None, endpoint_url: str | None) -> list[Setting]:
    settings = [Setting(("destination", "type"), "agentcore"), Setting(("destination", "memory_id"), memory_id)]
    if region is not None:
        settings.append(Setting(("destination", "region"), region))
    if endpoint_url is not None:
        settings.append(Setting(("destination", "endpoint_url"), endpoint_url, "this server instead of AWS"))
    return settings


def variables_of(settings: Any, name: str = "") -> Iterator[str]:
    """The names of the environment variables that settings name, by their own names: `password_variable`."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if str(key).endswith("_variables") and isinstance(value, Mapping):
                yield from map(str, value.values())
            else:
                yield from variables_of(value, str(key))
    elif isinstance(settings, list | tuple):
        for each in settings:
            yield from variables_of(each, name)
    elif name.endswith("_variable") and isinstance(settings, str):
        yield settings
