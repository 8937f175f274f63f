"""The stages from the source to records, each alone."""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest
from anyio import BrokenResourceError, create_memory_object_stream, create_task_group
from anyio.lowlevel import checkpoint
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from hypothesis import given
from hypothesis import strategies as st

from pipeline.deriving import DERIVED_AT_ONCE, RECORDS_AT_ONCE, Deriver, is_part
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument, UnsupportedDocument
from pipeline.events import DocumentsDecided, DocumentSkippedByReason, DocumentsListed, RunEvent, ScanFinished, nobody
from pipeline.limits import service_limits
from pipeline.mapping import RecordRules
from pipeline.model import (
    Batch,
    Checkpoint,
    ClientToken,
    DeadLetter,
    Derived,
    Document,
    DocumentId,
    DocumentPlan,
    DocumentRef,
    DocumentSkipped,
    DocumentState,
    Entry,
    Fetched,
    Fingerprint,
    LeftOut,
    MemoryRecordId,
    Operation,
    ParsedDocument,
    PartsEnd,
    Planned,
    RecordKey,
    ScanComplete,
    ScanError,
    Settlement,
    SourceEvent,
    Unread,
    Vanished,
)
from pipeline.reader import (
    FETCHED_AT_ONCE,
    FETCHED_BYTES_MAX,
    FETCHES_AT_ONCE,
    Listing,
    Selected,
    _windows,
    derive_documents,
    fetch_documents,
    locate_documents,
    scan_source,
    select_documents,
)
from pipeline.sightings import Sightings
from pipeline.state.sqlite import SqliteStateStore, open_state
from tests.fakes.source import MemorySource
from tests.pipeline.examples import inline, workers_in_place

Item = TypeVar("Item")
Other = TypeVar("Other")

RECIPE = "recipe-1"
LEFT_OUT = "recipe-1 text"  # what the ledger has of a document that this parser left out


class LineParser:
    """Reads text, and a document a line from `.jsonl`. What it cannot read says so itself."""

    abilities = "text"

    def reason_to_skip(self, ref: DocumentRef) -> str | None:
        return "unsupported type .png" if ref.id.endswith(".png") else None

    def parse(self, document: Document) -> Iterator[ParsedDocument]:
        text = document.content.decode()
        if not document.ref.id.endswith(".jsonl"):
            self._check(text)
            yield ParsedDocument(document.ref.id, text)
            return
        for number, line in enumerate(text.splitlines()):
            self._check(line)
            yield ParsedDocument(DocumentId(f"{document.ref.id}#{number}"), line)

    def _check(self, text: str) -> None:
        if text == "broken":
            raise UnreadableDocument("bad_syntax", "it is broken")
        if text == "binary":
            raise UnsupportedDocument("binary")


def ref(name: str, *, size_bytes: int | None = None, fingerprint: str | None = "1") -> DocumentRef:
    return DocumentRef(
        DocumentId(name),
        uri=f"memory:///{name}",
        fingerprint=None if fingerprint is None else Fingerprint(fingerprint),
        size_bytes=size_bytes,
    )


def document(name: str, text: str) -> Document:
    return Document(ref(name), text.encode())


async def through(
    stage: Callable[[MemoryObjectReceiveStream[Item], MemoryObjectSendStream[Other]], Awaitable[None]],
    *items: Item,
) -> list[Other]:
    """All that `stage` gives for `items`."""
    into, given_items = create_memory_object_stream[Item](math.inf)
    out_in, out = create_memory_object_stream[Other](math.inf)
    async with into:
        for item in items:
            into.send_nowait(item)
    async with out:
        await stage(given_items, out_in)
        return [item async for item in out]


def flat(lists: Sequence[Sequence[Item]]) -> list[Item]:
    return [item for items in lists for item in items]


# ---------------------------------------------------------------------------------------------------- listing


