"""Documents of office programs and books, as Markdown with headings and tables.

The library is native code and speaks only to an event loop: it is loaded nowhere but in the process that reads.
"""

import asyncio
import io
import re
import zipfile
import zlib
from contextlib import suppress
from typing import Any

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import DocumentId, Markup, ParsedDocument
from pipeline.parsing.decoding import clean
from pipeline.parsing.markdown import first_heading
from pipeline.parsing.media_types import OFFICE_TYPES, OLE_START, Kind
from pipeline.parsing.metadata import as_time, metadata_of
from pipeline.parsing.notes import speaker_notes
from pipeline.parsing.readings import Reading, UnpackingLimits
from pipeline.parsing.unpacking import RATIO_COUNTS_FROM_BYTES, RATIO_MAX

TITLE_CHARS_MAX = 300
TABLE_CELLS_MAX = 10_000_000
ITERATIONS_MAX = 1_000_000_000  # time is limited in another way

_ZIPPED = {Kind.DOCX, Kind.PPTX, Kind.XLSX, Kind.ODT, Kind.ODS, Kind.ODP, Kind.EPUB}
_IMAGE = re.compile(r"\\?!\[[^\[\]\n]*\]\([^()\n]*\)")
_SLIDES = {Kind.PPTX, Kind.ODP, Kind.PPT}
_BETWEEN_SLIDES = re.compile(r"^-----$\n*", re.MULTILINE)  # stands before a slide without a title
_PACKAGE_FAULTS = (zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, RuntimeError, zlib.error)
_MANIFEST_BYTES_MAX = 10 * 1024**2


def read_office(kind: Kind, data: bytes, limits: UnpackingLimits) -> Reading:
    """
    Raises:
        UnreadableDocument: it is broken, or more comes out of it than may.
        UnsupportedDocument: it is encrypted, or there is no text in it.
    """
    name = kind.value.upper()
    if kind in _ZIPPED:
        if data.startswith(OLE_START):
            raise UnsupportedDocument(f"encrypted {name}")
        _check_package(name, data, limits)
    document = asyncio.run(_extract(name, data, OFFICE_TYPES[kind], limits))
    text = clean(_IMAGE.sub("", document.content)).strip("\n")
    if kind in _SLIDES:
        text = _BETWEEN_SLIDES.sub("", text).strip("\n")
    if kind is Kind.PPTX:
        text = "\n\n".join(filter(None, (text, _speaker_notes(name, data))))
    if not text.strip():
        raise UnsupportedDocument(f"{name} without text")
    about = document.metadata
    modified_at = as_time(about.modified_at)
    title = " ".join(clean(about.title or "").split())[:TITLE_CHARS_MAX]
    return Reading(
        ParsedDocument(
            DocumentId(kind.value),
            text,
            Markup.MARKDOWN,
            title=title or first_heading(text),
            modified_at=modified_at or as_time(about.created_at),
            metadata=metadata_of(
                {
                    "authors": list(about.authors or []),
                    "subject": about.subject,
                    "keywords": list(about.keywords or []),
                    "created": about.created_at,
                    "language": about.language,
                }
            ),
        )
    )


async def _extract(name: str, data: bytes, media_type: str, limits: UnpackingLimits) -> Any:
    """What the library makes of `data`.

    Raises:
        UnreadableDocument: nothing.
    """
    import xberg  # noqa: PLC0415 - an extra, and native code that the run's own process must not load

    config = xberg.ExtractionConfig(
        use_cache=False,  # it would be on the disk
        disable_ocr=True,
        output_format="markdown",
        enable_quality_processing=False,  # nothing is left out for looking odd
        content_filter=xberg.ContentFilterConfig(include_footnotes=True, strip_repeating_text=False),
        security_limits=xberg.SecurityLimits(
            max_archive_size=limits.bytes_max,
            max_content_size=limits.bytes_max,
            max_files_in_archive=limits.entries_max,
            max_table_cells=TABLE_CELLS_MAX,
            max_iterations=ITERATIONS_MAX,
        ),
    )
    try:
        result = await xberg.extract(xberg.ExtractInput(kind="bytes", bytes=data, mime_type=media_type), config)
    except Exception as error:  # its own errors have no common base, and their messages can hold text
        if str(error).startswith("Security violation"):
            raise UnreadableDocument("too_large", f"the {name} document has more in it than is read") from error
        raise _broken(name) from error
    if len(result.results) != 1:
        raise _broken(name)
    return result.results[0]


def _check_package(name: str, data: bytes, limits: UnpackingLimits) -> None:
    """Refuse what is encrypted, and what unpacks to more than it may; the library looks at neither in time."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            entries = package.infolist()
            if any(entry.flag_bits & 0x1 for entry in entries) or _is_encrypted(package):
                raise UnsupportedDocument(f"encrypted {name}")
    except _PACKAGE_FAULTS as error:
        raise _broken(name) from error
    unpacked_bytes = sum(entry.file_size for entry in entries)
    allowed = min(limits.bytes_max, max(RATIO_MAX * len(data), RATIO_COUNTS_FROM_BYTES))
    if unpacked_bytes > allowed or len(entries) > limits.entries_max:
        raise UnreadableDocument("too_large", f"the {name} document unpacks to more than it may")


def _speaker_notes(name: str, data: bytes) -> str:
    try:
        return speaker_notes(data)
    except (UnreadableDocument, *_PACKAGE_FAULTS) as error:
        raise _broken(name) from error


def _broken(name: str) -> UnreadableDocument:
    return UnreadableDocument(f"broken_{name.lower()}", f"the {name} document cannot be read: it may be cut off")


def _is_encrypted(package: zipfile.ZipFile) -> bool:
    """Whether an OpenDocument says that its content is encrypted."""
    with suppress(KeyError):
        entry = package.getinfo("META-INF/manifest.xml")
        if entry.file_size <= _MANIFEST_BYTES_MAX:
            with package.open(entry) as manifest:
                return b":encryption-data" in manifest.read(_MANIFEST_BYTES_MAX)
    return False
