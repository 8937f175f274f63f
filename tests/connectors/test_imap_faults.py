"""Each line that a real server says in a run, spoilt in each way."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest

from connectors.kit.contract import SpoilableWorld, SpoiltAnswersContract
from pipeline.errors import SyncError
from pipeline.model import DocumentId
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.fakes.faulty_lines import End, FaultyLines, Instead, faulty_lines
from tests.pipeline.world import AnyWorld, in_place

from .imap_servers import ImapServer, pymap_server
from .imap_world import HEADERS, ImapWorld, Letters, password
from .spoilt_runs import BEFORE, SpoiltSource, hold_through

__all__ = ("password",)

LINES_BETWEEN = 9  # of the lines of a run, every ninth is spoilt, and each fault begins with another


def renumbered(line: bytes, change: Callable[[int], int]) -> Instead:
    """With other numbers, unless it is a line of a mail: nothing tells that those are wrong."""
    if not line.startswith(b"* "):
        return Instead(line)
    return Instead(re.sub(rb"\d+", lambda found: b"%d" % change(int(found[0])), line))


FAULTS: dict[str, Callable[[bytes, bytes], Instead]] = {
    "half": lambda line, tag: Instead(line[: len(line) // 2], End.CLOSE),
    "last": lambda line, tag: Instead(line, End.CLOSE),
    "reset": lambda line, tag: Instead(b"", End.RESET),
    "bye": lambda line, tag: Instead(b"* BYE going down\r\n", End.CLOSE),
    "silence": lambda line, tag: Instead(b"", End.SILENCE),
    "no": lambda line, tag: Instead(tag + b" NO said so\r\n", skips_answer=True),
    "failing": lambda line, tag: Instead(tag + b" NO [SERVERBUG] said so\r\n", skips_answer=True),
    "not there": lambda line, tag: Instead(tag + b" NO [NONEXISTENT] said so\r\n", skips_answer=True),
    "bad": lambda line, tag: Instead(tag + b" BAD said so\r\n", skips_answer=True),
    "done at once": lambda line, tag: Instead(tag + b" OK done\r\n", skips_answer=True),
    "another's": lambda line, tag: Instead(b"XYZ1 OK done\r\n"),
    "garbage": lambda line, tag: Instead(b"<html>a proxy's login page\r\n"),
    "bytes": lambda line, tag: Instead(b"\x00\xff\xfe\r\n"),
    "dropped": lambda line, tag: Instead(b""),
    "twice": lambda line, tag: Instead(line * 2),
    "broken": lambda line, tag: Instead(line[: len(line) // 2] + b"\r\n"),
    "more": lambda line, tag: renumbered(line, lambda number: number + 1),
    "fewer": lambda line, tag: renumbered(line, lambda number: max(0, number - 1)),
    "huge": lambda line, tag: renumbered(line, lambda _number: 9_999_999_999),
    "other UID": lambda line, tag: Instead(re.sub(rb"UID (\d+)", lambda found: b"UID 77" + found[1], line)),
}


class Striker:
    """Spoils one line of what the server says: the one at `position`, once it is armed."""

    def __init__(self, proxy: FaultyLines, fault: str, position: int) -> None:
        self._proxy, self._fault, self._left = proxy, fault, position
        self.struck: bytes | None = None

    def __repr__(self) -> str:
        return f"struck {self.struck!r}"

    def arm(self) -> None:
        self._proxy.spoil = self._spoil

    def heal(self) -> None:
        self._proxy.spoil = lambda _line, _tag: None

    def _spoil(self, line: bytes, tag: bytes) -> Instead | None:
        self._left -= 1
        if self._left != -1:
            return None
        self.struck = line
        return FAULTS[self._fault](line, tag)


@pytest.fixture(scope="module")
def pymap() -> Iterator[ImapServer]:
    with pymap_server() as server:
        yield server


@pytest.fixture
async def proxy(pymap: ImapServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultyLines]:
    monkeypatch.setattr("connectors.imap.connections.PAUSE_S", 0.0)
    monkeypatch.setattr("connectors.imap.connector.MAILS_PER_PAGE", 2)
    async with faulty_lines(pymap.port) as opened:
        yield opened


class SpoilableAccount:
    faults = ("done at once",)  # for each line of a listing and of eight mails; below for every ninth of all

    def __init__(self, account: ImapWorld, proxy: FaultyLines) -> None:
        self._account, self._proxy = account, proxy
        self._striker = Striker(proxy, self.faults[0], 0)

    def connector(self) -> Letters:
        return Letters(self._account.connector(timeout_s=1.0))

    def put(self, name: str, content: bytes) -> DocumentId:
        return self._account.put(name, HEADERS + content)

    @property
    def was_spoilt(self) -> bool:
        return self._striker.struck is not None

    def spoil(self, fault: str, position: int) -> None:
        self._striker = Striker(self._proxy, fault, position)
        self._striker.arm()

    def heal(self) -> None:
        self._striker.heal()


class TestImapConnectorKeepsTheContract(SpoiltAnswersContract):
    @pytest.fixture
    async def world(self, pymap: ImapServer, proxy: FaultyLines) -> AsyncIterator[SpoilableWorld]:
        account = ImapWorld(pymap, port=proxy.port)
        yield SpoilableAccount(account, proxy)
        await account.aclose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_spoilt_line_deletes_what_is_there_or_keeps_out_what_was_seen(
    pymap: ImapServer, proxy: FaultyLines, fault: str
) -> None:
    """And once the server speaks clearly again, the memory is in line."""
    position = list(FAULTS).index(fault) % LINES_BETWEEN
    struck = 0
    while True:
        world = ImapWorld(pymap, port=proxy.port)
        striker = Striker(proxy, fault, position)
        connector = world.connector(timeout_s=1.0)

        def put(name: str, content: bytes) -> None:
            world.put(name, HEADERS + content)  # noqa: B023 - it is used up before the next

        def seen() -> set[str]:
            return {name for name, document in world.ids.items() if document in letters.listed}  # noqa: B023

        letters = Letters(connector)
        source = SpoiltSource(letters, put, striker.arm, striker.heal, seen, edited=())
        try:
            await hold_through(source, (fault, position, striker))
        finally:
            await world.aclose()
        if striker.struck is None:  # the run was over
            break
        struck += 1
        position += LINES_BETWEEN

    assert struck >= 8


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_spoilt_line_deletes_more_than_what_is_gone(pymap: ImapServer, proxy: FaultyLines, fault: str) -> None:
    """When something is, the server is asked again for each that was not listed; also for those it hides just now."""
    position = list(FAULTS).index(fault) % LINES_BETWEEN
    while True:
        world = ImapWorld(pymap, port=proxy.port)
        striker = Striker(proxy, fault, position)
        memory = MemoryDestination()
        texts = {name: f"text of {name}" for name in BEFORE}
        run = AnyWorld(Letters(world.connector(timeout_s=1.0)), memory)
        try:
            for name, text in texts.items():
                world.put(name, HEADERS + text.encode())
            async with open_state(None, source="docs", destination="memory", offload=in_place) as run.state:
                await run.do()
                assert run.texts() == sorted(texts.values())
                for name in ("a/0.md", "b/3.md"):
                    world.remove(name)
                    del texts[name]

                striker.arm()
                with suppress(SyncError):
                    await run.do()
                striker.heal()
                assert set(run.texts()) >= set(texts.values()), (fault, position, striker)

                await run.do()
                assert run.texts() == sorted(texts.values()), (fault, position, striker)
        finally:
            await world.aclose()
        if striker.struck is None:
            break
        position += LINES_BETWEEN
