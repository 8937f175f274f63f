"""The pipeline from end to end, with a source and a memory in this process, on a virtual clock.

Real time, real HTTP and real files are in tests/acceptance; here is what needs a memory that misbehaves on cue.
"""

import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio
import pytest
from trio.testing import MockClock

from pipeline.errors import BatchRefused, FatalError, RetryableError, SourceError, SyncError, UnreadableDocument
from pipeline.events import RunStarted
from pipeline.job import TOKEN_TRUST_S, SourceJob
from pipeline.lease import LATE_WRITE_S
from pipeline.model import (
    Batch,
    BatchResult,
    Checkpoint,
    DocumentId,
    DocumentRef,
    DocumentState,
    FailedRecord,
    Operation,
    Settlement,
    SourceEvent,
)
from pipeline.planner import DeletePolicy
from pipeline.state.sqlite import open_state
from pipeline.sync import preview, rebuild, repair, replay
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import RULES, AnyWorld, in_place

Result = TypeVar("Result")


@dataclass
class World(AnyWorld):
    source: MemorySource


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    """Play `story` on trio, whose clock jumps over every wait."""

    async def play() -> None:
        world = World(MemorySource(), MemoryDestination())
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def numbered(count: int) -> dict[str, str | bytes]:
    return {f"{number}.md": f"text of document {number}" for number in range(count)}


def test_after_a_run_the_memory_equals_the_source_and_a_second_run_sends_nothing() -> None:
    """This is what the program is for."""

    async def story(world: World) -> None:
        world.source.documents = numbered(250)

        first = await world.do()
        sent = len(world.memory.requests)
        second = await world.do()

        assert world.texts() == sorted(map(str, world.source.documents.values()))
        assert (first.records.created, sent) == (250, 3)
        assert (second.documents.unchanged, second.records.unchanged) == (250, 250)
        assert len(world.memory.requests) == sent
        assert len(world.source.fetched) == 250

    on_virtual_time(story)


class LatentMemory(MemoryDestination):
    """Takes a second for each answer."""

    under_way = most_under_way = 0

    async def write(self, batch: Batch) -> BatchResult:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await anyio.sleep(1.0)
        self.under_way -= 1
        return await super().write(batch)


def test_there_is_a_request_under_way_for_each_writer_while_answers_are_recorded() -> None:
    """A slow disk must not keep the memory waiting; nor may the service see more requests than it was promised."""

    async def story(world: World) -> None:
        world.memory = LatentMemory()
        world.source.documents = numbered(900)

        async def settle(settlement: Settlement) -> None:
            await anyio.sleep(0.9)
            await record(settlement)

        record, world.state.settle = world.state.settle, settle  # type: ignore[method-assign]
        began = anyio.current_time()
        await world.do()

        assert world.memory.most_under_way == 3
        assert anyio.current_time() - began == pytest.approx(3 * 1.0 + 0.9, abs=0.1), "nine batches, three at once"

    on_virtual_time(story)


def test_a_changed_text_becomes_an_update_that_keeps_its_record() -> None:
    """The memory's own id may be referred to from elsewhere, and no document is absent because it changed."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "before"}
        await world.do()
        ids = set(world.memory.records)

        world.source.documents["a.md"] = "after"
        report = await world.do()

        assert world.texts() == ["after"]
        assert set(world.memory.records) == ids
        assert (report.documents.changed, report.records.updated) == (1, 1)

    on_virtual_time(story)


def test_the_new_is_stored_before_the_old_is_deleted() -> None:
    """A document that shrinks must not be gone in between, whatever happens in between."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "\n\n".join(f"{letter} " * 150 for letter in "abcdef"), "b.md": "gone soon"}
        await world.do()
        del world.source.documents["b.md"]
        world.source.documents |= {"a.md": "short now", "c.md": "new"}

        await world.do()

        later = [request.operation for request in world.memory.requests[1:]]
        assert later == sorted(later, key=[Operation.CREATE, Operation.UPDATE, Operation.DELETE].index)
        assert world.texts() == ["new", "short now"]

    on_virtual_time(story)


