"""What a benchmark says."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: each figure in so many rounds, beside peers so many documents, so many streamed records."""

    rounds: int = 5
    documents: int = 20_000
    records: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio for each round; `goal` is the most, or with `is_least` the least, that it should be, if there is one."""

    name: str
    ratios: Sequence[float]
    goal: float | None
    is_least: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.is_as_good_as(self.goal)

    def is_as_good_as(self, ratio: float) -> bool:
        return self.median >= ratio if self.is_least else self.median <= ratio


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a program was at something, and the most memory that it had, in each round."""

    program: str
    run: str
    documents_per_second: Sequence[float]
    peak_mb: Sequence[float]


@dataclass(frozen=True, slots=True)
class Measured:
    figures: Sequence[Figure]
    speeds: Sequence[Speed] = ()


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, others, strict=True)]
