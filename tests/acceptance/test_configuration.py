"""What the command line says of a configuration: what is wrong with it, what holds, and what could be written."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import CREDENTIALS, MEMORY_ID, SECRET_CANARY, Completed, Folder, Memory, Memsync

BROKEN = f"""\
source:
  type: filesystem
  path: docs
  inclde: ["*.md"]
writers: {{concurrency: 0, password: {SECRET_CANARY}}}
destination: {{memory_id: {MEMORY_ID}, endpoint_url: "https://me:{SECRET_CANARY}@example.com"}}
"""


@pytest.fixture
def broken(folder: Folder) -> Folder:
    (folder.path / "docs.yaml").write_text(BROKEN)
    return folder


# ------------------------------------------------------------------------------------------------- validate


def test_each_fault_is_shown_with_its_line_and_a_caret(broken: Folder, memsync: Memsync) -> None:
    """Whoever has to mend it should not have to count columns."""
    done = memsync("validate", "docs.yaml")

    assert done.exit_code == 2
    assert done.stdout == ""
    assert (
        "docs.yaml:4:3: unknown key `source.inclde`; did you mean `include`?\n"
        '    4 |   inclde: ["*.md"]\n'
        "      |   ^^^^^^\n"
    ) in done.stderr
    assert "    5 | writers: {concurrency: 0, password: …\n      |                        ^\n" in done.stderr
    assert '    6 | destination: {memory_id: handbook-a1B2c3D4e5, endpoint_url: "https://…@example.com"}' in done.stderr
    assert done.stderr.endswith("4 faults. Nothing runs until they are mended.\n")


def test_a_program_is_told_the_same(broken: Folder, memsync: Memsync) -> None:
    done = memsync("validate", "docs.yaml", "--json")

    assert done.report["schema"] == "memsync/validate/1"
    assert done.report["valid"] is False
    first = done.report["findings"][0]
    assert (first["severity"], first["file"], first["line"], first["column"]) == ("error", "docs.yaml", 4, 3)
    assert first["excerpt"] == {"text": '  inclde: ["*.md"]', "start": 2, "width": 6}


def test_hostile_lines_are_shown_harmlessly(folder: Folder, memsync: Memsync) -> None:
    """A file of others may be checked before it is trusted."""
    (folder.path / "docs.yaml").write_text('"\\e]0;x\\a": 1 # \u202e\n"a\u2028b": 2\n')

    done = memsync("validate", "docs.yaml")

    assert done.exit_code == 2
    assert not set(done.stderr) & set("\x1b\x07\u202e\u2028")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"source": {"path": "${env:NOT_SET}"}},
            "docs.yaml:4:9: warning: `source.path`: the environment variable NOT_SET",
        ),
        ({"source": {"path": "${file:nope}"}}, "docs.yaml:4:9: warning: `source.path`: the file nope cannot be read"),
    ],
)
def test_what_this_machine_lacks_is_told_and_is_no_fault(
    section: dict[str, Any], said: str, docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A configuration is checked where it is written, which is often not where it runs."""
    docs.configure(memory.url, **section)

    done, strict = memsync("validate", "docs.yaml"), memsync("validate", "docs.yaml", "--strict")

    assert (done.exit_code, strict.exit_code) == (0, 2)
    assert said in done.stdout
    assert done.stdout.endswith("It is valid. See to 1 warning before this machine runs it.\n")
    assert said in strict.stderr
    assert "docs.yaml: source 'docs' is valid" in done.stdout


