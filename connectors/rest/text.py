"""Text of the nested kinds in which some APIs keep it, as Markdown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

DEPTH_MAX = 100

Node = Mapping[str, Any]


class NoText(Exception):
    """A value is of a kind that has no text of the format that it should be of."""


def as_text(value: object, text_format: str) -> str | None:
    """The text that a value of a record stands for; None if there is none.

    Lists are joined: words and numbers by line breaks, others by blank lines.

    Raises:
        NoText: the value is nested in a way that the format does not know.
    """
    match value:
        case None:
            return None
        case list():
            texts = [text for item in value if (text := as_text(item, text_format))]
            return ("\n" if text_format in ("plain", "markdown", "html") else "\n\n").join(texts)
        case dict() if text_format == "adf":
            return adf_to_markdown(value)
        case dict() if text_format == "notion":
            return notion_to_markdown(value)
        case dict():
            raise NoText(f"it has an object where `format: {text_format}` needs text")
        case str() if text_format == "adf" and value.lstrip().startswith("{"):  # as Confluence gives it
            return as_text(_parsed(value), "adf")
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NoText("it has words where the Atlassian Document Format has a tree") from None


# --------------------------------------------------------------------------------- Atlassian Document Format


def adf_to_markdown(document: Node) -> str:
    """The Markdown of a tree of the Atlassian Document Format; what it does not know is passed through by its text."""
    return "\n\n".join(_adf_blocks(document, 0))


def _children(node: Node) -> list[Node]:
    content = node.get("content")
    return [child for child in content if isinstance(child, dict)] if isinstance(content, list) else []


def _attribute(node: Node, name: str) -> Any:
    attributes = node.get("attrs")
    return attributes.get(name) if isinstance(attributes, dict) else None


def _adf_blocks(node: Node, depth: int) -> list[str]:
    """The blocks that a node becomes, none of them blank."""
    if depth > DEPTH_MAX:
        raise NoText("it is nested too deeply")
    kind = node.get("type")
    match kind:
        case "paragraph":
            blocks = [_adf_inline(node)]
        case "heading":
            level = _attribute(node, "level")
            blocks = [f"{'#' * (level if isinstance(level, int) and 1 <= level <= 6 else 1)} {_adf_inline(node)}"]
        case "codeBlock":
            blocks = [_fenced(_adf_inline(node), str(_attribute(node, "language") or ""))]
        case "rule":
            blocks = ["---"]
        case "bulletList" | "orderedList" | "taskList" | "decisionList":
            blocks = [_list(_adf_items(node, depth))]
        case "blockquote":
            blocks = [_quoted("\n\n".join(_adf_below(node, depth)))]
        case "table":
            blocks = [_adf_table(node, depth)]
        case "expand" | "nestedExpand":
            blocks = [str(_attribute(node, "title") or ""), *_adf_below(node, depth)]
        case _ if not _children(node):
            blocks = [_adf_leaf(node)]
        case _ if _is_inline(node):
            blocks = [_adf_inline(node)]
        case _:
            blocks = _adf_below(node, depth)
    return [block for block in blocks if block.strip()]


def _adf_below(node: Node, depth: int) -> list[str]:
    return [block for child in _children(node) for block in _adf_blocks(child, depth + 1)]


def _is_inline(node: Node) -> bool:
    return any(child.get("type") == "text" for child in _children(node))


def _adf_items(node: Node, depth: int) -> Iterator[tuple[str, list[str]]]:
    for number, item in enumerate(_children(node), start=1):
        match node.get("type"):
            case "orderedList":
                mark = f"{number}."
            case "taskList":
                mark = "- [x]" if _attribute(item, "state") == "DONE" else "- [ ]"
            case _:
                mark = "-"
        yield mark, _adf_blocks(item, depth + 1)


def _adf_table(node: Node, depth: int) -> str:
    rows = [
        ["\n".join(_adf_below(cell, depth + 2)) for cell in _children(row)]
        for row in _children(node)
        if row.get("type") == "tableRow"
    ]
    return _table(rows)


def _adf_inline(node: Node) -> str:
    return "".join(_adf_leaf(child) for child in _children(node)).strip("\n")


def _adf_leaf(node: Node) -> str:
    match node.get("type"):
        case "text":
            return _marked(str(node.get("text") or ""), node)
        case "hardBreak":
            return "\n"
        case "mention" | "status" | "placeholder":
            return str(_attribute(node, "text") or "")
        case "emoji":
            return str(_attribute(node, "text") or _attribute(node, "shortName") or "")
        case "inlineCard" | "blockCard" | "embedCard":
            return str(_attribute(node, "url") or "")
        case "date":
            return _adf_date(_attribute(node, "timestamp"))
        case "media" | "mediaInline":
            return str(_attribute(node, "alt") or "")
        case _:
            return _adf_inline(node) or str(_attribute(node, "text") or "")


def _marked(text: str, node: Node) -> str:
    marks = node.get("marks")
    for mark in marks if isinstance(marks, list) else ():
        if not isinstance(mark, dict) or not text.strip():
            continue
        match mark.get("type"):
            case "code":
                text = f"`{text}`"
            case "strong":
                text = f"**{text}**"
            case "em":
                text = f"*{text}*"
            case "strike":
                text = f"~~{text}~~"
            case "link" if href := _attribute(mark, "href"):
                text = f"[{text}]({href})"
    return text


def _adf_date(milliseconds: object) -> str:
    try:
        return datetime.fromtimestamp(int(str(milliseconds)) / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return ""


# ------------------------------------------------------------------------------------------- blocks of Notion

_NOTION_MARKS: Mapping[str, str] = {
    "heading_1": "#",
    "heading_2": "##",
    "heading_3": "###",
    "bulleted_list_item": "-",
    "numbered_list_item": "1.",
    "quote": ">",
    "callout": ">",
    "toggle": "-",
}


def notion_to_markdown(block: Node) -> str:
    """The Markdown of a block of Notion, without the blocks below it, which are listed by themselves."""
    kind = str(block.get("type") or "")
    said = block.get(kind)
    if not isinstance(said, dict):
        return ""
    text = _rich_text(said.get("rich_text"))
    match kind:
        case "code":
            plain = _rich_text(said.get("rich_text"), is_plain=True)
            return _fenced(plain, str(said.get("language") or "")) if plain else ""
        case "to_do":
            return f"- [{'x' if said.get('checked') is True else ' '}] {text}"
        case "table_row":
            cells = said.get("cells")
            return f"| {' | '.join(_cell(_rich_text(cell)) for cell in cells)} |" if isinstance(cells, list) else ""
        case "equation":
            return f"$${said.get('expression') or ''}$$"
        case "divider":
            return "---"
        case "child_page" | "child_database":
            return str(said.get("title") or "")
        case "bookmark" | "embed" | "link_preview":
            return _rich_text(said.get("caption")) or str(said.get("url") or "")
        case _:
            text = text or _rich_text(said.get("caption"))
            mark = _NOTION_MARKS.get(kind)
            return f"{mark} {text}" if mark and text else text


def _rich_text(runs: object, *, is_plain: bool = False) -> str:
    return (
        "".join(_run(run, is_plain=is_plain) for run in runs if isinstance(run, dict)) if isinstance(runs, list) else ""
    )


def _run(run: Node, *, is_plain: bool) -> str:
    text = str(run.get("plain_text") or "")
    styles = run.get("annotations")
    if is_plain or not text.strip():
        return text
    if isinstance(styles, dict):
        for style, mark in (("code", "`"), ("bold", "**"), ("italic", "*"), ("strikethrough", "~~")):
            if styles.get(style) is True:
                text = f"{mark}{text}{mark}"
    href = run.get("href")
    return f"[{text}]({href})" if isinstance(href, str) else text


# ------------------------------------------------------------------------------------------------- Markdown


def _fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def _list(items: Iterator[tuple[str, list[str]]]) -> str:
    lines = []
    for mark, blocks in items:
        inner = "\n".join(blocks).split("\n")
        width = " " * (2 if mark.startswith("-") else len(mark) + 1)
        lines += [f"{mark} {inner[0]}".rstrip(), *(f"{width}{line}".rstrip() for line in inner[1:])]
    return "\n".join(lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    width = max(len(row) for row in rows)
    written = [f"| {' | '.join([_cell(cell) for cell in row] + [''] * (width - len(row)))} |" for row in rows]
    return "\n".join([written[0], f"|{' --- |' * width}", *written[1:]])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
