"""What `memsync explain` tells: every setting that holds for a source, and what said so."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from connectors import connector_types
from pipeline.configuration.faults import variable_of
from pipeline.configuration.loading import LoadedSource
from pipeline.configuration.masking import is_by_reference, is_secret, without_plain_secrets, without_secret_arguments
from pipeline.configuration.settings import ReferringSettings
from pipeline.configuration.source_files import SourceFile, merged
from pipeline.references import Location, parse, texts_with_marks
from pipeline.reporting.explanations import ExplainedSource, Kind, Origin, Setting

_ABSENT = object()


def explain(loaded: LoadedSource) -> ExplainedSource:
    """The settings of a source in the order of their models, a reference as it is written."""
    said = merged(loaded.file.values, loaded.from_environment)
    explainer = _Explainer(loaded, said)
    settings = [setting for name in type(loaded.settings).model_fields for setting in explainer.of_section(name)]
    files = [str(document.path) for document in loaded.file.documents]
    return ExplainedSource(loaded.settings.name, files, settings)


class _Explainer:
    def __init__(self, loaded: LoadedSource, said: Mapping[str, Any]) -> None:
        self._settings = loaded.settings
        self._file: SourceFile = loaded.file
        self._from_environment = loaded.from_environment
        self._said = said

    def of_section(self, name: str) -> Iterator[Setting]:
        value = getattr(self._settings, name)
        if isinstance(value, ReferringSettings):
            said = {**_defaults(connector_types()[value.type].settings_model), **value.written}
            yield from self._walk(said, (name,))
        else:
            yield from self._walk(value, (name,))

    def _walk(self, value: Any, location: Location) -> Iterator[Setting]:
        """The settings in `value`, or itself if it is one."""
        if isinstance(value, BaseModel):
            value = {name: getattr(value, name) for name in type(value).model_fields}
        is_list_of_sections = isinstance(value, list | tuple) and any(
            isinstance(each, BaseModel | Mapping) for each in value
        )
        if isinstance(value, Mapping) and value:
            for name, below in value.items():
                yield from self._walk(below, (*location, name))
        elif is_list_of_sections:
            for number, below in enumerate(value):
                yield from self._walk(below, (*location, number))
        else:
            yield self._setting(value, location)

    def _setting(self, value: Any, location: Location) -> Setting:
        said = _at(self._said, location)
        texts = [text for _, text in texts_with_marks(said)] if said is not _ABSENT else []
        references = [str(reference) for text in texts for reference in parse(text).references]
        shown = said if texts else TypeAdapter(object).dump_python(value, mode="json")
        return Setting(location, _without_secret(shown, location), self._origin(location), references)

    def _origin(self, location: Location) -> Origin:
        if _at(self._from_environment, location) is not _ABSENT:
            return Origin("environment", variable=variable_of(location, self._from_environment, self._file.values))
        if self._file.has(location):
            path, place = self._file.place(location)
            kind: Kind = "file" if path == self._file.path else "extended file"
            return Origin(kind, str(path), place.line, place.column)
        return Origin("file name" if location == ("name",) else "default")


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """What holds where nothing is said, in the order of the model; a setting that must be given has none."""
    return {
        name: None if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
    }


def _at(values: Any, location: Sequence[str | int]) -> Any:
    for step in location:
        if isinstance(values, Mapping):
            values = values.get(step, _ABSENT)
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            values = values[step]
        else:
            return _ABSENT
    return values


def _without_secret(value: Any, location: Location) -> Any:
    """`value` unless it is a text whose name is that of a secret; a reference is none, what stands beside it may be."""
    if isinstance(value, list):
        if all(isinstance(each, str) for each in value):
            value = without_secret_arguments(value)
        return [_without_secret(each, location) for each in value]
    if not isinstance(value, str):
        return value
    names = [step for step in location if isinstance(step, str)]
    is_name_of_variable = any(name.endswith(("_variable", "_variables")) for name in names[-2:])
    if is_secret(names[-1:]) and not is_name_of_variable and not is_by_reference(value):
        return "…"
    return without_plain_secrets(value)
