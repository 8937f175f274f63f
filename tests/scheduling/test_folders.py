"""Which changes of a folder are a reason for a run."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import create_task_group, current_time, sleep
from trio.testing import MockClock
from watchfiles import Change

from connectors.filesystem import FilesystemConnector, FilesystemSettings
from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import SourceSettings
from pipeline.scheduling.folders import Changes, Concern, own_outputs, own_paths, tell_when_settled


def source(folder: Path, **options: Any) -> SourceSettings:
    (folder / "docs.yaml").write_text(
        f"source: {{type: filesystem, path: ., {', '.join(f'{key}: {value}' for key, value in options.items())}}}\n"
        "state: {path: state}\ndead_letters: {path: letters.jsonl}\nreports: {path: reports}\n"
        "telemetry: {prometheus_file: '{source}.prom'}\n"
        "destination: {type: agentcore, endpoint_url: local}\n"
    )
    (settings,) = load_sources([folder / "docs.yaml"])
    return settings


def concern(settings: SourceSettings, *own_files: Path) -> Concern:
    assert isinstance(settings.source, FilesystemSettings)
    connector = FilesystemConnector(settings.source, settings.folder)
    return Concern(connector, own_paths(settings, own_files), own_outputs())


@pytest.mark.parametrize(
    "name",
    [
        "state/docs/state.sqlite3",
        "state/docs/state.sqlite3-wal",
        "state/local-memory.sqlite3",
        "state/local-memory.sqlite3-journal",
        "letters.jsonl",
        "reports/docs/20260501T120000Z.json.gz",
        "docs.prom",
        "beat",
    ],
)
def test_what_a_run_writes_is_no_reason_for_the_next(name: str, tmp_path: Path) -> None:
    """It would never end: each run would bring on another."""
    concerns = concern(source(tmp_path), tmp_path / "beat")

    assert not concerns(Change.modified, str(tmp_path / name))
    assert concerns(Change.modified, str(tmp_path / "state.md"))
    assert concerns(Change.added, str(tmp_path / "letters.md"))


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """As `memsync watch . 2>memsync.log` does."""
    kept = os.dup(2)
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    yield
    os.dup2(kept, 2)
    os.close(kept)


def test_the_log_is_no_reason_for_a_run(tmp_path: Path) -> None:
    """A log in the folder that is watched is the likeliest of mistakes, and each line of it is a change."""
    (tmp_path / "other.log").touch()

    with logging_to(tmp_path / "memsync.log"):
        concerns = concern(source(tmp_path))

    assert not concerns(Change.modified, str(tmp_path / "memsync.log"))
    assert concerns(Change.modified, str(tmp_path / "other.log"))


def test_what_the_settings_leave_out_is_no_reason_for_a_run(tmp_path: Path) -> None:
    """Whoever builds or commits in the folder changes thousands of files that are no documents."""
    concerns = concern(source(tmp_path, include='["*.md"]', exclude='["build/"]'))

    left_out = [".git/index", "build/a.md", "a.txt", "sub/.hidden.md"]
    assert [name for name in left_out if concerns(Change.modified, str(tmp_path / name))] == []
    taken = ["a.md", "sub/a.md", ".gitignore", "sub/.memsyncignore"]
    assert [name for name in taken if concerns(Change.deleted, str(tmp_path / name))] == taken


def wanted_at(changes_at: Sequence[float], settle_s: float) -> list[float]:
    """When a run is wanted, by a clock that only the waiting moves."""
    found: list[float] = []

    async def play() -> None:
        changes, start = Changes(), current_time()
        async with create_task_group() as tasks:
            tasks.start_soon(tell_when_settled, changes, lambda: found.append(round(current_time() - start)), settle_s)
            for change_at in changes_at:
                await sleep(start + change_at - current_time())
                changes.note()
            await sleep(1000)
            tasks.cancel_scope.cancel()

    anyio.run(play, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    return found


@pytest.mark.parametrize(
    ("changes_at", "runs_at"),
    [
        ([10.0], [12]),
        ([10.0, 11.0, 12.5, 13.0], [15]),
        ([10.0, 13.0], [12, 15]),
        (list(range(10, 100)), [70, 101]),
        ([], []),
    ],
)
def test_a_run_is_wanted_when_changes_have_settled(changes_at: Sequence[float], runs_at: list[float]) -> None:
    """A run for each of many files that are copied is too often; those that never rest must not wait for ever."""
    assert wanted_at(changes_at, settle_s=2.0) == runs_at
