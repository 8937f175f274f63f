"""`make bench`: how fast memsync is, as ratios to what stands beside it in the same run.

Each figure is the median of some rounds, in which its two sides take turns; the spread is the lowest and the highest
ratio of a round. Machines are shared, so seconds tell little, and ratios of CPU time more than ratios of time.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
from aiobotocore import __version__ as client_version

from tests.benchmarks import client, quota, whole
from tests.benchmarks.figures import Figure, ratios
from tests.benchmarks.programs import MEMSYNC, Ran, Source, run, start
from tests.benchmarks.stub import stub

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
LATENCY_S = 0.1

FINDINGS = """## Where a goal is missed

At the service's own quota (20 requests, 2,000 records a second) memsync waits for the service: its own work takes a
quarter of one core. What follows counts where the quota is raised, and for the first look at many files.

- **The whole pipeline** spends some 140 µs of CPU on a record. No step stands out: cutting and keying the text 30 %,
  the client 15 %, planning 12 %, batches 9 %, the ledger 8 %, changes of threads 15 to 20 %. Commits were the most
  before what waits together was made durable together (320 to 200 µs a record).
- **With 100 ms to an answer** this bounds it at some 4,500 records a second, whatever the number of writers.
- **A run without changes** looks at 20,000 files a second beside some 0.5 s of start; `find` only prints them.

## What was tried and dropped

- Cutting small texts without a worker thread: no difference.
- A shorter or longer interval between the interpreter's threads: no difference beyond the noise.
- SQLite's `secure_delete = FAST`: a tenth less is written, and deleted texts would stay in the file."""


async def cost_of_the_client(rounds: int) -> list[Figure]:
    """The bytes that the outbox saved, on their way to the memory and back."""
    cost: dict[str, list[float]] = {variant: [] for variant in client.VARIANTS}
    with stub() as url:
        for _ in range(rounds):
            for variant, costs in cost.items():
                _, cpu = await client.measure(variant, url, requests=100, writers=8)
                costs.append(cpu)
    ours, stock, bare = cost.values()
    return [
        Figure("client: CPU of a record, to stock aiobotocore's", ratios(ours, stock), 0.2),
        Figure("client: CPU of a record, to that of aiohttp with a signature by hand", ratios(ours, bare), 3.0),
    ]


async def cost_of_the_whole_way(rounds: int) -> list[Figure]:
    """From documents in this process to the ledger that knows them stored."""
    ours, stock = [], []
    source = whole.Generated(1000, sections=10)
    with stub() as url:
        for _ in range(rounds):
            ours.append(await whole.measure(url, source, writers=8))
            stock.append(await client.measure("stock aiobotocore", url, requests=60, writers=8))
    return [
        Figure(
            "whole pipeline: CPU of a record, to the bare stock client's",
            ratios([cpu for _, _, cpu in ours], [cpu for _, cpu in stock]),
            0.55,
        ),
        Figure(
            "whole pipeline: records a second, to the bare stock client's",
            ratios([seconds for seconds, _ in stock], [seconds for _, seconds, _ in ours]),
            1.9,
            is_least=True,
        ),
    ]


async def use_of_the_writers(rounds: int) -> list[Figure]:
    """With 100 ms to an answer, so many writers can send so many records a second, and no more."""
    figures = []
    with stub(LATENCY_S) as url:
        for writers in (8, 32):
            shares = []
            for _ in range(rounds):
                seconds, _ = await client.measure("memsync", url, requests=writers * 20, writers=writers)
                shares.append(LATENCY_S / (writers * client.RECORDS) / seconds)
            figures.append(
                Figure(f"client at 100 ms, {writers} writers: share of what they can send", shares, 0.95, is_least=True)
            )
        for writers in (8, 32):
            source = whole.Generated(50 * writers, sections=10)
            shares = []
            for _ in range(rounds):
                stored, seconds, _ = await whole.measure(url, source, writers=writers)
                assert stored > 0
                shares.append(LATENCY_S / (writers * client.RECORDS) / seconds)
            figures.append(
                Figure(
                    f"whole pipeline at 100 ms, {writers} writers: share of what they can send",
                    shares,
                    0.9,
                    is_least=True,
                )
            )
    return figures


async def whole_processes(rounds: int) -> list[Figure]:
    """The command on a folder: nothing has changed, and it starts."""
    with tempfile.TemporaryDirectory() as folder, stub() as url:
        few, many = (Source.make(Path(folder, str(count)), count) for count in (20_000, 100_000))
        small = Source.make(Path(folder, "small"), 100)
        idle = Path(folder)
        for source in (few, many, small):
            source.configure(url)
        first = {source.documents: source.sync()[0] for source in (few, many, small)}
        quiet, find, quiet_small, python, help_, with_client = [], [], [], [], [], []
        for _ in range(rounds):
            quiet.append(many.sync()[0])
            find.append(many.find())
            quiet_small.append(small.sync()[0])
            python.append(start("-c", "pass", folder=idle))
            help_.append(run([MEMSYNC, "--help"], idle))
            with_client.append(start("-c", "import aiobotocore.session", folder=idle))
        per_document = {count: ran.seconds / count for count, ran in first.items()}

    def seconds(runs: Sequence[Ran]) -> list[float]:
        return [ran.seconds for ran in runs]

    return [
        Figure("no change in 100,000 files: time, to `find`'s", ratios(seconds(quiet), seconds(find)), 5.0),
        Figure(
            "no change in 100 files: time, to `python -c pass`", ratios(seconds(quiet_small), seconds(python)), 40.0
        ),
        Figure("`memsync --help`: time, to `python -c pass`", ratios(seconds(help_), seconds(python)), 12.0),
        Figure(
            "first sync of 100,000 files: peak memory, to a process that has imported the client",
            [first[100_000].peak_bytes / ran.peak_bytes for ran in with_client],
            2.0,
        ),
        Figure(
            "no change in 100,000 files: peak memory, to a process that has imported the client",
            [ran.peak_bytes / other.peak_bytes for ran, other in zip(quiet, with_client, strict=True)],
            1.6,
        ),
        Figure(
            "first sync: documents a second with 100,000 files, to 20,000 (one round)",
            [per_document[20_000] / per_document[100_000]],
            0.9,
            is_least=True,
        ),
    ]


BENCHMARKS: dict[str, Callable[[int], Awaitable[list[Figure]]]] = {
    "client": cost_of_the_client,
    "whole": cost_of_the_whole_way,
    "latency": use_of_the_writers,
    "processes": whole_processes,
    "quota": quota.over_http,
}


def page(rows: Sequence[str]) -> Iterator[str]:
    versions = f"{os.cpu_count()} cores, Python {platform.python_version()}, aiobotocore {client_version}"
    yield from (
        "# How fast memsync is",
        "",
        "Written by `make bench`. Every figure is a ratio, measured side by side in one run: the median of the rounds,",
        "and the lowest and highest of them. The memory is a stub that takes everything and costs next to nothing, so",
        "that what is measured is memsync.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}. {versions}.",
        "",
        "| what | median | spread | goal | met |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *FINDINGS.splitlines(),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(BENCHMARKS), choices=list(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only:
        for figure in anyio.run(BENCHMARKS[name], arguments.rounds):
            rows.append(figure.row())
            sys.stdout.write(f"{rows[-1]}\n")
            sys.stdout.flush()
    if arguments.write:
        PAGE.write_text("\n".join(page(rows)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
