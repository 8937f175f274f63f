"""Which settings a report shows."""

import json
from pathlib import Path

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.configuration.masking import without_secret_arguments
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
    "a header beside a reference": f"""
        type: rest
        base_url: https://${{env:HOST}}/
        headers: {{X-Team: {SECRET}}}
        resources: [{{name: pages, path: /pages, records: items, id: id, text: body}}]
    """,
    "a query beside a reference": f"type: feed\n        urls: ['https://${{env:HOST}}/feed?token={SECRET}']",
    "an argument": f"""
        type: singer
        command: [tap-wiki, --verbose, --api-token={SECRET}]
        streams: {{pages: {{text: body}}}}
    """,
    "an argument of two words": f"""
        type: singer
        command: [tap-wiki, --password, {SECRET}]
        streams: {{pages: {{text: body}}}}
    """,
    "an argument beside a reference": f"""
        type: singer
        command: [env, "WIKI_TOKEN={SECRET}", "${{env:TAP}}"]
        streams: {{pages: {{text: body}}}}
    """,
}


@pytest.mark.parametrize("place", SOURCES)
def test_no_secret_is_shown_that_stands_where_it_should_not(place: str, tmp_path: Path) -> None:
    """Reports are copied into tickets. A secret in the settings is refused where that can be told; not everywhere."""
    file = tmp_path / "docs.yaml"
    file.write_text(f"source:\n        {SOURCES[place].strip()}\n{MEMORY}\n")
    (source,) = load_sources([file])
    assert SECRET in source.model_dump_json() or SECRET in json.dumps(getattr(source.source, "written", None))

    shown = shown_settings(source)

    assert SECRET not in json.dumps(shown)
    assert NOT_SHOWN in json.dumps(shown) or "…" in json.dumps(shown, ensure_ascii=False)


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


@pytest.mark.parametrize(
    ("source", "name", "shown"),
    [
        ("{type: filesystem, path: '${env:DOCUMENTS}/wiki'}", "path", "${env:DOCUMENTS}/wiki"),
        ("{type: git, url: 'https://example.com/${env:TEAM}.git'}", "url", "https://example.com/${env:TEAM}.git"),
        (
            "{type: sql, url: 'postgresql://reader:${env:PASSWORD}@db/wiki', table: pages, id: id, text: [body]}",
            "url",
            "postgresql://db/wiki",
        ),
        ("{type: sql, url: '${aws-sm:wiki/url}', table: pages, id: id, text: [body]}", "table", "pages"),
        ("{type: sql, url: '${aws-sm:wiki/url}', table: pages, id: id, text: [body]}", "url", "${aws-sm:wiki/url}"),
        ("{type: feed, urls: ['https://${env:HOST}/a']}", "urls", ["https://${env:HOST}/a"]),
    ],
)
def test_of_a_source_with_references_its_place_is_shown(source: str, name: str, shown: object, tmp_path: Path) -> None:
    """A report that names only the type of the source leaves open which wiki it was."""
    file = tmp_path / "docs.yaml"
    file.write_text(f"source: {source}\n{MEMORY}\n")

    (settings,) = load_sources([file])

    assert shown_settings(settings)["source"][name] == shown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["tap", "--token=canary"], ["tap", "--token=…"]),
        (["tap", "--api-key", "canary", "--all"], ["tap", "--api-key", "…", "--all"]),
        (["env", "TAP_PASSWORD=canary", "tap"], ["env", "TAP_PASSWORD=…", "tap"]),
        *((words, words) for words in (["tap", "--token=${env:T}"], ["tap", "--token", "${env:T}"], ["tap", "--all"])),
        (["tap", "--format=json", "token"], ["tap", "--format=json", "token"]),
    ],
)
def test_what_is_given_to_an_option_that_is_named_like_a_secret_is_hidden(words: list[str], shown: list[str]) -> None:
    """`command: [tap, --token=...]` stood in reports, and in what `explain` prints, as it was typed."""
    assert without_secret_arguments(words) == shown
