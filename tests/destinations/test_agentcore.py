"""AgentCore as a destination: the contract over HTTP, the bytes on the wire, and every way in which it can fail."""

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiobotocore.session import AioSession
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from pipeline.destinations.agentcore import (
    AgentCoreConnection,
    AgentCoreDestination,
    from_client_error,
    open_agentcore,
    read_answer,
)
from pipeline.errors import BatchRefused, DestinationError, FatalError, RetryableError
from pipeline.local_memory import Faults, LocalMemory
from pipeline.model import Batch, Call, Change, Create, Delete, MemoryRecordId, Record, RecordKey, Update
from tests.contract.destination import (
    ABSENT,
    WRITTEN_AT,
    DestinationContract,
    batch_of,
    creates,
    known,
    record,
    store,
)
from tests.destinations.front import Answer, Front, answer, break_off, drop, error
from tests.pipeline.examples import gate

MEMORY_ID = "handbook-a1B2c3D4e5"
ABSENT_MEMORY_ID = "nobody-a1B2c3D4e5"
REGION = "us-east-1"
KEY_ID, SECRET = "local", "local"


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's AWS configuration and proxies reaches a test."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))


def connection(url: str | None, **settings: Any) -> AgentCoreConnection:
    defaults = AgentCoreConnection(MEMORY_ID, REGION, url, credentials=(KEY_ID, SECRET))
    return replace(defaults, **settings)


class AgentCoreWorld:
    """A `DestinationWorld` of a local memory, with a front before it that sees the bytes."""

    def __init__(self, server: LocalMemory, front: Front, destination: AgentCoreDestination, stranger: Any) -> None:
        self.server = server
        self.front = front
        self.destination = destination
        self._stranger: AgentCoreDestination = stranger

    def without_memory(self) -> AgentCoreDestination:
        return self._stranger

    def stored(self) -> Mapping[MemoryRecordId, str]:
        return {MemoryRecordId(stored.record_id): stored.text for stored in self.server.records(MEMORY_ID)}

    def throttle_next(self, retry_after_s: float) -> None:
        self.front.answers.append(error(429, "ThrottledException", Retry_After=str(retry_after_s)))

    def fail_next(self, *, is_written: bool) -> None:
        self._play("error_after_write" if is_written else "error_before_write")

    def lose_next_reply(self) -> None:
        self._play("drop_after_write")

    def omit_from_next_answer(self) -> None:
        self._play("omit_record")

    def reject(self, text_fragment: str, code: int) -> None:
        self.server.faults = replace(self.server.faults, reject_text=text_fragment, reject_code=code)

    def refuse_batches_with(self, text_fragment: str, *, named: bool) -> None:
        self.server.faults = replace(self.server.faults, poison_text=text_fragment, poison_is_named=named)

    def _play(self, mishap: str) -> None:
        self.server.faults = replace(self.server.faults, script=(mishap,))


@pytest.fixture
async def world() -> AsyncIterator[AgentCoreWorld]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(LocalMemory.serve(memories=[MEMORY_ID]))
        front = await stack.enter_async_context(Front.serve(server.url))
        destination = await stack.enter_async_context(open_agentcore(connection(front.url), gate()))
        stranger = await stack.enter_async_context(
            open_agentcore(connection(front.url, memory_id=ABSENT_MEMORY_ID), gate())
        )
        yield AgentCoreWorld(server, front, destination, stranger)


class TestAgentCoreDestination(DestinationContract):
    """The contract, over real HTTP."""


# ------------------------------------------------------------------------------------------ bytes on the wire

WORDS = '"quoted", naïve, 日本語 🧭\n'
STORED = known(record("first"), ABSENT)
RICH = record(WORDS, metadata={"tags": ("a", "b"), "weight": 0.5, "team": "support"}, strategy_id="facts-a1B2c3D4e5")
RICH_CONTENT = {
    "content": {"text": WORDS},
    "namespaces": ["/docs/handbook/"],
    "timestamp": WRITTEN_AT,
    "memoryStrategyId": "facts-a1B2c3D4e5",
    "metadata": {
        "tags": {"stringListValue": ["a", "b"]},
        "weight": {"numberValue": 0.5},
        "team": {"stringValue": "support"},
    },
}


