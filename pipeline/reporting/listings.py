"""What `memsync search` and `verify` print."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.reporting.text import PLAIN, Style, amount

_EXCERPT_CHARACTERS_MAX = 600
_QUERY_WORD_TOO_SHORT = 2  # characters; shorter ones say little of where an answer is


# ------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A record that the memory found; `document_id` is None if the record is not one of ours."""

    score: float
    text: str
    document_id: str | None = None
    heading: str | None = None
    source: str | None = None


def render_search(
    hits: Sequence[SearchHit],
    *,
    query: str = "",
    characters_max: int = _EXCERPT_CHARACTERS_MAX,
    style: Style = PLAIN,
) -> str:
    """Return the hits in the order given, each with up to `characters_max` characters of its text.

    These are the lines that speak most of `query`, the first ones if none does.
    """
    if not hits:
        return "Nothing found."
    return "\n\n".join(
        "\n".join(_hit_lines(number, hit, query, characters_max, style)) for number, hit in enumerate(hits, start=1)
    )


def _hit_lines(number: int, hit: SearchHit, query: str, characters_max: int, style: Style) -> Iterator[str]:
    document = "a record of somebody else" if hit.document_id is None else style.text(hit.document_id)
    source = f"{style.text(hit.source)}: " if hit.source is not None else ""
    heading = f" > {style.text(hit.heading)}" if hit.heading else ""
    title, score = style.paint(f"{source}{document}", "bold"), style.paint(f"({hit.score:.3f})", "dim")
    yield f"{number}. {title}{heading}  {score}"
    yield from (f"   {line}" for line in style.lines(_excerpt(hit.text, query, characters_max)))


def _excerpt(text: str, query: str, characters_max: int) -> str:
    words = {word for word in re.findall(r"\w+", query.casefold()) if len(word) > _QUERY_WORD_TOO_SHORT}
    starts = [0, *(index + 1 for index, character in enumerate(text) if character == "\n")]
    folded = text.casefold() if len(text.casefold()) == len(text) else text

    def matches(start: int) -> tuple[int, int]:
        counts = [folded.count(word, start, start + characters_max) for word in words]
        return sum(map(bool, counts)), sum(counts)

    most = max(map(matches, starts))
    start = max(start for start in starts if matches(start) == most) if most > matches(0) else 0
    end = start + characters_max
    return ("...\n" if start else "") + text[start:end] + ("..." if len(text) > end else "")


# ------------------------------------------------------------------------------------------------- verify


@dataclass(frozen=True, slots=True)
class ComparedDocuments:
    """How the source compares with the ledger, in documents; `error` tells why it could not be listed."""

    listed: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    is_complete: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class VerifiedSource:
    """How the memory compares with the ledger of one source, in records, and the source itself, in documents.

    missing: in the ledger only. expired: its time in the memory is over. changed: not as we stored it. foreign: bears
    the source's name and is not in the ledger. duplicate: stored once more than the ledger knows. unattributed:
    foreign, and it does not say which document it is of. `is_repaired` tells that a run has mended all but the last,
    `error` why it could not be compared or mended.
    """

    source: str
    checked: int = 0
    missing: int = 0
    expired: int = 0
    changed: int = 0
    foreign: int = 0
    duplicate: int = 0
    unattributed: int = 0
    examples: Sequence[str] = ()  # ids in the memory of the unattributed
    is_repaired: bool = False
    documents: ComparedDocuments | None = None
    error: str | None = None

    @property
    def repairable(self) -> int:
        return self.missing + self.expired + self.changed + self.foreign + self.duplicate

    @property
    def is_equal(self) -> bool:
        """Whether all could be compared, and memory and ledger agree; what a run would bring in is no difference."""
        is_compared = self.error is None and (self.documents is None or self.documents.error is None)
        return is_compared and not self.unattributed and (self.is_repaired or not self.repairable)


