"""What a record costs on its whole way: from a source in this process, through pipeline and ledger, to the stub."""

import os
import random
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    Fingerprint,
    ScanComplete,
    SourceEvent,
)
from pipeline.planner import DeletePolicy
from pipeline.runner import open_job
from pipeline.settings import SourceSettings, load_sources
from pipeline.sync import sync
from tests.benchmarks.client import MEMORY_ID, REGION
from tests.benchmarks.corpus import document

LISTED_AT_ONCE = 256
DISTINCT = 100  # texts; a process is sent them all


class Generated:
    """A connector whose documents cost nothing: `count` of them, made beforehand."""

    def __init__(self, count: int, *, sections: int) -> None:
        rng = random.Random(1)
        text = "".join(document(rng, 0) for _ in range(40)).replace("#", "")
        self._texts = []
        for number in range(min(count, DISTINCT)):
            pieces = [text[start : start + 1480] for start in rng.sample(range(len(text) - 1480), sections)]
            self._texts.append("\n\n".join(f"# Section {number}\n\n{piece}" for piece in pieces))
        self._count = count
        self.document_reader = self

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        for start in range(0, self._count, LISTED_AT_ONCE):
            yield [self._ref(number) for number in range(start, min(start + LISTED_AT_ONCE, self._count))]
        yield [ScanComplete("")]

    def _ref(self, number: int) -> DocumentRef:
        return DocumentRef(
            DocumentId(f"{number:07}.md"), f"memory:{number}", fingerprint=Fingerprint("1"), size_bytes=2000
        )

    async def fetch(self, ref: DocumentRef) -> Document:
        return self.document_reader.read(ref)

    def read(self, ref: DocumentRef) -> Document:
        return Document(ref, f"{ref.id}\n\n{self._texts[int(ref.id[:7]) % DISTINCT]}".encode())

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        return self._ref(int(document[:7]))


async def measure(
    url: str,
    source: Generated,
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