def test_a_mark_that_stands_for_itself_is_no_reference(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    docs.configure(memory.url, source={"include": ["$${env:NOT_SET}"]})

    done = memsync("validate", "docs.yaml")

    assert (done.exit_code, done.stdout) == (0, "docs.yaml: source 'docs' is valid\n")


def test_a_variable_that_is_named_and_not_set_is_told(folder: Folder, memsync: Memsync) -> None:
    (folder.path / "mail.yaml").write_text(
        "source: {type: imap, host: localhost, user: me, password_variable: NOT_SET}\n"
        "destination: {endpoint_url: local}\n"
    )

    done = memsync("validate", "mail.yaml")

    assert done.exit_code == 0
    assert (
        "mail.yaml:1:68: warning: `source.password_variable`: the environment variable NOT_SET, which it names, is not"
    ) in done.stdout


def test_a_driver_that_is_not_installed_is_told(folder: Folder, memsync: Memsync) -> None:
    """At night, the first run would be the one to find out."""
    (folder.path / "wiki.yaml").write_text(
        "source: {type: sql, url: 'mysql+mysqldb://reader:${env:HOME}@db/wiki', table: a, id: b}\n"
        "destination: {endpoint_url: local}\n"
    )

    done = memsync("validate", "wiki.yaml")

    assert done.exit_code == 0
    assert "a source of this type needs what is not installed: pip install mysqlclient" in done.stdout


def test_a_variable_that_sets_nothing_is_told(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It looks as if it did."""
    done = memsync("validate", "docs.yaml", environment={**CREDENTIALS, "MEMSYNC_REGION": "eu-west-1"})

    assert done.exit_code == 0
    assert "environment variable MEMSYNC_REGION: warning: sets nothing" in done.stdout
    assert "did you mean `MEMSYNC_DESTINATION__REGION`?" in done.stdout


def test_a_mistyped_command_is_told_the_nearest(memsync: Memsync) -> None:
    done = memsync("statsu")

    assert (done.exit_code, done.stdout) == (2, "")
    assert "No such command 'statsu'. Did you mean 'status'?" in done.stderr


# -------------------------------------------------------------------------------------------------- explain


@pytest.fixture
def explained(docs: Folder, memory: Memory) -> Folder:
    """A source whose settings come from everywhere."""
    (docs.path / "_shared.yaml").write_text(
        "record:\n  metadata: {team: docs, audience: staff}\nwriters: {linger_s: 2}\n"
    )
    docs.configure(
        memory.url,
        extends="_shared.yaml",
        record={"metadata": {"team": "support"}},
        source={"path": "${env:DOCUMENTS}"},
    )
    return docs


def explain(memsync: Memsync, *options: str) -> Completed:
    variables = {**CREDENTIALS, "DOCUMENTS": SECRET_CANARY, "MEMSYNC_WRITERS__CONCURRENCY": "3"}
    done = memsync("explain", "docs.yaml", *options, environment=variables)
    assert done.exit_code == 0, done.stderr
    return done


def test_every_setting_is_shown_with_what_said_so(explained: Folder, memsync: Memsync) -> None:
    """With files, variables and defaults above each other, nobody can tell by looking at one of them."""
    lines = {line.split("#")[0].rstrip(): line.rpartition("# ")[2] for line in explain(memsync).stdout.splitlines()}

    assert lines["  path: ${env:DOCUMENTS}"] == "docs.yaml:4"
    assert lines["    team: support"] == "docs.yaml:15"
    assert lines["    audience: staff"] == "_shared.yaml:2"
    assert lines["  linger_s: 2.0"] == "_shared.yaml:3"
    assert lines["  concurrency: 3"] == "MEMSYNC_WRITERS__CONCURRENCY"
    assert lines["  max_chars: 4000"] == "default"
    assert lines["  hidden: false"] == "default"


def test_what_is_explained_can_be_copied(explained: Folder, memory: Memory, memsync: Memsync) -> None:
    """It is YAML that means the same."""
    copy = explain(memsync).stdout
    (explained.path / "copy.yaml").write_text(copy)

    done = memsync("validate", "copy.yaml", environment={**CREDENTIALS, "DOCUMENTS": "docs"})

    assert done.exit_code == 0, done.stderr
    assert yaml.safe_load(copy)["record"]["metadata"] == {"team": "support", "audience": "staff"}


def test_defaults_can_be_left_out(explained: Folder, memsync: Memsync) -> None:
    shown = explain(memsync, "--no-defaults").stdout

    assert "default" not in shown
    assert "max_chars" not in shown
    assert "linger_s" in shown


def test_a_program_is_told_the_origins_too(explained: Folder, memsync: Memsync) -> None:
    (source,) = explain(memsync, "--json").report["sources"]
    by_name = {each["setting"]: each for each in source["settings"]}

    path = by_name["source.path"]
    assert (path["value"], path["references"]) == ("${env:DOCUMENTS}", ["${env:DOCUMENTS}"])
    assert by_name["writers.concurrency"]["origin"]["variable"] == "MEMSYNC_WRITERS__CONCURRENCY"
    assert by_name["record.metadata.audience"]["origin"]["kind"] == "extended file"
    assert by_name["chunking.max_chars"]["origin"]["kind"] == "default"
    assert Path(by_name["source.type"]["origin"]["file"]).name == "docs.yaml"


def test_on_a_terminal_defaults_are_dim(explained: Folder, memsync: Memsync) -> None:
    """What somebody has set should be seen at once among eighty lines."""
    (explained.path / "docs.yaml").write_text(
        (explained.path / "docs.yaml").read_text().replace("${env:DOCUMENTS}", "docs")
    )

    _, shown = memsync.on_terminal("explain", "docs.yaml")

    assert "\x1b[2m  max_chars: 4000" in shown
    assert "\x1b[36m# _shared.yaml:2" in shown


def test_a_hostile_value_is_explained_harmlessly(docs: Folder, memory: Memory, memsync: Memsync) -> None:
    """It may come from a file of others, or from a variable that anybody could set."""
    docs.configure(memory.url, record={"metadata": {"a": "\x1b]0;x\x07\u202e", "b": "b\n# default"}})

    done = memsync("explain", "docs.yaml")

    assert done.exit_code == 0
    assert not set(done.stdout) & set("\x1b\x07\u202e")
    assert yaml.safe_load(done.stdout)["record"]["metadata"] == {"a": "\x1b]0;x\x07\u202e", "b": "b\n# default"}


# --------------------------------------------------------------------------------------------------- schema


def test_the_schema_is_written_and_the_line_that_names_it_is_told(folder: Folder, memsync: Memsync) -> None:
    """Nobody knows that line by heart."""
    done = memsync("schema", "--write", "memsync.schema.json")

    assert done.exit_code == 0
    assert done.stdout.endswith("# yaml-language-server: $schema=memsync.schema.json\n")
    schema = json.loads((folder.path / "memsync.schema.json").read_text())
    assert json.loads(memsync("schema").stdout) == schema


def test_the_schema_of_one_type_has_that_one_alone(memsync: Memsync) -> None:
    schema = json.loads(memsync("schema", "sql").stdout)

    assert "SqlSettings" in schema["$defs"]
    assert "ImapSettings" not in schema["$defs"]


def test_a_type_without_a_schema_is_told_the_nearest(memsync: Memsync) -> None:
    done = memsync("schema", "sqll")

    assert done.exit_code == 2
    assert "did you mean `sql`?" in done.stderr
