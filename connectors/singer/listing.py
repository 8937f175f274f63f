"""What a Singer tap printed in one run, and what its lines mean: documents, removals, and how far it came."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import quote

from connectors.kit.row_values import (
    DUPLICATE_ID,
    WRITTEN,
    Fault,
    MediaType,
    as_time,
    content_of,
    fingerprint_of,
    title_of,
    write_id,
)
from connectors.singer.spool import Spool
from pipeline.model import Document, DocumentId, DocumentRef, DocumentRemoved, Fingerprint, ScanError

EVENTS_PER_LIST_MAX = 1_000
EVENTS_WAITING_MAX = 25_000  # for a state; most taps print one at least every 10,000 rows
DIGITS_MAX = 40  # of a number that is a key
DELETED_AT = "_sdc_deleted_at"  # by convention of Singer: the row is gone since then

ReplicationMethod = Literal["FULL_TABLE", "INCREMENTAL", "LOG_BASED"]


class StreamOptions(Protocol):
    """What the settings say of a stream; None: what its schema says."""

    @property
    def id(self) -> tuple[str, ...] | None: ...
    @property
    def text(self) -> tuple[str, ...] | None: ...
    @property
    def title(self) -> str | None: ...
    @property
    def modified_at(self) -> str | None: ...
    @property
    def metadata(self) -> tuple[str, ...]: ...
    @property
    def media_type(self) -> MediaType: ...
    @property
    def replication_method(self) -> ReplicationMethod: ...


class State(NamedTuple):
    """The last STATE of a run; all that it speaks of was listed before."""

    value: Any


Event = DocumentRef | DocumentRemoved | State


@dataclass(frozen=True, slots=True)
class RowReader:
    """Makes documents of a stream's rows, by one of its SCHEMA messages."""

    stream: str
    key: tuple[str, ...]
    text: tuple[str, ...]
    title: str | None
    modified_at: str | None
    metadata: tuple[str, ...]
    media_type: MediaType
    uri: str

    def id(self, row: Mapping[str, Any]) -> DocumentId:
        """The id of a row's document.

        Raises:
            Fault: it has none.
        """
        values = [_as_key(row.get(name)) for name in self.key]
        if any(value is None for value in values):
            raise Fault("null_id", f"rows of the stream {self.stream!r} have no value in {_words(self.key)}")
        try:
            if all(type(value) in WRITTEN for value in values):
                return DocumentId(scope_of(self.stream) + write_id(values))
        except UnicodeEncodeError:
            pass
        raise Fault(
            "unusable_id", f"rows of the stream {self.stream!r} have a value in {_words(self.key)} that cannot be an id"
        )

    def ref(self, document: DocumentId, row: Mapping[str, Any], line_bytes: int) -> DocumentRef:
        return DocumentRef(
            document,
            self.uri + document,
            self._fingerprint(row),
            line_bytes,
            as_time(row.get(self.modified_at) if self.modified_at else None),
            _encodable(title_of(row.get(self.title) if self.title else None)),
        )

    def document(self, ref: DocumentRef, row: Mapping[str, Any]) -> Document:
        content, media_type = content_of([(name, row.get(name)) for name in self.text], self.media_type)
        metadata = {name: _as_plain(row[name]) for name in self.metadata if row.get(name) is not None}
        return Document(ref, content, media_type, metadata)

    def _fingerprint(self, row: Mapping[str, Any]) -> Fingerprint:
        names = (self.title, self.modified_at, *self.metadata, *self.text)
        values = [row.get(name) if name else None for name in names]
        return fingerprint_of((self.text, self.title, self.modified_at, self.metadata, self.media_type), values)


def scope_of(stream: str) -> str:
    return quote(stream, safe=":@+=,").replace(".", "%2E") + "/"


@dataclass(slots=True)
class StreamListing:
    """How far a stream has come."""

    options: StreamOptions
    reader: int | None = None  # the number of the SCHEMA that holds; None: none came yet
    problems: dict[str, str] = field(default_factory=dict)  # what keeps it from being complete, by code

    @property
    def is_full(self) -> bool:
        return self.options.replication_method == "FULL_TABLE"


