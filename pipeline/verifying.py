"""Compares what the ledger believes with what the memory shows, and brings the ledger in line with it.

A listing only points at differences, since it lags behind: each is proven by asking for the record itself, or, where
there are too many to ask, by a second listing after the time that the first one may have been late.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from anyio import sleep

from pipeline.expiry import has_lapsed
from pipeline.limits import ServiceLimits
from pipeline.mapping import RecordRules, namespace_root
from pipeline.memory_check import YOUNG_RECORD_S
from pipeline.model import (
    FIRST_PLACE,
    DocumentRef,
    DocumentRemoved,
    FoundRecord,
    KnownRecord,
    MemoryRecordId,
    RecordKey,
    ScanComplete,
    ScanError,
    ScanIncremental,
)
from pipeline.planner import is_counted, unseen
from pipeline.protocols import Comparison, Destination, DocumentParser, SourceConnector, StateStore
from pipeline.provenance import digest_of_content, found_record, is_of_source, key_of
from pipeline.reader import may_have_changed, resume_point
from pipeline.sightings import Sightings

PAGE = 500
ASKED_FOR_MAX = 200  # more differences are proven by a second listing: a listing shows 100 records for one request
PROVING_LISTING = 2  # comes long enough after the first one to be believed
EXAMPLES_MAX = 20  # of records that memsync cannot tell what to do about


@dataclass(frozen=True, slots=True)
class Differences:
    """Proven differences between the ledger and the memory; a comparison gives them in several of these.

    missing: in the ledger, and the memory has no such record. expired: the same, and its time is over; or the memory
    still shows it then. changed: not as it was stored. foreign: bears the source's name, and the ledger does not know
    it. duplicate: a second copy of one that the ledger knows. unattributed: foreign, and does not say which document it
    is of, so that nothing can be proven of it; `claimable` are those among them that have a key, by which a document
    may ask for them.
    """

    missing: Sequence[KnownRecord] = ()
    expired: Sequence[KnownRecord] = ()
    changed: Sequence[KnownRecord] = ()
    foreign: Sequence[FoundRecord] = ()
    duplicate: Sequence[FoundRecord] = ()
    unattributed: Sequence[MemoryRecordId] = ()
    claimable: Sequence[FoundRecord] = ()


@dataclass(slots=True)
class Verification:
    """How the memory compares with the ledger, in records; see `Differences`. `examples` are of the unattributed."""

    checked: int = 0
    missing: int = 0
    expired: int = 0
    changed: int = 0
    foreign: int = 0
    duplicate: int = 0
    unattributed: int = 0
    examples: list[MemoryRecordId] = field(default_factory=list)

    def count(self, found: Differences) -> None:
        self.missing += len(found.missing)
        self.expired += len(found.expired)
        self.changed += len(found.changed)
        self.foreign += len(found.foreign)
        self.duplicate += len(found.duplicate)
        self.unattributed += len(found.unattributed)
        self.examples += found.unattributed[: EXAMPLES_MAX - len(self.examples)]


@dataclass(frozen=True, slots=True)
class Verifier:
    """`settle_s` is how long a listing may lag behind what was written, in seconds; `now` the time of day."""

    state: StateStore
    memory: Destination
    rules: RecordRules
    limits: ServiceLimits
    settle_s: float
    now: Callable[[], float]

    async def verify(self) -> Verification:
        """Compare every record of the source. Changes nothing.

        Raises:
            DestinationError, StateError: the memory could not be asked, or the ledger not read.
        """
        result = Verification()
        async with (
            self.state.compared() as comparison,
            aclosing(self._differences(comparison, result, is_certain=False)) as all_found,
        ):
            async for found in all_found:
                result.count(found)
        return result

    async def reconcile(self, *, is_certain: bool = False) -> Verification:
        """Compare, and make the ledger say what the memory holds. Writes nothing to the memory.

        What is missing or changed is let go of, what is foreign is taken over, second copies are made obsolete: the
        next run does the rest, under the same rules as for any other change. What is unattributed is remembered, so
        that a document that has just its text claims it instead of being written once more. With `is_certain`, the
        ledger is known to be wrong and nothing is believed that only one listing showed.

        Raises:
            DestinationError, StateError, LeaseLost: it stopped; what was brought in line before is right.
        """
        result = Verification()
        async with (
            self.state.compared() as comparison,
            aclosing(self._differences(comparison, result, is_certain=is_certain)) as all_found,
        ):
            async for found in all_found:
                result.count(found)
                await self.state.forget([*found.missing, *found.expired], found.changed)
                await self.state.adopt(found.foreign, found.duplicate, found.claimable)
        return result

    async def _differences(
        self, comparison: Comparison, result: Verification, *, is_certain: bool
    ) -> AsyncGenerator[Differences, None]:
        unattributed = await self._list_into(comparison, listing=1)
        _, differences = await comparison.counts()
        listings = 1
        if is_certain or differences > ASKED_FOR_MAX:
            await sleep(self.settle_s)
            listings = PROVING_LISTING
            unattributed = await self._list_into(comparison, listing=listings)
        is_proven = listings == PROVING_LISTING
        result.checked, _ = await comparison.counts()
        yield Differences(unattributed=unattributed)

        async with aclosing(_pages(partial(comparison.unseen, listing=listings))) as pages:
            async for page in pages:
                result.checked += len(page)
                yield self._absent(page) if is_proven else await self._ask(page)
        async with aclosing(_pages(comparison.changed)) as pages:
            async for page in pages:
                yield Differences(changed=page) if is_proven else await self._ask(page)
        async with aclosing(_pages(comparison.unattributed)) as pages:
            async for page in pages:
                yield Differences(unattributed=[known.memory_record_id for known in page])
        # Last, since what is missing is let go of by then: another copy of it is not a second one.
        for listing in range(listings, 0, -1):
            async with aclosing(self._unknown(comparison, listing, is_proven=listing == PROVING_LISTING)) as unknown:
                async for found in unknown:
                    yield found

    async def _unknown(
        self, comparison: Comparison, listing: int, *, is_proven: bool
    ) -> AsyncGenerator[Differences, None]:
        """What the ledger does not know of: new copies told from records that it knows nothing of at all."""
        after: FoundRecord | None = None
        while page := await comparison.unknown(after, listing=listing, limit=PAGE):
            earlier_key = after.key if after else None
            after = page[-1]
            there = page if is_proven else await self._as_they_are(page)
            known = await self._known(there)
            foreign: list[FoundRecord] = []
            duplicate: list[FoundRecord] = []
            claimable: list[FoundRecord] = []
            for found in there:
                before = known.get(found.key)
                if before is not None and (before.document or not found.document):
                    if before.memory_record_id != found.memory_record_id:
                        duplicate.append(replace(found, document=before.document))
                elif found.key == earlier_key:
                    duplicate.append(found)
                elif found.document:
                    foreign.append(found)
                else:
                    claimable.append(found)
                earlier_key = found.key
            unattributed = [found.memory_record_id for found in claimable]
            yield Differences(foreign=foreign, duplicate=duplicate, unattributed=unattributed, claimable=claimable)

    async def _known(self, shown: Sequence[FoundRecord]) -> Mapping[RecordKey, KnownRecord]:
        """What the ledger has under the keys of `shown`."""
        known = await self.state.records_at([(found.document, found.key) for found in shown if found.document])
        nobodys = [found.key for found in shown if not found.document]
        return {**known, **await self.state.records_by_key(nobodys)} if nobodys else known

    async def _as_they_are(self, page: Sequence[FoundRecord]) -> list[FoundRecord]:
        """The records of `page`, which a listing shows, as the memory holds them: it may show what they were before.

        Not those that the ledger knows as they are, be it under another document: one that was renamed there and not
        yet in the memory.
        """
        found = []
        for shown in page:
            record = await self.memory.get(shown.memory_record_id)
            if record is not None and is_of_source(record, self.rules.source, self.limits):
                now = found_record(record, self.rules.strategy_id)
                found += [now] if now is not None else []
        known = await self.state.records_by_key([record.key for record in found])
        known_ids = {record.memory_record_id for record in known.values() if record.document}
        found = [record for record in found if record.memory_record_id not in known_ids]
        return sorted(found, key=lambda record: (record.key, record.created_at))

    async def _list_into(self, comparison: Comparison, *, listing: int) -> list[MemoryRecordId]:
        """List the memory into `comparison`; return the ids of records that bear our name and no key."""
        keyless: list[MemoryRecordId] = []
        async with aclosing(self.memory.list_records(namespace_path=namespace_root(self.rules))) as pages:
            async for page in pages:
                ours = [record for record in page if is_of_source(record, self.rules.source, self.limits)]
                found = [found_record(record, self.rules.strategy_id) for record in ours]
                await comparison.note([record for record in found if record is not None], listing=listing)
                keyless += [record.id for record, known in zip(ours, found, strict=True) if known is None]
        return keyless

    def _absent(self, records: Sequence[KnownRecord]) -> Differences:
        """What it means that the memory has none of `records`."""
        expired = [known for known in records if has_lapsed(known, self.now())]
        return Differences(missing=[known for known in records if not has_lapsed(known, self.now())], expired=expired)

    async def _ask(self, page: Sequence[KnownRecord]) -> Differences:
        """What the memory says of each record of `page`, which a listing does not show or shows as another one."""
        missing, expired, changed = [], [], []
        records = {known.key: await self.memory.get(known.memory_record_id) for known in page}
        absent = [known for known in page if records[known.key] is None]
        if absent:
            await sleep(YOUNG_RECORD_S)
        records |= {known.key: await self.memory.get(known.memory_record_id) for known in absent}
        for known in page:
            record = records[known.key]
            if record is None and has_lapsed(known, self.now()):
                expired.append(known)
            elif record is None or key_of(record) not in ("", known.key):  # its id has become another record
                missing.append(known)
            elif record.expires_at is not None and record.expires_at <= datetime.fromtimestamp(self.now(), UTC):
                expired.append(known)
            elif known.document and digest_of_content(record, self.rules.strategy_id) != known.digest:
                changed.append(known)
        return Differences(missing, expired, changed)


async def _pages(
    read: Callable[..., Awaitable[Sequence[KnownRecord]]],
) -> AsyncGenerator[Sequence[KnownRecord], None]:
    after = FIRST_PLACE
    while page := await read(after, limit=PAGE):
        after = page[-1].place
        yield page


# ------------------------------------------------------------------------------------------- the source


@dataclass(slots=True)
class SourceComparison:
    """How the source compares with the ledger, by its listing alone: in documents.

    `is_complete` is False if the source did not say that it listed everything; then `removed` is not known.
    """

    listed: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    is_complete: bool = False


async def compare_source(
    state: StateStore, connector: SourceConnector, parser: DocumentParser, recipe: str, listing_basis: str
) -> SourceComparison:
    """Tell what a run would have to look at. Fetches nothing and changes nothing.

    Raises:
        SourceError, StateError: the source could not be listed, or the ledger not read.
    """
    result = SourceComparison()
    sightings = Sightings(await state.last_row())
    async with aclosing(connector.scan(resume_point(await state.checkpoint(), listing_basis))) as scan:
        async for events in scan:
            refs = [event for event in events if isinstance(event, DocumentRef) and not parser.reason_to_skip(event)]
            known = await state.documents([ref.id for ref in refs])
            result.listed += len(refs)
            for ref in refs:
                before = known.get(ref.id)
                if before is None:
                    result.added += 1
                    continue
                sightings.mark(before.row)
                for part in await state.parts(ref.id) if before.state.has_parts else ():
                    sightings.mark(part.row)
                result.changed += may_have_changed(ref, before, recipe, parser.abilities)
            sightings.complete.extend(event.scope for event in events if isinstance(event, ScanComplete))
            sightings.incremental.extend(event.scope for event in events if isinstance(event, ScanIncremental))
            sightings.removed.update(event.id for event in events if isinstance(event, DocumentRemoved))
            sightings.broken.extend(event.scope for event in events if isinstance(event, ScanError))
    result.is_complete = bool(sightings.complete or sightings.incremental) and not sightings.broken
    if result.is_complete:
        async with aclosing(unseen(state, sightings)) as pages:
            async for page in pages:
                result.removed += sum(is_counted(document) for document in page)
    return result
