"""Amazon Bedrock AgentCore Memory, through aiobotocore: the only file that imports it.

The bytes that the outbox saved are the bytes that are sent: botocore would build a body of its own from parameters,
so its events hand it ours instead. That also skips its walk through every record, most of a request's cost; likewise
the answers are read by orjson, and judged by `read_answer`.
"""

import io
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

import orjson
from anyio import Lock

from pipeline.destinations.echoes import without_echoes
from pipeline.destinations.quotas import SERVICE as QUOTAS_SERVICE
from pipeline.destinations.quotas import read_quotas
from pipeline.errors import BatchRefused, DestinationError, FatalError, RetryableError
from pipeline.events import Observer, Wait, nobody, telling
from pipeline.limits import service_limits
from pipeline.model import (
    API_NAMES,
    NO_EXPIRY,
    ORDER_METADATA_KEY,
    Batch,
    BatchResult,
    Call,
    Change,
    ClientToken,
    Create,
    Delete,
    Entry,
    FailedRecord,
    KnownRecord,
    Lookup,
    MemoryRecord,
    MemoryRecordId,
    MetadataValue,
    Operation,
    Record,
    RecordContent,
    RecordKey,
)
from pipeline.protocols import Gate
from pipeline.provenance import DIGEST_METADATA_KEY, KEY_METADATA_KEY, key_of

# The service's own bound is not documented. 100 records of 16,000 bytes and their metadata stay below it.
REQUEST_BYTES_MAX = 4 * 1024 * 1024
DATA_SERVICE = "bedrock-agentcore"
CONTROL_SERVICE = "bedrock-agentcore-control"
QUOTAS_TIMEOUT_S = 3.0  # to connect, and to answer: a network may have no way there, and the first write waits
SHARE_OF_QUOTA = 0.95  # whoever uses all of it is refused now and then
FILTERED_KEYS_MAX = 1000  # a listing by key costs a request each, one of a namespace shows 100 records for one
CLOCK_DIFFERENCE_MAX_S = 300.0  # between this machine and AWS, which refuses requests of clocks that are further off

RECORDS_PER_PAGE = 100  # botocore bedrock-agentcore, shape MaxResults

Understood = TypeVar("Understood")

_BODY = "memsync_body"


@dataclass(frozen=True, slots=True)
class AgentCoreConnection:
    """How to reach one memory, with room for `concurrency` requests at once.

    Region, profile and credentials come the usual AWS way where they are None. `credentials` are a key id and a
    secret; they are for memories that check none. With `asks_quotas`, Service Quotas is asked for the account's rates.
    """

    memory_id: str
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    concurrency: int = 16
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    credentials: tuple[str, str] | None = None
    asks_quotas: bool = False


OpenClient = Callable[[AgentCoreConnection, str], AbstractAsyncContextManager[Any]]


