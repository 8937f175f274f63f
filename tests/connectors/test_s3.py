"""Objects of a bucket as documents, from a real server; and from one whose answers are spoilt."""

import gzip
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors.kit.contract import (
    SourceConnectorContract,
    SourceWorld,
    scan_all,
    scan_into,
    scan_refs,
)
from connectors.s3 import S3Connector, S3Settings
from pipeline.errors import DocumentVanished, SourceError, SyncError, UnreadableDocument, UnsupportedDocument
from pipeline.model import DocumentId, DocumentRef, Operation, ScanComplete, ScanError, SourceEvent
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.fakes.faulty_http import Answer, FaultyProxy, faulty_proxy
from tests.pipeline.world import AnyWorld, in_place

from .s3_server import s3_server

_BUCKETS = (f"bucket-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@dataclass
class S3World:
    """A bucket of its own on the server."""

    url: str
    bucket: str = field(default_factory=lambda: next(_BUCKETS))
    options: dict[str, Any] = field(default_factory=dict)
    opened: list[S3Connector] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = boto3.client("s3", endpoint_url=self.url)
        self.client.create_bucket(Bucket=self.bucket)

    def connector(self, **options: Any) -> S3Connector:
        settings = {"type": "s3", "bucket": self.bucket, "endpoint_url": self.url, **self.options, **options}
        connector = S3Connector(S3Settings.model_validate(settings), Path("/"))
        self.opened.append(connector)
        return connector

    def put(self, name: str, content: bytes, **options: Any) -> DocumentId:
        self.client.put_object(Bucket=self.bucket, Key=name, Body=content, **options)
        return DocumentId(name)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=name)

    def remove_root(self) -> None:
        for item in self.client.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.remove(item["Key"])
        self.client.delete_bucket(Bucket=self.bucket)

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("a store lists a prefix or it does not; with several, see below")


@pytest.fixture
async def world(server: str) -> AsyncIterator[S3World]:
    made = S3World(server)
    yield made
    made.client.close()
    for connector in made.opened:
        await connector.aclose()


