"""Feeds in a process of their own: anyone writes them, and the library that makes sense of broken ones is patient.

A feed that keeps the library busy for ever, crashes it or makes it fill the memory costs that process, and the feed
cannot be read by this run. The process knows no secret: it starts with an empty environment, and the library is given
bytes, never an address. It is no sandbox against code that takes it over: it has its user's rights.

    this process                  the reader (`python -m connectors.feed.process`)
      a line of JSON, the feed ──▶ limits itself, reads
      `ParsedFeed` ◀────── JSON ──
"""

import calendar
import io
import json
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from time import struct_time
from typing import Any
from urllib.parse import urljoin

import anyio

from pipeline.errors import SourceError
from pipeline.process_limits import lower_limit

IMPORT_ROOT = Path(__file__).parents[2]

NEEDS_LIBRARY = "needs_library"

# As a broken feed may end and still be whole: behind its last element.
_END = re.compile(rb"</\s*(?:[\w.-]+:)?(?:rss|feed|rdf)\s*>\s*(?:<!--.{0,2000}?-->\s*)*\Z", re.IGNORECASE | re.DOTALL)
_REFERENCE = re.compile(rb"&#(?:x([0-9a-f]{1,20})|([0-9]{1,20}));", re.IGNORECASE)
_JSON_FEED = "https://jsonfeed.org/version/"
_HTML_TYPES = {"text/html", "application/xhtml+xml"}


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """What one feed may cost. One of 5,000 entries, 6 MB, takes about 2 s."""

    feed_s: float = 60.0
    memory_bytes: int = 2 * 1024**3  # of addresses
    answer_bytes: int = 128 * 1024**2


DEFAULT_LIMITS = FeedLimits()


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """An entry as its feed states it. `key` identifies it in the feed, `digest` all of it that can show in a record.

    `content` is HTML if `is_html`, else plain text, with the title above it.
    """

    key: str
    digest: str
    content: str
    is_html: bool
    link: str | None
    title: str | None
    modified_at: datetime | None
    authors: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParsedFeed:
    """`fault` says what is wrong with it, None if nothing; then it may have more entries than could be read.

    If it `is_cut_off`, what comes behind `entries` was lost. `older` is the address of the page that goes on.
    """

    entries: Sequence[FeedEntry]
    fault: str | None
    is_cut_off: bool
    older: str | None


