"""What a user can do after the state was lost, restored from a backup or overtaken, or the memory changed by others."""

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.local_memory import StoredRecord
from tests.acceptance.conftest import (
    MEMORY_ID,
    Folder,
    Json,
    Memory,
    Memsync,
    client_of,
)

FEW = 12


@pytest.fixture
def synced(docs: Folder, memsync: Memsync) -> Folder:
    docs.write_documents(FEW)
    assert memsync("run", "docs.yaml").exit_code == 0
    return docs


def requests_that_write(memory: Memory) -> int:
    return sum(memory.writes(f"Batch{verb}MemoryRecords") for verb in ("Create", "Update", "Delete"))


def member(record: StoredRecord, **members: object) -> Json:
    """A record as `BatchCreateMemoryRecords` wants it, equal to one that is stored."""
    made: Json = {
        "requestIdentifier": "another",
        "namespaces": [record.namespace],
        "content": {"text": record.text},
        "timestamp": 1_700_000_000,
        "metadata": record.metadata,
    }
    return {**made, **members}


def write_behind_our_back(memory: Memory, *records: Json) -> None:
    with client_of(memory.url) as client:
        client.batch_create_memory_records(memoryId=MEMORY_ID, records=list(records))


def delete_behind_our_back(memory: Memory, *record_ids: str) -> None:
    with client_of(memory.url) as client:
        records = [{"memoryRecordId": record_id} for record_id in record_ids]
        client.batch_delete_memory_records(memoryId=MEMORY_ID, records=records)


# ------------------------------------------------------------------------------------------------ verify


