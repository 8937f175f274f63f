"""Each answer of a file system to a run, spoilt in each way that is known of one."""

import gc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connectors.fsspec.connector import FsspecConnector, FsspecSettings
from connectors.fsspec.file_systems import FileSystem, Info, Signs
from connectors.kit.contract import SpoilableWorld, SpoiltAnswersContract, scan_all, scan_refs
from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentId, DocumentRef, ScanError
from tests.fakes.faulty_http import Answer, FaultyProxy, Strike, faulty_proxy

from .file_servers import PASSWORD, FileServer, webdav_server
from .spoilt_runs import ADDED, BEFORE, SpoiltSource, hold_through
from .test_fsspec import FileWorld

# Servers and clients of these protocols leave connections that were cut to be collected.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:Exception ignored in. {what}:pytest.PytestUnraisableExceptionWarning")
    for what in ("<socket", "<function _SelectorTransport")
]

LIST, INFO, READ = "list", "info", "read"


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """What is left is collected here, and not in whatever test comes next."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FILES_PASSWORD", PASSWORD)
    monkeypatch.setattr("connectors.fsspec.share.PAUSE_S", 0.0)


# ------------------------------------------------------------------------------- a file system that misbehaves


class HttpStatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"said {status_code}")
        self.status_code = status_code


RAISED: Mapping[str, Exception] = {
    "not found": FileNotFoundError("no such file"),
    "not a folder": NotADirectoryError("not a directory"),
    "is a folder": IsADirectoryError("is a directory"),
    "not allowed": PermissionError("not allowed"),
    "some error": OSError("failure"),
    "time": TimeoutError(),
    "cut": ConnectionResetError("reset"),
    "end": EOFError(),
    "nonsense": KeyError("size"),
    "no XML": ValueError("not well-formed"),
    "no answer at all": AttributeError("'NoneType' object has no attribute 'text'"),
    "401": HttpStatusError(401),
    "403": HttpStatusError(403),
    "404": HttpStatusError(404),
    "429": HttpStatusError(429),
    "503": HttpStatusError(503),
}
ANSWERED = ("empty", "half", "past", "the folder itself", "a file", "elsewhere", "nameless", "of no kind")


class Misbehaving(FileSystem):
    """fsspec's file system in memory, whose call number `at` answers wrongly; what it listed otherwise is in `seen`."""

    signs = Signs(content=("created",))
    calls_at_once = 1
    fault = ""
    at = -1
    calls = 0
    struck = 0
    seen: set[str] = set()  # noqa: RUF012 - there is one such file system
    before: Mapping[str, list[Info]] = {}

    @classmethod
    def wrongly(cls, question: str, answer: Callable[[], Any], path: str) -> Any:
        cls.calls += 1
        if cls.calls != cls.at:
            found = answer()
            if question == LIST:
                found = list(found)
                cls.seen |= {info["name"].partition("docs/")[2] for info in found if info["type"] == "file"}
            return found
        cls.struck += 1
        if cls.fault in RAISED:
            raise RAISED[cls.fault]
        return cls.spoilt(question, answer(), path)

    @classmethod
    def spoilt(cls, question: str, answer: Any, path: str) -> Any:
        if question == READ:
            return b"" if cls.fault == "empty" else answer[: len(answer) // 2]
        if question == INFO:
            return {
                "empty": {},
                "past": {**answer, "created": 0},
                "the folder itself": {**answer, "type": "directory"},
                "half": {"name": answer["name"]},
                "of no kind": {**answer, "type": None},
            }.get(cls.fault, {**answer, "size": 1})
        listed = list(answer)
        return {
            "empty": [],
            "half": listed[: len(listed) // 2],
            "past": cls.before[path],
            "the folder itself": [{"name": path, "type": "directory", "size": 0}],
            "a file": [{"name": path, "type": "file", "size": 0}],
            "elsewhere": [{**info, "name": f"/else/{info['name']}"} for info in listed],
            "nameless": [{"type": "file", "size": 1}],
            "of no kind": [{**info, "type": None} for info in listed],
        }[cls.fault]

    def list(self, path: str) -> Iterable[Info]:
        found: Iterable[Info] = self.wrongly(LIST, lambda: super(Misbehaving, self).list(path), path)
        return found

    def info(self, path: str) -> Info:
        found: Info = self.wrongly(INFO, lambda: self._as_listed(path), path)
        return found

    def _as_listed(self, path: str) -> Info:
        """fsspec writes the moment in another way than in a listing."""
        info = super().info(path)
        return {**info, "created": info["created"].timestamp()} if "created" in info else info

    def read(self, path: str, bytes_max: int) -> bytes:
        content: bytes = self.wrongly(READ, lambda: super(Misbehaving, self).read(path, bytes_max), path)
        return content


@pytest.fixture
def memory() -> Iterator[Any]:
    from fsspec.implementations.memory import MemoryFileSystem

    made = MemoryFileSystem(skip_instance_cache=True)
    yield made
    made.store.clear()
    made.pseudo_dirs[:] = [""]


class MisbehavingWorld:
    """Files in memory behind `Misbehaving`."""

    faults = (*RAISED, *ANSWERED)

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.names: set[str] = set()

    def connector(self) -> FsspecConnector:
        settings = FsspecSettings.model_validate({"type": "fsspec", "url": "memory://docs"})
        return FsspecConnector(settings, Path("/"), opener=Misbehaving)

    def put(self, name: str, content: bytes) -> DocumentId:
        self.memory.pipe_file(f"/docs/{name}", content)
        self.names.add(name)
        return DocumentId(name)

    def remember(self) -> None:
        """Take what is listed now for what an answer of the past shows."""
        folders = {"/docs", *(f"/docs/{name.rpartition('/')[0]}".rstrip("/") for name in self.names)}
        Misbehaving.before = {folder: self.memory.ls(folder, detail=True) for folder in folders}

    def spoil(self, fault: str, position: int) -> None:
        if not Misbehaving.before:
            self.remember()
        Misbehaving.fault, Misbehaving.at = fault, position + 1
        Misbehaving.calls = Misbehaving.struck = 0
        Misbehaving.seen = set()

    @property
    def was_spoilt(self) -> bool:
        return Misbehaving.struck > 0

    def heal(self) -> None:
        Misbehaving.at = -1


@pytest.fixture
def misbehaving(memory: Any) -> Iterator[MisbehavingWorld]:
    yield MisbehavingWorld(memory)
    Misbehaving.at, Misbehaving.before = -1, {}


class TestFsspecConnectorKeepsTheContractOfSpoiltAnswers(SpoiltAnswersContract):
    @pytest.fixture
    def world(self, misbehaving: MisbehavingWorld) -> SpoilableWorld:
        return misbehaving


@pytest.mark.parametrize("fault", ["empty", "the folder itself", "not found", "not a folder"])
async def test_a_folder_is_not_taken_for_empty_or_gone_at_the_first_word(
    misbehaving: MisbehavingWorld, fault: str
) -> None:
    """Only a second look keeps its documents out of the list of those to delete."""
    names = {misbehaving.put(f"{folder}/{number}.md", b"text") for folder in "ab" for number in range(2)}
    misbehaving.spoil(fault, 1)

    events = await scan_all(misbehaving.connector())

    listed = {event.id for event in events if isinstance(event, DocumentRef)}
    scopes = tuple(event.scope for event in events if isinstance(event, ScanError))
    assert misbehaving.was_spoilt
    assert all(name in listed or name.startswith(scopes) for name in names)


@pytest.mark.parametrize("edits", [1, 99])
async def test_content_is_not_taken_for_that_of_another_moment(memory: Any, edits: int) -> None:
    """An edit between reading a file and looking at it would be hidden for ever."""
    contents = [b"text %02d" % number for number in range(100)]
    left = iter(contents[1 : edits + 1])

    class Changing(Misbehaving):
        def read(self, path: str, bytes_max: int) -> bytes:
            content = super().read(path, bytes_max)
            if (edited := next(left, None)) is not None:
                memory.pipe_file(path, edited)
            return content

    memory.pipe_file("/docs/a.md", contents[0])
    settings = FsspecSettings.model_validate({"type": "fsspec", "url": "memory://docs"})
    connector = FsspecConnector(settings, Path("/"), opener=Changing)
    (ref,) = (await scan_refs(connector)).values()

    if edits > 1:
        with pytest.raises(UnreadableDocument, match="changed while it was read"):
            await connector.fetch(ref)
    else:
        fetched = await connector.fetch(ref)
        (now,) = (await scan_refs(connector)).values()
        assert (fetched.content, fetched.ref) == (contents[1], now)


@pytest.mark.parametrize("fault", [*RAISED, *ANSWERED])
async def test_no_wrong_answer_deletes_what_is_there_or_keeps_out_what_was_seen(
    misbehaving: MisbehavingWorld, fault: str
) -> None:
    """At each call of a run; and once answers are right again, so is the memory."""
    struck = 0
    for position in range(18):  # more than a run makes: 3 folders, 5 files, and what is asked for once more
        misbehaving.memory.store.clear()
        connector = misbehaving.connector()

        def put(name: str, content: bytes) -> None:
            misbehaving.put(name, content)
            if name == BEFORE[-1]:
                misbehaving.remember()

        def heal() -> None:
            nonlocal struck
            struck += misbehaving.was_spoilt
            misbehaving.heal()

        arm = partial(misbehaving.spoil, fault, position)
        source = SpoiltSource(connector, put, arm, heal, lambda: Misbehaving.seen)
        await hold_through(source, (fault, position))
        await connector.aclose()
    assert struck >= 8


# ---------------------------------------------------------------------------------------- a WebDAV server's answers

MULTISTATUS = b'<?xml version="1.0" encoding="utf-8"?><multistatus xmlns="DAV:">%b</multistatus>'
FAULTS = {
    "401": Answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'}),
    "403": Answer(403),
    "404": Answer(404, b"not found"),
    "429": Answer(429, headers={"Retry-After": "1"}),
    "503": Answer(503),
    "redirect": Answer(301, headers={"Location": "http://127.0.0.1:9/"}),
    "reset": Answer(is_reset=True),
    "nothing": Answer(200),
    "a login page": Answer(200, b"<html>a proxy's login page</html>", headers={"Content-Type": "text/html"}),
    "no XML": Answer(207, b"<html>a proxy's login page"),
    "no responses": Answer(207, MULTISTATUS % b""),
    "half": Answer(207, MULTISTATUS % b"", sent_bytes=60),
    "half of the XML": Answer(207, (MULTISTATUS % b"")[:70]),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with webdav_server(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
async def proxy(server: FileServer) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(server.url.removeprefix("webdav+")) as opened:
        yield opened


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_spoilt_answer_of_a_server_deletes_what_is_there_or_keeps_out_what_was_seen(
    server: FileServer, proxy: FaultyProxy, fault: str
) -> None:
    """At each request of a run; and once answers are whole again, so is the memory."""
    struck = 0
    for position in range(14):  # more than a run makes: 3 folders, 5 files, and what is asked for once more
        world = FileWorld(server)
        seen: set[str] = set()

        def watch(request: web.Request, _status: int, body: bytes, seen: set[str] = seen) -> None:
            if request.method == "PROPFIND":
                seen.update(name for name in (*BEFORE, *ADDED) if f"/docs/{name}<".encode() in body)

        strike = Strike(position, FAULTS[fault], watch)
        connector = world.connector(url=f"webdav+{proxy.url}/docs")
        source = SpoiltSource(connector, world.put, partial(setattr, proxy, "spoil", strike), proxy.heal, seen.copy)
        await hold_through(source, (fault, position))
        struck += strike.has_struck
        await world.aclose()
    assert struck >= 10
