"""Dead letters in a file for other programs and for people with a spreadsheet."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.auto_replay import Outlook
from pipeline.errors import StateError
from pipeline.letters import to_json
from pipeline.model import DeadLetter
from pipeline.reporting.text import printable

COLUMNS = (
    "id", "source", "document_id", "stage", "code", "message", "operation", "attempts", "rounds", "first_failed_at",
    "last_failed_at", "next_attempt_at", "quarantined", "edited", "dropped_at",
)  # fmt: skip
_BEGINS_FORMULA = ("=", "+", "-", "@")


def to_json_lines(letters: Sequence[DeadLetter]) -> bytes:
    """The letters as the dead-letter file holds them, whole."""
    return b"".join(to_json(letter) + b"\n" for letter in letters)


def to_csv(letters: Sequence[DeadLetter], outlooks: Mapping[str, Outlook]) -> bytes:
    """A table of what failed and why, without texts; `outlooks` are by the ids of letters."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for letter in letters:
        writer.writerow(map(_cell, _values(letter, outlooks[letter.id])))
    return table.getvalue().encode("utf-8", "backslashreplace")


def written_outlook(outlook: Outlook) -> dict[str, object]:
    """What becomes of a letter by itself, as JSON."""
    return {"next_attempt_at": _written(outlook.next_attempt_at), "quarantined": outlook.is_quarantined}


def write_private(file: Path, content: bytes) -> None:
    """Write `content` to `file` in one step, for its owner only; what was there is replaced, a link is not followed.

    Raises:
        StateError: it cannot be written; what was there is as it was.
    """
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(file)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise StateError(f"{file} could not be written: {error.strerror}. What was there is as it was.") from error


def _values(letter: DeadLetter, outlook: Outlook) -> tuple[object, ...]:
    return (
        letter.id,
        letter.source,
        letter.document_id,
        letter.stage,
        letter.code,
        letter.message,
        letter.operation.value if letter.operation else "",
        letter.attempts,
        letter.rounds,
        _written(letter.first_failed_at),
        _written(letter.last_failed_at),
        _written(outlook.next_attempt_at) or "",
        "yes" if outlook.is_quarantined else "no",
        "yes" if letter.is_edited else "no",
        _written(letter.dropped_at) or "",
    )


def _cell(value: object) -> object:
    """`value` as no spreadsheet takes it for a formula, and no terminal for a command."""
    if not isinstance(value, str):
        return value
    safe = printable(value)
    return f"'{safe}" if safe.startswith(_BEGINS_FORMULA) else safe


def _written(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
