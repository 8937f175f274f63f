"""Connections to an IMAP server that are opened when they are needed, and again when they were lost."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from anyio import CancelScope, Semaphore, create_task_group, sleep
from anyio.lowlevel import checkpoint
from anyio.to_thread import run_sync

from connectors.imap.session import TIMEOUTS_PER_QUESTION, Access, ImapFault, Protocol, Session
from pipeline.errors import SourceError, ungrouped

Answer = TypeVar("Answer")

ATTEMPTS_MAX = 3  # of one question, each over a connection of its own
PAUSE_S = 2.0  # before the third attempt; none before the second: servers end connections that were idle
LOG_OUT_S = 5.0


class Line:
    """One connection, for one question at a time."""

    def __init__(self, access: Callable[[], Access]) -> None:
        self._access = access
        self._session: Session | None = None
        self._protocol: Protocol | None = None

    @property
    def is_open(self) -> bool:
        return self._session is not None

    @property
    def path(self) -> str | None:
        """Of the folder that is open on it."""
        return self._session.path if self._session else None

    def look_anew(self) -> None:
        """Answer the next question from what folders are then."""
        if self._session is not None:
            self._session.look_anew()

    async def ask(self, question: Callable[[Session], Answer]) -> Answer:
        """The answer; asked again over a new connection if there is none.

        Raises:
            ImapFault: there was none to this question, time and again.
            SourceError: the server cannot be reached, or lets nobody in.
        """
        for attempt in range(1, ATTEMPTS_MAX + 1):
            session = self._session or await self._open()
            try:
                return await self._in_thread(partial(question, session), session.limit_s)
            except ImapFault as fault:
                self._session = None
                session.close()
                await checkpoint()  # if nobody waits any more, that is why
                if fault.is_final or attempt == ATTEMPTS_MAX:
                    raise
                await sleep(PAUSE_S * (attempt - 1))
        raise AssertionError("the last attempt returns or raises")

    async def _open(self) -> Session:
        access = self._access()
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                self._session = await self._in_thread(
                    partial(Session, access, self._hold), access.timeout_s * TIMEOUTS_PER_QUESTION
                )
            except ImapFault as fault:
                await checkpoint()
                if fault.is_final or attempt == ATTEMPTS_MAX:
                    raise SourceError(
                        f"The IMAP server {access.host}:{access.port} cannot be used: {fault}. Nothing was concluded"
                        " from that. Check `source`, the password, and that the server runs."
                    ) from fault
                await sleep(PAUSE_S * attempt)
            else:
                return self._session
        raise AssertionError("the last attempt returns or raises")

    def _hold(self, protocol: Protocol) -> None:
        self._protocol = protocol

    async def _in_thread(self, question: Callable[[], Answer], limit_s: float) -> Answer:
        """The answer. The connection is cut if that takes too long, or if nobody waits for it any more."""
        is_over = False

        async def cut_in_time() -> None:
            try:
                await sleep(limit_s)
            finally:
                if not is_over and self._protocol is not None:
                    self._protocol.cut()

        with ungrouped():
            async with create_task_group() as tasks:
                tasks.start_soon(cut_in_time)
                try:
                    return await run_sync(question)
                finally:
                    is_over = True
                    tasks.cancel_scope.cancel()
        raise AssertionError("the group ends with the answer, or raises")

    async def aclose(self) -> None:
        """Log out. Safe to repeat; it is opened again for the next question."""
        session, self._session = self._session, None
        if session is not None:
            with CancelScope(shield=True):
                await self._in_thread(session.log_out, LOG_OUT_S)


class Pool:
    """Up to `size` connections, and as many as the server lets in."""

    def __init__(self, access: Callable[[], Access], size: int) -> None:
        self._access = access
        self._size = size
        self._begin()

    def _begin(self) -> None:
        self._permits = Semaphore(self._size)
        self._idle: list[Line] = []
        self._lines: set[Line] = set()

    def look_anew(self) -> None:
        """Answer the questions that come from what folders are then."""
        for line in self._lines:
            line.look_anew()

    async def ask(self, path: str, question: Callable[[Session], Answer]) -> Answer:
        """What `Line.ask` returns and raises, over a connection on which the folder is open if there is one."""
        while True:
            async with self._line(path) as line:
                try:
                    return await line.ask(question)
                except SourceError:
                    if not any(other.is_open or other not in self._idle for other in self._lines - {line}):
                        raise
                    # The server lets in no more than there are: this one's permit is not given back.
                    self._lines.discard(line)

    @asynccontextmanager
    async def _line(self, path: str) -> AsyncIterator[Line]:
        await self._permits.acquire()
        if self._idle:
            line = next((idle for idle in self._idle if idle.path == path), self._idle[-1])
            self._idle.remove(line)
        else:
            line = Line(self._access)
            self._lines.add(line)
        try:
            yield line
        finally:
            if line in self._lines:
                self._idle.append(line)
                self._permits.release()

    async def aclose(self) -> None:
        """Log out everywhere. Safe to repeat; it is opened again for the next question."""
        lines = self._lines
        self._begin()
        for line in lines:
            await line.aclose()
