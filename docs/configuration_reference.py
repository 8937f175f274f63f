"""Writes the reference in docs/configuration.md from the models that check a configuration: `make reference`.

With --check it only says whether the page is as it should be.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from connectors import BUILT_IN, connector_types
from pipeline.configuration.faults import models_in
from pipeline.configuration.settings import SourceSettings
from pipeline.configuration.yaml_source import as_yaml

PAGE = Path(__file__).with_name("configuration.md")
BEGIN, END = "<!-- The reference is made by `make reference`. -->", "<!-- The reference ends here. -->"
HEAD = "| setting | default | meaning |\n|---|---|---|"


def main() -> int:
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"
    if "--check" in sys.argv:
        return int(made != page)
    PAGE.write_text(made)
    return 0


def reference() -> str:
    """All settings: those of a source, then those of each type of source."""
    return "\n".join([*_file(), *_sources()])


def _file() -> Iterator[str]:
    yield f"### At the top of the file\n\n{HEAD}"
    sections = {}
    for name, field in SourceSettings.model_fields.items():
        if models := models_in(field.annotation):
            sections[name] = (field, models[0])
        else:
            yield _row(name, field)
    yield _line("extends", "`null`", "Files whose settings hold where this one says nothing.")
    for name, (field, model) in sections.items():
        if name != "source":
            yield from _table(f"### `{name}`", field.description or "", model)


def _sources() -> Iterator[str]:
    for name in sorted(BUILT_IN):
        model = connector_types()[name].settings_model
        yield from _table(f"### `source` of type `{name}`", _summary(model), model)
    yield ""


def _table(title: str, summary: str, model: type[BaseModel]) -> Iterator[str]:
    """The settings of a model, then those of each model that stands in a list or for a choice in it, once."""
    told: list[type[BaseModel]] = []
    pending = [(title, summary, model)]
    for heading, words, each in pending:
        fields = list(_fields(each))
        yield f"\n{heading}\n\n{words}" + (f"\n\n{HEAD}" if fields else "")
        for name, field in fields:
            yield _row(name, field)
            for below in models_in(field.annotation):
                if below not in told:
                    told.append(below)
                    pending.append((_heading(name, below), _summary(below), below))


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All settings, with those of sections in their place, but for a `type` that says only which model it is."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        elif name != "type" or not field.is_required():
            yield f"{prefix}{name}", field


def _heading(name: str, model: type[BaseModel]) -> str:
    kinds = get_args(model.model_fields["type"].annotation) if "type" in model.model_fields else ()
    return f"#### `{name}`" + (f" of type `{kinds[0]}`" if kinds else "")


def _summary(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0]


def _row(name: str, field: FieldInfo) -> str:
    if name == "name" and field.description and "name of this file" in field.description:
        default = "the file's name"
    elif field.is_required():
        default = "must be given"
    else:
        value = TypeAdapter(object).dump_python(field.get_default(call_default_factory=True), mode="json")
        default = f"`{as_yaml(value)}`"
    return _line(name, default, field.description or "")


def _line(name: str, default: str, meaning: str) -> str:
    return f"| `{name}` | {default} | {meaning.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    sys.exit(main())
