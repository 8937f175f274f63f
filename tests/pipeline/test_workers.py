"""The processes that read, parse and cut: real ones, which end in every way that a process can."""

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, create_memory_object_stream, create_task_group, open_process, to_thread
from anyio.abc import Process
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from connectors.files import FileReader
from pipeline import workers
from pipeline.deriving import Deriver
from pipeline.errors import SourceError, first_error
from pipeline.limits import service_limits
from pipeline.mapping import RecordRules
from pipeline.model import (
    Checkpoint,
    Derived,
    Document,
    DocumentId,
    DocumentRef,
    Fetched,
    PartsEnd,
    Planned,
    Unread,
)
from pipeline.parsing import Parser
from pipeline.reader import derive_documents
from pipeline.workers import LISTS_BEFORE_START, open_workers, processes_here
from tests.fakes.parsers import DyingDeriver, ObedientParser
from tests.pipeline.examples import workers_in_place

RULES = RecordRules(source="handbook", recipe="recipe-1")
OBEDIENT = Deriver(None, ObedientParser(), RULES, service_limits())


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pid"
    os.mkfifo(path)
    return path


def document(name: str, text: str) -> Document:
    return Document(DocumentRef(DocumentId(name), f"memory:///{name}"), text.encode())


def numbered(lists: int, *, in_each: int = 5) -> list[list[Fetched]]:
    return [[document(f"{number}-{one}.md", f"text {one}") for one in range(in_each)] for number in range(lists)]


async def derive(
    lists: Sequence[Sequence[Fetched]], deriver: Deriver = OBEDIENT, *, processes: int = 1
) -> list[Planned]:
    """What the stage gives, with real processes from the first list on."""
    given_in, given = create_memory_object_stream[list[Fetched]](len(lists))
    out_in, out = create_memory_object_stream[list[Planned]](1)
    for items in lists:
        given_in.send_nowait(list(items))
    given_in.close()
    opening = open_workers(deriver, processes=processes, lists_before_start=0)
    derived: list[Planned] = []
    async with opening as opened, create_task_group() as tasks:
        tasks.start_soon(partial(derive_documents, derive=opened), given, out_in)
        async with out:
            derived = [item async for some in out for item in some]
    return derived


async def in_place(lists: Sequence[Sequence[Fetched]], deriver: Deriver = OBEDIENT) -> list[Planned]:
    async with workers_in_place(deriver) as derive_in_place:
        return [item for items in lists async for some in await derive_in_place(items) for item in some]


def told(planned: Sequence[Planned]) -> list[str]:
    """Each in a word: the document that was derived, or what else became of it."""
    words: list[str] = []
    for item in planned:
        match item:
            case Derived():
                words.append(item.document)
            case Unread(ref, _, code, _):
                words.append(f"{ref.id}: {code}")
            case PartsEnd(ref):
                words.append(f"{ref.id}: end")
            case _:
                words.append(str(item))
    return words


@pytest.mark.parametrize("processes", [0, 1, 3])
async def test_processes_give_what_would_be_derived_here(processes: int) -> None:
    """In the same order, each once, however many there are."""
    lists = numbered(40)
    lists[7][2:2] = [Checkpoint("7"), document("lines.jsonl", "line\n" * 250), document("bad.md", "refuse it")]

    derived = await derive(lists, processes=processes)

    assert derived == await in_place(lists)
    assert len(derived) == 40 * 5 + 1 + 251 + 1


async def test_files_are_read_by_the_processes(tmp_path: Path) -> None:
    """The settings of connector and parser reach them; HTML is parsed in a process of theirs."""
    for number in range(20):
        (tmp_path / f"{number:02}.md").write_text(f"# Title {number}\n\ntext", encoding="utf-8")
    (tmp_path / "page.html").write_text("<h1>Page</h1><p>words", encoding="utf-8")
    (tmp_path / "large.md").write_bytes(b"x" * 101)
    reader = FileReader(f"{tmp_path}/", 100, follows_symlinks=True, now_ns=an_hour_later)
    deriver = Deriver(reader, Parser(), RULES, service_limits())
    names = [*(f"{number:02}.md" for number in range(20)), "gone.md", "large.md", "page.html"]
    lists = [[DocumentRef(DocumentId(name), f"file:///{name}")] for name in names]

    derived = await derive(lists, deriver)

    assert derived == await in_place(lists, deriver)
    assert [type(item).__name__ for item in derived[-3:]] == ["Vanished", "Unread", "Derived"]


