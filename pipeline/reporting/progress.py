"""A live display of a run, on a terminal. It only shows: the account is in the log and the summary."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TextIO

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsListed,
    DocumentsRemoved,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    WaitEnded,
    WaitStarted,
)
from pipeline.model import Operation
from pipeline.reporting.text import amount, duration, printable
from pipeline.reporting.waits import Waits, whole_seconds, words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_RATE_WINDOW_S = 10.0
_RATE_SAMPLES_MAX = 4_000
_NAME_CHARACTERS_MAX = 40
_REFRESHES_PER_SECOND = 8
_BAR_CHARACTERS = 40
# Below it, an estimate would jump about more than it tells.
_ESTIMATE_AFTER_S = 3.0
_FEW_SECONDS_S = 10.0
_WAIT_SHOWN_AFTER_S = 3.0


@dataclass(slots=True)
class SourceProgress:
    """How far the run of one source is. Times are the caller's clock, in seconds."""

    started_at_s: float
    source: str = ""
    verb: Literal["run", "plan", "replay"] = "run"
    documents_known: int = 0
    batches_in_outbox: int = 0
    documents_listed: int = 0
    is_listed: bool = False
    documents_done: int = 0
    documents_skipped: int = 0
    records_planned: int = 0  # to create, update or delete
    records_settled: int = 0  # of these
    records_stored: int = 0  # created or updated
    dead_letters: int = 0
    requests_throttled: int = 0
    waiting_for: str | None = None  # what the memory's last answer makes us wait for
    waits: Waits = field(default_factory=Waits)
    _settled: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_RATE_SAMPLES_MAX))

    def hear(self, event: RunEvent, now_s: float) -> None:
        match event:
            case WaitStarted() | WaitEnded():
                self.waits.hear(event, now_s)
            case RunStarted():
                self.source, self.verb = event.source, event.verb
                self.documents_known = event.documents_known
                self.batches_in_outbox = event.batches_in_outbox
            case DocumentsListed():
                self.documents_listed += event.count
            case ScanFinished():
                self.is_listed = True
            case DocumentsDecided():
                self.documents_done += event.documents
                self.records_planned += event.created + event.updated + event.obsolete
            case DocumentsRemoved():
                self.records_planned += event.records
            case DocumentSkippedByReason():
                self.documents_skipped += event.count
            case BatchSettled():
                self.batches_in_outbox = max(0, self.batches_in_outbox - 1)
                self.records_settled += event.succeeded
                if event.operation is not Operation.DELETE:
                    self.records_stored += event.succeeded
                self._settled.append((now_s, event.succeeded))
            case RequestSent():
                self._hear_request(event)
            case DeadLettered():
                self.dead_letters += 1
            case _:
                pass

    def _hear_request(self, event: RequestSent) -> None:
        code = f" ({event.code})" if event.code else ""
        match event.outcome:
            case "throttled":
                self.requests_throttled += 1
                self.waiting_for = f"the memory asks for a slower pace{code}; nothing is lost"
            case "retryable":
                self.waiting_for = f"no good answer from the memory{code}; sending again"
            case _:
                self.waiting_for = None

    @property
    def documents_passed(self) -> int:
        """Documents that need nothing more: decided, or left out on purpose."""
        return self.documents_done + self.documents_skipped

    @property
    def documents_expected(self) -> int | None:
        """How many there will be in all; None while nobody can tell."""
        if self.is_listed:
            return max(self.documents_listed, self.documents_passed)
        if self.documents_known:
            return max(self.documents_known, self.documents_listed, self.documents_passed)
        return None

    def records_per_second(self, now_s: float) -> float:
        """Records settled a second, over the last ten seconds."""
        since_s = max(self.started_at_s, now_s - _RATE_WINDOW_S)
        settled = sum(count for settled_at_s, count in self._settled if settled_at_s >= since_s)
        return settled / max(now_s - since_s, 1.0)

    def time_left_s(self, now_s: float) -> float | None:
        """An estimate from the pace so far; None without a base for one."""
        elapsed_s = now_s - self.started_at_s
        if elapsed_s < _ESTIMATE_AFTER_S or self.documents_expected is None or not self.documents_passed:
            return None
        share_decided = self.documents_passed / self.documents_expected
        share_settled = min(1.0, self.records_settled / self.records_planned) if self.records_planned else 1.0
        # Records are planned document by document: what is settled is a share of what is decided.
        share_done = share_decided * share_settled
        return elapsed_s * (1 - share_done) / share_done if share_done else None


