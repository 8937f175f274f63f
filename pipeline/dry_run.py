"""What a run would change in the memory: planned like any run, told to whoever takes it down, and not done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.model import FIRST_PLACE, Batch, Checkpoint, DocumentId, DocumentPlan, KnownRecord, RecordKey
from pipeline.protocols import ChangeSink, StateStore
from pipeline.sightings import Sightings

PAGE = 500


@dataclass(frozen=True, slots=True)
class DryRun:
    """The end of the way of a document where nothing is to be done. Reads the state, never writes it."""

    state: StateStore
    sightings: Sightings
    sinks: Sequence[ChangeSink] = ()

    async def note_plans(
        self,
        planned: MemoryObjectReceiveStream[list[DocumentPlan | Checkpoint]],
        batches: MemoryObjectSendStream[Batch],
    ) -> None:
        """Take the place of the stage that makes batches, and make none."""
        async with planned, batches:
            async for items in planned:
                for item in items if self.sinks else ():
                    if isinstance(item, DocumentPlan):
                        await self._note(item)

    async def _note(self, plan: DocumentPlan) -> None:
        obsolete = await self._obsolete_of(plan)
        for sink in self.sinks:
            await sink.note(plan, obsolete)

    async def _obsolete_of(self, plan: DocumentPlan) -> list[KnownRecord]:
        """The records that `plan` has no place for, as far as they would be deleted: not those of a failed document."""
        if plan.state is None or not plan.obsolete or plan.letters or await self._has_standing(plan):
            return []
        document, origin = plan.state.id, plan.state.origin
        if (former := self.sightings.renamed.get(origin)) is not None:
            document = DocumentId(former + document.removeprefix(origin))
        found = await self.state.records_at([(document, key) for key in plan.obsolete])
        return [record._replace(document=plan.state.id) for record in found.values()]

    async def _has_standing(self, plan: DocumentPlan) -> bool:
        """Whether something of `plan` stays given up on that may still come; a dropped letter keeps nothing waiting."""
        ids = [plan.state.id] if plan.state and plan.standing else []
        letters = await self.state.letters(ids, with_records=False)
        return any(letter.id in plan.standing for letter in letters)

    async def note_vanished(self, documents: Sequence[DocumentId]) -> None:
        if not self.sinks:
            return
        _, records = await self.state.known([], records_of=documents)
        for some in records.values():
            for sink in self.sinks:
                await sink.note_deletes(some)

    async def note_obsolete(self, deletions: Mapping[str, RecordKey]) -> int:
        """What an earlier run has found to be obsolete and not deleted: it was cut off, or the guard held it back, or
        it has failed and its letter is among `deletions`, of which this returns how many are sent.
        """
        after, resent = FIRST_PLACE, 0
        is_asked = self.sinks or deletions
        while is_asked and (page := await self.state.obsolete(after, limit=PAGE, despite=deletions)):
            after = page[-1].place
            resent += len({record.key for record in page}.intersection(deletions.values()))
            for sink in self.sinks:
                await sink.note_deletes(page, of_earlier_run=True)
        return resent

    async def withhold_deletes(self) -> None:
        for sink in self.sinks:
            await sink.withhold_deletes()
