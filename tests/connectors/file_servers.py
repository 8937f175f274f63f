"""Servers of this machine that show a folder: WebDAV, SFTP and FTP, each in a thread of its own."""

import asyncio
import logging
import os
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

USER, PASSWORD = "reader", "open sesame"


@dataclass
class FileServer:
    """A server of what lies in `folder`. It refuses to list the folders in `closed`, named as in a URL.

    `requests` are what it was asked, in its own words.
    """

    folder: Path
    url: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def is_closed(self, path: str) -> bool:
        return path.strip("/") in self.closed


@contextmanager
def webdav_server(folder: Path) -> Iterator[FileServer]:
    """WsgiDAV behind cheroot."""
    from cheroot.wsgi import Server
    from wsgidav.wsgidav_app import WsgiDAVApp

    said = FileServer(folder, options={"username": USER})
    application = WsgiDAVApp(
        {
            "provider_mapping": {"/": {"root": str(folder), "readonly": True}},
            "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
            "http_authenticator": {"accept_digest": False, "default_to_digest": False},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )

    def watched(environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        said.requests.append(f"{environ['REQUEST_METHOD']} {path}")
        if environ["REQUEST_METHOD"] == "PROPFIND" and said.is_closed(path):
            start_response("403 Forbidden", [("Content-Length", "0")])
            return [b""]
        return application(environ, start_response)

    server = Server(("127.0.0.1", 0), watched, numthreads=4, timeout=5)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        said.url = f"webdav+http://127.0.0.1:{server.bind_addr[1]}"
        yield said
    finally:
        server.stop()
        thread.join(10)


@contextmanager
def sftp_server(folder: Path) -> Iterator[FileServer]:
    """asyncssh's own server. `options` name the file that its host key stands in."""
    import asyncssh

    folder.mkdir(exist_ok=True)
    said = FileServer(folder)

    connections: list[Any] = []

    class Server(asyncssh.SSHServer):
        def connection_made(self, connection: Any) -> None:
            connections.append(connection)

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (USER, PASSWORD)

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            super().__init__(channel, chroot=os.fsencode(folder))

        def scandir(self, path: bytes) -> AsyncIterator[Any]:
            said.requests.append(f"LIST {path.decode(errors='replace')}")
            if said.is_closed(path.decode(errors="replace")):
                raise asyncssh.SFTPPermissionDenied("closed")
            listed: AsyncIterator[Any] = super().scandir(path)
            return listed

        def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
            said.requests.append(f"READ {path.decode(errors='replace')}")
            return super().open(path, pflags, attrs)

    key = asyncssh.generate_private_key("ssh-ed25519")
    with ExitStack() as stack:
        loop = stack.enter_context(_loop_in_thread())

        async def start() -> Any:
            return await asyncssh.listen(
                "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], sftp_factory=Files, allow_scp=False
            )

        acceptor = asyncio.run_coroutine_threadsafe(start(), loop).result(10)

        async def stop() -> None:
            acceptor.close()
            for connection in connections:
                connection.abort()
                await connection.wait_closed()
            await acceptor.wait_closed()

        stack.callback(lambda: asyncio.run_coroutine_threadsafe(stop(), loop).result(10))
        port = acceptor.get_port()
        known_hosts = folder.parent / f"{folder.name}.known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{port} {key.export_public_key().decode()}")
        said.url = f"sftp://{USER}@127.0.0.1:{port}/"
        said.options = {"known_hosts": str(known_hosts), "client_keys": None, "agent_path": None}
        yield said


@contextmanager
def _loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel_all(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def ftp_server(folder: Path) -> Iterator[FileServer]:
    """pyftpdlib."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what it imports, until Python 3.12
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.handlers import FTPHandler
        from pyftpdlib.ioloop import IOLoop
        from pyftpdlib.servers import FTPServer

    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
    said = FileServer(folder, options={"username": USER})
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, PASSWORD, str(folder), perm="elr")

    class Handler(FTPHandler):  # type: ignore[misc]
        use_sendfile = False
        auth_failed_timeout = 0

        def pre_process_command(self, line: str, command: str, argument: str) -> None:
            said.requests.append(line)
            if command in ("MLSD", "LIST") and said.is_closed(argument):
                self.respond("550 Permission denied.")
            else:
                super().pre_process_command(line, command, argument)

    Handler.authorizer = authorizer
    loop = IOLoop()
    server = FTPServer(("127.0.0.1", 0), Handler, ioloop=loop)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            server.serve_forever(timeout=0.05, blocking=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        said.url = f"ftp://127.0.0.1:{server.address[1]}"
        yield said
    finally:
        stopping.set()
        thread.join(10)
