"""What a run in a process of its own logs stands among the lines of the one that started it."""

import json

import pytest

from pipeline.reporting.logs import configure_logging
from pipeline.reporting.relay import relay


def logged(line: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    configure_logging(is_terminal=False)
    relay(line, source="docs")
    return [json.loads(written) for written in capsys.readouterr().err.splitlines()]


def test_a_log_line_keeps_its_level_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Who searches the log for errors of a source must not care which process wrote them."""
    line = {"timestamp": "2026-05-01T12:00:00Z", "level": "error", "event": "run_finished", "source": "wiki", "n": 1}

    (found,) = logged(json.dumps(line), capsys)

    assert {**found, "timestamp": line["timestamp"]} == line


@pytest.mark.parametrize(
    "line", ["memsync: docs.yaml: cannot be read", "Fatal Python error", "[1]", "{}", '{"level": "x"}', "[" * 100_000]
)
def test_anything_else_is_an_error_with_the_source_that_it_is_about(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A crash of the interpreter writes what it likes; it must be found, and not break the log."""
    (found,) = logged(line, capsys)

    assert (found["level"], found["event"], found["source"]) == ("error", "process_wrote", "docs")
    assert str(found["message"])[:9] in line.removeprefix("memsync: ")[:9] + "..."


def test_what_could_drive_a_terminal_is_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines come from a process, and through it from names of documents."""
    (found,) = logged("\x1b[2Jgone", capsys)

    assert found["message"] == "\\x1b[2Jgone"


def test_an_empty_line_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages of several paragraphs have them."""
    assert logged("  ", capsys) == []
