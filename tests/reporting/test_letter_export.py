"""Dead letters in files for others: whole, theirs alone, and harmless."""

import csv
import io
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.auto_replay import Outlook
from pipeline.errors import StateError
from pipeline.letters import from_json
from pipeline.model import DeadLetter, DocumentId, Operation
from pipeline.reporting.letter_export import COLUMNS, to_csv, to_json_lines, write_private


def letter(**members: Any) -> DeadLetter:
    made = DeadLetter(
        id="1",
        source="handbook",
        document_id=DocumentId("a.md"),
        stage="write",
        code="500",
        message="ill",
        attempts=5,
        first_failed_at=0.0,
        last_failed_at=60.0,
        run_id="run-1",
        operation=Operation.CREATE,
        record='{"content":{"text":"日本語"}}'.encode(),
    )
    return replace(made, **members)


def test_json_lines_hold_the_letters_whole() -> None:
    """What was exported can be read as the file itself can."""
    letters = [letter(), letter(id="2", dropped_at=99.0)]

    assert [from_json(line) for line in to_json_lines(letters).splitlines()] == letters


def test_a_table_has_a_row_for_each_letter_and_no_text() -> None:
    """It is sent around."""
    rows = list(csv.DictReader(io.StringIO(to_csv([letter()], {"1": Outlook(3_600.0)}).decode())))

    assert [*rows[0]] == [*COLUMNS]
    assert rows[0]["document_id"] == "a.md"
    assert rows[0]["next_attempt_at"] == "1970-01-01T01:00:00+00:00"
    assert "日本語" not in str(rows)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "a\x1b[2J\nb"])
def test_a_hostile_name_is_harmless_in_a_spreadsheet(name: str) -> None:
    """A document can be called like a formula, which would run where the table is opened."""
    written = to_csv([letter(document_id=DocumentId(name))], {"1": Outlook()}).decode()
    (row,) = csv.DictReader(io.StringIO(written))

    assert row["document_id"][0] not in "=+-@\t"
    assert row["document_id"].isprintable()


def test_a_file_is_its_owners_alone_and_replaced_in_one_step(tmp_path: Path) -> None:
    """It holds the texts of documents, whatever the umask and whoever made what was there."""
    file, target = tmp_path / "letters.jsonl", tmp_path / "target"
    target.write_text("theirs")
    file.symlink_to(target)
    before = os.umask(0)
    try:
        write_private(file, b"ours")
    finally:
        os.umask(before)

    assert (file.read_bytes(), target.read_text()) == (b"ours", "theirs")
    assert not file.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["letters.jsonl", "target"]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """And leaves nothing behind."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(StateError, match="could not be written"):
        write_private(tmp_path / "folder", b"ours")

    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
