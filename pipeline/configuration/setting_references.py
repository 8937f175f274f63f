"""The references in the settings of a source: which there are, whether they can be right, and when they differ."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from pipeline.concealing import Concealer
from pipeline.configuration.faults import Stand, dotted, fault
from pipeline.configuration.local_references import local_value
from pipeline.configuration.masking import is_secret, is_secret_variable, without_passwords
from pipeline.configuration.source_files import SourceFile
from pipeline.errors import ConfigurationError
from pipeline.references import (
    LOCAL_SCHEMES,
    Location,
    Reference,
    Template,
    parse,
    plain_parts,
    replaced,
    texts_with_marks,
)


class References:
    """The references in the settings of a source, and what is wrong with them.

    What stands in the section `source` is only looked up here as far as this machine answers for it, to check it. All
    other settings are needed by commands that ask nobody, such as `status`: there this machine has to answer.
    """

    def __init__(self, values: Mapping[str, Any], file: SourceFile, from_environment: Mapping[str, Any]) -> None:
        self.faults: list[ConfigurationError] = []
        self._templates: dict[Location, Template] = {}
        self._texts: dict[Location, str] = {}
        self._values: dict[Reference, str] = {}
        self._broken: list[Location] = []
        for location, text in texts_with_marks(values):
            try:
                template = parse(text)
                self._look_up(template, location, file.path.absolute().parent)
            except (ValueError, LookupError) as error:
                self._broken.append(location)
                problem = f"`{dotted(location)}`: {error.args[0]}"
                self.faults.append(fault(problem, location, file, from_environment))
            else:
                self._texts[location], self._templates[location] = text, template

    def _look_up(self, template: Template, location: Location, folder: Path) -> None:
        is_in_source = location[0] == "source"
        for reference in template.references:
            if reference.scheme in LOCAL_SCHEMES:
                with suppress(LookupError) if is_in_source else nullcontext():
                    self._values[reference] = local_value(reference, folder)
            elif not is_in_source:
                raise LookupError(
                    f"{reference} can stand in the section `source` only; this setting is needed by commands that ask"
                    " no service, so give it as it is, or by ${env:NAME} or ${file:PATH}"
                )

    @property
    def is_in_source(self) -> bool:
        return any(location[0] == "source" and found.references for location, found in self._templates.items())

    @property
    def stand(self) -> Stand:
        names = {value: str(reference) for reference, value in self._values.items()}
        texts = {location: text for location, text in self._texts.items() if self._templates[location].references}
        unknown = [*self._broken, *(place for place in texts if not self._is_known(place))]
        return Stand(texts, unknown, Concealer(names))

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` with what is known in place of the references."""
        return dict(replaced(values, self._filled_texts()))

    def plain_parts(self) -> AbstractContextManager[None]:
        filled = self._filled_texts()
        known = [(template, filled.get(place, self._texts[place])) for place, template in self._templates.items()]
        return plain_parts([template for template, _ in known], [text for _, text in known])

    def _filled_texts(self) -> dict[Location, str]:
        templates = self._templates.items()
        return {place: template.filled(self._values) for place, template in templates if self._is_known(place)}

    def _is_known(self, location: Location) -> bool:
        return all(reference in self._values for reference in self._templates[location].references)


def as_compared(written: Mapping[str, Any]) -> Any:
    """The settings of a connector as the basis of a listing has them: without what may be a secret."""
    texts = {}
    for location, text in texts_with_marks(written):
        template = parse(text)
        texts[location] = "".join(
            (not is_secret(location) and not template.is_in_user_of_url(position) and _public_value(part)) or str(part)
            for position, part in enumerate(template.parts)
        )
    return replaced(written, texts)


def _public_value(part: str | Reference) -> str:
    """What a part of a text stands for, if that is no secret."""
    if isinstance(part, str) or part.scheme != "env" or is_secret_variable(part.name):
        return ""
    return without_passwords(os.environ.get(part.name, ""))
