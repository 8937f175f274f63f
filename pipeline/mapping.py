"""A parsed document becomes records: cut, named, placed in a namespace and given its provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipeline.chunking import chunk
from pipeline.identity import digest_of, encode_metadata, encode_namespace_segment, record_digests, record_keys
from pipeline.limits import ServiceLimits
from pipeline.model import (
    ORDER_METADATA_KEY,
    Chunk,
    DocumentRef,
    MetadataValue,
    ParsedDocument,
    Record,
    RecordContent,
)
from pipeline.provenance import (
    DIGEST_METADATA_KEY,
    KEY_METADATA_KEY,
    PROVENANCE_KEYS,
    document_provenance,
    own_metadata,
)
from pipeline.templates import render, template_fields

# The timestamp of a document whose source has none. It must not depend on when the run happens: it is a part of
# bytes that are sent again after a crash.
NO_TIME = datetime.fromtimestamp(0, UTC)

HEADING_PATH_CHARACTERS_MAX = 300
HEADING_SEPARATOR = " > "

MetadataTemplate = str | float | Sequence[str]


@dataclass(frozen=True, slots=True)
class RecordRules:
    """How the documents of one source become records.

    `namespace` and the strings in `metadata` are templates. `recipe` names all of this, and whatever else decides
    what records a document becomes, so that a change of settings shows. After `expiry_days` the memory forgets what was
    not renewed; None: never. That is no part of the recipe: it changes no record, and the ledger knows of each.
    """

    source: str
    recipe: str
    namespace: str = "/docs/{source}/"
    metadata: Mapping[str, MetadataTemplate] = field(default_factory=dict)
    strategy_id: str | None = None
    max_chars: int = 4000
    overlap_chars: int = 0
    heading_path: bool = True
    expiry_days: int | None = None


def cut(document: ParsedDocument, rules: RecordRules, limits: ServiceLimits) -> list[Chunk]:
    """The chunks of `document`, with room left for their heading path."""
    characters_max = min(rules.max_chars, limits.text_characters_max)
    reserved = _heading_room(characters_max) if rules.heading_path else 0
    return chunk(
        document.text,
        document.markup,
        max_chars=characters_max - reserved,
        max_bytes=limits.text_bytes_max - 4 * reserved,
        overlap_chars=min(rules.overlap_chars, (characters_max - reserved) // 2),
    )


def derive_records(
    ref: DocumentRef,
    document: ParsedDocument,
    chunks: Sequence[Chunk],
    rules: RecordRules,
    limits: ServiceLimits,
) -> list[Record]:
    """The records that `document` implies, in order; the same document and rules always give the same records."""
    fields = _template_fields(ref, document, rules.source)
    namespace = _namespace(rules.namespace, fields, limits)
    shared = own_metadata(_metadata(rules.metadata, fields, limits))
    provenance = document_provenance(rules.source, document.id, ref.id, limits)
    timestamp = document.modified_at or ref.modified_at or NO_TIME
    record_key = record_keys(rules.source, document.id)
    record_digest = record_digests(namespace, rules.strategy_id, shared)
    repeats: dict[str, int] = {}
    records = []
    for order, piece in enumerate(chunks, start=1):
        repeat = repeats[piece.text] = repeats.get(piece.text, -1) + 1
        key = record_key(piece.text, repeat)
        text = _with_heading_path(piece, rules)
        digest = record_digest(key, text)
        metadata = {
            **shared,
            **provenance,
            KEY_METADATA_KEY: key,
            DIGEST_METADATA_KEY: digest,
            ORDER_METADATA_KEY: float(order),
        }
        records.append(
            Record(
                key=key,
                document=document.id,
                namespace=namespace,
                text=text,
                timestamp=timestamp,
                metadata=metadata,
                digest=digest,
                order=float(order),
                strategy_id=rules.strategy_id,
            )
        )
    return records


def edited_record(record: Record, content: RecordContent) -> Record:
    """`record` with what a person has made of it; it keeps its key, its place and its provenance."""
    own = own_metadata(content.metadata)
    digest = record_digests(record.namespace, record.strategy_id, own)(record.key, content.text)
    if digest == record.digest:
        return record
    provenance = {key: value for key, value in record.metadata.items() if key in PROVENANCE_KEYS}
    metadata = {**own, **provenance, DIGEST_METADATA_KEY: digest}
    return record._replace(text=content.text, metadata=metadata, digest=digest, edited_from=record.version)


def namespace_root(rules: RecordRules) -> str:
    """The longest namespace path that all records of the source stand below, whatever their document."""
    literal, _, _ = rules.namespace.replace("{source}", encode_namespace_segment(rules.source)).partition("{")
    return _joined(literal[: literal.rindex("/")])


def _heading_room(characters_max: int) -> int:
    return min(HEADING_PATH_CHARACTERS_MAX, characters_max // 5)


def _with_heading_path(piece: Chunk, rules: RecordRules) -> str:
    """The chunk's text below the headings it stands under, without those that it begins with itself."""
    if not rules.heading_path:
        return piece.text
    first_line, _, _ = piece.text.partition("\n")
    begins_with = first_line.strip("# \t")
    above = [heading for heading in piece.heading_path if heading != begins_with]
    if not above:
        return piece.text
    room = _heading_room(rules.max_chars) - 2
    return f"{HEADING_SEPARATOR.join(above)[:room].strip()}\n\n{piece.text}"