class FeedFault(Exception):
    """What was to be a feed cannot be read as one; `code` is one word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def parse_feed(
    content: bytes, *, url: str, media_type: str | None, limits: FeedLimits = DEFAULT_LIMITS
) -> ParsedFeed:
    """The feed that `content` is; `url` is where it came from, to which its links are relative.

    Raises:
        FeedFault: it is none, or reading it took too long or too much memory.
        SourceError: the library is not there, or no process can be started.
    """
    told = {"url": url, "media_type": media_type, "answer_bytes": limits.answer_bytes}
    command = [sys.executable, "-m", __name__, str(limits.memory_bytes), str(int(limits.feed_s) + 1)]
    try:
        with anyio.fail_after(limits.feed_s):
            ended = await anyio.run_process(
                command,
                input=json.dumps(told).encode() + b"\n" + content,
                stderr=subprocess.DEVNULL,  # a crash report can hold a piece of the feed
                check=False,
                cwd=IMPORT_ROOT,
                env={"PYTHONUTF8": "1"},
                start_new_session=True,
            )
    except TimeoutError as error:
        raise FeedFault("parser_too_slow", f"reading it took more than {limits.feed_s:g} s and was stopped") from error
    except OSError as error:
        raise SourceError(f"The process that reads feeds cannot be started: {error.strerror}.") from error
    try:
        answer = json.loads(ended.stdout)
    except ValueError as error:
        raise FeedFault(
            "parser_crashed",
            f"its parser ended with {ended.returncode}, as it does when a feed needs more than"
            f" {limits.memory_bytes // 1024**2:,} MiB or makes it fail",
        ) from error
    return parsed_feed(answer)


def parsed_feed(answer: Mapping[str, Any]) -> ParsedFeed:
    """What `read_feed` found.

    Raises:
        FeedFault, SourceError: as `parse_feed`.
    """
    if answer.get("refused") == NEEDS_LIBRARY:
        raise SourceError(
            "A feed cannot be read without feedparser. Nothing was done. Install it:"
            " pip install 'agentcore-memory-sync[feed]'"
        )
    if "refused" in answer:
        raise FeedFault(answer["refused"], answer["message"])
    return ParsedFeed(
        tuple(_entry_of(entry) for entry in answer["entries"]),
        answer["fault"],
        answer["is_cut_off"],
        answer["older"],
    )


def _entry_of(answer: Mapping[str, Any]) -> FeedEntry:
    modified_at = answer["modified_at"]
    return FeedEntry(
        **{
            **answer,
            "modified_at": datetime.fromisoformat(modified_at) if modified_at else None,
            "authors": tuple(answer["authors"]),
            "tags": tuple(answer["tags"]),
        }
    )


# ----------------------------------------------------------------------------------------- in the child


def read_feed(content: bytes, *, url: str, media_type: str | None) -> dict[str, Any]:
    """What `parse_feed` returns, as JSON can hold it; or why not, as `refused` and `message`."""
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return _read_json_feed(content, url)
    return _read_xml_feed(content, url, media_type)


def _read_xml_feed(content: bytes, url: str, media_type: str | None) -> dict[str, Any]:
    try:
        import feedparser  # noqa: PLC0415 - only who reads feeds need have it
    except ModuleNotFoundError:
        return {"refused": NEEDS_LIBRARY, "message": ""}
    if not content.strip():
        return {"refused": "no_feed", "message": "the answer is empty"}
    content = _REFERENCE.sub(_possible, content)
    # A guid is no address: resolved, it would be another one wherever the feed moves to.
    feedparser.mixin._FeedParserMixin.can_be_relative_uri.discard("id")  # noqa: SLF001 - there is no option for it
    headers = {"content-location": url, **({"content-type": media_type} if media_type else {})}
    feed = feedparser.parse(io.BytesIO(content), response_headers=headers)
    if not feed.get("version"):
        return {"refused": "no_feed", "message": "the answer is no feed, but perhaps a page for people"}
    error = feed.get("bozo_exception")
    if isinstance(error, feedparser.CharacterEncodingOverride | feedparser.NonXMLContentType):
        error = None  # what the server says of the feed is wrong, and the feed is right
    is_cut_off = error is not None and not _END.search(content[-8192:])
    entries = [_xml_entry(entry, url) for entry in feed.entries]
    return {
        "entries": entries[:-1] if is_cut_off else entries,  # the last may be half
        "fault": None if error is None else f"it is not well-formed: {type(error).__name__}{_place(error)}",
        "is_cut_off": is_cut_off,
        "older": _older(feed.feed.get("links", ()), url),
    }


def _possible(reference: re.Match[bytes]) -> bytes:
    """The reference, or one to a replacement if no document may have its character: the library stops at it.

    Many programs write one character as two of those.
    """
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    may_be = code in (9, 10, 13) or 32 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0xFFFF < code <= 0x10FFFF
    return reference[0] if may_be else b"&#xFFFD;"


def _place(error: Exception) -> str:
    """Where a fault is; its words can hold a piece of the feed."""
    line = getattr(error, "getLineNumber", lambda: None)()
    return "" if line is None else f" in line {line}"


def _older(links: Sequence[Mapping[str, str]], url: str) -> str | None:
    """The page that goes on with older entries: RFC 5005, sections 3 and 4."""
    by_relation = {link.get("rel", ""): link.get("href", "") for link in reversed(links)}
    return _address(url, by_relation.get("next") or by_relation.get("prev-archive"))


def _address(base: str, link: object) -> str | None:
    """Where a link leads; None if that is no address."""
    with suppress(ValueError):
        return urljoin(base, link) if isinstance(link, str) and link else None
    return None


def _xml_entry(entry: dict[str, Any], url: str) -> dict[str, Any]:
    written = entry.get("title_detail") or {}
    title = _words(written.get("value", ""), is_html=written.get("type") in _HTML_TYPES)
    text, is_html = _content(entry)
    # Past the mapping's own `get`, which warns of one time that stands in for another.
    times = [dict.get(entry, name) for name in ("updated_parsed", "published_parsed", "created_parsed")]
    authors = [author.get("name") for author in entry.get("authors", ())] or [entry.get("author")]
    return _entry(
        stated_id=entry.get("id"),
        link=_address(url, entry.get("link")),
        title=title,
        text=text,
        is_html=is_html,
        modified_at=next((_time(time) for time in times if time), None),
        authors=authors,
        tags=[tag.get("label") or tag.get("term") for tag in entry.get("tags", ())],
    )


def _content(entry: Mapping[str, Any]) -> tuple[str, bool]:
    """The entry's content, its summary if it has none; and whether that is HTML."""
    candidates = [*entry.get("content", ()), entry.get("summary_detail") or {}]
    texts = [one for one in candidates if one.get("value", "").strip() and _is_text(one.get("type", ""))]
    best = next((one for one in texts if one.get("type") in _HTML_TYPES), None) or (texts[0] if texts else {})
    text = best.get("value", "")
    # RSS does not say what it is; and what has nothing of HTML is read sooner without its parser.
    return text, best.get("type") in _HTML_TYPES and any(sign in text for sign in "<&")


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in _HTML_TYPES or not media_type


def _time(parsed: struct_time) -> str | None:
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(calendar.timegm(parsed), UTC).isoformat()
    return None