def operations() -> Mapping[str, tuple[Change, str, dict[str, Any]]]:
    """For each operation: a change, the client's method for it, and that method's parameters."""
    return {
        "create": (
            Create(RICH),
            "batch_create_memory_records",
            {"records": [{"requestIdentifier": RICH.key, **RICH_CONTENT}], "clientToken": "token-1"},
        ),
        "update": (
            Update(STORED, RICH),
            "batch_update_memory_records",
            {"records": [{"memoryRecordId": ABSENT, **RICH_CONTENT}]},
        ),
        "move": (
            Update(STORED._replace(namespace="/docs/manual/"), RICH),
            "batch_update_memory_records",
            {"records": [{"memoryRecordId": ABSENT, "sourceNamespaces": ["/docs/manual/"], **RICH_CONTENT}]},
        ),
        "delete": (
            Delete(STORED),
            "batch_delete_memory_records",
            {"records": [{"memoryRecordId": ABSENT, "namespace": "/docs/handbook/"}]},
        ),
    }


@pytest.mark.parametrize("name", operations())
async def test_the_bytes_of_the_outbox_are_the_bytes_that_arrive(world: AgentCoreWorld, name: str) -> None:
    """The same token always goes with the same bytes only if nobody writes them anew on the way."""
    change, _, _ = operations()[name]
    batch = batch_of(world.destination, [change])

    await world.destination.write(batch)
    await world.destination.write(batch)

    assert [arrived.body for arrived in world.front.arrived] == [batch.body, batch.body]


@pytest.mark.parametrize("name", operations())
async def test_our_request_says_what_a_stock_client_would_say(world: AgentCoreWorld, name: str) -> None:
    """We bypass botocore's serializer, so its own words are the judge of ours."""
    change, method, parameters = operations()[name]
    await world.destination.write(batch_of(world.destination, [change]))

    async with AioSession().create_client(
        "bedrock-agentcore",
        region_name=REGION,
        endpoint_url=world.front.url,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    ) as client:
        await getattr(client, method)(memoryId=MEMORY_ID, **parameters)

    ours, theirs = world.front.arrived
    assert orjson.loads(ours.body) == orjson.loads(theirs.body)
    assert (ours.method, ours.url) == (theirs.method, theirs.url)
    assert ours.headers["Content-Type"] == theirs.headers["Content-Type"]


async def test_the_signature_covers_the_bytes_that_arrive(world: AgentCoreWorld) -> None:
    """The local memory checks no signature; AWS does, and a body swapped after signing would be refused."""
    await world.destination.write(creates(world.destination, WORDS))

    (arrived,) = world.front.arrived
    _, _, signed = arrived.headers["Authorization"].partition("SignedHeaders=")
    names = signed.partition(",")[0].split(";")
    request = AWSRequest(
        arrived.method, arrived.url, {name: arrived.headers[name] for name in names}, data=arrived.body
    )
    request.context["timestamp"] = arrived.headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials(KEY_ID, SECRET), "bedrock-agentcore", REGION)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert arrived.headers["Authorization"].endswith(f"Signature={expected}")


async def test_one_call_is_one_request(world: AgentCoreWorld) -> None:
    """Retries inside the client would hide throttling from the pacer."""
    for status in (429, 500, 503):
        world.front.answers.append(answer(status))
        with pytest.raises(RetryableError):
            await world.destination.write(creates(world.destination, "first"))

    assert len(world.front.arrived) == 3


async def test_an_unused_destination_sends_and_loads_nothing() -> None:
    """A run that has nothing to send pays for no client; not even wrong settings come to light."""
    async with open_agentcore(connection("no URL at all", profile="nobody"), gate()) as destination:
        assert destination.check(Create(record("first"))) is None


