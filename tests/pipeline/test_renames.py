"""Documents that were renamed: their records stay where they are in the memory, and say what is true now."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest

from pipeline.errors import SourceError, UnreadableDocument
from pipeline.model import Document, DocumentId, DocumentRef, MemoryRecord, Operation
from pipeline.planner import DeletePolicy
from pipeline.state.sqlite import open_state
from pipeline.sync import preview, repair
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import AnyWorld, in_place


class TracedSource(MemorySource):
    """One whose fingerprints are of the content alone."""

    def trace(self, ref: DocumentRef) -> str | None:
        return ref.fingerprint

    def rename(self, before: str, now: str) -> None:
        self.documents[now] = self.documents.pop(before)


@pytest.fixture
def source() -> TracedSource:
    return TracedSource({f"guide/{number}.md": f"# Title {number}\n\ntext {number}" for number in range(5)})


@pytest.fixture
async def world(source: TracedSource) -> AsyncIterator[AnyWorld]:
    world = AnyWorld(source, MemoryDestination())
    async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
        await world.do()
        world.memory.requests.clear()
        yield world


def documents(world: AnyWorld) -> dict[str, str]:
    """Which document each record of the memory says that it is of, by its id there."""
    return {memory_record_id: record.document for memory_record_id, record in world.memory.records.items()}


def operations(world: AnyWorld) -> set[Operation]:
    return {batch.operation for batch in world.memory.requests}


@pytest.mark.parametrize("now", ["guide/9.md", "a/0.md", "z/0.md"])
async def test_a_renamed_document_keeps_its_records(source: TracedSource, world: AnyWorld, now: str) -> None:
    """Whether its new name is listed before the old one's place or after it."""
    before = documents(world)
    source.rename("guide/0.md", now)

    report = await world.do()

    assert operations(world) == {Operation.UPDATE}
    assert documents(world) == {
        record: now if document == "guide/0.md" else document for record, document in before.items()
    }
    assert (report.documents.renamed, report.documents.changed, report.documents.removed) == (1, 1, 0)


async def test_the_run_after_a_rename_has_nothing_to_do(source: TracedSource, world: AnyWorld) -> None:
    source.rename("guide/0.md", "guide/9.md")
    await world.do()
    world.memory.requests.clear()

    report = await world.do()

    assert world.memory.requests == []
    assert report.documents.unchanged == 5


async def test_a_renamed_folder_does_not_trip_the_guard(source: TracedSource, world: AnyWorld) -> None:
    """Everything has another id, and nothing is lost."""
    source.documents |= {f"guide/{number}.md": f"text {number}" for number in range(5, 40)}
    await world.do()
    for name in list(source.documents):
        source.rename(name, name.replace("guide", "handbook"))

    report = await world.do()

    assert report.withheld_documents == 0
    assert set(documents(world).values()) == set(source.documents)
    assert len(world.memory.records) == 40


async def test_a_copy_is_a_document_of_its_own(source: TracedSource, world: AnyWorld) -> None:
    source.documents["a/copy.md"] = source.documents["guide/0.md"]

    report = await world.do()

    assert operations(world) == {Operation.CREATE}
    assert report.documents.renamed == 0
    assert set(documents(world).values()) == set(source.documents)


async def test_of_two_copies_of_what_is_gone_one_takes_its_records(source: TracedSource, world: AnyWorld) -> None:
    text = source.documents.pop("guide/0.md")
    source.documents |= {"a/one.md": text, "a/two.md": text}

    await world.do()

    assert operations(world) == {Operation.CREATE, Operation.UPDATE}
    assert sorted(documents(world).values()) == sorted(source.documents)


async def test_of_two_equal_documents_that_are_gone_one_is_deleted(source: TracedSource, world: AnyWorld) -> None:
    source.documents["guide/0-copy.md"] = source.documents["guide/0.md"]
    await world.do()
    del source.documents["guide/0-copy.md"]
    source.rename("guide/0.md", "guide/9.md")

    await world.do()

    assert sorted(documents(world).values()) == sorted(source.documents)


