"""`make bench` and `make bench-check`: how fast memsync is, as ratios to what stands beside it in the same run.

Each figure is the median of some rounds, in which its two sides take turns; the spread is the lowest and the highest
ratio of a round. Machines are shared, so seconds tell little, and ratios of CPU time more than ratios of time.
"""

import argparse
import gc
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import anyio

from tests.benchmarks import against_peers, bands, client, generated, memory, page, quota, results, whole
from tests.benchmarks.figures import Figure, Measured, Scale, ratios
from tests.benchmarks.programs import MEMSYNC, Ran, Source, run, start
from tests.benchmarks.stub import stub

ROOT = Path(__file__).parents[2]
PLOTS = Path(__file__).parent / "peers" / "plots.py"
DEFAULT = Scale()
LATENCY_S = 0.1
# The least that a process with a client of AWS holds.
IDLE_CLIENT = """
import asyncio
from aiobotocore.session import get_session

async def main():
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    async with get_session().create_client("bedrock-agentcore", region_name="us-east-1", **keys):
        pass

asyncio.run(main())
"""


async def cost_of_the_client(scale: Scale) -> Measured:
    """The bytes that the outbox saved, on their way to the memory and back."""
    cost: dict[str, list[float]] = {variant: [] for variant in client.VARIANTS}
    with stub() as url:
        for _ in range(scale.rounds):
            for variant, costs in cost.items():
                _, cpu = await client.measure(variant, url, requests=100, writers=8)
                costs.append(cpu)
    ours, stock, bare = cost.values()
    return Measured(
        [
            Figure("client: CPU of a record, to stock aiobotocore's", ratios(ours, stock), 0.2),
            Figure("client: CPU of a record, to that of aiohttp with a signature by hand", ratios(ours, bare), 3.0),
        ]
    )


