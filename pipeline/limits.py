"""The service's limits, read from the botocore model that is installed.

botocore itself checks types, required members and minimum lengths, never patterns or maximum lengths; so one
record of 17,000 characters would cost the 99 others of its request. Reading the model file directly keeps botocore
unimported (0.6 s) where nothing is sent.
"""

import functools
import gzip
import importlib.util
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.model import Create, Delete, MetadataValue, Record, RecordContent, Update

# The model counts characters; whether the service counts bytes is not documented, so texts stay below both,
# and below them by a margin, since neither is it documented how characters beyond the BMP count.
TEXT_MARGIN = 200


@dataclass(frozen=True, slots=True, eq=False)
class StringLimit:
    """Bounds of a string; `pattern` must match all of it."""

    min: int
    max: int
    pattern: re.Pattern[str] | None = None

    def breach(self, value: str) -> str | None:
        """Tell how `value` breaks this limit, without repeating it; None if it does not."""
        if len(value) < self.min:
            return f"has {len(value)} characters, at least {self.min} are needed"
        if len(value) > self.max:
            return f"has {len(value)} characters, {self.max} are allowed"
        if self.pattern and not self.pattern.fullmatch(value):
            return "has characters that the service does not allow"
        return None


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """Every bound that a record must keep, named after the member of the request."""

    records_per_request_max: int
    request_identifier: StringLimit
    namespaces_max: int
    namespace: StringLimit
    text: StringLimit
    strategy_id: StringLimit
    memory_record_id: StringLimit
    metadata_entries_max: int
    metadata_key: StringLimit
    metadata_string: StringLimit
    metadata_list_max: int
    metadata_list_string: StringLimit
    memory_id: StringLimit
    record_expiry_days_min: int

    @property
    def text_characters_max(self) -> int:
        return self.text.max - TEXT_MARGIN

    @property
    def text_bytes_max(self) -> int:
        return self.text.max - TEXT_MARGIN

    def breach(self, change: Create | Update | Delete) -> str | None:
        """Tell which limit `change` breaks, by the member's name and without its content; None if it breaks none."""
        if not isinstance(change, Create) and (problem := self.memory_record_id.breach(change.known.memory_record_id)):
            return f"memoryRecordId {problem}"
        return None if isinstance(change, Delete) else self._breach_of_record(change.record)

    def breach_of_content(self, content: RecordContent) -> str | None:
        """Tell which limit a record's text or metadata breaks, as `breach` does."""
        if problem := self._breach_of_text(content.text):
            return f"content.text {problem}"
        if len(content.metadata) > self.metadata_entries_max:
            return f"metadata has {len(content.metadata)} entries, {self.metadata_entries_max} are allowed"
        for key, entry in content.metadata.items():
            if problem := _breach(self.metadata_key, key) or self._breach_of_value(entry):
                return f"metadata {key!r} {problem}"
        return None

    def _breach_of_record(self, record: Record) -> str | None:
        if problem := self.request_identifier.breach(record.key):
            return f"requestIdentifier {problem}"
        if problem := _breach(self.namespace, record.namespace):
            return f"namespaces {problem}"
        if record.strategy_id is not None and (problem := _breach(self.strategy_id, record.strategy_id)):
            return f"memoryStrategyId {problem}"
        return self.breach_of_content(RecordContent(record.text, record.metadata))

    def _breach_of_text(self, text: str) -> str | None:
        if problem := self.text.breach(text):
            return problem
        try:
            size_bytes = len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            return "holds a lone surrogate, which UTF-8 cannot carry"
        return f"has more than {self.text.max} bytes in UTF-8" if size_bytes > self.text.max else None

    def _breach_of_value(self, value: MetadataValue) -> str | None:
        if isinstance(value, str):
            return _breach(self.metadata_string, value)
        if isinstance(value, tuple):
            if not 1 <= len(value) <= self.metadata_list_max:
                return f"is a list of {len(value)}, 1 to {self.metadata_list_max} are allowed"
            return next(filter(None, map(self.metadata_list_string.breach, value)), None)
        return None if math.isfinite(value) else "is a number that JSON cannot carry"


@functools.lru_cache(maxsize=1024)  # a document's records share most of what they say
def _breach(limit: StringLimit, value: str) -> str | None:
    return limit.breach(value)


@functools.cache
def service_limits() -> ServiceLimits:
    """The limits of the AgentCore data plane, from the newest model that the installed botocore has."""
    shapes = _load_shapes()

    def string(shape: str) -> StringLimit:
        bounds = shapes[shape]
        pattern = bounds.get("pattern")
        return StringLimit(bounds.get("min", 0), bounds["max"], re.compile(pattern, re.ASCII) if pattern else None)

    memory_id = shapes["MemoryId"]
    return ServiceLimits(
        records_per_request_max=min(
            shapes[f"MemoryRecords{verb}InputList"]["max"] for verb in ("Create", "Update", "Delete")
        ),
        request_identifier=string("RequestIdentifier"),
        namespaces_max=shapes["NamespacesList"]["max"],
        namespace=string("Namespace"),
        text=string("MemoryContentTextString"),
        strategy_id=string("MemoryStrategyId"),
        memory_record_id=string("MemoryRecordId"),
        metadata_entries_max=shapes["MemoryRecordMetadataMap"]["max"],
        metadata_key=string("MetadataKey"),
        metadata_string=string("StringValue"),
        metadata_list_max=shapes["StringValueList"]["max"],
        metadata_list_string=string(shapes["StringValueList"]["member"]["shape"]),
        memory_id=StringLimit(memory_id["min"], 2048, re.compile(memory_id["pattern"], re.ASCII)),
        record_expiry_days_min=shapes["RecordExpiryDurationDays"]["min"],
    )


def _load_shapes() -> dict[str, Any]:
    found = importlib.util.find_spec("botocore")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError("botocore is not installed; `pip install agentcore-memory-sync` brings it along")
    versions = sorted(
        Path(found.submodule_search_locations[0], "data", "bedrock-agentcore").glob("*/service-2.json.gz")
    )
    if not versions:
        raise ConfigurationError(
            "the installed botocore does not know bedrock-agentcore; `pip install 'aiobotocore>=3.9'` brings one that"
            " does"
        )
    with gzip.open(versions[-1]) as file:
        shapes: dict[str, Any] = json.load(file)["shapes"]
    return shapes
