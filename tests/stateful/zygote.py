"""Runs `memsync` in a process of its own for each command, without waiting for Python's imports each time.

One process imports everything once and then only forks: a child becomes the command, and can be killed like any
other process. Started as a script, this file is that process; it speaks JSON, a line a message.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND_TIMEOUT_S = 60

Json = dict[str, Any]

# Where a command can be made to kill itself: `point` is one of these, before or after the n-th call.
# `_settle` and `_save` are the work within a transaction: what comes after them is not committed.
POINTS = {
    "SqliteStateStore": (
        "begin_run", "save", "_save", "settle", "_settle", "remove", "remove_letters", "forget", "adopt",
        "drop_letters", "discard_outbox", "note_acquainted", "put_mark", "end_run", "release_lease",
    ),
    "JsonLinesFile": ("append", "rewrite"),
    "AgentCoreDestination": ("write",),
}  # fmt: skip
POINT_NAMES = [f"{side} {owner}.{name}" for owner, names in POINTS.items() for name in names for side in ("at", "past")]


class Zygote:
    """A process that forks itself into commands. To be closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def run(
        self, folder: Path, output: Path, *arguments: str, kill: tuple[str, int] | None = None
    ) -> tuple[int, str, str]:
        """Run `memsync` with `arguments` in `folder`; return its exit code, stdout and stderr.

        `kill` names a point and the how manieth time the command comes there: it gets SIGKILL then, and its exit code
        is -9. `output` is a folder for what it prints.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        request = {"folder": str(folder), "output": str(output), "arguments": arguments, "kill": kill}
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        exit_code = int(json.loads(stdout.readline()))
        return exit_code, (output / "stdout").read_text(), (output / "stderr").read_text()


# ------------------------------------------------------------------------------------ in the other process


def serve() -> None:
    """Fork a command for each line of stdin until that ends, and print its exit code."""
    _import_everything()
    _shorten_waits()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            _become_command(request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _become_command(request: Mapping[str, Any]) -> None:
    """Be a `memsync` that was just started, and never return."""
    signal.alarm(COMMAND_TIMEOUT_S)  # nothing may hang: the exit code then tells of SIGALRM
    os.chdir(request["folder"])
    for name, descriptor in (("/dev/null", 0), ("stdout", 1), ("stderr", 2)):
        path = Path(request["output"], name)
        os.dup2(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) if descriptor else os.open(name, 0), descriptor
        )
    os.environ.clear()
    os.environ.update({"HOME": request["output"], "LANG": "C.UTF-8", "AWS_EC2_METADATA_DISABLED": "true"})
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, encoding="utf-8") for number, mode in enumerate("rww"))
    if request["kill"]:
        _kill_at(*request["kill"])
    from pipeline.cli import main

    code = 1
    try:
        main(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _import_everything() -> None:
    """Load what any command needs, down to the model of the AWS client."""
    for module in (
        "aiobotocore.config", "aiobotocore.httpsession", "aiobotocore.session", "anyio._backends._asyncio",
        "pipeline.cli", "pipeline.reporting.listings", "pipeline.reporting.logs", "pipeline.reporting.summary",
        "pipeline.runs.runner", "pipeline.runs.status",
    ):  # fmt: skip
        importlib.import_module(module)
    from pipeline.limits import service_limits

    service_limits()


def _shorten_waits() -> None:
    """The memory of these tests carries a request out at once or never, and shows it at once."""
    import pipeline.lease
    import pipeline.memory_check
    import pipeline.pacing
    import pipeline.runs.measured

    pipeline.lease.Lease.wait_for_unheard.__defaults__ = (0.0,)
    pipeline.memory_check.YOUNG_RECORD_S = 0.0
    pipeline.runs.measured.YOUNG_RECORD_S = 0.0  # type: ignore[attr-defined]
    pipeline.pacing.Pacer.backoff_s = lambda *_: 0.001  # type: ignore[method-assign]


def _kill_at(point: str, count: int) -> None:
    from pipeline.dead_letters import JsonLinesFile
    from pipeline.destinations.agentcore import AgentCoreDestination
    from pipeline.state.sqlite import SqliteStateStore

    side, _, path = point.partition(" ")
    owner_name, _, name = path.partition(".")
    owner = {kind.__name__: kind for kind in (JsonLinesFile, AgentCoreDestination, SqliteStateStore)}[owner_name]
    before: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def dies() -> bool:
        nonlocal calls
        calls += 1
        return calls == count

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def plain(*arguments: Any, **named: Any) -> Any:
        is_last = dies()
        if is_last and side == "at":
            die()
        result = before(*arguments, **named)
        if is_last:
            die()
        return result

    async def awaited(*arguments: Any, **named: Any) -> Any:
        is_last = dies()
        if is_last and side == "at":
            die()
        result = await before(*arguments, **named)
        if is_last:
            die()
        return result

    setattr(owner, name, plain if name.startswith("_") else awaited)


if __name__ == "__main__":
    serve()
