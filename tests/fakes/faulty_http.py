"""A proxy that stands between a client and a real server and spoils some of the answers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from yarl import URL

Spoil = Callable[[web.Request, int, bytes], "Answer | None"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets instead: a status and a body; or a body of which only a part comes; or no answer at all."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent_bytes: int | None = None  # None: all
    is_reset: bool = False


Instead = Answer | Callable[[web.Request, bytes], "Answer | None"]


@dataclass(slots=True)
class Strike:
    """Spoils the answer at `position`, counted from 0 among those that are `meant`; `watch` sees all others."""

    position: int
    instead: Instead
    watch: Callable[[web.Request, int, bytes], object] = lambda _request, _status, _body: None
    meant: Callable[[web.Request], bool] = lambda _request: True
    has_struck: bool = False
    _asked: int = 0

    def __call__(self, request: web.Request, status: int, body: bytes) -> Answer | None:
        if self.meant(request):
            self._asked += 1
            if self._asked == self.position + 1:
                self.has_struck = True
                return self.instead if isinstance(self.instead, Answer) else self.instead(request, body)
        self.watch(request, status, body)
        return None


@dataclass(slots=True)
class FaultyProxy:
    """`spoil` sees each request with its real answer, and may give another; None leaves it as it is.

    `requests` are the methods and targets that came, in order.
    """

    url: str = ""
    spoil: Spoil = lambda _request, _status, _body: None
    requests: list[str] = field(default_factory=list)
    ignored_query: dict[str, str] = field(default_factory=dict)  # what the real server is not to hear of

    def heal(self) -> None:
        self.spoil = lambda _request, _status, _body: None


@asynccontextmanager
async def faulty_proxy(target: str) -> AsyncIterator[FaultyProxy]:
    proxy = FaultyProxy()

    async def answer(request: web.Request) -> web.StreamResponse:
        proxy.requests.append(f"{request.method} {request.path_qs}")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        heard = [item for item in request.query.items() if item not in proxy.ignored_query.items()]
        url = target + request.raw_path.partition("?")[0]
        async with session.request(
            request.method,
            URL(f"{url}?{urlencode(heard)}" if heard else url, encoded=True),
            headers=headers,
            data=await request.read(),
            allow_redirects=False,
        ) as real:
            body = await real.read()
            instead = proxy.spoil(request, real.status, body)
            kept = {
                name: value
                for name, value in real.headers.items()
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date")
            }
            if instead is None:
                length = {"Content-Length": real.headers["Content-Length"]} if request.method == "HEAD" else {}
                return web.Response(status=real.status, body=body, headers={**kept, **length})
        return await _spoiled(request, instead)

    async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as session:
        runner = web.AppRunner(_application(answer), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            proxy.url = f"http://127.0.0.1:{port}"
            yield proxy
        finally:
            await runner.cleanup()


def _application(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    return application


async def _spoiled(request: web.Request, instead: Answer) -> web.StreamResponse:
    transport = request.transport
    assert transport is not None
    if instead.is_reset:
        transport.abort()
        return web.Response()
    if instead.sent_bytes is None:
        return web.Response(status=instead.status, body=instead.body, headers=instead.headers)
    response = web.StreamResponse(status=instead.status, headers=instead.headers)
    response.content_length = len(instead.body)
    await response.prepare(request)
    await response.write(instead.body[: instead.sent_bytes])
    transport.abort()
    return response
