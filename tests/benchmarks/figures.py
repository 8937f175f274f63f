"""What a benchmark says."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio for each round; `goal` is the most, or with `is_least` the least, that it should be."""

    name: str
    ratios: Sequence[float]
    goal: float
    is_least: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def is_met(self) -> bool:
        return self.median >= self.goal if self.is_least else self.median <= self.goal

    def row(self) -> str:
        goal = f"{'≥' if self.is_least else '≤'} {self.goal:g}"
        spread = f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"
        return f"| {self.name} | {self.median:.2f} | {spread} | {goal} | {'yes' if self.is_met else 'no'} |"


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, others, strict=True)]
