"""Mails of an IMAP account as documents, from real servers; and from one whose answers are spoilt."""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.imap.connector import ImapConnector, ImapSettings
from connectors.imap.session import _encoded, name_of, path_of
from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all, scan_refs
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import DocumentId, DocumentRef, Operation, ScanComplete, ScanError, SourceEvent
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.fakes.faulty_lines import End, FaultyLines, Instead, faulty_lines
from tests.pipeline.world import AnyWorld, in_place

from .imap_servers import PASSWORD, ImapServer, dovecot_server, make_certificate, pymap_server
from .imap_world import HEADERS, VARIABLE, ImapWorld, Letters, password

__all__ = ("password",)


@pytest.fixture(scope="module")
def pymap() -> Iterator[ImapServer]:
    with pymap_server() as server:
        yield server


@pytest.fixture(scope="module")
def dovecot() -> Iterator[ImapServer]:
    with dovecot_server() as server:
        yield server


@pytest.fixture
async def world(pymap: ImapServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ImapWorld]:
    monkeypatch.setattr("connectors.imap.connections.PAUSE_S", 0.0)
    made = ImapWorld(pymap)
    yield made
    await made.aclose()


class ImapContract(SourceConnectorContract):
    """A mail does not change: what the contract calls an edit is another mail here, and its predecessor is gone."""

    async def test_an_edited_document_keeps_its_id_and_changes_its_fingerprint(self, world: SourceWorld) -> None:
        before = world.put("a.md", HEADERS + b"text")
        after = world.put("a.md", HEADERS + b"longer text")

        assert before != after
        assert set(await scan_refs(world.connector())) == {after}

    async def test_a_document_edited_after_it_was_listed_is_fetched_as_it_is_now(self, world: SourceWorld) -> None:
        document = world.put("a.md", HEADERS + b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.put("a.md", HEADERS + b"longer text")

        with pytest.raises(DocumentVanished):
            await connector.fetch(listed)

    async def test_every_listed_document_can_be_fetched(self, world: SourceWorld) -> None:
        """Bytes that are no text, lines that look like the end of an answer, and nothing but a header."""
        bodies = [
            b"text\r\n",
            b"\r\n.\r\n)\r\nA001 OK done\r\n* BYE\r\n",
            bytes(range(128, 256)) * 2_000 + b"\r\n",
            b"",
        ]
        contents = {world.put(f"guide/{number}.md", HEADERS + body): body for number, body in enumerate(bodies)}
        connector = world.connector()
        refs = await scan_refs(connector)

        fetched = {document: await connector.fetch(ref) for document, ref in refs.items()}

        assert {document: found.ref for document, found in fetched.items()} == refs
        for document, body in contents.items():
            content = fetched[document].content.replace(b"\r\n", b"\n")  # pymap gives the lines as it keeps them
            assert content == (HEADERS + body).replace(b"\r\n", b"\n")
            assert fetched[document].media_type == "message/rfc822"


class TestImapConnectorKeepsTheContractWithPymap(ImapContract):
    @pytest.fixture
    def world(self, world: ImapWorld) -> SourceWorld:
        return world


@pytest.fixture
async def dovecot_world(dovecot: ImapServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ImapWorld]:
    monkeypatch.setattr("connectors.imap.connections.PAUSE_S", 0.0)
    made = ImapWorld(dovecot)
    yield made
    await made.aclose()


@pytest.fixture(params=["pymap", "dovecot"])
def any_world(request: pytest.FixtureRequest) -> ImapWorld:
    """One on each server."""
    name = {"pymap": "world", "dovecot": "dovecot_world"}[request.param]
    made: ImapWorld = request.getfixturevalue(name)
    return made


@pytest.fixture
async def proxy(world: ImapWorld) -> AsyncIterator[FaultyLines]:
    async with faulty_lines(world.server.port) as opened:
        world.port = opened.port
        yield opened
        for connector in world.opened:
            await connector.aclose()


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "imap.example.com", "security": "none"}, "allow_unencrypted"),
        ({"host": "127.example.com", "security": "none"}, "allow_unencrypted"),
        ({"security": "ssl"}, "security"),
        ({"host": "imap://imap.example.com"}, "host"),
        ({"host": "alice:secret@imap.example.com"}, "host"),
        ({"folders": []}, "folders"),
        ({"folders": ["["]}, "not a pattern"),
        ({"exclude_special": ["bin"]}, "exclude_special"),
        ({"connections": 1}, "connections"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_age_days": 0}, "max_age_days"),
        ({"password": "secret"}, "password"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object], message: str) -> None:
    """Before anything is asked."""
    given = {"type": "imap", "host": "127.0.0.1", "user": "a", "password_variable": "P", **settings}

    with pytest.raises(ValidationError, match=message):
        ImapSettings.model_validate(given)