class Listing:
    """One run of a tap, on its way from lines to documents. Its methods are called by one thread at a time.

    A document that comes again as it was says nothing new. One that comes again with other content, after it was
    listed, cannot be listed twice: in a stream of all rows that makes the id doubtful, in one of changes it holds the
    state back, so that the next run begins before it. So that this one begins behind the earlier content, changes are
    listed from state to state.
    """

    def __init__(self, file: Path, streams: Mapping[str, StreamOptions], uri: str) -> None:
        self.streams = {name: StreamListing(options) for name, options in streams.items()}
        self._spool = Spool(file)
        self._uri = uri
        self._readers: list[RowReader] = []
        self._waiting: dict[DocumentId, DocumentRef | DocumentRemoved] = {}
        self._state: State | None = None
        self._is_of_all_rows = all(stream.is_full for stream in self.streams.values())
        self._is_held_back = self._is_of_all_rows  # it would be of no use

    def close(self) -> None:
        self._spool.close()

    # --------------------------------------------------------------------------------------------- what comes

    def take(self, lines: Iterable[bytes]) -> tuple[list[list[Event]], Fault | None]:
        """What these lines bring, as far as it need not wait; and the fault of one that is not of a tap, if there is.

        Nothing is known of what comes behind such a line.
        """
        lists: list[list[Event]] = []
        try:
            with self._spool.filling():
                for line in filter(bytes.strip, lines):
                    state = self._state
                    self._take(line)
                    may_go = self._is_of_all_rows or self._state is not state
                    if len(self._waiting) >= (EVENTS_PER_LIST_MAX if may_go else EVENTS_WAITING_MAX):
                        lists += self.rest()
        except Fault as fault:
            return lists, fault
        return lists, None

    def rest(self) -> list[list[Event]]:
        """What came and was not returned yet, and the state that it leads to, in lists that are not empty."""
        events: list[Event] = list(self._waiting.values())
        self._waiting.clear()
        if self._state is not None and not self._is_held_back and not any(s.problems for s in self.streams.values()):
            events.append(self._state)
            self._state = None
        return [events[start : start + EVENTS_PER_LIST_MAX] for start in range(0, len(events), EVENTS_PER_LIST_MAX)]

    def _take(self, line: bytes) -> None:
        message = _message(line)
        match message.get("type"), message.get("stream"):
            case "STATE", _:
                self._state = State(message.get("value"))
            case "RECORD", str(name):
                if name in self.streams:
                    self._take_row(name, message.get("record"), line)
            case "SCHEMA", str(name):
                if name in self.streams:
                    self._take_schema(name, message)
            case "ACTIVATE_VERSION", str():
                pass  # the rows say it all
            case _:
                raise Fault("no_message", "it printed a line that is no SCHEMA, RECORD, STATE or ACTIVATE_VERSION")

    def _take_schema(self, name: str, message: Mapping[str, Any]) -> None:
        stream = self.streams[name]
        reader = _reader(name, stream.options, message, self._uri)
        if stream.reader is not None and self._readers[stream.reader].key != reader.key:
            raise Fault("changed_key", f"the stream {name!r} changed its key in the middle of its rows")
        if stream.reader is None or self._readers[stream.reader] != reader:
            self._readers.append(reader)
            stream.reader = len(self._readers) - 1

    def _take_row(self, name: str, row: object, line: bytes) -> None:
        stream = self.streams[name]
        if stream.reader is None or not isinstance(row, dict):
            raise Fault("no_message", f"it printed a row of the stream {name!r} that has no schema or no record")
        reader = self._readers[stream.reader]
        try:
            document = reader.id(row)
        except Fault as fault:
            stream.problems.setdefault(fault.code, f"{fault}, and were left out")
            return
        is_gone = row.get(DELETED_AT) is not None
        event = DocumentRemoved(document) if is_gone else reader.ref(document, row, len(line))
        fingerprint = None if isinstance(event, DocumentRemoved) else event.fingerprint
        before = self._spool.fingerprint(document)
        if before == (fingerprint,):
            return
        if before is not None and stream.is_full and not is_gone and before != (None,):
            stream.problems.setdefault(
                DUPLICATE_ID,
                f"rows of the stream {name!r} share their value of {_words(reader.key)}, which does not tell them apart"
                " (or changed while they were listed)",
            )
            return
        if before is not None and not is_gone and not stream.is_full and document not in self._waiting:
            self._is_held_back = True  # the next run brings it
            return
        self._spool.put(document, stream.reader, fingerprint, None if is_gone else line)
        self._waiting[document] = event

    # ------------------------------------------------------------------------------------------- what is asked

    def has(self, document: DocumentId) -> bool | None:
        """Whether the run showed the document, False if it said that it is gone; None if it said nothing of it."""
        found = self._spool.line(document)
        return None if found is None else found[1] is not None

    def document(self, document: DocumentId) -> Document | None:
        """The document as the run showed it; None if it did not.

        Raises:
            Fault: it cannot be read again.
        """
        found = self._spool.line(document)
        if found is None or found[1] is None:
            return None
        reader, line = self._readers[found[0]], found[1]
        row = _message(line)["record"]
        return reader.document(reader.ref(document, row, len(line)), row)

    def problems(self, name: str) -> Iterator[ScanError]:
        """What keeps a stream from being complete that ran to its end."""
        stream = self.streams[name]
        if stream.reader is None:
            yield ScanError(
                scope_of(name),
                "no_schema",
                f"The tap printed no SCHEMA of the stream {name!r}: it selected nothing, or the stream is not there any"
                " more. Nothing was concluded from that. Check `source.streams` and the tap's own settings.",
            )
        for code, message in stream.problems.items():
            yield ScanError(
                scope_of(name),
                code,
                f"{message[0].upper()}{message[1:]}. What is gone from there is deleted once that is corrected, or"
                f" `source.streams.{name}.id` is.",
            )


