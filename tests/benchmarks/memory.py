"""Memory of a long stream of records, beside a process that has a client and nothing to do.

`python -m tests.benchmarks.memory URL RECORDS` streams so many records to the memory there, and prints the most memory
that it and its processes had in bytes, when a tenth was stored and at the end. With no records it makes a client, sends
one request, and ends.
"""

import json
import resource
import sys
from contextlib import suppress
from pathlib import Path

import anyio

from tests.benchmarks import client, generated, whole
from tests.benchmarks.figures import Figure, Measured, Scale
from tests.benchmarks.programs import start
from tests.benchmarks.stub import stub

ROOT = Path(__file__).parents[2]


async def of_a_long_stream(scale: Scale) -> Measured:
    """One round: what a process holds differs little from one to the next."""
    with stub() as url:
        idle = start("-m", "tests.benchmarks.memory", url, "0", folder=ROOT)
        busy = start("-m", "tests.benchmarks.memory", url, str(scale.records), folder=ROOT)
    at_a_tenth, at_the_end = json.loads(busy.output)
    records = f"{scale.records:,} streamed records"
    return Measured(
        [
            Figure(
                f"{records}: peak memory, to an idle process with a client (one round)",
                [at_the_end / idle.peak_bytes],
                1.7,
            ),
            Figure(
                f"{records}: peak memory, to that when a tenth was stored (one round)",
                [at_the_end / at_a_tenth],
                1.02,  # 2 MB of some 100
            ),
        ]
    )


async def stream(url: str, records: int) -> None:
    at_a_tenth = at_the_end = 0

    def observe(stored: int) -> None:
        nonlocal at_a_tenth, at_the_end
        at_the_end = max(at_the_end, peak_bytes())
        if stored <= records / 10:
            at_a_tenth = at_the_end

    # One record a document, so that the source holds next to nothing.
    await whole.measure(url, generated.Generated(records, sections=1), writers=8, observe_stored=observe)
    sys.stdout.write(json.dumps([at_a_tenth, at_the_end]))


async def idle(url: str) -> None:
    async with client.memsyncs(url, writers=1) as send:
        await send()


def peak_bytes() -> int:
    """The peaks of this process and of those that it has started and that are there, added up."""
    peaks_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for child in Path("/proc/thread-self/children").read_text(encoding="ascii").split():
        with suppress(FileNotFoundError):
            status = Path("/proc", child, "status").read_text(encoding="ascii")
            peaks_kib += int(status.partition("VmHWM:")[2].split()[0])
    return peaks_kib * 1024


def main() -> None:
    url, records = sys.argv[1], int(sys.argv[2])
    if records:
        anyio.run(stream, url, records)
    else:
        anyio.run(idle, url)


if __name__ == "__main__":
    main()
