"""What every state store promises, as tests: subclass `StateStoreContract` and give it a `state`.

Every rule takes the fixture `state` and nothing else, so that it can also be run by hand on another event loop.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from pipeline.errors import StateError
from pipeline.expiry import FIRST_RENEWAL, Renewal
from pipeline.expiry import SECONDS_PER_DAY as DAY_S
from pipeline.letters import record_letter_id
from pipeline.model import (
    FIRST_PLACE,
    NO_EXPIRY,
    UNKNOWN_EXPIRY,
    Batch,
    Checkpoint,
    ClientToken,
    Create,
    DeadLetter,
    DocumentId,
    DocumentPlan,
    DocumentState,
    Entry,
    Fingerprint,
    FoundRecord,
    KnownDocument,
    KnownRecord,
    LastRun,
    MemoryRecordId,
    Operation,
    PastRun,
    PlanUse,
    RecordKey,
    Settlement,
    StateCounts,
)
from pipeline.protocols import StateStore
from tests.pipeline.examples import record

EMPTY = StateCounts(documents=0, rows=0, records=0, unattributed=0, batches=0, pending=0, letters={})
SAVED_AT = 1_750_000_000.25
FAILED_AT = 1_750_000_000.5


def entry(key: str, document: str = "a.md", **members: Any) -> Entry:
    """What an outbox remembers of a create."""
    made = Entry(RecordKey(key), DocumentId(document), "/docs/", f"digest-of-{key}", order=1.0)
    return made._replace(**members)


def update(key: str, *, replaces: str, **members: Any) -> Entry:
    """What an outbox remembers of an update that gives the record a new key."""
    return entry(key, memory_record_id=memory_id(replaces), replaces=RecordKey(replaces), **members)


def memory_id(key: str) -> MemoryRecordId:
    return MemoryRecordId(f"mem-of-{key}")


def batch(token: str, *entries: Entry, operation: Operation = Operation.CREATE) -> Batch:
    return Batch(ClientToken(token), operation, entries, f"body of {token}".encode(), SAVED_AT)


def settled(of: Batch, **members: Any) -> Settlement:
    """The end of a batch; unless told otherwise, the memory stored all of it."""
    stored = tuple((entry, memory_id(entry.key)) for entry in of.entries)
    return replace(Settlement(of, stored=stored), **members)


def known(of: Entry) -> KnownRecord:
    """What the ledger says of an entry that was stored."""
    return KnownRecord(of.key, of.document, of.namespace, of.digest, of.order, memory_id(of.key))


def document(name: str, **members: Any) -> DocumentState:
    made = DocumentState(DocumentId(name), DocumentId(name), Fingerprint(f"fingerprint-of-{name}"), "recipe-1")
    return made._replace(**members)


def plan(name: str, **members: Any) -> DocumentPlan:
    return DocumentPlan(document(name), **members)


def letter(name: str, document: str = "a.md", **members: Any) -> DeadLetter:
    made = DeadLetter(
        id=name,
        source="handbook",
        document_id=DocumentId(document),
        stage="write",
        code="400",
        message="the memory did not want it",
        attempts=1,
        first_failed_at=FAILED_AT,
        last_failed_at=FAILED_AT,
        run_id="run-1",
        key=RecordKey(f"key-of-{name}"),
        digest=f"digest-of-{name}",
        operation=Operation.CREATE,
        record=b'{"requestIdentifier":"key","weight":0.5}',
        client_token=ClientToken("token-1"),
    )
    return replace(made, **members)


async def records_of(state: StateStore, documents: Sequence[DocumentId]) -> Mapping[DocumentId, Sequence[KnownRecord]]:
    _, records = await state.known([], records_of=documents)
    return records


async def store(state: StateStore, *entries: Entry, token: str = "token-of-arrangement") -> None:
    """Put records into the ledger, in the way that a run does."""
    saved = batch(token, *entries)
    await state.save([saved], [])
    await state.settle(settled(saved))


async def saved_documents(state: StateStore, *names: str) -> None:
    await state.save([], [plan(name) for name in names])


def shown(key: str, document: str = "a.md", **members: Any) -> FoundRecord:
    """A record as a listing of the memory shows it."""
    made = FoundRecord(
        key=RecordKey(key),
        memory_record_id=memory_id(key),
        document=DocumentId(document),
        origin=DocumentId(document),
        namespace="/docs/",
        digest=f"digest-of-{key}",
        order=1.0,
        created_at=SAVED_AT,
    )
    return replace(made, **members)


def keys_of(found: Iterable[FoundRecord]) -> list[str]:
    return [record.key for record in found]


def names(documents: Iterable[Any]) -> list[str]:
    return [known.state.id for known in documents]


def keys(records: Iterable[KnownRecord]) -> list[str]:
    return [record.key for record in records]


async def pages_of_obsolete(state: StateStore) -> Sequence[str]:
    return keys(await state.obsolete(FIRST_PLACE, limit=100))


class StateStoreContract:
    """A subclass provides the fixture `state`, a new one."""

    async def test_a_new_state_knows_nothing(self, state: StateStore) -> None:
        """A first run begins with it."""
        assert await state.counts() == EMPTY
        assert await state.last_row() == 0
        assert await state.outbox() == []
        assert await state.letters() == []
        assert await state.checkpoint() is None
        assert await state.last_run() is None
        assert await state.emptied() == 0

    # -------------------------------------------------------------------------------------------- the outbox

    async def test_a_saved_batch_comes_back_byte_for_byte(self, state: StateStore) -> None:
        """After a crash the same token must go with the same bytes, and be settled by the same entries."""
        creates = batch("token-1", entry("a"), entry("b", "b.md", order=2.5, attempts=3))
        updates = replace(
            batch("token-2", update("new", replaces="old"), operation=Operation.UPDATE), body=bytes(range(256))
        )

        await state.save([creates, updates], [])

        assert await state.batch(creates.client_token) == creates
        assert await state.batch(updates.client_token) == updates

    async def test_the_outbox_is_in_the_order_of_saving(self, state: StateStore) -> None:
        """What was saved first is sent first, whatever its token; what follows from it comes last."""
        first, second, third = batch("z", entry("a")), batch("a", entry("b")), batch("m", entry("c"))
        await state.save([first, second], [])
        await state.save([third], [])

        before = await state.outbox()
        await state.settle(settled(first, stored=(), follow_ups=(batch("b", entry("a")),)))

        assert before == ["z", "a", "m"]
        assert await state.outbox() == ["a", "m", "b"]

    async def test_what_is_in_the_outbox_is_counted_as_pending(self, state: StateStore) -> None:
        """`desired = stored + dead-lettered + pending`: nothing may fall between them."""
        creates = batch("token-1", entry("a"), entry("b"))
        await state.save([creates, batch("token-2", entry("c"))], [])
        saved = await state.counts()

        await state.settle(settled(creates))

        assert (saved.batches, saved.pending, saved.records) == (2, 3, 0)
        counts = await state.counts()
        assert (counts.batches, counts.pending, counts.records) == (1, 1, 2)

    async def test_a_second_unsettled_operation_on_a_key_is_impossible(self, state: StateStore) -> None:
        """Two requests under way could arrive in either order; and nothing of the refused save may remain."""
        await state.save([batch("token-1", entry("a"))], [])
        again = batch("token-2", entry("b"), entry("a"))

        with pytest.raises(StateError):
            await state.save([again], [plan("b.md")], Checkpoint("later"))

        assert await state.outbox() == ["token-1"]
        assert await state.counts() == replace(EMPTY, batches=1, pending=1)
        assert await state.checkpoint() is None
        await state.save([batch("token-3", entry("b"))], [])

    async def test_an_update_holds_its_old_key_and_its_new_one(self, state: StateStore) -> None:
        """A delete of the old key on its way beside the update would delete the new text."""
        await store(state, entry("old"))
        await state.save([batch("token-1", update("new", replaces="old"), operation=Operation.UPDATE)], [])

        for key in ("old", "new"):
            with pytest.raises(StateError):
                await state.save([batch("token-2", entry(key))], [])

    async def test_a_settled_key_is_free_again(self, state: StateStore) -> None:
        """Also for a batch that follows from the settled one, in the same transaction."""
        first = batch("token-1", entry("a"))
        again = batch("token-2", entry("a", attempts=1))
        await state.save([first], [])

        await state.settle(settled(first, stored=(), follow_ups=(again,)))
        await state.settle(settled(again))
        await state.save([batch("token-3", entry("a"))], [])

        assert await state.outbox() == ["token-3"]

    # --------------------------------------------------------------------------------------------- documents

    async def test_a_document_comes_back_as_it_was_saved(self, state: StateStore) -> None:
        """By its fingerprint and recipe the next run tells whether it changed."""
        saved = [
            document("a.md"),
            document("b.md", fingerprint=None, skipped="empty"),
            document("c.jsonl", has_parts=True),
            document("c.jsonl#1", origin=DocumentId("c.jsonl")),
        ]

        await state.save([], [DocumentPlan(each) for each in saved])

        found = await state.documents([each.id for each in saved])
        assert [found[each.id].state for each in saved] == saved

    async def test_asking_for_unknown_documents_gives_nothing(self, state: StateStore) -> None:
        """Most of what a first scan lists is unknown."""
        await saved_documents(state, "a.md")

        assert set(await state.documents([DocumentId("a.md"), DocumentId("b.md")])) == {"a.md"}
        assert await state.documents([]) == {}

    async def test_what_is_plainly_unchanged_is_told_with_its_records(self, state: StateStore) -> None:
        """That is all there is to say of nearly every document in most runs; of any other, there is more."""
        a, b, part = DocumentId("a.md"), DocumentId("b.md"), document("rows.jsonl#1", origin=DocumentId("rows.jsonl"))
        states = [
            document("a.md"),
            document("b.md"),
            document("edited.md"),
            document("other-recipe.md", recipe="recipe-0"),
            document("no-fingerprint.md", fingerprint=None),
            document("skipped.md", skipped="empty"),
            document("rows.jsonl", has_parts=True),
            part,
        ]
        await state.save([], [*map(DocumentPlan, states), plan("failed.md", letters=(letter("1", "failed.md"),))])
        await store(state, entry("1"), entry("2"), entry("3", "b.md"), entry("4", "edited.md"))
        await state.save([], [plan("b.md", obsolete=(RecordKey("3"),))])
        listed = {each.id: each.fingerprint for each in [*states, document("failed.md"), document("new.md")]}

        found = await state.unchanged(listed | {DocumentId("edited.md"): Fingerprint("later")}, "recipe-1")

        rows = {name: known.row for name, known in (await state.documents(list(listed))).items()}
        assert sorted(found) == [(name, rows[name], count) for name, count in ((a, 2), (b, 0), (part.id, 0))]
        assert await state.unchanged({}, "recipe-1") == []

    # ------------------------------------------------------------------------------------------------ expiry

    async def test_the_ledger_knows_when_a_record_lapses(self, state: StateStore) -> None:
        """Not later than the memory, which was told after the batch was saved; and what is endless stays so."""
        await store(state, entry("a", expiry_days=31), token="token-1")
        await store(state, entry("b"), token="token-2")

        records = {record.key: record for record in (await records_of(state, [DocumentId("a.md")]))[DocumentId("a.md")]}

        assert (records[RecordKey("a")].expiry_days, records[RecordKey("a")].lapses_at) == (31, SAVED_AT + 31 * DAY_S)
        assert (records[RecordKey("b")].expiry_days, records[RecordKey("b")].lapses_at) == (None, None)

    async def test_what_was_told_to_stay_does_not_lapse(self, state: StateStore) -> None:
        """An update has taken its expiry away."""
        await store(state, entry("a", expiry_days=31), token="token-1")
        endless = batch("token-2", update("a", replaces="a", expiry_days=NO_EXPIRY), operation=Operation.UPDATE)
        await state.save([endless], [])
        assert await state.batch(endless.client_token) == endless
        await state.settle(settled(endless))

        ((record,),) = (await records_of(state, [DocumentId("a.md")])).values()

        assert (record.expiry_days, record.lapses_at) == (None, None)
        assert await state.next_to_renew(FIRST_RENEWAL, Renewal(31, SAVED_AT + 31 * DAY_S), limit=10) == []

    async def test_a_document_with_records_to_be_renewed_is_not_plainly_unchanged(self, state: StateStore) -> None:
        """In the last third of its time at the latest; with another setting, or none any more, at once."""
        await saved_documents(state, "a.md", "endless.md", "empty.md")
        await store(state, entry("a", expiry_days=60), token="token-1")
        await store(state, entry("b", "endless.md"), token="token-2")
        listed = {DocumentId(name): document(name).fingerprint for name in ("a.md", "endless.md", "empty.md")}

        async def unchanged(expiry_days: int | None, after_days: float) -> list[str]:
            renewal = Renewal(expiry_days, SAVED_AT + after_days * DAY_S)
            found = sorted(str(name) for name, _, _ in await state.unchanged(listed, "recipe-1", renewal))
            assert set(await state.to_renew(list(listed), renewal)) == listed.keys() - set(found)
            return found

        assert await unchanged(60, 19) == ["a.md", "empty.md"]
        assert await unchanged(60, 41) == ["empty.md"]
        assert await unchanged(61, 0) == ["empty.md"]
        assert await unchanged(None, 0) == ["empty.md", "endless.md"]

    async def test_a_file_is_to_be_read_if_records_of_its_parts_are_to_be_renewed(self, state: StateStore) -> None:
        """They have no fingerprint of their own."""
        file = DocumentId("rows.jsonl")
        part = document("rows.jsonl#1", origin=file)
        await state.save([], [DocumentPlan(document(file, has_parts=True)), DocumentPlan(part)])
        await store(state, entry("1", "rows.jsonl#1", expiry_days=60))

        assert set(await state.to_renew([file], Renewal(60, SAVED_AT))) == set()
        assert set(await state.to_renew([file], Renewal(60, SAVED_AT + 41 * DAY_S))) == {file}

    async def test_what_is_adopted_among_records_that_lapse_may_lapse_too(self, state: StateStore) -> None:
        """A listing does not show it; a run has to say anew what it shall do, also if that is not to lapse any more."""
        await state.adopt([shown("first", "b.md")], [])
        await store(state, entry("a", expiry_days=60))
        await state.adopt([shown("later", "c.md")], [])

        records = await records_of(state, [DocumentId("b.md"), DocumentId("c.md")])

        assert [record.expiry_days for known in records.values() for record in known] == [None, UNKNOWN_EXPIRY]
        documents = [DocumentId("b.md"), DocumentId("c.md")]
        assert set(await state.to_renew(documents, Renewal(None, SAVED_AT))) == {"c.md"}
        assert set(await state.to_renew(documents, Renewal(60, SAVED_AT))) == {"b.md", "c.md"}

    async def test_what_the_outbox_may_have_said_of_an_expiry_is_unknown_once_it_is_given_up(
        self, state: StateStore
    ) -> None:
        """An update was sent that shortens a record's life, and nobody heard the answer."""
        await saved_documents(state, "a.md")
        await store(state, entry("a", expiry_days=90), entry("b", expiry_days=90))
        shorter = batch("token-2", update("a", replaces="a", expiry_days=31), operation=Operation.UPDATE)
        await state.save([shorter], [])

        await state.discard_outbox()

        records = (await records_of(state, [DocumentId("a.md")]))[DocumentId("a.md")]
        assert [record.expiry_days for record in records] == [UNKNOWN_EXPIRY, 90]
        assert set(await state.to_renew([DocumentId("a.md")], Renewal(90, SAVED_AT))) == {"a.md"}

    async def test_what_is_to_be_renewed_is_paged_in_order(self, state: StateStore) -> None:
        """A source that shows only what is new does not lead to it, and there may be millions."""
        file = DocumentId("rows.jsonl")
        parts = [document(f"rows.jsonl#{number}", origin=file) for number in range(3)]
        await state.save([], [*(DocumentPlan(each) for each in parts), plan("a.md"), plan("gone.md")])
        rows = [entry(f"{number}", f"rows.jsonl#{number}", expiry_days=60) for number in range(3)]
        await store(state, *rows, entry("a", expiry_days=60), entry("g", "gone.md", expiry_days=60))
        await state.remove([DocumentId("gone.md")])
        renewal = Renewal(60, SAVED_AT + 41 * DAY_S)

        pages, after = [], FIRST_RENEWAL
        while page := await state.next_to_renew(after, renewal, limit=3):
            pages.append(page)
            after = page[-1][0]

        assert [len(page) for page in pages] == [3, 1]
        assert sorted(place[1:] for page in pages for place, _ in page) == [
            ("a.md", "a"),
            *((f"rows.jsonl#{number}", f"{number}") for number in range(3)),
        ]
        assert {document for page in pages for _, document in page} == {"a.md", file}
        assert await state.next_to_renew(FIRST_RENEWAL, Renewal(60, SAVED_AT + 19 * DAY_S), limit=3) == []

    async def test_the_turn_of_a_document_and_its_parts_can_be_put_off(self, state: StateStore) -> None:
        """Of one that cannot be renewed now; those of others come as they were to."""
        file = DocumentId("rows.jsonl")
        parts = [document(f"rows.jsonl#{number}", origin=file) for number in range(2)]
        await state.save([], [*(DocumentPlan(each) for each in parts), plan("a.md"), plan("b.md")])
        rows = [entry(f"{number}", f"rows.jsonl#{number}", expiry_days=60) for number in range(2)]
        await store(state, *rows, entry("a", expiry_days=60), entry("b", "b.md", expiry_days=60))

        await state.renew_later([file, DocumentId("a.md")], Renewal(60, SAVED_AT + 40 * DAY_S))

        async def due(after_days: float) -> set[str]:
            page = await state.next_to_renew(FIRST_RENEWAL, Renewal(60, SAVED_AT + after_days * DAY_S), limit=10)
            return {document for _, document in page}

        assert await due(41) == {"b.md"}
        assert await due(46) == {"a.md", "b.md", file}

    async def test_thousands_of_documents_can_be_asked_for_at_once(self, state: StateStore) -> None:
        """A store's own limit on one question is not the caller's business."""
        ids = [DocumentId(f"{number}.md") for number in range(1_500)]
        await saved_documents(state, *ids)
        await store(state, *(entry(f"key-{name}", name) for name in ids))

        fingerprints = {each: document(each).fingerprint for each in ids}
        assert set(await state.documents(ids)) == set(ids)
        assert len(await state.unchanged(fingerprints, "recipe-1")) == len(ids)
        documents, records = await state.known(ids, records_of=ids[1:])
        assert (documents, set(records)) == (await state.documents(ids), set(ids[1:]))
        assert len(await state.records_by_key([RecordKey(f"key-{name}") for name in ids])) == len(ids)

    async def test_a_document_keeps_its_row_and_no_row_is_used_twice(self, state: StateStore) -> None:
        """A run remembers what it saw as one bit a row; another document in that row would count as seen."""
        a, b, c = map(DocumentId, ("a.md", "b.md", "c.md"))
        await saved_documents(state, a, b)
        rows = {name: known.row for name, known in (await state.documents([a, b])).items()}
        await state.save([], [DocumentPlan(document(a, fingerprint=Fingerprint("later")))])
        await state.remove([b])
        await saved_documents(state, c, b)

        now = {name: known.row for name, known in (await state.documents([a, b, c])).items()}

        assert now[a] == rows[a]
        assert rows[a] < rows[b] < now[c] < now[b]
        assert await state.last_row() == now[b]

    async def test_documents_are_paged_by_row(self, state: StateStore) -> None:
        """The sweep for what is gone walks the whole ledger, and stops where the scan began."""
        await saved_documents(state, "c.md", "a.md", "b.md")
        up_to = await state.last_row()
        await saved_documents(state, "later.md")

        first = await state.rows_after(0, up_to=up_to, limit=2)
        second = await state.rows_after(first[-1], up_to=up_to, limit=2)
        third = await state.rows_after(second[-1], up_to=up_to, limit=2)

        found = [await state.documents_at(rows) for rows in (first, second, third)]
        assert [names(documents) for documents in found] == [["c.md", "a.md"], ["b.md"], []]

    async def test_the_parts_of_a_file_are_found_by_it(self, state: StateStore) -> None:
        """The file itself is none of them."""
        origin = DocumentId("c.jsonl")
        parts = [document(f"c.jsonl#{number}", origin=origin) for number in (2, 1)]
        await state.save([], [DocumentPlan(document(origin, has_parts=True)), *map(DocumentPlan, parts), plan("a.md")])

        assert names(await state.parts(origin)) == ["c.jsonl#2", "c.jsonl#1"]
        assert await state.parts(DocumentId("a.md")) == []

    async def test_documents_are_found_by_what_their_fingerprint_begins_with(self, state: StateStore) -> None:
        """A renamed file keeps its size and the time of its last edit, which its fingerprint begins with."""
        several = [
            DocumentState(DocumentId(name), DocumentId(origin), Fingerprint(fingerprint), "r1", skipped=skipped)
            for name, origin, fingerprint, skipped in (
                ("a.md", "a.md", "12-34-56", None),
                ("b.md", "b.md", "12-34-78", None),
                ("c.md", "c.md", "12-345-6", None),
                ("c.md#1", "c.md", "12-34-56", None),
                ("d.png", "d.png", "12-34-56", "binary"),
            )
        ]
        await state.save([], [*map(DocumentPlan, several), DocumentPlan(document("e.md")._replace(fingerprint=None))])

        found = await state.traced(["12-34-", "12-345-6", "9", "12-34-7"])

        named = {trace: [name for name, _ in documents] for trace, documents in found.items()}
        assert named == {"12-34-": ["a.md", "b.md"], "12-345-6": ["c.md"], "12-34-7": ["b.md"]}
        known = await state.documents([DocumentId("a.md")])
        assert found["12-34-"][0][1] == known[DocumentId("a.md")].row

    async def test_a_renamed_document_keeps_its_row_and_its_records_and_is_read_again(self, state: StateStore) -> None:
        before, now = DocumentId("a.md"), DocumentId("b.md")
        await state.save([], [plan("a.md", letters=(letter("1"),)), plan("a.md.bak")])
        await store(state, entry("a"), entry("b", "a.md.bak"))
        row, was, *_ = (await state.documents([before]))[before]

        await state.rename({before: now})

        known = await state.documents([before, now])
        assert list(known) == [now]
        assert known[now] == KnownDocument(row, DocumentState(now, now, was.fingerprint, ""), records=1, dead_letters=0)
        assert [record.key for record in (await state.known([], records_of=[now]))[1][now]] == ["a"]
        assert names(await state.documents_at([row + 1])) == ["a.md.bak"]

    async def test_the_parts_of_a_renamed_file_go_with_it(self, state: StateStore) -> None:
        part = document("c.jsonl#1", origin=DocumentId("c.jsonl"))
        await state.save([], [DocumentPlan(document("c.jsonl", has_parts=True)), DocumentPlan(part)])
        await store(state, entry("a", "c.jsonl#1"))

        await state.rename({DocumentId("c.jsonl"): DocumentId("d/c.jsonl")})

        assert names(await state.parts(DocumentId("d/c.jsonl"))) == ["d/c.jsonl#1"]
        assert await state.parts(DocumentId("c.jsonl")) == []
        (record,) = await state.records_after(FIRST_PLACE, limit=9)
        assert record.document == "d/c.jsonl#1"

    async def test_a_name_that_is_taken_is_given_to_nobody_else(self, state: StateStore) -> None:
        """A file can be called like a line of another one."""
        part = document("c.jsonl#1", origin=DocumentId("c.jsonl"))
        await state.save([], [DocumentPlan(document("c.jsonl", has_parts=True)), DocumentPlan(part), plan("d.jsonl#1")])

        await state.rename({DocumentId("c.jsonl"): DocumentId("d.jsonl")})

        assert names(await state.parts(DocumentId("c.jsonl"))) == ["c.jsonl#1"]
        assert await state.documents([DocumentId("d.jsonl")]) == {}

    async def test_only_documents_with_text_of_their_own_are_counted(self, state: StateStore) -> None:
        """A file of parts is counted by its parts, and what was left out is not in the memory."""
        part = document("c.jsonl#1", origin=DocumentId("c.jsonl"))
        others = [document("c.jsonl", has_parts=True), part, document("d.png", skipped="no text")]
        await state.save([], [plan("a.md"), *map(DocumentPlan, others)])

        counts = await state.counts()
        assert (counts.documents, counts.rows) == (2, 4)

    async def test_a_document_tells_how_much_the_memory_holds_of_it(self, state: StateStore) -> None:
        """So an unchanged one is counted without reading its records."""
        await state.save([], [plan("a.md", letters=(letter("1"),)), plan("b.md")])
        await store(state, entry("a"), entry("b"), entry("c", "b.md"))

        found = await state.documents([DocumentId("a.md"), DocumentId("b.md")])

        assert {name: (known.records, known.dead_letters) for name, known in found.items()} == {
            "a.md": (2, 1),
            "b.md": (1, 0),
        }

    # ----------------------------------------------------------------------------------------------- records

    async def test_stored_records_are_in_the_ledger_in_the_order_of_their_text(self, state: StateStore) -> None:
        """The difference between two versions of a document is taken in that order."""
        last, first, middle = entry("a", order=3.0), entry("b", order=1.0), entry("c", order=2.5)
        await store(state, last, first, middle, entry("d", "b.md"))

        found = await records_of(state, [DocumentId("a.md"), DocumentId("unknown.md")])

        assert found == {"a.md": [known(first), known(middle), known(last)], "unknown.md": []}

    async def test_records_are_found_by_key(self, state: StateStore) -> None:
        """Verification asks what the ledger says of what the memory shows."""
        await store(state, entry("a"), entry("b"))

        assert await state.records_by_key([RecordKey("a"), RecordKey("z")]) == {"a": known(entry("a"))}
        assert await state.records_by_key([]) == {}

    async def test_records_are_found_at_their_places(self, state: StateStore) -> None:
        """Who knows what document a record is of need not look through all of the ledger."""
        await store(state, entry("a"), entry("b", "b.md"))
        places = [("a.md", "a"), ("b.md", "a"), ("a.md", "b"), ("b.md", "z")]

        found = await state.records_at([(DocumentId(document), RecordKey(key)) for document, key in places])

        assert found == {"a": known(entry("a"))}
        assert await state.records_at([]) == {}

    async def test_records_are_paged_by_document_and_key(self, state: StateStore) -> None:
        """A ledger of millions is walked without holding it, and what was written together is read together."""
        await store(state, entry("c"), entry("a", "b.md"), entry("d", "b.md"), entry("b"))

        first = await state.records_after(FIRST_PLACE, limit=3)
        second = await state.records_after(first[-1].place, limit=3)

        assert (keys(first), keys(second)) == (["b", "c", "a"], ["d"])

    async def test_an_update_takes_the_place_of_what_it_replaces(self, state: StateStore) -> None:
        """It is one record in the memory, so it is one in the ledger."""
        await store(state, entry("old"))
        changed = update("new", replaces="old")
        saved = batch("token-1", changed, operation=Operation.UPDATE)
        await state.save([saved], [])

        await state.settle(settled(saved, stored=((changed, memory_id("old")),)))

        assert await records_of(state, [DocumentId("a.md")]) == {
            "a.md": [known(changed)._replace(memory_record_id=memory_id("old"))]
        }

    async def test_updates_may_exchange_their_keys(self, state: StateStore) -> None:
        """Each replaces what the other becomes; neither may delete the other's row."""
        await store(state, entry("a"), entry("b"))
        to_b, to_a = update("b", replaces="a"), update("a", replaces="b")
        saved = batch("token-1", to_b, operation=Operation.UPDATE)
        other = batch("token-2", to_a, operation=Operation.UPDATE)

        await state.save([saved], [])
        await state.settle(settled(saved, stored=((to_b, memory_id("a")),)))
        await state.save([other], [])
        await state.settle(settled(other, stored=((to_a, memory_id("b")),)))

        found = await state.records_by_key([RecordKey("a"), RecordKey("b")])
        assert {key: record.memory_record_id for key, record in found.items()} == {"a": memory_id("b")}

    async def test_a_deleted_record_leaves_the_ledger(self, state: StateStore) -> None:
        """The memory confirmed that it is gone."""
        await store(state, entry("a"), entry("b"))
        gone = entry("a", memory_record_id=memory_id("a"))
        deletes = batch("token-1", gone, operation=Operation.DELETE)
        await state.save([deletes], [])

        await state.settle(settled(deletes, stored=(), deleted=(gone,)))

        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["b"]

    async def test_a_record_that_could_not_be_updated_for_its_absence_leaves_the_ledger(
        self, state: StateStore
    ) -> None:
        """Believing in it would make every further update fail in the same way."""
        await store(state, entry("old"))
        changed = update("new", replaces="old")
        saved = batch("token-1", changed, operation=Operation.UPDATE)
        await state.save([saved], [])

        await state.settle(settled(saved, stored=(), lost=(changed,), letters=(letter("1"),)))

        assert await state.records_after(FIRST_PLACE, limit=10) == []
        assert [each.id for each in await state.letters()] == ["1"]

    async def test_what_an_answer_did_not_confirm_is_not_in_the_ledger(self, state: StateStore) -> None:
        """A batch whose records all failed leaves letters and nothing else."""
        saved = batch("token-1", entry("a"))
        await state.save([saved], [])

        await state.settle(settled(saved, stored=(), letters=(letter("1"),)))

        assert await state.counts() == replace(EMPTY, letters={"400": 1})

    # ---------------------------------------------------------------------------------------- obsolete records

    async def test_what_a_new_version_has_no_place_for_is_obsolete(self, state: StateStore) -> None:
        """It is deleted after everything else is stored, and until then it is still in the ledger."""
        await store(state, entry("a"), entry("b"), entry("c", "b.md"))

        await state.save([], [plan("a.md", obsolete=(RecordKey("b"),)), plan("b.md")])

        assert await state.obsolete(FIRST_PLACE, limit=10) == [known(entry("b"))]
        assert keys((await records_of(state, [DocumentId("a.md")]))[DocumentId("a.md")]) == ["a", "b"]

    async def test_a_later_version_can_want_an_obsolete_record_back(self, state: StateStore) -> None:
        """An edit that was undone before the delete was sent must not lose the text."""
        await store(state, entry("a"))
        await state.save([], [plan("a.md", obsolete=(RecordKey("a"),))])

        await state.save([], [plan("a.md", obsolete=())])

        assert await pages_of_obsolete(state) == []

    async def test_a_plan_can_leave_open_what_is_obsolete(self, state: StateStore) -> None:
        """A document that could not be read says nothing of its records."""
        await store(state, entry("a"))
        await state.save([], [plan("a.md", obsolete=(RecordKey("a"),))])

        await state.save([], [plan("a.md", obsolete=None)])

        assert await pages_of_obsolete(state) == ["a"]

    async def test_a_document_with_dead_letters_loses_nothing(self, state: StateStore) -> None:
        """The old stays until the new is stored."""
        await store(state, entry("a"))
        await state.save([], [plan("a.md", obsolete=(RecordKey("a"),), letters=(letter("1"),))])
        before = await pages_of_obsolete(state)

        await state.remove_letters(["1"])

        assert (before, await pages_of_obsolete(state)) == ([], ["a"])

    async def test_what_is_on_its_way_is_not_deleted_a_second_time(self, state: StateStore) -> None:
        """A run that was interrupted left its deletes in the outbox."""
        await store(state, entry("a"), entry("b"))
        await state.save([], [plan("a.md", obsolete=(RecordKey("a"), RecordKey("b")))])

        await state.save(
            [batch("token-1", entry("a", memory_record_id=memory_id("a")), operation=Operation.DELETE)], []
        )

        assert await pages_of_obsolete(state) == ["b"]

    async def test_obsolete_records_are_paged_by_key(self, state: StateStore) -> None:
        """Pages end at a key: those before it may be deleted meanwhile."""
        await store(state, *(entry(key) for key in "cabd"))
        await state.save([], [plan("a.md", obsolete=tuple(map(RecordKey, "abcd")))])

        first = await state.obsolete(FIRST_PLACE, limit=3)
        second = await state.obsolete(first[-1].place, limit=3)

        assert (keys(first), keys(second)) == (["a", "b", "c"], ["d"])

    async def test_storing_a_record_anew_ends_its_being_obsolete(self, state: StateStore) -> None:
        """The newest word on a record holds."""
        await store(state, entry("a"))
        await state.save([], [plan("a.md", obsolete=(RecordKey("a"),))])

        await store(state, entry("a"), token="token-2")

        assert await pages_of_obsolete(state) == []

    async def test_a_removed_document_leaves_only_obsolete_records(self, state: StateStore) -> None:
        """They are deleted from what the ledger knows, long after the document is gone."""
        await state.save([], [plan("a.md", letters=(letter("1"),)), plan("b.md", letters=(letter("2", "b.md"),))])
        await store(state, entry("a"), entry("b"), entry("c", "b.md"))

        await state.remove([DocumentId("a.md")])

        assert set(await state.documents([DocumentId("a.md"), DocumentId("b.md")])) == {"b.md"}
        assert [each.id for each in await state.letters()] == ["2"]
        assert await pages_of_obsolete(state) == ["a", "b"]
        assert keys((await records_of(state, [DocumentId("a.md")]))[DocumentId("a.md")]) == ["a", "b"]

    async def test_documents_that_would_be_emptied_are_counted(self, state: StateStore) -> None:
        """The guard must see a source whose documents all turned blank; a removed one is counted elsewhere."""
        documents = ("emptied.md", "shortened.md", "failed.md", "removed.md")
        await saved_documents(state, *documents)
        await store(state, *(entry(f"{name}-{part}", name) for name in documents for part in (1, 2)))
        await state.save(
            [],
            [
                plan("emptied.md", obsolete=(RecordKey("emptied.md-1"), RecordKey("emptied.md-2"))),
                plan("shortened.md", obsolete=(RecordKey("shortened.md-1"),)),
                plan(
                    "failed.md",
                    obsolete=(RecordKey("failed.md-1"), RecordKey("failed.md-2")),
                    letters=(letter("1", "failed.md"),),
                ),
            ],
        )
        await state.remove([DocumentId("removed.md")])

        assert await state.emptied() == 1

    # ------------------------------------------------------------------------------------------- dead letters

    async def test_a_letter_comes_back_as_it_was(self, state: StateStore) -> None:
        """It must be possible to understand it and to send it again."""
        of_record = letter("1")
        of_document = DeadLetter(
            "2", "handbook", DocumentId("b.md"), "parse", "too_large", "—", 1, FAILED_AT, FAILED_AT, "run-1"
        )

        await state.save([], [plan("a.md", letters=(of_record,)), DocumentPlan(None, letters=(of_document,))])

        assert await state.letters() == [of_record, of_document]

    async def test_letters_are_counted_by_their_code(self, state: StateStore) -> None:
        """One reason for a thousand letters is one thing to mend."""
        several = (letter("1"), letter("2", code="429"), letter("3"))

        await state.save([], [plan("a.md", letters=several)])

        assert (await state.counts()).letters == {"400": 2, "429": 1}

    async def test_letters_come_oldest_first_however_many_documents_are_asked_for(self, state: StateStore) -> None:
        """What has waited longest is looked at first."""
        ids = [DocumentId(f"{number:04}.md") for number in range(1_200)]
        plans = [
            plan(name, letters=(letter(name, name, first_failed_at=FAILED_AT - number),))
            for number, name in enumerate(ids)
        ]
        await state.save([], plans)

        of_all = [each.document_id for each in await state.letters()]
        of_these = [each.document_id for each in await state.letters(ids)]
        of_one = [each.document_id for each in await state.letters(ids[:1])]

        assert of_all == list(reversed(ids))
        assert of_these == of_all
        assert of_one == ids[:1]
        assert await state.letters([]) == []

    async def test_failing_again_adds_to_the_letter(self, state: StateStore) -> None:
        """It says how often, since when, and what was said last."""
        await state.save([], [DocumentPlan(None, letters=(letter("1", attempts=2),))])
        later = letter("1", code="429", last_failed_at=FAILED_AT + 60, first_failed_at=FAILED_AT + 60, run_id="run-2")
        saved = batch("token-1", entry("a"))
        await state.save([saved], [])

        await state.settle(settled(saved, stored=(), letters=(later,)))

        (merged,) = await state.letters()
        assert merged == replace(later, attempts=3, rounds=2, first_failed_at=FAILED_AT)

    async def test_storing_a_record_ends_its_letters(self, state: StateStore) -> None:
        """A replay that succeeds needs no second step, in which it could be interrupted."""
        letters = (letter("1", key=RecordKey("a")), letter("2", key=RecordKey("b")))
        await state.save([], [plan("a.md", letters=letters)])

        await store(state, entry("a"))

        assert [each.id for each in await state.letters()] == ["2"]

    async def test_a_new_version_of_a_document_overtakes_its_letters(self, state: StateStore) -> None:
        """They speak of a text that is not there any more, but for those that still stand."""
        letters = (letter("1"), letter("2"))
        await state.save([], [plan("a.md", letters=letters), plan("b.md", letters=(letter("3", "b.md"),))])

        await state.save([], [plan("a.md", letters=(letter("4"),), standing=frozenset({"2"}))])

        assert {each.id for each in await state.letters()} == {"2", "3", "4"}

    async def test_a_letter_about_a_change_of_the_plan_stands(self, state: StateStore) -> None:
        """A large document's first batches may have failed already when its plan is recorded."""
        changed = record("a")
        about_it = letter(record_letter_id(changed.key, changed.digest))
        await state.save([], [DocumentPlan(None, letters=(about_it, letter("2")))])

        await state.save([], [plan("a.md", changes=(Create(changed),))])

        assert [each.id for each in await state.letters()] == [about_it.id]

    async def test_a_plan_without_a_document_overtakes_no_letters(self, state: StateStore) -> None:
        """It brings changes or letters, and no new version."""
        await state.save([], [plan("a.md", letters=(letter("1"),))])

        await state.save([], [DocumentPlan(None, letters=(letter("2"),))])

        assert {each.id for each in await state.letters()} == {"1", "2"}

    async def test_letters_can_be_removed(self, state: StateStore) -> None:
        """Replay drops what was overtaken; dropping twice does no harm."""
        await state.save([], [plan("a.md", letters=(letter("1"), letter("2")))])

        await state.remove_letters(["1"])
        await state.remove_letters(["1", "unknown"])

        assert [each.id for each in await state.letters()] == ["2"]

    async def test_letters_can_be_looked_at_without_their_texts(self, state: StateStore) -> None:
        """A thousand letters can be judged in a moment; a file name that is no text does not stand in the way."""
        strange = letter("1", message="caf\udce9", record=b'{"content":{"text":"\\udce9"}}')
        await state.save([], [plan("a.md", letters=(strange,))])

        (head,) = await state.letters(with_records=False)
        (whole,) = await state.letters()

        assert head == replace(strange, record=None)
        assert whole == strange

    async def test_a_dropped_letter_is_counted_apart(self, state: StateStore) -> None:
        """A person has decided: nobody is to be woken for it, and nobody is to forget it."""
        await saved_documents(state, "a.md")
        await state.save([], [plan("a.md", letters=(letter("1"), letter("2")))])

        await state.drop_letters(["1", "unknown"], FAILED_AT + 9)
        await state.drop_letters(["1"], FAILED_AT + 99)

        counts, (document,) = await state.counts(), (await state.documents([DocumentId("a.md")])).values()
        assert (counts.letters, counts.dropped) == ({"400": 1}, 1)
        assert (document.dead_letters, document.dropped) == (1, 1)
        assert [each.id for each in await state.letters()] == ["2"]
        of_both = await state.letters([DocumentId("a.md")], with_dropped=True)
        assert [(each.id, each.dropped_at) for each in of_both] == [("1", FAILED_AT + 9), ("2", None)]

    async def test_a_dropped_letter_ends_as_others_do(self, state: StateStore) -> None:
        """By a new version, by its record being stored, with its document; what fails again is no longer dropped."""
        names = ("overtaken.md", "stored.md", "removed.md", "failed.md")
        letters = {name: letter(name, name, key=RecordKey(name)) for name in names}
        await state.save([], [plan(name, letters=(letters[name],)) for name in names])
        await state.drop_letters(names, FAILED_AT + 9)

        await state.save([], [plan("overtaken.md")])
        await store(state, entry("stored.md", "stored.md"))
        await state.remove([DocumentId("removed.md")])
        await state.save([], [DocumentPlan(None, letters=(letters["failed.md"],))])

        assert [(each.id, each.dropped_at) for each in await state.letters(with_dropped=True)] == [("failed.md", None)]

    async def test_a_document_whose_letters_are_all_dropped_loses_what_it_asks_for_no_more(
        self, state: StateStore
    ) -> None:
        """Nothing new is awaited any more that the old would have to wait for."""
        await store(state, entry("a"))
        await state.save([], [plan("a.md", obsolete=(RecordKey("a"),), letters=(letter("1"),))])

        await state.drop_letters(["1"], FAILED_AT)

        assert await pages_of_obsolete(state) == ["a"]

    async def test_a_delete_that_failed_can_be_tried_again(self, state: StateStore) -> None:
        """Its letter stands in the way of others only; whatever comes of it, one thing has one letter."""
        await store(state, entry("a"), entry("b", "b.md"))
        obsolete = [plan("a.md", obsolete=(RecordKey("a"),)), plan("b.md", obsolete=(RecordKey("b"),))]
        await state.save([], obsolete)
        doomed = entry("a", memory_record_id=memory_id("a"))
        failed = letter("1", key=RecordKey("a"), operation=Operation.DELETE)
        deletes = [batch(f"token-{number}", doomed, operation=Operation.DELETE) for number in range(3)]
        found = []
        for delete, told in zip(deletes, [failed, replace(failed, id="2"), None], strict=True):
            await state.save([delete], [])
            outcome = {"letters": (told,)} if told else {"deleted": (doomed,)}
            await state.settle(settled(delete, stored=(), **outcome))
            letters = await state.letters()
            again = await state.obsolete(FIRST_PLACE, limit=9, despite=[each.id for each in letters])
            found.append(([(each.id, each.rounds) for each in letters], [each.key for each in again]))

        assert found == [([("1", 1)], ["a", "b"]), ([("2", 2)], ["a", "b"]), ([], ["b"])]

    # ------------------------------------------------------------------------------------------------ edits

    async def test_a_record_that_a_person_has_edited_counts_as_what_its_document_asks_for(
        self, state: StateStore
    ) -> None:
        """A run must not write over the edit; and whoever compares the memory with the ledger must find it right."""
        edited = entry("a", digest="of-the-edit", edited_from="of-the-document")
        await state.save([batch("token-1", edited)], [])
        (saved,) = (await state.batch(ClientToken("token-1"))).entries

        await state.settle(settled(await state.batch(ClientToken("token-1"))))

        assert saved == edited
        (asked_for,) = (await records_of(state, [DocumentId("a.md")]))[DocumentId("a.md")]
        (held,) = await state.records_after(FIRST_PLACE, limit=9)
        assert (asked_for.digest, held.digest) == ("of-the-document", "of-the-edit")

    async def test_an_edit_ends_when_the_memory_may_hold_something_else(self, state: StateStore) -> None:
        """What it takes the place of must not be taken for stored then."""
        await store(state, *(entry(key, digest="of-the-edit", edited_from="of-the-document") for key in "abcd"))
        held = {record.key: record for record in await state.records_after(FIRST_PLACE, limit=9)}
        in_doubt = batch("token-1", update("b", replaces="b"), operation=Operation.UPDATE)

        await state.forget([], [held[RecordKey("a")]])
        await state.save([in_doubt], [])
        await state.settle(settled(in_doubt, stored=(), letters=(letter("1", key=RecordKey("b")),)))
        await store(state, entry("c", digest="other"), token="token-2")

        records = (await records_of(state, [DocumentId("a.md")]))[DocumentId("a.md")]
        digests = {record.key: record.digest for record in records}
        assert digests == {"a": "", "b": "", "c": "other", "d": "of-the-document"}

    # ------------------------------------------------------------------------------------------- forgetting

    async def test_what_is_forgotten_is_derived_anew(self, state: StateStore) -> None:
        """The next run creates what is missing and updates what was changed, but only if it fetches the document."""
        origin = DocumentId("c.jsonl")
        part = document("c.jsonl#1", origin=origin)
        untouched = plan("b.md")
        await state.save([], [plan("a.md"), untouched, DocumentPlan(document(origin, has_parts=True))])
        await state.save([], [DocumentPlan(part)])
        await store(state, entry("a"), entry("b"), entry("c", "b.md"), entry("d", part.id))

        await state.forget(missing=[known(entry("a"))], changed=[known(entry("d", part.id))])

        found = await state.documents([*map(DocumentId, ("a.md", "b.md")), origin, part.id])
        assert {name for name, each in found.items() if each.state.fingerprint is None} == {"a.md", origin, part.id}
        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["b", "c", "d"]
        (changed,) = (await state.records_by_key([RecordKey("d")])).values()
        assert changed.digest != entry("d").digest
        assert changed.memory_record_id == memory_id("d")

    # ------------------------------------------------------------------- the ledger beside the memory

    async def test_records_on_their_way_are_no_sample_of_what_is_there(self, state: StateStore) -> None:
        """Nobody knows what the memory holds of them, so they prove nothing about it."""
        await store(state, entry("a"), entry("b"), entry("c"))
        await state.save([batch("token-2", update("b2", replaces="b"), operation=Operation.UPDATE)], [])

        assert keys(await state.records_after(FIRST_PLACE, limit=10, settled=True)) == ["a", "c"]
        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["a", "b", "c"]

    async def test_a_ledger_becomes_acquainted_with_its_memory_once(self, state: StateStore) -> None:
        """Only before its first write can it turn out to be a lost one."""
        before = await state.acquainted_at()
        await state.note_acquainted(SAVED_AT)
        first = await state.acquainted_at()
        await state.note_acquainted()

        assert (before, first, await state.acquainted_at()) == (None, SAVED_AT, 0.0)

    async def test_what_is_taken_over_is_derived_anew(self, state: StateStore) -> None:
        """The next run must read its document, to know whether it still wants the record."""
        await saved_documents(state, "a.md", "b.md")

        await state.adopt([shown("x"), shown("y", "new.md"), shown("z", "t.csv#1", origin=DocumentId("t.csv"))], [])

        known_documents = await state.documents([*map(DocumentId, ("a.md", "b.md", "new.md", "t.csv#1"))])
        assert {name: found.state.fingerprint is None for name, found in known_documents.items()} == {
            "a.md": True,
            "b.md": False,
            "new.md": True,
            "t.csv#1": True,
        }
        assert known_documents[DocumentId("t.csv#1")].state.origin == "t.csv"
        assert keys(await state.records_after(FIRST_PLACE, limit=10)) == ["x", "y", "z"]
        assert await pages_of_obsolete(state) == []

    async def test_second_copies_are_deleted_and_never_taken_for_the_first(self, state: StateStore) -> None:
        """Both have the same key; only the first one can be updated from now on."""
        await store(state, entry("a"))
        await saved_documents(state, "a.md")

        await state.adopt([], [shown("a", memory_record_id=MemoryRecordId("mem-of-copy"))])

        (first,) = (await state.records_by_key([RecordKey("a")])).values()
        assert first.memory_record_id == memory_id("a")
        (obsolete,) = await state.obsolete(FIRST_PLACE, limit=10)
        assert obsolete.memory_record_id == "mem-of-copy"
        assert (await state.documents([DocumentId("a.md")]))[DocumentId("a.md")].state.fingerprint is not None

    async def test_taking_over_twice_is_taking_over_once(self, state: StateStore) -> None:
        """A repair that was interrupted begins anew."""
        for _ in range(2):
            await state.adopt([shown("x")], [shown("x", memory_record_id=MemoryRecordId("mem-of-copy"))])

        assert (await state.counts()).records == 2

    async def test_a_record_of_no_document_is_kept_until_one_claims_it(self, state: StateStore) -> None:
        """Neither the right document's nor anybody's to delete."""
        of_none = shown("x", "")

        await state.adopt([], [], [of_none])

        counts = await state.counts()
        assert (counts.documents, counts.records, counts.unattributed) == (0, 1, 1)
        (kept,) = (await state.records_by_key([RecordKey("x")])).values()
        assert (kept.document, kept.digest, kept.memory_record_id) == ("", "", of_none.memory_record_id)
        assert await pages_of_obsolete(state) == []
        async with state.compared() as comparison:
            await comparison.note([of_none], listing=1)
            assert await comparison.counts() == (1, 0)
            assert keys(await comparison.unattributed(FIRST_PLACE, limit=10)) == ["x"]

        await store(state, entry("x")._replace(memory_record_id=of_none.memory_record_id, replaces=RecordKey("x")))

        assert (await state.counts()).unattributed == 0
        assert len(await state.records_after(FIRST_PLACE, limit=10)) == 1

    async def test_a_record_of_no_document_may_say_later_whose_it_is(self, state: StateStore) -> None:
        """It is one record in the memory, so it must not be two in the ledger."""
        await state.adopt([], [], [shown("x", "")])

        await state.adopt([shown("x")], [])

        (kept,) = await state.records_after(FIRST_PLACE, limit=10)
        assert kept.document == "a.md"

    async def test_giving_up_on_a_claimed_record_lets_it_be_written_anew(self, state: StateStore) -> None:
        """An earlier attempt whose answer was lost may have been carried out: nobody knows what the record says."""
        await state.adopt([], [], [replace(shown("x", ""), digest="it said this")])
        claim = batch("token-1", entry("x")._replace(replaces=RecordKey("x"), memory_record_id=memory_id("x")))
        await state.save([claim], [])

        await state.settle(settled(claim, stored=(), letters=(letter("1", key=RecordKey("x")),)))

        (kept,) = await state.records_after(FIRST_PLACE, limit=10)
        assert (kept.document, kept.digest) == ("", "")

    async def test_a_discarded_outbox_lets_its_documents_be_derived_anew(self, state: StateStore) -> None:
        """What a copy of a state wanted to send is no longer known to be wanted, or to be missing."""
        await state.save([batch("token-1", entry("a"))], [plan("a.md"), plan("b.md")])
        await state.note_acquainted()

        await state.discard_outbox()

        assert await state.outbox() == []
        assert await state.acquainted_at() is None
        found = await state.documents([DocumentId("a.md"), DocumentId("b.md")])
        assert [known.state.fingerprint is None for known in found.values()] == [True, False]
        await state.save([batch("token-2", entry("a"))], [])

    async def test_a_comparison_tells_what_only_one_side_has(self, state: StateStore) -> None:
        """The two sides may be of any size: what is equal is never read."""
        await store(state, entry("a"), entry("b"), entry("c"))
        seen = [shown("a"), shown("b", digest="forged"), shown("x"), shown("x", memory_record_id=MemoryRecordId("2nd"))]

        async with state.compared() as comparison:
            await comparison.note(seen, listing=1)

            assert await comparison.counts() == (4, 4)
            assert keys(await comparison.unseen(FIRST_PLACE, listing=1, limit=10)) == ["c"]
            assert keys(await comparison.changed(FIRST_PLACE, limit=10)) == ["b"]
            unknown = await comparison.unknown(None, listing=1, limit=10)
            assert sorted(found.memory_record_id for found in unknown) == ["2nd", "mem-of-x"]

    async def test_a_comparison_knows_the_second_copies_that_the_ledger_wants_to_delete(
        self, state: StateStore
    ) -> None:
        """The memory shows them under the key of the first, which the ledger has given to another record."""
        copy = shown("a", memory_record_id=MemoryRecordId("mem-of-copy"))
        await store(state, entry("a"))
        await state.adopt([], [copy])

        async with state.compared() as comparison:
            await comparison.note([shown("a"), copy], listing=1)

            assert await comparison.counts() == (2, 0)
            assert await comparison.unknown(None, listing=1, limit=10) == []

    async def test_a_comparison_is_silent_about_what_is_on_its_way(self, state: StateStore) -> None:
        """Whether it was written is what the outbox is for to find out."""
        await store(state, entry("a"), entry("b"))
        pending = batch("token-2", update("b2", replaces="b"), operation=Operation.UPDATE)
        await state.save([pending, batch("token-3", entry("c"))], [])

        async with state.compared() as comparison:
            await comparison.note([shown("a"), shown("c")], listing=1)

            assert await comparison.counts() == (2, 0)

    async def test_the_later_of_two_listings_holds(self, state: StateStore) -> None:
        """The first one may have shown what was there before."""
        await store(state, entry("a"), entry("b"))
        async with state.compared() as comparison:
            await comparison.note([shown("a", digest="old"), shown("b"), shown("gone")], listing=1)
            await comparison.note([shown("a")], listing=2)

            assert keys(await comparison.unseen(FIRST_PLACE, listing=2, limit=10)) == ["b"]
            assert await comparison.changed(FIRST_PLACE, limit=10) == []
            assert keys_of(await comparison.unknown(None, listing=1, limit=10)) == ["gone"]
            assert await comparison.unknown(None, listing=2, limit=10) == []

    async def test_a_comparison_is_paged(self, state: StateStore) -> None:
        """Each page begins behind the last record of the one before, copies of one key included."""
        copies = [shown("x", memory_record_id=MemoryRecordId(f"copy-{number}")) for number in range(5)]
        async with state.compared() as comparison:
            await comparison.note(copies, listing=1)
            pages, after = [], None
            while page := await comparison.unknown(after, listing=1, limit=2):
                pages.append(len(page))
                after = page[-1]

        assert pages == [2, 2, 1]

    # --------------------------------------------------------------------------------- resuming, runs

    async def test_the_last_checkpoint_holds(self, state: StateStore) -> None:
        """It is saved with the batches before it, so a scan never resumes behind what is lost."""
        await state.save([batch("token-1", entry("a"))], [], Checkpoint("page-1"))
        await state.save([], [], Checkpoint("page-2"))
        await state.save([], [plan("a.md")])

        assert await state.checkpoint() == Checkpoint("page-2")

    async def test_the_last_run_that_ended_in_sync_is_found(self, state: StateStore) -> None:
        """Its age is what tells that a source has not been synced for days, whatever its last run says."""
        assert await state.last_success() is None
        for number, status in enumerate(["in_sync", "in_sync", "failed"]):
            await state.begin_run(f"run-{number}", "run", float(number))
            await state.end_run(f"run-{number}", f'{{"status": "{status}"}}', number + 0.5)
        await state.begin_run("run-3", "run", 3.0)

        assert await state.last_success() == 1.5

    async def test_the_last_run_is_remembered_and_whether_it_ended(self, state: StateStore) -> None:
        """One that was killed has no report: what the run before it said does not hold any more."""
        await state.begin_run("run-1", "run", 1.0)
        await state.end_run("run-1", '{"status": "in_sync"}', 2.5)
        await state.begin_run("run-2", "replay", 3.0)

        assert await state.last_run() == LastRun("run-2", None, None)
        assert await state.last_run(before="run-2") == LastRun("run-1", 2.5, '{"status": "in_sync"}')

    async def test_a_run_that_was_none_is_forgotten(self, state: StateStore) -> None:
        """A plan that was refused has changed nothing: how the source stands is what the run before it said."""
        await state.begin_run("run-1", "run", 1.0)
        await state.end_run("run-1", '{"status": "in_sync"}', 2.5)
        await state.begin_run("run-2", "run", 3.0)

        await state.drop_run("run-2")
        await state.drop_run("run-2")

        assert await state.last_run() == LastRun("run-1", 2.5, '{"status": "in_sync"}')

    async def test_past_runs_are_told_the_newest_first(self, state: StateStore) -> None:
        """Whoever asks what happened in the night begins with the last run, and wants no more than asked for."""
        for number in (1, 2, 3):
            await state.begin_run(f"run-{number}", "run", float(number))
        await state.end_run("run-2", '{"status": "failed"}', 2.5)

        assert await state.runs(limit=2) == [
            PastRun("run-3", "run", 3.0, None, None),
            PastRun("run-2", "run", 2.0, 2.5, '{"status": "failed"}'),
        ]
        assert len(await state.runs(limit=10)) == 3

    async def test_the_newest_run_counts_however_the_clock_is_set(self, state: StateStore) -> None:
        """Clocks are put back; the order of runs is not."""
        for number, ended_at in ((1, 100.0), (2, 50.0)):
            await state.begin_run(f"run-{number}", "run", ended_at)
            await state.end_run(f"run-{number}", "{}", ended_at)

        found = await state.last_run()

        assert found is not None
        assert found.id == "run-2"

    async def test_what_became_of_a_saved_plan_is_remembered(self, state: StateStore) -> None:
        """It is used once; one that was cut off may be carried on with."""
        assert await state.plan_use("plan-1") is None
        await state.note_plan_use("plan-1", PlanUse())
        await state.note_plan_use("plan-2", PlanUse(1.5))

        assert await state.plan_use("plan-1") == PlanUse()
        await state.note_plan_use("plan-1", PlanUse(2.5))
        assert (await state.plan_use("plan-1"), await state.plan_use("plan-2")) == (PlanUse(2.5), PlanUse(1.5))

    async def test_calls_side_by_side_do_not_mix(self, state: StateStore) -> None:
        """Sixteen writers settle at once; each of their transactions is whole."""
        batches = [batch(f"token-{number}", entry(f"{number}"), entry(f"{number}-b")) for number in range(16)]

        async def deliver(each: Batch) -> None:
            await state.save([each], [plan(f"{each.client_token}.md")])
            await state.counts()
            await state.settle(settled(each))

        async with anyio.create_task_group() as writers:
            for each in batches:
                writers.start_soon(deliver, each)

        assert await state.counts() == replace(EMPTY, documents=16, rows=16, records=32)