async def test_a_scan_passes_on_all_that_the_source_says() -> None:
    """Nothing may be concluded from what was not passed on."""
    source = MemorySource({"a.md": "A", "b.md": "B", "c.md": "C"}, events_per_list=2)
    told: list[RunEvent] = []

    events = flat([items async for items in scan_source(source, None, "", told.append)])

    assert [event.id for event in events if isinstance(event, DocumentRef)] == ["a.md", "b.md", "c.md"]
    assert events[-1] == ScanComplete("")
    assert [event for event in told if isinstance(event, ScanFinished)] == [ScanFinished(is_complete=True)]


async def test_a_scan_without_its_last_word_is_not_complete() -> None:
    """The end of a listing proves nothing."""
    source = MemorySource({"a.md": "A"})
    source.says_complete = False
    told: list[RunEvent] = []

    async for _ in scan_source(source, None, "", told.append):
        pass

    assert [event for event in told if isinstance(event, ScanFinished)] == [ScanFinished(is_complete=False)]


async def test_a_scan_that_fails_ends_without_the_last_word() -> None:
    """Those behind it must not wait for ever, nor take the end for completeness."""
    source = MemorySource({"a.md": "A", "b.md": "B"})
    source.fails_after = 1
    told: list[RunEvent] = []
    events: list[SourceEvent] = []

    async def scan() -> None:
        async for items in scan_source(source, None, "", told.append):
            events.extend(items)

    with pytest.raises(SourceError):
        await scan()

    assert [type(event) for event in events] == [DocumentRef]
    assert ScanFinished(is_complete=True) not in told


async def test_locating_lists_only_what_is_still_there() -> None:
    """A replay reads again what was given up on, as far as there is such a thing."""
    source = MemorySource({"a.md": "A", "b.md": "B"})

    wanted = [DocumentId("b.md"), DocumentId("gone.md")]
    events = flat([items async for items in locate_documents(source, wanted, nobody)])

    assert [event.id for event in events if isinstance(event, DocumentRef)] == ["b.md"]
    assert not any(isinstance(event, ScanComplete) for event in events)


# -------------------------------------------------------------------------------------------------- selecting


class Selection:
    """The selecting stage with a real ledger, and what it tells."""

    def __init__(self, state: SqliteStateStore) -> None:
        self.state = state
        self.events: list[RunEvent] = []
        self.sightings = Sightings(0)

    async def remember(
        self,
        name: str,
        *,
        fingerprint: str | None = "1",
        recipe: str = RECIPE,
        origin: str | None = None,
        has_parts: bool = False,
        skipped: str | None = None,
        is_dead: bool = False,
        records: int = 0,
    ) -> int:
        """Let an earlier run have seen the document; return its row."""
        state = DocumentState(
            DocumentId(name),
            DocumentId(origin or name),
            None if fingerprint is None else Fingerprint(fingerprint),
            recipe,
            has_parts=has_parts,
            skipped=skipped,
        )
        letter = DeadLetter(name, "s", state.id, "parse", "bad_syntax", "broken", 1, 0.0, 0.0, "run-0")
        await self.state.save([], [DocumentPlan(state, letters=(letter,) if is_dead else ())])
        entries = [Entry(RecordKey(f"{name}-{number}"), state.id, "/", "digest", 1.0) for number in range(records)]
        if entries:
            batch = Batch(ClientToken(name), Operation.CREATE, tuple(entries), b"", 0.0)
            await self.state.save([batch], [])
            await self.state.settle(Settlement(batch, tuple((each, MemoryRecordId(each.key)) for each in entries)))
        row = await self.state.last_row()
        self.sightings = Sightings(row)
        return row

    async def select(self, *events: SourceEvent, always: Sequence[str] = ()) -> list[Selected]:
        async def listing() -> Listing:
            yield list(events)

        selected_in, selected = create_memory_object_stream[list[Selected]](math.inf)
        async with selected:
            await select_documents(
                listing(),
                selected_in,
                state=self.state,
                parser=LineParser(),
                recipe=RECIPE,
                sightings=self.sightings,
                always=[DocumentId(name) for name in always],
                observe=self.events.append,
            )
            return flat([items async for items in selected])

    def told(self, kind: type[Item]) -> list[Item]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
