"""Draws docs/quickstart.svg from what the quickstart really prints: `make picture`."""

import io
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "memsync run configs/quickstart.yaml",
    "memsync run configs/quickstart.yaml",
    'memsync search configs/quickstart.yaml "how do I send dead letters again?" --count 1',
)


def main() -> None:
    console = Console(record=True, width=104, file=io.StringIO())
    with tempfile.TemporaryDirectory() as state:
        for command in COMMANDS:
            shown = subprocess.run(
                [sys.executable, "-m", "pipeline", *shlex.split(command)[1:]],
                cwd=ROOT,
                env={"PATH": "", "MEMSYNC_STATE__PATH": state},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=True,
            ).stdout
            console.print(Text(f"$ {command}", style="bold green"))
            console.print(Text(shown))
    drawn = console.export_svg(title="memsync")
    # The picture must not fetch fonts from elsewhere.
    drawn = re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL)
    (ROOT / "docs" / "quickstart.svg").write_text(drawn)


main()
