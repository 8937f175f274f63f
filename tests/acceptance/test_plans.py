"""A plan that is saved, read by a person, and carried out as it is or not at all."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import TEXT_CANARY, Folder, Json, Memory, Memsync, long_text


@pytest.fixture
def edited(docs: Folder, memsync: Memsync) -> Folder:
    """A memory of three documents; since then one was edited, one removed and one added."""
    docs.write_documents(3)
    assert memsync("run", "docs.yaml").exit_code == 0
    docs.write("000.md", f"# Another\n\nOther words, {TEXT_CANARY}.\n")
    docs.remove("001.md")
    docs.write("new.md")
    return docs


def lines(file: Path) -> list[Json]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_saved_plan_is_carried_out(edited: Folder, memory: Memory, memsync: Memsync) -> None:
    """The way that a careful team works: plan, look, agree, carry out."""
    before = memory.contents()

    plan = memsync("plan", "docs.yaml", "--out", "changes.plan", "--json")
    touched = memory.contents() != before
    done = memsync("run", "--plan", "changes.plan", "--json")

    assert (plan.exit_code, plan.report["plan_file"], touched) == (0, "changes.plan", False)
    assert "memsync run --plan changes.plan" in plan.stdout
    assert {name: plan.records[name] for name in ("created", "updated", "deleted")} == {
        "created": 1,
        "updated": 1,
        "deleted": 1,
    }
    assert (done.exit_code, done.touched()) == (0, 3)
    assert memory.documents() == ["000.md", "002.md", "new.md"]


def test_a_saved_plan_names_documents_and_holds_no_text(edited: Folder, memsync: Memsync) -> None:
    """It is mailed around and attached to reviews; what the documents say stays where it is."""
    memsync("plan", "docs.yaml", "--out", "changes.plan")

    file = edited.path / "changes.plan"
    header, *changes, end = lines(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert TEXT_CANARY not in file.read_text()
    assert header["schema"] == "memsync/saved-plan/1"
    assert [(change["document"], change["outcome"]) for change in changes] == [
        ("000.md", "changed"),
        ("001.md", "removed"),
        ("new.md", "added"),
    ]
    assert (end["documents"], end["created"], end["updated"], end["deleted"]) == (3, 1, 1, 1)


def test_an_edit_after_the_plan_refuses_it(edited: Folder, memory: Memory, memsync: Memsync) -> None:
    """The message says which document moved, and what to type."""
    memsync("plan", "docs.yaml", "--out", "changes.plan")
    edited.write("002.md", "Something else.")
    writes = memory.requests

    refused = memsync("run", "--plan", "changes.plan", "--json")

    assert (refused.exit_code, refused.source["status"], refused.touched()) == (1, "failed", 0)
    assert "'002.md'" in refused.error
    assert "memsync plan docs.yaml --out changes.plan" in refused.stdout
    assert memory.requests == writes


def test_a_refused_plan_leaves_the_source_standing_as_it_stood(edited: Folder, memsync: Memsync) -> None:
    """It changed nothing: whoever watches `status` at night would be woken by somebody's stale file."""
    memsync("plan", "docs.yaml", "--out", "changes.plan")
    edited.write("002.md", "Something else.")
    before = memsync("status", "docs.yaml", "--json").report["sources"], memsync("history", "docs.yaml").stdout

    refused = memsync("run", "--plan", "changes.plan")
    after = memsync("status", "docs.yaml", "--json").report["sources"], memsync("history", "docs.yaml").stdout
    replayed = memsync("replay", "docs.yaml", "--json")
    looked_at = memsync("report", "docs.yaml")

    assert (refused.exit_code, replayed.exit_code) == (1, 0)
    assert before[0][0]["status"] == "in_sync"
    assert after == before
    assert looked_at.exit_code == 0


def test_a_plan_cannot_be_used_twice(edited: Folder, memsync: Memsync) -> None:
    """Even if somebody has brought the source back to where it was."""
    memsync("plan", "docs.yaml", "--out", "changes.plan")
    memsync("run", "--plan", "changes.plan")

    again = memsync("run", "--plan", "changes.plan", "--json")

    assert again.exit_code == 1
    assert "carried out already" in again.error


