"""A saved plan is made in full or not at all, once, and nothing but what it says is changed."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from trio.testing import MockClock

from pipeline.applying import apply_plan, make_plan
from pipeline.errors import FatalError, PlanOutdated, RetryableError, SourceError, UnreadableDocument
from pipeline.job import SourceJob
from pipeline.model import PlanHeader, PlanUse
from pipeline.planner import DeletePolicy
from pipeline.report import SourceReport
from pipeline.saved_plans import ChangeTable
from pipeline.state.sqlite import open_state
from pipeline.sync import replay
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import RULES, AnyWorld, in_place


class World(AnyWorld):
    source: MemorySource
    plans_made: int = 0

    async def plan(self) -> "Plan":
        """Plan, and keep the plan as a file would: it outlives the dry run."""
        self.plans_made += 1
        table = ChangeTable(in_place)
        headers: list[PlanHeader] = []

        async def make(job: SourceJob) -> None:
            plan_id = f"plan {self.plans_made}"
            headers.append(await make_plan(job, [table], plan_id=plan_id, memory="memory"))

        await self.do(make)
        rows = list(table.found())
        table.close()
        return Plan(headers[0], rows)

    async def carry_out(self, plan: "Plan") -> SourceReport:
        with plan.loaded() as table:
            return await self.do(partial(apply_plan, header=plan.header, plan=table))


class Plan:
    def __init__(self, header: PlanHeader, rows: list[tuple[str, str, str, str, str, str]]) -> None:
        self.header = header
        self.rows = rows

    @contextmanager
    def loaded(self) -> Iterator[ChangeTable]:
        table = ChangeTable(in_place)
        try:
            table.load(self.rows)
            yield table
        finally:
            table.close()

    def changes(self) -> set[tuple[str, str]]:
        """The document and the operation of each."""
        return {(document, operation) for document, _, operation, *_ in self.rows}


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        world = World(MemorySource(), MemoryDestination())
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def numbered(count: int) -> dict[str, str | bytes]:
    return {f"{number}.md": f"text of document {number}" for number in range(count)}


async def edited(world: World) -> None:
    """A memory of five documents; since then one was edited, one removed and one added."""
    world.source.documents = numbered(5)
    await world.do()
    world.source.documents["1.md"] = "edited"
    del world.source.documents["3.md"]
    world.source.documents["new.md"] = "added"


def test_a_plan_is_made_and_then_the_memory_equals_the_source() -> None:
    """That is what was reviewed."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        requests = len(world.memory.requests)

        report = await world.carry_out(plan)

        assert plan.changes() == {("1.md", "update"), ("3.md", "delete"), ("new.md", "create")}
        assert len(world.memory.requests) - requests == 3
        assert world.texts() == sorted(map(str, world.source.documents.values()))
        assert (report.documents.seen, report.documents.unchanged) == (5, 3)
        assert (await world.do()).documents.unchanged == 5

    on_virtual_time(story)


def test_a_plan_is_used_once() -> None:
    """A second approval is asked for, even if just the same would be done."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        await world.carry_out(plan)

        with pytest.raises(PlanOutdated, match="carried out already, at 1970-01-12"):
            await world.carry_out(plan)

    on_virtual_time(story)


@pytest.mark.parametrize(
    ("name", "text"),
    [("1.md", "edited again"), ("4.md", "edited too"), ("z.md", "new"), ("1.md", None), ("0.md", None)],
)
def test_whatever_moves_in_the_source_refuses_the_plan_before_anything_is_sent(name: str, text: str | None) -> None:
    """What was reviewed is not what would be done."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        before, requests = dict(world.source.documents), len(world.memory.requests)
        if text is None:
            del world.source.documents[name]
        else:
            world.source.documents[name] = text

        with pytest.raises(PlanOutdated, match=f"the source has moved. .* '{name}'. Nothing was sent"):
            await world.carry_out(plan)
        assert len(world.memory.requests) == requests

        world.source.documents = before
        await world.carry_out(plan)
        assert world.texts() == sorted(map(str, before.values()))

    on_virtual_time(story)


