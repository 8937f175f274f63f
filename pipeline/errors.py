"""What can go wrong, named by what happens next.

    SyncError
    ├── ConfigurationError        nothing was sent; fix the configuration
    ├── SourceLocked              another run holds the source; wait for it
    ├── LeaseLost                 another run took the source over; this one stops and writes nothing more
    ├── PlanOutdated              a saved plan does not fit any more; make another one
    │   └── PlanRefused           and nothing at all was sent: it is as if there had been no run
    ├── SourceError               the source could not be read; no checkpoint moves, nothing is deleted
    ├── UnreadableDocument        this document becomes a dead letter; the run goes on
    │   └── DocumentVanished      it was listed and is gone; the next run sees it as removed
    ├── UnsupportedDocument       this document is left out and counted by reason
    ├── StateError                the ledger or a dead-letter file could not be written; the run stops
    └── DestinationError
        ├── RetryableError        the same batch with the same token, later
        ├── BatchRefused          narrow it; a single refused record becomes a dead letter
        └── FatalError            stop the run; batches stay in the outbox

No message ever holds a document's text or a secret.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class SyncError(Exception):
    """Base of everything that memsync raises on purpose."""


class ConfigurationError(SyncError):
    """The configuration cannot be used; nothing was sent.

    `line` and `column` count from 1; None if the fault has no place in a file. `variable` is the environment variable
    that it lies in, if it does. `problem` is the message without its place.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        line: int | None = None,
        column: int | None = None,
        variable: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (path, line, column) if part is not None)
        if variable is not None:
            place = f"environment variable {variable}"
        super().__init__(f"{place}: {message}" if place else message)
        self.problem, self.path, self.line, self.column, self.variable = message, path, line, column, variable


class SourceLocked(SyncError):
    """Another run holds this source."""


class LeaseLost(SyncError):
    """Another run took this source over, or may have."""


class PlanOutdated(SyncError):
    """A saved plan is not, or not any more, what a run would do; nothing but what it says was sent."""


class PlanRefused(PlanOutdated):
    """A saved plan is not what a run would do, and nothing was sent."""


class SourceError(SyncError):
    """The source could not be read; what the memory holds of it was left alone."""


class UnreadableDocument(SyncError):
    """One document could not be fetched or parsed.

    `code` is one word to sort by, such as `PermissionError` or `too_large`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DocumentVanished(UnreadableDocument):
    """The document was listed and is not there any more."""

    def __init__(self, message: str) -> None:
        super().__init__("vanished", message)


class UnsupportedDocument(SyncError):
    """The document is of a kind that has no text to give; `reason` is short, to be counted by."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StateError(SyncError):
    """The ledger, the outbox or the dead-letter file could not be read or written."""


class DestinationError(SyncError):
    """The memory did not take a batch. `http_status` and `request_id` are its answer's, None if none came."""

    http_status: int | None = None
    request_id: str | None = None

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class RetryableError(DestinationError):
    """Throttled, timed out, 5xx or no connection: send the same bytes with the same token again.

    `retry_after_s` is the service's own wish, None if it has none. `is_throttle` tells a rate from a fault.
    """

    def __init__(
        self, message: str, *, code: str, retry_after_s: float | None = None, is_throttle: bool = False
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s
        self.is_throttle = is_throttle


class BatchRefused(DestinationError):
    """The request was invalid as a whole and nothing of it was done.

    `culprits` maps the index of each entry that the service named to what it said of it; empty if it named none.
    """

    def __init__(self, message: str, *, code: str, culprits: Mapping[int, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.culprits = dict(culprits or {})


class FatalError(DestinationError):
    """No retry heals this: credentials, permissions, a quota, an unknown memory, or a fault of ours."""


@contextmanager
def ungrouped() -> Iterator[None]:
    """Of a group of errors, raise the first that says what happened."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise first_error(group) from None


def first_error(error: BaseException) -> BaseException:
    """`error` itself; or of the group that it is, the first that was raised on purpose, or else the first.

    When one stage of a run fails, the one before it may find that nobody takes what it sends any more.
    """
    errors = list(_single_errors(error))
    return next((each for each in errors if isinstance(each, SyncError)), errors[0])


def _single_errors(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _single_errors(each)
    else:
        yield error
