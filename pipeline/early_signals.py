"""What SIGINT and SIGTERM do before and after those parts of a command that heed them.

Python answers Ctrl-C with a trace while it imports; that is a second, and most of it is spent on libraries.
"""

import atexit
import os
import signal
from types import FrameType
from typing import Any

EXIT_SIGNAL = 128  # plus the number of the signal, as shells do

# What Python does unless told otherwise. Whoever started us may want a signal ignored, as `nohup` does.
_USUAL: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def end_at_once() -> None:
    """From now on, end the process without a word: nothing has been begun."""
    for number, usual in _USUAL.items():
        if signal.getsignal(number) is usual:
            signal.signal(number, _end)


def raise_interrupts() -> None:
    """From now on, Ctrl-C raises KeyboardInterrupt, as libraries expect."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_with_code(code: int) -> None:
    """From now on, end the process with this exit code: all is done that it tells of."""
    for number, usual in _USUAL.items():
        if signal.getsignal(number) in (usual, _end):
            signal.signal(number, lambda *_: os._exit(code))
            # Python's last act is to give signals back their usual meaning, unless they are ignored by then.
            atexit.register(signal.signal, number, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_SIGNAL + number)
