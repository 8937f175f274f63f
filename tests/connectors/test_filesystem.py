"""Files as documents, on a real file system."""

import os
import pickle
import re
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectors.filesystem import FilesystemConnector, FilesystemSettings
from connectors.kit.contract import (
    SourceConnectorContract,
    SourceWorld,
    scan_all,
    scan_refs,
)
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import (
    DocumentId,
    DocumentRef,
    DocumentSkipped,
    ScanComplete,
    ScanError,
    SourceEvent,
)
from pipeline.protocols import HasDocumentReader

NOBODY = 65534
HOUR_NS = 3_600_000_000_000


def an_hour_later() -> int:
    """A clock for which every file written so far is old enough to trust its times."""
    return time.time_ns() + HOUR_NS


def clock_at(now_ns: int) -> Callable[[], int]:
    return lambda: now_ns


def connect(root: Path, *, now_ns: Callable[[], int] = an_hour_later, **settings: Any) -> FilesystemConnector:
    values = {"type": "filesystem", "path": root.name, **settings}
    return FilesystemConnector(FilesystemSettings.model_validate(values), root.parent, now_ns=now_ns)


def write(root: Path, *names: str, content: str = "text") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def write_bytes(root: Path, name: bytes, content: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def forbid(path: Path) -> None:
    path.chmod(0)


async def listed(root: Path, **settings: Any) -> list[str]:
    """Return the ids of the documents that a scan lists, sorted."""
    return sorted(await scan_refs(connect(root, **settings)))


async def skipped(root: Path, **settings: Any) -> dict[str, str]:
    events = await scan_all(connect(root, **settings))
    return {event.id: event.reason for event in events if isinstance(event, DocumentSkipped)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def guarded_root() -> Iterator[Path]:
    """A folder in which permissions bite: they do not for root, so root gives its rights away meanwhile."""
    # Not below `tmp_path`, which only its owner may enter.
    with tempfile.TemporaryDirectory() as parent:
        root = Path(parent) / "root"
        root.mkdir()
        is_superuser = os.geteuid() == 0
        if is_superuser:
            os.chown(parent, NOBODY, NOBODY)
            os.chown(root, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield root
        if is_superuser:
            os.seteuid(0)


class FilesystemWorld:
    def __init__(self, root: Path) -> None:
        self._root = root

    def connector(self) -> FilesystemConnector:
        return connect(self._root)

    def put(self, name: str, content: bytes) -> DocumentId:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return DocumentId(name)

    def remove(self, name: str) -> None:
        (self._root / name).unlink()

    def remove_root(self) -> None:
        shutil.rmtree(self._root)

    def make_unlistable(self, folder: str) -> None:
        forbid(self._root / folder)


class TestFilesystemConnectorKeepsTheContract(SourceConnectorContract):
    @pytest.fixture
    def world(self, guarded_root: Path) -> SourceWorld:
        return FilesystemWorld(guarded_root)


# ------------------------------------------------------------------------------------------------ settings


def test_an_unknown_setting_is_an_error() -> None:
    """A misspelt `exlude` would publish what it should hold back."""
    with pytest.raises(ValidationError, match="exlude"):
        FilesystemSettings.model_validate({"type": "filesystem", "path": ".", "exlude": ["*"]})


@pytest.mark.parametrize("pattern", ["", "# a comment", "!", "[z-a]", "a\\"])
def test_a_pattern_that_can_match_nothing_is_an_error(pattern: str) -> None:
    """It would silently take in nothing, or leave out nothing."""
    with pytest.raises(ValidationError, match="not a pattern"):
        FilesystemSettings.model_validate({"type": "filesystem", "path": ".", "exclude": [pattern]})


async def test_the_path_may_start_at_the_home_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is what people write."""
    monkeypatch.setenv("HOME", str(root.parent))
    write(root, "a.md")

    assert await listed(root, path="~/root") == ["a.md"]


# ---------------------------------------------------------------------------------------- what is taken in


async def test_a_pattern_with_two_stars_matches_at_the_top_too(root: Path) -> None:
    """`**/*.md` means every Markdown file, as in git."""
    write(root, "a.md", "guide/b.md", "guide/deep/c.md", "guide/d.txt")

    assert await listed(root, include=["**/*.md"]) == ["a.md", "guide/b.md", "guide/deep/c.md"]


async def test_the_last_pattern_that_matches_decides(root: Path) -> None:
    """A folder can be taken in as a whole, and parts of it taken out again."""
    write(root, "a.md", "guide/b.md", "guide/drafts/c.md", "guide/drafts/ready.md")

    include = ["guide/", "!guide/drafts/", "guide/drafts/ready.md"]

    assert await listed(root, include=include) == ["guide/b.md", "guide/drafts/ready.md"]


async def test_an_excluded_folder_is_left_out_whatever_is_included(root: Path) -> None:
    """`exclude` has the last word."""
    write(root, "a.md", "drafts/b.md", "guide/drafts/c.md")

    assert await listed(root, include=["**/*.md", "drafts/b.md"], exclude=["drafts/"]) == ["a.md"]


async def test_hidden_files_and_folders_are_left_out_unless_asked_for(root: Path) -> None:
    """`.git` and `.env` are seldom documentation."""
    write(root, "a.md", ".env", ".git/config")

    assert await listed(root) == ["a.md"]
    assert await listed(root, hidden=True) == [".env", ".git/config", "a.md"]


async def test_ignore_files_hold_in_their_folder_and_nearer_ones_overrule(root: Path) -> None:
    """These are git's rules, negation included."""
    write(root, "a.log", "keep.log", "app/a.log", "app/b.log", "app/deep/b.log", "app/c.tmp", "c.tmp")
    write(root, ".gitignore", content="*.log\n!keep.log\n")
    write(root, "app/.gitignore", content="!b.log\n/*.tmp\n")

    assert await listed(root) == ["app/b.log", "app/deep/b.log", "c.tmp", "keep.log"]


async def test_nothing_below_an_ignored_folder_comes_back(root: Path) -> None:
    """Git does not look into an ignored folder, so no negation in it or above it counts."""
    write(root, "build/a.md", "build/keep.md", "guide/b.md")
    write(root, ".gitignore", content="build/\n!build/keep.md\n")
    write(root, "build/.gitignore", content="!*\n")

    assert await listed(root) == ["guide/b.md"]


async def test_a_negated_folder_does_not_bring_back_its_ignored_files(root: Path) -> None:
    """A pattern speaks of the entry that it matches, not of all below it."""
    write(root, "keep/a.log", "keep/b.md")
    write(root, ".gitignore", content="*.log\n!keep\n")

    assert await listed(root) == ["keep/b.md"]


async def test_memsyncignore_overrules_gitignore(root: Path) -> None:
    """What is not worth a commit may be worth remembering, and the other way round."""
    write(root, "a.md", "b.log", "c.log")
    write(root, ".gitignore", content="*.log\n")
    write(root, ".memsyncignore", content="a.md\n!b.log\n")

    assert await listed(root) == ["b.log"]


async def test_a_broken_line_in_an_ignore_file_is_passed_over(root: Path) -> None:
    """Git does the same; the other lines still hold."""
    write(root, "a.md", "b.log", "b.md")
    write(root, ".gitignore", content="\ufeff[z-a]\n!\n\n# comment\n*.log\r\n")
    write(root, ".memsyncignore", content="\ufeffb.md\n")

    assert await listed(root) == ["a.md"]


async def test_a_folder_whose_ignore_file_cannot_be_read_is_not_listed(guarded_root: Path) -> None:
    """Listing it regardless could publish what the file holds back."""
    write(guarded_root, "a.md", "secret/b.md", "secret/.gitignore")
    forbid(guarded_root / "secret/.gitignore")

    events = await scan_all(connect(guarded_root))

    assert [event.id for event in events if isinstance(event, DocumentRef)] == ["a.md"]
    assert [event.scope for event in events if isinstance(event, ScanError)] == ["secret/"]


async def test_locating_follows_the_same_rules_as_the_scan(root: Path) -> None:
    """A document that the settings leave out now must not be brought back by a replay."""
    write(root, "a.md", "b.txt", ".hidden.md", "drafts/c.md", "ignored/d.md", ".git/e.md")
    write(root, ".gitignore", content="ignored/\n")
    connector = connect(root, include=["*.md"], exclude=["drafts/"])
    names = ["a.md", "b.txt", ".hidden.md", "drafts/c.md", "ignored/d.md", ".git/e.md", "drafts"]

    located = [name for name in names if await connector.locate(DocumentId(name))]

    assert located == ["a.md"]


@pytest.mark.parametrize(
    "document",
    ["", "/a.md", "./a.md", "guide/../a.md", "a.md/", "a.md/b", "a\0b", "\ud800", "caf%C3%A9.md", "%61.md"],
)
async def test_an_id_that_no_scan_gives_is_located_nowhere(root: Path, document: str) -> None:
    """An id is looked up, never interpreted as a path."""
    write(root, "a.md", "guide/b.md", "café.md")

    assert await connect(root).locate(DocumentId(document)) is None


@pytest.mark.parametrize("document", ["../secret.md", "caf%C3%A9.md"])
async def test_an_id_that_no_scan_gives_is_not_fetched(root: Path, document: str) -> None:
    """Ids come back from the ledger and from dead letters, which others could have written."""
    write(root.parent, "secret.md")
    write(root, "café.md")

    with pytest.raises(DocumentVanished):
        await connect(root).fetch(DocumentRef(DocumentId(document), uri=""))


# -------------------------------------------------------------------------------------------------- names


async def test_every_name_that_a_file_can_have_makes_a_document(root: Path) -> None:
    """Newlines, emoji, quotes and names of full length are rare and real."""
    names = [
        "new\nline.md",
        "fol\nder/a.md",
        "ends with newline.md\n",
        "🦊 fox.md",
        "e\u0301.md",
        "\u00e9.md",
        'quote".md',
        "back\\slash.md",
        "100%.md",
        "a%20b.md",
        "#1?.md",
        "n" * 252 + ".md",
    ]
    write(root, *names)
    connector = connect(root, include=["**/*.md*"])

    refs = await scan_refs(connector)

    assert sorted(refs) == sorted(names)
    for document, ref in refs.items():
        assert (await connector.fetch(ref)).content == b"text"
        assert await connector.locate(document) == ref


async def test_names_that_are_not_unicode_have_ids_of_their_own(root: Path) -> None:
    """The id must be valid text, unique also beside a name that looks like it, and lead back to the file."""
    names = [b"caf\xe9.md", b"caf%E9.md", b"caf%25E9.md", b"caf\xc3\xa9.md", b"b\xffd/a.md", b"%\xff.md"]
    for name in names:
        write_bytes(root, name, content=name)
    connector = connect(root)

    refs = await scan_refs(connector)

    contents = [(await connector.fetch(ref)).content for ref in refs.values()]
    assert sorted(contents) == sorted(names)
    assert "".join(refs).encode("utf-8")
    assert {"caf%E9.md", "caf%25E9.md", "café.md", "b%FFd/a.md"} < set(refs)
    for document, ref in refs.items():
        assert await connector.locate(document) == ref


async def test_the_uri_leads_to_the_file(root: Path) -> None:
    """It is what a reader of the memory follows."""
    write(root, "a folder/ü.md")

    refs = await scan_refs(connect(root))

    assert [ref.uri for ref in refs.values()] == [(root / "a folder/ü.md").as_uri()]


async def test_five_thousand_files_come_in_an_order_that_names_alone_decide(root: Path) -> None:
    """Two runs over the same files do the same things in the same order."""
    write(root, *(f"{number % 50}/{number}.md" for number in range(5_000)))
    twin = shutil.copytree(root, root.parent / "twin")

    documents, twins = await scan_refs(connect(root)), await scan_refs(connect(twin))

    assert len(documents) == 5_000
    assert list(documents) == list(twins) == sorted(documents, key=lambda document: document.split("/"))


# ---------------------------------------------------------------------------------------------- unchanged?


async def test_an_edit_of_equal_length_that_restores_the_time_shows(root: Path) -> None:
    """Size and modification time are as before, so only the change time can tell."""
    path = root / "a.md"
    write(root, "a.md", content="old")
    before = (await scan_refs(connect(root)))[DocumentId("a.md")]
    status = path.stat()

    while path.stat().st_ctime_ns == status.st_ctime_ns:
        path.write_text("new")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    after = (await scan_refs(connect(root)))[DocumentId("a.md")]
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert after.size_bytes == before.size_bytes
    assert after.fingerprint != before.fingerprint


async def test_a_file_changed_just_now_has_no_fingerprint_yet(root: Path) -> None:
    """Another write within the same tick of the clock would leave size and times as they are."""
    write(root, "a.md")
    changed_ns = (root / "a.md").stat().st_ctime_ns

    fingerprints = []
    for age_ms in (-1_000, 0, 49, 51):
        refs = await scan_refs(connect(root, now_ns=clock_at(changed_ns + age_ms * 1_000_000)))
        fingerprints.append(refs[DocumentId("a.md")].fingerprint is not None)

    assert fingerprints == [False, False, False, True]


async def test_a_time_in_whole_seconds_must_be_older(root: Path) -> None:
    """FAT counts in steps of two seconds; the modification time there is all that tells."""
    write(root, "a.md")
    second_ns = 1_000_000_000
    modified_ns = (root / "a.md").stat().st_ctime_ns // second_ns * second_ns + 10 * second_ns
    os.utime(root / "a.md", ns=(modified_ns, modified_ns))

    fingerprints = []
    for age_s in (0, 1, 2):
        refs = await scan_refs(connect(root, now_ns=clock_at(modified_ns + age_s * second_ns)))
        fingerprints.append(refs[DocumentId("a.md")].fingerprint is not None)

    assert fingerprints == [False, False, True]


async def test_a_modification_time_in_the_future_is_no_reason_to_read_on_every_run(root: Path) -> None:
    """It was set by hand; the next write sets it back."""
    write(root, "a.md")
    os.utime(root / "a.md", (4_000_000_000, 4_000_000_000))

    refs = await scan_refs(connect(root))

    assert refs[DocumentId("a.md")].fingerprint is not None


@pytest.mark.parametrize(
    ("modified_s", "expected"),
    [
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (-1_000_000_000, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
async def test_modification_times_are_in_utc_and_never_before_1970(
    root: Path, modified_s: int, expected: datetime
) -> None:
    """A broken clock on some machine must not stop the run."""
    write(root, "a.md")
    os.utime(root / "a.md", (modified_s, modified_s))

    connector = connect(root)
    document = await connector.fetch((await scan_refs(connector))[DocumentId("a.md")])

    assert document.ref.modified_at == expected


async def test_an_unchanged_file_is_never_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing a hundred thousand files must not read them."""
    write(root, "a.md", "guide/b.md")
    opened: list[str] = []

    def note_and_open(path: str, *arguments: int) -> int:
        opened.append(path)
        return real_open(path, *arguments)

    real_open = os.open
    monkeypatch.setattr(os, "open", note_and_open)
    await scan_refs(connect(root, ignore_files=[]))

    assert opened == []


# ------------------------------------------------------------------------------------------ symbolic links


async def test_a_file_is_a_document_under_each_of_its_names(root: Path) -> None:
    """A link says that the file belongs in both places."""
    write(root, "guide/a.md")
    (root / "linked.md").symlink_to("guide/a.md")
    (root / "linked").symlink_to("guide")
    os.link(root / "guide/a.md", root / "hard.md")

    connector = connect(root)
    refs = await scan_refs(connector)

    assert sorted(refs) == ["guide/a.md", "hard.md", "linked.md", "linked/a.md"]
    for document, ref in refs.items():
        assert (await connector.fetch(ref)).content == b"text"
        assert await connector.locate(document) == ref


async def test_links_that_go_round_in_circles_are_cut(root: Path) -> None:
    """A walk must end."""
    write(root, "a/a.md", "b/b.md")
    (root / "a/up").symlink_to("..")
    (root / "a/self").symlink_to(".")
    (root / "a/to-b").symlink_to("../b")
    (root / "b/to-a").symlink_to("../a")
    (root / "ouroboros").symlink_to("ouroboros")

    assert await listed(root) == ["a/a.md", "a/to-b/b.md", "b/b.md", "b/to-a/a.md"]
    assert await skipped(root) == dict.fromkeys(
        ["a/up", "a/self", "a/to-b/to-a", "b/to-a/up", "b/to-a/self", "b/to-a/to-b", "ouroboros"], "symlink loop"
    )


async def test_a_link_out_of_the_root_is_skipped_and_counted(root: Path) -> None:
    """A folder of documents must not become a window on the machine."""
    write(root.parent, "secret.md", "root-sibling/b.md")
    (root / "file.md").symlink_to("../secret.md")
    (root / "folder").symlink_to("../root-sibling")
    (root / "broken.md").symlink_to("nowhere.md")

    assert await listed(root) == []
    assert await skipped(root) == {
        "broken.md": "broken symlink",
        "file.md": "symlink out of the root",
        "folder": "symlink out of the root",
    }
    assert await connect(root).locate(DocumentId("file.md")) is None
    assert await connect(root).locate(DocumentId("folder/b.md")) is None


async def test_no_link_is_followed_when_the_settings_say_so(root: Path) -> None:
    """Then each file has one name."""
    write(root, "guide/a.md")
    (root / "linked.md").symlink_to("guide/a.md")
    (root / "linked").symlink_to("guide")

    assert await listed(root, follow_symlinks=False) == ["guide/a.md"]
    assert await skipped(root, follow_symlinks=False) == {"linked": "symlink", "linked.md": "symlink"}


async def test_the_root_itself_may_be_a_link(root: Path) -> None:
    """`current` is often a link to the newest release."""
    write(root, "a.md", "guide/b.md")
    (root.parent / "current").symlink_to("root")
    connector = connect(root.parent / "current", follow_symlinks=False)

    refs = await scan_refs(connector)

    assert sorted(refs) == ["a.md", "guide/b.md"]
    assert (await connector.fetch(refs[DocumentId("a.md")])).content == b"text"


@pytest.mark.parametrize("follow_symlinks", [True, False])
async def test_a_folder_swapped_for_a_link_after_the_scan_does_not_lead_out(
    root: Path, *, follow_symlinks: bool
) -> None:
    """What counts is where the opened file lies, not what its name was when it was listed."""
    write(root, "guide/a.md")
    write(root.parent, "elsewhere/a.md", content="secret")
    connector = connect(root, follow_symlinks=follow_symlinks)
    ref = (await scan_refs(connector))[DocumentId("guide/a.md")]
    shutil.rmtree(root / "guide")
    (root / "guide").symlink_to("../elsewhere")

    with pytest.raises(UnreadableDocument) as caught:
        await connector.fetch(ref)

    assert caught.value.code == "outside_root"
    assert "secret" not in str(caught.value)


async def test_a_link_that_leads_out_only_while_the_file_is_opened_is_found_out(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is fine again when it is checked says nothing of the file that was opened."""
    write(root, "a.md", content="public")
    write(root.parent, "secret.md", content="secret")
    connector = connect(root)
    ref = (await scan_refs(connector))[DocumentId("a.md")]
    (root / "a.md").unlink()
    (root / "a.md").symlink_to("../secret.md")
    real_realpath = os.path.realpath

    def realpath_after_swapping_back(path: str, *, strict: bool = False) -> str:
        (root / "a.md").unlink()
        write(root, "a.md", content="public")
        return real_realpath(path, strict=strict)

    monkeypatch.setattr(os.path, "realpath", realpath_after_swapping_back)
    document = await connector.fetch(ref)

    assert document.content == b"public", "read once more"


async def test_a_copy_of_the_reader_in_another_process_reads_the_same(root: Path) -> None:
    """Documents are read where they are parsed: of the connector's settings nothing may be missing there."""
    for number in range(70):
        write(root, f"{number:02}.md", content=f"text {number}")
    write(root, "large.md", content="x" * 200)
    connector = connect(root, max_bytes=100)
    refs = (await scan_refs(connector)).values()
    (root / "13.md").unlink()

    assert isinstance(connector, HasDocumentReader)
    reader = pickle.loads(pickle.dumps(connector.document_reader))

    refused = 0
    for ref in refs:
        try:
            expected = await connector.fetch(ref)
        except UnreadableDocument as error:
            refused += 1
            with pytest.raises(type(error), match=re.escape(str(error))):
                reader.read(ref)
        else:
            assert reader.read(ref) == expected
    assert refused == 2


# ------------------------------------------------------------------------------------- what is not a file


async def test_what_is_not_a_file_is_skipped_and_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a FIFO would wait for ever, and a device may never end."""
    os.mkfifo(root / "fifo")
    monkeypatch.chdir(root)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")

    assert await listed(root) == []
    assert await skipped(root) == {"fifo": "FIFO", "socket": "socket"}


async def test_a_fifo_in_the_place_of_a_file_does_not_stop_the_run(root: Path) -> None:
    """Opening it the usual way would wait for a writer."""
    write(root, "a.md")
    connector = connect(root)
    ref = (await scan_refs(connector))[DocumentId("a.md")]
    (root / "a.md").unlink()
    os.mkfifo(root / "a.md")

    with pytest.raises(UnreadableDocument) as caught:
        await connector.fetch(ref)

    assert caught.value.code == "not_a_file"


async def test_a_fifo_in_the_place_of_an_ignore_file_does_not_stop_the_run(root: Path) -> None:
    """It holds no rules."""
    write(root, "a.md")
    os.mkfifo(root / ".gitignore")

    assert await listed(root) == ["a.md"]


# ------------------------------------------------------------------------------------------------- reading


def edit_while_read(monkeypatch: pytest.MonkeyPatch, path: Path, *, times: int) -> None:
    """Let another program append to `path` after the connector has looked at it and before it reads."""
    edits_left = times
    real_fstat = os.fstat

    def fstat_then_edit(descriptor: int) -> os.stat_result:
        nonlocal edits_left
        status = real_fstat(descriptor)
        if edits_left:
            edits_left -= 1
            with path.open("a") as file:
                file.write("+")
        return status

    monkeypatch.setattr(os, "fstat", fstat_then_edit)


async def test_a_file_that_changes_while_it_is_read_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the old and half of the new text is a document that never was."""
    write(root, "a.md")
    connector = connect(root)
    ref = (await scan_refs(connector))[DocumentId("a.md")]
    edit_while_read(monkeypatch, root / "a.md", times=1)

    fetched = await connector.fetch(ref)

    assert fetched.content == b"text+"
    assert fetched.ref._replace(modified_at=None) == await connector.locate(ref.id)


async def test_a_file_that_keeps_changing_is_given_up_for_this_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Following a log file would never end."""
    write(root, "a.md")
    connector = connect(root)
    ref = (await scan_refs(connector))[DocumentId("a.md")]
    edit_while_read(monkeypatch, root / "a.md", times=100)

    with pytest.raises(UnreadableDocument) as caught:
        await connector.fetch(ref)

    assert caught.value.code == "changed_while_read"
    assert "text" not in str(caught.value)


async def test_a_file_that_is_too_large_is_not_read(root: Path) -> None:
    """The message must say what to change."""
    write(root, "a.md")
    os.truncate(root / "a.md", 200 * 1024 * 1024)
    connector = connect(root)
    ref = (await scan_refs(connector))[DocumentId("a.md")]

    with pytest.raises(UnreadableDocument, match=r"209,715,200 bytes.*source\.max_bytes.*52,428,800") as caught:
        await connector.fetch(ref)

    assert caught.value.code == "too_large"


async def test_a_file_of_just_the_allowed_size_is_read(root: Path) -> None:
    """The limit is what is allowed, not the first size that is not."""
    write(root, "a.md", content="12345")

    connector = connect(root, max_bytes=5)
    ref = (await scan_refs(connector))[DocumentId("a.md")]

    assert (await connector.fetch(ref)).content == b"12345"


async def test_a_file_without_permission_is_unreadable_and_listed(guarded_root: Path) -> None:
    """It is there, so nothing of it may be deleted; the reason goes into its dead letter."""
    write(guarded_root, "a.md")
    forbid(guarded_root / "a.md")
    connector = connect(guarded_root)
    ref = (await scan_refs(connector))[DocumentId("a.md")]

    with pytest.raises(UnreadableDocument, match="Permission denied") as caught:
        await connector.fetch(ref)

    assert caught.value.code == "PermissionError"


async def test_files_that_can_be_named_but_not_looked_at_are_reported_one_by_one(guarded_root: Path) -> None:
    """A folder without the right to enter it still gives its names away."""
    write(guarded_root, "a.md", "closed/b.md")
    (guarded_root / "closed").chmod(0o444)

    events = await scan_all(connect(guarded_root, ignore_files=[]))

    errors = [(event.scope, event.code) for event in events if isinstance(event, ScanError)]
    assert errors == [("closed/b.md", "PermissionError")]
    assert events[-1] == ScanComplete("")


async def test_a_file_whose_folder_became_a_file_has_vanished(root: Path) -> None:
    """Nothing can lie below a file."""
    write(root, "guide/a.md")
    connector = connect(root)
    ref = (await scan_refs(connector))[DocumentId("guide/a.md")]
    shutil.rmtree(root / "guide")
    write(root, "guide")

    with pytest.raises(DocumentVanished):
        await connector.fetch(ref)

    assert await connector.locate(ref.id) is None


# ------------------------------------------------------------------------------------------------ the root


async def test_a_root_that_is_a_file_is_an_error_that_says_what_to_check(root: Path) -> None:
    """The user set the wrong path; the message names the setting."""
    write(root, "a.md")

    with pytest.raises(SourceError, match=r"Not a directory.*source\.path"):
        await scan_all(connect(root / "a.md"))


async def test_a_root_without_permission_is_an_error(guarded_root: Path) -> None:
    """It is not an empty folder."""
    write(guarded_root, "a.md")
    forbid(guarded_root)

    with pytest.raises(SourceError, match="Permission denied"):
        await scan_all(connect(guarded_root))


def move_away(root: Path, *, is_replaced: bool) -> None:
    root.rename(root.parent / "moved")
    if is_replaced:
        root.mkdir()


async def drain(scan: AsyncIterator[Sequence[SourceEvent]], events: list[SourceEvent]) -> None:
    async for more in scan:
        events.extend(more)


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_root_that_goes_while_it_is_listed_is_never_complete(root: Path, *, is_replaced: bool) -> None:
    """A volume unmounted half-way, or a release switched, must not look like documents removed."""
    write(root, *(f"{number % 20}/{number}.md" for number in range(2_000)))
    scan = connect(root).scan(None)
    events = list(await anext(scan))
    move_away(root, is_replaced=is_replaced)

    with pytest.raises(SourceError):
        await drain(scan, events)

    assert not any(isinstance(event, ScanComplete) for event in events)


async def test_a_document_removed_during_the_scan_is_simply_not_there(root: Path) -> None:
    """Files come and go; that is no error of the source."""
    write(root, *(f"{number % 20:02}/{number}.md" for number in range(2_000)))
    scan = connect(root).scan(None)
    events = list(await anext(scan))
    shutil.rmtree(root / "19")

    await drain(scan, events)

    assert events[-1] == ScanComplete("")
    assert not any(isinstance(event, ScanError) for event in events)
    assert not any(isinstance(event, DocumentRef) and event.id.startswith("19/") for event in events)


# ------------------------------------------------------------------------------------------------- renames


@pytest.mark.parametrize("is_young", [False, True])
async def test_a_renamed_file_is_traced_to_what_it_was_called_before(root: Path, is_young: bool) -> None:
    """A new name changes its change time, and for a moment no time of it can be trusted."""
    (root / "before.md").write_bytes(b"text")
    (root / "other.md").write_bytes(b"other text")
    before = await scan_refs(connect(root))
    (root / "before.md").rename(root / "now.md")

    renamed_ns = (root / "now.md").stat().st_ctime_ns
    connector = connect(root, now_ns=clock_at(renamed_ns if is_young else renamed_ns + HOUR_NS))
    now = (await scan_refs(connector))[DocumentId("now.md")]

    trace = connector.trace(now)
    assert trace is not None
    assert (now.fingerprint is None) == is_young
    fingerprints = {document: ref.fingerprint or "" for document, ref in before.items()}
    assert fingerprints[DocumentId("before.md")].startswith(trace)
    assert not fingerprints[DocumentId("other.md")].startswith(trace)
