"""The difference between what a document should be in the memory and what the memory holds of it.

Pure computation: the same two lists always give the same changes.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.model import Create, KnownRecord, Record, RecordKey, Update


@dataclass(frozen=True, slots=True)
class Difference:
    """`obsolete` are records that nothing replaces; they may go once everything else is stored."""

    changes: tuple[Create | Update, ...]
    unchanged: tuple[RecordKey, ...]
    obsolete: tuple[RecordKey, ...]


def difference(desired: Sequence[Record], known: Sequence[KnownRecord]) -> Difference:
    """The fewest changes that turn `known` into `desired`, both of one document.

    A chunk that is in both stays as it is. A chunk that vanished and one that appeared between the same two
    neighbours become one update, so that the record keeps its id in the memory.
    """
    if not known:
        return Difference(tuple([Create(record.at(float(number))) for number, record in enumerate(desired, 1)]), (), ())
    by_key = {record.key: record for record in known}
    anchors = _anchors(desired, by_key)
    orders = _orders(desired, anchors)
    edited = {position: before.order for position, before in _edited(desired, by_key)}
    if orders is None:
        # No room is left between two neighbours (after some fifty insertions at one place): number all anew.
        orders = _apart([float(number) for number in range(1, len(desired) + 1)], set(edited.values()), edited)
    elif edited:
        orders = _apart(orders, set(edited.values()), {*anchors, *edited})

    wanted = {record.key for record in desired}
    vanished = sorted((record for record in known if record.key not in wanted), key=lambda record: record.order)
    replaced = _pair(desired, by_key, anchors, vanished)

    changes: list[Create | Update] = []
    unchanged = []
    for record, order in zip(desired, orders, strict=True):
        before = by_key.get(record.key) or replaced.get(record.key)
        if before is None:
            changes.append(Create(record.at(order)))
        elif before.key == record.key and before.digest == record.digest and _may_stay(before, order):
            unchanged.append(record.key)
        else:
            changes.append(Update(before, record.at(order)))
    kept = {record.key for record in replaced.values()}
    return Difference(
        tuple(changes), tuple(unchanged), tuple(record.key for record in vanished if record.key not in kept)
    )


def _may_stay(record: KnownRecord, order: float) -> bool:
    """Whether `record` need not be written to stand at `order`: one that a person has edited is never moved, since that
    would say anew what its document says.
    """
    return record.order == order or record.edited_from is not None


def _edited(desired: Sequence[Record], by_key: dict[RecordKey, KnownRecord]) -> Iterator[tuple[int, KnownRecord]]:
    """The records that a person has edited and that stay, each with its position in `desired`."""
    for position, record in enumerate(desired):
        before = by_key.get(record.key)
        if before is not None and before.edited_from is not None and before.digest == record.digest:
            yield position, before


def _apart(orders: Sequence[float], taken: Collection[float], fixed: Collection[int]) -> list[float]:
    """`orders` without numbers that are `taken` by records which are never moved, except at the `fixed` positions.

    A number moves towards the one before it; where there is no room left, it stays.
    """
    apart = []
    for position, order in enumerate(orders):
        low = orders[position - 1] if position else order - 1
        while position not in fixed and order in taken and low < (low + order) / 2 < order:
            order = (low + order) / 2  # noqa: PLW2901
        apart.append(order)
    return apart


def _anchors(desired: Sequence[Record], by_key: dict[RecordKey, KnownRecord]) -> dict[int, float]:
    """The positions in `desired` of chunks that keep their order number, with that number.

    They are a longest run of known chunks whose numbers rise already; the others were moved.
    """
    tails: list[float] = []  # the smallest number that a rising run of each length can end with
    tail_positions: list[int] = []
    previous: dict[int, int | None] = {}
    for position, record in enumerate(desired):
        before = by_key.get(record.key)
        if before is None:
            continue
        length = bisect_left(tails, before.order)
        previous[position] = tail_positions[length - 1] if length else None
        tails[length : length + 1] = [before.order]
        tail_positions[length : length + 1] = [position]
    anchors: dict[int, float] = {}
    position_or_none = tail_positions[-1] if tail_positions else None
    while position_or_none is not None:
        anchors[position_or_none] = by_key[desired[position_or_none].key].order
        position_or_none = previous[position_or_none]
    return anchors


def _orders(desired: Sequence[Record], anchors: dict[int, float]) -> list[float] | None:
    """A rising number for each of `desired`: the anchors keep theirs, the others are spread between them.

    None if two anchors stand too close for what lies between them.
    """
    orders: list[float] = []
    gap = 0  # how many since the last anchor still need a number
    low: float | None = None
    for position in range(len(desired) + 1):
        if position < len(desired) and position not in anchors:
            gap += 1
            continue
        high = anchors.get(position)
        if high is None:
            orders.extend((low or 0.0) + step for step in range(1, gap + 1))
        else:
            if low is None:
                orders.extend(high - step for step in range(gap, 0, -1))
            else:
                orders.extend(low + (high - low) * step / (gap + 1) for step in range(1, gap + 1))
            orders.append(high)
            low = high
        gap = 0
    if any(later <= earlier for earlier, later in pairwise(orders)):
        return None
    return orders


def _pair(
    desired: Sequence[Record],
    by_key: dict[RecordKey, KnownRecord],
    anchors: dict[int, float],
    vanished: Sequence[KnownRecord],
) -> dict[RecordKey, KnownRecord]:
    """For each appeared chunk, the vanished one that stood at the same place, if there is one left for it."""
    bounds = sorted(anchors.values())
    by_gap: dict[int, list[KnownRecord]] = {}
    for gone in vanished:
        by_gap.setdefault(bisect_left(bounds, gone.order), []).append(gone)
    pairs: dict[RecordKey, KnownRecord] = {}
    gap = 0
    for position, record in enumerate(desired):
        if position in anchors:
            gap += 1
        elif record.key not in by_key and by_gap.get(gap):
            pairs[record.key] = by_gap[gap].pop(0)
    return pairs
