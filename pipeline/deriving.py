"""From a document to the records that it implies: read, parse, chunk. Plain computation, without the event loop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.errors import DocumentVanished, UnreadableDocument, UnsupportedDocument
from pipeline.limits import ServiceLimits
from pipeline.mapping import RecordRules, cut, derive_records
from pipeline.model import (
    Derived,
    Document,
    DocumentRef,
    Fetched,
    LeftOut,
    LeftOutPart,
    Parsed,
    PartsEnd,
    Planned,
    Unread,
    UnreadPart,
    Vanished,
)
from pipeline.protocols import DocumentParser, DocumentReader

# What goes together to the event loop, which is not to be busy with it for long.
DERIVED_AT_ONCE = 128  # documents, or parts of one
RECORDS_AT_ONCE = 200  # unless one document has more


@dataclass(frozen=True, slots=True)
class Deriver:
    """Makes records of documents. A value that can be pickled, so that it can work in another process.

    `reader` reads the documents that come without their content.
    """

    reader: DocumentReader | None
    parser: DocumentParser
    rules: RecordRules
    limits: ServiceLimits

    def derive_lists(self, items: Sequence[Fetched]) -> Iterator[tuple[int, list[Planned]]]:
        """Yield what `items` become, in lists, each with how many of `items` have been dealt with by then.

        Raises:
            SourceError: the source itself is gone.
        """
        derived: list[Planned] = []
        records = 0
        for position, item in enumerate(items):
            for one in self._derive(item):
                derived.append(one)
                records += len(one.records) if isinstance(one, Derived) else 0
                if len(derived) >= DERIVED_AT_ONCE or records >= RECORDS_AT_ONCE:
                    yield position + (not is_part(one)), derived
                    derived, records = [], 0
        yield len(items), derived

    def _derive(self, item: Fetched) -> Iterator[Planned]:
        """Yield what `item` becomes: of a document its records, or those of each of its parts and then their end."""
        if isinstance(item, DocumentRef):
            item = self._fetch(item)
        if not isinstance(item, Document):
            yield item
            return
        ref = item.ref
        is_whole = has_begun = False
        try:
            for parsed in self.parser.parse(item):
                is_whole, has_begun = parsed.id == ref.id, True
                yield self._planned(ref, parsed)
        except UnreadableDocument as error:
            yield Unread(ref, "parse", error.code, str(error), has_parts=has_begun and not is_whole)
        except UnsupportedDocument as error:
            yield LeftOut(ref, error.reason)
        else:
            if not is_whole:
                yield PartsEnd(ref)

    def _fetch(self, ref: DocumentRef) -> Document | Unread | LeftOut | Vanished:
        assert self.reader is not None, "a document has its content, unless it can be read here"
        try:
            return self.reader.read(ref)
        except (UnreadableDocument, UnsupportedDocument) as error:
            return not_fetched(ref, error)

    def _planned(self, ref: DocumentRef, parsed: Parsed) -> Planned:
        match parsed:
            case UnreadPart(part, code, message):
                return Unread(ref._replace(id=part), "parse", code, message, origin=ref.id)
            case LeftOutPart(part, reason):
                return LeftOut(ref._replace(id=part), reason, origin=ref.id)
        chunks = cut(parsed, self.rules, self.limits)
        return Derived(ref, parsed.id, tuple(derive_records(ref, parsed, chunks, self.rules, self.limits)))


def is_part(derived: Planned) -> bool:
    """Whether more is to come of the document that this was derived from."""
    match derived:
        case Derived(ref, document):
            return document != ref.id
        case Unread() | LeftOut():
            return derived.origin is not None
    return False


def not_fetched(ref: DocumentRef, error: UnreadableDocument | UnsupportedDocument) -> Unread | LeftOut | Vanished:
    """What becomes of a document that could not be fetched."""
    match error:
        case DocumentVanished():
            return Vanished(ref)
        case UnreadableDocument():
            return Unread(ref, "fetch", error.code, str(error))
        case UnsupportedDocument():
            return LeftOut(ref, error.reason)
