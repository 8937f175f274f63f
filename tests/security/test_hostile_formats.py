"""Files that somebody made to harm whoever reads them. Each costs a dead letter at most, and soon."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import SyncError, UnreadableDocument
from pipeline.model import Document, DocumentId, DocumentRef, Parsed, ParsedDocument, UnreadPart
from pipeline.parsing import Parser
from pipeline.parsing.media_types import Kind
from pipeline.parsing.readings import Reading
from pipeline.parsing.rules import ParsingLimits, ParsingRules
from pipeline.parsing.settings import ParsingSettings
from tests.security.broken_formats import broken_files, outcome

PARSER = Parser()
IMPATIENT = Parser(ParsingRules(limits=ParsingLimits(document_s=4.0)))
MIB = 1024**2


def parse(content: bytes, name: str, **settings: object) -> list[Parsed]:
    parser = Parser(ParsingSettings.model_validate(settings).rules()) if settings else PARSER
    return list(parser.parse(Document(DocumentRef(DocumentId(name), f"file:///{name}"), content)))


def refused(content: bytes, name: str, **settings: object) -> str:
    """The code of the dead letter that `content` becomes."""
    with pytest.raises(UnreadableDocument) as raised:
        parse(content, name, **settings)
    return raised.value.code


def zipped(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


# ------------------------------------------------------------------------------------- what grows without end

ZEROS = bytes(40 * MIB)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_a_file_that_unpacks_to_a_thousand_times_its_size_is_not_unpacked(compress: Callable[[bytes], bytes]) -> None:
    """42 kB can hold petabytes."""
    name = "a.txt.gz" if compress is not zlib.compress else "a.zip"
    content = compress(ZEROS) if compress is not zlib.compress else zipped(("a.txt", ZEROS))

    if name == "a.zip":
        (part,) = parse(content, name)
        assert isinstance(part, UnreadPart)
        assert part.code == "too_large"
    else:
        assert refused(content, name) == "too_large"


def test_files_in_an_archive_may_not_be_larger_together_than_one_alone() -> None:
    """A bomb in small portions."""
    portion = b"".join(b"%d\n" % number for number in range(100_000))

    assert refused(zipped(*((f"{n}.txt", portion) for n in range(9))), "a.zip", limits=LIMITS) == "too_large"


LIMITS = {"unpacked_bytes": MIB, "entries": 100, "depth": 3}


def test_an_archive_with_too_many_files_is_not_unpacked() -> None:
    """Each would be a document."""
    assert refused(zipped(*((f"{n}.txt", b"x") for n in range(101))), "a.zip", limits=LIMITS) == "too_many_entries"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(101):
            archive.addfile(tarfile.TarInfo(f"{number}.txt"))
    assert refused(packed.getvalue(), "a.tar", limits=LIMITS) == "too_many_entries"


def test_archives_in_archives_share_one_allowance() -> None:
    """Ten in each of ten in each of ten are a thousand."""
    content = b"x" * 1000
    for _ in range(3):
        content = zipped(
            *((f"{number}.zip" if content[:2] == b"PK" else f"{number}.txt", content) for number in range(9))
        )

    parsed = parse(content, "a.zip", limits={**LIMITS, "depth": 10})

    assert sum(isinstance(part, ParsedDocument) for part in parsed) < 100
    assert {part.code for part in parsed if isinstance(part, UnreadPart)} == {"too_many_entries"}


def test_an_archive_that_contains_itself_ends_at_the_allowed_depth() -> None:
    """There is a ZIP file whose only file is it."""
    content = zipped(("a.txt", b"innermost"))
    for _ in range(30):
        content = zipped(("a.zip", content))

    (part,) = parse(content, "a.zip")

    assert isinstance(part, UnreadPart)
    assert part.code == "too_deep"
    compressed = b"words"
    for _ in range(30):
        compressed = gzip.compress(compressed)
    assert refused(compressed, "a" + ".gz" * 30) == "too_deep"


def test_sizes_that_lie_are_not_believed() -> None:
    """Neither one that is too small to notice the bomb, nor one that would fill the memory."""
    honest = zipped(("a.txt", b"word " * 1000))
    size = struct.pack("<I", 5000)
    small, huge = honest.replace(size, struct.pack("<I", 1)), honest.replace(size, struct.pack("<I", 0xFFFFFFF0))

    (part,) = parse(small, "a.zip")
    assert isinstance(part, UnreadPart)
    assert "word" in str(outcome(PARSER, "a.zip", huge))  # its content is as good as its checksum

    packed = io.BytesIO()
    entry = tarfile.TarInfo("a.txt")
    entry.size = 5
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(b"words"))
    lying = bytearray(packed.getvalue())
    lying[124:136] = b"77777777777\0"
    lying[148:156] = b"%06o\0 " % (sum(lying[:148]) + sum(lying[156:512]) + 8 * 32)
    assert refused(bytes(lying), "a.tar") == "broken_archive"


def test_an_office_document_that_unpacks_to_too_much_is_not_read() -> None:
    """Its format is ZIP."""
    content = zipped(("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<w>" + bytes(60 * MIB)))

    assert refused(content, "a.docx") == "too_large"


# ------------------------------------------------------------------------------------------------------ XML

LAUGHS = b'<!DOCTYPE a [<!ENTITY b "ha">%s]><a>&k;</a>' % b"".join(
    b'<!ENTITY %c "%s">' % (name, b"&%c;" % (name - 1) * 10) for name in range(ord("c"), ord("l"))
)
OUTSIDE = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a><title>&x;</title></a>'
PARAMETERS = b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]><a/>'


@pytest.mark.parametrize("content", [LAUGHS, OUTSIDE, PARAMETERS, b'<!DOCTYPE a SYSTEM "x.dtd"><a/>'])
def test_xml_that_declares_a_document_type_is_not_read(content: bytes) -> None:
    """Entities can grow without end, and can be files of ours."""
    assert refused(content, "a.xml", xml="text") == "document_type"


def test_elements_can_be_nested_as_deeply_as_they_like() -> None:
    """No stack grows with them."""
    depth = 1_000_000

    (document,) = parse(b"<a>" * depth + b"words" + b"</a>" * depth, "a.xml", xml="text")

    assert isinstance(document, ParsedDocument)
    assert document.text == "words"


def word_document(body: bytes) -> bytes:
    return zipped(
        (
            "[Content_Types].xml",
            (
                b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName='
                b'"/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml'
                b'.document.main+xml"/></Types>'
            ),
        ),
        (
            "_rels/.rels",
            (
                b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship '
                b'Id="a" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
                b'Target="word/document.xml"/></Relationships>'
            ),
        ),
        ("word/document.xml", body),
    )


WORD = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>%s</w:body></w:document>'
PARAGRAPH = b"<w:p><w:r><w:t>%s</w:t></w:r></w:p>"


def test_entities_in_an_office_document_name_no_file_and_do_not_grow() -> None:
    """Its XML is read by a library that is not ours."""
    for declaration in (OUTSIDE, LAUGHS):
        head = declaration[: declaration.index(b"]>") + 2]
        content = word_document(head + WORD % (PARAGRAPH % b"words &x;&k;"))

        (document,) = parse(content, "a.docx")

        assert isinstance(document, ParsedDocument)
        assert document.text == "words"


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deep_office_documents_end_in_an_ordinary_way(depth: int) -> None:
    """A library that calls itself for each level overflows its stack; then only its process ends."""
    for opening, closing in ((b"<w:sdt><w:sdtContent>", b"</w:sdtContent></w:sdt>"), (b"<w:p><w:r>", b"</w:r></w:p>"),
                             (b"<w:tbl><w:tr><w:tc>", b"</w:tc></w:tr></w:tbl>")):  # fmt: skip
        content = word_document(WORD % (opening * depth + PARAGRAPH % b"words" + closing * depth))
        outcome(PARSER, "a.docx", content)

    assert parse(b"# sound", "a.md")


# ----------------------------------------------------------------------------------------------- other formats


def pdf(*objects: bytes) -> bytes:
    content, offsets = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return content + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        size, table, size, len(content),
    )  # fmt: skip


PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>"
PAGES = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
FORM = (
    b"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 5 0 R>>>>/Length 5>>stream\n/X Do\nendstream"
)
DRAW = b"<</Length 5>>stream\n/X Do\nendstream"
BOMB = zlib.compress(bytes(300 * MIB))


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "content",
    [
        pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R]/Count 1>>"),
        pdf(b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 99999999>>", PAGE, DRAW, FORM),
        pdf(b"<</Type/Catalog/Pages 2 0 R>>", PAGES, PAGE, DRAW, FORM),
        pdf(
            b"<</Type/Catalog/Pages 2 0 R/Outlines 6 0 R>>", PAGES, PAGE, DRAW, FORM,
            b"<</First 7 0 R/Last 7 0 R/Count 1>>",
            b"<</Title(a)/Parent 6 0 R/Next 7 0 R/First 7 0 R/Dest[3 0 R/Fit]>>",
        ),
        pdf(b"<</Type/Catalog/Pages 2 0 R>>", PAGES, PAGE, b"<</Length 6 0 R>>stream\n", FORM, b"6 0 R"),
        pdf(
            b"<</Type/Catalog/Pages 2 0 R>>", PAGES, PAGE,
            b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(BOMB), BOMB), FORM,
        ),
        pdf(b"[" * 100_000),
        b"%PDF-1.7\n" + b"<<" * 500_000,
    ],
    ids=["pages", "count", "form", "outline", "length", "bomb", "arrays", "dictionaries"],
)  # fmt: skip
def test_a_pdf_that_leads_round_in_circles_ends(content: bytes) -> None:
    """Each object of a PDF may refer to each other one."""
    begun = time.monotonic()

    outcome(PARSER, "a.pdf", content)

    assert time.monotonic() - begun < 60


MIXED = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n"


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.eml", MIXED + b"--b\n" + MIXED * 5_000),
        ("a.eml", b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2_000))),
        ("a.eml", b"Content-Type: message/rfc822\n\n" * 5_000),
        ("a.eml", b"X: y\n" * 500_000 + b"\ntext"),
        ("a.eml", b"Subject: " + b"=?utf-8?q?a?= " * 4_000 + b"\n\ntext"),
        ("a.eml", b"Content-Type: text/plain" + b"".join(b'; name*%d="a"' % n for n in range(3_000)) + b"\n\nx"),
        ("a.eml", b"To: " + b'"' * 60_000 + b"\n\ntext"),
        ("a.eml", b"From: " + b"(" * 30_000 + b"\n\ntext"),
        ("a.ipynb", b'{"cells": ' + b"[" * 500_000),
        ("a.ipynb", b'{"cells": [' + b'{"cell_type": "code", "source": "``````````"},' * 50_000 + b"{}]}"),
        ("a.rtf", b"{\\rtf1" + b"{" * 500_000),
        ("a.rtf", b"{\\rtf1 \\bin999999999 x}"),
        ("a.zip", b"PK\x05\x06" + bytes(8) + b"\xff" * 8 + bytes(2)),
        ("a.tar", b"a" * 512 * 1000),
    ],
)  # fmt: skip
def test_other_formats_that_are_nested_or_repeated_without_end_are_done_with_soon(name: str, content: bytes) -> None:
    """Libraries call themselves, or look through all again for each piece."""
    begun = time.monotonic()

    outcome(IMPATIENT, name, content)

    assert time.monotonic() - begun < 60


# ----------------------------------------------------------------------------------------- the limits themselves


def test_files_that_break_the_reader_one_after_the_other_are_not_all_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 30 s: ten thousand of them would take days."""
    parser = Parser()
    read = parser._reader.read

    def read_but_pages(kind: Kind, *arguments: Any) -> Reading:
        if kind is Kind.HTML:
            raise UnreadableDocument("parser_too_slow", "it took too long")
        return read(kind, *arguments)

    monkeypatch.setattr(parser._reader, "read", read_but_pages)
    document = Document(DocumentRef(DocumentId("a.zip"), ""), zipped(*((f"{n}.html", b"<p>x") for n in range(6))))

    codes = [part.code for part in parser.parse(document) if isinstance(part, UnreadPart)]

    assert codes == ["parser_too_slow"] * 3 + ["not_tried"] * 3


