"""Rows as documents, from SQLite, PostgreSQL and MariaDB; and over connections that fail."""

import builtins
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest
import sqlalchemy
from anyio import fail_after
from pydantic import ValidationError

from connectors.kit.contract import (
    SourceConnectorContract,
    SourceWorld,
    scan_all,
    scan_into,
    scan_refs,
)
from connectors.sql.connector import SqlConnector
from connectors.sql.settings import SqlSettings
from pipeline.errors import DocumentVanished, SourceError, SyncError, UnreadableDocument
from pipeline.model import Document, DocumentId, DocumentRef, ParsedDocument, ScanComplete, ScanError, SourceEvent
from pipeline.parsing.parser import Parser
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.fakes.faulty_tcp import FaultyWire, faulty_wire
from tests.pipeline.world import AnyWorld, in_place

from .sql_servers import mariadb_server, postgresql_server
from .sql_world import FAULTS, SqlWorld, made_on, watched


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with mariadb_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlWorld]:
    async with made_on(request.param, request, tmp_path) as made:
        yield made


@pytest.fixture
async def sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlWorld]:
    async with made_on("sqlite", request, tmp_path) as made:
        yield made


@pytest.fixture(params=["postgresql", "mariadb"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlWorld]:
    """A world on a server, whose snapshots and lost connections are real."""
    async with made_on(request.param, request, tmp_path) as made:
        yield made


on_postgresql = pytest.mark.parametrize("world", ["postgresql"], indirect=True)
on_mariadb = pytest.mark.parametrize("world", ["mariadb"], indirect=True)


class TestSqlConnectorKeepsTheContract(SourceConnectorContract):
    @pytest.fixture
    def world(self, world: SqlWorld) -> SourceWorld:
        world.options["text"] = ["body"]
        content = {"sqlite": "BLOB", "postgresql": "BYTEA", "mysql": "LONGBLOB", "mariadb": "LONGBLOB"}[world.kind]
        world.make(f"id VARCHAR(190) PRIMARY KEY, body {content}")
        return world


def refs_of(events: list[SourceEvent]) -> list[DocumentRef]:
    return [found for found in events if isinstance(found, DocumentRef)]


def ids_of(events: list[SourceEvent]) -> list[str]:
    return [str(ref.id) for ref in refs_of(events)]


def problems_of(events: list[SourceEvent]) -> list[str]:
    return [found.code for found in events if isinstance(found, ScanError)]


def is_complete(events: list[SourceEvent]) -> bool:
    return any(isinstance(found, ScanComplete) for found in events)


async def texts(connector: SqlConnector) -> dict[str, str]:
    return {ref.id: (await connector.fetch(ref)).content.decode() for ref in (await scan_refs(connector)).values()}


# ------------------------------------------------------------------------------------------------ settings

URL = "postgresql+psycopg://reader@db.example.com/wiki"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "postgresql://reader:hunter2@db.example.com/wiki"}, "password must not stand in `url`"),
        ({"url": "postgresql://reader:hunt/er2@db.example.com/wiki"}, "password must not stand in `url`"),
        ({"url": "mysql://:hunter2@/wiki"}, "password must not stand in `url`"),
        ({"url": "postgresql:///wiki?user=reader&password=hunter2"}, "password must not stand in `url`"),
        ({"url": "mysql:///wiki?passwd=hunter2"}, "password must not stand in `url`"),
        ({"url": "postgresql:///wiki?sslpassword=hunter2"}, "password must not stand in `url`"),
        ({"url": "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter2"}, "password must not stand in `url`"),
        ({"url": "wiki.db"}, "should be a URL of SQLAlchemy"),
        ({"url_variable": "WIKI_URL"}, "one of `url` and `url_variable`"),
        ({"url": None}, "one of `url` and `url_variable`"),
        ({"query": "SELECT 1"}, "one of `table` and `query`"),
        ({"table": None}, "one of `table` and `query`"),
        ({"table": None, "query": "DELETE FROM pages", "text": "body"}, "`query` should be a SELECT"),
        ({"table": None, "query": "SELECT 1"}, "`text` should name columns of the query"),
        ({"id": []}, "at least 1 item"),
        ({"id": ["a", "a"]}, "`id` should name each column once"),
        ({"text": ["a", "b", "a"]}, "`text` should name each column once"),
        ({"metadata": ["a", "a"]}, "`metadata` should name each column once"),
        ({"max_bytes": 0}, "greater than 0"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"media_type": "html"}, "needs a `text` of one column"),
        ({"media_type": "markdown", "text": ["a", "b"]}, "needs a `text` of one column"),
        ({"page_rows": 0}, "greater than or equal to 1"),
        ({"page_rows": 1001}, "less than or equal to 1000"),
        ({"tabel": "pages"}, "tabel"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    """What is misspelt would list something else; and what is refused may hold a password."""
    with pytest.raises(ValidationError, match=message) as caught:
        SqlSettings.model_validate({"type": "sql", "url": URL, "table": "pages", "id": "id", **settings})

    assert "hunter2" not in str(caught.value)
    assert "er2@" not in str(caught.value)


def test_a_password_in_a_file_is_not_shown(tmp_path: Path) -> None:
    """Messages end in logs that many can read."""
    file = tmp_path / "wiki.yaml"
    file.write_text(
        "source: {type: sql, url: 'mysql://me:hunt/er2@h/db?password=hunter3', table: t, id: id}\n"
        "destination: {type: agentcore, memory_id: wiki-a1B2c3D4e5, region: us-east-1}\n"
    )

    said = subprocess.run(
        [sys.executable, "-m", "pipeline", "validate", str(file)], capture_output=True, text=True, check=False
    )

    assert said.returncode != 0
    assert "password_variable" in said.stdout + said.stderr
    assert "er2" not in said.stdout + said.stderr
    assert "er3" not in said.stdout + said.stderr


def test_one_column_need_be_no_list() -> None:
    """It is what most have."""
    settings = SqlSettings.model_validate({"type": "sql", "url": URL, "table": "pages", "id": "id", "text": "body"})

    assert (settings.id, settings.text) == (("id",), ("body",))


def test_settings_are_checked_without_sqlalchemy() -> None:
    """`memsync validate` answers at once, and also where it is not installed."""
    script = (
        "import sys\nfrom connectors.sql.connector import SqlConnector\n"
        "SqlConnector.settings_model.model_validate({'type': 'sql', 'url': 'mysql://h/db', 'table': 't', 'id': 'id'})\n"
        "print('sqlalchemy' in sys.modules)"
    )

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert printed.stdout.strip() == "False"


# ------------------------------------------------------------------------------------------- what is not there


def make_missing(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make it look as if these were not installed."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        is_absolute = len(arguments) < 4 or arguments[3] == 0
        if is_absolute and name.partition(".")[0] in modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if name.partition(".")[0] in modules]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)


