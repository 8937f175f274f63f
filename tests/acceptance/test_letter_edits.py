"""`memsync dead-letters edit`: a record goes to an editor, and what comes back is stored."""

import signal
import stat
from pathlib import Path

import pytest

from .conftest import CREDENTIALS, Completed, Folder, Memory, Memsync


@pytest.fixture
def refused(docs: Folder, memory: Memory, memsync: Memsync) -> Folder:
    """After a run, of which the memory did not want one document."""
    docs.configure(memory.url, record={"metadata": {"team": "support"}})
    docs.write("bad.md", "An unwanted text.")
    docs.write("good.md", "A good text.")
    memory.play(reject_text="unwanted")
    memsync("run", "docs.yaml")
    return docs


def edit(docs: Folder, memsync: Memsync, script: str, *options: str) -> Completed:
    """Edit the one letter in an editor that runs `script`, in which `$1` is the file."""
    editor = docs.path / "editor.sh"
    editor.write_text(f"#!/bin/sh\n{script}\n")
    editor.chmod(0o700)
    (letter,) = docs.dead_letters()
    arguments = ("dead-letters", "edit", "docs.yaml", letter["id"][:10], *options)
    return memsync(*arguments, environment={**CREDENTIALS, "EDITOR": str(editor)})


def drafts(docs: Folder) -> list[Path]:
    return list(docs.state.glob("edit-*"))


def test_what_comes_back_from_the_editor_is_stored_and_stays(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """The document cannot be mended today, and the agent needs it today."""
    script = 'cp "$1" seen; stat -c %a "$1" > mode; sed -i "s/An unwanted/A mended/; s/support/help desk/" "$1"'

    done = edit(refused, memsync, script)
    again = memsync("run", "docs.yaml", "--json")
    verified = memsync("verify", "docs.yaml")

    seen = (refused.path / "seen").read_text()
    assert "team: support\n---\nAn unwanted text.\n" in seen
    assert "memsync-key" not in seen
    assert (refused.path / "mode").read_text().strip() == "600"
    assert (done.exit_code, "The record is stored as you edited it." in done.stdout) == (0, True)
    assert memory.texts_of("bad.md") == ["A mended text."]
    assert (again.exit_code, again.touched(), again.documents["unchanged"]) == (0, 0, 2)
    assert verified.exit_code == 0
    assert drafts(refused) == []


def test_a_new_version_of_the_document_wins(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """The source is where documents are mended for good."""
    edit(refused, memsync, 'sed -i "s/An unwanted/A mended/" "$1"')
    refused.write("bad.md", "The next version.")

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["updated"]) == (0, 1)
    assert memory.texts_of("bad.md") == ["The next version."]
    assert memory.holds_everything_once()


def test_a_program_can_give_the_text(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """What the memory refuses again is in the letter, and the summary says so."""
    (refused.path / "still.txt").write_text("A still unwanted text.\n")
    (refused.path / "mended.txt").write_text("A mended text.\n")

    in_vain = edit(refused, memsync, "exit 9", "--text-file", "still.txt")
    (letter,) = refused.dead_letters()
    done = edit(refused, memsync, "exit 9", "--text-file", "mended.txt")

    assert (in_vain.exit_code, "The memory refused it again." in in_vain.stdout) == (3, True)
    assert (letter["edited"], letter["record"]["content"]["text"]) == (True, "A still unwanted text.")
    assert done.exit_code == 0
    assert memory.texts_of("bad.md") == ["A mended text."]


def test_what_cannot_be_sent_is_kept_for_the_next_time(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """An hour's work must not be gone for a typing error in the last line; and nothing is sent of it."""
    requests = memory.requests

    broken = edit(refused, memsync, 'sed -i "s/An unwanted/A mended/; s/team: support/team: [/" "$1"')
    kept = [(draft.read_text(), stat.S_IMODE(draft.stat().st_mode)) for draft in drafts(refused)]
    failed = edit(refused, memsync, "exit 9")
    sent_meanwhile = memory.requests - requests
    done = edit(refused, memsync, 'sed -i "s/team: \\[/team: support/" "$1"')

    assert broken.exit_code == 2
    assert "this cannot be sent: the metadata is not YAML, in line " in broken.stderr
    assert "the same command opens it again" in broken.stderr
    assert [("A mended text." in text, mode) for text, mode in kept] == [(True, 0o600)]
    assert (failed.exit_code, "the editor failed" in failed.stderr) == (2, True)
    assert sent_meanwhile == 0
    assert done.exit_code == 0
    assert memory.texts_of("bad.md") == ["A mended text."]


def test_nothing_is_sent_if_nothing_was_changed(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """To close the editor is to think better of it."""
    requests = memory.requests

    done = edit(refused, memsync, "true")

    assert (done.exit_code, done.stdout) == (0, "Nothing was changed, so nothing was sent.\n")
    assert memory.requests == requests
    assert drafts(refused) == []


def test_a_letter_without_a_record_cannot_be_edited(docs: Folder, memsync: Memsync) -> None:
    """There is nothing to send: the message says what to mend instead."""
    docs.write("rows.jsonl", '{"id": 1, "te')
    memsync("run", "docs.yaml")

    done = edit(docs, memsync, "true")

    assert done.exit_code == 2
    assert "has no record to edit: it is about 'rows.jsonl' at the stage 'parse'" in done.stderr


def test_an_edit_that_could_not_be_delivered_waits_in_the_outbox(
    refused: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The person has done his part: the next run does the rest."""
    refused.configure(memory.url, record={"metadata": {"team": "support"}}, writers={"max_attempts": 1})
    memory.play(script=("BatchCreateMemoryRecords:drop_after_write",))
    failed = edit(refused, memsync, 'sed -i "s/An unwanted/A mended/" "$1"')
    memory.play()

    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, "It waits in the outbox as you edited it" in failed.stdout) == (1, True)
    assert drafts(refused) == []
    assert (done.exit_code, done.records["pending"]) == (0, 0)
    assert memory.texts_of("bad.md") == ["A mended text."]
    assert memory.holds_everything_once()


def test_an_edit_waits_for_a_run_that_is_at_work(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """What was typed is not lost for that."""
    refused.write("new.md", "A new text.")
    memory.play(reject_text="unwanted", latency_s=300)
    run = memsync.start("run", "docs.yaml", "--json")
    run.wait_for_log("run_started")

    locked = edit(refused, memsync, 'sed -i "s/An unwanted/A mended/" "$1"')
    run.stop_by(signal.SIGINT)

    assert locked.exit_code == 5
    assert "It was not sent: see above." in locked.stdout
    (letter,) = refused.dead_letters()
    assert f"memsync dead-letters edit docs.yaml {letter['id'][:10]}\n" in locked.stdout, "a replay would not send it"
    assert "the same command opens it again" in locked.stdout
    assert ["A mended text." in draft.read_text() for draft in drafts(refused)] == [True]
