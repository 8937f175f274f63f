"""Kills a memsync process at a named place, from within: for machines without strace, and for tests that say where."""

import functools
import importlib
import inspect
import os
import signal
from typing import Any, Literal

When = Literal["before", "after"]


def install(place: str, when: When) -> None:
    """From now on, SIGKILL comes `when` a method is called: `place` is `module:Class.method`."""
    module, _, name = place.partition(":")
    owner_name, _, method = name.rpartition(".")
    owner = getattr(importlib.import_module(module), owner_name)
    real = getattr(owner, method)

    if inspect.iscoroutinefunction(real):

        @functools.wraps(real)
        async def killed(*arguments: Any, **named: Any) -> Any:
            if when == "after":
                await real(*arguments, **named)
            die()
    else:

        @functools.wraps(real)
        def killed(*arguments: Any, **named: Any) -> Any:
            if when == "after":
                real(*arguments, **named)
            die()

    setattr(owner, method, killed)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # it comes at once, but nothing more must happen until then
