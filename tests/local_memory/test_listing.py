"""ListMemoryRecords: namespaces, pages and metadata filters."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import MEMORY_ID, Clock, Service, record

INDEXED_KEYS = {"team": "STRING", "tags": "STRINGLIST", "size": "NUMBER"}
FILTERED_ID = "filtered-0123456789"
CREATED_AT = "x-amz-agentcore-memory-createdAt"


@pytest.fixture
def tree(service: Service) -> Service:
    namespaces = ["/docs/py/", "/docs/py/asyncio/", "/docs/python/", "/docs/py", "top", "/"]
    service.create(*(record(namespace, namespaces=[namespace]) for namespace in namespaces))
    service.create(record("none", namespaces=[]))
    return service


@pytest.mark.parametrize(
    ("request_members", "found"),
    [
        ({"namespace": "/docs/py/"}, ["/docs/py/"]),
        ({"namespace": "/docs/"}, []),
        ({"namespacePath": "/docs/py/"}, ["/docs/py/", "/docs/py/asyncio/", "/docs/py"]),
        ({"namespacePath": "/docs/py"}, ["/docs/py/", "/docs/py/asyncio/", "/docs/py"]),
        ({"namespacePath": "/docs/"}, ["/docs/py/", "/docs/py/asyncio/", "/docs/python/", "/docs/py"]),
        ({"namespacePath": "top"}, ["top"]),
        (
            {"namespacePath": "/"},
            ["/docs/py/", "/docs/py/asyncio/", "/docs/python/", "/docs/py", "top", "/", "none"],
        ),
    ],
)
def test_a_namespace_is_exact_and_a_path_is_a_subtree(
    tree: Service, request_members: dict[str, str], found: list[str]
) -> None:
    """`/docs/py` is not a parent of `/docs/python/`; `/` is the parent of everything."""
    assert tree.listed_texts(**request_members) == found


def test_a_listing_can_be_limited_to_a_strategy(service: Service) -> None:
    """Extracted and synchronised records may share a namespace."""
    service.create(record("with", memoryStrategyId="facts"), record("without"))

    assert service.listed_texts(namespacePath="/", memoryStrategyId="facts") == ["with"]


def test_a_page_has_twenty_records_unless_asked_for_more(service: Service) -> None:
    """The default of the service; a client that forgets to page shows here."""
    service.create_texts([str(number) for number in range(21)])

    first = service.data.list_memory_records(memoryId=MEMORY_ID, namespacePath="/")
    second = service.data.list_memory_records(memoryId=MEMORY_ID, namespacePath="/", nextToken=first["nextToken"])

    assert [len(page["memoryRecordSummaries"]) for page in (first, second)] == [20, 1]
    assert "nextToken" not in second


def test_a_full_last_page_has_no_token(service: Service) -> None:
    """A token promises that there is more."""
    service.create_texts([str(number) for number in range(20)])

    answer = service.data.list_memory_records(memoryId=MEMORY_ID, namespacePath="/")

    assert "nextToken" not in answer


def test_all_of_several_thousand_records_are_listed_once(service: Service) -> None:
    """The paginator of botocore ends, and nothing is lost or repeated on the way."""
    texts = [f"record {number}" for number in range(3_050)]
    service.create_texts(texts)

    assert service.listed_texts(namespacePath="/", PaginationConfig={"PageSize": 100}) == texts


def test_pages_stay_right_while_records_come_and_go(service: Service) -> None:
    """A sweep of a large memory takes minutes, in which writers go on."""
    ids = service.create_texts([str(number) for number in range(100)])
    pages = service.data.get_paginator("list_memory_records").paginate(
        memoryId=MEMORY_ID, namespacePath="/", PaginationConfig={"PageSize": 10}
    )

    listed = []
    for number, page in enumerate(pages):
        listed += [summary["content"]["text"] for summary in page["memoryRecordSummaries"]]
        service.data.delete_memory_record(memoryId=MEMORY_ID, memoryRecordId=ids[number])
        if number < 5:
            service.create(record(f"new {number}"))

    assert listed == [*(str(number) for number in range(100)), *(f"new {number}" for number in range(5))]


@pytest.mark.parametrize("token", ["", "nonsense", "MSAy", "éé"])
def test_a_token_that_was_not_given_out_is_refused(service: Service, token: str) -> None:
    """A wrong token must not start the listing again from the top."""
    with pytest.raises(ClientError, match="ValidationException"):
        service.data.list_memory_records(memoryId=MEMORY_ID, namespacePath="/", nextToken=token)


def test_a_token_goes_with_its_own_question(service: Service) -> None:
    """Another namespace with this token would skip records."""
    service.create_texts([str(number) for number in range(21)])
    token = service.data.list_memory_records(memoryId=MEMORY_ID, namespacePath="/")["nextToken"]

    with pytest.raises(ClientError, match="ValidationException"):
        service.data.list_memory_records(memoryId=MEMORY_ID, namespace="/docs/", nextToken=token)


# Metadata filters


@pytest.fixture
def filtered(service: Service, clock: Clock) -> Service:
    service.create_memory(FILTERED_ID, INDEXED_KEYS)
    for text, team, tags, size in [
        ("a", "red", ["x", "y"], 1),
        ("b", "blue", ["y"], 2),
        ("c", "red", ["z"], 3.5),
    ]:
        metadata = {
            "team": {"stringValue": team},
            "tags": {"stringListValue": tags},
            "size": {"numberValue": size},
        }
        service.create(record(text, metadata=metadata), memory_id=FILTERED_ID)
        clock.now += 100
    service.create(record("d", metadata={"other": {"stringValue": "red"}}), memory_id=FILTERED_ID)
    return service


def condition(key: str, operator: str, **value: Any) -> dict[str, Any]:
    """A filter expression."""
    right = {"right": {"metadataValue": value}} if value else {}
    return {"left": {"metadataKey": key}, "operator": operator, **right}


def listed(service: Service, *filters: dict[str, Any]) -> str:
    """The texts, in one word, of the records that pass all filters."""
    answer = service.data.list_memory_records(memoryId=FILTERED_ID, namespacePath="/", metadataFilters=list(filters))
    return "".join(summary["content"]["text"] for summary in answer["memoryRecordSummaries"])


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        (condition("team", "EQUALS_TO", stringValue="red"), "ac"),
        (condition("team", "EQUALS_TO", stringValue="Red"), ""),
        (condition("size", "EQUALS_TO", numberValue=2), "b"),
        (condition("tags", "CONTAINS", stringValue="y"), "ab"),
        (condition("team", "EXISTS"), "abc"),
        (condition("team", "NOT_EXISTS"), "d"),
        (condition("tags", "EXISTS"), "abc"),
        (condition("size", "GREATER_THAN", numberValue=2), "c"),
        (condition("size", "GREATER_THAN_OR_EQUALS", numberValue=2), "bc"),
        (condition("size", "LESS_THAN", numberValue=2), "a"),
        (condition("size", "LESS_THAN_OR_EQUALS", numberValue=2), "ab"),
        (condition("x-amz-agentcore-memory-recordType", "EQUALS_TO", stringValue="BASE"), "abcd"),
        (condition("x-amz-agentcore-memory-recordType", "EQUALS_TO", stringValue="REFLECTION"), ""),
        (condition(CREATED_AT, "EXISTS"), "abcd"),
        (condition(CREATED_AT, "NOT_EXISTS"), ""),
    ],
)
def test_every_operator_means_what_the_guide_says(filtered: Service, expression: dict[str, Any], found: str) -> None:
    """AgentCore's table of supported operators, row by row."""
    assert listed(filtered, expression) == found


