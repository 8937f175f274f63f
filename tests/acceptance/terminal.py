"""A person at a terminal: types, and reads what is shown."""

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 30.0
INTERRUPT_AGAIN_S, INTERRUPTS_MAX = 3.0, 10


class Terminal:
    """A program on a terminal of its own. `shown` is all that it has sent there."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: int) -> None:
        self.process = process
        self.shown = ""
        self._ours = ours
        self._read_up_to = 0
        self._bytes = b""

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> str:
        """Wait until `text` is shown, behind what was waited for before; return what came with it."""
        while text not in self.shown[self._read_up_to :]:
            assert self._read_more(), f"{text!r} did not come; there was {self.shown[self._read_up_to :]!r}"
        end = self.shown.index(text, self._read_up_to) + len(text)
        found = self.shown[self._read_up_to : end]
        self._read_up_to = end
        return found

    def answer(self, question: str, text: str) -> None:
        """Type a line once `question` is shown."""
        self.wait_for(question)
        self.type(f"{text}\n")

    def interrupt(self, text: str) -> None:
        """Press Ctrl-C until `text` is shown.

        Python does not hear a signal in the moment between its last look for one and the wait for a line.
        """
        for _ in range(INTERRUPTS_MAX):
            self.type("\x03")
            while self._is_ready(INTERRUPT_AGAIN_S) and self._read_more():
                if text in self.shown[self._read_up_to :]:
                    return
        raise AssertionError(f"{text!r} did not come; there was {self.shown[self._read_up_to :]!r}")

    def finish(self) -> int:
        """Wait for the program's end; return its exit code."""
        while self._read_more():
            pass
        return self.process.wait(WAIT_S)

    def _read_more(self) -> bool:
        """Read what comes next; False at the end."""
        assert self._is_ready(WAIT_S), f"nothing came for {WAIT_S} s after {self.shown[-500:]!r}"
        try:
            sent = os.read(self._ours, 4096)
        except OSError:  # that is how Linux ends a terminal
            return False
        self._bytes += sent
        self.shown = self._bytes.decode(errors="replace")
        return bool(sent)

    def _is_ready(self, wait_s: float) -> bool:
        return bool(select.select([self._ours], [], [], wait_s)[0])


# Run by a Python that then becomes the program: so that Ctrl-C on the terminal reaches it.
WITH_THE_TERMINAL_AS_ITS_OWN = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)


@contextmanager
def on_terminal(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x28\x00\xf0\x00\x00\x00\x00\x00")  # 40 lines of 240 characters
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_THE_TERMINAL_AS_ITS_OWN, *arguments],
        cwd=folder,
        env={"TERM": "xterm", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
