"""What all peers share: their arguments, their clock, what they write to, and a cut for those that bring none.

The peers' scripts run with the Python of `.venv-peers`, which knows nothing of memsync.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

CHUNK_CHARACTERS = 4000  # memsync's own setting, when none is given
BATCH = 100


class Counting:
    """A sink that costs nothing: it counts what it is given."""

    def __init__(self) -> None:
        self.written = 0
        self.deleted = 0

    def write(self, chunks: Sequence[tuple[str, str]]) -> None:
        """Take `chunks`, each an id and a text."""
        self.written += len(chunks)

    def delete(self, ids: Sequence[str]) -> None:
        self.deleted += len(ids)


class Memory(Counting):
    """The memory behind `url`, through boto3 as its documentation uses it; ids of records are taken to be our ids."""

    def __init__(self, url: str) -> None:
        super().__init__()
        import boto3

        self._client = boto3.client(
            "bedrock-agentcore",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        self._now = time.time()

    def write(self, chunks: Sequence[tuple[str, str]]) -> None:
        for batch in batches(chunks):
            records = [
                {
                    "requestIdentifier": name,
                    "namespaces": ["/docs/"],
                    "content": {"text": text},
                    "timestamp": self._now,
                }
                for name, text in batch
            ]
            answer = self._client.batch_create_memory_records(memoryId="bench-a1B2c3D4e5", records=records)
            self.written += len(answer["successfulRecords"])

    def delete(self, ids: Sequence[str]) -> None:
        for batch in batches(ids):
            records = [{"memoryRecordId": f"mem-{name}"} for name in batch]
            answer = self._client.batch_delete_memory_records(memoryId="bench-a1B2c3D4e5", records=records)
            self.deleted += len(answer["successfulRecords"])


def batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def paragraphs(text: str) -> list[str]:
    """Cut `text` at empty lines into pieces of at most `CHUNK_CHARACTERS`: the least work that a cut can be."""
    pieces, piece = [], ""
    for paragraph in text.split("\n\n"):
        if piece and len(piece) + len(paragraph) + 2 > CHUNK_CHARACTERS:
            pieces.append(piece)
            piece = ""
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
    return [*pieces, piece] if piece else pieces


def run(sync: Callable[[Path, Path, Counting], int]) -> None:
    """Sync a folder once, and print what was done. Everything that `sync` needs is imported before the clock starts.

    `sync` is given the folder, a folder for its state, and the sink. It returns the number of documents that it saw.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("sink", help="`count`, or the URL of a memory")
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    sink = Counting() if arguments.sink == "count" else Memory(arguments.sink)

    began = time.perf_counter()
    documents = sync(arguments.folder, arguments.state, sink)
    report(documents, sink.written, sink.deleted, time.perf_counter() - began)


def report(documents: int, written: int, deleted: int, seconds: float) -> None:
    said = {"documents": documents, "written": written, "deleted": deleted, "seconds": seconds}
    sys.stdout.write(f"\n{json.dumps(said)}\n")
