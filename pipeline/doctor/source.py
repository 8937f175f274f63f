"""Whether the source can be reached: its first page is listed, and one document is read."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio

from pipeline.configuration.settings import SourceSettings
from pipeline.doctor.checks import in_own_thread
from pipeline.errors import DocumentVanished, SyncError, UnreadableDocument, UnsupportedDocument, first_error
from pipeline.model import DocumentRef, ScanComplete, ScanError
from pipeline.parsing import Parser
from pipeline.protocols import SourceConnector
from pipeline.reporting.examinations import Finding
from pipeline.reporting.text import amount, duration
from pipeline.runs.parts import open_connector

SOURCE_LIMIT_S = 30.0
READ_MAX = 5  # documents that are tried until one can be read


@dataclass(slots=True)
class Seen:
    """What the beginning of a listing shows. `left_out` are the reasons for which documents have no text to give."""

    refs: list[DocumentRef] = field(default_factory=list)
    errors: list[ScanError] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    is_all: bool = False


async def check_source(settings: SourceSettings, limit_s: float = SOURCE_LIMIT_S) -> Sequence[Finding]:
    """In a thread of its own: what connectors rest on may block for good."""

    async def look() -> Sequence[Finding]:
        with anyio.move_on_after(limit_s):
            return await _look(settings)
        return [
            Finding(
                "source",
                "problem",
                f"did not list or read a document within {duration(limit_s)}",
                "A run waits longer. See whether the source answers others; some list everything before they show the"
                " first page.",
            )
        ]

    try:
        return await in_own_thread(look)
    except Exception as raised:
        error = first_error(raised)
        if isinstance(error, SyncError):
            return [Finding("source", "problem", str(error))]
        raise


async def _look(settings: SourceSettings) -> Sequence[Finding]:
    parser = Parser(settings.parsing.rules())
    async with open_connector(settings) as connector:
        seen = await _first_page(connector, parser)
        listing = judge_listing(seen)
        if not seen.refs:
            return [listing]
        return [listing, await _reading(connector, seen.refs[:READ_MAX])]


async def _first_page(connector: SourceConnector, parser: Parser) -> Seen:
    """The listing up to the first page that has a document which can be read."""
    seen = Seen()
    async with aclosing(connector.scan(None)) as scan:
        async for events in scan:
            for event in events:
                if isinstance(event, DocumentRef):
                    if reason := parser.reason_to_skip(event):
                        seen.left_out.add(reason)
                    else:
                        seen.refs.append(event)
                elif isinstance(event, ScanError):
                    seen.errors.append(event)
                seen.is_all = seen.is_all or isinstance(event, ScanComplete)
            if seen.refs:
                return seen
    return seen


def judge_listing(seen: Seen) -> Finding:
    if seen.errors:
        words = "; ".join(error.message for error in seen.errors[:3])
        cure = "What lies there is left as it is in the memory. Mend that, or exclude it."
        return Finding("source", "warning", f"listed in part: {words}", cure)
    needs = sorted(reason for reason in seen.left_out if "pip install" in reason)
    if needs:
        return Finding("source", "warning", f"lists documents that are left out: {'; '.join(needs)}", "Install that.")
    if not seen.refs:
        why = f" that can be read: {', '.join(sorted(seen.left_out))}" if seen.left_out else ""
        return Finding(
            "source", "warning", f"lists no document{why}", "See `source` in the YAML: its place, include and exclude."
        )
    count = amount(len(seen.refs), "document")
    return Finding("source", "ok", f"lists {count}{'' if seen.is_all else ' on its first page'}")


async def _reading(connector: SourceConnector, refs: Sequence[DocumentRef]) -> Finding:
    """Whether any of `refs` can be read. One may have gone meanwhile, or be broken."""
    problem = ""
    for ref in refs:
        try:
            document = await connector.fetch(ref)
        except (DocumentVanished, UnsupportedDocument) as error:
            problem = problem or f"{ref.id}: {error}"
        except UnreadableDocument as error:
            problem = f"{ref.id}: {error.code}: {error}"
        else:
            return Finding("reading", "ok", f"{ref.id}, {len(document.content):,} bytes")
    return Finding(
        "reading",
        "warning",
        f"none of the first {amount(len(refs), 'document')} could be read: {problem}",
        "A document that cannot be read becomes a dead letter. See that memsync may read them:\n"
        "  memsync preview FILE DOCUMENT",
    )
