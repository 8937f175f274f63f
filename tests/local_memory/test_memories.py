"""The control plane, and memories that need not be created."""

import re

import pytest
from botocore.exceptions import ClientError

from .conftest import MEMORY_ID, Clock, Service, record, serve


def test_a_created_memory_is_active_at_once(service: Service) -> None:
    """Its id is the name and ten characters, and it can be written to without waiting."""
    indexed_keys = [{"key": "team", "type": "STRING"}]

    created = service.control.create_memory(
        name="support", description="Tickets", eventExpiryDuration=30, indexedKeys=indexed_keys
    )
    memory = service.control.get_memory(memoryId=created["memory"]["id"])["memory"]

    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert created["memory"] == memory
    assert re.fullmatch(r"support-[a-zA-Z0-9]{10}", memory["id"])
    assert memory["arn"].endswith(f":memory/{memory['id']}")
    assert (memory["status"], memory["description"], memory["eventExpiryDuration"]) == (
        "ACTIVE",
        "Tickets",
        30,
    )
    assert memory["indexedKeys"] == indexed_keys
    service.create(record("text"), memory_id=memory["id"])


def test_strategies_come_back_with_an_id(service: Service) -> None:
    """A client finds the id of a strategy, and what its schema keeps, in GetMemory."""
    schema = {"metadataSchema": [{"key": "priority", "type": "STRING"}]}

    (strategy,) = service.control.create_memory(
        name="support",
        eventExpiryDuration=30,
        memoryStrategies=[
            {
                "semanticMemoryStrategy": {
                    "name": "facts",
                    "namespaceTemplates": ["/facts/{actorId}"],
                    "memoryRecordSchema": schema,
                    "recordExpirySpecification": {"recordExpiryDurationDays": 90},
                }
            }
        ],
    )["memory"]["strategies"]

    assert re.fullmatch(r"facts-[a-zA-Z0-9]{10}", strategy["strategyId"])
    assert (strategy["name"], strategy["type"], strategy["status"]) == ("facts", "SEMANTIC", "ACTIVE")
    assert strategy["namespaces"] == strategy["namespaceTemplates"] == ["/facts/{actorId}"]
    assert strategy["memoryRecordSchema"] == schema
    assert strategy["recordExpiryDurationDays"] == 90


def test_a_name_is_taken_once(service: Service) -> None:
    """AgentCore answers "already exists", which its own SDK looks for."""
    service.control.create_memory(name="support", eventExpiryDuration=30)

    with pytest.raises(ClientError, match="already exists") as raised:
        service.control.create_memory(name="support", eventExpiryDuration=30)

    assert raised.value.response["Error"]["Code"] == "ValidationException"


def test_memories_are_listed_in_pages(service: Service) -> None:
    """ListMemories, with botocore's paginator."""
    for name in ("a", "b", "c"):
        service.control.create_memory(name=name, eventExpiryDuration=30)

    pages = service.control.get_paginator("list_memories").paginate(PaginationConfig={"PageSize": 3})
    ids = [[memory["id"] for memory in page["memories"]] for page in pages]

    assert [[memory_id.partition("-")[0] for memory_id in page] for page in ids] == [
        ["a", "b", "c"],
        ["handbook"],
    ]


def test_a_deleted_memory_takes_its_records_along(service: Service) -> None:
    """A memory of the same id starts empty, also for the search."""
    service.create(record("text", metadata={"memsync-key": {"stringValue": "k"}}))

    answer = service.control.delete_memory(memoryId=MEMORY_ID)

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (answer["memoryId"], answer["status"]) == (MEMORY_ID, "DELETING")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        service.control.get_memory(memoryId=MEMORY_ID)
    service.create_memory(MEMORY_ID, {})
    assert service.stored() == []
    assert service.found_texts("text") == []


def test_an_unknown_memory_is_not_found_by_the_control_plane(service: Service) -> None:
    """A check before a run must see a wrong id."""
    for operation in (service.control.get_memory, service.control.delete_memory):
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            operation(memoryId="unknown-0123456789")


def test_a_request_to_the_control_plane_is_validated(service: Service) -> None:
    """By the model of that service, which has other limits."""
    with pytest.raises(ClientError) as raised:
        service.control.create_memory(name="no-dashes", eventExpiryDuration=366)

    assert {entry["name"] for entry in raised.value.response["fieldList"]} == {"name", "eventExpiryDuration"}


def test_the_first_memory_that_is_asked_for_is_adopted(clock: Clock) -> None:
    """`memsync local` need not be told the id that a configuration names; a second id is a mistake."""
    with serve(clock=clock, memories=[], adopt_first=True) as service:
        service.create(record("text"))

        assert service.stored_texts() == ["text"]
        assert service.control.get_memory(memoryId=MEMORY_ID)["memory"]["name"] == "handbook"
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            service.create(record("text"), memory_id="another-0123456789")


def test_nothing_is_adopted_unless_asked() -> None:
    """Without `adopt_first` a memory must exist, as on AWS."""
    with serve(memories=[]) as service, pytest.raises(ClientError, match="ResourceNotFoundException"):
        service.create(record("text"))


def test_indexed_keys_can_be_added_and_index_what_comes_then(service: Service, clock: Clock) -> None:
    """As in AWS: what was there before is not found by them, and the time of the change tells a client since when."""
    memory_id = service.control.create_memory(name="support", eventExpiryDuration=30)["memory"]["id"]
    before = service.control.get_memory(memoryId=memory_id)["memory"]
    service.create(record("old", metadata={"team": {"stringValue": "red"}}), memory_id=memory_id)
    clock.now += 60

    answer = service.control.update_memory(memoryId=memory_id, addIndexedKeys=[{"key": "team", "type": "STRING"}])
    service.create(record("new", metadata={"team": {"stringValue": "red"}}), memory_id=memory_id)

    after = service.control.get_memory(memoryId=memory_id)["memory"]
    assert answer["memory"] == after
    assert after["indexedKeys"] == [{"key": "team", "type": "STRING"}]
    assert after["updatedAt"] > before["updatedAt"] == before["createdAt"] == after["createdAt"]
    is_red = {
        "left": {"metadataKey": "team"},
        "operator": "EQUALS_TO",
        "right": {"metadataValue": {"stringValue": "red"}},
    }
    found = service.data.list_memory_records(memoryId=memory_id, namespacePath="/", metadataFilters=[is_red])
    assert [summary["content"]["text"] for summary in found["memoryRecordSummaries"]] == ["new"]


@pytest.mark.parametrize(
    "change",
    [
        {"addIndexedKeys": [{"key": "memsync-key", "type": "STRING"}]},
        {"addIndexedKeys": [{"key": f"key-{number}", "type": "STRING"} for number in range(8)]},
        {"description": "Tickets"},
    ],
    ids=["a key that there is", "more than ten", "something else"],
)
def test_what_cannot_be_changed_is_refused(service: Service, change: dict[str, object]) -> None:
    """A rehearsal that passes although nothing was done would only fail in AWS."""
    with pytest.raises(ClientError) as caught:
        service.control.update_memory(memoryId=MEMORY_ID, **change)

    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert len(service.control.get_memory(memoryId=MEMORY_ID)["memory"]["indexedKeys"]) == 3
