"""Compares what the ledger believes with what the memory shows."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.identity import encode_metadata, record_digest
from pipeline.limits import ServiceLimits
from pipeline.mapping import KEY_METADATA_KEY, SOURCE_METADATA_KEY, RecordRules, namespace_root, own_metadata
from pipeline.model import MemoryRecordId, MetadataValue, RecordKey
from pipeline.protocols import StateStore

PAGE = 500


class ListedRecord(Protocol):
    """A record as a listing of the memory shows it."""

    @property
    def id(self) -> MemoryRecordId: ...
    @property
    def namespace(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def metadata(self) -> Mapping[str, MetadataValue]: ...


class ReadableMemory(Protocol):
    """What verification asks of a memory; a listing shows a record some time after it was written."""

    def list_records(self, *, namespace_path: str) -> AsyncIterator[Sequence[ListedRecord]]: ...

    async def holds(self, memory_record_id: MemoryRecordId) -> bool: ...


@dataclass(slots=True)
class Verification:
    """`foreign` bear the source's name and are not in the ledger; `duplicates` stand in the memory twice."""

    checked: int = 0
    missing: list[RecordKey] = field(default_factory=list)
    changed: list[RecordKey] = field(default_factory=list)
    foreign: int = 0
    duplicates: int = 0


async def verify(state: StateStore, memory: ReadableMemory, rules: RecordRules, limits: ServiceLimits) -> Verification:
    """Compare every record of the source, by what it says. Changes nothing.

    A record that the listing does not show is asked for by its id before it counts as missing, since listings lag.
    """
    result = Verification()
    source = encode_metadata(rules.source, limits.metadata_string.max)
    seen: set[RecordKey] = set()
    async for page in memory.list_records(namespace_path=namespace_root(rules)):
        ours = [record for record in page if record.metadata.get(SOURCE_METADATA_KEY) == source]
        known = await state.records_by_key({RecordKey(str(record.metadata.get(KEY_METADATA_KEY))) for record in ours})
        for record in ours:
            result.checked += 1
            key = RecordKey(str(record.metadata.get(KEY_METADATA_KEY)))
            if key not in known:
                result.foreign += 1
            elif known[key].memory_record_id != record.id:
                result.duplicates += 1
            else:
                seen.add(key)
                digest = record_digest(
                    key, record.text, record.namespace, rules.strategy_id, own_metadata(record.metadata)
                )
                if digest != known[key].digest:
                    result.changed.append(key)
    after = RecordKey("")
    while records := await state.records_after(after, limit=PAGE):
        after = records[-1].key
        for expected in records:
            if expected.key not in seen and not await memory.holds(expected.memory_record_id):
                result.checked += 1
                result.missing.append(expected.key)
    return result
