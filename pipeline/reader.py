"""From the source to records: scan, select, fetch, parse, chunk.

Everything flows in lists, since a hop between tasks costs as much as the rest of a small document's way; and in the
order of the scan, since a checkpoint speaks of all that went before it.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice

from anyio import create_task_group
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.errors import DocumentVanished, UnreadableDocument, UnsupportedDocument
from pipeline.events import (
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsListed,
    Observer,
    ScanFinished,
    ScanProblem,
)
from pipeline.limits import ServiceLimits
from pipeline.mapping import RecordRules, cut, derive_records
from pipeline.model import (
    Checkpoint,
    Derived,
    Document,
    DocumentId,
    DocumentOutcome,
    DocumentRef,
    DocumentSkipped,
    KnownDocument,
    LeftOut,
    Parsed,
    PartsEnd,
    ScanComplete,
    ScanError,
    SourceEvent,
    Unread,
    Vanished,
)
from pipeline.protocols import DocumentParser, FetchesMany, FetchOutcome, Offload, SourceConnector, StateStore
from pipeline.sightings import Sightings

FETCHES_AT_ONCE = 16
FETCHED_AT_ONCE = 64  # documents in one list
FETCHED_BYTES_MAX = 8 * 1024 * 1024  # that wait together between two stages, unless one document is larger
PARSED_AT_ONCE = 100  # documents, or parts of one, in one list

Listing = AsyncGenerator[Sequence[SourceEvent], None]
Selected = DocumentRef | ScanError | Checkpoint
Fetched = Document | Unread | LeftOut | Vanished | ScanError | Checkpoint
Read = Parsed | PartsEnd | Unread | LeftOut | Vanished | ScanError | Checkpoint
Planned = Derived | PartsEnd | Unread | LeftOut | Vanished | ScanError | Checkpoint


async def scan_source(connector: SourceConnector, since: Checkpoint | None, observe: Observer) -> Listing:
    """List the source."""
    is_complete = False
    async with aclosing(connector.scan(since)) as scan:
        async for events in scan:
            is_complete = is_complete or any(isinstance(event, ScanComplete) for event in events)
            yield events
    observe(ScanFinished(is_complete))


async def locate_documents(connector: SourceConnector, documents: Iterable[DocumentId]) -> Listing:
    """List only `documents`, as far as the source still has them. Proves nothing about others."""
    for document in documents:
        ref = await connector.locate(document)
        if ref is not None:
            yield [ref]


async def select_documents(
    listing: Listing,
    selected: MemoryObjectSendStream[list[Selected]],
    *,
    state: StateStore,
    parser: DocumentParser,
    recipe: str,
    sightings: Sightings,
    always: Collection[DocumentId],
    observe: Observer,
) -> None:
    """Let through what may have changed. An unchanged document ends here, for the price of one look-up.

    Documents in `always` are let through whatever their fingerprint says. The listing does not run ahead: two threads
    that each ask the operating system for a little at a time would spend half of theirs on waking each other.
    """
    async with selected, aclosing(listing) as listed:
        async for events in listed:
            refs = [event for event in events if isinstance(event, DocumentRef)]
            known = await state.documents([ref.id for ref in refs])
            observe(DocumentsListed(len(refs)))
            passed: list[Selected] = []
            unchanged: list[KnownDocument] = []
            skipped: Counter[str] = Counter()
            for event in events:
                match event:
                    case DocumentRef():
                        sightings.listed += 1
                        before = known.get(event.id)
                        if before is not None and not sightings.mark_first(before.row):
                            continue  # paged listings show a document twice when it moves between pages
                        if reason := parser.reason_to_skip(event):
                            skipped[reason] += 1
                        elif before is None or event.id in always or may_have_changed(event, before, recipe):
                            passed.append(event)
                        elif before.state.skipped is not None:
                            skipped[before.state.skipped] += 1
                        else:
                            unchanged.append(before)
                    case DocumentSkipped():
                        sightings.listed += 1
                        skipped[event.reason] += 1
                    case ScanError():
                        sightings.broken.append(event.scope)
                        observe(ScanProblem(event.scope, event.code, event.message))
                        passed.append(event)
                    case ScanComplete():
                        sightings.complete.append(event.scope)
                    case Checkpoint():
                        passed.append(event)
            for reason, count in skipped.items():
                observe(DocumentSkippedByReason(reason, count))
            for decided in await _account_for(unchanged, state, sightings):
                observe(decided)
            if passed:
                await selected.send(passed)


def may_have_changed(ref: DocumentRef, before: KnownDocument, recipe: str) -> bool:
    """Whether a document must be read again to know what it says now."""
    return ref.fingerprint is None or ref.fingerprint != before.state.fingerprint or before.state.recipe != recipe


async def _account_for(
    unchanged: Iterable[KnownDocument], state: StateStore, sightings: Sightings
) -> Iterable[DocumentsDecided]:
    """What became of documents that are as they were: many at once, since each costs no more than its look-up."""
    documents: Counter[DocumentOutcome] = Counter()
    records: Counter[DocumentOutcome] = Counter()
    for document in unchanged:
        is_whole = not document.state.has_parts
        is_unread = not is_whole and document.dead_letters > 0  # the file as a whole could not be read
        if is_unread:
            documents["failed"] += 1
        for part in (document,) if is_whole else await state.parts(document.state.id):
            sightings.mark(part.row)
            outcome: DocumentOutcome = "failed" if is_unread or part.dead_letters else "unchanged"
            if not is_unread:
                documents[outcome] += 1
            records[outcome] += sightings.count_unchanged(part.state.id, part.records)
    return [DocumentsDecided(outcome, documents[outcome], unchanged=records[outcome]) for outcome in documents]


async def fetch_documents(
    selected: MemoryObjectReceiveStream[list[Selected]],
    fetched: MemoryObjectSendStream[list[Fetched]],
    *,
    connector: SourceConnector,
) -> None:
    """Fetch what was selected, several at once, and pass it on in order."""
    async with selected, fetched:
        async for items in selected:
            for window in _windows(items):
                results: list[Fetched] = [item for item in window if not isinstance(item, DocumentRef)]
                if len(results) < len(window):
                    results = await _fetch_window(window, connector)
                await fetched.send(results)


async def _fetch_window(window: Sequence[Selected], connector: SourceConnector) -> list[Fetched]:
    refs = [item for item in window if isinstance(item, DocumentRef)]
    fetching = connector.fetch_many(refs) if isinstance(connector, FetchesMany) else _fetch_each(refs, connector)
    fetched = map(_fetched, refs, await fetching)
    return [next(fetched) if isinstance(item, DocumentRef) else item for item in window]


async def _fetch_each(refs: Sequence[DocumentRef], connector: SourceConnector) -> list[FetchOutcome]:
    outcomes: dict[int, FetchOutcome] = {}
    waiting = iter(enumerate(refs))

    async def fetch() -> None:
        for position, ref in waiting:
            try:
                outcomes[position] = await connector.fetch(ref)
            except (UnreadableDocument, UnsupportedDocument) as error:
                outcomes[position] = error

    async with create_task_group() as tasks:
        for _ in range(min(FETCHES_AT_ONCE, len(refs))):
            tasks.start_soon(fetch)
    return [outcomes[position] for position in range(len(refs))]


def _fetched(ref: DocumentRef, outcome: FetchOutcome) -> Fetched:
    match outcome:
        case Document():
            return outcome
        case DocumentVanished():
            return Vanished(ref)
        case UnreadableDocument():
            return Unread(ref, "fetch", outcome.code, str(outcome))
        case UnsupportedDocument():
            return LeftOut(ref, outcome.reason)


def _windows(items: Sequence[Selected]) -> Iterator[Sequence[Selected]]:
    """Cut `items` into runs that are small enough to be held in memory at once."""
    window: list[Selected] = []
    window_bytes = 0
    for item in items:
        item_bytes = _expected_bytes(item) if isinstance(item, DocumentRef) else 0
        if window and (len(window) == FETCHED_AT_ONCE or window_bytes + item_bytes > FETCHED_BYTES_MAX):
            yield window
            window, window_bytes = [], 0
        window.append(item)
        window_bytes += item_bytes
    if window:
        yield window


def _expected_bytes(ref: DocumentRef) -> int:
    return FETCHED_BYTES_MAX // FETCHES_AT_ONCE if ref.size_bytes is None else ref.size_bytes


async def parse_documents(
    fetched: MemoryObjectReceiveStream[list[Fetched]],
    parsed: MemoryObjectSendStream[list[Read]],
    *,
    parser: DocumentParser,
    offload: Offload,
) -> None:
    """Turn content into text, away from the event loop."""
    async with fetched, parsed:
        async for documents in fetched:
            reading = _parse_all(documents, parser)
            is_end = False
            while not is_end:
                some = await offload(lambda reading=reading: list(islice(reading, PARSED_AT_ONCE)))  # type: ignore[misc]
                is_end = len(some) < PARSED_AT_ONCE
                if some:
                    await parsed.send(some)


def _parse_all(documents: Iterable[Fetched], parser: DocumentParser) -> Iterator[Read]:
    for document in documents:
        if not isinstance(document, Document):
            yield document
            continue
        has_parts = True
        try:
            for text in parser.parse(document):
                has_parts = text.id != document.ref.id
                yield Parsed(document.ref, text)
        except UnreadableDocument as error:
            yield Unread(document.ref, "parse", error.code, str(error))
        except UnsupportedDocument as error:
            yield LeftOut(document.ref, error.reason)
        else:
            if has_parts:
                yield PartsEnd(document.ref)


async def chunk_documents(
    parsed: MemoryObjectReceiveStream[list[Read]],
    derived: MemoryObjectSendStream[list[Planned]],
    *,
    rules: RecordRules,
    limits: ServiceLimits,
    offload: Offload,
) -> None:
    """Cut texts into chunks and make the records that they imply."""

    def derive(item: Read) -> Planned:
        if not isinstance(item, Parsed):
            return item
        records = derive_records(item.ref, item.document, cut(item.document, rules, limits), rules, limits)
        return Derived(item.ref, item.document.id, tuple(records))

    async with parsed, derived:
        async for items in parsed:
            await derived.send(await offload(lambda items=items: [derive(item) for item in items]))  # type: ignore[misc]
