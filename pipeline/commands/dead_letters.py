"""`memsync dead-letters`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import (
    command,
    files_of,
    json_option,
    load,
    paths_argument,
    print_json,
    source_option,
    style_here,
)

if TYPE_CHECKING:
    from pipeline.model import DeadLetter


@click.command("dead-letters")
@paths_argument
@source_option
@json_option
@command
async def dead_letters_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> int:
    """List the dead letters, by reason."""
    from pipeline.letters import to_json
    from pipeline.reporting.listings import render_dead_letters
    from pipeline.runner import open_source_state

    letters: list[DeadLetter] = []
    sources = load(paths, names)
    for settings in sources:
        async with open_source_state(settings, is_read_only=True) as state:
            letters += await state.letters()
    if as_json:
        print_json("memsync/dead-letters/1", dead_letters=[json.loads(to_json(letter)) for letter in letters])
    else:
        click.echo(render_dead_letters(letters, paths=files_of(sources), style=style_here()))
    return 0
