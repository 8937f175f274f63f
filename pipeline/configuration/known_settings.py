"""The settings of a connector as far as this machine knows what the references in them stand for. Nobody is asked."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from connectors import connector_types
from pipeline.configuration.local_references import local_value
from pipeline.configuration.settings import ReferringSettings, SourceSettings
from pipeline.references import LOCAL_SCHEMES, Location, Reference, parse, plain_parts, replaced, texts_with_marks


def known_settings(settings: SourceSettings) -> Any | None:
    """The connector's own settings; None if what they say depends on references that nobody here answers for.

    They may hold secrets, and are not for showing.
    """
    source = settings.source
    if not isinstance(source, ReferringSettings):
        return source
    texts = dict(texts_with_marks(source.written, ("source",)))
    templates = {location: parse(text) for location, text in texts.items()}
    values: dict[Reference, str] = {}
    for template in templates.values():
        for reference in template.references:
            if reference.scheme in LOCAL_SCHEMES:
                try:
                    values[reference] = local_value(reference, settings.folder)
                except LookupError:
                    return None
            else:
                values[reference] = str(reference)
    filled = {location: template.filled(values) for location, template in templates.items()}
    try:
        with plain_parts(list(templates.values()), list(filled.values())):
            model = connector_types()[source.type].settings_model
            return model.model_validate(replaced({"source": source.written}, filled)["source"])
    except ValidationError:
        return None


def references_of(source: BaseModel) -> Iterator[tuple[Location, Reference]]:
    """The references in the settings of a connector, each with its place: `source` and on."""
    if isinstance(source, ReferringSettings):
        for location, text in texts_with_marks(source.written, ("source",)):
            for reference in parse(text).references:
                yield location, reference


def written_settings(source: BaseModel) -> dict[str, Any]:
    """The settings of a connector in plain values, references as they are written."""
    return source.written if isinstance(source, ReferringSettings) else source.model_dump(mode="json")
