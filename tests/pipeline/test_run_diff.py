"""How a run has changed texts, as its report tells it: what was replaced, by what, and only if the memory took it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import anyio
import pytest
from trio.testing import MockClock

from pipeline.errors import FatalError, RetryableError
from pipeline.expiry import SECONDS_PER_DAY
from pipeline.model import MemoryRecord, MemoryRecordId
from pipeline.plan_diff import LINES_PER_DOCUMENT_MAX, NO_CHANGE_OF_TEXT, RECORDS_PER_DOCUMENT_MAX
from pipeline.protocols import Destination, StateStore
from pipeline.report import SourceReport
from pipeline.run_diff import GONE_BEFORE, NOT_IN_TIME, READING_S_MAX, RunDiff
from pipeline.state.sqlite import open_state
from tests.contract.state_store import StateStoreContract
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import RULES, AnyWorld, in_place

Json = dict[str, Any]


class OldTexts:
    """A memory as the report asks it: it counts that, and can be told to answer late, with `error`, or never."""

    def __init__(self, memory: MemoryDestination) -> None:
        self._memory = memory
        self.asked = 0
        self.error: Exception | None = None
        self.is_silent = False
        self.answers_after_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    async def get(self, memory_record_id: MemoryRecordId) -> MemoryRecord | None:
        self.asked += 1
        if self.is_silent:
            await anyio.sleep_forever()
        await anyio.sleep(self.answers_after_s)
        if self.error is not None:
            raise self.error
        return await self._memory.get(memory_record_id)


@dataclass
class World(AnyWorld):
    source: MemorySource
    told: Json | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.old_texts = OldTexts(self.memory)

    async def run(self, documents_max: int = 20) -> SourceReport:
        """A run whose report shows texts; `told` is what it says of them, also if the run fails."""
        diff = RunDiff(documents_max)
        self.old_texts.asked = 0
        try:
            return await self.do(state=diff.watch(self.state, cast("Destination", self.old_texts)))
        finally:
            self.told = diff.as_json()

    @property
    def shown(self) -> dict[str, tuple[str, list[str]]]:
        """Of each document, its outcome and all its lines."""
        assert self.told is not None
        return {
            each["document"]: (each["outcome"], [line for record in each["records"] for line in record["lines"]])
            for each in self.told["documents"]
        }


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        world = World(MemorySource(), MemoryDestination())
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def paragraphs(count: int) -> list[str]:
    """Each becomes a record of its own."""
    return [f"Paragraph {number}. " + "word " * 70 for number in range(count)]


class TestWatchedState(StateStoreContract):
    """Whatever a run does with its ledger, it does the same with one that is watched."""

    @pytest.fixture
    async def state(self) -> AsyncIterator[StateStore]:
        async with open_state(None, source="handbook", destination="memory", offload=in_place) as state:
            yield RunDiff(20).watch(state, MemoryDestination())


def test_what_was_added_changed_and_removed_is_shown_with_what_it_replaced() -> None:
    """The old text is nowhere but in the memory, which is about to forget it."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "One here. Two there.", "b.md": "To be removed.", "same.md": "The same."}
        await world.do()
        world.source.documents = {"a.md": "One here. Two elsewhere.", "new.md": "Added.", "same.md": "The same."}

        await world.run()

        assert world.shown == {
            "a.md": ("changed", [" One here.", "-Two there.", "+Two elsewhere."]),
            "new.md": ("added", ["+Added."]),
            "b.md": ("removed", ["-To be removed."]),
        }
        assert world.told is not None
        assert (world.told["has_more"], world.told["records_of_earlier_run"], world.told["problem"]) == (False, 0, None)
        assert world.old_texts.asked == 2

    on_virtual_time(story)


def test_the_records_of_a_document_are_shown_in_their_order() -> None:
    """Whatever is done with them: creates are sent before updates, and deletes last."""

    async def story(world: World) -> None:
        texts = paragraphs(5)
        world.source.documents = {"a.md": "\n\n".join(texts[:4])}
        await world.do()
        edited = texts[2].replace("word", "edited", 1)
        world.source.documents = {"a.md": "\n\n".join([texts[0], edited, texts[3], texts[4]])}

        await world.run()

        assert world.told is not None
        (told,) = world.told["documents"]
        assert [record["operation"] for record in told["records"]] == ["update", "delete", "create"]

    on_virtual_time(story)


def test_a_document_that_only_lost_records_has_changed() -> None:
    """It is still there: that it was removed would send somebody to look for it."""

    async def story(world: World) -> None:
        texts = paragraphs(4)
        world.source.documents = {"a.md": "\n\n".join(texts)}
        await world.do()
        world.source.documents = {"a.md": "\n\n".join([texts[0], texts[3]])}

        await world.run()

        (outcome, lines) = world.shown["a.md"]
        assert outcome == "changed"
        assert [line[:12] for line in lines if "Paragraph" in line] == ["-Paragraph 1", "-Paragraph 2"]

    on_virtual_time(story)


