"""Documents that are files in a ZIP archive: `type: zip` for memsync, and an example of a connector."""

import zipfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from anyio import to_thread
from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import Checkpoint, Document, DocumentId, DocumentRef, Fingerprint, ScanComplete, SourceEvent

LISTED_AT_ONCE = 500


class ZipSettings(BaseModel):
    """Which ZIP archive holds the documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["zip"]
    path: Path = Field(description="The archive, relative to the folder of this YAML file.")
    max_bytes: int = Field(default=50 * 1024 * 1024, gt=0, description="A file that unpacks to more is not read.")


class ZipConnector:
    """Every file in the archive is a document; its name is its id, and its checksum tells that it is unchanged."""

    settings_model: ClassVar[type[ZipSettings]] = ZipSettings

    def __init__(self, settings: ZipSettings, base_folder: Path) -> None:
        self._path = base_folder / settings.path
        self._max_bytes = settings.max_bytes

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        """Yield the files; the archive has one list of them, so that it is complete or cannot be read at all."""
        refs = list((await to_thread.run_sync(self._refs)).values())
        for start in range(0, len(refs), LISTED_AT_ONCE):
            yield refs[start : start + LISTED_AT_ONCE]
        yield [ScanComplete("")]  # without this word nothing is ever deleted

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        return (await to_thread.run_sync(self._refs)).get(document)

    async def fetch(self, ref: DocumentRef) -> Document:
        return await to_thread.run_sync(self._read, ref)

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except (OSError, zipfile.BadZipFile) as error:
            # Never an empty listing: that would look as if every document had been removed.
            raise SourceError(f"Cannot read the archive {self._path}: {error}. Check `source.path`.") from error

    def _refs(self) -> dict[DocumentId, DocumentRef]:
        with self._open() as archive:
            return {DocumentId(info.filename): self._ref(info) for info in archive.infolist() if not info.is_dir()}

    def _ref(self, info: zipfile.ZipInfo) -> DocumentRef:
        fingerprint = Fingerprint(f"{info.CRC:08x}-{info.file_size}")
        return DocumentRef(
            DocumentId(info.filename), f"zip:{self._path}#{info.filename}", fingerprint, size_bytes=info.file_size
        )

    def _read(self, ref: DocumentRef) -> Document:
        with self._open() as archive:
            try:
                info = archive.getinfo(ref.id)
                if info.file_size > self._max_bytes:
                    raise UnreadableDocument("too_large", f"{ref.id!r} unpacks to {info.file_size:,} bytes.")
                content = archive.read(info)
            except KeyError as error:
                raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.") from error
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # broken, encrypted, unknown
                raise UnreadableDocument(type(error).__name__, f"Cannot unpack {ref.id!r}.") from error
        return Document(self._ref(info), content)  # as it is now, which need not be as it was listed
