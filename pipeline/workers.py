"""Worker processes: documents are read, parsed and cut beside the process that plans, saves and sends.

Threads would not do. They and the event loop hand the interpreter's lock to each other at every call of the operating
system, which took half the time of a first sync, and two processors were no faster than one.
"""

import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog
from anyio import (
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    Event,
    IncompleteRead,
    create_memory_object_stream,
    create_task_group,
    fail_after,
    open_process,
    to_thread,
)
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from pipeline import worker_process
from pipeline.deriving import Deriver, is_part
from pipeline.errors import SourceError
from pipeline.events import Observer, Wait, nobody, telling
from pipeline.model import Document, DocumentRef, Fetched, Planned, Stage, Unread
from pipeline.worker_process import HEADER, LENGTH, Kind

PROCESSES_MAX = 4  # one that plans, saves and sends cannot keep up with more
LISTS_BEFORE_START = 3  # that a thread works off: a short run is over before a process would have begun
LISTS_PER_PROCESS = 2  # one in work, and one that it finds when it is done
START_S = 30.0
LARGE_BYTES = 1024 * 1024  # what is not packed or unpacked on the event loop
GIVEN_UP_MAX = 10  # documents in a row that end their processes

IMPORT_ROOT = Path(__file__).parents[1]


def processes_here() -> int:
    """How many worker processes suit this machine: 0 with one processor, else one fewer than there are, at most 4."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors - 1, PROCESSES_MAX)


@asynccontextmanager
async def open_workers(
    deriver: Deriver, *, processes: int, lists_before_start: int = LISTS_BEFORE_START, observe: Observer = nobody
) -> AsyncIterator["Workers"]:
    """Derive in a thread, and after the first lists in so many processes, which end with this.

    `observe` hears which documents are being read.
    """
    workers = Workers(deriver, processes, lists_before_start, observe)
    try:
        async with create_task_group() as workers.starting:
            yield workers
            workers.starting.cancel_scope.cancel()
    finally:  # when nobody starts a process any more
        with CancelScope(shield=True):
            await workers.stop()


class Workers:
    """Derives lists of documents, several side by side.

    After the death of a process the documents that it had not dealt with are tried one by one in another. One that ends
    that as well becomes a dead letter; so does, after one death, one of which parts were passed on already: they must
    not come twice.
    """

    starting: TaskGroup

    def __init__(self, deriver: Deriver, processes: int, lists_before_start: int, observe: Observer) -> None:
        self._deriver = deriver
        self._observe = observe
        self._processes = processes
        self._lists_before_start = lists_before_start
        self._has_started = False
        self._serving: set[_Worker] = set()  # those that may be asked
        self._alive: set[_Worker] = set()  # those that must be ended
        self._given_up_in_a_row = 0
        # Who can be asked next; None is a thread of this process, which does it all until a process has started.
        self._free_in, self._free = create_memory_object_stream["_Worker | None"](math.inf)
        if lists_before_start or not processes:
            self._free_in.send_nowait(None)

    async def __call__(self, items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
        if self._lists_before_start:
            self._lists_before_start -= 1
        elif not self._has_started:
            self._has_started = True
            for _ in range(self._processes):
                self.starting.start_soon(self._add)
        while True:
            worker = await self._free.receive()
            if worker is None and not self._serving:
                return self._in_thread(items)
            if worker in self._serving:
                return self._in_process(worker, items, await worker.ask(items))

    async def stop(self) -> None:
        """End the processes, whatever they are doing."""
        self._free_in.close()
        self._free.close()
        for worker in list(self._alive):
            await worker.kill()

    async def _in_thread(self, items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
        lists = self._deriver.derive_lists(items)
        done = 0
        while True:
            with telling(self._observe, _reading(items[done:])):
                derived = await to_thread.run_sync(next, lists, None)
            if derived is None:
                break
            done, some = derived
            yield some
        self._free_in.send_nowait(None)

    async def _in_process(
        self, worker: "_Worker", items: Sequence[Fetched], answers: AsyncGenerator["_Answer", None]
    ) -> AsyncGenerator[list[Planned], None]:
        left = items
        is_begun = False
        try:
            async with aclosing(answers):
                async for done, some in answers:
                    left = items[done:]
                    is_begun = bool(some) and is_part(some[-1])
                    yield some
            self._given_up_in_a_row = 0
            self._free_in.send_nowait(worker)
        except WorkerDied:
            if worker in self._serving:
                await self._end(worker)
                self.starting.start_soon(self._add)
            if is_begun:
                yield [self._given_up(left[0], has_parts=True)]
                left = left[1:]
            async with aclosing(self._one_by_one(left)) as lists:
                async for some in lists:
                    yield some

    async def _one_by_one(self, items: Sequence[Fetched]) -> AsyncGenerator[list[Planned], None]:
        """Find out which of `items` ends its process."""
        worker: _Worker | None = None
        for position, item in enumerate(items):
            if worker is None:
                try:
                    worker = await self._start()
                except SourceError as error:  # not in a thread: one of these may end this process, too
                    yield [_not_read(each, "fetch", "worker_not_started", str(error)) for each in items[position:]]
                    return
            done, is_begun = 0, False
            try:
                async with aclosing(await worker.ask([item])) as answers:
                    async for done, some in answers:  # noqa: B007 - after a death it tells how far it came
                        is_begun = is_begun or bool(some)
                        yield some
                self._given_up_in_a_row = 0
            except WorkerDied:
                await self._end(worker)
                worker = None
                if not done:
                    yield [self._given_up(item, has_parts=is_begun)]
        if worker is not None:
            await worker.kill()
            self._alive.discard(worker)

    async def _add(self) -> None:
        try:
            worker = await self._start()
        except SourceError as error:
            structlog.get_logger().warning("worker_not_started", error=str(error))
            self._free_in.send_nowait(None)
            return
        self._serving.add(worker)
        for _ in range(LISTS_PER_PROCESS):
            self._free_in.send_nowait(worker)

    async def _start(self) -> "_Worker":
        worker = await _Worker.open(self._observe)
        self._alive.add(worker)
        try:
            await worker.prepare(self._deriver)
        except SourceError:
            self._alive.discard(worker)
            raise
        return worker

    async def _end(self, worker: "_Worker") -> None:
        """Account for a process that has died."""
        self._serving.discard(worker)
        structlog.get_logger().warning("worker_died", ended_with=await worker.end())
        self._alive.discard(worker)

    def _given_up(self, item: Fetched, *, has_parts: bool) -> Planned:
        """What becomes of a document that ends the process that reads it.

        Raises:
            SourceError: so many in a row are not at fault themselves.
        """
        self._given_up_in_a_row += 1
        if self._given_up_in_a_row >= GIVEN_UP_MAX:
            raise SourceError(
                f"The processes that read documents ended {GIVEN_UP_MAX} times in a row. Nothing was concluded from"
                " what was not read. Is there enough memory? With `workers.processes: 0` none are started."
            )
        return _not_read(
            item,
            "parse",
            "parser_crashed",
            "the process that read it ended, as it does when a document needs too much memory or makes a parser fail;"
            " it is tried again once it has changed, or by `memsync replay`",
            has_parts=has_parts,
        )


class WorkerDied(Exception):
    """A worker process has ended without having been asked to."""


_Answer = tuple[int, list[Planned]]


class _Worker:
    """A worker process, and our end of the line to it."""

    def __init__(self, process: Process, observe: Observer) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._observe = observe
        self._questions = process.stdin
        self._answers = BufferedByteReceiveStream(process.stdout)
        self._turn = Event()  # until everything that was asked has been answered
        self._turn.set()

    @classmethod
    async def open(cls, observe: Observer) -> "_Worker":
        """
        Raises:
            SourceError: it cannot be started.
        """
        try:
            with CancelScope(shield=True):  # what is cut off in the middle of it is ended by nobody
                process = await open_process(
                    # Names of files must mean the same there, whatever this interpreter was told about them.
                    [sys.executable, "-X", f"utf8={sys.flags.utf8_mode}", "-m", worker_process.__name__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # a crash report can hold a piece of a document
                    cwd=IMPORT_ROOT,
                    start_new_session=True,  # a Ctrl-C at the terminal is for this process, which ends that one
                )
        except OSError as error:
            raise SourceError(f"A process that reads documents cannot be started: {error.strerror}.") from error
        return cls(process, observe)

    async def prepare(self, deriver: Deriver) -> None:
        """Tell it what to derive with, and wait until it can.

        Raises:
            SourceError: it cannot, and has ended.
        """
        try:
            with fail_after(START_S):
                await self._send(deriver)
                kind, _, content = await self._receive()
        except (WorkerDied, TimeoutError) as error:
            with CancelScope(shield=True):
                ended_with = await self.end()
            raise SourceError(
                f"A process that reads documents ended with {ended_with} before it was ready. Is there enough memory?"
            ) from error
        encoding = content.decode()
        if kind != Kind.READY or encoding != sys.getfilesystemencoding():
            with CancelScope(shield=True):
                await self.kill()
            problem = f"names of files are {encoding} there" if kind == Kind.READY else encoding
            raise SourceError(f"A process that reads documents cannot be used: {problem}.")

    async def ask(self, items: Sequence[Fetched]) -> AsyncGenerator[_Answer, None]:
        """Send `items`; return what `Deriver.derive_lists` yields for them.

        Raises:
            WorkerDied: the process has ended (while the answers are taken).
        """
        turn, self._turn = self._turn, Event()
        with suppress(WorkerDied):  # the answers will tell
            await self._send(items, sum(len(item.content) for item in items if isinstance(item, Document)))
        return self._answers_to(items, turn, self._turn)

    async def _answers_to(
        self, items: Sequence[Fetched], turn: Event, next_turn: Event
    ) -> AsyncGenerator[_Answer, None]:
        await turn.wait()
        done = 0
        try:
            while True:
                with telling(self._observe, _reading(items[done:])):
                    kind, done, content = await self._receive()
                if kind == Kind.END:
                    return
                unpacked = (
                    pickle.loads(content)  # noqa: S301 - by our own process
                    if len(content) < LARGE_BYTES
                    else await to_thread.run_sync(pickle.loads, content)
                )
                if kind == Kind.FAILED:
                    raise unpacked
                yield done, unpacked
        finally:
            next_turn.set()

    async def end(self) -> str:
        """How it ended: a signal's name or an exit code. It is over then, also if this is cancelled."""
        try:
            with suppress(TimeoutError), fail_after(0.1):
                await self._process.wait()  # it may be about to end by itself, which tells more than our kill
        finally:
            with CancelScope(shield=True):
                await self.kill()
        code = self._process.returncode
        assert code is not None
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    async def kill(self) -> None:
        """End it, whatever it is doing. Safe to repeat."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.aclose()

    async def _send(self, question: object, size_bytes: int = 0) -> None:
        pack = partial(pickle.dumps, question, pickle.HIGHEST_PROTOCOL)
        content = pack() if size_bytes < LARGE_BYTES else await to_thread.run_sync(pack)
        try:
            await self._questions.send(LENGTH.pack(len(content)))
            await self._questions.send(content)
        except (OSError, BrokenResourceError, ClosedResourceError) as error:
            raise WorkerDied from error

    async def _receive(self) -> tuple[int, int, bytes]:
        try:
            header = await self._answers.receive_exactly(HEADER.size)
            kind, count, length = HEADER.unpack(header)
            content = await self._answers.receive_exactly(length) if length else b""
        except (OSError, EndOfStream, IncompleteRead, BrokenResourceError, ClosedResourceError) as error:
            raise WorkerDied from error
        return kind, count, content


def _reading(left: Sequence[Fetched]) -> Wait:
    """What is waited for while the first document of `left` is read, or one that is soon done behind it."""
    refs = (item.ref if isinstance(item, Document) else item for item in left)
    return Wait("parse", "parser", next((ref.id for ref in refs if isinstance(ref, DocumentRef)), None))


def _not_read(item: Fetched, stage: Stage, code: str, message: str, *, has_parts: bool = False) -> Planned:
    """`item` itself, if it is no document."""
    if not isinstance(item, DocumentRef | Document):
        return item
    ref = item if isinstance(item, DocumentRef) else item.ref
    return Unread(ref, stage, code, message, has_parts=has_parts)
