"""**Singer** tap and target of the Meltano SDK, joined by a pipe, with the state that the target leaves for the tap.

Does: skips files that are older than the newest of the last run, writes the others again. Does not: hash, drop
duplicates, delete what is gone, know a file that comes back with an old date, keep ids of what it wrote: the least work
of all, and in two processes. It brings no splitter: text is cut at empty lines. To its advantage msgspec encodes the
messages, and schemas are not checked.
"""

import json
import subprocess
import sys
from pathlib import Path

from common import report

HERE = Path(__file__).parent


def main() -> None:
    folder, state_folder = (Path(argument).resolve() for argument in sys.argv[1:3])
    state_folder.mkdir(parents=True, exist_ok=True)
    config, state = state_folder / "config.json", state_folder / "state.json"
    config.write_text(json.dumps({"folder": str(folder), "notes": str(state_folder)}))

    tap_command = [sys.executable, str(HERE / "singer_tap.py"), "--config", str(config)]
    if state.exists():
        tap_command += ["--state", str(state)]
    target_command = [sys.executable, str(HERE / "singer_target.py"), "--config", str(config)]
    with (
        subprocess.Popen(tap_command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tap,
        subprocess.Popen(
            target_command, stdin=tap.stdout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as target,
    ):
        tap.stdout.close()  # or the tap would never learn that the target has gone
        states, _ = target.communicate()
    assert tap.returncode == target.returncode == 0
    state.write_text(states.splitlines()[-1])

    tapped, written = (json.loads((state_folder / f"{name}.json").read_text()) for name in ("tap", "target"))
    seconds = written["ended"] - max(tapped["began"], written["began"])
    report(tapped["documents"], written["written"], 0, seconds)


main()
