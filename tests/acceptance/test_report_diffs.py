"""How texts have changed, in the report of a run: only where the settings ask for it, and nowhere else."""

import json
import stat
from pathlib import Path

import pytest

from .conftest import MEMORY_ID, Folder, Json, Memory, Memsync, client_of


@pytest.fixture
def diffed(folder: Folder, memory: Memory) -> Folder:
    """`folder` with documents that are stored, and settings that ask for the texts of the next changes."""
    folder.configure(memory.url, reports={"diff_documents": 20})
    folder.write("edited.md", "One here. Two there.")
    folder.write("gone.md", "To be removed.")
    folder.write("old-name.md", "Has another name soon.")
    folder.write("same.md", "The same.")
    return folder


def change(folder: Folder) -> None:
    folder.edit("edited.md", "there", "elsewhere")
    folder.remove("gone.md")
    (folder.documents / "old-name.md").rename(folder.documents / "new-name.md")
    folder.write("new.md", "Added.")


def last_report(folder: Folder) -> Json:
    report: Json = json.loads(max((folder.state / "runs").glob("*.json")).read_bytes())
    return report


def lines_of(report: Json) -> dict[str, tuple[str, list[str]]]:
    """Of each document, its outcome and all its lines."""
    return {
        each["document"]: (each["outcome"], [line for record in each["records"] for line in record["lines"]])
        for each in report["diff"]["documents"]
    }


def test_a_report_shows_how_texts_have_changed(diffed: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whoever looks the morning after sees what agents are told now, and what they were told before."""
    memsync("run", "docs.yaml")
    change(diffed)

    memsync("run", "docs.yaml")

    report = last_report(diffed)
    assert lines_of(report) == {
        "edited.md": ("changed", [" One here.", "-Two there.", "+Two elsewhere."]),
        "new-name.md": ("changed", [" (the text stays; its place, its metadata or how long it lives changes)"]),
        "new.md": ("added", ["+Added."]),
        "gone.md": ("removed", ["-To be removed."]),
    }
    assert memsync("report", "docs.yaml", "--json").report["reports"] == [report]
    files = [*(diffed.state / "runs").iterdir()]
    assert sum("Two elsewhere." in file.read_text() for file in files) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_nothing_more_is_asked_unless_the_settings_say_so(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Pages are mailed around: a text must not be on them because nobody thought of it."""
    docs.write("edited.md", "One here. Two there.")
    memsync("run", "docs.yaml")
    docs.edit("edited.md", "there", "elsewhere")
    memsync("run", "docs.yaml")

    assert memory.writes("GetMemoryRecord") == 0
    assert last_report(docs)["diff"] is None
    assert not any("elsewhere" in file.read_text() for file in (docs.state / "runs").iterdir())

    docs.configure(memory.url, reports={"diff_documents": 1})
    docs.edit("edited.md", "elsewhere", "there")
    memsync("run", "docs.yaml")
    assert memory.writes("GetMemoryRecord") == 1


def test_texts_are_in_the_report_and_nowhere_else(diffed: Folder, memory: Memory, memsync: Memsync) -> None:
    """What somebody has put into the memory is known to nothing else here: wherever it is found, it came from there."""
    memsync("run", "docs.yaml")
    (record,) = [record for record in memory.records() if record.text.startswith("One here.")]
    with client_of(memory.url) as client:
        told = {"memoryRecordId": record.record_id, "timestamp": record.created_at, "content": {"text": "quincunx"}}
        assert client.batch_update_memory_records(memoryId=MEMORY_ID, records=[told])["successfulRecords"]
    change(diffed)

    done = memsync("run", "docs.yaml", "--json")
    others = [memsync(name, "docs.yaml", "--json") for name in ("history", "status", "dead-letters")]

    assert "-quincunx" in lines_of(last_report(diffed))["edited.md"][1]
    assert not any("quincunx" in each.stdout + each.stderr for each in (done, *others))
    holding = [path for path, (_, content) in diffed.snapshot().items() if b"quincunx" in content]
    assert sorted(Path(path).suffix for path in holding) == [".html", ".json"]
    assert {str(Path(path).parent) for path in holding} == {".memsync/docs/runs"}


@pytest.mark.parametrize(
    ("fault", "lines"),
    [
        ("throttle", ["-To be removed."]),
        ("error_before_write", [" (the old text could not be read: ServiceException)"]),
        ("access_denied", [" (the old text could not be read: AccessDeniedException)"]),
    ],
)
def test_a_text_that_cannot_be_read_is_told_so(
    fault: str, lines: list[str], diffed: Folder, memory: Memory, memsync: Memsync
) -> None:
    """The run has done its work, and says so; a refusal for the rate is only waited for."""
    memsync("run", "docs.yaml")
    diffed.remove("gone.md")
    memory.play(script=(f"GetMemoryRecord:{fault}",))

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.source["status"]) == (0, "in_sync")
    assert "To be removed." not in memory.texts()
    report = last_report(diffed)
    assert lines_of(report) == {"gone.md": ("removed", lines)}
    assert (report["diff"]["problem"] is None) == (fault == "throttle")


def test_a_record_that_was_refused_is_not_told_as_changed(diffed: Folder, memory: Memory, memsync: Memsync) -> None:
    """The memory has the old text still; what was meant is in the dead letter."""
    memsync("run", "docs.yaml")
    diffed.edit("edited.md", "there", "unwanted")
    diffed.write("same.md", "Not the same.")
    memory.play(reject_text="unwanted")

    done = memsync("run", "docs.yaml", "--json")

    assert done.exit_code == 3
    assert lines_of(last_report(diffed)) == {"same.md": ("changed", ["-The same.", "+Not the same."])}
    assert "unwanted" not in json.dumps(last_report(diffed))

    memory.play()
    memsync("replay", "docs.yaml")
    assert lines_of(last_report(diffed)) == {"edited.md": ("changed", [" One here.", "-Two there.", "+Two unwanted."])}
