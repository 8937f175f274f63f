"""A draft as the text of a YAML file: short, in sections, with a reason beside each value."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import yaml
from yamlcore import CCoreDumper

from pipeline.configuration.settings import SourceSettings
from pipeline.reporting.text import printable
from pipeline.starting.draft import Draft, Path, Setting, tree, value_at

WIDTH = 100
SCHEMA_FILE = "memsync.schema.json"  # beside the file
BESIDE_MAX = 44  # the longest line that a reason stands beside


def yaml_text(draft: Draft) -> str:
    """The file's text, which `load_sources` reads back as exactly these values."""
    values = tree(draft)
    order = [name for name in SourceSettings.model_fields if name in values]
    sections = [*order, *(name for name in values if name not in order)]
    settings = {setting.path: setting for setting in draft}
    blocks = [header(draft)]
    for name in sections:
        lines = list(_lines(name, values[name], (name,), settings))
        is_single = not isinstance(values[name], Mapping)
        if is_single and len(blocks) > 1 and len(blocks[-1]) == 1:
            blocks[-1] += _beside(lines)
        else:
            blocks.append(_beside(lines))
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def header(draft: Draft) -> list[str]:
    """What the file begins with: a line for editors, and what a person should know first."""
    type_name = value_at(draft, "source", "type")
    return [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# One source of documents, and how they become records. Begun by `memsync init`; it is yours now.",
        f"# All that `source` can be told: memsync sources {printable(str(type_name))}",
    ]


_Line = tuple[str, str, tuple[str, ...]]  # the line, the reason for it, and what follows it


def _lines(name: str, value: Any, path: Path, settings: Mapping[Path, Setting]) -> Iterator[_Line]:
    indentation = "  " * (len(path) - 1)
    said = settings.get(path, Setting(path, value))
    key = _flow(name)
    if isinstance(value, Mapping) and value and (len(path) == 1 or path not in settings):
        yield f"{indentation}{key}:", said.why, said.below
        for inner, inner_value in value.items():
            yield from _lines(inner, inner_value, (*path, inner), settings)
    elif _is_nested(value):
        yield f"{indentation}{key}:", said.why, said.below
        for line in _block(value).splitlines():
            yield f"{indentation}  {line}".rstrip(), "", ()
    else:
        yield f"{indentation}{key}: {_flow(value)}", said.why, said.below


def _is_nested(value: Any) -> bool:
    """Whether it holds lists or mappings of such, which nobody could read on one line."""
    inner = value.values() if isinstance(value, Mapping) else value if _is_list(value) else ()
    return any(isinstance(each, Mapping) or _is_list(each) for each in inner)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _beside(lines: Sequence[_Line]) -> list[str]:
    """The lines with their reasons: beside those that are short, in one column, and above the others."""
    short = [len(line) for line, why, _ in lines if why and len(line) <= BESIDE_MAX]
    column = max(short, default=0) + 2
    written = []
    for line, why, below in lines:
        indentation = line[: len(line) - len(line.lstrip())]
        reason = printable(why)
        if reason and len(line) <= BESIDE_MAX and column + 2 + len(reason) <= WIDTH + 20:
            written.append(f"{line:{column}}# {reason}")
        else:
            sentence = reason[:1].upper() + reason[1:]
            wrapped = textwrap.wrap(sentence, WIDTH - len(indentation) - 2, break_long_words=False)
            written += [f"{indentation}# {part}" for part in wrapped]
            written.append(line)
        written += [f"{indentation}# {printable(note)}" for note in below]
    return written


def _flow(value: Any) -> str:
    return _dump(value, is_flow=True).removesuffix("...\n").strip()  # which ends a document that is a single word


def _block(value: Any) -> str:
    return _dump(value, is_flow=False)


class _Dumper(CCoreDumper):  # type: ignore[misc]  # yamlcore has no types
    """Keeps every text on its line."""


def _represent_text(dumper: Any, text: str) -> yaml.ScalarNode:
    style = '"' if "\n" in text else None
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_Dumper.add_representer(str, _represent_text)


def _dump(value: Any, *, is_flow: bool) -> str:
    """`value` as the YAML that is read back as it was. What could hide or reorder text is escaped."""
    form = partial(yaml.dump, _plain(value), Dumper=_Dumper, width=100_000, sort_keys=False, default_flow_style=is_flow)
    shown = str(form(allow_unicode=True))
    return shown if shown.replace("\n", "").isprintable() else str(form(allow_unicode=False))


def _plain(value: Any) -> Any:
    """`value` in lists and mappings, as YAML has them."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(each) for each in value] if _is_list(value) else value
