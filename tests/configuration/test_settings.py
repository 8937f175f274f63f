"""What a YAML file and the environment may say, and how a user is told what is wrong with it."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from pydantic import BaseModel

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import LOCAL_MEMORY_ID, LOCAL_REGION, SourceSettings, listing_basis, recipe
from pipeline.configuration.values import (
    MEMORY_ID_PATTERN,
    METADATA_KEY_CHARACTERS_MAX,
    METADATA_KEY_PATTERN,
    METADATA_KEYS_MAX,
    METADATA_LIST_MAX,
    NAMESPACE_CHARACTERS_MAX,
    RECORD_EXPIRY_DAYS_MIN,
    STRATEGY_ID_CHARACTERS_MAX,
    STRATEGY_ID_PATTERN,
)
from pipeline.configuration.yaml_source import BYTES_MAX, DEPTH_MAX, NODES_MAX, read_yaml
from pipeline.errors import ConfigurationError
from pipeline.limits import service_limits
from pipeline.templates import render, template_fields

CONFIGS = Path(__file__).parents[2] / "configs"

MINIMAL = """\
source: {type: filesystem, path: ..}
destination: {endpoint_url: local}
"""

# What must be given, and so has no default to state.
REQUIRED = {"name", "source.type", "source.path", "destination.memory_id"}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("MEMSYNC_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "docs.yaml"


def load(file: Path, text: str) -> SourceSettings:
    file.write_text(text, encoding="utf-8")
    (source,) = load_sources([file])
    return source


def faults(file: Path, text: str | bytes) -> list[str]:
    """The lines of the error that `text` gives, without the folder."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigurationError) as caught:
        load_sources([file])
    return str(caught.value).replace(f"{file.parent}{os.sep}", "").splitlines()


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its path, with its field."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def at(values: Any, path: str) -> Any:
    for step in path.split("."):
        values = values[step]
    return values


def is_at(values: Any, path: str) -> bool:
    first, _, rest = path.partition(".")
    return first in values and (not rest or is_at(values[first], rest))


# ------------------------------------------------------------------------------------------- what is read


def test_what_is_left_out_has_its_default(file: Path) -> None:
    """Two lines are enough for a first run."""
    source = load(file, MINIMAL)

    assert source.name == "docs"
    assert source.record.namespace == "/docs/{source}/"
    assert source.chunking.max_chars == 4000
    assert source.writers.concurrency == 16
    assert source.schedule is None


def test_the_local_memory_needs_no_id_and_no_region(file: Path) -> None:
    """A first run must not ask for what only AWS has."""
    source = load(file, MINIMAL)

    assert source.destination.memory_id == LOCAL_MEMORY_ID
    assert source.destination.region == LOCAL_REGION


def test_a_word_is_a_word(file: Path) -> None:
    """In YAML 1.1 the name `no` is false, and 012 is ten."""
    source = load(file, MINIMAL + "name: no\nrecord: {metadata: {country: no, version: '1.10', build: 012}}")

    assert source.name == "no"
    assert source.record.metadata == {"country": "no", "version": "1.10", "build": 12}


def test_metadata_keeps_the_types_of_its_values(file: Path) -> None:
    """A number that became a text could not be compared in a search."""
    source = load(file, MINIMAL + "record: {metadata: {a: 1, b: 1.5, c: true, d: [x, y], e: '{title}'}}")

    assert source.record.metadata == {"a": 1, "b": 1.5, "c": True, "d": ("x", "y"), "e": "{title}"}


def test_the_environment_stands_above_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file serves several deployments."""
    monkeypatch.setenv("MEMSYNC_DESTINATION__REGION", "eu-west-1")
    monkeypatch.setenv("MEMSYNC_WRITERS__CONCURRENCY", "3")
    monkeypatch.setenv("MEMSYNC_SOURCE__INCLUDE", '["*.txt"]')
    monkeypatch.setenv("MEMSYNC_SCHEDULE", "null")

    source = load(file, MINIMAL + "writers: {concurrency: 5, linger_s: 2}\nschedule: 0 * * * *")

    assert source.destination.region == "eu-west-1"
    assert (source.writers.concurrency, source.writers.linger_s) == (3, 2)
    assert source.source.model_dump()["include"] == ["*.txt"]
    assert source.schedule is None


def test_an_empty_variable_sets_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Container platforms define variables without giving them a value."""
    monkeypatch.setenv("MEMSYNC_DESTINATION__REGION", "")

    assert load(file, MINIMAL).destination.region == LOCAL_REGION


