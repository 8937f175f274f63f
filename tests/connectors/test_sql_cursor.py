"""Rows that are listed by a cursor: what has changed since the last listing, and everything once in a while."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all
from connectors.sql.connector import SqlConnector
from connectors.sql.cursor import CursorValue, ListedRows, cursor_value, lower_bound
from pipeline.errors import SourceError
from pipeline.model import Checkpoint, DocumentRef, ScanComplete, ScanError, ScanIncremental, SourceEvent
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import AnyWorld, in_place

from .sql_servers import mariadb_server, postgresql_server
from .sql_world import SqlWorld, made_on, watched

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


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


class TestSqlConnectorWithACursorKeepsTheContract(SourceConnectorContract):
    @pytest.fixture
    def world(self, world: SqlWorld) -> SourceWorld:
        world.options |= {"text": ["body"], "cursor": "updated_at", "cursor_overlap": 0}
        content = {"sqlite": "BLOB", "postgresql": "BYTEA", "mysql": "LONGBLOB", "mariadb": "LONGBLOB"}[world.kind]
        world.make(f"id VARCHAR(190) PRIMARY KEY, body {content}, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP")
        return world


def connector_at(world: SqlWorld, now: datetime = NOW, **options: Any) -> SqlConnector:
    """The world's connector by the cursor `changed`, with a clock that stands still."""
    connector = world.connector(**{"cursor": "changed", "cursor_overlap": 0, **options})
    connector._now = lambda: now
    return connector


async def events_since(connector: SqlConnector, since: Checkpoint | None) -> list[SourceEvent]:
    return [event async for events in connector.scan(since) for event in events]


def ids_of(events: list[SourceEvent]) -> list[str]:
    return [str(event.id) for event in events if isinstance(event, DocumentRef)]


def checkpoint_of(events: list[SourceEvent]) -> Checkpoint | None:
    return next((event for event in events if isinstance(event, Checkpoint)), None)


def make_numbered(world: SqlWorld, kind: str = "INTEGER", *values: object) -> None:
    """Rows 1, 2, …, with these values of the cursor."""
    world.make(f"id INTEGER PRIMARY KEY, body TEXT, changed {kind}")
    for number, value in enumerate(values, 1):
        world.add({"id": number, "body": f"text of {number}", "changed": value})


# ------------------------------------------------------------------------------------------------- listing

MOMENTS = [f"2026-11-27 0{hour}:00:00" for hour in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("kind", "values", "newer"),
    [
        ("TIMESTAMP NULL", MOMENTS, "2026-11-27 04:30:00"),
        ("VARCHAR(40)", [moment.replace(" ", "T") + ".250Z" for moment in MOMENTS], "2026-11-27T04:30:00.5Z"),
        ("VARCHAR(40)", MOMENTS, "2026-11-27 04:00:00.001"),
        ("DATE", ["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"], "2026-11-05"),
        ("BIGINT", [1, 2, 3, 2**53], 2**53 + 1),
        ("NUMERIC(20, 3)", ["1.5", "2.5", "3.5", "4.125"], "4.126"),
        ("FLOAT", [1.5, 2.5, 3.5, 4.5], 4.75),
    ],
)
async def test_what_has_changed_is_listed_and_what_has_not_is_not(
    world: SqlWorld, kind: str, values: list[object], newer: object
) -> None:
    """A million rows are not read for the three that someone has edited."""
    make_numbered(world, kind, *values)
    connector = connector_at(world)
    everything = await events_since(connector, None)
    nothing_new = await events_since(connector, checkpoint_of(everything))
    world.run(f"UPDATE {world.table} SET body = 'other', changed = :changed WHERE id = 2", {"changed": newer})

    edited = await events_since(connector, checkpoint_of(nothing_new))

    assert ids_of(everything) == ["1", "2", "3", "4"]
    assert ScanComplete() in everything
    assert ids_of(nothing_new) == ["4"]  # for all that can be told, another row of the same moment may have come
    assert ids_of(edited) == ["2", "4"]
    for events in (nothing_new, edited):
        assert ScanIncremental() in events
        assert ScanComplete() not in events


