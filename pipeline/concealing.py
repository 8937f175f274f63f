"""Takes the values of references out of words, wherever a library or a server has put them."""

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote, urlsplit

SHOWN_CHARACTERS_MAX = 3  # so short a value is no secret, and would be found in every other word
LINE_CHARACTERS_MIN = 8  # of a secret of several lines, such as a key
_FRAGMENT = re.compile(r"\w{4,}")
_NO_FRAGMENTS = {"http", "https"}


class Concealer:
    """Knows what must not be shown: `name_by_value` has the value of each reference, and what is shown instead."""

    def __init__(self, name_by_value: Mapping[str, str]) -> None:
        named = {form: name for value, name in name_by_value.items() for form in _forms(value)}
        self._name_by_form = dict(sorted(named.items(), key=lambda item: -len(item[0])))
        self._fragments = {found for form in named for found in _FRAGMENT.findall(form)} - _NO_FRAGMENTS

    def conceal(self, text: str) -> str:
        """`text` with the names of references in place of their values."""
        for form, name in self._name_by_form.items():
            text = text.replace(form, name)
        return text

    def betrays(self, text: str) -> bool:
        """Whether `text` may quote a part of a value."""
        return any(fragment in self._fragments for fragment in _FRAGMENT.findall(text))


NOTHING_CONCEALED = Concealer({})


def _forms(value: str) -> Iterator[str]:
    """How `value` may be written."""
    for part in {value, value.strip(), *_parts(value)}:
        if len(part) > SHOWN_CHARACTERS_MAX:
            yield from {part, quote(part, safe=""), quote(part), quote_plus(part), repr(part)[1:-1]}
            yield json.dumps(part)[1:-1]


def _parts(value: str) -> Iterator[str]:
    """What of `value` is a secret by itself: a line of a key, the password of a URL, a word in JSON."""
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= LINE_CHARACTERS_MIN)
    try:
        password = urlsplit(value).password or ""
    except ValueError:
        password = ""
    yield from {password, unquote(password)}
    if value.lstrip().startswith("{"):
        try:
            members = json.loads(value)
        except ValueError:
            return
        yield from (part for part in members.values() if isinstance(part, str) and len(part) >= LINE_CHARACTERS_MIN)
