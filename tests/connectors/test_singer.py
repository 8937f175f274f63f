"""Rows of Singer taps as documents: a tap of our own, and real ones where they can be installed."""

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from pydantic import ValidationError

from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_into, scan_refs
from connectors.singer.connector import SingerConnector, SingerSettings, StreamSettings
from connectors.singer.listing import Listing
from connectors.singer.tap import TAIL_BYTES
from pipeline.errors import DocumentVanished, SourceError
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    DocumentRemoved,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import AnyWorld, in_place

from .singer_taps import SCRIPT, ScriptWorld, installed_tap, lives, page_id
from .sql_servers import postgresql_server

INCREMENTAL = {"pages": {"text": "text", "replication_method": "INCREMENTAL"}}


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, nothing is left of the tap's configuration and of what it printed."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ScriptWorld]:
    made = ScriptWorld(tmp_path / "tap")
    yield made
    await made.aclose()


def refs_of(events: list[SourceEvent]) -> list[str]:
    return [str(event.id) for event in events if isinstance(event, DocumentRef)]


def problems_of(events: list[SourceEvent]) -> list[tuple[str, str]]:
    return [(event.scope, event.code) for event in events if isinstance(event, ScanError)]


def checkpoints_of(events: list[SourceEvent]) -> list[Checkpoint]:
    return [event for event in events if isinstance(event, Checkpoint)]


async def scan(connector: SingerConnector, since: Checkpoint | None = None) -> list[SourceEvent]:
    async with aclosing(connector.scan(since)) as lists:
        return [event async for events in lists for event in events]


def is_there(path: str) -> bool:
    return Path(path).exists()


# ------------------------------------------------------------------------------------------------ the contract


class SingerContract(SourceConnectorContract):
    """As the contract has it, but for what a source does that shows rows only while it lists them."""

    async def test_every_listed_document_can_be_fetched(self, world: SourceWorld) -> None:
        """JSON holds text and no bytes."""
        contents = {
            world.put("a.md", b"text"): b"text",
            world.put("guide/empty.md", b""): b"",
            world.put("guide/umlaut.md", "Ä\n\u2028 \U0001f600".encode() * 9_000): "Ä\n\u2028 \U0001f600".encode()
            * 9_000,
        }
        connector = world.connector()
        refs = await scan_refs(connector)

        fetched = {document: await connector.fetch(ref) for document, ref in refs.items()}

        assert {document: found.content for document, found in fetched.items()} == contents
        assert {document: found.ref for document, found in fetched.items()} == refs

    async def test_a_document_edited_after_it_was_listed_is_fetched_as_it_is_now(self, world: SourceWorld) -> None:
        """It is fetched as it was listed: both content and fingerprint are of one moment."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.put("a.md", b"longer text")

        assert await connector.fetch(listed) == Document(listed, b"text", "text/plain; charset=utf-8")
        assert (await scan_refs(connector))[document].fingerprint != listed.fingerprint

    async def test_a_document_removed_after_it_was_listed_has_vanished(self, world: SourceWorld) -> None:
        """So is one that was removed; a connector that did not list it says that it is gone."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove("a.md")

        assert (await connector.fetch(listed)).content == b"text"
        with pytest.raises(DocumentVanished):
            await world.connector().fetch(listed)

    async def test_no_document_has_vanished_with_a_missing_root(self, world: SourceWorld) -> None:
        """What was listed is kept; a connector that listed nothing can tell nothing."""
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove_root()

        assert (await connector.fetch(listed)).content == b"text"
        with pytest.raises(SourceError):
            await world.connector().fetch(listed)


class TestSingerConnectorKeepsTheContract(SingerContract):
    @pytest.fixture
    def world(self, world: ScriptWorld) -> SourceWorld:
        return world


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


