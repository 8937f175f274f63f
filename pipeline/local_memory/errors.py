"""The errors of the service, as it words them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ("FieldProblem", "ServiceError", "not_found", "refused", "refused_field")


class FieldProblem(NamedTuple):
    """One entry of a ValidationException's `fieldList`, such as `records.3.content.text`."""

    name: str
    message: str


class ServiceError(Exception):
    """An answer other than success.

    `code` is the name of the error in the service model; `members` are its members besides `message`.
    """

    def __init__(self, status: int, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.body = {"message": message, **members}


def refused(
    message: str, *, reason: str = "FieldValidationFailed", fields: Sequence[FieldProblem] = ()
) -> ServiceError:
    """The whole request is invalid: ValidationException; `fieldList` is left out when `fields` is empty."""
    members: dict[str, Any] = {"reason": reason}
    if fields:
        members["fieldList"] = [field._asdict() for field in fields]
    return ServiceError(400, "ValidationException", message, **members)


def refused_field(name: str, message: str) -> ServiceError:
    """The request is invalid because of one member."""
    return refused(f"Value at '{name}' is invalid: {message}", fields=[FieldProblem(name, message)])


def not_found(message: str) -> ServiceError:
    """What the request names does not exist: ResourceNotFoundException."""
    return ServiceError(404, "ResourceNotFoundException", message)
