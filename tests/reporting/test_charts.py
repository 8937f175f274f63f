"""Where the lines and bars of charts go."""

import pytest

from pipeline.reporting.charts import (
    LEFT,
    PLOT_HEIGHT,
    RIGHT,
    TOP,
    Buckets,
    nice_ceiling,
    number,
    requests_chart,
    spans_chart,
    steps_chart,
    time_ticks,
    trend_chart,
)

FOOT = TOP + PLOT_HEIGHT


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.3, 0.4), (1, 1), (1.1, 2), (7, 8), (9.5, 10), (1_442, 2_000), (3e6, 4e6)]
)
def test_axes_end_at_a_round_number_that_is_not_below_the_highest(value: float, top: float) -> None:
    """A peak that is cut off is a lie, and an axis to 1,442.7 cannot be read."""
    assert nice_ceiling(value) == pytest.approx(top)


@pytest.mark.parametrize("seconds", [0.2, 4.0, 38.0, 600.0, 1_563.0, 50_000.0, 2_000_000.0])
def test_an_axis_of_time_has_few_round_moments_for_any_length(seconds: float) -> None:
    """From a run of a moment to one of three weeks."""
    ticks = time_ticks(seconds, LEFT, RIGHT)

    assert 1 <= len(ticks) <= 9
    assert all(LEFT <= tick.at <= RIGHT for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)


def test_numbers_on_an_axis_are_short() -> None:
    """There are five characters of room."""
    assert [number(value) for value in (0, 2.5, 120, 1_250, 20_000, 4_000_000)] == [
        "0", "2.5", "120", "1,250", "20k", "4M",
    ]  # fmt: skip


def test_the_last_bucket_is_as_long_as_the_run_left_it() -> None:
    """Its count over a whole bucket would look as if the run had slowed down at its end."""
    buckets = Buckets(2.0, 5.0)

    assert buckets.rates([20, 20, 10]) == [10.0, 10.0, 10.0]


def test_nothing_stands_outside_of_its_chart() -> None:
    """Not the highest, not the last, and not what was allowed."""
    buckets = Buckets(1.0, 3.5)
    charts = [
        steps_chart(buckets, [0.0, 1_442.0, 3.0, 8.0], "records", "records/s"),
        requests_chart(buckets, [20, 5, 0, 3], [4, 5, 0, 0], [20.0, 25.0, None, 20.0])[0],
        spans_chart([("list", 0.0, 2.0), ("write", 1.0, 3.5)], 3.5),
        trend_chart([(0.0, "good", ""), (99.0, "bad", "")], marked=1),
    ]

    for chart in charts:
        for bar in chart.bars:
            assert bar.x >= chart.left - 0.01
            assert bar.x + bar.width <= chart.right + 3.0
            assert bar.height >= 0
            assert bar.y >= TOP - 0.01
            assert bar.y + bar.height <= chart.bottom + 0.01


def test_taken_and_repeated_requests_stand_on_each_other() -> None:
    """Together they are what was sent."""
    chart, draws_allowed = requests_chart(Buckets(1.0, 1.0), [20], [5], [20.0])

    taken, again = (next(bar for bar in chart.bars if bar.kind == kind) for kind in ("taken", "again"))
    assert taken.y + taken.height == FOOT
    assert again.y + again.height == taken.y
    assert again.height / taken.height == pytest.approx(5 / 15, rel=0.01)
    assert draws_allowed


def test_a_rate_that_is_allowed_and_never_needed_does_not_flatten_the_rest() -> None:
    """A memory on this machine takes ten thousand requests a second."""
    chart, draws_allowed = requests_chart(Buckets(1.0, 2.0), [20, 10], [0, 0], [10_000.0, 10_000.0])

    assert not draws_allowed
    assert chart.lines == []
    assert chart.y_ticks[-1].label == "20"


def test_where_no_rate_was_in_force_the_line_is_interrupted() -> None:
    """Between two bursts nobody asked for one."""
    chart, _ = requests_chart(Buckets(1.0, 3.0), [20, 0, 10], [0, 0, 0], [20.0, None, 20.0])

    assert chart.lines[0].path.count("M") == 2


def test_a_run_that_wrote_nothing_shows_in_the_trend_all_the_same() -> None:
    """Its colour tells how it ended."""
    chart = trend_chart([(0.0, "bad", "failed")], marked=None)

    assert chart.bars[0].height > 0