async def selection() -> AsyncIterator[Selection]:
    async with open_state(None, source="s", destination="d", offload=inline) as state:
        yield Selection(state)


async def test_a_new_document_is_selected(selection: Selection) -> None:
    """The ledger does not know it, so the memory does not hold it."""
    assert await selection.select(ref("a.md")) == [ref("a.md")]


async def test_an_unchanged_document_is_not_selected(selection: Selection) -> None:
    """It costs one look-up: a source of a million documents must not be read every hour."""
    row = await selection.remember("a.md")

    selected = await selection.select(ref("a.md"))

    assert selected == []
    assert selection.told(DocumentsDecided) == [DocumentsDecided("unchanged", 1)]
    assert selection.sightings.has(row)


@pytest.mark.parametrize(
    ("before", "now"), [("1", "2"), ("1", None), (None, "1"), (None, None)], ids=["other", "lost", "new", "none"]
)
async def test_a_document_that_may_have_changed_is_selected(
    selection: Selection, before: str | None, now: str | None
) -> None:
    """Only two equal fingerprints prove that nothing changed; two missing ones prove nothing."""
    row = await selection.remember("a.md", fingerprint=before)

    selected = await selection.select(ref("a.md", fingerprint=now))

    assert selected == [ref("a.md", fingerprint=now)]
    assert selection.sightings.has(row), "it was seen, whatever becomes of it"


async def test_other_settings_select_every_document(selection: Selection) -> None:
    """Records follow from the settings as well as from the document."""
    await selection.remember("a.md", recipe="recipe-0")

    assert await selection.select(ref("a.md")) == [ref("a.md")]


async def test_what_is_asked_for_is_selected_whatever_its_fingerprint(selection: Selection) -> None:
    """A replay reads documents that have not changed since they failed."""
    await selection.remember("a.md")
    await selection.remember("b.md")

    assert await selection.select(ref("a.md"), ref("b.md"), always=["b.md"]) == [ref("b.md")]


async def test_an_unchanged_document_with_a_dead_letter_still_counts_as_failed(selection: Selection) -> None:
    """A run must not say that it is in sync because it did not look again."""
    await selection.remember("a.md", is_dead=True)

    selected = await selection.select(ref("a.md"))

    assert selected == []
    assert selection.told(DocumentsDecided) == [DocumentsDecided("failed", 1)]


async def test_unchanged_documents_are_told_of_at_once_with_their_records(selection: Selection) -> None:
    """To tell of each alone would cost more than to find out."""
    for name in ("a.md", "b.md", "c.md"):
        await selection.remember(name, records=2)
    selection.sightings.delivered = {DocumentId("b.md"): {RecordKey("b.md-0")}}

    await selection.select(ref("a.md"), ref("b.md"), ref("c.md", fingerprint="2"))

    assert selection.told(DocumentsDecided) == [DocumentsDecided("unchanged", 2, unchanged=3)]
    assert selection.sightings.listed == 3


@pytest.mark.parametrize(
    ("first", "second", "is_selected"), [("1", "1", False), ("1", "2", False), ("2", "1", True), (None, "1", True)]
)
async def test_of_a_document_that_is_listed_twice_the_first_counts(
    selection: Selection, first: str | None, second: str | None, is_selected: bool
) -> None:
    """Paged listings show a document twice when it moves between pages, by chance on one page."""
    await selection.remember("a.md")

    selected = await selection.select(ref("a.md", fingerprint=first), ref("a.md", fingerprint=second))

    assert selected == [ref("a.md", fingerprint=first)] * is_selected
    assert selection.told(DocumentsDecided) == [DocumentsDecided("unchanged", 1)] * (not is_selected)
    assert selection.sightings.listed == 2


