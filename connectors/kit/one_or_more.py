"""Settings that are lists, of which one item need not be written as a list."""

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


@dataclass(frozen=True)
class _OneOrMore:
    """Takes a text for a list of it, and says so in a JSON Schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        of_list = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [of_list["items"], of_list]}


# Behind whatever else an annotation says of the list: `Annotated[tuple[str, ...], Field(min_length=1), OneOrMore]`.
OneOrMore = _OneOrMore()
