"""Documents that are pages of a website, found by its sitemaps or by following its links."""

import hashlib
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import anyio
from anyio import to_thread

from connectors.kit.budget import ErrorBudget
from connectors.kit.http import HttpClient, HttpFault, http_time
from connectors.kit.packages import extra_for
from connectors.web.addresses import target_of
from connectors.web.asking import Asking, Failed, Gone, LeftAlone, Moved, Outcome, Read
from connectors.web.pages import TEXT_VERSION
from connectors.web.robots import Robots
from connectors.web.settings import WebSettings, is_robots_txt
from connectors.web.sitemaps import INDEX_DEPTH_MAX, SITEMAP_BYTES_MAX, BrokenSitemap, read_sitemap
from connectors.web.visits import Visit, Visits, Waiting, faults_told
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument, ungrouped
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    DocumentSkipped,
    Fingerprint,
    ScanComplete,
    ScanError,
    SourceEvent,
)

CACHE_FOLDER = Path(".memsync", "web")
WAVE = 32  # pages that are asked for, or wait for their turn, at a time
COPIES_AT_ONCE = 500
KEPT_BYTES_MAX = 32 * 1024 * 1024  # of packed content between scan and fetch
STEPS_MAX = 5  # redirects that lead from one to the next
ERRORS_MAX = 100  # that are told one by one
SITE_IS_THERE_S = 10.0

LOGIN, BLANK, BROKEN_OFF, SAME_TEXT = "login_page", "blank", "broken_off", "same_text"
BELIEVED_LATER = {BROKEN_OFF, SAME_TEXT}  # if the next run finds the same; the others cost a page all its text
REDIRECTED, REDIRECT_LOOP, LEFT_ALONE = "redirected", "redirect_loop", "left_alone"
NO_START, BROKEN_SITEMAP, NO_ORIGINAL = "no_start", "broken_sitemap", "no_original"
TOO_MANY, TOO_MANY_ERRORS = "too_many_pages", "too_many_errors"


