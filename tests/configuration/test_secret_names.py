"""Which settings are taken for secrets by their names: what they hold is not shown, and may change without a word."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.configuration.masking import is_secret
from pipeline.configuration.settings import listing_basis
from pipeline.errors import ConfigurationError

FEED = {"type": "feed", "urls": "https://example.com/feed"}
SHARE = {"type": "fsspec", "url": "az://docs/guide"}


def file_with(folder: Path, source: dict[str, Any]) -> Path:
    file = folder / "docs.yaml"
    file.write_text(json.dumps({"source": source, "destination": {"endpoint_url": "local"}}))
    return file


@pytest.mark.parametrize(
    "name",
    [
        *(
            "authorization",
            "X-Authorization",
            "authorisation",
            "auth",
            "X-Api-Key",
            "api_key",
            "account_key",
            "app_key",
        ),
        *("passphrase", "password", "connection_string", "sas_token", "sas", "Cookie", "signature", "private_token"),
    ],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(["source", name])


@pytest.mark.parametrize("name", ["author", "authors", "author_name", "authority", "key_prefix", "keyboard", "disk"])
def test_other_names_are_no_secrets(name: str) -> None:
    """A value that is not shown cannot be mended."""
    assert not is_secret(["source", name])


def test_an_authorization_that_stands_in_the_file_is_not_shown(tmp_path: Path) -> None:
    """It was taken for something of an author."""
    file = file_with(tmp_path, FEED | {"authorization": "Bearer canary"})

    with pytest.raises(ConfigurationError, match="a value that is not shown") as refused:
        load_sources([file])

    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "source",
    [
        FEED | {"authorization": "${env:FEED_LOGIN}"},
        *(
            SHARE | {"options": {name: "${env:FEED_LOGIN}"}}
            for name in ("account_key", "connection_string", "sas_token")
        ),
    ],
)
def test_another_secret_makes_no_other_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any]
) -> None:
    """Everything would be listed anew, whenever it is rotated."""
    file = file_with(tmp_path, source)
    bases = []
    for value in ("first", "second"):
        monkeypatch.setenv("FEED_LOGIN", value)
        bases.append(listing_basis(load_sources([file])[0]))

    assert bases[0] == bases[1]
