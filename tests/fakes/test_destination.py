"""The destination in memory keeps the same promises as the real one, on either event loop."""

from collections.abc import Mapping

import anyio
import pytest

from pipeline.errors import RetryableError
from pipeline.model import MemoryRecordId
from tests.contract.destination import DestinationContract, creates
from tests.fakes.destination import MemoryDestination

RULES = [name for name in dir(DestinationContract) if name.startswith("test_")]


class MemoryWorld:
    """A `DestinationWorld` that is the destination itself."""

    def __init__(self) -> None:
        self.destination = MemoryDestination()

    def without_memory(self) -> MemoryDestination:
        destination = MemoryDestination()
        destination.is_missing = True
        return destination

    def stored(self) -> Mapping[MemoryRecordId, str]:
        return {memory_record_id: record.text for memory_record_id, record in self.destination.records.items()}

    def throttle_next(self, retry_after_s: float) -> None:
        throttled = RetryableError(
            "Too many requests.", code="ThrottledException", retry_after_s=retry_after_s, is_throttle=True
        )
        self.destination.fail_next(throttled)

    def fail_next(self, *, is_written: bool) -> None:
        self.destination.fail_next(RetryableError("Something broke.", code="ServiceException"), is_written=is_written)

    def lose_next_reply(self) -> None:
        self.destination.lose_next_reply()

    def omit_from_next_answer(self) -> None:
        self.destination.omit_from_next_answer()

    def reject(self, text_fragment: str, code: int) -> None:
        self.destination.reject(text_fragment, code)

    def refuse_batches_with(self, text_fragment: str, *, named: bool) -> None:
        self.destination.refuse_batches_with(text_fragment, named=named)


class TestMemoryDestination(DestinationContract):
    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


@pytest.mark.parametrize("rule", RULES)
def test_the_contract_holds_under_trio(rule: str) -> None:
    """The simulation runs the pipeline on trio, so its destination must too."""
    anyio.run(getattr(DestinationContract(), rule), MemoryWorld(), backend="trio")


async def test_every_request_is_kept_whatever_became_of_it() -> None:
    """A test counts what the pipeline sent, also what was lost."""
    destination = MemoryDestination()
    batch = creates(destination, "first")
    destination.lose_next_reply()
    with pytest.raises(RetryableError):
        await destination.write(batch)

    await destination.write(batch)

    assert destination.requests == [batch, batch]


async def test_a_forgotten_token_lets_a_repeat_duplicate() -> None:
    """That is the danger of an old outbox, and what looking up by key is for."""
    destination = MemoryDestination()
    batch = creates(destination, "first")
    await destination.write(batch)
    destination.forget_tokens()

    await destination.write(batch)

    assert [record.text for record in destination.records.values()] == ["first", "first"]
