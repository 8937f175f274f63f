"""How long records live, and when they are renewed.

A memory can forget a record some days after it was written. Each update begins that time anew, so a record whose
document is still there is updated before it lapses, with what it says already. When, is spread over a third of the
time, by document: what was written in one day is not all renewed in one day.
"""

import zlib
from typing import NamedTuple

from pipeline.model import NO_EXPIRY, DocumentId, Entry, KnownRecord, RecordKey

SECONDS_PER_DAY = 86_400.0

# The shares of its time between which a record is renewed. Whoever runs at least once in the last third loses none.
EARLIEST_RENEWAL = 1 / 3
LATEST_RENEWAL = 2 / 3
# And the share after which a source is asked again for a document that it could not show; near the end, that is sooner:
# after half of what is left, but not sooner than this.
ASKED_AGAIN = 1 / 10
ASKED_AGAIN_SOONEST = 1 / 100


# Where a record stands among those that are to be renewed: when, its document, its key.
RenewalPlace = tuple[float, DocumentId, RecordKey]
FIRST_RENEWAL: RenewalPlace = (float("-inf"), DocumentId(""), RecordKey(""))


class Renewal(NamedTuple):
    """Which records are to be renewed: those that are to lapse after another time than `expiry_days` (None: never), and
    those whose turn has come by `now`, in seconds since the epoch. What a person has edited cannot be renewed, since
    only the memory has it: once it has lapsed, the document's own version is due.
    """

    expiry_days: int | None
    now: float

    def has_lost(self, record: KnownRecord) -> bool:
        """Whether `record` holds what a person has made of it, and the memory may have forgotten that by now."""
        return record.edited_from is not None and has_lapsed(record, self.now)

    def later(self, lapses_at: float | None) -> float:
        """When to try once more to renew what could not be renewed by now, in seconds since the epoch."""
        life_s = (self.expiry_days or 31) * SECONDS_PER_DAY  # 31: the least that AgentCore takes
        wait_s = ASKED_AGAIN * life_s
        if lapses_at is not None and lapses_at > self.now:
            wait_s = min(wait_s, max((lapses_at - self.now) / 2, ASKED_AGAIN_SOONEST * life_s))
        return self.now + wait_s

    def is_worth_while(self, record: KnownRecord) -> bool:
        """Whether to renew `record` along with others of its document: then the document is not read for it soon."""
        if record.edited_from is not None:
            return False
        if record.expiry_days != self.expiry_days:
            return True
        if record.lapses_at is None or self.expiry_days is None:
            return False
        life_s = self.expiry_days * SECONDS_PER_DAY
        return record.lapses_at - self.now <= (1 - EARLIEST_RENEWAL) * life_s


NOTHING_EXPIRES = Renewal(None, 0.0)


class Life(NamedTuple):
    """When a record lapses at the earliest, and when it is to be renewed, in seconds since the epoch."""

    expiry_days: int | None
    lapses_at: float | None
    renew_at: float | None


ENDLESS = Life(None, None, None)


def life_of(entry: Entry, saved_at: float) -> Life:
    """The life of a record that was stored as `entry`, by a batch that was saved at that time, so not sent before."""
    if not entry.expiry_days:  # nothing was said, or that it shall not lapse any more
        return ENDLESS
    life_s = entry.expiry_days * SECONDS_PER_DAY
    return Life(entry.expiry_days, saved_at + life_s, saved_at + renewal_share(entry.document) * life_s)


def renewal_share(document: DocumentId) -> float:
    """The share of their time after which the records of `document` are renewed: always the same, and evenly spread."""
    chance = zlib.crc32(document.encode("utf-8", "surrogatepass")) / 2**32
    return EARLIEST_RENEWAL + chance * (LATEST_RENEWAL - EARLIEST_RENEWAL)


def said_of_update(known: KnownRecord, expiry_days: int | None) -> int | None:
    """What an update of `known` says of its expiry: nothing, where it has none and is to have none."""
    if expiry_days is None and known.expiry_days is not None:
        return NO_EXPIRY
    return expiry_days


def has_lapsed(record: KnownRecord, now: float) -> bool:
    """Whether the memory may have forgotten `record` since its time is over."""
    return record.lapses_at is not None and record.lapses_at <= now