def test_a_document_that_cannot_be_read_any_more_refuses_the_plan() -> None:
    """Its change was reviewed, and would be missing."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        world.source.fetch_errors["1.md"] = UnreadableDocument("403", "Cannot read it.")

        with pytest.raises(PlanOutdated, match=r"'1\.md'"):
            await world.carry_out(plan)

    on_virtual_time(story)


def test_documents_without_a_fingerprint_are_compared_by_what_they_say() -> None:
    """Their listing tells nothing of an edit."""

    async def story(world: World) -> None:
        world.source.has_fingerprints = False
        await edited(world)
        plan = await world.plan()
        world.source.documents["1.md"] = "edited again"

        with pytest.raises(PlanOutdated, match=r"'1\.md'"):
            await world.carry_out(plan)

        world.source.documents["1.md"] = "edited"
        await world.carry_out(plan)
        assert world.texts() == sorted(map(str, world.source.documents.values()))

    on_virtual_time(story)


def test_a_run_in_between_refuses_the_plan() -> None:
    """It has done what was to be reviewed."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        await world.do()

        with pytest.raises(PlanOutdated, match="Nothing was sent"):
            await world.carry_out(plan)

    on_virtual_time(story)


def test_a_run_that_was_cut_off_in_between_refuses_the_plan() -> None:
    """What it left in the outbox is not in the plan, and would be sent first."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        for _ in range(20):
            world.memory.fail_next(RetryableError("No connection.", code="ConnectionClosedError"))
        with pytest.raises(FatalError):
            await world.do()
        requests = len(world.memory.requests)

        with pytest.raises(PlanOutdated, match="cut off after the plan was made"):
            await world.carry_out(plan)
        assert len(world.memory.requests) == requests

        with pytest.raises(PlanOutdated, match="no plan can be exact"):
            await world.plan()

    on_virtual_time(story)


def test_other_settings_refuse_the_plan() -> None:
    """They make other records of the same documents."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        world.rules = replace(RULES, recipe="r2")

        with pytest.raises(PlanOutdated, match="settings of the source"):
            await world.carry_out(plan)

    on_virtual_time(story)


@pytest.mark.parametrize("carries_on_by", ["the same plan", "a plain run"])
def test_a_plan_that_was_cut_off_is_carried_on_with(carries_on_by: str) -> None:
    """Some of it is done, some is in the outbox, some is not planned yet: nothing is lost and nothing is done twice."""

    async def story(world: World) -> None:
        world.source.documents = {f"{number:03}.md": f"text of document {number}" for number in range(450)}
        plan = await world.plan()
        save, saves = world.state.save, 0

        async def save_some(*arguments: object, **named: object) -> None:
            nonlocal saves
            saves += 1
            if saves == 3:
                raise SourceError("Cut off.")
            await save(*arguments, **named)  # type: ignore[arg-type]

        world.state.save = save_some  # type: ignore[method-assign]
        with pytest.raises(SourceError, match="Cut off"):
            await world.carry_out(plan)
        world.state.save = save  # type: ignore[method-assign]
        assert 0 < len(world.memory.records) < 450

        await (world.carry_out(plan) if carries_on_by == "the same plan" else world.do())

        assert world.texts() == sorted(map(str, world.source.documents.values()))
        if carries_on_by == "the same plan":
            assert await world.state.plan_use("plan 1") == PlanUse(world.now)

    on_virtual_time(story)