class WebConnector:
    """Every page that the settings take in is a document; its address, in one spelling, is its id.

    A scan asks for every page, with what the server said of it last time, so that an unchanged page costs an answer
    without content. A page's fingerprint is of what people read of it. It is complete if every sitemap was read to its
    end, and, where links are followed, every page that may have some. What is new is kept at hand for the fetch.

    A page is gone if it is not listed and its server says so (404 or 410); if a page that is listed has its very text
    and takes its place, by a permanent redirect or as its canonical page; or if a second complete scan in a row does
    not list it. There are no checkpoints.
    """

    settings_model: ClassVar[type[WebSettings]] = WebSettings

    @staticmethod
    def missing_packages(settings: WebSettings) -> Sequence[str]:  # noqa: ARG004 - whatever they are
        """The library that reads robots.txt."""
        return extra_for("web", "protego")

    def __init__(self, settings: WebSettings, base_folder: Path) -> None:
        self._settings = settings
        self._scope = settings.scope()
        self._site = (settings.start or settings.sitemaps)[0]
        self._client = HttpClient(settings.http, (*settings.all_prefixes, *settings.start, *settings.sitemaps))
        self._robots = Robots(self._client, settings.http.user_agent)
        self._asking = Asking(settings, self._client, self._robots, ErrorBudget(f"The site {self._site!r}"))
        identity = TEXT_VERSION + settings.model_dump_json(exclude={"http", "max_pages", "max_bytes", "trust_lastmod"})
        self._path = base_folder / CACHE_FOLDER / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.sqlite"
        self._opened: Visits | None = None
        self._kept = _Kept()
        self._is_listed_to_end = False
        self._site_seen_at: float | None = None

    async def aclose(self) -> None:
        """Close the connections and the file. They are opened again if more is asked for."""
        self._kept = _Kept()
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        await self._client.aclose()

    @property
    def _visits(self) -> Visits:
        if self._opened is None:
            self._opened = Visits(self._path)
        return self._opened

    # ------------------------------------------------------------------------------------------- listing

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the pages of the sitemaps and of `start` first, then what they lead to, link by link."""
        with faults_told(self._path):
            async with aclosing(self._list()) as listed:
                async for events in listed:
                    yield events

    async def _list(self) -> AsyncGenerator[Sequence[SourceEvent], None]:
        self._is_listed_to_end = False
        self._kept = _Kept()
        self._robots.forget()
        self._visits.begin()
        scan = _Scan(hides_others=bool(self._settings.start))
        events: list[SourceEvent] = []
        for url in self._settings.sitemaps:
            events += await self._read_sitemaps(url, scan)
        events += self._find([(url, None) for url in self._settings.start], 0, scan)
        if events:
            yield events
        while wave := self._visits.next(WAVE):
            outcomes = await self._ask_all(wave)
            events = [
                event
                for waiting, outcome in zip(wave, outcomes, strict=True)
                for event in self._take(waiting, outcome, scan)
            ]
            if events:
                yield events
        lost = self._lost_starts(scan)
        scan.require_pages(self._site)
        for events in (lost, self._loops(scan), *self._copies(scan)):
            if events:
                yield events
        if scan.is_complete:
            self._is_listed_to_end = True
            yield [ScanComplete("")]

    async def _read_sitemaps(self, url: str, scan: "_Scan") -> list[SourceEvent]:
        """Find the pages that a sitemap lists, and those that it names."""
        events: list[SourceEvent] = []
        pending: list[tuple[str, tuple[str, ...]]] = [(url, ())]  # each with those that lead to it
        while pending and not scan.is_full:
            url, above = pending.pop()
            if url in scan.sitemaps:
                continue
            scan.sitemaps.add(url)
            try:
                named, pages = await self._read_sitemap(url, above)
            except (HttpFault, BrokenSitemap) as error:
                code = error.code if isinstance(error, HttpFault) else BROKEN_SITEMAP
                events += scan.failed("", code, f"The sitemap {url} cannot be read: {error}.")
            else:
                pending += [(name, (*above, url)) for name in reversed(named)]
                events += self._find(pages, 0, scan)
        return events

    async def _read_sitemap(self, url: str, above: Collection[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
        """The sitemaps that a sitemap names, and the pages that it lists, each with its lastmod.

        Raises:
            HttpFault, BrokenSitemap: it could not be read to its end.
        """
        if len(above) > INDEX_DEPTH_MAX:
            raise BrokenSitemap("sitemaps lead from one to the next")
        if is_robots_txt(url):
            said = await self._robots.sitemaps(url)
        else:
            response = await self._client.get(url, bytes_max=SITEMAP_BYTES_MAX)
            if response.status != 200:
                raise HttpFault(str(response.status), f"it answered {response.status}", is_passing=False)
            sitemap = await to_thread.run_sync(read_sitemap, response.content)
            if not sitemap.is_index:
                found = [(self._scope.find(url, entry.url), entry.lastmod) for entry in sitemap.entries]
                pages = [(page, lastmod) for page, lastmod in found if page is not None]
                if found and not pages:
                    raise BrokenSitemap(
                        f"it lists {len(found):,} addresses, of which `source.prefixes` and `source.exclude` leave"
                        f" none; the first is {sitemap.entries[0].url!r}"
                    )
                return [], pages
            said = [entry.url for entry in sitemap.entries]
        named = [name for each in said if (name := target_of(url, each))]
        if len(named) < len(said) or not said:
            raise BrokenSitemap("it names no sitemap" if not said else "it names a sitemap by what is no address")
        if {*named} <= {url, *above}:
            raise BrokenSitemap("sitemaps lead round in circles")
        return named, []

    def _find(self, pages: Iterable[tuple[str, str | None]], depth: int, scan: "_Scan") -> list[SourceEvent]:
        """Have pages asked for, unless they were found before; returns what is to be told if they are too many."""
        if self._visits.add(pages, depth, pages_max=self._settings.max_pages) or scan.is_full:
            return []
        scan.is_full = True
        return scan.failed(
            "",
            TOO_MANY,
            f"{self._site} has more than the {self._settings.max_pages:,} pages that `source.max_pages` allows; the"
            " others were not asked for. Raise it, or leave pages out with `source.exclude` or `source.query_keep`.",
        )

    async def _ask_all(self, wave: Sequence[Waiting]) -> list[Outcome]:
        """Ask for pages, several at once."""
        outcomes: list[Outcome] = [Gone()] * len(wave)

        async def ask(position: int, waiting: Waiting) -> None:
            before = self._visits.last(waiting.url)
            outcomes[position] = await self._asking.ask(waiting.url, before, waiting.lastmod)

        with ungrouped():
            async with anyio.create_task_group() as tasks:
                for position, waiting in enumerate(wave):
                    tasks.start_soon(ask, position, waiting)
        return outcomes

    def _take(self, waiting: Waiting, outcome: Outcome, scan: "_Scan") -> list[SourceEvent]:
        """Remember what was learnt of a page, and tell it."""
        url, is_start = waiting.url, waiting.url in self._settings.start
        match outcome:
            case Read():
                scan.has_page = True
                return self._take_page(waiting, outcome, scan)
            case Moved():
                return self._take_moved(waiting, outcome, scan)
            case Gone() if is_start:
                return scan.failed("", NO_START, f"There is no page {url}, which `source.start` names.")
            case LeftAlone(reason) if is_start:
                return scan.failed("", NO_START, f"{url}, which `source.start` names, may not be asked for: {reason}.")
            case Gone():
                self._visits.forget(url)
                return [DocumentSkipped(DocumentId(url), "broken link")]
            case LeftAlone(reason):
                return [DocumentSkipped(DocumentId(url), reason)]
            case Failed():
                return self._take_failure(waiting, outcome, scan)

    def _take_page(self, waiting: Waiting, read: Read, scan: "_Scan") -> list[SourceEvent]:
        visit = read.visit
        before = self._visits.last(visit.url)
        doubt = self._doubt(before, visit)
        if doubt is not None and not (
            doubt.code in BELIEVED_LATER and self._visits.is_believed(visit.url, visit.fingerprint)
        ):
            return self._take_failure(waiting, doubt, scan)
        if before is None or before.fingerprint != visit.fingerprint:
            self._kept.put(read)
        self._visits.note(visit)
        events = self._follow(waiting, visit, scan)
        if not self._scope.lists(visit.url):
            return events
        if not visit.is_indexed:
            return [*events, DocumentSkipped(DocumentId(visit.url), "noindex")]
        if visit.canonical is not None:
            return events  # told when all others are known: see `_copies`
        self._visits.note_listed(visit.url)
        return [*events, _ref(visit)]

    def _take_moved(self, waiting: Waiting, moved: Moved, scan: "_Scan") -> list[SourceEvent]:
        url = waiting.url
        if moved.target == url:
            return self._take_failure(waiting, Failed(REDIRECT_LOOP, f"{url} leads to itself."), scan)
        if not moved.is_permanent and self._visits.was_listed(url) and not self._visits.was_moved(url):
            fault = Failed(
                REDIRECTED,
                f"{url} was a page and leads elsewhere for the time being, perhaps to a login. If that is right, leave"
                " it out with `source.exclude`.",
            )
            return self._take_failure(waiting, fault, scan)
        if moved.target is None:
            if url in self._settings.start:
                return scan.failed("", NO_START, f"{url}, which `source.start` names, leads out of `source.prefixes`.")
            return [DocumentSkipped(DocumentId(url), "redirected elsewhere")]
        self._visits.note_moved(url, moved.target)
        return self._find([(moved.target, None)], waiting.depth, scan)

    def _take_failure(self, waiting: Waiting, failure: Failed, scan: "_Scan") -> list[SourceEvent]:
        before = self._visits.last(waiting.url)
        events = self._follow(waiting, before, scan) if before is not None else []  # what it led to can be read
        return events + scan.failed(waiting.url, failure.code, failure.message, can_have_links=failure.can_have_links)

    def _follow(self, waiting: Waiting, visit: Visit, scan: "_Scan") -> list[SourceEvent]:
        if waiting.depth >= self._settings.max_depth:
            return []
        return self._find([(link, None) for link in visit.links], waiting.depth + 1, scan)

    def _lost_starts(self, scan: "_Scan") -> list[SourceEvent]:
        """Tell of pages to start from that lead to no page."""
        events: list[SourceEvent] = []
        for url in self._settings.start:
            at = url
            for _ in range(STEPS_MAX):
                at = self._visits.moved_to(at) or at
            if at != url and not self._visits.is_seen(at):
                events += scan.failed("", NO_START, f"{url}, which `source.start` names, leads to no page.")
        return events

    def _loops(self, scan: "_Scan") -> list[SourceEvent]:
        """Tell of redirects that lead from one to the next and to no page: what was there may be there still."""
        events: list[SourceEvent] = []
        for url in self._visits.moved():
            at: str | None = url
            for _ in range(STEPS_MAX + 1):
                at = self._visits.moved_to(at) if at is not None else None
            if at is not None:
                events += scan.failed(url, REDIRECT_LOOP, f"{url} leads from one address to the next.")
        return events

    def _copies(self, scan: "_Scan") -> Iterator[list[SourceEvent]]:
        """Tell of the pages that may be copies of others."""
        after = ""
        while copies := self._visits.copies(after, COPIES_AT_ONCE):
            after = copies[-1].url
            yield [event for copy in copies if self._scope.lists(copy.url) for event in self._take_copy(copy, scan)]

    def _take_copy(self, copy: Visit, scan: "_Scan") -> list[SourceEvent]:
        if self._has_original(copy):
            return [DocumentSkipped(DocumentId(copy.url), "copy of another page")]
        if copy.canonical in scan.failures and not self._visits.was_listed(copy.url):
            return scan.failed(copy.url, NO_ORIGINAL, f"{copy.url} is a copy of a page that could not be read.")
        self._visits.note_listed(copy.url)
        return [_ref(copy)]

    def _has_original(self, copy: Visit) -> bool:
        """Whether a page with the same text, that is no copy itself, is listed in its place."""
        if copy.canonical is None or not self._visits.is_listed(copy.canonical):
            return False
        original = self._visits.last(copy.canonical)
        return original is not None and original.canonical is None and original.fingerprint == copy.fingerprint

    def _doubt(self, before: Visit | None, now: Visit) -> Failed | None:
        """Why an answer is hardly the page that was asked for; None if it may be."""
        if before is None or before.fingerprint == now.fingerprint:
            return None
        otherwise = f"If it is meant to be so, leave the page out with `source.exclude`, or remove {self._path}."
        if now.has_password_field and not before.has_password_field:
            return Failed(LOGIN, f"{now.url} asks for a password and did not before, as a login page does. {otherwise}")
        if now.is_blank and not before.is_blank:
            return Failed(BLANK, f"{now.url} had a text and has none. {otherwise}")
        once_more = "That is believed if the next run finds the same."
        if before.has_end and not now.has_end:
            return Failed(BROKEN_OFF, f"{now.url} breaks off. {once_more}")
        if self._visits.is_new_text_of_another(now.url, now.fingerprint):
            return Failed(SAME_TEXT, f"{now.url} has changed to the very text of another page. {once_more}")
        return None

    # ------------------------------------------------------------------------------------------ locating

    def trace(self, ref: DocumentRef) -> str | None:
        return ref.fingerprint  # of its text, whatever its address

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the page as it is now; None if it is gone, as the class says, or the settings leave it out."""
        with faults_told(self._path):
            return await self._locate(document)

    async def _locate(self, document: DocumentId) -> DocumentRef | None:
        if not self._scope.holds(document):
            return None
        before = self._visits.last(document)
        outcome, url = await self._asking.ask(document), str(document)
        for _ in range(STEPS_MAX):
            if not isinstance(outcome, Moved) or not outcome.is_permanent or outcome.target is None:
                break
            url = outcome.target
            outcome = await self._asking.ask(url)
        match outcome:
            case Gone():
                await self._require_site(document)
                return None
            case Failed() if outcome.is_passing or not self._is_listed_to_end:
                raise SourceError(f"Cannot tell whether {document!r} is still there: {outcome.message}")
            case Read(visit):
                return self._located(document, before, visit)
            case Moved(_, is_permanent) if not is_permanent:
                return _unread(document)
            case _:
                return None if self._is_missed_again(document) else _unread(document)

    def _located(self, document: DocumentId, before: Visit | None, visit: Visit) -> DocumentRef | None:
        """What a document is of which a page was found: its own, or one that took its place."""
        there = _ref(visit) if visit.url == document else _unread(document)
        if self._visits.is_listed(document) or self._is_stand_in(document, before, visit):
            return there
        if self._is_replaced(before, visit, document):
            return None
        # The scan found the way to it, and was told that it is gone: so it comes and goes.
        is_flickering = visit.url == document and visit.is_indexed and self._visits.is_found(document)
        return None if not is_flickering and self._is_missed_again(document) else there

    def _is_stand_in(self, document: DocumentId, before: Visit | None, visit: Visit) -> bool:
        """Whether the page looks like what a site gives for whatever it is asked for, such as a login page."""
        if before is not None and before.fingerprint != visit.fingerprint:
            if self._doubt(before, replace(visit, url=str(document))) is not None:
                return True
            if self._visits.is_text_of_another({document, visit.url}, visit.fingerprint):
                return True
        return visit.url != document and any(self._visits.moved_to(url) == visit.url for url in self._settings.start)

    def _is_replaced(self, before: Visit | None, visit: Visit, document: DocumentId) -> bool:
        """Whether all that the document said is in another one that is listed."""
        if visit.url == document:
            return self._has_original(visit)
        return before is not None and before.fingerprint == visit.fingerprint and self._visits.is_listed(visit.url)

    def _is_missed_again(self, document: DocumentId) -> bool:
        """Whether the scan before was complete without the document, and one before it, too."""
        return self._is_listed_to_end and self._visits.is_missed_again(document)

    async def _require_site(self, document: DocumentId) -> None:
        """Make sure that a page that is not there is missing from a site that is."""
        now = anyio.current_time()
        if self._site_seen_at is not None and now - self._site_seen_at < SITE_IS_THERE_S:
            return
        try:
            response = await self._client.get(self._site, bytes_max=max(self._settings.max_bytes, SITEMAP_BYTES_MAX))
        except HttpFault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault
        if response.status != 200:
            raise SourceError(
                f"Cannot tell whether {document!r} is still there: {self._site} answered {response.status}."
            )
        self._site_seen_at = now

    # ------------------------------------------------------------------------------------------ fetching

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the page's content, as the scan read it if that is still at hand."""
        kept = self._kept.take(ref.id)
        if kept is not None:
            return kept
        with faults_told(self._path):
            return await self._read_again(ref)

    async def _read_again(self, ref: DocumentRef) -> Document:
        match await self._asking.ask(ref.id):
            case Read(visit, response):
                assert response is not None
                doubt = self._doubt(self._visits.last(ref.id), visit)
                if doubt is not None:
                    raise UnreadableDocument(doubt.code, doubt.message)
                return Document(_ref(visit), response.content, response.media_type)
            case Gone():
                await self._require_site(ref.id)
                raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.")
            case LeftAlone(reason):
                raise UnreadableDocument(LEFT_ALONE, f"{ref.id!r} may not be asked for: {reason}.")
            case Moved():
                raise UnreadableDocument(REDIRECTED, f"{ref.id!r} was listed as a page and leads elsewhere now.")
            case Failed(code, message):
                raise UnreadableDocument(code, message)


