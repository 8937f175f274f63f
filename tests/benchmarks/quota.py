"""A quota that nobody told, over real HTTP: a local memory takes ten requests a second, the settings say eighty."""

from anyio import move_on_after

from pipeline.local_memory import Faults, LocalMemory
from tests.benchmarks import generated, whole
from tests.benchmarks.client import MEMORY_ID
from tests.benchmarks.figures import Figure, Measured, Scale

PER_SECOND, BURST = 10.0, 10.0
TOLD_PER_SECOND = 80.0
SECONDS = 60.0
CREATE = "BatchCreateMemoryRecords"


async def over_http(_: Scale) -> Measured:
    """One round, of a minute."""
    faults = Faults(requests_per_second=PER_SECOND, burst=BURST)
    source = generated.Generated(100_000, sections=1)
    async with LocalMemory.serve(memories=[MEMORY_ID], faults=faults) as server:
        with move_on_after(SECONDS):
            await whole.measure(server.url, source, writers=16, requests_per_second=TOLD_PER_SECOND)
        taken, refused = server.requests[CREATE, 201], server.requests[CREATE, 429]
    return Measured(
        [
            Figure(
                "quota of 10/s, told as 80/s: share of it that is used",
                [taken / (PER_SECOND * SECONDS)],
                0.9,
                is_least=True,
            ),
            Figure("quota of 10/s, told as 80/s: share of requests refused", [refused / (taken + refused)], 0.05),
        ]
    )
