"""Git repositories behind real servers: SSH and HTTPS, also those that know nobody, or say nothing."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from connectors.kit.contract import SourceWorld, scan_all, scan_refs
from pipeline.errors import SourceError

from .git_servers import PASSWORD, USER, HttpsServer, SshServer, https_server, silent_server, ssh_server
from .git_world import GitMirrorContract, GitWorld, without_configuration


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    without_configuration(monkeypatch)


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[GitWorld]:
    made = GitWorld(tmp_path, is_remote=True)
    yield made
    await made.aclose()


@pytest.fixture(scope="module")
def ssh() -> Iterator[SshServer]:
    with ssh_server() as server:
        yield server


@pytest.fixture(scope="module")
def https() -> Iterator[HttpsServer]:
    with https_server() as server:
        yield server


@pytest.fixture
async def by_ssh(ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GitWorld]:
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh.command())
    made = GitWorld(tmp_path, is_remote=True, base_url=ssh.url)
    yield made
    await made.aclose()


def use_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int, password: str) -> None:
    """Let git's own helper know `password`."""
    (tmp_path / "credentials").write_text(f"https://{USER}:{password}@localhost:{port}\n")
    (tmp_path / "gitconfig").write_text(f"[credential]\n\thelper = store --file '{tmp_path}/credentials'\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


@pytest.fixture
async def by_https(https: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GitWorld]:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(https.certificate))
    use_password(tmp_path, monkeypatch, https.port, PASSWORD)
    made = GitWorld(tmp_path, is_remote=True, base_url=https.url)
    https.answer = None
    yield made
    https.answer = None
    await made.aclose()


class TestGitConnectorKeepsTheContractBySsh(GitMirrorContract):
    @pytest.fixture
    def world(self, by_ssh: GitWorld) -> SourceWorld:
        return by_ssh


class TestGitConnectorKeepsTheContractByHttps(GitMirrorContract):
    @pytest.fixture
    def world(self, by_https: GitWorld) -> SourceWorld:
        return by_https


async def refusal(world: GitWorld, **settings: object) -> str:
    """What the error says that a scan ends with."""
    with pytest.raises(SourceError) as caught:
        await scan_all(world.connector(**settings))
    said = str(caught.value)
    assert "Nothing was concluded from that" in said
    assert f"`git ls-remote {world.url} HEAD` must answer" in said
    return said


# ------------------------------------------------------------------------------------------------------- SSH


@pytest.mark.parametrize(
    ("key", "known", "message"),
    [
        ("stranger", "known_hosts", "Permission denied"),
        ("client", "no_hosts", "Host key verification failed"),
        ("client", "other_hosts", "Host key verification failed"),
    ],
)
async def test_ssh_that_does_not_know_one_of_both_is_an_error(
    by_ssh: GitWorld, ssh: SshServer, monkeypatch: pytest.MonkeyPatch, key: str, known: str, message: str
) -> None:
    """It asks nobody: neither for a password nor whether a host is the right one."""
    by_ssh.put("a.md", b"text")
    by_ssh.commit()
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh.command(key=key, known=known))

    assert message in await refusal(by_ssh)


