"""Servers to fetch git repositories from, on free ports of this machine: SSH and HTTPS."""

import base64
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

GIT = shutil.which("git") or "git"
USER, PASSWORD = "reader", "hunter2"


class SilentServer:
    """Takes connections, one after the other, and says nothing. `is_left` is set once the other side closed one."""

    def __init__(self, listening: socket.socket) -> None:
        self.port: int = listening.getsockname()[1]
        self.is_asked, self.is_left = threading.Event(), threading.Event()
        self.connections = 0
        self._listening = listening

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self.is_asked.set()
            with suppress(OSError), connection:
                while connection.recv(1_000):
                    continue
            self.is_left.set()


@contextmanager
def silent_server() -> Iterator[SilentServer]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = SilentServer(listening)
        threading.Thread(target=server.serve, daemon=True).start()
        yield server


# ------------------------------------------------------------------------------------------------------- SSH


@dataclass
class SshServer:
    """OpenSSH for the user who runs the tests. `command` is how to call its client, which knows server and key."""

    port: int
    folder: Path

    @property
    def user(self) -> str:
        return pwd.getpwuid(os.geteuid()).pw_name

    def command(self, *, key: str = "client", known: str = "known_hosts") -> str:
        options = [
            *("-F", os.devnull, "-i", str(self.folder / key)),
            *("-o", f"UserKnownHostsFile={self.folder / known}", "-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"),
        ]
        return " ".join(["ssh", *options])

    @property
    def url(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}"


@contextmanager
def ssh_server() -> Iterator[SshServer]:
    """Yield a running server; skips the test, and says why, if this machine has none."""
    server = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if server is None or not shutil.which("ssh"):
        pytest.skip("git over SSH was NOT tested: apt-get install openssh-server openssh-client")
    with tempfile.TemporaryDirectory(prefix="sshd") as name, socket.socket() as reserved:
        folder = Path(name)
        for key in ("host", "client", "stranger"):
            made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(folder / key)]
            subprocess.run(made, check=True, stdin=subprocess.DEVNULL)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reserved.close()
        host_key = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
        (folder / "other_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'stranger.pub').read_text()}")
        (folder / "no_hosts").touch()
        (folder / "authorized").write_bytes((folder / "client.pub").read_bytes())
        lines = [
            f"Port {port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {folder}/host",
            f"AuthorizedKeysFile {folder}/authorized",
            f"PidFile {folder}/pid",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
        ]
        (folder / "config").write_text("\n".join(lines))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where a server that root runs locks its children in
        process = subprocess.Popen(
            [server, "-D", "-e", "-f", str(folder / "config")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process.stderr as said:
            try:
                words: list[str] = []
                for line in said:
                    words.append(line)
                    if "listening on" in line:
                        break
                else:
                    pytest.fail(f"sshd did not start: {''.join(words)[-500:]}")
                threading.Thread(target=lambda: [None for _ in said], daemon=True).start()
                yield SshServer(port, folder)
            finally:
                process.kill()
                process.wait()


# ----------------------------------------------------------------------------------------------------- HTTPS


@dataclass
class HttpsServer:
    """Serves this machine's repositories to who knows the password, by git's own program for that."""

    certificate: Path
    asked: list[str] = field(default_factory=list)
    answer: tuple[int, str, bytes] | None = None  # what it says instead, whatever it is asked
    port: int = 0
    sent_bytes: int = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def wants(self, authorization: str | None) -> bool:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return authorization != f"Basic {expected}"


def _handler(server: HttpsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _serve(self, body: bytes) -> None:
            server.asked.append(self.path)
            if server.answer is not None:
                status, media_type, said = server.answer
                self._answer(status, {"Content-Type": media_type}, said)
            elif server.wants(self.headers.get("Authorization")):
                self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"who are you?")
            else:
                self._ask_git(body)

        def _ask_git(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            variables = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": "/",
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
                "REMOTE_USER": USER,
                "REMOTE_ADDR": "127.0.0.1",
            }
            done = subprocess.run([GIT, "http-backend"], input=body, env=variables, capture_output=True, check=False)
            head, _, said = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
            self._answer(int(headers.pop("Status", "200").split()[0]), headers, said)

        def _answer(self, status: int, headers: dict[str, str], said: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(said))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)
            server.sent_bytes += len(said)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class calls it so
            """Say nothing."""

    return Handler


@contextmanager
def https_server() -> Iterator[HttpsServer]:
    """Yield a running server; skips the test, and says why, if there is none to be had."""
    trustme = pytest.importorskip("trustme", reason="git over HTTPS was NOT tested: pip install trustme")
    programs = subprocess.run([GIT, "--exec-path"], capture_output=True, check=True, text=True).stdout.strip()
    if not (Path(programs) / "git-http-backend").exists():
        pytest.skip("git over HTTPS was NOT tested: this git has no http-backend")
    with tempfile.TemporaryDirectory(prefix="https") as folder:
        authority = trustme.CA()
        certificate = Path(folder) / "authority.pem"
        authority.cert_pem.write_to_path(str(certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        server = HttpsServer(certificate)
        with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as listening:
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
            listening.handle_error = lambda *_arguments: None  # type: ignore[method-assign]  # a client that hangs up
            server.port = listening.server_address[1]
            thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            try:
                yield server
            finally:
                listening.shutdown()
                thread.join()
