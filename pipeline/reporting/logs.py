"""Run events as log lines: for people on a terminal, one JSON object a line otherwise.

An event has a name in the past tense and fields. WARNING: nothing is lost. ERROR: someone must act. Nothing
is said of a single document above DEBUG, except for the first dead letters of each kind.
"""

import json
import logging
import math
import re
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime
from typing import Any, TextIO, cast

import structlog

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DeletesWithheld,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsListed,
    DocumentsRemoved,
    DocumentsRenamed,
    LettersDue,
    Reconciled,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    ScanProblem,
    StateIsCopy,
)
from pipeline.report import SourceReport, Status
from pipeline.reporting.text import has_color, printable

_Fields = MutableMapping[str, Any]

_VALUE_CHARACTERS_MAX = 2_000
_LOGGED_PER_KIND_MAX = 10
_MASK = "***"
_SECRET_NAME = re.compile(
    r"authorization|passw|passphrase|secret|token|api_?key|access_?key|private_?key|credential|cookie|signature"
)
_PUBLIC_NAMES = frozenset({"client_token", "clienttoken"})  # they name deliveries and open nothing
_SECRET_IN_TEXT = re.compile(
    r"(?P<before>://[^/\s:@]*:)[^/\s@]+(?=@)"
    r"|(?P<name>\bbearer\s+|\bx-amz-(?:signature|security-token|credential)=)[^\s&\"']+",
    re.IGNORECASE,
)
_LEVEL_BY_STATUS: dict[Status, int] = {
    "in_sync": logging.INFO,
    "dead_letters": logging.WARNING,
    "locked": logging.WARNING,
    "interrupted": logging.WARNING,
    "guarded": logging.ERROR,
    "failed": logging.ERROR,
}
_LEVEL_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31"}


# ------------------------------------------------------------------------------------------- where lines go


def configure_logging(stream: TextIO | None = None, *, is_terminal: bool, level: int | str = logging.INFO) -> None:
    """Send all logs of the process to `stream`; safe to call again.

    None, like `sys.stderr`, stands for whatever `sys.stderr` is at the time of each line, so that a live
    display can put lines above itself. Libraries that log through the standard library are heard from
    WARNING on and never below: at DEBUG they print bodies and headers. Python's warnings become log lines.
    """
    level_number = level if isinstance(level, int) else logging.getLevelNamesMapping()[level.upper()]
    output = _Output(None if stream is sys.stderr else stream)  # a display replaces sys.stderr while it lasts
    is_colored = is_terminal and has_color(stream or sys.stderr)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_traceback,
            make_safe,
            _ConsoleLine(is_colored) if is_terminal else _json_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level_number),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", output)),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [
        *(handler for handler in root.handlers if not isinstance(handler, _LibraryLogs)),
        _LibraryLogs(logging.WARNING),
    ]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _Output:
    """Writes to `stream`, or to standard error as it is now; a line that cannot be written stops nothing."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        stream = self._stream or sys.stderr
        encoding = stream.encoding or "utf-8"
        with suppress(OSError, ValueError):  # the reader is gone, or the stream is closed
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            (self._stream or sys.stderr).flush()


class _LibraryLogs(logging.Handler):
    """What libraries say through the standard library, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno,
                "library_complained",
                library=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:  # the standard library's own rule for handlers
            self.handleError(record)


# -------------------------------------------------------------------------------------------- what they say


def make_safe(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    """Mask what looks secret, and escape what could fake a line or drive a terminal."""
    return {printable(name): _safe(value, name) for name, value in fields.items()}


def _safe(value: Any, name: str = "") -> Any:
    if _is_secret(name):
        return _MASK
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)  # JSON has no word for the others
        case str():
            return _safe_text(value)
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"  # most bytes here are a document's
        case Mapping():
            return {printable(str(key)): _safe(member, str(key)) for key, member in value.items()}
        case Sequence() | AbstractSet():
            return [_safe(member) for member in value]
        case _:
            return _safe_text(str(value))


