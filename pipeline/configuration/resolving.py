"""Opens a source whose settings hold references: looks up what these stand for, and keeps that to the connector.

The values are in the settings that the connector is given, and nowhere else: those show and pickle nothing of them,
and whatever the connector says goes through a `Concealer`.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, NoReturn, cast

from pydantic import BaseModel, ValidationError, create_model

from connectors import ConnectorType, connector_types
from pipeline.concealing import NOTHING_CONCEALED, Concealer
from pipeline.configuration.faults import Stand, dotted, fault, faults_of
from pipeline.configuration.own_files import own_patterns
from pipeline.configuration.settings import ReferringSettings, SourceSettings
from pipeline.errors import ConfigurationError, SourceError, SyncError
from pipeline.model import Checkpoint, Document, DocumentId, DocumentRef, ScanError, SourceEvent
from pipeline.protocols import ReadsFolder, SourceConnector
from pipeline.references import Location, Template, parse, plain_parts, replaced, texts_with_marks


class ResolvedSettings(NamedTuple):
    """The settings of a connector, complete, and what hides those values in them that came by reference."""

    settings: BaseModel
    concealer: Concealer


async def make_connector(settings: SourceSettings) -> SourceConnector:
    """The connector of a source, which knows what the references in its settings stand for.

    Raises:
        SourceError: what one of them stands for cannot be had.
        ConfigurationError: with that, the settings are not right.
    """
    connector_type = connector_types()[settings.source.type]
    source, concealer = await resolved(settings)
    if concealer is NOTHING_CONCEALED:
        connector = connector_type(source, settings.folder)
    else:
        with concealed_errors(concealer):
            connector = discreet(connector_type, concealer)(source, settings.folder)
    if isinstance(connector, ReadsFolder):
        connector.leave_out(own_patterns(settings, connector.root))
    return connector


async def resolved(settings: SourceSettings) -> ResolvedSettings:
    """The settings of the connector, with the values of references.

    Raises:
        SourceError, ConfigurationError: as for `make_connector`.
    """
    source = settings.source
    if not isinstance(source, ReferringSettings):
        return ResolvedSettings(source, NOTHING_CONCEALED)
    from pipeline.configuration.secret_stores import Surroundings, look_up  # noqa: PLC0415 - most sources have no references

    texts = dict(texts_with_marks(source.written, ("source",)))
    templates = {location: parse(text) for location, text in texts.items()}
    around = Surroundings(settings.folder, settings.destination.region, settings.destination.profile)
    found = await look_up([each for template in templates.values() for each in template.references], around)
    values = {reference: value for reference, value in found.items() if isinstance(value, str)}
    if len(values) < len(found):
        _refuse(source, templates, {each: value for each, value in found.items() if isinstance(value, LookupError)})
    concealer = Concealer({value: str(reference) for reference, value in values.items()})
    filled = {location: template.filled(values) for location, template in templates.items()}
    stand = Stand({place: text for place, text in texts.items() if templates[place].references}, (), concealer)
    return ResolvedSettings(_checked(source, templates, filled, stand), concealer)


def _refuse(
    source: ReferringSettings, templates: dict[Location, Template], problems: dict[Any, LookupError]
) -> NoReturn:
    told = [
        fault(f"`{dotted(location)}`: {problems[reference].args[0]}.", location, source.file, source.from_environment)
        for location, template in templates.items()
        for reference in template.references
        if reference in problems
    ]
    raise SourceError("\n".join(dict.fromkeys(f"{each} Nothing was done." for each in told))) from None


def _checked(
    source: ReferringSettings, templates: dict[Location, Template], filled: dict[Location, str], stand: Stand
) -> BaseModel:
    model = create_model("Source", source=(_concealed(source.type), ...))
    written = {"source": source.written}
    try:
        with plain_parts(list(templates.values()), list(filled.values())):
            checked: BaseModel = model.model_validate(replaced(written, filled)).source  # type: ignore[attr-defined]
    except ValidationError as error:
        faults = faults_of(error, source.file, source.from_environment, model, stand)
        raise ConfigurationError("\n".join(map(str, faults))) from None
    return checked


# ------------------------------------------------------------------------------------------------- discretion


class _Concealed(BaseModel):
    """Settings with secrets in them, of which nothing shows."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield None, "settings that are not shown"

    def __getstate__(self) -> NoReturn:
        raise TypeError("settings with secrets stay in this process")


@cache
def _concealed(type_name: str) -> type[BaseModel]:
    model = connector_types()[type_name].settings_model
    return create_model(model.__name__, __base__=(_Concealed, model))


def discreet(connector_type: ConnectorType, concealer: Concealer) -> ConnectorType:
    """A connector of this type whose words hold no value of a reference."""
    base: Any = connector_type
    if not isinstance(base, type):  # a function that makes one
        return connector_type

    class Discreet(base):  # type: ignore[misc]  # known at run time only
        async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
            with concealed_errors(concealer):
                async with aclosing(super().scan(since)) as scan:
                    async for events in scan:
                        yield [_concealed_event(event, concealer) for event in events]

        async def fetch(self, ref: DocumentRef) -> Document:
            with concealed_errors(concealer):
                found: Document = await super().fetch(ref)
            return found

        async def locate(self, document: DocumentId) -> DocumentRef | None:
            with concealed_errors(concealer):
                found: DocumentRef | None = await super().locate(document)
            return found

    return cast("ConnectorType", Discreet)


def _concealed_event(event: SourceEvent, concealer: Concealer) -> SourceEvent:
    return replace(event, message=concealer.conceal(event.message)) if isinstance(event, ScanError) else event


@contextmanager
def concealed_errors(concealer: Concealer) -> Iterator[None]:
    """Within, take the values of references out of errors, and out of those behind them."""
    try:
        yield
    except Exception as error:
        for each in _with_causes(error):
            each.args = tuple(concealer.conceal(said) if isinstance(said, str) else said for said in each.args)
            if isinstance(each, ConfigurationError):
                each.problem = concealer.conceal(each.problem)
        # The words of some come from elsewhere, such as the name of the file of an `OSError`.
        talkative = [each for each in _with_causes(error) if concealer.conceal(str(each)) != str(each)]
        if talkative and isinstance(error, SyncError) and error not in talkative:
            raise error from None
        if talkative:
            kind = type(error).__name__
            raise SourceError(f"The source cannot be read: {kind}. Nothing was concluded from that.") from None
        raise


def _with_causes(error: BaseException) -> list[BaseException]:
    """`error`, the errors of the group that it is, and all those that led to it, each once."""
    found = [error]
    for each in found:
        others = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        led_to_it = [other for other in (*others, each.__cause__, each.__context__) if other is not None]
        found += [other for other in led_to_it if not any(other is known for known in found)]
    return found