# ------------------------------------------------------------------------------------------------- listing


async def test_mails_are_listed_and_read_on_either_server(any_world: ImapWorld) -> None:
    """With what the server says of them, and never marked as read."""
    document = any_world.put("Projects/2026/a.md", HEADERS + b"text\r\n", '"05-Mar-2020 10:20:30 +0200"')
    connector = any_world.connector()

    (ref,) = (await scan_refs(connector)).values()
    fetched = await connector.fetch(ref)

    validity = any_world.validities["Projects/2026"]
    assert ref.id == document == f"Projects/2026/uid:{validity}:1"
    assert ref.uri == f"imap://127.0.0.1:{any_world.server.port}/Projects/2026;UIDVALIDITY={validity}/;UID=1"
    assert ref.modified_at == datetime(2020, 3, 5, 8, 20, 30, tzinfo=UTC)
    assert fetched.content.replace(b"\r\n", b"\n") == HEADERS.replace(b"\r\n", b"\n") + b"text\n"
    any_world.ask("select", '"Projects/2026"', True)
    assert b"\\Seen" not in any_world.ask("fetch", "1", "(FLAGS)")[0]


NAMES = [
    "Entwürfe",
    "日本語",
    "A&B",
    "100%",
    "a:b;c",
    'say "hi"',
    "back\\slash",
    "one two",
    "😀",
    "INBOXES",
    "[Gmail]",
    "x+y",
]


@pytest.mark.parametrize("name", NAMES)
async def test_folders_of_any_name_are_listed_and_read(any_world: ImapWorld, name: str) -> None:
    """People name folders in their own language."""
    folder = _encoded(name).replace("\\", "\\\\").replace('"', '\\"')
    try:
        any_world.put(f"{folder}/a.md", HEADERS + b"text")
    except any_world.client.error as error:
        pytest.skip(f"the server makes no folder of this name: {error}")
    connector = any_world.connector()

    (ref,) = (await scan_refs(connector)).values()

    assert (await connector.fetch(ref)).content.endswith(b"text")
    assert await connector.locate(ref.id) == ref
    assert await connector.locate(DocumentId(ref.id + "9")) is None
    assert ref.id.startswith(f"{name.replace('%', '%25').replace(':', '%3A')}/uid:")


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=4),
    st.sampled_from(["/", ".", None]),
)
def test_a_path_names_one_folder(steps: list[str], delimiter: str | None) -> None:
    """Whatever the server puts between its steps."""
    steps = steps[:1] if delimiter is None else steps
    assume(steps[0].upper() != "INBOX" and not (delimiter and any(delimiter in step for step in steps)))
    name = (delimiter or "").join(_encoded(step) for step in steps)

    path = path_of(name, delimiter)

    assert name.isascii()
    assert ":" not in path
    assert path.count("/") == len(steps) - 1
    assert name_of(path, delimiter) == name


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),  # the example of RFC 3501
        ("inbox/a", "INBOX/a"),
        ("&broken", "&broken"),
        ("&2D0-", "&2D0-"),  # half a character
        ("a&-b", "a&b"),
    ],
)
def test_names_are_read_as_the_standard_has_it(name: str, path: str) -> None:
    """And what is no such name stays what it is."""
    assert path_of(name, "/") == path


async def test_only_folders_that_the_settings_take_in_are_listed(world: ImapWorld) -> None:
    """And locating agrees with it."""
    folders = ("INBOX", "Projects", "Projects/2026", "Projects/old", "[Gmail]/All Mail", "Archive")
    ids = {folder: world.put(f"{folder}/a.md", HEADERS) for folder in folders}
    connector = world.connector(folders=["/Projects", r"\[Gmail]/All Mail"], exclude=["old"])

    refs = await scan_refs(connector)
    located = {folder for folder, document in ids.items() if await connector.locate(document)}

    taken = {"Projects", "Projects/2026", "[Gmail]/All Mail"}
    assert set(refs) == {ids[folder] for folder in taken}
    assert located == taken


