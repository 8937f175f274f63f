"""What no command may show, and what nobody but its owner may open, from one end to the other."""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.state.schema_1 import write_state

from .conftest import MEMORY_ID, SECRET_CANARY, TEXT_CANARY, Completed, Folder, Memory, Memsync, client_of

PASSWORD = "medlar-opens-the-door"
FORGED = '{"event": "run_finished", "level": "info", "status": "in_sync"}'
NAMES = [
    f"a\n{FORGED}\nb.md",
    "\x1b]0;title\x07\x1b[2Jc.md",
    "\u202egnp.d.md",  # shown from right to left
    "e\r\x9b31mf.md",
    "g\u2028In sync.\n.md",
    os.fsdecode(b"h\xff\x1b[31m.md"),
]
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def hostile(docs: Folder) -> Folder:
    """Documents whose names and front matter try to speak for memsync, in a configuration that holds a password."""
    for number, name in enumerate(NAMES):
        docs.write(name, f"---\ntitle: {TEXT_CANARY}\npassword: {PASSWORD}\n---\n# {TEXT_CANARY}\n\nPart {number}.\n")
    docs.write("rows.jsonl", f'{{"id": "\\u001b[2J{PASSWORD[:3]}", "text": "{TEXT_CANARY}"}}\n{{broken {TEXT_CANARY}\n')
    return docs


def require_silence(done: Completed) -> None:
    """Nothing of what was planted is shown, and each line is one that memsync meant to write."""
    for shown in (done.stdout, done.stderr):
        assert not UNSAFE.search(shown), repr(UNSAFE.search(shown))
        for secret in (PASSWORD, TEXT_CANARY, SECRET_CANARY):
            assert secret not in shown
        assert FORGED not in shown.splitlines()
        assert "In sync." not in shown.splitlines()[:-1]
    for line in done.stderr.splitlines():
        if line.startswith("{"):
            assert {"timestamp", "level", "event"} <= json.loads(line).keys()


def test_no_command_shows_what_is_planted_nor_lets_it_speak(hostile: Folder, memory: Memory, memsync: Memsync) -> None:
    """Logs go to collectors that many read, and a line in them is believed; names and texts come from anybody."""
    memory.play(reject_text="Part 1")
    done = [memsync("validate", "docs.yaml"), memsync("plan", "docs.yaml"), memsync("run", "docs.yaml")]
    assert done[-1].exit_code == 3
    missing, changed, *_ = memory.records()
    with client_of(memory.url) as client:
        client.batch_delete_memory_records(memoryId=MEMORY_ID, records=[{"memoryRecordId": missing.record_id}])
        client.batch_update_memory_records(
            memoryId=MEMORY_ID,
            records=[
                {
                    "memoryRecordId": changed.record_id,
                    "timestamp": 1_800_000_000,
                    "content": {"text": f"{TEXT_CANARY} {PASSWORD}"},
                    "metadata": changed.metadata,
                }
            ],
        )
    done.append(memsync("dead-letters", "docs.yaml"))  # --json gives the letters as they are, with their records
    for command in ("status", "verify", "doctor", "run", "plan", "replay"):
        done += [memsync(command, "docs.yaml"), memsync(command, "docs.yaml", "--json")]
    done.append(memsync("verify", "docs.yaml", "--repair"))
    assert done[-1].exit_code == 0
    shutil.rmtree(hostile.path / ".memsync")
    done += [memsync("run", "docs.yaml"), memsync("recover", "docs.yaml"), memsync("run", "docs.yaml")]

    assert [each.exit_code for each in done[-3:]] == [1, 0, 3]
    for each in done:
        require_silence(each)


def test_a_terminal_is_not_driven_either(hostile: Folder, memory: Memory, memsync: Memsync) -> None:
    """What a person sees is drawn by memsync's own code, with colours and a live display."""
    memory.play(reject_text="Part 1")

    for command in ("run", "status", "dead-letters", "verify", "doctor", "plan"):
        _, shown = memsync.on_terminal(command, "docs.yaml")
        for secret in (PASSWORD, TEXT_CANARY, SECRET_CANARY, "\x1b]0;", "\x1b[2J", "\u202e", "\x9b"):
            assert secret not in shown, (command, secret)
        assert FORGED not in shown.splitlines()


def test_a_password_in_an_address_is_refused_and_not_repeated(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Addresses are copied into logs by every library on the way; a password has no place in one."""
    docs.configure(memory.url.replace("://", f"://admin:{PASSWORD}@"))

    for command in ("validate", "plan", "run", "verify", "status"):
        done = memsync(command, "docs.yaml")
        assert done.exit_code == 2, command
        assert PASSWORD not in done.stdout + done.stderr, command


# ------------------------------------------------------------------------------------------------- files


@pytest.fixture
def _no_umask() -> Iterator[None]:
    """What the user's shell allows everybody is no reason to do so."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes_below(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*"))}


@pytest.mark.usefixtures("_no_umask")
def test_whatever_memsync_makes_is_its_owners_alone(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Ledger, outbox, letters, backups and a memory on this machine hold documents."""
    docs.write_documents(2)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")
    made = docs.path / "made"
    letters = {"path": "made/for/letters/dead.jsonl"}
    docs.configure(memory.url, state={"path": "made/by/us"}, dead_letters=letters)
    local = {"endpoint_url": "local", "region": None}
    docs.configure(memory.url, "local.yaml", name="local", destination=local, state={"path": "made/local"})
    docs.configure(memory.url, "older.yaml", state={"path": "made/older"})
    state = made / "older" / "docs" / "state.sqlite3"
    write_state("in-sync", state)
    for path in (made, made / "older", state):
        path.chmod(0o600 if path == state else 0o700)

    for command, file in (("run", "docs.yaml"), ("run", "local.yaml"), ("run", "older.yaml"), ("replay", "docs.yaml")):
        memsync(command, file)

    modes = modes_below(made)
    assert {
        "by/us/docs/state.sqlite3",
        "by/us/docs/state.mark",
        "for/letters/dead.jsonl",
        "older/docs/state.sqlite3.schema-1",
    } <= modes.keys()
    assert len(modes) > 15, modes
    assert {name: oct(mode) for name, mode in modes.items() if mode not in (0o600, 0o700)} == {}


def test_a_preview_shows_a_document_without_letting_it_speak(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It is there to show texts; they must not pass for its own words, nor drive the terminal."""
    docs.configure(memory.url, record={"metadata": {"said": "{metadata.said}"}})
    text = f'---\nsaid: "\\e[2J{FORGED}"\n"un\\e[2Jused": "a\\n{FORGED}"\n---\n# \x1b]0;x\x07\u202e\n\n{FORGED}\n'
    for name in NAMES:
        docs.write(name, text)

    for _ in NAMES:
        done = memsync("preview", "docs.yaml")
        assert done.exit_code == 0
        assert not UNSAFE.search(done.stdout), repr(UNSAFE.search(done.stdout))
        assert FORGED not in done.stdout.splitlines()
        document = memsync("preview", "docs.yaml", "--json").report["document"]["id"]
        docs.remove(os.fsdecode(_unescaped(document)))


def _unescaped(document: str) -> bytes:
    return re.sub(rb"%([89A-F][0-9A-F])", lambda found: bytes.fromhex(found[1].decode()), document.encode())
