"""Tab in a real shell, with the script that `memsync completion` prints."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Folder, Memsync, program
from .terminal import Terminal, on_terminal

READY = "shell is ready"
START = {
    # Without the user's own configuration. The word is put together by the shell, so that its echo is not taken for it.
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set enable-bracketed-paste off'; source {script}"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source {script}"),
    "fish": (["fish", "--no-config", "-i"], "source {script}"),
}
SHELLS = [
    pytest.param(
        shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is NOT tested: not here")
    )
    for shell in START
]
HEAVY = {"pydantic", "anyio", "aiobotocore", "botocore", "structlog", "rich", "pipeline.configuration.settings"}


@contextmanager
def shell_with_completion(shell: str, folder: Folder, memsync: Memsync) -> Iterator[Terminal]:
    printed = memsync("completion", shell)
    assert printed.exit_code == 0, printed.stderr
    script = memsync.home / f"completion.{shell}"
    script.write_text(printed.stdout)
    arguments, setup = START[shell]
    environment = {
        "PATH": f"{program().parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(memsync.home),
        "LANG": "C.UTF-8",
    }
    with on_terminal(arguments, folder.path, environment) as terminal:
        terminal.type(f"{setup.format(script=script)}; echo shell 'is' ready\n")
        terminal.wait_for(READY)
        yield terminal


def configure(folder: Folder, *names: str) -> None:
    for name in names:
        folder.configure("local", f"{name}.yaml", name=name)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_is_completed(shell: str, folder: Folder, memsync: Memsync) -> None:
    """The first Tab that anybody presses."""
    with shell_with_completion(shell, folder, memsync) as terminal:
        terminal.type("memsync dead\t")

        terminal.wait_for("-letters")


@pytest.mark.parametrize("shell", SHELLS)
def test_yaml_files_are_completed_and_others_are_not(shell: str, folder: Folder, memsync: Memsync) -> None:
    """A folder of sources has notes and backups beside them, which no command reads."""
    configure(folder, "handbook")
    (folder.path / "handbook.yaml").rename(folder.path / "hand book.yaml")
    (folder.path / "hand notes.txt").write_text("notes")

    with shell_with_completion(shell, folder, memsync) as terminal:
        terminal.type("memsync validate hand\t\n")

        terminal.wait_for("source 'handbook' is valid")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_names_of_sources_are_completed(shell: str, folder: Folder, memsync: Memsync) -> None:
    """Who has many sources knows the first letters of their names."""
    configure(folder, "handbook", "tickets")

    with shell_with_completion(shell, folder, memsync) as terminal:
        terminal.type("memsync run . --source tick\t --json\n")

        terminal.wait_for('"name": "tickets"')


@pytest.mark.parametrize("shell", SHELLS)
def test_broken_files_do_not_disturb_the_line(shell: str, folder: Folder, memsync: Memsync) -> None:
    """Files are broken while they are being written, which is when commands are typed."""
    configure(folder, "handbook")
    (folder.path / "broken.yaml").write_text("source: [\n\t- {")
    (folder.path / "list.yml").write_text("- a\n")

    with shell_with_completion(shell, folder, memsync) as terminal:
        terminal.type("memsync run . --source hand\t --help\n")

        assert "Traceback" not in terminal.wait_for("Bring the memory up to date")


def completions(folder: Path, *words: str) -> list[str]:
    """What is offered for the last of `words`, as Bash would ask for it."""
    line = " ".join(["memsync", *words])
    environment = {"PATH": os.environ["PATH"], "COMP_WORDS": line, "_MEMSYNC_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [str(program())], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_documents_that_are_dead_letters_are_completed(folder: Folder, memsync: Memsync) -> None:
    """They are what one wants to look at, and their ids are long."""
    configure(folder, "docs")
    folder.write("good.md", "text")
    folder.write("bad name: Ü.pdf", "no pdf")
    memsync("run", "docs.yaml")

    assert completions(folder.path, "preview", "docs.yaml", "") == ["bad name: Ü.pdf"]
    assert completions(folder.path, "preview", "docs.yaml", "good") == []


def test_the_letters_are_found_where_the_settings_put_them(folder: Folder, memsync: Memsync) -> None:
    """State is often kept on another disk."""
    folder.configure("local", state={"path": "elsewhere"})
    folder.write("bad.pdf", "no pdf")
    memsync("run", "docs.yaml")

    assert completions(folder.path, "preview", "docs.yaml", "") == ["bad.pdf"]


def test_the_types_of_sources_are_completed(folder: Folder) -> None:
    """Nobody knows all of them."""
    assert completions(folder.path, "sources", "s") == ["s3", "singer", "sql"]
    assert completions(folder.path, "init", "--type=im") == ["imap"]


def test_names_are_those_of_the_files_that_were_typed(folder: Folder) -> None:
    """Others would be refused."""
    configure(folder, "handbook", "tickets")

    assert completions(folder.path, "run", "tickets.yaml", "--source", "") == ["tickets"]
    assert completions(folder.path, "run", "--source", "") == ["handbook", "tickets"]


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "name: [1]\n", "name: \x1b[31m\n", "\xff"])
def test_a_broken_file_offers_nothing_and_says_nothing(text: str, folder: Folder) -> None:
    """What is printed would be written over the line that is being typed."""
    (folder.path / "broken.yaml").write_text(text, encoding="latin-1")

    found = completions(folder.path, "run", "broken.yaml", "--source", "")

    assert all(name.isprintable() for name in found)


def test_a_broken_file_of_dead_letters_offers_nothing(folder: Folder) -> None:
    """As after a power cut."""
    configure(folder, "docs")
    folder.state.mkdir(parents=True)
    (folder.state / "dead-letters.jsonl").write_text(json.dumps({"id": 1}) + '\n{"docu')

    assert completions(folder.path, "preview", "docs.yaml", "") == []


@pytest.mark.parametrize("line", ["memsync run ", "memsync run . --source ", "memsync sources "])
def test_completing_loads_nothing_heavy(line: str, folder: Folder) -> None:
    """Tab is waited for: settings and what they bring take longer than everything else together."""
    configure(folder, "docs")
    ending = "import atexit, sys; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))"
    shown = subprocess.run(
        [sys.executable, "-c", f"{ending}\nfrom pipeline.cli import main; main(prog_name='memsync')"],
        cwd=folder.path,
        env={"COMP_WORDS": line, "_MEMSYNC_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=False,
    )

    loaded = set(shown.stderr.split("\n"))
    assert "pipeline.commands.completing" in loaded
    assert loaded & HEAVY == set()
