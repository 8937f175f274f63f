"""Settings that are lists, of which one item need not be written as a list."""

from pydantic import BeforeValidator


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


# Behind whatever else an annotation says of the list: `Annotated[tuple[str, ...], Field(min_length=1), OneOrMore]`.
OneOrMore = BeforeValidator(_listed)
