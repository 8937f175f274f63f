"""The texts that a plan would change, on a terminal or in a pipe."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from pipeline.reporting.text import PLAIN, Style, amount

_SIGNS = {"added": "+", "changed": "~", "renewed": "~", "removed": "-"}
_SIGN_COLORS = {"+": "green", "~": "yellow", "-": "red"}
_LINE_COLORS = {"+": "green", "-": "red", "@": "dim", " ": "dim"}
_INDENT = "      "


class ShownRecord(Protocol):
    @property
    def lines(self) -> Sequence[str]: ...


class ShownDocument(Protocol):
    @property
    def document(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def records(self) -> Sequence[ShownRecord]: ...
    @property
    def records_left_out(self) -> int: ...
    @property
    def lines_left_out(self) -> int: ...


def render_diffs(name: str, documents: Sequence[ShownDocument], *, left_out: int, style: Style = PLAIN) -> str:
    """Return the changes of the texts of a source, without a newline at its end.

    `left_out` is how many more documents change. What documents say is made harmless, whatever it is.
    """
    return "\n".join(_lines(name, documents, left_out, style))


def _lines(name: str, documents: Sequence[ShownDocument], left_out: int, style: Style) -> Iterator[str]:
    yield f"{style.paint(style.text(name), 'bold')}  {_heading(len(documents), left_out)}"
    for document in documents:
        sign = _SIGNS.get(document.outcome, "~")
        yield ""
        yield f"    {style.paint(sign, _SIGN_COLORS[sign])} {style.text(document.document)}  {document.outcome}"
        for number, record in enumerate(document.records):
            if number and record.lines:
                yield _INDENT + style.paint("...", "dim")
            for line in record.lines:
                shown = "..." if line == "@" else style.text(line)
                yield (_INDENT + style.paint(shown, _LINE_COLORS.get(line[:1], "dim"))).rstrip()
        if notice := _notice(document):
            yield _INDENT + style.paint(notice, "dim")


def _heading(shown: int, left_out: int) -> str:
    if not shown:
        return "no text would change"
    if left_out:
        return f"the texts of the first {shown:,} of {shown + left_out:,} documents that would change"
    return f"the texts of {amount(shown, 'document')} that would change"


def _notice(document: ShownDocument) -> str:
    left_out = [
        amount(document.lines_left_out, "line") if document.lines_left_out else "",
        amount(document.records_left_out, "record") if document.records_left_out else "",
    ]
    words = " and ".join(filter(None, left_out))
    return f"({words} more)" if words else ""
