"""Run events as log lines."""

import io
import json
import logging
import sys
import warnings
from typing import Any

import pytest
import structlog

from pipeline.events import (
    BatchSettled,
    DeadLettered,
    DeletesWithheld,
    DocumentsDecided,
    DocumentSkippedByReason,
    DocumentsRemoved,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    ScanProblem,
)
from pipeline.model import ClientToken, DocumentId, Operation
from pipeline.report import SourceReport
from pipeline.reporting.logs import LogListener, configure_logging

HOSTILE_ID = "evil\x1b[2J\n12:00:00  info  run_finished\u202e\ud800.md"


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def lines_of(*events: RunEvent, level: str = "INFO", report: SourceReport | None = None) -> list[dict[str, Any]]:
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False, level=level)
    listener = LogListener("handbook", "run-1")
    for event in events:
        listener(event)
    listener.close(report)
    return logged(stream)


def dead_letter(number: int, code: str = "broken_pdf") -> DeadLettered:
    return DeadLettered(DocumentId(f"{number}.pdf"), "parse", code, "No cross-reference table.")


# ------------------------------------------------------------------------------------------------ lines


def test_a_line_is_one_json_object_that_says_when_what_and_of_which_run() -> None:
    """Logs are read by machines unless a person sits there."""
    (line,) = lines_of(RunStarted("handbook", "run-1", "run", documents_known=7, batches_in_outbox=2))

    timestamp = line.pop("timestamp")
    assert timestamp.endswith("Z")
    assert line == {
        "level": "info",
        "event": "run_started",
        "source": "handbook",
        "run_id": "run-1",
        "verb": "run",
        "documents_known": 7,
        "batches_in_outbox": 2,
    }


def test_values_that_json_has_no_word_for_are_logged_all_the_same() -> None:
    """A field of any type must not cost the line."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False)

    structlog.get_logger().info("said", error=ValueError("no"), rate=float("nan"), body=b"text", kinds={"a"})

    (line,) = logged(stream)
    assert (line["error"], line["rate"], line["body"], line["kinds"]) == ("no", "nan", "<4 bytes>", ["a"])


def test_a_line_on_a_terminal_is_short_and_quotes_what_has_spaces() -> None:
    """People read it in passing."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=True)

    structlog.get_logger().warning("scope_not_listed", scope="a b/", code="EACCES", run_id="run-1")

    time, rest = stream.getvalue().split("  ", maxsplit=1)
    assert len(time) == len("12:35:33")
    assert rest == 'warning  scope_not_listed  scope="a b/"  code=EACCES\n'


def test_a_hostile_name_cannot_fake_a_line_or_drive_a_terminal() -> None:
    """A document may be named by anybody."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=True)

    structlog.get_logger().warning("dead_lettered", document_id=HOSTILE_ID, ids=[HOSTILE_ID])

    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


def test_a_hostile_name_is_escaped_inside_json_too() -> None:
    """Programs that show JSON logs decode them first."""
    (line,) = lines_of(DeadLettered(DocumentId(HOSTILE_ID), "parse", "broken", HOSTILE_ID))

    assert line["document_id"] == r"evil\x1b[2J\n12:00:00  info  run_finished\u202e\ud800.md"
    assert line["message"].isprintable()


def test_a_traceback_on_a_terminal_is_indented_and_safe() -> None:
    """The message of an exception may hold a document's name."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=True)

    structlog.get_logger().error("listener_failed", exc_info=ValueError(HOSTILE_ID))

    first, *traceback_lines = stream.getvalue().splitlines()
    assert "listener_failed" in first
    assert traceback_lines
    assert all(line.startswith("    ") and line.isprintable() for line in traceback_lines)


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "db_password",
        "aws_secret",
        "session_token",
        "api-key",
        "apiKey",
        "credentials",
    ],
)
def test_a_value_with_a_secret_name_is_masked(name: str) -> None:
    """Also where it is nested in another."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False)

    structlog.get_logger().info("said", **{name: "hunter2"}, headers={name: ["hunter2"]})

    assert "hunter2" not in stream.getvalue()


def test_a_client_token_is_no_secret() -> None:
    """It names a delivery, and is what an operator searches for."""
    (line,) = lines_of(BatchSettled(ClientToken("token-1"), Operation.CREATE, 97, 3, 0))

    assert (line["client_token"], line["level"]) == ("token-1", "info")


@pytest.mark.parametrize(
    "text",
    [
        "GET https://user:hunter2@example.com:8080/x",
        "Authorization: Bearer hunter2",
        "https://bucket/key?X-Amz-Signature=hunter2&x=1",
    ],
)
def test_secrets_inside_messages_are_masked(text: str) -> None:
    """Libraries put addresses and headers into their messages."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False)

    structlog.get_logger().info("said", message=text, address="http://localhost:8080/x@y")

    (line,) = logged(stream)
    assert "hunter2" not in line["message"]
    assert line["address"] == "http://localhost:8080/x@y"