class AgentCoreDestination:
    """One memory; made by `open_agentcore`. `open_client` makes the client of a service, given its name.

    Reads pass `gate` and tell `observe` what they wait for; writes are let through before they come here.
    """

    records_per_batch_max: ClassVar[int] = service_limits().records_per_request_max
    request_bytes_max: ClassVar[int] = REQUEST_BYTES_MAX

    def __init__(
        self,
        settings: AgentCoreConnection,
        gate: Gate,
        open_client: OpenClient | None = None,
        observe: Observer = nobody,
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._observe = observe
        self._open_client = open_client or _create_client
        self._memory_id = settings.memory_id
        self._limits = service_limits()
        self._clients: dict[str, Any] = {}
        self._client_made = Lock()
        self._closing = AsyncExitStack()

    async def _client(self, service: str = DATA_SERVICE) -> Any:
        """The one client of `service`, made for the first request: a run that has nothing to send does without."""
        # No waiting where there is nothing to make: a run that is stopped between its look at its lease and the
        # sending of the request sends it when it wakes up.
        if service in self._clients:
            return self._clients[service]
        async with self._client_made:
            if service not in self._clients:
                try:
                    if service == DATA_SERVICE and self._settings.asks_quotas:
                        await self._learn_quotas()
                    opening = self._open_client(self._settings, service)
                    self._clients[service] = await self._closing.enter_async_context(opening)
                except ValueError as error:  # an endpoint or a region that is none
                    raise FatalError(
                        f"No client for memory {self._memory_id}: {_first_line(error)}. Check destination.endpoint_url"
                        " and destination.region.",
                        code=type(error).__name__,
                    ) from error
        return self._clients[service]

    async def _learn_quotas(self) -> None:
        """Let the gate know the account's quotas. Whoever may not read them finds out by what is refused."""
        with suppress(DestinationError), service_errors("ListServiceQuotas"):
            async with self._open_client(self._settings, QUOTAS_SERVICE) as client:
                quotas = await read_quotas(client)
            self._gate.know({call: SHARE_OF_QUOTA * quota for call, quota in quotas.items()})

    async def aclose(self) -> None:
        await self._closing.aclose()

    # ------------------------------------------------------------------------------------------- requests

    def check(self, change: Change) -> str | None:
        return self._limits.breach(change)

    def encode(self, change: Change) -> bytes:
        if isinstance(change, Delete):
            return _dump({"memoryRecordId": change.known.memory_record_id, "namespace": change.known.namespace})
        record = change.record
        member: dict[str, Any] = (
            {"requestIdentifier": record.key}
            if isinstance(change, Create)
            else {"memoryRecordId": change.known.memory_record_id}
        )
        member |= _content(record)
        if not isinstance(change, Create) and change.known.namespace != record.namespace:
            member["sourceNamespaces"] = [change.known.namespace]
        return _dump(member)

    def encode_request(
        self, operation: Operation, members: Sequence[bytes], token: ClientToken, expiry_days: int | None = None
    ) -> bytes:
        records, expiry = b",".join(members), b""
        if expiry_days is not None:
            said = {"action": "REMOVE"} if expiry_days == NO_EXPIRY else {"recordExpiryDurationDays": expiry_days}
            expiry = b',"recordExpirySpecification":%b' % orjson.dumps(said)
        if operation is Operation.CREATE:
            return b'{"records":[%b],"clientToken":%b%b}' % (records, orjson.dumps(token), expiry)
        return b'{"records":[%b]%b}' % (records, expiry)

    def members(self, batch: Batch) -> Sequence[bytes]:
        return [_dump(member) for member in orjson.loads(batch.body)["records"]]

    def encode_lost(self, entry: Entry, member: bytes) -> bytes:
        content = orjson.loads(member)
        content.pop("sourceNamespaces", None)
        del content["memoryRecordId"]
        return _dump({"requestIdentifier": entry.key, **content})

    def content_of(self, member: bytes) -> RecordContent:
        content = orjson.loads(member)
        return RecordContent(content["content"]["text"], _metadata(content))

    async def write(self, batch: Batch) -> BatchResult:
        with service_errors(f"{API_NAMES[batch.operation]} on memory {self._memory_id}", batch.body):
            send = await self._sender(batch.operation)
            answer = await send(memoryId=self._memory_id, records=batch.body)
            http_status, request_id = _origin(answer)
            return replace(read_answer(batch, answer), http_status=http_status, request_id=request_id)

    async def _sender(self, call: Call) -> Callable[..., Awaitable[Any]]:
        """The method of the client that sends such requests."""
        client = await self._client()
        from botocore import xform_name  # noqa: PLC0415 - loaded with the client

        method: Callable[..., Awaitable[Any]] = getattr(client, xform_name(API_NAMES[call]))
        return method

    # --------------------------------------------------------------------------------------------- look-ups

    async def find(self, entries: Sequence[Entry], *, saved_after: float) -> Mapping[RecordKey, KnownRecord]:
        wanted = {entry.key: entry for entry in entries}
        oldest: dict[RecordKey, MemoryRecord] = {}
        async with aclosing(self._candidates(wanted, saved_after)) as pages:
            async for records in pages:
                for record in records:
                    key = key_of(record)
                    if key in wanted and (key not in oldest or record.created_at < oldest[key].created_at):
                        oldest[key] = record
        return {key: _known_record(wanted[key], record) for key, record in oldest.items()}

    async def _candidates(
        self, wanted: Mapping[RecordKey, Entry], saved_after: float
    ) -> AsyncGenerator[Sequence[MemoryRecord], None]:
        """Records among which those of `wanted` are.

        A namespace is listed if it is short, or if the memory has no index of our keys that can be trusted; else each
        record is asked for by its key.
        """
        can_filter: bool | None = None
        for namespace in sorted({entry.namespace for entry in wanted.values()}):
            async with aclosing(self._list({"namespace": namespace})) as pages:
                async for records in pages:
                    yield records
                    if can_filter is None and len(records) == RECORDS_PER_PAGE:
                        can_filter = len(wanted) <= FILTERED_KEYS_MAX and await self._has_trusted_index(saved_after)
                    if can_filter:
                        break
        if can_filter:
            for key in wanted:
                async with aclosing(self._list({"namespacePath": "/", "metadataFilters": [_key_is(key)]})) as pages:
                    async for records in pages:
                        yield records

    async def _has_trusted_index(self, saved_after: float) -> bool:
        """Whether the memory can filter by key whatever was sent since `saved_after`.

        An index that was declared later does not hold what had been written before. Whoever may not ask lists the
        namespace instead.
        """
        try:
            with service_errors(f"GetMemory on memory {self._memory_id}"):
                answer = await (await self._client(CONTROL_SERVICE)).get_memory(memoryId=self._memory_id)
                memory = answer["memory"]
                is_indexed = any(
                    index["key"] == KEY_METADATA_KEY and index["type"] == "STRING"
                    for index in memory.get("indexedKeys", ())
                )
                changed_at: datetime = memory.get("updatedAt") or memory["createdAt"]
                return is_indexed and changed_at.timestamp() + CLOCK_DIFFERENCE_MAX_S < saved_after
        except DestinationError:
            return False

    def list_records(self, *, namespace_path: str) -> AsyncGenerator[list[MemoryRecord], None]:
        """Yield the records of all namespaces below `namespace_path`, page by page.

        A record shows here some 20–65 s after it was written.

        Raises:
            RetryableError, FatalError: as for `write`.
        """
        return self._list({"namespacePath": namespace_path})

    async def _list(self, where: Mapping[str, Any]) -> AsyncGenerator[list[MemoryRecord], None]:
        token: dict[str, str] = {}
        while True:
            records, next_token = await self._read(
                Lookup.LIST,
                lambda page: (_memory_records(page), page.get("nextToken")),
                maxResults=RECORDS_PER_PAGE,
                **where,
                **token,
            )
            yield records
            if not next_token:
                return
            token = {"nextToken": next_token}

    async def get(self, memory_record_id: MemoryRecordId) -> MemoryRecord | None:
        """The record of this id, which the memory knows some 1 s after it was written; None if there is none.

        Raises:
            RetryableError, FatalError: as for `write`.
        """
        try:
            return await self._read(
                Lookup.GET,
                lambda answer: _memory_record(answer["memoryRecord"]),
                memoryRecordId=memory_record_id,
            )
        except FatalError as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise

    async def search(self, query: str, *, namespace_path: str, count_max: int) -> list[MemoryRecord]:
        """The `count_max` records below `namespace_path` that answer `query` best, best first.

        Raises:
            RetryableError, FatalError, BatchRefused: as for `write`.
        """
        return await self._read(
            Lookup.SEARCH,
            _memory_records,
            namespacePath=namespace_path,
            searchCriteria={"searchQuery": query, "topK": count_max},
            maxResults=count_max,
        )

    async def _read(self, call: Lookup, understand: Callable[[Any], Understood], **parameters: Any) -> Understood:
        """One call that changes nothing, and what `understand` makes of its answer.

        Throttled, it asks again; other faults are the caller's, an answer that cannot be understood too.
        """
        turn = self._gate.turn(call)
        while True:
            with telling(self._observe, Wait("read", "pacer", seconds=turn.closed_s)):
                await turn.wait()
            try:
                with (
                    telling(self._observe, Wait("read", "service")),
                    service_errors(f"{API_NAMES[call]} on memory {self._memory_id}"),
                ):
                    ask = await self._sender(call)
                    answer = await ask(memoryId=self._memory_id, **parameters)
                    turn.taken()
                    return understand(answer)
            except RetryableError as error:
                if not error.is_throttle:
                    raise
                turn.throttled(error.retry_after_s)


@asynccontextmanager
async def open_agentcore(
    settings: AgentCoreConnection, gate: Gate, observe: Observer = nobody
) -> AsyncIterator[AgentCoreDestination]:
    """A destination that connects with its first request and closes at the end."""
    destination = AgentCoreDestination(settings, gate, observe=observe)
    try:
        yield destination
    finally:
        await destination.aclose()


def _create_client(settings: AgentCoreConnection, service: str) -> AbstractAsyncContextManager[Any]:
    from aiobotocore.config import AioConfig  # noqa: PLC0415 - 0.6 s, which a run without changes need not pay
    from aiobotocore.session import AioSession  # noqa: PLC0415

    key_id, secret = settings.credentials or (None, None)
    is_for_quotas = service == QUOTAS_SERVICE
    client: AbstractAsyncContextManager[Any] = AioSession(profile=settings.profile).create_client(
        service,
        region_name=settings.region,
        endpoint_url=None if is_for_quotas else settings.endpoint_url,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=AioConfig(
            # The pipeline paces and retries; retries in here would hide throttling from it.
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=settings.concurrency,  # waiting for a connection has no timeout
            connect_timeout=QUOTAS_TIMEOUT_S if is_for_quotas else settings.connect_timeout_s,
            read_timeout=QUOTAS_TIMEOUT_S if is_for_quotas else settings.read_timeout_s,
            user_agent_extra="memsync",
        ),
    )
    return _with_our_bodies(client)


@asynccontextmanager
async def _with_our_bodies(opening: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    async with opening as client:
        for name in map(API_NAMES.__getitem__, Operation):
            client.meta.events.register_first(f"provide-client-params.bedrock-agentcore.{name}", _keep_body)
            client.meta.events.register_last(f"before-call.bedrock-agentcore.{name}", _send_kept_body)
            client.meta.events.register_last(f"before-parse.bedrock-agentcore.{name}", _read_outcomes)
        yield client


def _keep_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Take our bytes out of the parameters; an empty list is legal and lets botocore check the rest."""
    context[_BODY] = params["records"]
    return {**params, "records": []}


def _send_kept_body(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    # As a stream: aiohttp warns of bytes that are longer than 1 MiB, since it writes them in one go.
    params["body"] = io.BytesIO(context[_BODY])


def _read_outcomes(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take what became of each record out of the answer, and leave an empty one to botocore. Not out of errors."""
    if response_dict["status_code"] < 300:
        with suppress(orjson.JSONDecodeError):  # then botocore finds that, too
            answer = orjson.loads(response_dict["body"])
            customized_response_dict.update(answer if isinstance(answer, dict) else {})
            response_dict["body"] = b"{}"


def _content(record: Record) -> dict[str, Any]:
    content: dict[str, Any] = {
        "namespaces": [record.namespace],
        "content": {"text": record.text},
        "timestamp": int(record.timestamp.timestamp()),
    }
    if record.metadata:  # an empty map is refused
        content["metadata"] = {key: _wire_value(value) for key, value in record.metadata.items()}
    if record.strategy_id is not None:
        content["memoryStrategyId"] = record.strategy_id
    return content


def _wire_value(value: MetadataValue) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, tuple):
        return {"stringListValue": list(value)}
    return {"numberValue": value}


def _dump(member: object) -> bytes:
    """JSON in UTF-8. A lone surrogate, which UTF-8 cannot carry, is replaced: only a dead letter can hold one."""
    try:
        return orjson.dumps(member)
    except TypeError:
        return orjson.dumps(_without_surrogates(member))


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(inner) for inner in value]
    return value