def test_a_dotenv_file_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens must not depend on the folder that memsync is started in."""
    (file.parent / ".env").write_text("MEMSYNC_NAME=other\n")
    monkeypatch.chdir(file.parent)

    assert load(file, MINIMAL).name == "docs"


def test_paths_are_relative_to_the_file(file: Path) -> None:
    """Where memsync is started must not decide where its state is."""
    beside = load(file, MINIMAL)
    elsewhere = load(file, MINIMAL + "state: {path: ../state}\ndead_letters: {path: lost.jsonl}")

    assert beside.file == file
    assert beside.folder == file.parent
    assert beside.state_folder == file.parent / ".memsync" / "docs"
    assert beside.dead_letters_path == file.parent / ".memsync" / "docs" / "dead-letters.jsonl"
    assert elsewhere.state_folder == file.parent / ".." / "state" / "docs"
    assert elsewhere.dead_letters_path == file.parent / "lost.jsonl"


def test_a_linked_file_keeps_its_state_beside_the_link(tmp_path: Path) -> None:
    """Kubernetes swaps the folder behind the link of a mounted file at every change of it."""
    (tmp_path / "..2026_11_21").mkdir()
    (tmp_path / "..2026_11_21" / "docs.yaml").write_text(MINIMAL)
    (tmp_path / "docs.yaml").symlink_to(tmp_path / "..2026_11_21" / "docs.yaml")

    (source,) = load_sources([tmp_path])

    assert source.folder == tmp_path


def test_a_folder_gives_its_yaml_files_in_order(tmp_path: Path) -> None:
    """`memsync run configs` must do the same on every machine, and not trip over an editor's files."""
    for name in ("b.yaml", "a.yml", ".#a.yml", "c.json", "d.yaml.bak"):
        (tmp_path / name).write_text(MINIMAL)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "e.yaml").write_text(MINIMAL)

    assert [source.name for source in load_sources([tmp_path])] == ["a", "b"]


def test_a_file_given_twice_counts_once(file: Path) -> None:
    """A shell's pattern and a folder often name the same file."""
    file.write_text(MINIMAL)

    assert len(load_sources([file, file.parent, file.parent / "." / file.name])) == 1