def test_a_plan_that_was_cut_off_does_not_take_up_what_is_new() -> None:
    """It was not reviewed."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        await world.state.note_plan_use("plan 1", PlanUse())
        world.source.documents["late.md"] = "late"

        with pytest.raises(PlanOutdated, match=r"1 document than the plan says: 'late\.md'. Nothing more was sent"):
            await world.carry_out(plan)

    on_virtual_time(story)


def test_what_moves_while_the_plan_is_made_is_left_alone_and_told() -> None:
    """Between the comparison and the doing the source can still be edited; what was not reviewed is not done."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        note = world.state.note_plan_use

        async def edit_meanwhile(plan_id: str, use: PlanUse) -> None:
            if use.ended_at is None:
                world.source.documents |= {"1.md": "edited meanwhile", "late.md": "late"}
                del world.source.documents["0.md"]
            await note(plan_id, use)

        world.state.note_plan_use = edit_meanwhile  # type: ignore[method-assign]
        with pytest.raises(PlanOutdated, match=r"1 of its changes .* \(1 update of '1\.md'\), and 3 that it"):
            await world.carry_out(plan)

        assert world.texts() == sorted(
            ["added", "text of document 0", "text of document 1", "text of document 2", "text of document 4"]
        )
        await world.do()
        assert world.texts() == sorted(map(str, world.source.documents.values()))

    on_virtual_time(story)


def test_a_file_is_read_again_if_one_of_its_lines_was_held_back() -> None:
    """Else the ledger would take the file for read, and the line would never come."""

    async def story(world: World) -> None:
        lines = {f"{number}": f'{{"id": {number}, "text": "line {number}"}}' for number in range(3)}
        world.source.documents["table.jsonl"] = "\n".join(lines.values())
        await world.do()
        world.source.documents["new.md"] = "added"
        plan = await world.plan()
        note = world.state.note_plan_use

        async def add_a_line(plan_id: str, use: PlanUse) -> None:
            world.source.documents["table.jsonl"] = "\n".join([*lines.values(), '{"id": 9, "text": "line 9"}'])
            await note(plan_id, use)

        world.state.note_plan_use = add_a_line  # type: ignore[method-assign]
        with pytest.raises(PlanOutdated, match="1 that it does not have"):
            await world.carry_out(plan)
        assert "line 9" not in world.texts()

        await world.do()
        assert "line 9" in world.texts()

    on_virtual_time(story)


