"""When a run sends a dead letter again by itself, and when no more. Pure computation: the time is passed in."""

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.model import DeadLetter

DOUBLINGS_MAX = 64  # beyond any waiting time, and still a number


class Outlook(NamedTuple):
    """What becomes of a letter by itself. `next_attempt_at` is in seconds since the epoch; None: nothing."""

    next_attempt_at: float | None = None
    is_quarantined: bool = False


@dataclass(frozen=True, slots=True)
class AutoReplay:
    """The rule for letters whose reason may pass; others wait for a person.

    The first replay comes `backoff_s` after the failure, each further one after twice the time, at most
    `backoff_max_s`. After `replays_max` of them in vain, also those by hand, a letter is quarantined.
    """

    is_enabled: bool = True
    replays_max: int = 5
    backoff_s: float = 900.0
    backoff_max_s: float = 86_400.0

    def is_quarantined(self, letter: DeadLetter) -> bool:
        """Whether `letter` would be sent again by itself, had that not been in vain so often."""
        return self._may_pass(letter) and letter.rounds > self.replays_max

    def next_attempt_at(self, letter: DeadLetter) -> float | None:
        """When `letter` is due, in seconds since the epoch: the next run after that sends it. None: it never is."""
        if not self._may_pass(letter) or self.is_quarantined(letter):
            return None
        waiting_s = self.backoff_s * 2.0 ** min(letter.rounds - 1, DOUBLINGS_MAX)
        return letter.last_failed_at + min(waiting_s, self.backoff_max_s)

    def is_due(self, letter: DeadLetter, now: float) -> bool:
        due_at = self.next_attempt_at(letter)
        return due_at is not None and due_at <= now

    def outlook(self, letter: DeadLetter) -> Outlook:
        return Outlook(self.next_attempt_at(letter), self.is_quarantined(letter))

    def _may_pass(self, letter: DeadLetter) -> bool:
        return self.is_enabled and letter.is_retryable and letter.dropped_at is None
