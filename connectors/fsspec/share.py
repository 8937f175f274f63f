"""A file system that is somewhere else, asked from an event loop: with time limits, again where that helps, and warily.

What libraries make of errors cannot be relied on: some give an empty list for a folder that may not be listed, some say
"not found" to everything. So what is not there is believed only of a folder above that was listed without it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

import anyio
from anyio import CancelScope, CapacityLimiter, Lock
from anyio.to_thread import run_sync

from connectors.fsspec.file_systems import (
    BROKEN_ANSWER,
    FOLDER,
    LOGIN,
    MISSING,
    NO_ANSWER,
    NOT_ALLOWED,
    SAYS_NOTHING,
    STRANGER,
    Entry,
    Fault,
    FileSystem,
    Info,
    close_quietly,
    fault_of,
)
from pipeline.errors import SourceError

Answer = TypeVar("Answer")

ATTEMPTS_MAX = 3  # of one question
PAUSE_S = 0.5  # before the second attempt, and twice as long before the third
OPEN_ATTEMPTS_MAX = 2
REMEMBERED_FOLDERS = 8
REMEMBERED_S = 5.0
CLOSE_S = 5.0

# What to say of a root that cannot be listed, and what to do.
ADVICE = {
    "": (
        "cannot be listed",
        "Check `source.url` and `source.options`, and that the server runs and lets its user read there.",
    ),
    LOGIN: (
        "refused the login",
        "Check the user in `source.url` and what `source.options` and `source.option_variables` log in with.",
    ),
    STRANGER: (
        "is on a server that may be another one",
        "Once you have made sure of its key, add it to ~/.ssh/known_hosts or the file of `source.options.known_hosts`.",
    ),
}

Listing = Mapping[str, Entry]  # by name; that of a folder with a slash behind it


class Share:
    """The part of a file system below a root.

    `open_file_system` opens it, and may wait; `is_frank` is as in `FileSystem`. Paths are relative to the root; that of
    a folder ends with a slash, and the root's is empty. `name` is for messages, in which none of `secrets` stands.
    """

    def __init__(
        self,
        name: str,
        open_file_system: Callable[[], FileSystem],
        *,
        calls_at_once: int,
        is_frank: bool,
        timeout_s: float,
        secrets: Callable[[], Sequence[str]],
    ) -> None:
        self._name = name
        self._open_file_system = open_file_system
        self._is_frank = is_frank
        self._timeout_s = timeout_s
        self._secrets = secrets
        self._slots = CapacityLimiter(calls_at_once)
        self._threads = CapacityLimiter(math.inf)  # one that hangs must not keep its place from others
        self._opening = Lock()
        self._opened: FileSystem | None = None
        self._remembered: dict[str, tuple[float, Listing]] = {}

    async def aclose(self) -> None:
        """Let go of the connection. It is opened again if more is asked."""
        with CancelScope(shield=True):
            opened, self._opened = self._opened, None
            if opened is not None:
                with anyio.move_on_after(CLOSE_S):
                    await run_sync(close_quietly, opened, abandon_on_cancel=True, limiter=self._threads)

    # ------------------------------------------------------------------------------------------- questions

    async def listing(self, folder: str) -> Listing:
        """What lies in `folder` itself.

        Raises:
            Fault: it cannot be listed.
            SourceError: nothing can.
        """
        found = await self._again(partial(_list, folder=folder))
        if not found and not self._is_frank:  # it must be a folder, and empty twice
            info = await self._again(partial(_info, path=folder))
            if info.kind != FOLDER:
                raise Fault(MISSING, "it is no folder")
            found = await self._again(partial(_list, folder=folder))
        return found

    async def entry(self, path: str) -> Entry | None:
        """What the folder above lists at `path`; None if it certainly lists nothing there.

        A listing that is some seconds old may still say that it is not there, but not that it is.

        Raises:
            Fault: no folder above can tell.
            SourceError: the root cannot be listed.
        """
        above, name = _above(path)
        listed_at, listing = self._remembered.get(above, (-math.inf, {}))
        if monotonic() - listed_at > REMEMBERED_S or name in listing:
            try:
                listing = await self.listing(above)
            except Fault as fault:
                if not above:
                    raise self.unreadable(fault) from fault
                if await self.entry(above) is not None:
                    raise
                listing = {}
            else:
                self._remember(above, listing)
        return listing.get(name)

    async def info(self, path: str) -> Entry:
        """What the file system says of `path` when it is asked for it alone.

        Raises:
            Fault, SourceError: it gives no answer.
        """
        return await self._ask(partial(_info, path=path))

    async def read(self, path: str, bytes_max: int) -> bytes:
        """The content at `path`; of what is longer than `bytes_max`, maybe no more than a byte too many.

        Raises:
            Fault, SourceError: it gives no answer.
        """
        return await self._ask(lambda file_system: file_system.read(_place(file_system, path), bytes_max))

    async def require_root(self) -> None:
        """Make sure that it is not all that fails.

        Raises:
            SourceError: the root cannot be listed.
        """
        try:
            await self.listing("")
        except Fault as fault:
            raise self.unreadable(fault) from fault

    def unreadable(self, fault: Fault) -> SourceError:
        """The error for a root that cannot be listed."""
        what, advice = ADVICE.get(fault.code, ADVICE[""])
        return SourceError(f"{self._name} {what}: {fault}. Nothing was concluded from that. {advice}")

    def forget(self) -> None:
        """Let no listing that was seen before count any more."""
        self._remembered.clear()

    def _remember(self, folder: str, listing: Listing) -> None:
        """Keep a listing for a moment: a thousand documents that went from one folder are asked for one by one."""
        self._remembered.pop(folder, None)
        while len(self._remembered) >= REMEMBERED_FOLDERS:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[folder] = monotonic(), listing

    # ---------------------------------------------------------------------------------------------- asking

    async def _again(self, question: "Callable[[FileSystem], Answer]") -> Answer:
        """The answer; asked for again if there is none that says anything."""
        for attempt in range(1, ATTEMPTS_MAX):
            try:
                return await self._ask(question)
            except Fault as fault:
                if fault.code not in SAYS_NOTHING:
                    raise
            await self.pause(attempt)
        return await self._ask(question)

    async def pause(self, attempt: int) -> None:
        """Wait before what failed for the `attempt`th time is tried again."""
        await anyio.sleep(PAUSE_S * attempt)

    async def _ask(self, question: "Callable[[FileSystem], Answer]") -> Answer:
        """The answer.

        Raises:
            Fault: there is none.
            SourceError: nor can there be one to any other question.
        """
        async with self._slots:
            opened = await self._open()
            try:
                return await self._in_time(partial(question, opened))
            except Fault as fault:
                if fault.code == LOGIN:
                    raise self.unreadable(fault) from fault
                if fault.code in SAYS_NOTHING and opened.holds_session and self._opened is opened:
                    await self.aclose()  # others that were asking over it fail, too, and ask again
                raise

    async def _open(self) -> FileSystem:
        async with self._opening:
            for attempt in range(1, OPEN_ATTEMPTS_MAX + 1):
                if self._opened is not None:
                    break
                try:
                    self._opened = await self._in_time(self._open_file_system)
                except Fault as fault:
                    if fault.code == NOT_ALLOWED:
                        fault.code = LOGIN
                    if fault.code not in SAYS_NOTHING or attempt == OPEN_ATTEMPTS_MAX:
                        raise self.unreadable(fault) from fault
                    await self.pause(attempt)
            assert self._opened is not None
            return self._opened

    async def _in_time(self, work: Callable[[], Answer]) -> Answer:
        try:
            with anyio.fail_after(self._timeout_s):
                return await run_sync(_caught, work, self._secrets, abandon_on_cancel=True, limiter=self._threads)
        except TimeoutError as error:
            raise Fault(NO_ANSWER, f"no answer within {self._timeout_s:g} s") from error


def _caught(work: Callable[[], Answer], secrets: Callable[[], Sequence[str]]) -> Answer:
    """What `work` gives. Of its errors, which are of many libraries, nothing but what they mean goes further."""
    try:
        return work()
    except SourceError:
        raise
    except Exception as error:
        raise fault_of(error, secrets()) from None


def _list(file_system: FileSystem, folder: str) -> Listing:
    place = _place(file_system, folder)
    found: dict[str, Entry] = {}
    is_file = False
    for info in file_system.list(place):
        entry = file_system.entry(info)
        if _is_in(info, place):
            found.setdefault(f"{entry.name}/" if entry.kind == FOLDER else entry.name, entry)
        else:
            is_file = is_file or entry.kind != FOLDER
    if is_file and not found:  # in stores, a file may stand beside a folder of the same name
        raise Fault(MISSING, "it is a file")
    return found


def _is_in(info: Info, place: str) -> bool:
    """Whether it is of a name in the folder at `place`; not of the folder itself, as some list it, too.

    Raises:
        Fault: it is of something elsewhere.
    """
    place, listed = place.strip("/"), str(info["name"]).strip("/")
    if listed == place:
        return False
    above, _, name = listed.rpartition("/")
    if above != place or name in ("", ".", ".."):
        raise Fault(BROKEN_ANSWER, "the listing shows what does not lie there")
    return True


def _info(file_system: FileSystem, path: str) -> Entry:
    return file_system.entry(file_system.info(_place(file_system, path)))


def _place(file_system: FileSystem, path: str) -> str:
    """The path in the file system."""
    root = file_system.root
    if not path:
        return root
    return f"{root}{'' if not root or root.endswith('/') else '/'}{path.rstrip('/')}"


def _above(path: str) -> tuple[str, str]:
    """The folder in which `path` lies, and its name there."""
    above, slash, name = path.rstrip("/").rpartition("/")
    return above + slash, f"{name}/" if path.endswith("/") else name
