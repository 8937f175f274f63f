"""What `memsync doctor` prints."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.reporting.text import PLAIN, Style, amount

Verdict = Literal["ok", "warning", "problem", "not_known", "skipped"]

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    `cure` is what to do about it, empty if there is nothing to do; a line of it that begins with spaces is a command.
    """

    check: str
    verdict: Verdict
    found: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class ExaminedSource:
    """All that was found about one source; `file` is its YAML file, as short as it can be typed."""

    source: str
    file: str
    findings: Sequence[Finding]

    @property
    def has_problem(self) -> bool:
        return any(finding.verdict == "problem" for finding in self.findings)


def render_findings(examined: Sequence[ExaminedSource], *, style: Style = PLAIN) -> str:
    """Return a block of lines for each source and, as the last line, what they come to."""
    if not examined:
        return "No sources."
    return "\n\n".join(["\n".join(_source_lines(source, style)) for source in examined] + [_sum(examined)])


def _source_lines(source: ExaminedSource, style: Style) -> Iterator[str]:
    yield f"{style.paint(style.text(source.source), 'bold')}  {style.paint(style.text(source.file), 'dim')}"
    width = max((len(finding.check) for finding in source.findings), default=0)
    for finding in source.findings:
        found, *more = style.lines(finding.found) or [""]
        margin = " " * (len(_INDENT) + 2 + width + 2)
        yield f"{_INDENT}{_sign(finding.verdict, style)} {finding.check:<{width}}  {found}"
        yield from (f"{margin}{line}" for line in more)
        for line in finding.cure.split("\n") if finding.cure else ():
            is_command = line.startswith(" ")
            text = style.text(line)
            yield f"{margin}{style.paint(text, 'cyan') if is_command else text}"


def _sign(verdict: Verdict, style: Style) -> str:
    if verdict == "not_known":
        return style.paint("?", "yellow")
    if verdict == "skipped":
        return style.paint("-", "dim")
    return style.sign({"ok": "good", "warning": "warning", "problem": "bad"}[verdict])


def _sum(examined: Sequence[ExaminedSource]) -> str:
    """`2 problems, 1 warning, 3 not known, 12 ok.`"""
    counts = Counter(finding.verdict for source in examined for finding in source.findings)
    parts = [
        *([amount(counts["problem"], "problem")] if counts["problem"] else []),
        *([amount(counts["warning"], "warning")] if counts["warning"] else []),
        *([f"{counts['not_known']:,} not known"] if counts["not_known"] else []),
        *([f"{counts['skipped']:,} skipped"] if counts["skipped"] else []),
        f"{counts['ok']:,} ok",
    ]
    verdict = "Something has to be done." if counts["problem"] else "Nothing stands in the way of a run."
    return f"{verdict} {', '.join(parts)}."