async def test_the_listing_is_closed_when_selecting_ends_early(selection: Selection) -> None:
    """A connector may hold a connection or an open folder for as long as it lists."""
    is_closed = False

    async def listing() -> Listing:
        nonlocal is_closed
        try:
            yield [ref("a.md")]
            yield [ref("b.md")]
        finally:
            is_closed = True

    selected_in, selected = create_memory_object_stream[list[Selected]](math.inf)
    selected.close()
    with pytest.raises(BrokenResourceError):
        await select_documents(
            listing(),
            selected_in,
            state=selection.state,
            parser=LineParser(),
            recipe=RECIPE,
            sightings=selection.sightings,
            always=(),
            observe=selection.events.append,
        )

    assert is_closed


async def test_the_parts_of_an_unchanged_file_count_and_not_the_file(selection: Selection) -> None:
    """Each line is a document; a part that is not marked would be deleted."""
    rows = [
        await selection.remember("a.jsonl", has_parts=True),
        await selection.remember("a.jsonl#0", origin="a.jsonl"),
        await selection.remember("a.jsonl#1", origin="a.jsonl", is_dead=True),
    ]

    await selection.select(ref("a.jsonl"))

    assert selection.told(DocumentsDecided) == [DocumentsDecided("unchanged", 1), DocumentsDecided("failed", 1)]
    assert all(map(selection.sightings.has, rows))


async def test_what_was_left_out_is_read_once_the_parser_can_read_more(selection: Selection) -> None:
    """Nobody touches a thousand PDFs because memsync was brought up to date."""
    await selection.remember("a.bin", skipped="unsupported type application/pdf", recipe="recipe-1 less")
    await selection.remember("b.eml", has_parts=True)
    await selection.remember("b.eml#text", origin="b.eml")
    await selection.remember("b.eml#c.pdf", origin="b.eml", skipped="unsupported type .pdf", recipe="recipe-1 less")
    await selection.remember("d.eml", has_parts=True)
    await selection.remember("d.eml#e.png", origin="d.eml", skipped="unsupported type .png", recipe=LEFT_OUT)

    selected = await selection.select(ref("a.bin"), ref("b.eml"), ref("d.eml"))

    assert selected == [ref("a.bin"), ref("b.eml")]
    assert selection.told(DocumentSkippedByReason) == [DocumentSkippedByReason("unsupported type .png", 1)]


async def test_a_document_that_has_no_text_is_told_by_its_reason_and_never_fetched(selection: Selection) -> None:
    """Fetching a film to find that it is one takes long."""
    await selection.remember("b.bin", skipped="binary", recipe=LEFT_OUT)

    selected = await selection.select(ref("a.png"), ref("b.bin"), DocumentSkipped(DocumentId("c.iso"), "too large"))

    assert selected == []
    assert selection.told(DocumentSkippedByReason) == [
        DocumentSkippedByReason("unsupported type .png"),
        DocumentSkippedByReason("binary"),
        DocumentSkippedByReason("too large"),
    ]
    assert selection.sightings.listed == 3, "a folder full of them is not an empty folder"
    assert not selection.told(DocumentsDecided)


async def test_what_a_scan_says_of_itself_is_remembered(selection: Selection) -> None:
    """Deletions are decided by it."""
    broken = ScanError("docs/secret/", "PermissionError", "not listed")

    selected = await selection.select(ref("a.md"), broken, ScanComplete("docs/"), Checkpoint("7"))

    assert selected == [ref("a.md"), broken, Checkpoint("7")]
    assert selection.sightings.broken == ["docs/secret/"]
    assert selection.sightings.complete == ["docs/"]
    assert selection.told(DocumentsListed) == [DocumentsListed(1)]


# --------------------------------------------------------------------------------------------------- fetching


