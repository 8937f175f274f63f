"""What one setting may say: the types of values that need a check of their own."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from pipeline.configuration.faults import did_you_mean
from pipeline.hosts import is_loopback
from pipeline.templates import render, template_fields

LOCAL = "local"
SOURCE_NAME_CHARACTERS_MAX = 64

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
    _matching(
        _SOURCE_NAME,
        SOURCE_NAME_CHARACTERS_MAX,
        f"1 to {SOURCE_NAME_CHARACTERS_MAX} of `a-zA-Z0-9._-`, beginning with a letter or a digit",
    ),
    _told(_SOURCE_NAME, maxLength=SOURCE_NAME_CHARACTERS_MAX),
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
