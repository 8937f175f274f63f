"""`memsync console`."""

import sys
from pathlib import Path

import click

from pipeline.commands.shared import command, paths_argument, stopping


@click.command("console")
@paths_argument
@click.option(
    "--port", metavar="PORT", default=0, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--open", "is_to_open", is_flag=True, help="Open it in the browser.")
@command
async def console_command(paths: tuple[Path, ...], port: int, is_to_open: bool) -> int:
    """Serve a page to look at sources and to act on them.

    How they stand, what is going on, past runs, dead letters with what to do about them, and search in the memory. It
    can be reached from this machine only, with the token in the address that is printed. Every button runs a memsync
    command, which is shown.
    """
    from anyio import create_task_group, sleep_forever

    from pipeline.console import serve_console
    from pipeline.console.sources import ConsoleSources

    sources = ConsoleSources(paths)
    sources.load()
    async with stopping() as stop, create_task_group() as tasks:
        with stop.heeded():
            async with serve_console(sources, port) as address:
                click.echo(f"memsync console: {address}\nStop with Ctrl-C.")
                sys.stdout.flush()
                if is_to_open:
                    import webbrowser

                    webbrowser.open(address)
                await sleep_forever()
        tasks.cancel_scope.cancel()
    return 0