def _memory_records(answer: dict[str, Any]) -> list[MemoryRecord]:
    return [_memory_record(summary) for summary in answer["memoryRecordSummaries"]]


def _key_is(key: RecordKey) -> dict[str, Any]:
    """A filter of a listing."""
    return {
        "left": {"metadataKey": KEY_METADATA_KEY},
        "operator": "EQUALS_TO",
        "right": {"metadataValue": {"stringValue": key}},
    }


def _known_record(entry: Entry, record: MemoryRecord) -> KnownRecord:
    digest, order = record.metadata.get(DIGEST_METADATA_KEY), record.metadata.get(ORDER_METADATA_KEY)
    return KnownRecord(
        key=entry.key,
        document=entry.document,
        namespace=record.namespace,
        digest=str(digest),
        order=float(order) if isinstance(order, int | float) else entry.order,
        memory_record_id=record.id,
    )


def _memory_record(summary: dict[str, Any]) -> MemoryRecord:
    return MemoryRecord(
        id=MemoryRecordId(summary["memoryRecordId"]),
        namespace=next(iter(summary["namespaces"]), ""),
        text=summary["content"].get("text", ""),
        metadata=_metadata(summary),
        created_at=summary["createdAt"].astimezone(UTC),
        score=summary.get("score"),
        expires_at=summary.get("expiresAt"),
    )


