"""The settings of a source: one YAML file, with the environment above it.

`load_sources` is the way in. It finds every fault before anything is sent, and tells its place in the file.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from connectors import ConnectorType, connector_types
from pipeline.configuration.faults import (
    SECTION_SEPARATOR,
    VARIABLE_PREFIX,
    did_you_mean,
    fault,
    faults_of,
    shown,
    unknown_key,
)
from pipeline.configuration.setting_references import References, as_compared
from pipeline.configuration.source_files import EXTENDS, SourceFile, merged, read_source_file, with_extended
from pipeline.configuration.yaml_source import parse_yaml
from pipeline.errors import ConfigurationError
from pipeline.hosts import is_loopback
from pipeline.parsing.settings import ParsingSettings
from pipeline.templates import render, template_fields

RECIPE_VERSION = 1  # raise it when the same settings begin to make other records of a document

STATE_FOLDER = ".memsync"
DEAD_LETTERS_FILE = "dead-letters.jsonl"
REPORTS_FOLDER = "runs"

LOCAL = "local"
WORKER_PROCESSES_MAX = 32
REQUESTS_PER_SECOND_MAX = 10_000.0
LOCAL_MEMORY_ID = "local-0000000000"
LOCAL_REGION = "us-east-1"

# botocore bedrock-agentcore, shapes MemoryId, MemoryStrategyId, MetadataKey, StringValueList, Namespace and
# MemoryRecordMetadataMap; a test compares them with the installed model.
MEMORY_ID_PATTERN = (
    r"(arn:(aws|aws-cn|aws-us-gov):bedrock-agentcore:[a-z0-9-]+:[0-9]{12}:memory/)?"
    r"[a-zA-Z][a-zA-Z0-9-_]{0,99}-[a-zA-Z0-9]{10}"
)
STRATEGY_ID_PATTERN = r"[a-zA-Z0-9][a-zA-Z0-9-_]*"
STRATEGY_ID_CHARACTERS_MAX = 100
METADATA_KEY_PATTERN = r"[a-zA-Z0-9\s._:/=+@-]*"
METADATA_KEY_CHARACTERS_MAX = 128
METADATA_LIST_MAX = 5
NAMESPACE_CHARACTERS_MAX = 1024
RECORD_EXPIRY_DAYS_MIN = 31  # shape RecordExpiryDurationDays, which has no maximum
RECORD_EXPIRY_DAYS_MAX = 36_500  # a hundred years: far more is a slip
METADATA_KEYS_MAX = 13  # the service's 20, less those that memsync adds and a few that it may yet need
METADATA_PREFIXES_RESERVED = ("memsync-", "x-amz-agentcore-memory-")

NAMESPACE_FIELDS = ("source", "id", "folder", "name", "stem", "title", "metadata.KEY")
METADATA_FIELDS = (*NAMESPACE_FIELDS, "uri", "modified_at")


# ------------------------------------------------------------------------------------------------- checks


def _matching(pattern: str, characters_max: int, meaning: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text) or not 1 <= len(text) <= characters_max:
            raise ValueError(f"should be {meaning}")
        return text

    return AfterValidator(check)


def _check_fields(template: str, known: Sequence[str]) -> None:
    for field in sorted(template_fields(template)):
        if field not in known and not field.startswith("metadata."):
            raise ValueError(f"there is no field {f'{{{field}}}'!r}; {did_you_mean(field, known)}")


def _check_namespace(template: str) -> str:
    _check_fields(template, NAMESPACE_FIELDS)
    literal = render(template, {})
    if not (template.startswith("/") and template.endswith("/")):
        raise ValueError("should begin and end with `/`")
    if not re.fullmatch(r"[a-zA-Z0-9/_-]*", literal):
        raise ValueError("should have only letters, digits, `/`, `_` and `-` around its fields")
    if len(literal) > NAMESPACE_CHARACTERS_MAX:
        raise ValueError(f"should have at most {NAMESPACE_CHARACTERS_MAX} characters")
    return template


def _check_metadata_key(key: str) -> str:
    if not re.fullmatch(METADATA_KEY_PATTERN, key, re.ASCII) or not 1 <= len(key) <= METADATA_KEY_CHARACTERS_MAX:
        raise ValueError(f"should be 1 to {METADATA_KEY_CHARACTERS_MAX} letters, digits, spaces or any of `._:/=+@-`")
    if key.startswith(METADATA_PREFIXES_RESERVED):
        raise ValueError(f"should not begin with `{'` or `'.join(METADATA_PREFIXES_RESERVED)}`, which are reserved")
    return key


MetadataSetting = str | int | float | bool | tuple[str, ...]


def _check_metadata_value(value: object) -> MetadataSetting:
    """A plain check in place of a union, which would tell of one fault once for each of its members."""
    if isinstance(value, str) and value:
        _check_fields(value, METADATA_FIELDS)
        return value
    if isinstance(value, int | float) and abs(value) < float("inf"):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
        if 1 <= len(value) <= METADATA_LIST_MAX:
            return tuple(value)
        raise ValueError(f"should have 1 to {METADATA_LIST_MAX} items")
    raise ValueError("should be text that is not empty, a finite number, true, false, or a list of such texts")


def _check_endpoint_url(url: str, info: ValidationInfo) -> str:
    if url == LOCAL:
        return url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment or not url.isprintable():
        raise ValueError(f"should be `{LOCAL}` or a URL such as `https://HOST` or `http://localhost:8000`")
    if "@" in parts.netloc:
        raise ValueError("should hold no user or password; credentials come the usual AWS way")
    if parts.scheme == "http" and not is_loopback(host) and not info.data.get("allow_http"):
        raise ValueError("should begin with `https://`; `allow_http: true` permits sending documents unencrypted")
    return url


def _check_collector_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment or not url.isprintable():
        raise ValueError("should be a URL such as `http://localhost:4318`")
    if "@" in parts.netloc:
        raise ValueError("should hold no user or password; OTEL_EXPORTER_OTLP_HEADERS is for that")
    return url


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("should not begin with `~`: that home folder cannot be found") from error


def _check_prometheus_file(path: Path) -> Path:
    if path.suffix != ".prom":
        raise ValueError("should end with `.prom`, as all that node_exporter reads")
    return path


def _check_schedule(schedule: str) -> str:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - few sources have a schedule

    form = "should be five fields: minute, hour, day of the month, month, day of the week, such as `*/30 * * * *`"
    if len(schedule.split()) != 5:  # a sixth would count seconds
        raise ValueError(form)
    try:
        CronSim(schedule, datetime(2000, 1, 1))  # noqa: DTZ001 - only to be read
    except CronSimError as error:
        raise ValueError(f"{form} ({str(error).lower()})") from error
    return schedule


def _check_zone(zone: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - few sources have a schedule

    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("should be the name of a time zone, such as `Europe/Berlin` or `UTC`") from error
    return zone


def _told(pattern: str, **more: Any) -> WithJsonSchema:
    """What a JSON Schema says of a text that we check ourselves."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$", **more})


