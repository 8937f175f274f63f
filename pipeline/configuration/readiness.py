"""What this machine lacks to run a source whose configuration is right: variables, secrets, packages.

Nothing is asked of anybody: what AWS or a keyring holds shows when a source is opened.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel

from connectors import NeedsPackages, connector_types
from pipeline.configuration.faults import SECTION_SEPARATOR, VARIABLE_PREFIX, dotted, fault
from pipeline.configuration.known_settings import known_settings, references_of, written_settings
from pipeline.configuration.loading import LoadedSource, model_of
from pipeline.configuration.local_references import local_value
from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError
from pipeline.references import LOCAL_SCHEMES, Location, Reference, has_marks, parse, texts_with_marks


def lacks(loaded: LoadedSource) -> list[ConfigurationError]:
    """What is to be set or installed here before `loaded` can run."""
    told = [
        *((location, _problem(reference, loaded)) for location, reference in references_of(loaded.settings.source)),
        *(
            (location, f"the environment variable {name}, which it names, is not set")
            for location, name in named_variables(written_settings(loaded.settings.source))
            if not has_marks(name) and not os.environ.get(name)
        ),
    ]
    found = [
        fault(f"`{dotted(location)}`: {problem}", location, loaded.file, loaded.from_environment)
        for location, problem in told
        if problem is not None
    ]
    if packages := _missing_packages(loaded):
        problem = f"a source of this type needs what is not installed: pip install {' '.join(packages)}"
        found.append(fault(problem, ("source", "type"), loaded.file, loaded.from_environment))
    return found


def _problem(reference: Reference, loaded: LoadedSource) -> str | None:
    if reference.scheme == "keyring" and find_spec("keyring") is None:
        return f"{reference} needs what is not installed: pip install 'agentcore-memory-sync[keyring]'"
    if reference.scheme in LOCAL_SCHEMES:
        try:
            local_value(reference, loaded.settings.folder)
        except LookupError as error:
            return str(error.args[0])
    return None


def named_variables(values: Any, location: Location = ("source",)) -> Iterator[tuple[Location, str]]:
    """The names of environment variables that settings such as `password_variable` hold, each with its place."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            place = (*location, key)
            if key.endswith("_variable") and isinstance(value, str):
                yield place, value
            elif key.endswith("_variables") and isinstance(value, Mapping):
                yield from (((*place, name), variable) for name, variable in value.items() if isinstance(variable, str))
            else:
                yield from named_variables(value, place)
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            yield from named_variables(value, (*location, number))


def _missing_packages(loaded: LoadedSource) -> Sequence[str]:
    settings = loaded.settings.source
    connector_type = connector_types()[settings.type]
    if not isinstance(connector_type, NeedsPackages):
        return []
    known = known_settings(loaded.settings)
    if known is None:
        known = connector_type.settings_model.model_construct(**written_settings(settings))
    return connector_type.missing_packages(known)


# --------------------------------------------------------------------------------------------------- variables


def variables_without_effect(sources: Sequence[LoadedSource]) -> list[ConfigurationError]:
    """The variables that look like settings of ours and are none."""
    sections = {name.upper() for name in SourceSettings.model_fields}
    used = {name for source in sources for name in _used_variables(source)}
    known = {variable for source in sources for variable in _variables(model_of(source.settings), VARIABLE_PREFIX)}
    return [
        ConfigurationError(_without_effect(name, known), variable=name)
        for name in sorted(os.environ)
        if name.upper().startswith(VARIABLE_PREFIX) and name not in used
        if name.upper().removeprefix(VARIABLE_PREFIX).partition(SECTION_SEPARATOR)[0] not in sections
    ]


def _without_effect(name: str, known: set[str]) -> str:
    setting = name.upper().removeprefix(VARIABLE_PREFIX)
    near = [each for each in sorted(known) if each.endswith(f"{SECTION_SEPARATOR}{setting}")]
    near += difflib.get_close_matches(name.upper(), sorted(known), n=1)
    return f"sets nothing: no setting is called so{f'; did you mean `{near[0]}`?' if near else ''}"


def _used_variables(source: LoadedSource) -> Iterator[str]:
    yield from (name for _, name in named_variables(source.file.values, ()))
    for _, text in texts_with_marks(source.file.values):
        yield from (reference.name for reference in parse(text).references if reference.scheme == "env")


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        yield variable
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{variable}{SECTION_SEPARATOR}")
