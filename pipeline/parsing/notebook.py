"""Jupyter notebooks: their prose as it stands, their code in fences. What the code printed is left out."""

import json
import re
from collections.abc import Iterator, Mapping

from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentId, Markup, ParsedDocument
from pipeline.parsing.decoding import clean
from pipeline.parsing.markdown import first_heading
from pipeline.parsing.metadata import metadata_of
from pipeline.parsing.readings import Reading

_BACKTICKS = re.compile(r"`{3,}")


def read_notebook(text: str) -> Reading:
    """
    Raises:
        UnreadableDocument: this is no notebook.
    """
    try:
        notebook = json.loads(text)
    except ValueError as error:
        raise UnreadableDocument("broken_json", "the notebook is not valid JSON") from error
    if not isinstance(notebook, dict) or not isinstance(_cells(notebook), list):
        raise UnreadableDocument("not_a_notebook", "this JSON is no notebook: it has no cells")
    about = notebook.get("metadata")
    about = about if isinstance(about, dict) else {}
    markdown = "\n\n".join(_rendered(_cells(notebook), _language(about)))
    title = about.get("title")
    authors = about.get("authors")
    names = [author.get("name") for author in authors if isinstance(author, dict)] if isinstance(authors, list) else []
    return Reading(
        ParsedDocument(
            DocumentId("notebook"),
            markdown,
            Markup.MARKDOWN,
            title=(" ".join(clean(title).split()) if isinstance(title, str) else "") or first_heading(markdown),
            metadata=metadata_of({"authors": names, "language": _language(about)}),
        )
    )


def _cells(notebook: Mapping[str, object]) -> object:
    """The list of cells, also of the third format, which had them in sheets."""
    sheets = notebook.get("worksheets")
    if isinstance(sheets, list):
        found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        return [cell for cells in found if isinstance(cells, list) for cell in cells]
    return notebook.get("cells")


def _language(about: Mapping[str, object]) -> str:
    for name, key in (("language_info", "name"), ("kernelspec", "language")):
        said = about.get(name)
        language = said.get(key) if isinstance(said, dict) else None
        if isinstance(language, str) and re.fullmatch(r"[\w+#.-]{1,30}", language):
            return language
    return ""


def _rendered(cells: object, language: str) -> Iterator[str]:
    for cell in cells if isinstance(cells, list) else ():
        if not isinstance(cell, dict):
            continue
        kind = cell.get("cell_type")
        source = clean(_joined(cell.get("source", cell.get("input")))).strip("\n")
        if not source.strip():
            continue
        if kind == "code":
            fence = max(_BACKTICKS.findall(source), key=len, default="``") + "`"
            yield f"{fence}{language}\n{source}\n{fence}"
        elif kind == "heading":
            level = cell.get("level")
            yield f"{'#' * min(max(level if isinstance(level, int) else 1, 1), 6)} {source}"
        else:
            yield source


def _joined(source: object) -> str:
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""
