"""Runs a Singer tap: a program of its own, which prints what it reads line by line."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import anyio
from anyio import to_thread
from anyio.abc import Process

from connectors.files import reason
from connectors.kit.row_values import Fault
from pipeline.errors import SourceError

CHUNK_BYTES = 256 * 1024
CATALOG_BYTES_MAX = 256 * 1024 * 1024
END_S = 30.0  # in which a tap that has closed its output must end
GRACE_S = 5.0  # in which a tap that is told to end may do so by itself
WORDS_MAX = 300  # characters of what a tap says that a message repeats
STDERR_BYTES_MAX = 1024 * 1024  # kept of it
TAIL_BYTES = 16 * 1024
SECRET_PART_MIN = 6  # characters; shorter ones are common words

SPOKEN = re.compile(r"\b(critical|fatal|error|exception)\b", re.IGNORECASE)

ERROR_NAME = re.compile(r"[A-Za-z_][\w.]{0,80}(Error|Exception)(?=:|$)")

# What would lead another Python astray, which has packages of its own.
FOREIGN_VARIABLES = {"PYTHONHOME", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONWARNINGS", "VIRTUAL_ENV"}


class Tap:
    """A tap with its configuration. Each run is a process of its own, whose group is ended with it.

    The configuration is a file that only this user can read, for as long as a run lasts. `secrets` are not repeated
    in messages.
    """

    def __init__(
        self,
        command: Sequence[str],
        config: Mapping[str, Any],
        secrets: Sequence[str],
        *,
        base_folder: Path,
        silence_s: float,
        line_bytes_max: int,
    ) -> None:
        self.name = Path(command[0]).name
        self._command = command
        self._config = config
        self._secrets = secrets
        self._base_folder = base_folder
        self._silence_s = silence_s
        self._line_bytes_max = line_bytes_max
        self._has_printed_rows = False

    async def discover(self) -> dict[str, Any]:
        """The catalog of all streams.

        Raises:
            Fault: it gave none.
        """
        printed = bytearray()
        async with aclosing(self._run("--discover")) as chunks:
            async for chunk in chunks:
                printed += chunk
                if len(printed) > CATALOG_BYTES_MAX:
                    raise Fault("huge_catalog", f"its catalog is larger than {CATALOG_BYTES_MAX:,} bytes")
        try:
            catalog = json.loads(printed)
        except (ValueError, RecursionError):
            raise Fault("no_catalog", "what it printed is no catalog") from None
        if not isinstance(catalog, dict) or not isinstance(catalog.get("streams"), list):
            raise Fault("no_catalog", "what it printed is no catalog")
        return catalog

    async def lines(self, catalog: Mapping[str, Any] | None, state: object) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield what a run prints, in lists of lines.

        Raises:
            Fault: it did not run to its end, or not well; what it printed came before.
        """
        files = {"catalog": catalog, "state": state}
        begun = bytearray()
        async with aclosing(self._run(**{name: value for name, value in files.items() if value is not None})) as chunks:
            async for chunk in chunks:
                begun += chunk
                if b"\n" not in chunk and len(begun) <= self._line_bytes_max:
                    continue
                *lines, rest = bytes(begun).split(b"\n")
                if any(len(line) > self._line_bytes_max for line in (*lines, rest)):
                    raise Fault("huge_line", f"it printed a line of more than {self._line_bytes_max:,} bytes")
                begun = bytearray(rest)
                self._has_printed_rows = self._has_printed_rows or any(b'"RECORD"' in line for line in lines)
                yield lines
        if begun.strip():
            yield [bytes(begun)]

    async def _run(self, *options: str, **files: object) -> AsyncGenerator[bytes, None]:
        """Yield what the tap prints.

        Raises:
            Fault: it could not be started, printed nothing for long, did not end, or failed.
        """
        self._has_printed_rows = False
        folder = Path(await to_thread.run_sync(lambda: tempfile.mkdtemp(prefix="memsync-tap-")))
        try:
            command = [*self._program(), *options]
            for name, value in {"config": self._config, **files}.items():
                await to_thread.run_sync(_write, folder / f"{name}.json", value)
                command += [f"--{name}", str(folder / f"{name}.json")]
            with (folder / "stderr").open("a+b") as stderr:
                process = await self._start(command, stderr)
                try:
                    assert process.stdout is not None
                    while (chunk := await self._receive(process)) is not None:
                        yield chunk
                        if os.fstat(stderr.fileno()).st_size > STDERR_BYTES_MAX:
                            os.ftruncate(stderr.fileno(), 0)  # it is appended to
                    await self._end(process, stderr)
                finally:
                    with anyio.CancelScope(shield=True):
                        await _stop(process)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))

    def _program(self) -> list[str]:
        first, *others = self._command
        if "/" in first:
            program = str(self._base_folder.absolute() / Path(first).expanduser())
        else:
            program = shutil.which(first) or ""
        if not program or not os.access(program, os.X_OK):
            raise SourceError(
                f"The tap {first!r} is no program that can be started. Nothing was done. Install it in an environment"
                " of its own (`pipx install ...`), and name it in `source.command` by its path, or put it in PATH."
            )
        return [program, *others]

    async def _start(self, command: Sequence[str], stderr: IO[bytes]) -> Process:
        try:
            return await anyio.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self._base_folder.absolute(),
                env={name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES},
                start_new_session=True,  # Ctrl-C is the run's to answer; and what the tap starts ends with it
            )
        except OSError as error:
            raise SourceError(
                f"The tap {self.name!r} cannot be started: {reason(error)}. Nothing was done; check `source.command`."
            ) from error

    async def _receive(self, process: Process) -> bytes | None:
        """What comes next; None at the end."""
        assert process.stdout is not None
        try:
            with anyio.fail_after(self._silence_s):
                return await process.stdout.receive(CHUNK_BYTES)
        except TimeoutError:
            raise Fault("silent", f"it printed nothing for {self._silence_s:g} s and was ended") from None
        except anyio.EndOfStream:
            return None

    async def _end(self, process: Process, stderr: IO[bytes]) -> None:
        try:
            with anyio.fail_after(END_S):
                code = await process.wait()
        except TimeoutError:
            raise Fault("did_not_end", f"it closed its output, did not end within {END_S:g} s, and was ended") from None
        if code != 0:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise Fault("failed", f"it {how}{self._words(stderr)}")

    def _words(self, stderr: IO[bytes]) -> str:
        """What the tap's log says of it, without secrets.

        Once it has printed rows, what it says may hold their text: then only the name of an error is repeated.
        """
        left_out = max(0, os.fstat(stderr.fileno()).st_size - TAIL_BYTES)
        stderr.seek(left_out)
        tail = stderr.read().decode("utf-8", "replace")
        if left_out:
            tail = tail.partition("\n")[2]  # its first line may begin within a secret
        parts = {part for secret in self._secrets for part in _parts(secret)}
        for part in sorted(parts, key=len, reverse=True):
            for form in {part, quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1]}:
                tail = tail.replace(form, "***")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        if not lines:
            return "" if left_out else " without a word"
        named = [found for line in lines if (found := ERROR_NAME.match(line))]
        if self._has_printed_rows:
            return f" ({named[-1][0]})" if named else ""
        spoken = [line for line in lines if SPOKEN.search(line)]
        said = named[-1].string if named else (spoken or lines)[-1]
        return f", and its log says {said[:WORDS_MAX]!r}"


def _parts(secret: str) -> Iterator[str]:
    """A secret, and what it consists of: lines, as of a key, or values, as of an account in JSON."""
    yield secret
    parts: list[object] = [line.strip() for line in secret.splitlines()]
    with suppress(ValueError, RecursionError):
        parts.append(json.loads(secret))
    while parts:
        match parts.pop():
            case str(part) if len(part) >= SECRET_PART_MIN and part != secret:
                yield from _parts(part)
            case dict(inner):
                parts += inner.values()
            case list(inner):
                parts += inner


def _write(file: Path, value: object) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        json.dump(value, opened)


async def _stop(process: Process) -> None:
    """End the process and all that it started."""
    _signal_group(process.pid, signal.SIGTERM)
    with anyio.move_on_after(GRACE_S):
        await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    await process.aclose()


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
