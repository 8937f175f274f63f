"""Entries of feeds as documents, from feeds that Django writes and serves; and what becomes of those that leave."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors.feed.connector import FeedConnector, FeedSettings
from connectors.feed.process import FeedEntry, ParsedFeed, parse_feed, parsed_feed, read_feed
from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all, scan_into, scan_refs
from pipeline.errors import DocumentVanished, SourceError, SyncError, UnreadableDocument, UnsupportedDocument
from pipeline.model import Checkpoint, DocumentId, DocumentRef, ScanComplete, ScanError, ScanIncremental, SourceEvent
from pipeline.report import SourceReport
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import AnyWorld, in_place

from .feed_server import PUBLISHED_AT, Site, feed_server, new_site
from .web_server import web_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with feed_server() as url:
        yield url


async def parse_in_place(content: bytes, *, url: str, media_type: str | None) -> ParsedFeed:
    """What the process does, in a tenth of the time."""
    return parsed_feed(read_feed(content, url=url, media_type=media_type))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.feed.connector.parse_feed", parse_in_place)
    monkeypatch.setattr("connectors.kit.http.ATTEMPTS_MAX", 1)
    monkeypatch.setattr("connectors.feed.connector.LOOK_S", 0)


@dataclass
class FeedWorld:
    """A site of its own; what lies in a folder is an entry of that folder's feed."""

    site: Site
    options: dict[str, Any] = field(default_factory=dict)
    suffix: str = "rss"
    opened: list[FeedConnector] = field(default_factory=list)

    def connector(self, **options: Any) -> FeedConnector:
        if not self.site.feeds:
            self.site.feeds["top"] = {}
        settings = {
            "type": "feed",
            "urls": [self.url(feed) for feed in self.site.feeds],
            "keep": "listed",
            "http": {"allow_private_hosts": True, "requests_per_s": 1000},
            **self.options,
            **options,
        }
        connector = FeedConnector(FeedSettings.model_validate(settings), Path("/"))
        self.opened.append(connector)
        return connector

    def url(self, feed: str) -> str:
        return f"{self.site.url}{feed}.{self.suffix}"

    def put(self, name: str, content: bytes) -> DocumentId:
        feed = _feed_of(name)
        self.site.feeds.setdefault(feed, {})[name] = content.decode()
        return self.id(name)

    def id(self, name: str) -> DocumentId:
        stem, _, ending = name.rpartition(".")
        return DocumentId(f"{self.url(_feed_of(name))} {stem}%2E{ending}")

    def remove(self, name: str) -> None:
        del self.site.feeds[_feed_of(name)][name]

    def remove_root(self) -> None:
        self.site.feeds.clear()

    def make_unlistable(self, folder: str) -> None:
        self.site.statuses[folder] = 403

    async def aclose(self) -> None:
        for connector in self.opened:
            await connector.aclose()


def _feed_of(name: str) -> str:
    return name.partition("/")[0] if "/" in name else "top"


@pytest.fixture
async def world(server: str) -> AsyncIterator[FeedWorld]:
    made = FeedWorld(new_site(server))
    yield made
    await made.aclose()


