"""Which documents are read, how their kind is found, and that their text comes out clean and whole."""

import codecs
import contextlib
import unicodedata
from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import SyncError, UnreadableDocument, UnsupportedDocument
from pipeline.model import Document, DocumentId, DocumentRef, Markup, ParsedDocument
from pipeline.parsing import Parser
from pipeline.parsing.settings import ParsingSettings

SECRET = "hunter2 Geheimnis"


def ref(name: str, title: str | None = None) -> DocumentRef:
    return DocumentRef(DocumentId(name), f"file:///documents/{name}", title=title)


def parse_all(
    content: bytes | str, name: str = "note.txt", media_type: str | None = None, **settings: object
) -> list[ParsedDocument]:
    content = content.encode() if isinstance(content, str) else content
    parser = Parser(ParsingSettings.model_validate(settings).rules())
    documents = list(parser.parse(Document(ref(name), content, media_type)))
    return [document for document in documents if isinstance(document, ParsedDocument)]


def parse(
    content: bytes | str, name: str = "note.txt", media_type: str | None = None, **settings: object
) -> ParsedDocument:
    (document,) = parse_all(content, name, media_type, **settings)
    return document


# ------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ["logo.png", "scan.PNG", "lib/core.so", "x.pyc", "model.7z"])
def test_files_without_text_are_left_out_by_their_name(name: str) -> None:
    """They need not even be fetched, and the report counts them by type."""
    suffix = name[name.rindex(".") :].lower()

    assert Parser().reason_to_skip(ref(name)) == f"unsupported type {suffix}"


@pytest.mark.parametrize("name", ["a.md", "a.html", "README", "Makefile", "v1.2", ".gitignore", "a.unknown", "a.png/b"])
def test_any_other_file_is_fetched(name: str) -> None:
    """Text has more suffixes than anyone can list."""
    assert Parser().reason_to_skip(ref(name)) is None


def test_the_name_in_an_address_ends_before_the_question_mark() -> None:
    """A connector for the web has addresses for ids."""
    parser = Parser()
    address = DocumentRef(DocumentId("17"), "https://example.com/a/logo.png?size=2#top")
    host = DocumentRef(DocumentId("18"), "https://example.zip")

    assert parser.reason_to_skip(address) == "unsupported type .png"
    assert parser.reason_to_skip(host) is None


@pytest.mark.parametrize(
    ("name", "markup"),
    [
        ("a.md", Markup.MARKDOWN),
        ("a.MDX", Markup.MARKDOWN),
        ("a.htm", Markup.MARKDOWN),
        ("a.rst", Markup.PLAIN),
        ("a.py", Markup.PLAIN),
        ("a.json", Markup.PLAIN),
        ("README", Markup.PLAIN),
        ("a.unknown", Markup.PLAIN),
    ],
)
def test_the_name_tells_the_kind(name: str, markup: Markup) -> None:
    """It is what people go by as well."""
    assert parse("some text", name).markup is markup


def test_a_media_type_overrules_the_name() -> None:
    """Whoever sends a document knows better what it is than we do."""
    assert parse("<p>one &amp; two</p>", "page.txt", "text/html; charset=utf-8").text == "one & two"
    assert parse("# a", "page.html", "text/plain").markup is Markup.PLAIN


def test_a_media_type_that_says_nothing_leaves_it_to_the_name() -> None:
    """Servers send it for all that they do not know."""
    assert parse("# a", "page.md", "application/octet-stream").markup is Markup.MARKDOWN


@pytest.mark.parametrize("media_type", ["image/png", "video/mp4; x=y"])
def test_a_media_type_without_text_is_unsupported(media_type: str) -> None:
    """It is left out and counted, not taken for broken."""
    with pytest.raises(UnsupportedDocument) as raised:
        parse(b"x", "page", media_type)

    assert raised.value.reason == f"unsupported type {media_type.partition(';')[0]}"


