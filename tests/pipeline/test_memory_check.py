"""Before anything is written: is this the memory that the ledger describes?"""

import anyio
import pytest
from trio.testing import MockClock

from pipeline.errors import FatalError
from pipeline.state.sqlite import open_state
from tests.fakes.destination import MemoryDestination
from tests.fakes.source import MemorySource
from tests.pipeline.world import AnyWorld, in_place


@pytest.mark.parametrize("count", [3, 4, 30])
def test_a_memory_that_was_emptied_is_told_whatever_chance_says(count: int) -> None:
    """A run that writes one new record into it, and says that all is in sync, hides that the others are gone."""

    async def story(seed: int) -> None:
        source = MemorySource()
        world = AnyWorld(source, MemoryDestination(), seed=seed)
        source.documents = {f"{seed}/{number}.md": f"text {number} of {seed}" for number in range(count)}
        async with open_state(None, source="docs", destination="memory", offload=in_place) as world.state:
            await world.do()
            world.memory.records.clear()
            source.documents["new.md"] = "new text"
            with pytest.raises(FatalError, match=r"it was emptied or made anew"):
                await world.do()

    for seed in range(20):
        anyio.run(story, seed, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