class WatchedSource(MemorySource):
    """A source whose fetches end in the opposite order, and that counts how many are under way."""

    under_way = 0
    most_under_way = 0

    async def fetch(self, ref: DocumentRef) -> Document:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(40 - self.under_way):
            await checkpoint()
        try:
            return await super().fetch(ref)
        finally:
            self.under_way -= 1


async def fetch(source: MemorySource, *items: Selected) -> list[list[Fetched]]:
    async def stage(
        selected: MemoryObjectReceiveStream[list[Selected]], fetched: MemoryObjectSendStream[list[Fetched]]
    ) -> None:
        await fetch_documents(selected, fetched, connector=source, observe=nobody)

    return await through(stage, list(items))


async def test_documents_are_passed_on_in_the_order_of_the_scan() -> None:
    """A checkpoint speaks of all that went before it, however long that took."""
    names = [f"{number:02}.md" for number in range(10)]
    source = WatchedSource(dict.fromkeys(names, "text"))
    items: list[Selected] = [ref(name) for name in names]
    items[5:5] = [Checkpoint("5"), ScanError("x/", "PermissionError", "not listed")]

    fetched = flat(await fetch(source, *items))

    assert source.fetched != names, "the test proves nothing if they end in order"
    assert [item.ref.id if isinstance(item, Document) else item for item in fetched] == [
        *names[:5],
        *items[5:7],
        *names[5:],
    ]


async def test_a_bounded_number_of_documents_is_fetched_at_once() -> None:
    """Each may be large, and a source has its own limits."""
    names = [f"{number:03}.md" for number in range(3 * FETCHED_AT_ONCE)]
    source = WatchedSource(dict.fromkeys(names, "text"))

    fetched = await fetch(source, *(ref(name, size_bytes=4) for name in names))

    assert source.most_under_way == FETCHES_AT_ONCE
    assert [len(window) for window in fetched] == [FETCHED_AT_ONCE] * 3


async def test_fewer_documents_are_held_at_once_if_their_sizes_are_not_known() -> None:
    """All of them may be large."""
    names = [f"{number:02}.md" for number in range(3 * FETCHES_AT_ONCE)]

    fetched = await fetch(MemorySource(dict.fromkeys(names, "text")), *map(ref, names))

    assert [len(window) for window in fetched] == [FETCHES_AT_ONCE] * 3


@given(st.lists(st.one_of(st.none(), st.integers(0, 2 * FETCHED_BYTES_MAX)), max_size=60))
def test_windows_are_bounded_in_items_and_bytes(sizes: list[int | None]) -> None:
    """Memory stays flat; a document that is larger by itself goes alone."""
    items = [ref(f"{number}.md", size_bytes=size) for number, size in enumerate(sizes)]

    windows = list(_windows(items))

    assert flat(windows) == items
    for window in windows:
        window_bytes = sum(map(_size, window))
        assert 1 <= len(window) <= FETCHED_AT_ONCE
        assert window_bytes <= FETCHED_BYTES_MAX or len([item for item in window if _size(item)]) == 1


def _size(item: Selected) -> int:
    if not isinstance(item, DocumentRef):
        return 0
    return FETCHED_BYTES_MAX // FETCHES_AT_ONCE if item.size_bytes is None else item.size_bytes


async def test_a_document_that_cannot_be_fetched_does_not_stop_the_rest() -> None:
    """One file without permission must not keep a thousand others out of the memory."""
    source = MemorySource({"a.md": "A", "b.md": "B", "c.md": "C", "d.md": "D"})
    source.fetch_errors["a.md"] = UnreadableDocument("too_large", "it is too large")
    source.fetch_errors["b.md"] = UnsupportedDocument("binary")
    source.vanishing.add("c.md")

    fetched = flat(await fetch(source, *map(ref, ["a.md", "b.md", "c.md", "d.md"])))

    assert fetched[:3] == [
        Unread(ref("a.md"), "fetch", "too_large", "it is too large"),
        LeftOut(ref("b.md"), "binary"),
        Vanished(ref("c.md")),
    ]
    assert isinstance(fetched[3], Document)
    assert fetched[3].content == b"D"


