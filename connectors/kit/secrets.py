"""Secrets, which settings hold by reference, or by the name of an environment variable."""

import os
import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr, WithJsonSchema
from pydantic_core import PydanticCustomError

from pipeline.errors import SourceError
from pipeline.references import plain_part

# What secrets are called in the query of an address. Tokens of a page, such as `page_token`, are none.
SECRET_PARAMETER = re.compile(
    r"((api|access|auth|subscription)[-_]?key(_?id)?|(x-amz-)?(signature|credential|security-token)|sig|authorization"
    r"|((access|auth|bearer|feed|id|job|personal|private|refresh|rss|session|user)[-_]?)?token"
    r"|.*secret|passw(or)?d|passphrase|pwd)",
    re.IGNORECASE,
)


def _require_reference(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if plain_part(text) == text:
        raise PydanticCustomError(
            "by_reference", "should be a reference, such as ${env:NAME}: a secret must not stand here"
        )
    return secret


# A secret that stands in the file as a reference, such as `${aws-sm:NAME}`, and never as it is.
SecretByReference = Annotated[
    SecretStr, AfterValidator(_require_reference), WithJsonSchema({"type": "string", "pattern": r"\$\{"})
]


def require_one(setting: str, given: SecretStr | None, variable: str | None) -> None:
    """See that a secret is given in one of the two ways: by `SETTING`, or by `SETTING_variable`.

    Raises:
        ValueError: in none, or in both.
    """
    if (given is None) == (variable is None):
        raise ValueError(f"one of `{setting}` and `{setting}_variable` should be given")


def secret_of(setting: str, given: SecretStr | None, variable: str | None) -> str:
    """The secret that `source.SETTING` holds, or else what the variable holds that `source.SETTING_variable` names.

    Raises:
        SourceError: that is not set.
    """
    return given.get_secret_value() if given is not None else from_environment(f"{setting}_variable", variable)


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
