"""Secrets, which settings hold by the name of an environment variable."""

import os

from pipeline.errors import SourceError


def from_environment(setting: str, variable: str | None) -> str:
    """What the environment variable holds that `source.SETTING` names.

    Raises:
        SourceError: it is not set.
    """
    found = os.environ.get(variable or "")
    if not found:
        raise SourceError(
            f"The environment variable {variable}, which `source.{setting}` names, is not set. Nothing was done; set"
            " it."
        )
    return found
