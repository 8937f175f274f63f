"""A wire to a server that fails at any of the server's answers."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

WireFault = Literal["cut", "reset", "silent", "half", "garbage"]

AT_ONCE_BYTES = 65_536
RESET = struct.pack("ii", 1, 0)


class FaultyWire:
    """Listens on `port`, and passes on to `target` and back what it gets.

    Once it is armed, it does something else with the answer of that number, counted from 0. A wire that fell silent
    stays so, for new connections too, until it is healed.
    """

    def __init__(self, target: str | tuple[str, int], listening: socket.socket) -> None:
        self.port: int = listening.getsockname()[1]
        self.answers = 0
        self.has_struck = False
        self._target = target
        self._listening = listening
        self._lock = threading.Lock()
        self._fault: tuple[WireFault, int] | None = None
        self._is_silent = False
        self._ends: list[socket.socket] = []

    def arm(self, fault: WireFault, position: int) -> None:
        with self._lock:
            self.answers, self.has_struck, self._fault = 0, False, (fault, position)

    def heal(self) -> None:
        """Pass on everything from now on, over new connections."""
        with self._lock:
            self._fault, self._is_silent = None, False
            ends, self._ends = self._ends, []
        for end in ends:
            _close(end)

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
                server.connect(self._target)
                with self._lock:
                    self._ends += [client, server]
                for one, other, is_answer in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass_on, args=(one, other, is_answer), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while said := one.recv(AT_ONCE_BYTES):
                fault = self._due() if is_answer else None
                match fault:
                    case None if self._is_silent and is_answer:
                        continue
                    case None:
                        other.sendall(said)
                    case "silent":
                        continue
                    case "garbage":
                        other.sendall(bytes(byte ^ 0x55 for byte in said))
                    case "half":
                        other.sendall(said[: len(said) // 2])
                        break
                    case "reset":
                        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        other.shutdown(socket.SHUT_RD)  # wakes who reads there; it would be open until then
                        other.close()
                        break
                    case "cut":
                        break
        _close(one)
        _close(other)

    def _due(self) -> WireFault | None:
        with self._lock:
            self.answers += 1
            if self._fault is None or self.answers != self._fault[1] + 1:
                return None
            self.has_struck = True
            self._is_silent = self._fault[0] == "silent"
            return self._fault[0]


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def faulty_wire(target: str | tuple[str, int]) -> Iterator[FaultyWire]:
    """Yield a wire to `target`: the path of a socket, or host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        wire = FaultyWire(target, listening)
        threading.Thread(target=wire.serve, daemon=True).start()
        yield wire
        _close(listening)
        wire.heal()
