"""The difference between what a document should be and what the memory holds of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.differ import Difference, difference
from pipeline.model import Create, KnownRecord, MemoryRecordId, Record, RecordKey, Update
from tests.pipeline.examples import known, memory_id_of, record

CHUNKS = "abcdefghijklmnop"
ANY_ORDER = st.floats(allow_nan=False, allow_infinity=False)
USUAL_ORDER = st.integers(-8, 40).map(lambda eighth: eighth / 8)


@st.composite
def desired_lists(draw: st.DrawFn) -> list[Record]:
    """The chunks of a new version, numbered as they are derived; its second version says something else."""
    keys = draw(st.lists(st.sampled_from(CHUNKS), unique=True))
    versions = draw(st.lists(st.sampled_from(["1", "2"]), min_size=len(keys), max_size=len(keys)))
    return [
        record(key, digest=f"{key}{version}", order=float(number))
        for number, (key, version) in enumerate(zip(keys, versions, strict=True), start=1)
    ]


@st.composite
def known_lists(draw: st.DrawFn) -> list[KnownRecord]:
    """What a ledger may hold, in any order and also with numbers that only a bug could have given."""
    keys = draw(st.lists(st.sampled_from(CHUNKS), unique=True))
    orders = draw(st.lists(st.one_of(USUAL_ORDER, ANY_ORDER), min_size=len(keys), max_size=len(keys)))
    return [known(key, digest=f"{key}1", order=order) for key, order in zip(keys, orders, strict=True)]


def desired(keys: str) -> list[Record]:
    return [record(key, digest=f"{key}1", order=float(number)) for number, key in enumerate(keys, start=1)]


def stored(keys: str) -> list[KnownRecord]:
    return applied([], difference(desired(keys), []))


def applied(before: Sequence[KnownRecord], found: Difference) -> list[KnownRecord]:
    """What the memory holds once all of `found` is done, in the order of its numbers."""
    by_key = {known_record.key: known_record for known_record in before}
    for change in found.changes:
        match change:
            case Create(new):
                assert new.key not in by_key, "a create of what is there would be a duplicate"
                memory_record_id = memory_id_of(f"new {new.key}")
            case Update(old, new):
                assert by_key.pop(old.key) == old, "an update needs a record that is there and not taken yet"
                memory_record_id = old.memory_record_id
        by_key[new.key] = known_from(new, memory_record_id)
    for key in found.obsolete:
        del by_key[key]
    return sorted(by_key.values(), key=lambda known_record: known_record.order)


def known_from(new: Record, memory_record_id: MemoryRecordId) -> KnownRecord:
    return KnownRecord(new.key, new.document, new.namespace, new.digest, new.order, memory_record_id)


def keys_of(records: Sequence[KnownRecord | Record]) -> str:
    return "".join(one.key for one in records)


def longest_rising_run(numbers: Sequence[int]) -> int:
    """How many of `numbers` can stay where they are, found the slow and simple way."""
    lengths: list[int] = []
    for position, number in enumerate(numbers):
        lengths.append(1 + max((lengths[i] for i in range(position) if numbers[i] < number), default=0))
    return max(lengths, default=0)


# ----------------------------------------------------------------------------------- what holds of any two lists


@given(desired_lists(), known_lists())
def test_applying_the_changes_gives_exactly_what_is_desired(wanted: list[Record], before: list[KnownRecord]) -> None:
    """This is the whole promise: nothing missing, nothing twice, nothing left over, in the document's order."""
    after = applied(before, difference(wanted, before))

    assert [(one.key, one.digest) for one in after] == [(one.key, one.digest) for one in wanted]


@given(desired_lists(), known_lists())
def test_orders_strictly_rise(wanted: list[Record], before: list[KnownRecord]) -> None:
    """Two chunks of the same number could be read in either order."""
    after = applied(before, difference(wanted, before))

    orders = [one.order for one in after]
    assert orders == sorted(set(orders))


@given(desired_lists(), known_lists())
def test_a_second_difference_is_empty(wanted: list[Record], before: list[KnownRecord]) -> None:
    """A sync that never comes to rest would write, and cost, for ever."""
    after = applied(before, difference(wanted, before))

    again = difference(wanted, after)

    assert again == Difference(changes=(), unchanged=tuple(one.key for one in wanted), obsolete=())