# ------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "writers: {concurency: 3}", "docs.yaml:3:11: unknown key `writers.concurency`; did you mean"),
        (MINIMAL + "scedule: x", "docs.yaml:3:1: unknown key `scedule`; did you mean `schedule`?"),
        (MINIMAL + "_env_file: x", "docs.yaml:3:1: unknown key `_env_file`; known: `name`, "),
        (MINIMAL + '"a\\nb": x', "docs.yaml:3:1: unknown key `'a\\nb'`; "),
        (MINIMAL.replace("path", "paht"), "docs.yaml:1:1: `source.path` is missing"),
        (MINIMAL.replace(": filesystem", ": filesytem"), 'docs.yaml:1:16: `source.type` is "filesytem"; did'),
        (MINIMAL.replace("type: filesystem, ", ""), "docs.yaml:1:1: `source.type` is missing"),
        (MINIMAL.replace("endpoint_url: local", ""), "docs.yaml:2:1: `destination.memory_id` is missing"),
        (MINIMAL.replace("local", "local, type: goodmem"), 'docs.yaml:2:42: `destination.type` is "goodmem"; known'),
        ("source: {type: filesystem, path: .}", "docs.yaml:1:1: `destination` is missing"),
        (MINIMAL + "writers:", "docs.yaml:3:9: `writers` is null; it should be a mapping"),
        (MINIMAL + "writers: [1]", "docs.yaml:3:10: `writers` is a list; it should be a mapping"),
        (MINIMAL + "writers: {concurrency: 0}", "docs.yaml:3:24: `writers.concurrency` is 0; it should be greater"),
        (MINIMAL + "writers: {concurrency: 1.5}", "docs.yaml:3:24: `writers.concurrency` is 1.5; it should be a wh"),
        (MINIMAL + "writers: {linger_s: .nan}", "docs.yaml:3:21: `writers.linger_s` is NaN; it should be "),
        (MINIMAL + "deletes: {max_fraction: true}", "docs.yaml:3:25: `deletes.max_fraction` is true; it should be a"),
        (MINIMAL + "deletes: {enabled: perhaps}", 'docs.yaml:3:20: `deletes.enabled` is "perhaps"; it should be'),
        (MINIMAL + "name: 2024", "docs.yaml:3:7: `name` is 2024; it should be text, in quotes"),
        (MINIMAL + "name: ../x", 'docs.yaml:3:7: `name` is "../x"; it should be 1 to 64 of'),
        (MINIMAL + "chunking: {max_chars: 300, overlap_chars: 150}", "docs.yaml:3:43: `chunking.overlap_chars` is "),
        (MINIMAL + "schedule: '61 * * * *'", 'docs.yaml:3:11: `schedule` is "61 * * * *"; it should be five fields'),
        (MINIMAL + "schedule: hourly", 'docs.yaml:3:11: `schedule` is "hourly"; it should be five fields'),
        (MINIMAL + "schedule_zone: Berlin", 'docs.yaml:3:16: `schedule_zone` is "Berlin"; it should be the name of a'),
        (MINIMAL + "schedule_zone: ../x", 'docs.yaml:3:16: `schedule_zone` is "../x"; it should be the name of a time'),
        (MINIMAL + "schedule_jitter_s: -1", "docs.yaml:3:20: `schedule_jitter_s` is -1; it should be greater"),
        (MINIMAL.replace("..", "., include: a"), 'docs.yaml:1:46: `source.include` is "a"; it should be a list: ["a"]'),
        (MINIMAL + "source: 1", "docs.yaml:3:1: the key 'source' stands on line 1 already"),
        (MINIMAL + "record: {metadata: {a: 1, a: 2}}", "docs.yaml:3:27: the key 'a' stands on line 3 already"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_its_remedy(file: Path, text: str, expected: str) -> None:
    """Nobody should have to search a file for what a message means."""
    assert any(fault.startswith(expected) for fault in faults(file, text)), faults(file, text)


def test_all_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    """Correcting one fault a run would take as many runs as there are faults."""
    (tmp_path / "a.yaml").write_text(MINIMAL + "wrters: {}\nname: 3\n")
    (tmp_path / "b.yaml").write_text("a: 'x")

    with pytest.raises(ConfigurationError) as caught:
        load_sources([tmp_path])

    places = re.findall(r"(?m)^.*/(\w\.yaml:\d+:\d+): ", str(caught.value))
    assert places == ["a.yaml:3:1", "a.yaml:4:7", "b.yaml:1:6"]


def test_a_single_fault_carries_its_place(file: Path) -> None:
    """An editor can jump there."""
    file.write_text(MINIMAL + "writers: {concurrency: 0}")

    with pytest.raises(ConfigurationError) as caught:
        load_sources([file])

    assert (caught.value.path, caught.value.line, caught.value.column) == (str(file), 3, 24)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MEMSYNC_WORKERS__PROCESSES", "-1", '`workers.processes` is "-1"; it should be greater than'),
        ("MEMSYNC_WRITERS__CONCURRENCY", "0", '`writers.concurrency` is "0"; it should be greater than'),
        ("memsync_writers__concurrency", "x", '`writers.concurrency` is "x"; it should be a whole number'),
        ("MEMSYNC_WRITERS__CONCURENCY", "1", "unknown key `writers.concurency`; did you mean `concurrency`?"),
        ("MEMSYNC_WRITER__CONCURRENCY", "1", "unknown section `WRITER`; did you mean `WRITERS`?"),
        ("MEMSYNC_RECORD", '{"namespace": "x"}', '`record.namespace` is "x"; it should begin and end with `/`'),
        ("MEMSYNC_RECORD", "x", "a list or a mapping is written as JSON there"),
        ("MEMSYNC_SOURCE__INCLUDE", "*.md", "a list or a mapping is written as JSON there"),
        ("MEMSYNC_SOURCE__TYPE", "filesytem", '`source.type` is "filesytem"; did you mean `filesystem`?'),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    """A line of the file would send the reader to the wrong place."""
    monkeypatch.setenv(variable, value)

    assert faults(file, MINIMAL + "writers: {concurrency: 5}")[0].startswith(
        f"environment variable {variable}: {expected}"
    )


def test_a_fault_of_the_file_below_a_variable_is_the_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable for one setting of a section says nothing about the others."""
    monkeypatch.setenv("MEMSYNC_WRITERS__CONCURRENCY", "3")

    assert faults(file, MINIMAL + "writers: {linger_s: -1}")[0].startswith("docs.yaml:3:21: `writers.linger_s` is -1")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (MINIMAL + "record: {metadata: {api_token: [hunter2, '']}}", "hunter2"),
        (MINIMAL + "record: {metadata: {password: '{hunter2}'}}", "hunter2"),
        (MINIMAL.replace("path: ..", "path: .., api_key: hunter2"), "hunter2"),
        (MINIMAL.replace("local", "'https://me:hunter2@example.com'"), "hunter2"),
    ],
)
def test_no_message_shows_a_secret(file: Path, text: str, secret: str) -> None:
    """Messages end up in logs and tickets."""
    assert secret not in "\n".join(faults(file, text))


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    """They would take each other's records for removed documents."""
    (tmp_path / "a.yaml").write_text(MINIMAL + "name: docs\n")
    (tmp_path / "b.yaml").write_text(MINIMAL + "name: docs\n")

    with pytest.raises(ConfigurationError, match=r"b\.yaml:3:7: the name 'docs' is taken already, by .*a\.yaml"):
        load_sources([tmp_path])


def test_a_folder_without_sources_is_refused(tmp_path: Path) -> None:
    """Nothing to do must not look like everything done."""
    with pytest.raises(ConfigurationError, match=r"the folder holds no \.yaml or \.yml file"):
        load_sources([tmp_path])


def test_a_missing_file_is_refused(file: Path) -> None:
    """A mistyped path is the commonest fault."""
    with pytest.raises(ConfigurationError, match=r"docs\.yaml: cannot be read: No such file"):
        load_sources([file])


# ------------------------------------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "docs.yaml:1:1: the file holds nothing"),
        ("# only a comment\n", "docs.yaml:1:1: the file holds nothing"),
        ("- a\n", "docs.yaml:1:1: the file holds a list"),
        ("word", "docs.yaml:1:1: the file holds a single value"),
        ("a:\n\tb: 1", "docs.yaml:2:1: a tab stands where YAML wants spaces"),
        ("a: @b", "docs.yaml:1:4: a value cannot begin with '@'; put it in quotes"),
        ("a: [1, 2", "docs.yaml:2:1: did not find expected ',' or ']' while parsing a flow sequence (line 1)"),
        ("a: 1\n---\nb: 1", "docs.yaml:2:1: a second document begins here"),
        ("a: b\nc: \x07", "docs.yaml:2:4: not YAML: control characters are not allowed"),
        ("ä: b\nc: \x00", "docs.yaml:2:4: not YAML: control characters are not allowed"),
        (b"a: b\n\xc3\xa4: \xff", "docs.yaml:2:4: the file is not in UTF-8"),
        ("a: b".encode("utf-16"), "docs.yaml:1:1: the file is not in UTF-8"),
        ("a: !!python/object/apply:os.system [true]", "docs.yaml:1:4: the tag"),
        ("a: !include /etc/passwd", "docs.yaml:1:4: the tag `!include` is unknown"),
        ("a: !!int word", "docs.yaml:1:4: this cannot be read as a number"),
        (f"a: {'9' * 5000}", "docs.yaml:1:4: this cannot be read as a number"),
        (f"a: 0x{'f' * 5000}", "docs.yaml:1:4: a whole number of more than 64 bits"),
        ("1: a", "docs.yaml:1:1: a key should be text"),
        ("? [a]\n: b", "docs.yaml:1:3: a key should be text"),
        ("a: *b", "docs.yaml:1:4: found undefined alias"),
        ("a: &b [*b]", "docs.yaml:1:4: more than"),
        ("[" * (BYTES_MAX - 1), f"docs.yaml:1:{DEPTH_MAX + 1}: nested more than"),
        ("#" * (BYTES_MAX + 1), "docs.yaml: is larger than"),
        (f"a: [{'b,' * NODES_MAX}]", "docs.yaml:1:"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
            "docs.yaml:1:16: more than",
        ),
    ],
)  # fmt: skip
def test_what_is_no_mapping_of_plain_values_is_refused(file: Path, text: str | bytes, expected: str) -> None:
    """A file must neither run code, nor fill the memory, nor end in a traceback."""
    assert faults(file, text)[0].startswith(expected), faults(file, text)


