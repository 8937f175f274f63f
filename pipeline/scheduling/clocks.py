"""The clocks of a process that stays up."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """`now` gives seconds since the epoch and may jump; `ticks` gives seconds that only ever go on."""

    now: Callable[[], float]
    ticks: Callable[[], float]