async def test_times_with_a_zone_are_compared_as_moments(world: SqlWorld) -> None:
    if world.kind != "postgresql":
        pytest.skip("no column of this database has a zone")
    make_numbered(world, "TIMESTAMPTZ", "2026-11-27 01:00:00+00", "2026-11-27 04:00:00+02")
    connector = connector_at(world, cursor_overlap=60)
    before = checkpoint_of(await events_since(connector, None))
    world.add({"id": 3, "body": "new", "changed": "2026-11-27 02:59:30+01"})
    world.add({"id": 4, "body": "too late", "changed": "2026-11-27 02:58:59+01"})

    assert ids_of(await events_since(connector, before)) == ["2", "3"]


@pytest.mark.parametrize(
    ("kind", "newest", "late", "too_late"),
    [
        ("BIGINT", 200, 190, 189),
        ("DATE", "2026-11-02", "2026-11-01", "2026-10-31"),
        ("VARCHAR(40)", "2026-11-02 00:00", "2026-11-01 23:59", "2026-11-01 23:58"),
    ],
)
async def test_what_was_committed_late_is_listed_within_the_overlap(
    world: SqlWorld, kind: str, newest: object, late: object, too_late: object
) -> None:
    """A transaction shows its rows when it ends, with the times of when it began."""
    make_numbered(world, kind, newest)
    connector = connector_at(world, cursor_overlap=10)
    before = checkpoint_of(await events_since(connector, None))
    world.add({"id": 2, "body": "late", "changed": late}, {"id": 3, "body": "too late", "changed": too_late})

    assert ids_of(await events_since(connector, before)) == ["1", "2"]


async def test_a_row_that_has_no_value_is_listed_each_time(world: SqlWorld) -> None:
    """Whether it has changed cannot be told."""
    make_numbered(world, "INTEGER", 1, None, 3)
    connector = connector_at(world)
    before = checkpoint_of(await events_since(connector, None))

    assert ids_of(await events_since(connector, before)) == ["2", "3"]


@pytest.mark.parametrize("values", [(), (None, None)])
async def test_without_any_value_all_rows_are_listed_again(sqlite: SqlWorld, values: tuple[object, ...]) -> None:
    """An empty table is filled some day."""
    make_numbered(sqlite, "INTEGER", *values)
    connector = connector_at(sqlite)
    before = checkpoint_of(await events_since(connector, None))
    sqlite.add({"id": 9, "body": "text", "changed": -5})

    events = await events_since(connector, before)

    assert "9" in ids_of(events)
    assert ScanComplete() in events


async def test_what_changes_during_a_listing_shows_in_the_next(world: SqlWorld) -> None:
    """However long it takes: a row behind which it is already must not hide behind a later one that it still sees."""
    make_numbered(world, "INTEGER", 1, 2, 3, 4)
    connector = connector_at(world, page_rows=2)
    events: list[SourceEvent] = []
    async with aclosing(connector.scan(None)) as scan:
        events += await anext(scan)
        world.run(f"UPDATE {world.table} SET body = 'other', changed = 5000 WHERE id = 1")
        world.run(f"UPDATE {world.table} SET body = 'other', changed = 90000 WHERE id = 4")
        async for more in scan:
            events += more

    assert "1" in ids_of(await events_since(connector, checkpoint_of(events)))


async def test_pages_of_changed_rows_follow_each_other(world: SqlWorld) -> None:
    """Thousands may have changed since the last run."""
    make_numbered(world, "INTEGER", *range(1, 21))
    connector = connector_at(world, page_rows=3, cursor_overlap=9)
    before = checkpoint_of(await events_since(connector, None))

    assert ids_of(await events_since(connector, before)) == [str(n) for n in range(11, 21)]


