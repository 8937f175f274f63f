"""What the commands print and how they end: a contract with people and with scripts."""

import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from pipeline.cli import COMMANDS

from .conftest import (
    CREDENTIALS,
    MEMORY_ID,
    SECRET_CANARY,
    TEXT_CANARY,
    Completed,
    Folder,
    Json,
    Memory,
    Memsync,
    client_of,
)

DOCUMENT_COUNTS = {"seen", "unchanged", "added", "changed", "removed", "failed"}
RECORD_COUNTS = {"created", "updated", "deleted", "unchanged", "dead_lettered", "pending"}
REQUEST_COUNTS = {"sent", "throttled", "retried"}
STATUSES = {"in_sync", "dead_letters", "guarded", "failed", "locked", "interrupted"}


@pytest.fixture
def synced(docs: Folder, memsync: Memsync) -> Folder:
    """Three documents that the memory holds."""
    docs.write_documents(3)
    assert memsync("run", "docs.yaml").exit_code == 0
    return docs


# ------------------------------------------------------------------------------------- what a run prints


def check_report(done: Completed, schema: str) -> None:
    report = done.report
    # A plan that found something to do is not in sync.
    statuses = STATUSES | {"changes"} if schema == "memsync/plan/1" else STATUSES
    assert (report["schema"], report["status"] in statuses, bool(report["run_id"])) == (schema, True, True)
    for source in report["sources"]:
        assert source["status"] in statuses
        assert isinstance(source["name"], str)
        assert isinstance(source["seconds"], float)
        for member, counts in (
            ("documents", DOCUMENT_COUNTS),
            ("records", RECORD_COUNTS),
            ("requests", REQUEST_COUNTS),
        ):
            assert source[member].keys() >= counts
            assert all(isinstance(source[member][name], int) for name in counts)
        assert (source["error"] is None) == (source["status"] not in ("failed", "locked"))


def test_a_plan_is_in_sync_only_if_a_run_would_find_nothing_to_do(synced: Folder, memsync: Memsync) -> None:
    """A script that looks at the status must not take a plan full of changes for a clean bill."""
    before = memsync("plan", "docs.yaml", "--json")
    synced.write("new.md")
    after = memsync("plan", "docs.yaml", "--json")

    assert [before.report["status"], after.report["status"]] == ["in_sync", "changes"]
    assert [before.exit_code, after.exit_code] == [0, 0]


