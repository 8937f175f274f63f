"""`memsync doctor`: each thing that a run needs is missed by name, with what to do, while the rest is still told."""

import json
import re
import shlex
import signal
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config

from .aws_stub import ACCOUNT, AwsStub, aws_stub
from .conftest import (
    CLEAN_MEMORY_ID,
    CREDENTIALS,
    MEMORY_ID,
    SECRET_CANARY,
    Completed,
    Folder,
    Json,
    Memory,
    Memsync,
    free_port,
)

PROJECT = Path(__file__).parents[2]
AWS = {"endpoint_url": None}  # a memory in AWS, as far as the settings say; variables lead to servers of this machine


def findings(done: Completed) -> dict[str, Json]:
    """What was found about the only source, by check."""
    (source,) = done.report["sources"]
    assert done.report["schema"] == "memsync/doctor/1"
    return {finding["check"]: finding for finding in source["findings"]}


def verdicts(done: Completed) -> dict[str, str]:
    return {check: finding["verdict"] for check, finding in findings(done).items()}


@pytest.fixture
def aws() -> Iterator[AwsStub]:
    with aws_stub() as stub:
        yield stub


def configure_source(docs: Folder, memory: Memory, **source: Any) -> None:
    """Write `docs.yaml` with another source, of which nothing is what the kit says."""
    docs.configure(memory.url)
    content = yaml.safe_load((docs.path / "docs.yaml").read_text())
    (docs.path / "docs.yaml").write_text(yaml.safe_dump({**content, "source": source}))


def in_aws(memory: Memory, aws: AwsStub, **credentials: str) -> dict[str, str]:
    """The environment of somebody whose memory is in AWS."""
    return {
        **(credentials or CREDENTIALS),
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": memory.url,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": memory.url,
        "AWS_ENDPOINT_URL_STS": aws.url,
        "AWS_ENDPOINT_URL_IAM": aws.url,
        "AWS_ENDPOINT_URL_SERVICE_QUOTAS": aws.url,
    }


@contextmanager
def control_of(url: str) -> Iterator[Any]:
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
    client = session.client("bedrock-agentcore-control", endpoint_url=url, config=Config(proxies={}))
    try:
        yield client
    finally:
        client.close()


# ------------------------------------------------------------------------------------------- all is well