async def test_a_query_has_a_cursor_too(world: SqlWorld) -> None:
    make_numbered(world, "INTEGER", 1, 2)
    connector = connector_at(world, query=f"SELECT id, body, changed FROM {world.table} WHERE body <> 'draft'")
    before = checkpoint_of(await events_since(connector, None))
    world.add({"id": 3, "body": "draft", "changed": 8}, {"id": 4, "body": "text", "changed": 9})

    assert ids_of(await events_since(connector, before)) == ["2", "4"]


async def test_a_text_cursor_is_no_text_of_the_document(sqlite: SqlWorld) -> None:
    """Where all text columns are read, each edit would otherwise change a text that says nothing."""
    make_numbered(sqlite, "TEXT", MOMENTS[0])
    connector = connector_at(sqlite, text=None)
    (ref,) = [event for event in await scan_all(connector) if isinstance(event, DocumentRef)]

    assert (await connector.fetch(ref)).content == b"text of 1"


async def test_a_cursor_that_is_not_there_is_an_error(world: SqlWorld) -> None:
    """And named."""
    make_numbered(world)

    with pytest.raises(SourceError, match="chagned"):
        await scan_all(world.connector(cursor="chagned"))


@pytest.mark.parametrize("value", ["next week", "20261127", "2026-13-01", b"\x00\x01"])
async def test_a_cursor_that_neither_is_a_time_nor_a_number_is_an_error(sqlite: SqlWorld, value: object) -> None:
    """Before anything is listed by it; its value may be a secret."""
    make_numbered(sqlite, "TEXT", value)

    with pytest.raises(SourceError, match=r"Correct `source\.cursor`") as caught:
        await scan_all(connector_at(sqlite))

    assert str(value) not in str(caught.value)


# ---------------------------------------------------------------- a column in which not all is of one kind or form


@pytest.mark.parametrize("written", ["2026-11-27 11:00:00", "2026-11-27"])
@pytest.mark.parametrize("overlap", [0, 3600])
async def test_times_as_text_in_several_forms_are_all_listed(sqlite: SqlWorld, written: str, overlap: float) -> None:
    """An application writes ISO 8601, and a trigger CURRENT_TIMESTAMP: as text, its times come before those of the day.

    They were missed until the next complete listing.
    """
    make_numbered(sqlite, "TEXT", "2026-11-26T11:00:00", "2026-11-27T02:00:00")
    connector = connector_at(sqlite, cursor_overlap=overlap)
    before = checkpoint_of(await events_since(connector, None))
    sqlite.add({"id": 3, "body": "new", "changed": written}, {"id": 4, "body": "old", "changed": "2026-11-26 11:00:00"})

    assert ids_of(await events_since(connector, before)) == ["2", "3"]


async def test_numbers_beside_times_as_text_are_listed_each_time(sqlite: SqlWorld) -> None:
    """SQLite takes anything in any column, and what is no text is never behind a text."""
    make_numbered(sqlite, "TIMESTAMP", "2026-11-26 02:00:00", "2026-11-27 02:00:00")
    connector = connector_at(sqlite)
    before = checkpoint_of(await events_since(connector, None))
    sqlite.add({"id": 3, "body": "new", "changed": 1764000500})

    assert ids_of(await events_since(connector, before)) == ["2", "3"]


