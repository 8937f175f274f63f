"""`python -m tests.crashes.io_errors`: the disk fails, or is full, at each system call that changes something.

strace lets the n-th call of each kind fail, as long as there is one. The run has to say what failed instead of showing
a trace, must lose nothing, and the next run completes it.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.crashes.jobs import JOBS, finish
from tests.crashes.rehearsal import FILE_CALLS, STRACE, rehearsal

ERRORS = {
    call: ("EIO", "ENOSPC") if call in ("write", "pwrite64", "openat", "mkdir") else ("EIO",) for call in FILE_CALLS
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.io_errors", description=__doc__)
    parser.add_argument("--jobs", nargs="*", default=["first sync", "replay"], choices=list(JOBS))
    parser.add_argument("--every", type=int, default=1, help="only at every n-th call")
    arguments = parser.parse_args()
    if STRACE is None:
        print("NOT DONE: strace is not installed, so no call can be made to fail")
        return 1
    problems = [problem for job in arguments.jobs for problem in at_every_call(job, arguments.every)]
    print("\n".join(problems[:20]))
    return bool(problems)


def at_every_call(job: str, every: int) -> list[str]:
    began, points, ended, problems = time.monotonic(), Counter[str](), Counter[int](), []
    for call, errors in ERRORS.items():
        for error in errors:
            number = 1
            while True:
                with rehearsal() as at, tempfile.TemporaryDirectory() as folder:
                    JOBS[job].prepare(at)
                    log = Path(folder) / "trace"
                    paths = [f"--trace-path={path}" for path in at.files_of_state()]
                    inject = f"--inject={call}:error={error}:when={number}"
                    strace = [str(STRACE), "-f", "-qqq", "-o", str(log), f"--trace={call}", *paths, inject]
                    done = at.run(*JOBS[job].command, under=strace)
                    if "INJECTED" not in log.read_text(errors="replace"):
                        break
                    where = f"{job}, {error} at {call} {number}"
                    points[f"{call} {error}"] += 1
                    ended[done.returncode] += 1
                    if "Traceback" in done.stderr or "unexpected_error" in done.stderr:
                        at.problems.append(f"{where}: a trace instead of a message")
                    if done.returncode not in (0, 1, 3):
                        at.problems.append(f"{where}: exit code {done.returncode}")
                    if (
                        done.returncode == 1
                        and "state" not in (said := done.stdout + done.stderr)
                        and "file" not in said
                    ):
                        at.problems.append(f"{where}: does not say what failed: {said[-200:]}")
                    finish(at, job, where)
                    problems += at.problems
                number += every
    spread = ", ".join(f"{count} {point}" for point, count in points.items())
    codes = ", ".join(f"{count} with exit code {code}" for code, count in sorted(ended.items()))
    print(
        f"{job}: {points.total()} calls failed ({spread}); {codes}; {len(problems)} problems,"
        f" {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return problems


if __name__ == "__main__":
    sys.exit(main())
