"""A dead letter from the failure to its end: sent again by itself, in quarantine, by hand, edited, or dropped."""

import json
import os
import signal
import stat

import pytest

from .conftest import Folder, Memory, Memsync, program
from .terminal import on_terminal

AT_ONCE = {"max_attempts": 1, "backoff_s": 0, "quarantine_after": 2}


@pytest.fixture
def flaky(docs: Folder, memory: Memory) -> Folder:
    """Three documents; the memory is too ill to store `flaky.md`, and runs send it again whenever they come."""
    docs.configure(memory.url, dead_letters=AT_ONCE)
    docs.write("flaky.md", "A flaky text.")
    docs.write("good.md", "A good text.")
    docs.write("other.md", "Another text.")
    memory.play(reject_text="flaky", reject_code=500)
    return docs


# ----------------------------------------------------------------------------------------------- by themselves


def test_what_the_memory_was_too_ill_for_is_stored_by_a_later_run(
    flaky: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A bad hour of a service must not need a person."""
    failed = memsync("run", "docs.yaml", "--json")
    memory.play()

    done = memsync("run", "docs.yaml", "--json")

    assert (failed.exit_code, failed.source["resent"], failed.records["dead_lettered"]) == (3, 0, 1)
    assert failed.source["next_attempt_at"] is not None
    assert "What may have passed is sent again by itself, from " in failed.stdout
    assert (done.exit_code, done.source["resent"], done.records["created"]) == (0, 1, 1)
    assert [log["count"] for log in done.logs if log["event"] == "dead_letters_due"] == [1]
    assert memory.texts_of("flaky.md") == ["A flaky text."]
    assert flaky.dead_letters() == []


def test_a_letter_that_is_not_due_waits(flaky: Folder, memory: Memory, memsync: Memsync) -> None:
    """A source that runs every minute must not ask an ill memory every minute."""
    flaky.configure(memory.url, dead_letters={"max_attempts": 1})
    memsync("run", "docs.yaml")
    requests = memory.requests

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.source["resent"], memory.requests - requests) == (3, 0, 0)


def test_what_fails_again_and_again_is_quarantined_and_named_everywhere(
    flaky: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Nobody would look at what is tried for ever; and nothing that is not in sync may look as if it were."""
    runs = [memsync("run", "docs.yaml", "--json") for _ in range(3)]
    requests = memory.requests

    quiet = memsync("run", "docs.yaml", "--json")
    requests_of_quiet = memory.requests - requests
    status = memsync("status", "docs.yaml")
    as_json = memsync("status", "docs.yaml", "--json")
    plan = memsync("plan", "docs.yaml")

    assert [(run.exit_code, run.source["resent"], run.source["quarantined"]) for run in runs] == [
        (3, 0, 0),
        (3, 1, 0),
        (3, 1, 1),
    ]
    assert (quiet.exit_code, quiet.source["resent"], requests_of_quiet) == (3, 0, 0)
    assert quiet.source["next_attempt_at"] is None
    assert "1 quarantined: was sent again in vain too often, and by no run any more." in quiet.stdout
    assert "docs: 1 dead letter quarantined after replays in vain." in status.stdout
    assert as_json.source["quarantined"] == 1
    assert "1 dead-lettered, and not sent again by a run" in plan.stdout
    assert [(letter["attempts"], letter["rounds"]) for letter in flaky.dead_letters()] == [(3, 3)]


def test_a_plan_tells_what_a_run_would_send_again(flaky: Folder, memory: Memory, memsync: Memsync) -> None:
    """A plan that kept silent of it would not be what happens."""
    memsync("run", "docs.yaml")

    plan = memsync("plan", "docs.yaml")

    assert "1 dead-lettered, and sent again by a run" in plan.stdout
    assert "Planned, and nothing touched: 1 to create." in plan.stdout


def test_sending_again_can_be_switched_off(flaky: Folder, memory: Memory, memsync: Memsync) -> None:
    """Some want to look at each of them first."""
    flaky.configure(memory.url, dead_letters={**AT_ONCE, "auto_replay": False})
    memsync("run", "docs.yaml")
    memory.play()

    run = memsync("run", "docs.yaml", "--json")
    replay = memsync("replay", "docs.yaml", "--json")

    assert (run.exit_code, run.source["resent"], run.source["quarantined"]) == (3, 0, 0)
    assert replay.exit_code == 0


# --------------------------------------------------------------------------------------------------- to look at


@pytest.fixture
def refused(docs: Folder, memory: Memory) -> Folder:
    """Documents of which the memory does not want two, and one cannot be read."""
    docs.write("bad.md", "An unwanted text.")
    docs.write("faq/worse.md", "Another unwanted text.")
    docs.write("rows.jsonl", '{"id": 1, "te')
    docs.write("good.md", "A good text.")
    memory.play(reject_text="unwanted")
    return docs


def id_of(docs: Folder, document: str) -> str:
    (found,) = [letter["id"] for letter in docs.dead_letters() if letter["document_id"] == document]
    return str(found)


def listed(memsync: Memsync, *options: str) -> list[str]:
    done = memsync("dead-letters", "docs.yaml", *options, "--json")
    assert done.exit_code == 0
    return sorted(letter["document_id"] for letter in done.report["dead_letters"])


def test_letters_are_listed_with_or_without_the_name_of_the_command(refused: Folder, memsync: Memsync) -> None:
    """What was typed before there were commands below it means the same."""
    memsync("run", "docs.yaml")

    answers = [
        memsync(*words)
        for words in (
            ("dead-letters", "docs.yaml"),
            ("dead-letters", "list", "docs.yaml"),
            ("dead-letters", "--source", "docs", "docs.yaml"),
        )
    ]

    assert {answer.exit_code for answer in answers} == {0}
    assert len({answer.stdout for answer in answers}) == 1
    assert "3 dead letters for 2 reasons." in answers[0].stdout
    assert "    why: The memory refused this record alone; its words say why." in answers[0].stdout
    assert f"memsync dead-letters show docs.yaml {id_of(refused, 'bad.md')[:10]}" in answers[0].stdout


def test_letters_are_chosen_by_what_they_are(refused: Folder, memsync: Memsync) -> None:
    """Nobody reads a thousand of them."""
    memsync("run", "docs.yaml")

    assert listed(memsync) == ["bad.md", "faq/worse.md", "rows.jsonl"]
    assert listed(memsync, "--reason", "400") == ["bad.md", "faq/worse.md"]
    assert listed(memsync, "--stage", "parse") == ["rows.jsonl"]
    assert listed(memsync, "--document", "faq/*") == ["faq/worse.md"]
    assert listed(memsync, "--id", id_of(refused, "bad.md")[:12]) == ["bad.md"]
    assert listed(memsync, "--older-than", "2d") == []
    assert listed(memsync, "--older-than", "0s") == ["bad.md", "faq/worse.md", "rows.jsonl"]
    assert listed(memsync, "--quarantined") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--id", "zz"), "no dead letter has an id that begins with 'zz'"),
        (("--older-than", "soon"), "'soon' is no age such as 90m, 12h, 2d or 1w"),
        (("--stage", "sending"), "'sending' is not one of"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(
    options: tuple[str, str], said: str, refused: Folder, memsync: Memsync
) -> None:
    """An empty answer would look as if all were well."""
    memsync("run", "docs.yaml")

    for command in ("dead-letters", "replay"):
        done = memsync(command, "docs.yaml", *options)

        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


def test_one_letter_is_shown_and_its_text_only_if_asked_for(refused: Folder, memsync: Memsync) -> None:
    """Somebody may be looking over the shoulder."""
    memsync("run", "docs.yaml")
    name = id_of(refused, "bad.md")[:8]

    shown = memsync("dead-letters", "show", "docs.yaml", name)
    whole = memsync("dead-letters", "show", "docs.yaml", name, "--text")
    as_json = memsync("dead-letters", "show", "docs.yaml", name, "--json")
    unknown = memsync("dead-letters", "show", "docs.yaml", "zz")

    assert shown.exit_code == whole.exit_code == as_json.exit_code == 0
    assert "docs: bad.md" in shown.stdout
    assert "it waits for a person" in shown.stdout
    assert "An unwanted text." in whole.stdout
    assert "An unwanted text." not in shown.stdout + as_json.stdout
    assert unknown.exit_code == 2


def test_letters_are_exported_to_files_of_ones_own(refused: Folder, memsync: Memsync) -> None:
    """For a ticket, a spreadsheet or another program."""
    memsync("run", "docs.yaml")

    table = memsync("dead-letters", "export", "docs.yaml", "out.csv")
    lines = memsync("dead-letters", "export", "docs.yaml", "out.jsonl", "--reason", "400")
    printed = memsync("dead-letters", "export", "docs.yaml", "-", "--reason", "400")

    assert (table.exit_code, lines.exit_code, printed.exit_code) == (0, 0, 0)
    assert "3 dead letters written to out.csv" in table.stdout
    written = (refused.path / "out.jsonl").read_text()
    assert [json.loads(line)["document_id"] for line in written.splitlines()] == ["bad.md", "faq/worse.md"]
    assert printed.stdout == written
    assert "unwanted text" not in (refused.path / "out.csv").read_text()
    assert {stat.S_IMODE((refused.path / name).stat().st_mode) for name in ("out.csv", "out.jsonl")} == {0o600}


# ----------------------------------------------------------------------------------------------- some by hand


def test_a_replay_sends_what_is_chosen_and_leaves_the_rest(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """One cause is mended, the others are not."""
    memsync("run", "docs.yaml")
    memory.play()
    others = [letter for letter in refused.dead_letters() if letter["document_id"] != "faq/worse.md"]

    by_document = memsync("replay", "docs.yaml", "--document", "faq/*", "--json")
    left = refused.dead_letters()
    by_id = memsync("replay", "docs.yaml", "--id", id_of(refused, "bad.md")[:9], "--json")
    none = memsync("replay", "docs.yaml", "--reason", "429", "--json")

    assert (by_document.exit_code, by_document.records["created"], by_document.documents["seen"]) == (3, 1, 1)
    assert left == others
    assert (by_id.exit_code, by_id.records["created"]) == (3, 1)
    assert (none.exit_code, none.touched(), none.records["dead_lettered"]) == (3, 0, 1)
    assert "no dead letter is like that, so none is sent" in none.stderr
    assert memory.documents() == ["bad.md", "faq/worse.md", "good.md"]
    assert memory.holds_everything_once()


def test_a_replay_of_a_choice_counts_its_rounds_alone(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """Those that were not touched say so."""
    memsync("run", "docs.yaml")

    memsync("replay", "docs.yaml", "--document", "bad.md")

    rounds = {letter["document_id"]: (letter["attempts"], letter["rounds"]) for letter in refused.dead_letters()}
    assert rounds == {"bad.md": (2, 2), "faq/worse.md": (1, 1), "rows.jsonl": (1, 1)}


# ---------------------------------------------------------------------------------------------------- to drop


def test_a_replay_of_documents_that_are_gone_says_so_and_what_takes_their_letters(
    refused: Folder, memsync: Memsync
) -> None:
    """Whoever has solved it by deleting the document would replay for ever."""
    memsync("run", "docs.yaml")
    for gone in ("bad.md", "faq/worse.md", "rows.jsonl"):
        (refused.documents / gone).unlink()

    replay = memsync("replay", "docs.yaml")
    run = memsync("run", "docs.yaml")

    assert replay.exit_code == 3
    assert "None of the documents that were to be sent again was found in the source" in replay.stdout
    assert "memsync run docs.yaml" in replay.stdout
    assert "memsync replay" not in replay.stdout
    assert (run.exit_code, listed(memsync)) == (0, [])


def test_what_is_dropped_is_counted_apart_and_not_sent_until_its_document_changes(
    refused: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A person has decided to go without it: nobody is to be woken for it, and nobody is to forget it."""
    memsync("run", "docs.yaml")

    dropped = memsync("dead-letters", "drop", "docs.yaml", "--document", "*bad*", "--stage", "write", "--yes")
    some = memsync("run", "docs.yaml", "--json")
    memsync("dead-letters", "drop", "docs.yaml", "--all", "--yes")
    requests = memory.requests
    all_ = memsync("run", "docs.yaml", "--json")
    replay = memsync("replay", "docs.yaml", "--json")
    status = memsync("status", "docs.yaml")
    requests_since = memory.requests - requests

    assert (dropped.exit_code, dropped.stdout.splitlines()[0]) == (0, "1 dead letter dropped.")
    assert (some.exit_code, some.records["dead_lettered"], some.records["dropped"]) == (3, 2, 1)
    assert (some.documents["unchanged"], some.documents["failed"]) == (2, 2)
    for done in (all_, replay):
        assert (done.exit_code, done.source["status"]) == (0, "in_sync")
        assert (done.records["dead_lettered"], done.records["dropped"]) == (0, 3)
    assert (all_.documents["seen"], all_.documents["unchanged"]) == (4, 4)
    assert "In sync, but for 3 dead letters dropped by hand." in all_.stdout
    assert "In sync since the last run, but for 3 dead letters dropped by hand." in status.stdout
    assert requests_since == 0
    assert refused.dead_letters() == []
    assert listed(memsync, "--dropped") == ["bad.md", "faq/worse.md", "rows.jsonl"]


def test_a_dropped_letter_ends_with_the_next_version_of_its_document(
    refused: Folder, memory: Memory, memsync: Memsync
) -> None:
    """What was given up was one version; the next one may be wanted, or fail anew."""
    memsync("run", "docs.yaml")
    memsync("dead-letters", "drop", "docs.yaml", "--all", "--yes")
    refused.write("bad.md", "A mended text.")
    refused.write("rows.jsonl", '{"id": 1, "text": "wor')
    refused.remove("faq/worse.md")

    done = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, done.records["created"]) == (3, 1)
    assert (done.records["dead_lettered"], done.records["dropped"]) == (1, 0)
    assert [letter["document_id"] for letter in refused.dead_letters()] == ["rows.jsonl"]
    assert memory.documents() == ["bad.md", "good.md"]


def test_a_dropped_letter_can_be_sent_after_all(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """People change their minds."""
    memsync("run", "docs.yaml")
    name = id_of(refused, "bad.md")
    memsync("dead-letters", "drop", "docs.yaml", "--id", name, "--yes")
    in_vain = memsync("replay", "docs.yaml", "--id", name, "--json")
    outstanding = id_of(refused, "bad.md")
    memsync("dead-letters", "drop", "docs.yaml", "--id", name, "--yes")
    memory.play()

    done = memsync("replay", "docs.yaml", "--id", name, "--json")

    assert (in_vain.records["dead_lettered"], in_vain.records["dropped"], outstanding) == (3, 0, name)
    assert (done.records["created"], done.records["dropped"]) == (1, 0)
    assert memory.texts_of("bad.md") == ["An unwanted text."]


@pytest.mark.parametrize("answer", ["\x03", "\x04"])
def test_ctrl_c_and_the_end_of_input_drop_nothing(answer: str, refused: Folder, memsync: Memsync) -> None:
    """Whoever is frightened by the question presses Ctrl-C once, and wants to hear that it was in time."""
    memsync("run", "docs.yaml")
    here = {"PATH": os.environ["PATH"], "HOME": str(memsync.home), "NO_COLOR": "1"}

    with on_terminal([str(program()), "dead-letters", "drop", "docs.yaml", "--all"], memsync.folder, here) as terminal:
        terminal.wait_for("for good? [y/N]: ")
        if answer == "\x03":
            terminal.interrupt("stopped; no dead letter was dropped.")
        else:
            terminal.type(answer)
            terminal.wait_for("stopped; no dead letter was dropped.")
        assert terminal.finish() == 130

    assert "Aborted" not in terminal.shown
    assert listed(memsync) == ["bad.md", "faq/worse.md", "rows.jsonl"]


def test_nothing_is_dropped_by_leaving_something_out(refused: Folder, memsync: Memsync) -> None:
    """It is for good: no choice is not all, and no answer is not yes."""
    memsync("run", "docs.yaml")
    before = refused.dead_letters()

    without_choice = memsync("dead-letters", "drop", "docs.yaml", "--yes")
    unasked = memsync("dead-letters", "drop", "docs.yaml", "--all")

    assert (without_choice.exit_code, unasked.exit_code) == (2, 2)
    assert "--all means all of them" in without_choice.stderr
    assert "--yes drops them. Nothing was dropped." in unasked.stderr
    assert memsync("run", "docs.yaml", "--json").records["dead_lettered"] == 3
    assert refused.dead_letters() == before


def test_what_runs_try_anyway_cannot_be_dropped(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It would be back with the next run, as if dropping meant nothing."""
    docs.configure(memory.url, source={"max_bytes": 10})
    docs.write("large.md", "A text of more than ten bytes.")
    memsync("run", "docs.yaml")

    done = memsync("dead-letters", "drop", "docs.yaml", "--all", "--yes")

    assert done.exit_code == 1
    assert done.stdout.splitlines()[1:3] == [
        "1 dead letter cannot be dropped, since runs try again anyway:",
        "  docs: large.md (fetch, too_large)",
    ]
    assert [letter["document_id"] for letter in docs.dead_letters()] == ["large.md"]


def test_dropping_waits_for_a_run(refused: Folder, memory: Memory, memsync: Memsync) -> None:
    """A run that is at work would write over it, or send what was dropped."""
    memsync("run", "docs.yaml")
    refused.write("new.md", "A new text.")
    memory.play(reject_text="unwanted", latency_s=300)
    run = memsync.start("run", "docs.yaml", "--json")
    run.wait_for_log("run_started")

    done = memsync("dead-letters", "drop", "docs.yaml", "--all", "--yes")
    run.stop_by(signal.SIGINT)

    assert done.exit_code == 5
    assert "Another run holds the source 'docs'" in done.stderr
    assert len(refused.dead_letters()) == 3


def test_what_waited_for_a_dropped_record_is_deleted(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The old text stayed for the sake of the new one, which will not come."""
    docs.configure(memory.url, chunking={"max_chars": 200, "heading_path": False})
    kept, old, new = ("kept words " * 15, "old words " * 15, "unwanted words " * 11)
    docs.write("page.md", f"{old}\n\n{kept}")
    memsync("run", "docs.yaml")
    memory.play(reject_text="unwanted")
    docs.write("page.md", f"{kept}\n\n{new}")
    memsync("run", "docs.yaml")
    meanwhile = len(memory.texts_of("page.md"))

    memsync("dead-letters", "drop", "docs.yaml", "--all", "--yes")
    done = memsync("run", "docs.yaml", "--json")

    assert meanwhile == 2
    assert (done.exit_code, done.records["deleted"]) == (0, 1)
    assert [text.strip() for text in memory.texts_of("page.md")] == [kept.strip()]
