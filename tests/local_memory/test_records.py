"""What the record operations do with valid requests."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import MEMORY_ID, Clock, Service, record

UNKNOWN_ID = "mem-00000000-0000-0000-0000-000000000000"
DAY_S = 86_400


def test_a_created_record_is_answered_with_its_request_identifier_and_id(service: Service) -> None:
    """A client joins request and answer by that identifier."""
    answer = service.data.batch_create_memory_records(
        memoryId=MEMORY_ID,
        records=[record("first", requestIdentifier="key-1"), record("second", requestIdentifier="key-2")],
    )

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert [entry["requestIdentifier"] for entry in answer["successfulRecords"]] == ["key-1", "key-2"]
    assert [entry["status"] for entry in answer["successfulRecords"]] == ["SUCCEEDED", "SUCCEEDED"]
    assert [entry["memoryRecordId"] for entry in answer["successfulRecords"]] == [
        stored.record_id for stored in service.stored()
    ]
    assert answer["failedRecords"] == []


def test_a_record_comes_back_as_it_was_sent(service: Service, clock: Clock) -> None:
    """Get is how a client proves what the memory holds."""
    metadata = {
        "team": {"stringValue": "support"},
        "tags": {"stringListValue": ["a", "b"]},
        "n": {"numberValue": 1.5},
    }
    (record_id,) = service.create(record("text", metadata=metadata, memoryStrategyId="facts"))

    answer = service.data.get_memory_record(memoryId=MEMORY_ID, memoryRecordId=record_id)["memoryRecord"]

    assert answer["content"] == {"text": "text"}
    assert answer["namespaces"] == ["/docs/"]
    assert answer["memoryStrategyId"] == "facts"
    assert answer["timestamp"] == datetime.fromtimestamp(1_700_000_000, UTC)
    assert answer["createdAt"] == datetime.fromtimestamp(clock.now, UTC)
    assert {key: answer["metadata"][key] for key in metadata} == metadata


def test_the_service_adds_metadata_of_its_own(service: Service, clock: Clock) -> None:
    """AgentCore returns these keys and refuses them in a request, so a client must strip them."""
    (record_id,) = service.create(record("text"))

    answer = service.data.get_memory_record(memoryId=MEMORY_ID, memoryRecordId=record_id)["memoryRecord"]

    now = datetime.fromtimestamp(clock.now, UTC)
    assert answer["metadata"] == {
        "x-amz-agentcore-memory-recordType": {"stringValue": "BASE"},
        "x-amz-agentcore-memory-createdAt": {"dateTimeValue": now},
        "x-amz-agentcore-memory-updatedAt": {"dateTimeValue": now},
    }
    assert service.stored()[0].metadata == {}


def test_an_update_keeps_what_it_leaves_out(service: Service, clock: Clock) -> None:
    """A client may send only what changed."""
    (record_id,) = service.create(record("text", metadata={"team": {"stringValue": "support"}}))
    clock.now += 60

    answer = service.data.batch_update_memory_records(
        memoryId=MEMORY_ID, records=[{"memoryRecordId": record_id, "timestamp": 1_700_000_001}]
    )

    (stored,) = service.stored()
    assert answer["successfulRecords"] == [{"memoryRecordId": record_id, "status": "SUCCEEDED"}]
    assert (stored.text, stored.namespace) == ("text", "/docs/")
    assert stored.metadata == {"team": {"stringValue": "support"}}
    assert stored.timestamp == 1_700_000_001
    assert stored.updated_at == stored.created_at + 60


def test_an_update_replaces_what_it_gives(service: Service) -> None:
    """The metadata map is replaced as a whole; a listing and a search see the new state."""
    (record_id,) = service.create(record("tortoise", metadata={"old": {"stringValue": "x"}}))

    service.data.batch_update_memory_records(
        memoryId=MEMORY_ID,
        records=[
            {
                "memoryRecordId": record_id,
                "timestamp": 1_700_000_001,
                "content": {"text": "hare"},
                "namespaces": ["/animals/"],
                "metadata": {"memsync-key": {"stringValue": "k"}},
            }
        ],
    )

    assert service.stored()[0].metadata == {"memsync-key": {"stringValue": "k"}}
    assert service.listed_texts(namespace="/animals/") == ["hare"]
    assert service.found_texts("hare") == ["hare"]
    assert service.found_texts("tortoise") == []


def test_an_update_or_delete_of_a_missing_record_fails_alone(service: Service) -> None:
    """One missing record must not cost the batch."""
    (record_id,) = service.create(record("text"))

    updated = service.data.batch_update_memory_records(
        memoryId=MEMORY_ID,
        records=[{"memoryRecordId": id_, "timestamp": 1_700_000_000} for id_ in (UNKNOWN_ID, record_id)],
    )
    deleted = service.data.batch_delete_memory_records(
        memoryId=MEMORY_ID, records=[{"memoryRecordId": id_} for id_ in (UNKNOWN_ID, record_id)]
    )

    for answer in (updated, deleted):
        (failed,) = answer["failedRecords"]
        assert (failed["memoryRecordId"], failed["status"], failed["errorCode"]) == (
            UNKNOWN_ID,
            "FAILED",
            404,
        )
        assert [entry["memoryRecordId"] for entry in answer["successfulRecords"]] == [record_id]
    assert service.stored() == []


@pytest.mark.parametrize(("source", "failed_count"), [("/docs/", 0), ("/elsewhere/", 1)])
def test_source_namespaces_must_be_where_the_record_is(service: Service, source: str, failed_count: int) -> None:
    """Permissions hang on them, so a wrong one must not work here and fail there."""
    (record_id,) = service.create(record("text"))

    answer = service.data.batch_update_memory_records(
        memoryId=MEMORY_ID,
        records=[{"memoryRecordId": record_id, "timestamp": 1_700_000_000, "sourceNamespaces": [source]}],
    )

    assert [entry["errorCode"] for entry in answer["failedRecords"]] == [404] * failed_count


def test_a_record_can_be_deleted_by_itself(service: Service) -> None:
    """DeleteMemoryRecord; afterwards Get and a second Delete answer 404."""
    (record_id,) = service.create(record("text"))

    answer = service.data.delete_memory_record(memoryId=MEMORY_ID, memoryRecordId=record_id)

    assert answer["memoryRecordId"] == record_id
    assert service.stored() == []
    assert service.found_texts("text") == []
    for operation in (service.data.get_memory_record, service.data.delete_memory_record):
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            operation(memoryId=MEMORY_ID, memoryRecordId=record_id)


def test_a_record_of_another_memory_is_not_there(service: Service) -> None:
    """Memories are separate, however well an id is known."""
    other = "other-0123456789"
    service.create_memory(other, {})
    (record_id,) = service.create(record("text"))

    answer = service.data.batch_delete_memory_records(memoryId=other, records=[{"memoryRecordId": record_id}])

    assert [entry["errorCode"] for entry in answer["failedRecords"]] == [404]
    assert service.stored_texts() == ["text"]


def test_a_record_expires(service: Service, clock: Clock) -> None:
    """A record with an expiry is gone when its days are over, everywhere at once."""
    (record_id,) = service.create(record("fleeting"), recordExpirySpecification={"recordExpiryDurationDays": 31})
    service.create(record("lasting"))
    before = service.data.get_memory_record(memoryId=MEMORY_ID, memoryRecordId=record_id)["memoryRecord"]

    clock.now += 31 * DAY_S

    assert before["expiresAt"] == datetime.fromtimestamp(clock.now, UTC)
    assert service.listed_texts(namespacePath="/") == ["lasting"]
    assert service.found_texts("fleeting") == []
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        service.data.get_memory_record(memoryId=MEMORY_ID, memoryRecordId=record_id)


def test_an_update_renews_keeps_or_removes_the_expiry(service: Service, clock: Clock) -> None:
    """An unchanged document must be renewed before its records lapse."""
    expiry = {"recordExpiryDurationDays": 31}
    ids = service.create(*map(record, "abc"), recordExpirySpecification=expiry)
    first_expiry = clock.now + 31 * DAY_S
    clock.now += DAY_S
    specifications: list[dict[str, Any]] = [
        {"recordExpirySpecification": expiry},
        {},
        {"recordExpirySpecification": {"action": "REMOVE"}},
    ]

    for record_id, specification in zip(ids, specifications, strict=True):
        service.data.batch_update_memory_records(
            memoryId=MEMORY_ID,
            records=[{"memoryRecordId": record_id, "timestamp": 1_700_000_000}],
            **specification,
        )

    assert [stored.expires_at for stored in service.stored()] == [first_expiry + DAY_S, first_expiry, None]


def test_a_value_of_another_type_than_its_indexed_key_fails_its_record(service: Service) -> None:
    """AgentCore answers so per record; nothing of that record is stored."""
    number = {"memsync-key": {"numberValue": 1}}

    answer = service.data.batch_create_memory_records(
        memoryId=MEMORY_ID, records=[record("bad", metadata=number), record("good")]
    )

    assert [entry["errorCode"] for entry in answer["failedRecords"]] == [400]
    assert service.stored_texts() == ["good"]


def test_a_strategy_keeps_only_metadata_of_its_schema(service: Service) -> None:
    """AgentCore drops the rest silently: the reason why memsync sets no strategy by default."""
    schema = {"metadataSchema": [{"key": "priority", "type": "STRING"}]}
    memory = service.control.create_memory(
        name="support",
        eventExpiryDuration=30,
        memoryStrategies=[{"semanticMemoryStrategy": {"name": "facts", "memoryRecordSchema": schema}}],
    )["memory"]
    both = {"priority": {"stringValue": "high"}, "team": {"stringValue": "a"}}

    service.create(
        record("text", metadata=both, memoryStrategyId=memory["strategies"][0]["strategyId"]),
        memory_id=memory["id"],
    )

    assert service.stored(memory["id"])[0].metadata == {"priority": {"stringValue": "high"}}


def test_an_empty_batch_is_valid(service: Service) -> None:
    """The model allows 0 records."""
    answer = service.data.batch_create_memory_records(memoryId=MEMORY_ID, records=[])

    assert (answer["successfulRecords"], answer["failedRecords"]) == ([], [])
