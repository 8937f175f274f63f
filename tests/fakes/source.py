"""A source in memory that can be told to misbehave in every way that the pipeline must survive."""

import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

from anyio.lowlevel import checkpoint

from pipeline.errors import DocumentVanished, SourceError, SyncError
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

MODIFIED_AT = datetime(2024, 1, 1, tzinfo=UTC)


class MemorySource:
    """Lists what `documents` holds, sorted by id; content may be text or bytes.

    Everything can be changed at any time, also while a scan is under way:

    - `modified_at`, `titles`: what the refs say of a document; a fixed time and nothing by default
    - `has_fingerprints = False`: a source without a signal of change
    - `skipped`: documents left out on purpose, with the reason
    - `is_missing = True`: the root is gone; everything raises SourceError
    - `unlistable`: scopes (prefixes of ids) that a scan reports as ScanError instead of listing them
    - `fails_after = n`: the scan raises SourceError after n events
    - `says_complete = False`: the scan stops without ScanComplete
    - `vanishing`: ids that are listed and cannot be fetched any more
    - `fetch_errors`: what fetching an id raises
    - `fetched`: the ids fetched so far, in order
    """

    def __init__(self, documents: Mapping[str, str | bytes] | None = None, *, events_per_list: int = 256) -> None:
        self.documents: dict[str, str | bytes] = dict(documents or {})
        self.events_per_list = events_per_list
        self.modified_at: dict[str, datetime] = {}
        self.titles: dict[str, str] = {}
        self.has_fingerprints = True
        self.skipped: dict[str, str] = {}
        self.is_missing = False
        self.unlistable: set[str] = set()
        self.fails_after: int | None = None
        self.says_complete = True
        self.vanishing: set[str] = set()
        self.fetch_errors: dict[str, SyncError] = {}
        self.fetched: list[str] = []

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        await checkpoint()
        self._check_root()
        events = iter(self._events())
        events_left = self.fails_after
        while listed := list(islice(events, self.events_per_list)):
            if events_left is not None and len(listed) > events_left:
                if events_left:
                    yield listed[:events_left]
                raise SourceError("The source in memory was told to fail here.")
            events_left = None if events_left is None else events_left - len(listed)
            yield listed
            await checkpoint()

    async def fetch(self, ref: DocumentRef) -> Document:
        await checkpoint()
        self._check_root()
        self.fetched.append(ref.id)
        if ref.id in self.fetch_errors:
            raise self.fetch_errors[ref.id]
        if ref.id in self.vanishing or ref.id not in self.documents:
            raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.")
        return Document(self._ref(ref.id), self._content(ref.id))

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        await checkpoint()
        self._check_root()
        if self._is_unlistable(document):
            raise SourceError(f"Cannot tell whether {document!r} is still there.")
        is_there = document in self.documents and document not in self.vanishing
        return self._ref(document) if is_there else None

    def _events(self) -> Iterable[SourceEvent]:
        yield from (ScanError(scope, "PermissionError", "not listed") for scope in sorted(self.unlistable))
        for name in sorted({*self.documents, *self.skipped}):
            if self._is_unlistable(name):
                continue
            if name in self.skipped:
                yield DocumentSkipped(DocumentId(name), self.skipped[name])
            elif name in self.documents:
                yield self._ref(name)
        if self.says_complete:
            yield ScanComplete("")

    def _check_root(self) -> None:
        if self.is_missing:
            raise SourceError("The source in memory is missing.")

    def _is_unlistable(self, document: str) -> bool:
        return document.startswith(tuple(self.unlistable))

    def _content(self, document: str) -> bytes:
        content = self.documents[document]
        return content.encode() if isinstance(content, str) else content

    def _ref(self, document: str) -> DocumentRef:
        content = self._content(document)
        ref = DocumentRef(
            id=DocumentId(document),
            uri=f"memory:///{document}",
            fingerprint=Fingerprint(hashlib.sha256(content).hexdigest()),
            size_bytes=len(content),
            modified_at=self.modified_at.get(document, MODIFIED_AT),
            title=self.titles.get(document),
        )
        return ref if self.has_fingerprints else ref._replace(fingerprint=None)
