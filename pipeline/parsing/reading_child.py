"""What runs in the process that reads what may break or hang: `python -m pipeline.parsing.reading_child`.

It knows no secret: it starts with an empty environment. It is no sandbox against code that takes it over: it has its
user's rights. For each content it is sent a head (JSON) and the bytes, and answers with a head and bytes: the contents
of all files in it, one behind the other.
"""

import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import DocumentId, DocumentRef, ParsedDocument
from pipeline.parsing.decoding import decode, find_encoding
from pipeline.parsing.html import parse_html
from pipeline.parsing.media_types import OFFICE_TYPES, Kind
from pipeline.parsing.readings import Content, Member, Reading, UnpackingLimits
from pipeline.process_limits import lower_limit

LENGTHS = struct.Struct(">QQ")  # of the head, and of the bytes behind it
READY = b"+"

_REF = DocumentRef(DocumentId("document"), "")


def read(kind: Kind, content: Content, encoding: str | None, limits: UnpackingLimits) -> Reading:
    """
    Raises:
        UnreadableDocument, UnsupportedDocument: as whoever reads this kind says.
    """
    return _reader(kind, content, encoding, limits)()


def _reader(kind: Kind, content: Content, encoding: str | None, limits: UnpackingLimits) -> Callable[[], Reading]:
    """What reads `kind`; it is imported when it is first needed."""
    # ruff: noqa: PLC0415
    match kind:
        case Kind.HTML:
            return lambda: Reading(parse_html(_REF, content.data.decode()))
        case Kind.XML:
            from pipeline.parsing.xml import read_xml

            return partial(read_xml, content.data)
        case Kind.MAIL:
            from pipeline.parsing.mail import read_mail

            return partial(read_mail, content.data, limits, encoding)
        case Kind.NOTEBOOK:
            from pipeline.parsing.notebook import read_notebook

            return lambda: read_notebook(decode(content.data, find_encoding(content.data, forced=encoding)))
        case Kind.COMPRESSED:
            from pipeline.parsing.unpacking import decompress

            return partial(decompress, content, limits)
        case Kind.ZIP:
            from pipeline.parsing.unpacking import unpack_zip

            return partial(unpack_zip, content.data, limits)
        case Kind.TAR:
            from pipeline.parsing.unpacking import unpack_tar

            return partial(unpack_tar, content.data, limits)
        case Kind.PDF:
            from pipeline.parsing.pdf import read_pdf

            return partial(read_pdf, content.data)
    assert kind in OFFICE_TYPES, "whatever else there is can be read without risk"
    from pipeline.parsing.office import read_office

    return partial(read_office, kind, content.data, limits)


def answer(head: dict[str, Any], data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The answer to one content: its head, and the bytes behind that."""
    try:
        found = read(
            Kind(head["kind"]),
            Content(head["name"], data),
            head["encoding"],
            UnpackingLimits(head["bytes_max"], head["entries_max"]),
        )
    except UnreadableDocument as error:
        return {"refused": error.code, "message": str(error)}, []
    except UnsupportedDocument as error:
        return {"left_out": error.reason}, []
    except RecursionError:
        return {"refused": "too_deep", "message": "the content is nested too deeply"}, []
    return (
        {
            "text": _as_json(found.text) if found.text is not None else None,
            "members": [_member_as_json(member) for member in found.members],
            "metadata": dict(found.metadata),
            "is_wrapped": found.is_wrapped,
            "is_cut_off": found.is_cut_off,
        },
        [member.content.data for member in found.members],
    )


def _as_json(text: ParsedDocument) -> dict[str, Any]:
    return {
        "text": text.text,
        "markup": text.markup.value,
        "title": text.title,
        "modified_at": text.modified_at.isoformat() if text.modified_at else None,
        "metadata": dict(text.metadata),
    }


def _member_as_json(member: Member) -> dict[str, Any]:
    return {
        "name": member.content.name,
        "bytes": len(member.content.data),
        "media_type": member.content.media_type,
        "modified_at": member.modified_at.isoformat() if member.modified_at else None,
        "problem": member.problem,
        "left_out": member.left_out,
    }


# ------------------------------------------------------------------------------------------ the process


def _serve(line: socket.socket, cpu_s: int) -> None:
    """Answer until the other end is closed."""
    import html_to_markdown  # noqa: F401 - what is most often needed is imported before time counts

    line.sendall(READY)
    with line.makefile("rb") as asked:
        while lengths := asked.read(LENGTHS.size):
            head_bytes, data_bytes = LENGTHS.unpack(lengths)
            head = json.loads(asked.read(head_bytes))
            data = asked.read(data_bytes)
            _limit_cpu(cpu_s)
            answered, contents = answer(head, data)
            del data
            encoded = json.dumps(answered).encode()
            line.sendall(LENGTHS.pack(len(encoded), sum(map(len, contents))) + encoded)
            for content in contents:
                line.sendall(content)


def _limit_cpu(seconds: int) -> None:
    """Allow so much more: if nobody is left to stop this process, it ends by itself."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _main() -> None:
    memory_bytes, cpu_s = map(int, sys.argv[1:])
    lower_limit(resource.RLIMIT_AS, memory_bytes)
    lower_limit(resource.RLIMIT_CORE, 0)  # a core would hold the document
    lower_limit(resource.RLIMIT_FSIZE, 0)
    with socket.socket(fileno=os.dup(0)) as line, suppress(ConnectionError):
        _serve(line, cpu_s)


if __name__ == "__main__":
    _main()
