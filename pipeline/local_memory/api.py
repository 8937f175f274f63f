"""The HTTP API of AgentCore Memory, read from botocore's own service models.

Routes, status codes and every constraint on a request come from there, so that they are what the service
publishes and grow with it. Clients check little of this themselves: botocore sends 101 records or an illegal
character without complaint.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

import orjson

from pipeline.local_memory.errors import FieldProblem, refused

__all__ = ("OPERATION_NAMES", "Api", "Call", "Operation", "load_api")

SERVICES = ("bedrock-agentcore", "bedrock-agentcore-control")

OPERATION_NAMES = frozenset(
    {
        "BatchCreateMemoryRecords",
        "BatchUpdateMemoryRecords",
        "BatchDeleteMemoryRecords",
        "ListMemoryRecords",
        "RetrieveMemoryRecords",
        "GetMemoryRecord",
        "DeleteMemoryRecord",
        "CreateMemory",
        "GetMemory",
        "ListMemories",
        "UpdateMemory",
        "DeleteMemory",
    }
)
"""What the local memory offers; other operations of the two services are answered with 404."""

Shape = Any  # botocore ships no types


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the service and how HTTP carries it."""

    name: str
    method: str
    path: re.Pattern[str]
    success_status: int
    input_shape: Shape


@dataclass(frozen=True, slots=True)
class Call:
    """A request that found its operation, still unread."""

    operation: Operation
    path_members: Mapping[str, str]

    def read(self, query: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """The members of the request, from its path, query and body, all checked against the model.

        A member that is null counts as absent, and one the model does not know is passed over, as AWS does.

        Raises:
            ServiceError: ValidationException, which names every member that breaks a constraint.
        """
        shape = self.operation.input_shape
        request = _parse(body) if body else {}
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            if location is not None:
                request.pop(name, None)
                wire_name = member.serialization.get("name", name)
                source = self.path_members if location == "uri" else query
                if wire_name in source:
                    request[name] = source[wire_name]
        problems = list(_problems(shape, request, ""))
        if problems:
            count = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
            first = problems[0]
            raise refused(f"{count} detected: Value at '{first.name}': {first.message}", fields=problems)
        return request


class Api:
    """The operations that the local memory offers."""

    def __init__(self, operations: Collection[Operation]) -> None:
        self._operations = operations

    def find(self, method: str, raw_path: str) -> Call | None:
        """The call that a request line means. `raw_path` is still percent-encoded: an ARN holds a slash."""
        for operation in self._operations:
            match = operation.path.fullmatch(raw_path) if operation.method == method else None
            if match:
                return Call(operation, {name: unquote(value) for name, value in match.groupdict().items()})
        return None


@cache
def load_api() -> Api:
    """The API as the models of the installed botocore describe it; takes about 0.2 s the first time."""
    from botocore.loaders import Loader  # noqa: PLC0415 (importing this package must stay cheap)
    from botocore.model import ServiceModel  # noqa: PLC0415

    loader = Loader()
    operations: list[Operation] = []
    for service in SERVICES:
        model = ServiceModel(loader.load_service_model(service, "service-2"))
        offered = OPERATION_NAMES.intersection(model.operation_names)
        operations.extend(_operation(model.operation_model(name)) for name in sorted(offered))
    assert {operation.name for operation in operations} == OPERATION_NAMES
    return Api(operations)


def _operation(model: Any) -> Operation:
    literal_path = re.escape(model.http["requestUri"].rstrip("/"))
    path = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", literal_path) + "/?"
    return Operation(
        name=model.name,
        method=model.http["method"],
        path=re.compile(path),
        success_status=model.http.get("responseCode", 200),
        input_shape=model.input_shape,
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise refused(f"The body is not JSON: {error.msg}", reason="CannotParse") from error
    if not isinstance(request, dict):
        raise refused("The body must be a JSON object", reason="CannotParse")
    return dict(_without_nulls(request))


def _without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_nulls(member) for name, member in value.items() if member is not None}
        case list():
            return [_without_nulls(element) for element in value]
        case _:
            return value


def _problems(shape: Shape, value: Any, path: str) -> Iterator[FieldProblem]:
    """Every constraint of `shape` that `value` breaks, outermost first. Values are never quoted."""
    if not _has_type(value, shape.type_name):
        yield FieldProblem(path, f"Member must be of type {shape.type_name}")
        return
    match shape.type_name:
        case "structure":
            yield from _structure_problems(shape, value, path)
        case "map":
            yield from _size_problems(shape, len(value), "size", path)
            for key, element in value.items():
                yield from _problems(shape.key, key, _join(path, key))
                yield from _problems(shape.value, element, _join(path, key))
        case "list":
            yield from _size_problems(shape, len(value), "size", path)
            for index, element in enumerate(value):
                yield from _problems(shape.member, element, _join(path, str(index)))
        case "string":
            yield from _string_problems(shape, value, path)
        case "integer" | "long" | "float" | "double":
            yield from _size_problems(shape, value, "value", path)


# Timestamps in a rest-json body are epoch seconds.
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
}


def _has_type(value: Any, type_name: str) -> bool:
    # JSON's true is no number, though Python's is.
    return isinstance(value, JSON_TYPES[type_name]) and isinstance(value, bool) == (type_name == "boolean")


def _structure_problems(shape: Shape, value: dict[str, Any], path: str) -> Iterator[FieldProblem]:
    known = [name for name in shape.members if name in value]
    for name in shape.required_members:
        if name not in value:
            yield FieldProblem(_join(path, name), "Member must not be null")
    if shape.is_tagged_union and len(known) != 1:
        members = ", ".join(shape.members)
        yield FieldProblem(path, f"Member must have exactly one of these set: {members}")
    for name in known:
        yield from _problems(shape.members[name], value[name], _join(path, name))


def _string_problems(shape: Shape, value: str, path: str) -> Iterator[FieldProblem]:
    problems = list(_size_problems(shape, len(value), "length", path))
    yield from problems
    if shape.enum and value not in shape.enum:
        yield FieldProblem(path, f"Member must satisfy enum value set: {', '.join(shape.enum)}")
    pattern = shape.metadata.get("pattern")
    # A string of any length could keep a pattern busy, so one that is too long is not matched.
    if pattern and not problems and not _compiled(pattern).fullmatch(value):
        yield FieldProblem(path, f"Member must satisfy regular expression pattern: {pattern}")


def _size_problems(shape: Shape, size: float, measure: str, path: str) -> Iterator[FieldProblem]:
    minimum, maximum = shape.metadata.get("min"), shape.metadata.get("max")
    if minimum is not None and size < minimum:
        yield FieldProblem(path, f"Member must have {measure} greater than or equal to {minimum}, not {size}")
    if maximum is not None and size > maximum:
        yield FieldProblem(path, f"Member must have {measure} less than or equal to {maximum}, not {size}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)  # the patterns are Java's, where \s is ASCII


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