class ProgressDisplay:
    """A few lines at the foot of a terminal, for as long as the `with` block lasts; then they are gone.

    A listener too: it shows the source of the last `RunStarted`, so sources must run one after another. What
    is written to `sys.stderr` meanwhile (log lines are) appears above it. `stream` must be a terminal.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()  # the display is drawn by a thread of its own
        self._progress: SourceProgress | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.console import Console  # noqa: PLC0415  0.1 s that only a terminal is worth
        from rich.live import Live  # noqa: PLC0415

        self._live = Live(
            console=Console(file=self._stream),
            get_renderable=self._draw,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            redirect_stdout=False,  # the result may go elsewhere than this terminal
        )
        self._live.__enter__()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        error_traceback: TracebackType | None,
    ) -> None:
        assert self._live is not None
        self._live.__exit__(error_type, error, error_traceback)
        self._live = None

    def __call__(self, event: RunEvent) -> None:
        now_s = self._clock()
        with self._lock:
            if isinstance(event, RunStarted):
                self._progress = SourceProgress(started_at_s=now_s)
            if self._progress is not None:  # what is waited for before the run begins is of no source yet
                self._progress.hear(event, now_s)

    def _draw(self) -> "RenderableType":
        with self._lock:
            return "" if self._progress is None else _drawn(self._progress, self._clock())


# --------------------------------------------------------------------------------------------- what it says


def activity(progress: SourceProgress) -> str:
    """What the run is about, in a few words."""
    if progress.verb == "replay":
        return "sending dead letters again"
    if progress.batches_in_outbox and not progress.documents_listed:
        return f"delivering {amount(progress.batches_in_outbox, 'batch')} of an interrupted run"
    if not progress.is_listed:
        return "planning" if progress.verb == "plan" else "listing and comparing"
    if progress.documents_passed < progress.documents_listed:
        return "comparing"
    return "finishing" if progress.verb == "plan" else "writing"


def documents_line(progress: SourceProgress, now_s: float) -> str:
    """`1,240 of 3,102   about 2 min 5 s left`; while the end is not known, how many were listed so far."""
    done = f"{progress.documents_passed:,}"
    expected = progress.documents_expected
    if expected is None:
        return f"{done} of {progress.documents_listed:,} listed so far"
    counts = f"{done} of {expected:,}" if progress.is_listed else f"{done} of about {expected:,}"
    time_left = estimate_words(progress, now_s)
    return f"{counts}   {time_left}" if time_left else counts


def records_line(progress: SourceProgress, now_s: float) -> str:
    """What reached the memory, how fast, and what did not."""
    parts = [f"{progress.records_stored:,} stored", f"{progress.records_per_second(now_s):,.0f}/s"]
    if progress.dead_letters:
        parts.append(amount(progress.dead_letters, "dead letter"))
    if progress.requests_throttled:
        parts.append(f"throttled {amount(progress.requests_throttled, 'time')}")
    return "   ".join(parts)


def waiting_line(progress: SourceProgress, now_s: float) -> str | None:
    """What the run waits for, if that takes so long that a person would ask."""
    groups = progress.waits.groups(now_s)
    if progress.waiting_for is not None:
        left_s = max((group.left_s or 0.0 for group in groups if group.stage == "write"), default=0.0)
        more = f"; {whole_seconds(left_s)} more at least" if left_s >= 1.0 else ""
        return f"{progress.waiting_for}{more}"
    return words(groups[0]) if groups and groups[0].longest_s >= _WAIT_SHOWN_AFTER_S else None


def estimate_words(progress: SourceProgress, now_s: float) -> str | None:
    """`about 2 min 5 s left`; None if there is nothing to tell it from."""
    time_left_s = progress.time_left_s(now_s)
    if time_left_s is None:
        return None
    return "a few seconds left" if time_left_s < _FEW_SECONDS_S else f"about {duration(time_left_s)} left"


def _drawn(progress: SourceProgress, now_s: float) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    name = printable(progress.source, characters_max=_NAME_CHARACTERS_MAX)
    elapsed = duration(now_s - progress.started_at_s)
    rows = Table.grid(padding=(0, 2))
    if progress.verb != "replay":
        rows.add_row(Text("  documents", style="dim"), Text(documents_line(progress, now_s)))
        if progress.documents_expected:
            bar = ProgressBar(progress.documents_expected, progress.documents_passed, width=_BAR_CHARACTERS)
            rows.add_row("", bar)
    if progress.verb != "plan":
        rows.add_row(Text("  records", style="dim"), Text(records_line(progress, now_s)))
    head = Text.assemble((name, "bold cyan"), "  ", activity(progress), "  ", (elapsed, "dim"))
    lines: list[RenderableType] = [head, rows]
    waits_for = waiting_line(progress, now_s)
    if waits_for is not None:
        lines.append(Text(f"  waiting: {printable(waits_for)}", style="yellow"))
    return Group(*lines)
