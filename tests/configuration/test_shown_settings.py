"""Which settings a report shows."""

import json
from pathlib import Path

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.configuration.shown_settings import NOT_SHOWN, shown_settings

SECRET = "medlar-opens-the-door"
MEMORY = "destination: {type: agentcore, endpoint_url: local}"
SOURCES = {
    "a header": f"""
        type: rest
        base_url: https://api.example.com/v1/
        headers: {{X-Team: {SECRET}}}
        resources: [{{name: pages, path: /pages, records: items, id: id, text: body}}]
    """,
    "a query": f"type: feed\n        urls: ['https://example.com/feed?token={SECRET}']",
    "a configuration": f"""
        type: singer
        command: tap-wiki
        config: {{site: {SECRET}}}
        streams: {{pages: {{text: body}}}}
    """,
}


@pytest.mark.parametrize("place", SOURCES)
def test_no_secret_is_shown_that_stands_where_it_should_not(place: str, tmp_path: Path) -> None:
    """Reports are copied into tickets. A secret in the settings is refused where that can be told; not everywhere."""
    file = tmp_path / "docs.yaml"
    file.write_text(f"source:\n        {SOURCES[place].strip()}\n{MEMORY}\n")
    (source,) = load_sources([file])
    assert SECRET in source.model_dump_json()

    shown = shown_settings(source)

    assert SECRET not in json.dumps(shown)
    assert NOT_SHOWN in json.dumps(shown)


def test_what_decides_how_a_run_goes_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the environment says, which no file tells: that is where one looks last."""
    file = tmp_path / "docs.yaml"
    file.write_text(f"source: {{type: filesystem, path: documents, include: ['**/*.md']}}\n{MEMORY}\n")
    monkeypatch.setenv("MEMSYNC_WRITERS__CONCURRENCY", "3")
    (source,) = load_sources([file])

    shown = shown_settings(source)

    assert shown["source"]["path"] == "documents"
    assert shown["source"]["include"] == ["**/*.md"]
    assert shown["writers"]["concurrency"] == 3
    assert shown["deletes"] == {"enabled": True, "max_fraction": 0.2}


def test_an_address_is_shown_without_what_opens_it(tmp_path: Path) -> None:
    """Where documents come from is the first question of whoever reads a report."""
    file = tmp_path / "docs.yaml"
    file.write_text(f"source: {{type: feed, urls: ['https://example.com/a/feed.xml?key=1#x']}}\n{MEMORY}\n")

    shown = shown_settings(load_sources([file])[0])

    assert shown["source"]["urls"] == [f"https://example.com/a/feed.xml?{NOT_SHOWN}"]
