"""What `memsync explain` shows of settings that hold a reference, and beside it a secret that should not be there."""

import json
from pathlib import Path

import pytest

from pipeline.configuration.explaining import explain
from pipeline.configuration.loading import load_with_origins
from pipeline.configuration.masking import without_plain_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.com/?api_key=canary&team=${env:TEAM}", "https://example.com/?api_key=…&team=${env:TEAM}"),
        ("https://example.com/${env:TEAM}?team=${env:TEAM}&canary#canary", None),
        ("https://example.com/?key=canary${env:TEAM}", None),
        ("postgresql://reader:canary@${env:HOST}/wiki", "postgresql://…@${env:HOST}/wiki"),
        ("https://canary${env:TOKEN}@example.com/", None),
        ("reader:canary@example.com:${env:PATH}", None),
        *(
            (text, text)
            for text in (
                "postgresql://reader:${env:WIKI_PASSWORD}@db/wiki",
                "https://${env:HOST}/${env:TEAM}?team=${env:TEAM}#${env:PART}",
                "git@example.com:${env:TEAM}.git",
                "${aws-sm:wiki/url}",
                "$${HOME} costs a@b",
            )
        ),
    ],
)
def test_beside_a_reference_what_may_be_a_secret_is_hidden(text: str, shown: str | None) -> None:
    """A text with a reference was shown as it stands."""
    found = without_plain_secrets(text)

    assert "canary" not in found
    assert found == (shown or found)


def test_a_setting_that_is_named_like_a_secret_shows_nothing_but_a_reference(tmp_path: Path) -> None:
    file = tmp_path / "docs.yaml"
    auth = {"type": "basic", "user": "${env:NAME}", "password": "canary${env:PASSWORD}"}
    resource = {"name": "pages", "path": "pages", "id": "id", "text": "body"}
    source = {"type": "rest", "base_url": "https://example.com/", "auth": auth, "resources": [resource]}
    file.write_text(json.dumps({"source": source, "destination": {"endpoint_url": "local"}}))

    (loaded,) = load_with_origins([file])
    values = {setting.location[-1]: setting.value for setting in explain(loaded).settings}

    assert values["user"] == "${env:NAME}"
    assert "canary" not in str(values)
