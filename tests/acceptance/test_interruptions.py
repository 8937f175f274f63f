"""Whatever interrupts a run, the next one completes it: every record is there exactly once."""

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .conftest import Folder, Memory, Memsync, paragraph

ROWS = 1000  # ten batches


@pytest.fixture
def large(docs: Folder, memory: Memory) -> Folder:
    """Documents for ten requests, sent so slowly that a run can be interrupted between them."""
    docs.configure(memory.url, writers={"requests_per_second": 10, "concurrency": 4})
    rows = (json.dumps({"id": number, "text": paragraph(number, words=5)}) for number in range(ROWS))
    docs.write("rows.jsonl", "\n".join(rows))
    return docs


def expected_texts(count: int = ROWS) -> list[str]:
    return sorted(paragraph(number, words=5) for number in range(count))


@pytest.mark.parametrize("requests", [1, 4])
def test_a_killed_run_is_completed_by_the_next(requests: int, large: Folder, memory: Memory, memsync: Memsync) -> None:
    """Answers that were lost with the process must not be asked for as new records."""
    memory.play(latency_s=0.05)
    run = memsync.start("run", "docs.yaml", "--json")
    memory.wait_for_requests(requests)
    killed = run.stop_by(signal.SIGKILL)
    large.configure(memory.url)

    done = memsync("run", "docs.yaml", "--json")

    assert killed.exit_code == -signal.SIGKILL
    assert (done.exit_code, done.records["pending"]) == (0, 0)
    assert done.records["created"] + done.records["unchanged"] == ROWS
    assert sorted(memory.texts()) == expected_texts()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_a_run_and_the_next_one_completes_it(
    number: signal.Signals, exit_code: int, large: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A deployment or Ctrl-C ends a run early, and it says so: it has not brought the memory in line."""
    run = memsync.start("run", "docs.yaml", "--json")
    memory.wait_for_requests(3)
    stopped = run.stop_by(number)
    stored = len(memory.records())
    large.configure(memory.url)

    done = memsync("run", "docs.yaml", "--json")

    assert (stopped.exit_code, stopped.report["status"], stopped.source["status"]) == (
        exit_code,
        "interrupted",
        "interrupted",
    )
    assert stopped.records["pending"] + stopped.records["created"] <= ROWS
    assert stopped.records["created"] <= stored < ROWS
    assert "In sync" not in stopped.stdout
    assert (done.exit_code, done.records["pending"]) == (0, 0)
    assert sorted(memory.texts()) == expected_texts()


def test_a_signal_also_stops_a_run_that_waits_for_an_answer(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A service that hangs must not hang whoever wants to stop; and meanwhile nobody else may run the source."""
    docs.write_documents(3)
    memory.play(latency_s=300)
    run = memsync.start("run", "docs.yaml", "--json")
    run.wait_for_log("run_started")

    second = memsync("run", "docs.yaml", "--json")
    plan = memsync("plan", "docs.yaml")
    stopped = run.stop_by(signal.SIGINT)
    memory.play()
    third = memsync("run", "docs.yaml", "--json")

    assert (second.exit_code, second.source["status"]) == (5, "locked")
    assert "Another run holds the source 'docs'" in second.error
    assert plan.exit_code == 0
    assert stopped.exit_code == 130
    assert third.exit_code == 0
    assert memory.documents() == ["000.md", "001.md", "002.md"]
    assert memory.holds_everything_once()


# ------------------------------------------------------------------------------------ a service that fails


def test_lost_replies_make_no_duplicates(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The service has written and we have not heard it: the same token tells it that we ask for the same thing."""
    docs.write_documents(300)
    script = ("drop_after_write", "error_after_write", "drop_after_write", "omit_record", "drop_before_write")
    memory.play(script=tuple(f"BatchCreateMemoryRecords:{mishap}" for mishap in script))

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"]) == (0, 300)
    assert done.source["requests"]["retried"] >= 4
    assert len(memory.documents()) == 300
    assert memory.holds_everything_once()


def test_a_run_that_gives_up_on_lost_replies_is_completed_without_duplicates(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The outbox remembers under which token the lost records were written."""
    docs.configure(memory.url, writers={"max_attempts": 2})
    docs.write_documents(100)
    memory.play(script=("BatchCreateMemoryRecords:drop_after_write",) * 2)
    failed = memsync("run", "docs.yaml", "--json")
    stored = len(memory.records())
    memory.play()

    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, failed.records["pending"], stored) == (1, 100, 100)
    assert (done.exit_code, done.records["pending"]) == (0, 0)
    assert len(memory.documents()) == 100
    assert memory.holds_everything_once()


def test_throttled_requests_all_arrive(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Being asked to go slower is no failure of any record."""
    docs.write_documents(300)
    memory.play(requests_per_second=5)

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"], done.records["dead_lettered"]) == (0, 300, 0)
    assert done.source["requests"]["throttled"] >= 1
    assert docs.dead_letters() == []
    assert memory.holds_everything_once()


@pytest.mark.parametrize("code", [429, 500])
def test_records_that_fail_for_a_while_are_stored_in_the_end(
    code: int, docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """An answer can be a success and still hold records that want to be sent again."""
    docs.write_documents(100)
    memory.play(failed_record=0.05, failed_record_code=code, seed=1)

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"], done.records["dead_lettered"]) == (0, 100, 0)
    assert memory.writes("BatchCreateMemoryRecords") > 1
    assert memory.holds_everything_once()


def test_a_record_that_never_heals_becomes_a_dead_letter(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Trying for ever would keep a run from its end."""
    docs.configure(memory.url, dead_letters={"max_attempts": 2})
    docs.write_documents(3)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted", reject_code=500)

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"]) == (3, 3)
    (letter,) = docs.dead_letters()
    assert (letter["document_id"], letter["error"]["code"], letter["attempts"]) == ("bad.md", "500", 2)


@pytest.mark.parametrize("mishap", ["quota_exceeded", "access_denied"])
def test_what_no_retry_heals_stops_the_run_and_dead_letters_nothing(
    mishap: str, docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Thousands of dead letters for one missing permission would help nobody."""
    docs.write_documents(3)
    memory.play(script=(f"BatchCreateMemoryRecords:{mishap}",) * 3)

    failed = memsync("run", "docs.yaml", "--json")
    memory.play()
    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, failed.records["dead_lettered"]) == (1, 0)
    assert {"quota_exceeded": "quota", "access_denied": "permission"}[mishap] in failed.error
    assert (done.exit_code, len(memory.documents())) == (0, 3)
    assert memory.holds_everything_once()


# ------------------------------------------------------------------------------------ before and after the run

# A process that sends itself the signal of that number when it imports that module, when it ends, or as its last act.
_SIGNALLED = """
import atexit, os, runpy, sys

at, number, *arguments = sys.argv[1:]

def interrupt():
    os.kill(os.getpid(), int(number))

class AtImport:
    def find_spec(self, name, *_):
        if name == at:
            interrupt()

sys.meta_path.insert(0, AtImport())
class AtLast:
    def __del__(self, kill=os.kill, process=os.getpid(), number=int(number)):
        kill(process, number)

if at == "the end":
    atexit.register(interrupt)
if at == "the very end":
    last = AtLast()
sys.argv = ["memsync", *arguments]
runpy.run_module("pipeline", run_name="__main__")
"""


def signalled(folder: Folder, at: str, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _SIGNALLED, at, str(number), *arguments]
    return subprocess.run(command, cwd=folder.path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "at", ["click", "pipeline.commands.run", "anyio", "pipeline.configuration.settings", "pipeline.runs.runner"]
)
def test_a_signal_in_the_first_moments_ends_without_a_trace(at: str, number: int, docs: Folder) -> None:
    """A second goes by before a run listens, and whoever mistyped presses Ctrl-C in just that second."""
    done = signalled(docs, at, number, "run", "docs.yaml")

    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


def test_ctrl_c_while_help_is_made_ends_without_a_trace(docs: Folder) -> None:
    """All commands are imported for it."""
    done = signalled(docs, "pipeline.commands.plan", signal.SIGINT, "--help")

    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", ["the end", "the very end"])
def test_a_signal_after_the_last_word_changes_nothing(at: str, number: int, docs: Folder) -> None:
    """Python takes its time to end; what was done is done, and the exit code is what others go by."""
    done = signalled(docs, at, number, "validate", "docs.yaml")

    assert (done.returncode, done.stderr) == (0, "")
    assert "is valid" in done.stdout


def test_a_signal_that_is_to_be_ignored_is_ignored(docs: Folder) -> None:
    """`nohup`, and shells for what runs in the background, keep Ctrl-C from it."""
    command = [sys.executable, "-c", _SIGNALLED, "click", str(signal.SIGINT), "validate", "docs.yaml"]
    ignoring = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]

    done = subprocess.run(ignoring, cwd=docs.path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_installed_command_is_the_one_that_sees_to_signals() -> None:
    """It may be installed by a name of its own that leads past that."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    assert project["scripts"] == {"memsync": "pipeline.__main__:main"}