@dataclass(slots=True)
class _Scan:
    """What a scan under way has come to. `hides_others` tells that a page may be the only one that leads to others."""

    hides_others: bool
    is_complete: bool = True
    is_full: bool = False
    has_page: bool = False
    sitemaps: set[str] = field(default_factory=set)
    failures: set[str] = field(default_factory=set)
    first: str = ""
    is_told: bool = False  # that there are too many to be told

    def failed(self, scope: str, code: str, message: str, *, can_have_links: bool = True) -> list[SourceEvent]:
        """Take note of what could not be read; returns what to tell of it."""
        self.first = self.first or message
        self.failures.add(scope)
        if len(self.failures) > ERRORS_MAX:
            told, self.is_complete, self.is_told = self.is_told, False, True
            return [] if told else [ScanError("", TOO_MANY_ERRORS, f"More than {ERRORS_MAX} pages cannot be read.")]
        if not scope or (self.hides_others and can_have_links):
            self.is_complete = False
        return [ScanError(scope, code, message)]

    def require_pages(self, site: str) -> None:
        """Tell a site that is not there from one of which a part cannot be read.

        Raises:
            SourceError: not a single page was read, and something failed.
        """
        if self.first and not self.has_page:
            raise SourceError(
                f"{self.first} No page of {site} could be read. Nothing was concluded from that. Check `source.start`"
                " and `source.sitemaps`, and that the site answers."
            )


