"""Commands that the page has started. Each is a process of its own, as if it had been typed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from anyio import CancelScope, create_task_group, move_on_after, open_process
from anyio.abc import ByteReceiveStream, Process, TaskGroup

Verb = Literal["run", "allow_mass_delete", "plan", "verify", "replay", "drop"]

ARGUMENTS: Mapping[Verb, Sequence[str]] = {
    "run": ("run", "--json"),
    "allow_mass_delete": ("run", "--allow-mass-delete", "--json"),
    "plan": ("plan", "--json"),
    "verify": ("verify", "--json"),
    "replay": ("replay", "--json"),
    "drop": ("dead-letters", "drop", "--yes"),
}
OF_LETTERS: frozenset[Verb] = frozenset({"replay", "drop"})

LETTERS_PER_COMMAND_MAX = 500  # their ids are on the command line
LINES_KEPT = 400  # of what a command says
LINE_CHARACTERS_MAX = 4_000
COMMANDS_KEPT = 50
SIGNALLED = 128  # plus the number of the signal, as shells say
STOP_S = 10.0  # until a command that was asked to stop is killed, when the console ends


@dataclass(slots=True)
class StartedCommand:
    """A command and what has become of it. Times are in seconds since the epoch."""

    id: str
    source: str
    verb: Verb
    typed: str
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None
    result: dict[str, Any] | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES_KEPT))
    process: Process | None = None

    def told(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "id": self.id,
            "source": self.source,
            "verb": self.verb,
            "typed": self.typed,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "exit_code": self.exit_code,
            "result": self.result,
            "lines": list(self.lines),
        }


class StartedCommands:
    """Starts commands in `tasks`, one of a source at a time, and knows the last ones."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._commands: dict[str, StartedCommand] = {}
        self._numbers = count(1)

    def all(self) -> list[StartedCommand]:
        """The newest first."""
        return list(reversed(self._commands.values()))

    def find(self, command_id: str) -> StartedCommand | None:
        return self._commands.get(command_id)

    def at_work(self, source: str) -> StartedCommand | None:
        return next((each for each in self.all() if each.source == source and each.ended_at is None), None)

    async def start(self, verb: Verb, source: str, file: Path, letters: Sequence[str] = ()) -> StartedCommand:
        """Start a command for one source, and for some of its dead letters only if there are `letters`.

        Raises:
            OSError: no process can be started.
        """
        chosen = [word for letter in letters for word in ("--id", letter)]
        arguments = [*ARGUMENTS[verb], str(file), "--source", source, *chosen]
        started = StartedCommand(
            id=str(next(self._numbers)),
            source=source,
            verb=verb,
            typed=shlex.join(["memsync", *(word for word in arguments if word != "--json")]),
            started_at=time.time(),
        )
        self._commands[started.id] = started  # from here on it counts as at work: a button may be pressed twice
        self._forget()
        try:
            with CancelScope(shield=True):  # what is cut off in the middle of it is ended by nobody
                process = await open_process(
                    [sys.executable, "-P", "-m", "pipeline", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # a Ctrl-C at the terminal is for the console, which passes it on
                    env={**os.environ, "NO_COLOR": "1"},
                )
        except OSError:
            del self._commands[started.id]
            raise
        started.process = process
        self._tasks.start_soon(self._follow, started, process)
        return started

    def _forget(self) -> None:
        ended = [started.id for started in self._commands.values() if started.ended_at is not None]
        for command_id in ended[: max(0, len(self._commands) - COMMANDS_KEPT)]:
            del self._commands[command_id]

    def stop(self, started: StartedCommand) -> None:
        """Ask it to stop. A sync then finishes what is on its way, and the next one carries on."""
        if started.process is not None and started.ended_at is None:
            with suppress(ProcessLookupError):
                started.process.send_signal(signal.SIGINT)

    async def _follow(self, started: StartedCommand, process: Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with create_task_group() as reading:
                reading.start_soon(self._hear_result, started, process.stdout)
                reading.start_soon(self._hear, started, process.stderr)
            await process.wait()
        finally:
            with CancelScope(shield=True):
                if process.returncode is None:  # the console ends
                    self.stop(started)
                    with move_on_after(STOP_S):
                        await process.wait()
                if process.returncode is None:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, signal.SIGKILL)
                await process.aclose()
            code = process.returncode
            started.exit_code = None if code is None else code if code >= 0 else SIGNALLED - code
            started.ended_at = time.time()
            started.process = None

    async def _hear(self, started: StartedCommand, stream: ByteReceiveStream) -> None:
        async for line in _lines(stream):
            started.lines.append(line)

    async def _hear_result(self, started: StartedCommand, stream: ByteReceiveStream) -> None:
        """The last line of stdout is the result; what is before it is for people."""
        async for line in _lines(stream, characters_max=2**24):
            try:
                result = json.loads(line)
            except ValueError:
                result = None
            if isinstance(result, dict) and str(result.get("schema", "")).startswith("memsync/"):
                started.result = result
            else:
                started.lines.append(line[:LINE_CHARACTERS_MAX])


async def _lines(stream: ByteReceiveStream, characters_max: int = LINE_CHARACTERS_MAX) -> AsyncIterator[str]:
    """What a process says, line by line; of a longer line, its beginning."""
    rest = b""
    async for some in stream:
        *lines, rest = (rest + some).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")[:characters_max]
        if len(rest) > characters_max * 4:
            yield rest.decode(errors="replace")[:characters_max]
            rest = b""
    if rest:
        yield rest.decode(errors="replace")[:characters_max]
