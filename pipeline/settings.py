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
from typing import Annotated, Any, Literal, Self
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
from pipeline.errors import ConfigurationError
from pipeline.hosts import is_loopback
from pipeline.parsing.settings import ParsingSettings
from pipeline.setting_faults import (
    SECTION_SEPARATOR,
    VARIABLE_PREFIX,
    did_you_mean,
    fault,
    faults_of,
    shown,
    unknown_key,
)
from pipeline.templates import render, template_fields
from pipeline.yaml_source import YamlDocument, read_yaml

RECIPE_VERSION = 1  # raise it when the same settings begin to make other records of a document

STATE_FOLDER = ".memsync"
DEAD_LETTERS_FILE = "dead-letters.jsonl"

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


def _expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("should not begin with `~`: that home folder cannot be found") from error


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


SourceName = Annotated[
    str,
    _matching(r"[a-zA-Z0-9][a-zA-Z0-9._-]*", 64, "1 to 64 of `a-zA-Z0-9._-`, beginning with a letter or a digit"),
]
MemoryId = Annotated[
    str,
    _matching(
        MEMORY_ID_PATTERN,
        2048,
        "a memory's id, such as `handbook-a1B2c3D4e5` (ten characters end it), or its ARN",
    ),
]
StrategyId = Annotated[
    str,
    _matching(STRATEGY_ID_PATTERN, STRATEGY_ID_CHARACTERS_MAX, "1 to 100 of `a-zA-Z0-9_-`, not beginning with `-`"),
]
Region = Annotated[str, _matching(r"[a-z0-9]+(-[a-z0-9]+)+", 32, "a region such as `us-east-1`")]
Namespace = Annotated[str, AfterValidator(_check_namespace)]
MetadataKey = Annotated[str, AfterValidator(_check_metadata_key)]
MetadataValue = Annotated[MetadataSetting, BeforeValidator(_check_metadata_value)]
EndpointUrl = Annotated[str, AfterValidator(_check_endpoint_url)]
Schedule = Annotated[str, AfterValidator(_check_schedule)]
HomePath = Annotated[Path, AfterValidator(_expand_home)]


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


