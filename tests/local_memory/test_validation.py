"""What is refused, and how: the shape of every error."""

import http.client
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from botocore.exceptions import ClientError

from pipeline.local_memory import Faults
from pipeline.local_memory.api import JSON_TYPES, load_api

from .conftest import MEMORY_ID, Service, record, serve

RECORD_ID = "mem-00000000-0000-0000-0000-000000000000"
LONG_METADATA = {str(number): {"stringValue": "x"} for number in range(21)}


def refusal(call: Any, **request: Any) -> dict[str, Any]:
    """The error answer of a call."""
    with pytest.raises(ClientError) as raised:
        call(**request)
    return dict(raised.value.response)


def post(url: str, path: str, body: bytes, method: str = "POST") -> tuple[int, str | None, dict[str, Any]]:
    """Send a request that no AWS client would; returns status, error type and body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.headers["x-amzn-errortype"], orjson.loads(response.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"content": {"text": "x" * 16_001}}, "records.1.content.text"),
        ({"requestIdentifier": "a.b"}, "records.1.requestIdentifier"),
        ({"requestIdentifier": "x" * 81}, "records.1.requestIdentifier"),
        ({"namespaces": ["/a/", "/b/"]}, "records.1.namespaces"),
        ({"namespaces": ["/a b/"]}, "records.1.namespaces.0"),
        ({"metadata": {}}, "records.1.metadata"),
        ({"metadata": LONG_METADATA}, "records.1.metadata"),
        ({"metadata": {"k": {"stringValue": "a?b"}}}, "records.1.metadata.k.stringValue"),
        ({"metadata": {"k": {"stringValue": "é"}}}, "records.1.metadata.k.stringValue"),
        ({"metadata": {"k": {"stringListValue": list("abcdef")}}}, "records.1.metadata.k.stringListValue"),
        ({"metadata": {"k": {"stringListValue": ["x" * 65]}}}, "records.1.metadata.k.stringListValue.0"),
        ({"metadata": {"é": {"stringValue": "a"}}}, "records.1.metadata.é"),
        ({"metadata": {"k": {"dateTimeValue": 1}}}, "records.1.metadata.k"),
        (
            {"metadata": {"x-amz-agentcore-memory-createdAt": {"stringValue": "a"}}},
            "records.1.metadata.x-amz-agentcore-memory-createdAt",
        ),
        ({"memoryStrategyId": "-"}, "records.1.memoryStrategyId"),
    ],
)
def test_a_record_that_breaks_a_constraint_refuses_the_whole_batch(
    service: Service, members: dict[str, Any], field: str
) -> None:
    """One bad record costs a hundred; `fieldList` is how a client finds it."""
    error = refusal(
        service.data.batch_create_memory_records,
        memoryId=MEMORY_ID,
        records=[record("good"), record("bad") | members],
    )

    assert error["Error"]["Code"] == "ValidationException"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert error["reason"] == "FieldValidationFailed"
    assert [entry["name"] for entry in error["fieldList"]] == [field]
    assert service.stored() == []


def test_every_broken_constraint_is_named(service: Service) -> None:
    """Whoever drops only the first culprit would be refused again."""
    bad = record("x" * 16_001)

    error = refusal(service.data.batch_create_memory_records, memoryId=MEMORY_ID, records=[bad] * 101)

    names = [entry["name"] for entry in error["fieldList"]]
    assert names == ["records", *(f"records.{index}.content.text" for index in range(101))]
    assert error["message"].startswith("102 validation errors detected: Value at 'records'")


def test_a_refusal_does_not_repeat_the_text(service: Service) -> None:
    """Messages end up in logs, and document text must not."""
    error = refusal(
        service.data.batch_create_memory_records,
        memoryId=MEMORY_ID,
        records=[record("secret" * 3_000, requestIdentifier="secret!")],
    )

    assert "secret" not in str(error)


def test_lengths_are_counted_in_characters(service: Service) -> None:
    """The model counts characters, not bytes and not UTF-16 units."""
    service.create(record("\U0001f600" * 16_000))

    assert [len(text) for text in service.stored_texts()] == [16_000]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "records"),
        (b'{"records": null}', "records"),
        (b'{"records": {}}', "records"),
        (b'{"records": [null]}', "records.0"),
        (b'{"records": [{"memoryRecordId": "mem-1", "timestamp": 1}]}', "records.0.memoryRecordId"),
        (b'{"records": [], "recordExpirySpecification": {}}', "recordExpirySpecification"),
        (
            b'{"records":[],"recordExpirySpecification":{"action":"REMOVE","recordExpiryDurationDays":40}}',
            "recordExpirySpecification",
        ),
        (
            b'{"records": [], "recordExpirySpecification": {"recordExpiryDurationDays": 30}}',
            "recordExpirySpecification.recordExpiryDurationDays",
        ),
        (
            b'{"records": [], "recordExpirySpecification": {"recordExpiryDurationDays": true}}',
            "recordExpirySpecification.recordExpiryDurationDays",
        ),
        (
            b'{"records": [], "recordExpirySpecification": {"action": "DROP"}}',
            "recordExpirySpecification.action",
        ),
    ],
)
def test_required_members_types_unions_and_enums_are_checked(service: Service, body: bytes, field: str) -> None:
    """What botocore checks itself, another client may not."""
    status, error_type, answer = post(service.server.url, f"/memories/{MEMORY_ID}/memoryRecords/batchUpdate", body)

    assert (status, error_type) == (400, "ValidationException")
    assert [entry["name"] for entry in answer["fieldList"]] == [field]


def test_a_member_that_the_model_does_not_know_is_passed_over(service: Service) -> None:
    """A newer client must not fail on what it sends in addition."""
    status, _, _ = post(
        service.server.url, f"/memories/{MEMORY_ID}/memoryRecords", b'{"namespacePath": "/", "novelty": 1}'
    )

    assert status == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b'{"records": [NaN]}', b'{"a": "\\ud800"}', b"\xff"])
def test_a_body_that_cannot_be_parsed_is_refused(service: Service, body: bytes) -> None:
    """The reason tells a client that no record is to blame."""
    status, error_type, answer = post(service.server.url, f"/memories/{MEMORY_ID}/memoryRecords/batchCreate", body)

    assert (status, error_type, answer["reason"]) == (400, "ValidationException", "CannotParse")


@pytest.mark.parametrize(
    ("operation", "request_members"),
    [
        ("batch_create_memory_records", {"records": []}),
        ("batch_update_memory_records", {"records": []}),
        ("batch_delete_memory_records", {"records": []}),
        ("list_memory_records", {"namespacePath": "/"}),
        ("retrieve_memory_records", {"namespacePath": "/", "searchCriteria": {"searchQuery": "a"}}),
        ("get_memory_record", {"memoryRecordId": RECORD_ID}),
        ("delete_memory_record", {"memoryRecordId": RECORD_ID}),
    ],
)
def test_an_unknown_memory_is_not_found(service: Service, operation: str, request_members: dict[str, Any]) -> None:
    """A wrong id is a matter of configuration and must be told apart from a bad record."""
    error = refusal(getattr(service.data, operation), memoryId="unknown-0123456789", **request_members)

    assert error["Error"]["Code"] == "ResourceNotFoundException"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_a_malformed_memory_id_is_invalid_not_unknown(service: Service) -> None:
    """The id is a member of the request like any other."""
    error = refusal(service.data.list_memory_records, memoryId="not-a-memory-id", namespacePath="/")

    assert error["Error"]["Code"] == "ValidationException"
    assert [entry["name"] for entry in error["fieldList"]] == ["memoryId"]


def test_a_memory_can_be_named_by_its_arn(service: Service) -> None:
    """The model allows either in the same place."""
    arn = f"arn:aws:bedrock-agentcore:us-east-1:123456789012:memory/{MEMORY_ID}"

    service.create(record("text"), memory_id=arn)

    assert service.stored_texts() == ["text"]


@pytest.mark.parametrize("namespaces", [{}, {"namespace": "/a/", "namespacePath": "/"}])
def test_a_listing_needs_exactly_one_namespace(service: Service, namespaces: dict[str, str]) -> None:
    """AgentCore requires one of the two; what it makes of both is not known, so both are refused."""
    error = refusal(service.data.list_memory_records, memoryId=MEMORY_ID, **namespaces)

    assert error["Error"]["Code"] == "ValidationException"


def test_remove_does_not_apply_to_new_records(service: Service) -> None:
    """The model says so of recordExpirySpecification."""
    error = refusal(
        service.data.batch_create_memory_records,
        memoryId=MEMORY_ID,
        records=[],
        recordExpirySpecification={"action": "REMOVE"},
    )

    assert [entry["name"] for entry in error["fieldList"]] == ["recordExpirySpecification.action"]


def test_an_operation_that_is_not_offered_says_so(service: Service) -> None:
    """Events are not emulated; silence would look like success."""
    error = refusal(service.data.list_events, memoryId=MEMORY_ID, actorId="a", sessionId="b")

    assert error["Error"]["Code"] == "UnknownOperationException"
    assert service.server.requests["UnknownOperation", 404] == 1


def test_a_body_over_the_limit_is_refused() -> None:
    """A client must cope with a limit on bytes, wherever AWS has put it."""
    with serve(body_bytes_max=1_000) as service:
        error = refusal(service.data.batch_create_memory_records, memoryId=MEMORY_ID, records=[record("x" * 2_000)])

        assert error["ResponseMetadata"]["HTTPStatusCode"] == 413
        assert service.stored() == []


@pytest.mark.parametrize(
    ("mishap", "status", "code"),
    [
        ("throttle", 429, "ThrottledException"),
        ("error_before_write", 500, "ServiceException"),
        ("quota_exceeded", 402, "ServiceQuotaExceededException"),
        ("access_denied", 403, "AccessDeniedException"),
    ],
)
def test_the_other_errors_of_the_service_can_be_played(service: Service, mishap: str, status: int, code: str) -> None:
    """Every error in the model can be met before AWS sends it."""
    service.server.faults = Faults(script=(mishap,))

    error = refusal(service.data.batch_create_memory_records, memoryId=MEMORY_ID, records=[record("text")])

    assert error["Error"]["Code"] == code
    assert error["ResponseMetadata"]["HTTPStatusCode"] == status
    assert service.stored() == []


def test_every_constraint_of_the_model_is_understood() -> None:
    """A newer botocore must not bring a type or a pattern (they are written for Java) that is passed over."""
    api = load_api()
    paths = ["/memories/a/memoryRecords/batchCreate", "/memories/a/memoryRecords", "/memories/create"]
    calls = [api.find("POST", path) for path in paths]

    shapes = [shape for call in calls if call for shape in shapes_below(call.operation.input_shape)]

    assert {shape.name for shape in shapes} >= {"MemoryRecordCreateInput", "SemanticMemoryStrategyInput"}
    assert {shape.type_name for shape in shapes} <= JSON_TYPES.keys()
    for pattern in {shape.metadata["pattern"] for shape in shapes if "pattern" in shape.metadata}:
        re.compile(pattern, re.ASCII)


def shapes_below(shape: Any) -> Iterator[Any]:
    """A shape of the model and all that it is made of."""
    yield shape
    match shape.type_name:
        case "structure":
            parts = list(shape.members.values())
        case "list":
            parts = [shape.member]
        case "map":
            parts = [shape.key, shape.value]
        case _:
            parts = []
    for part in parts:
        yield from shapes_below(part)
