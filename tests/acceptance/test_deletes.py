"""Nothing is deleted without proof that it is gone, and not much at once without leave."""

import os
import sys

import pytest

from .conftest import Folder, Memory, Memsync


@pytest.fixture
def forty(docs: Folder, memsync: Memsync) -> Folder:
    """40 documents that the memory holds."""
    docs.write_documents(40)
    assert memsync("run", "docs.yaml").exit_code == 0
    return docs


def names(first: int, last: int) -> list[str]:
    return [f"{number:03}.md" for number in range(first, last)]


def test_a_missing_folder_fails_the_run_and_deletes_nothing(forty: Folder, memory: Memory, memsync: Memsync) -> None:
    """A disk that is not mounted looks just like this."""
    forty.documents.rename(forty.path / "elsewhere")

    failed = memsync("run", "docs.yaml", "--json", "--allow-mass-delete")
    (forty.path / "elsewhere").rename(forty.documents)
    mended = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, failed.source["status"]) == (1, "failed")
    assert "source.path" in failed.error
    assert (mended.exit_code, mended.touched()) == (0, 0)
    assert len(memory.records()) == 40


def test_an_emptied_folder_trips_the_guard(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """However few the documents were: an empty listing is more often a fault than a wish."""
    docs.write_documents(3)
    memsync("run", "docs.yaml")
    docs.remove(*names(0, 3))

    plan = memsync("plan", "docs.yaml", "--json")
    guarded = memsync("run", "docs.yaml", "--json")
    kept = len(memory.records())
    allowed = memsync("run", "docs.yaml", "--json", "--allow-mass-delete")

    assert plan.source["status"] == guarded.source["status"] == "guarded"
    assert guarded.exit_code == 4
    assert "--allow-mass-delete" in guarded.stdout
    assert kept == 3
    assert (allowed.exit_code, allowed.records["deleted"]) == (0, 3)
    assert memory.records() == []


def test_a_halved_folder_trips_the_guard_and_new_files_still_go_through(
    forty: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The guard holds back deletions only: the agent still learns what is new."""
    forty.remove(*names(0, 20))
    forty.write("new.md")
    forty.edit("030.md", "All of", "Everything of")

    guarded = memsync("run", "docs.yaml", "--json")
    kept = memory.documents()
    again = memsync("run", "docs.yaml", "--json")
    allowed = memsync("run", "docs.yaml", "--json", "--allow-mass-delete")

    assert (guarded.exit_code, guarded.source["status"]) == (4, "guarded")
    assert (guarded.records["created"], guarded.records["updated"], guarded.records["deleted"]) == (1, 1, 0)
    assert "20 of 41 documents are gone" in guarded.stdout or "20 of 40 documents are gone" in guarded.stdout
    assert kept == sorted([*names(0, 40), "new.md"])
    assert (again.exit_code, again.touched()) == (4, 0)
    assert (allowed.exit_code, allowed.documents["removed"], allowed.records["deleted"]) == (0, 20, 20)
    assert memory.documents() == sorted([*names(20, 40), "new.md"])


def test_a_replay_does_not_say_in_sync_while_deletions_are_withheld(
    forty: Folder, memory: Memory, memsync: Memsync
) -> None:
    """It has not listed the source: what the guard held back is still there, and `status` must still say so."""
    forty.remove(*names(0, 20))
    assert memsync("run", "docs.yaml").exit_code == 4

    replay = memsync("replay", "docs.yaml", "--json")
    status = memsync("status", "docs.yaml")

    assert len(memory.records()) == 40
    assert (replay.exit_code, replay.source["status"]) == (4, "guarded")
    assert status.stdout.splitlines()[-1] == "Not in sync: 1 of 1 source."


def test_what_comes_back_while_the_guard_holds_was_never_gone(forty: Folder, memory: Memory, memsync: Memsync) -> None:
    """The disk was mounted again: nothing has to be written."""
    hidden = forty.path / "hidden"
    hidden.mkdir()
    for name in names(0, 20):
        (forty.documents / name).rename(hidden / name)
    guarded = memsync("run", "docs.yaml")
    for name in names(0, 20):
        (hidden / name).rename(forty.documents / name)

    back = memsync("run", "docs.yaml", "--json")

    assert guarded.exit_code == 4
    assert (back.exit_code, back.touched()) == (0, 0)
    assert len(memory.records()) == 40


def write_rows(folder: Folder, *numbers: int) -> None:
    folder.write("rows.jsonl", "".join(f'{{"id": {number}, "text": "Row {number}."}}\n' for number in numbers))


def test_rows_that_the_guard_kept_stay_withheld_until_they_are_allowed_to_go(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The file does not change between the runs, and its lost rows must not pass for seen because of that."""
    write_rows(docs, *range(40))
    memsync("run", "docs.yaml")
    write_rows(docs, *range(20))

    guarded = memsync("run", "docs.yaml")
    again = memsync("run", "docs.yaml", "--json")
    allowed = memsync("run", "docs.yaml", "--json", "--allow-mass-delete")

    assert (guarded.exit_code, again.exit_code, again.documents["seen"]) == (4, 4, 20)
    assert (allowed.exit_code, allowed.records["deleted"]) == (0, 20)
    assert len(memory.records()) == 20


def test_a_row_that_is_gone_is_deleted_after_a_run_that_failed_halfway(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """That run has read the file, but not come to its deletions: the next one must, though the file is the same."""
    write_rows(docs, 1, 2, 3)
    memsync("run", "docs.yaml")
    write_rows(docs, 1, 3, 4)
    memory.play(script=("BatchCreateMemoryRecords:access_denied",))

    failed = memsync("run", "docs.yaml")
    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, done.exit_code) == (1, 0)
    assert memory.documents() == ["rows.jsonl#1", "rows.jsonl#3", "rows.jsonl#4"]
    assert done.documents["seen"] == 3


def test_a_few_removals_need_no_leave(forty: Folder, memory: Memory, memsync: Memsync) -> None:
    """Up to ten documents are somebody's wish, even if that is a large part."""
    forty.remove(*names(0, 9))

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.documents["removed"], done.records["deleted"]) == (0, 9, 9)
    assert memory.documents() == names(9, 40)


def test_files_truncated_to_nothing_count_as_removals(forty: Folder, memory: Memory, memsync: Memsync) -> None:
    """A disk that ran full leaves files of no length: they would take their records with them."""
    for name in names(0, 20):
        forty.write(name, "")

    plan = memsync("plan", "docs.yaml", "--json")
    guarded = memsync("run", "docs.yaml", "--json")
    kept = len(memory.records())
    allowed = memsync("run", "docs.yaml", "--json", "--allow-mass-delete")

    assert plan.source["status"] == "guarded"
    assert (guarded.exit_code, guarded.records["deleted"], kept) == (4, 0, 40)
    assert (allowed.exit_code, allowed.records["deleted"]) == (0, 20)
    assert memory.documents() == names(20, 40)


def test_deletes_can_be_switched_off(forty: Folder, memory: Memory, memsync: Memsync) -> None:
    """Some memories are an archive; the summary must say that it then holds more than the documents."""
    forty.configure(memory.url, deletes={"enabled": False})
    forty.remove(*names(0, 2))

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["deleted"]) == (0, 0)
    assert "2 documents gone from the source and kept as configured" in done.stdout
    assert len(memory.records()) == 40