def test_a_change_that_is_given_up_on_is_a_dead_letter_and_no_sign_of_a_moved_source() -> None:
    """The plan was carried out; the memory did not take a record."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        world.memory.reject("added")

        report = await world.carry_out(plan)

        assert report.dead_letters_by_code == {"400": 1}
        assert len(world.memory.records) == 4

    on_virtual_time(story)


def moves_meanwhile(world: World, move: Callable[[], None]) -> None:
    """Between the comparison and the doing, the source does this."""
    note = world.state.note_plan_use

    async def moved(plan_id: str, use: PlanUse) -> None:
        if use.ended_at is None:
            move()
        await note(plan_id, use)

    world.state.note_plan_use = moved  # type: ignore[method-assign]


def test_a_change_that_was_not_to_be_made_is_told_also_if_something_else_was_given_up_on() -> None:
    """A dead letter of another document, old or new, is no reason for it."""

    async def story(world: World) -> None:
        world.source.documents = {**numbered(5), "old letter.md": "unwanted"}
        world.memory.reject("unwanted")
        await world.do()
        world.source.documents |= {"1.md": "edited", "2.md": "edited, too", "new letter.md": "unwanted, too"}
        plan = await world.plan()

        def revert() -> None:
            world.source.documents["1.md"] = "text of document 1"

        moves_meanwhile(world, revert)
        with pytest.raises(PlanOutdated, match=r"1 of its changes .* \(1 update of '1\.md'\), and 0 that it does not"):
            await world.carry_out(plan)

        assert "edited, too" in world.texts()
        assert {letter.document_id for letter in await world.state.letters()} == {"old letter.md", "new letter.md"}

    on_virtual_time(story)


def test_what_its_own_dead_letter_tells_is_no_sign_of_a_moved_source() -> None:
    """A document that cannot be read any more, a file with its lines, and what waits for a text that was refused."""

    async def story(world: World) -> None:
        lines = ['{"id": 1, "text": "one"}', '{"id": 2, "text": "two"}']
        world.source.documents = {"a.md": f"{'sound ' * 60}\n\n{'old ' * 90}", "b.md": "b", "c.jsonl": "\n".join(lines)}
        await world.do()
        world.source.documents |= {
            "a.md": "unwanted",
            "b.md": "edited",
            "c.jsonl": "\n".join(lines).replace("two", "2"),
        }
        plan = await world.plan()
        world.memory.reject("unwanted")

        def break_it() -> None:
            world.source.fetch_errors["b.md"] = UnreadableDocument("403", "Cannot read it.")
            world.source.documents["c.jsonl"] = '{"id": 1, "te'

        moves_meanwhile(world, break_it)
        await world.carry_out(plan)

        assert plan.changes() >= {("a.md", "delete"), ("b.md", "update"), ("c.jsonl#2", "update")}
        assert {letter.document_id for letter in await world.state.letters()} == {"a.md", "b.md", "c.jsonl"}

    on_virtual_time(story)


def test_deletions_where_the_source_could_not_be_listed_are_told_by_its_letter() -> None:
    """Nothing is known of what is there."""

    async def story(world: World) -> None:
        world.source.documents = {**numbered(12), "away/1.md": "one", "away/2.md": "two"}
        await world.do()
        del world.source.documents["away/1.md"]
        plan = await world.plan()

        moves_meanwhile(world, lambda: world.source.unlistable.add("away/"))
        await world.carry_out(plan)

        assert [letter.stage for letter in await world.state.letters()] == ["scan"]
        assert "one" in world.texts()

    on_virtual_time(story)


def test_deletions_that_were_planned_are_made_without_asking_the_guard_again() -> None:
    """A person has looked at the plan; the guard is for runs that nobody looks at."""

    async def story(world: World) -> None:
        world.source.documents = numbered(20)
        await world.do()
        for number in range(15):
            del world.source.documents[f"{number}.md"]
        world.deletes = DeletePolicy(allow_mass=True)
        plan = await world.plan()
        world.deletes = DeletePolicy()

        await world.carry_out(plan)

        assert plan.changes() == {(f"{number}.md", "delete") for number in range(15)}
        assert len(world.memory.records) == 5

    on_virtual_time(story)


def test_deletions_that_the_guard_withheld_are_not_in_the_plan() -> None:
    """What nobody has agreed to is not done by carrying out the rest."""

    async def story(world: World) -> None:
        world.source.documents = numbered(20)
        await world.do()
        for number in range(15):
            del world.source.documents[f"{number}.md"]
        world.source.documents["new.md"] = "added"
        plan = await world.plan()
        plan.header = replace(plan.header, withheld=15)

        report = await world.carry_out(plan)

        assert plan.changes() == {("new.md", "create")}
        assert report.withheld_documents == 15
        assert len(world.memory.records) == 21

    on_virtual_time(story)


def test_what_an_earlier_run_has_left_to_delete_is_in_the_plan() -> None:
    """A run was cut off after it found the document gone: the record is to go, and nothing else tells of it."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        await world.do()
        del world.source.documents["1.md"]
        remove = world.state.remove

        async def remove_and_die(documents: list[str]) -> None:
            await remove(documents)  # type: ignore[arg-type]
            raise SourceError("Cut off.")

        world.state.remove = remove_and_die  # type: ignore[assignment, method-assign]
        with pytest.raises(SourceError, match="Cut off"):
            await world.do()
        world.state.remove = remove  # type: ignore[method-assign]

        plan = await world.plan()
        await world.carry_out(plan)

        assert plan.changes() == {("1.md", "delete")}
        assert len(world.memory.records) == 2

    on_virtual_time(story)


