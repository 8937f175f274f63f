"""The JSON Schema of a source's YAML file, for editors: which keys there are, what they mean, what they may be.

Made of the very models that check the file. It says less than they do: what several settings say together, and whether
a template or a path is right, only `memsync validate` tells.

A file that extends others, or that holds no source since others extend it, need not be complete: for such files, the
schema has each model a second time, with nothing that must be there.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pipeline.configuration.settings import SourceSettings
from pipeline.configuration.source_files import EXTENDS
from pipeline.references import FORM_BY_SCHEME

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"  # its name; nothing is fetched from there
REFERENCE, WHOLE, PART = "Reference", "Source", "Source-part"
PART_SUFFIX = "-part"

_NARROWING = {"pattern", "maxLength", "enum", "const", "format"}
_ABOUT = {"description", "default", "examples", "deprecated"}  # what goes along with a value, whatever it is


def schema_of(models: Mapping[str, type[BaseModel]]) -> Schema:
    """The schema for sources of these types, by the settings of each."""
    names, found = models_json_schema(
        [(SourceSettings, "validation"), *((model, "validation") for model in models.values())]
    )
    definitions: Schema = found["$defs"]
    source = definitions.pop(names[SourceSettings, "validation"]["$ref"].removeprefix("#/$defs/"))
    source["properties"] = {
        EXTENDS: _extends(),
        **source["properties"],
        "source": {
            "type": "object",
            "description": source["properties"]["source"]["description"],
            **_chosen({name: names[model, "validation"] for name, model in models.items()}),
        },
    }
    source["required"].remove("name")  # left out, it is the name of the file
    definitions[WHOLE] = source
    definitions = {name: _plain(each) for name, each in definitions.items()}
    definitions |= _parts(definitions)
    definitions[REFERENCE] = _reference()
    return {
        "$schema": DIALECT,
        "title": "A source of memsync",
        "type": "object",
        "if": {"anyOf": [{"required": [EXTENDS]}, {"not": {"required": ["source"]}}]},
        "then": {"$ref": f"#/$defs/{PART}"},
        "else": {"$ref": f"#/$defs/{WHOLE}"},
        "$defs": {name: definitions[name] for name in sorted(_used(definitions))},
    }


def _extends() -> Schema:
    file = {"type": "string", "minLength": 1}
    return {
        "description": "Files whose settings hold where this one says nothing, relative to this file; of several, the"
        " later one wins.",
        "anyOf": [file, {"type": "array", "items": file, "minItems": 1}],
    }


def _reference() -> Schema:
    return {
        "type": "string",
        "description": f"A reference to what does not stand here: {', '.join(FORM_BY_SCHEME.values())}.",
        "pattern": rf"\$\{{({'|'.join(FORM_BY_SCHEME)}):[^}}]+\}}",
    }


def _chosen(schema_by_type: Mapping[str, Schema]) -> Schema:
    """What `type` decides. Editors tell of a choice by conditions what is wrong, and of `oneOf` only that none fits."""
    return {
        "properties": {"type": {"enum": sorted(schema_by_type), "description": "Which of them; it decides the rest."}},
        "required": ["type"],
        "allOf": [
            {
                "if": {"type": "object", "properties": {"type": {"const": name}}, "required": ["type"]},
                "then": schema_by_type[name],
            }
            for name in sorted(schema_by_type)
        ],
    }


# ------------------------------------------------------------------------------------------ from what pydantic says


def _plain(schema: Schema) -> Schema:
    """`schema` without noise, with choices by `type`, and with references wherever a value may be one."""
    schema = {key: _below(key, value, _plain) for key, value in schema.items()}
    schema.pop("title", None)
    if "$ref" in schema or schema.get("type") == "object":
        schema.pop("default", None)  # a whole section; each of its settings has its own
    if schema.get("format") == "path":
        del schema["format"]
    if mapping := schema.pop("discriminator", {}).get("mapping"):
        del schema["oneOf"]
        schema |= {"type": "object", **_chosen({name: {"$ref": ref} for name, ref in mapping.items()})}
    if "anyOf" in schema:
        schema["anyOf"] = _flat(schema["anyOf"])
        chosen, *others = schema["anyOf"]
        if "allOf" in chosen and others == [_NULL]:
            del schema["anyOf"]
            schema |= {**chosen, "type": ["object", "null"]}
    if "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)
    if kind := schema.get("properties", {}).get("type"):  # it decides what else there is, so it can be no reference
        schema["properties"]["type"] = _without_reference(kind)
    return _or_reference(schema)


def _below(key: str, value: Any, change: Any) -> Any:
    """The value of a keyword of a schema, with the schemas in it changed."""
    if key in ("properties", "patternProperties", "$defs"):
        return {name: change(each) for name, each in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [change(each) for each in value]
    if key in ("items", "additionalProperties", "then", "else", "not") and isinstance(value, dict):
        return change(value)
    return deepcopy(value)


_NULL: Schema = {"type": "null"}
_REFERENCE: Schema = {"$ref": f"#/$defs/{REFERENCE}"}


def _or_reference(schema: Schema) -> Schema:
    """`schema`, or a text with a reference if that would not be allowed by it."""
    kind = schema.get("type")
    is_narrow_text = kind == "string" and bool(_NARROWING & schema.keys())
    if kind not in ("integer", "number", "boolean") and not is_narrow_text:
        return schema
    about = {key: value for key, value in schema.items() if key in _ABOUT}
    return {**about, "anyOf": [{key: value for key, value in schema.items() if key not in _ABOUT}, _REFERENCE]}


def _without_reference(schema: Schema) -> Schema:
    about = {key: value for key, value in schema.items() if key != "anyOf"}
    others = [each for each in schema.get("anyOf", []) if each != _REFERENCE]
    return {**about, **others[0]} if len(others) == 1 else {**about, **({"anyOf": others} if others else {})}


def _flat(alternatives: list[Schema]) -> list[Schema]:
    """The alternatives, and instead of one that is nothing but a choice, its own; each once."""
    flat: list[Schema] = []
    for each in alternatives:
        flat += [one for one in (each["anyOf"] if each.keys() == {"anyOf"} else [each]) if one not in flat]
    takes_any_text = any(each in ({"type": "string"}, {"type": "string", "minLength": 1}) for each in flat)
    return [each for each in flat if each != _REFERENCE] if takes_any_text else flat


# ----------------------------------------------------------------------------------------------- incomplete files


def _parts(definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """The definitions in which something must be there once more, with nothing that must."""
    strict = {name for name, each in definitions.items() if _demands(each)}
    while more := {
        name
        for name, each in definitions.items()
        if name not in strict and any(ref.removeprefix("#/$defs/") in strict for ref in _references_in(each))
    }:
        strict |= more

    def part(schema: Schema) -> Schema:
        changed = {key: _below(key, value, part) for key, value in schema.items() if key != "required"}
        if changed.get("$ref", "").removeprefix("#/$defs/") in strict:
            changed["$ref"] += PART_SUFFIX
        return changed

    return {f"{name}{PART_SUFFIX}": part(definitions[name]) for name in strict}


def _demands(value: Any) -> bool:
    """Whether something in a schema must be there, conditions aside."""
    if isinstance(value, list):
        return any(map(_demands, value))
    return isinstance(value, dict) and (
        isinstance(value.get("required"), list) or any(_demands(each) for key, each in value.items() if key != "if")
    )


def _used(definitions: Mapping[str, Schema]) -> set[str]:
    """The names of all definitions that the two kinds of files lead to."""
    used: set[str] = set()
    open_names = [WHOLE, PART]
    while open_names:
        name = open_names.pop()
        if name not in used:
            used.add(name)
            open_names += [ref.removeprefix("#/$defs/") for ref in _references_in(definitions[name])]
    return used


def _references_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [ref for each in value for ref in _references_in(each)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [ref for each in value.values() for ref in _references_in(each)]