@pytest.mark.parametrize("start", ["<!DOCTYPE html>", "\n<html lang='en'>", "\ufeff<!-- made by x --><!doctype HTML>"])
def test_html_is_recognised_without_a_suffix(start: str) -> None:
    """Pages of the web seldom have one."""
    assert parse(f"{start}<body><h1>Hello</h1></body>", "page").text == "# Hello"


@pytest.mark.parametrize(
    "content", [b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe", bytes(range(256)) * 20, b"\x89\x01\x02\x03\x04"]
)
@pytest.mark.parametrize("name", ["program", "note.txt", "note.md"])
def test_binary_content_is_unsupported_whatever_its_name(content: bytes, name: str) -> None:
    """Noise in the memory would come up in searches."""
    with pytest.raises(UnsupportedDocument, match="binary file"):
        parse(content, name)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a"])
@pytest.mark.parametrize("content", [b"", b" \n", codecs.BOM_UTF8])
def test_an_empty_file_is_a_document_without_text(name: str, content: bytes) -> None:
    """It exists, and what it held before must go."""
    assert parse(content, name).text.strip() == ""


# --------------------------------------------------------------------------------------------- encodings

GERMAN = "Größe und Maß: schöne Grüße aus Köln. " * 20
RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20
JAPANESE = "いろはにほへと ちりぬるを わかよたれそ つねならむ。日本語の文章です。" * 20


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "utf-8"),
        (GERMAN, "utf-8-sig"),
        (GERMAN, "utf-16"),
        (GERMAN, "utf-32"),
        (GERMAN, "utf-16-le"),
        (GERMAN, "utf-16-be"),
        (GERMAN, "cp1252"),
        (RUSSIAN, "cp1251"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
    ],
)
def test_the_encoding_is_found(text: str, encoding: str) -> None:
    """Old files do not say what they are written in."""
    assert parse(text.encode(encoding)).text == text


def test_big_endian_utf16_with_a_mark_is_read() -> None:
    """Python's own codec only writes the other one."""
    assert parse(codecs.BOM_UTF16_BE + "Grüße".encode("utf-16-be")).text == "Grüße"


def test_a_page_may_declare_its_encoding() -> None:
    """Three words are too few to guess from."""
    page = '<html><head><meta charset="iso-8859-2"></head><body><p>Łódź</p></body></html>'

    assert parse(page.encode("iso-8859-2"), "page.html").text == "Łódź"


def test_a_media_type_may_declare_the_encoding() -> None:
    """HTTP does."""
    assert parse("Łódź".encode("iso-8859-2"), "page", "text/plain; charset=ISO-8859-2").text == "Łódź"


def test_the_configured_encoding_is_used_and_enforced() -> None:
    """Who sets it knows; what does not fit it is reported instead of guessed."""
    assert parse("Łódź".encode("iso-8859-2"), encoding="iso-8859-2").text == "Łódź"
    with pytest.raises(UnreadableDocument, match="byte 3 is not valid ascii"):
        parse("abcß", encoding="ascii")


@pytest.mark.parametrize("encoding", ["utf-9", "rot13", "hex", "idna", "unicode_escape"])
def test_an_encoding_that_files_do_not_have_is_refused_in_the_settings(encoding: str) -> None:
    """Before the run, not at the first document."""
    with pytest.raises(ValidationError, match="no encoding of this name"):
        ParsingSettings(encoding=encoding)


@pytest.mark.parametrize("declared", ["unicode_escape", "punycode", "utf-7", "rot13", "no-such"])
def test_a_page_cannot_choose_a_decoder_that_is_not_for_files(declared: str) -> None:
    """Some take quadratic time, others make one text of another."""
    page = f'<meta charset="{declared}"><p>'.encode() + GERMAN.encode("cp1252") + b"</p>"

    assert "Größe und Maß" in parse(page, "page.html").text


