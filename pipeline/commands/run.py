"""`memsync run`, `plan` and `replay`."""

import json
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.letter_options import choose_letters, letter_filter_options
from pipeline.commands.shared import (
    EXIT_SIGNAL,
    command,
    files_of,
    json_option,
    load,
    paths_argument,
    source_option,
    stopping,
    style_here,
)

if TYPE_CHECKING:
    from pipeline.events import Observer
    from pipeline.letter_filter import LetterFilter
    from pipeline.model import RecordContent
    from pipeline.reporting.text import Style
    from pipeline.runner import Outcome, Verb
    from pipeline.settings import SourceSettings

NOTHING_CHOSEN: Mapping[str, Collection[str]] = {}
NO_EDITS: "Mapping[str, RecordContent]" = {}


@click.command("run")
@paths_argument
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
@command
async def run_command(
    paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool, allow_mass_delete: bool, accepted: tuple[int, ...]
) -> int:
    """Bring the memory up to date.

    Each source is listed, what changed is read, and the memory is made equal to it.
    """
    code = await run_all("run", load(paths, names), as_json=as_json, allow_mass_delete=allow_mass_delete)
    return 0 if code in accepted else code


@click.command("plan")
@paths_argument
@source_option
@json_option
@command
async def plan_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> int:
    """Show what a run would do; touch nothing."""
    return await run_all("plan", load(paths, names), as_json=as_json)


@click.command("replay")
@paths_argument
@source_option
@letter_filter_options
@json_option
@command
async def replay_command(paths: tuple[Path, ...], names: tuple[str, ...], wanted: "LetterFilter", as_json: bool) -> int:
    """Send the dead letters again: all that are not dropped, or those that the options choose.

    Each of their documents is read afresh: a letter that a newer version has overtaken goes. Letters that are not
    chosen stay as they are. One that was dropped is sent if --id names it.
    """
    sources = load(paths, names)
    if wanted.is_empty:
        return await run_all("replay", sources, as_json=as_json)
    chosen = await choose_letters(sources, wanted, with_dropped=bool(wanted.ids))
    if not any(chosen.values()):
        click.echo("memsync: no dead letter is like that, so none is sent", err=True)
    ids = {name: {letter.id for letter in letters} for name, letters in chosen.items()}
    return await run_all("replay", sources, as_json=as_json, chosen=ids)


async def run_all(
    verb: "Verb",
    sources: "Sequence[SourceSettings]",
    *,
    as_json: bool = False,
    allow_mass_delete: bool = False,
    chosen: Mapping[str, Collection[str]] = NOTHING_CHOSEN,
    edits: "Mapping[str, RecordContent]" = NO_EDITS,
) -> int:
    """Do what `verb` says with `sources`, one after the other, and print what came of it; return the exit code.

    A replay sends the letters whose ids are `chosen`, by source, or all; with `edits` of their records, by id.
    """
    from pipeline.report import EXIT_CODES, overall_status, plan_report, run_report

    with _without("rich"):  # structlog takes it for tracebacks that it never prints here: a sixth of the start
        from pipeline.reporting.logs import LogListener, configure_logging
    from pipeline.observing import observing
    from pipeline.runner import new_run_id, run_source

    run_id = new_run_id()
    outcomes: list[Outcome] = []
    on_terminal = sys.stderr.isatty()
    configure_logging(is_terminal=on_terminal, level="WARNING" if on_terminal else "INFO")
    with observing(run_id, sources, is_plan=verb == "plan") as observed:
        with ExitStack() as stack:
            display: list[Observer] = []
            if on_terminal:
                from pipeline.reporting.progress import ProgressDisplay

                display.append(stack.enter_context(ProgressDisplay(sys.stderr)))
            async with stopping() as stop:
                for settings in sources:
                    log = LogListener(settings.name, run_id)
                    with observed.run_of(settings) as run:
                        outcome = await run_source(
                            settings,
                            verb,
                            run_id=run_id,
                            stop=stop,
                            observers=(log, *display, *run.observers),
                            allow_mass_delete=allow_mass_delete,
                            chosen=chosen.get(settings.name),
                            edits=edits,
                        )
                    log.close(outcome.report if verb != "plan" else None)
                    await run.finish(outcome.report)
                    outcomes.append(outcome)

        reports = [outcome.report for outcome in outcomes]
        _print_summary(verb, outcomes, files_of(sources), style_here())
        if as_json:
            print(json.dumps((plan_report if verb == "plan" else run_report)(run_id, reports)), flush=True)  # noqa: T201
    status = overall_status([report.status for report in reports])
    if status == "interrupted":
        return EXIT_SIGNAL + (stop.signal_number or signal.SIGINT)
    # A plan that shows dead letters or a tripped guard has done its work.
    return EXIT_CODES[status] if verb != "plan" or status in ("failed", "locked") else 0


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let what is imported in the block believe that `module` is not installed, unless it is there already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _print_summary(verb: "Verb", outcomes: Sequence["Outcome"], files: dict[str, str], style: "Style") -> None:
    from pipeline.reporting.summary import render_plan, render_run

    reports = [outcome.report for outcome in outcomes]
    withheld = {outcome.report.name: outcome.withheld for outcome in outcomes if outcome.withheld is not None}
    if verb == "plan":
        click.echo(render_plan(reports, paths=files, withheld=withheld, style=style))
    else:
        click.echo(render_run(reports, paths=files, verb=verb, withheld=withheld, style=style))