async def test_documents_that_change_names_have_changed_both(source: TracedSource, world: AnyWorld) -> None:
    one, other = source.documents["guide/0.md"], source.documents["guide/1.md"]
    source.documents |= {"guide/0.md": other, "guide/1.md": one}

    await world.do()

    assert sorted(documents(world).values()) == sorted(source.documents)
    assert world.texts() == sorted(source.documents.values())


async def test_the_lines_of_a_renamed_file_keep_their_records(source: TracedSource, world: AnyWorld) -> None:
    source.documents["a.jsonl"] = '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}'
    await world.do()
    world.memory.requests.clear()
    source.rename("a.jsonl", "b.jsonl")

    await world.do()

    assert operations(world) == {Operation.UPDATE}
    assert {"b.jsonl#1", "b.jsonl#2"} < set(documents(world).values())
    assert not {"a.jsonl#1", "a.jsonl#2"} & set(documents(world).values())


async def test_a_line_that_a_renamed_file_has_no_more_goes(source: TracedSource, world: AnyWorld) -> None:
    """It was edited between the listing and the reading, or it was another file all along."""
    source.documents["a.jsonl"] = '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}'
    await world.do()
    source.rename("a.jsonl", "b.jsonl")
    fetch = source.fetch

    async def edit(ref: DocumentRef) -> Document:
        source.documents["b.jsonl"] = '{"id": 1, "text": "one"}'
        return await fetch(ref)

    source.fetch = edit  # type: ignore[method-assign]

    await world.do()

    assert {name for name in documents(world).values() if "jsonl" in name} == {"b.jsonl#1"}


async def test_where_the_listing_is_not_complete_nothing_was_renamed(source: TracedSource, world: AnyWorld) -> None:
    """The old one may be in the part that could not be listed."""
    source.rename("guide/0.md", "a/0.md")
    source.unlistable = {"guide/"}

    report = await world.do()

    assert operations(world) == {Operation.CREATE}
    assert report.documents.renamed == 0
    assert len(world.memory.records) == 6


async def test_a_second_look_alone_renames_nothing(source: TracedSource, world: AnyWorld) -> None:
    """A source that finds nothing where it cannot list either does not know what it says."""
    source.rename("guide/0.md", "a/0.md")
    source.unlistable = {"guide/"}

    async def find_nothing(_: DocumentId) -> DocumentRef | None:
        return None

    source.locate = find_nothing  # type: ignore[method-assign, assignment]

    await world.do()

    assert operations(world) == {Operation.CREATE}
    assert len(world.memory.records) == 6


async def test_what_is_found_once_more_was_not_renamed(source: TracedSource, world: AnyWorld) -> None:
    """A listing that forgets a document must not cost its records."""
    forgotten = source.documents["guide/0.md"]
    source.rename("guide/0.md", "a/0.md")
    locate = source.locate

    async def find(document: DocumentId) -> DocumentRef | None:
        if document == "guide/0.md":
            source.documents[document] = forgotten
        return await locate(document)

    source.locate = find  # type: ignore[method-assign]

    await world.do()

    assert operations(world) == {Operation.CREATE}
    assert len(world.memory.records) == 6


@pytest.mark.parametrize("untold", [1, 3])
async def test_what_the_source_cannot_tell_of_holds_back_no_other(
    source: TracedSource, world: AnyWorld, untold: int
) -> None:
    """It counts as new, and is stored, however long the source cannot tell; others keep their records."""
    for number in range(5):
        source.rename(f"guide/{number}.md", f"a/{number}.md")
    locate, asked = source.locate, set[str]()

    async def fail(document: DocumentId) -> DocumentRef | None:
        if document in asked or len(asked) < untold:
            asked.add(document)
            raise SourceError("Cannot tell.")
        return await locate(document)

    source.locate = fail  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="Cannot tell"):
        await world.do()
    assert set(documents(world).values()) >= set(source.documents)
    assert len(world.memory.records) == 5 + untold
    source.locate = locate  # type: ignore[method-assign]

    await world.do()

    assert sorted(documents(world).values()) == sorted(source.documents)


