"""Each answer of a real store to a run, spoilt in each way."""

from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from aiohttp import web

from connectors.kit.contract import SpoilableWorld, SpoiltAnswersContract
from tests.fakes.faulty_http import Answer, FaultyProxy, Strike, faulty_proxy

from .s3_server import s3_server
from .spoilt_runs import ADDED, BEFORE, SpoiltSource, hold_through
from .test_s3 import LISTING, S3World, refusal

FAULTS = {
    "403": refusal(403, "AccessDenied"),
    "404": refusal(404, "NoSuchKey"),
    "no bucket": refusal(404, "NoSuchBucket"),
    "expired": refusal(400, "ExpiredToken"),
    "429": refusal(429, "TooManyRequests"),
    "500": refusal(500, "InternalError"),
    "503": refusal(503, "SlowDown"),
    "redirect": Answer(301),
    "reset": Answer(is_reset=True),
    "nothing": Answer(200),
    "no XML": Answer(200, b"<html>a proxy's login page"),
    "half": Answer(200, LISTING % b"", sent_bytes=60),
    "half of the XML": Answer(200, (LISTING % b"")[:70]),
    "no token": Answer(200, LISTING % b""),
    "looping token": Answer(200, LISTING % b"<NextContinuationToken>loop</NextContinuationToken>"),
}
REQUESTS = 14  # more than a run makes: 6 pages and 5 objects, and what is asked for once more


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_CONFIG_FILE", "/dev/null"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("connectors.s3.ATTEMPTS_MAX", 1)
    monkeypatch.setattr("connectors.s3.KEYS_PER_PAGE", 2)


@pytest.fixture
async def proxy(server: str) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(server) as opened:
        yield opened


class SpoilableBucket(S3World):
    faults = tuple(FAULTS)

    def __init__(self, url: str, proxy: FaultyProxy) -> None:
        super().__init__(url, options={"endpoint_url": proxy.url})
        self._proxy = proxy
        self._strike: Strike | None = None

    @property
    def was_spoilt(self) -> bool:
        return self._strike is not None and self._strike.has_struck

    def spoil(self, fault: str, position: int) -> None:
        self._proxy.spoil = self._strike = Strike(position, FAULTS[fault])

    def heal(self) -> None:
        self._proxy.heal()


class TestS3ConnectorKeepsTheContract(SpoiltAnswersContract):
    @pytest.fixture
    async def world(self, server: str, proxy: FaultyProxy) -> AsyncIterator[SpoilableWorld]:
        world = SpoilableBucket(server, proxy)
        yield world
        world.client.close()
        for connector in world.opened:
            await connector.aclose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_spoilt_answer_deletes_what_is_there_or_keeps_out_what_was_seen(
    server: str, proxy: FaultyProxy, fault: str
) -> None:
    """At each request of a run; and once answers are whole again, so is the memory."""
    struck = 0
    for position in range(REQUESTS):
        store = S3World(server)
        seen: set[str] = set()

        def watch(request: web.Request, _status: int, body: bytes, seen: set[str] = seen) -> None:
            if "list-type" in request.query:
                seen.update(name for name in (*BEFORE, *ADDED) if f"<Key>{name}</Key>".encode() in body)

        strike = Strike(position, FAULTS[fault], watch)
        connector = store.connector(endpoint_url=proxy.url, prefixes=["a/", "b/"])
        source = SpoiltSource(connector, store.put, partial(setattr, proxy, "spoil", strike), proxy.heal, seen.copy)
        await hold_through(source, (fault, position))
        struck += strike.has_struck
        await connector.aclose()
        store.client.close()
    assert struck >= 10
