"""The dead-letter file and its lines: nothing that was given up on may be lost or torn."""
# ruff: noqa: ASYNC240 - a test may look at a small file while nothing else waits

import errno
import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline import letters as letter_json
from pipeline.dead_letters import JsonLinesFile
from pipeline.errors import StateError
from pipeline.model import ClientToken, DeadLetter, DocumentId, Operation, RecordKey

FAILED_AT = datetime(2024, 5, 6, 7, 8, 9, 500_000, tzinfo=UTC).timestamp()

SOURCE = "handbook"


def letter(name: str, **members: Any) -> DeadLetter:
    made = DeadLetter(
        id=name,
        source="handbook",
        document_id=DocumentId("guide/setup.md"),
        stage="write",
        code="400",
        message="the memory did not want it",
        attempts=1,
        first_failed_at=FAILED_AT,
        last_failed_at=FAILED_AT + 60,
        run_id="run-1",
        key=RecordKey("key"),
        digest="digest",
        operation=Operation.UPDATE,
        record='{"memoryRecordId":"mem-1","content":{"text":"日本語"},"weight":0.5}'.encode(),
        client_token=ClientToken("token-1"),
    )
    return replace(made, **members)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".memsync" / "handbook.dead-letters.jsonl"


@pytest.fixture
def file(path: Path) -> JsonLinesFile:
    return JsonLinesFile(path, SOURCE)


def read(path: Path) -> list[DeadLetter]:
    return [letter_json.from_json(line) for line in path.read_bytes().split(b"\n") if line]


class Disk:
    """What a power cut would leave: the files and folders that were synced, each with its size at that moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._synced: set[tuple[int, int]] = set()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._note)

    def has(self, path: Path) -> bool:
        found = path.stat()
        return (found.st_ino, found.st_size) in self._synced

    def _note(self, descriptor: int) -> None:
        self._fsync(descriptor)
        found = os.fstat(descriptor)
        self._synced.add((found.st_ino, found.st_size))


# --------------------------------------------------------------------------------------------------- the file


async def test_letters_are_appended_a_line_each(file: JsonLinesFile, path: Path) -> None:
    """Other programs read the file line by line."""
    first, second, third = letter("1"), letter("2", message="two\nlines\u2028"), letter("3")

    await file.append([first, second])
    await file.append([third])

    assert path.read_bytes().count(b"\n") == 3
    assert path.read_bytes().endswith(b"\n")
    assert read(path) == [first, second, third]


async def test_appending_nothing_makes_no_file(file: JsonLinesFile, path: Path) -> None:
    """A file that is there says that there is something in it."""
    await file.append([])

    assert not path.parent.exists()


async def test_the_file_and_its_folder_belong_to_their_owner_alone(file: JsonLinesFile, path: Path) -> None:
    """It holds the text of records, whatever the umask of the process says."""
    before = os.umask(0)
    try:
        await file.append([letter("1")])
        appended = stat.S_IMODE(path.stat().st_mode)
        await file.rewrite([letter("1")])
        rewritten = stat.S_IMODE(path.stat().st_mode)
    finally:
        os.umask(before)

    assert (appended, rewritten) == (0o600, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_an_appended_letter_survives_a_power_cut(
    file: JsonLinesFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger counts a letter only after the file has it, on the disk and under its name."""
    disk = Disk(monkeypatch)

    await file.append([letter("1")])

    assert disk.has(path)
    assert disk.has(path.parent)


async def test_a_torn_last_line_does_not_swallow_the_next(file: JsonLinesFile, path: Path) -> None:
    """A crash in the middle of a write costs at most the line that it tore, which the ledger never counted."""
    whole = letter_json.to_json(letter("1")) + b"\n"
    torn = letter_json.to_json(letter("2"))
    path.parent.mkdir()
    for length in range(1, len(torn), 50):
        path.write_bytes(whole + torn[:length])

        await file.append([letter("3")])

        lines = path.read_bytes().split(b"\n")
        assert lines == [whole.strip(), torn[:length], letter_json.to_json(letter("3")), b""]


async def test_a_line_that_lost_only_its_end_is_whole_again(file: JsonLinesFile, path: Path) -> None:
    """Then nothing was lost at all."""
    path.parent.mkdir()
    path.write_bytes(letter_json.to_json(letter("1")))

    await file.append([letter("2")])

    assert [each.id for each in read(path)] == ["1", "2"]


