"""What `memsync preview` prints: one document on its way to records, with its text, since that is what it is for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.reporting.text import PLAIN, Style, amount

_EXCERPT_LINES_MAX = 6
_EXCERPT_CHARACTERS_MAX = 240  # of a line


@dataclass(frozen=True, slots=True)
class RecordPreview:
    """`problem` tells which of the service's limits it breaks; then it becomes a dead letter."""

    characters: int
    namespace: str
    text: str
    metadata: Mapping[str, Any]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TextPreview:
    """The text of a document, or of one of its parts. `unused` is what it says of itself and no record takes up.

    `problem` tells why a part becomes no records.
    """

    id: str
    title: str | None
    modified_at: str | None
    characters: int
    unused: Mapping[str, Any] = field(default_factory=dict)
    records: Sequence[RecordPreview] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentPreview:
    """`problem` tells why it becomes no records, or why not all; `has_more` that it holds more documents than these."""

    id: str
    uri: str
    size_bytes: int | None
    media_type: str | None
    texts: Sequence[TextPreview] = ()
    problem: str | None = None
    has_more: bool = False


def render_preview(preview: DocumentPreview, *, is_full: bool, style: Style = PLAIN) -> str:
    """Return the document, its texts, and the records of each; of long ones the beginning, unless all is wanted."""
    return "\n".join(_document(preview, is_full, style))


def _document(preview: DocumentPreview, is_full: bool, style: Style) -> Iterator[str]:
    yield style.paint(style.text(preview.id), "bold")
    size = "" if preview.size_bytes is None else f", {preview.size_bytes:,} bytes"
    yield f"    {style.text(preview.uri)}{size}{_said(', ', preview.media_type, style)}"
    for text in preview.texts:
        yield from _text(text, preview.id, is_full, style)
    if preview.problem:
        yield f"{style.sign('bad')} {style.text(preview.problem)}"
    records = [record for text in preview.texts for record in text.records]
    broken = sum(record.problem is not None for record in records)
    yield ""
    yield f"{amount(len(records), 'record')}{f', of which {broken:,} would be dead letters' if broken else ''}."
    if preview.has_more:
        yield f"Only the first {amount(len(preview.texts), 'document')} in it are shown; --full shows all."
    elif not is_full and any(_excerpt(record.text, style) != style.lines(record.text) for record in records):
        yield "Long texts are shown in part; --full shows all."


def _text(text: TextPreview, document: str, is_full: bool, style: Style) -> Iterator[str]:
    yield ""
    name = "text" if text.id == document else style.text(text.id)
    if text.problem:
        yield f"{style.sign('bad')} {name}: {style.text(text.problem)}"
        return
    yield f"{name}: {amount(text.characters, 'character')}{_said(', titled ', text.title, style)}" + _said(
        ", of ", text.modified_at, style
    )
    for key, value in text.unused.items():
        yield f"    not used: {style.text(key)} = {style.text(_value(value), characters_max=200)}"
    for number, record in enumerate(text.records, start=1):
        yield ""
        yield style.paint(f"  record {number} of {len(text.records)}: {amount(record.characters, 'character')}", "bold")
        yield f"    namespace {style.text(record.namespace)}"
        for key, value in record.metadata.items():
            yield f"    {style.text(key)} = {style.text(_value(value), characters_max=200)}"
        if record.problem:
            yield f"    {style.sign('bad')} {style.text(record.problem)}"
        lines = style.lines(record.text) if is_full else _excerpt(record.text, style)
        yield from (f"    | {line}" for line in lines)


def _excerpt(text: str, style: Style) -> list[str]:
    lines = [style.text(line, characters_max=_EXCERPT_CHARACTERS_MAX) for line in style.lines(text)]
    return lines if len(lines) <= _EXCERPT_LINES_MAX else [*lines[: _EXCERPT_LINES_MAX - 1], "..."]


def _value(value: object) -> str:
    """A value of metadata as people write it: numbers are floats there, lists are tuples."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _said(before: str, value: str | None, style: Style) -> str:
    return f"{before}{style.text(value)}" if value else ""