async def test_trash_junk_and_drafts_are_left_out_by_what_the_server_marks_them_for(dovecot_world: ImapWorld) -> None:
    """Whatever they are called."""
    ids = {folder: dovecot_world.put(f"{folder}/a.md", HEADERS) for folder in ("INBOX", "Trash", "Junk", "Drafts")}
    connector, all_of_it = dovecot_world.connector(), dovecot_world.connector(exclude_special=[])

    refs = await scan_refs(connector)
    located = {folder for folder, document in ids.items() if await connector.locate(document)}

    assert set(refs) == {ids["INBOX"]}
    assert located == {"INBOX"}
    assert set(await scan_refs(all_of_it)) == set(ids.values())


async def test_settings_that_take_in_no_folder_are_an_error(world: ImapWorld) -> None:
    """A misspelt folder must not look like an empty one."""
    with pytest.raises(SourceError, match=r"None of the 1 folders.*source\.folders"):
        await scan_all(world.connector(folders=["Porjects"]))


async def test_what_is_older_than_the_settings_allow_is_not_there(world: ImapWorld) -> None:
    """And so it leaves the memory when its time is over."""
    old = world.put("old.md", HEADERS, '"05-Mar-2020 10:20:30 +0000"')
    new = world.put("new.md", HEADERS)
    connector = world.connector(max_age_days=30)

    refs = await scan_refs(connector)

    assert set(refs) == {new}
    assert await connector.locate(old) is None
    assert await connector.locate(new) == refs[new]


async def test_a_mail_that_is_too_large_is_not_read(world: ImapWorld, proxy: FaultyLines) -> None:
    """Not even asked for."""
    document = world.put("a.md", HEADERS + b"x" * 2_000)
    connector = world.connector(max_bytes=1_000)
    ref = (await scan_refs(connector))[document]

    with pytest.raises(UnreadableDocument, match=r"source\.max_bytes") as caught:
        await connector.fetch(ref)

    assert caught.value.code == "too_large"
    assert not proxy.asked(b"BODY")


# ----------------------------------------------------------------------------------------------------- runs


@asynccontextmanager
async def running(world: ImapWorld, **options: Any) -> AsyncIterator[AnyWorld]:
    run = AnyWorld(Letters(world.connector(**options)), MemoryDestination())
    async with open_state(None, source="docs", destination="memory", offload=in_place) as run.state:
        yield run


def operations(run: AnyWorld) -> Counter[Operation]:
    done = Counter[Operation]()
    for batch in run.memory.requests:
        done[batch.operation] += len(batch.entries)
    run.memory.requests.clear()
    return done


async def test_a_run_without_changes_reads_no_mail(world: ImapWorld, proxy: FaultyLines) -> None:
    """It lists, folder by folder, over one connection."""
    for number in range(7):
        world.put(f"{'abc'[number % 3]}/{number}.md", HEADERS + f"text {number}".encode())
    async with running(world) as run:
        await run.do()
        operations(run)
        proxy.commands.clear()
        proxy.connections = 0

        report = await run.do()

        assert report.documents.unchanged == 7
        assert not operations(run)
        words = Counter(command.split()[0] for command in proxy.commands)
        assert words == {b"LIST": 1, b"EXAMINE": 4, b"FETCH": 3}
        assert proxy.connections == 0


async def test_a_mail_that_was_expunged_leaves_and_a_new_one_comes(any_world: ImapWorld) -> None:
    """One of each costs one of each."""
    for number in range(5):
        any_world.put(f"a/{number}.md", HEADERS + f"text {number}".encode())
    async with running(any_world) as run:
        await run.do()
        operations(run)
        any_world.remove("a/2.md")
        any_world.put("a/new.md", HEADERS + b"a new text of another length")

        await run.do()

        assert operations(run) == {Operation.DELETE: 1, Operation.CREATE: 1}
        assert run.texts() == ["a new text of another length", "text 0", "text 1", "text 3", "text 4"]


