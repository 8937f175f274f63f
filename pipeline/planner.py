"""From records to changes: what each document's version means against the ledger, and what has gone."""

from bisect import bisect_left
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.differ import difference
from pipeline.events import (
    DeadLettered,
    DeletesWithheld,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsRemoved,
    LettersResent,
    Observer,
    Wait,
    nobody,
    telling,
)
from pipeline.expiry import NOTHING_EXPIRES, Renewal
from pipeline.letters import LAPSING, PASSING_PARSE_FAULTS, document_letter_id, record_letter_id
from pipeline.mapping import edited_record
from pipeline.model import (
    FIRST_PLACE,
    NO_RESENDS,
    Change,
    Checkpoint,
    Create,
    DeadLetter,
    Delete,
    Derived,
    DocumentId,
    DocumentOutcome,
    DocumentPlan,
    DocumentRef,
    DocumentState,
    Fingerprint,
    KnownDocument,
    KnownRecord,
    LeftOut,
    Operation,
    PartsEnd,
    Planned,
    Record,
    RecordKey,
    Resends,
    ScanError,
    Stage,
    Unread,
    Update,
    Vanished,
)
from pipeline.protocols import Destination, SourceConnector, StateStore
from pipeline.reader import recipe_of_left_out
from pipeline.sightings import Sightings

PAGE = 500  # documents read from the ledger at once
PAGE_OF_ROWS = 10_000  # and no more of them than their rows: nearly all were seen, and need not be read

# Documents that may be planned and not saved yet: a batch of each operation, and what the streams hold.
JUST_PLANNED_MAX = 1000

# A deletion of fewer documents than this is never held back as a mass deletion (unless the source shows nothing).
GUARDED_DOCUMENTS_MIN = 10

WITHHELD_TOLD_MAX = 500  # documents whose deletion was held back, by name


