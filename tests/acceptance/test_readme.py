"""What README.md tells people to type works: copied from there, and run."""

import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from pipeline.cli import main

from .conftest import CREDENTIALS, Folder, Memory, Memsync

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()

STAY_UP = {"local", "schedule", "console"}
ASKS = "init"


def blocks(language: str, page: str = README) -> list[str]:
    """The fenced blocks of README.md, or another page, in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def commands(page: str = README) -> Iterator[list[str]]:
    """The arguments of each `memsync` command in a block of shell."""
    for block in blocks("sh", page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["memsync"]:
                yield words[1:]


def parse(arguments: list[str]) -> click.Context:
    """How click understands the arguments.

    Raises:
        click.UsageError: it does not.
    """
    outer = click.Context(main, info_name="memsync")
    name, command, rest = main.resolve_command(outer, list(arguments))
    assert command is not None
    return command.make_context(name, rest, parent=outer)


def paths_of(arguments: list[str]) -> list[Path]:
    """The configuration files that the arguments name."""
    parameters = parse(arguments).params
    return list(parameters.get("paths") or filter(None, [parameters.get("path")]))


def test_every_command_is_accepted() -> None:
    """An option that was renamed must be renamed there too."""
    accepted = [parse(arguments).info_name for arguments in commands()]

    assert {
        "run",
        "plan",
        "replay",
        "dead-letters",
        "status",
        "verify",
        "recover",
        "search",
        "local",
        "schedule",
        "deploy",
        "init",
    } <= set(accepted)


def test_every_command_of_the_page_on_running_is_accepted() -> None:
    """It is what people copy into units and images."""
    page = (PROJECT / "docs" / "running.md").read_text()

    accepted = [parse(arguments).info_name for arguments in commands(page)]

    assert set(accepted) == {"schedule", "watch", "deploy"}


@pytest.mark.parametrize(
    ("page", "names"), [("local.md", {"local"}), ("verify.md", {"verify", "recover"}), ("console.md", {"console"})]
)
def test_every_command_of_a_page_that_the_readme_leads_to_is_accepted(page: str, names: set[str]) -> None:
    """Details stand there, and are typed as much."""
    accepted = [parse(arguments).info_name for arguments in commands((PROJECT / "docs" / page).read_text())]

    assert f"docs/{page}" in README
    assert set(accepted) == names


@pytest.mark.parametrize("target", ["make quickstart", "make test"])
def test_the_first_commands_are_named(target: str) -> None:
    """The first thing that a reader looks for: how to try it, how to know that it works; and make knows both."""
    typed = [line.strip() for block in blocks("sh") for line in block.splitlines()]
    makefile = (PROJECT / "Makefile").read_text()

    assert target in typed
    assert re.search(rf"^{target.removeprefix('make ')}:", makefile, re.MULTILINE)


def test_the_commands_work_with_the_configuration_that_stands_beside_them(
    folder: Folder, memory: Memory, memsync: Memsync
) -> None:
    """A reader copies the YAML, types the commands in their order, and each of them does what it should."""
    typed = [arguments for arguments in commands() if arguments[0] not in {*STAY_UP, ASKS}]
    settings = yaml.safe_load(blocks("yaml")[0])
    work = folder.path / "work"
    shutil.copytree(PROJECT / "configs", work / "configs", ignore=shutil.ignore_patterns(".memsync"))
    for file in {path for arguments in typed for path in paths_of(arguments)}:
        if not (work / file).exists():
            (work / file).write_text(blocks("yaml")[0])
    documents = (work / settings["source"]["path"]).resolve()
    documents.mkdir()
    (documents / "tickets.md").write_text("# Tickets\n\nWe hand over a ticket with a note of what was tried.\n")
    memory.create(settings["destination"]["memory_id"])
    in_memory_here = {**CREDENTIALS, "MEMSYNC_DESTINATION__ENDPOINT_URL": memory.url}

    in_work = Memsync(work, memsync.home)
    failed = {}
    for arguments in typed:
        if arguments[0] == "recover":  # is for those whose state is gone
            shutil.rmtree(work / ".memsync")
        done = in_work(*arguments, environment=in_memory_here)
        if done.exit_code != 0:
            failed[shlex.join(arguments)] = done

    assert failed == {}
    assert len(memory.records(settings["destination"]["memory_id"])) == 1


def test_the_configuration_can_be_kept_in_sync(folder: Folder, memory: Memory, memsync: Memsync) -> None:
    """What is typed to stay up does, with that YAML, until it is told to stop."""
    settings = yaml.safe_load(blocks("yaml")[0])
    folder.configure(memory.url, "handbook.yaml", schedule=settings["schedule"])
    folder.write_documents(1)
    (typed,) = [arguments for arguments in commands() if arguments[0] == "schedule"]

    running = memsync.start(*typed)
    running.wait_for_log("process_ended")

    assert running.stop_by(signal.SIGTERM).exit_code == 0
    assert len(memory.documents()) == 1


def test_what_init_begins_can_be_run(folder: Folder, memsync: Memsync) -> None:
    """It is the first command that a reader types for documents of their own."""
    (typed,) = [arguments for arguments in commands() if arguments[0] == ASKS]
    work = folder.path / "work"
    work.mkdir()
    folder.documents.rename((work / typed[1]).resolve())
    (work / typed[1] / "tickets.md").write_text("# Tickets\n\nWe hand over a ticket with a note.\n")

    in_work = Memsync(work, memsync.home)
    begun = in_work(*typed, "--yes")
    (file,) = work.glob("*.yaml")
    ran = in_work("run", file.name)

    assert begun.exit_code == 0, begun.stderr
    assert ran.exit_code == 0, ran.stderr


def test_the_page_on_starting_shows_what_init_takes_and_writes(folder: Folder, memsync: Memsync) -> None:
    """It is read beside the terminal."""
    text = (PROJECT / "docs" / "start.md").read_text()
    (folder.path / "handbook.yaml").write_text(blocks("yaml", text)[0])

    accepted = [parse(arguments).info_name for arguments in commands(text)]

    assert set(accepted) == {"init", "preview", "run", "search"}
    assert memsync("validate", "handbook.yaml").exit_code == 0


def test_the_yaml_files_that_are_named_are_valid(memsync: Memsync) -> None:
    """Examples are copied; one that is refused would be the first thing that a new user meets."""
    done = memsync("validate", str(PROJECT / "configs"))

    assert done.exit_code == 0, done.stderr