class _Kept:
    """Content that a scan read, packed, for the fetch that follows. If it becomes too much, the oldest goes."""

    def __init__(self) -> None:
        self._by_url: OrderedDict[str, tuple[Visit, bytes, str | None]] = OrderedDict()
        self._bytes = 0

    def put(self, read: Read) -> None:
        assert read.response is not None
        packed = zlib.compress(read.response.content, 1)
        self._by_url[read.visit.url] = read.visit, packed, read.response.media_type
        self._bytes += len(packed)
        while self._bytes > KEPT_BYTES_MAX:
            _, (_, oldest, _) = self._by_url.popitem(last=False)
            self._bytes -= len(oldest)

    def take(self, url: str) -> Document | None:
        visit, packed, media_type = self._by_url.pop(url, (None, b"", None))
        self._bytes -= len(packed)
        return Document(_ref(visit), zlib.decompress(packed), media_type) if visit is not None else None


def _ref(visit: Visit) -> DocumentRef:
    return DocumentRef(
        DocumentId(visit.url), visit.url, Fingerprint(visit.fingerprint), visit.size_bytes, http_time(visit.modified_at)
    )


def _unread(document: DocumentId) -> DocumentRef:
    """The ref of a document that counts as there, though it was not read."""
    return DocumentRef(document, document)
