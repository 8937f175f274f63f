"""A local memory on a thread of its own, and boto3 as its client: a judge that is not ours."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import boto3
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from botocore.config import Config

from pipeline.local_memory import LocalMemory, StoredRecord

MEMORY_ID = "handbook-a1B2c3D4e5"

Client = Any  # boto3 ships no types


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """A running local memory with its clients."""

    def __init__(self, server: LocalMemory, portal: BlockingPortal, clients: ExitStack) -> None:
        self.server = server
        self.data = clients.enter_context(client_of("bedrock-agentcore", server.url))
        self.control = clients.enter_context(client_of("bedrock-agentcore-control", server.url))
        self._portal = portal

    def stored(self, memory_id: str = MEMORY_ID) -> list[StoredRecord]:
        """What the memory holds."""
        return self._portal.call(self.server.records, memory_id)

    def stored_texts(self) -> list[str]:
        """The texts that the memory holds, in order of creation."""
        return [record.text for record in self.stored()]

    def create_memory(self, memory_id: str, indexed_keys: Mapping[str, str]) -> None:
        """Add a memory from within the process that serves."""
        self._portal.call(self.server.create_memory, memory_id, indexed_keys)

    def create(self, *records: Mapping[str, Any], memory_id: str = MEMORY_ID, **options: Any) -> list[str]:
        """Create records, all of which must succeed, and return their ids."""
        answer = self.data.batch_create_memory_records(memoryId=memory_id, records=records, **options)
        assert answer["failedRecords"] == []
        return [entry["memoryRecordId"] for entry in answer["successfulRecords"]]

    def create_texts(self, texts: Sequence[str]) -> list[str]:
        """Create any number of records with these texts and return their ids."""
        batches = [texts[start : start + 100] for start in range(0, len(texts), 100)]
        return [record_id for batch in batches for record_id in self.create(*map(record, batch))]

    def listed_texts(self, **request: Any) -> list[str]:
        """The texts of all pages of a listing."""
        pages = self.data.get_paginator("list_memory_records").paginate(memoryId=MEMORY_ID, **request)
        return [summary["content"]["text"] for page in pages for summary in page["memoryRecordSummaries"]]

    def found_texts(self, query: str, **request: Any) -> list[str]:
        """The texts that a query finds, best first."""
        answer = self.data.retrieve_memory_records(
            **{
                "memoryId": MEMORY_ID,
                "namespacePath": "/",
                "searchCriteria": {"searchQuery": query},
                **request,
            }
        )
        return [summary["content"]["text"] for summary in answer["memoryRecordSummaries"]]


def record(text: str, **members: Any) -> dict[str, Any]:
    """A record as BatchCreateMemoryRecords takes it."""
    return {
        "requestIdentifier": "record",
        "namespaces": ["/docs/"],
        "content": {"text": text},
        "timestamp": 1_700_000_000,
        **members,
    }


@functools.cache
def session() -> boto3.Session:
    """One session for all tests: it keeps the parsed service models."""
    return boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")


@contextmanager
def client_of(service: str, url: str) -> Iterator[Client]:
    """A boto3 client that makes one attempt per call."""
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    client = session().client(service, endpoint_url=url, config=config)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def serve(**options: Any) -> Iterator[Service]:
    """Run a local memory that holds MEMORY_ID unless `options` say otherwise."""
    with start_blocking_portal() as portal, ExitStack() as clients:
        serving = LocalMemory.serve(**{"memories": [MEMORY_ID], **options})
        with portal.wrap_async_context_manager(serving) as server:
            try:
                yield Service(server, portal, clients)
            finally:
                clients.close()


Serve = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(clock: Clock) -> Iterator[Service]:
    with serve(clock=clock) as running:
        yield running
