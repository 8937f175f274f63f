"""How a command runs sources, and tells what they came to."""

import json
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pipeline.commands.shared import files_of, stopping, style_here
from pipeline.early_signals import EXIT_SIGNAL

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings
    from pipeline.events import DeletesWithheld, Observer
    from pipeline.model import RecordContent
    from pipeline.report import SourceReport
    from pipeline.runs.runner import Act, Outcome, Stop, Verb

NOTHING_CHOSEN: Mapping[str, Collection[str]] = {}
NO_EDITS: "Mapping[str, RecordContent]" = {}


async def run_and_report(
    verb: Literal["run", "replay"],
    sources: "Sequence[SourceSettings]",
    *,
    as_json: bool = False,
    allow_mass_delete: bool = False,
    plan_file: Path | None = None,
    acts: "Mapping[str, Act] | None" = None,
    chosen: Mapping[str, Collection[str]] = NOTHING_CHOSEN,
    edits: "Mapping[str, RecordContent]" = NO_EDITS,
    to_repeat: tuple[str, ...] = (),
) -> int:
    """Run `sources`, print what they came to, and return the exit code. `acts` are what to do instead, by source.

    `plan_file` is the plan that is carried out; `to_repeat` is what to type once a run that holds the source has
    ended, where that is not the verb. A replay sends the letters whose ids are `chosen`, by source, or all; with
    `edits` of their records, by id.
    """
    from pipeline.report import run_report
    from pipeline.reporting.summary import render_run

    def tell(run_id: str, outcomes: "Sequence[Outcome]") -> None:
        reports = [outcome.report for outcome in outcomes]
        files = files_of(sources)
        again = {
            outcome.report.name: to_repeat if plan_file is None else _again(outcome, files, plan_file)
            for outcome in outcomes
            if plan_file is not None or (to_repeat and outcome.report.status == "locked")
        }
        withheld = withheld_of(outcomes)
        click.echo(render_run(reports, paths=files, verb=verb, withheld=withheld, again=again, style=style_here()))
        if as_json:
            print(json.dumps(run_report(run_id, reports)), flush=True)  # noqa: T201

    _, outcomes, stop = await run_all(
        verb, sources, tell=tell, allow_mass_delete=allow_mass_delete, acts=acts, chosen=chosen, edits=edits
    )
    return exit_code_of_reports([outcome.report for outcome in outcomes], stop)


def _again(outcome: "Outcome", files: "Mapping[str, str]", plan_file: Path) -> tuple[str, ...]:
    """What to type if a plan was not carried out: it can be tried again, unless it does not fit any more."""
    if outcome.is_plan_outdated:
        return "plan", files[outcome.report.name], "--out", str(plan_file)
    return "run", "--plan", str(plan_file)


def withheld_of(outcomes: "Sequence[Outcome]") -> "dict[str, DeletesWithheld]":
    return {outcome.report.name: outcome.withheld for outcome in outcomes if outcome.withheld is not None}


def exit_code_of_reports(reports: "Sequence[SourceReport]", stop: "Stop", *, is_plan: bool = False) -> int:
    from pipeline.report import EXIT_CODES, overall_status

    status = overall_status([report.status for report in reports])
    if status == "interrupted":
        return EXIT_SIGNAL + (stop.signal_number or signal.SIGINT)
    # A plan that shows dead letters or a tripped guard has done its work.
    return EXIT_CODES[status] if not is_plan or status in ("failed", "locked") else 0


async def run_all(
    verb: "Verb",
    sources: "Sequence[SourceSettings]",
    *,
    tell: "Callable[[str, Sequence[Outcome]], None] | None" = None,
    allow_mass_delete: bool = False,
    observers: "Sequence[Observer]" = (),
    acts: "Mapping[str, Act] | None" = None,
    chosen: Mapping[str, Collection[str]] = NOTHING_CHOSEN,
    edits: "Mapping[str, RecordContent]" = NO_EDITS,
) -> "tuple[str, list[Outcome], Stop]":
    """Run, plan or replay `sources` one after the other; return the run's id and what each came to.

    `tell` is told that before those are who are told of runs, which may take a while.
    """
    with _without("rich"):  # structlog takes it for tracebacks that it never prints here: a sixth of the start
        from pipeline.reporting.logs import LogListener, configure_logging
    from pipeline.runs.observing import observing
    from pipeline.runs.run_pages import leave_page
    from pipeline.runs.runner import new_run_id, run_source

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
                        await run.begin()
                        outcome = await run_source(
                            settings,
                            verb,
                            run_id=run_id,
                            stop=stop,
                            observers=(log, *display, *run.observers, *observers),
                            allow_mass_delete=allow_mass_delete,
                            chosen=chosen.get(settings.name),
                            edits=edits,
                            act=acts.get(settings.name) if acts else None,
                        )
                    log.close(outcome.report if verb != "plan" else None)
                    await run.finish(outcome.report, is_news=not outcome.is_plan_refused)
                    if verb != "plan":
                        await leave_page(settings, run_id, outcome.report)
                    outcomes.append(outcome)
        if tell is not None:
            tell(run_id, outcomes)
    return run_id, outcomes, stop


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
