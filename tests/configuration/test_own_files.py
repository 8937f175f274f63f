"""What memsync writes into the folder that it reads is no document, and nothing else is taken for that."""

from pathlib import Path

from connectors.patterns import Patterns
from pipeline.configuration.loading import load_sources
from pipeline.configuration.own_files import own_patterns
from pipeline.configuration.settings import SourceSettings


def settings_of(folder: Path, *lines: str) -> SourceSettings:
    file = folder / "docs.yaml"
    shown = ["source: {type: filesystem, path: .}", "destination: {type: agentcore, endpoint_url: local}", *lines]
    file.write_text("\n".join(shown))
    (settings,) = load_sources([file])
    return settings


def left_out(settings: SourceSettings, root: Path, *names: str) -> list[str]:
    patterns = Patterns(own_patterns(settings, root))
    return [name for name in names if patterns.last_match(name)]


def test_a_folder_that_is_shared_with_memsync_keeps_its_documents(tmp_path: Path) -> None:
    """Whoever has reports put beside documents must not lose these from the memory."""
    settings = settings_of(tmp_path, "reports: {path: .}", "state: {path: .}")
    own = ["docs/20261127T120000.000000Z-abc.json", "docs/20261127T120000.000000Z-abc.html", "docs/run.lock"]

    assert left_out(settings, tmp_path, *own) == own
    assert left_out(settings, tmp_path, "docs/guide.md", "docs/report.json", "docs/2026.html", "a/run.lock") == []
    assert left_out(settings, tmp_path / "docs", *[name.removeprefix("docs/") for name in own]) == [
        name.removeprefix("docs/") for name in own
    ]


def test_characters_that_mean_something_in_patterns_mean_themselves(tmp_path: Path) -> None:
    """A star in the name of a folder must not leave the files of others out, nor let ours in."""
    settings = settings_of(tmp_path, "dead_letters: {path: 'a*[b]/!x #?.jsonl'}")

    assert left_out(settings, tmp_path, "a*[b]/!x #?.jsonl", "aab/!x #?.jsonl", "ab/!x #a.jsonl") == [
        "a*[b]/!x #?.jsonl"
    ]


def test_a_folder_that_is_reached_by_a_link_is_the_same_one(tmp_path: Path) -> None:
    """The documents may be named by a link, and the reports by the folder itself."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    settings = settings_of(tmp_path, "dead_letters: {path: real/letters.jsonl}")

    assert left_out(settings, tmp_path / "link", "letters.jsonl") == ["letters.jsonl"]


def test_nothing_elsewhere_is_asked_about(tmp_path: Path) -> None:
    """Each pattern costs a question for each file."""
    settings = settings_of(tmp_path)

    assert own_patterns(settings, tmp_path / "docs") == []
