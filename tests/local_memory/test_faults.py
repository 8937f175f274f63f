"""Faults: what goes wrong when it is told to."""

from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from pipeline.local_memory import Faults

from .conftest import MEMORY_ID, Clock, Service, record

WRITE = "BatchCreateMemoryRecords"


def attempt(service: Service, text: str = "text") -> str:
    """Create one record and say how that went."""
    try:
        service.data.batch_create_memory_records(memoryId=MEMORY_ID, records=[record(text)])
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    except ConnectionClosedError:
        return "dropped"
    return "ok"


@pytest.mark.parametrize(
    ("mishap", "outcome", "stored"),
    [
        ("error_before_write", "ServiceException", []),
        ("error_after_write", "ServiceException", ["text"]),
        ("drop_before_write", "dropped", []),
        ("drop_after_write", "dropped", ["text"]),
        ("throttle", "ThrottledException", []),
    ],
)
def test_a_scripted_fault_strikes_once(service: Service, mishap: str, outcome: str, stored: list[str]) -> None:
    """Before or after the write: the client cannot tell, the memory can."""
    service.server.faults = Faults(script=(mishap,))

    first = attempt(service)
    stored_after_first = service.stored_texts()
    second = attempt(service)

    assert (first, second) == (outcome, "ok")
    assert stored_after_first == stored
    assert service.stored_texts() == [*stored, "text"]


def test_a_scripted_fault_can_wait_for_its_operation(service: Service) -> None:
    """The client under test may look before it writes."""
    service.server.faults = Faults(script=(f"{WRITE}:drop_after_write",))

    listed = service.listed_texts(namespacePath="/")

    assert listed == []
    assert attempt(service) == "dropped"


def test_a_script_can_let_requests_pass(service: Service) -> None:
    """To strike in the middle of a run."""
    service.server.faults = Faults(script=("none", "throttle", "none", "throttle"))

    outcomes = [attempt(service) for _ in range(5)]

    assert outcomes == ["ok", "ThrottledException", "ok", "ThrottledException", "ok"]


def test_requests_over_the_rate_are_throttled(service: Service, clock: Clock) -> None:
    """A bucket per operation: it starts full, and fills with time."""
    service.server.faults = Faults(requests_per_second=2, burst=3)

    at_once = [attempt(service) for _ in range(4)]
    service.listed_texts(namespacePath="/")
    clock.now += 1
    a_second_later = [attempt(service) for _ in range(3)]

    assert at_once == ["ok", "ok", "ok", "ThrottledException"]
    assert a_second_later == ["ok", "ok", "ThrottledException"]
    assert service.server.requests[WRITE, 429] == 2


def test_random_faults_follow_from_the_seed(service: Service) -> None:
    """A rehearsal can be repeated."""
    faults = Faults(seed=7, throttle=0.2, error_before_write=0.2, drop_before_write=0.2)

    runs = []
    for seed in (7, 7, 8):
        service.server.faults = replace(faults, seed=seed)
        runs.append([attempt(service) for _ in range(40)])

    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) == {"ok", "ThrottledException", "ServiceException", "dropped"}


def test_single_records_can_fail(service: Service) -> None:
    """Of updates and deletes too, with the code that was asked for; a failed record is not written."""
    ids = service.create_texts([str(number) for number in range(50)])
    service.server.faults = Faults(failed_record=0.5, failed_record_code=429)

    created = service.data.batch_create_memory_records(
        memoryId=MEMORY_ID, records=[record(f"new {number}") for number in range(50)]
    )
    updated = service.data.batch_update_memory_records(
        memoryId=MEMORY_ID, records=[{"memoryRecordId": id_, "timestamp": 1} for id_ in ids]
    )
    deleted = service.data.batch_delete_memory_records(
        memoryId=MEMORY_ID, records=[{"memoryRecordId": id_} for id_ in ids]
    )

    for answer in (created, updated, deleted):
        assert {entry["errorCode"] for entry in answer["failedRecords"]} == {429}
        assert len(answer["failedRecords"]) + len(answer["successfulRecords"]) == 50
        assert answer["successfulRecords"]
    assert len(service.stored()) == len(created["successfulRecords"]) + len(deleted["failedRecords"])


