"""The archive keeps what every connector promises."""

import zipfile
from pathlib import Path

import pytest
from memsync_zip import ZipConnector, ZipSettings

from connectors.kit.contract import SourceConnectorContract, SourceWorld, SpoilableWorld, SpoiltAnswersContract
from pipeline.errors import UnreadableDocument
from pipeline.model import DocumentId


class ZipWorld:
    """An archive that is written anew for each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._contents: dict[str, bytes] = {}
        self._write()

    def connector(self, max_bytes: int = 1024**2) -> ZipConnector:
        return ZipConnector(ZipSettings(type="zip", path=self._path, max_bytes=max_bytes), Path("/"))

    def put(self, name: str, content: bytes) -> DocumentId:
        self._contents[name] = content
        self._write()
        return DocumentId(name)

    def remove(self, name: str) -> None:
        del self._contents[name]
        self._write()

    def remove_root(self) -> None:
        self._path.unlink()

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("an archive has one list of its files")

    def _write(self) -> None:
        with zipfile.ZipFile(self._path, "w") as archive:
            for name, content in self._contents.items():
                archive.writestr(name, content)


class SpoilableArchive(ZipWorld):
    """One that is cut off at a place that moves on by 25 bytes with each position."""

    faults = ("cut off",)

    was_spoilt = False

    def spoil(self, fault: str, position: int) -> None:
        whole = self._path.read_bytes()
        place = position * 25
        self.was_spoilt = place < len(whole)
        self._path.write_bytes(whole[:place])

    def heal(self) -> None:
        self._write()


@pytest.fixture
def world(tmp_path: Path) -> ZipWorld:
    return ZipWorld(tmp_path / "documents.zip")


class TestZipConnectorKeepsTheContract(SourceConnectorContract):
    @pytest.fixture
    def world(self, world: ZipWorld) -> SourceWorld:
        return world


class TestZipConnectorIsNotDeceived(SpoiltAnswersContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> SpoilableWorld:
        return SpoilableArchive(tmp_path / "documents.zip")


async def test_a_file_that_unpacks_to_too_much_is_not_read(world: ZipWorld) -> None:
    """A few kilobytes can unpack to gigabytes."""
    world.put("large.md", bytes(1000))
    connector = world.connector(max_bytes=999)
    ref = await connector.locate(DocumentId("large.md"))
    assert ref is not None

    with pytest.raises(UnreadableDocument, match="1,000 bytes"):
        await connector.fetch(ref)