class FeedContract(SourceConnectorContract):
    """The content comes with the listing, so that all is fetched as it was listed. The contract's rules about documents
    that change between the two are for sources that are asked once more.
    """

    async def test_every_listed_document_can_be_fetched(self, world: SourceWorld) -> None:
        """A feed is text. What it says of an entry beside that comes along."""
        contents = {
            world.put("a.md", b"text"): b"text",
            world.put("guide/empty.md", b""): b"",
            world.put("guide/long.md", "wörds ".encode() * 50_000): "wörds ".encode() * 50_000,
        }
        connector = world.connector()
        refs = await scan_refs(connector)

        fetched = {document: await connector.fetch(ref) for document, ref in refs.items()}

        assert {document: found.content.strip() for document, found in fetched.items()} == {
            document: content.strip() for document, content in contents.items()
        }
        assert {document: found.ref for document, found in fetched.items()} == refs
        for found in fetched.values():
            assert found.ref.modified_at == PUBLISHED_AT
            assert found.metadata["authors"] == ("Ann Author",)
            assert found.metadata["tags"] == ("news", "docs")
            assert found.metadata["link"] == found.ref.uri or found.ref.uri.endswith((".rss", ".atom"))

    async def test_a_document_edited_after_it_was_listed_is_fetched_as_it_is_now(self, world: SourceWorld) -> None:
        """Here it is fetched as it was listed, with the fingerprint of just that; the next scan shows the edit."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.put("a.md", b"longer text")

        fetched = await connector.fetch(listed)

        now = (await scan_refs(connector))[document]
        assert (fetched.content, fetched.ref.fingerprint) == (b"text", listed.fingerprint)
        assert now.fingerprint != listed.fingerprint
        assert (await connector.fetch(listed)).content == b"longer text"

    async def test_a_document_removed_after_it_was_listed_has_vanished(self, world: SourceWorld) -> None:
        """Here only for who has not listed it."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove("a.md")

        assert (await connector.fetch(listed)).content == b"text"
        with pytest.raises(DocumentVanished):
            await connector.fetch(listed)

    async def test_no_document_has_vanished_with_a_missing_root(self, world: SourceWorld) -> None:
        """What was listed is there already; a connector that has listed nothing can tell nothing."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove_root()

        assert (await connector.fetch(listed)).content == b"text"
        with pytest.raises(SourceError):
            await connector.fetch(listed)


class TestRssKeepsTheContract(FeedContract):
    """With the process that reads feeds, as in earnest."""

    @pytest.fixture
    def world(self, world: FeedWorld, monkeypatch: pytest.MonkeyPatch) -> SourceWorld:
        monkeypatch.setattr("connectors.feed.connector.parse_feed", parse_feed)
        return world


class TestAtomKeepsTheContract(FeedContract):
    @pytest.fixture
    def world(self, world: FeedWorld) -> SourceWorld:
        world.suffix = "atom"
        return world


class TestPagedFeedsKeepTheContract(FeedContract):
    @pytest.fixture
    def world(self, world: FeedWorld) -> SourceWorld:
        world.site.entries_per_page = 40
        world.options = {"older_pages": True}
        return world


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"urls": []}, "urls"),
        ({"urls": "ftp://a.example/feed"}, "should be a URL"),
        ({"urls": "https://user:secret@a.example/feed"}, "no user and password"),
        ({"urls": ["https://a.example/feed", "https://a.example/feed#latest"]}, "name each feed once"),
        ({"urls": "http://a.example/feed", "authorization_variable": "TOKEN"}, "`https://` only"),
        ({"keep": "latest"}, "keep"),
        ({"kep": "listed"}, "kep"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    """Two feeds that share their ids would show each entry twice."""
    with pytest.raises(ValidationError, match=message):
        FeedSettings.model_validate({"type": "feed", "urls": "https://a.example/feed", **settings})


def test_a_query_stands_in_no_id_and_tells_feeds_apart() -> None:
    """It can hold a token."""
    urls = ("https://a.example/feed?token=secret-1", "https://a.example/feed?token=secret-2", "https://a.example/feed")
    connector = FeedConnector(FeedSettings(type="feed", urls=urls), Path("/"))

    scopes = {feed.scope for feed in connector._feeds}

    assert len(scopes) == 3
    assert not any("secret" in scope for scope in scopes)


# ------------------------------------------------------------------------------------------------ listing


async def test_entries_keep_their_ids_whatever_the_format_of_their_feed(world: FeedWorld) -> None:
    """But for the feed's address; nothing is resolved against where the feed happens to lie."""
    world.put("a.md", b"text")
    rss = await scan_refs(world.connector())
    world.suffix = "atom"

    atom = await scan_refs(world.connector())

    assert [document.partition(" ")[2] for document in rss] == [document.partition(" ")[2] for document in atom]
    assert [ref.fingerprint for ref in rss.values()] == [ref.fingerprint for ref in atom.values()]


async def test_each_feed_is_read_once_by_a_run(world: FeedWorld) -> None:
    """The content is in the listing."""
    for number in range(30):
        world.put(f"{number}.md", b"text")
    connector = world.connector()

    refs = await scan_refs(connector)
    for ref in refs.values():
        await connector.fetch(ref)

    assert world.site.requests == ["top.rss"]


