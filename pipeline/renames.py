"""Documents that were renamed: new by their ids, and known by what they say."""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field

from pipeline.errors import SourceError
from pipeline.events import DocumentsRenamed, Observer, Wait, telling
from pipeline.model import Checkpoint, DocumentId, DocumentRef
from pipeline.protocols import RecognisesRenames, SourceConnector, StateStore
from pipeline.sightings import Sightings

# New documents that wait for the end of a listing, of some 500 bytes each. Further ones count as new.
WAITING_MAX = 50_000
REFS_PER_LIST = 1000
# Documents of which the source cannot tell whether they are gone. A source that can tell of none is not asked on.
UNTOLD_MAX = 5


@dataclass(slots=True)
class Renames:
    """Keeps back new documents that may have been renamed, until the listing has shown what is gone.

    The ledger then calls the old document by its new name: its records are updated where they are. In a dry run the
    ledger stays as it is, and the sightings tell of it.
    """

    state: StateStore
    connector: SourceConnector
    sightings: Sightings
    observe: Observer
    is_dry: bool
    _waiting: dict[DocumentId, tuple[str, DocumentRef]] = field(default_factory=dict)  # with their traces
    _checkpoint: Checkpoint | None = None  # speaks of what waits, too
    _untold: int = 0

    async def keep_back(self, new: Sequence[DocumentRef]) -> Collection[DocumentId]:
        """Keep back those of `new` that may have been another document, which this scan has not shown so far."""
        if not isinstance(self.connector, RecognisesRenames) or not self.sightings.known:
            return ()
        traces = {ref.id: trace for ref in new if (trace := self.connector.trace(ref)) is not None}
        known = await self.state.traced(set(traces.values())) if traces else {}
        for ref in new:
            candidates = known.get(traces.get(ref.id, ""), ())
            if any(not self.sightings.has(row) for _, row in candidates) and len(self._waiting) < WAITING_MAX:
                self._waiting.setdefault(ref.id, (traces[ref.id], ref))
        return self._waiting.keys()

    def keeps_back(self, checkpoint: Checkpoint) -> bool:
        """Keep back `checkpoint` as well if some documents before it wait."""
        if self._waiting:
            self._checkpoint = checkpoint
        return bool(self._waiting)

    async def settle(self) -> AsyncGenerator[Sequence[DocumentRef | Checkpoint], None]:
        """Yield what was kept back, renamed in the ledger where it was renamed in the source."""
        waiting = list(self._waiting.values())
        for start in range(0, len(waiting), REFS_PER_LIST):
            some = waiting[start : start + REFS_PER_LIST]
            candidates = await self.state.traced({trace for trace, _ in some})
            names: dict[DocumentId, DocumentId] = {}
            for trace, ref in some:
                former = await self._former(candidates.get(trace, ()))
                if former is not None:
                    names[former] = ref.id
            if names:
                self.observe(DocumentsRenamed(len(names), list(names.items())))
            if self.is_dry:
                self.sightings.renamed.update((now, before) for before, now in names.items())
            elif names:
                await self.state.rename(names)
            yield [ref for _, ref in some]
        if self._checkpoint:
            yield [self._checkpoint]

    async def _former(self, candidates: Sequence[tuple[DocumentId, int]]) -> DocumentId | None:
        """The first of `candidates` that is gone for certain. It counts as seen from now on."""
        for document, row in candidates:
            is_missing = not self.sightings.has(row) and self.sightings.is_listed_scope(document)
            if is_missing and await self._is_gone(document):
                self.sightings.mark(row)  # but not its parts: reading it shows which of them it still has
                return document
        return None

    async def _is_gone(self, document: DocumentId) -> bool:
        """Whether the source is certain that it has no such document.

        Raises:
            SourceError: it could not tell of several by now.
        """
        try:
            with telling(self.observe, Wait("scan", "source", document)):
                return await self.connector.locate(document) is None
        except SourceError:
            self._untold += 1
            if self._untold > UNTOLD_MAX:
                raise
            return False  # what would have its records is stored anew
