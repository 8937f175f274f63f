"""What an answer means for each record of a batch."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batcher import Batcher
from pipeline.errors import BatchRefused
from pipeline.letters import record_letter_id
from pipeline.model import (
    Batch,
    BatchResult,
    DeadLetter,
    DocumentPlan,
    FailedRecord,
    KnownRecord,
    MemoryRecordId,
    Operation,
    RecordKey,
    Settlement,
)
from pipeline.settling import MESSAGE_CHARACTERS_MAX, NOT_FOUND, Settler
from tests.pipeline.examples import change, memory, memory_id_of, tokens

ATTEMPTS_MAX = 3
SAVED_AT, NOW = 1000.0, 2000.0

MEMORY = memory()
next_token = tokens()


@pytest.fixture(scope="module")
def settler() -> Settler:
    return Settler("handbook", "run-1", MEMORY, ATTEMPTS_MAX, next_token, lambda: NOW)


def batch_of(count: int, operation: Operation = Operation.CREATE) -> Batch:
    batcher = Batcher(MEMORY, next_token, lambda: SAVED_AT)
    changes = tuple(change(operation, f"key{number}", text=f"text {number}") for number in range(count))
    (batch,) = [*batcher.add(DocumentPlan(None, changes)), *batcher.flush()]
    return batch


def members_of(batch: Batch) -> dict[RecordKey, bytes]:
    return dict(zip((entry.key for entry in batch.entries), MEMORY.members(batch), strict=True))


def failure(key: RecordKey, code: str, *, is_retryable: bool) -> FailedRecord:
    return FailedRecord(key, code, "it said no", is_retryable)


def classes_of(settlement: Settlement) -> dict[str, list[RecordKey | None]]:
    return {
        "stored": [entry.key for entry, _ in settlement.stored],
        "deleted": [entry.key for entry in settlement.deleted],
        "letters": [letter.key for letter in settlement.letters],
        "again": [entry.key for batch in settlement.follow_ups for entry in batch.entries],
    }


# ------------------------------------------------------------------------------------------------------ answers


@dataclass(frozen=True)
class Answered:
    batch: Batch
    result: BatchResult


@st.composite
def answers(draw: st.DrawFn) -> Answered:
    """Any batch, of which some records failed before, with any answer that leaves nothing unknown."""
    batch = batch_of(draw(st.integers(1, 12)), draw(st.sampled_from(Operation)))
    attempts = draw(st.lists(st.integers(0, ATTEMPTS_MAX), min_size=len(batch.entries), max_size=len(batch.entries)))
    entries = [entry._replace(attempts=count) for entry, count in zip(batch.entries, attempts, strict=True)]
    succeeded: dict[RecordKey, MemoryRecordId] = {}
    failed: list[FailedRecord] = []
    for entry in draw(st.permutations(entries)):
        code = draw(st.sampled_from(["ok", "400", "404", "429", "500"]))
        if code == "ok":
            succeeded[entry.key] = memory_id_of(entry.key)
        else:
            is_retryable = draw(st.booleans()) if code == NOT_FOUND else code in {"429", "500"}
            is_throttle = code == "429" and draw(st.booleans())  # not any more, once it has gone on for too long
            failed.append(replace(failure(entry.key, code, is_retryable=is_retryable), is_throttle=is_throttle))
    return Answered(replace(batch, entries=tuple(entries)), BatchResult(succeeded, failed))


@given(answer=answers())
def test_every_entry_ends_in_exactly_one_class(settler: Settler, answer: Answered) -> None:
    """Whatever is in none is lost, whatever is in two is written twice."""
    settlement = settler.answered(answer.batch, answer.result)

    counted = Counter(key for keys in classes_of(settlement).values() for key in keys)
    assert counted == Counter(entry.key for entry in answer.batch.entries)
    assert settlement.batch is answer.batch


@given(answer=answers())
def test_each_answer_has_its_consequence(settler: Settler, answer: Answered) -> None:
    """Stored if it succeeded, sent again if that may help, else a dead letter; a throttle is no attempt that failed."""
    is_delete = answer.batch.operation is Operation.DELETE
    attempts = {entry.key: entry.attempts + 1 for entry in answer.batch.entries}
    again = [
        one.key
        for one in answer.result.failed
        if one.is_throttle or (one.is_retryable and attempts[one.key] < ATTEMPTS_MAX)
    ]
    given_up = [one.key for one in answer.result.failed if one.key not in again]

    classes = classes_of(settler.answered(answer.batch, answer.result))

    assert classes == {
        "stored": [] if is_delete else list(answer.result.succeeded),
        "deleted": list(answer.result.succeeded) if is_delete else [],
        "letters": given_up,
        "again": again,
    }


@given(answer=answers())
def test_what_is_stored_has_the_id_that_the_memory_gave_it(settler: Settler, answer: Answered) -> None:
    """A wrong id would update or delete somebody else's record."""
    settlement = settler.answered(answer.batch, answer.result)

    assert all(answer.result.succeeded[entry.key] == record_id for entry, record_id in settlement.stored)


