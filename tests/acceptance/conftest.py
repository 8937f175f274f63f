"""The program as a user runs it: the installed command in a process of its own, a local memory over real HTTP.

`folder` holds the documents and the YAML, `memory` is the server, `memsync` runs the command in `folder`. Whatever
a test is about, `memsync` also holds the laws that must hold of every run: see `check_laws`.
"""

import json
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
import yaml
from anyio.from_thread import BlockingPortal, start_blocking_portal
from botocore.config import Config

from docs.log_events import fault_of
from pipeline.local_memory import Faults, LocalMemory, StoredRecord

MEMORY_ID = "handbook-a1B2c3D4e5"
CLEAN_MEMORY_ID = "clean-a1B2c3D4e5"

TEXT_CANARY = "kumquat"  # in every text that the kit makes; never in a log, a summary or a report
SECRET_CANARY = "wJalrXUtnFEMI-not-for-your-eyes"

PROCESS_TIMEOUT_S = 60
CONDITION_TIMEOUT_S = 30

# Run by a Python that then becomes memsync: it gives up root's power to read and write whatever permissions say.
# 24 is PR_CAPBSET_DROP, 1 and 2 are CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH; whoever is not root lacks them anyway.
WITHOUT_ROOTS_POWER = (
    "import ctypes, os, sys; prctl = ctypes.CDLL(None).prctl; prctl(24, 1, 0, 0, 0); prctl(24, 2, 0, 0, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)

Json = dict[str, Any]


# ---------------------------------------------------------------------------------------------- documents


def paragraph(number: int, words: int = 40) -> str:
    """Some words, always the same for a number and other ones for another."""
    rng = random.Random(number)
    vocabulary = ("account", "bicycle", "cellar", "delta", "engine", "forest", "garden", "harbour", "island", "jacket")
    chosen = " ".join(f"{rng.choice(vocabulary)}{rng.randrange(1000)}" for _ in range(words))
    return f"Paragraph {number} {TEXT_CANARY} {chosen}."


def long_text(paragraphs: int, words: int = 40) -> str:
    return "\n\n".join(paragraph(number, words) for number in range(paragraphs))


@dataclass(frozen=True, slots=True)
class Folder:
    """What a user has: documents below `docs/`, and YAML files beside it."""

    path: Path

    @property
    def documents(self) -> Path:
        return self.path / "docs"

    @property
    def state(self) -> Path:
        """Where the source `docs` keeps its state unless told otherwise."""
        return self.path / ".memsync" / "docs"

    def write(self, name: str, text: str | None = None) -> Path:
        """Write a document; without a text, one that names it."""
        file = self.documents / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# About {name}\n\nAll of {name}, {TEXT_CANARY}.\n" if text is None else text)
        return file

    def write_documents(self, count: int, *, first: int = 0) -> None:
        for number in range(first, first + count):
            self.write(f"{number:03}.md")

    def remove(self, *names: str) -> None:
        for name in names:
            (self.documents / name).unlink()

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.documents / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def configure(self, endpoint_url: str, file: str = "docs.yaml", **sections: Any) -> None:
        """Write a YAML file; a section is merged into what the kit says, anything else replaces it."""
        settings: Json = {
            "name": "docs",
            "source": {"type": "filesystem", "path": "docs"},
            "destination": {
                "type": "agentcore",
                "memory_id": MEMORY_ID,
                "region": "us-east-1",
                "endpoint_url": endpoint_url,
            },
            "writers": {"requests_per_second": 1000},
        }
        for name, value in sections.items():
            settings[name] = {**settings.get(name, {}), **value} if isinstance(value, Mapping) else value
        (self.path / file).write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """All that is in the folder, with contents and times of modification."""
        return {
            str(path.relative_to(self.path)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in self.path.rglob("*")
        }

    def dead_letters(self) -> list[Json]:
        """The lines of the dead-letter file."""
        file = self.state / "dead-letters.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# ----------------------------------------------------------------------------------------------- the memory


class RequestLog(Counter[tuple[str, int]]):
    """Counts as `LocalMemory.requests` does, and tells those who wait for a count."""

    def __init__(self) -> None:
        self.has_grown = threading.Condition()
        super().__init__()

    def __setitem__(self, key: tuple[str, int], count: int) -> None:
        with self.has_grown:
            super().__setitem__(key, count)
            self.has_grown.notify_all()


class Memory:
    """A running local memory, seen from the outside and, for judging, from the inside."""

    def __init__(self, server: LocalMemory, portal: BlockingPortal) -> None:
        self.url = server.url
        self._server = server
        self._portal = portal
        self._requests = RequestLog()
        server.requests = self._requests

    @property
    def requests(self) -> int:
        """How many requests were answered, or dropped, so far."""
        return self._requests.total()

    def writes(self, operation: str) -> int:
        """How many requests of `BatchCreateMemoryRecords` and the like succeeded."""
        return sum(
            count for (name, status), count in self._requests.items() if name == operation and status // 100 == 2
        )

    def wait_for_requests(self, count: int) -> None:
        with self._requests.has_grown:
            assert self._requests.has_grown.wait_for(lambda: self.requests >= count, CONDITION_TIMEOUT_S)

    def play(self, **faults: Any) -> None:
        """Make things go wrong from now on; nothing given: no more."""
        self._portal.call(lambda: setattr(self._server, "faults", Faults(**faults)))

    def create(self, memory_id: str) -> None:
        self._portal.call(self._server.create_memory, memory_id)

    def forget(self, memory_id: str = MEMORY_ID) -> None:
        """Lose every record, as when they have lapsed."""
        with client_of(self.url) as client:
            ids = [{"memoryRecordId": record.record_id} for record in self.records(memory_id)]
            client.batch_delete_memory_records(memoryId=memory_id, records=ids)

    def records(self, memory_id: str = MEMORY_ID) -> list[StoredRecord]:
        return self._portal.call(self._server.records, memory_id)

    def texts(self) -> list[str]:
        return [record.text for record in self.records()]

    def texts_of(self, document: str) -> list[str]:
        """The texts of a document in the order of their `memsync-chunk`."""
        chunks = [record for record in self.records() if document_of(record) == document]
        return [record.text for record in sorted(chunks, key=lambda record: metadata_of(record)["memsync-chunk"])]

    def documents(self) -> list[str]:
        """The documents that records are of, each once."""
        return sorted({document_of(record) for record in self.records()})

    def contents(self, memory_id: str = MEMORY_ID) -> list[tuple[str, str, Json]]:
        """All records as far as they must be equal after any way to the same documents.

        `memsync-chunk` orders the chunks of a document, by numbers that tell of insertions; times tell of edits.
        """
        return sorted(
            (
                (
                    record.namespace,
                    record.text,
                    {key: value for key, value in metadata_of(record).items() if key != "memsync-chunk"},
                )
                for record in self.records(memory_id)
            ),
            key=lambda content: (content[0], content[2]["memsync-key"]),
        )

    def ids(self) -> set[str]:
        return {record.record_id for record in self.records()}

    def holds_everything_once(self) -> bool:
        keys = [metadata_of(record)["memsync-key"] for record in self.records()]
        return len(keys) == len(set(keys))


def metadata_of(record: StoredRecord) -> Json:
    """The metadata of a record, without the service's wrapping of values."""
    return {key: next(iter(value.values())) for key, value in record.metadata.items()}


def document_of(record: StoredRecord) -> str:
    """The id of a record's document, which its metadata holds with `=XX` for what metadata does not allow."""
    return unquote(str(metadata_of(record)["memsync-document"]).replace("=", "%"))


@contextmanager
def client_of(url: str) -> Iterator[Any]:
    """boto3 as somebody else would use it."""
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
    client = session.client("bedrock-agentcore", endpoint_url=url, config=Config(proxies={}))
    try:
        yield client
    finally:
        client.close()


# ---------------------------------------------------------------------------------------------- the command


@dataclass(frozen=True)
class Completed:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @cached_property
    def report(self) -> Json:
        """The JSON object that stands last on stdout."""
        report: Json = json.loads(self.stdout.splitlines()[-1])
        return report

    @property
    def source(self) -> Json:
        (source,) = self.report["sources"]
        return dict(source)

    @property
    def documents(self) -> Json:
        return dict(self.source["documents"])

    @property
    def records(self) -> Json:
        return dict(self.source["records"])

    @property
    def error(self) -> str:
        """Why the only source failed, or what the command said to whoever typed it."""
        return str(self.source["error"]) if self.stdout else self.stderr

    @property
    def logs(self) -> list[Json]:
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]

    def touched(self) -> int:
        """How many records were written or deleted."""
        return int(self.records["created"] + self.records["updated"] + self.records["deleted"])


def check_laws(done: Completed, command: str) -> None:
    """What must hold of every run, whatever it was for."""
    # No document text and no secret in logs, messages and reports; only a search shows texts.
    assert SECRET_CANARY not in done.stdout + done.stderr
    assert TEXT_CANARY not in done.stderr + (done.stdout if command != "search" else "")
    # Nothing that a document or its name holds can drive a terminal.
    assert "\x1b" not in done.stdout + done.stderr
    # What a user can cause is answered with a message.
    assert "Traceback" not in done.stderr
    assert "unexpected_error" not in done.stderr
    assert "library_complained" not in done.stderr
    if done.exit_code != 2:
        for line in done.stderr.splitlines():
            assert line.startswith(("memsync: ", "  ")) or fault_of(json.loads(line)) is None, line
    # Every document is in exactly one class.
    if command in ("run", "plan", "replay") and done.stdout.endswith("}\n"):
        for source in done.report["sources"]:
            counts = source["documents"]
            classes = counts["unchanged"] + counts["added"] + counts["changed"] + counts["failed"]
            assert counts["seen"] == classes, counts
            assert min(value for value in counts.values() if isinstance(value, int)) >= 0, counts
            assert min(source["records"].values()) >= 0, source["records"]


@dataclass
class Running:
    """A command under way."""

    process: subprocess.Popen[Any]
    command: str

    def wait_for_log(self, *events: str) -> Json:
        """Wait until the command logs one of `events`, and return that; what it logged before is dropped."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            logged: Json = json.loads(line)
            if logged["event"] in events:
                return logged
        raise AssertionError(f"the command ended without {' or '.join(events)}")

    def read_line(self) -> str:
        """The next line of stdout."""
        assert self.process.stdout is not None
        return str(self.process.stdout.readline())

    def finish(self) -> Completed:
        """Wait for the end."""
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        stderr, stdout = self.process.stderr.read(), self.process.stdout.read()
        done = Completed(self.process.wait(PROCESS_TIMEOUT_S), stdout, stderr)
        check_laws(done, self.command)
        return done

    def stop_by(self, signal_number: signal.Signals) -> Completed:
        self.process.send_signal(signal_number)
        return self.finish()


@dataclass
class Memsync:
    """Runs `memsync`, from within a folder and with an environment of its own."""

    folder: Path
    home: Path
    running: list[Running] = field(default_factory=list)

    def __call__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, as_root: bool = True
    ) -> Completed:
        """Run a command to its end; not `as_root`: permissions count, even if the tests run as root."""
        result = subprocess.run(
            [*([] if as_root else [sys.executable, "-c", WITHOUT_ROOTS_POWER]), str(program()), *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=PROCESS_TIMEOUT_S,
            check=False,
        )
        done = Completed(result.returncode, result.stdout, result.stderr)
        check_laws(done, arguments[0])
        return done

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Running:
        process = subprocess.Popen(
            [str(program()), *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.running.append(Running(process, arguments[0]))
        return self.running[-1]

    def on_terminal(self, *arguments: str) -> tuple[int, str]:
        """Run a command whose output goes to a terminal; return its exit code and what the terminal was sent."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [str(program()), *arguments],
            cwd=self.folder,
            env={**self._environment(None), "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        self.running.append(Running(process, arguments[0]))
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # that is how Linux ends a terminal
            while sent := os.read(ours, 4096):
                shown += sent
        os.close(ours)
        return process.wait(PROCESS_TIMEOUT_S), shown.decode()

    def _environment(self, additional: Mapping[str, str] | None) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "AWS_EC2_METADATA_DISABLED": "true",
            **(CREDENTIALS if additional is None else additional),
        }


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": SECRET_CANARY}


def program() -> Path:
    """The installed command, beside the interpreter that runs the tests."""
    return Path(sys.executable).with_name("memsync")


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# ------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "user")
    folder.documents.mkdir(parents=True)
    return folder


@pytest.fixture
def memory() -> Iterator[Memory]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(LocalMemory.serve(memories=[MEMORY_ID])) as server,
    ):
        yield Memory(server, portal)


@pytest.fixture
def memsync(folder: Folder, tmp_path: Path) -> Iterator[Memsync]:
    home = tmp_path / "home"
    home.mkdir()
    memsync = Memsync(folder.path, home)
    yield memsync
    for running in memsync.running:
        with running.process as process:
            process.kill()


@pytest.fixture
def docs(folder: Folder, memory: Memory) -> Folder:
    """`folder` with `docs.yaml`, whose documents go to `memory`."""
    folder.configure(memory.url)
    return folder
