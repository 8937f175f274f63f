"""What a page of HTML says to a crawler, and what of it people read.

Native parsers can be crashed by a page, and the standard library's takes minutes for some; so tags are found here, in
one pass whose time grows with the page's length and nothing else.
"""

import codecs
import hashlib
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.html_elements import main_element

LINKS_MAX = 20_000  # of one page
MAIN_TEXT_CHARS_MIN = 200  # characters below which the parser may find the main element empty, and read the whole page
TEXT_VERSION = "1"  # of what `_shown` keeps: another one has all pages read again

HTML_TYPES = {"text/html", "application/xhtml+xml"}
DIRECTIVES_OF = {"robots", "memsync"}
# What the parser takes along from a page's head.
DESCRIBING = {"description", "author", "keywords", "subject", "date", "dc.date", "dcterms.date", "dcterms.created"}
DESCRIBING |= {"article:published_time"}
CODE = {"pre", "code"}
SAYING, SAID = {*CODE, "ol", "li", "abbr"}, ("class", "start", "value", "type", "title")
UNSEEN = {"html", "head", "body", "base", "link", "meta", "script", "style", "template", "title"}  # as tags

_START = re.compile(r"<(?:!--|([/!?]?)([a-zA-Z][^\s/>]*)|[/!?])")
_TAG_END = re.compile(r"(?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+)*+>")
_ATTRIBUTE = re.compile(r"([^\s\"'>/=]+)(?:\s*+=\s*+(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)))?")
_RAW = {"script", "style", "template", "svg", "textarea", "title", "iframe"}
_META_CHARSET = re.compile(rb"<meta\b[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
# Those of the web in which ASCII is as it is; Python has others that take minutes, or are no encodings of text.
_IS_ENCODING = re.compile(
    r"utf-?8|(us-)?ascii|latin-?1|iso-?8859-?\d+|(windows|cp)-?\d+|koi8-[ru]|mac\w*|gbk?|gb2312|gb18030|big5(-hkscs)?"
    r"|shift[-_]jis|s?jis|euc-(jp|kr|tw)|tis-?620",
    re.IGNORECASE,
).fullmatch
_REFRESH = re.compile(r"[\d.]*\s*[;,]?\s*url\s*=\s*[\"']?([^\"']+)", re.IGNORECASE)
# What has the parser leave an element out.
_LEFT_OUT = re.compile(
    r"\b(?:headerlink|viewcode-link|related|sphinxsidebar|navheader|navfooter|docnav)\b|\baria-hidden\s*=\s*[\"']?true"
    r"|\brole\s*=\s*[\"']?(?:navigation|search|banner|contentinfo)\b",
    re.IGNORECASE,
)
_SPACE = re.compile(r"[ \t\n\r\f]+")


class Tag(NamedTuple):
    """`name` is empty for text. `content` is a tag's attributes as they stand, or the text up to the next tag."""

    name: str
    content: str
    is_closing: bool = False

    def attributes(self) -> dict[str, str]:
        """Of an attribute that stands twice, the first counts, as in browsers."""
        found: dict[str, str] = {}
        for name, double, single, bare in _ATTRIBUTE.findall(self.content):
            found.setdefault(name.lower(), html.unescape(double or single or bare))
        return found


@dataclass(frozen=True, slots=True)
class Page:
    """`links` as they are written, each once, relative to `base` if that is not empty."""

    fingerprint: str
    links: tuple[str, ...] = ()
    base: str = ""
    canonical: str | None = None
    directives: frozenset[str] = frozenset()
    has_password_field: bool = False
    has_end: bool = False  # `</html>`; what is no HTML has it always
    is_blank: bool = False


def read_page(content: bytes, media_type: str | None) -> Page:
    """What `content` says. Of what is no HTML, the fingerprint is of its bytes."""
    essence = (media_type or "").partition(";")[0].strip().lower()
    if not is_html(content, essence):
        return Page(_digest(essence, content), has_end=True, is_blank=not content.strip())
    source = decoded(content, media_type)
    reader = _Reader()
    for tag in tags(source):
        reader.take(tag)
    visible, chars = _visible(source)
    about = "\n".join((*reader.about, visible)).encode("utf-8", "surrogatepass")
    return Page(
        _digest(f"{essence} {TEXT_VERSION}", about),
        tuple(reader.links),
        reader.base,
        reader.canonical,
        frozenset(reader.directives),
        reader.has_password_field,
        reader.has_end,
        is_blank=chars == 0,
    )


def is_html(content: bytes, essence: str) -> bool:
    return essence in HTML_TYPES or (
        not essence and content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))
    )


def directives_in(header: str) -> frozenset[str]:
    """What an X-Robots-Tag says to us: `noindex`, `nofollow`."""
    found: set[str] = set()
    is_for_us = True
    for part in header.lower().split(","):
        agent, colon, directive = part.strip().partition(":")
        if colon and agent not in ("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"):
            is_for_us = agent.strip() in DIRECTIVES_OF
        if is_for_us:
            found |= _directives(directive if colon else agent)
    return frozenset(found)