class TableWorld:
    """A table of a real PostgreSQL, read by the tap of PipelineWise."""

    def __init__(self, url: str, folder: Path) -> None:
        self.program = installed_tap("pipelinewise-tap-postgres==1.8.4", "tap-postgres")
        self.folder = folder
        self.engine = sqlalchemy.create_engine(url)
        self.opened: list[SingerConnector] = []
        self.run("DROP TABLE IF EXISTS pages")
        self.run("CREATE TABLE pages (id TEXT PRIMARY KEY, body TEXT, edited_at TIMESTAMPTZ DEFAULT clock_timestamp())")

    def run(self, statement: str, **values: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sqlalchemy.text(statement), values)

    def connector(self, **stream: Any) -> SingerConnector:
        url = sqlalchemy.make_url(str(self.engine.url))
        config = {"host": url.query["host"], "port": 5432, "user": "postgres", "dbname": "postgres"}
        settings = {
            "type": "singer",
            "command": self.program,
            "config": {**config, "filter_schemas": "public"},
            "config_variables": {"password": "PAGES_PASSWORD"},
            "streams": {"public-pages": {"text": "body", **stream}},
        }
        self.opened.append(SingerConnector(SingerSettings.model_validate(settings), self.folder))
        return self.opened[-1]

    def put(self, name: str, content: bytes) -> DocumentId:
        self.remove(name)
        self.run("INSERT INTO pages VALUES (:id, :body)", id=name, body=content.decode())
        return page_id(name, "public-pages")

    def remove(self, name: str) -> None:
        self.run("DELETE FROM pages WHERE id = :id", id=name)

    def remove_root(self) -> None:
        self.run("DROP TABLE pages")

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("a stream is listed as a whole or not")


@pytest.fixture
async def table(postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TableWorld]:
    monkeypatch.setenv("PAGES_PASSWORD", "hunter2")
    made = TableWorld(postgresql, tmp_path)
    yield made
    for connector in made.opened:
        await connector.aclose()
    made.engine.dispose()


class TestSingerConnectorKeepsTheContractWithARealTap(SingerContract):
    @pytest.fixture
    def world(self, table: TableWorld) -> SourceWorld:
        return table


async def test_a_real_tap_shows_what_is_new_since_its_state(table: TableWorld) -> None:
    """Its bookmark is the time of the last row; that row it shows once more."""
    for name in "abc":
        table.put(name, b"text")
    options = {"replication_method": "INCREMENTAL", "replication_key": "edited_at"}
    first = await scan(table.connector(**options))
    table.put("b", b"longer text")
    table.remove("a")

    second = await scan(table.connector(**options), checkpoints_of(first)[-1])

    assert sorted(refs_of(first)) == ["public-pages/a", "public-pages/b", "public-pages/c"]
    assert sorted(refs_of(second)) == ["public-pages/b", "public-pages/c"]
    assert second[-1] == ScanIncremental("")


