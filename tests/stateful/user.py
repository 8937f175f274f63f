"""Somebody who uses memsync: documents, a state and a memory, and what can be known of them without memsync."""

import json
import shutil
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.local_memory import StoredRecord
from tests.acceptance.conftest import Completed, check_laws, document_of, metadata_of
from tests.state.schema_1 import DOCUMENTS, LONG_NAME, lay_out, records_of
from tests.stateful.memory import OpenMemory
from tests.stateful.zygote import Zygote

KILLED = -9


def squeezed(text: str) -> str:
    """`text` without its white space: what is left between chunks is nobody's."""
    return "".join(text.split())


def documents_in(name: str, text: str) -> dict[str, str]:
    """The documents that a file holds, by id; a JSON Lines file holds one a line."""
    if not name.endswith(".jsonl"):
        return {name: squeezed(text)}
    rows = [json.loads(line) for line in text.splitlines()]
    return {f"{name}#{row['id']}": squeezed(row["text"]) for row in rows}


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the state file says, read by nobody's code but this."""

    is_acquainted: bool = False
    has_mark: bool = False
    record_ids: frozenset[str] = frozenset()
    keys: frozenset[tuple[str, str]] = frozenset()  # of the records whose document is known, each behind its id
    unattributed: frozenset[str] = frozenset()
    letters: frozenset[str] = frozenset()  # the documents that they are of
    pending: int = 0
    in_outbox: frozenset[str] = frozenset()  # the documents whose records are pending
    documents: int = 0


@dataclass(slots=True)
class User:
    folder: Path
    memory: OpenMemory
    zygote: Zygote
    files: dict[str, str] = field(default_factory=dict)
    planted: dict[str, StoredRecord] = field(default_factory=dict)  # not memsync's, by id
    copies: set[str] = field(default_factory=set)  # ids of second copies of memsync's records

    @property
    def state(self) -> Path:
        return self.folder / ".memsync"

    def begin(self, case: str | None) -> None:
        """Be new to memsync, or come from an older version with a state of `case`."""
        lay_out(self.folder, self.memory.url, case)
        if case is not None:
            self.files = dict(DOCUMENTS)
            self.memory.put(records_of(case))

    # ------------------------------------------------------------------------------------------- documents

    def write(self, name: str, text: str) -> None:
        file = self.folder / "docs" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        self.files[name] = text

    def remove(self, name: str) -> None:
        (self.folder / "docs" / name).unlink()
        del self.files[name]

    def wanted(self) -> dict[str, str]:
        """What the memory should hold, by document."""
        return {key: text for name, text in self.files.items() for key, text in documents_in(name, text).items()}

    # ---------------------------------------------------------------------------------------------- facts

    def ours(self) -> list[StoredRecord]:
        """What memsync wrote."""
        return [record for record in self.memory.records() if record.record_id not in self.planted]

    def keys_held(self) -> set[tuple[str, str]]:
        """The keys of what memsync wrote, each behind the id of its record: an update may have given it another key."""
        return {(record.record_id, str(metadata_of(record)["memsync-key"])) for record in self.ours()}

    def held(self) -> dict[str, str]:
        """What the memory holds, by document; a second copy of a record counts once."""
        chunks: dict[str, dict[str, tuple[float, str]]] = defaultdict(dict)
        for record in self.ours():
            metadata = metadata_of(record)
            document = LONG_NAME if "=-" in str(metadata["memsync-document"]) else document_of(record)
            chunks[document].setdefault(metadata["memsync-key"], (metadata["memsync-chunk"], record.text))
        return {
            document: squeezed("".join(text for _, text in sorted(by_key.values())))
            for document, by_key in chunks.items()
        }

    def keys_held_twice(self) -> list[str]:
        """Keys of records that memsync has written more than once."""
        counted = Counter(
            metadata_of(record)["memsync-key"] for record in self.ours() if record.record_id not in self.copies
        )
        return [key for key, count in counted.items() if count > 1]

    def unattributable(self) -> set[str]:
        """Documents with records that do not say whose they are, as old versions wrote them for very long names."""
        is_any = any(
            "=-" in str(metadata_of(record)["memsync-document"]) and "memsync-document-whole" not in metadata_of(record)
            for record in self.ours()
        )
        return {LONG_NAME} if is_any else set()

    def ledger(self, folder: Path | None = None) -> Ledger:
        """What the state says, or a copy of it in `folder`."""
        path = (folder or self.state) / "docs" / "state.sqlite3"
        if not path.exists():
            return Ledger()
        # A copy is read: looking at a WAL makes files beside it, and closing it may take the WAL away.
        looked_at = self.folder.with_name("looked-at")
        shutil.rmtree(looked_at, ignore_errors=True)
        shutil.copytree(path.parent, looked_at)
        with closing(sqlite3.connect(looked_at / path.name)) as connection:

            def column(query: str) -> list[Any]:
                return [value for (value,) in connection.execute(query)]

            meta = set(column("SELECT name FROM meta"))
            return Ledger(
                is_acquainted="acquainted_at" in meta or "1" in column("SELECT value FROM meta WHERE name = 'schema'"),
                has_mark="marked_at" in meta,
                record_ids=frozenset(column("SELECT memory_record_id FROM record")),
                keys=frozenset(connection.execute("SELECT memory_record_id, key FROM record WHERE document <> ''")),
                unattributed=frozenset(column("SELECT memory_record_id FROM record WHERE document = ''")),
                letters=frozenset(column("SELECT document FROM dead_letter")),
                pending=column("SELECT count(*) FROM outbox")[0],
                in_outbox=frozenset(column("SELECT document FROM outbox_key")),
                documents=column("SELECT count(*) FROM document WHERE has_parts = 0 AND skipped IS NULL")[0],
            )

    # -------------------------------------------------------------------------------------------- commands

    def memsync(self, *arguments: str, kill: tuple[str, int] | None = None) -> Completed:
        """Run a command to its end, or until it is killed, and hold it to the laws of every run."""
        output = self.folder.with_name("output")
        output.mkdir(exist_ok=True)
        done = Completed(*self.zygote.run(self.folder, output, *arguments, "docs.yaml", "--json", kill=kill))
        if done.exit_code != KILLED:
            check_laws(done, arguments[0])
        return done
