"""What a command loads before it does anything: an hourly job should not pay for what it does not use."""

import subprocess
import sys

import pytest

from tests.acceptance.conftest import Folder, Memory, Memsync

HEAVY = {
    "aiobotocore",
    "botocore",
    "aiohttp",
    "html_to_markdown",
    "jinja2",
    "pathspec",
    "pipeline.local_memory",
    "rich",
}
HEAVY |= {"opentelemetry", "prometheus_client", "apprise"}  # nobody asked to be told of the runs


def modules_loaded_by(program: str, folder: str) -> set[str]:
    """The names of all modules that Python has loaded when `program` is over."""
    ending = "import atexit, sys; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))"
    shown = subprocess.run(
        [sys.executable, "-c", f"{ending}\n{program}"], cwd=folder, capture_output=True, text=True, check=False
    )
    return set(shown.stderr.split("\n"))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["validate", "docs.yaml"]])
def test_help_and_validate_load_nothing_heavy(arguments: list[str], docs: Folder, memory: Memory) -> None:
    """Loading the AWS client alone takes 0.7 s."""
    docs.configure(memory.url)
    docs.write_documents(1)

    loaded = modules_loaded_by(
        f"import sys; sys.argv = ['memsync', *{arguments}]; from pipeline.cli import main; main()", str(docs.path)
    )

    assert "pipeline.cli" in loaded
    assert loaded & HEAVY == set()


def test_a_run_that_changes_nothing_does_not_load_the_aws_client(
    docs: Folder, memory: Memory, memsync: Memsync
) -> None:
    """Most hourly runs are of this kind."""
    docs.configure(memory.url)
    docs.write_documents(3)
    memsync("run", "docs.yaml")

    loaded = modules_loaded_by(
        "import sys; sys.argv = ['memsync', 'run', 'docs.yaml']; from pipeline.cli import main; main()", str(docs.path)
    )

    assert "pipeline.sync" in loaded
    assert loaded & HEAVY == set()