def test_an_alias_is_allowed(file: Path) -> None:
    """Repeating a list by its name is honest YAML."""
    source = load(file, MINIMAL + "record: {metadata: {a: &a [x, y], b: *a}}")

    assert source.record.metadata == {"a": ("x", "y"), "b": ("x", "y")}


def test_a_byte_order_mark_is_skipped(file: Path) -> None:
    """Windows editors write one."""
    assert load(file, "\ufeff" + MINIMAL).name == "docs"


YAML_PIECES = [
    "source", "type", "filesystem", "path", "destination", "endpoint_url", "local", "record", "metadata", "writers",
    "chunking", "name", "schedule", "state", ": ", ":", "\n", "\n  ", "\n- ", "- ", "{", "}", "[", "]", ", ", "&a ",
    "*a", "!!int ", "!x ", "!!bool ", "? ", "'", '"', "|\n ", ">", "#", "%YAML 1.2", "---", "...", "\t", "~", "null",
    "true", ".inf", ".nan", "0x", "0o8", "1e999", "-", "é", "\u2028", "\x85", "\ufeff", "<<", "_env_file", "__class__",
    "{id}", "{", "*/5 * * * *", "self", "~root/x", "http://[",
]  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=strategies.one_of(
        strategies.lists(strategies.sampled_from(YAML_PIECES), max_size=30).map("".join),
        strategies.lists(strategies.sampled_from(YAML_PIECES), max_size=12).map("".join).map(MINIMAL.__add__),
        strategies.text(max_size=60),
    )
)
def test_any_text_gives_settings_or_a_configuration_error(file: Path, text: str) -> None:
    """Whatever a file holds, its reader gets a place in it and not a traceback."""
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    with contextlib.suppress(ConfigurationError):
        load_sources([file])


