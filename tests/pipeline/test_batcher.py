"""Changes become full requests, saved before they are sent."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import ClassVar

import anyio
import pytest
from anyio import create_memory_object_stream, create_task_group, current_time
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batcher import Batcher, make_batches
from pipeline.destinations.agentcore import AgentCoreConnection
from pipeline.errors import StateError
from pipeline.model import (
    Batch,
    Change,
    Checkpoint,
    ClientToken,
    Create,
    DeadLetter,
    Delete,
    DocumentId,
    DocumentPlan,
    DocumentState,
    Operation,
    RecordKey,
)
from pipeline.protocols import Destination, StateStore
from pipeline.state.sqlite import SqliteStateStore, open_state
from tests.pipeline.examples import (
    SmallRequestMemory,
    change,
    gate,
    inline,
    memory,
    run_on_virtual_clock,
    tokens,
)

LINGER_S = 1.0
SAVED_TOGETHER_MAX = 2
SAVING_S = 1e-7
ENVELOPE_BYTES = 100  # what a request says beside its records


def small_memory() -> SmallRequestMemory:
    return SmallRequestMemory(AgentCoreConnection("local-0000000000"), gate())


def batcher_for(destination: Destination) -> Batcher:
    return Batcher(destination, tokens(), lambda: 1000.0)


def key_of(planned: Change) -> RecordKey:
    return planned.known.key if isinstance(planned, Delete) else planned.record.key


def operation_of(planned: Change) -> Operation:
    if isinstance(planned, Delete):
        return Operation.DELETE
    return Operation.CREATE if isinstance(planned, Create) else Operation.UPDATE


def plan(*changes: Change, document: str = "a.md", letters: Sequence[DeadLetter] = ()) -> DocumentPlan:
    state = DocumentState(DocumentId(document), DocumentId(document), None, "recipe-1")
    standing = frozenset(letter.id for letter in letters)
    return DocumentPlan(state, changes, letters=tuple(letters), standing=standing)


def letter(name: str) -> DeadLetter:
    return DeadLetter(name, "s", DocumentId("a.md"), "derive", "limit", "too long", 1, 0.0, 0.0, "run-1")


def creates(count: int, *, start: int = 0) -> list[Change]:
    return [change(Operation.CREATE, f"key{number}") for number in range(start, start + count)]


@st.composite
def plan_lists(draw: st.DrawFn) -> list[DocumentPlan]:
    """Plans as they come from the planner: every key once, texts from tiny to larger than a request may be."""
    kinds = st.tuples(st.sampled_from(Operation), st.sampled_from([1, 30, 300, 900, 3000]))
    plans = draw(st.lists(st.lists(kinds, max_size=9), max_size=8))
    return [
        plan(
            *(
                change(operation, f"key{number}-{position}", text="x" * size)
                for position, (operation, size) in enumerate(kinds)
            ),
            document=f"{number}.md",
        )
        for number, kinds in enumerate(plans)
    ]


def batches_of(batcher: Batcher, plans: Sequence[DocumentPlan]) -> list[Batch]:
    return [batch for one in plans for batch in batcher.add(one)] + batcher.flush()


# ----------------------------------------------------------------------------------------------- pure batching


@given(plan_lists())
def test_every_change_lands_in_exactly_one_batch(plans: list[DocumentPlan]) -> None:
    """A lost change is a lost record, a doubled one a duplicate."""
    batches = batches_of(batcher_for(small_memory()), plans)

    planned = [(operation_of(one), key_of(one)) for each in plans for one in each.changes]
    batched = [(batch.operation, entry.key) for batch in batches for entry in batch.entries]
    assert sorted(batched, key=str) == sorted(planned, key=str)


@given(plan_lists())
def test_a_batch_says_exactly_what_its_changes_say(plans: list[DocumentPlan]) -> None:
    """Entries are settled by their place: bytes and entries must not part."""
    destination = small_memory()
    by_key = {key_of(one): one for each in plans for one in each.changes}

    for batch in batches_of(batcher_for(destination), plans):
        members = destination.members(batch)
        assert members == [destination.encode(by_key[entry.key]) for entry in batch.entries]
        assert {operation_of(by_key[entry.key]) for entry in batch.entries} == {batch.operation}


@given(plan_lists())
def test_a_batch_stays_within_the_limits_of_a_request(plans: list[DocumentPlan]) -> None:
    """One record too many, and AWS refuses all of them. A record that is too large goes alone."""
    destination = small_memory()

    for batch in batches_of(batcher_for(destination), plans):
        assert len(batch.entries) <= destination.records_per_batch_max
        if len(batch.entries) > 1:
            assert len(batch.body) <= destination.request_bytes_max + ENVELOPE_BYTES
            assert sum(len(member) + 1 for member in destination.members(batch)) <= destination.request_bytes_max


@given(plan_lists())
def test_no_key_stands_in_a_batch_twice_and_no_token_is_used_twice(plans: list[DocumentPlan]) -> None:
    """Answers name records by their key, and a token names one delivery."""
    batches = batches_of(batcher_for(small_memory()), plans)

    assert all(len({entry.key for entry in batch.entries}) == len(batch.entries) for batch in batches)
    assert len({batch.client_token for batch in batches}) == len(batches)


@given(plan_lists())
def test_batches_are_as_full_as_the_limits_allow(plans: list[DocumentPlan]) -> None:
    """Every request costs the same, however little is in it."""
    destination = small_memory()
    batches = batches_of(batcher_for(destination), plans)

    for operation in Operation:
        of_operation = [batch for batch in batches if batch.operation is operation]
        for batch, following in pairwise(of_operation):
            members, next_members = destination.members(batch), destination.members(following)
            with_one_more = sum(len(member) + 1 for member in [*members, next_members[0]])
            is_full = len(members) == destination.records_per_batch_max
            assert is_full or with_one_more > destination.request_bytes_max


@given(plan_lists())
def test_a_plan_is_finished_when_its_last_change_and_all_plans_before_it_are_cut(plans: list[DocumentPlan]) -> None:
    """Its document counts as done once it is finished: earlier loses changes, never repeats them for ever.

    A file that holds documents comes after these, has no changes of its own, and must not be done before them.
    """
    batcher = batcher_for(small_memory())
    unfinished: list[tuple[DocumentPlan, set[RecordKey]]] = []

    def note(batches: Sequence[Batch]) -> None:
        cut = {entry.key for batch in batches for entry in batch.entries}
        for _, waiting in unfinished:
            waiting.difference_update(cut)
        finished = batcher.take_finished()
        expected = list(takewhile(lambda open_plan: not open_plan[1], unfinished))
        assert list(map(id, finished)) == [id(each) for each, _ in expected]
        del unfinished[: len(expected)]
        assert batcher.is_empty == (not unfinished)

    for each in plans:
        unfinished.append((each, {key_of(one) for one in each.changes}))
        note(batcher.add(each))
    note(batcher.flush())

    assert not unfinished
    assert batcher.is_empty


def test_a_request_holds_a_hundred_records() -> None:
    """The hundred and first goes into the next one."""
    batches = batches_of(batcher_for(memory()), [plan(*creates(101))])

    assert [len(batch.entries) for batch in batches] == [100, 1]


def test_a_batch_carries_its_token_where_the_service_knows_tokens() -> None:
    """Only creates have one; the others may be repeated without."""
    batcher = batcher_for(memory())

    batches = batches_of(batcher, [plan(*(change(operation, operation.value) for operation in Operation))])

    tokens_sent = {batch.operation: json.loads(batch.body).get("clientToken") for batch in batches}
    (create,) = (batch for batch in batches if batch.operation is Operation.CREATE)
    assert tokens_sent == {Operation.CREATE: create.client_token, Operation.UPDATE: None, Operation.DELETE: None}


# -------------------------------------------------------------------------------------------------- the stage


@dataclass
class LetterFile:
    """A dead-letter file that looks, at each append, at what the state holds already."""

    state: StateStore
    appended: list[str] = field(default_factory=list)
    saved_before: list[str] = field(default_factory=list)
    is_full: bool = False

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        if self.is_full and letters:
            raise StateError("The disk is full.")
        self.saved_before += [letter.id for letter in await self.state.letters()]
        self.appended += [letter.id for letter in letters]

    async def rewrite(self, letters: Sequence[DeadLetter]) -> None:
        raise NotImplementedError


class SlowStateStore(SqliteStateStore):
    """Takes a moment to save, so that whoever does not wait for it is seen to run ahead."""

    saved_together: ClassVar[list[int]] = []

    async def save(
        self,
        batches: Sequence[Batch],
        plans: Sequence[DocumentPlan],
        checkpoint: Checkpoint | None = None,
        *,
        begun: Sequence[DocumentState] = (),
    ) -> None:
        await anyio.sleep(SAVING_S)
        self.saved_together.append(len(batches))
        await super().save(batches, plans, checkpoint, begun=begun)


@dataclass
class Bench:
    """The batching stage between two streams, with a real state."""

    state: SlowStateStore
    letters: LetterFile
    planned: MemoryObjectSendStream[list[DocumentPlan | Checkpoint]]
    batches: MemoryObjectReceiveStream[Batch]

    async def receive(self, *, within_s: float = 0.0) -> Batch:
        """The next batch; it must be in the outbox already."""
        with anyio.fail_after(within_s + 0.01):
            batch = await self.batches.receive()
        assert batch.client_token in await self.state.outbox(), "sent before it was saved"
        return batch

    async def documents(self) -> set[str]:
        rows = await self.state.rows_after(0, up_to=10**9, limit=100)
        return {document.state.id for document in await self.state.documents_at(rows)}


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    planned_in, planned = create_memory_object_stream[list[DocumentPlan | Checkpoint]](10)
    batches_in, batches = create_memory_object_stream[Batch](10)
    async with open_state(None, source="s", destination="d", offload=inline) as opened, create_task_group() as tasks:
        state = SlowStateStore(opened._connection, None, inline)
        state.saved_together.clear()
        letters = LetterFile(state)

        async def stage() -> None:
            await make_batches(
                planned,
                batches_in,
                batcher=batcher_for(memory()),
                state=state,
                dead_letters=letters,
                saved_together_max=SAVED_TOGETHER_MAX,
                linger_s=LINGER_S,
            )

        tasks.start_soon(stage)
        async with planned_in, batches:
            yield Bench(state, letters, planned_in, batches)
            await planned_in.aclose()
            async for _ in batches:
                pass


def on_bench(body: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with bench() as made:
            await body(made)

    run_on_virtual_clock(main)


def test_a_batch_is_saved_before_it_passes_on() -> None:
    """What was sent and not saved would be forgotten by a crash, and created twice."""

    async def body(bench: Bench) -> None:
        await bench.planned.send([plan(*creates(250))])

        for _ in range(2):
            await bench.receive()

    on_bench(body)


def test_batches_that_become_full_together_are_saved_together() -> None:
    """Saving takes the disk as long for some as for one; but the first must not wait for all of a long list."""

    async def body(bench: Bench) -> None:
        plans = [plan(*creates(100, start=100 * number), document=f"{number}.md") for number in range(5)]
        await bench.planned.send([*plans, Checkpoint("page 7")])

        for _ in plans:
            await bench.receive()

        assert bench.state.saved_together == [SAVED_TOGETHER_MAX, SAVED_TOGETHER_MAX, 1]
        assert await bench.state.checkpoint() == Checkpoint("page 7")

    on_bench(body)


def test_a_batch_that_is_not_full_leaves_after_its_linger() -> None:
    """A slow source's changes must not wait for its next ones."""

    async def body(bench: Bench) -> None:
        started = current_time()
        await bench.planned.send([plan(*creates(3))])

        batch = await bench.receive(within_s=LINGER_S)

        assert len(batch.entries) == 3
        assert current_time() - started == pytest.approx(LINGER_S)
        assert await bench.documents() == {"a.md"}

    on_bench(body)


