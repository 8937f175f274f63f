"""**Haystack** pipeline of converter, recursive splitter and writer, with `DuplicatePolicy.SKIP`.

Does: makes each chunk's id from its content, writes what is new. Does not: look at a file's time or size, so each run
reads, cuts and hashes everything; delete what is gone or has changed. To its advantage the document store keeps nothing
but ids, in a file, and the pipeline is run with a hundred files at a time.
"""

import os
from collections.abc import Sequence
from pathlib import Path

# Read when Haystack is imported: nothing is reported anywhere.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from common import CHUNK_CHARACTERS, Counting, batches, run
from haystack import Document, Pipeline
from haystack.components.converters import TextFileToDocument
from haystack.components.preprocessors import RecursiveDocumentSplitter
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy


class Store:
    """A document store that remembers ids only."""

    def __init__(self, ids: Path, sink: Counting) -> None:
        self._ids = ids
        self._sink = sink
        self._known = set(ids.read_text().split()) if ids.exists() else set()

    def write_documents(self, documents: Sequence[Document], policy: DuplicatePolicy) -> int:
        assert policy is DuplicatePolicy.SKIP
        new = [document for document in documents if document.id not in self._known]
        self._sink.write([(document.id, document.content) for document in new])
        self._known.update(document.id for document in new)
        return len(new)

    def save(self) -> None:
        self._ids.write_text("\n".join(sorted(self._known)))


def sync(folder: Path, state: Path, sink: Counting) -> int:
    store = Store(state / "ids.txt", sink)
    pipeline = Pipeline()
    pipeline.add_component("converter", TextFileToDocument())
    pipeline.add_component(
        "splitter",
        RecursiveDocumentSplitter(
            split_length=CHUNK_CHARACTERS, split_overlap=0, split_unit="char", separators=["\n\n", "\n", " "]
        ),
    )
    pipeline.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.SKIP))
    pipeline.connect("converter.documents", "splitter.documents")
    pipeline.connect("splitter.documents", "writer.documents")
    files = sorted(folder.rglob("*.md"))
    for batch in batches(files):
        pipeline.run({"converter": {"sources": batch}})
    store.save()
    return len(files)


run(sync)
