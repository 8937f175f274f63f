"""What is made of answers that cannot all be had from servers on this machine."""

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.imap.connector import ImapSettings
from connectors.rest.settings import RestSettings
from pipeline.configuration.settings import RecordSettings, WriterSettings
from pipeline.doctor.account import Credentials
from pipeline.doctor.credentials import judge_credentials
from pipeline.doctor.memory import Way, judge_clock, judge_indexed_keys, judge_memory, judge_region, judge_strategy
from pipeline.doctor.permissions import principal_of
from pipeline.doctor.policy import memory_arn
from pipeline.doctor.quotas import judge_quotas
from pipeline.doctor.settings import judge_schedule, secret_variables
from pipeline.doctor.source import Seen, judge_listing
from pipeline.doctor.state import FREE_BYTES_GOOD, StateFolder, judge_folder, look_at_folder
from pipeline.errors import RetryableError
from pipeline.model import Call, DocumentId, DocumentRef, LastRun, ScanError
from pipeline.reporting.examinations import ExaminedSource, Finding, render_findings

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
OWN = ("memsync-key", "memsync-source", "memsync-document", "memsync-chunk", "memsync-digest")
REGIONS = {"us-east-1", "eu-south-2", "eu-west-1"}


# ----------------------------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("left", "method", "verdict"),
    [
        (None, "env", "ok"),
        (timedelta(minutes=-1), "iam-role", "problem"),
        (timedelta(minutes=5), "iam-role", "ok"),
        (timedelta(minutes=5), "sso", "warning"),
        (timedelta(hours=5), "sso", "ok"),
    ],
)
def test_credentials_that_end(left: timedelta | None, method: str, verdict: str) -> None:
    """A role's are renewed by themselves; a login of a person is not."""
    credentials = Credentials(method, None if left is None else NOW + left, left is not None)

    assert judge_credentials(credentials, None, NOW).verdict == verdict


@pytest.mark.parametrize(
    ("caller", "principal"),
    [
        ("arn:aws:sts::123456789012:assumed-role/memsync/i-0abc", "arn:aws:iam::123456789012:role/memsync"),
        ("arn:aws-us-gov:sts::123456789012:assumed-role/a/b", "arn:aws-us-gov:iam::123456789012:role/a"),
        ("arn:aws:iam::123456789012:user/team/ann", "arn:aws:iam::123456789012:user/team/ann"),
        ("arn:aws:iam::123456789012:root", None),
        ("arn:aws:sts::123456789012:federated-user/ann", None),
    ],
)
def test_iam_is_asked_about_whom_policies_are_attached_to(caller: str, principal: str | None) -> None:
    """A session of a role has none; the role has."""
    assert principal_of(caller) == principal


def test_an_arn_is_of_the_partition_of_its_region() -> None:
    """A policy with the wrong one grants nothing, without a word."""
    assert (
        memory_arn("a-0123456789", "us-gov-west-1", "1")
        == "arn:aws-us-gov:bedrock-agentcore:us-gov-west-1:1:memory/a-0123456789"
    )
    assert memory_arn("arn:aws:x", "us-east-1", "1") == "arn:aws:x"


# ---------------------------------------------------------------------------------------- region and memory


@pytest.mark.parametrize(
    ("region", "endpoint_url", "error_code", "verdict", "words"),
    [
        (None, None, None, "problem", "none is set"),
        ("us-east-l", None, None, "problem", "did you mean `us-east-1`?"),
        ("us-east-l", "http://localhost:1", None, "ok", "at http://localhost:1"),
        ("eu-south-2", None, None, "ok", "not among those that AWS names for Memory"),
        ("eu-south-2", None, "EndpointConnectionError", "problem", "no AgentCore answers in eu-south-2"),
        ("eu-west-1", None, "NoCredentialsError", "not_known", "without credentials"),
        ("eu-west-1", None, "AccessDeniedException", "ok", "eu-west-1 answers"),
        ("eu-west-1", "http://localhost:1", "404", "problem", "no AgentCore answers in eu-west-1"),
        ("eu-west-1", None, "ThrottledException", "ok", "eu-west-1 answers"),
    ],
)
def test_a_region(
    region: str | None, endpoint_url: str | None, error_code: str | None, verdict: str, words: str
) -> None:
    """Whoever refuses has answered; a region without the service has no host to answer."""
    error = RetryableError("words", code=error_code) if error_code else None

    found = judge_region(region, endpoint_url, REGIONS, error)

    assert found.verdict == verdict
    assert words in found.found


