"""A run in a process of its own: what it needs too much of, or dies of, is not the scheduler's end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anyio import BrokenResourceError, CancelScope, Event, create_task_group, current_time, move_on_after, open_process
from anyio.abc import ByteReceiveStream, Process

LINE_BYTES_MAX = 1024 * 1024
# What a dead process has written is read to its end, unless something that it started still holds the pipe.
LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, below zero for a signal; and whether it was we who killed it."""

    exit_code: int
    was_killed: bool = False


@dataclass(frozen=True, slots=True)
class Stopping:
    """What a run listens to: `asked` to come to an end, `forced` to end on the spot."""

    asked: Event
    forced: Event


async def run_in_process(file: Path, hear: Callable[[str], None], stopping: Stopping, grace_s: float) -> Ended:
    """Run the source that `file` describes, to its end; `hear` gets each line that it logs.

    Asked to stop it gets a SIGTERM, and is killed if it has not ended after `grace_s` seconds.

    Raises:
        OSError: no process can be started.
    """
    # -P: no folder that happens to be called `pipeline` is taken for ours.
    interpreter = [sys.executable, "-P", "-X", f"utf8={sys.flags.utf8_mode}"]
    with CancelScope(shield=True):  # what is cut off in the middle of it is ended by nobody
        process = await open_process(
            [*interpreter, "-m", "pipeline", "run", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the log and the exit code say it all
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C at the terminal is for this process, which passes it on
        )
    assert process.stderr is not None
    was_killed = False
    try:
        async with create_task_group() as tasks:

            async def stop() -> None:
                nonlocal was_killed
                await stopping.asked.wait()
                with suppress(ProcessLookupError):
                    process.terminate()
                with move_on_after(grace_s):
                    await stopping.forced.wait()
                if process.returncode is None:
                    was_killed = True
                    _kill(process)

            tasks.start_soon(stop)
            async with create_task_group() as reading:
                reading.start_soon(_hear_lines, process.stderr, hear)
                await process.wait()
                reading.cancel_scope.deadline = current_time() + LAST_WORDS_S
            tasks.cancel_scope.cancel()
    finally:
        with CancelScope(shield=True):
            if process.returncode is None:
                _kill(process)
            await process.aclose()
    assert process.returncode is not None
    return Ended(process.returncode, was_killed)


def _kill(process: Process) -> None:
    """End the process and what it has started in its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _hear_lines(stream: ByteReceiveStream, hear: Callable[[str], None]) -> None:
    rest = b""
    with suppress(BrokenResourceError):  # a pipe that breaks has said all that it will
        async for some in stream:
            *lines, rest = (rest + some).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            for line in lines:
                hear(line.decode(errors="replace"))
    if rest:
        hear(rest.decode(errors="replace"))
