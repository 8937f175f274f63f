"""Dead letters whose reason passes are sent again by the runs themselves, ever more seldom, and not for ever."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from pipeline.auto_replay import AutoReplay
from pipeline.errors import BatchRefused, SourceError, UnreadableDocument
from pipeline.events import LettersDue, RunEvent
from pipeline.job import SourceJob
from pipeline.model import Batch, BatchResult, DeadLetter, DocumentId, FailedRecord, Operation
from pipeline.planner import DeletePolicy
from pipeline.state.sqlite import open_state
from pipeline.sync import preview, replay, sync
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import AnyWorld, in_place

MINUTE_S = 60.0
RULE = AutoReplay(replays_max=3, backoff_s=15 * MINUTE_S, backoff_max_s=40 * MINUTE_S)


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


def letter(**members: Any) -> DeadLetter:
    made = DeadLetter(
        id="1",
        source="docs",
        document_id=DocumentId("a.md"),
        stage="write",
        code="500",
        message="a fault",
        attempts=5,
        first_failed_at=0.0,
        last_failed_at=1000.0,
        run_id="run",
        is_retryable=True,
    )
    return replace(made, **members)


# --------------------------------------------------------------------------------------------------- the rule


def test_the_wait_doubles_up_to_a_bound_and_ends_in_quarantine() -> None:
    """A memory that is ill for an hour is asked a few times; one that is ill for weeks is not asked for ever."""
    due_at = [RULE.next_attempt_at(letter(rounds=rounds)) for rounds in range(1, 6)]

    assert due_at == [1000 + 15 * MINUTE_S, 1000 + 30 * MINUTE_S, 1000 + 40 * MINUTE_S, None, None]
    assert [RULE.is_quarantined(letter(rounds=rounds)) for rounds in range(1, 6)] == [False, False, False, True, True]


def test_a_letter_is_due_from_its_moment_on() -> None:
    """Not a second earlier: else a source that runs every minute would know no backoff."""
    due_at = 1000 + 15 * MINUTE_S

    assert not any(RULE.is_due(letter(), now) for now in (0.0, 999.0, due_at - 1))
    assert all(RULE.is_due(letter(), now) for now in (due_at, due_at + 1e9))


@pytest.mark.parametrize(
    ("rule", "waiting"),
    [
        (RULE, letter(is_retryable=False)),
        (RULE, letter(dropped_at=2000.0)),
        (replace(RULE, is_enabled=False), letter()),
        (replace(RULE, is_enabled=False), letter(rounds=99)),
    ],
    ids=["lasting", "dropped", "switched off", "switched off after many"],
)
def test_others_wait_for_a_person(rule: AutoReplay, waiting: DeadLetter) -> None:
    """They are not in quarantine either: nobody has tried them in vain."""
    assert rule.next_attempt_at(waiting) is None
    assert not rule.is_due(waiting, 1e12)
    assert not rule.is_quarantined(waiting)


def test_no_number_of_rounds_is_too_much() -> None:
    """Whoever allows a hundred replays gets a time, and no overflow."""
    patient = AutoReplay(replays_max=10**6)

    assert patient.next_attempt_at(letter(rounds=10**5)) == 1000 + patient.backoff_max_s


# --------------------------------------------------------------------------------------------------- the runs


def test_a_letter_that_is_due_is_sent_by_the_next_run_and_not_before() -> None:
    """A fault of an hour ago must not wait for a person who types a command."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "flaky text", "b.md": "sound text"}
        world.memory.reject("flaky", 500)
        first = await world.do(auto_replay=RULE)
        world.memory._rejected.clear()
        sound = await world.do(auto_replay=RULE)
        world.now += 15 * MINUTE_S
        planned = await world.do(preview, auto_replay=RULE)
        due = await world.do(auto_replay=RULE)

        assert (first.resent, first.documents.failed) == (0, 1)
        assert (sound.resent, sound.documents.failed, sound.records.created) == (0, 1, 0)
        assert (planned.resent, planned.documents.changed) == (1, 1)
        assert (due.resent, due.documents.failed, due.documents.changed, due.records.created) == (1, 0, 1, 1)
        assert due.documents.unchanged == 1
        assert world.texts() == ["flaky text", "sound text"]
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_in_vain_it_waits_longer_and_then_for_a_person() -> None:
    """And whoever sends it by hand then can still do so."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "flaky text"}
        world.memory.reject("flaky", 500)
        await world.do(auto_replay=RULE)
        sent = []
        for _ in range(12):
            world.now += 10 * MINUTE_S
            requests = len(world.memory.requests)
            report = await world.do(auto_replay=RULE)
            assert (report.documents.seen, report.documents.failed) == (1, 1)
            sent.append(len(world.memory.requests) > requests)
        (quarantined,) = await world.state.letters()
        world.memory._rejected.clear()
        await world.do(replay, auto_replay=RULE)

        # After 15 minutes, 30 after that, 40 after that; then no more.
        assert [number for number, was_sent in enumerate(sent, 1) if was_sent] == [2, 5, 9]
        assert (quarantined.rounds, quarantined.attempts) == (4, 8)
        assert RULE.is_quarantined(quarantined)
        assert world.texts() == ["flaky text"]
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_what_the_memory_does_not_want_is_not_sent_again() -> None:
    """It would be refused every hour."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "unwanted text", "b.md": "poison"}
        world.memory.reject("unwanted", 400)
        world.memory.refuse_batches_with("poison")
        await world.do(auto_replay=RULE)
        requests = len(world.memory.requests)
        world.now += 1e6

        report = await world.do(auto_replay=RULE)

        assert (report.resent, report.documents.failed) == (0, 2)
        assert len(world.memory.requests) == requests

    on_virtual_time(story)


