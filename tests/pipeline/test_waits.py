"""What the stages say of their waits: without that, a run that waits looks like one that hangs."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.errors import RetryableError, SourceError
from pipeline.events import RunEvent, Wait, WaitEnded, WaitStarted
from pipeline.job import SourceJob
from pipeline.model import Document, DocumentId, DocumentRef
from pipeline.planner import DeletePolicy
from pipeline.runs.parts import open_job
from pipeline.sync import sync
from pipeline.workers import open_workers
from tests.pipeline.test_sync import World, numbered, on_virtual_time
from tests.pipeline.test_workers import OBEDIENT


def heard_by(events: list[RunEvent]) -> Callable[[SourceJob], Awaitable[None]]:
    """A sync whose events go to `events`."""
    return lambda job: sync(replace(job, observe=events.append))


def started(events: list[RunEvent]) -> list[Wait]:
    return [event.wait for event in events if isinstance(event, WaitStarted)]


def require_all_ended(events: list[RunEvent]) -> None:
    """Each wait ends once, behind its beginning."""
    open_waits: list[Wait] = []
    for event in events:
        match event:
            case WaitStarted(wait):
                open_waits.append(wait)
            case WaitEnded(wait):
                open_waits.remove(wait)
            case _:
                pass
    assert open_waits == []


def test_a_run_says_what_it_waits_for_and_when_that_is_over() -> None:
    """The listing, each document, the pace and the memory; a throttled request waits for its pace once more."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        world.memory.fail_next(RetryableError("slow down", code="Throttling", is_throttle=True, retry_after_s=7.0))
        world.memory.fail_next(RetryableError("away", code="EndpointConnectionError"))
        events: list[RunEvent] = []

        await world.do(heard_by(events))

        waits = started(events)
        kinds = {(wait.stage, wait.reason) for wait in waits}
        assert kinds >= {("scan", "source"), ("fetch", "source"), ("write", "pacer"), ("write", "service")}
        assert {wait.document for wait in waits if wait.stage == "fetch"} == {"0.md", "1.md", "2.md"}
        assert any(wait.reason == "pacer" and wait.seconds and wait.seconds >= 6.9 for wait in waits)
        assert [wait.seconds is not None for wait in waits if wait.reason == "backoff"] == [True]
        require_all_ended(events)

    on_virtual_time(story)


def test_what_a_run_waited_for_is_over_when_the_run_fails() -> None:
    """Else the display and the log would go on to name it."""

    async def story(world: World) -> None:
        world.source.documents = numbered(3)
        world.source.fails_after = 1
        events: list[RunEvent] = []

        with pytest.raises(SourceError):
            await world.do(heard_by(events))

        assert started(events)
        require_all_ended(events)

    on_virtual_time(story)


@pytest.mark.parametrize("processes", [0, 1])
async def test_the_document_that_is_parsed_is_named(processes: int) -> None:
    """One that takes minutes should be found without a debugger."""
    events: list[RunEvent] = []
    ref = DocumentRef(DocumentId("large.md"), "file:///large.md")

    async with open_workers(OBEDIENT, processes=processes, lists_before_start=0, observe=events.append) as derive:
        async for _ in await derive([Document(ref, b"words", "text/markdown")]):
            pass

    assert next(wait.document for wait in started(events) if wait.reason == "parser") == "large.md"
    require_all_ended(events)


async def test_the_disk_of_the_ledger_is_waited_for(tmp_path: Path) -> None:
    """A disk that hangs, or that somebody else keeps busy, holds up everything."""
    file = tmp_path / "docs.yaml"
    file.write_text("source: {type: filesystem, path: .}\ndestination: {type: agentcore, endpoint_url: local}\n")
    events: list[RunEvent] = []

    async with open_job(load_sources([file])[0], "run-1", DeletePolicy(), events.append) as job:
        await job.state.counts()

    assert {(wait.stage, wait.reason) for wait in started(events)} == {("ledger", "disk")}
    require_all_ended(events)
