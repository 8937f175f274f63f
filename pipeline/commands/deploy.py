"""`memsync deploy`."""

import getpass
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import command, load, paths_argument, safe
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.deploying.plan import GeneratedFile

ON_THIS_MACHINE = ("systemd", "cron")
KINDS = (*ON_THIS_MACHINE, "kubernetes", "ecs", "lambda")
DISTRIBUTION = "agentcore-memory-sync"


@click.command("deploy")
@click.argument("kind", metavar=f"[{'|'.join(KINDS)}]", type=click.Choice(KINDS))
@paths_argument
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the files into this folder.")
@click.option("--service", is_flag=True, help="One process that stays up and looks at the clock: `memsync schedule`.")
@click.option("--memory", "memory_mib", default=1024, show_default=True, type=click.IntRange(256), metavar="MIB",
              help="Memory that a run may have.")  # fmt: skip
@click.option("--image", metavar="IMAGE", help="The container image.  [default: memsync:VERSION]")
@click.option("--role-arn", metavar="ARN", help="The AWS role of the pods, for kubernetes on EKS.")
@click.option("--user", metavar="NAME", help="Who runs it, for systemd.  [default: you, or memsync if you are root]")
@click.option("--mail-to", metavar="ADDRESS", help="Who gets mails of runs that are not in sync, for cron.")
@command
async def deploy_command(
    kind: str,
    paths: tuple[Path, ...],
    out: Path | None,
    service: bool,
    memory_mib: int,
    image: str | None,
    role_arn: str | None,
    user: str | None,
    mail_to: str | None,
) -> int:
    """Print units and manifests that run sources on time.

    Made for the configuration at hand: its schedules, exactly, or an error if they have no words for one; its folders,
    the variables that hold its secrets, and which exit codes are to be tried again. Nothing is installed.
    """
    from pipeline.deploying.plan import Deployment, sources_to_deploy
    from pipeline.deploying.renderers import RENDERERS

    sources, without = sources_to_deploy(load(paths, ()))
    deployment = Deployment(
        sources,
        is_service=service,
        program=_program(),
        version=version(DISTRIBUTION),
        user=_named(user or _user(), "--user"),
        image=_named(image or f"memsync:{version(DISTRIBUTION)}", "--image"),
        memory_mib=memory_mib,
        role_arn=role_arn and _named(role_arn, "--role-arn"),
        mail_to=mail_to and _named(mail_to, "--mail-to"),
    )
    files = RENDERERS[kind](deployment)
    for name in without:
        click.echo(f"memsync: {name} has no schedule and is left out.", err=True)
    for source in sources if kind not in ON_THIS_MACHINE else ():
        if source.settings.destination.is_on_this_machine:
            click.echo(
                f"memsync: {source.name} writes to a memory on this machine, which nobody there sees: give it"
                " destination.memory_id and destination.region, and no endpoint_url.",
                err=True,
            )
    for variable in _settings_from_environment():
        click.echo(f"memsync: {variable} is set here, and is not in what follows; set it there too.", err=True)
    if out is None:
        for file in files:
            if len(files) > 1:
                click.echo(f"# ==> {file.name} <==")
            click.echo(file.text)
    else:
        _write(files, out)
    return 0


def _settings_from_environment() -> list[str]:
    from pipeline.configuration.faults import SECTION_SEPARATOR, VARIABLE_PREFIX

    return sorted(safe(name) for name in os.environ if name.startswith(VARIABLE_PREFIX) and SECTION_SEPARATOR in name)


def _program() -> list[str]:
    """How memsync is called on this machine."""
    installed = Path(sys.executable).with_name("memsync")
    return [str(installed)] if installed.exists() else [sys.executable, "-P", "-m", "pipeline"]


def _user() -> str:
    name = getpass.getuser()
    return "memsync" if name == "root" else name


def _named(name: str, option: str) -> str:
    """`name`, which becomes a part of lines that others read."""
    if not name.isprintable() or any(character in name for character in " \"'\\$%#"):
        raise ConfigurationError(
            f"{option}: {name!r} has characters that such a name cannot have. Nothing was written."
        )
    return name


def _write(files: "Sequence[GeneratedFile]", out: Path) -> None:
    for file in files:
        path = out / file.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
        click.echo(safe(str(path)))
    click.echo(f"What to do with them is said at the top of {safe(str(out / files[0].name))}.")
