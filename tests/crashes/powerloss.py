"""`python -m tests.crashes.powerloss`: what is left of a run's files after a power cut, at any moment of it.

A run is recorded by strace: every write, truncation, sync and rename of its files, and every request that it sends.
From that, images are made: all operations up to some moment, of which those that were not synced yet are kept,
dropped or torn, by chance. A name that was not synced with its folder may be missing. Each image is opened by the real
code, and whatever had been sent by that moment must be in the outbox or settled.

The same with `synchronous=NORMAL` and `OFF` is the control: there it must fail, or this proves nothing.
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
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from pipeline.state.sqlite import open_state
from tests.acceptance.conftest import MEMORY_ID
from tests.crashes.rehearsal import STRACE, rehearsal

SECTOR = 512
DOCUMENTS = 600  # six full batches, and what is sent again of them
CALLS = "openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,unlink,sendto,sendmsg"

_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(?:\.\.\.)?')
_FD_PATH = re.compile(r"^\d+<([^>]*)>")
_TOKEN = re.compile(rb'"clientToken":"([0-9a-f-]{36})"')
_KEY = re.compile(rb'"requestIdentifier":"([0-9a-f]{40})"')


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that happened, in order. `name` is a file's, without its folder."""

    kind: str  # write, truncate, sync, rename, unlink, create, sync folder, send
    name: str = ""
    data: bytes = b""
    offset: int = 0
    other: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.powerloss", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--control-images", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if STRACE is None:
        print("NOT DONE: strace is not installed, so no run can be recorded")
        return 1
    failures = tried("FULL", arguments.images, random.Random(arguments.seed))
    controls = {
        mode: tried(mode, arguments.control_images, random.Random(arguments.seed)) for mode in ("NORMAL", "OFF")
    }
    blind = [mode for mode, failed in controls.items() if not failed]
    if blind:
        print(f"BLIND: with synchronous={' and '.join(blind)} nothing failed, so this proves nothing")
    return bool(failures or blind)


def tried(mode: str, images: int, rng: random.Random) -> int:
    began = time.monotonic()
    operations = recorded(mode)
    failures: Counter[str] = Counter()
    for _ in range(images):
        upto = rng.randint(1, len(operations))
        if problem := problem_of(Image.after(operations[:upto], rng), sent_in(operations[:upto])):
            failures[problem] += 1
    sends = sum(operation.kind == "send" for operation in operations)
    told = "".join(f"\n    {count} {problem}" for problem, count in failures.most_common(5))
    print(
        f"synchronous={mode}: {images:,} images of {len(operations)} operations with {sends} requests:"
        f" {failures.total()} failed, {time.monotonic() - began:.0f} s{told}",
        flush=True,
    )
    return failures.total()


# ------------------------------------------------------------------------------------------------ recording


def recorded(mode: str) -> list[Operation]:
    """A first sync in many batches, some of which end as dead letters, as what it did to its files."""
    code = (
        "import inspect, pipeline.state.sqlite as s\n"
        "prepare = inspect.getsource(s._prepare)\n"
        f"exec(prepare.replace('synchronous = FULL', 'synchronous = {mode}'), vars(s))"
    )
    with rehearsal() as at, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "trace"
        strace = [str(STRACE), "-f", "-y", "-xx", "-s", "4000000", f"--trace={CALLS}", "-A", "-o", str(log)]
        at.folder.configure(at.memory.url, writers={"requests_per_second": 1000, "linger_s": 0.05})
        at.memory.play(reject_text="About 003", failed_record=0.1, failed_record_code=500)
        at.folder.write_documents(DOCUMENTS)
        at.run("run", "docs.yaml", under=strace, code=code)
        return list(parsed(log.read_text(errors="replace"), str(at.folder.state)))


def parsed(log: str, state: str) -> Sequence[Operation]:
    """The operations of a trace of strace that concern the files of `state`, or the network."""
    operations: list[Operation] = []
    begun: dict[str, str] = {}
    places: dict[str, int] = {}  # where plain writes go on
    for raw in log.splitlines():
        line = raw
        if match := _UNFINISHED.match(raw):
            begun[match[1]] = match[2]
            continue
        if match := _RESUMED.match(raw):
            line = f"{match[1]} {begun.pop(match[1], '')}{match[3]}"
        match = _LINE.match(line)
        if match and int(match[3]) >= 0:
            operations += _operation(match[1], match[2], int(match[3]), state, places)
    return operations


