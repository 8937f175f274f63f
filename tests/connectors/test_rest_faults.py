"""Each answer of an API to a run, spoilt in each way."""

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from connectors.kit.contract import SpoilableWorld, SpoiltAnswersContract
from connectors.rest.connector import RestConnector
from pipeline.model import DocumentId
from tests.fakes.faulty_http import Answer, FaultyProxy, Strike, faulty_proxy

from .rest_servers.api import FakeApi
from .rest_servers.confluence import Confluence
from .rest_servers.github import GitHub
from .rest_servers.jira import Jira
from .rest_servers.notion import Notion
from .rest_servers.slack import Slack
from .rest_servers.zendesk import Zendesk
from .rest_world import RestWorld, give_secrets, rest_world, without_patience
from .spoilt_runs import ADDED, BEFORE, SpoiltSource, hold_through

JSON = {"Content-Type": "application/json"}


def said(body: bytes, status: int = 200) -> Answer:
    return Answer(status, body, headers=JSON)


FAULTS = {
    "401": said(b'{"message": "no"}', 401),
    "403": said(b'{"message": "no"}', 403),
    "404": said(b'{"message": "no"}', 404),
    "410": said(b'{"message": "no"}', 410),
    "429": said(b"{}", 429),
    "500": said(b"{}", 500),
    "503": Answer(503, b"<html>soon again"),
    "redirect away": Answer(302, headers={"Location": "http://127.0.0.1:9/login"}),
    "redirect in circles": Answer(302, headers={"Location": "?"}),
    "reset": Answer(is_reset=True),
    "broken off": Answer(200, b'{"results": [], "more": 1}', headers=JSON, sent_bytes=12),
    "nothing": said(b""),
    "login page": Answer(200, b"<html><title>Log in</title>", headers={"Content-Type": "text/html"}),
    "half of the JSON": said(b'{"results": ['),
    "no object": said(b"null"),
    "another object": said(b'{"status": "maintenance"}'),
    "a list": said(b'["maintenance"]'),
    "an error with 200": said(b'{"ok": false, "error": "fatal_error"}'),
    # What is worst: a listing that ends here, although there is more.
    "no records and no more": said(
        b'{"results": [], "issues": [], "messages": [], "channels": [], "articles": [], "tickets": [],'
        b' "comments": [], "ok": true, "_links": {}, "meta": {"has_more": false}, "links": {},'
        b' "next_cursor": null, "has_more": false}'
    ),
    "an empty list": said(b"[]"),
}
OF_EACH_API = ("404", "another object", "an error with 200", "no records and no more")


@dataclass
class Written:
    """An API whose documents are named by paths; folders are what it has for them. `put` returns a document's id."""

    world: RestWorld[Any]
    put: Callable[[str, bytes], str]


def confluence(world: RestWorld[Confluence]) -> Written:
    def put(name: str, content: bytes) -> str:
        page = world.api.put(name.partition("/")[0], name, content.decode())
        return f"pages/{world.api.pages[page]['spaceId']}/{page}"

    return Written(world, put)


def github(world: RestWorld[GitHub]) -> Written:
    return Written(world, lambda name, content: f"issues/{world.api.put(name, content.decode())}")


def jira(world: RestWorld[Jira]) -> Written:
    return Written(world, lambda name, content: f"issues/{world.api.put(name, content.decode())}")


def notion(world: RestWorld[Notion]) -> Written:
    def put(name: str, content: bytes) -> str:
        return f"pages/{world.api.put(name, world.api.block('paragraph', content.decode()))}"

    return Written(world, put)


def slack(world: RestWorld[Slack]) -> Written:
    channels: dict[str, str] = {}
    times: dict[str, str] = {}

    def put(name: str, content: bytes) -> str:
        folder = name.partition("/")[0]
        if folder not in channels:
            channels[folder] = world.api.channel(folder)
        if name in times:
            world.api.messages[channels[folder]][times[name]]["text"] = content.decode()
        else:
            times[name] = world.api.say(channels[folder], content.decode())
        return f"messages/{channels[folder]}/{times[name].replace('.', '%2E')}"

    return Written(world, put)


