"""XML without its tags: a line for each element with a text, a heading for each title."""

import re
from dataclasses import dataclass, field
from typing import Protocol
from xml.parsers import expat

from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentId, Markup, ParsedDocument
from pipeline.parsing.decoding import clean
from pipeline.parsing.readings import Reading

TITLE_CHARS_MAX = 300
_SPACE = re.compile(r"\s+")


def read_xml(data: bytes) -> Reading:
    """
    Raises:
        UnreadableDocument: it is not well-formed, or declares a document type: entities could be anything.
    """
    text = _Text()
    walk(data, text)
    body = "\n".join(text.lines).strip("\n")
    return Reading(ParsedDocument(DocumentId("xml"), body, Markup.MARKDOWN, title=text.title))


class Listener(Protocol):
    """Is told of elements and of the text between them, in their order."""

    def start(self, name: str, attributes: dict[str, str], /) -> None: ...
    def end(self, name: str, /) -> None: ...
    def add(self, text: str, /) -> None: ...


def walk(data: bytes, listener: Listener) -> None:
    """Tell `listener` all that is in an XML document; of names also their prefixes.

    Raises:
        UnreadableDocument: as `read_xml`.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = listener.start
    parser.EndElementHandler = listener.end
    parser.CharacterDataHandler = listener.add
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the others for an encoding that nobody knows
        raise UnreadableDocument("broken_xml", "the XML is not well-formed") from error


def _refuse_document_type(*_: object) -> None:
    raise UnreadableDocument("document_type", "the XML declares a document type, which is not read")


@dataclass(slots=True)
class _Text:
    """The text so far. It keeps no tree: a million elements in each other cost a few bytes each."""

    lines: list[str] = field(default_factory=list)
    title: str | None = None
    _words: list[str] = field(default_factory=list)  # of the line that is being written
    _has_words: list[bool] = field(default_factory=lambda: [False])  # of each open element, directly
    _titled: list[bool] = field(default_factory=lambda: [False])
    _titles_open: int = 0  # open elements that have a title

    def start(self, _name: str, _attributes: dict[str, str]) -> None:
        if not self._has_words[-1]:  # else it stands in the middle of a sentence
            self._end_line()
        self._has_words.append(False)
        self._titled.append(False)

    def add(self, text: str) -> None:
        self._words.append(text)
        if not self._has_words[-1] and not text.isspace():
            self._has_words[-1] = True

    def end(self, name: str) -> None:
        had_words = self._has_words.pop()
        self._titles_open -= self._titled.pop()
        if name.rpartition(":")[2] == "title" and had_words and not self._has_words[-1]:
            self._end_title()
        elif not self._has_words[-1]:
            self._end_line()

    def _end_line(self) -> None:
        line = _SPACE.sub(" ", clean("".join(self._words))).strip()
        self._words.clear()
        if line:
            self.lines.append(line)

    def _end_title(self) -> None:
        words = _SPACE.sub(" ", clean("".join(self._words))).strip()
        self._words.clear()
        if words:
            self._titles_open += not self._titled[-1]
            self._titled[-1] = True
            self.title = self.title or words[:TITLE_CHARS_MAX]
            self.lines += ["", f"{'#' * min(self._titles_open, 6)} {words}", ""]
