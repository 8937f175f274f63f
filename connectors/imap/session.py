"""One connection to an IMAP server, in blocking calls: what is asked there, and what counts as an answer.

The protocol is imaplib's. Here is what it leaves to its caller: reading the three kinds of answers that we ask for,
limits on their time and size, and holding each against what the server said before.
"""

import imaplib
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from time import monotonic
from typing import Any, NamedTuple

UID_MAX = 2**32 - 1
LINES_BYTES_MAX = 32 * 1024 * 1024  # of one answer, besides a mail
TIMEOUTS_PER_QUESTION = 10  # a server that sends a byte now and then is not waited for longer
ABSENT_S = 10.0  # how long it holds that a folder was seen not to be there
INBOX = "INBOX"  # which a server may write in small letters, too

# Codes of RFC 5530 that another attempt does not change.
FINAL_CODES = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "NOPERM", "NONEXISTENT"}
TEMPORARY_CODES = {"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG"}
REFUSED = "refused"  # without a code
NO_CONNECTION, CONNECTION_LOST, TIMEOUT, BROKEN_ANSWER = "no_connection", "connection_lost", "timeout", "broken_answer"
SILENT = {NO_CONNECTION, CONNECTION_LOST, TIMEOUT, BROKEN_ANSWER}  # what says nothing about the mail that was asked for

# What we ask of a mail, and what a server may tell unasked.
ITEMS = {b"UID", b"RFC822.SIZE", b"INTERNALDATE", b"BODY[]", b"FLAGS", b"MODSEQ"}

_CODE = re.compile(r"\[([A-Z-]+)")
_LISTED = re.compile(rb'\((?P<flags>[^()]*)\) (?P<delimiter>NIL|"(?:[^"\\]|\\.)") (?P<name>"(?:[^"\\]|\\.)*"|[^ ]+)')
_FETCHED = re.compile(rb"(\d+) \((.*)\)")
_ITEM = re.compile(rb'([^\s()"]+) (\((?:[^()"]|"(?:[^"\\]|\\.)*")*\)|"(?:[^"\\]|\\.)*"|[^\s()"]+)(?: +|$)')
_LITERAL = re.compile(rb"\{\d+\}$")