async def test_documents_that_can_be_read_where_they_are_parsed_are_not_fetched_before() -> None:
    """Their content need not be carried from one process to another."""
    source = MemorySource({"a.md": "A"})
    source.document_reader = ReaderOf({})  # type: ignore[attr-defined]

    assert flat(await fetch(source, ref("a.md"), Checkpoint("1"))) == [ref("a.md"), Checkpoint("1")]
    assert source.fetched == []


async def test_a_source_that_fails_as_a_whole_ends_the_run() -> None:
    """If every fetch fails, no document is to blame."""
    source = MemorySource({"a.md": "A"})
    source.is_missing = True

    with pytest.raises((SourceError, BaseExceptionGroup)) as caught:
        await fetch(source, ref("a.md"))

    error = caught.value
    assert isinstance(error, SourceError) or caught.group_contains(SourceError)


# --------------------------------------------------------------------------------------------------- deriving

RULES = RecordRules(source="handbook", recipe=RECIPE)
DERIVER = Deriver(None, LineParser(), RULES, service_limits())


async def derive(*lists: list[Fetched], deriver: Deriver = DERIVER) -> list[list[Planned]]:
    async with workers_in_place(deriver) as workers:
        return await through(partial(derive_documents, derive=workers), *lists)


async def derive_all(*items: Fetched) -> list[Planned]:
    return flat(await derive(list(items)))


async def test_a_text_becomes_records() -> None:
    """Every piece of it, in order."""
    text = "\n\n".join(f"Paragraph {number}. {'word ' * 300}" for number in range(10))

    (derived,) = await derive_all(document("a.md", text))

    assert isinstance(derived, Derived)
    assert (derived.ref, derived.document) == (ref("a.md"), "a.md")
    assert len(derived.records) > 1
    assert "".join("".join(one.text.split()) for one in derived.records) == "".join(text.split())


async def test_a_blank_text_becomes_no_records_and_is_still_accounted_for() -> None:
    """The document is there and asks for nothing."""
    assert await derive_all(document("a.md", " \n")) == [Derived(ref("a.md"), DocumentId("a.md"), ())]


async def test_a_document_of_parts_ends_with_its_end() -> None:
    """Only then it is known which of its parts are gone. The ledger knows each by its id, and by the file's."""
    derived = await derive_all(document("a.jsonl", "one\ntwo"), document("b.md", "text"))

    assert [item.document if isinstance(item, Derived) else item for item in derived] == [
        "a.jsonl#0",
        "a.jsonl#1",
        PartsEnd(ref("a.jsonl")),
        "b.md",
    ]
    assert isinstance(derived[1], Derived)
    assert derived[1].ref.id == "a.jsonl"
    assert {one.document for one in derived[1].records} == {"a.jsonl#1"}


async def test_a_file_of_parts_without_any_is_read_to_its_end() -> None:
    """All lines may have been removed, which is no fault of reading."""
    assert await derive_all(document("a.jsonl", "")) == [PartsEnd(ref("a.jsonl"))]


async def test_a_document_that_cannot_be_parsed_does_not_stop_the_rest() -> None:
    """One broken file must not keep a thousand others out of the memory."""
    derived = await derive_all(document("a.md", "broken"), document("b.md", "binary"), document("c.md", "text"))

    assert derived[:2] == [Unread(ref("a.md"), "parse", "bad_syntax", "it is broken"), LeftOut(ref("b.md"), "binary")]
    assert isinstance(derived[2], Derived)


async def test_a_file_of_parts_that_breaks_off_is_not_read_to_its_end() -> None:
    """The parts behind the fault are not gone, they were not seen."""
    derived = await derive_all(document("a.jsonl", "one\nbroken\nthree"))

    assert derived[1:] == [Unread(ref("a.jsonl"), "parse", "bad_syntax", "it is broken", has_parts=True)]
    assert isinstance(derived[0], Derived)