@pytest.mark.parametrize(
    ("endpoint_url", "is_local"),
    [("http://127.0.0.1:8765", True), ("http://localhost:8765/", True), ("https://vpce-1.example.com", False)],
)
def test_a_memory_on_this_machine_that_is_down_is_to_be_started(endpoint_url: str, is_local: bool) -> None:
    """No proxy, and nothing of AWS, is to blame there."""
    found = judge_region("us-east-1", endpoint_url, REGIONS, RetryableError("x", code="EndpointConnectionError"))

    assert ("memsync local --port 8765" in found.cure) == is_local
    assert ("proxy" in found.cure) != is_local


@pytest.mark.parametrize(
    ("status", "verdict"),
    [("ACTIVE", "ok"), ("UPDATING", "ok"), ("CREATING", "warning"), ("FAILED", "problem"), ("DELETING", "problem")],
)
def test_the_status_of_a_memory(status: str, verdict: str) -> None:
    """Only an active one takes records; one that is being made will."""
    found = judge_memory({"id": "m", "status": status, "eventExpiryDuration": 1, "failureReason": "no key"})

    assert found.verdict == verdict
    assert ("no key" in found.found) == (verdict == "problem")


def test_an_index_of_another_type_is_a_problem() -> None:
    """The memory would fail each of our records, and the index cannot be taken back."""
    memory = {"id": "m", "indexedKeys": [{"key": "memsync-key", "type": "NUMBER"}]}

    assert judge_indexed_keys(memory, Way("us-east-1")).verdict == "problem"


def test_a_memory_without_room_for_our_indexes_is_told_without_a_call() -> None:
    """The call would be refused."""
    memory = {"id": "m", "indexedKeys": [{"key": f"k{number}", "type": "STRING"} for number in range(9)]}

    found = judge_indexed_keys(memory, Way("us-east-1"))

    assert found.verdict == "warning"
    assert "update-memory" not in found.cure


def test_a_call_that_is_shown_goes_where_the_settings_lead() -> None:
    """Copied from the terminal, it would ask another region, another server or another account, and find no memory."""
    way = Way("eu-west-1", "https://proxy.example/memory", "the team's")

    assert shlex.split(way.in_shell("list-memories"))[3:] == [
        *("--region", "eu-west-1", "--endpoint-url", "https://proxy.example/memory", "--profile", "the team's")
    ]
    assert way.in_python() == (
        """boto3.Session(profile_name="the team's").client("bedrock-agentcore-control", region_name="eu-west-1","""
        """ endpoint_url="https://proxy.example/memory")"""
    )
    assert Way(None).in_shell("list-memories") == "aws bedrock-agentcore-control list-memories"
    assert Way(None).in_python() == 'boto3.client("bedrock-agentcore-control")'


def strategic(kind: str, kept: list[str]) -> dict[str, Any]:
    schema = {"metadataSchema": [{"key": key} for key in kept]}
    return {"strategyId": "s-0123456789", "type": kind, "namespaces": ["/x/"], "memoryRecordSchema": schema}


@pytest.mark.parametrize(
    ("kind", "kept", "verdict"),
    [
        ("SEMANTIC", ["memsync-key", "team"], "problem"),
        ("SEMANTIC", [*OWN, "team"], "warning"),
        ("CUSTOM", [*OWN, "team"], "ok"),
        ("CUSTOM", [*OWN], "problem"),
    ],
)
def test_what_a_strategy_does_to_records(kind: str, kept: list[str], verdict: str) -> None:
    """Also metadata of the user's own is dropped, and a built-in strategy may merge."""
    record = RecordSettings(strategy_id="s-0123456789", metadata={"team": "support"})

    assert judge_strategy({"strategies": [strategic(kind, kept)]}, record).verdict == verdict


@pytest.mark.parametrize(
    ("ahead_s", "verdict"), [(None, "not_known"), (1.2, "ok"), (-30, "ok"), (90, "warning"), (-400, "problem")]
)
def test_a_clock(ahead_s: float | None, verdict: str) -> None:
    """AWS allows five minutes, a lease that two machines share one."""
    assert judge_clock(ahead_s).verdict == verdict


# ------------------------------------------------------------------------------------------------- quotas


def test_too_few_requests_at_a_time_are_told() -> None:
    """With one at a time, no more than three a second are done, whatever the quota."""
    quotas: dict[Call, float] = {}

    found = judge_quotas(WriterSettings(requests_per_second=20, concurrency=1), quotas, None)

    assert found.verdict == "warning"
    assert "set writers.concurrency to 7 or more" in found.cure


