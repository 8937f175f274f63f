"""What a service says of a request goes into logs; what it repeats of the documents must not."""

import time

import orjson
import pytest

from pipeline.destinations.agentcore import from_client_error, read_answer
from pipeline.destinations.echoes import without_echoes
from pipeline.model import Batch, ClientToken, DocumentId, Entry, Operation, RecordKey

TEXT = 'The kumquat "ripens" in winter.\nIts skin is sweet, its flesh is sour.'
SENT = orjson.dumps(
    [
        {
            "requestIdentifier": "key-of-a",
            "namespaces": ["/docs/handbook/"],
            "content": {"text": TEXT},
            "metadata": {
                "author": {"stringValue": "Ada"},
                "team": {"stringValue": "citrus"},
                "memsync-document": {"stringValue": "guide/kumquats-in-winter.md"},
            },
        }
    ]
)
ECHOES = {
    "the whole text": TEXT,
    "as JSON": orjson.dumps(TEXT).decode(),
    "its beginning": f"{TEXT[:25]}...",
    "its middle": f"...{TEXT[25:60]}...",
    "a short value of its metadata": "citrus",
    "a value as AWS quotes it": "Value 'kumquat' at 'records.1.member.content' failed",
    "twice": f"{TEXT} and {TEXT}",
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_no_message_repeats_a_document(echo: str) -> None:
    """Validation errors of many services quote what they complain about."""
    message = f"the record is not valid: {echo}; see the guide"
    batch = Batch(
        ClientToken("token"),
        Operation.CREATE,
        (Entry(RecordKey("key-of-a"), DocumentId("a"), "/", "d", 1.0),),
        SENT,
        0.0,
    )
    outcome = {"requestIdentifier": "key-of-a", "status": "FAILED", "errorCode": 400, "errorMessage": message}
    refusal = {
        "Error": {"Code": "ValidationException", "Message": message},
        "fieldList": [{"name": "records.0.content", "message": message}],
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }

    failed = read_answer(batch, {"successfulRecords": [], "failedRecords": [outcome]}).failed[0].message
    refused = from_client_error(type("E", (Exception,), {"response": refusal})(), "the call", SENT)
    told = [failed, str(refused), *getattr(refused, "culprits", {}).values()]

    assert len(told) == 3
    for said in told:
        assert "the record is not valid: " in said
        assert not any(word in said for word in ("kumquat", "ripens", "winter", "skin", "flesh", "citrus"))


def test_the_words_of_the_service_stay() -> None:
    """Without them nobody could tell what to do."""
    message = "1 validation error: 'requestIdentifier' of records.0 in /docs/handbook/ must match [a-z]+ for author"

    assert without_echoes(message, SENT) == message
    assert without_echoes(message, b"") == message


def test_a_long_message_on_a_large_request_costs_little() -> None:
    """A refusal comes with up to a hundred messages, and a hostile service chooses their length."""
    text = "".join(chr(0x4E00 + number % 20_000) for number in range(16_000))
    sent = orjson.dumps([{"content": {"text": text}}] * 100)
    before = time.process_time()

    for position in range(100):
        without_echoes("words " * 100_000, sent, position)
    without_echoes("words " * 100_000, sent)

    assert time.process_time() - before < 10
