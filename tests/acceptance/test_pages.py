"""What README.md and the pages in docs/ tell people to type works: read from there, and run in its order.

Each block of shell of every page is typed by a `Reader`, in a folder that a `Scene` sets up; a page without a scene of
its own finds the handbook of the README in sync. So a command that is added to a page is run without a word here, and
one that cannot be run on this machine is in `NOT_RUN`, with the reason. Blocks in other languages are held against the
program as well: see `test_every_block_is_tried`.
"""

import json
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from docs.record_failures import FAILURES, recorded
from docs.record_failures import Scene as RecordedScene
from pipeline.cli import main
from pipeline.events import (
    BatchSettled,
    DocumentsDecided,
    DocumentsListed,
    RequestSent,
    RunEvent,
    RunStarted,
    ScanFinished,
    Wait,
    WaitStarted,
)
from pipeline.model import ClientToken, Operation
from pipeline.reporting.progress import SourceProgress, activity, documents_line, records_line, waiting_line
from tests.fakes.receiver import receiver

from .aws_stub import aws_stub
from .conftest import MEMORY_ID, Memory, free_port
from .pages import JSON, PAGES, PROJECT, SHELL, YAML, Block, blocks_of, commands_of, spans_of
from .reader import DOCUMENTS, HANDBOOK, Reader

Action = Callable[[Reader], None]
Check = Callable[[Reader, Block], None]

# What cannot be run here, by how it begins, and why. `check_what_can_be_checked` looks at it all the same.
NOT_RUN = {
    "make test": "it is what runs this",
    "pip install": "it asks a package index; the extra that it names is looked up in pyproject.toml",
    "docker build": "it needs a Docker daemon, and images from elsewhere",
    "docker run": "it needs the image that the line before builds",
}


@dataclass(frozen=True)
class Scene:
    """What a page takes for granted, and what its reader does between two commands."""

    prepare: Action = Reader.has_synced
    before: Mapping[str, Action] = field(default_factory=dict)  # by command: what happens first
    typed_as: Mapping[str, str] = field(default_factory=dict)  # by command: what is typed in its place
    exit_codes: Mapping[str, int] = field(default_factory=dict)  # by command, where it is another than 0
    then: Mapping[str, Action] = field(default_factory=dict)  # by command: what is looked at, while it may be up
    blocks: Mapping[str, Check] = field(default_factory=dict)  # by first line: what a block of no shell is held against


@pytest.fixture
def reader(tmp_path: Path, memory: Memory) -> Iterator[Reader]:
    with aws_stub() as aws:
        reader = Reader(tmp_path / "user", memory, aws)
        try:
            yield reader
        finally:
            reader.leaves()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, SHELL)])
def test_what_a_page_tells_to_type_works(page: str, reader: Reader) -> None:
    """A command is copied and typed; it must do what stands beside it, in the order of the page."""
    scene = SCENES.get(page, Scene())

    scene.prepare(reader)
    for block in blocks_of(page):
        if block.language == SHELL:
            for command in block.commands:
                type_in_scene(reader, scene, command)
        elif block.first_line in scene.blocks:
            scene.blocks[block.first_line](reader, block)
        elif block.language == YAML:
            reader.copies(block)


def type_in_scene(reader: Reader, scene: Scene, command: str) -> None:
    if is_not_run(command):
        check_what_can_be_checked(command, reader.folder)
        return
    scene.before.get(command, do_nothing)(reader)
    done = reader.types(scene.typed_as.get(command, command), as_on_page=command)
    assert done.exit_code == scene.exit_codes.get(command, 0), (command, done)
    scene.then.get(command, do_nothing)(reader)


def do_nothing(reader: Reader) -> None:
    """Most commands can be typed as they come."""


def is_not_run(command: str) -> bool:
    return command.startswith(tuple(NOT_RUN))


def check_what_can_be_checked(command: str, folder: Path) -> None:
    """That it is shell, and that what it names of ours is there."""
    subprocess.run(["bash", "-n", "-c", command], check=True)
    for extra in re.findall(r"agentcore-memory-sync\[(\w+)\]", command):
        assert extra in EXTRAS, command
    for target in re.findall(r"^make (\w+)", command):
        assert target in TARGETS, command
    for file in re.findall(r"-f (\S+)", command):
        assert (PROJECT / file).is_file(), command


DESTINATION = f"destination: {{type: agentcore, memory_id: {MEMORY_ID}, region: us-east-1}}\n"

PROJECT_FILE = tomllib.loads((PROJECT / "pyproject.toml").read_text())
EXTRAS = PROJECT_FILE["project"]["optional-dependencies"].keys()
TARGETS = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


