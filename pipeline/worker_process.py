"""What runs in a worker process: it reads, parses and cuts documents for the process that started it.

    that process                            this one (`python -m pipeline.worker_process`)
      a pickled `Deriver` ───────────────────▶
                         ◀──────────────────── READY and how names of files are written, or FAILED and why
      a list of items ───────────────────────▶ derives
                         ◀──────────────────── SOME, how many items are dealt with, a list of what they become
                         ◀──────────────────── END, or FAILED and an error

Every message has a header: its kind, a count, and the length of what follows. It ends when its standard input does,
and with the process that started it, however that ends.
"""

import fcntl
import gc
import os
import pickle
import select
import signal
import struct
import sys
import threading
import traceback
from contextlib import suppress
from enum import IntEnum
from typing import Any, BinaryIO


class Kind(IntEnum):
    READY = 1
    SOME = 2
    END = 3
    FAILED = 4


HEADER = struct.Struct(">BIQ")  # kind, count, length
LENGTH = struct.Struct(">Q")
PIPE_BYTES = 1024 * 1024  # 16 times as much as usual: the event loop is woken less often


def _main() -> None:
    # A Ctrl-C at the terminal, or a service manager, asks the other process to stop, which then closes our input.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    threading.Thread(target=_end_with_the_other, args=(answers.fileno(),), daemon=True).start()
    with suppress(AttributeError, OSError):  # Linux only, and there within what a user may have
        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    with suppress(BrokenPipeError):  # nobody listens any more
        _serve(asked, answers)


def _end_with_the_other(descriptor: int) -> None:
    """End when the other process is gone, also in the middle of a document that takes for ever."""
    hang_up = select.poll()
    hang_up.register(descriptor, select.POLLERR)  # somebody can read from it as long as that process is there
    hang_up.poll()
    os._exit(0)


def _serve(asked: BinaryIO, answers: BinaryIO) -> None:
    try:
        deriver = _receive(asked)
    except Exception as error:  # such as a module that is not to be found here
        _answer(answers, Kind.FAILED, 0, f"{type(error).__name__}: {error}".encode())
        return
    # What is there now stays: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    _answer(answers, Kind.READY, 0, sys.getfilesystemencoding().encode())
    while (items := _receive(asked)) is not None:
        try:
            for done, some in deriver.derive_lists(items):
                _answer(answers, Kind.SOME, done, pickle.dumps(some, pickle.HIGHEST_PROTOCOL))
        except MemoryError:
            os._exit(1)  # then the other process finds out which document it was
        except Exception as error:
            _answer(answers, Kind.FAILED, 0, _pickled(error))
        else:
            _answer(answers, Kind.END)


def _receive(asked: BinaryIO) -> Any:
    """The next object; None at the end."""
    header = asked.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    content = asked.read(*LENGTH.unpack(header))
    return pickle.loads(content)  # noqa: S301 - by the process that started this one


def _answer(answers: BinaryIO, kind: Kind, count: int = 0, content: bytes = b"") -> None:
    answers.write(HEADER.pack(kind, count, len(content)))
    answers.write(content)
    answers.flush()


def _pickled(error: Exception) -> bytes:
    error.add_note("In the worker process:\n" + "".join(traceback.format_tb(error.__traceback__)))
    try:
        content = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        pickle.loads(content)  # noqa: S301 - our own
    except Exception:  # not every exception can be copied
        return pickle.dumps(RuntimeError(f"{type(error).__name__} in the worker process"), pickle.HIGHEST_PROTOCOL)
    return content


if __name__ == "__main__":
    _main()