async def cost_of_the_whole_way(scale: Scale) -> Measured:
    """From documents in this process to the ledger that knows them stored."""
    ours, stock = [], []
    source = generated.Generated(5000, sections=10)  # so many that the start of a process counts little
    with stub() as url:
        for _ in range(scale.rounds):
            ours.append(await whole.measure(url, source, writers=8))
            stock.append(await client.measure("stock aiobotocore", url, requests=60, writers=8))
    return Measured(
        [
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
    )


async def use_of_the_writers(scale: Scale) -> Measured:
    """With 100 ms to an answer, so many writers can send so many records a second, and no more."""
    figures = []
    with stub(LATENCY_S) as url:
        for writers in (8, 32):
            shares = []
            for _ in range(scale.rounds):
                seconds, _ = await client.measure("memsync", url, requests=writers * 20, writers=writers)
                shares.append(LATENCY_S / (writers * client.RECORDS) / seconds)
            figures.append(
                Figure(f"client at 100 ms, {writers} writers: share of what they can send", shares, 0.95, is_least=True)
            )
        for writers in (8, 32):
            source = generated.Generated(600 * writers, sections=10)  # for some ten seconds: the start counts little
            shares = []
            for _ in range(scale.rounds):
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
    return Measured(figures)


async def whole_processes(scale: Scale) -> Measured:
    """The command on a folder: nothing has changed, and it starts."""
    with tempfile.TemporaryDirectory() as folder, stub() as url:
        few, many = (Source.make(Path(folder, str(count)), count) for count in (20_000, 100_000))
        small = Source.make(Path(folder, "small"), 100)
        idle = Path(folder)
        for source in (few, many, small):
            source.configure(url)
        first = {source.documents: source.sync()[0] for source in (few, many, small)}
        quiet, find, quiet_small, python, help_, with_client = [], [], [], [], [], []
        for _ in range(scale.rounds):
            quiet.append(many.sync()[0])
            find.append(many.find())
            quiet_small.append(small.sync()[0])
            python.append(start("-c", "pass", folder=idle))
            help_.append(run([MEMSYNC, "--help"], idle))
            with_client.append(start("-c", IDLE_CLIENT, folder=idle))
        per_document = {count: ran.seconds / count for count, ran in first.items()}

    def seconds(runs: Sequence[Ran]) -> list[float]:
        return [ran.seconds for ran in runs]

    figures = [
        Figure("no change in 100,000 files: time, to `find`'s", ratios(seconds(quiet), seconds(find)), 5.0),
        Figure(
            "no change in 100 files: time, to `python -c pass`", ratios(seconds(quiet_small), seconds(python)), 40.0
        ),
        Figure("`memsync --help`: time, to `python -c pass`", ratios(seconds(help_), seconds(python)), 12.0),
        Figure(
            "first sync of 100,000 files: peak memory, to an idle process with a client",
            [first[100_000].peak_bytes / ran.peak_bytes for ran in with_client],
            2.0,
        ),
        Figure(
            "no change in 100,000 files: peak memory, to an idle process with a client",
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
    return Measured([*figures, *two_at_once(scale)])


def two_at_once(scale: Scale) -> list[Figure]:
    """Two runs on sources of their own, to one after the other: with one process each, since one run alone uses two
    processors otherwise."""
    with tempfile.TemporaryDirectory() as folder, stub() as url:
        sources = [Source.make(Path(folder, name), 10_000) for name in ("one", "other")]
        in_turn, at_once = [], []
        for _ in range(scale.rounds):
            for source in sources:
                source.configure(url, workers={"processes": 0})
                source.forget()
            in_turn.append(sum(source.sync()[0].seconds for source in sources))
            for source in sources:
                source.forget()
            with ThreadPoolExecutor() as threads:
                at_once.append(max(ran.seconds for ran, _ in threads.map(Source.sync, sources)))
    return [
        Figure(
            "two first syncs of 10,000 files at once, without workers: documents a second, to one",
            ratios(in_turn, at_once),
            1.6,
            is_least=True,
        )
    ]


BENCHMARKS: dict[str, Callable[[Scale], Awaitable[Measured]]] = {
    "peers": against_peers.same_work,
    "client": cost_of_the_client,
    "whole": cost_of_the_whole_way,
    "latency": use_of_the_writers,
    "processes": whole_processes,
    "memory": memory.of_a_long_stream,
    "quota": quota.over_http,
}


def measure(name: str, scale: Scale) -> results.Result:
    machine = results.machine()
    if name == "peers":
        machine |= against_peers.versions()
    measured = anyio.run(BENCHMARKS[name], scale)
    return results.Result(f"{datetime.now(UTC):%Y-%m-%d}", machine, measured)


def write(name: str, result: results.Result) -> None:
    """Put a new result in the place of the old one, and render page and plots from all."""
    merged = results.Results.load().replaced({name: result}, order=list(BENCHMARKS))
    merged.save()
    page.FILE.write_text(page.render(merged), encoding="utf-8")
    run([str(against_peers.PYTHON), str(PLOTS), str(results.FILE)], ROOT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(BENCHMARKS), choices=list(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=DEFAULT.rounds)
    parser.add_argument("--documents", type=int, default=DEFAULT.documents, help="how many files beside peers")
    parser.add_argument("--records", type=int, default=DEFAULT.records, help="how many are streamed to see the memory")
    parser.add_argument("--write", action="store_true", help="store the results, and render page and plots from them")
    parser.add_argument("--check", action="store_true", help="fail if a figure is worse than the stored ones allow")
    arguments = parser.parse_args()
    gc.set_threshold(20_000)  # as the command does, for all that is measured in this process
    scale = Scale(arguments.rounds, arguments.documents, arguments.records)
    stored = results.Results.load().by_benchmark
    worse = 0
    for name in arguments.only:
        result = measure(name, scale)
        for comparison in bands.compare(stored.get(name), result):
            sys.stdout.write(f"{comparison.row()}\n")
            worse += comparison.verdict is bands.Verdict.WORSE
        sys.stdout.flush()
        if arguments.write:
            write(name, result)
    return 1 if arguments.check and worse else 0


if __name__ == "__main__":
    sys.exit(main())
