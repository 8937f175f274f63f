"""A website of files on a free port of this machine, with pages that lead to them or sitemaps that list them."""

import gzip
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from connectors.web.connector import WebConnector
from connectors.web.settings import WebSettings
from pipeline.model import DocumentId

from .web_server import web_server

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
XMLNS = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


@dataclass
class Site:
    """Files below `folder`, served by aiohttp with its validators, and what leads to them, made anew for each request.

    `/index.html` has links to the files at the top and to `/FOLDER/index.html` for each folder; `/sitemap.xml` is an
    index of `/sitemap-FOLDER.xml.gz`. `special` and `answers` by path come first.
    """

    folder: Path
    url: str = ""
    media_type: str | None = None  # of all files; None: by their names
    is_gone: bool = False
    answers: dict[str, web.Response] = field(default_factory=dict)
    special: dict[str, Callable[[web.Request], Awaitable[web.Response]]] = field(default_factory=dict)
    _answered: list[tuple[str, web.StreamResponse]] = field(default_factory=list)  # a file's status is told later
    opened: list[WebConnector] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._times = itertools.count(1_500_000_000, 10)
        self.base_folder = self.folder.parent / "base"
        for folder in (self.folder, self.base_folder):
            folder.mkdir(exist_ok=True)

    # ------------------------------------------------------------------------------------------ what is there

    def put(self, name: str, content: bytes | str) -> DocumentId:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        time = next(self._times)
        os.utime(path, (time, time))
        return DocumentId(f"{self.url}/{name}")

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def remove_root(self) -> None:
        self.is_gone = True

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def folders(self) -> list[str]:
        return sorted({name.rpartition("/")[0] for name in self.names()})

    # --------------------------------------------------------------------------------------------- who asks

    def connector(self, **options: Any) -> WebConnector:
        http = {"allow_private_hosts": True, "requests_per_s": 1000, **options.pop("http", {})}
        settings = WebSettings.model_validate({"type": "web", "http": http, **options})
        self.opened.append(WebConnector(settings, self.base_folder))
        return self.opened[-1]

    def by_links(self, **options: Any) -> WebConnector:
        settings = {"start": [f"{self.url}/index.html"], "exclude": [], "include": ["*", "!index.html"], **options}
        return self.connector(**settings)

    def by_sitemaps(self, **options: Any) -> WebConnector:
        return self.connector(**{"sitemaps": [f"{self.url}/sitemap.xml"], **options})

    # --------------------------------------------------------------------------------------- what it answers

    async def answer(self, request: web.Request) -> web.StreamResponse:
        special = self.special.get(request.path)
        response = await special(request) if special else self._answer(request.path)
        self._answered.append((request.path, response))
        return response

    def requests(self) -> list[tuple[str, int]]:
        """The paths that were asked for since this was asked last, each with the status of its answer."""
        answered = [(path, response.status) for path, response in self._answered]
        self._answered.clear()
        return answered

    def _answer(self, path: str) -> web.StreamResponse:
        name = path.removeprefix("/")
        if self.is_gone:
            return web.Response(status=404)
        if path in self.answers:
            made = self.answers[path]
            return web.Response(status=made.status, body=made.body, headers=made.headers)
        if name == "sitemap.xml":
            return self._xml(self.sitemap_index())
        if name.startswith("sitemap-"):
            folder = name.removeprefix("sitemap-").removesuffix(".xml.gz").replace("+", "/")
            return self._xml(gzip.compress(self.sitemap(folder), mtime=0))
        if name == "index.html" or (
            name.endswith("/index.html") and name.removesuffix("/index.html") in self.folders()
        ):
            return web.Response(body=self.index(name.removesuffix("index.html").rstrip("/")), content_type="text/html")
        if (self.folder / name).is_file():
            headers = {"Content-Type": self.media_type} if self.media_type else {}
            return web.FileResponse(self.folder / name, headers=headers)
        return web.Response(status=404, text="<html><p>Not found</html>", content_type="text/html")

    def _xml(self, content: bytes) -> web.Response:
        return web.Response(body=content, content_type="application/xml")

    def sitemap_index(self) -> bytes:
        maps = (f"<sitemap><loc>{self.url}/sitemap-{folder.replace('/', '+')}.xml.gz</loc></sitemap>" for folder in
                self.folders())  # fmt: skip
        if not self.folders():
            return f"{HEAD}<urlset {XMLNS}></urlset>".encode()
        return f"{HEAD}<sitemapindex {XMLNS}>{''.join(maps)}</sitemapindex>".encode()

    def sitemap(self, folder: str) -> bytes:
        pages = (f"<url><loc>{self.url}/{name}</loc></url>" for name in self.names() if _is_in(name, folder))
        return f"{HEAD}<urlset {XMLNS}>{''.join(pages)}</urlset>".encode()

    def index(self, folder: str) -> bytes:
        links = [f'<a href="/{name}">{name}</a>' for name in self.names() if _is_in(name, folder)]
        if not folder:
            links += [f'<a href="/{each}/index.html">{each}</a>' for each in self.folders() if each]
        return f"<!doctype html><html><title>Index</title>{''.join(links)}</html>".encode()


def _is_in(name: str, folder: str) -> bool:
    return name.rpartition("/")[0] == folder


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    made = Site(folder / "www")
    async with web_server(made.answer) as server:
        made.url = server.url
        yield made
        for connector in made.opened:
            await connector.aclose()


def page(text: str, head: str = "", around: str = "") -> str:
    return f"<!doctype html><html><head>{head}</head><body>{around}<main><p>{text}</p></main></body></html>\n"
