"""Mails: their text, what their head says, and their attachments as files of their own."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email import policy
from email.errors import CloseBoundaryNotFoundDefect, MessageError, StartBoundaryNotFoundDefect
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import getaddresses, parsedate_to_datetime

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import DocumentId, DocumentRef, Markup, MetadataValue, ParsedDocument
from pipeline.parsing.decoding import clean, decode, find_encoding
from pipeline.parsing.html import parse_html
from pipeline.parsing.metadata import as_time, metadata_of
from pipeline.parsing.readings import Content, Member, Reading, UnpackingLimits

HEADER_CHARS_MAX = 64 * 1024  # a longer one takes the library seconds
TITLE_CHARS_MAX = 300

_REF = DocumentRef(DocumentId("mail"), "")
_HEAD_END = re.compile(rb"\n\r?\n|\r\r|^\r?\n")
_OF_TEXT = {"multipart/alternative", "multipart/related"}  # some programs never end them
_SIGNATURES = {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
# What the library's own parser of broken headers is known to raise.
_HEADER_FAULTS = (MessageError, LookupError, ValueError, TypeError, AttributeError, AssertionError, RecursionError)


def read_mail(data: bytes, limits: UnpackingLimits, encoding: str | None = None) -> Reading:
    """The mail's plain text, or else its HTML as Markdown; its attachments are files in it.

    Pictures that belong to the text, and signatures, are neither.

    Raises:
        UnreadableDocument: this is no mail, or it has too many attachments.
    """
    try:
        message = BytesParser(EmailMessage, policy=policy.default).parsebytes(data)
        if not message.keys():
            raise UnreadableDocument("not_a_mail", "it does not begin with the headers of a mail")
        parts = _Parts()
        parts.sort(message)
    except _HEADER_FAULTS as error:
        raise UnreadableDocument(
            "broken_mail", f"the mail's structure cannot be read ({type(error).__name__})"
        ) from error
    if len(parts.attachments) > limits.entries_max:
        raise UnreadableDocument("too_many_entries", f"the mail has more than {limits.entries_max:,} attachments")
    title = _header(message, "subject")
    sent_at = _date(message)
    text, markup = _text_of(parts.texts, encoding)
    metadata = _metadata(message, sent_at)
    return Reading(
        ParsedDocument(_REF.id, text, markup, title=title[:TITLE_CHARS_MAX] or None, modified_at=sent_at),
        [_member(attachment, sent_at) for attachment in parts.attachments],
        metadata,
        is_cut_off=not _HEAD_END.search(data)
        or any(_lacks_its_end(part, has_attachments=bool(parts.attachments)) for part in message.walk()),
    )


def _lacks_its_end(part: EmailMessage, *, has_attachments: bool) -> bool:
    """Whether the mail broke off in `part`, so that there may have been attachments."""
    kinds = {type(defect) for defect in part.defects}
    if StartBoundaryNotFoundDefect in kinds:
        return not _bytes_of(part).strip()  # else it is a text under a wrong name
    return CloseBoundaryNotFoundDefect in kinds and (has_attachments or part.get_content_type() not in _OF_TEXT)


@dataclass(slots=True)
class _Parts:
    """The leaves of a mail that are its text, and those that are attached to it."""

    texts: list[EmailMessage] = field(default_factory=list)
    attachments: list[EmailMessage] = field(default_factory=list)

    def sort(self, part: EmailMessage) -> None:
        kind = part.get_content_type()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            children = [child for child in part.iter_parts() if isinstance(child, EmailMessage)]
            if kind == "multipart/alternative":
                self._sort_alternatives(children)
            elif kind == "multipart/related":
                for child in children[:1]:
                    self.sort(child)
                self.attachments += [child for child in children[1:] if child.is_attachment()]
            else:
                for child in children:
                    self.sort(child)
        elif _is_text(part):
            self.texts.append(part)
        elif kind not in _SIGNATURES and not _is_picture_in_text(part):
            self.attachments.append(part)

    def _sort_alternatives(self, children: list[EmailMessage]) -> None:
        """Take the plain text if there is one that is not blank, else the HTML; attachments of all of them."""
        choices = []
        for child in children:
            choice = _Parts()
            choice.sort(child)
            self.attachments += choice.attachments if child.is_multipart() or child.is_attachment() else []
            if choice.texts:
                choices.append(choice.texts)
        with_words = [texts for texts in choices if any(_bytes_of(text).strip() for text in texts)]
        plain = [texts for texts in with_words if all(text.get_content_type() == "text/plain" for text in texts)]
        for texts in [*plain, *with_words[::-1], *choices][:1]:  # the last is the richest
            self.texts += texts


def _is_text(part: EmailMessage) -> bool:
    is_readable = part.get_content_type() in ("text/plain", "text/html") or part.get_content_maintype() == "multipart"
    return is_readable and not part.is_attachment() and part.get_filename() is None  # a multipart without its parts


def _is_picture_in_text(part: EmailMessage) -> bool:
    return part.get_content_maintype() == "image" and part.get_content_disposition() == "inline"


def _bytes_of(part: EmailMessage) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text_of(parts: list[EmailMessage], encoding: str | None) -> tuple[str, Markup]:
    """The parts' texts, one below the other: as they stand if all are plain."""
    texts, markup = [], Markup.PLAIN
    for part in parts:
        is_html = part.get_content_type() == "text/html"
        data = _bytes_of(part)
        try:
            found = find_encoding(data, forced=encoding, declared=part.get_content_charset(), is_html=is_html)
        except UnsupportedDocument as error:
            raise UnreadableDocument("binary_text", "the text of the mail is no text") from error
        text = decode(data, found)
        if is_html:
            text, markup = parse_html(_REF, text).text, Markup.MARKDOWN
        texts.append(text.strip("\n"))
    return "\n\n".join(text for text in texts if text.strip()), markup