# ----------------------------------------------------------------------------------- errors that AWS has a name for

SERVICE = ServiceModel(Loader().load_service_model("bedrock-agentcore", "service-2"))
BATCH_OPERATIONS = ("BatchCreateMemoryRecords", "BatchUpdateMemoryRecords", "BatchDeleteMemoryRecords")
READING_OPERATIONS = ("ListMemoryRecords", "RetrieveMemoryRecords", "GetMemoryRecord")
MODELLED = {
    (shape.name, shape.metadata["error"]["httpStatusCode"])
    for name in (*BATCH_OPERATIONS, *READING_OPERATIONS)
    for shape in SERVICE.operation_model(name).error_shapes
}

CLASSIFIED: dict[str, type[DestinationError]] = {
    "AccessDeniedException": FatalError,
    "InvalidInputException": BatchRefused,
    "ResourceNotFoundException": FatalError,
    "ServiceException": RetryableError,
    "ServiceQuotaExceededException": FatalError,
    "ThrottledException": RetryableError,
    "ValidationException": BatchRefused,
}


def client_error(code: str, status: int, **members: Any) -> ClientError:
    """What botocore raises for an error of the service."""
    response = {
        "Error": {"Code": code, "Message": "words of the service"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
        **members,
    }
    return ClientError(response, "BatchCreateMemoryRecords")


@pytest.mark.parametrize(("code", "status"), sorted(MODELLED))
def test_every_error_of_the_service_model_is_classified(code: str, status: int) -> None:
    """An error that a new botocore brings along fails here until someone has decided what to do about it."""
    assert code in CLASSIFIED, f"{code} ({status}) is new: decide what is to be done about it"

    mapped = from_client_error(client_error(code, status), "the call")

    assert type(mapped) is CLASSIFIED[code]
    assert mapped.code == code
    assert "words of the service" in str(mapped)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ExpiredToken", 403),
        ("ExpiredTokenException", 403),
        ("IncompleteSignature", 400),
        ("InvalidClientTokenId", 403),
        ("InvalidSignatureException", 403),
        ("MissingAuthenticationToken", 403),
        ("NotAuthorized", 401),
        ("OptInRequired", 403),
        ("RequestExpired", 400),
        ("RequestTimeTooSkewed", 403),
        ("SignatureDoesNotMatch", 403),
        ("UnrecognizedClientException", 403),
        ("UnknownOperationException", 404),
        ("404", 404),
        ("405", 405),
        ("301", 301),
        ("402", 402),
    ],
)
def test_what_no_retry_heals_stops_the_run_and_says_what_to_check(code: str, status: int) -> None:
    """Wrong credentials or a wrong address are nobody's dead letter."""
    mapped = from_client_error(client_error(code, status), "the call")

    assert type(mapped) is FatalError
    _, _, advice = str(mapped).partition("'words of the service'. ")
    assert advice.strip(), "the message ends without a word on what to do"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("429", 429),
        ("RequestThrottled", 400),
        ("RequestThrottledException", 400),
        ("SlowDown", 503),
        ("Throttling", 400),
        ("ThrottlingException", 400),
        ("TooManyRequestsException", 429),
    ],
)
def test_a_throttle_is_known_by_its_code_or_its_status(code: str, status: int) -> None:
    """AWS's older throttles come with a 400, a proxy's with no code at all."""
    mapped = from_client_error(client_error(code, status), "the call")

    assert type(mapped) is RetryableError
    assert mapped.is_throttle


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InternalFailure", 500),
        ("ServiceUnavailable", 503),
        ("RequestTimeout", 400),
        ("RequestTimeoutException", 408),
        ("ConflictException", 409),
        ("408", 408),
        ("409", 409),
        ("502", 502),
        ("503", 503),
        ("504", 504),
        ("Unknown", 0),
    ],
)
def test_what_passes_by_itself_is_sent_again(code: str, status: int) -> None:
    """The write may have happened: the same bytes with the same token tell."""
    mapped = from_client_error(client_error(code, status), "the call")

    assert type(mapped) is RetryableError
    assert not mapped.is_throttle


