"""A run that is stopped for longer than its lease, for real: by `kill -STOP`, until another one has taken over."""

import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.crashes.rehearsal import Rehearsal, rehearsal

# A lease of a second or so instead of minutes.
SHORT_LEASE = (
    "import pipeline.lease, pipeline.runs.parts\n"
    "pipeline.lease.RENEW_EVERY_S = 0.2\n"
    "pipeline.runs.parts.REQUEST_OVERHEAD_S = 0.1"
)
SHORT_TIMEOUTS = {"connect_timeout_s": 0.2, "read_timeout_s": 0.5}
ATTEMPTS_MAX = 15
LOCKED = 5


def test_a_run_that_was_stopped_beyond_its_lease_neither_sends_nor_settles() -> None:
    """Another one has taken over and is done: what the first one still believes is out of date."""
    with rehearsal() as at:
        at.folder.configure(
            at.memory.url,
            destination=SHORT_TIMEOUTS,
            writers={"requests_per_second": 5, "concurrency": 1, "linger_s": 0.01},
        )
        at.folder.write_documents(800)  # eight batches, more than a second
        with started(at) as first:
            at.memory.wait_for_requests(4)
            stop_between_transactions(first, at.folder.state / "state.sqlite3")
            at.folder.write("000.md", "Edited.")
            for _ in range(ATTEMPTS_MAX):
                second = at.run("run", "docs.yaml", code=SHORT_LEASE)
                if second.returncode != LOCKED:
                    break
            requests, held = at.memory.requests, at.memory.contents()
            first.send_signal(signal.SIGCONT)
            said, _ = first.communicate(timeout=30)

        assert second.returncode == 0
        assert first.returncode == LOCKED
        assert "another run may have taken over" in said or "Another run has taken the source over" in said
        assert (at.memory.requests, at.memory.contents()) == (requests, held)
        at.complete("after both")
        assert at.problems == []


def test_a_run_that_was_stopped_while_it_wrote_is_named() -> None:
    """Nobody can take over from it: the file itself is locked. That is no fault of the disk."""
    with rehearsal() as at:
        at.folder.write_documents(3)
        assert at.run("run", "docs.yaml").returncode == 0
        with closing(sqlite3.connect(at.folder.state / "state.sqlite3", isolation_level=None)) as held:
            held.execute("BEGIN IMMEDIATE")

            second = at.run("run", "docs.yaml")

        assert second.returncode == LOCKED
        assert "does not go on" in second.stdout


@contextmanager
def started(at: Rehearsal) -> Iterator[subprocess.Popen[str]]:
    with at.start("run", "docs.yaml", code=SHORT_LEASE) as process:
        try:
            yield process
        finally:
            process.kill()


def stop_between_transactions(process: subprocess.Popen[str], state: Path) -> None:
    """Stop a run where it holds no lock on its file."""
    with closing(sqlite3.connect(state, isolation_level=None, timeout=0)) as looking:
        while True:
            process.send_signal(signal.SIGSTOP)
            try:
                looking.execute("BEGIN IMMEDIATE")
                looking.execute("ROLLBACK")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
            else:
                return
