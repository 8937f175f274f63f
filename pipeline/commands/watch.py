"""`memsync watch`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.serving import Serving, serve, serving_options
from pipeline.commands.shared import command, paths_argument
from pipeline.errors import ConfigurationError, SyncError

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings
    from pipeline.scheduling.scheduler import Attend

WATCHABLE = "filesystem"


@click.command("watch")
@paths_argument
@click.option(
    "--settle",
    "settle_s",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 60),
    metavar="SECONDS",
    help="How long files must be left alone before a run begins.",
)
@command
@serving_options
async def watch_command(paths: tuple[Path, ...], settle_s: float, serving: Serving) -> int:
    """Stay up, and run a source whenever its files have changed.

    For folders (`type: filesystem`) on this machine; changes that other machines make in a shared folder are not always
    told to this one: `schedule` in the YAML file, which holds here too, finds them. Begins with a run of each source,
    and ends as `memsync schedule` does.
    """
    from pipeline.configuration.loading import check_sources
    from pipeline.configuration.resolving import resolved

    # Files that are not valid are told of by what follows.
    sources = [source.settings for source in check_sources(paths).sources]
    others = [f"{settings.name} ({settings.source.type})" for settings in sources if not _is_watchable(settings)]
    if others:
        raise ConfigurationError(
            f"Only folders can be watched, and these are none: {', '.join(others)}. Nothing was started. Give them a"
            " `schedule` and run them with `memsync schedule`."
        )
    for settings in sources:
        await resolved(settings)
    return await serve(paths, serving, attend=_attend(settle_s, [serving.heartbeat] if serving.heartbeat else []))


def _is_watchable(settings: "SourceSettings") -> bool:
    return settings.source.type == WATCHABLE


def _attend(settle_s: float, own_files: list[Path]) -> "Attend":
    try:
        from pipeline.scheduling.folders import watch_folder
    except ImportError as error:
        raise ConfigurationError(
            "Watching folders needs watchfiles, which is not installed. Nothing was started:"
            " pip install 'agentcore-memory-sync[watch]'"
        ) from error
    import structlog

    async def attend(settings: "SourceSettings", want: Callable[[], None]) -> None:
        problem = "Only folders can be watched."  # its file was changed since this began
        if _is_watchable(settings):
            try:
                await watch_folder(settings, want, settle_s=settle_s, own_files=own_files)
            except SyncError as error:
                problem = str(error)
        structlog.get_logger().error(
            "source_not_watched",
            source=settings.name,
            message=problem,
            consequence="it runs when its schedule says, if it has one",
        )

    return attend
