"""The files that runs of a source write: should they lie in the folder that is read, they are no documents of it.

They are told by their names, not by their folders, which people may share with memsync: `reports.path: .` beside a
folder of documents that bears the name of the source puts reports among these.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.configuration.settings import LOCAL_MEMORY_FILE, LOCK_FILE, STATE_FILE, SourceSettings

_REPORT = f"{'[0-9]' * 8}T{'[0-9]' * 6}.{'[0-9]' * 6}Z-*"
_OF_THE_STATE = (f"{STATE_FILE}*", "state.mark", LOCK_FILE, "measured.json", "notified.json", "notified.new")
_SPECIAL = re.compile(r"[\\*?\[\]!# ]")


def own_patterns(settings: SourceSettings, root: Path) -> list[str]:
    """Patterns for the files of the source that lie below `root`, in the language of .gitignore."""
    real_root = os.path.realpath(root)
    patterns = []
    for folder, name in _own_files(settings):
        relative = os.path.relpath(os.path.realpath(folder), real_root)
        if relative == ".":
            patterns.append(f"/{name}")
        elif relative.split("/")[0] != "..":
            patterns.append(f"/{_literal(relative)}/{name}")
    return patterns


def _own_files(settings: SourceSettings) -> Iterator[tuple[Path, str]]:
    """The folder of each, and a pattern of its name."""
    for name in _OF_THE_STATE:
        yield settings.state_folder, name
    yield settings.state_folder.parent, f"{LOCAL_MEMORY_FILE}*"
    for ending in (".json", ".json.new", ".html", ".html.new"):
        yield settings.reports_folder, f"{_REPORT}{ending}"
    letters = settings.dead_letters_path
    for ending in ("", ".new"):
        yield letters.parent, f"{_literal(letters.name)}{ending}"
    if settings.prometheus_path is not None:
        yield settings.prometheus_path.parent, _literal(settings.prometheus_path.name)


def _literal(path: str) -> str:
    """`path` as a pattern that means just that."""
    return _SPECIAL.sub(r"\\\g<0>", path)