# ----------------------------------------------------------------------------------------------------- messages


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Fault("no_message", "it printed a line that is no JSON") from None  # the error has the line
    if not isinstance(message, dict):
        raise Fault("no_message", "it printed a line that is no message")
    return message


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _reader(name: str, options: StreamOptions, message: Mapping[str, Any], uri: str) -> RowReader:
    schema, key_properties = message.get("schema"), message.get("key_properties") or ()
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not isinstance(key_properties, list | tuple):
        raise Fault("no_message", f"it printed a SCHEMA of the stream {name!r} that is none")
    key = options.id or tuple(str(each) for each in key_properties)
    if not key:
        raise Fault("no_key", f"the stream {name!r} has no key; name its fields in `source.streams.{name}.id`")
    others = {*key, options.title, options.modified_at, *options.metadata}
    text = options.text or tuple(
        field for field, about in properties.items() if field not in others and _is_text(field, about)
    )
    if not text:
        raise Fault("no_text", f"the stream {name!r} has no text; name its fields in `source.streams.{name}.text`")
    named = (*(options.id or ()), *(options.text or ()), options.title, options.modified_at, *options.metadata)
    missing = [each for each in named if each is not None and properties and each not in properties]
    if missing:
        raise Fault("no_field", f"the stream {name!r} has no field {missing[0]!r}, which `source.streams.{name}` names")
    return RowReader(name, key, text, options.title, options.modified_at, options.metadata, options.media_type, uri)


def _is_text(name: str, about: object) -> bool:
    """Whether a field holds words, by its JSON Schema."""
    if name.startswith("_sdc_") or not isinstance(about, dict):
        return False
    kinds = [about, *(each for each in about.get("anyOf") or () if isinstance(each, dict))]
    return any("string" in _types(kind) and kind.get("format") is None and "enum" not in kind for kind in kinds)


def _types(about: Mapping[str, Any]) -> Sequence[object]:
    types = about.get("type")
    return types if isinstance(types, list) else [types]


def _as_key(value: Any) -> Any:
    """A number that some write with a point, as 12.0, is the same without; one with many zeros is nobody's key."""
    if not isinstance(value, Decimal):
        return value
    if abs(value.adjusted()) > DIGITS_MAX:
        return float("nan")
    return int(value) if value == value.to_integral_value() else value


def _as_plain(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value


def _encodable(text: str | None) -> str | None:
    """`text` without halves of characters, which JSON can hold and nothing else."""
    return text and text.encode(errors="replace").decode()


def _words(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
