"""How a run went over time, in a bounded number of points however long it took."""

from collections.abc import Mapping
from typing import Any

POINTS_MAX = 200
FIRST_BUCKET_S = 0.5
COUNTED = ("documents", "records", "requests", "throttled", "retried")


class Timeline:
    """Counts by time since the start. When `POINTS_MAX` buckets are full, each two neighbours become one.

    So a run of any length that is not very short has 100 to 200 points, at the price of one addition for each count.
    Rates are the last that were seen in their bucket; None where none was.
    """

    def __init__(self) -> None:
        self.bucket_s = FIRST_BUCKET_S
        self._counts: dict[str, list[int]] = {name: [] for name in COUNTED}
        self._allowed: list[float | None] = []

    def count(self, at_s: float, **counts: int) -> None:
        """Add `counts`, each named by one of `COUNTED`, to the bucket of the second `at_s`."""
        index = self._index(at_s)
        for name, count in counts.items():
            self._counts[name][index] += count

    def note_allowed(self, at_s: float, per_s: float) -> None:
        """From now on, `per_s` requests may be sent in a second."""
        self._allowed[self._index(at_s)] = per_s

    def _index(self, at_s: float) -> int:
        while at_s >= self.bucket_s * POINTS_MAX:
            self._merge()
        index = int(at_s / self.bucket_s)
        missing = index + 1 - len(self._allowed)
        if missing > 0:
            self._allowed.extend([None] * missing)
            for counts in self._counts.values():
                counts.extend([0] * missing)
        return index

    def _merge(self) -> None:
        self.bucket_s *= 2.0
        for name, counts in self._counts.items():
            self._counts[name] = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
        later = self._allowed
        self._allowed = [
            next((rate for rate in reversed(later[at : at + 2]) if rate is not None), None)
            for at in range(0, len(later), 2)
        ]

    def as_json(self) -> Mapping[str, Any]:
        """Columns of equal length; the first point begins with the run, each lasts `bucket_s` seconds."""
        allowed = [None if rate is None else round(rate, 3) for rate in self._allowed]
        return {"bucket_s": self.bucket_s, **self._counts, "allowed_per_s": allowed}