def zendesk(world: RestWorld[Zendesk]) -> Written:
    return Written(world, lambda name, content: f"articles/{world.api.article(name, content.decode())}")


APIS: dict[str, tuple[Callable[[], FakeApi], Callable[[Any], Written]]] = {
    "confluence": (Confluence, confluence),
    "github": (GitHub, github),
    "jira": (Jira, jira),
    "notion": (Notion, notion),
    "slack": (Slack, slack),
    "zendesk": (Zendesk, zendesk),
}


# ---------------------------------------------------------------------------------- what a connector makes of them


@dataclass
class SpoilableApi:
    """`put` writes documents by the names that they have in the contract, and returns their ids."""

    written: Written
    proxy: FaultyProxy
    faults: Collection[str]
    strike: Strike | None = None

    def connector(self) -> RestConnector:
        return self.written.world.connector(url=self.proxy.url, page_size=3)

    def put(self, name: str, content: bytes) -> DocumentId:
        return DocumentId(self.written.put(name, content))

    @property
    def was_spoilt(self) -> bool:
        return self.strike is not None and self.strike.has_struck

    def spoil(self, fault: str, position: int) -> None:
        self.proxy.spoil = self.strike = Strike(position, partial(spoilt, fault=fault))

    def heal(self) -> None:
        self.proxy.heal()


def spoilt(request: web.Request, _body: bytes, *, fault: str) -> Answer | None:
    return None if says_nothing_wrong(request, fault) else FAULTS[fault]


def says_nothing_wrong(request: web.Request, fault: str) -> bool:
    """A page may be empty: nobody can tell that it is not."""
    return "/blocks/" in request.path and fault == "no records and no more"


class TestRestConnectorKeepsTheContract(SpoiltAnswersContract):
    @pytest.fixture(params=list(APIS))
    async def world(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[SpoilableWorld]:
        give_secrets(monkeypatch)
        without_patience(monkeypatch)
        make, write = APIS[request.param]
        async with rest_world(make(), f"rest-{request.param}.yaml") as world, faulty_proxy(world.url) as proxy:
            world.api.url = proxy.url  # what its answers lead to
            # All of them where a scan asks for little, and of the others what concerns their shapes.
            yield SpoilableApi(write(world), proxy, FAULTS if request.param == "github" else OF_EACH_API)


# ------------------------------------------------------------------------------------- what whole runs make of them

# One API suffers all of them, the others what concerns their shapes.
CASES = [(api, fault) for api in APIS for fault in FAULTS if api == "confluence" or fault in OF_EACH_API]


@pytest.mark.parametrize(("api", "fault"), CASES)
async def test_no_spoilt_answer_deletes_what_is_there_or_keeps_out_what_was_seen(
    api: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each request of a run; and once answers are whole again, so is the memory."""
    give_secrets(monkeypatch)
    without_patience(monkeypatch)
    make, write = APIS[api]
    struck = 0
    position = 0
    while struck == position:  # until a run has fewer requests
        async with rest_world(make(), f"rest-{api}.yaml") as world, faulty_proxy(world.url) as proxy:
            written = write(world)
            seen: set[str] = set()

            def watch(_request: web.Request, status: int, body: bytes, seen: set[str] = seen) -> None:
                if status == 200:
                    seen.update(name for name in (*BEFORE, *ADDED) if name.encode() in body)

            strike = Strike(position, partial(spoilt, fault=fault), watch)
            arm = partial(setattr, proxy, "spoil", strike)
            world.api.url = proxy.url  # what its answers lead to
            connector = world.connector(url=proxy.url, page_size=3)
            source = SpoiltSource(connector, written.put, arm, proxy.heal, seen.copy)
            await hold_through(source, (api, fault, position))
            struck += strike.has_struck
            position += 1
    assert struck >= 4
