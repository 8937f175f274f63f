"""A run as an AWS Lambda function.

A function may take 15 minutes. The run is asked to stop in time before that: what it has not done, the next one does.
A source whose listing alone takes longer never comes to the end of one, and so nothing of it is ever deleted.
"""

import os
import signal
import subprocess
import sys
from typing import Any, Protocol

# For the run to stop, and for what it has logged to be read: what is still under way at the end is frozen.
SPARE_S = 45.0
KILL_AFTER_S = 20.0

FILE_VARIABLE = "MEMSYNC_FILE"
DONE = (0, 3, 5)  # 3: dead letters wait for a person; 5: another run is at it
INTERRUPTED = (128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL)


class Context(Protocol):
    """What Lambda tells a function of its invocation."""

    def get_remaining_time_in_millis(self) -> int: ...


def handle(_event: Any, context: Context) -> dict[str, int]:
    """Run the source whose YAML file the variable MEMSYNC_FILE names.

    Returns the exit code, also that of a run which was stopped in time.

    Raises:
        RuntimeError: the run failed; its log says why. So the invocation counts as an error, as alarms want it.
    """
    command = [sys.executable, "-P", "-m", "pipeline", "run", os.environ[FILE_VARIABLE]]
    process = subprocess.Popen(command)  # noqa: S603 - our own
    was_stopped = False
    try:
        code = process.wait(max(0.0, context.get_remaining_time_in_millis() / 1000 - SPARE_S))
    except subprocess.TimeoutExpired:
        was_stopped = True
        process.terminate()
        code = _end(process)
    is_stopped = was_stopped and code in INTERRUPTED
    if code not in DONE and not is_stopped:
        raise RuntimeError(f"memsync ended with exit code {code}; the log says why")
    return {"exit_code": code}


def _end(process: "subprocess.Popen[bytes]") -> int:
    try:
        return process.wait(KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        process.kill()  # nothing is lost: what was under way is in the outbox
        return process.wait()
