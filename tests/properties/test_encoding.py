"""The bytes of a request: what is saved is what is sent, and every member can be taken out again as it went in."""

import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipeline.batcher import new_batch
from pipeline.destinations.agentcore import AgentCoreConnection, AgentCoreDestination
from pipeline.model import (
    Change,
    ClientToken,
    Create,
    Delete,
    DocumentId,
    Entry,
    KnownRecord,
    MemoryRecordId,
    Operation,
    Record,
    RecordKey,
    Update,
)
from tests.pipeline.examples import WRITTEN_AT, gate

MEMORY = AgentCoreDestination(AgentCoreConnection("handbook-a1B2c3D4e5"), gate())

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False)
metadata = st.dictionaries(
    st.text("abc-", min_size=1, max_size=5),
    texts | numbers | st.lists(texts, min_size=1, max_size=3).map(tuple),
    max_size=4,
)
records = st.builds(
    Record,
    key=texts.map(RecordKey),
    document=st.just(DocumentId("a.md")),
    namespace=st.sampled_from(["/docs/", "/other/"]),
    text=texts,
    timestamp=st.just(WRITTEN_AT),
    metadata=metadata,
    digest=texts,
    order=st.floats(0, 1e9),
    strategy_id=st.none() | st.just("strategy-0123456789"),
)
known = st.builds(
    KnownRecord,
    key=texts.map(RecordKey),
    document=st.just(DocumentId("a.md")),
    namespace=st.sampled_from(["/docs/", "/other/"]),
    digest=texts,
    order=st.floats(0, 1e9),
    memory_record_id=texts.map(MemoryRecordId),
)
changes_of_one_operation = (
    st.lists(st.builds(Create, records), min_size=1, max_size=5)
    | st.lists(st.builds(Update, known, records), min_size=1, max_size=5)
    | st.lists(st.builds(Delete, known), min_size=1, max_size=5)
)


def operation_of(change: Change) -> Operation:
    return {Create: Operation.CREATE, Update: Operation.UPDATE, Delete: Operation.DELETE}[type(change)]


def entries(count: int) -> list[Entry]:
    return [Entry(RecordKey(f"key-{n}"), DocumentId("a.md"), "/docs/", "digest", 1.0) for n in range(count)]


@given(changes=changes_of_one_operation, token=texts.map(ClientToken))
def test_a_batch_gives_back_the_members_that_it_was_made_of(changes: Sequence[Change], token: ClientToken) -> None:
    """What is sent again, or dead-lettered, is cut out of the saved bytes: not one of them may change."""
    members = [MEMORY.encode(change) for change in changes]

    batch = new_batch(MEMORY, operation_of(changes[0]), entries(len(changes)), members, token, now=0.0)

    assert list(MEMORY.members(batch)) == members
    assert all(member in batch.body for member in members)
    body = json.loads(batch.body)
    assert body["records"] == [json.loads(member) for member in members]
    assert body.get("clientToken", token) == token


@given(known, records)
def test_an_update_of_a_lost_record_becomes_the_create_of_it(before: KnownRecord, record: Record) -> None:
    """What is created then must be what a first run would have created, to the byte."""
    entry = Entry(record.key, record.document, record.namespace, record.digest, record.order)

    created = MEMORY.encode_lost(entry, MEMORY.encode(Update(before, record)))

    assert created == MEMORY.encode(Create(record))
