"""`python -m tests.simulation --seeds 0:10000`: play histories and tell what they came to.

A failing one prints the command that plays it again, with everything that happens in it.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.driver import Result, run_seed
from tests.simulation.scenarios import MUST_HAPPEN, SCENARIOS

AT_LEAST = 100  # times that each fault and each crash point must be met, over the 10,000 histories that are the goal
FULL = 10_000
CHUNK = 25


@dataclass
class Total:
    """What many histories came to."""

    seeds: int = 0
    processes: int = 0
    virtual_days: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    failed: list[Result] = field(default_factory=list)
    traced_twice: int = 0
    traces_differ: list[int] = field(default_factory=list)

    def breaks_promise(self) -> bool:
        return any(v.partition(":")[0] in PROMISES for result in self.failed for v in result.violations)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.processes += result.processes
        self.virtual_days += result.seconds / 86_400
        self.hits += result.hits
        if result.violations:
            self.failed.append(result)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:300", help="one seed, or first:end (default: %(default)s)")
    parser.add_argument("--scenario", default="random", choices=[*SCENARIOS, "all"])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--stop-at-first", action="store_true", help="end with the first history that fails")
    parser.add_argument("--until-promise-breaks", action="store_true", help="the same, but not for unexpected errors")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    seeds = range(int(first), int(end) if end else int(first) + 1)
    scenarios = list(SCENARIOS) if arguments.scenario == "all" else [arguments.scenario]
    if len(seeds) == 1 and len(scenarios) == 1:
        return replay(seeds[0], scenarios[0])

    # Sets of strings have another order in each process unless this is set; the scheduler's chance has not.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    began = time.monotonic()
    total = Total()
    for scenario in scenarios:
        for results, is_same in play_all(seeds, scenario, arguments.processes):
            for result in results:
                total.add(result)
                if result.violations:
                    tell(result)
            if is_same is not None:
                total.traced_twice += 1
                if not is_same:
                    total.traces_differ.append(results[0].seed)
            is_enough = arguments.stop_at_first or (arguments.until_promise_breaks and total.breaks_promise())
            if total.failed and is_enough:
                sys.stdout.flush()
                os._exit(1)
    return conclude(total, time.monotonic() - began, must_happen="random" in scenarios)


def replay(seed: int, scenario: str) -> int:
    """Play one history and print all that happens."""
    result = run_seed(seed, scenario, is_verbose=True)
    print(
        "\n".join(["", *result.violations, f"seed {seed}: {len(result.violations)} violations, trace {result.trace}"])
    )
    return bool(result.violations)


def play_all(seeds: range, scenario: str, processes: int) -> Iterator[tuple[list[Result], bool | None]]:
    """The results in lists, each with whether its first history was the same when it was played again."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    if processes == 1:
        yield from map(partial(play_chunk, scenario=scenario), chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(partial(play_chunk, scenario=scenario), chunks)


def play_chunk(seeds: range, *, scenario: str) -> tuple[list[Result], bool | None]:
    results = [run_seed(seed, scenario) for seed in seeds]
    again = run_seed(seeds[0], scenario)
    return results, again.trace == results[0].trace


def tell(result: Result) -> None:
    print(f"seed {result.seed} ({result.scenario}) FAILED")
    for violation in sorted(result.violations, key=lambda violation: violation.partition(":")[0] not in PROMISES)[:5]:
        print(f"    {violation}")
    print(
        f"    again: PYTHONHASHSEED=0 python -m tests.simulation --seeds {result.seed} --scenario {result.scenario}",
        flush=True,
    )


def conclude(total: Total, seconds: float, *, must_happen: bool) -> int:
    kinds = Counter(violation.partition(":")[0] for result in total.failed for violation in result.violations)
    print("\nhow often each thing happened")
    for kind in sorted(total.hits):
        print(f"  {total.hits[kind]:>8,}  {kind}")
    is_full = must_happen and total.seeds >= FULL
    rare = [kind for kind in MUST_HAPPEN if total.hits[kind] < AT_LEAST] if is_full else []
    for kind in rare:
        print(f"TOO SELDOM: {kind} happened {total.hits[kind]} times, not {AT_LEAST}")
    for seed in total.traces_differ:
        print(f"NOT REPEATABLE: seed {seed} gave two histories")
    print(
        f"\n{total.seeds:,} histories, {total.processes:,} runs, {total.virtual_days:,.0f} days of their time in"
        f" {seconds:.0f} s: {len(total.failed)} failed"
    )
    print(
        ", ".join(f"{kinds[kind]} {kind}" for kind in PROMISES)
        + "; other: "
        + str(sum(kinds.values()) - sum(kinds[kind] for kind in PROMISES))
    )
    print(f"{total.traced_twice} of them played twice: {len(total.traces_differ)} differed")
    return bool(total.failed or rare or total.traces_differ)


PROMISES = (
    "lost",
    "duplicate",
    "wrongly deleted",
    "wrongly overwritten",
    "stale overwrite",
    "token mismatch",
    "untruthful report",
    "old deleted before new",
    "overtaken while alive",
    "given up without reason",
    "wrote into an emptied memory",
    "no convergence",
)

if __name__ == "__main__":
    sys.exit(main())