@pytest.mark.parametrize(
    ("first", "value", "second", "new_value"),
    [
        ("BIGINT", 1764000000, "TIMESTAMP NULL", "2026-11-27 02:00:00"),
        ("TIMESTAMP NULL", "2026-11-27 02:00:00", "BIGINT", 1764000000),
        ("DATE", "2026-11-27", "TIMESTAMP NULL", "2026-11-27 02:00:00"),
    ],
)
async def test_a_column_that_has_become_another_kind_is_listed_anew(
    world: SqlWorld, first: str, value: object, second: str, new_value: object
) -> None:
    """A migration: what a number was is not compared with a time. It failed, or listed nothing, for a day."""
    if world.kind == "sqlite" and first == "DATE":
        pytest.skip("both are text there")
    make_numbered(world, first, value)
    connector = connector_at(world)
    before = checkpoint_of(await events_since(connector, None))
    await connector.aclose()
    world.run(f"ALTER TABLE {world.table} DROP COLUMN changed")
    world.run(f"ALTER TABLE {world.table} ADD COLUMN changed {second}")
    world.run(f"UPDATE {world.table} SET changed = :changed", {"changed": new_value})
    world.add({"id": 2, "body": "new", "changed": new_value})

    events = await events_since(connector, before)

    assert ids_of(events) == ["1", "2"]
    assert ScanComplete() in events
    assert ScanIncremental() in await events_since(connector, checkpoint_of(events))


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMPTZ", "DATE"])
@pytest.mark.parametrize("value", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
async def test_a_time_that_python_does_not_have_hides_no_row(world: SqlWorld, kind: str, value: str) -> None:
    """One such row made every listing fail."""
    if world.kind != "postgresql":
        pytest.skip("other databases have no such times")
    make_numbered(world, kind, "2026-11-27 02:00:00+00", value)
    connector = connector_at(world, modified_at="changed", metadata="changed")
    everything = await events_since(connector, None)
    world.add({"id": 3, "body": "new", "changed": "2026-11-27 11:00:00+00"})
    changed = await events_since(connector, checkpoint_of(everything))

    assert ids_of(everything) == ["1", "2"]
    assert [event.modified_at is None for event in everything if isinstance(event, DocumentRef)] == [False, True]
    assert ScanIncremental() in changed
    assert "3" in ids_of(changed)


async def test_a_cursor_that_has_no_highest_value_is_an_error_in_the_words_of_the_database(world: SqlWorld) -> None:
    """`UndefinedFunction (42883)` alone names neither the column nor what is wrong with it."""
    if world.kind != "postgresql":
        pytest.skip("other databases compare everything")
    make_numbered(world, "JSONB", "{}")

    with pytest.raises(SourceError, match="max"):
        await events_since(connector_at(world), None)


# ------------------------------------------------------------------------------------- everything, once in a while


async def test_all_rows_are_listed_once_in_so_many_hours(sqlite: SqlWorld) -> None:
    """Only that shows what is gone, or was edited and kept its time; and what is between moves the hour no further."""
    make_numbered(sqlite, "INTEGER", 1, 2, 3)
    first = await events_since(connector_at(sqlite), None)
    hours_later = {}
    since = checkpoint_of(first)
    for hours in (1, 23.9, 24, 25, 48):
        events = await events_since(connector_at(sqlite, NOW + timedelta(hours=hours)), since)
        since = checkpoint_of(events)
        hours_later[hours] = ScanComplete() in events

    assert hours_later == {1: False, 23.9: False, 24: True, 25: False, 48: True}


@pytest.mark.parametrize(
    "checkpoint",
    [
        *("", "7", "{}", "null", '{"kind": "time", "newest": "soon", "full_at": "2026-11-27T12:00:00+00:00"}'),
        '{"kind": "time", "newest": "2026-11-27T11:00:00", "full_at": "2026-11-27T12:00:01+00:00"}',  # not yet
        '{"kind": "colour", "newest": "red", "full_at": "2026-11-27T12:00:00+00:00"}',
    ],
)
async def test_a_checkpoint_that_says_nothing_lists_everything(sqlite: SqlWorld, checkpoint: str) -> None:
    """Of another version, say, or of a clock that was wrong."""
    make_numbered(sqlite, "INTEGER", 1, 2, 3)

    events = await events_since(connector_at(sqlite), Checkpoint(checkpoint))

    assert ids_of(events) == ["1", "2", "3"]
    assert ScanComplete() in events


async def test_a_time_in_the_future_hides_no_change(world: SqlWorld) -> None:
    """One mistyped year would hide all edits until the next complete listing."""
    make_numbered(world, "TIMESTAMP NULL", "2026-11-27 11:00:00", "2037-01-01 00:00:00")
    connector = connector_at(world, cursor_overlap=60)
    before = checkpoint_of(await events_since(connector, None))
    world.run(f"UPDATE {world.table} SET body = 'other', changed = '2026-11-27 12:00:30' WHERE id = 1")

    assert ids_of(await events_since(connector, before)) == ["1", "2"]


async def test_a_time_in_the_future_hides_no_change_in_the_local_time_of_the_west(sqlite: SqlWorld) -> None:
    """A table that is kept in the time of Los Angeles: what changes there now has a time of eight hours ago."""
    make_numbered(sqlite, "TIMESTAMP", "2026-11-27 03:00:00", "2037-01-01 00:00:00")
    connector = connector_at(sqlite, cursor_overlap=3600)
    before = checkpoint_of(await events_since(connector, None))
    sqlite.run(f"UPDATE {sqlite.table} SET body = 'other', changed = '2026-11-27 04:00:30' WHERE id = 1")

    assert "1" in ids_of(await events_since(connector, before))


async def test_a_listing_with_a_fault_moves_no_checkpoint(sqlite: SqlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one must list again what this one did not show."""
    make_numbered(sqlite, "INTEGER", 1, 2, 3, 4)
    before = checkpoint_of(await events_since(connector_at(sqlite), None))
    sqlite.run(f"UPDATE {sqlite.table} SET changed = 9")
    pages: list[str] = []

    def fail(statement: str) -> Exception | None:
        if "ORDER BY" not in statement:
            return None
        pages.append(statement)
        return ConnectionResetError("secret words") if len(pages) > 1 else None

    watched(monkeypatch, fail)

    events = await events_since(connector_at(sqlite, page_rows=2), before)

    assert ids_of(events) == ["1", "2"]
    assert [type(event) for event in events[2:]] == [ScanError]


async def test_a_complete_listing_with_a_fault_is_made_again(sqlite: SqlWorld) -> None:
    """Rows without a key are no reason to conclude that the others were all there is."""
    sqlite.make("id INTEGER, body TEXT, changed INTEGER")
    sqlite.add({"id": None, "body": "text", "changed": 1}, {"id": 2, "body": "text", "changed": 2})

    events = await events_since(connector_at(sqlite), None)

    assert checkpoint_of(events) is None
    assert [event.code for event in events if isinstance(event, ScanError)] == ["null_id"]


# ------------------------------------------------------------------------------------------------ whole runs


async def test_edits_arrive_with_the_next_run_and_removals_with_the_next_complete_one(
    world: SqlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run without changes asks for no text, and sends nothing."""
    make_numbered(world, "INTEGER", *range(1, 31))
    connector = connector_at(world)
    memory = MemoryDestination()
    runs = AnyWorld(connector, memory)
    statements = watched(monkeypatch)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as runs.state:
        await runs.do()
        memory.requests.clear()
        statements.clear()
        unchanged = await runs.do()
        asked = [statement for statement in statements if "body" in statement]
        assert memory.requests == []

        world.run(f"UPDATE {world.table} SET body = 'edited', changed = 40 WHERE id = 3")
        world.run(f"DELETE FROM {world.table} WHERE id = 7")
        edited = await runs.do()
        after_edit = runs.texts()

        connector._now = lambda: NOW + timedelta(hours=24)
        complete = await runs.do()

    assert (unchanged.documents.seen, len(asked)) == (1, 1)
    assert (edited.documents.changed, edited.documents.removed) == (1, 0)
    assert "edited" in after_edit
    assert "text of 7" in after_edit
    assert (complete.documents.seen, complete.documents.removed) == (29, 1)
    assert runs.texts() == sorted([*(f"text of {n}" for n in range(1, 31) if n not in (3, 7)), "edited"])


async def test_what_could_not_be_read_is_not_forgotten(sqlite: SqlWorld) -> None:
    """It does not change again: a listing of what has changed would never show it."""
    make_numbered(sqlite, "INTEGER", 1, 2)
    sqlite.add({"id": 3, "body": "x" * 200, "changed": 3})
    memory = MemoryDestination()
    runs = AnyWorld(connector_at(sqlite, max_bytes=100), memory)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as runs.state:
        first = await runs.do()
        sqlite.add({"id": 4, "body": "text of 4", "changed": 90})
        second = await runs.do()
        runs.source = connector_at(sqlite)
        third = await runs.do()

    assert [report.documents.failed for report in (first, second, third)] == [1, 1, 0]
    assert runs.texts() == sorted(["text of 1", "text of 2", "text of 4", "x" * 200])


# ---------------------------------------------------------------------------------------------- values alone

ZONE = timezone(timedelta(hours=9))
naive = datetime.fromisoformat


@pytest.mark.parametrize(
    ("newest", "overlap", "lowest"),
    [
        (naive("2026-03-01"), 1.5, naive("2026-02-28 23:59:58.5")),
        (datetime(2026, 3, 1, tzinfo=ZONE), 3600, datetime(2026, 2, 28, 23, tzinfo=ZONE)),
        (naive("0001-01-01"), 3600, naive("0001-01-01")),
        (date(2026, 3, 1), 0, date(2026, 3, 1)),
        (date(2026, 3, 1), 1, date(2026, 2, 28)),
        (100, 0, 100),
        (100, 0.5, 99),
        (0.5, 1, -0.5),
        (Decimal(99999999999999999999999999999999999999), 1, Decimal("9.999999999999999999999999999E+37")),
        ("2026-03-01", 1, "2026-02-28"),
        ("2026-03-01 00:00", 60, "2026-02-28 23:59"),
        ("2026-03-01T00:00:00.999+09:00", 1, "2026-02-28T23:59:59"),
    ],
)
def test_the_bound_lies_the_overlap_before_the_newest(newest: CursorValue, overlap: float, lowest: CursorValue) -> None:
    """And is of the same kind and form, as a database compares it."""
    found = lower_bound(newest, overlap)

    assert (found, type(found)) == (lowest, type(lowest))


@pytest.mark.parametrize(
    ("value", "counted"),
    [
        (naive("2030-01-01"), naive("2026-11-27 00:00:00")),
        (naive("2026-11-28 02:00:00"), naive("2026-11-27 12:00:00")),
        (datetime(2030, 1, 1, tzinfo=ZONE), NOW),
        (date(2030, 1, 1), date(2026, 11, 27)),
        ("2030-01-01", "2026-11-27"),
        ("2030-01-01 00:00", "2026-11-27 00:00"),
        ("2030-01-01T00:00:00.5Z", "2026-11-27T00:00:00"),
        ("2026-11-28T01:00:00.5Z", "2026-11-27T12:00:00"),
        ("2026-11-27T11:59:59.9Z", "2026-11-27T11:59:59.9Z"),
        (10**18, 10**18),
        (None, None),
    ],
)
def test_the_newest_time_is_never_later_than_now(value: object, counted: object) -> None:
    assert cursor_value(value, NOW) == counted


@pytest.mark.parametrize("value", [True, float("nan"), Decimal("Infinity"), timedelta(1), "", "2026-11-27 ", b"1"])
def test_what_is_neither_time_nor_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="neither"):
        cursor_value(value, NOW)


@pytest.mark.parametrize(
    "newest",
    [
        *(None, 7, -1.25, Decimal("1.10"), "2026-11-27 12:00:00", date(2026, 3, 1)),
        *(naive("2026-03-01 01:02:03.000004"), datetime(2026, 3, 1, tzinfo=ZONE)),
    ],
)
def test_a_checkpoint_says_what_was_listed(newest: CursorValue | None) -> None:
    """To the microsecond, and of the same kind: a number is not compared with text."""
    listed = ListedRows(newest, NOW)

    read = ListedRows.from_checkpoint(listed.to_checkpoint())

    assert read == listed
    assert read is not None
    assert type(read.newest) is type(newest)