def test_the_linger_counts_from_the_first_change() -> None:
    """A trickle that never pauses must not hold its first change back for ever."""

    async def body(bench: Bench) -> None:
        started = current_time()
        for number in range(4):
            await bench.planned.send([plan(*creates(1, start=number), document=f"{number}.md")])
            await anyio.sleep(LINGER_S * 0.3)

        batch = await bench.receive()

        assert len(batch.entries) == 4
        assert current_time() - started == pytest.approx(LINGER_S * 1.2)

    on_bench(body)


def test_a_new_change_after_a_flush_lingers_anew() -> None:
    """Else the first flush would be followed by requests of one record each."""

    async def body(bench: Bench) -> None:
        await bench.planned.send([plan(*creates(1), document="a.md")])
        await bench.receive(within_s=LINGER_S)
        await anyio.sleep(10 * LINGER_S)
        started = current_time()

        await bench.planned.send([plan(*creates(1, start=1), document="b.md")])
        await bench.receive(within_s=LINGER_S)

        assert current_time() - started == pytest.approx(LINGER_S)

    on_bench(body)


def test_a_plan_without_changes_is_recorded_after_the_linger() -> None:
    """A document that needs nothing must not be fetched again by the next run."""

    async def body(bench: Bench) -> None:
        await bench.planned.send([plan()])

        await anyio.sleep(LINGER_S * 1.1)

        assert await bench.documents() == {"a.md"}
        assert not await bench.state.outbox()

    on_bench(body)