@pytest.mark.parametrize("code", ["413", "RequestEntityTooLargeException"])
def test_a_request_that_is_too_large_is_refused_and_so_cut(code: str) -> None:
    """Where the service draws the line is not documented; halves pass where the whole did not."""
    mapped = from_client_error(client_error(code, 413), "the call")

    assert type(mapped) is BatchRefused
    assert mapped.culprits == {}


def test_a_token_with_other_bytes_is_called_our_own_fault() -> None:
    """It comes as a ValidationException, and halving the batch would only spread it."""
    mismatch = client_error("ValidationException", 400, reason="IdempotentParameterMismatchException")

    mapped = from_client_error(mismatch, "the call")

    assert type(mapped) is FatalError
    assert "report" in str(mapped)


@pytest.mark.parametrize(
    ("field", "index"),
    [
        ("records.3.content.text", 3),
        ("records[3].content.text", 3),
        ("/records/3/content", 3),
        ("records.member.3.content", 3),
        ("clientToken", None),
        ("", None),
    ],
)
def test_culprits_are_read_from_the_names_of_fields(field: str, index: int | None) -> None:
    """How the service words them is not documented; one that cannot be read only costs the halving."""
    refusal = client_error("ValidationException", 400, fieldList=[{"name": field, "message": "is not valid"}])

    mapped = from_client_error(refusal, "the call")

    assert isinstance(mapped, BatchRefused)
    assert mapped.culprits == ({} if index is None else {index: "is not valid"})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0.0), ("1.5", 1.5), ("-3", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("soon", None), (None, None)],
)
def test_the_wish_to_wait_is_read_where_it_is_a_number(header: str | None, seconds: float | None) -> None:
    """A wish that cannot be read is no wish: the pacer then has its own."""
    throttled = client_error("ThrottledException", 429)
    throttled.response["ResponseMetadata"]["HTTPHeaders"] = {} if header is None else {"retry-after": header}

    mapped = from_client_error(throttled, "the call")

    assert isinstance(mapped, RetryableError)
    assert mapped.retry_after_s == seconds


# ----------------------------------------------------------------------------- errors before and instead of an answer


async def failure_of(settings: AgentCoreConnection) -> DestinationError:
    """How writing and looking up fail, which must be in the same way."""
    async with open_agentcore(settings, gate()) as destination:
        batch = creates(destination, "secret text")
        with pytest.raises(DestinationError) as writing:
            await destination.write(batch)
        with pytest.raises(DestinationError) as finding:
            await destination.find(batch.entries, saved_after=0.0)
    assert (type(writing.value), writing.value.code) == (type(finding.value), finding.value.code)
    assert "secret text" not in f"{writing.value} {finding.value}"
    return writing.value


async def failure_of_answers(an_answer: Answer) -> DestinationError:
    """How writing and looking up fail if the service answers so."""
    async with Front.serve() as front:
        front.answers.extend([an_answer, an_answer])
        return await failure_of(connection(front.url))


UNUSED_URL = "http://127.0.0.1:9"  # the discard port, where nobody listens


@pytest.mark.parametrize(
    ("settings", "code", "advice"),
    [
        ({"credentials": None}, "NoCredentialsError", "environment, profile (destination.profile) or role"),
        ({"region": None}, "NoRegionError", "Set destination.region"),
        ({"profile": "nobody"}, "ProfileNotFound", "Set destination.profile"),
        ({"endpoint_url": "memory.example:443"}, "ValueError", "Check destination.endpoint_url"),
        ({"region": "no region"}, "InvalidRegionError", "destination.region"),
        ({"memory_id": "short"}, "ParamValidationError", "Check destination.memory_id"),
    ],
)
async def test_wrong_settings_stop_the_run_and_are_named(settings: dict[str, Any], code: str, advice: str) -> None:
    """Nothing leaves the machine, so nothing is lost; the message names the setting."""
    failure = await failure_of(connection(UNUSED_URL, **settings))

    assert type(failure) is FatalError
    assert failure.code == code
    assert advice in str(failure)


