"""Addresses of pages: one spelling for each, and which of them are a source's own."""

import re
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from connectors.kit.http import check_url
from connectors.patterns import Patterns

ADDRESS_CHARS_MAX = 2_000  # what browsers and servers are sure to take
USUAL_PORT = {"http": 80, "https": 443}
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
IN_PATH, IN_QUERY = "/:@!$&'()*+,;=~%", "/?:@!$&'()*+,;=~%"

_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INDEX_PAGE = re.compile(r"/index\.(?:html?|php)$")
_WHITESPACE = re.compile(r"[\t\n\r]")


def normalise(url: str) -> str:
    """The one spelling of a page's address: what servers must take for the same is the same.

    Scheme and host in small letters, no usual port, no fragment, no dot segments, escaped only what must be.

    Raises:
        ValueError: it is no address of a web server, or too long.
    """
    parts = urlsplit(_WHITESPACE.sub("", url.strip()))
    host, port = parts.hostname or "", parts.port
    try:
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("is not a URL") from None
    host = f"[{host}]" if ":" in host else host
    user = parts.netloc.rpartition("@")[0]
    place = f"{user}@{host}" if user else host  # which is refused below
    if port is not None and port != USUAL_PORT.get(parts.scheme):
        place = f"{place}:{port}"
    path = _without_dots(_escaped(parts.path, IN_PATH)) or "/"
    found = urlunsplit((parts.scheme, place, path, _escaped(parts.query, IN_QUERY), ""))
    if len(found) > ADDRESS_CHARS_MAX:
        raise ValueError(f"is longer than {ADDRESS_CHARS_MAX:,} characters")
    return check_url(found)


def target_of(base: str, link: str) -> str | None:
    """Where a link leads from `base`, in its one spelling; None if to no page."""
    try:
        return normalise(urljoin(base, _WHITESPACE.sub("", link.strip())))
    except ValueError:
        return None


def folder_of(url: str) -> str:
    """The address up to the last slash of its path."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0] + "/", "", ""))


def origin_of(url: str) -> str:
    """The address of the top of a page's server."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, "/", "", ""))


def folder_of_index_page(url: str) -> str | None:
    """The address that usually gives the same page as `.../index.html`; None for another."""
    return _INDEX_PAGE.sub("/", url) if _INDEX_PAGE.search(url) else None


def _escaped(text: str, allowed: str) -> str:
    def plain(found: re.Match[str]) -> str:
        code = int(found[1], 16)
        return chr(code) if code in UNRESERVED else f"%{found[1].upper()}"

    encoded = _BARE_PERCENT.sub("%25", text).encode("utf-8", "surrogateescape")  # bytes that were no text
    return quote(_ESCAPED.sub(plain, quote(encoded, safe=allowed)), safe=allowed)


def _without_dots(path: str) -> str:
    kept: list[str] = []
    steps = path.split("/")
    for step in steps:
        if step == "..":
            if len(kept) > 1:
                kept.pop()
        elif step != ".":
            kept.append(step)
    if steps[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)


class Scope:
    """Which pages are a source's own."""

    def __init__(
        self,
        prefixes: Sequence[str],
        include: Sequence[str],
        exclude: Sequence[str],
        query_keep: Collection[str] | None,
        query_drop: Collection[str],
    ) -> None:
        self._prefixes = tuple(prefixes)
        self._include = None if list(include) == ["**/*"] else Patterns(include)
        self._exclude = Patterns(exclude)
        self._query_keep, self._query_drop = query_keep, query_drop

    def find(self, base: str, link: str) -> str | None:
        """The page of this source that a link on the page `base` leads to; None if it leads elsewhere."""
        url = target_of(base, link)
        if url is None or not url.startswith(self._prefixes):
            return None
        url = self._without_parameters(url)
        return None if self._excludes(url) else url

    def holds(self, url: str) -> bool:
        """Whether a page of this address could be a document, and the address is spelt as an id is."""
        return self.find(url, url) == url and self.lists(url)

    def lists(self, url: str) -> bool:
        """Whether a page that was found is a document, and not only a way to others."""
        is_included = self._include is None or self._include.last_match(_path(url), or_above=True)
        return bool(is_included) and not self._excludes(url)

    def _excludes(self, url: str) -> bool:
        return bool(self._exclude.last_match(_path(url), or_above=True))

    def _without_parameters(self, url: str) -> str:
        address, question, query = url.partition("?")
        if not question:
            return url
        kept = "&".join(part for part in query.split("&") if part and self._keeps(part.partition("=")[0]))
        return f"{address}?{kept}" if kept else address

    def _keeps(self, name: str) -> bool:
        if self._query_keep is not None and not any(fnmatchcase(name, pattern) for pattern in self._query_keep):
            return False
        return not any(fnmatchcase(name.lower(), pattern) for pattern in self._query_drop)


def _path(url: str) -> str:
    """The path as patterns see it, without the slash that it begins with."""
    return unquote(urlsplit(url).path).removeprefix("/")
