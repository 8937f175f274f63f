"""What the process makes of feeds: of each format and encoding, and of those that want to do harm."""

import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from feedgen.feed import FeedGenerator

from connectors.feed.process import FeedFault, FeedLimits, ParsedFeed, parse_feed, parsed_feed, read_feed
from pipeline.errors import SourceError

URL = "https://a.example/blog/feed.xml"
RSS = '<?xml version="1.0"?>%s<rss version="2.0"><channel><title>t</title>%s</channel></rss>'
RSS_1 = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://a.example/"><title>t</title></channel>'
    '<item rdf:about="https://a.example/1"><title>One</title><link>https://a.example/1</link>'
    "<description>words</description><dc:date>2024-05-06T07:08:09Z</dc:date></item></rdf:RDF>"
)
ATOM = (
    '<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://b.example/x/"><entry><id>urn:1</id>'
    '<title type="html">One &lt;b&gt;t&lt;/b&gt;wo</title><link href="1.html"/>'
    "<published>2024-01-01T00:00:00Z</published><updated>2024-05-06T09:08:09+02:00</updated>%s</entry></feed>"
)
JSON = '{"version": "https://jsonfeed.org/version/1.1", "next_url": "?page=2", "items": [%s]}'
AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def read(content: str | bytes, media_type: str | None = None, url: str = URL) -> ParsedFeed:
    written = content if isinstance(content, bytes) else content.encode()
    return parsed_feed(read_feed(written, url=url, media_type=media_type))


def test_rss_1_is_read() -> None:
    (entry,) = read(RSS_1).entries

    assert (entry.key, entry.link, entry.title) == ("https://a.example/1", "https://a.example/1", "One")
    assert (entry.content, entry.modified_at) == ("One\n\nwords", AT)


@pytest.mark.parametrize("version", ["0.91", "0.92", "2.0"])
def test_rss_is_read_with_whatever_doctype(version: str) -> None:
    """Netscape's RSS 0.91 has one."""
    doctype = '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://a.example/rss-0.91.dtd">'
    item = "<item><title>One</title><description>words</description></item>"

    found = read((RSS % (doctype, item)).replace('"2.0"', f'"{version}"'))

    assert ([entry.title for entry in found.entries], found.fault) == (["One"], None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('<content type="html">&lt;p&gt;words&lt;/p&gt;</content><summary>less</summary>', "<p>words</p>"),
        (
            '<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>words</p></div></content>',
            "<p>words</p>",
        ),
        ("<summary>words</summary>", "words"),
        ('<content type="image/png">aWM=</content><summary>words</summary>', "words"),
        ('<content type="html">&lt;a href="2"&gt;2&lt;/a&gt;</content>', '<a href="https://b.example/x/2">2</a>'),
        ('<content type="html">&lt;script&gt;evil()&lt;/script&gt;words</content>', "words"),
    ],
)
def test_the_content_of_an_atom_entry_is_taken_or_else_its_summary(content: str, expected: str) -> None:
    (entry,) = read(ATOM % content).entries

    assert entry.content.endswith(expected)
    assert (entry.key, entry.link, entry.title, entry.modified_at) == (
        "urn:1",
        "https://b.example/x/1.html",
        "One two",
        AT,
    )


def test_json_feed_is_read() -> None:
    items = (
        '{"id": 1, "content_text": "words", "date_modified": "2024-05-06T09:08:09+02:00", "tags": ["a", "a", 1]},'
        '{"id": "two", "url": "/2", "title": "Two", "content_html": "<p>words", "authors": [{"name": "Ann"}, 1]}'
    )

    found = read(JSON % items)

    one, two = found.entries
    assert (one.key, one.content, one.is_html, one.modified_at, one.tags) == ("1", "words", False, AT, ("a",))
    assert (two.key, two.link, two.content) == ("two", "https://a.example/2", "<h1>Two</h1>\n<p>words")
    assert two.authors == ("Ann",)
    assert found.older == "https://a.example/blog/feed.xml?page=2"


def test_what_another_program_writes_is_read() -> None:
    """feedgen's Atom and RSS."""
    feed = FeedGenerator()
    feed.id("urn:feed")
    feed.title("Feed")
    feed.link(href="https://a.example/")
    feed.description("All")
    for number in range(3):
        entry = feed.add_entry()
        entry.id(f"urn:{number}")
        entry.title(f"Entry {number}")
        entry.content(f"<p>wörds {number}</p>", type="html")
        entry.updated(AT)
        entry.pubDate(AT)

    for written in (feed.atom_str(), feed.rss_str()):
        found = read(written)

        assert found.fault is None
        assert sorted(entry.key for entry in found.entries) == ["urn:0", "urn:1", "urn:2"]
        assert all(f"<p>wörds {entry.key[-1]}</p>" in entry.content for entry in found.entries)
        assert {entry.modified_at for entry in found.entries} == {AT}


