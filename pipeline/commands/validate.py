"""`memsync validate`."""

from pathlib import Path

import click

from pipeline.commands.shared import command, load, paths_argument, safe


@click.command("validate")
@paths_argument
@command
async def validate_command(paths: tuple[Path, ...]) -> int:
    """Check the configuration.

    Faults are named by file:line:column.
    """
    for settings in load(paths, ()):
        click.echo(f"{safe(str(settings.file))}: source {settings.name!r} is valid")
    return 0