async def test_an_address_as_scp_has_it_is_fetched(
    by_ssh: GitWorld, ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is how most write it; the port is then a matter of SSH's configuration."""
    document = by_ssh.put("a.md", b"text")
    by_ssh.commit()
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{ssh.command()} -p {ssh.port}")

    refs = await scan_refs(by_ssh.connect(url=f"{ssh.user}@127.0.0.1:{by_ssh.root}"))

    assert set(refs) == {document}
    assert refs[document].uri == f"git+ssh://{ssh.user}@127.0.0.1{by_ssh.root}#a.md"


# ----------------------------------------------------------------------------------------------------- HTTPS


async def test_a_wrong_password_is_an_error_that_does_not_show_it(
    by_https: GitWorld, https: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody is asked for another."""
    by_https.put("a.md", b"text")
    by_https.commit()
    use_password(tmp_path, monkeypatch, https.port, "wrong-one")

    said = await refusal(by_https)

    assert "Authentication failed" in said
    assert "wrong-one" not in said


async def test_no_password_is_an_error(by_https: GitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unattended run must not wait for somebody to type one."""
    by_https.put("a.md", b"text")
    by_https.commit()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    assert "could not read Username" in await refusal(by_https)


async def test_an_unknown_certificate_is_an_error(by_https: GitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may answer, and would be told the password."""
    by_https.put("a.md", b"text")
    by_https.commit()
    monkeypatch.delenv("GIT_SSL_CAINFO")

    assert "certificate" in await refusal(by_https)


HEAD = b"001e# service=git-upload-pack\n0000"
ADVERTISEMENT = "application/x-git-upload-pack-advertisement"


@pytest.mark.parametrize(
    "answer",
    [
        (200, "text/html", b"<html>log in"),
        (200, ADVERTISEMENT, b""),
        (200, ADVERTISEMENT, b"0000"),
        (200, ADVERTISEMENT, HEAD),
        (200, ADVERTISEMENT, HEAD + b"000eversion 2\n0000"),
        (200, ADVERTISEMENT, HEAD + b"00ffbroken off"),
        (301, "text/plain", b""),
        (403, "text/plain", b"no"),
        (404, "text/plain", b"no"),
        (429, "text/plain", b"slow down"),
        (500, "text/plain", b"no"),
        (503, "text/plain", b""),
    ],
)
async def test_another_answer_than_gits_is_an_error(
    by_https: GitWorld, https: HttpsServer, answer: tuple[int, str, bytes]
) -> None:
    """None of them is an empty repository, whether there is a mirror already or not; nor does one cost the mirror."""
    by_https.put("a.md", b"text")
    https.answer = answer
    await refusal(by_https)
    https.answer = None
    before = await scan_refs(by_https.connect())
    mirror = by_https.mirror.stat().st_ino
    https.answer = answer
    await refusal(by_https)
    https.answer = None

    assert await scan_refs(by_https.connect()) == before
    assert by_https.mirror.stat().st_ino == mirror


async def test_a_repository_without_news_sends_none_of_its_files(by_https: GitWorld, https: HttpsServer) -> None:
    """And one with news little more than these."""
    by_https.put("a.md", os.urandom(100_000))
    by_https.commit()
    sent: list[int] = []
    for content in (None, None, os.urandom(10_000)):
        if content:
            by_https.put("b.md", content)
            by_https.commit()
        https.sent_bytes = 0
        await scan_all(by_https.connect())
        sent.append(https.sent_bytes)

    first, without_news, with_news = sent
    assert first > 100_000
    assert without_news < 2_000
    assert 10_000 < with_news < 12_000


# --------------------------------------------------------------------------------------- servers that say nothing


@pytest.mark.parametrize("scheme", ["ssh", "https"])
@pytest.mark.parametrize("has_mirror", [False, True])
async def test_a_server_that_says_nothing_is_given_up(remote: GitWorld, scheme: str, has_mirror: bool) -> None:
    """With all that git started: SSH would wait for ever. And it is not asked a second time for a new mirror."""
    remote.put("a.md", b"text")
    with silent_server() as server:
        url = f"{scheme}://{USER}@127.0.0.1:{server.port}/a.git".replace(f"https://{USER}@", "https://")
        connector = remote.connector(url=url, timeout_s=0.3)
        assert connector._mirror is not None
        if has_mirror:
            await scan_all(remote.connect())
            remote.mirror.rename(connector._mirror.git.folder)
        before = anyio.current_time()

        with pytest.raises(SourceError, match=r"nothing was heard of the other side for 0\.3 s"):
            await scan_all(connector)

        assert anyio.current_time() - before < 5
        assert await run_sync(server.is_left.wait, 10)
        assert server.connections == 1
    assert connector._mirror.git.folder.exists() == has_mirror


@pytest.mark.parametrize("scheme", ["ssh", "https"])
async def test_a_run_that_is_stopped_leaves_nobody_waiting(remote: GitWorld, scheme: str) -> None:
    """Each stopped run would leave a process of SSH behind."""
    with silent_server() as server:
        url = f"{scheme}://{USER}@127.0.0.1:{server.port}/a.git".replace(f"https://{USER}@", "https://")
        connector = remote.connector(url=url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scan_all, connector)
            assert await run_sync(server.is_asked.wait, 10)
            tasks.cancel_scope.cancel()

        assert await run_sync(server.is_left.wait, 10)


# ------------------------------------------------------------------------------------------------ housekeeping


async def test_a_mirror_does_not_keep_what_nobody_needs(remote: GitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would grow with every change, for ever."""
    configuration = remote.folder / "gitconfig"
    configuration.write_text("[fetch]\n\tunpackLimit = 1\n")  # each fetch is a pack
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    options = ("gc.pruneExpire=now", "gc.autoPackLimit=1", "gc.autoDetach=false")
    monkeypatch.setattr("connectors.git.mirror.HOUSEKEEPING", options)
    blobs = []
    for _ in range(8):
        for folder in range(4):
            remote.put(f"{folder}/a.md", os.urandom(2_000))
        await scan_all(remote.connector())
        blobs.append(remote.git("rev-parse", "HEAD:0/a.md"))

    def is_kept(blob: str) -> bool:
        try:
            remote.git("cat-file", "-e", blob, at=remote.mirror)
        except subprocess.CalledProcessError:
            return False
        return True

    assert [is_kept(blob) for blob in blobs] == [False] * 7 + [True]
    assert len(await scan_refs(remote.connect())) == 4
