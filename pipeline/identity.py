"""What names a record, and how names are written where only a few characters are allowed.

All digests are SHA-256 over length-prefixed parts, so that no two lists of parts can give the same bytes.
"""

import hashlib
import re
from collections.abc import Callable, Mapping

from pipeline.model import DocumentId, MetadataValue, RecordKey

DIGEST_CHARACTERS = 40  # 160 bits: a collision among 10^15 records is still unlikely beyond reason


def digest_of(*parts: str) -> str:
    """A digest of `parts` in order: 40 characters of [0-9a-f]."""
    return _digest_of_bytes(b"".join(map(_prefixed, parts)))


def _prefixed(part: str) -> bytes:
    encoded = part.encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(encoded), encoded)


def _digest_of_bytes(prefixed: bytes) -> str:
    return hashlib.sha256(prefixed).hexdigest()[:DIGEST_CHARACTERS]


def record_keys(source: str, document: DocumentId) -> Callable[[str, int], RecordKey]:
    """What names the chunks of a document, by their text and `repeat`.

    The key depends on the chunk's own text, not on its place: an insertion elsewhere in the document leaves it alone.
    `repeat` tells equal chunks of one document apart, counting from 0.
    """
    of_document = _prefixed(source) + _prefixed(document)

    def record_key(chunk_text: str, repeat: int) -> RecordKey:
        return RecordKey(_digest_of_bytes(of_document + _prefixed(chunk_text) + _prefixed(str(repeat))))

    return record_key


def record_digests(
    namespace: str, strategy_id: str | None, metadata: Mapping[str, MetadataValue]
) -> Callable[[RecordKey, str], str]:
    """What digests the records of a document, by their key and text; `metadata` without the records' provenance."""
    written = [
        # A memory gives back 1.0 where it was sent 1, or the other way round.
        f"{name}={float(value) if isinstance(value, int) else value!r}"
        for name, value in sorted(metadata.items())
    ]
    of_document = b"".join(map(_prefixed, (namespace, strategy_id or "", *written)))

    def record_digest(key: RecordKey, text: str) -> str:
        return _digest_of_bytes(_prefixed(key) + _prefixed(text) + of_document)

    return record_digest


# -------------------------------------------------------------------------------------------- encodings

_METADATA_KEEPS = re.compile(r"[a-zA-Z0-9 ._:/+@-]*")  # what the service allows, less the escape itself
_NAMESPACE_KEEPS = re.compile(r"[a-zA-Z0-9_-]*")

METADATA_ESCAPE = "="
NAMESPACE_ESCAPE = ":"  # the only sign that namespaces allow and that names rarely hold


def _escaper(keeps: re.Pattern[str], escape: str) -> Callable[[str], str]:
    cache: dict[str, str] = {}

    def escaped(character: str) -> str:
        if character not in cache:
            as_bytes = character.encode("utf-8", "surrogatepass")
            cache[character] = (
                character if keeps.fullmatch(character) else "".join(f"{escape}{byte:02X}" for byte in as_bytes)
            )
            if len(cache) > 10_000:
                cache.clear()
                return escaped(character)
        return cache[character]

    return escaped


_escape_for_metadata = _escaper(_METADATA_KEEPS, METADATA_ESCAPE)
_escape_for_namespace = _escaper(_NAMESPACE_KEEPS, NAMESPACE_ESCAPE)


def _cut(value: str, pieces: list[str], escape: str, characters_max: int) -> str:
    """Join `pieces`; if that is too long, as many as fit and a digest of the whole `value`.

    The cut shows as the escape followed by `-`, which no escaped byte begins with.
    """
    encoded = "".join(pieces)
    if len(encoded) <= characters_max:
        return encoded
    mark = f"{escape}-{digest_of(value)[:16]}"
    room = characters_max - len(mark)
    used = 0
    for kept, piece in enumerate(pieces):
        used += len(piece)
        if used > room:
            return "".join(pieces[:kept]) + mark
    raise AssertionError("pieces that do not fit have a first one that does not")


def encode_metadata(value: str, characters_max: int) -> str:
    """`value` in the characters that metadata allows; every other is written `=XX` per UTF-8 byte.

    Reversible with `decode`, unless it is too long: then it is cut and ends in `=-` and 16 digits of its digest.
    """
    if len(value) <= characters_max and _METADATA_KEEPS.fullmatch(value):
        return value
    return _cut(value, [_escape_for_metadata(c) for c in value], METADATA_ESCAPE, characters_max)


def encode_namespace_segment(value: str, characters_max: int = 255) -> str:
    """`value` as one segment of a namespace; other characters are written `:XX` per UTF-8 byte, `/` among them.

    Reversible with `decode`, unless it is too long: then it is cut and ends in `:-` and 16 digits of its digest.
    """
    if len(value) <= characters_max and _NAMESPACE_KEEPS.fullmatch(value):
        return value
    return _cut(value, [_escape_for_namespace(c) for c in value], NAMESPACE_ESCAPE, characters_max)


def is_cut(encoded: str, escape: str) -> bool:
    """Whether `encoded` was too long, so that `decode` does not give back what it stands for."""
    return f"{escape}-" in encoded


def decode(encoded: str, escape: str) -> str:
    """Undo `encode_metadata` (escape `=`) or `encode_namespace_segment` (escape `:`); a cut stays visible."""
    raw = re.sub(
        (re.escape(escape) + "([0-9A-F]{2})").encode(),
        lambda match: bytes.fromhex(match[1].decode()),
        encoded.encode(),
    )
    return raw.decode("utf-8", "replace")