async def test_rewriting_leaves_exactly_what_is_given(file: JsonLinesFile, path: Path) -> None:
    """Replay removes what it stored, and nothing lies about afterwards."""
    await file.append([letter("1"), letter("2"), letter("2")])

    await file.rewrite([letter("2")])
    await file.append([letter("3")])

    assert [each.id for each in read(path)] == ["2", "3"]
    assert [found.name for found in path.parent.iterdir()] == [path.name]


async def test_rewriting_with_nothing_empties_the_file(file: JsonLinesFile, path: Path) -> None:
    """A program that watches the file sees that all is well; where there was none, none is made."""
    await file.rewrite([])
    made = path.parent.exists()
    await file.append([letter("1")])

    await file.rewrite([])

    assert not made
    assert path.read_bytes() == b""


async def test_rewriting_is_one_step(file: JsonLinesFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before it leaves the old file, a crash behind it the new one, and both are whole."""
    await file.append([letter("1"), letter("2")])
    before = path.read_bytes()
    disk = Disk(monkeypatch)
    ready: list[tuple[bytes, bool]] = []

    async def crash(source: Path, target: Path) -> None:
        ready.append((source.read_bytes(), disk.has(source)))
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("aiofiles.os.replace", crash)
    with pytest.raises(StateError):
        await file.rewrite([letter("2")])

    assert ready == [(letter_json.to_json(letter("2")) + b"\n", True)]
    assert path.read_bytes() == before


async def test_a_rewritten_file_survives_a_power_cut(
    file: JsonLinesFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else letters that were replayed long ago would come back."""
    await file.append([letter("1")])
    disk = Disk(monkeypatch)

    await file.rewrite([letter("2")])

    assert disk.has(path)
    assert disk.has(path.parent)


async def test_what_a_crash_left_of_a_rewrite_does_no_harm(file: JsonLinesFile, path: Path) -> None:
    """The half-written file is written anew."""
    await file.append([letter("1")])
    path.with_name(path.name + ".new").write_bytes(b'{"half": ' * 1_000)

    await file.rewrite([letter("2")])

    assert [each.id for each in read(path)] == ["2"]
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("method", ["append", "rewrite"])
async def test_a_path_that_cannot_be_written_stops_the_run(tmp_path: Path, method: str) -> None:
    """What cannot be written down must not be given up on; the message says what to do, and holds no text."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "dead-letters.jsonl"

    with pytest.raises(StateError) as caught:
        await getattr(JsonLinesFile(path, SOURCE), method)([letter("1")])

    assert str(path) in str(caught.value)
    assert "Check the disk, its free space and the folder's permissions" in str(caught.value)
    assert "日本語" not in str(caught.value)


async def test_letters_of_another_source_in_the_same_file_are_kept(file: JsonLinesFile, path: Path) -> None:
    """One file for several sources is easily configured, and must not make them erase each other's letters."""
    other = replace(letter("2"), source="another")
    await file.append([letter("1")])
    await JsonLinesFile(path, "another").append([other])

    await file.rewrite([])

    assert read(path) == [other]


async def test_a_full_disk_stops_the_run(file: JsonLinesFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one fault that every machine meets one day."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StateError, match="No space left on device"):
        await file.append([letter("1")])


async def test_a_folder_in_the_place_of_the_file_stops_the_run(path: Path) -> None:
    """For instance a mount that was meant for the file."""
    path.mkdir(parents=True)

    with pytest.raises(StateError, match="Is a directory"):
        await JsonLinesFile(path, SOURCE).append([letter("1")])


# -------------------------------------------------------------------------------------------------- the lines

# Any text, also with the lone surrogates that file names which are no text come with. A high one is left out: before
# a low one, the two would come back as the one character that they stand for.
texts = some.text(
    some.characters(exclude_categories=()).filter(lambda character: not "\ud800" <= character <= "\udbff")
)
moments = some.integers(0, 4_000_000_000_000_000).map(lambda microseconds: microseconds / 1_000_000)
members = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
records = some.dictionaries(texts, members, max_size=5).map(
    lambda member: json.dumps(member, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
)
dead_letters = some.builds(
    DeadLetter,
    id=texts,
    source=texts,
    document_id=texts.map(DocumentId),
    stage=some.sampled_from(["scan", "fetch", "parse", "derive", "write"]),
    code=texts,
    message=texts,
    attempts=some.integers(1, 1_000),
    first_failed_at=moments,
    last_failed_at=moments,
    run_id=texts,
    key=some.none() | texts.filter(bool).map(RecordKey),
    digest=some.none() | texts,
    operation=some.none() | some.sampled_from(Operation),
    record=some.none() | records,
    client_token=some.none() | texts.filter(bool).map(ClientToken),
    rounds=some.integers(1, 1_000),
    is_retryable=some.booleans(),
    is_edited=some.booleans(),
    dropped_at=some.none() | moments,
)


@given(dead_letters)
def test_a_letter_comes_back_from_its_line_as_it_was(written: DeadLetter) -> None:
    """Byte for byte where it holds bytes: what is sent again is what was given up on."""
    line = letter_json.to_json(written)

    assert b"\n" not in line
    assert letter_json.from_json(line) == written


@given(dead_letters)
def test_every_line_is_json_in_utf8(written: DeadLetter) -> None:
    """Whoever reads the file has tools that know no more than that."""
    assert isinstance(json.loads(letter_json.to_json(written).decode()), dict)


def test_a_line_says_all_that_is_needed_to_understand_it() -> None:
    """The members are a contract with other programs."""
    assert json.loads(letter_json.to_json(letter("1"))) == {
        "schema": "memsync/dead-letter/1",
        "id": "1",
        "source": "handbook",
        "document_id": "guide/setup.md",
        "operation": "update",
        "record": {"memoryRecordId": "mem-1", "content": {"text": "日本語"}, "weight": 0.5},
        "key": "key",
        "digest": "digest",
        "error": {"stage": "write", "code": "400", "message": "the memory did not want it"},
        "attempts": 1,
        "first_failed_at": "2024-05-06T07:08:09.500000+00:00",
        "last_failed_at": "2024-05-06T07:09:09.500000+00:00",
        "run_id": "run-1",
        "client_token": "token-1",
        "rounds": 1,
        "retryable": False,
        "edited": False,
    }


def test_a_line_of_an_older_version_is_read_as_what_it_would_say_now() -> None:
    """Its letters go on: those whose reason may pass are sent again, the others wait for a person."""
    newer = ("rounds", "retryable", "edited")

    def of_older(**members: Any) -> DeadLetter:
        line = json.loads(letter_json.to_json(letter("1", **members)))
        return letter_json.from_json(json.dumps({name: line[name] for name in line if name not in newer}))

    passing = [
        of_older(code="500"),
        of_older(code="429", operation=Operation.CREATE),
        of_older(code="404"),
        of_older(stage="parse", code="parser_too_slow", operation=None),
    ]
    lasting = [
        of_older(code="400"),
        of_older(code="404", operation=Operation.CREATE),
        of_older(code="ValidationException"),
        of_older(stage="derive", code="limit"),
        of_older(stage="parse", code="broken_json", operation=None),
    ]

    assert [each.is_retryable for each in passing] == [True] * len(passing)
    assert [each.is_retryable for each in lasting] == [False] * len(lasting)
    assert {(each.rounds, each.is_edited, each.dropped_at) for each in (*passing, *lasting)} == {(1, False, None)}


def test_text_stands_in_a_line_as_people_read_it() -> None:
    """Six signs of escape for each character help nobody."""
    assert "日本語" in letter_json.to_json(letter("1")).decode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"[]",
        b"{}",
        b'{"schema": "memsync/dead-letter/2"}',
        b'{"schema": "memsync/dead-letter/1"}',
        letter_json.to_json(letter("1"))[:100],
        letter_json.to_json(letter("1")).replace(b'"update"', b'"upsert"'),
    ],
)
def test_a_line_that_is_no_letter_is_told_apart(line: bytes) -> None:
    """A torn line is passed over, and one of a newer version not misread."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        letter_json.from_json(line)


def test_letters_about_one_thing_share_an_id() -> None:
    """The later takes the place of the earlier; another version of the record is another thing."""
    key, other_key = RecordKey("a"), RecordKey("b")
    ids = [
        letter_json.record_letter_id(key, "1"),
        letter_json.record_letter_id(key, "2"),
        letter_json.record_letter_id(other_key, "1"),
        letter_json.document_letter_id("a", DocumentId("1")),
        letter_json.document_letter_id("b", DocumentId("1")),
    ]

    assert len(set(ids)) == len(ids)
    assert ids[0] == letter_json.record_letter_id(key, "1")
