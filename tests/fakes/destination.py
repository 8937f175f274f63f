"""A memory in this process, which passes the contract of every destination and can be told to misbehave."""

import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from anyio.lowlevel import checkpoint

from pipeline.errors import BatchRefused, DestinationError, FatalError, RetryableError
from pipeline.expiry import SECONDS_PER_DAY
from pipeline.limits import service_limits
from pipeline.model import (
    NO_EXPIRY,
    Batch,
    BatchResult,
    Change,
    ClientToken,
    Create,
    Delete,
    Entry,
    FailedRecord,
    KnownRecord,
    MemoryRecord,
    MemoryRecordId,
    Operation,
    Record,
    RecordContent,
    RecordKey,
)

NOT_FOUND = 404
CREATED_AT = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Mishap:
    """What happens to one request; without an error, its answer leaves out a record."""

    error: DestinationError | None
    is_written: bool


class MemoryDestination:
    """Keeps records in a dictionary, and behaves as AgentCore does; its limits are AgentCore's own.

    - `records`: what it holds, by id, in the order of creation
    - `requests`: every batch that was sent, in order, whatever became of it
    - `is_missing = True`: the memory does not exist
    - `forget_tokens()`: as after a long outage
    - `now`: tells the time in seconds since the epoch; records lapse by it. `lapses_at`: when, by id

    Faults of one request, in the order in which they were asked for: `fail_next`, `lose_next_reply`,
    `omit_from_next_answer`. Faults of a text, for good: `reject`, `refuse_batches_with`.
    """

    def __init__(self, *, records_per_batch_max: int = 100, request_bytes_max: int = 4 * 1024 * 1024) -> None:
        self.records_per_batch_max = records_per_batch_max
        self.request_bytes_max = request_bytes_max
        self.records: dict[MemoryRecordId, Record] = {}
        self.requests: list[Batch] = []
        self.is_missing = False
        self._answers: dict[ClientToken, tuple[bytes, BatchResult]] = {}
        self._mishaps: deque[_Mishap] = deque()
        self._rejected: dict[str, int] = {}
        self._refused: dict[str, bool] = {}
        self._created_count = 0
        self.now: Callable[[], float] = CREATED_AT.timestamp
        self.lapses_at: dict[MemoryRecordId, float] = {}
        self._expiry_days: dict[MemoryRecordId, int] = {}

    # -------------------------------------------------------------------------------------------- faults

    def fail_next(self, error: DestinationError, *, is_written: bool = False) -> None:
        """Raise `error` for the next request, after carrying it out if `is_written`."""
        self._mishaps.append(_Mishap(error, is_written))

    def lose_next_reply(self) -> None:
        self.fail_next(RetryableError("The connection closed.", code="ConnectionClosedError"), is_written=True)

    def omit_from_next_answer(self) -> None:
        """Carry the next request out and leave its last stored record out of the answer."""
        self._mishaps.append(_Mishap(None, is_written=True))

    def reject(self, text_fragment: str, code: int = 400) -> None:
        """Let every record whose text holds `text_fragment` fail alone."""
        self._rejected[text_fragment] = code

    def accept(self, text_fragment: str) -> None:
        """Undo `reject`."""
        del self._rejected[text_fragment]

    def refuse_batches_with(self, text_fragment: str, *, named: bool = True) -> None:
        """Refuse every request with a record whose text holds `text_fragment`; say which if `named`."""
        self._refused[text_fragment] = named

    def forget_tokens(self) -> None:
        self._answers.clear()

    # ------------------------------------------------------------------------------------------- requests

    def check(self, change: Change) -> str | None:
        return service_limits().breach(change)

    def encode(self, change: Change) -> bytes:
        member: dict[str, Any] = {}
        if not isinstance(change, Create):
            member["id"] = change.known.memory_record_id
        if not isinstance(change, Delete):
            member["record"] = {**change.record._asdict(), "timestamp": change.record.timestamp.isoformat()}
        return _dump(member)

    def encode_request(
        self, operation: Operation, members: Sequence[bytes], token: ClientToken, expiry_days: int | None = None
    ) -> bytes:
        # As with AgentCore, only creates have a token.
        token_member = json.dumps(token).encode() if operation is Operation.CREATE else b"null"
        expiry = json.dumps(expiry_days).encode()
        return b'{"token": %b, "expiry_days": %b, "members": [%b]}' % (token_member, expiry, b", ".join(members))

    def members(self, batch: Batch) -> Sequence[bytes]:
        return [_dump(member) for member in json.loads(batch.body)["members"]]

    async def write(self, batch: Batch) -> BatchResult:
        await checkpoint()
        self.requests.append(batch)
        mishap = self._mishaps.popleft() if self._mishaps else None
        if mishap and mishap.error and not mishap.is_written:
            raise mishap.error
        result = self._answer(batch)
        await checkpoint()  # who is cancelled here has written all the same
        if mishap and mishap.error:
            raise mishap.error
        return _without_last(result) if mishap else result

    def encode_lost(self, entry: Entry, member: bytes) -> bytes:
        return _dump({"record": json.loads(member)["record"]})

    def content_of(self, member: bytes) -> RecordContent:
        record = _read_record(json.loads(member)["record"])
        return RecordContent(record.text, record.metadata)

    async def get(self, memory_record_id: MemoryRecordId) -> MemoryRecord | None:
        await checkpoint()
        self._require_memory()
        self._forget_lapsed()
        record = self.records.get(memory_record_id)
        if record is None:
            return None
        lapses_at = self.lapses_at.get(memory_record_id)
        expires_at = None if lapses_at is None else datetime.fromtimestamp(lapses_at, UTC)
        return replace(_as_shown(memory_record_id, record), expires_at=expires_at)

    async def list_records(self, *, namespace_path: str) -> AsyncGenerator[Sequence[MemoryRecord], None]:
        await checkpoint()
        self._require_memory()
        self._forget_lapsed()
        below = [item for item in self.records.items() if item[1].namespace.startswith(namespace_path)]
        for start in range(0, len(below), 100):
            yield [_as_shown(*item) for item in below[start : start + 100]]
            await checkpoint()

    async def find(self, entries: Sequence[Entry], *, saved_after: float) -> Mapping[RecordKey, KnownRecord]:
        await checkpoint()
        self._require_memory()
        self._forget_lapsed()
        wanted = {entry.key: entry for entry in entries}
        found: dict[RecordKey, KnownRecord] = {}
        for memory_record_id, record in self.records.items():
            if record.key in wanted:
                known = KnownRecord(
                    record.key, record.document, record.namespace, record.digest, record.order, memory_record_id
                )
                found.setdefault(record.key, known)
        return found

    # -------------------------------------------------------------------------------------- inside the memory

    def _answer(self, batch: Batch) -> BatchResult:
        """Carry `batch` out, or repeat the answer that its token got before."""
        self._require_memory()
        self._forget_lapsed()
        request = json.loads(batch.body)
        token = request["token"]
        if token in self._answers:
            first_body, first_result = self._answers[token]
            if batch.body != first_body:
                raise FatalError(
                    "The token was used before, with another body.", code="IdempotentParameterMismatchException"
                )
            return first_result
        result = self._carry_out(batch, request["members"], request["expiry_days"])
        self._set_expiry(request["expiry_days"], result.succeeded.values())
        if token is not None:
            self._answers[token] = (batch.body, result)
        return result

    def _set_expiry(self, expiry_days: int | None, written: Iterable[MemoryRecordId]) -> None:
        """As AgentCore does: an update that says nothing lets the time that was said last begin anew."""
        for memory_record_id in written:
            days = self._expiry_days.get(memory_record_id) if expiry_days is None else expiry_days
            self._expiry_days.pop(memory_record_id, None)
            self.lapses_at.pop(memory_record_id, None)
            if days and memory_record_id in self.records:
                self._expiry_days[memory_record_id] = days
                self.lapses_at[memory_record_id] = self.now() + days * SECONDS_PER_DAY

    def _forget_lapsed(self) -> None:
        for memory_record_id in [each for each, lapses_at in self.lapses_at.items() if lapses_at <= self.now()]:
            self.records.pop(memory_record_id, None)
            del self.lapses_at[memory_record_id]

    def _carry_out(self, batch: Batch, members: list[dict[str, Any]], expiry_days: int | None) -> BatchResult:
        records = [_read_record(member["record"]) if "record" in member else None for member in members]
        self._refuse(records, is_create=batch.operation is Operation.CREATE, expiry_days=expiry_days)
        succeeded: dict[RecordKey, MemoryRecordId] = {}
        failed: list[FailedRecord] = []
        for entry, member, record in zip(batch.entries, members, records, strict=True):
            memory_record_id = MemoryRecordId(member["id"]) if "id" in member else self._new_id()
            code = self._failure_of(record, is_absent="id" in member and memory_record_id not in self.records)
            if code is not None:
                failed.append(
                    FailedRecord(
                        entry.key,
                        str(code),
                        "told to fail",
                        is_retryable=code in {404, 429} or code >= 500,
                        is_throttle=code == 429,
                    )
                )
                continue
            succeeded[entry.key] = memory_record_id
            if record is None:
                self.records.pop(memory_record_id, None)
            else:
                self.records[memory_record_id] = record
        return BatchResult(succeeded, failed)

    def _refuse(self, records: Sequence[Record | None], *, is_create: bool, expiry_days: int | None) -> None:
        """Raise if the request is invalid as a whole."""
        if len(records) > self.records_per_batch_max:
            raise BatchRefused(f"{len(records)} records in a request", code="ValidationException")
        if is_create and expiry_days == NO_EXPIRY:
            raise BatchRefused("REMOVE does not apply to new records.", code="ValidationException")
        culprits: dict[int, str] = {}
        is_refused = False
        for index, record in enumerate(records):
            if record is None:
                continue
            if problem := service_limits().breach(Create(record)):
                culprits[index] = problem
            for fragment, named in self._refused.items():
                if fragment in record.text:
                    is_refused = True
                    culprits |= {index: "told to refuse"} if named else {}
        if culprits or is_refused:
            raise BatchRefused("The request is not valid.", code="ValidationException", culprits=culprits)

    def _failure_of(self, record: Record | None, *, is_absent: bool) -> int | None:
        if record is None:
            return None  # what is absent is deleted
        if is_absent:
            return NOT_FOUND
        return next((code for fragment, code in self._rejected.items() if fragment in record.text), None)

    def _new_id(self) -> MemoryRecordId:
        self._created_count += 1
        return MemoryRecordId(f"mem-{self._created_count:036d}")

    def _require_memory(self) -> None:
        if self.is_missing:
            raise FatalError("The memory does not exist.", code="ResourceNotFoundException")


def _as_shown(memory_record_id: MemoryRecordId, record: Record) -> MemoryRecord:
    return MemoryRecord(memory_record_id, record.namespace, record.text, record.metadata, CREATED_AT)


def _read_record(members: dict[str, Any]) -> Record:
    metadata = {key: tuple(value) if isinstance(value, list) else value for key, value in members["metadata"].items()}
    return Record(**{**members, "metadata": metadata, "timestamp": datetime.fromisoformat(members["timestamp"])})


def _without_last(result: BatchResult) -> BatchResult:
    if not result.succeeded:
        return result
    *kept, omitted = result.succeeded
    return replace(result, succeeded={key: result.succeeded[key] for key in kept}, unknown=frozenset({omitted}))


def _dump(member: dict[str, Any]) -> bytes:
    return json.dumps(member, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
