"""What a scan has seen, and where it looked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import DocumentId, RecordKey
from pipeline.sightings import Sightings


@given(last_row=st.integers(0, 200), data=st.data())
def test_exactly_the_marked_rows_are_seen(last_row: int, data: st.DataObject) -> None:
    """A row that is wrongly unseen deletes a document, one that is wrongly seen keeps it for ever."""
    rows = st.sets(st.integers(0, last_row))
    marked, unmarked = data.draw(rows), data.draw(rows)
    sightings = Sightings(last_row)

    for row in marked:
        sightings.mark(row)
    for row in unmarked:
        sightings.unmark(row)

    assert {row for row in range(last_row + 1) if sightings.has(row)} == marked - unmarked


@given(last_row=st.integers(0, 200), beyond=st.integers(1, 10_000))
def test_a_document_that_this_scan_added_counts_as_seen(last_row: int, beyond: int) -> None:
    """It got its row after the scan began, so nothing else could have added it; nothing can make it unseen."""
    sightings = Sightings(last_row)

    sightings.mark(last_row + beyond)
    sightings.unmark(last_row + beyond)

    assert sightings.has(last_row + beyond)


@given(rows=st.sets(st.integers(1, 200)), data=st.data())
def test_all_are_seen_when_every_row_is(rows: set[int], data: st.DataObject) -> None:
    """Then nothing can have gone, and nobody need look. Rows of what was removed before are no gap."""
    last_row = max(rows, default=0)
    marked = data.draw(st.sets(st.sampled_from(sorted(rows)))) if rows else set()
    sightings = Sightings(last_row, rows=len(rows))

    for row in [*marked, last_row + 1]:
        sightings.mark(row)

    assert sightings.has_all() == (marked == rows)
    assert not Sightings(last_row).has_all(), "who has not counted cannot know"


def test_marking_twice_is_marking_once() -> None:
    """Every part of a file and the file itself may be seen more than once."""
    sightings = Sightings(8)

    sightings.mark(8)
    sightings.mark(8)
    sightings.unmark(8)

    assert not sightings.has(8)


def test_sightings_of_a_million_documents_stay_small() -> None:
    """Memory stays flat, whatever the source holds."""
    sightings = Sightings(1_000_000)

    sightings.mark(1_000_000)

    assert len(sightings._rows) <= 125_001
    assert sightings.has(1_000_000)
    assert not sightings.has(999_999)


@pytest.mark.parametrize(
    ("complete", "broken", "is_listed"),
    [
        ([], [], False),
        ([""], [], True),
        (["docs/"], [], True),
        (["other/"], [], False),
        (["other/", "docs/"], [], True),
        (["docs/a.md"], [], True),
        (["docs/a/"], [], False),
        ([""], ["docs/"], False),
        ([""], ["other/"], True),
        ([""], ["docs/a.md"], False),
        ([""], ["docs/b.md"], True),
        (["docs/"], [""], False),
    ],
    ids=[
        "nothing was said to be complete",
        "everything was",
        "its folder was",
        "another folder was",
        "its folder was among others",
        "the document itself was",
        "a folder below was",
        "its folder broke",
        "another folder broke",
        "the document itself broke",
        "its neighbour broke",
        "everything broke",
    ],
)
def test_a_document_s_absence_proves_something_only_where_all_was_listed(
    complete: list[str], broken: list[str], *, is_listed: bool
) -> None:
    """A folder that could not be read is not an empty folder."""
    sightings = Sightings(0, complete=complete, broken=broken)

    assert sightings.is_listed_scope(DocumentId("docs/a.md")) is is_listed


def test_what_this_run_delivered_itself_is_not_unchanged() -> None:
    """An interrupted run's records are stored before the scan, and each is counted once."""
    delivered = {DocumentId("a.md"): {RecordKey("key1"), RecordKey("key2")}}
    sightings = Sightings(0, delivered=delivered)

    assert sightings.count_unchanged(DocumentId("a.md"), 5) == 3
    assert sightings.count_unchanged(DocumentId("b.md"), 5) == 5


def test_a_scan_begins_without_having_seen_anything() -> None:
    """Two scans must not share what they have seen."""
    first, second = Sightings(3), Sightings(3)

    first.mark(1)
    first.complete.append("")
    first.broken.append("")

    assert not second.has(1)
    assert second.complete == second.broken == []
    assert (second.listed, second.emptied) == (0, 0)


@given(
    last_row=st.integers(0, 60),
    seen=st.sets(st.integers(0, 60)),
    found=st.lists(st.tuples(st.integers(1, 70), st.integers(0, 9)), max_size=30),
    delivered=st.sets(st.integers(1, 70)),
)
def test_a_list_of_unchanged_documents_is_marked_as_each_would_be(
    last_row: int, seen: set[int], found: list[tuple[int, int]], delivered: set[int]
) -> None:
    """Each counts once, however often it is listed, and without what this run has stored of it before."""
    of_this_run = {DocumentId(f"{row}"): {RecordKey("key")} for row in delivered}
    together, one_by_one = Sightings(last_row, delivered=of_this_run), Sightings(last_row, delivered=of_this_run)
    for row in seen:
        together.mark(row)
        one_by_one.mark(row)

    counted = together.mark_unchanged([(DocumentId(f"{row}"), row, records + 1) for row, records in found])

    first = [(row, records + 1) for row, records in found if one_by_one.mark_first(row)]
    records = sum(one_by_one.count_unchanged(DocumentId(f"{row}"), records) for row, records in first)
    assert counted == (len(first), records)
    assert together == one_by_one


def test_no_count_is_below_none() -> None:
    """Another run may have taken over while this one was stopped, and deleted what this one had stored before."""
    sightings = Sightings(1, delivered={DocumentId("a.md"): {RecordKey("one"), RecordKey("two")}})

    assert sightings.count_unchanged(DocumentId("a.md"), 1) == 0
    assert sightings.mark_unchanged([(DocumentId("a.md"), 1, 1)]) == (1, 0)