class TestS3ConnectorKeepsTheContract(SourceConnectorContract):
    @pytest.fixture
    def world(self, world: S3World) -> SourceWorld:
        return world


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bucket": "a/b"}, "bucket"),
        ({"prefixes": ["docs/", "docs/en/"]}, "lies within another prefix"),
        ({"prefixes": ["", "docs/"]}, "lies within another prefix"),
        ({"prefixes": []}, "prefixes"),
        ({"endpoint_url": "http://store.example.com"}, "allow_http"),
        ({"endpoint_url": "http://127.example.com"}, "allow_http"),
        ({"endpoint_url": "https://key:secret@store.example.com"}, "without user and password"),
        ({"include": ["["]}, "not a pattern"),
        ({"bukcet": "x"}, "bukcet"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    """What is misspelt would list something else, or send documents in the clear."""
    with pytest.raises(ValidationError, match=message):
        S3Settings.model_validate({"type": "s3", "bucket": "docs", **settings})


def test_one_prefix_need_be_no_list() -> None:
    """It is what most have."""
    assert S3Settings.model_validate({"type": "s3", "bucket": "docs", "prefixes": "en/"}).prefixes == ("en/",)


# ------------------------------------------------------------------------------------------------- listing


async def test_more_keys_than_fit_on_a_page_are_listed(world: S3World) -> None:
    """A page has a thousand."""
    names = {world.put(f"{number:04}.md", b"x") for number in range(1_203)}

    assert set(await scan_refs(world.connector())) == names


async def test_only_what_the_prefixes_and_patterns_take_in_is_listed(world: S3World) -> None:
    """And locating agrees with it."""
    for name in ("docs/a.md", "docs/b.txt", "docs/drafts/c.md", "notes/d.md", "other/e.md", "docsx/f.md"):
        world.put(name, b"x")
    connector = world.connector(prefixes=["docs/", "notes/"], include=["*.md"], exclude=["drafts/"])

    refs = await scan_refs(connector)
    located = {name: await connector.locate(DocumentId(name)) for name in ("docs/a.md", "docs/b.txt", "docsx/f.md")}

    assert set(refs) == {"docs/a.md", "notes/d.md"}
    assert located == {"docs/a.md": refs[DocumentId("docs/a.md")], "docs/b.txt": None, "docsx/f.md": None}
    complete = [event.scope for event in await scan_all(connector) if isinstance(event, ScanComplete)]
    assert complete == ["docs/", "notes/"]


async def test_folders_that_consoles_make_are_no_documents(world: S3World) -> None:
    """They are empty objects with a name that ends with a slash; one with content is a document all the same."""
    world.put("docs/", b"")
    world.put("odd/", b"content")
    world.put("docs/a.md", b"")

    assert set(await scan_refs(world.connector())) == {"odd/", "docs/a.md"}


# moto takes no key with a line break, nor one with empty or dotted steps.
NAMES = ["a b.md", "ä/語.md", "a+b&c=d.md", "a%20b.md", "tab\there.md", "q?x#y.md"]


async def test_keys_of_any_kind_are_listed_and_read(world: S3World) -> None:
    """Programs write keys that no person would."""
    for name in NAMES:
        world.put(name, name.encode())
    connector = world.connector()

    refs = await scan_refs(connector)
    contents = {name: (await connector.fetch(ref)).content.decode() for name, ref in refs.items()}

    assert contents == {name: name for name in NAMES}


async def test_the_same_content_written_again_keeps_its_fingerprint(world: S3World) -> None:
    """An upload of everything, as static site builders do it, costs no fetch."""
    document = world.put("a.md", b"text")
    before = (await scan_refs(world.connector()))[document]
    world.put("a.md", b"text")

    assert (await scan_refs(world.connector()))[document].fingerprint == before.fingerprint


# ------------------------------------------------------------------------------------------------- fetching


async def test_the_media_type_comes_along(world: S3World) -> None:
    """It decides how a key without an ending is read."""
    document = world.put("page", b"<p>words", ContentType="text/html; charset=utf-8")
    connector = world.connector()

    fetched = await connector.fetch((await scan_refs(connector))[document])

    assert fetched.media_type == "text/html; charset=utf-8"


async def test_what_is_stored_packed_is_unpacked(world: S3World) -> None:
    """Web servers' objects often are."""
    document = world.put("a.md", gzip.compress(b"text"), ContentEncoding="gzip")
    connector = world.connector()

    assert (await connector.fetch((await scan_refs(connector))[document])).content == b"text"


@pytest.mark.parametrize(
    ("content", "encoding", "error"),
    [
        (b"no gzip", "gzip", "broken_gzip"),
        (gzip.compress(b"text" * 99, mtime=0)[:-9], "gzip", "broken_gzip"),
        (gzip.compress(bytes(10_000), mtime=0), "gzip", "too_large"),
        (b"x" * 1_001, "", "too_large"),
        (b"x", "br", "content encoding br"),
    ],
)
async def test_what_cannot_be_unpacked_or_is_too_large_says_so(
    world: S3World, content: bytes, encoding: str, error: str
) -> None:
    """A few bytes can unpack to terabytes."""
    document = world.put("a.md", content, ContentEncoding=encoding)
    connector = world.connector(max_bytes=1_000)
    ref = (await scan_refs(connector))[document]

    with pytest.raises((UnreadableDocument, UnsupportedDocument)) as caught:
        await connector.fetch(ref)

    assert error in (getattr(caught.value, "code", ""), getattr(caught.value, "reason", ""))


async def test_a_bucket_that_is_not_there_is_an_error(world: S3World) -> None:
    """A misspelt name must not look like an empty bucket."""
    connector = world.connector(bucket="never-was")

    with pytest.raises(SourceError, match=r"never-was.*NoSuchBucket"):
        await scan_all(connector)


async def test_a_store_that_does_not_answer_is_an_error(world: S3World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be concluded from silence."""
    monkeypatch.setattr("connectors.s3.ATTEMPTS_MAX", 1)
    connector = world.connector(endpoint_url="http://127.0.0.1:9")

    with pytest.raises(SourceError, match="EndpointConnectionError"):
        await scan_all(connector)


async def test_a_connector_that_was_closed_can_be_asked_again(world: S3World) -> None:
    """Closing is safe at any time, and to repeat."""
    document = world.put("a.md", b"text")
    connector = world.connector()
    await scan_all(connector)

    await connector.aclose()
    await connector.aclose()

    assert document in await scan_refs(connector)


# -------------------------------------------------------------------------------------- answers that are spoilt

LISTING = b'<?xml version="1.0"?><ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated>%b</ListBucketResult>'


def refusal(status: int, code: str) -> Answer:
    return Answer(status, b"<Error><Code>%b</Code><Message>said so</Message></Error>" % code.encode())


SPOILT_PAGES = {
    "403": refusal(403, "AccessDenied"),
    "404": refusal(404, "NotFound"),
    "429": refusal(429, "TooManyRequests"),
    "500": refusal(500, "InternalError"),
    "503": refusal(503, "SlowDown"),
    "reset": Answer(is_reset=True),
    "no XML": Answer(200, b"<html>a proxy's login page"),
    "JSON": Answer(200, b'{"message": "no"}'),
    "nothing": Answer(200, b""),
    "half": Answer(200, LISTING % b"", sent_bytes=60),
    "half of the XML": Answer(200, (LISTING % b"")[:70]),
    "no token": Answer(200, LISTING % b""),
    "looping token": Answer(200, LISTING % b"<NextContinuationToken>loop</NextContinuationToken>"),
    "redirect": Answer(301, b"", headers={"Location": "http://127.0.0.1:9/"}),
}


@asynccontextmanager
async def spoilt(world: S3World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyProxy]:
    monkeypatch.setattr("connectors.s3.ATTEMPTS_MAX", 1)
    async with faulty_proxy(world.url) as proxy:
        yield proxy
        for connector in world.opened:
            await connector.aclose()


def is_page(request: web.Request, prefix: str, number: int, pages: list[str]) -> bool:
    """Whether `request` asks for the page of this number of a listing of `prefix`."""
    if request.query.get("list-type") != "2" or request.query.get("prefix") != prefix:
        return False
    pages.append(prefix)
    return len(pages) > number


@pytest.mark.parametrize("page", [0, 1, 2])
@pytest.mark.parametrize("fault", SPOILT_PAGES)
async def test_a_page_that_does_not_come_leaves_its_prefix_incomplete_and_no_other(
    world: S3World, monkeypatch: pytest.MonkeyPatch, fault: str, page: int
) -> None:
    """Nothing is deleted below it, and everything that was listed goes on its way."""
    for number in range(3):
        world.put(f"after/{number}.md", b"x")
        world.put(f"before/{number}.md", b"x")
    for number in range(5):
        world.put(f"broken/{number}.md", b"x")
    pages: list[str] = []
    async with spoilt(world, monkeypatch) as proxy:
        proxy.spoil = lambda request, _s, _b: SPOILT_PAGES[fault] if is_page(request, "broken/", page, pages) else None
        connector = world.connector(endpoint_url=proxy.url, prefixes=["before/", "broken/", "after/"])
        monkeypatch.setattr("connectors.s3.KEYS_PER_PAGE", 2)

        events = await scan_all(connector)

    listed = [event.id for event in events if isinstance(event, DocumentRef)]
    assert [event.scope for event in events if isinstance(event, ScanError)] == ["broken/"]
    assert {event.scope for event in events if isinstance(event, ScanComplete)} == {"before/", "after/"}
    assert len(listed) == len(set(listed)) == 6 + min(2 * page, 5)


@pytest.mark.parametrize("fault", [fault for fault in SPOILT_PAGES if "token" not in fault])
async def test_a_source_of_which_no_page_comes_is_an_error(
    world: S3World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """That is no part of it that is missing."""
    world.put("a.md", b"x")
    async with spoilt(world, monkeypatch) as proxy:
        proxy.spoil = lambda _request, _s, _b: SPOILT_PAGES[fault]
        events: list[SourceEvent] = []

        with pytest.raises(SourceError):
            await scan_into(events, world.connector(endpoint_url=proxy.url))

    assert not any(isinstance(event, ScanComplete) for event in events)


async def test_an_empty_page_in_the_middle_is_no_end(world: S3World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores may give one, while they skip what was deleted."""
    names = {world.put(f"{number}.md", b"x") for number in range(5)}
    token = b"<NextContinuationToken>%b</NextContinuationToken>"
    asked: list[str] = []

    def spoil(request: web.Request, _status: int, body: bytes) -> Answer | None:
        asked.append(request.query.get("continuation-token", ""))
        return Answer(200, LISTING % (token % b"empty")) if len(asked) == 1 else None

    async with spoilt(world, monkeypatch) as proxy:
        proxy.spoil = spoil
        proxy.ignored_query = {"continuation-token": "empty"}
        refs = await scan_refs(world.connector(endpoint_url=proxy.url))

    assert set(refs) == names


SPOILT_OBJECTS: dict[str, tuple[Answer, type[SyncError], str]] = {
    "403": (refusal(403, "AccessDenied"), UnreadableDocument, "AccessDenied"),
    "404": (refusal(404, "NoSuchKey"), DocumentVanished, "vanished"),
    "429": (refusal(429, "TooManyRequests"), UnreadableDocument, "TooManyRequests"),
    "500": (refusal(500, "InternalError"), UnreadableDocument, "InternalError"),
    "503": (refusal(503, "SlowDown"), UnreadableDocument, "SlowDown"),
    "archived": (refusal(403, "InvalidObjectState"), UnsupportedDocument, "archived object"),
    "reset": (Answer(is_reset=True), UnreadableDocument, "no_answer"),
    "half": (Answer(200, b"text of a.md", sent_bytes=5), UnreadableDocument, "broken_off"),
    "no bucket": (refusal(404, "NoSuchBucket"), SourceError, ""),
    "expired": (refusal(400, "ExpiredToken"), SourceError, ""),
    "forged": (refusal(403, "SignatureDoesNotMatch"), SourceError, ""),
    "no such user": (refusal(403, "InvalidAccessKeyId"), SourceError, ""),
}


@pytest.mark.parametrize("fault", SPOILT_OBJECTS)
async def test_what_spoils_an_object_is_told_from_what_spoils_the_source(
    world: S3World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The first costs a dead letter, the second ends the run; neither costs what the memory holds."""
    answer, expected, code = SPOILT_OBJECTS[fault]
    document = world.put("a.md", b"text of a.md")
    async with spoilt(world, monkeypatch) as proxy:
        connector = world.connector(endpoint_url=proxy.url)
        ref = (await scan_refs(connector))[document]
        proxy.spoil = lambda request, _s, _b: answer if request.path.endswith("a.md") else None

        with pytest.raises(expected) as caught:
            await connector.fetch(ref)

    assert type(caught.value) is expected
    assert code in (getattr(caught.value, "code", ""), getattr(caught.value, "reason", ""))
    assert "text of" not in str(caught.value)


async def test_content_that_breaks_off_once_is_asked_for_again(world: S3World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a bad line."""
    document = world.put("a.md", b"text of a.md")
    left = [Answer(200, b"text of a.md", sent_bytes=3)]
    async with spoilt(world, monkeypatch) as proxy:
        connector = world.connector(endpoint_url=proxy.url)
        ref = (await scan_refs(connector))[document]
        proxy.spoil = lambda _request, _s, _b: left.pop() if left else None

        assert (await connector.fetch(ref)).content == b"text of a.md"


@pytest.mark.parametrize("answer", [Answer(is_reset=True), Answer(200, b"xx", sent_bytes=1)], ids=["reset", "half"])
async def test_a_store_that_stops_answering_ends_the_run(
    world: S3World, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    """A thousand dead letters would say nothing of the documents."""
    documents = [world.put(f"{number:02}.md", b"x") for number in range(25)]
    outcomes: list[type[SyncError]] = []
    async with spoilt(world, monkeypatch) as proxy:
        connector = world.connector(endpoint_url=proxy.url)
        refs = await scan_refs(connector)
        proxy.spoil = lambda _request, _s, _b: answer
        for document in documents:
            with pytest.raises(SyncError) as caught:
                await connector.fetch(refs[document])
            outcomes.append(type(caught.value))

    assert outcomes[:19] == [UnreadableDocument] * 19
    assert set(outcomes[19:]) == {SourceError}


@pytest.mark.parametrize("fault", ["403", "429", "500", "503", "reset"])
async def test_nothing_is_missed_when_the_store_cannot_tell(
    world: S3World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """None would delete the document."""
    document = world.put("a.md", b"x")
    async with spoilt(world, monkeypatch) as proxy:
        connector = world.connector(endpoint_url=proxy.url)
        proxy.spoil = lambda _request, _s, _b: SPOILT_PAGES[fault]

        with pytest.raises(SourceError):
            await connector.locate(document)


async def test_a_renamed_object_keeps_its_records(world: S3World) -> None:
    """A store knows no renaming: it copies and deletes, and the content's ETag stays."""
    before = world.put("drafts/a.md", b"text of a")
    world.put("b.md", b"text of b")
    memory = MemoryDestination()
    runs = AnyWorld(world.connector(), memory)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as runs.state:
        await runs.do()
        memory.requests.clear()
        world.client.copy_object(Bucket=world.bucket, Key="a.md", CopySource={"Bucket": world.bucket, "Key": before})
        world.remove(before)

        report = await runs.do()

    assert [batch.operation for batch in memory.requests] == [Operation.UPDATE]
    assert report.documents.renamed == 1
    assert sorted(record.document for record in memory.records.values()) == ["a.md", "b.md"]