async def test_a_real_tap_whose_files_are_gone_does_not_empty_the_memory(tmp_path: Path) -> None:
    """It ends well and shows a stream without rows; that it knows no fields any more gives it away."""
    program = installed_tap("tap-jsonl==0.3.1", "tap-jsonl")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    settings = {
        "type": "singer",
        "command": program,
        "config": {"path": "files/*.jsonl", "primary_keys": ["id"]},
        "streams": {"jsonl": None},
    }
    connector = SingerConnector(SingerSettings.model_validate(settings), tmp_path)
    before = await scan_refs(connector)
    (folder / "a.jsonl").unlink()
    events: list[SourceEvent] = []

    with pytest.raises(SourceError, match="has no text"):
        await scan_into(events, connector)

    assert (sorted(before), events) == (["jsonl/1", "jsonl/2"], [])
    await connector.aclose()


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"command": []}, "at least 1 item"),
        ({"streams": {}}, "at least 1 item"),
        ({"config": {"password": "hunter2"}}, "`config.password` looks like a secret"),
        ({"config": {"auth": {"api_key": "hunter2"}}}, "`config.auth.api_key` looks like a secret"),
        ({"config": {"refresh_token": "hunter2"}}, "looks like a secret"),
        ({"config": {"accounts": [{"password": "hunter2"}]}}, "`config.accounts.0.password` looks like a secret"),
        ({"config": {"urls": ["postgresql://me:hunter2@h/db"]}}, "`config.urls.0` looks like a secret"),
        ({"config": {"url": "postgresql://me:hunter2@h/db"}}, "looks like a secret"),
        ({"config": {"user": "a"}, "config_variables": {"user": "USER"}}, "one of `config.user`"),
        ({"streams": {"pages": {"media_type": "html"}}}, "needs a `text` of one field"),
        ({"streams": {"pages": {"text": ["a", "a"]}}}, "name each field once"),
        ({"streams": {"pages": {"txet": "a"}}}, "txet"),
        ({"streams": {"pages": {"replication_method": "SOMETIMES"}}}, "FULL_TABLE"),
        ({"silence_s": 0}, "greater than 0"),
        ({"comand": "tap"}, "comand"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    """What is refused may be a secret."""
    with pytest.raises(ValidationError, match=message) as caught:
        SingerSettings.model_validate({"type": "singer", "command": "tap", "streams": {"pages": None}, **settings})

    assert "hunter2" not in str(caught.value)


def test_a_setting_that_only_sounds_like_a_secret_is_taken() -> None:
    """`token_url` is none."""
    config = {"token_url": "https://example.com/token", "api_key": "", "password_policy": "strict", "tokens": 7}

    settings = SingerSettings.model_validate(
        {"type": "singer", "command": "tap", "config": config, "streams": {"pages": {"id": "id"}}}
    )

    assert settings.command == ("tap",)
    assert settings.streams["pages"].id == ("id",)


# --------------------------------------------------------------------------------------------- what a row is


async def test_a_row_is_a_document_with_what_is_said_of_it(world: ScriptWorld) -> None:
    """A key that holds anything, a title on one line, a time with a zone, and fields that go along."""
    world.streams = {"pages": {"text": "text", "title": "t", "modified_at": "at", "metadata": ["tags", "n"]}}
    world.options["config"] = {
        "folder": str(world.folder),
        "fields": {n: {} for n in ("id", "text", "t", "at", "tags", "n")},
    }
    document = world.add("a/b ü.png", text="Hello", t=" One\n two ", at="2026-03-01 12:30:00", tags=["x", "y"], n=1.5)
    connector = world.connector(config=world.options.pop("config"))

    ref = (await scan_refs(connector))[document]
    found = await connector.fetch(ref)

    assert document == "pages/a%2Fb%20%C3%BC%2Epng"
    assert (ref.title, ref.modified_at) == ("One two", datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    assert found == Document(ref, b"Hello", "text/plain; charset=utf-8", {"tags": ["x", "y"], "n": 1.5})


async def test_without_a_word_on_text_all_fields_of_words_are_read(world: ScriptWorld) -> None:
    """Not those with another meaning, nor times and choices."""
    types = {
        "id": {"type": "string"},
        "name": {"type": ["null", "string"]},
        "body": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "at": {"type": "string", "format": "date-time"},
        "kind": {"type": "string", "enum": ["a"]},
        "stars": {"type": "integer"},
        "_sdc_source": {"type": "string"},
    }
    world.streams = {"pages": None}
    document = world.add("1", name="N", body="B\nb", at="2026-01-01", kind="a", stars=3, _sdc_source="x")
    connector = world.connector(config={"folder": str(world.folder), "fields": types})

    found = await connector.fetch((await scan_refs(connector))[document])

    assert found.content == b"name: N\n\nbody:\nB\nb"


@pytest.mark.parametrize(
    ("change", "is_edit"),
    [({"text": "other"}, True), ({"tag": "u"}, True), ({"t": "T2"}, True), ({"other": 2}, False)],
)
async def test_an_edit_is_one_of_what_is_read(world: ScriptWorld, change: dict[str, Any], is_edit: bool) -> None:
    """A counter of views beside the text must not cost a fetch."""
    config = {"folder": str(world.folder), "fields": {name: {} for name in ("id", "text", "tag", "t", "other")}}
    world.streams = {"pages": {"text": "text", "title": "t", "metadata": "tag"}}
    row: dict[str, Any] = {"text": "text", "tag": "t", "t": "T", "other": 1}
    document = world.add(1, **row)
    before = (await scan_refs(world.connector(config=config)))[document]
    world.add(1, **row | change)

    after = (await scan_refs(world.connector(config=config)))[document]

    assert (after.fingerprint != before.fingerprint) == is_edit


async def test_numbers_are_keys_however_they_are_written(world: ScriptWorld) -> None:
    """12.0 is 12; a number of a million digits is nobody's key."""
    for key in (12.0, 7, 10**30, 1e300, True):
        world.add(key, text="text")

    events = await scan(world.connector())

    assert set(refs_of(events)) == {"pages/12", "pages/7", f"pages/{10**30}", "pages/true"}
    assert problems_of(events) == [("pages/", "unusable_id")]


@pytest.mark.parametrize("key", [None, {"a": 1}, [1], "\ud800"])
async def test_a_row_without_a_usable_key_keeps_its_stream_incomplete(world: ScriptWorld, key: object) -> None:
    """Who knows which document it is; the others come all the same."""
    world.add(1, text="text")
    world.add(key, text="secret words") if not isinstance(key, str) else world.rows["pages"].append(
        {"id": key, "text": "secret words", "seq": 9}
    )
    world.save()

    events = await scan(world.connector())

    assert refs_of(events) == ["pages/1"]
    assert [scope for scope, _ in problems_of(events)] == ["pages/"]
    assert "secret" not in str(events)
    assert not checkpoints_of(events)


def test_a_value_that_is_nested_too_deeply_ends_a_listing_and_no_more(tmp_path: Path) -> None:
    """Some depths can still be read, and not be written."""
    schema = {"type": "SCHEMA", "stream": "pages", "schema": {"properties": {"text": {}}}, "key_properties": ["id"]}
    listing = Listing(tmp_path / "rows", {"pages": StreamSettings(text=("text",))}, "singer://tap/")
    listing.take([json.dumps(schema).encode()])
    faults = set()
    for depth in range(500, 1_100):
        text = "[" * depth + "]" * depth
        line = f'{{"type": "RECORD", "stream": "pages", "record": {{"id": {depth}, "text": {text}}}}}'
        _, fault = listing.take([line.encode()])
        faults.add(None if fault is None else fault.code)
    listing.close()

    assert None in faults
    assert faults <= {None, "too_deep", "no_message"}


async def test_rows_that_share_a_key_are_told_and_one_that_came_twice_is_not(world: ScriptWorld) -> None:
    """Taps repeat rows at the edges of pages."""
    world.rows["pages"] = [{"id": 1, "text": "a", "seq": 1}, {"id": 1, "text": "a", "seq": 2}]
    world.save()
    repeated = await scan(world.connector())
    world.rows["pages"].append({"id": 1, "text": "b", "seq": 3})
    world.save()

    shared = await scan(world.connector())

    assert (refs_of(repeated), repeated[-1]) == (["pages/1"], ScanComplete(""))
    assert problems_of(shared) == [("pages/", "duplicate_id")]


@pytest.mark.parametrize(
    ("streams", "config", "message"),
    [
        ({"pages": {"text": "bdoy"}}, {}, "no field 'bdoy'"),
        ({"pages": {"title": "titel", "text": "text"}}, {}, "no field 'titel'"),
        ({"pages": {"id": "idd"}}, {}, "no field 'idd'"),
        ({"pages": None}, {"key": []}, "has no key"),
        ({"pages": None}, {"fields": {"id": {"type": "integer"}}}, "has no text"),
        ({"others": None}, {}, "no SCHEMA of the stream 'others'"),
    ],
)
async def test_a_stream_that_is_not_as_it_was_described_is_an_error(
    world: ScriptWorld, streams: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    """And not an empty source."""
    world.add(1, text="text")
    world.streams = streams
    events: list[SourceEvent] = []

    with pytest.raises(SourceError, match=message):
        await scan_into(events, world.connector(config={"folder": str(world.folder), **config}))

    assert events == []


async def test_one_stream_that_is_not_there_leaves_the_others_alone(world: ScriptWorld) -> None:
    """Nothing is deleted below it."""
    world.add(1, text="text")
    world.streams = {"pages": {"text": "text"}, "others": {"text": "text"}}

    events = await scan(world.connector())

    assert refs_of(events) == ["pages/1"]
    assert problems_of(events) == [("others/", "no_schema")]
    assert events[-1] == ScanComplete("")


# -------------------------------------------------------------------------------------------- what is told


async def test_the_catalog_selects_just_the_streams_that_are_named(world: ScriptWorld) -> None:
    """In the ways that taps listen to."""
    world.add(1, text="text")
    world.add(1, stream="others", text="text")
    connector = world.connector(discovers=True, streams={"pages": {**INCREMENTAL["pages"], "replication_key": "seq"}})

    events = await scan(connector)

    assert refs_of(events) == ["pages/1"]
    pages, others = world.calls[-1]["catalog"]["streams"]
    said = {"selected": True, "replication-method": "INCREMENTAL", "replication-key": "seq"}
    assert pages["metadata"] == [{"breadcrumb": [], "metadata": said}]
    assert (pages["replication_method"], pages["replication_key"], pages["schema"]["selected"]) == (
        "INCREMENTAL",
        "seq",
        True,
    )
    assert others["metadata"] == [{"breadcrumb": [], "metadata": {"selected": False}}]


async def test_a_catalog_can_be_a_file(world: ScriptWorld) -> None:
    """Then the tap is not asked for it."""
    world.add(1, text="text")
    catalog = {"streams": [{"tap_stream_id": "pages", "stream": "pages", "schema": {}}]}
    (world.folder / "catalog.json").write_text(json.dumps(catalog))

    events = await scan(world.connector(catalog="catalog.json"))

    assert refs_of(events) == ["pages/1"]
    assert [call["discovers"] for call in world.calls] == [False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "no-such-tap"}, "no-such-tap.*no program"),
        ({"command": "./no-such-tap"}, "no program"),
        ({"discovers": True, "streams": {"nowhere": None}}, "no stream 'nowhere', but 'pages'"),
        ({"catalog": "not-there.json"}, "not-there.json"),
        ({"catalog": "rows.json"}, "no catalog of a tap"),
        ({"config_variables": {"password": "NOT_SET"}}, "environment variable NOT_SET"),
        ({"config": {"a": "x"}, "config_variables": {"a.b": "PATH"}}, "`a`, which is no mapping"),
        ({"config": {"a": [{}]}, "config_variables": {"a.1.b": "PATH"}}, "`a.1`, which is no mapping"),
        ({"command": ["/bin/sh", "-c", "exit 3"]}, "ended with exit code 3 without a word.*Check `source`"),
        ({"command": ["/bin/sh", "-c", "echo '{}'"], "discovers": True}, "what it printed is no catalog"),
        ({"command": ["/bin/sh", "-c", "true"]}, "no SCHEMA"),
    ],
)
async def test_a_tap_that_cannot_be_run_is_an_error_that_says_why(
    world: ScriptWorld, options: dict[str, Any], message: str
) -> None:
    """Nothing is concluded from it."""
    with pytest.raises(SourceError, match=message):
        await scan(world.connector(**options))


