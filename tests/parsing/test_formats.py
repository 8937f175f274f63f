"""What becomes of files of each format. The samples were written by the programs of others; see their README."""

import bz2
import gzip
import io
import lzma
import tarfile
import warnings
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from backports import zstd

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import Document, DocumentId, DocumentRef, LeftOutPart, Markup, Parsed, ParsedDocument, UnreadPart
from pipeline.parsing import Parser, media_types
from pipeline.parsing.media_types import OLE_START, Kind, kind_of
from pipeline.parsing.readings import Content
from pipeline.parsing.settings import ParsingSettings

SAMPLES = Path(__file__).parent / "samples"
PARSER = Parser()  # the process that it starts is kept
WRITTEN_AT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def parse(content: bytes, name: str, media_type: str | None = None, **settings: object) -> list[Parsed]:
    parser = Parser(ParsingSettings.model_validate(settings).rules()) if settings else PARSER
    return list(parser.parse(Document(DocumentRef(DocumentId(name), f"file:///{name}"), content, media_type)))


def read(content: bytes, name: str, media_type: str | None = None, **settings: object) -> ParsedDocument:
    (document,) = parse(content, name, media_type, **settings)
    assert isinstance(document, ParsedDocument), document
    return document


def sample(name: str) -> ParsedDocument:
    return read((SAMPLES / name).read_bytes(), name)


def told(parsed: list[Parsed]) -> dict[str, str]:
    """The text of each part by its id, or why it has none."""
    said: dict[str, str] = {}
    for each in parsed:
        match each:
            case ParsedDocument(part, text):
                said[part] = text
            case LeftOutPart(part, reason):
                said[part] = f"left out: {reason}"
            case UnreadPart(part, code):
                said[part] = f"dead letter: {code}"
    return said


# ------------------------------------------------------------------------------------ office documents, PDF

TABLE = "| Name | Price |\n| --- | --- |\n| Lamp | 3 |"


def test_headings_lists_and_tables_of_a_word_document_become_markdown() -> None:
    """Documents are cut at headings, and a table must stay readable."""
    document = sample("plan.docx")

    assert document.text == (
        "# The Plan\n\n# First part\n\nSome text with **bold words** in it: Größe, 日本語, \\# and *.\n\n"
        "- a bullet\n- another\n\n1. numbered\n\n## Details\n\n"
        "| Name | Price |\n| --- | --- |\n| Lamp | 3 \\| 4 |\n| Chair | 40 |\n\n# Second part\n\nThe end."
    )
    assert (document.markup, document.title, document.modified_at) == (Markup.MARKDOWN, "The Plan", WRITTEN_AT)
    assert document.metadata == {
        "authors": ("Ann",),
        "subject": "Storage",
        "keywords": ("plan", "store"),
        "created": "2024-01-02T03:04:05Z",
    }


def test_slides_become_sections_and_what_the_speaker_noted_is_kept() -> None:
    """The notes often say more than the slides."""
    document = sample("talk.pptx")

    assert document.text == (
        f"## First slide\n\none point\n\nanother point\n\n## Second slide\n\n{TABLE}\n\n"
        "## Notes\n\n### Slide 1\n\nSay hello.\n\nThen begin."
    )
    assert (document.title, document.modified_at) == ("The Talk", WRITTEN_AT)


def test_sheets_become_sections_with_a_table() -> None:
    """A number alone says nothing; its column does."""
    document = sample("prices.xlsx")

    assert document.text == (
        "## Prices\n\n| Name | Price | Since |\n| --- | --- | --- |\n| Lamp | 3.5 | 2024-01-02 |\n| Chair | 40 |  |\n\n"
        "## Notes\n\n| Topic | Note |\n| --- | --- |\n| Lamp | shines, mostly |"
    )
    assert document.title == "The Prices"


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        ("plan.odt", f"# First part\n\nSome words: Größe.\n\n- a bullet\n\n## Details\n\n{TABLE}", "The Plan"),
        ("prices.ods", f"## Prices\n\n{TABLE}", "The Prices"),
        ("talk.odp", "## Slide_20_1\n\nFirst slide, in words", "The Talk"),
        (
            "letter.rtf",
            f"Dear Bob,\n\nhere is **bold** wörld, 5 € and more.\n\n{TABLE}\n\nThe end.",
            "The Letter",
        ),
    ],
)
def test_documents_of_other_programs_become_markdown(name: str, text: str, title: str) -> None:
    """Not all the world uses one."""
    document = sample(name)

    assert (document.text, document.title) == (text, title)


