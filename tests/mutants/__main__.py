"""`python -m tests.mutants`: plant each bug and let the simulation look for it.

First come histories by chance, then the directed ones. A bug counts as found only if a history breaks the promise; one
that merely stops the program does not. `--write` puts the table into docs/mutants.md.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.mutants.planted import MUTANTS, Mutant
from tests.simulation.__main__ import PROMISES
from tests.simulation.scenarios import SCENARIOS

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "mutants.md"
RANDOM_SEEDS = 1_000
DIRECTED_SEEDS = 40
TIMEOUT_S = 600.0  # of one search; a bug that makes a history endless is found by that

FAILED = re.compile(r"^seed (\d+) \((\w+)\) FAILED\n((?:    .*\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Kill:
    """What found a bug: the scenario, the seed, and how the promise was broken."""

    mutant: Mutant
    scenario: str | None
    seed: int
    broken: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these bugs")
    parser.add_argument(
        "--seeds", type=int, default=RANDOM_SEEDS, help="by chance, for each bug (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.relative_to(PROJECT)}")
    arguments = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if not arguments.names or mutant.name in arguments.names]
    print(f"{len(mutants)} bugs, each looked for in up to {arguments.seeds} histories by chance, then in directed ones")
    with ThreadPoolExecutor(arguments.processes) as pool:
        kills = []
        for kill in pool.map(partial(hunt, seeds=arguments.seeds), mutants):
            kills.append(kill)
            print(row(kill), flush=True)
    found = sum(kill.scenario is not None for kill in kills)
    print(f"\n{found} of {len(kills)} planted bugs found")
    if arguments.write:
        PAGE.write_text(page(kills), encoding="utf-8")
    return found < len(kills)


def hunt(mutant: Mutant, *, seeds: int) -> Kill:
    """Look for `mutant` until something finds it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="memsync-mutant-") as folder:
        project = Path(folder)
        for part in ("pipeline", "connectors", "tests/simulation"):
            shutil.copytree(PROJECT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
        mutant.plant(project)
        searches = [("random", f"0:{seeds}")]
        searches += [(name, f"0:{DIRECTED_SEEDS}") for name in SCENARIOS if name != "random"]
        for scenario, histories in searches:
            said = search(project, scenario, histories)
            for seed, name, violations in FAILED.findall(said):
                if broken := next((kind for kind in PROMISES if f"    {kind}:" in violations), None):
                    return Kill(mutant, name, int(seed), broken, time.monotonic() - began)
    return Kill(mutant, None, -1, "", time.monotonic() - began)


def search(project: Path, scenario: str, seeds: str) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--scenario", scenario, "--seeds", seeds]
    try:
        done = subprocess.run(
            [*command, "--processes", "1", "--until-promise-breaks"],
            cwd=project,
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


def row(kill: Kill) -> str:
    by = f"{kill.scenario} {kill.seed}" if kill.scenario else "NOT FOUND"
    return f"{kill.mutant.name:<34} {by:<28} {kill.broken:<22} {kill.seconds:6.1f} s"


def page(kills: Sequence[Kill]) -> str:
    lines = [
        "# Planted bugs",
        "",
        "What the simulation can see: each of these bugs was put into the program, and a history found it.",
        "`make mutants` plants them again. `random` draws everything by chance; with it stands the first seed that saw",
        "the bug. The others are directed histories, for what chance seldom does.",
        "",
        "| planted bug | what it breaks | found by | seed | as |",
        "|---|---|---|---|---|",
    ]
    for kill in kills:
        by, seed = (kill.scenario, str(kill.seed)) if kill.scenario else ("**nothing**", "")
        lines.append(f"| `{kill.mutant.name}` | {kill.mutant.breaks} | {by} | {seed} | {kill.broken} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
