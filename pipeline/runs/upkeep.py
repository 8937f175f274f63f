"""What is done with a source beside its runs: it is compared, mended, rebuilt and searched, and letters are dropped."""

import time
from collections.abc import Callable, Collection

from pipeline.configuration.settings import SourceSettings
from pipeline.dead_letters import JsonLinesFile
from pipeline.errors import (
    SourceError,
    StateError,
    ungrouped,
)
from pipeline.events import (
    nobody,
)
from pipeline.identity import METADATA_ESCAPE, decode
from pipeline.limits import service_limits
from pipeline.mapping import namespace_root
from pipeline.parsing import Parser
from pipeline.planner import DeletePolicy
from pipeline.provenance import DOCUMENT_METADATA_KEY, SOURCE_METADATA_KEY
from pipeline.reporting.listings import SearchHit
from pipeline.runs.measured import timing_of
from pipeline.runs.parts import (
    basis_of_listings,
    hold_source,
    open_connector,
    open_destination,
    open_job,
    open_source_state,
    record_rules,
)
from pipeline.runs.runner import new_run_id
from pipeline.sync import rebuild, repair
from pipeline.verifying import SourceComparison, Verification, Verifier, compare_source


async def verify_source(settings: SourceSettings) -> tuple[Verification, SourceComparison | SourceError]:
    """Compare the ledger of a source with its memory, and with the source itself (or tell why not). Changes nothing.

    Raises:
        SyncError: the ledger or the memory could not be read.
    """
    async with (
        open_source_state(settings, is_read_only=True) as state,
        open_destination(settings) as memory,
    ):
        rules = record_rules(settings)
        verifier = Verifier(state, memory, rules, service_limits(), timing_of(settings).settle_s, time.time)
        found = await verifier.verify()
        source: SourceComparison | SourceError
        try:
            async with open_connector(settings) as connector:
                parser = Parser(settings.parsing.rules())
                source = await compare_source(
                    state, connector, parser, rules.recipe, basis_of_listings(settings, parser)
                )
        except SourceError as error:
            source = error
        return found, source


async def repair_source(settings: SourceSettings) -> Verification:
    """Bring the ledger of a source in line with its memory; the next run writes what is missing or changed.

    Raises:
        SyncError: it could not be done, or only in part.
    """
    with ungrouped():
        async with open_job(settings, new_run_id(), DeletePolicy(), nobody) as job:
            return await repair(job)


async def count_unattributed(settings: SourceSettings) -> int:
    """How many records of no document the ledger of a source has.

    Raises:
        StateError, ConfigurationError: the ledger could not be read.
    """
    async with open_source_state(settings, is_read_only=True) as state:
        return (await state.counts()).unattributed


async def recover_source(settings: SourceSettings, before_listing: Callable[[], None]) -> Verification:
    """Rebuild the lost ledger of a source from its memory; `before_listing` is called once it is known to be lost.

    Raises:
        SyncError: there is a ledger, or it could not be rebuilt.
    """
    with ungrouped():
        async with open_job(settings, new_run_id(), DeletePolicy(), nobody) as job:
            counts = await job.state.counts()
            if (counts.records or counts.batches) and await job.state.acquainted_at() is not None:
                raise StateError(
                    f"The ledger is there: it knows {counts.records} records. Nothing was done. `memsync verify`"
                    " compares it with the memory, `memsync verify --repair` mends it."
                )
            before_listing()
            return await rebuild(job)


async def drop_letters(settings: SourceSettings, ids: Collection[str]) -> int:
    """Give dead letters up for good; return how many that were.

    Raises:
        SyncError: none was dropped, or another run has the source.
    """
    with ungrouped():
        async with hold_source(settings, new_run_id()) as (state, _):
            before = await state.counts()
            await state.drop_letters(ids, time.time())
            # The ledger decides; the file follows, at the latest with the next run.
            await JsonLinesFile(settings.dead_letters_path, settings.name).rewrite(await state.letters())
            return (await state.counts()).dropped - before.dropped


async def search_source(settings: SourceSettings, query: str, count_max: int) -> list[SearchHit]:
    """The records of a source that answer `query` best.

    Raises:
        SyncError: the memory could not be asked.
    """
    async with open_destination(settings) as memory:
        found = await memory.search(query, namespace_path=namespace_root(record_rules(settings)), count_max=count_max)
    return [
        SearchHit(
            record.score or 0.0,
            record.text,
            document_id=decode(str(record.metadata.get(DOCUMENT_METADATA_KEY, "")), METADATA_ESCAPE) or None,
            source=decode(str(record.metadata.get(SOURCE_METADATA_KEY, "")), METADATA_ESCAPE) or None,
        )
        for record in found
    ]
