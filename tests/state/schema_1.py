"""States of schema 1, as the last memsync that wrote that schema left them, and what they speak of.

`fixtures/schema-1-<case>.sql` is the dump of a state, `fixtures/schema-1-<case>.memory.json` all records that the
memory held beside it. All were made by that memsync's own `run` over `DOCUMENTS`, in a process of its own; only the
times were set to one moment, so that no clock decides what a test finds:

- in-sync: everything is stored;
- outbox: everything is stored, and the answers to that were lost, so that the batch is still in the outbox;
- dead-letters: the memory did not want `notes/old.md`;
- interrupted: killed once its batch was in the outbox, before the memory took it.
"""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from pipeline.local_memory import StoredRecord

CASES = ("in-sync", "outbox", "dead-letters", "interrupted")
FIXTURES = Path(__file__).parent / "fixtures"
MEMORY_ID = "handbook-a1B2c3D4e5"
WRITTEN_AT_NS = 1_700_000_000_000_000_000

# An id that is too long for its entry in a record's metadata, where each `=` takes three characters.
LONG_NAME = "w" * 120 + "=" * 60 + ".md"
DOCUMENTS = {
    "guide.md": "# Guide\n\nHow to begin.\n\n## Later\n\nWhat comes after that.\n",
    "notes/old.md": "# Old\n\nA note from long ago.\n",
    "rows.jsonl": '{"id": "a", "text": "The first row."}\n{"id": "b", "text": "The second row."}\n',
    LONG_NAME: "# Long\n\nA document whose name is long.\n",
}


def settings(endpoint_url: str) -> dict[str, Any]:
    """The settings that the states were made with, for a memory at `endpoint_url`."""
    return {
        "name": "docs",
        "source": {"type": "filesystem", "path": "docs"},
        "destination": {
            "type": "agentcore",
            "memory_id": MEMORY_ID,
            "region": "us-east-1",
            "endpoint_url": endpoint_url,
        },
        "record": {"metadata": {"team": "support", "weight": 2}},
        "chunking": {"max_chars": 200},
        "writers": {"requests_per_second": 1000, "max_attempts": 2, "concurrency": 2},
        "dead_letters": {"max_attempts": 2},
    }


def dump_of(case: str) -> str:
    return (FIXTURES / f"schema-1-{case}.sql").read_text()


def records_of(case: str) -> list[StoredRecord]:
    """What the memory held."""
    written = json.loads((FIXTURES / f"schema-1-{case}.memory.json").read_text())
    return [StoredRecord(**record) for record in written]


def write_state(case: str, path: Path) -> None:
    """Make the file that the old memsync left."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(dump_of(case))


def lay_out(folder: Path, endpoint_url: str, case: str | None = None) -> None:
    """Fill `folder` with what a user of the old memsync has: `docs.yaml`, documents, and the state of `case`.

    Without a case, there are neither documents nor a state.
    """
    (folder / "docs").mkdir(parents=True)
    (folder / "docs.yaml").write_text(yaml.safe_dump(settings(endpoint_url)))
    if case is None:
        return
    for name, text in DOCUMENTS.items():
        file = folder / "docs" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        os.utime(file, ns=(WRITTEN_AT_NS, WRITTEN_AT_NS))
    write_state(case, folder / ".memsync" / "docs" / "state.sqlite3")
