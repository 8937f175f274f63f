"""What each operation does: a checked request in, the members of the answer out.

Known of the service and kept here: an update keeps what it leaves out; the same client token with the same
request gets the first answer again; a missing record fails alone, with 404; a value that does not fit the
type of its indexed key fails its record; with a strategy, only metadata of that strategy's schema is kept.
Not known: whether an update merges metadata or replaces it. Here it replaces the map.
"""

import base64
import hashlib
import secrets
import string
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from pipeline.local_memory.api import OPERATION_NAMES
from pipeline.local_memory.errors import FieldProblem, not_found, refused, refused_field
from pipeline.local_memory.faults import Faults, Misfortune, RecordFailure
from pipeline.local_memory.search import match_expression, score
from pipeline.local_memory.selection import (
    CREATED_AT_KEY,
    RECORD_TYPE,
    RECORD_TYPE_KEY,
    SYSTEM_KEY_PREFIX,
    UPDATED_AT_KEY,
    comparable,
    select,
)
from pipeline.local_memory.store import Memory, Metadata, Store, StoredRecord

__all__ = ("DEFAULT_INDEXED_KEYS", "Operations", "Request")

Request = Mapping[str, Any]
Answer = dict[str, Any]

# What memsync writes on every record, so that a memory can be asked for the records of a document.
DEFAULT_INDEXED_KEYS = {"memsync-source": "STRING", "memsync-document": "STRING", "memsync-key": "STRING"}

RESULTS_DEFAULT = 20  # botocore bedrock-agentcore, ListMemoryRecordsInput
TOP_K_MAX = 100  # botocore bedrock-agentcore, SearchCriteriaTopKInteger
INDEXED_KEYS_MAX = 10  # botocore bedrock-agentcore-control, shape IndexedKeysList
EVENT_EXPIRY_DEFAULT_DAYS = 90
SECONDS_PER_DAY = 86_400
ID_CHARACTERS = string.ascii_letters + string.digits

# For each type of an indexed key, the member that holds its value.
VALUE_MEMBERS = {"STRING": "stringValue", "STRINGLIST": "stringListValue", "NUMBER": "numberValue"}

STRATEGY_TYPES = {
    "semanticMemoryStrategy": "SEMANTIC",
    "summaryMemoryStrategy": "SUMMARIZATION",
    "userPreferenceMemoryStrategy": "USER_PREFERENCE",
    "customMemoryStrategy": "CUSTOM",
    "episodicMemoryStrategy": "EPISODIC",
}


