"""Log lines of a process that this one started, among its own."""

import json
import logging
from typing import Any

import structlog

LEVELS = {"debug", "info", "warning", "error", "critical"}


def relay(line: str, **context: Any) -> None:
    """Log again what another process of ours has logged as `line`; what is no such line is an error of it.

    `context` goes with the latter, which does not say itself what it is about.
    """
    if not line.strip():
        return
    log = structlog.get_logger()
    fields = _fields_of(line)
    if fields is None:
        log.error("process_wrote", **context, message=line.removeprefix("memsync: "))
        return
    level, event = logging.getLevelNamesMapping()[fields.pop("level").upper()], fields.pop("event")
    fields.pop("timestamp", None)
    log.log(level, event, **fields)


def _fields_of(line: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(fields, dict) and fields.get("level") in LEVELS and isinstance(fields.get("event"), str)
    return fields if is_ours else None
