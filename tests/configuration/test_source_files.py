"""Files that extend others: what they say together, and how a user is told what is wrong with them."""

import os
from pathlib import Path

import pytest

from pipeline.configuration.loading import load_sources
from pipeline.configuration.settings import SourceSettings
from pipeline.configuration.source_files import FILES_MAX, read_source_file
from pipeline.errors import ConfigurationError

DESTINATION = "destination: {endpoint_url: local}\n"
SOURCE = "source: {type: filesystem, path: docs}\n"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("MEMSYNC_"):
            monkeypatch.delenv(name)


def write(folder: Path, **files: str) -> Path:
    """Write the files, `NAME.yaml` each; return the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def load(file: Path) -> SourceSettings:
    (source,) = load_sources([file])
    return source


def faults(file: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_sources([file])
    return str(caught.value).replace(f"{file.parent}{os.sep}", "").splitlines()


def test_what_a_file_does_not_say_is_as_in_the_file_that_it_extends(tmp_path: Path) -> None:
    """Twenty sources that go to one memory should name it once."""
    file = write(tmp_path, docs=f"extends: _shared.yaml\n{SOURCE}", _shared=DESTINATION + "writers: {concurrency: 3}\n")

    settings = load(file)

    assert (settings.name, settings.destination.endpoint_url, settings.writers.concurrency) == ("docs", "local", 3)


def test_mappings_are_merged_and_lists_are_replaced(tmp_path: Path) -> None:
    """A list that grew by what stands elsewhere could not be made shorter again."""
    file = write(
        tmp_path,
        docs="extends: _shared.yaml\nsource: {include: ['*.md']}\nrecord: {metadata: {team: docs}}\n",
        _shared=DESTINATION
        + "source: {type: filesystem, path: docs, include: ['*.html', '*.txt']}\n"
        + "record: {namespace: '/all/{source}/', metadata: {team: all, audience: staff}}\n",
    )

    settings = load(file)

    assert settings.source.model_dump()["include"] == ["*.md"]
    assert settings.record.namespace == "/all/{source}/"
    assert settings.record.metadata == {"team": "docs", "audience": "staff"}


def test_the_nearer_file_wins_and_of_two_beside_each_other_the_later(tmp_path: Path) -> None:
    """Whoever reads them must be able to tell what holds."""
    file = write(
        tmp_path,
        docs=f"extends: [_a.yaml, _b.yaml]\n{SOURCE}chunking: {{max_chars: 201}}\n",
        _a="extends: _base.yaml\nwriters: {concurrency: 2, linger_s: 2, max_attempts: 2}\nchunking: {max_chars: 202}\n",
        _b="extends: _base.yaml\nwriters: {concurrency: 3}\nchunking: {max_chars: 203}\n",
        _base=DESTINATION + "writers: {concurrency: 4, linger_s: 4}\n",
    )

    settings = load(file)

    # _b.yaml stands above _a.yaml, and so does what it extends.
    assert settings.chunking.max_chars == 201
    assert (settings.writers.concurrency, settings.writers.linger_s, settings.writers.max_attempts) == (3, 4, 2)


def test_null_takes_back_what_an_extended_file_says(tmp_path: Path) -> None:
    """Otherwise there would be no way back to the default."""
    file = write(
        tmp_path, docs=f"extends: _shared.yaml\n{SOURCE}schedule: null\n", _shared=DESTINATION + "schedule: 0 * * * *\n"
    )

    assert load(file).schedule is None


def test_paths_are_relative_to_the_file_that_is_run_and_names_of_files_to_the_one_that_extends(tmp_path: Path) -> None:
    """State must not gather beside a shared file, where several sources would look for theirs."""
    (tmp_path / "team").mkdir()
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "_base.yaml").write_text(DESTINATION)
    (tmp_path / "common" / "_shared.yaml").write_text("extends: _base.yaml\nstate: {path: state}\n")
    file = tmp_path / "team" / "docs.yaml"
    file.write_text(f"extends: ../common/_shared.yaml\n{SOURCE}")

    settings = load(file)

    assert settings.folder == tmp_path / "team"
    assert settings.state_folder == tmp_path / "team" / "state" / "docs"


def test_a_folder_takes_no_file_for_a_source_that_begins_with_an_underscore(tmp_path: Path) -> None:
    """It is there to be extended; by itself it would be refused, and with it the whole folder."""
    write(tmp_path, docs=f"extends: _shared.yaml\n{SOURCE}", _shared=DESTINATION)

    assert [source.name for source in load_sources([tmp_path])] == ["docs"]


def test_a_file_that_is_only_extended_and_lies_among_sources_is_told_how_to_be_called(tmp_path: Path) -> None:
    """`source` is missing is true, and does not help."""
    write(tmp_path, docs=f"extends: shared.yaml\n{SOURCE}", shared=DESTINATION)

    with pytest.raises(ConfigurationError, match=r"shared\.yaml:1:1: `source` is missing; if others only extend"):
        load_sources([tmp_path])


@pytest.mark.parametrize(
    ("shared", "expected"),
    [
        ("writers:\n  concurrency: 0\n", "_shared.yaml:2:16: `writers.concurrency` is 0"),
        ("writers:\n  concurency: 1\n", "_shared.yaml:2:3: unknown key `writers.concurency`; did you mean"),
        ("wrters: {}\n", "_shared.yaml:1:1: unknown key `wrters`; did you mean `writers`?"),
        ("writers: [\n", "_shared.yaml:2:1: "),
    ],
)
def test_a_fault_in_an_extended_file_is_told_with_its_place_there(tmp_path: Path, shared: str, expected: str) -> None:
    """The file that extends it has no such line."""
    file = write(tmp_path, docs=f"extends: _shared.yaml\n{SOURCE}{DESTINATION}", _shared=shared)

    assert faults(file)[0].startswith(expected)


def test_a_fault_of_two_files_that_extend_one_is_told_once(tmp_path: Path) -> None:
    """Twenty times the same line hides the others."""
    write(
        tmp_path,
        a=f"extends: _shared.yaml\n{SOURCE}",
        b=f"extends: _shared.yaml\n{SOURCE}",
        _shared=DESTINATION + "schedule: never\n",
    )

    assert len(faults_of_folder(tmp_path)) == 1


def faults_of_folder(folder: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_sources([folder])
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": "extends: a.yaml\n"}, "a.yaml:1:10: `extends` goes round in a circle: a.yaml → a.yaml"),
        (
            {"a": "extends: b.yaml\n", "b": "\nextends: [c.yaml]\n", "c": "extends: a.yaml\n"},
            "c.yaml:1:10: `extends` goes round in a circle: a.yaml → b.yaml → c.yaml → a.yaml",
        ),
        ({"a": "extends: [b.yaml]\n"}, "a.yaml:1:11: `extends` names b.yaml, which cannot be read: No such file"),
        (
            {"a": "extends: {b: c}\n"},
            "a.yaml:1:10: `extends` should be a file, such as `extends: ../shared.yaml`, or a",
        ),
        ({"a": "extends:\n"}, "a.yaml:1:9: `extends` should be a file"),
        ({"a": "extends: ~nobody-here/x.yaml\n"}, "a.yaml:1:10: `extends` begins with `~`, and that home folder"),
    ],
)
def test_what_cannot_be_extended_is_told_where_it_is_named(
    tmp_path: Path, files: dict[str, str], expected: str
) -> None:
    assert faults(write(tmp_path, **files))[0].startswith(expected)


def test_files_without_end_are_refused(tmp_path: Path) -> None:
    """A generated heap of files must not keep a run from saying what is wrong."""
    files = {f"f{number}": f"extends: f{number + 1}.yaml\n" for number in range(FILES_MAX + 5)}

    assert "leads to more than" in faults(write(tmp_path, **files))[0]


def test_a_file_that_is_reached_in_two_ways_is_read_once(tmp_path: Path) -> None:
    """Or a few files that extend each other crosswise would be millions."""
    levels = 12
    files = {"docs": "extends: [l0a.yaml, l0b.yaml]\n" + SOURCE}
    for level in range(levels):
        below = f"extends: [l{level + 1}a.yaml, l{level + 1}b.yaml]\n" if level + 1 < levels else DESTINATION
        files |= {f"l{level}a": below, f"l{level}b": below}

    file = read_source_file(write(tmp_path, **files))

    assert len(file.documents) == 2 * levels + 1
