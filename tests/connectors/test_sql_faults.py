"""Whatever a database answers, and when: no row that is there loses its records, and what was seen is stored.

Real runs of the pipeline between a real server and a memory, with each answer of a run spoilt on its way, and with
each statement failing in each way.
"""

import gc
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy

from connectors.sql.connector import SqlConnector
from tests.fakes.faulty_tcp import FaultyWire, WireFault, faulty_wire

from .spoilt_runs import BEFORE, SpoiltSource, hold_through
from .sql_servers import mariadb_server, postgresql_server
from .sql_world import FAULTS, SqlWorld, watched

PARTS = 5  # of the answers of a run: each test takes every fifth
STATEMENTS = 25  # more than a run has


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with mariadb_server() as url:
        yield url


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, FaultyWire, str]]:
    """A server's URL, a wire to it, and the URL at the wire's other end."""
    direct = sqlalchemy.make_url(request.getfixturevalue(request.param))
    if request.param == "postgresql":
        path = f"{direct.query['host']}/.s.PGSQL.5432"
        options = {"sslmode": "disable", "gssencmode": "disable"}
    else:
        path, options = str(direct.query["unix_socket"]), {"charset": "utf8mb4"}
    with faulty_wire(path) as wire:
        url = direct.set(host="127.0.0.1", port=wire.port, query=options)
        yield direct.render_as_string(hide_password=False), wire, url.render_as_string(hide_password=False)


def source_of(world: SqlWorld, read_url: str, **options: Any) -> SpoiltSource:
    """What the world holds, read three rows at a time.

    The rows of the first sync are of one moment, so that a run by a cursor always has as many statements.
    """
    written = count()

    def put(name: str, content: bytes) -> None:
        moment = datetime(2026, 1, 1) + timedelta(seconds=max(0, next(written) - len(BEFORE)))  # noqa: DTZ001
        world.run(f"DELETE FROM {world.table} WHERE id = :id", {"id": name})
        world.add({"id": name, "body": content.decode(), "updated_at": f"{moment}"})

    world.make("id VARCHAR(100) PRIMARY KEY, body TEXT, updated_at TIMESTAMP")
    connector = world.connector(url=read_url, page_rows=3, **options)
    return SpoiltSource(connector, put, lambda: None, lambda: None)


# SQLAlchemy forgets the cursor of a connection that is lost while it closes it.
@pytest.mark.filterwarnings("ignore:.*Cursor.* was deleted while still open:ResourceWarning")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", get_args(WireFault))
async def test_no_answer_that_is_spoilt_on_its_way_deletes_what_is_there(
    served: tuple[str, FaultyWire, str], tmp_path: Path, fault: WireFault, part: int
) -> None:
    """Cut, reset, halved, garbled, or for ever awaited; and once answers are whole again, so is the memory."""
    url, wire, read_url = served
    if url.startswith("mysql") and (fault in ("half", "garbage") or part):
        pytest.skip("the connector does the same for either server: a fifth of the answers will do")
    struck = 0
    for position in range(part, 1_000, PARTS):
        world = SqlWorld(url, tmp_path)
        source = source_of(world, read_url)
        connector = source.connector
        assert isinstance(connector, SqlConnector)
        patient = connector._settings
        impatient = patient.model_copy(update={"timeout_s": 0.4})

        def arm() -> None:
            wire.arm(fault, position)  # noqa: B023 - it is used up before the next
            if fault in ("silent", "garbage"):  # garbage may announce more than comes
                connector._settings = impatient  # noqa: B023

        def heal() -> None:
            wire.heal()
            connector._settings = patient  # noqa: B023

        source.arm, source.heal = arm, heal
        await hold_through(source, (fault, position))
        await connector.aclose()
        world.remove_root()
        world.engine.dispose()
        if not wire.has_struck:
            break
        struck += 1
    gc.collect()  # here, and not in another test
    assert struck >= 4


FAILURES = [*((fault, False) for fault in FAULTS), ("locked", True), ("reset", True)]


@pytest.mark.parametrize("options", [{}, {"cursor": "updated_at", "cursor_overlap": 0}], ids=["all", "by cursor"])
@pytest.mark.parametrize(("fault", "is_lasting"), FAILURES)
async def test_no_statement_that_fails_deletes_what_is_there(
    tmp_path: Path, fault: str, is_lasting: bool, options: dict[str, Any]
) -> None:
    """At each statement of a run, once or from then on; and what a listing by a cursor missed comes with the next."""
    struck = 0
    for position in range(STATEMENTS):
        world = SqlWorld("sqlite:///wiki.db", tmp_path)
        armed: list[int] = []

        def fail(_statement: str) -> Exception | None:
            nonlocal struck
            if not armed:  # noqa: B023 - it is used up before the next
                return None
            armed[0] -= 1  # noqa: B023
            if armed[0] == -1 or (is_lasting and armed[0] < 0):  # noqa: B023
                struck += armed[0] == -1  # noqa: B023
                return FAULTS[fault]()
            return None

        with pytest.MonkeyPatch.context() as patch:
            watched(patch, fail)
            source = source_of(world, world.url, **options)
            source.arm = lambda: armed.append(position)  # noqa: B023
            source.heal = armed.clear
            await hold_through(source, (fault, position))
            await source.connector.aclose()  # type: ignore[attr-defined]
        world.remove_root()
        world.engine.dispose()
    assert struck >= 10
