"""A git repository that a test writes, and what is promised of every connector to one."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.git.connector import GitConnector, GitSettings
from connectors.kit.contract import SourceConnectorContract, SourceWorld, scan_all, scan_refs
from pipeline.errors import DocumentVanished, SourceError
from pipeline.model import DocumentId

GIT = shutil.which("git") or "git"
COMMITTED_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def without_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing depend on who runs the tests, or on the repository that they run in."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_AUTHOR_DATE", COMMITTED_AT.isoformat())
    monkeypatch.setenv("GIT_COMMITTER_DATE", COMMITTED_AT.isoformat())
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setattr("connectors.git.mirror.LOCK_POLL_S", 0)


@dataclass
class GitWorld:
    """A repository with a working tree, and if `is_remote`, a bare one that it is pushed to and that is asked."""

    folder: Path
    is_remote: bool = False
    base_url: str = "file://"
    opened: list[GitConnector] = field(default_factory=list)
    is_frozen: bool = False  # what is broken cannot be committed to

    def __post_init__(self) -> None:
        self.work = self.folder / "work"
        self.root = self.folder / "served.git" if self.is_remote else self.work
        self.git("init", "--quiet", "--initial-branch=main", str(self.work), at=None)
        if self.is_remote:
            self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.root), at=None)

    @property
    def url(self) -> str:
        return self.base_url + str(self.root) if self.is_remote else self.root.name

    @property
    def mirror(self) -> Path:
        (found,) = (self.folder / ".memsync" / "git").glob("*.git")
        return found

    def git(self, *arguments: str, at: Path | None = Path(), given: bytes | None = None) -> str:
        place = [] if at is None else ["-C", str(self.work / at)]
        who = ["-c", "user.name=writer", "-c", "user.email=writer@example.com", "-c", "protocol.file.allow=always"]
        done = subprocess.run([GIT, *place, *who, *arguments], input=given, capture_output=True, check=True)
        return os.fsdecode(done.stdout).strip()

    def commit(self, message: str = "change") -> str:
        """Commit all that was put and removed, and push it; return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.push()
        return self.git("rev-parse", "HEAD")

    def push(self, *refs: str) -> None:
        if self.is_remote:
            self.git("push", "--quiet", "--force", str(self.root), *(refs or ("HEAD:main",)))

    def connector(self, **settings: Any) -> GitConnector:
        if not self.is_frozen:
            self.commit()
        return self.connect(**settings)

    def connect(self, **settings: Any) -> GitConnector:
        values = {"type": "git", "url": self.url, **settings}
        connector = GitConnector(GitSettings.model_validate(values), self.folder)
        self.opened.append(connector)
        return connector

    def put(self, name: str, content: bytes) -> DocumentId:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return DocumentId(name)

    def remove(self, name: str) -> None:
        (self.work / name).unlink()

    def remove_root(self) -> None:
        shutil.rmtree(self.root)

    def make_unlistable(self, folder: str) -> None:
        if self.is_remote:
            pytest.skip("a mirror comes whole or not at all")
        self.put(f"{folder}/{folder}.md", b"")  # folders of the same content are one object
        self.commit()
        self.object_file(f"HEAD:{folder}").unlink()
        self.is_frozen = True

    def object_file(self, name: str) -> Path:
        object_id = self.git("rev-parse", name)
        return self.work / ".git" / "objects" / object_id[:2] / object_id[2:]

    def spoil(self, name: str, content: bytes) -> None:
        file = self.object_file(name)
        file.chmod(0o600)
        file.write_bytes(content)

    async def aclose(self) -> None:
        for connector in self.opened:
            await connector.aclose()


class GitContract(SourceConnectorContract):
    """Git keeps what was committed, so that all is fetched as it was listed. The contract's rules about documents that
    change between listing and fetching are for sources that show only how they are now.
    """

    async def test_a_document_edited_after_it_was_listed_is_fetched_as_it_is_now(self, world: SourceWorld) -> None:
        """Here it is fetched as it was listed, with the fingerprint of just that; the next scan shows the edit."""
        assert isinstance(world, GitWorld)
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.put("a.md", b"longer text")
        world.commit()

        fetched = await connector.fetch(listed)

        now = (await scan_refs(connector))[document]
        assert (fetched.content, fetched.ref.fingerprint) == (b"text", listed.fingerprint)
        assert now.fingerprint != listed.fingerprint
        assert (await connector.fetch(listed)).content == b"longer text"

    async def test_a_document_removed_after_it_was_listed_has_vanished(self, world: SourceWorld) -> None:
        """Here only once another scan, or another connector, has seen the removal."""
        assert isinstance(world, GitWorld)
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove("a.md")
        world.commit()

        assert (await connector.fetch(listed)).content == b"text"

        with pytest.raises(DocumentVanished):
            await world.connect().fetch(listed)
        await scan_all(connector)
        with pytest.raises(DocumentVanished):
            await connector.fetch(listed)


class GitMirrorContract(GitContract):
    async def test_no_document_has_vanished_with_a_missing_root(self, world: SourceWorld) -> None:
        """What was listed is in the mirror already; a connector that has listed nothing can tell nothing."""
        assert isinstance(world, GitWorld)
        document = world.put("a.md", b"text")
        connector = world.connector()
        listed = (await scan_refs(connector))[document]
        world.remove_root()

        assert (await connector.fetch(listed)).content == b"text"
        with pytest.raises(SourceError):
            await world.connect().fetch(listed)
