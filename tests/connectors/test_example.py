"""The example of a connector in a package of its own: found by its entry point, and true to the contract."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "connector-example"


def run(*command: str, folder: Path, path: list[Path]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_example_keeps_the_contract(tmp_path: Path) -> None:
    """By its own tests, as they are run by whoever writes a connector."""
    options = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-c",
        "pyproject.toml",
        "--basetemp",
        str(tmp_path / "tests"),
    ]

    done = run("-m", "pytest", *options, "tests", folder=EXAMPLE, path=[EXAMPLE, ROOT])

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_an_installed_connector_is_found_and_used(tmp_path: Path) -> None:
    """Nothing of memsync has to be changed for it."""
    installed = tmp_path / "site"
    metadata = installed / "memsync_zip-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: memsync-zip\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[memsync.connectors]\nzip = memsync_zip:ZipConnector\n")
    (tmp_path / "zip.yaml").write_text(
        "source: {type: zip, path: docs.zip}\ndestination: {type: agentcore, endpoint_url: local}\n"
    )
    path = [installed, EXAMPLE, ROOT]
    archive = "import zipfile; zipfile.ZipFile('docs.zip', 'w').writestr('a.md', '# A title')"
    assert run("-c", archive, folder=tmp_path, path=path).returncode == 0

    listed = run("-m", "pipeline", "sources", folder=tmp_path, path=path)
    synced = run("-m", "pipeline", "run", "zip.yaml", folder=tmp_path, path=path)

    assert any(line.startswith("zip ") and line.endswith("memsync-zip") for line in listed.stdout.splitlines())
    assert synced.returncode == 0, synced.stderr
    assert "1 created" in synced.stdout
