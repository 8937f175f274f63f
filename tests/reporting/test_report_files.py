"""Where reports are kept, and for how long."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StateError
from pipeline.reporting.report_files import ReportFolder, read_report, run_id_of, write_for_owner


def report(number: int, **members: Any) -> dict[str, Any]:
    return {
        "schema": "memsync/report/1",
        "run_id": f"run-{number}",
        "started_at": float(number * 3_600),
        "status": "in_sync",
        "account": {},
        **members,
    }


@pytest.fixture
def folder(tmp_path: Path) -> ReportFolder:
    return ReportFolder(tmp_path / "state" / "runs")


def test_reports_are_for_their_owner_alone(folder: ReportFolder) -> None:
    """They name every document; whatever the umask is, nobody else reads them."""
    folder.save(report(1), True)

    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    (file,) = folder.files()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_whole_report_takes_the_place_of_the_draft(folder: ReportFolder) -> None:
    """One run, one report; nothing half-written has its name at any time."""
    folder.save(report(1, status="running"), False)
    folder.save(report(1, status="in_sync"), True)

    (file,) = folder.files()
    assert read_report(file)["status"] == "in_sync"
    assert [path.name for path in folder.path.iterdir()] == [file.name]


def test_the_newest_are_kept_and_what_is_not_ours_is_left_alone(folder: ReportFolder) -> None:
    """Somebody may keep files of their own there."""
    for number in range(5):
        folder.save(report(number), True)
    for file in folder.files():
        file.with_suffix(".html").write_text("page")
    (folder.path / "notes.json").write_text("{}")

    folder.prune(2)

    assert [run_id_of(file) for file in folder.files()] == ["run-4", "run-3"]
    assert sorted(path.suffix for path in folder.path.iterdir()) == [".html", ".html", ".json", ".json", ".json"]


def test_runs_of_one_second_stand_in_their_order(folder: ReportFolder) -> None:
    """A small source is synced several times a second: the last run would be shown as an earlier one, and removed."""
    for run_id, started_at in (("b", 1.25), ("c", 1.5), ("a", 1.75)):
        folder.save(report(0, run_id=run_id, started_at=started_at), True)

    assert [run_id_of(file) for file in folder.files()] == ["a", "c", "b"]


def test_a_link_is_replaced_and_not_followed(folder: ReportFolder, tmp_path: Path) -> None:
    """Whoever puts a link there must not have memsync overwrite another file."""
    folder.path.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    page = folder.path / "page.html"
    for name in ("page.html", "page.html.new"):
        (folder.path / name).symlink_to(precious)

    write_for_owner(page, b"page")

    assert precious.read_text() == "precious"
    assert (page.is_symlink(), page.read_bytes()) == (False, b"page")


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"schema": "memsync/rep',
        "[]",
        '{"schema": "memsync/report/99"}',
        "[" * 100_000,
        '{"schema": "memsync/report/1", "run_id": 7}',
    ],
)
def test_a_damaged_or_foreign_report_is_told_and_does_not_crash(folder: ReportFolder, content: str) -> None:
    """A power cut may leave an empty file under a name that stands for a report."""
    folder.save(report(1), True)
    (file,) = folder.files()
    file.write_text(content)

    with pytest.raises(StateError, match="report"):
        read_report(file)


def test_names_that_json_cannot_hold_as_they_are_come_back_as_they_were(folder: ReportFolder) -> None:
    """File names are bytes: one that is not UTF-8 has lone surrogates."""
    folder.save(report(1, document="a\udcff\x1b.md"), True)

    assert read_report(folder.files()[0])["document"] == "a\udcff\x1b.md"
    assert json.loads(folder.files()[0].read_bytes())
