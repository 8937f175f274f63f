"""What a record costs on its way through the client, against the same client as it comes."""

import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
from anyio import create_task_group
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pipeline.destinations.agentcore import AgentCoreConnection, open_agentcore
from pipeline.model import Batch, ClientToken, Create, DocumentId, Entry, Operation, Record, RecordKey
from tests.pipeline.examples import gate

RECORDS = 100
TEXT = "memsync keeps an agent's memory equal to a set of documents, and says so when it cannot. " * 17
METADATA = {f"key-{number}": f"value {number}" for number in range(4)} | {"number": 4.0}
REGION, MEMORY_ID = "us-east-1", "bench-a1B2c3D4e5"
KEY_ID, SECRET = "local", "local"

Send = Callable[[], Awaitable[int]]


def connection(url: str, writers: int) -> AgentCoreConnection:
    return AgentCoreConnection(MEMORY_ID, REGION, url, concurrency=writers, credentials=(KEY_ID, SECRET))


@asynccontextmanager
async def memsyncs(url: str, writers: int) -> AsyncIterator[Send]:
    """Our way from saved bytes to what became of each record."""
    async with open_agentcore(connection(url, writers), gate()) as destination:
        now = datetime.now(UTC)
        records = [
            Record(RecordKey(f"{number:040}"), DocumentId("a.md"), "/docs/", TEXT, now, dict(METADATA), "digest", 1.0)
            for number in range(RECORDS)
        ]
        members = [destination.encode(Create(record)) for record in records]
        entries = tuple(Entry(each.key, each.document, each.namespace, each.digest, each.order) for each in records)
        token = ClientToken("benchmark-token-of-thirty-three-chars")
        body = destination.encode_request(Operation.CREATE, members, token)
        batch = Batch(token, Operation.CREATE, entries, body, saved_at=0.0)

        async def send() -> int:
            return len((await destination.write(batch)).succeeded)

        yield send


@asynccontextmanager
async def stock(url: str, writers: int) -> AsyncIterator[Send]:
    """aiobotocore as its documentation uses it, with as many connections as there are writers."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    config = AioConfig(max_pool_connections=writers, retries={"total_max_attempts": 1})
    async with get_session().create_client(
        "bedrock-agentcore",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=config,
    ) as client:
        now = datetime.now(UTC)
        records = [
            {
                "requestIdentifier": f"{number:040}",
                "namespaces": ["/docs/"],
                "content": {"text": TEXT},
                "timestamp": now,
                "metadata": {
                    key: {"stringValue": value} if isinstance(value, str) else {"numberValue": value}
                    for key, value in METADATA.items()
                },
            }
            for number in range(RECORDS)
        ]

        async def send() -> int:
            answer: dict[str, Any] = await client.batch_create_memory_records(
                memoryId=MEMORY_ID, records=records, clientToken="benchmark-token-of-thirty-three-chars"
            )
            return len(answer["successfulRecords"])

        yield send


@asynccontextmanager
async def bare(url: str, writers: int) -> AsyncIterator[Send]:
    """The least that HTTP and signing cost from Python: no client of AWS at all."""
    async with AsyncExitStack() as stack:
        open_batch = await stack.enter_async_context(open_agentcore(connection(url, writers), gate()))
        now = datetime.now(UTC)
        record = Record(RecordKey("0" * 40), DocumentId("a.md"), "/docs/", TEXT, now, dict(METADATA), "digest", 1.0)
        members = [open_batch.encode(Create(record))] * RECORDS
        body = open_batch.encode_request(Operation.CREATE, members, ClientToken("t" * 36))
        connector = aiohttp.TCPConnector(limit=writers)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        signer = SigV4Auth(Credentials(KEY_ID, SECRET), "bedrock-agentcore", REGION)
        target = f"{url}/memories/{MEMORY_ID}/memoryRecords/batchCreate"

        async def send() -> int:
            import orjson

            request = AWSRequest("POST", target, data=body, headers={"Content-Type": "application/json"})
            signer.add_auth(request)
            async with session.post(target, data=io.BytesIO(body), headers=dict(request.headers.items())) as answer:
                return len(orjson.loads(await answer.read())["successfulRecords"])

        yield send


VARIANTS = {"memsync": memsyncs, "stock aiobotocore": stock, "aiohttp, signed by hand": bare}


async def measure(variant: str, url: str, *, requests: int, writers: int) -> tuple[float, float]:
    """Seconds, and seconds of this process's CPU, for each record of `requests` requests."""
    async with VARIANTS[variant](url, writers) as send:
        assert await send() == RECORDS  # also makes the client, and its first connection
        remaining = iter(range(requests))

        async def write() -> None:
            for _ in remaining:
                await send()

        began, cpu_began = time.perf_counter(), time.process_time()
        async with create_task_group() as tasks:
            for _ in range(writers):
                tasks.start_soon(write)
        count = requests * RECORDS
        return (time.perf_counter() - began) / count, (time.process_time() - cpu_began) / count
