"""A server on this machine that keeps what it is sent: a collector of telemetry, a service for notifications."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONDITION_TIMEOUT_S = 30


@dataclass(slots=True)
class Received:
    """`status` is what it answers. With `is_silent` it never does, until it is closed."""

    url: str = ""
    status: int = 200
    is_silent: bool = False
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # path and body, in the order of their coming
    closing: threading.Event = field(default_factory=threading.Event)
    has_grown: threading.Condition = field(default_factory=threading.Condition)

    def bodies(self, path: str) -> list[bytes]:
        return [body for each, body in self.requests if each == path]

    def wait_until(self, is_enough: Callable[[], bool]) -> None:
        with self.has_grown:
            assert self.has_grown.wait_for(is_enough, CONDITION_TIMEOUT_S)


@contextmanager
def receiver() -> Iterator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with received.has_grown:
                received.requests.append((self.path, body))
                received.has_grown.notify_all()
            if received.is_silent:
                received.closing.wait()
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield received
        finally:
            received.closing.set()
            server.shutdown()
            thread.join()
