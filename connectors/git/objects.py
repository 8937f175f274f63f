"""Git's commands, and the objects that it gives: held against their ids, so that none is another's or half."""

import hashlib
import math
import os
import re
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from connectors.files import reason

HEADER_BYTES_MAX = 1_024
SAID_BYTES_MAX = 64 * 1024  # of what a process of git says, the end counts
WORDS_MAX = 300  # characters of what git says that a message repeats
LAST_WORDS_S = 1  # in which the pipes of a process that was ended are empty
ANSWER_S = 60  # in which git must have read an object

FOLDER = 0o040000

IS_OBJECT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}").fullmatch
USER_IN_ADDRESS = re.compile(r"//[^/\s@]*@")

# What would send git to another repository than the one that is named, as inside of a hook.
FOREIGN_VARIABLES = {
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
}

NO_GIT, TOO_SLOW, GIT_FAILED, NO_ANSWER = "no_git", "too_slow", "git_failed", "no_answer"
BROKEN, MISSING, TOO_LARGE = "broken_object", "missing_object", "too_large"


class Fault(Exception):
    """Git did not do what it was asked; `code` is one word for what that was. `size` is of an object too large."""

    def __init__(self, code: str, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.size = size

    def advice(self, otherwise: str = "") -> str:
        advice = "Install it (https://git-scm.com), or put it in PATH." if self.code == NO_GIT else otherwise
        return advice and f" {advice}"


class Git:
    """Runs git on the repository in `folder`.

    It never asks anybody for anything, runs no hooks, and speaks only the `protocols`, which are separated by colons.
    """

    def __init__(self, folder: Path, protocols: str = "none") -> None:
        self.folder = folder
        self.protocols = protocols

    async def run(self, *arguments: str, silence_s: float = math.inf) -> str:
        """Return what git printed.

        Raises:
            Fault: it failed, is not installed, or said nothing for `silence_s`; then it was ended, with all that it had
                started.
        """
        with _starting():
            process = await self._open(arguments, subprocess.PIPE)
        said, printed = bytearray(), bytearray()
        try:
            with anyio.move_on_after(silence_s) as patience:

                async def keep_end(stream: ByteReceiveStream | None, end: bytearray) -> None:
                    assert stream is not None
                    async for words in stream:
                        end += words
                        del end[:-SAID_BYTES_MAX]
                        patience.deadline = anyio.current_time() + silence_s

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(keep_end, process.stdout, printed)
                    tasks.start_soon(keep_end, process.stderr, said)
                await process.wait()
        finally:
            await end_process(process)
        if patience.cancelled_caught:
            raise Fault(TOO_SLOW, f"nothing was heard of the other side for {silence_s:g} s")
        if process.returncode != 0:
            raise Fault(GIT_FAILED, _words(bytes(said), process.returncode))
        return printed.decode("utf-8", "replace")

    async def commit(self, name: str) -> str:
        """The id of the commit that `name` means.

        Raises:
            Fault: it means none.
        """
        answer = (await self.run("rev-parse", "--verify", f"{name}^{{commit}}")).removesuffix("\n")
        if not IS_OBJECT_ID(answer):
            raise Fault(GIT_FAILED, "git's answer is not the id of a commit")
        return answer

    async def start(self, *arguments: str) -> Process:
        """Start a process that is spoken to.

        Raises:
            Fault: git is not installed.
        """
        with _starting():
            return await self._open(arguments, subprocess.DEVNULL, stdin=subprocess.PIPE)

    async def _open(self, arguments: Sequence[str], stderr: int, stdin: int = subprocess.DEVNULL) -> Process:
        # Apart from the terminal: Ctrl-C is the run's to answer, and there nobody can be asked for a password.
        return await anyio.open_process(
            self._command(arguments), stdin=stdin, stderr=stderr, env=self._environment(), start_new_session=True
        )

    def _command(self, arguments: Sequence[str]) -> list[str]:
        options = ("core.hooksPath=/dev/null", "protocol.ext.allow=never")
        return [
            *("git", "--no-replace-objects", f"--git-dir={self.folder}"),
            *(word for option in options for word in ("-c", option)),
            *arguments,
        ]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
        return {
            **kept,
            "GIT_ALLOW_PROTOCOL": self.protocols,
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            "SSH_ASKPASS_REQUIRE": "never",
        }


async def end_process(process: Process) -> None:
    """End a process of git, and those that it started: SSH would wait for its server for ever."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdout, process.stderr):
            # Only a pipe that was read to its end is closed.
            with suppress(anyio.EndOfStream), anyio.move_on_after(LAST_WORDS_S):
                while stream is not None:
                    await stream.receive()
        await process.aclose()


@contextmanager
def _starting() -> Iterator[None]:
    """Tell that git cannot be started."""
    try:
        yield
    except OSError as error:
        raise Fault(NO_GIT, f"the program `git` cannot be started ({reason(error)})") from error


def _words(stderr: bytes, code: int | None) -> str:
    """What git said of a failure, without the user and password that an address in its configuration may hold."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    worst = next((at for at, line in enumerate(lines) if line.startswith(("fatal:", "error:"))), len(lines) - 1)
    said = "; ".join(lines[max(worst - 1, 0) : worst + 1])  # what SSH has to say stands a line above
    return f"git says {USER_IN_ADDRESS.sub('//', said)[:WORDS_MAX]!r}" if said else f"git ended with code {code}"


class CatFile:
    """Asks for objects of a repository, through one process that stays.

    An answer that breaks off, makes no sense, or is not of the object that was asked for ends the process; the next
    question starts another.
    """

    def __init__(self, git: Git, option: str) -> None:
        self._git = git
        self._option = option
        self._lock = anyio.Lock()
        self._process: Process | None = None
        self._answers: BufferedByteReceiveStream | None = None

    async def aclose(self) -> None:
        """End the process."""
        async with self._lock:
            await self._end()

    async def read(self, object_id: str, kind: str, bytes_max: int) -> bytes:
        """The content of an object.

        Raises:
            Fault: it is not there, too large, or not what its id says; or git did not answer.
        """
        async with self._conversation() as (questions, answers):
            await questions.send(object_id.encode() + b"\n")
            size = await self._size(answers, object_id, kind)
            if size is None:
                raise Fault(MISSING, f"the repository does not have its object {object_id}, or cannot read it")
            if size > bytes_max:
                raise Fault(TOO_LARGE, f"the object {object_id} has {size:,} bytes", size)
            content = await answers.receive_exactly(size + 1)
        content = content[:-1]
        if _id_of(kind, content, len(object_id)) != object_id:
            await self.aclose()
            raise Fault(BROKEN, f"the content of the object {object_id} is not what its id says")
        return content

    async def sizes(self, ids: Sequence[str]) -> dict[str, int]:
        """The sizes of those blobs that the repository has.

        Raises:
            Fault: git did not answer.
        """
        async with self._conversation() as (questions, answers):
            await questions.send(b"".join(each.encode() + b"\n" for each in ids))
            sizes = [(each, await self._size(answers, each, "blob")) for each in ids]
        return {each: size for each, size in sizes if size is not None}

    async def _size(self, answers: BufferedByteReceiveStream, object_id: str, kind: str) -> int | None:
        """Read the line that begins an answer; None if the object is not there."""
        words = (await answers.receive_until(b"\n", HEADER_BYTES_MAX)).decode("ascii", "replace").split(" ")
        match words:
            case [said, "missing"] if said == object_id:
                return None
            case [said, said_kind, size] if said == object_id and size.isdecimal():
                if said_kind != kind:
                    raise Fault(BROKEN, f"the object {object_id} is a {said_kind} and should be a {kind}")
                return int(size)
        raise Fault(NO_ANSWER, "git's answer makes no sense")

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[tuple[ByteSendStream, BufferedByteReceiveStream]]:
        async with self._lock:
            try:
                if self._process is None or self._answers is None:
                    self._process = await self._git.start("cat-file", self._option)
                    assert self._process.stdout is not None
                    self._answers = BufferedByteReceiveStream(self._process.stdout)
                assert self._process.stdin is not None
                with anyio.fail_after(ANSWER_S):  # of a file that was cut short, git gives less than it says
                    yield self._process.stdin, self._answers
            except BaseException as error:
                # What is left of an answer would be taken for the next one.
                with anyio.CancelScope(shield=True):
                    await self._end()
                if isinstance(error, TimeoutError):
                    raise Fault(TOO_SLOW, f"git did not answer within {ANSWER_S} s") from error
                if isinstance(error, (anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead, OSError)):
                    raise Fault(NO_ANSWER, "git ended in the middle of an answer") from error
                if isinstance(error, anyio.DelimiterNotFound):
                    raise Fault(NO_ANSWER, "git's answer makes no sense") from error
                raise

    async def _end(self) -> None:
        process, self._process, self._answers = self._process, None, None
        if process is not None:
            await end_process(process)


def _id_of(kind: str, content: bytes, id_length: int) -> str:
    """The id that git gives to an object: a hash of all that it is."""
    make: Any = hashlib.sha1 if id_length == 40 else hashlib.sha256
    digest = make(b"%s %d\0" % (kind.encode(), len(content)), usedforsecurity=False)
    digest.update(content)
    return str(digest.hexdigest())


# ------------------------------------------------------------------------------------------------- folders


class Entry(NamedTuple):
    """What stands behind a name in a folder."""

    mode: int
    id: str

    @property
    def is_folder(self) -> bool:
        return stat.S_IFMT(self.mode) == FOLDER


def parse_tree(tree: bytes, id_bytes: int) -> dict[bytes, Entry]:
    """Return the entries of a folder; of a name that stands there twice, the first counts."""
    entries: dict[bytes, Entry] = {}
    position = 0
    try:
        while position < len(tree):
            name_at = tree.index(b" ", position) + 1
            name_end = tree.index(b"\0", name_at)
            name = tree[name_at:name_end]
            mode = stat.S_IFMT(int(tree[position : name_at - 1], 8))
            position = name_end + 1 + id_bytes
            if position > len(tree) or name in (b"", b".", b"..") or b"/" in name:
                raise Fault(BROKEN, "its tree was not made by git")
            entries.setdefault(name, Entry(mode, tree[name_end + 1 : position].hex()))
    except ValueError as error:
        raise Fault(BROKEN, "its tree was not made by git") from error
    return entries
