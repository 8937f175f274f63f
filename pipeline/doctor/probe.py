"""Measures what AWS does not document, on a memory that is there to be thrown away.

`Probe.measure` reads top to bottom. Whatever it writes is below one namespace, and is deleted at the end; what an
interrupted probe left there, the next one deletes. Waits and clocks are passed in.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import anyio

from pipeline.destinations.agentcore import DATA_SERVICE
from pipeline.doctor.account import Account
from pipeline.errors import BatchRefused, ConfigurationError, DestinationError, RetryableError
from pipeline.job import SETTLE_S
from pipeline.limits import service_limits
from pipeline.reporting.text import duration
from pipeline.runs.measured import Measured

NAMESPACE = "/memsync-probe/"  # all that a probe writes is below it
RECORDS_PER_REQUEST = 100

# How often it is looked whether a record shows: soon at first, so that a short lag is measured as one.
LOOK_FIRST_S = 0.05
LOOK_GROWTH = 1.25
LOOK_MAX_S = 1.0

SAMPLES = 3
LAG_MAX_S = 180.0  # what does not show by then is not waited for; 65 s were seen
THROTTLED_S = 2.0  # before a request is sent again
THROTTLED_MAX = 30
# The ages at which client tokens are tried, as shares of the time that is given for that.
TOKEN_AGES = (1 / 15, 1 / 3, 2 / 3, 1.0)

# Two bytes in UTF-8 and one unit in UTF-16; four bytes and two units.
TWO_BYTES, FOUR_BYTES = "é", "\U0001f600"

Lag = Literal["get", "update", "list", "search"]
LAGS: tuple[Lag, ...] = ("get", "update", "list", "search")

METADATA: dict[str, dict[str, Any]] = {
    "probe-text": {"stringValue": "a value: with =20 and /"},
    "probe-list": {"stringListValue": ["one", "two"]},
    "probe-number": {"numberValue": 1.5},
}


class Sample(NamedTuple):
    """A record that was written; `sent_at` by the probe's clock. An empty id: it was not stored."""

    record: Mapping[str, Any]
    token: str
    memory_record_id: str
    sent_at: float


