"""What a record says of where it comes from can be read back, whatever the document is called."""

from datetime import UTC, datetime

from anyio import run
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.identity import digest_of, record_digests
from pipeline.limits import service_limits
from pipeline.model import (
    ORDER_METADATA_KEY,
    DocumentId,
    MemoryRecord,
    MemoryRecordId,
    MetadataValue,
    RecordKey,
)
from pipeline.provenance import (
    DIGEST_METADATA_KEY,
    DOCUMENT_METADATA_KEY,
    KEY_METADATA_KEY,
    PART_METADATA_KEY,
    PROVENANCE_KEYS,
    SOURCE_METADATA_KEY,
    WHOLE_ID_METADATA_KEY,
    digest_of_content,
    document_provenance,
    found_record,
    is_of_source,
)
from pipeline.state.sqlite import open_state
from tests.contract.state_store import records_of
from tests.pipeline.examples import inline

LIMITS = service_limits()
CREATED_AT = datetime(2024, 5, 6, tzinfo=UTC)

characters = st.characters(codec="utf-8") | st.sampled_from("=-/#:")
any_characters = characters | st.characters(categories=["Cs"])  # lone surrogates, which no source has in its ids


def ids_of(some: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Ids of any length."""
    pieces = st.text(some, min_size=1, max_size=12)
    return st.text(some, min_size=1, max_size=40) | st.builds(
        lambda piece, times: piece * times, pieces, st.integers(20, 200)
    )


ids = ids_of(characters)
keys = st.text().map(lambda text: RecordKey(digest_of(text)))
anything = (
    st.text(any_characters, max_size=20)
    | st.floats()
    | st.lists(st.text(any_characters, max_size=8), max_size=4).map(tuple)
    | st.sampled_from(["=-", "=-0123456789abcdef", ("eJw=",), ("",), "=ED=A0=80", 0.5, -1.0, 1e300])
)
own_metadata = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text("xy", max_size=3) | st.floats(-9, 9))


def shown(metadata: dict[str, MetadataValue], text: str = "text", namespace: str = "/docs/") -> MemoryRecord:
    """A record as the memory shows it."""
    return MemoryRecord(MemoryRecordId("mem-1"), namespace, text, metadata, CREATED_AT)


@given(source=ids, document=ids, key=keys, order=st.floats(-1e9, 1e9))
@example(source="s", document="w" * 300, key=RecordKey("0" * 40), order=1.0)
@example(source="s", document="\U0001f600" * 300, key=RecordKey("0" * 40), order=1.0)
def test_a_document_s_id_comes_back_from_its_records(source: str, document: str, key: RecordKey, order: float) -> None:
    """A lost ledger is rebuilt from it: an id that came back changed would be another document."""
    provenance = document_provenance(source, DocumentId(document), DocumentId(document), LIMITS)
    metadata = {**provenance, KEY_METADATA_KEY: key, ORDER_METADATA_KEY: order}

    found = found_record(shown(metadata), None)

    assert found is not None
    assert (found.document, found.origin, found.key, found.order) == (document, document, key, order)
    assert is_of_source(shown(metadata), source, LIMITS)


@given(origin=ids, line=ids, key=keys)
def test_a_part_tells_which_file_it_is_of(origin: str, line: str, key: RecordKey) -> None:
    """Else a file that is gone would leave its lines behind."""
    part = DocumentId(f"{origin}#{line}")
    provenance = document_provenance("s", part, DocumentId(origin), LIMITS)

    found = found_record(shown({**provenance, KEY_METADATA_KEY: key}), None)

    assert found is not None
    assert (found.document, found.origin) == (part, origin)


@given(source=ids, document=ids, line=st.just("") | ids)
def test_provenance_is_metadata_that_the_service_takes(source: str, document: str, line: str) -> None:
    """A record that is refused for what we add to it would be nobody's fault but ours."""
    for key, value in document_provenance(source, DocumentId(document + line), DocumentId(document), LIMITS).items():
        assert LIMITS.metadata_key.breach(key) is None
        assert LIMITS._breach_of_value(value) is None, key


@given(source=ids, other=ids)
def test_a_record_bears_the_name_of_one_source_only(source: str, other: str) -> None:
    """What another source wrote is not ours to delete."""
    metadata = document_provenance(source, DocumentId("a.md"), DocumentId("a.md"), LIMITS)

    assert is_of_source(shown(metadata), other, LIMITS) == (source == other)


@given(
    metadata=st.dictionaries(st.sampled_from(sorted(PROVENANCE_KEYS)) | st.text(max_size=4), anything),
    key=st.none() | keys,
    text=st.text(any_characters),
)
@example(metadata={DOCUMENT_METADATA_KEY: "abc", PART_METADATA_KEY: 0.5}, key=RecordKey("0" * 40), text="")
@example(
    metadata={DOCUMENT_METADATA_KEY: "=-", WHOLE_ID_METADATA_KEY: ("é",), SOURCE_METADATA_KEY: ()}, key=None, text=""
)
def test_nothing_that_anybody_writes_into_a_memory_breaks_a_reader(
    metadata: dict[str, MetadataValue], key: RecordKey | None, text: str
) -> None:
    """A single strange record must not keep a ledger from being rebuilt; what it tells makes sense or is nothing."""
    record = shown(metadata | ({KEY_METADATA_KEY: key} if key else {}), text)

    found = found_record(record, None)
    is_of_source(record, "s", LIMITS)

    if found is not None:
        assert found.document.startswith(found.origin)
        assert bool(found.origin) == bool(found.document)


@given(document=ids_of(any_characters), part_at=st.none() | st.floats(0, 60))
@example(document="\ud800", part_at=None)
def test_whatever_a_record_says_of_its_document_the_ledger_can_hold(document: str, part_at: float | None) -> None:
    """Anybody may write into a memory: one strange record must not end every `verify` and `recover`."""
    provenance = document_provenance("s", DocumentId(document), DocumentId(document), LIMITS)
    metadata = {**provenance, KEY_METADATA_KEY: "0" * 40, **({} if part_at is None else {PART_METADATA_KEY: part_at})}
    found = found_record(shown(metadata), None)
    assert found is not None

    async def check() -> None:
        async with open_state(None, source="s", destination="m", offload=inline) as state, state.compared() as compared:
            await compared.note([found], listing=1)
            assert await compared.unknown(None, listing=1, limit=9) == [found]
            await state.adopt([found], [])
            assert [record.memory_record_id for record in (await records_of(state, [found.document]))[found.document]]

    run(check, backend="trio")


@given(key=keys, text=st.text(), own=own_metadata, strategy=st.none() | st.just("strategy-1"), changed=st.booleans())
def test_a_digest_tells_whether_a_record_still_is_as_it_was_written(
    key: RecordKey, text: str, own: dict[str, MetadataValue], strategy: str | None, changed: bool
) -> None:
    """`verify` sees by it what somebody changed, and nothing else: provenance and the service's own are left out."""
    digest = record_digests("/docs/", strategy, own)(key, text)
    provenance = document_provenance("s", DocumentId("a.csv#1" * 99), DocumentId("a.csv"), LIMITS)
    assert {PART_METADATA_KEY, WHOLE_ID_METADATA_KEY} <= provenance.keys()
    system: dict[str, MetadataValue] = {"x-amz-agentcore-memory-createdAt": "now"}
    written = {**own, **provenance, **system, KEY_METADATA_KEY: key, DIGEST_METADATA_KEY: digest}

    now = digest_of_content(shown(written, text + ("!" if changed else "")), strategy)

    assert (now == digest) != changed