def _read_json_feed(content: bytes, url: str) -> dict[str, Any]:
    try:
        feed = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {"refused": "no_feed", "message": "the answer is no feed, nor whole JSON"}
    items = feed.get("items") if str(feed.get("version", "")).startswith(_JSON_FEED) else None
    if not isinstance(items, list):
        return {"refused": "no_feed", "message": "the answer is JSON, but no feed"}
    older = feed.get("next_url")
    further = _address(url, older)
    fault = None if all(isinstance(item, dict) for item in items) else "it has items that are none"
    if older and further is None:
        fault = "what it names as the page of older entries is no address"
    return {
        "entries": [_json_entry(item, url) for item in items if isinstance(item, dict)],
        "fault": fault,
        "is_cut_off": False,
        "older": further,
    }


def _json_entry(item: Mapping[str, Any], url: str) -> dict[str, Any]:
    said = {name: value for name, value in item.items() if isinstance(value, str)}
    html, plain = said.get("content_html", ""), said.get("content_text") or said.get("summary", "")
    link = said.get("url") or said.get("external_url")
    number = item.get("id")
    authors = item.get("authors") or [item.get("author")]
    return _entry(
        stated_id=str(number) if isinstance(number, int | float) else said.get("id"),
        link=_address(url, link),
        title=_words(said.get("title", ""), is_html=False),
        text=html or plain,
        is_html=bool(html),
        modified_at=_iso_time(said.get("date_modified")) or _iso_time(said.get("date_published")),
        authors=[one.get("name") for one in authors if isinstance(one, dict)] if isinstance(authors, list) else [],
        tags=item["tags"] if isinstance(item.get("tags"), list) else [],
    )


def _iso_time(said: str | None) -> str | None:
    with suppress(ValueError, TypeError, OverflowError):
        time = datetime.fromisoformat(said)  # type: ignore[arg-type]
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return None


def _entry(
    *,
    stated_id: str | None,
    link: str | None,
    title: str,
    text: str,
    is_html: bool,
    modified_at: str | None,
    authors: Sequence[object],
    tags: Sequence[object],
) -> dict[str, Any]:
    shown = _shown(text, is_html=is_html)
    named = [_listed(authors), _listed(tags)]
    key = (stated_id or "").strip() or (link or "").strip()
    return {
        "key": key or f"digest:{_digest([title, modified_at] if title or modified_at else shown)}",
        "digest": _digest([title, shown, is_html, link, *named]),
        "content": _below_title(title, text, is_html=is_html),
        "is_html": is_html,
        "link": link or None,
        "title": title or None,
        "modified_at": modified_at,
        "authors": named[0],
        "tags": named[1],
    }


def _listed(words: Sequence[object]) -> list[str]:
    """The words, each once."""
    texts = (" ".join(word.split()) for word in words if isinstance(word, str))
    return list(dict.fromkeys(text for text in texts if text))


def _below_title(title: str, text: str, *, is_html: bool) -> str:
    """The text with the title above it, unless it begins with that itself."""
    if not title or _words(text[: 4 * len(title) + 1000], is_html=is_html).startswith(title):
        return text
    if is_html:
        return f"<h1>{escape(title)}</h1>\n{text}"
    return f"{title}\n\n{text}" if text.strip() else title


def _digest(value: object) -> str:
    return blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _words(text: str, *, is_html: bool) -> str:
    """The words that a reader sees, on one line."""
    return " ".join(("".join(_Shown(text).words) if is_html else text).split())


def _shown(text: str, *, is_html: bool) -> Sequence[str]:
    """All of `text` that can show in a record: what programs write differently each time is left out."""
    return _Shown(text).parts if is_html else [text]


class _Shown(HTMLParser):
    """The words of `html`, and with its tags its `parts`; of what stands in tags only what they lead to and show."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.parts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        kept = "".join(f" {name}={value}" for name, value in attrs if name in ("href", "src", "alt", "title"))
        self.parts.append(f"<{tag}{kept}>")

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        self.parts.append(data)


def _main() -> None:
    memory_bytes, cpu_s = map(int, sys.argv[1:])
    lower_limit(resource.RLIMIT_AS, memory_bytes)
    lower_limit(resource.RLIMIT_CPU, cpu_s)  # if nobody is left to stop this process, it ends by itself
    lower_limit(resource.RLIMIT_CORE, 0)  # a core would hold the feed
    lower_limit(resource.RLIMIT_FSIZE, 0)
    told = json.loads(sys.stdin.buffer.readline())
    try:
        answer = read_feed(sys.stdin.buffer.read(), url=told["url"], media_type=told["media_type"])
    except RecursionError:
        answer = {"refused": "too_deep", "message": "it is nested too deeply"}
    written = json.dumps(answer, ensure_ascii=False).encode(errors="replace")  # JSON can hold halves of characters
    if len(written) > told["answer_bytes"]:
        written = json.dumps({"refused": "too_large", "message": "it becomes too large when it is read"}).encode()
    sys.stdout.buffer.write(written)


if __name__ == "__main__":
    _main()
