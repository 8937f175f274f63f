"""What every destination promises, as tests: subclass `DestinationContract` and give it a `world`.

Every rule takes the fixture `world` and nothing else, so that it can also be run by hand on another event loop.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import anyio
import pytest

from pipeline.batcher import Batcher
from pipeline.errors import BatchRefused, FatalError, RetryableError
from pipeline.model import (
    ORDER_METADATA_KEY,
    Batch,
    Change,
    ClientToken,
    Create,
    Delete,
    DocumentId,
    DocumentPlan,
    Entry,
    KnownRecord,
    MemoryRecordId,
    Operation,
    Record,
    RecordKey,
    Update,
)
from pipeline.protocols import Destination
from pipeline.provenance import DIGEST_METADATA_KEY, KEY_METADATA_KEY

NAMESPACE = "/docs/handbook/"
WRITTEN_AT = datetime(2024, 1, 1, tzinfo=UTC)
SAVED_AT = WRITTEN_AT.timestamp()
ABSENT = MemoryRecordId("mem-00000000-0000-0000-0000-00000000dead")


class DestinationWorld(Protocol):
    """A destination with an empty memory behind it, which a test can look into and set faults on.

    The faults of `…_next` strike one request, in the order in which they were asked for.
    """

    @property
    def destination(self) -> Destination: ...

    def without_memory(self) -> Destination:
        """Return a destination that is set to a memory which does not exist."""
        ...

    def stored(self) -> Mapping[MemoryRecordId, str]:
        """The texts that the memory holds, by id, in the order of their creation."""
        ...

    def throttle_next(self, retry_after_s: float) -> None: ...

    def fail_next(self, *, is_written: bool) -> None:
        """Answer with a fault of the service, before or after the request was carried out."""
        ...

    def lose_next_reply(self) -> None:
        """Carry the request out and close the connection."""
        ...

    def omit_from_next_answer(self) -> None:
        """Carry the request out and leave its last record out of the answer."""
        ...

    def reject(self, text_fragment: str, code: int) -> None:
        """From now on, let every record with this text fail alone."""
        ...

    def refuse_batches_with(self, text_fragment: str, *, named: bool) -> None:
        """From now on, refuse every request that has a record with this text, and say which if `named`."""
        ...


def record(text: str, /, **members: Any) -> Record:
    """A record of a few words, named after them."""
    name = re.sub(r"\W", "-", text, flags=re.ASCII)[:40]
    key, digest = members.get("key", RecordKey(f"key-of-{name}")), members.get("digest", f"digest-of-{name}")
    made = Record(
        key=key,
        document=DocumentId("guide/setup.md"),
        namespace=NAMESPACE,
        text=text,
        timestamp=WRITTEN_AT,
        metadata={KEY_METADATA_KEY: key, DIGEST_METADATA_KEY: digest, ORDER_METADATA_KEY: 1.0},
        digest=digest,
        order=1.0,
    )
    return made._replace(**members)


def known(stored: Record, memory_record_id: MemoryRecordId) -> KnownRecord:
    """What the ledger would say of `stored`."""
    return KnownRecord(stored.key, stored.document, stored.namespace, stored.digest, stored.order, memory_record_id)


def batch_of(
    destination: Destination, changes: Iterable[Change], token: str = "token-1", expiry_days: int | None = None
) -> Batch:
    """`changes` as the one batch that the pipeline would make of them."""
    batcher = Batcher(destination, lambda: ClientToken(token), now=lambda: SAVED_AT, expiry_days=expiry_days)
    full = batcher.add(DocumentPlan(None, tuple(changes)))
    (batch,) = [*full, *batcher.flush()]
    return batch


def creates(destination: Destination, *texts: str, token: str = "token-1") -> Batch:
    return batch_of(destination, [Create(record(text)) for text in texts], token)


async def store(destination: Destination, *records: Record, token: str = "token-of-arrangement") -> list[KnownRecord]:
    """Store `records` and return what the ledger would know of them."""
    result = await destination.write(batch_of(destination, map(Create, records), token))
    return [known(stored, result.succeeded[stored.key]) for stored in records]


async def days_left(destination: Destination, memory_record_id: MemoryRecordId) -> int | None:
    """After how many days a record that was written now lapses."""
    written = await destination.get(memory_record_id)
    assert written is not None
    if written.expires_at is None:
        return None
    return round((written.expires_at - max(written.created_at, WRITTEN_AT)).total_seconds() / 86_400)


async def ids_found(destination: Destination, entries: Sequence[Entry]) -> dict[RecordKey, MemoryRecordId]:
    found = await destination.find(entries, saved_after=SAVED_AT)
    return {key: record.memory_record_id for key, record in found.items()}


class DestinationContract:
    """A subclass provides the fixture `world`, with an empty memory."""

    # ------------------------------------------------------------------------------------------- creates

    async def test_creates_are_stored_once_and_answered_by_key(self, world: DestinationWorld) -> None:
        """The ledger knows a record by its key; the id in the memory comes from the answer alone."""
        batch = creates(world.destination, "first", "second")

        result = await world.destination.write(batch)

        assert (result.failed, result.unknown) == ([], frozenset())
        assert {key: world.stored()[stored_as] for key, stored_as in result.succeeded.items()} == {
            "key-of-first": "first",
            "key-of-second": "second",
        }
        assert len(world.stored()) == 2

    async def test_repeating_a_batch_with_its_token_stores_nothing_twice(self, world: DestinationWorld) -> None:
        """After a lost reply the very same request is sent again; a second copy would never be deleted."""
        batch = creates(world.destination, "first", "second")
        first = await world.destination.write(batch)

        again = await world.destination.write(batch)

        assert again == first
        assert list(world.stored().values()) == ["first", "second"]

    async def test_the_same_records_under_a_new_token_are_stored_anew(self, world: DestinationWorld) -> None:
        """A token names one delivery: a record that was deleted and comes back must not be swallowed."""
        await world.destination.write(creates(world.destination, "first", token="token-1"))

        await world.destination.write(creates(world.destination, "first", token="token-2"))

        assert list(world.stored().values()) == ["first", "first"]

    async def test_a_token_with_other_bytes_stops_the_run(self, world: DestinationWorld) -> None:
        """That is a fault of ours: resending would hide it, splitting the batch would spread it."""
        await world.destination.write(creates(world.destination, "first"))

        with pytest.raises(FatalError):
            await world.destination.write(creates(world.destination, "second"))

        assert list(world.stored().values()) == ["first"]

    async def test_a_full_batch_of_the_largest_records_is_taken(self, world: DestinationWorld) -> None:
        """The batcher fills requests up to what the destination declares, and not one of them may bounce."""
        count = world.destination.records_per_batch_max
        longest = [f"{number} ".ljust(15_800, "x") for number in range(count)]
        batch = batch_of(
            world.destination,
            [Create(record(text, key=RecordKey(f"key-{number}"))) for number, text in enumerate(longest)],
        )

        result = await world.destination.write(batch)

        assert len(batch.body) <= world.destination.request_bytes_max
        assert len(result.succeeded) == count
        assert list(world.stored().values()) == longest

    async def test_text_of_every_script_arrives_as_it_is(self, world: DestinationWorld) -> None:
        """What is sent are our own bytes, so it is our own encoding that must be right."""
        texts = ['"quoted" \\ and\n\ttabbed', "naïve café", "日本語のテキスト", "🧭 and \u2028 and \x00"]

        await world.destination.write(creates(world.destination, *texts))

        assert list(world.stored().values()) == texts

    async def test_a_record_without_metadata_is_stored(self, world: DestinationWorld) -> None:
        """Services that demand at least one entry must not be sent an empty map."""
        bare = record("first")._replace(metadata={})

        result = await world.destination.write(batch_of(world.destination, [Create(bare)]))

        assert list(result.succeeded) == [bare.key]

    async def test_batches_sent_side_by_side_are_answered_each_for_itself(self, world: DestinationWorld) -> None:
        """Several writers share one destination."""
        batches = [creates(world.destination, f"text {number}", token=f"token-{number}") for number in range(8)]
        answered: dict[RecordKey, MemoryRecordId] = {}

        async def write(batch: Batch) -> None:
            answered.update((await world.destination.write(batch)).succeeded)

        async with anyio.create_task_group() as writers:
            for batch in batches:
                writers.start_soon(write, batch)

        stored = world.stored()
        assert {key: stored[stored_as] for key, stored_as in answered.items()} == {
            f"key-of-text-{number}": f"text {number}" for number in range(8)
        }

    # --------------------------------------------------------------------------------- updates and deletes

    async def test_an_update_changes_the_text_and_keeps_the_id(self, world: DestinationWorld) -> None:
        """No document is ever absent because it changed."""
        first, second = await store(world.destination, record("first"), record("second"))
        batch = batch_of(world.destination, [Update(first, record("edited"))])

        result = await world.destination.write(batch)

        assert result.succeeded == {"key-of-edited": first.memory_record_id}
        assert world.stored() == {first.memory_record_id: "edited", second.memory_record_id: "second"}

    async def test_an_update_can_move_a_record_to_another_namespace(self, world: DestinationWorld) -> None:
        """A changed template of the namespace must not leave records behind in the old one."""
        (first,) = await store(world.destination, record("first"))
        moved = record("first", namespace="/docs/manual/")

        result = await world.destination.write(batch_of(world.destination, [Update(first, moved)]))

        (entry,) = batch_of(world.destination, [Create(moved)]).entries
        assert result.succeeded == {moved.key: first.memory_record_id}
        assert await ids_found(world.destination, [entry]) == {moved.key: first.memory_record_id}

    async def test_repeating_an_update_changes_nothing(self, world: DestinationWorld) -> None:
        """Updates have no token; they are safe to repeat by their nature."""
        (first,) = await store(world.destination, record("first"))
        batch = batch_of(world.destination, [Update(first, record("edited"))])
        once = await world.destination.write(batch)

        twice = await world.destination.write(batch)

        assert twice == once
        assert world.stored() == {first.memory_record_id: "edited"}

    async def test_records_lapse_after_the_days_that_the_last_request_said(self, world: DestinationWorld) -> None:
        """Each write begins their time anew; they are told to stay by an update that says so, and not by silence."""
        destination = world.destination
        created = await destination.write(batch_of(destination, [Create(record("first"))], expiry_days=31))
        (first_id,) = created.succeeded.values()
        (first,) = [known(record("first"), first_id)._replace(expiry_days=31)]
        (other,) = await store(destination, record("other"))
        days = [await days_left(destination, each.memory_record_id) for each in (first, other)]

        await destination.write(batch_of(destination, [Update(first, record("first"))], expiry_days=90))
        days.append(await days_left(destination, first_id))
        silent = batch_of(destination, [Update(first._replace(expiry_days=None), record("first"))])
        await destination.write(silent)
        days.append(await days_left(destination, first_id))
        await destination.write(batch_of(destination, [Update(first, record("first"))]))
        days.append(await days_left(destination, first_id))

        assert days == [31, None, 90, 90, None]

    async def test_an_update_of_an_absent_record_fails_as_not_found(self, world: DestinationWorld) -> None:
        """It must not come into being by an update; it may be too young to be seen, so waiting may help."""
        batch = batch_of(world.destination, [Update(known(record("first"), ABSENT), record("edited"))])

        result = await world.destination.write(batch)

        (failure,) = result.failed
        assert (failure.key, failure.code, failure.is_retryable) == ("key-of-edited", "404", True)
        assert (result.succeeded, world.stored()) == ({}, {})

    async def test_a_delete_removes_what_it_names_and_nothing_else(self, world: DestinationWorld) -> None:
        """The neighbours of a deleted record belong to documents that are still there."""
        first, second = await store(world.destination, record("first"), record("second"))

        result = await world.destination.write(batch_of(world.destination, [Delete(first)]))

        assert result.succeeded == {first.key: first.memory_record_id}
        assert world.stored() == {second.memory_record_id: "second"}

    async def test_deleting_an_absent_record_succeeds(self, world: DestinationWorld) -> None:
        """It is gone, which is all that was asked; so a lost reply to a delete heals by repeating it."""
        (first,) = await store(world.destination, record("first"))
        batch = batch_of(world.destination, [Delete(first), Delete(known(record("second"), ABSENT))])

        once = await world.destination.write(batch)
        twice = await world.destination.write(batch)

        assert set(once.succeeded) == {"key-of-first", "key-of-second"}
        assert twice == once
        assert world.stored() == {}

    # --------------------------------------------------------------------------------- failures of records

    async def test_a_failed_record_is_told_from_those_that_succeeded(self, world: DestinationWorld) -> None:
        """One bad record is one dead letter; the other 99 are stored."""
        world.reject("bad", 400)

        result = await world.destination.write(creates(world.destination, "first", "bad", "third"))

        (failure,) = result.failed
        assert (failure.key, failure.code, failure.is_retryable) == ("key-of-bad", "400", False)
        assert set(result.succeeded) == {"key-of-first", "key-of-third"}
        assert result.unknown == frozenset()
        assert list(world.stored().values()) == ["first", "third"]

    async def test_a_record_may_fail_in_a_way_that_heals(self, world: DestinationWorld) -> None:
        """A throttled record is sent again; a dead letter of it would wait for a person in vain."""
        codes = {"slow": 429, "broken": 503}
        for text, code in codes.items():
            world.reject(text, code)

            result = await world.destination.write(creates(world.destination, text, token=f"token-{code}"))

            (failure,) = result.failed
            assert (failure.code, failure.is_retryable) == (str(code), True)

    async def test_a_failed_update_leaves_the_record_as_it_was(self, world: DestinationWorld) -> None:
        """What the memory holds is still the newest version that it took."""
        (first,) = await store(world.destination, record("first"))
        world.reject("bad", 400)

        result = await world.destination.write(batch_of(world.destination, [Update(first, record("bad"))]))

        assert [failure.key for failure in result.failed] == ["key-of-bad"]
        assert world.stored() == {first.memory_record_id: "first"}

    async def test_a_record_that_the_answer_leaves_out_is_unknown(self, world: DestinationWorld) -> None:
        """Neither success nor failure was said of it; taking it for stored would lose it."""
        batch = creates(world.destination, "first", "second")
        world.omit_from_next_answer()

        result = await world.destination.write(batch)
        again = await world.destination.write(batch)

        assert set(result.succeeded) == {"key-of-first"}
        assert result.unknown == {"key-of-second"}
        assert set(again.succeeded) == {"key-of-first", "key-of-second"}
        assert list(world.stored().values()) == ["first", "second"]

    # --------------------------------------------------------------------------------- failures of batches

    async def test_a_refused_batch_stores_nothing_and_names_its_culprit(self, world: DestinationWorld) -> None:
        """Named culprits spare the innocent the halving."""
        world.refuse_batches_with("poison", named=True)

        with pytest.raises(BatchRefused) as caught:
            await world.destination.write(creates(world.destination, "first", "poison", "third"))

        assert set(caught.value.culprits) == {1}
        assert world.stored() == {}

    async def test_a_refusal_may_name_nobody(self, world: DestinationWorld) -> None:
        """Then the batch is halved."""
        world.refuse_batches_with("poison", named=False)

        with pytest.raises(BatchRefused) as caught:
            await world.destination.write(creates(world.destination, "first", "poison"))

        assert caught.value.culprits == {}
        assert world.stored() == {}

    async def test_a_refused_batch_of_updates_changes_nothing(self, world: DestinationWorld) -> None:
        """Half a refused batch would leave the ledger wrong about both halves."""
        first, second = await store(world.destination, record("first"), record("second"))
        world.refuse_batches_with("poison", named=True)
        changes = [Update(first, record("edited")), Update(second, record("poison"))]

        with pytest.raises(BatchRefused):
            await world.destination.write(batch_of(world.destination, changes))

        assert list(world.stored().values()) == ["first", "second"]

    async def test_a_record_over_a_limit_costs_its_whole_batch(self, world: DestinationWorld) -> None:
        """Which is why the pipeline asks `check` before a record joins a batch."""
        too_long = Create(record("too long", text="x" * 16_001))
        batch = batch_of(world.destination, [Create(record("first")), too_long])

        with pytest.raises(BatchRefused) as caught:
            await world.destination.write(batch)

        assert set(caught.value.culprits) <= {1}
        assert world.stored() == {}

    async def test_throttling_is_retryable_and_passes_on_how_long_to_wait(self, world: DestinationWorld) -> None:
        """The pacer slows down for a throttle, not for a fault, and for as long as the service asks."""
        batch = creates(world.destination, "first")
        world.throttle_next(retry_after_s=7)

        with pytest.raises(RetryableError) as caught:
            await world.destination.write(batch)

        assert (caught.value.is_throttle, caught.value.retry_after_s) == (True, 7)
        assert world.stored() == {}
        assert set((await world.destination.write(batch)).succeeded) == {"key-of-first"}

    async def test_a_fault_before_the_write_is_retryable(self, world: DestinationWorld) -> None:
        """It cannot be told from one after the write, so both are answered alike."""
        batch = creates(world.destination, "first")
        world.fail_next(is_written=False)

        with pytest.raises(RetryableError) as caught:
            await world.destination.write(batch)

        assert not caught.value.is_throttle
        assert world.stored() == {}
        assert set((await world.destination.write(batch)).succeeded) == {"key-of-first"}

    async def test_a_fault_after_the_write_is_retryable_and_repeating_duplicates_nothing(
        self, world: DestinationWorld
    ) -> None:
        """The write happened and the answer says that it did not."""
        batch = creates(world.destination, "first", "second")
        world.fail_next(is_written=True)

        with pytest.raises(RetryableError) as caught:
            await world.destination.write(batch)
        result = await world.destination.write(batch)

        assert not caught.value.is_throttle
        assert set(result.succeeded.values()) == set(world.stored())
        assert list(world.stored().values()) == ["first", "second"]

    async def test_a_lost_reply_is_retryable_and_repeating_duplicates_nothing(self, world: DestinationWorld) -> None:
        """The commonest way to a duplicate."""
        batch = creates(world.destination, "first", "second")
        world.lose_next_reply()

        with pytest.raises(RetryableError) as caught:
            await world.destination.write(batch)
        result = await world.destination.write(batch)

        assert not caught.value.is_throttle
        assert set(result.succeeded.values()) == set(world.stored())
        assert list(world.stored().values()) == ["first", "second"]

    async def test_a_lost_reply_to_a_delete_heals_by_repeating(self, world: DestinationWorld) -> None:
        """The second time, the record is absent, and that is success."""
        (first,) = await store(world.destination, record("first"))
        batch = batch_of(world.destination, [Delete(first)])
        world.lose_next_reply()

        with pytest.raises(RetryableError):
            await world.destination.write(batch)
        result = await world.destination.write(batch)

        assert result.succeeded == {first.key: first.memory_record_id}
        assert world.stored() == {}

    async def test_an_unknown_memory_stops_the_run(self, world: DestinationWorld) -> None:
        """No retry heals a wrong id, and none of the records is to blame."""
        destination = world.without_memory()
        batch = creates(destination, "first")

        with pytest.raises(FatalError) as writing:
            await destination.write(batch)
        with pytest.raises(FatalError):
            await destination.find(batch.entries, saved_after=SAVED_AT)

        assert writing.value.code == "ResourceNotFoundException"
        assert world.stored() == {}

    # ----------------------------------------------------------------------------------- bytes and look-ups

    async def test_the_members_of_a_batch_are_what_was_encoded(self, world: DestinationWorld) -> None:
        """A batch that is cut again is put together from them, and a dead letter holds one."""
        stored = known(record("first"), ABSENT)
        moved = record("日本語", namespace="/docs/manual/", key=RecordKey("key-1"))
        for changes in (
            [Create(record("first")), Create(moved)],
            [Update(stored, record("edited")), Update(known(record("second"), ABSENT), moved)],
            [Delete(stored), Delete(known(record("second"), ABSENT))],
        ):
            batch = batch_of(world.destination, changes)

            assert list(world.destination.members(batch)) == [world.destination.encode(change) for change in changes]

    async def test_what_was_encoded_can_be_read_for_a_person(self, world: DestinationWorld) -> None:
        """A dead letter holds a record as it was to be sent; whoever mends it begins with that."""
        metadata = {"team": "support", "weight": 0.5, "tags": ("a", "b"), KEY_METADATA_KEY: "key"}
        there = record("the text, 日本語", metadata=metadata)
        for change in (Create(there), Update(known(record("another one"), ABSENT), there)):
            content = world.destination.content_of(world.destination.encode(change))

            assert content == (there.text, metadata)

    async def test_encoding_twice_gives_the_same_bytes(self, world: DestinationWorld) -> None:
        """The same token always goes with the same bytes."""
        first, second = creates(world.destination, "first"), creates(world.destination, "first")

        assert first.body == second.body

    async def test_check_lets_a_sound_change_pass(self, world: DestinationWorld) -> None:
        """A false alarm would make a dead letter of a good record."""
        stored = known(record("first"), ABSENT)
        listed = record("tags", metadata={"tags": ("a", "b"), "weight": 0.5, "team": "support"})
        changes: list[Change] = [
            Create(record("first")),
            Create(listed),
            Update(stored, record("edited")),
            Delete(stored),
        ]

        problems = [world.destination.check(change) for change in changes]

        assert problems == [None, None, None, None]

    async def test_check_finds_every_broken_limit_and_names_it(self, world: DestinationWorld) -> None:
        """A broken limit that is not found here costs its whole batch a round of narrowing."""
        sound = record("sound")
        broken: dict[str, Record] = {
            "requestIdentifier": sound._replace(key=RecordKey("a key with spaces")),
            "namespaces": sound._replace(namespace="/docs/ä/"),
            "content.text has 0": sound._replace(text=""),
            "content.text has 16001": sound._replace(text="x" * 16_001),
            "bytes in UTF-8": sound._replace(text="語" * 6_000),
            "surrogate": sound._replace(text="\ud800"),
            "memoryStrategyId": sound._replace(strategy_id="no strategy"),
            "metadata has 21": sound._replace(metadata={f"name-{number}": "value" for number in range(21)}),
            "metadata 'a,b'": sound._replace(metadata={"a,b": "value"}),
            "metadata 'empty'": sound._replace(metadata={"empty": ""}),
            "metadata 'title'": sound._replace(metadata={"title": "what? & why"}),
            "metadata 'long'": sound._replace(metadata={"long": "x" * 257}),
            "metadata 'tags' is a list of 6": sound._replace(metadata={"tags": tuple("abcdef")}),
            "metadata 'tags' is a list of 0": sound._replace(metadata={"tags": ()}),
            "metadata 'tags' has 65": sound._replace(metadata={"tags": ("x" * 65,)}),
        }

        problems = {name: world.destination.check(Create(change)) for name, change in broken.items()}
        of_update = world.destination.check(Update(known(sound, ABSENT), broken["content.text has 0"]))
        of_id = world.destination.check(Delete(known(sound, MemoryRecordId("no-id"))))

        for name, problem in problems.items():
            assert problem is not None, name
            assert name in problem
        assert of_update is not None
        assert of_id is not None

    async def test_check_does_not_repeat_what_it_complains_of(self, world: DestinationWorld) -> None:
        """Its words go to logs and reports, where no text of a document may stand."""
        texts = {"text": "secret" * 3_000, "metadata": {"title": "secret?"}}

        problems = [world.destination.check(Create(record("a", **{name: value}))) for name, value in texts.items()]

        assert all(problem and "secret" not in problem for problem in problems)

    async def test_find_gives_the_ids_of_what_the_memory_holds(self, world: DestinationWorld) -> None:
        """When a token is too old to be trusted, this is what tells a lost reply from a lost request."""
        elsewhere = record("elsewhere", namespace="/docs/manual/")
        stored = await store(world.destination, record("first"), elsewhere, record("unasked"))
        sought = batch_of(world.destination, map(Create, [record("first"), elsewhere, record("missing")]))

        found = await ids_found(world.destination, sought.entries)

        assert found == {known.key: known.memory_record_id for known in stored[:2]}

    async def test_find_tells_which_version_of_a_record_is_there(self, world: DestinationWorld) -> None:
        """Another text under the key is taken over as what it is, and then updated; a second record is never made."""
        await store(world.destination, record("old text", key=RecordKey("key-1")))
        sought = batch_of(world.destination, [Create(record("new text", key=RecordKey("key-1")))])

        (found,) = (await world.destination.find(sought.entries, saved_after=SAVED_AT)).values()

        assert found.digest == record("old text").digest

    async def test_find_sees_through_hundreds_of_neighbours(self, world: DestinationWorld) -> None:
        """Look-ups are paged by some services; the wanted record may stand on the last page."""
        for number in range(3):
            texts = [f"text {number} {place}" for place in range(100)]
            await store(world.destination, *map(record, texts), token=f"token-{number}")
        sought = batch_of(world.destination, [Create(record("text 0 0")), Create(record("text 2 99"))])

        found = await ids_found(world.destination, sought.entries)

        assert {world.stored()[stored_as] for stored_as in found.values()} == {"text 0 0", "text 2 99"}

    async def test_finding_nothing_needs_no_entries(self, world: DestinationWorld) -> None:
        """Nothing asked, nothing found."""
        assert await ids_found(world.destination, []) == {}

    async def test_a_record_is_asked_for_by_its_id(self, world: DestinationWorld) -> None:
        """A listing lags behind by up to a minute; asking by id does not."""
        (stored,) = await store(world.destination, record("first"))

        found = await world.destination.get(stored.memory_record_id)

        assert found is not None
        assert (found.id, found.text, found.namespace) == (stored.memory_record_id, "first", NAMESPACE)
        assert found.metadata[KEY_METADATA_KEY] == stored.key
        assert await world.destination.get(ABSENT) is None

    async def test_a_listing_shows_everything_below_a_path_once(self, world: DestinationWorld) -> None:
        """The ledger is compared with it; a record that it leaves out would be taken for lost."""
        records = [record(f"text {number}", namespace=f"/docs/{number % 2}/") for number in range(100)]
        await store(world.destination, *records)
        await store(world.destination, record("elsewhere", namespace="/other/"), token="token-2")

        shown = [each.text async for page in world.destination.list_records(namespace_path="/docs/") for each in page]

        assert sorted(shown) == sorted(each.text for each in records)

    async def test_what_was_to_be_updated_and_is_lost_can_be_created(self, world: DestinationWorld) -> None:
        """Somebody deleted the record; what the update would have made of it is stored under a new id."""
        lost = known(record("first"), ABSENT)
        update = batch_of(world.destination, [Update(lost, record("edited", namespace="/docs/manual/"))])
        (entry,), (member,) = update.entries, world.destination.members(update)

        body = world.destination.encode_request(
            Operation.CREATE, [world.destination.encode_lost(entry, member)], ClientToken("token-2")
        )
        created = Batch(ClientToken("token-2"), Operation.CREATE, (entry,), body, SAVED_AT)
        result = await world.destination.write(created)

        assert list(result.succeeded) == [entry.key]
        assert list(world.stored().values()) == ["edited"]