def test_of_one_document_only_the_letters_that_are_due_are_sent() -> None:
    """What its memory did not want stays given up on beside what the memory was too ill for."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": f"{'flaky ' * 60}\n\n{'unwanted ' * 40}\n\n{'sound ' * 60}"}
        world.memory.reject("flaky", 500)
        world.memory.reject("unwanted", 400)
        await world.do(auto_replay=RULE)
        codes = sorted(each.code for each in await world.state.letters())
        world.memory._rejected.clear()
        world.now += 15 * MINUTE_S

        report = await world.do(auto_replay=RULE)

        assert codes == ["400", "500"]
        assert (report.resent, report.records.created, report.documents.failed) == (1, 1, 1)
        assert [each.code for each in await world.state.letters()] == ["400"]
        assert len(world.texts()) == 2

    on_virtual_time(story)


def test_a_new_version_overtakes_a_letter_that_is_due() -> None:
    """The old text must not come after the new one."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "flaky old text"}
        world.memory.reject("flaky", 500)
        await world.do(auto_replay=RULE)
        world.memory._rejected.clear()
        world.source.documents = {"a.md": "new text"}
        world.now += 15 * MINUTE_S

        await world.do(auto_replay=RULE)

        assert world.texts() == ["new text"]
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_a_letter_of_a_document_that_is_gone_is_not_sent() -> None:
    """Nobody asks for it any more."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "flaky text", "b.md": "sound text"}
        world.memory.reject("flaky", 500)
        await world.do(auto_replay=RULE)
        del world.source.documents["a.md"]
        requests = len(world.memory.requests)
        world.now += 15 * MINUTE_S

        await world.do(auto_replay=RULE)

        assert len(world.memory.requests) == requests
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_a_source_that_cannot_be_listed_keeps_its_letters() -> None:
    """They wait for a run that can read their documents; that attempt does not count."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "flaky text"}
        world.memory.reject("flaky", 500)
        await world.do(auto_replay=RULE)
        world.source.is_missing = True
        world.now += 15 * MINUTE_S
        with pytest.raises(SourceError):
            await world.do(auto_replay=RULE)
        (waiting,) = await world.state.letters()
        world.source.is_missing = False
        world.memory._rejected.clear()

        await world.do(auto_replay=RULE)

        assert waiting.rounds == 1
        assert world.texts() == ["flaky text"]

    on_virtual_time(story)


class Undying(MemoryDestination):
    """A memory that deletes nothing while it is ill."""

    is_ill = False

    async def write(self, batch: Batch) -> BatchResult:
        if self.is_ill and batch.operation is Operation.DELETE:
            return BatchResult({}, [FailedRecord(each.key, "500", "ill", is_retryable=True) for each in batch.entries])
        return await super().write(batch)


