"""Notices when files of a folder change, and waits until they have settled."""

# Names of changed files come as plain strings.
# ruff: noqa: PTH100, PTH116

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from anyio import Event, create_task_group, current_time, move_on_after, sleep, sleep_forever
from watchfiles import Change, awatch

from connectors.filesystem import FilesystemConnector, FilesystemSettings
from pipeline.concealing import Concealer
from pipeline.configuration.resolving import resolved
from pipeline.configuration.settings import LOCAL_MEMORY_FILE, SourceSettings

# Files that never come to rest, such as a log, are taken as they are after so long.
SETTLE_MAX_S = 60.0
LOOK_AGAIN_S = 5.0  # whether the folder is there, and still the same one
STEP_MS = 200
# Where the system has no more watches to give: names and times are read this often.
POLL_MS = 5_000


async def watch_folder(
    settings: SourceSettings, want: Callable[[], None], *, settle_s: float, own_files: Iterable[Path] = ()
) -> None:
    """Call `want` at first, and whenever files of the source have changed and then nothing more for `settle_s`.

    Never returns. A folder that is not there is waited for; one that took its place is watched in its stead.
    `own_files` are written by this process, and no reason for a run.

    Raises:
        SyncError: the settings refer to something that cannot be had.
    """
    source, concealer = await resolved(settings)
    assert isinstance(source, FilesystemSettings)
    connector = FilesystemConnector(source, settings.folder)
    changes = Changes()
    async with create_task_group() as tasks:
        tasks.start_soon(tell_when_settled, changes, want, settle_s)
        concerns = Concern(connector, own_paths(settings, own_files), own_outputs())
        await _watch_what_is_there(connector, concerns, changes, settings.name, concealer)


@dataclass(slots=True)
class Changes:
    """When the last change came, and a bell that rings for each."""

    last_at: float = 0.0
    bell: Event = field(default_factory=Event)

    def note(self) -> None:
        self.last_at = current_time()
        self.bell.set()

    async def settled(self, quiet_s: float) -> None:
        """Wait until the last change is `quiet_s` seconds ago."""
        while True:
            rest_s = self.last_at + quiet_s - current_time()
            if rest_s <= 0:
                return
            await sleep(rest_s)


async def tell_when_settled(changes: Changes, want: Callable[[], None], settle_s: float) -> None:
    """Call `want` when changes have come, and then none for `settle_s`, or have gone on for too long. Never returns."""
    while True:
        await changes.bell.wait()
        with move_on_after(SETTLE_MAX_S):
            await changes.settled(settle_s)
        changes.bell = Event()
        want()


@dataclass(frozen=True, slots=True)
class Concern:
    """Tells whether a changed file may be a document that is new: what a run writes would have the next one begin."""

    connector: FilesystemConnector
    own_paths: tuple[str, ...]
    own_outputs: frozenset[tuple[int, int]]

    def __call__(self, _change: Change, path: str) -> bool:
        if any(path == own or path.startswith((own + "/", own + "-")) for own in self.own_paths):
            return False
        if self.own_outputs and _identity(path) in self.own_outputs:
            return False
        return self.connector.may_take(os.path.relpath(path, self.connector.root))


def own_paths(settings: SourceSettings, own_files: Iterable[Path]) -> tuple[str, ...]:
    """What is written here: the state, with what SQLite puts beside its files, and what runs leave for others."""
    own = [
        settings.state_folder,
        settings.dead_letters_path,
        settings.reports_folder,
        settings.state_folder.parent / LOCAL_MEMORY_FILE,
        *own_files,
    ]
    if settings.prometheus_path is not None:
        own.append(settings.prometheus_path)
    return tuple(os.path.abspath(path) for path in own)


def own_outputs() -> frozenset[tuple[int, int]]:
    """The files that this process prints and logs to: `memsync watch . 2>memsync.log` names one of its own folder."""
    found = set()
    for descriptor in (1, 2):
        with suppress(OSError):
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                found.add((status.st_dev, status.st_ino))
    return frozenset(found)


async def _watch_what_is_there(
    connector: FilesystemConnector, concerns: Concern, changes: Changes, source: str, concealer: Concealer
) -> None:
    root, polls = connector.root, False
    log = structlog.get_logger().bind(source=source, folder=concealer.conceal(str(root)))
    while True:
        # Nobody has been looking so far. The run that this brings on begins when the watch stands: in a large folder
        # that takes its time, and nothing else goes on meanwhile.
        changes.note()
        identity = _identity(root)
        if identity is None:
            log.warning("folder_missing", consequence="it is waited for")
            identity = await _wait_for(root)
            changes.note()
        problem = await _watch(root, identity, concerns, changes, polls=polls)
        if problem is not None and not isinstance(problem, FileNotFoundError):
            polls = True  # mostly the system has no watches left to give
            log.warning(
                "folder_polled",
                message=concealer.conceal(str(problem)),
                consequence=f"its files are looked at every {POLL_MS // 1000} seconds instead;"
                " raise fs.inotify.max_user_watches to be told at once",
            )


async def _wait_for(folder: Path) -> tuple[int, int]:
    while True:
        identity = _identity(folder)
        if identity is not None:
            return identity
        await sleep(LOOK_AGAIN_S)


async def _watch(
    root: Path, identity: tuple[int, int], concerns: Concern, changes: Changes, *, polls: bool
) -> OSError | None:
    """Note changes until the folder is another one or none (then return None), or cannot be watched."""
    stop = Event()

    async def stop_at_once() -> None:
        """A thread waits for changes: it looks at `stop` often, and would heed nothing else for seconds."""
        try:
            await sleep_forever()
        finally:
            stop.set()

    problem = None
    async with create_task_group() as tasks:
        tasks.start_soon(stop_at_once)
        try:
            async for found in awatch(
                root,
                watch_filter=concerns,
                step=STEP_MS,
                debounce=5 * STEP_MS,
                rust_timeout=int(LOOK_AGAIN_S * 1000),
                yield_on_timeout=True,
                stop_event=stop,
                force_polling=polls or None,
                poll_delay_ms=POLL_MS,
            ):
                if found:
                    changes.note()
                if _identity(root) != identity:
                    break
        except OSError as error:
            problem = error
            await sleep(LOOK_AGAIN_S)
        tasks.cancel_scope.cancel()
    return problem


def _identity(path: Path | str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
