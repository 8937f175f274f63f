"""What answers at a web address: a feed, a sitemap, an API, or a page of a site."""

import json
import re
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

import anyio

from connectors.kit.http import HttpClient, HttpFault, HttpResponse, HttpSettings
from connectors.web.addresses import folder_of, origin_of
from pipeline.starting.addresses import Place, is_private, slug
from pipeline.starting.apis import described_api, secret_of
from pipeline.starting.draft import Setting, source_setting

LOOK_S = 20.0
LOOK_BYTES_MAX = 20 * 1024 * 1024

_ROOT = re.compile(rb"<(?!\?|!)(?:\w+:)?(\w+)")  # the first element, whatever its namespace is called
_FEEDS, _SITEMAPS = {b"rss", b"feed", b"rdf"}, {b"urlset", b"sitemapindex"}
_NAMES_SITEMAPS = re.compile(rb"^\s*sitemap\s*:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_SITEMAP_NAME = re.compile(r"/(robots\.txt|[^/]*sitemap[^/]*\.xml(\.gz)?)$", re.IGNORECASE)
_FEED_NAME = re.compile(r"[/.](feed|rss|atom)(\.xml)?/?$", re.IGNORECASE)
_JSON_FEED = "https://jsonfeed.org/version/"


async def place_behind(url: str) -> Place:
    """What is at `url`. If nothing answers, its name has to tell: the look at the source will say more."""
    host = urlsplit(url).hostname or ""
    http = HttpSettings(allow_private_hosts=is_private(host), timeout_s=10.0)
    client = HttpClient(http, [url])
    try:
        with anyio.move_on_after(LOOK_S):
            return _with_private_host(await _place(client, url), host)
    except HttpFault:
        pass
    finally:
        await client.aclose()
    return place_by_name(url)


def place_by_name(url: str) -> Place:
    """What is at `url` by its name alone."""
    parts = urlsplit(url)
    name, host = slug(parts.hostname or "site"), parts.hostname or ""
    if _SITEMAP_NAME.search(parts.path):
        return _with_private_host(_sitemap(url, name), host)
    if _FEED_NAME.search(parts.path):
        return _with_private_host(_feed(url, name), host)
    return _with_private_host(_page(url), host)


async def _place(client: HttpClient, url: str) -> Place:
    response = await client.get(url, bytes_max=LOOK_BYTES_MAX)
    name = slug(urlsplit(url).hostname or "site")
    if response.status != 200:
        return _page(url)
    if (described := _json(response)) is not None:
        if isinstance(described, dict) and str(described.get("version", "")).startswith(_JSON_FEED):
            return _feed(url, name)
        return _api(url, name, described_api(url, described, response.headers.get("link", "")))
    root = _root(response)
    if root in _FEEDS:
        return _feed(url, name)
    if root in _SITEMAPS or (urlsplit(url).path == "/robots.txt" and _NAMES_SITEMAPS.search(response.content)):
        return _sitemap(url, name)
    return await _sitemaps_of(client, url) or _page(url)


def _api(url: str, name: str, settings: tuple[Setting, ...]) -> Place:
    found = secret_of(url)
    if found is None:
        return Place("rest", "Records of an API", name, settings)
    login, secret = found
    variable = ("source", "auth", "key_variable")
    return Place("rest", "Records of an API", name, (*settings, login), secret, variable)


def _json(response: HttpResponse) -> object:
    """What the answer says if it is JSON; None if it is not."""
    if response.content.lstrip()[:1] not in (b"{", b"["):
        return None
    try:
        found: object = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return found


def _root(response: HttpResponse) -> bytes | None:
    found = _ROOT.search(response.content[:65_536])
    return found[1].lower() if found else None


async def _sitemaps_of(client: HttpClient, url: str) -> Place | None:
    """The site of the page, by its sitemaps, if it has any."""
    name = slug(urlsplit(url).hostname or "site")
    robots = await _answer(client, urljoin(url, "/robots.txt"))
    if robots is not None and any(
        _origin(urljoin(url, found.decode(errors="replace"))) == _origin(url)
        for found in _NAMES_SITEMAPS.findall(robots.content)
    ):
        return _sitemap(urljoin(url, "/robots.txt"), name, within=url, why="the sitemaps that robots.txt names")
    sitemap = await _answer(client, urljoin(url, "/sitemap.xml"))
    if sitemap is not None and _root(sitemap) in _SITEMAPS:
        return _sitemap(urljoin(url, "/sitemap.xml"), name, within=url)
    return None


async def _answer(client: HttpClient, url: str) -> HttpResponse | None:
    try:
        response = await client.get(url, bytes_max=LOOK_BYTES_MAX)
    except HttpFault:
        return None
    return response if response.status == 200 else None


def _origin(url: str) -> str | None:
    try:
        return origin_of(url)
    except ValueError:
        return None


def _page(url: str) -> Place:
    start = source_setting("start", [url], "links are followed from here, within the same folder")
    return Place("web", "Pages of a website", slug(urlsplit(url).hostname or "site"), (start,))


def _feed(url: str, name: str) -> Place:
    keep = source_setting("keep", "forever", "a feed shows only its latest entries; `listed` removes the others")
    return Place("feed", "Entries of a feed", name, (source_setting("urls", [url]), keep))


def _sitemap(url: str, name: str, *, within: str | None = None, why: str = "the pages that are listed there") -> Place:
    settings = [source_setting("sitemaps", [url], why)]
    if within is not None and (folder := folder_of(within)) != origin_of(within):
        settings.append(source_setting("prefixes", [folder], "pages below this address alone"))
    return Place("web", "Pages of a website", name, tuple(settings))


def _with_private_host(place: Place, host: str) -> Place:
    if not is_private(host):
        return place
    permission = Setting(
        ("source", "http", "allow_private_hosts"), True, "that host can be reached from your network or machine only"
    )
    return replace(place, settings=(*place.settings, permission))