def test_a_delete_that_failed_is_tried_again_and_counts_its_rounds() -> None:
    """Nothing may be left of what is gone, and nothing is asked for ever."""
    rule = replace(RULE, replays_max=1)

    async def story(world: World) -> None:
        world.memory = memory = Undying()
        world.source.documents = {"a.md": "gone text", "b.md": "sound text"}
        await world.do(auto_replay=rule)
        del world.source.documents["a.md"]
        memory.is_ill = True
        found = []
        for _ in range(4):
            await world.do(auto_replay=rule, deletes=DeletePolicy(allow_mass=True))
            found.append([(each.operation, each.rounds) for each in await world.state.letters()])
            world.now += 15 * MINUTE_S
        memory.is_ill = False
        await world.do(replay, auto_replay=rule)

        assert found == [[(Operation.DELETE, rounds)] for rounds in (1, 2, 2, 2)]
        assert world.texts() == ["sound text"]
        assert await world.state.letters() == []

    on_virtual_time(story)


def test_a_letter_about_a_deletion_that_somebody_else_has_done_goes() -> None:
    """Nothing could ever settle it."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "gone text", "b.md": "sound text"}
        await world.do()
        del world.source.documents["a.md"]
        world.memory.fail_next(BatchRefused("no", code="ValidationException"))
        await world.do(deletes=DeletePolicy(allow_mass=True))
        (waiting,) = await world.state.letters()
        assert waiting.key is not None
        known = await world.state.records_by_key([waiting.key])
        await world.state.forget(list(known.values()), [])

        await world.do(deletes=DeletePolicy(allow_mass=True))

        assert await world.state.letters() == []

    on_virtual_time(story)


@pytest.mark.parametrize("verb", [sync, replay])
def test_what_is_sent_again_in_vain_keeps_the_old_text(verb: Callable[[SourceJob], Awaitable[None]]) -> None:
    """No record is deleted before what replaces it is stored, however often that is tried."""

    async def story(world: World) -> None:
        old = [f"{word} " * 60 for word in ("one", "two", "three")]
        world.source.documents = {"a.md": "\n\n".join(old)}
        await world.do(auto_replay=RULE)
        world.source.documents = {"a.md": "flaky new text"}
        world.memory.reject("flaky", 500)
        await world.do(auto_replay=RULE)
        world.now += 15 * MINUTE_S
        await world.do(verb, auto_replay=RULE)
        meanwhile = len(world.texts())
        world.memory._rejected.clear()
        world.now += 40 * MINUTE_S

        await world.do(verb, auto_replay=RULE)

        assert meanwhile == 3
        assert world.texts() == ["flaky new text"]

    on_virtual_time(story)


def test_a_run_says_how_many_it_sends_again() -> None:
    """Whoever reads the log wants to know why an unchanged document was written."""
    heard: list[RunEvent] = []

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "flaky text", "b.md": "flaky, too"}
        world.memory.reject("flaky", 500)
        await world.do(auto_replay=RULE)
        world.now += 15 * MINUTE_S
        await world.do(auto_replay=RULE, observe=heard.append)

    on_virtual_time(story)

    assert [event for event in heard if isinstance(event, LettersDue)] == [LettersDue(2)]


def test_a_run_that_must_not_delete_does_not_say_that_it_sends_a_deletion_again() -> None:
    """It would say so each time, and nothing would ever be sent."""

    async def story(world: World) -> None:
        world.memory = memory = Undying()
        world.source.documents = {"a.md": "gone text", "b.md": "sound text"}
        await world.do(auto_replay=RULE)
        del world.source.documents["a.md"]
        memory.is_ill = True
        await world.do(auto_replay=RULE)
        memory.is_ill = False
        world.now += 15 * MINUTE_S
        forbidden = await world.do(auto_replay=RULE, deletes=DeletePolicy(is_enabled=False))
        planned = await world.do(preview, auto_replay=RULE)
        allowed = await world.do(auto_replay=RULE)

        assert (forbidden.resent, planned.resent) == (0, 1)
        assert (allowed.resent, allowed.records.deleted) == (1, 1)

    on_virtual_time(story)


@pytest.mark.parametrize("what", ["unreadable", "overtaken", "gone", "guarded"])
def test_what_is_due_and_not_sent_is_not_told_as_sent(what: str) -> None:
    """The number must be what was sent: whoever reads it would look for the letter in the memory."""

    async def story(world: World) -> None:
        world.memory = memory = Undying()
        world.source.documents = {f"{number:02}.md": f"text {number}" for number in range(20)}
        await world.do(auto_replay=RULE)
        if what == "guarded":
            del world.source.documents["00.md"]
            memory.is_ill = True
        else:
            world.source.documents["00.md"] = "flaky text"
            memory.reject("flaky", 500)
        await world.do(auto_replay=RULE)
        (waiting,) = await world.state.letters()
        memory.is_ill = False
        memory._rejected.clear()
        if what == "unreadable":
            world.source.fetch_errors["00.md"] = UnreadableDocument("403", "Cannot read it.")
        elif what == "overtaken":
            world.source.documents["00.md"] = "new text"
        elif what == "gone":
            del world.source.documents["00.md"]
        else:
            world.source.documents.clear()
        world.now += 15 * MINUTE_S
        planned = await world.do(preview, auto_replay=RULE)

        report = await world.do(auto_replay=RULE)

        assert RULE.is_due(waiting, world.now)
        assert (planned.resent, report.resent) == (0, 0)

    on_virtual_time(story)


def test_a_plan_does_not_tell_a_deletion_as_sent_that_waits_for_another_letter() -> None:
    """Nothing is deleted of a document that cannot be read: no run would send it."""

    async def story(world: World) -> None:
        world.memory = memory = Undying()
        parts = [f"Paragraph {number}. " + "word " * 70 for number in range(3)]
        world.source.documents = {"a.md": "\n\n".join(parts)}
        await world.do(auto_replay=RULE)
        world.source.documents = {"a.md": "\n\n".join(parts[:2])}
        memory.is_ill = True
        await world.do(auto_replay=RULE)
        memory.is_ill = False
        world.source.documents = {"a.md": "changed"}
        world.source.fetch_errors["a.md"] = UnreadableDocument("403", "Cannot read it.")
        await world.do(auto_replay=RULE)
        assert {letter.stage for letter in await world.state.letters()} == {"fetch", "write"}
        world.now += 15 * MINUTE_S

        planned = await world.do(preview, auto_replay=RULE)
        report = await world.do(auto_replay=RULE)

        assert (planned.resent, report.resent, report.records.deleted) == (0, 0, 0)

    on_virtual_time(story)


def test_a_document_that_can_be_read_after_all_is_one_letter_sent() -> None:
    """Also a file of many lines, and one that still cannot be read is none."""

    async def story(world: World) -> None:
        world.source.documents = {
            "a.jsonl": '{"id": 1, "te',
            "b.html": "<script>render()</script>",
            "c.jsonl": '{"id": 1, "te',
        }
        await world.do()
        letters = await world.state.letters()
        assert len(letters) == 3
        world.source.documents |= {
            "a.jsonl": '{"id": 1, "text": "1"}\n{"id": 2, "text": "2"}',
            "b.html": "<p>mended</p>",
        }

        report = await world.do(replay)

        assert (report.resent, report.records.created) == (2, 3)
        assert [letter.document_id for letter in await world.state.letters()] == ["c.jsonl"]

    on_virtual_time(story)


def test_a_replay_says_how_many_it_sent() -> None:
    """Of records and of deletions."""

    async def story(world: World) -> None:
        world.memory = memory = Undying()
        world.source.documents = {"a.md": "gone text", "b.md": "flaky text", "c.md": "sound text"}
        memory.reject("flaky", 500)
        await world.do()
        del world.source.documents["a.md"]
        memory.is_ill = True
        await world.do()
        waiting = len(await world.state.letters())
        memory.is_ill = False
        memory._rejected.clear()

        report = await world.do(replay)

        assert (waiting, report.resent, world.texts()) == (2, 2, ["flaky text", "sound text"])

    on_virtual_time(story)
