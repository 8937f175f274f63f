"""What the sync of one source works with, and the stages that are made of it."""

from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from anyio import Semaphore
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.auto_replay import AutoReplay
from pipeline.batcher import Batcher, make_batches
from pipeline.deriving import Deriver
from pipeline.events import Observer
from pipeline.expiry import Renewal
from pipeline.lease import Lease
from pipeline.limits import ServiceLimits
from pipeline.mapping import RecordRules
from pipeline.memory_check import MemoryCheck
from pipeline.model import Batch, Checkpoint, ClientToken, DocumentPlan, RecordContent, Resends
from pipeline.pacing import Pacer
from pipeline.plan_scope import PlanScope
from pipeline.planner import DeletePolicy, Planner
from pipeline.protocols import (
    DeadLetterFile,
    Derive,
    Destination,
    DocumentParser,
    HasDocumentReader,
    SourceConnector,
    StateStore,
)
from pipeline.renames import Renames
from pipeline.settling import Settler
from pipeline.sightings import Sightings
from pipeline.verifying import Verifier
from pipeline.writer import YOUNG_RECORD_S, Delivery, write_batches

# How long a service can be trusted to recognise a token: not documented. What is older is looked up.
TOKEN_TRUST_S = 600.0
# How long a listing may not show what was written: 20 to 65 s were seen.
SETTLE_S = 90.0

Coming = TypeVar("Coming")
Going = TypeVar("Going")
OpenWorkers = Callable[[Deriver], AbstractAsyncContextManager[Derive]]
Stage = Callable[[MemoryObjectReceiveStream[Coming], MemoryObjectSendStream[Going]], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class SourceJob:
    """All that the sync of one source works with. Nothing in here is chosen by the pipeline itself.

    `clock` measures durations in seconds, `now` is the time of day in seconds since the epoch. `listing_basis` names
    all that decides what is listed and what becomes of it: with another one, no checkpoint counts. A replay sends the
    letters whose ids are `chosen`, or all, and takes the records of some from `edits`. With a `scope`, nothing is
    changed in the memory but what that allows. Records are renewed if their turn comes by `renew_by`, in seconds since
    the epoch; None: by now.
    """

    run_id: str
    connector: SourceConnector
    parser: DocumentParser
    rules: RecordRules
    limits: ServiceLimits
    destination: Destination
    state: StateStore
    dead_letters: DeadLetterFile
    pacer: Pacer
    check: MemoryCheck
    lease: Lease
    deletes: DeletePolicy
    observe: Observer
    open_workers: OpenWorkers
    new_token: Callable[[], ClientToken]
    clock: Callable[[], float]
    now: Callable[[], float]
    writers: int = 16
    linger_s: float = 1.0
    request_attempts_max: int = 8
    record_attempts_max: int = 5
    token_trust_s: float = TOKEN_TRUST_S
    settle_s: float = SETTLE_S
    young_record_s: float = YOUNG_RECORD_S
    listing_basis: str = ""
    auto_replay: AutoReplay = field(default_factory=AutoReplay)
    chosen: Collection[str] | None = None
    edits: Mapping[str, RecordContent] = field(default_factory=dict)
    scope: PlanScope | None = None
    renew_by: float | None = None

    def renewal(self) -> Renewal:
        return Renewal(self.rules.expiry_days, self.now() if self.renew_by is None else self.renew_by)

    def deriver(self) -> Deriver:
        reader = self.connector.document_reader if isinstance(self.connector, HasDocumentReader) else None
        return Deriver(reader, self.parser, self.rules, self.limits)

    def renames(self, sightings: Sightings, *, is_dry: bool) -> Renames | None:
        """None where nothing may be taken from a document that is gone."""
        if not self.deletes.is_enabled:
            return None
        return Renames(self.state, self.connector, sightings, self.observe, is_dry)

    def planner(self, sightings: Sightings, resends: Resends) -> Planner:
        return Planner(
            source=self.rules.source,
            recipe=self.rules.recipe,
            run_id=self.run_id,
            state=self.state,
            destination=self.destination,
            sightings=sightings,
            observe=self.observe,
            now=self.now,
            renewal=self.renewal(),
            resends=resends,
            abilities=self.parser.abilities,
        )

    def batch(self) -> Stage[list[DocumentPlan | Checkpoint], Batch]:
        return partial(
            make_batches,
            batcher=Batcher(self.destination, self.new_token, self.now, self.rules.expiry_days),
            state=self.state,
            dead_letters=self.dead_letters,
            saved_together_max=self.writers,
            linger_s=self.linger_s,
            keep=self.scope.keep if self.scope else None,
        )

    def write(self) -> Callable[[MemoryObjectReceiveStream[Batch]], Coroutine[Any, Any, None]]:
        # While the answers of some are recorded, as many others are under way.
        return partial(write_batches, delivery=self.delivery(), writers=2 * self.writers)

    def verifier(self) -> Verifier:
        return Verifier(self.state, self.destination, self.rules, self.limits, self.settle_s, self.now)

    def delivery(self) -> Delivery:
        settler = Settler(
            self.rules.source, self.run_id, self.destination, self.record_attempts_max, self.new_token, self.now
        )
        return Delivery(
            destination=self.destination,
            state=self.state,
            dead_letters=self.dead_letters,
            settler=settler,
            pacer=self.pacer,
            under_way=Semaphore(self.writers),
            lease=self.lease,
            check=self.check,
            attempts_max=self.request_attempts_max,
            token_trust_s=self.token_trust_s,
            settle_s=self.settle_s,
            young_record_s=self.young_record_s,
            clock=self.clock,
            now=self.now,
            observe=self.observe,
        )