async def test_a_renamed_folder_keeps_its_records(any_world: ImapWorld) -> None:
    """More of them than the guard would let go."""
    for number in range(12):
        any_world.put(f"a/{number}.md", HEADERS + f"text {number}".encode())
    async with running(any_world) as run:
        await run.do()
        before = run.texts()
        operations(run)
        any_world.ask("rename", "a", "z")

        report = await run.do()

        assert set(operations(run)) == {Operation.UPDATE}
        assert (run.texts(), report.documents.renamed) == (before, 12)


async def test_mails_that_were_moved_keep_their_records(dovecot_world: ImapWorld) -> None:
    """They keep their date and size. Not with pymap, whose copies are empty."""
    for number in range(12):
        dovecot_world.put(f"a/{number}.md", HEADERS + f"text {number}".encode())
    async with running(dovecot_world) as run:
        await run.do()
        before = run.texts()
        operations(run)
        for number in range(12):
            dovecot_world.move(f"a/{number}.md", f"archive/{number}.md")

        report = await run.do()

        assert set(operations(run)) == {Operation.UPDATE}
        assert (run.texts(), report.documents.renamed) == (before, 12)


@pytest.mark.parametrize("change", ["only UIDVALIDITY", "all UIDs"])
async def test_a_folder_that_is_numbered_anew_keeps_its_records(any_world: ImapWorld, change: str) -> None:
    """As by a server that was moved or restored: no mail is there twice, or not at all, whatever the guard allows."""
    for number in range(16):
        any_world.put(f"a/{number}.md", HEADERS + f"text {number}".encode())
    for number in (0, 5, 6):
        any_world.remove(f"a/{number}.md")
    async with running(any_world) as run:
        await run.do()
        before = run.texts()
        operations(run)
        uid_list = any_world.uid_list("a")
        for index in uid_list.parent.glob("dovecot.index*"):
            index.unlink()
        if change == "all UIDs":
            uid_list.unlink()
        else:
            uid_list.write_text(re.sub(r"V(\d+)", lambda found: f"V{int(found[1]) + 7}", uid_list.read_text(), count=1))

        report = await run.do()

        assert set(operations(run)) == {Operation.UPDATE}
        assert run.texts() == before
        assert report.documents.renamed == 13
        assert len({record.document for record in run.memory.records.values()}) == 13

        await run.do()
        assert not operations(run)


async def test_a_folder_that_holds_other_mails_now_is_held_back_by_the_guard(world: ImapWorld) -> None:
    """An account that was restored wrongly must not empty the memory."""
    for number in range(12):
        world.put(f"a/{number}.md", HEADERS + f"text {number}".encode())
    async with running(world) as run:
        await run.do()
        before = run.texts()
        operations(run)
        world.ask("delete", "a")
        world.folders.discard("a")
        world.uids.clear()
        world.validities.clear()
        world.put("a/other.md", HEADERS + b"something else that has another length")

        await run.do()

        assert operations(run) == {Operation.CREATE: 1}
        assert set(run.texts()) > set(before)


# ------------------------------------------------------------------------------------------- what goes wrong


def scopes(events: list[SourceEvent]) -> tuple[list[str], list[str]]:
    """Those of errors, and those that are complete."""
    broken = [event.scope for event in events if isinstance(event, ScanError)]
    return broken, [event.scope for event in events if isinstance(event, ScanComplete)]


