"""A process for what may break or hang while it is read: native code, archives, and whatever is nested without end.

A document that crashes it, keeps it busy for ever or makes it fill the memory costs that process, and the document
becomes a dead letter; the run goes on with a fresh process.

    this process                              the reader (`pipeline.parsing.reading_child`)
      a content ── lengths, JSON, bytes ────▶ limits its CPU time, reads
      `Reading` ◀── lengths, JSON, bytes ────
"""

import json
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

from pipeline.errors import SourceError, UnreadableDocument, UnsupportedDocument
from pipeline.model import DocumentId, Markup, MetadataValue, ParsedDocument
from pipeline.parsing.media_types import Kind
from pipeline.parsing.readings import Content, Member, Reading, UnpackingLimits

LENGTHS = struct.Struct(">QQ")  # of the head, and of the bytes behind it
READY = b"+"
CHILD = "pipeline.parsing.reading_child"  # not imported: what it needs must not be loaded here

IMPORT_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """What one content may cost. A page of ordinary size takes some milliseconds; 1 MiB of it about 0.1 s."""

    content_s: float = 30.0
    start_s: float = 30.0
    memory_bytes: int = 2 * 1024**3  # of addresses; ten times the largest page that is read, and the library's own
    answer_bytes: int = 256 * 1024**2  # of its head, and of what is behind it


DEFAULT_LIMITS = ReadingLimits()

# A child that has ended, or that answers what a document taught it.
_FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError)


class ReadingProcess:
    """Reads contents in a child process, which is started for the first and then kept.

    For any number of threads; they wait for each other. The child ends with this object, and with this process
    however that ends. It is not reached by a Ctrl-C at the terminal.
    """

    def __init__(self, limits: ReadingLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def __reduce__(self) -> tuple[type["ReadingProcess"], tuple[ReadingLimits]]:
        """A copy in another process starts a child of its own."""
        return ReadingProcess, (self._limits,)

    def read(self, kind: Kind, content: Content, encoding: str | None, unpacking: UnpackingLimits) -> Reading:
        """What whoever reads this kind of content gives; it has no ids yet.

        Raises:
            UnreadableDocument: as they say, or the child crashed, took too long or needed too much memory.
            UnsupportedDocument: as they say.
            SourceError: no child can be started.
        """
        head = {
            "kind": kind.value,
            "name": content.name,
            "encoding": encoding,
            "bytes_max": unpacking.bytes_max,
            "entries_max": unpacking.entries_max,
        }
        with self._lock:
            if self._child is None:
                self._child = _Child(self._limits)
            try:
                return _reading(*self._child.ask(json.dumps(head).encode(), content.data))
            except TimeoutError as error:
                raise UnreadableDocument(
                    "parser_too_slow",
                    f"reading it took more than {self._limits.content_s:g} s and was stopped;"
                    " `parsing.limits.document_s` allows more",
                ) from error
            except _FAULTS as error:
                end = self._child.stop()
                raise UnreadableDocument(
                    "parser_crashed",
                    f"the process that read the {kind.value} ended with {end}, as it does when a document needs more"
                    f" than {self._limits.memory_bytes // 1024**2:,} MiB or makes it fail",
                ) from error
            finally:
                if self._child.is_spent:
                    self._child.stop()
                    self._child = None


class _Child:
    """The running reader, and our end of the line to it."""

    def __init__(self, limits: ReadingLimits) -> None:
        self._limits = limits
        self._line, theirs = socket.socketpair()
        self.is_spent = True  # until an answer has come whole, and from the next question to its answer
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                    [sys.executable, "-m", CHILD, str(limits.memory_bytes), str(int(limits.content_s) + 1)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # a crash report can hold a piece of the document
                    cwd=IMPORT_ROOT,
                    # Each thread of a library takes 128 MiB of addresses otherwise, of which there are not many.
                    env={"PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "2"},
                    start_new_session=True,
                )
        except OSError as error:
            self._line.close()
            raise SourceError(f"The process that reads documents cannot be started: {error.strerror}.") from error
        self._end = weakref.finalize(self, _end, self._process, self._line)
        try:
            is_ready = self._receive(1, time.monotonic() + limits.start_s) == READY
        except OSError:
            is_ready = False
        if not is_ready:
            raise SourceError(
                f"The process that reads documents ended with {self.stop()} before it was ready. Nothing was concluded"
                " from that. Is there enough memory, and is `html-to-markdown` installed?"
            )
        self.is_spent = False

    def ask(self, head: bytes, data: bytes) -> tuple[Any, memoryview]:
        """The answer's head, and the bytes behind it.

        Raises:
            TimeoutError: it took too long.
            OSError, ValueError: the child ended, or answers nonsense.
        """
        self.is_spent = True
        deadline = time.monotonic() + self._limits.content_s
        self._line.settimeout(self._limits.content_s)
        self._line.sendall(LENGTHS.pack(len(head), len(data)) + head)
        self._line.sendall(data)
        lengths = LENGTHS.unpack(self._receive(LENGTHS.size, deadline))
        if max(lengths) > self._limits.answer_bytes:
            raise ValueError("the answer is too long")
        answer = json.loads(self._receive(lengths[0], deadline))
        contents = memoryview(self._receive(lengths[1], deadline))
        self.is_spent = False
        return answer, contents

    def stop(self) -> str:
        """End it, and tell how it ended: a signal's name or an exit code. Safe to repeat."""
        self.is_spent = True
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


def _reading(answer: dict[str, Any], contents: memoryview) -> Reading:
    if "refused" in answer:
        raise UnreadableDocument(answer["refused"], answer["message"])
    if "left_out" in answer:
        raise UnsupportedDocument(answer["left_out"])
    members, position = [], 0
    for said in answer["members"]:
        end = position + said["bytes"]
        members.append(_member(said, bytes(contents[position:end])))
        position = end
    return Reading(
        _text(answer["text"]) if answer["text"] is not None else None,
        members,
        _metadata(answer["metadata"]),
        is_wrapped=answer["is_wrapped"],
        is_cut_off=answer["is_cut_off"],
    )


def _text(said: dict[str, Any]) -> ParsedDocument:
    return ParsedDocument(
        DocumentId(""),
        said["text"],
        Markup(said["markup"]),
        title=said["title"],
        modified_at=_time(said["modified_at"]),
        metadata=_metadata(said["metadata"]),
    )


def _member(said: dict[str, Any], data: bytes) -> Member:
    return Member(
        Content(said["name"], data, said["media_type"]),
        _time(said["modified_at"]),
        problem=tuple(said["problem"]) if said["problem"] else None,
        left_out=said["left_out"],
    )


def _time(said: str | None) -> datetime | None:
    return datetime.fromisoformat(said) if said else None


def _metadata(said: dict[str, Any]) -> dict[str, MetadataValue]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}