# ------------------------------------------------------------------------------------------ that all is tried


def test_every_block_is_tried() -> None:
    """What nothing holds against the program is wrong after a while, and nobody notices."""
    untried = [
        block.place
        for page in PAGES
        for block in blocks_of(page)
        if block.language not in (SHELL, YAML)
        and page not in RECORDED
        and block.first_line not in SCENES.get(page, Scene()).blocks
        and block.first_line not in QUOTED
    ]

    assert untried == []


def test_every_page_finds_its_commands_in_its_scene() -> None:
    """A command that was reworded on its page would otherwise lose what must happen before it."""
    for page, scene in SCENES.items():
        named = {*scene.before, *scene.typed_as, *scene.then}
        assert named <= set(commands_of(page)), page
        assert scene.blocks.keys() <= {block.first_line for block in blocks_of(page)}, page


# Recorded by `make failures`; `test_what_failures_look_like_is_what_memsync_says_now` records it again.
RECORDED = {"failures.md"}

# Pieces of files that tests run, by how they begin.
QUOTED = {
    '[project.entry-points."memsync.connectors"]': "docs/connector-example/pyproject.toml",
    "import pytest": "docs/connector-example/tests/test_contract.py",
}


def test_what_is_quoted_stands_in_its_file() -> None:
    """The example of a connector is run by a test of its own; what is cut out of it must be as it is there."""
    quoted = [block for page in PAGES for block in blocks_of(page) if block.first_line in QUOTED]

    assert len(quoted) == len(QUOTED)
    for block in quoted:
        file = QUOTED[block.first_line]
        text = (PROJECT / file).read_text()
        for line in map(str.strip, block.text.splitlines()):
            words = line.partition("(")[0] if line.startswith("def ") else line  # without the types
            assert words in text, f"{block.place}: {line!r} is not in {file}"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
def test_what_failures_look_like_is_what_memsync_says_now(failure: Callable[[RecordedScene], None]) -> None:
    """Whom memsync wakes at night compares, word by word; `make failures` writes the page."""
    title, _, said = recorded(failure).removeprefix("## ").partition("\n")
    shown = PAGES["failures.md"].partition(f"\n## {title}\n")[2].partition("\n## ")[0]

    assert [shape(line) for line in said.strip().splitlines()] == [shape(line) for line in shown.strip().splitlines()]


# ------------------------------------------------------------------------------------------------ YAML

# Ways to log in, one a line, which tests/connectors/test_rest_docs.py tries; and alerts: see `check_the_alerts`.
NO_SETTINGS = ("auth:", "- alert:")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, YAML)])
def test_the_yaml_of_a_page_is_valid(page: str, reader: Reader) -> None:
    """It is copied, whole or as a piece of a file; what it does not say, the file says that it extends."""
    blocks = [block for block in blocks_of(page, YAML) if not block.text.startswith(NO_SETTINGS)]
    folder = reader.folder / "prometheus"
    folder.mkdir()
    for number, block in enumerate(blocks):
        (reader.folder / f"{number}").mkdir()
        has_source = "source" in (yaml.safe_load(block.text) or {})
        base = DESTINATION if has_source else f"{DESTINATION}source: {{type: filesystem, path: docs}}\n"
        (reader.folder / f"{number}" / "_shared.yaml").write_text(base)
        text = block.text.replace("/var/lib/node_exporter/textfile", str(folder))
        if "extends:" not in text:
            text = f"extends: _shared.yaml\n{text}"
        (reader.folder / f"{number}" / "piece.yaml").write_text(text)

    for number, block in enumerate(blocks):
        done = reader.types(f"memsync validate {number}/piece.yaml")
        assert done.exit_code == 0, (block.place, done.stderr)


# ------------------------------------------------------------------------------------ words set as code


def accept(command: str) -> None:
    """Have click find the command and know each of its options, as far as the line says them."""
    words = shlex.split(command)[1:]
    found: click.Command = main
    while words and isinstance(found, click.Group) and not words[0].startswith("-"):
        inner = found.get_command(click.Context(found), words[0])
        if inner is None:
            break  # a path, for a group that is a command itself
        found, words = inner, words[1:]
    assert found is not main or words[:1] in (["--help"], ["--version"], []), f"{command}: no such command"
    known = {*options_of(found), "--help"}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{command}: it has no {word}"