def decoded(content: bytes, media_type: str | None) -> str:
    """The text of a page. Bytes that have no meaning in its encoding stay apart from each other."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    declared = _CHARSET.search(media_type or "")
    in_page = _META_CHARSET.search(content[:4096])
    name = declared[1] if declared else in_page[1].decode("ascii", "replace") if in_page else "utf-8"
    if not _IS_ENCODING(name) or content.startswith(codecs.BOM_UTF8):
        name = "utf-8"
    try:
        return content.decode(name, "surrogateescape").removeprefix("\ufeff")
    except (LookupError, ValueError):
        return content.decode("utf-8", "surrogateescape")


def tags(source: str) -> Iterator[Tag]:
    """The tags and texts of `source`, in order, without comments, and without what scripts and the like hold."""
    position = 0
    while found := _START.search(source, position):
        if found.start() > position:
            yield Tag("", source[position : found.start()])
        if found[0] == "<!--":
            position = _behind(source, "-->", found.start() + 2)  # `<!-->` is a whole one
            continue
        end = _TAG_END.match(source, found.end())
        if end is None:
            return  # it never ends: browsers drop the rest, too
        position = end.end()
        if not found[2] or found[1] in ("!", "?"):
            continue
        name, attributes = found[2].lower(), end[0][:-1]
        yield Tag(name, attributes, is_closing=found[1] == "/")
        if name in _RAW and found[1] != "/" and not attributes.endswith("/"):
            closing = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(source, position)
            behind = closing.start() if closing else len(source)
            if name in ("title", "textarea"):
                yield Tag("", source[position:behind])
            position = behind
    if position < len(source):
        yield Tag("", source[position:])


class _Reader:
    """Gathers what the tags of a page say to a crawler."""

    def __init__(self) -> None:
        self.links: dict[str, None] = {}
        self.base = ""
        self.canonical: str | None = None
        self.directives: set[str] = set()
        self.about: list[str] = []  # of the page's head: what records may show
        self.has_password_field = self.has_end = False
        self._is_in_title = self._has_title = False

    def take(self, tag: Tag) -> None:
        match tag.name:
            case "":
                if self._is_in_title:
                    self.about.append(f"title {' '.join(html.unescape(tag.content).split())}")
                    self._is_in_title, self._has_title = False, True
            case "html" if tag.is_closing:
                self.has_end = True
            case "title":
                self._is_in_title = not tag.is_closing and not self._has_title
            case "a" | "area" if not tag.is_closing:
                self._add(tag.attributes().get("href"))
            case "iframe" | "frame" if not tag.is_closing:
                self._add(tag.attributes().get("src"))
            case "base" if not self.base:
                self.base = tag.attributes().get("href", "")
            case "link" if self.canonical is None:
                attributes = tag.attributes()
                if "canonical" in attributes.get("rel", "").lower().split():
                    self.canonical = attributes.get("href")
            case "meta":
                self._take_meta(tag.attributes())
            case "input" if not self.has_password_field:
                self.has_password_field = tag.attributes().get("type", "").lower() == "password"

    def _take_meta(self, attributes: dict[str, str]) -> None:
        name, said = (attributes.get("name") or attributes.get("property", "")).lower(), attributes.get("content", "")
        if name in DIRECTIVES_OF:
            self.directives |= {directive for part in said.lower().split(",") for directive in _directives(part)}
        elif name in DESCRIBING:
            self.about.append(f"{name} {said}")
        elif attributes.get("http-equiv", "").lower() == "refresh" and (found := _REFRESH.match(said)):
            self._add(found[1])

    def _add(self, link: str | None) -> None:
        link = (link or "").partition("#")[0].strip()
        if link and len(self.links) < LINKS_MAX:
            self.links.setdefault(link)


def _directives(said: str) -> set[str]:
    match said.strip():
        case "none":
            return {"noindex", "nofollow"}
        case "noindex" | "nofollow" as directive:
            return {directive}
    return set()


def _visible(source: str) -> tuple[str, int]:
    """What people read of a page's main element, or of the page, and how it is set, at least all that the parser keeps;
    and how many characters of it are text."""
    main = main_element(source)
    if main is not None:
        shown, chars = _shown(main)
        if chars >= MAIN_TEXT_CHARS_MIN:
            return shown, chars
    return _shown(source)


def _shown(source: str) -> tuple[str, int]:
    """Texts and the names of tags. Other attributes than those that show are left out: builds change them."""
    pieces: list[str] = []
    chars = depth = 0  # in elements in which white space counts
    for tag in tags(source):
        if not tag.name:
            text = html.unescape(tag.content)
            pieces.append(text if depth else _SPACE.sub(" ", text))
            chars += len(text.strip())
            continue
        if tag.name in UNSEEN:
            continue
        if tag.name in CODE:
            depth = max(depth + (-1 if tag.is_closing else 1), 0)
        said = tag.attributes() if tag.content and tag.name in SAYING else {}
        shown = "".join(f" {said[name]}" for name in SAID if name in said)
        if tag.content:
            shown += "".join(sorted({f" {sign}" for sign in _LEFT_OUT.findall(tag.content)}))
        pieces.append(f"<{'/' if tag.is_closing else ''}{tag.name}{shown}>")
    return "".join(pieces), chars


def _digest(kind: str, content: bytes) -> str:
    return hashlib.blake2b(kind.encode() + b"\0" + content, digest_size=20).hexdigest()


def _behind(source: str, marker: str, position: int) -> int:
    found = source.find(marker, position)
    return found + len(marker) if found >= 0 else len(source)
