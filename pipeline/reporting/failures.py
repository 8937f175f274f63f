"""What a plan found that could not be read, or could not be stored."""

from dataclasses import dataclass, field

from pipeline.events import DeadLettered, RunEvent, RunStarted, ScanProblem

KEPT_MAX = 100  # of each source; the report counts all


@dataclass(frozen=True, slots=True)
class Failure:
    """`what` is the id of a document, or the scope that could not be listed."""

    what: str
    stage: str
    code: str
    message: str


@dataclass(slots=True)
class FailureListener:
    """A listener that keeps the first failures of each source."""

    by_source: dict[str, list[Failure]] = field(default_factory=dict)
    _source: str = ""

    def __call__(self, event: RunEvent) -> None:
        match event:
            case RunStarted(source):
                self._source = source
            case DeadLettered(document, stage, code, message) if stage != "scan":  # that one was told already
                self._keep(Failure(document, stage, code, message))
            case ScanProblem(scope, code, message):
                self._keep(Failure(scope, "scan", code, message))
            case _:
                pass

    def _keep(self, failure: Failure) -> None:
        kept = self.by_source.setdefault(self._source, [])
        if len(kept) < KEPT_MAX:
            kept.append(failure)
