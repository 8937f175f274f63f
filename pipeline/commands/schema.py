"""`memsync schema`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import command, safe
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import BaseModel


@click.command("schema")
@click.argument("type_name", metavar="[TYPE]", required=False)
@click.option(
    "--write", "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file."
)
@command
async def schema_command(type_name: str | None, file: Path | None) -> int:
    """Print the JSON Schema of a source's file.

    Of all types of sources that are installed, or of one. Editors offer its keys, show what they mean, and mark what is
    wrong, if a file begins with the line that --write tells. It is made anew by this command after an upgrade.
    """
    text = schema_text(type_name)
    if file is None:
        click.echo(text, nl=False)
        return 0
    _write(file, text)
    return 0


def schema_text(type_name: str | None = None) -> str:
    """The schema of the files of all types of sources, or of one, as it is written.

    Raises:
        ConfigurationError: there is no such type.
    """
    from pipeline.configuration.schema import schema_of

    return json.dumps(schema_of(_models(type_name)), indent=1, ensure_ascii=False) + "\n"


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)  # it holds nothing of anybody's
    except OSError as error:
        raise ConfigurationError(f"the schema cannot be written: {error.strerror}", path=str(file)) from error
    click.echo(f"The schema is in {safe(os.path.relpath(file))}. Let the files beside it begin with this line:\n")
    click.echo(f"# yaml-language-server: $schema={safe(file.name)}")


def _models(type_name: str | None) -> "dict[str, type[BaseModel]]":
    """The settings of each type of source, or of one; one that cannot be used here is told, and left out."""
    from connectors import connector_types
    from pipeline.configuration.faults import did_you_mean

    types = connector_types()
    if type_name is not None:
        if type_name not in types:
            raise ConfigurationError(f"there is no type of source {type_name!r}; {did_you_mean(type_name, types)}")
        return {type_name: types[type_name].settings_model}
    models = {}
    for name in sorted(types):
        try:
            models[name] = types[name].settings_model
        except ConfigurationError as error:
            click.echo(f"memsync: left out: {safe(str(error))}", err=True)
    return models
