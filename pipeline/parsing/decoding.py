"""Bytes to text: the encoding is found once, and then the content is read whole or line by line."""

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import UnreadableDocument, UnsupportedDocument

BLOCK_BYTES = 1 << 20  # what is decoded at a time where the whole text is not kept
SAMPLE_BYTES = 1 << 16  # what is looked at to guess an encoding

_BYTE_ORDER_MARKS = (  # UTF-32's little-endian one begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# They decode anything, into something else, and some in quadratic time.
_NOT_FOR_FILES = {"utf-7", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"}
_META_CHARSET = re.compile(rb"<meta\s[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
_CONTROL_CHARACTERS = bytes(set(range(32)) - set(b"\t\n"))
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a content: without errors, unless `errors` says that what cannot be read is replaced."""

    name: str
    mark_bytes: int = 0  # of the byte order mark at the start
    errors: str = "strict"


def find_encoding(
    content: bytes, *, forced: str | None = None, declared: str | None = None, is_html: bool = False
) -> Encoding:
    """How `content` can be decoded: as its byte order mark says, as it is `forced` to, as UTF-8, as `declared`
    by whoever sent it or by the page itself, or as it looks.

    Raises:
        UnreadableDocument: it is not in the encoding that was forced.
        UnsupportedDocument: this is no text at all.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            fault = _first_fault(content, name, len(mark))
            return Encoding(name, len(mark), "strict" if fault is None else "replace")
    if forced is not None:
        fault = _first_fault(content, forced)
        if fault is not None:
            raise UnreadableDocument("encoding", f"byte {fault} is not valid {forced}, the configured encoding")
        return Encoding(forced)

    without_mark = _utf16_without_mark(content[:SAMPLE_BYTES])
    if without_mark is not None and _first_fault(content, without_mark) is None:
        return Encoding(without_mark)
    fault = None if content.isascii() else _first_fault(content, "utf-8")
    if fault is None:
        return Encoding("utf-8")
    for candidate in (declared, _charset_of_page(content) if is_html else None):
        if candidate is not None and _can_decode(content, candidate):
            return Encoding(candidate)
    return _guess(content, fault)


def decode(content: bytes, encoding: Encoding) -> str:
    """The whole text, clean."""
    raw = content[encoding.mark_bytes :].decode(encoding.name, encoding.errors)
    text = clean(raw)
    require_text_kept(raw, text)
    return text


def open_text(content: bytes, encoding: Encoding, *, newline: str | None = None) -> io.TextIOWrapper:
    """The text as a stream that holds little of it at a time; not clean yet. `newline` is as for `open`."""
    stream = io.BytesIO(content)
    stream.seek(encoding.mark_bytes)
    return io.TextIOWrapper(stream, encoding.name, encoding.errors, newline=newline)


def clean(text: str) -> str:
    """`text` with newlines for line ends and page breaks, without control characters and lone surrogates."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        text = _SURROGATE.sub("\ufffd", text)
        encoded = text.encode()
    # Most texts have none, which bytes tell ten times as fast as a pattern.
    if len(encoded.translate(None, _CONTROL_CHARACTERS)) < len(encoded):
        text = _CONTROL.sub("", text.replace("\f", "\n").replace("\v", "\n"))
    return text


def require_text_kept(before: str, after: str) -> None:
    """Refuse a document of which nothing is left, though it had something in it: a loss must be seen.

    Raises:
        UnreadableDocument: `after` is blank and `before` is not.
    """
    if not after.strip() and before.strip():
        raise UnreadableDocument("blank_output", "the content is not blank, but no text could be read from it")


def looks_binary(sample: bytes) -> bool:
    """Whether undecodable bytes look like anything but text in some old encoding."""
    controls = len(sample) - len(sample.translate(None, _CONTROL_BYTES))
    return controls * 20 > len(sample)  # a tenth of compressed data is, and more of programs


def _blocks(content: bytes, start: int) -> Iterator[memoryview]:
    view = memoryview(content)
    return (view[position : position + BLOCK_BYTES] for position in range(start, len(content), BLOCK_BYTES))


def _first_fault(content: bytes, encoding: str, start: int = 0) -> int | None:
    """Where `content` stops being valid; None if it never does."""
    decoder = codecs.getincrementaldecoder(encoding)()
    position = start
    try:
        for block in _blocks(content, start):
            decoder.decode(block)
            position += len(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return min(position + error.start, len(content) - 1)
    except UnicodeError:  # what idna and its like raise
        return position
    return None


def is_usable(encoding: str) -> bool:
    """Whether Python knows `encoding`, and it is one that files are written in."""
    try:
        bytes(4).decode(encoding)  # no bytes at all would be decoded without looking
    except (LookupError, ValueError):  # unknown, no encoding of text, or no name at all
        return False
    return codecs.lookup(encoding).name not in _NOT_FOR_FILES


def _can_decode(content: bytes, encoding: str) -> bool:
    return is_usable(encoding) and _first_fault(content, encoding) is None


def _charset_of_page(content: bytes) -> str | None:
    found = _META_CHARSET.search(content[:4096])
    return found.group(1).decode("ascii", "replace") if found else None


def _utf16_without_mark(sample: bytes) -> str | None:
    """Text of Latin letters in UTF-16 has a zero in every other byte, and hardly any in the others."""
    if 0 not in sample:
        return None
    half = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if half and odd * 2 > half and even * 20 < half:
        return "utf-16-le"
    if half and even * 2 > half and odd * 20 < half:
        return "utf-16-be"
    return None


def _guess(content: bytes, fault: int) -> Encoding:
    sample = content[max(0, fault - SAMPLE_BYTES // 2) : fault + SAMPLE_BYTES // 2]
    if looks_binary(sample):
        raise UnsupportedDocument("binary file")

    # One stray byte does not make another encoding of a text that is UTF-8 otherwise.
    as_utf8 = sample.decode("utf-8", "replace")
    faults = as_utf8.count("\ufffd")
    letters_beyond_ascii = sum(1 for character in as_utf8 if character > "\x7f") - faults
    if letters_beyond_ascii > 10 * faults:
        return Encoding("utf-8", errors="replace")

    import charset_normalizer  # noqa: PLC0415 - slow to import, and seldom needed

    best = charset_normalizer.from_bytes(sample).best()
    name = best.encoding if best is not None else "cp1252"
    return Encoding(name, errors="strict" if _can_decode(content, name) else "replace")