@pytest.mark.parametrize("url", [UNUSED_URL, "https://memory.invalid"])
async def test_a_service_that_cannot_be_reached_is_tried_again(url: str) -> None:
    """A network that is down comes back; a wrong host does not, so both are named."""
    failure = await failure_of(connection(url))

    assert type(failure) is RetryableError
    assert not failure.is_throttle
    assert url in str(failure)
    assert "Check the network, destination.region and destination.endpoint_url" in str(failure)


async def test_credentials_that_aws_does_not_know_stop_the_run() -> None:
    """The service's own words come with what to check."""
    failure = await failure_of_answers(error(403, "UnrecognizedClientException"))

    assert type(failure) is FatalError
    assert "The AWS credentials are not valid. Check the profile" in str(failure)
    assert "words of the service" in str(failure)


async def test_an_answer_that_does_not_come_in_time_is_retryable() -> None:
    """Whether the write happens after all is unknown."""
    async with (
        LocalMemory.serve(memories=[MEMORY_ID], faults=Faults(latency_s=0.3)) as server,
        open_agentcore(connection(server.url, read_timeout_s=0.05), gate()) as destination,
    ):
        with pytest.raises(RetryableError) as caught:
            await destination.write(creates(destination, "first"))

    assert caught.value.code == "ReadTimeoutError"


@pytest.mark.parametrize("cut", [drop, break_off])
async def test_an_answer_that_breaks_off_is_retryable(cut: Answer) -> None:
    """The beginning of an answer says nothing of the records behind it."""
    assert type(await failure_of_answers(cut)) is RetryableError


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"<html>a login page</html>",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"successfulRecords": 5, "failedRecords": [], "memoryRecordSummaries": 5}',
        b'{"successfulRecords": [], "failedRecords": null}',
        b'{"successfulRecords": [5], "failedRecords": [], "memoryRecordSummaries": [5]}',
        orjson.dumps(
            {
                "successfulRecords": [{"requestIdentifier": "key-of-secret-text", "status": "SUCCEEDED"}],
                "failedRecords": [],
                "memoryRecordSummaries": [{"memoryRecordId": "mem"}],
            }
        ),
    ],
)
async def test_an_answer_that_cannot_be_read_is_retryable(body: bytes) -> None:
    """A success by its status, and whether anything was stored is unknown."""
    failure = await failure_of_answers(answer(201, body))

    assert type(failure) is RetryableError
    assert failure.code == "bad_answer"


async def test_an_unreadable_answer_is_not_repeated_in_the_message() -> None:
    """A listing holds the text of documents; messages go to logs."""
    failure = await failure_of_answers(answer(200, b'{"memoryRecordSummaries": "secret text \xff"}'))

    assert "secret text" not in str(failure)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, FatalError), (404, FatalError), (413, BatchRefused), (502, RetryableError)],
)
async def test_a_proxy_that_answers_in_html_is_judged_by_its_status(
    status: int, expected: type[DestinationError]
) -> None:
    """What stands between us and AWS knows nothing of its error codes."""
    failure = await failure_of_answers(answer(status, b"<html>gateway</html>", Content_Type="text/html"))

    assert type(failure) is expected


async def test_a_throttled_write_is_the_pipelines_and_a_throttled_look_up_asks_again(world: AgentCoreWorld) -> None:
    """Writes are paced by the pipeline; a verification of a large memory must not end at its first throttle."""
    batch = creates(world.destination, "first")
    throttled = answer(429, b"<html>gateway</html>", Content_Type="text/html")

    world.front.answers.append(throttled)
    with pytest.raises(RetryableError) as caught:
        await world.destination.write(batch)
    world.front.answers.append(throttled)
    found = await world.destination.find(batch.entries, saved_after=0.0)

    assert caught.value.is_throttle
    assert found == {}


