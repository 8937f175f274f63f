"""An AgentCore that costs next to nothing: it takes every record, remembers none and answers as the real one does.

Asked for one record by its id, it has it; asked for a list, it has none.

It stands in a process of its own, so that what is measured is the client. `python -m tests.benchmarks.stub` prints its
port and serves until its standard input ends.
"""

import argparse
import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_IDENTIFIER = re.compile(rb'"(requestIdentifier|memoryRecordId)" ?: ?"([^"]*)"')
_GET = re.compile(rb"/memoryRecord/([^/?]+)")
_RECORD = (
    b'{"memoryRecord":{"memoryRecordId":"%b","content":{"text":""},"memoryStrategyId":"","namespaces":["/"],'
    b'"createdAt":0}}'
)
_EMPTY_LIST = b'{"memoryRecordSummaries":[]}'


class Connection(asyncio.Protocol):
    """One client's requests, answered in their order, each `latency_s` after it came."""

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._received = bytearray()
        self._needed = 0  # bytes of the request that is coming in, once its head is there
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._is_whole():
            request = bytes(self._received[: self._needed])
            del self._received[: self._needed]
            self._needed = 0
            if self._latency_s:
                asyncio.get_running_loop().call_later(self._latency_s, self._answer, request)
            else:
                self._answer(request)

    def _is_whole(self) -> bool:
        if not self._needed:
            end = self._received.find(HEAD_END)
            if end < 0:
                return False
            length = _LENGTH.search(self._received, 0, end)
            self._needed = end + len(HEAD_END) + (int(length[1]) if length else 0)
        return len(self._received) >= self._needed

    def _answer(self, request: bytes) -> None:
        target = request[: request.index(b"\r\n")].split(b" ")[1]
        body, status = _EMPTY_LIST, b"200 OK"
        if one := _GET.search(target):
            body = _RECORD % one[1]
        elif b"batch" in target:
            status = b"201 Created"
            head_end = request.index(HEAD_END)
            outcomes = b",".join(
                b'{"memoryRecordId":"mem-%b","status":"SUCCEEDED","requestIdentifier":"%b"}' % (name, name)
                if kind == b"requestIdentifier"
                else b'{"memoryRecordId":"%b","status":"SUCCEEDED"}' % name
                for kind, name in _IDENTIFIER.findall(request, head_end)
            )
            body = b'{"successfulRecords":[%b],"failedRecords":[]}' % outcomes
        assert self._transport is not None
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
        )


async def serve(latency_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency_s), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def stub(latency_s: float = 0.0) -> Iterator[str]:
    """The URL of a stub that runs beside this process for as long as the block does."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.stub", "--latency", str(latency_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    asyncio.run(serve(parser.parse_args().latency))
