"""The ledger, outbox and dead letters against plain dictionaries: whatever is saved and settled, they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import run
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import (
    FIRST_PLACE,
    Batch,
    ClientToken,
    DeadLetter,
    DocumentId,
    DocumentPlan,
    DocumentState,
    Entry,
    KnownRecord,
    Operation,
    RecordKey,
    Settlement,
)
from pipeline.state.sqlite import SqliteStateStore, open_state
from tests.contract.state_store import batch, document, entry, letter, memory_id
from tests.pipeline.examples import inline

DOCUMENTS = {"x.md": "abc", "y.md": "def"}  # with the keys of each: a key is made of its document's name, too
KEYS = "abcdef"


@dataclass(slots=True)
class Model:
    """What a state should hold, without a database. Each method does what the store's method of that name promises."""

    documents: dict[str, DocumentState] = field(default_factory=dict)
    records: dict[str, KnownRecord] = field(default_factory=dict)
    obsolete: set[str] = field(default_factory=set)
    outbox: dict[ClientToken, Batch] = field(default_factory=dict)
    letters: dict[str, DeadLetter] = field(default_factory=dict)

    def busy_keys(self) -> set[str]:
        entries = [made for saved in self.outbox.values() for made in saved.entries]
        return {key for made in entries for key in (made.key, made.replaces) if key is not None}

    def save(self, batches: Sequence[Batch], plans: Sequence[DocumentPlan]) -> None:
        self.outbox |= {saved.client_token: saved for saved in batches}
        for plan in plans:
            assert plan.state is not None
            self.documents[plan.state.id] = plan.state
            if plan.obsolete is not None:
                self.obsolete -= {key for key in self.obsolete if self.records[key].document == plan.state.id}
                self.obsolete |= set(plan.obsolete) & self.records.keys()
            standing = plan.standing | {letter.id for letter in plan.letters}
            self._drop({name for name, old in self.letters.items() if old.document_id == plan.state.id} - standing)
            self._add(plan.letters)

    def settle(self, settlement: Settlement) -> None:
        del self.outbox[settlement.batch.client_token]
        for made in [made for made, _ in settlement.stored] + list(settlement.lost):
            self._forget(made.replaces)
        for gone in settlement.deleted:
            self._forget(gone.key)
        for made, there in settlement.stored:
            self._forget(made.key)
            self.records[made.key] = KnownRecord(
                made.key, made.document, made.namespace, made.digest, made.order, there
            )
            self._drop({name for name, old in self.letters.items() if old.key == made.key})
        given_up = {made.key for made in settlement.letters}
        for made in settlement.batch.entries:  # an attempt that nobody heard of may have written it
            doubted = made.replaces or made.key
            if made.key in given_up and doubted in self.records:
                self.records[doubted] = self.records[doubted]._replace(digest="")
        self._add(settlement.letters)
        self.outbox |= {again.client_token: again for again in settlement.follow_ups}

    def remove(self, names: Sequence[str]) -> None:
        self.obsolete |= {key for key, known in self.records.items() if known.document in names}
        self._drop({name for name, old in self.letters.items() if old.document_id in names})
        for name in names:
            self.documents.pop(name, None)

    def _forget(self, key: str | None) -> None:
        if key is not None:
            self.records.pop(key, None)
            self.obsolete.discard(key)

    def _drop(self, names: set[str]) -> None:
        for name in names:
            del self.letters[name]

    def _add(self, letters: Sequence[DeadLetter]) -> None:
        for new in letters:
            before = self.letters.get(new.id)
            self.letters[new.id] = new if before is None else new.again_after(before)


