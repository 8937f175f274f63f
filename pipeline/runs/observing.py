"""Who else hears of the runs of a command, beside the log and the display, as the settings of each source say."""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import structlog

from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError
from pipeline.events import Observer
from pipeline.report import SourceReport
from pipeline.reporting.pulse import Pulse
from pipeline.runs.notifying import addresses_of, notify, notify_of_unfinished

if TYPE_CHECKING:
    from pipeline.reporting.telemetry import Telemetry

TellEnd = Callable[[SourceReport], Awaitable[None]]

_Signal = Literal["TRACES", "METRICS"]
_SIGNALS: tuple[_Signal, ...] = ("TRACES", "METRICS")


@dataclass(frozen=True, slots=True)
class RunOfSource:
    """The run of one source, as others see it: those who hear its events, and those who are told its end."""

    source: str
    observers: tuple[Observer, ...]
    _told_at_end: tuple[TellEnd, ...] = ()
    _told_news: tuple[TellEnd, ...] = ()
    _told_before: tuple[Callable[[], Awaitable[None]], ...] = ()

    async def begin(self) -> None:
        """Tell, before it begins, what the run before it could not."""
        for tell in self._told_before:
            try:
                await tell()
            except Exception:  # whatever it is, the run is more important
                structlog.get_logger().exception("observer_failed", source=self.source)

    async def finish(self, report: SourceReport, *, is_news: bool = True) -> None:
        """Tell how it ended; what goes wrong with that is logged and changes nothing.

        People hear of it only if it `is_news` of the source.
        """
        for tell in (*self._told_at_end, *(self._told_news if is_news else ())):
            try:
                await tell(report)
            except Exception:  # whatever it is, the run is over and its result stands
                structlog.get_logger().exception("observer_failed", source=report.name)


@dataclass(frozen=True, slots=True)
class Observing:
    """The observers of the runs of one command; made by `observing`."""

    run_id: str
    is_plan: bool
    _addresses: Mapping[str, Sequence[str]]  # of those who are told how runs end, by source
    _telemetry: "Mapping[str | None, Telemetry]"  # by the address of the collector; None: the environment has it

    @contextmanager
    def run_of(self, settings: SourceSettings) -> Iterator[RunOfSource]:
        """The run of one source, whose events end with the block."""
        every_s, stalled_after_s = settings.telemetry.still_running_s, settings.telemetry.stalled_after_s
        with Pulse(settings.name, self.run_id, every_s=every_s, stalled_after_s=stalled_after_s) as pulse:
            observers: list[Observer] = [pulse]
            told_at_end: list[TellEnd] = []
            telemetry = self._telemetry.get(settings.telemetry.otlp_endpoint)
            if telemetry is not None:
                from pipeline.reporting.telemetry import TelemetryListener  # noqa: PLC0415 - 0.3 s, for who wants it

                listener = TelemetryListener(telemetry, settings.name, settings.telemetry.document_ids)
                observers.append(listener)
                told_at_end.append(listener.finish)
            if settings.prometheus_path is not None and not self.is_plan:
                told_at_end.append(partial(write_metrics, settings, settings.prometheus_path))
            addresses = self._addresses.get(settings.name)
            yield RunOfSource(
                settings.name,
                tuple(observers),
                tuple(told_at_end),
                (partial(notify, settings, addresses),) if addresses else (),
                (partial(notify_of_unfinished, settings, addresses),) if addresses else (),
            )


@contextmanager
def observing(run_id: str, sources: Sequence[SourceSettings], *, is_plan: bool) -> Iterator[Observing]:
    """The observers of the runs of `sources`; a plan is nobody's business but of those who look at it.

    Raises:
        ConfigurationError: the settings ask for something that is not installed. Nothing was sent.
    """
    if is_plan:
        yield Observing(run_id, is_plan, {}, {})
        return
    _require_installed(sources)
    addresses = {settings.name: addresses_of(settings) for settings in sources}
    telemetry = _open_telemetry(sources)
    try:
        yield Observing(run_id, is_plan, addresses, telemetry)
    finally:
        for each in telemetry.values():
            each.close()


def _require_installed(sources: Sequence[SourceSettings]) -> None:
    """Find out before anything is sent that a run could not be observed as the settings want it."""
    for settings in sources:
        wanted = {
            "otel": ("opentelemetry.exporter.otlp.proto.http", settings.telemetry.otlp_endpoint),
            "prometheus": ("prometheus_client", settings.telemetry.prometheus_file),
            "notify": ("apprise", settings.notify.urls_variable),
        }
        for extra, (module, setting) in wanted.items():
            if setting is not None and not is_installed(module):
                raise ConfigurationError(missing(extra), path=str(settings.file))


def is_installed(module: str) -> bool:
    """Whether `module` could be imported, without doing so."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # one that it is in
        return False


def missing(extra: str) -> str:
    """What to say where an extra is needed and not installed."""
    what = {
        "otel": "sending traces and metrics",
        "prometheus": "writing metrics for Prometheus",
        "notify": "sending notices",
    }[extra]
    return f"{what} needs a package that is not installed: pip install 'agentcore-memory-sync[{extra}]'"


async def write_metrics(settings: SourceSettings, path: Path, _report: SourceReport) -> None:
    """Write the metrics of a source to `path`; a warning tells if that failed."""
    from pipeline.reporting.prometheus import TakenByAnother, write_file  # noqa: PLC0415
    from pipeline.runs.metrics import source_metrics  # noqa: PLC0415

    def tell(error: Exception) -> None:
        structlog.get_logger().warning("metrics_incomplete", source=settings.name, path=str(path), problem=str(error))

    metrics = await source_metrics(settings, tell)
    try:
        write_file(path, metrics)
    except (OSError, TakenByAnother) as error:
        tell(error)


def _open_telemetry(sources: Sequence[SourceSettings]) -> "dict[str | None, Telemetry]":
    opened: dict[str | None, Telemetry] = {}
    for settings in sources:
        endpoint = settings.telemetry.otlp_endpoint
        wanted = signals_wanted(endpoint, os.environ)
        if endpoint in opened or not wanted:
            continue
        try:
            from pipeline.reporting import telemetry  # noqa: PLC0415 - 0.3 s for those who want it

            opened[endpoint] = telemetry.Telemetry(endpoint, traces="TRACES" in wanted, metrics="METRICS" in wanted)
        # The variables may be meant for other programs of this machine: no reason to leave documents unsynced.
        except ImportError:
            structlog.get_logger().warning("telemetry_unavailable", problem=missing("otel"))
            return {}
        except Exception as error:  # whatever its library makes of a variable; which may be a secret
            problem = f"OpenTelemetry cannot use its variables, OTEL_*: {type(error).__name__}"
            structlog.get_logger().warning("telemetry_unavailable", problem=problem)
    return opened


def signals_wanted(endpoint: str | None, environ: Mapping[str, str]) -> Sequence[_Signal]:
    """Which of traces and metrics go out, by the settings' endpoint and the variables of OpenTelemetry."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    everywhere = endpoint or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return [
        signal
        for signal in _SIGNALS
        if (everywhere or environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))
        and environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() != "none"
    ]