def options_of(command: click.Command) -> set[str]:
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            own |= options_of(inner) if inner else set()
    return own


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_are_accepted(page: str) -> None:
    """They are typed as much as those in blocks."""
    for span in spans_of(page):
        if span.startswith("memsync ") and "COMMAND" not in span:
            accept(span)
        elif target := re.fullmatch(r"make ([\w-]+)( .*)?", span):
            assert target[1] in TARGETS, span


OF_OTHERS = {
    "--depth 1": "git",
    "--catalog": "taps of Singer",
    "--properties": "taps of Singer",
    "--build-arg EXTRAS=documents,web,gcs": "docker",
}


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_text_are_there(page: str) -> None:
    """An option that has gone is looked for in vain."""
    known = {*options_of(main), "--help", "--version"}
    spans = [span for span in spans_of(page) if span.startswith("--") and span not in OF_OTHERS]

    assert [span for span in spans if re.split("[ =]", span)[0] not in known] == []


def settings() -> set[str]:
    """All that a YAML file can say, as the reference lists it: tests hold that against the models."""
    names, section = set(), ""
    for line in PAGES["configuration.md"].partition("## Reference\n")[2].splitlines():
        if heading := re.match(r"### (?:`(\w+)`|.*)", line):
            section = f"{heading[1]}." if heading[1] else ""
        elif row := re.match(r"\| `([\w.]+)` \|", line):
            names.add(f"{section}{row[1]}")
    return names


@pytest.mark.parametrize("page", PAGES)
def test_settings_in_the_text_are_there(page: str) -> None:
    """A setting that was renamed is copied from the page, and refused."""
    known = settings()
    sections = {name.partition(".")[0] for name in known if "." in name} | known
    spans = [
        name
        for span in spans_of(page)
        for name in re.findall(r"^([a-z_]+(?:\.[a-z_]+)+)(?:$|: )", span)
        if name.partition(".")[0] in sections
    ]

    unknown = {name for name in spans if name not in known and not any(each.startswith(f"{name}.") for each in known)}
    assert unknown == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_in_the_text_are_there(page: str) -> None:
    """Who looks for the proof finds it."""
    ours = re.compile(r"(tests|pipeline|connectors|configs|docs)/[\w/.-]*")
    paths = [span for span in spans_of(page) if ours.fullmatch(span)]

    assert [path for path in paths if not (PROJECT / path).exists()] == []


# ------------------------------------------------------------------------------------------- what is shown


def shape(line: str) -> str:
    """A printed line without what differs from one time to the next: figures, ids, times, spaces."""
    line = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\brun [0-9a-f]{6,}\b", "ID", line)
    line = re.sub(r"\b(?=[a-f]*\d)[0-9a-f]{10,}\b", "ID", line)
    line = re.sub(r"\d[\d.,:]*( [kMG]?B\b)?", "0", line)
    return " ".join(line.split())


def shows(command: str) -> Check:
    """The block stands in what the command printed: its lines in their order, others may lie between."""

    def check(reader: Reader, block: Block) -> None:
        done = reader.typed[command]
        assert_shown(block, done.stderr + done.stdout)

    return check


def assert_shown(block: Block, printed: str) -> None:
    lines = iter(shape(line) for line in printed.splitlines())
    for line in block.text.splitlines():
        assert shape(line) in lines, f"{block.place} shows {line!r}, which was not printed there:\n{printed}"


def assert_members(shown: Any, printed: Any) -> None:
    """Each member that the page shows is one that the program prints; it may print more."""
    if isinstance(shown, dict):
        assert shown.keys() <= printed.keys(), shown.keys() - printed.keys()
        for name, value in shown.items():
            assert_members(value, printed[name])


def table_names(page: str, heading: str) -> set[str]:
    """The names in code of the first column of the first table below a heading."""
    below = PAGES[page].partition(f"## {heading}\n")[2]
    rows = re.search(r"^\|---.*\n((?:\|.*\n)+)", below, re.MULTILINE)
    assert rows, heading
    return {name for row in rows[1].splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}


# -------------------------------------------------------------------------------------------------- README.md


def copy_of_the_project(reader: Reader) -> None:
    """What git clones, as far as the quickstart reads it; the environment is the one of these tests."""
    reader.has_documents()
    left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "node_modules", "*.svg", "*.png")
    for name in ("README.md", "Makefile", "pyproject.toml", "constraints.txt", "docs", "configs"):
        source, target = PROJECT / name, reader.folder / name
        shutil.copytree(source, target, ignore=left_out) if source.is_dir() else shutil.copy2(source, target)


def edit_a_document(reader: Reader) -> None:
    file = reader.documents / "tickets.md"
    file.write_text(file.read_text().replace("who was called", "what was tried"))