_SOURCE_NAME = r"[a-zA-Z0-9][a-zA-Z0-9._-]*"
_REGION = r"[a-z0-9]+(-[a-z0-9]+)+"
_WORD = {"type": "string", "minLength": 1}
_WORDS = {"type": "array", "items": _WORD, "minItems": 1, "maxItems": METADATA_LIST_MAX}

_told_metadata_value = WithJsonSchema({"anyOf": [_WORD, {"type": "number"}, {"type": "boolean"}, _WORDS]})

SourceName = Annotated[
    str,
    _matching(_SOURCE_NAME, 64, "1 to 64 of `a-zA-Z0-9._-`, beginning with a letter or a digit"),
    _told(_SOURCE_NAME, maxLength=64),
]
MemoryId = Annotated[
    str,
    _matching(
        MEMORY_ID_PATTERN,
        2048,
        "a memory's id, such as `handbook-a1B2c3D4e5` (ten characters end it), or its ARN",
    ),
    _told(MEMORY_ID_PATTERN),
]
StrategyId = Annotated[
    str,
    _matching(STRATEGY_ID_PATTERN, STRATEGY_ID_CHARACTERS_MAX, "1 to 100 of `a-zA-Z0-9_-`, not beginning with `-`"),
    _told(STRATEGY_ID_PATTERN, maxLength=STRATEGY_ID_CHARACTERS_MAX),
]
Region = Annotated[str, _matching(_REGION, 32, "a region such as `us-east-1`"), _told(_REGION, maxLength=32)]
Namespace = Annotated[str, AfterValidator(_check_namespace), _told("/(.*/)?")]
MetadataKey = Annotated[
    str,
    AfterValidator(_check_metadata_key),
    _told(rf"(?!{'|'.join(METADATA_PREFIXES_RESERVED)}){METADATA_KEY_PATTERN}", minLength=1, maxLength=128),
]
MetadataValue = Annotated[MetadataSetting, BeforeValidator(_check_metadata_value), _told_metadata_value]
CollectorUrl = Annotated[str, AfterValidator(_check_collector_url), _told("https?://.+")]
EndpointUrl = Annotated[str, AfterValidator(_check_endpoint_url), _told(rf"{LOCAL}|https?://.+")]
Schedule = Annotated[str, AfterValidator(_check_schedule), _told(r"\s*\S+(\s+\S+){4}\s*")]
Zone = Annotated[str, AfterValidator(_check_zone)]
HomePath = Annotated[Path, AfterValidator(_expand_home)]
PrometheusFile = Annotated[HomePath, AfterValidator(_check_prometheus_file)]