def _metadata(record: Mapping[str, Any]) -> dict[str, MetadataValue]:
    return {
        key: next((tuple(inner) if isinstance(inner, list) else inner for inner in value.values()), "")
        for key, value in record.get("metadata", {}).items()
    }


# -------------------------------------------------------------------------------------------------- answers


def read_answer(batch: Batch, answer: Mapping[str, Any]) -> BatchResult:
    """Sort the records of `batch` by what `answer` says of them, each into exactly one class.

    A record that the answer leaves out, names twice or contradicts itself about is unknown, never stored.
    """
    is_create = batch.operation is Operation.CREATE
    keys = {(entry.key if is_create else entry.memory_record_id): entry.key for entry in batch.entries}
    positions = {entry.key: position for position, entry in enumerate(batch.entries)}
    said: dict[RecordKey, list[tuple[bool, Mapping[str, Any]]]] = {}
    for is_success, outcomes in ((True, answer["successfulRecords"]), (False, answer["failedRecords"])):
        for outcome in outcomes:
            key = keys.get(outcome.get("requestIdentifier" if is_create else "memoryRecordId"))
            if key is not None:
                said.setdefault(key, []).append((is_success, outcome))

    succeeded: dict[RecordKey, MemoryRecordId] = {}
    failed: list[FailedRecord] = []
    for key, outcomes in said.items():
        if len(outcomes) > 1:
            continue
        is_success, outcome = outcomes[0]
        status = outcome.get("status")
        is_gone = batch.operation is Operation.DELETE and outcome.get("errorCode") == 404
        if (is_success and status == "SUCCEEDED") or (not is_success and is_gone):
            memory_record_id = outcome["memoryRecordId"]
            if isinstance(memory_record_id, str) and memory_record_id:  # else nobody could ever name the record
                succeeded[key] = MemoryRecordId(memory_record_id)
        elif not is_success and status != "SUCCEEDED":
            said_of_it = str(outcome.get("errorMessage") or "the service gave no reason")
            message = without_echoes(said_of_it, batch.body, positions[key])
            failed.append(_failed_record(key, batch.operation, outcome, message))
    unknown = {entry.key for entry in batch.entries} - succeeded.keys() - {failure.key for failure in failed}
    return BatchResult(succeeded, failed, frozenset(unknown))


