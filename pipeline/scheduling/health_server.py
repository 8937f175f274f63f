"""`/healthz`, `/readyz` and `/metrics`, over HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from aiohttp import web

from pipeline.errors import ConfigurationError
from pipeline.scheduling.clocks import Clocks
from pipeline.scheduling.health import Health

SHUTDOWN_TIMEOUT_S = 0.2
NO_METRICS = "There are no metrics without a package: pip install 'agentcore-memory-sync[prometheus]'\n"

Metrics = Callable[[], Awaitable[tuple[str, str]]]  # their text, and its media type

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@asynccontextmanager
async def serve_health(
    health: Health, host: str, port: int, clocks: Clocks, metrics: Metrics | None = None
) -> AsyncIterator[str]:
    """Serve `health` for as long as this is open; yields the address.

    `/healthz` tells with 200 or 503 whether the scheduler itself is at work, `/readyz` whether its sources are too.
    `/metrics` has what `metrics` returns, for Prometheus.

    Raises:
        ConfigurationError: the port is taken, or the host is none of this machine's.
    """

    async def answer_healthz(_request: web.Request) -> web.Response:
        return _answer(health, clocks, is_well=health.is_alive(clocks.ticks()))

    async def answer_readyz(_request: web.Request) -> web.Response:
        return _answer(health, clocks, is_well=health.is_ready(clocks.now(), clocks.ticks()))

    async def answer_metrics(_request: web.Request) -> web.Response:
        if metrics is None:
            return web.Response(status=404, text=NO_METRICS, headers=HEADERS)
        text, content_type = await metrics()
        return web.Response(body=text.encode(), headers={**HEADERS, "Content-Type": content_type})

    app = web.Application(client_max_size=1024)
    app.router.add_get("/healthz", answer_healthz)
    app.router.add_get("/readyz", answer_readyz)
    app.router.add_get("/metrics", answer_metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(
                f"The health cannot be served on {host} port {port}: {error.strerror}. Nothing was started."
                " Choose another --health-port or --health-host."
            ) from error
        bound_host, bound_port = runner.addresses[0][:2]
        yield f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


def _answer(health: Health, clocks: Clocks, *, is_well: bool) -> web.Response:
    report = health.report(clocks.now(), clocks.ticks())
    return web.json_response(report, status=200 if is_well else 503, headers=HEADERS)