class Operations:
    """The operations of the service on one store."""

    def __init__(self, store: Store, clock: Callable[[], float], *, adopt_first: bool, token_memory_s: float) -> None:
        """`adopt_first`: while there is no memory at all, the first id that is asked for is created."""
        self._store = store
        self._clock = clock
        self._adopt_first = adopt_first
        self._token_memory_s = token_memory_s
        self.misfortune = Misfortune(Faults(), clock)
        self._by_name: dict[str, Callable[[Request], Answer]] = {
            "BatchCreateMemoryRecords": self._batch_create_memory_records,
            "BatchUpdateMemoryRecords": self._batch_update_memory_records,
            "BatchDeleteMemoryRecords": self._batch_delete_memory_records,
            "ListMemoryRecords": self._list_memory_records,
            "RetrieveMemoryRecords": self._retrieve_memory_records,
            "GetMemoryRecord": self._get_memory_record,
            "DeleteMemoryRecord": self._delete_memory_record,
            "CreateMemory": self._create_memory,
            "GetMemory": self._get_memory,
            "ListMemories": self._list_memories,
            "UpdateMemory": self._update_memory,
            "DeleteMemory": self._delete_memory,
        }
        assert self._by_name.keys() == OPERATION_NAMES

    def answer(self, name: str, request: Request) -> Answer:
        """Carry out one request and return the members of its answer.

        Raises:
            ServiceError: the answer is an error, and nothing was stored.
        """
        return self._by_name[name](request)

    def add_memory(self, memory_id: str, indexed_keys: Mapping[str, str]) -> None:
        """Create an empty memory with this id; does nothing if there is one already."""
        with self._store.transaction():
            if self._store.memory(memory_id) is None:
                self._store.add_memory(_plain_memory(memory_id, indexed_keys, self._now()))

    # Records

    def _batch_create_memory_records(self, request: Request) -> Answer:
        with self._store.transaction():
            memory = self._memory(request)
            return self._once(memory.memory_id, request, lambda now: self._create_records(request, memory, now))

    def _create_records(self, request: Request, memory: Memory, now: float) -> Answer:
        self._check_batch(request["records"])
        if "action" in request.get("recordExpirySpecification", {}):
            raise refused_field("recordExpirySpecification.action", "REMOVE does not apply to new records")
        outcome = _Outcome()
        for entry in request["records"]:
            record = StoredRecord(
                memory_id=memory.memory_id,
                record_id=f"mem-{uuid.uuid4()}",
                namespace=next(iter(entry["namespaces"]), ""),
                text=entry["content"]["text"],
                timestamp=float(entry["timestamp"]),
                strategy_id=entry.get("memoryStrategyId", ""),
                metadata=_kept_metadata(entry.get("metadata", {}), entry.get("memoryStrategyId"), memory),
                created_at=now,
                updated_at=now,
                expires_at=_expiry(request, now),
            )
            failure = self.misfortune.failure_of(record.text) or _type_failure(record, memory)
            if failure is None:
                self._store.insert(record, _indexed_values(record, memory))
            outcome.add(record.record_id, failure, request_identifier=entry["requestIdentifier"])
        return outcome.answer()

    def _batch_update_memory_records(self, request: Request) -> Answer:
        now = self._now()
        with self._store.transaction():
            self._forget_expired(now)
            memory = self._memory(request)
            self._check_batch(request["records"])
            outcome = _Outcome()
            for entry in request["records"]:
                failure = self._update(entry, request, memory, now)
                outcome.add(entry["memoryRecordId"], failure)
            return outcome.answer()

    def _update(self, entry: Request, request: Request, memory: Memory, now: float) -> RecordFailure | None:
        known = self._store.record(memory.memory_id, entry["memoryRecordId"], now)
        if known is None or now < known.created_at + self.misfortune.faults.update_lag_s:
            return RecordFailure(404, "Memory record not found")
        if "sourceNamespaces" in entry and entry["sourceNamespaces"] != _namespaces(known):
            return RecordFailure(404, "Memory record not found in the source namespace")
        strategy_id = entry.get("memoryStrategyId", known.strategy_id)
        updated = replace(
            known,
            namespace=next(iter(entry.get("namespaces", _namespaces(known))), ""),
            text=entry.get("content", {}).get("text", known.text),
            timestamp=float(entry["timestamp"]),
            strategy_id=strategy_id,
            metadata=_kept_metadata(entry.get("metadata", known.metadata), strategy_id, memory),
            updated_at=now,
        )
        if "recordExpirySpecification" in request:
            updated = replace(updated, expires_at=_expiry(request, now))
        failure = self.misfortune.failure_of(updated.text) or _type_failure(updated, memory)
        if failure is None:
            self._store.replace(updated, _indexed_values(updated, memory))
        return failure

    def _batch_delete_memory_records(self, request: Request) -> Answer:
        now = self._now()
        with self._store.transaction():
            memory = self._memory(request)
            outcome = _Outcome()
            for entry in request["records"]:
                failure = self.misfortune.failure_of("")
                if failure is None and not self._store.delete(memory.memory_id, entry["memoryRecordId"], now):
                    failure = RecordFailure(404, "Memory record not found")
                outcome.add(entry["memoryRecordId"], failure)
            return outcome.answer()

    def _list_memory_records(self, request: Request) -> Answer:
        memory = self._memory(request)
        now = self._now()
        created_before = now - self.misfortune.faults.list_lag_s
        selection = select(request, request, "", memory, now=now, created_before=created_before)
        size = request.get("maxResults", RESULTS_DEFAULT)
        # A page ends at a sequence number, so that records that come or go meanwhile shift no other page.
        found = self._store.select(selection, after_sequence=_page_start(request), limit=size + 1)
        page = found[:size]
        answer: Answer = {"memoryRecordSummaries": [_summary(record) for _, record in page]}
        if len(found) > size:
            answer["nextToken"] = _page_token(request, page[-1][0])
        return answer

    def _retrieve_memory_records(self, request: Request) -> Answer:
        memory = self._memory(request)
        criteria = request["searchCriteria"]
        now = self._now()
        created_before = now - self.misfortune.faults.list_lag_s
        selection = select(request, criteria, "searchCriteria.", memory, now=now, created_before=created_before)
        expression = match_expression(criteria["searchQuery"])
        skip = _page_start(request)
        size = min(request.get("maxResults", RESULTS_DEFAULT), criteria.get("topK", TOP_K_MAX) - skip)
        if expression is None or size <= 0:
            return {"memoryRecordSummaries": []}
        found = self._store.search(expression, selection, skip=skip, limit=size + 1)
        answer: Answer = {
            "memoryRecordSummaries": [{**_summary(record), "score": score(bm25)} for bm25, record in found[:size]]
        }
        if len(found) > size and skip + size < criteria.get("topK", TOP_K_MAX):
            answer["nextToken"] = _page_token(request, skip + size)
        return answer

    def _get_memory_record(self, request: Request) -> Answer:
        memory = self._memory(request)
        record = self._store.record(memory.memory_id, request["memoryRecordId"], self._now())
        if record is None:
            raise not_found(f"Memory record not found: {request['memoryRecordId']}")
        expiry = {} if record.expires_at is None else {"expiresAt": record.expires_at}
        return {"memoryRecord": {**_summary(record), **expiry}}

    def _delete_memory_record(self, request: Request) -> Answer:
        with self._store.transaction():
            memory = self._memory(request)
            if not self._store.delete(memory.memory_id, request["memoryRecordId"], self._now()):
                raise not_found(f"Memory record not found: {request['memoryRecordId']}")
        return {"memoryRecordId": request["memoryRecordId"]}

    # Memories

    def _create_memory(self, request: Request) -> Answer:
        with self._store.transaction():
            return self._once("", request, lambda now: self._create_new_memory(request, now))

    def _create_new_memory(self, request: Request, now: float) -> Answer:
        name = request["name"]
        if any(memory.settings["name"] == name for memory in self._store.memories()):
            raise refused(f"Memory with name '{name}' already exists", reason="ResourceConflict")
        settings = {key: value for key, value in request.items() if key not in ("clientToken", "tags")}
        settings["strategies"] = [_strategy(union, now) for union in settings.pop("memoryStrategies", ())]
        memory = Memory(_new_id(name), settings, now)
        self._store.add_memory(memory)
        return {"memory": _memory_details(memory)}

    def _get_memory(self, request: Request) -> Answer:
        return {"memory": _memory_details(self._memory(request))}

    def _list_memories(self, request: Request) -> Answer:
        size = request.get("maxResults", RESULTS_DEFAULT)
        found = self._store.memories(after_id=request.get("nextToken", ""), limit=size + 1)
        page = found[:size]
        answer: Answer = {"memories": [_memory_summary(memory) for memory in page]}
        if len(found) > size:
            answer["nextToken"] = page[-1].memory_id
        return answer

    def _update_memory(self, request: Request) -> Answer:
        """Adds indexed keys, for records to come; of all else that can be changed, nothing is offered here."""
        if others := sorted(request.keys() - {"memoryId", "clientToken", "addIndexedKeys"}):
            raise refused_field(others[0], "The local memory changes nothing but indexed keys")
        with self._store.transaction():
            memory = self._memory(request)
            return self._once(memory.memory_id, request, lambda now: self._add_indexed_keys(request, memory, now))

    def _add_indexed_keys(self, request: Request, memory: Memory, now: float) -> Answer:
        known, added = memory.settings.get("indexedKeys", []), request.get("addIndexedKeys", [])
        if taken := {entry["key"] for entry in known} & {entry["key"] for entry in added}:
            raise refused_field("addIndexedKeys", f"Indexed already: {', '.join(sorted(taken))}")
        if len(known) + len(added) > INDEXED_KEYS_MAX:
            raise refused_field("addIndexedKeys", f"A memory has at most {INDEXED_KEYS_MAX} indexed keys")
        settings = {**memory.settings, "indexedKeys": [*known, *added], "updatedAt": now}
        changed = replace(memory, settings=settings)
        self._store.change_memory(changed)
        return {"memory": _memory_details(changed)}

    def _delete_memory(self, request: Request) -> Answer:
        with self._store.transaction():
            memory = self._memory(request)
            self._store.delete_memory(memory.memory_id)
        return {"memoryId": memory.memory_id, "status": "DELETING"}

    # What several operations share

    def _now(self) -> float:
        return round(self._clock(), 3)

    def _memory(self, request: Request) -> Memory:
        memory_id = request["memoryId"].rpartition("/")[2]  # an ARN ends with the id
        memory = self._store.memory(memory_id)
        if memory is None and self._adopt_first and not self._store.memories(limit=1):
            memory = _plain_memory(memory_id, DEFAULT_INDEXED_KEYS, self._now())
            self._store.add_memory(memory)
        if memory is None:
            raise not_found(f"Memory not found: {memory_id}")
        return memory

    def _once(self, scope: str, request: Request, create: Callable[[float], Answer]) -> Answer:
        """The answer of `create`, or the first one again if the request's client token was used before.

        A token counts within `scope`: the id of a memory, or nothing for the creation of one.
        """
        now = self._now()
        self._forget_expired(now)
        client_token = request.get("clientToken")
        if client_token is None:
            return create(now)
        digest = _digest(request, leave_out={"clientToken", "memoryId"})
        remembered = self._store.remembered(scope, client_token)
        if remembered is None:
            answer = create(now)
            self._store.remember(scope, client_token, digest, answer, now)
            return answer
        first_digest, first_answer = remembered
        if digest != first_digest:
            raise refused(
                "The client token was used before, with other parameters",
                reason="IdempotentParameterMismatchException",
            )
        return first_answer

    def _forget_expired(self, now: float) -> None:
        self._store.forget_expired(now, tokens_before=now - self._token_memory_s)

    def _check_batch(self, entries: list[Request]) -> None:
        """Refuse a batch for what the service refuses and its model does not say, or for a planned fault."""
        problems = []
        poisoned = []
        for index, entry in enumerate(entries):
            path = f"records.{index}"
            for key, value in entry.get("metadata", {}).items():
                if key.startswith(SYSTEM_KEY_PREFIX):
                    problems.append(FieldProblem(f"{path}.metadata.{key}", "The key is reserved"))
                elif "dateTimeValue" in value:
                    message = "dateTimeValue is reserved for keys of the service"
                    problems.append(FieldProblem(f"{path}.metadata.{key}", message))
            if self.misfortune.is_poisoned(entry.get("content", {}).get("text", "")):
                poisoned.append(FieldProblem(f"{path}.content.text", "The text is not acceptable"))
        if problems:
            raise refused(f"Value at '{problems[0].name}': {problems[0].message}", fields=problems)
        if poisoned:
            named = poisoned if self.misfortune.faults.poison_is_named else ()
            raise refused("The request holds a text that is not acceptable", fields=named)


