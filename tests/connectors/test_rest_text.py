"""Nested text as Markdown."""

from typing import Any

import pytest

from connectors.rest.records import join_parts, without_ending
from connectors.rest.text import DEPTH_MAX, NoText, as_text

Node = dict[str, Any]


def words(text: str, *marks: Node) -> Node:
    return {"type": "text", "text": text, "marks": list(marks)}


def node(kind: str, *content: Node, **attrs: Any) -> Node:
    return {"type": kind, "content": list(content), "attrs": attrs}


def paragraph(*content: Node | str) -> Node:
    return node("paragraph", *(words(item) if isinstance(item, str) else item for item in content))


def item(*content: Node) -> Node:
    return node("listItem", *content)


@pytest.mark.parametrize(
    ("tree", "markdown"),
    [
        (paragraph("a", "b"), "ab"),
        (node("heading", words("Title"), level=3), "### Title"),
        (node("heading", words("Title"), level=99), "# Title"),
        (paragraph("one", {"type": "hardBreak"}, "two"), "one\ntwo"),
        (paragraph(words("x", {"type": "strong"}), words("y", {"type": "em"})), "**x***y*"),
        (paragraph(words("x", {"type": "code"}), words("y", {"type": "strike"})), "`x`~~y~~"),
        (paragraph(words("x", {"type": "link", "attrs": {"href": "https://a.b"}})), "[x](https://a.b)"),
        (paragraph(words("x", {"type": "textColor", "attrs": {"color": "#fff"}})), "x"),
        (node("codeBlock", words("x = 1"), language="python"), "```python\nx = 1\n```"),
        (node("codeBlock", words("```")), "````\n```\n````"),
        (node("rule"), ""),
        (node("bulletList", item(paragraph("a")), item(paragraph("b"))), "- a\n- b"),
        (node("orderedList", item(paragraph("a")), item(paragraph("b"))), "1. a\n2. b"),
        (node("bulletList", item(paragraph("a"), node("bulletList", item(paragraph("b"))))), "- a\n  - b"),
        (node("taskList", node("taskItem", words("a"), state="DONE"), node("taskItem")), "- [x] a\n- [ ]"),
        (node("blockquote", paragraph("a"), paragraph("b")), "> a\n>\n> b"),
        (node("panel", paragraph("a"), panelType="info"), "a"),
        (node("expand", paragraph("a"), title="More"), "More\n\na"),
        (
            node("table", node("tableRow", node("tableHeader", paragraph("h|1")), node("tableHeader", paragraph("h2"))),
                 node("tableRow", node("tableCell", paragraph("a"), paragraph("b")))),
            "| h\\|1 | h2 |\n| --- | --- |\n| a b |  |",
        ),
        (paragraph(node("mention", text="@A"), node("emoji", shortName=":x:"), node("status", text="OK")), "@A:x:OK"),
        (paragraph(node("date", timestamp="1700000000000"), node("inlineCard", url="ftp:x")), "2023-11-14ftp:x"),
        (node("mediaSingle", node("media", alt="a drawing")), "a drawing"),
        (node("layoutSection", node("layoutColumn", paragraph("a")), node("layoutColumn", paragraph("b"))), "a\n\nb"),
        (node("unheard-of", paragraph("a")), "a"),
        ({"type": "paragraph"}, ""),
        ({"type": "doc", "content": "x"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_the_atlassian_document_format_becomes_markdown(tree: Node, markdown: str) -> None:
    expected = "---" if tree.get("type") == "rule" else markdown
    assert as_text({"type": "doc", "content": [tree]}, "adf") == expected


def test_the_atlassian_document_format_may_come_as_words() -> None:
    """Confluence packs the tree into a string."""
    assert as_text('{"type": "doc", "content": [{"type": "text", "text": "a"}]}', "adf") == "a"
    with pytest.raises(NoText):
        as_text('{"type": ', "adf")


def test_what_is_nested_without_end_is_no_text() -> None:
    tree = paragraph("a")
    for _ in range(DEPTH_MAX + 1):
        tree = node("blockquote", tree)
    with pytest.raises(NoText, match="too deeply"):
        as_text(tree, "adf")


def run(text: str, **styles: Any) -> Node:
    href = styles.pop("href", None)
    return {"plain_text": text, "annotations": styles, "href": href}


@pytest.mark.parametrize(
    ("block", "markdown"),
    [
        ({"type": "paragraph", "paragraph": {"rich_text": [run("a"), run("b", bold=True)]}}, "a**b**"),
        ({"type": "heading_3", "heading_3": {"rich_text": [run("a")]}}, "### a"),
        ({"type": "quote", "quote": {"rich_text": [run("a", href="https://a.b")]}}, "> [a](https://a.b)"),
        ({"type": "to_do", "to_do": {"rich_text": [run("a")], "checked": True}}, "- [x] a"),
        ({"type": "code", "code": {"rich_text": [run("a", bold=True)], "language": "sql"}}, "```sql\na\n```"),
        ({"type": "equation", "equation": {"expression": "x"}}, "$$x$$"),
        ({"type": "divider", "divider": {}}, "---"),
        ({"type": "bookmark", "bookmark": {"url": "https://a.b", "caption": []}}, "https://a.b"),
        ({"type": "image", "image": {"caption": [run("a drawing")]}}, "a drawing"),
        ({"type": "child_page", "child_page": {"title": "Other"}}, "Other"),
        ({"type": "table_row", "table_row": {"cells": [[run("a")], [run("b|c")]]}}, "| a | b\\|c |"),
        ({"type": "heading_1", "heading_1": {"rich_text": []}}, ""),
        ({"type": "unsupported", "unsupported": {}}, ""),
        ({"type": "paragraph"}, ""),
        ({"type": "paragraph", "paragraph": {"rich_text": "x"}}, ""),
    ],
)
def test_blocks_of_notion_become_markdown(block: Node, markdown: str) -> None:
    assert as_text(block, "notion") == markdown


def test_items_of_a_list_stand_line_by_line_and_paragraphs_apart() -> None:
    parts = ["a", "- b", "- c", "d", "| e |", "| f |", "1. g", "1. h"]

    assert join_parts(parts) == "a\n\n- b\n- c\n\nd\n\n| e |\n| f |\n\n1. g\n1. h"


@pytest.mark.parametrize(
    ("uri", "written"),
    [
        ("https://a.b/logo.png", "https://a.b/logo%2Epng"),
        ("https://a.b/x.y/page", "https://a.b/x.y/page"),
        ("https://a.b", "https://a.b"),
        ("https://a.b/p?x=1.5#c.d", "https://a.b/p?x=1.5#c.d"),
    ],
)
def test_an_address_is_not_taken_for_a_files(uri: str, written: str) -> None:
    assert without_ending(uri) == written
