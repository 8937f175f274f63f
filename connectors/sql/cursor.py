"""How far back a listing of only the rows that have changed must look."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from pipeline.model import Checkpoint

CursorValue = datetime | date | int | float | Decimal | str

# As text is compared, and not as a moment: what follows the seconds makes no difference to what lies before them.
_TIME_AS_TEXT = re.compile(
    r"(?P<compared>\d{4}-\d\d-\d\d(?:(?P<separator>[ T])\d\d:\d\d(?::\d\d)?)?)(?:\.\d+)?(?:Z|[+-]\d\d(?::?\d\d)?)?"
)

AHEAD_MAX, BEHIND_MAX = timedelta(hours=14), timedelta(hours=12)  # of UTC, by the clocks of any place

_NAMES: Mapping[type, str] = {
    datetime: "time",
    date: "date",
    int: "integer",
    float: "float",
    Decimal: "decimal",
    str: "text",
}
_READ: Mapping[str, Callable[[str], CursorValue]] = {
    "time": datetime.fromisoformat,
    "date": date.fromisoformat,
    "integer": int,
    "float": float,
    "decimal": Decimal,
    "text": str,
}


@dataclass(frozen=True, slots=True)
class ListedRows:
    """What was listed: the rows up to `newest` by the cursor (None if no row had one), and at `full_at` all rows."""

    newest: CursorValue | None
    full_at: datetime

    def to_checkpoint(self) -> Checkpoint:
        kind = None if self.newest is None else _NAMES[type(self.newest)]
        newest = self.newest.isoformat() if isinstance(self.newest, date) else str(self.newest)
        return Checkpoint(json.dumps({"kind": kind, "newest": newest, "full_at": self.full_at.isoformat()}))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "ListedRows | None":
        """What `to_checkpoint` wrote; None if it wrote something else."""
        try:
            written = json.loads(checkpoint.value)
            full_at = datetime.fromisoformat(written["full_at"])
            newest = None if written["kind"] is None else _READ[written["kind"]](written["newest"])
            return cls(newest, full_at.astimezone(UTC))
        except (ValueError, ArithmeticError, LookupError, TypeError):
            return None


def cursor_value(value: Any, now: datetime) -> CursorValue | None:
    """The newest value of a cursor, as far as later ones will be larger: a time in the future counts as `now`.

    One row with a time of the year 9999 would otherwise hide all changes from then on. Too early a time is no fault:
    rows are then listed that need not be. So a time without a zone that lies in the future everywhere counts as the
    time where clocks are furthest behind: what changes there now has a time that has passed elsewhere.

    Raises:
        ValueError: `value` is neither a time nor a number.
    """
    naive_now = now.replace(tzinfo=None)
    latest, earliest = naive_now + AHEAD_MAX, naive_now - BEHIND_MAX
    match value:
        case None:
            return None
        case datetime() if value.tzinfo is None:
            return earliest if value > latest else min(value, naive_now)
        case datetime():
            return min(value, now)
        case date():
            return earliest.date() if value > latest.date() else min(value, now.date())
        case bool():
            pass
        case int():
            return value
        case float() | Decimal() if math.isfinite(value):
            return value
        case str() if (found := _TIME_AS_TEXT.fullmatch(value)) is not None:
            is_later = _time_of(found) > latest
            return _as_text(earliest, found) if is_later else min(value, _as_text(naive_now, found))
        case _:
            pass
    raise ValueError("neither a time nor a number")


def are_compared(one: CursorValue, other: CursorValue) -> bool:
    """Whether both are of one kind, so that the larger one is the newer one: they are not if the column was changed."""
    if isinstance(one, datetime) and isinstance(other, datetime):
        return (one.tzinfo is None) == (other.tzinfo is None)
    numbers = (int, float, Decimal)
    return type(one) is type(other) or (isinstance(one, numbers) and isinstance(other, numbers))


def lower_bound(newest: CursorValue, overlap: float) -> CursorValue:
    """What lies `overlap` before `newest`: seconds for times, as many for numbers. Of the kind that `newest` is of."""
    match newest:
        case datetime():
            return _earlier(newest, overlap)
        case date():
            return _earlier(datetime.combine(newest, time()), overlap).date()
        case int():
            return newest - math.ceil(overlap)
        case float():
            return newest - overlap
        case Decimal():
            return Context(rounding=ROUND_FLOOR).subtract(newest, Decimal(overlap))
        case str():
            found = _TIME_AS_TEXT.fullmatch(newest)
            assert found is not None
            return _as_text(_earlier(_time_of(found), overlap), found)


def _earlier(moment: datetime, seconds: float) -> datetime:
    try:
        return moment - timedelta(seconds=seconds)
    except OverflowError:  # before the year 1
        return datetime.min.replace(tzinfo=moment.tzinfo)


def _time_of(found: re.Match[str]) -> datetime:
    return datetime.fromisoformat(found["compared"])


def _as_text(moment: datetime, form: re.Match[str]) -> str:
    return moment.isoformat(form["separator"] or "T", "seconds")[: len(form["compared"])]
