"""Writes docs/events.md: every line that memsync can log. `python docs/log_events.py` after a change of one.

What an event means stands here, since only people can say that. Names, and levels and fields as far as they can be
seen, are looked up in the code, and every line that a test of the command line logs is held against this table: see
tests/reporting/test_log_events.py and tests/acceptance/conftest.py.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
PAGE = PROJECT / "docs" / "events.md"

LEVELS = ("debug", "info", "warning", "error")
COMMON_FIELDS = ("timestamp", "level", "event")
OPTIONAL_FIELDS = ("source", "run_id", "traceback")

REQUEST_FIELDS = ("operation", "records", "body_bytes", "duration_s")


@dataclass(frozen=True, slots=True)
class LogEvent:
    """`levels` it can have; a field may be missing where it has nothing to say."""

    name: str
    levels: Sequence[str]
    fields: Sequence[str]
    meaning: str


RUN = (
    LogEvent(
        "run_started",
        ["info"],
        ["verb", "documents_known", "batches_in_outbox"],
        "The source is taken: no other run holds it. `verb` is run, plan or replay; `documents_known` is what the"
        " ledger knows, `batches_in_outbox` what an interrupted run left, which is delivered first.",
    ),
    LogEvent(
        "run_finished",
        ["info", "warning", "error"],
        [
            "status",
            "documents_seen",
            "documents_failed",
            "documents_removed",
            "created",
            "updated",
            "deleted",
            "unchanged",
            "dead_lettered",
            "quarantined",
            "dropped",
            "pending",
            "duration_s",
            "error",
        ],
        "The last line of each run and replay. The status decides the level: info for in_sync; warning for"
        " dead_letters, locked and interrupted; error for guarded and failed. From `created` on, counts are in"
        " records, but `quarantined` counts the dead letters that no run sends again by itself since that was in vain"
        " too often; `dropped` are records that a person gave up for good; `error` says why it failed.",
    ),
    LogEvent(
        "still_running",
        ["info"],
        [
            "running_s",
            "idle_s",
            "documents_listed",
            "documents_done",
            "records_planned",
            "records_settled",
            "dead_letters",
            "requests_throttled",
            "waits",
        ],
        "Every `telemetry.still_running_s` seconds. `idle_s` is how long nothing has moved; `waits` tells by stage and"
        " reason what is waited for, how many times, since when, for which document and how long at least.",
    ),
    LogEvent(
        "nothing_moved",
        ["warning"],
        ["idle_s", "waits_for", "advice"],
        "Nothing moved for `telemetry.stalled_after_s` seconds; said again each time that has doubled. The run goes"
        " on.",
    ),
    LogEvent("moving_again", ["info"], ["idle_s"], "After `nothing_moved`: it lasted `idle_s` seconds."),
    LogEvent(
        "state_is_a_copy",
        ["warning"],
        ["consequence"],
        "The state was restored or moved. Everything is compared with the memory before anything is written.",
    ),
    LogEvent(
        "ledger_reconciled",
        ["info"],
        ["checked", "missing", "expired", "changed", "foreign", "duplicate", "unattributed"],
        "The ledger was brought in line with the memory. Counts are in records, by the words of `memsync verify`.",
    ),
    LogEvent(
        "dead_letters_due",
        ["info"],
        ["count"],
        "So many dead letters have waited long enough; this run sends them again by itself. See"
        " `dead_letters.auto_replay`.",
    ),
    LogEvent(
        "unexpected_error",
        ["error"],
        [],
        "A fault of memsync, with its traceback. The run of this source ends as failed; please report it.",
    ),
    LogEvent(
        "listener_failed",
        ["error"],
        ["listener", "run_event"],
        "A display, a log or a telemetry failed and hears nothing more; the run is not affected. Please report it.",
    ),
)

SOURCE = (
    LogEvent("documents_listed", ["debug"], ["count"], "So many documents were listed."),
    LogEvent("scan_finished", ["info"], [], "The source was listed to its end; what it did not show can be deleted."),
    LogEvent(
        "scan_ended_early",
        ["warning"],
        ["consequence"],
        "The source stopped without its last word: nothing is deleted.",
    ),
    LogEvent(
        "scope_not_listed",
        ["debug", "warning"],
        ["code", "scope", "message"],
        "A part of the source could not be listed; nothing is deleted there.",
    ),
    LogEvent(
        "documents_decided",
        ["debug"],
        ["outcome", "documents", "created", "updated", "obsolete", "unchanged"],
        "What became of documents, and how many of their records that plans to change.",
    ),
    LogEvent("documents_skipped", ["debug"], ["reason", "count"], "Documents were left out on purpose."),
    LogEvent(
        "documents_skipped_in_all",
        ["info"],
        ["reason", "count"],
        "At the end, for each reason: how many were left out.",
    ),
    LogEvent(
        "documents_renamed", ["info"], ["documents"], "Documents have other names; their records are updated in place."
    ),
    LogEvent(
        "documents_removed",
        ["info"],
        ["documents", "records"],
        "Documents that the source has no more, and how many of their records are deleted.",
    ),
    LogEvent(
        "deletes_withheld",
        ["info", "error"],
        ["reason", "removed", "known"],
        "`removed` of `known` documents are gone, and nothing was deleted: error if the guard objects, info if"
        " `deletes.enabled` is off.",
    ),
    LogEvent(
        "worker_not_started",
        ["warning"],
        ["error"],
        "A process that reads documents could not be started; a thread does its work.",
    ),
    LogEvent(
        "worker_died",
        ["warning"],
        ["ended_with"],
        "A process that reads documents ended by itself; the document that it was reading is found and given up on.",
    ),
)

MEMORY = (
    LogEvent("request_answered", ["debug"], [*REQUEST_FIELDS], "The memory took a request."),
    LogEvent(
        "request_throttled",
        ["debug", "warning"],
        ["code", *REQUEST_FIELDS],
        "The memory asked for a slower pace. The request is sent again; nothing is lost.",
    ),
    LogEvent(
        "request_unanswered",
        ["debug", "warning"],
        ["code", *REQUEST_FIELDS],
        "No good answer came: a timeout, a fault of the service, a lost connection. The same request is sent again.",
    ),
    LogEvent(
        "request_refused",
        ["debug", "warning"],
        ["code", *REQUEST_FIELDS],
        "The memory took none of a request; it is narrowed down to the record that is at fault.",
    ),
    LogEvent(
        "request_failed",
        ["error"],
        ["code", *REQUEST_FIELDS],
        "What no retry heals: credentials, permissions, a quota. The run ends; its batches stay in the outbox.",
    ),
    LogEvent(
        "batch_settled",
        ["info"],
        ["client_token", "operation", "succeeded", "dead_lettered", "sent_again"],
        "What became of each record of a batch is recorded. Counts are in records.",
    ),
    LogEvent(
        "dead_lettered",
        ["debug", "warning"],
        ["code", "document_id", "stage", "message"],
        "A document or a record was given up on; `memsync dead-letters` lists it.",
    ),
)

COUNTED = tuple(
    LogEvent(
        f"{name}_in_all",
        ["warning"],
        ["code", "count"],
        f"At the end, for each code of which more than ten `{name}` came.",
    )
    for name in ("dead_lettered", "request_refused", "request_throttled", "request_unanswered", "scope_not_listed")
)

OBSERVERS = (
    LogEvent(
        "telemetry_not_delivered",
        ["warning"],
        ["endpoint", "exports_lost", "consequence"],
        "The collector did not take so many exports of traces or metrics. The run is not affected.",
    ),
    LogEvent(
        "telemetry_unavailable",
        ["warning"],
        ["problem"],
        "Traces and metrics are not sent: the extra `otel` is not installed, or a variable of OpenTelemetry is wrong.",
    ),
    LogEvent(
        "metrics_incomplete",
        ["warning"],
        ["path", "problem"],
        "The file for Prometheus could not be written, or tells only that the state cannot be read.",
    ),
    LogEvent(
        "notice_not_sent",
        ["warning"],
        ["occasion", "service", "problem"],
        "A service did not take a notice; the next run tries again, unless another one took it.",
    ),
    LogEvent(
        "notice_not_remembered",
        ["warning"],
        ["problem", "consequence"],
        "What was told could not be noted in the state folder; it may be told once more.",
    ),
    LogEvent(
        "observer_failed",
        ["error"],
        [],
        "Telling others of a run that has ended failed in an unexpected way. Report it.",
    ),
    LogEvent(
        "report_not_written",
        ["warning"],
        ["folder", "error", "consequence"],
        "The report of a run could not be begun, closed or put in order; `memsync report` cannot show that run. The run"
        " itself lacks nothing.",
    ),
    LogEvent(
        "library_complained",
        ["warning", "error", "critical"],
        ["library", "message"],
        "What a library says through Python's own logging, or a warning of Python.",
    ),
)

SERVING = (
    LogEvent(
        "configuration_read",
        ["info"],
        ["sources", "broken_files"],
        "The YAML files were read, at the start or since they have changed. `sources` tells when each is due next;"
        " `broken_files` is how many are not valid, each of which is told of by `configuration_broken`.",
    ),
    LogEvent(
        "configuration_broken",
        ["error"],
        ["message"],
        "A YAML file is not valid: its source is not run until it is mended, the others are. Or one of the paths cannot"
        " be read: no run is started until it can. Said once for each change of the files, which are read again every"
        " half minute: a file that they refer to may be there by then.",
    ),
    LogEvent(
        "process_started",
        ["info"],
        ["reason", "late_s"],
        "A process runs the source; its own lines stand among these. `reason` is due, behind (a time went by without a"
        " run that came to its end), changed (its files or settings have) or again (the run before has failed, or"
        " somebody else held the source); `late_s` is how long ago it should have begun.",
    ),
    LogEvent(
        "process_ended",
        ["info", "warning"],
        ["status", "duration_s", "next_due_at", "again_in_s", "exit_code"],
        "The process ended by itself. Info if the memory holds what it can hold (in_sync, dead_letters), else a warning"
        " with the exit code; what to do stands in its `run_finished`. `again_in_s`: `memsync watch` tries it again by"
        " itself after so many seconds.",
    ),
    LogEvent(
        "process_died",
        ["error"],
        ["status", "duration_s", "next_due_at", "again_in_s", "signal", "consequence"],
        "A signal that memsync did not send ended the process: a SIGKILL mostly comes from the kernel, for want of"
        " memory. Nothing is lost; the next run carries on.",
    ),
    LogEvent(
        "process_killed",
        ["warning"],
        ["status", "duration_s", "next_due_at", "consequence"],
        "The run did not stop within `--grace` seconds, or a second signal came. The next run carries on.",
    ),
    LogEvent(
        "process_not_started",
        ["error"],
        ["message"],
        "The system has no process for the run, for want of memory mostly. It is tried again when the source is due"
        " next.",
    ),
    LogEvent(
        "run_skipped",
        ["warning"],
        ["reason", "next_due_at"],
        "The source was due and is not run: the run before goes on, or waits for its turn, or the time was missed and"
        " `schedule_catch_up` is off.",
    ),
    LogEvent(
        "process_wrote",
        ["error"],
        ["message"],
        "What the process of a run wrote that is no line of a log: mostly why it could not begin.",
    ),
    LogEvent(
        "state_not_read",
        ["warning"],
        ["message"],
        "How the last run of a source ended is not known, so no run is caught up on; it is run when it is due next.",
    ),
    LogEvent(
        "clock_jumped",
        ["warning"],
        ["seconds", "cause"],
        "The machine slept, or its clock was set, by so many seconds; below zero: put back. What is due now is run.",
    ),
    LogEvent(
        "heartbeat_failed",
        ["error"],
        ["file", "message"],
        "The file of `--heartbeat` cannot be touched; who looks at its age takes this process for dead.",
    ),
    LogEvent("health_served", ["info"], ["url"], "Where `/healthz`, `/readyz` and `/metrics` are."),
    LogEvent(
        "folder_missing",
        ["warning"],
        ["folder", "consequence"],
        "A folder that is watched is not there, such as one that is not mounted. It is waited for.",
    ),
    LogEvent(
        "folder_polled",
        ["warning"],
        ["folder", "message", "consequence"],
        "The system tells of no changes in a folder, mostly since it has no watches left. Its files are looked at every"
        " few seconds instead.",
    ),
    LogEvent(
        "source_not_watched",
        ["error"],
        ["message", "consequence"],
        "The settings of a source have changed, and it is no folder any more, or refers to something that cannot be"
        " had: `memsync watch` runs it only by its schedule, if it has one.",
    ),
    LogEvent(
        "scheduler_stopping",
        ["info"],
        ["running"],
        "A signal came. Nothing more is started; the sources in `running` are asked to stop and waited for.",
    ),
    LogEvent("scheduler_stopped", ["info"], [], "No run is under way any more: the process ends."),
)

GROUPS: Mapping[str, Sequence[LogEvent]] = {
    "The run": RUN,
    "The source and its documents": SOURCE,
    "The memory": MEMORY,
    "Counted": COUNTED,
    "Beside the run": OBSERVERS,
    "`memsync schedule` and `memsync watch`": SERVING,
}
EVENTS: Mapping[str, LogEvent] = {event.name: event for events in GROUPS.values() for event in events}


def fault_of(line: Mapping[str, object]) -> str | None:
    """What a line of the log, as JSON, has that the table does not tell; None if all is in order."""
    event = EVENTS.get(str(line["event"]))
    if event is None:
        return f"{line['event']} is not in the table"
    if line["level"] not in event.levels:
        return f"{event.name} has the level {line['level']}, not {' or '.join(event.levels)}"
    unknown = line.keys() - {*COMMON_FIELDS, *OPTIONAL_FIELDS, *event.fields}
    return f"{event.name} has fields that are not in the table: {', '.join(sorted(unknown))}" if unknown else None


# ------------------------------------------------------------------------------------------- what the code says


# Methods that log the event which their first argument names: its level, None if it is decided there, and the fields
# that have no name where they are called.
HELPERS: Mapping[str, tuple[str | None, Sequence[str]]] = {"_log_some": (None, ["code"]), "_say_once": ("error", [])}


@dataclass(frozen=True, slots=True)
class Call:
    """A place in the code that logs an event. `level` is None if it is decided there, as `fields` may be."""

    place: str
    name: str | None  # None: it is put together there
    level: str | None
    fields: Sequence[str]


def calls() -> Iterator[Call]:
    """All places in the code that log an event."""
    for root in ("pipeline", "connectors"):
        for file in sorted((PROJECT / root).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if "structlog" in text:
                yield from _calls_in(ast.parse(text), str(file.relative_to(PROJECT)))


def _calls_in(tree: ast.Module, file: str) -> Iterator[Call]:
    passed_on = set(_inside_helpers(tree))  # their names stand where a helper is called
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if node in passed_on:
            continue
        receiver, method = ast.unparse(node.func.value), node.func.attr
        place = f"{file}:{node.lineno}"
        fields = [keyword.arg for keyword in node.keywords if keyword.arg and keyword.arg != "exc_info"]
        if method in HELPERS:
            level, nameless_fields = HELPERS[method]
            yield Call(place, _text(node.args[0]), level, [*nameless_fields, *fields])
        elif not (receiver in ("log", "self._log") or receiver.startswith("structlog.get_logger()")):
            continue
        elif method == "log":
            yield Call(place, _text(node.args[1]), None, fields)
        elif method in (*LEVELS, "exception", "critical"):
            yield Call(place, _text(node.args[0]), "error" if method == "exception" else method, fields)


def _inside_helpers(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in HELPERS:
            yield from ast.walk(node)


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


# ------------------------------------------------------------------------------------------------- the page

INTRODUCTION = """# What memsync logs

Written by `docs/log_events.py`; do not edit.

Logs go to stderr: lines for people on a terminal, from WARNING on; else one JSON object a line, from INFO on. An event
has a name, a level and fields. Warning: nothing is lost. Error: somebody must act.

Every line has `timestamp` (UTC), `level` and `event`; what is of a run has its `source` and `run_id`. Numbers ending in
`_s` are seconds. `code` is one word to sort by: the service's own, or the kind of error. No field holds a document's
text, and what looks like a secret is masked.

What may come by the thousand (`dead_lettered`, `scope_not_listed`, requests that are made again) is logged ten times
for each code, then at DEBUG only, and counted at the end.
"""


def page() -> str:
    """docs/events.md as it should be."""
    return "\n".join([INTRODUCTION, *(_section(title, events) for title, events in GROUPS.items())])


def _section(title: str, events: Sequence[LogEvent]) -> str:
    rows = [
        f"| `{event.name}` | {', '.join(event.levels)} | {', '.join(f'`{name}`' for name in event.fields) or '–'} |"
        f" {event.meaning} |"
        for event in events
    ]
    return "\n".join([f"## {title}", "", "| event | level | fields | meaning |", "|---|---|---|---|", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
