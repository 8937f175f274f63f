"""Each call to the operating system of a run, failing in each way that disks and network shares have."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connectors.filesystem import FilesystemConnector, FilesystemSettings
from tests.connectors.spoilt_runs import SpoiltSource, hold_through

CALLS = ("scandir", "open", "stat", "lstat", "fstat", "read")
_NAMES = ("EACCES", "EIO", "ESTALE", "ENOENT", "ENOTDIR", "EMFILE", "ENOTCONN", "ETIMEDOUT")
ERRORS: dict[str, int] = {name: getattr(errno, name) for name in _NAMES}
HOUR_NS = 3_600_000_000_000


class FaultyOs:
    """The module `os`, of whose calls one fails. `fault` is an error's number, or what a listing does instead."""

    def __init__(self) -> None:
        self.fault: int | str = ""
        self.position: int | None = None
        self.has_struck = False
        self._calls = 0

    def arm(self, fault: int | str, position: int) -> None:
        self.fault, self.position, self.has_struck, self._calls = fault, position, False, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._failing(real) if name in CALLS else real

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            is_listing = real is os.scandir
            if self.position is None or (isinstance(self.fault, str) and not is_listing):
                return real(*arguments, **options)
            self._calls += 1
            if self._calls != self.position + 1:
                return real(*arguments, **options)
            self.has_struck = True
            if isinstance(self.fault, int):
                raise OSError(self.fault, os.strerror(self.fault))
            return self._broken_listing(*arguments)

        return call

    @contextmanager
    def _broken_listing(self, folder: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        def some() -> Iterator[os.DirEntry[str]]:
            if self.fault == "half":
                yield next(entries)
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        with os.scandir(folder) as entries:
            yield some()


@pytest.mark.parametrize("fault", [*ERRORS, "empty", "half"])
async def test_no_call_that_fails_deletes_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    faulty = FaultyOs()
    monkeypatch.setattr("connectors.filesystem.os", faulty)
    monkeypatch.setattr("connectors.files.os", faulty)
    position = struck = 0
    while position == struck:
        folder = tmp_path / str(position)
        folder.mkdir()

        def put(name: str, content: bytes, folder: Path = folder) -> None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

        settings = FilesystemSettings.model_validate({"type": "filesystem", "path": str(folder)})
        connector = FilesystemConnector(settings, tmp_path, now_ns=lambda: time.time_ns() + HOUR_NS)
        source = SpoiltSource(
            connector,
            put,
            arm=partial(faulty.arm, ERRORS.get(fault, fault), position),
            heal=lambda: setattr(faulty, "position", None),
        )
        await hold_through(source, (fault, position))
        struck += faulty.has_struck
        position += 1
    assert struck >= (3 if fault in ("empty", "half") else 25)
