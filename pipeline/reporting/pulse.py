"""Says now and then that a run goes on, and warns when nothing of it moves. It never ends one: waiting is no fault."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog

from pipeline.events import RequestSent, RunEvent, WaitEnded, WaitStarted
from pipeline.reporting.progress import SourceProgress
from pipeline.reporting.waits import WaitGroup, advice, words

_NOTHING_KNOWN = "nothing that is known"


class Pulse:
    """A listener to the run of one source that logs `still_running` every `every_s` seconds, `nothing_moved` once for
    `stalled_after_s` seconds nothing moved, again each time that has doubled, and `moving_again` after that.

    0 turns one off. Something moves when the source, a parser or the memory gets on by a piece: refused and unanswered
    requests do not count, nor does the renewing of the lease. `beat` does the talking, in a thread of its own for as
    long as the `with` block lasts: it can tell also when the event loop hangs.
    """

    def __init__(
        self,
        source: str,
        run_id: str,
        *,
        every_s: float,
        stalled_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = structlog.get_logger().bind(source=source, run_id=run_id)
        self._every_s = every_s
        self._stalled_after_s = stalled_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._thread: threading.Thread | None = None
        now_s = clock()
        self._progress = SourceProgress(now_s)
        self._moved_at_s = now_s
        self._next_word_at_s = now_s + every_s
        self._warn_after_s = stalled_after_s

    def __enter__(self) -> Self:
        periods_s = [period_s for period_s in (self._every_s, self._stalled_after_s) if period_s]
        if periods_s:
            self._thread = threading.Thread(target=self._keep_beating, args=[min(periods_s)], daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        error_traceback: TracebackType | None,
    ) -> None:
        self._has_ended.set()
        if self._thread is not None:
            self._thread.join()

    def _keep_beating(self, period_s: float) -> None:
        while not self._has_ended.wait(period_s):
            self.beat()

    def __call__(self, event: RunEvent) -> None:
        now_s = self._clock()
        with self._lock:
            self._progress.hear(event, now_s)
            if not moves(event):
                return
            idle_s, self._moved_at_s = now_s - self._moved_at_s, now_s
            was_warned = self._warn_after_s > self._stalled_after_s
            self._warn_after_s = self._stalled_after_s
        if was_warned:
            self._log.info("moving_again", idle_s=round(idle_s, 1))

    def beat(self) -> None:
        """Say what there is to say now."""
        now_s = self._clock()
        with self._lock:
            idle_s = now_s - self._moved_at_s
            groups = self._progress.waits.groups(now_s)
            is_time = bool(self._every_s) and now_s >= self._next_word_at_s
            is_stalled = bool(self._stalled_after_s) and idle_s >= self._warn_after_s
            if is_time:
                self._next_word_at_s = now_s + self._every_s
            if is_stalled:
                self._warn_after_s = 2 * idle_s
            said = _said(self._progress, groups, now_s, idle_s)
        if is_stalled:
            waits_for = "; ".join(map(words, groups)) or _NOTHING_KNOWN
            self._log.warning("nothing_moved", idle_s=round(idle_s, 1), waits_for=waits_for, advice=advice(groups))
        elif is_time:
            self._log.info("still_running", **said)


def moves(event: RunEvent) -> bool:
    """Whether an event shows that the run has got on."""
    match event:
        case WaitStarted():
            return False
        case WaitEnded(wait):
            # A page was listed or read, a document was fetched or parsed. Of writes, the answers tell; and the ledger
            # is written to by the lease as well, whatever else stands still.
            return wait.reason in ("source", "parser") or (wait.stage, wait.reason) == ("read", "service")
        case RequestSent():
            return event.outcome not in ("throttled", "retryable")
        case _:
            return True


def _said(progress: SourceProgress, groups: list[WaitGroup], now_s: float, idle_s: float) -> dict[str, Any]:
    return {
        "running_s": round(now_s - progress.started_at_s, 1),
        "idle_s": round(idle_s, 1),
        "documents_listed": progress.documents_listed,
        "documents_done": progress.documents_passed,
        "records_planned": progress.records_planned,
        "records_settled": progress.records_settled,
        "dead_letters": progress.dead_letters,
        "requests_throttled": progress.requests_throttled,
        "waits": [
            {
                "stage": group.stage,
                "for": group.reason,
                "count": group.count,
                "longest_s": round(group.longest_s, 1),
                **({} if group.left_s is None else {"left_s": round(group.left_s, 1)}),
                **({} if group.document is None else {"document_id": group.document}),
            }
            for group in groups
        ],
    }