def test_a_lost_reply_does_not_create_anything_twice() -> None:
    """The same bytes go out again with the same token."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        world.memory.lose_next_reply()

        report = await world.do()

        assert len(world.memory.records) == 5
        assert len({(request.client_token, request.body) for request in world.memory.requests}) == 1
        assert (report.requests.sent, report.requests.retried, report.records.created) == (2, 1, 5)

    on_virtual_time(story)


def test_what_an_interrupted_run_left_is_delivered_before_anything_is_planned() -> None:
    """Planning first would take for new what the interrupted run has stored."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError, match="stays in the outbox"):
            await world.do()

        report = await world.do()

        assert len(world.memory.records) == 5
        assert len({request.client_token for request in world.memory.requests}) == 1
        assert (report.documents.unchanged, report.records.created, report.records.unchanged) == (5, 5, 0)

    on_virtual_time(story)


def test_a_batch_older_than_its_token_is_looked_up_and_taken_over() -> None:
    """Nobody knows for how long the service remembers a token; sending it blindly might create everything twice."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError):
            await world.do()
        world.memory.forget_tokens()
        world.now += TOKEN_TRUST_S + 1

        await world.do()

        assert len(world.memory.records) == 5
        assert not await world.state.outbox()

    on_virtual_time(story)


def test_a_record_that_the_answer_leaves_out_is_never_taken_for_stored() -> None:
    """The answer is the only proof; a gap in it is not one."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        world.memory.omit_from_next_answer()

        report = await world.do()

        assert report.records.created == 5
        assert len(world.memory.records) == 5
        assert len(world.memory.requests) == 2

    on_virtual_time(story)


def test_one_culprit_is_one_dead_letter_and_the_innocent_are_stored() -> None:
    """A bad record must not take the others of its request down."""

    async def story(world: World) -> None:
        world.source.documents = numbered(100) | {"bad.md": "poison", "worse.md": "more poison", "no.md": "nope"}
        world.memory.refuse_batches_with("poison", named=False)
        world.memory.reject("nope")

        report = await world.do()
        requests = len(world.memory.requests)
        again = await world.do()

        assert len(world.memory.records) == 100
        assert sorted(letter.document_id for letter in world.letters.letters) == ["bad.md", "no.md", "worse.md"]
        assert report.documents.added == 100
        assert report.documents.failed == again.documents.failed == 3
        assert len(world.memory.requests) == requests

    on_virtual_time(story)


def test_a_replay_stores_what_was_mended_and_drops_what_was_overtaken() -> None:
    """Old content must not come back to life, and nothing is stored twice."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "poison a", "b.md": "poison b", "c.md": "poison c"}
        world.memory.refuse_batches_with("poison")
        await world.do()
        world.source.documents["a.md"] = "mended"
        world.memory._refused.clear()
        world.memory.reject("poison c")

        first = await world.do(replay)
        others = [await world.do(replay) for _ in range(4)]

        assert world.texts() == ["mended", "poison b"]
        assert (first.records.created, first.documents.failed) == (2, 1)
        assert sum(report.records.created for report in others) == 0
        [letter] = await world.state.letters()
        assert (letter.document_id, letter.attempts) == ("c.md", 6)

    on_virtual_time(story)


def test_the_old_version_stays_until_the_new_one_is_accepted() -> None:
    """Refusing an edit must not empty the memory of the document."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "first"}
        await world.do()
        world.source.documents["a.md"] = "poison"
        world.memory.refuse_batches_with("poison")

        await world.do()
        assert world.texts() == ["first"]

        world.source.documents["a.md"] = "third"
        await world.do()
        assert world.texts() == ["third"]
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_a_record_whose_update_was_given_up_on_is_in_one_class_in_every_run() -> None:
    """desired = stored + dead-lettered: the old text that stays for its sake is not one more that is well."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": f"{'sound ' * 60}\n\n{'old ' * 60}", "b.md": "beside"}
        await world.do()
        world.source.documents["a.md"] = f"{'sound ' * 60}\n\n{'unwanted ' * 40}"
        world.memory.reject("unwanted")

        reports = [await world.do() for _ in range(2)]
        world.source.fetch_errors["a.md"] = UnreadableDocument("403", "Cannot read it.")
        world.source.documents["a.md"] = "another version"
        unread = await world.do()

        assert [report.records.unchanged for report in (*reports, unread)] == [2, 2, 2]
        assert [report.documents.failed for report in (*reports, unread)] == [1, 1, 1]

    on_virtual_time(story)


def test_nothing_of_a_document_is_deleted_while_its_new_version_is_refused() -> None:
    """Half an old document is better than none."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "\n\n".join(f"{letter} " * 150 for letter in "abcdef")}
        await world.do()
        before = world.texts()
        world.source.documents["a.md"] = "poison"
        world.memory.refuse_batches_with("poison")

        await world.do()
        assert world.texts() == before

        world.source.documents["a.md"] = "cured"
        await world.do()
        assert world.texts() == ["cured"]

    on_virtual_time(story)


