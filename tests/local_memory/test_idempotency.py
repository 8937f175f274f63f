"""Client tokens: a lost answer must not create anything twice."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.local_memory import Faults

from .conftest import MEMORY_ID, Clock, Service, record, serve


def batch(service: Service, *texts: str, client_token: str = "token-1") -> Any:
    """Create records under a token and return the answer without HTTP's part of it."""
    answer = service.data.batch_create_memory_records(
        memoryId=MEMORY_ID, clientToken=client_token, records=[record(text) for text in texts]
    )
    return {key: answer[key] for key in ("successfulRecords", "failedRecords")}


def test_the_same_request_gets_the_first_answer_again(service: Service) -> None:
    """With the same record ids, and nothing is written twice."""
    first = batch(service, "a", "b")

    again = batch(service, "a", "b")

    assert again == first
    assert service.stored_texts() == ["a", "b"]


def test_a_token_with_another_request_is_a_mismatch(service: Service) -> None:
    """It is a ValidationException with a reason of its own: the client's bug, not the record's."""
    batch(service, "a")

    with pytest.raises(ClientError) as raised:
        batch(service, "b")

    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert raised.value.response["reason"] == "IdempotentParameterMismatchException"
    assert service.stored_texts() == ["a"]


def test_another_token_is_another_delivery(service: Service) -> None:
    """The same records under a new token are created again."""
    batch(service, "a", client_token="token-1")

    batch(service, "a", client_token="token-2")

    assert service.stored_texts() == ["a", "a"]


def test_a_token_belongs_to_its_memory(service: Service) -> None:
    """Two memories may be written with the same token."""
    service.create_memory("other-0123456789", {})
    batch(service, "a")

    service.create(record("b"), memory_id="other-0123456789", clientToken="token-1")

    assert service.stored_texts() == ["a"]


def test_a_token_is_forgotten_with_its_memory(service: Service) -> None:
    """A memory that was deleted is unknown, whatever the token, and a new one of its id starts empty."""
    batch(service, "a")

    service.control.delete_memory(memoryId=MEMORY_ID)

    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        batch(service, "a")
    service.create_memory(MEMORY_ID, {})
    batch(service, "a")
    assert service.stored_texts() == ["a"]


def test_a_token_is_forgotten_in_the_end(service: Service, clock: Clock) -> None:
    """After the time the service remembers, the same request writes again: a client must look first."""
    batch(service, "a")
    clock.now += 8 * 3600 + 1

    batch(service, "a")

    assert service.stored_texts() == ["a", "a"]


def test_a_token_outlives_the_server(tmp_path: Path) -> None:
    """A restart of the server between two attempts is nothing special."""
    data = tmp_path / "memory.db"
    with serve(data=data) as service:
        first = batch(service, "a")

    with serve(data=data) as service:
        again = batch(service, "a")

        assert again == first
        assert service.stored_texts() == ["a"]


def test_a_failed_record_fails_again(service: Service) -> None:
    """The first answer is repeated as it was; to try the record again takes a new token."""
    service.server.faults = Faults(reject_text="bad")
    first = batch(service, "good", "bad")
    service.server.faults = Faults()

    again = batch(service, "good", "bad")

    assert again == first
    assert service.stored_texts() == ["good"]


def test_a_refused_request_does_not_use_up_its_token(service: Service) -> None:
    """Nothing was stored, so nothing is remembered."""
    service.server.faults = Faults(poison_text="bad")
    with pytest.raises(ClientError, match="ValidationException"):
        batch(service, "bad")
    service.server.faults = Faults()

    batch(service, "other")

    assert service.stored_texts() == ["other"]


def test_a_memory_is_created_once_per_token(service: Service) -> None:
    """CreateMemory has a token too."""
    request = {"name": "support", "eventExpiryDuration": 30, "clientToken": "t" * 36}

    first = service.control.create_memory(**request)["memory"]
    again = service.control.create_memory(**request)["memory"]

    assert again == first