@pytest.mark.skipif(sys.platform != "linux", reason="takes root's power away by a Linux call")
@pytest.mark.parametrize("name", ["part", "part/000.md"])
def test_what_cannot_be_read_counts_as_present(name: str, docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A permission that was changed by mistake is no removal."""
    docs.write("top.md")
    docs.write("gone.md")
    for number in range(3):
        docs.write(f"part/{number:03}.md")
    memsync("run", "docs.yaml")
    target = docs.documents / name
    mode = target.stat().st_mode
    target.chmod(0)
    os.utime(target)  # changed, so that a run has a reason to look
    docs.remove("gone.md")

    locked = memsync("run", "docs.yaml", "--json", as_root=False)
    kept = memory.documents()
    target.chmod(mode)
    mended = memsync("run", "docs.yaml", "--json", as_root=False)

    assert locked.exit_code == 3
    assert locked.documents["removed"] == 1
    assert kept == ["part/000.md", "part/001.md", "part/002.md", "top.md"]
    assert (mended.exit_code, mended.records["dead_lettered"], mended.touched()) == (0, 0, 0)


def test_a_moved_document_is_stored_under_its_new_name(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Its record is updated where it is."""
    docs.write("old.md", "The page.")
    docs.write("other.md")
    memsync("run", "docs.yaml")
    (docs.documents / "old.md").rename(docs.documents / "new.md")

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"], done.records["deleted"]) == (0, 0, 0)
    assert (done.records["updated"], done.documents["renamed"]) == (1, 1)
    assert memory.documents() == ["new.md", "other.md"]


def test_a_document_that_was_deleted_and_comes_back_is_stored_again(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A service that remembers the first creation must not swallow the second."""
    docs.write_documents(3)
    memsync("run", "docs.yaml")
    file = docs.documents / "001.md"
    text = file.read_text()
    file.unlink()
    assert memsync("run", "docs.yaml").exit_code == 0
    docs.write("001.md", text)

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"]) == (0, 1)
    assert memory.documents() == names(0, 3)