def test_nothing_is_deleted_unless_the_whole_source_was_listed() -> None:
    """An error in the middle of a listing must not look like the end of it."""

    async def story(world: World) -> None:
        world.source.documents = numbered(20)
        await world.do()
        for number in range(5):
            del world.source.documents[f"{number}.md"]

        world.source.fails_after = 3
        with pytest.raises(SourceError):
            await world.do()
        world.source.fails_after, world.source.says_complete = None, False
        with pytest.raises(SourceError, match="without saying that it had listed everything"):
            await world.do()
        assert len(world.memory.records) == 20

        world.source.says_complete = True
        report = await world.do()
        assert len(world.memory.records) == 15
        assert (report.documents.removed, report.records.deleted) == (5, 5)

    on_virtual_time(story)


def test_a_document_that_the_listing_forgot_is_asked_for_before_it_is_deleted() -> None:
    """A listing that is not a snapshot misses what moves while it runs."""

    async def story(world: World) -> None:
        world.source.documents = numbered(20)
        await world.do()

        world.source = ForgetfulSource(numbered(20), forgets={"3.md", "7.md"})
        del world.source.documents["7.md"]
        await world.do()

        assert world.texts() == sorted(str(text) for name, text in numbered(20).items() if name != "7.md")

    on_virtual_time(story)


class ForgetfulSource(MemorySource):
    """Lists everything but what it forgets, and believes that to be complete."""

    def __init__(self, documents: Mapping[str, str | bytes], *, forgets: set[str]) -> None:
        super().__init__(documents)
        self._forgets = forgets

    def _events(self) -> Iterable[SourceEvent]:
        return (event for event in super()._events() if getattr(event, "id", None) not in self._forgets)


def test_what_cannot_be_listed_or_fetched_counts_as_present_and_heals_by_itself() -> None:
    """A folder without permission is not an empty folder."""

    async def story(world: World) -> None:
        world.source.documents = {"open/a.md": "a", "shut/b.md": "b", "c.md": "c"}
        await world.do()
        world.source.unlistable = {"shut/"}
        world.source.documents["c.md"] = "c2"
        world.source.fetch_errors["c.md"] = UnreadableDocument("PermissionError", "not allowed")

        report = await world.do()
        assert world.texts() == ["a", "b", "c"]
        assert {letter.stage for letter in await world.state.letters()} == {"scan", "fetch"}
        assert (report.documents.failed, report.documents.unchanged) == (1, 1)

        world.source.unlistable, world.source.fetch_errors = set(), {}
        report = await world.do()
        assert world.texts() == ["a", "b", "c2"]
        assert await world.state.letters() == []
        assert report.documents.failed == 0

    on_virtual_time(story)


def test_a_mass_deletion_is_withheld_and_everything_else_is_done() -> None:
    """An export that broke halfway must not empty the memory."""

    async def story(world: World) -> None:
        world.source.documents = numbered(30)
        await world.do()
        world.source.documents = numbered(15) | {"new.md": "new"}

        report = await world.do()
        assert (len(world.memory.records), report.withheld_documents) == (31, 15)

        world.deletes = DeletePolicy(allow_mass=True)
        await world.do()
        assert len(world.memory.records) == 16

    on_virtual_time(story)


def test_documents_that_lost_their_text_count_as_removals() -> None:
    """A full disk truncates files to nothing; that is as likely a fault as an empty folder."""

    async def story(world: World) -> None:
        world.source.documents = numbered(30)
        await world.do()
        world.source.documents = dict.fromkeys(numbered(30), "")

        report = await world.do()
        assert (len(world.memory.records), report.withheld_documents) == (30, 30)

        world.source.documents = numbered(30)
        await world.do()
        assert (await world.do()).withheld_documents == 0
        assert len(world.memory.records) == 30

    on_virtual_time(story)


def test_a_preview_says_what_the_run_then_does() -> None:
    """Who looked before leaping must not be surprised."""

    async def story(world: World) -> None:
        world.source.documents = numbered(30)
        await world.do()
        del world.source.documents["1.md"]
        world.source.documents |= {"2.md": "edited", "new.md": "new"}
        requests = len(world.memory.requests)

        planned = await world.do(as_plan)
        assert len(world.memory.requests) == requests
        done = await world.do()

        assert planned.documents == done.documents
        assert planned.records == done.records

    on_virtual_time(story)


