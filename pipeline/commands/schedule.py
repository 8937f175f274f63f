"""`memsync schedule`."""

from pathlib import Path

import click

from pipeline.commands.serving import Serving, serve, serving_options
from pipeline.commands.shared import command, paths_argument


@click.command("schedule")
@paths_argument
@command
@serving_options
async def schedule_command(paths: tuple[Path, ...], serving: Serving) -> int:
    """Stay up, and run each source when it is due.

    When that is, `schedule` in its YAML file says. A run that is under way when the next is due is not doubled; what
    was missed while this was down is made up for, once. YAML files that change are read again, at once on SIGHUP.
    Ctrl-C and SIGTERM stop it: runs under way are asked to stop, later ones carry on, and the exit code is 0.
    """
    return await serve(paths, serving)