def test_a_stream_of_few_characters_gets_escapes() -> None:
    """A log line must not fail because of the stream it goes to."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    configure_logging(stream, is_terminal=True)

    structlog.get_logger().info("said", document_id="Größe.md")

    assert rb"document_id=Gr\xf6\xdfe.md" in raw.getvalue()


def test_lines_follow_standard_error_to_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live display replaces `sys.stderr` while it is shown, to put lines above itself."""
    replaced = io.StringIO()
    configure_logging(sys.stderr, is_terminal=False)
    monkeypatch.setattr(sys, "stderr", replaced)

    structlog.get_logger().info("said")

    assert logged(replaced)[0]["event"] == "said"


# -------------------------------------------------------------------------------------------- libraries


@pytest.mark.parametrize("name", ["botocore.parsers", "aiohttp.client", "asyncio"])
def test_libraries_are_heard_from_warning_on_and_never_below(name: str) -> None:
    """At DEBUG they print bodies and headers."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False, level="DEBUG")
    library = logging.getLogger(name)

    library.debug("body: %s", "hunter2")
    library.info("more")
    library.warning("slow")

    (line,) = logged(stream)
    assert (line["event"], line["library"], line["message"]) == ("library_complained", name, "slow")


def test_warnings_of_python_become_log_lines() -> None:
    """Whoever reads JSON lines must not meet anything else."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    (line,) = logged(stream)
    assert line["library"] == "py.warnings"


def test_configuring_twice_does_not_say_things_twice() -> None:
    """Embedding programs and tests do."""
    stream = io.StringIO()
    configure_logging(stream, is_terminal=False)
    configure_logging(stream, is_terminal=False)

    logging.getLogger("asyncio").warning("slow")

    assert len(logged(stream)) == 1


# ------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (ScanFinished(is_complete=True), "info"),
        (ScanFinished(is_complete=False), "warning"),
        (ScanProblem("a/", "EACCES", "Permission denied."), "warning"),
        (DeletesWithheld("guard", 312, 340), "error"),
        (DeletesWithheld("disabled", 312, 340), "info"),
        (RequestSent(Operation.CREATE, 100, 10, 0.1, "throttled", "ThrottlingException"), "warning"),
        (RequestSent(Operation.CREATE, 100, 10, 0.1, "refused", "ValidationException"), "warning"),
        (RequestSent(Operation.CREATE, 100, 10, 0.1, "fatal", "AccessDeniedException"), "error"),
        (DocumentsRemoved(3, records=12), "info"),
        (dead_letter(1), "warning"),
    ],
)
def test_the_level_tells_who_must_act(event: RunEvent, level: str) -> None:
    """WARNING: nothing is lost. ERROR: someone must act."""
    (line,) = lines_of(event)

    assert line["level"] == level


@pytest.mark.parametrize(
    "event",
    [
        DocumentsDecided("added", 1, created=3),
        RequestSent(Operation.CREATE, 1, 1, 0.1, "ok"),
    ],
)
def test_single_documents_are_logged_at_debug_only(event: RunEvent) -> None:
    """A million documents must not be a million lines."""
    assert lines_of(event) == []
    assert [line["level"] for line in lines_of(event, level="DEBUG")] == ["debug"]


def test_of_many_dead_letters_ten_of_a_kind_are_logged_and_then_their_number() -> None:
    """The first show what is wrong, the count how bad it is; the file holds them all."""
    letters = [dead_letter(number) for number in range(25)]

    lines = lines_of(*letters, dead_letter(99, code="too_large"))

    assert [line["event"] for line in lines] == ["dead_lettered"] * 11 + ["dead_lettered_in_all"]
    assert (lines[-1]["code"], lines[-1]["count"]) == ("broken_pdf", 25)


def test_skipped_documents_are_counted_by_reason_at_the_end() -> None:
    """They were left out on purpose, so one line is enough."""
    (line,) = lines_of(DocumentSkippedByReason("empty"), DocumentSkippedByReason("empty", 2))

    assert (line["event"], line["reason"], line["count"]) == ("documents_skipped_in_all", "empty", 3)


def test_the_last_line_tells_how_the_run_ended() -> None:
    """An unattended run is judged by its log."""
    (line,) = lines_of(report=SourceReport("handbook", "guarded", withheld_documents=312))

    assert (line["event"], line["status"], line["level"]) == ("run_finished", "guarded", "error")
