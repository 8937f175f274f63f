"""What `memsync init` prints of a source that it has looked at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.reporting.previews import DocumentPreview
from pipeline.reporting.text import PLAIN, Style, amount, duration

_KINDS_MAX = 12
_PROBLEMS_MAX = 5
_UNITS = ((1024**3, "GB"), (1024**2, "MB"), (1024, "kB"))


@dataclass(frozen=True, slots=True)
class FoundKind:
    """Documents whose names end alike. `size_bytes` is None where the listing does not tell."""

    ending: str
    documents: int = 0
    size_bytes: int | None = None
    left_out: str | None = None

    def with_document(self, size_bytes: int | None) -> "FoundKind":
        size = self.size_bytes if size_bytes is None else (self.size_bytes or 0) + size_bytes
        return replace(self, documents=self.documents + 1, size_bytes=size)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a source has shown. `skipped` counts what the listing itself left out, by reason.

    `folders` are names of folders, `titled` is the number of documents whose title the listing tells.
    """

    kinds: Sequence[FoundKind] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    is_complete: bool = True
    seconds: float = 0.0
    problems: Sequence[str] = ()
    previews: Sequence[DocumentPreview] = ()
    folders: Sequence[str] = ()
    titled: int = 0

    @property
    def documents(self) -> int:
        return sum(kind.documents for kind in self.kinds)

    @property
    def readable(self) -> int:
        """How many of the documents are of a kind that can be read."""
        return sum(kind.documents for kind in self.kinds if kind.left_out is None)

    def text_lengths(self) -> list[int]:
        """The characters of each text that was read, from few to many."""
        return sorted(text.characters for preview in self.previews for text in preview.texts if text.problem is None)


def render_look(look: Look, *, style: Style = PLAIN) -> str:
    """Return what was found: how much of what, what would be left out and why, how long the texts are."""
    return "\n".join([*_found(look, style), *_kinds(look, style), *_texts(look), *_problems(look, style)])


def _found(look: Look, style: Style) -> Iterator[str]:
    sizes = [kind.size_bytes for kind in look.kinds if kind.size_bytes is not None]
    size = f", {size_of(sum(sizes))}" if sizes else ""
    so_far = "" if look.is_complete else "at least "
    sign = style.sign("good" if look.readable and not look.problems else "warning")
    yield f"{sign} {so_far}{amount(look.documents, 'document')}{size}, listed in {duration(look.seconds)}"
    if not look.documents:
        yield "  There is nothing to read yet, or what is said of the source leaves it out."


def _kinds(look: Look, style: Style) -> Iterator[str]:
    if not any(kind.ending for kind in look.kinds) and not look.skipped:
        return
    rows = [
        [
            style.text(kind.ending or "no ending", characters_max=20),
            f"{kind.documents:,}",
            "" if kind.size_bytes is None else size_of(kind.size_bytes),
            "" if kind.left_out is None else style.text(f"left out: {kind.left_out}"),
        ]
        for kind in look.kinds[:_KINDS_MAX]
    ]
    rest = look.kinds[_KINDS_MAX:]
    if rest:
        rows.append([f"{len(rest)} more kinds", f"{sum(kind.documents for kind in rest):,}", "", ""])
    rows += [
        ["", f"{count:,}", "", style.text(f"left out: {reason}")] for reason, count in sorted(look.skipped.items())
    ]
    if rows:
        yield ""
        yield from (f"  {line}" for line in style.table(["NAME ENDS", "DOCUMENTS", "SIZE", ""], rows))
        yield ""


def _texts(look: Look) -> Iterator[str]:
    lengths = look.text_lengths()
    records = sum(len(text.records) for preview in look.previews for text in preview.texts)
    if lengths:
        span = f"{lengths[0]:,}" if lengths[0] == lengths[-1] else f"{lengths[0]:,} to {lengths[-1]:,}"
        yield (
            f"  Read {len(look.previews):,} of them: {amount(len(lengths), 'text')} of {span} characters"
            f" (half of them up to {lengths[len(lengths) // 2]:,}), {amount(records, 'record')}."
        )


def _problems(look: Look, style: Style) -> Iterator[str]:
    problems = [
        *look.problems,
        *(f"{preview.id}: {preview.problem}" for preview in look.previews if preview.problem is not None),
    ]
    for problem in problems[:_PROBLEMS_MAX]:
        yield f"  {style.sign('warning')} {style.text(problem)}"
    if len(problems) > _PROBLEMS_MAX:
        yield f"  {style.sign('warning')} and {len(problems) - _PROBLEMS_MAX:,} more"


def size_of(size_bytes: int) -> str:
    """`812 bytes`, `3.2 MB`."""
    for unit_bytes, unit in _UNITS:
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:,.1f} {unit}"
    return f"{size_bytes:,} bytes"
