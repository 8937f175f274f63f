"""Bugs to plant, each of which breaks the promise: what a refactoring, or a hurried mend, could do.

Each is a piece of the source and what stands there instead. A piece that is not found exactly once is an error, so that
no bug is disarmed by a change of the code.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mutant:
    """`breaks` says what goes wrong; `file` is below the project."""

    name: str
    breaks: str
    file: str
    old: str
    new: str

    def plant(self, project: Path) -> None:
        """Put the bug into the copy of the sources in `project`.

        Raises:
            ValueError: the piece is not there, or more than once.
        """
        path = project / self.file
        text = path.read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"mutant {self.name!r}: its piece of {self.file} stands there {count} times, not once")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


WRITER = "pipeline/writer.py"
SYNC = "pipeline/sync.py"
STATE = "pipeline/state/sqlite.py"
AGENTCORE = "pipeline/destinations/agentcore.py"
SETTLING = "pipeline/settling.py"
BATCHER = "pipeline/batcher.py"
PLANNER = "pipeline/planner.py"
VERIFYING = "pipeline/verifying.py"
LEASE = "pipeline/lease.py"
CHECK = "pipeline/memory_check.py"

SENDING = (
    Mutant(
        "new_token_per_attempt",
        "a retry is not recognised, so a lost reply creates everything twice",
        AGENTCORE,
        "            answer = await send(memoryId=self._memory_id, records=batch.body)",
        "            import uuid\n"
        "            body = batch.body.replace(batch.client_token.encode(), str(uuid.uuid4()).encode())\n"
        "            answer = await send(memoryId=self._memory_id, records=body)",
    ),
    Mutant(
        "other_bytes_when_sent_again",
        "the outbox does not give back the bytes that were sent under the token",
        STATE,
        "        return Batch(token, Operation(operation), _read_entries(entries), body, saved_at)",
        '        body = body.replace(b"{", b"{ ", 1)\n'
        "        return Batch(token, Operation(operation), _read_entries(entries), body, saved_at)",
    ),
    Mutant(
        "sent_before_saved",
        "a batch leaves before it is in the outbox: after a crash nobody knows of it",
        BATCHER,
        "        if full or plans or checkpoint:\n"
        "            await state.save(full, plans, checkpoint, begun=batcher.begun())\n"
        "        for batch in full:\n"
        "            await batches.send(batch)",
        "        for batch in full:\n"
        "            await batches.send(batch)\n"
        "        if full or plans or checkpoint:\n"
        "            await state.save(full, plans, checkpoint, begun=batcher.begun())",
    ),
    Mutant(
        "outbox_not_delivered_first",
        "what an interrupted run has stored is planned again as new",
        SYNC,
        "    # An interrupted run's batches go first: planning must see what they wrote.\n"
        "    delivered = await job.delivery().deliver_outbox()",
        "    delivered: dict[DocumentId, set[RecordKey]] = {}",
    ),
    Mutant(
        "old_token_trusted",
        "a batch is sent again under a token that the memory has forgotten",
        WRITER,
        "        return batch.operation is Operation.CREATE and not 0 <= age_s <= self.token_trust_s",
        "        return age_s < 0",
    ),
    Mutant(
        "aged_while_throttled",
        "a batch that an earlier run had stored is sent again after it was throttled for long",
        WRITER,
        "                result = await self._send(batch, turn, was_sent=was_sent or failures > 0)",
        "                result = await self._send(batch, turn, was_sent=failures > 0)",
    ),
    Mutant(
        "looked_up_too_early",
        "a listing that lags shows nothing, and the records are created again",
        WRITER,
        "        await self.lease.wait_for_unheard(self.now, self.settle_s)\n",
        "",
    ),
    Mutant(
        "found_records_not_adopted",
        "what a look-up has found is sent anew all the same",
        SETTLING,
        "        missing = [entry for entry in batch.entries if entry.key not in found]",
        "        missing = list(batch.entries)",
    ),
    Mutant(
        "late_updates_not_waited_for",
        "an update whose sender was overtaken lands after the newer one",
        WRITER,
        "            await self.lease.wait_for_unheard(self.now)\n        delivered",
        "            pass\n        delivered",
    ),
)

ANSWERS = (
    Mutant(
        "answers_matched_by_position",
        "the ids of stored records are given to their neighbours",
        AGENTCORE,
        "        for outcome in outcomes:\n"
        '            key = keys.get(outcome.get("requestIdentifier" if is_create else "memoryRecordId"))',
        "        for outcome, key in zip(outcomes, keys.values()):",
    ),
    Mutant(
        "silence_taken_for_success",
        "a record that the answer leaves out is settled without being stored",
        AGENTCORE,
        "    return BatchResult(succeeded, failed, frozenset(unknown))",
        "    return BatchResult(succeeded, failed)",
    ),
    Mutant(
        "failed_records_dropped",
        "what the memory refused is forgotten",
        SETTLING,
        "        for failure in result.failed:\n            entry = entries[failure.key]",
        "        for failure in ():\n            entry = entries[failure.key]",
    ),
    Mutant(
        "failed_taken_for_stored",
        "a record that failed for a while counts as stored",
        AGENTCORE,
        '        if (is_success and status == "SUCCEEDED") or (not is_success and is_gone):',
        '        if is_success or is_gone or outcome.get("errorCode") in (429, 500, 503):',
    ),
    Mutant(
        "contradiction_believed",
        "of two things that an answer says of a record the first one counts",
        AGENTCORE,
        "        if len(outcomes) > 1:\n            continue\n",
        "",
    ),
    Mutant(
        "delete_of_absent_fails",
        "a delete that is repeated becomes a dead letter instead of being done",
        AGENTCORE,
        '        is_gone = batch.operation is Operation.DELETE and outcome.get("errorCode") == 404',
        "        is_gone = False",
    ),
    Mutant(
        "denial_taken_for_poison",
        "while the credentials are wrong every record becomes a dead letter",
        AGENTCORE,
        "    if code in _REFUSALS or status == 413:",
        "    if code in _REFUSALS or status in (402, 403, 413):",
    ),
    Mutant(
        "whole_batch_given_up",
        "one bad record takes its neighbours with it",
        SETTLING,
        "        if len(batch.entries) == 1:\n"
        "            entry = batch.entries[0]._replace(attempts=batch.entries[0].attempts + 1)\n",
        "        if len(batch.entries) > 1:\n"
        "            return Settlement(batch)\n"
        "        if len(batch.entries) == 1:\n"
        "            entry = batch.entries[0]._replace(attempts=batch.entries[0].attempts + 1)\n",
    ),
    Mutant(
        "lost_update_forgotten",
        "a record that vanished from the memory is not created again",
        SETTLING,
        "            follow_ups=(*self._again(batch, [again], members), *self._anew(lost, members)),",
        "            follow_ups=self._again(batch, [again], members),",
    ),
)

LEDGER = (
    Mutant(
        "settled_in_two_transactions",
        "a crash between the two loses what the batch had stored",
        STATE,
        "        await self._write(self._settle, settlement)\n",
        "        token = settlement.batch.client_token\n"
        "        drop = 'DELETE FROM outbox WHERE token = ?'\n"
        "        await self._write(lambda: self._connection.execute(drop, (token,)))\n"
        "        await self._write(self._settle, settlement)\n",
    ),
    Mutant(
        "letters_not_kept",
        "a record that was given up on leaves no trace",
        STATE,
        "        self._add_letters(settlement.letters)\n",
        "",
    ),
    Mutant(
        "update_leaves_its_old_key",
        "a key that an update replaced stays, and its later deletion takes the live record",
        STATE,
        "        gone = [(entry.document, entry.replaces) for entry in (*stored, *settlement.lost)"
        " if entry.replaces]\n",
        "        gone: list[tuple[str, str]] = []\n",
    ),
    Mutant(
        "remembered_before_it_is_saved",
        "a document counts as read while some of its changes are in no batch yet",
        BATCHER,
        "        while self._plans and self._plans[0].waiting == 0:",
        "        while self._plans:",
    ),
    Mutant(
        "follow_ups_not_saved",
        "what is to be sent again is not in the outbox",
        STATE,
        "        self._add_to_outbox(settlement.follow_ups)\n",
        "",
    ),
    Mutant(
        "old_deleted_before_new_is_stored",
        "a document whose new version was refused loses its old one",
        STATE,
        "            WHERE obsolete = 1 AND (document, key) > (?, ?)\n"
        "              AND document NOT IN (\n"
        "                SELECT document FROM dead_letter\n"
        "                WHERE dropped_at IS NULL AND id NOT IN (SELECT value FROM json_each(?))\n"
        "              )\n",
        "            WHERE obsolete = 1 AND (document, key) > (?, ?) AND ? <> ''\n",
    ),
    Mutant(
        "refused_forever_forgotten",
        "a standing dead letter is dropped by the next plan, and the run says in sync",
        PLANNER,
        "                    given_up = True\n                    continue\n",
        "                    standing.clear()\n                    continue\n",
    ),
)

DELETES = (
    Mutant(
        "broken_scope_believed",
        "what is in a folder that could not be listed is deleted",
        "pipeline/sightings.py",
        " and not self.is_broken_scope(document)",
        "",
    ),
    Mutant(
        "no_second_look",
        "a document that the listing forgot is deleted",
        PLANNER,
        "                if was_read or await _is_gone(connector, document.state.origin, observe):",
        "                if was_read or connector:",
    ),
    Mutant(
        "empty_listing_believed",
        "a folder that is not mounted empties the memory",
        PLANNER,
        "    return listed == 0 or (removed > GUARDED_DOCUMENTS_MIN and removed > allowed)",
        "    return removed > GUARDED_DOCUMENTS_MIN and removed > allowed",
    ),
    Mutant(
        "fraction_not_guarded",
        "half of the documents vanish and nobody is asked",
        PLANNER,
        "    return listed == 0 or (removed > GUARDED_DOCUMENTS_MIN and removed > allowed)",
        "    return listed == 0",
    ),
    Mutant(
        "emptied_not_guarded",
        "documents that were cut to nothing empty the memory",
        PLANNER,
        "    removed = emptied\n",
        "    removed = 0\n",
    ),
)

OWNERSHIP = (
    Mutant(
        "fence_not_checked",
        "a run that was overtaken settles what is no longer its own",
        STATE,
        "        if fence != self._fence:",
        "        if fence < self._fence:",
    ),
    Mutant(
        "lease_not_looked_at",
        "a run that wakes up after its lease sends its old requests",
        WRITER,
        "        self.lease.check(self.now())\n",
        "",
    ),
    Mutant(
        "live_lease_ignored",
        "two runs work on one source at once",
        STATE,
        "        return fence, holder, ends_at, holder is not None and now < ends_at and not is_dead",
        "        return fence, holder, ends_at, False",
    ),
    Mutant(
        "lease_not_renewed",
        "a long run loses its lease to the next one",
        LEASE,
        "            await state.renew_lease(ends_at)\n",
        "",
    ),
)

MEMORY = (
    Mutant(
        "emptied_memory_written_to",
        "a memory that lost everything gets only what changed, and the run says in sync",
        CHECK,
        "                await self._require_known_records()\n",
        "",
    ),
    Mutant(
        "strangers_not_looked_for",
        "after the ledger was lost everything is written a second time",
        CHECK,
        "                    await self._require_no_strangers()\n",
        "",
    ),
    Mutant(
        "copy_not_noticed",
        "a restored state writes again what was written since",
        STATE,
        " and self._mark.seen() != marked_at",
        " and False",
    ),
    Mutant(
        "outbox_of_a_copy_sent",
        "what waited when the copy was taken is sent again, long after it was stored",
        SYNC,
        "    await job.state.discard_outbox()\n",
        "",
    ),
    Mutant(
        "rebuild_without_second_listing",
        "records that the first listing did not show yet are created again",
        SYNC,
        "    found = await compare(job, is_certain=True)",
        "    found = await compare(job)",
    ),
    Mutant(
        "differences_not_proven",
        "a record that a lagging listing does not show is let go of and created again",
        VERIFYING,
        "            record = records[known.key]\n",
        "            record = None\n",
    ),
    Mutant(
        "copies_kept",
        "second copies stay for ever",
        VERIFYING,
        "                await self.state.adopt(found.foreign, found.duplicate, found.claimable)",
        "                await self.state.adopt(found.foreign, (), found.claimable)",
    ),
    Mutant(
        "changed_not_mended",
        "what somebody has edited stays as it is",
        VERIFYING,
        "                await self.state.forget([*found.missing, *found.expired], found.changed)",
        "                await self.state.forget([*found.missing, *found.expired], ())",
    ),
)

MUTANTS = (*SENDING, *ANSWERS, *LEDGER, *DELETES, *OWNERSHIP, *MEMORY)