async def as_plan(job: SourceJob) -> None:
    job.observe(RunStarted("docs", job.run_id, "plan", 0, 0))
    await preview(job)


def test_other_settings_derive_the_records_anew_without_duplicates() -> None:
    """The documents did not change, but what they should become did."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        await world.do()
        world.rules = replace(RULES, recipe="r2", metadata={"team": "support"})

        report = await world.do()

        assert [record.metadata["team"] for record in world.memory.records.values()] == ["support"] * 5
        assert (report.records.updated, report.records.created) == (5, 0)

    on_virtual_time(story)


def test_a_record_that_vanished_from_the_memory_is_created_anew() -> None:
    """Somebody deleted it; an update of it can never succeed, and the document still wants it."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        await world.do()
        del world.memory.records[next(iter(world.memory.records))]
        world.source.documents = {name: f"edited {text!r}" for name, text in numbered(5).items()}

        report = await world.do()

        assert world.texts() == sorted(map(str, world.source.documents.values()))
        assert (report.records.updated, report.records.created) == (4, 1)
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_a_memory_that_was_emptied_is_told_and_not_written_to() -> None:
    """Creating what changed would leave the rest missing, and the run would say that all is well."""

    async def story(world: World) -> None:
        world.source.documents = numbered(30)
        await world.do()
        world.memory.records.clear()
        world.source.documents["new.md"] = "new"

        with pytest.raises(FatalError, match="it was emptied or made anew"):
            await world.do()
        assert world.memory.records == {}

        await world.do(mend)
        await world.do()
        assert world.texts() == sorted(map(str, world.source.documents.values()))

    on_virtual_time(story)


def test_an_emptied_memory_is_noticed_also_if_all_records_are_of_one_document() -> None:
    """The few records that are asked for must not all be its first one."""

    async def story(world: World) -> None:
        world.source.documents = {"large.md": "\n\n".join(f"{number} " * 100 for number in range(100))}
        await world.do()
        world.memory.records.clear()
        world.source.documents["new.md"] = "new"

        with pytest.raises(FatalError, match="it was emptied or made anew"):
            await world.do()

    on_virtual_time(story)


async def mend(job: SourceJob) -> None:
    await repair(job)


def test_a_batch_that_is_never_answered_is_given_up_by_a_repair() -> None:
    """Otherwise it would stand before everything else in every run; what it stored all the same is taken over."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError, match="memsync verify --repair"):
            await world.do()
        world.memory.forget_tokens()
        world.source.documents["0.md"] = "edited"

        await world.do(mend)
        assert await world.state.outbox() == []
        report = await world.do()

        assert world.texts() == sorted(map(str, world.source.documents.values()))
        assert (report.records.created, report.records.updated) == (0, 1)

    on_virtual_time(story)


def test_a_repair_that_was_interrupted_is_ended_by_the_next_run() -> None:
    """The outbox is given up by then, and the ledger does not know yet what came of it."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        await world.do()
        world.source.documents["new.md"] = "new"
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError):
            await world.do()
        world.memory.is_missing = True
        with pytest.raises(FatalError):
            await world.do(mend)
        assert await world.state.outbox() == []
        world.memory.is_missing = False
        world.memory.forget_tokens()

        await world.do()

        assert world.texts() == sorted(map(str, world.source.documents.values()))

    on_virtual_time(story)


def test_a_ledger_that_was_lost_is_told_before_anything_is_written_twice() -> None:
    """An empty ledger takes every document for new; the memory knows better."""

    async def story(world: World) -> None:
        world.source.documents = numbered(30)
        await world.do()
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            with pytest.raises(FatalError, match="memsync recover"):
                await world.do()
            requests = len(world.memory.requests)
            await world.do(make_anew)
            report = await world.do()

        assert len(world.memory.requests) == requests
        assert (report.records.unchanged, report.records.created) == (30, 0)

    on_virtual_time(story)


async def make_anew(job: SourceJob) -> None:
    await rebuild(job)


