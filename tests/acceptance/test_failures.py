"""What a user can get wrong: a message that says what to do, nothing lost, and the next good run completes."""

import sys
from collections.abc import Mapping

import pytest
import yaml

from .conftest import CREDENTIALS, Completed, Folder, Json, Memory, Memsync, free_port

NO_CREDENTIALS: Mapping[str, str] = {}


def check_completed(done: Completed, memory: Memory, count: int) -> None:
    assert (done.exit_code, done.source["status"], done.records["pending"]) == (0, "in_sync", 0)
    assert len(memory.records()) == count
    assert memory.holds_everything_once()


# --------------------------------------------------------------------------------------------- destination


def test_a_memory_that_is_not_there_fails_the_run(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It may only not be there yet: once it is, the same run completes."""
    absent = "absent-a1B2c3D4e5"
    docs.configure(memory.url, destination={"memory_id": absent})
    docs.write_documents(3)

    failed = memsync("run", "docs.yaml", "--json")
    memory.create(absent)
    done = memsync("run", "docs.yaml", "--json")

    assert failed.exit_code == 1
    assert "destination.memory_id" in failed.error
    assert failed.records["pending"] == 0
    assert failed.records["dead_lettered"] == 0
    assert (done.exit_code, len(memory.records(absent))) == (0, 3)


def test_a_mistyped_memory_can_be_corrected(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The message says to check the id: whoever does and corrects it must get on with that alone."""
    docs.configure(memory.url, destination={"memory_id": "handbok-a1B2c3D4e5"})
    docs.write_documents(3)
    failed = memsync("run", "docs.yaml", "--json")
    docs.configure(memory.url)

    done = memsync("run", "docs.yaml", "--json")

    assert failed.exit_code == 1
    assert done.exit_code == 0, done.stderr + done.stdout
    check_completed(done, memory, 3)


def test_without_credentials_nothing_is_sent(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The most frequent fault of a first run; credentials are never guessed for a memory elsewhere."""
    docs.configure("https://memory.invalid")  # nobody is asked for its address: credentials come first
    docs.write_documents(3)

    failed = memsync("run", "docs.yaml", "--json", environment=NO_CREDENTIALS)
    docs.configure(memory.url)
    done = memsync("run", "docs.yaml", "--json", environment=NO_CREDENTIALS)

    assert failed.exit_code == 1
    assert "credentials" in failed.error
    assert "the usual AWS way" in failed.error
    check_completed(done, memory, 3)


def test_without_a_region_nothing_is_sent(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """AWS has a memory in each region: a guess could write to the wrong one."""
    docs.configure(memory.url, destination={"region": None})
    docs.write_documents(3)

    failed = memsync("run", "docs.yaml", "--json")
    region = {**CREDENTIALS, "AWS_REGION": "us-east-1"}
    done = memsync("run", "docs.yaml", "--json", environment=region)

    assert failed.exit_code == 1
    assert "destination.region" in failed.error
    check_completed(done, memory, 3)


def test_a_refused_connection_fails_a_first_run_before_anything_is_planned(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A new ledger has to look at the memory first; once the network is up again, all is sent."""
    docs.configure(f"http://127.0.0.1:{free_port()}", writers={"max_attempts": 2})
    docs.write_documents(3)

    failed = memsync("run", "docs.yaml", "--json")
    status = memsync("status", "docs.yaml")
    docs.configure(memory.url)
    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, failed.source["status"], failed.records["pending"]) == (1, "failed", 0)
    assert "Check the network" in failed.error
    assert "Not in sync" in failed.stdout
    assert "memsync run docs.yaml" in failed.stdout
    assert "failed" in status.stdout
    check_completed(done, memory, 3)


HANGING_FILE_SYSTEM = """
from threading import Event
from fsspec import AbstractFileSystem

class Hanging(AbstractFileSystem):
    def ls(self, path, **_):
        Event().wait()
"""


def test_a_library_that_hangs_does_not_keep_the_process(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Its thread cannot be ended, and Python would wait for it."""
    docs.configure(memory.url)
    settings = yaml.safe_load((docs.path / "docs.yaml").read_text())
    settings["source"] = {"type": "fsspec", "url": "hanging://somewhere", "timeout_s": 0.1}
    (docs.path / "docs.yaml").write_text(yaml.safe_dump(settings))
    packages = docs.path / "packages"
    about = packages / "hanging-1.dist-info"
    about.mkdir(parents=True)
    (about / "entry_points.txt").write_text("[fsspec.specs]\nhanging = hanging:Hanging\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1\n")
    (packages / "hanging.py").write_text(HANGING_FILE_SYSTEM)

    done = memsync("run", "docs.yaml", "--json", environment={**CREDENTIALS, "PYTHONPATH": str(packages)})

    assert done.exit_code == 1
    assert "no answer within 0.1 s" in done.error


def test_a_search_without_a_memory_says_so(docs: Folder, memsync: Memsync) -> None:
    """Commands that only look have the same messages."""
    docs.configure(f"http://127.0.0.1:{free_port()}")

    done = memsync("search", "docs.yaml", "anything")
    verified = memsync("verify", "docs.yaml")

    assert (done.exit_code, verified.exit_code) == (1, 1)
    assert done.stdout == ""
    assert done.stderr.startswith("memsync: ")
    assert "Check the network" in done.stderr
    assert "Check the network" in verified.stdout


# -------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("name: docs\nsource: {type: filesystem, path: [}\n", "docs.yaml:2:", ""),
        ("name: docs\nsorce: {type: filesystem, path: docs}\n", "docs.yaml:2:1", "source"),
        ("name: docs\nsource:\n  type: filesystem\n  path: docs\n  inclde: []\n", "docs.yaml:5:3", "include"),
        ("name: docs\nsource: {type: filesytem, path: docs}\n", "docs.yaml:2:", "filesystem"),
        ("source: {type: filesystem, path: docs}\nchunking: {max_chars: 17000}\n", "docs.yaml:2:", "16000"),
        ("source: {type: filesystem, path: docs}\n", "docs.yaml", "destination"),
    ],
    ids=["broken YAML", "unknown section", "unknown key", "unknown type", "value too large", "missing section"],
)
def test_a_fault_in_the_file_is_shown_with_its_place(
    text: str, place: str, hint: str, docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Found before anything is sent, and named as an editor can jump to it."""
    (docs.path / "docs.yaml").write_text(text)

    done = memsync("validate", "docs.yaml")

    assert (done.exit_code, done.stdout) == (2, "")
    assert place in done.stderr
    assert hint in done.stderr
    assert not docs.state.exists()


def test_a_run_refuses_what_validate_refuses(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """No half-read configuration: not even the sources that are right are begun."""
    docs.write_documents(1)
    (docs.path / "other.yaml").write_text("name: other\nsource: {type: filesystem, path: docs}\nwhat: 1\n")

    done = memsync("run", ".", "--json")

    assert done.exit_code == 2
    assert "other.yaml:3:1" in done.stderr
    assert memory.requests == 0
    assert not docs.state.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "docs.yaml", "--source", "wiki"), "there is no source 'wiki' here; there are docs"),
        (("run", "missing.yaml"), "missing.yaml"),
        (("run",), "PATH"),
        (("run", "docs.yaml", "--frobnicate"), "--frobnicate"),
        (("frobnicate",), "frobnicate"),
        (("local", "--port", "0", "--faults", "throtle=1"), "throttle"),
    ],
    ids=["unknown source", "no file", "no path", "unknown option", "unknown command", "unknown fault"],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], said: str, docs: Folder, memsync: Memsync) -> None:
    """A script must be able to tell a mistake of its author from a failure of the service."""
    done = memsync(*arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


# ------------------------------------------------------------------------------------------ state and disk


def test_a_state_folder_that_is_a_file_fails_the_run(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Without a ledger nothing may be sent: it could never be found again."""
    docs.write_documents(3)
    docs.configure(memory.url, state={"path": "state"})
    (docs.path / "state").write_text("not a folder")

    failed = memsync("run", "docs.yaml", "--json")
    requests = memory.requests
    (docs.path / "state").unlink()
    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, failed.source["status"], requests) == (1, "failed", 0)
    assert "state.path" in failed.error
    check_completed(done, memory, 3)


def test_the_state_of_another_memory_is_refused(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """By a ledger of the old memory everything would count as stored, and the new one would stay empty."""
    docs.write_documents(3)
    memsync("run", "docs.yaml")
    requests = memory.requests
    memory.create("another-a1B2c3D4e5")
    docs.configure(memory.url, destination={"memory_id": "another-a1B2c3D4e5"})

    failed = memsync("run", "docs.yaml", "--json")
    docs.configure(memory.url)
    done = memsync("run", "docs.yaml", "--json")

    assert failed.exit_code in (1, 2)
    assert "state.path" in failed.error
    assert memory.requests == requests
    check_completed(done, memory, 3)


def test_a_state_that_is_no_database_fails_the_run(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A broken ledger is never begun anew without a word: everything would be created twice."""
    docs.write_documents(3)
    memsync("run", "docs.yaml")
    file = docs.state / "state.sqlite3"
    good = file.read_bytes()
    file.write_bytes(b"this is no database, " * 100)

    failed = memsync("run", "docs.yaml", "--json")
    file.write_bytes(good)
    done = memsync("run", "docs.yaml", "--json")

    assert failed.exit_code == 1
    assert str(file) in failed.error
    check_completed(done, memory, 3)


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="takes root's power away by a Linux call")


@linux_only
@pytest.mark.parametrize("is_new", [True, False], ids=["first run", "later run"])
def test_a_state_that_cannot_be_written_fails_the_run(
    is_new: bool, docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A disk that went read-only: what cannot be saved is not sent."""
    docs.write_documents(3)
    if not is_new:
        assert memsync("run", "docs.yaml").exit_code == 0
        docs.write("new.md")
    docs.state.mkdir(parents=True, exist_ok=True)
    read_only = [docs.state, *docs.state.iterdir()]
    for path in read_only:
        path.chmod(0o500 if path.is_dir() else 0o400)
    requests = memory.requests

    failed = memsync("run", "docs.yaml", "--json", as_root=False)
    requests_of_failed = memory.requests - requests
    for path in read_only:
        path.chmod(0o700 if path.is_dir() else 0o600)
    done = memsync("run", "docs.yaml", "--json", as_root=False)

    assert (failed.exit_code, failed.source["status"], requests_of_failed) == (1, "failed", 0)
    assert "permissions" in failed.error
    check_completed(done, memory, 3 if is_new else 4)


@linux_only
def test_a_state_that_can_only_be_read_can_be_looked_at(docs: Folder, memsync: Memsync) -> None:
    """Plan, status and dead-letters write nothing, so they need no permission to."""
    docs.write_documents(3)
    assert memsync("run", "docs.yaml").exit_code == 0
    for path in (*docs.state.iterdir(), docs.state):
        path.chmod(0o500 if path.is_dir() else 0o400)

    looks = [memsync(command, "docs.yaml", as_root=False) for command in ("plan", "status", "dead-letters")]

    docs.state.chmod(0o700)
    assert [done.exit_code for done in looks] == [0, 0, 0], looks


def test_a_dead_letter_file_that_cannot_be_written_stops_the_run(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """What nobody could read later must not be given up on."""
    letters: Json = {"path": "blocked/letters.jsonl"}
    docs.configure(memory.url, dead_letters=letters)
    (docs.path / "blocked").write_text("not a folder")
    docs.write("bad.md", "This is unwanted.")
    docs.write("good.md", "This is good.")
    memory.play(reject_text="unwanted")

    failed = memsync("run", "docs.yaml", "--json")
    (docs.path / "blocked").unlink()
    dead_lettered = memsync("run", "docs.yaml", "--json")
    memory.play()
    done = memsync("replay", "docs.yaml", "--json")

    assert (failed.exit_code, failed.source["status"]) == (1, "failed")
    assert "letters.jsonl" in failed.error
    assert failed.records["dead_lettered"] == 0
    assert (dead_lettered.exit_code, dead_lettered.records["dead_lettered"]) == (3, 1)
    check_completed(done, memory, 2)


def test_a_replay_before_the_first_run_is_not_in_sync(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Nothing was read, so nothing can be said of the memory; monitoring would take it for a success."""
    docs.write_documents(1)

    done = memsync("replay", "docs.yaml", "--json")
    shown = memsync("replay", "docs.yaml")

    assert done.exit_code == 1
    assert "the source has not been read yet" in done.error
    assert "memsync run docs.yaml" in shown.stdout
    assert memory.records() == []


def test_replays_after_a_failed_run_tell_its_reason_once(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whoever replays again and again must find the reason, and that it takes a run."""
    docs.documents.rename(docs.path / "aside")
    memsync("run", "docs.yaml")

    shown = [memsync("replay", "docs.yaml") for _ in range(3)][-1]

    assert shown.exit_code == 1
    assert shown.stdout.count("The replay went through") == 1
    assert "Cannot list the folder" in shown.stdout
    assert "memsync run docs.yaml" in shown.stdout
