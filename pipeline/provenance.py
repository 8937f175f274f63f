"""What each record in the memory says of where it comes from: written by us, read back by us and by anybody else.

A public contract. From it the memory itself can tell where each record came from, and a lost ledger can be rebuilt.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Mapping

from pipeline.identity import (
    DIGEST_CHARACTERS,
    METADATA_ESCAPE,
    decode,
    encode_metadata,
    is_cut,
    record_digests,
)
from pipeline.limits import ServiceLimits
from pipeline.model import (
    ORDER_METADATA_KEY,
    DocumentId,
    FoundRecord,
    MemoryRecord,
    MetadataValue,
    RecordKey,
)

SOURCE_METADATA_KEY = "memsync-source"
DOCUMENT_METADATA_KEY = "memsync-document"
# The document's id again, where it is too long for its entry: compressed, in base64, cut into the pieces of a list.
WHOLE_ID_METADATA_KEY = "memsync-document-whole"
# Where the document is a part of another one (a line of a file): how many characters of its id are the other's.
PART_METADATA_KEY = "memsync-part-at"
KEY_METADATA_KEY = "memsync-key"
DIGEST_METADATA_KEY = "memsync-digest"
PROVENANCE_KEYS = frozenset(
    {
        SOURCE_METADATA_KEY,
        DOCUMENT_METADATA_KEY,
        WHOLE_ID_METADATA_KEY,
        PART_METADATA_KEY,
        ORDER_METADATA_KEY,
        KEY_METADATA_KEY,
        DIGEST_METADATA_KEY,
    }
)

SYSTEM_METADATA_PREFIX = "x-amz-agentcore-memory-"  # on every record that the service returns; refused in requests

WHOLE_ID_BYTES_MAX = 64 * 1024  # of an id in UTF-8 that is read back; longer than any that a source has

_KEY = re.compile(rf"[0-9a-f]{{{DIGEST_CHARACTERS}}}")


def document_provenance(
    source: str, document: DocumentId, origin: DocumentId, limits: ServiceLimits
) -> dict[str, MetadataValue]:
    """What all records of a document say of it."""
    encoded = encode_metadata(document, limits.metadata_string.max)
    provenance: dict[str, MetadataValue] = {
        SOURCE_METADATA_KEY: encode_metadata(source, limits.metadata_string.max),
        DOCUMENT_METADATA_KEY: encoded,
    }
    if is_cut(encoded, METADATA_ESCAPE) and (whole := _packed(document, limits)):
        provenance[WHOLE_ID_METADATA_KEY] = whole
    if document != origin and document.startswith(origin):
        provenance[PART_METADATA_KEY] = float(len(origin))
    return provenance


def is_of_source(record: MemoryRecord, source: str, limits: ServiceLimits) -> bool:
    """Whether `record` bears the name of `source`."""
    return record.metadata.get(SOURCE_METADATA_KEY) == encode_metadata(source, limits.metadata_string.max)


def key_of(record: MemoryRecord) -> RecordKey:
    """The key that `record` bears; empty if it has none."""
    return RecordKey(str(record.metadata.get(KEY_METADATA_KEY, "")))


def found_record(record: MemoryRecord, strategy_id: str | None) -> FoundRecord | None:
    """`record` as one of ours; None if it has no key of ours. Its document is empty if it does not tell which."""
    key = key_of(record)
    if not _KEY.fullmatch(key):
        return None
    document = _document_of(record.metadata) or DocumentId("")
    order, part_at = record.metadata.get(ORDER_METADATA_KEY), record.metadata.get(PART_METADATA_KEY)
    origin = document
    if isinstance(part_at, int | float) and 1 <= part_at < len(document):
        origin = DocumentId(document[: int(part_at)])
    return FoundRecord(
        key=key,
        memory_record_id=record.id,
        document=document,
        origin=origin,
        namespace=record.namespace,
        digest=digest_of_content(record, strategy_id),
        order=float(order) if isinstance(order, int | float) else 0.0,
        created_at=record.created_at.timestamp(),
    )


def digest_of_content(record: MemoryRecord, strategy_id: str | None) -> str:
    """The digest of what `record` says now, whatever it claims to say."""
    return record_digests(record.namespace, strategy_id, own_metadata(record.metadata))(key_of(record), record.text)


def own_metadata(metadata: Mapping[str, MetadataValue]) -> dict[str, MetadataValue]:
    """The metadata that the user asked for: without a record's provenance and what the service adds itself."""
    return {
        key: value
        for key, value in metadata.items()
        if key not in PROVENANCE_KEYS and not key.startswith(SYSTEM_METADATA_PREFIX)
    }


def _document_of(metadata: Mapping[str, MetadataValue]) -> DocumentId | None:
    encoded, whole = metadata.get(DOCUMENT_METADATA_KEY), metadata.get(WHOLE_ID_METADATA_KEY)
    if not isinstance(encoded, str):
        return None
    if is_cut(encoded, METADATA_ESCAPE):
        return _unpacked(whole) if isinstance(whole, tuple) else None
    document = decode(encoded, METADATA_ESCAPE)
    # Only what is written as we write it is ours; anybody may write something like it.
    return DocumentId(document) if encode_metadata(document, max(1, len(encoded))) == encoded else None


def _packed(document: DocumentId, limits: ServiceLimits) -> tuple[str, ...] | None:
    """`document` in the characters that metadata allows; None if even so it is too long."""
    written = base64.b64encode(zlib.compress(document.encode("utf-8", "surrogatepass"), 9)).decode()
    piece = limits.metadata_list_string.max
    pieces = tuple(written[start : start + piece] for start in range(0, len(written), piece))
    return pieces if len(pieces) <= limits.metadata_list_max else None


def _unpacked(pieces: tuple[str, ...]) -> DocumentId | None:
    """Undo `_packed`; None if it is something else, since anybody may write into a memory."""
    try:
        unpacking = zlib.decompressobj()
        raw = unpacking.decompress(base64.b64decode("".join(pieces), validate=True), WHOLE_ID_BYTES_MAX)
        return DocumentId(raw.decode()) if unpacking.eof else None
    except (binascii.Error, zlib.error, ValueError):
        return None
