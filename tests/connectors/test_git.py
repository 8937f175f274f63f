"""Files of git repositories as documents; and a git that fails at any of its calls."""

import os
import re
import shutil
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from pydantic import ValidationError

from connectors.git.connector import GitConnector, GitSettings
from connectors.kit.contract import SourceWorld, scan_all, scan_into, scan_refs
from pipeline.configuration.loading import load_sources
from pipeline.errors import (
    ConfigurationError,
    DocumentVanished,
    SourceError,
    SyncError,
    UnreadableDocument,
    UnsupportedDocument,
)
from pipeline.model import DocumentId, DocumentRef, DocumentSkipped, Operation, ScanComplete, ScanError, SourceEvent
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import AnyWorld, in_place

from .git_faults import FAULTS, install_faulty_git
from .git_world import COMMITTED_AT, GitContract, GitMirrorContract, GitWorld, without_configuration


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    without_configuration(monkeypatch)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GitWorld]:
    made = GitWorld(tmp_path)
    yield made
    await made.aclose()


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[GitWorld]:
    made = GitWorld(tmp_path, is_remote=True)
    yield made
    await made.aclose()


class TestGitConnectorKeepsTheContract(GitContract):
    @pytest.fixture
    def world(self, world: GitWorld) -> SourceWorld:
        return world


class TestGitConnectorKeepsTheContractByAMirror(GitMirrorContract):
    @pytest.fixture
    def world(self, remote: GitWorld) -> SourceWorld:
        return remote


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": ""}, "url"),
        ({"url": "https://me:hunter2@git.example.com/a.git"}, "no password"),
        ({"url": "https://hunter2@git.example.com/a.git"}, "no password or token"),
        ({"url": "ssh://git:hunter2@git.example.com/a.git"}, "no password"),
        ({"url": "git:hunter2@git.example.com/a.git"}, "without a password"),
        ({"url": "https://git.example.com/a.git?token=hunter2"}, "behind `\\?`"),
        ({"url": "https://git.example.com/a.git#hunter2"}, "behind `\\?` or `#`"),
        ({"url": "https://[it/a.git"}, "no URL|not a URL"),
        ({"url": "ext::sh -c 'touch it'"}, "run another program"),
        ({"url": "fd::17"}, "run another program"),
        ({"url": "--upload-pack=it"}, "option of git"),
        ({"url": "-oProxyCommand=it:a"}, "option of git"),
        ({"url": "ssh://-oProxyCommand=it/a"}, "host"),
        ({"url": "http://git.example.com/a.git"}, "https://"),
        ({"url": "git://git.example.com/a.git"}, "https://"),
        ({"url": "https://git.example.com/"}, "host and a path"),
        ({"url": "https:///a.git"}, "host and a path"),
        ({"url": "file://host/a.git"}, "file:///PATH"),
        ({"url": "a\nb"}, "control"),
        ({"ref": ""}, "branch"),
        ({"ref": "--upload-pack=touch hunter2"}, "branch"),
        ({"ref": "-x"}, "branch"),
        ({"ref": "a b"}, "branch"),
        ({"ref": "a..b"}, "branch"),
        ({"ref": "a:refs/heads/b"}, "branch"),
        ({"ref": "+a"}, None),
        ({"ref": "main^{tree}"}, "branch"),
        ({"ref": "HEAD~1"}, "branch"),
        ({"ref": "main@{1}"}, "branch"),
        ({"ref": "refs/heads/*"}, "branch"),
        ({"ref": "a.lock"}, "branch"),
        ({"ref": "@"}, "branch"),
        ({"path": "../a"}, "without `..`"),
        ({"path": "a//b"}, "without `..`"),
        ({"include": ["["]}, "not a pattern"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"brnach": "main"}, "brnach"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(
    tmp_path: Path, settings: dict[str, Any], message: str | None
) -> None:
    """A part of an address or a name could be an option of git, or a program to run. Nor is a password repeated."""
    values = {"type": "git", "url": "https://git.example.com/a.git", **settings}
    if message is None:
        GitSettings.model_validate(values)
        return
    with pytest.raises(ValidationError, match=message):
        GitSettings.model_validate(values)
    if "hunter2" in str(settings.get("url")):
        lines = ["name: a", "source:", "  type: git", f'  url: "{settings["url"]}"']
        lines += ["destination:", "  type: agentcore", "  memory_id: handbook-a1B2c3D4e5", "  region: us-east-1"]
        (tmp_path / "a.yaml").write_text("\n".join(lines))
        with pytest.raises(ConfigurationError) as caught:
            load_sources([tmp_path / "a.yaml"])
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("https://git.example.com/a.git", "git+https://git.example.com/a.git#b.md"),
        ("ssh://git@git.example.com:22/a.git", "git+ssh://git@git.example.com:22/a.git#b.md"),
        ("git@git.example.com:team/a.git", "git+ssh://git@git.example.com/team/a.git#b.md"),
        ("file:///srv/a.git", "git+file:///srv/a.git#b.md"),
        ("../a", "git+file:///srv/a#b.md"),
        ("./a:b", "git+file:///srv/x/a%3Ab#b.md"),
    ],
)
def test_a_document_is_named_by_its_repository(url: str, uri: str) -> None:
    """The commit is not in it: it changes while the document does not."""
    connector = GitConnector(GitSettings.model_validate({"type": "git", "url": url}), Path("/srv/x"))

    assert connector._uri + "b.md" == uri


