"""A document may break the process that reads it; it costs that document and nothing else."""

import gc
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import SourceError, UnreadableDocument
from pipeline.model import DocumentId, DocumentRef, ParsedDocument
from pipeline.parsing import reading_process
from pipeline.parsing.html import parse_html
from pipeline.parsing.media_types import Kind
from pipeline.parsing.reading_process import DEFAULT_LIMITS, ReadingProcess
from pipeline.parsing.readings import Content, UnpackingLimits

REF = DocumentRef(DocumentId(""), "")
UNPACKING = UnpackingLimits(10 * 1024**2, 100)
GOOD = (
    '<head><title>A title</title><meta name="author" content="Ada, Bob"><meta name="keywords" content="a, b">'
    '<meta name="last-modified" content="2026-01-02T03:04:05Z"></head><main><h1>One</h1><p>Two &amp; three 🦊</main>'
)
SLOW = "<p>word <b>bold</b> " * 400_000


def parse(reader: ReadingProcess, html: str) -> ParsedDocument:
    text = reader.read(Kind.HTML, Content("page.html", html.encode()), None, UNPACKING).text
    assert text is not None
    return text


def pid_of(reader: ReadingProcess) -> int:
    assert reader._child is not None
    return reader._child._process.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("html", [GOOD, "<p>only text", "", "<h1>Heading</h1>", "\udc80 lone"])
def test_a_page_comes_out_as_it_would_in_this_process(html: str) -> None:
    """The way through another process must lose nothing: neither types nor what is missing."""
    html = html.encode("utf-8", "replace").decode()

    assert parse(ReadingProcess(), html) == parse_html(REF, html)


def test_one_process_reads_all_pages() -> None:
    """Starting one takes as long as reading a hundred pages."""
    reader = ReadingProcess()

    parse(reader, GOOD)
    first = pid_of(reader)
    with pytest.raises(UnreadableDocument, match="nested too deeply"):
        parse(reader, "<div>" * 5000 + "deep")
    parse(reader, GOOD)

    assert pid_of(reader) == first


def test_a_page_that_takes_too_long_is_given_up_on_and_the_next_is_read() -> None:
    """Nobody is there to end a run that hangs."""
    reader = ReadingProcess(replace(DEFAULT_LIMITS, content_s=0.2))
    parse(reader, GOOD)
    hung = pid_of(reader)

    with pytest.raises(UnreadableDocument) as raised:
        parse(reader, SLOW)

    assert raised.value.code == "parser_too_slow"
    assert not is_alive(hung)
    assert parse(reader, GOOD).title == "A title"


def test_a_page_that_needs_too_much_memory_is_given_up_on_and_the_next_is_read() -> None:
    """The system would end the whole run, or another program."""
    reader = ReadingProcess(replace(DEFAULT_LIMITS, memory_bytes=160 * 1024**2))

    with pytest.raises(UnreadableDocument) as raised:
        parse(reader, "<p>" + "x" * 64 * 1024**2)

    assert raised.value.code == "parser_crashed"
    assert parse(reader, GOOD).title == "A title"


def test_a_page_that_crashes_the_library_is_given_up_on_and_the_next_is_read() -> None:
    """Native code ends its process when it fails; here a signal does as much."""
    reader = ReadingProcess()
    parse(reader, GOOD)
    killer = threading.Timer(0.05, os.kill, (pid_of(reader), signal.SIGSEGV))

    killer.start()
    with pytest.raises(UnreadableDocument, match="SIGSEGV") as raised:
        parse(reader, SLOW)
    killer.join()

    assert raised.value.code == "parser_crashed"
    assert parse(reader, GOOD).title == "A title"


def test_an_answer_of_any_length_is_not_taken() -> None:
    """Whoever took the reader over could fill our memory instead of its own."""
    reader = ReadingProcess(replace(DEFAULT_LIMITS, answer_bytes=1000))

    with pytest.raises(UnreadableDocument, match="SIGKILL"):
        parse(reader, "<p>" + "long " * 1000)


TAKEN_OVER = """
import os, socket, struct
line = socket.socket(fileno=os.dup(0))
line.sendall(b"+")
line.recv(65536)
line.sendall(struct.pack(">QQ", {length}, 0) + {answer})
line.recv(65536)
"""


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"7", b"[]", b"{}", b'{"text": 7, "members": []}', b'{"text": null, "members": {"a": 1}}']
)
def test_an_answer_without_sense_costs_one_document(
    answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever took the reader over could end every run with it."""
    (tmp_path / "taken_over.py").write_text(TAKEN_OVER.format(length=len(answer), answer=answer))
    reader = ReadingProcess()
    with monkeypatch.context() as patch:
        patch.setattr(reading_process, "IMPORT_ROOT", tmp_path)
        patch.setattr(reading_process, "CHILD", "taken_over")
        with pytest.raises(UnreadableDocument) as raised:
            parse(reader, GOOD)

    assert raised.value.code == "parser_crashed"
    assert parse(reader, GOOD).title == "A title"


def test_without_a_reader_no_page_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation would turn every page into a dead letter."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SourceError, match="exit code 1"):
        parse(ReadingProcess(), GOOD)

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SourceError, match="cannot be started"):
        parse(ReadingProcess(), GOOD)


def test_it_ends_with_its_owner() -> None:
    """A scheduled run would leave one more behind every hour."""
    reader = ReadingProcess()
    parse(reader, GOOD)
    pid = pid_of(reader)

    del reader
    gc.collect()

    assert not is_alive(pid)


def test_it_ends_when_this_process_is_killed() -> None:
    """`kill -9` leaves no time to clean up."""
    program = (
        "import os; from tests.security.test_reading_process import *; reader = ReadingProcess(); parse(reader, GOOD);"
        " print(pid_of(reader), flush=True); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    # The child holds none of our pipes, so that the output's end is the end of the killed process.
    killed = subprocess.run([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, timeout=30, check=False)
    pid = int(killed.stdout)

    assert killed.returncode == -signal.SIGKILL
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it has ended already
    ended, _, _ = select.select([process], [], [], 10)
    os.close(process)
    assert ended


def test_it_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads what anyone wrote, so it must not have what nobody may read."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-environment")
    reader = ReadingProcess()
    parse(reader, GOOD)

    assert b"canary" not in Path(f"/proc/{pid_of(reader)}/environ").read_bytes()
    assert reading_process.CHILD in Path(f"/proc/{pid_of(reader)}/cmdline").read_text()