def _template_fields(ref: DocumentRef, document: ParsedDocument, source: str) -> dict[str, MetadataValue]:
    folder, _, name = ref.id.rpartition("/")  # of the file, also for a line of it
    title = document.title or ref.title or ""
    modified_at = document.modified_at or ref.modified_at
    return {
        "source": source,
        "id": document.id,
        "folder": folder,
        "name": name,
        "stem": name.rsplit(".", 1)[0] or name,
        "title": title,
        "uri": ref.uri,
        "modified_at": modified_at.isoformat() if modified_at else "",
        **{f"metadata.{key}": value for key, value in document.metadata.items()},
    }


def _namespace(template: str, fields: Mapping[str, MetadataValue], limits: ServiceLimits) -> str:
    """A namespace that begins and ends with `/` and has no empty segment; `/docs/py` must not prefix `/docs/python`.

    A folder keeps its slashes, every other field is one segment.
    """
    encoded = {
        name: "/".join(map(encode_namespace_segment, _as_text(fields[name]).split("/")))
        if name == "folder"
        else encode_namespace_segment(_as_text(fields[name]))
        for name in template_fields(template) & fields.keys()
    }
    namespace = _joined(render(template, encoded))
    if len(namespace) <= limits.namespace.max:
        return namespace
    mark = f":-{digest_of(namespace)[:16]}/"
    kept = namespace[: limits.namespace.max - len(mark)]
    # Nothing may end in half an escape: the digits would be read as text.
    return kept.rsplit(":", 1)[0] + mark if ":" in kept[-2:] else kept + mark


def _joined(path: str) -> str:
    return "/" + "".join(f"{segment}/" for segment in path.split("/") if segment)


def _metadata(
    templates: Mapping[str, MetadataTemplate], fields: Mapping[str, MetadataValue], limits: ServiceLimits
) -> dict[str, MetadataValue]:
    """The user's metadata; what renders to nothing is left out, since the service refuses empty values."""
    rendered: dict[str, MetadataValue] = {}
    for key, template in templates.items():
        if isinstance(template, bool):
            value: MetadataValue = str(template).lower()
        elif isinstance(template, int | float):
            value = float(template)
        elif not isinstance(template, str):
            value = tuple(template)
        elif template[1:-1] in fields and template == f"{{{template[1:-1]}}}":
            value = fields[template[1:-1]]  # a bare field keeps its type
        else:
            value = render(template, {name: _as_text(field) for name, field in fields.items()})
        if isinstance(value, str):
            value = encode_metadata(value, limits.metadata_string.max)
        elif isinstance(value, tuple):
            items = [encode_metadata(item, limits.metadata_list_string.max) for item in value if item]
            value = tuple(items[: limits.metadata_list_max])
        if value not in ("", ()):
            rendered[key] = value
    return rendered


def _as_text(value: MetadataValue) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # as whoever wrote the document knows it
    return str(value)