def _failed_record(key: RecordKey, operation: Operation, outcome: Mapping[str, Any], message: str) -> FailedRecord:
    try:
        code: int | None = int(outcome["errorCode"])
    except (KeyError, TypeError, ValueError):
        code = None
    # 404 on an update: a record can be updated only some 10 s after it was created.
    is_young = operation is Operation.UPDATE and code == 404
    return FailedRecord(
        key,
        code="unknown" if code is None else str(code),
        message=message,
        is_retryable=code is not None and (code == 429 or code >= 500 or is_young),
        is_throttle=code == 429,
    )


# --------------------------------------------------------------------------------------------------- errors

# The codes by which AWS's own clients know a throttle, and a fault that passes, whatever the HTTP status is: botocore
# retries/standard.py. LimitExceededException is left out: with AgentCore's control plane it is a quota.
_THROTTLES = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_PASSING_FAULTS = {
    "PriorRequestNotComplete",
    "RequestTimeout",
    "RequestTimeoutException",
    "TransactionInProgressException",
}
_REFUSALS = {
    "ValidationException",
    "InvalidInputException",
    "SerializationException",
    "RequestEntityTooLarge",
}

_ADVICE = {
    "AccessDeniedException": "Give the credentials the permissions for this memory (the Batch*, List, Retrieve and Get"
    " operations on its ARN).",
    "ResourceNotFoundException": "Check destination.memory_id and destination.region: the memory is not there.",
    "ServiceQuotaExceededException": "A quota of the account is used up; waiting does not help. Raise it or remove"
    " records.",
    "UnrecognizedClientException": "The AWS credentials are not valid. Check the profile, the environment or the role.",
    "InvalidSignatureException": "The AWS credentials are not valid, or this machine's clock is wrong.",
    "RequestTimeTooSkewed": "This machine's clock is wrong.",
    "ExpiredTokenException": "The AWS credentials have expired. Renew them.",
    "ExpiredToken": "The AWS credentials have expired. Renew them.",
    "NoCredentialsError": "Set them the usual AWS way: environment, profile (destination.profile) or role.",
    "PartialCredentialsError": "Set both halves of the AWS credentials, or neither of them here.",
    "CredentialRetrievalError": "The program or role that gives the AWS credentials failed; run it by hand.",
    "ProfileNotFound": "Set destination.profile, or AWS_PROFILE, to a profile that the AWS configuration has.",
    "NoRegionError": "Set destination.region, or AWS_REGION.",
    "ParamValidationError": "Check destination.memory_id.",
    "EndpointConnectionError": "Check the network, destination.region and destination.endpoint_url.",
    "ConnectTimeoutError": "Check the network, destination.region and destination.endpoint_url.",
}
_ADVICE_BY_STATUS = {
    401: "Check the AWS credentials: the profile, the environment or the role.",
    403: "Check the AWS credentials and their permissions for this memory.",
    404: "Check destination.endpoint_url and destination.region: no AgentCore answers there.",
}
_ADVICE_ELSE = "Check the settings of the destination."


