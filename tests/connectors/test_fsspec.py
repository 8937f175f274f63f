"""Files on servers that fsspec speaks to as documents, from real servers."""

import base64
import gc
import hashlib
import itertools
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors.fsspec.connector import FsspecConnector, FsspecSettings
from connectors.fsspec.file_systems import AzureStorage, FileSystem, Ftp, GoogleStorage, Sftp, Smb, WebDav
from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all, scan_refs
from pipeline.errors import DocumentVanished, SourceError, SyncError, UnreadableDocument
from pipeline.model import DocumentId, DocumentRef, DocumentSkipped, ScanError
from tests.fakes.faulty_http import Answer, faulty_proxy

from .file_servers import PASSWORD, FileServer, ftp_server, sftp_server, webdav_server
from .web_server import web_server

# Servers and clients of these protocols leave connections that were cut to be collected.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:Exception ignored in. {what}:pytest.PytestUnraisableExceptionWarning")
    for what in ("<socket", "<function _SelectorTransport")
]

LISTS = ("PROPFIND", "LIST", "MLSD")
MOMENTS = itertools.count(1_700_000_000)

SERVERS: dict[str, Callable[[Path], AbstractContextManager[FileServer]]] = {
    "webdav": webdav_server,
    "sftp": sftp_server,
    "ftp": ftp_server,
}


