"""Carries out a saved plan: plans anew, compares, and only if nothing has moved makes those changes, and no others."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from pipeline.errors import PlanOutdated, PlanRefused
from pipeline.events import RunEvent
from pipeline.job import SourceJob
from pipeline.model import (
    DeadLetter,
    DocumentId,
    LeftChanges,
    Operation,
    PlanDifferences,
    PlanHeader,
    PlanUse,
)
from pipeline.plan_scope import PlanScope
from pipeline.protocols import ChangeSink, PlannedChanges
from pipeline.sync import bring_in_line, is_unfinished, look_again, look_out, preview

NAMED_MAX = 5  # documents in one message


class LoadedPlan(PlannedChanges, ChangeSink, Protocol):
    """The changes of a saved plan beside those that a run would make now, which it takes down."""

    async def differences(self, examples_max: int) -> PlanDifferences:
        """Compare the changes of the plan with those that were noted."""
        ...

    async def left(self, is_told: Callable[[DocumentId, Operation], bool], examples_max: int) -> LeftChanges:
        """The changes that were noted and not made, apart from those of which `is_told` says that something tells."""
        ...


async def make_plan(job: SourceJob, sinks: Sequence[ChangeSink], *, plan_id: str, memory: str) -> PlanHeader:
    """Tell `sinks` each change that a run would make, for a plan that is to be saved; return what it rests on.

    Raises:
        PlanOutdated: what a run would do is not known before it delivers what an earlier one has left.
        SyncError: as for `preview`.
    """
    if await job.state.outbox():
        raise PlanOutdated(
            "An interrupted run has left batches in the outbox, and what they come to is not known before they are"
            " delivered: no plan can be exact. `memsync run` delivers them and goes on; `memsync replay` delivers them"
            " and tries dead letters again."
        )
    if await job.state.is_copy() or await is_unfinished(job):
        raise PlanOutdated(
            "The state was restored, moved or only half rebuilt, so it may not say what the memory holds: no plan can"
            " be exact. `memsync verify --repair` compares the two."
        )
    last = await job.state.last_run()
    planned_at = job.now()
    await preview(replace(_without_replays(job), renew_by=planned_at), sinks)
    return PlanHeader(
        plan_id=plan_id,
        source=job.rules.source,
        memory=memory,
        basis=job.listing_basis,
        planned_at=planned_at,
        last_run=last.id if last else None,
        allows_mass_deletion=job.deletes.allow_mass,
    )


def _without_replays(job: SourceJob) -> SourceJob:
    """`job`, leaving the dead letters to plain runs: when they are due depends on the hour, and not on the plan."""
    return replace(job, auto_replay=replace(job.auto_replay, is_enabled=False))


async def apply_plan(job: SourceJob, header: PlanHeader, plan: LoadedPlan) -> None:
    """Make the changes of `plan`. One that was cut off is carried on with.

    Raises:
        PlanRefused: it was used, or does not fit any more, and nothing was sent.
        PlanOutdated: something moved while it was carried out, and what it does not say was left alone.
        SyncError: as for `sync`.
    """
    use = await job.state.plan_use(header.plan_id)
    await _require_fitting_state(job, header, use)
    await job.state.put_mark()
    delivered = await job.delivery().deliver_outbox()  # of this plan, if there is anything
    await look_again(job)
    deletes = replace(job.deletes, allow_mass=header.allows_mass_deletion)
    # What has become due to be renewed since is left for another run: it is no reason to plan again.
    job = replace(_without_replays(job), renew_by=header.planned_at)
    await preview(replace(job, observe=_nobody, deletes=deletes), [plan])
    await _require_same_changes(job, header, plan, is_carried_on=use is not None)

    await job.state.note_plan_use(header.plan_id, PlanUse())
    scope = PlanScope(plan)
    # The guard has let its deletions pass, or a person has: it is not asked once more about them.
    job = replace(job, scope=scope, deletes=replace(deletes, allow_mass=header.withheld == 0))
    await bring_in_line(job, await look_out(job, delivered))
    await job.state.note_plan_use(header.plan_id, PlanUse(job.now()))
    letters = await job.state.letters(with_records=False)
    is_told = _told_by([letter for letter in letters if letter.run_id == job.run_id])
    _require_all_made(scope, await plan.left(is_told, NAMED_MAX))


async def _require_fitting_state(job: SourceJob, header: PlanHeader, use: PlanUse | None) -> None:
    if use is not None and use.ended_at is not None:
        at = datetime.fromtimestamp(use.ended_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise PlanRefused(f"This plan was carried out already, at {at}; a plan is used once. Nothing was sent.")
    if header.basis != job.listing_basis:
        raise PlanRefused(
            "The settings of the source, or what can be read here, have changed since the plan was made. Nothing was"
            " sent."
        )
    if await job.state.is_copy() or await is_unfinished(job):
        raise PlanRefused(
            "The state was restored, moved or only half rebuilt since the plan was made, so it may not say what the"
            " memory holds. Nothing was sent. `memsync verify --repair` compares the two first."
        )
    if use is None and await job.state.outbox():
        raise PlanRefused(
            "A run was cut off after the plan was made, and what it has left in the outbox would be sent first. Nothing"
            " was sent. `memsync run` finishes that run."
        )


async def _require_same_changes(job: SourceJob, header: PlanHeader, plan: LoadedPlan, *, is_carried_on: bool) -> None:
    """A plan that is carried on with has been made in part already: what is missing by now is no difference."""
    found = await plan.differences(NAMED_MAX)
    documents = found.unplanned if is_carried_on else found.unplanned + found.missing
    if not documents:
        return
    last = await job.state.last_run(before=job.run_id)
    has_run = (last.id if last else None) != header.last_run
    what_else = "a run was made" if has_run else "a dead letter was dropped"
    cause = f"the source has moved, or {what_else} since"
    raise (PlanOutdated if is_carried_on else PlanRefused)(
        f"The plan does not fit any more: {cause}. A run would now do something else with {_named(documents, found)}."
        f" Nothing {'more ' if is_carried_on else ''}was sent."
    )


def _named(documents: int, found: PlanDifferences) -> str:
    examples = found.examples[:documents]
    more = documents - len(examples)
    names = ", ".join(map(repr, examples)) + (f" and {more:,} more" if more else "")
    return f"{documents:,} document{'' if documents == 1 else 's'} than the plan says: {names}"


def _require_all_made(scope: PlanScope, left: LeftChanges) -> None:
    if scope.held_back or left.count:
        raise PlanOutdated(
            f"The source moved while the plan was carried out: {left.count:,} of its changes were not to be made any"
            f" more{_named_changes(left)}, and {scope.held_back:,} that it does not have were left for another plan."
            " All others were made."
        )


def _named_changes(left: LeftChanges) -> str:
    if not left.count:
        return ""
    named = [
        f"{count:,} {operation}{'' if count == 1 else 's'} of {document!r}"
        for document, operation, count in left.examples
    ]
    more = left.count - sum(count for _, _, count in left.examples)
    return f" ({', '.join(named)}{f' and {more:,} others' if more else ''})"


def _told_by(letters: Collection[DeadLetter]) -> Callable[[DocumentId, Operation], bool]:
    """Whether `letters`, of one run, tell why it did not make a change.

    What could not be listed or read changes nothing, and nor do its parts. Nothing is deleted of a document as long as
    something that it says is not stored.
    """
    scopes = tuple(letter.document_id for letter in letters if letter.stage == "scan")
    unread = {letter.document_id for letter in letters if letter.stage in ("fetch", "parse")}
    incomplete = {letter.document_id for letter in letters if letter.stage in ("derive", "write")}

    def is_told(document: DocumentId, operation: Operation) -> bool:
        names = document.split("#")
        is_unread = any("#".join(names[: end + 1]) in unread for end in range(len(names)))
        return is_unread or document.startswith(scopes) or (operation is Operation.DELETE and document in incomplete)

    return is_told


def _nobody(_event: RunEvent) -> None:
    """Hears nothing of it."""
