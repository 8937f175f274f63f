"""Documents that are mails in the folders of an IMAP server."""

import re
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.imap.connections import Line, Pool
from connectors.imap.session import SILENT, UID_MAX, Access, Folder, ImapFault, Mail, MailPlace, Session
from connectors.kit.budget import ErrorBudget
from connectors.kit.refusals import too_large
from connectors.kit.secrets import SecretByReference, require_one, secret_of
from connectors.patterns import PatternList, Patterns
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.hosts import is_loopback
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    Fingerprint,
    ScanComplete,
    ScanError,
    SourceEvent,
)

MAILS_PER_PAGE = 1000
MEDIA_TYPE = "message/rfc822"

SpecialUse = Literal["all", "archive", "drafts", "flagged", "important", "junk", "sent", "trash"]


class ImapSettings(BaseModel):
    """Which mails of which account are documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["imap"]
    host: str = Field(pattern=r"^[A-Za-z0-9._:-]+$", description="The server's name or address: `imap.example.com`.")
    port: int | None = Field(default=None, ge=1, le=65535, description="null: 993 with `security: tls`, otherwise 143.")
    security: Literal["tls", "starttls", "none"] = Field(
        default="tls",
        description="tls from the first byte; starttls: begun before the password is sent, or not at all; or none.",
    )
    allow_unencrypted: bool = Field(
        default=False, description="Permit `security: none` towards another machine, password and all."
    )
    user: str = Field(min_length=1, description="The name to log in with, often the address.")
    password: SecretByReference | None = Field(default=None, description="The password, by reference: `${env:NAME}`.")
    password_variable: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of `password`: the name of the environment variable that holds it.",
    )
    folders: PatternList = Field(
        default=["*"],
        min_length=1,
        description=(
            "Patterns of the folders to take, in the language of .gitignore, with / between a folder and those in it; "
            "the last that matches decides."
        ),
    )
    exclude: PatternList = Field(default=[], description="Patterns of folders to leave out; they always win.")
    exclude_special: tuple[SpecialUse, ...] = Field(
        default=("trash", "junk", "drafts"),
        description=(
            "Folders to leave out by the use that the server marks them for: all, archive, drafts, flagged, important, "
            "junk, sent, trash."
        ),
    )
    max_age_days: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Only mails that arrived in so many days; what is older counts as removed. null: all.",
    )
    max_bytes: int = Field(
        default=50 * 1024 * 1024,
        gt=0,
        description="A larger mail is not read, attachments and all; it becomes a dead letter.",
    )
    connections: int = Field(
        default=4, ge=2, le=32, description="How many at once: one to list, the others to read. Servers often allow 10."
    )
    timeout_s: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds to wait for the server to begin or go on with an answer."
    )

    @model_validator(mode="after")
    def _has_password(self) -> "ImapSettings":
        require_one("password", self.password, self.password_variable)
        return self

    @model_validator(mode="after")
    def _is_safe(self) -> "ImapSettings":
        if self.security == "none" and not is_loopback(self.host) and not self.allow_unencrypted:
            raise ValueError(
                "`security` should be tls or starttls; `allow_unencrypted: true` permits sending all unencrypted"
            )
        return self


class ImapConnector:
    """Every mail in the folders that the settings take in is a document.

    Its id is what IMAP promises to be lasting: the folder's path and UIDVALIDITY, and the mail's UID. What they name
    never changes. If the server numbers a folder anew, or a mail is moved, it has another id and the same trace, of
    when it arrived and of its size: its records stay. Message-IDs would outlast that, too, but senders choose them:
    some are missing, some stand in several mails, and no server can be relied on to find one.

    What is gone is what a complete listing does not show, and what is not there when it is asked for once more. A
    folder is complete when each number that the server counted was answered for. There are no checkpoints: what was
    removed shows only in a listing of all.
    """

    settings_model: ClassVar[type[ImapSettings]] = ImapSettings

    def __init__(self, settings: ImapSettings, base_folder: Path) -> None:  # noqa: ARG002 - nothing is relative to it
        self._settings = settings
        self._include, self._exclude = Patterns(settings.folders), Patterns(settings.exclude)
        self._excluded_flags = {f"\\{use}" for use in settings.exclude_special}
        self._port = settings.port or (993 if settings.security == "tls" else 143)
        self._budget = ErrorBudget(f"The IMAP server {settings.host}")
        # A listing waits for what is behind it, which may wait to read: it must not hold what is read with.
        self._lister = Line(self._access)
        self._readers = Pool(self._access, settings.connections - 1)

    async def aclose(self) -> None:
        """Close the connections. They are opened again if there is more to ask."""
        await self._lister.aclose()
        await self._readers.aclose()

    # ------------------------------------------------------------------------------------------- listing

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the mails folder by folder, oldest first."""
        faults: list[ScanError] = []
        folders = await self._folders()
        self._readers.look_anew()
        for folder in folders:
            try:
                async with aclosing(self._list(folder)) as pages:
                    async for refs in pages:
                        yield refs
            except ImapFault as fault:
                message = f"Cannot list the folder {folder.path!r}: {fault}. What is known of it was left alone."
                faults.append(ScanError(_scope(folder.path), fault.code, message))
                yield [faults[-1]]
        if len(faults) == len(folders):  # the source is not there, rather than a part of it
            raise SourceError(f"No folder could be listed. {faults[0].message}")
        yield [ScanComplete()]

    async def _folders(self) -> list[Folder]:
        """The folders to list, by path.

        Raises:
            SourceError: there are none, or the server does not say.
        """
        try:
            listed = await self._lister.ask(Session.folders)
        except ImapFault as fault:
            raise SourceError(
                f"The folders of {self._settings.host} cannot be listed: {fault}. Nothing was concluded from that; the"
                " next run tries again."
            ) from fault
        taken = [listed[path] for path in sorted(listed) if self._takes(listed[path])]
        if not taken:
            raise SourceError(
                f"None of the {len(listed):,} folders of {self._settings.host} is taken in by the settings. Nothing was"
                " concluded from that. Check `source.folders` and `source.exclude`."
            )
        return taken

    def _takes(self, folder: Folder) -> bool:
        return folder.holds_mails and not folder.flags & self._excluded_flags and self._takes_path(folder.path)

    def _takes_path(self, path: str) -> bool:
        path = f"{path}/"
        return bool(self._include.last_match(path, or_above=True)) and not self._exclude.last_match(path, or_above=True)

    async def _list(self, folder: Folder) -> AsyncGenerator[list[DocumentRef], None]:
        """The mails of `folder`, in pages.

        Raises:
            ImapFault: it could not be listed to its end.
        """
        listing = _Listing(folder)
        while not listing.is_at_end:
            mails = await self._lister.ask(listing.next_page)
            if refs := [self._ref(folder.path, mail) for mail in mails if self._is_young(mail)]:
                yield refs

    def _is_young(self, mail: Mail) -> bool:
        days = self._settings.max_age_days
        return days is None or mail.arrived_at is None or datetime.now(UTC) - mail.arrived_at < timedelta(days=days)

    def _ref(self, path: str, mail: Mail) -> DocumentRef:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        port = f":{self._settings.port}" if self._settings.port else ""
        folder = f"{quote(path, safe='/%')};UIDVALIDITY={mail.uid_validity}"  # as RFC 5092 has it
        return DocumentRef(
            DocumentId(f"{_scope(path)}{mail.uid_validity}:{mail.uid}"),
            f"imap://{host}{port}/{folder}/;UID={mail.uid}",
            _fingerprint(mail),
            mail.size_bytes,
            mail.arrived_at,
        )

    def trace(self, ref: DocumentRef) -> str | None:
        """When it arrived and its size, which it keeps in another folder."""
        return ref.fingerprint if ref.modified_at else None

    # ------------------------------------------------------------------------------------------- asking

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the mail as it was sent, without marking it as read."""
        if ref.size_bytes is not None and ref.size_bytes > self._settings.max_bytes:
            raise too_large(ref.id, ref.size_bytes, self._settings.max_bytes)
        place = _place(ref.id)
        if place is None:
            raise DocumentVanished(f"{ref.id!r} is no mail of this source.")
        try:
            mail = await self._readers.ask(place.path, partial(Session.find, place=place, with_content=True))
        except ImapFault as fault:
            if fault.code in SILENT:
                self._budget.failed(fault)
            raise UnreadableDocument(fault.code, f"Cannot read {ref.id!r}: {fault}.") from fault
        self._budget.succeeded()
        if mail is None:
            raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.")
        assert mail.content is not None
        if len(mail.content) > self._settings.max_bytes:
            raise too_large(ref.id, len(mail.content), self._settings.max_bytes)
        return Document(self._ref(place.path, mail), mail.content, MEDIA_TYPE)

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the mail as a scan would list it now; None if a scan would not."""
        place = _place(document)
        if place is None or not self._takes_path(place.path):
            return None
        try:
            mail = await self._readers.ask(place.path, partial(self._locate, place=place))
        except ImapFault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault
        return self._ref(place.path, mail) if mail is not None and self._is_young(mail) else None

    def _locate(self, session: Session, place: MailPlace) -> Mail | None:
        folder = session.known_folder(place.path)
        if folder is not None and folder.flags & self._excluded_flags:
            return None
        return session.find(place, with_content=False)

    def _access(self) -> Access:
        settings = self._settings
        password = secret_of("password", settings.password, settings.password_variable)
        return Access(
            settings.host,
            self._port,
            None if settings.security == "none" else ssl.create_default_context(),
            settings.security == "starttls",
            settings.user,
            password,
            settings.timeout_s,
            settings.max_bytes,
        )


