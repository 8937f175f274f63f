"""HTML in a process of its own: the library that reads it is native code, and pages are written by anyone.

A page that crashes the library, keeps it busy for ever or makes it fill the memory costs that process, and the page
becomes a dead letter; the run goes on with a fresh process. It knows no secret: it starts with an empty environment.
It is no sandbox against code that takes the process over: it has its user's rights.

    this process                      the reader (`python -m pipeline.parsing.html_process`)
      a page ── length, UTF-8 ──────▶ limits its CPU time for the page, parses
      `ParsedDocument` ◀── length, JSON ──
"""

import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import SourceError, UnreadableDocument
from pipeline.model import DocumentId, DocumentRef, Markup, ParsedDocument
from pipeline.parsing.html import parse_html

LENGTH = struct.Struct(">Q")
READY = b"+"

IMPORT_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class HtmlLimits:
    """What one page may cost. A page of ordinary size takes some milliseconds; 1 MiB of it about 0.1 s."""

    page_s: float = 30.0
    start_s: float = 30.0
    memory_bytes: int = 2 * 1024**3  # of addresses; ten times the largest page that is read, and the library's own
    answer_bytes: int = 256 * 1024**2


DEFAULT_LIMITS = HtmlLimits()


class HtmlProcess:
    """Reads pages in a child process, which is started for the first page and then kept.

    For any number of threads; they wait for each other. The child ends with this object, and with this process
    however that ends. It is not reached by a Ctrl-C at the terminal.
    """

    def __init__(self, limits: HtmlLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def __reduce__(self) -> tuple[type["HtmlProcess"], tuple[HtmlLimits]]:
        """A copy in another process starts a child of its own."""
        return HtmlProcess, (self._limits,)

    def parse(self, ref: DocumentRef, html: str) -> ParsedDocument:
        """What `parse_html` gives.

        Raises:
            UnreadableDocument: as `parse_html`, or the child crashed, took too long or needed too much memory.
            SourceError: no child can be started.
        """
        with self._lock:
            if self._child is None:
                self._child = _Child(self._limits)
            try:
                answer = self._child.ask(html.encode())
            except TimeoutError as error:
                raise UnreadableDocument(
                    "parser_too_slow", f"reading the HTML took more than {self._limits.page_s:g} s and was stopped"
                ) from error
            except (OSError, ValueError) as error:
                end = self._child.stop()
                raise UnreadableDocument(
                    "parser_crashed",
                    f"the HTML's parser ended with {end}, as it does when a page needs more than"
                    f" {self._limits.memory_bytes // 1024**2:,} MiB or makes it fail",
                ) from error
            finally:
                if self._child.is_spent:
                    self._child.stop()
                    self._child = None
        return _document(ref, answer)


class _Child:
    """The running reader, and our end of the line to it."""

    def __init__(self, limits: HtmlLimits) -> None:
        self._limits = limits
        self._line, theirs = socket.socketpair()
        self.is_spent = True  # until an answer has come whole, and from the next question to its answer
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                    [sys.executable, "-m", __name__, str(limits.memory_bytes), str(int(limits.page_s) + 1)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # a crash report can hold a piece of the page
                    cwd=IMPORT_ROOT,
                    env={"PYTHONUTF8": "1"},
                    start_new_session=True,
                )
        except OSError as error:
            self._line.close()
            raise SourceError(f"The process that reads HTML cannot be started: {error.strerror}.") from error
        self._end = weakref.finalize(self, _end, self._process, self._line)
        try:
            is_ready = self._receive(1, time.monotonic() + limits.start_s) == READY
        except OSError:
            is_ready = False
        if not is_ready:
            raise SourceError(
                f"The process that reads HTML ended with {self.stop()} before it was ready. Nothing was concluded from"
                " that. Is there enough memory, and is `html-to-markdown` installed?"
            )
        self.is_spent = False

    def ask(self, page: bytes) -> dict[str, Any]:
        """The answer to `page`.

        Raises:
            TimeoutError: it took too long.
            OSError, ValueError: the child ended, or answers nonsense.
        """
        self.is_spent = True
        deadline = time.monotonic() + self._limits.page_s
        self._line.settimeout(self._limits.page_s)
        self._line.sendall(LENGTH.pack(len(page)) + page)
        (length,) = LENGTH.unpack(self._receive(LENGTH.size, deadline))
        if length > self._limits.answer_bytes:
            raise ValueError("the answer is too long")
        answer = json.loads(self._receive(length, deadline))
        self.is_spent = False
        assert isinstance(answer, dict)
        return answer

    def stop(self) -> str:
        """End it, and tell how it ended: a signal's name or an exit code. Safe to repeat."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)  # it may be about to end by itself, which tells more than our kill
        self._end()
        code = self._process.returncode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _receive(self, count: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < count:
            self._line.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = self._line.recv(min(count - len(received), 1024 * 1024))
            if not piece:
                raise ConnectionResetError
            received += piece
        return bytes(received)


def _end(process: subprocess.Popen[bytes], line: socket.socket) -> None:
    line.close()
    process.kill()
    process.wait()


def _document(ref: DocumentRef, answer: dict[str, Any]) -> ParsedDocument:
    if "refused" in answer:
        raise UnreadableDocument(answer["refused"], answer["message"])
    modified_at = answer["modified_at"]
    return ParsedDocument(
        ref.id,
        answer["text"],
        Markup.MARKDOWN,
        title=answer["title"] or ref.title,
        modified_at=datetime.fromisoformat(modified_at) if modified_at else None,
        metadata={
            name: tuple(value) if isinstance(value, list) else value for name, value in answer["metadata"].items()
        },
    )


# ----------------------------------------------------------------------------------------- in the child


def _serve(line: socket.socket, page_cpu_s: int) -> None:
    """Answer until the other end is closed."""
    import html_to_markdown  # noqa: F401, PLC0415 - what is slow to import is imported before time counts

    line.sendall(READY)
    with line.makefile("rb") as pages:
        while header := pages.read(LENGTH.size):
            page = pages.read(*LENGTH.unpack(header))
            _limit_cpu(page_cpu_s)
            answer = json.dumps(_answer(page.decode())).encode()
            line.sendall(LENGTH.pack(len(answer)) + answer)


def _answer(html: str) -> dict[str, Any]:
    try:
        read = parse_html(DocumentRef(DocumentId("page"), ""), html)
    except UnreadableDocument as error:
        return {"refused": error.code, "message": str(error)}
    except RecursionError:
        return {"refused": "too_deep", "message": "the content is nested too deeply"}
    return {
        "text": read.text,
        "title": read.title,
        "modified_at": read.modified_at.isoformat() if read.modified_at else None,
        "metadata": dict(read.metadata),
    }


def _limit_cpu(seconds: int) -> None:
    """Allow so much more: if nobody is left to stop this process, it ends by itself."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(OSError, ValueError):  # not every system has every limit
        resource.setrlimit(kind, (limit, limit))


def _main() -> None:
    memory_bytes, page_cpu_s = map(int, sys.argv[1:])
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)  # a core would hold the page
    _limit(resource.RLIMIT_FSIZE, 0)
    with socket.socket(fileno=os.dup(0)) as line, suppress(ConnectionError):
        _serve(line, page_cpu_s)


if __name__ == "__main__":
    _main()