def test_a_throttled_batch_is_sent_until_it_is_taken() -> None:
    """Throttling is not a failure: however often it happens, nothing is given up on."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        for _ in range(20):
            world.memory.fail_next(RetryableError("slow down", code="ThrottledException", is_throttle=True))

        report = await world.do()

        assert len(world.memory.records) == 5
        assert report.requests.throttled == 20

    on_virtual_time(story)


@pytest.mark.parametrize("seed", range(150))
def test_runs_that_are_cut_off_anywhere_end_in_the_same_memory(seed: int) -> None:
    """Wherever a run dies, the next ones must make up for it: nothing lost, nothing twice, nothing left over."""

    async def story(world: World) -> None:
        rng = random.Random(seed)
        world.rng = random.Random(seed + 1)
        for _ in range(6):
            edit(world.source.documents, rng)
            world.source.has_fingerprints = rng.random() < 0.8
            for _ in range(rng.randrange(3)):
                rng.choice([world.memory.lose_next_reply, world.memory.omit_from_next_answer])()
            with anyio.move_on_after(rng.choice([0.0, 0.05, 1.0, 100.0])) as scope:
                steps = rng.randrange(400)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(cut_off_after, steps, scope)
                    with suppress(SyncError):
                        await world.do()
                    tasks.cancel_scope.cancel()
            world.now += rng.choice([1.0, TOKEN_TRUST_S * 2])

        world.memory._mishaps.clear()
        world.deletes = DeletePolicy(allow_mass=True)
        await world.do()
        await world.do()

        assert world.texts() == sorted(str(text) for text in world.source.documents.values() if text)
        assert (await world.state.counts()).records == len(world.memory.records)
        assert await world.state.outbox() == []

    on_virtual_time(story)


async def cut_off_after(steps: int, scope: anyio.CancelScope) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


def edit(documents: dict[str, str | bytes], rng: random.Random) -> None:
    for _ in range(rng.randrange(1, 12)):
        name = f"{rng.randrange(12)}.md"
        if rng.random() < 0.3:
            documents.pop(name, None)
        else:
            documents[name] = rng.choice(["", "x" * rng.randrange(1, 9), f"text {rng.random()}"])


# ------------------------------------------------------------------------- files that hold a document a line


def lines(texts: Mapping[int, str]) -> str:
    return "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in texts.items())


class SlowSource(MemorySource):
    """Takes a while to end, so that what is ready is sent before the last change is known."""

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        async for events in super().scan(since):
            yield events
        await anyio.sleep(5)


def test_a_file_counts_as_read_only_once_all_its_lines_are_on_their_way() -> None:
    """Else a run that is cut off between the two would leave its lines as they were, for ever."""

    async def story(world: World) -> None:
        world.source.documents = {"a.jsonl": lines({number: f"line {number} v1" for number in range(5)})}
        await world.do()
        world.source.documents["a.jsonl"] = lines({number: f"line {number} v2" for number in range(5)})
        world.source.documents |= numbered(100)
        world.memory.fail_next(FatalError("not allowed", code="AccessDeniedException"))
        with pytest.raises(FatalError):
            await world.do()

        await world.do()

        assert [text for text in world.texts() if text.startswith("line")] == [f"line {n} v2" for n in range(5)]

    on_virtual_time(story)


def test_lines_that_the_guard_kept_are_not_forgotten() -> None:
    """The file is unchanged by the next run, and still has not got them."""

    async def story(world: World) -> None:
        world.source.documents = {"a.jsonl": lines({number: f"line {number}" for number in range(30)})}
        await world.do()
        world.source.documents["a.jsonl"] = lines({number: f"line {number}" for number in range(5)})

        reports = [await world.do() for _ in range(2)]
        assert [report.withheld_documents for report in reports] == [25, 25]

        world.deletes = DeletePolicy(allow_mass=True)
        await world.do()
        assert len(world.memory.records) == 5

    on_virtual_time(story)


def test_a_file_that_cannot_be_read_keeps_all_its_lines() -> None:
    """Also if the run that first read it was cut off before it was recorded as read."""

    async def story(world: World) -> None:
        world.memory.records_per_batch_max = 5
        world.source.documents = {"a.md": "kept", "z.jsonl": lines({number: f"line {number}" for number in range(8)})}
        world.memory.fail_next(FatalError("not allowed", code="AccessDeniedException"))
        with pytest.raises(FatalError):
            await world.do()
        stored = None
        for _ in range(2):
            world.source.fetch_errors["z.jsonl"] = UnreadableDocument("PermissionError", "not allowed")
            report = await world.do()
            assert stored in (None, world.texts())
            stored = world.texts()
            assert report.documents.removed == 0

        world.source.fetch_errors = {}
        await world.do()
        assert world.texts() == ["kept", *(f"line {number}" for number in range(8))]

    on_virtual_time(story)


def test_a_broken_file_counts_as_one_failed_document_in_every_run() -> None:
    """Its lines are still in the memory, and nobody knows what they should be."""

    async def story(world: World) -> None:
        world.source.documents = {"a.jsonl": lines(dict.fromkeys(range(5), "text"))}
        await world.do()
        world.source.documents["a.jsonl"] = str(world.source.documents["a.jsonl"]) + "broken"

        reports = [await world.do() for _ in range(3)]

        assert [report.documents.failed for report in reports] == [1, 1, 1]
        assert [report.records.unchanged for report in reports] == [5, 5, 5]

    on_virtual_time(story)


# --------------------------------------------------------------------------- documents of more than one batch


def test_a_letter_of_a_document_whose_last_changes_come_later_is_kept() -> None:
    """Recording the rest of the document must not take its letter for an old one."""

    async def story(world: World) -> None:
        poisoned = "\n\n".join(f"paragraph {n} " + ("poison " if n == 3 else "x ") * 100 for n in range(150))
        world.source = SlowSource({"a.md": poisoned})
        world.memory.reject("poison")

        reports = [await world.do() for _ in range(2)]

        assert [report.documents.failed for report in reports] == [1, 1]
        assert len(await world.state.letters()) == sum("poison" in part for part in poisoned.split("\n\n")) * 2

    on_virtual_time(story)


def test_what_a_cut_off_run_stored_of_a_document_belongs_to_it() -> None:
    """If the document is then removed, its records must go with it, and its letters too."""

    async def story(world: World) -> None:
        world.memory.records_per_batch_max = 2
        world.source = SlowSource({"a.md": "\n\n".join(f"{n} " * 90 for n in range(5)), "z.md": "z"})
        world.memory.fail_next(RetryableError("slow down", code="ThrottledException", is_throttle=True))
        with anyio.move_on_after(2):
            await world.do()
        del world.source.documents["a.md"]
        world.deletes = DeletePolicy(allow_mass=True)

        await world.do()

        assert world.texts() == ["z"]

    on_virtual_time(story)


# ------------------------------------------------------------------------------------------- more of the guard


def test_new_documents_do_not_hide_that_all_old_ones_are_gone() -> None:
    """The wrong folder was mounted, and it has plenty of files."""

    async def story(world: World) -> None:
        world.source.documents = {f"old/{name}": text for name, text in numbered(30).items()}
        await world.do()
        world.source.documents = {f"new/{name}": text for name, text in numbered(300).items()}

        report = await world.do()

        assert (report.withheld_documents, report.records.deleted) == (30, 0)

    on_virtual_time(story)


def test_a_replay_deletes_nothing_that_the_guard_has_withheld() -> None:
    """It does not list the source, so it cannot tell a mass deletion from a small one."""

    async def story(world: World) -> None:
        world.source.documents = numbered(40) | {"bad.md": "poison"}
        world.memory.reject("poison")
        await world.do()
        for number in range(15):
            del world.source.documents[f"{number}.md"]
        for number in range(20, 28):
            world.source.documents[f"{number}.md"] = ""
        assert (await world.do()).withheld_documents == 23

        await world.do(replay)

        assert len(world.memory.records) == 40

    on_virtual_time(story)


def test_a_record_whose_update_failed_for_good_is_written_whatever_the_document_says_next() -> None:
    """An attempt whose answer was lost may have been carried out; the ledger would believe the old text stored."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "before"}
        await world.do()
        world.source.documents = {"a.md": "after"}
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError, match="stays in the outbox"):
            await world.do()
        world.memory.reject("after")
        await world.do()
        assert world.texts() == ["after"]

        world.source.documents = {"a.md": "before"}
        await world.do()

        assert world.texts() == ["before"]

    on_virtual_time(story)


