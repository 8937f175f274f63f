"""What `memsync sources` tells: every type of source that is installed, and its options."""

import inspect
from collections.abc import Mapping

from pydantic import BaseModel, TypeAdapter

from connectors import ConnectorType, connector_types, distribution_of
from pipeline.configuration.yaml_source import as_yaml
from pipeline.errors import ConfigurationError
from pipeline.reporting.source_types import SourceOption, SourceType


def source_types() -> list[SourceType]:
    """The types of sources, by name; one that cannot be used here says why."""
    types = connector_types()
    return [_source_type(name, types) for name in sorted(types)]


def _source_type(name: str, types: Mapping[str, ConnectorType]) -> SourceType:
    comes_from = distribution_of(name)
    try:
        model = types[name].settings_model
    except ConfigurationError as error:
        return SourceType(name, comes_from=comes_from, problem=str(error))
    summary, _, _ = inspect.cleandoc(model.__doc__ or "").partition("\n\n")
    return SourceType(name, summary, _options(model), comes_from)


def _options(model: type[BaseModel], default: BaseModel | None = None) -> list[SourceOption]:
    """The settings of `model`, with the values that they have in `default`, or else their own defaults."""
    options = []
    for name, field in model.model_fields.items():
        if name == "type":
            continue
        if default is None and field.is_required():
            options.append(SourceOption(name, field.description or "", None))
            continue
        value = field.get_default(call_default_factory=True) if default is None else getattr(default, name)
        is_section = isinstance(value, BaseModel) and "type" not in type(value).model_fields
        below = _options(type(value), value) if is_section else []
        options.append(SourceOption(name, field.description or "", _plain_yaml(value), below))
    return options


def _plain_yaml(value: object) -> str:
    """`value` in one line of YAML."""
    return as_yaml(TypeAdapter(object).dump_python(value, mode="json"))