@dataclass
class _Listing:
    """How far the listing of a folder came. It goes on over another connection where it broke off."""

    folder: Folder
    session: Session | None = None
    uid_validity: int | None = None
    uid_next: int | None = None
    exists: int = 0
    number: int = 1  # of the next mail
    last_uid: int = 0
    is_at_end: bool = False

    def next_page(self, session: Session) -> list[Mail]:
        """The next mails; may be none.

        Raises:
            ImapFault: they did not come as the server had said.
        """
        is_going_on = self.session is session
        if not is_going_on:
            self._begin(session)
        last = min(self.number + MAILS_PER_PAGE - 1, self.exists)
        mails = session.mails(self.number, last) if self.number <= last else []
        new = [mail for mail in mails if mail.uid > self.last_uid]
        if is_going_on and len(new) < len(mails):
            raise ImapFault("broken_listing", "the mails' UIDs do not ascend")
        if last == self.exists:
            self._check_end(session, new[-1].uid if new else self.last_uid)
        self.number = last + 1
        self.last_uid = new[-1].uid if new else self.last_uid
        self.is_at_end = last == self.exists
        return new

    def _begin(self, session: Session) -> None:
        mailbox = session.open(self.folder)
        if self.uid_validity not in (None, mailbox.uid_validity):
            raise ImapFault("renumbered", "the server gave its mails new UIDs while it was listed", is_final=True)
        self.exists, self.uid_validity, self.uid_next = mailbox
        # Mails that went since then make the numbers of those behind them smaller, never larger.
        self.number = min(self.number, self.exists + 1)
        while self.number > 1 and session.mails(self.number - 1, self.number - 1)[0].uid > self.last_uid:
            self.number = max(1, self.number - MAILS_PER_PAGE)
        self.session = session

    def _check_end(self, session: Session, last_uid: int) -> None:
        """See that the server has no mails behind the last; one that arrived since it counted them is none."""
        first, last = last_uid + 1, (self.uid_next or UID_MAX + 1) - 1
        if first <= last and session.has_uids(first, last):
            raise ImapFault("short_listing", "the server has more mails than it counted")


def _fingerprint(mail: Mail) -> Fingerprint:
    arrived_at = "" if mail.arrived_at is None else f"{mail.arrived_at.timestamp():.0f}"
    return Fingerprint(f"{arrived_at}-{mail.size_bytes}")


def _scope(path: str) -> str:
    """What the ids of all mails of a folder begin with, and no others: a path has no `:`."""
    return f"{path}/uid:"


def _place(document: DocumentId) -> MailPlace | None:
    """Where the mail is; None for what is no id of a mail."""
    found = re.fullmatch(r"(.+)/uid:([1-9]\d{0,9}):([1-9]\d{0,9})", document, re.DOTALL)
    return MailPlace(found[1], int(found[2]), int(found[3])) if found and int(found[3]) <= UID_MAX else None
