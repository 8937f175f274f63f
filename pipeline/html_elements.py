"""Which part of a page of HTML is its main text. Told by its tags alone: no page makes this slow, or fail."""

import re
from collections.abc import Callable

_TAG = re.compile(r"<!--|<(?P<close>/?)(?P<name>[a-z][a-z0-9-]*)(?P<attributes>[^<>]*)>", re.IGNORECASE)
_ROLE_MAIN = re.compile(r"\brole\s*=\s*[\"']?main\b", re.IGNORECASE)
_WITHOUT_TAGS_INSIDE = {"script", "style", "textarea", "title", "template", "noscript", "iframe", "svg"}


def main_element(html: str) -> str | None:
    """The HTML of the elements that are the page's main text, or of its only article; None if it does not say."""
    mains = _outermost_elements(html, lambda name, attributes: name == "main" or bool(_ROLE_MAIN.search(attributes)))
    if mains:
        return "\n".join(mains)
    articles = _outermost_elements(html, lambda name, _: name == "article")
    return articles[0] if len(articles) == 1 else None


def _outermost_elements(html: str, is_wanted: Callable[[str, str], bool]) -> list[str]:
    """The elements whose name and attributes are wanted, but for those inside another such one."""
    elements = []
    position = start = depth = 0
    wanted = ""  # the name of the element that is open, `depth` times in each other
    while found := _TAG.search(html, position):
        position = found.end()
        if found["name"] is None:
            position = _behind(html, "-->", position)
            continue
        name, is_closing = found["name"].lower(), bool(found["close"])
        if name in _WITHOUT_TAGS_INSIDE and not is_closing and not found["attributes"].endswith("/"):
            position = _behind(html, f"</{found['name']}", position)
        elif depth == 0 and not is_closing and is_wanted(name, found["attributes"]):
            wanted, depth, start = name, 1, found.start()
        elif depth > 0 and name == wanted:
            depth += -1 if is_closing else 1
            if depth == 0:
                elements.append(html[start:position])
    if depth > 0:
        elements.append(html[start:])
    return elements


def _behind(html: str, marker: str, position: int) -> int:
    """The position behind the next `marker`; behind everything if there is none, as browsers have it."""
    found = html.find(marker, position)
    return found + len(marker) if found >= 0 else len(html)