def test_a_record_whose_delete_failed_for_good_is_written_if_it_is_wanted_again() -> None:
    """An attempt whose answer was lost may have deleted it; the ledger would believe it stored."""
    gone = "gone " * 70

    async def story(world: World) -> None:
        world.source.documents = {"a.md": f"{'kept ' * 70}\n\n{gone}"}
        await world.do()
        world.source.documents = {"a.md": "kept " * 70}
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError, match="stays in the outbox"):
            await world.do()
        world.memory.fail_next(BatchRefused("no more", code="ValidationException"))
        await world.do()
        assert len(await world.state.letters()) == 1

        world.source.documents = {"a.md": f"{'kept ' * 70}\n\n{gone}"}
        await world.do()

        assert len(world.texts()) == 2

    on_virtual_time(story)


def test_an_update_waits_for_one_whose_answer_was_lost_in_the_run_before() -> None:
    """It was sent again and settled, but what was lost may still be carried out, over what is sent now."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "first"}
        await world.do()
        world.source.documents = {"a.md": "second"}
        world.memory.lose_next_reply()
        await world.do()  # it dies before it would wait for that
        assert await world.state.unheard_at() == world.now
        world.source.documents = {"a.md": "third"}
        began = anyio.current_time()

        await world.do()

        assert world.texts() == ["third"]
        assert anyio.current_time() - began >= LATE_WRITE_S

    on_virtual_time(story)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_token_that_grew_old_while_the_service_throttled_is_not_sent_again(is_interrupted: bool) -> None:
    """An answer left a record open, so all may be stored; by now the service may have forgotten the token."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        if is_interrupted:
            for _ in range(3):
                world.memory.lose_next_reply()
            with pytest.raises(FatalError, match="stays in the outbox"):
                await world.do()
        else:
            world.memory.omit_from_next_answer()

        class LongThrottle(RetryableError):
            @property
            def is_throttle(self) -> bool:
                world.now += 2 * TOKEN_TRUST_S
                world.memory.forget_tokens()
                return True

            @is_throttle.setter
            def is_throttle(self, _value: bool) -> None: ...

        world.memory.fail_next(LongThrottle("slow down", code="ThrottledException"))

        with pytest.raises(FatalError, match="longer than its token can be trusted"):
            await world.do()
        await world.do()

        assert len(world.memory.records) == 5

    on_virtual_time(story)