class _Outcome:
    """The answer of a batch in the making."""

    def __init__(self) -> None:
        self._succeeded: list[Answer] = []
        self._failed: list[Answer] = []

    def add(self, record_id: str, failure: RecordFailure | None, *, request_identifier: str | None = None) -> None:
        entry: Answer = {"memoryRecordId": record_id, "status": "FAILED" if failure else "SUCCEEDED"}
        if request_identifier is not None:
            entry["requestIdentifier"] = request_identifier
        if failure is None:
            self._succeeded.append(entry)
        else:
            self._failed.append({**entry, "errorCode": failure.error_code, "errorMessage": failure.error_message})

    def answer(self) -> Answer:
        return {"successfulRecords": self._succeeded, "failedRecords": self._failed}


def _expiry(request: Request, now: float) -> float | None:
    days = request.get("recordExpirySpecification", {}).get("recordExpiryDurationDays")
    return None if days is None else now + days * SECONDS_PER_DAY


def _namespaces(record: StoredRecord) -> list[str]:
    return [record.namespace] if record.namespace else []


def _summary(record: StoredRecord) -> Answer:
    return {
        "memoryRecordId": record.record_id,
        "content": {"text": record.text},
        "memoryStrategyId": record.strategy_id,
        "namespaces": _namespaces(record),
        "createdAt": record.created_at,
        "timestamp": record.timestamp,
        "metadata": {
            **record.metadata,
            RECORD_TYPE_KEY: {"stringValue": RECORD_TYPE},
            CREATED_AT_KEY: {"dateTimeValue": record.created_at},
            UPDATED_AT_KEY: {"dateTimeValue": record.updated_at},
        },
    }


