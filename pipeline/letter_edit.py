"""A dead letter's record as a text that a person can edit, and what becomes of it when it comes back.

The text has the form that Markdown's front matter has: the metadata as YAML between two lines of three dashes, and
below them the record's text. What the memory does not allow in metadata is shown as people write it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from yamlcore import CCoreDumper, CCoreLoader

from pipeline.identity import METADATA_ESCAPE, decode, encode_metadata
from pipeline.limits import ServiceLimits
from pipeline.model import MetadataValue, RecordContent
from pipeline.provenance import PROVENANCE_KEYS, SYSTEM_METADATA_PREFIX, own_metadata

FENCE = "---\n"


class UnusableEdit(ValueError):
    """What came back cannot be sent; the message says why, without repeating the text."""


def to_edit(content: RecordContent, notes: list[str]) -> str:
    """What a person edits; `notes` are lines for him, safe to print."""
    shown = {key: _shown(value) for key, value in own_metadata(content.metadata).items()}
    # Some line ends that are no ASCII come back as others unless they are escaped.
    is_plain = all(text.isprintable() for text in _texts_of(shown))
    metadata = yaml.dump(shown, Dumper=CCoreDumper, allow_unicode=is_plain, sort_keys=False) if shown else ""
    return "".join([FENCE, *(f"# {note}\n" for note in notes), metadata, FENCE, content.text, "\n"])


def from_edit(edited: str, before: RecordContent, limits: ServiceLimits) -> RecordContent:
    """The content that `edited` asks for, in place of `before`; provenance stays as it was.

    Raises:
        UnusableEdit: it has not the form that `to_edit` gave it, or breaks a limit of the memory.
    """
    if "\r" not in before.text:
        edited = edited.replace("\r\n", "\n")  # as some editors end lines
    head, fence, text = f"\n{edited.removeprefix(FENCE)}".partition(f"\n{FENCE}")
    if not edited.startswith(FENCE) or not fence:
        raise UnusableEdit("the metadata does not stand between two lines of three dashes any more")
    return with_text(text.removesuffix("\n"), before, limits, metadata=_metadata_of(head, before, limits))


def with_text(
    text: str, before: RecordContent, limits: ServiceLimits, *, metadata: Mapping[str, MetadataValue] | None = None
) -> RecordContent:
    """`before` with another text, and with other `metadata` of its own if that is not None.

    Raises:
        UnusableEdit: it breaks a limit of the memory.
    """
    own = own_metadata(before.metadata) if metadata is None else metadata
    provenance = {key: value for key, value in before.metadata.items() if key in PROVENANCE_KEYS}
    content = RecordContent(text, {**own, **provenance})
    if problem := limits.breach_of_content(content):
        raise UnusableEdit(problem)
    if not text.strip():
        raise UnusableEdit("content.text is blank; to send nothing, drop the letter")
    return content


def _metadata_of(head: str, before: RecordContent, limits: ServiceLimits) -> dict[str, MetadataValue]:
    try:
        read = yaml.load(head, Loader=CCoreLoader)  # noqa: S506 - plain values only, as in safe_load
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", in line {mark.line + 1}" if mark else ""
        raise UnusableEdit(f"the metadata is not YAML{where}") from error
    if not isinstance(read, dict | None):
        raise UnusableEdit("the metadata is no mapping, such as `team: support`")
    return {str(key): _written(str(key), value, before, limits) for key, value in (read or {}).items()}


def _written(key: str, value: Any, before: RecordContent, limits: ServiceLimits) -> MetadataValue:
    if key in PROVENANCE_KEYS or key.startswith(SYSTEM_METADATA_PREFIX):
        raise UnusableEdit(f"metadata {key!r} is not yours to set")
    was = before.metadata.get(key)
    if was is not None and value == _shown(was):
        return was  # also if it was cut, and cannot be written again as it was
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return float(value)
        case str():
            return encode_metadata(value, limits.metadata_string.max)
        case list() if value and all(isinstance(item, str) for item in value):
            return tuple(encode_metadata(item, limits.metadata_list_string.max) for item in value)
    raise UnusableEdit(f"metadata {key!r} is no text, number or list of texts")


def _texts_of(shown: Mapping[str, str | float | list[str]]) -> Iterator[str]:
    for value in shown.values():
        yield from [value] if isinstance(value, str) else value if isinstance(value, list) else ()


def _shown(value: MetadataValue) -> str | float | list[str]:
    if isinstance(value, str):
        return decode(value, METADATA_ESCAPE)
    if isinstance(value, tuple):
        return [decode(item, METADATA_ESCAPE) for item in value]
    return int(value) if float(value).is_integer() else value