@pytest.mark.parametrize("pause_s", [0.0, 0.5, 30.0])
def test_a_document_that_is_listed_again_later_is_written_once(pause_s: float) -> None:
    """By then its first plan may be on its way, saved or settled."""

    class Repeating(MemorySource):
        async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
            async for events in super().scan(since):
                refs = [event for event in events if isinstance(event, DocumentRef)]
                yield refs
                await anyio.sleep(pause_s)
                yield events

    async def story(world: World) -> None:
        world.source = Repeating(numbered(300), events_per_list=7)

        report = await world.do()

        assert len(world.memory.records) == 300
        assert (report.documents.seen, report.records.created) == (300, 300)

    on_virtual_time(story)


class Repeating(MemorySource):
    """Lists each document twice, as paged listings do with what moves between pages."""

    def _events(self) -> Iterable[SourceEvent]:
        for event in super()._events():
            yield event
            if isinstance(event, DocumentRef):
                yield event


def test_a_file_that_is_listed_twice_has_its_known_lines_once() -> None:
    """A run that was interrupted leaves lines whose file is not in the ledger yet: nothing else tells of it."""

    async def story(world: World) -> None:
        world.source.documents = {"t.jsonl": "".join(f'{{"id": "{n}", "text": "line {n}"}}\n' for n in range(5))}
        world.source = Repeating(world.source.documents)
        lines = [DocumentState(DocumentId(f"t.jsonl#{n}"), DocumentId("t.jsonl"), None, "") for n in range(5)]
        await world.state.save([], [], begun=lines)

        report = await world.do()

        assert world.texts() == [f"line {n}" for n in range(5)]
        assert (report.documents.seen, report.records.created) == (5, 5)

    on_virtual_time(story)


def test_a_document_that_is_listed_twice_is_written_once() -> None:
    """However often it is fetched."""

    async def story(world: World) -> None:
        world.source = Repeating(numbered(3))

        await world.do()
        await world.do()

        assert len(world.memory.records) == 3

    on_virtual_time(story)


@contextmanager
def hours_passing(world: World) -> Iterator[None]:
    """With each request another hour passes, and the memory forgets its tokens."""
    plain_write = world.memory.write

    async def hours_later(batch: Batch) -> BatchResult:
        world.now += 3600
        world.memory.forget_tokens()
        return await plain_write(batch)

    world.memory.write = hours_later  # type: ignore[method-assign]
    yield
    world.memory.write = plain_write  # type: ignore[method-assign]