def an_hour_later() -> int:
    return 4_000_000_000 * 10**9


async def test_a_short_run_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is over before one would have begun."""
    started: list[Sequence[str]] = []

    async def counting(command: Sequence[str], **options: Any) -> Process:
        started.append(command)
        return await open_process(command, **options)

    monkeypatch.setattr(workers, "open_process", counting)
    async with open_workers(OBEDIENT, processes=2) as opened:
        for number, items in enumerate(numbered(LISTS_BEFORE_START + 3)):
            async for _ in await opened(items):
                pass
            assert len(started) == (2 if number >= LISTS_BEFORE_START else 0)


@pytest.mark.parametrize("processes", [0, 1])
async def test_a_document_that_takes_long_does_not_stop_the_event_loop(pipe: Path, processes: int) -> None:
    """Writers go on meanwhile: here, the document is done only once something else has run."""
    derived: list[Planned] = []

    async def derive_it() -> None:
        derived.extend(await derive([[document("slow.md", f"listen {pipe}")]], processes=processes))

    async with create_task_group() as tasks:
        tasks.start_soon(derive_it)
        for _ in range(20):
            await checkpoint()
        await to_thread.run_sync(pipe.write_text, "go on")
    assert told(derived) == ["slow.md"]


async def test_large_documents_pass_both_ways() -> None:
    """They are packed and unpacked in a thread, since that would hold up the event loop."""
    text = "\n\n".join(f"Paragraph {number} of many words." for number in range(100_000))
    assert len(text) > 2 * workers.LARGE_BYTES
    lists: list[list[Fetched]] = [[document("large.md", text), document("small.md", "text")], *numbered(2)]

    assert await derive(lists) == await in_place(lists)


# ------------------------------------------------------------------------------------------- processes that end


async def test_a_document_that_ends_its_process_becomes_a_dead_letter() -> None:
    """And nothing else is lost, nor comes twice."""
    lists = numbered(10)
    lists[3][2] = document("deadly.md", "die")
    lists[5][0] = document("leaving.md", "exit 3")

    with capture_logs() as logs:
        derived = await derive(lists)

    expected = told(await in_place(numbered(10)))
    expected[3 * 5 + 2], expected[5 * 5] = "deadly.md: parser_crashed", "leaving.md: parser_crashed"
    assert told(derived) == expected
    assert {entry["ended_with"] for entry in logs if entry["event"] == "worker_died"} == {"SIGKILL", "exit code 3"}
    (letter,) = (item for item in derived if isinstance(item, Unread) and item.ref.id == "deadly.md")
    assert (letter.stage, letter.has_parts) == ("parse", False)


async def test_a_death_that_is_no_document_s_fault_costs_none(tmp_path: Path) -> None:
    """The operating system may have ended the process to save memory: each document is given another chance."""
    trigger = tmp_path / "trigger"
    trigger.touch()
    lists = numbered(6)
    lists[2][1] = document("unlucky.md", f"die-once {trigger}")

    derived = await derive(lists, processes=2)

    assert not trigger.exists()
    assert told(derived) == told(await in_place(lists))


async def test_a_document_of_parts_that_ends_its_process_half_way_is_not_begun_again() -> None:
    """Parts that were passed on must not come twice; the file is not read to its end."""
    lines = ["line"] * 150 + ["die"] + ["line"] * 100
    lists = numbered(4)
    lists[1][1] = document("lines.jsonl", "\n".join(lines))

    items = await derive(lists)

    assert [item.has_parts for item in items if isinstance(item, Unread)] == [True]
    derived = told(items)
    passed_on = [word for word in derived if word.startswith("lines.jsonl")]
    assert passed_on == [
        *(f"lines.jsonl#{number}" for number in range(len(passed_on) - 1)),
        "lines.jsonl: parser_crashed",
    ]
    assert len(passed_on) > 1
    others = [word for word in derived if not word.startswith("lines.jsonl")]
    assert others == [word for word in told(await in_place(numbered(4))) if word != "1-1.md"]


async def test_a_document_that_was_passed_on_when_its_process_ends_does_not_come_twice() -> None:
    """As its records, and as a dead letter that takes them back."""
    lists = numbered(2)

    derived = await derive(lists, DyingDeriver())  # type: ignore[arg-type]

    assert told(derived) == told(await in_place(numbered(2)))


async def test_a_document_that_needs_too_much_memory_becomes_a_dead_letter() -> None:
    """Whether the operating system ends the process for it, or refuses it the memory."""
    lists = numbered(3)
    lists[1][2] = document("huge.md", "starve")

    derived = await derive(lists)

    assert [word for word in told(derived) if "crashed" in word] == ["huge.md: parser_crashed"]
    assert len(derived) == 15


async def test_processes_that_end_whatever_they_read_end_the_run() -> None:
    """Thousands of dead letters would blame the documents for a machine without memory."""
    lists: list[list[Fetched]] = [[document(f"{number}.md", "die") for number in range(workers.GIVEN_UP_MAX + 5)]]

    with pytest.raises(BaseExceptionGroup) as caught:
        await derive(lists)

    error = first_error(caught.value)
    assert isinstance(error, SourceError)
    assert "workers.processes" in str(error)


@pytest.mark.parametrize("starts", [1, 2])
async def test_documents_that_no_process_can_be_started_for_are_left_for_the_next_run(
    monkeypatch: pytest.MonkeyPatch, starts: int
) -> None:
    """A thread takes over all others: one of those in question might end the run's own process."""
    lists = numbered(30)
    lists[0][2] = document("deadly.md", "die")
    left = starts

    async def some_start(command: Sequence[str], **options: Any) -> Process:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return await open_process(command, **options)

    monkeypatch.setattr(workers, "open_process", some_start)

    with capture_logs() as logs:
        derived = await derive(lists)

    unread = [item for item in derived if isinstance(item, Unread)]
    assert len(derived) == 30 * 5
    assert told(derived)[-100:] == told(await in_place(numbered(30)))[-100:]
    assert {item.code for item in unread} <= {"parser_crashed", "worker_not_started"}
    assert {item.stage for item in unread if item.code == "worker_not_started"} == {"fetch"}
    assert any(entry["event"] == "worker_not_started" for entry in logs)


