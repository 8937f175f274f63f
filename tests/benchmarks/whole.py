"""What a record costs on its whole way: from a source in this process, through pipeline and ledger, to the stub."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import SourceSettings
from pipeline.planner import DeletePolicy
from pipeline.protocols import SourceConnector
from pipeline.runs.parts import open_job
from pipeline.sync import sync
from tests.benchmarks.client import MEMORY_ID, REGION


async def measure(
    url: str,
    source: SourceConnector,
    *,
    writers: int,
    requests_per_second: float = 10_000.0,
    observe_stored: Callable[[int], None] = lambda _: None,
) -> tuple[int, float, float]:
    """Records that were stored, and the seconds and seconds of CPU that each took."""
    stored = 0

    def observe(event: object) -> None:
        nonlocal stored
        stored += getattr(event, "succeeded", 0)
        observe_stored(stored)

    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder), url, writers, requests_per_second)
        async with open_job(settings, "benchmark", DeletePolicy(), observe) as opened:
            job = replace(opened, connector=source)
            began, cpu_began = time.perf_counter(), _cpu_s()
            await sync(job)
            seconds, cpu = time.perf_counter() - began, _cpu_s() - cpu_began
    return stored, seconds / stored, cpu / stored


def _cpu_s() -> float:
    """What this process and those that it has waited for have used."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _settings(folder: Path, url: str, writers: int, requests_per_second: float) -> SourceSettings:
    file = folder / "bench.yaml"
    settings = {
        "name": "bench",
        "source": {"type": "filesystem", "path": "."},
        "destination": {"type": "agentcore", "memory_id": MEMORY_ID, "region": REGION, "endpoint_url": url},
        "chunking": {"max_chars": 2000},
        "writers": {"requests_per_second": requests_per_second, "concurrency": writers},
    }
    file.write_text(yaml.safe_dump(settings))
    (loaded,) = load_sources([file])
    return loaded