def test_where_all_is_well_it_says_so_and_changes_nothing(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """Whoever sets memsync up runs this again and again; it must leave no trace, neither here nor there."""
    docs.configure(memory.url, destination=AWS, writers={"requests_per_second": None}, schedule="*/30 * * * *")
    docs.write_documents(2)
    aws.quotas = {"L-890C813A": 40.0}
    before = docs.snapshot()

    done = memsync("doctor", "docs.yaml", environment=in_aws(memory, aws))

    assert done.exit_code == 0, done.stdout
    assert done.stdout.startswith("docs  docs.yaml\n  ✓ configuration       valid, type filesystem\n")
    assert done.stdout.endswith("\nNothing stands in the way of a run. 19 ok.\n")
    assert done.stderr == ""
    for part in (
        "lists 2 documents",
        "from environment variables",
        f"assumed-role/memsync/a-session, account {ACCOUNT}",
        f"us-east-1, at {memory.url} answers",
        f"{MEMORY_ID}: status ACTIVE, events kept for 90 days",
        "permitted, as IAM says: BatchCreateMemoryRecords",
        "create 40/s, update 20/s",
    ):
        assert part in done.stdout
    page = (PROJECT / "docs" / "doctor.md").read_text()
    for line in done.stdout.splitlines()[1:-2]:
        check = re.split(r"  +", line.strip())[0][2:]
        assert f"\n| {check} | " in page, f"docs/doctor.md does not tell of {check!r}"
    assert docs.snapshot() == before
    assert memory.records() == []
    (asked,) = [parameters for action, parameters in aws.asked if action == "SimulatePrincipalPolicy"]
    assert asked["PolicySourceArn"] == [f"arn:aws:iam::{ACCOUNT}:role/memsync"]
    assert asked["ResourceArns.member.1"] == [f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:memory/{MEMORY_ID}"]


def test_the_embedded_memory_needs_no_aws(folder: Folder, memsync: Memsync) -> None:
    """The first thing that a newcomer tries is without an account; what was not looked at is said."""
    folder.configure("local", destination={"memory_id": None, "region": None})
    folder.write_documents(1)
    before = folder.snapshot()

    first = memsync("doctor", "docs.yaml", "--json", environment={})
    untouched = folder.snapshot() == before
    memsync("run", "docs.yaml", environment={})
    second = memsync("doctor", "docs.yaml", "--json", environment={})

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert untouched
    assert verdicts(first).pop("AWS") == "skipped"
    assert set(verdicts(second).values()) == {"ok", "skipped"}
    assert "none yet" in findings(first)["memory"]["found"]
    assert "holds records of this source" in findings(second)["memory"]["found"]


def test_an_embedded_memory_that_is_something_else_is_a_problem(folder: Folder, memsync: Memsync) -> None:
    """A run would stop there as well."""
    folder.configure("local", destination={"memory_id": None, "region": None})
    folder.write_documents(1)
    (folder.path / ".memsync").mkdir()
    (folder.path / ".memsync" / "local-memory.sqlite3").write_text("no database" * 100)

    done = memsync("doctor", "docs.yaml", "--json")
    ran = memsync("run", "docs.yaml")

    assert done.exit_code == 1
    assert verdicts(done)["memory"] == "problem"
    assert verdicts(done)["source"] == "ok"
    assert ran.exit_code == 1
    assert "fault of memsync" not in ran.stdout
    assert "local-memory.sqlite3 cannot be used as a local memory" in ran.stdout
    assert "Move the file away; `memsync verify --repair` makes a new one" in ran.stdout


def test_moving_a_spoilt_local_memory_away_and_repairing_fills_a_new_one(folder: Folder, memsync: Memsync) -> None:
    """A run alone trusts its ledger and says in sync, with a memory that holds nothing."""
    folder.configure("local", destination={"memory_id": None, "region": None})
    folder.write("a.md", "Where tickets go.\n")
    memsync("run", "docs.yaml")
    file = folder.path / ".memsync" / "local-memory.sqlite3"
    for part in file.parent.glob("local-memory.sqlite3-*"):
        part.unlink()
    file.write_text("no database" * 100)
    told = memsync("doctor", "docs.yaml").stdout

    file.rename(folder.path / "aside")
    repaired = memsync("verify", "docs.yaml", "--repair")
    found = memsync("search", "docs.yaml", "tickets", "--json")

    assert "`memsync verify --repair`" in told
    assert repaired.exit_code == 0
    assert [hit["document_id"] for hit in found.report["hits"]] == ["a.md"]


def test_a_memory_on_this_machine_is_asked_and_the_account_is_not(docs: Folder, memsync: Memsync) -> None:
    """`memsync local` checks no credentials, so nobody should need any."""
    docs.write_documents(1)

    done = memsync("doctor", "docs.yaml", "--json", environment={})

    assert done.exit_code == 0, done.stdout
    assert verdicts(done)["memory"] == "ok"
    assert verdicts(done)["AWS account"] == "skipped"
    assert "credentials" not in verdicts(done)


def test_a_broken_configuration_ends_it_with_its_place(docs: Folder, memsync: Memsync) -> None:
    """As everywhere: exit code 2, and the line to mend."""
    docs.configure("http://127.0.0.1:1", chunking={"max_char": 5})

    done = memsync("doctor", "docs.yaml")

    assert done.exit_code == 2
    assert "did you mean `max_chars`?" in done.stderr


def test_several_sources_are_told_apart(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """One problem is enough for the exit code; the others are told all the same."""
    docs.configure(memory.url, file="other.yaml", name="other", source={"path": "nowhere"})
    docs.write_documents(1)

    done = memsync("doctor", ".")
    one = memsync("doctor", ".", "--source", "docs")

    assert (done.exit_code, one.exit_code) == (1, 0)
    assert [line for line in done.stdout.splitlines() if line[:1] not in ("", " ")] == [
        "docs  docs.yaml",
        "other  other.yaml",
        done.stdout.splitlines()[-1],
    ]
    assert done.stdout.splitlines()[-1].startswith("Something has to be done. 1 problem, ")


# --------------------------------------------------------------------------------------------- the source


def test_a_source_that_is_not_there(docs: Folder, memsync: Memsync) -> None:
    """The folder was not mounted; everything else is told nevertheless."""
    docs.documents.rmdir()

    done = memsync("doctor", "docs.yaml", "--json")

    assert done.exit_code == 1
    assert [check for check, verdict in verdicts(done).items() if verdict == "problem"] == ["source"]
    assert "Cannot list the folder" in findings(done)["source"]["found"]


def test_a_source_without_documents(docs: Folder, memsync: Memsync) -> None:
    """A pattern that matches nothing is the usual mistake."""
    docs.write("a.png", "not text")

    done = memsync("doctor", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert verdicts(done)["source"] == "warning"
    assert "unsupported type .png" in findings(done)["source"]["found"]


def test_documents_that_may_not_be_read(docs: Folder, memsync: Memsync) -> None:
    """They can be listed, and the run would make dead letters of all of them."""
    docs.write("a.md").chmod(0)

    done = memsync("doctor", "docs.yaml", "--json", as_root=False)

    assert verdicts(done)["source"] == "ok"
    assert verdicts(done)["reading"] == "warning"
    assert "PermissionError" in findings(done)["reading"]["found"]


def test_a_document_name_that_drives_a_terminal_is_harmless(docs: Folder, memsync: Memsync) -> None:
    """The name stands in the listing; whoever can write there must not write on the terminal."""
    docs.write("evil\x1b[2J\u202e.md", "text")

    done = memsync("doctor", "docs.yaml")

    assert "evil\\x1b[2J" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_program_and_a_secret_that_are_missing(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Cron has another environment than a shell: both are the usual reasons of "it works when I type it"."""
    configure_source(
        docs,
        memory,
        type="singer",
        command="tap-nowhere",
        streams={"pages": {"id": "id", "text": "body"}},
        config_variables={"api_token": "WIKI_TOKEN"},
    )

    done = memsync("doctor", "docs.yaml", "--json")
    with_secret = memsync("doctor", "docs.yaml", "--json", environment={"WIKI_TOKEN": SECRET_CANARY})

    assert done.exit_code == 1, done.stderr
    found = findings(done)
    assert (found["packages"]["verdict"], found["packages"]["found"]) == ("problem", "not installed: tap-nowhere")
    assert found["secrets"]["found"] == "not set: WIKI_TOKEN (source.config_variables.api_token)"
    assert "export WIKI_TOKEN=..." in found["secrets"]["cure"]
    assert findings(with_secret)["secrets"]["found"] == "set: WIKI_TOKEN"


def test_a_database_without_its_driver(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """SQLAlchemy alone reaches no database."""
    configure_source(docs, memory, type="sql", url="oracle+oracledb://reader@127.0.0.1:1/x", table="t", id="id")

    done = memsync("doctor", "docs.yaml", "--json")

    assert done.exit_code == 1
    assert findings(done)["packages"]["found"] == "not installed: driver oracledb"
    assert "pip install oracledb" in findings(done)["packages"]["cure"]


# ---------------------------------------------------------------------------------------------- the state


def test_a_state_folder_that_cannot_be_written(docs: Folder, memsync: Memsync) -> None:
    """Another user made it, by a first run as root."""
    docs.write_documents(1)
    docs.state.mkdir(parents=True, mode=0o500)

    done = memsync("doctor", "docs.yaml", "--json", as_root=False)

    docs.state.chmod(0o700)
    assert done.exit_code == 1
    assert "cannot be written by this user" in findings(done)["state folder"]["found"]


def test_a_state_folder_that_cannot_be_looked_into(docs: Folder, memsync: Memsync) -> None:
    """Of another user, as when a first run was started as root: that is no fault of memsync's."""
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    docs.state.parent.chmod(0)

    done = memsync("doctor", "docs.yaml", "--json", as_root=False)

    docs.state.parent.chmod(0o700)
    problems = [check for check, verdict in verdicts(done).items() if verdict == "problem"]
    assert (done.exit_code, problems) == (1, ["state folder", "state"])
    assert "the check itself failed" not in done.stdout


def test_a_state_folder_that_is_open(docs: Folder, memsync: Memsync) -> None:
    """Where everybody may write, a run refuses; where everybody may read, names of documents are seen."""
    docs.write_documents(1)
    docs.state.mkdir(parents=True, mode=0o700)
    docs.state.chmod(0o777)
    writable = memsync("doctor", "docs.yaml", "--json")
    command = findings(writable)["state folder"]["cure"].splitlines()[-1].split()
    Path(command[-1]).chmod(stat.S_IMODE(docs.state.stat().st_mode) & ~0o002)

    readable = memsync("doctor", "docs.yaml", "--json")

    assert command[:2] == ["chmod", "o-w"]
    assert (writable.exit_code, verdicts(writable)["state folder"]) == (1, "problem")
    assert (readable.exit_code, verdicts(readable)["state folder"]) == (0, "warning")


@pytest.mark.parametrize("content", ["no database" * 100, None], ids=["damaged", "of a newer version"])
def test_a_state_that_cannot_be_used(docs: Folder, memsync: Memsync, content: str | None) -> None:
    """It is named with its file, and left as it is."""
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    file = docs.state / "state.sqlite3"
    if content is not None:
        file.write_text(content)
    else:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE meta SET value = '999' WHERE name = 'schema'")
    before = docs.snapshot()

    done = memsync("doctor", "docs.yaml", "--json")

    assert done.exit_code == 1
    assert verdicts(done)["state"] == "problem"
    assert str(file) in findings(done)["state"]["found"]
    assert docs.snapshot() == before


def test_what_is_outstanding_is_told(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Dead letters and what waits in the outbox do not go away by themselves."""
    docs.write_documents(1)
    docs.write("bad.md", "reject this")
    memory.play(reject_text="reject this")
    memsync("run", "docs.yaml")
    memory.play(script=("BatchCreateMemoryRecords:access_denied",))
    docs.write("new.md")
    memsync("run", "docs.yaml")

    done = memsync("doctor", "docs.yaml", "--json")

    assert done.exit_code == 0
    assert findings(done)["dead letters"]["found"] == "1 outstanding: 1 x 400"
    assert findings(done)["dead letters"]["cure"].splitlines()[-1] == "  memsync replay docs.yaml"
    assert findings(done)["outbox"]["found"] == "1 record in 1 batch wait to be sent again"
    assert findings(done)["lock"]["found"] == "free"


def test_a_run_at_work_is_told_from_one_that_was_killed(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The first is waited for; the second needs nothing: the next run takes over."""
    docs.write_documents(1)
    memory.play(throttle=1.0)
    running = memsync.start("run", "docs.yaml")
    running.wait_for_log("run_started")
    at_work = memsync("doctor", "docs.yaml", "--json")
    running.process.kill()
    running.process.wait()

    killed = memsync("doctor", "docs.yaml", "--json")

    assert "a run is at work" in findings(at_work)["lock"]["found"]
    assert f"process {running.process.pid}" in findings(at_work)["lock"]["found"]
    assert "left behind by run" in findings(killed)["lock"]["found"]
    assert (at_work.exit_code, killed.exit_code) == (0, 0)


def test_a_state_that_was_restored_is_told(docs: Folder, memsync: Memsync) -> None:
    """The next run compares everything first; whoever waits for it should know why."""
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    mark = docs.state / "state.mark"
    mark.write_text("restored")

    done = memsync("doctor", "docs.yaml", "--json")

    assert verdicts(done)["state"] == "warning"
    assert "it is a copy" in findings(done)["state"]["found"]


def test_a_schedule_that_nobody_keeps(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The cron job was lost with the old machine; nothing fails, and nothing is brought up to date."""
    docs.configure(memory.url, schedule="*/30 * * * *")
    docs.write_documents(1)
    memsync("run", "docs.yaml")
    kept = memsync("doctor", "docs.yaml", "--json")
    with closing(sqlite3.connect(docs.state / "state.sqlite3")) as connection, connection:
        connection.execute("UPDATE run SET ended_at = ended_at - 7200")

    late = memsync("doctor", "docs.yaml", "--json")

    assert verdicts(kept)["schedule"] == "ok"
    assert verdicts(late)["schedule"] == "warning"
    assert "the last run was 2 h 0 min ago" in findings(late)["schedule"]["found"]


# --------------------------------------------------------------------------------- the account and the region


def test_without_credentials_all_that_needs_none_is_told(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """The first problem is the one to mend; what follows from it is not known, and no other problem."""
    docs.configure(memory.url, destination=AWS)
    docs.write_documents(1)

    done = memsync("doctor", "docs.yaml", "--json", environment=in_aws(memory, aws, LANG="C.UTF-8"))

    assert done.exit_code == 1
    assert verdicts(done)["credentials"] == "problem"
    assert verdicts(done)["source"] == "ok"
    assert [check for check, verdict in verdicts(done).items() if verdict == "problem"] == ["credentials"]


def test_credentials_that_aws_does_not_take(docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync) -> None:
    """The usual ones: expired, or of a key that was deleted."""
    docs.configure(memory.url, destination=AWS)
    aws.errors = {"GetCallerIdentity": "ExpiredToken"}

    done = memsync("doctor", "docs.yaml", "--json", environment=in_aws(memory, aws))

    assert done.exit_code == 1
    assert verdicts(done)["identity"] == "problem"
    assert findings(done)["identity"]["cure"] == "Renew the credentials."


def test_where_credentials_come_from_and_when_they_end(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """Two profiles are easily mistaken for each other; and a role's credentials end."""
    ends_at = (datetime.now(UTC) + timedelta(minutes=50)).isoformat()
    answer = {
        "Version": 1,
        "AccessKeyId": "AKIAIOSFODNN7EXAMPLE",
        "SecretAccessKey": SECRET_CANARY,
        "SessionToken": SECRET_CANARY,
        "Expiration": ends_at,
    }
    (memsync.home / "answer.json").write_text(json.dumps(answer))
    (memsync.home / ".aws").mkdir()
    program = shlex.join(["cat", str(memsync.home / "answer.json")])
    (memsync.home / ".aws" / "config").write_text(f"[profile team]\ncredential_process = {program}\n")
    docs.configure(memory.url, destination={**AWS, "profile": "team"})
    docs.write_documents(1)
    environment = in_aws(memory, aws, LANG="C.UTF-8")

    done = memsync("doctor", "docs.yaml", "--json", environment=environment)
    (memsync.home / "answer.json").write_text("no JSON")
    broken = memsync("doctor", "docs.yaml", "--json", environment=environment)
    docs.configure(memory.url, destination={**AWS, "profile": "nobody"})
    unknown = memsync("doctor", "docs.yaml", "--json", environment=environment)

    found = findings(done)["credentials"]["found"]
    assert found.startswith("from a program that the profile names, profile team; they end in ")
    assert found.endswith("and are renewed by themselves")
    assert done.exit_code == 0, done.stdout
    for failed in (broken, unknown):
        assert (failed.exit_code, verdicts(failed)["credentials"]) == (1, "problem")
    assert "nobody" in findings(unknown)["credentials"]["found"]


def test_a_region_that_is_none_and_one_that_is_missing(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """A mistyped region would show as a host that cannot be found."""
    docs.configure(memory.url, destination={**AWS, "region": None})
    environment = {
        **in_aws(memory, aws),
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": f"http://127.0.0.1:{free_port()}",
    }

    none = memsync("doctor", "docs.yaml", "--json", environment=environment)
    silent = memsync("doctor", "docs.yaml", "--json", environment={**environment, "AWS_REGION": "eu-west-1"})
    no_url = {**environment, "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": "localhost"}
    garbled = memsync("doctor", "docs.yaml", "--json", environment=no_url)

    assert findings(none)["region"]["found"] == "none is set"
    assert (none.exit_code, silent.exit_code) == (1, 1)
    assert findings(silent)["region"]["found"].startswith("no AgentCore answers in eu-west-1")
    assert verdicts(silent)["memory"] == "not_known"
    assert garbled.exit_code == 1
    assert "Invalid endpoint: localhost" in findings(garbled)["region"]["found"]


# --------------------------------------------------------------------------------------------- the memory


def test_a_memory_that_is_not_there(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """The id of another account's memory, or of another region's."""
    docs.configure(memory.url, destination={"memory_id": "nobodys-a1B2c3D4e5"})

    done = memsync("doctor", "docs.yaml", "--json")

    assert done.exit_code == 1
    assert "there is no memory nobodys-a1B2c3D4e5 here" in findings(done)["memory"]["found"]
    assert f"list-memories --region us-east-1 --endpoint-url {memory.url}" in findings(done)["memory"]["cure"]
    assert verdicts(done)["indexed keys"] == "not_known"


def test_the_call_that_is_shown_adds_the_indexed_keys(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It is copied from the terminal; a mistake in it would be ours."""
    docs.write_documents(1)
    with control_of(memory.url) as control:
        created = control.create_memory(
            name="plain", eventExpiryDuration=7, indexedKeys=[{"key": "memsync-source", "type": "STRING"}]
        )
        memory_id = created["memory"]["id"]
        docs.configure(memory.url, destination={"memory_id": memory_id})
        before = memsync("doctor", "docs.yaml", "--json")
        shell, python = (
            line.strip() for line in findings(before)["indexed keys"]["cure"].splitlines() if line.startswith("  ")
        )
        words = shlex.split(shell)
        keys = [
            dict(pair.split("=") for pair in word.split(",")) for word in words[words.index("--add-indexed-keys") + 1 :]
        ]
        control.update_memory(
            memoryId=words[words.index("--memory-id") + 1],
            addIndexedKeys=[{"key": key["key"], "type": key["type"]} for key in keys],
        )
    after = memsync("doctor", "docs.yaml", "--json")

    assert words[:3] == ["aws", "bedrock-agentcore-control", "update-memory"]
    assert words[words.index("--endpoint-url") + 1] == memory.url
    compile(python, "<cure>", "eval")
    assert (before.exit_code, after.exit_code) == (0, 0)
    assert verdicts(before)["indexed keys"] == "warning"
    assert verdicts(after)["indexed keys"] == "ok"


def test_strategies_that_would_touch_the_records(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A strategy drops metadata without a word, and with it all that verify and recover rest on."""
    docs.write_documents(1)
    with control_of(memory.url) as control:
        created = control.create_memory(
            name="strategic",
            eventExpiryDuration=7,
            memoryStrategies=[
                {"semanticMemoryStrategy": {"name": "facts", "namespaceTemplates": ["/docs/docs/facts/"]}}
            ],
        )["memory"]
    memory_id, strategy_id = created["id"], created["strategies"][0]["strategyId"]
    docs.configure(memory.url, destination={"memory_id": memory_id})
    beside = memsync("doctor", "docs.yaml", "--json")
    docs.configure(memory.url, destination={"memory_id": memory_id}, record={"strategy_id": strategy_id})
    within = memsync("doctor", "docs.yaml", "--json")
    docs.configure(memory.url, destination={"memory_id": memory_id}, record={"strategy_id": "other-0123456789"})
    unknown = memsync("doctor", "docs.yaml", "--json")

    assert verdicts(beside)["strategy"] == "warning"
    assert (within.exit_code, verdicts(within)["strategy"]) == (1, "problem")
    assert "drops metadata that its schema does not name: memsync-key" in findings(within)["strategy"]["found"]
    assert (unknown.exit_code, verdicts(unknown)["strategy"]) == (1, "problem")


def test_permissions_that_are_lacking(docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync) -> None:
    """Each is named, those that can only be asked about as well."""
    docs.configure(memory.url, destination=AWS)
    docs.write_documents(1)
    memory.play(script=("ListMemoryRecords:access_denied",))
    aws.denied_actions = {"BatchDeleteMemoryRecords"}

    done = memsync("doctor", "docs.yaml", "--json", environment=in_aws(memory, aws))

    assert done.exit_code == 1
    assert findings(done)["reading the memory"]["found"] == "not permitted: ListMemoryRecords"
    assert findings(done)["writing the memory"]["found"] == "not permitted: bedrock-agentcore:BatchDeleteMemoryRecords"
    assert findings(done)["reading the memory"]["cure"].endswith("\n  memsync doctor --policy docs.yaml")


def test_who_may_ask_little_is_told_what_is_not_known(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """A role with no more than its policy may neither ask IAM nor, perhaps, for quotas: that is no problem."""
    docs.configure(memory.url, destination=AWS, writers={"requests_per_second": None})
    docs.write_documents(1)
    memory.play(script=("GetMemory:access_denied",))
    aws.errors = {"SimulatePrincipalPolicy": "AccessDenied", "ListServiceQuotas": "AccessDeniedException"}

    done = memsync("doctor", "docs.yaml", "--json", environment=in_aws(memory, aws))

    unknown = [check for check, verdict in verdicts(done).items() if verdict == "not_known"]
    assert unknown == ["memory", "strategy", "indexed keys", "writing the memory", "quotas"]
    assert findings(done)["reading the memory"]["found"] == "not permitted: GetMemory"


def test_a_rate_above_the_quota(docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync) -> None:
    """It costs time, and slows down the agents that share the account."""
    docs.configure(memory.url, destination=AWS, writers={"requests_per_second": 30})
    docs.write_documents(1)

    as_documented = memsync("doctor", "docs.yaml", "--json", environment=in_aws(memory, aws))
    aws.quotas = {"L-890C813A": 100.0, "L-A0E37F52": 100.0, "L-801A491D": 100.0, "L-5F98329B": 100.0}
    raised = memsync("doctor", "docs.yaml", "--json", environment=in_aws(memory, aws))

    assert (as_documented.exit_code, verdicts(as_documented)["quotas"]) == (0, "warning")
    assert verdicts(raised)["quotas"] == "ok"
    assert "keeps up with answers of up to 0.5 s" in findings(raised)["quotas"]["found"]


class _OldAndClosed(BaseHTTPRequestHandler):
    """A service that lets nobody in, and whose clock is ten minutes ahead of ours."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = b'{"message": "no"}'
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(403)
        self.send_header("x-amzn-errortype", "AccessDeniedException")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(datetime.now(UTC).timestamp() + 630)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def test_a_clock_that_is_wrong(docs: Folder, memsync: Memsync) -> None:
    """AWS refuses every request then, in words that speak of signatures."""
    docs.write_documents(1)
    with ThreadingHTTPServer(("127.0.0.1", 0), _OldAndClosed) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        docs.configure(f"http://127.0.0.1:{server.server_port}")

        done = memsync("doctor", "docs.yaml", "--json")

        server.shutdown()
        thread.join()
    assert done.exit_code == 1
    assert verdicts(done)["clock"] == "problem"
    assert findings(done)["clock"]["found"].startswith("10 min ")


# --------------------------------------------------------------------------------------------- the policy


def test_the_policy_names_this_memory_and_this_bucket(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """Whoever grants it wants no star where a name can stand."""
    docs.configure(memory.url, destination=AWS, writers={"requests_per_second": None})
    content = yaml.safe_load((docs.path / "docs.yaml").read_text())
    content |= {"name": "bucket", "source": {"type": "s3", "bucket": "our-docs", "prefixes": ["guide/", "faq/"]}}
    (docs.path / "bucket.yaml").write_text(yaml.safe_dump(content))

    done = memsync("doctor", "--policy", ".", environment=in_aws(memory, aws))
    as_json = memsync("doctor", "--policy", ".", "--json", environment=in_aws(memory, aws))

    policy = json.loads(done.stdout)
    arn = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:memory/{MEMORY_ID}"
    assert done.exit_code == 0
    assert as_json.report == {"schema": "memsync/policy/1", "policy": policy}
    of_the_memory, rates, listing, reading = policy["Statement"]
    assert of_the_memory["Resource"] == [arn]
    assert {action.partition(":")[0] for action in of_the_memory["Action"]} == {"bedrock-agentcore"}
    assert len(of_the_memory["Action"]) == 7
    assert rates["Action"] == ["servicequotas:ListServiceQuotas"]
    assert (listing["Action"], listing["Resource"]) == (["s3:ListBucket"], ["arn:aws:s3:::our-docs"])
    assert listing["Condition"] == {"StringLikeIfExists": {"s3:prefix": ["guide/*", "faq/*"]}}
    assert reading["Resource"] == ["arn:aws:s3:::our-docs/guide/*", "arn:aws:s3:::our-docs/faq/*"]
    assert done.stderr == ""


def test_a_policy_can_be_had_before_there_are_credentials(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """It is what the role is made with."""
    docs.configure(memory.url, destination=AWS)

    done = memsync("doctor", "--policy", "docs.yaml", environment=in_aws(memory, aws, LANG="C.UTF-8"))

    assert done.exit_code == 0
    assert json.loads(done.stdout)["Statement"][0]["Resource"] == [
        f"arn:aws:bedrock-agentcore:us-east-1:*:memory/{MEMORY_ID}"
    ]
    assert done.stderr.startswith("memsync: docs: the account is not known, and `*` stands for it")


def test_an_embedded_memory_needs_no_policy(folder: Folder, memsync: Memsync) -> None:
    """An empty policy would look like one."""
    folder.configure("local", destination={"memory_id": None, "region": None})

    done = memsync("doctor", "--policy", "docs.yaml")

    assert done.exit_code == 2
    assert "needs no policy" in done.stderr


# ---------------------------------------------------------------------------------------------- the probe


def test_a_probe_of_a_server_that_a_variable_names_says_nothing_of_aws(
    docs: Folder, memory: Memory, aws: AwsStub, memsync: Memsync
) -> None:
    """`memsync local` names that variable for whoever tries things out."""
    memory.create(CLEAN_MEMORY_ID)
    docs.configure(memory.url, destination={**AWS, "settle_s": 0})  # or else it waits for listings as AWS has them
    probe = ("doctor", "--probe", "--memory-id", CLEAN_MEMORY_ID, "--token-wait", "0", "--yes", "--json", "docs.yaml")

    done = memsync(*probe, environment={**CREDENTIALS, **in_aws(memory, aws)})

    assert done.exit_code == 0, done.stderr
    assert done.report["measured"]["endpoint_url"] == memory.url


def test_a_probe_measures_and_the_next_commands_use_it(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """AWS says nothing of these times; whoever has measured them need not wait for the worst that is imaginable."""
    memory.create(CLEAN_MEMORY_ID)
    memory.play(list_lag_s=0.5, update_lag_s=0.2)
    docs.write_documents(1)
    probe = ("doctor", "--probe", "--memory-id", CLEAN_MEMORY_ID, "--token-wait", "0.5", "--yes", "docs.yaml")

    done = memsync(*probe, "--json")
    shown = memsync(*probe)
    recovered = memsync("recover", "docs.yaml")
    looked = memsync("doctor", "docs.yaml", "--json")

    assert (done.exit_code, shown.exit_code) == (0, 0), done.stderr
    measured = done.report["measured"]
    assert (done.report["schema"], measured["memory_id"]) == ("memsync/probe/1", CLEAN_MEMORY_ID)
    assert 0.5 <= measured["list_lag_s"] < 10
    assert 0.2 <= measured["update_lag_s"] < 10
    assert measured["token_recognised_s"] >= 0.5
    assert done.report["sources"][0]["settle_s"] == pytest.approx(3 * measured["list_lag_s"])
    assert memory.records(CLEAN_MEMORY_ID) == memory.records() == []
    assert "listings show it after" in shown.stdout
    assert shown.stdout.endswith("\n  .memsync/docs/measured.json\n")
    kept = json.loads((docs.state / "measured.json").read_text())
    assert f"lists the memory twice, {3 * kept['list_lag_s']:g} s apart" in recovered.stderr
    assert f"on {CLEAN_MEMORY_ID}" in findings(looked)["timing"]["found"]


def test_a_probe_touches_no_memory_that_is_used(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """Neither the source's own, nor one that holds anything, nor any without leave."""
    docs.write_documents(1)
    memory.create(CLEAN_MEMORY_ID)
    memsync("run", "docs.yaml")
    docs.configure(memory.url, file="other.yaml", name="other", destination={"memory_id": CLEAN_MEMORY_ID})
    before = memory.contents()

    own = memsync("doctor", "--probe", "--yes", "--memory-id", MEMORY_ID, "docs.yaml")
    others = memsync("doctor", "--probe", "--yes", "--memory-id", MEMORY_ID, "other.yaml")
    unasked = memsync("doctor", "--probe", "--memory-id", CLEAN_MEMORY_ID, "docs.yaml")
    unnamed = memsync("doctor", "--probe", "docs.yaml")
    mistyped = memsync("doctor", "--probe", "--yes", "--memory-id", "a throw-away memory", "docs.yaml")

    assert [done.exit_code for done in (own, others, unasked, unnamed, mistyped)] == [2, 2, 2, 2, 2]
    assert "is the memory of the source 'docs'" in own.stderr
    assert "holds records, such as in the namespace '/docs/docs/'" in others.stderr
    assert "Say --yes if that is so." in unasked.stderr
    assert "go together" in unnamed.stderr
    assert "--memory-id has characters that the service does not allow" in mistyped.stderr
    assert memory.contents() == before
    assert memory.records(CLEAN_MEMORY_ID) == []


def test_a_probe_that_is_interrupted_deletes_what_it_wrote(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It takes a quarter of an hour: somebody will."""
    memory.create(CLEAN_MEMORY_ID)
    running = memsync.start(
        "doctor", "--probe", "--memory-id", CLEAN_MEMORY_ID, "--token-wait", "900", "--yes", "docs.yaml"
    )
    assert running.process.stderr is not None
    for line in running.process.stderr:
        if "before it sends a client token again" in line:
            break

    done = running.stop_by(signal.SIGTERM)

    assert done.exit_code == 128 + signal.SIGTERM
    assert done.stderr.endswith("memsync: interrupted; nothing was kept of what was measured\n")
    assert memory.records(CLEAN_MEMORY_ID) == []
    assert not docs.state.exists()


def test_measurements_that_do_not_hold_are_told(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """A run does without them, and nobody would notice."""
    docs.write_documents(1)
    memory.create(CLEAN_MEMORY_ID)
    memsync("doctor", "--probe", "--memory-id", CLEAN_MEMORY_ID, "--token-wait", "0", "--yes", "docs.yaml")
    file = docs.state / "measured.json"
    measured = json.loads(file.read_text())
    said = {}
    for name, change in (
        ("elsewhere", {"region": "eu-west-1"}),
        ("long ago", {"measured_at": 1.0}),
        ("broken", {"x": 1}),
    ):
        file.write_text(json.dumps(measured | change))
        said[name] = findings(memsync("doctor", "docs.yaml", "--json"))["timing"]

    assert {finding["verdict"] for finding in said.values()} == {"warning"}
    assert "was elsewhere, in eu-west-1" in said["elsewhere"]["found"]
    assert said["long ago"]["found"].endswith("long ago")
    assert "cannot be read" in said["broken"]["found"]
