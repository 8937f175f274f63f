"""`memsync plan`, and carrying out a plan that was saved."""

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.running import exit_code_of_reports, run_all, run_and_report, withheld_of
from pipeline.commands.shared import (
    EXIT_FAILED,
    command,
    files_of,
    json_option,
    load,
    paths_argument,
    source_option,
    style_here,
)
from pipeline.errors import ConfigurationError, PlanOutdated

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings
    from pipeline.job import SourceJob
    from pipeline.model import PlanHeader
    from pipeline.plan_diff import DiffSink, DocumentDiff
    from pipeline.protocols import ChangeSink
    from pipeline.runs.runner import Act, Outcome
    from pipeline.saved_plans import ChangeTable, PlanSection

DIFF_DOCUMENTS = 20  # each of their records costs a request: as many as are read with patience
HAVE_PLAN = ("in_sync", "dead_letters", "guarded")  # of a source's statuses


@click.command("plan")
@paths_argument
@source_option
@json_option
@click.option(
    "--out",
    "plan_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Save the plan, for `memsync run --plan FILE` to carry out. It names documents and holds no text.",
)
@click.option(
    "--diff", "with_diff", is_flag=True, help="Show how texts would change; asks the memory for the old ones."
)
@click.option(
    "--diff-documents",
    "diff_documents",
    metavar="N",
    type=click.IntRange(min=1),
    default=DIFF_DOCUMENTS,
    show_default=True,
    help="Show the texts of at most so many documents of each source.",
)
@click.option("--allow-mass-delete", is_flag=True, help="Plan deletions even if suspiciously many documents are gone.")
@command
async def plan_command(
    paths: tuple[Path, ...],
    names: tuple[str, ...],
    as_json: bool,
    plan_file: Path | None,
    with_diff: bool,
    diff_documents: int,
    allow_mass_delete: bool,
) -> int:
    """Show what a run would do; touch nothing.

    With --out, the plan is saved: carried out later, it makes just these changes, or none if something has moved.
    """
    from pipeline.report import plan_report
    from pipeline.reporting.failures import FailureListener
    from pipeline.reporting.summary import render_plan
    from pipeline.saved_plans import refuse_other_file

    sources = load(paths, names)
    if plan_file is not None:
        refuse_other_file(plan_file)
    failures = FailureListener()
    with ExitStack() as stack:
        plans = {
            settings.name: _Planned(
                settings,
                table=_open_table(stack) if plan_file is not None else None,
                diff=_new_diff(diff_documents) if with_diff else None,
            )
            for settings in sources
        }
        run_id, outcomes, stop = await run_all(
            "plan",
            sources,
            allow_mass_delete=allow_mass_delete,
            observers=[failures],
            acts={name: planned.act for name, planned in plans.items() if planned.sinks},
        )
        reports = [outcome.report for outcome in outcomes]
        exit_code = exit_code_of_reports(reports, stop, is_plan=True)
        is_saved = plan_file is not None and exit_code == 0
        if plan_file is not None and is_saved:
            await _save(plan_file, plans, outcomes)
    shown = [await _diff_of(plans[report.name]) for report in reports if with_diff and report.status in HAVE_PLAN]
    for diff in shown:
        click.echo(f"{diff.render()}\n")
    files = files_of(sources)
    click.echo(
        render_plan(
            reports,
            paths=files,
            withheld=withheld_of(outcomes),
            failures=failures.by_source,
            saved_to=str(plan_file) if is_saved else None,
            style=style_here(),
        )
    )
    if as_json:
        report = plan_report(run_id, reports)
        for source in report["sources"]:
            source["failures"] = [asdict(failure) for failure in failures.by_source.get(source["name"], ())]
            source.update(next((diff.as_json() for diff in shown if diff.source == source["name"]), {}))
        saved: dict[str, Any] = {"plan_file": str(plan_file)} if is_saved else {}
        print(json.dumps({**report, **saved}))  # noqa: T201
    return exit_code or (EXIT_FAILED if any(diff.error for diff in shown) else 0)


def _open_table(stack: ExitStack) -> "ChangeTable":
    from pipeline.runs.parts import offload
    from pipeline.saved_plans import ChangeTable

    return stack.enter_context(closing(ChangeTable(offload)))


def _new_diff(documents_max: int) -> "DiffSink":
    from pipeline.plan_diff import DiffSink

    return DiffSink(documents_max)


