"""What `memsync status` prints: how all sources stand, the one that needs a person soonest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.report import Status
from pipeline.reporting.text import PLAIN, Style, amount, moment

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
_ERROR_CHARACTERS_MAX = 300

_WORDS: dict[Status | None, str] = {
    None: "never ran",
    "in_sync": "in sync",
    "dead_letters": "dead letters",
    "guarded": "deletes withheld",
    "failed": "failed",
    "locked": "running",
    "interrupted": "interrupted",
}
_COLORS: dict[Status | None, str] = {"in_sync": "green", "failed": "red", "locked": "cyan"}  # of the others: yellow
_URGENCY: tuple[Status | None, ...] = ("failed", "interrupted", "guarded", "dead_letters", None, "locked", "in_sync")


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One source as its state file knows it. Times are in seconds since the epoch, None if there is none.

    `last_run_at` is when the last run ended; of one that is under way or was killed only `last_started_at` is known.
    `due_since` is when it was due by its schedule, if it has not run since. `error` tells why the last run failed, or
    why the state cannot be read; then nothing else is known.
    """

    source: str
    status: Status | None  # None: it never ran
    last_run_at: float | None = None
    documents: int = 0
    records: int = 0
    dead_letters: int = 0
    pending_batches: int = 0
    next_run_at: float | None = None
    last_in_sync_at: float | None = None
    due_since: float | None = None
    withheld_documents: int = 0
    quarantined: int = 0  # of the dead letters: sent again in vain too often, and by itself no more
    dropped: int = 0  # dead letters that a person has given up for good, not among the others
    next_attempt_at: float | None = None  # when a run sends the first dead letter again by itself
    error: str | None = None
    last_started_at: float | None = None
    last_sync_at: float | None = None  # when the last run ended that looked at the source, as a replay does not

    @property
    def is_known(self) -> bool:
        return self.status is not None or self.error is None

    @property
    def is_in_sync(self) -> bool:
        return self.status == "in_sync" and not self.dead_letters + self.pending_batches and self.due_since is None


def render_status(rows: Sequence[StatusRow], *, now: float, style: Style = PLAIN) -> str:
    """Return a table of the sources, what is the matter with them, and as the last line whether all are in sync."""
    if not rows:
        return "No sources."
    by_urgency = sorted(rows, key=_urgency)
    columns = list(_columns(by_urgency, now, style))
    header = [title for title, _ in columns]
    head, *lines = style.table(header, list(zip(*(cells for _, cells in columns), strict=True)))
    signed = [_signed(line, row, style) for line, row in zip(lines, by_urgency, strict=True)]
    notes = [note for row in by_urgency for note in _notes(row, now, style)]
    return "\n".join([f"  {head}", *signed, "", *notes, *([""] if notes else []), _verdict(rows, style)])


def _urgency(row: StatusRow) -> tuple[int, bool]:
    return (_URGENCY.index(row.status) if row.is_known else -1, row.is_in_sync)


def _columns(rows: Sequence[StatusRow], now: float, style: Style) -> Iterator[tuple[str, list[str]]]:
    """The columns of the table; what is zero everywhere, as in good times, takes no room."""
    yield "SOURCE", [style.text(row.source) for row in rows]
    yield "STATUS", [_status_words(row) for row in rows]
    yield "LAST IN SYNC", [_ago(row.last_in_sync_at, now) for row in rows]
    yield "LAST RUN", [_ago(row.last_run_at or row.last_started_at, now) for row in rows]
    yield "NEXT RUN", [_next_words(row, now) for row in rows]
    yield "DOCUMENTS", [f"{row.documents:,}" for row in rows]
    yield "RECORDS", [f"{row.records:,}" for row in rows]
    yield "DEAD LETTERS", [f"{row.dead_letters:,}" for row in rows]
    if any(row.withheld_documents for row in rows):
        yield "WITHHELD", [f"{row.withheld_documents:,}" for row in rows]
    if any(row.pending_batches for row in rows):
        yield "PENDING BATCHES", [f"{row.pending_batches:,}" for row in rows]


def _status_words(row: StatusRow) -> str:
    return _WORDS[row.status] if row.is_known else "unknown"


def _signed(line: str, row: StatusRow, style: Style) -> str:
    """The line with a sign before it, and its status painted, now that its cells have their widths."""
    verdict = "good" if row.is_in_sync else "bad" if row.status == "failed" or not row.is_known else "warning"
    sign = " " if row.status in (None, "locked") and row.is_known else style.sign(verdict)
    words = _status_words(row)
    color = _COLORS.get(row.status, "yellow") if row.is_known else "red"
    name, found, rest = line.partition(f"  {words}")
    return f"{sign} {name}{found.replace(words, style.paint(words, color))}{rest}"


def _next_words(row: StatusRow, now: float) -> str:
    if row.next_run_at is None:
        return "by hand"
    if row.due_since is not None:
        return f"overdue by {age(now - row.due_since)}"
    return f"in {age(row.next_run_at - now)}"


def _ago(at: float | None, now: float) -> str:
    if at is None:
        return "never"
    return "just now" if now - at < _MINUTE_S else f"{age(now - at)} ago"


def age(seconds: float) -> str:
    """`under a minute`, `25 min`, `3 h`, `2 days`: rounded down, as people say how old something is."""
    if seconds < _MINUTE_S:
        return "under a minute"
    if seconds < _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min"
    if seconds < 2 * _DAY_S:
        return f"{int(seconds // _HOUR_S)} h"
    return amount(int(seconds // _DAY_S), "day")


def _notes(row: StatusRow, now: float, style: Style) -> Iterator[str]:
    name = style.text(row.source)
    if row.error is not None and (row.status == "failed" or not row.is_known):
        yield f"{name}: {style.text(row.error, characters_max=_ERROR_CHARACTERS_MAX)}"
    if row.status == "interrupted":
        yield f"{name}: its last run was cut off and has lost nothing; the next one carries on."
    if row.status == "guarded":
        gone = amount(row.withheld_documents, "document")
        yield f"{name}: {gone} gone from the source; the records were kept. `memsync report` names them."
    if letters := list(_letters_notes(row)):
        yield f"{name}: {', '.join(letters)}."
    if row.due_since is not None:
        yield f"{name}: it was due {age(now - row.due_since)} ago and has not run. Does what starts it still run?"


def _letters_notes(row: StatusRow) -> Iterator[str]:
    """What the number of dead letters does not tell."""
    if row.next_attempt_at is not None:
        yield f"what may have passed is sent again by a run from {moment(row.next_attempt_at)} on"
    if row.quarantined:
        yield f"{amount(row.quarantined, 'dead letter')} quarantined after replays in vain"
    if row.dropped:
        yield f"{amount(row.dropped, 'dead letter')} dropped by hand"


def _verdict(rows: Sequence[StatusRow], style: Style) -> str:
    behind_count = sum(not row.is_in_sync for row in rows)
    if behind_count:
        return style.paint(f"Not in sync: {behind_count:,} of {amount(len(rows), 'source')}.", "yellow")
    words = "In sync since the last run" + ("" if len(rows) == 1 else f": all {len(rows):,} sources")
    dropped = sum(row.dropped for row in rows)
    return style.paint(
        f"{words}, but for {amount(dropped, 'dead letter')} dropped by hand." if dropped else f"{words}.", "green"
    )
