"""What `schedule` and `watch` share: the options of a process that stays up, and how signals end it."""

import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.early_signals import EXIT_SIGNAL

if TYPE_CHECKING:
    from pipeline.scheduling.health_server import Metrics
    from pipeline.scheduling.scheduler import Attend, Scheduler

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Serving:
    """How to serve; `health_port` None: tell nobody."""

    concurrency: int
    grace_s: float
    health_port: int | None
    health_host: str
    unready_after: int
    heartbeat: Path | None


_OPTIONS = (
    click.option(
        "--concurrency",
        default=2,
        show_default=True,
        type=click.IntRange(1, 64),
        metavar="COUNT",
        help="Runs at a time; each is a process with a need of memory of its own.",
    ),
    click.option(
        "--grace",
        "grace_s",
        default=20.0,
        show_default=True,
        type=click.FloatRange(0, 3600),
        metavar="SECONDS",
        help="How long runs may take to stop before they are killed. Nothing is lost either way.",
    ),
    click.option(
        "--health-port",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Serve /healthz, /readyz and /metrics; 0 takes a free port.",
    ),
    click.option(
        "--health-host",
        default=LOOPBACK,
        show_default=True,
        metavar="ADDRESS",
        help="Where to serve them; 0.0.0.0 for probes from outside of a container.",
    ),
    click.option(
        "--unready-after",
        default=3,
        show_default=True,
        type=click.IntRange(1, 1000),
        metavar="TIMES",
        help="/readyz says 503 when a source has been due so often since its last success.",
    ),
    click.option(
        "--heartbeat",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Touch this file every 15 seconds while the loop goes on.",
    ),
)


def serving_options(function: Callable[..., Awaitable[int]]) -> Callable[..., Any]:
    """Give `function` a `serving`, which is made of options of the command line."""

    @wraps(function)
    def gather(**arguments: Any) -> Awaitable[int]:
        serving = Serving(**{member.name: arguments.pop(member.name) for member in fields(Serving)})
        return function(serving=serving, **arguments)

    for option in reversed(_OPTIONS):
        gather = option(gather)
    return gather


async def serve(paths: Sequence[Path], serving: Serving, *, attend: "Attend | None" = None) -> int:
    """Run sources when they are due, or when `attend` wants it, until a signal comes; returns the exit code.

    Raises:
        ConfigurationError: there is nothing to do, or the health cannot be served.
    """
    from anyio import create_task_group, open_signal_receiver

    from pipeline.reporting.logs import configure_logging
    from pipeline.scheduling.clocks import Clocks
    from pipeline.scheduling.health import Health
    from pipeline.scheduling.scheduler import Options, Scheduler

    configure_logging(is_terminal=sys.stderr.isatty())
    clocks = Clocks(now=time.time, ticks=time.monotonic)
    health = Health(serving.unready_after, ticked_at=clocks.ticks())
    options = Options(serving.concurrency, serving.grace_s, serving.heartbeat)
    scheduler = Scheduler(paths, options, health, clocks, attend=attend)
    ending = _Ending()
    async with AsyncExitStack() as stack:
        # Before anybody is told that we are there: who asks us to stop from then on must find a clean end.
        signals = stack.enter_context(open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        if serving.health_port is not None:
            import structlog

            from pipeline.scheduling.health_server import serve_health

            server = serve_health(health, serving.health_host, serving.health_port, clocks, _metrics_of(paths))
            structlog.get_logger().info("health_served", url=await stack.enter_async_context(server))
        tasks = await stack.enter_async_context(create_task_group())
        tasks.start_soon(_heed_signals, signals, scheduler, ending)
        await scheduler.serve()
        tasks.cancel_scope.cancel()
    return ending.exit_code


def _metrics_of(paths: Sequence[Path]) -> "Metrics | None":
    """What tells the metrics of the sources as their files are now; None without the package that it takes."""
    from pipeline.configuration.loading import check_sources

    try:
        from pipeline.reporting.prometheus import CONTENT_TYPE
        from pipeline.runs.metrics import metrics_text
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        return None

    async def metrics() -> tuple[str, str]:
        # A state that cannot be read is one of the metrics, and a file that cannot be is told by /readyz.
        sources = [source.settings for source in check_sources(paths).sources]
        return await metrics_text(sources, lambda *_: None), CONTENT_TYPE

    return metrics


@dataclass(slots=True)
class _Ending:
    """The exit code: 0 after a clean stop."""

    exit_code: int = 0


async def _heed_signals(signals: AsyncIterator[signal.Signals], scheduler: "Scheduler", ending: _Ending) -> None:
    """The first signal stops, the second one ends all on the spot; SIGHUP has the files read again."""
    is_stopping = False
    async for number in signals:
        if number == signal.SIGHUP:
            scheduler.reload()
        elif not is_stopping:
            is_stopping = True
            scheduler.stop()
        else:
            ending.exit_code = EXIT_SIGNAL + number
            scheduler.kill()
