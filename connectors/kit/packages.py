"""Packages that not everybody has."""

from collections.abc import Sequence
from importlib.util import find_spec


def extra_for(extra: str, *modules: str) -> Sequence[str]:
    """What to tell pip so that `modules` are there: our extra, or nothing if they are."""
    return [] if all(find_spec(module) for module in modules) else [f"'agentcore-memory-sync[{extra}]'"]