@given(answer=answers())
def test_a_follow_up_has_a_new_token_and_the_same_records(settler: Settler, answer: Answered) -> None:
    """The service would refuse the old token with other bytes, and other records are not what was planned."""
    settlement = settler.answered(answer.batch, answer.result)

    for follow_up in settlement.follow_ups:
        before = {entry.key: entry for entry in answer.batch.entries}
        throttled = {one.key for one in answer.result.failed if one.is_throttle}
        assert follow_up.client_token != answer.batch.client_token
        assert follow_up.operation is answer.batch.operation
        assert follow_up.saved_at == NOW, "its token is only as old as it is"
        assert members_of(follow_up).items() <= members_of(answer.batch).items()
        for entry in follow_up.entries:
            attempts = before[entry.key].attempts + (entry.key not in throttled)
            assert entry == before[entry.key]._replace(attempts=attempts)


@given(answer=answers())
def test_a_letter_holds_all_that_is_needed_to_send_it_again(settler: Settler, answer: Answered) -> None:
    """Whoever reads it has nothing else."""
    entries = {entry.key: entry for entry in answer.batch.entries}
    codes = {one.key: one.code for one in answer.result.failed}

    for letter in settler.answered(answer.batch, answer.result).letters:
        assert letter.key is not None
        entry = entries[letter.key]
        assert letter.id == record_letter_id(entry.key, entry.digest)
        assert letter.record == members_of(answer.batch)[entry.key]
        assert (letter.source, letter.document_id, letter.run_id) == ("handbook", entry.document, "run-1")
        assert (letter.stage, letter.code) == ("write", codes[entry.key])
        assert (letter.operation, letter.digest) == (answer.batch.operation, entry.digest)
        assert letter.client_token == answer.batch.client_token
        assert letter.attempts == entry.attempts + 1
        assert letter.first_failed_at == letter.last_failed_at == NOW


def test_a_failure_that_may_heal_is_given_up_on_after_its_last_attempt(settler: Settler) -> None:
    """A record that always fails must not keep a run alive for ever."""
    batch = batch_of(1)
    calls = 0
    letters: list[DeadLetter] = []

    waiting = [batch]
    while waiting:
        batch = waiting.pop()
        calls += 1
        result = BatchResult({}, [failure(entry.key, "500", is_retryable=True) for entry in batch.entries])
        settlement = settler.answered(batch, result)
        letters += settlement.letters
        waiting += settlement.follow_ups

    (letter,) = letters
    assert calls == ATTEMPTS_MAX
    assert letter.attempts == ATTEMPTS_MAX


