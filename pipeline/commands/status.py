"""`memsync status`."""

import time
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.commands.shared import (
    command,
    exit_code_of,
    json_option,
    load,
    paths_argument,
    print_json,
    style_here,
)
from pipeline.errors import SyncError


@click.command("status")
@paths_argument
@json_option
@command
async def status_command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show how each source stands.

    How its last run ended, when one last left it in sync, when it is due, its records and dead letters; the source that
    needs you soonest first.
    """
    from pipeline.reporting.statuses import StatusRow, render_status
    from pipeline.runs.status import status_row

    now = time.time()
    rows: list[StatusRow] = []
    errors: list[SyncError] = []
    for settings in load(paths, ()):
        try:
            rows.append(await status_row(settings, now))
        except SyncError as error:  # one that cannot be read must not hide how the others stand
            errors.append(error)
            rows.append(StatusRow(settings.name, None, error=str(error)))
    if len(errors) == len(rows) == 1:
        raise errors[0]
    if as_json:
        print_json("memsync/status/1", sources=[asdict(row) for row in rows])
    else:
        click.echo(render_status(rows, now=now, style=style_here()))
    return exit_code_of(errors)
