"""Parsers for tests of the processes that parse: what a document says is what happens."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import SourceError, UnreadableDocument
from pipeline.model import Derived, Document, DocumentId, DocumentRef, Fetched, ParsedDocument, Planned


class NotToBeCopied(Exception):
    """Cannot be pickled, since it is made of two things and keeps one."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one)
        self.other = other


class ObedientParser:
    """Does what each line of a text says, and makes a document of each line of what is called `.jsonl`."""

    abilities = "text"

    def reason_to_skip(self, ref: DocumentRef) -> str | None:
        return None

    def parse(self, document: Document) -> Iterator[ParsedDocument]:
        ref, text = document.ref, document.content.decode()
        has_parts = ref.id.endswith(".jsonl")
        for number, line in enumerate(text.splitlines()):
            obey(line)
            if has_parts:
                yield ParsedDocument(DocumentId(f"{ref.id}#{number}"), line)
        if not has_parts:
            yield ParsedDocument(ref.id, text)


class DyingDeriver:
    """Dies of a list at once, and of a single document when it has just been passed on."""

    def derive_lists(self, items: Sequence[Fetched]) -> Iterator[tuple[int, list[Planned]]]:
        if len(items) == 1:
            (item,) = items
            assert isinstance(item, Document)
            yield 1, [Derived(item.ref, item.ref.id, ())]
        os.kill(os.getpid(), signal.SIGKILL)
        yield 0, []


def obey(line: str) -> None:
    word, _, rest = line.partition(" ")
    match word:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(int(rest))
        case "die-once":  # the first that comes by takes the file away
            with contextlib.suppress(FileNotFoundError):
                Path(rest).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        case "print":
            print(rest, flush=True)  # noqa: T201 - that is what is tested
            os.write(1, rest.encode())
        case "pid":  # into the pipe of this name
            Path(rest).write_text(f"{os.getpid()}\n", encoding="ascii")
        case "listen":  # until somebody speaks
            Path(rest).read_text(encoding="ascii")
        case "starve":
            raise MemoryError
        case "hang":
            while True:
                signal.pause()
        case "refuse":
            raise UnreadableDocument("refused", rest)
        case "no-source":
            raise SourceError(rest)
        case "fail":
            raise ZeroDivisionError(rest)
        case "fail-strangely":
            raise NotToBeCopied(rest, rest)
