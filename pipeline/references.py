"""References, which stand in a configuration for what must not: `${env:NAME}`, `${aws-sm:NAME#KEY}` and the like.

A text may hold several, and other characters around them. `$${` stands for `${` itself.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any, NamedTuple
from urllib.parse import quote

FORM_BY_SCHEME: Mapping[str, str] = {
    "env": "${env:NAME}",
    "file": "${file:PATH}",
    "aws-sm": "${aws-sm:NAME_OR_ARN} or ${aws-sm:NAME_OR_ARN#KEY}",
    "ssm": "${ssm:NAME}",
    "keyring": "${keyring:SERVICE/USER}",
}
LOCAL_SCHEMES = frozenset({"env", "file"})  # which this machine answers for, at once

_MARK = re.compile(r"\$\$\{|\$\{(?:([^}]*)\})?")
_BEGINS_LIKE_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]*")
_ENDS_LIKE_USER = re.compile(r"[^/?#@]*@")

Location = tuple[str | int, ...]  # the keys and numbers that lead to a value


class Reference(NamedTuple):
    """What stands where a value will."""

    scheme: str
    name: str

    def __str__(self) -> str:
        return f"${{{self.scheme}:{self.name}}}"


class Template(NamedTuple):
    """A text of the configuration that holds references."""

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> list[Reference]:
        return [part for part in self.parts if isinstance(part, Reference)]

    @property
    def plain_part(self) -> str:
        """What stands in the file itself."""
        return "".join(part for part in self.parts if isinstance(part, str))

    def filled(self, values: Mapping[Reference, str]) -> str:
        """The text with `values` in it. As user or password of a URL, they are percent-encoded."""
        return "".join(
            part
            if isinstance(part, str)
            else quote(values[part], safe="")
            if self.is_in_user_of_url(position)
            else values[part]
            for position, part in enumerate(self.parts)
        )

    def is_in_user_of_url(self, position: int) -> bool:
        """Whether the part at `position` stands where a URL has its user and password."""
        before, after = Template(self.parts[:position]).plain_part, Template(self.parts[position:]).plain_part
        return bool(_BEGINS_LIKE_USER.fullmatch(before) and _ENDS_LIKE_USER.match(after))


def parse(text: str) -> Template:
    """The references in `text`, and what is around them.

    Raises:
        ValueError: something begins like a reference and is none.
    """
    parts: list[str | Reference] = []
    end = 0
    for found in _MARK.finditer(text):
        parts.append(text[end : found.start()])
        parts.append("${" if found[0] == "$${" else _reference(found[1]))
        end = found.end()
    parts.append(text[end:])
    return Template(tuple(part for part in parts if part))


def has_marks(text: str) -> bool:
    """Whether `text` is anything but what it says: it holds references, or `$${`."""
    return "${" in text


def texts_with_marks(values: Any, location: Location = ()) -> Iterator[tuple[Location, str]]:
    """All texts below `values` that have marks, each with the steps that lead to it."""
    if isinstance(values, str):
        if has_marks(values):
            yield location, values
    elif isinstance(values, Mapping):
        for name, value in values.items():
            yield from texts_with_marks(value, (*location, name))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            yield from texts_with_marks(value, (*location, number))


def replaced(values: Any, text_at: Mapping[Location, str], location: Location = ()) -> Any:
    """`values` with other texts at those places of `text_at`."""
    if location in text_at:
        return text_at[location]
    if isinstance(values, Mapping):
        return {name: replaced(value, text_at, (*location, name)) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [replaced(value, text_at, (*location, number)) for number, value in enumerate(values)]
    return values


def _reference(content: str | None) -> Reference:
    if content is None:
        raise ValueError(f"`${{` begins a reference and no `}}` ends it; {_ADVICE}")
    scheme, colon, name = content.partition(":")
    if not colon or scheme not in FORM_BY_SCHEME:
        near = get_close_matches(scheme, FORM_BY_SCHEME, n=1) if colon else []
        advice = f"did you mean {FORM_BY_SCHEME[near[0]]}?" if near else _ADVICE
        raise ValueError(f"`${{{content}}}` is no reference; {advice}")
    is_complete = name.strip() == name != "" and name.isprintable()
    if scheme == "env":
        is_complete = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is not None
    elif scheme == "aws-sm":
        secret, has_key, key = name.partition("#")
        is_complete = is_complete and secret != "" and (key != "") == bool(has_key)
    elif scheme == "keyring":
        service, _, user = name.rpartition("/")
        is_complete = is_complete and service != "" and user != ""
    if not is_complete:
        raise ValueError(f"`${{{content}}}` is no reference; it should be {FORM_BY_SCHEME[scheme]}")
    return Reference(scheme, name)


_ADVICE = f"there are {', '.join(FORM_BY_SCHEME.values())}, and `$${{` is how to write `${{` itself"


# ------------------------------------------------------------------------------ for the checks of connectors

_plain_part_by_text: ContextVar[Mapping[str, str]] = ContextVar("_plain_part_by_text", default={})  # noqa: B039


@contextmanager
def plain_parts(templates: Sequence[Template], texts: Sequence[str]) -> Iterator[None]:
    """Within, `plain_part` knows the `texts` that `templates` were filled to."""
    before = _plain_part_by_text.get()
    known = {text: template.plain_part for template, text in zip(templates, texts, strict=True)}
    token = _plain_part_by_text.set({**before, **known})
    try:
        yield
    finally:
        _plain_part_by_text.reset(token)


def plain_part(text: str) -> str:
    """What of a setting's `text` stands in the file itself, and not in what references there lead to.

    For checks that refuse secrets in a file. Says so only while settings are being checked.
    """
    return _plain_part_by_text.get().get(text, text)