async def test_what_was_not_fetched_passes_in_its_place() -> None:
    """Order holds over every stage."""
    passing: list[Fetched] = [
        Unread(ref("a.md"), "fetch", "too_large", "it is too large"),
        LeftOut(ref("b.md"), "binary"),
        Vanished(ref("c.md")),
        ScanError("x/", "PermissionError", "not listed"),
        Checkpoint("1"),
    ]

    derived = await derive_all(document("0.md", "text"), *passing, document("z.md", "text"))

    assert derived[1:-1] == passing
    assert isinstance(derived[0], Derived)
    assert isinstance(derived[-1], Derived)


async def test_the_parts_of_a_large_file_pass_in_bounded_lists() -> None:
    """A file of a million lines must not become one list."""
    lists = await derive([document("a.jsonl", "line\n" * (2 * DERIVED_AT_ONCE + 50))])

    assert [len(items) for items in lists] == [DERIVED_AT_ONCE, DERIVED_AT_ONCE, 51]


async def test_documents_of_many_records_pass_in_lists_of_bounded_records() -> None:
    """The event loop must not be busy with one list for long."""
    text = "\n\n".join(f"Paragraph {number}. {'word ' * 700}" for number in range(60))

    lists = await derive([document(f"{number}.md", text) for number in range(20)])

    records = [sum(len(one.records) for one in items if isinstance(one, Derived)) for items in lists]
    in_one = sum(records) // 20
    assert len(lists) > 4
    assert all(RECORDS_AT_ONCE <= count < RECORDS_AT_ONCE + in_one for count in records[:-1])


def test_a_list_tells_how_much_is_dealt_with() -> None:
    """Who derives elsewhere must know which document it was that did not come back."""
    text = "word " * 10
    items: list[Fetched] = [
        document("a.md", text),
        document("b.jsonl", "line\n" * (DERIVED_AT_ONCE - 2)),
        document("c.jsonl", "line\n" * (DERIVED_AT_ONCE + 5)),
        Checkpoint("1"),
    ]

    lists = list(DERIVER.derive_lists(items))

    assert [(done, len(derived), is_part(derived[-1])) for done, derived in lists] == [
        (2, DERIVED_AT_ONCE, False),  # up to the end of b
        (2, DERIVED_AT_ONCE, True),
        (4, 7, False),
    ]