def test_the_chapters_of_a_book_come_in_the_order_of_reading() -> None:
    """Which is the spine's, not that of the names of its files."""
    document = sample("book.epub")

    assert document.text.index("# The first chapter") < document.text.index("# The second chapter")
    assert document.text.count("Lamp") == 2
    assert (document.title, document.metadata["authors"], document.metadata["language"]) == ("The Book", ("Ann",), "en")


def test_the_outline_of_a_pdf_makes_headings() -> None:
    """A PDF itself knows only places of letters."""
    document = sample("manual.pdf")

    assert document.text == (
        "The Manual\n\n# 1 Beginning\n\nThis is where it begins, with words of some length\nand a second line.\n"
        "\\# no heading\n\n## 1.1 Details\n\nThe details are here."
    )
    assert (document.markup, document.title) == (Markup.MARKDOWN, "The Manual")
    assert document.modified_at == datetime(2000, 1, 1, tzinfo=UTC)
    assert document.metadata["author"] == "Ann"
    assert document.metadata["pages"] == 2.0


@pytest.mark.parametrize(("name", "reason"), [("scan.pdf", "PDF without text"), ("locked.pdf", "encrypted PDF")])
def test_a_pdf_that_gives_no_text_is_left_out_with_the_reason(name: str, reason: str) -> None:
    """Nothing is broken, and no replay would help."""
    with pytest.raises(UnsupportedDocument) as raised:
        sample(name)

    assert raised.value.reason == reason


def test_an_encrypted_word_document_is_left_out_with_the_reason() -> None:
    """Word puts it into a container of the old kind."""
    with pytest.raises(UnsupportedDocument, match="encrypted DOCX"):
        read(OLE_START + bytes(600), "a.docx")


def test_an_encrypted_opendocument_is_left_out_with_the_reason() -> None:
    """Its manifest says so."""
    content = zipped({"META-INF/manifest.xml": "<manifest:encryption-data/>", "content.xml": "noise"})

    with pytest.raises(UnsupportedDocument, match="encrypted ODT"):
        read(content, "a.odt")


@pytest.mark.parametrize("name", ["a.doc", "a.xls"])
def test_an_old_name_on_a_new_file_does_not_deceive(name: str) -> None:
    """Programs export HTML and RTF under the names that people open."""
    assert read(b"{\\rtf1 words\\par}", name).text == "words"
    assert read(b"<html><body><p>words</p></body></html>", name).text == "words"


def test_a_media_type_is_enough_for_an_office_document() -> None:
    """In stores of objects and behind addresses, names have no suffix."""
    content = (SAMPLES / "plan.odt").read_bytes()

    assert read(content, "17", "application/vnd.oasis.opendocument.text").title == "The Plan"
    assert read(content, "plan.odt", "application/zip").title == "The Plan"


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.zip", "a.gz", "a.eml"])
def test_an_empty_file_of_such_a_format_is_left_out(name: str) -> None:
    """It is a place for a file that is still to come."""
    with pytest.raises(UnsupportedDocument, match="empty file"):
        parse(b"", name)


def test_without_the_extra_the_reason_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the report then knows what to do; and what was left out is read as soon as it is done."""
    able = Parser().abilities
    monkeypatch.setattr(media_types, "has_documents_extra", lambda: False)
    monkeypatch.setattr("pipeline.parsing.parser.has_documents_extra", lambda: False)
    needs = "needs: pip install 'agentcore-memory-sync[documents]'"

    reason = Parser().reason_to_skip(DocumentRef(DocumentId("a.PDF"), "file:///a.PDF"))
    with pytest.raises(UnsupportedDocument) as raised:
        parse(b"%PDF", "17", "application/pdf")

    assert reason == f"unsupported type .pdf ({needs})"
    assert raised.value.reason == f"unsupported type application/pdf ({needs})"
    assert Parser().abilities != able


def test_what_was_left_out_without_a_library_for_it_is_read_once_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the extra, though this one belongs to no extra."""
    able = Parser().abilities
    monkeypatch.setattr("pipeline.parsing.parser.zstd_library", lambda: None)

    assert Parser().abilities != able


@pytest.mark.parametrize(
    ("name", "media_type", "kind"),
    [
        ("a.pdf", "application/x-pdf", Kind.PDF),
        ("a.pdf", "application/force-download", Kind.PDF),
        ("a.docm", "application/vnd.ms-word.document.macroEnabled.12", Kind.DOCX),
        ("a.ics", "application/ics", Kind.TEXT),
        ("a.csv", "application/vnd.ms-excel", Kind.CSV),  # Windows calls them so where Excel is installed
    ],
)
def test_a_media_type_that_tells_less_than_the_name_gives_way_to_it(name: str, media_type: str, kind: Kind) -> None:
    """Programs that send mails know the endings of names better than the types."""
    assert kind_of(Content(name, b"words", media_type)) is kind


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.txt", "image/png"), ("a.bin", "application/x-unknown"), ("17", "application/x-unknown")],
)
def test_what_has_no_text_by_its_media_type_is_left_out_whatever_its_name(name: str, media_type: str) -> None:
    """Pictures are no text, and a name that nobody knows tells nothing."""
    with pytest.raises(UnsupportedDocument):
        kind_of(Content(name, b"words", media_type))


