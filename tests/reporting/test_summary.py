"""The closing words of a run and of a plan."""

from collections.abc import Callable

import pytest

from pipeline.events import DeletesWithheld
from pipeline.report import DocumentCounts, RecordCounts, RequestCounts, SourceReport, Status
from pipeline.reporting.summary import render_plan, render_run
from pipeline.reporting.text import Style

PATHS = {"handbook": "my docs/handbook.yaml", "wiki": "wiki.yaml"}


def last_line(text: str) -> str:
    return text.splitlines()[-1]


def test_a_run_in_sync_is_told_in_a_few_lines() -> None:
    """Counts that are zero are left out: the usual run is short."""
    report = SourceReport("handbook", seconds=4.2)
    report.documents = DocumentCounts(
        seen=1_240, unchanged=1_238, changed=2, removed=5, skipped={"empty": 2, ".png": 12}
    )
    report.records = RecordCounts(created=88, deleted=3, unchanged=4_100)
    report.requests = RequestCounts(sent=14, throttled=2)

    text = render_run([report], paths=PATHS)

    assert text.splitlines() == [
        "✓ handbook  in sync  4.2 s",
        "    documents  1,240 seen: 1,238 unchanged, 2 changed; 5 removed",
        "    skipped    14 on purpose: 12 .png, 2 empty",
        "    records    88 created, 3 deleted, 4,100 unchanged",
        "    requests   14 sent; 2 throttled, and sent again",
        "",
        "In sync.",
    ]


def test_what_is_to_be_installed_is_told_once() -> None:
    """Several formats need the same. A file's name is no advice."""
    extra = "needs: pip install 'agentcore-memory-sync[documents]'"
    report = SourceReport("handbook")
    report.documents.skipped = {
        f"unsupported type .docx ({extra})": 2,
        f"unsupported type .pdf ({extra})": 2,
        ".x (needs: pip install x)": 1,
    }

    lines = render_run([report], paths=PATHS).splitlines()

    assert lines[2:4] == [
        "    skipped    5 on purpose: 2 unsupported type .docx, 2 unsupported type .pdf, 1 .x (needs: pip install x)",
        "               4 of them can be read after: pip install 'agentcore-memory-sync[documents]'",
    ]


@pytest.mark.parametrize("render", [render_run, render_plan])
def test_documents_without_any_record_are_pointed_out(render: Callable[..., str]) -> None:
    """A misspelt path to the text must not look like a success."""
    report = SourceReport("wiki", documents=DocumentCounts(seen=6, added=6))
    nothing = SourceReport("wiki", documents=DocumentCounts())
    becoming_empty = SourceReport("wiki", documents=DocumentCounts(seen=1, changed=1), records=RecordCounts(deleted=1))

    assert "None of these documents" in render([report], paths=PATHS)
    assert "      memsync preview wiki.yaml" in render([report], paths=PATHS).splitlines()
    for other in (nothing, becoming_empty):
        assert "None of these documents" not in render([other], paths=PATHS)


def test_dead_letters_are_told_by_reason_with_the_next_commands() -> None:
    """The commands can be pasted: the path is quoted."""
    report = SourceReport("handbook", "dead_letters")
    report.records.dead_lettered = 5
    report.dead_letters_by_code = {"broken_pdf": 1, "too_large": 2}
    report.dead_letters_path = ".memsync/handbook.jsonl"

    text = render_run([report], paths=PATHS)

    assert text.splitlines()[-9:] == [
        "    5 dead letters in .memsync/handbook.jsonl:",
        "      2 x too_large",
        "      1 x broken_pdf",
        "      2 from earlier runs",
        "    To see why, and to send them again once the cause is gone:",
        "      memsync dead-letters 'my docs/handbook.yaml'",
        "      memsync replay 'my docs/handbook.yaml'",
        "",
        "Not in sync: 5 dead letters outstanding.",
    ]