@dataclass
class WatchedGate:
    """A gate that lets all through and says what it heard, in order."""

    heard: list[str] = field(default_factory=list)

    def turn(self, call: Call) -> "WatchedTurn":
        return WatchedTurn(call, self.heard)

    def know(self, limits: Mapping[Call, float]) -> None:
        raise AssertionError("nobody was asked for quotas")


@dataclass
class WatchedTurn:
    call: Call
    heard: list[str]
    closed_s: float = 0.0

    async def wait(self) -> None:
        self.heard.append(f"{self.call} waits")

    def taken(self) -> None:
        self.heard.append(f"{self.call} taken")

    def throttled(self, retry_after_s: float | None = None) -> None:
        self.heard.append(f"{self.call} throttled {retry_after_s}")


async def test_every_look_up_passes_the_gate_and_tells_it_what_came_of_it(world: AgentCoreWorld) -> None:
    """Agents read through the same quota: a verification of a large memory must leave them some of it."""
    gate = WatchedGate()
    async with open_agentcore(connection(world.front.url), gate) as destination:
        result = await destination.write(creates(destination, "first"))
        (memory_record_id,) = result.succeeded.values()
        assert gate.heard == [], "writes were let through by the pipeline"

        world.front.answers.append(error(429, "ThrottledException", Retry_After="2"))
        await destination.get(memory_record_id)
        await destination.search("first", namespace_path="/", count_max=1)
        async with aclosing(destination.list_records(namespace_path="/")) as pages:
            async for _ in pages:
                pass

    assert gate.heard == [
        *("get waits", "get throttled 2.0", "get waits", "get taken"),
        *("search waits", "search taken"),
        *("list waits", "list taken"),
    ]


async def test_a_connection_can_be_used_after_every_kind_of_failure(world: AgentCoreWorld) -> None:
    """One failure must not leak a connection out of the pool, which would end in silence."""
    async with open_agentcore(connection(world.front.url, concurrency=1), gate()) as destination:
        batch = creates(destination, "first")
        for an_answer in (drop, break_off, answer(201, b"garbage"), answer(500), error(429, "ThrottledException")):
            world.front.answers.append(an_answer)
            with pytest.raises(RetryableError):
                await destination.write(batch)

        result = await destination.write(batch)

    assert set(result.succeeded) == {"key-of-first"}


# ---------------------------------------------------------------------------------------------------- looking up

MANY = 250  # records of one namespace: three pages of a listing


@pytest.mark.parametrize(
    ("indexed_keys", "saved_after_s", "listings"),
    [
        ({"memsync-key": "STRING"}, 3600.0, 2),
        ({"memsync-key": "STRING"}, 0.0, 3),
        ({}, 3600.0, 3),
        ({"memsync-document": "STRING"}, 3600.0, 3),
    ],
)
async def test_a_long_namespace_is_not_listed_if_the_memory_can_filter_by_key(
    indexed_keys: dict[str, str], saved_after_s: float, listings: int
) -> None:
    """A request a record, instead of one for each hundred neighbours; but not if the index may be younger."""
    async with (
        LocalMemory.serve(memories=()) as server,
        open_agentcore(connection(server.url), gate()) as destination,
    ):
        server.create_memory(MEMORY_ID, indexed_keys)
        stored: dict[RecordKey, MemoryRecordId] = {}
        for start in range(0, MANY, 50):
            names = (f"{start + number}" for number in range(50))
            batch = creates(destination, *names, token=f"token-of-{start}")
            stored |= (await destination.write(batch)).succeeded
        sought = batch.entries[-1]

        found = await destination.find([sought], saved_after=time.time() + saved_after_s)

        assert {key: record.memory_record_id for key, record in found.items()} == {sought.key: stored[sought.key]}
        assert server.requests["ListMemoryRecords", 200] == listings


