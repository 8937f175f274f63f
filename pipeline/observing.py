"""Who else hears of the runs of a command, beside the log and the display, as the settings of each source say."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.events import Observer
from pipeline.reporting.pulse import Pulse
from pipeline.settings import SourceSettings


@dataclass(frozen=True, slots=True)
class Observing:
    """The observers of the runs of one command, source by source."""

    run_id: str

    @contextmanager
    def run_of(self, settings: SourceSettings) -> Iterator[tuple[Observer, ...]]:
        """Those who hear the events of the run of one source, which ends with the block."""
        telemetry = settings.telemetry
        with Pulse(
            settings.name,
            self.run_id,
            every_s=telemetry.still_running_s,
            stalled_after_s=telemetry.stalled_after_s,
        ) as pulse:
            yield (pulse,)