def test_an_update_of_what_is_lost_becomes_a_create(settler: Settler) -> None:
    """Somebody else deleted it: the ledger lets go of its id, and what the document says is stored anew."""
    batch = batch_of(3, Operation.UPDATE)
    lost, young, stored = batch.entries
    failed = [failure(entry.key, NOT_FOUND, is_retryable=True) for entry in (lost, young)]
    result = BatchResult({stored.key: memory_id_of(stored.key)}, failed)

    settlement = settler.answered(batch, result, {lost.key})

    assert [entry.key for entry in settlement.lost] == [lost.key]
    assert {follow_up.operation: [entry.key for entry in follow_up.entries] for follow_up in settlement.follow_ups} == {
        Operation.UPDATE: [young.key],
        Operation.CREATE: [lost.key],
    }
    assert not settlement.letters


def test_a_letter_s_message_is_bounded(settler: Settler) -> None:
    """It is the service's own, and may be of any length."""
    batch = batch_of(1)
    long = FailedRecord(batch.entries[0].key, "400", "x" * 10_000, is_retryable=False)

    (letter,) = settler.answered(batch, BatchResult({}, [long])).letters

    assert len(letter.message) == MESSAGE_CHARACTERS_MAX


# ----------------------------------------------------------------------------------------------------- adoption


@given(found=st.sets(st.integers(0, 9)))
def test_what_the_memory_holds_is_adopted_and_the_rest_is_sent_anew(settler: Settler, found: set[int]) -> None:
    """After a crash, sending all again would create the first ones twice."""
    batch = batch_of(10)
    entries = {entry.key: entry for entry in batch.entries}
    held = {
        key: KnownRecord(key, entry.document, entry.namespace, entry.digest, entry.order, memory_id_of(key))
        for key, entry in entries.items()
        if int(key.removeprefix("key")) in found
    }

    settlement = settler.adopted(batch, held)

    assert {entry.key: record_id for entry, record_id in settlement.stored} == {
        key: known.memory_record_id for key, known in held.items()
    }
    assert len(settlement.follow_ups) == (len(found) < 10)
    for follow_up in settlement.follow_ups:
        assert follow_up.client_token != batch.client_token
        assert {entry.key for entry in follow_up.entries} == {entry.key for entry in batch.entries} - held.keys()
        assert members_of(follow_up).items() <= members_of(batch).items()
        assert all(entry.attempts == 0 for entry in follow_up.entries), "a lost answer is no failure"


# ---------------------------------------------------------------------------------------------------- refusals


def refusal(culprits: Mapping[int, str] | None = None) -> BatchRefused:
    return BatchRefused("it was refused", code="ValidationException", culprits=culprits)


@given(count=st.integers(2, 100), named=st.sets(st.integers(-1, 120)))
def test_narrowing_keeps_every_entry_and_always_gets_further(settler: Settler, count: int, named: set[int]) -> None:
    """Whatever the service names, rightly or not, nothing is given up on before it was refused alone."""
    batch = batch_of(count)

    settlement = settler.refused(batch, refusal(dict.fromkeys(named, "bad")))

    parts = [[entry.key for entry in part.entries] for part in settlement.follow_ups]
    assert Counter(key for part in parts for key in part) == Counter(entry.key for entry in batch.entries)
    assert all(len(part) < count for part in parts)
    assert not settlement.letters
    assert len({batch.client_token, *(part.client_token for part in settlement.follow_ups)}) == len(parts) + 1


def test_a_record_that_is_refused_alone_becomes_a_dead_letter(settler: Settler) -> None:
    """It is the culprit, beyond doubt."""
    settlement = settler.refused(batch_of(1), refusal({0: "bad"}))

    (letter,) = settlement.letters
    assert letter.code == "ValidationException"
    assert letter.attempts == 1
    assert not settlement.follow_ups


@dataclass(frozen=True)
class Narrowed:
    delivered: Counter[RecordKey]
    given_up: list[RecordKey | None]
    calls: int


Naming = Callable[[Batch, Collection[RecordKey]], Mapping[int, str]]


def names_none(batch: Batch, culprits: Collection[RecordKey]) -> Mapping[int, str]:
    return {}


