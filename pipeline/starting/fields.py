"""What the settings of a type of source ask for, read from their model: so every connector can be set up."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from yamlcore import CCoreLoader

from pipeline.configuration.faults import did_you_mean

_NAMED = re.compile(r"`(\w+)`")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A setting that must be given. `is_secret_name` tells that it is the name of an environment variable."""

    name: str
    description: str
    is_secret_name: bool = False


def wanted(model: type[BaseModel], given: Mapping[str, Any]) -> list[Wanted]:
    """What `model` needs and `given` does not have; of a secret that can be given in two ways, the variable for it."""
    required = [
        name
        for name, field in model.model_fields.items()
        if field.is_required() and name != "type" and name not in given
    ]
    return [_wanted(model, name) for name in required] or [_wanted(model, name) for name in _one_of_two(model, given)]


def _wanted(model: type[BaseModel], name: str) -> Wanted:
    return Wanted(name, model.model_fields[name].description or "", name.endswith("_variable"))


def _one_of_two(model: type[BaseModel], given: Mapping[str, Any]) -> list[str]:
    """The variable for a secret that is needed, if all that the model says of `given` is that it needs one."""
    try:
        model.model_validate({"type": "", **given})
    except ValidationError as error:
        said = " ".join(details["msg"] for details in error.errors(include_url=False) if not details["loc"])
        named = [name for name in _NAMED.findall(said) if name in model.model_fields and name not in given]
        return [name for name in named if name.endswith("_variable")][:1]
    return []


def value_of(model: type[BaseModel], given: Mapping[str, Any], name: str, typed: str) -> Any:
    """What `typed` means for the setting `name`: the words as they stand, or else what they are in YAML.

    Raises:
        ValueError: it can be neither.
    """
    fault = fault_of(model, {**given, name: typed}, name)
    if fault is None:
        return typed
    meant = read_value(typed)
    if meant is None or meant == typed:
        raise ValueError(fault)
    if (fault_as_yaml := fault_of(model, {**given, name: meant}, name)) is not None:
        raise ValueError(fault_as_yaml)
    return meant


def fault_of(model: type[BaseModel], values: Mapping[str, Any], name: str) -> str | None:
    """What is wrong with the setting `name`, whatever is with the others; None if nothing is."""
    try:
        model.model_validate({"type": "", **values})
    except ValidationError as error:
        for details in error.errors(include_url=False, include_input=False):
            if details["loc"][:1] == (name,):
                inner = ".".join(str(step) for step in details["loc"][1:])
                problem = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
                return f"{inner} {problem}" if inner else problem
    return None


def read_value(text: str) -> Any:
    """The value that `text` is in YAML.

    Raises:
        ValueError: it is no YAML.
    """
    try:
        return yaml.load(text, Loader=CCoreLoader)  # noqa: S506 - it builds plain values only
    except yaml.YAMLError:
        raise ValueError(f"{text!r} is no value in YAML; put words that hold `: ` or brackets in quotes") from None


def read_assignment(text: str) -> tuple[tuple[str, ...], Any]:
    """The place and the value that `source.path=docs` gives.

    Raises:
        ValueError: it is not of that form.
    """
    place, separator, value = text.partition("=")
    path = tuple(step.strip() for step in place.split("."))
    if not separator or not all(path):
        raise ValueError(f"{text!r} should be SECTION.KEY=VALUE, such as source.path=docs")
    return path, read_value(value)


def unknown_type(type_name: str, known: list[str]) -> str:
    return f"there is no type of source {type_name!r}; {did_you_mean(type_name, known)}"
