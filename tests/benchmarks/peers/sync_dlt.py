"""**dlt** `filesystem` source with an incremental cursor on the modification date, and a custom destination.

Does: skips files that are no newer than the newest of the last run, writes the others again, goes on after an
interruption, since everything passes through files on its way. Does not: hash, drop duplicates, delete what is gone,
know a file that comes back with an old date. It brings no splitter: text is cut at empty lines. To its advantage the
files on the way are not compressed.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read when dlt is imported: nothing is reported anywhere.
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["DATA_WRITER__DISABLE_COMPRESSION"] = "true"

import dlt
from common import BATCH, Counting, paragraphs, run
from dlt.sources.filesystem import FileItemDict, filesystem


def sync(folder: Path, state: Path, sink: Counting) -> int:
    documents = 0

    @dlt.transformer(name="chunks")
    def chunks(files: list[FileItemDict]) -> Iterator[list[dict[str, Any]]]:
        nonlocal documents
        documents += len(files)
        yield [
            {"id": f"{file['relative_path']}#{number}", "text": piece}
            for file in files
            for number, piece in enumerate(paragraphs(file.read_bytes().decode()))
        ]

    @dlt.destination(batch_size=BATCH, name="counting")
    def write(items: list[dict[str, Any]], table: Any) -> None:
        sink.write([(item["id"], item["text"]) for item in items])

    files = filesystem(
        folder.resolve().as_uri(),
        file_glob="**/*.md",
        files_per_page=BATCH,
        incremental=dlt.sources.incremental("modification_date"),
    )
    pipeline = dlt.pipeline("bench", destination=write, pipelines_dir=str(state.resolve()))
    pipeline.run(files | chunks)
    return documents


run(sync)
