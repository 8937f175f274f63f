"""`memsync sources`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import command, completed_by, json_option, print_json, style_here
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.reporting.source_types import SourceType


@click.command("sources")
@click.argument("type_name", metavar="[TYPE]", required=False, shell_complete=completed_by("source_types"))
@json_option
@command
async def sources_command(type_name: str | None, as_json: bool) -> int:
    """List the types of sources, or one's options.

    The latter are YAML, to start a configuration from.
    """
    from pipeline.configuration.source_types import source_types
    from pipeline.reporting.source_types import render_source_type, render_source_types

    types = source_types()
    if type_name is not None:
        types = [each for each in types if each.type == type_name] or _no_such_type(type_name, types)
        if types[0].problem:
            raise ConfigurationError(types[0].problem)
    if as_json:
        print_json("memsync/sources/1", types=[asdict(each) for each in types])
    elif type_name is not None:
        click.echo(render_source_type(types[0], style=style_here()))
    else:
        click.echo(render_source_types(types, style=style_here()))
    return 0


def _no_such_type(type_name: str, types: "Sequence[SourceType]") -> "list[SourceType]":
    from pipeline.configuration.faults import did_you_mean

    known = [each.type for each in types]
    raise ConfigurationError(f"there is no type of source {type_name!r}; {did_you_mean(type_name, known)}")