def test_an_unknown_outcome_is_looked_up_once_its_token_is_too_old() -> None:
    """A service that throttled for an hour has forgotten the token; sending it again would create all twice."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        world.memory.lose_next_reply()
        for _ in range(3):
            world.memory.fail_next(RetryableError("slow down", code="ThrottledException", is_throttle=True))
        with hours_passing(world), pytest.raises(FatalError, match="longer than its token can be trusted"):
            await world.do()

        await world.do()

        assert len(world.memory.records) == 5

    on_virtual_time(story)


def test_a_batch_of_an_earlier_run_is_not_sent_after_its_token_aged_while_being_throttled() -> None:
    """It was young when the run began; whether the earlier run had it stored is still unknown."""

    async def story(world: World) -> None:
        world.source.documents = numbered(5)
        for _ in range(3):
            world.memory.lose_next_reply()
        with pytest.raises(FatalError):
            await world.do()
        world.memory.fail_next(RetryableError("slow down", code="ThrottledException", is_throttle=True))
        with hours_passing(world), pytest.raises(FatalError, match="longer than its token can be trusted"):
            await world.do()

        await world.do()

        assert len(world.memory.records) == 5

    on_virtual_time(story)


def test_a_record_too_young_to_be_updated_is_waited_for() -> None:
    """The service does not find it for some seconds; taking it for lost would create it a second time."""

    class Young(MemoryDestination):
        async def write(self, batch: Batch) -> BatchResult:
            if batch.operation is Operation.UPDATE and anyio.current_time() < ready_at:
                failed = [FailedRecord(entry.key, "404", "not found", is_retryable=True) for entry in batch.entries]
                return BatchResult({}, failed)
            return await super().write(batch)

    ready_at = float("inf")

    async def story(world: World) -> None:
        nonlocal ready_at
        world.memory = Young()
        world.source.documents = {"a.md": "before"}
        await world.do()
        ready_at = anyio.current_time() + 10
        world.source.documents["a.md"] = "after"

        await world.do()

        assert world.texts() == ["after"]
        assert await world.state.letters() == []

    on_virtual_time(story)


class Limited(MemoryDestination):
    """A memory that refuses records with `limited` in their text for their rate, one by one, until some time."""

    until = 0.0

    async def write(self, batch: Batch) -> BatchResult:
        self._rejected = {"limited": 429} if anyio.current_time() < self.until else {}
        return await super().write(batch)


def test_records_that_are_refused_for_their_rate_wait_and_slow_the_others_down() -> None:
    """They are no worse than others. Whoever sent them again at once would send thousands of requests for nothing."""

    async def story(world: World) -> None:
        world.memory = memory = Limited()
        memory.until = anyio.current_time() + 600.0
        world.source.documents = {**numbered(20), "limited.md": "a limited text"}

        await world.do()

        assert anyio.current_time() >= memory.until
        assert len(world.memory.records) == 21
        assert await world.state.letters() == []
        assert len(world.memory.requests) < 600

    on_virtual_time(story)


def test_a_memory_that_refuses_records_for_their_rate_is_asked_less_often() -> None:
    """What one batch has more of, the others have less of: else all of them would be refused in part."""
    sent_at: list[float] = []

    class Watched(Limited):
        async def write(self, batch: Batch) -> BatchResult:
            sent_at.append(anyio.current_time())
            return await super().write(batch)

    async def story(world: World) -> None:
        world.memory = memory = Watched(records_per_batch_max=1)
        memory.until = anyio.current_time() + 0.5
        world.source.documents = {
            "0.md": "a limited text",
            **{f"1{name}": text for name, text in numbered(1_000).items()},
        }

        await world.do()

        assert sent_at[900] - sent_at[0] > 1.5, "a thousand a second are allowed, half of that after a refusal"

    on_virtual_time(story)


def test_a_record_that_alone_is_refused_for_its_rate_for_ever_is_given_up() -> None:
    """Then it is not its rate. The others must not wait for it, nor the next run."""

    async def story(world: World) -> None:
        world.memory = memory = Limited()
        memory.until = float("inf")
        world.source.documents = {**numbered(20), "limited.md": "a limited text"}
        # Others go on being taken, so that the memory has not stopped taking.
        began_at = anyio.current_time()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.do)
            await anyio.sleep(2 * 3600.0)
            tasks.cancel_scope.cancel()

        (letter,) = await world.state.letters()
        assert (letter.document_id, letter.code) == ("limited.md", "429")
        assert len(world.memory.records) == 20
        assert letter.first_failed_at >= began_at

    on_virtual_time(story)