@dataclass(slots=True)
class Twins:
    """A store and its model, which go the same way."""

    store: SqliteStateStore
    draw: Any
    model: Model = field(default_factory=Model)
    tokens: int = 0

    def token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    async def save(self) -> None:
        """Save a batch of keys that are not under way, and the plan of a document."""
        of = self.draw(st.sampled_from(list(DOCUMENTS)))
        free = sorted(set(DOCUMENTS[of]) - self.model.busy_keys())
        chosen = self.draw(st.lists(st.sampled_from(free), unique=True, min_size=1, max_size=3)) if free else []
        known = sorted(self.model.records.keys() & set(DOCUMENTS[of]) - self.model.busy_keys() - set(chosen))
        entries = [entry(key, of, digest=self.draw(st.sampled_from("pq"))) for key in chosen]
        operation = self.draw(st.sampled_from(Operation)) if known or chosen else Operation.CREATE
        if operation is Operation.UPDATE:
            entries = [
                made._replace(replaces=RecordKey(old), memory_record_id=memory_id(old))
                for made, old in zip(entries, known, strict=False)
            ]
        elif operation is Operation.DELETE:
            entries = [entry(key, of)._replace(memory_record_id=memory_id(key)) for key in known[:2]]
        batches = [batch(self.token(), *entries, operation=operation)] if entries else []
        plan = DocumentPlan(
            document(of, recipe=self.draw(st.sampled_from("12"))),
            obsolete=self.draw(
                st.none() | st.lists(st.sampled_from(known), unique=True).map(tuple) if known else st.none()
            ),
            letters=tuple(self.letters(of)),
            standing=frozenset(self.draw(st.sets(st.sampled_from(KEYS)))),
        )
        plans = [plan] if self.draw(st.integers(0, 3)) else []

        await self.store.save(batches, plans)
        self.model.save(batches, plans)

    def letters(self, of: str) -> list[DeadLetter]:
        names = self.draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
        return [letter(name, of, key=RecordKey(name)) for name in names]

    async def settle(self) -> None:
        """Settle a batch of the outbox, each of its entries in one of the ways that there are."""
        if not self.model.outbox:
            return
        settled = self.draw(st.sampled_from(list(self.model.outbox.values())))
        done: dict[str, list[Entry]] = {"stored": [], "letter": [], "again": [], "lost": []}
        for made in settled.entries:
            ways = ["stored", "letter", "again", *(["lost"] if settled.operation is Operation.UPDATE else [])]
            done[self.draw(st.sampled_from(ways))].append(made)
        is_delete = settled.operation is Operation.DELETE
        anew = [made._replace(replaces=None, memory_record_id=None) for made in done["lost"]]
        settlement = Settlement(
            settled,
            stored=() if is_delete else tuple((made, memory_id(made.key)) for made in done["stored"]),
            deleted=tuple(done["stored"]) if is_delete else (),
            lost=tuple(done["lost"]),
            letters=tuple(letter(made.key, made.document, key=made.key) for made in done["letter"]),
            follow_ups=tuple(
                batch(self.token(), *entries, operation=operation)
                for entries, operation in ((done["again"], settled.operation), (anew, Operation.CREATE))
                if entries
            ),
        )

        await self.store.settle(settlement)
        self.model.settle(settlement)

    async def remove(self) -> None:
        names = self.draw(st.lists(st.sampled_from(list(DOCUMENTS)), unique=True))

        await self.store.remove([DocumentId(name) for name in names])
        self.model.remove(names)

    async def compare(self) -> None:
        """All that can be asked of the store, against the model."""
        store, model = self.store, self.model
        records = await store.records_after(FIRST_PLACE, limit=100)
        assert {record.key: record for record in records} == model.records
        assert await store.outbox() == list(model.outbox)
        assert {token: await store.batch(token) for token in await store.outbox()} == model.outbox
        assert {found.id: found for found in await store.letters()} == model.letters
        known = await store.documents([DocumentId(name) for name in DOCUMENTS])
        assert {name: found.state for name, found in known.items()} == model.documents
        for name, found in known.items():
            kept = [key for key, record in model.records.items() if record.document == name]
            assert found.records == len(set(kept) - model.obsolete)
            assert found.dead_letters == sum(old.document_id == name for old in model.letters.values())
        troubled = {old.document_id for old in model.letters.values()}
        doomed = {key for key in model.obsolete if model.records[key].document not in troubled} - model.busy_keys()
        assert {record.key for record in await store.obsolete(FIRST_PLACE, limit=100)} == doomed
        settled = {record.key for record in await store.records_after(FIRST_PLACE, limit=100, settled=True)}
        assert settled == model.records.keys() - model.busy_keys()
        counts = await store.counts()
        assert (counts.records, counts.batches) == (len(model.records), len(model.outbox))
        assert counts.pending == sum(len(saved.entries) for saved in model.outbox.values())
        assert sum(counts.letters.values()) == len(model.letters)


# In this mix there is nearly always something to settle, and something that a removal can take.
STEPS = [Twins.save, Twins.save, Twins.save, Twins.settle, Twins.settle, Twins.settle, Twins.remove]


@given(st.data())
def test_a_state_holds_what_was_saved_and_settled(data: st.DataObject) -> None:
    """Each statement of SQL is right by itself; this is about what they leave for one another."""

    async def check() -> None:
        async with open_state(None, source="s", destination="m", offload=inline) as store:
            twins = Twins(store, data.draw)
            steps = data.draw(st.lists(st.sampled_from(STEPS), min_size=15, max_size=30))
            for step in steps:
                await step(twins)
                await twins.compare()

    run(check, backend="trio")
