"""A run that may change only what a saved plan says."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.model import Change, Checkpoint, Delete, DocumentId, DocumentPlan
from pipeline.protocols import PlannedChanges, StateStore


@dataclass(slots=True)
class PlanScope:
    """Keeps what `plan` has and holds back the rest. `held_back` counts changes.

    A document is kept whole or not at all, and a file is not kept without all of its parts: the ledger must not take it
    for dealt with before it is. Whatever else changes nothing in the memory is kept.
    """

    plan: PlannedChanges
    held_back: int = 0
    _files_held_back: set[DocumentId] = field(default_factory=set)

    async def keep(self, items: list[DocumentPlan | Checkpoint]) -> list[DocumentPlan | Checkpoint]:
        """What may be done of `items`, in order."""
        changes = [change for item in items if isinstance(item, DocumentPlan) for change in item.changes]
        allowed = iter(await self.plan.allow(changes) if changes else ())
        kept: list[DocumentPlan | Checkpoint] = []
        made: list[Change] = []
        for item in items:
            if isinstance(item, Checkpoint):
                if not self.held_back:  # it says that all before it is dealt with
                    kept.append(item)
                continue
            its_allowed = [change for change in item.changes if next(allowed)]
            held_back = len(item.changes) - len(its_allowed)
            self.held_back += held_back
            if item.state is None:  # deletes, of any documents
                item = item._replace(changes=tuple(its_allowed))  # noqa: PLW2901
            elif held_back or item.state.id in self._files_held_back:
                self._files_held_back.add(item.state.origin)
                continue
            made += its_allowed
            kept.append(item)
        if made:
            await self.plan.note_made(made)
        return kept

    async def removable(self, state: StateStore, documents: Sequence[DocumentId]) -> list[DocumentId]:
        """Those of `documents` all of whose records may be deleted."""
        _, records = await state.known([], records_of=documents)
        doomed = [record for document in documents for record in records[document]]
        allowed = await self.plan.allow([Delete(record) for record in doomed]) if doomed else ()
        wanted = {record.document for record, is_allowed in zip(doomed, allowed, strict=True) if not is_allowed}
        self.held_back += sum(len(records[document]) for document in wanted)
        return [document for document in documents if document not in wanted]
