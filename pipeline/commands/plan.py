"""`memsync plan`, and carrying out a plan that was saved."""

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.run import exit_code_of_reports, run_all, run_and_report, withheld_of
from pipeline.commands.shared import command, files_of, json_option, load, paths_argument, source_option, style_here
from pipeline.errors import ConfigurationError, PlanOutdated

if TYPE_CHECKING:
    from pipeline.job import SourceJob
    from pipeline.model import PlanHeader
    from pipeline.runner import Act, Outcome
    from pipeline.saved_plans import ChangeTable, PlanSection
    from pipeline.settings import SourceSettings


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
@click.option("--allow-mass-delete", is_flag=True, help="Plan deletions even if suspiciously many documents are gone.")
@command
async def plan_command(
    paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool, plan_file: Path | None, allow_mass_delete: bool
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
        plans = {} if plan_file is None else {settings.name: _Planned.open(stack, settings) for settings in sources}
        run_id, outcomes, stop = await run_all(
            "plan",
            sources,
            allow_mass_delete=allow_mass_delete,
            observers=[failures],
            acts={name: planned.act for name, planned in plans.items()},
        )
        reports = [outcome.report for outcome in outcomes]
        is_saved = plan_file is not None and exit_code_of_reports(reports, stop, is_plan=True) == 0
        if plan_file is not None and is_saved:
            await _save(plan_file, plans, outcomes)
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
        saved: dict[str, Any] = {"plan_file": str(plan_file)} if is_saved else {}
        print(json.dumps({**report, **saved}))  # noqa: T201
    return exit_code_of_reports(reports, stop, is_plan=True)


class _Planned:
    """The plan of one source while it is made."""

    def __init__(self, settings: "SourceSettings", table: "ChangeTable") -> None:
        self.settings = settings
        self.table = table
        self.header: PlanHeader | None = None

    @classmethod
    def open(cls, stack: ExitStack, settings: "SourceSettings") -> "_Planned":
        from pipeline.runner import offload
        from pipeline.saved_plans import ChangeTable

        return cls(settings, stack.enter_context(closing(ChangeTable(offload))))

    async def act(self, job: "SourceJob") -> None:
        from pipeline.applying import make_plan
        from pipeline.runner import memory_name

        plan_id = str(uuid.uuid4())
        self.header = await make_plan(job, [self.table], plan_id=plan_id, memory=memory_name(self.settings))


async def _save(plan_file: Path, plans: Mapping[str, _Planned], outcomes: Sequence["Outcome"]) -> None:
    """Write the plans to their file, and make the reports say what is in it."""
    from pipeline.runner import offload
    from pipeline.saved_plans import write_plans

    sections = []
    for outcome in outcomes:
        planned = plans[outcome.report.name]
        assert planned.header is not None, "a plan that was made has a header"
        withheld = outcome.withheld.removed if outcome.withheld and outcome.withheld.reason == "guard" else 0
        sections.append((replace(planned.header, withheld=withheld), planned.table, planned.settings.file))
    await offload(partial(write_plans, plan_file, sections))
    for outcome in outcomes:
        totals, records = plans[outcome.report.name].table.totals(), outcome.report.records
        records.created, records.updated, records.deleted = totals.created, totals.updated, totals.deleted


async def carry_out(plan_file: Path, paths: Sequence[Path], names: Sequence[str], *, as_json: bool) -> int:
    """Carry out a saved plan, of those of its sources that `names` chooses."""
    from pipeline.runner import offload
    from pipeline.saved_plans import ChangeTable, read_changes, read_sections

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
            table = stack.enter_context(closing(ChangeTable(offload)))
            # All is read before anything is sent: a damaged plan is not carried out in part.
            await offload(partial(table.load, read_changes(sections[settings.name])))
            acts[settings.name] = _applying(settings, sections[settings.name], table)
        return await run_and_report("run", sources, as_json=as_json, plan_file=plan_file, acts=acts)


def _applying(settings: "SourceSettings", section: "PlanSection", table: "ChangeTable") -> "Act":
    async def act(job: "SourceJob") -> None:
        from pipeline.applying import apply_plan
        from pipeline.runner import memory_name

        if section.header.memory != memory_name(settings):
            raise PlanOutdated(
                f"The plan was made for the memory {section.header.memory!r}, and the configuration names"
                f" {memory_name(settings)!r}. Nothing was sent."
            )
        await apply_plan(job, section.header, table)

    return act
