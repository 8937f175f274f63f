"""The small profile of `make hostile`: whatever comes in, it ends as one of four outcomes."""

from tests.security import hostile


def test_hostile_inputs_have_no_other_outcome() -> None:
    """A crash, a hang or a full memory would stop the sync of all that is not hostile."""
    result = hostile.run(inputs=300, seed=20)

    assert sum(counts.total() for counts in result.outcomes.values()) == 300
    assert all(counts for counts in result.outcomes.values())
