"""`python -m tests.crashes.power_cuts`: whatever a power cut leaves, at any moment of a run, loses nothing done.

Real runs are recorded by strace: each write, sync and name of their files, each request, and between them what the
state and the dead-letter file told the pipeline was done. At each of these moments images of the disk are made (see
`disk.py`) and opened by the real code. An image must open, and say exactly what the state said after the last
transaction that was done, or after the one that was under way. So it equals a run that was killed at a moment when
no transaction was under way, which the kills prove harmless. Before a request leaves, its batch must be in that state.
The dead-letter file holds every letter of the state, the mark is the state's, and the copy that is made before an
upgrade is whole.

The controls weaken what the run does for durability. There it must fail, or it proves nothing.
"""

import argparse
import json
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import anyio

from pipeline.errors import SyncError
from pipeline.letters import from_json
from pipeline.state.mark import FileMark
from pipeline.state.sqlite import SCHEMA_VERSION, open_state
from tests.acceptance.conftest import MEMORY_ID
from tests.crashes.disk import Disk, Luck
from tests.crashes.jobs import JOBS, Job, synced
from tests.crashes.rehearsal import STRACE, Rehearsal, rehearsal
from tests.crashes.trace import OPTIONS, Event, Sent, Synced, TraceReader, Written
from tests.crashes.witness import WITNESS_FILE, described, digest_of_body

STATE = Path(".memsync/docs")
STATE_FILE, LETTERS_FILE, MARK_FILE = STATE / "state.sqlite3", STATE / "dead-letters.jsonl", STATE / "state.mark"
COPY_FILE = STATE / "state.sqlite3.schema-1"
REPOSITORY = Path(__file__).parents[2]
SHARED_MEMORY = Path("/dev/shm")
WRITING_REQUEST = re.compile(rb"POST [^ ]*/batch.*?\r\n\r\n(.+)", re.DOTALL)

Result = TypeVar("Result")
Files = Mapping[Path, bytes | None]  # by path relative to the user's folder; None is a folder


def some_refused(at: Rehearsal) -> None:
    at.memory.play(reject_text="About 002", failed_record=0.3, failed_record_code=500)
    at.folder.write_documents(30)


def of_schema_1(at: Rehearsal) -> None:
    """A state as the first version wrote it, with something left to do."""
    synced(at)
    at.folder.write("000.md", "Edited.")
    with closing(sqlite3.connect(at.folder.path / STATE_FILE)) as connection:
        connection.executescript(
            "DROP TABLE lease; DROP INDEX document_fingerprint; DELETE FROM meta WHERE name LIKE 'acquainted%';"
            "ALTER TABLE dead_letter DROP COLUMN dropped_at; ALTER TABLE record DROP COLUMN edited_from;"
            "UPDATE meta SET value = '1' WHERE name = 'schema'"
        )


RUN = ("run", "docs.yaml")
RECORDED = {**JOBS, "sync with refusals": Job(some_refused, RUN), "upgrade": Job(of_schema_1, RUN)}


@dataclass(frozen=True, slots=True)
class Mark:
    """What was written into the mark's file, and how the file looked then."""

    content: str
    marked_at: str


@dataclass(frozen=True, slots=True)
class Recording:
    """A run: the files below `root` before it, what happened to them, and what was said to be done."""

    root: Path
    before: Files
    mark: Mark | None  # before it
    events: Sequence[Event]
    said: Sequence[Mapping[str, Any]]  # one for each write to the witness's file, in order

    def without(self, is_left_out: Callable[[Event], bool]) -> "Recording":
        """The same run if it had not done some things."""
        return replace(self, events=[event for event in self.events if not is_left_out(event)])


