"""How sources stand, as metrics that Prometheus reads. Imported only where somebody asked for them."""

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.report import SourceReport, Status
from pipeline.reporting.text import printable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of what `exposition` returns

_ENDINGS: Sequence[Status] = ("in_sync", "dead_letters", "guarded", "failed", "interrupted")
_FILE_MODE = 0o644  # node_exporter is another user's; nothing in the file is of a document
_SOURCE_LABEL = re.compile(r'\bsource="([^"]*)"')


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that is over. `ended_at` and `report` are None if it was cut short before it could account for itself."""

    status: Status
    ended_at: float | None = None
    report: SourceReport | None = None


@dataclass(frozen=True, slots=True)
class SourceMetrics:
    """One source as its state knows it. Times are in seconds since the epoch, None if there is none.

    If the state cannot be read (`is_readable`), nothing else is known.
    """

    source: str
    is_readable: bool = True
    documents: int = 0
    records: int = 0
    pending_records: int = 0
    dead_letters_by_code: Mapping[str, int] = field(default_factory=dict)
    is_running: bool = False
    last_run: EndedRun | None = None
    last_success_at: float | None = None
    next_run_at: float | None = None


def exposition(sources: Sequence[SourceMetrics]) -> str:
    """Return the metrics of `sources` in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Sources(sources))
    return generate_latest(registry).decode()


# A value of a metric, with its labels beside the source.
_Value = tuple[Sequence[str], float]


def _one(value: float | None) -> list[_Value]:
    return [] if value is None else [((), value)]


def _by_label(values: Mapping[str, float]) -> list[_Value]:
    return [((printable(label),), value) for label, value in values.items()]


def _of_report(count: Callable[[SourceReport], list[_Value]]) -> Callable[[SourceMetrics], list[_Value]]:
    def values(source: SourceMetrics) -> list[_Value]:
        return count(source.last_run.report) if source.last_run and source.last_run.report else []

    return values


def _statuses(source: SourceMetrics) -> list[_Value]:
    """1 for the status of the last run, 0 for the others: an alert can name the one it is about."""
    return (
        _by_label({status: float(status == source.last_run.status) for status in _ENDINGS}) if source.last_run else []
    )


def _documents(report: SourceReport) -> list[_Value]:
    documents = report.documents
    return _by_label(
        {
            "added": documents.added,
            "changed": documents.changed,
            "unchanged": documents.unchanged,
            "failed": documents.failed,
            "removed": documents.removed,
            "skipped": sum(documents.skipped.values()),
        }
    )


def _records(report: SourceReport) -> list[_Value]:
    records = report.records
    return _by_label(
        {
            "created": records.created,
            "updated": records.updated,
            "deleted": records.deleted,
            "unchanged": records.unchanged,
        }
    )


def _requests(report: SourceReport) -> list[_Value]:
    requests = report.requests
    answered = requests.sent - requests.throttled - requests.retried
    return _by_label({"answered": answered, "throttled": requests.throttled, "retried": requests.retried})


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric: its name, what it says, the label that it has beside the source, and its values for one source."""

    name: str
    help: str
    label: str | None
    values: Callable[[SourceMetrics], list[_Value]]


_FAMILIES: Sequence[_Family] = (
    _Family(
        "memsync_documents",
        "Documents of the source whose records the memory holds.",
        None,
        lambda source: _one(source.documents),
    ),
    _Family("memsync_records", "Records of the source in the memory.", None, lambda source: _one(source.records)),
    _Family(
        "memsync_pending_records",
        "Records in the outbox; the next run delivers them.",
        None,
        lambda source: _one(source.pending_records),
    ),
    _Family(
        "memsync_dead_letters",
        "Documents and records that were given up on and wait for a replay.",
        None,
        lambda source: _one(sum(source.dead_letters_by_code.values())),
    ),
    _Family(
        "memsync_dead_letters_by_code",
        "The dead letters, by why they were given up on.",
        "code",
        lambda source: _by_label(source.dead_letters_by_code),
    ),
    _Family(
        "memsync_run_under_way", "Whether a run is under way.", None, lambda source: _one(float(source.is_running))
    ),
    _Family(
        "memsync_last_success_timestamp_seconds",
        "When a run last left the source in sync; absent if none did.",
        None,
        lambda source: _one(source.last_success_at),
    ),
    _Family(
        "memsync_next_run_timestamp_seconds",
        "When the next run is due; absent without a schedule.",
        None,
        lambda source: _one(source.next_run_at),
    ),
    _Family("memsync_last_run_status", "How the last run ended: 1 for its status, else 0.", "status", _statuses),
    _Family(
        "memsync_last_run_timestamp_seconds",
        "When the last run ended.",
        None,
        lambda source: _one(source.last_run.ended_at if source.last_run else None),
    ),
    _Family(
        "memsync_last_run_duration_seconds",
        "How long the last run took.",
        None,
        _of_report(lambda report: _one(report.seconds)),
    ),
    _Family(
        "memsync_last_run_documents",
        "Documents of the last run, by what became of them.",
        "outcome",
        _of_report(_documents),
    ),
    _Family(
        "memsync_last_run_records",
        "Records of the last run, by what became of them.",
        "outcome",
        _of_report(_records),
    ),
    _Family(
        "memsync_last_run_requests",
        "Writes of the last run to the memory, by what came of each attempt.",
        "outcome",
        _of_report(_requests),
    ),
    _Family(
        "memsync_last_run_withheld_documents",
        "Documents that were gone and whose records the last run did not delete.",
        None,
        _of_report(lambda report: _one(report.withheld_documents)),
    ),
)


@dataclass(frozen=True, eq=False)
class _Sources(Collector):
    sources: Sequence[SourceMetrics]

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("memsync_build_info", "The version of memsync that tells this.", labels=["version"])
        info.add_metric([version("agentcore-memory-sync")], 1.0)
        yield info
        readable = GaugeMetricFamily(
            "memsync_state_readable", "Whether the state of the source could be read.", labels=["source"]
        )
        for source in self.sources:
            readable.add_metric([source.source], float(source.is_readable))
        yield readable
        known = [source for source in self.sources if source.is_readable]
        yield from filter(_has_values, (self._metric(family, known) for family in _FAMILIES))

    def _metric(self, family: _Family, sources: Iterable[SourceMetrics]) -> Metric:
        labels = ["source", *([family.label] if family.label else [])]
        metric = GaugeMetricFamily(family.name, family.help, labels=labels)
        for source in sources:
            for more, value in family.values(source):
                metric.add_metric([source.source, *more], value)
        return metric


def _has_values(metric: Metric) -> bool:
    return bool(metric.samples)


# ------------------------------------------------------------------------------------------------ the file


class TakenByAnother(Exception):
    """The file holds the metrics of another source, which would be lost."""

    def __init__(self, path: Path, source: str) -> None:
        super().__init__(
            f"{path} holds the metrics of the source {source!r}. Give each source a file of its own, with {{source}} in"
            " telemetry.prometheus_file; if that source is no more, remove the file."
        )


def write_file(path: Path, metrics: SourceMetrics) -> None:
    """Replace `path` by the metrics of one source, in one step; everybody may read it.

    Raises:
        TakenByAnother: it belongs to another source.
        OSError: it cannot be written.
    """
    with suppress(FileNotFoundError):
        others = set(_SOURCE_LABEL.findall(path.read_text(encoding="utf-8", errors="replace"))) - {metrics.source}
        if others:
            raise TakenByAnother(path, min(others))
    # node_exporter reads whatever ends in .prom, so what is not complete must not.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(exposition([metrics]))
            os.fchmod(file.fileno(), _FILE_MODE)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
