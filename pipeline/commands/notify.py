"""`memsync notify`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import EXIT_FAILED, command, load, paths_argument, source_option, style_here
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.configuration.settings import NotifySettings, SourceSettings
    from pipeline.reporting.notices import Told
    from pipeline.reporting.notifications import Sent
    from pipeline.reporting.text import Style


@click.command("notify")
@paths_argument
@source_option
@click.option("--test", "is_test", is_flag=True, help="Send a notice to each address now, and say what came of it.")
@command
async def notify_command(paths: tuple[Path, ...], names: tuple[str, ...], is_test: bool) -> int:
    """Show who is told how runs end, and what was told.

    With --test, a notice is sent; exit code 1 if an address did not take it.
    """
    sources = load(paths, names)
    style = style_here()
    if not is_test:
        from pipeline.runs.notifying import read_told

        for settings in sources:
            click.echo("\n".join(_shown(settings, read_told(settings), style)))
        return 0
    told = [settings for settings in sources if settings.notify.urls_variable is not None]
    if not told:
        raise ConfigurationError("nobody is told here: set `notify.urls_variable`, then try again")
    return EXIT_FAILED if any([await _fails(settings, style) for settings in told]) else 0


def _shown(settings: "SourceSettings", told: "Told", style: "Style") -> Iterator[str]:
    from pipeline.reporting.text import moment

    chosen, name = settings.notify, style.paint(settings.name, "bold")
    if chosen.urls_variable is None:
        yield f"{name}  nobody is told"
        return
    yield f"{name}  told through {chosen.urls_variable}: {_rule(chosen)}"
    if told.told is None:
        yield "    nothing to tell" if told.trouble is None else f"    {_STATES[told.trouble]}, and nobody was told"
    elif told.told_at is not None:
        yield f"    told that it {_STATES[told.told]}, {moment(told.told_at)}"


_STATES = {"failed": "failed", "guarded": "withheld deletions", "dead_letters": "has dead letters"}


def _rule(chosen: "NotifySettings") -> str:
    again = f"; again every {chosen.remind_every_h:g} h" if chosen.remind_every_h else ""
    return f"{', '.join(chosen.on)}{again}"


async def _fails(settings: "SourceSettings", style: "Style") -> bool:
    """Send a test notice of a source, print what came of it, and return whether an address did not take it."""
    import socket

    from pipeline.reporting.notices import Notice
    from pipeline.runs.notifying import addresses_of
    from pipeline.runs.observing import is_installed, missing

    addresses = addresses_of(settings)
    if not is_installed("apprise"):
        raise ConfigurationError(missing("notify"), path=str(settings.file))
    from anyio import to_thread

    from pipeline.reporting.notifications import send

    body = f"This is a test. Notices of {settings.name} will look like it.\n{socket.gethostname()}"
    said = Notice("recovered", f"memsync: a test of {settings.name}", body)
    sent = await to_thread.run_sync(lambda: send(said, addresses, within_s=settings.notify.timeout_s))
    click.echo("\n".join(_outcomes(settings.name, sent, style)))
    return any(each.problem for each in sent)


def _outcomes(name: str, sent: "Sequence[Sent]", style: "Style") -> Iterator[str]:
    yield style.paint(name, "bold")
    for number, each in enumerate(sent, start=1):
        sign, words = ("good", "sent") if each.problem is None else ("bad", f"not sent: {each.problem}")
        yield f"  {style.sign(sign)} {number}. {style.text(each.service)}  {words}"
