"""**LangChain** `index()` with `cleanup="full"`, a record manager in SQLite, a recursive splitter.

Does: hashes every chunk, writes what is new, drops duplicates, deletes what is gone. Does not: look at a file's time or
size, so each run reads, cuts and hashes everything; save a batch before it is sent; send several at a time. Files are
read without a loader, whose package is no longer maintained.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common import BATCH, CHUNK_CHARACTERS, Counting, run
from langchain_classic.indexes import SQLRecordManager
from langchain_core.documents import Document
from langchain_core.indexing import index
from langchain_core.vectorstores import VectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter


class Store(VectorStore):
    """A vector store without vectors, so that only the indexing is measured."""

    def __init__(self, sink: Counting) -> None:
        self._sink = sink

    def add_documents(self, documents: Sequence[Document], *, ids: Sequence[str], **_: Any) -> list[str]:
        self._sink.write([(name, document.page_content) for name, document in zip(ids, documents, strict=True)])
        return list(ids)

    def delete(self, ids: Sequence[str] | None = None, **_: Any) -> bool:
        self._sink.delete(ids or [])
        return True

    def similarity_search(self, *_: Any, **__: Any) -> list[Document]:
        raise NotImplementedError

    @classmethod
    def from_texts(cls, *_: Any, **__: Any) -> "Store":
        raise NotImplementedError


def sync(folder: Path, state: Path, sink: Counting) -> int:
    records = SQLRecordManager("bench", db_url=f"sqlite:///{state / 'records.sqlite'}")
    records.create_schema()
    splitter = RecursiveCharacterTextSplitter(chunk_size=CHUNK_CHARACTERS, chunk_overlap=0)
    documents = 0

    def chunks() -> Iterator[Document]:
        nonlocal documents
        for file in sorted(folder.rglob("*.md")):
            documents += 1
            document = Document(file.read_text(encoding="utf-8"), metadata={"source": str(file)})
            yield from splitter.split_documents([document])

    index(
        chunks(), records, Store(sink), batch_size=BATCH, cleanup="full", source_id_key="source", key_encoder="sha256"
    )
    return documents


run(sync)