@dataclass(slots=True)
class Tried:
    images: int = 0
    moments: int = 0
    requests: int = 0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        failures = "".join(f"\n    {count} times: {what}" for what, count in self.failures.most_common(5))
        return (
            f"{self.images:,} images of {self.moments} moments with {self.requests} requests,"
            f" {self.failures.total()} failed, {self.seconds:.0f} s{failures}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.power_cuts", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="over all jobs (default: %(default)s)")
    parser.add_argument("--control-images", type=int, default=1_000, help="of each control (default: %(default)s)")
    parser.add_argument("--jobs", nargs="*", default=list(RECORDED), choices=list(RECORDED))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if STRACE is None:
        print("NOT DONE: strace is not installed, so no run can be recorded")
        return 1
    rng = random.Random(arguments.seed)
    images, failed = 0, 0
    for job in arguments.jobs:
        tried = try_images(recorded(RECORDED[job]), -(-arguments.images // len(arguments.jobs)), rng)
        print(f"{job}: {tried}", flush=True)
        images, failed = images + tried.images, failed + tried.failures.total()
    print(f"all: {images:,} images, {failed} failed", flush=True)
    blind = []
    job = RECORDED["sync with refusals"]
    weak = [(f"synchronous={level}", recorded(job, level)) for level in ("NORMAL", "OFF")]
    for name, recording in (*weak, *weakened(recorded(job))):
        tried = try_images(recording, arguments.control_images, rng)
        print(f"control, {name}: {tried}", flush=True)
        blind += [] if tried.failures else [name]
    if blind:
        print(f"BLIND: nothing failed with {', '.join(blind)}, so this proves nothing")
    return bool(failed or blind)


def weakened(whole: Recording) -> Iterator[tuple[str, Recording]]:
    """The same run as if it had left out what a durable state needs."""
    folders = {event.path.parent for event in whole.events if isinstance(event, Written)}
    yield "folders not synced", whole.without(lambda event: isinstance(event, Synced) and event.path in folders)
    yield "letters not synced", whole.without(_syncs("dead-letters.jsonl", "dead-letters.jsonl.new"))
    yield "mark not synced", whole.without(_syncs("state.mark"))


def _syncs(*names: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Synced) and event.path.name in names


# ------------------------------------------------------------------------------------------------ recording


def recorded(job: Job, synchronous: str = "FULL") -> Recording:
    """Run the command of `job` and return what it did."""
    with rehearsal() as at, tempfile.TemporaryDirectory(prefix="memsync-trace-") as elsewhere:
        job.prepare(at)
        root = at.folder.path.resolve()
        before = {path.relative_to(root): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}
        marked_at = FileMark(root / MARK_FILE).seen()
        mark = None if marked_at is None else Mark((root / MARK_FILE).read_text(), marked_at)
        done = at.run(
            *job.command,
            under=[str(STRACE), *OPTIONS, "-o", f"{elsewhere}/trace"],
            code=f"from tests.crashes import witness; witness.install({str(root)!r}, {synchronous!r})",
            environment={"PYTHONPATH": str(REPOSITORY)},
        )
        assert done.returncode in (0, 3), done.stdout + done.stderr
        with (Path(elsewhere) / "trace").open(errors="replace") as lines:
            events = list(TraceReader(root, Disk.holding(root, before).sizes()).events(lines))
        said = [json.loads(line) for line in (root / WITNESS_FILE).read_text().splitlines()]
    assert sum(_is_of_witness(event) for event in events) == len(said)
    assert any("state" in each for each in said), "the state was never opened"
    return Recording(root, before, mark, events, said)


def _is_of_witness(event: Event) -> bool:
    return isinstance(event, Written) and event.path.name == WITNESS_FILE


# --------------------------------------------------------------------------------------------------- images


@dataclass(slots=True)
class Done:
    """What the run may count on at a moment, and what may come next."""

    state: str
    next_state: str
    outbox: Sequence[str]
    mark: Mark | None
    copied: str | None = None  # what the copy of a state of an older schema must say


def try_images(recording: Recording, count: int, rng: random.Random) -> Tried:
    """Make some `count` images, as many of each moment, and look at all of them."""
    began = time.monotonic()
    tried = Tried(moments=len(recording.events))
    disk = Disk.holding(recording.root, recording.before)
    for number, (event, done) in enumerate(moments(recording)):
        disk.happen(event)
        if isinstance(event, Sent) and (request := WRITING_REQUEST.match(event.data)):
            tried.requests += 1
            if digest_of_body(request[1]) not in done.outbox:
                tried.failures["a request left before its batch was in the outbox"] += 1
        while tried.images * tried.moments < count * (number + 1):
            luck: Luck = ("all", "none", "chance", "chance")[tried.images % 4]
            tried.images += 1
            try:
                tried.failures.update(problems_of(disk.after_power_cut(luck, rng), done))
            except (OSError, sqlite3.Error, SyncError) as error:
                tried.failures[f"cannot be opened: {type(error).__name__}"] += 1
    tried.seconds = time.monotonic() - began
    return tried


def moments(recording: Recording) -> Iterator[tuple[Event, Done]]:
    """Each event, with what was done once it had happened."""
    fresh = looked_into(recording.before)["state"]
    states = [fresh, *(said["state"] for said in recording.said if "state" in said)]
    done = Done(states[0], states[0], [], recording.mark, copied=copied(recording.before))
    coming = iter(recording.said)
    index = 0
    for event in recording.events:
        if _is_of_witness(event):
            said = next(coming)
            if "state" in said:
                index += 1
                done.outbox = said["outbox"]
            if "mark" in said:
                done.mark = Mark(said["mark"], said["marked_at"])
        done.state, done.next_state = states[index], states[min(index + 1, len(states) - 1)]
        yield event, done


def problems_of(files: Files, done: Done) -> list[str]:
    """What is wrong with an image.

    Raises:
        OSError, sqlite3.Error, SyncError: it cannot be opened.
    """
    found = looked_into(files, done.mark)
    problems = []
    if not found["is_whole"]:
        problems.append("the state is damaged")
    elif found["state"] not in (done.state, done.next_state):
        problems.append("the state forgets what was done, or says what never was")
    letters, torn = letters_in(files.get(LETTERS_FILE) or b"")
    if missing := set(found["outstanding"]) - letters:
        problems.append(f"the dead-letter file lacks letters of the state ({(len(missing) > 1 and 'some') or 'one'})")
    if torn > 1:
        problems.append("the dead-letter file has more than one torn line")
    # A mark that is just being replaced may be doubted: then the run has sent nothing yet.
    if found["is_copy"] and not found["is_marking"]:
        problems.append("the state is taken for a copy")
    if done.copied is not None and found["copied"] != done.copied:
        problems.append("an upgraded state has no whole copy of what it was")
    return problems


def looked_into(files: Files, mark: Mark | None = None) -> dict[str, Any]:
    """What the real code finds in an image. `mark` is what the mark's file was when it was last written."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        for path, content in files.items():
            if path.is_relative_to(STATE) and content is not None:
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / path).write_bytes(content)
        found = anyio.run(_opened, Path(folder), MarkOfImage(files.get(MARK_FILE), mark))
        copy = Path(folder) / COPY_FILE
        return {**found, "copied": digest_of(copy) if copy.exists() else None}


async def _opened(folder: Path, mark: "MarkOfImage") -> dict[str, Any]:
    path = folder / STATE_FILE
    async with open_state(path, source="docs", destination=MEMORY_ID, offload=_in_place) as state:
        state._mark = mark
        is_whole = state._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        is_marking = state._meta("marked_at") == ""
        outstanding = [letter.id for letter in await state.letters(with_records=False)]
        said = {**described(state._connection), "outstanding": outstanding}
        return {**said, "is_whole": is_whole, "is_copy": await state.is_copy(), "is_marking": is_marking}


async def _in_place(work: Callable[[], Result]) -> Result:
    return work()


@dataclass(frozen=True, slots=True)
class MarkOfImage:
    """The mark's file as a power cut left it: its time of change goes with its content, and no test can set it."""

    content: bytes | None
    written: Mark | None

    def seen(self) -> str | None:
        if self.content is None:
            return None
        is_as_written = self.written is not None and self.content.decode() == self.written.content
        return self.written.marked_at if self.written is not None and is_as_written else "some other time"

    def put(self, content: str) -> str:
        raise NotImplementedError


def copied(files: Files) -> str | None:
    """What a copy must say if the state in `files` is of an older schema; None if it needs none."""
    content = files.get(STATE_FILE)
    if content is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / STATE_FILE.name
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as connection:
            (schema,) = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        return digest_of(path) if int(schema) < SCHEMA_VERSION else None


def digest_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(described(connection)["state"])


def letters_in(content: bytes) -> tuple[set[str], int]:
    """The ids in a dead-letter file, and how many of its lines cannot be read."""
    ids, torn = set(), 0
    for line in filter(None, content.split(b"\n")):
        try:
            ids.add(from_json(line).id)
        except (KeyError, TypeError, ValueError):
            torn += 1
    return ids, torn


if __name__ == "__main__":
    sys.exit(main())
