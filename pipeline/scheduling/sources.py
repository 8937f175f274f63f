"""The sources that a scheduler looks after, as their YAML files have them now."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.configuration.loading import check_sources
from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError
from pipeline.runs.time_zones import zone_called
from pipeline.timetable import Timetable, delay_of


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A source, and when it is due; without a timetable it never is by itself."""

    settings: SourceSettings
    timetable: Timetable | None


def read_sources(paths: Sequence[Path]) -> tuple[dict[str, Scheduled], list[ConfigurationError]]:
    """The sources by their names, as far as their files are valid, and what is wrong with the others."""
    checked = check_sources(paths)
    faults = list(checked.faults)
    sources = {}
    for settings, *_ in checked.sources:
        try:
            sources[settings.name] = Scheduled(settings, timetable_of(settings))
        except ConfigurationError as error:
            faults.append(error)
    return sources, faults


def timetable_of(settings: SourceSettings) -> Timetable | None:
    """When runs of the source are due here, with the delay that is its own; None: its settings do not say.

    Raises:
        ConfigurationError: the time zone of this machine cannot be told.
    """
    if settings.schedule is None:
        return None
    delay_s = delay_of(settings.name, settings.schedule_jitter_s)
    return Timetable(settings.schedule, zone_called(settings.schedule_zone), delay_s)
