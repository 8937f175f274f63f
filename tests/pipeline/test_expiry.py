"""Records that the memory forgets after some days are renewed while their documents are there, and only then."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from pipeline.applying import apply_plan, make_plan
from pipeline.errors import FatalError, RetryableError, UnreadableDocument
from pipeline.expiry import SECONDS_PER_DAY, renewal_share
from pipeline.job import SourceJob
from pipeline.model import (
    FIRST_PLACE,
    NO_EXPIRY,
    Checkpoint,
    DocumentId,
    KnownRecord,
    Operation,
    ScanComplete,
    ScanIncremental,
    SourceEvent,
)
from pipeline.planner import DeletePolicy
from pipeline.report import SourceReport
from pipeline.saved_plans import ChangeTable
from pipeline.state.sqlite import open_state
from pipeline.sync import preview, rebuild, reconciled, repair, replay
from pipeline.verifying import Verification
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.test_incremental import Journal
from tests.pipeline.test_parts import BROKEN_ZIP, archive, mail
from tests.pipeline.world import RULES, AnyWorld, in_place

DAYS = 60


class World(AnyWorld):
    source: MemorySource

    def __post_init__(self) -> None:
        super().__post_init__()
        self.memory.now = lambda: self.now
        self.rules = replace(RULES, expiry_days=DAYS)

    async def after_days(self, days: float) -> SourceReport:
        self.now += days * SECONDS_PER_DAY
        return await self.do()

    async def ledger(self) -> list[KnownRecord]:
        return list(await self.state.records_after(FIRST_PLACE, limit=1000))

    def writes(self, since: int = 0) -> dict[Operation, int]:
        """How many records were sent, by operation."""
        sent: dict[Operation, int] = {}
        for batch in self.memory.requests[since:]:
            sent[batch.operation] = sent.get(batch.operation, 0) + len(batch.entries)
        return sent

    def days_left(self) -> list[float]:
        return sorted((at - self.now) / SECONDS_PER_DAY for at in self.memory.lapses_at.values())


class JournalWorld(World):
    source: Journal  # type: ignore[assignment]


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    play_with(World(MemorySource(), MemoryDestination()), story)


def play_with(world: World, story: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def numbered(count: int) -> dict[str, str | bytes]:
    return {f"{number}.md": f"text of document {number}" for number in range(count)}


def test_records_are_told_when_to_lapse_and_the_ledger_knows_it() -> None:
    """Not later than the memory: else they would be renewed too late."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        await world.do()

        assert world.days_left() == [DAYS] * 3
        assert {(record.expiry_days, record.lapses_at) for record in await world.ledger()} == {
            (DAYS, world.now + DAYS * SECONDS_PER_DAY)
        }

    on_virtual_time(story)


