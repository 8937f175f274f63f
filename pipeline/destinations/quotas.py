"""How many requests a second AWS allows for each operation, as Service Quotas says: per account and region."""

from typing import Any

from pipeline.model import Call, Lookup, Operation

SERVICE = "service-quotas"
OF_SERVICE = "bedrock-agentcore"
# The codes are from the AgentCore quotas page. RetrieveMemoryRecords has none there.
CALL_BY_CODE: dict[str, Call] = {
    "L-890C813A": Operation.CREATE,
    "L-A0E37F52": Operation.UPDATE,
    "L-801A491D": Operation.DELETE,
    "L-80B4FBA5": Lookup.LIST,
    "L-5F98329B": Lookup.GET,
}
PAGES_MAX = 20  # of 100 quotas each
_SECONDS = {"MILLISECOND": 0.001, "SECOND": 1.0, "MINUTE": 60.0, "HOUR": 3600.0, "DAY": 86400.0}


async def read_quotas(client: Any) -> dict[Call, float]:
    """The quotas that `client`, of Service Quotas, shows: requests per second, above 0. Others are left out."""
    quotas: dict[Call, float] = {}
    token: dict[str, str] = {}
    for _ in range(PAGES_MAX):
        page = await client.list_service_quotas(ServiceCode=OF_SERVICE, MaxResults=100, **token)
        for quota in page["Quotas"]:
            period = quota.get("Period", {})
            seconds = period.get("PeriodValue", 1) * _SECONDS.get(period.get("PeriodUnit", "SECOND"), 0.0)
            call = CALL_BY_CODE.get(quota.get("QuotaCode"))
            if call is not None and seconds > 0 and quota["Value"] > 0:
                quotas[call] = quota["Value"] / seconds
        if not page.get("NextToken"):
            break
        token = {"NextToken": page["NextToken"]}
    return quotas