def have_a_record_refused(reader: Reader) -> None:
    reader.write("faq/unwanted.md", "An unwanted text.")
    reader.memory.play(reject_text="unwanted")
    assert reader.types("memsync run handbook.yaml").exit_code == 3


def mend_the_memory(reader: Reader) -> None:
    reader.memory.play()


def lose_most_documents(reader: Reader) -> None:
    shutil.rmtree(reader.documents / "faq")
    assert reader.types("memsync run handbook.yaml").exit_code == 4


def lose_the_state(reader: Reader) -> None:
    shutil.rmtree(reader.folder / ".memsync")


def on_a_free_port(command: str) -> str:
    """Tests run beside each other, and beside what their machine serves."""
    typed = re.sub(r"-port \d+", "-port 0", command)
    return typed if "-port" in typed else f"{typed} --port 0"


def typed_on_a_free_port(*commands: str) -> dict[str, str]:
    return {command: on_a_free_port(command) for command in commands}


LOCAL = "memsync local --port 8765 --data memory.sqlite3"
LOCAL_WITH_FAULTS = "memsync local --faults requests_per_second=5,drop_after_write=0.05,reject_text=rehearsal"

SEARCH = 'memsync search handbook.yaml "how do we hand over a ticket?"'


def check_that_all_is_stored(reader: Reader) -> None:
    """A command that ends with 0 and writes nothing would not be noticed."""
    assert len(reader.memory.documents()) == DOCUMENTS


def check_what_was_found(reader: Reader) -> None:
    assert "tickets.md" in reader.typed[SEARCH].stdout


README = Scene(
    prepare=copy_of_the_project,
    typed_as={
        # The environment that `make` would make first is there.
        "make quickstart": "make --old-file=$(dirname $(dirname $(which memsync)))/.usable quickstart"
        " VENV=$(dirname $(dirname $(which memsync)))",
        "memsync init ../handbook": "memsync init ../handbook --yes",
        **typed_on_a_free_port(LOCAL, LOCAL_WITH_FAULTS),
        # It has run, and is not due: that it serves this is the sign that it is up.
        "memsync schedule handbook.yaml": f"memsync schedule handbook.yaml --health-port {free_port()}",
    },
    before={
        "memsync plan handbook.yaml --diff --out handbook.plan": edit_a_document,
        "memsync dead-letters handbook.yaml": have_a_record_refused,
        "memsync replay handbook.yaml": mend_the_memory,
        "memsync run handbook.yaml --allow-mass-delete": lose_most_documents,
        "memsync recover handbook.yaml": lose_the_state,
    },
    then={"memsync run handbook.yaml": check_that_all_is_stored, SEARCH: check_what_was_found},
)


# ------------------------------------------------------------------------------------------------- the scenes


def wiki_below_sources(reader: Reader) -> None:
    """The page's first YAML block, and what it extends."""
    shared = "# What our sources share.\nwriters:\n  concurrency: 8\n"
    shared = f"destination:\n  type: agentcore\n  memory_id: {MEMORY_ID}\n  region: us-east-1\n{'#' * 3}\n{shared}"
    sources = reader.folder / "sources"
    sources.mkdir()
    (sources / "_shared.yaml").write_text(f"{shared}  requests_per_second: 20\n")
    (sources / "wiki.yaml").write_text(blocks_of("configuration.md", YAML)[0].text)
    reader.environment["MEMSYNC_WRITERS__CONCURRENCY"] = "3"


def check_the_fault_that_is_shown(reader: Reader, block: Block) -> None:
    wiki = reader.folder / "sources" / "wiki.yaml"
    wiki.write_text(wiki.read_text().replace("table:", "tabel:"))
    refused = reader.types("memsync validate sources/wiki.yaml")
    wiki.write_text(wiki.read_text().replace("tabel:", "table:"))

    assert refused.exit_code == 2
    assert block.text.rstrip() in refused.stderr


def check_what_is_explained(reader: Reader, block: Block) -> None:
    explained = reader.typed["memsync explain sources/wiki.yaml"].stdout
    lines = [" ".join(line.split()) for line in explained.splitlines()]

    for line in block.text.splitlines():
        assert " ".join(line.split()) in lines, explained


CONFIGURATION = Scene(
    prepare=wiki_below_sources,
    blocks={
        "sources/wiki.yaml:7:3: unknown key `source.tabel`; did you mean `table`?": check_the_fault_that_is_shown,
        "writers:": check_what_is_explained,
    },
)


def open_the_console(reader: Reader) -> None:
    """As the browser does, which asks for data with the token that is behind the `#`."""
    address = reader.first_line.split()[-1]

    with urllib.request.urlopen(address.partition("#")[0]) as page:
        assert b"<title>" in page.read()


