"""The settings of a source that is being set up, each with the reason for its value."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Path = tuple[str, ...]


class Setting(NamedTuple):
    """A value and its place: `("source", "path")`. `why` is for who reads the file; `below` are lines after it."""

    path: Path
    value: Any
    why: str = ""
    below: tuple[str, ...] = ()


Draft = tuple[Setting, ...]


def source_setting(name: str, value: Any, why: str = "") -> Setting:
    """A setting of the section `source`."""
    return Setting(("source", name), value, why)


def with_settings(draft: Draft, settings: Iterable[Setting]) -> Draft:
    """`draft` with `settings`, which take the place of what was said there, above or below.

    What is set below a mapping that was given whole, or above single values, replaces as little as it can.
    """
    for setting in settings:
        draft = _with_setting(draft, setting)
    return draft


def _with_setting(draft: Draft, setting: Setting) -> Draft:
    for position, known in enumerate(draft):
        if known.path == setting.path:
            return (*draft[:position], setting, *draft[position + 1 :])
        if _is_below(setting.path, known.path):
            value = _with_value(known.value, setting.path[len(known.path) :], setting.value)
            return (*draft[:position], known._replace(value=value), *draft[position + 1 :])
    return (*(known for known in draft if not _is_below(known.path, setting.path)), setting)


def _with_value(value: Any, path: Path, new: Any) -> dict[str, Any]:
    known = dict(value) if isinstance(value, Mapping) else {}
    first, rest = path[0], path[1:]
    return {**known, first: _with_value(known.get(first), rest, new) if rest else new}


def _is_below(path: Path, above: Path) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


def tree(draft: Draft) -> dict[str, Any]:
    """The values as the file will hold them."""
    values: dict[str, Any] = {}
    for setting in draft:
        section = values
        for step in setting.path[:-1]:
            section = section.setdefault(step, {})
        section[setting.path[-1]] = setting.value
    return values


def value_at(draft: Draft, *path: str) -> Any:
    """What is said at `path`; None if nothing is."""
    value: Any = tree(draft)
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
