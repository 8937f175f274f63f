"""Patterns in the language of .gitignore, for every source whose documents have paths."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import AfterValidator

FOLDER_GROUP = "ps_d"  # pathspec's group for the slash behind a folder that a pattern named


class Patterns:
    """Patterns in the language of .gitignore, of which the last one that matches decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        compiled = (_compile(line) for line in lines)
        self._last_first = [pattern for pattern in compiled if pattern is not None][::-1]

    def last_match(self, path: str, *, or_above: bool = False) -> bool | None:
        """Return what the last match says: True, or False if it begins with `!`; None without a match.

        A folder's path ends with a slash. With `or_above`, a pattern for a folder stands for all below it.
        """
        path = path.replace("\n", "\r")  # `.` and `$` stop at a newline; no pattern holds either
        for search, answer in self._last_first:
            match = search(path)
            if match and (or_above or _is_whole(match, path)):
                return answer
        return None


def _compile(line: str) -> tuple[Callable[[str], re.Match[str] | None], bool] | None:
    """Return what searches a path for the pattern and whether it takes or spares what it finds.

    None for a comment, an empty line, and a line that git, too, takes for no pattern.
    """
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # noqa: PLC0415 - many a source has no patterns

    try:
        pattern = GitIgnoreSpecPattern(line)
    except (ValueError, re.error):
        return None
    if pattern.regex is None or pattern.include is None:
        return None
    return pattern.regex.search, pattern.include


def _is_whole(match: re.Match[str], path: str) -> bool:
    """Tell whether a pattern matched `path` itself, not only a folder above it.

    The folders above have been asked already, and git lets nothing below an ignored one come back.
    """
    if FOLDER_GROUP in match.re.groupindex and match.end(FOLDER_GROUP) != -1:
        # pathspec searches for the bare slash where a pattern such as `*/` takes any folder.
        return path.endswith("/") and (match.start() > 0 or match.end() == len(path))
    return not (path.endswith("/") and match.end() == len(path))


def _check_patterns(patterns: list[str]) -> list[str]:
    for pattern in patterns:
        if _compile(pattern) is None:
            raise ValueError(f"{pattern!r} is not a pattern that could match a file")
    return patterns


PatternList = Annotated[list[str], AfterValidator(_check_patterns)]
