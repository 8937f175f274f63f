"""The probe finds out how a service behaves, here one of which that is known, in no time: the clock is the test's."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
import pytest
from aiohttp import web

from pipeline.destinations.agentcore import AgentCoreConnection
from pipeline.doctor.account import Account, open_account
from pipeline.doctor.probe import NAMESPACE, TOKEN_AGES, Probe
from pipeline.errors import ConfigurationError, RetryableError
from pipeline.local_memory import Faults, LocalMemory
from pipeline.runs.measured import Measured
from tests.destinations.front import Front, error

MEMORY_ID = "throwaway-a1B2c3D4e5"


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await anyio.lowlevel.checkpoint()


def account_at(url: str) -> Any:
    return open_account(AgentCoreConnection(MEMORY_ID, "us-east-1", url, credentials=("local", "local")))


@asynccontextmanager
async def service(faults: Faults | None = None, **options: Any) -> AsyncIterator[tuple[LocalMemory, Account, Clock]]:
    clock = Clock()
    async with (
        LocalMemory.serve(memories=[MEMORY_ID], clock=clock, faults=faults or Faults(), **options) as server,
        account_at(server.url) as account,
    ):
        yield server, account, clock


def probe(account: Account, clock: Clock, tell: Callable[[str], None] = lambda _: None) -> Probe:
    return Probe(account, 900.0, tell, clock.sleep, clock, clock)


async def measure(faults: Faults | None = None, **options: Any) -> Measured:
    async with service(faults, **options) as (server, account, clock):
        measured = await probe(account, clock).measure("us-east-1")
        assert server.records(MEMORY_ID) == []
    return measured


# ------------------------------------------------------------------------------------------------- findings


async def test_lags_are_measured_as_they_are() -> None:
    """A lag that was measured too short writes records twice; the time between two looks may come on top."""
    measured = await measure(Faults(list_lag_s=20.0, update_lag_s=10.0))

    assert measured.get_lag_s == 0.0
    assert measured.update_lag_s is not None
    assert 10.0 <= measured.update_lag_s < 12.0
    for lag_s in (measured.list_lag_s, measured.search_lag_s):
        assert lag_s is not None
        assert 20.0 <= lag_s < 22.0


async def test_what_does_not_show_in_time_is_not_known() -> None:
    """Waiting for ever would end no probe; and a made-up number would be believed."""
    measured = await measure(Faults(list_lag_s=1_000.0))

    assert (measured.list_lag_s, measured.search_lag_s) == (None, None)
    assert measured.update_lag_s == 0.0


@pytest.mark.parametrize(
    ("token_memory_s", "recognised_s", "forgotten_s"),
    [(10.0, None, 60.0), (500.0, 300.0, 600.0), (3_600.0, 900.0, None)],
)
async def test_how_long_a_token_is_remembered(
    token_memory_s: float, recognised_s: float | None, forgotten_s: float | None
) -> None:
    """Each is tried at one age only: a token that was tried might be remembered for longer because of it."""
    measured = await measure(token_memory_s=token_memory_s)

    assert (measured.token_recognised_s, measured.token_forgotten_s) == (recognised_s, forgotten_s)
    assert len(TOKEN_AGES) == 4


@pytest.mark.parametrize(
    ("refused", "limit"), [("", "characters"), ("\U0001f600", "utf16"), ("é", "bytes"), ("xx", None)]
)
async def test_what_texts_are_counted_in(refused: str, limit: str | None) -> None:
    """As long as it is not known, memsync stays below all of them."""
    measured = await measure(Faults(poison_text=refused) if refused else None)

    assert measured.text_limit == limit


async def test_a_bad_record_that_takes_the_others_down() -> None:
    """The local memory names it, as AWS's model says."""
    assert (await measure()).bad_record == "refuses_all_and_is_named"


