"""What may be a secret in settings, and texts of them without it: for messages, reports and excerpts of files.

A reference is none. It is told from what stands beside it by a stand-in, a character that no pattern here takes for
anything else.
"""

import re
from collections.abc import Callable, Sequence

_SECRET_NAME = re.compile(
    r"auth(?!or(?!i[sz]))"  # not of an author, or an authority
    r"|(access|account|api|app|private|shared|signing|storage|subscription)[-_]?key|connection[-_]?string|cookie"
    r"|credential|key_id|passphrase|passw|private|pwd|(^|[-_])sas([-_]|$)|secret|signature|token",
    re.IGNORECASE,
)

_REFERENCE = r"\$\{[^}]*\}"
_STAND_INS = 0xE000  # the first of the characters that are nobody's
_STAND_IN = "[\ue000-\uf8ff]"

_KEY = re.compile(r"""["']?([\w.-]+)["']?\s*:\s*""")
_FIRST_KEY = re.compile(rf"[\s{{\[-]*{_KEY.pattern}")
# A word of a command that may say what the next one is, or what stands behind its `=`.
_OPTION = re.compile(r"""(?<![\w.-])(?:(--?[\w-]+)(?:=|["']?\s*,\s*|\s+)|([A-Za-z]\w*)=)""")
_OPTION_LAST = re.compile(r"""(?:^|[\s,\["'])(--?[\w-]+)["']?\s*,?\s*$""")
_NAMES_ONE = re.compile(r"_variables?$")  # what stands there is a name
_BY_REFERENCE = re.compile(rf"""["']?(Bearer |Basic |Token )?{_STAND_IN}+["']?\s*([,}}\]#].*)?$""")
# What may stand before the only `@` of an address: a user, and a password that is nothing but references.
_USER = rf"[^:/@\s]*(?::{_STAND_IN}+)?@[^@\s]*(?:\s|$)"


def is_secret(location: Sequence[str | int]) -> bool:
    """Whether the name of a setting, or of a section around it, looks like that of a secret."""
    return any(_SECRET_NAME.search(str(step)) for step in location)


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable looks like one that holds a secret."""
    return bool(_SECRET_NAME.search(name) or re.search(r"(^|_)(pw|pass|key|dsn)(_|$)", name, re.IGNORECASE))


def is_by_reference(text: str) -> bool:
    """Whether `text` is a reference and nothing else, but for how it is used."""
    return re.fullmatch(rf"((Bearer|Basic|Token) +)?({_REFERENCE})+", text) is not None


def _beside_references(text: str, mask: Callable[[str], str]) -> str:
    """`text` as `mask` leaves it, which sees a stand-in for each reference."""
    references = {chr(_STAND_INS + number): found[0] for number, found in enumerate(re.finditer(_REFERENCE, text))}
    for stand_in, reference in references.items():
        text = text.replace(reference, stand_in, 1)
    text = mask(text)
    for stand_in, reference in references.items():
        text = text.replace(stand_in, reference)
    return text


# ---------------------------------------------------------------------------------------------- single values


def without_passwords(text: str) -> str:
    """`text` without those parts of addresses that may hold a secret."""
    text = re.sub(r"//[^/@]*@", "//…@", text)
    text = re.sub(r"^([^/@\s]+:)[^/@\s]+@", r"\1…@", text)  # an address of SSH has no slashes there
    return re.sub(r"(://[^?#]*[?#]).+", r"\1…", text)


def without_plain_secrets(text: str) -> str:
    """`text` as `without_passwords` has it, but with what is a reference there, as that says no secret."""
    return _beside_references(text, _without_plain) if re.search(_REFERENCE, text) else without_passwords(text)


def _without_plain(text: str) -> str:
    text = re.sub(rf"//(?!([^/:@]*:)?{_STAND_IN}+@)[^/@]*@", "//…@", text)
    text = re.sub(rf"^([^/@\s]+:)(?!{_STAND_IN}+@)[^/@\s]+@", r"\1…@", text)
    if (begun := re.search(r"://[^?#]*[?#]", text)) is not None:
        hidden = rf"([^=&#]*=)?(?!{_STAND_IN}+([&#]|$))[^=&#]+(?=[&#]|$)"
        text = text[: begun.end()] + re.sub(hidden, r"\1…", text[begun.end() :])
    return text


def without_secret_arguments(words: Sequence[str]) -> list[str]:
    """The words of a command without what is given to options that are named like secrets, unless that is a reference.

    Options may be `--token=VALUE`, `--token VALUE` or `TOKEN=VALUE`; one without a value takes the next word with it.
    """
    shown = []
    is_value_next = False
    for word in words:
        name, equals, value = word.partition("=")
        if is_value_next and not is_by_reference(word):
            shown.append("…")
        elif equals and is_secret([name]) and not is_by_reference(value):
            shown.append(f"{name}=…")
        else:
            shown.append(word)
        is_value_next = word.startswith("-") and not equals and is_secret([word])
    return shown


# --------------------------------------------------------------------------------------------- lines of a file


def without_secrets(line: str) -> str:
    """A line of YAML without what may be a secret: behind a key or an option that looks like it, or in an address."""
    return _beside_references(line, _masked)


def _masked(line: str) -> str:
    names_end = 0
    for found in _KEY.finditer(line):
        key, rest = found[1], line[found.end() :]
        if key.endswith("_variables"):  # what stands in there are names
            names_end = found.end() + len(rest.partition("}")[0])
        is_harmless = found.start() < names_end or key.endswith("_variable") or rest[:1] in ("", "{", "#")
        if is_secret([key]) and not is_harmless and not _BY_REFERENCE.match(rest):
            return f"{line[: found.end()]}…"
    for found in _OPTION.finditer(line):
        if is_secret([found[1] or found[2]]) and not _BY_REFERENCE.match(line[found.end() :]):
            line = f"{line[: found.end()]}…"  # it may be a parameter of an address that holds another one
            break
    line = re.sub(rf"://(?!{_USER})\S*@", "://…@", line)
    line = re.sub(rf"""([^/@\s"':]+:)(?!{_STAND_IN}+@)[^/@\s]+@""", r"\1…@", line)  # of SSH: no slashes stand there
    return re.sub(r"(://[^?\s]*\?)\S+", r"\1…", line)


def continues_secret(lines: Sequence[str], index: int) -> bool:
    """Whether the line at `index` has no key of its own, and may go with a key or an option above that looks secret."""
    if _FIRST_KEY.match(lines[index]):
        return False  # what is behind it is judged by that
    if index and (option := _OPTION_LAST.search(lines[index - 1])) and is_secret([option[1]]):
        return True
    limit, is_open = _indentation(lines[index]), True
    for line in reversed(lines[:index]):
        if not (keys := list(_KEY.finditer(line))) or line.lstrip().startswith("#"):
            continue
        if (is_open or _indentation(line) < limit) and is_secret([keys[-1][1]]) and not _NAMES_ONE.search(keys[-1][1]):
            return True
        limit, is_open = min(limit, _indentation(line)), False
    return False


def _indentation(line: str) -> int:
    """By which lines stand below others; items of a list may stand as far left as its key."""
    plain = line.lstrip(" ")
    return len(line) - len(plain) + plain.startswith("- ")
