"""What documents say of themselves, in the types that metadata can have."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from pipeline.model import MetadataValue
from pipeline.parsing.metadata import as_time, metadata_of, metadata_value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  text\0 ", "text"),
        (" ", None),
        (None, None),
        (True, "true"),
        (3, 3.0),
        (2.5, 2.5),
        (float("nan"), None),
        (float("inf"), None),
        (2**60 + 1, str(2**60 + 1)),
        (10**400, str(10**400)),
        (["a", 1, None, False, ""], ("a", "1", "false")),
        ([], None),
        ([[1], 2], "[[1], 2]"),
        ({"b": 1, "a": "ß"}, '{"a": "ß", "b": 1}'),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        ([date(2024, 1, 2)], ("2024-01-02",)),
        ("\ud800", "\ufffd"),
    ],
)
def test_a_value_becomes_text_a_number_or_a_list_of_words(value: object, expected: MetadataValue | None) -> None:
    """The memory knows no other types, and a number that is not exact as a float is better kept as text."""
    assert metadata_value(value) == expected


def test_names_without_a_value_are_left_out() -> None:
    """An empty value says nothing and takes one of the few places."""
    assert metadata_of({"a": None, "b": "", "c": 0, "": "x"}) == {"c": 0.0}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=UTC)),
        ("20240102", datetime(2024, 1, 2, tzinfo=UTC)),
        (" 2024-01-02T03:04:05Z ", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05+02:00", datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1700000000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1700000000000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (date(2024, 1, 2), datetime(2024, 1, 2, tzinfo=UTC)),
    ],
)
def test_times_are_read_in_the_usual_forms(value: object, expected: datetime) -> None:
    """Without a zone it is UTC: the same file must give the same time on every machine."""
    assert as_time(value) == expected


@pytest.mark.parametrize("value", ["yesterday", "", "7", 7, 20240102, 1e300, float("nan"), "inf", True, None, [1]])
def test_what_does_not_look_like_a_time_is_none(value: object) -> None:
    """A wrong time is worse than none."""
    assert as_time(value) is None
