"""Writes docs/failures.md: the likeliest failures, each provoked, with what memsync says. `make failures`.

Some two minutes. Read the page afterwards as somebody would whom it wakes.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parent / "failures.md"
SETTINGS = """\
name: handbook
source: {{type: filesystem, path: handbook}}
destination: {{type: agentcore, memory_id: handbook-a1B2c3D4e5, region: us-east-1, endpoint_url: "{url}"}}
writers: {{max_attempts: 2}}
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
INTRODUCTION = """\
# What failures look like

Each was provoked, and this is what memsync said, to people and without colours. Whatever it is, nothing is lost and
nothing is deleted by a run that failed. What to do about other words is in [When something fails](troubleshooting.md).
"""


@dataclass
class Scene:
    """A folder with a source of three documents, and a memory on this machine that holds what they imply."""

    folder: Path
    url: str = ""
    shown: list[str] = field(default_factory=list)

    def configure(self, more: str = "", url: str | None = None, file: str = "handbook.yaml") -> None:
        (self.folder / file).write_text(SETTINGS.format(url=url or self.url) + more)

    def write(self, name: str, text: str) -> None:
        file = self.folder / "handbook" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def run(self, *arguments: str, environment: dict[str, str] | None = None, is_shown: bool = True) -> None:
        """Run a command; show it with what it prints for people, and its exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments], cwd=self.folder, env=_environment(environment),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if is_shown:
            logs = [line for line in done.stderr.splitlines() if not line.startswith("{")]
            printed = "\n".join([*logs, *done.stdout.rstrip().splitlines()])
            self.shown.append(f"$ memsync {' '.join(arguments)}\n{printed}\n[exit code {done.returncode}]")


def _environment(more: dict[str, str] | None) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true",
            **(CREDENTIALS if more is None else more)}  # fmt: skip


# ------------------------------------------------------------------------------------------------- the failures


def no_credentials(scene: Scene) -> None:
    """There are no AWS credentials where the job runs: the most frequent fault of a first run."""
    scene.configure(url="https://memory.invalid")
    scene.write("new.md", "# New\n\nA new page.\n")
    scene.run("run", "handbook.yaml", environment={})


def wrong_memory(scene: Scene) -> None:
    """The id of the memory has a typo."""
    text = (scene.folder / "handbook.yaml").read_text().replace("a1B2c3D4e5", "z9Y8x7W6v5")
    (scene.folder / "handbook.yaml").write_text(text)
    shutil.rmtree(scene.folder / ".memsync")
    scene.run("run", "handbook.yaml")


def no_network(scene: Scene) -> None:
    """Nothing answers at the address of the memory."""
    scene.configure(url="http://127.0.0.1:9")
    scene.write("new.md", "# New\n\nA new page.\n")
    scene.run("run", "handbook.yaml")


def typo(scene: Scene) -> None:
    """A key of the YAML file is misspelt, and a value is of the wrong kind."""
    scene.configure("chunking: {max_chrs: 2000}\ndeletes: {max_fraction: half}\n")
    scene.run("validate", "handbook.yaml")


def missing_folder(scene: Scene) -> None:
    """The folder is not mounted tonight."""
    (scene.folder / "handbook").rename(scene.folder / "elsewhere")
    scene.run("run", "handbook.yaml")


def broken_document(scene: Scene) -> None:
    """A file is broken: it is one dead letter, and the others are written."""
    scene.write("new.md", "# New\n\nA new page.\n")
    (scene.folder / "handbook" / "scanned.pdf").write_bytes(b"%PDF-1.7 and no more")
    scene.run("run", "handbook.yaml")
    scene.run("dead-letters", "handbook.yaml")


def refused_record(scene: Scene) -> None:
    """The memory refuses a record."""
    scene.write("draft.md", "# Draft\n\nunpublishable\n")
    scene.run("run", "handbook.yaml")
    scene.run("dead-letters", "handbook.yaml")


def mass_deletion(scene: Scene) -> None:
    """Most documents are gone at once."""
    for number in range(20):
        scene.write(f"{number}.md", f"# Page {number}\n\nText of page {number}.\n")
    scene.run("run", "handbook.yaml", is_shown=False)
    for number in range(20):
        (scene.folder / "handbook" / f"{number}.md").unlink()
    scene.run("run", "handbook.yaml")


def held_by_another(scene: Scene) -> None:
    """The run before has not ended when the next one begins."""
    with _stopped_run(scene):
        scene.run("run", "handbook.yaml")


def killed(scene: Scene) -> None:
    """The machine went down in the middle of a run: the next one carries on."""
    with _stopped_run(scene) as process:
        process.kill()
        process.wait()
        scene.run("status", "handbook.yaml")
    scene.run("run", "handbook.yaml")


def lost_state(scene: Scene) -> None:
    """The job runs on a new machine, or in a container that keeps nothing."""
    shutil.rmtree(scene.folder / ".memsync")
    scene.run("run", "handbook.yaml")
    scene.run("recover", "handbook.yaml")


def emptied_memory(scene: Scene) -> None:
    """Somebody has made the memory anew under the same name."""
    with memory(scene.folder / "other.sqlite3", "--memory-id", "handbook-a1B2c3D4e5") as url:
        scene.configure(url=url)
        scene.write("new.md", "# New\n\nA new page.\n")
        scene.run("run", "handbook.yaml")


def missing_variable(scene: Scene) -> None:
    """A secret is not set where the job runs, and a driver is not installed."""
    scene.configure(file="wiki.yaml")
    text = (scene.folder / "wiki.yaml").read_text().replace("name: handbook", "name: wiki")
    source = "source: {type: sql, url: 'oracle+oracledb://reader:${env:WIKI_PASSWORD}@db/wiki', table: pages, id: id}"
    (scene.folder / "wiki.yaml").write_text(re.sub(r"source: .*", lambda _: source, text))
    scene.run("validate", "wiki.yaml")
    scene.run("run", "wiki.yaml")


def unreadable_state(scene: Scene) -> None:
    """The disk has spoilt the state."""
    state = next((scene.folder / ".memsync" / "handbook").glob("state.sqlite3"))
    state.write_bytes(b"ruined" * 1000)
    scene.run("run", "handbook.yaml")


def overdue(scene: Scene) -> None:
    """What starts the job has stopped doing so; somebody wonders whether all is well."""
    scene.configure('schedule: "* * * * *"\n')
    database = next((scene.folder / ".memsync" / "handbook").glob("state.sqlite3"))
    import sqlite3  # noqa: PLC0415 - to put the clock back

    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE run SET started_at = started_at - 10000, ended_at = ended_at - 10000")
    scene.run("status", "handbook.yaml")


FAILURES: tuple[Callable[[Scene], None], ...] = (
    no_credentials, wrong_memory, no_network, typo, missing_variable, missing_folder, broken_document, refused_record,
    mass_deletion, held_by_another, killed, lost_state, emptied_memory, unreadable_state, overdue,
)  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the stage


@contextmanager
def memory(data: Path, *options: str) -> Iterator[str]:
    """The address of a local memory that refuses what holds the word `unpublishable`."""
    command = [sys.executable, "-m", "pipeline", "local", "--port", "0", "--data", str(data), *options]
    with subprocess.Popen(
        [*command, "--faults", "reject_text=unpublishable"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        (url,) = re.findall(r"http://[\d.:]+", server.stdout.readline())
        yield url
        server.terminate()


@contextmanager
def _stopped_run(scene: Scene) -> Iterator["subprocess.Popen[str]"]:
    """A run that has begun, and goes on no further."""
    scene.write("new.md", "# New\n\nA new page.\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "handbook.yaml"], cwd=scene.folder, env=_environment(None),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if '"scan_finished"' in line:  # it has the source now, and has begun
            break
    process.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def recorded(failure: Callable[[Scene], None]) -> str:
    """A section of the page: what was provoked, and what was said."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "sync"
        folder.mkdir()
        scene = Scene(folder)
        with memory(Path(temporary) / "memory.sqlite3", "--memory-id", "handbook-a1B2c3D4e5") as url:
            scene.url = url
            scene.configure()
            for name in ("onboarding", "escalation", "travel"):
                scene.write(f"{name}.md", f"# {name.title()}\n\nHow we do {name}.\n")
            scene.run("run", "handbook.yaml", is_shown=False)
            failure(scene)
        said = "\n\n".join(scene.shown).replace(str(folder), "/srv/sync").replace(socket.gethostname(), "sync-1")
        said = re.sub(r"http://127\.0\.0\.1:\d{3,}", "http://127.0.0.1:8765", said)
    assert failure.__doc__ is not None
    title = failure.__name__.replace("_", " ").capitalize()
    return f"## {title}\n\n{failure.__doc__}\n\n```text\n{said}\n```\n"


if __name__ == "__main__":
    PAGE.write_text("\n".join([INTRODUCTION, *map(recorded, FAILURES)]), encoding="utf-8")
