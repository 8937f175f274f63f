"""memsync beside others that bring a folder of documents up to date, at the same work.

Each program is run as a process of its own, memsync by its command against the stub over HTTP, the others with a sink
that costs nothing. Before each run of a peer comes one of memsync, and a round's ratio is that of the two. What counts
is the time of the sync as each reports it: the start of a process and its imports are left out on both sides, except
for what is imported only when it is needed.
"""

import ast
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.figures import Figure, Measured, Scale, Speed
from tests.benchmarks.programs import Ran, Source, run
from tests.benchmarks.stub import stub

SCRIPTS = Path(__file__).parent / "peers"
PYTHON = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"
LATENCY_S = 0.1
ROUNDS_MOST = 3  # one takes some five minutes with 20,000 files

FIRST, UNCHANGED, CHANGED = "first sync", "no change", "1 % changed"
FIRST_AT_100_MS = "first sync at 100 ms"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to stand beside, and how many times as fast memsync should be at each run, where there is a goal."""

    name: str
    script: str
    packages: Sequence[str]
    goals: dict[str, float] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What it does and does not do, as its script says."""
        return ast.get_docstring(ast.parse((SCRIPTS / self.script).read_text())) or ""

    def sync(self, folder: Path, state: Path, sink: str = "count") -> "Sync":
        ran = run([str(PYTHON), str(SCRIPTS / self.script), str(folder), str(state), sink], folder)
        said = json.loads(ran.output.splitlines()[-1])
        return Sync(said["seconds"], said["written"], ran)


@dataclass(frozen=True, slots=True)
class Sync:
    """What a program says of one sync: its seconds, and the chunks that it wrote."""

    seconds: float
    written: int
    ran: Ran


LANGCHAIN = Peer(
    "LangChain",
    "sync_langchain.py",
    ["langchain-classic", "langchain-core", "langchain-text-splitters"],
    {FIRST: 4.0, UNCHANGED: 40.0, CHANGED: 20.0, FIRST_AT_100_MS: 15.0},
)
PEERS = (
    LANGCHAIN,
    Peer("LlamaIndex", "sync_llamaindex.py", ["llama-index-core"], {FIRST: 18.0}),
    Peer("Haystack", "sync_haystack.py", ["haystack-ai"], {FIRST: 2.5}),
    Peer("dlt", "sync_dlt.py", ["dlt"], {FIRST: 5.0, UNCHANGED: 8.0}),
    Peer("CocoIndex", "sync_cocoindex.py", ["cocoindex"], {FIRST: 10.0, UNCHANGED: 40.0}),
    Peer("Singer", "sync_singer.py", ["singer-sdk"], {FIRST: 0.8}),
)


class Bench:
    """A corpus with the states that memsync and the peers have of it, and what was measured so far."""

    def __init__(self, folder: Path, documents: int) -> None:
        self._source = Source.make(folder, documents)
        self._states = folder / "peers"
        self._pairs: dict[tuple[str, str], list[tuple[Sync, Sync]]] = {}
        self._changes = 0

    def take_turns(
        self, peer: Peer, url: str, run_name: str, prepare: Callable[[Peer], None], sink: str = "count"
    ) -> None:
        """memsync and then the peer, each prepared for this run in the same way."""
        self._source.configure(url)
        prepare(peer)
        ran, report = self._source.sync()
        created, updated = report["records"]["created"], report["records"]["updated"]
        ours = Sync(report["seconds"], created + updated, ran)
        theirs = peer.sync(self._source.folder / "docs", self._states / peer.name, sink)
        self._pairs.setdefault((peer.name, run_name), []).append((ours, theirs))

    def forget(self, peer: Peer) -> None:
        """Back to before the first sync, for both."""
        self._source.forget()
        shutil.rmtree(self._states / peer.name, ignore_errors=True)

    def change(self, _: Peer) -> None:
        """Change every hundredth document: always the same ones, so that all programs see as much change."""
        self._changes += 1
        for file in sorted(self._source.folder.glob("docs/*/*00.md")):
            with file.open("a", encoding="utf-8") as document:
                document.write(f"\n\nChanged for the {self._changes}th time.\n")

    def leave(self, _: Peer) -> None:
        """Change nothing."""

    def measured(self) -> Measured:
        return Measured(list(self._figures()), list(self._speeds()))

    def _figures(self) -> Iterator[Figure]:
        files = f"{self._source.documents:,} files"
        for peer in PEERS:
            for run_name in (FIRST, UNCHANGED, CHANGED, FIRST_AT_100_MS):
                pairs = self._pairs.get((peer.name, run_name), [])
                if pairs:
                    yield Figure(
                        f"{run_name}, {files}: documents a second, to {peer.name}'s",
                        [theirs.seconds / ours.seconds for ours, theirs in pairs],
                        peer.goals.get(run_name),
                        is_least=True,
                    )
            yield Figure(
                f"{FIRST}, {files}: peak memory, to {peer.name}'s",
                [ours.ran.peak_bytes / theirs.ran.peak_bytes for ours, theirs in self._pairs[peer.name, FIRST]],
                None,
            )

    def _speeds(self) -> Iterator[Speed]:
        for run_name in (FIRST, UNCHANGED, CHANGED):
            ours = [pair[0] for peer in PEERS for pair in self._pairs[peer.name, run_name]]
            yield self._speed("memsync", run_name, ours)
            for peer in PEERS:
                yield self._speed(peer.name, run_name, [pair[1] for pair in self._pairs[peer.name, run_name]])

    def _speed(self, program: str, run_name: str, syncs: Sequence[Sync]) -> Speed:
        return Speed(
            program,
            run_name,
            [self._source.documents / sync.seconds for sync in syncs],
            [sync.ran.peak_bytes / 1e6 for sync in syncs],
        )


async def same_work(scale: Scale) -> Measured:
    """First sync, no change, and a changed hundredth; then LangChain once more, with a memory far away for both."""
    with tempfile.TemporaryDirectory() as folder, stub() as url, stub(LATENCY_S) as far:
        bench = Bench(Path(folder), scale.documents)
        for _ in range(min(scale.rounds, ROUNDS_MOST)):
            for peer in PEERS:
                bench.take_turns(peer, url, FIRST, bench.forget)
            for peer in PEERS:
                bench.take_turns(peer, url, UNCHANGED, bench.leave)
            for peer in PEERS:
                bench.take_turns(peer, url, CHANGED, bench.change)
            bench.take_turns(LANGCHAIN, far, FIRST_AT_100_MS, bench.forget, sink=far)
        return bench.measured()


def versions() -> dict[str, str]:
    """The peers' packages, as they are installed."""
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    names = [package for peer in PEERS for package in peer.packages]
    return dict(json.loads(run([str(PYTHON), "-c", code, *names], SCRIPTS).output))
