"""RetrieveMemoryRecords: ranked search in any script, from any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.local_memory.search import match_expression, searchable
from pipeline.local_memory.store import Selection, Store

from .conftest import MEMORY_ID, Service, record


def test_the_better_match_comes_first(service: Service) -> None:
    """Scores are between 0 and 1, higher is better, and the rarer word counts more."""
    service.create_texts(
        [
            "Expenses are paid back within thirty days.",
            "Parental leave is sixteen weeks. Leave is requested in the portal.",
            "The portal also shows the payroll.",
            *(f"Filler about the portal, number {number}." for number in range(10)),
        ]
    )

    answer = service.data.retrieve_memory_records(
        memoryId=MEMORY_ID,
        namespacePath="/",
        searchCriteria={"searchQuery": "How long is parental leave, says the portal?"},
    )["memoryRecordSummaries"]

    scores = [summary["score"] for summary in answer]
    assert answer[0]["content"]["text"].startswith("Parental leave")
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The server synchronises documents.", "synchronising a document"),
        ("Le café est fermé.", "cafe"),
        ("東京都の天気は晴れです。", "東京"),
        ("東京都の天気は晴れです。", "天気予報"),
        ("请假需要提前三天申请。", "请假申请"),
        ("人", "人"),
        ("휴가는 포털에서 신청합니다.", "휴가 신청"),
        ("การลาพักร้อนต้องแจ้งล่วงหน้า", "ลาพัก"),
        ("Отпуск согласуется заранее.", "отпуск"),
        ("See the MEMSYNC_DESTINATION__REGION variable.", "memsync_destination__region"),
        ("Version 3.11 or later", "3.11"),
        ("Mixed 日本語 and English", "English 日本語"),
    ],
)
def test_text_is_found_in_any_script(service: Service, text: str, query: str) -> None:
    """Spaces between words are a habit of some scripts only."""
    service.create(record(text), record("Nothing of the kind: 无关, 無関係."))

    assert service.found_texts(query)[0] == text


def test_neighbouring_characters_must_be_neighbours(service: Service) -> None:
    """京都 is a city, and 東京都 holds its characters too; a text with them apart is neither."""
    service.create(record("京の都"), record("京都"))

    assert service.found_texts("京都") == ["京都"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "'",
        '""',
        "a OR",
        "NOT",
        "AND (",
        "text:",
        "te*xt",
        "^text",
        "NEAR(a b)",
        "-text",
        "a\x00b",
        "🙂",
        "%",
        "{",
        "\\",
    ],
)
def test_a_query_is_text_and_not_syntax(service: Service, query: str) -> None:
    """What a user types must never be an error."""
    service.create(record("text"))

    assert service.found_texts(query) in ([], ["text"])


@given(st.text(min_size=1, max_size=200), st.text(max_size=200))
def test_no_query_and_no_text_breaks_the_search(query: str, text: str) -> None:
    """The same for whatever Unicode has to offer."""
    store = Store(None)
    store._connection.execute("INSERT INTO words (searchable) VALUES (?)", (searchable(text),))

    expression = match_expression(query)

    if expression is not None:
        store.search(expression, Selection("1", ()), skip=0, limit=1)
    store.close()


def test_the_longest_query_works(service: Service) -> None:
    """10,000 characters are allowed, which may be five thousand words."""
    service.create(record("word17"))
    query = " ".join(f"word{number}" for number in range(1_200))

    assert service.found_texts(query[:10_000]) == ["word17"]


def test_a_search_stays_in_its_namespace_and_strategy(service: Service) -> None:
    """Namespaces keep tenants apart."""
    service.create(
        record("word a", namespaces=["/a/"]),
        record("word b", namespaces=["/b/"]),
        record("word c", namespaces=["/b/c/"], memoryStrategyId="facts"),
    )
    criteria = {"searchQuery": "word", "memoryStrategyId": "facts"}

    assert service.found_texts("word", namespacePath="/b/") == ["word b", "word c"]
    assert service.found_texts("", searchCriteria=criteria) == ["word c"]
    exact = service.data.retrieve_memory_records(
        memoryId=MEMORY_ID, namespace="/b/", searchCriteria={"searchQuery": "word"}
    )
    assert [summary["content"]["text"] for summary in exact["memoryRecordSummaries"]] == ["word b"]


def test_top_k_limits_all_pages_together(service: Service) -> None:
    """topK is how many records count; maxResults is how many come at once."""
    service.create_texts([f"word {number}" for number in range(50)])
    criteria = {"searchQuery": "word", "topK": 25}

    pages = list(
        service.data.get_paginator("retrieve_memory_records").paginate(
            memoryId=MEMORY_ID, namespacePath="/", searchCriteria=criteria, PaginationConfig={"PageSize": 10}
        )
    )

    ids = [summary["memoryRecordId"] for page in pages for summary in page["memoryRecordSummaries"]]
    assert [len(page["memoryRecordSummaries"]) for page in pages] == [10, 10, 5]
    assert len(set(ids)) == 25