KEYS = list({step for path, _ in leaves(SourceSettings) for step in path.split(".")})
VALUES = strategies.recursive(
    strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(-(2**64) + 1, 2**64 - 1),
        strategies.floats(),
        strategies.text(strategies.characters(codec="utf-8"), max_size=8),
        strategies.sampled_from(["local", "agentcore", "{id}", "{", "http://[", "~nobody/x", "* * * * *"]),
    ),
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(section=strategies.sampled_from(list(SourceSettings.model_fields)), value=VALUES)
def test_any_value_gives_settings_or_a_configuration_error(file: Path, section: str, value: object) -> None:
    """Checks that expect a text must not stumble over a list."""
    base = {"source": {"type": "filesystem", "path": "."}, "destination": {"endpoint_url": "local"}}
    content = base | {section: value}
    file.write_text("\n".join(f"{key}: {_flow(part)}" for key, part in content.items()), encoding="utf-8")
    assert read_yaml(file).values.keys() == content.keys()

    with contextlib.suppress(ConfigurationError):
        load_sources([file])


def _flow(value: object) -> str:
    """`value` in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
    return str(value).lower().replace("none", "null")


# ----------------------------------------------------------------------------------------------- the checks


@pytest.mark.parametrize(
    "schedule",
    ["* * * * *", "*/30 * * * *", "0 9-17/2 1,15 jan-MAR mon", "59 23 31 12 7", "0,30 0 * * SUN,WED-FRI"],
)
def test_a_cron_expression_is_taken(file: Path, schedule: str) -> None:
    """As crontab takes them."""
    assert load(file, MINIMAL + f"schedule: '{schedule}'").schedule == schedule


@pytest.mark.parametrize(
    "schedule",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *",
     "5-1 * * * *", "1,,2 * * * *", "* * * FOO *", "x * * * *", "-1 * * * *", "1- * * * *", "¹ * * * *"],
)  # fmt: skip
def test_a_time_that_never_comes_is_refused(file: Path, schedule: str) -> None:
    """A source that silently never runs is worse than one that does not start."""
    assert faults(file, MINIMAL + f"schedule: '{schedule}'")[0].startswith("docs.yaml:3:11: `schedule` is ")


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "http://127.0.0.9", "http://[::1]:1", "https://example.com/x"]
)
def test_an_endpoint_that_keeps_documents_private_is_taken(file: Path, url: str) -> None:
    """Encrypted, or not leaving the machine."""
    source = load(file, MINIMAL.replace("local", f"'{url}', memory_id: handbook-a1B2c3D4e5"))

    assert source.destination.endpoint_url == url


@pytest.mark.parametrize(
    "url",
    ["http://example.com", "ftp://example.com", "example.com", "https://", "https://u:p@example.com", "http://[",
     "https://example.com:x", "https://example.com?x=1", "Local", ""],
)  # fmt: skip
def test_any_other_endpoint_is_refused(file: Path, url: str) -> None:
    """Documents must not cross a network in the clear by mistake."""
    text = MINIMAL.replace("local", f"'{url}', memory_id: handbook-a1B2c3D4e5")

    assert faults(file, text)[0].startswith("docs.yaml:2:29: `destination.endpoint_url` is ")


def test_an_unencrypted_endpoint_can_be_allowed(file: Path) -> None:
    """A service mesh encrypts by itself."""
    text = MINIMAL.replace("local", "'http://memory.internal', memory_id: handbook-a1B2c3D4e5, allow_http: true")

    assert load(file, text).destination.allow_http


@pytest.mark.parametrize(
    "namespace",
    ["docs/", "/docs", "/d cs/", "/{fodler}/", "/{uri}/", "/{}/", "/{0}/", "/{id!r}/", "/{id:>9}/", "/{id.__class__}/",
     "/{__class__}/", "/{id[0]}/", "/{id/", "/id}/", "/{{x}}/", "/{metadata}/", "/{metadata.}/", "/ü/", "/*/"],
)  # fmt: skip
def test_a_namespace_is_made_of_known_fields_and_plain_characters(file: Path, namespace: str) -> None:
    """A namespace that the service refuses would fail every record, one by one, in the middle of a run."""
    assert faults(file, MINIMAL + f"record: {{namespace: '{namespace}'}}")[0].startswith("docs.yaml:3:21: `record.nam")


def test_a_namespace_may_use_what_a_document_says_of_itself(file: Path) -> None:
    """Front matter often knows the team or the product."""
    namespace = "/{source}/{metadata.Product Name}/{folder}/{stem}/"

    assert load(file, MINIMAL + f"record: {{namespace: '{namespace}'}}").record.namespace == namespace


@pytest.mark.parametrize("key", ["memsync-source", "x-amz-agentcore-memory-x", "ü", "a?b", "x" * 129, ""])
def test_a_metadata_key_that_the_service_or_memsync_needs_is_refused(file: Path, key: str) -> None:
    """It would be refused by the service, or hide where a record came from."""
    fault = faults(file, MINIMAL + f"record: {{metadata: {{'{key}': 1}}}}")[0]

    assert fault.startswith("docs.yaml:3:21: the key `record.metadata.")


def test_more_metadata_than_the_service_takes_is_refused(file: Path) -> None:
    """memsync needs some of the keys for the records' provenance."""
    metadata = ", ".join(f"k{number}: 1" for number in range(METADATA_KEYS_MAX + 1))

    assert "at most 13 items" in faults(file, MINIMAL + f"record: {{metadata: {{{metadata}}}}}")[0]


