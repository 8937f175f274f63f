"""Whatever the store answers, and when: no document that is there loses its records, and what was seen is stored.

Real runs of the pipeline between a real server and a memory, with each answer of a run spoilt in each way.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from pipeline.errors import SyncError
from pipeline.model import Operation
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.fakes.faulty_http import Answer, FaultyProxy, faulty_proxy
from tests.pipeline.world import AnyWorld, in_place

from .s3_server import s3_server
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


def text_of(name: str, version: int) -> str:
    return f"text of {name}, version {version}"


class Case:
    """A bucket that was synced once, with edits since then."""

    def __init__(self, store: S3World, proxy: FaultyProxy) -> None:
        self.store, self.proxy = store, proxy
        self.connector = store.connector(endpoint_url=proxy.url, prefixes=["a/", "b/"])
        self.memory = MemoryDestination()
        self.world = AnyWorld(self.connector, self.memory)
        self.texts: dict[str, str] = {}

    def put(self, name: str, version: int = 1) -> None:
        self.texts[name] = text_of(name, version)
        self.store.put(name, self.texts[name].encode())

    async def run(self) -> SyncError | None:
        try:
            await self.world.do()
        except SyncError as error:
            return error
        return None

    @property
    def names(self) -> list[str]:
        """The documents whose records the memory holds, in whatever version."""
        return sorted({text.partition(",")[0].removeprefix("text of ") for text in self.world.texts()})

    @property
    def deleted(self) -> int:
        return sum(len(batch.entries) for batch in self.memory.requests if batch.operation is Operation.DELETE)


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_spoilt_answer_deletes_what_is_there_or_keeps_out_what_was_seen(
    server: str, proxy: FaultyProxy, fault: str
) -> None:
    """At each request of a run; and once answers are whole again, so is the memory."""
    struck = 0
    for position in range(REQUESTS):
        store = S3World(server)
        case = Case(store, proxy)
        for folder in "ab":
            for number in range(4):
                case.put(f"{folder}/{number}.md")
        async with open_state(None, source="docs", destination="memory", offload=in_place) as case.world.state:
            proxy.spoil = lambda _request, _status, _body: None
            assert await case.run() is None
            assert case.names == sorted(case.texts)
            for name in ("a/1.md", "a/3.md", "b/0.md"):
                case.put(name, version=2)
            for name in ("a/4.md", "b/9.md"):
                case.put(name)
            asked = 0
            listed: set[str] = set()

            def spoil(request: web.Request, _status: int, body: bytes) -> Answer | None:
                nonlocal asked, struck
                asked += 1
                if asked == position + 1:  # noqa: B023 - it is used up before the next
                    struck += 1
                    return FAULTS[fault]
                if "list-type" in request.query:
                    listed.update(name for name in case.texts if f"<Key>{name}</Key>".encode() in body)  # noqa: B023
                return None

            proxy.spoil = spoil
            error = await case.run()

            assert case.deleted == 0, (fault, position)
            assert set(case.names) >= {f"{folder}/{number}.md" for folder in "ab" for number in range(4)}
            if error is None:  # but for the one object that may have been spoilt
                missing = listed - set(case.names)
                assert len(missing) <= 1, (fault, position, missing)

            proxy.spoil = lambda _request, _status, _body: None
            assert await case.run() is None
            assert case.world.texts() == sorted(case.texts.values()), (fault, position)
            assert case.deleted == 0
            await case.connector.aclose()
        store.client.close()
    assert struck >= 10