@contextmanager
def service_errors(action: str, sent: bytes = b"") -> Iterator[None]:
    """Translate whatever the client raises into what happens next. Unclassified means unknown: it is retried.

    `action` names the call for messages; `sent` are the records, which no message may repeat.
    """
    import aiohttp  # noqa: PLC0415
    from botocore import exceptions as boto  # noqa: PLC0415

    try:
        yield
    except boto.ClientError as error:
        translated = from_client_error(error, action, sent)
        translated.http_status, translated.request_id = _origin(error.response)
        raise translated from error
    except (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.ProfileNotFound,
        boto.NoRegionError,
        boto.TokenRetrievalError,
        boto.SSOError,
        boto.ParamValidationError,
        boto.UnknownEndpointError,
        boto.InvalidRegionError,
        boto.ConfigParseError,
    ) as error:
        name = type(error).__name__
        raise FatalError(f"{action}: {_first_line(error)}. {_ADVICE.get(name, _ADVICE_ELSE)}", code=name) from error
    except (boto.BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        name = type(error).__name__
        said = f"{action}: {_first_line(error) or name}. {_ADVICE.get(name, '')}"
        raise RetryableError(said.rstrip(), code=name) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # An answer that is not what the model says: whether the write happened is unknown.
        # Not its `repr`, which may hold the answer and with it the text of documents.
        said = f"{type(error).__name__}: {_first_line(error)}"
        raise RetryableError(f"{action}: the answer could not be read ({said}).", code="bad_answer") from error


def from_client_error(error: Any, action: str, sent: bytes = b"") -> DestinationError:
    """The error that tells what to do about a `ClientError`: by its code, else by its HTTP status."""
    answer = error.response
    code = str(answer.get("Error", {}).get("Code") or "Unknown")
    full = str(answer.get("Error", {}).get("Message") or answer.get("message") or "no message")
    said = without_echoes(full, sent)[:300]
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{action}: {status} {code}, {said!r}."
    if code in _THROTTLES or status == 429:
        return RetryableError(message, code=code, retry_after_s=_retry_after_s(answer), is_throttle=True)
    if answer.get("reason") == "IdempotentParameterMismatchException":
        return FatalError(
            f"{message} A client token was sent with two different bodies: this is a fault of memsync, please report"
            f" it.",
            code="IdempotentParameterMismatchException",
        )
    if code in _REFUSALS or status == 413:
        return BatchRefused(message, code=code, culprits=_culprits(answer.get("fieldList") or (), sent))
    if code in _PASSING_FAULTS or status >= 500 or status in (0, 408, 409):
        return RetryableError(message, code=code, retry_after_s=_retry_after_s(answer))
    advice = _ADVICE.get(code) or _ADVICE_BY_STATUS.get(status, _ADVICE_ELSE)
    return FatalError(f"{message} {advice}", code=code)


def _origin(answer: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """The status of an answer and its id in the service's logs, as far as it has them."""
    metadata = answer.get("ResponseMetadata", {})
    return metadata.get("HTTPStatusCode"), metadata.get("RequestId")


_RECORD_INDEX = re.compile(r"records\W+(?:member\W+)?(\d+)")


def _culprits(fields: Sequence[Mapping[str, str]], sent: bytes) -> dict[int, str]:
    """The positions of the records that a refusal names, as far as they can be read from its field names."""
    culprits = {}
    for field in fields:
        if match := _RECORD_INDEX.search(field.get("name", "")):
            position = int(match[1])
            culprits[position] = without_echoes(field.get("message", ""), sent, position)
    return culprits


def _retry_after_s(answer: Mapping[str, Any]) -> float | None:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return max(0.0, float(headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
