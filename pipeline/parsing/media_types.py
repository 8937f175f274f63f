"""What kind of content a document has, told from its media type, its name, or its first bytes."""

import re
from contextlib import suppress
from enum import Enum
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit

from pipeline.errors import UnsupportedDocument
from pipeline.model import DocumentRef
from pipeline.parsing.readings import Content


class Kind(Enum):
    """The kinds of content that differ in how they are read."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    JSON_LINES = "jsonl"
    CSV = "csv"
    XML = "xml"
    MAIL = "mail"
    NOTEBOOK = "notebook"
    COMPRESSED = "compressed"
    ZIP = "zip"
    TAR = "tar"
    PDF = "pdf"
    DOCX = "docx"
    PPTX = "pptx"
    XLSX = "xlsx"
    ODT = "odt"
    ODS = "ods"
    ODP = "odp"
    EPUB = "epub"
    RTF = "rtf"
    DOC = "doc"
    PPT = "ppt"
    XLS = "xls"


TEXTUAL = (Kind.TEXT, Kind.MARKDOWN, Kind.HTML, Kind.JSON_LINES, Kind.CSV, Kind.XML)  # in some encoding
_OPEN_XML = "application/vnd.openxmlformats-officedocument"
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument"
OFFICE_TYPES = {
    Kind.DOCX: f"{_OPEN_XML}.wordprocessingml.document",
    Kind.PPTX: f"{_OPEN_XML}.presentationml.presentation",
    Kind.XLSX: f"{_OPEN_XML}.spreadsheetml.sheet",
    Kind.ODT: f"{_OPEN_DOCUMENT}.text",
    Kind.ODS: f"{_OPEN_DOCUMENT}.spreadsheet",
    Kind.ODP: f"{_OPEN_DOCUMENT}.presentation",
    Kind.EPUB: "application/epub+zip",
    Kind.RTF: "application/rtf",
    Kind.DOC: "application/msword",
    Kind.PPT: "application/vnd.ms-powerpoint",
    Kind.XLS: "application/vnd.ms-excel",
}
OLE_START = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of Microsoft's old formats, and of encrypted new ones
_ZSTD_LIBRARIES = ("compression.zstd", "backports.zstd")  # of Python 3.14, and for those before
EXTRA_NEEDS = "needs: pip install 'agentcore-memory-sync[documents]'"

_SUFFIXES: dict[Kind, str] = {
    Kind.MARKDOWN: ".md .markdown .mdown .mkd .mdx .qmd .rmd",
    Kind.HTML: ".html .htm .xhtml",
    Kind.JSON_LINES: ".jsonl .ndjson",
    Kind.CSV: ".csv .tsv",
    Kind.XML: ".xml",
    Kind.MAIL: ".eml",
    Kind.NOTEBOOK: ".ipynb",
    Kind.COMPRESSED: ".gz .tgz .bz2 .tbz2 .xz .txz .zst",
    Kind.ZIP: ".zip",
    Kind.TAR: ".tar",
    Kind.PDF: ".pdf",
    Kind.DOCX: ".docx .docm .dotx",
    Kind.PPTX: ".pptx .pptm .ppsx .potx",
    Kind.XLSX: ".xlsx .xlsm .xltx",
    Kind.ODT: ".odt",
    Kind.ODS: ".ods",
    Kind.ODP: ".odp",
    Kind.EPUB: ".epub",
    Kind.RTF: ".rtf",
    Kind.DOC: ".doc",
    Kind.PPT: ".ppt",
    Kind.XLS: ".xls",
    Kind.TEXT: """
        .txt .text .log .rst .adoc .asciidoc .org .tex .textile .wiki .creole .pod .man .srt .vtt .diff .patch
        .py .pyi .js .mjs .cjs .ts .jsx .tsx .vue .svelte .java .kt .kts .scala .groovy .clj .c .h .cc .cpp .cxx
        .hpp .cs .fs .go .rs .swift .m .mm .rb .php .pl .pm .r .jl .lua .hs .ml .ex .exs .erl .dart .zig .nim .sql
        .sh .bash .zsh .fish .ps1 .bat .cmd .css .scss .sass .less .graphql .proto .tf .hcl .nix .cmake .gradle
        .toml .yaml .yml .json .json5 .jsonc .ini .cfg .conf .properties .env .editorconfig .gitignore .lock
        .ics .vcf .bib .po .pot
    """,
}
_KIND_BY_SUFFIX = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_TEXTUAL_BY_SUFFIX = {suffix: kind for suffix, kind in _KIND_BY_SUFFIX.items() if kind in TEXTUAL}

_BINARY = """
    .png .jpg .jpeg .gif .webp .bmp .tif .tiff .ico .icns .heic .heif .avif .svg .svgz .psd .ai .eps .raw .xcf
    .mp3 .wav .ogg .oga .flac .m4a .aac .opus .mid .midi .mp4 .m4v .mov .avi .mkv .webm .wmv .flv .mpg .mpeg
    .ps .djvu .dot .xlsb .pages .numbers .key .mobi .azw3 .msg .pst .one .vsd .vsdx
    .lz .lz4 .br .7z .rar .jar .war .ear .whl .egg .deb .rpm .apk .dmg
    .iso .img .cab .msi
    .so .dll .dylib .exe .bin .o .a .lib .obj .class .pyc .pyo .pyd .wasm .elc .beam .rlib
    .db .sqlite .sqlite3 .mdb .accdb .parquet .avro .orc .feather .arrow .h5 .hdf5 .npy .npz .pkl .pickle .mat .rds
    .rdata .pt .pth .onnx .safetensors .gguf .ckpt .tflite .pb
    .ttf .otf .woff .woff2 .eot .blend .stl .glb .fbx .dwg .swf .pem .der .p12 .pfx .jks .gpg .kdbx
    """
_BINARY_SUFFIXES = frozenset(_BINARY.split())

_KIND_BY_MEDIA_TYPE = {
    "text/markdown": Kind.MARKDOWN,
    "text/x-markdown": Kind.MARKDOWN,
    "text/html": Kind.HTML,
    "application/xhtml+xml": Kind.HTML,
    "application/jsonl": Kind.JSON_LINES,
    "application/jsonlines": Kind.JSON_LINES,
    "application/json-lines": Kind.JSON_LINES,
    "application/x-jsonlines": Kind.JSON_LINES,
    "application/x-ndjson": Kind.JSON_LINES,
    "application/ndjson": Kind.JSON_LINES,
    "text/csv": Kind.CSV,
    "application/csv": Kind.CSV,
    "text/tab-separated-values": Kind.CSV,
    "application/xml": Kind.XML,
    "text/xml": Kind.XML,
    "message/rfc822": Kind.MAIL,
    "message/global": Kind.MAIL,
    "application/x-ipynb+json": Kind.NOTEBOOK,
    "application/gzip": Kind.COMPRESSED,
    "application/x-gzip": Kind.COMPRESSED,
    "application/x-bzip2": Kind.COMPRESSED,
    "application/x-xz": Kind.COMPRESSED,
    "application/zstd": Kind.COMPRESSED,
    "application/x-compressed-tar": Kind.COMPRESSED,
    "application/zip": Kind.ZIP,
    "application/x-zip-compressed": Kind.ZIP,
    "application/x-tar": Kind.TAR,
    "application/pdf": Kind.PDF,
    "text/rtf": Kind.RTF,
    **{media_type: kind for kind, media_type in OFFICE_TYPES.items()},
}
_TEXTUAL_MEDIA_TYPE = re.compile(
    r"text/.*|application/(.*\+)?(json|xml|yaml)|application/(x-)?(yaml|toml|javascript|sh|tex|latex|sql)"
)
_MEANINGLESS_MEDIA_TYPES = {"application/octet-stream", "binary/octet-stream", "application/x-empty"}

_HTML_START = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)


def name_of(ref: DocumentRef) -> str:
    """What the document is called, with the suffix that tells most: its id, or else its URI."""
    suffix = suffix_of_path(ref.id)
    is_known = suffix in _KIND_BY_SUFFIX or suffix in _BINARY_SUFFIXES
    return ref.id if is_known or not suffix_of_path(ref.uri) else ref.uri


def reason_to_leave_out(name: str) -> str | None:
    """Why a file that is called so has no text to give; None if it may have some."""
    suffix = suffix_of_path(name)
    if suffix in _TEXTUAL_BY_SUFFIX:
        return None
    if suffix in _BINARY_SUFFIXES:
        return f"unsupported type {suffix}"
    kind = _KIND_BY_SUFFIX.get(suffix)
    if kind is Kind.COMPRESSED:
        return reason_to_leave_out(without_compression(name))
    return _missing(kind, suffix)


def _missing(kind: Kind | None, what: str) -> str | None:
    is_missing = (kind is Kind.PDF or kind in OFFICE_TYPES) and not has_documents_extra()
    return f"unsupported type {what} ({EXTRA_NEEDS})" if is_missing else None


@cache
def has_documents_extra() -> bool:
    return all(find_spec(name) is not None for name in ("pypdfium2", "xberg"))


@cache
def zstd_library() -> str | None:
    """The name of a library that reads Zstandard, if there is one."""
    for name in _ZSTD_LIBRARIES:
        with suppress(ImportError):  # its package may be missing
            if find_spec(name) is not None:
                return name
    return None


def without_compression(name: str) -> str:
    """The name of what is in a compressed file."""
    suffix = suffix_of_path(name)
    if _KIND_BY_SUFFIX.get(suffix) is not Kind.COMPRESSED:
        return name
    bare = name[: -len(suffix)]
    return f"{bare}.tar" if suffix.startswith(".t") else bare


def kind_of(content: Content) -> Kind:
    """What `content` is: as its media type says, or else its name, or at last its first bytes.

    Raises:
        UnsupportedDocument: something that has no text to give, or that needs what is not installed.
    """
    suffix = suffix_of_path(content.name)
    known = _KIND_BY_SUFFIX.get(suffix)
    if content.media_type and not says_nothing(content.media_type):
        essence = content.media_type.partition(";")[0].strip().lower()
        kind = kind_of_media_type(content.media_type)
        if _gives_way(kind, essence, known):
            kind = known
        if kind is None or (reason := _missing(kind, essence)):
            raise UnsupportedDocument(f"unsupported type {essence}" if kind is None else str(reason))
        return _truly(kind, content.data)
    if (textual := _TEXTUAL_BY_SUFFIX.get(suffix)) is not None:
        return textual
    if reason := _missing(known, suffix):
        raise UnsupportedDocument(reason)
    if known is not None:
        return _truly(known, content.data)
    if suffix in _BINARY_SUFFIXES:
        raise UnsupportedDocument(f"unsupported type {suffix}")
    return Kind.HTML if _HTML_START.match(content.data[:4096].removeprefix(b"\xef\xbb\xbf")) else Kind.TEXT


def _gives_way(kind: Kind | None, essence: str, by_name: Kind | None) -> bool:
    """Whether a media type tells less than the name does.

    Programs that send mails write many types that nobody else knows; on Windows, Excel's for a table of commas.
    """
    if kind is None:
        return essence.startswith("application/")
    return (kind is Kind.ZIP and by_name in OFFICE_TYPES) or (kind is Kind.XLS and by_name is Kind.CSV)


def _truly(kind: Kind, data: bytes) -> Kind:
    """`kind`, unless it is an old format of an office program, under whose name other programs write newer ones."""
    newer = {Kind.DOC: Kind.DOCX, Kind.XLS: Kind.XLSX, Kind.PPT: Kind.PPTX}.get(kind)
    if newer is None or data.startswith(OLE_START):
        return kind
    if data.startswith(b"PK"):
        return newer
    if data.startswith(b"{\\rtf"):
        return Kind.RTF
    return Kind.HTML if _HTML_START.match(data[:4096]) else kind


def kind_of_media_type(media_type: str) -> Kind | None:
    """The kind that a media type such as `text/html; charset=utf-8` stands for; None if it has no text."""
    essence = media_type.partition(";")[0].strip().lower()
    if essence.startswith("application/") and essence.endswith("+xml"):
        return _KIND_BY_MEDIA_TYPE.get(essence, Kind.XML)
    textual = Kind.TEXT if _TEXTUAL_MEDIA_TYPE.fullmatch(essence) else None
    return _KIND_BY_MEDIA_TYPE.get(essence, textual)


def says_nothing(media_type: str) -> bool:
    """Whether this is what servers send when they do not know."""
    return media_type.partition(";")[0].strip().lower() in _MEANINGLESS_MEDIA_TYPES


def charset_of(media_type: str | None) -> str | None:
    found = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", media_type or "", re.IGNORECASE)
    return found.group(1) if found else None


def suffix_of_path(path: str) -> str:
    """The suffix of a path's or an address's last step, in small letters."""
    if "://" in path:
        try:
            path = urlsplit(path).path
        except ValueError:
            return ""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""  # `.profile` and `notes.` have none
