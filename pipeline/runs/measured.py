"""What AWS does not document and `memsync doctor --probe` has measured, kept beside the state; what follows from it.

Measured on a memory that was there to be thrown away; it tells of the service, so it holds for whatever memory is
reached in the same region, by the same endpoint.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline.configuration.settings import SourceSettings
from pipeline.files import make_folder, sync_folder
from pipeline.job import SETTLE_S, TOKEN_TRUST_S
from pipeline.writer import YOUNG_RECORD_S

MEASURED_FILE = "measured.json"
SCHEMA = "memsync/measured/1"

# A few measurements show neither the worst hour nor the slowest server.
LAG_MARGIN = 3.0
SETTLE_MIN_S = 10.0
YOUNG_MARGIN = 2.0
YOUNG_MIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found out, by whom it was asked. Times are in seconds, None where it could not be found out.

    Lags are the longest of several, from the moment that the record was sent. `token_recognised_s` is the greatest age
    up to which each client token was recognised, `token_forgotten_s` the least at which one was not.
    """

    measured_at: float  # since the epoch
    memory_id: str
    region: str | None
    endpoint_url: str | None
    get_lag_s: float | None = None
    update_lag_s: float | None = None
    list_lag_s: float | None = None
    search_lag_s: float | None = None
    token_recognised_s: float | None = None
    token_forgotten_s: float | None = None
    text_limit: Literal["characters", "utf16", "bytes"] | None = None
    bad_record: Literal["fails_alone", "refuses_all", "refuses_all_and_is_named", "is_stored"] | None = None
    metadata_lost: tuple[str, ...] | None = None  # the types of values that did not come back as they were sent
    update_of_metadata: Literal["replaces", "merges"] | None = None


class Timing(NamedTuple):
    """What a run reckons with, in seconds.

    `settle_s`: how long a listing may lag. `token_trust_s`: how long a client token is surely recognised.
    `young_record_s`: how long a record may be too young to be updated.
    """

    settle_s: float
    token_trust_s: float
    young_record_s: float


def timing_of(settings: SourceSettings) -> Timing:
    """What the settings say; where they say nothing, what was measured; else what is safe by all that is known."""
    return timing_by(settings, measured_of(settings))


def timing_by(settings: SourceSettings, measured: Measured | None) -> Timing:
    destination = settings.destination
    settle_s = destination.settle_s
    if settle_s is None:
        settle_s = 0.0 if destination.is_on_this_machine else SETTLE_S
        if measured is not None and measured.list_lag_s is not None:
            least_s = 0.0 if destination.is_on_this_machine else SETTLE_MIN_S
            settle_s = max(LAG_MARGIN * measured.list_lag_s, least_s)
    token_trust_s = destination.token_trust_s
    if token_trust_s is None:
        token_trust_s = TOKEN_TRUST_S
        if measured is not None and measured.token_forgotten_s is not None:
            token_trust_s = measured.token_recognised_s or 0.0
        elif measured is not None and measured.token_recognised_s is not None:
            # Who tried for no longer than a moment has not found out anything about ten minutes.
            token_trust_s = max(measured.token_recognised_s, TOKEN_TRUST_S)
    young_record_s = YOUNG_RECORD_S
    if measured is not None and measured.update_lag_s is not None:
        young_record_s = max(YOUNG_MARGIN * measured.update_lag_s, YOUNG_MIN_S)
    return Timing(settle_s, token_trust_s, young_record_s)


# ---------------------------------------------------------------------------------------------- the file


def measured_of(settings: SourceSettings) -> Measured | None:
    """What was measured where the source's memory is; None if nothing was, or if the file cannot be read."""
    try:
        measured = read_measured(settings.state_folder / MEASURED_FILE)
    except (OSError, ValueError):
        return None
    return measured if measured is not None and holds_for(measured, settings) else None


def holds_for(measured: Measured, settings: SourceSettings) -> bool:
    """Whether the source's memory is reached as the one was that was measured."""
    return (measured.region, measured.endpoint_url) == (region_of(settings), endpoint_of(settings))


def region_of(settings: SourceSettings) -> str | None:
    """The region as far as the settings or a variable name it; None: the profile does."""
    variables = ("AWS_REGION", "AWS_DEFAULT_REGION")
    return settings.destination.region or next(filter(None, map(os.environ.get, variables)), None)


def endpoint_of(settings: SourceSettings) -> str | None:
    """Where the memory is reached, as far as the settings or a variable name it; None: where AWS has it, or a profile.

    A variable often leads to a memory on this machine, which tells nothing of AWS.
    """
    variables: tuple[str, ...] = ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "AWS_ENDPOINT_URL")
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        variables = ()
    return settings.destination.endpoint_url or next(filter(None, map(os.environ.get, variables)), None)


def read_measured(file: Path) -> Measured | None:
    """What the file holds; None if there is none.

    Raises:
        OSError, ValueError: it cannot be read, or is not what this version writes.
    """
    try:
        content: Any = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise ValueError(f"it is not of the schema {SCHEMA}")
    if content.keys() != {field.name for field in fields(Measured)}:
        raise ValueError("it has other members than this version writes")
    lost = content.pop("metadata_lost")
    for name, value in content.items():
        if name.endswith("_s") and not (value is None or (isinstance(value, int | float) and 0 <= value < 1e9)):
            raise ValueError(f"{name} is no number of seconds")
    return Measured(**content, metadata_lost=None if lost is None else tuple(lost))


def write_measured(folder: Path, measured: Measured) -> Path:
    """Keep it in the state folder, in one step; readable by its owner only.

    Raises:
        OSError: it cannot be written.
    """
    make_folder(folder)
    file = folder / MEASURED_FILE
    written = file.with_name(f"{file.name}.new")
    written.unlink(missing_ok=True)
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump({"schema": SCHEMA, **asdict(measured)}, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    written.replace(file)
    sync_folder(folder)
    return file