def _is_secret(name: str) -> bool:
    plain_name = name.lower().replace("-", "_")
    return plain_name not in _PUBLIC_NAMES and _SECRET_NAME.search(plain_name) is not None


def _safe_text(text: str) -> str:
    # Cut first: a pattern need not be searched in a text of any length.
    shown = text[:_VALUE_CHARACTERS_MAX] + ("..." if len(text) > _VALUE_CHARACTERS_MAX else "")
    return printable(_SECRET_IN_TEXT.sub(lambda found: f"{found['before'] or found['name']}{_MASK}", shown))


def _add_traceback(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    """Replace `exc_info`, in any of the forms that logging allows, by the lines of its traceback."""
    exc_info = fields.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        fields["traceback"] = "".join(traceback.format_exception(error)).splitlines()
    return fields


def _json_line(_logger: Any, _method: str, fields: _Fields) -> str:
    first = {name: fields.pop(name) for name in ("timestamp", "level", "event")}
    return json.dumps({**first, **fields})


class _ConsoleLine:
    """`12:35:33  warning  request_throttled  source=handbook  code=ThrottlingException`.

    Without the run's id: a terminal shows one run, and its lines are long enough.
    """

    def __init__(self, is_colored: bool) -> None:
        self._is_colored = is_colored

    def __call__(self, _logger: Any, _method: str, fields: _Fields) -> str:
        time = datetime.fromisoformat(fields.pop("timestamp")).astimezone().strftime("%H:%M:%S")
        level, event = fields.pop("level"), fields.pop("event")
        fields.pop("run_id", None)
        # Lines of a traceback are indented: none of them can pass for a log line.
        traceback_lines = [f"    {line}" for line in fields.pop("traceback", ())]
        parts = [
            self._paint(time, "2"),
            self._paint(f"{level:<7}", _LEVEL_COLORS.get(level, "0")),
            self._paint(event, "1"),
            *(f"{self._paint(f'{name}=', '36')}{_quoted(value)}" for name, value in fields.items()),
        ]
        return "\n".join(["  ".join(parts), *traceback_lines])

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._is_colored else text


def _quoted(value: Any) -> str:
    """A value as it stands in a line; quoted if it could be taken for the next field."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value if re.fullmatch(r"[^\s=\"]+", value) else '"' + value.replace('"', '\\"') + '"'


# ------------------------------------------------------------------------------------------- what they hear


class LogListener:
    """Logs the events of one run of one source.

    What may come by the thousand (dead letters, scopes that cannot be listed, requests that must be made again)
    is logged ten times for each code and counted after that; `close` tells the counts. Create it after
    `configure_logging`.
    """

    def __init__(self, source: str, run_id: str) -> None:
        self._log = structlog.get_logger().bind(source=source, run_id=run_id)
        self._seen_by_kind: Counter[tuple[str, str]] = Counter()
        self._skipped_by_reason: Counter[str] = Counter()

    def __call__(self, event: RunEvent) -> None:
        log = self._log
        match event:
            case RunStarted():
                log.info(
                    "run_started",
                    verb=event.verb,
                    documents_known=event.documents_known,
                    batches_in_outbox=event.batches_in_outbox,
                )
            case StateIsCopy():
                log.warning("state_is_a_copy", consequence="it is compared with the memory before anything is written")
            case Reconciled():
                log.info(
                    "ledger_reconciled",
                    checked=event.checked,
                    missing=event.missing,
                    expired=event.expired,
                    changed=event.changed,
                    foreign=event.foreign,
                    duplicate=event.duplicate,
                    unattributed=event.unattributed,
                )
            case LettersDue():
                log.info("dead_letters_due", count=event.count)
            case DocumentsListed() | DocumentsRenamed():
                self._log_listed(event)
            case ScanFinished():
                self._log_scan_end(event)
            case ScanProblem():
                self._log_some("scope_not_listed", event.code, scope=event.scope, message=event.message)
            case DocumentsDecided():
                log.debug(
                    "documents_decided",
                    outcome=event.outcome,
                    documents=event.documents,
                    created=event.created,
                    updated=event.updated,
                    obsolete=event.obsolete,
                    unchanged=event.unchanged,
                )
            case DocumentSkippedByReason():
                self._skipped_by_reason[event.reason] += event.count
                log.debug("documents_skipped", reason=event.reason, count=event.count)
            case DocumentsRemoved():
                log.info("documents_removed", documents=event.documents, records=event.records)
            case DeletesWithheld():
                self._log_withheld(event)
            case RequestSent():
                self._log_request(event)
            case BatchSettled():
                log.info(
                    "batch_settled",
                    client_token=event.client_token,
                    operation=event.operation.value,
                    succeeded=event.succeeded,
                    dead_lettered=event.dead_lettered,
                    sent_again=event.sent_again,
                )
            case DeadLettered():
                self._log_some(
                    "dead_lettered",
                    event.code,
                    document_id=event.document_id,
                    stage=event.stage,
                    message=event.message,
                )

    def close(self, report: SourceReport | None = None) -> None:
        """Tell what was only counted and, given `report`, how the run ended."""
        for (event_name, code), count in self._seen_by_kind.items():
            if count > _LOGGED_PER_KIND_MAX:
                self._log.warning(f"{event_name}_in_all", code=code, count=count)
        for reason, count in self._skipped_by_reason.items():
            self._log.info("documents_skipped_in_all", reason=reason, count=count)
        self._seen_by_kind.clear()
        self._skipped_by_reason.clear()
        if report is not None:
            self._log_end(report)

    def _log_end(self, report: SourceReport) -> None:
        documents, records = report.documents, report.records
        self._log.log(
            _LEVEL_BY_STATUS[report.status],
            "run_finished",
            status=report.status,
            documents_seen=documents.seen,
            documents_failed=documents.failed,
            documents_removed=documents.removed,
            created=records.created,
            updated=records.updated,
            deleted=records.deleted,
            unchanged=records.unchanged,
            dead_lettered=records.dead_lettered,
            quarantined=report.quarantined,
            dropped=records.dropped,
            pending=records.pending,
            duration_s=round(report.seconds, 3),
            error=report.error,
        )

    def _log_listed(self, event: DocumentsListed | DocumentsRenamed) -> None:
        if isinstance(event, DocumentsListed):
            self._log.debug("documents_listed", count=event.count)
        else:
            self._log.info("documents_renamed", documents=event.documents)

    def _log_withheld(self, event: DeletesWithheld) -> None:
        level = {"guard": logging.ERROR, "disabled": logging.INFO}[event.reason]
        self._log.log(level, "deletes_withheld", reason=event.reason, removed=event.removed, known=event.known)

    def _log_request(self, event: RequestSent) -> None:
        fields = {
            "operation": event.operation.value,
            "records": event.records,
            "body_bytes": event.body_bytes,
            "duration_s": round(event.duration_s, 3),
        }
        match event.outcome:
            case "ok":
                self._log.debug("request_answered", **fields)
            case "throttled":
                self._log_some("request_throttled", event.code or "", **fields)
            case "retryable":
                self._log_some("request_unanswered", event.code or "", **fields)
            case "refused":
                self._log_some("request_refused", event.code or "", **fields)
            case "fatal":
                self._log.error("request_failed", code=event.code, **fields)

    def _log_scan_end(self, event: ScanFinished) -> None:
        if event.is_complete:
            self._log.info("scan_finished")
        else:
            self._log.warning("scan_ended_early", consequence="nothing is deleted")

    def _log_some(self, event_name: str, code: str, **fields: Any) -> None:
        self._seen_by_kind[event_name, code] += 1
        is_shown = self._seen_by_kind[event_name, code] <= _LOGGED_PER_KIND_MAX
        self._log.log(logging.WARNING if is_shown else logging.DEBUG, event_name, code=code, **fields)
