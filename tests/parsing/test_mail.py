"""Mails: what is their text, what they say of themselves, and what becomes of their attachments."""

from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from pipeline.errors import UnreadableDocument
from pipeline.model import Document, DocumentId, DocumentRef, LeftOutPart, Markup, Parsed, ParsedDocument, UnreadPart
from pipeline.parsing import Parser
from pipeline.parsing.settings import ParsingSettings

PARSER = Parser()  # the process that it starts is kept

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def mail(text: str = "Hello,\n\nhere it is.\n", **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Größe des Lagers"
    message["From"] = "Ann Müller <ann@example.com>"
    message["To"] = "bob@example.com, Carl <carl@example.com>"
    message["Date"] = "Tue, 02 Jan 2024 03:04:05 +0100"
    message["Message-ID"] = "<1@example.com>"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


def parse(content: EmailMessage | bytes, name: str = "17.eml", **settings: object) -> list[Parsed]:
    data = content if isinstance(content, bytes) else content.as_bytes(policy=SMTP)
    parser = Parser(ParsingSettings.model_validate(settings).rules()) if settings else PARSER
    return list(parser.parse(Document(DocumentRef(DocumentId(name), f"file:///{name}"), data)))


def text_of(parsed: Parsed) -> str:
    assert isinstance(parsed, ParsedDocument), parsed
    return parsed.text


def ids(parsed: list[Parsed]) -> list[str]:
    return [each.id for each in parsed]


def test_a_mail_is_its_text_with_what_its_head_says() -> None:
    """Who wrote it, to whom and when, is what one searches mails by."""
    parsed = parse(mail(Cc="dora@example.com"))

    assert parsed == [
        ParsedDocument(
            DocumentId("17.eml"),
            "Hello,\n\nhere it is.",
            Markup.PLAIN,
            "Größe des Lagers",
            datetime(2024, 1, 2, 2, 4, 5, tzinfo=UTC),
            {
                "from": "Ann Müller <ann@example.com>",
                "to": ("bob@example.com", "Carl <carl@example.com>"),
                "cc": ("dora@example.com",),
                "date": "2024-01-02T03:04:05+01:00",
                "message-id": "1@example.com",
            },
        )
    ]


def test_the_media_type_is_enough() -> None:
    """A mail server's mails have numbers for names."""
    ref = DocumentRef(DocumentId("INBOX/17"), "imap://host/INBOX/17")

    (parsed,) = Parser().parse(Document(ref, mail().as_bytes(), "message/rfc822"))

    assert text_of(parsed) == "Hello,\n\nhere it is."


def test_plain_text_is_preferred_to_html() -> None:
    """It is what the writer wrote; the other is how it looks."""
    message = mail("plain")
    message.add_alternative("<p>rich <b>text</b></p>", subtype="html")

    (parsed,) = parse(message)

    assert text_of(parsed) == "plain"


@pytest.mark.parametrize("plain", ["", " \n"])
def test_html_is_read_where_the_plain_text_is_blank(plain: str) -> None:
    """Many programs send an empty one along."""
    message = mail(plain)
    message.add_alternative("<h1>News</h1><p>rich <b>text</b></p>", subtype="html")

    (parsed,) = parse(message)

    assert isinstance(parsed, ParsedDocument)
    assert (parsed.text, parsed.markup) == ("# News\n\nrich **text**", Markup.MARKDOWN)


def test_pictures_in_the_text_and_signatures_are_no_attachments() -> None:
    """Each mail of a company would come with its logo."""
    message = mail("plain")
    message.add_alternative("<p>rich</p><img src='cid:logo'>", subtype="html")
    *_, html = message.iter_parts()
    assert isinstance(html, EmailMessage)
    html.add_related(PNG, "image", "png", cid="<logo>")
    message.add_attachment(b"-----BEGIN", maintype="application", subtype="pgp-signature", filename="signature.asc")

    assert ids(parse(message)) == ["17.eml"]


def test_attachments_are_documents_beside_the_mail() -> None:
    """They are read as files of their names would be, and know which mail they came with."""
    message = mail("See the notes.")
    message.add_attachment("# Notes\n\nAll of them.", subtype="markdown", filename="notes.md")
    message.add_attachment(b"id,text\n1,one\n2,two\n", maintype="application", subtype="octet-stream", filename="t.csv")
    message.add_attachment(PNG, maintype="image", subtype="png", filename="photo.png")

    parsed = parse(message)

    assert ids(parsed) == [
        "17.eml#message",
        "17.eml#notes.md",
        "17.eml#t.csv#1",
        "17.eml#t.csv#2",
        "17.eml#photo.png",
    ]
    notes = parsed[1]
    assert isinstance(notes, ParsedDocument)
    assert (notes.text.strip(), notes.title, notes.markup) == ("# Notes\n\nAll of them.", "Notes", Markup.MARKDOWN)
    assert notes.modified_at == datetime(2024, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert notes.metadata["from"] == "Ann Müller <ann@example.com>"
    assert parsed[4] == LeftOutPart(DocumentId("17.eml#photo.png"), "unsupported type image/png")


def test_attachments_of_one_name_have_ids_of_their_own() -> None:
    """Also if one is called like the mail's own part, or as if it were the second of its name."""
    message = mail()
    for name in ("a.txt", "a.txt", "a.txt~2", "message", "b#c.txt", "d/../e.txt"):
        message.add_attachment(f"text of {name}", filename=name)

    parsed = parse(message)

    assert ids(parsed) == [
        "17.eml#message",
        "17.eml#a.txt",
        "17.eml#a.txt~2",
        "17.eml#a.txt~2~2",
        "17.eml#message~2",
        "17.eml#b%23c.txt",
        "17.eml#d .. e.txt",
    ]
    assert parse(message) == parsed


def test_a_mail_in_a_mail_is_read_like_the_one_around_it() -> None:
    """A conversation that was forwarded is worth as much as one that was not."""
    inner = mail("inner words")
    inner.add_attachment("inner notes", filename="n.txt")
    outer = mail("outer words")
    outer.add_attachment(inner)

    parsed = parse(outer)

    assert ids(parsed) == ["17.eml#message", "17.eml#Größe des Lagers.eml#message", "17.eml#Größe des Lagers.eml#n.txt"]
    assert [text_of(each).strip() for each in parsed] == ["outer words", "inner words", "inner notes"]


def test_mails_are_read_to_a_limited_depth() -> None:
    """One that contains itself is never at its end."""
    message = mail("the innermost")
    for number in range(6):
        around = mail(f"number {number}")
        around.add_attachment(message)
        message = around

    parsed = parse(message, limits={"depth": 2})

    assert [type(each).__name__ for each in parsed] == ["ParsedDocument", "ParsedDocument", "UnreadPart"]
    assert isinstance(parsed[-1], UnreadPart)
    assert parsed[-1].code == "too_deep"


def test_a_broken_attachment_costs_only_itself() -> None:
    """The mail is as good as it was."""
    message = mail("See below.")
    message.add_attachment(b"PK\x03\x04 no archive", maintype="application", subtype="zip", filename="a.zip")
    message.add_attachment("good", filename="b.txt")

    mail_itself, broken, good = parse(message)

    assert text_of(mail_itself).strip() == "See below."
    assert isinstance(broken, UnreadPart)
    assert (broken.id, broken.code) == ("17.eml#a.zip", "broken_archive")
    assert text_of(good).strip() == "good"


def test_a_mail_with_attachments_that_is_cut_off_is_read_and_reported() -> None:
    """What stood behind the cut is not gone."""
    message = mail("See below.")
    message.add_attachment("first", filename="a.txt")
    whole = message.as_bytes(policy=SMTP)
    cut = whole[: whole.rindex(b"\r\n--")]

    read = PARSER.parse(Document(DocumentRef(DocumentId("17.eml"), ""), cut))

    assert [next(read).id, next(read).id] == ["17.eml#message", "17.eml#a.txt"]
    with pytest.raises(UnreadableDocument) as raised:
        next(read)
    assert raised.value.code == "cut_off"


def test_a_text_in_two_forms_needs_no_end() -> None:
    """Some programs never write it, and there are no attachments among forms of one text."""
    message = mail("See below.")
    message.add_alternative("<p>See below.", subtype="html")
    whole = message.as_bytes()

    (read,) = PARSER.parse(Document(DocumentRef(DocumentId("17.eml"), ""), whole[: whole.rindex(b"\n--")]))

    assert isinstance(read, ParsedDocument)
    assert (read.id, read.text) == ("17.eml", "See below.")


def test_too_many_attachments_are_not_read() -> None:
    """Each costs a look at the ledger and more."""
    message = mail()
    for number in range(5):
        message.add_attachment("x", filename=f"{number}.txt")

    with pytest.raises(UnreadableDocument) as raised:
        parse(message, limits={"entries": 4})

    assert raised.value.code == "too_many_entries"


@pytest.mark.parametrize(
    "head",
    [
        b"Subject: =?utf-9?q?x?=\nFrom: =?x\nDate: yesterday\n",
        b"Subject: " + b"a" * 200_000 + b"\n",
        b"From: " + b"<(" * 5_000 + b"\n",
        b"To: " + b"a@b, " * 20_000 + b"\n",
        b"Content-Type: text/plain; charset=no-such\n",
        b"Content-Type: ;;;\nSubject: \xff\xfe\n",
        b"Content-Type: multipart/mixed\n",
        b"Date: Tue, 99 Foo 99999 99:99:99 +9999\n",
        b"Message-ID: <[@\n",
        b"Content-Transfer-Encoding: base64\nSubject: x\n",
    ],
    ids=lambda head: head[:24].decode("latin-1"),
)
def test_a_head_that_is_wrong_does_not_cost_the_text(head: bytes) -> None:
    """Mail is written by programs of four decades."""
    (parsed,) = parse(head + b"\nVGhlIHRleHQ=\n")

    assert text_of(parsed) in ("VGhlIHRleHQ=", "The text")


@pytest.mark.parametrize("charset", ["iso-8859-2", "utf-8", "shift_jis"])
def test_the_charset_of_the_text_is_kept(charset: str) -> None:
    """Few words are too few to guess from."""
    words = {"iso-8859-2": "Łódź", "utf-8": "Łódź", "shift_jis": "いろは"}[charset]
    head = f"Subject: x\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n\n"

    (parsed,) = parse(head.encode() + words.encode(charset))

    assert text_of(parsed) == words


def test_what_is_no_mail_is_reported() -> None:
    """It may be a file of another kind with that ending."""
    with pytest.raises(UnreadableDocument, match="headers"):
        parse(b"\njust text\n")


def test_a_mail_without_text_is_a_document_without_text() -> None:
    """It exists."""
    (parsed,) = parse(mail(""))

    assert text_of(parsed) == ""