async def test_secrets_come_from_the_environment_and_are_seen_by_nobody(
    world: ScriptWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file that only this user can read, for as long as the tap runs; not in `ps`, not in an error."""
    monkeypatch.setenv("TAP_PASSWORD", "hunter2/secret")
    world.add(1, text="words of a row")
    world.add(2, text="words of a row")
    connector = world.connector(
        config={"accounts": [{"name": "a"}]},
        config_variables=dict.fromkeys(("password", "auth.token", "accounts.0.token"), "TAP_PASSWORD"),
    )
    await scan(connector)
    said = []
    for line in (0, 3):  # before the first row, and at the second
        world.spoil("raises", line)
        try:
            said.append(str(await scan(connector)))
        except SourceError as error:
            said.append(str(error))
    await connector.aclose()

    first = world.calls[0]
    assert (first["config"]["password"], first["config"]["auth"]) == ("hunter2/secret", {"token": "hunter2/secret"})
    assert first["config"]["accounts"] == [{"name": "a", "token": "hunter2/secret"}]
    assert first["mode"] == 0o600
    assert "hunter2" not in str(first["argv"])
    assert not is_there(first["path"])
    assert "hunter2" not in str(said)
    assert "ValueError: *** in" in said[0], "what a tap says before it has read a row helps"
    assert "ValueError" in said[1]
    assert "words of a row" not in said[1], "what it says later may be of the row"


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ('{"type": "account", "keys": [{"private_key": "canary-5521"}]}', "'Error: canary-5521 is no key'"),
        ("-----BEGIN KEY-----\ncanary-5521\n-----END KEY-----\n", "'Error: canary-5521 is no key'"),
        ("canary-5521", f"'Error: canary-5521' + ' ' * {TAIL_BYTES - 7}"),
    ],
    ids=["in JSON", "of several lines", "where the log is cut off"],
)
async def test_no_part_of_a_secret_is_repeated(
    world: ScriptWorld, monkeypatch: pytest.MonkeyPatch, secret: str, said: str
) -> None:
    monkeypatch.setenv("TAP_KEY", secret)
    command = [sys.executable, "-c", f"raise SystemExit({said})"]
    with pytest.raises(SourceError) as caught:
        await scan(world.connector(command=command, config_variables={"key": "TAP_KEY"}))

    assert "ended with exit code 1" in str(caught.value)
    assert "5521" not in str(caught.value)


async def test_the_tap_has_no_part_in_our_own_python(world: ScriptWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives in an environment of its own."""
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/nowhere")
    script = (
        "import os; raise SystemExit(' '.join(sorted({'PYTHONPATH', 'VIRTUAL_ENV'} & os.environ.keys())) or 'none')"
    )

    with pytest.raises(SourceError, match="'none'"):
        await scan(world.connector(command=[sys.executable, "-c", script]))


async def test_a_scan_that_is_given_up_ends_the_tap_and_leaves_nothing(world: ScriptWorld) -> None:
    """Ctrl-C comes in the middle of it."""
    for number in range(3000):
        world.rows["pages"].append({"id": number, "text": "text", "seq": number})
    world.save()
    world.spoil("silent", 2_500)
    connector = world.connector()

    async with aclosing(connector.scan(None)) as lists:
        async for _ in lists:
            break
    await connector.aclose()

    assert not lives(world.calls[-1]["pid"])


# ------------------------------------------------------------------------------------------- all rows, or changes


class Memory:
    """A memory that is synced with a source by real runs."""

    def __init__(self, connector: SingerConnector) -> None:
        self.memory = MemoryDestination()
        self.world = AnyWorld(connector, self.memory)

    async def sync(self) -> list[str]:
        await self.world.do()
        return self.world.texts()


@pytest.fixture
async def synced(world: ScriptWorld) -> AsyncIterator[Memory]:
    memory = Memory(world.connector())
    async with open_state(None, source="docs", destination="memory", offload=in_place) as memory.world.state:
        yield memory


async def test_what_is_gone_is_asked_for_by_running_the_tap_once_more(world: ScriptWorld, synced: Memory) -> None:
    """And a run without removals runs it once."""
    for number in range(20):
        world.add(number, text=f"text of {number:02}")
    await synced.sync()
    runs = [len(world.calls)]
    await synced.sync()
    runs.append(len(world.calls))
    world.remove(3)
    world.remove(4)

    texts = await synced.sync()

    assert texts == [f"text of {number:02}" for number in range(20) if number not in (3, 4)]
    assert [*runs, len(world.calls)] == [1, 2, 4]


async def test_a_row_that_only_one_of_two_listings_misses_is_there(world: ScriptWorld, synced: Memory) -> None:
    """As with pages that move while they are read, or a tap that ends early and says that all is well."""
    for number in range(20):
        world.add(number, text=f"text of {number:02}")
    before = await synced.sync()
    world.spoil("early end", 26)
    listing = synced.world.source._new_listing  # type: ignore[attr-defined]

    def heal_after_the_first() -> Any:
        if len(world.calls) == 2:
            world.heal()
        return listing()

    synced.world.source._new_listing = heal_after_the_first  # type: ignore[attr-defined]

    assert await synced.sync() == before


@pytest.mark.parametrize(
    ("streams", "scopes"),
    [
        ({"pages": None}, [""]),
        (INCREMENTAL, [""]),
        ({**INCREMENTAL, "others": {"text": "text"}}, ["others/", "pages/"]),
    ],
)
async def test_a_listing_that_broke_is_told_until_one_is_whole(
    world: ScriptWorld, streams: dict[str, Any], scopes: list[str]
) -> None:
    """By its dead letters, whose scopes cover all that may be missing."""
    for number in range(20):
        world.add(number, text=f"text of {number:02}")
    world.add(1, stream="others", text="text")
    synced = Memory(world.connector(streams=streams))
    async with open_state(None, source="docs", destination="memory", offload=in_place) as synced.world.state:
        world.spoil("garbage", 5)
        with pytest.raises(SourceError):
            await synced.sync()
        told = await synced.world.state.letters()
        world.heal()

        await synced.sync()

        assert sorted(str(letter.document_id) for letter in told) == scopes
        assert await synced.world.state.letters() == []


async def test_rows_marked_as_deleted_are_removed(world: ScriptWorld, synced: Memory) -> None:
    """By the mark that taps agree on."""
    for number in range(20):
        world.add(number, text=f"text of {number:02}")
    await synced.sync()
    world.add(3, text="text of 03", _sdc_deleted_at="2026-03-01T00:00:00Z")

    texts = await synced.sync()

    assert texts == [f"text of {number:02}" for number in range(20) if number != 3]


async def test_a_stream_of_changes_shows_them_alone_and_keeps_the_rest(world: ScriptWorld) -> None:
    """What is not listed stays, what is marked as deleted goes, and the state moves on."""
    for number in range(20):
        world.add(number, text=f"text of {number:02}")
    synced = Memory(world.connector(streams=INCREMENTAL))
    async with open_state(None, source="docs", destination="memory", offload=in_place) as synced.world.state:
        await synced.sync()
        world.add(5, text="text of 05, edited")
        world.add(6, text="text of 06", _sdc_deleted_at="2026-03-01T00:00:00Z")
        world.remove(7)
        edited = await synced.sync()
        report = await synced.world.do()
        kept = await synced.world.state.checkpoint()

    assert edited == sorted(
        [f"text of {number:02}" for number in range(20) if number not in (5, 6)] + ["text of 05, edited"]
    )
    assert [call["state"] for call in world.calls] == [
        {},
        {"bookmarks": {"pages": 20}},
        {"bookmarks": {"pages": 22}},
    ]
    assert report.documents.seen == 0
    assert kept is not None


async def test_beside_a_stream_of_changes_one_of_all_rows_is_listed_from_its_beginning(world: ScriptWorld) -> None:
    """Its bookmark would let the tap leave out rows that are there."""
    streams = {**INCREMENTAL, "others": {"text": "text"}}
    world.add(1, text="text")
    world.add(1, stream="others", text="text")
    first = await scan(world.connector(streams=streams))
    world.add(2, text="text")

    second = await scan(world.connector(streams=streams), checkpoints_of(first)[-1])

    assert sorted(refs_of(first)) == ["others/1", "pages/1"]
    assert sorted(refs_of(second)) == ["others/1", "pages/2"]
    assert [event for event in second if isinstance(event, ScanComplete | ScanIncremental)] == [
        ScanIncremental("pages/"),
        ScanComplete("others/"),
    ]
    assert list(world.calls[-1]["state"]) == ["bookmarks"]
    assert list(world.calls[-1]["state"]["bookmarks"]) == ["pages"]


async def test_of_versions_that_come_together_the_last_holds(world: ScriptWorld) -> None:
    """A log shows each edit."""
    world.rows["pages"] = [
        {"id": 1, "text": "one", "seq": 1},
        {"id": 1, "text": "two", "seq": 2},
        {"id": 2, "text": "gone", "seq": 3},
        {"id": 2, "text": "gone", "seq": 4, "_sdc_deleted_at": "2026-03-01"},
    ]
    world.save()
    connector = world.connector(streams=INCREMENTAL)

    events = await scan(connector)
    ref = next(event for event in events if isinstance(event, DocumentRef))

    assert (await connector.fetch(ref)).content == b"two"
    assert [event for event in events if isinstance(event, DocumentRef | DocumentRemoved)] == [
        ref,
        DocumentRemoved(DocumentId("pages/2")),
    ]
    assert await connector.locate(DocumentId("pages/2")) is None


async def test_a_version_that_comes_after_an_earlier_one_was_listed_comes_with_the_next_run(world: ScriptWorld) -> None:
    """No document can be listed twice; its state must not be passed before it is."""
    rows = [{"id": number, "text": "one", "seq": number} for number in range(2_500)]
    world.rows["pages"] = [*rows, {"id": 0, "text": "two", "seq": 2_500}]
    world.save()
    connector = world.connector(streams=INCREMENTAL)

    events = await scan(connector)
    states = [json.loads(found.value)["bookmarks"]["pages"] for found in checkpoints_of(events)]
    again = await scan(connector, checkpoints_of(events)[-1])

    assert len(refs_of(events)) == 2_500
    assert max(states) < 2_500
    assert "pages/0" in refs_of(again)
    assert json.loads(checkpoints_of(again)[-1].value)["bookmarks"]["pages"] == 2_500


@pytest.mark.parametrize("rows_per_state", [500, 4_000, 10_000])
async def test_of_versions_far_apart_the_last_is_stored(world: ScriptWorld, rows_per_state: int) -> None:
    """Also where the state comes seldom: the next run would begin before the earlier one again."""
    rows = [{"id": number, "text": "one", "seq": number} for number in range(3_000)]
    world.rows["pages"] = [*rows, {"id": 1, "text": "two", "seq": 3_000}]
    world.save()
    synced = Memory(world.connector(streams=INCREMENTAL, config={"rows_per_state": rows_per_state}))
    async with open_state(None, source="docs", destination="memory", offload=in_place) as synced.world.state:
        await synced.sync()
        texts = await synced.sync()

    assert texts.count("two") == 1
    assert len(texts) == 3_000
    assert world.calls[-1]["state"] != {}


async def test_a_stream_of_changes_cannot_tell_that_a_row_is_gone(world: ScriptWorld) -> None:
    """One that is there, it finds by listing all."""
    world.add(1, text="text")
    connector = world.connector(streams=INCREMENTAL)

    located = await connector.locate(page_id(1))

    assert located is not None
    with pytest.raises(SourceError, match="does not list all rows"):
        await connector.locate(page_id(2))
    assert await connector.locate(DocumentId("others/1")) is None


def test_the_tap_of_the_tests_is_a_program_of_its_own() -> None:
    """It shares nothing with what it tests."""
    printed = subprocess.run([sys.executable, "-S", str(SCRIPT), "--help"], capture_output=True, text=True, check=True)

    assert "--discover" in printed.stdout