def test_a_source_that_is_lost_while_the_plan_is_made_still_trips_the_guard_of_the_next_run() -> None:
    """The guard is not asked about what was planned; the ledger must not believe in its stead that all is gone."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        note = world.state.note_plan_use

        async def unmount(plan_id: str, use: PlanUse) -> None:
            world.source.documents.clear()
            await note(plan_id, use)

        world.state.note_plan_use = unmount  # type: ignore[method-assign]
        with pytest.raises(PlanOutdated, match="The source moved while the plan was carried out"):
            await world.carry_out(plan)
        world.state.note_plan_use = note  # type: ignore[method-assign]
        report = await world.do()

        assert report.withheld_documents == 4
        assert len(world.memory.records) == 4

    on_virtual_time(story)


def test_a_document_that_lost_its_text_is_deleted_only_if_that_was_planned() -> None:
    """Its records become obsolete in the ledger, which must not let them be deleted along with what was planned."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        note = world.state.note_plan_use

        async def empty_meanwhile(plan_id: str, use: PlanUse) -> None:
            world.source.documents["2.md"] = ""
            await note(plan_id, use)

        world.state.note_plan_use = empty_meanwhile  # type: ignore[method-assign]
        with pytest.raises(PlanOutdated, match=r"0 of its changes .* 1 that it does not have"):
            await world.carry_out(plan)

        assert "text of document 2" in world.texts()

    on_virtual_time(story)


def test_a_listing_that_breaks_off_gives_no_plan() -> None:
    """Half of the source is not what a run would do."""

    async def story(world: World) -> None:
        await edited(world)
        world.source.says_complete = False

        with pytest.raises(SourceError):
            await world.plan()

    on_virtual_time(story)


def test_a_replay_in_between_that_changes_nothing_leaves_the_plan_good() -> None:
    """Only what would be done otherwise matters, not that somebody was at work."""

    async def story(world: World) -> None:
        await edited(world)
        plan = await world.plan()
        await world.do(replay)

        await world.carry_out(plan)

        assert world.texts() == sorted(map(str, world.source.documents.values()))

    on_virtual_time(story)


async def test_the_use_of_many_plans_is_remembered_in_bounded_room(tmp_path: Path) -> None:
    """A plan an hour for years must not fill the ledger; the latest are those that somebody may use again."""
    async with open_state(tmp_path / "state.sqlite3", source="docs", destination="memory", offload=in_place) as state:
        for number in range(150):
            await state.note_plan_use(f"plan {number}", PlanUse(float(number)))

        assert await state.plan_use("plan 149") == PlanUse(149.0)
        assert await state.plan_use("plan 10") is None


def test_what_a_dropped_record_was_to_replace_is_in_the_plan() -> None:
    """The old text waited for one that will not come: the next run deletes it, so the plan has to say so."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": f"{'sound ' * 60}\n\n{'old ' * 60}"}
        await world.do()
        world.memory.reject("unwanted")
        world.source.documents["a.md"] = f"{'sound ' * 60}\n\n{'unwanted ' * 40}"
        await world.do()
        still_wanted = await world.plan()
        await world.state.drop_letters([letter.id for letter in await world.state.letters()], world.now)

        plan = await world.plan()
        report = await world.carry_out(plan)

        assert still_wanted.changes() == set()
        assert plan.changes() == {("a.md", "delete")}
        assert (report.records.deleted, [text[:5] for text in world.texts()]) == (1, ["sound"])

    on_virtual_time(story)


def test_a_letter_that_is_dropped_in_between_refuses_the_plan_and_is_named_as_a_cause() -> None:
    """Nothing has moved in the source: whoever looks only there finds nothing."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "old"}
        await world.do()
        world.memory.reject("unwanted")
        world.source.documents["a.md"] = "unwanted"
        await world.do()
        plan = await world.plan()
        await world.state.drop_letters([letter.id for letter in await world.state.letters()], world.now)
        sent = len(world.memory.requests)

        with pytest.raises(PlanOutdated, match=r"a dead letter was dropped since\. .* 'a\.md'\. Nothing was sent"):
            await world.carry_out(plan)

        assert len(world.memory.requests) == sent

    on_virtual_time(story)