async def test_without_sqlalchemy_the_command_that_installs_it_is_named(
    sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra, since most need no database."""
    make_missing(monkeypatch, "sqlalchemy")

    with pytest.raises(SourceError, match=r"pip install 'agentcore-memory-sync\[sql\]'"):
        await scan_all(sqlite.connector())


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("postgresql+psycopg://h/db", "psycopg", r"'psycopg\[binary\]'"),
        ("postgresql+pg8000://h/db", "pg8000", "pg8000"),
        ("mysql+pymysql://h/db", "pymysql", "pymysql"),
        ("mysql+mysqldb://h/db", "MySQLdb", "mysqlclient"),
        ("oracle+oracledb://h/db", "oracledb", "oracledb"),
        ("mssql+pyodbc://h/db", "pyodbc", "pyodbc"),
    ],
)
async def test_without_a_driver_the_command_that_installs_it_is_named(
    sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch, url: str, module: str, package: str
) -> None:
    """Which one is needed follows from the URL, and is hard to guess."""
    make_missing(monkeypatch, module)

    with pytest.raises(SourceError, match=rf"pip install {package}$"):
        await scan_all(sqlite.connector(url=url))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "nonsense://h/db"}, "SQLAlchemy knows no 'nonsense'"),
        ({"url": "postgresql+asyncpg://h/db"}, "driver"),
        ({"url": "sqlite://"}, "needs a file"),
        ({"url": "sqlite:///:memory:"}, "needs a file"),
        ({"url": "sqlite:///not-there.db"}, "unable to open database file"),
        ({"url": "postgresql+psycopg://h:port/db"}, "no URL of SQLAlchemy"),
        ({"url": "postgresql+psycopg://reader@127.0.0.1:9/db"}, "refused"),
        ({"url": "mysql+pymysql://reader@127.0.0.1:9/db"}, "refused"),
        ({"url": None, "url_variable": "NOT_SET"}, "environment variable NOT_SET"),
        ({"password_variable": "NOT_SET"}, "environment variable NOT_SET"),
        ({"table": "never_was"}, "never_was"),
        ({"table": "schema_x.never_was"}, "schema_x"),
        ({"id": "idd"}, "idd"),
        ({"text": ["bdoy"]}, "bdoy"),
        ({"title": "titel"}, "titel"),
        ({"version": "versoin"}, "versoin"),
        ({"modified_at": "modifeid"}, "modifeid"),
        ({"query": "SELECT id, body FROM"}, "syntax"),
        ({"query": "SELECT id, body FROM never_was"}, "never_was"),
    ],
)
async def test_a_source_that_is_not_there_is_an_error_that_says_why(
    sqlite: SqlWorld, options: dict[str, Any], message: str
) -> None:
    """Nothing is concluded from it, and no file is made of it."""
    sqlite.make()
    sqlite.add_numbered(3)
    events: list[SourceEvent] = []

    with pytest.raises(SourceError, match=message):
        await scan_into(events, sqlite.connector(**options))

    assert events == []
    assert not (sqlite.base_folder / "not-there.db").exists()


@on_postgresql
async def test_a_password_comes_from_the_environment_and_is_never_shown(
    world: SqlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither alone nor within a URL."""
    world.make()
    world.add_numbered(2)
    monkeypatch.setenv("WIKI_PASSWORD", "hunter2")
    host = sqlalchemy.make_url(world.url).query["host"]
    monkeypatch.setenv("WIKI_URL", f"postgresql+psycopg://postgres:hunter2@/postgres?host={host}")
    monkeypatch.setenv("WRONG_URL", f"postgresql+psycopg://postgres:hunter2@/nowhere?host={host}")
    monkeypatch.setenv("BROKEN_URL", "postgresql+psycopg://postgres:hunter2@h:port/nowhere")

    by_password = await scan_all(world.connector(password_variable="WIKI_PASSWORD"))
    by_url = await scan_all(world.connector(url=None, url_variable="WIKI_URL"))
    errors = []
    for variable in ("WRONG_URL", "BROKEN_URL"):
        with pytest.raises(SourceError) as caught:
            await scan_all(world.connector(url=None, url_variable=variable))
        errors.append(str(caught.value))

    assert is_complete(by_password)
    assert by_url == by_password
    assert "hunter2" not in repr(by_url) + "".join(errors)


# ---------------------------------------------------------------------------------------------------- keys


async def test_ten_thousand_rows_are_listed_in_pages(world: SqlWorld) -> None:
    """Each once, and in the order of their keys."""
    world.make()
    world.add_numbered(10_000)
    connector = world.connector()
    sizes = [len(listed) async for listed in connector.scan(None)]

    events = await scan_all(connector)

    assert ids_of(events) == [str(number) for number in range(1, 10_001)]
    assert events[-1] == ScanComplete("")
    assert sizes == [1000] * 10 + [1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
async def test_the_last_page_may_be_full_or_not(sqlite: SqlWorld, count: int) -> None:
    """Ends are where the mistakes are."""
    sqlite.make()
    if count:
        sqlite.add_numbered(count)

    events = await scan_all(sqlite.connector(page_rows=3))

    assert ids_of(events) == [str(number) for number in range(1, count + 1)]
    assert events[-1] == ScanComplete("")


@pytest.mark.parametrize("page_rows", [1, 2, 7, 1000])
async def test_a_key_of_several_columns_is_paged_and_found(world: SqlWorld, page_rows: int) -> None:
    """Of any kinds, and whatever stands in them."""
    world.make("space VARCHAR(50) NOT NULL, number INTEGER NOT NULL, body TEXT, PRIMARY KEY (space, number)")
    spaces = ["a", "a/b", "a%2Fb", "b.png", " ", "語"]
    world.add(*({"space": s, "number": n, "body": f"{s}|{n}"} for s in spaces for n in (-1, 0, 10, 9)))
    connector = world.connector(id=["space", "number"], page_rows=page_rows)

    refs = await scan_refs(connector)
    found = await texts(connector)
    located = {document: await connector.locate(document) for document in refs}

    assert set(found.values()) == {f"{s}|{n}" for s in spaces for n in (-1, 0, 10, 9)}
    assert len(found) == 24
    assert found["a%2Fb/10"] == "a/b|10"
    assert found["b%2Epng/9"] == "b.png|9"
    assert located == refs


ODD_KEYS = [
    "plain", "with space", "a/b", "a%2Fb", "100%", "_", "%", "a.b", "cover.png", "#1", "?q=1", "ß", "ss", "é", "e", "z",
    "Ä", "A1", "B", "b1", "Z", "-", "~", "'; DROP TABLE pages; --", '"', "\\", "tab\there", "line\nbreak", "語", "😀",
    ":id", "a:b", "a@b.com",
]  # fmt: skip


@pytest.mark.parametrize("page_rows", [1, 2, 5])
async def test_text_keys_of_any_kind_are_listed_in_the_databases_own_order(world: SqlWorld, page_rows: int) -> None:
    """A page begins where the database, with its collation, says that the last one ended."""
    collation = "COLLATE utf8mb4_bin" if world.kind in ("mysql", "mariadb") else ""  # for others, see below
    world.make(f"id VARCHAR(100) {collation} PRIMARY KEY, body TEXT")
    world.add(*({"id": key, "body": key} for key in ODD_KEYS))
    connector = world.connector(page_rows=page_rows)

    found = await texts(connector)
    refs = await scan_refs(connector)

    assert sorted(found.values()) == sorted(ODD_KEYS)
    assert {document: await connector.locate(document) for document in refs} == refs
    assert not any(Parser().reason_to_skip(ref) for ref in refs.values())


async def test_an_empty_key_is_a_key(sqlite: SqlWorld) -> None:
    """But no document has an empty id."""
    sqlite.make("id TEXT PRIMARY KEY, body TEXT")
    sqlite.add({"id": "", "body": "a"}, {"id": "%", "body": "b"})
    connector = sqlite.connector()

    assert await texts(connector) == {"%": "a", "%25": "b"}


@on_postgresql
@pytest.mark.parametrize("collation", ["C", "pg_c_utf8", "en-x-icu"])
async def test_collations_of_postgresql_keep_their_order_over_pages(world: SqlWorld, collation: str) -> None:
    """Small before large, or large before small: any order will do, if it is one."""
    with world.engine.connect() as connection:
        known = connection.execute(sqlalchemy.text("SELECT collname FROM pg_collation")).scalars().all()
    if collation not in known:
        pytest.skip(f"this build of PostgreSQL has no collation {collation}")
    world.make(f'id VARCHAR(100) COLLATE "{collation}" PRIMARY KEY, body TEXT')
    world.add(*({"id": key, "body": key} for key in ODD_KEYS))
    connector = world.connector(page_rows=2)

    found = await texts(connector)

    assert sorted(found.values()) == sorted(ODD_KEYS)


@on_mariadb
@pytest.mark.parametrize("page_rows", [1, 3])
@pytest.mark.parametrize(
    "collation",
    ["utf8mb4_bin", "utf8mb4_general_ci", "utf8mb4_unicode_520_ci", "utf8mb4_uca1400_ai_ci", "utf8mb4_german2_ci"],
)
async def test_collations_of_mariadb_keep_their_order_over_pages(
    world: SqlWorld, collation: str, page_rows: int
) -> None:
    """They sort as dictionaries do, and take many texts for the same."""
    world.make(f"id VARCHAR(100) COLLATE {collation} PRIMARY KEY, body TEXT")
    world.run(f"INSERT IGNORE INTO {world.table} VALUES (:id, :id)", *({"id": key} for key in ODD_KEYS))
    with world.engine.connect() as connection:
        kept = connection.execute(sqlalchemy.text(f"SELECT body FROM {world.table}")).scalars().all()
    connector = world.connector(page_rows=page_rows)

    found = await texts(connector)

    assert len(kept) >= 25
    assert sorted(found.values()) == sorted(kept)


async def test_a_key_that_a_collation_takes_for_another_is_not_found(world: SqlWorld) -> None:
    """`Setup` was renamed from `setup`: the old document is gone, though the database finds it."""
    collation = {"sqlite": "COLLATE NOCASE", "postgresql": ""}.get(world.kind, "COLLATE utf8mb4_general_ci")
    world.make(f"id VARCHAR(100) {collation} PRIMARY KEY, body TEXT")
    world.add({"id": "Setup", "body": "text"})
    connector = world.connector()

    assert await connector.locate(DocumentId("Setup")) is not None
    assert await connector.locate(DocumentId("setup")) is None


@pytest.mark.parametrize(
    ("kind", "keys", "ids"),
    [
        ("BIGINT", [2**53 + 1, 2**53 + 2, -(2**62)], ["-4611686018427387904", "9007199254740993", "9007199254740994"]),
        ("DATE", [date(2026, 3, 1), date(2025, 12, 31)], ["2025-12-31", "2026-03-01"]),
        ("NUMERIC(20, 2)", [1, 10**15], ["1%2E00", "1000000000000000%2E00"]),
    ],
)
async def test_keys_of_other_kinds_are_paged_and_found(
    served: SqlWorld, kind: str, keys: list[Any], ids: list[str]
) -> None:
    """Also those that a comparison as text or as a binary fraction would take for each other."""
    served.make(f"id {kind} PRIMARY KEY, body TEXT")
    served.add(*({"id": key, "body": str(key)} for key in keys))
    connector = served.connector(page_rows=1)

    assert list(await texts(connector)) == ids
    assert await connector.locate(DocumentId(ids[0])) is not None
    assert await connector.locate(DocumentId("nonsense")) is None
    assert await connector.locate(DocumentId("7")) is None


@on_postgresql
async def test_uuids_bytes_and_times_can_be_keys(world: SqlWorld) -> None:
    """A time is written in UTC, whatever zone the session has."""
    world.make(
        "id UUID, place BYTEA, at TIMESTAMPTZ, is_draft BOOLEAN, body TEXT, PRIMARY KEY (id, place, at, is_draft)"
    )
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    world.add(
        *(
            {
                "id": UUID(int=number // 2),
                "place": bytes([number]),
                "at": at,
                "is_draft": number > 2,
                "body": f"{number}",
            }
            for number in range(5)
        )
    )
    connector = world.connector(id=["id", "place", "at", "is_draft"], page_rows=1)

    refs = await scan_refs(connector)
    located = {document: await connector.locate(document) for document in refs}

    assert located == refs
    assert next(iter(refs)) == "00000000-0000-0000-0000-000000000000/00/2026-03-01T12:00:00+00:00/false"


@pytest.mark.parametrize("page_rows", [1, 2, 3, 1000])
async def test_rows_without_a_key_are_left_out_and_keep_the_listing_incomplete(world: SqlWorld, page_rows: int) -> None:
    """What they were cannot be told, so nothing may be deleted; the others come and go on."""
    world.make("id INTEGER, body TEXT")
    world.add(*({"id": key, "body": "secret words"} for key in (3, None, 1, None, 2)))

    events = await scan_all(world.connector(page_rows=page_rows))

    assert ids_of(events) == ["1", "2", "3"]
    assert problems_of(events) == ["null_id"]
    assert not is_complete(events)
    assert "'id'" in str(events[-1])
    assert "secret" not in str(events)


@pytest.mark.parametrize("page_rows", [1, 2, 3, 1000])
async def test_rows_that_share_a_key_are_a_fault_wherever_a_page_ends(world: SqlWorld, page_rows: int) -> None:
    """Which of them the document is cannot be told; it keeps what it had."""
    world.make("id INTEGER, body TEXT")
    world.add(*({"id": key, "body": "secret words"} for key in (1, 2, 2, 2, 3)))
    connector = world.connector(page_rows=page_rows)

    events = await scan_all(connector)
    with pytest.raises(UnreadableDocument) as caught:
        await connector.fetch(refs_of(events)[1])
    located = await connector.locate(DocumentId("2"))

    assert ids_of(events) == ["1", "2", "3"]
    assert problems_of(events) == ["duplicate_id"]
    assert not is_complete(events)
    assert caught.value.code == "duplicate_id"
    assert located is not None
    assert "secret" not in str(events) + str(caught.value)


@pytest.mark.parametrize("page_rows", [1, 2, 1000])
async def test_keys_that_only_a_collation_takes_for_the_same_are_no_keys(sqlite: SqlWorld, page_rows: int) -> None:
    """A page that ends between them would hide the second."""
    sqlite.make("id TEXT COLLATE NOCASE, body TEXT")
    sqlite.add({"id": "a", "body": "x"}, {"id": "A", "body": "y"}, {"id": "b", "body": "z"})

    events = await scan_all(sqlite.connector(page_rows=page_rows))

    assert problems_of(events) == ["duplicate_id"]
    assert not is_complete(events)


@pytest.mark.parametrize("page_rows", [1, 2, 1000])
async def test_keys_of_mixed_kinds_are_a_fault(sqlite: SqlWorld, page_rows: int) -> None:
    """SQLite keeps the number 1 and the text "1" in one column; they would be one document."""
    sqlite.make("id PRIMARY KEY NOT NULL, body TEXT")
    sqlite.add(
        {"id": 1, "body": "number"}, {"id": "1", "body": "text"}, {"id": 2, "body": "x"}, {"id": 1.5, "body": "f"}
    )
    connector = sqlite.connector(page_rows=page_rows)

    events = await scan_all(connector)

    assert ids_of(events) == ["1", "2"]
    assert problems_of(events) == ["unusable_id"]
    assert (await connector.fetch(refs_of(events)[0])).content == b"number"


async def test_a_binary_fraction_is_no_key(sqlite: SqlWorld) -> None:
    """It need not be equal to itself once it was written and read."""
    sqlite.make("id REAL PRIMARY KEY NOT NULL, body TEXT")
    sqlite.add({"id": 0.1, "body": "x"})

    connector = sqlite.connector()

    events = await scan_all(connector)

    assert problems_of(events) == ["unusable_id"]
    assert len(events) == 1
    with pytest.raises(SourceError, match="cannot be an id"):
        await connector.locate(DocumentId("1"))


# ----------------------------------------------------------------------------------------------- what is read


async def test_an_edit_that_leaves_its_time_alone_is_noticed(world: SqlWorld) -> None:
    """A script that repairs a typo rarely moves `updated_at`."""
    world.make("id INTEGER PRIMARY KEY, body TEXT, updated_at TIMESTAMP NULL")
    world.add(*({"id": key, "body": "text", "updated_at": "2026-03-01 00:00:00"} for key in (1, 2)))
    connector = world.connector(modified_at="updated_at")
    before = await scan_refs(connector)
    world.run(f"UPDATE {world.table} SET body = 'texd', updated_at = updated_at WHERE id = 1")

    after = await scan_refs(connector)

    assert before[DocumentId("1")].fingerprint != after[DocumentId("1")].fingerprint
    assert before[DocumentId("2")] == after[DocumentId("2")]
    assert after[DocumentId("1")].modified_at == datetime(2026, 3, 1, tzinfo=UTC)


async def test_with_a_version_the_text_is_not_listed(sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of large texts is then a small one; what the version hides is hidden."""
    sqlite.make("id INTEGER PRIMARY KEY, body TEXT, revision INTEGER")
    sqlite.add({"id": 1, "body": "one", "revision": 1}, {"id": 2, "body": "two", "revision": None})
    statements = watched(monkeypatch)
    connector = sqlite.connector(version="revision")
    before = await scan_refs(connector)
    listing = [statement for statement in statements if "ORDER BY" in statement]
    sqlite.run(f"UPDATE {sqlite.table} SET body = 'three' WHERE id = 1")
    hidden = await scan_refs(connector)
    sqlite.run(f"UPDATE {sqlite.table} SET revision = 2 WHERE id = 1")

    after = await scan_refs(connector)

    assert not any("body" in statement for statement in listing)
    assert hidden == before
    assert after[DocumentId("1")].fingerprint != before[DocumentId("1")].fingerprint
    assert after[DocumentId("2")].fingerprint is None
    assert (await connector.fetch(after[DocumentId("1")])) == Document(
        after[DocumentId("1")],
        b"three",
        "text/plain; charset=utf-8",
    )


@on_postgresql
async def test_the_xmin_of_postgresql_is_a_version(world: SqlWorld) -> None:
    """Every table has it, and every change of a row moves it."""
    world.make()
    world.add_numbered(2)
    connector = world.connector(version="xmin")
    before = await scan_refs(connector)
    world.run(f"UPDATE {world.table} SET body = 'other' WHERE id = 1")

    after = await scan_refs(connector)

    assert before[DocumentId("1")].fingerprint != after[DocumentId("1")].fingerprint
    assert before[DocumentId("2")] == after[DocumentId("2")]


async def test_other_columns_make_another_fingerprint(sqlite: SqlWorld) -> None:
    """Who adds a column to `text` wants it in the memory, though no row has changed."""
    sqlite.make("id INTEGER PRIMARY KEY, body TEXT, notes TEXT, revision INTEGER")
    sqlite.add({"id": 1, "body": "one", "notes": "n", "revision": 1})

    one = await scan_refs(sqlite.connector(text="body", version="revision"))
    two = await scan_refs(sqlite.connector(text=["body", "notes"], version="revision"))

    assert one[DocumentId("1")].fingerprint != two[DocumentId("1")].fingerprint


@pytest.mark.parametrize(("one", "other"), [(None, ""), ("ab", "a"), ("1", "01")])
async def test_null_and_empty_and_moved_text_are_told_apart(sqlite: SqlWorld, one: str | None, other: str) -> None:
    """A fingerprint that took them for the same would hide an edit for ever."""
    sqlite.make("id INTEGER PRIMARY KEY, body TEXT, notes TEXT")
    sqlite.add({"id": 1, "body": one, "notes": "c"}, {"id": 2, "body": other, "notes": "bc" if one == "ab" else "c"})

    first, second = (await scan_refs(sqlite.connector(text=["body", "notes"]))).values()

    assert first.fingerprint != second.fingerprint


async def test_several_columns_become_labelled_text(world: SqlWorld) -> None:
    """Of all the text columns, where none is named; those with another meaning are not among them."""
    world.make("id INTEGER PRIMARY KEY, title VARCHAR(100), body TEXT, stars INTEGER, notes TEXT, revision VARCHAR(9)")
    rows = [("Hand\n over", "Call.\n\nThen go.", "none"), (None, None, " "), ("", None, "kept")]
    world.add(
        *(
            {"id": number, "title": title, "body": body, "stars": 5, "notes": notes, "revision": "r1"}
            for number, (title, body, notes) in enumerate(rows)
        )
    )
    connector = world.connector(text=None, title="title", version="revision")

    refs = await scan_refs(connector)
    found = [await connector.fetch(ref) for ref in refs.values()]

    assert [document.content.decode() for document in found] == [
        "body:\nCall.\n\nThen go.\n\nnotes: none",
        "",
        "notes: kept",
    ]
    assert [document.ref.title for document in found] == ["Hand over", None, None]
    assert {document.media_type for document in found} == {"text/plain; charset=utf-8"}


@pytest.mark.parametrize(
    ("media_type", "said"), [("plain", "text/plain"), ("markdown", "text/markdown"), ("html", "text/html")]
)
async def test_one_column_is_read_as_what_it_is(sqlite: SqlWorld, media_type: str, said: str) -> None:
    """The text of one column is passed on as it stands."""
    sqlite.make()
    sqlite.add({"id": 1, "body": "# Ä <b>b</b>"}, {"id": 2, "body": None})
    connector = sqlite.connector(media_type=media_type)

    first, second = [await connector.fetch(ref) for ref in (await scan_refs(connector)).values()]

    assert (first.content.decode(), first.media_type) == ("# Ä <b>b</b>", f"{said}; charset=utf-8")
    assert second.content == b""


async def test_bytes_are_passed_on_alone_and_must_be_utf8_among_others(world: SqlWorld) -> None:
    """What encoding they have is found out where they are read."""
    kind = {"sqlite": "BLOB", "postgresql": "BYTEA"}.get(world.kind, "BLOB")
    world.make(f"id INTEGER PRIMARY KEY, body {kind}, notes TEXT")
    latin, utf8 = "schön".encode("latin-1"), "schön".encode()
    world.add({"id": 1, "body": latin, "notes": "n"}, {"id": 2, "body": utf8, "notes": "n"})
    alone, among = world.connector(text="body"), world.connector(text=["body", "notes"])
    first, second = (await scan_refs(alone)).values()

    with pytest.raises(UnreadableDocument) as caught:
        await among.fetch(first)

    assert caught.value.code == "not_utf8"
    assert (await alone.fetch(first)) == Document(first, latin, "text/plain")
    assert (await among.fetch(second)).content.decode() == "body: schön\n\nnotes: n"


async def test_other_values_are_written_as_one_would(served: SqlWorld) -> None:
    """Numbers, dates and JSON can be a part of the text, too."""
    served.make("id INTEGER PRIMARY KEY, price NUMERIC(9, 2), day DATE, tags JSON, is_open BOOLEAN")
    served.add({"id": 1, "price": 12.5, "day": date(2026, 3, 1), "tags": '{"b": [1, "ü"]}', "is_open": True})
    connector = served.connector(text=["price", "day", "tags"])

    (text,) = (await texts(connector)).values()

    assert text == 'price: 12.50\n\nday: 2026-03-01\n\ntags: {"b": [1, "ü"]}'


@on_postgresql
async def test_a_value_that_is_nested_too_deeply_leaves_the_listing_incomplete(world: SqlWorld) -> None:
    """What the driver raises over it is no crash."""
    world.make("id INTEGER PRIMARY KEY, tags JSON")
    world.add({"id": 1, "tags": "[]"}, {"id": 2, "tags": "[" * 2_000 + "]" * 2_000})

    events = await scan_all(world.connector(text="tags", page_rows=1))

    assert ids_of(events) == ["1"]
    assert problems_of(events) == ["RecursionError"]


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-03-01 12:30:00", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30:00+02:00", datetime(2026, 3, 1, 10, 30, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        (1_772_368_200, datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        (1_772_368_200_000, datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        (10**30, None),
        ("yesterday", None),
        (None, None),
    ],
)
async def test_times_are_read_as_databases_write_them(sqlite: SqlWorld, value: object, moment: datetime | None) -> None:
    """What is no time leaves the document without one."""
    sqlite.make("id INTEGER PRIMARY KEY, body TEXT, at NUMERIC")
    sqlite.add({"id": 1, "body": "x", "at": float(value) if isinstance(value, int) else value})

    (ref,) = (await scan_refs(sqlite.connector(modified_at="at"))).values()

    assert ref.modified_at == moment


@on_mariadb
async def test_a_moment_of_mariadb_does_not_depend_on_the_servers_zone(world: SqlWorld) -> None:
    """A TIMESTAMP is shown in the zone of who asks."""
    world.make("id INTEGER PRIMARY KEY, body TEXT, at TIMESTAMP NULL")
    world.run(f"INSERT INTO {world.table} VALUES (1, 'x', FROM_UNIXTIME(1772368200))")
    world.run("SET GLOBAL time_zone = '+07:00'")
    connector = world.connector(modified_at="at")

    (ref,) = (await scan_refs(connector)).values()
    world.run("SET GLOBAL time_zone = 'SYSTEM'")

    assert ref.modified_at == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


# --------------------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, upper(body) AS body FROM {table} ORDER BY body DESC",
        "  select id, upper(body) as body from {table} where body <> ':x' ; ",
        "SELECT id, upper(body) AS body FROM {table} WHERE body LIKE 'text%' -- of all\n",
        "SELECT id, upper(body) AS body FROM {table} -- to the end",
        "WITH t AS (SELECT id, body FROM {table}) SELECT id, upper(body) AS body FROM t",
        "SELECT id, upper(body) AS body FROM {table} WHERE body <> '12:30' AND body <> ' :id' AND body <> 'a%sb%%'",
    ],
)
async def test_a_query_is_listed_whatever_order_it_has(world: SqlWorld, query: str) -> None:
    """Pages need the order of the keys; and nothing in a query is taken for a parameter."""
    world.make()
    world.add_numbered(7)
    connector = world.connector(query=query.format(table=world.table), page_rows=2)

    events = await scan_all(connector)
    found = await texts(connector)

    assert ids_of(events) == list("1234567")
    assert is_complete(events)
    assert found["3"] == "TEXT OF 3"


async def test_a_view_is_a_table(world: SqlWorld) -> None:
    """It is the way to give away less than a table."""
    world.make()
    world.add_numbered(5)
    world.run(f"CREATE VIEW {world.table}_view AS SELECT * FROM {world.table} WHERE id > 2")

    events = await scan_all(world.connector(table=f"{world.table}_view"))

    assert ids_of(events) == ["3", "4", "5"]
    assert is_complete(events)


@on_postgresql
async def test_a_table_of_a_schema_is_read(world: SqlWorld) -> None:
    """And names that need quotes are quoted."""
    world.run('CREATE SCHEMA "Odd Schema"')
    world.run('CREATE TABLE "Odd Schema"."Pages; %s" ("Id" INTEGER PRIMARY KEY, "the body" TEXT, "select" TEXT)')
    world.run("""INSERT INTO "Odd Schema"."Pages; %s" VALUES (1, 'a', 'b')""")
    connector = world.connector(table="Odd Schema.Pages; %s", id="Id", text=["the body", "select"])

    found = await texts(connector)
    by_default = await texts(world.connector(table="Odd Schema.Pages; %s", id="Id", text=None))

    assert found == by_default == {"1": "the body: a\n\nselect: b"}


INJECTIONS = [
    "{table}; DROP TABLE {table}; --",
    "{table} UNION SELECT 1, 'x'",
    '{table}"; DROP TABLE {table}; --',
    "{table}`; DROP TABLE {table}; --",
    "(SELECT 1 AS id, 'x' AS body)",
    "id) OR (1=1",
    "id = 1; --",
    "%(id)s",
    ":id",
]


@pytest.mark.parametrize("words", INJECTIONS)
@pytest.mark.parametrize("setting", ["table", "id", "text", "title", "modified_at", "version"])
async def test_no_name_in_the_settings_is_run_as_sql(world: SqlWorld, setting: str, words: str) -> None:
    """They are quoted, and then there is no such table or column."""
    world.make()
    world.add_numbered(3)

    with pytest.raises(SourceError):
        await scan_all(world.connector(**{setting: words.format(table=world.table)}))

    assert is_complete(await scan_all(world.connector()))


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, body FROM {table}) AS q; DROP TABLE {table}; --",
        "SELECT id, body FROM {table}; DELETE FROM {table}",
        "WITH gone AS (DELETE FROM {table} RETURNING id, body) SELECT * FROM gone",
    ],
)
async def test_no_query_writes(world: SqlWorld, query: str) -> None:
    """One statement, within brackets, in a transaction that only reads."""
    world.make()
    world.add_numbered(3)

    with pytest.raises(SourceError):
        await scan_all(world.connector(query=query.format(table=world.table)))

    assert ids_of(await scan_all(world.connector())) == ["1", "2", "3"]


async def test_the_connection_cannot_write(world: SqlWorld) -> None:
    """Whatever a function or a view in the database would do."""
    world.make()
    world.add_numbered(1)
    connector = world.connector()
    async with aclosing(connector.scan(None)) as scan:
        await anext(scan)
        connection = connector._database._connection
        assert connection is not None

        with pytest.raises(sqlalchemy.exc.DBAPIError, match=r"(?i)read.?only"):
            connection.exec_driver_sql(f"DELETE FROM {world.table}")


# ------------------------------------------------------------------------------------------ changes meanwhile

BETWEEN = {
    "a row before it is added": "INSERT INTO {table} VALUES (5, 'new')",
    "a row behind it is added": "INSERT INTO {table} VALUES (75, 'new')",
    "a row before it is deleted": "DELETE FROM {table} WHERE id = 10",
    "the row where the page ended is deleted": "DELETE FROM {table} WHERE id = {last}",
    "the row where the next page begins is deleted": "DELETE FROM {table} WHERE id = {last} + 10",
    "all that was listed is deleted": "DELETE FROM {table} WHERE id <= {last}",
    "a row behind it is edited": "UPDATE {table} SET body = 'new' WHERE id = 100",
}


@pytest.mark.parametrize("change", BETWEEN)
@pytest.mark.parametrize("page", [1, 2, 3, 4])
async def test_what_changes_between_pages_hides_no_other_row_and_shows_none_twice(
    world: SqlWorld, change: str, page: int
) -> None:
    """Pages that are counted off would shift: the row that moves over the edge would be deleted."""
    world.make()
    world.add(*({"id": number * 10, "body": "text"} for number in range(1, 11)))
    untouched = {str(number * 10) for number in range(1, 11)}
    seen: list[SourceEvent] = []
    async with aclosing(world.connector(page_rows=2).scan(None)) as scan:
        async for events in scan:
            seen.extend(events)
            if len(seen) == page * 2:
                world.run(BETWEEN[change].format(table=world.table, last=page * 20))

    ids = ids_of(seen)
    assert len(ids) == len(set(ids))
    untouched -= {str(page * 20 + 10)} if "next page begins" in change else set()
    assert untouched <= set(ids)
    assert is_complete(seen)


async def test_a_listing_keeps_no_transaction_open(served: SqlWorld) -> None:
    """In a first run it takes hours, for which nobody could change the table, nor would what is deleted be thrown away.
    What is read beside it is as it is now.
    """
    served.make()
    served.add_numbered(6)
    connector = served.connector(page_rows=2)
    seen: list[SourceEvent] = []
    async with aclosing(connector.scan(None)) as scan:
        async for events in scan:
            seen.extend(events)
            if len(seen) == 2:
                patience = "SET lock_timeout = '2s'" if served.kind == "postgresql" else "SET lock_wait_timeout = 2"
                with served.engine.begin() as connection:
                    connection.exec_driver_sql(patience)
                    connection.exec_driver_sql(f"ALTER TABLE {served.table} ADD COLUMN more INTEGER")
                    connection.exec_driver_sql(f"DELETE FROM {served.table} WHERE id < 3")
                with pytest.raises(DocumentVanished):
                    await connector.fetch(refs_of(seen)[0])

    assert ids_of(seen) == list("123456")
    assert is_complete(seen)


async def test_a_listing_that_is_given_up_leaves_nothing_open(world: SqlWorld) -> None:
    """An open transaction would keep a table from being changed."""
    world.make()
    world.add_numbered(5)
    connector = world.connector(page_rows=2)
    async with aclosing(connector.scan(None)) as scan:
        await anext(scan)

    world.remove_root()

    with pytest.raises(SourceError):
        await connector.locate(DocumentId("1"))


async def test_a_writer_of_sqlite_does_not_wait_for_a_listing(sqlite: SqlWorld) -> None:
    """A first run takes hours, for which nobody could save a page."""
    sqlite.make()
    sqlite.add_numbered(5)
    async with aclosing(sqlite.connector(page_rows=2).scan(None)) as scan:
        await anext(scan)

        with closing(sqlite3.connect(sqlite.base_folder / "wiki.db", timeout=0)) as writer, writer:
            writer.execute(f"DELETE FROM {sqlite.table} WHERE id = 5")


async def test_a_file_in_the_mode_of_a_log_is_read(sqlite: SqlWorld) -> None:
    """As many applications leave it."""
    sqlite.make()
    sqlite.add_numbered(3)
    with closing(sqlite3.connect(sqlite.base_folder / "wiki.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")

    assert is_complete(await scan_all(sqlite.connector()))


# ----------------------------------------------------------------------------------------- connections that fail


class FailingPage:
    """Fails the question for one page, counted from 0: the first time that it is put, or each time."""

    def __init__(self, number: int, fault: str, *, is_lasting: bool) -> None:
        self.number, self.fault, self.is_lasting = number, fault, is_lasting
        self.pages = 0

    def __call__(self, statement: str) -> Exception | None:
        if "ORDER BY" not in statement:
            return None
        self.pages += 1
        is_it = self.pages > self.number if self.is_lasting else self.pages == self.number + 1
        return FAULTS[self.fault]() if is_it else None


@pytest.mark.parametrize("page", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_page_that_does_not_come_leaves_the_listing_incomplete(
    sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch, fault: str, page: int
) -> None:
    """Nothing is deleted, and what was listed before goes on its way."""
    sqlite.make()
    sqlite.add_numbered(10)
    failing = FailingPage(page, fault, is_lasting=True)
    watched(monkeypatch, failing)
    events: list[SourceEvent] = []
    connector = sqlite.connector(page_rows=2)

    if page == 0:
        with pytest.raises(SourceError) as caught:
            await scan_into(events, connector)
        assert "secret" not in str(caught.value)
    else:
        await scan_into(events, connector)

    assert ids_of(events) == [str(number) for number in range(1, page * 2 + 1)]
    assert [found.scope for found in events if isinstance(found, ScanError)] == ([""] if page else [])
    assert not is_complete(events)
    assert "secret" not in str(events)
    failing.number = 1_000
    assert ids_of(await scan_all(connector)) == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("page", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_page_that_comes_when_it_is_asked_for_again_is_all_that_is_needed(
    sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch, fault: str, page: int
) -> None:
    """A listing of a million rows must not begin anew for one connection that is lost."""
    sqlite.make()
    sqlite.add_numbered(10)
    watched(monkeypatch, FailingPage(page, fault, is_lasting=False))

    events = await scan_all(sqlite.connector(page_rows=2))

    assert ids_of(events) == [str(number) for number in range(1, 11)]
    assert is_complete(events)


@pytest.mark.parametrize("row", [1, 2, 3, 4, 5, 6])
async def test_a_page_that_breaks_off_leaves_the_listing_incomplete(sqlite: SqlWorld, row: int) -> None:
    """Rows come one by one, and any of them may be the one that the database cannot give."""
    sqlite.make()
    sqlite.add(*({"id": n, "body": "secret words" if n == row else "{}"} for n in range(1, 7)))
    events: list[SourceEvent] = []
    connector = sqlite.connector(query=f"SELECT id, json(body) AS body FROM {sqlite.table}", page_rows=2)

    if row <= 2:
        with pytest.raises(SourceError):
            await scan_into(events, connector)
    else:
        await scan_into(events, connector)

    assert ids_of(events) == [str(number) for number in range(1, (row - 1) // 2 * 2 + 1)]
    assert not is_complete(events)
    assert "secret" not in str(events)


@pytest.mark.parametrize("page", [0, 1, 2, 3, 4, 5])
async def test_a_listing_goes_on_over_a_new_connection(served: SqlWorld, page: int) -> None:
    """It goes on behind the last key, whatever the server was doing meanwhile; and so does what is read beside it."""
    served.make()
    served.add_numbered(10)
    connector = served.connector(page_rows=2)
    await scan_all(connector)
    events: list[SourceEvent] = []

    if page == 0:
        served.cut_connections()
    async for listed in connector.scan(None):
        events.extend(listed)
        if len(events) == page * 2:
            served.cut_connections()
            assert (await connector.fetch(refs_of(events)[0])).content == b"text of 1"
            served.cut_connections()

    assert ids_of(events) == [str(number) for number in range(1, 11)]
    assert is_complete(events)


async def test_documents_are_read_and_located_over_a_new_connection(served: SqlWorld) -> None:
    """A server that restarts costs no document."""
    served.make()
    served.add_numbered(2)
    connector = served.connector()
    refs = await scan_refs(connector)

    served.cut_connections()
    fetched = await connector.fetch(refs[DocumentId("1")])
    served.cut_connections()
    located = await connector.locate(DocumentId("2"))

    assert fetched.content == b"text of 1"
    assert located == refs[DocumentId("2")]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_lasting", [False, True])
async def test_a_question_that_fails_is_asked_again_once(
    sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch, fault: str, is_lasting: bool
) -> None:
    """If it fails again, it is the document's fault, as all else can be asked; and locating cannot tell."""
    sqlite.make()
    sqlite.add_numbered(2)
    left: list[str] = []

    def fail(statement: str) -> Exception | None:
        return FAULTS[left[0] if is_lasting else left.pop()]() if left and ".id = " in statement else None

    watched(monkeypatch, fail)
    connector = sqlite.connector()
    ref = (await scan_refs(connector))[DocumentId("1")]
    outcomes: list[object] = []
    said: list[str] = []
    for ask in (lambda: connector.fetch(ref), lambda: connector.locate(ref.id)):
        left[:] = [fault]
        try:
            outcomes.append(type(await ask()))
        except SyncError as error:
            outcomes.append(type(error))
            said.append(str(error))

    assert "secret" not in "".join(said)
    assert outcomes == (
        [UnreadableDocument, SourceError] if is_lasting else [type(await connector.fetch(ref)), DocumentRef]
    )


async def test_a_database_that_stops_answering_ends_the_run(sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand dead letters would say nothing of the documents."""
    sqlite.make()
    sqlite.add_numbered(25)
    is_failing = False
    watched(monkeypatch, lambda statement: FAULTS["locked"]() if is_failing and ".id = " in statement else None)
    connector = sqlite.connector()
    refs = await scan_refs(connector)
    is_failing = True
    outcomes: list[type[SyncError]] = []
    for ref in refs.values():
        with pytest.raises(SyncError) as caught:
            await connector.fetch(ref)
        outcomes.append(type(caught.value))

    assert outcomes[:19] == [UnreadableDocument] * 19
    assert set(outcomes[19:]) == {SourceError}


async def test_rows_at_fault_are_no_fault_of_the_database(sqlite: SqlWorld) -> None:
    """However many there are, the run goes on."""
    sqlite.make("id INTEGER, body TEXT")
    sqlite.add(*({"id": number // 2, "body": "x"} for number in range(60)))
    connector = sqlite.connector()
    refs = refs_of(await scan_all(connector))

    assert len(refs) == 30
    for ref in refs:
        with pytest.raises(UnreadableDocument):
            await connector.fetch(ref)


async def test_a_database_that_goes_round_in_circles_is_not_followed(
    sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose index does not agree with its rows any more."""
    sqlite.make()
    sqlite.add_numbered(5)
    monkeypatch.setattr("connectors.sql.rows.Rows._behind", lambda _self, _key: sqlalchemy.true())

    events = await scan_all(sqlite.connector(page_rows=2))

    assert ids_of(events) == ["1", "2"]
    assert problems_of(events) == ["looping_listing"]


async def test_a_connector_that_was_closed_can_be_asked_again(world: SqlWorld) -> None:
    """Closing is safe at any time, and to repeat."""
    world.make()
    world.add_numbered(3)
    connector = world.connector()
    await connector.aclose()
    before = await scan_all(connector)

    await connector.aclose()
    await connector.aclose()

    assert await scan_all(connector) == before


# ------------------------------------------------------------------------------------ databases that say nothing


@pytest.fixture
def wire(postgresql: str) -> Iterator[FaultyWire]:
    with faulty_wire(f"{sqlalchemy.make_url(postgresql).query['host']}/.s.PGSQL.5432") as opened:
        yield opened


def over(wire: FaultyWire, url: str) -> str:
    options = {"sslmode": "disable", "gssencmode": "disable"}
    at = sqlalchemy.make_url(url).set(host="127.0.0.1", port=wire.port, query=options)
    return at.render_as_string(hide_password=False)


def waiting_threads() -> int:
    return sum(thread.name == "AnyIO worker thread" and is_asking(thread) for thread in threading.enumerate())


def is_asking(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_filename.endswith("sql_database.py"):
            return True
        frame = frame.f_back
    return False


@on_postgresql
@pytest.mark.parametrize("position", [0, 1, 3, 6, 12])
async def test_a_database_that_falls_silent_is_given_up(world: SqlWorld, wire: FaultyWire, position: int) -> None:
    """Whether it was only being opened or was listed: nothing is concluded, and the thread that waited is free."""
    world.make()
    world.add_numbered(10)
    connector = world.connector(url=over(wire, world.url), page_rows=2, timeout_s=2)
    events: list[SourceEvent] = []
    wire.arm("silent", position)

    with suppress(SourceError):
        await scan_into(events, connector)

    assert wire.has_struck
    assert not is_complete(events)
    with pytest.raises(SourceError, match=r"no answer came within 2 s|cannot be read"):
        await connector.locate(DocumentId("1"))
    wire.heal()
    with fail_after(10):
        while waiting_threads():
            await anyio.lowlevel.checkpoint()
    assert is_complete(await scan_all(world.connector(url=over(wire, world.url))))


@on_postgresql
async def test_a_thread_that_waits_for_a_silent_database_is_woken(world: SqlWorld, wire: FaultyWire) -> None:
    """The program could not end before it."""
    world.make()
    world.add_numbered(3)
    connector = world.connector(url=over(wire, world.url), timeout_s=0.5)
    await scan_all(connector)
    wire.arm("silent", 0)

    with pytest.raises(SourceError, match=r"no answer came within 0\.5 s"):
        await connector.locate(DocumentId("1"))

    with fail_after(10):
        while waiting_threads():
            await anyio.lowlevel.checkpoint()


@on_postgresql
async def test_a_row_whose_answer_does_not_come_is_one_dead_letter(world: SqlWorld) -> None:
    """A view may compute for hours for one row; the others are read."""
    world.make()
    world.add_numbered(3)
    world.run(
        "CREATE OR REPLACE FUNCTION slowly(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
        " 'BEGIN PERFORM pg_sleep(20); RETURN $1; END'"
    )
    query = f"SELECT id, 1 AS revision, CASE WHEN id = 2 THEN slowly(body) ELSE body END AS body FROM {world.table}"
    connector = world.connector(query=query, version="revision", timeout_s=2)
    refs = await scan_refs(connector)

    with pytest.raises(UnreadableDocument, match="no answer came within 2 s") as caught:
        await connector.fetch(refs[DocumentId("2")])

    assert caught.value.code == "no_answer"
    assert (await connector.fetch(refs[DocumentId("3")])).content == b"text of 3"


@on_postgresql
async def test_a_silent_database_is_no_fault_of_a_row(world: SqlWorld, wire: FaultyWire) -> None:
    """Twenty rows would each be waited for, and then be dead letters."""
    world.make()
    world.add_numbered(3)
    connector = world.connector(url=over(wire, world.url), timeout_s=0.5)
    refs = await scan_refs(connector)
    wire.arm("silent", 0)

    with pytest.raises(SourceError, match="does not answer"):
        await connector.fetch(refs[DocumentId("2")])


@on_postgresql
async def test_a_run_that_is_stopped_waits_for_no_database(world: SqlWorld, wire: FaultyWire) -> None:
    """Ctrl-C is answered at once; and closing the connector waits for nobody either."""
    world.make()
    world.add_numbered(3)
    connector = world.connector(url=over(wire, world.url))
    await scan_all(connector)
    wire.arm("silent", 0)
    with fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scan_all, connector)
            while not wire.has_struck:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await connector.aclose()
        while waiting_threads():
            await anyio.lowlevel.checkpoint()


@on_mariadb
async def test_time_limits_in_the_url_stay(world: SqlWorld) -> None:
    """Who sets them knows the way to the database."""
    world.make()
    world.add_numbered(1)
    connector = world.connector(url=f"{world.url}&read_timeout=7")

    await scan_all(connector)

    line = connector._database._line
    assert (line._read_timeout, line._write_timeout, line.connect_timeout) == (7, 301, 301)


# ------------------------------------------------------------------------------------- what else a row can have


async def test_a_row_with_too_much_text_is_a_dead_letter(world: SqlWorld) -> None:
    """The limit is of bytes, as for all sources."""
    world.make()
    world.add({"id": 1, "body": "ä" * 50}, {"id": 2, "body": "ä" * 50 + "x"})
    connector = world.connector(max_bytes=100)
    refs = await scan_refs(connector)

    with pytest.raises(UnreadableDocument, match="has 101 bytes") as caught:
        await connector.fetch(refs[DocumentId("2")])

    assert caught.value.code == "too_large"
    assert len((await connector.fetch(refs[DocumentId("1")])).content) == 100


async def test_columns_can_be_metadata(served: SqlWorld) -> None:
    """They go with the document and not into its text, and an edit of one is an edit of the document."""
    served.make("id INTEGER PRIMARY KEY, body TEXT, team VARCHAR(20), stars INTEGER, price NUMERIC(9, 2), day DATE")
    columns = ["team", "stars", "price", "day"]
    served.add({"id": 1, "body": "text", "team": "support", "stars": 5, "price": 12.5, "day": date(2026, 3, 1)})
    served.add({"id": 2, "body": "text", "team": None, "stars": None, "price": None, "day": None})
    connector = served.connector(text=None, metadata=columns)
    before = await scan_refs(connector)

    found = [await connector.fetch(ref) for ref in before.values()]
    served.run(f"UPDATE {served.table} SET team = 'sales' WHERE id = 1")
    after = await scan_refs(connector)

    assert [document.content for document in found] == [b"text", b"text"]
    assert found[0].metadata == {"team": "support", "stars": 5, "price": "12.50", "day": date(2026, 3, 1)}
    assert found[1].metadata == {}
    (parsed,) = Parser().parse(found[0])
    assert isinstance(parsed, ParsedDocument)
    assert parsed.metadata == {"team": "support", "stars": 5, "price": "12.50", "day": "2026-03-01"}
    assert before[DocumentId("1")].fingerprint != after[DocumentId("1")].fingerprint
    assert before[DocumentId("2")].fingerprint == after[DocumentId("2")].fingerprint


async def test_a_column_of_metadata_that_is_not_there_is_an_error(sqlite: SqlWorld) -> None:
    """And named."""
    sqlite.make()

    with pytest.raises(SourceError, match="taem"):
        await scan_all(sqlite.connector(metadata="taem"))


@pytest.mark.parametrize(("version", "operations"), [(None, ["update"]), ("revision", ["create", "delete"])])
async def test_a_row_with_another_key_keeps_its_records(
    sqlite: SqlWorld, version: str | None, operations: list[str]
) -> None:
    """If its fingerprint is of its content; a version would take any row of the same version for it."""
    sqlite.make("id TEXT PRIMARY KEY, body TEXT, revision INTEGER")
    sqlite.add({"id": "a", "body": "text of a", "revision": 1}, {"id": "b", "body": "text of b", "revision": 1})
    memory = MemoryDestination()
    runs = AnyWorld(sqlite.connector(version=version), memory)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as runs.state:
        await runs.do()
        memory.requests.clear()
        sqlite.run(f"UPDATE {sqlite.table} SET id = 'c' WHERE id = 'a'")

        await runs.do()

    assert sorted(batch.operation.value for batch in memory.requests) == operations
    assert sorted(record.document for record in memory.records.values()) == ["b", "c"]