def test_a_checkpoint_flushes_and_is_stored_with_what_went_before_it() -> None:
    """A checkpoint that was stored too early would skip documents after a crash."""

    async def body(bench: Bench) -> None:
        await bench.planned.send([plan(*creates(2)), Checkpoint("page 7"), plan(*creates(1, start=2), document="b.md")])

        batch = await bench.receive()

        assert [entry.key for entry in batch.entries] == ["key0", "key1"]
        assert await bench.state.checkpoint() == Checkpoint("page 7")
        assert await bench.documents() == {"a.md"}

    on_bench(body)


def test_the_end_of_the_input_flushes_what_waits() -> None:
    """The last batch is rarely full."""

    async def body(bench: Bench) -> None:
        await bench.planned.send([plan(*creates(2))])
        await bench.planned.aclose()

        batch = await bench.receive()

        assert len(batch.entries) == 2
        assert current_time() < LINGER_S / 2, "nothing more can come, so there is nothing to wait for"
        with pytest.raises(anyio.EndOfStream):
            await bench.batches.receive()

    on_bench(body)


def test_a_plan_that_spans_two_batches_is_recorded_with_the_second() -> None:
    """After a crash between them the document must count as not done."""

    async def body(bench: Bench) -> None:
        await bench.planned.send([plan(*creates(150))])
        await bench.receive()
        recipe_early = await recipe_of(bench)

        await bench.receive(within_s=LINGER_S)

        assert recipe_early == "", "its records belong to a document, which is not done"
        assert await recipe_of(bench) != ""

    on_bench(body)