async def test_of_what_is_too_much_to_be_held_the_feed_is_read_again(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays flat, whatever the size of an archive."""
    monkeypatch.setattr("connectors.feed.connector.HELD_BYTES_MAX", 10)
    contents = {world.put(f"{feed}/{number}.md", b"text"): b"text" for feed in "abc" for number in range(9)}
    connector = world.connector()
    refs = await scan_refs(connector)
    assert len(connector._held._documents) == 9

    assert {document: (await connector.fetch(ref)).content for document, ref in refs.items()} == contents
    assert 3 < len(world.site.requests) <= 6


async def test_titles_stand_above_the_text_and_link_and_time_come_along(world: FeedWorld) -> None:
    document = world.put("one", b"<p>It is <b>out</b>.</p>")
    world.site.titles["one"] = "Release 1.2 & more"
    connector = world.connector()
    document = DocumentId(f"{world.url('top')} one")

    fetched = await connector.fetch((await scan_refs(connector))[document])

    assert fetched.content == b"<h1>Release 1.2 &amp; more</h1>\n<p>It is <b>out</b>.</p>"
    assert fetched.media_type == "text/html; charset=utf-8"
    assert fetched.ref.title == "Release 1.2 & more"
    assert fetched.ref.uri == f"{world.site.url}pages/top/one"


async def test_a_link_to_a_file_makes_no_such_file_of_its_entry(world: FeedWorld) -> None:
    """A podcast's entry is the words about it; by the name of a sound they would be left out."""
    world.put("sound.mp3", b"words")
    async with running(world, keep="listed") as run:
        await run()

        assert run.texts() == ["words"]


async def test_one_broken_feed_leaves_the_others_complete(world: FeedWorld) -> None:
    world.put("a/1.md", b"x")
    world.put("b/1.md", b"x")
    world.site.statuses["a"] = 404

    events = await scan_all(world.connector())

    assert [event.scope for event in events if isinstance(event, ScanError)] == [f"{world.url('a')} "]
    assert [event.scope for event in events if isinstance(event, ScanComplete)] == [f"{world.url('b')} "]


async def test_what_older_pages_hold_is_read_if_wanted(world: FeedWorld) -> None:
    names = {world.put(f"{number:02}.md", b"x") for number in range(25)}
    world.site.entries_per_page = 10

    latest = await scan_refs(world.connector())
    everything = await scan_refs(world.connector(older_pages=True))

    assert (len(latest), set(everything)) == (10, names)


async def test_of_an_entry_that_comes_twice_the_newer_is_taken(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its time, or else by its place: feeds begin with the latest. Else each run would store the other one."""
    entry = FeedEntry("1", "old", "old", False, None, None, PUBLISHED_AT, (), ())
    new = replace(entry, digest="new", content="new", modified_at=PUBLISHED_AT + timedelta(days=1))
    pages = [[entry, new], [entry]]

    async def parse(content: bytes, **_: Any) -> ParsedFeed:
        entries = pages[len(world.site.requests) - 1]
        return ParsedFeed(
            entries, None, is_cut_off=False, older=f"{world.url('top')}?page=1" if len(entries) > 1 else None
        )

    world.put("a.md", b"text")
    monkeypatch.setattr("connectors.feed.connector.parse_feed", parse)
    connector = world.connector(older_pages=True)

    (ref,) = (await scan_refs(connector)).values()

    assert len(world.site.requests) == 2
    assert (ref.fingerprint, (await connector.fetch(ref)).content) == ("new", b"new")


async def test_what_the_header_says_is_sent_to_the_feed(world: FeedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without it a private feed is an error, and not an empty one."""
    world.put("a.md", b"x")
    world.site.authorization = "Bearer secret-token"
    monkeypatch.setenv("FEED_AUTHORIZATION", "Bearer secret-token")

    assert len(await scan_refs(world.connector(authorization_variable="FEED_AUTHORIZATION"))) == 1
    with pytest.raises(SourceError, match="401"):
        await scan_all(world.connector())
    with pytest.raises(SourceError, match=r"FEED_NOTHING, .* is not set"):
        await scan_all(world.connector(authorization_variable="FEED_NOTHING"))


def test_the_header_is_sent_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry may link to anywhere, and a feed name any address as its next page."""
    monkeypatch.setenv("FEED_AUTHORIZATION", "Bearer secret-token")
    settings = FeedSettings(type="feed", urls=("https://a.example/f",), authorization_variable="FEED_AUTHORIZATION")
    connector = FeedConnector(settings, Path("/"))
    (feed,) = connector._feeds

    asked = ["https://a.example/2", "http://a.example/2", "https://b.example/f", "https://a.example:8443/f"]

    assert [bool(connector._authorization(feed, url)) for url in asked] == [True, False, False, False]


# ---------------------------------------------------------------------------------------------- whole runs


@dataclass
class Running:
    """Runs between the feeds and a memory."""

    world: AnyWorld

    async def __call__(self) -> SourceReport:
        return await self.world.do()

    def texts(self) -> list[str]:
        return self.world.texts()

    async def codes(self) -> list[str]:
        """Those of the dead letters."""
        return [letter.code for letter in await self.world.state.letters()]


@asynccontextmanager
async def running(world: FeedWorld, **options: Any) -> AsyncIterator[Running]:
    made = AnyWorld(world.connector(**options), MemoryDestination())
    async with open_state(None, source="docs", destination="memory", offload=in_place) as made.state:
        yield Running(made)


async def test_entries_that_leave_the_feed_stay(world: FeedWorld) -> None:
    """However many, and however few are left: that is what feeds do."""
    for number in range(40):
        world.put(f"{number:02}.md", b"text %d" % number)
    async with running(world, keep="forever") as run:
        await run()
        for number in range(39):
            world.remove(f"{number:02}.md")
        world.put("new.md", b"news")

        report = await run()

        assert len(run.texts()) == 41
        assert (report.status, report.documents.removed) == ("in_sync", 0)


async def test_entries_that_leave_the_feed_go_if_it_is_mirrored(world: FeedWorld) -> None:
    for number in range(6):
        world.put(f"{number}.md", b"text %d" % number)
    async with running(world, keep="listed") as run:
        await run()
        world.remove("0.md")
        world.remove("1.md")

        report = await run()

        assert len(run.texts()) == 4
        assert (report.status, report.documents.removed) == ("in_sync", 2)


async def test_a_run_without_changes_reads_no_entry(world: FeedWorld) -> None:
    for number in range(6):
        world.put(f"{number}.md", b"text %d" % number)
    for keep in ("listed", "forever"):
        async with running(world, keep=keep) as run:
            await run()
            world.site.requests.clear()
            requests = len(run.world.memory.requests)

            report = await run()

            assert world.site.requests == ["top.rss"]
            assert len(run.world.memory.requests) == requests
            assert report.documents.unchanged == (6 if keep == "listed" else 0)  # the server said that nothing is new


async def test_an_edit_behind_an_unchanged_time_is_seen(world: FeedWorld) -> None:
    """Django's Last-Modified is that of the latest entry; the ETag tells."""
    world.put("a.md", b"text")
    async with running(world, keep="forever") as run:
        await run()
        await run()
        world.put("a.md", b"longer text")

        await run()

        assert run.texts() == ["longer text"]


async def test_a_feed_that_becomes_empty_beside_others_deletes_nothing(world: FeedWorld) -> None:
    """It is as likely broken. And all its entries may be few enough for the guard."""
    for name in ("a/1.md", "a/2.md", "b/1.md", "b/2.md"):
        world.put(name, name.encode())
    async with running(world, keep="listed") as run:
        await run()
        world.site.feeds["a"].clear()
        world.remove("b/1.md")

        await run()

        assert run.texts() == ["a/1.md", "a/2.md", "b/2.md"]


async def test_an_empty_feed_beside_one_that_breaks_off_deletes_nothing(world: FeedWorld) -> None:
    """What was listed of the other must not make the guard believe in the emptiness."""
    for name in ("a/1.md", "a/2.md", "b/1.md", "b/2.md"):
        world.put(name, name.encode())
    world.site.entries_per_page = 1
    async with running(world, keep="listed", older_pages=True) as run:
        await run()
        world.site.feeds["a"].clear()
        world.site.statuses["b.rss?page=1"] = 404

        await run()

        assert len(run.texts()) == 4


async def test_a_feed_that_becomes_empty_alone_trips_the_guard(world: FeedWorld) -> None:
    world.put("a/1.md", b"text")
    async with running(world, keep="listed") as run:
        await run()
        world.remove("a/1.md")

        report = await run()

        assert run.texts() == ["text"]
        assert report.withheld_documents == 1


async def test_entries_of_a_feed_that_is_not_named_any_more_go_if_feeds_are_mirrored(world: FeedWorld) -> None:
    for name in ("a/1.md", "b/1.md"):
        world.put(name, name.encode())
    async with running(world, keep="listed") as run:
        await run()
        run.world.source = world.connector(urls=[world.url("b")])

        await run()

        assert run.texts() == ["b/1.md"]


async def test_a_failed_older_page_is_read_by_the_next_run_though_the_first_is_unchanged(world: FeedWorld) -> None:
    """What its server calls unchanged must have been read to its end."""
    for number in range(4):
        world.put(f"{number}.md", b"text %d" % number)
    world.site.entries_per_page = 2
    async with running(world, keep="forever", older_pages=True) as run:
        world.site.statuses["top.rss?page=1"] = 500
        with pytest.raises(SourceError):
            await run()
        assert run.texts() == ["text 0", "text 1"]
        world.site.statuses.clear()

        await run()

        assert len(run.texts()) == 4


# ------------------------------------------------------------------------------------------------- pages


async def test_the_page_that_an_entry_links_to_can_be_the_document(world: FeedWorld) -> None:
    """The feed then tells only that it changed."""
    world.put("a.md", b"<p>whole text</p>")
    connector = world.connector(fetch_pages=True)

    (ref,) = (await scan_refs(connector)).values()
    fetched = await connector.fetch(ref)

    assert fetched.content == b"<p>whole text</p>"
    assert fetched.media_type == "text/html; charset=utf-8"
    assert ref.uri == f"{world.site.url}pages/top/a.md"
    assert world.site.requests == ["top.rss", "pages/top/a.md"]


async def test_entry_and_page_have_different_fingerprints(world: FeedWorld) -> None:
    """Whoever changes `fetch_pages` wants all documents read again."""
    world.put("a.md", b"text")

    (entry,) = (await scan_refs(world.connector())).values()
    (page,) = (await scan_refs(world.connector(fetch_pages=True))).values()

    assert entry.id == page.id
    assert entry.fingerprint != page.fingerprint


async def test_a_page_that_cannot_be_read_is_tried_again_though_its_feed_is_unchanged(world: FeedWorld) -> None:
    """It may be published a moment after its entry."""
    world.put("a.md", b"<p>text</p>")
    world.site.statuses["pages/top/a"] = 404
    async with running(world, keep="forever", fetch_pages=True) as run:
        await run()
        assert (await run.codes(), run.texts()) == (["404"], [])
        world.site.statuses.clear()

        await run()

        assert (await run.codes(), run.texts()) == ([], ["text"])


async def test_a_page_that_was_never_read_is_forgotten_once_its_entry_leaves(world: FeedWorld) -> None:
    """A dead letter that nothing can heal would stand for ever."""
    world.put("a.md", b"<p>text</p>")
    world.put("b.md", b"<p>text of b</p>")
    world.site.statuses["pages/top/a"] = 404
    async with running(world, keep="forever", fetch_pages=True) as run:
        await run()
        world.remove("a.md")

        await run()

        assert (await run.codes(), run.texts()) == ([], ["text of b"])


async def test_a_page_that_is_gone_leaves_what_is_known_of_its_entry(world: FeedWorld) -> None:
    world.put("a.md", b"<p>text</p>")
    async with running(world, keep="listed", fetch_pages=True) as run:
        await run()
        world.put("a.md", b"<p>longer text</p>")
        world.site.statuses["pages/top/a"] = 410

        await run()

        assert (await run.codes(), run.texts()) == (["410"], ["text"])


async def test_what_left_is_still_one_of_the_source_if_it_is_kept(world: FeedWorld) -> None:
    """None would let it be deleted."""
    document = world.put("a.md", b"text")
    world.put("b.md", b"text")
    world.remove("a.md")
    connector = world.connector(keep="forever")

    located = await connector.locate(document)

    assert located is not None
    with pytest.raises(UnsupportedDocument, match="left its feed"):
        await connector.fetch(located)


@pytest.mark.parametrize("status", [200, 403, 404, 410, 500])
async def test_a_page_that_cannot_be_read_says_why(world: FeedWorld, status: int) -> None:
    """It has not vanished: its feed still names it."""
    document = world.put("a.md", b"text")
    world.site.pages["a.md"] = "x" * 3000
    world.site.statuses.update({} if status == 200 else {"pages/top/a.md": status})
    connector = world.connector(fetch_pages=True, max_bytes=2500)
    ref = (await scan_refs(connector))[document]

    with pytest.raises(UnreadableDocument) as caught:
        await connector.fetch(ref)

    assert caught.value.code == ("too_large" if status == 200 else str(status))
    assert await connector.locate(document) == ref


async def test_servers_of_pages_that_do_not_answer_end_the_run(world: FeedWorld) -> None:
    """A thousand dead letters would say nothing of the documents."""
    for number in range(25):
        world.put(f"{number:02}.md", b"x")
        world.site.statuses[f"pages/top/{number:02}.md"] = 500
    connector = world.connector(fetch_pages=True)
    outcomes: list[type[SyncError]] = []
    for ref in (await scan_refs(connector)).values():
        with pytest.raises(SyncError) as caught:
            await connector.fetch(ref)
        outcomes.append(type(caught.value))

    assert outcomes[:19] == [UnreadableDocument] * 19
    assert set(outcomes[19:]) == {SourceError}


# ---------------------------------------------------------------------------------------- checkpoint


async def test_an_unchanged_feed_is_not_read_but_when_everything_is_wanted(world: FeedWorld) -> None:
    """The checkpoint is what its server said of it."""
    world.put("a.md", b"text")
    connector = world.connector(keep="forever")
    first = await scan_all(connector)
    (checkpoint,) = [event for event in first if isinstance(event, Checkpoint)]

    again: list[SourceEvent] = [event async for events in connector.scan(checkpoint) for event in events]
    everything = await scan_all(connector)

    assert again == [ScanIncremental(""), checkpoint]
    assert everything == first
    assert isinstance(first[0], DocumentRef)


@pytest.mark.parametrize("has_tag", [False, True])
async def test_an_edit_in_the_second_in_which_the_feed_was_read_is_read_by_the_next_run(has_tag: bool) -> None:
    """Time and size, of which servers make a tag, may be the same."""
    text = "text 1"

    async def answer(request: web.Request) -> web.Response:
        now = formatdate(usegmt=True)
        headers = {"Last-Modified": now, "Date": now} | ({"ETag": '"1-6"'} if has_tag else {})
        if {"If-Modified-Since", "If-None-Match"} & {*request.headers}:
            return web.Response(status=304, headers=headers)
        item = f"<item><guid>1</guid><description>{text}</description></item>"
        return web.Response(text=f'<rss version="2.0"><channel><title>t</title>{item}</channel></rss>', headers=headers)

    async with web_server(answer) as server:
        connector = FeedWorld(Site(server.url)).connector(urls=[server.url], keep="forever")
        *_, checkpoint = await scan_all(connector)
        assert isinstance(checkpoint, Checkpoint)
        text = "text 2"
        again = [event async for events in connector.scan(checkpoint) for event in events]
        await connector.aclose()

    assert isinstance(again[0], DocumentRef)


async def test_a_feed_that_fails_is_asked_for_all_of_it_by_the_next_run(world: FeedWorld) -> None:
    world.put("a/1.md", b"text")
    world.put("b/1.md", b"text")
    connector = world.connector(keep="forever")
    world.site.statuses["a"] = 500
    events: list[SourceEvent] = []
    await scan_into(events, connector)
    (checkpoint,) = [event for event in events if isinstance(event, Checkpoint)]
    world.site.statuses.clear()

    again = [event async for listed in connector.scan(checkpoint) for event in listed]

    assert [event.id for event in again if isinstance(event, DocumentRef)] == [world.id("a/1.md")]


@pytest.mark.parametrize("keep", ["listed", "forever"])
async def test_of_a_feed_that_is_not_well_formed_only_what_it_shows_counts(keep: str) -> None:
    """What its fault hides is not gone; where nothing is ever gone, the rest is worth having."""
    item = "<item><guid>{0}</guid><description>text {0}</description></item>"
    content = f'<rss version="2.0"><channel>{item.format(1)}{item.format(2)}</itm></channel></rss>'

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=content, content_type="application/rss+xml")

    async with web_server(answer) as server:
        settings = {"type": "feed", "urls": server.url, "keep": keep, "http": {"allow_private_hosts": True}}
        connector = FeedConnector(FeedSettings.model_validate(settings), Path("/"))
        events = await scan_all(connector)
        await connector.aclose()

    assert len([event for event in events if isinstance(event, DocumentRef)]) == 2
    assert not any(isinstance(event, ScanComplete) for event in events)
    faults = [event.code for event in events if isinstance(event, ScanError)]
    assert faults == (["broken_feed"] if keep == "listed" else [])