@dataclass(frozen=True, slots=True)
class Planner:
    """Compares what documents should be with what the ledger says they are. Reads the state, never writes it.

    The records of dead letters in `resends` are planned again; those of others stay given up on. `abilities` are the
    parser's.
    """

    source: str
    recipe: str
    run_id: str
    state: StateStore
    destination: Destination
    sightings: Sightings
    observe: Observer
    now: Callable[[], float]
    resends: Resends = NO_RESENDS
    renewal: Renewal = NOTHING_EXPIRES
    abilities: str = ""
    _just_planned: dict[DocumentId, None] = field(default_factory=dict)  # the oldest first
    _parts_of_last: dict[DocumentId, Sequence[KnownDocument]] = field(default_factory=dict)  # sorted, of one document

    async def plan(self, items: list[Planned]) -> list[DocumentPlan | Checkpoint]:
        derived = [item for item in items if isinstance(item, Derived)]
        ids = {item.ref.id for item in items if not isinstance(item, ScanError | Checkpoint)}
        derived_ids = [item.document for item in derived]
        whole_ids = [item.ref.id for item in items if isinstance(item, PartsEnd)]
        known, records = await self.state.known(ids.union(derived_ids), records_of=[*derived_ids, *whole_ids])
        if self.sightings.renamed:
            known, records = await self._as_renamed(derived, known, records)
        if self.sightings.unattributed:
            records = await self._claimed(derived, records)
        plans: list[DocumentPlan | Checkpoint] = []
        for item in items:
            match item:
                case Derived():
                    before = known.get(item.document)
                    if self._was_planned(item.document, before):
                        continue  # paged listings show a document twice when it moves between pages
                    letters = await self._letters(before)
                    if before is not None and before.state.has_parts:
                        await self._note_lost_parts(item.ref.id)
                    plans.append(self._plan_records(item, before, records[item.document], letters))
                case PartsEnd(ref):
                    plans.append(await self._plan_parts_end(ref, records[ref.id]))
                case Unread():
                    plans.append(await self._plan_unread(item, known.get(item.ref.id)))
                case LeftOut():
                    plans.append(await self._plan_left_out(item, known.get(item.ref.id)))
                case Vanished(ref):
                    if gone := known.get(ref.id):
                        self.sightings.unmark(gone.row)
                        self.sightings.removed.add(ref.id)
                case ScanError(scope, code, message):
                    letter = self._document_letter(DocumentId(scope), "scan", code, message)
                    plans.append(DocumentPlan(None, letters=(letter,)))
                case Checkpoint():
                    if self.sightings.tells_of_removals():
                        self.sightings.checkpoint = item
                    else:
                        plans.append(item)
        return plans

    async def _as_renamed(
        self,
        derived: Sequence[Derived],
        known: Mapping[DocumentId, KnownDocument],
        records: Mapping[DocumentId, Sequence[KnownRecord]],
    ) -> tuple[Mapping[DocumentId, KnownDocument], Mapping[DocumentId, Sequence[KnownRecord]]]:
        """What the ledger would say of renamed documents if their new names stood in it."""
        former = {
            item.document: DocumentId(before + item.document.removeprefix(item.ref.id))
            for item in derived
            if (before := self.sightings.renamed.get(item.ref.id)) is not None
        }
        known_before, records_before = await self.state.known(former.values(), records_of=former.values())
        moved = {now: known_before[before] for now, before in former.items() if before in known_before}
        moved_records = {
            now: [record._replace(document=now) for record in records_before[before]] for now, before in former.items()
        }
        return {**known, **moved}, {**records, **moved_records}

    async def _claimed(
        self, derived: Sequence[Derived], records: Mapping[DocumentId, Sequence[KnownRecord]]
    ) -> Mapping[DocumentId, Sequence[KnownRecord]]:
        """`records`, and those that do not say that they are of a document but for their key."""
        asked_for = {record.key: item.document for item in derived for record in item.records}
        claimed = {document: list(known) for document, known in records.items()}
        for key, record in (await self.state.records_at([(DocumentId(""), key) for key in asked_for])).items():
            claimed[asked_for[key]].append(record._replace(document=asked_for[key]))
        return claimed

    def _was_planned(self, document: DocumentId, before: KnownDocument | None) -> bool:
        """Whether this scan has planned `document` already; if not, it does now."""
        if before is not None and before.row > self.sightings.last_row:
            return True
        if document in self._just_planned:
            return True
        self._just_planned[document] = None
        if len(self._just_planned) > JUST_PLANNED_MAX:
            del self._just_planned[next(iter(self._just_planned))]
        return False

    async def _letters(self, document: KnownDocument | None) -> dict[str, DeadLetter]:
        if document is None or not document.dead_letters + document.dropped:
            return {}
        return {letter.id: letter for letter in await self.state.letters([document.state.id], with_dropped=True)}

    def _plan_records(
        self,
        item: Derived,
        before: KnownDocument | None,
        records: Collection[KnownRecord],
        letters: dict[str, DeadLetter],
    ) -> DocumentPlan:
        """The way from the known records to the desired ones, less what was given up on already."""
        if before is not None:
            self.sightings.mark(before.row)
        standing = self._dropped(item, letters)
        wanted = [each for each in item.records if not standing or _letter_of(each) not in standing]
        # Without a digest, it is written as the document says it.
        there = [each._replace(digest="") if self.renewal.has_lost(each) else each for each in records]
        found = difference(wanted, there)
        if found.obsolete and not wanted:
            self.sightings.emptied += 1
        renewals = self._renewals(item, records, found.unchanged)
        changes: list[Change] = []
        given_up = False
        new_letters: list[DeadLetter] = []
        resent = self._count_read(item.document, letters)
        for change in (*found.changes, *renewals):
            letter = letters.get(_letter_of(change.record)) if letters else None
            if letter is not None:
                standing.add(letter.id)
            was_given_up = letter is not None and letter.operation is not Operation.DELETE
            if letter is not None and was_given_up:
                if letter.id not in self.resends.letters:
                    given_up = True
                    continue
                change = self._as_edited(change, letter)  # noqa: PLW2901 - the same change, as a person wants it
            if problem := self.destination.check(change):
                new_letters.append(self._record_letter(change, problem))
                given_up = True
            else:
                changes.append(change)
                resent += was_given_up

        if resent:
            self.observe(LettersResent(resent))
        if given_up:
            outcome: DocumentOutcome = "failed"
        elif before is None or (before.state.fingerprint is None and not records and changes):
            outcome = "added"
        else:
            outcome = "changed" if found.changes or found.obsolete else "unchanged"
        renewed = {change.record.key for change in renewals}
        self.observe(
            DocumentsDecided(
                outcome,
                1,
                unchanged=len(set(found.unchanged) - renewed - self.sightings.delivered.get(item.document, set())),
                created=sum(isinstance(change, Create) for change in changes),
                updated=sum(isinstance(change, Update) for change in changes),
                obsolete=len(found.obsolete),
                document=item.document,
                planned=_planned(changes, found.obsolete),
                renewed=len(renewals),
            )
        )
        fingerprint = item.ref.fingerprint
        state = DocumentState(item.document, item.ref.id, fingerprint, self.recipe)
        return DocumentPlan(state, tuple(changes), found.obsolete, tuple(new_letters), frozenset(standing), outcome)

    def _count_read(self, document: DocumentId, letters: Collection[str]) -> int:
        """How many letters, one at most, are sent again by reading `document`, which could not be read before."""
        return len(self.resends.letters.intersection({document_letter_id(self.source, document)}.intersection(letters)))

    def _dropped(self, item: Derived, letters: Mapping[str, DeadLetter]) -> set[str]:
        """The letters of records that `item` asks for and that a person has decided to go without.

        What the memory holds in their place goes: nothing new will come that it would have to wait for.
        """
        dropped = {letter.id for letter in letters.values() if letter.dropped_at is not None} - self.resends.letters
        return dropped.intersection(map(_letter_of, item.records)) if dropped else set()

    def _as_edited(self, change: Create | Update, letter: DeadLetter) -> Create | Update:
        """`change` with what a person has made of its record, now or for an earlier attempt."""
        content = self.resends.edits.get(letter.id)
        if content is None and letter.is_edited and letter.record is not None:
            content = self.destination.content_of(letter.record)
        return change if content is None else change._replace(record=edited_record(change.record, content))

    def _renewals(
        self, item: Derived, records: Collection[KnownRecord], unchanged: Collection[RecordKey]
    ) -> list[Update]:
        """Updates of records that say already what they should, so that they do not lapse."""
        if self.renewal.expiry_days is None and all(record.expiry_days is None for record in records):
            return []
        wanted = {record.key: record for record in item.records}
        known = {record.key: record for record in records}
        return [
            Update(known[key], wanted[key].at(known[key].order))
            for key in unchanged
            if self.renewal.is_worth_while(known[key])
        ]

    async def _plan_parts_end(self, ref: DocumentRef, records: Collection[KnownRecord]) -> DocumentPlan:
        """Remember the file as read, unless it lost parts: until these are deleted, every run must read it again.

        Otherwise the next run would find the file unchanged and believe that all its parts are still there. `records`
        are from when it had no parts.
        """
        if document_letter_id(self.source, ref.id) in self.resends.letters and ref.id not in self._just_planned:
            self.observe(LettersResent(1))  # else it was told with what the file says itself
        has_lost = await self._note_lost_parts(ref.id)
        state = self._state(ref, None if has_lost else ref.fingerprint, has_parts=True)
        return DocumentPlan(state, obsolete=tuple(record.key for record in records))

    async def _note_lost_parts(self, file: DocumentId) -> bool:
        """Whether a file that was read to its end has lost parts."""
        has_lost = any(not self.sightings.has(part.row) for part in await self.state.parts(file))
        if has_lost:
            self.sightings.shrunk.add(file)
        return has_lost

    async def _plan_unread(self, item: Unread, before: KnownDocument | None) -> DocumentPlan:
        """A dead letter for the document; what the memory holds of it stays.

        What could not be fetched is tried again by every run, what could not be parsed only once it changed.
        """
        if before is not None:
            self.sightings.mark(before.row)  # the scan has marked it, unless it is a part
        unchanged = self.sightings.count_unchanged(item.ref.id, before.unchanged) if before else 0
        # Parts can be in the ledger before their file is: a run may have been cut off between the two.
        parts = await self._parts_below(item)
        for part in parts:
            if self.sightings.mark_first(part.row):  # those that went before have been counted
                unchanged += self.sightings.count_unchanged(part.state.id, part.unchanged)
        earlier = await self._letters(before)
        fingerprint = item.ref.fingerprint if item.stage == "parse" else None
        has_parts = item.has_parts or bool(parts) or (before is not None and before.state.has_parts)
        has_parts = has_parts and item.origin is None  # parts of a part are the whole document's
        state = self._state(item.ref, fingerprint, origin=item.origin, has_parts=has_parts)
        same = self._letter_of_same_fault(item, before, earlier)
        is_lapsing = same is not None and (same.code == LAPSING or await self._is_due(item, parts))
        if same is not None and same.dropped_at is not None and is_lapsing == (same.code == LAPSING):
            self.observe(DocumentsDecided("unchanged", 1, unchanged=unchanged))
            return DocumentPlan(state, obsolete=None, standing=frozenset(earlier))
        self.observe(DocumentsDecided("failed", 1, unchanged=unchanged, document=item.ref.id))
        code = LAPSING if is_lapsing else item.code
        letter = self._document_letter(item.ref.id, item.stage, code, item.message)
        return DocumentPlan(state, obsolete=None, letters=(letter,), standing=frozenset({letter.id, *earlier}))

    def _letter_of_same_fault(
        self, item: Unread, before: KnownDocument | None, letters: Mapping[str, DeadLetter]
    ) -> DeadLetter | None:
        """The letter that says the same of just this version of a document that cannot be read, unless it is sent."""
        letter = letters.get(document_letter_id(self.source, item.ref.id))
        if letter is None or before is None or letter.id in self.resends.letters:
            return None
        is_same_version = item.stage == "parse" and before.state.fingerprint == item.ref.fingerprint
        is_same_fault = letter.message == item.message and letter.code in (item.code, LAPSING)
        return letter if is_same_version and is_same_fault else None

    async def _is_due(self, item: Unread, parts: Sequence[KnownDocument]) -> bool:
        """Whether records of a document that cannot be read, or of its `parts`, are to be renewed, and nobody knows yet
        that they lapse.
        """
        # A part of a document is no origin: what it had for parts is asked for by name.
        nested = [part.state.id for part in parts] if item.origin is not None else []
        return bool(await self.state.to_renew([item.ref.id, *nested], self.renewal))

    async def _plan_left_out(self, item: LeftOut, before: KnownDocument | None) -> DocumentPlan:
        """Remember why, so that it is not fetched again; but a document with records does not lose them for it."""
        recipe = recipe_of_left_out(self.recipe, self.abilities)
        has_nested_parts = item.origin is not None and bool(await self._parts_below(item))
        if has_nested_parts or (before is not None and (before.records or before.state.has_parts)):
            message = f"{item.reason}; its records are kept until it can be read again or is removed"
            plan = await self._plan_unread(Unread(item.ref, "parse", "unsupported", message, item.origin), before)
            return plan._replace(state=plan.state and plan.state._replace(recipe=recipe))
        if before is not None:
            self.sightings.mark(before.row)
        self.observe(DocumentSkippedByReason(item.reason))
        state = self._state(item.ref, item.ref.fingerprint, origin=item.origin, skipped=item.reason)
        return DocumentPlan(state._replace(recipe=recipe))

    async def _parts_below(self, item: Unread | LeftOut) -> Sequence[KnownDocument]:
        """The parts of a document, or of a part of one, that the ledger had when the scan began."""
        if item.origin is None:
            return await self.state.parts(item.ref.id)
        if item.origin not in self._parts_of_last:  # the parts of one document come one after the other
            self._parts_of_last.clear()
            parts = await self.state.parts(item.origin)
            self._parts_of_last[item.origin] = sorted(parts, key=lambda part: part.state.id)
        parts = self._parts_of_last[item.origin]
        # `$` comes next after `#`.
        start, end = (bisect_left(parts, f"{item.ref.id}{sign}", key=lambda part: part.state.id) for sign in "#$")
        return parts[start:end]

    def _state(
        self,
        ref: DocumentRef,
        fingerprint: Fingerprint | None,
        *,
        origin: DocumentId | None = None,
        has_parts: bool = False,
        skipped: str | None = None,
    ) -> DocumentState:
        return DocumentState(ref.id, origin or ref.id, fingerprint, self.recipe, has_parts=has_parts, skipped=skipped)

    def _document_letter(self, document: DocumentId, stage: Stage, code: str, message: str) -> DeadLetter:
        self.observe(DeadLettered(document, stage, code, message))
        now = self.now()
        return DeadLetter(
            id=document_letter_id(self.source, document),
            source=self.source,
            document_id=document,
            stage=stage,
            code=code,
            message=message,
            attempts=1,
            first_failed_at=now,
            last_failed_at=now,
            run_id=self.run_id,
            is_retryable=stage == "parse" and code in PASSING_PARSE_FAULTS,
        )

    def _record_letter(self, change: Create | Update, problem: str) -> DeadLetter:
        record = change.record
        self.observe(DeadLettered(record.document, "derive", "limit", problem))
        now = self.now()
        return DeadLetter(
            id=record_letter_id(record.key, record.version),
            source=self.source,
            document_id=record.document,
            stage="derive",
            code="limit",
            message=problem,
            attempts=1,
            first_failed_at=now,
            last_failed_at=now,
            run_id=self.run_id,
            key=record.key,
            digest=record.version,
            operation=Operation.CREATE if isinstance(change, Create) else Operation.UPDATE,
            record=self.destination.encode(change),
            is_edited=record.edited_from is not None,
        )


