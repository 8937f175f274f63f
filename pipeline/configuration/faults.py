"""What pydantic found wrong with settings, told in words and by place: a line of the file, or a variable."""

import difflib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.concealing import NOTHING_CONCEALED, Concealer
from pipeline.configuration.masking import is_secret, without_passwords
from pipeline.configuration.source_files import SourceFile
from pipeline.errors import ConfigurationError

VARIABLE_PREFIX = "MEMSYNC_"
SECTION_SEPARATOR = "__"

SHOWN_CHARACTERS_MAX = 80
_WORDS = {
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "dict_type": "should be a mapping",
    "finite_number": "should be a finite number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "int_from_float": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "list_type": "should be a list",
    "model_type": "should be a mapping",
    "path_type": "should be text, in quotes",
    "string_type": "should be text, in quotes",
    "tuple_type": "should be a list",
}


class Stand(NamedTuple):
    """What references in the settings stand for: `texts` as they are written, at their places.

    Those at `unknown` places could not be looked up, so that nothing can be said of what is wrong there.
    """

    texts: Mapping[tuple[str | int, ...], str] = {}
    unknown: Collection[tuple[str | int, ...]] = ()
    concealer: Concealer = NOTHING_CONCEALED


NO_REFERENCES = Stand()


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A half sentence that names the nearest of `known`, or all of them if none is near."""
    name_by_lower_case = {name.lower(): name for name in known}
    for near in difflib.get_close_matches(word.lower(), name_by_lower_case, n=1):
        return f"did you mean `{name_by_lower_case[near]}`?"
    return f"known: {', '.join(f'`{name}`' for name in known)}"


def unknown_key(location: Sequence[str | int], known: Collection[str]) -> str:
    """A message about the key at `location`, where only `known` ones may stand."""
    return f"unknown key `{dotted(location)}`; {did_you_mean(str(location[-1]), known)}"


def shown(value: object, location: Sequence[str | int] = ()) -> str:
    """`value` as a message may show it: short, on one line, and hidden if its name looks like a secret's."""
    if is_secret(location):
        return "a value that is not shown"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        value = without_passwords(value)
        written = json.dumps(value, ensure_ascii=not value.isprintable())
    else:
        written = json.dumps(value, default=repr)
    return written if len(written) <= SHOWN_CHARACTERS_MAX else f"{written[: SHOWN_CHARACTERS_MAX - 1]}…"


def fault(
    message: str,
    location: Sequence[str | int],
    file: SourceFile,
    from_environment: Mapping[str, Any],
    *,
    of_key: bool = False,
) -> ConfigurationError:
    """An error with the place that the value at `location` (or its key) comes from.

    `from_environment` holds the values that the environment has put above the file's.
    """
    variable = variable_of(location, from_environment, file.values)
    if variable:
        return ConfigurationError(message, variable=variable)
    path, place = file.place(location, of_key=of_key)
    return ConfigurationError(message, path=str(path), **place._asdict())


def faults_of(
    error: ValidationError,
    file: SourceFile,
    from_environment: Mapping[str, Any],
    model: type[BaseModel],
    stand: Stand = NO_REFERENCES,
) -> list[ConfigurationError]:
    """One error for each fault that pydantic found with `model`, but for those that unknown references explain."""
    errors = error.errors(include_url=False)
    faults = []
    for details in errors:
        if details["type"] == "too_short" and any(_is_below(other["loc"], details["loc"]) for other in errors):
            continue  # pydantic counts the items without those that are broken
        location = _location(details, file.values, from_environment)
        if any(unknown[: len(location)] == tuple(location) for unknown in stand.unknown):
            continue
        is_missing = details["type"] in {"missing", "union_tag_not_found"}
        is_key = details["type"] == "extra_forbidden" or "[key]" in details["loc"]
        message = _explain(details, location, model, stand)
        faults.append(fault(message, location, file, {} if is_missing else from_environment, of_key=is_key))
    return faults


def _is_below(location: Sequence[str | int], above: Sequence[str | int]) -> bool:
    return len(location) > len(above) and location[: len(above)] == above


