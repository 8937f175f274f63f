"""What `memsync validate` finds: faults of the configuration, and what this machine lacks to run it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.configuration.loading import check_sources
from pipeline.configuration.masking import continues_secret, without_secrets
from pipeline.configuration.readiness import lacks, variables_without_effect
from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError
from pipeline.reporting.findings import Excerpt, Finding, Severity

LINE_CHARACTERS_MAX = 200

_WORD = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^\s,:{}\[\]#](?:[^,:{}\[\]#]|:(?=\S)|\{(?<=\$\{)[^}]*\})*""")


class Checked(NamedTuple):
    """The sources that can be used, and what is to be said of these and others."""

    sources: Sequence[SourceSettings]
    findings: Sequence[Finding]


def check(paths: Sequence[Path]) -> Checked:
    """Check what `paths` describe. Asks nobody but this machine."""
    sources, faults = check_sources(paths)
    warnings = (
        [] if faults else [*variables_without_effect(sources), *(lack for each in sources for lack in lacks(each))]
    )
    findings = [*(_finding("error", each) for each in faults), *(_finding("warning", each) for each in warnings)]
    return Checked([each.settings for each in sources], list(dict.fromkeys(findings)))


def _finding(severity: Severity, error: ConfigurationError) -> Finding:
    excerpt = None
    if error.path is not None and error.line is not None and error.column is not None:
        excerpt = _excerpt(Path(error.path), error.line, error.column)
    return Finding(severity, error.problem, error.path, error.line, error.column, error.variable, excerpt)


def _excerpt(path: Path, line: int, column: int) -> Excerpt | None:
    """The line, unless the file has changed meanwhile so that there is no such place in it."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    if line > len(lines) or column > len(lines[line - 1]) + 1 or continues_secret(lines, line - 1):
        return None
    return excerpt_of(lines[line - 1], column - 1)


def excerpt_of(line: str, start: int) -> Excerpt:
    """`line` as it may be shown, with the word that begins at `start` marked."""
    word = _WORD.match(line, start)
    width = len(word[0].rstrip()) if word else 1
    shown = without_secrets(line)
    if len(shown) > LINE_CHARACTERS_MAX and start < LINE_CHARACTERS_MAX:
        shown = f"{shown[: LINE_CHARACTERS_MAX - 1]}…"
    hidden_from = next((index for index, (a, b) in enumerate(zip(line, shown, strict=False)) if a != b), len(shown))
    start = min(start, hidden_from)
    return Excerpt(shown, start, max(1, min(width, len(shown) - start)))