async def recipe_of(bench: Bench) -> str:
    """The settings that the one document was last derived with."""
    [document] = await bench.state.documents_at(await bench.state.rows_after(0, up_to=10**9, limit=100))
    return document.state.recipe


def test_letters_are_appended_before_they_are_saved() -> None:
    """The file is what people read; a line written twice is harmless, a missing one is not."""

    async def body(bench: Bench) -> None:
        await bench.planned.send([plan(letters=[letter("letter-1")])])
        await bench.planned.send([Checkpoint("1"), plan(letters=[letter("letter-2")])])
        await anyio.sleep(LINGER_S * 1.1)

        assert bench.letters.appended == ["letter-1", "letter-2"]
        assert bench.letters.saved_before == ["letter-1"]
        assert [one.id for one in await bench.state.letters()] == ["letter-2"], "the newer plan overtook the older"

    on_bench(body)


def test_nothing_is_saved_if_a_letter_cannot_be_written() -> None:
    """Its document would count as accounted for, and nobody would ever see why it is missing."""
    outboxes: list[Sequence[ClientToken]] = []

    async def body(bench: Bench) -> None:
        bench.letters.is_full = True
        await bench.planned.send([plan(*creates(2), letters=[letter("letter-1")])])
        try:
            await anyio.sleep(LINGER_S * 2)
        finally:
            with anyio.CancelScope(shield=True):
                outboxes.append(await bench.state.outbox())

    with pytest.raises(BaseExceptionGroup) as caught:
        on_bench(body)

    assert caught.group_contains(StateError)
    assert outboxes == [[]]