def test_bounds_are_those_of_the_service() -> None:
    """They are written down here to load fast; botocore's model has the last word."""
    limits = service_limits()

    patterns = [limit.pattern for limit in (limits.memory_id, limits.strategy_id, limits.metadata_key)]
    expected = [MEMORY_ID_PATTERN, STRATEGY_ID_PATTERN, METADATA_KEY_PATTERN]
    assert [pattern and pattern.pattern for pattern in patterns] == expected
    assert limits.strategy_id.max == STRATEGY_ID_CHARACTERS_MAX
    assert limits.metadata_key.max == METADATA_KEY_CHARACTERS_MAX
    assert limits.metadata_list_max == METADATA_LIST_MAX
    assert limits.namespace.max == NAMESPACE_CHARACTERS_MAX
    assert limits.metadata_entries_max > METADATA_KEYS_MAX
    assert limits.record_expiry_days_min == RECORD_EXPIRY_DAYS_MIN


# ------------------------------------------------------------------------------------ templates and recipe


def test_a_template_is_filled_in() -> None:
    """Doubled braces stand for themselves, and what a document does not have for nothing."""
    template = "{{{source}}}/{metadata.a.b}{title}!"

    assert template_fields(template) == {"source", "metadata.a.b", "title"}
    assert render(template, {"source": "docs", "metadata.a.b": "{x}"}) == "{docs}/{x}!"


