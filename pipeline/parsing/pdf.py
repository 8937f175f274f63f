"""PDF: the text of its pages, with the titles of its outline as headings."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import DocumentId, Markup, ParsedDocument
from pipeline.parsing.decoding import clean
from pipeline.parsing.metadata import as_time, metadata_of
from pipeline.parsing.readings import Reading

TITLE_CHARS_MAX = 300
OUTLINE_MAX = 10_000  # entries; one that leads round in circles has no end
TEXT_CHARS_MAX = 50_000_000

_SOFT_HYPHEN = "\ufffe"  # PDFium's sign for a hyphen that only stood at the end of a line
_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"(?:(?:chapter|section|appendix|part)\s+)?(?:\d+|[A-Z])(?:\.\d+)*[.:)]?\s+", re.IGNORECASE)
_LOOKS_LIKE_MARKDOWN = re.compile(r"^(?=#{1,6}(?:\s|$)|`{3}|~{3})", re.MULTILINE)
_TIME = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:([+-])(\d\d)'?(\d\d)?'?)?")
# What programs write when nobody gave a title.
_NO_TITLE = re.compile(
    r"untitled.*|.*\.(?:docx?|dvi|pdf|tex|indd|qxd|rtf|pptx?|xlsx?)|(?:microsoft \w+ - )", re.IGNORECASE
)


def read_pdf(data: bytes) -> Reading:
    """
    Raises:
        UnreadableDocument: it is broken, or its text is too long.
        UnsupportedDocument: it is encrypted, or there is no text in it, as in one that was scanned.
    """
    import pypdfium2  # noqa: PLC0415 - an extra, and native code that the run's own process must not load

    try:
        with pypdfium2.PdfDocument(data) as document:
            return _read(document)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in _ENCRYPTED:
            raise UnsupportedDocument("encrypted PDF") from error
        raise UnreadableDocument("broken_pdf", "the PDF cannot be read: it may be cut off") from error


_ENCRYPTED = {4, 5}  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY


def _read(document: Any) -> Reading:
    outline = _outline(document)
    pages, has_headings, characters = [], False, 0
    for number in range(len(document)):
        text = _page_text(document, number)
        characters += len(text)
        if characters > TEXT_CHARS_MAX:
            raise UnreadableDocument("too_large", f"the PDF has more than {TEXT_CHARS_MAX:,} characters")
        text, has_some = _with_headings(text, outline.get(number, []))
        has_headings = has_headings or has_some
        pages.append(text)
    if not any(page.strip() for page in pages):
        raise UnsupportedDocument("PDF without text")
    said = document.get_metadata_dict()
    title = _SPACE.sub(" ", clean(said.get("Title", ""))).strip()[:TITLE_CHARS_MAX]
    return Reading(
        ParsedDocument(
            DocumentId("pdf"),
            "\n\n".join(page for page in pages if page.strip()),
            Markup.MARKDOWN if has_headings else Markup.PLAIN,
            title=None if _NO_TITLE.fullmatch(title) else title or None,
            modified_at=as_time(_time(said.get("ModDate", "")) or _time(said.get("CreationDate", ""))),
            metadata=metadata_of(
                {
                    "author": said.get("Author"),
                    "subject": said.get("Subject"),
                    "keywords": said.get("Keywords"),
                    "created": _time(said.get("CreationDate", "")),
                    "pages": len(document),
                }
            ),
        )
    )


def _page_text(document: Any, number: int) -> str:
    import pypdfium2  # noqa: PLC0415 - see above

    try:
        page = document[number]
    except pypdfium2.PdfiumError as error:
        raise UnreadableDocument("broken_pdf", f"page {number + 1} of the PDF cannot be read") from error
    try:
        text_page = page.get_textpage()
        try:
            text = text_page.get_text_range()
        finally:
            text_page.close()
    finally:
        page.close()
    return clean(text.replace(_SOFT_HYPHEN + "\r\n", "").replace(_SOFT_HYPHEN, "")).strip("\n")


def _time(text: str) -> str | None:
    """A PDF's time as ISO 8601."""
    found = _TIME.match(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    zone = f"{sign}{zone_hours}:{zone_minutes or '00'}" if sign else "+00:00"
    return f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}{zone}"


# ---------------------------------------------------------------------------------------------- headings


def _outline(document: Any) -> dict[int, list[tuple[int, str]]]:
    """The titles of the outline with their levels from 1, by the page that they lead to."""
    titles: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for level, title, page in _entries(document):
        titles[page].append((min(level + 1, 6), title))
    return titles


def _entries(document: Any) -> Iterator[tuple[int, str, int]]:
    for count, bookmark in enumerate(document.get_toc()):
        if count == OUTLINE_MAX:
            return
        destination = bookmark.get_dest()
        page = destination.get_index() if destination is not None else None
        title = _SPACE.sub(" ", clean(bookmark.get_title())).strip()
        if page is not None and title:
            yield bookmark.level, title, page


def _with_headings(text: str, titles: list[tuple[int, str]]) -> tuple[str, bool]:
    """The page's text with the lines that are titles of the outline as Markdown headings."""
    if not titles:
        return _LOOKS_LIKE_MARKDOWN.sub("\\\\", text), False
    levels: dict[str, int] = {}
    for level, title in titles:
        levels.setdefault(_bare(title), level)
    lines, has_headings = [], False
    for line in text.split("\n"):
        level = levels.pop(_bare(line), 0) if len(line) <= TITLE_CHARS_MAX else 0
        has_headings = has_headings or level > 0
        lines.append(f"\n{'#' * level} {line.strip()}\n" if level else _LOOKS_LIKE_MARKDOWN.sub("\\\\", line))
    return "\n".join(lines).strip("\n"), has_headings


def _bare(title: str) -> str:
    words = _SPACE.sub(" ", title).strip()
    return _NUMBER.sub("", words, count=1).casefold() or words.casefold()
