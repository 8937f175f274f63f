"""Sources that show only what is new: what is not shown stays, and nothing that was missed is missed for good."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from email.message import EmailMessage

import pytest
from anyio.lowlevel import checkpoint

from pipeline.auto_replay import AutoReplay
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    DocumentRemoved,
    Fingerprint,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)
from pipeline.planner import DeletePolicy
from pipeline.report import SourceReport
from pipeline.state.sqlite import open_state
from pipeline.sync import preview, repair
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import RULES, AnyWorld, in_place


class Journal:
    """A source that is a list of what happened: (name, text), or (name, None) for a removal.

    With `lists_fully`, it shows what there is instead, if it is to list from the beginning.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[str, str | None]] = []
        self.since: list[str | None] = []
        self.cannot_fetch: set[str] = set()
        self.cannot_locate = False
        self.cannot_tell_of: set[str] = set()
        self.located: list[str] = []
        self.is_broken = False
        self.lists_fully = False
        self.fetched: list[str] = []
        self.silently_gone: set[str] = set()  # gone, and no entry says so

    @property
    def now(self) -> dict[str, str]:
        held: dict[str, str] = {}
        for name, text in self.entries:
            held.pop(name, None)
            if text is not None:
                held[name] = text
        return {name: text for name, text in held.items() if name not in self.silently_gone}

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        self.since.append(since.value if since else None)
        if since is None and self.lists_fully:
            yield [*(self._ref(name, text) for name, text in self.now.items()), ScanComplete()]
            yield [Checkpoint(str(len(self.entries)))]
            return
        for name, text in self.entries[int(since.value) if since else 0 :]:
            yield [DocumentRemoved(DocumentId(name)) if text is None else self._ref(name, text)]
        yield [ScanError("", "403", "not listed") if self.is_broken else ScanIncremental()]
        if not self.is_broken:
            yield [Checkpoint(str(len(self.entries)))]

    async def fetch(self, ref: DocumentRef) -> Document:
        self.fetched.append(ref.id)
        if ref.id in self.cannot_fetch:
            raise UnreadableDocument("403", "Cannot read it.")
        if ref.id not in self.now:
            raise DocumentVanished("It is gone.")
        text = self.now[ref.id]
        return Document(self._ref(ref.id, text), text.encode())

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        self.located.append(document)
        if self.cannot_locate or document in self.cannot_tell_of:
            raise SourceError("Cannot tell.")
        text = self.now.get(document)
        return self._ref(document, text) if text is not None else None

    def _ref(self, name: str, text: str) -> DocumentRef:
        return DocumentRef(DocumentId(name), f"journal:///{name}", Fingerprint(text))


@pytest.fixture
def journal() -> Journal:
    source = Journal()
    source.entries += [("a.md", "text of a"), ("b.md", "text of b")]
    return source


@pytest.fixture
async def world(journal: Journal) -> AsyncIterator[AnyWorld]:
    world = AnyWorld(journal, MemoryDestination())
    async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
        await world.do()
        journal.fetched.clear()
        yield world


async def test_what_is_not_shown_again_stays(journal: Journal, world: AnyWorld) -> None:
    journal.entries.append(("c.md", "text of c"))

    report = await world.do()

    assert world.texts() == ["text of a", "text of b", "text of c"]
    assert report.status == "in_sync"
    assert journal.since == [None, "2"]
    assert journal.fetched == ["c.md"]


async def test_a_run_without_news_changes_nothing(journal: Journal, world: AnyWorld) -> None:
    requests = len(world.memory.requests)

    await world.do()

    assert len(world.memory.requests) == requests
    assert journal.fetched == []
    assert journal.since == [None, "2"]


async def test_what_the_source_says_is_gone_goes(journal: Journal, world: AnyWorld) -> None:
    journal.entries.append(("a.md", None))

    report = await world.do()

    assert world.texts() == ["text of b"]
    assert report.documents.removed == 1


async def test_what_is_said_to_be_gone_and_is_found_stays(journal: Journal, world: AnyWorld) -> None:
    """It came back between the two, or the source does not know what it says."""
    journal.entries += [("a.md", None), ("a.md", "text of a once more")]

    await world.do()

    assert world.texts() == ["text of a once more", "text of b"]