@given(strategies.text(strategies.sampled_from("{}ab.!:[]_0 ")))
def test_a_template_that_is_checked_can_be_rendered(template: str) -> None:
    """The check at the start must spare every document the failure."""
    try:
        fields = template_fields(template)
    except ValueError:
        return

    assert isinstance(render(template, dict.fromkeys(fields, "x")), str)


@pytest.mark.parametrize(
    "change",
    [
        "name: other",
        "chunking: {max_chars: 500}",
        "parsing: {xml: text}",
        "record: {strategy_id: s1}",
        "record: {metadata: {a: 1}}",
    ],
)
def test_a_change_of_what_records_become_changes_the_recipe(file: Path, change: str) -> None:
    """Documents that did not change must be derived anew."""
    assert recipe(load(file, MINIMAL + change)) != recipe(load(file, MINIMAL))


@pytest.mark.parametrize(
    "change",
    ["writers: {concurrency: 1}", "deletes: {enabled: false}", "schedule: 0 * * * *", "chunking: {max_chars: 4000}",
     "state: {path: x}", "parsing: {limits: {document_s: 5}}", "parsing: {xml: source}",
     "dead_letters: {max_attempts: 1}", "record: {expiry_days: 90}"],
)  # fmt: skip
def test_a_change_of_anything_else_keeps_the_recipe(file: Path, change: str) -> None:
    """Deriving all documents anew costs hours."""
    assert recipe(load(file, MINIMAL + change)) == recipe(load(file, MINIMAL))


@pytest.mark.parametrize(
    ("change", "is_listed_again"),
    [
        ("record: {metadata: {a: 1}}", True),
        ("deletes: {enabled: false}", True),
        ("record: {expiry_days: 90}", True),
        ("writers: {concurrency: 1}", False),
    ],
)
def test_what_decides_about_documents_that_are_not_shown_is_the_basis_of_a_listing(
    file: Path, change: str, *, is_listed_again: bool
) -> None:
    """With another one, what was passed over or not deleted is looked at once more."""
    assert (listing_basis(load(file, MINIMAL + change)) != listing_basis(load(file, MINIMAL))) is is_listed_again


# ---------------------------------------------------------------------------------------- the example files


def test_the_quickstart_runs_without_aws() -> None:
    """It is the first thing that a newcomer tries."""
    (source,) = load_sources([CONFIGS / "quickstart.yaml"])

    assert source.name == "quickstart"
    assert source.destination.endpoint_url == "local"


def test_the_agentcore_example_states_every_setting_with_its_default() -> None:
    """It is the reference that users read."""
    stated = read_yaml(CONFIGS / "agentcore.yaml")
    (source,) = load_sources([CONFIGS / "agentcore.yaml"])

    for path, field in leaves(type(source)):
        assert is_at(stated.values, path), path
        assert path in REQUIRED or at(source.model_dump(), path) == field.get_default(), path


