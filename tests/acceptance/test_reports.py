"""What past runs leave, and how it is looked at."""

import json
import re
import signal
import stat
from pathlib import Path

import pytest

from .conftest import MEMORY_ID, TEXT_CANARY, Folder, Json, Memory, Memsync, client_of


def reports(folder: Folder) -> list[Json]:
    """The reports in the state folder, the oldest first."""
    return [json.loads(file.read_bytes()) for file in sorted((folder.state / "runs").glob("*.json"))]


def test_each_run_leaves_a_report_that_agrees_with_what_it_said(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Two accounts of one run would have to be explained to everybody who sees both."""
    docs.write_documents(3)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")

    done = memsync("run", "docs.yaml", "--json")

    (report,) = reports(docs)
    assert (report["schema"], report["verb"], report["status"]) == ("memsync/report/1", "run", "dead_letters")
    assert report["run_id"] == done.report["run_id"]
    assert report["account"] == done.source
    assert [each["id"] for each in report["documents"]["added"]["first"]] == ["000.md", "001.md", "002.md"]
    assert [each["id"] for each in report["documents"]["failed"]["first"]] == ["bad.md"]
    assert report["dead_letters"]["reasons"][0]["documents"] == {"total": 1, "first": ["bad.md"]}
    assert sum(report["timeline"]["records"]) == 3
    assert "unwanted" not in json.dumps(report)
    assert TEXT_CANARY not in json.dumps(report)


def test_each_run_that_did_something_leaves_its_page(docs: Folder, memsync: Memsync) -> None:
    """Who looks in the morning opens a file; a run that found nothing to do writes none, and is done sooner."""
    docs.write_documents(2)
    memsync("run", "docs.yaml")
    memsync("run", "docs.yaml")
    docs.documents.rename(docs.path / "elsewhere")
    memsync("run", "docs.yaml")

    reports = sorted((docs.state / "runs").glob("*.json"))
    pages = sorted((docs.state / "runs").glob("*.html"))

    assert len(reports) == 3
    assert [page.stem for page in pages] == [reports[0].stem, reports[2].stem]
    assert "failed" in pages[1].read_text()


def test_pages_are_left_to_those_who_ask_if_the_settings_say_so(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    docs.configure(memory.url, reports={"page": False})
    docs.write_documents(1)
    memsync("run", "docs.yaml")

    assert [file.suffix for file in (docs.state / "runs").iterdir()] == [".json"]


def test_what_changed_is_told_by_document_and_record(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Which document changed what in the memory, down to the record."""
    for name in ("edited.md", "gone.md", "old-name.md"):
        docs.write(name)
    memsync("run", "docs.yaml")
    docs.edit("edited.md", "All of", "Everything about")
    docs.remove("gone.md")
    (docs.documents / "old-name.md").rename(docs.documents / "new-name.md")

    memsync("run", "docs.yaml")

    documents = reports(docs)[-1]["documents"]
    (edited,) = [each for each in documents["changed"]["first"] if each["id"] == "edited.md"]
    (key,) = edited["keys"]["update"]
    with client_of(memory.url) as client:
        found = client.list_memory_records(memoryId=MEMORY_ID, namespacePath="/")["memoryRecordSummaries"]
    assert key in [record["metadata"]["memsync-key"]["stringValue"] for record in found]
    assert documents["removed"]["first"] == [{"id": "gone.md"}]
    assert documents["renamed"]["first"] == [{"id": "new-name.md", "before": "old-name.md"}]


def test_a_killed_run_is_told_as_interrupted_until_the_next_one(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Nobody is left to write that it was killed; while it is at work, nobody must say that it was."""
    docs.write_documents(3)
    memory.play(latency_s=300)
    run = memsync.start("run", "docs.yaml")
    run.wait_for_log("run_started")

    at_work = memsync("report", "docs.yaml", "--json")
    history_at_work = memsync("history", "docs.yaml", "--json")
    run.stop_by(signal.SIGKILL)
    killed = memsync("report", "docs.yaml", "--json")
    history = memsync("history", "docs.yaml", "--json")
    page = memsync("report", "docs.yaml")

    assert at_work.report["reports"][0]["status"] == "running"
    assert history_at_work.report["sources"][0]["runs"][0]["status"] == "running"
    assert killed.report["reports"][0]["status"] == "interrupted"
    assert history.report["sources"][0]["runs"][0]["status"] == "interrupted"
    assert "the run was interrupted" in Path(page.stdout.strip()).read_text()
    memory.play()
    assert memsync("run", "docs.yaml").exit_code == 0
    assert [run["status"] for run in memsync("history", "docs.yaml", "--json").report["sources"][0]["runs"]] == [
        "in_sync",
        "interrupted",
    ]


def test_a_run_that_was_asked_to_stop_closes_its_report(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It knows what it has done, unlike one that was killed."""
    docs.write_documents(3)
    memory.play(latency_s=300)
    run = memsync.start("run", "docs.yaml", "--json")
    run.wait_for_log("run_started")

    stopped = run.stop_by(signal.SIGTERM)

    (report,) = reports(docs)
    assert (report["status"], report["account"]) == ("interrupted", stopped.source)
    assert report["ended_at"] is not None


def test_replays_and_repairs_leave_reports_and_plans_do_not(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whatever changes the memory is accounted for; what touches nothing leaves nothing."""
    docs.write_documents(2)
    memsync("plan", "docs.yaml")
    assert not docs.state.exists()
    memsync("run", "docs.yaml")
    memsync("replay", "docs.yaml")
    with client_of(memory.url) as client:
        record_id = memory.records()[0].record_id
        client.batch_delete_memory_records(memoryId=MEMORY_ID, records=[{"memoryRecordId": record_id}])

    memsync("verify", "docs.yaml")
    memsync("verify", "docs.yaml", "--repair")

    assert [report["verb"] for report in reports(docs)] == ["run", "replay", "repair"]
    assert reports(docs)[-1]["reconciled"]["missing"] == 1
    page = memsync("report", "docs.yaml")
    assert "verify --repair" in Path(page.stdout.strip()).read_text()


def test_the_guard_tells_which_documents_it_kept(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Whoever is to say whether they are really gone must see which."""
    docs.write_documents(30)
    memsync("run", "docs.yaml")
    docs.remove(*(f"{number:03}.md" for number in range(25)))

    done = memsync("run", "docs.yaml")

    report = reports(docs)[-1]
    assert (done.exit_code, report["status"]) == (4, "guarded")
    assert report["guard"] == {"reason": "guard", "removed": 25, "known": 30, "is_of_asked": False}
    assert [each["id"] for each in report["documents"]["withheld"]["first"]] == [f"{n:03}.md" for n in range(25)]
    text = Path(memsync("report", "docs.yaml").stdout.strip()).read_text()
    assert "--allow-mass-delete" in text


def test_only_the_last_reports_are_kept(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """An hourly run for years must not fill a disk."""
    docs.configure(memory.url, reports={"keep": 2})
    docs.write("a.md")
    run_ids = []
    for number in range(4):
        docs.write("b.md", f"Text {number} {TEXT_CANARY}.")
        run_ids.append(memsync("run", "docs.yaml", "--json").report["run_id"])
        memsync("report", "docs.yaml")

    kept = sorted(path.name for path in (docs.state / "runs").iterdir())

    assert len(kept) == 4
    assert {name.rpartition("-")[2].partition(".")[0] for name in kept} == set(run_ids[2:])
    assert len(memsync("history", "docs.yaml", "--json").report["sources"][0]["runs"]) == 4


def test_whoever_wants_no_reports_gets_none(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Names of documents may be as secret as their texts. What the ledger knows of past runs is told all the same."""
    docs.configure(memory.url, reports={"enabled": False})
    docs.write("a.md")

    done = memsync("run", "docs.yaml")
    asked = memsync("report", "docs.yaml")

    assert (done.exit_code, (docs.state / "runs").exists()) == (0, False)
    assert asked.exit_code == 2
    assert "has no report: `reports.enabled` is off" in asked.stderr
    (run,) = memsync("history", "docs.yaml", "--json").report["sources"][0]["runs"]
    assert (run["status"], run["added"], run["report"]) == ("in_sync", 1, None)


def test_a_report_that_cannot_be_written_costs_the_run_nothing(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It is told once, in the log, and the run is as good as any other."""
    docs.write("a.md")
    docs.state.mkdir(parents=True)
    (docs.state / "runs").write_text("in the way")

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.source["status"]) == (0, "in_sync")
    (warning,) = [line for line in done.logs if line["event"] == "report_not_written"]
    assert warning["folder"].endswith("/runs")
    assert "listener_failed" not in done.stderr


def test_reports_go_where_the_settings_say(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A share that is looked at by others, or a disk that is saved."""
    docs.configure(memory.url, reports={"path": "reports"})
    docs.write("a.md")
    memsync("run", "docs.yaml")

    assert len(list((docs.path / "reports" / "docs").glob("*.json"))) == 1
    assert not (docs.state / "runs").exists()


def test_a_page_is_for_its_owner_alone_and_goes_where_it_is_asked_for(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """It holds names of documents; a folder takes one page for each source."""
    docs.configure(memory.url, "wiki.yaml", name="wiki")
    docs.write("a.md")
    memsync("run", ".")

    one = memsync("report", "docs.yaml", "--out", "page.html")
    (docs.path / "pages").mkdir()
    both = memsync("report", ".", "--out", "pages")
    unclear = memsync("report", ".", "--out", "page.html")
    nowhere = memsync("report", "docs.yaml", "--out", "missing/page.html")

    assert one.stdout == "page.html\n"
    assert stat.S_IMODE((docs.path / "page.html").stat().st_mode) == 0o600
    assert both.stdout == "pages/docs.html\npages/wiki.html\n"
    assert "a.md" in (docs.path / "pages" / "wiki.html").read_text()
    assert (unclear.exit_code, nowhere.exit_code) == (2, 2)
    assert "--source chooses one" in unclear.stderr
    assert "cannot be written to missing/page.html: No such file or directory" in nowhere.stderr


def test_a_run_is_chosen_by_the_beginning_of_its_id(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """`history` shows eight characters of it."""
    docs.write("a.md")
    first = memsync("run", "docs.yaml", "--json").report["run_id"]
    memsync("run", "docs.yaml")

    shown = memsync("history", "docs.yaml").stdout
    chosen = memsync("report", "docs.yaml", "--run", first[:8], "--json")
    unknown = memsync("report", "docs.yaml", "--run", "zzz")
    unclear = memsync("report", "docs.yaml", "--run", "")

    assert f"run {first[:8]}" in shown
    assert [report["run_id"] for report in chosen.report["reports"]] == [first]
    assert (unknown.exit_code, unclear.exit_code) == (2, 2)
    assert "`memsync history` shows the ids" in unknown.stderr
    assert "2 runs have an id that begins with ''" in unclear.stderr


def test_before_the_first_run_there_is_nothing_to_show(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """And nothing is made by asking."""
    history = memsync("history", "docs.yaml")
    report = memsync("report", "docs.yaml")

    assert (history.exit_code, history.stdout) == (0, "docs  never ran\n")
    assert (report.exit_code, report.stderr) == (2, "memsync: source 'docs' has no report: no run has left one yet\n")
    assert not docs.state.exists()


def test_a_source_that_never_ran_keeps_the_pages_of_others_back_no_more(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Somebody has just written its configuration; whoever looks at last night does not wait for that."""
    docs.configure(memory.url, "new.yaml", name="new")
    docs.write("a.md")
    memsync("run", "docs.yaml")

    pages = memsync("report", ".")
    as_json = memsync("report", ".", "--json")

    assert (pages.exit_code, as_json.exit_code) == (1, 1)
    assert pages.stdout.count(".html\n") == 1
    assert "source 'new' has no report" in pages.stderr
    assert [report["source"] for report in as_json.report["reports"]] == ["docs"]


def test_a_damaged_report_is_told_and_stops_no_run(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A power cut may leave an empty file."""
    docs.write("a.md")
    memsync("run", "docs.yaml")
    (file,) = (docs.state / "runs").glob("*.json")
    file.write_text("")

    asked = memsync("report", "docs.yaml")

    assert asked.exit_code == 1
    assert "is damaged" in asked.stderr
    assert memsync("run", "docs.yaml").exit_code == 0
    assert memsync("report", "docs.yaml").exit_code == 0


@pytest.mark.parametrize("name", ["<script>alert(1)</script>.md", "\u202egnp.d.md", "a\x1b[2J.md"])
def test_hostile_names_are_harmless_from_one_end_to_the_other(
    name: str, docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Whoever may write into the folder is not whoever opens the page."""
    docs.write(name)
    memsync("run", "docs.yaml")

    page = Path(memsync("report", "docs.yaml").stdout.strip()).read_text()
    memsync("report", "docs.yaml", "--json")

    assert page.count("<script>") == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", page)
