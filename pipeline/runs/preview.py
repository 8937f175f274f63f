"""What `memsync preview` tells: what one document becomes, from its source to the records that would be sent."""

from contextlib import aclosing
from itertools import islice

import anyio

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError, UnreadableDocument, UnsupportedDocument
from pipeline.limits import service_limits
from pipeline.mapping import RecordRules, cut, derive_records
from pipeline.model import Create, Document, DocumentId, DocumentRef, LeftOutPart, Parsed, UnreadPart
from pipeline.parsing import Parser
from pipeline.protocols import SourceConnector
from pipeline.reporting.previews import DocumentPreview, RecordPreview, TextPreview
from pipeline.runs.parts import open_connector, record_rules
from pipeline.templates import template_fields


async def preview_document(settings: SourceSettings, document_id: str | None, *, parts_max: int) -> DocumentPreview:
    """Read and cut one document, the first that the source lists unless it is named. Touches neither memory nor state.

    Of a document that has parts, such as the lines of a table, up to `parts_max` are read; a part can be named, too.

    Raises:
        ConfigurationError: the source has no such document.
        SourceError: the source cannot be read.
    """
    async with open_connector(settings) as connector:
        ref = await (_first(connector) if document_id is None else _located(connector, document_id))
        if ref is None:
            raise _no_document(settings, document_id)
        parser = Parser(settings.parsing.rules())
        if reason := parser.reason_to_skip(ref):
            return DocumentPreview(ref.id, ref.uri, ref.size_bytes, None, problem=f"left out: {reason}")
        try:
            document = await connector.fetch(ref)
        except (UnreadableDocument, UnsupportedDocument) as error:
            return DocumentPreview(ref.id, ref.uri, ref.size_bytes, None, problem=_problem(error))
    part = document_id if document_id != ref.id else None
    preview = await anyio.to_thread.run_sync(preview_of, document, part, parser, record_rules(settings), parts_max)
    if part is not None and not preview.texts and preview.problem is None:
        raise _no_document(settings, part)
    return preview


def _no_document(settings: SourceSettings, document_id: str | None) -> ConfigurationError:
    what = "no document at all" if document_id is None else f"no document {document_id!r}"
    return ConfigurationError(f"source {settings.name!r} has {what}, or its settings leave it out")


async def _located(connector: SourceConnector, document_id: str) -> DocumentRef | None:
    """The document of that id, or the one that such a part would be in."""
    while (ref := await connector.locate(DocumentId(document_id))) is None and "#" in document_id:
        document_id = document_id.rpartition("#")[0]
    return ref


async def _first(connector: SourceConnector) -> DocumentRef | None:
    async with aclosing(connector.scan(None)) as scan:
        async for events in scan:
            for event in events:
                if isinstance(event, DocumentRef):
                    return event
    return None


def preview_of(
    document: Document, part: str | None, parser: Parser, rules: RecordRules, parts_max: int
) -> DocumentPreview:
    """What becomes of `document`, or of one `part` of it and all in that."""
    ref = document.ref
    texts: list[TextPreview] = []
    problem, has_more = None, False
    try:
        parsed = (each for each in parser.parse(document) if part is None or f"{each.id}#".startswith(f"{part}#"))
        texts.extend(_text(ref, each, rules) for each in islice(parsed, parts_max))
        has_more = next(parsed, None) is not None
    except (UnreadableDocument, UnsupportedDocument) as error:
        problem = _problem(error)
    return DocumentPreview(ref.id, ref.uri, len(document.content), document.media_type, texts, problem, has_more)


def _problem(error: UnreadableDocument | UnsupportedDocument) -> str:
    if isinstance(error, UnsupportedDocument):
        return f"left out: {error.reason}"
    return f"a dead letter, {error.code}: {error}"


def _text(ref: DocumentRef, text: Parsed, rules: RecordRules) -> TextPreview:
    if isinstance(text, UnreadPart):
        return TextPreview(text.id, None, None, 0, problem=f"a dead letter, {text.code}: {text.message}")
    if isinstance(text, LeftOutPart):
        return TextPreview(text.id, None, None, 0, problem=f"left out: {text.reason}")
    limits = service_limits()
    templates = [rules.namespace, *(value for value in rules.metadata.values() if isinstance(value, str))]
    used = set().union(*map(template_fields, templates))
    records = derive_records(ref, text, cut(text, rules, limits), rules, limits)
    modified_at = text.modified_at or ref.modified_at
    return TextPreview(
        text.id,
        text.title or ref.title,
        modified_at.isoformat() if modified_at else None,
        len(text.text),
        {key: value for key, value in text.metadata.items() if f"metadata.{key}" not in used},
        [
            RecordPreview(
                len(record.text), record.namespace, record.text, dict(record.metadata), limits.breach(Create(record))
            )
            for record in records
        ],
    )
