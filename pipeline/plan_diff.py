"""What a plan would change in the texts of records: those that the memory has beside those that it would have."""

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.model import Create, Delete, DocumentId, DocumentPlan, KnownRecord, MemoryRecordId, Operation, Update
from pipeline.protocols import Destination

RECORDS_PER_DOCUMENT_MAX = 50  # whose texts are compared; the old ones are asked for one by one
LINES_PER_RECORD_MAX = 2000  # that are compared: what takes long for two texts takes far longer for long ones
LINES_PER_DOCUMENT_MAX = 60
LINE_CHARACTERS_MAX = 300
CONTEXT_LINES = 1

# A line of prose is a paragraph; a sentence is what somebody edits. The number of a list's item ends none.
_SENTENCE_END = re.compile(r"(?<=[^\W\d][.!?…])\s+|(?<=[。！？])")

NO_CHANGE_OF_TEXT = "(the text stays; its place, its metadata or how long it lives changes)"
ONLY_BLANKS_CHANGE = "(only blank lines and the spaces between sentences change)"


@dataclass(frozen=True, slots=True)
class RecordDiff:
    """How one record would change. `lines` begin with `-`, `+`, or a space for what stays; `@` stands for what lies
    between.
    """

    operation: Operation
    key: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class DocumentDiff:
    """How the records of one document would change. `outcome` is `added`, `changed`, `renewed` or `removed`."""

    document: DocumentId
    outcome: str
    records: Sequence[RecordDiff]
    records_left_out: int = 0
    lines_left_out: int = 0


@dataclass(slots=True)
class _Document:
    """What is kept of a document: as much as is shown. The counts are of all."""

    outcome: str
    changes: list[Create | Update] = field(default_factory=list)
    deletes: list[KnownRecord] = field(default_factory=list)
    changes_count: int = 0
    deletes_count: int = 0

    def add(self, changes: Sequence[Create | Update], deletes: Sequence[KnownRecord]) -> None:
        self.changes += changes[: RECORDS_PER_DOCUMENT_MAX - len(self.changes)]
        self.deletes += deletes[: RECORDS_PER_DOCUMENT_MAX - len(self.deletes)]
        self.changes_count += len(changes)
        self.deletes_count += len(deletes)

    def withhold_deletes(self) -> None:
        self.deletes.clear()
        self.deletes_count = 0

    @property
    def count(self) -> int:
        return self.changes_count + self.deletes_count


@dataclass(slots=True)
class DiffSink:
    """A `ChangeSink` that keeps the first `documents_max` documents with a change, and counts the others."""

    documents_max: int
    _documents: dict[DocumentId, _Document] = field(default_factory=dict)
    _left_out: int = 0
    _left_out_for_deletes: int = 0
    _last_left_out: DocumentId | None = None

    @property
    def left_out(self) -> int:
        return self._left_out + self._left_out_for_deletes

    async def note(self, plan: DocumentPlan, obsolete: Sequence[KnownRecord]) -> None:
        changes = [change for change in plan.changes if not isinstance(change, Delete)]
        if plan.state is None or not (changes or obsolete):
            return
        document = self._document(plan.state.id, plan.told_outcome, only_deletes=not changes)
        if document is not None:
            document.add(changes, obsolete)

    async def note_deletes(self, records: Sequence[KnownRecord], *, of_earlier_run: bool = False) -> None:
        for record in records:
            if of_earlier_run and record.document in self._documents:
                continue
            document = self._document(record.document, "removed", only_deletes=True)
            if document is not None:
                document.add([], [record])

    async def withhold_deletes(self) -> None:
        for document in self._documents.values():
            document.withhold_deletes()
        self._left_out_for_deletes = 0

    def _document(self, document: DocumentId, outcome: str, *, only_deletes: bool) -> _Document | None:
        """What is kept of `document`; None if it is left out, which is counted once: its records come together."""
        if document in self._documents:
            return self._documents[document]
        if len(self._documents) < self.documents_max:
            return self._documents.setdefault(document, _Document(outcome))
        if document != self._last_left_out:
            self._last_left_out = document
            self._left_out_for_deletes += only_deletes
            self._left_out += not only_deletes
        return None

    @property
    def needs_memory(self) -> bool:
        """Whether some of the texts are in the memory alone."""
        return any(
            document.deletes or any(isinstance(change, Update) for change in document.changes)
            for document in self._documents.values()
        )

    async def diffs(self, memory: Destination | None) -> list[DocumentDiff]:
        """The differences of what was kept; `memory` may be None if it is not needed.

        Raises:
            DestinationError: the memory could not be asked.
        """
        documents = [(name, document) for name, document in self._documents.items() if document.count]
        return [await _diff_of(name, document, memory) for name, document in documents]


async def _diff_of(name: DocumentId, document: _Document, memory: Destination | None) -> DocumentDiff:
    records: list[RecordDiff] = []
    room, left_out = LINES_PER_DOCUMENT_MAX, 0
    changes: list[Create | Update | Delete] = [*document.changes, *map(Delete, document.deletes)]
    for change in changes[:RECORDS_PER_DOCUMENT_MAX]:
        if not room:
            break  # nobody would see what the memory is asked for
        old = "" if isinstance(change, Create) else await _text_in(memory, change.known.memory_record_id)
        new = "" if isinstance(change, Delete) else change.record.text
        lines = list(diff_lines(old, new))
        shown = lines[:room]
        room -= len(shown)
        left_out += len(lines) - len(shown)
        operation = {Create: Operation.CREATE, Update: Operation.UPDATE, Delete: Operation.DELETE}[type(change)]
        key = change.known.key if isinstance(change, Delete) else change.record.key
        records.append(RecordDiff(operation, key, shown))
    return DocumentDiff(name, document.outcome, records, document.count - len(records), left_out)


async def _text_in(memory: Destination | None, memory_record_id: MemoryRecordId) -> str:
    """The text of a record; none if the memory has it no more."""
    assert memory is not None, "it is needed for updates and deletes"
    record = await memory.get(memory_record_id)
    return "" if record is None else record.text


def diff_lines(old: str, new: str) -> Iterator[str]:
    """The lines of a unified diff of two texts, without its heads; prose is compared by sentences."""
    if old == new:
        yield f" {NO_CHANGE_OF_TEXT}"
        return
    before, after = _lines_of(old), _lines_of(new)
    if before == after:
        yield f" {ONLY_BLANKS_CHANGE}"
        return
    first, second = before[:LINES_PER_RECORD_MAX], after[:LINES_PER_RECORD_MAX]
    diff = list(difflib.unified_diff(first, second, n=CONTEXT_LINES, lineterm=""))
    for line in diff[3:]:  # behind the heads of both texts and of the first difference
        yield "@" if line.startswith("@@") else _shortened(line)
    if len(first) < len(before) or len(second) < len(after):
        yield f" (what comes after {LINES_PER_RECORD_MAX:,} lines was not compared)"


def _lines_of(text: str) -> list[str]:
    """The sentences of `text`, or its lines where these are shorter; none that is blank."""
    return [
        piece.rstrip()
        for line in text.splitlines()
        for piece in _SENTENCE_END.split(line)
        if piece and not piece.isspace()
    ]


def _shortened(line: str) -> str:
    more = len(line) - LINE_CHARACTERS_MAX
    return line if more <= 0 else f"{line[:LINE_CHARACTERS_MAX]} (and {more:,} characters more)"