def test_the_agentcore_example_explains_every_setting() -> None:
    """In the words of the code, so that the two cannot drift apart."""
    lines = (CONFIGS / "agentcore.yaml").read_text().splitlines()
    comments = " ".join(line.strip().removeprefix("#").strip() for line in lines if line.strip().startswith("#"))
    (source,) = load_sources([CONFIGS / "agentcore.yaml"])

    for path, field in leaves(type(source)):
        assert path == "source.type" or field.description, path
        assert (field.description or "") in comments, path


@pytest.mark.parametrize(
    ("file", "examples"),
    [
        ("feed.yaml", set()),
        ("fsspec.yaml", set()),
        ("git.yaml", set()),
        ("imap.yaml", {"password_variable"}),
        ("s3.yaml", set()),
        ("singer.yaml", {"config", "config_variables"}),
        ("sql.yaml", {"url", "table"}),
        ("web.yaml", {"sitemaps"}),
    ],
)
def test_the_example_of_a_connector_states_and_explains_all_that_it_can_be_told(file: str, examples: set[str]) -> None:
    """As the large example does for everything else. Of what must be given in one way or another, it has one."""
    stated = read_yaml(CONFIGS / file)
    lines = (CONFIGS / file).read_text().splitlines()
    comments = " ".join(line.strip().removeprefix("#").strip() for line in lines if line.strip().startswith("#"))
    (source,) = load_sources([CONFIGS / file])

    for path, field in leaves(type(source.source)):
        assert is_at(stated.values, f"source.{path}"), path
        is_example = field.is_required() or path in examples
        assert is_example or at(source.source.model_dump(), path) in (field.get_default(), ("",)), path
        assert path == "type" or (field.description and field.description in comments), path


def test_a_fault_of_several_settings_together_says_just_that(file: Path) -> None:
    """That the section is a mapping is none."""
    source = 'source: {type: sql, url: "sqlite:///a.db", url_variable: URL, table: pages, id: id}\n'

    (told,) = faults(file, source + "destination: {type: agentcore, endpoint_url: local}\n")

    assert told == "docs.yaml:1:9: `source`: one of `url` and `url_variable` should be given"


REST = """\
source:
  type: rest
  base_url: https://notes.example.com
  auth: {type: bearer}
  resources:
    - {name: notes, path: /notes, id: id, text: text}
destination: {endpoint_url: local}
"""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("text: text", "txet: text"), "unknown key `source.resources[0].txet`; did you mean `text`?"),
        (("text: text", "pagination: {type: cursors}"), 'pagination.type` is "cursors"; did you mean `cursor`?'),
        (("text: text", "pagination: {path: next}"), "`source.resources[0].pagination.type` is missing"),
        (("bearer", "bearer, tokn: x"), "unknown key `source.auth.tokn`; did you mean `token`?"),
        (("bearer", "bearer"), "docs.yaml:4:9: `source.auth`: one of `token` and `token_variable` should be given"),
    ],
)  # fmt: skip
def test_a_fault_within_a_list_or_a_choice_is_told_once_and_by_what_was_written(
    file: Path, change: tuple[str, str], expected: str
) -> None:
    told = faults(file, REST.replace(*change))

    (found,) = (fault for fault in told if expected in fault)
    nothing_else = "docs.yaml:4:9: `source.auth`: one of `token` and `token_variable` should be given"
    assert {found, nothing_else} == {*told, nothing_else}


def test_an_empty_list_is_told_to_be_empty(file: Path) -> None:
    text = REST.replace("{type: bearer}", "null").replace(
        "\n    - {name: notes, path: /notes, id: id, text: text}", " []"
    )

    assert faults(file, text) == ["docs.yaml:5:14: `source.resources` is a list; it should have at least 1 item"]


def test_loading_settings_imports_no_client_and_no_parser() -> None:
    """`memsync validate` answers at once."""
    heavy = ["aiobotocore", "botocore", "aiohttp", "html_to_markdown", "rich"]
    code = f"""
import sys, pathlib
from pipeline.configuration.loading import load_sources
load_sources([pathlib.Path({str(CONFIGS / "agentcore.yaml")!r})])
print([name for name in {heavy} if name in sys.modules])
"""

    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=CONFIGS.parent, capture_output=True, text=True, check=True, timeout=60
    )

    assert answer.stdout.strip() == "[]"
