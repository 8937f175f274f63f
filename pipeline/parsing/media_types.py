"""What kind of content a document has, told from its media type, its name, or its first bytes."""

import re
from enum import Enum
from urllib.parse import urlsplit

from pipeline.model import Document, DocumentRef


class Kind(Enum):
    """The kinds of content that differ in how they are read."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    JSON_LINES = "jsonl"
    CSV = "csv"


_SUFFIXES: dict[Kind, str] = {
    Kind.MARKDOWN: ".md .markdown .mdown .mkd .mdx .qmd .rmd",
    Kind.HTML: ".html .htm .xhtml",
    Kind.JSON_LINES: ".jsonl .ndjson",
    Kind.CSV: ".csv .tsv",
    Kind.TEXT: """
        .txt .text .log .rst .adoc .asciidoc .org .tex .textile .wiki .creole .pod .man .srt .vtt .diff .patch
        .py .pyi .js .mjs .cjs .ts .jsx .tsx .vue .svelte .java .kt .kts .scala .groovy .clj .c .h .cc .cpp .cxx
        .hpp .cs .fs .go .rs .swift .m .mm .rb .php .pl .pm .r .jl .lua .hs .ml .ex .exs .erl .dart .zig .nim .sql
        .sh .bash .zsh .fish .ps1 .bat .cmd .css .scss .sass .less .graphql .proto .tf .hcl .nix .cmake .gradle
        .toml .yaml .yml .json .json5 .jsonc .xml .ini .cfg .conf .properties .env .editorconfig .gitignore .lock
        .ics .vcf .bib .po .pot
    """,
}
_KIND_BY_SUFFIX = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}

_BINARY = """
    .png .jpg .jpeg .gif .webp .bmp .tif .tiff .ico .icns .heic .heif .avif .svg .svgz .psd .ai .eps .raw .xcf
    .mp3 .wav .ogg .oga .flac .m4a .aac .opus .mid .midi .mp4 .m4v .mov .avi .mkv .webm .wmv .flv .mpg .mpeg
    .pdf .ps .djvu .doc .docx .dot .dotx .xls .xlsx .xlsm .xlsb .ppt .pptx .odt .ods .odp .rtf .pages .numbers .key
    .epub .mobi .azw3 .msg .eml .pst .one .vsd .vsdx .ipynb
    .zip .tar .gz .tgz .bz2 .tbz2 .xz .txz .zst .lz .lz4 .br .7z .rar .jar .war .ear .whl .egg .deb .rpm .apk .dmg
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
}
_TEXTUAL_MEDIA_TYPE = re.compile(
    r"text/.*|application/(.*\+)?(json|xml|yaml)|application/(x-)?(yaml|toml|javascript|sh|tex|latex|sql)"
)
_MEANINGLESS_MEDIA_TYPES = {"application/octet-stream", "binary/octet-stream", "application/x-empty"}

_HTML_START = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)


def suffix(ref: DocumentRef) -> str:
    """The suffix of the document's name, in small letters: that of its id, or of its URI if we do not know that."""
    of_id = _suffix_of_path(ref.id)
    return of_id if of_id in _KIND_BY_SUFFIX or of_id in _BINARY_SUFFIXES else _suffix_of_path(ref.uri) or of_id


def is_binary_suffix(name_suffix: str) -> bool:
    return name_suffix in _BINARY_SUFFIXES


def kind_of_media_type(media_type: str) -> Kind | None:
    """The kind that a media type such as `text/html; charset=utf-8` stands for; None if it has no text."""
    essence = media_type.partition(";")[0].strip().lower()
    textual = Kind.TEXT if _TEXTUAL_MEDIA_TYPE.fullmatch(essence) else None
    return _KIND_BY_MEDIA_TYPE.get(essence, textual)


def says_nothing(media_type: str) -> bool:
    """Whether this is what servers send when they do not know."""
    return media_type.partition(";")[0].strip().lower() in _MEANINGLESS_MEDIA_TYPES


def charset_of(media_type: str | None) -> str | None:
    found = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", media_type or "", re.IGNORECASE)
    return found.group(1) if found else None


def kind_by_name_or_content(document: Document) -> Kind:
    known = _KIND_BY_SUFFIX.get(suffix(document.ref))
    if known is not None:
        return known
    return Kind.HTML if _HTML_START.match(document.content[:4096].removeprefix(b"\xef\xbb\xbf")) else Kind.TEXT


def _suffix_of_path(path: str) -> str:
    if "://" in path:
        try:
            path = urlsplit(path).path
        except ValueError:
            return ""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""  # `.profile` and `notes.` have none
