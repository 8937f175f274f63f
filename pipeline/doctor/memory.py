"""The memory: its region, whether it is active, what its strategies would do to records, and what it indexes."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pipeline.configuration.faults import did_you_mean
from pipeline.configuration.settings import RecordSettings
from pipeline.destinations.agentcore import CLOCK_DIFFERENCE_MAX_S
from pipeline.doctor.account import DENIED, Account, has_no_agentcore, reason_elsewhere
from pipeline.errors import DestinationError, RetryableError
from pipeline.hosts import is_loopback
from pipeline.model import ORDER_METADATA_KEY
from pipeline.provenance import DIGEST_METADATA_KEY, DOCUMENT_METADATA_KEY, KEY_METADATA_KEY, SOURCE_METADATA_KEY
from pipeline.reporting.examinations import Finding
from pipeline.reporting.text import amount, duration

# The regions that AWS names for AgentCore Memory, in November 2026; botocore's endpoint data does not have the service.
MEMORY_REGIONS = frozenset({
    "us-east-1", "us-east-2", "us-west-2", "ca-central-1", "sa-east-1",
    "eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3", "eu-north-1",
    "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-northeast-1", "ap-northeast-2",
    "us-gov-west-1",
})  # fmt: skip
# What a run filters by (the key) and what people filter by.
INDEXED_KEYS = (KEY_METADATA_KEY, SOURCE_METADATA_KEY, DOCUMENT_METADATA_KEY)
# What every record of memsync bears; verify and recover have nothing else to go by.
OWN_KEYS = (*INDEXED_KEYS, ORDER_METADATA_KEY, DIGEST_METADATA_KEY)
INDEXED_KEYS_MAX = 10  # botocore bedrock-agentcore-control, shape IndexedKeysList

_NOBODY_LISTENS = "EndpointConnectionError"

WORDS_MAX = 200  # characters
CLOCK_GOOD_S = 60.0  # of machines that share a state; see docs/promises.md


# ----------------------------------------------------------------------------------------------- the region


async def check_region(account: Account) -> Sequence[Finding]:
    error: DestinationError | None = None
    try:
        region, known_regions = account.region, account.known_regions
    except DestinationError as raised:
        return [Finding("region", "not_known", reason_elsewhere(raised) or str(raised))]
    endpoint_url = account.connection.endpoint_url
    if region:
        try:
            await account.memory()
        except DestinationError as raised:
            error = raised
        with suppress(DestinationError):
            endpoint_url = await account.other_endpoint()
    return [judge_region(region, endpoint_url, known_regions, error)]


def judge_region(
    region: str | None, endpoint_url: str | None, known: set[str], error: DestinationError | None
) -> Finding:
    """`endpoint_url` is where something else than AWS's own endpoint of the region is asked, `error` what that said to
    a question about the memory, None if it answered."""
    if not region:
        cure = "Set destination.region, or AWS_REGION, to the region of the memory."
        return Finding("region", "problem", "none is set", cure)
    where = f"{region}{f', at {endpoint_url}' if endpoint_url else ''}"
    if region not in known and endpoint_url is None:
        return Finding("region", "problem", f"AWS has no region {region}; {did_you_mean(region, known)}", _REGION_CURE)
    if error is not None and has_no_agentcore(error):
        cure = (
            "Check the network, a proxy or VPC endpoint on the way, destination.endpoint_url and AWS_ENDPOINT_URL."
            + ("" if endpoint_url or region in MEMORY_REGIONS else f" {_REGION_CURE}")
        )
        if error.code == _NOBODY_LISTENS and (port := _port_on_this_machine(endpoint_url)):
            cure = (
                "Nothing listens there. Start it, or correct destination.endpoint_url or AWS_ENDPOINT_URL. If it is a"
                f" local memory, with its --data FILE if it has one:\n  memsync local --port {port}"
            )
        return Finding("region", "problem", f"no AgentCore answers in {where}: {_short(error)}", cure)
    if error is not None and (reason := reason_elsewhere(error)):
        return Finding("region", "not_known", f"{where} {reason}")
    if endpoint_url is None and region not in MEMORY_REGIONS:
        return Finding("region", "ok", f"{where} answers, though it is not among those that AWS names for Memory")
    return Finding("region", "ok", f"{where} answers")


def _port_on_this_machine(url: str | None) -> int | None:
    """None if it is elsewhere, or no address at all."""
    try:
        parts = urlsplit(url or "")
        return parts.port if is_loopback(parts.hostname) else None
    except ValueError:
        return None


def _short(error: DestinationError) -> str:
    """The words of `error`, which may be a page of HTML."""
    words = str(error)
    return words if len(words) <= WORDS_MAX else f"{words[:WORDS_MAX]} ..."


_REGION_CURE = "Set destination.region to the region where the memory was made."


# ----------------------------------------------------------------------------------------------- the memory


async def check_memory(account: Account, record: RecordSettings) -> Sequence[Finding]:
    try:
        memory = await account.memory()
    except DestinationError as error:
        return list(judge_unseen_memory(account.memory_id, error, way_to(account)))
    return [
        judge_memory(memory),
        judge_strategy(memory, record),
        judge_indexed_keys(memory, way_to(account)),
    ]


class Way(NamedTuple):
    """How the memory is reached, for calls that a person makes; None: what is usual there leads to it as well."""

    region: str | None
    endpoint_url: str | None = None
    profile: str | None = None

    def in_shell(self, operation: str) -> str:
        """The words of the AWS CLI that such a call begins with."""
        named = {"--region": self.region, "--endpoint-url": self.endpoint_url, "--profile": self.profile}
        options = [word for option, value in named.items() if value is not None for word in (option, value)]
        return shlex.join(["aws", "bedrock-agentcore-control", operation, *options])

    def in_python(self) -> str:
        """The client that makes it."""
        session = "boto3" if self.profile is None else f"boto3.Session(profile_name={json.dumps(self.profile)})"
        named = {"region_name": self.region, "endpoint_url": self.endpoint_url}
        arguments = [f", {name}={json.dumps(value)}" for name, value in named.items() if value is not None]
        return f'{session}.client("bedrock-agentcore-control"{"".join(arguments)})'


def way_to(account: Account) -> Way:
    connection = account.connection
    region = None
    with suppress(DestinationError):  # of which others tell
        region = account.region
    return Way(region, connection.endpoint_url, connection.profile)


def judge_unseen_memory(memory_id: str, error: DestinationError, way: Way) -> Iterator[Finding]:
    match error.code:
        case "ResourceNotFoundException":
            cure = "If both are right, is it the account? It has these:\n"
            cure += f"  {way.in_shell('list-memories')}"
            yield Finding("memory", "problem", f"there is no memory {memory_id} here: {error}", cure)
        case code if code in DENIED:
            cure = "Allow bedrock-agentcore:GetMemory; `memsync doctor --policy` prints the whole policy."
            yield Finding("memory", "not_known", f"GetMemory is not permitted: {error}", cure)
        case _ if has_no_agentcore(error):
            yield Finding("memory", "not_known", "it could not be asked; see the region")
        case _ if reason := reason_elsewhere(error):
            yield Finding("memory", "not_known", reason)
        case _ if isinstance(error, RetryableError):
            yield Finding("memory", "not_known", f"it could not be asked just now: {error}", "Try once more.")
        case _:
            yield Finding("memory", "problem", str(error))
    for name in ("strategy", "indexed keys"):
        yield Finding(name, "not_known", "GetMemory did not tell")


def judge_memory(memory: Mapping[str, Any]) -> Finding:
    status = memory["status"]
    facts = [
        f"status {status}",
        f"events kept for {amount(memory['eventExpiryDuration'], 'day')}",
        *([f"encrypted with {memory['encryptionKeyArn']}"] if memory.get("encryptionKeyArn") else []),
        *([f"managed by {memory['managedByResourceArn']}"] if memory.get("managedByResourceArn") else []),
        *(["changes are streamed"] if (memory.get("streamDeliveryResources") or {}).get("resources") else []),
    ]
    found = f"{memory['id']}: {', '.join(facts)}"
    if status in ("ACTIVE", "UPDATING"):
        return Finding("memory", "ok", found)
    if status == "CREATING":
        return Finding("memory", "warning", found, "It is being made. Wait some minutes and ask again.")
    why = f"; {memory['failureReason']}" if memory.get("failureReason") else ""
    return Finding("memory", "problem", f"{found}{why}", "It takes no records. Make another one, and name that.")


def judge_strategy(memory: Mapping[str, Any], record: RecordSettings) -> Finding:
    """Whether the strategy that records belong to drops our metadata, or works on the namespace that they are in."""
    strategies = {strategy["strategyId"]: strategy for strategy in memory.get("strategies") or ()}
    wanted = record.strategy_id
    if wanted is None:
        near = [name for name, strategy in strategies.items() if _covers(strategy, record.namespace)]
        if near:
            return Finding(
                "strategy",
                "warning",
                f"{', '.join(near)} writes records of its own into namespaces of {record.namespace}",
                "Searches there find them beside the documents. Give the documents a namespace of their own"
                " (record.namespace).",
            )
        others = f"; the memory has {', '.join(strategies)}, for other namespaces" if strategies else ""
        return Finding("strategy", "ok", f"none is set for records: they stay as they are written{others}")
    if wanted not in strategies:
        cure = f"Take out record.strategy_id. Known: {', '.join(strategies) or 'none'}."
        return Finding("strategy", "problem", f"the memory has no strategy {wanted}", cure)
    strategy = strategies[wanted]
    kept = {entry["key"] for entry in (strategy.get("memoryRecordSchema") or {}).get("metadataSchema", ())}
    dropped = [key for key in (*OWN_KEYS, *record.metadata) if key not in kept]
    if dropped:
        return Finding(
            "strategy",
            "problem",
            f"{wanted} ({strategy['type']}) drops metadata that its schema does not name: {', '.join(dropped)}",
            "Without them a lost ledger cannot be rebuilt and drift not be told. Take out record.strategy_id, or name"
            " the keys in the strategy's memoryRecordSchema.",
        )
    if strategy["type"] != "CUSTOM":
        cure = "Take out record.strategy_id unless that is what you want; `memsync verify` shows what was merged."
        return Finding("strategy", "warning", f"{wanted} ({strategy['type']}) may merge or delete records", cure)
    return Finding("strategy", "ok", f"{wanted} ({strategy['type']}) keeps all metadata")


def _covers(strategy: Mapping[str, Any], namespace: str) -> bool:
    """Whether the strategy writes where our records are, or above: as far as both are words and not templates."""
    ours = namespace.partition("{")[0]
    theirs = [each.partition("{")[0] for each in strategy.get("namespaceTemplates") or strategy.get("namespaces") or ()]
    return any(each != "/" and each.startswith(ours) for each in theirs)


def judge_indexed_keys(memory: Mapping[str, Any], way: Way) -> Finding:
    """Whether the memory can filter by what a run looks records up by, and how that is added."""
    found = {index["key"]: index["type"] for index in memory.get("indexedKeys") or ()}
    if wrong := [key for key in INDEXED_KEYS if found.get(key, "STRING") != "STRING"]:
        return Finding(
            "indexed keys",
            "problem",
            f"{', '.join(wrong)} should be of type STRING: the memory refuses every record of memsync",
            "An index cannot be changed or removed. Make another memory.",
        )
    missing = [key for key in INDEXED_KEYS if key not in found]
    if not missing:
        return Finding("indexed keys", "ok", ", ".join(INDEXED_KEYS))
    told = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not indexed"
    if KEY_METADATA_KEY in missing:
        told += ": after a crash, a run lists whole namespaces to find its records"
    if len(found) + len(missing) > INDEXED_KEYS_MAX:
        cure = f"The memory has {len(found)} of at most {INDEXED_KEYS_MAX} indexed keys, which cannot be removed."
        return Finding("indexed keys", "warning", told, cure)
    return Finding("indexed keys", "warning", told, _adding(str(memory["id"]), way, missing))


def _adding(memory_id: str, way: Way, keys: Sequence[str]) -> str:
    """The call that adds indexed keys, for a shell and for Python."""
    words = " ".join(f"key={key},type=STRING" for key in keys)
    entries = ", ".join(f'{{"key": "{key}", "type": "STRING"}}' for key in keys)
    return (
        "Add them, best before the first run: records that are there already are not indexed.\n"
        f"  {way.in_shell('update-memory')} --memory-id {memory_id} --add-indexed-keys {words}\n"
        "or in Python:\n"
        f'  {way.in_python()}.update_memory(memoryId="{memory_id}", addIndexedKeys=[{entries}])'
    )


# ------------------------------------------------------------------------------------------------ the clock


async def check_clock(account: Account) -> Sequence[Finding]:
    with suppress(DestinationError):  # which tells the time as well
        await account.memory()
    return [judge_clock(account.clock_ahead_s)]


def judge_clock(ahead_s: float | None) -> Finding:
    """`ahead_s` is how far this machine's clock is ahead of the service's, which tells whole seconds."""
    if ahead_s is None:
        return Finding("clock", "not_known", "no answer told the time")
    off_s = abs(ahead_s)
    if off_s < 2:
        return Finding("clock", "ok", "right")
    found = f"{duration(off_s)} {'ahead of' if ahead_s > 0 else 'behind'} the service's"
    cure = "Set the clock, best by NTP (`timedatectl set-ntp true`)."
    if off_s > CLOCK_DIFFERENCE_MAX_S:
        return Finding("clock", "problem", f"{found}: AWS refuses requests beyond 5 minutes", cure)
    if off_s > CLOCK_GOOD_S:
        return Finding("clock", "warning", found, cure)
    return Finding("clock", "ok", found)
