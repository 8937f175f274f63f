"""The file beside the state that shows whether the state is a copy."""

import os
from pathlib import Path

import pytest

from pipeline.state.mark import FileMark


def test_the_name_of_a_new_mark_is_on_the_disk_before_the_state_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut could take the name, and the next run would take the state for a copy and build it anew."""
    synced: list[int] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    path = tmp_path / "state.mark"

    FileMark(path).put("1")

    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]
