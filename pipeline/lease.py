"""One run per source: the right to write, for a while, renewed for as long as the run goes on.

A lock of the operating system keeps a second run of this machine away and ends with the process. It says nothing of
another machine, and a process that was stopped keeps it for ever. So the ledger holds a lease as well: who has it,
until when, and a number (the fence) that rises whenever it changes hands. Every transaction checks the fence, so
that a run which was stopped for longer than its lease cannot write when it wakes up; and it does not send either,
since it looks at its lease before each request.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from anyio import CancelScope, create_task_group, sleep

from pipeline.errors import LeaseLost, SyncError
from pipeline.protocols import StateStore

RENEW_EVERY_S = 30.0
RENEWALS_MISSED_MAX = 3  # a busy disk may hold one up; a run that misses more has been stopped

# How long the service may still carry out a request whose sender is gone or has given up. Not documented; a request
# takes some 0.3 s, so this is long.
LATE_WRITE_S = 10.0


@dataclass(slots=True)
class Lease:
    """The right to send and to settle until `ends_at`. Times are in seconds since the epoch.

    `request_s` is how long one request may take: none begins later than that before the end, so that a successor
    meets none of ours under way. `predecessor_until` is when the last run before this one can have sent something.
    `unheard_at` is when a request left whose outcome nobody has heard.
    """

    ends_at: float
    request_s: float
    predecessor_until: float = float("-inf")
    unheard_at: float = float("-inf")

    def check(self, now: float) -> None:
        """Make sure that a request which begins at `now` ends within the lease.

        Raises:
            LeaseLost: it would not; another run may begin meanwhile.
        """
        if now + self.request_s > self.ends_at:
            raise LeaseLost(
                "This run was stopped, or could not write its state, for longer than its lease on the source; another"
                " run may have taken over. It sends nothing more. What is not stored yet is in the outbox, and the"
                " next run carries on."
            )

    def note_unheard(self, now: float) -> None:
        """The answer to a request that left before `now` was lost: it may still be carried out."""
        self.unheard_at = max(self.unheard_at, now)

    async def wait_for_unheard(self, now: Callable[[], float], seconds: float = LATE_WRITE_S) -> None:
        """Wait until `seconds` have passed since the last request that nobody heard the outcome of."""
        if (wait_s := min(self.unheard_at + seconds - now(), seconds)) > 0:
            await sleep(wait_s)


ENDED_LEASE = Lease(ends_at=float("-inf"), request_s=0.0)  # of a plan, which must not send


@asynccontextmanager
async def hold_lease(
    state: StateStore, owner: str, *, has_lock: bool, request_s: float, now: Callable[[], float]
) -> AsyncIterator[Lease]:
    """Take the lease on the source, renew it as long as the block runs, and give it back.

    `owner` names this run for people; `has_lock` tells that it holds the lock of the operating system.

    Raises:
        SourceLocked: another run has it.
        LeaseLost: another run took it while the block ran; the block was cancelled.
    """
    duration_s = request_s + RENEWALS_MISSED_MAX * RENEW_EVERY_S
    lease = Lease(now() + duration_s, request_s)
    earlier_end = await state.take_lease(owner, has_lock=has_lock, now=now(), ends_at=lease.ends_at)
    if earlier_end is not None:
        lease.predecessor_until = min(now(), earlier_end)

    async def renew() -> None:
        while True:
            await sleep(RENEW_EVERY_S)
            ends_at = now() + duration_s
            await state.renew_lease(ends_at)
            lease.ends_at = ends_at

    try:
        async with create_task_group() as tasks:
            tasks.start_soon(renew)
            yield lease
            tasks.cancel_scope.cancel()
    finally:
        # Whoever cannot give it back leaves it to end by itself; what went wrong is being told already.
        with CancelScope(shield=True), suppress(SyncError):
            await state.release_lease(now())