# ------------------------------------------------------------------------------------------- reading an answer


def offline() -> AgentCoreDestination:
    """A destination that only encodes."""
    return AgentCoreDestination(connection(None), gate())


def outcome(text: str, **members: Any) -> dict[str, Any]:
    """What an answer to a create says of one record that was stored."""
    ids = {"memoryRecordId": f"mem-of-{text}", "requestIdentifier": f"key-of-{text}"}
    return {**ids, "status": "SUCCEEDED", **members}


def failed(text: str, **members: Any) -> dict[str, Any]:
    return outcome(text, **{"status": "FAILED", "errorCode": 400, "errorMessage": "not this one", **members})


def said(batch: Batch, succeeded: Sequence[object] = (), failures: Sequence[object] = ()) -> dict[str, set[str]]:
    """The texts of `batch` in the three classes that the answer puts their records into."""
    result = read_answer(batch, {"successfulRecords": succeeded, "failedRecords": failures})
    named = {
        "succeeded": set(result.succeeded),
        "failed": {failure.key for failure in result.failed},
        "unknown": set(result.unknown),
    }
    assert sum(map(len, named.values())) == len(batch.entries), "every record is in exactly one class"
    return {name: {key.removeprefix("key-of-") for key in keys} for name, keys in named.items() if keys}


BATCH = creates(offline(), "a", "b", "c")
FINE = [outcome("a"), outcome("b")]


def test_outcomes_are_joined_by_identifier_and_not_by_position() -> None:
    """The order of an answer is not documented."""
    result = read_answer(BATCH, {"successfulRecords": [outcome("c"), outcome("a"), outcome("b")], "failedRecords": []})

    assert result.succeeded == {f"key-of-{text}": f"mem-of-{text}" for text in "abc"}


@pytest.mark.parametrize(
    "records",
    [
        pytest.param(([*FINE, outcome("c")], [failed("c")]), id="in both lists"),
        pytest.param(([*FINE, outcome("c"), outcome("c")], []), id="stored twice"),
        pytest.param(([*FINE, outcome("c"), outcome("c", memoryRecordId="mem-other")], []), id="stored as two"),
        pytest.param((FINE, [failed("c"), failed("c")]), id="failed twice"),
        pytest.param((FINE, []), id="missing"),
        pytest.param(([*FINE, outcome("stranger")], []), id="a stranger in its place"),
        pytest.param(([*FINE, {"memoryRecordId": "mem-1", "status": "SUCCEEDED"}], []), id="no identifier"),
        pytest.param(([*FINE, outcome("c", requestIdentifier=None)], []), id="null identifier"),
        pytest.param(([*FINE, outcome("c", status="FAILED")], []), id="failed among the stored"),
        pytest.param((FINE, [failed("c", status="SUCCEEDED")]), id="stored among the failed"),
        pytest.param(([*FINE, outcome("c", status="PENDING")], []), id="a status that is not known"),
    ],
)
def test_what_is_not_said_clearly_is_unknown(records: tuple[list[object], list[object]]) -> None:
    """Taken for stored, a record could be lost; taken for failed, it could be there twice."""
    succeeded, failures = records

    assert said(BATCH, succeeded, failures) == {"succeeded": {"a", "b"}, "unknown": {"c"}}


def test_an_empty_answer_leaves_everything_unknown() -> None:
    """An empty success is no success."""
    assert said(BATCH) == {"unknown": {"a", "b", "c"}}


def test_a_stranger_does_no_harm() -> None:
    """It belongs to no entry of ours, so there is nothing to record about it."""
    assert said(BATCH, [*FINE, outcome("c"), outcome("stranger")], [failed("stranger")]) == {
        "succeeded": {"a", "b", "c"}
    }


