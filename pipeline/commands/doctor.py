"""`memsync doctor`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import (
    EXIT_FAILED,
    command,
    files_of,
    json_option,
    load,
    paths_argument,
    print_json,
    safe,
    source_option,
    style_here,
)

if TYPE_CHECKING:
    from pipeline.settings import SourceSettings


@click.command("doctor")
@paths_argument
@source_option
@json_option
@click.option("--policy", "is_policy", is_flag=True, help="Print the IAM policy that a run needs, and nothing else.")
@command
async def doctor_command(paths: tuple[Path, ...], names: tuple[str, ...], as_json: bool, is_policy: bool) -> int:
    """See that all is there that a run needs.

    The configuration, packages and secrets; the source, of which one document is read; the state; AWS credentials,
    permissions and quotas; the memory, its strategies and indexes; and what to do where something is lacking. Changes
    nothing.
    """
    if is_policy:
        return await _print_policy(load(paths, names), as_json=as_json)

    from pipeline.doctor.examination import examine
    from pipeline.reporting.examinations import render_findings

    sources = load(paths, names)
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
            said = f"the account is not known, and `*` stands for it ({place.note})"
            click.echo(f"memsync: {safe(settings.name)}: {safe(said)}", err=True)
    policy = policy_for(places)
    if as_json:
        print_json("memsync/policy/1", policy=policy)
    else:
        click.echo(json.dumps(policy, indent=2))
    return 0
