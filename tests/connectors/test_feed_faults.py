"""Each answer of a site with feeds to a run, spoilt in each way."""

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from tests.fakes.faulty_http import Answer, FaultyProxy, Strike, faulty_proxy

from .feed_server import feed_server, new_site
from .spoilt_runs import ADDED, BEFORE, SpoiltSource, hold_through
from .test_feed import FeedWorld, parse_in_place

EMPTY = b'<rss version="2.0"><channel><title>t</title>%b</channel></rss>'
LOOP = b'<atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="next" href="%b"/>'
LOGIN = b"<!DOCTYPE html><html><head><title>Log in</title></head><body><form><input name=user></form></body></html>"
BOMB = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>'

# Of feeds and pages.
FAULTS = {
    "401": Answer(401),
    "403": Answer(403),
    "404": Answer(404, LOGIN),
    "410": Answer(410),
    "429": Answer(429),
    "500": Answer(500, LOGIN),
    "503 for long": Answer(503, headers={"Retry-After": "86400"}),
    "304": Answer(304),
    "redirect to itself": Answer(302, headers={"Location": "?"}),
    "redirect to nothing": Answer(301),
    "redirect to a file": Answer(301, headers={"Location": "file:///etc/passwd"}),
    "redirect inside": Answer(302, headers={"Location": "http://169.254.169.254/latest"}),
    "reset": Answer(is_reset=True),
    "half": Answer(200, EMPTY % b"<item><guid>a/1.md</guid>", sent_bytes=60),
    "204": Answer(204),
}
# Of feeds alone: a page may say what it will.
SPOILT_FEEDS = {
    "nothing": Answer(200),
    "login": Answer(200, LOGIN, headers={"Content-Type": "text/html"}),
    "login as a feed": Answer(200, LOGIN, headers={"Content-Type": "application/rss+xml"}),
    "no entries": Answer(200, EMPTY % b""),
    "half of the XML": Answer(200, (EMPTY % b"<item><guid>a/1.md</guid><description>te")[:-30]),
    "half of no entry": Answer(200, b'<?xml version="1.0"?><rss version="2.0"><channel><title>'),
    "not well-formed": Answer(200, EMPTY % b"<item><guid>other</guid></itm>"),
    "bomb": Answer(200, BOMB + EMPTY % b"<item><guid>&c;</guid></item>"),
    "bytes": Answer(200, bytes(range(256)) * 20),
    "JSON": Answer(200, b'{"error": "no"}'),
    "half of the JSON": Answer(200, b'{"version": "https://jsonfeed.org/version/1.1", "items": [{"id": '),
    "no items": Answer(200, b'{"version": "https://jsonfeed.org/version/1.1", "items": {}}'),
    "sitemap": Answer(200, b'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url/></urlset>'),
    "loop": Answer(200, EMPTY % (LOOP % b"?")),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "listed": {"keep": "listed", "older_pages": True},
    "forever": {"keep": "forever", "older_pages": True},
    "pages": {"keep": "listed", "older_pages": True, "fetch_pages": True},
}
# At which requests of a run: it makes six for pages of feeds, and as many as there are edits for pages of entries.
CASES = [
    *(("listed", fault, range(6)) for fault in (*FAULTS, *SPOILT_FEEDS)),
    *(("forever", fault, range(6)) for fault in SPOILT_FEEDS),
    *(("pages", fault, range(6, 11)) for fault in FAULTS),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with feed_server() as url:
        yield url


@pytest.fixture
async def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyProxy]:
    monkeypatch.setattr("connectors.feed.connector.parse_feed", parse_in_place)
    monkeypatch.setattr("connectors.kit.http.ATTEMPTS_MAX", 1)
    monkeypatch.setattr("connectors.feed.connector.LOOK_S", 0)
    async with faulty_proxy(server) as opened:
        yield opened


@pytest.mark.parametrize(("options", "fault", "positions"), CASES, ids=[f"{name}-{fault}" for name, fault, _ in CASES])
async def test_no_spoilt_answer_deletes_what_is_there_or_keeps_out_what_was_seen(
    server: str, proxy: FaultyProxy, options: str, fault: str, positions: range
) -> None:
    """At each request of a run; and once answers are whole again, so is the memory."""
    struck = 0
    for position in positions:
        site = new_site(server)
        site.url = site.url.replace(server, proxy.url)
        site.entries_per_page = 2
        world = FeedWorld(site, options={**OPTIONS[options], "urls": [f"{site.url}a.rss", f"{site.url}b.rss"]})
        seen: set[str] = set()

        def watch(request: web.Request, status: int, body: bytes, seen: set[str] = seen) -> None:
            if "/pages/" not in request.path and status == 200:
                seen.update(name for name in (*BEFORE, *ADDED) if f">{name}</guid>".encode() in body)

        strike = Strike(position, {**FAULTS, **SPOILT_FEEDS}[fault], watch)
        arm = partial(setattr, proxy, "spoil", strike)
        source = SpoiltSource(world.connector(), world.put, arm, proxy.heal, seen.copy)
        await hold_through(source, (fault, options, position))
        struck += strike.has_struck
        await world.aclose()
    assert struck == len(positions)
