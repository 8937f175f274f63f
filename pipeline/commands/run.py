"""`memsync run` and `replay`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.letter_options import choose_letters, letter_filter_options
from pipeline.commands.plan import carry_out
from pipeline.commands.running import run_and_report
from pipeline.commands.shared import command, json_option, load, paths_argument, source_option

if TYPE_CHECKING:
    from pipeline.letter_filter import LetterFilter


@click.command("run")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@source_option
@json_option
@click.option("--allow-mass-delete", is_flag=True, help="Delete even if suspiciously many documents are gone.")
@click.option(
    "--accept",
    "accepted",
    multiple=True,
    type=click.IntRange(1, 5),
    metavar="CODE",
    help="End with 0 in place of this exit code, for those who know no other success; repeatable.",
)
@click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Make exactly the changes of a plan that `memsync plan --out FILE` has saved, or none.",
)
@command
async def run_command(
    paths: tuple[Path, ...],
    names: tuple[str, ...],
    as_json: bool,
    allow_mass_delete: bool,
    accepted: tuple[int, ...],
    plan_file: Path | None,
) -> int:
    """Bring the memory up to date.

    Each source is listed, what changed is read, and the memory is made equal to it. With --plan, PATH can be left out:
    the plan knows its sources.
    """
    if plan_file is not None:
        if allow_mass_delete:
            raise click.UsageError("A plan has its deletions already: `memsync plan --allow-mass-delete --out FILE`.")
        code = await carry_out(plan_file, paths, names, as_json=as_json)
    elif not paths:
        raise click.UsageError("Missing argument 'PATH...'.")
    else:
        code = await run_and_report("run", load(paths, names), as_json=as_json, allow_mass_delete=allow_mass_delete)
    return 0 if code in accepted else code


@click.command("replay")
@paths_argument
@source_option
@letter_filter_options
@json_option
@command
async def replay_command(paths: tuple[Path, ...], names: tuple[str, ...], wanted: "LetterFilter", as_json: bool) -> int:
    """Send dead letters again, all or some.

    All that are not dropped, or those that the options choose. Each of their documents is read afresh: a letter that a
    newer version has overtaken goes. Letters that are not chosen stay as they are. One that was dropped is sent if --id
    names it.
    """
    sources = load(paths, names)
    if wanted.is_empty:
        return await run_and_report("replay", sources, as_json=as_json)
    chosen = await choose_letters(sources, wanted, with_dropped=bool(wanted.ids))
    if not any(chosen.values()):
        click.echo("memsync: no dead letter is like that, so none is sent", err=True)
    ids = {name: {letter.id for letter in letters} for name, letters in chosen.items()}
    return await run_and_report("replay", sources, as_json=as_json, chosen=ids)