@given(desired_lists(), known_lists())
def test_every_record_is_accounted_for_once(wanted: list[Record], before: list[KnownRecord]) -> None:
    """Reports add up only if each record is in exactly one class."""
    found = difference(wanted, before)

    changed = [change.record.key for change in found.changes]
    updated = [change.known.key for change in found.changes if isinstance(change, Update)]
    assert sorted([*changed, *found.unchanged]) == sorted(one.key for one in wanted)
    assert sorted([*updated, *found.unchanged, *found.obsolete]) == sorted(one.key for one in before)


@given(desired_lists(), known_lists(), st.randoms(use_true_random=False))
def test_the_order_in_which_the_ledger_lists_records_does_not_matter(
    wanted: list[Record], before: list[KnownRecord], shuffler: Random
) -> None:
    """A run and its preview must say the same."""
    distinct = list({one.order: one for one in before}.values())
    shuffled = list(distinct)
    shuffler.shuffle(shuffled)

    assert difference(wanted, shuffled) == difference(wanted, distinct)


@given(desired_lists(), known_lists())
def test_what_a_record_carries_of_its_place_agrees_with_its_place(
    wanted: list[Record], before: list[KnownRecord]
) -> None:
    """The memory is read by metadata; the ledger's number alone helps nobody."""
    found = difference(wanted, before)

    assert all(change.record.metadata["memsync-chunk"] == change.record.order for change in found.changes)


# ---------------------------------------------------------------------------------------------- what edits cost


@given(desired_lists())
def test_unchanged_chunks_cost_nothing(wanted: list[Record]) -> None:
    """A document may be touched every hour without a word of it changing."""
    before = applied([], difference(wanted, []))

    found = difference(wanted, before)

    assert not found.changes
    assert not found.obsolete


@pytest.mark.parametrize("position", range(5))
def test_an_insertion_is_one_create(position: int) -> None:
    """A new paragraph must not touch all behind it."""
    keys = "abcd"
    before = stored(keys)

    found = difference(desired(f"{keys[:position]}x{keys[position:]}"), before)

    (change,) = found.changes
    assert isinstance(change, Create)
    assert not found.obsolete


@pytest.mark.parametrize("position", range(4))
def test_a_removal_changes_no_other_record(position: int) -> None:
    """What is left keeps its number: numbers need not follow each other."""
    keys = "abcd"
    before = stored(keys)

    found = difference(desired(keys[:position] + keys[position + 1 :]), before)

    assert not found.changes
    assert found.obsolete == (RecordKey(keys[position]),)


@pytest.mark.parametrize("position", range(4))
def test_a_replaced_chunk_is_one_update_that_keeps_the_record_s_id(position: int) -> None:
    """Whoever stored the id of a record still finds the text that stands at its place."""
    keys = "abcd"
    before = stored(keys)

    found = difference(desired(f"{keys[:position]}x{keys[position + 1 :]}"), before)

    (change,) = found.changes
    assert isinstance(change, Update)
    assert change.known == before[position]
    assert change.record.key == "x"
    assert change.record.order == before[position].order
    assert applied(before, found)[position].memory_record_id == before[position].memory_record_id


def test_a_chunk_that_says_something_else_of_itself_is_one_update() -> None:
    """Metadata and namespace can change while the text, and with it the key, stays."""
    before = stored("abc")
    wanted = desired("abc")
    wanted[1] = record("b", digest="b2", order=2.0)

    found = difference(wanted, before)

    assert [type(change) for change in found.changes] == [Update]
    assert found.changes[0].record.key == "b"


def test_a_vanished_and_an_appeared_chunk_at_different_places_are_no_pair() -> None:
    """An id that moved across the document would point at unrelated text."""
    found = difference(desired("bcx"), stored("abc"))

    assert [type(change) for change in found.changes] == [Create]
    assert found.obsolete == (RecordKey("a"),)