def _kept_metadata(metadata: Metadata, strategy_id: str | None, memory: Memory) -> Metadata:
    """What the service keeps of `metadata`: with a strategy, only the keys of that strategy's schema."""
    for strategy in memory.settings.get("strategies", ()):
        if strategy["strategyId"] == strategy_id:
            schema = strategy.get("memoryRecordSchema", {}).get("metadataSchema", ())
            schema_keys = {entry["key"] for entry in schema}
            return {key: value for key, value in metadata.items() if key in schema_keys}
    return metadata


def _type_failure(record: StoredRecord, memory: Memory) -> RecordFailure | None:
    for key, key_type in memory.indexed_keys.items():
        if key in record.metadata and VALUE_MEMBERS[key_type] not in record.metadata[key]:
            return RecordFailure(400, f"'{key}': value type does not match declared indexed key type {key_type}")
    return None


def _indexed_values(record: StoredRecord, memory: Memory) -> list[tuple[str, str | float]]:
    values: list[tuple[str, str | float]] = []
    for key, key_type in memory.indexed_keys.items():
        value = record.metadata.get(key, {}).get(VALUE_MEMBERS[key_type])
        if value is not None:
            values.extend((key, comparable(element)) for element in (value if key_type == "STRINGLIST" else [value]))
    return values


