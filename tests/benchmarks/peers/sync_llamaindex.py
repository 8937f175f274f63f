"""**LlamaIndex** `IngestionPipeline` with `UPSERTS_AND_DELETE`, a docstore saved as a file, a sentence splitter.

Does: hashes every document, writes what is new or changed, deletes what is gone. Does not: look at a file's time or
size, so each run reads and hashes everything; keep its docstore elsewhere than in memory. To its advantage the splitter
counts characters instead of tokens, texts stay out of the docstore, and there is neither a cache nor an embedding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import CHUNK_CHARACTERS, Counting, run
from llama_index.core import SimpleDirectoryReader
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore


class Embedded(TransformComponent):
    """The least embedding that there is: nodes without one are not written."""

    def __call__(self, nodes: Sequence[BaseNode], **_: Any) -> Sequence[BaseNode]:
        for node in nodes:
            node.embedding = [0.0]
        return nodes


class Store(BasePydanticVectorStore):
    """A vector store without vectors, so that only the ingestion is measured."""

    stores_text: bool = True
    sink: Any

    @property
    def client(self) -> None:
        return None

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        self.sink.write([(node.node_id, node.get_content()) for node in nodes])
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        self.sink.delete([ref_doc_id])

    def query(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def characters(text: str) -> str:
    """What the splitter counts to know how long `text` is."""
    return text


def sync(folder: Path, state: Path, sink: Counting) -> int:
    pipeline = IngestionPipeline(
        transformations=[
            SentenceSplitter(
                chunk_size=CHUNK_CHARACTERS, chunk_overlap=0, tokenizer=characters, include_metadata=False
            ),
            Embedded(),
        ],
        vector_store=Store(sink=sink),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        disable_cache=True,
    )
    if any(state.iterdir()):
        pipeline.load(str(state))
    documents = SimpleDirectoryReader(
        str(folder), recursive=True, filename_as_id=True, required_exts=[".md"]
    ).load_data()
    pipeline.run(documents=documents, store_doc_text=False)
    pipeline.persist(str(state))
    return len(documents)


run(sync)
