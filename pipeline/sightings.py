"""What a scan has seen, kept small: one bit for each document that the ledger knew when the scan began."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.model import Checkpoint, DocumentId, DocumentRemoved, RecordKey, ScanComplete, ScanIncremental


@dataclass(slots=True)
class Sightings:
    """`last_row` is the ledger's last when the scan begins: later documents were seen by the scan that added them.

    `listed` counts all that the source showed, also what is left out for its kind. `complete`, `incremental` and
    `broken` are scopes: prefixes of document ids. `removed` are documents that the source said are gone, `shrunk` those
    that were read and lost parts. `checkpoint` speaks of all that is gone, also by not being listed: it is to be saved
    once that is removed. `renamed` tells of documents what the ledger knows them as, where it is not to be changed.
    `delivered` are records that this run stored before it began to scan, `unattributed` is how many the ledger had of
    no document. `asked_there` and `asked_gone` count the documents that no listing showed and that the source was asked
    for.
    """

    last_row: int
    known: int = 0  # documents that the ledger had when the scan began
    rows: int | None = None  # rows that it had then, if somebody counted them
    listed: int = 0
    unattributed: int = 0
    asked_there: int = 0
    asked_gone: int = 0
    emptied: int = 0  # documents that are still there and ask for no record any more
    delivered: Mapping[DocumentId, set[RecordKey]] = field(default_factory=dict)
    complete: list[str] = field(default_factory=list)
    incremental: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    removed: set[DocumentId] = field(default_factory=set)
    shrunk: set[DocumentId] = field(default_factory=set)
    checkpoint: Checkpoint | None = None
    renamed: dict[DocumentId, DocumentId] = field(default_factory=dict)
    _rows: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self._rows = bytearray(self.last_row // 8 + 1)

    def mark(self, row: int) -> None:
        if row <= self.last_row:
            self._rows[row >> 3] |= 1 << (row & 7)

    def mark_first(self, row: int) -> bool:
        """Mark `row`; False if it was marked before."""
        if self.has(row):
            return False
        self.mark(row)
        return True

    def mark_unchanged(self, found: Sequence[tuple[DocumentId, int, int]]) -> tuple[int, int]:
        """Mark documents, each with its row and number of records.

        Returns how many were not marked before, and how many of their records were stored before this run.
        """
        marked, last_row = self._rows, self.last_row
        documents = records = 0
        for document, row, its_records in found:
            place, bit = row >> 3, 1 << (row & 7)
            if row <= last_row and not marked[place] & bit:
                marked[place] |= bit
                documents += 1
                records += self.count_unchanged(document, its_records) if self.delivered else its_records
        return documents, records

    def unmark(self, row: int) -> None:
        if row <= self.last_row:
            self._rows[row >> 3] &= ~(1 << (row & 7))

    def has(self, row: int) -> bool:
        return row > self.last_row or bool(self._rows[row >> 3] & 1 << (row & 7))

    def has_all(self) -> bool:
        """Whether every row of the ledger is known to be marked."""
        return self.rows == int.from_bytes(self._rows).bit_count()

    def count_unchanged(self, document: DocumentId, records: int) -> int:
        """How many of a document's `records` were stored before this run.

        Not fewer than none: in a run that was stopped and has lost its lease without knowing it, the ledger is another
        run's by now, which may have deleted what this one stored.
        """
        return max(0, records - len(self.delivered.get(document, ())))

    def note(self, event: ScanComplete | ScanIncremental | DocumentRemoved) -> None:
        match event:
            case ScanComplete(scope):
                self.complete.append(scope)
            case ScanIncremental(scope):
                self.incremental.append(scope)
            case DocumentRemoved(document):
                self.listed += 1
                self.removed.add(document)

    def tells_of_removals(self) -> bool:
        """Whether something may be gone, so that there is more to do than to store what was listed."""
        return bool(self.removed or self.shrunk or self.complete)

    def is_listed_scope(self, document: DocumentId) -> bool:
        """Whether the source said that it listed everything where `document` would be, and nothing broke there."""
        return any(map(document.startswith, self.complete)) and not self.is_broken_scope(document)

    def is_broken_scope(self, document: DocumentId) -> bool:
        """Whether something could not be listed where `document` would be."""
        return any(map(document.startswith, self.broken))

    def is_healed_scope(self, scope: DocumentId) -> bool:
        """Whether `scope`, where something could not be listed once, was listed by this scan."""
        return any(map(scope.startswith, (*self.complete, *self.incremental))) and not self.is_broken_scope(scope)
