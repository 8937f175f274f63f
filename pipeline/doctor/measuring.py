"""The probe for sources: where it measures, where the answers are kept, and what a run makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.configuration.settings import SourceSettings
from pipeline.configuration.values import LOCAL
from pipeline.doctor.account import open_account
from pipeline.doctor.probe import Probe
from pipeline.errors import ConfigurationError, StateError
from pipeline.limits import service_limits
from pipeline.reporting.examinations import Finding
from pipeline.reporting.text import duration, moment
from pipeline.runs.measured import (
    MEASURED_FILE,
    Measured,
    Timing,
    endpoint_of,
    holds_for,
    read_measured,
    region_of,
    timing_by,
    timing_of,
    write_measured,
)
from pipeline.runs.parts import connection_of, offload

OLD_S = 180 * 86_400.0  # the service may have been changed since


def check_place(sources: Sequence[SourceSettings], memory_id: str) -> None:
    """See that the probe would measure for all of `sources`, on none of their memories.

    Raises:
        ConfigurationError: it would not; nothing was sent.
    """
    if problem := service_limits().memory_id.breach(memory_id):
        raise ConfigurationError(f"--memory-id {problem}; it should be a memory's id, such as `throwaway-a1B2c3D4e5`")
    for settings in sources:
        if settings.destination.endpoint_url == LOCAL:
            raise ConfigurationError(
                f"source {settings.name!r} has its memory on this machine, of which nothing is unknown"
            )
        if settings.destination.memory_id.rsplit("/", 1)[-1] == memory_id.rsplit("/", 1)[-1]:
            raise ConfigurationError(
                f"{memory_id} is the memory of the source {settings.name!r}. Nothing was sent. A probe needs a memory"
                " that is there to be thrown away: make one, and name that with --memory-id"
            )
    if len({(region_of(each), each.destination.endpoint_url, each.destination.profile) for each in sources}) > 1:
        names = ", ".join(settings.name for settings in sources)
        raise ConfigurationError(
            f"the memories of {names} are in several regions, or reached in several ways; --source chooses those of one"
        )


async def measure(
    sources: Sequence[SourceSettings], memory_id: str, token_s: float, tell: Callable[[str], None]
) -> tuple[Measured, list[Path]]:
    """Measure on the memory `memory_id`, and keep what was found for each of `sources`; return that, and the files.

    Raises:
        ConfigurationError: the memory is not there to be thrown away.
        DestinationError: it could not be asked.
        StateError: the answers could not be kept.
    """
    first = sources[0]
    connection = connection_of(first, first.destination.endpoint_url)
    async with open_account(replace(connection, memory_id=memory_id)) as account:
        probe = Probe(account, token_s, tell, settle_s=timing_of(first).settle_s)
        found = await probe.measure(region_of(first))
    measured = replace(found, endpoint_url=endpoint_of(first))
    files = []
    for settings in sources:
        try:
            files.append(await offload(partial(write_measured, settings.state_folder, measured)))
        except OSError as error:
            raise StateError(
                f"What was measured cannot be kept in {settings.state_folder}: {error.strerror}. Check its permissions"
                " and the disk, and probe again."
            ) from error
    return measured, files


# ---------------------------------------------------------------------------------------------- what follows

_TEXT_LIMITS = {
    "characters": "counted in characters",
    "utf16": "counted in units of UTF-16: an emoji counts twice",
    "bytes": "counted in bytes of UTF-8",
    None: "not known: not even 16,000 letters were stored",
}
_BAD_RECORDS = {
    "fails_alone": "it fails alone, the others are stored",
    "refuses_all": "the whole request is refused, without naming it",
    "refuses_all_and_is_named": "the whole request is refused, and it is named",
    "is_stored": "it is stored all the same",
    None: "not known",
}


def rows_of(measured: Measured, timing: Timing) -> list[tuple[str, str, str]]:
    """What was measured, what came out, and what a run makes of it."""
    lost = measured.metadata_lost
    return [
        ("a record is found by its id after", _seconds(measured.get_lag_s), ""),
        ("it can be updated after", _seconds(measured.update_lag_s), _reckons(timing.young_record_s)),
        ("listings show it after", _seconds(measured.list_lag_s), _reckons(timing.settle_s)),
        ("searches find it after", _seconds(measured.search_lag_s), ""),
        ("a client token is recognised", _token(measured), _reckons(timing.token_trust_s)),
        ("the limit of texts", _TEXT_LIMITS[measured.text_limit], "stays below it in bytes and characters"),
        (
            "one bad record in a request",
            _BAD_RECORDS[measured.bad_record],
            "sends none, by its own check of all limits",
        ),
        ("metadata", "not known" if lost is None else f"lost: {', '.join(lost)}" if lost else "comes back as sent", ""),
        ("an update of some metadata", f"{measured.update_of_metadata or 'not known'}", "always sends all of it"),
    ]


def _seconds(lag_s: float | None) -> str:
    return "not seen in time" if lag_s is None else duration(lag_s)


def _reckons(seconds: float) -> str:
    return f"reckons with {duration(seconds)}"


def _token(measured: Measured) -> str:
    if measured.token_recognised_s is None:
        return f"no more after {_seconds(measured.token_forgotten_s)}"
    told = f"after {duration(measured.token_recognised_s)}"
    if measured.token_forgotten_s is None:
        return f"{told}, and perhaps for longer"
    return f"{told}, no more after {duration(measured.token_forgotten_s)}"


async def check_measured(settings: SourceSettings, file: str, now: float) -> Sequence[Finding]:
    """What a run reckons with where AWS documents nothing."""
    kept = settings.state_folder / MEASURED_FILE
    cure = f"Measure again:\n  memsync doctor --probe --memory-id THROW-AWAY-MEMORY {file}"
    try:
        measured = await offload(lambda: read_measured(kept))
    except (OSError, ValueError) as error:
        return [Finding("timing", "warning", f"{kept} cannot be read: {error}; a run does without", cure)]
    holds = measured is not None and holds_for(measured, settings)
    timing = timing_by(settings, measured if holds else None)
    told = (
        f"a run reckons with listings {duration(timing.settle_s)} late, updates after"
        f" {duration(timing.young_record_s)}, client tokens that last {duration(timing.token_trust_s)}"
    )
    if measured is None:
        return [Finding("timing", "ok", f"{told}; not measured")]
    at = f"measured {moment(measured.measured_at)} on {measured.memory_id}"
    if not holds:
        place = f"in {measured.region}{f', at {measured.endpoint_url}' if measured.endpoint_url else ''}"
        return [Finding("timing", "warning", f"{told}; what was {at} was elsewhere, {place}", cure)]
    if now - measured.measured_at > OLD_S:
        return [Finding("timing", "warning", f"{told}; {at}, long ago", cure)]
    return [Finding("timing", "ok", f"{told}; {at}")]
