"""A copy of what a ref of another repository means, kept beside the state."""

import hashlib
import os
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from anyio import to_thread

from connectors.files import reason
from connectors.git.objects import NO_GIT, TOO_SLOW, Fault, Git
from pipeline.errors import SourceError

LOCK_POLL_S = 0.2

# What is in no commit that a ref means, for as long as a run may still read it; and how many objects may lie about.
HOUSEKEEPING = ("gc.pruneExpire=2.days.ago", "gc.cruftPacks=true", "gc.auto=1000", "gc.autoDetach=false")


class Mirror:
    """The last commit of a ref of another repository, without its history, in a cache folder."""

    def __init__(self, url: str, cache_folder: Path, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._cache_folder = cache_folder
        self._place = cache_folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.git"
        is_local = url.startswith("file:")
        self.git = Git(self._place, protocols="file" if is_local else "https:ssh")
        self._new_git = Git(self._place.with_suffix(".new"), protocols=self.git.protocols)

    async def fetch(self, ref: str) -> str:
        """Bring what `ref` means now into the mirror and return its commit.

        A mirror that is broken, or not ours alone, is made anew.

        Raises:
            Fault: it could not be had; the mirror is as it was.
            SourceError: the cache folder cannot be used.
        """
        async with self._alone():
            if await to_thread.run_sync(_is_ours, self._place):
                try:
                    return await self._fetch_into(self.git, ref)
                except Fault as fault:
                    if fault.code in (NO_GIT, TOO_SLOW):
                        raise
                    # The other side may be gone, or the mirror broken: a new one tells.
            try:
                commit = await self._fetch_into_new(ref)
                await to_thread.run_sync(_replace, self._new_git.folder, self._place)
            except OSError as error:
                raise self._unusable(error) from error
            return commit

    async def _fetch_into_new(self, ref: str) -> str:
        try:
            try:
                return await self._make_and_fetch(ref, "sha1")
            except Fault as fault:
                if "mismatched algorithms" not in str(fault):
                    raise
            return await self._make_and_fetch(ref, "sha256")
        except BaseException:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_remove, self._new_git.folder)
            raise

    async def _make_and_fetch(self, ref: str, hash_name: str) -> str:
        await to_thread.run_sync(_remove, self._new_git.folder)
        self._new_git.folder.mkdir(mode=0o700)
        await self._new_git.run("init", "--quiet", "--bare", f"--object-format={hash_name}", "--template=")
        return await self._fetch_into(self._new_git, ref)

    async def _fetch_into(self, git: Git, ref: str) -> str:
        # Git writes there what it fetched. Without it, what an earlier fetch brought could pass for the answer.
        (git.folder / "FETCH_HEAD").unlink(missing_ok=True)
        kept_as = f"refs/memsync/{hashlib.sha256(ref.encode()).hexdigest()[:32]}"
        await git.run(
            *("-c", "gc.auto=0", "-c", "maintenance.auto=false"),
            *("fetch", "--quiet", "--progress", "--depth=1", "--no-tags", "--no-recurse-submodules"),
            *("--", self._url, f"+{ref}:{kept_as}"),
            silence_s=self._timeout_s,
        )
        commit = await git.commit("FETCH_HEAD")
        with suppress(Fault):  # the next fetch tries it again
            await git.run(*(word for option in HOUSEKEEPING for word in ("-c", option)), "gc", "--auto", "--quiet")
        return commit

    async def discard(self) -> None:
        """Throw the mirror away."""
        async with self._alone():
            try:
                await to_thread.run_sync(_remove, self._place)
            except OSError as error:
                raise self._unusable(error) from error

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Let no other run touch the mirror meanwhile."""
        from filelock import FileLock, Timeout  # noqa: PLC0415 - a repository that is read directly needs none

        try:
            for folder in (self._cache_folder.parent, self._cache_folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._cache_folder.chmod(0o700)
            lock = FileLock(self._place.with_suffix(".lock"), mode=0o600, thread_local=False)
            while not lock.is_locked:
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    await anyio.sleep(LOCK_POLL_S)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _unusable(self, error: OSError) -> SourceError:
        return SourceError(
            f"The repository {self._url!r} cannot be mirrored in {str(self._cache_folder)!r}: {reason(error)}. Nothing"
            " was concluded from that. Make it a folder that this user may write to, or remove it."
        )


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have put anything there: git believes what a repository's configuration says."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return stat.S_ISDIR(status.st_mode) and is_own and not status.st_mode & 0o077


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _replace(new: Path, place: Path) -> None:
    _remove(place)
    new.rename(place)