def render_verify(
    results: Sequence[VerifiedSource], *, paths: Mapping[str, str] | None = None, style: Style = PLAIN
) -> str:
    """Return a table of the sources and, as the last line or lines, what to do about the differences."""
    if not results:
        return "No sources."
    header = ("SOURCE", "CHECKED", "MISSING", "EXPIRED", "CHANGED", "FOREIGN", "DUPLICATE", "UNATTRIBUTED")
    table = style.table(
        header,
        [(style.text(result.source), *(f"{count:,}" for count in _verified_counts(result))) for result in results],
    )
    failed = [f"{style.text(result.source)}: {style.text(result.error)}" for result in results if result.error]
    moved = [line for result in results for line in _source_lines(result, style)]
    return "\n".join([*table, "", *failed, *moved, *_verify_verdict(results, paths or {}, style)])


def _verified_counts(result: VerifiedSource) -> tuple[int, ...]:
    return (
        result.checked,
        result.missing,
        result.expired,
        result.changed,
        result.foreign,
        result.duplicate,
        result.unattributed,
    )


def _source_lines(result: VerifiedSource, style: Style) -> Iterator[str]:
    """What the source has that the last run did not see."""
    documents, name = result.documents, style.text(result.source)
    if documents is None:
        return
    if documents.error is not None:
        yield f"{name}: the source could not be listed: {style.text(documents.error)}"
        return
    moved = [
        f"{count:,} {what}"
        for count, what in (
            (documents.added, "not in the ledger"),
            (documents.changed, "to be read again"),
            (documents.removed, "gone"),
        )
        if count
    ]
    if moved:
        listed = amount(documents.listed, "document")
        yield f"{name}: the source lists {listed}: {', '.join(moved)}. A run brings that in."


def _verify_verdict(results: Sequence[VerifiedSource], paths: Mapping[str, str], style: Style) -> Iterator[str]:
    to_repair = [result for result in results if result.repairable and not result.is_repaired and not result.error]
    repaired = sum(result.repairable for result in results if result.is_repaired)
    if unattributed := sum(result.unattributed for result in results):
        verb, does = ("bears", "it does") if unattributed == 1 else ("bear", "they do")
        yield f"{amount(unattributed, 'record')} {verb} the name of a source, and {does} not say of which document."
        yield "Unless a document has just its text, memsync leaves it alone; you can tell whether to delete it."
        if examples := [example for result in results for example in result.examples]:
            yield "In the memory:"
            yield from (f"  {style.text(example)}" for example in examples)
    if to_repair:
        count = sum(result.repairable for result in to_repair)
        yield f"{amount(count, 'record')} in the memory differ from the ledger. To mend that, with a run:"
        used_paths = dict.fromkeys(paths.get(result.source, "FILE") for result in to_repair)
        yield f"  {style.command('verify', *used_paths, '--repair')}"
    elif repaired:
        yield f"What the ledger says is in the memory, after {amount(repaired, 'repair')}."
    elif not unattributed and not any(result.error for result in results):
        checked = sum(result.checked for result in results)
        yield f"The memory is as the ledger says: {amount(checked, 'record')} checked."


# ------------------------------------------------------------------------------------------------ recover


@dataclass(frozen=True, slots=True)
class RecoveredSource:
    """What a lost ledger was rebuilt from, in records of the memory; `error` tells why it was not."""

    source: str
    recovered: int = 0
    duplicate: int = 0
    unattributed: int = 0
    error: str | None = None


def render_recover(
    results: Sequence[RecoveredSource], *, paths: Mapping[str, str] | None = None, style: Style = PLAIN
) -> str:
    """Return a line for each source and the command that continues."""
    lines = []
    for result in results:
        if result.error is not None:
            lines.append(f"{style.text(result.source)}: {style.text(result.error)}")
            continue
        rest = [
            f"{count:,} {what}"
            for count, what in (
                (result.duplicate, "second copies, which the next run deletes"),
                (
                    result.unattributed,
                    "that do not say of which document they are, left alone unless one has just their text",
                ),
            )
            if count
        ]
        also = f"; {'; '.join(rest)}" if rest else ""
        lines.append(f"{style.text(result.source)}: the ledger knows {amount(result.recovered, 'record')} again{also}.")
    used_paths = dict.fromkeys((paths or {}).get(result.source, "FILE") for result in results if not result.error)
    if used_paths:
        lines.append("The next run reads every document once and writes only what differs:")
        lines.append(f"  {style.command('run', *used_paths)}")
    return "\n".join(lines)
