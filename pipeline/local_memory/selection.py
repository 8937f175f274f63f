"""Which records a ListMemoryRecords or RetrieveMemoryRecords asks for, as SQL."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.local_memory.errors import refused, refused_field
from pipeline.local_memory.store import Memory, Selection

__all__ = (
    "CREATED_AT_KEY",
    "RECORD_TYPE",
    "RECORD_TYPE_KEY",
    "SYSTEM_KEY_PREFIX",
    "UPDATED_AT_KEY",
    "comparable",
    "select",
)

# Metadata that the service keeps of its own; it can be filtered on without being declared.
SYSTEM_KEY_PREFIX = "x-amz-agentcore-memory-"
CREATED_AT_KEY = f"{SYSTEM_KEY_PREFIX}createdAt"
UPDATED_AT_KEY = f"{SYSTEM_KEY_PREFIX}updatedAt"
RECORD_TYPE_KEY = f"{SYSTEM_KEY_PREFIX}recordType"
RECORD_TYPE = "BASE"

SYSTEM_KEYS = {
    CREATED_AT_KEY: ("created_at", "DATETIME"),
    UPDATED_AT_KEY: ("updated_at", "DATETIME"),
    RECORD_TYPE_KEY: (f"'{RECORD_TYPE}'", "STRING"),
}

COMPARISONS = {
    "EQUALS_TO": "=",
    "CONTAINS": "=",  # a list has a row for each of its elements
    "GREATER_THAN": ">",
    "GREATER_THAN_OR_EQUALS": ">=",
    "LESS_THAN": "<",
    "LESS_THAN_OR_EQUALS": "<=",
    "BEFORE": "<",
    "AFTER": ">",
}

# Which operators a key of each type takes, and the member that holds the value to compare with:
# "Supported operators" in AgentCore's guide to metadata of long-term memory.
OPERATORS = {
    "STRING": ("stringValue", {"EQUALS_TO"}),
    "STRINGLIST": ("stringValue", {"CONTAINS"}),
    "NUMBER": (
        "numberValue",
        {"EQUALS_TO", "GREATER_THAN", "GREATER_THAN_OR_EQUALS", "LESS_THAN", "LESS_THAN_OR_EQUALS"},
    ),
    "DATETIME": ("dateTimeValue", {"BEFORE", "AFTER"}),
}


def select(
    request: Mapping[str, Any],
    criteria: Mapping[str, Any],
    criteria_path: str,
    memory: Memory,
    *,
    now: float,
    created_before: float,
) -> Selection:
    """The records that `request` asks for, by namespace, strategy and metadata.

    `criteria` is the structure, named `criteria_path` within the request, that holds the strategy and the
    filters. Records that have expired or are younger than `created_before` are left out.

    Raises:
        ServiceError: no namespace, or a filter that the memory's indexed keys do not allow.
    """
    selections = [
        Selection("records.memory_id = ?", (memory.memory_id,)),
        Selection("ifnull(expires_at > ?, 1)", (now,)),
        Selection("created_at <= ?", (created_before,)),
        _namespace_selection(request),
    ]
    if "memoryStrategyId" in criteria:
        selections.append(Selection("strategy_id = ?", (criteria["memoryStrategyId"],)))
    filters: Sequence[Mapping[str, Any]] = criteria.get("metadataFilters", ())
    for index, expression in enumerate(filters):
        path = f"{criteria_path}metadataFilters.{index}"
        selections.append(_filter_selection(expression, path, memory))
    return Selection(
        " AND ".join(f"({selection.condition})" for selection in selections),
        tuple(parameter for selection in selections for parameter in selection.parameters),
    )


def _namespace_selection(request: Mapping[str, Any]) -> Selection:
    match (request.get("namespace"), request.get("namespacePath")):
        case (str(namespace), None):
            return Selection("namespace = ?", (namespace,))
        case (None, str(namespace_path)):
            branch = namespace_path.rstrip("/")
            if not branch:
                return Selection("1", ())
            # "0" is the character after "/", so the range holds every namespace below the branch. The plus
            # signs keep SQLite from sorting the whole subtree for every page: it reads on in page order.
            return Selection(
                "+namespace = ? OR (+namespace >= ? AND +namespace < ?)",
                (branch, f"{branch}/", f"{branch}0"),
            )
        case _:
            raise refused("Exactly one of namespace and namespacePath must be given")


def _filter_selection(expression: Mapping[str, Any], path: str, memory: Memory) -> Selection:
    key = expression["left"]["metadataKey"]
    operator = expression["operator"]
    column, key_type = SYSTEM_KEYS.get(key, ("", memory.indexed_keys.get(key)))
    if key_type is None:
        declared = ", ".join(sorted(memory.indexed_keys)) or "none"
        raise refused_field(
            f"{path}.left.metadataKey",
            f"'{key}' is not a valid filter key: it must be one of the memory's indexed keys ({declared})",
        )
    if operator in ("EXISTS", "NOT_EXISTS"):
        if "right" in expression:
            raise refused_field(f"{path}.right", f"{operator} takes no value to compare with")
        if column:
            return Selection("1" if operator == "EXISTS" else "0", ())
        membership = "IN" if operator == "EXISTS" else "NOT IN"
        return Selection(
            f"sequence {membership} (SELECT sequence FROM indexed_values WHERE memory_id = ? AND key = ?)",  # noqa: S608
            (memory.memory_id, key),
        )
    value_member, operators = OPERATORS[key_type]
    if operator not in operators:
        raise refused_field(f"{path}.operator", f"{operator} does not work with a key of type {key_type}")
    value = expression.get("right", {}).get("metadataValue", {}).get(value_member)
    if value is None:
        raise refused_field(f"{path}.right", f"{operator} on a key of type {key_type} needs a {value_member}")
    comparison = COMPARISONS[operator]
    if column:
        return Selection(f"{column} {comparison} ?", (comparable(value),))
    return Selection(
        "sequence IN (SELECT sequence FROM indexed_values"  # noqa: S608
        f" WHERE memory_id = ? AND key = ? AND value {comparison} ?)",
        (memory.memory_id, key, comparable(value)),
    )


def comparable(value: str | float) -> str | float:
    """`value` as it is indexed and compared: any JSON number as a float, since SQLite's integers have an end."""
    return value if isinstance(value, str) else float(value)