class ImapFault(Exception):
    """The server refused a question, or gave no answer that can be used.

    `is_final`: asking again over another connection will not help.
    """

    def __init__(self, code: str, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is and how to be let in. `context` is None without TLS."""

    host: str
    port: int
    context: ssl.SSLContext | None
    is_starttls: bool
    user: str
    password: str = field(repr=False)
    timeout_s: float
    mail_bytes_max: int

    @property
    def plain(self) -> bytes:
        """The answer that logs in by SASL's PLAIN."""
        return f"\0{self.user}\0{self.password}".encode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password in each form in which the server hears it, and may tell it again."""
        return b64encode(self.plain).decode(), self.password, _quoted(self.password)[1:-1]


@dataclass(frozen=True, slots=True)
class Folder:
    """`name` is the server's own spelling of `path`; `flags` are in small letters, such as `\\trash`."""

    path: str
    name: str
    flags: frozenset[str]

    @property
    def holds_mails(self) -> bool:
        return not self.flags & {"\\noselect", "\\nonexistent"}


class Mailbox(NamedTuple):
    """What a folder says of itself when it is opened. `uid_next` is None where a server does not tell."""

    exists: int
    uid_validity: int
    uid_next: int | None


class MailPlace(NamedTuple):
    """What names a mail for good: UIDs count anew when the folder's UIDVALIDITY changes."""

    path: str
    uid_validity: int
    uid: int


class Mail(NamedTuple):
    """`number` is its place in the folder, as long as the folder is open. `arrived_at` is None if it has no readable
    date, `content` if it was not asked for."""

    number: int
    uid: int
    uid_validity: int
    size_bytes: int
    arrived_at: datetime | None
    content: bytes | None = None


class Session:
    """A connection on which the user is logged in. Asked by one thread at a time; after a fault, to be closed."""

    def __init__(self, access: Access, hold: Callable[["Protocol"], None]) -> None:
        """Log in. `hold` is given the connection before anything is asked, so that it can be cut.

        Raises:
            ImapFault: the server could not be reached, or lets nobody in.
        """
        self._timeout_s = access.timeout_s
        with _faults(access.secrets, is_before_mails=True):
            self._protocol = Protocol(access, hold)
        self._folders: Mapping[str, Folder] | None = None
        self._absent: dict[str, float] = {}
        self._delimiter: str | None = None
        self.path: str | None = None  # of the folder that is open
        self._mailbox: Mailbox | None = None
        try:
            self._log_in(access)
        except BaseException:
            self.close()
            raise

    def _log_in(self, access: Access) -> None:
        protocol = self._protocol
        with _faults(access.secrets, is_before_mails=True):
            if access.is_starttls:
                if "STARTTLS" not in protocol.capabilities:
                    raise ImapFault("no_tls", "the server offers no STARTTLS", is_final=True)
                protocol.starttls(access.context)
            if protocol.state == "AUTH":  # the server knows us by our address
                return
            if "AUTH=PLAIN" in protocol.capabilities:
                protocol.authenticate("PLAIN", lambda _challenge: access.plain)
            elif "LOGINDISABLED" in protocol.capabilities:
                raise ImapFault("no_login", "the server takes no password over this connection", is_final=True)
            elif not (access.user + access.password).isascii():
                raise ImapFault("no_login", "the server takes only user names and passwords in ASCII", is_final=True)
            else:
                protocol.login(_quoted(access.user), access.password)

    @property
    def limit_s(self) -> float:
        """How long one question may take, whatever it is made of."""
        return self._timeout_s * TIMEOUTS_PER_QUESTION

    def close(self) -> None:
        """Let go of the connection. Never fails, safe to repeat."""
        self._protocol.let_go()

    def log_out(self) -> None:
        """Say goodbye, and let go of the connection."""
        with suppress(ImapFault), _faults():
            self._protocol.logout()
        self.close()

    # ------------------------------------------------------------------------------------------- folders

    def folders(self) -> Mapping[str, Folder]:
        """All folders as the server lists them now, by path; of two spellings of one path, the first.

        Raises:
            ImapFault: the answer is no list of folders. An empty one is none: there always is an inbox.
        """
        answer = self._ask("LIST", self._protocol.list)
        found: dict[str, Folder] = {}
        for text, literals in _answers(answer):
            match = _LISTED.match(text)
            if match is None:
                raise ImapFault("broken_listing", "the server's answer is no list of folders")
            delimiter = None if match["delimiter"] == b"NIL" else _unquoted(match["delimiter"], ()).decode("latin-1")
            name = _unquoted(match["name"], literals).decode("latin-1")
            self._delimiter = self._delimiter or delimiter
            flags = frozenset(match["flags"].decode("latin-1").lower().split())
            folder = Folder(path_of(name, delimiter), name, flags)
            found.setdefault(folder.path, folder)
        if not found:
            raise ImapFault("broken_listing", "the server lists no folder, not even the inbox")
        self._folders = found
        return found

    def known_folder(self, path: str) -> Folder | None:
        """The folder as it was last listed; None if there was none.

        Raises:
            ImapFault: the server does not say.
        """
        known = self._folders
        return (self.folders() if known is None else known).get(path)

    def open(self, folder: Folder) -> Mailbox:
        """Open `folder`, for nothing but reading, as it is now.

        Raises:
            ImapFault: it cannot be read.
        """
        self.path = None
        if not folder.name.isascii():
            raise ImapFault("unusable_name", "its name is not in IMAP's spelling", is_final=True)
        counts = self._ask("EXAMINE", self._protocol.select, _quoted(folder.name), True)
        exists, uid_validity, uid_next = _last(counts), self._said("UIDVALIDITY"), self._said("UIDNEXT")
        if exists is None:
            raise ImapFault(BROKEN_ANSWER, "the server does not say how many mails there are")
        if not uid_validity:
            raise ImapFault("no_uidvalidity", "the server gives its mails no lasting numbers (UIDVALIDITY)")
        self.path = folder.path
        self._mailbox = mailbox = Mailbox(exists, uid_validity, uid_next)
        return mailbox

    def _said(self, code: str) -> int | None:
        return _last(self._protocol.response(code)[1])

    def look_anew(self) -> None:
        """Do not answer from what was seen before: a server need not tell what went since. From any thread."""
        self.path = self._folders = None
        self._absent = {}

    # --------------------------------------------------------------------------------------------- mails

    def mails(self, first: int, last: int) -> list[Mail]:
        """The mails with these numbers of the open folder, in order.

        Raises:
            ImapFault: not just these came.
        """
        # By number and not by UID: during a FETCH by number a server may not renumber, so each number must be answered.
        self._protocol.response("EXPUNGE")
        answer = self._ask("FETCH", self._protocol.fetch, f"{first}:{last}", "(UID RFC822.SIZE INTERNALDATE)")
        if self._protocol.response("EXPUNGE")[1] != [None]:
            raise ImapFault("renumbered", "the server renumbered the mails while it listed them")
        mails = self._read(answer)
        if [mail.number for mail in mails] != list(range(first, last + 1)):
            raise ImapFault("short_listing", f"{len(mails):,} of {last - first + 1:,} mails came, or others")
        if any(before.uid >= after.uid for before, after in pairwise(mails)):
            raise ImapFault("broken_listing", "the mails' UIDs do not ascend")
        return mails

    def has_uids(self, first: int, last: int) -> bool:
        """Whether the open folder has mails with UIDs of this range."""
        answer = self._ask("UID FETCH", self._protocol.uid, "FETCH", f"{first}:{last}", "(UID)")
        uids = (_number(items.get(b"UID")) for _, items, _ in _fetched(answer))
        return any(uid is not None and first <= uid <= last for uid in uids)

    def find(self, place: MailPlace, *, with_content: bool) -> Mail | None:
        """The mail; None if it is certain that there is none.

        Raises:
            ImapFault: the server cannot tell.
        """
        if self._is_open(place) and (mail := self._mail(place.uid, with_content=with_content)) is not None:
            return mail
        # What was opened a while ago may not show what has come since.
        mailbox = self._open_path(place.path)
        if mailbox is None or mailbox.uid_validity != place.uid_validity:
            return None
        if (mail := self._mail(place.uid, with_content=with_content)) is not None:
            return mail
        found = self._ask("UID SEARCH", self._protocol.uid, "SEARCH", f"UID {place.uid}")
        if str(place.uid).encode() in b" ".join(line for line in found if line).split():
            raise ImapFault(BROKEN_ANSWER, "the server finds the mail and does not show it")
        return None

    def _is_open(self, place: MailPlace) -> bool:
        mailbox = self._mailbox
        return self.path == place.path and mailbox is not None and mailbox.uid_validity == place.uid_validity

    def _open_path(self, path: str) -> Mailbox | None:
        """Open the folder; None if it is certain that there is none: none is listed, nor can one be opened."""
        if monotonic() - self._absent.get(path, -ABSENT_S) < ABSENT_S:
            return None
        folder = self.known_folder(path)
        try:
            return self.open(folder or Folder(path, name_of(path, self._delimiter), frozenset()))
        except ImapFault as fault:
            if fault.code not in (REFUSED, "NONEXISTENT"):
                raise
            now = self.folders().get(path)
            if now is not None and now.holds_mails:
                raise
        self._absent[path] = monotonic()
        return None

    def _mail(self, uid: int, *, with_content: bool) -> Mail | None:
        items = "(UID RFC822.SIZE INTERNALDATE BODY.PEEK[])" if with_content else "(UID RFC822.SIZE INTERNALDATE)"
        answer = self._ask("UID FETCH", self._protocol.uid, "FETCH", str(uid), items)
        found = next((mail for mail in self._read(answer) if mail.uid == uid), None)
        if found is not None and with_content and found.content is None:
            raise ImapFault(BROKEN_ANSWER, "the server shows the mail without its content")
        return found

    def _read(self, answer: Sequence[Any]) -> list[Mail]:
        """The mails of which the answer says all that was asked for; a server may also tell of flags of others."""
        assert self._mailbox is not None
        items_by_number: dict[int, dict[bytes, bytes]] = {}
        content_by_number: dict[int, bytes] = {}
        for number, items, literals in _fetched(answer):
            items_by_number.setdefault(number, {}).update(items)
            if (value := items.get(b"BODY[]")) is not None:
                content_by_number[number] = _unquoted(value, literals)
        mails = []
        for number in sorted(items_by_number):
            items = items_by_number[number]
            uid, size = _number(items.get(b"UID")), _number(items.get(b"RFC822.SIZE"))
            if uid is not None and size is not None and b"INTERNALDATE" in items:
                arrived_at = _time(items[b"INTERNALDATE"])
                content = content_by_number.get(number)
                mails.append(Mail(number, uid, self._mailbox.uid_validity, size, arrived_at, content))
        return mails

    def _ask(self, name: str, command: Callable[..., tuple[str, list[Any]]], *arguments: Any) -> list[Any]:
        """What the server says to `command`, without the line that ends it.

        Raises:
            ImapFault: it refused, did not answer in time, or broke off.
        """
        self._protocol.begin_answer()
        with _faults():
            status, answer = command(*arguments)
        if status != "OK":
            # The words of a refused FETCH stay here: they could hold a mail's.
            raise _refused(name, answer, with_words="FETCH" not in name)
        return answer


class Protocol(imaplib.IMAP4):
    """imaplib with TLS as we want it, a limit on the size of an answer, and a way to be cut off from another thread."""

    def __init__(self, access: Access, hold: Callable[["Protocol"], None]) -> None:
        self._access = access
        self._hold = hold
        self._cutter: socket.socket | None = None
        self.begin_answer()
        try:
            super().__init__(access.host, access.port, access.timeout_s)
        except BaseException:
            self._close_cutter()
            raise

    def begin_answer(self) -> None:
        self._left_bytes = LINES_BYTES_MAX + self._access.mail_bytes_max

    def cut(self) -> None:
        """End the connection at once; whoever waits for an answer is told. From any thread."""
        if self._cutter is not None:
            with suppress(OSError):
                self._cutter.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        with suppress(OSError, ValueError):
            self.shutdown()
        self._close_cutter()

    def _close_cutter(self) -> None:
        cutter, self._cutter = self._cutter, None
        if cutter is not None:
            cutter.close()

    def _create_socket(self, timeout: float | None) -> socket.socket:
        connected = socket.create_connection((self.host, self.port), timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # imaplib sends a password in two pieces
        # A second handle of the same connection, which TLS does not take away.
        self._cutter = connected.dup()
        self._hold(self)
        if self._access.context is None or self._access.is_starttls:
            return connected
        return self._access.context.wrap_socket(connected, server_hostname=self.host)

    def read(self, size: int) -> bytes:
        self._spend(size)
        content = super().read(size)
        if len(content) < size:
            raise self.abort(f"{len(content):,} of {size:,} bytes came")
        return content

    def readline(self) -> bytes:
        line = super().readline()
        self._spend(len(line))
        return line

    def _spend(self, size: int) -> None:
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise self.abort("the answer is larger than any should be")


# ---------------------------------------------------------------------------------------------- reading answers


def _answers(answer: Sequence[Any]) -> Iterator[tuple[bytes, list[bytes]]]:
    """The lines of an answer, in which `{0}` stands for the first literal, and the literals of each."""
    text, literals = b"", list[bytes]()
    for part in answer:
        if part is None:  # imaplib's word for no line at all
            continue
        if isinstance(part, tuple):
            text += _LITERAL.sub(b"{%d}" % len(literals), part[0])
            literals.append(part[1])
        else:
            yield text + part, literals
            text, literals = b"", []


def _fetched(answer: Sequence[Any]) -> Iterator[tuple[int, dict[bytes, bytes], list[bytes]]]:
    """The number of each mail that is answered for, what is said of it, and the literals that this names."""
    for text, literals in _answers(answer):
        match = _FETCHED.fullmatch(text)
        if match is None:
            raise ImapFault(BROKEN_ANSWER, "the server's answer to a FETCH cannot be read")
        end, items = 0, {}
        for item in _ITEM.finditer(match[2]):
            if item.start() != end or item[1].upper() not in ITEMS:  # it may be the end of a mail
                break
            items[item[1].upper()] = item[2]
            end = item.end()
        if end != len(match[2]):
            raise ImapFault(BROKEN_ANSWER, "the server's answer to a FETCH cannot be read")
        yield int(match[1]), items, literals


def _unquoted(value: bytes, literals: Sequence[bytes]) -> bytes:
    """The string that `value` stands for: quoted, one of the literals, NIL, or a word."""
    if value.startswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", value[1:-1])
    if _LITERAL.fullmatch(value):
        return literals[int(value[1:-1])]
    if b"{" in value:
        raise ImapFault(BROKEN_ANSWER, "the server sent more than it said, or less")
    return b"" if value == b"NIL" else value


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def _last(values: Sequence[Any]) -> int | None:
    """The number that the last of `values` begins with."""
    found = re.match(rb"\d+", values[-1]) if values and isinstance(values[-1], bytes) else None
    return int(found[0]) if found else None


def _time(value: bytes) -> datetime | None:
    try:
        return datetime.strptime(value.decode().strip('" '), "%d-%b-%Y %H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# ---------------------------------------------------------------------------------------------- names of folders


def path_of(name: str, delimiter: str | None) -> str:
    """The folder's path as documents' ids have it, whatever the server puts between its steps.

    `%`, `:`, `/` and what cannot be printed are %-escaped within a step.
    """
    steps = [_decoded(step) for step in (name.split(delimiter) if delimiter else [name])]
    if steps[0].upper() == INBOX:
        steps[0] = INBOX
    return "/".join(re.sub(r"[%:/\x00-\x1f\x7f]", lambda found: f"%{ord(found[0]):02X}", step) for step in steps)


def name_of(path: str, delimiter: str | None) -> str:
    """The usual spelling of `path` for a server."""
    steps = (re.sub("%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), step) for step in path.split("/"))
    return (delimiter or "/").join(_encoded(step) for step in steps)


def _decoded(step: str) -> str:
    """IMAP's own UTF-7 (RFC 3501, 5.1.3) as text; what is none stays as it is."""

    def decode(found: re.Match[str]) -> str:
        return f"+{found[1].replace(',', '/')}-".encode().decode("utf-7") if found[1] else "&"

    try:
        text = re.sub("&([^-]*)-", decode, step)
        text.encode()  # half a character is none
    except UnicodeError:
        return step
    return text


def _encoded(step: str) -> str:
    def encode(found: re.Match[str]) -> str:
        if found[0] == "&":
            return "&-"
        encoded = b64encode(found[0].encode("utf-16-be", "surrogatepass")).decode()
        return f"&{encoded.rstrip('=').replace('/', ',')}-"

    return re.sub("&|[^ -~]+", encode, step)


# ----------------------------------------------------------------------------------------------------- faults


def _refused(name: str, answer: Sequence[Any], *, with_words: bool) -> ImapFault:
    words = _words(answer[-1] if answer else "")
    code = _CODE.match(words)
    name_of_code = code[1] if code else REFUSED
    told = words if with_words else (code[1] if code else "")
    message = f"the server refused {name}: {told}" if told else f"the server refused {name}"
    return ImapFault(name_of_code, message, is_final=name_of_code in FINAL_CODES)


@contextmanager
def _faults(secrets: Sequence[str] = (), *, is_before_mails: bool = False) -> Iterator[None]:
    """Turn what imaplib and the network raise into an `ImapFault`.

    What the server said is kept back once it may have been from a mail, and so is the error.
    """
    try:
        yield
    except ImapFault:
        raise
    except ssl.SSLCertVerificationError as error:
        raise ImapFault(
            "certificate", f"its certificate is not trusted: {error.verify_message}", is_final=True
        ) from None
    except imaplib.IMAP4.abort as error:
        words = f": {_without(secrets, _words(error))}" if is_before_mails else ""
        raise ImapFault(CONNECTION_LOST, f"the server broke off, or gave no usable answer{words}") from None
    except imaplib.IMAP4.error as error:
        words = _without(secrets, _words(error))
        code = _CODE.search(words)
        if not is_before_mails:
            raise ImapFault(code[1] if code else "bad_answer", "the server does not understand, or is not") from None
        is_final = code is None or code[1] not in TEMPORARY_CODES
        raise ImapFault(code[1] if code else REFUSED, words, is_final=is_final) from None
    except TimeoutError:
        raise ImapFault(TIMEOUT, "the server did not answer in time") from None
    except OSError as error:
        words = getattr(error, "reason", None) or error.strerror or type(error).__name__
        if words == "WRONG_VERSION_NUMBER":
            words = "the server does not begin with TLS; does `security` fit `port`?"
        raise ImapFault(NO_CONNECTION, f"no connection: {words}") from None
    except (ValueError, LookupError, TypeError, AttributeError, MemoryError):  # what imaplib does with garbage
        raise ImapFault(BROKEN_ANSWER, "the server's answer cannot be read") from None


def _words(said: object) -> str:
    """What a server said, on one line."""
    if isinstance(said, Exception):
        said = said.args[0] if said.args else ""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split()).rstrip(".")[:300]


def _without(secrets: Sequence[str], words: str) -> str:
    for secret in secrets:
        words = words.replace(secret, "…")
    return words