def _location(
    details: ErrorDetails, from_file: Mapping[str, Any], from_environment: Mapping[str, Any]
) -> list[str | int]:
    """Where the fault is in what was written: without what pydantic names of its own, such as the branch of a union."""
    steps = [step for step in details["loc"] if step != "[key]"]
    values: list[Any] = [from_environment, from_file]
    location = []
    for step in steps[:-1]:
        below = [_item(value, step) for value in values]
        if any(value is not _ABSENT for value in below):
            values = below
            location.append(step)
    is_below = any(_item(value, step) is not _ABSENT for step in steps[-1:] for value in values)
    if is_below or details["type"] == "missing":
        location += steps[-1:]
    if details["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        location.append(details["ctx"]["discriminator"].strip("'"))
    return location


def _explain(details: ErrorDetails, location: Sequence[str | int], model: type[BaseModel], stand: Stand) -> str:
    name = dotted(location)
    value = details["input"]
    match details["type"]:
        case "extra_forbidden":
            return unknown_key(location, _known_keys(model, details["loc"][:-1]))
        case "missing" | "union_tag_not_found":
            return f"`{name}` is missing"
        case "value_error" if is_secret(location) and not isinstance(value, Mapping):
            problem = "it cannot be used"  # the reason might quote it
        case "value_error":
            problem = stand.concealer.conceal(str(details["ctx"]["error"]))
            if stand.concealer.betrays(problem):
                problem = "it cannot be used, for a reason that quotes what a reference stands for"
        case "literal_error":
            problem = did_you_mean(str(value), re.findall("'([^']*)'", details["ctx"]["expected"]))
        case "union_tag_invalid":
            value = details["ctx"]["tag"]
            problem = did_you_mean(value, re.findall("'([^']*)'", details["ctx"]["expected_tags"]))
        case "list_type" | "tuple_type" if isinstance(value, str) and not is_secret(location):
            problem = f"should be a list: [{shown(value)}]"
        case kind:
            words = re.sub(r" after validation, not \d+$", "", details["msg"])
            problem = _WORDS.get(kind) or re.sub(r"^\w+ should ", "should ", words)
    if "[key]" in details["loc"]:
        return f"the key `{name}` {problem}"
    if details["type"] == "value_error" and isinstance(value, Mapping):  # it is about what stands in there
        return f"`{name}`: {problem}"
    if tuple(location) in stand.texts:  # which is shown even where a secret would not be: it is none
        verdict = problem.replace("it cannot", "cannot", 1)
        return f"`{name}` is {shown(stand.texts[tuple(location)])}; what that stands for {verdict}"
    verdict = f"it {problem}" if problem.startswith("should ") else problem
    return f"`{name}` is {shown(value, location)}; {verdict}"


def dotted(location: Sequence[str | int]) -> str:
    """`location` as it is written: `source.resources[0].path`."""
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{step if step.isprintable() else ascii(step)}" for step in location
    )
    return "".join(steps).removeprefix(".")


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    models = [model]
    for step in location:
        fields = [owner.model_fields[step] for owner in models if step in owner.model_fields]
        below = [each for field in fields for each in models_in(field.annotation)]
        models = below or [owner for owner in models if _is_branch(owner, step)] or models
    return list(dict.fromkeys(name for owner in models for name in owner.model_fields))


def _is_branch(model: type[BaseModel], tag: str | int) -> bool:
    """Whether `tag` is what tells `model` from the others of a union, as a `type` does."""
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value with this annotation may be of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


_ABSENT = object()


def variable_of(
    location: Sequence[str | int], from_environment: Mapping[str, Any], from_file: Mapping[str, Any]
) -> str | None:
    """The environment variable that gave the value at `location`; None if the file did."""
    above: Any = from_environment
    below: Any = from_file
    names: list[str] = []
    for step in location:
        next_above, next_below = _item(above, step), _item(below, step)
        if next_above is _ABSENT and next_below is _ABSENT:
            continue  # not a key: pydantic also names the branch of a union that it tried
        above, below = next_above, next_below
        names.append(str(step))
    if above is _ABSENT or not names:
        return None
    # A section can also be given whole, as JSON in a variable of its own.
    variables = {name.upper(): name for name in os.environ}
    for count in range(len(names), 0, -1):
        candidate = VARIABLE_PREFIX + SECTION_SEPARATOR.join(names[:count]).upper()
        if candidate in variables:
            return variables[candidate]
    return VARIABLE_PREFIX + names[0].upper()


def _item(values: Any, step: str | int) -> Any:
    if isinstance(values, Mapping):
        return values.get(step, _ABSENT)
    if isinstance(values, list) and isinstance(step, int) and step < len(values):
        return values[step]
    return _ABSENT