CONSOLE = Scene(then={"memsync console sources/": open_the_console})


def letters(reader: Reader) -> None:
    """Letters of several kinds, one of them under the id that the page names."""
    reader.has_handbook()
    reader.environment["EDITOR"] = str(reader.folder / "editor.sh")
    (reader.folder / "editor.sh").write_text('#!/bin/sh\nsed -i "s/unwanted/mended/" "$1"\n')
    (reader.folder / "editor.sh").chmod(0o700)
    (reader.folder / "mended.txt").write_text("A mended text.\n")
    have_a_record_refused(reader)
    name_the_letter(reader)


def name_the_letter(reader: Reader) -> None:
    (letter,) = [json.loads(line) for line in letter_file(reader).read_text().splitlines()]
    reader.words["3f2a9c1b7d"] = letter["id"][:10]


def letter_file(reader: Reader) -> Path:
    return reader.folder / ".memsync" / "handbook" / "dead-letters.jsonl"


def have_another_refused(text: str) -> Action:
    def action(reader: Reader) -> None:
        reader.write("faq/unwanted.md", text)
        reader.memory.play(reject_text="unwanted")
        assert reader.types("memsync run handbook.yaml").exit_code == 3
        reader.memory.play()
        name_the_letter(reader)

    return action


def check_the_members_of_a_letter(reader: Reader) -> None:
    printed = reader.types("memsync dead-letters handbook.yaml --json").report["dead_letters"][0]

    assert table_names("dead-letters.md", "What a letter says") - printed.keys() == {"dropped_at"}
    assert printed.keys() <= table_names("dead-letters.md", "What a letter says")


def check_that_it_is_stored_otherwise(reader: Reader) -> None:
    assert reader.memory.texts_of("faq/unwanted.md") == ["A mended text."]


DROP = "memsync dead-letters drop handbook.yaml --id 3f2a9c1b7d"
EDIT = "memsync dead-letters edit handbook.yaml 3f2a9c1b7d"

DEAD_LETTERS = Scene(
    prepare=letters,
    typed_as={DROP: f"{DROP} --yes"},
    before={
        "memsync replay handbook.yaml": mend_the_memory,
        EDIT: have_another_refused("An unwanted text, again."),
        f"{EDIT} --text-file mended.txt": have_another_refused("An unwanted text, once more."),
        DROP: have_another_refused("An unwanted text, for the last time."),
    },
    then={
        "memsync dead-letters handbook.yaml": check_the_members_of_a_letter,
        f"{EDIT} --text-file mended.txt": check_that_it_is_stored_otherwise,
    },
    blocks={"a record or a document fails": lambda reader, block: None},  # a picture
)


def check_the_findings(reader: Reader) -> None:
    """The object that the page shows in a line, its signs and its verdicts."""
    page = PAGES["doctor.md"]
    report = reader.types("memsync doctor handbook.yaml --json").report

    assert f'"schema": "{report["schema"]}"' in page
    assert report["sources"][0].keys() == {"source", "file", "findings"}
    for finding in report["sources"][0]["findings"]:
        assert finding.keys() == {"check", "verdict", "found", "cure"}
        assert f"| `{finding['verdict']}` |" in page


def check_the_policy(reader: Reader) -> None:
    policy = json.loads(reader.typed["memsync doctor --policy handbook.yaml"].stdout)

    assert MEMORY_ID in json.dumps(policy)
    assert policy["Version"] == "2012-10-17"


PROBE = "memsync doctor --probe --memory-id throwaway-a1B2c3D4e5 handbook.yaml"

DOCTOR = Scene(
    before={PROBE: lambda reader: reader.memory.create("throwaway-a1B2c3D4e5")},
    typed_as={PROBE: f"{PROBE} --token-wait 0 --yes"},  # the page tells of both
    then={
        "memsync doctor handbook.yaml": check_the_findings,
        "memsync doctor --policy handbook.yaml": check_the_policy,
    },
)


def have_a_port_of_its_own(reader: Reader) -> None:
    reader.words["8765"] = str(free_port())


def check_that_it_lists_nothing(reader: Reader, block: Block) -> None:
    done = reader.runs_python(block)

    assert done.exit_code == 0, done.stderr


LOCAL_MEMORY = Scene(
    prepare=have_a_port_of_its_own,
    typed_as={LOCAL_WITH_FAULTS: on_a_free_port(LOCAL_WITH_FAULTS)},
    blocks={"import boto3": check_that_it_lists_nothing},
)


