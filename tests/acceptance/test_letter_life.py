"""A dead letter from the failure to its end: sent again by itself, in quarantine, by hand, edited, or dropped."""

import pytest

from .conftest import Folder, Memory, Memsync

AT_ONCE = {"max_attempts": 1, "backoff_s": 0, "quarantine_after": 2}


@pytest.fixture
def flaky(docs: Folder, memory: Memory) -> Folder:
    """Three documents; the memory is too ill to store `flaky.md`, and runs send it again whenever they come."""
    docs.configure(memory.url, dead_letters=AT_ONCE)
    docs.write("flaky.md", "A flaky text.")
    docs.write("good.md", "A good text.")
    docs.write("other.md", "Another text.")
    memory.play(reject_text="flaky", reject_code=500)
    return docs


# ----------------------------------------------------------------------------------------------- by themselves


def test_what_the_memory_was_too_ill_for_is_stored_by_a_later_run(
    flaky: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A bad hour of a service must not need a person."""
    failed = memsync("run", "docs.yaml", "--json")
    memory.play()

    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, failed.source["resent"], failed.records["dead_lettered"]) == (3, 0, 1)
    assert failed.source["next_attempt_at"] is not None
    assert "What may have passed is sent again by itself, from " in failed.stdout
    assert (done.exit_code, done.source["resent"], done.records["created"]) == (0, 1, 1)
    assert [log["count"] for log in done.logs if log["event"] == "dead_letters_due"] == [1]
    assert memory.texts_of("flaky.md") == ["A flaky text."]
    assert flaky.dead_letters() == []


def test_a_letter_that_is_not_due_waits(flaky: Folder, memory: Memory, memsync: Memsync) -> None:
    """A source that runs every minute must not ask an ill memory every minute."""
    flaky.configure(memory.url, dead_letters={"max_attempts": 1})
    memsync("run", "docs.yaml")
    requests = memory.requests

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.source["resent"], memory.requests - requests) == (3, 0, 0)


def test_what_fails_again_and_again_is_quarantined_and_named_everywhere(
    flaky: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Nobody would look at what is tried for ever; and nothing that is not in sync may look as if it were."""
    runs = [memsync("run", "docs.yaml", "--json") for _ in range(3)]
    requests = memory.requests

    quiet = memsync("run", "docs.yaml", "--json")
    requests_of_quiet = memory.requests - requests
    status = memsync("status", "docs.yaml")
    as_json = memsync("status", "docs.yaml", "--json")
    plan = memsync("plan", "docs.yaml")

    assert [(run.exit_code, run.source["resent"], run.source["quarantined"]) for run in runs] == [
        (3, 0, 0),
        (3, 1, 0),
        (3, 1, 1),
    ]
    assert (quiet.exit_code, quiet.source["resent"], requests_of_quiet) == (3, 0, 0)
    assert quiet.source["next_attempt_at"] is None
    assert "1 quarantined: was sent again in vain too often, and by itself no more." in quiet.stdout
    assert "docs: 1 dead letter, 1 quarantined after replays in vain." in status.stdout
    assert as_json.source["quarantined"] == 1
    assert "1 dead-lettered, and not sent again by a run" in plan.stdout
    assert [(letter["attempts"], letter["rounds"]) for letter in flaky.dead_letters()] == [(3, 3)]


def test_a_plan_tells_what_a_run_would_send_again(flaky: Folder, memory: Memory, memsync: Memsync) -> None:
    """A plan that kept silent of it would not be what happens."""
    memsync("run", "docs.yaml")

    plan = memsync("plan", "docs.yaml")

    assert "1 dead-lettered, and sent again by a run" in plan.stdout
    assert "Planned, and nothing touched: 1 to create." in plan.stdout


def test_sending_again_can_be_switched_off(flaky: Folder, memory: Memory, memsync: Memsync) -> None:
    """Some want to look at each of them first."""
    flaky.configure(memory.url, dead_letters={**AT_ONCE, "auto_replay": False})
    memsync("run", "docs.yaml")
    memory.play()

    run = memsync("run", "docs.yaml", "--json")
    replay = memsync("replay", "docs.yaml", "--json")

    assert (run.exit_code, run.source["resent"], run.source["quarantined"]) == (3, 0, 0)
    assert replay.exit_code == 0
