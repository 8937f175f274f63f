"""What `memsync history` prints, and what a page shows of the runs before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.report import Status
from pipeline.reporting.text import PLAIN, Style, amount, duration, moment

PastStatus = Status | Literal["running"]

_WORDS: dict[PastStatus, str] = {
    "in_sync": "in sync",
    "dead_letters": "dead letters",
    "guarded": "deletes withheld",
    "failed": "failed",
    "locked": "overtaken",
    "interrupted": "interrupted",
    "running": "running",
}
_COLORS: dict[PastStatus, str] = {"in_sync": "green", "failed": "red", "running": "cyan"}  # of the rest: yellow


@dataclass(frozen=True, slots=True)
class PastRunRow:
    """One run of a source. Times are in seconds since the epoch; what a killed run did is not known.

    `changes` counts documents that were added, changed or removed, `records` those that were created, updated or
    deleted. `report` is the file of its report, if there is one still.
    """

    run_id: str
    verb: str
    status: PastStatus
    started_at: float
    seconds: float | None = None
    added: int = 0
    changed: int = 0
    removed: int = 0
    failed: int = 0
    records: int = 0
    dead_letters: int = 0
    error: str | None = None
    report: str | None = None


def status_words(status: PastStatus) -> str:
    """A status of a run, in words."""
    return _WORDS[status]


def render_history(runs_by_source: Mapping[str, Sequence[PastRunRow]], *, style: Style = PLAIN) -> str:
    """Return a table of the runs of each source, the newest first."""
    if not runs_by_source:
        return "No sources."
    return "\n\n".join("\n".join(_block(source, runs, style)) for source, runs in runs_by_source.items())


def _block(source: str, runs: Sequence[PastRunRow], style: Style) -> list[str]:
    title = style.paint(style.text(source), "bold")
    if not runs:
        return [f"{title}  never ran"]
    header = ("STARTED", "RUN", "STATUS", "TOOK", "ADDED", "CHANGED", "REMOVED", "RECORDS", "DEAD LETTERS")
    head, *lines = style.table(header, [_cells(run, style) for run in runs])
    colored = [_colored(line, run, style) for line, run in zip(lines, runs, strict=True)]
    return [f"{title}  {_summary(runs)}", head, *colored]


def _cells(run: PastRunRow, style: Style) -> tuple[str, ...]:
    start = (moment(run.started_at), style.text(f"{run.verb} {run.run_id[:8]}"), _WORDS[run.status])
    if run.seconds is None:
        return (*start, *["-"] * 6)
    counts = (run.added, run.changed, run.removed, run.records, run.dead_letters)
    return (*start, duration(run.seconds), *(f"{count:,}" for count in counts))


def _colored(line: str, run: PastRunRow, style: Style) -> str:
    """Paint the status, which stands in the line once its cells have their widths."""
    words = _WORDS[run.status]
    return line.replace(words, style.paint(words, _COLORS.get(run.status, "yellow")), 1)


def _summary(runs: Sequence[PastRunRow]) -> str:
    good = sum(run.status == "in_sync" for run in runs)
    return f"{amount(len(runs), 'run')}, {good:,} of them in sync"
