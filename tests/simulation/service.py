"""A model of the memory service, behind the methods of its AWS client."""

import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import trio
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.simulation.world import Process, World

Json = dict[str, Any]

READ_TIMEOUT_S = 10.0
LATE_WRITE_MAX_S = 9.0
LIST_LAG_MAX_S = 60.0
GET_LAG_MAX_S = 1.0
YOUNG_MAX_S = 10.0
TOKEN_MEMORY_S = 900.0  # longer than tokens are trusted
PAGE = 4
SERVERS = 2  # that answer listings, each as late as it likes
LATENCY_MAX_S = 0.4


class Watcher(Protocol):
    """Whoever judges what the memory is asked to do."""

    def created(self, record: "Stored") -> None: ...
    def updated(self, record: "Stored", before: Json) -> None: ...
    def deleted(self, record: "Stored") -> None: ...


@dataclass(eq=False)
class Stored:
    """A record, with what listings may still show of its past."""

    id: str
    content: Json
    created_at: float
    lags: tuple[float, ...]
    get_lag: float
    young_until: float
    is_foreign: bool = False  # put there by somebody else
    deleted_at: float | None = None
    expiry_days: int | None = None
    expires_at: float = float("inf")
    versions: list[tuple[float, Json]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return str(self.content["content"]["text"])

    @property
    def key(self) -> str:
        return str(next(iter(self.content.get("metadata", {}).get("memsync-key", {"": ""}).values())))

    def shown(self, now: float, server: int) -> Json | None:
        """What a listing of `server` shows of it."""
        lag = self.lags[server]
        if self.created_at + lag > now or (self.deleted_at is not None and self.deleted_at + lag <= now):
            return None
        return [content for at, content in self.versions if at + (lag if at > self.created_at else 0) <= now][-1]


class Service:
    """One memory. `faults` are probabilities by kind."""

    def __init__(self, world: World, watcher: Watcher) -> None:
        self.world = world
        self.watcher = watcher
        self.faults: dict[str, float] = {}
        self.records: dict[str, Stored] = {}  # living ones, by id
        self.gone: list[Stored] = []
        self.is_indexed = False
        self.lag = 1.0  # of listings, as a share of the longest
        self.latency_s_max = LATENCY_MAX_S
        self.writes = 0
        self.denied_until = 0.0
        self._tokens: dict[str, tuple[str, Json, float]] = {}
        self._count = 0

    # --------------------------------------------------------------------------------- behind the client's back

    def insert(self, content: Json, *, is_foreign: bool = False) -> Stored:
        rng, now = self.world.rng, self.world.now()
        self._count += 1
        record = Stored(
            id=f"mem-{self._count:036d}",
            content=content,
            created_at=now,
            lags=tuple(rng.uniform(0, LIST_LAG_MAX_S) * self.lag for _ in range(SERVERS)),
            get_lag=rng.uniform(0, GET_LAG_MAX_S),
            young_until=now + rng.uniform(0, YOUNG_MAX_S),
            is_foreign=is_foreign,
            versions=[(now, content)],
        )
        self.records[record.id] = record
        return record

    def change(self, record: Stored, content: Json) -> None:
        record.content = content
        record.versions.append((self.world.now(), content))

    def remove(self, record: Stored) -> None:
        del self.records[record.id]
        record.deleted_at = self.world.now()
        self.gone.append(record)

    def forget_lapsed(self) -> None:
        """Lose the records whose time is over."""
        for record in [each for each in self.records.values() if each.expires_at <= self.world.now()]:
            self.world.hits["service: record lapsed"] += 1
            self.world.note(f"memory: lapsed {record.id[-4:]} {record.key[:6]}")
            self.remove(record)

    def _set_expiry(self, record: Stored, said: Json | None) -> None:
        """Each write begins the time of a record anew; what was said last holds until something else is."""
        if said is not None:
            record.expiry_days = said.get("recordExpiryDurationDays")
        days = record.expiry_days
        record.expires_at = float("inf") if days is None else self.world.now() + 86_400 * days

    # ------------------------------------------------------------------------------------------- writing

    async def write(self, operation: str, body: str, reply: "Reply") -> None:
        """Carry a batch out, as and when the service likes; the sender need not live that long."""
        token = json.loads(body).get("clientToken", "")[:6]
        self.world.note(f"request: {operation} {token} {body.count('content')}")
        await self._take_time()
        strikes = self._strikes
        if self.world.has_faults and self.world.now() < self.denied_until:
            self.world.hits["service: access denied"] += 1
            return reply.fail(_error(403, "AccessDeniedException"))
        if strikes("service: throttled"):
            return reply.fail(_error(429, "ThrottledException"))
        if strikes("service: 500 before"):
            return reply.fail(_error(500, "InternalServerException"))
        if strikes("service: request lost"):
            return reply.fail(ConnectionClosedError(endpoint_url="sim"))
        if strikes("service: carried out late"):
            reply.fail(ConnectionClosedError(endpoint_url="sim"))
            await trio.sleep(self.world.rng.uniform(1, LATE_WRITE_MAX_S))
        try:
            answer = self._carry_out(operation, body)
        except ClientError as error:
            return reply.fail(error)
        await self._take_time()
        if strikes("service: 500 after"):
            return reply.fail(_error(500, "InternalServerException"))
        if strikes("service: reply lost"):
            return reply.fail(ConnectionClosedError(endpoint_url="sim"))
        reply.answer(self._made_odd(answer))
        return None

    def _carry_out(self, operation: str, body: str) -> Json:
        self.writes += 1
        self.forget_lapsed()
        request = json.loads(body)
        token = request.get("clientToken")
        if token in self._tokens and self.world.now() - self._tokens[token][2] < TOKEN_MEMORY_S:
            first_body, answer, _ = self._tokens[token]
            if first_body != body:
                self.world.violate("token mismatch", f"token {token} was sent with other bytes")
                raise _error(400, "ValidationException", reason="IdempotentParameterMismatchException")
            self.world.hits["service: token recognised"] += 1
            return copy.deepcopy(answer)
        members = request["records"]
        if poison := [n for n, member in enumerate(members) if "poison" in member.get("content", {}).get("text", "")]:
            self.world.hits["service: batch refused"] += 1
            names_it = self.world.rng.random() < 0.5
            fields = [{"name": f"records.{n}.content", "message": "no"} for n in poison] if names_it else []
            raise _error(400, "ValidationException", fieldList=fields)
        answer = {"successfulRecords": [], "failedRecords": []}
        for member in members:
            code = self._failure_of(operation, member)
            outcome: Json = {"status": "FAILED" if code else "SUCCEEDED"}
            if operation == "create":
                outcome["requestIdentifier"] = member["requestIdentifier"]
            if code:
                outcome |= {"errorCode": code, "errorMessage": "told to fail"}
                outcome["memoryRecordId"] = member.get("memoryRecordId", "")
                answer["failedRecords"].append(outcome)
            else:
                outcome["memoryRecordId"] = self._apply(operation, member, request.get("recordExpirySpecification"))
                answer["successfulRecords"].append(outcome)
        if token is not None:
            self._tokens[token] = (body, copy.deepcopy(answer), self.world.now())
        return answer

    def _failure_of(self, operation: str, member: Json) -> int | None:
        record = self.records.get(member.get("memoryRecordId", ""))
        if operation != "create" and record is None:
            self.world.hits[f"service: {operation} of a record that is not there"] += 1
            return 404
        if operation == "update" and record is not None and self.world.now() < record.young_until:
            self.world.hits["service: update of a young record"] += 1
            return 404
        if "reject" in member.get("content", {}).get("text", ""):
            self.world.hits["service: record refused"] += 1
            return 400
        if self._strikes("service: record throttled"):
            return 429
        if self._strikes("service: record failed"):
            return 500
        return None

    def _apply(self, operation: str, member: Json, expiry: Json | None) -> str:
        content = {key: value for key, value in member.items() if key not in ("requestIdentifier", "memoryRecordId")}
        if operation == "create":
            record = self.insert(content)
            self._set_expiry(record, expiry)
            self.world.note(f"memory: created {record.id[-4:]} {record.key[:6]} {record.text[:16]}")
            self.watcher.created(record)
            return record.id
        record = self.records[member["memoryRecordId"]]
        if operation == "update":
            before = record.content
            self.change(record, content)
            self._set_expiry(record, expiry)
            self.world.note(f"memory: updated {record.id[-4:]} {record.key[:6]} {record.text[:16]}")
            self.watcher.updated(record, before)
        else:
            self.remove(record)
            self.world.note(f"memory: deleted {record.id[-4:]} {record.key[:6]} {record.text[:16]}")
            self.watcher.deleted(record)
        return record.id

    def _made_odd(self, answer: Json) -> Any:
        answer = copy.deepcopy(answer)
        kind = self.world.rng.choice(sorted(ODDITIES))
        if self._strikes("service: odd answer"):
            odd = ODDITIES[kind](answer)
            self.world.hits[f"answer: {kind}"] += 1
            return odd
        return answer

    # ------------------------------------------------------------------------------------------- reading

    async def read(self, method: str, parameters: Json, reply: "Reply") -> None:
        await self._take_time()
        self.forget_lapsed()
        if self._strikes("service: read throttled"):
            return reply.fail(_error(429, "ThrottledException"))
        if self._strikes("service: read failed"):
            return reply.fail(_error(500, "InternalServerException"))
        try:
            reply.answer(getattr(self, f"_{method}")(**parameters))
        except ClientError as error:
            reply.fail(error)
        return None

    def _list_memory_records(
        self,
        *,
        maxResults: int,  # noqa: N803 - the client's own names
        namespace: str | None = None,
        namespacePath: str | None = None,  # noqa: N803
        metadataFilters: list[Json] | None = None,  # noqa: N803
        nextToken: str = "",  # noqa: N803
        **_: Any,
    ) -> Json:
        server = self.world.rng.randrange(SERVERS)
        now = self.world.now()
        found: list[tuple[Stored, Json]] = []
        for record in sorted([*self.records.values(), *self.gone], key=lambda record: record.id):
            content = record.shown(now, server)
            if content is None or record.id <= nextToken:
                continue
            (where,) = content["namespaces"]
            if not (where == namespace if namespace is not None else where.startswith(namespacePath or "")):
                continue
            if metadataFilters and not all(_matches(content, condition) for condition in metadataFilters):
                continue
            found.append((record, content))
        size = min(maxResults, PAGE)
        page = {"memoryRecordSummaries": [_summary(record, content) for record, content in found[:size]]}
        return page | ({"nextToken": found[size - 1][0].id} if len(found) > size else {})

    def _get_memory_record(self, *, memoryRecordId: str, **_: Any) -> Json:  # noqa: N803
        record = self.records.get(memoryRecordId)
        if record is None or self.world.now() < record.created_at + record.get_lag:
            raise _error(404, "ResourceNotFoundException")
        return {"memoryRecord": _summary(record, record.content)}

    def _get_memory(self, **_: Any) -> Json:
        began = datetime.fromtimestamp(0, UTC)
        keys = [{"key": "memsync-key", "type": "STRING"}] if self.is_indexed else []
        return {"memory": {"indexedKeys": keys, "createdAt": began, "updatedAt": began}}

    def _strikes(self, fault: str) -> bool:
        return self.world.happens(fault, self.faults.get(fault, 0.0))

    async def _take_time(self) -> None:
        await trio.sleep(self.world.rng.uniform(0.01, self.latency_s_max))


def _matches(content: Json, condition: Json) -> bool:
    return bool(content["metadata"].get(condition["left"]["metadataKey"]) == condition["right"]["metadataValue"])


def _summary(record: Stored, content: Json) -> Json:
    return {
        "memoryRecordId": record.id,
        "content": dict(content["content"]),
        "namespaces": list(content["namespaces"]),
        "createdAt": datetime.fromtimestamp(record.created_at, UTC),
        "metadata": copy.deepcopy(content.get("metadata", {})),
    }


def _error(status: int, code: str, **members: Any) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError({**answer, **members}, "Operation")


# ------------------------------------------------------------------------------------------- odd answers


def _first(answer: Json) -> Json | None:
    return answer["successfulRecords"][0] if answer["successfulRecords"] else None


def _without_first(answer: Json) -> Json:
    return {**answer, "successfulRecords": answer["successfulRecords"][1:]}


def _first_changed(**members: Any) -> Callable[[Json], Any]:
    def change(answer: Json) -> Json:
        if first := _first(answer):
            first.update(members)
        return answer

    return change


def _without(*names: str) -> Callable[[Json], Any]:
    def change(answer: Json) -> Json:
        if first := _first(answer):
            for name in names:
                first.pop(name, None)
        return answer

    return change


def _in_both(answer: Json) -> Json:
    if first := _first(answer):
        answer["failedRecords"].append({**first, "status": "FAILED", "errorCode": 400, "errorMessage": "no"})
    return answer


def _refused_and_stored(answer: Json) -> Json:
    for refused in answer["failedRecords"][:1]:
        told = {**refused, "status": "SUCCEEDED", "memoryRecordId": "mem-" + "9" * 36}
        answer["successfulRecords"].insert(0, told)
    return answer


def _twice(answer: Json) -> Json:
    if first := _first(answer):
        answer["successfulRecords"].append(dict(first))
    return answer


def _shuffled(answer: Json) -> Json:
    return {name: outcomes[::-1] for name, outcomes in answer.items()}


def _stranger(answer: Json) -> Json:
    stranger = {"requestIdentifier": "f" * 40, "memoryRecordId": "mem-" + "9" * 36, "status": "SUCCEEDED"}
    return {**answer, "successfulRecords": [stranger, *answer["successfulRecords"]]}


def _failure_without_code(answer: Json) -> Json:
    for outcome in answer["failedRecords"]:
        if outcome["errorCode"] == 400:
            del outcome["errorCode"]
    return answer


ODDITIES: Mapping[str, Callable[[Json], Any]] = {
    "record left out": _without_first,
    "everything left out": lambda _: {"successfulRecords": [], "failedRecords": []},
    "record in both lists": _in_both,
    "record named twice": _twice,
    "refused record among the stored": _refused_and_stored,
    "another order": _shuffled,
    "unknown record": _stranger,
    "success without id": _without("memoryRecordId"),
    "success without status": _without("status"),
    "success without name": _without("requestIdentifier", "memoryRecordId"),
    "success that says failed": _first_changed(status="FAILED"),
    "status in small letters": _first_changed(status="succeeded"),
    "lists are null": lambda _: {"successfulRecords": None, "failedRecords": None},
    "lists are missing": lambda _: {},
    "list is a text": lambda answer: {**answer, "successfulRecords": "SUCCEEDED"},
    "outcome is a number": lambda answer: {**answer, "successfulRecords": [7, *answer["successfulRecords"]]},
    "answer is nothing": lambda _: None,
    "failure without code": _failure_without_code,
}


# ------------------------------------------------------------------------------------------------ the client


@dataclass(eq=False)
class Reply:
    _done: trio.Event = field(default_factory=trio.Event)
    _answer: Any = None
    _error: Exception | None = None

    def answer(self, answer: Any) -> None:
        self._answer = answer
        self._done.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._done.set()

    async def wait(self) -> Any:
        with trio.move_on_after(READ_TIMEOUT_S):
            await self._done.wait()
        if not self._done.is_set():
            raise ReadTimeoutError(endpoint_url="sim")
        if self._error is not None:
            raise self._error
        return self._answer


class Client:
    """What one process holds of the service: the methods of the AWS client that memsync uses."""

    def __init__(self, service: Service, process: Process, on_write: Callable[[Process], None]) -> None:
        self._service = service
        self._process = process
        self._on_write = on_write

    def __getattr__(self, method: str) -> Callable[..., Any]:
        operation = {f"batch_{name}_memory_records": name for name in ("create", "update", "delete")}.get(method)

        async def call(**parameters: Any) -> Any:
            process, reply = self._process, Reply()
            point = f"{operation} request" if operation else method
            process.passes(f"before {point}")
            if operation:
                self._on_write(process)
                body = parameters["records"].decode("utf-8", "surrogatepass")
                process.spawn(self._service.write, operation, body, reply)
            else:
                process.spawn(self._service.read, method, parameters, reply)
            try:
                return await reply.wait()
            finally:
                process.passes(f"after {point}")

        return call


def opener(
    service: Service, process: Process, on_write: Callable[[Process], None]
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """What `AgentCoreDestination` makes its clients with."""

    @asynccontextmanager
    async def open_client(*_: Any) -> AsyncIterator[Client]:
        yield Client(service, process, on_write)

    return open_client
