"""What reading a content gives: a text, or the files in it, or both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pipeline.model import MetadataValue, ParsedDocument


class Content(NamedTuple):
    """What is to be read. `name` ends as a file's name does, which tells its kind where no `media_type` does."""

    name: str
    data: bytes
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A file in another. `problem` (a code and a message) and `left_out` (a reason) tell why it has no content."""

    content: Content
    modified_at: datetime | None = None
    problem: tuple[str, str] | None = None
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """`text` is None where there is nothing but files. `metadata` goes with all of these as well.

    If `is_wrapped`, the only file is the document itself, which was compressed. If `is_cut_off`, there may have been
    more files.
    """

    text: ParsedDocument | None = None
    members: Sequence[Member] = ()
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    is_wrapped: bool = False
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class UnpackingLimits:
    """How much may come out of one content."""

    bytes_max: int
    entries_max: int
