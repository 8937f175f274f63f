"""What an address says of a source."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.starting.addresses import Place, is_private, place_of, slug


def settings_of(place: Place | None) -> dict[str, Any]:
    assert place is not None
    return {"type": place.type, **{".".join(setting.path[1:]): setting.value for setting in place.settings}}


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        ("s3://handbook", {"type": "s3", "bucket": "handbook"}),
        ("s3://handbook/docs/", {"type": "s3", "bucket": "handbook", "prefixes": ["docs/"]}),
        ("git@example.com:team/docs.git", {"type": "git", "url": "git@example.com:team/docs.git"}),
        ("https://example.com/team/docs.git", {"type": "git", "url": "https://example.com/team/docs.git"}),
        ("https://github.com/team/docs", {"type": "git", "url": "https://github.com/team/docs"}),
        ("git+ssh://git@example.com/docs", {"type": "git", "url": "ssh://git@example.com/docs"}),
        ("ssh://git@example.com/docs", {"type": "git", "url": "ssh://git@example.com/docs"}),
        ("postgres://me@example.com/wiki", {"type": "sql", "url": "postgresql+psycopg://me@example.com/wiki"}),
        ("mysql+mysqldb://example.com/wiki", {"type": "sql", "url": "mysql+mysqldb://example.com/wiki"}),
        ("sqlite:///wiki.db", {"type": "sql", "url": "sqlite:///wiki.db"}),
        ("sqlite:////var/wiki.db", {"type": "sql", "url": "sqlite:////var/wiki.db"}),
        ("imaps://a%40b.c@example.com", {"type": "imap", "host": "example.com", "user": "a@b.c"}),
        ("imap://mail.example.com/Team/A", {"type": "imap", "host": "mail.example.com", "folders": ["/Team/A"]}),
        ("imap://example.com:143", {"type": "imap", "host": "example.com", "port": 143, "security": "starttls"}),
        ("sftp://me@example.com/docs", {"type": "fsspec", "url": "sftp://me@example.com/docs"}),
        ("gs://bucket/docs", {"type": "fsspec", "url": "gs://bucket/docs"}),
        ("abfs://box@account.dfs.core.windows.net/docs", {"type": "fsspec", "url": "abfs://box@account.dfs.core.windows.net/docs"}),
        ("webdav+https://example.com/dav", {"type": "fsspec", "url": "webdav+https://example.com/dav"}),
    ],
)  # fmt: skip
def test_an_address_tells_the_type_and_what_is_in_it(address: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """People have addresses, and not the names of types and settings."""
    assert settings_of(place_of(address, tmp_path)) == settings


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:pa%40ss@example.com/wiki", "imap://me:pa%40ss@example.com", "sftp://me:pa%40ss@example.com/docs"],
)
def test_a_password_is_taken_out_of_the_address(address: str, tmp_path: Path) -> None:
    """What is written down stays, in files and in their history."""
    place = place_of(address, tmp_path)

    assert place is not None
    assert place.password == "pa@ss"
    assert "pa" not in str(settings_of(place)).replace("path", "")
    assert "pa@ss" not in repr(place)


def test_a_web_address_is_told_by_what_answers(tmp_path: Path) -> None:
    """A feed can have any address, and so can an API."""
    place = place_of("https://example.com/news", tmp_path)

    assert place is not None
    assert place.is_webpage


@pytest.mark.parametrize("address", ["nothing", "gopher://example.com", "http://[", "a@b", "C:\\docs"])
def test_what_is_not_known_is_not_guessed(address: str, tmp_path: Path) -> None:
    """A wrong guess would read something else."""
    assert place_of(address, tmp_path) is None


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    """A folder with the file and the documents can be moved."""
    documents = tmp_path / "docs"
    documents.mkdir()
    (tmp_path / "sources").mkdir()

    assert settings_of(place_of(str(documents), tmp_path / "sources"))["path"] == "../docs"
    assert settings_of(place_of(str(documents), Path("/")))["path"] == str(documents).lstrip("/")


def test_a_folder_with_a_repository_in_it_can_be_read_either_way(tmp_path: Path) -> None:
    """As it lies there, or as it was committed."""
    (tmp_path / "docs" / ".git").mkdir(parents=True)

    place = place_of(str(tmp_path / "docs"), tmp_path)

    assert place is not None
    assert [place.type, *(each.type for each in place.alternatives)] == ["filesystem", "git"]


@pytest.mark.parametrize("name", ["a b", "../x", "Ünï", "", "-", "a" * 200, "..", "\x1b[31m"])
def test_any_text_gives_a_name_that_is_taken(name: str) -> None:
    """Folders and hosts are called anything."""
    from pydantic import TypeAdapter

    from pipeline.configuration.values import SourceName

    assert TypeAdapter(SourceName).validate_python(slug(name)) == slug(name)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("10.0.0.1", True), ("::1", True), ("example.com", False), ("10.example.com", False)],
)
def test_a_host_of_the_own_network_is_told_by_its_address(host: str, expected: bool) -> None:
    """The permission for it is written only where it is needed."""
    assert is_private(host) is expected
