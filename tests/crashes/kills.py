"""`python -m tests.crashes.kills`: SIGKILL at every system call that changes something, then at random moments.

The first part needs strace, which injects the signal at the n-th call of each kind, as long as there is one. The
second kills runs over thousands of records, with a memory that loses replies, throttles and fails, and checks that in
the end nothing is lost, duplicated or wrongly deleted; some of them are stopped by SIGTERM and SIGINT instead.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from collections import Counter

from tests.acceptance.conftest import document_of
from tests.crashes.jobs import JOBS, finish
from tests.crashes.rehearsal import FILE_CALLS, SOCKET_CALLS, STRACE, Rehearsal, rehearsal

FAULTS = {
    "requests_per_second": 40.0,
    "burst": 10.0,
    "drop_after_write": 0.05,
    "drop_before_write": 0.03,
    "error_after_write": 0.03,
    "omit_record": 0.05,
    "failed_record": 0.001,
    "latency_s": 0.01,
}
DOCUMENTS = 2_000
SIGNALS = (signal.SIGKILL,) * 8 + (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="at random moments (default: %(default)s)")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=[*JOBS, []], help="killed at every call")
    parser.add_argument("--every", type=int, default=1, help="only at every n-th call")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    problems: list[str] = []
    if STRACE is None:
        print("NOT DONE: strace is not installed, so no run was killed at each of its system calls")
    else:
        for job in arguments.jobs:
            problems += at_every_call(job, arguments.every)
    if arguments.kills:
        problems += at_random_moments(arguments.kills, random.Random(arguments.seed))
    print("\n".join(problems[:20]))
    return bool(problems)


def at_every_call(job: str, every: int) -> list[str]:
    """Kill `job` at each of its calls, let the user carry on, and look."""
    began, points, problems = time.monotonic(), Counter[str](), []
    for call in (*FILE_CALLS, *SOCKET_CALLS):
        number = 1
        while True:
            with rehearsal() as at:
                JOBS[job].prepare(at)
                paths = [] if call in SOCKET_CALLS else [f"--trace-path={path}" for path in at.files_of_state()]
                inject = f"--inject={call}:signal=SIGKILL:when={number}"
                strace = [str(STRACE), "-f", "-qqq", "-o", "/dev/null", f"--trace={call}", *paths, inject]
                done = at.run(*JOBS[job].command, under=strace)
                if done.returncode != -signal.SIGKILL:
                    break
                points[call] += 1
                finish(at, job, f"{job}, killed at {call} {number}")
                problems += at.problems
            number += every
    spread = ", ".join(f"{count} {call}" for call, count in points.items())
    seconds = time.monotonic() - began
    print(
        f"{job}: killed at {points.total()} system calls ({spread}), {len(problems)} problems, {seconds:.0f} s",
        flush=True,
    )
    return problems


def at_random_moments(kills: int, rng: random.Random) -> list[str]:
    """Kill a large job again and again, while people edit its documents."""
    began, killed, problems = time.monotonic(), Counter[str](), []
    with rehearsal() as at:
        at.folder.configure(at.memory.url, writers={"requests_per_second": 100, "concurrency": 8, "linger_s": 0.05})
        for number in range(DOCUMENTS):
            at.folder.write(f"{number % 20:02}/{number:04}.md", text_of(number, 0, rng))
        stable = {f"{number % 20:02}/{number:04}.md" for number in range(0, DOCUMENTS, 2)}  # nobody edits these
        ids: dict[str, set[str]] = {}
        edits = 0
        while killed.total() < kills:
            at.memory.play(**FAULTS, seed=rng.randrange(10**6))
            for _ in range(rng.randint(0, 3)):
                edits += 1
                number = rng.randrange(1, DOCUMENTS, 2)
                at.folder.write(f"{number % 20:02}/{number:04}.md", text_of(number, edits, rng))
            with at.start("run", "docs.yaml") as process:
                try:
                    process.wait(rng.uniform(0.3, 4.0))
                except subprocess.TimeoutExpired:
                    chosen = rng.choice(SIGNALS)
                    process.send_signal(chosen)
                    killed[chosen.name] += 1
                    process.wait(60)
            problems += missing_of(at, stable, ids)
        at.memory.play()
        at.complete("after the last kill", runs_max=5)
        at.require_verified("after the last kill")
        problems += at.problems
        held = len(at.memory.records())
        runs = at.runs
    signals = ", ".join(f"{count} {name}" for name, count in killed.items())
    print(
        f"at random moments: {killed.total()} kills ({signals}) of {runs} runs over {held} records with {edits} edits:"
        f" {len(problems)} problems, {time.monotonic() - began:.0f} s"
    )
    return problems


def missing_of(at: Rehearsal, stable: set[str], ids: dict[str, set[str]]) -> list[str]:
    """Documents that nobody edits keep the very records that they once had."""
    held: dict[str, set[str]] = {}
    for record in at.memory.records():
        held.setdefault(document_of(record), set()).add(record.record_id)
    problems = [f"{name}: a record was deleted" for name, before in ids.items() if before - held.get(name, set())]
    ids.update({name: held[name] for name in stable & held.keys()})
    return problems


def text_of(number: int, edit: int, rng: random.Random) -> str:
    return f"Document {number}, edit {edit}. " + "Words follow. " * rng.randint(5, 60)


if __name__ == "__main__":
    sys.exit(main())
