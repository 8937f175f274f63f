"""Pages of a website as documents, from a real server."""

import gzip
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all, scan_into, scan_refs
from connectors.web.connector import WebConnector
from connectors.web.settings import WebSettings
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import Document, DocumentId, DocumentSkipped, Operation, ScanComplete, ScanError, SourceEvent
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import AnyWorld, in_place

from .web_site import Site, page, site

LOGIN = page("Please log in", around="<form><input type=password></form>")


@pytest.fixture
async def www(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.kit.http.ATTEMPTS_MAX", 1)


class World:
    """A site as the contract wants it, asked in one of two ways."""

    def __init__(self, www: Site, make: Callable[[], WebConnector]) -> None:
        self.put, self.remove, self.remove_root = www.put, www.remove, www.remove_root
        self.connector = make

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("what a page leads to can be anywhere: see below")


class WebContract(SourceConnectorContract):
    @pytest.fixture(autouse=True)
    def _keeps_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was edited or removed after it was read would be fetched as it was read: see below."""
        monkeypatch.setattr("connectors.web.connector.KEPT_BYTES_MAX", 0)


class TestSitemapsKeepTheContract(WebContract):
    @pytest.fixture
    def world(self, www: Site) -> SourceWorld:
        return World(www, www.by_sitemaps)


class TestLinksKeepTheContract(WebContract):
    @pytest.fixture
    def world(self, www: Site) -> SourceWorld:
        return World(www, www.by_links)


def scopes(events: list[SourceEvent], kind: type[ScanError | ScanComplete] = ScanError) -> list[str]:
    return [event.scope for event in events if isinstance(event, kind)]


def skipped(events: list[SourceEvent]) -> dict[str, str]:
    return {event.id: event.reason for event in events if isinstance(event, DocumentSkipped)}


def statuses(www: Site) -> list[int]:
    """What was answered since this was asked last, but for robots.txt and what leads to the pages."""
    return [status for path, status in www.requests() if not path.startswith(("/robots", "/sitemap", "/index"))
            and not path.endswith("/index.html")]  # fmt: skip


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "should name `sitemaps`, or pages to `start` from"),
        ({"start": ["docs.example.com"]}, "https://HOST/PATH"),
        ({"start": ["https://me:secret@docs.example.com/"]}, "no user and password"),
        ({"start": ["https://a.example.com/x/"], "prefixes": ["https://a.example.com/y/"]}, "begins with none of"),
        ({"start": ["https://a.example.com/"], "max_pages": 0}, "max_pages"),
        ({"start": ["https://a.example.com/"], "exclude": ["["]}, "not a pattern"),
        ({"start": ["https://a.example.com/"], "http": {"conections": 1}}, "conections"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as raised:
        WebSettings.model_validate({"type": "web", **settings})

    assert "secret" not in str(raised.value.errors(include_input=False))


def test_a_prefix_ends_where_a_host_does() -> None:
    """Or `https://docs.example.com` would let pages of `docs.example.com.evil.org` in."""
    settings = WebSettings.model_validate({"type": "web", "start": ["HTTPS://Docs.Example.com:443"]})

    assert settings.all_prefixes == ("https://docs.example.com/",)


# ------------------------------------------------------------------------------------------- what a run costs


async def test_a_run_without_changes_asks_for_each_page_and_is_given_none(www: Site) -> None:
    names = [www.put(f"{number}.html", page(f"text {number}")) for number in range(20)]
    before = await scan_refs(www.by_sitemaps())
    first = statuses(www)
    connector = www.by_sitemaps()
    after = await scan_refs(connector)

    assert set(before) == set(names)
    assert first == [200] * 20
    assert statuses(www) == [304] * 20
    assert after == before


async def test_what_a_scan_read_is_not_asked_for_again(www: Site) -> None:
    """A first run would ask for everything twice."""
    document = www.put("a.html", page("text"))
    connector = www.by_sitemaps()
    ref = (await scan_refs(connector))[document]
    www.put("a.html", page("another text"))
    fetched = await connector.fetch(ref)

    assert statuses(www) == [200]
    assert (fetched.ref, fetched.content.decode()) == (ref, page("text"))
    assert fetched.media_type == "text/html"


async def test_without_what_was_remembered_all_is_asked_for_and_nothing_has_changed(www: Site) -> None:
    """The file may be removed at any time, and be broken."""
    www.put("a.html", page("text"))
    before = await scan_all(www.by_sitemaps())
    (kept,) = (www.base_folder / ".memsync" / "web").glob("*.sqlite")
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    await www.opened[0].aclose()
    kept.write_bytes(b"no database at all" * 1000)
    statuses(www)

    assert await scan_all(www.by_sitemaps()) == before
    assert statuses(www) == [200]


async def test_a_file_that_others_could_write_is_not_believed(www: Site) -> None:
    www.put("a.html", page("text"))
    await scan_all(www.by_sitemaps())
    await www.opened[0].aclose()
    (kept,) = (www.base_folder / ".memsync" / "web").glob("*.sqlite")
    kept.chmod(0o666)
    statuses(www)
    await scan_all(www.by_sitemaps())

    assert statuses(www) == [200]


@pytest.mark.parametrize("version", [0, 99])
async def test_a_file_of_another_version_is_made_anew(www: Site, version: int) -> None:
    www.put("a.html", page("text"))
    before = await scan_all(www.by_sitemaps())
    await www.opened[0].aclose()
    (kept,) = (www.base_folder / ".memsync" / "web").glob("*.sqlite")
    with closing(sqlite3.connect(kept)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    statuses(www)

    assert await scan_all(www.by_sitemaps()) == before
    assert statuses(www) == [200]


async def test_a_file_that_cannot_be_read_or_written_is_named(www: Site) -> None:
    """Such as where the disk is full."""
    document = www.put("a.html", page("text"))
    connector = www.by_sitemaps()
    (ref,) = (await scan_refs(connector)).values()
    (kept,) = (www.base_folder / ".memsync" / "web").glob("*.sqlite")
    with closing(sqlite3.connect(kept)) as db:
        db.execute("DROP TABLE visit")

    for ask in (scan_all(connector), connector.locate(document), connector.fetch(ref)):
        with pytest.raises(SourceError, match=rf"{kept}.*no such table.*can be removed"):
            await ask


async def test_another_way_of_reading_has_all_pages_read_again(www: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    document = www.put("a.html", page("text"))
    before = (await scan_refs(www.by_sitemaps()))[document]
    monkeypatch.setattr("connectors.web.connector.TEXT_VERSION", "next")
    monkeypatch.setattr("connectors.web.pages.TEXT_VERSION", "next")

    assert (await scan_refs(www.by_sitemaps()))[document].fingerprint != before.fingerprint


async def test_a_page_edited_in_the_second_in_which_it_was_read_is_read_again(www: Site) -> None:
    """Its time and all that is made of it may be the same."""
    document = www.put("a.html", page("text 1"))
    os.utime(www.folder / "a.html", (time.time(), time.time()))
    before = (await scan_refs(www.by_sitemaps()))[document]
    stamp = (www.folder / "a.html").stat().st_mtime_ns
    www.put("a.html", page("text 2"))
    os.utime(www.folder / "a.html", ns=(stamp, stamp))

    assert (await scan_refs(www.by_sitemaps()))[document].fingerprint != before.fingerprint


async def test_a_rebuild_that_changes_bytes_and_no_text_changes_no_fingerprint(www: Site) -> None:
    """A build stamp in each page must not have all of them read, parsed and compared."""
    long = "text that people read " * 20
    document = www.put("a.html", page(long, '<link href="s.css?v=1"><script>1</script>', "<nav>v1</nav>"))
    before = (await scan_refs(www.by_sitemaps()))[document]
    www.put("a.html", page(f"<!-- 2 -->{long}", '<link href="s.css?v=2"><script>22</script>', "<nav class=x>v2</nav>"))
    after = (await scan_refs(www.by_sitemaps()))[document]

    assert after.fingerprint == before.fingerprint
    assert after.size_bytes != before.size_bytes


async def test_lastmod_is_trusted_only_where_the_settings_say_so(www: Site) -> None:
    def sitemap(day: int) -> web.Response:
        entry = f"<url><loc>{www.url}/a.html</loc><lastmod>2026-01-{day:02}</lastmod></url>"
        return web.Response(text=f"<urlset>{entry}</urlset>", content_type="text/xml")

    document = www.put("a.html", page("text"))
    www.answers["/sitemap.xml"] = sitemap(1)
    first = (await scan_refs(www.by_sitemaps(trust_lastmod=True)))[document]
    assert statuses(www) == [200]
    www.put("a.html", page("other text"))
    unasked = (await scan_refs(www.by_sitemaps(trust_lastmod=True)))[document]
    assert statuses(www) == []
    asked = (await scan_refs(www.by_sitemaps()))[document]
    www.answers["/sitemap.xml"] = sitemap(2)
    www.put("a.html", page("third text"))
    trusted = (await scan_refs(www.by_sitemaps(trust_lastmod=True)))[document]

    assert unasked == first
    assert len({first.fingerprint, asked.fingerprint, trusted.fingerprint}) == 3


async def test_a_lastmod_that_a_second_edit_may_share_is_not_trusted(www: Site) -> None:
    """Most name a day, some a month: the page may have been read in the middle of it."""
    document = www.put("a.html", page("text"))
    for lastmod in (f"{datetime.now(UTC):%Y-%m-%d}", f"{datetime.now(UTC):%Y-%m-%dT00:00:00Z}", "2020-01", "yesterday"):
        entry = f"<url><loc>{document}</loc><lastmod>{lastmod}</lastmod></url>"
        www.answers["/sitemap.xml"] = web.Response(text=f"<urlset>{entry}</urlset>", content_type="text/xml")
        first = (await scan_refs(www.by_sitemaps(trust_lastmod=True)))[document]
        www.put("a.html", page(f"text behind {lastmod}"))

        assert (await scan_refs(www.by_sitemaps(trust_lastmod=True)))[document].fingerprint != first.fingerprint


async def test_a_tag_of_one_page_never_stands_for_another(www: Site) -> None:
    """Reproducible builds give pages of one size the same tag; a redirect that turns must not hide the new page."""
    document = www.put("a.html", page("one"))
    other = www.put("b.html", page("two"))
    stamp = 1_600_000_000
    for name in ("a.html", "b.html"):
        os.utime(www.folder / name, (stamp, stamp))
    www.answers["/c.html"] = web.Response(status=301, headers={"Location": "/a.html"})
    www.answers["/sitemap.xml"] = web.Response(text=f"<urlset><url><loc>{www.url}/c.html</loc></url></urlset>")
    assert list(await scan_refs(www.by_sitemaps())) == [document]
    www.answers["/c.html"].headers["Location"] = "/b.html"
    refs = await scan_refs(www.by_sitemaps())

    assert list(refs) == [other]
    assert statuses(www)[-1] == 200


# ----------------------------------------------------------------------------------------------- what is listed


async def test_links_are_followed_within_the_prefixes_and_no_deeper_than_allowed(www: Site) -> None:
    www.put("docs/start.html", page('<a href="one.html">x</a> <a href=/outside.html>x</a> <a href="mailto:x">x</a>'))
    www.put(
        "docs/one.html", page('<a href="sub/two.html?utm_source=x#part">x</a> <a href="https://example.org/">x</a>')
    )
    www.put("docs/sub/two.html", page('<a href="../three.html">x</a> <a href="../picture.png">x</a>'))
    www.put("docs/three.html", page("text"))
    www.put("outside.html", page("text"))
    events = await scan_all(www.connector(start=[f"{www.url}/docs/start.html"], max_depth=2))
    connector = www.connector(start=[f"{www.url}/docs/start.html"])
    refs = await scan_refs(connector)

    base = f"{www.url}/docs/"
    assert set(refs) == {base + "start.html", base + "one.html", base + "sub/two.html", base + "three.html"}
    assert DocumentId(base + "three.html") not in {getattr(event, "id", None) for event in events}
    assert events[-1] == ScanComplete("")
    assert skipped(await scan_all(connector)) == {base + "picture.png": "unsupported type .png"}
    assert await connector.locate(DocumentId(f"{www.url}/outside.html")) is None
    assert ("/picture.png", 404) not in www.requests()


async def test_pages_that_are_only_ways_to_others_are_no_documents(www: Site) -> None:
    """`include` says what is taken, `exclude` also where not to look."""
    www.put("guide/a.html", page("text"))
    www.put("drafts/b.html", page("text"))
    refs = await scan_refs(www.by_links(include=["/guide/**"], exclude=["index.html", "/drafts/"]))
    assert refs == {}
    connector = www.by_links(include=["/guide/**"], exclude=["/drafts/"])

    assert set(await scan_refs(connector)) == {f"{www.url}/guide/a.html", f"{www.url}/guide/index.html"}
    assert await connector.locate(DocumentId(f"{www.url}/drafts/b.html")) is None
    assert "/drafts/b.html" not in dict(www.requests())


async def test_robots_txt_is_obeyed_unless_the_settings_say_otherwise(www: Site) -> None:
    documents = {www.put(f"{name}.html", page(name)) for name in ("a", "secret-b", "c")}
    www.answers["/robots.txt"] = web.Response(text="User-agent: *\nDisallow: /secret*.html$\n")

    events = await scan_all(www.by_sitemaps())
    assert skipped(events) == {f"{www.url}/secret-b.html": "robots.txt"}
    assert "/secret-b.html" not in dict(www.requests())
    assert set(await scan_refs(www.by_sitemaps(respect_robots_txt=False))) == documents


@pytest.mark.parametrize("status", [500, 501, 503])
async def test_a_robots_txt_that_cannot_be_read_forbids_everything(www: Site, status: int) -> None:
    www.put("a.html", page("text"))
    www.answers["/robots.txt"] = web.Response(status=status)

    with pytest.raises(SourceError, match=rf"^Cannot read .*robots.txt answered {status}.*Check `source.start`"):
        await scan_all(www.by_links())
    with pytest.raises(SourceError, match=rf"robots.txt answered {status}"):
        await scan_all(www.by_sitemaps())
    assert "/a.html" not in dict(www.requests())


async def test_sitemaps_are_found_where_robots_txt_names_them(www: Site) -> None:
    document = www.put("guide/a.html", page("text"))
    www.answers["/robots.txt"] = web.Response(text=f"Sitemap: {www.url}/sitemap.xml\n")
    connector = www.connector(sitemaps=[f"{www.url}/robots.txt"])
    assert set(await scan_refs(connector)) == {document}
    www.answers["/robots.txt"] = web.Response(text="User-agent: *\n")

    with pytest.raises(SourceError, match="names no sitemap"):
        await scan_all(connector)


@pytest.mark.parametrize(
    ("head", "header"),
    [('<meta name="robots" content="NOINDEX, follow">', ""), ("<meta name=robots content=none>", ""), ("", "noindex"),
     ("", "memsync: noindex"), ("", "nofollow, noindex")],
)  # fmt: skip
async def test_pages_that_wish_not_to_be_listed_are_not(www: Site, head: str, header: str) -> None:
    www.answers["/a.html"] = web.Response(
        text=page("text", head), content_type="text/html", headers={"X-Robots-Tag": header} if header else {}
    )
    www.put("a.html", "")
    document = f"{www.url}/a.html"

    assert skipped(await scan_all(www.by_sitemaps())) == {document: "noindex"}
    assert set(await scan_refs(www.by_sitemaps(respect_noindex=False))) == {document}


async def test_a_header_that_comes_or_goes_counts_though_the_page_is_unchanged(www: Site) -> None:
    """Servers make a tag of the content alone."""
    wishes: dict[str, str] = {}

    async def answer(request: web.Request) -> web.Response:
        headers = {"ETag": '"1"', **wishes}
        if request.headers.get("If-None-Match") == '"1"':
            return web.Response(status=304, headers=headers)
        return web.Response(text=page("text"), content_type="text/html", headers=headers)

    www.put("a.html", "")
    www.special["/a.html"] = answer
    document = f"{www.url}/a.html"
    for _ in range(2):
        assert set(await scan_refs(www.by_sitemaps())) == {document}
    wishes["X-Robots-Tag"] = "noindex"
    for _ in range(2):
        assert skipped(await scan_all(www.by_sitemaps())) == {document: "noindex"}
    wishes.clear()

    assert set(await scan_refs(www.by_sitemaps())) == {document}


async def test_another_crawlers_directives_are_not_ours(www: Site) -> None:
    www.answers["/a.html"] = web.Response(
        text=page("x"), content_type="text/html", headers={"X-Robots-Tag": "otherbot: noindex, nofollow"}
    )
    assert set(await scan_refs(www.by_sitemaps(sitemaps=[f"{www.url}/sitemap.xml"]))) == set()
    www.put("a.html", "")

    assert set(await scan_refs(www.by_sitemaps())) == {f"{www.url}/a.html"}


async def test_a_copy_is_listed_only_while_what_it_is_a_copy_of_is_listed_with_its_text(www: Site) -> None:
    """Whoever says that a page is a copy of a login page must not have it deleted."""
    link = f'<link rel="canonical" href="{www.url}/a.html">'
    original, copy = www.put("a.html", page("text")), www.put("b.html", page("text", link))
    connector = www.by_sitemaps()
    assert set(await scan_refs(connector)) == {original}
    assert await connector.locate(copy) is None

    www.put("b.html", page("a text of its own", link))
    assert set(await scan_refs(connector)) == {original, copy}
    www.put("b.html", page("text"))
    assert set(await scan_refs(connector)) == {original, copy}
    www.put("b.html", page("text", link))
    www.answers["/a.html"] = web.Response(status=410)
    assert set(await scan_refs(connector)) == {copy}


@pytest.mark.parametrize("names", [("a.html", "b.html"), ("b.html", "a.html")])
async def test_pages_that_say_they_are_copies_of_each_other_are_both_listed(www: Site, names: tuple[str, str]) -> None:
    documents = {www.put(one, page("text", f'<link rel=canonical href="/{other}">')) for one, other in
                 (names, names[::-1])}  # fmt: skip

    assert set(await scan_refs(www.by_sitemaps())) == documents


async def test_the_index_page_of_a_folder_is_the_folder_if_both_are_found(www: Site) -> None:
    www.put("guide/index.htm", page("text"))
    www.answers["/guide/"] = web.Response(text=page("text"), content_type="text/html")
    assert set(await scan_refs(www.by_sitemaps())) == {f"{www.url}/guide/index.htm"}
    sitemap = "".join(f"<url><loc>{www.url}/guide/{name}</loc></url>" for name in ("", "index.htm"))
    www.answers["/sitemap.xml"] = web.Response(text=f"<urlset>{sitemap}</urlset>")

    assert set(await scan_refs(www.by_sitemaps())) == {f"{www.url}/guide/"}


async def test_more_pages_than_allowed_leave_the_listing_incomplete(www: Site) -> None:
    """A calendar has no end."""
    for number in range(10):
        www.put(f"{number}.html", page(f"text {number}"))
    for connector in (www.by_links(max_pages=6), www.by_sitemaps(max_pages=6)):
        events = await scan_all(connector)

        assert scopes(events) == [""]
        assert scopes(events, ScanComplete) == []
        assert 5 <= sum(hasattr(event, "uri") for event in events) <= 6


# ----------------------------------------------------------------------------------- what cannot be listed


@pytest.mark.parametrize("status", [400, 401, 403, 418, 451, 500, 501, 503])
async def test_what_may_be_reached_only_by_a_page_that_fails_is_not_missed(www: Site, status: int) -> None:
    """What it led to last time is read all the same."""
    www.put("open/a.html", page("text"))
    hidden = www.put("closed/b.html", page("text"))
    connector = www.by_links()
    await scan_all(connector)
    www.answers["/closed/index.html"] = web.Response(status=status)
    changed = (await scan_refs(connector))[hidden]
    events = await scan_all(connector)

    assert scopes(events) == [f"{www.url}/closed/index.html"]
    assert scopes(events, ScanComplete) == []
    assert changed in events


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_page_of_a_sitemap_that_fails_hides_no_other(www: Site, status: int) -> None:
    kept, failing = www.put("a.html", page("text")), www.put("b.html", page("text"))
    www.answers["/b.html"] = web.Response(status=status)
    connector = www.by_sitemaps()
    events = await scan_all(connector)

    assert scopes(events) == [failing]
    assert scopes(events, ScanComplete) == [""]
    assert {getattr(event, "id", "") for event in events} >= {kept}


SITEMAP = b'<?xml version="1.0"?><urlset><url><loc>%b/a.html</loc></url></urlset>'


@pytest.mark.parametrize(
    "make",
    [
        lambda whole: b"",
        lambda whole: b"<html>Please log in</html>",
        lambda whole: b"<!DOCTYPE urlset [<!ENTITY a 'b'>]><urlset>&a;</urlset>",
        lambda whole: whole.replace(b"127.0.0.1", b"localhost"),
        lambda whole: b"<urlset><url><loc>" + b"x" * 20_000 + b"</loc></url></urlset>",
        lambda whole: gzip.compress(whole)[:-4],
        lambda whole: gzip.compress(b" " * 60_000_000),
        lambda whole: b"\x1f\x8bnothing",
        lambda whole: b"<?xml version='1.0' encoding='nonsense'?><urlset/>",
        lambda whole: b"<sitemapindex/>",
        lambda whole: b"<sitemapindex><sitemap><loc>mailto:x</loc></sitemap></sitemapindex>",
    ],
)
async def test_a_sitemap_that_is_none_is_an_error(www: Site, make: Callable[[bytes], bytes]) -> None:
    """It never means that the site has no pages."""
    www.put("a.html", page("text"))
    www.answers["/sitemap.xml"] = web.Response(body=make(SITEMAP % www.url.encode()))

    with pytest.raises(SourceError, match=r"The sitemap .* cannot be read"):
        await scan_all(www.by_sitemaps())


async def test_a_sitemap_that_is_cut_anywhere_is_no_whole_one(www: Site) -> None:
    """Nor one that is packed."""
    www.put("a.html", page("text"))
    whole = SITEMAP % www.url.encode()
    for content in (whole, gzip.compress(whole)):
        for end in range(1, len(content)):
            www.answers["/sitemap.xml"] = web.Response(body=content[:end])
            with pytest.raises(SourceError):
                await scan_all(www.by_sitemaps())


async def test_a_sitemap_of_an_index_that_fails_keeps_the_listing_incomplete(www: Site) -> None:
    listed = www.put("a/1.html", page("text"))
    www.put("b/2.html", page("text"))
    for answer in (web.Response(status=404), web.Response(status=500), web.Response(body=b"<urlset>")):
        www.answers["/sitemap-b.xml.gz"] = answer
        events = await scan_all(www.by_sitemaps())

        assert scopes(events) == [""]
        assert scopes(events, ScanComplete) == []
        assert listed in {getattr(event, "id", "") for event in events}


async def test_sitemaps_that_name_each_other_come_to_an_end(www: Site) -> None:
    first, second = (f"<sitemap><loc>{www.url}/{name}.xml</loc></sitemap>" for name in ("sitemap", "other"))
    for named, named_there in ((first + first, ""), (second, first), (second, first + second)):
        www.answers["/sitemap.xml"] = web.Response(text=f"<sitemapindex>{named}</sitemapindex>")
        www.answers["/other.xml"] = web.Response(text=f"<sitemapindex>{named_there}</sitemapindex>")

        with pytest.raises(SourceError, match="round in circles"):
            await scan_all(www.by_sitemaps())


async def test_a_sitemap_that_is_named_twice_is_read_once(www: Site) -> None:
    document = www.put("a.html", page("text"))
    loc = f"<sitemap><loc>{www.url}/sitemap-.xml.gz</loc></sitemap>"
    itself = f"<sitemap><loc>{www.url}/sitemap.xml</loc></sitemap>"
    www.answers["/sitemap.xml"] = web.Response(text=f"<sitemapindex>{itself}{loc}{loc}</sitemapindex>")

    assert set(await scan_refs(www.by_sitemaps())) == {document}
    assert [path for path, _ in www.requests()].count("/sitemap-.xml.gz") == 1


async def test_a_sitemap_that_is_packed_in_parts_is_read(www: Site) -> None:
    """As programs do that pack on several processors, or pad to blocks."""
    document = www.put("a.html", page("text"))
    whole = SITEMAP % www.url.encode()
    www.answers["/sitemap.xml"] = web.Response(body=gzip.compress(whole[:30]) + gzip.compress(whole[30:]) + b"\0" * 9)

    assert set(await scan_refs(www.by_sitemaps())) == {document}


async def test_no_more_sitemaps_are_read_than_there_is_room_for_pages(www: Site) -> None:
    for folder in "abcde":
        www.put(f"{folder}/1.html", page(folder))
    events = await scan_all(www.by_sitemaps(max_pages=2))

    assert scopes(events) == [""]
    assert len([path for path, _ in www.requests() if path.startswith("/sitemap-")]) == 3


async def test_a_start_that_is_not_there_is_an_error(www: Site) -> None:
    www.put("a.html", page("text"))
    connector = www.by_links()
    for answer in (
        web.Response(status=404),
        web.Response(status=403),
        web.Response(status=302, headers={"Location": "https://login.example.com/"}),
        web.Response(status=302, headers={"Location": "/index.html"}),
        web.Response(status=301, headers={"Location": "/nowhere.html"}),
    ):
        www.answers["/index.html"] = answer
        events: list[SourceEvent] = []
        with pytest.raises(SourceError, match="Nothing was concluded"):
            await scan_into(events, connector)
        assert scopes(events, ScanComplete) == []


async def test_a_site_that_stops_answering_ends_the_scan(www: Site) -> None:
    """A thousand dead letters would say nothing of the pages."""
    for number in range(40):
        www.put(f"{number}.html", page("text"))
        www.answers[f"/{number}.html"] = web.Response(status=503)

    with pytest.raises(SourceError, match="20 times in a row"):
        await scan_all(www.by_sitemaps())


async def test_many_pages_that_fail_are_told_once(www: Site) -> None:
    for number in range(120):
        www.put(f"{number}.html", page("text"))
        www.answers[f"/{number}.html"] = web.Response(status=403)
    www.put("open.html", page("text"))
    events = await scan_all(www.by_sitemaps())

    assert len(scopes(events)) == 101
    assert scopes(events)[-1] == ""
    assert scopes(events, ScanComplete) == []


async def test_a_page_that_is_too_large_is_told_and_can_hide_others(www: Site) -> None:
    www.put("a.html", "x" * 2_000)
    www.put("a.pdf", "x" * 2_000)
    events = await scan_all(www.by_links(max_bytes=1_000))
    assert scopes(events) == [f"{www.url}/a.html", f"{www.url}/a.pdf"]
    assert scopes(events, ScanComplete) == []
    www.remove("a.html")

    assert scopes(await scan_all(www.by_links(max_bytes=1_000)), ScanComplete) == [""]


# ----------------------------------------------------------------------------------------- what is doubted


@pytest.mark.parametrize(
    ("code", "doubtful"),
    [("blank", ""), ("blank", page("")), ("broken_off", "<html><main><p>the text of"), ("login_page", LOGIN)],
)
async def test_an_answer_that_is_hardly_the_page_is_not_taken_for_it(www: Site, code: str, doubtful: str) -> None:
    """Servers answer 200 with a login page, with nothing, and with half of a page."""
    document = www.put("a.html", page("the text of the page"))
    connector = www.by_sitemaps()
    before = (await scan_refs(connector))[document]
    www.put("a.html", doubtful)
    events = await scan_all(connector)
    assert [(event.scope, event.code) for event in events if isinstance(event, ScanError)] == [(document, code)]
    with pytest.raises(UnreadableDocument):
        await connector.fetch(before)
    again = await scan_all(connector)

    assert (scopes(again) == []) == (code == "broken_off")  # the same answer in another run is believed, if it has text
    www.put("a.html", page("the text of the page"))
    assert (await scan_refs(connector))[document].fingerprint == before.fingerprint


async def test_pages_that_all_change_to_one_text_are_doubted(www: Site) -> None:
    """The first of them cannot be told from an edit."""
    documents = [www.put(f"{number}.html", page(f"text {number}")) for number in range(5)]
    connector = www.by_sitemaps()
    await scan_all(connector)
    for number in range(5):
        www.put(f"{number}.html", page("We will be back soon"))
    events = await scan_all(connector)

    assert scopes(events) == documents[1:]


# ---------------------------------------------------------------------------------------------- what is gone


async def missing(www: Site, name: str, answer: web.Response | None) -> tuple[WebConnector, DocumentId]:
    """A connector that has just listed the site completely without a page that it knew, and that answers now so."""
    document = www.put(name, page(f"text of {name}"))
    www.put("other.html", page("text of another"))
    await scan_all(www.by_sitemaps())
    if answer is not None:
        www.answers[f"/{name}"] = answer
    await unlist(www, name)
    connector = www.by_sitemaps()
    events = await scan_all(connector)
    assert events[-1] == ScanComplete("")
    return connector, document


async def unlist(www: Site, name: str) -> None:
    kept = "".join(f"<url><loc>{www.url}/{each}</loc></url>" for each in www.names() if each != name)
    www.answers["/sitemap.xml"] = web.Response(text=f"<urlset>{kept}</urlset>")


@pytest.mark.parametrize("status", [404, 410])
async def test_a_page_is_gone_if_it_is_not_listed_and_the_server_says_so(www: Site, status: int) -> None:
    connector, document = await missing(www, "a.html", web.Response(status=status))

    assert await connector.locate(document) is None


@pytest.mark.parametrize(
    "answer",
    [
        None,
        web.Response(status=403),
        web.Response(status=301, headers={"Location": "https://elsewhere.example.com/"}),
        web.Response(status=301, headers={"Location": "/other.html"}),
        web.Response(status=301, headers={"Location": "/a.html"}),
    ],
    ids=["there", "403", "moved out", "moved", "loop"],
)
async def test_what_still_answers_is_gone_if_two_complete_scans_do_not_list_it(
    www: Site, answer: web.Response | None
) -> None:
    """One can be a site that was asked in the middle of its rebuild."""
    connector, document = await missing(www, "a.html", answer)
    assert await connector.locate(document) is not None
    assert await connector.locate(document) is not None
    assert await www.by_sitemaps().locate(document) is not None if answer is None else True
    await scan_all(connector)

    assert await connector.locate(document) is None


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=302, headers={"Location": "/login.html"}),
        web.Response(status=302, headers={"Location": "https://sso.example.com/"}),
        web.Response(status=301, headers={"Location": "/login.html"}),
        web.Response(text=LOGIN, content_type="text/html"),
        web.Response(text="", content_type="text/html"),
        web.Response(text=page("text of another"), content_type="text/html"),
    ],
    ids=["login", "sso", "moved to login", "login page", "blank", "another page's text"],
)
async def test_what_answers_like_a_site_that_lets_nobody_in_is_never_gone(www: Site, answer: web.Response) -> None:
    www.answers["/login.html"] = web.Response(text=LOGIN, content_type="text/html")
    connector, document = await missing(www, "a.html", answer)
    for _ in range(4):
        assert await connector.locate(document) is not None
        await scan_all(connector)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_nothing_is_missed_when_the_server_cannot_tell(www: Site, status: int) -> None:
    connector, document = await missing(www, "a.html", web.Response(status=status))

    with pytest.raises(SourceError, match="still there"):
        await connector.locate(document)


async def test_a_page_that_comes_and_goes_is_there(www: Site) -> None:
    """The way to it was found in each scan."""
    document = www.put("a.html", page("text"))
    www.put("b.html", page("another text"))
    connector = www.by_sitemaps()
    await scan_all(connector)
    for _ in range(3):
        www.answers["/a.html"] = web.Response(status=404)
        assert document not in {
            getattr(event, "id", "") for event in await scan_all(connector) if hasattr(event, "uri")
        }
        del www.answers["/a.html"]
        assert await connector.locate(document) is not None


async def test_a_page_that_moved_for_good_is_the_page_at_its_new_address(www: Site) -> None:
    www.put("index-of-all.html", page('<a href="/old.html">x</a>'))
    old = www.put("old.html", page("a text"))
    start = f"{www.url}/index-of-all.html"
    await scan_all(www.connector(start=[start]))
    new = www.put("new.html", page("a text"))
    www.answers["/old.html"] = web.Response(status=308, headers={"Location": "/new.html"})
    connector = www.connector(start=[start])
    refs = await scan_refs(connector)

    assert set(refs) == {DocumentId(start), new}
    assert await connector.locate(old) is None


async def test_a_page_that_leads_elsewhere_for_the_time_being_is_not_gone(www: Site) -> None:
    """As to a login page."""
    document = www.put("a.html", page("text"))
    connector = www.by_links()
    await scan_all(connector)
    www.answers["/a.html"] = web.Response(status=302, headers={"Location": "/login.html"})
    events = await scan_all(connector)

    assert scopes(events) == [document]
    assert scopes(events, ScanComplete) == []
    assert await connector.locate(document) is not None


async def test_redirects_that_lead_round_in_circles_keep_the_listing_incomplete(www: Site) -> None:
    document = www.put("a.html", page("text"))
    connector = www.by_links()
    await scan_all(connector)
    www.answers["/a.html"] = web.Response(status=301, headers={"Location": "/b.html"})
    www.answers["/b.html"] = web.Response(status=301, headers={"Location": "/a.html"})
    events = await scan_all(connector)

    assert document in scopes(events)
    assert scopes(events, ScanComplete) == []


@pytest.mark.parametrize("answer", [web.Response(status=404), web.Response(status=503)])
async def test_no_page_has_vanished_from_a_site_that_is_not_there(www: Site, answer: web.Response) -> None:
    connector, document = await missing(www, "a.html", web.Response(status=404))
    www.answers["/sitemap.xml"] = answer

    with pytest.raises(SourceError):
        await connector.locate(document)


async def test_a_page_that_goes_between_scan_and_fetch_has_vanished(www: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.web.connector.KEPT_BYTES_MAX", 0)
    document = www.put("a.html", page("text"))
    connector = www.by_sitemaps()
    ref = (await scan_refs(connector))[document]
    www.answers["/a.html"] = web.Response(status=302, headers={"Location": "/login.html"})
    with pytest.raises(UnreadableDocument, match="leads elsewhere"):
        await connector.fetch(ref)
    www.answers["/a.html"] = web.Response(status=410)

    with pytest.raises(DocumentVanished):
        await connector.fetch(ref)


# ------------------------------------------------------------------------------------------------ whole runs


@pytest.mark.parametrize("way", ["by_links", "by_sitemaps"])
async def test_a_run_without_changes_fetches_and_sends_nothing_and_edits_and_removals_arrive(
    www: Site, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    fetch = WebConnector.fetch

    async def counted(connector: WebConnector, ref: Any) -> Document:
        fetched.append(ref.id)
        return await fetch(connector, ref)

    monkeypatch.setattr(WebConnector, "fetch", counted)
    for number in range(30):
        www.put(f"f{number % 3}/{number}.html", page(f"text {number}, which nobody has to read"))
    memory = MemoryDestination()
    world = AnyWorld(getattr(www, way)(), memory)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
        await world.do()
        assert len(world.texts()) == len(fetched) == 30
        for number in range(30):  # a rebuild
            www.put(
                f"f{number % 3}/{number}.html", page(f"text {number}, which nobody has to read", "<meta charset=utf-8>")
            )
        sent, fetched[:] = len(memory.requests), []
        statuses(www)
        report = await world.do()
        assert (fetched, len(memory.requests), report.documents.unchanged) == ([], sent, 30)
        assert statuses(www) == [200] * 30
        await world.do()
        assert (fetched, len(memory.requests), statuses(www)) == ([], sent, [304] * 30)

        www.put("f0/0.html", page("an edit"))
        www.remove("f1/1.html")
        www.put("f2/new.html", page("an addition"))
        await world.do()
        assert len(fetched) == 2
        texts = world.texts()

    assert len(texts) == 30
    assert {"an edit", "an addition"} < set(texts)
    assert not [text for text in texts if text.startswith(("text 0,", "text 1,"))]


async def test_a_page_with_another_address_keeps_its_records(www: Site) -> None:
    """A site that is put in other folders is not stored a second time."""
    www.put("drafts/a.html", page("text of a"))
    www.put("b.html", page("text of b"))
    memory = MemoryDestination()
    world = AnyWorld(www.by_sitemaps(), memory)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
        await world.do()
        memory.requests.clear()
        moved = www.put("a.html", page("text of a"))
        www.remove("drafts/a.html")
        www.answers["/drafts/a.html"] = web.Response(status=301, headers={"Location": "/a.html"})
        report = await world.do()

    assert [batch.operation for batch in memory.requests] == [Operation.UPDATE]
    assert report.documents.renamed == 1
    assert moved in {record.document for record in memory.records.values()}


def test_one_address_need_be_no_list() -> None:
    """It is what most have."""
    settings = WebSettings.model_validate(
        {"type": "web", "start": "https://a.example/", "prefixes": "https://a.example/"}
    )

    assert settings.start == settings.prefixes == ("https://a.example/",)