class FileWorld:
    """A folder that a server shows, as `docs` of its root. Each change is of another second, long past."""

    def __init__(self, server: FileServer) -> None:
        self.server = server
        self.root = server.folder / "docs"
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        server.closed.clear()
        server.requests.clear()
        self.opened: list[FsspecConnector] = []

    def settings(self, **settings: Any) -> FsspecSettings:
        return FsspecSettings.model_validate(
            {
                "type": "fsspec",
                "url": f"{self.server.url.rstrip('/')}/docs",
                "options": self.server.options,
                "option_variables": {"password": "FILES_PASSWORD"},
                **settings,
            }
        )

    def connector(self, **settings: Any) -> FsspecConnector:
        connector = FsspecConnector(self.settings(**settings), Path("/"))
        self.opened.append(connector)
        return connector

    def put(self, name: str, content: bytes) -> DocumentId:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        modified_at = next(MOMENTS)
        os.utime(path, (modified_at, modified_at))
        return DocumentId(name)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def remove_root(self) -> None:
        shutil.rmtree(self.root)

    def make_unlistable(self, folder: str) -> None:
        self.server.closed.add(f"docs/{folder}")

    async def aclose(self) -> None:
        for connector in self.opened:
            await connector.aclose()


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """What is left is collected here, and not in whatever test comes next."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILES_PASSWORD", PASSWORD)
    monkeypatch.setattr("connectors.fsspec.share.PAUSE_S", 0.0)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with SERVERS[request.param](tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
async def world(server: FileServer) -> AsyncIterator[FileWorld]:
    made = FileWorld(server)
    yield made
    await made.aclose()


@pytest.fixture
async def webdav(tmp_path: Path) -> AsyncIterator[FileWorld]:
    with webdav_server(tmp_path) as server:
        made = FileWorld(server)
        yield made
        await made.aclose()


@pytest.fixture
async def sftp(tmp_path: Path) -> AsyncIterator[FileWorld]:
    with sftp_server(tmp_path / "served") as server:
        made = FileWorld(server)
        yield made
        await made.aclose()


@pytest.fixture
async def ftp(tmp_path: Path) -> AsyncIterator[FileWorld]:
    with ftp_server(tmp_path) as server:
        made = FileWorld(server)
        yield made
        await made.aclose()


class TestFsspecConnectorKeepsTheContract(SourceConnectorContract):
    @pytest.fixture
    def world(self, world: FileWorld) -> SourceWorld:
        return world


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "s3://bucket/docs"}, "`type: s3` reads S3"),
        ({"url": "file:///docs"}, "`type: filesystem` reads local files"),
        ({"url": "https://docs.example.com/"}, "no listing of a folder"),
        ({"url": "webdav://docs.example.com/"}, r"webdav\+https://"),
        ({"url": "zip://docs::sftp://host/a.zip"}, "not what fsspec makes of another"),
        ({"url": "simplecache://docs"}, "not what fsspec makes of another"),
        ({"url": "/docs"}, "PROTOCOL://PATH"),
        ({"url": "sftp://reader:sesame@host/docs"}, "a password must not stand in `url`"),
        ({"url": "sftp://host/docs?x=1"}, "nothing behind"),
        ({"url": "ftp://host/docs"}, "allow_unencrypted"),
        ({"url": "ftp://127.example.com/docs"}, "allow_unencrypted"),
        ({"url": "webdav+http://host/docs"}, "allow_unencrypted"),
        ({"options": {"password": "sesame"}}, "looks like a secret"),
        ({"options": {"account_key": "sesame"}}, "looks like a secret"),
        ({"options": {"proxy_command": "nc %h"}}, "would run something else"),
        ({"options": {"config": "/home/other/.ssh/config"}}, "would run something else"),
        ({"option_variables": {"client_factory": "X"}}, "would run something else"),
        ({"options": {"verify": False}}, "must not be false"),
        ({"url": "ftp://localhost/", "options": {"tls": "tls"}}, "true or false"),
        ({"options": {"since": date(2026, 1, 1)}}, "should be text"),
        ({"include": ["["]}, "not a pattern"),
        ({"pth": "x"}, "pth"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    """What they name is read in a better way, is no place, would leak a secret or run a program."""
    with pytest.raises(ValidationError, match=message) as caught:
        FsspecSettings.model_validate({"type": "fsspec", "url": "sftp://host/docs", **settings})

    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "github://org:repo@main/docs"},
        {"url": "gs://bucket/docs", "options": {"token": "anon"}},
        {"url": "gs://bucket/docs", "options": {"token": "/etc/google.json"}},
        {"url": "ftp://host/docs", "options": {"tls": True}},
        {"url": "ftp://host/docs", "allow_unencrypted": True},
        {"url": "webdav+http://127.0.0.1:8080/docs"},
        {"url": "sftp://host/docs", "options": {"known_hosts": None, "client_keys": ["~/.ssh/key"]}},
    ],
)
def test_settings_that_can_be_meant_are_taken(settings: dict[str, Any]) -> None:
    """A rule that is too strict keeps people out."""
    FsspecSettings.model_validate({"type": "fsspec", **settings})


# ------------------------------------------------------------------------------------------------- listing


async def test_only_what_the_patterns_take_in_is_listed(world: FileWorld) -> None:
    """And locating agrees with it."""
    names = ("a.md", "b.txt", "drafts/c.md", "en/d.md", "en/drafts/keep.md", ".hidden/e.md", ".f.md")
    for name in names:
        world.put(name, b"x")
    connector = world.connector(include=["*.md"], exclude=["drafts/", "!keep.md"])

    refs = await scan_refs(connector)
    located = {name: await connector.locate(DocumentId(name)) for name in names}

    assert set(refs) == {"a.md", "en/d.md", ".hidden/e.md", ".f.md"}
    assert {name for name, ref in located.items() if ref} == set(refs)


NAMES = [
    "a b.md", "ä/語.md", "a+b&c=d.md", "a%20b.md", "q?x#y.md", "semi;colon.md", "[x].md", "~.md", "a:b@c.md", " a/ .md",
    "d%41/?#%.md",
]  # fmt: skip


async def test_names_of_any_kind_are_listed_and_read(world: FileWorld) -> None:
    """Each library has its own way to write them into a request."""
    for name in NAMES:
        world.put(name, name.encode())
    connector = world.connector()

    refs = await scan_refs(connector)
    contents = {name: (await connector.fetch(ref)).content.decode() for name, ref in refs.items()}

    assert contents == {name: name for name in NAMES}
    assert all([await connector.locate(DocumentId(name)) == refs[DocumentId(name)] for name in NAMES])


async def test_a_scan_shows_the_present_also_over_a_connection_that_has_listed_before(world: FileWorld) -> None:
    """fsspec keeps listings; what is gone would be there for ever."""
    for name in ("a.md", "guide/b.md", "guide/c.md"):
        world.put(name, b"x")
    connector = world.connector()
    before = await scan_refs(connector)
    world.remove("guide/b.md")
    world.put("guide/c.md", b"longer")
    world.put("guide/d.md", b"x")

    now = await scan_refs(connector)

    assert set(now) == {"a.md", "guide/c.md", "guide/d.md"}
    assert now[DocumentId("guide/c.md")] != before[DocumentId("guide/c.md")]


async def test_an_unchanged_source_is_listed_and_not_read(world: FileWorld) -> None:
    """A run without changes costs one request a folder, and two more if a folder of WebDAV is empty."""
    for number in range(20):
        world.put(f"folder-{number % 4}/{number}.md", b"x")
    connector = world.connector()
    refs = await scan_refs(connector)
    world.server.requests.clear()

    assert await scan_refs(connector) == refs
    assert all(ref.fingerprint for ref in refs.values())
    assert not [request for request in world.server.requests if request.startswith(("GET", "READ", "RETR"))]
    assert len([request for request in world.server.requests if request.startswith(LISTS)]) == 5


async def test_a_file_that_was_just_written_is_not_known_by_its_time(world: FileWorld) -> None:
    """Another edit in the same second could leave size and time as they are."""
    document = world.put("a.md", b"text")
    os.utime(world.root / "a.md")
    connector = world.connector()

    (listed,) = (await scan_refs(connector)).values()
    fetched = await connector.fetch(listed)

    assert listed.id == document
    assert listed.fingerprint is fetched.ref.fingerprint is None
    assert fetched.ref.modified_at is not None


async def test_thousands_that_are_gone_from_a_folder_cost_few_listings(world: FileWorld) -> None:
    """Each is asked for by itself, and its folder can be large."""
    world.put("guide/kept.md", b"x")
    connector = world.connector()
    await scan_refs(connector)
    world.server.requests.clear()

    located = [await connector.locate(DocumentId(f"guide/{number}.md")) for number in range(50)]

    assert located == [None] * 50
    assert len(world.server.requests) < 10


async def test_a_folder_that_is_gone_or_a_file_now_has_nothing_in_it(world: FileWorld) -> None:
    """The folder above lists without it, and that is proof."""
    for name in ("guide/deep/a.md", "guide/b.md", "c.md"):
        world.put(name, b"x")
    connector = world.connector()
    refs = await scan_refs(connector)
    shutil.rmtree(world.root / "guide")
    world.put("guide", b"a file now")
    again = world.connector()

    assert await again.locate(DocumentId("guide/deep/a.md")) is None
    assert await again.locate(DocumentId("guide/b.md")) is None
    assert set(await scan_refs(again)) == {"guide", "c.md"}
    with pytest.raises(DocumentVanished):
        await again.fetch(refs[DocumentId("guide/deep/a.md")])


async def test_a_renamed_file_is_traced_to_what_it_was(world: FileWorld) -> None:
    """Its records can stay where they are."""
    document = world.put("a.md", b"text")
    connector = world.connector()
    before = (await scan_refs(connector))[document]
    (world.root / "a.md").rename(world.root / "b.md")
    (after,) = (await scan_refs(connector)).values()

    assert before.fingerprint is not None
    assert before.fingerprint.startswith(connector.trace(after) or "never")
    assert connector.trace(after._replace(fingerprint=None)) == connector.trace(after)


async def test_what_is_too_large_is_not_read(world: FileWorld) -> None:
    """Its size stands in the listing."""
    document = world.put("a.md", b"x" * 1_001)
    connector = world.connector(max_bytes=1_000)
    ref = (await scan_refs(connector))[document]
    world.server.requests.clear()

    with pytest.raises(UnreadableDocument, match="1,001 bytes"):
        await connector.fetch(ref)

    assert not world.server.requests


# --------------------------------------------------------------------------------------------- links and loops


async def test_symbolic_links_are_counted_and_left_out(sftp: FileWorld) -> None:
    """They could lead anywhere, also round in circles."""
    sftp.put("guide/a.md", b"x")
    (sftp.root / "guide" / "loop").symlink_to("..")
    (sftp.root / "link.md").symlink_to("guide/a.md")
    connector = sftp.connector()

    events = await scan_all(connector)

    skipped = {event.id: event.reason for event in events if isinstance(event, DocumentSkipped)}
    assert skipped == {"guide/loop": "symlink", "link.md": "symlink"}
    assert {event.id for event in events if isinstance(event, DocumentRef)} == {"guide/a.md"}
    assert await connector.locate(DocumentId("link.md")) is None


async def test_names_that_are_not_utf_8_are_listed_and_read(sftp: FileWorld) -> None:
    """One of them must not hide its whole folder."""
    path = os.fsencode(sftp.root) + b"/caf\xe9.md"
    Path(os.fsdecode(path)).write_bytes(b"text")  # noqa: ASYNC240
    connector = sftp.connector()

    (ref,) = (await scan_refs(connector)).values()

    assert ref.id == "caf%E9.md"
    assert (await connector.fetch(ref)).content == b"text"


@pytest.mark.parametrize("depth", [1, 3])
async def test_folders_within_themselves_end(ftp: FileWorld, depth: int) -> None:
    """A server that follows links shows the same files without an end."""
    top = "/".join(f"f{number}" for number in range(depth))
    ftp.put(f"{top}/a.md", b"x")
    (ftp.root / top / "loop").symlink_to(ftp.root / "f0")
    (ftp.root / top / "second").symlink_to(ftp.root / "f0")

    events = await scan_all(ftp.connector())

    documents = [event.id for event in events if isinstance(event, DocumentRef)]
    assert f"{top}/a.md" in documents
    assert len(documents) <= 3
    assert {event.code for event in events if isinstance(event, ScanError)} == {"looping_folders"}


async def test_a_folder_in_a_folder_of_the_same_name_is_no_loop(world: FileWorld) -> None:
    """Archives often unpack like that."""
    names = {world.put(name, b"x") for name in ("docs/docs/docs/a.md", "docs/docs/docs/docs/a.md")}

    assert set(await scan_refs(world.connector())) == names


# ---------------------------------------------------------------------------------------------- whole sources


@pytest.mark.parametrize("has_closed_port", [True, False])
async def test_a_server_that_is_not_there_is_an_error(
    world: FileWorld, monkeypatch: pytest.MonkeyPatch, has_closed_port: bool
) -> None:
    """And says so in words that help."""
    world.put("a.md", b"x")
    protocol = world.server.url.partition("://")[0]
    where = "127.0.0.1:9" if has_closed_port else "never.was.invalid"
    connector = world.connector(url=f"{protocol}://{where}/docs", allow_unencrypted=True)

    with pytest.raises(SourceError, match=r"cannot be listed: .*Check `source\.url`"):
        await scan_all(connector)


async def test_a_login_that_is_refused_is_an_error_without_the_password(
    world: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end up in a log."""
    document = world.put("a.md", b"x")
    monkeypatch.setenv("FILES_PASSWORD", "open barley")
    connector = world.connector()

    for question in (scan_all(connector), connector.locate(document)):
        with pytest.raises(SourceError, match="refused the login") as caught:
            await question
        assert "barley" not in str(caught.value)


