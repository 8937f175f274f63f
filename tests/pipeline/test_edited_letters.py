"""A record that a person has edited: sent once, left alone while its document stays, replaced when that changes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import pytest
from trio.testing import MockClock

from pipeline.auto_replay import AutoReplay
from pipeline.errors import FatalError
from pipeline.events import DeadLettered, RunEvent
from pipeline.job import TOKEN_TRUST_S, SourceJob
from pipeline.model import FIRST_PLACE, DeadLetter, RecordContent
from pipeline.provenance import DIGEST_METADATA_KEY, own_metadata
from pipeline.report import SourceReport
from pipeline.state.sqlite import open_state
from pipeline.sync import repair, replay
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import AnyWorld, in_place

RULE = AutoReplay(backoff_s=60.0)


@dataclass
class World(AnyWorld):
    source: MemorySource

    async def letter(self) -> DeadLetter:
        (letter,) = await self.state.letters()
        return letter

    async def edit(self, text: str, **metadata: str) -> SourceReport:
        """Send the one letter's record with another text, and with `metadata` beside what it has."""
        letter = await self.letter()
        assert letter.record is not None
        content = self.memory.content_of(letter.record)
        edits = {letter.id: RecordContent(text, {**content.metadata, **metadata})}
        return await self.do(replay, chosen={letter.id}, edits=edits)

    async def unchanged(self) -> bool:
        """Whether a run finds nothing to do and says that all is well."""
        requests = len(self.memory.requests)
        report = await self.do()
        return report.documents.failed == 0 and len(self.memory.requests) == requests and not await self.state.letters()


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    """Play `story` on trio, whose clock jumps over every wait."""

    async def play() -> None:
        world = World(MemorySource(), MemoryDestination())
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


async def refuse(world: World, text: str = "an unwanted text") -> None:
    """A first run, whose only document the memory does not want."""
    world.source.documents = {"a.md": text}
    world.memory.reject("unwanted")
    await world.do()


async def mend(job: SourceJob) -> None:
    await repair(job)


def test_an_edit_is_stored_and_left_alone_by_later_runs() -> None:
    """To write the document's own text over it would be refused, or undo what a person has decided."""

    async def story(world: World) -> None:
        await refuse(world)

        report = await world.edit("a mended text", team="support")

        assert (report.records.created, report.documents.failed) == (1, 0)
        assert await world.unchanged()
        (record,) = world.memory.records.values()
        assert record.text == "a mended text"
        assert own_metadata(record.metadata) == {"team": "support"}
        assert record.metadata[DIGEST_METADATA_KEY] == record.digest, "the memory tells what it holds"

    on_virtual_time(story)


def test_a_repair_takes_an_edit_for_right() -> None:
    """It is what the ledger says that the memory holds."""

    async def story(world: World) -> None:
        await refuse(world)
        await world.edit("a mended text")

        await world.do(mend)

        assert await world.unchanged()
        assert world.texts() == ["a mended text"]

    on_virtual_time(story)


def test_a_new_version_of_the_document_replaces_an_edit() -> None:
    """The record keeps its place and its id in the memory."""

    async def story(world: World) -> None:
        await refuse(world)
        await world.edit("a mended text")
        (before,) = world.memory.records
        world.source.documents = {"a.md": "the new version"}

        report = await world.do()

        assert report.records.updated == 1
        assert world.texts() == ["the new version"]
        assert list(world.memory.records) == [before]
        assert await world.unchanged()

    on_virtual_time(story)


def test_a_change_elsewhere_in_the_document_leaves_an_edit_alone() -> None:
    """The version that it stands for is still there."""
    paragraphs = ["sound " * 60, "unwanted " * 40, "other " * 60]

    async def story(world: World) -> None:
        await refuse(world, "\n\n".join(paragraphs))
        await world.edit("a mended text")
        world.source.documents = {"a.md": "\n\n".join([*paragraphs[:2], "new " * 90])}

        report = await world.do()

        assert (report.records.updated, report.documents.failed) == (1, 0)
        assert "a mended text" in world.texts()
        assert await world.unchanged()

    on_virtual_time(story)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (0, 2, 1), (2, 0, 1)])
@pytest.mark.parametrize("is_wanted_by_now", [True, False])
def test_a_paragraph_that_moves_leaves_its_edit_alone(order: tuple[int, ...], is_wanted_by_now: bool) -> None:
    """To write its new place, a run would have to send the document's own text over what the person said."""
    paragraphs = ["sound " * 60, "unwanted " * 40, "other " * 60]

    async def story(world: World) -> None:
        await refuse(world, "\n\n".join(paragraphs))
        await world.edit("a mended text")
        if is_wanted_by_now:
            world.memory.accept("unwanted")
        world.source.documents = {"a.md": "\n\n".join(paragraphs[place] for place in order)}

        report = await world.do()

        assert (report.documents.failed, report.records.created) == (0, 0)
        assert "a mended text" in world.texts()
        assert await world.unchanged()

    on_virtual_time(story)


