"""HTML to Markdown: the main text of a page, and what its head says of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.errors import UnreadableDocument
from pipeline.html_elements import main_element
from pipeline.model import DocumentRef, Markup, MetadataValue, ParsedDocument
from pipeline.parsing.decoding import clean, require_text_kept
from pipeline.parsing.markdown import first_heading
from pipeline.parsing.metadata import as_time, metadata_of

_BOILERPLATE = (
    ".headerlink",  # the pilcrows of Sphinx
    ".viewcode-link",
    "nav",
    '[role="navigation"]',
    '[role="search"]',
    '[aria-hidden="true"]',
    "button",
    "select",
    "svg",
)
_BOILERPLATE_AROUND_MAIN = (
    "body > header",
    "body > footer",
    '[role="banner"]',
    '[role="contentinfo"]',
    "footer",
    ".related",  # Sphinx
    ".sphinxsidebar",
    ".navheader",  # DocBook
    ".navfooter",
    ".docnav",  # Publican's DocBook
)
HEAD_CHARS_MAX = 256 * 1024
_HEAD_END = re.compile(r"</head\s*>|<body\b", re.IGNORECASE)
_MODIFIED_KEYS = ("article-modified_time", "og-updated_time", "last-modified", "dcterms.modified", "modified")
_DATE_KEYS = ("article-published_time", "date", "dcterms.date", "dc.date", "dcterms.created")


def parse_html(ref: DocumentRef, html: str) -> ParsedDocument:
    """The page's main element as Markdown, without navigation, links' targets and images; the whole page if it
    does not say which is its main element.

    Raises:
        UnreadableDocument: it is nested too deeply, or no text is left.
    """
    main = main_element(html)
    text = _to_markdown(main, _BOILERPLATE) if main is not None else ""
    if not text.strip():  # often filled in by a script, in a page that has text for those who run none
        text = _to_markdown(html, _BOILERPLATE + _BOILERPLATE_AROUND_MAIN)
    require_text_kept(html, text)

    head = _read_head(html)
    return ParsedDocument(
        ref.id,
        text,
        Markup.MARKDOWN,
        title=head.title or first_heading(text) or ref.title,
        modified_at=head.modified_at,
        metadata=head.metadata,
    )


def _to_markdown(html: str, boilerplate: tuple[str, ...]) -> str:
    import html_to_markdown  # noqa: PLC0415 - slow to import, and not every source has HTML

    options = html_to_markdown.ConversionOptions(
        extract_metadata=False,
        skip_images=True,
        strip_tags=["a"],  # keeps the words and spends nothing on addresses
        exclude_selectors=list(boilerplate),
        hidden_content="reachable",  # inactive tabs and folded sections are text as well
        compact_tables=True,
        autolinks=False,
    )
    try:
        result = html_to_markdown.convert(html, options)
    except html_to_markdown.exceptions.ConversionError as error:
        raise UnreadableDocument(type(error).__name__, "the HTML could not be converted") from error
    if any(str(warning.kind) == "depth_limit_exceeded" for warning in result.warnings):
        raise UnreadableDocument("too_deep", "the HTML's elements are nested too deeply")
    return clean(result.content or "").strip("\n")


@dataclass(frozen=True, slots=True)
class _Head:
    """What a page says of itself."""

    title: str | None = None
    modified_at: datetime | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


def _read_head(html: str) -> _Head:
    import html_to_markdown  # noqa: PLC0415 - see above

    end = _HEAD_END.search(html)
    head = html[: min(end.start() if end else len(html), HEAD_CHARS_MAX)]
    try:
        said = html_to_markdown.convert(head).metadata.document
    except html_to_markdown.exceptions.ConversionError:
        return _Head()
    tags = {name.lower(): value for name, value in said.meta_tags.items()}
    times = (as_time(tags.get(key)) for key in _MODIFIED_KEYS)
    return _Head(
        " ".join(clean(said.title or "").split()) or None,
        next((time for time in times if time is not None), None),
        metadata_of(
            {
                "description": said.description,
                "author": said.author,
                "keywords": said.keywords,
                "date": next((tags[key] for key in _DATE_KEYS if key in tags), None),
            }
        ),
    )
