"""**CocoIndex** app with one memoized component for each file and a target of its own, its state in LMDB.

Does: knows a file by its time and then its content, writes chunks that are new or changed, deletes what is gone, goes
on after an interruption: the closest to memsync's own work. Does not: gather the chunks of several files, so those of
each file reach the sink by themselves.
"""

import os
from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

# Read when CocoIndex is imported: nothing is reported anywhere.
os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_object
from cocoindex.connectors import localfs
from cocoindex.ops.text import RecursiveSplitter
from cocoindex.resources.file import PatternFilePathMatcher
from common import CHUNK_CHARACTERS, Counting, run

SPLITTER = RecursiveSplitter()


class Chunks(coco.TargetHandler[str, bytes, None]):
    """The target: chunks by id, of which only those whose fingerprint has changed are written."""

    tracks_value_fingerprint = True

    def __init__(self) -> None:
        self.sink = Counting()
        self.documents = 0
        self._actions = coco.TargetActionSink.from_fn(self._apply)

    def reconcile(
        self, key: Any, desired: Any, known: Collection[bytes], may_be_missing: bool, /
    ) -> coco.TargetReconcileOutput | None:
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(action=(key, None), sink=self._actions, tracking_record=desired)
        fingerprint = fingerprint_object(desired)
        if not may_be_missing and all(one == fingerprint for one in known):
            return None
        return coco.TargetReconcileOutput(action=(key, desired), sink=self._actions, tracking_record=fingerprint)

    def _apply(self, _: Any, actions: Sequence[tuple[str, str | None]], /) -> None:
        self.sink.write([(key, text) for key, text in actions if text is not None])
        self.sink.delete([key for key, text in actions if text is None])


CHUNKS = Chunks()
TARGET = coco.register_root_target_states_provider("bench/chunks", CHUNKS)


@coco.fn(memo=True)
async def cut(file: localfs.File) -> None:
    text = await file.read_text()
    # The splitter counts bytes: so many of them are as many characters as memsync's chunks have.
    size = CHUNK_CHARACTERS * len(text.encode()) // max(len(text), 1)
    for number, chunk in enumerate(SPLITTER.split(text, size, language="markdown")):
        coco.declare_target_state(TARGET.target_state(f"{file.file_path.path.as_posix()}#{number}", chunk.text))


async def counted(files: AsyncIterable[tuple[str, localfs.File]]) -> AsyncIterator[tuple[str, localfs.File]]:
    async for file in files:
        CHUNKS.documents += 1
        yield file


@coco.fn
async def every_file(folder: Path) -> None:
    files = localfs.walk_dir(folder, recursive=True, path_matcher=PatternFilePathMatcher(included_patterns=["**/*.md"]))
    await coco.mount_each(cut, counted(files.items()))


def sync(folder: Path, state: Path, sink: Counting) -> int:
    CHUNKS.sink = sink
    environment = coco.Environment(coco.Settings(db_path=state / "cocoindex.db"))
    app = coco.App(coco.AppConfig("bench", environment=environment), every_file, folder=folder)
    app.update_blocking()
    return CHUNKS.documents


run(sync)
