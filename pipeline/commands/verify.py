"""`memsync verify` and `recover`: the ledger beside the memory."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import (
    EXIT_FAILED,
    command,
    exit_code_of,
    files_of,
    json_option,
    load,
    paths_argument,
    print_json,
    safe,
    source_option,
    stopping,
    style_here,
)
from pipeline.errors import SyncError

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings
    from pipeline.report import SourceReport
    from pipeline.reporting.listings import VerifiedSource


@click.command("verify")
@paths_argument
@source_option
@json_option
@click.option("--repair", is_flag=True, help="Mend what can be proven, and run the source.")
@command
async def verify_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool, repair: bool) -> int:
    """Compare source, ledger and memory.

    With --repair, what is missing or was changed is written again, what the ledger did not know is taken over, and
    second copies are deleted, by a run that keeps its usual rules.
    """
    from pipeline.reporting.listings import VerifiedSource, render_verify

    look = _verified_and_repaired if repair else _verified
    results, errors = [], []
    sources = load(paths, names)
    for settings in sources:
        try:
            results.append(await look(settings))
        except SyncError as error:
            errors.append(error)
            results.append(VerifiedSource(settings.name, error=str(error)))
    if as_json:
        print_json("memsync/verify/1", sources=[asdict(result) for result in results])
    else:
        click.echo(render_verify(results, paths=files_of(sources), style=style_here()))
    return exit_code_of(errors) or (0 if all(result.is_equal for result in results) else EXIT_FAILED)


async def _verified(settings: "SourceSettings") -> "VerifiedSource":
    from pipeline.reporting.listings import ComparedDocuments, VerifiedSource
    from pipeline.runs.upkeep import verify_source

    found, compared = await verify_source(settings)
    documents = (
        ComparedDocuments(error=str(compared))
        if isinstance(compared, SyncError)
        else ComparedDocuments(**asdict(compared))
    )
    return VerifiedSource(settings.name, **asdict(found), documents=documents)


async def _verified_and_repaired(settings: "SourceSettings") -> "VerifiedSource":
    from pipeline.reporting.listings import VerifiedSource
    from pipeline.runs.run_pages import leave_page
    from pipeline.runs.runner import new_run_id, run_source
    from pipeline.runs.upkeep import count_unattributed, repair_source
    from pipeline.sync import reconciled

    found = await repair_source(settings)
    unattributed = await count_unattributed(settings)
    async with stopping() as stop:
        run_id = new_run_id()
        outcome = await run_source(settings, "run", run_id=run_id, stop=stop, repaired=reconciled(found))
    await leave_page(settings, run_id, outcome.report)
    if claimed := unattributed - await count_unattributed(settings):
        found = replace(found, unattributed=found.unattributed - claimed, examples=[])  # which are left is not known
    report = outcome.report
    is_repaired = report.status in ("in_sync", "dead_letters") and not report.withheld_documents
    error = None if is_repaired else _why_not_repaired(report)
    return VerifiedSource(settings.name, **asdict(found), is_repaired=is_repaired, error=error)


def _why_not_repaired(report: "SourceReport") -> str:
    """The ledger is mended; the run that was to bring the memory in line was not allowed to, or failed."""
    if report.error is not None:
        return report.error
    if report.withheld_documents:
        return (
            f"The run withheld the deletion of {report.withheld_documents} documents. See whether they are really gone"
            " from the source; if so, run it with --allow-mass-delete."
        )
    return "The run was interrupted; run it again."


@click.command("recover")
@paths_argument
@source_option
@json_option
@command
async def recover_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool) -> int:
    """Rebuild a lost ledger from the memory.

    Each record in the memory says which document it is of. So a new machine carries on where another one left off, and
    nothing is written a second time. Takes a minute or two: listings of the memory lag behind.
    """
    from pipeline.reporting.listings import RecoveredSource, render_recover
    from pipeline.runs.upkeep import recover_source

    results, errors = [], []
    sources = load(paths, names)
    for settings in sources:
        try:
            found = await recover_source(settings, partial(_tell_of_listings, settings))
        except SyncError as error:
            errors.append(error)
            results.append(RecoveredSource(settings.name, error=str(error)))
        else:
            results.append(RecoveredSource(settings.name, found.foreign, found.duplicate, found.unattributed))
    if as_json:
        print_json("memsync/recover/1", sources=[asdict(result) for result in results])
    else:
        click.echo(render_recover(results, paths=files_of(sources), style=style_here()))
    return exit_code_of(errors)


def _tell_of_listings(settings: "SourceSettings") -> None:
    """Why the next minute or two bring nothing."""
    from pipeline.runs.measured import timing_of

    if wait_s := timing_of(settings).settle_s:
        name = safe(settings.name)
        click.echo(f"memsync: {name}: lists the memory twice, {wait_s:g} s apart, since listings lag", err=True)