async def test_parts_go_with_their_file(journal: Journal, world: AnyWorld) -> None:
    journal.entries.append(("c.jsonl", '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}'))
    await world.do()
    assert world.texts() == ["one", "text of a", "text of b", "two"]
    journal.entries.append(("c.jsonl", None))

    await world.do()

    assert world.texts() == ["text of a", "text of b"]


@pytest.mark.parametrize("now", ['{"id": 1, "text": "one"}', ""])
async def test_parts_go_that_their_file_has_no_more(journal: Journal, world: AnyWorld, now: str) -> None:
    """Nobody says so but the file, which was read to its end."""
    journal.entries.append(("c.jsonl", '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}'))
    await world.do()
    journal.entries.append(("c.jsonl", now))

    await world.do()

    assert world.texts() == [*(["one"] if now else []), "text of a", "text of b"]


async def test_parts_that_were_held_back_are_not_forgotten(journal: Journal, world: AnyWorld) -> None:
    lines = [f'{{"id": {number}, "text": "line {number}"}}' for number in range(20)]
    journal.entries.append(("c.jsonl", "\n".join(lines)))
    await world.do()
    journal.entries.append(("c.jsonl", lines[0]))
    report = await world.do()
    assert report.withheld_documents == 19
    world.deletes = DeletePolicy(allow_mass=True)

    await world.do()

    assert world.texts() == ["line 0", "text of a", "text of b"]


async def test_a_document_that_has_no_parts_any_more_leaves_none(journal: Journal, world: AnyWorld) -> None:
    letter = EmailMessage()
    letter.set_content("text of the letter")
    alone = letter.as_string()
    letter.add_attachment("text of the attachment", filename="a.txt")
    journal.entries.append(("c.eml", letter.as_string()))
    await world.do()
    assert "text of the attachment" in world.texts()
    journal.entries.append(("c.eml", alone))

    await world.do()

    assert world.texts() == ["text of a", "text of b", "text of the letter"]


async def test_a_mass_of_removals_trips_the_guard(journal: Journal, world: AnyWorld) -> None:
    journal.entries += [(f"{number}.md", f"text {number}") for number in range(20)]
    await world.do()
    journal.entries += [(f"{number}.md", None) for number in range(20)]

    report = await world.do()

    assert len(world.texts()) == 22
    assert report.withheld_documents == 20


async def test_removals_that_were_held_back_are_not_forgotten(journal: Journal, world: AnyWorld) -> None:
    """The source shows them but once: the place to go on from must not move beyond them."""
    journal.entries += [(f"{number}.md", f"text {number}") for number in range(20)]
    await world.do()
    journal.entries += [(f"{number}.md", None) for number in range(20)]
    await world.do()
    world.deletes = DeletePolicy(allow_mass=True)

    await world.do()
    await world.do()

    assert world.texts() == ["text of a", "text of b"]
    assert journal.since == [None, "2", "22", "22", "42"]


async def test_removals_are_not_forgotten_by_a_run_that_is_cut_off_before_them(
    journal: Journal, world: AnyWorld
) -> None:
    journal.entries += [("a.md", None), ("c.md", "text of c")]
    journal.cannot_locate = True
    with pytest.raises(SourceError):
        await world.do()
    assert world.texts() == ["text of a", "text of b", "text of c"]
    journal.cannot_locate = False

    await world.do()

    assert world.texts() == ["text of b", "text of c"]


async def test_what_a_full_listing_does_not_show_is_not_forgotten_by_a_run_that_may_not_delete(
    journal: Journal, world: AnyWorld
) -> None:
    """From the next place on, nothing would tell of it any more."""
    journal.entries += [(f"{number}.md", f"text {number}") for number in range(20)]
    await world.do()
    journal.entries += [(f"{number}.md", None) for number in range(20)]
    journal.lists_fully, world.rules = True, replace(RULES, recipe="r2")
    report = await world.do()
    assert report.withheld_documents == 20
    world.deletes = DeletePolicy(allow_mass=True)

    await world.do()
    await world.do()

    assert world.texts() == ["text of a", "text of b"]
    assert journal.since == [None, "2", None, None, "42"]


