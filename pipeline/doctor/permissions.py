"""What the credentials may do: reads are tried, writes are asked about. Nothing is written."""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pipeline.destinations.agentcore import DATA_SERVICE
from pipeline.doctor.account import DENIED, Account, has_no_agentcore, reason_elsewhere
from pipeline.doctor.policy import READS, WRITES, actions, memory_arn
from pipeline.errors import DestinationError
from pipeline.reporting.examinations import Finding

# What a call of something that is not there is answered with, by a service that let it in.
LET_IN = {"ResourceNotFoundException", "ValidationException"}

_ASSUMED_ROLE = re.compile(r"arn:([\w-]+):sts::(\d+):assumed-role/([^/]+)/.*")
POLICY_CURE = "This prints what they need, as a policy:\n  memsync doctor --policy {file}"


# --------------------------------------------------------------------------------------------------- reads


async def check_reads(account: Account, namespace_path: str, file: str) -> Sequence[Finding]:
    """Try every call that only looks."""
    name = "reading the memory"
    denied: list[str] = []
    unclear: list[str] = []
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "GetMemory": account.memory,
        **_data_calls(account, namespace_path),
    }
    assert tuple(calls) == READS
    for operation, call in calls.items():
        try:
            await call()
        except DestinationError as error:
            if reason := reason_elsewhere(error):
                return [Finding(name, "not_known", reason)]
            if has_no_agentcore(error):
                return [Finding(name, "not_known", "it could not be asked; see the region")]
            if error.code in DENIED:
                denied.append(operation)
            elif error.code not in LET_IN:
                unclear.append(str(error))
    if denied:
        return [Finding(name, "problem", f"not permitted: {', '.join(denied)}", _cure(file))]
    if unclear:
        return [Finding(name, "not_known", f"no clear answer: {unclear[0]}")]
    return [Finding(name, "ok", f"permitted: {', '.join(READS)}")]


def _data_calls(account: Account, namespace_path: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """The reads of records, by operation: of one record, or of one that cannot exist."""
    ask = partial(account.ask, DATA_SERVICE, memoryId=account.memory_id)
    where = {"namespacePath": namespace_path, "maxResults": 1}
    criteria = {"searchQuery": "memsync", "topK": 1}
    return {
        "GetMemoryRecord": partial(ask, "get_memory_record", memoryRecordId=f"mem-{uuid.uuid4()}"),
        "ListMemoryRecords": partial(ask, "list_memory_records", **where),
        "RetrieveMemoryRecords": partial(ask, "retrieve_memory_records", searchCriteria=criteria, **where),
    }


# -------------------------------------------------------------------------------------------------- writes


async def check_writes(account: Account, file: str) -> Sequence[Finding]:
    """Ask IAM whether the caller may write. Few roles may ask that."""
    name = "writing the memory"
    try:
        caller = await account.caller()
    except DestinationError as error:
        reason = reason_elsewhere(error) or "IAM can only be asked about a known identity"
        return [Finding(name, "not_known", reason)]
    principal = principal_of(caller.arn)
    if principal is None:
        return [Finding(name, "not_known", f"IAM cannot be asked about {caller.arn}", "The first run shows it.")]
    arn = memory_arn(account.memory_id, account.region or "*", caller.account)
    try:
        answer = await account.ask(
            "iam",
            "simulate_principal_policy",
            PolicySourceArn=principal,
            ActionNames=actions(WRITES),
            ResourceArns=[arn],
        )
    except DestinationError as error:
        why = "it needs iam:SimulatePrincipalPolicy" if error.code in DENIED else str(error)
        cure = "The first run shows it; it loses nothing if it may not write. " + _cure(file)
        return [Finding(name, "not_known", f"IAM could not be asked: {why}", cure)]
    decisions = {result["EvalActionName"]: result["EvalDecision"] for result in answer["EvaluationResults"]}
    return [judge_decisions(name, decisions, file)]


def judge_decisions(name: str, decisions: Mapping[str, str], file: str) -> Finding:
    """`decisions` are IAM's, by action."""
    denied = [action for action, decision in decisions.items() if decision != "allowed"]
    if denied:
        return Finding(name, "problem", f"not permitted: {', '.join(denied)}", _cure(file))
    if not decisions:
        return Finding(name, "not_known", "IAM gave no decision")
    return Finding(name, "ok", f"permitted, as IAM says: {', '.join(WRITES)}")


def principal_of(caller_arn: str) -> str | None:
    """The user or role that policies are attached to; None for one that IAM does not know, such as the root user.

    The session of a role does not tell the path that the role may have.
    """
    if match := _ASSUMED_ROLE.fullmatch(caller_arn):
        partition, account, role = match.groups()
        return f"arn:{partition}:iam::{account}:role/{role}"
    return caller_arn if re.fullmatch(r"arn:[\w-]+:iam::\d+:(user|role)/.+", caller_arn) else None


def _cure(file: str) -> str:
    return POLICY_CURE.format(file=file)