@pytest.mark.parametrize("is_named", [True, False])
def test_a_poisonous_text_refuses_its_batch(service: Service, is_named: bool) -> None:
    """With the culprit in `fieldList`, or without: then a client has to halve."""
    service.server.faults = Faults(poison_text="hemlock", poison_is_named=is_named)

    with pytest.raises(ClientError) as raised:
        service.create(record("water"), record("tea with hemlock"))

    fields: list[Any] = raised.value.response.get("fieldList", [])
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    assert [entry["name"] for entry in fields] == (["records.1.content.text"] if is_named else [])
    assert service.stored() == []


def test_a_rejected_text_fails_its_record(service: Service) -> None:
    """The rest of the batch is written."""
    service.server.faults = Faults(reject_text="bad", reject_code=422)

    answer = service.data.batch_create_memory_records(
        memoryId=MEMORY_ID, records=[record("good"), record("bad", requestIdentifier="culprit")]
    )

    (failed,) = answer["failedRecords"]
    assert (failed["requestIdentifier"], failed["errorCode"]) == ("culprit", 422)
    assert service.stored_texts() == ["good"]


def test_an_answer_can_leave_out_a_record(service: Service) -> None:
    """A record in neither list was written or not: its outcome is unknown."""
    service.server.faults = Faults(script=("omit_record",))

    answer = service.data.batch_create_memory_records(memoryId=MEMORY_ID, records=[record("a"), record("b")])

    assert len(answer["successfulRecords"]) == 1
    assert service.stored_texts() == ["a", "b"]


def test_new_records_can_be_slow_to_show(service: Service, clock: Clock) -> None:
    """AgentCore lists a record some time after Get returns it; a client must not take that for a gap."""
    service.server.faults = Faults(list_lag_s=30)
    (record_id,) = service.create(record("text"))

    at_once = service.listed_texts(namespacePath="/") + service.found_texts("text")
    service.data.get_memory_record(memoryId=MEMORY_ID, memoryRecordId=record_id)
    clock.now += 30

    assert at_once == []
    assert service.listed_texts(namespacePath="/") == service.found_texts("text") == ["text"]


def test_a_young_record_can_refuse_an_update(service: Service, clock: Clock) -> None:
    """AgentCore answers 404 for some seconds: wait and retry, and do not take the record for lost."""
    service.server.faults = Faults(update_lag_s=10)
    (record_id,) = service.create(record("text"))
    update = {"memoryId": MEMORY_ID, "records": [{"memoryRecordId": record_id, "timestamp": 1}]}

    at_once = service.data.batch_update_memory_records(**update)
    clock.now += 10
    later = service.data.batch_update_memory_records(**update)

    assert [entry["errorCode"] for entry in at_once["failedRecords"]] == [404]
    assert later["failedRecords"] == []


def test_requests_are_counted_by_operation_and_status(service: Service) -> None:
    """Tests ask how often a client called; 0 stands for a request without an answer."""
    service.server.faults = Faults(script=("none", "throttle", "drop_after_write"))

    for _ in range(3):
        attempt(service)

    assert service.server.requests == {(WRITE, 201): 1, (WRITE, 429): 1, (WRITE, 0): 1}


def test_faults_are_read_from_one_line() -> None:
    """The form of the command line."""
    faults = Faults.parse(
        "requests_per_second=5, burst=10,failed_record_code=503,poison_text=hemlock,poison_is_named=false,"
        "script=none+BatchUpdateMemoryRecords:drop_after_write"
    )

    assert faults == Faults(
        requests_per_second=5.0,
        burst=10.0,
        failed_record_code=503,
        poison_text="hemlock",
        poison_is_named=False,
        script=("none", "BatchUpdateMemoryRecords:drop_after_write"),
    )
    assert Faults.parse("") == Faults()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency=1", "Did you mean 'latency_s'"),
        ("latency_s=long", "'long' is no value for the fault 'latency_s'"),
        ("poison_is_named=perhaps", "'perhaps' is no value"),
        ("throttle=1.5", "between 0 and 1"),
        ("throttle=0.6,drop_after_write=0.6", "together at most 1"),
        ("failed_record=-1", "between 0 and 1"),
        ("script=explode", "'explode' is no fault for a script"),
        ("script=BatchCreate:throttle", "'BatchCreate' is no operation"),
        ("throttle", "'' is no value"),
    ],
)
def test_a_wrong_fault_is_explained(text: str, message: str) -> None:
    """A rehearsal with a fault that was misspelt would prove nothing."""
    with pytest.raises(ValueError, match=message):
        Faults.parse(text)
