"""YAML files, read so that every value can be found again by line and column.

YAML 1.2 on libyaml: `no` is a word, and a key that stands twice is an error. Settings are a small mapping of
plain values; tags, further documents, and nesting or aliases without end are refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yamlcore import CCoreLoader

from pipeline.errors import ConfigurationError

BYTES_MAX = 1024 * 1024
DEPTH_MAX = 32
NODES_MAX = 20_000  # an alias counts as all that it stands for
INTEGER_BITS_MAX = 64

CORE_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}


class Place(NamedTuple):
    """Where something stands in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What a YAML file says: `values`, and `place` to find where it says it."""

    path: Path
    values: dict[str, Any]
    root: yaml.MappingNode

    def place(self, location: Sequence[str | int], *, of_key: bool = False) -> Place:
        """Where the value at `location` stands, or its key; if it is missing, the key of what is around it.

        Steps that lead nowhere are passed over.
        """
        node: yaml.Node = self.root
        key, is_found = node, True
        for step in location:
            child = _child(node, step)
            is_found = child is not None
            if child is not None:
                key, node = child
        mark = (node if is_found and not of_key else key).start_mark
        return Place(mark.line + 1, mark.column + 1)


def read_yaml(path: Path) -> YamlDocument:
    """Read the mapping that the file at `path` holds.

    Raises:
        ConfigurationError: it cannot be read, is not UTF-8 or not YAML, is too large, or holds no mapping.
    """
    return parse_yaml(_read(path), path)


def parse_yaml(content: bytes, path: Path) -> YamlDocument:
    """The mapping that `content` holds, of a file that is or will be at `path`.

    Raises:
        ConfigurationError: it is not UTF-8 or not YAML, is too deep, or holds no mapping.
    """
    try:
        text = content.decode("utf-8-sig")
        _check_depth(text)
        loader = CCoreLoader(text)
        root = loader.get_single_node()
        values = None if root is None else _Builder(loader).value(root)
    except UnicodeDecodeError as error:
        place = _place_of_byte(content, error.start)
        raise ConfigurationError("the file is not in UTF-8", path=str(path), **place._asdict()) from error
    except yaml.reader.ReaderError as error:
        place = _place_of_byte(content, error.position)
        raise ConfigurationError(f"not YAML: {error.reason}", path=str(path), **place._asdict()) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigurationError(
            _explain(error, text),
            path=str(path),
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
        ) from error
    if not isinstance(values, dict):
        what = {list: "a list", type(None): "nothing"}.get(type(values), "a single value")
        raise ConfigurationError(
            f"the file holds {what}; it should be a mapping, beginning with a line such as `source:`",
            path=str(path),
            **_place_of_byte(content, 0)._asdict(),
        )
    return YamlDocument(path, values, root)


def as_yaml(value: object) -> str:
    """`value`, of what JSON can say, in one line of YAML."""
    written = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False)
    line = str(written).removesuffix("...\n").strip()  # which ends a document that is a single word
    # Text of several lines stays so in YAML's quotes; in those of JSON, which are YAML too, it does not.
    return json.dumps(value, ensure_ascii=False) if "\n" in line else line


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", path=str(path)) from error
    if len(content) > BYTES_MAX:
        raise ConfigurationError(f"is larger than {BYTES_MAX} bytes", path=str(path))
    return content


def _check_depth(text: str) -> None:
    """Refuse deep nesting before a tree is built of it, which the parser does by recursion in C."""
    depth = 0
    for event in yaml.parse(text, Loader=CCoreLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise _refusal(f"nested more than {DEPTH_MAX} deep", event)


class _Builder:
    """Makes plain values of nodes; counts them, since with aliases a few lines can stand for millions."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._nodes = 0

    def value(self, node: Any, depth: int = 0) -> Any:
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            raise _refusal(f"more than {NODES_MAX} values, or aliases that never end", node)
        if node.tag not in CORE_TAGS:
            raise _refusal(f"the tag `{node.tag}` is unknown; text that begins with `!` needs quotes", node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        try:
            value = self._loader.construct_object(node)
        except (ValueError, LookupError) as error:
            # `!!int word`, or more digits than Python reads
            raise _refusal("this cannot be read as a number, true, false or null", node) from error
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
            raise _refusal(f"a whole number of more than {INTEGER_BITS_MAX} bits", node)
        return value

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, depth + 1)
            if not isinstance(key, str):
                raise _refusal("a key should be text; put it in quotes", key_node)
            if key in mapping:
                raise _refusal(f"the key {key!r} stands on line {lines[key]} already", key_node)
            mapping[key] = self.value(value_node, depth + 1)
            lines[key] = key_node.start_mark.line + 1
        return mapping


def _refusal(problem: str, where: Any) -> yaml.MarkedYAMLError:
    """An error like the parser's own, at a node or an event."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """The key and the value at `step` of `node`; an item of a list is its own key."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """libyaml's words, with a hint where they are known to puzzle."""
    problem, mark = error.problem or "this is not YAML", error.problem_mark
    if problem == "but found another document":
        return "a second document begins here; a file describes one source"
    if mark is not None:
        character = text[mark.index : mark.index + 1]
        before = text[: mark.index].rpartition("\n")[2]
        if character == "\t" or ("\t" in before and before.isspace()):
            return "a tab stands where YAML wants spaces"
        if problem.endswith("cannot start any token"):
            return f"a value cannot begin with {character!r}; put it in quotes"
    if error.context and error.context_mark:
        return f"{problem} {error.context} (line {error.context_mark.line + 1})"
    return problem


def _place_of_byte(content: bytes, offset: int) -> Place:
    before = content[:offset].decode("utf-8", "replace")
    return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
