"""Runs as OpenTelemetry traces and metrics, sent over OTLP/HTTP. Imported only where somebody asked for them.

A trace is the run of one source: a span for the run, one for each stage from its first wait to its last, one for each
write to the memory. Names are those of OpenTelemetry's semantic conventions where there are such, else they begin with
`memsync.`. No text of a document goes out; ids of documents only if `has_document_ids`.

What cannot be delivered is dropped: exporting is done by threads, from queues with a bound, and what is left at the end
gets `CLOSE_S` seconds.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsRemoved,
    RequestSent,
    RunEvent,
    RunStarted,
    WaitEnded,
    WaitingStage,
    WaitStarted,
)
from pipeline.model import API_NAMES, Operation
from pipeline.report import SourceReport
from pipeline.reporting.progress import SourceProgress

CLOSE_S = 3.0
NANOSECONDS = 1_000_000_000

_RPC_SYSTEM = "aws-api"  # these are OpenTelemetry's words for a call of an AWS service
_RPC_SERVICE = "Bedrock AgentCore"  # botocore bedrock-agentcore, serviceId
_RECORD_OUTCOMES = {Operation.CREATE: "created", Operation.UPDATE: "updated", Operation.DELETE: "deleted"}
_PARENT_VARIABLES = {"traceparent": "TRACEPARENT", "tracestate": "TRACESTATE"}  # OpenTelemetry: environment carriers
# semconv, rpc.client.call.duration: the boundaries that it advises, in seconds
_DURATION_BOUNDARIES_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

Attributes = dict[str, str | int | float | bool]


# ---------------------------------------------------------------------------------------- where it goes


@dataclass(slots=True)
class Undelivered:
    """Counts what no collector took, and says so once."""

    endpoint: str
    exports: int = 0
    _is_told: bool = False

    def count(self) -> None:
        self.exports += 1

    def tell(self) -> None:
        if self.exports and not self._is_told:
            self._is_told = True
            structlog.get_logger().warning(
                "telemetry_not_delivered",
                endpoint=self.endpoint,
                exports_lost=self.exports,
                consequence="the run is not affected; traces and metrics of it are missing",
            )


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, endpoint: str | None, undelivered: Undelivered) -> None:
        super().__init__(endpoint=endpoint)
        self._undelivered = undelivered

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._undelivered.count()
        return result


class _MetricExporter(OTLPMetricExporter):
    def __init__(self, endpoint: str | None, undelivered: Undelivered) -> None:
        super().__init__(endpoint=endpoint)
        self._undelivered = undelivered

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        if result is not MetricExportResult.SUCCESS:
            self._undelivered.count()
        return result


class Telemetry:
    """The way of traces and metrics to one collector, for all runs of a process that use it.

    endpoint: the collector's address without a path, such as `http://localhost:4318`. None: the variables of
    OpenTelemetry say; all else (headers, certificates, timeouts, sampling) they say in any case.
    """

    def __init__(self, endpoint: str | None = None, *, traces: bool = True, metrics: bool = True) -> None:
        _keep_library_quiet()
        resource = resource_here()
        base = endpoint.rstrip("/") if endpoint else None
        self._undelivered = Undelivered(_shown(base or _endpoint_of_environment()))
        self._tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        if traces:
            spans = _SpanExporter(f"{base}/v1/traces" if base else None, self._undelivered)
            self._tracer_provider.add_span_processor(BatchSpanProcessor(spans))
        readers = []
        if metrics:
            exporter = _MetricExporter(f"{base}/v1/metrics" if base else None, self._undelivered)
            readers.append(PeriodicExportingMetricReader(exporter))
        self._meter_provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self.tracer = self._tracer_provider.get_tracer("memsync", _version())
        self.instruments = Instruments(self._meter_provider)

    def close(self, within_s: float = CLOSE_S) -> None:
        """Deliver what is left, and give it up after `within_s` seconds."""
        ends_at = time.monotonic() + within_s
        threads = [
            threading.Thread(target=shut_down, daemon=True)
            for shut_down in (self._tracer_provider.shutdown, self._meter_provider.shutdown)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
            if thread.is_alive():
                self._undelivered.count()
        self._undelivered.tell()


def resource_here() -> Resource:
    """Who sends this; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` have the last word."""
    ours = {SERVICE_NAME: "memsync", "service.version": _version(), "host.name": socket.gethostname()}
    theirs = Resource.create()
    named = str(theirs.attributes.get(SERVICE_NAME, ""))
    if named.startswith("unknown_service"):
        theirs = theirs.merge(Resource({SERVICE_NAME: ours[SERVICE_NAME]}))
    return Resource(ours).merge(theirs)


def _version() -> str:
    return version("agentcore-memory-sync")


def _endpoint_of_environment() -> str:
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    return next(filter(None, map(os.environ.get, names)), "http://localhost:4318")


def _shown(endpoint: str) -> str:
    """The host and port only: an address may hold a password, or a key in its path."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _keep_library_quiet() -> None:
    """It would log every attempt of every export, with tracebacks; `telemetry_not_delivered` says it once."""
    logger = logging.getLogger("opentelemetry")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())


# ------------------------------------------------------------------------------------------- what is measured


class Instruments:
    """The metrics of all runs of this process."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("memsync", _version())
        self._listeners: list[TelemetryListener] = []
        self.documents = meter.create_counter(
            "memsync.documents", "{document}", "Documents by what became of them: each once in a run."
        )
        self.records = meter.create_counter(
            "memsync.records", "{record}", "Records by what became of them, as confirmed by the memory."
        )
        self.requests = meter.create_counter(
            "memsync.requests", "{request}", "Writes to the memory by what came of them, each attempt for itself."
        )
        self.duration = meter.create_histogram(
            "rpc.client.call.duration",
            "s",
            "How long the memory took to answer a write.",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDARIES_S,
        )
        self.allowed_rate = meter.create_gauge(
            "memsync.requests.allowed_rate", "{request}/s", "The pace that the memory allows for an operation."
        )
        self.runs = meter.create_counter("memsync.runs", "{run}", "Runs that have ended, by how.")
        self.run_duration = meter.create_gauge("memsync.run.duration", "s", "How long the last run took.")
        self.dead_letters = meter.create_gauge(
            "memsync.dead_letters", "{record}", "Dead letters that are outstanding after a run."
        )
        self.pending = meter.create_gauge(
            "memsync.records.pending", "{record}", "Records in the outbox after a run: the next one delivers them."
        )
        self.last_success = meter.create_gauge(
            "memsync.run.last_success", "s", "When a run last left its source in sync, in seconds since 1970."
        )
        meter.create_observable_gauge(
            "memsync.queue.documents",
            [self._asking(lambda run: run.documents_queued())],
            "{document}",
            "Documents that were listed and are not decided yet.",
        )
        meter.create_observable_gauge(
            "memsync.queue.records",
            [self._asking(lambda run: run.records_queued())],
            "{record}",
            "Changes of records that were planned and are not settled yet.",
        )
        meter.create_observable_gauge(
            "memsync.waits",
            [self._asking(lambda run: run.waits())],
            "{wait}",
            "What is waited for at the moment, by stage and reason.",
        )

    def begin(self, listener: "TelemetryListener") -> None:
        self._listeners.append(listener)

    def end(self, listener: "TelemetryListener") -> None:
        self._listeners.remove(listener)

    def _asking(
        self, ask: Callable[["TelemetryListener"], Iterable[Observation]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _options: [observed for listener in tuple(self._listeners) for observed in ask(listener)]


@dataclass(slots=True)
class _StageSpan:
    span: Span
    context: Context
    ended_at_ns: int
    waits: int = 0


@dataclass(slots=True, eq=False)
class TelemetryListener:
    """Makes a trace and metrics of the run of one source. `finish` ends the trace; without it none is sent.

    `clock_ns` is the time of day in nanoseconds since the epoch.
    """

    telemetry: Telemetry
    source: str
    has_document_ids: bool = False
    clock_ns: Callable[[], int] = time.time_ns
    _run: Span | None = None
    _context: Context | None = None
    _stages: dict[WaitingStage, _StageSpan] = field(default_factory=dict)
    _progress: SourceProgress = field(default_factory=lambda: SourceProgress(0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock)  # the metrics are read by a thread of their own

    def __post_init__(self) -> None:
        self.telemetry.instruments.begin(self)

    def __call__(self, event: RunEvent) -> None:
        with self._lock:
            self._progress.hear(event, 0.0)
        match event:
            case RunStarted():
                self._start(event)
            case WaitStarted(wait):
                self._enter(wait.stage)
            case WaitEnded(wait):
                self._leave(wait.stage)
            case RequestSent():
                self._note_request(event)
            case DocumentsDecided():
                self._count_documents(event.outcome, event.documents)
                self._count_records("unchanged", event.unchanged)
            case DocumentsRemoved():
                self._count_documents("removed", event.documents)
            case DocumentSkippedByReason():
                self._count_documents("skipped", event.count)
            case BatchSettled():
                self._count_records(_RECORD_OUTCOMES[event.operation], event.succeeded)
            case DeadLettered():
                self._count_records("dead_lettered", 1)
                self._note_letter(event)
            case _:
                pass

    # ------------------------------------------------------------------------------------------- the trace

    def _start(self, event: RunStarted) -> None:
        carrier = {name: os.environ[variable] for name, variable in _PARENT_VARIABLES.items() if variable in os.environ}
        self._run = self.telemetry.tracer.start_span(
            f"memsync {event.verb}",
            TraceContextTextMapPropagator().extract(carrier),
            attributes={
                "memsync.source": event.source,
                "memsync.run_id": event.run_id,
                "memsync.verb": event.verb,
                "memsync.documents_known": event.documents_known,
                "memsync.batches_in_outbox": event.batches_in_outbox,
            },
            start_time=self.clock_ns(),
        )
        self._context = set_span_in_context(self._run)

    def _enter(self, stage: WaitingStage) -> None:
        if self._context is None:  # what a run waits for before it has begun is not of its trace
            return
        if stage not in self._stages:
            now_ns = self.clock_ns()
            span = self.telemetry.tracer.start_span(
                stage, self._context, attributes={"memsync.stage": stage}, start_time=now_ns
            )
            self._stages[stage] = _StageSpan(span, set_span_in_context(span), now_ns)
        self._stages[stage].waits += 1

    def _leave(self, stage: WaitingStage) -> None:
        if stage in self._stages:
            self._stages[stage].ended_at_ns = self.clock_ns()

    def _note_request(self, event: RequestSent) -> None:
        attributes: Attributes = {
            "rpc.system": _RPC_SYSTEM,
            "rpc.service": _RPC_SERVICE,
            "rpc.method": API_NAMES[event.operation],
        }
        if event.http_status is not None:
            attributes["http.response.status_code"] = event.http_status
        if event.outcome != "ok":
            attributes["error.type"] = event.code or event.outcome
        ours: Attributes = {"memsync.source": self.source, "memsync.outcome": event.outcome}
        instruments = self.telemetry.instruments
        instruments.duration.record(event.duration_s, attributes)
        instruments.requests.add(1, {"rpc.method": API_NAMES[event.operation], **ours})
        if event.allowed_per_s is not None:
            pace_of: Attributes = {"memsync.source": self.source, "rpc.method": API_NAMES[event.operation]}
            instruments.allowed_rate.set(event.allowed_per_s, pace_of)
        now_ns = self.clock_ns()
        stage = self._stages.get("write")
        span = self.telemetry.tracer.start_span(
            f"{_RPC_SERVICE}/{API_NAMES[event.operation]}",
            stage.context if stage else self._context,
            SpanKind.CLIENT,
            {
                **attributes,
                **({} if event.request_id is None else {"aws.request_id": event.request_id}),
                "memsync.outcome": event.outcome,
                "memsync.records": event.records,
                "memsync.body_bytes": event.body_bytes,
            },
            start_time=now_ns - round(event.duration_s * NANOSECONDS),
        )
        if event.outcome != "ok":
            span.set_status(Status(StatusCode.ERROR))
        span.end(now_ns)

    def _note_letter(self, event: DeadLettered) -> None:
        if self._run is not None:
            attributes: Attributes = {"memsync.stage": event.stage, "error.type": event.code}
            if self.has_document_ids:
                attributes["memsync.document_id"] = event.document_id
            self._run.add_event("memsync.dead_letter", attributes, self.clock_ns())

    async def finish(self, report: SourceReport) -> None:
        """End the trace, and measure what only the end of a run tells."""
        now_ns = self.clock_ns()
        of_source: Attributes = {"memsync.source": self.source}
        instruments = self.telemetry.instruments
        instruments.end(self)
        instruments.runs.add(1, {**of_source, "memsync.status": report.status})
        instruments.run_duration.set(report.seconds, of_source)
        if self._run is not None:
            # A run that did not get so far does not know them.
            instruments.dead_letters.set(report.records.dead_lettered, of_source)
            instruments.pending.set(report.records.pending, of_source)
        if report.status == "in_sync":
            instruments.last_success.set(now_ns / NANOSECONDS, of_source)
        self._end_trace(report, now_ns)

    def _end_trace(self, report: SourceReport, now_ns: int) -> None:
        for stage in self._stages.values():
            stage.span.set_attribute("memsync.waits", stage.waits)
            stage.span.end(stage.ended_at_ns)
        self._stages.clear()
        if self._run is None:
            return
        documents, records = report.documents, report.records
        self._run.set_attributes(
            {
                "memsync.status": report.status,
                "memsync.documents.seen": documents.seen,
                "memsync.documents.failed": documents.failed,
                "memsync.documents.removed": documents.removed,
                "memsync.records.created": records.created,
                "memsync.records.updated": records.updated,
                "memsync.records.deleted": records.deleted,
                "memsync.records.pending": records.pending,
                "memsync.dead_letters": records.dead_lettered,
            }
        )
        if report.status in ("failed", "guarded"):
            self._run.set_attribute("error.type", report.status)
            # Its words may name documents.
            self._run.set_status(Status(StatusCode.ERROR, report.error if self.has_document_ids else None))
        self._run.end(now_ns)

    # ------------------------------------------------------------------------------------------ the metrics

    def _count_documents(self, outcome: str, count: int) -> None:
        self.telemetry.instruments.documents.add(count, {"memsync.source": self.source, "memsync.outcome": outcome})

    def _count_records(self, outcome: str, count: int) -> None:
        if count:
            self.telemetry.instruments.records.add(count, {"memsync.source": self.source, "memsync.outcome": outcome})

    def documents_queued(self) -> Iterable[Observation]:
        with self._lock:
            count = max(0, self._progress.documents_listed - self._progress.documents_passed)
        yield Observation(count, {"memsync.source": self.source})

    def records_queued(self) -> Iterable[Observation]:
        with self._lock:
            count = max(0, self._progress.records_planned - self._progress.records_settled)
        yield Observation(count, {"memsync.source": self.source})

    def waits(self) -> Iterable[Observation]:
        with self._lock:
            groups = self._progress.waits.groups(0.0)
        for group in groups:
            attributes = {"memsync.source": self.source, "memsync.stage": group.stage, "memsync.reason": group.reason}
            yield Observation(group.count, attributes)