# What is waited for: a display that is redrawn, a line of the log, a notice.


def check_the_display(reader: Reader, block: Block) -> None:
    """The words of a display that is redrawn all the time, from the events that lead to it."""
    throttled = RequestSent(Operation.CREATE, 100, 1, 0.1, "throttled", "ThrottledException", 429)
    progress = SourceProgress(started_at_s=0.0)
    events: list[RunEvent] = [
        RunStarted("handbook", "run-1", "run", 0, 0),
        DocumentsListed(3102),
        DocumentsDecided("added", 3102, created=5120),
        ScanFinished(is_complete=True),
        *(throttled for _ in range(14)),
    ]
    for event in events:
        progress.hear(event, 0.0)
    progress.hear(BatchSettled(ClientToken("token"), Operation.CREATE, succeeded=2750), 250.0)
    progress.hear(throttled, 258.0)
    progress.hear(WaitStarted(Wait("write", "backoff", seconds=14.0)), 258.0)
    drawn = (
        f"handbook {activity(progress)} 4 min 20 s",
        f"documents {documents_line(progress, 260.0)}",
        f"records {records_line(progress, 260.0)}",
        f"waiting: {waiting_line(progress, 260.0)}",
    )

    assert [shape(line) for line in block.text.splitlines()] == [shape(line) for line in drawn]


def check_a_line_of_a_run_that_waits(reader: Reader, block: Block) -> None:
    """Alerts are built on its fields."""
    reader.write("new.md", "# New\n\nNews.\n")
    reader.memory.play(latency_s=0.3)
    reader.environment["MEMSYNC_TELEMETRY__STILL_RUNNING_S"] = "0.05"
    logs = reader.types("memsync run handbook.yaml").logs
    reader.memory.play()
    shown = json.loads(block.text)
    lines = [line for line in logs if line["event"] == shown["event"] and line["waits"]]

    assert lines, logs
    assert shown.keys() <= lines[-1].keys()
    # A parser is not waited for here; that its document is named, tests/reporting/test_pulse.py holds.
    assert {name for wait in shown["waits"] for name in wait} - lines[-1]["waits"][0].keys() <= {"document_id"}


def have_somebody_told(reader: Reader) -> None:
    """The README's YAML with the page's line for notices, and a service that takes them."""
    reader.has_synced()
    takes_pdf = HANDBOOK.replace("**/*.html", "**/*.pdf")
    (reader.folder / "handbook.yaml").write_text(f"{takes_pdf}notify: {{urls_variable: MEMSYNC_NOTICES_GO_TO}}\n")
    reader.received = reader.opens(receiver())
    address = reader.received.url.replace("http://", "json://")
    reader.words["slack://… mailto://…"] = reader.environment["MEMSYNC_NOTICES_GO_TO"] = address


def check_the_notice(reader: Reader, block: Block) -> None:
    for number in (1, 2):
        reader.write(f"unwanted-{number}.md", "An unwanted text.")
    reader.write("broken.pdf", "%PDF-1.7 and no more")
    reader.memory.play(reject_text="unwanted")
    assert reader.types("memsync run handbook.yaml").exit_code == 3
    notice = json.loads(reader.received.requests[-1][1])
    said = f"{notice['title']}\n{notice['message']}".replace(str(reader.folder), "/srv/memsync")
    said = said.replace(socket.gethostname(), "worker-1")

    assert_shown(block, said)


def check_the_alerts(reader: Reader, block: Block) -> None:
    """Metrics that have been renamed never raise an alarm."""
    printed = reader.types("memsync metrics handbook.yaml").stdout

    for alert in yaml.safe_load(block.text):
        for metric in re.findall(r"memsync_\w+", alert["expr"]):
            assert f"\n{metric}{{" in printed, metric
    for metric in re.findall(r"memsync_\w+", PAGES["observability.md"].partition("## OpenTelemetry")[0]):
        assert f"# HELP {metric} " in printed, metric


STILL_RUNNING = blocks_of("observability.md", JSON)[0].first_line

OBSERVABILITY = Scene(
    prepare=have_somebody_told,
    blocks={
        "handbook  writing  4 min 20 s": check_the_display,
        STILL_RUNNING: check_a_line_of_a_run_that_waits,
        "memsync: handbook has 3 dead letters": check_the_notice,
        "- alert: MemsyncDoesNotRun": check_the_alerts,
    },
)


PLAN = "memsync plan handbook.yaml --diff --out handbook.plan"


