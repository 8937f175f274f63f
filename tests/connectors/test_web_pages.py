"""What a page says to a crawler, and the one spelling of each address."""

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.web.addresses import Scope, normalise, target_of
from connectors.web.pages import decoded, directives_in, read_page

LONG = "words that people read, " * 20


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.ORG:80", "http://example.org/"),
        ("https://example.org:443/a//b/", "https://example.org/a//b/"),
        ("https://example.org:8443/", "https://example.org:8443/"),
        ("http://example.org/a/../b/./c/..#part", "http://example.org/b/"),
        ("http://example.org/../../a", "http://example.org/a"),
        ("http://example.org/%2e%2E/a", "http://example.org/a"),
        ("http://example.org/%7euser/%c3%a4 ä?q=%zz&b=é", "http://example.org/~user/%C3%A4%20%C3%A4?q=%25zz&b=%C3%A9"),
        ("http://example.org/a%2fb", "http://example.org/a%2Fb"),
        ("http://münchen.example/", "http://xn--mnchen-3ya.example/"),
        (b"http://a.example/\xe9?\xe9".decode("utf-8", "surrogateescape"), "http://a.example/%E9?%E9"),
        ("http://[::1]:80/a", "http://[::1]/a"),
        ("http://example.org/a?", "http://example.org/a"),
    ],
)
def test_an_address_has_one_spelling(url: str, expected: str) -> None:
    """Two ids for one page would store it twice."""
    assert normalise(url) == expected
    assert normalise(expected) == expected


@given(st.text(alphabet=string.printable + "äé%/.?&=#", max_size=40))
def test_the_one_spelling_of_an_address_stays_as_it_is(path: str) -> None:
    once = target_of("http://example.org/guide/a.html", path)

    assert once is None or normalise(once) == once


@pytest.mark.parametrize(
    "link",
    [
        "mailto:me@example.org",
        "javascript:go()",
        "http://[x",
        "http://me:pw@example.org/",
        "ftp://example.org/",
        "/" + "x" * 3_000,
        "data:text/html,x",
    ],
)
def test_what_is_no_page_is_no_target(link: str) -> None:
    assert target_of("http://example.org/", link) is None


def test_parameters_that_say_nothing_of_the_page_are_dropped() -> None:
    scope = Scope(["http://example.org/"], ["**/*"], [], None, ["utm_*", "sid"])
    strict = Scope(["http://example.org/"], ["**/*"], [], ["page", "id*"], ["idle"])
    link = "?page=2&utm_source=x&SID=3&&id1=4&idle=5"

    assert scope.find("http://example.org/a", link) == "http://example.org/a?page=2&id1=4&idle=5"
    assert strict.find("http://example.org/a", link) == "http://example.org/a?page=2&id1=4"
    assert scope.find("http://example.org/a", "?utm_source=x") == "http://example.org/a"


def test_patterns_look_at_the_path_as_people_write_it() -> None:
    scope = Scope(["http://example.org/"], ["*.html"], ["/entwürfe/"], None, [])

    assert not scope.holds("http://example.org/entw%C3%BCrfe/a.html")
    assert scope.holds("http://example.org/guide/a.html")
    assert not scope.holds("http://example.org/guide/%61.html")
    assert not scope.holds("http://example.org.evil.example/a.html")


def test_links_are_found_wherever_a_browser_would_follow_them() -> None:
    html = """<!doctype html><!-- <a href=no1> --><base href="/b/"><script>"<a href=no2>"</script><!-->
      <a class='x > y' title="a > b" HREF = 'one.html#part'>x</a><A HREF=two.html>x</A><a href="a&amp;b">x</a>
      <a href="one.html">again</a><a name=x>x</a><area href="map"><iframe src="frame"></iframe><a href="">x</a>
      <textarea><a href=no3></textarea><style><a href=no4></style><svg><a href=no5></a></svg><a href="#part">x</a>
      <meta http-equiv="Refresh" content="5; url='later'"><title><a href=no6></title><a href="never ends"""

    read = read_page(html.encode(), "text/html")

    assert read.links == ("one.html", "two.html", "a&b", "map", "frame", "later")
    assert read.base == "/b/"


def test_the_head_of_a_page_is_read() -> None:
    html = """<html><link rel="stylesheet canonical" href="/c"><link rel=canonical href=/d><meta name=Robots
      content="NoFollow, noarchive"><meta name="otherbot" content="noindex"><input type=Password></html>"""
    read = read_page(html.encode(), "text/html; charset=utf-8")

    assert read.canonical == "/c"
    assert read.directives == {"nofollow"}
    assert read.has_password_field
    assert read.has_end
    assert read.is_blank


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("noindex", {"noindex"}),
        ("none", {"noindex", "nofollow"}),
        ("memsync: nofollow", {"nofollow"}),
        ("", set()),
        ("otherbot: noindex, nofollow", set()),
        ("unavailable_after: 25 Jun 2030, noindex", {"noindex"}),
    ],
)
def test_directives_for_us_are_told_from_those_for_others(header: str, expected: set[str]) -> None:
    assert directives_in(header) == expected


