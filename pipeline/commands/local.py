"""`memsync local`."""

import sys
from pathlib import Path

import click

from pipeline.commands.shared import command, stopping
from pipeline.errors import ConfigurationError


@click.command("local")
@click.option(
    "--port", metavar="PORT", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--data", type=click.Path(path_type=Path, dir_okay=False), help="Keep the memory in this SQLite file.")
@click.option(
    "--memory-id", "memory_ids", metavar="ID", multiple=True, help="Have this memory from the start; repeatable."
)
@click.option("--faults", "faults_text", metavar="KEY=VALUE,...", default="", help="Rehearse trouble, as told above.")
@command
async def local_command(port: int, data: Path | None, memory_ids: tuple[str, ...], faults_text: str) -> int:
    """Serve an AgentCore memory on this machine.

    For trying out, for rehearsals and for tests; AWS clients of any language can talk to it.

    Without --memory-id, a memory that has nothing yet takes on the first id that it is asked for.

    --faults takes requests_per_second and burst (429 above that rate); throttle, error_before_write,
    error_after_write, drop_before_write, drop_after_write, omit_record (fractions of requests); failed_record with
    failed_record_code (a fraction of records); reject_text with reject_code (records with this text fail); poison_text
    (requests with this text are refused); latency_s, list_lag_s, update_lag_s; seed.
    """
    from anyio import create_task_group

    from pipeline.local_memory import Faults, UnreadableStoreError, serve_forever

    try:
        faults = Faults.parse(faults_text)
    except ValueError as error:
        raise ConfigurationError(f"--faults: {error}") from error

    def announce(url: str) -> None:
        where = f"in {data}" if data else "nowhere: it is gone when this ends"
        click.echo(
            f"Local AgentCore memory at {url}, kept {where}.\n"
            f"Set destination.endpoint_url to {url}; for AWS clients: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE={url}\n"
            "Stop with Ctrl-C."
        )
        sys.stdout.flush()

    async with stopping() as stop, create_task_group() as tasks:
        with stop.heeded():
            try:
                await serve_forever(
                    data, "127.0.0.1", port, faults, memory_ids, adopt_first=not memory_ids, on_ready=announce
                )
            except (UnreadableStoreError, OSError) as error:
                raise ConfigurationError(f"The local memory cannot be served on port {port}: {error}") from error
        tasks.cancel_scope.cancel()
    return 0
