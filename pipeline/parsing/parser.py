"""Chooses how a document is read."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import (
    Document,
    DocumentRef,
    LeftOutPart,
    MetadataValue,
    Parsed,
    ParsedDocument,
    UnreadPart,
)
from pipeline.parsing.csv import parse_csv
from pipeline.parsing.decoding import decode, find_encoding
from pipeline.parsing.jsonl import parse_json_lines
from pipeline.parsing.lines import LineIds
from pipeline.parsing.markdown import parse_markdown
from pipeline.parsing.media_types import (
    TEXTUAL,
    Kind,
    charset_of,
    has_documents_extra,
    kind_of,
    name_of,
    reason_to_leave_out,
    suffix_of_path,
    zstd_library,
)
from pipeline.parsing.metadata import metadata_of
from pipeline.parsing.reading_process import ReadingLimits, ReadingProcess
from pipeline.parsing.readings import Content, Member, Reading, UnpackingLimits
from pipeline.parsing.rules import ParsingLimits, ParsingRules
from pipeline.parsing.text import parse_text

DEFAULT_RULES = ParsingRules()
MAIL_TEXT = "message"  # the part of a mail with attachments that is the mail itself

KINDS_VERSION = 1  # one more whenever another kind of content can be read
BREAKS_MAX = 3  # files in one document that crash or block whoever reads them
CONTENTS_AT_ONCE = 10  # how many times the time of one content all files in a document may take

_BROKEN_READER = ("parser_crashed", "parser_too_slow")


class Parser:
    """Reads text, source code, Markdown, HTML, JSON Lines, CSV, mails, notebooks, archives and what is compressed; with
    the extra `documents` also PDF, office documents and books.

    A document's media type decides which of these it is; if it has none, its name does, and at last its first
    bytes. An empty text is a document with a blank text, but a JSON Lines or CSV file without lines has no documents.
    What may break or hang whoever reads it is read by a process of its own.
    """

    def __init__(self, rules: ParsingRules = DEFAULT_RULES) -> None:
        self._rules = rules
        self._reader = ReadingProcess(ReadingLimits(content_s=rules.limits.document_s))

    @property
    def abilities(self) -> str:
        extras = {"documents": has_documents_extra(), "zstd": zstd_library() is not None}
        return ", ".join([f"kinds {KINDS_VERSION}", *(extra for extra, is_there in extras.items() if is_there)])

    def reason_to_skip(self, ref: DocumentRef) -> str | None:
        return reason_to_leave_out(name_of(ref))

    def parse(self, document: Document) -> Iterator[Parsed]:
        content = Content(name_of(document.ref), document.content, document.media_type)
        said = metadata_of(document.metadata) if document.metadata else {}
        try:
            for parsed in self._parse(document.ref, content, None, depth=0):
                yield _with_metadata(parsed, said) if said else parsed
        except RecursionError as error:
            raise UnreadableDocument("too_deep", "the content is nested too deeply") from error

    def _parse(self, ref: DocumentRef, content: Content, budget: "_Budget | None", depth: int) -> Iterator[Parsed]:
        kind = kind_of(content)
        if kind not in TEXTUAL:
            if not content.data:
                raise UnsupportedDocument("empty file")
            yield from self._read(ref, kind, content, budget, depth)
            return
        data, forced = content.data, self._rules.encoding
        encoding = find_encoding(
            data, forced=forced, declared=charset_of(content.media_type), is_html=kind is Kind.HTML
        )
        match kind:
            case Kind.MARKDOWN:
                yield parse_markdown(ref, decode(data, encoding))
            case Kind.HTML:
                page = content._replace(data=decode(data, encoding).encode())
                yield from self._read(ref, kind, page, budget, depth)
            case Kind.JSON_LINES:
                yield from parse_json_lines(ref, data, encoding, self._rules.jsonl)
            case Kind.CSV:
                yield from parse_csv(ref, data, encoding, self._rules.csv, is_tab_separated=_is_tab_separated(content))
            case Kind.XML if self._rules.xml_as_text:
                yield from self._read(ref, kind, content, budget, depth)
            case _:
                yield parse_text(ref, decode(data, encoding))

    def _read(
        self, ref: DocumentRef, kind: Kind, content: Content, budget: "_Budget | None", depth: int
    ) -> Iterator[Parsed]:
        """Have `content` read by the other process; what is in it is read like any document."""
        budget = budget or _Budget(self._rules.limits)
        reading = budget.spend(self._reader, kind, content, self._rules.encoding, is_outermost=depth == 0)
        if reading.text is not None and not reading.members and not reading.is_cut_off:
            yield _identified(ref, reading.text, reading.metadata)
            return
        if depth == self._rules.limits.depth:
            raise UnreadableDocument(
                "too_deep", "files are packed in files too many times; `parsing.limits.depth` allows more"
            )
        if reading.is_wrapped:
            (member,) = reading.members
            yield from self._parse(ref, member.content, budget, depth + 1)
            return
        ids = LineIds(ref.id)
        if reading.text is not None:
            whole = ref._replace(id=ids.id_for(MAIL_TEXT))
            if reading.text.text.strip() or not reading.is_cut_off:
                yield _identified(whole, reading.text, reading.metadata)
        for member in reading.members:
            part = ref._replace(id=ids.id_for(_part_name(member.content.name)), title=_title(member))
            yield from self._parse_member(part, member, reading, budget, depth)
        if reading.is_cut_off:  # nothing may be concluded from what is not there
            raise UnreadableDocument("cut_off", "it ends in the middle of its parts; those that are there were read")

    def _parse_member(
        self, part: DocumentRef, member: Member, reading: Reading, budget: "_Budget", depth: int
    ) -> Iterator[Parsed]:
        if member.problem is not None:
            yield UnreadPart(part.id, *member.problem)
            return
        if member.left_out is not None:
            yield LeftOutPart(part.id, member.left_out)
            return
        try:
            for parsed in self._parse(part, member.content, budget, depth + 1):
                yield _completed(parsed, member, reading.metadata)
        except UnreadableDocument as error:
            yield UnreadPart(part.id, error.code, str(error))
        except UnsupportedDocument as error:
            yield LeftOutPart(part.id, error.reason)


@dataclass(slots=True)
class _Budget:
    """What may still be spent on one document and all that is packed in it."""

    limits: ParsingLimits
    bytes_spent: int = 0
    entries_spent: int = 0
    seconds_spent: float = 0.0
    breaks: int = 0

    def spend(
        self, reader: ReadingProcess, kind: Kind, content: Content, encoding: str | None, *, is_outermost: bool
    ) -> Reading:
        """What `reader` reads in `content`.

        Raises:
            UnreadableDocument: as it says, or too much was spent already.
        """
        limits = self.limits
        if self.breaks >= BREAKS_MAX:
            raise UnreadableDocument(
                "not_tried", f"{BREAKS_MAX} files beside this one broke the process that read them, or blocked it"
            )
        if self.seconds_spent > CONTENTS_AT_ONCE * limits.document_s:
            raise UnreadableDocument(
                "parser_too_slow", "the files beside this one took too long; `parsing.limits.document_s` allows more"
            )
        unpacking = UnpackingLimits(limits.unpacked_bytes - self.bytes_spent, limits.entries - self.entries_spent)
        begun = time.monotonic()
        try:
            reading = reader.read(kind, content, encoding, unpacking)
        except UnreadableDocument as error:
            self.breaks += error.code in _BROKEN_READER
            raise
        finally:
            self.seconds_spent += time.monotonic() - begun
        if not (reading.is_wrapped and is_outermost):  # an archive that was compressed is not there beside its files
            self.bytes_spent += sum(len(member.content.data) for member in reading.members)
        self.entries_spent += len(reading.members)
        return reading


def _with_metadata(parsed: Parsed, said: Mapping[str, MetadataValue]) -> Parsed:
    return replace(parsed, metadata={**parsed.metadata, **said}) if isinstance(parsed, ParsedDocument) else parsed


def _identified(ref: DocumentRef, text: ParsedDocument, metadata: Mapping[str, MetadataValue]) -> ParsedDocument:
    return replace(text, id=ref.id, title=text.title or ref.title, metadata={**metadata, **text.metadata})


def _completed(parsed: Parsed, member: Member, metadata: Mapping[str, MetadataValue]) -> Parsed:
    """`parsed`, with what only the file around it says of it."""
    if not isinstance(parsed, ParsedDocument):
        return parsed
    modified_at = parsed.modified_at or member.modified_at
    return replace(parsed, modified_at=modified_at, metadata={**metadata, **parsed.metadata})


def _part_name(name: str) -> str:
    """`name` in an id, in which `#` stands between a document and its part."""
    return name.replace("#", "%23")


def _title(member: Member) -> str:
    return member.content.name.rpartition("/")[2]


def _is_tab_separated(content: Content) -> bool:
    return suffix_of_path(content.name) == ".tsv" or (content.media_type or "").startswith("text/tab")
