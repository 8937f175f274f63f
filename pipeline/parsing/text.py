"""Plain text, source code, configuration: what can be read as it stands."""

from pipeline.model import DocumentRef, ParsedDocument


def parse_text(ref: DocumentRef, text: str) -> ParsedDocument:
    return ParsedDocument(ref.id, text, title=ref.title)