def _planned(changes: Sequence[Change], obsolete: Sequence[RecordKey]) -> list[tuple[Operation, RecordKey]]:
    """What is to be done with which records, for those who want to tell."""
    planned = [
        (Operation.CREATE if isinstance(change, Create) else Operation.UPDATE, change.record.key)
        for change in changes
        if not isinstance(change, Delete)
    ]
    return planned + [(Operation.DELETE, key) for key in obsolete]


def _letter_of(record: Record) -> str:
    """The id of the letter that `record` has if it was given up on."""
    return record_letter_id(record.key, record.version)


async def plan_changes(
    derived: MemoryObjectReceiveStream[list[Planned]],
    planned: MemoryObjectSendStream[list[DocumentPlan | Checkpoint]],
    *,
    planner: Planner,
) -> None:
    """Compare what documents should be with what the memory holds."""
    async with derived, planned:
        async for items in derived:
            await planned.send(await planner.plan(items))


async def healed_letters(state: StateStore, sightings: Sightings) -> list[str]:
    """The dead letters about parts of the source that could not be listed once and were listed by this scan."""
    return [
        letter.id
        for letter in await state.letters(with_records=False)
        if letter.stage == "scan" and sightings.is_healed_scope(letter.document_id)
    ]


async def moot_letters(state: StateStore) -> list[str]:
    """The dead letters about deletions of records that the ledger has no more: somebody else has deleted them."""
    letters = await state.letters(with_records=False)
    deletions = [(letter, letter.key) for letter in letters if letter.operation is Operation.DELETE and letter.key]
    known = await state.records_at([(letter.document_id, key) for letter, key in deletions])
    return [letter.id for letter, key in deletions if key not in known]


