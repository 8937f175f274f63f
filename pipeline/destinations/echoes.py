"""Words of a service without what it repeats of the documents that it was sent: messages go into logs and reports."""

import re
from collections.abc import Iterator
from functools import lru_cache

import orjson

MESSAGE_CHARACTERS_MAX = 500
ECHO_CHARACTERS = 12  # so long a piece of a document is hardly there by chance
SHORT_TEXT_CHARACTERS_MIN = 4  # a whole text that is shorter than an echo, but tells something
LEFT_OUT = "…"
OURS = "memsync-"  # metadata of this name tells where a record comes from, not what it says

_VALUE = re.compile(r"(?is)\b(values?) '.*' (at '|failed)")  # AWS: "Value '…' at 'records.1…' failed"


def without_values(message: str) -> str:
    """`message` without the values that AWS quotes in it: they are documents."""
    return _VALUE.sub(r"\1 \2", message)


def without_echoes(message: str, sent: bytes, position: int | None = None) -> str:
    """The beginning of `message` without the values that AWS quotes, and without any piece of the texts and metadata
    in `sent`, the records of a request; with a `position`, the message is about this record, and only that is sought.
    """
    message = without_values(message)[:MESSAGE_CHARACTERS_MAX]
    records = _values(sent) if sent else ()
    if position is not None and position < len(records):
        records = records[position : position + 1]
    values = [value for record in records for value in record]
    for short in values:
        if SHORT_TEXT_CHARACTERS_MIN <= len(short) < ECHO_CHARACTERS:
            message = message.replace(short, LEFT_OUT)
    return _without_pieces(message, "\0".join(values))


def _without_pieces(message: str, texts: str) -> str:
    kept = []
    position = 0
    while position < len(message):
        end = position + ECHO_CHARACTERS
        if end > len(message) or message[position:end] not in texts:
            kept.append(message[position])
            position += 1
            continue
        while end < len(message) and message[position : end + 1] in texts:
            end += 1
        kept.append(LEFT_OUT)
        position = end
    return "".join(kept)


@lru_cache(maxsize=1)  # of one refused batch, each record can have failed with a message of its own
def _values(sent: bytes) -> tuple[tuple[str, ...], ...]:
    """What the documents say in each of the records, the longest first."""
    values = []
    records = orjson.loads(sent)
    for record in records if isinstance(records, list) else [records]:
        metadata = record.get("metadata") or {}
        told = [value for name, value in metadata.items() if not name.startswith(OURS)]
        values.append(tuple(sorted(_strings([record.get("content"), *told]), key=len, reverse=True)))
    return tuple(values)


def _strings(value: object) -> Iterator[str]:
    """All the strings in `value`, as they stand and as they look in JSON."""
    if isinstance(value, str):
        yield value.strip()
        yield orjson.dumps(value.strip()).decode()[1:-1]
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