@dataclass(frozen=True)
class _ShownDiff:
    """The texts of one source that would change, or why the memory could not be asked for those that it has."""

    source: str
    documents: "Sequence[DocumentDiff]" = ()
    left_out: int = 0
    error: str | None = None

    def render(self) -> str:
        from pipeline.reporting.diffs import render_diffs

        style = style_here()
        if self.error is not None:
            return f"{style.text(self.source)}  no texts: {style.text(self.error)}"
        return render_diffs(self.source, self.documents, left_out=self.left_out, style=style)

    def as_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"diff": None, "diff_error": self.error}
        return {"diff": [asdict(document) for document in self.documents], "diff_documents_left_out": self.left_out}


async def _diff_of(planned: "_Planned") -> _ShownDiff:
    from pipeline.errors import DestinationError
    from pipeline.runs.parts import open_destination

    assert planned.diff is not None
    name = planned.settings.name
    try:
        async with AsyncExitStack() as stack:
            memory = None
            if planned.diff.needs_memory:
                memory = await stack.enter_async_context(open_destination(planned.settings))
            return _ShownDiff(name, await planned.diff.diffs(memory), planned.diff.left_out)
    except DestinationError as error:
        return _ShownDiff(name, error=str(error))


@dataclass
class _Planned:
    """The plan of one source while it is made: to be saved, or for its texts to be shown."""

    settings: "SourceSettings"
    table: "ChangeTable | None"
    diff: "DiffSink | None"
    header: "PlanHeader | None" = None

    @property
    def sinks(self) -> "list[ChangeSink]":
        return [sink for sink in (self.table, self.diff) if sink is not None]

    async def act(self, job: "SourceJob") -> None:
        from pipeline.applying import make_plan
        from pipeline.runs.parts import memory_name
        from pipeline.sync import preview

        if self.table is None:
            await preview(job, self.sinks)
        else:
            plan_id = str(uuid.uuid4())
            self.header = await make_plan(job, self.sinks, plan_id=plan_id, memory=memory_name(self.settings))


async def _save(plan_file: Path, plans: Mapping[str, _Planned], outcomes: Sequence["Outcome"]) -> None:
    """Write the plans to their file, and make the reports say what is in it."""
    from pipeline.runs.parts import offload
    from pipeline.saved_plans import write_plans

    sections = []
    for outcome in outcomes:
        planned = plans[outcome.report.name]
        assert planned.header is not None, "a plan that was made has a header"
        assert planned.table is not None
        withheld = outcome.withheld.removed if outcome.withheld and outcome.withheld.reason == "guard" else 0
        sections.append((replace(planned.header, withheld=withheld), planned.table, planned.settings.file))
    await offload(partial(write_plans, plan_file, sections))
    for outcome, (_, table, _) in zip(outcomes, sections, strict=True):
        totals, records = table.totals(), outcome.report.records
        records.created, records.updated, records.deleted = totals.created, totals.updated, totals.deleted


async def carry_out(plan_file: Path, paths: Sequence[Path], names: Sequence[str], *, as_json: bool) -> int:
    """Carry out a saved plan, of those of its sources that `names` chooses."""
    from pipeline.runs.parts import offload
    from pipeline.saved_plans import read_changes, read_sections

    sections = {section.header.source: section for section in read_sections(plan_file)}
    described = load(paths or list(dict.fromkeys(section.file for section in sections.values())), names)
    sources = [settings for settings in described if settings.name in sections]
    chosen = [name for name in sections if not names or name in names]
    if missing := sorted(set(chosen) - {settings.name for settings in sources}):
        raise ConfigurationError(
            f"the plan is of the source {missing[0]!r}, which is not described here; give its YAML file after the"
            f" command: `memsync run --plan {plan_file} PATH`",
            path=str(plan_file),
        )
    if not sources:
        raise ConfigurationError(f"the plan has nothing for {', '.join(names)}", path=str(plan_file))
    with ExitStack() as stack:
        acts = {}
        for settings in sources:
            table = _open_table(stack)
            # All is read before anything is sent: a damaged plan is not carried out in part.
            await offload(partial(table.load, read_changes(sections[settings.name])))
            acts[settings.name] = _applying(settings, sections[settings.name], table)
        return await run_and_report("run", sources, as_json=as_json, plan_file=plan_file, acts=acts)


def _applying(settings: "SourceSettings", section: "PlanSection", table: "ChangeTable") -> "Act":
    async def act(job: "SourceJob") -> None:
        from pipeline.applying import apply_plan
        from pipeline.runs.parts import memory_name

        if section.header.memory != memory_name(settings):
            raise PlanOutdated(
                f"The plan was made for the memory {section.header.memory!r}, and the configuration names"
                f" {memory_name(settings)!r}. Nothing was sent."
            )
        await apply_plan(job, section.header, table)

    return act
