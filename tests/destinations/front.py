"""An HTTP server that stands before another one: it keeps what arrives, and can answer in the other's place."""

import io
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson
from aiohttp import web
from multidict import CIMultiDictProxy
from yarl import URL

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_BYTES_MAX = 32 * 1024 * 1024
HEADERS_NOT_PASSED_ON = {"content-length", "date", "server", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as the server got it."""

    method: str
    url: str
    headers: CIMultiDictProxy[str]
    body: bytes


class Front:
    """Made by `Front.serve`. `answers` are given to the next requests; further ones are passed on."""

    def __init__(self, behind: str | None, session: aiohttp.ClientSession) -> None:
        self.url = ""
        self.arrived: list[Arrived] = []
        self.answers: deque[Answer] = deque()
        self._behind = behind
        self._session = session

    @classmethod
    @asynccontextmanager
    async def serve(cls, behind: str | None = None) -> AsyncIterator["Front"]:
        """Serve on a free port, before the server at the URL `behind` if there is one."""
        async with aiohttp.ClientSession() as session:
            front = cls(behind, session)
            app = web.Application(client_max_size=BODY_BYTES_MAX)
            app.router.add_route("*", "/{path:.*}", front._respond)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                host, port = runner.addresses[0][:2]
                front.url = f"http://{host}:{port}"
                yield front
            finally:
                await runner.cleanup()

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.arrived.append(Arrived(request.method, f"{self.url}{request.raw_path}", request.headers, body))
        if self.answers:
            return await self.answers.popleft()(request)
        return await self._pass_on(request, body)

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        assert self._behind is not None, "nobody answers this request"
        url = URL(f"{self._behind}{request.raw_path}", encoded=True)
        try:
            async with self._session.request(request.method, url, data=io.BytesIO(body)) as answer:
                headers = {
                    name: value for name, value in answer.headers.items() if name.lower() not in HEADERS_NOT_PASSED_ON
                }
                return web.Response(status=answer.status, body=await answer.read(), headers=headers)
        except aiohttp.ClientConnectionError:
            return await drop(request)


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with these bytes; underscores in the names of headers stand for hyphens."""

    async def respond(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers={"Content-Type": "application/json", **named})

    return respond


def error(status: int, code: str, members: Mapping[str, object] | None = None, **headers: str) -> Answer:
    """Answer with an error as AWS words it."""
    body = orjson.dumps({"message": "words of the service", **(members or {})})
    return answer(status, body, x_amzn_errortype=code, **headers)


async def drop(request: web.Request) -> web.StreamResponse:
    """Close the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()  # goes nowhere


async def break_off(request: web.Request) -> web.StreamResponse:
    """Announce a long body, send its beginning and close the connection."""
    response = web.StreamResponse(status=201, headers={"Content-Type": "application/json"})
    response.content_length = 1_000
    await response.prepare(request)
    await response.write(b'{"successfulRecords": [')
    assert request.transport is not None
    request.transport.close()
    return response
