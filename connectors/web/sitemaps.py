"""Sitemaps: lists of a site's pages, and lists of such lists, as sitemaps.org describes them."""

import gzip
import io
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

SITEMAP_BYTES_MAX = 50 * 1024 * 1024  # unpacked; the protocol allows no more
INDEX_DEPTH_MAX = 3  # the protocol allows no index in an index, and sites have them all the same
ADDRESS_CHARS_MAX = 10_000
GZIP = b"\x1f\x8b"


class Entry(NamedTuple):
    """A page, or another sitemap. `lastmod` is what the site says of it, as it stands."""

    url: str
    lastmod: str | None


@dataclass(frozen=True, slots=True)
class Sitemap:
    is_index: bool
    entries: list[Entry]


class BrokenSitemap(Exception):
    """It is not a whole sitemap. The message says why."""


def read_sitemap(content: bytes) -> Sitemap:
    """What a sitemap lists, also if it is packed.

    Raises:
        BrokenSitemap: it is something else, breaks off or is too large.
    """
    if content.startswith(GZIP):
        content = _unpacked(content)
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator="\n")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BrokenSitemap(f"it is no whole XML (line {error.lineno})") from error
    except (ValueError, LookupError) as error:
        raise BrokenSitemap("its encoding is unknown") from error
    return Sitemap(reader.kind == "sitemapindex", reader.entries)


def _unpacked(content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(SITEMAP_BYTES_MAX + 1)
    except EOFError as error:
        raise BrokenSitemap("it is gzip that breaks off") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BrokenSitemap("it is broken gzip") from error
    if len(unpacked) > SITEMAP_BYTES_MAX:
        raise BrokenSitemap(f"it unpacks to more than {SITEMAP_BYTES_MAX:,} bytes")
    return unpacked


def _refuse(*_: object) -> None:
    raise BrokenSitemap("it declares a document type, which no sitemap needs")


@dataclass(slots=True)
class _Reader:
    kind: str = ""
    entries: list[Entry] = field(default_factory=list)
    _depth: int = 0
    _said: dict[str, str] = field(default_factory=dict)
    _name: str = ""

    def start(self, name: str, _attributes: object) -> None:
        self._depth += 1
        name = name.rpartition("\n")[2]
        if self._depth == 1:
            if name not in ("urlset", "sitemapindex"):
                raise BrokenSitemap("it is no sitemap")
            self.kind = name
        elif self._depth == 2:
            self._said = {}
        self._name = name if self._depth == 3 else ""

    def text(self, text: str) -> None:
        if self._name in ("loc", "lastmod"):
            said = self._said.get(self._name, "") + text
            if len(said) > ADDRESS_CHARS_MAX:
                raise BrokenSitemap("it names an address that is too long")
            self._said[self._name] = said

    def end(self, _name: str) -> None:
        if self._depth == 2 and (url := self._said.get("loc", "").strip()):
            self.entries.append(Entry(url, self._said.get("lastmod", "").strip() or None))
        self._depth -= 1
        self._name = ""