def move_on(reader: Reader) -> None:
    """A page that has moved goes, and a note says something else."""
    reader.has_synced()
    reader.write("old.md", "This page has moved.\n")
    reader.types("memsync run handbook.yaml")
    (reader.documents / "old.md").unlink()
    edit_a_document(reader)


PLANS = Scene(
    prepare=move_on,
    blocks={"handbook  the texts of 2 documents that would change": shows(PLAN)},
)


def check_the_members_of_a_report(reader: Reader) -> None:
    (report,) = reader.types("memsync report sources/handbook.yaml --json").report["reports"]

    assert report["schema"] == "memsync/report/1"
    assert table_names("reports.md", "For programs") == report.keys() - {"schema"}


def have_a_source_with_a_past(reader: Reader) -> None:
    reader.has_handbook()
    reader.types("memsync run sources/")


REPORTS = Scene(
    prepare=have_a_source_with_a_past,
    then={"memsync report sources/handbook.yaml --open": check_the_members_of_a_report},
)


@contextmanager
def notes_api() -> Iterator[tuple[str, list[str]]]:
    """The API of the page on `rest`, with all the notes that it counts: its address, and what it was asked for."""
    first = json.loads(blocks_of("rest.md", JSON)[0].text)
    token = first["next"]
    others = [
        {"id": 100 + number, "name": "Other", "rev": 1, "changed": "2026-11-02T09:00:00Z", "link": "/n/1", "tags": []}
        for number in range(first["count"] - len(first["notes"]))
    ]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path, _, query = self.path.partition("?")
            notes = {note["id"]: note for note in (*first["notes"], *others)}
            if path != "/v1/notes":
                answer = {**notes[int(path.rpartition("/")[2])], "body": "# A note\n\nIts text.\n"}
            elif f"cursor={token}" in query:
                answer = {"notes": others, "count": first["count"], "next": None}
            else:
                answer = first
            body = json.dumps(answer).encode()
            self.send_response(200 if self.headers["Authorization"] == "Bearer word" else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
        server.shutdown()
        thread.join()


def have_notes(reader: Reader) -> None:
    """What the page describes from the beginning, with its own host in place of the vendor's."""
    url, asked = reader.opens(notes_api())
    source = blocks_of("rest.md", YAML)[0].text.replace("https://notes.example.com/v1", url)
    (reader.folder / "my-wiki.yaml").write_text(
        f"{DESTINATION}{source}  http: {{allow_private_hosts: true, requests_per_s: 1000}}\n"
    )
    reader.environment["NOTES_TOKEN"] = "word"
    reader.asked = asked


def check_that_nothing_is_read_again(reader: Reader) -> None:
    """What the page says that a run without changes costs: the listing."""
    stored = len(reader.memory.documents())
    reader.asked.clear()
    again = reader.types("memsync run my-wiki.yaml --json")

    assert (stored, again.documents["unchanged"], again.touched()) == (41, 41, 0)
    assert [path.partition("?")[0] for path in reader.asked] == ["/v1/notes"] * 2


REST = Scene(
    prepare=have_notes,
    then={"memsync run my-wiki.yaml": check_that_nothing_is_read_again},
    blocks={"{": lambda reader, block: None},  # what `notes_api` answers
)


def have_sources_that_are_due(reader: Reader) -> None:
    reader.has_handbook()
    reader.words["8080"] = str(free_port())


def check_the_health(reader: Reader) -> None:
    """Probes and alarms ask for these pages."""
    assert reader.up is not None
    reader.up.wait_for_log("process_ended")
    answers = {}
    for page in ("healthz", "readyz", "metrics"):
        with urllib.request.urlopen(f"http://127.0.0.1:{reader.words['8080']}/{page}") as answer:
            answers[page] = answer.read().decode()
    (source,) = json.loads(answers["healthz"])["sources"]

    assert answers["healthz"] == answers["readyz"]
    for name in source.keys() - {"name", "file"}:
        assert f"`{name}`" in PAGES["running.md"], name
    assert "memsync_last_success_timestamp_seconds{" in answers["metrics"]


def have_a_source_beside(reader: Reader) -> None:
    """That has not the name of the one that was scheduled."""
    (reader.folder / "handbook.yaml").write_text(HANDBOOK.replace("name: handbook", "name: watched"))


def change_a_file(reader: Reader) -> None:
    assert reader.up is not None
    reader.write("tickets.md", "# Tickets\n\nWe keep them.\n")

    assert reader.up.wait_for_log("process_ended")["status"] == "in_sync"


def have_buckets(reader: Reader) -> None:
    """AWS and a cluster do not see the folders of this machine."""
    settings = yaml.safe_load(HANDBOOK)
    settings["source"] = {"type": "s3", "bucket": "handbook"}
    (reader.folder / "sources" / "handbook.yaml").write_text(yaml.safe_dump(settings))


def check_what_was_written(reader: Reader) -> None:
    template = (reader.folder / "deployment" / "template.yaml").read_text()

    assert template.startswith("#")
    assert "AWSTemplateFormatVersion" in template
    shutil.rmtree(reader.folder / "deployment")


RUNNING = Scene(
    prepare=have_sources_that_are_due,
    before={
        "memsync watch handbook.yaml": have_a_source_beside,
        "memsync deploy systemd sources/": have_buckets,
    },
    typed_as={"memsync watch handbook.yaml": "memsync watch handbook.yaml --settle 0.1"},
    then={
        "memsync schedule sources/ --health-port 8080": check_the_health,
        "memsync watch handbook.yaml": change_a_file,
        "memsync deploy ecs sources/ --out deployment/": check_what_was_written,
        "memsync deploy lambda sources/ --out deployment/": check_what_was_written,
    },
)


WITHOUT_AN_EXTRA = "import sys\nsys.modules['xberg'] = None\n"  # as Python marks what cannot be imported


def have_files_of_many_kinds(reader: Reader) -> None:
    """As many as the page shows, where the extra for documents is not installed; and a database."""
    folder = reader.folder / "handbook"
    folder.mkdir()
    for number in range(180):
        sentences = 500 if number == 0 else 60
        (folder / f"{number}.md").write_text(f"# Page {number}\n\n{'A page that says something. ' * sentences}\n")
    for ending, count, lines in (("py", 47, 300), ("pdf", 14, 700), ("png", 19, 100)):
        for number in range(count):
            (folder / f"{number}.{ending}").write_text("pass\n" * lines)
    with closing(sqlite3.connect(reader.folder / "wiki.db")) as database, database:
        database.execute("CREATE TABLE page (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
        database.execute("INSERT INTO page VALUES (1, 'Tickets', 'We hand over a ticket with a note.')")
    (reader.folder / "startup").mkdir()
    (reader.folder / "startup" / "sitecustomize.py").write_text(WITHOUT_AN_EXTRA)
    reader.environment["PYTHONPATH"] = str(reader.folder / "startup")


def begin_anew(reader: Reader) -> None:
    """Each of these lines is for somebody else's documents."""
    for file in reader.folder.glob("*.yaml"):
        file.unlink()


def keep_what_it_wrote(reader: Reader) -> None:
    (reader.folder / "handbook.yaml").rename(reader.folder / "written")


def check_what_it_wrote(reader: Reader, block: Block) -> None:
    assert_shown(block, (reader.folder / "written").read_text())
    reader.copies(block)


NOBODY_IS_ASKED = " --endpoint-url local --yes"
INIT = blocks_of("start.md", SHELL)[0].commands
INIT_A_FOLDER, INIT_A_DATABASE = "memsync init handbook", "memsync init wiki.db"
MUST_BE_SAID = {
    "memsync init postgresql://reader@db.example.com/wiki": " --set source.table=pages --set source.id=id",
    "memsync init --type singer": " --set source.command=tap --set 'source.streams={tickets: {}}' --name tickets",
}

LOOKED_AT, WRITTEN = (block.first_line for block in blocks_of("start.md", "", YAML))

START = Scene(
    prepare=have_files_of_many_kinds,
    before=dict.fromkeys(INIT, begin_anew),
    typed_as={
        # No host of the page is there to be looked at.
        command: command
        + MUST_BE_SAID.get(command, "")
        + ("" if command in (INIT_A_FOLDER, INIT_A_DATABASE) else " --no-look")
        + NOBODY_IS_ASKED
        for command in INIT
    },
    then={INIT_A_FOLDER: keep_what_it_wrote},
    blocks={
        LOOKED_AT: shows(INIT_A_FOLDER),
        WRITTEN: check_what_it_wrote,
    },
)

VERIFY = Scene(before={"memsync recover handbook.yaml": lose_the_state})

SCENES: Mapping[str, Scene] = {
    "README.md": README,
    "configuration.md": CONFIGURATION,
    "console.md": CONSOLE,
    "dead-letters.md": DEAD_LETTERS,
    "doctor.md": DOCTOR,
    "local.md": LOCAL_MEMORY,
    "observability.md": OBSERVABILITY,
    "plans.md": PLANS,
    "reports.md": REPORTS,
    "rest.md": REST,
    "running.md": RUNNING,
    "start.md": START,
    "verify.md": VERIFY,
}