# ----------------------------------------------------------------------------------------------- sections


class Section(BaseModel):
    """A mapping in the YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_switch_for_number(cls, value: object, info: ValidationInfo) -> object:
        # To Python `true` is 1: `max_fraction: true` would switch the deletion guard off.
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise ValueError("should be a number")
        return value


class ChunkingSettings(Section):
    """How a document is cut into chunks; each chunk becomes a record."""

    max_chars: int = Field(default=4000, ge=200, le=16_000, description="Most characters of a chunk, 200 to 16000.")
    overlap_chars: int = Field(
        default=0,
        ge=0,
        description="Characters at the end of a chunk that the next one repeats; below half of max_chars.",
    )
    heading_path: bool = Field(default=True, description="Put the headings that a chunk stands under before its text.")

    @field_validator("overlap_chars")
    @classmethod
    def _check_overlap(cls, overlap_chars: int, info: ValidationInfo) -> int:
        if overlap_chars > 0 and 2 * overlap_chars >= info.data.get("max_chars", float("inf")):
            raise ValueError("should be less than half of `max_chars`")
        return overlap_chars


class RecordSettings(Section):
    """What a record of this source looks like."""

    namespace: Namespace = Field(
        default="/docs/{source}/",
        description=(
            "Where in the memory records stand: a template over {source} {id} {folder} {name} {stem} {title} "
            "and {metadata.KEY}, which is what the document says of itself. Begins and ends with a slash."
        ),
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default={},
        max_length=METADATA_KEYS_MAX,
        description=(
            "Metadata of every record, to filter searches by; at most 13 keys. Texts are templates over the "
            "same fields, {uri} and {modified_at}; numbers, true, false and lists of up to 5 texts are taken "
            "as they are."
        ),
    )
    strategy_id: StrategyId | None = Field(
        default=None,
        description=(
            "The memory strategy that records belong to; null: none. A strategy drops metadata that its schema "
            "does not name, and may merge or delete records."
        ),
    )
    expiry_days: int | None = Field(
        default=None,
        ge=RECORD_EXPIRY_DAYS_MIN,
        le=RECORD_EXPIRY_DAYS_MAX,
        description=(
            "Days after which the memory forgets a record that no run has renewed, 31 or more; null: never. Runs "
            "renew what is still there when a third to two thirds of that time have passed."
        ),
    )


def _tell_when_memory_id_is_needed(schema: dict[str, Any]) -> None:
    schema["required"].remove("memory_id")
    schema["if"] = {"properties": {"endpoint_url": {"const": LOCAL}}, "required": ["endpoint_url"]}
    schema["else"] = {"required": ["memory_id"]}


class AgentCoreSettings(Section):
    """A memory in Amazon Bedrock AgentCore, or the local one."""

    model_config = ConfigDict(json_schema_extra=_tell_when_memory_id_is_needed)

    type: Literal["agentcore"] = Field(default="agentcore", description="The kind of memory.")
    memory_id: MemoryId = Field(description="Id or ARN of the memory. The local memory needs none.")
    region: Region | None = Field(
        default=None, description="Its AWS region; null: the usual AWS way (AWS_REGION, the profile's own)."
    )
    allow_http: bool = Field(default=False, description="Permit an endpoint_url without encryption on another machine.")
    endpoint_url: EndpointUrl | None = Field(
        default=None,
        description="null: AWS; local: a memory in a file on this machine; or the URL of a server like AgentCore.",
    )
    profile: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Profile of the AWS configuration; null: the usual AWS way."
    )
    read_timeout_s: float = Field(
        default=60.0,
        gt=0,
        le=900,
        description="Seconds to wait for an answer before a request counts as lost, up to 900.",
    )
    connect_timeout_s: float = Field(
        default=10.0, gt=0, le=900, description="Seconds to wait for a connection, up to 900."
    )
    token_trust_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="Seconds for which the memory surely recognises a request that it has seen, up to 86400; null: what"
        " `memsync doctor --probe` measured, or 600. What an interrupted run sent before that is looked up before it is"
        " sent again.",
    )
    settle_s: float | None = Field(
        default=None,
        ge=0,
        le=3_600,
        description="Seconds by which the memory's listings may lag behind what was written, up to 3600; null: what"
        " follows from what `memsync doctor --probe` measured, or 90, and 0 for a memory on this machine.",
    )

    @property
    def is_on_this_machine(self) -> bool:
        return self.endpoint_url == LOCAL or is_loopback(urlsplit(self.endpoint_url or "").hostname)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_for_local_memory(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("endpoint_url") == LOCAL:
            given = {name: value for name, value in values.items() if value is not None}
            return {"memory_id": LOCAL_MEMORY_ID, "region": LOCAL_REGION, **given}
        return values


class WorkerSettings(Section):
    """Who reads documents and cuts them."""

    processes: int | None = Field(
        default=None,
        ge=0,
        le=WORKER_PROCESSES_MAX,
        description=(
            "Processes that do so beside the one that sends, up to 32, of some 30 MB each; a short run starts none. "
            "0: a thread does it; null: one fewer than there are processors, at most 4."
        ),
    )


class WriterSettings(Section):
    """How batches are sent."""

    concurrency: int = Field(default=16, ge=1, le=256, description="Requests at a time, 1 to 256.")
    requests_per_second: float | None = Field(
        default=None,
        gt=0,
        le=REQUESTS_PER_SECOND_MAX,
        description=(
            "Most requests a second of each kind (create, update, delete, list, get); null: what AWS Service "
            "Quotas says, or, where it may not be asked, as many as the memory takes."
        ),
    )
    linger_s: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="Seconds that a batch which is not full waits for more records, up to 60.",
    )
    max_attempts: int = Field(
        default=8,
        ge=1,
        le=100,
        description="Attempts of one request before the run stops; its batches stay in the outbox.",
    )


class DeleteSettings(Section):
    """What happens to records whose document is gone."""

    enabled: bool = Field(default=True, description="Delete the records of documents that the source has no more.")
    max_fraction: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description=(
            "If a larger part of the known documents is gone at once (and more than 10), nothing is deleted "
            "and the run ends with exit code 4; `--allow-mass-delete` lets it through."
        ),
    )


class DeadLetterSettings(Section):
    """What happens to records that could not be stored."""

    path: HomePath | None = Field(
        default=None,
        description="The file to keep them in; null: dead-letters.jsonl in the source's state folder.",
    )
    max_attempts: int = Field(
        default=5, ge=1, le=100, description="Failures of one record before it becomes a dead letter."
    )
    auto_replay: bool = Field(
        default=True,
        description="Let runs send a dead letter again by themselves, if its reason may pass: the memory was too busy,"
        " or failed.",
    )
    quarantine_after: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Replays of one dead letter in vain before no run sends it by itself any more.",
    )
    backoff_s: float = Field(
        default=900.0,
        ge=0,
        le=604_800,
        description="Seconds from a failure to the first replay by a run, up to 604800; each further one waits twice as"
        " long.",
    )
    backoff_max_s: float = Field(
        default=86_400.0, ge=0, le=2_592_000, description="Seconds that a replay by a run waits at most, up to 2592000."
    )


class TelemetrySettings(Section):
    """What others can see of runs."""

    otlp_endpoint: CollectorUrl | None = Field(
        default=None,
        description=(
            "Where traces and metrics go, by OTLP over HTTP, such as http://localhost:4318; null: where"
            " OTEL_EXPORTER_OTLP_ENDPOINT says, and without that nowhere."
        ),
    )
    prometheus_file: PrometheusFile | None = Field(
        default=None,
        description=(
            "A file to write metrics to after each run, for the textfile collector of node_exporter; {source} in it is"
            " the source's name. null: none."
        ),
    )
    document_ids: bool = Field(
        default=False,
        description=(
            "Name documents that became dead letters in traces, and repeat error messages, which may name some."
        ),
    )
    still_running_s: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="Seconds between two log lines that say how far a run is and what it waits for; 0: none.",
    )
    stalled_after_s: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds in which nothing of a run moves before a log line warns of it; the run goes on. 0: none.",
    )


class NotifySettings(Section):
    """Who is told how runs end."""

    urls_variable: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")] | None = Field(
        default=None,
        description=(
            "The name of the environment variable that holds where notices go: addresses of Apprise, with spaces"
            " between them; null: nobody is told."
        ),
    )
    on: tuple[Literal["failed", "guarded", "dead_letters", "recovered"], ...] = Field(
        default=("failed", "guarded", "dead_letters", "recovered"),
        description="What is told, when it begins: failed, guarded, dead_letters, recovered.",
    )
    remind_every_h: float = Field(
        default=24.0, ge=0, le=8_760, description="Hours after which it is told once more while it lasts; 0: never."
    )
    timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="Seconds that sending may take, up to 60; the run's result stands anyway.",
    )


class StateSettings(Section):
    """Where the ledger and the outbox are."""

    path: HomePath | None = Field(
        default=None,
        description="The folder to keep them in, with one for each source; null: .memsync/ beside this file.",
    )


class ReportSettings(Section):
    """What each run leaves for people to look at: `memsync report`."""

    enabled: bool = Field(default=True, description="Keep a report of each run.")
    page: bool = Field(
        default=True,
        description=(
            "Write the page of each run that changed something, or that a person should look at. `memsync report` "
            "makes that of any run."
        ),
    )
    keep: int = Field(default=50, ge=1, le=10_000, description="Reports to keep, 1 to 10000; older ones are removed.")
    path: HomePath | None = Field(
        default=None,
        description="The folder to keep them in, with one for each source; null: runs/ in the source's state folder.",
    )


class ConnectorSettings(BaseModel):
    """What the settings of all connectors have in common."""

    type: str


class ReferringSettings(ConnectorSettings):
    """The settings of a connector as they are written, with references in them.

    What these stand for is looked up when the source is opened, and stays there: `resolving` does so.
    """

    model_config = ConfigDict(frozen=True)

    written: dict[str, Any]
    _file: SourceFile = PrivateAttr()
    _from_environment: dict[str, Any] = PrivateAttr(default={})

    @classmethod
    def of(cls, written: dict[str, Any], file: SourceFile, from_environment: dict[str, Any]) -> Self:
        settings = cls(type=written["type"], written=written)
        settings._file, settings._from_environment = file, from_environment
        return settings

    @property
    def file(self) -> SourceFile:
        """Where they are written."""
        return self._file

    @property
    def from_environment(self) -> dict[str, Any]:
        """What the environment has put above that, of all settings."""
        return self._from_environment


class SourceSettings(BaseSettings):
    """All settings of one source. Paths in them are relative to the YAML file's folder."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=VARIABLE_PREFIX,
        env_nested_delimiter=SECTION_SEPARATOR,
        env_ignore_empty=True,
        env_parse_none_str="null",
    )

    name: SourceName = Field(
        description=(
            "The source's identity: under another name all records are created anew. "
            "Left out, it is the name of this file."
        )
    )
    source: ConnectorSettings = Field(description="Where documents come from; `type` names the connector.")
    parsing: ParsingSettings = Field(
        default=ParsingSettings.model_validate({}), description="How documents become text."
    )
    chunking: ChunkingSettings = Field(
        default=ChunkingSettings(), description="How a document is cut into chunks; each becomes a record."
    )
    record: RecordSettings = Field(default=RecordSettings(), description="What a record of this source looks like.")
    destination: AgentCoreSettings = Field(description="The memory that records go to.")
    workers: WorkerSettings = Field(default=WorkerSettings(), description="Who reads documents and cuts them.")
    writers: WriterSettings = Field(default=WriterSettings(), description="How batches are sent.")
    deletes: DeleteSettings = Field(
        default=DeleteSettings(), description="What happens to records whose document is gone."
    )
    dead_letters: DeadLetterSettings = Field(
        default=DeadLetterSettings(), description="What happens to records that could not be stored."
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When it is due, as five cron fields. `memsync schedule` starts its runs, `memsync deploy` has"
        " others start them, `status` shows when.",
    )
    schedule_zone: Zone | None = Field(
        default=None, description="The time zone of the schedule, such as Europe/Berlin; null: that of the machine."
    )
    schedule_jitter_s: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="Up to so many seconds after the time of the schedule a run begins, always as many for one source:"
        " many sources do not all begin at once. 0: on the dot.",
    )
    schedule_catch_up: bool = Field(
        default=True,
        description="Run once, as soon as it can be, if a time of the schedule went by while nobody could start it.",
    )
    telemetry: TelemetrySettings = Field(default=TelemetrySettings(), description="What others can see of runs.")
    notify: NotifySettings = Field(default=NotifySettings(), description="Who is told how runs end.")
    state: StateSettings = Field(default=StateSettings(), description="Where the ledger and the outbox are.")
    reports: ReportSettings = Field(
        default=ReportSettings(), description="What each run leaves for people to look at: `memsync report`."
    )

    _file: Path = PrivateAttr(default=Path("memsync.yaml"))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the constructor is called with, in which the environment stands above the files already."""
        return (init_settings,)

    def read_from(self, file: Path) -> Self:
        """These settings, as those of `file`."""
        # Symbolic links stay unresolved: Kubernetes links a mounted file to a folder whose name changes with
        # every version of it, and the state beside the file must not move.
        self._file = file.absolute()
        return self

    @property
    def file(self) -> Path:
        """The YAML file."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder that paths in the settings are relative to."""
        return self._file.parent

    @property
    def state_folder(self) -> Path:
        """The folder of this source's ledger and outbox; sources that share a state path do not share it."""
        return self.folder / (self.state.path or STATE_FOLDER) / self.name

    @property
    def prometheus_path(self) -> Path | None:
        """The file of this source's metrics; None if there is to be none."""
        file = self.telemetry.prometheus_file
        return None if file is None else self.folder / str(file).replace("{source}", self.name)

    @property
    def dead_letters_path(self) -> Path:
        """The file of this source's dead letters."""
        return self.folder / (self.dead_letters.path or self.state_folder / DEAD_LETTERS_FILE)

    @property
    def reports_folder(self) -> Path:
        """The folder of this source's reports."""
        return self.folder / self.reports.path / self.name if self.reports.path else self.state_folder / REPORTS_FOLDER