def _new_id(name: str) -> str:
    return f"{name}-{''.join(secrets.choice(ID_CHARACTERS) for _ in range(10))}"


def _plain_memory(memory_id: str, indexed_keys: Mapping[str, str], now: float) -> Memory:
    settings = {
        "name": memory_id.rpartition("-")[0],
        "eventExpiryDuration": EVENT_EXPIRY_DEFAULT_DAYS,
        "indexedKeys": [{"key": key, "type": key_type} for key, key_type in indexed_keys.items()],
    }
    return Memory(memory_id, settings, now)


def _strategy(union: Request, now: float) -> Answer:
    ((kind, strategy),) = union.items()
    kept = ("name", "description", "memoryRecordSchema")
    namespaces = strategy.get("namespaceTemplates") or strategy.get("namespaces") or ["/"]
    expiry_days = strategy.get("recordExpirySpecification", {}).get("recordExpiryDurationDays")
    return {
        "strategyId": _new_id(strategy["name"]),
        "type": STRATEGY_TYPES[kind],
        "status": "ACTIVE",
        **{key: strategy[key] for key in kept if key in strategy},
        "namespaces": namespaces,
        "namespaceTemplates": namespaces,
        "createdAt": now,
        "updatedAt": now,
        **({} if expiry_days is None else {"recordExpiryDurationDays": expiry_days}),
    }


def _memory_summary(memory: Memory) -> Answer:
    return {
        # No account and no region, and still an ARN by the model's pattern.
        "arn": f"arn:aws:bedrock-agentcore:local:000000000000:memory/{memory.memory_id}",
        "id": memory.memory_id,
        "status": "ACTIVE",
        "createdAt": memory.created_at,
        "updatedAt": memory.settings.get("updatedAt", memory.created_at),
    }


def _memory_details(memory: Memory) -> Answer:
    return {"strategies": [], **memory.settings, **_memory_summary(memory)}


def _digest(request: Request, leave_out: set[str]) -> str:
    members = {name: value for name, value in request.items() if name not in leave_out}
    return hashlib.sha256(orjson.dumps(members, option=orjson.OPT_SORT_KEYS)).hexdigest()


# A page token says where the next page starts and carries a digest of the question: it goes with no other.
_OUTSIDE_THE_QUESTION = {"nextToken", "maxResults", "memoryId"}


def _page_token(request: Request, start: int) -> str:
    return base64.urlsafe_b64encode(f"{start} {_digest(request, _OUTSIDE_THE_QUESTION)}".encode()).decode()


def _page_start(request: Request) -> int:
    """Where the page that `request` asks for starts; 0 for the first."""
    token = request.get("nextToken")
    if token is None:
        return 0
    try:
        start, digest = base64.urlsafe_b64decode(token).decode().split(" ")
        position = int(start)
    except ValueError as error:
        raise refused_field("nextToken", "The token is not one of this service") from error
    if digest != _digest(request, _OUTSIDE_THE_QUESTION) or position < 0:
        raise refused_field("nextToken", "The token belongs to another request")
    return position