LIES: dict[str, tuple[bytes, bytes]] = {
    "fewer mails": (rb"\* 5 EXISTS", b"* 3 EXISTS"),
    "no mails": (rb"\* 5 EXISTS", b"* 0 EXISTS"),
    "more mails": (rb"\* 5 EXISTS", b"* 6 EXISTS"),
    "does not say how many": (rb"\* 5 EXISTS", b"* OK words"),
    "no UIDVALIDITY": (rb"\[UIDVALIDITY \d+\]", b"[X]"),
    "another number": (rb"\* 4 FETCH", b"* 9 FETCH"),
    "the same UID": (rb"FETCH \(UID 4 ", b"FETCH (UID 3 "),
    "no UID": (rb"FETCH \(UID 4 ", b"FETCH ("),
    "no size": (rb"RFC822.SIZE \d+ ", b""),
    "no answer": (rb"\* 4 FETCH.*", b"* OK words"),
    "no literal": (rb"\* 4 FETCH .*", b"* 4 FETCH (UID 4"),
    "renumbers": (rb"\* 4 FETCH", b"* 4 EXPUNGE\r\n* 4 FETCH"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_folder_of_which_the_server_says_two_things_is_incomplete_and_no_other(
    world: ImapWorld, proxy: FaultyLines, lie: str
) -> None:
    """Each time that it is asked; what was listed before goes on its way."""
    for number in range(5):
        world.put(f"b/{number}.md", HEADERS)
    world.put("a/0.md", HEADERS)
    world.put("c/0.md", HEADERS)
    pattern, words = LIES[lie]

    def spoil(line: bytes, _tag: bytes) -> Instead | None:
        opened = [command for command in proxy.commands if command.startswith(b"EXAMINE")]
        is_of_b = bool(opened) and opened[-1].endswith(b'"b"')
        return Instead(re.sub(pattern, words, line)) if is_of_b and re.search(pattern, line) else None

    proxy.spoil = spoil

    events = await scan_all(world.connector())

    assert scopes(events) == (["b/uid:"], [""])


async def test_a_folder_is_listed_on_where_it_broke_off(
    world: ImapWorld, proxy: FaultyLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if mails went and came meanwhile: each that was there all the time is listed, and none twice."""
    monkeypatch.setattr("connectors.imap.connector.MAILS_PER_PAGE", 3)
    ids = [world.put(f"a/{number}.md", HEADERS) for number in range(20)]
    asked = 0

    def spoil(line: bytes, _tag: bytes) -> Instead | None:
        nonlocal asked
        if b" FETCH (" not in line:
            return None
        asked += 1
        if asked % 8:
            return None
        for name in ("a/1.md", "a/2.md", "a/7.md", "a/18.md"):
            if name in world.ids and asked == 16:
                world.remove(name)
        if asked == 16:
            world.put("a/new.md", HEADERS)
        return Instead(b"", End.RESET)

    proxy.spoil = spoil

    events = await scan_all(world.connector())

    listed = [event.id for event in events if isinstance(event, DocumentRef)]
    assert proxy.connections > 2
    assert len(listed) == len(set(listed))
    assert set(listed) >= set(ids) - {ids[number] for number in (1, 2, 7, 18)}
    assert scopes(events) == ([], [""])


async def test_a_mail_that_goes_while_it_is_listed_is_no_error(dovecot_world: ImapWorld) -> None:
    """The folder is opened anew and listed on."""
    ids = [dovecot_world.put(f"a/{number}.md", HEADERS) for number in range(6)]
    connector = dovecot_world.connector(folders=["a"])
    listing = connector.scan(None)
    async with faulty_lines(dovecot_world.server.port) as slow:
        dovecot_world.port = slow.port
        gone = False

        def spoil(line: bytes, _tag: bytes) -> None:
            nonlocal gone
            if b"READ-ONLY" in line and not gone:
                gone = True
                dovecot_world.remove("a/3.md")

        slow.spoil = spoil
        through = dovecot_world.connector(folders=["a"])
        events = await scan_all(through)
        await through.aclose()

    await listing.aclose()
    assert gone
    assert {event.id for event in events if isinstance(event, DocumentRef)} >= set(ids) - {ids[3]}
    assert scopes(events) == ([], [""])


async def test_a_source_of_which_no_folder_can_be_listed_is_an_error(world: ImapWorld, proxy: FaultyLines) -> None:
    """That is no part of it that is missing."""
    world.put("a/0.md", HEADERS)
    proxy.spoil = lambda line, tag: (
        Instead(tag + b" NO said so\r\n") if b" OK" in line and b"READ-ONLY" in line else None
    )

    with pytest.raises(SourceError, match="No folder could be listed"):
        await scan_all(world.connector())


@pytest.mark.parametrize(
    ("code", "attempts"), [(b"", 1), (b"[AUTHENTICATIONFAILED] ", 1), (b"[UNAVAILABLE] ", 3), (b"[LIMIT] ", 3)]
)
async def test_a_login_that_is_refused_is_not_tried_again_unless_the_server_says_so(
    world: ImapWorld, proxy: FaultyLines, code: bytes, attempts: int
) -> None:
    """Wrong passwords lock accounts. The password itself is told to nobody."""
    refusal = b" NO " + code + PASSWORD.encode() + b" is wrong\r\n"

    def spoil(line: bytes, tag: bytes) -> Instead | None:
        is_answer = bool(tag) and proxy.commands[-1].startswith(b"AUTH") and line.startswith(tag)
        return Instead(tag + refusal) if is_answer else None

    proxy.spoil = spoil

    with pytest.raises(SourceError, match="is wrong") as caught:
        await scan_all(world.connector())

    assert PASSWORD not in str(caught.value)
    assert proxy.asked(b"AUTHENTICATE") == attempts


async def test_a_server_that_repeats_what_it_heard_does_not_make_us_tell_it(
    world: ImapWorld, proxy: FaultyLines
) -> None:
    """It hears the password in base64."""
    heard = b64encode(b"\0" + world.user.encode() + b"\0" + PASSWORD.encode())

    def spoil(line: bytes, tag: bytes) -> Instead | None:
        is_answer = bool(tag) and proxy.commands[-1].startswith(b"AUTH") and line.startswith(tag)
        return Instead(tag + b" NO who is " + heard + b"\r\n") if is_answer else None

    proxy.spoil = spoil

    with pytest.raises(SourceError, match="who is …") as caught:
        await scan_all(world.connector())

    assert heard.decode() not in str(caught.value)


async def test_a_wrong_password_says_so(any_world: ImapWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the server's words."""
    monkeypatch.setenv(VARIABLE, "wrong-one")

    with pytest.raises(SourceError, match=r"AUTHENTICATIONFAILED.*Nothing was concluded") as caught:
        await scan_all(any_world.connector())

    assert "wrong-one" not in str(caught.value)


async def test_a_password_that_is_not_set_says_so(world: ImapWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked."""
    monkeypatch.delenv(VARIABLE)

    with pytest.raises(SourceError, match=rf"{VARIABLE}.*is not set"):
        await scan_all(world.connector())


async def test_a_server_that_is_not_there_says_so(world: ImapWorld) -> None:
    """Nothing may be concluded from silence."""
    with pytest.raises(SourceError, match="Connection refused"):
        await scan_all(world.connector(port=9))


async def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(
    world: ImapWorld, proxy: FaultyLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each comes in time; the answer as a whole does not."""
    monkeypatch.setattr("connectors.imap.session.TIMEOUTS_PER_QUESTION", 0.2)
    monkeypatch.setattr("connectors.imap.connections.ATTEMPTS_MAX", 1)
    world.put("a.md", HEADERS)
    connector = world.connector(timeout_s=3600.0)
    (ref,) = (await scan_refs(connector)).values()
    monkeypatch.setattr("connectors.imap.session.TIMEOUTS_PER_QUESTION", 0.00005)
    proxy.spoil = lambda line, _tag: Instead(b"", End.SILENCE) if b"BODY[]" in line else None

    with pytest.raises(UnreadableDocument) as caught:
        await connector.fetch(ref)

    assert caught.value.code == "connection_lost"


async def test_a_run_that_is_stopped_waits_for_no_answer(world: ImapWorld, proxy: FaultyLines) -> None:
    """The thread that waits is let go."""
    world.put("a.md", HEADERS)
    connector = world.connector(timeout_s=3600.0)
    (ref,) = (await scan_refs(connector)).values()
    is_silent = anyio.Event()

    def spoil(line: bytes, _tag: bytes) -> Instead | None:
        if b"BODY[]" not in line:
            return None
        is_silent.set()
        return Instead(b"", End.SILENCE)

    proxy.spoil = spoil

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connector.fetch, ref)
            await is_silent.wait()
            tasks.cancel_scope.cancel()

    proxy.spoil = lambda _line, _tag: None
    assert (await connector.fetch(ref)).ref == ref


async def test_a_server_that_lets_in_fewer_connections_is_read_with_those(world: ImapWorld, proxy: FaultyLines) -> None:
    """One to list and one to read are enough."""
    for number in range(8):
        world.put(f"a/{number}.md", HEADERS + f"text {number}".encode())
    greeted = 0

    def spoil(line: bytes, _tag: bytes) -> Instead | None:
        nonlocal greeted
        greeted += line.startswith(b"* OK [CAP")
        is_too_many = greeted > 2 and line.startswith(b"* OK [CAP")
        return Instead(b"* BYE too many connections\r\n", End.CLOSE) if is_too_many else None

    proxy.spoil = spoil
    async with running(world, connections=5) as run:
        await run.do()

        assert len(run.texts()) == 8
        assert greeted > 2


@pytest.mark.parametrize("by", [-9, -1, 1, 9])
async def test_a_mail_that_is_not_as_long_as_the_server_said_is_not_taken(
    world: ImapWorld, proxy: FaultyLines, by: int
) -> None:
    """Half a mail, or what follows it, must not be stored for good: nothing would show later."""
    document = world.put("a.md", HEADERS + b"text 1")
    connector = world.connector(timeout_s=1.0)
    ref = (await scan_refs(connector))[document]

    def spoil(line: bytes, _tag: bytes) -> Instead | None:
        if b"BODY[]" not in line:
            return None
        return Instead(re.sub(rb"\{(\d+)\}", lambda found: b"{%d}" % (int(found[1]) + by), line))

    proxy.spoil = spoil

    with pytest.raises(UnreadableDocument):
        await connector.fetch(ref)


async def test_a_server_that_breaks_off_each_time_ends_the_run(world: ImapWorld, proxy: FaultyLines) -> None:
    """A thousand dead letters would say nothing of the mails."""
    for number in range(25):
        world.put(f"a/{number}.md", HEADERS)
    connector = world.connector()
    refs = await scan_refs(connector)
    proxy.spoil = lambda line, _tag: Instead(line[:5], End.RESET) if b"BODY[]" in line else None
    outcomes: list[type[Exception]] = []
    for ref in refs.values():
        with pytest.raises((UnreadableDocument, SourceError)) as caught:
            await connector.fetch(ref)
        outcomes.append(type(caught.value))

    assert outcomes == [UnreadableDocument] * 19 + [SourceError] * 6


@pytest.mark.parametrize("asked", [b"EXAMINE", b"UID FETCH"])
@pytest.mark.parametrize("line", [b"", b" NO said so", b" NO [SERVERBUG] oh", b" BAD what", b" OK nothing to say"])
async def test_nothing_is_missed_when_the_server_cannot_tell(
    world: ImapWorld, proxy: FaultyLines, line: bytes, asked: bytes
) -> None:
    """None would delete the document. That one question is answered with nothing is not enough."""
    document = world.put("a/0.md", HEADERS)
    connector = world.connector()

    def spoil(_said: bytes, tag: bytes) -> Instead | None:
        if not proxy.commands or not proxy.commands[-1].startswith(asked) or not tag:
            return None
        return Instead(tag + line + b"\r\n" if line else b"", None if line else End.RESET, skips_answer=bool(line))

    proxy.spoil = spoil

    with pytest.raises(SourceError):
        await connector.locate(document)


# --------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize(("server", "security"), [(dovecot_server, "tls"), (pymap_server, "starttls")])
async def test_a_server_is_read_over_tls_if_its_certificate_is_trusted(
    server: Any, security: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no password leaves for another."""
    with server(certificate=certificate) as running_server:
        user = running_server.new_user()
        settings = {"host": "localhost", "port": running_server.port, "security": security, "user": user}
        given = ImapSettings.model_validate({"type": "imap", "password_variable": VARIABLE, **settings})
        connector = ImapConnector(given, Path("/"))
        with pytest.raises(SourceError, match="certificate is not trusted"):
            await scan_all(connector)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

        assert await scan_all(connector) == [ScanComplete("")]

        await connector.aclose()


async def test_no_password_is_sent_where_starttls_is_not_offered(world: ImapWorld, proxy: FaultyLines) -> None:
    """Somebody in between may have left it out."""
    with pytest.raises(SourceError, match="offers no STARTTLS"):
        await scan_all(world.connector(security="starttls"))

    assert {command.split()[0] for command in proxy.commands} <= {b"CAPABILITY"}


async def test_a_server_that_speaks_no_tls_says_so(world: ImapWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """As port 143 with `security: tls`."""
    with pytest.raises(SourceError, match="does not begin with TLS; does `security` fit `port`"):
        await scan_all(world.connector(security="tls"))
