"""What every connector promises, as tests: subclass the two contracts and give them a `world`."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import count
from typing import Protocol

import pytest

from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument, UnsupportedDocument
from pipeline.model import (
    Checkpoint,
    DocumentId,
    DocumentRef,
    DocumentRemoved,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)
from pipeline.protocols import SourceConnector

EVENTS_PER_LIST_MAX = 1_000


class SourceWorld(Protocol):
    """A source that a test can change behind the connector's back.

    Names are paths such as `guide/setup.md`. A method that the source has no equivalent for skips the test.
    """

    def connector(self) -> SourceConnector:
        """Return a new connector, for which every change made so far is long past."""
        ...

    def put(self, name: str, content: bytes) -> DocumentId:
        """Add the document or change it."""
        ...

    def remove(self, name: str) -> None: ...

    def remove_root(self) -> None:
        """Make the source as a whole impossible to find, as a volume that is not mounted."""
        ...

    def make_unlistable(self, folder: str) -> None:
        """Make what lies in `folder` impossible to list, while the rest stays as it is."""
        ...


class SpoilableWorld(Protocol):
    """A source that can be made to answer wrongly: with an error, with nothing, with half of what it should, with
    something else, with the same page again and again.

    `faults` name the ways in which it can.
    """

    @property
    def faults(self) -> Collection[str]: ...

    def connector(self) -> SourceConnector: ...

    def put(self, name: str, content: bytes) -> DocumentId: ...

    def spoil(self, fault: str, position: int) -> None:
        """From now on, give this answer instead of the one at `position`, counted from 0, and right ones before and
        after it."""
        ...

    @property
    def was_spoilt(self) -> bool:
        """Whether an answer has been spoilt since `spoil` was called."""
        ...

    def heal(self) -> None:
        """Give right answers only."""
        ...


async def scan_all(connector: SourceConnector) -> list[SourceEvent]:
    events: list[SourceEvent] = []
    await scan_into(events, connector)
    return events


async def scan_into(events: list[SourceEvent], connector: SourceConnector) -> None:
    """Add what a scan says to `events`, which keeps what came before an error."""
    async for listed in connector.scan(None):
        assert 1 <= len(listed) <= EVENTS_PER_LIST_MAX
        events.extend(listed)


async def scan_refs(connector: SourceConnector) -> dict[DocumentId, DocumentRef]:
    """Return what a scan lists, by id; no id may come twice."""
    refs = [event for event in await scan_all(connector) if isinstance(event, DocumentRef)]
    by_id = {ref.id: ref for ref in refs}
    assert len(by_id) == len(refs), "two documents share an id"
    return by_id


class SourceConnectorContract:
    """A subclass provides the fixture `world`, an empty source."""

    # ------------------------------------------------------------------------------------------- listing

    async def test_a_scan_lists_every_document_once(self, world: SourceWorld) -> None:
        """A document missing from a complete scan is deleted; one listed twice would be stored twice."""
        expected = {world.put(f"folder-{number % 7}/{number}.md", b"text") for number in range(600)}

        refs = await scan_refs(world.connector())

        assert set(refs) == expected

    async def test_a_complete_scan_ends_with_the_word_for_it(self, world: SourceWorld) -> None:
        """Only `ScanComplete` allows deletes, so it must come once and after all but the checkpoint."""
        world.put("a.md", b"text")
        world.put("guide/b.md", b"text")

        events = _without_checkpoints(await scan_all(world.connector()))

        assert events[-1] == ScanComplete("")
        assert sum(isinstance(event, ScanComplete) for event in events) == 1

    async def test_an_empty_source_is_listed_completely(self, world: SourceWorld) -> None:
        """Nothing there is an answer too; what to make of it is the guard's business."""
        assert _without_checkpoints(await scan_all(world.connector())) == [ScanComplete("")]

    async def test_a_second_scan_of_an_unchanged_source_says_the_same(self, world: SourceWorld) -> None:
        """Stable ids and fingerprints are what spares an unchanged document its fetch."""
        world.put("a.md", b"text")
        world.put("guide/b.md", b"text")
        connector = world.connector()

        first, second, third = [
            _without_checkpoints(await scan_all(each)) for each in (connector, connector, world.connector())
        ]

        assert first == second == third

    async def test_an_edited_document_keeps_its_id_and_changes_its_fingerprint(self, world: SourceWorld) -> None:
        """An equal fingerprint would hide the edit for ever."""
        document = world.put("a.md", b"text")
        before = (await scan_refs(world.connector()))[document]
        world.put("a.md", b"longer text")

        after = (await scan_refs(world.connector()))[document]

        assert after.fingerprint is None or after.fingerprint != before.fingerprint

    async def test_an_edit_leaves_the_fingerprints_of_others_alone(self, world: SourceWorld) -> None:
        """One edit must not cost a fetch of everything."""
        neighbour = world.put("a.md", b"text")
        world.put("b.md", b"text")
        before = (await scan_refs(world.connector()))[neighbour]
        world.put("b.md", b"longer text")

        after = (await scan_refs(world.connector()))[neighbour]

        assert after == before

    async def test_a_removed_document_is_not_listed(self, world: SourceWorld) -> None:
        """Its absence from a complete scan is how its removal is noticed."""
        gone, kept = world.put("a.md", b"text"), world.put("b.md", b"text")
        world.remove("a.md")

        refs = await scan_refs(world.connector())

        assert gone not in refs
        assert kept in refs

    async def test_times_have_a_time_zone(self, world: SourceWorld) -> None:
        """A record's timestamp comes from here; a naive time would mean another moment on another machine."""
        document = world.put("a.md", b"text")

        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        fetched = (await connector.fetch(listed)).ref

        for modified_at in (listed.modified_at, fetched.modified_at):
            assert modified_at is None or modified_at.tzinfo is not None

    async def test_a_missing_root_is_an_error_and_not_an_empty_source(self, world: SourceWorld) -> None:
        """A volume that is not mounted must not empty the memory."""
        world.put("a.md", b"text")
        connector = world.connector()
        world.remove_root()
        events: list[SourceEvent] = []

        with pytest.raises(SourceError):
            await scan_into(events, connector)

        assert not any(isinstance(event, ScanComplete) for event in events)

    async def test_a_part_that_cannot_be_listed_is_named_and_the_rest_is_listed(self, world: SourceWorld) -> None:
        """What lies in the named scope counts as present, so the scope must cover all that is missing."""
        hidden = world.put("closed/a.md", b"text")
        kept = {world.put("a.md", b"text"), world.put("open/a.md", b"text"), world.put("z.md", b"text")}
        world.make_unlistable("closed")

        events = await scan_all(world.connector())

        scopes = [event.scope for event in events if isinstance(event, ScanError)]
        assert {event.id for event in events if isinstance(event, DocumentRef)} == kept
        assert any(hidden.startswith(scope) for scope in scopes)
        assert not any(document.startswith(scope) for document in kept for scope in scopes)

    # ------------------------------------------------------------------------------------------ fetching

    async def test_every_listed_document_can_be_fetched(self, world: SourceWorld) -> None:
        """The content comes whole and unchanged, with a ref that says what it was listed with, or more."""
        contents = {
            world.put("a.md", b"text"): b"text",
            world.put("guide/empty.md", b""): b"",
            world.put("guide/bytes.bin", bytes(range(256)) * 1_000): bytes(range(256)) * 1_000,
        }
        connector = world.connector()
        refs = await scan_refs(connector)

        fetched = {document: await connector.fetch(ref) for document, ref in refs.items()}

        assert {document: found.content for document, found in fetched.items()} == contents
        for document, ref in refs.items():
            found = fetched[document].ref
            assert found._replace(modified_at=None, title=None) == ref._replace(modified_at=None, title=None)
            assert ref.modified_at in (None, found.modified_at)
            assert ref.title in (None, found.title)

    async def test_a_document_edited_after_it_was_listed_is_fetched_as_it_is_now(self, world: SourceWorld) -> None:
        """A fingerprint of the new content must never stand beside the old one: the edit would be lost."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.put("a.md", b"longer text")

        fetched = await connector.fetch(listed)

        now = (await scan_refs(world.connector()))[document]
        assert fetched.content == b"longer text"
        assert fetched.ref.id == document
        assert fetched.ref.fingerprint in {None, now.fingerprint}

    async def test_a_document_removed_after_it_was_listed_has_vanished(self, world: SourceWorld) -> None:
        """That is no failure of the source: the next scan will not list it."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove("a.md")

        with pytest.raises(DocumentVanished):
            await connector.fetch(listed)

    async def test_no_document_has_vanished_with_a_missing_root(self, world: SourceWorld) -> None:
        """Without the root, nothing is known of any document."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove_root()

        with pytest.raises(SourceError):
            await connector.fetch(listed)

    # ------------------------------------------------------------------------------------------ locating

    async def test_locating_agrees_with_the_scan(self, world: SourceWorld) -> None:
        """A replay locates one document; it must find what a scan would list, and nothing else."""
        world.put("a.md", b"text")
        world.put("guide/deep/b.md", b"text")
        connector = world.connector()
        refs = await scan_refs(connector)

        located = {document: await connector.locate(document) for document in refs}

        assert located == refs

    async def test_what_is_gone_is_located_nowhere(self, world: SourceWorld) -> None:
        """None is the proof that a delete may rest on."""
        removed = world.put("guide/a.md", b"text")
        world.put("guide/b.md", b"text")
        world.remove("guide/a.md")
        connector = world.connector()

        assert await connector.locate(removed) is None
        assert await connector.locate(DocumentId("never/was.md")) is None

    async def test_nothing_is_located_or_missed_without_the_root(self, world: SourceWorld) -> None:
        """None for a document on a volume that is not mounted would delete it."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        world.remove_root()

        with pytest.raises(SourceError):
            await connector.locate(document)

    async def test_nothing_is_located_or_missed_in_a_part_that_cannot_be_listed(self, world: SourceWorld) -> None:
        """The scan cannot tell what is there, so locating must not tell either."""
        document = world.put("closed/a.md", b"text")
        world.make_unlistable("closed")
        connector = world.connector()

        with pytest.raises(SourceError):
            await connector.locate(document)

    # ---------------------------------------------------------------------------------------- going on

    async def test_a_scan_from_a_checkpoint_misses_nothing_that_is_new(self, world: SourceWorld) -> None:
        """What it leaves out must be what was there before, and it must not call that complete."""
        before = {world.put(f"folder/{number}.md", b"text") for number in range(5)}
        checkpoints = [event for event in await scan_all(world.connector()) if isinstance(event, Checkpoint)]
        new = world.put("new.md", b"text")

        for checkpoint in checkpoints:
            events = [event async for events in world.connector().scan(checkpoint) for event in events]
            listed = {event.id for event in events if isinstance(event, DocumentRef)}
            assert new in listed
            if not listed >= before:
                assert not any(isinstance(event, ScanComplete) for event in events)
                assert any(isinstance(event, ScanIncremental) for event in events)