def test_chunks_that_appear_together_take_what_vanished_in_the_order_of_the_text() -> None:
    """A section that was rewritten keeps as many ids as it can."""
    before = stored("abcd")

    found = difference(desired("axyzd"), before)

    pairs = [(change.known.key if isinstance(change, Update) else None, change.record.key) for change in found.changes]
    assert pairs == [("b", "x"), ("c", "y"), (None, "z")]


@given(st.permutations(range(12)))
def test_moved_chunks_update_only_the_moved(places: list[int]) -> None:
    """Sections are reordered more often than rewritten; those that stay in order stay untouched."""
    before = stored("abcdefghijkl")
    moved = [CHUNKS[place] for place in places]

    found = difference(desired("".join(moved)), before)

    assert all(isinstance(change, Update) for change in found.changes)
    assert len(found.changes) == len(places) - longest_rising_run(places)
    assert keys_of(applied(before, found)) == "".join(moved)


def test_a_chunk_that_moved_keeps_its_own_record() -> None:
    """It is the same text, so it is the same record, wherever it stands."""
    before = stored("abc")

    after = applied(before, difference(desired("cab"), before))

    assert {one.key: one.memory_record_id for one in after} == {one.key: one.memory_record_id for one in before}


@given(st.lists(st.tuples(st.lists(st.sampled_from("abcdef"), unique=True), st.sampled_from("abcdef"))))
@example([(list("abc"), "b"), (list("acb"), "a"), (list("adcb"), "a")])
def test_no_record_takes_the_place_of_one_that_a_person_has_edited(versions: list[tuple[list[str], str]]) -> None:
    """An edited record is never moved, so the place that it keeps may be one between two others by now."""
    before: list[KnownRecord] = []
    for keys, edited in versions:
        wanted = desired("".join(keys))
        before = applied(before, difference(wanted, before))

        assert len({each.order for each in before}) == len(before)
        assert difference(wanted, before).changes == ()
        before = [each._replace(edited_from=each.digest) if each.key == edited else each for each in before]


def test_a_document_that_lost_all_its_text_makes_all_records_obsolete() -> None:
    """Deleting is decided elsewhere, and only once everything else is stored."""
    found = difference([], stored("abc"))

    assert not found.changes
    assert found.obsolete == tuple(map(RecordKey, "abc"))


# --------------------------------------------------------------------------------------------- room for numbers


@dataclass(frozen=True)
class Growth:
    """What inserting many times at one place came to."""

    records: list[KnownRecord]
    changes_by_step: list[int]


def grow(place: int, steps: int) -> Growth:
    keys = ["first", "second", "third"]
    before = applied([], difference([record(key) for key in keys], []))
    changes_by_step = []
    for step in range(steps):
        keys.insert(place if place >= 0 else len(keys), f"new{step}")
        wanted = [record(key) for key in keys]
        found = difference(wanted, before)
        before = applied(before, found)
        assert [one.key for one in before] == keys
        changes_by_step.append(len(found.changes))
    return Growth(before, changes_by_step)


def test_inserting_at_one_place_again_and_again_works() -> None:
    """Between two numbers there is room for some fifty more; then the document is numbered anew, now and then."""
    grown = grow(place=1, steps=200)

    renumberings = [changes for changes in grown.changes_by_step if changes > 1]
    assert len(grown.records) == 203
    assert 1 <= len(renumberings) <= 5, "never would prove nothing, often would cost too much"


@pytest.mark.parametrize("place", [0, -1], ids=["before the first", "behind the last"])
def test_there_is_always_room_before_the_first_chunk_and_behind_the_last(place: int) -> None:
    """Changelogs grow at the top and logs at the bottom, and must never be numbered anew."""
    grown = grow(place, steps=200)

    assert set(grown.changes_by_step) == {1}


def test_numbering_anew_keeps_every_record() -> None:
    """Only the numbers change: no record is created twice or deleted for them."""
    crowded = [known("a", digest="a1", order=1.0), known("b", digest="b1", order=1.0000000000000002)]

    found = difference(desired("axb"), crowded)

    after = applied(crowded, found)
    assert keys_of(after) == "axb"
    assert [one.order for one in after] == [1.0, 2.0, 3.0]
    assert not found.obsolete
    assert sum(isinstance(change, Create) for change in found.changes) == 1
