"""Small jobs to be cut off: what stands before each, and the command that is to be killed in it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from tests.acceptance.conftest import MEMORY_ID, client_of
from tests.crashes.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True)
class Job:
    prepare: Callable[[Rehearsal], None]
    command: tuple[str, ...]


def nothing_yet(at: Rehearsal) -> None:
    at.folder.write_documents(4)


def synced(at: Rehearsal) -> None:
    at.folder.write_documents(4)
    at.run("run", "docs.yaml")


def edited(at: Rehearsal) -> None:
    synced(at)
    at.folder.write("000.md", "Edited.")
    at.folder.write("new.md", "New.")
    at.folder.remove("001.md")


def with_a_letter(at: Rehearsal) -> None:
    at.memory.play(reject_text="About 002")
    at.folder.write_documents(4)
    at.run("run", "docs.yaml")
    at.memory.play()


def tampered_with(at: Rehearsal) -> None:
    synced(at)
    first, second, third, *_ = at.memory.records()
    with client_of(at.memory.url) as client:
        client.batch_delete_memory_records(memoryId=MEMORY_ID, records=[{"memoryRecordId": first.record_id}])
        forged = {"memoryRecordId": second.record_id, "content": {"text": "Forged."}, "timestamp": 1_700_000_000}
        client.batch_update_memory_records(memoryId=MEMORY_ID, records=[forged])
        copy = {
            "requestIdentifier": "copy",
            "namespaces": [third.namespace],
            "content": {"text": third.text},
            "timestamp": 1_700_000_000,
            "metadata": third.metadata,
        }
        client.batch_create_memory_records(memoryId=MEMORY_ID, records=[copy])


def without_state(at: Rehearsal) -> None:
    synced(at)
    shutil.rmtree(at.folder.state)


def with_a_letter_to_edit(at: Rehearsal) -> None:
    at.memory.play(reject_text="About 002")
    at.folder.write_documents(4)
    at.run("run", "docs.yaml")
    (at.folder.path / "mended.txt").write_text("Mended.")


def with_a_letter_for_good(at: Rehearsal) -> None:
    with_a_letter(at)
    at.memory.play(reject_text="About 002")


def with_a_plan(at: Rehearsal) -> None:
    edited(at)
    at.run("plan", "docs.yaml", "--out", "docs.plan")


# The empty beginning of an id names the only letter that there is.
EDIT = ("dead-letters", "edit", "docs.yaml", "", "--text-file", "mended.txt")
DROP = ("dead-letters", "drop", "docs.yaml", "--all", "--yes")

JOBS = {
    "first sync": Job(nothing_yet, ("run", "docs.yaml")),
    "sync with edits": Job(edited, ("run", "docs.yaml")),
    "replay": Job(with_a_letter, ("replay", "docs.yaml")),
    "replay in vain": Job(with_a_letter_for_good, ("replay", "docs.yaml")),
    "run --plan": Job(with_a_plan, ("run", "--plan", "docs.plan")),
    "dead-letters edit": Job(with_a_letter_to_edit, EDIT),
    "dead-letters drop": Job(with_a_letter_to_edit, DROP),
    "verify --repair": Job(tampered_with, ("verify", "docs.yaml", "--repair")),
    "recover": Job(without_state, ("recover", "docs.yaml")),
}


def finish(at: Rehearsal, job: str, where: str) -> None:
    """What the user does after the command was cut off, and whether all is right then."""
    if job == "recover":
        again = at.run("recover", "docs.yaml")
        # A ledger that was rebuilt to its end refuses to be rebuilt; that is as good.
        if again.returncode and "is there" not in again.stdout:
            at.problems.append(f"{where}: recover does not carry on: {again.stdout[-200:]}")
    if job == "verify --repair":
        at.run("verify", "docs.yaml", "--repair")
    if job == "replay":
        at.run("replay", "docs.yaml")
    if job == "replay in vain":
        replay_in_vain(at, where)
    if job == "run --plan":
        carry_on_with_plan(at, where)
    if job in ("dead-letters edit", "dead-letters drop"):
        take_in_hand(at, job, where)
    at.complete(where)


def replay_in_vain(at: Rehearsal, where: str) -> None:
    """The replay that was cut off may have failed already or not; it counts once at most, and so does the next one."""
    # What is in the outbox of a dead replay is delivered by the next run, which is the end of that replay.
    at.run("run", "docs.yaml")
    first = rounds_of_letters(at)
    at.run("replay", "docs.yaml")
    second = rounds_of_letters(at)
    if first not in ([1], [2]) or second != [first[0] + 1]:
        at.problems.append(f"{where}: letters were given up on {first} times, and after one more replay {second}")
    at.memory.play()
    at.run("replay", "docs.yaml")


def rounds_of_letters(at: Rehearsal) -> list[int]:
    return [letter["rounds"] for letter in at.folder.dead_letters()]


def carry_on_with_plan(at: Rehearsal, where: str) -> None:
    """The same command carries on; a plan that was carried out already says so. A plain run has nothing to do then.

    A state whose mark was being written counts as a copy: nothing was sent then, and nothing is, but by a plain run.
    """
    again = at.run("run", "--plan", "docs.plan")
    if "only half rebuilt" in again.stdout and "Nothing was sent." in again.stdout:
        return
    if again.returncode and "carried out already" not in again.stdout:
        at.problems.append(f"{where}: the plan is not carried on with: {again.stdout[-300:]}")
    requests = at.memory.requests
    at.run("run", "docs.yaml")
    if at.memory.requests != requests:
        at.problems.append(f"{where}: a run found something to do after the plan was carried out")


def take_in_hand(at: Rehearsal, job: str, where: str) -> None:
    """Type the command again, look whether what it says is so, and mend the document at last."""
    at.run("run", "docs.yaml")
    at.run(*JOBS[job].command)
    done = at.run("run", "docs.yaml", "--json")
    texts = [record.text for record in at.memory.records()]
    expected = ["Mended."] if job == "dead-letters edit" else []
    if sorted(text for text in texts if "About" not in text) != expected or len(texts) != 3 + len(expected):
        at.problems.append(f"{where}: {len(texts)} records, and not the edited one once")
    if done.returncode or at.folder.dead_letters():
        at.problems.append(f"{where}: not in sync after a person's decision: {done.stdout[-300:]}")
    at.memory.play()
    at.folder.write("002.md", "Mended in the source.")
