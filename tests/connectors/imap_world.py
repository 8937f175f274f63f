"""An account on a real IMAP server that a test changes through a client of its own."""

import imaplib
import re
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connectors.imap.connector import ImapConnector, ImapSettings
from pipeline.model import Checkpoint, Document, DocumentId, DocumentRef, SourceEvent

from .imap_servers import PASSWORD, ImapServer

VARIABLE = "MEMSYNC_TEST_IMAP_PASSWORD"
HEADERS = b"From: a@example.com\r\nSubject: a letter\r\nMessage-ID: <same@example.com>\r\n\r\n"


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, PASSWORD)


class Letters:
    """Mails as documents that are nothing but their text, which is what these tests read."""

    def __init__(self, connector: ImapConnector) -> None:
        self.connector = connector
        self.listed: set[DocumentId] = set()

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        self.listed.clear()
        async for events in self.connector.scan(since):
            self.listed.update(event.id for event in events if isinstance(event, DocumentRef))
            yield events

    async def fetch(self, ref: DocumentRef) -> Document:
        document = await self.connector.fetch(ref)
        return Document(document.ref, document.content.replace(b"\r\n", b"\n").partition(b"\n\n")[2], "text/plain")

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        return await self.connector.locate(document)

    def trace(self, ref: DocumentRef) -> str | None:
        return self.connector.trace(ref)


@dataclass
class ImapWorld:
    """`put` names a mail by a path: what is before the last step is its folder, the inbox if there is nothing."""

    server: ImapServer
    user: str = ""
    port: int | None = None  # of a proxy before the server
    ids: dict[str, DocumentId] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"INBOX"})
    uids: Counter[str] = field(default_factory=Counter)  # the last of each folder
    validities: dict[str, str] = field(default_factory=dict)
    opened: list[ImapConnector] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.user = self.server.new_user()
        self.client = imaplib.IMAP4("127.0.0.1", self.server.port, timeout=30)
        self.client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # it sends a mail in two pieces
        self.client.login(self.user, PASSWORD)

    def settings(self, **options: Any) -> dict[str, Any]:
        return {
            "type": "imap",
            "host": "127.0.0.1",
            "port": self.port or self.server.port,
            "security": "none",
            "user": self.user,
            "password_variable": VARIABLE,
            **options,
        }

    def connector(self, **options: Any) -> ImapConnector:
        connector = ImapConnector(ImapSettings.model_validate(self.settings(**options)), Path("/"))
        self.opened.append(connector)
        return connector

    def ask(self, command: str, *arguments: Any) -> list[Any]:
        status, answer = getattr(self.client, command)(*arguments)
        assert status == "OK", answer
        return list(answer)

    def make_folder(self, folder: str) -> None:
        if folder not in self.folders:
            self.folders.add(folder)
            self.ask("create", f'"{folder}"')

    def put(self, name: str, content: bytes, arrived_at: str | None = None) -> DocumentId:
        """Add a mail; instead of the one of this name, if there is one."""
        if name in self.ids:
            self.remove(name)
        folder = name.rpartition("/")[0] or "INBOX"
        self.make_folder(folder)
        self.ask("append", f'"{folder}"', None, arrived_at, content)
        return self.note(name, folder)

    def note(self, name: str, folder: str) -> DocumentId:
        """The id of a mail that has just been added."""
        if folder not in self.validities:
            (said,) = self.ask("status", f'"{folder}"', "(UIDVALIDITY)")
            self.validities[folder] = re.findall(rb"UIDVALIDITY (\d+)", said)[-1].decode()
        self.uids[folder] += 1
        self.ids[name] = DocumentId(f"{folder}/uid:{self.validities[folder]}:{self.uids[folder]}")
        return self.ids[name]

    def place(self, name: str) -> tuple[str, str]:
        """The folder and the UID of a mail, which is forgotten."""
        folder, _, numbers = self.ids.pop(name).rpartition("/uid:")
        return folder, numbers.rpartition(":")[2]

    def remove(self, name: str) -> None:
        folder, uid = self.place(name)
        self.ask("select", f'"{folder}"')
        self.ask("uid", "STORE", uid, "+FLAGS", r"(\Deleted)")
        self.ask("expunge")
        self.ask("close")

    def remove_root(self) -> None:
        """Let the user in no more."""
        users = self.server.folder / "pymap-etc-shadow"
        kept = [line for line in users.read_text().splitlines() if not line.startswith(f"{self.user}:")]
        users.write_text("".join(f"{line}\n" for line in kept))

    def make_unlistable(self, folder: str) -> None:
        self.make_folder(folder)
        self.uid_list(folder).write_bytes(b"nothing that pymap could read\n")

    def uid_list(self, folder: str) -> Path:
        where = self.server.maildir(self.user)
        return (where if folder == "INBOX" else where / f".{folder.replace('/', '.')}") / "dovecot-uidlist"

    def move(self, name: str, now: str) -> None:
        """Move a mail to the folder of its new name."""
        folder, uid = self.place(name)
        target = now.rpartition("/")[0]
        self.make_folder(target)
        self.ask("select", f'"{folder}"')
        self.ask("uid", "COPY", uid, f'"{target}"')
        self.ask("uid", "STORE", uid, "+FLAGS", r"(\Deleted)")
        self.ask("expunge")
        self.ask("close")
        self.note(now, target)

    async def aclose(self) -> None:
        self.client.logout()
        for connector in self.opened:
            await connector.aclose()
