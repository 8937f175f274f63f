"""A TCP proxy for protocols of lines, as IMAP, that spoils what the server says."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum


class End(Enum):
    """What happens to the connection after the last line was passed on."""

    CLOSE = "close"
    RESET = "reset"
    SILENCE = "silence"  # it stays open, and no more comes


@dataclass(frozen=True, slots=True)
class Instead:
    """What is passed on instead of a line. `skips_answer`: nothing more of the command's answer follows it."""

    line: bytes
    end: End | None = None
    skips_answer: bool = False


# Given the line and the tag of the command that it answers; None passes it on as it is.
Spoil = Callable[[bytes, bytes], Instead | None]


@dataclass
class FaultyLines:
    """`commands` are the lines that clients sent, without their tags."""

    port: int
    spoil: Spoil = lambda _line, _tag: None
    commands: list[bytes] = field(default_factory=list)
    connections: int = 0

    def asked(self, word: bytes) -> int:
        """How many commands have this in them."""
        return sum(word in command for command in self.commands)


@asynccontextmanager
async def faulty_lines(port: int) -> AsyncIterator[FaultyLines]:
    """Stand before the server at `port` of this machine."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        proxy.connections += 1
        try:
            with suppress(OSError, asyncio.CancelledError):
                await _Connection(proxy).carry(reader, writer, port)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**24)
    proxy = FaultyLines(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        while tasks:
            await asyncio.wait(tasks)


class _Connection:
    def __init__(self, proxy: FaultyLines) -> None:
        self._proxy = proxy
        self._tag = b""
        self._skipped_tag: bytes | None = None

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        ways = [
            asyncio.create_task(self._carry_commands(reader, to_server)),
            asyncio.create_task(self._carry_answers(from_server, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            to_server.transport.abort()
            writer.close()  # what was written goes out before
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry_commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            tag, _, command = line.rstrip(b"\r\n").partition(b" ")
            if command:
                self._tag = tag
                self._proxy.commands.append(command)
            writer.write(line)
            await writer.drain()

    async def _carry_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if self._skipped_tag is not None:
                if line.startswith(self._skipped_tag + b" "):
                    self._skipped_tag = None
                continue
            instead = self._proxy.spoil(line, self._tag)
            if instead is None:
                writer.write(line)
                continue
            if instead.skips_answer and not line.startswith(self._tag + b" "):
                self._skipped_tag = self._tag
            writer.write(instead.line)
            match instead.end:
                case End.CLOSE:
                    await writer.drain()
                    return
                case End.RESET:
                    await writer.drain()
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    return
                case End.SILENCE:
                    await asyncio.Event().wait()
                case None:
                    pass
