"""What the credentials must be allowed to do for a configuration, as an IAM policy, and nothing beyond it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import anyio

from pipeline.configuration.settings import SourceSettings
from pipeline.configuration.source_permissions import source_statements
from pipeline.configuration.values import LOCAL
from pipeline.doctor.account import open_account
from pipeline.errors import ConfigurationError, DestinationError
from pipeline.model import API_NAMES, Lookup, Operation
from pipeline.runs.parts import connection_of

READS = ("GetMemory", *sorted(API_NAMES[lookup] for lookup in Lookup))
WRITES = tuple(sorted(API_NAMES[operation] for operation in Operation))
SERVICE_PREFIX = "bedrock-agentcore"  # of actions of both planes
ANY_ACCOUNT = "*"
CALLER_LIMIT_S = 10.0


def memory_arn(memory_id: str, region: str, account: str) -> str:
    """The ARN of a memory that is named by its id, or by its ARN already; `account` may be `*`."""
    if memory_id.startswith("arn:"):
        return memory_id
    return f"arn:{partition_of(region)}:bedrock-agentcore:{region}:{account}:memory/{memory_id}"


def partition_of(region: str) -> str:
    if region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws-cn" if region.startswith("cn-") else "aws"


def actions(names: Iterable[str]) -> list[str]:
    return [f"{SERVICE_PREFIX}:{name}" for name in names]


class MemoryPlace(NamedTuple):
    """Where the memory of a source is: its ARN and region. `note` tells why the account in it is `*`, if it is."""

    arn: str
    region: str
    note: str = ""


async def memory_place(settings: SourceSettings) -> MemoryPlace:
    """Find out where the memory of a source is; STS is asked for the account, for a moment, and need not answer.

    Raises:
        ConfigurationError: there is no region, or the memory is not in AWS.
        FatalError: the profile that is to tell the region is not there.
    """
    destination = settings.destination
    if destination.endpoint_url == LOCAL:
        raise ConfigurationError(f"source {settings.name!r} has its memory on this machine, which needs no policy")
    if destination.memory_id.startswith("arn:"):
        return MemoryPlace(destination.memory_id, destination.memory_id.split(":")[3])
    async with open_account(connection_of(settings, destination.endpoint_url)) as account:
        region = account.region
        if not region:
            raise ConfigurationError("no region is set. Set destination.region, or AWS_REGION", path=str(settings.file))
        number, note = ANY_ACCOUNT, ""
        if not destination.is_on_this_machine:
            note = "STS did not answer"
            with anyio.move_on_after(CALLER_LIMIT_S):
                try:
                    number, note = (await account.caller()).account, ""
                except DestinationError as error:
                    note = error.code
        return MemoryPlace(memory_arn(destination.memory_id, region, number), region, note)


def policy_for(sources: Sequence[tuple[SourceSettings, MemoryPlace]]) -> dict[str, Any]:
    """The policy for sources, each with the place of its memory."""
    memories = sorted({place.arn for _, place in sources})
    statements = [{"Sid": "Memory", "Effect": "Allow", "Action": actions((*READS, *WRITES)), "Resource": memories}]
    if any(settings.writers.requests_per_second is None for settings, _ in sources):
        statements.append(
            {"Sid": "Rates", "Effect": "Allow", "Action": ["servicequotas:ListServiceQuotas"], "Resource": ["*"]}
        )
    for settings, place in sources:
        account = place.arn.split(":")[4]
        statements += source_statements(settings, partition_of(place.region), place.region, account)
    return {"Version": "2012-10-17", "Statement": _without_repeats(statements)}


def _without_repeats(statements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for statement in statements:
        if statement not in found:
            found.append(statement)
    return found
