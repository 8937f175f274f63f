"""Documents that are entries of feeds: RSS, Atom and JSON Feed."""

import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Annotated, ClassVar, Literal
from urllib.parse import urldefrag, urlsplit

from anyio import Lock
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.feed.process import FeedEntry, FeedFault, ParsedFeed, parse_feed
from connectors.kit.budget import ErrorBudget
from connectors.kit.http import HttpClient, HttpFault, HttpResponse, HttpSettings, WebUrl, validators_of
from connectors.kit.one_or_more import OneOrMore
from connectors.kit.packages import extra_for
from connectors.kit.paging import LoopingListing, pages
from connectors.kit.secrets import SecretByReference, require_one, secret_of
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument, UnsupportedDocument
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    Fingerprint,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)

EVENTS_PER_LIST_MAX = 1000
PAGES_MAX = 10_000  # of one feed: one that always names another page must end, too
HELD_BYTES_MAX = 64 * 1024 * 1024  # of entries that were listed and not fetched yet
LOOK_S = 60.0  # how long a second look at a feed answers for all its entries
KEY_CHARACTERS_MAX = 500

ACCEPT = "application/atom+xml, application/rss+xml, application/feed+json, application/xml;q=0.9, */*;q=0.5"

# What would be taken for the name of a file at the end of an entry's id or link. `page.html` and 1.2 are none.
_FILE_SUFFIX = re.compile(
    r"\.(?!(?:html?|xhtml|php|aspx?|jsp)\b)(?!\d+\b)(?=\w{1,8}(?:[?#]|$))", re.ASCII | re.IGNORECASE
)

Validators = tuple[str, str]  # ETag and Last-Modified, as the server said them; empty where it said none
NO_VALIDATORS: Validators = ("", "")

UNCHANGED = ParsedFeed((), None, is_cut_off=False, older=None)


