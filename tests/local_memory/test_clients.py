"""Clients other than boto3, and the ways to start and stop the server."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from pipeline.local_memory import Faults, LocalMemory, serve_forever

from .conftest import MEMORY_ID, Service, record

AWS_CLI = Path(sys.executable).with_name("aws")


def aio_client(url: str, **config: Any) -> Any:
    """An aiobotocore client that makes one attempt per call."""
    return get_session().create_client(
        "bedrock-agentcore",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=AioConfig(retries={"total_max_attempts": 1}, **config),
    )


async def test_aiobotocore_writes_from_many_tasks_at_once() -> None:
    """It is the client of memsync; every request is a transaction of its own."""
    async with LocalMemory.serve(memories=[MEMORY_ID]) as server:
        async with (
            aio_client(server.url, max_pool_connections=16) as client,
            anyio.create_task_group() as tasks,
        ):

            async def write(number: int) -> None:
                records = [record(f"{number}-{position}") for position in range(20)]
                await client.batch_create_memory_records(memoryId=MEMORY_ID, records=records)

            for number in range(50):
                tasks.start_soon(write, number)

        assert len({stored.text for stored in server.records(MEMORY_ID)}) == 1_000
        assert server.requests == {("BatchCreateMemoryRecords", 201): 50}


async def test_latency_delays_one_request_and_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow answer must not block the server."""
    asleep = anyio.Event()

    async def sleep(seconds: float) -> None:
        assert seconds == 3600
        asleep.set()
        await anyio.sleep_forever()

    async with (
        LocalMemory.serve(memories=[MEMORY_ID], faults=Faults(latency_s=3600)) as server,
        aio_client(server.url) as client,
        anyio.create_task_group() as tasks,
    ):
        with monkeypatch.context() as patches:
            patches.setattr("pipeline.local_memory.server.anyio.sleep", sleep)
            tasks.start_soon(lambda: client.list_memory_records(memoryId=MEMORY_ID, namespacePath="/"))
            await asleep.wait()
        server.faults = Faults()

        await client.batch_create_memory_records(memoryId=MEMORY_ID, records=[record("text")])

        assert server.requests == {("BatchCreateMemoryRecords", 201): 1}
        tasks.cancel_scope.cancel()


async def test_the_server_can_be_run_until_cancelled(tmp_path: Path) -> None:
    """The entry of `memsync local`: it reports its URL, and its file survives the interruption."""
    data = tmp_path / "memory.db"
    urls: list[str] = []
    async with anyio.create_task_group() as tasks:
        ready = anyio.Event()

        def on_ready(url: str) -> None:
            urls.append(url)
            ready.set()

        async def serve() -> None:
            await serve_forever(
                data,
                host="127.0.0.1",
                port=0,
                faults=Faults(),
                memories=(),
                adopt_first=True,
                on_ready=on_ready,
            )

        tasks.start_soon(serve)
        await ready.wait()
        async with aio_client(urls[0]) as client:
            await client.batch_create_memory_records(memoryId=MEMORY_ID, records=[record("text")])
        tasks.cancel_scope.cancel()

    async with LocalMemory.serve(data) as server:
        assert [stored.text for stored in server.records(MEMORY_ID)] == ["text"]


async def test_a_port_that_is_taken_is_an_error() -> None:
    """And leaves nothing open behind."""
    async with LocalMemory.serve() as server:
        port = int(server.url.rpartition(":")[2])

        with pytest.raises(OSError, match="address already in use"):
            async with LocalMemory.serve(port=port):
                pass


def test_the_package_is_imported_without_botocore() -> None:
    """Its model is read when a server starts, not before: `memsync --help` must be quick."""
    program = "import sys, pipeline.local_memory; print('botocore' in sys.modules)"

    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert output.stdout.strip() == "False"


@pytest.mark.skipif(not AWS_CLI.exists(), reason="the AWS command line is not installed")
def test_the_aws_command_line_can_be_pointed_at_it(service: Service) -> None:
    """The tool that every user of AgentCore has at hand."""
    service.create(record("Parental leave is sixteen weeks."))
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": service.server.url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [
        *(str(AWS_CLI), "bedrock-agentcore", "retrieve-memory-records", "--memory-id", MEMORY_ID),
        *("--namespace-path", "/", "--search-criteria", "searchQuery=parental leave"),
        *("--query", "memoryRecordSummaries[].content.text", "--output", "text"),
    ]

    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert output.stdout.strip() == "Parental leave is sixteen weeks."
