"""Each answer of a real site to a run, spoilt in each way; and sites that answer wrongly to everything."""

import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from connectors.kit.contract import SpoilableWorld, SpoiltAnswersContract
from connectors.web.connector import WebConnector
from pipeline.errors import SyncError
from pipeline.model import Operation
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.fakes.faulty_http import Answer, FaultyProxy, Strike, faulty_proxy
from tests.pipeline.world import AnyWorld, in_place

from .spoilt_runs import ADDED, BEFORE, SpoiltSource, hold_through
from .web_site import Site, page, site

HTML = {"Content-Type": "text/html"}
LOGIN = page("Please log in", around="<form><input type=password></form>").encode()
SORRY = page("We will be back soon").encode()

Fault = Callable[[web.Request, bytes], Answer]

FAULTS: dict[str, Fault] = {
    **{
        str(status): lambda _request, _body, status=status: Answer(status)  # type: ignore[misc]
        for status in (204, 300, 304, 401, 403, 404, 410, 429, 500, 503)
    },
    "moved to a login": lambda _request, _body: Answer(301, headers={"Location": "/login.html"}),
    "sent to a login": lambda _request, _body: Answer(302, headers={"Location": "/login.html"}),
    "sent elsewhere": lambda _request, _body: Answer(302, headers={"Location": "http://sso.invalid/"}),
    "sent to itself": lambda request, _body: Answer(301, headers={"Location": request.path_qs}),
    "sent nowhere": lambda _request, _body: Answer(307),
    "reset": lambda _request, _body: Answer(is_reset=True),
    "nothing": lambda _request, _body: Answer(200, headers=HTML),
    "login page": lambda _request, _body: Answer(200, LOGIN, HTML),
    "half": lambda _request, body: Answer(200, body or b"x" * 9, HTML, sent_bytes=len(body) // 2),
    "half that looks whole": lambda _request, body: Answer(200, body[: len(body) // 2], HTML),
    "broken gzip": lambda _request, body: Answer(200, gzip.compress(body)[:-9], {**HTML, "Content-Encoding": "gzip"}),
}
LISTING_FAULTS: dict[str, Fault] = {
    "another page": lambda _request, _body: Answer(200, SORRY, HTML),
    "no pages": lambda _request, _body: Answer(200, b"<urlset></urlset>" + SORRY, HTML),
}
OF_SITEMAPS = (
    *("404", "500", "reset", "nothing", "login page", "half", "half that looks whole", "broken gzip"),
    *LISTING_FAULTS,
)
REQUESTS = 15  # more than a run makes: robots.txt, three pages or sitemaps that lead to others, ten pages


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.kit.http.ATTEMPTS_MAX", 1)


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[tuple[Site, FaultyProxy]]:
    async with site(tmp_path) as made, faulty_proxy(made.url) as opened:
        made.url, made.media_type = opened.url, "text/plain"  # HTML would cost each run a process that reads it
        yield made, opened


def is_listing(request: web.Request) -> bool:
    return request.path.endswith("/index.html") or request.path.startswith("/sitemap")


@pytest.mark.parametrize(
    ("fault", "way"),
    [*((fault, "links") for fault in (*FAULTS, *LISTING_FAULTS)), *((fault, "sitemaps") for fault in OF_SITEMAPS)],
)
async def test_no_spoilt_answer_deletes_what_is_there_or_keeps_out_what_was_seen(
    proxy: tuple[Site, FaultyProxy], way: str, fault: str
) -> None:
    """At each request of a run; and once answers are whole again, so is the memory."""
    www, between = proxy
    struck = 0
    for position in range(REQUESTS):
        for name in www.names():
            www.remove(name)
        seen: set[str] = set()

        def watch(request: web.Request, _status: int, body: bytes, seen: set[str] = seen) -> None:
            if is_listing(request):
                text = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
                seen.update(name for name in (*BEFORE, *ADDED) if f"/{name}".encode() in text)

        meant: Callable[[web.Request], bool] = is_listing if fault in LISTING_FAULTS else lambda _request: True
        strike = Strike(position, {**FAULTS, **LISTING_FAULTS}[fault], watch, meant)
        connector = (
            www.by_links(max_depth=position + 9) if way == "links" else www.by_sitemaps(query_drop=[str(position)])
        )
        source = SpoiltSource(connector, www.put, partial(setattr, between, "spoil", strike), between.heal, seen.copy)
        await hold_through(source, (fault, position))
        struck += strike.has_struck
        await connector.aclose()
    assert struck >= (3 if fault in LISTING_FAULTS else 14)


class SpoilableSite:
    faults = tuple(FAULTS)

    def __init__(self, www: Site, between: FaultyProxy, connector: Callable[[], WebConnector]) -> None:
        self.put, self.connector = www.put, connector
        self._between = between
        self._strike: Strike | None = None

    @property
    def was_spoilt(self) -> bool:
        return self._strike is not None and self._strike.has_struck

    def spoil(self, fault: str, position: int) -> None:
        self._between.spoil = self._strike = Strike(position, FAULTS[fault])

    def heal(self) -> None:
        self._between.heal()


class TestSpoiltLinks(SpoiltAnswersContract):
    @pytest.fixture
    def world(self, proxy: tuple[Site, FaultyProxy]) -> SpoilableWorld:
        return SpoilableSite(*proxy, proxy[0].by_links)


class TestSpoiltSitemaps(SpoiltAnswersContract):
    @pytest.fixture
    def world(self, proxy: tuple[Site, FaultyProxy]) -> SpoilableWorld:
        return SpoilableSite(*proxy, proxy[0].by_sitemaps)


@contextmanager
def answering_all(between: FaultyProxy, fault: Fault) -> Iterator[None]:
    between.spoil = lambda request, _status, body: None if request.path == "/login.html" else fault(request, body)
    yield
    between.heal()


EVERYWHERE: dict[str, Fault] = {
    **FAULTS,
    **LISTING_FAULTS,
    "moved to one page": lambda request, _body: (
        Answer(200, SORRY, HTML) if request.path == "/sorry.html" else Answer(301, headers={"Location": "/sorry.html"})
    ),
    "pages moved to one page": lambda request, body: (
        Answer(200, SORRY, HTML) if request.path == "/sorry.html" else
        Answer(200, body, HTML) if is_listing(request) or request.path == "/robots.txt" else
        Answer(302, headers={"Location": "/sorry.html"})
    ),
    "forbidden to robots": lambda request, body: (
        Answer(200, b"User-agent: *\nDisallow: /\n") if request.path == "/robots.txt" else Answer(200, body, HTML)
    ),
    "noindex": lambda request, body: (
        Answer(200, body, {"Content-Type": "text/plain" if request.path.endswith(".md") else "text/html",
                           "X-Robots-Tag": "noindex"})
    ),
}  # fmt: skip
BELIEVED_IN_THE_SECOND_RUN = {"noindex", "forbidden to robots"}  # which sites say of pages, and no error


@pytest.mark.parametrize("way", ["links", "sitemaps"])
@pytest.mark.parametrize("fault", EVERYWHERE)
async def test_a_site_that_answers_everything_wrongly_loses_nothing(
    proxy: tuple[Site, FaultyProxy], way: str, fault: str
) -> None:
    """Whatever it answers, run after run; it is small, so that the guard against mass deletion does not stand by."""
    www, between = proxy
    memory = MemoryDestination()
    world = AnyWorld(www.by_links() if way == "links" else www.by_sitemaps(), memory)
    for name in BEFORE:
        www.put(name, f"text of {name}")
    async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
        await world.do()
        whole = world.texts()
        www.answers["/login.html"] = web.Response(body=LOGIN, content_type="text/html")
        with answering_all(between, EVERYWHERE[fault]):
            for _ in range(1 if fault in BELIEVED_IN_THE_SECOND_RUN else 4):
                with suppress(SyncError):
                    await world.do()
                assert not [batch for batch in memory.requests if batch.operation is Operation.DELETE]
                assert len(world.texts()) >= len(whole)
        for _ in range(3):
            await world.do()

    assert world.texts() == whole
