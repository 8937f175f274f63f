"""Cuts a text into chunks whose boundaries depend on what stands around them, not on how far in they are.

A splitter that fills each chunk to the brim moves every later boundary when a word is inserted, and every
record behind an edit would be written again. Here a chunk ends somewhere between a third of the limit and the
limit itself: at the strongest kind of boundary found there, and among equals at the one whose following text has
the lowest checksum. After an edit, the old walk and the new one soon come to the same boundary, and from there on
they are one.
"""

import re
import unicodedata
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto

from pipeline.model import Chunk, Markup

# A chunk is at least a third of what fits. An edit then changes 1.1 to 1.5 chunks, and a chunk is 67 % full.
# With half they are 74 % full, but 1.1 to 2.1 change, up to 15; with a quarter 65 % full, and 1.1 to 1.4 change.
SMALLEST_SHARE = 3

# The text behind a boundary that decides between equals: enough to tell them apart, and so little that few edits
# touch it.
SIGNATURE_CHARS = 64

HEADING_CHARS_MAX = 200  # what is longer was a paragraph with a line of dashes below it


def chunk(text: str, markup: Markup, *, max_chars: int, max_bytes: int, overlap_chars: int = 0) -> list[Chunk]:
    """Cut `text` into chunks of at most `max_chars` characters and `max_bytes` bytes of UTF-8.

    A character outside the Basic Multilingual Plane counts twice: a service may count UTF-16 units. Together the
    chunks hold everything but the white space between them, in order and once; none is blank, and a blank text
    has none. Sections, paragraphs, lines, sentences and words are kept together, in this order of importance. A
    fenced code block or a table's row that fits in a chunk is never cut, nor is a character parted from what
    combines with it. `text` must not hold lone surrogates.

    `heading_path` names the headings in force where the chunk begins, including one that it begins with.

    With `overlap_chars`, each chunk but the first begins with up to that many characters of the text before it,
    from the start of a word on; an edit near the end of a chunk then changes the following one as well.
    """
    if max_chars < 2 or max_bytes < 4:
        raise ValueError("a chunk must have room for one character: 2 UTF-16 units, 4 bytes")
    if not 0 <= overlap_chars <= max_chars // 2:
        raise ValueError("an overlap is at most half a chunk")

    overlap_bytes = min(3 * overlap_chars, max_bytes // 2)  # UTF-8 has at most 3 bytes for a UTF-16 unit
    measure = _Measure(text, max(2, max_chars - overlap_chars), max(4, max_bytes - overlap_bytes))
    outline = _outline(text[: _end_of_structure(text, measure)], markup)
    spans = list(_spans(text, outline, measure))
    paths = _heading_paths(outline.headings, [start for start, _ in spans])

    chunks: list[Chunk] = []
    for ordinal, ((start, end), path) in enumerate(zip(spans, paths, strict=True)):
        body = text[start:end].rstrip()
        lead = ""
        if overlap_chars and chunks:
            room_chars = min(overlap_chars, max_chars - _utf16_units(body))
            lead = _overlap(text[spans[ordinal - 1][0] : start], room_chars, max_bytes - len(body.encode()))
        chunks.append(Chunk(lead + body, ordinal, path))
    return chunks


def _end_of_structure(text: str, measure: "_Measure") -> int:
    """How much of `text` must be understood: where all of it is one chunk, only whether that begins with a heading."""
    start = _start_of_chunk(text, 0, measure.indentation_max)
    if measure.reach(start) < len(text.rstrip()):
        return len(text)
    blank = _BLANK_LINES.search(text, _position_of(_NOT_BLANK, text, start))
    return blank.start() if blank else len(text)


# ------------------------------------------------------------------------------------------------ the walk


def _spans(text: str, outline: "_Outline", measure: "_Measure") -> Iterator[tuple[int, int]]:
    """Where each chunk begins and ends; all that is left out in between is white space."""
    end = len(text.rstrip())
    position = 0
    while position < end:
        start = _start_of_chunk(text, position, measure.indentation_max)
        reach = measure.reach(start)
        position = end if reach >= end else _best_cut(text, outline, measure, start, reach, end)
        yield start, position


def _start_of_chunk(text: str, position: int, indentation_max: int) -> int:
    """The first character to keep at or after `position`: the indentation of its line belongs to it."""
    first = _position_of(_NOT_BLANK, text, position)
    newline = text.rfind("\n", max(0, position - 1), first)
    is_at_line_start = newline >= 0 or position == 0
    return newline + 1 if is_at_line_start and first - newline - 1 <= indentation_max else first


def _best_cut(text: str, outline: "_Outline", measure: "_Measure", start: int, reach: int, end: int) -> int:
    """Where the chunk that begins at `start` and could go on to `reach` ends best."""
    smallest = (reach - start) // SMALLEST_SHARE
    low = max(start + smallest, _position_of(_NOT_BLANK, text, start) + 1)
    high = max(low, min(reach, end - smallest))  # leaves no crumb for the last chunk

    line_starts = outline.strongest_within(low, high)
    if line_starts:
        cut = _choose(text, line_starts)
    else:
        cut = _choose(
            text,
            _within(_SENTENCE_START, text, low, high)
            or _within(_WORD_START, text, low, high)
            or _between_graphemes(text, start, low, high),
        )
        cut = _spare(_table_row_around(text, outline, measure, start, cut), measure, start, cut)
    return _spare(outline.fence_around(cut), measure, start, cut)


def _choose(text: str, candidates: Sequence[int]) -> int:
    """The same one of `candidates` whatever stands before them; of places that look the same, the last."""
    if len(candidates) == 1:
        return candidates[0]

    def signature(position: int) -> tuple[int, int]:
        return zlib.crc32(text[position : position + SIGNATURE_CHARS].encode()), -position

    return min(candidates, key=signature)


def _spare(block: tuple[int, int] | None, measure: "_Measure", start: int, cut: int) -> int:
    """`cut`, or an edge of the `block` around it if that fits in a chunk."""
    if block is None or block[0] < start or measure.reach(block[0]) < block[1]:
        return cut
    return block[0] if block[0] > start else block[1]


def _table_row_around(
    text: str, outline: "_Outline", measure: "_Measure", start: int, cut: int
) -> tuple[int, int] | None:
    if not outline.has_tables:
        return None
    row_start = text.rfind("\n", start, cut) + 1 or start
    if not text.startswith("|", _position_of(_NOT_BLANK, text, row_start)):
        return None
    newline = text.find("\n", cut, cut + measure.max_chars)
    return row_start, newline if newline >= 0 else len(text)


def _position_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.search(text, start)
    return found.start() if found else len(text)


# ------------------------------------------------------------------------------------------------- limits


class _Measure:
    """How far a chunk can go."""

    def __init__(self, text: str, max_chars: int, max_bytes: int) -> None:
        self._text = text
        self._is_ascii = text.isascii()
        self.max_chars = max_chars
        self._max_bytes = max_bytes
        # White space has at most 3 bytes; what remains has room for a character.
        self.indentation_max = min(max_chars, max_bytes // 3) // SMALLEST_SHARE

    def reach(self, start: int) -> int:
        """The furthest end that a chunk from `start` can have."""
        if self._is_ascii:
            return min(len(self._text), start + self.max_chars, start + self._max_bytes)
        piece = self._text[start : start + self.max_chars]
        for encoding, size_bytes in (("utf-16-le", 2 * self.max_chars), ("utf-8", self._max_bytes)):
            # "ignore" drops the part of a character that was left at the end
            piece = piece.encode(encoding)[:size_bytes].decode(encoding, "ignore")
        return start + len(piece)


def _utf16_units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def _overlap(before: str, room_chars: int, room_bytes: int) -> str:
    """The end of `before` that fits, from a word's start on; from any character's if no word starts there."""
    if room_chars <= 0 or room_bytes <= 0:
        return ""
    tail = before.encode("utf-16-le")[-2 * room_chars :].decode("utf-16-le", "ignore")
    tail = tail.encode()[-room_bytes:].decode("utf-8", "ignore")
    earliest = len(before) - len(tail)
    if earliest > 0:
        places = _within(_WORD_START, before, earliest, len(before) - 1)
        earliest = places[0] if places else _between_graphemes(before, 0, earliest, len(before))[0]
        tail = before[earliest:] if len(before) - earliest <= len(tail) else ""
    return tail if tail.strip() else ""


# --------------------------------------------------------------------------------- boundaries within a line

_NOT_BLANK = re.compile(r"\S")

# A match ends where a sentence or a word begins. No part repeats without a bound over what the next could take,
# so that matching takes linear time.
_SENTENCE_START = re.compile(
    r"""[.!?…]["'”’»)\]*_`]{0,4}\s+(?=[^\sa-z])  # before a small letter it was an abbreviation
      | [。！？｡．]["'”’」』）】]{0,4}\s*(?=\S)""",
    re.VERBOSE,
)
_WORD_START = re.compile(r"[\s，、；：]\s*(?=\S)")
_MATCH_LEAD_CHARS = 8  # what of a match may stand before the place where it ends


def _within(pattern: re.Pattern[str], text: str, low: int, high: int) -> list[int]:
    """The ends of the matches of `pattern` from `low` to `high`, both included; `high` is inside the text."""
    ends = (found.end() for found in pattern.finditer(text, max(0, low - _MATCH_LEAD_CHARS), high + 1))
    return [end for end in ends if low <= end <= high and not _is_joined(text[end - 1], text[end])]


def _between_graphemes(text: str, start: int, low: int, high: int) -> list[int]:
    """The places from `low` to `high` that part no two characters which belong together; at least one.

    Where there is none it is the last one before `low`, and if there is none after `start` either, `high`: then
    a single cluster is larger than a chunk. `start` is such a place itself.
    """
    if text[start : high + 1].isascii():
        return list(range(low, high + 1))
    places = []
    indicators = 0  # in a row up to here; two make a flag
    for position in range(start + 1, min(high, len(text) - 1) + 1):
        before, after = text[position - 1], text[position]
        indicators = indicators + 1 if _is_regional_indicator(before) else 0
        is_inside_flag = indicators % 2 == 1 and _is_regional_indicator(after)
        if not is_inside_flag and not _is_joined(before, after):
            places.append(position)
    return places[bisect_left(places, low) :] or places[-1:] or [high]


def _is_regional_indicator(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_joined(before: str, after: str) -> bool:
    """Whether two neighbours belong to one grapheme cluster, flags aside: the rules of Unicode's annex 29."""
    if (before < "\u0300" and after < "\u0300") or before == "\n":
        return False
    return (
        before == "\u200d"  # zero-width joiner
        or unicodedata.combining(before) == 9  # a virama makes one letter of two
        or unicodedata.category(after) in {"Mn", "Mc", "Me"}  # variation selectors are among them
        or after in "\u200c\u200d\u0e33\u0eb3\uff9e\uff9f"
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= after <= "\U000e007f"  # tags, as in the flag of Wales
        or "\u1160" <= after <= "\u11ff"  # vowels and finals of a Hangul syllable
        or "\ud7b0" <= after <= "\ud7fb"
    )


# ---------------------------------------------------------------------------------------- structure of lines


class _Strength(IntEnum):
    """How good a place the start of a line is to cut at. Places inside lines are tried when there is none."""

    NONE = 0
    LINE = 1
    PARAGRAPH = 3
    HEADING_6 = 4
    HEADING_1 = 9


@dataclass(slots=True)
class _Outline:
    """What the lines of a text say about its structure. All positions ascend.

    Most texts are paragraphs, and most cuts are between two of them: only what is more than that, or less, is written
    down for each line. `block_starts` follow blank lines.
    """

    text: str
    block_starts: Sequence[int]
    boundaries: MutableSequence[int] = field(default_factory=lambda: array("q"))  # as strong as a paragraph or stronger
    strengths: bytearray = field(default_factory=bytearray)  # one for each boundary
    glued: set[int] = field(default_factory=set)  # starts of lines that stay with what stands before them
    headings: list[tuple[int, int, str]] = field(default_factory=list)  # position, level, words
    fence_starts: list[int] = field(default_factory=list)
    fence_ends: list[int] = field(default_factory=list)
    has_tables: bool = False

    def add_boundary(self, position: int, strength: int) -> None:
        if strength >= _Strength.PARAGRAPH:
            self.boundaries.append(position)
            self.strengths.append(strength)
        elif strength == _Strength.NONE:
            self.glued.add(position)

    def strongest_within(self, low: int, high: int) -> Sequence[int]:
        """The strongest of the boundaries from `low` to `high`, both included."""
        first, last = bisect_left(self.boundaries, low), bisect_right(self.boundaries, high)
        strengths = self.strengths[first:last]
        strongest = max(strengths, default=_Strength.NONE)
        if strongest > _Strength.PARAGRAPH:
            return [self.boundaries[first + index] for index, value in enumerate(strengths) if value == strongest]
        starts = self.block_starts[bisect_left(self.block_starts, low) : bisect_right(self.block_starts, high)]
        if self.glued:
            starts = [start for start in starts if start not in self.glued]
        paragraphs = [start for start in starts if not self.fence_around(start)] if self.fence_starts else starts
        # Between blocks of code there is no paragraph, but a better place than in them; and last come any lines.
        return [*self.boundaries[first:last], *paragraphs] or starts or self._line_starts(low, high)

    def _line_starts(self, low: int, high: int) -> list[int]:
        starts = (newline.end() for newline in _NEWLINE.finditer(self.text, low - 1, high))
        return [start for start in starts if start not in self.glued and _WORDS_OF_LINE.match(self.text, start)]

    def fence_around(self, position: int) -> tuple[int, int] | None:
        """The fenced code block that a cut at `position` would go through."""
        index = bisect_left(self.fence_starts, position) - 1
        if index < 0 or position >= self.fence_ends[index]:
            return None
        return self.fence_starts[index], self.fence_ends[index]


_NEWLINE = re.compile(r"\n")
_WORDS_OF_LINE = re.compile(r"[^\S\n]*\S")
_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)*(?:\n|\Z)")


def _outline(text: str, markup: Markup) -> _Outline:
    blocks = _blocks(text)
    outline = _Outline(text, array("q", [start for start, _ in blocks]))
    if markup is Markup.MARKDOWN:
        _add_markdown(outline, blocks)
    return outline


def _blocks(text: str) -> list[tuple[int, int]]:
    """The starts and ends of what blank lines part; the newline that ends a block is not a part of it."""
    first = _position_of(_NOT_BLANK, text, 0)
    if first == len(text):
        return []
    first = text.rfind("\n", 0, first) + 1
    blank = [found.span() for found in _BLANK_LINES.finditer(text, first)]
    starts = [first, *(end for _, end in blank)]
    ends = [*(start for start, _ in blank), len(text)]
    if starts[-1] == len(text):  # the last lines are blank
        del starts[-1], ends[-1]
    return list(zip(starts, ends, strict=True))


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Each line's start, its end without the newline, and what stands between, stripped; from `start` to `end`."""
    while start < end:
        newline = text.find("\n", start, end)
        if newline < 0:
            newline = end
        yield start, newline, text[start:newline].strip()
        start = newline + 1


class _Kind(IntEnum):
    """What a line of Markdown is, as far as cutting needs to know."""

    TEXT = auto()
    HEADING = auto()
    UNDERLINE = auto()  # of a heading
    FENCE = auto()
    TABLE_ROW = auto()
    TABLE_RULE = auto()  # between a table's head and its body


_HEADINGS = (_Kind.HEADING, _Kind.UNDERLINE)
_FENCE = re.compile(r"`{3,}(?=[^`]*\Z)|~{3,}")
_HASHES = re.compile(r"#{1,6}(?=[ \t])")
_UNDERLINE = re.compile(r" {0,3}(?:={2,}|-{3,})[ \t]*$", re.MULTILINE)
_NOT_UNDERLINED = re.compile(r"[>#=]|[-+*] |\d{1,9}[.)] |---")  # a list item, a quotation, a rule


# The starts of lines that can be more than text; they also decide what the lines around them are.
_MARKS_STRUCTURE = re.compile(r"\n[^\S\n]*(?:`{3}|~{3}|\||\#{1,6}[ \t]|={2}|-{3})")


def _add_markdown(outline: _Outline, blocks: Sequence[tuple[int, int]]) -> None:
    text = outline.text
    closing_fence = ""  # what ends the code block that is open
    kind, last_index = _Kind.TEXT, -1
    for index in _structured(outline):
        if index > last_index + 1 and not closing_fence:
            kind = _Kind.TEXT
        last_index = index
        is_after_blank = True
        for start, end, line in _lines(text, *blocks[index]):
            if not closing_fence:
                previous = kind
                kind = _kind_of_line(text, start, end, line, previous, is_after_blank=is_after_blank)
                strength = _strength(kind, previous, is_after_blank=is_after_blank)
                if kind is _Kind.HEADING:
                    level = _heading_level(text, line, end)
                    outline.headings.append((start, level, _heading_words(line)))
                    strength = _Strength.HEADING_1 + 1 - level if strength else strength
                elif kind is _Kind.FENCE:
                    closing_fence = line[: len(line) - len(line.lstrip(line[0]))]
                    outline.fence_starts.append(start)
                outline.has_tables |= kind is _Kind.TABLE_ROW
                outline.add_boundary(start, strength)
            elif line.startswith(closing_fence) and not line.strip(closing_fence[0]):
                outline.fence_ends.append(end)
                outline.add_boundary(start, _Strength.NONE)
                closing_fence = ""
            is_after_blank = False
        if kind in _HEADINGS and not closing_fence and index + 1 < len(blocks):
            outline.add_boundary(blocks[index + 1][0], _Strength.NONE)
    if closing_fence:
        outline.fence_ends.append(len(text))


def _structured(outline: _Outline) -> Iterable[int]:
    """Which of the blocks may hold more than text, the first among them, whose lines have no newline before them."""
    marks = (found.end() - 1 for found in _MARKS_STRUCTURE.finditer(outline.text))
    found = (bisect_right(outline.block_starts, mark) - 1 for mark in marks)
    return dict.fromkeys((0, *found)) if outline.block_starts else ()


def _kind_of_line(text: str, start: int, end: int, line: str, previous: _Kind, *, is_after_blank: bool) -> _Kind:
    first = line[0]
    if first in "`~" and _FENCE.match(line):
        return _Kind.FENCE
    if first == "|":
        is_rule = previous is _Kind.TABLE_ROW and not line.strip("|:- ")
        return _Kind.TABLE_RULE if is_rule else _Kind.TABLE_ROW
    if text.startswith(("    ", "\t"), start):
        return _Kind.TEXT  # code by its indentation, or a part of a list item
    if first in "=-" and previous is _Kind.HEADING and not is_after_blank and _UNDERLINE.match(text, start):
        return _Kind.UNDERLINE
    if first == "#" and _HASHES.match(line):
        return _Kind.HEADING
    is_first_of_block = is_after_blank or previous is not _Kind.TEXT
    may_be_underlined = is_first_of_block and text.startswith(("=", "-", " "), end + 1)
    is_underlined = may_be_underlined and _UNDERLINE.match(text, end + 1) and not _NOT_UNDERLINED.match(line)
    return _Kind.HEADING if is_underlined else _Kind.TEXT


def _strength(kind: _Kind, previous: _Kind, *, is_after_blank: bool) -> int:
    if kind is previous is _Kind.TEXT:  # most of them
        return _Strength.PARAGRAPH if is_after_blank else _Strength.LINE
    if previous is _Kind.HEADING or previous is _Kind.UNDERLINE:
        return _Strength.NONE  # a heading stays with what it stands over
    if kind is _Kind.TABLE_RULE or (previous is _Kind.TABLE_RULE and kind is _Kind.TABLE_ROW):
        return _Strength.NONE  # a table's head stays with its first row
    if is_after_blank or kind is _Kind.HEADING:
        return _Strength.PARAGRAPH
    was_in_table = previous is _Kind.TABLE_ROW or previous is _Kind.TABLE_RULE
    is_edge = (kind is _Kind.TABLE_ROW) is not was_in_table or kind is _Kind.FENCE or previous is _Kind.FENCE
    return _Strength.PARAGRAPH if is_edge else _Strength.LINE


# ------------------------------------------------------------------------------------------------ headings

_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_DECORATION = re.compile(
    r"""<[^<>]*>              # HTML
      | \\(?=[^\w\s])         # an escape
      | [*`]+
      | \{[\#.][^{}]*\}\s*$   # an anchor or a class
      | ¶""",
    re.VERBOSE,
)


def _heading_level(text: str, line: str, end: int) -> int:
    hashes = _HASHES.match(line)
    if hashes:
        return len(hashes.group())
    return 1 if text[end + 1 : end + 5].lstrip().startswith("=") else 2


def _heading_words(line: str) -> str:
    """The words of a heading, without what marks them up."""
    line = line[: 2 * HEADING_CHARS_MAX]
    if _HASHES.match(line):
        line = line.lstrip("#").strip()
        unclosed = line.rstrip("#")
        line = unclosed if not unclosed or unclosed[-1].isspace() else line
    words = _DECORATION.sub("", _LINK.sub(r"\1", line))
    return " ".join(words.split())[:HEADING_CHARS_MAX]


def _heading_paths(headings: list[tuple[int, int, str]], positions: list[int]) -> Iterator[tuple[str, ...]]:
    """For each of the ascending `positions`, the headings in force there, the outermost first."""
    in_force: list[tuple[int, str]] = []
    path: tuple[str, ...] = ()
    index = 0
    for position in positions:
        while index < len(headings) and headings[index][0] <= position:
            _, level, words = headings[index]
            while in_force and in_force[-1][0] >= level:
                in_force.pop()
            in_force.append((level, words))
            path = tuple(words for _, words in in_force if words)
            index += 1
        yield path
