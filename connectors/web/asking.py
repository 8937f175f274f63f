"""Asks for one page, and says what came of it."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit

from anyio import to_thread

from connectors.kit.budget import ErrorBudget
from connectors.kit.http import REDIRECTS, TOO_LARGE, HttpClient, HttpFault, HttpResponse, validators_of
from connectors.web.addresses import folder_of_index_page, target_of
from connectors.web.pages import Page, directives_in, read_page
from connectors.web.robots import Robots
from connectors.web.settings import WebSettings
from connectors.web.visits import Visit

DAY = timedelta(days=1)
GONE = {404, 410}
PERMANENT = {301, 308}

# What no crawler asks for to look for links or text.
_NEVER_READ = """
    .png .jpg .jpeg .gif .webp .svg .ico .bmp .tif .tiff .avif .mp3 .ogg .wav .flac .mp4 .webm .avi .mov .mkv .woff
    .woff2 .ttf .otf .eot .zip .gz .tgz .bz2 .xz .zst .7z .rar .tar .jar .whl .deb .rpm .apk .dmg .iso .exe .msi
    """
NEVER_READ = frozenset(_NEVER_READ.split())
MAY_BE_HTML = {"", ".html", ".htm", ".xhtml", ".shtml", ".php", ".asp", ".aspx", ".jsp"}


@dataclass(frozen=True, slots=True)
class Read:
    """The page was read; or, without `response`, is as it was."""

    visit: Visit
    response: HttpResponse | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """The page leads elsewhere; `target` is None if that is no page of this source."""

    target: str | None
    is_permanent: bool


@dataclass(frozen=True, slots=True)
class Gone:
    """The server says that there is no such page."""


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """The page was not asked for; `reason` is short, to be counted by."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing was learnt of the page. `is_passing` tells that it says nothing of the page, only of the moment."""

    code: str
    message: str
    is_passing: bool = False
    can_have_links: bool = True


Outcome = Read | Moved | Gone | LeftAlone | Failed


class Asking:
    """Asks for pages, as far as their servers permit it."""

    def __init__(self, settings: WebSettings, client: HttpClient, robots: Robots, budget: ErrorBudget) -> None:
        self._settings = settings
        self._scope = settings.scope()
        self._client, self._robots, self._budget = client, robots, budget

    async def ask(self, url: str, before: Visit | None = None, lastmod: str | None = None) -> Outcome:
        """What came of asking for `url`, of which `before` is known and the sitemap says `lastmod`.

        Raises:
            SourceError: it is one too many in a row without an answer.
        """
        lastmod = _settled(lastmod, datetime.now(UTC).date())
        ending = _ending(url)
        if ending in NEVER_READ:
            return LeftAlone(f"unsupported type {ending}")
        try:
            if self._settings.respect_robots_txt and not await self._robots.may_ask(url):
                return LeftAlone("robots.txt")
            if before is not None and self._settings.trust_lastmod and lastmod and before.lastmod == lastmod:
                return Read(before)
            response = await self._client.get(
                url, bytes_max=self._settings.max_bytes, headers=_condition(before), follows_redirects=False
            )
        except HttpFault as fault:
            if fault.is_passing:
                self._budget.failed(fault)
            return self._failed(url, fault)
        self._budget.succeeded()
        return await self._understand(url, response, before, lastmod)

    async def _understand(self, url: str, response: HttpResponse, before: Visit | None, lastmod: str | None) -> Outcome:
        status = response.status
        if status == 200:
            page = await to_thread.run_sync(read_page, response.content, response.media_type)
            return Read(self._visit(url, response, page, lastmod), response)
        if status == 304 and before is not None:
            if self._directives(response):  # which it had not when it was read
                return await self.ask(url, None, lastmod)
            return Read(replace(before, lastmod=lastmod))
        if status in GONE:
            return Gone()
        if status in REDIRECTS:
            location = response.headers.get("location")
            return Moved(self._scope.find(url, location) if location else url, status in PERMANENT)
        return Failed(str(status), f"Cannot read {url}: it answered {status}.")

    def _visit(self, url: str, response: HttpResponse, page: Page, lastmod: str | None) -> Visit:
        said = self._directives(response)
        directives = page.directives | said
        base = target_of(url, page.base) or url
        canonical = self._scope.find(base, page.canonical) if page.canonical else None
        links = {found: None for link in (*page.links, canonical or "") if (found := self._scope.find(base, link))}
        is_blind = not self._settings.start or (self._settings.respect_noindex and "nofollow" in directives)
        etag, last_modified = (None, None) if said else validators_of(response)  # it can go, and the page stay as it is
        original = canonical or folder_of_index_page(url)
        return Visit(
            url,
            etag,
            last_modified,
            response.headers.get("last-modified"),
            lastmod,
            len(response.content),
            page.fingerprint,
            original if original != url else None,
            is_indexed=not (self._settings.respect_noindex and "noindex" in directives),
            has_password_field=page.has_password_field,
            has_end=page.has_end,
            is_blank=page.is_blank,
            links=() if is_blind else tuple(links),
        )

    def _directives(self, response: HttpResponse) -> frozenset[str]:
        """What the server, and not the page, says to crawlers."""
        said = response.headers.get("x-robots-tag", "")
        return directives_in(said) if self._settings.respect_noindex else frozenset()

    def _failed(self, url: str, fault: HttpFault) -> Failed:
        if fault.code != TOO_LARGE:
            return Failed(fault.code, f"Cannot read {url}: {fault}.", is_passing=fault.is_passing)
        return Failed(
            TOO_LARGE,
            f"{url} was not read: it has more than the {self._settings.max_bytes:,} bytes that `source.max_bytes`"
            " allows. Raise it, or leave the page out with `source.exclude`.",
            can_have_links=_ending(url) in MAY_BE_HTML,
        )


def _condition(before: Visit | None) -> dict[str, str]:
    """The headers that ask for a page only if it is not as it was."""
    if before is None:
        return {}
    said = {"If-None-Match": before.etag, "If-Modified-Since": before.last_modified}
    return {name: value for name, value in said.items() if value}


def _settled(lastmod: str | None, today: date) -> str | None:
    """`lastmod`, if a later edit will have another: many name no more than the day, in whatever zone."""
    try:
        return lastmod if lastmod and date.fromisoformat(lastmod[:10]) < today - DAY else None
    except ValueError:
        return None


def _ending(url: str) -> str:
    name = urlsplit(url).path.rpartition("/")[2]
    return name[name.rfind(".") :].lower() if "." in name else ""
