"""What a plan would change in texts, within bounds, whatever they hold."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from trio.testing import MockClock

from pipeline.model import DocumentId, KnownRecord, MemoryRecordId, RecordKey
from pipeline.plan_diff import (
    LINES_PER_DOCUMENT_MAX,
    LINES_PER_RECORD_MAX,
    NO_CHANGE_OF_TEXT,
    ONLY_BLANKS_CHANGE,
    RECORDS_PER_DOCUMENT_MAX,
    DiffSink,
    DocumentDiff,
    diff_lines,
)
from pipeline.planner import DeletePolicy
from pipeline.state.sqlite import open_state
from pipeline.sync import preview
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import AnyWorld, in_place


class World(AnyWorld):
    source: MemorySource

    async def diff(self, documents_max: int = 20) -> tuple[list[DocumentDiff], int]:
        sink = DiffSink(documents_max)
        await self.do(lambda job: preview(job, [sink]))
        return await sink.diffs(self.memory if sink.needs_memory else None), sink.left_out


def on_virtual_time(story: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        world = World(MemorySource(), MemoryDestination())
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await story(world)

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("One here. Two there. Three.", "One here. Two elsewhere. Three.",
         [" One here.", "-Two there.", "+Two elsewhere.", " Three."]),
        ("", "New text. It is short.", ["+New text.", "+It is short."]),
        ("Old text.", "", ["-Old text."]),
        ("a\nb\nc\nd\ne\nf", "A\nb\nc\nd\ne\nF", ["-a", "+A", " b", "@", " e", "-f", "+F"]),
        ("1. Item one\n2. Item two", "1. Item one\n2. Item three", [" 1. Item one", "-2. Item two", "+2. Item three"]),
        ("今日は。明日も。", "今日は。昨日も。", [" 今日は。", "-明日も。", "+昨日も。"]),
        ("The same.", "The same.", [f" {NO_CHANGE_OF_TEXT}"]),
        ("One.\n\nTwo.", "One.\nTwo.", [f" {ONLY_BLANKS_CHANGE}"]),
        ("--- a\n+++ b\n@@ c", "--- a\n+++ b\n@@ d", [" +++ b", "-@@ c", "+@@ d"]),
    ],
)  # fmt: skip
def test_texts_are_compared_by_lines_and_sentences(old: str, new: str, lines: list[str]) -> None:
    """A paragraph is one line; who edits a word in it does not want to read it twice."""
    assert list(diff_lines(old, new)) == lines


def test_long_texts_and_long_lines_are_cut_with_a_word() -> None:
    """A record of 16,000 characters must fill neither the screen nor the time of whoever waits."""
    many = list(diff_lines("", "\n".join(f"line {number}" for number in range(LINES_PER_RECORD_MAX + 5))))
    (long,) = diff_lines("", "x" * 1000)

    assert len(many) == LINES_PER_RECORD_MAX + 1
    assert many[-1] == " (what comes after 2,000 lines was not compared)"
    assert long == "+" + "x" * 299 + " (and 701 characters more)"


def test_what_is_created_updated_and_deleted_is_shown() -> None:
    """The old texts come from the memory, the new ones from the source."""

    async def story(world: World) -> None:
        world.source.documents = {"a.md": "One here. Two there.", "b.md": "To be removed."}
        await world.do()
        world.source.documents = {"a.md": "One here. Two elsewhere.", "new.md": "Added."}

        diffs, left_out = await world.diff()

        shown = {diff.document: (diff.outcome, [(r.operation, r.lines) for r in diff.records]) for diff in diffs}
        assert shown == {
            "a.md": ("changed", [("update", [" One here.", "-Two there.", "+Two elsewhere."])]),
            "new.md": ("added", [("create", ["+Added."])]),
            "b.md": ("removed", [("delete", ["-To be removed."])]),
        }
        assert left_out == 0

    on_virtual_time(story)


def test_more_documents_than_were_asked_for_are_counted() -> None:
    """And their old texts are not asked for."""

    async def story(world: World) -> None:
        world.source.documents = {f"{number}.md": f"Text {number}." for number in range(9)}
        await world.do()
        for number in range(3):
            world.source.documents[f"{number}.md"] = "\n\n".join("edited" * 60 for _ in range(4))
            del world.source.documents[f"{number + 6}.md"]

        diffs, left_out = await world.diff(2)

        assert ([diff.document for diff in diffs], left_out) == (["0.md", "1.md"], 4)

    on_virtual_time(story)


def test_a_long_document_is_cut_in_records_and_lines() -> None:
    """One book must not push all other documents off the screen."""

    async def story(world: World) -> None:
        world.source.documents["book.md"] = "\n\n".join(f"Paragraph {number} " + "word " * 60 for number in range(80))

        (diff,), _ = await world.diff()

        assert sum(len(record.lines) for record in diff.records) <= LINES_PER_DOCUMENT_MAX
        assert len(diff.records) == RECORDS_PER_DOCUMENT_MAX
        assert diff.records_left_out == 80 - RECORDS_PER_DOCUMENT_MAX

        world.source.documents["book.md"] = "\n".join("x" * 150)
        (diff,), _ = await world.diff()
        assert sum(len(record.lines) for record in diff.records) == LINES_PER_DOCUMENT_MAX
        assert diff.lines_left_out == 150 - LINES_PER_DOCUMENT_MAX

    on_virtual_time(story)


def test_deletions_that_are_withheld_are_not_shown() -> None:
    """They would not happen."""

    async def story(world: World) -> None:
        paragraphs = [f"Paragraph {number}. " + "word " * 60 for number in range(3)]
        world.source.documents = {"a.md": "\n\n".join(paragraphs), "b.md": "More."}
        await world.do()
        world.source.documents = {"a.md": "\n\n".join(paragraphs[:1])}
        shown, _ = await world.diff()
        assert [(diff.document, diff.outcome) for diff in shown] == [("a.md", "changed"), ("b.md", "removed")]

        world.deletes = DeletePolicy(is_enabled=False)
        assert await world.diff() == ([], 0)
        assert await world.diff(1) == ([], 0)

    on_virtual_time(story)


def test_a_record_that_the_memory_has_lost_is_shown_as_new() -> None:
    """A run would create it anew."""

    async def story(world: World) -> None:
        world.source.documents["a.md"] = "Old."
        await world.do()
        world.memory.records.clear()
        world.source.documents["a.md"] = "New."

        (diff,), _ = await world.diff()

        assert [record.lines for record in diff.records] == [["+New."]]

    on_virtual_time(story)


async def test_records_of_one_document_that_are_left_out_count_once() -> None:
    """It is documents that are counted."""
    sink = DiffSink(1)
    records = [
        KnownRecord(RecordKey(f"{name}{number}"), DocumentId(name), "/", "", 1.0, MemoryRecordId("mem"))
        for name in ("a", "b", "c")
        for number in range(3)
    ]

    await sink.note_deletes(records)

    assert sink.left_out == 2
