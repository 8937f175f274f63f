"""What a person has given up for good stays so, whatever else happens, until its document says something else."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from trio.testing import MockClock

from pipeline.auto_replay import AutoReplay
from pipeline.planner import DeletePolicy
from pipeline.state.sqlite import open_state
from pipeline.sync import replay
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import AnyWorld, in_place

SOUND, UNWANTED, OTHER = "sound " * 60, "unwanted " * 40, "other " * 60


@dataclass
class World(AnyWorld):
    source: MemorySource

    async def drop_all(self) -> None:
        await self.state.drop_letters([letter.id for letter in await self.state.letters()], self.now)

    async def dropped(self) -> list[str]:
        return [letter.document_id for letter in await self.state.letters(with_dropped=True) if letter.dropped_at]


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    """Play `story` on trio, whose clock jumps over every wait."""

    async def play() -> None:
        world = World(MemorySource(), MemoryDestination())
        world.memory.reject("unwanted")
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def test_a_change_elsewhere_in_the_document_brings_no_dropped_letter_back() -> None:
    """The version that was given up on is still what the document says there."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": f"{SOUND}\n\n{UNWANTED}\n\n{OTHER}"}
        await world.do()
        await world.drop_all()
        world.source.documents = {"a.md": f"{SOUND}\n\n{UNWANTED}\n\nnew {OTHER}"}

        report = await world.do()

        assert (report.documents.changed, report.documents.failed, report.records.updated) == (1, 0, 1)
        assert [text[:9] for text in world.texts()] == ["new other", "sound sou"]
        assert await world.dropped() == ["a.md"]
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_a_source_without_fingerprints_brings_no_dropped_letter_back() -> None:
    """Each of its documents is read by every run, which is no reason to think that it has changed."""

    async def story(world: World) -> None:
        world.source.has_fingerprints = False
        world.source.documents = {"a.md": UNWANTED, "b.jsonl": '{"id": 1, "te'}
        await world.do()
        await world.drop_all()
        requests = len(world.memory.requests)

        reports = [await world.do() for _ in range(2)]

        assert [(report.documents.seen, report.documents.unchanged) for report in reports] == [(2, 2)] * 2
        assert sorted(await world.dropped()) == ["a.md", "b.jsonl"]
        assert len(world.memory.requests) == requests

    on_virtual_time(story)


def test_another_fault_of_a_document_is_another_letter() -> None:
    """What was given up on was one fault; whoever mends half of it wants to know of the rest."""

    async def story(world: World) -> None:
        world.source.has_fingerprints = False
        world.source.documents = {"b.jsonl": '{"id": 1, "te'}
        await world.do()
        await world.drop_all()
        world.source.documents = {"b.jsonl": '["no object"]'}

        report = await world.do()

        assert report.documents.failed == 1
        assert [letter.code for letter in await world.state.letters()] == ["not_an_object"]
        assert await world.dropped() == []

    on_virtual_time(story)


def test_the_same_fault_of_a_new_version_counts_anew() -> None:
    """A person has seen the old one only."""

    async def story(world: World) -> None:
        world.source.documents = {"b.jsonl": '{"id": 1, "te'}
        await world.do()
        await world.drop_all()
        world.source.documents = {"b.jsonl": '{"id": 2, "te'}

        report = await world.do()

        assert report.documents.failed == 1
        assert await world.dropped() == []

    on_virtual_time(story)


def test_a_replay_leaves_dropped_letters_alone_unless_it_is_told_of_them() -> None:
    """`all` means all that are outstanding."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": UNWANTED, "b.md": f"{UNWANTED}, too", "c.jsonl": '{"id": 1, "te'}
        await world.do()
        await world.drop_all()
        requests = len(world.memory.requests)
        letters = {letter.document_id: letter for letter in await world.state.letters(with_dropped=True)}
        ids = {str(name): letter.id for name, letter in letters.items()}

        await world.do(replay)
        untouched = (len(world.memory.requests) - requests, sorted(await world.dropped()))
        await world.do(replay, chosen={ids["a.md"], ids["c.jsonl"]})

        assert untouched == (0, ["a.md", "b.md", "c.jsonl"])
        assert len(world.memory.requests) == requests + 1
        assert sorted(letter.document_id for letter in await world.state.letters()) == ["a.md", "c.jsonl"]
        assert await world.dropped() == ["b.md"]

    on_virtual_time(story)


def test_no_run_sends_a_dropped_letter_by_itself() -> None:
    """Also not if its reason may pass."""

    async def story(world: World) -> None:
        world.memory.reject("flaky", 500)
        world.source.documents = {"a.md": "flaky text"}
        await world.do()
        await world.drop_all()
        requests = len(world.memory.requests)
        world.now += 1e6

        report = await world.do(auto_replay=AutoReplay(backoff_s=0.0))

        assert (report.resent, len(world.memory.requests) - requests) == (0, 0)
        assert await world.dropped() == ["a.md"]

    on_virtual_time(story)


def test_what_a_dropped_record_was_to_replace_goes() -> None:
    """It stayed for the sake of the new text, which will not come; and the document says it no more."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": f"{SOUND}\n\nold {OTHER}", "b.md": "beside"}
        await world.do()
        world.source.documents["a.md"] = f"{SOUND}\n\n{UNWANTED}"
        await world.do()
        meanwhile = len(world.texts())
        await world.drop_all()

        report = await world.do()
        again = await world.do()

        assert meanwhile == 3
        assert (report.documents.failed, report.records.deleted) == (0, 1)
        assert [text[:6] for text in world.texts()] == ["beside", "sound "]
        assert (again.documents.unchanged, again.records.deleted) == (2, 0)
        assert await world.dropped() == ["a.md"]

    on_virtual_time(story)


def test_a_document_that_loses_all_its_records_by_a_drop_is_deleted_for() -> None:
    """One that is dropped is counted as such; many at once would look like a fault, and the guard asks first."""

    async def story(world: World) -> None:
        world.source.documents = {f"{n:02}.md": f"old text {n}" for n in range(12)}
        await world.do()
        world.source.documents = {f"{n:02}.md": f"unwanted text {n}" for n in range(12)}
        await world.do()
        await world.drop_all()

        guarded = await world.do()
        allowed = await world.do(deletes=DeletePolicy(allow_mass=True))

        assert (guarded.withheld_documents, guarded.records.deleted) == (12, 0)
        assert allowed.records.deleted == 12
        assert world.texts() == []

    on_virtual_time(story)


def test_all_letters_of_a_document_that_cannot_be_read_any_more_stay_dropped() -> None:
    """Those about its records are of a version that could still be read."""

    async def story(world: World) -> None:
        world.source.documents = {"b.jsonl": '{"id": 1, "text": "unwanted"}'}
        await world.do()
        world.source.documents = {"b.jsonl": '{"id": 1, "te'}
        await world.do()
        outstanding = len(await world.state.letters())
        await world.drop_all()

        report = await world.do()

        assert outstanding == 2
        assert (report.documents.seen, report.documents.failed) == (1, 0)
        assert await world.state.letters() == []

    on_virtual_time(story)