class ReaderOf:
    """Reads what a source in memory holds, where it is parsed."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def read(self, ref: DocumentRef) -> Document:
        match self._texts.get(ref.id):
            case None:
                raise DocumentVanished("gone")
            case "no permission":
                raise UnreadableDocument("PermissionError", "cannot be read")
            case "a device":
                raise UnsupportedDocument("device")
            case "no root":
                raise SourceError("the root is gone")
            case text:
                return Document(ref, text.encode())


async def test_a_document_without_its_content_is_read_where_it_is_parsed() -> None:
    """With the same outcomes as if it had been fetched before."""
    texts = {"a.md": "text", "b.md": "no permission", "c.md": "a device"}
    deriver = replace(DERIVER, reader=ReaderOf(texts))

    derived = flat(await derive([ref("a.md"), ref("b.md"), ref("c.md"), ref("d.md")], deriver=deriver))

    assert isinstance(derived[0], Derived)
    assert derived[1:] == [
        Unread(ref("b.md"), "fetch", "PermissionError", "cannot be read"),
        LeftOut(ref("c.md"), "device"),
        Vanished(ref("d.md")),
    ]


async def test_a_root_that_is_gone_while_documents_are_read_ends_the_run() -> None:
    """It must not look like the end of each of them."""
    deriver = replace(DERIVER, reader=ReaderOf({"a.md": "no root"}))

    with pytest.raises((SourceError, BaseExceptionGroup)) as caught:
        await derive([ref("a.md")], deriver=deriver)

    error = caught.value
    assert isinstance(error, SourceError) or caught.group_contains(SourceError)


async def test_lists_that_are_derived_side_by_side_pass_in_their_order() -> None:
    """A checkpoint speaks of all that went before it, whoever was faster."""
    under_way: list[int] = []

    async def derive_backwards(items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
        number = len(under_way)
        under_way.append(number)
        return lists(items, number)

    async def lists(items: Sequence[Fetched], number: int) -> AsyncGenerator[list[Planned], None]:
        for _ in range(10 - number):
            await checkpoint()
        for item in items:
            assert isinstance(item, Checkpoint)
            yield [item]

    given: list[list[Fetched]] = [[Checkpoint(f"{number}.{part}") for part in range(3)] for number in range(8)]
    derived = await through(partial(derive_documents, derive=derive_backwards), *given)

    assert flat(derived) == flat(given)


# --------------------------------------------------------------------------------------------- the whole way


async def read_all(source: MemorySource, state: SqliteStateStore, observe: Callable[[RunEvent], None]) -> list[Planned]:
    """The stages of this file in a row, wired as the pipeline does."""
    selected_in, selected = create_memory_object_stream[list[Selected]](2)
    fetched_in, fetched = create_memory_object_stream[list[Fetched]](1)
    derived_in, derived = create_memory_object_stream[list[Planned]](math.inf)

    async def select() -> None:
        await select_documents(
            scan_source(source, None, "", observe),
            selected_in,
            state=state,
            parser=LineParser(),
            recipe=RECIPE,
            sightings=Sightings(await state.last_row()),
            always=(),
            observe=observe,
        )

    async def fetch() -> None:
        await fetch_documents(selected, fetched_in, connector=source, observe=nobody)

    async with workers_in_place(DERIVER) as workers, create_task_group() as tasks:
        for stage in (select, fetch):
            tasks.start_soon(stage)
        tasks.start_soon(partial(derive_documents, derive=workers), fetched, derived_in)
    async with derived:
        return flat([items async for items in derived])


async def test_documents_that_are_in_the_ledger_unchanged_are_not_even_fetched(selection: Selection) -> None:
    """The price of a run is that of what changed."""
    source = MemorySource({"a.md": "A", "b.md": "B", "c.md": "C"})
    for name in ("a.md", "c.md"):
        located = await source.locate(DocumentId(name))
        assert located is not None
        await selection.remember(name, fingerprint=located.fingerprint)

    planned = await read_all(source, selection.state, selection.events.append)

    assert source.fetched == ["b.md"]
    assert [item.document for item in planned if isinstance(item, Derived)] == ["b.md"]


async def test_every_listed_document_arrives_once_in_the_order_of_the_scan(selection: Selection) -> None:
    """Whatever becomes of it on the way."""
    names = [f"{number:03}.md" for number in range(300)]
    source = MemorySource(dict.fromkeys(names, "text"), events_per_list=64)
    source.fetch_errors["010.md"] = UnreadableDocument("too_large", "it is too large")
    source.documents["020.md"] = "broken"
    source.documents["030.md"] = "binary"
    source.vanishing.add("040.md")

    planned = await read_all(source, selection.state, selection.events.append)

    assert [item.ref.id for item in planned if not isinstance(item, ScanError | Checkpoint)] == names
    outcomes = {item.ref.id: type(item) for item in planned if isinstance(item, Unread | LeftOut | Vanished)}
    assert outcomes == {"010.md": Unread, "020.md": Unread, "030.md": LeftOut, "040.md": Vanished}


async def test_a_document_that_vanishes_is_not_counted_on_the_way(selection: Selection) -> None:
    """It is neither unchanged nor failed: the ledger decides what its absence means."""
    source = MemorySource({"a.md": "A"})
    source.vanishing.add("a.md")

    planned = await read_all(source, selection.state, selection.events.append)

    assert [type(item) for item in planned] == [Vanished]
    assert not selection.told(DocumentsDecided)
