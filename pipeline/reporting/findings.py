"""What `memsync validate` prints: each finding with its place, and with the line that it is about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.reporting.text import PLAIN, Style, amount

Severity = Literal["error", "warning"]
_COLORS = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A line of a file without its secrets; the finding is about `width` characters from `start`, counted from 0."""

    text: str
    start: int
    width: int


@dataclass(frozen=True, slots=True)
class Finding:
    """An error keeps a configuration from being used, a warning keeps this machine from running it.

    It lies in a line of a file, or in an environment variable, or neither.
    """

    severity: Severity
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    variable: str | None = None
    excerpt: Excerpt | None = None

    @property
    def place(self) -> str:
        if self.variable is not None:
            return f"environment variable {self.variable}"
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


def render_findings(findings: Sequence[Finding], *, style: Style = PLAIN) -> str:
    return "\n".join(line for finding in findings for line in _finding(finding, style))


def _finding(finding: Finding, style: Style) -> Iterator[str]:
    color = _COLORS[finding.severity]
    place = f"{style.paint(style.text(finding.place), 'bold')}: " if finding.place else ""
    word = "" if finding.severity == "error" else f"{style.paint('warning', color)}: "
    first, *others = style.lines(finding.message)
    yield f"{place}{word}{first}"
    yield from (f"    {line}" for line in others)
    if finding.excerpt is not None:
        yield from _excerpt(finding.excerpt, str(finding.line), color, style)
    yield ""


def _excerpt(excerpt: Excerpt, number: str, color: str, style: Style) -> Iterator[str]:
    before = style.text(excerpt.text[: excerpt.start])
    marked = style.text(excerpt.text[excerpt.start : excerpt.start + excerpt.width])
    after = style.text(excerpt.text[excerpt.start + excerpt.width :])
    bar = style.paint("|", "dim")
    yield f"{style.paint(f'{number:>5}', 'dim')} {bar} {before}{style.paint(marked, color)}{after}"
    carets = style.paint("^" * max(1, style.width(marked)), color)
    yield f"{' ' * 5} {bar} {' ' * style.width(before)}{carets}"


def render_verdict(errors: int, warnings: int, sources: int, *, style: Style = PLAIN) -> str:
    """The last line: what was found in all."""
    if errors:
        are = "it is" if errors == 1 else "they are"
        return f"{style.sign('bad')} {amount(errors, 'fault')}. Nothing runs until {are} mended."
    if warnings:
        what, them = ("It is", "it") if sources == 1 else ("They are", "them")
        told = amount(warnings, "warning")
        return f"{style.sign('warning')} {what} valid. See to {told} before this machine runs {them}."
    return ""
