"""After a run the memory holds exactly what the documents imply, and no more was written than that takes."""

import json
from typing import Any

import pytest

from .conftest import (
    CLEAN_MEMORY_ID,
    Completed,
    Folder,
    Memory,
    Memsync,
    long_text,
    metadata_of,
    paragraph,
)


def contents_of_clean_sync(docs: Folder, memory: Memory, memsync: Memsync, **sections: object) -> object:
    """What another memory holds after one sync of the same documents under the same settings."""
    memory.create(CLEAN_MEMORY_ID)
    destination = {"memory_id": CLEAN_MEMORY_ID}
    docs.configure(memory.url, "clean.yaml", destination=destination, state={"path": "clean-state"}, **sections)
    assert memsync("run", "clean.yaml").exit_code == 0
    return memory.contents(CLEAN_MEMORY_ID)


@pytest.fixture
def many_documents(docs: Folder, memory: Memory) -> Folder:
    """299 short documents and a long one of some fifty chunks."""
    docs.configure(memory.url, chunking={"max_chars": 1000})
    docs.write_documents(299)
    docs.write("long.md", "# Long\n\n" + long_text(60))
    return docs


# ------------------------------------------------------------------------------------------- many documents


def test_plan_and_run_agree_every_record_arrives_once_and_a_second_run_sends_nothing(
    many_documents: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A plan must be what the run does, and a sync that runs every hour must cost nothing while nothing changes."""
    plan = memsync("plan", "docs.yaml", "--json")
    first = memsync("run", "docs.yaml", "--json")
    requests = memory.requests
    second = memsync("run", "docs.yaml", "--json")

    assert (plan.exit_code, first.exit_code, second.exit_code) == (0, 0, 0)
    assert first.documents["added"] == 300
    assert (plan.documents, plan.records) == (first.documents, first.records)
    assert len(memory.records()) == first.records["created"] > 310
    assert memory.holds_everything_once()
    assert (memory.requests, second.source["requests"]["sent"]) == (requests, 0)
    assert second.documents["unchanged"] == 300
    assert second.records["unchanged"] == first.records["created"]


def test_documents_become_the_same_records_however_many_processes_read_them(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A machine with more processors must not change what is in the memory."""
    docs.write_documents(900)
    docs.write("broken.jsonl", '{"id": 1, "text": "one"}\nbroken\n')
    docs.write("page.html", "<html><body><main><h1>A page</h1><p>Of words.</main>")
    docs.configure(memory.url, workers={"processes": 2})

    run = memsync("run", "docs.yaml", "--json")

    assert (run.exit_code, run.documents["added"], run.documents["failed"]) == (3, 901, 1)
    memory.create(CLEAN_MEMORY_ID)
    docs.configure(
        memory.url,
        "clean.yaml",
        destination={"memory_id": CLEAN_MEMORY_ID},
        state={"path": "clean-state"},
        workers={"processes": 0},
    )
    assert memsync("run", "clean.yaml").exit_code == 3
    assert memory.contents() == memory.contents(CLEAN_MEMORY_ID)


def test_few_edits_touch_few_records_and_end_where_a_clean_sync_ends(
    many_documents: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The way to a state of the documents must not show in the memory, and cost what was edited, not what is there."""
    docs = many_documents
    memsync("run", "docs.yaml")
    docs.edit("long.md", paragraph(30), "A paragraph that says something else now.")
    docs.write("new.md")
    docs.remove("007.md")

    plan = memsync("plan", "docs.yaml", "--json")
    run = memsync("run", "docs.yaml", "--json")

    assert run.exit_code == 0
    assert (run.documents["added"], run.documents["changed"], run.documents["removed"]) == (1, 1, 1)
    assert run.touched() <= 5
    assert (plan.documents, plan.records) == (run.documents, run.records)
    assert memory.contents() == contents_of_clean_sync(docs, memory, memsync, chunking={"max_chars": 1000})


def test_an_insertion_at_the_top_of_a_long_document_touches_few_records(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Otherwise one line above a manual would write the whole manual again; and the order of its chunks must hold."""
    docs.configure(memory.url, chunking={"max_chars": 600, "heading_path": False})
    text = long_text(100)
    docs.write("manual.txt", text)
    first = memsync("run", "docs.yaml", "--json")
    assert first.records["created"] >= 80

    docs.write("manual.txt", f"A new beginning.\n\n{text}")
    second = memsync("run", "docs.yaml", "--json")

    assert 1 <= second.touched() <= 4
    assert "\n\n".join(memory.texts_of("manual.txt")).split() == f"A new beginning. {text}".split()


def test_plan_touches_nothing_before_the_first_run(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whoever plans wants to look, not to begin."""
    docs.write_documents(5)
    before = docs.snapshot()

    plan = memsync("plan", "docs.yaml", "--json")

    assert plan.exit_code == 0
    assert plan.records["created"] == 5
    assert docs.snapshot() == before
    assert list(memsync.home.iterdir()) == []
    assert memory.requests == 0


def test_plan_touches_nothing_between_runs(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The state of a source that is planned stays what its last run left, file by file."""
    docs.write_documents(5)
    memsync("run", "docs.yaml")
    docs.edit("001.md", "About", "Much about")
    docs.remove("002.md")
    before, requests = docs.snapshot(), memory.requests

    plan = memsync("plan", "docs.yaml", "--json")

    assert (plan.records["updated"], plan.records["deleted"]) == (1, 1)
    assert docs.snapshot() == before
    assert memory.requests == requests


def test_files_that_were_only_touched_send_nothing(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A fresh checkout gives every file a new time; what it says is what counts."""
    docs.write_documents(20)
    memsync("run", "docs.yaml")
    requests = memory.requests
    for file in docs.documents.iterdir():
        file.write_bytes(file.read_bytes())

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.documents["unchanged"], memory.requests) == (0, 20, requests)


# -------------------------------------------------------------------------------------- a document a line


@pytest.mark.parametrize("name", ["tickets.jsonl", "tickets.csv"])
def test_a_row_is_a_document(name: str, docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Tables are sources too: an edit of one row must touch one record, its removal delete one."""

    def write(titles: dict[str, str]) -> Completed:
        rows = (
            [
                json.dumps({"id": key, "title": title, "text": f"{title} {paragraph(0)}"})
                for key, title in titles.items()
            ]
            if name.endswith("jsonl")
            else ["id,title,text", *(f"{key},{title},{title} {paragraph(0)}" for key, title in titles.items())]
        )
        docs.write(name, "\n".join(rows) + "\n")
        return memsync("run", "docs.yaml", "--json")

    first = write({"a": "one", "b": "two", "c": "three"})
    assert (first.documents["seen"], first.documents["added"], first.records["created"]) == (3, 3, 3)
    ids = memory.ids()

    requests = memory.requests
    unchanged = memsync("run", "docs.yaml", "--json")
    assert (unchanged.documents["unchanged"], memory.requests) == (3, requests)

    edited = write({"a": "one", "b": "two and a half", "c": "three"})
    assert (edited.documents["changed"], edited.records["updated"], edited.touched()) == (1, 1, 1)
    assert memory.ids() == ids

    removed = write({"a": "one", "c": "three"})
    assert (removed.documents["removed"], removed.records["deleted"], removed.touched()) == (1, 1, 1)
    assert memory.documents() == [f"{name}#a", f"{name}#c"]


def test_moving_rows_sends_nothing(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """An export that sorts otherwise today holds the same documents."""
    rows = [json.dumps({"id": number, "text": paragraph(number)}) for number in range(20)]
    docs.write("rows.jsonl", "\n".join(rows))
    memsync("run", "docs.yaml")
    requests = memory.requests

    docs.write("rows.jsonl", "\n".join(reversed(rows)))
    done = memsync("run", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert done.documents["unchanged"] == 20
    assert memory.requests == requests


# ----------------------------------------------------------------------------------------- other settings


def test_another_chunk_size_replaces_the_records(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Documents that did not change still make other records now: not noticing would leave a mixture for ever."""
    docs.configure(memory.url, chunking={"max_chars": 2000})
    docs.write("long.md", long_text(40))
    memsync("run", "docs.yaml")

    docs.configure(memory.url, chunking={"max_chars": 500})
    done = memsync("run", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert done.documents["changed"] == 1
    assert memory.contents() == contents_of_clean_sync(docs, memory, memsync, chunking={"max_chars": 500})


def test_other_metadata_updates_every_record_and_duplicates_none(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The record is the same and says more: it keeps its id, so that no search finds it twice meanwhile."""
    docs.write_documents(20)
    memsync("run", "docs.yaml")
    ids = memory.ids()

    docs.configure(memory.url, record={"metadata": {"team": "support"}})
    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["updated"], done.touched()) == (0, 20, 20)
    assert memory.ids() == ids
    assert {metadata_of(record)["team"] for record in memory.records()} == {"support"}


def test_another_namespace_moves_every_record(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A record left in its old namespace would be found by those who look there."""
    docs.write_documents(5)
    memsync("run", "docs.yaml")

    docs.configure(memory.url, record={"namespace": "/team/{source}/{stem}/"})
    done = memsync("run", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert sorted(record.namespace for record in memory.records()) == [f"/team/docs/{n:03}/" for n in range(5)]


def test_other_writers_send_nothing(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """How records are sent does not decide what they are."""
    docs.write_documents(5)
    memsync("run", "docs.yaml")
    requests = memory.requests

    docs.configure(memory.url, writers={"concurrency": 2, "linger_s": 0.5, "max_attempts": 3})
    done = memsync("run", "docs.yaml", "--json")

    assert done.documents["unchanged"] == 5
    assert memory.requests == requests


# ----------------------------------------------------------------------------------------- several sources


def test_a_folder_of_sources_is_synced_source_by_source(folder: Folder, memory: Memory, memsync: Memsync) -> None:
    """Each source has its own state and its own records; one command looks after all of them."""
    for name, count in (("wiki", 3), ("tickets", 2)):
        (folder.path / name).mkdir()
        for number in range(count):
            (folder.path / name / f"{number}.md").write_text(paragraph(number))
        folder.configure(memory.url, f"{name}.yaml", name=name, source={"path": name})

    both = memsync("run", ".", "--json")
    one = memsync("run", ".", "--source", "wiki", "--json")

    assert both.exit_code == 0
    assert {source["name"]: source["records"]["created"] for source in both.report["sources"]} == {
        "wiki": 3,
        "tickets": 2,
    }
    assert {record.namespace for record in memory.records()} == {"/docs/wiki/", "/docs/tickets/"}
    assert [source["name"] for source in one.report["sources"]] == ["wiki"]


def test_a_source_that_fails_does_not_stop_the_others(folder: Folder, memory: Memory, memsync: Memsync) -> None:
    """One wiki that is down must not keep all other documents from the agent."""
    folder.write_documents(3)
    folder.configure(memory.url, "a.yaml", name="a", source={"path": "missing"})
    folder.configure(memory.url, "b.yaml", name="b")

    done = memsync("run", ".", "--json")

    assert done.exit_code == 1
    assert [source["status"] for source in done.report["sources"]] == ["failed", "in_sync"]
    assert len(memory.records()) == 3


def test_the_embedded_memory_keeps_what_it_was_given(folder: Folder, memsync: Memsync) -> None:
    """The first thing that somebody tries needs no account, no server and no credentials."""
    folder.configure("local")
    folder.write("zebra.md", "The zebra lives in the old stable.")
    nothing: dict[str, str] = {}

    run = memsync("run", "docs.yaml", "--json", environment=nothing)
    again = memsync("run", "docs.yaml", "--json", environment=nothing)
    search = memsync("search", "docs.yaml", "where does the zebra live?", environment=nothing)

    assert (run.exit_code, run.records["created"]) == (0, 1)
    assert (again.exit_code, again.source["requests"]["sent"]) == (0, 0)
    assert "The zebra lives in the old stable." in search.stdout


def test_what_memsync_writes_into_the_folder_is_no_document(folder: Folder, memory: Memory, memsync: Memsync) -> None:
    """Each run would sync the report of the last one, and dead letters about dead letters, with the texts of both."""
    own: dict[str, Any] = {
        "state": {"path": "docs"},
        "reports": {"path": "docs/.reports"},
        "dead_letters": {"path": "docs/letters.jsonl"},
        "telemetry": {"prometheus_file": "docs/memsync.prom"},
    }
    folder.configure(memory.url, source={"hidden": True}, **own)
    folder.write_documents(1)
    folder.write("docs/mine.md", "# A folder that is named as the source is\n\nIt is the state folder as well.\n")
    folder.write("bad.md", "# Bad\n\nHere is poison.\n")
    memory.play(reject_text="poison")

    memsync("run", "docs.yaml")
    done = memsync("run", "docs.yaml", "--json")

    root = folder.path / "docs"
    assert {file.name for file in (root / "docs").iterdir()} >= {"state.sqlite3", "run.lock", "mine.md"}
    assert (root / "letters.jsonl").exists()
    assert (root / "memsync.prom").exists()
    assert list((root / ".reports" / "docs").iterdir())
    assert done.report["sources"][0]["documents"]["seen"] == 3
    assert memory.documents() == ["000.md", "docs/mine.md"]