async def test_removals_where_something_could_not_be_listed_are_not_forgotten(
    journal: Journal, world: AnyWorld
) -> None:
    """They wait until the rest is listed too."""
    journal.entries += [("a.md", None), ("c.md", "text of c")]
    scan = journal.scan

    async def break_in_part(since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        yield [ScanError("a", "no_key", "a row without a key")]
        async for events in scan(since):
            yield events

    journal.scan = break_in_part  # type: ignore[method-assign]
    await world.do()
    assert world.texts() == ["text of a", "text of b", "text of c"]
    journal.scan = scan  # type: ignore[method-assign]

    await world.do()

    assert world.texts() == ["text of b", "text of c"]


async def test_without_deletes_the_place_to_go_on_from_moves_on(journal: Journal, world: AnyWorld) -> None:
    """Else every run would list all since the first removal; whoever allows deletes has everything listed again."""
    world.deletes = DeletePolicy(is_enabled=False)
    journal.entries += [("a.md", None), ("c.md", "text of c")]

    await world.do()
    await world.do()

    assert world.texts() == ["text of a", "text of b", "text of c"]
    assert journal.since == [None, "2", "4"]


async def test_with_other_settings_everything_is_listed_again(journal: Journal, world: AnyWorld) -> None:
    """Documents that are not shown would keep records of the old kind for ever."""
    world.rules = replace(RULES, recipe="r2", metadata={"team": "docs"})

    await world.do()

    assert journal.since == [None, None]
    assert all(record.metadata.get("team") == "docs" for record in world.memory.records.values())


async def test_a_repair_leads_to_a_full_listing(journal: Journal, world: AnyWorld) -> None:
    """What the memory lost is brought back, though the source has no news of it."""
    lost = next(iter(world.memory.records))
    del world.memory.records[lost]
    await world.do(repair)  # type: ignore[arg-type]

    await world.do()

    assert journal.since == [None, None]
    assert world.texts() == ["text of a", "text of b"]


async def test_what_could_not_be_fetched_is_tried_again_by_the_next_run(journal: Journal, world: AnyWorld) -> None:
    """The source does not show it again by itself."""
    journal.entries.append(("c.md", "text of c"))
    journal.cannot_fetch = {"c.md"}
    await world.do()
    assert world.texts() == ["text of a", "text of b"]
    journal.cannot_fetch = set()

    await world.do()

    assert world.texts() == ["text of a", "text of b", "text of c"]
    assert await world.state.letters() == []
    assert journal.fetched == ["c.md", "c.md"]


async def test_a_dead_letter_that_is_due_is_sent_though_nothing_is_new(journal: Journal, world: AnyWorld) -> None:
    """The source does not show its document again by itself."""
    journal.entries.append(("c.md", "flaky text"))
    world.memory.reject("flaky", 500)
    await world.do()
    world.memory._rejected.clear()
    world.now += AutoReplay().backoff_s

    report = await world.do()

    assert (report.resent, report.records.created) == (1, 1)
    assert world.texts() == ["flaky text", "text of a", "text of b"]
    assert await world.state.letters() == []
    assert journal.fetched == ["c.md", "c.md"]


async def test_what_a_dropped_record_was_to_replace_goes_though_nothing_is_new(
    journal: Journal, world: AnyWorld
) -> None:
    """Once: the document is not read again by every run for it."""
    journal.entries.append(("a.md", "unwanted text"))
    world.memory.reject("unwanted")
    await world.do()
    letters = await world.state.letters()
    await world.state.drop_letters([letter.id for letter in letters], world.now)
    journal.fetched.clear()

    await world.do()
    await world.do()

    assert world.texts() == ["text of b"]
    assert journal.fetched == ["a.md"]


async def test_what_could_not_be_fetched_and_is_gone_goes(journal: Journal, world: AnyWorld) -> None:
    """The source never tells of it again: else its letter would stand for ever, and each run ask for it."""
    journal.entries.append(("c.md", "text of c"))
    journal.cannot_fetch = {"c.md"}
    await world.do()
    journal.silently_gone = {"c.md"}
    await world.do()
    asked = len(journal.located)

    report = await world.do()

    assert await world.state.letters() == []
    assert (report.status, len(journal.located)) == ("in_sync", asked)
    assert world.texts() == ["text of a", "text of b"]


async def test_a_document_of_which_nobody_can_tell_does_not_keep_others_waiting(
    journal: Journal, world: AnyWorld
) -> None:
    """Each that could not be fetched is tried by every run."""
    journal.entries += [("c.md", "text of c"), ("d.md", "text of d")]
    journal.cannot_fetch = {"c.md", "d.md"}
    await world.do()
    journal.cannot_fetch, journal.cannot_tell_of = set(), {"c.md"}

    await world.do()

    assert world.texts() == ["text of a", "text of b", "text of d"]


async def test_a_source_that_can_tell_of_nothing_is_not_asked_on(journal: Journal, world: AnyWorld) -> None:
    """It is ill, and each question takes as long as a request may take."""
    journal.entries += [(f"{number}.md", f"text {number}") for number in range(20)]
    journal.cannot_fetch = {f"{number}.md" for number in range(20)}
    await world.do()
    journal.cannot_locate = True
    asked = len(journal.located)

    await world.do()

    assert len(journal.located) - asked == 6
    assert len(await world.state.letters()) == 20


async def test_what_cannot_be_looked_for_waits_for_another_run(journal: Journal, world: AnyWorld) -> None:
    journal.entries.append(("c.md", "text of c"))
    journal.cannot_fetch, journal.cannot_locate = {"c.md"}, True
    await world.do()

    await world.do()

    assert len(await world.state.letters()) == 1


async def test_what_waits_for_the_end_of_the_listing_is_not_forgotten(journal: Journal, world: AnyWorld) -> None:
    """A document that might have been renamed goes on after all others, behind the place to go on from."""
    journal.trace = lambda ref: ref.fingerprint  # type: ignore[attr-defined]
    journal.entries += [("copy-of-a.md", "text of a"), ("c.md", "text of c")]
    fetch = journal.fetch

    async def end(ref: DocumentRef) -> Document:
        if ref.id == "copy-of-a.md":
            for _ in range(100):  # all that went before it is stored meanwhile
                await checkpoint()
            raise SourceError("the end")
        return await fetch(ref)

    journal.fetch = end  # type: ignore[method-assign]
    with pytest.raises(SourceError):
        await world.do()
    journal.fetch = fetch  # type: ignore[method-assign]

    await world.do()

    assert world.texts() == ["text of a", "text of a", "text of b", "text of c"]


async def test_a_document_that_vanished_before_it_was_fetched_goes(journal: Journal, world: AnyWorld) -> None:
    """The journal may have no more to say of it."""
    journal.entries.append(("a.md", "edited text of a"))
    fetch = journal.fetch

    async def vanish(ref: DocumentRef) -> Document:
        journal.entries.append(("a.md", None))
        return await fetch(ref)

    journal.fetch = vanish  # type: ignore[method-assign]

    await world.do()

    assert world.texts() == ["text of b"]


async def test_a_scan_that_breaks_is_made_again_from_the_same_place(journal: Journal, world: AnyWorld) -> None:
    journal.entries += [("c.md", "text of c"), ("a.md", None)]
    journal.is_broken = True
    with pytest.raises(SourceError, match="No part of the source could be listed to its end"):
        await world.do()
    assert world.texts() == ["text of a", "text of b", "text of c"]
    journal.is_broken = False

    await world.do()

    assert journal.since == [None, "2", "2"]
    assert world.texts() == ["text of b", "text of c"]
    assert await world.state.letters() == []


async def test_a_plan_tells_of_removals_and_moves_nothing(journal: Journal, world: AnyWorld) -> None:
    journal.entries.append(("a.md", None))

    report: SourceReport = await world.do(preview)
    again = await world.do(preview)

    assert report.documents.removed == again.documents.removed == 1
    assert world.texts() == ["text of a", "text of b"]