@pytest.mark.parametrize(("operator", "found"), [("BEFORE", "a"), ("AFTER", "cd")])
def test_records_can_be_filtered_by_age(filtered: Service, clock: Clock, operator: str, found: str) -> None:
    """The times of the service need no declaration; both bounds are exclusive."""
    second = datetime.fromtimestamp(clock.now - 200, UTC)

    assert listed(filtered, condition(CREATED_AT, operator, dateTimeValue=second)) == found


def test_filters_are_joined_by_and(filtered: Service) -> None:
    """Up to five of them."""
    red = condition("team", "EQUALS_TO", stringValue="red")

    assert listed(filtered, red, condition("size", "GREATER_THAN", numberValue=2)) == "c"
    with pytest.raises(ClientError, match="ValidationException"):
        listed(filtered, *[red] * 6)


def test_a_search_takes_the_same_filters(filtered: Service) -> None:
    """There they stand inside searchCriteria."""
    criteria = {
        "searchQuery": "a b c",
        "metadataFilters": [condition("team", "EQUALS_TO", stringValue="red")],
    }

    assert sorted(filtered.found_texts("", memoryId=FILTERED_ID, searchCriteria=criteria)) == ["a", "c"]


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        (condition("other", "EQUALS_TO", stringValue="red"), "metadataFilters.0.left.metadataKey"),
        (condition("other", "NOT_EXISTS"), "metadataFilters.0.left.metadataKey"),
        (condition("team", "CONTAINS", stringValue="e"), "metadataFilters.0.operator"),
        (condition("team", "GREATER_THAN", stringValue="a"), "metadataFilters.0.operator"),
        (condition("tags", "EQUALS_TO", stringListValue=["y"]), "metadataFilters.0.operator"),
        (condition("size", "BEFORE", numberValue=1), "metadataFilters.0.operator"),
        (condition("size", "EQUALS_TO", stringValue="2"), "metadataFilters.0.right"),
        (condition("team", "EQUALS_TO"), "metadataFilters.0.right"),
        (condition("team", "EXISTS", stringValue="red"), "metadataFilters.0.right"),
        (condition(CREATED_AT, "AFTER", stringValue="2026"), "metadataFilters.0.right"),
    ],
)
def test_a_filter_that_cannot_work_is_refused(filtered: Service, expression: dict[str, Any], field: str) -> None:
    """An undeclared key or a wrong type would otherwise find nothing, and look like an empty memory."""
    with pytest.raises(ClientError) as raised:
        listed(filtered, expression)

    assert [entry["name"] for entry in raised.value.response["fieldList"]] == [field]


