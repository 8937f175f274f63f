"""Markdown, with what its front matter says of the document."""

import re
from collections.abc import Mapping

import yaml
import yamlcore

from pipeline.model import DocumentRef, Markup, ParsedDocument
from pipeline.parsing.decoding import clean
from pipeline.parsing.metadata import as_time, metadata_of

FRONT_MATTER_CHARS_MAX = 64 * 1024

# PyYAML's constructor overflows the C stack on some ten thousand levels, and each alias can double what it makes.
NESTING_MAX = 20
ALIASES_MAX = 10

TITLE_CHARS_MAX = 300
FIRST_HEADING_CHARS_MAX = 100_000  # a heading further in is not the title

_MODIFIED_KEYS = ("updated_at", "updated", "modified", "modified_at", "last_modified", "lastmod", "last_updated")
_FRONT_MATTER_END = re.compile(r"^(?:---|\.\.\.)[ \t]*$\n?", re.MULTILINE)


def parse_markdown(ref: DocumentRef, text: str) -> ParsedDocument:
    """The text behind the front matter. Front matter that cannot be read is a part of the text."""
    front_matter, body = split_front_matter(text)
    title = front_matter.get("title")
    words = " ".join(clean(str(title)).split()) if isinstance(title, str | int | float) else ""
    modified_at = (as_time(front_matter[key]) for key in _MODIFIED_KEYS if key in front_matter)
    return ParsedDocument(
        ref.id,
        body,
        Markup.MARKDOWN,
        title=words or first_heading(body) or ref.title,
        modified_at=next((moment for moment in modified_at if moment is not None), None),
        metadata=metadata_of({key: value for key, value in front_matter.items() if key != "title"}),
    )


def split_front_matter(text: str) -> tuple[Mapping[str, object], str]:
    """The front matter's values and the text behind it; nothing and the whole text if it has none that is sound."""
    if not text.startswith("---") or text[3:].partition("\n")[0].strip():
        return {}, text
    start = text.find("\n") + 1
    end = _FRONT_MATTER_END.search(text, start, start + FRONT_MATTER_CHARS_MAX)
    if start == 0 or end is None:
        return {}, text
    try:
        values = _load(text[start : end.start()])
        metadata_of(values)  # raises if a value contains itself
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, text
    return values, text[end.end() :].lstrip("\n")


def _load(front_matter: str) -> Mapping[str, object]:
    nesting = aliases = 0
    for event in yaml.parse(front_matter, Loader=yamlcore.CCoreLoader):
        nesting += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if nesting > NESTING_MAX or aliases > ALIASES_MAX:
            raise ValueError("the front matter is too deep or has too many aliases")
    values = yaml.load(front_matter, Loader=yamlcore.CCoreLoader)  # noqa: S506 - makes plain values only
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError("the front matter is not a mapping")  # noqa: TRY004 - the caller takes it for text
    return {str(key): value for key, value in values.items()}


# ---------------------------------------------------------------------------------------------- headings

_HEADING_OR_FENCE = re.compile(
    r"^ {0,3}#{1,6}[ \t]+(?P<words>\S[^\n]*)$"
    r"|^ {0,3}(?P<underlined>[^\s>#`~|=-][^\n]*)\n {0,3}(?:={2,}|-{3,})[ \t]*$"
    r"|^[ \t]*(?P<fence>`{3,}|~{3,})",
    re.MULTILINE,
)
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_DECORATION = re.compile(r"<[^<>]*>|\\(?=[^\w\s])|[*`]+|\{[#.][^{}]*\}\s*$|[ \t]#+\s*$|¶")


def first_heading(text: str) -> str | None:
    """The words of the first heading outside of fenced code, without what marks them up."""
    position = 0
    while found := _HEADING_OR_FENCE.search(text, position, FIRST_HEADING_CHARS_MAX):
        fence = found["fence"]
        if fence is None:
            words = (found["words"] or found["underlined"])[:TITLE_CHARS_MAX]
            return " ".join(_DECORATION.sub("", _LINK.sub(r"\1", words)).split()) or None
        closing = text.find("\n" + fence, found.end())  # deeper indentation is not worth more care for a title
        if closing < 0:
            return None
        position = closing + 1 + len(fence)
    return None
