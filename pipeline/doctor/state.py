"""The state folder and the state in it: whether it can be used, who holds it, and what is outstanding."""

import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.configuration.settings import STATE_FILE, SourceSettings
from pipeline.doctor.settings import judge_schedule
from pipeline.files import is_open_to_all
from pipeline.model import LastRun, StateCounts
from pipeline.reporting.examinations import Finding
from pipeline.reporting.text import amount, moment
from pipeline.runs.parts import is_running, offload, open_source_state
from pipeline.state.sqlite import SCHEMA_VERSION, stored_schema

# A ledger takes some 0.5 KB a record, the outbox and its log some 100 MB at worst.
FREE_BYTES_MIN = 200 * 1024**2
FREE_BYTES_GOOD = 1024**3
NETWORK_FILE_SYSTEMS = {"9p", "afs", "ceph", "cifs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3"}


# ----------------------------------------------------------------------------------------------- the folder


class StateFolder(NamedTuple):
    """The state folder that is `wanted`, as far as it is `there`: itself, or the nearest folder above it."""

    wanted: Path
    there: Path
    free_bytes: int
    mode: int
    may_write: bool
    is_open_to_all: bool
    file_system: str


def look_at_folder(folder: Path) -> StateFolder:
    """Look, without making anything.

    Raises:
        OSError: it cannot be looked at.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return StateFolder(
        folder,
        there,
        shutil.disk_usage(there).free,
        stat.S_IMODE(there.stat().st_mode),
        os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids),
        is_open_to_all(there),
        _file_system_of(there),
    )


def judge_folder(place: StateFolder) -> Finding:
    name, quoted = str(place.there), shlex.quote(str(place.there))
    if not place.there.is_dir():
        return Finding("state folder", "problem", f"{name} is no folder", "Set state.path to a folder.")
    if not place.may_write:
        return Finding(
            "state folder",
            "problem",
            f"{name} cannot be written by this user",
            f"Give it to whoever runs memsync, or set state.path to another folder:\n  chown $(id -un) {quoted}",
        )
    if place.is_open_to_all:
        return Finding(
            "state folder",
            "problem" if place.there == place.wanted else "warning",
            f"every user of this machine may replace the files in {name}",
            f"A run refuses a state in such a folder:\n  chmod o-w {quoted}",
        )
    free = f"{place.free_bytes / 1024**3:,.1f} GB free"
    if place.free_bytes < FREE_BYTES_MIN:
        return Finding("state folder", "problem", f"{name}: {free}", "A run stops when the disk is full. Make room.")
    if place.file_system in NETWORK_FILE_SYSTEMS:
        return Finding(
            "state folder",
            "warning",
            f"{name} is on a network file system ({place.file_system})",
            "The state is an SQLite database, whose locks need a disk of this machine: set state.path to a folder on"
            " one.",
        )
    if place.there == place.wanted and place.mode & 0o077:
        return Finding(
            "state folder",
            "warning",
            f"{name} can be looked into by others (mode {place.mode:o}); it names your documents",
            f"Close it:\n  chmod 700 {quoted}",
        )
    if place.free_bytes < FREE_BYTES_GOOD:
        return Finding("state folder", "warning", f"{name}: {free}", "A run stops when the disk is full. Make room.")
    is_there = "" if place.there == place.wanted else "; the first run makes it"
    return Finding("state folder", "ok", f"{place.wanted}, {free}{is_there}")


def _file_system_of(path: Path) -> str:
    """The type of the file system that `path` is on; empty where that is not told."""
    found = ("", "")
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return ""
    place = f"{os.path.realpath(path)}/"
    for line in mounts.splitlines():
        _, at, kind, *_ = line.split(" ")
        at = at.replace("\\040", " ").rstrip("/") + "/"
        if place.startswith(at) and len(at) >= len(found[0]):
            found = at, kind
    return found[1]


async def check_folder(settings: SourceSettings) -> Sequence[Finding]:
    try:
        return [judge_folder(await offload(lambda: look_at_folder(settings.state_folder)))]
    except OSError as error:
        cure = "See whether the disk is mounted, and who may read it; or set state.path to another folder."
        found = f"{settings.state_folder} cannot be looked at: {error.strerror}"
        return [Finding("state folder", "problem", found, cure)]


# ------------------------------------------------------------------------------------------------ the state


class State(NamedTuple):
    """What the state says of itself. `holder` is who has the lease and until when, if anybody."""

    schema: int
    counts: StateCounts
    last: LastRun | None
    is_running: bool
    holder: tuple[str, float] | None
    is_copy: bool


async def check_state(settings: SourceSettings, file: str) -> Sequence[Finding]:
    """The state, its lock, what is outstanding and the schedule; `file` is how the YAML file can be typed.

    Raises:
        StateError, ConfigurationError: the state cannot be used.
    """
    here = datetime.now(UTC).astimezone()
    schema = await offload(lambda: stored_schema(settings.state_folder / STATE_FILE))
    if schema is None:
        none = Finding("state", "ok", "none yet: the first run makes it, and reads every document")
        return [none, judge_schedule(settings.schedule, None, here)]
    async with open_source_state(settings, is_read_only=True) as state:
        found = State(
            schema,
            await state.counts(),
            await state.last_run(),
            await is_running(settings, state),
            await state.lease_holder(),
            await state.is_copy(),
        )
    return [
        judge_state(found),
        judge_lock(found, time.time()),
        *judge_outstanding(found.counts, file),
        judge_schedule(settings.schedule, found.last, here),
    ]


def judge_state(state: State) -> Finding:
    holds = f"{amount(state.counts.documents, 'document')} in {amount(state.counts.records, 'record')}"
    if state.is_copy:
        return Finding(
            "state",
            "warning",
            f"{holds}; it is a copy: restored, or moved from elsewhere",
            "The next run compares everything with the memory before it goes on; that takes a while longer.",
        )
    if state.schema < SCHEMA_VERSION:
        return Finding("state", "ok", f"{holds}; of schema {state.schema}: the next run copies and migrates it")
    return Finding("state", "ok", f"{holds}; schema {state.schema}")


def judge_lock(state: State, now: float) -> Finding:
    if state.is_running:
        who, until = state.holder or ("a run", now)
        return Finding("lock", "ok", f"held by {who}, until {moment(until)} unless it renews that: a run is at work")
    if state.holder is not None:
        who, _ = state.holder
        found = f"left behind by {who}, which was killed"
        return Finding("lock", "ok", f"{found}; the next run takes over at once and sends again what is in the outbox")
    return Finding("lock", "ok", "free")


def judge_outstanding(counts: StateCounts, file: str) -> Iterator[Finding]:
    if counts.pending:
        waiting = f"{amount(counts.pending, 'record')} in {amount(counts.batches, 'batch')} wait to be sent again"
        yield Finding("outbox", "warning", waiting, f"The next run sends them first:\n  memsync run {file}")
    else:
        yield Finding("outbox", "ok", "empty")
    if letters := sum(counts.letters.values()):
        reasons = ", ".join(f"{count:,} x {code}" for code, count in counts.letters.items())
        cure = (
            f"See what is wrong, mend it, and send them again:\n  memsync dead-letters {file}\n  memsync replay {file}"
        )
        yield Finding("dead letters", "warning", f"{letters:,} outstanding: {reasons}", cure)
    else:
        yield Finding("dead letters", "ok", "none")
