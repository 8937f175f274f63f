"""Templates over the fields of a document, such as `/docs/{source}/{folder}/`.

Only names stand in braces; `{{` and `}}` are the braces themselves. What else `str.format` can do is refused:
a configuration must not reach into Python objects.
"""

import functools
import re
import string
from collections.abc import Mapping

_FIELD = re.compile(r"[a-z][a-z_]*|metadata\.[^\[\]]+")


def template_fields(template: str) -> set[str]:
    """The names of the fields in `template`; a document's own metadata is named `metadata.KEY`.

    Raises:
        ValueError: a brace without its partner, or a field that is more than a name.
    """
    return {field for _, field in _pieces(template) if field is not None}


def render(template: str, fields: Mapping[str, str]) -> str:
    """`template` with each field replaced by its value; one that is not in `fields` by nothing.

    Raises:
        ValueError: as for `template_fields`.
    """
    return "".join(
        literal if field is None else literal + fields.get(field, "") for literal, field in _pieces(template)
    )


@functools.lru_cache(maxsize=256)
def _pieces(template: str) -> tuple[tuple[str, str | None], ...]:
    """Each literal with the field behind it; None behind a last one."""
    pieces = []
    for literal, field, spec, conversion in string.Formatter().parse(template):
        if field is not None and (spec or conversion or not _FIELD.fullmatch(field)):
            written = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"should have only names in braces, not {f'{{{written}}}'!r}")
        pieces.append((literal, field))
    return tuple(pieces)
