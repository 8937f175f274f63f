"""The memories that an account has in a region, for who has to choose one."""

from dataclasses import dataclass

from pipeline.destinations.agentcore import CONTROL_SERVICE, service_errors

REQUEST_TIMEOUT_S = 5.0
MEMORIES_MAX = 50  # more than anybody chooses from


@dataclass(frozen=True, slots=True)
class MemorySummary:
    """A memory of the account; `status` is ACTIVE for one that can be written to."""

    id: str
    status: str


async def has_credentials() -> bool:
    """Whether the usual AWS way leads to credentials."""
    from aiobotocore.session import AioSession  # noqa: PLC0415 - 0.6 s, which only this pays

    with service_errors("AWS credentials"):
        return await AioSession().get_credentials() is not None


async def list_memories(region: str, endpoint_url: str | None = None) -> list[MemorySummary]:
    """The memories of the account in `region`, by id.

    Raises:
        DestinationError: AWS did not say.
    """
    from aiobotocore.config import AioConfig  # noqa: PLC0415 - see above
    from aiobotocore.session import AioSession  # noqa: PLC0415

    config = AioConfig(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=REQUEST_TIMEOUT_S,
        read_timeout=REQUEST_TIMEOUT_S,
        user_agent_extra="memsync",
    )
    with service_errors(f"ListMemories in {region}"):
        async with AioSession().create_client(
            CONTROL_SERVICE, region_name=region, endpoint_url=endpoint_url, config=config
        ) as client:
            found: list[MemorySummary] = []
            token: dict[str, str] = {}
            while len(found) < MEMORIES_MAX:
                page = await client.list_memories(maxResults=MEMORIES_MAX, **token)
                found += [
                    MemorySummary(str(memory.get("id") or memory["arn"]), str(memory.get("status", "")))
                    for memory in page["memories"]
                ]
                if not page.get("nextToken"):
                    break
                token = {"nextToken": page["nextToken"]}
    return sorted(found[:MEMORIES_MAX], key=lambda memory: memory.id)
