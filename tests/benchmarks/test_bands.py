import pytest

from tests.benchmarks.bands import Verdict, band, compare
from tests.benchmarks.figures import Figure, Measured
from tests.benchmarks.results import Result


def result(*figures: Figure) -> Result:
    return Result("2026-11-27", {}, Measured(figures))


def verdict(stored: Figure, measured: Figure) -> Verdict:
    (comparison,) = compare(result(stored), result(measured))
    return comparison.verdict


def test_a_band_is_as_wide_as_the_rounds_were_apart() -> None:
    assert band(Figure("time", [1.0, 2.0, 5.0], None)) == (1.0, 5.0)


def test_a_band_is_never_narrower_than_its_floor() -> None:
    """Rounds that agreed by luck would make the next run look slow."""
    assert band(Figure("time", [2.0, 2.0, 2.0], None)) == pytest.approx((1.7, 2.3))


def test_a_single_round_has_a_band_too() -> None:
    assert band(Figure("time", [2.0], None)) == pytest.approx((1.7, 2.3))


@pytest.mark.parametrize(
    ("median", "expected"), [(0.8, Verdict.BETTER), (0.9, Verdict.WITHIN), (1.1, Verdict.WITHIN), (1.2, Verdict.WORSE)]
)
def test_more_is_worse_where_the_goal_is_the_most(median: float, expected: Verdict) -> None:
    assert verdict(Figure("time", [1.0], 1.0), Figure("time", [median], 1.0)) is expected


@pytest.mark.parametrize(
    ("median", "expected"), [(0.8, Verdict.WORSE), (0.9, Verdict.WITHIN), (1.1, Verdict.WITHIN), (1.2, Verdict.BETTER)]
)
def test_less_is_worse_where_the_goal_is_the_least(median: float, expected: Verdict) -> None:
    stored, measured = Figure("speed", [1.0], 1.0, is_least=True), Figure("speed", [median], 1.0, is_least=True)
    assert verdict(stored, measured) is expected


def test_one_slow_round_is_no_regression() -> None:
    assert verdict(Figure("time", [1.0], None), Figure("time", [1.0, 1.0, 9.0], None)) is Verdict.WITHIN


def test_a_figure_that_was_never_stored_is_new() -> None:
    (comparison,) = compare(None, result(Figure("time", [1.0], None)))

    assert comparison.verdict is Verdict.NEW
    assert "time" in comparison.row()


def test_a_figure_that_is_no_longer_measured_is_named() -> None:
    """Or a renamed one would escape the check without a word."""
    before, now = result(Figure("old name", [1.0], None)), result(Figure("new name", [1.0], None))

    assert [(one.name, one.verdict) for one in compare(before, now)] == [
        ("new name", Verdict.NEW),
        ("old name", Verdict.GONE),
    ]