# ------------------------------------------------------------------------------------------------ removals


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """`max_fraction` of the known documents may vanish in one run; more trips the guard unless `allow_mass`."""

    is_enabled: bool = True
    max_fraction: float = 0.2
    allow_mass: bool = False


def is_mass_deletion(removed: int, known: int, listed: int, max_fraction: float) -> bool:
    """Whether so many removals look like a fault of the source rather than like somebody's wish."""
    if removed == 0:
        return False
    allowed = max_fraction * known + 1e-9  # 0.29 * 100 is a little less than 29
    return listed == 0 or (removed > GUARDED_DOCUMENTS_MIN and removed > allowed)


def has_nothing_asked_for(sightings: Sightings, max_fraction: float) -> bool:
    """Whether a source that shows only what is new has none of the documents that it was asked for.

    That is what an empty listing is elsewhere. A run asks for some of them only, so the fraction of all stays small.
    """
    return sightings.asked_there == 0 and sightings.asked_gone > GUARDED_DOCUMENTS_MIN and max_fraction < 1


async def may_delete(
    state: StateStore, sightings: Sightings, policy: DeletePolicy, observe: Observer, *, emptied: int
) -> bool:
    """Decide whether this run may delete at all; if it would have and may not, say so.

    `emptied` documents are still there and would lose all their records: a folder of truncated files is as likely
    a fault as an empty folder.
    """
    known = sightings.known  # before this run: what it added must not make the loss look small
    removed = emptied
    some: list[DocumentId] = []
    async with aclosing(unseen(state, sightings)) as pages:
        async for page in pages:
            counted = [document.state.id for document in page if is_counted(document)]
            removed += len(counted)
            some += counted[: WITHHELD_TOLD_MAX - len(some)]
    if not policy.is_enabled:
        if removed:
            observe(DeletesWithheld("disabled", removed, known, some))
        return False
    if removed and not policy.allow_mass:
        is_of_asked = has_nothing_asked_for(sightings, policy.max_fraction)
        if is_of_asked or is_mass_deletion(removed, known, sightings.listed, policy.max_fraction):
            observe(DeletesWithheld("guard", removed, known, some, is_of_asked))
            return False
    return True


