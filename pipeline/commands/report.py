"""`memsync report` and `history`: what past runs did, to be looked at."""

import webbrowser
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pipeline.commands.shared import (
    command,
    exit_code_of,
    json_option,
    load,
    paths_argument,
    print_json,
    safe,
    source_option,
    style_here,
)
from pipeline.errors import SyncError

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings

Answer = TypeVar("Answer")


@click.command("report")
@paths_argument
@source_option
@click.option("--run", "run_id", metavar="ID", help="The run whose id begins so; without it, the last.")
@click.option("--out", type=click.Path(path_type=Path), help="File, or folder, to write to instead of the reports'.")
@click.option("--open", "is_to_open", is_flag=True, help="Show it in the browser.")
@json_option
@command
async def report_command(
    paths: tuple[Path, ...],
    names: tuple[str, ...],
    run_id: str | None,
    out: Path | None,
    is_to_open: bool,
    as_json: bool,
) -> int:
    """Write a page about a run.

    One HTML file that needs nothing else: how the run ended and what to do, what changed, how fast it went and what
    held it up, and the runs before. With --json, the report that it is made of is printed instead. `memsync history`
    shows the ids of runs.
    """
    sources = load(paths, names)
    if len(sources) > 1 and (run_id is not None or _is_file(out)):
        raise click.UsageError(
            "PATH describes several sources; --source chooses one, and --out takes a folder for the pages of several."
        )
    if as_json:
        from pipeline.runs.history import find_report

        found, errors = await _asked(sources, partial(find_report, run_id=run_id))
        print_json("memsync/reports/1", reports=[report for _, report in found.values()])
        return exit_code_of(errors)
    from pipeline.runs.run_pages import write_page

    pages, errors = await _asked(sources, partial(write_page, run_id=run_id, out=out))
    for page in pages.values():
        click.echo(style_here().text(str(page)))
        if is_to_open and not webbrowser.open(page.absolute().as_uri()):
            click.echo("memsync: no browser could be opened here; the page is in the file above", err=True)
    return exit_code_of(errors)


async def _asked(
    sources: "Sequence[SourceSettings]", ask: "Callable[[SourceSettings], Awaitable[Answer]]"
) -> tuple[dict[str, Answer], list[SyncError]]:
    """What `ask` answers for each source; what went wrong with some is said, and does not keep the others back.

    Raises:
        SyncError: it went wrong with all of them.
    """
    answers: dict[str, Answer] = {}
    errors: list[SyncError] = []
    for settings in sources:
        try:
            answers[settings.name] = await ask(settings)
        except SyncError as error:
            errors.append(error)
    if errors and not answers:
        raise errors[0]
    for problem in errors:
        click.echo(f"memsync: {safe(str(problem))}", err=True)
    return answers, errors


def _is_file(out: Path | None) -> bool:
    """Whether `out` names a file, be it one to come."""
    return out is not None and not out.is_dir()


@click.command("history")
@paths_argument
@source_option
@click.option(
    "--count", metavar="COUNT", default=20, show_default=True, type=click.IntRange(1, 1000), help="Runs of each source."
)
@json_option
@command
async def history_command(paths: tuple[Path, ...], names: tuple[str, ...], count: int, as_json: bool) -> int:
    """Show the past runs of each source.

    How each ended, how long it took, and what it changed; the newest first.
    """
    from pipeline.reporting.histories import render_history
    from pipeline.runs.history import past_runs

    runs, errors = await _asked(load(paths, names), partial(past_runs, count=count))
    if as_json:
        sources = [{"name": name, "runs": [asdict(run) for run in past]} for name, past in runs.items()]
        print_json("memsync/history/1", sources=sources)
    else:
        click.echo(render_history(runs, style=style_here()))
    return exit_code_of(errors)
