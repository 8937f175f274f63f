"""Reads sources: finds every fault before anything is sent, and tells its place in the file.

`load_sources` is the way in.
"""

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError, create_model
from pydantic_settings import EnvSettingsSource, SettingsError

from connectors import ConnectorType, connector_types
from pipeline.configuration.faults import (
    SECTION_SEPARATOR,
    VARIABLE_PREFIX,
    did_you_mean,
    fault,
    faults_of,
    shown,
    unknown_key,
)
from pipeline.configuration.setting_references import References
from pipeline.configuration.settings import ReferringSettings, SourceSettings
from pipeline.configuration.source_files import EXTENDS, SourceFile, merged, read_source_file, with_extended
from pipeline.configuration.yaml_source import parse_yaml
from pipeline.errors import ConfigurationError


class LoadedSource(NamedTuple):
    """The settings of a source, and where they come from: its files, and what the environment has put above them."""

    settings: SourceSettings
    file: SourceFile
    from_environment: Mapping[str, Any]


class CheckedSources(NamedTuple):
    """What became of some paths: the sources that can be used, and what is wrong with the others."""

    sources: Sequence[LoadedSource]
    faults: Sequence[ConfigurationError]


def load_sources(paths: Sequence[Path]) -> list[SourceSettings]:
    """The sources that `paths` describe, each a YAML file or a folder of them, in the order given.

    Raises:
        ConfigurationError: with all faults of all files in its message, one a line.
    """
    return [source.settings for source in load_with_origins(paths)]


def load_with_origins(paths: Sequence[Path]) -> Sequence[LoadedSource]:
    """The same, with where each setting comes from.

    Raises:
        ConfigurationError: as for `load_sources`.
    """
    sources, faults = check_sources(paths)
    _raise_all(faults)
    return sources


def check_sources(paths: Sequence[Path]) -> CheckedSources:
    """The sources that `paths` describe, and all faults of all files."""
    try:
        _check_variables()
        from_environment = _environment(SourceSettings)
        files = source_files(paths)
    except ConfigurationError as error:
        return CheckedSources([], [error])
    faults: list[ConfigurationError] = []
    file_by_name: dict[str, Path] = {}
    sources = []
    for path in files:
        try:
            file = read_source_file(path)
            settings = _settings_of(file, from_environment)
        except ConfigurationError as error:
            faults.append(error)
            continue
        if isinstance(settings, list):
            faults += settings
            continue
        if settings.name in file_by_name:
            problem = f"the name {settings.name!r} is taken already, by {file_by_name[settings.name]}"
            faults.append(fault(problem, ("name",), file, {}))
        file_by_name.setdefault(settings.name, path)
        sources.append(LoadedSource(settings, file, _environment(model_of(settings))))
    extended = {os.path.realpath(part.path) for source in sources for part in source.file.documents[1:]}
    hinted = [_with_hint(each) if each.path and os.path.realpath(each.path) in extended else each for each in faults]
    # Several files may extend the one in which a fault lies.
    return CheckedSources(sources, list({str(each): each for each in hinted}.values()))


def _with_hint(error: ConfigurationError) -> ConfigurationError:
    """`error`, of a file that another one extends, with the reason if it is taken for a source and is none."""
    if not error.problem.endswith(" is missing"):
        return error
    hint = "if others only extend this file, let its name begin with `_`"
    return ConfigurationError(f"{error.problem}; {hint}", path=error.path, line=error.line, column=error.column)


def source_from(text: str, file: Path) -> SourceSettings:
    """The source that `file` describes, or would if it held `text`.

    Raises:
        ConfigurationError: as for `load_sources`.
    """
    _check_variables()
    settings = _settings_of(with_extended(parse_yaml(text.encode(), file)), _environment(SourceSettings))
    if isinstance(settings, SourceSettings):
        return settings
    raise _as_one(settings)


def source_files(paths: Iterable[Path]) -> list[Path]:
    """The YAML files at `paths`, each once.

    Raises:
        ConfigurationError: a folder cannot be read, or holds none.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        found = _files_in(path) if os.path.isdir(path) else [path]  # noqa: PTH112 - Path.is_dir may raise
        for file in found:
            # Two links to one file are two sources: what is beside them, and so their state, may differ.
            identity = Path(os.path.realpath(file.parent), file.name)
            files.setdefault(identity, file)
    return list(files.values())


def _files_in(folder: Path) -> list[Path]:
    """The sources in `folder`: a file whose name begins with `_` is there for others to extend."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
        files = [path for path in found if not path.name.startswith((".", "_")) and not path.is_dir()]
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", path=str(folder)) from error
    if not files:
        hint = "; those that begin with `_` are for others to extend" if found else ""
        raise ConfigurationError(f"the folder holds no .yaml or .yml file{hint}", path=str(folder))
    return files