def test_one_stray_byte_does_not_spoil_a_text() -> None:
    """Taken for another encoding, every letter with a dot or a dash would be wrong."""
    text = parse(JAPANESE.encode() + b"\xff" + JAPANESE.encode()).text

    assert text == f"{JAPANESE}\ufffd{JAPANESE}"


def test_a_few_broken_bytes_do_not_make_a_page_binary() -> None:
    """It would be left out without a word."""
    assert "schöne Grüße" in parse(f"<p>{GERMAN}".encode("cp1252") + b"\0\x01\xff", "page.html").text


def test_line_ends_become_newlines_and_control_characters_go() -> None:
    """The memory refuses some of them, and the same text must not differ by the editor that saved it."""
    assert parse("one\r\ntwo\rthree\n\tfour\0\x07\x1b\ffive").text == "one\ntwo\nthree\n\tfour\nfive"


def test_nothing_else_of_a_text_is_changed() -> None:
    """What is stored is what was written: no other form of accents, no other spaces."""
    text = "e\u0301 \u00a0 \u2028 \u200b \ufb01 \x7f \x85  trailing  \n\n\n"

    assert parse(text).text == text


def test_content_that_is_only_control_characters_is_reported() -> None:
    """A document must not vanish silently."""
    with pytest.raises(UnreadableDocument) as raised:
        parse("\x01\x02\x03")

    assert raised.value.code == "blank_output"


# ------------------------------------------------------------------------------------------ hostile input


@settings(deadline=None)  # a page of HTML is read by another process
@given(
    st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
    st.sampled_from(["a", "a.txt", "a.md", "a.html", "a.jsonl", "a.csv", "a.tsv"]),
    st.sampled_from([b"", b"---\n", b"<html>", b"# ", b'{"a": ', b"a,b\n", codecs.BOM_UTF16_LE, codecs.BOM_UTF8]),
)
def test_any_content_gives_clean_text_or_an_error_of_ours(content: bytes, name: str, start: bytes) -> None:
    """One broken document must not stop a run, and what goes on must be fit for JSON."""
    try:
        documents = parse_all(start + content, name)
    except SyncError:
        return

    for document in documents:
        for text in (document.text, document.id, document.title or "", *document.metadata):
            assert not any(unicodedata.category(letter) == "Cs" for letter in text)
            assert not any(letter < " " and letter not in "\n\t" for letter in text)
            text.encode()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["a", "a.txt", "a.md", "a.html", "a.jsonl", "a.csv"])
@pytest.mark.parametrize(
    "pattern",
    [
        "a", " ", "\n", "[", "{", "<", "<a ", "<!--", "<b>", "<main>", "&", "'", '"', ",", "# ", "#", "`", "```\n",
        "---\n", "- ", ": ", "*",
    ],
)  # fmt: skip
def test_no_pattern_takes_more_than_linear_time(name: str, pattern: str) -> None:
    """A hundred thousand repetitions would take minutes if anything were quadratic."""
    with contextlib.suppress(UnreadableDocument, UnsupportedDocument):
        parse_all(pattern * 100_000, name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", f'{{"text": "{SECRET}", }}'),
        ("a.jsonl", f'"{SECRET}"'),
        ("a.csv", f'text\n"{SECRET}'.replace("text", "other")),
        ("a.html", "<div>" * 5_000 + SECRET),
        ("a.txt", b"\x00\xff" + SECRET.encode()),
    ],
)
def test_no_error_holds_text_of_the_document(name: str, content: str | bytes) -> None:
    """Errors go to logs and dead letters, which more people can read than the documents."""
    with pytest.raises(SyncError) as raised:
        parse_all(content, name, csv={"id": "missing"})

    assert "hunter2" not in str(raised.value)


def test_a_title_of_the_listing_is_kept_where_the_document_has_none() -> None:
    """A wiki knows the title of a page that does not state it."""
    document = Document(ref("note.txt", title="From the listing"), b"text")

    (parsed,) = Parser().parse(document)

    assert parsed == ParsedDocument(document.ref.id, "text", Markup.PLAIN, "From the listing")


