"""A source in this process. What reads it is sent to worker processes, which import this file: so it imports little."""

import random
from collections.abc import AsyncGenerator, Sequence

from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    Fingerprint,
    ScanComplete,
    SourceEvent,
)
from tests.benchmarks.corpus import document

LISTED_AT_ONCE = 256
DISTINCT = 100  # texts; a process is sent them all


class Generated:
    """A connector whose documents cost nothing: `count` of them, made beforehand."""

    def __init__(self, count: int, *, sections: int) -> None:
        rng = random.Random(1)
        text = "".join(document(rng, 0) for _ in range(40)).replace("#", "")
        self._texts = []
        for number in range(min(count, DISTINCT)):
            pieces = [text[start : start + 1480] for start in rng.sample(range(len(text) - 1480), sections)]
            self._texts.append("\n\n".join(f"# Section {number}\n\n{piece}" for piece in pieces))
        self._count = count
        self.document_reader = self

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        for start in range(0, self._count, LISTED_AT_ONCE):
            yield [self._ref(number) for number in range(start, min(start + LISTED_AT_ONCE, self._count))]
        yield [ScanComplete("")]

    def _ref(self, number: int) -> DocumentRef:
        return DocumentRef(
            DocumentId(f"{number:07}.md"), f"memory:{number}", fingerprint=Fingerprint("1"), size_bytes=2000
        )

    async def fetch(self, ref: DocumentRef) -> Document:
        return self.document_reader.read(ref)

    def read(self, ref: DocumentRef) -> Document:
        return Document(ref, f"{ref.id}\n\n{self._texts[int(ref.id[:7]) % DISTINCT]}".encode())

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        return self._ref(int(document[:7]))