@pytest.mark.parametrize(
    ("encoding", "media_type"),
    [
        ("utf-8", None),
        ("utf-8", "text/xml"),  # which would be ASCII, by the letter
        ("utf-8", "text/html; charset=iso-8859-1"),  # which is wrong
        ("utf-16", "application/rss+xml"),
        ("iso-8859-1", "application/xml"),
        ("windows-1252", "text/xml; charset=windows-1252"),
        ("shift_jis", None),
        ("koi8-r", "application/rss+xml; charset=koi8-r"),
    ],
)
def test_encodings_are_found(encoding: str, media_type: str | None) -> None:
    """Whatever the server says of them."""
    words = {"shift_jis": "日本語", "koi8-r": "русский"}.get(encoding, "wörds")
    feed = (RSS % ("", f"<item><title>{words}</title></item>")).replace('"1.0"', f'"1.0" encoding="{encoding}"')

    found = read(feed.encode(encoding), media_type)

    assert [entry.title for entry in found.entries] == [words]
    assert found.fault is None


def test_an_id_is_not_resolved_as_if_it_were_an_address() -> None:
    """It would change with the place of its feed, and each entry be stored twice."""
    feed = RSS % ("", "<item><guid>17</guid></item>")

    assert {read(feed, url=url).entries[0].key for url in (URL, "https://b.example/moved")} == {"17"}


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ("<guid> urn:1 </guid><link>https://a.example/1</link>", "urn:1"),
        ("<link>https://a.example/1</link>", "https://a.example/1"),
        ("<guid></guid><link>1</link>", "https://a.example/blog/1"),
    ],
)
def test_an_entry_without_id_is_known_by_its_link(item: str, key: str) -> None:
    assert read(RSS % ("", f"<item>{item}</item>")).entries[0].key == key


def test_an_entry_without_id_and_link_is_known_by_its_title_and_date() -> None:
    """So that an edit of its text does not make another one of it."""
    item = "<item><title>%s</title><pubDate>Mon, 06 May 2024 07:08:09 GMT</pubDate><description>%s</description></item>"

    keys = [read(RSS % ("", item % words)).entries[0].key for words in (("a", "x"), ("a", "y"), ("b", "x"))]

    assert keys[0] == keys[1] != keys[2]


# -------------------------------------------------------------------------------------------------- edits

ITEM = "<item><guid>1</guid><title>t</title><link>https://a.example/1</link><description>%s</description>%s</item>"


def digest(description: str, more: str = "") -> str:
    written = description.replace("&", "&amp;").replace("<", "&lt;")
    return read(RSS % ("", ITEM % (written, more))).entries[0].digest


@pytest.mark.parametrize(
    "description",
    [
        "<p id='n8731' class='x'>words</p>",
        "<!-- built 12:01 --><p>words</p>",
        "<p>words</p><script>nonce = 'a8f'</script>",
        "<p style='color: red'>words</p>",
    ],
)
def test_what_no_reader_sees_is_no_edit(description: str) -> None:
    """Programs write it differently each time."""
    assert digest(description) == digest("<p>words</p>")


@pytest.mark.parametrize(
    "description",
    [
        "<p>word</p>",
        "<h2>words</h2>",
        "<p>wor ds</p>",
        "<p><a href='/2'>words</a></p>",
        "<p>words<img alt='x'></p>",
        "",
    ],
)
def test_what_a_reader_sees_is_an_edit(description: str) -> None:
    """It would never be stored."""
    assert digest(description) != digest("<p>words</p>")


@pytest.mark.parametrize("more", ["<category>news</category>", "<author>Ann</author>"])
def test_what_metadata_can_be_made_of_is_an_edit(more: str) -> None:
    assert digest("words", more) != digest("words")


# ------------------------------------------------------------------------------------- what is no whole feed


@pytest.mark.parametrize(
    "content",
    [
        "",
        "  ",
        "<html><body><form>Log in</form></body></html>",
        "<!DOCTYPE html><title>Log in</title>",
        '{"error": "no"}',
        '{"version": "https://jsonfeed.org/version/1", "items": null}',
        "[1, 2]",
        '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"/>',
        "https://a.example/feed",
        "/etc/passwd",
        b"\x00\xff\xfe",
    ],
)
def test_what_is_no_feed_is_no_empty_feed(content: str | bytes) -> None:
    with pytest.raises(FeedFault) as caught:
        read(content)

    assert caught.value.code == "no_feed"


@pytest.mark.parametrize("missing", [1, 6, 20, 34, 45, 60])
def test_of_a_feed_that_breaks_off_the_last_entry_is_not_believed(missing: int) -> None:
    """It may be half."""
    feed = RSS % (
        "",
        "".join(f"<item><guid>{number}</guid><description>words</description></item>" for number in "123"),
    )

    found = read(feed[:-missing])

    assert found.is_cut_off
    assert found.fault is not None
    assert [entry.key for entry in found.entries] == ["1", "2"]


