"""The image holds what it needs, runs without rights, and does by itself what it is for.

Building it takes a base image, which no test can fetch; what can go wrong in the file without that is tested here.
"""

import fnmatch
import json
import re
import tomllib
from pathlib import Path

import click
import pytest

from pipeline.cli import main
from pipeline.deploying.image import CONFIGURATION, HEALTH_PORT, STATE, USER_ID, health_check

PROJECT = Path(__file__).parents[2]
CONTAINERFILE = (PROJECT / "Containerfile").read_text().replace("\\\n", " ")


def instruction(name: str) -> list[str]:
    """What follows each instruction of that name."""
    return re.findall(rf"^{name}\s+(.*)$", CONTAINERFILE, re.MULTILINE)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """The ignore file leaves out everything but what it names: a file that it forgets breaks the build only."""
    ignored = (PROJECT / ".containerignore").read_text().splitlines()
    taken = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = [words.split()[:-1] for words in instruction("COPY") if not words.startswith("--from")]
    names = {name for names in copied for name in names}

    assert names == taken
    assert all((PROJECT / name).exists() for name in names)
    assert "*" in ignored
    assert (PROJECT / ".dockerignore").read_text() == (PROJECT / ".containerignore").read_text()


def test_what_the_project_needs_to_be_built_is_copied() -> None:
    """The readme and the licence are a part of the package."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    taken = (PROJECT / ".containerignore").read_text().splitlines()

    assert f"!{project['readme']}" in taken
    assert all(any(fnmatch.fnmatch(line[1:], pattern) for line in taken) for pattern in project["license-files"])


def test_its_extras_exist_and_its_versions_are_the_tested_ones() -> None:
    """An extra that is not there is a warning of pip, and a source that cannot be read."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (default,) = [words.removeprefix("EXTRAS=") for words in instruction("ARG") if words.startswith("EXTRAS=")]

    assert set(default.split(",")) <= set(extras)
    # Settings that name them are refused without them: each run would end with a configuration error.
    assert {"notify", "otel", "prometheus"} <= set(default.split(","))
    assert any("--constraint constraints.txt" in words for words in instruction("RUN"))


def test_it_runs_without_rights_and_as_the_user_that_others_expect() -> None:
    """The volumes of Kubernetes and AWS are made for that user."""
    assert instruction("USER") == [f"{USER_ID}:{USER_ID}"]
    assert STATE in instruction("VOLUME")[0]
    assert any(f"MEMSYNC_STATE__PATH={STATE}" in words for words in instruction("ENV"))


def test_by_itself_it_keeps_what_is_mounted_in_sync() -> None:
    """A default command that is not accepted would be seen by the first who starts it."""
    name, *arguments = json.loads(instruction("CMD")[0])
    context = click.Context(main, info_name="memsync")
    found = main.get_command(context, name)

    assert found is not None
    parameters = found.make_context(name, list(arguments), parent=context).params
    assert parameters["paths"] == (Path(CONFIGURATION),)
    assert parameters["health_port"] == HEALTH_PORT
    assert json.loads(instruction("HEALTHCHECK")[0].partition("CMD")[2])[-1] == health_check(HEALTH_PORT)


@pytest.mark.parametrize("name", ["Containerfile", ".containerignore"])
def test_no_registry_is_named(name: str) -> None:
    """Where images and packages come from is for whoever builds it."""
    text = (PROJECT / name).read_text()

    assert not re.search(r"^FROM\s+[^\s/]+\.[a-z]+/", text, re.MULTILINE)
    assert "--index-url" not in text
