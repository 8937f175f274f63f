"""A local memory that a test can also change behind memsync's back."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from anyio.from_thread import BlockingPortal, start_blocking_portal

from pipeline.local_memory import LocalMemory, StoredRecord
from tests.acceptance.conftest import Memory


class OpenMemory(Memory):
    """A running memory; what is put into it is not indexed by its metadata."""

    def __init__(self, server: LocalMemory, portal: BlockingPortal, memory_id: str) -> None:
        super().__init__(server, portal)
        self._memory_id = memory_id

    def put(self, records: Iterable[StoredRecord]) -> None:
        """Add `records`, with their ids."""
        for record in records:
            self._portal.call(self._server._store.insert, record, ())

    def remove(self, record_ids: Iterable[str]) -> None:
        for record_id in record_ids:
            self._portal.call(self._server._store.delete, self._memory_id, record_id, 0.0)


@contextmanager
def open_memory(memory_id: str) -> Iterator[OpenMemory]:
    """Serve an empty memory."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(LocalMemory.serve(memories=[memory_id])) as server,
    ):
        yield OpenMemory(server, portal, memory_id)