# ------------------------------------------------------------------------------------------------- listing


@pytest.fixture(params=[False, True], ids=["directly", "by a mirror"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[GitWorld]:
    made = GitWorld(tmp_path, is_remote=request.param)
    yield made
    await made.aclose()


async def test_a_renamed_file_is_another_document_with_the_same_fingerprint(either: GitWorld) -> None:
    """Its content is the same blob."""
    old = either.put("a.md", b"text")
    before = await scan_refs(either.connector())
    either.remove("a.md")
    new = either.put("b.md", b"text")

    after = await scan_refs(either.connector())

    assert set(after) == {new}
    assert after[new].fingerprint == before[old].fingerprint


async def test_a_renamed_file_keeps_its_records(either: GitWorld) -> None:
    """A folder that is renamed costs updates, and trips no guard."""
    either.put("drafts/a.md", b"text of a")
    either.put("b.md", b"text of b")
    memory = MemoryDestination()
    runs = AnyWorld(either.connector(), memory)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as runs.state:
        await runs.do()
        memory.requests.clear()
        either.git("mv", "drafts", "guide")
        either.commit()

        report = await runs.do()

    assert [batch.operation for batch in memory.requests] == [Operation.UPDATE]
    assert report.documents.renamed == 1
    assert sorted(record.document for record in memory.records.values()) == ["b.md", "guide/a.md"]


async def test_history_that_was_rewritten_changes_nothing_that_it_left_alone(either: GitWorld) -> None:
    """After a rebase and a forced push every commit is another, and nearly every file the same."""
    kept, edited, gone = either.put("a.md", b"a"), either.put("b.md", b"b"), either.put("c.md", b"c")
    connector = either.connector()
    before = await scan_refs(connector)
    either.git("checkout", "--quiet", "--orphan", "other")
    either.put("b.md", b"B")
    either.remove("c.md")
    either.commit("rewritten")
    either.git("branch", "--quiet", "--force", "main")

    after = await scan_refs(connector)

    assert after[kept] == before[kept]
    assert after[edited].fingerprint != before[edited].fingerprint
    assert gone not in after


async def test_a_new_clone_says_the_same(remote: GitWorld) -> None:
    """A lost cache costs a fetch of the repository, and of no document."""
    remote.put("a.md", b"text")
    before = await scan_refs(remote.connector())
    shutil.rmtree(remote.folder / ".memsync")

    assert await scan_refs(remote.connect()) == before


async def test_a_mirror_is_its_owners_and_holds_no_history(remote: GitWorld) -> None:
    """It holds what documents hold."""
    remote.put("a.md", b"old")
    remote.commit()
    old = remote.git("rev-parse", "HEAD:a.md")
    remote.put("a.md", b"new")

    await scan_all(remote.connector())

    assert {path.stat().st_mode & 0o777 for path in (remote.mirror, *remote.mirror.parents[:2])} == {0o700}
    with pytest.raises(subprocess.CalledProcessError):
        remote.git("cat-file", "-e", old, at=remote.mirror)


async def test_a_branch_that_is_gone_is_an_error(either: GitWorld) -> None:
    """Not an empty listing, also if a mirror still has it."""
    either.put("a.md", b"text")
    either.commit()
    either.git("branch", "other")
    either.push("other:other")
    connector = either.connect(ref="other")
    assert await scan_refs(connector)
    either.git("branch", "--quiet", "--delete", "--force", "other")
    either.push(":other")
    events: list[SourceEvent] = []

    with pytest.raises(SourceError, match="other"):
        await scan_into(events, connector)

    assert events == []


@pytest.mark.parametrize("ref", [None, "main"])
async def test_a_repository_without_a_commit_is_an_error(either: GitWorld, ref: str | None) -> None:
    """It may be the wrong one, or one that is only being made; an empty tree is something else."""
    with pytest.raises(SourceError, match=r"with a commit|git ls-remote file:///\S+ (HEAD|main)` must answer"):
        await scan_all(either.connect(ref=ref))


async def test_a_head_that_names_no_branch_is_an_error(either: GitWorld) -> None:
    """As on servers whose default branch was renamed."""
    either.put("a.md", b"text")
    either.commit()
    (either.root / ("HEAD" if either.is_remote else ".git/HEAD")).write_text("ref: refs/heads/never\n")

    with pytest.raises(SourceError, match="HEAD"):
        await scan_all(either.connect())
    assert await scan_refs(either.connect(ref="main"))


async def test_a_folder_that_is_no_repository_is_an_error(tmp_path: Path) -> None:
    """Nor is the repository taken that it happens to lie in."""
    world = GitWorld(tmp_path)
    world.put("inner/a.md", b"text")
    world.commit()

    with pytest.raises(SourceError, match="not a git repository"):
        await scan_all(world.connect(url="work/inner"))


@pytest.mark.parametrize("name", ["light", "annotated", "commit", "full"])
async def test_a_tag_or_a_commit_stays_what_it_is(either: GitWorld, name: str) -> None:
    """While the branch goes on."""
    document = either.put("a.md", b"text")
    commit = either.commit()
    either.git("tag", "light")
    either.git("tag", "--annotate", "--message", "words", "annotated")
    either.push("HEAD:main", "light", "annotated")
    either.put("a.md", b"later")
    either.put("b.md", b"later")
    either.commit()
    connector = either.connect(ref={"commit": commit, "full": "refs/tags/light"}.get(name, name))

    refs = await scan_refs(connector)

    assert set(refs) == {document}
    fetched = await connector.fetch(refs[document])
    assert (fetched.content, fetched.ref.modified_at) == (b"text", COMMITTED_AT)


async def test_a_tag_of_a_tree_is_an_error(either: GitWorld) -> None:
    """It is no state of the repository."""
    either.put("a.md", b"text")
    either.commit()
    either.git("tag", "tree", "HEAD^{tree}")
    either.push("tree")

    with pytest.raises(SourceError, match="tree"):
        await scan_all(either.connect(ref="tree"))


async def test_only_what_the_folder_and_the_patterns_take_in_is_listed(either: GitWorld) -> None:
    """And locating agrees with it; patterns speak of paths in the repository."""
    names = ["docs/en/a.md", "docs/en/b.txt", "docs/en/drafts/c.md", "docs/d.md", "docs/enx/e.md", "en/f.md", "g.md"]
    for name in names:
        either.put(name, b"x")
    connector = either.connector(path="/docs/en/", include=["/docs/**/*.md"], exclude=["drafts/", "!drafts/c.md"])

    refs = await scan_refs(connector)
    located = {name: await connector.locate(DocumentId(name)) for name in (*names, "docs/en", "docs/en/a.md/x")}

    assert set(refs) == {"docs/en/a.md"}
    assert {name: ref for name, ref in located.items() if ref} == refs
    assert await scan_all(either.connect(path="docs/en", exclude=["docs/"])) == [ScanComplete("")]
    assert await either.connect(path="docs/en", exclude=["docs/"]).locate(DocumentId("docs/en/a.md")) is None


@pytest.mark.parametrize("path", ["dosc", "docs/a.md", "docs/a.md/b", "*"])
async def test_a_folder_that_is_not_there_is_an_error(either: GitWorld, path: str) -> None:
    """A misspelt one must not empty the memory."""
    either.put("docs/a.md", b"x")

    with pytest.raises(SourceError, match=re.escape(f"There is no folder {path!r}")):
        await scan_all(either.connector(path=path))


NAMES = [
    b"a b.md",
    b"line\nbreak.md",
    b"quote\"s' and \\.md",
    b"-dash.md",
    b"--upload-pack=x",
    b"-folder/-.md",
    b"\xff\xfe.md",
    b"folder \xe4/\xc3\xa4.md",
    b"a%20b%FF.md",
    b"tab\there.md",
    b"q?x#y.md",
    b":(glob)*.md",
    b"HEAD",
    b"\xe8\xaa\x9e.md",
    b"missing",
]


async def test_names_of_any_kind_are_listed_located_and_read(either: GitWorld) -> None:
    """A file's name can hold every byte but two."""
    for name in NAMES:
        either.put(os.fsdecode(name), b"content of " + name)
    connector = either.connector()

    refs = await scan_refs(connector)
    located = {document: await connector.locate(document) for document in refs}
    contents = {(await connector.fetch(ref)).content for ref in refs.values()}

    assert located == refs
    assert contents == {b"content of " + name for name in NAMES}
    assert {"%FF%FE.md", "folder %E4/ä.md", "a%20b%25FF.md", "line\nbreak.md"} <= set(refs)


async def test_links_and_submodules_are_counted_and_left_out(either: GitWorld) -> None:
    """A link leads anywhere, and a submodule is another repository."""
    commit = either.commit()
    (either.work / "link.md").symlink_to("/etc/passwd")
    either.put("a.md", b"text")
    either.git("add", "--all")
    either.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    either.git("commit", "--quiet", "--message", "links")
    either.push()
    connector = either.connect()

    events = await scan_all(connector)

    skipped = {event.id: event.reason for event in events if isinstance(event, DocumentSkipped)}
    assert skipped == {"link.md": "symlink", "module": "submodule"}
    assert [event.id for event in events if isinstance(event, DocumentRef)] == ["a.md"]
    for document in skipped:
        assert await connector.locate(document) is None
        with pytest.raises(DocumentVanished):
            await connector.fetch(DocumentRef(document, "x"))


async def test_replaced_objects_are_not_looked_at(world: GitWorld) -> None:
    """`git replace` shows other content under the same id, and so under the same fingerprint."""
    document = world.put("a.md", b"text")
    world.put("b.md", b"other")
    connector = world.connector()
    world.git("replace", world.git("rev-parse", "HEAD:a.md"), world.git("rev-parse", "HEAD:b.md"))

    assert (await connector.fetch((await scan_refs(connector))[document])).content == b"text"


async def test_the_environment_of_a_hook_leads_nowhere_else(
    world: GitWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git runs hooks with GIT_DIR set, and a run can be started by one."""
    document = world.put("a.md", b"text")
    connector = world.connector()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "elsewhere"))

    assert set(await scan_refs(connector)) == {document}


@pytest.mark.parametrize("kind", ["worktree", "sha256", "packed"])
async def test_repositories_of_other_kinds_are_read(either: GitWorld, kind: str) -> None:
    """A linked working tree, ids of 64 characters, and objects in a pack."""
    if kind == "sha256":
        shutil.rmtree(either.work)
        either.git("init", "--quiet", "--object-format=sha256", "--initial-branch=main", str(either.work), at=None)
        if either.is_remote:
            shutil.rmtree(either.root)
            either.git("init", "--quiet", "--bare", "--object-format=sha256", "-b", "main", str(either.root), at=None)
    names = {either.put(f"folder/{number}.md", b"text of %d" % number) for number in range(3)}
    either.commit()
    url = either.url
    if kind == "worktree":
        either.git("worktree", "add", "--quiet", str(either.folder / "linked"))
        url = f"file://{either.folder}/linked" if either.is_remote else "linked"
    if kind == "packed":
        either.git("gc", "--quiet", at=either.root)
    connector = either.connect(url=url)

    refs = await scan_refs(connector)

    assert set(refs) == names
    assert {(await connector.fetch(ref)).content for ref in refs.values()} == {b"text of 0", b"text of 1", b"text of 2"}


async def test_an_address_that_git_knows_by_another_name_is_fetched(
    remote: GitWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user's own configuration says of addresses holds; the password in it stays in it."""
    remote.put("a.md", b"text")
    configuration = tmp_path / "gitconfig"
    configuration.write_text('[url "https://me:hunter2@127.0.0.1:9/"]\n\tinsteadOf = https://git.example.com/\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))

    with pytest.raises(SourceError) as caught:
        await scan_all(remote.connector(url="https://git.example.com/a.git"))

    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_local_repository_is_asked_for_nothing_that_it_does_not_have(world: GitWorld, tmp_path: Path) -> None:
    """Its configuration may name a program to fetch with: a partial clone would run it."""
    world.put("a.md", b"text")
    world.commit()
    touched = tmp_path / "touched"
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": f"ext::touch {touched}",
        "remote.origin.promisor": "true",
        "protocol.ext.allow": "always",
    }.items():
        world.git("config", name, value)
    world.object_file("HEAD:a.md").unlink()
    connector = world.connect()

    for ref in (await scan_refs(connector)).values():
        with pytest.raises(UnreadableDocument, match="does not have"):
            await connector.fetch(ref)

    assert not touched.exists()


# ------------------------------------------------------------------------------------------------- fetching


async def test_what_is_too_large_is_not_read(either: GitWorld) -> None:
    """Whether its size is known from the listing, or only when it is asked for; and the next is read all the same."""
    large, small = either.put("large.md", b"x" * 1_001), either.put("small.md", b"x" * 1_000)
    connector = either.connector(max_bytes=1_000)
    refs = await scan_refs(connector)

    for ref in (refs[large], refs[large]._replace(size_bytes=None)):
        with pytest.raises(UnreadableDocument, match="1,001 bytes") as caught:
            await connector.fetch(ref)
        assert caught.value.code == "too_large"

    assert len((await connector.fetch(refs[small])).content) == 1_000


async def test_a_pointer_to_a_large_file_is_left_out(either: GitWorld) -> None:
    """The file is elsewhere; a page that only speaks of pointers is a page."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 12345\n" % (b"0" * 64)
    document, page = either.put("a.md", pointer), either.put("b.md", pointer + b"words\n" * 200)
    connector = either.connector()
    refs = await scan_refs(connector)

    with pytest.raises(UnsupportedDocument, match="Git LFS pointer"):
        await connector.fetch(refs[document])

    assert (await connector.fetch(refs[page])).content.startswith(pointer)


@pytest.mark.parametrize("content", [b"", b"garbage", zlib.compress(b"blob 5\0other"), zlib.compress(b"blob 4\0te")])
async def test_a_broken_object_is_one_dead_letter(
    world: GitWorld, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Whatever a failing disk left of it; and what git itself would not notice, or wait for."""
    monkeypatch.setattr("connectors.git.objects.ANSWER_S", 0.2)
    broken, whole = world.put("a.md", b"text"), world.put("b.md", b"other text")
    world.commit()
    world.spoil("HEAD:a.md", content)
    connector = world.connect()
    refs = await scan_refs(connector)

    with pytest.raises(UnreadableDocument, match=r"fsck") as caught:
        await connector.fetch(refs[broken])

    assert type(caught.value) is UnreadableDocument
    assert (await connector.fetch(refs[whole])).content == b"other text"
    assert await connector.locate(broken) == refs[broken]


async def test_a_repository_that_has_no_files_any_more_ends_the_run(world: GitWorld) -> None:
    """A thousand dead letters would say nothing of the documents."""
    documents = [world.put(f"{number:02}.md", b"text %d" % number) for number in range(21)]
    world.commit()
    for document in documents:
        world.object_file(f"HEAD:{document}").unlink()
    connector = world.connect()
    refs = await scan_refs(connector)
    outcomes: list[type[SyncError]] = []
    for document in documents:
        with pytest.raises(SyncError) as caught:
            await connector.fetch(refs[document])
        outcomes.append(type(caught.value))

    assert outcomes == [UnreadableDocument] * 19 + [SourceError] * 2


@pytest.mark.parametrize("name", ["HEAD", "HEAD^{tree}"])
async def test_a_broken_commit_is_an_error(world: GitWorld, name: str) -> None:
    """Then nothing can be listed."""
    world.put("a.md", b"text")
    world.commit()
    world.spoil(name, b"garbage")

    with pytest.raises(SourceError):
        await scan_all(world.connect())


async def test_git_that_ends_between_two_files_is_started_again(either: GitWorld) -> None:
    """It may be killed for its memory, or by a hand."""
    for number in range(3):
        either.put(f"{number}.md", b"text")
    connector = either.connector()
    refs = await scan_refs(connector)
    for ref in refs.values():
        process = connector._objects._process
        assert process is not None
        process.kill()
        await process.wait()

        assert (await connector.fetch(ref)).content == b"text"


@pytest.mark.parametrize("steps", range(16))
async def test_a_fetch_that_is_cancelled_leaves_no_half_answer(world: GitWorld, steps: int) -> None:
    """The rest of it would be taken for the next file."""
    first, second = world.put("a.md", b"a" * 300_000), world.put("b.md", b"text")
    connector = world.connector()
    refs = await scan_refs(connector)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connector.fetch, refs[first])
        for _ in range(steps):
            await checkpoint()
        tasks.cancel_scope.cancel()

    assert (await connector.fetch(refs[second])).content == b"text"


async def test_a_connector_that_was_closed_can_be_asked_again(either: GitWorld) -> None:
    """Closing is safe at any time, and to repeat."""
    document = either.put("a.md", b"text")
    connector = either.connector()
    refs = await scan_refs(connector)

    await connector.aclose()
    await connector.aclose()

    assert (await connector.fetch(refs[document])).content == b"text"


async def test_many_are_fetched_at_once(either: GitWorld) -> None:
    """One process answers them one after the other."""
    for number in range(50):
        either.put(f"{number}.md", b"%d" % number * 5_000)
    connector = either.connector()
    refs = await scan_refs(connector)
    contents: dict[str, bytes] = {}

    async def fetch(ref: DocumentRef) -> None:
        contents[ref.id] = (await connector.fetch(ref)).content

    async with anyio.create_task_group() as tasks:
        for ref in refs.values():
            tasks.start_soon(fetch, ref)

    assert contents == {f"{number}.md": b"%d" % number * 5_000 for number in range(50)}


# ---------------------------------------------------------------------------------------------- the mirror


@pytest.mark.parametrize("is_there_before", [False, True])
async def test_sources_of_one_repository_share_a_mirror(remote: GitWorld, is_there_before: bool) -> None:
    """Also if they fetch at the same time, and different branches."""
    remote.put("a.md", b"a")
    remote.commit()
    remote.git("checkout", "--quiet", "-b", "other")
    remote.put("b.md", b"b")
    remote.commit()
    remote.push("main:main", "other:other")
    connectors = {ref: remote.connect(ref=ref) for ref in ("main", "other")}
    if is_there_before:
        await scan_all(remote.connect())
    listed: dict[str, Sequence[str]] = {}

    async def scan(ref: str) -> None:
        refs = await scan_refs(connectors[ref])
        listed[ref] = sorted([(await connectors[ref].fetch(each)).content.decode() for each in refs.values()])

    async with anyio.create_task_group() as tasks:
        for ref in connectors:
            tasks.start_soon(scan, ref)

    assert listed == {"main": ["a"], "other": ["a", "b"]}
    assert remote.mirror.is_dir()


def _make_file(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.write_text("a file")


def _make_link(mirror: Path) -> None:
    mirror.rename(mirror.with_suffix(".elsewhere"))
    mirror.symlink_to(mirror.with_suffix(".elsewhere"))


def _open_to_others(mirror: Path) -> None:
    mirror.chmod(0o770)
    (mirror / "config").write_text("[core]\n\tsshCommand = false\n\tbare = broken\n")


def _leave_locks(mirror: Path) -> None:
    for name in ("shallow.lock", "packed-refs.lock", "config.lock"):
        (mirror / name).touch()


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)


def _leave_half_a_new_one(mirror: Path) -> None:
    mirror.rename(mirror.with_suffix(".new"))
    shutil.rmtree(mirror.with_suffix(".new") / "objects")


def _spoil_configuration(mirror: Path) -> None:
    (mirror / "config").write_text("[core\n")


BROKEN_MIRRORS: dict[str, Callable[[Path], None]] = {
    "empty": _make_empty,
    "file": _make_file,
    "link": _make_link,
    "open to others": _open_to_others,
    "no objects": lambda mirror: _make_empty(mirror / "objects"),
    "no head": lambda mirror: (mirror / "HEAD").unlink(),
    "no configuration": lambda mirror: (mirror / "config").unlink(),
    "broken configuration": _spoil_configuration,
    "left locked": _leave_locks,
    "half a new one": _leave_half_a_new_one,
}


@pytest.mark.parametrize("fault", BROKEN_MIRRORS)
async def test_a_mirror_that_cannot_be_used_is_made_anew(remote: GitWorld, fault: str) -> None:
    """It holds nothing that the repository does not."""
    document = remote.put("a.md", b"text")
    await scan_all(remote.connector())
    mirror = remote.mirror
    BROKEN_MIRRORS[fault](mirror)
    remote.put("a.md", b"text that is new")
    connector = remote.connector()

    refs = await scan_refs(connector)

    assert (await connector.fetch(refs[document])).content == b"text that is new"
    assert mirror.is_dir()
    assert not mirror.is_symlink()
    assert mirror.stat().st_mode & 0o777 == 0o700
    assert not mirror.with_suffix(".new").exists()


async def test_a_mirror_that_turns_out_to_be_broken_is_gone_for_the_next_run(remote: GitWorld) -> None:
    """A fetch notices nothing of it, since the repository has nothing new."""
    document = remote.put("a.md", b"text" * 1_000)
    connector = remote.connector()
    refs = await scan_refs(connector)
    (pack,) = (remote.mirror / "objects").rglob(f"{remote.git('rev-parse', 'HEAD:a.md')[2:]}")
    pack.chmod(0o600)
    pack.write_bytes(b"garbage")

    with pytest.raises(SourceError, match="thrown away"):
        await connector.fetch(refs[document])

    again = remote.connect()
    assert (await again.fetch((await scan_refs(again))[document])).content == b"text" * 1_000


async def test_a_remote_that_is_gone_leaves_the_mirror_as_it_was(remote: GitWorld) -> None:
    """It would all have to be fetched again."""
    remote.put("a.md", b"text")
    await scan_all(remote.connector())
    before = remote.mirror.stat().st_ino
    remote.root.rename(remote.root.with_suffix(".away"))
    with pytest.raises(SourceError, match="Nothing was concluded"):
        await scan_all(remote.connect())
    remote.root.with_suffix(".away").rename(remote.root)

    assert len(await scan_refs(remote.connect())) == 1
    assert remote.mirror.stat().st_ino == before


@pytest.mark.parametrize("place", [".memsync", ".memsync/git"])
async def test_a_cache_folder_that_is_a_file_is_an_error(remote: GitWorld, place: str) -> None:
    """It is somebody's, and not thrown away."""
    remote.put("a.md", b"text")
    file = remote.folder / place
    file.parent.mkdir(exist_ok=True)
    file.write_text("precious")

    with pytest.raises(SourceError, match="cannot be mirrored"):
        await scan_all(remote.connector())

    assert file.read_text() == "precious"


# --------------------------------------------------------------------------------------------- a git that fails


async def test_a_machine_without_git_is_told_so(either: GitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do about it, whatever is asked first; and what there is stays as it is."""
    document = either.put("a.md", b"text")
    connector = either.connector()
    ref = (await scan_refs(connector))[document]
    await connector.aclose()
    monkeypatch.setenv("PATH", str(either.folder / "nothing"))

    with pytest.raises(SourceError, match=r"`git` cannot be started.*Install it"):
        await scan_all(either.connect())
    with pytest.raises(SourceError, match=r"`git` cannot be started.*Install it"):
        await connector.fetch(ref)
    with pytest.raises(SourceError, match=r"`git` cannot be started.*Install it"):
        await either.connect().locate(document)

    assert not either.is_remote or either.mirror.is_dir()


DIRECTLY = [(False, False, when) for when in ("1", "2", "2-", "3")]
BY_A_NEW_MIRROR = [(True, False, when) for when in ("2", "4", "5", "5-", "6")]
BY_AN_OLD_MIRROR = [(True, True, when) for when in ("1", "2", "3", "4", "5", "1-")]


@pytest.mark.parametrize(("is_remote", "has_mirror", "when"), DIRECTLY + BY_A_NEW_MIRROR + BY_AN_OLD_MIRROR)
@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_git_does_nothing_is_missing_from_a_complete_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, is_remote: bool, has_mirror: bool, when: str
) -> None:
    """Nor is any document's content another's; and what went wrong once is right the next time."""
    world = GitWorld(tmp_path, is_remote)
    contents: dict[str, bytes] = {world.put("old.md", b"old text"): b"old text"}
    if has_mirror:
        await scan_all(world.connector())
    for number in range(9):
        name = f"{'guide/' * (number % 3)}{number}.md"
        contents[world.put(name, b"text %d" % number)] = b"text %d" % number
    contents[world.put("old.md", b"new text")] = b"new text"
    world.commit()
    with monkeypatch.context() as patch:
        install_faulty_git(world, patch, fault, when)
        patch.setattr("connectors.git.objects.ANSWER_S", 0.3)  # where more is announced than comes
        connector = world.connect()
        events: list[SourceEvent] = []
        try:
            await scan_into(events, connector)
        except SourceError as error:
            assert "text" not in str(error)  # noqa: PT017
            assert not any(isinstance(event, ScanComplete) for event in events)
        refs = [event for event in events if isinstance(event, DocumentRef)]
        scopes = [event.scope for event in events if isinstance(event, ScanError)]
        for ref in refs:
            try:
                fetched = await connector.fetch(ref)
            except DocumentVanished:
                raise
            except (SourceError, UnreadableDocument):
                continue
            assert fetched.content == contents[ref.id]

    listed = {ref.id for ref in refs}
    assert listed <= set(contents)
    if any(isinstance(event, ScanComplete) for event in events):
        assert all(document in listed or any(map(document.startswith, scopes)) for document in contents)
    assert set(await scan_refs(world.connect())) == set(contents)
    await world.aclose()
