"""Whatever a source answers, and when: no document that is there loses its records, and what was seen is stored.

Real runs of the pipeline between a source that answers wrongly once and a memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.errors import SyncError
from pipeline.model import Operation
from pipeline.protocols import SourceConnector
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.pipeline.world import AnyWorld, in_place

BEFORE = tuple(f"{folder}/{number}.md" for folder in "ab" for number in range(4))
EDITED = ("a/1.md", "a/3.md", "b/0.md")
ADDED = ("a/4.md", "b/9.md")


@dataclass
class SpoiltSource:
    """A source of documents named by paths, whose text a test writes, and which can be made to answer wrongly.

    `arm` is called before the run that is to be spoilt, `heal` after it. `seen` are the names that an answer of
    the source that was not spoilt has listed since it was armed; None if that cannot be told. `edited` are the names
    that are written anew, none where a document never changes.
    """

    connector: SourceConnector
    put: Callable[[str, bytes], object]
    arm: Callable[[], None]
    heal: Callable[[], None]
    seen: Callable[[], set[str]] | None = None
    edited: tuple[str, ...] = EDITED
    texts: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, version: int = 1) -> None:
        self.texts[name] = f"text of {name}, version {version}"
        self.put(name, self.texts[name].encode())


async def hold_through(source: SpoiltSource, case: object) -> None:
    """Sync, edit, sync while the source answers wrongly, and sync again; `case` tells the reader of a failure which.

    The source is empty and whole at first.
    """
    memory = MemoryDestination()
    world = AnyWorld(source.connector, memory)
    for name in BEFORE:
        source.write(name)
    async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
        await world.do()
        assert world.texts() == sorted(source.texts.values()), case
        for name in source.edited:
            source.write(name, version=2)
        for name in ADDED:
            source.write(name)

        source.arm()
        error = await _error_of(world)
        source.heal()
        assert _deleted(memory) == 0, (case, error)
        assert _names(world) >= set(BEFORE), (case, error)
        if error is None and source.seen is not None:  # but for the one document that may have been spoilt
            assert len(source.seen() - _names(world)) <= 1, case

        await world.do()
        assert world.texts() == sorted(source.texts.values()), case
        assert _deleted(memory) == 0, case


async def _error_of(world: AnyWorld) -> SyncError | None:
    try:
        await world.do()
    except SyncError as error:
        return error
    return None


def _names(world: AnyWorld) -> set[str]:
    """The documents whose records the memory holds, in whatever version."""
    return {text.partition(",")[0].removeprefix("text of ") for text in world.texts()}


def _deleted(memory: MemoryDestination) -> int:
    return sum(len(batch.entries) for batch in memory.requests if batch.operation is Operation.DELETE)
