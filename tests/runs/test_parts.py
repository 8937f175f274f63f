"""What becomes of the settings, where nothing else would show it."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.events import Observer
from pipeline.planner import DeletePolicy
from pipeline.runs import parts
from pipeline.runs.parts import open_job


@pytest.mark.parametrize(("workers", "expected"), [("{}", 7), ("{processes: 0}", 0), ("{processes: 3}", 3)])
async def test_the_settings_say_how_many_processes_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str, expected: int
) -> None:
    """And without them, the machine. The records are the same, so that only this shows it."""
    asked: list[int] = []

    def open_workers(_deriver: object, *, processes: int, observe: Observer) -> Any:
        asked.append(processes)

    monkeypatch.setattr(parts, "open_workers", open_workers)
    monkeypatch.setattr(parts, "processes_here", lambda: 7)
    file = tmp_path / "docs.yaml"
    file.write_text(
        "source: {type: filesystem, path: .}\n"
        "destination: {type: agentcore, endpoint_url: local}\n"
        f"workers: {workers}\n"
    )

    async with open_job(load_sources([file])[0], "run-1", DeletePolicy(), lambda _: None) as job:
        job.open_workers(job.deriver())

    assert asked == [expected]


async def test_batches_that_become_full_together_are_saved_together(tmp_path: Path) -> None:
    """As many as there are writers: a transaction for each would wait for the disk each time."""
    file = tmp_path / "docs.yaml"
    file.write_text(
        "source: {type: filesystem, path: .}\n"
        "destination: {type: agentcore, endpoint_url: local}\n"
        "writers: {concurrency: 5}\n"
    )

    async with open_job(load_sources([file])[0], "run-1", DeletePolicy(), lambda _: None) as job:
        stage: Any = job.batch()

    assert stage.keywords["saved_together_max"] == 5
