"""Chooses how a document is read."""

from collections.abc import Iterator
from dataclasses import replace

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import Document, DocumentRef, ParsedDocument
from pipeline.parsing.csv import parse_csv
from pipeline.parsing.decoding import decode, find_encoding
from pipeline.parsing.html_process import HtmlProcess
from pipeline.parsing.jsonl import parse_json_lines
from pipeline.parsing.markdown import parse_markdown
from pipeline.parsing.media_types import (
    Kind,
    charset_of,
    is_binary_suffix,
    kind_by_name_or_content,
    kind_of_media_type,
    says_nothing,
    suffix,
)
from pipeline.parsing.metadata import metadata_of
from pipeline.parsing.rules import ParsingRules
from pipeline.parsing.text import parse_text

DEFAULT_RULES = ParsingRules()


class Parser:
    """Reads text, source code, Markdown, HTML, JSON Lines and CSV.

    A document's media type decides which of these it is; if it has none, its name does, and at last its first
    bytes. An empty file is a document with a blank text, but a JSON Lines or CSV file without lines has no documents.
    """

    def __init__(self, rules: ParsingRules = DEFAULT_RULES) -> None:
        self._rules = rules
        self._html = HtmlProcess()

    def reason_to_skip(self, ref: DocumentRef) -> str | None:
        name_suffix = suffix(ref)
        return f"unsupported type {name_suffix}" if is_binary_suffix(name_suffix) else None

    def parse(self, document: Document) -> Iterator[ParsedDocument]:
        said = metadata_of(document.metadata) if document.metadata else {}
        try:
            for parsed in self._parse(document):
                yield replace(parsed, metadata={**parsed.metadata, **said}) if said else parsed
        except RecursionError as error:
            raise UnreadableDocument("too_deep", "the content is nested too deeply") from error

    def _parse(self, document: Document) -> Iterator[ParsedDocument]:
        ref, content = document.ref, document.content
        kind = _kind(document)
        encoding = find_encoding(
            content,
            forced=self._rules.encoding,
            declared=charset_of(document.media_type),
            is_html=kind is Kind.HTML,
        )
        match kind:
            case Kind.TEXT:
                yield parse_text(ref, decode(content, encoding))
            case Kind.MARKDOWN:
                yield parse_markdown(ref, decode(content, encoding))
            case Kind.HTML:
                yield self._html.parse(ref, decode(content, encoding))
            case Kind.JSON_LINES:
                yield from parse_json_lines(ref, content, encoding, self._rules.jsonl)
            case Kind.CSV:
                is_tab_separated = _is_tab_separated(document)
                yield from parse_csv(ref, content, encoding, self._rules.csv, is_tab_separated=is_tab_separated)


def _kind(document: Document) -> Kind:
    media_type = document.media_type
    if media_type and not says_nothing(media_type):
        kind = kind_of_media_type(media_type)
        if kind is None:
            raise UnsupportedDocument(f"unsupported type {media_type.partition(';')[0].strip().lower()}")
        return kind
    name_suffix = suffix(document.ref)
    if is_binary_suffix(name_suffix):
        raise UnsupportedDocument(f"unsupported type {name_suffix}")
    return kind_by_name_or_content(document)


def _is_tab_separated(document: Document) -> bool:
    return suffix(document.ref) == ".tsv" or (document.media_type or "").startswith("text/tab")