@pytest.mark.parametrize("fault", ["lost reply", "incomplete answer"])
def test_what_is_sent_twice_is_shown_once_with_the_text_that_it_replaced(fault: str) -> None:
    """When the same bytes go out again, the memory may show the new text already."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "Old.", "b.md": "Old too."}
        await world.do()
        world.source.documents = {"a.md": "New.", "b.md": "New too."}
        if fault == "lost reply":
            world.memory.lose_next_reply()
        else:
            world.memory.omit_from_next_answer()

        await world.run()

        assert world.shown == {"a.md": ("changed", ["-Old.", "+New."]), "b.md": ("changed", ["-Old too.", "+New too."])}
        assert world.old_texts.asked == 2

    on_virtual_time(story)


def test_a_refused_batch_that_is_split_is_shown_without_its_culprit() -> None:
    """What the memory did not take has changed nothing, and is no news of its document but that it failed."""

    async def story(world: World) -> None:
        names = ["a.md", "b.md", "c.md", "d.md"]
        world.source.documents = dict.fromkeys(names, "Old.")
        world.source.documents["d.md"] = "\n\n".join(paragraphs(2))
        await world.do()
        world.source.documents = {name: f"New {name}." for name in names}
        world.source.documents["d.md"] = "\n\n".join([*paragraphs(1), "unwanted " * 60, "also new " * 30])
        world.source.documents["c.md"] = "New and unwanted."
        world.memory.refuse_batches_with("unwanted", named=False)

        await world.run()

        assert world.shown["a.md"] == ("changed", ["-Old.", "+New a.md."])
        assert world.shown["b.md"] == ("changed", ["-Old.", "+New b.md."])
        assert "c.md" not in world.shown
        (outcome, lines) = world.shown["d.md"]
        assert outcome == "failed"
        assert not any("unwanted" in line for line in lines)

    on_virtual_time(story)


def test_a_record_that_was_given_up_on_is_shown_by_the_run_that_stores_it() -> None:
    """Until then the memory has the old text, and the report of another run must not say otherwise."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "Old.", "b.md": "Old."}
        await world.do()
        world.source.documents = {"a.md": "New.", "b.md": "New and rejected."}
        world.memory.reject("rejected")

        await world.run()
        assert world.shown == {"a.md": ("changed", ["-Old.", "+New."])}

        world.memory.accept("rejected")
        world.source.documents["b.md"] = "Newer."
        await world.run()
        assert world.shown == {"b.md": ("changed", ["-Old.", "+Newer."])}

    on_virtual_time(story)


def test_what_an_interrupted_run_left_is_counted_and_not_guessed() -> None:
    """It may have been carried out before: what the memory shows of it now may be the new text."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "Old.", "b.md": "Old."}
        await world.do()
        world.source.documents["a.md"] = "New."
        world.memory.fail_next(FatalError("The network is gone.", code="gone"), is_written=True)
        with pytest.raises(FatalError):
            await world.run()
        assert world.shown == {}

        world.source.documents["b.md"] = "New."
        await world.run()

        assert world.told is not None
        assert world.told["records_of_earlier_run"] == 1
        assert world.shown == {"b.md": ("changed", ["-Old.", "+New."])}

    on_virtual_time(story)


def test_a_text_that_cannot_be_read_does_not_keep_a_run_from_its_work() -> None:
    """It is told so in its place; the others are read."""

    async def story(world: World) -> None:
        world.source.documents = {f"{number}.md": "Old." for number in range(3)}
        await world.do()
        world.source.documents = {"0.md": "New.", "1.md": "New.", "new.md": "Added."}
        world.old_texts.error = RetryableError("GetMemoryRecord: 503 on the way.", code="ServiceException")

        report = await world.run()

        assert (report.status, sorted(world.texts())) == ("in_sync", ["Added.", "New.", "New."])
        not_read = [" (the old text could not be read: ServiceException)"]
        assert world.shown == {
            "0.md": ("changed", not_read),
            "1.md": ("changed", not_read),
            "2.md": ("removed", not_read),
            "new.md": ("added", ["+Added."]),
        }
        assert world.told is not None
        assert world.told["problem"] == "GetMemoryRecord: 503 on the way."

    on_virtual_time(story)


def test_who_may_not_read_records_is_refused_once() -> None:
    """A policy without GetMemoryRecord must not cost a refused request for each record."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "Old.", "b.md": "Old."}
        await world.do()
        world.source.documents = {"a.md": "\n\n".join(paragraphs(4))}
        world.old_texts.error = FatalError("GetMemoryRecord: 403.", code="AccessDeniedException")

        report = await world.run()

        assert report.status == "in_sync"
        assert world.old_texts.asked == 1
        assert world.shown["b.md"] == ("removed", [" (the old text could not be read: AccessDeniedException)"])

    on_virtual_time(story)


