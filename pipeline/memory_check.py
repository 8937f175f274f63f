"""Before a run writes for the first time: is this the memory that the ledger describes?"""

import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from anyio import Lock, sleep

from pipeline.errors import FatalError
from pipeline.expiry import has_lapsed
from pipeline.identity import DIGEST_CHARACTERS
from pipeline.limits import ServiceLimits
from pipeline.mapping import RecordRules, namespace_root
from pipeline.model import FIRST_PLACE, KnownRecord, RecordKey
from pipeline.protocols import Destination, StateStore
from pipeline.provenance import is_of_source

ASKED_FIRST = 3
ASKED_IN_DOUBT = 20
YOUNG_RECORD_S = 2.0  # before which a record may not be found even by its id; 1 s was seen
MISSING_FRACTION_MAX = 0.5  # single records may have been deleted by hand; a memory that was emptied lacks them all


@dataclass(slots=True)
class MemoryCheck:
    """Passes if nothing speaks against writing; a run without changes never asks.

    A ledger that knows records is compared with a few of them. One that knows none must not meet records of its
    source: it was lost, and everything would be written a second time. `settle_s` is how long a listing may lag.
    """

    state: StateStore
    memory: Destination
    rules: RecordRules
    limits: ServiceLimits
    settle_s: float
    rng: random.Random
    now: Callable[[], float]
    _turn: Lock = field(default_factory=Lock)
    _has_passed: bool = False

    async def pass_once(self) -> None:
        """Look at the memory if that was not done yet.

        Raises:
            FatalError: this is not the memory that the ledger describes; nothing was sent.
            RetryableError: it could not be asked.
        """
        async with self._turn:
            if not self._has_passed:
                await self._require_known_records()
                if await self.state.acquainted_at() is None:
                    await self._require_no_strangers()
                    # What was written a moment ago may not show yet: a later run looks once more.
                    await self.state.note_acquainted(self.now() if self.settle_s else 0.0)
                self._has_passed = True

    async def _require_known_records(self) -> None:
        for count, wait_s in ((ASKED_FIRST, 0.0), (ASKED_IN_DOUBT, YOUNG_RECORD_S)):
            await sleep(wait_s)
            sample = await self._sample(count)
            missing = [record for record in sample if await self.memory.get(record.memory_record_id) is None]
            if not missing:
                return
        if len(sample) >= ASKED_FIRST and len(missing) > MISSING_FRACTION_MAX * len(sample):
            raise FatalError(
                f"The memory lacks {len(missing)} of {len(sample)} records that it should have: it was emptied"
                " or made anew, or its records have expired. Nothing was sent and nothing deleted. Look with `memsync"
                " verify`; `memsync verify --repair` writes again what is missing.",
                code="records_missing",
            )

    async def _sample(self, count: int) -> list[KnownRecord]:
        """Up to `count` records of the ledger, anywhere in it: of any document, and anywhere in that.

        Of a small one all: by chance, one of three may be met with never.
        """
        first = await self.state.records_after(FIRST_PLACE, limit=count + 1, settled=True)
        if len(first) <= count:
            return [record for record in first if not has_lapsed(record, self.now())]
        sample: dict[RecordKey, KnownRecord] = {}
        last_row = await self.state.last_row()
        for _ in range(count):
            rows = await self.state.rows_after(self.rng.randint(0, last_row), up_to=last_row, limit=1)
            documents = [document.state.id for document in await self.state.documents_at(rows)]
            key = RecordKey(f"{self.rng.getrandbits(4 * DIGEST_CHARACTERS):0{DIGEST_CHARACTERS}x}")  # they are digests
            start = (documents[0], key) if documents else FIRST_PLACE
            page = await self.state.records_after(start, limit=1, settled=True)
            page = page or await self.state.records_after(FIRST_PLACE, limit=1, settled=True)
            # What the memory was told to forget says nothing of it.
            sample |= {record.key: record for record in page if not has_lapsed(record, self.now())}
        return list(sample.values())

    async def _require_no_strangers(self) -> None:
        async with aclosing(self.memory.list_records(namespace_path=namespace_root(self.rules))) as pages:
            async for page in pages:
                if any(is_of_source(record, self.rules.source, self.limits) for record in page):
                    raise FatalError(
                        f"The memory holds records of the source {self.rules.source!r} already, and this ledger knows"
                        " none of them: its state was lost, or the name is used twice. Nothing was sent, since"
                        " everything would be written a second time. If the state was lost, `memsync recover` rebuilds"
                        " it from the memory; else give this source a name of its own.",
                        code="ledger_lost",
                    )
