"""A table that a test writes, and a driver that fails."""

import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy
from sqlalchemy import event

from connectors.sql.connector import SqlConnector
from connectors.sql.settings import SqlSettings
from pipeline.model import DocumentId

_NUMBERS = itertools.count()


@dataclass
class SqlWorld:
    """A table of its own, which the test writes over a connection of its own."""

    url: str
    base_folder: Path
    table: str = field(default_factory=lambda: f"pages_{next(_NUMBERS)}")
    options: dict[str, Any] = field(default_factory=lambda: {"id": "id", "text": "body"})
    opened: list[SqlConnector] = field(default_factory=list)

    def __post_init__(self) -> None:
        at = sqlalchemy.make_url(self.url)
        if at.get_backend_name() == "sqlite":
            at = at.set(database=str(self.base_folder / str(at.database)))
        self.engine = sqlalchemy.create_engine(at, pool_size=1, max_overflow=0)

    @property
    def kind(self) -> str:
        return self.engine.dialect.name

    def make(self, columns: str = "id INTEGER PRIMARY KEY, body TEXT") -> None:
        self.run(f"CREATE TABLE {self.table} ({columns})")

    def run(self, statement: str, *rows: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement), rows or None)

    def add(self, *rows: dict[str, Any]) -> None:
        names = ", ".join(rows[0])
        self.run(f"INSERT INTO {self.table} ({names}) VALUES (:{names.replace(', ', ', :')})", *rows)

    def add_numbered(self, count: int) -> None:
        self.add(*({"id": number, "body": f"text of {number}"} for number in range(1, count + 1)))

    def connector(self, **options: Any) -> SqlConnector:
        source = {} if "query" in options else {"table": self.table}
        settings = {"type": "sql", "url": self.url, **source, **self.options, **options}
        connector = SqlConnector(SqlSettings.model_validate(settings), self.base_folder)
        self.opened.append(connector)
        return connector

    def put(self, name: str, content: bytes) -> DocumentId:
        self.remove(name)
        self.add({"id": name, "body": content})
        return DocumentId(quote(name, safe="").replace(".", "%2E"))

    def remove(self, name: str) -> None:
        self.run(f"DELETE FROM {self.table} WHERE id = :id", {"id": name})

    def remove_root(self) -> None:
        self.run(f"DROP TABLE {self.table}")

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("a table is listed as a whole or not")

    def cut_connections(self) -> None:
        """End all connections but that of the test, as a server that restarts does."""
        with self.engine.connect() as connection:
            if self.kind == "postgresql":
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            else:
                mine = connection.exec_driver_sql("SELECT connection_id()").scalar()
                for (number,) in connection.exec_driver_sql(
                    "SELECT id FROM information_schema.processlist WHERE user = 'root'"
                ).all():
                    if number != mine:
                        connection.exec_driver_sql(f"KILL {number}")


@asynccontextmanager
async def made_on(kind: str, request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[SqlWorld]:
    """A world in SQLite, or on the server whose URL the fixture of the name `kind` has."""
    made = SqlWorld("sqlite:///wiki.db" if kind == "sqlite" else request.getfixturevalue(kind), folder)
    yield made
    for connector in made.opened:
        await connector.aclose()
    made.engine.dispose()


def watched(
    monkeypatch: pytest.MonkeyPatch, fail: Callable[[str], Exception | None] = lambda _statement: None
) -> list[str]:
    """Return the statements that connectors will send from now on; one for which `fail` has an error fails with it."""
    statements: list[str] = []
    create = sqlalchemy.create_engine

    def create_watched(*arguments: Any, **options: Any) -> sqlalchemy.Engine:
        engine = create(*arguments, **options)

        @event.listens_for(engine, "do_execute")
        def watch(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
            statements.append(statement)
            if (error := fail(statement)) is not None:
                raise error

        return engine

    monkeypatch.setattr(sqlalchemy, "create_engine", create_watched)
    return statements


FAULTS: dict[str, Callable[[], Exception]] = {
    "closed": lambda: sqlite3.ProgrammingError("Cannot operate on a closed database."),
    "locked": lambda: sqlite3.OperationalError("database is locked: secret words"),
    "malformed": lambda: sqlite3.DatabaseError("database disk image is malformed: secret words"),
    "value": lambda: sqlite3.DataError("bad value: secret words"),
    "interface": lambda: sqlite3.InterfaceError("secret words"),
    "reset": lambda: ConnectionResetError(104, "Connection reset by peer"),
    "timed out": lambda: TimeoutError("secret words"),
    "decoding": lambda: UnicodeDecodeError("utf-8", b"secret words", 0, 1, "invalid start byte"),
    "overflow": lambda: OverflowError("secret words"),
}
