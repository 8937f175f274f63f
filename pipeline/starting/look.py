"""A look at a source: some of its documents are listed and a few read, within a time limit. Nothing is kept."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import DocumentRef, DocumentSkipped, ScanError
from pipeline.parsing import Parser
from pipeline.parsing.media_types import name_of, suffix_of_path
from pipeline.protocols import SourceConnector
from pipeline.reporting.looks import FoundKind, Look
from pipeline.reporting.previews import DocumentPreview
from pipeline.runs.parts import open_connector, record_rules
from pipeline.runs.preview import preview_of

# Sources whose documents have names with endings that tell what they are.
OF_FILES = ("filesystem", "git", "s3", "fsspec")


@dataclass(frozen=True, slots=True)
class LookLimits:
    """How long a look may take, and how much it looks at. Texts are of the parts of documents that have parts."""

    listing_s: float = 15.0
    reading_s: float = 15.0
    listed_max: int = 2_000
    read_max: int = 12
    texts_max: int = 20


DEFAULT_LIMITS = LookLimits()


@dataclass(slots=True)
class _Listed:
    refs: list[DocumentRef] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    is_complete: bool = False


async def look_at(settings: SourceSettings, limits: LookLimits = DEFAULT_LIMITS) -> Look:
    """What is in the source of `settings`, as far as the limits go.

    Raises:
        SourceError: it cannot be read.
    """
    parser = Parser(settings.parsing.rules())
    begun = time.monotonic()
    listed = _Listed()
    async with open_connector(settings) as connector:
        with anyio.move_on_after(limits.listing_s):
            await _list(connector, listed, limits.listed_max)
        seconds = time.monotonic() - begun
        readable = [ref for ref in listed.refs if parser.reason_to_skip(ref) is None]
        previews: list[DocumentPreview] = []
        with anyio.move_on_after(limits.reading_s):
            for ref in sample(readable, limits.read_max):
                previews.append(  # noqa: PERF401 - what was read when time is up counts
                    await _read(connector, ref, parser, settings, limits.texts_max)
                )
    return Look(
        kinds=_kinds(listed.refs, parser, is_of_files=settings.source.type in OF_FILES),
        skipped=dict(listed.skipped),
        is_complete=listed.is_complete,
        seconds=seconds,
        problems=listed.problems,
        previews=previews,
        folders=_folders(listed.refs) if settings.source.type in OF_FILES else (),
        titled=sum(bool(ref.title) for ref in listed.refs),
    )


async def _list(connector: SourceConnector, listed: _Listed, listed_max: int) -> None:
    async with aclosing(connector.scan(None)) as scan:
        async for events in scan:
            for event in events:
                match event:
                    case DocumentRef():
                        listed.refs.append(event)
                    case DocumentSkipped():
                        listed.skipped[event.reason] += 1
                    case ScanError():
                        listed.problems.append(event.message)
            if len(listed.refs) >= listed_max:
                return
    listed.is_complete = not listed.problems


async def _read(
    connector: SourceConnector, ref: DocumentRef, parser: Parser, settings: SourceSettings, texts_max: int
) -> DocumentPreview:
    try:
        document = await connector.fetch(ref)
    except (UnreadableDocument, UnsupportedDocument) as error:
        return DocumentPreview(ref.id, ref.uri, ref.size_bytes, None, problem=str(error))
    return await anyio.to_thread.run_sync(
        preview_of, document, None, parser, record_rules(settings), texts_max, abandon_on_cancel=True
    )


def sample(refs: Sequence[DocumentRef], count_max: int) -> list[DocumentRef]:
    """Some of `refs`, from all kinds and from all over each kind, the commonest kind first."""
    by_kind: dict[str, list[DocumentRef]] = {}
    for ref in refs:
        by_kind.setdefault(suffix_of_path(name_of(ref)), []).append(ref)
    kinds = sorted(by_kind.values(), key=len, reverse=True)
    of_each = max(1, count_max // max(1, len(kinds)))
    chosen = [ref for kind in kinds for ref in _spread(kind, of_each)]
    if len(chosen) < count_max:
        taken = {ref.id for ref in chosen}
        chosen += _spread([ref for ref in refs if ref.id not in taken], count_max - len(chosen))
    return chosen[:count_max]


def _spread(refs: Sequence[DocumentRef], count: int) -> list[DocumentRef]:
    """`count` of `refs`, as far from each other as possible."""
    if len(refs) <= count:
        return list(refs)
    return [refs[position * len(refs) // count] for position in range(count)]


def _kinds(refs: Sequence[DocumentRef], parser: Parser, *, is_of_files: bool) -> list[FoundKind]:
    found: dict[str, FoundKind] = {}
    for ref in refs:
        ending = suffix_of_path(name_of(ref)) if is_of_files else ""
        kind = found.get(ending) or FoundKind(ending, left_out=parser.reason_to_skip(ref) if is_of_files else None)
        found[ending] = kind.with_document(ref.size_bytes)
    return sorted(found.values(), key=lambda kind: (kind.left_out is not None, -kind.documents, kind.ending))


def _folders(refs: Sequence[DocumentRef]) -> tuple[str, ...]:
    """The names that folders have, anywhere."""
    return tuple(sorted({step for ref in refs for step in ref.id.split("/")[:-1]}))