def test_a_run_tells_what_becomes_of_its_dead_letters_by_itself() -> None:
    """Who has to act, and who has only to wait."""
    report = SourceReport("handbook", "dead_letters", quarantined=2, next_attempt_at=1_790_000_000.0)
    report.records.dead_lettered = 5

    lines = render_run([report], paths=PATHS).splitlines()

    assert "    What may have passed is sent again by itself, from 2026-09-21 14:13 UTC on." in lines
    assert "    2 quarantined: were sent again in vain too often, and by no run any more." in lines


def test_in_sync_names_what_was_dropped_by_hand() -> None:
    """Somebody has decided to go without it; whoever reads the report must know."""
    report = SourceReport("handbook", records=RecordCounts(unchanged=4, dropped=2), withheld_documents=1)

    text = render_run([report], paths=PATHS)

    assert "    records    4 unchanged, 2 dropped by hand" in text.splitlines()
    assert last_line(text) == (
        "In sync, but for 1 document gone from the source and kept as configured and 2 dead letters dropped by hand."
    )


def test_a_plan_tells_which_dead_letters_a_run_sends_again() -> None:
    """The others wait for a person."""
    report = SourceReport("handbook", "dead_letters", resent=1)
    report.records = RecordCounts(created=1, dead_lettered=3)

    text = render_plan([report], paths=PATHS)

    assert "1 dead-lettered, and sent again by a run, 2 dead-lettered, and not sent again by a run" in text


def test_the_guard_tells_how_many_of_how_many_and_how_to_allow_them() -> None:
    """Whoever must decide has to see what is at stake."""
    report = SourceReport("wiki", "guarded", withheld_documents=312)
    report.documents.seen = 28

    text = render_run([report], paths=PATHS, withheld={"wiki": DeletesWithheld("guard", 312, 340)})

    assert "312 of 340 documents are gone from the source: more than `deletes.max_fraction` allows." in text
    assert "everything else was done" in text
    assert "memsync run wiki.yaml --allow-mass-delete" in text
    assert last_line(text) == "Not in sync: the deletion of 312 documents was withheld."


def test_an_empty_listing_is_named_as_the_reason_of_the_guard() -> None:
    """It is most often a fault of the source, not a deletion."""
    report = SourceReport("wiki", "guarded", withheld_documents=1)

    assert "1 document is gone from the source: it listed nothing at all." in render_run([report], paths=PATHS)


def test_a_failed_run_tells_the_error_what_waits_and_to_run_again() -> None:
    """Nothing is lost, and the reader must be able to see that."""
    report = SourceReport("wiki", "failed", error="AgentCore refused batch 7f3c.\nRaise the quota.")
    report.records.pending = 312

    text = render_run([report], paths=PATHS, verb="replay")

    assert text.splitlines()[-8:] == [
        "    requests   none",
        "",
        "    AgentCore refused batch 7f3c.",
        "    Raise the quota.",
        "    Nothing is lost: 312 records wait in the outbox and will be delivered first. Once that is mended:",
        "      memsync replay wiki.yaml",
        "",
        "Not in sync: the replay failed.",
    ]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("locked", "Not in sync: another run holds the source."),
        ("interrupted", "Not in sync: the run was interrupted."),
    ],
)
def test_a_run_that_did_not_finish_tells_how_to_go_on(status: Status, verdict: str) -> None:
    """Both are healed by running again."""
    text = render_run([SourceReport("wiki", status)], paths=PATHS)

    assert "      memsync run wiki.yaml" in text.splitlines()
    assert last_line(text) == verdict


def test_the_last_line_of_several_sources_names_those_that_are_behind() -> None:
    """One look must tell where to look further."""
    reports = [SourceReport("handbook"), SourceReport("wiki", "failed"), SourceReport("old", "locked")]

    assert last_line(render_run(reports, paths=PATHS)) == (
        "Not in sync: 2 of 3 sources: wiki (the run failed), old (another run holds the source)."
    )
    assert last_line(render_run(reports[:1] * 2, paths=PATHS)) == "In sync: all 2 sources."
    assert last_line(render_run([], paths=PATHS)) == "Nothing was done: there is no source."


