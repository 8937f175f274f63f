"""Tables in text files: the first row names the columns, each other row is a document."""

import csv
import re
from collections.abc import Iterator

from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentRef, ParsedDocument
from pipeline.parsing.decoding import Encoding, clean, open_text
from pipeline.parsing.lines import MODIFIED_NAMES, TITLE_NAMES, LineIds, line_id, render, usual_name
from pipeline.parsing.metadata import as_time, metadata_of
from pipeline.parsing.rules import CsvRules

# The library's own limit is 128 KiB a cell, for the whole process; documents have their own limit already.
csv.field_size_limit(2**31 - 1)

_DELIMITERS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'"[^"]*"')
FIRST_ROW_CHARS_MAX = 64 * 1024


def parse_csv(
    ref: DocumentRef, content: bytes, encoding: Encoding, rules: CsvRules, *, is_tab_separated: bool = False
) -> Iterator[ParsedDocument]:
    """Yield a document a row. The file is read twice: nothing is yielded of one that has a broken row.

    Raises:
        UnreadableDocument: a configured column is missing, a row lacks the configured id, or it is no such table.
    """
    delimiter = rules.delimiter or ("\t" if is_tab_separated else _find_delimiter(content, encoding))
    for _ in _documents(ref, content, encoding, rules, delimiter):
        pass
    yield from _documents(ref, content, encoding, rules, delimiter)


def _documents(
    ref: DocumentRef, content: bytes, encoding: Encoding, rules: CsvRules, delimiter: str
) -> Iterator[ParsedDocument]:
    ids = LineIds(ref.id)
    with open_text(content, encoding, newline="") as stream:
        rows = csv.reader(stream, delimiter=delimiter)
        columns: list[str] | None = None
        try:
            for cells in rows:
                values = [clean(cell).strip() for cell in cells]
                if not any(values):
                    continue
                if columns is None:
                    columns = values
                    _require_columns(columns, rules)
                else:
                    yield _document(ids, columns, values, rows.line_num, rules)
        except csv.Error as error:
            raise UnreadableDocument("broken_csv", f"line {rows.line_num} is not valid CSV") from error


def _document(ids: LineIds, columns: list[str], values: list[str], line: int, rules: CsvRules) -> ParsedDocument:
    names = [
        columns[index] if index < len(columns) and columns[index] else f"column {index + 1}"
        for index in range(len(values))
    ]
    fields = dict(zip(reversed(names), reversed(values), strict=True))  # of columns with one name, the first
    title = fields.get(rules.title or usual_name(columns, TITLE_NAMES) or "")
    text = (
        "\n\n".join(fields[name] for name in rules.text if fields.get(name))
        if rules.text
        else render(zip(names, values, strict=True))
    )
    return ParsedDocument(
        ids.id_for(line_id(fields, rules.id, "\0".join(values), line)),
        text,
        title=" ".join(title.split()) if title else None,
        modified_at=as_time(fields.get(rules.modified_at or usual_name(columns, MODIFIED_NAMES) or "")),
        metadata=metadata_of({name: fields.get(name) for name in rules.metadata}),
    )


def _require_columns(columns: list[str], rules: CsvRules) -> None:
    wanted = (rules.id, rules.title, rules.modified_at, *rules.text, *rules.metadata)
    missing = sorted({name for name in wanted if name is not None and name not in columns})
    if missing:
        raise UnreadableDocument("missing_column", f"the table has no column {', '.join(map(repr, missing))}")


def _find_delimiter(content: bytes, encoding: Encoding) -> str:
    with open_text(content, encoding) as stream:
        first_row = _QUOTED.sub("", stream.readline(FIRST_ROW_CHARS_MAX))
    return max(_DELIMITERS, key=first_row.count)
