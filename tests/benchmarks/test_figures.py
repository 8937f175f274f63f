from tests.benchmarks.figures import Figure, ratios


def test_a_goal_is_the_most_that_the_median_may_be() -> None:
    assert Figure("time", [1.0, 2.0, 9.0], 2.0).is_met
    assert not Figure("time", [1.0, 2.1, 2.2], 2.0).is_met


def test_a_goal_of_what_should_be_large_is_the_least() -> None:
    assert Figure("speed", [1.0, 2.0, 3.0], 2.0, is_least=True).is_met
    assert not Figure("speed", [1.0, 1.9, 3.0], 2.0, is_least=True).is_met


def test_what_has_no_goal_misses_none() -> None:
    assert Figure("memory", [100.0], None).is_met


def test_each_round_has_its_own_ratio() -> None:
    """A busy moment of the machine is on both sides of the same round."""
    assert ratios([2.0, 40.0], [1.0, 20.0]) == [2.0, 2.0]
