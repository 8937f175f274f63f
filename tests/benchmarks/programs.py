"""Whole processes, timed one beside the other: the command as users run it, and what its work costs at the least."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.client import MEMORY_ID, REGION
from tests.benchmarks.corpus import write_corpus

MEMSYNC = str(Path(sys.executable).with_name("memsync"))


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that has ended: its seconds, its seconds of CPU, its peak of memory in bytes, its output."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run(command: Sequence[str], folder: Path) -> Ran:
    """Run `command` to its end.

    Raises:
        AssertionError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", _LAUNCHER, *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    output, _, said = done.stdout.rpartition("\n")
    status, seconds, cpu_seconds, peak_kib = json.loads(said)
    assert status == 0, f"{command} ended with {status}: {done.stderr[-2000:]}"
    return Ran(seconds, cpu_seconds, peak_kib * 1024, output)


# A process counts the memory of the one that started it as its own peak: so a small one stands in between. It looks at
# the peaks of all processes that are there, again and again: those of a program that has several are added up.
_LAUNCHER = """
import os, sys, threading, time
def peak_kib(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            own = next((int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return own + sum(peak_kib(child) for child in children.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return 0
peak = 0
def watch():
    global peak
    while True:
        time.sleep(0.01)
        peak = max(peak, peak_kib(process))
began = time.perf_counter()
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
threading.Thread(target=watch, daemon=True).start()
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - began
print()
print([os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss)], end="")
"""


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of documents with its configuration."""

    folder: Path
    documents: int

    @classmethod
    def make(cls, folder: Path, documents: int) -> "Source":
        write_corpus(folder / "docs", documents)
        return cls(folder, documents)

    def configure(self, url: str, **sections: Any) -> None:
        settings = {
            "name": "bench",
            "source": {"type": "filesystem", "path": "docs"},
            "destination": {"type": "agentcore", "memory_id": MEMORY_ID, "region": REGION, "endpoint_url": url},
            "writers": {"requests_per_second": 10_000, "concurrency": 8},
            **sections,
        }
        (self.folder / "bench.yaml").write_text(yaml.safe_dump(settings))

    def forget(self) -> None:
        """Back to before the first sync."""
        shutil.rmtree(self.folder / ".memsync", ignore_errors=True)

    def sync(self) -> tuple[Ran, dict[str, Any]]:
        """Run the command, and return its report of the source."""
        ran = run([MEMSYNC, "run", "bench.yaml", "--json"], self.folder)
        (report,) = json.loads(ran.output.splitlines()[-1])["sources"]
        assert report["status"] == "in_sync", report
        return ran, dict(report)

    def find(self) -> Ran:
        """The least that looking at every file costs: `find` prints the size and time of each."""
        return run(["find", "docs", "-type", "f", "-printf", "%p %s %T@\n"], self.folder)


def start(*arguments: str, folder: Path) -> Ran:
    return run([sys.executable, *arguments], folder)
