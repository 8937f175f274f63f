"""Takes docs/report.png: the page of a real run, against a local memory that throttles and refuses; needs Chromium.

`make picture-report`. Some two minutes: there are runs before it, so that the page has something to compare with.
"""

import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PICTURE = Path(__file__).parent / "report.png"
SIZE = "1000,1420"
PORT = 8769
FIRST_DOCUMENTS, LATER_DOCUMENTS = 300, 2_500
FAULTS = "requests_per_second=4,drop_after_write=0.03,reject_text=unpublishable"
SETTINGS = f"""\
source: {{type: filesystem, path: handbook}}
destination:
  type: agentcore
  memory_id: handbook-a1B2c3D4e5
  region: us-east-1
  endpoint_url: http://127.0.0.1:{PORT}
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
FOLDERS = ("guides", "policies", "teams/platform", "teams/support")
TOPICS = ("onboarding", "escalation", "access", "handover", "release", "travel")


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("The picture needs Chromium: apt-get install chromium")
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "handbook.yaml").write_text(SETTINGS)
        with memory(folder):
            write(folder, rng, 0, FIRST_DOCUMENTS)
            for _ in range(12):
                memsync(folder, "run", "handbook.yaml")
                write(folder, rng, 0, rng.randrange(5, 60))
        with memory(folder, "--faults", FAULTS):
            write(folder, rng, FIRST_DOCUMENTS, FIRST_DOCUMENTS + LATER_DOCUMENTS)
            for number in range(3):
                (folder / "handbook" / "policies" / f"draft-{number}.md").write_text(
                    f"# Draft {number}\n\nunpublishable\n"
                )
            memsync(folder, "run", "handbook.yaml")
        memsync(folder, "report", "handbook.yaml", "--out", "report.html")
        page = folder / "report.html"
        page.write_text(page.read_text().replace(str(folder), "/srv/memsync").replace(socket.gethostname(), "sync-1"))
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--hide-scrollbars", f"--user-data-dir={folder / 'profile'}",
             f"--window-size={SIZE}", f"--screenshot={PICTURE}", page.as_uri()],
            stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip


def write(folder: Path, rng: random.Random, first: int, end: int) -> None:
    """Write documents of a few sections, other ones each time."""
    for number in range(first, end):
        name = f"{FOLDERS[number % len(FOLDERS)]}/{TOPICS[number % len(TOPICS)]}-{number:04}.md"
        file = folder / "handbook" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        sections = (f"## Step {step}\n\n" + f"{rng.randrange(10**9)} words. " * 120 for step in range(4))
        file.write_text(f"# {name}\n\n" + "\n\n".join(sections))


@contextmanager
def memory(folder: Path, *options: str) -> Iterator[None]:
    """A local memory that keeps what it holds between two of them."""
    command = [sys.executable, "-m", "pipeline", "local", "--port", str(PORT), "--data", "memory.sqlite3", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        server.stdout.readline()  # that it serves
        try:
            yield
        finally:
            server.terminate()


def memsync(folder: Path, *arguments: str) -> None:
    """Run a command; a run that ends with dead letters is what the picture is about."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    subprocess.run(command, cwd=folder, env={"PATH": "", **CREDENTIALS}, stderr=subprocess.DEVNULL, check=False)


main()