async def test_if_no_process_can_be_started_a_thread_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower, and it says so."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    lists = numbered(8)

    with capture_logs() as logs:
        derived = await derive(lists)

    assert derived == await in_place(lists)
    assert [entry["event"] for entry in logs] == ["worker_not_started"]


# ---------------------------------------------------------------------------------------------- errors and noise


async def test_a_source_that_is_gone_ends_the_run() -> None:
    """It must not look like the fault of a document."""
    lists = numbered(3)
    lists[1][0] = document("last.md", "no-source the root is gone")

    with pytest.raises(BaseExceptionGroup) as caught:
        await derive(lists)

    error = first_error(caught.value)
    assert isinstance(error, SourceError)
    assert str(error) == "the root is gone"


@pytest.mark.parametrize(
    ("order", "message"), [("fail 7", "7"), ("fail-strangely 7", "NotToBeCopied in the worker process")]
)
async def test_a_fault_of_ours_is_raised_here_with_its_place_there(order: str, message: str) -> None:
    """Whoever reports it must be able to say where it was."""
    with pytest.raises(BaseExceptionGroup) as caught:
        await derive([[document("a.md", order)]])

    error = first_error(caught.value)
    assert str(error) == message
    if order == "fail 7":
        assert isinstance(error, ZeroDivisionError)
        assert any("parsers.py" in note and "obey" in note for note in error.__notes__)


async def test_what_a_library_prints_does_not_disturb_the_answers() -> None:
    """They have a line of their own."""
    lists = numbered(3)
    lists[1][0] = document("loud.md", "print hello")

    assert told(await derive(lists)) == told(await in_place(lists))


async def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the folder of the documents, and hold anything."""
    for name in ("pickle", "struct", "pipeline"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert told(await derive(numbered(2))) == told(await in_place(numbered(2)))


# -------------------------------------------------------------------------------------------------- their end


def has_ended(pid: int, within_s: float = 20.0) -> bool:
    """Whether the process ends in time, or has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([descriptor], [], [], within_s)
    finally:
        os.close(descriptor)
    return bool(ready)


