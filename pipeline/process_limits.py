"""Limits that a process sets itself. Imports little: it is for processes that are started to do one thing."""

import resource
from contextlib import suppress


def lower_limit(kind: int, value: int) -> None:
    """Lower the limit `kind` (`resource.RLIMIT_AS` …) to `value`, where the system has such a limit."""
    _, hard = resource.getrlimit(kind)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (limit, limit))