@pytest.mark.parametrize("code", ["55357", "xD83D", "xffff", "0", "x110000", "99999999999"])
def test_a_character_that_is_none_costs_no_more_than_itself(code: str) -> None:
    """Many programs write an emoji as two halves, at which the library stops."""
    found = read(RSS % ("", ITEM % (f"words &#{code}; words &#233;&#x1F600;", "")))

    assert found.fault is None
    assert [entry.content for entry in found.entries] == ["t\n\nwords \ufffd words \u00e9\U0001f600"]


@pytest.mark.parametrize(
    "more",
    [
        '"url": "http://[broken/"',
        '"date_modified": "0001-01-01T00:00:00+23:00"',
        '"date_modified": "9999-12-31T23:59:59-23:00"',
        '"title": "\\ud83d", "tags": ["\\ud83d"], "url": "/\\ud83d"',
    ],
)
async def test_an_item_that_says_nonsense_of_itself_is_read_all_the_same(more: str) -> None:
    feed = (
        JSON % f'{{"id": "\\ud83d", "content_text": "words \\ud83d", {more}}}, {{"id": "2", "content_text": "words"}}'
    )

    found = await parse_feed(feed.encode(), url=URL, media_type=None)

    assert [entry.key for entry in found.entries] == ["?", "2"]
    assert found.entries[0].content.endswith("words ?")
    repr(found.entries).encode()


def test_a_feed_that_names_no_page_of_older_entries_by_what_is_no_address_is_not_whole() -> None:
    assert read((JSON % "").replace("?page=2", "http://[broken/")).fault is not None


def test_a_feed_that_is_not_well_formed_is_read_as_far_as_it_can_be() -> None:
    """Many are not, for years."""
    item = "<item><guid>%s</guid><title>a & b</title></item>"

    found = read(RSS % ("", item % 1 + item % 2))

    assert [entry.key for entry in found.entries] == ["1", "2"]
    assert (found.fault is not None, found.is_cut_off) == (True, False)
    assert "a & b" not in str(found.fault)


# ------------------------------------------------------------------------------------------------- harm


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE r [<!ENTITY x SYSTEM "http://127.0.0.1:9/">]>',
        '<!DOCTYPE r [<!ENTITY % y SYSTEM "file:///etc/hostname"> %y; <!ENTITY x "&y;">]>',
    ],
)
def test_no_entity_leads_anywhere(doctype: str) -> None:
    """Else a feed could have any file of this machine stored and shown."""
    found = read(RSS % (doctype, "<item><guid>1</guid><title>[&x;]</title></item>"))

    assert [entry.title in ("[]", "[&x;]", "[&x]") for entry in found.entries] == [True]


async def test_a_billion_laughs_are_none() -> None:
    entities = "".join(f'<!ENTITY x{number} "{f"&x{number - 1};" * 10}">' for number in range(1, 10))
    feed = RSS % (f'<!DOCTYPE r [<!ENTITY x0 "laugh">{entities}]>', "<item><guid>1</guid><title>&x9;</title></item>")

    found = await parse_feed(feed.encode(), url=URL, media_type=None)

    assert all(len(entry.content) < 1000 for entry in found.entries)


async def test_a_feed_that_would_take_for_ever_is_stopped() -> None:
    """A million elements in each other keep the library busy for minutes."""
    feed = RSS % ("", "<item><description>" + "<a>" * 10**6 + "</a>" * 10**6 + "</description></item>")

    with pytest.raises(FeedFault) as caught:
        await parse_feed(feed.encode(), url=URL, media_type=None, limits=FeedLimits(feed_s=1.0))

    assert caught.value.code == "parser_too_slow"


async def test_a_feed_that_fills_the_memory_costs_only_its_process() -> None:
    feed = RSS % ("", ITEM % ("words " * 10**6, "") * 4)

    with pytest.raises(FeedFault) as caught:
        await parse_feed(feed.encode(), url=URL, media_type=None, limits=FeedLimits(memory_bytes=100 * 1024**2))

    assert caught.value.code == "parser_crashed"


async def test_a_feed_that_becomes_too_large_is_refused() -> None:
    with pytest.raises(FeedFault) as caught:
        await parse_feed((RSS % ("", ITEM % ("x" * 2000, ""))).encode(), url=URL, media_type=None,
                         limits=FeedLimits(answer_bytes=1000))  # fmt: skip

    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "content", ['{"version": "https://jsonfeed.org/version/1", "items": ' + "[" * 10**6, "[" * 10**6]
)
async def test_json_that_is_nested_without_end_is_refused(content: str) -> None:
    with pytest.raises(FeedFault):
        await parse_feed(content.encode(), url=URL, media_type=None)


async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "feedparser", None)

    with pytest.raises(SourceError, match=r"pip install 'agentcore-memory-sync\[feed\]'"):
        read(RSS % ("", ""))


async def test_both_ways_of_reading_agree() -> None:
    """Most tests read in place."""
    feed: Any = (RSS % ("", ITEM % ("wörds", ""))).encode()

    assert await parse_feed(feed, url=URL, media_type=None) == read(feed)
