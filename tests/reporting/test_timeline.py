"""What a run did over time, in few points."""

from pipeline.reporting.timeline import COUNTED, FIRST_BUCKET_S, POINTS_MAX, Timeline


def test_a_day_takes_no_more_points_than_a_minute_and_loses_no_count() -> None:
    """A report of a long night must open as fast as any other, and its totals be those of the run."""
    timeline = Timeline()

    for second in range(86_400):
        timeline.count(float(second), records=3, throttled=second % 2)

    told = timeline.as_json()
    assert POINTS_MAX // 2 <= len(told["records"]) <= POINTS_MAX
    assert {len(told[name]) for name in (*COUNTED, "allowed_per_s")} == {len(told["records"])}
    assert (sum(told["records"]), sum(told["throttled"])) == (3 * 86_400, 43_200)
    # All points but the last are full, and equal.
    assert set(told["records"][:-1]) == {3 * told["bucket_s"]}


def test_a_short_run_is_told_in_fine_points() -> None:
    """Two seconds in one point would be a line without a shape."""
    timeline = Timeline()

    timeline.count(0.1, requests=1)
    timeline.count(1.9, requests=2)

    assert timeline.as_json()["bucket_s"] == FIRST_BUCKET_S
    assert timeline.as_json()["requests"] == [1, 0, 0, 2]


def test_the_allowed_rate_is_the_last_that_was_seen() -> None:
    """A mean with the time before would show a rate that never was in force."""
    timeline = Timeline()
    timeline.note_allowed(0.0, 5.0)
    timeline.note_allowed(FIRST_BUCKET_S, 20.0)
    timeline.note_allowed(3 * FIRST_BUCKET_S, 7.0)

    timeline.count(FIRST_BUCKET_S * POINTS_MAX, records=1)

    assert timeline.as_json()["allowed_per_s"][:3] == [20.0, 7.0, None]