async def outcome_of_bad_record(failed: set[int], *, refuses: bool = False) -> str:
    """What the probe makes of a service that fails the records at these places."""

    async def respond(request: web.Request) -> web.StreamResponse:
        records = orjson.loads(await request.read())["records"]
        said: dict[str, list[dict[str, Any]]] = {"successfulRecords": [], "failedRecords": []}
        for place, record in enumerate(records):
            kind, status = ("failedRecords", "FAILED") if place in failed else ("successfulRecords", "SUCCEEDED")
            said[kind].append(
                {
                    "memoryRecordId": f"mem-{place}",
                    "status": status,
                    "requestIdentifier": record["requestIdentifier"],
                }
            )
        return web.Response(status=201, body=orjson.dumps(said), content_type="application/json")

    async with Front.serve() as front, account_at(front.url) as account:
        front.answers.append(error(400, "ValidationException") if refuses else respond)
        outcome: str = await probe(account, Clock())._bad_record()
    return outcome


async def test_a_bad_record_elsewhere() -> None:
    """Services differ; each answer has its word."""
    assert await outcome_of_bad_record({1}) == "fails_alone"
    assert await outcome_of_bad_record(set()) == "is_stored"
    assert await outcome_of_bad_record(set(), refuses=True) == "refuses_all"


async def test_metadata_comes_back_and_an_update_replaces_it() -> None:
    """Whoever sent a part of the map would lose the rest."""
    measured = await measure(Faults(update_lag_s=10.0))

    assert (measured.metadata_lost, measured.update_of_metadata) == ((), "replaces")


# ----------------------------------------------------------------------------------------- whose memory it is


async def write(server: LocalMemory, namespace: str) -> None:
    async with account_at(server.url) as account:
        record = {
            "requestIdentifier": "a",
            "namespaces": [namespace],
            "content": {"text": "of somebody"},
            "timestamp": 1_750_000_000,
        }
        await account.ask("bedrock-agentcore", "batch_create_memory_records", memoryId=MEMORY_ID, records=[record])


async def test_a_memory_that_holds_records_is_left_alone() -> None:
    """One wrong id on the command line must not cost anybody a memory."""
    async with service() as (server, account, clock):
        await write(server, "/docs/handbook/")

        with pytest.raises(ConfigurationError, match="holds records, such as in the namespace '/docs/handbook/'"):
            await probe(account, clock).measure("us-east-1")

        assert [record.text for record in server.records(MEMORY_ID)] == ["of somebody"]
        assert server.requests["BatchCreateMemoryRecords", 201] == 1
        assert server.requests["BatchDeleteMemoryRecords", 200] == 0


async def test_a_memory_whose_records_are_too_new_to_be_listed_is_not_written_to() -> None:
    """A listing shows what was written after a minute: until then, a memory that is in use looks empty."""
    async with service(Faults(list_lag_s=65.0)) as (server, account, clock):
        await write(server, "/docs/handbook/")

        with pytest.raises(ConfigurationError, match="holds records, such as in the namespace '/docs/handbook/'"):
            await probe(account, clock).measure("us-east-1")

        assert server.requests["BatchCreateMemoryRecords", 201] == 1


async def test_what_an_interrupted_probe_left_is_deleted() -> None:
    """Nobody else would."""
    async with service() as (server, account, clock):
        await write(server, f"{NAMESPACE}left/")

        await probe(account, clock).measure("us-east-1")

        assert server.records(MEMORY_ID) == []


async def test_a_probe_that_fails_half_way_deletes_what_it_wrote() -> None:
    """The service may be down for a moment; what was written so far must not stay."""
    down = ("RetrieveMemoryRecords:error_before_write",) * 2  # botocore tries a second time
    async with service(Faults(script=down)) as (server, account, clock):
        with pytest.raises(RetryableError):
            await probe(account, clock).measure("us-east-1")

        assert server.requests["BatchCreateMemoryRecords", 201] > 0
        assert server.records(MEMORY_ID) == []


async def test_what_cannot_be_deleted_is_told() -> None:
    """Then it is there until the next probe, and whoever owns the memory should know."""
    told: list[str] = []
    denied = ("BatchDeleteMemoryRecords:access_denied",)
    async with service(Faults(script=denied)) as (server, account, clock):
        await probe(account, clock, told.append).measure("us-east-1")

        assert server.records(MEMORY_ID)
    assert told[-1].startswith(f"could not delete what it wrote below {NAMESPACE}")


async def test_a_throttled_probe_waits_and_goes_on() -> None:
    """Others use the same quota."""
    async with service(Faults(script=("BatchCreateMemoryRecords:throttle",) * 4)) as (_, account, clock):
        measured = await probe(account, clock).measure("us-east-1")

    assert measured.text_limit == "characters"
