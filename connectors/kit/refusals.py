"""What connectors say of documents that they do not read. Imports little: worker processes use it, too."""

from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentId


def too_large(document: DocumentId, size_bytes: int, bytes_max: int) -> UnreadableDocument:
    """The error for a document that is larger than `source.max_bytes` allows."""
    return UnreadableDocument(
        "too_large",
        f"{document!r} has {size_bytes:,} bytes and was not read: `source.max_bytes` allows {bytes_max:,}. Raise it, or"
        " leave the document out with `source.exclude`.",
    )
