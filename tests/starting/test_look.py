"""A look at a source is short, and sees a bit of everything."""

from pathlib import Path

from pipeline.configuration.loading import source_from
from pipeline.configuration.settings import SourceSettings
from pipeline.model import DocumentId, DocumentRef
from pipeline.starting.draft import Setting
from pipeline.starting.look import LookLimits, look_at, sample
from pipeline.starting.yaml_text import yaml_text
from tests.connectors.git_servers import silent_server


def settings_of(folder: Path, **source: object) -> SourceSettings:
    settings = [Setting(("source", key), value) for key, value in source.items()]
    named = [Setting(("name",), "docs"), Setting(("destination", "endpoint_url"), "local")]
    return source_from(yaml_text((*named, *settings)), folder / "docs.yaml")


def refs(*names: str) -> list[DocumentRef]:
    return [DocumentRef(DocumentId(name), f"file:///{name}") for name in names]


def test_a_sample_has_something_of_every_kind_and_from_everywhere() -> None:
    """The first ten of a listing are all of one folder, and mostly of one kind."""
    listed = refs(*(f"a/{number:03}.md" for number in range(100)), "z/only.pdf", "z/only.csv")

    chosen = [ref.id for ref in sample(listed, 6)]

    assert {"z/only.pdf", "z/only.csv"} <= set(chosen)
    assert len(chosen) == len(set(chosen)) == 6
    assert max(name for name in chosen if name.startswith("a/")) > "a/040.md"
    assert sample(listed[:2], 6) == listed[:2]
    assert sample([], 6) == []


async def test_a_look_tells_what_would_be_left_out_and_what_is_broken(tmp_path: Path) -> None:
    """Both are found out otherwise when an agent does not know something."""
    (tmp_path / "docs").mkdir()
    for name, text in (("a.md", "# Title\n\ntext"), ("b.png", ""), ("c.pdf", "no pdf")):
        (tmp_path / "docs" / name).write_text(text)
    (tmp_path / "docs" / "link.md").symlink_to("/etc/hostname")

    look = await look_at(settings_of(tmp_path, type="filesystem", path="docs"))

    assert {(kind.ending, kind.left_out) for kind in look.kinds} == {
        (".md", None),
        (".pdf", None),
        (".png", "unsupported type .png"),
    }
    assert look.skipped == {"symlink out of the root": 1}
    assert look.is_complete
    assert [preview.id for preview in look.previews if preview.problem] == ["c.pdf"]
    assert look.text_lengths() == [len("# Title\n\ntext")]
    assert not (tmp_path / ".memsync").exists()


async def test_a_look_ends_in_time_at_a_server_that_says_nothing(tmp_path: Path) -> None:
    """Somebody sits there and waits."""
    with silent_server() as server:
        settings = settings_of(
            tmp_path, type="web", start=[f"http://127.0.0.1:{server.port}/"], http={"allow_private_hosts": True}
        )

        look = await look_at(settings, LookLimits(listing_s=0.2, reading_s=0.2))

    assert not look.is_complete
    assert look.documents == 0


async def test_a_look_at_many_documents_stops_at_some(tmp_path: Path) -> None:
    """A bucket can have millions."""
    (tmp_path / "docs").mkdir()
    for number in range(1500):
        (tmp_path / "docs" / f"{number}.md").touch()

    look = await look_at(settings_of(tmp_path, type="filesystem", path="docs"), LookLimits(listed_max=500))

    assert 500 <= look.documents < 1500
    assert not look.is_complete