async def test_a_source_that_can_tell_nothing_more_is_not_asked_for_ever(source: TracedSource, world: AnyWorld) -> None:
    source.documents |= {f"guide/{number}.md": f"text {number}" for number in range(5, 40)}
    await world.do()
    for name in list(source.documents):
        source.rename(name, name.replace("guide", "handbook"))
    asked: list[str] = []

    async def fail(document: DocumentId) -> DocumentRef | None:
        asked.append(document)
        raise SourceError("Cannot tell.")

    source.locate = fail  # type: ignore[method-assign]

    with pytest.raises(SourceError, match="Cannot tell"):
        await world.do()

    assert len(asked) < 10


async def test_a_listing_that_breaks_off_renames_nothing(source: TracedSource, world: AnyWorld) -> None:
    source.rename("guide/0.md", "a/0.md")
    source.fails_after = 2

    with pytest.raises(SourceError):
        await world.do()

    assert operations(world) == set()


async def test_without_deletes_nothing_is_taken_from_what_is_gone(source: TracedSource, world: AnyWorld) -> None:
    world.deletes = DeletePolicy(is_enabled=False)
    source.rename("guide/0.md", "guide/9.md")

    await world.do()

    assert operations(world) == {Operation.CREATE}
    assert len(world.memory.records) == 6


async def test_a_plan_tells_of_it_and_renames_nothing(source: TracedSource, world: AnyWorld) -> None:
    source.rename("guide/0.md", "guide/9.md")

    first, again = await world.do(preview), await world.do(preview)

    for report in (first, again):
        assert (report.documents.renamed, report.documents.changed, report.documents.removed) == (1, 1, 0)
    assert (await world.state.documents([DocumentId("guide/9.md")])) == {}


async def test_what_cannot_be_read_by_its_new_name_keeps_its_records(source: TracedSource, world: AnyWorld) -> None:
    source.rename("guide/0.md", "guide/9.md")
    source.fetch_errors["guide/9.md"] = UnreadableDocument("403", "Cannot read it.")
    await world.do()
    assert len(world.memory.records) == 5
    source.fetch_errors.clear()

    await world.do()

    assert operations(world) == {Operation.UPDATE}
    assert sorted(documents(world).values()) == sorted(source.documents)


async def test_a_run_that_ends_between_renaming_and_writing_goes_on(source: TracedSource, world: AnyWorld) -> None:
    """The ledger knows the document by its new name already, and the memory by its old one."""
    source.rename("guide/0.md", "guide/9.md")

    await end_before_writing(source, world)

    await world.do()

    assert operations(world) == {Operation.UPDATE}
    assert sorted(documents(world).values()) == sorted(source.documents)
    assert len(world.memory.records) == 5


async def test_a_document_that_goes_back_to_its_former_name_has_its_records_there(
    source: TracedSource, world: AnyWorld
) -> None:
    """Nothing of it was written under the name in between: its records are what they were."""
    source.rename("guide/0.md", "guide/9.md")
    await end_before_writing(source, world)
    source.rename("guide/9.md", "guide/0.md")

    await world.do()

    assert world.memory.requests == []
    assert (await world.do()).documents.unchanged == 5


async def test_a_repair_between_renaming_and_writing_takes_no_record_for_a_stranger(
    source: TracedSource, world: AnyWorld
) -> None:
    """The memory has it under the former name, and its listing shows what it was still before."""
    lagging = [record async for page in world.memory.list_records(namespace_path="/") for record in page]
    source.rename("guide/0.md", "guide/8.md")
    await world.do()
    source.rename("guide/8.md", "guide/9.md")
    await end_before_writing(source, world)
    listed = world.memory.list_records

    async def lag(*, namespace_path: str) -> AsyncGenerator[Sequence[MemoryRecord], None]:
        yield lagging

    world.memory.list_records = lag  # type: ignore[method-assign]
    await world.do(repair)  # type: ignore[arg-type]
    world.memory.list_records = listed  # type: ignore[method-assign]

    await world.do()

    assert sorted(documents(world).values()) == sorted(source.documents)


async def end_before_writing(source: TracedSource, world: AnyWorld) -> None:
    """A run that ends once it has renamed documents in the ledger."""

    async def end(ref: DocumentRef) -> Document:
        raise SourceError("the end")

    fetch, source.fetch = source.fetch, end  # type: ignore[method-assign]
    with pytest.raises(SourceError):
        await world.do()
    source.fetch = fetch  # type: ignore[method-assign]
    world.memory.requests.clear()