# ------------------------------------------------------------------------------------------- notebooks, XML


def test_a_notebook_is_its_prose_and_its_code() -> None:
    """What the code printed can be printed again."""
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "Prose."]},
        {"cell_type": "code", "source": "print('```')", "outputs": [{"text": ["printed"]}]},
        {"cell_type": "code", "source": []},
        {"cell_type": "raw", "source": "raw words"},
        "nonsense",
    ]
    content = orjson.dumps({"cells": cells, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4})

    document = read(content, "a.ipynb")

    assert document.text == "# Title\n\nProse.\n\n````python\nprint('```')\n````\n\nraw words"
    assert (document.title, document.metadata) == ("Title", {"language": "python"})


def test_an_old_notebook_is_read_too() -> None:
    """The third format had its cells in sheets."""
    cells = [{"cell_type": "heading", "level": 2, "source": "Title"}, {"cell_type": "code", "input": "1 + 1"}]
    content = orjson.dumps({"worksheets": [{"cells": cells}], "metadata": {}, "nbformat": 3})

    assert read(content, "a.ipynb").text == "## Title\n\n```\n1 + 1\n```"


@pytest.mark.parametrize(
    ("content", "code"), [(b"{", "broken_json"), (b"[]", "not_a_notebook"), (b'{"cells": 1}', "not_a_notebook")]
)
def test_what_is_no_notebook_is_reported(content: bytes, code: str) -> None:
    """It has the name of one."""
    with pytest.raises(UnreadableDocument) as raised:
        parse(content, "a.ipynb")

    assert raised.value.code == code


XML = (
    "<?xml version='1.0'?><b:book xmlns:b='x'><b:title>The <i>Book</i></b:title><meta><id>17</id><by>Ann</by></meta>"
    "<chapter><title>One</title><para>Some <b>bold</b> words,\n   &lt;wrapped&gt;.</para><para>More.</para></chapter>"
    "<chapter><title>Two</title></chapter></b:book>"
)


def test_xml_is_left_as_it_stands_unless_its_text_is_wanted() -> None:
    """Configurations are XML as well, and say nothing without their tags."""
    assert read(XML.encode(), "a.xml").text == XML
    assert read(XML.encode(), "a", "application/rss+xml").text == XML


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_text_of_xml_has_a_line_for_each_element_and_a_heading_for_each_title(encoding: str) -> None:
    """Words in the middle of a sentence stay there."""
    document = read(XML.encode(encoding), "a.xml", xml="text")

    assert document.text == ("# The Book\n\n17\nAnn\n\n## One\n\nSome bold words, <wrapped>.\nMore.\n\n## Two")
    assert (document.title, document.markup) == ("The Book", Markup.MARKDOWN)


# --------------------------------------------------------------------------------- compressed, and archives


def zipped(members: dict[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 2, 3, 4, 4)), content)
    return packed.getvalue()


def tarred(members: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(text.encode()), 1704164645
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".gz", gzip.compress(b"# Title\n\nWords.", mtime=0)),
        (".bz2", bz2.compress(b"# Title\n\nWords.")),
        (".xz", lzma.compress(b"# Title\n\nWords.")),
        (".zst", zstd.compress(b"# Title\n\nWords.")),
        (".gz", gzip.compress(b"# Title\n", mtime=0) + gzip.compress(b"\nWords.", mtime=0)),
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "gzip in two pieces"],
)
def test_a_compressed_file_is_read_as_what_it_was(suffix: str, content: bytes) -> None:
    """Under its own id, by the name without the suffix."""
    document = read(content, f"notes.md{suffix}")

    assert (document.id, document.text, document.title) == (f"notes.md{suffix}", "# Title\n\nWords.", "Title")
    assert document.markup is Markup.MARKDOWN


def test_lines_in_a_compressed_file_are_documents() -> None:
    """Exports come like that."""
    parsed = parse(gzip.compress(b'{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n'), "all.jsonl.gz")

    assert told(parsed) == {"all.jsonl.gz#1": "a", "all.jsonl.gz#2": "b"}


