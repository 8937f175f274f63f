"""The JSON Schema that editors check a source's file by: it takes what memsync takes, and refuses what it can."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from yamlcore import CoreLoader

from connectors import BUILT_IN, connector_types
from pipeline.configuration.loading import load_sources
from pipeline.configuration.schema import schema_of
from pipeline.errors import ConfigurationError

CONFIGS = Path(__file__).parents[2] / "configs"
WRITTEN = CONFIGS / "memsync.schema.json"
MODELINE = f"# yaml-language-server: $schema={WRITTEN.name}\n"

MINIMAL = """\
source: {type: filesystem, path: ..}
destination: {endpoint_url: local}
"""
SQL = """\
source: {type: sql, url: "sqlite:///a.db", table: pages, id: id}
destination: {endpoint_url: local}
"""
REST = """\
source:
  type: rest
  base_url: https://notes.example.com
  auth: {type: bearer, token_variable: TOKEN}
  resources:
    - {name: notes, path: /notes, id: id, text: text}
destination: {endpoint_url: local}
"""


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("MEMSYNC_"):
            monkeypatch.delenv(name)


def built_in_schema() -> dict[str, Any]:
    return schema_of({name: connector_types()[name].settings_model for name in BUILT_IN})


SCHEMA = built_in_schema()


def faults(text: str) -> list[str]:
    """What an editor would mark."""
    values = yaml.load(text, CoreLoader)
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(values)]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_beside_the_examples_is_that_of_the_code() -> None:
    """Those who copy an example copy it along. `memsync schema --write configs/memsync.schema.json` makes it."""
    assert json.loads(WRITTEN.read_text()) == SCHEMA


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_names_the_schema_and_is_taken_by_it(file: Path) -> None:
    """An example full of red lines in the editor teaches to ignore red lines."""
    text = file.read_text()

    assert text.startswith(MODELINE)
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL,
        SQL.replace("id: id", "id: [a, b]"),
        SQL.replace("id: id", "id: id, page_rows: '${env:ROWS}', media_type: '${env:KIND}'"),
        MINIMAL + "schedule: '*/30 * * * *'\nrecord: {metadata: {a: 1, b: [x], c: true, d: '{title}'}, namespace: /a/}",
        MINIMAL + "name: ${env:NAME}\nwriters: {concurrency: '${env:WRITERS}'}",
        MINIMAL + "schedule: null\ndestination: {memory_id: handbook-a1B2c3D4e5, region: eu-west-1}".partition("\n")[0],
        REST.replace("/notes, id", "/notes, pagination: {type: page}, id"),
        "extends: _shared.yaml\nsource: {path: x}",
        "extends: [_shared.yaml, _more.yaml]",
        "destination: {region: eu-west-1}\nwriters: {concurrency: 3}",
        "source: {type: singer, command: tap, streams: {pages: null}}\ndestination: {endpoint_url: local}",
    ],
)
def test_what_memsync_takes_is_taken(text: str) -> None:
    """Also what is written by reference, and a file that others extend."""
    assert faults(text) == []


REFUSED = [
    MINIMAL + "writers: {concurency: 3}",
    MINIMAL + "scedule: x",
    MINIMAL.replace("path", "paht"),
    MINIMAL.replace(": filesystem", ": filesytem"),
    MINIMAL.replace("type: filesystem, ", ""),
    MINIMAL.replace("endpoint_url: local", ""),
    MINIMAL.replace("local", "local, type: goodmem"),
    "source: {type: filesystem, path: .}",
    MINIMAL + "writers:",
    MINIMAL + "writers: [1]",
    MINIMAL + "writers: {concurrency: 0}",
    MINIMAL + "writers: {concurrency: 1.5}",
    MINIMAL + "deletes: {max_fraction: true}",
    MINIMAL + "deletes: {enabled: perhaps}",
    MINIMAL + "name: 2024",
    MINIMAL + "name: ../x",
    MINIMAL + "schedule: hourly",
    MINIMAL + "record: {metadata: {memsync-key: 1}}",
    MINIMAL + "record: {metadata: {a: {b: 1}}}",
    MINIMAL + "record: {metadata: {a: [1]}}",
    MINIMAL + "record: {namespace: docs}",
    MINIMAL.replace("endpoint_url: local", "memory_id: x"),
    MINIMAL.replace("local", "ftp://x"),
    MINIMAL.replace("..", "., include: a"),
    MINIMAL.replace("..", "., hidden: 7"),
    SQL.replace("id: id", "id: []"),
    SQL.replace("id: id", "id: id, media_type: rtf"),
    SQL.replace("id: id", "id: id, tabel: x"),
    REST.replace("text: text", "txet: text"),
    REST.replace("bearer, token_variable", "bearer, token_varible"),
    REST.replace("type: bearer", "type: bear"),
    REST.replace("https://notes", "ftp://notes"),
    REST.replace("\n    - {name: notes, path: /notes, id: id, text: text}", " []"),
    MINIMAL + "extends: {a: b}",
    MINIMAL + "extends: []",
    "extends: _shared.yaml\nwriters: {concurency: 3}",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_memsync_refuses_is_refused(tmp_path: Path, text: str) -> None:
    """A red line while typing is worth more than a message afterwards. It says so of the same things as memsync."""
    file = tmp_path / "docs.yaml"
    file.write_text(text)
    (tmp_path / "_shared.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigurationError):
        load_sources([file])

    assert faults(text) != []


def test_a_fault_is_told_once() -> None:
    """Of choices without conditions, a validator says only that none fits."""
    (in_choice,) = faults(REST.replace("token_variable", "token_varible"))
    (in_source,) = faults(SQL.replace("id: id", "id: id, tabel: x"))

    assert "token_varible" in in_choice
    assert "tabel" in in_source


def test_the_reference_in_the_documentation_is_that_of_the_code() -> None:
    """A setting that is not there does not exist for those who read. `make reference` writes it."""
    script = CONFIGS.parent / "docs" / "configuration_reference.py"

    done = subprocess.run(
        [sys.executable, str(script), "--check"], env={"PYTHONPATH": str(CONFIGS.parent)}, check=False
    )

    assert done.returncode == 0


def settings_in(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in schema["$defs"].items():
        for key, each in definition.get("properties", {}).items():
            yield f"{name}.{key}", each


def test_every_setting_is_explained() -> None:
    """It is what an editor shows beside the key."""
    for name, setting in settings_in(SCHEMA):
        section = SCHEMA["$defs"].get(setting.get("$ref", "").removeprefix("#/$defs/"), {})
        assert name.endswith(".type") or "description" in {**section, **setting}, name


def test_nothing_is_fetched_from_elsewhere() -> None:
    """An editor must not ask a server of others, and a CI without a network must work."""
    text = json.dumps({key: value for key, value in SCHEMA.items() if key != "$schema"})

    assert '"$ref": "http' not in text
    assert all(ref.startswith("#/$defs/") for ref in _references(SCHEMA))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