@pytest.mark.parametrize("carries_on_by", [["--plan", "changes.plan"], ["docs.yaml"]])
def test_a_plan_that_was_killed_is_finished_by_the_same_command_or_a_plain_run(
    carries_on_by: list[str], docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Whoever typed it types it again."""
    docs.configure(memory.url, writers={"concurrency": 1, "requests_per_second": 5}, chunking={"max_chars": 400})
    docs.write("long.md", long_text(900))
    memsync("plan", "docs.yaml", "--out", "changes.plan")
    run = memsync.start("run", "--plan", "changes.plan", "--json")
    run.wait_for_log("batch_settled")
    killed = run.stop_by(signal.SIGKILL)
    stored = len(memory.records())

    done = memsync("run", *carries_on_by, "--json")

    assert killed.exit_code == -signal.SIGKILL
    assert 0 < stored < len(memory.records())
    assert (done.exit_code, done.records["pending"]) == (0, 0)
    assert memory.holds_everything_once()
    assert memsync("run", "docs.yaml", "--json").touched() == 0


def test_the_guard_withholds_deletions_from_a_plan_and_a_person_lets_them_in(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Agreeing is a part of planning: what is carried out is what was looked at."""
    docs.write_documents(20)
    memsync("run", "docs.yaml")
    docs.remove(*(f"{number:03}.md" for number in range(15)))

    withheld = memsync("plan", "docs.yaml", "--out", "changes.plan", "--json")
    kept = memsync("run", "--plan", "changes.plan", "--json")
    twice = memsync("run", "--plan", "changes.plan", "--allow-mass-delete")
    planned = memsync("plan", "docs.yaml", "--out", "changes.plan", "--allow-mass-delete", "--json")
    done = memsync("run", "--plan", "changes.plan", "--json")

    assert (withheld.exit_code, withheld.source["status"], withheld.records["deleted"]) == (0, "guarded", 0)
    assert "memsync plan docs.yaml --allow-mass-delete --out changes.plan" in withheld.stdout
    assert (kept.exit_code, kept.records["deleted"]) == (4, 0)
    assert twice.exit_code == 2
    assert "memsync plan --allow-mass-delete" in twice.stderr
    assert (planned.records["deleted"], done.exit_code, done.records["deleted"]) == (15, 0, 15)
    assert len(memory.records()) == 5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[: len(text) // 2], "as memsync wrote it"),
        (lambda text: "".join(text.splitlines(keepends=True)[:-1]), "as memsync wrote it"),
        (lambda text: text.replace("removed", "changed"), "as memsync wrote it"),
        (lambda text: text.replace('"create": [[', '"create": [[[], '), "as memsync wrote it"),
        (lambda text: "", "is empty"),
        (lambda text: "name: docs\n", "as memsync wrote it"),
        (lambda text: '{"schema": "memsync/saved-plan/99"}\n', "no saved plan of a kind"),
        (lambda text: "[" * 100_000, "as memsync wrote it"),
    ],
)
def test_a_damaged_plan_is_refused(
    spoil: Callable[[str], str], message: str, edited: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A plan that was cut off while it was copied must not be carried out in part."""
    memsync("plan", "docs.yaml", "--out", "changes.plan")
    file = edited.path / "changes.plan"
    file.write_text(spoil(file.read_text()))
    requests = memory.requests

    done = memsync("run", "docs.yaml", "--plan", "changes.plan")

    assert done.exit_code == 2
    assert message in done.stderr
    assert memory.requests == requests


def test_a_plan_takes_no_other_file_s_place(docs: Folder, memsync: Memsync) -> None:
    """A slip of the finger must not cost the configuration; an older plan may go."""
    docs.write_documents(1)
    before = (docs.path / "docs.yaml").read_bytes()

    refused = memsync("plan", "docs.yaml", "--out", "docs.yaml")
    nowhere = memsync("plan", "docs.yaml", "--out", "missing/changes.plan")
    first = memsync("plan", "docs.yaml", "--out", "changes.plan")
    second = memsync("plan", "docs.yaml", "--out", "changes.plan")

    assert [done.exit_code for done in (refused, nowhere, first, second)] == [2, 2, 0, 0]
    assert (docs.path / "docs.yaml").read_bytes() == before
    assert "docs.yaml is there already" in refused.stderr
    assert "missing" in nowhere.stderr
    assert not list(docs.path.glob("*.new"))


def test_a_plan_of_several_sources_is_carried_out_for_all_or_one(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A folder of YAML files is planned as one."""
    docs.write_documents(2)
    docs.configure(memory.url, "more.yaml", name="more")
    memsync("plan", "docs.yaml", "more.yaml", "--out", "changes.plan")

    one = memsync("run", "--plan", "changes.plan", "--source", "more", "--json")
    all_of_it = memsync("run", ".", "--plan", "changes.plan", "--json")
    unknown = memsync("run", "--plan", "changes.plan", "--source", "mine")

    assert [source["name"] for source in one.report["sources"]] == ["more"]
    assert [(source["name"], source["status"]) for source in all_of_it.report["sources"]] == [
        ("docs", "in_sync"),
        ("more", "failed"),
    ]
    assert unknown.exit_code == 2
    assert len(memory.records()) == 4


def test_a_plan_for_another_memory_is_refused(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """What was looked at was meant for that memory."""
    docs.write_documents(1)
    memsync("plan", "docs.yaml", "--out", "changes.plan")
    memory.create("other-a1B2c3D4e5")
    docs.configure(memory.url, destination={"memory_id": "other-a1B2c3D4e5"})

    refused = memsync("run", "--plan", "changes.plan", "--json")

    assert refused.exit_code == 1
    assert "'other-a1B2c3D4e5'" in refused.error
    assert memory.records("other-a1B2c3D4e5") == []


def test_a_plan_needs_to_know_where_its_source_is(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Plans are carried from one checkout to another, where the YAML file has another path."""
    docs.write_documents(1)
    memsync("plan", "docs.yaml", "--out", "changes.plan")
    docs.configure(memory.url, "other.yaml", name="other")
    (docs.path / "docs.yaml").rename(docs.path / "moved.yaml")

    gone = memsync("run", "--plan", "changes.plan")
    wrong = memsync("run", "other.yaml", "--plan", "changes.plan")
    right = memsync("run", "moved.yaml", "--plan", "changes.plan")
    no_path = memsync("run")

    assert [done.exit_code for done in (gone, wrong, right, no_path)] == [2, 2, 0, 2]
    assert "docs.yaml" in gone.stderr
    assert "'docs'" in wrong.stderr
    assert "Missing argument" in no_path.stderr


def test_a_plan_names_what_could_not_be_read(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whoever looks at a plan wants to know what will be missing, and why."""
    docs.write_documents(1)
    docs.configure(memory.url, source={"max_bytes": 200})
    docs.write("large\x1b[31m.md", "word " * 100)

    done = memsync("plan", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert r"large\x1b[31m.md: " in done.stdout
    (failure,) = done.source["failures"]
    assert (failure["what"], failure["stage"], failure["code"]) == ("large\x1b[31m.md", "fetch", "too_large")


def test_a_source_that_cannot_be_read_gives_no_plan(edited: Folder, memsync: Memsync) -> None:
    """Half a plan would look like a whole one."""
    edited.documents.rename(edited.path / "elsewhere")

    done = memsync("plan", "docs.yaml", "--out", "changes.plan")

    assert done.exit_code == 1
    assert "No plan for docs" in done.stdout
    assert not os.path.lexists(edited.path / "changes.plan")


# ------------------------------------------------------------------------------------------------ differences


def test_a_plan_shows_how_texts_would_change(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The old ones come from the memory, the new ones from the source, and nothing is touched."""
    docs.write("a.md", "First sentence. Second sentence.\n")
    docs.write("b.md", "To be removed.\n")
    memsync("run", "docs.yaml")
    docs.write("a.md", "First sentence. Another sentence.\n")
    docs.write("c.md", "Added.\n")
    docs.remove("b.md")
    before, held = docs.snapshot(), memory.contents()

    done = memsync("plan", "docs.yaml", "--diff", "--json")
    first = memsync("plan", "docs.yaml", "--diff", "--diff-documents", "1")

    assert done.exit_code == 0
    assert done.stdout.startswith("docs  the texts of 3 documents that would change\n")
    assert "       First sentence.\n      -Second sentence.\n      +Another sentence.\n" in done.stdout
    assert [(diff["document"], diff["outcome"]) for diff in done.source["diff"]] == [
        ("a.md", "changed"),
        ("c.md", "added"),
        ("b.md", "removed"),
    ]
    assert done.source["diff"][0]["records"][0]["lines"] == [
        " First sentence.",
        "-Second sentence.",
        "+Another sentence.",
    ]
    assert "the first 1 of 3 documents" in first.stdout
    assert (docs.snapshot(), memory.contents()) == (before, held)


def test_differences_are_coloured_on_a_terminal_and_harmless(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whoever reviews must see what the document says, and not what it wants to be seen."""
    docs.write("a.md", "Fine.\n")
    memsync("run", "docs.yaml")
    docs.write("a.md", "Bad \u202e\u009b2J text.\n")

    code, shown = memsync.on_terminal("plan", "docs.yaml", "--diff")

    assert code == 0
    assert "\x1b[31m-Fine.\x1b[0m" in shown
    assert "\x1b[32m+Bad" in shown
    assert "\u202e" not in shown
    assert "\u009b" not in shown


def test_a_first_plan_needs_no_memory_for_its_differences(docs: Folder, memsync: Memsync) -> None:
    """Nothing is there yet; and a memory on this machine must not be made by looking."""
    docs.configure("local")
    docs.write("a.md", "New.\n")
    before = docs.snapshot()

    done = memsync("plan", "docs.yaml", "--diff")

    assert done.exit_code == 0
    assert "+New." in done.stdout
    assert docs.snapshot() == before


def test_a_memory_that_cannot_be_asked_costs_the_differences_and_not_the_plan(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The counts are known all the same; the exit code tells that something asked for is missing."""
    docs.write("a.md", "Old.\n")
    memsync("run", "docs.yaml")
    docs.write("a.md", "New.\n")
    docs.configure("http://127.0.0.1:9", destination={"connect_timeout_s": 2})

    done = memsync("plan", "docs.yaml", "--diff", "--json")

    assert done.exit_code == 1
    assert "docs  no texts: " in done.stdout
    assert "1 to update" in done.stdout
    assert "GetMemoryRecord" in done.source["diff_error"]
