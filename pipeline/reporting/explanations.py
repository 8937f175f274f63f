"""What `memsync explain` prints: the settings of a source as YAML, with the origin of each behind it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.configuration.yaml_source import as_yaml
from pipeline.reporting.text import PLAIN, Style

COMMENT_COLUMN_MAX = 68

Kind = Literal["default", "file name", "file", "extended file", "environment"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a setting comes from: a place in a file, a variable, or nothing that was said."""

    kind: Kind
    file: str | None = None
    line: int | None = None
    column: int | None = None
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it holds. `value` is what JSON can say, and still has the `references` that are in it."""

    location: tuple[str | int, ...]
    value: Any
    origin: Origin
    references: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExplainedSource:
    """All settings of a source, and the files that they come from: the one that is run, then those that it extends."""

    name: str
    files: Sequence[str]
    settings: Sequence[Setting]


def render_explanation(source: ExplainedSource, *, style: Style = PLAIN) -> str:
    """YAML that can be copied: read again, it means the same."""
    first, *extended = (style.text(_short(file)) for file in source.files)
    which = f", with what it extends: {', '.join(extended)}" if extended else ""
    title = f"# Source {style.text(source.name)}: {first}{which}"
    lines = list(_lines(_nested(source.settings), "", style))
    column = min(COMMENT_COLUMN_MAX, max((style.width(line.text) for line in lines if line.setting), default=0) + 2)
    return "\n".join([style.paint(title, "bold"), *(_with_origin(line, column, style) for line in lines)])


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    setting: Setting | None = None


def _nested(settings: Sequence[Setting]) -> dict[str | int, Any]:
    """The settings as a tree, by the steps to each."""
    tree: dict[str | int, Any] = {}
    for setting in settings:
        at = tree
        for step in setting.location[:-1]:
            at = at.setdefault(step, {})
        at[setting.location[-1]] = setting
    return tree


def _lines(tree: Mapping[str | int, Any], indentation: str, style: Style) -> Iterator[_Line]:
    for key, below in tree.items():
        if isinstance(key, int):
            first, *others = _lines(below, f"{indentation}  ", style)
            yield _Line(f"{indentation}- {first.text.strip()}", first.setting)
            yield from others
            continue
        name = f"{indentation}{style.text(as_yaml(key))}:"
        if isinstance(below, Setting):
            yield _Line(f"{name} {style.text(as_yaml(below.value))}", below)
        else:
            yield _Line(name)
            yield from _lines(below, f"{indentation}  ", style)


def _with_origin(line: _Line, column: int, style: Style) -> str:
    if line.setting is None:
        return line.text
    padding = " " * max(2, column - style.width(line.text))
    origin = line.setting.origin
    if origin.kind == "default":
        return style.paint(f"{line.text}{padding}# default", "dim")
    color = "yellow" if origin.kind == "environment" else "cyan"
    return f"{line.text}{padding}{style.paint(f'# {style.text(_words(origin))}', color)}"


def _words(origin: Origin) -> str:
    if origin.kind == "environment":
        return str(origin.variable)
    if origin.kind == "file name":
        return "the name of the file"
    return f"{_short(str(origin.file))}:{origin.line}"


def _short(file: str) -> str:
    """The path as short as it can be typed from here."""
    return min(file, os.path.relpath(file), key=len)
