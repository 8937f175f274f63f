"""The HTTP side of the console: the page, what it asks for, and who may ask.

It listens on this machine only. That keeps neither other users of the machine out nor pages that a browser has open:
so every answer with something in it needs the token, which is in the address that was printed, behind its `#`, and
which no browser sends by itself. A name that was made to mean this machine is refused, too.
"""

import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

import anyio
from aiohttp import web
from anyio import create_task_group
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.console.sources import ConsoleSources, NoSuchSource
from pipeline.console.started import LETTERS_PER_COMMAND_MAX, OF_LETTERS, StartedCommands, Verb
from pipeline.errors import ConfigurationError, SyncError
from pipeline.reporting.pages import render_page

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
BODY_BYTES_MAX = 256 * 1024
QUERY_CHARACTERS_MAX = 1_000
SHUTDOWN_TIMEOUT_S = 0.2
REPORT_TICKETS_MAX = 20

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
# Should a name in a report ever get through as a script, that must not have the origin of the console, and with it what
# the console may do. Browsers refuse to show a sandboxed page whose opener policy is that of the others.
REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "unsafe-none",
}
_PAGE: Mapping[str, tuple[str, str]] = {
    "/": ("console.html", "text/html"),
    "/console.css": ("console.css", "text/css"),
    "/console.js": ("console.js", "text/javascript"),
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve_console(sources: ConsoleSources, port: int) -> AsyncIterator[str]:
    """Serve the page for as long as this is open; yields its address, which holds the token.

    Commands that the page has started are asked to stop at the end.

    Raises:
        ConfigurationError: the port is taken.
    """
    async with create_task_group() as tasks:
        console = _Console(sources, StartedCommands(tasks))
        runner = web.AppRunner(console.app(), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, HOST, port).start()
            except OSError as error:
                raise ConfigurationError(
                    f"The console cannot be served on port {port}: {error.strerror}. Choose another --port; 0 takes a"
                    " free one."
                ) from error
            yield f"http://{HOST}:{runner.addresses[0][1]}/#{console.token}"
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()
            tasks.cancel_scope.cancel()


class _Asked(BaseModel):
    """What the page asks to be done: with these dead letters, or with all if there are none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verb: Verb
    letters: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,199}$")]] = []


class _Console:
    def __init__(self, sources: ConsoleSources, commands: StartedCommands) -> None:
        self.token = secrets.token_urlsafe(32)
        self.commands = commands
        self._sources = sources
        self._tickets: dict[str, bytes] = {}  # pages of reports, each to be shown once

    def app(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[self._guarded])
        app.router.add_get("/", _static)
        app.router.add_get("/console.css", _static)
        app.router.add_get("/console.js", _static)
        app.router.add_get("/report/{ticket}", self._show_report)
        app.router.add_get("/api/overview", self._overview)
        app.router.add_post("/api/sources/{name}/report/{run_id}", self._open_report)
        app.router.add_get("/api/sources/{name}/letters", self._letters)
        app.router.add_get("/api/sources/{name}/letters/{letter}", self._letter)
        app.router.add_post("/api/sources/{name}/commands", self._start)
        app.router.add_post("/api/commands/{command}/stop", self._stop)
        app.router.add_get("/api/search", self._search)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer who may ask; an error becomes words."""
        if request.url.host not in NAMES:
            return _refusal(421, "This is reached as http://127.0.0.1 only.")
        if request.path.startswith("/api/") and not self._has_token(request):
            return _refusal(401, "Open the address that `memsync console` printed: it holds the token.")
        try:
            response = await handler(request)
        except NoSuchSource as error:
            return _refusal(404, f"There is no source {error.args[0]!r} any more.")
        except SyncError as error:
            return _refusal(409, str(error))
        except web.HTTPException as error:
            return _refusal(error.status, error.reason)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _has_token(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {self.token}".encode())

    # -------------------------------------------------------------------------------------------- to look at

    async def _overview(self, _request: web.Request) -> web.Response:
        self._sources.refresh()
        sources = await self._sources.overview()
        for source in sources:
            if any(run["status"] == "running" for run in source["runs"][:1]):
                source["progress"] = await self._progress(source["name"])
        commands = [started.told() for started in self.commands.all()]
        return web.json_response({"sources": sources, "problem": self._sources.problem, "commands": commands})

    async def _progress(self, name: str) -> dict[str, Any] | None:
        try:
            return {**await self._sources.report(name), "diff": None}  # texts are for the page of a report alone
        except SyncError:  # it leaves no reports, or has only just begun
            return None

    async def _open_report(self, request: web.Request) -> web.Response:
        """Make the page of a report, and tell an address under which a browser can load it once."""
        name = request.match_info["name"]
        report = await self._sources.report(name, request.match_info["run_id"])
        page = render_page(report, await self._sources.runs(name))
        ticket = secrets.token_urlsafe(32)
        while len(self._tickets) >= REPORT_TICKETS_MAX:
            del self._tickets[next(iter(self._tickets))]
        self._tickets[ticket] = page.encode()
        return web.json_response({"address": f"/report/{ticket}"})

    async def _show_report(self, request: web.Request) -> web.Response:
        page = self._tickets.pop(request.match_info["ticket"], None)
        if page is None:
            return _refusal(404, "This address was for one look. Open the report from the console again.")
        return web.Response(body=page, content_type="text/html", charset="utf-8", headers=REPORT_HEADERS)

    async def _letters(self, request: web.Request) -> web.Response:
        chosen = await self._sources.letters(
            request.match_info["name"],
            reason=request.query.get("reason", ""),
            words=request.query.get("words", "")[:QUERY_CHARACTERS_MAX],
        )
        return web.json_response(chosen)

    async def _letter(self, request: web.Request) -> web.Response:
        letter = await self._sources.letter(request.match_info["name"], request.match_info["letter"])
        if letter is None:
            return _refusal(404, "This dead letter is gone: it was stored, dropped or overtaken.")
        return web.json_response(letter)

    async def _search(self, request: web.Request) -> web.Response:
        query = request.query.get("query", "").strip()[:QUERY_CHARACTERS_MAX]
        if not query:
            return web.json_response({"hits": [], "problems": []})
        return web.json_response(await self._sources.search(query, request.query.get("source") or None))

    # ---------------------------------------------------------------------------------------------- to do

    async def _start(self, request: web.Request) -> web.Response:
        settings = self._sources.find(request.match_info["name"])
        try:
            asked = _Asked.model_validate_json(await request.read())
        except ValidationError:
            return _refusal(400, "The page and this program do not belong together. Load the page again.")
        verb, letters = asked.verb, asked.letters
        if letters and verb not in OF_LETTERS:
            return _refusal(400, "The page and this program do not belong together. Load the page again.")
        if len(letters) > LETTERS_PER_COMMAND_MAX:
            return _refusal(
                400, f"Choose at most {LETTERS_PER_COMMAND_MAX} dead letters at a time, or all of a reason."
            )
        if verb == "drop" and not letters:
            return _refusal(400, "Choose the dead letters to drop.")
        if (other := self.commands.at_work(settings.name)) is not None:
            return _refusal(409, f"This is still going on: {other.typed}")
        try:
            started = await self.commands.start(verb, settings.name, settings.file, letters)
        except OSError as error:
            return _refusal(500, f"No process could be started: {error.strerror}.")
        return web.json_response(started.told())

    async def _stop(self, request: web.Request) -> web.Response:
        started = self.commands.find(request.match_info["command"])
        if started is None:
            return _refusal(404, "That command is long done.")
        self.commands.stop(started)
        return web.json_response(started.told())


async def _static(request: web.Request) -> web.Response:
    name, content_type = _PAGE[request.path]
    content = files("pipeline.console").joinpath("page", name).read_bytes()
    headers = {"Content-Security-Policy": POLICY}
    return web.Response(body=content, content_type=content_type, charset="utf-8", headers=headers)


def _refusal(status: int, words: str) -> web.Response:
    return web.json_response({"problem": words}, status=status, headers=HEADERS)
