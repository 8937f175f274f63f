"""JSON Lines: each line an object, each object a document."""

import json
from collections.abc import Iterator, Mapping

from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentRef, ParsedDocument
from pipeline.parsing.decoding import Encoding, clean, open_text
from pipeline.parsing.lines import (
    MODIFIED_NAMES,
    TEXT_NAMES,
    TITLE_NAMES,
    LineIds,
    line_id,
    render,
    usual_name,
)
from pipeline.parsing.metadata import as_json, as_time, metadata_of
from pipeline.parsing.rules import LineRules


def parse_json_lines(
    ref: DocumentRef, content: bytes, encoding: Encoding, rules: LineRules
) -> Iterator[ParsedDocument]:
    """Yield a document a line. The file is read twice: nothing is yielded of one that has a broken line.

    Raises:
        UnreadableDocument: a line is not a JSON object, or lacks the configured id; the message names the line.
    """
    for _ in _documents(ref, content, encoding, rules):
        pass
    yield from _documents(ref, content, encoding, rules)


def _documents(ref: DocumentRef, content: bytes, encoding: Encoding, rules: LineRules) -> Iterator[ParsedDocument]:
    ids = LineIds(ref.id)
    with open_text(content, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            raw = line.strip()
            if raw:
                fields = _object(raw, number)
                yield ParsedDocument(
                    ids.id_for(line_id(fields, rules.id, raw, number)),
                    _text(fields, rules.text),
                    title=_title(fields, rules.title),
                    modified_at=as_time(fields.get(rules.modified_at or usual_name(fields, MODIFIED_NAMES) or "")),
                    metadata=metadata_of({name: fields.get(name) for name in rules.metadata}),
                )


def _object(raw: str, line: int) -> Mapping[str, object]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise UnreadableDocument("broken_json", f"line {line} is not valid JSON") from error
    except RecursionError as error:
        raise UnreadableDocument("too_deep", f"the JSON in line {line} is nested too deeply") from error
    if not isinstance(value, dict):
        raise UnreadableDocument("not_an_object", f"line {line} is JSON, but not an object")
    return value


def _text(fields: Mapping[str, object], names: tuple[str, ...]) -> str:
    if names:
        parts = (_as_text(fields.get(name)).strip() for name in names)
        return "\n\n".join(part for part in parts if part)
    strings = {name: clean(value) for name, value in fields.items() if isinstance(value, str)}
    usual = usual_name((name for name, value in strings.items() if value.strip()), TEXT_NAMES)
    return strings[usual] if usual is not None else render((clean(name), value) for name, value in strings.items())


def _title(fields: Mapping[str, object], configured: str | None) -> str | None:
    value = fields.get(configured or usual_name(fields, TITLE_NAMES) or "")
    return (" ".join(clean(value).split()) or None) if isinstance(value, str) else None


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return clean("\n".join(value))
    return clean(value if isinstance(value, str) else as_json(value))