async def unseen(state: StateStore, sightings: Sightings) -> AsyncGenerator[list[KnownDocument], None]:
    """The documents that the scan should have shown and did not, those that it said are gone, and lost parts."""
    for document in sorted(sightings.removed):
        itself = await state.documents([document])
        told = [*itself.values(), *await state.parts(document)]
        if told and not sightings.is_broken_scope(document):
            yield told
    for file in sorted(sightings.shrunk - sightings.removed):
        if not sightings.is_broken_scope(file) and not sightings.is_listed_scope(file):  # where they are found below
            yield [part for part in await state.parts(file) if not sightings.has(part.row)]
    if sightings.has_all() or not sightings.complete:
        return
    row = 0
    while rows := await state.rows_after(row, up_to=sightings.last_row, limit=PAGE_OF_ROWS):
        row = rows[-1]
        missing = [each for each in rows if not sightings.has(each)]
        for start in range(0, len(missing), PAGE):
            documents = await state.documents_at(missing[start : start + PAGE])
            yield [
                document
                for document in documents
                if sightings.is_listed_scope(document.state.origin) and document.state.origin not in sightings.removed
            ]


async def find_vanished(
    state: StateStore, connector: SourceConnector, sightings: Sightings, observe: Observer
) -> AsyncGenerator[list[DocumentId], None]:
    """Yield the documents that the source has no more, in pages.

    Each is proven gone twice: the scan listed everything where it was without it, and the source, asked for it once
    more, does not have it.
    """
    async with aclosing(unseen(state, sightings)) as pages:
        async for page in pages:
            origins = await state.documents({document.state.origin for document in page})
            gone = []
            for document in page:
                origin = origins.get(document.state.origin)
                # A part whose file was read to its end is proven by that; everything else is asked for once more.
                was_read = origin is not None and origin.row != document.row and sightings.has(origin.row)
                if was_read or await _is_gone(connector, document.state.origin, observe):
                    gone.append(document)
            if gone:
                counted = [document for document in gone if is_counted(document)]
                ids = [document.state.id for document in counted]
                observe(DocumentsRemoved(len(counted), sum(document.records for document in counted), ids))
                yield [document.state.id for document in gone]


async def _is_gone(connector: SourceConnector, document: DocumentId, observe: Observer) -> bool:
    with telling(observe, Wait("scan", "source", document)):
        return await connector.locate(document) is None


def is_counted(document: KnownDocument) -> bool:
    return not document.state.has_parts and document.state.skipped is None


async def plan_deletes(
    state: StateStore,
    planned: MemoryObjectSendStream[list[DocumentPlan | Checkpoint]],
    *,
    only: Collection[DocumentId] | None = None,
    resends: Resends = NO_RESENDS,
    observe: Observer = nobody,
) -> None:
    """Delete what no document asks for any more. To be run once everything else is settled: new before old.

    `only` the records of some documents, unless that is None. What has failed to be deleted is tried again if its
    letter is among `resends`.
    """
    async with planned:
        after = FIRST_PLACE
        # A record that was sent again and failed again is still one that the old has to wait for.
        while page := await state.obsolete(after, limit=PAGE, despite=resends.deletions):
            after = page[-1].place
            doomed = tuple(Delete(record) for record in page if only is None or record.document in only)
            if resent := len({change.known.key for change in doomed}.intersection(resends.deletions.values())):
                observe(LettersResent(resent))
            await planned.send([DocumentPlan(None, changes=doomed)])