class FeedSettings(BaseModel):
    """Which feeds are read, and what becomes of their entries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["feed"]
    urls: Annotated[tuple[WebUrl, ...], Field(min_length=1), OneOrMore] = Field(
        description="The addresses of the feeds (RSS, Atom or JSON Feed), or one of them."
    )
    keep: Literal["forever", "listed"] = Field(
        default="forever",
        description=(
            "What happens to entries that their feed shows no more. `forever`: they stay, since a feed shows only the "
            "latest. `listed`: they are removed."
        ),
    )
    fetch_pages: bool = Field(
        default=False,
        description="Take the page that an entry links to as the document, instead of what the feed says of it.",
    )
    older_pages: bool = Field(
        default=False,
        description="Read also the pages of older entries that a feed leads to (RFC 5005: `next`, `prev-archive`).",
    )
    authorization: SecretByReference | None = Field(
        default=None,
        description="The header `Authorization` for the feeds' servers, by reference: `Bearer ${env:NAME}`.",
    )
    authorization_variable: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Instead of `authorization`: the name of the environment variable that holds it: `Bearer …`, `Basic …`."
        ),
    )
    max_bytes: int = Field(
        default=20 * 1024 * 1024, gt=0, description="A larger feed or page is not read; a page becomes a dead letter."
    )
    http: HttpSettings = Field(default=HttpSettings(), description="How the servers are asked.")

    @field_validator("urls")
    @classmethod
    def _are_apart(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if len({_name(url) for url in urls}) < len(urls):
            raise ValueError("should name each feed once")
        return urls

    @property
    def has_secret(self) -> bool:
        return self.authorization is not None or self.authorization_variable is not None

    @model_validator(mode="after")
    def _keeps_its_secret(self) -> "FeedSettings":
        if self.has_secret:
            require_one("authorization", self.authorization, self.authorization_variable)
            self.http.require_safe(self.urls)
        return self


class FeedConnector:
    """Every entry of the feeds is a document; its id is the feed's address and the entry's own id.

    An entry without an id is known by its link, one without a link by its title and date. An edit shows by a digest of
    all that can show in a record: title, text, link, authors and tags. The content comes with the listing.

    A feed shows its latest entries, and nothing follows from the absence of others. So `keep: forever` says
    `ScanIncremental`: nothing is ever deleted, and a feed that its server calls unchanged is not read. The checkpoint
    holds what to ask the servers with: ETag and Last-Modified of each feed. `keep: listed` says `ScanComplete` of
    feeds that are whole, well-formed and not empty among others that are not. What is gone is what they do not show,
    also when they are read once more.
    """

    settings_model: ClassVar[type[FeedSettings]] = FeedSettings

    @staticmethod
    def missing_packages(settings: FeedSettings) -> Sequence[str]:  # noqa: ARG004 - whatever they are
        """The library that reads feeds."""
        return extra_for("feed", "feedparser")

    def __init__(self, settings: FeedSettings, base_folder: Path) -> None:  # noqa: ARG002 - nothing is relative to it
        self._settings = settings
        self._feeds = [_Feed(url) for url in settings.urls]
        self._is_mirror = settings.keep == "listed"
        self._http = HttpClient(settings.http, settings.urls)
        self._budget = ErrorBudget("The pages of the feeds' entries")
        self._held = _Held()
        self._looked: dict[_Feed, tuple[float, Mapping[DocumentId, DocumentRef]]] = {}
        self._one_look = Lock()

    async def aclose(self) -> None:
        """Close the connections. It opens them again if it is asked for more."""
        await self._http.aclose()

    # ------------------------------------------------------------------------------------------- listing

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        """Yield the entries feed by feed, in the feeds' order."""
        validators = {} if since is None or self._is_mirror else _read_checkpoint(since)
        faults: list[ScanError] = []
        counts: dict[_Feed, int] = {}  # of the feeds that were listed to their end
        is_listing = False
        for feed in self._feeds:
            count = 0
            before = validators.get(feed.name, NO_VALIDATORS)
            try:
                async with aclosing(self._list(feed, validators)) as listed:
                    async for documents in listed:
                        is_listing = is_listing or bool(documents)
                        count += len(documents)
                        for start in range(0, len(documents), EVENTS_PER_LIST_MAX):
                            yield [document.ref for document in documents[start : start + EVENTS_PER_LIST_MAX]]
            except FeedFault as fault:
                # As if it had not been asked: the next run must not take it for unchanged.
                validators[feed.name] = before
                faults.append(ScanError(feed.scope, fault.code, f"Cannot read the feed {feed.uri}: {fault}."))
            else:
                counts[feed] = count
        if not is_listing and not counts:
            raise SourceError(f"{faults[0].message} Nothing was concluded from that. Check `source.urls`.")
        yield [*faults, *self._concluded(counts)]
        if not self._is_mirror:
            yield [Checkpoint(json.dumps(validators))]

    def _concluded(self, counts: Mapping["_Feed", int]) -> Sequence[SourceEvent]:
        """What a listing says of entries that it did not show."""
        if not self._is_mirror:
            return [ScanIncremental(scope) for scope in self._scopes(list(counts))]
        # A feed that is suddenly empty is as likely broken; if all are, the guard looks at it.
        are_all_empty = len(counts) == len(self._feeds) and not any(counts.values())
        filled = [feed for feed, count in counts.items() if count or are_all_empty]
        empty = [feed for feed in counts if feed not in filled]
        return [
            *(ScanComplete(scope) for scope in self._scopes(filled)),
            *(ScanIncremental(feed.scope) for feed in empty),
        ]

    def _scopes(self, feeds: Sequence["_Feed"]) -> Sequence[str]:
        """The scopes of `feeds`; of all, the whole source, with what it had of feeds that are not named any more."""
        return [""] if len(feeds) == len(self._feeds) else [feed.scope for feed in feeds]

    async def _list(
        self, feed: "_Feed", validators: dict[str, Validators] | None = None
    ) -> AsyncGenerator[Sequence[Document], None]:
        """The entries of a feed by its pages; none if its server says that it is as the validators say.

        Raises:
            FeedFault: there may be more than was yielded.
        """
        count = 0
        shown: set[DocumentId] = set()
        try:
            async with aclosing(pages(partial(self._page, feed, validators))) as listed:
                async for parsed in listed:
                    # Of an entry that an older page shows once more, the first is the newer.
                    documents = [each for each in self._documents(feed, parsed) if each.ref.id not in shown]
                    shown.update(document.ref.id for document in documents)
                    if validators is not None and parsed is not UNCHANGED and (parsed.fault or not documents):
                        validators[feed.name] = NO_VALIDATORS  # the next run must read it, and may find more
                    self._held.put(documents)
                    yield documents
                    if parsed.is_cut_off:
                        raise FeedFault("broken_off", f"it breaks off, {parsed.fault}")
                    if parsed.fault and (self._is_mirror or not documents):
                        raise FeedFault("broken_feed", parsed.fault)
                    count += 1
                    if count == PAGES_MAX:
                        raise FeedFault("looping_listing", f"it has more than {PAGES_MAX:,} pages")
        except LoopingListing as error:
            raise FeedFault("looping_listing", "its pages lead round in circles") from error

    async def _page(
        self, feed: "_Feed", validators: dict[str, Validators] | None, older: str | None
    ) -> tuple[ParsedFeed, str | None]:
        """A page of the feed, the first if `older` is None, and the address of the next.

        `validators` of the first page are sent, and then replaced by those that come with the answer.
        """
        tag, time = (validators or {}).get(feed.name, NO_VALIDATORS) if older is None else NO_VALIDATORS
        headers = {"If-None-Match": tag, "If-Modified-Since": time}
        answer = await self._ask(feed, older or feed.url, {name: value for name, value in headers.items() if value})
        if answer.status == 304 and (tag or time):
            return UNCHANGED, None
        if answer.status != 200:
            raise FeedFault(str(answer.status), f"its server answered {answer.status}")
        parsed = await parse_feed(answer.content, url=answer.url, media_type=answer.media_type)
        if validators is not None and older is None:
            etag, last_modified = validators_of(answer)
            validators[feed.name] = etag or "", last_modified or ""
        return parsed, parsed.older if self._settings.older_pages else None

    async def _ask(self, feed: "_Feed", url: str, headers: Mapping[str, str]) -> HttpResponse:
        try:
            return await self._http.get(
                url,
                bytes_max=self._settings.max_bytes,
                headers={"Accept": ACCEPT, **headers, **self._authorization(feed, url)},
            )
        except HttpFault as fault:
            raise FeedFault(fault.code, str(fault)) from fault

    def _authorization(self, feed: "_Feed", url: str) -> Mapping[str, str]:
        """The secret, for nobody but the feed's own server."""
        settings = self._settings
        if not settings.has_secret or urlsplit(url)[:2] != urlsplit(feed.url)[:2]:
            return {}
        secret = secret_of("authorization", settings.authorization, settings.authorization_variable)
        return {"Authorization": secret}

    def _documents(self, feed: "_Feed", parsed: ParsedFeed) -> Sequence[Document]:
        """The entries as documents; of two with the same id the newer one, or else the first."""
        documents: dict[DocumentId, Document] = {}
        for entry in parsed.entries:
            document = self._document(feed, entry)
            before = documents.get(document.ref.id)
            if before is None or _is_newer(document, before):
                documents[document.ref.id] = document
        return list(documents.values())

    def _document(self, feed: "_Feed", entry: FeedEntry) -> Document:
        document = DocumentId(f"{feed.scope}{_entry_key(entry.key)}")
        said = {"authors": entry.authors, "tags": entry.tags, "link": entry.link}
        metadata = {name: value for name, value in said.items() if value}
        if self._settings.fetch_pages:
            link = entry.link or feed.uri
            ref = DocumentRef(document, link, Fingerprint(f"page-{entry.digest}"), None, entry.modified_at, entry.title)
            return Document(ref, b"", None, metadata)
        content = entry.content.encode(errors="replace")
        # A link to a file would be taken for the document's name, and the text of the entry for such a file.
        link = feed.uri if entry.link is None or _FILE_SUFFIX.search(entry.link) else entry.link
        ref = DocumentRef(document, link, Fingerprint(entry.digest), len(content), entry.modified_at, entry.title)
        return Document(ref, content, f"text/{'html' if entry.is_html else 'plain'}; charset=utf-8", metadata)

    # ------------------------------------------------------------------------------------------ fetching

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the entry as it was listed, or the page that it links to as it is now.

        An entry that left a feed whose entries are kept has not vanished: it is left out, and its records stay.
        """
        is_known_to_have_left = ref.fingerprint is None  # as `locate` told
        document = None if is_known_to_have_left else self._held.take(ref.id) or await self._find(ref.id)
        if document is None and self._is_mirror:
            raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.")
        if document is None:
            raise UnsupportedDocument("entry that left its feed before it was read")
        return await self._with_page(document) if self._settings.fetch_pages else document

    async def _find(self, document: DocumentId) -> Document | None:
        """The entry as its feed shows it now; None if it does not.

        Raises:
            SourceError: the feed cannot be read.
        """
        feed = self._feed_of(document)
        if feed is None:
            return None
        async with self._one_look:
            if found := self._held.take(document):  # by whoever looked before us
                return found
            await self._look(feed)
            return self._held.take(document)

    async def _with_page(self, document: Document) -> Document:
        ref = document.ref
        feed = self._feed_of(ref.id)
        assert feed is not None
        if "link" not in document.metadata:
            raise UnsupportedDocument("entry without a link")
        try:
            answer = await self._http.get(
                urldefrag(ref.uri).url,
                bytes_max=self._settings.max_bytes,
                headers=self._authorization(feed, ref.uri),
            )
        except HttpFault as fault:
            if fault.is_passing:
                self._budget.failed(fault)
            raise UnreadableDocument(fault.code, f"Cannot read the page of {ref.id!r}: {fault}.") from fault
        self._budget.succeeded()
        if answer.status != 200:
            raise UnreadableDocument(
                str(answer.status), f"Cannot read the page of {ref.id!r}: its server answered {answer.status}."
            )
        return document._replace(content=answer.content, media_type=answer.media_type)

    # ------------------------------------------------------------------------------------------ locating

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the entry as a scan would list it now; None if a scan would not.

        With `keep: forever`, an entry that its feed does not show is still one of the source.
        """
        feed = self._feed_of(document)
        if feed is None:
            return None
        async with self._one_look:
            at, refs = self._looked.get(feed, (0.0, {}))
            if feed not in self._looked or monotonic() - at >= LOOK_S:
                refs = await self._look(feed)
                self._looked[feed] = monotonic(), refs
        left = None if self._is_mirror else DocumentRef(document, feed.uri)
        return refs.get(document, left)

    def _feed_of(self, document: DocumentId) -> "_Feed | None":
        return next((feed for feed in self._feeds if document.startswith(feed.scope)), None)

    async def _look(self, feed: "_Feed") -> Mapping[DocumentId, DocumentRef]:
        """All that the feed shows now.

        Raises:
            SourceError: it cannot be read to its end.
        """
        refs: dict[DocumentId, DocumentRef] = {}
        try:
            async with aclosing(self._list(feed)) as listed:
                async for documents in listed:
                    for document in documents:
                        refs.setdefault(document.ref.id, document.ref)
        except FeedFault as fault:
            raise SourceError(
                f"Cannot tell which entries the feed {feed.uri} has: {fault}. Nothing was concluded from that."
            ) from fault
        return refs