def test_json_is_one_object_on_the_last_line_in_the_agreed_form(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Programs read it, also when the run failed."""
    docs.write_documents(2)
    docs.configure(memory.url, "failing.yaml", name="failing", source={"path": "missing"})

    plan = memsync("plan", "docs.yaml", "--json")
    run = memsync("run", "docs.yaml", "--json")
    replay = memsync("replay", "docs.yaml", "--json")
    failed = memsync("run", "docs.yaml", "failing.yaml", "--json")

    check_report(plan, "memsync/plan/1")
    for done in (run, replay, failed):
        check_report(done, "memsync/run/1")
    assert (failed.exit_code, failed.report["status"]) == (1, "failed")
    assert [source["status"] for source in failed.report["sources"]] == ["in_sync", "failed"]


def test_without_json_stdout_is_the_summary_and_its_last_line_the_verdict(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A person reads one line; it says in sync only of a run that brought the memory in line."""
    docs.write_documents(2)

    first = memsync("run", "docs.yaml")
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")
    second = memsync("run", "docs.yaml")

    assert first.stdout.splitlines()[-1] == "In sync."
    assert "2 seen: 2 added" in first.stdout
    assert "2 created" in first.stdout
    assert second.stdout.splitlines()[-1] == "Not in sync: 1 dead letter outstanding."
    assert "memsync replay docs.yaml" in second.stdout


def test_logs_are_json_lines_that_name_the_run(synced: Folder, memsync: Memsync) -> None:
    """Stderr goes to a collector of logs: each line is an event with its fields."""
    done = memsync("run", "docs.yaml", "--json")

    events = [line["event"] for line in done.logs]
    assert events[0] == "run_started"
    assert events[-1] == "run_finished"
    assert len(done.logs) == len(done.stderr.splitlines())
    assert {line["run_id"] for line in done.logs} == {done.report["run_id"]}


def test_a_terminal_shows_words_and_no_name_of_a_document_drives_it(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Whoever sits there reads lines, not JSON; and a name may hold what clears a screen."""
    docs.write_documents(2)
    docs.write("\x1b[2Jbad.md", f"This is unwanted {TEXT_CANARY}.")
    memory.play(reject_text="unwanted")

    exit_code, shown = memsync.on_terminal("run", "docs.yaml")

    assert exit_code == 3
    assert "Not in sync: 1 dead letter outstanding." in shown
    assert '{"' not in shown
    assert "\x1b[2J" not in shown
    assert TEXT_CANARY not in shown
    assert SECRET_CANARY not in shown


# ------------------------------------------------------------------------------------------------------ search


def test_search_shows_what_the_agent_would_find(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The best record first, with the document that it is from."""
    docs.write_documents(5)
    docs.write("parking.md", "# Parking\n\nVisitors park their cars behind the bakery.\n")
    memsync("run", "docs.yaml")

    shown = memsync("search", "docs.yaml", "where can visitors park?")
    as_json = memsync("search", "docs.yaml", "where can visitors park?", "--json", "--count", "1")
    nothing = memsync("search", "docs.yaml", "xylophone")

    assert (shown.exit_code, as_json.exit_code, nothing.exit_code) == (0, 0, 0)
    assert shown.stdout.startswith("1. docs: parking.md")
    (hit,) = as_json.report["hits"]
    assert (hit["document_id"], hit["source"]) == ("parking.md", "docs")
    assert "behind the bakery" in hit["text"]
    assert nothing.stdout == "Nothing found.\n"


def test_an_exit_code_can_be_accepted(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Kubernetes knows no success but 0: a dead letter would have it run the source again and again."""
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")

    accepted = memsync("run", "docs.yaml", "--json", "--accept", "3", "--accept", "5")
    others = memsync("run", "docs.yaml", "--accept", "4")

    assert (accepted.exit_code, accepted.report["status"]) == (0, "dead_letters")
    assert others.exit_code == 3


# -------------------------------------------------------------------------------------- looking at a source


def test_status_tells_how_each_source_stands(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Before, between and after runs, from the state alone."""
    docs.configure(memory.url, schedule="0 3 * * *", schedule_zone="Asia/Tokyo")
    docs.write_documents(2)
    docs.write("bad.md", "This is unwanted.")
    memory.play(reject_text="unwanted")

    never = memsync("status", "docs.yaml", "--json")
    assert not docs.state.exists()
    memsync("run", "docs.yaml")
    requests = memory.requests
    after = memsync("status", "docs.yaml", "--json")
    table = memsync("status", "docs.yaml")

    (row,) = never.report["sources"]
    assert (row["status"], row["last_run_at"], row["records"]) == (None, None, 0)
    (row,) = after.report["sources"]
    assert (row["status"], row["documents"], row["records"], row["dead_letters"]) == ("dead_letters", 3, 2, 1)
    assert row["next_run_at"] > row["last_run_at"]
    assert row["next_run_at"] % 86_400 == 18 * 3600  # three in the morning there
    assert table.stdout.splitlines()[-1] == "Not in sync: 1 of 1 source."
    assert (never.exit_code, after.exit_code, table.exit_code, memory.requests) == (0, 0, 0, requests)


def test_a_state_that_cannot_be_read_does_not_hide_the_others(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """One broken disk among forty sources: the other rows are what one has come for."""
    docs.configure(memory.url, "wiki.yaml", name="wiki")
    docs.write_documents(1)
    memsync("run", ".")
    (docs.state / "state.sqlite3").write_bytes(b"no database" * 1_000)

    shown = memsync("status", ".")
    as_json = memsync("status", ".", "--json")
    alone = memsync("status", "docs.yaml")

    assert (shown.exit_code, as_json.exit_code, alone.exit_code) == (1, 1, 1)
    rows = shown.stdout.splitlines()
    assert rows[1].startswith("✗ docs    unknown")
    assert rows[2].startswith("✓ wiki    in sync")
    assert rows[-1] == "Not in sync: 1 of 2 sources."
    assert [(row["status"], bool(row["error"])) for row in as_json.report["sources"]] == [
        (None, True),
        ("in_sync", False),
    ]
    assert alone.stderr.startswith("memsync: ")


def test_validate_says_so_of_a_valid_file(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """And asks nobody: it works without a network."""
    done = memsync("validate", ".")

    assert (done.exit_code, memory.requests) == (0, 0)
    assert "docs.yaml: source 'docs' is valid" in done.stdout


def test_dead_letters_of_a_source_that_has_none(synced: Folder, memsync: Memsync) -> None:
    """The usual case is one short line."""
    done = memsync("dead-letters", "docs.yaml")

    assert (done.exit_code, done.stdout) == (0, "No dead letters.\n")


# ---------------------------------------------------------------------------------------------- environment


def test_a_setting_from_the_environment_wins(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """One file serves many deployments. A single writer waits for each answer before the next request."""
    latency_s, requests = 0.3, 3
    docs.write_documents(100 * requests)
    memory.play(latency_s=latency_s)

    done = memsync("run", "docs.yaml", "--json", environment={**CREDENTIALS, "MEMSYNC_WRITERS__CONCURRENCY": "1"})

    assert done.exit_code == 0
    assert done.source["requests"]["sent"] >= requests
    assert done.source["seconds"] >= latency_s * done.source["requests"]["sent"]


@pytest.mark.parametrize(
    ("variable", "value"), [("MEMSYNC_WRITERS__CONCURRENCY", "0"), ("MEMSYNC_WRITRS__CONCURRENCY", "4")]
)
def test_a_fault_in_the_environment_is_named_by_its_variable(
    variable: str, value: str, docs: Folder, memsync: Memsync
) -> None:
    """It stands in no file, so a place in the file would lead astray."""
    done = memsync("validate", "docs.yaml", environment={variable: value})

    assert done.exit_code == 2
    assert variable in done.stderr


# ---------------------------------------------------------------------------------------- the local memory


def test_memsync_local_serves_other_clients_and_keeps_what_they_store(memsync: Memsync) -> None:
    """An AWS client in any language can be tried against it; it stops when told to."""

    def serve(use: Any) -> Completed:
        server = memsync.start("local", "--port", "0", "--data", "memory.sqlite3")
        url = re.search(r"http://127\.0\.0\.1:\d+", server.read_line())
        assert url is not None
        with client_of(url[0]) as client:
            use(client)
        return server.stop_by(signal.SIGTERM)

    def store(client: Any) -> None:
        record: Json = {
            "requestIdentifier": "one",
            "namespaces": ["/notes/"],
            "content": {"text": "Kept."},
            "timestamp": 1_700_000_000,
        }
        client.batch_create_memory_records(memoryId=MEMORY_ID, records=[record])

    def read(client: Any) -> None:
        found = client.list_memory_records(memoryId=MEMORY_ID, namespacePath="/")["memoryRecordSummaries"]
        assert [record["content"]["text"] for record in found] == ["Kept."]

    assert serve(store).exit_code == 0
    assert serve(read).exit_code == 0
    assert (memsync.folder / "memory.sqlite3").stat().st_mode & 0o077 == 0


def test_help_says_of_every_command_in_whole_what_it_is_for(memsync: Memsync) -> None:
    """A line that ends in dots on a usual terminal leaves its reader with nothing."""
    done = memsync("--help")

    lines = [line for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0] in COMMANDS]
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


def test_help_names_every_command_and_exit_code(memsync: Memsync) -> None:
    """Whoever forgot a word asks the command, not a web page."""
    done = memsync("--help")

    commands = {
        "run",
        "plan",
        "replay",
        "dead-letters",
        "status",
        "verify",
        "recover",
        "search",
        "validate",
        "local",
        "doctor",
    }
    assert done.exit_code == 0
    assert commands <= {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert "Exit codes" in done.stdout


def test_the_module_is_the_command(docs: Folder, memsync: Memsync) -> None:
    """`python -m pipeline` works where scripts are not on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "validate", str(docs.path / "docs.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "is valid" in done.stdout


# ------------------------------------------------------------------------------------------ types of sources


def test_the_types_of_sources_are_listed(folder: Folder, memsync: Memsync) -> None:
    """With what each is for, before there is any configuration."""
    done = memsync("sources")
    as_json = memsync("sources", "--json")

    assert (done.exit_code, as_json.exit_code) == (0, 0)
    listed = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "filesystem Which files below which folder are documents. built in" in listed
    assert as_json.report["schema"] == "memsync/sources/1"
    assert {"filesystem", "git", "s3", "singer", "sql"} <= {each["type"] for each in as_json.report["types"]}


@pytest.mark.parametrize("type_name", ["feed", "filesystem", "s3"])
def test_what_a_type_can_be_told_is_a_configuration_to_start_from(
    docs: Folder, memsync: Memsync, type_name: str
) -> None:
    """Pasted, with what must be given filled in, it is valid."""
    done = memsync("sources", type_name)

    assert done.exit_code == 0
    text = done.stdout.replace("path: ...", "path: docs").replace("bucket: ...", "bucket: handbook")
    text = text.replace("urls: ...", "urls: https://example.com/feed")
    assert "..." not in text.replace("R2 ...", "")
    memory = f"destination: {{type: agentcore, memory_id: {MEMORY_ID}, region: us-east-1}}\n"
    (docs.path / "started.yaml").write_text(text + memory)
    assert memsync("validate", "started.yaml").exit_code == 0


def test_the_options_of_a_section_are_explained_like_others(folder: Folder, memsync: Memsync) -> None:
    done = memsync("sources", "web")

    assert "\n    # How many requests may be under way at once.\n    connections: 4\n" in done.stdout


def test_a_type_that_does_not_exist_names_the_nearest(docs: Folder, memsync: Memsync) -> None:
    """As everywhere else."""
    done = memsync("sources", "filesytem")

    assert done.exit_code == 2
    assert "did you mean `filesystem`?" in done.stderr


# ------------------------------------------------------------------------------------------- one document


def test_a_preview_shows_what_a_document_becomes_and_touches_nothing(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Whoever sets a source up looks at one document, before thousands of records are written."""
    docs.configure(memory.url, record={"metadata": {"team": "{metadata.team}"}}, chunking={"max_chars": 500})
    docs.write("a.md", f"---\nteam: support\nlang: en\n---\n# A title\n\n{'word ' * 300}")
    before = docs.snapshot()

    done = memsync("preview", "docs.yaml")
    as_json = memsync("preview", "docs.yaml", "a.md", "--json")
    run = memsync("run", "docs.yaml", "--json")

    assert (done.exit_code, as_json.exit_code) == (0, 0)
    for piece in ("a.md", "titled A title", "not used: lang = en", "team = support", "record 1 of", "--full shows all"):
        assert piece in done.stdout, piece
    (text,) = as_json.report["document"]["texts"]
    assert len(text["records"]) == run.records["created"] > 2
    assert sorted(record["text"] for record in text["records"]) == sorted(stored.text for stored in memory.records())
    assert before.items() <= docs.snapshot().items()


@pytest.mark.parametrize(
    ("name", "content", "piece"),
    [
        ("a.jsonl", '{"id": 1, "text": "one"}\nbroken\n', "a dead letter, broken_json"),
        ("a.png", "\x00", "left out: unsupported type .png"),
        ("a.jsonl", "".join(f'{{"id": {n}, "text": "line {n}"}}\n' for n in range(7)), "first 5 documents"),
    ],
)
def test_a_preview_says_why_a_document_becomes_no_records(
    docs: Folder, memory: Memory, memsync: Memsync, name: str, content: str, piece: str
) -> None:
    """Or not all of them."""
    docs.configure(memory.url)
    docs.write(name, content)

    done = memsync("preview", "docs.yaml", name)

    assert done.exit_code == 0
    assert piece in done.stdout


def test_a_part_of_a_document_can_be_previewed_by_its_id(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Its id is what `search` and `dead-letters` show."""
    docs.configure(memory.url)
    docs.write("a#.jsonl", "".join(f'{{"id": {number}, "text": "line {number}"}}\n' for number in range(19)))

    done = memsync("preview", "docs.yaml", "a#.jsonl#17", "--json")

    (text,) = done.report["document"]["texts"]
    assert (text["id"], [record["text"] for record in text["records"]]) == ("a#.jsonl#17", ["line 17"])
    assert not done.report["document"]["has_more"]


def test_values_of_metadata_are_previewed_as_people_write_them(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    docs.configure(memory.url)
    docs.write("a.md", "---\ntags: [hr, travel]\n---\nSome text.\n")

    done = memsync("preview", "docs.yaml")

    assert "not used: tags = hr, travel\n" in done.stdout
    assert "memsync-chunk = 1\n" in done.stdout


@pytest.mark.parametrize("document", ["nope.md", "nope.md#1", "a.jsonl#1#1", "a.jsonl#2"])
def test_a_document_that_is_not_there_cannot_be_previewed(
    docs: Folder, memory: Memory, memsync: Memsync, document: str
) -> None:
    """The id may be misspelt."""
    docs.configure(memory.url)
    docs.write("a.jsonl", '{"id": 1, "text": "one"}\n')

    done = memsync("preview", "docs.yaml", document)

    assert done.exit_code == 2
    assert f"no document '{document}'" in done.stderr