def test_what_the_source_says_of_a_document_joins_what_it_says_of_itself_and_wins() -> None:
    """Whoever chose a column as metadata means that column; and each line of a file is of that file."""
    said = {"team": "docs", "rank": 2, "since": date(2024, 1, 2), "tags": ["a", "b"], "nothing": None}
    content = b"---\nteam: theirs\nauthor: Ann\n---\ntext"

    (parsed,) = Parser().parse(Document(ref("note.md"), content, metadata=said))
    assert isinstance(parsed, ParsedDocument)
    lines = list(Parser().parse(Document(ref("a.jsonl"), b'{"id": 1, "text": "one"}\n', metadata={"team": "docs"})))

    assert parsed.metadata == {
        "team": "docs", "author": "Ann", "rank": 2.0, "since": "2024-01-02", "tags": ("a", "b")
    }  # fmt: skip
    assert [line.metadata for line in lines if isinstance(line, ParsedDocument)] == [{"team": "docs"}]


# ----------------------------------------------------------------------------------------------- Markdown


def test_front_matter_becomes_title_time_and_metadata() -> None:
    """It is about the text, not a part of it."""
    document = parse(
        "---\ntitle: The Guide\nupdated: 2024-05-06T07:08:09Z\ndate: 2024-01-02\nauthor: Ann\ntags: [a, 2, true]\n"
        "draft: false\nrating: 4\nnothing:\nnested: {b: 1, a: [2]}\n---\n\n# Heading\n\nText\n",
        "guide.md",
    )

    assert document.title == "The Guide"
    assert document.modified_at == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert document.text == "# Heading\n\nText\n"
    assert document.metadata == {
        "updated": "2024-05-06T07:08:09Z",
        "date": "2024-01-02",
        "author": "Ann",
        "tags": ("a", "2", "true"),
        "draft": "false",
        "rating": 4.0,
        "nested": '{"a": [2], "b": 1}',
    }


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "front_matter",
    [
        "title: [unclosed",
        "a: 1\na: 2",
        "just words",
        "- a list",
        "a: &a [*a]",
        BOMB,
        "x: " + "[" * 30_000,
        "- " * 3_000,
        "x: !!python/object/apply:os.system ['true']",
        "a: " + "b" * 70_000,
    ],
    ids=lambda text: text[:12],
)
def test_front_matter_that_cannot_be_read_is_text(front_matter: str) -> None:
    """It may be no front matter at all; nothing is lost, and nothing is executed or blown up."""
    text = f"---\n{front_matter}\n---\nText"

    document = parse(text, "a.md")

    assert document.text == text
    assert document.metadata == {}


@pytest.mark.parametrize(
    "text", ["--- a\nb: c\n---\n", "----\nb: c\n----\n", "---\nnever: closed\n", "text\n---\nb: c\n---\n"]
)
def test_front_matter_stands_at_the_start_between_two_rules(text: str) -> None:
    """A rule elsewhere is a rule."""
    assert parse(text, "a.md").text == text


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("intro\n\n## The *Guide* to [x](y) ##\n", "The Guide to x"),
        ("The Guide\n=========\n", "The Guide"),
        ("```\n# comment\n```\n\n# Title", "Title"),
        ("~~~\n# never closed", None),
        ("#hashtag\n", None),
        ("---\ntitle: ''\n---\n# Title", "Title"),
        ("text", None),
    ],
)
def test_without_a_title_in_front_matter_the_first_heading_is_it(text: str, title: str | None) -> None:
    """It is what a reader would call the document."""
    assert parse(text, "a.md").title == title


# --------------------------------------------------------------------------------------------------- HTML

