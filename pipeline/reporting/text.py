"""Words for people: safe to print wherever they came from, and plain where the stream is."""

import os
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

# Controls, invisible format characters (bidi overrides among them), lone surrogates, line separators.
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Format characters that Persian, Indic scripts and emoji need; they cannot reorder or hide anything.
_JOINERS = frozenset("\u200c\u200d")
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_COLOR_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_SIGNS = {"good": "✓", "warning": "!", "bad": "✗"}
_ASCII_SIGNS = {"good": "+", "warning": "!", "bad": "x"}
_SIGN_COLORS = {"good": "green", "warning": "yellow", "bad": "red"}


def printable(text: str, *, characters_max: int | None = None) -> str:
    """Return `text` on one line, with all escaped that could drive a terminal or pass for another text.

    Longer texts are cut at `characters_max` and end in `...`; None never cuts.
    """
    if characters_max is not None and len(text) > characters_max:
        return printable(text[:characters_max]) + "..."
    if text.isprintable():
        return text
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _ESCAPED_CATEGORIES:
        return character
    code = ord(character)
    long_form = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT_ESCAPES.get(character, long_form)


def has_color(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether `stream` is a terminal whose user did not ask for plain text (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


@dataclass(frozen=True, slots=True)
class Style:
    """What the stream can show. The default suits a pipe: no colour, all of Unicode."""

    is_colored: bool = False
    encoding: str = "utf-8"

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ) -> "Style":
        return cls(is_colored=has_color(stream, environ), encoding=stream.encoding or "ascii")

    def text(self, text: str, *, characters_max: int | None = None) -> str:
        """Return `text`, which came from outside, as one safe line that the stream can encode."""
        safe = printable(text, characters_max=characters_max)
        return safe.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def lines(self, text: str) -> list[str]:
        """Return the lines of `text` that are not blank, each of them safe."""
        return [self.text(line.rstrip()) for line in text.split("\n") if line.strip()]

    def paint(self, text: str, color: str) -> str:
        return f"\x1b[{_COLOR_CODES[color]}m{text}\x1b[0m" if self.is_colored else text

    def sign(self, verdict: str) -> str:
        """Return the sign of a verdict (`good`, `warning` or `bad`): one character wide."""
        can_show = _SIGNS[verdict].encode(self.encoding, "ignore") != b""
        return self.paint((_SIGNS if can_show else _ASCII_SIGNS)[verdict], _SIGN_COLORS[verdict])

    def command(self, *words: str) -> str:
        """Return a `memsync` command line, quoted for a shell."""
        return self.paint(self.text(shlex.join(["memsync", *words])), "cyan")

    def width(self, text: str) -> int:
        """Return the cells that `text`, which is safe already and not painted, takes on a terminal."""
        return _width(text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        """Return aligned lines, never wrapped or cut; columns of numbers are set to the right.

        Cells are safe already and not painted; `-` stands for what is not known.
        """
        columns = list(zip(header, *rows, strict=True))
        widths = [max(_width(cell) for cell in column) for column in columns]
        is_number = [
            all(cell == "-" or (cell[:1].isdigit() and cell[-1:].isdigit()) for cell in column[1:])
            for column in columns
        ]
        lines = [
            "  ".join(map(_padded, row, widths, is_number)).rstrip()  # zip has checked the lengths
            for row in (header, *rows)
        ]
        return [self.paint(lines[0], "bold"), *lines[1:]]


PLAIN = Style()


def _width(text: str) -> int:
    """The cells that `text` takes on a terminal."""
    return sum(
        0 if unicodedata.combining(character) or character in _JOINERS
        else 2 if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )  # fmt: skip


def _padded(cell: str, width: int, is_number: bool) -> str:
    padding = " " * (width - _width(cell))
    return padding + cell if is_number else cell + padding


def amount(count: int, noun: str) -> str:
    """`1 record`, `1,240 records`; nouns ending in `ch` get `es`."""
    plural = noun + ("es" if noun.endswith("ch") else "s")
    return f"{count:,} {noun if count == 1 else plural}"


def duration(seconds: float) -> str:
    """`4.2 s`, `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest_s} s"
    hours, rest_minutes = divmod(minutes, 60)
    return f"{hours:,} h {rest_minutes} min" if hours else f"{minutes} min {rest_s} s"


def moment(epoch_s: float) -> str:
    """`2026-11-21 12:35 UTC`."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