def _operation(call: str, arguments: str, result: int, state: str, places: dict[str, int]) -> list[Operation]:
    strings = [bytes.fromhex(found.replace("\\x", "")) for found in _STRING.findall(arguments)]
    if call in ("sendto", "sendmsg"):
        return [Operation("send", data=strings[0])] if strings and b"clientToken" in strings[0] else []
    if call in ("rename", "unlink"):
        names = [string.decode() for string in strings]
        if not names[0].startswith(state):
            return []
        return [Operation(call, Path(names[0]).name, other=Path(names[-1]).name)]
    if call == "openat":
        path = strings[0].decode() if strings else ""
        if not path.startswith(f"{state}/"):
            return []
        name = Path(path).name
        places[name] = 0
        made = [Operation("create", name)] if "O_CREAT" in arguments else []
        return made + ([Operation("truncate", name)] if "O_TRUNC" in arguments else [])
    match = _FD_PATH.match(arguments)
    path = (
        bytes.fromhex(match[1].replace("\\x", "")).decode()
        if match and "\\x" in match[1]
        else match[1]
        if match
        else ""
    )
    path = path.removesuffix("(deleted)")
    if path == state:
        return [Operation("sync folder")]
    if not path.startswith(f"{state}/"):
        return []
    name = Path(path).name
    numbers = arguments.rsplit(", ", 2)
    if call == "pwrite64":
        return [Operation("write", name, strings[0][:result], int(numbers[-1]))]
    if call == "write":
        place = places.get(name, 0)
        places[name] = place + result
        return [Operation("write", name, strings[0][:result], place)]
    if call == "ftruncate":
        return [Operation("truncate", name, offset=int(numbers[-1]))]
    return [Operation("sync", name)]


def sent_in(operations: Sequence[Operation]) -> dict[str, set[str]]:
    """The creates that have left: the keys of their records, by token."""
    sent = {}
    for operation in operations:
        if operation.kind == "send" and (match := _TOKEN.search(operation.data)):
            sent[match[1].decode()] = {key.decode() for key in _KEY.findall(operation.data)}
    return sent


# --------------------------------------------------------------------------------------------------- images


@dataclass
class File:
    content: bytearray = field(default_factory=bytearray)  # what is surely on the disk
    waiting: list[Operation] = field(default_factory=list)  # what may be


@dataclass
class Image:
    """What a disk holds after a power cut."""

    files: dict[str, bytes]

    @classmethod
    def after(cls, operations: Sequence[Operation], rng: random.Random) -> "Image":
        files: dict[str, File] = {}
        named: dict[str, File] = {}  # as the folder on the disk has it
        for operation in operations:
            match operation.kind:
                case "create":
                    files.setdefault(operation.name, File())
                case "write" | "truncate":
                    files.setdefault(operation.name, File()).waiting.append(operation)
                case "sync":
                    file = files.setdefault(operation.name, File())
                    for waiting in file.waiting:
                        _apply(file.content, waiting)
                    file.waiting.clear()
                case "rename":
                    files[operation.other] = files.pop(operation.name)
                case "unlink":
                    files.pop(operation.name, None)
                case "sync folder":
                    named = dict(files)
        left = {}
        # Of two states of the folder, the one on the disk or the one in memory; its names come and go one by one.
        for name in {*files, *named}:
            chosen = files.get(name) if rng.random() < 0.5 else named.get(name)
            if chosen is None:
                continue
            content = bytearray(chosen.content)
            for waiting in chosen.waiting:
                fate = rng.random()
                if fate < 0.5:
                    _apply(content, waiting)
                elif fate < 0.7 and waiting.kind == "write":
                    kept = SECTOR * rng.randint(0, len(waiting.data) // SECTOR)
                    _apply(content, Operation("write", name, waiting.data[:kept], waiting.offset))
            left[name] = bytes(content)
        return cls(left)


def _apply(content: bytearray, operation: Operation) -> None:
    if operation.kind == "truncate":
        del content[operation.offset :]
        content.extend(bytes(operation.offset - len(content)))
        return
    end = operation.offset + len(operation.data)
    content.extend(bytes(max(0, end - len(content))))
    content[operation.offset : end] = operation.data


def problem_of(image: Image, sent: dict[str, set[str]]) -> str | None:
    """What is wrong with an image; None if nothing is."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for name, content in image.files.items():
            if name not in ("run.lock", "state.sqlite3-shm"):  # made anew by whoever comes next
                (Path(folder) / name).write_bytes(content)
        try:
            outbox, known = anyio.run(_opened, Path(folder) / "state.sqlite3")
        except Exception as error:
            return f"cannot be opened: {type(error).__name__}"
        if any(token not in outbox and not keys <= known for token, keys in sent.items()):
            return "forgets what was sent"
        letters = Path(folder) / "dead-letters.jsonl"
        lines = letters.read_bytes().split(b"\n")[:-1] if letters.exists() else []
        try:
            for line in lines:
                json.loads(line)
        except ValueError:
            return "has a broken dead letter before the last"
    return None


async def _opened(path: Path) -> tuple[set[str], set[str]]:
    """The tokens in the outbox, and the keys of all records that the state knows of, in whatever way."""

    async def in_place(work: Callable[[], Any]) -> Any:
        return work()

    async with open_state(path, source="docs", destination=MEMORY_ID, offload=in_place) as state:
        waiting = set(await state.outbox())
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise ValueError("damaged")
        known = connection.execute(
            "SELECT key FROM record UNION SELECT key FROM outbox_key UNION SELECT key FROM dead_letter"
        )
        return {str(token) for token in waiting}, {key for (key,) in known}


if __name__ == "__main__":
    sys.exit(main())
