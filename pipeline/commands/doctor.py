"""`memsync doctor`."""

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import (
    EXIT_FAILED,
    agreed,
    command,
    files_of,
    json_option,
    load,
    paths_argument,
    print_json,
    safe,
    source_option,
    stopping,
    style_here,
    typed,
)
from pipeline.early_signals import EXIT_SIGNAL

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings


@click.command("doctor")
@paths_argument
@source_option
@json_option
@click.option("--policy", "is_policy", is_flag=True, help="Print the IAM policy that a run needs, and nothing else.")
@click.option("--probe", "is_probe", is_flag=True, help="Measure what AWS does not document; needs --memory-id.")
@click.option("--memory-id", metavar="ID", help="For --probe: a memory that is there to be thrown away.")
@click.option(
    "--token-wait",
    "token_s",
    metavar="SECONDS",
    type=click.FloatRange(0, 86_400),
    default=900.0,
    show_default=True,
    help="For --probe: how long to try client tokens.",
)
@click.option("--yes", "is_agreed", is_flag=True, help="For --probe: do not ask before it writes.")
@command
async def doctor_command(
    paths: tuple[Path, ...],
    names: tuple[str, ...],
    as_json: bool,
    is_policy: bool,
    is_probe: bool,
    memory_id: str | None,
    token_s: float,
    is_agreed: bool,
) -> int:
    """See that all is there that a run needs.

    The configuration, packages and secrets; the source, of which one document is read; the state; AWS credentials,
    permissions and quotas; the memory, its strategies and indexes; and what to do where something is lacking. Changes
    nothing.

    With --probe, it measures on another memory how long listings lag, how long client tokens are recognised and the
    like, deletes what it wrote there, and keeps the answers for runs to use.
    """
    if is_probe != (memory_id is not None):
        raise click.UsageError("--probe and --memory-id go together.")
    if is_policy and is_probe:
        raise click.UsageError("--policy and --probe do not go together.")
    sources = load(paths, names)
    if is_policy:
        return await _print_policy(sources, as_json=as_json)
    if memory_id is not None:
        return await _probe(sources, memory_id, token_s, is_agreed=is_agreed, as_json=as_json)

    from pipeline.doctor.examination import examine
    from pipeline.reporting.examinations import render_findings

    files = files_of(sources)
    examined = [await examine(settings, files[settings.name]) for settings in sources]
    if as_json:
        print_json("memsync/doctor/1", sources=[asdict(source) for source in examined])
    else:
        click.echo(render_findings(examined, style=style_here()))
    return EXIT_FAILED if any(source.has_problem for source in examined) else 0


async def _print_policy(sources: "Sequence[SourceSettings]", *, as_json: bool) -> int:
    from pipeline.doctor.policy import memory_place, policy_for

    places = [(settings, await memory_place(settings)) for settings in sources]
    for settings, place in places:
        if place.note:
            _tell(f"{settings.name}: the account is not known, and `*` stands for it ({place.note})")
    policy = policy_for(places)
    if as_json:
        print_json("memsync/policy/1", policy=policy)
    else:
        click.echo(json.dumps(policy, indent=2))
    return 0


async def _probe(
    sources: "Sequence[SourceSettings]", memory_id: str, token_s: float, *, is_agreed: bool, as_json: bool
) -> int:
    from pipeline.doctor.measuring import check_place, measure, rows_of
    from pipeline.reporting.measurements import render_measurements
    from pipeline.reporting.text import duration, moment
    from pipeline.runs.measured import timing_by

    check_place(sources, memory_id)
    if not is_agreed and not _has_leave(
        f"The probe writes some 15 records into the memory {safe(memory_id)}, deletes them again, and takes"
        f" {duration(token_s)} or a little more. The memory should be there to be thrown away, and hold nothing."
    ):
        _tell("nothing was written or measured")
        return EXIT_FAILED
    async with stopping() as stop:
        with stop.heeded() as scope:
            measured, files = await measure(sources, memory_id, token_s, _tell)
    if scope.cancelled_caught:
        _tell("interrupted; nothing was kept of what was measured")
        return EXIT_SIGNAL + (stop.signal_number or signal.SIGINT)
    timings = {settings.name: timing_by(settings, measured) for settings in sources}
    if as_json:
        print_json(
            "memsync/probe/1",
            measured=asdict(measured),
            sources=[{"name": name, **timing._asdict()} for name, timing in timings.items()],
        )
    else:
        where = f"Measured on {measured.memory_id} in {measured.region}, {moment(measured.measured_at)}"
        rows = rows_of(measured, timings[sources[0].name])
        click.echo(render_measurements(rows, where=where, files=[*map(typed, files)], style=style_here()))
    return 0


def _tell(what: str) -> None:
    click.echo(f"memsync: {safe(what)}", err=True)


def _has_leave(question: str) -> bool:
    """Whether a person says to go on.

    Raises:
        UsageError: nobody is there to be asked.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Say --yes if that is so.")
    return agreed(f"{question}\nGo on?", otherwise="nothing was written or measured.")
