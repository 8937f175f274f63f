"""Files of every format, cut off and with bits turned over: `python -m tests.security.broken_formats --files 20000`.

Each must end as a text, a part that failed, an `UnreadableDocument` or an `UnsupportedDocument`, within seconds, and
twice in the same way. Anything else ends the run and names the seed that makes it again.
"""

import argparse
import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import orjson

from pipeline.errors import UnreadableDocument, UnsupportedDocument
from pipeline.model import Document, DocumentId, DocumentRef, Parsed, ParsedDocument, UnreadPart
from pipeline.parsing import Parser

SAMPLES = Path(__file__).parents[1] / "parsing/samples"
FILE_S_MAX = 35.0  # one content has 30 s

NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "Prose."]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"text": ["1"]}]},
    ],
    "metadata": {"language_info": {"name": "python"}},
    "nbformat": 4,
}
XML = "<book><title>Title</title><chapter><title>One</title><para>Some <b>words</b>.</para></chapter></book>"


def samples() -> dict[str, bytes]:
    """A sound file of each format by its name."""
    text = "# Title\n\nSome words.\n" * 50
    found = {path.name: path.read_bytes() for path in sorted(SAMPLES.iterdir()) if path.suffix != ".md"}
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a/notes.md"), text)
        archive.writestr(zipfile.ZipInfo("table.csv"), "id,text\n1,one\n2,two\n", zipfile.ZIP_DEFLATED)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        entry = tarfile.TarInfo("a/notes.md")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["Date"] = "Größe", "Ann <a@example.com>", "Tue, 02 Jan 2024 03:04:05 +0100"
    mail.set_content("Some words.")
    mail.add_alternative("<p>Some <b>words</b>.</p>", subtype="html")
    mail.add_attachment(text, subtype="markdown", filename="notes.md")
    mail.set_boundary("between")
    return found | {
        "files.zip": zipped.getvalue(),
        "files.tar": tarred.getvalue(),
        "files.tar.gz": gzip.compress(tarred.getvalue(), mtime=0),
        "notes.md.bz2": bz2.compress(text.encode()),
        "notes.md.xz": lzma.compress(text.encode()),
        "mail.eml": mail.as_bytes(),
        "notebook.ipynb": orjson.dumps(NOTEBOOK),
        "book.xml": XML.encode(),
    }


def broken(content: bytes, rng: random.Random) -> bytes:
    """`content` as a fault of a disk, of a network or of a mean person leaves it."""
    changed = bytearray(content)
    match rng.randrange(5):
        case 0:
            return content[: rng.randrange(len(content))]
        case 1:
            for _ in range(rng.choice((1, 3, 30))):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 2:
            start = rng.randrange(len(changed))
            changed[start : start + rng.randrange(200)] = rng.randbytes(rng.randrange(200))
        case 3:
            start, end = sorted((rng.randrange(len(changed)), rng.randrange(len(changed))))
            changed[start:start] = changed[start:end] * rng.choice((1, 2))
        case 4:  # sizes and offsets that lie
            start = rng.randrange(max(1, len(changed) - 4))
            changed[start : start + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\x00\x00\x00\x00"))
    return bytes(changed)


def outcome(parser: Parser, name: str, content: bytes) -> list[Parsed] | str:
    """All that `content` gives, or how it was refused; raises what must not be raised."""
    try:
        return list(parser.parse(Document(DocumentRef(DocumentId(name), f"file:///{name}"), content)))
    except UnreadableDocument as error:
        return f"dead letter {error.code}"
    except UnsupportedDocument as error:
        return f"left out: {error.reason}"


def kind_of(result: list[Parsed] | str) -> str:
    if isinstance(result, str):
        return result
    if any(isinstance(each, UnreadPart) for each in result):
        return "a part failed"
    return "text" if any(isinstance(each, ParsedDocument) for each in result) else "nothing"


def broken_files(seed: int, count: int) -> Iterator[tuple[int, str, bytes]]:
    """The seed, the name and the content of so many broken files, from all formats in turn."""
    sound = list(samples().items())
    for number in range(seed, seed + count):
        name, content = sound[number % len(sound)]
        yield number, name, broken(content, random.Random(number))


def main() -> None:
    parser_ = argparse.ArgumentParser(description=__doc__)
    parser_.add_argument("--files", type=int, default=2000)
    parser_.add_argument("--seed", type=int, default=1)
    arguments = parser_.parse_args()
    parser = Parser()
    results: dict[str, Counter[str]] = {}
    slowest = (0.0, 0)
    for number, name, content in broken_files(arguments.seed, arguments.files):
        begun = time.monotonic()
        result = outcome(parser, name, content)
        took_s = time.monotonic() - begun
        slowest = max(slowest, (took_s, number))
        if took_s > FILE_S_MAX or result != outcome(parser, name, content):
            sys.exit(f"seed {number}: {name} took {took_s:.1f} s, or ended in another way the second time")
        results.setdefault(name, Counter())[kind_of(result)] += 1
    for name, counted in results.items():
        sys.stdout.write(f"{name:16} {dict(counted.most_common())}\n")
    sys.stdout.write(f"slowest {slowest[0]:.2f} s, seed {slowest[1]}\n")


if __name__ == "__main__":
    main()
