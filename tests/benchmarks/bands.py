"""Has something become slower? A new median is held against the band of the last results."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from tests.benchmarks.figures import Figure
from tests.benchmarks.results import Result

FLOOR = 0.15  # a share of the median; rounds that agreed by luck must not make the band too narrow


class Verdict(enum.Enum):
    WITHIN = "within"
    WORSE = "WORSE"
    BETTER = "better"
    NEW = "new"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure by its name, as it was and as it is; None where there was, or is, none."""

    name: str
    stored: Figure | None
    measured: Figure | None

    @property
    def verdict(self) -> Verdict:
        if self.stored is None:
            return Verdict.NEW
        if self.measured is None:
            return Verdict.GONE
        low, high = band(self.stored)
        if low <= self.measured.median <= high:
            return Verdict.WITHIN
        return Verdict.BETTER if self.measured.is_as_good_as(self.stored.median) else Verdict.WORSE

    def row(self) -> str:
        median = f"{self.measured.median:.2f}" if self.measured else "-"
        limits = "{:.2f} to {:.2f}".format(*band(self.stored)) if self.stored else "-"
        return f"{self.verdict.value:7}  {median:>8}  {limits:18}  {self.name}"


def band(stored: Figure) -> tuple[float, float]:
    """Between which ratios a median is as it was: those of the stored rounds, and 15 % to each side of their median."""
    return (
        min(*stored.ratios, stored.median * (1 - FLOOR)),
        max(*stored.ratios, stored.median * (1 + FLOOR)),
    )


def compare(stored: Result | None, measured: Result) -> Iterator[Comparison]:
    """Every figure of a benchmark, in the order of the new result, and then what it no longer says."""
    before = {figure.name: figure for figure in stored.measured.figures} if stored else {}
    for figure in measured.measured.figures:
        yield Comparison(figure.name, before.pop(figure.name, None), figure)
    for name, figure in before.items():
        yield Comparison(name, figure, None)