def names_culprits(batch: Batch, culprits: Collection[RecordKey]) -> Mapping[int, str]:
    return {index: "bad" for index, entry in enumerate(batch.entries) if entry.key in culprits}


def names_neighbours(batch: Batch, culprits: Collection[RecordKey]) -> Mapping[int, str]:
    """As a service would that counts from one."""
    return {index + 1: "bad" for index in names_culprits(batch, culprits)}


def deliver(settler: Settler, positions: Collection[int], naming: Naming) -> Narrowed:
    """Send 100 records, of which those at `positions` get any request refused, until all is settled."""
    culprits = {RecordKey(f"key{position}") for position in positions}
    delivered: Counter[RecordKey] = Counter()
    given_up: list[RecordKey | None] = []
    calls = 0
    waiting = [batch_of(100)]
    while waiting:
        batch = waiting.pop()
        calls += 1
        if any(entry.key in culprits for entry in batch.entries):
            settlement = settler.refused(batch, refusal(naming(batch, culprits)))
        else:
            succeeded = {entry.key: memory_id_of(entry.key) for entry in batch.entries}
            settlement = settler.answered(batch, BatchResult(succeeded))
        delivered.update(entry.key for entry, _ in settlement.stored)
        given_up += [letter.key for letter in settlement.letters]
        waiting += settlement.follow_ups
    return Narrowed(delivered, given_up, calls)


def assert_only_culprits_were_given_up(narrowed: Narrowed, positions: Collection[int]) -> None:
    good = set(range(100)) - set(positions)
    assert narrowed.delivered == Counter(RecordKey(f"key{position}") for position in good)
    assert Counter(narrowed.given_up) == Counter(RecordKey(f"key{position}") for position in positions)


each_count = pytest.mark.parametrize("culprits", range(1, 11))


@each_count
@given(data=st.data())
def test_halving_finds_the_culprits_in_few_calls(settler: Settler, culprits: int, data: st.DataObject) -> None:
    """Every call costs a share of the rate; one by one it would be a hundred."""
    positions = data.draw(st.sets(st.integers(0, 99), min_size=culprits, max_size=culprits))

    narrowed = deliver(settler, positions, names_none)

    assert_only_culprits_were_given_up(narrowed, positions)
    assert narrowed.calls <= 2 * culprits * math.ceil(math.log2(100 / culprits)) + 2 * culprits + 1


@each_count
def test_halving_stays_in_its_bound_where_the_culprits_stand_worst(settler: Settler, culprits: int) -> None:
    """Spread evenly, they share the fewest halves; chance rarely finds that."""
    positions = [round(index * 100 / culprits) for index in range(culprits)]

    narrowed = deliver(settler, positions, names_none)

    assert_only_culprits_were_given_up(narrowed, positions)
    assert narrowed.calls <= 2 * culprits * math.ceil(math.log2(100 / culprits)) + 2 * culprits + 1


@each_count
@given(data=st.data())
def test_culprits_that_the_service_names_cost_one_call_each(
    settler: Settler, culprits: int, data: st.DataObject
) -> None:
    """One call that is refused, one for the innocent, and one for each culprit to be sure of it."""
    positions = data.draw(st.sets(st.integers(0, 99), min_size=culprits, max_size=culprits))

    narrowed = deliver(settler, positions, names_culprits)

    assert_only_culprits_were_given_up(narrowed, positions)
    assert narrowed.calls <= 2 + culprits


@given(positions=st.sets(st.integers(0, 99), max_size=10))
def test_a_service_that_counts_otherwise_costs_calls_and_no_records(settler: Settler, positions: set[int]) -> None:
    """How it counts is not documented. Each refusal still splits the batch, so two calls a record are the most."""
    narrowed = deliver(settler, positions, names_neighbours)

    assert_only_culprits_were_given_up(narrowed, positions)
    assert narrowed.calls < 2 * 100
