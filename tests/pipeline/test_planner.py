"""When so much is gone that it looks like a fault, and what a document that vanished means."""

import pytest

from pipeline.events import RunEvent
from pipeline.model import DocumentId, DocumentPlan, DocumentRef, DocumentState, Vanished
from pipeline.planner import Planner, is_mass_deletion
from pipeline.sightings import Sightings
from pipeline.state.sqlite import open_state
from tests.pipeline.examples import inline, memory


@pytest.mark.parametrize(
    ("removed", "known", "listed", "is_mass"),
    [
        (0, 0, 0, False),
        (0, 100, 0, False),
        (0, 100, 100, False),
        (1, 100, 99, False),
        (10, 12, 2, False),
        (11, 12, 1, True),
        (11, 100, 89, False),
        (20, 100, 80, False),
        (21, 100, 79, True),
        (200_000, 1_000_000, 800_000, False),
        (200_001, 1_000_000, 799_999, True),
        (1, 1, 0, True),
        (10, 10, 0, True),
        (100, 100, 0, True),
    ],
    ids=[
        "nothing known and nothing gone",
        "an empty listing of which nothing was known",
        "nothing gone",
        "one gone",
        "ten of twelve: too few to guard",
        "eleven of twelve",
        "eleven of a hundred",
        "exactly the fraction",
        "one above the fraction",
        "exactly the fraction of many",
        "one above the fraction of many",
        "the only one, and an empty listing",
        "ten of ten, and an empty listing",
        "all, and an empty listing",
    ],
)
def test_a_mass_deletion_is_told_from_a_clean_up(removed: int, known: int, listed: int, *, is_mass: bool) -> None:
    """A share that is not mounted looks just like a folder that somebody emptied."""
    assert is_mass_deletion(removed, known, listed, max_fraction=0.2) is is_mass


@pytest.mark.parametrize(("max_fraction", "is_mass"), [(0.0, True), (1.0, False)], ids=["none allowed", "all allowed"])
def test_the_fraction_can_be_set_to_its_ends(max_fraction: float, *, is_mass: bool) -> None:
    """Some sources turn over entirely, others must never lose anything."""
    assert is_mass_deletion(50, 50, 1, max_fraction) is is_mass


async def test_a_document_that_vanished_while_it_was_read_is_not_counted() -> None:
    """It is neither failed nor there: this run already sees it as removed."""
    events: list[RunEvent] = []
    state = DocumentState(DocumentId("a.md"), DocumentId("a.md"), None, "recipe-1")
    async with open_state(None, source="s", destination="d", offload=inline) as store:
        await store.save([], [DocumentPlan(state)])
        row = await store.last_row()
        sightings = Sightings(row)
        sightings.mark(row)
        planner = Planner("s", "recipe-1", "run-1", store, memory(), sightings, events.append, lambda: 0.0)

        plans = await planner.plan([Vanished(DocumentRef(DocumentId("a.md"), "memory:///a.md"))])

    assert plans == []
    assert events == []
    assert not sightings.has(row)


async def test_a_document_that_vanished_before_it_was_ever_stored_is_forgotten() -> None:
    """There is nothing of it to remove."""
    async with open_state(None, source="s", destination="d", offload=inline) as store:
        planner = Planner("s", "recipe-1", "run-1", store, memory(), Sightings(0), lambda _: None, lambda: 0.0)

        plans = await planner.plan([Vanished(DocumentRef(DocumentId("a.md"), "memory:///a.md"))])

    assert plans == []
