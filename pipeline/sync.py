"""THE pipeline, wired from top to bottom. Start reading here."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from anyio import create_memory_object_stream, create_task_group

from pipeline.dry_run import DryRun
from pipeline.errors import SourceError
from pipeline.events import LettersDue, LettersResent, Reconciled, StateIsCopy, Wait, telling
from pipeline.job import SourceJob
from pipeline.model import (
    NO_RESENDS,
    Batch,
    Checkpoint,
    DeadLetter,
    DocumentId,
    DocumentPlan,
    Fetched,
    Operation,
    Planned,
    RecordKey,
    Resends,
)
from pipeline.planner import find_vanished, healed_letters, may_delete, moot_letters, plan_changes, plan_deletes
from pipeline.protocols import ChangeSink
from pipeline.reader import (
    Listing,
    Selected,
    derive_documents,
    fetch_documents,
    locate_documents,
    locate_to_renew,
    locate_waiting,
    scan_source,
    select_documents,
)
from pipeline.sightings import Sightings
from pipeline.verifying import Verification


async def sync(job: SourceJob) -> None:
    """Bring the memory up to date with the source.

    Raises:
        SourceError: the source could not be read; nothing was deleted.
        FatalError: the memory cannot be written; what is not stored stays in the outbox.
        StateError: the ledger or the dead-letter file could not be written.
        LeaseLost: another run may have taken the source over.
    """
    await trust_state(job)
    # An interrupted run's batches go first: planning must see what they wrote.
    delivered = await job.delivery().deliver_outbox()
    await look_again(job)
    await bring_in_line(job, await look_out(job, delivered))


async def bring_in_line(job: SourceJob, sightings: Sightings) -> None:
    """Store what the source has, then delete what it has no more. The ledger must speak of the memory as it is."""
    resends = await due_letters(job)
    await bring_in_all(job, sightings, resends)
    await job.state.remove_letters([*await healed_letters(job.state, sightings), *await moot_letters(job.state)])
    if not sightings.complete and not sightings.incremental:
        raise SourceError(why_incomplete(sightings))
    has_taken_out = await take_out(job, sightings, resends=resends)
    has_done_all = job.scope is None or not job.scope.held_back
    if sightings.checkpoint and (has_taken_out or not job.deletes.is_enabled) and has_done_all:
        await job.state.save([], [], sightings.checkpoint)


def why_incomplete(sightings: Sightings) -> str:
    """What to say of a scan after which nothing may be concluded of any document."""
    if sightings.broken:
        return (
            "No part of the source could be listed to its end. What was listed is in the memory; nothing was deleted."
            " `memsync dead-letters` tells what went wrong; the next run lists it anew."
        )
    return (
        "The source stopped without saying that it had listed everything. What it listed is in the memory; nothing"
        " was deleted. If it happens again, its connector is at fault."
    )


async def trust_state(job: SourceJob) -> None:
    """Make sure that the ledger speaks of the memory as it is now.

    A copy that was put in its place may not, nor one whose rebuilding was interrupted.
    """
    is_copy = await job.state.is_copy()
    if is_copy:
        job.observe(StateIsCopy())
    if is_copy or await is_unfinished(job):
        job.observe(reconciled(await rebuild(job)))
    else:
        await job.state.put_mark()


async def is_unfinished(job: SourceJob) -> bool:
    """Whether the ledger was being rebuilt when something came in between: a new one has no records yet."""
    return await job.state.acquainted_at() is None and (await job.state.counts()).records > 0


async def look_again(job: SourceJob) -> None:
    """Compare with the memory once more, some time after a new ledger met it for the first time.

    A ledger that was lost a moment after it was written to is not noticed at first: the memory does not show yet what
    it was told.
    """
    looked_at = await job.state.acquainted_at()
    if looked_at and job.now() > looked_at + job.settle_s:
        job.observe(reconciled(await compare(job)))
        await job.state.note_acquainted()


async def compare(job: SourceJob, *, is_certain: bool = False) -> Verification:
    """Bring the ledger in line with what the memory shows; `is_certain` as for `Verifier.reconcile`."""
    with telling(job.observe, Wait("verify", "service")):
        return await job.verifier().reconcile(is_certain=is_certain)


def reconciled(found: Verification) -> Reconciled:
    return Reconciled(
        found.checked,
        missing=found.missing,
        expired=found.expired,
        changed=found.changed,
        foreign=found.foreign,
        duplicate=found.duplicate,
        unattributed=found.unattributed,
    )


async def rebuild(job: SourceJob) -> Verification:
    """Make the ledger say what the memory holds, whatever it says now. Writes nothing to the memory.

    Raises:
        DestinationError, StateError, LeaseLost: it stopped; the next run begins anew with it.
    """
    # What was sent of the outbox is shown by the memory; what was not is planned anew.
    await job.state.discard_outbox()
    found = await compare(job, is_certain=True)
    # In this order: what is cut off in between is rebuilt again.
    await job.state.put_mark()
    await job.state.note_acquainted()
    return found


async def repair(job: SourceJob) -> Verification:
    """Make the ledger say what the memory holds. Writes nothing to the memory: the next sync brings it in line.

    Raises:
        DestinationError, StateError, LeaseLost: it stopped; running it again carries on.
    """
    await trust_state(job)
    has_looked = await job.state.acquainted_at() is not None
    if has_looked and not await job.state.outbox():
        return await compare(job)
    return await rebuild(job)  # which also ends a batch that the memory never answers


async def look_out(job: SourceJob, delivered: Mapping[DocumentId, set[RecordKey]] | None = None) -> Sightings:
    """What a scan that begins now has seen: nothing yet."""
    counts = await job.state.counts()
    return Sightings(
        await job.state.last_row(),
        known=counts.documents,
        rows=counts.rows,
        unattributed=counts.unattributed,
        delivered=delivered or {},
    )


async def due_letters(job: SourceJob) -> Resends:
    """The dead letters whose reason may have passed and whose time has come."""
    letters = await job.state.letters(with_records=False)
    can_be_sent = [letter for letter in letters if job.deletes.is_enabled or letter.operation is not Operation.DELETE]
    due = [letter for letter in can_be_sent if job.auto_replay.is_due(letter, job.now())]
    if due:
        job.observe(LettersDue(len(due)))
    return await resends_of(job, due)


async def resends_of(job: SourceJob, letters: Collection[DeadLetter]) -> Resends:
    """What it takes to send `letters` again."""
    known = await job.state.documents({letter.document_id for letter in letters})
    origins = {
        known[letter.document_id].state.origin if letter.document_id in known else letter.document_id
        for letter in letters
    }
    return Resends(
        letters=frozenset(letter.id for letter in letters),
        deletions={letter.id: letter.key for letter in letters if letter.operation is Operation.DELETE and letter.key},
        origins=frozenset(origins),
        edits=job.edits,
    )


async def bring_in_all(job: SourceJob, sightings: Sightings, resends: Resends, dry: DryRun | None = None) -> None:
    """Bring in what the source shows; where it shows only what is new, also what earlier runs could not read, and what
    must be renewed.
    """
    listing = scan_source(job.connector, await job.state.checkpoint(), job.listing_basis, job.observe)
    await bring_in(job, sightings, listing, resends=resends, dry=dry)
    if sightings.incremental:
        waiting = locate_waiting(job.connector, job.state, sightings, resends, job.observe)
        await bring_in(job, sightings, waiting, resends=resends, dry=dry)
        renewed = locate_to_renew(
            job.connector, job.state, sightings, job.renewal(), job.observe,
            is_dry=dry is not None, may_delete=job.deletes.is_enabled,
        )  # fmt: skip
        await bring_in(job, sightings, renewed, resends=resends, dry=dry)


async def bring_in(
    job: SourceJob,
    sightings: Sightings,
    listing: Listing,
    *,
    resends: Resends = NO_RESENDS,
    dry: DryRun | None = None,
) -> None:
    """The way of a document: list, select, fetch, derive (parse and chunk), plan, batch, write (which settles).

    A dry way ends after plan.
    """
    # Few lists wait between two stages: that bounds the memory, and a slow stage holds back those before it.
    selected_in, selected = create_memory_object_stream[list[Selected]](2)
    fetched_in, fetched = create_memory_object_stream[list[Fetched]](1)
    derived_in, derived = create_memory_object_stream[list[Planned]](1)
    planned_in, planned = create_memory_object_stream[list[DocumentPlan | Checkpoint]](1)
    batches_in, batches = create_memory_object_stream[Batch](job.writers)

    select = partial(
        select_documents, state=job.state, parser=job.parser, recipe=job.rules.recipe, renewal=job.renewal(),
        sightings=sightings, always=resends.origins, observe=job.observe,
        renames=job.renames(sightings, is_dry=dry is not None),
    )  # fmt: skip
    fetch = partial(fetch_documents, connector=job.connector, observe=job.observe)
    plan = partial(plan_changes, planner=job.planner(sightings, resends))

    async with job.open_workers(job.deriver()) as derive, create_task_group() as tasks:
        tasks.start_soon(select, listing, selected_in)
        tasks.start_soon(fetch, selected, fetched_in)
        tasks.start_soon(partial(derive_documents, derive=derive), fetched, derived_in)
        tasks.start_soon(plan, derived, planned_in)
        tasks.start_soon(dry.note_plans if dry else job.batch(), planned, batches_in)
        tasks.start_soon(job.write(), batches)


async def take_out(
    job: SourceJob, sightings: Sightings, *, resends: Resends = NO_RESENDS, dry: DryRun | None = None
) -> bool:
    """Delete what the source has no more, once everything that it has is stored; nothing, if the guard objects.

    Returns False if something is left for another run.
    """
    emptied = sightings.emptied if dry else await job.state.emptied()
    if not await may_delete(job.state, sightings, job.deletes, job.observe, emptied=emptied):
        if dry:
            await dry.withhold_deletes()
        return False
    async with aclosing(find_vanished(job.state, job.connector, sightings, job.observe)) as pages:
        async for vanished in pages:
            if dry:
                await dry.note_vanished(vanished)
            else:
                await job.state.remove(await job.scope.removable(job.state, vanished) if job.scope else vanished)
    if dry:
        if resent := await dry.note_obsolete(resends.deletions):
            job.observe(LettersResent(resent))
    else:
        await delete_obsolete(job, resends=resends)
    return not any(map(sightings.is_broken_scope, sightings.removed | sightings.shrunk))


async def delete_obsolete(
    job: SourceJob, *, only: Collection[DocumentId] | None = None, resends: Resends = NO_RESENDS
) -> None:
    """Delete the records that nothing asks for any more; with `only`, those of these documents."""
    planned_in, planned = create_memory_object_stream[list[DocumentPlan | Checkpoint]](1)
    batches_in, batches = create_memory_object_stream[Batch](job.writers)
    async with create_task_group() as tasks:
        tasks.start_soon(partial(plan_deletes, only=only, resends=resends, observe=job.observe), job.state, planned_in)
        tasks.start_soon(job.batch(), planned, batches_in)
        tasks.start_soon(job.write(), batches)


async def preview(job: SourceJob, sinks: Sequence[ChangeSink] = ()) -> None:
    """Tell the observers what a run would do, and `sinks` each change. Touches neither the memory nor the state.

    Raises:
        SourceError, StateError: as for `sync`; without `sinks`, a listing that breaks off is not one.
    """
    sightings = await look_out(job)
    dry = DryRun(job.state, sightings, sinks)
    resends = await due_letters(job)
    await bring_in_all(job, sightings, resends, dry)
    if sinks and not sightings.complete and not sightings.incremental:
        raise SourceError(why_incomplete(sightings))
    await take_out(job, sightings, resends=resends, dry=dry)


async def replay(job: SourceJob) -> None:
    """Try again what was given up on: the chosen letters, or all that nobody has dropped.

    Each of their documents is read afresh and planned again: a letter that a newer version has overtaken goes by that,
    and running it twice sends nothing twice. The other letters of a document stay as they are.

    Raises:
        SourceError, FatalError, StateError: as for `sync`.
    """
    await trust_state(job)
    delivered = await job.delivery().deliver_outbox()
    letters = [letter for letter in await replayable_letters(job) if letter.stage != "scan"]
    resends = await resends_of(job, letters)
    listing = locate_documents(job.connector, sorted(resends.origins), job.observe)
    await bring_in(job, await look_out(job, delivered), listing, resends=resends)
    # Deletions of other documents wait for the next sync, which lists the source and asks the guard.
    if job.deletes.is_enabled:
        only = resends.origins.union(letter.document_id for letter in letters)
        await delete_obsolete(job, only=only, resends=resends)
    await job.state.remove_letters(await moot_letters(job.state))


async def replayable_letters(job: SourceJob) -> Sequence[DeadLetter]:
    if job.chosen is None:
        return await job.state.letters(with_records=False)
    letters = await job.state.letters(with_dropped=True, with_records=False)
    return [letter for letter in letters if letter.id in job.chosen]
