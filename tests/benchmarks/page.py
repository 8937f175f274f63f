"""Renders `docs/performance.md` from the results."""

import statistics
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.against_peers import CHANGED, FIRST, PEERS, UNCHANGED
from tests.benchmarks.figures import Figure, Speed
from tests.benchmarks.results import Result, Results

FILE = Path(__file__).parents[2] / "docs" / "performance.md"
WIDTH = 120
FINDINGS = Path(__file__).with_name("findings.md")

INTRODUCTION = """# How fast memsync is

Written by `make bench` from `performance.json`. Every figure is a ratio, measured side by side in one run: the median
of the rounds, and the lowest and highest of them. The memory is a stub that takes everything and costs next to nothing,
so that what is measured is memsync.

![Each figure beside its goal](performance-goals.svg)"""

TITLES = {
    "client": "The client",
    "whole": "The whole pipeline",
    "latency": "With 100 ms to an answer",
    "processes": "The command",
    "memory": "A long stream",
    "quota": "A quota that nobody told",
    "peers": "Beside others at the same work",
}

PEERS_INTRODUCTION = """![Documents a second and peak memory of each program](performance-peers.svg)

Each program brings the same folder up to date, as a process of its own: Markdown files with a median of 2 kB, a tenth
of them Chinese, cut into chunks of at most 4,000 characters, a hundred to a batch. memsync is run by its command, with
its ledger and outbox on disk, and sends signed HTTP to the stub. **The others' sinks cost nothing**: they count. With
100 ms to an answer LangChain sends to the stub too, through boto3. Time is that of the sync, without the start of the
process and its imports, except for what is imported only when it is needed. Before each run of another comes one of
memsync, and a ratio is that of the two. Memory is the sum of the peaks of a program's processes."""

PEERS_NOTES = """\
Others are set up as their documentation does it, and in their favour where it leaves a choice; their authors have not
tuned this. Elastic's connectors are left out: they are not on PyPI.

### What each does, and does not do

memsync looks at each file's time and size, hashes what may have changed, writes chunks that are new or changed, deletes
what is gone, saves each batch before it is sent, and keeps the id of every record that the memory confirmed."""


def render(results: Results) -> str:
    return "\n\n".join([INTRODUCTION, *_sections(results), FINDINGS.read_text("utf-8").strip()]) + "\n"


def _sections(results: Results) -> Iterator[str]:
    for name, result in results.by_benchmark.items():
        yield f"## {TITLES[name]}"
        if name == "peers":
            yield PEERS_INTRODUCTION
            yield _table_of_speeds(result.measured.speeds)
        yield _table(
            ["what", "median", "spread", "goal", "met"], (_cells(figure) for figure in result.measured.figures)
        )
        yield _circumstances(result)
        if name == "peers":
            yield PEERS_NOTES
            yield from (_paragraph(peer.description) for peer in PEERS)


def _cells(figure: Figure) -> Sequence[str]:
    spread = f"{min(figure.ratios):.2f} to {max(figure.ratios):.2f}"
    if figure.goal is None:
        return figure.name, f"{figure.median:.2f}", spread, "", ""
    goal = f"{'≥' if figure.is_least else '≤'} {figure.goal:g}"
    return figure.name, f"{figure.median:.2f}", spread, goal, "yes" if figure.is_met else "**no**"


def _table_of_speeds(speeds: Iterable[Speed]) -> str:
    by_program: dict[str, dict[str, Speed]] = {}
    for speed in speeds:
        by_program.setdefault(speed.program, {})[speed.run] = speed
    return _table(
        ["documents a second", FIRST, UNCHANGED, CHANGED, "peak memory, first sync"],
        (_speed_cells(program, runs) for program, runs in by_program.items()),
    )


def _speed_cells(program: str, runs: Mapping[str, Speed]) -> Sequence[str]:
    medians = [statistics.median(runs[run].documents_per_second) for run in (FIRST, UNCHANGED, CHANGED)]
    peak_mb = statistics.median(runs[FIRST].peak_mb)
    return program, *(f"{median:,.0f}" for median in medians), f"{peak_mb:,.0f} MB"


def _circumstances(result: Result) -> str:
    count = max(len(figure.ratios) for figure in result.measured.figures)
    rounds = "one round" if count == 1 else f"{count} rounds"
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    return _paragraph(f"{result.date}, {rounds}: {machine}.")


def _paragraph(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head_and_rows = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    head_and_rows.insert(1, "|---" * len(head) + "|")
    return "\n".join(head_and_rows)