@dataclass(slots=True)
class Probe:
    """`token_s` is for how long client tokens are tried, in seconds; `tell` hears what is being done, for people.

    `settle_s` is how long a listing may not show what was written, in seconds.
    """

    account: Account
    token_s: float
    tell: Callable[[str], None]
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    settle_s: float = SETTLE_S
    _written: set[str] = field(default_factory=set)

    async def measure(self, region: str | None) -> Measured:
        """Measure everything, and leave the memory as it was.

        Raises:
            ConfigurationError: the memory holds records that no probe wrote; nothing was written.
            DestinationError: the memory could not be asked any more. What was written was deleted as far as it could.
        """
        await self.require_own_memory()
        try:
            tokens = [await self._write(f"token {number}") for number in range(len(TOKEN_AGES))]
            self.tell(f"waits until records show, {duration(LAG_MAX_S)} at most")
            lags = await self._lags()
            self.tell("tries limits, bad records and metadata")
            text_limit = await self._text_limit()
            bad_record = await self._bad_record()
            metadata_lost, update_of_metadata = await self._metadata()
            recognised_s, forgotten_s = await self._token_ages(tokens)
        finally:
            with anyio.move_on_after(60, shield=True):
                await self._clean_up()
        return Measured(
            measured_at=self.now(),
            memory_id=self.account.memory_id,
            region=region,
            endpoint_url=self.account.connection.endpoint_url,
            get_lag_s=lags["get"],
            update_lag_s=lags["update"],
            list_lag_s=lags["list"],
            search_lag_s=lags["search"],
            token_recognised_s=recognised_s,
            token_forgotten_s=forgotten_s,
            text_limit=text_limit,
            bad_record=bad_record,
            metadata_lost=metadata_lost,
            update_of_metadata=update_of_metadata,
        )

    # ------------------------------------------------------------------------------------------ whose memory

    async def require_own_memory(self) -> None:
        """See that nothing is there but what a probe that was interrupted left, nor shows after a while.

        Raises:
            ConfigurationError: there is.
        """
        await self._require_no_others()
        if self.settle_s:
            self.tell(f"waits {duration(self.settle_s)} for what somebody may have written a moment ago")
            await self.sleep(self.settle_s)
            await self._require_no_others()

    async def _require_no_others(self) -> None:
        async for page in self._pages("/"):
            for summary in page:
                namespace = next(iter(summary["namespaces"]), "")
                if not namespace.startswith(NAMESPACE):
                    raise ConfigurationError(
                        f"the memory {self.account.memory_id} holds records, such as in the namespace {namespace!r}."
                        " Nothing was written. A probe needs a memory that is there to be thrown away: make one, and"
                        " name that with --memory-id"
                    )
                self._written.add(summary["memoryRecordId"])

    async def _pages(self, namespace_path: str) -> AsyncGenerator[Sequence[Mapping[str, Any]], None]:
        token: dict[str, str] = {}
        while True:
            answer = await self._ask(
                "list_memory_records", namespacePath=namespace_path, maxResults=RECORDS_PER_REQUEST, **token
            )
            yield answer["memoryRecordSummaries"]
            if not answer.get("nextToken"):
                return
            token = {"nextToken": answer["nextToken"]}

    async def _clean_up(self) -> None:
        """Delete what was written, and what was left by others of our kind."""
        ids = sorted(self._written)
        for start in range(0, len(ids), RECORDS_PER_REQUEST):
            some = ids[start : start + RECORDS_PER_REQUEST]
            try:
                answer = await self._ask(
                    "batch_delete_memory_records", records=[{"memoryRecordId": record_id} for record_id in some]
                )
            except DestinationError as error:
                self.tell(f"could not delete what it wrote below {NAMESPACE}: {error} The next probe does.")
                return
            left = [each for each in answer["failedRecords"] if each.get("errorCode") != 404]
            if left:
                self.tell(
                    f"{len(left)} of its records below {NAMESPACE} could not be deleted; the next probe tries again"
                )
            self._written.difference_update(some)

    # ------------------------------------------------------------------------------------------------- lags

    async def _lags(self) -> dict[Lag, float | None]:
        """For each way to look, the longest time until a record showed; None if one did not in `LAG_MAX_S`."""
        samples = [await self._write(f"sample {number}") for number in range(SAMPLES)]
        waiting = [(kind, sample) for sample in samples for kind in LAGS if sample.memory_record_id]
        longest: dict[Lag, float] = {}
        ends_at, wait_s = self.clock() + LAG_MAX_S, LOOK_FIRST_S
        while waiting and self.clock() < ends_at:
            for kind, sample in tuple(waiting):
                if await self._shows(kind, sample):
                    waiting.remove((kind, sample))
                    longest[kind] = max(longest.get(kind, 0.0), self.clock() - sample.sent_at)
            if waiting:
                await self.sleep(wait_s)
                wait_s = min(LOOK_GROWTH * wait_s, LOOK_MAX_S)
        never = {kind for kind, _ in waiting}
        return {kind: None if kind in never or kind not in longest else round(longest[kind], 2) for kind in LAGS}

    async def _shows(self, kind: Lag, sample: Sample) -> bool:
        (namespace,) = sample.record["namespaces"]
        match kind:
            case "get":
                return await self._get(sample.memory_record_id) is not None
            case "update":
                return await self._update(sample)
            case "list":
                found = await self._ask("list_memory_records", namespace=namespace, maxResults=1)
            case "search":
                criteria = {"searchQuery": sample.record["content"]["text"], "topK": 1}
                found = await self._ask(
                    "retrieve_memory_records", namespace=namespace, searchCriteria=criteria, maxResults=1
                )
        return bool(found["memoryRecordSummaries"])

    # ----------------------------------------------------------------------------------------------- limits

    async def _text_limit(self) -> Literal["characters", "utf16", "bytes"] | None:
        """What the longest text that the service's model allows is counted in; None if not even ASCII is taken."""
        characters = service_limits().text.max
        if not await self._is_stored_whole("x" * characters):
            return None
        if not await self._is_stored_whole(TWO_BYTES * characters):
            return "bytes"
        return "characters" if await self._is_stored_whole(FOUR_BYTES * characters) else "utf16"

    async def _is_stored_whole(self, text: str) -> bool:
        try:
            sample = await self._write("text", text=text)
        except BatchRefused:
            return False
        stored = await self._soon(sample) if sample.memory_record_id else None
        return stored is not None and stored["content"]["text"] == text

    async def _bad_record(self) -> Literal["fails_alone", "refuses_all", "refuses_all_and_is_named", "is_stored"]:
        """What becomes of a good record beside one whose text is too long."""
        good, bad = self._record("good"), self._record("bad", text="x" * (service_limits().text.max + 1))
        try:
            answer = await self._create([good, bad], str(uuid.uuid4()))
        except BatchRefused as refusal:
            return "refuses_all_and_is_named" if set(refusal.culprits) == {1} else "refuses_all"
        stored = {entry.get("requestIdentifier") for entry in answer["successfulRecords"]}
        return "is_stored" if bad["requestIdentifier"] in stored else "fails_alone"

    # --------------------------------------------------------------------------------------------- metadata

    async def _metadata(self) -> tuple[tuple[str, ...] | None, Literal["replaces", "merges"] | None]:
        """Which types of values were lost on the way, and what an update of one does to the others."""
        try:
            sample = await self._write("metadata", metadata=METADATA)
        except BatchRefused:
            return tuple(_type_of(value) for value in METADATA.values()), None
        stored = await self._soon(sample) if sample.memory_record_id else None
        if stored is None:
            return None, None
        came_back = stored.get("metadata", {})
        lost = tuple(_type_of(value) for key, value in METADATA.items() if came_back.get(key) != value)
        if lost:
            return lost, None
        changed = {"probe-text": {"stringValue": "another"}}
        if not await self._until(lambda: self._update(sample, metadata=changed)):
            return lost, None
        now = (await self._get(sample.memory_record_id) or {}).get("metadata", {})
        if now.get("probe-text") != changed["probe-text"]:  # the update does not show yet
            return lost, None
        return lost, "merges" if "probe-number" in now else "replaces"

    # ----------------------------------------------------------------------------------------------- tokens

    async def _token_ages(self, samples: Sequence[Sample]) -> tuple[float | None, float | None]:
        """The greatest age up to which all tokens were recognised, and the least at which one was not, in seconds."""
        recognised_s: float | None = None
        for sample, share in zip(samples, TOKEN_AGES, strict=True):
            if not sample.memory_record_id:  # it was not stored, and a new try says nothing
                continue
            wait_s = sample.sent_at + share * self.token_s - self.clock()
            if wait_s > 0:
                self.tell(f"waits {duration(wait_s)} before it sends a client token again")
                await self.sleep(wait_s)
            age_s = round(self.clock() - sample.sent_at, 2)
            answer = await self._create([sample.record], sample.token)
            ids = [entry["memoryRecordId"] for entry in answer["successfulRecords"]]
            if not ids:
                return recognised_s, None
            if ids != [sample.memory_record_id]:
                return recognised_s, age_s
            recognised_s = age_s
        return recognised_s, None

    # --------------------------------------------------------------------------------------------- requests

    def _record(self, name: str, **members: Any) -> dict[str, Any]:
        """A record in a namespace of its own; `text` and `metadata` as given."""
        key = uuid.uuid4().hex
        record: dict[str, Any] = {
            "requestIdentifier": key,
            "namespaces": [f"{NAMESPACE}{key}/"],
            "content": {"text": members.pop("text", f"memsync probe {name}")},
            "timestamp": int(self.now()),
        }
        return record | members

    async def _write(self, name: str, **members: Any) -> Sample:
        record, token, sent_at = self._record(name, **members), str(uuid.uuid4()), self.clock()
        answer = await self._create([record], token)
        ids = [entry["memoryRecordId"] for entry in answer["successfulRecords"]]
        return Sample(record, token, ids[0] if ids else "", sent_at)

    async def _create(self, records: Sequence[Mapping[str, Any]], token: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._ask("batch_create_memory_records", records=records, clientToken=token)
        self._written.update(entry["memoryRecordId"] for entry in answer["successfulRecords"])
        return answer

    async def _update(self, sample: Sample, **members: Any) -> bool:
        """Whether the memory took an update of the record."""
        change = {"memoryRecordId": sample.memory_record_id, "timestamp": sample.record["timestamp"], **members}
        answer = await self._ask("batch_update_memory_records", records=[change])
        return bool(answer["successfulRecords"])

    async def _get(self, memory_record_id: str) -> Mapping[str, Any] | None:
        try:
            answer = await self._ask("get_memory_record", memoryRecordId=memory_record_id)
        except DestinationError as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise
        record: Mapping[str, Any] = answer["memoryRecord"]
        return record

    async def _soon(self, sample: Sample) -> Mapping[str, Any] | None:
        """The record as the memory holds it, as soon as it can be had; None if it cannot."""
        await self._until(lambda: self._is_there(sample))
        return await self._get(sample.memory_record_id)

    async def _is_there(self, sample: Sample) -> bool:
        return await self._get(sample.memory_record_id) is not None

    async def _until(self, is_so: Callable[[], Awaitable[bool]]) -> bool:
        """Look until it is so, for `LAG_MAX_S` at most; return whether it is."""
        ends_at, wait_s = self.clock() + LAG_MAX_S, LOOK_FIRST_S
        while not await is_so():
            if self.clock() >= ends_at:
                return False
            await self.sleep(wait_s)
            wait_s = min(LOOK_GROWTH * wait_s, LOOK_MAX_S)
        return True

    async def _ask(self, method: str, **parameters: Any) -> Any:
        """The answer of one call; throttled, it is sent again."""
        for _ in range(THROTTLED_MAX):
            try:
                return await self.account.ask(DATA_SERVICE, method, memoryId=self.account.memory_id, **parameters)
            except RetryableError as error:
                if not error.is_throttle:
                    raise
                await self.sleep(error.retry_after_s or THROTTLED_S)
        return await self.account.ask(DATA_SERVICE, method, memoryId=self.account.memory_id, **parameters)


def _type_of(value: Mapping[str, Any]) -> str:
    return next(iter(value))