SAME = [
    (f"<main>{LONG}</main>", f"<nav>new</nav><main class=x>{LONG}</main><footer>new</footer>"),
    (f"<p>{LONG}", f'<p id="1">{LONG}<!-- built today --><script>new</script>'),
    (f"<p>{LONG}", f'<head><meta name="build" content="2"><link href=x></head><p>{LONG}'),
    (f"<p>a &amp; b {LONG}", f"<p>a &#38;\n  b {LONG}"),
]
DIFFERENT = [
    (f"<main>{LONG}</main>", f"<main>{LONG} more</main>"),
    ("<main><nav>x</nav></main><p>a", "<main><nav>x</nav></main><p>b"),  # of which the parser takes the whole page
    (f"<main>{LONG}</main><main>a</main>", f"<main>{LONG}</main><main>b</main>"),
    (f"<h2>a</h2>{LONG}", f"<h3>a</h3>{LONG}"),
    (f"<pre>a\n  b</pre>{LONG}", f"<pre>a\nb</pre>{LONG}"),
    (f"<ol start=1><li>{LONG}", f"<ol start=2><li>{LONG}"),
    (f"<code class=x>{LONG}", f"<code class=y>{LONG}"),
    (f"<abbr title='a b'>x</abbr>{LONG}", f"<abbr title='a c'>x</abbr>{LONG}"),
    (f"<p aria-hidden=true>x</p>{LONG}", f"<p aria-hidden=false>x</p>{LONG}"),
    (f"<div role='navigation'>x</div>{LONG}", f"<div>x</div>{LONG}"),
    (f"<main><a class='x headerlink'>x</a>{LONG}</main>", f"<main><a class='x'>x</a>{LONG}</main>"),
    (f"<div class='related'>x</div>{LONG}", f"<div>x</div>{LONG}"),
    (f"<meta name=date content=2020-01-01><main>{LONG}", f"<meta name=date content=2020-01-02><main>{LONG}"),
    (
        f"<meta property='article:published_time' content=2020-01-01>{LONG}",
        f"<meta property='article:published_time' content=2020-01-02>{LONG}",
    ),
    (f"<title>a</title><main>{LONG}", f"<title>b</title><main>{LONG}"),
    (f"<meta name=description content=a><main>{LONG}", f"<meta name=description content=b><main>{LONG}"),
]


@pytest.mark.parametrize(("before", "after"), SAME)
def test_a_build_that_changes_what_nobody_reads_changes_no_fingerprint(before: str, after: str) -> None:
    assert read_page(before.encode(), "text/html").fingerprint == read_page(after.encode(), "text/html").fingerprint


@pytest.mark.parametrize(("before", "after"), DIFFERENT)
def test_whatever_records_are_made_of_changes_the_fingerprint(before: str, after: str) -> None:
    """An edit that it hides is never read."""
    assert read_page(before.encode(), "text/html").fingerprint != read_page(after.encode(), "text/html").fingerprint


def test_bytes_without_meaning_stay_apart_from_each_other() -> None:
    """A page of another encoding than it says is edited, too."""
    one, other = (read_page(f"<p>{word}".encode("latin-1"), "text/html") for word in ("é", "è"))

    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        ("ä".encode("latin-1"), "text/html; charset=ISO-8859-1"),
        ('<meta charset="windows-1252">ä'.encode("cp1252"), None),
        ("ä".encode(), "text/html"),
        ("\ufeffä".encode(), "text/html; charset=latin-1"),
        ("ä".encode("utf-16"), "text/html"),
        ("ä".encode(), "text/html; charset=punycode"),
        ("ä".encode(), "text/html; charset=unicode_escape"),
    ],
)
def test_a_page_is_decoded_as_it_says(content: bytes, media_type: str | None) -> None:
    """In an encoding of the web: Python has others, of which some take minutes."""
    assert decoded(content, media_type).endswith("ä")


HOSTILE = [
    "<a ",
    '<a href="',
    "<!--",
    "<svg>",
    "<",
    "<pre>",
    "&",
    "<a" + " b=",
    "<main>",
    '<i ="',
    "<script>",
    "</script ",
    "<title>",
    "<a href=x>",
    '<meta charset="',
    "<a x='\"",
    "<!",
    "<?",
    "<article>",
    "&#x",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_page_takes_longer_than_its_length_lets_expect(piece: str) -> None:
    """Twice the page, some twice the time: a parser that looks back takes four times, and hours for a large page."""
    seconds = []
    for count in (20_000, 80_000):
        content = (piece * count).encode()
        began = time.process_time()
        read_page(content, "text/html")
        seconds.append(time.process_time() - began)

    assert seconds[1] < 10 * max(seconds[0], 0.05)