def test_a_number_may_be_of_any_size(filtered: Service) -> None:
    """JSON's numbers end later than SQLite's integers."""
    huge = 2**64 - 1
    filtered.create(record("e", metadata={"size": {"numberValue": huge}}), memory_id=FILTERED_ID)

    assert listed(filtered, condition("size", "GREATER_THAN_OR_EQUALS", numberValue=huge)) == "e"


def test_a_filter_sees_the_updated_value(filtered: Service) -> None:
    """The index follows the record."""
    record_id = filtered.stored(FILTERED_ID)[0].record_id

    filtered.data.batch_update_memory_records(
        memoryId=FILTERED_ID,
        records=[{"memoryRecordId": record_id, "timestamp": 1, "metadata": {"team": {"stringValue": "green"}}}],
    )

    assert listed(filtered, condition("team", "EQUALS_TO", stringValue="green")) == "a"
    assert listed(filtered, condition("team", "EQUALS_TO", stringValue="red")) == "c"
    assert listed(filtered, condition("tags", "CONTAINS", stringValue="x")) == ""


def test_provenance_can_be_filtered_on_by_default(service: Service) -> None:
    """After a lost answer memsync finds its own records by key."""
    service.create(record("text", metadata={"memsync-key": {"stringValue": "k1"}}), record("other"))

    found = service.listed_texts(
        namespacePath="/", metadataFilters=[condition("memsync-key", "EQUALS_TO", stringValue="k1")]
    )

    assert found == ["text"]
