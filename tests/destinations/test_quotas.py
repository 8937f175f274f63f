"""What Service Quotas says is what the gate holds; where it says nothing, the run goes on without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from pipeline.destinations.agentcore import AgentCoreConnection, AgentCoreDestination, open_agentcore
from pipeline.local_memory import LocalMemory
from pipeline.model import Call, Lookup, Operation
from pipeline.protocols import Turn
from tests.contract.destination import creates
from tests.destinations.front import Answer, Front, answer, drop, error
from tests.destinations.test_agentcore import MEMORY_ID, connection
from tests.pipeline.examples import gate

LISTED = [
    {"QuotaCode": "L-890C813A", "QuotaName": "BatchCreateMemoryRecords", "Value": 40.0},
    {"QuotaCode": "L-A0E37F52", "Value": 600.0, "Period": {"PeriodValue": 1, "PeriodUnit": "MINUTE"}},
    {"QuotaCode": "L-00000000", "QuotaName": "something else", "Value": 7.0},
]


@dataclass
class Listener:
    """A gate that remembers what it was told."""

    known: dict[Call, float] = field(default_factory=dict)

    def turn(self, call: Call) -> Turn:
        return gate().turn(call)

    def know(self, limits: Mapping[Call, float]) -> None:
        self.known.update(limits)


def page(quotas: Sequence[Mapping[str, Any]], token: str | None = None) -> Answer:
    body = {"Quotas": quotas, **({"NextToken": token} if token else {})}
    return answer(200, orjson.dumps(body), Content_Type="application/x-amz-json-1.1")


async def learned(monkeypatch: pytest.MonkeyPatch, *answers: Answer, **settings: Any) -> tuple[Listener, Front]:
    """What the gate knows once something was written, where Service Quotas gives `answers`."""
    listener = Listener()
    async with LocalMemory.serve(memories=[MEMORY_ID]) as server, Front.serve() as quotas:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", quotas.url)
        quotas.answers.extend(answers)
        given: AgentCoreConnection = connection(server.url, **{"asks_quotas": True, **settings})
        async with open_agentcore(given, listener) as destination:
            assert isinstance(destination, AgentCoreDestination)
            result = await destination.write(creates(destination, "first"))
            await destination.write(creates(destination, "second", token="another-token-of-thirty-three-chars"))
    assert set(result.succeeded) == {"key-of-first"}
    return listener, quotas


async def test_the_account_s_own_quotas_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """They can be raised; whoever had that done wants what he got. A little less, so that nothing is refused."""
    more = {"QuotaCode": "L-80B4FBA5", "Value": 30.0}

    listener, quotas = await learned(monkeypatch, page(LISTED, "next"), page([more]))

    assert listener.known == pytest.approx({Operation.CREATE: 38.0, Operation.UPDATE: 9.5, Lookup.LIST: 28.5})
    assert [orjson.loads(request.body).get("NextToken") for request in quotas.arrived] == [None, "next"]
    assert orjson.loads(quotas.arrived[0].body)["ServiceCode"] == "bedrock-agentcore"


@pytest.mark.parametrize(
    "an_answer",
    [
        error(403, "AccessDeniedException"),
        error(429, "TooManyRequestsException"),
        drop,
        answer(200, b"<html>"),
        page([]),
    ],
)
async def test_whoever_may_not_ask_writes_all_the_same(monkeypatch: pytest.MonkeyPatch, an_answer: Answer) -> None:
    """The permission is one that few roles have; the rate is then found by what is refused."""
    listener, quotas = await learned(monkeypatch, an_answer)

    assert listener.known == {}
    assert len(quotas.arrived) == 1


async def test_whoever_set_a_rate_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request less, and a permission."""
    listener, quotas = await learned(monkeypatch, asks_quotas=False)

    assert listener.known == {}
    assert quotas.arrived == []
