"""A user's folder, a memory in this process, and memsync as a process that can be killed."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from pipeline.local_memory import LocalMemory
from tests.acceptance.conftest import CREDENTIALS, MEMORY_ID, Folder, Memory, document_of, metadata_of, program

RUN_S_MAX = 120.0
# What changes files, and what speaks to the memory. Each has a counter of its own in strace.
FILE_CALLS = ("openat", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "mkdir")
SOCKET_CALLS = ("sendto", "sendmsg")

STRACE = shutil.which("strace")


@dataclass
class Rehearsal:
    """One folder and one memory. `problems` are breaches of the promise."""

    folder: Folder
    memory: Memory
    home: Path
    problems: list[str] = field(default_factory=list)
    runs: int = 0

    # ------------------------------------------------------------------------------------------ running

    def run(
        self, *arguments: str, under: Sequence[str] = (), code: str = "", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, `under` another program; `code` runs before it in the same process."""
        self.runs += 1
        return subprocess.run(
            [*under, *self._command(code), *arguments],
            cwd=self.folder.path,
            env=self._environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=RUN_S_MAX,
            check=False,
        )

    def start(self, *arguments: str, code: str = "") -> subprocess.Popen[str]:
        self.runs += 1
        return subprocess.Popen(
            [*self._command(code), *arguments],
            cwd=self.folder.path,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )

    def _command(self, code: str) -> list[str]:
        if not code:
            return [str(program())]
        return [sys.executable, "-c", f"{code}\nfrom pipeline.cli import main\nmain()"]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
            **CREDENTIALS,
        }

    def files_of_state(self) -> list[Path]:
        names = ("state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm", "state.mark", "run.lock")
        letters = ("dead-letters.jsonl", "dead-letters.jsonl.new")
        return [self.folder.state / name for name in (*names, *letters)] + [self.folder.state]

    # ------------------------------------------------------------------------------------------ judging

    def complete(self, where: str, *, runs_max: int = 3) -> None:
        """Run without faults until in sync, and require that everything is right."""
        for _ in range(runs_max):
            done = self.run("run", "docs.yaml", "--json")
            if "Traceback" in done.stderr:
                self.problems.append(f"{where}: a trace instead of a message")
            if done.returncode == 0:
                break
        else:
            self.problems.append(f"{where}: not in sync after {runs_max} runs: {done.stdout[-300:]}")
            return
        self.require_right(where)

    def require_right(self, where: str) -> None:
        wanted = Counter(file.relative_to(self.folder.documents).as_posix() for file in self._documents())
        held = Counter(document_of(record) for record in self.memory.records())
        keys = Counter(metadata_of(record)["memsync-key"] for record in self.memory.records())
        if twice := [key for key, count in keys.items() if count > 1]:
            self.problems.append(f"{where}: {len(twice)} records duplicated")
        if lost := wanted - held:
            self.problems.append(f"{where}: {len(lost)} documents lost: {sorted(lost)[:3]}")
        if left := set(held) - set(wanted):
            self.problems.append(f"{where}: {len(left)} documents left over: {sorted(left)[:3]}")
        texts = {file.read_text().strip() for file in self._documents()}
        if {record.text.strip() for record in self.memory.records()} != texts:
            self.problems.append(f"{where}: another text than the source's")
        if self.folder.dead_letters():
            self.problems.append(f"{where}: dead letters are left")

    def require_verified(self, where: str) -> None:
        done = self.run("verify", "docs.yaml", "--json")
        if done.returncode:
            self.problems.append(f"{where}: verify finds differences: {done.stdout[-300:]}")

    def _documents(self) -> Iterator[Path]:
        return (file for file in self.folder.documents.rglob("*") if file.is_file())


@contextmanager
def rehearsal() -> Iterator[Rehearsal]:
    """A folder whose documents go to a memory that is served from here."""
    with (
        tempfile.TemporaryDirectory(prefix="memsync-crash-") as above,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(LocalMemory.serve(memories=[MEMORY_ID])) as server,
    ):
        folder, home = Folder(Path(above) / "user"), Path(above) / "home"
        folder.documents.mkdir(parents=True)
        home.mkdir()
        memory = Memory(server, portal)
        folder.configure(memory.url)
        yield Rehearsal(folder, memory, home)