# --------------------------------------------------------------------------------------------- this machine


def place(tmp_path: Path, **changed: Any) -> StateFolder:
    return look_at_folder(tmp_path)._replace(**{"mode": 0o700, "free_bytes": FREE_BYTES_GOOD, **changed})


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({}, "ok", "1.0 GB free"),
        ({"free_bytes": 10 * 1024**2}, "problem", "0.0 GB free"),
        ({"free_bytes": 500 * 1024**2}, "warning", "0.5 GB free"),
        ({"file_system": "nfs4"}, "warning", "network file system (nfs4)"),
        ({"mode": 0o750}, "warning", "mode 750"),
    ],
)
def test_a_state_folder(tmp_path: Path, changed: dict[str, Any], verdict: str, words: str) -> None:
    """A full disk stops a run; SQLite's locks do not hold on every network file system."""
    found = judge_folder(place(tmp_path, **changed))

    assert found.verdict == verdict
    assert words in found.found


def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    """A slip in `state.path`."""
    file = tmp_path / "file"
    file.touch()

    assert judge_folder(look_at_folder(file)).verdict == "problem"
    assert look_at_folder(tmp_path / "a" / "b").there == tmp_path


def test_the_variables_of_any_connector_are_found() -> None:
    """By the convention that they all keep, also below a section and in a list of options."""
    imap = ImapSettings(type="imap", host="localhost", user="ann", password_variable="IMAP_PASSWORD")
    rest = RestSettings.model_validate(
        {
            "type": "rest",
            "base_url": "https://wiki.example.com/",
            "auth": {"type": "bearer", "token_variable": "WIKI_TOKEN"},
            "resources": [{"name": "pages", "path": "pages", "id": "id", "text": "body"}],
        }
    )

    assert dict(secret_variables(imap)) == {"password_variable": "IMAP_PASSWORD"}
    assert dict(secret_variables(rest)) == {"auth.token_variable": "WIKI_TOKEN"}


@pytest.mark.parametrize(("hours_ago", "verdict"), [(None, "ok"), (1, "ok"), (2, "ok"), (4, "warning")])
def test_a_schedule(hours_ago: float | None, verdict: str) -> None:
    """One run may be late, or at work; three are not."""
    last = None if hours_ago is None else LastRun("run", (NOW - timedelta(hours=hours_ago)).timestamp(), "{}")

    assert judge_schedule("0 * * * *", last, NOW).verdict == verdict


def test_a_run_that_did_not_end_says_nothing_of_the_schedule() -> None:
    """The lock tells of it."""
    assert judge_schedule("0 * * * *", LastRun("run", None, None), NOW).verdict == "ok"


@pytest.mark.parametrize(
    ("seen", "verdict", "words"),
    [
        (Seen(errors=[ScanError("a/", "EACCES", "Cannot list a/")]), "warning", "Cannot list a/"),
        (Seen(left_out={"unsupported type .pdf (needs: pip install 'x[documents]')"}), "warning", "pip install"),
        (Seen(), "warning", "lists no document"),
        (Seen(refs=[DocumentRef(DocumentId("a"), "file:///a", None)]), "ok", "1 document on its first page"),
    ],
)
def test_a_listing(seen: Seen, verdict: str, words: str) -> None:
    """What is left out for want of a package is left out for good, unless somebody is told."""
    found = judge_listing(seen)

    assert found.verdict == verdict
    assert words in found.found


# ---------------------------------------------------------------------------------------------- what is shown


def test_findings_are_aligned_and_their_cures_stand_below() -> None:
    """A command stands on a line of its own, to be copied; what comes from outside cannot drive the terminal."""
    findings = [
        Finding("memory", "ok", "there"),
        Finding("indexed keys", "warning", "evil\x1b[2J", "Add them:\n  aws \x1b[31m"),
        Finding("clock", "not_known", "no answer"),
        Finding("AWS", "skipped", "none"),
    ]

    assert render_findings([ExaminedSource("docs", "docs.yaml", findings)]).splitlines() == [
        "docs  docs.yaml",
        "  ✓ memory        there",
        "  ! indexed keys  evil\\x1b[2J",
        "                  Add them:",
        "                    aws \\x1b[31m",
        "  ? clock         no answer",
        "  - AWS           none",
        "",
        "Nothing stands in the way of a run. 1 warning, 1 not known, 1 skipped, 1 ok.",
    ]
    assert render_findings([]) == "No sources."