def test_an_edit_of_an_update_takes_the_place_of_the_old_text() -> None:
    """The record that was to be updated is, by what the person says."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "the old text"}
        await world.do()
        await refuse(world)

        report = await world.edit("a mended text")

        assert report.records.updated == 1
        assert world.texts() == ["a mended text"]
        assert await world.unchanged()

    on_virtual_time(story)


def test_an_edit_of_a_version_that_is_no_more_is_not_sent() -> None:
    """The document was changed while its record was in the editor: the new version goes first."""

    async def story(world: World) -> None:
        await refuse(world)
        world.source.documents = {"a.md": "the new version"}

        await world.edit("a mended text")

        assert world.texts() == ["the new version"]
        assert await world.unchanged()

    on_virtual_time(story)


def test_an_edit_that_says_what_the_document_says_is_none() -> None:
    """There is nothing then that would have to be left alone."""

    async def story(world: World) -> None:
        await refuse(world)
        world.memory._rejected.clear()

        await world.edit("an unwanted text")

        (record,) = await world.state.records_after(FIRST_PLACE, limit=9)
        (stored,) = world.memory.records.values()
        assert stored.edited_from is None
        assert record.digest == stored.digest
        assert await world.unchanged()

    on_virtual_time(story)


def test_an_edit_that_is_refused_keeps_its_text_in_the_same_letter() -> None:
    """The work of a person is not lost, and a replay sends it rather than what was refused before."""

    async def story(world: World) -> None:
        await refuse(world)
        before = await world.letter()

        await world.edit("a text that is unwanted, too")
        refused = await world.letter()
        world.memory._rejected.clear()
        await world.do(replay)

        assert (refused.id, refused.rounds, refused.is_edited) == (before.id, 2, True)
        assert refused.record is not None
        assert world.memory.content_of(refused.record).text == "a text that is unwanted, too"
        assert world.texts() == ["a text that is unwanted, too"]
        assert await world.unchanged()

    on_virtual_time(story)


def test_an_edit_for_which_the_memory_was_too_ill_is_sent_again_by_a_run() -> None:
    """What is sent again by itself is what the person wanted."""

    async def story(world: World) -> None:
        await refuse(world)
        world.memory.reject("mended", 500)
        await world.edit("a mended text")
        letter = await world.letter()
        world.memory._rejected.pop("mended")
        world.now += 3_600.0

        report = await world.do(auto_replay=RULE)

        assert (letter.is_edited, letter.is_retryable) == (True, True)
        assert report.resent == 1
        assert world.texts() == ["a mended text"]
        assert await world.unchanged()

    on_virtual_time(story)


def test_an_edit_whose_answer_was_lost_is_found_or_sent_again_and_counts_as_the_edit() -> None:
    """Whether the token is still trusted or the memory has to be asked what it holds."""
    for waited_s in (1.0, TOKEN_TRUST_S + 3_600.0):

        async def story(world: World, waited_s: float = waited_s) -> None:
            await refuse(world, f"{'unwanted ' * 40}\n\n{'sound ' * 60}")
            for _ in range(3):
                world.memory.lose_next_reply()
            letter = await world.letter()
            with pytest.raises(FatalError):
                await world.edit("a mended text")
            assert [each.id for each in await world.state.letters()] == [letter.id]
            world.now += waited_s
            await world.do()
            # Only what is compared with the ledger again shows what that believes.
            world.source.documents = {"a.md": f"{'unwanted ' * 40}\n\n{'sounder ' * 40}"}

            report = await world.do()

            assert (report.records.updated, report.documents.failed) == (1, 0)
            assert world.texts()[0] == "a mended text"
            assert await world.unchanged()

        on_virtual_time(story)


def test_an_edit_that_the_memory_has_lost_gives_way_to_the_document() -> None:
    """It is tried again as it stands in the source, and whoever has edited it sees that it is a dead letter again."""

    async def story(world: World) -> None:
        await refuse(world)
        await world.edit("a mended text")
        world.memory.records.clear()
        await world.do(mend)

        report = await world.do()

        assert report.documents.failed == 1
        assert not (await world.letter()).is_edited

    on_virtual_time(story)


def test_an_edit_beyond_a_limit_is_never_sent() -> None:
    """Whatever let it through: a record is checked before it joins a batch."""
    heard: list[RunEvent] = []

    async def story(world: World) -> None:
        await refuse(world)
        requests = len(world.memory.requests)
        letter = await world.letter()
        edits = {letter.id: RecordContent("x" * 17_000, {})}

        await world.do(replay, chosen={letter.id}, edits=edits, observe=heard.append)

        after = await world.letter()
        assert len(world.memory.requests) == requests
        assert (after.id, after.stage, after.code, after.is_edited) == (letter.id, "derive", "limit", True)

    on_virtual_time(story)

    assert [event.code for event in heard if isinstance(event, DeadLettered)] == ["limit"]
