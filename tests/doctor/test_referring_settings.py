"""What `memsync doctor` says of a source whose settings hold references: as much as of any other."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import SourceSettings
from pipeline.doctor.policy import MemoryPlace, memory_arn, policy_for
from pipeline.doctor.settings import check_packages, check_secrets
from pipeline.errors import ConfigurationError

REGION, ACCOUNT, MEMORY_ID = "eu-west-1", "123456789012", "handbook-a1B2c3D4e5"
REST = {"base_url": "https://wiki.example.com/", "resources": [{"name": "pages", "path": "p", "id": "id", "text": "b"}]}


def source_of(folder: Path, **source: Any) -> SourceSettings:
    values = {"source": source, "destination": {"memory_id": MEMORY_ID, "region": REGION}}
    file = folder / "docs.yaml"
    file.write_text(json.dumps(values))
    return load_sources([file])[0]


def statements_of(settings: SourceSettings) -> list[dict[str, Any]]:
    place = MemoryPlace(memory_arn(MEMORY_ID, REGION, ACCOUNT), REGION)
    return [each for each in policy_for([(settings, place)])["Statement"] if "Sid" not in each]


async def test_the_driver_is_known_of_a_database_whose_password_is_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for a fault of memsync."""
    monkeypatch.setenv("WIKI_PASSWORD", "sesame/canary")
    url = "oracle+oracledb://reader:${env:WIKI_PASSWORD}@127.0.0.1:1/x"
    settings = source_of(tmp_path, type="sql", url=url, table="pages", id="id")

    (packages,) = await check_packages(settings)
    (secrets,) = await check_secrets(settings)

    assert (packages.verdict, packages.found) == ("problem", "not installed: driver oracledb")
    assert (secrets.verdict, secrets.found) == ("ok", "set: WIKI_PASSWORD")
    assert "canary" not in f"{packages}{secrets}"


async def test_what_only_a_store_knows_is_not_guessed(tmp_path: Path) -> None:
    settings = source_of(tmp_path, type="sql", url="${aws-sm:wiki/url}", table="pages", id="id", text="body")

    (packages,) = await check_packages(settings)
    (secrets,) = await check_secrets(settings)

    assert packages.verdict == "not_known"
    assert (secrets.verdict, secrets.found) == ("ok", "looked up when the source is read: ${aws-sm:wiki/url}")


async def test_references_to_nothing_are_missing_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cron has another environment than a shell, by reference or by name."""
    monkeypatch.delenv("WIKI_TOKEN", raising=False)
    auth = {"type": "bearer", "token": "${env:WIKI_TOKEN}"}
    settings = source_of(tmp_path, type="rest", **REST | {"auth": auth, "headers": {"X-Team": "${file:team.txt}"}})

    unset, unread = await check_secrets(settings)

    assert (unset.verdict, unset.found) == ("problem", "not set: WIKI_TOKEN (source.auth.token)")
    assert unset.cure is not None
    assert "export WIKI_TOKEN=..." in unset.cure
    assert (unread.verdict, unread.found.partition(":")[0]) == ("problem", "the file team.txt cannot be read")


def test_a_bucket_by_reference_is_in_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "our-docs")
    settings = source_of(tmp_path, type="s3", bucket="${env:BUCKET}")

    _, reading = statements_of(settings)
    assert reading["Resource"] == ["arn:aws:s3:::our-docs/*"]

    monkeypatch.delenv("BUCKET")
    with pytest.raises(ConfigurationError, match="which bucket the source reads"):
        statements_of(settings)


def test_the_policy_permits_the_secrets_that_are_referred_to(tmp_path: Path) -> None:
    """A role that is made with it could read the memory, and never the source."""
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:other-AbCdEf"
    auth = {"type": "basic", "user": "${ssm:/wiki/user}", "password": "${aws-sm:wiki/login#password}"}
    settings = source_of(tmp_path, type="rest", **REST | {"auth": auth, "headers": {"X-Team": f"${{aws-sm:{arn}}}"}})

    secrets, parameters = statements_of(settings)

    assert secrets == {
        "Effect": "Allow",
        "Action": ["secretsmanager:GetSecretValue"],
        "Resource": [arn, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:wiki/login-??????"],
    }
    assert parameters == {
        "Effect": "Allow",
        "Action": ["ssm:GetParameter"],
        "Resource": ["arn:aws:ssm:eu-west-1:123456789012:parameter/wiki/user"],
    }