def _settings_of(file: SourceFile, from_environment: Mapping[str, Any]) -> SourceSettings | list[ConfigurationError]:
    """The settings that `file` and the environment make together, or what is wrong with them.

    Raises:
        ConfigurationError: a variable cannot be read at all.
    """
    model: type[SourceSettings] = SourceSettings
    faults = []
    type_name = {**_mapping(file.values, "source"), **_mapping(from_environment, "source")}.get("type")
    if isinstance(type_name, str) and type_name in _connector_types():
        model = _model_for(type_name)
    elif isinstance(type_name, str):
        problem = f"`source.type` is {shown(type_name)}; {did_you_mean(type_name, _connector_types())}"
        faults.append(fault(problem, ("source", "type"), file, from_environment))
    values: dict[str, Any] = {}
    for key, value in file.values.items():
        if key in model.model_fields:
            values[key] = value
        else:
            # The constructor has arguments of its own: `_env_file` would name another file to read.
            problem = unknown_key((key,), [*model.model_fields, EXTENDS])
            faults.append(fault(problem, (key,), file, {}, of_key=True))
    from_environment = _environment(model)
    values = merged(values, from_environment)
    references = References(values, file, from_environment)
    faults += references.faults
    filled = {"name": file.path.stem, **references.filled(values)}
    settings: SourceSettings | None = None
    try:
        with references.plain_parts():
            settings = model(**filled)
    except ValidationError as error:
        faults += faults_of(error, file, from_environment, model, references.stand)
    if faults:
        return sorted(faults, key=lambda found: (found.path != str(file.path), found.line or 0, found.column or 0))
    if references.is_in_source:
        referring = ReferringSettings.of(values["source"], file, from_environment)
        settings = SourceSettings(**{**filled, "source": referring})
    assert settings is not None
    return settings.read_from(file.path)


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


@functools.cache
def _connector_types() -> Mapping[str, ConnectorType]:
    return connector_types()


@functools.cache
def _model_for(connector_type: str) -> type[SourceSettings]:
    """The settings of a source of `connector_type`; only now is the connector imported."""
    source = _connector_types()[connector_type].settings_model, SourceSettings.model_fields["source"]
    return create_model(SourceSettings.__name__, __base__=SourceSettings, source=source)


def model_of(settings: SourceSettings) -> type[SourceSettings]:
    """The model that `settings` were checked by, with the connector's own."""
    return _model_for(settings.source.type)


def _check_variables() -> None:
    """Refuse variables of sections that do not exist; the sections refuse keys that do not."""
    sections = [name.upper() for name in SourceSettings.model_fields]
    for variable in sorted(os.environ):
        if not variable.upper().startswith(VARIABLE_PREFIX):
            continue
        section, is_nested, _ = variable.upper().removeprefix(VARIABLE_PREFIX).partition(SECTION_SEPARATOR)
        # One without sections may be meant for something else, such as the command line.
        if is_nested and section not in sections:
            raise ConfigurationError(
                f"unknown section `{section}`; {did_you_mean(section, sections)}", variable=variable
            )


def _environment(model: type[SourceSettings]) -> dict[str, Any]:
    """What the environment sets of `model`, as a tree like the file's."""
    try:
        return EnvSettingsSource(model)()
    except SettingsError as error:
        raise _not_json(error) from error


def _not_json(error: SettingsError) -> ConfigurationError:
    text = getattr(error.__cause__, "doc", None)  # pydantic-settings does not tell the variable's name
    names = [name for name, value in os.environ.items() if name.upper().startswith(VARIABLE_PREFIX) and value == text]
    return ConfigurationError(
        'a list or a mapping is written as JSON there, such as ["**/*.md"] or {"team": "support"}',
        variable=" or ".join(names) or f"{VARIABLE_PREFIX}…",
    )


def _raise_all(faults: Sequence[ConfigurationError]) -> None:
    if faults:
        raise _as_one(faults)


def _as_one(faults: Sequence[ConfigurationError]) -> ConfigurationError:
    """`faults` as one error; of several, the places stand in the message's lines."""
    return faults[0] if len(faults) == 1 else ConfigurationError("\n".join(dict.fromkeys(map(str, faults))))