def test_what_was_compressed_and_has_no_text_is_left_out_by_its_name() -> None:
    """It need not even be fetched."""
    assert Parser().reason_to_skip(DocumentRef(DocumentId("a.png.gz"), "")) == "unsupported type .png"
    assert Parser().reason_to_skip(DocumentRef(DocumentId("a.tar.gz"), "")) is None


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.zip", zipped),
        ("a.tar", tarred),
        ("a.tar.gz", lambda members: gzip.compress(tarred(members))),
        ("a.tgz", lambda members: gzip.compress(tarred(members))),
        ("a.tar.bz2", lambda members: bz2.compress(tarred(members))),
        ("a.txz", lambda members: lzma.compress(tarred(members))),
    ],
)
def test_the_files_in_an_archive_are_its_parts(name: str, pack) -> None:  # type: ignore[no-untyped-def]
    """Each is read as it would be beside the archive; what cannot be is told by its name."""
    content = pack({"d/notes.md": "# Title\n\nWords.", "t.csv": "id,x\n7,y\n", "p.png": "noise", "q.jsonl": "{broken"})

    parsed = parse(content, name)

    assert told(parsed) == {
        f"{name}#d/notes.md": "# Title\n\nWords.",
        f"{name}#t.csv#7": "id: 7\nx: y",
        f"{name}#p.png": "left out: unsupported type .png",
        f"{name}#q.jsonl": "dead letter: broken_json",
    }
    notes = parsed[0]
    assert isinstance(notes, ParsedDocument)
    assert notes.title == "Title"
    assert notes.modified_at is not None
    assert notes.modified_at.replace(second=4) == WRITTEN_AT.replace(second=4)


def test_names_in_archives_lead_nowhere_and_are_unique() -> None:
    """They become parts of ids; nothing is ever written under them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the second of a name
        for name in ("/etc/a.md", "../../a.md", "a.md", "a.md", "..\\b.md", "c#d.md", "e\nf.md", "__MACOSX/._a.md"):
            archive.writestr(zipfile.ZipInfo(name), name)

    assert list(told(parse(packed.getvalue(), "z.zip"))) == [
        "z.zip#etc/a.md",
        "z.zip#a.md",
        "z.zip#a.md~2",
        "z.zip#a.md~3",
        "z.zip#b.md",
        "z.zip#c%23d.md",
        "z.zip#e f.md",
    ]


def test_what_comes_out_of_all_compressed_files_in_an_archive_is_limited() -> None:
    """However often it is packed: a megabyte of such files could come to as many documents as it likes."""
    words = "many words, " * 80
    content = zipped({f"{number}.txt.gz": gzip.compress(words.encode()) for number in range(4)})

    parsed = parse(content, "a.zip", limits={"unpacked_bytes": 2500})

    assert list(told(parsed).values()) == [words, words, "dead letter: too_large", "dead letter: too_large"]


def test_an_archive_that_was_compressed_counts_once() -> None:
    """It is not in the document beside its files."""
    words = "many words, " * 80
    content = gzip.compress(tarred({"a.txt": words}))

    assert told(parse(content, "a.tgz", limits={"unpacked_bytes": 10_240})) == {"a.tgz#a.txt": words}


def test_an_archive_in_an_archive_is_opened() -> None:
    """A mail with a ZIP file is nothing unusual."""
    content = zipped({"inner.zip": zipped({"a.md": "words"}), "b.md.gz": gzip.compress(b"more")})

    assert told(parse(content, "o.zip")) == {"o.zip#inner.zip#a.md": "words", "o.zip#b.md.gz": "more"}


def test_links_and_devices_in_an_archive_are_left_out() -> None:
    """They are no documents, and lead out of it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind in (("l.md", tarfile.SYMTYPE), ("h.md", tarfile.LNKTYPE), ("d.md", tarfile.CHRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    link = zipfile.ZipInfo("l.md")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    packed_zip = io.BytesIO()
    with zipfile.ZipFile(packed_zip, "w") as file:
        file.writestr(link, "/etc/passwd")

    assert told(parse(packed.getvalue(), "a.tar")) == {
        "a.tar#l.md": "left out: link in an archive",
        "a.tar#h.md": "left out: link in an archive",
        "a.tar#d.md": "left out: device in an archive",
    }
    assert told(parse(packed_zip.getvalue(), "a.zip")) == {"a.zip#l.md": "left out: link in an archive"}


def test_an_empty_archive_has_no_documents() -> None:
    """As a table without rows."""
    assert parse(zipped({}), "a.zip") == []
    assert parse(tarred({}), "a.tar") == []


def test_reading_twice_gives_the_same() -> None:
    """Else records would be written anew by every run."""
    for path in sorted(SAMPLES.iterdir()):
        if path.suffix != ".md" and path.name not in ("scan.pdf", "locked.pdf"):
            assert sample(path.name) == sample(path.name)
