"""`memsync metrics`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.shared import EXIT_FAILED, command, load, paths_argument, safe, source_option
from pipeline.errors import ConfigurationError, SyncError

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings


@click.command("metrics")
@paths_argument
@source_option
@command
async def metrics_command(paths: tuple[Path, ...], names: tuple[str, ...]) -> int:
    """Print how each source stands, for Prometheus.

    From the states alone: nothing is asked of source or memory. Needs the extra `prometheus`.
    """
    sources = load(paths, names)
    try:
        from pipeline.runs.metrics import metrics_text
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        from pipeline.runs.observing import missing

        raise ConfigurationError(missing("prometheus")) from error

    unreadable = []

    def tell(settings: "SourceSettings", error: SyncError) -> None:
        unreadable.append(settings.name)
        click.echo(f"memsync: {safe(str(error))}", err=True)

    click.echo(await metrics_text(sources, tell), nl=False)
    return EXIT_FAILED if unreadable else 0