@pytest.mark.parametrize("status", ["dead_letters", "guarded", "failed", "locked", "interrupted"])
def test_no_other_status_is_called_in_sync(status: Status) -> None:
    """A run that did not bring the memory in line never says that it did."""
    text = render_run([SourceReport("wiki", status)], paths=PATHS)

    assert last_line(text).startswith("Not in sync: ")
    assert "in sync" not in text.removesuffix(last_line(text))


@pytest.mark.parametrize("counts", [RecordCounts(pending=1), RecordCounts(dead_lettered=1)])
def test_counts_that_speak_against_it_are_believed_more_than_the_status(counts: RecordCounts) -> None:
    """The summary must not say more than the account holds."""
    text = render_run([SourceReport("wiki", "in_sync", records=counts)], paths=PATHS)

    assert text.startswith("! wiki  not in sync")
    assert last_line(text).startswith("Not in sync: ")


def test_documents_kept_by_a_setting_are_not_passed_over() -> None:
    """The memory holds more than the source has, as configured."""
    text = render_run([SourceReport("wiki", withheld_documents=3)], paths=PATHS)

    assert "3 documents are gone from the source; their records stay, since `deletes.enabled` is off." in text
    assert last_line(text) == "In sync, but for 3 documents gone from the source and kept as configured."


def test_what_came_from_outside_cannot_fake_the_verdict() -> None:
    """Names, errors, codes and paths are shown escaped and indented."""
    hostile = "\x1b[2J\u202e\ud800"
    report = SourceReport(f"wiki{hostile}\nIn sync.", "failed", error=f"no\nIn sync.{hostile}")
    report.dead_letters_by_code = {f"code\nIn sync.{hostile}": 1}
    report.dead_letters_path = f"letters\nIn sync.{hostile}"
    report.documents.skipped = {f"reason\nIn sync.{hostile}": 1}

    lines = render_run([report], paths={report.name: f"a\nIn sync.{hostile}"}).splitlines()

    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("In sync") for line in lines)


def test_colour_and_signs_follow_the_style() -> None:
    """A pipe gets plain text, a terminal colour, an ASCII stream signs that it knows."""
    reports = [SourceReport("größe")]

    colored = render_run(reports, paths=PATHS, style=Style(is_colored=True))
    ascii_only = render_run(reports, paths=PATHS, style=Style(encoding="ascii"))

    assert "\x1b[32mIn sync.\x1b[0m" in colored
    assert "\x1b" not in ascii_only
    assert ascii_only.startswith(r"+ gr\xf6\xdfe  in sync")


# ---------------------------------------------------------------------------------------------------- plans


def test_a_plan_tells_what_would_be_done_and_that_nothing_was() -> None:
    """People run it before they trust a run."""
    report = SourceReport("handbook")
    report.documents = DocumentCounts(seen=3, added=2, unchanged=1)
    report.records = RecordCounts(created=9, updated=1, deleted=2, unchanged=4, pending=7)

    assert render_plan([report], paths=PATHS).splitlines() == [
        "✓ handbook  9 to create, 1 to update, 2 to delete, 7 to deliver from the outbox",
        "    documents  3 seen: 1 unchanged, 2 added",
        "    records    4 unchanged",
        "",
        "Planned, and nothing touched: 9 to create, 1 to update, 2 to delete, 7 to deliver from the outbox.",
    ]


def test_a_plan_without_changes_says_that_there_is_nothing_to_do() -> None:
    """Unless something is held back or given up on."""
    guarded = SourceReport("wiki", "guarded", withheld_documents=312)

    assert last_line(render_plan([SourceReport("wiki")], paths=PATHS)) == "Nothing to do."
    assert last_line(render_plan([guarded], paths=PATHS)) == "Nothing that a run would do, and not in sync."
    assert "memsync run wiki.yaml --allow-mass-delete" in render_plan([guarded], paths=PATHS)


def test_a_plan_that_could_not_be_made_says_so_last() -> None:
    """Half a plan must not be taken for a whole one."""
    reports = [SourceReport("handbook"), SourceReport("wiki", "failed", error="No such folder: ../wiki.")]

    text = render_plan(reports, paths=PATHS)

    assert "    No such folder: ../wiki." in text.splitlines()
    assert last_line(text) == "Nothing was touched. No plan for wiki."
