"""What can be made to go wrong, so that a client meets it in a test or a rehearsal first."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from enum import StrEnum
from typing import NamedTuple

from pipeline.local_memory.api import OPERATION_NAMES

__all__ = ("Faults", "Misfortune", "Mishap", "RecordFailure")


class Mishap(StrEnum):
    """What can happen to one request."""

    THROTTLE = "throttle"
    ERROR_BEFORE_WRITE = "error_before_write"
    ERROR_AFTER_WRITE = "error_after_write"
    DROP_BEFORE_WRITE = "drop_before_write"
    DROP_AFTER_WRITE = "drop_after_write"
    OMIT_RECORD = "omit_record"
    QUOTA_EXCEEDED = "quota_exceeded"
    ACCESS_DENIED = "access_denied"
    NONE = "none"


class RecordFailure(NamedTuple):
    """What `failedRecords` says of one record."""

    error_code: int
    error_message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults to play. The default is a service without any.

    Fractions are between 0 and 1 and together at most 1; which requests they hit follows from `seed` and the
    order of the requests. The same fields, as `key=value,key=value`, are what `parse` reads.
    """

    seed: int = 0

    requests_per_second: float = 0.0
    """The rate of each operation above which requests are throttled (429); 0 is no limit."""
    burst: float = 1.0
    """How many requests of one operation may come at once before the rate counts."""

    throttle: float = 0.0
    """The fraction of requests that are throttled (429) whatever the rate."""
    error_before_write: float = 0.0
    """The fraction answered with 500 and not carried out."""
    error_after_write: float = 0.0
    """The fraction carried out and then answered with 500."""
    drop_before_write: float = 0.0
    """The fraction whose connection closes and that are not carried out."""
    drop_after_write: float = 0.0
    """The fraction carried out and whose connection then closes: the reply is lost."""
    omit_record: float = 0.0
    """The fraction of batches carried out whose answer leaves out its last successful record."""

    failed_record: float = 0.0
    """The fraction of records that a batch reports in `failedRecords`."""
    failed_record_code: int = 500
    """The `errorCode` of those records."""

    poison_text: str = ""
    """A batch with a record whose text contains this is refused as a whole (ValidationException)."""
    poison_is_named: bool = True
    """Whether that refusal names the record in `fieldList`."""
    reject_text: str = ""
    """A record whose text contains this comes back in `failedRecords`."""
    reject_code: int = 400
    """The `errorCode` of that record."""

    latency_s: float = 0.0
    """How long each request waits before it is carried out."""
    list_lag_s: float = 0.0
    """How long a new record stays invisible to List and Retrieve. Get sees it, and updates show, at once."""
    update_lag_s: float = 0.0
    """How long a new record answers an update with 404; 10 s were seen of the service."""

    script: tuple[str, ...] = field(default=())
    """One-shot faults, each used once: `drop_after_write` strikes the next request, whatever it is, and
    `BatchCreateMemoryRecords:drop_after_write` the next of that operation. The words are those of `Mishap`;
    `none` lets one request pass. In the text form they are joined by `+`."""

    def __post_init__(self) -> None:
        fractions = [getattr(self, mishap) for mishap in RANDOM_MISHAPS]
        if min(fractions) < 0 or sum(fractions) > 1 or not 0 <= self.failed_record <= 1:
            raise ValueError("Fractions of faults must be between 0 and 1, and together at most 1")
        for entry in self.script:
            operation, _, mishap = entry.rpartition(":")
            if mishap not in set(Mishap):
                raise ValueError(f"{mishap!r} is no fault for a script. Known: {', '.join(Mishap)}")
            if operation and operation not in OPERATION_NAMES:
                known = ", ".join(sorted(OPERATION_NAMES))
                raise ValueError(f"{operation!r} is no operation of the local memory. Known: {known}")

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Read `requests_per_second=5,drop_after_write=0.01,script=none+throttle`.

        Raises:
            ValueError: an unknown key, which is answered with the nearest known one, or a value that does
                not fit. The message is for the user.
        """
        defaults = {entry.name: entry.default for entry in fields(cls)}
        settings = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            key, _, value = item.partition("=")
            if key not in defaults:
                nearest = get_close_matches(key, defaults, n=1, cutoff=0)
                raise ValueError(f"{key!r} is no fault. Did you mean {nearest[0]!r}?")
            try:
                settings[key] = _read_setting(value, defaults[key])
            except (ValueError, KeyError) as error:
                raise ValueError(f"{value!r} is no value for the fault {key!r}") from error
        return cls(**settings)  # type: ignore[arg-type] # each value was read as its default's type


RANDOM_MISHAPS = (
    Mishap.THROTTLE,
    Mishap.ERROR_BEFORE_WRITE,
    Mishap.ERROR_AFTER_WRITE,
    Mishap.DROP_BEFORE_WRITE,
    Mishap.DROP_AFTER_WRITE,
    Mishap.OMIT_RECORD,
)

Setting = bool | int | float | str | tuple[str, ...]


def _read_setting(text: str, default: object) -> Setting:
    match default:
        case bool():
            return {"true": True, "false": False}[text.lower()]
        case int():
            return int(text)
        case float():
            return float(text)
        case tuple():
            return tuple(filter(None, text.split("+")))
        case _:
            return text


class Misfortune:
    """`Faults` at work: their dice, their buckets and what is left of their script."""

    def __init__(self, faults: Faults, clock: Callable[[], float]) -> None:
        self.faults = faults
        self._clock = clock
        self._rng = random.Random(faults.seed)  # noqa: S311 (dice for a rehearsal)
        self._script = deque(entry.rpartition(":") for entry in faults.script)
        self._buckets: dict[str, _TokenBucket] = {}

    def strike(self, operation: str) -> Mishap:
        """What happens to the next request of `operation`. First the script, then the rate, then dice."""
        for entry in self._script:
            wanted_operation, _, mishap = entry
            if wanted_operation in ("", operation):
                self._script.remove(entry)
                return Mishap(mishap)
        if self.faults.requests_per_second and not self._bucket(operation).take(self._clock()):
            return Mishap.THROTTLE
        point = self._rng.random()
        for random_mishap in RANDOM_MISHAPS:
            fraction: float = getattr(self.faults, random_mishap)
            if point < fraction:
                return random_mishap
            point -= fraction
        return Mishap.NONE

    def failure_of(self, text: str) -> RecordFailure | None:
        """How a record of a batch fails; None if it does not. `text` is empty if the batch gives none."""
        if self.faults.reject_text and self.faults.reject_text in text:
            return RecordFailure(self.faults.reject_code, "The record was rejected by a fault of this rehearsal")
        if self.faults.failed_record and self._rng.random() < self.faults.failed_record:
            return RecordFailure(self.faults.failed_record_code, "The record failed in this rehearsal")
        return None

    def is_poisoned(self, text: str) -> bool:
        """Whether a record with this text has its whole batch refused."""
        return bool(self.faults.poison_text) and self.faults.poison_text in text

    def _bucket(self, operation: str) -> "_TokenBucket":
        if operation not in self._buckets:
            rate, burst = self.faults.requests_per_second, self.faults.burst
            self._buckets[operation] = _TokenBucket(rate, burst, self._clock())
        return self._buckets[operation]


class _TokenBucket:
    def __init__(self, tokens_per_second: float, tokens_max: float, now: float) -> None:
        self._tokens_per_second = tokens_per_second
        self._tokens_max = tokens_max
        self._tokens = tokens_max
        self._filled_at = now

    def take(self, now: float) -> bool:
        refill = max(now - self._filled_at, 0.0) * self._tokens_per_second
        self._tokens = min(self._tokens + refill, self._tokens_max)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
