"""How many documents in a row may fail before it is the source that fails."""

from pipeline.errors import SourceError

FAILURES_MAX = 20


class ErrorBudget:
    """Tells a source that is gone from documents that cannot be read: one after another is no accident.

    `what` names the source in the error. Only for failures that say nothing about the document itself, as no answer at
    all; one that could be read in between makes good for all before it.
    """

    def __init__(self, what: str, failures_max: int = FAILURES_MAX) -> None:
        self._what = what
        self._failures_max = failures_max
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: Exception) -> None:
        """Count a failure.

        Raises:
            SourceError: it was one too many.
        """
        self._failures += 1
        if self._failures >= self._failures_max:
            raise SourceError(
                f"{self._what} failed {self._failures} times in a row, at last with: {error}. Nothing was concluded"
                " from what was not read; the next run tries again."
            ) from error
