"""What `memsync validate` finds: faults of the configuration, and what this machine lacks to run it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.configuration.faults import is_secret
from pipeline.configuration.loading import check_sources
from pipeline.configuration.readiness import lacks, variables_without_effect
from pipeline.configuration.settings import SourceSettings
from pipeline.errors import ConfigurationError
from pipeline.reporting.findings import Excerpt, Finding, Severity

LINE_CHARACTERS_MAX = 200

_KEY = re.compile(r"""["']?([\w.-]+)["']?\s*:\s*""")
_FIRST_KEY = re.compile(rf"[\s{{\[-]*{_KEY.pattern}")
# A word of a command that may say what the next one is, or what stands behind its `=`.
_OPTION = re.compile(r"""(?<![\w.-])(?:(--?[\w-]+)(?:=|["']?\s*,\s*|\s+)|([A-Za-z]\w*)=)""")
_OPTION_LAST = re.compile(r"""(?:^|[\s,\["'])(--?[\w-]+)["']?\s*,?\s*$""")
_NAMES_ONE = re.compile(r"_variables?$")  # what stands there is a name
_REFERENCE = re.compile(r"\$\{[^}]*\}")
_STAND_INS = 0xE000  # the first of the characters that are nobody's
_STAND_IN = "[\ue000-\uf8ff]"
_BY_REFERENCE = re.compile(rf"""["']?(Bearer |Basic |Token )?{_STAND_IN}+["']?\s*([,}}\]#].*)?$""")
# What may stand before the only `@` of an address: a user, and a password that is nothing but references.
_USER = rf"[^:/@\s]*(?::{_STAND_IN}+)?@[^@\s]*(?:\s|$)"
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


def continues_secret(lines: Sequence[str], index: int) -> bool:
    """Whether that line has no key of its own, and may belong to a key or an option above it that looks like a
    secret's."""
    if _FIRST_KEY.match(lines[index]):
        return False  # what is behind it is judged by that
    if index and (option := _OPTION_LAST.search(lines[index - 1])) and is_secret([option[1]]):
        return True
    limit, is_open = _indentation(lines[index]), True
    for line in reversed(lines[:index]):
        if not (keys := list(_KEY.finditer(line))) or line.lstrip().startswith("#"):
            continue
        if (is_open or _indentation(line) < limit) and is_secret([keys[-1][1]]) and not _NAMES_ONE.search(keys[-1][1]):
            return True
        limit, is_open = min(limit, _indentation(line)), False
    return False


def _indentation(line: str) -> int:
    """By which lines stand below others; items of a list may stand as far left as its key."""
    plain = line.lstrip(" ")
    return len(line) - len(plain) + plain.startswith("- ")


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


def without_secrets(line: str) -> str:
    """A line of YAML without what may be a secret: behind a key or an option that looks like it, or in an address."""
    # Each reference as one character of its own, which no pattern below takes for anything else.
    references = {chr(_STAND_INS + number): found[0] for number, found in enumerate(_REFERENCE.finditer(line))}
    for stand_in, reference in references.items():
        line = line.replace(reference, stand_in, 1)
    line = _masked(line)
    for stand_in, reference in references.items():
        line = line.replace(stand_in, reference)
    return line


def _masked(line: str) -> str:
    names_end = 0
    for found in _KEY.finditer(line):
        key, rest = found[1], line[found.end() :]
        if key.endswith("_variables"):  # what stands in there are names
            names_end = found.end() + len(rest.partition("}")[0])
        is_harmless = found.start() < names_end or key.endswith("_variable") or rest[:1] in ("", "{", "#")
        if is_secret([key]) and not is_harmless and not _BY_REFERENCE.match(rest):
            return f"{line[: found.end()]}…"
    for found in _OPTION.finditer(line):
        if is_secret([found[1] or found[2]]) and not _BY_REFERENCE.match(line[found.end() :]):
            line = f"{line[: found.end()]}…"  # it may be a parameter of an address that holds another one
            break
    line = re.sub(rf"://(?!{_USER})\S*@", "://…@", line)
    line = re.sub(rf"""([^/@\s"':]+:)(?!{_STAND_IN}+@)[^/@\s]+@""", r"\1…@", line)  # of SSH: no slashes stand there
    return re.sub(r"(://[^?\s]*\?)\S+", r"\1…", line)