SPHINX_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>json &#8212; Python &amp; more</title>
<meta name="description" content="How to &quot;encode&quot;"><meta name="author" content="Ann">
<meta name="keywords" content="json, text"><meta property="article:modified_time" content="2024-01-02T03:04:05+00:00">
<meta name="date" content="2023-01-01"><style>p {color: red}</style></head>
<body><div class="related" role="navigation"><ul><li><a href="x">previous topic</a></li></ul></div>
<div class="document"><div class="body" role="main"><section id="json"><div><h1>json
<a class="headerlink" href="#json" title="Permalink">¶</a></h1>
<p>Read the <a href="other.html" title="tip">other <em>page</em></a> &lt;now&gt;.</p>
<script>var tracking = "<main>";</script>
<div class="highlight"><pre><span class="gp">&gt;&gt;&gt; </span><span class="kn">import</span> json
    indented</pre></div>
<table><thead><tr><th>JSON</th><th>Python</th></tr></thead><tbody><tr><td>null</td><td>None</td></tr></tbody></table>
</div></section></div></div>
<div class="sphinxsidebar"><h3>Table of Contents</h3></div><footer>All rights reserved</footer></body></html>"""


def test_the_main_text_of_a_page_becomes_markdown() -> None:
    """Navigation, scripts and addresses are the same on every page, and cost room in the memory."""
    document = parse(SPHINX_PAGE, "json.html")

    assert document.text == (
        "# json\n\nRead the other *page* <now>.\n\n```\n>>> import json\n    indented\n```\n\n"
        "| JSON | Python |\n| --- | --- |\n| null | None |"
    )


def test_the_way_from_page_to_page_of_a_docbook_manual_is_no_text() -> None:
    """It stands above and below each page of PostgreSQL's, Debian's and FreeBSD's, which name no main element."""
    ways = '<div class="navheader"><table><tr><td>Prev</td></tr></table></div><ul class="docnav"><li>Home</li></ul>'
    page = f'<html><body>{ways}<h1>ANALYZE</h1><p>Words.</p><div class="navfooter">Next</div></body></html>'

    assert parse(page, "analyze.html").text == "# ANALYZE\n\nWords."


def test_the_head_of_a_page_becomes_title_time_and_metadata() -> None:
    """The page says of itself who wrote it and when."""
    document = parse(SPHINX_PAGE, "json.html")

    assert document.title == "json — Python & more"
    assert document.modified_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert document.metadata == {
        "description": 'How to "encode"',
        "author": "Ann",
        "keywords": ("json", "text"),
        "date": "2023-01-01",
    }


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<nav>n</nav><main><header><h1>T</h1></header>m</main><aside>a</aside>", "# T\n\nm"),
        ("<div>a<div role='main'>b<div>c</div>d</div>e</div>", "b\n\nc\n\nd"),
        ("<p>site</p><article><p>only</p></article><p>more</p>", "only"),
        ("<article>one</article><article>two</article>", "one\n\ntwo"),
        ("<!-- <main>old</main> --><p>new</p>", "new"),
        ("<script>'<main>'</script><p>text</p>", "text"),
        ("<main><p>never closed", "never closed"),
        ("<main></main><p>filled in by a script</p>", "filled in by a script"),
        ("<body><header>Site</header><p>text</p><footer>f</footer></body>", "text"),
        ("<p>fragment", "fragment"),
    ],
)
def test_the_main_text_is_what_the_page_says_it_is(page: str, text: str) -> None:
    """And the whole page where it does not say."""
    assert parse(page, "a.html").text == text


def test_a_page_without_a_title_is_named_by_its_first_heading() -> None:
    """As a reader would."""
    assert parse("<h2>Hello <b>you</b></h2>", "a.html").title == "Hello you"


@pytest.mark.parametrize(
    ("page", "code"), [("<div>" * 3_000 + "text", "too_deep"), ("<script>render()</script>", "blank_output")]
)
def test_a_page_that_gives_no_text_is_reported(page: str, code: str) -> None:
    """The library says nothing when it drops what is nested too deeply."""
    with pytest.raises(UnreadableDocument) as raised:
        parse(page, "a.html")

    assert raised.value.code == code
