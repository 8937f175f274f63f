"""The source in memory keeps the promises of a real one, and breaks them on demand."""

import pytest

from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all, scan_into, scan_refs
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import DocumentId, DocumentRef, DocumentSkipped, ScanComplete, SourceEvent
from tests.fakes.source import MemorySource


class MemoryWorld:
    def __init__(self) -> None:
        self._source = MemorySource()

    def connector(self) -> MemorySource:
        return self._source

    def put(self, name: str, content: bytes) -> DocumentId:
        self._source.documents[name] = content
        return DocumentId(name)

    def remove(self, name: str) -> None:
        del self._source.documents[name]

    def remove_root(self) -> None:
        self._source.is_missing = True

    def make_unlistable(self, folder: str) -> None:
        self._source.unlistable.add(f"{folder}/")


class TestMemorySourceKeepsTheContract(SourceConnectorContract):
    @pytest.fixture
    def world(self) -> SourceWorld:
        return MemoryWorld()


@pytest.fixture
def source() -> MemorySource:
    return MemorySource({"a.md": "A", "b.md": "B", "c.md": "C"}, events_per_list=2)


async def test_a_scan_told_to_fail_stops_at_that_event(source: MemorySource) -> None:
    """Tests of a broken listing need to choose how far it got."""
    source.fails_after = 3
    events: list[SourceEvent] = []

    with pytest.raises(SourceError):
        await scan_into(events, source)

    assert [event.id for event in events if isinstance(event, DocumentRef)] == ["a.md", "b.md", "c.md"]


async def test_a_scan_can_stop_without_its_last_word(source: MemorySource) -> None:
    """The end of a generator is not `ScanComplete`."""
    source.says_complete = False

    events = await scan_all(source)

    assert len(events) == 3
    assert not any(isinstance(event, ScanComplete) for event in events)


async def test_a_vanishing_document_is_listed_and_cannot_be_fetched(source: MemorySource) -> None:
    """It goes between listing and fetching, at a moment that no test could hit otherwise."""
    source.vanishing.add("a.md")
    refs = await scan_refs(source)

    with pytest.raises(DocumentVanished):
        await source.fetch(refs[DocumentId("a.md")])

    assert await source.locate(DocumentId("a.md")) is None


async def test_a_fetch_can_be_told_what_to_raise(source: MemorySource) -> None:
    """Each way of failing takes its own way through the pipeline."""
    source.fetch_errors["a.md"] = UnreadableDocument("too_large", "too large")
    refs = await scan_refs(source)

    with pytest.raises(UnreadableDocument, match="too large"):
        await source.fetch(refs[DocumentId("a.md")])

    assert source.fetched == ["a.md"]


async def test_skipped_documents_and_missing_fingerprints_show_in_the_scan(source: MemorySource) -> None:
    """Both are counted or fetched differently from a plain document."""
    source.skipped["b.md"] = "because"
    source.has_fingerprints = False

    events = await scan_all(source)

    assert DocumentSkipped(DocumentId("b.md"), "because") in events
    assert {event.fingerprint for event in events if isinstance(event, DocumentRef)} == {None}
