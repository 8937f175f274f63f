"""From the source to records: scan, select, fetch, derive.

Everything flows in lists, since a hop between tasks costs as much as the rest of a small document's way; and in the
order of the scan, since a checkpoint speaks of all that went before it.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from anyio import Event, create_task_group
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.deriving import not_fetched
from pipeline.errors import SourceError, UnreadableDocument, UnsupportedDocument
from pipeline.events import (
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsListed,
    Observer,
    ScanFinished,
    ScanProblem,
    Wait,
    telling,
)
from pipeline.expiry import FIRST_RENEWAL, NOTHING_EXPIRES, Renewal
from pipeline.model import (
    Checkpoint,
    DocumentId,
    DocumentRef,
    DocumentRemoved,
    DocumentSkipped,
    Fetched,
    KnownDocument,
    Planned,
    Resends,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)
from pipeline.protocols import Derive, DocumentParser, HasDocumentReader, SourceConnector, StateStore
from pipeline.renames import UNTOLD_MAX, Renames
from pipeline.sightings import Sightings

FETCHES_AT_ONCE = 16
RENEWED_AT_ONCE = 500  # records that are looked up together
# In a row, of a source that can tell of others; it may have gone down meanwhile, and each question take its time.
UNTOLD_OF_ONE_THAT_TELLS_MAX = 20
FETCHED_AT_ONCE = 128  # documents in one list
FETCHED_BYTES_MAX = 8 * 1024 * 1024  # that wait together between two stages, unless one document is larger

Listing = AsyncGenerator[Sequence[SourceEvent], None]
Selected = DocumentRef | ScanError | Checkpoint


async def scan_source(connector: SourceConnector, since: Checkpoint | None, basis: str, observe: Observer) -> Listing:
    """List the source, from where the last scan left off if its documents rest on the same `basis`."""
    is_complete = False
    async with aclosing(connector.scan(resume_point(since, basis))) as scan:
        while True:
            with telling(observe, Wait("scan", "source")):
                events = await anext(scan, None)
            if events is None:
                break
            is_complete = is_complete or any(isinstance(event, ScanComplete | ScanIncremental) for event in events)
            yield [_based(event, basis) if isinstance(event, Checkpoint) else event for event in events]
    observe(ScanFinished(is_complete))


def resume_point(stored: Checkpoint | None, basis: str) -> Checkpoint | None:
    """The connector's checkpoint as it was; None if what was read before it rests on something else than `basis`.

    With other settings every document has to be listed again, to become other records.
    """
    if stored is None:
        return None
    stored_basis, _, value = stored.value.partition("\n")
    return Checkpoint(value) if stored_basis == basis else None


def _based(checkpoint: Checkpoint, basis: str) -> Checkpoint:
    return Checkpoint(f"{basis}\n{checkpoint.value}")


async def locate_documents(connector: SourceConnector, documents: Iterable[DocumentId], observe: Observer) -> Listing:
    """List only `documents`, as far as the source still has them. Proves nothing about others."""
    for document in documents:
        with telling(observe, Wait("scan", "source", document)):
            ref = await connector.locate(document)
        if ref is not None:
            yield [ref]


async def locate_waiting(
    connector: SourceConnector, state: StateStore, sightings: Sightings, resends: Resends, observe: Observer
) -> Listing:
    """List the documents that wait to be read, where a scan does not show them once more.

    An earlier run could not fetch them, or they have dead letters to be sent again, or a record of theirs was dropped.
    Says also which of them are gone.
    """
    letters = await state.letters(with_dropped=True, with_records=False)
    asked_for = {letter.document_id for letter in letters if letter.stage == "fetch"} | resends.origins
    of_dropped = await state.documents({letter.document_id for letter in letters if letter.dropped_at is not None})
    asked_for |= {each.state.origin for each in of_dropped.values() if each.state.fingerprint is None}
    known = await state.documents(asked_for)
    asking = Asking(connector, observe, sightings)
    for document in sorted(asked_for):
        if asking.is_futile:
            break
        is_unseen = document in known and not sightings.has(known[document].row)
        if is_unseen and (event := await asking.ask(document)):
            yield [event]


async def locate_to_renew(
    connector: SourceConnector,
    state: StateStore,
    sightings: Sightings,
    renewal: Renewal,
    observe: Observer,
    *,
    is_dry: bool,
    may_delete: bool,
) -> Listing:
    """List the documents whose records are to be renewed, where a scan shows only what is new, and say what is gone.

    Those of which the source cannot tell, or that are gone and stay in the memory, are asked for again after a while.
    """
    after, asking = FIRST_RENEWAL, Asking(connector, observe, sightings)
    asked: set[DocumentId] = set()
    while not asking.is_futile and (page := await state.next_to_renew(after, renewal, limit=RENEWED_AT_ONCE)):
        after = page[-1][0]
        documents = [document for document in dict.fromkeys(document for _, document in page) if document not in asked]
        known = await state.documents(documents)
        # In the order of their turns, which has nothing to do with their names: of those that are called alike, a
        # source may be able to tell of none.
        for document in documents:
            if document not in known or sightings.has(known[document].row):
                continue
            if asking.is_futile:
                break
            asked.add(document)
            event = await asking.ask(document)
            if event is not None:
                yield [event]
            if not is_dry and (event is None or (isinstance(event, DocumentRemoved) and not may_delete)):
                await state.renew_later([document], renewal)


@dataclass(slots=True)
class Asking:
    """Asks a source for single documents, until it cannot tell of too many in a row: then they are not at fault."""

    connector: SourceConnector
    observe: Observer
    sightings: Sightings
    _untold: int = 0  # in a row
    _has_told: bool = False

    @property
    def is_futile(self) -> bool:
        return self._untold > (UNTOLD_OF_ONE_THAT_TELLS_MAX if self._has_told else UNTOLD_MAX)

    async def ask(self, document: DocumentId) -> DocumentRef | DocumentRemoved | None:
        """The document, or that it is gone; None: the source cannot tell."""
        try:
            with telling(self.observe, Wait("scan", "source", document)):
                ref = await self.connector.locate(document)
        except SourceError:
            self._untold += 1
            return None
        self._untold, self._has_told = 0, True
        if ref is None:
            self.sightings.asked_gone += not self.sightings.is_listed_scope(document)  # else the listing has told
            return DocumentRemoved(document)
        self.sightings.asked_there += 1
        return ref


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
    renames: Renames | None = None,
    renewal: Renewal = NOTHING_EXPIRES,
) -> None:
    """Let through what may have changed. An unchanged document ends here, for the price of one look-up.

    Documents in `always`, and those with records to be renewed, are let through whatever their fingerprint says. New
    ones that may have been renamed wait for the end of the listing, which tells whether the one that they may have been
    is gone. The listing does not run ahead: its thread and the ledger's, which both hold the interpreter for moments
    only, would spend half their time on waking each other.
    """
    selector = _Selector(state, parser, recipe, sightings, always, observe, renames, renewal)
    async with selected, aclosing(listing) as listed:
        async for events in listed:
            others = await selector.pass_over_unchanged(events)
            passed = await selector.select(others) if others else []
            if passed:
                await selected.send(passed)
        if renames:
            async with aclosing(renames.settle()) as waiting:
                async for events in waiting:
                    await selected.send([*events])


@dataclass(frozen=True, slots=True)
class _Selector:
    state: StateStore
    parser: DocumentParser
    recipe: str
    sightings: Sightings
    always: Collection[DocumentId]
    observe: Observer
    renames: Renames | None
    renewal: Renewal

    async def pass_over_unchanged(self, events: Sequence[SourceEvent]) -> Sequence[SourceEvent]:
        """Account for the documents that are plainly as they were, nearly all in most runs; return the other events."""
        refs = [event for event in events if isinstance(event, DocumentRef)]
        self.observe(DocumentsListed(len(refs)))
        # Of a document that stands in the list twice, the first counts.
        fingerprints = {ref.id: ref.fingerprint for ref in reversed(refs) if ref.id not in self.always}
        found = await self.state.unchanged(fingerprints, self.recipe, self.renewal)
        documents, records = self.sightings.mark_unchanged(found)
        if documents:
            self.observe(DocumentsDecided("unchanged", documents, unchanged=records))
        others: Sequence[SourceEvent] = []
        if len(found) < len(events):
            passed_over = {document for document, _, _ in found}
            others = [event for event in events if not isinstance(event, DocumentRef) or event.id not in passed_over]
        self.sightings.listed += len(events) - len(others)
        return others

    async def select(self, events: Sequence[SourceEvent]) -> list[Selected]:
        """Let through what may have changed, and account for the rest."""
        known = await self.state.documents([event.id for event in events if isinstance(event, DocumentRef)])
        to_renew = await self.state.to_renew(known.keys(), self.renewal) if known else ()
        waiting: Collection[DocumentId] = ()
        if self.renames:
            new = [event for event in events if isinstance(event, DocumentRef) and event.id not in known]
            waiting = await self.renames.keep_back([ref for ref in new if not self.parser.reason_to_skip(ref)])
        passed: list[Selected] = []
        skipped: Counter[str] = Counter()
        for event in events:
            match event:
                case DocumentRef():
                    self.sightings.listed += 1
                    before = known.get(event.id)
                    if before is not None and not self.sightings.mark_first(before.row):
                        continue  # paged listings show a document twice when it moves between pages
                    is_due = event.id in to_renew
                    if event.id not in waiting and not await self._is_accounted_for(event, before, skipped, is_due):
                        passed.append(event)
                case DocumentSkipped():
                    self.sightings.listed += 1
                    skipped[event.reason] += 1
                case ScanError():
                    self.sightings.broken.append(event.scope)
                    self.observe(ScanProblem(event.scope, event.code, event.message))
                    passed.append(event)
                case ScanComplete() | ScanIncremental() | DocumentRemoved():
                    self.sightings.note(event)
                case Checkpoint():
                    if not (self.renames and self.renames.keeps_back(event)):
                        passed.append(event)
        for reason, count in skipped.items():
            self.observe(DocumentSkippedByReason(reason, count))
        return passed

    async def _is_accounted_for(
        self, ref: DocumentRef, before: KnownDocument | None, skipped: Counter[str], is_due: bool
    ) -> bool:
        """Tell of a document that need not be read, and return whether this is one."""
        if reason := self.parser.reason_to_skip(ref):
            skipped[reason] += 1
        elif before is None or is_due or ref.id in self.always or self._may_have_changed(ref, before):
            return False
        elif before.state.skipped is not None:
            skipped[before.state.skipped] += 1
        elif before.state.has_parts:
            parts = await self.state.parts(ref.id)
            if any(self._can_be_read_now(part) for part in parts):
                return False
            self._account_for_parts(before, parts, skipped)
        else:
            self._account_for([before])
        return True

    def _may_have_changed(self, ref: DocumentRef, before: KnownDocument) -> bool:
        return may_have_changed(ref, before, self.recipe, self.parser.abilities)

    def _can_be_read_now(self, part: KnownDocument) -> bool:
        """Whether a part that was left out may have a text for this parser."""
        was_left_out = part.state.recipe.startswith(recipe_of_left_out(self.recipe, ""))
        return was_left_out and part.state.recipe != recipe_of_left_out(self.recipe, self.parser.abilities)

    def _account_for_parts(
        self, document: KnownDocument, parts: Sequence[KnownDocument], skipped: Counter[str]
    ) -> None:
        """Tell of a document with parts that is as it was."""
        for part in parts:
            self.sightings.mark(part.row)
        if document.dead_letters:  # the file as a whole could not be read
            self.observe(DocumentsDecided("failed", 1, unchanged=self._count_unchanged(parts)))
            return
        skipped.update(part.state.skipped for part in parts if part.state.skipped is not None)
        self._account_for([part for part in parts if part.state.skipped is None])

    def _account_for(self, documents: Sequence[KnownDocument]) -> None:
        """Tell of documents that are as they were."""
        failed = [document for document in documents if document.dead_letters]
        unchanged = [document for document in documents if not document.dead_letters]
        if unchanged:
            self.observe(DocumentsDecided("unchanged", len(unchanged), unchanged=self._count_unchanged(unchanged)))
        if failed:
            self.observe(DocumentsDecided("failed", len(failed), unchanged=self._count_unchanged(failed)))

    def _count_unchanged(self, documents: Iterable[KnownDocument]) -> int:
        return sum(self.sightings.count_unchanged(document.state.id, document.unchanged) for document in documents)


def may_have_changed(ref: DocumentRef, before: KnownDocument, recipe: str, abilities: str) -> bool:
    """Whether a document must be read again to know what it says now, by a parser with such `abilities`."""
    state = before.state
    is_as_now = state.recipe == recipe_of_left_out(recipe, abilities) or (
        state.skipped is None and state.recipe == recipe
    )
    return ref.fingerprint is None or ref.fingerprint != state.fingerprint or not is_as_now


def recipe_of_left_out(recipe: str, abilities: str) -> str:
    """What the ledger keeps of a document that has no text, or had it once: a parser that can read more is to have a
    look at it.
    """
    return f"{recipe} {abilities}"


async def fetch_documents(
    selected: MemoryObjectReceiveStream[list[Selected]],
    fetched: MemoryObjectSendStream[list[Fetched]],
    *,
    connector: SourceConnector,
    observe: Observer,
) -> None:
    """Fetch what was selected, several at once, and pass it on in order; what can be read where it is parsed is not."""
    is_read_later = isinstance(connector, HasDocumentReader)
    async with selected, fetched:
        async for items in selected:
            for window in _windows(items):
                await fetched.send(list(window) if is_read_later else await _fetch_window(window, connector, observe))


async def _fetch_window(window: Sequence[Selected], connector: SourceConnector, observe: Observer) -> list[Fetched]:
    fetched: list[Fetched] = list(window)
    left = iter(enumerate(window))

    async def fetch() -> None:
        for position, item in left:
            if isinstance(item, DocumentRef):
                try:
                    with telling(observe, Wait("fetch", "source", item.id)):
                        fetched[position] = await connector.fetch(item)
                except (UnreadableDocument, UnsupportedDocument) as error:
                    fetched[position] = not_fetched(item, error)

    async with create_task_group() as tasks:
        for _ in range(min(FETCHES_AT_ONCE, len(window))):
            tasks.start_soon(fetch)
    return fetched


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


async def derive_documents(
    fetched: MemoryObjectReceiveStream[list[Fetched]],
    derived: MemoryObjectSendStream[list[Planned]],
    *,
    derive: Derive,
) -> None:
    """Read, parse and cut documents and make the records that they imply, beside the event loop; several lists at once,
    passed on in order."""

    async def pass_on(lists: AsyncGenerator[list[Planned], None], turn: Event, next_turn: Event) -> None:
        await turn.wait()
        async with aclosing(lists):
            async for some in lists:
                await derived.send(some)
        next_turn.set()

    async with fetched, derived, create_task_group() as tasks:
        turn = Event()
        turn.set()
        async for items in fetched:
            lists = await derive(items)
            tasks.start_soon(pass_on, lists, turn, turn := Event())