class SpoiltAnswersContract:
    """A subclass provides the fixture `world`, an empty source. Each kind of fault at each answer is a case."""

    async def test_no_spoilt_answer_makes_a_document_look_gone_or_gives_half_of_it(self, world: SpoilableWorld) -> None:
        """A listing that is not whole and says that it is would delete what is there."""
        contents = {
            world.put(f"{folder}/{number}.md", f"text {number} in {folder}".encode()): f"text {number} in {folder}"
            for folder in "ab"
            for number in range(4)
        }
        connector = world.connector()
        for fault in world.faults:
            for position in count():
                world.heal()
                world.spoil(fault, position)
                case = fault, position
                events: list[SourceEvent] = []
                with suppress(SourceError):
                    await scan_into(events, connector)
                listed = {event.id: event for event in events if isinstance(event, DocumentRef)}
                assert listed.keys() <= contents.keys(), case
                gone = [document for document in contents if _looks_gone(document, events)]
                with suppress(SourceError):
                    for document in gone:
                        assert await connector.locate(document) is not None, (case, document)
                with suppress(SourceError):
                    for document, ref in listed.items():
                        with suppress(UnreadableDocument, UnsupportedDocument):
                            assert (await connector.fetch(ref)).content.decode() == contents[document], case
                if not world.was_spoilt:
                    break

    async def test_after_a_spoilt_answer_everything_is_as_it_was(self, world: SpoilableWorld) -> None:
        """What a connector keeps of an answer must not outlive the fault."""
        world.put("a/1.md", b"text")
        world.put("b/2.md", b"text")
        connector = world.connector()
        before = await scan_all(connector)
        for fault in world.faults:
            world.spoil(fault, 0)
            with suppress(SourceError):
                await scan_all(connector)
            world.heal()

            assert await scan_all(connector) == before, fault


def _without_checkpoints(events: Iterable[SourceEvent]) -> list[SourceEvent]:
    return [event for event in events if not isinstance(event, Checkpoint)]


def _looks_gone(document: DocumentId, events: list[SourceEvent]) -> bool:
    """Whether these events allow to delete `document`, if the source does not find it when it is asked once more."""
    if any(isinstance(event, DocumentRef) and event.id == document for event in events):
        return False
    if any(isinstance(event, ScanError) and document.startswith(event.scope) for event in events):
        return False
    return any(
        (isinstance(event, ScanComplete) and document.startswith(event.scope))
        or (isinstance(event, DocumentRemoved) and event.id == document)
        for event in events
    )
