"""What is asked for, and what typed words mean."""

from pathlib import Path

import pytest

from connectors.filesystem import FilesystemSettings
from connectors.imap.connector import ImapSettings
from connectors.web.settings import WebSettings
from pipeline.starting.fields import read_assignment, value_of, wanted
from pipeline.starting.memories import region_here, region_in, variables_of


def test_what_is_required_is_asked_for_once() -> None:
    """Everything else has a default that suits; of a secret, one of its two ways, and last."""
    (user,) = wanted(ImapSettings, {"type": "imap", "host": "a"})
    (secret,) = wanted(ImapSettings, {"type": "imap", "host": "a", "user": "b"})
    given = {"type": "imap", "host": "a", "user": "b", "password_variable": "MAIL_PASSWORD"}

    assert [(each.name, each.is_secret_name) for each in (user, secret)] == [
        ("user", False),
        ("password_variable", True),
    ]
    assert user.description
    assert wanted(ImapSettings, given) == []


def test_words_are_words_and_lists_are_written_as_yaml() -> None:
    """Who types a path must not think of quotes; a list of patterns needs some form."""
    assert value_of(FilesystemSettings, {}, "path", "no") == "no"
    assert value_of(FilesystemSettings, {}, "include", '["*.md", "*.txt"]') == ["*.md", "*.txt"]
    assert value_of(WebSettings, {}, "start", "https://example.com/") == "https://example.com/"


@pytest.mark.parametrize(
    ("name", "typed", "said"),
    [("host", "a b", "pattern"), ("port", "many", "integer"), ("port", "[", "YAML"), ("user", "", "at least 1")],
)
def test_what_is_wrong_is_said(name: str, typed: str, said: str) -> None:
    """It is asked again, and should not be answered in the same way."""
    with pytest.raises(ValueError, match=said):
        value_of(ImapSettings, {}, name, typed)


def test_an_assignment_names_a_place_and_a_value() -> None:
    """As it would stand in the file."""
    assert read_assignment("source.path=a=b") == (("source", "path"), "a=b")
    assert read_assignment("writers.concurrency=4") == (("writers", "concurrency"), 4)
    for text in ("source.path", "=x", "a..b=x", "a=["):
        with pytest.raises(ValueError, match=r"should be SECTION\.KEY=VALUE|no value in YAML"):
            read_assignment(text)


def test_the_region_is_found_where_aws_tools_find_it(tmp_path: Path) -> None:
    """Nobody should have to look it up who has set it already."""
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-west-1\n[profile team]\nregion = eu-north-1\n")
    here = {"AWS_CONFIG_FILE": str(config)}

    assert region_here({**here, "AWS_REGION": "us-east-2"}) == "us-east-2"
    assert region_here(here) == "eu-west-1"
    assert region_here({**here, "AWS_PROFILE": "team"}) == "eu-north-1"
    assert region_here({**here, "AWS_PROFILE": "none"}) is None
    config.write_bytes(b"\xff[")
    assert region_here(here) is None
    assert region_in("arn:aws:bedrock-agentcore:eu-west-2:123456789012:memory/a-a1B2c3D4e5") == "eu-west-2"


def test_the_variables_that_settings_name_are_found_at_any_depth() -> None:
    """Each has to be set before a run."""
    settings = {"password_variable": "A", "auth": {"key_variable": "B"}, "option_variables": {"x": "C"}, "url": "D"}

    assert list(variables_of({**settings, "list": [{"token_variable": "E"}], "url_variable": None})) == [
        "A",
        "B",
        "C",
        "E",
    ]