# ------------------------------------------------------------------------------------------------- the head


def _header(message: EmailMessage, name: str) -> str:
    """The header's words on one line, decoded as far as it can be; nothing if it is not there."""
    raw = next((value for key, value in message.raw_items() if key.lower() == name), "")
    if len(raw) > HEADER_CHARS_MAX:
        return " ".join(clean(raw[:HEADER_CHARS_MAX]).split())
    try:
        value = str(message.get(name) or "")
    except _HEADER_FAULTS:
        value = raw
    return " ".join(clean(value).split())


def _date(message: EmailMessage) -> datetime | None:
    try:
        return as_time(parsedate_to_datetime(_header(message, "date")))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _metadata(message: EmailMessage, sent_at: datetime | None) -> dict[str, MetadataValue]:
    return metadata_of(
        {
            "from": _header(message, "from"),
            "to": _addresses(message, "to"),
            "cc": _addresses(message, "cc"),
            "date": sent_at,
            "message-id": _header(message, "message-id").strip("<>"),
            "in-reply-to": _header(message, "in-reply-to").strip("<>"),
            "list-id": _header(message, "list-id"),
        }
    )


def _addresses(message: EmailMessage, name: str) -> tuple[str, ...]:
    found = getaddresses([_header(message, name)])
    return tuple(f"{words} <{address}>" if words else address for words, address in found if words or address)


# ---------------------------------------------------------------------------------------------- attachments

_NOT_IN_NAMES = re.compile(r"[\s/\\]+")


def _member(part: EmailMessage, sent_at: datetime | None) -> Member:
    media_type = part.get_content_type()
    try:
        data = b"".join(_nested(part)) if media_type.startswith("message/") else _bytes_of(part)
        name = _name(part)
    except _HEADER_FAULTS as error:
        broken = Content("attachment", b"", media_type)
        return Member(broken, problem=("broken_mail", f"the attachment cannot be read ({type(error).__name__})"))
    charset = part.get_content_charset()
    return Member(Content(name, data, f"{media_type}; charset={charset}" if charset else media_type), sent_at)


def _nested(part: EmailMessage) -> Iterator[bytes]:
    payload = part.get_payload()
    for message in payload if isinstance(payload, list) else ():
        if isinstance(message, EmailMessage):
            yield message.as_bytes(policy=policy.compat32)  # as it came: it is not read, and so not mended
    if isinstance(payload, str):
        yield _bytes_of(part)


def _name(part: EmailMessage) -> str:
    """The attachment's file name; of a mail without one its subject."""
    name = part.get_filename() or ""
    if not name and part.get_content_type() == "message/rfc822":
        payload = part.get_payload()
        first = payload[0] if isinstance(payload, list) and payload else None
        subject = _header(first, "subject") if isinstance(first, EmailMessage) else ""
        name = f"{subject[:100] or 'mail'}.eml"
    return _NOT_IN_NAMES.sub(" ", clean(name)).strip() or "attachment"