@dataclass(frozen=True, slots=True)
class _Feed:
    """`uri` is the address without its query, which can hold a secret; `name` tells it from others with the same.

    The ids of its entries begin with `scope`.
    """

    url: str

    @property
    def uri(self) -> str:
        return self.url.partition("#")[0].partition("?")[0]

    @property
    def name(self) -> str:
        return _name(self.url)

    @property
    def scope(self) -> str:
        return f"{self.name} "


def _name(url: str) -> str:
    address, _, query = urldefrag(url).url.partition("?")
    return f"{address}~{_digest(query)}" if query else address


@dataclass(slots=True)
class _Held:
    """Entries that were listed and may be fetched: what is too much is dropped, and read again if it is asked for."""

    _documents: dict[DocumentId, Document] = field(default_factory=dict)  # the oldest first
    _bytes: int = 0

    def put(self, documents: Sequence[Document]) -> None:
        for document in documents:
            self.take(document.ref.id)
            self._documents[document.ref.id] = document
            self._bytes += len(document.content)
        while self._bytes > HELD_BYTES_MAX and len(self._documents) > len(documents):
            self.take(next(iter(self._documents)))

    def take(self, document: DocumentId) -> Document | None:
        found = self._documents.pop(document, None)
        self._bytes -= len(found.content) if found else 0
        return found


def _entry_key(key: str) -> str:
    """The entry's id as the end of a document's."""
    key = " ".join(key.split())
    if len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
        return f"digest:{_digest(key)}"
    return _FILE_SUFFIX.sub("%2E", key)


def _is_newer(document: Document, other: Document) -> bool:
    at, other_at = document.ref.modified_at, other.ref.modified_at
    return at is not None and other_at is not None and at > other_at


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def _read_checkpoint(checkpoint: Checkpoint) -> dict[str, Validators]:
    return {name: (tag, time) for name, (tag, time) in json.loads(checkpoint.value).items()}
