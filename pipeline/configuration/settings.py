"""The settings of a source: what its YAML file may hold. `loading` reads them."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.configuration.faults import SECTION_SEPARATOR, VARIABLE_PREFIX
from pipeline.configuration.setting_references import as_compared
from pipeline.configuration.source_files import SourceFile
from pipeline.configuration.values import (
    LOCAL,
    METADATA_KEYS_MAX,
    RECORD_EXPIRY_DAYS_MAX,
    RECORD_EXPIRY_DAYS_MIN,
    CollectorUrl,
    EndpointUrl,
    HomePath,
    MemoryId,
    MetadataKey,
    MetadataValue,
    Namespace,
    PrometheusFile,
    Region,
    Schedule,
    SourceName,
    StrategyId,
    Zone,
)
from pipeline.hosts import is_loopback
from pipeline.parsing.settings import ParsingSettings

RECIPE_VERSION = 1  # raise it when the same settings begin to make other records of a document

STATE_FOLDER = ".memsync"
STATE_FILE = "state.sqlite3"
LOCK_FILE = "run.lock"
LOCAL_MEMORY_FILE = "local-memory.sqlite3"  # of all sources that share a folder of states
DEAD_LETTERS_FILE = "dead-letters.jsonl"
REPORTS_FOLDER = "runs"

WORKER_PROCESSES_MAX = 32
REQUESTS_PER_SECOND_MAX = 10_000.0
LOCAL_MEMORY_ID = "local-0000000000"
LOCAL_REGION = "us-east-1"


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
    diff_documents: int = Field(
        default=0,
        ge=0,
        le=100,
        description=(
            "Show how the texts of the first documents of a run have changed, of 0 to 100 of them. Its report then "
            "holds text, and each record that is replaced or deleted costs a request for the old one."
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