def test_a_memory_that_does_not_answer_holds_a_run_up_for_a_moment_only() -> None:
    """Once for the whole run, however many of its batches are saved after that."""

    async def story(world: World) -> None:
        world.source.documents = {f"{number}.md": "Old." for number in range(9)}
        await world.do()
        world.source.documents = {f"{number}.md": "New." for number in range(7)}
        before = anyio.current_time()
        await world.do()
        usual_s = anyio.current_time() - before
        world.source.documents = {**{f"{number}.md": "Newer." for number in range(5)}, "new.md": "Added."}
        world.old_texts.is_silent = True

        before = anyio.current_time()
        report = await world.run()

        assert anyio.current_time() - before <= usual_s + READING_S_MAX + 0.1
        assert report.status == "in_sync"
        assert world.shown == {
            **{f"{number}.md": ("changed", [f" {NOT_IN_TIME}"]) for number in range(5)},
            **{f"{number}.md": ("removed", [f" {NOT_IN_TIME}"]) for number in (5, 6)},
            "new.md": ("added", ["+Added."]),
        }

    on_virtual_time(story)


def test_a_slow_memory_does_not_hold_up_each_part_of_a_run_anew() -> None:
    """What changed is saved before what is removed: each is read within what is left of the time."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "Old.", "b.md": "Old."}
        await world.do()
        world.source.documents = {"a.md": "New."}
        world.old_texts.answers_after_s = 0.7 * READING_S_MAX

        await world.run()

        assert world.shown == {"a.md": ("changed", ["-Old.", "+New."]), "b.md": ("removed", [f" {NOT_IN_TIME}"])}

    on_virtual_time(story)


def test_a_fault_of_ours_does_not_fail_the_run_either() -> None:
    """And its message, which may hold a text, is not repeated."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "Old."}
        await world.do()
        world.source.documents = {"a.md": "New."}
        world.old_texts.error = ZeroDivisionError("secret")

        report = await world.run()

        assert (report.status, world.texts()) == ("in_sync", ["New."])
        assert world.told is not None
        assert world.told["problem"] == "Unexpected ExceptionGroup: a fault of memsync. Please report it."

    on_virtual_time(story)


def test_only_the_first_documents_are_asked_for() -> None:
    """A run that rewrites a million documents costs no more requests than one of a few."""

    async def story(world: World) -> None:
        world.source.documents = {f"{number}.md": "Old." for number in range(9)}
        await world.do()
        world.source.documents = {f"{number}.md": "New." for number in range(5)}

        await world.run(2)

        assert list(world.shown) == ["0.md", "1.md"]
        assert world.old_texts.asked == 2
        assert world.told is not None
        assert world.told["has_more"]

        world.source.documents["0.md"] = "Newer."
        await world.run(1)
        assert not world.told["has_more"]

    on_virtual_time(story)


def test_a_long_document_is_cut_in_records_and_lines() -> None:
    """One book must not fill the report, nor be asked for whole."""

    async def story(world: World) -> None:
        world.source.documents["book.md"] = "\n\n".join(paragraphs(80))
        await world.do()
        world.source.documents["book.md"] = "\n\n".join(text.replace("word", "other", 1) for text in paragraphs(80))

        await world.run()

        assert world.told is not None
        (book,) = world.told["documents"]
        assert sum(len(record["lines"]) for record in book["records"]) == LINES_PER_DOCUMENT_MAX
        assert world.old_texts.asked == len(book["records"]) < RECORDS_PER_DOCUMENT_MAX
        assert len(book["records"]) + book["records_left_out"] == 80

        del world.source.documents["book.md"]
        world.source.documents["lines.md"] = "\n".join("x" * 150)
        await world.run()
        lines = next(each for each in world.told["documents"] if each["document"] == "lines.md")
        assert [len(record["lines"]) for record in lines["records"]] == [LINES_PER_DOCUMENT_MAX]
        assert lines["lines_left_out"] == 150 - LINES_PER_DOCUMENT_MAX

    on_virtual_time(story)


def test_records_that_only_live_on_are_no_news() -> None:
    """A renewal of ten thousand records would push every text that did change off the page."""

    async def story(world: World) -> None:
        world.rules = replace(RULES, expiry_days=60)
        world.memory.now = lambda: world.now
        world.source.documents = {"a.md": "The same.", "b.md": "Old."}
        await world.do()
        world.now += 50 * SECONDS_PER_DAY
        world.source.documents["b.md"] = "New."

        report = await world.run(1)

        assert report.records.updated == 2
        assert world.shown == {"b.md": ("changed", ["-Old.", "+New."])}
        assert world.told is not None
        assert not world.told["has_more"]
        assert world.old_texts.asked == 1

    on_virtual_time(story)


def test_records_that_the_memory_has_lost_are_told_so() -> None:
    """Their old text is known to nobody."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "Old.", "b.md": "Old."}
        await world.do()
        world.memory.records.clear()
        world.source.documents = {"a.md": "New."}

        await world.run()

        assert world.shown == {"a.md": ("changed", ["+New."]), "b.md": ("removed", [f" {GONE_BEFORE}"])}
        assert world.texts() == ["New."]

    on_virtual_time(story)


def test_a_change_of_metadata_alone_is_told_as_such() -> None:
    """Whoever sees the document among the changed ones must not look for a difference that is not there."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "The same."}
        await world.do()
        world.rules = replace(RULES, recipe="r2", namespace="/elsewhere/")

        await world.run()

        assert world.shown == {"a.md": ("changed", [f" {NO_CHANGE_OF_TEXT}"])}

    on_virtual_time(story)
