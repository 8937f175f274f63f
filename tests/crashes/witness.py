"""Writes down, inside a memsync process, what its parts have told the pipeline: done, and so never to be lost.

One line of JSON for each thing that is done, in one write, so that a trace of system calls shows when it was. What
memsync does is not changed, but for the controls: a weaker `synchronous` is set after the state was opened.
"""

import functools
import hashlib
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline import dead_letters
from pipeline.model import DeadLetter
from pipeline.state import mark, sqlite

WITNESS_FILE = "witness.jsonl"
PAGES_PER_CHECKPOINT = 20  # few, so that the log is moved into the file in the middle of a small run, too
IDENTITY = ("source", "destination")  # which whoever opens the state writes into it if they are missing


def install(folder: str, synchronous: str) -> None:
    """Watch what is opened from now on, and write to a file in `folder`."""
    descriptor = os.open(Path(folder) / WITNESS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(**what: Any) -> None:
        os.write(descriptor, json.dumps(what).encode() + b"\n")

    _watch_state(note, synchronous)
    _watch_mark(note)
    _watch_letters(note)


def _watch_state(note: Callable[..., None], synchronous: str) -> None:
    opening = sqlite._open

    def opened(path: Path | None, source: str, destination: str, *, is_read_only: bool) -> sqlite3.Connection:
        connection = opening(path, source, destination, is_read_only=is_read_only)
        if not is_read_only:
            connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES_PER_CHECKPOINT}")
            if synchronous != "FULL":
                connection.execute(f"PRAGMA synchronous = {synchronous}")
            note(**described(connection))
        return connection

    def watched(change: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(change)
        def changed(store: sqlite.SqliteStateStore, *arguments: Any) -> Any:
            result = change(store, *arguments)
            note(**described(store._connection))
            return result

        return changed

    sqlite._open = opened
    sqlite.SqliteStateStore._transact = watched(sqlite.SqliteStateStore._transact)  # type: ignore[method-assign]
    sqlite.SqliteStateStore._take_lease = watched(sqlite.SqliteStateStore._take_lease)  # type: ignore[method-assign]


def _watch_mark(note: Callable[..., None]) -> None:
    putting = mark.FileMark.put

    def put(self: mark.FileMark, content: str) -> str:
        marked_at = putting(self, content)
        note(mark=content, marked_at=marked_at)
        return marked_at

    mark.FileMark.put = put  # type: ignore[method-assign]


def _watch_letters(note: Callable[..., None]) -> None:
    def watched(change: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def changed(self: dead_letters.JsonLinesFile, letters: Sequence[DeadLetter]) -> None:
            await change(self, letters)
            if letters:
                note(letters=[letter.id for letter in letters])

        return changed

    dead_letters.JsonLinesFile.append = watched(dead_letters.JsonLinesFile.append)  # type: ignore[method-assign,assignment]
    dead_letters.JsonLinesFile.rewrite = watched(dead_letters.JsonLinesFile.rewrite)  # type: ignore[method-assign,assignment]


def described(connection: sqlite3.Connection) -> dict[str, Any]:
    """A digest of all that a state says, and what it is about to send."""
    digest = hashlib.sha256()
    for line in connection.iterdump():
        if not any(line.startswith(f"INSERT INTO \"meta\" VALUES('{name}'") for name in IDENTITY):
            digest.update(line.encode())
    return {
        "state": digest.hexdigest(),
        "outbox": [digest_of_body(body) for (body,) in connection.execute("SELECT body FROM outbox")],
    }


def digest_of_body(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