def recipe(settings: SourceSettings) -> str:
    """A digest of all settings that decide what records a document becomes, and of none else."""
    deciding = settings.model_dump(
        mode="json",
        include={"name", "parsing", "chunking", "record"},
        # Limits decide whether a document is read, not what it says; the ledger knows the expiry of each record.
        exclude={"parsing": {"limits"}, "record": {"expiry_days"}},
    )
    if deciding["parsing"]["xml"] == "source":  # as it was before there was a choice: nothing is to be read anew for it
        del deciding["parsing"]["xml"]
    content = json.dumps([RECIPE_VERSION, deciding], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def listing_basis(settings: SourceSettings) -> str:
    """A digest of all settings that decide which documents there are and what becomes of them.

    Also of whether any may be deleted: what was passed over without that has to be listed again. Of a reference, what
    it stands for decides, unless that may be a secret: with another password, the documents are the same.
    """
    source = settings.source
    said = as_compared(source.written) if isinstance(source, ReferringSettings) else source.model_dump(mode="json")
    deciding = [recipe(settings), said, settings.deletes.enabled]
    if settings.record.expiry_days is not None:  # else it is as it was before there was a choice
        deciding.append(settings.record.expiry_days)
    content = json.dumps(deciding, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ loading


class LoadedSource(NamedTuple):
    """The settings of a source, and where they come from: its files, and what the environment has put above them."""

    settings: SourceSettings
    file: SourceFile
    from_environment: Mapping[str, Any]


class CheckedSources(NamedTuple):
    """What became of some paths: the sources that can be used, and what is wrong with the others."""

    sources: Sequence[LoadedSource]
    faults: Sequence[ConfigurationError]


def load_sources(paths: Sequence[Path]) -> list[SourceSettings]:
    """The sources that `paths` describe, each a YAML file or a folder of them, in the order given.

    Raises:
        ConfigurationError: with all faults of all files in its message, one a line.
    """
    return [source.settings for source in load_with_origins(paths)]


def load_with_origins(paths: Sequence[Path]) -> Sequence[LoadedSource]:
    """The same, with where each setting comes from.

    Raises:
        ConfigurationError: as for `load_sources`.
    """
    sources, faults = check_sources(paths)
    _raise_all(faults)
    return sources


def check_sources(paths: Sequence[Path]) -> CheckedSources:
    """The sources that `paths` describe, and all faults of all files."""
    try:
        _check_variables()
        from_environment = _environment(SourceSettings)
        files = source_files(paths)
    except ConfigurationError as error:
        return CheckedSources([], [error])
    faults: list[ConfigurationError] = []
    file_by_name: dict[str, Path] = {}
    sources = []
    for path in files:
        try:
            file = read_source_file(path)
            settings = _settings_of(file, from_environment)
        except ConfigurationError as error:
            faults.append(error)
            continue
        if isinstance(settings, list):
            faults += settings
            continue
        if settings.name in file_by_name:
            problem = f"the name {settings.name!r} is taken already, by {file_by_name[settings.name]}"
            faults.append(fault(problem, ("name",), file, {}))
        file_by_name.setdefault(settings.name, path)
        sources.append(LoadedSource(settings, file, _environment(model_of(settings))))
    extended = {os.path.realpath(part.path) for source in sources for part in source.file.documents[1:]}
    hinted = [_with_hint(each) if each.path and os.path.realpath(each.path) in extended else each for each in faults]
    # Several files may extend the one in which a fault lies.
    return CheckedSources(sources, list({str(each): each for each in hinted}.values()))


def _with_hint(error: ConfigurationError) -> ConfigurationError:
    """`error`, of a file that another one extends, with the reason if it is taken for a source and is none."""
    if not error.problem.endswith(" is missing"):
        return error
    hint = "if others only extend this file, let its name begin with `_`"
    return ConfigurationError(f"{error.problem}; {hint}", path=error.path, line=error.line, column=error.column)


def source_from(text: str, file: Path) -> SourceSettings:
    """The source that `file` describes, or would if it held `text`.

    Raises:
        ConfigurationError: as for `load_sources`.
    """
    _check_variables()
    settings = _settings_of(with_extended(parse_yaml(text.encode(), file)), _environment(SourceSettings))
    if isinstance(settings, SourceSettings):
        return settings
    raise _as_one(settings)


def source_files(paths: Iterable[Path]) -> list[Path]:
    """The YAML files at `paths`, each once.

    Raises:
        ConfigurationError: a folder cannot be read, or holds none.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        found = _files_in(path) if os.path.isdir(path) else [path]  # noqa: PTH112 - Path.is_dir may raise
        for file in found:
            # Two links to one file are two sources: what is beside them, and so their state, may differ.
            identity = Path(os.path.realpath(file.parent), file.name)
            files.setdefault(identity, file)
    return list(files.values())


def _files_in(folder: Path) -> list[Path]:
    """The sources in `folder`: a file whose name begins with `_` is there for others to extend."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
        files = [path for path in found if not path.name.startswith((".", "_")) and not path.is_dir()]
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", path=str(folder)) from error
    if not files:
        hint = "; those that begin with `_` are for others to extend" if found else ""
        raise ConfigurationError(f"the folder holds no .yaml or .yml file{hint}", path=str(folder))
    return files


def _settings_of(file: SourceFile, from_environment: Mapping[str, Any]) -> SourceSettings | list[ConfigurationError]:
    """The settings that `file` and the environment make together, or what is wrong with them.

    Raises:
        ConfigurationError: a variable cannot be read at all.
    """
    model: type[SourceSettings] = SourceSettings
    faults = []
    type_name = {**_mapping(file.values, "source"), **_mapping(from_environment, "source")}.get("type")
    if isinstance(type_name, str) and type_name in _connector_types():
        model = _model_for(type_name)
    elif isinstance(type_name, str):
        problem = f"`source.type` is {shown(type_name)}; {did_you_mean(type_name, _connector_types())}"
        faults.append(fault(problem, ("source", "type"), file, from_environment))
    values: dict[str, Any] = {}
    for key, value in file.values.items():
        if key in model.model_fields:
            values[key] = value
        else:
            # The constructor has arguments of its own: `_env_file` would name another file to read.
            problem = unknown_key((key,), [*model.model_fields, EXTENDS])
            faults.append(fault(problem, (key,), file, {}, of_key=True))
    from_environment = _environment(model)
    values = merged(values, from_environment)
    references = References(values, file, from_environment)
    faults += references.faults
    filled = {"name": file.path.stem, **references.filled(values)}
    settings: SourceSettings | None = None
    try:
        with references.plain_parts():
            settings = model(**filled)
    except ValidationError as error:
        faults += faults_of(error, file, from_environment, model, references.stand)
    if faults:
        return sorted(faults, key=lambda found: (found.path != str(file.path), found.line or 0, found.column or 0))
    if references.is_in_source:
        referring = ReferringSettings.of(values["source"], file, from_environment)
        settings = SourceSettings(**{**filled, "source": referring})
    assert settings is not None
    return settings.read_from(file.path)


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


@functools.cache
def _connector_types() -> Mapping[str, ConnectorType]:
    return connector_types()


@functools.cache
def _model_for(connector_type: str) -> type[SourceSettings]:
    """The settings of a source of `connector_type`; only now is the connector imported."""
    source = _connector_types()[connector_type].settings_model, SourceSettings.model_fields["source"]
    return create_model(SourceSettings.__name__, __base__=SourceSettings, source=source)


def model_of(settings: SourceSettings) -> type[SourceSettings]:
    """The model that `settings` were checked by, with the connector's own."""
    return _model_for(settings.source.type)


def _check_variables() -> None:
    """Refuse variables of sections that do not exist; the sections refuse keys that do not."""
    sections = [name.upper() for name in SourceSettings.model_fields]
    for variable in sorted(os.environ):
        if not variable.upper().startswith(VARIABLE_PREFIX):
            continue
        section, is_nested, _ = variable.upper().removeprefix(VARIABLE_PREFIX).partition(SECTION_SEPARATOR)
        # One without sections may be meant for something else, such as the command line.
        if is_nested and section not in sections:
            raise ConfigurationError(
                f"unknown section `{section}`; {did_you_mean(section, sections)}", variable=variable
            )


def _environment(model: type[SourceSettings]) -> dict[str, Any]:
    """What the environment sets of `model`, as a tree like the file's."""
    try:
        return EnvSettingsSource(model)()
    except SettingsError as error:
        raise _not_json(error) from error


def _not_json(error: SettingsError) -> ConfigurationError:
    text = getattr(error.__cause__, "doc", None)  # pydantic-settings does not tell the variable's name
    names = [name for name, value in os.environ.items() if name.upper().startswith(VARIABLE_PREFIX) and value == text]
    return ConfigurationError(
        'a list or a mapping is written as JSON there, such as ["**/*.md"] or {"team": "support"}',
        variable=" or ".join(names) or f"{VARIABLE_PREFIX}…",
    )


def _raise_all(faults: Sequence[ConfigurationError]) -> None:
    if faults:
        raise _as_one(faults)


def _as_one(faults: Sequence[ConfigurationError]) -> ConfigurationError:
    """`faults` as one error; of several, the places stand in the message's lines."""
    return faults[0] if len(faults) == 1 else ConfigurationError("\n".join(dict.fromkeys(map(str, faults))))
