"""A run that is killed where it matters, and the next one that carries on. `make kills` kills at every system call."""

import signal
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest

from tests.crashes.crash_point import When
from tests.crashes.jobs import JOBS, Job, edited, finish
from tests.crashes.rehearsal import Rehearsal, rehearsal

REPOSITORY = Path(__file__).parents[2]
STORE, LETTERS = "pipeline.state.sqlite:SqliteStateStore", "pipeline.dead_letters:JsonLinesFile"
MARK, MEMORY = "pipeline.state.mark:FileMark", "pipeline.destinations.agentcore:AgentCoreDestination"

# The memory of a test carries out at once what it was asked for; nobody has to wait for requests of the dead.
IMPATIENT = (
    "import pipeline.lease, pipeline.writer\n"
    "pipeline.lease.Lease.wait_for_unheard.__defaults__ = (0.0,)\n"
    "pipeline.writer.LATE_WRITE_S = 0.0"
)

POINTS: dict[str, tuple[str, When, str]] = {
    "the lease is taken": (f"{STORE}.take_lease", "after", "sync with edits"),
    "the mark is written, not confirmed": (f"{MARK}.put", "after", "sync with edits"),
    "batches are made, not saved": (f"{STORE}.save", "before", "sync with edits"),
    "a batch is saved, not sent": (f"{MEMORY}.write", "before", "sync with edits"),
    "a batch is sent, not settled": (f"{MEMORY}.write", "after", "sync with edits"),
    "a batch is settled": (f"{STORE}.settle", "after", "sync with edits"),
    "a letter is in the file, not in the ledger": (f"{LETTERS}.append", "after", "sync with refusals"),
    "the account is closed, the letters are not rewritten": (f"{LETTERS}.rewrite", "before", "replay"),
    "a ledger is being rebuilt": (f"{STORE}.adopt", "after", "recover"),
}


def refused(at: Rehearsal) -> None:
    edited(at)
    at.memory.play(reject_text="New")


REHEARSED = {**JOBS, "sync with refusals": Job(refused, ("run", "docs.yaml"))}


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_is_killed_loses_and_doubles_nothing(point: str) -> None:
    """Whatever was done or not, the next run finds out."""
    place, when, job = POINTS[point]
    with rehearsal() as at:
        REHEARSED[job].prepare(at)

        killed = at.run(
            *REHEARSED[job].command,
            code=f"from tests.crashes import crash_point; crash_point.install({place!r}, {when!r})",
            environment={"PYTHONPATH": str(REPOSITORY)},
        )
        again = at.run(*REHEARSED[job].command, code=IMPATIENT)
        letters = letters_of(at)
        if letters:
            at.memory.play()
            again = at.run("replay", "docs.yaml", code=IMPATIENT)
        if job == "recover":
            again = at.run("run", "docs.yaml")
        at.require_right(point)
        at.require_verified(point)

        assert killed.returncode == -signal.SIGKILL
        assert again.returncode == 0, again.stdout
        assert bool(letters) == (job == "sync with refusals")
        assert at.problems == []
        assert not list(at.folder.state.glob("*.new"))


IN_HAND: dict[str, tuple[str, When, str]] = {
    "an edit is saved, not sent": (f"{MEMORY}.write", "before", "dead-letters edit"),
    "an edit is sent, not settled": (f"{MEMORY}.write", "after", "dead-letters edit"),
    "a letter is to be dropped": (f"{STORE}.drop_letters", "before", "dead-letters drop"),
    "a letter is dropped, the file has it still": (f"{LETTERS}.rewrite", "before", "dead-letters drop"),
}


@pytest.mark.parametrize("point", IN_HAND)
def test_a_command_about_a_letter_that_is_killed_can_be_typed_again(point: str) -> None:
    """Neither is an edit stored twice or lost, nor is a letter half dropped."""
    place, when, job = IN_HAND[point]
    with rehearsal() as at:
        JOBS[job].prepare(at)

        killed = at.run(
            *JOBS[job].command,
            code=f"from tests.crashes import crash_point; crash_point.install({place!r}, {when!r})",
            environment={"PYTHONPATH": str(REPOSITORY)},
        )
        finish(at, job, point)

        assert killed.returncode == -signal.SIGKILL
        assert at.problems == []


def letters_of(at: Rehearsal) -> list[str]:
    """The ids of the letters in the ledger, which are those in the file."""
    with closing(connect(at.folder.state / "state.sqlite3")) as connection:
        in_ledger = [letter for (letter,) in connection.execute("SELECT id FROM dead_letter")]
    assert sorted(letter["id"] for letter in at.folder.dead_letters()) == sorted(in_ledger)
    return in_ledger
