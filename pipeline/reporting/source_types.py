"""What `memsync sources` prints: the types of sources, and what each can be told."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.reporting.text import PLAIN, Style

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class SourceOption:
    """One setting of a source's section; `default` as YAML, None if it must be given.

    `options` are those in it, if it is a section itself.
    """

    name: str
    description: str
    default: str | None
    options: Sequence["SourceOption"] = ()


@dataclass(frozen=True, slots=True)
class SourceType:
    """A `type` that `source` can have. `problem` tells why it cannot be used here, None if it can.

    `comes_from` is the distribution that brings it, None if it is built in.
    """

    type: str
    summary: str = ""
    options: Sequence[SourceOption] = ()
    comes_from: str | None = None
    problem: str | None = None


def render_source_types(types: Sequence[SourceType], *, style: Style = PLAIN) -> str:
    rows = [
        [
            style.text(each.type),
            style.text(each.problem or each.summary),
            style.text(each.comes_from or "built in"),
        ]
        for each in types
    ]
    command = style.command("sources", "TYPE")
    return "\n".join([*style.table(["TYPE", "DOCUMENTS", "FROM"], rows), "", f"What one can be told: {command}"])


def render_source_type(source_type: SourceType, *, style: Style = PLAIN) -> str:
    """The section `source:` of a configuration with all options, as YAML to start from."""
    return "\n".join(_section(source_type, style))


def _section(source_type: SourceType, style: Style) -> Iterator[str]:
    yield from _comment(source_type.summary, "", style)
    yield "source:"
    yield f"  type: {style.text(source_type.type)}"
    yield from _options(source_type.options, "  ", style)


def _options(options: Sequence[SourceOption], indentation: str, style: Style) -> Iterator[str]:
    for option in options:
        yield from _comment(option.description, indentation, style)
        if option.options:
            yield f"{indentation}{option.name}:"
            yield from _options(option.options, f"{indentation}  ", style)
        elif option.default is None:
            yield style.paint(f"{indentation}{option.name}: ...  # must be given", "bold")
        else:
            yield f"{indentation}{option.name}: {style.text(option.default)}"


def _comment(text: str, indentation: str, style: Style) -> Iterator[str]:
    for line in textwrap.wrap(style.text(text), _WIDTH - len(indentation) - 2, break_long_words=False):
        yield f"{indentation}# {line}"
