"""A web server whose answers a test writes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class WebServer:
    """`requests` are the methods and targets that came, in order."""

    url: str = ""
    requests: list[str] = field(default_factory=list)


@asynccontextmanager
async def web_server(answer: Answering) -> AsyncIterator[WebServer]:
    server = WebServer()

    async def noting(request: web.Request) -> web.StreamResponse:
        server.requests.append(f"{request.method} {request.path_qs}")
        return await answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", noting)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
