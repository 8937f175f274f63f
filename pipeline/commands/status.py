"""`memsync status`."""

from dataclasses import asdict
from pathlib import Path

import click

from pipeline.commands.shared import command, json_option, load, paths_argument, print_json, style_here


@click.command("status")
@paths_argument
@json_option
@command
async def status_command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show how each source stands.

    Its last run, whether that left it in sync, its records and dead letters, and when it is due.
    """
    from pipeline.reporting.listings import render_status
    from pipeline.status import status_row

    rows = [await status_row(settings) for settings in load(paths, ())]
    if as_json:
        print_json("memsync/status/1", sources=[asdict(row) for row in rows])
    else:
        click.echo(render_status(rows, style=style_here()))
    return 0