class AgentCoreSettings(Section):
    """A memory in Amazon Bedrock AgentCore, or the local one."""

    type: Literal["agentcore"] = Field(default="agentcore", description="The kind of memory.")
    memory_id: MemoryId = Field(description="Id or ARN of the memory. The local memory needs none.")
    region: Region | None = Field(
        default=None, description="Its AWS region; null: the usual AWS way (AWS_REGION, the profile's own)."
    )
    allow_http: bool = Field(default=False, description="Permit an endpoint_url without encryption on another machine.")
    endpoint_url: EndpointUrl | None = Field(
        default=None,
        description="null: AWS; local: the embedded local memory; or the URL of a server like AgentCore.",
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
    token_trust_s: float = Field(
        default=600.0,
        ge=0,
        le=86_400,
        description="Seconds for which the memory surely recognises a request that it has seen, up to 86400. What an"
        " interrupted run sent before that is looked up before it is sent again.",
    )
    settle_s: float | None = Field(
        default=None,
        ge=0,
        le=3_600,
        description="Seconds by which the memory's listings may lag behind what was written, up to 3600; null: 90, and"
        " 0 for a memory on this machine.",
    )

    @property
    def listing_lag_s(self) -> float:
        """`settle_s`, or what it is where nothing was said."""
        if self.settle_s is not None:
            return self.settle_s
        return 0.0 if self.is_on_this_machine else 90.0

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


class StateSettings(Section):
    """Where the ledger and the outbox are."""

    path: HomePath | None = Field(
        default=None,
        description="The folder to keep them in, with one for each source; null: .memsync/ beside this file.",
    )


class ConnectorSettings(BaseModel):
    """What the settings of all connectors have in common."""

    type: str


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
        description="When it is due, as five cron fields; `status` shows it, starting runs is up to cron or the like.",
    )
    state: StateSettings = Field(default=StateSettings(), description="Where the ledger and the outbox are.")

    _file: Path = PrivateAttr(default=Path("memsync.yaml"))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then what the YAML file says, which is what the constructor is called with."""
        return env_settings, init_settings

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
    def dead_letters_path(self) -> Path:
        """The file of this source's dead letters."""
        return self.folder / (self.dead_letters.path or self.state_folder / DEAD_LETTERS_FILE)


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

    Also of whether any may be deleted: what was passed over without that has to be listed again.
    """
    deciding = [recipe(settings), settings.source.model_dump(mode="json"), settings.deletes.enabled]
    if settings.record.expiry_days is not None:  # else it is as it was before there was a choice
        deciding.append(settings.record.expiry_days)
    content = json.dumps(deciding, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ loading


def load_sources(paths: Sequence[Path]) -> list[SourceSettings]:
    """The sources that `paths` describe, each a YAML file or a folder of them, in the order given.

    Raises:
        ConfigurationError: with all faults of all files in its message, one a line.
    """
    _check_variables()
    from_environment = _environment(SourceSettings)
    faults: list[ConfigurationError] = []
    file_by_name: dict[str, Path] = {}
    sources = []
    for file in _files(paths):
        try:
            document = read_yaml(file)
        except ConfigurationError as error:
            faults.append(error)
            continue
        settings = _settings_of(document, from_environment)
        if isinstance(settings, list):
            faults += settings
            continue
        if settings.name in file_by_name:
            problem = f"the name {settings.name!r} is taken already, by {file_by_name[settings.name]}"
            place = document.place(["name"])
            faults.append(ConfigurationError(problem, path=str(file), **place._asdict()))
        file_by_name.setdefault(settings.name, file)
        sources.append(settings)
    _raise_all(faults)
    return sources


def _files(paths: Iterable[Path]) -> list[Path]:
    """The YAML files at `paths`, each once."""
    files: dict[Path, Path] = {}
    for path in paths:
        found = _files_in(path) if os.path.isdir(path) else [path]  # noqa: PTH112 - Path.is_dir may raise
        for file in found:
            # Two links to one file are two sources: what is beside them, and so their state, may differ.
            identity = Path(os.path.realpath(file.parent), file.name)
            files.setdefault(identity, file)
    return list(files.values())


def _files_in(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
        files = [path for path in found if not path.name.startswith(".") and not path.is_dir()]
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", path=str(folder)) from error
    if not files:
        raise ConfigurationError("the folder holds no .yaml or .yml file", path=str(folder))
    return files


def _settings_of(document: YamlDocument, from_environment: dict[str, Any]) -> SourceSettings | list[ConfigurationError]:
    """The settings that `document` and the environment make together, or what is wrong with them."""
    model: type[SourceSettings] = SourceSettings
    faults = []
    type_name = {**_mapping(document.values, "source"), **_mapping(from_environment, "source")}.get("type")
    if isinstance(type_name, str) and type_name in _connector_types():
        model = _model_for(type_name)
    elif isinstance(type_name, str):
        problem = f"`source.type` is {shown(type_name)}; {did_you_mean(type_name, _connector_types())}"
        faults.append(fault(problem, ("source", "type"), document, from_environment))
    values: dict[str, Any] = {"name": document.path.stem}
    for key, value in document.values.items():
        if key in model.model_fields:
            values[key] = value
        else:
            # The constructor has arguments of its own: `_env_file` would name another file to read.
            problem = unknown_key((key,), model.model_fields)
            faults.append(fault(problem, (key,), document, {}, of_key=True))
    try:
        settings = model(**values).read_from(document.path)
    except ValidationError as error:
        faults += faults_of(error, document, _environment(model), model)
    except SettingsError as error:
        raise _not_json(error) from error
    return sorted(faults, key=lambda found: (found.line or 0, found.column or 0)) if faults else settings


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


def _check_variables() -> None:
    """Refuse variables of sections that do not exist; the sections refuse keys that do not."""
    sections = [name.upper() for name in SourceSettings.model_fields]
    for variable in sorted(os.environ):
        if not variable.upper().startswith(VARIABLE_PREFIX):
            continue
        section, is_nested, _ = variable.upper().removeprefix(VARIABLE_PREFIX).partition(SECTION_SEPARATOR)
        # One without sections may be meant for something else, such as the command line.
        if is_nested and section not in sections:
            near = did_you_mean(section, sections)
            raise ConfigurationError(f"environment variable {variable}: unknown section `{section}`; {near}")


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
        f"environment variable {' or '.join(names) or f'{VARIABLE_PREFIX}…'}: "
        'a list or a mapping is written as JSON there, such as ["**/*.md"] or {"team": "support"}'
    )


def _raise_all(faults: Sequence[ConfigurationError]) -> None:
    """Raise `faults` as one error; of several, the places stand in the message's lines."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ConfigurationError("\n".join(dict.fromkeys(map(str, faults))))