def test_with_daily_runs_nothing_ever_lapses_and_no_run_renews_much() -> None:
    """A thousand documents that were written in one hour must not all be written again in one hour, for ever."""

    async def story(world: World) -> None:
        world.source.documents = numbered(200)
        await world.do()
        renewed = []
        for _ in range(2 * DAYS):
            report = await world.after_days(1)
            assert (report.documents.unchanged, report.records.created, report.status) == (200, 0, "in_sync")
            assert report.documents.renewed == report.records.updated
            assert len(world.memory.records) == 200
            assert world.days_left()[0] >= DAYS / 3 - 1
            renewed.append(report.documents.renewed)

        assert renewed[: DAYS // 3 - 1] == [0] * (DAYS // 3 - 1), "not before a third of the time"
        assert sum(renewed[: 2 * DAYS // 3 + 1]) == 200, "and all by two thirds"
        assert max(renewed) < 200 / 5
        assert 3 * 200 < sum(renewed) < 4.2 * 200, "every thirty days on average"

    on_virtual_time(story)


def test_a_run_with_nothing_to_renew_reads_and_sends_nothing() -> None:
    """Most runs are of this kind."""

    async def story(world: World) -> None:
        world.source.documents = numbered(20)
        await world.do()
        fetched, sent = len(world.source.fetched), len(world.memory.requests)

        await world.after_days(DAYS / 4)

        assert (len(world.source.fetched), len(world.memory.requests)) == (fetched, sent)

    on_virtual_time(story)


def test_what_lapsed_in_a_long_pause_is_created_anew() -> None:
    """The job was switched off for a summer; the documents are still there."""

    async def story(world: World) -> None:
        world.source.documents = numbered(30)
        await world.do()
        world.now += (DAYS + 1) * SECONDS_PER_DAY
        assert await world.memory.get(next(iter(world.memory.records))) is None

        report = await world.do()
        sent = len(world.memory.requests)
        await world.do()

        assert world.texts() == sorted(map(str, world.source.documents.values()))
        assert (report.status, report.records.created) == ("in_sync", 30)
        assert world.days_left() == [DAYS] * 30
        assert len(world.memory.requests) == sent

    on_virtual_time(story)


def test_an_emptied_memory_is_still_told_from_one_that_has_forgotten() -> None:
    """What has not lapsed should be there."""

    async def story(world: World) -> None:
        async def ask(job: SourceJob) -> None:
            await job.check.pass_once()

        world.source.documents = numbered(30)
        await world.do()
        held, lapses_at = dict(world.memory.records), dict(world.memory.lapses_at)
        world.memory.records.clear()
        world.memory.lapses_at.clear()
        with pytest.raises(FatalError, match="it was emptied"):
            await world.do(ask)

        world.memory.records, world.memory.lapses_at = held, lapses_at
        world.now += (DAYS + 1) * SECONDS_PER_DAY
        assert await world.memory.get(next(iter(held))) is None
        await world.do(ask)

    on_virtual_time(story)


@pytest.mark.parametrize(("before", "after", "left"), [(None, 60, [60.0] * 5), (60, 90, [90.0] * 5), (60, None, [])])
def test_another_setting_is_applied_once_to_what_differs(
    before: int | None, after: int | None, left: list[float]
) -> None:
    """By updates: no record gets another id or another text for it."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        world.rules = replace(RULES, expiry_days=before)
        await world.do()
        held = dict(world.memory.records)
        world.rules = replace(RULES, expiry_days=after)
        sent = len(world.memory.requests)

        report = await world.do()
        assert world.writes(sent) == {Operation.UPDATE: 5}
        sent = len(world.memory.requests)
        await world.do()

        assert (report.documents.unchanged, report.documents.renewed, report.records.updated) == (5, 5, 5)
        assert world.days_left() == left
        assert world.memory.records == held
        assert len(world.memory.requests) == sent
        assert {record.expiry_days for record in await world.ledger()} == {after}

    on_virtual_time(story)


def test_records_with_and_without_an_expiry_are_never_in_one_request() -> None:
    """A request says one expiry for all its records: what has none would be told to lose it."""

    async def story(world: World) -> None:
        world.rules = RULES
        world.source.documents = {"a/endless.md": "endless"}
        await world.do()
        world.rules = replace(RULES, expiry_days=DAYS)
        world.source.unlistable.add("a/")
        world.source.documents["b/lapsing.md"] = "lapsing"
        await world.do()
        world.rules = RULES
        world.source.unlistable.clear()
        world.source.documents = {"a/endless.md": "endless, edited", "b/lapsing.md": "lapsing, edited"}

        report = await world.do()

        assert report.records.updated == 2
        said = [[entry.expiry_days for entry in batch.entries] for batch in world.memory.requests]
        assert said == [[None], [DAYS], [None], [NO_EXPIRY]]
        assert world.days_left() == []

    on_virtual_time(story)


def test_an_edit_begins_the_time_of_its_record_anew_and_takes_old_neighbours_along() -> None:
    """Then the document is not read soon again for the others."""

    async def story(world: World) -> None:
        paragraphs = [f"Paragraph {number}. " + "word " * 60 for number in range(6)]
        world.source.documents["a.md"] = "\n\n".join(paragraphs)
        await world.do()
        count = len(world.memory.records)
        paragraphs[2] = "Another one. " + "word " * 60
        world.source.documents["a.md"] = "\n\n".join(paragraphs)
        young = await world.after_days(DAYS / 3 - 1)
        assert young.records.updated < count

        paragraphs[4] = "A third one. " + "word " * 60
        world.source.documents["a.md"] = "\n\n".join(paragraphs)
        old = await world.after_days(2)

        assert old.records.updated + old.records.unchanged == count
        assert (old.documents.changed, old.documents.renewed) == (1, 1)
        assert min(world.days_left()) >= DAYS - 2

    on_virtual_time(story)


def test_files_of_parts_are_renewed() -> None:
    """A part has no fingerprint of its own: the file is read for it."""

    async def story(world: World) -> None:
        world.source.documents["table.jsonl"] = "".join(f'{{"id": {n}, "text": "line {n}"}}\n' for n in range(12))
        await world.do()

        report = await world.after_days(DAYS * 0.67)

        assert (report.documents.unchanged, report.documents.renewed, report.records.updated) == (12, 12, 12)
        assert world.days_left() == [DAYS] * 12

    on_virtual_time(story)


def test_documents_that_a_source_shows_only_once_are_renewed() -> None:
    """A feed or a journal tells what is new; what it told long ago is still there."""

    async def story(world: World) -> None:
        journal = world.source
        assert isinstance(journal, Journal)
        journal.entries = [(f"{number}.md", f"text {number}") for number in range(8)]
        await world.do()
        journal.entries.append(("new.md", "new"))

        report = await world.after_days(DAYS * 0.67)
        fetched = len(journal.fetched)
        later = await world.after_days(1)

        assert (report.documents.renewed, report.documents.added, report.documents.seen) == (8, 1, 9)
        assert (later.documents.seen, len(journal.fetched)) == (0, fetched)
        assert sorted(world.days_left()) == [DAYS - 1] * 9

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


def silent_journal(world: World, count: int) -> Journal:
    journal = world.source
    assert isinstance(journal, Journal)
    journal.entries = [(f"{number}.md", f"text {number}") for number in range(count)]
    return journal


def test_what_is_gone_where_a_source_shows_only_what_is_new_goes_when_its_turn_comes() -> None:
    """The source says so when it is asked; to ask in every run would be a request an hour for ever."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 3)
        await world.do()
        journal.silently_gone = {"1.md"}

        gone = await world.after_days(DAYS * 0.67)
        asked = len(journal.located)
        await world.after_days(1)

        assert (gone.documents.removed, gone.documents.renewed, world.texts()) == (1, 2, ["text 0", "text 2"])
        assert len(journal.located) == asked

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


@pytest.mark.parametrize("max_fraction", [0.2, 1.0])
def test_a_source_that_has_nothing_of_what_it_is_asked_for_trips_the_guard(max_fraction: float) -> None:
    """A table is emptied to be loaded anew. Each day's share is small, and what is deleted is never shown again."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 300)
        world.deletes = DeletePolicy(max_fraction=max_fraction)
        await world.do()
        await world.after_days(DAYS / 3)
        journal.silently_gone = {f"{number}.md" for number in range(300)}

        reports = [await world.after_days(1) for _ in range(3)]
        left = len(world.texts())
        journal.silently_gone.clear()
        back = await world.after_days(1)

        assert [report.withheld_documents > 10 for report in reports] == [max_fraction < 1] * 3
        assert left == 300 if max_fraction < 1 else left < 270
        assert (back.withheld_documents, len(world.texts())) == (0, left)

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


class HalfListed(Journal):
    """Lists what is in `full/`, and shows of the rest only what is new."""

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        async for events in super().scan(since):
            yield [ScanIncremental("feed/") if isinstance(event, ScanIncremental) else event for event in events]
        yield [*(self._ref(name, text) for name, text in self.now.items() if name.startswith("full/"))]
        yield [ScanComplete("full/")]


def test_what_a_listing_does_not_show_any_more_is_not_what_the_source_was_asked_for() -> None:
    """Of a few documents among many, a full listing has told that they are gone; their records happen to be due."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 0)
        journal.entries = [(f"full/{number}.md", f"text {number}") for number in range(100)]
        await world.do()
        world.now += DAYS * 0.67 * SECONDS_PER_DAY
        journal.silently_gone = {f"full/{number}.md" for number in range(15)}

        report = await world.do()

        assert (report.withheld_documents, report.documents.removed) == (0, 15)

    play_with(JournalWorld(HalfListed(), MemoryDestination()), story)


def test_what_is_gone_and_must_not_be_deleted_is_asked_for_now_and_then() -> None:
    """It may come back before its records lapse."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 3)
        world.deletes = DeletePolicy(is_enabled=False)
        await world.do()
        journal.silently_gone = {"1.md"}
        await world.after_days(DAYS * 0.67)
        journal.located.clear()

        for _ in range(DAYS // 5):
            await world.after_days(1)
        asked = journal.located.count("1.md")
        journal.silently_gone.clear()
        for _ in range(DAYS // 10):
            await world.after_days(1)

        assert asked == 2
        assert "text 1" in world.texts()
        assert min(world.days_left()) > DAYS / 2

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


def test_a_document_of_which_a_source_cannot_tell_lets_no_other_lapse() -> None:
    """A tap that lists only what is new cannot tell of a row that was deleted, for ever; the others are still there."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 12)
        await world.do()
        journal.cannot_tell_of = {f"{number}.md" for number in range(6)}

        for _ in range(DAYS + 1):
            await world.after_days(1)

        world.memory._forget_lapsed()
        assert world.texts() == sorted(f"text {number}" for number in range(6, 12))
        assert max(journal.located.count(name) for name in journal.cannot_tell_of) <= 12

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


def test_many_documents_of_which_a_source_cannot_tell_let_no_other_lapse() -> None:
    """Deleted rows pile up, and a tap that lists only what is new can tell of none, whatever it is asked for first."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 600)
        await world.do()
        journal.cannot_tell_of = {f"{number}.md" for number in range(400)}

        for _ in range(DAYS + 1):
            await world.after_days(1)

        world.memory._forget_lapsed()
        assert world.texts() == sorted(f"text {number}" for number in range(400, 600))

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


def test_a_source_that_cannot_tell_once_near_the_end_lets_nothing_lapse() -> None:
    """Runs begin again late, after a long pause, and the first one meets a server that is busy for a moment."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 3)
        await world.do()
        journal.cannot_tell_of = {"0.md"}
        await world.after_days(DAYS * 0.95)
        journal.cannot_tell_of.clear()

        for _ in range(4):
            await world.after_days(1)

        world.memory._forget_lapsed()
        assert world.texts() == ["text 0", "text 1", "text 2"]
        assert journal.located.count("0.md") == 2

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


def test_a_plan_asks_for_what_is_to_be_renewed_and_notes_nothing() -> None:
    """It must not change when a run asks."""

    async def story(world: World) -> None:
        journal = silent_journal(world, 3)
        world.deletes = DeletePolicy(is_enabled=False)
        await world.do()
        journal.silently_gone, journal.cannot_tell_of = {"1.md"}, {"2.md"}
        world.now += DAYS * 0.67 * SECONDS_PER_DAY

        asked = []
        for _ in range(2):
            journal.located.clear()
            await world.do(preview)
            asked.append(sorted(journal.located))

        assert asked == [["0.md", "1.md", "2.md"]] * 2

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


def test_a_document_that_is_gone_is_not_renewed() -> None:
    """Also where the guard keeps its records: then they lapse by themselves."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        await world.do()
        world.source.documents.clear()
        sent = len(world.memory.requests)

        report = await world.after_days(DAYS * 0.67)

        assert (report.withheld_documents, len(world.memory.requests)) == (3, sent)

    on_virtual_time(story)


def test_a_document_that_cannot_be_read_when_its_turn_comes_is_tried_by_the_next_run() -> None:
    """There is a third of the time left for that."""

    async def story(world: World) -> None:
        world.source.documents = numbered(2)
        await world.do()
        world.source.fetch_errors["1.md"] = UnreadableDocument("403", "Cannot read it.")
        failed = await world.after_days(DAYS * 0.67)
        world.source.fetch_errors.clear()

        mended = await world.after_days(1)

        assert (failed.documents.failed, failed.documents.renewed) == (1, 1)
        assert (mended.documents.renewed, mended.records.updated) == (1, 1)
        assert len(world.memory.records) == 2

    on_virtual_time(story)


def test_a_renewal_that_is_refused_is_a_dead_letter_and_counted_once() -> None:
    """seen = unchanged + added + changed + failed."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        await world.do()
        world.memory.reject("document 1")

        report = await world.after_days(DAYS * 0.67)

        assert (report.documents.seen, report.documents.unchanged, report.documents.failed) == (3, 2, 1)
        assert report.dead_letters_by_code == {"400": 1}

    on_virtual_time(story)


def test_a_reply_that_was_lost_lets_no_record_seem_to_live_longer_than_it_does() -> None:
    """The memory counts from the first time that it was told; the ledger from before that."""

    async def story(world: World) -> None:
        world.source.documents = numbered(2)
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError):
            await world.do()
        world.now += 300
        await world.do()

        for record in await world.ledger():
            assert record.lapses_at is not None
            assert record.lapses_at <= world.memory.lapses_at[record.memory_record_id]

    on_virtual_time(story)


def test_a_plan_tells_of_renewals_and_does_not_age_by_them() -> None:
    """What falls due between planning and doing is left for the next run, and is no reason to plan again."""

    async def story(world: World) -> None:
        world.source.documents = numbered(50)
        await world.do()
        world.now += DAYS / 2 * SECONDS_PER_DAY
        table = ChangeTable(in_place)
        headers = []

        async def make(job: SourceJob) -> None:
            headers.append(await make_plan(job, [table], plan_id="plan", memory="memory"))

        await world.do(make)
        rows = list(table.found())
        table.close()
        planned = len(rows)
        world.now += 5 * SECONDS_PER_DAY
        loaded = ChangeTable(in_place)
        loaded.load(rows)

        report = await world.do(partial(apply_plan, header=headers[0], plan=loaded))
        loaded.close()

        assert {outcome for _, outcome, *_ in rows} == {"renewed"}
        assert 0 < planned < 50
        assert (report.records.updated, report.documents.renewed) == (planned, planned)
        assert (await world.do()).documents.renewed > 0

    on_virtual_time(story)


def test_a_dry_run_changes_nothing() -> None:
    """Neither the memory nor when a record is to be renewed."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        await world.do()
        world.now += DAYS * 0.67 * SECONDS_PER_DAY
        sent, ledger = len(world.memory.requests), await world.ledger()

        report = await world.do(preview)

        assert report.documents.renewed == 3
        assert (len(world.memory.requests), await world.ledger()) == (sent, ledger)

    on_virtual_time(story)


def test_verify_tells_what_has_lapsed_from_what_is_missing() -> None:
    """The one is as it should be after a pause, the other is somebody's doing."""

    async def story(world: World) -> None:
        world.source.documents = numbered(4)
        await world.do()
        gone = next(iter(world.memory.records))
        del world.memory.records[gone], world.memory.lapses_at[gone]
        found: list[Verification] = []

        async def verify(job: SourceJob) -> None:
            found.append(await job.verifier().verify())

        await world.do(verify)
        world.now += (DAYS + 1) * SECONDS_PER_DAY
        await world.do(verify)
        told: list[Verification] = []

        async def mend(job: SourceJob) -> None:
            told.append(await repair(job))

        await world.do(mend)
        report = await world.do()

        assert [(each.missing, each.expired) for each in found] == [(1, 0), (0, 4)]
        assert [(each.missing, each.expired) for each in map(reconciled, told)] == [(0, 4)]
        assert (report.records.created, world.texts()) == (4, sorted(map(str, world.source.documents.values())))

    on_virtual_time(story)


def test_a_rebuilt_ledger_does_not_know_when_records_lapse_so_the_next_run_renews_them() -> None:
    """A listing does not show it, and asking for each record would take hours."""

    async def story(world: World) -> None:
        world.source.documents = numbered(4)
        await world.do()
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            world.now += DAYS / 2 * SECONDS_PER_DAY
            await world.do(rebuild)  # type: ignore[arg-type]
            report = await world.do()
            again = await world.do()

        assert (report.records.created, report.records.updated) == (0, 4)
        assert world.days_left() == [DAYS] * 4
        assert again.records.updated == 0

    on_virtual_time(story)


def test_what_was_to_be_made_endless_and_is_lost_is_created_without_an_expiry() -> None:
    """REMOVE does not apply to new records: the memory would refuse them."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        await world.do()
        gone = next(iter(world.memory.records))
        del world.memory.records[gone], world.memory.lapses_at[gone]
        world.rules = RULES

        report = await world.do()

        assert (report.status, report.records.updated, report.records.created) == ("in_sync", 4, 1)
        assert world.days_left() == []

    on_virtual_time(story)


def test_a_retry_keeps_the_expiry() -> None:
    """Records that failed alone are sent in another request."""

    async def story(world: World) -> None:
        world.source.documents = numbered(4)
        world.memory.refuse_batches_with("document 1")
        world.memory.fail_next(RetryableError("No connection.", code="ConnectionClosedError"))

        await world.do()

        assert world.days_left() == [DAYS] * 3

    on_virtual_time(story)


@given(st.text())
def test_each_document_has_its_turn_between_a_third_and_two_thirds(document: str) -> None:
    """Any id has one, and always the same."""
    assert 1 / 3 <= renewal_share(DocumentId(document)) < 2 / 3


async def edit_the_letter(world: World, text: str) -> None:
    (letter,) = await world.state.letters()
    assert letter.record is not None
    content = world.memory.content_of(letter.record)
    await world.do(replay, chosen={letter.id}, edits={letter.id: content._replace(text=text)})


@pytest.mark.parametrize("is_wanted_by_now", [True, False])
def test_an_edited_record_that_has_lapsed_gives_way_to_its_document(is_wanted_by_now: bool) -> None:
    """Only the memory had the edit, so no run can renew it; that its record is gone must not stay unsaid for ever."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "an unwanted text", "b.md": "beside"}
        world.memory.reject("unwanted")
        await world.do()
        await edit_the_letter(world, "a mended text")
        before = await world.after_days(DAYS - 1)
        as_edited = world.texts()
        if is_wanted_by_now:
            world.memory.accept("unwanted")

        after = await world.after_days(2)

        assert (before.status, as_edited) == ("in_sync", ["a mended text", "beside"])
        if is_wanted_by_now:
            assert (after.documents.failed, world.texts()) == (0, ["an unwanted text", "beside"])
        else:
            assert (after.documents.failed, world.texts()) == (1, ["beside"])
            assert [letter.document_id for letter in await world.state.letters()] == ["a.md"]

    on_virtual_time(story)


@pytest.mark.parametrize("later", [None, 2 * DAYS])
def test_another_setting_does_not_hide_that_an_edited_record_lapses(later: int | None) -> None:
    """What the memory was told of it holds, as nothing is sent for it."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "an unwanted text"}
        world.memory.reject("unwanted")
        await world.do()
        await edit_the_letter(world, "a mended text")
        world.rules = replace(RULES, expiry_days=later)
        before = await world.after_days(DAYS - 1)

        after = await world.after_days(2)

        assert (before.documents.unchanged, before.documents.renewed) == (1, 0)
        assert (after.documents.failed, world.texts()) == (1, [])

    on_virtual_time(story)


def test_a_source_that_shows_only_what_is_new_is_not_asked_for_an_edit_before_it_lapses() -> None:
    """A request for each run would buy nothing; and one is needed in the end."""

    async def story(world: World) -> None:
        journal = world.source
        assert isinstance(journal, Journal)
        journal.entries = [("a.md", "an unwanted text")]
        world.memory.reject("unwanted")
        await world.do()
        await edit_the_letter(world, "a mended text")

        before = await world.after_days(DAYS - 1)
        after = await world.after_days(2)

        assert (before.documents.seen, after.documents.seen, after.documents.failed) == (0, 1, 1)

    play_with(JournalWorld(Journal(), MemoryDestination()), story)


def test_a_document_with_a_refused_renewal_is_not_read_by_every_run() -> None:
    """It says nothing new, and the dead letter says when it is sent again."""

    async def story(world: World) -> None:
        world.source.documents = numbered(1)
        await world.do()
        world.memory.reject("document 0")
        await world.after_days(DAYS * 0.67)
        fetched = len(world.source.fetched)

        report = await world.after_days(1)

        assert (report.documents.failed, len(world.source.fetched)) == (1, fetched)

    on_virtual_time(story)


def test_a_document_that_cannot_be_parsed_is_not_tried_by_every_run_once_its_records_are_due() -> None:
    """It would fail in the same way: each time would count as a replay in vain, and put the letter in quarantine."""

    async def story(world: World) -> None:
        world.source.documents = {"a.jsonl": '{"id": 1, "text": "one"}\n', "b.md": "beside"}
        await world.do()
        world.source.documents["a.jsonl"] = '{"id": 1, "te'
        await world.do()
        await world.after_days(DAYS * 0.67)
        fetched = len(world.source.fetched)

        report = await world.after_days(1)

        assert (report.documents.failed, report.documents.unchanged, len(world.source.fetched)) == (1, 1, fetched)
        assert [letter.rounds for letter in await world.state.letters()] == [1]

    on_virtual_time(story)


def test_what_lapsed_is_created_anew_also_where_a_record_has_one_attempt_only() -> None:
    """A record that is not found may be a young one; it takes a second look to know that it is gone."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        await world.do(record_attempts_max=1)
        world.now += 300
        await world.do(record_attempts_max=1)
        world.now += (DAYS + 1) * SECONDS_PER_DAY

        report = await world.do(record_attempts_max=1)

        assert (report.documents.failed, report.records.created) == (0, 3)
        assert world.texts() == sorted(map(str, world.source.documents.values()))

    on_virtual_time(story)


async def unreadable_and_dropped(world: World, *names: str) -> None:
    """Files that were read once, and then broke; a person has dropped their letters."""
    for name in names:
        world.source.documents[name] = '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n'
    await world.do()
    for name in names:
        world.source.documents[name] = '{"id": 1, "te'
    await world.do()
    await drop_all(world)


async def drop_all(world: World) -> None:
    await world.state.drop_letters([letter.id for letter in await world.state.letters()], world.now)


def test_a_dropped_letter_comes_back_before_the_records_that_it_let_stay_lapse() -> None:
    """They cannot be renewed, and nothing else would tell: the source counts as in sync without that letter."""

    async def story(world: World) -> None:
        await unreadable_and_dropped(world, "a.jsonl")
        young = await world.after_days(DAYS / 3 - 1)
        fetched = len(world.source.fetched)

        due = await world.after_days(DAYS / 3 + 1)
        later = await world.after_days(1)

        assert (young.documents.failed, due.documents.failed, later.documents.failed) == (0, 1, 1)
        assert len(world.texts()) == 2, "there is time left to mend it"
        assert [letter.code for letter in await world.state.letters()] == ["lapsing"]
        assert len(world.source.fetched) == fetched + 1, "it is tried once, and not by every run"

    on_virtual_time(story)


@pytest.mark.parametrize("has_fingerprints", [True, False])
def test_who_drops_the_letter_once_more_lets_the_records_lapse(has_fingerprints: bool) -> None:
    """A person who knows it is not asked again, for no part of a file."""

    async def story(world: World) -> None:
        world.source.has_fingerprints = has_fingerprints
        await unreadable_and_dropped(world, "a.jsonl")
        await world.after_days(DAYS * 0.4)
        assert len(await world.state.letters()) == 1, "one of its two lines is due, the other is not"
        await drop_all(world)

        reports = [await world.after_days(1) for _ in range(DAYS)]

        assert {report.documents.failed for report in reports} == {0}
        assert await world.state.letters() == []
        assert max(world.days_left()) <= 0

    on_virtual_time(story)


def test_a_dropped_letter_of_an_archive_in_a_mail_comes_back_before_what_was_in_it_lapses() -> None:
    """They would lapse in silence, while each run reads the mail for them: the letter is of a part, they are of its."""

    async def story(world: World) -> None:
        world.source.documents["1.eml"] = mail("hello", inner_zip=archive(x_txt="one", y_txt="two"))
        await world.do()
        world.source.documents["1.eml"] = mail("hello", inner_zip=BROKEN_ZIP)
        await world.do()
        await drop_all(world)

        reports = [await world.after_days(1) for _ in range(DAYS - 1)]
        fetched = len(world.source.fetched)
        await drop_all(world)
        later = [await world.after_days(1) for _ in range(DAYS // 4)]

        assert [report.documents.failed for report in (reports[0], reports[-1])] == [0, 1]
        assert fetched <= 5, "twice as it changed, and when its turn comes, for its own text and for the archive"
        assert {report.documents.failed for report in later} == {0}
        world.memory._forget_lapsed()
        assert world.texts() == ["hello"]

    on_virtual_time(story)


def test_a_dropped_letter_whose_document_is_mended_does_not_come_back() -> None:
    """It can be read by a run that wants to renew its records, and that does."""

    async def story(world: World) -> None:
        world.source.has_fingerprints = False
        await unreadable_and_dropped(world, "a.jsonl")
        world.source.documents["a.jsonl"] = '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n'

        report = await world.after_days(DAYS * 0.67)

        assert (report.documents.failed, report.records.updated) == (0, 2)
        assert world.days_left() == [DAYS] * 2

    on_virtual_time(story)


def test_another_expiry_brings_no_dropped_letter_back() -> None:
    """The records that it let stay have their time, which is not over."""

    async def story(world: World) -> None:
        await unreadable_and_dropped(world, "a.jsonl")
        for expiry_days in (2 * DAYS, None):
            world.rules = replace(RULES, expiry_days=expiry_days)

            report = await world.after_days(1)

            assert (report.documents.failed, report.documents.unchanged) == (0, 2)

    on_virtual_time(story)


def test_a_dropped_letter_comes_back_where_a_source_shows_only_what_is_new() -> None:
    """Its document is not shown again, and its records lapse all the same."""

    async def story(world: World) -> None:
        journal = world.source
        assert isinstance(journal, Journal)
        journal.entries = [("a.jsonl", '{"id": 1, "text": "one"}\n')]
        await world.do()
        journal.entries += [("a.jsonl", '{"id": 1, "te')]
        await world.do()
        await drop_all(world)

        report = await world.after_days(DAYS * 0.67)

        assert report.documents.failed == 1

    play_with(JournalWorld(Journal(), MemoryDestination()), story)
