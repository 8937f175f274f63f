"""What a listing showed, kept until it is asked for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.rest.spool import Shown, Spool
from pipeline.errors import SourceError


@pytest.fixture
def spool() -> Iterator[Spool]:
    opened = Spool()
    yield opened
    opened.clear()


def test_what_was_shown_last_is_kept_with_the_listing_that_showed_it(spool: Spool) -> None:
    spool.put("a", 1, b"old")
    spool.put("b", 1, b"b")
    spool.put("a", 2, b"new")

    assert (spool.get("a"), spool.get("b"), spool.get("c")) == (Shown(2, b"new"), Shown(1, b"b"), None)


def test_what_one_listing_shows_twice_is_told_and_the_first_is_kept(spool: Spool) -> None:
    assert [spool.put("a", 1, b"first"), spool.put("a", 1, b"second"), spool.put("a", 2, b"third")] == [
        True,
        False,
        True,
    ]


def test_nothing_is_left_after_it_was_cleared(spool: Spool) -> None:
    spool.put("a", 1, b"text")
    spool.clear()
    spool.clear()

    assert spool.get("a") is None


def test_nobody_else_finds_it_on_the_disk(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the text of documents."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    for number in range(64):
        spool.put(str(number), 1, os.urandom(256 * 1024))

    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_told_in_words(spool: Spool) -> None:
    spool.put("a", 1, b"")
    spool._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(SourceError, match="Make room for temporary files"):
        spool.put("b", 1, bytes(1024 * 1024))