def children() -> set[int]:
    """The processes that this one has."""
    return set(map(int, Path("/proc/thread-self/children").read_text(encoding="ascii").split()))


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("is_ready", [False, True])
async def test_a_run_that_ends_while_processes_start_ends_them(
    monkeypatch: pytest.MonkeyPatch, steps: int, is_ready: bool
) -> None:
    """At whatever moment that is: before they are there, as they say that they are ready, or after."""
    before = children()
    has_told = Event()
    prepare = workers._Worker.prepare

    async def prepare_and_tell(worker: Any, deriver: Deriver) -> None:
        await prepare(worker, deriver)
        has_told.set()

    monkeypatch.setattr(workers._Worker, "prepare", prepare_and_tell)
    async with open_workers(OBEDIENT, processes=2, lists_before_start=0) as opened, create_task_group() as tasks:
        tasks.start_soon(opened, [document("a.md", "text")])
        if is_ready:
            await has_told.wait()
        for _ in range(steps):
            await checkpoint()
        tasks.cancel_scope.cancel()

    assert all(has_ended(child) for child in children() - before)


def test_names_of_files_mean_the_same_in_every_process(tmp_path: Path) -> None:
    """What an interpreter is told about them when it starts is not told to its children by itself."""
    (tmp_path / "é.md").write_text("text", encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", NAMES_STORY, f"{tmp_path}/"],
        cwd=workers.IMPORT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["Derived"], done.stderr


NAMES_STORY = """
import anyio, sys, time
from connectors.files import FileReader
from pipeline.deriving import Deriver
from pipeline.model import DocumentRef
from pipeline.parsing import Parser
from tests.pipeline.test_workers import RULES, derive
from pipeline.limits import service_limits

deriver = Deriver(FileReader(sys.argv[1], 100, True, time.time_ns), Parser(), RULES, service_limits())
for item in anyio.run(derive, [[DocumentRef("%C3%A9.md", "")]], deriver):
    print(type(item).__name__)
"""


async def test_a_run_that_is_cancelled_ends_processes_that_hang(pipe: Path) -> None:
    """A Ctrl-C must not wait for a parser."""
    lists: list[list[Fetched]] = [[document("hanging.md", f"pid {pipe}\nhang")], *numbered(3)]
    async with create_task_group() as tasks:
        tasks.start_soon(partial(derive, lists))
        pid = int(await to_thread.run_sync(pipe.read_text))
        tasks.cancel_scope.cancel()
    assert has_ended(pid, 0)


async def test_signals_at_the_terminal_are_for_the_run_and_not_for_its_processes(pipe: Path, tmp_path: Path) -> None:
    """The run ends them when it has written down what it knows."""
    other = tmp_path / "other"
    os.mkfifo(other)
    reached: list[Planned] = []

    async def derive_two() -> None:
        reached.extend(await derive([[document("a.md", f"pid {pipe}")], [document("b.md", f"pid {other}")]]))

    async with create_task_group() as tasks:
        tasks.start_soon(derive_two)
        pid = int(await to_thread.run_sync(pipe.read_text))
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
        assert int(await to_thread.run_sync(other.read_text)) == pid
    assert told(reached) == ["a.md", "b.md"]


STORY = """
import anyio, os, pathlib, signal, sys
from tests.pipeline.test_workers import OBEDIENT, document
from pipeline.workers import open_workers

async def main():
    async with open_workers(OBEDIENT, processes=1, lists_before_start=0) as opened:
        await opened([document("a.md", f"pid {sys.argv[1]}" + sys.argv[2])])
        print(await anyio.to_thread.run_sync(pathlib.Path(sys.argv[1]).read_text), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


@pytest.mark.parametrize("then", ["", "\nhang"], ids=["done", "hanging"])
def test_processes_do_not_outlive_the_one_that_started_them(pipe: Path, then: str) -> None:
    """However that ends, and whatever they are doing."""
    done = subprocess.run(
        [sys.executable, "-c", STORY, str(pipe), then],
        cwd=workers.IMPORT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert has_ended(int(done.stdout))


def test_one_processor_is_left_to_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one in all, a process would only take turns with it."""
    for processors, expected in ((1, 0), (2, 1), (4, 3), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=processors: set(range(count)))
        assert processes_here() == expected
