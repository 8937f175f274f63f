"""`memsync dead-letters`: list, show, drop and export them. `edit` is in a module of its own."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.edit_letter import edit_command
from pipeline.commands.letter_options import choose_letters, find_letter, letter_filter_options, require_choice
from pipeline.commands.shared import (
    EXIT_FAILED,
    agreed,
    command,
    exit_code_of,
    files_of,
    json_option,
    load,
    path_argument,
    paths_argument,
    print_json,
    safe,
    source_option,
    style_here,
)
from pipeline.errors import ConfigurationError, SyncError

if TYPE_CHECKING:
    from pipeline.auto_replay import Outlook
    from pipeline.configuration.settings import SourceSettings
    from pipeline.letter_filter import LetterFilter
    from pipeline.model import DeadLetter


class LetterCommands(click.Group):
    """Commands that all begin with `memsync dead-letters`; without one of their names, they are listed."""

    DEFAULT = "list"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *self.get_help_option_names(ctx)}:
            args = [self.DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group("dead-letters", cls=LetterCommands, subcommand_metavar="[list] PATH... | COMMAND [ARGS]...")
def dead_letters_command() -> None:
    """List dead letters by reason; show, edit, drop, export them.

    Without a COMMAND, they are listed; `memsync dead-letters list --help` tells how to choose some. A folder that is
    called like a command is written with `./` before it. `memsync replay` sends them again, all or some.
    """


@dead_letters_command.command("list")
@paths_argument
@source_option
@letter_filter_options
@click.option("--dropped", "is_dropped", is_flag=True, help="List those that were dropped by hand instead.")
@json_option
@command
async def list_command(
    paths: tuple[Path, ...], names: tuple[str, ...], wanted: "LetterFilter", is_dropped: bool, as_json: bool
) -> int:
    """List the dead letters, by reason.

    For each reason: what it means, what to do about it, and when a run sends its letters again by itself, if it does.
    """
    from pipeline.letters import to_json
    from pipeline.reporting.letter_export import written_outlook
    from pipeline.reporting.letter_listings import render_dead_letters

    sources = load(paths, names)
    letters = await _letters_like(sources, wanted, is_dropped=is_dropped)
    outlooks = _outlooks(sources, letters)
    if as_json:
        print_json(
            "memsync/dead-letters/1",
            dead_letters=[json.loads(to_json(letter)) for letter in letters],
            outlooks={each: written_outlook(outlook) for each, outlook in outlooks.items()},
        )
    else:
        click.echo(render_dead_letters(letters, paths=files_of(sources), outlooks=outlooks, style=style_here()))
    return 0


@dead_letters_command.command("show")
@path_argument
@click.argument("letter_id", metavar="ID")
@source_option
@click.option("--text", "with_text", is_flag=True, help="Show the record's text and metadata, too.")
@json_option
@command
async def show_command(path: Path, letter_id: str, names: tuple[str, ...], with_text: bool, as_json: bool) -> int:
    """Show one dead letter.

    What failed and why, what to do about it, and when it is sent again. ID is the beginning of its id, as it is listed.
    """
    from pipeline.letters import to_json
    from pipeline.reporting.letter_export import written_outlook
    from pipeline.reporting.letter_listings import render_dead_letter
    from pipeline.runs.parts import open_destination

    sources = load([path], names)
    settings, letter = await find_letter(sources, letter_id)
    outlook = _outlooks(sources, [letter])[letter.id]
    if as_json:
        shown = json.loads(to_json(letter if with_text else replace(letter, record=None)))
        print_json("memsync/dead-letters/1", dead_letters=[shown], outlooks={letter.id: written_outlook(outlook)})
        return 0
    async with open_destination(settings, is_dry=True) as memory:
        is_written = letter.record is not None and letter.operation != "delete"
        content = memory.content_of(letter.record) if letter.record is not None and is_written else None
    click.echo(
        render_dead_letter(
            letter,
            content,
            path=files_of(sources)[letter.source],
            outlook=outlook,
            with_text=with_text,
            style=style_here(),
        )
    )
    return 0


dead_letters_command.add_command(edit_command)


@dead_letters_command.command("drop")
@paths_argument
@source_option
@letter_filter_options
@click.option("--all", "is_all", is_flag=True, help="All of them.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
@command
async def drop_command(
    paths: tuple[Path, ...], names: tuple[str, ...], wanted: "LetterFilter", is_all: bool, is_sure: bool
) -> int:
    """Give dead letters up for good, until their documents change.

    Dropped letters are counted apart, and a source that has no others is in sync. `dead-letters list --dropped` lists
    them, `replay --id` sends one after all. What runs try again anyway, and deletions, cannot be dropped.
    """
    from pipeline.reporting.letter_listings import render_dead_letters, render_dropped
    from pipeline.runs.upkeep import drop_letters

    require_choice(wanted, is_all=is_all)
    sources = load(paths, names)
    chosen = await choose_letters(sources, wanted)
    kept = [letter for letters in chosen.values() for letter in letters if not letter.can_be_dropped]
    doomed = {name: [letter for letter in letters if letter.can_be_dropped] for name, letters in chosen.items()}
    letters = [letter for some in doomed.values() for letter in some]
    if letters and not is_sure:
        outlooks = _outlooks(sources, letters)
        click.echo(render_dead_letters(letters, paths={}, outlooks=outlooks, style=style_here()), err=True)
        if not _is_wanted(len(letters)):
            click.echo("No dead letter was dropped.")
            return EXIT_FAILED
    errors, dropped = [], 0
    for settings in sources:
        try:
            if doomed[settings.name]:
                dropped += await drop_letters(settings, [letter.id for letter in doomed[settings.name]])
        except SyncError as error:
            errors.append(error)
            click.echo(f"memsync: {safe(str(error))}", err=True)
    click.echo(render_dropped(dropped, kept, paths=files_of(sources), style=style_here()))
    return exit_code_of(errors) or (EXIT_FAILED if kept else 0)


def _is_wanted(count: int) -> bool:
    """Ask whether to drop so many.

    Raises:
        ConfigurationError: there is nobody to be asked.
    """
    from pipeline.reporting.text import amount

    if not sys.stdin.isatty():
        raise ConfigurationError("there is nobody to ask whether to drop these; --yes drops them. Nothing was dropped.")
    return agreed(f"Give up {amount(count, 'dead letter')} for good?", otherwise="no dead letter was dropped.")


@dead_letters_command.command("export")
@paths_argument
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@source_option
@letter_filter_options
@click.option("--dropped", "is_dropped", is_flag=True, help="Those that were dropped by hand instead.")
@command
async def export_command(
    paths: tuple[Path, ...], file: Path, names: tuple[str, ...], wanted: "LetterFilter", is_dropped: bool
) -> int:
    """Write dead letters to FILE, or with `-` to stdout.

    Only its owner can read the file. To a name that ends in `.csv` a table of what failed and why, without texts; else
    JSON Lines, each letter with its whole record.
    """
    from pipeline.reporting.letter_export import to_csv, to_json_lines, write_private
    from pipeline.reporting.text import amount

    sources = load(paths, names)
    letters = await _letters_like(sources, wanted, is_dropped=is_dropped)
    is_table = file.suffix.lower() == ".csv"
    content = to_csv(letters, _outlooks(sources, letters)) if is_table else to_json_lines(letters)
    if str(file) == "-":
        click.echo(content, nl=False)
        return 0
    write_private(file, content)
    click.echo(f"{amount(len(letters), 'dead letter')} written to {safe(str(file))}, which only you can read.")
    return 0


async def _letters_like(
    sources: "Sequence[SourceSettings]", wanted: "LetterFilter", *, is_dropped: bool
) -> "list[DeadLetter]":
    """The whole letters that are like `wanted`: those that are outstanding, or those that were dropped."""
    from pipeline.runs.parts import open_source_state

    chosen = await choose_letters(sources, wanted, with_dropped=is_dropped)
    letters: list[DeadLetter] = []
    for settings in sources:
        ids = {letter.id for letter in chosen[settings.name] if (letter.dropped_at is not None) is is_dropped}
        async with open_source_state(settings, is_read_only=True) as state:
            letters += [each for each in await state.letters(with_dropped=is_dropped) if each.id in ids]
    return letters


def _outlooks(sources: "Sequence[SourceSettings]", letters: "Sequence[DeadLetter]") -> "dict[str, Outlook]":
    """What becomes of each letter by itself, by its id."""
    from pipeline.runs.parts import auto_replay

    rules = {settings.name: auto_replay(settings) for settings in sources}
    return {letter.id: rules[letter.source].outlook(letter) for letter in letters}