@pytest.mark.parametrize(
    ("code", "is_retryable"),
    [(400, False), (404, False), (409, False), (429, True), (500, True), (503, True), (None, False)],
)
def test_the_code_of_a_failed_create_tells_whether_it_may_heal(code: int | None, is_retryable: bool) -> None:
    """Without a code nothing speaks for trying again."""
    members = {} if code is None else {"errorCode": code}
    entry = {**outcome("a", status="FAILED"), **members}

    result = read_answer(creates(offline(), "a"), {"successfulRecords": [], "failedRecords": [entry]})

    (failure,) = result.failed
    assert (failure.code, failure.is_retryable) == ("unknown" if code is None else str(code), is_retryable)
    assert failure.message == "the service gave no reason"


@pytest.mark.parametrize("memory_record_id", [None, "", 7, ["mem-of-a"], {"id": "mem-of-a"}])
def test_a_success_without_a_usable_id_is_no_success(memory_record_id: object) -> None:
    """Nobody could ever name the record again: neither update nor delete it."""
    stored = [outcome("a", memoryRecordId=memory_record_id), outcome("b"), outcome("c")]

    assert said(BATCH, stored) == {"succeeded": {"b", "c"}, "unknown": {"a"}}


def changed(text: str) -> tuple[Record, MemoryRecordId]:
    return record(text), MemoryRecordId(f"mem-of-{text}")


def test_updates_are_joined_by_the_id_in_the_memory() -> None:
    """Their answers carry no identifier of ours; one that claims to must not mislead."""
    records = [changed(text) for text in "abc"]
    batch = batch_of(offline(), [Update(known(old, stored_as), old) for old, stored_as in records])
    answered = [outcome("c", requestIdentifier="key-of-a"), {"memoryRecordId": "mem-of-a", "status": "SUCCEEDED"}]

    result = read_answer(batch, {"successfulRecords": answered, "failedRecords": [failed("b", errorCode=404)]})

    assert result.succeeded == {"key-of-a": "mem-of-a", "key-of-c": "mem-of-c"}
    assert [(failure.key, failure.is_retryable) for failure in result.failed] == [("key-of-b", True)]


def test_an_update_that_gives_a_new_key_is_answered_under_the_new_one() -> None:
    """Settling looks the entry up by the key that the record has from now on."""
    old = known(record("a"), MemoryRecordId("mem-of-a"))._replace(key=RecordKey("old-key"))
    batch = batch_of(offline(), [Update(old, record("a"))])

    assert said(batch, [outcome("a")]) == {"succeeded": {"a"}}


def test_a_delete_of_what_is_gone_is_a_success_only_where_it_says_so() -> None:
    """404 means gone; any other failure leaves the record there, and twice is unclear."""
    records = [changed(text) for text in "abcd"]
    batch = batch_of(offline(), [Delete(known(old, stored_as)) for old, stored_as in records])
    failures = [failed("a", errorCode=404), failed("b", errorCode=403), failed("c", errorCode=404)]

    classes = said(batch, [outcome("c")], failures)

    assert classes == {"succeeded": {"a"}, "failed": {"b"}, "unknown": {"c", "d"}}


async def test_a_record_shows_with_what_was_stored(world: AgentCoreWorld) -> None:
    """Verification and search read the memory through the same eyes."""
    (stored,) = await store(world.destination, record("first words", metadata={"tags": ("a",), "weight": 0.5}))

    pages = [page async for page in world.destination.list_records(namespace_path="/docs/")]
    found = await world.destination.search("words", namespace_path="/", count_max=5)

    ((listed,),) = pages
    assert (listed.id, listed.text, listed.namespace) == (stored.memory_record_id, "first words", stored.namespace)
    assert (listed.metadata["tags"], listed.metadata["weight"]) == (("a",), 0.5)
    assert [(hit.id, hit.score is not None) for hit in found] == [(stored.memory_record_id, True)]
