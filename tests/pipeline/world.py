"""A source, a memory and a ledger with runs of the real pipeline between them."""

import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import anyio

from pipeline.errors import first_error
from pipeline.job import SETTLE_S, SourceJob
from pipeline.lease import Lease
from pipeline.limits import service_limits
from pipeline.mapping import RecordRules
from pipeline.memory_check import MemoryCheck
from pipeline.model import CALLS, ClientToken, DeadLetter
from pipeline.pacing import Pacer
from pipeline.parsing import Parser
from pipeline.planner import DeletePolicy
from pipeline.protocols import SourceConnector, StateStore
from pipeline.report import SourceReport
from pipeline.reporting.tally import Tally
from pipeline.sync import sync
from tests.fakes.destination import MemoryDestination
from tests.pipeline.examples import workers_in_place

Result = TypeVar("Result")

RULES = RecordRules(source="docs", recipe="r1", max_chars=400, heading_path=False)


@dataclass(slots=True)
class LetterList:
    """A dead-letter file that is a list."""

    letters: list[DeadLetter] = field(default_factory=list)

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        self.letters.extend(letters)

    async def rewrite(self, letters: Sequence[DeadLetter]) -> None:
        self.letters = list(letters)


@dataclass
class AnyWorld:
    """A source, a memory and a ledger that outlive the runs between them."""

    source: SourceConnector
    memory: MemoryDestination
    rules: RecordRules = RULES
    deletes: DeletePolicy = field(default_factory=DeletePolicy)
    now: float = 1_000_000.0
    seed: int = 1
    state: StateStore = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.letters = LetterList()

    async def do(self, verb: Callable[[SourceJob], Awaitable[None]] = sync, **members: Any) -> SourceReport:
        """One run with such `members` of its job; raises what the run raised."""
        tally = Tally("docs")
        job = SourceJob(
            run_id=str(self.rng.random()),
            connector=self.source,
            parser=Parser(),
            rules=self.rules,
            limits=service_limits(),
            destination=self.memory,
            state=self.state,
            dead_letters=self.letters,
            pacer=Pacer(dict.fromkeys(CALLS, 1000.0), clock=anyio.current_time, rng=self.rng),
            check=MemoryCheck(
                self.state, self.memory, self.rules, service_limits(), SETTLE_S, self.rng, lambda: self.now
            ),
            lease=Lease(float("inf"), request_s=0.0),
            deletes=self.deletes,
            observe=tally,
            open_workers=workers_in_place,
            new_token=lambda: ClientToken(str(uuid.UUID(int=self.rng.getrandbits(128)))),
            clock=anyio.current_time,
            now=lambda: self.now,
            writers=3,
            request_attempts_max=3,
            record_attempts_max=2,
            listing_basis=self.rules.recipe,
        )
        try:
            await verb(replace(job, **members))
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        return tally.report

    def texts(self) -> list[str]:
        return sorted(record.text for record in self.memory.records.values())


async def in_place(work: Callable[[], Result]) -> Result:
    return work()