def test_verify_tells_every_kind_of_difference_and_repair_mends_what_can_be_proven(
    synced: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Each kind needs another remedy; of a record that does not say what it is of, nobody can prove anything."""
    before = memory.contents()
    missing, changed, twin = memory.records()[:3]
    delete_behind_our_back(memory, missing.record_id)
    with client_of(memory.url) as client:
        edit = {"memoryRecordId": changed.record_id, "content": {"text": "Forged."}, "timestamp": 1_700_000_000}
        client.batch_update_memory_records(memoryId=MEMORY_ID, records=[edit])
    of_gone = {
        **twin.metadata,
        "memsync-document": {"stringValue": "gone.md"},
        "memsync-key": {"stringValue": "f" * 40},
    }
    nameless = {"memsync-source": twin.metadata["memsync-source"]}
    write_behind_our_back(
        memory,
        member(twin, requestIdentifier="twin"),
        member(twin, requestIdentifier="gone", metadata=of_gone),
        member(twin, requestIdentifier="nameless", metadata=nameless),
    )

    verify = memsync("verify", "docs.yaml", "--json")
    repair = memsync("verify", "docs.yaml", "--repair", "--json")
    again = memsync("verify", "docs.yaml", "--json")

    (found,) = verify.report["sources"]
    kinds = ("missing", "expired", "changed", "foreign", "duplicate", "unattributed")
    assert [found[kind] for kind in kinds] == [1, 0, 1, 1, 1, 1]
    (left,) = [record for record in memory.records() if "memsync-key" not in record.metadata]
    assert found["examples"] == [left.record_id]
    assert (verify.exit_code, repair.exit_code, again.exit_code) == (1, 1, 1)
    assert [again.report["sources"][0][kind] for kind in kinds] == [0, 0, 0, 0, 0, 1]
    delete_behind_our_back(memory, left.record_id)
    assert memory.contents() == before
    assert memsync("verify", "docs.yaml").exit_code == 0


def test_verify_changes_nothing_unless_told(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """It is a look, for whoever wants to know before he acts."""
    delete_behind_our_back(memory, memory.records()[0].record_id)

    looks = [memsync("verify", "docs.yaml") for _ in range(2)]

    assert [done.exit_code for done in looks] == [1, 1]
    assert all("memsync verify docs.yaml --repair" in done.stdout for done in looks)
    assert len(memory.records()) == FEW - 1


def test_a_record_that_only_looks_like_ours_is_never_deleted(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """Records of others live in the same memory, even under the same namespace."""
    theirs = memory.records()[0]
    write_behind_our_back(memory, member(theirs, metadata={"team": {"stringValue": "sales"}}))

    verify = memsync("verify", "docs.yaml", "--repair")

    assert verify.exit_code == 0
    assert len(memory.records()) == FEW + 1


def test_verify_tells_what_the_source_has_that_the_ledger_has_not(
    synced: Folder, memory: Memory, memsync: Memsync
) -> None:
    """It compares all three: a memory equal to an old ledger is not yet equal to the source."""
    synced.write("new.md", "New.")
    synced.write("001.md", "Edited.")
    synced.remove("002.md")

    verify = memsync("verify", "docs.yaml", "--json")

    documents = verify.report["sources"][0]["documents"]
    assert {kind: documents[kind] for kind in ("listed", "added", "changed", "removed", "is_complete")} == {
        "listed": FEW,
        "added": 1,
        "changed": 1,
        "removed": 1,
        "is_complete": True,
    }
    assert verify.exit_code == 0
    assert requests_that_write(memory) == 1


def test_verify_fails_where_the_source_cannot_be_listed(synced: Folder, memsync: Memsync) -> None:
    """What was not compared is not known to be equal."""
    synced.documents.rename(synced.path / "moved")

    verify = memsync("verify", "docs.yaml")

    assert "the source could not be listed" in verify.stdout
    assert verify.exit_code == 1


def test_a_memory_that_was_emptied_is_told_and_mended(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """Otherwise the run would write what changed, and call it in sync."""
    before = memory.contents()
    delete_behind_our_back(memory, *memory.ids())
    synced.write("000.md", "Edited.")

    run = memsync("run", "docs.yaml", "--json")
    stored = len(memory.records())
    repair = memsync("verify", "docs.yaml", "--repair")

    assert (run.exit_code, stored) == (1, 0)
    assert "memsync verify --repair" in run.error
    assert repair.exit_code == 0
    assert len(memory.contents()) == len(before)
    assert memory.texts_of("000.md") == ["Edited."]
    assert memory.holds_everything_once()


# ----------------------------------------------------------------------------------------------- recover


def lose_state(docs: Folder) -> None:
    shutil.rmtree(docs.path / ".memsync")


def test_a_lost_ledger_is_rebuilt_and_nothing_is_written_again(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A new machine carries on; lines of files, and ids that do not fit into metadata, are found again too."""
    docs.write_documents(FEW)
    docs.write("table.csv", "id,text\n1,first row\n2,second row\n")
    docs.write(
        "lines.jsonl", "".join(json.dumps({"id": "x" * 300 + str(n), "text": f"Line {n}."}) + "\n" for n in range(3))
    )
    docs.write("deep/" + "/".join(["a folder with a long name"] * 8) + "/ä.md", "Deep down.")
    assert memsync("run", "docs.yaml").exit_code == 0
    before, writes = memory.records(), requests_that_write(memory)
    lose_state(docs)
    docs.configure(memory.url, destination={"settle_s": 0.01})

    run = memsync("run", "docs.yaml", "--json")
    recover = memsync("recover", "docs.yaml", "--json")
    carried_on = memsync("run", "docs.yaml", "--json")

    assert (run.exit_code, "memsync recover" in run.error) == (1, True)
    assert (recover.exit_code, recover.report["sources"][0]["recovered"]) == (0, len(before))
    assert "docs: lists the memory twice, 0.01 s apart" in recover.stderr
    assert (carried_on.exit_code, carried_on.touched()) == (0, 0)
    assert carried_on.records["unchanged"] == len(before)
    assert memory.records() == before
    assert requests_that_write(memory) == writes
    assert memsync("verify", "docs.yaml").exit_code == 0


def test_what_changed_since_the_ledger_was_lost_is_brought_in(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """The rebuilt ledger must know enough for edits and deletions, not only for standing still."""
    lose_state(synced)
    synced.write("000.md", "Edited.")
    synced.remove("001.md")
    synced.write("new.md", "New.")
    assert memsync("recover", "docs.yaml").exit_code == 0

    run = memsync("run", "docs.yaml", "--json")

    assert run.exit_code == 0
    assert [run.records[kind] for kind in ("created", "updated", "deleted", "unchanged")] == [1, 1, 1, FEW - 2]
    assert (memory.texts_of("000.md"), memory.texts_of("001.md")) == (["Edited."], [])
    assert memory.holds_everything_once()


def test_recover_refuses_a_ledger_that_is_there(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """It is right, or `verify` tells; building it anew would forget its dead letters and outbox."""
    synced.configure(memory.url, destination={"settle_s": 90})
    before = synced.snapshot()

    recover = memsync("recover", "docs.yaml")

    assert recover.exit_code == 1
    assert f"knows {FEW} records" in recover.stdout
    assert "memsync verify" in recover.stdout
    assert "lists the memory" not in recover.stderr
    assert {name for name in before if name.endswith(".sqlite3")} <= set(synced.snapshot())


def test_recover_goes_on_with_the_other_sources(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """Somebody who lost a disk recovers all of them with one command, and repeats that after an interruption."""
    synced.configure(memory.url, file="more.yaml", name="more")
    assert memsync("run", "more.yaml").exit_code == 0
    shutil.rmtree(synced.path / ".memsync" / "more")

    recover = memsync("recover", "docs.yaml", "more.yaml", "--json")

    assert recover.exit_code == 1
    assert [(found["source"], found["recovered"]) for found in recover.report["sources"]] == [
        ("docs", 0),
        ("more", FEW),
    ]
    assert memsync("run", "more.yaml", "--json").touched() == 0


def test_two_sources_in_one_namespace_do_not_take_each_other_for_lost(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A first run lists the namespace for records of its own name only."""
    for name in ("one", "two"):
        docs.configure(memory.url, file=f"{name}.yaml", name=name, record={"namespace": "/shared/"})
    docs.write_documents(3)

    runs = [memsync("run", f"{name}.yaml").exit_code for name in ("one", "two")]

    assert runs == [0, 0]
    assert len(memory.records()) == 6


# ------------------------------------------------------------------------------------- restored and moved


def restore(docs: Folder, backup: Path) -> None:
    lose_state(docs)
    shutil.copytree(backup, docs.path / ".memsync")


def as_moved(docs: Folder, backup: Path) -> None:
    """As a move to another disk does: the new files are there before the old ones are gone."""
    elsewhere = docs.path / "elsewhere"
    shutil.copytree(backup, elsewhere)
    lose_state(docs)
    elsewhere.rename(docs.path / ".memsync")


@pytest.mark.parametrize("bring_back", [restore, as_moved])
def test_yesterdays_state_writes_nothing_twice_and_deletes_nothing_new(
    bring_back: Callable[[Folder, Path], None], synced: Folder, memory: Memory, memsync: Memsync, tmp_path: Path
) -> None:
    """A backup does not know what was written since; the memory does."""
    backup = tmp_path / "backup"
    shutil.copytree(synced.path / ".memsync", backup)
    synced.write("000.md", "Edited once.")
    synced.write("new.md", "New.")
    synced.remove("001.md")
    assert memsync("run", "docs.yaml").exit_code == 0
    synced.write("000.md", "Edited twice.")
    bring_back(synced, backup)

    run = memsync("run", "docs.yaml", "--json")

    assert "state_is_a_copy" in {entry["event"] for entry in run.logs}
    assert run.exit_code == 0
    assert [run.records[kind] for kind in ("created", "updated", "deleted")] == [0, 1, 0]
    assert (memory.texts_of("000.md"), memory.texts_of("new.md")) == (["Edited twice."], ["New."])
    assert memory.holds_everything_once()
    assert len(memory.documents()) == FEW
    assert memsync("verify", "docs.yaml").exit_code == 0


def test_a_state_that_stayed_where_it_is_is_no_copy(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """Comparing costs a listing of the whole memory: not in every run."""
    requests = memory.requests

    run = memsync("run", "docs.yaml", "--json")

    assert (run.exit_code, memory.requests) == (0, requests)


# ----------------------------------------------------------------------------------- one run per source


def hold_lease(docs: Folder, *, machine: str, ends_in_s: float) -> None:
    """As a run on another machine does that shares the state folder with this one."""
    with sqlite3.connect(docs.state / "state.sqlite3") as connection:
        connection.execute(
            "UPDATE lease SET fence = fence + 1, owner = 'run 1234, process 7 on elsewhere', machine = ?, has_lock = 1,"
            " ends_at = ?",
            (machine, time.time() + ends_in_s),
        )
    connection.close()


def test_a_run_on_another_machine_is_not_disturbed(synced: Folder, memory: Memory, memsync: Memsync) -> None:
    """Its lock is not seen from here; its lease is."""
    hold_lease(synced, machine="elsewhere", ends_in_s=3600)
    synced.write("new.md", "New.")
    requests = memory.requests

    commands = [
        memsync(*words)
        for words in (["run", "docs.yaml"], ["replay", "docs.yaml"], ["verify", "docs.yaml", "--repair"])
    ]

    assert [done.exit_code for done in commands] == [5, 5, 5]
    assert all("process 7 on elsewhere" in done.stdout for done in commands)
    assert memory.requests == requests


def test_a_lease_ends_by_itself(synced: Folder, memsync: Memsync) -> None:
    """A machine that burnt down never gives it back."""
    hold_lease(synced, machine="elsewhere", ends_in_s=-1)
    synced.write("new.md", "New.")

    assert memsync("run", "docs.yaml", "--json").records["created"] == 1


def test_looking_needs_no_lease(synced: Folder, memsync: Memsync) -> None:
    """Somebody wants to see how it stands just while a run is under way."""
    hold_lease(synced, machine="elsewhere", ends_in_s=3600)

    for command in ("status", "plan", "verify", "dead-letters"):
        assert memsync(command, "docs.yaml").exit_code == 0