# ------------------------------------------------------------------------- what must not look like a removal


@pytest.mark.parametrize("cut", [0, 1, 512, 1024, 1536, 2560])
def test_an_archive_that_is_cut_off_or_broken_is_not_one_with_fewer_files(cut: int) -> None:
    """What is not in it would be deleted, since the archive was read to its end."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("a.txt", "b.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"words"))
    content = packed.getvalue()
    assert len(parse(content, "a.tar")) == 2

    for broken in (content[:cut], content[:cut] + b"x" * 512 + content[cut + 512 :]):
        if broken:
            result = outcome(PARSER, "a.tar", broken)
            assert result == "dead letter broken_archive" or len(result) == 2, result
    blank = bytes(512) + content[512:]
    assert refused(blank, "a.tar") == "broken_archive"


def test_a_zip_file_that_lists_less_than_it_tells_is_not_one_with_fewer_files() -> None:
    """Its list stands at its end, behind an entry that says how long the list is."""
    content = bytearray(zipped(("a.txt", b"words"), ("b.txt", b"words")))
    end = content.rfind(b"PK\5\6")
    content[end + 12 : end + 16] = bytes(4)

    assert refused(bytes(content), "a.zip") == "broken_archive"


def test_the_time_of_one_document_can_be_set() -> None:
    """Whoever has large books gives them more."""
    page = b"<p>word <b>bold</b> " * 200_000

    assert refused(page, "a.html", limits={"document_s": 0.2}) == "parser_too_slow"


def test_several_threads_read_with_one_parser() -> None:
    """They wait for each other, and each gets its own answer."""
    results: dict[int, list[Parsed]] = {}

    def read(number: int) -> None:
        results[number] = parse(zipped((f"{number}.md", b"words %d" % number)), f"{number}.zip")

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number, (part,) in results.items():
        assert isinstance(part, ParsedDocument)
        assert (part.id, part.text) == (f"{number}.zip#{number}.md", f"words {number}")


def test_broken_files_of_every_format_end_as_texts_or_errors_of_ours_and_twice_alike() -> None:
    """`python -m tests.security.broken_formats` tries thousands."""
    for number, name, content in broken_files(seed=1, count=200):
        first = outcome(PARSER, name, content)

        assert outcome(PARSER, name, content) == first, number


def test_no_message_holds_text_of_the_document() -> None:
    """Messages go to logs and dead letters."""
    for name, content in (
        ("b.docx", word_document(b"<hunter2")),
        ("a.docx", zipped(("hunter2", b"hunter2"))),
        ("a.pdf", b"%PDF hunter2"),
        ("a.ipynb", b'{"cells": hunter2'),
        ("a.eml", b"\nhunter2"),
        ("a.txt.gz", b"hunter2"),
    ):
        with pytest.raises(SyncError) as raised:
            parse(content, name)
        assert "hunter2" not in str(raised.value), name