async def test_a_variable_that_is_not_set_is_an_error(world: FileWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty password would only be refused."""
    monkeypatch.delenv("FILES_PASSWORD")

    with pytest.raises(SourceError, match=r"FILES_PASSWORD, which `source\.option_variables\.password` names"):
        await scan_all(world.connector())


async def test_a_connector_that_was_closed_can_be_asked_again(world: FileWorld) -> None:
    """Closing is safe at any time, and to repeat."""
    document = world.put("a.md", b"text")
    connector = world.connector()
    await scan_all(connector)

    await connector.aclose()
    await connector.aclose()

    assert document in await scan_refs(connector)


async def test_a_server_whose_key_is_not_known_is_not_believed(
    sftp: FileWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sshfs by itself talks to anyone, and tells him the password."""
    monkeypatch.setenv("HOME", str(tmp_path))
    options = {name: value for name, value in sftp.server.options.items() if name != "known_hosts"}

    with pytest.raises(SourceError, match="may be another one"):
        await scan_all(sftp.connector(options=options))


async def test_an_ftp_server_without_a_listing_to_rely_on_is_an_error(
    ftp: FileWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What LIST shows of a folder that may not be listed is nothing."""
    ftp.put("a.md", b"x")
    monkeypatch.setattr("ftplib.FTP.mlsd", lambda ftp, _path: ftp.voidcmd("NOPE"))

    with pytest.raises(SourceError, match="NOPE"):
        await scan_all(ftp.connector())


async def test_a_redirect_to_another_server_is_not_followed(webdav: FileWorld) -> None:
    """It would be listed as if it were this one, and could be one of the inside."""
    document = webdav.put("guide/a.md", b"x")
    async with (
        faulty_proxy(webdav.server.url.removeprefix("webdav+")) as proxy,
        web_server(lambda request: aiohttp_answer(200)) as other,
    ):
        connector = webdav.connector(url=f"webdav+{proxy.url}/docs")
        ref = (await scan_refs(connector))[document]
        proxy.spoil = lambda _request, _status, _body: Answer(302, headers={"Location": f"{other.url}/docs/guide/"})

        with pytest.raises(SourceError):
            await scan_all(connector)
        with pytest.raises(SyncError):
            await connector.fetch(ref)

        assert other.requests == []
        await connector.aclose()


async def aiohttp_answer(status: int) -> web.Response:
    return web.Response(status=status)


async def test_a_file_system_that_does_not_answer_is_given_up_in_time() -> None:
    """Libraries wait for ever where nobody says how long."""
    is_over = threading.Event()

    class Hanging(FileSystem):
        def list(self, path: str) -> list[Any]:
            is_over.wait(30)
            return []

    settings = FsspecSettings.model_validate({"type": "fsspec", "url": "memory://docs", "timeout_s": 0.01})
    connector = FsspecConnector(settings, Path("/"), opener=Hanging)

    with pytest.raises(SourceError, match=r"no answer within 0\.01 s"):
        await scan_all(connector)
    is_over.set()


async def test_a_server_that_lists_and_does_not_give_ends_the_run(webdav: FileWorld) -> None:
    """A thousand dead letters would say nothing of the documents."""
    for number in range(25):
        webdav.put(f"{number:02}.md", b"x")
    outcomes: list[type[SyncError]] = []
    async with faulty_proxy(webdav.server.url.removeprefix("webdav+")) as proxy:
        connector = webdav.connector(url=f"webdav+{proxy.url}/docs")
        refs = await scan_refs(connector)
        proxy.spoil = lambda request, _status, _body: Answer(500) if request.method == "GET" else None
        for ref in refs.values():
            with pytest.raises(SyncError) as caught:
                await connector.fetch(ref)
            outcomes.append(type(caught.value))
        await connector.aclose()

    assert outcomes[:19] == [UnreadableDocument] * 19
    assert set(outcomes[19:]) == {SourceError}


@pytest.mark.parametrize("answer", [Answer(500), Answer(200, b"text", sent_bytes=2), Answer(is_reset=True)])
async def test_content_that_does_not_come_once_is_asked_for_again(webdav: FileWorld, answer: Answer) -> None:
    """As on a bad line."""
    document = webdav.put("a.md", b"text")
    left = [answer]
    async with faulty_proxy(webdav.server.url.removeprefix("webdav+")) as proxy:
        connector = webdav.connector(url=f"webdav+{proxy.url}/docs")
        ref = (await scan_refs(connector))[document]
        proxy.spoil = lambda request, _status, _body: left.pop() if left and request.method == "GET" else None

        assert (await connector.fetch(ref)).content == b"text"
        await connector.aclose()


# ------------------------------------------------------------------------------------------ file systems at large


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("sftp://host/", "sshfs", "sftp"),
        ("webdav+https://host/", "webdav4.fsspec", "webdav"),
        ("gs://bucket/", "gcsfs", "gcs"),
        ("abfs://c@a.dfs.core.windows.net/", "adlfs", "azure"),
        ("smb://host/share/", "smbclient", "smb"),
        ("ftp://localhost/", "fsspec", "files"),
    ],
)
async def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    """With the command that installs it."""
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "fsspec" and module != "fsspec"]:
        if loaded == "fsspec.implementations.smb":
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    settings = FsspecSettings.model_validate({"type": "fsspec", "url": url})

    with pytest.raises(SourceError, match=rf"pip install 'agentcore-memory-sync\[{extra}\]'"):
        await scan_all(FsspecConnector(settings, Path("/")))


async def test_a_protocol_that_fsspec_does_not_know_is_an_error() -> None:
    """It is misspelt, or its package is not installed."""
    settings = FsspecSettings.model_validate({"type": "fsspec", "url": "sftpp://host/docs"})

    with pytest.raises(SourceError, match="fsspec knows no file system for sftpp://"):
        await scan_all(FsspecConnector(settings, Path("/")))


async def test_a_file_system_of_which_nothing_is_known_is_read_in_each_run() -> None:
    """What its fields mean is not known, and a wrong guess would hide edits for ever."""
    from fsspec.implementations.memory import MemoryFileSystem

    files = MemoryFileSystem(skip_instance_cache=True)
    settings = FsspecSettings.model_validate({"type": "fsspec", "url": "memory://docs"})
    connector = FsspecConnector(settings, Path("/"))
    try:
        files.pipe_file("/docs/guide/a.md", b"text")
        refs = await scan_refs(connector)
        contents = [(await connector.fetch(ref)).content for ref in refs.values()]
        located = await connector.locate(DocumentId("guide/a.md"))
    finally:
        files.store.clear()

    assert contents == [b"text"]
    assert [ref.fingerprint for ref in refs.values()] == [None]
    assert located == refs[DocumentId("guide/a.md")]


BLOBS = {"a.md": b"text", "guide/b.md": b"more text"}


def sha_of(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


async def github(request: web.Request) -> web.Response:
    """As much of GitHub's API as fsspec asks."""
    what = request.path.removeprefix("/repos/org/docs/")
    if what in ("git/trees/main", "git/trees/guide"):
        folder = "" if what.endswith("main") else "guide/"
        tree = [
            {"path": name.removeprefix(folder), "mode": "100644", "type": "blob", "size": len(content)}
            | {"sha": sha_of("blob", content)}
            for name, content in BLOBS.items()
            if name.rpartition("/")[0] == folder.rstrip("/")
        ]
        if not folder:
            tree.append({"path": "guide", "mode": "040000", "type": "tree", "sha": "guide"})
            tree.append({"path": "link.md", "mode": "120000", "type": "blob", "size": 4, "sha": "link"})
        return web.json_response({"tree": tree})
    content = BLOBS.get(what.removeprefix("contents/"))
    if content is None:
        return web.json_response({"message": "Not Found"}, status=404)
    return web.json_response({"content": base64.b64encode(content).decode()})


async def test_a_repository_of_github_is_read_by_its_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the listing, and prove what was read: it costs one request."""
    from fsspec.implementations.github import GithubFileSystem

    async with web_server(github) as server:
        for name in ("url", "content_url"):
            address = getattr(GithubFileSystem, name).replace("https://api.github.com", server.url)
            monkeypatch.setattr(GithubFileSystem, name, address)
        settings = FsspecSettings.model_validate({"type": "fsspec", "url": "github://org:docs@main/"})
        connector = FsspecConnector(settings, Path("/"))

        events = await scan_all(connector)
        refs = {event.id: event for event in events if isinstance(event, DocumentRef)}
        server.requests.clear()
        contents = {name: (await connector.fetch(ref)).content for name, ref in refs.items()}

    assert contents == BLOBS
    assert len(server.requests) == 2
    assert {name: ref.fingerprint for name, ref in refs.items()} == {
        name: f"sha-{sha_of('blob', content)}-{len(content)}" for name, content in BLOBS.items()
    }
    assert DocumentSkipped(DocumentId("link.md"), "symlink") in events


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "info", "version", "is_strong"),
    [
        (GoogleStorage, {"md5Hash": "x", "generation": "7", "mtime": NOW}, "md5Hash-x-3", True),
        (GoogleStorage, {"generation": "7", "mtime": NOW}, "generation-7-3", True),
        (AzureStorage, {"etag": '"0x8"', "last_modified": NOW}, 'etag-"0x8"-3', True),
        (WebDav, {"etag": "x", "modified": NOW}, "3-1767323045.000000-x", False),
        (WebDav, {"etag": "x"}, "x-3", True),
        (WebDav, {"etag": "W/x"}, None, False),
        (WebDav, {"modified": NOW.replace(tzinfo=None)}, "3-1767323045.000000-", False),
        (Sftp, {"mtime": NOW}, "3-1767323045.000000-", False),
        (Sftp, {"mtime": None}, None, False),
        (Ftp, {"modify": "20260102030405.678"}, "3-1767323045.000000-", False),
        (Ftp, {"modify": "yesterday"}, None, False),
        (Smb, {"mtime": NOW.replace(microsecond=250)}, "3-1767323045.000250-", False),
        (FileSystem, {"mtime": NOW, "etag": "x", "created": NOW}, None, False),
    ],
)
def test_of_each_file_system_the_strongest_sign_counts(
    kind: type[FileSystem], info: dict[str, Any], version: str | None, is_strong: bool
) -> None:
    """A hash or the number of a write, else size and time, which must not be young; else nothing."""
    entry = object.__new__(kind).entry({"name": "/docs/a.md", "type": "file", "size": 3, **info})

    assert (entry.version, entry.is_strong) == (version, is_strong)
