"""Thousands of hostile inputs, each through the real code: `python -m tests.security.hostile --inputs 5000`.

Every input must end as one of the outcomes below. Anything else (an error that nobody means to raise, a hang, memory
that grows, a character that drives a terminal) ends the run and names the seed that makes it again.
"""

import argparse
import faulthandler
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import orjson
from botocore.exceptions import ClientError

from connectors.filesystem import FilesystemConnector, FilesystemSettings
from pipeline import letters as letter_json
from pipeline.configuration.loading import load_sources
from pipeline.dead_letters import JsonLinesFile
from pipeline.destinations.agentcore import read_answer, service_errors
from pipeline.errors import ConfigurationError, DestinationError, SyncError, UnreadableDocument, UnsupportedDocument
from pipeline.model import (
    Batch,
    ClientToken,
    Document,
    DocumentId,
    DocumentRef,
    DocumentSkipped,
    Entry,
    ParsedDocument,
    RecordKey,
)
from pipeline.model import Operation as Op
from pipeline.parsing import Parser
from pipeline.reporting.text import printable
from tests.security import ingredients

INPUT_S_MAX = 35.0  # a page of HTML has 30 s
GROWTH_BYTES_MAX = 400 * 1024**2
KINDS_OF_OUTCOME = ("parsed", "skipped", "dead letter", "clear error")

Feed = Callable[[bytes, "Bench"], str]


class Broken(AssertionError):
    """An input had an outcome that it must not have."""


@dataclass
class Bench:
    """What the inputs are fed to."""

    folder: Path
    parser: Parser = field(default_factory=Parser)


def require_harmless(text: str) -> None:
    """What people are shown is one line that drives no terminal."""
    shown = printable(text)
    if any(character < " " or "\x7f" <= character < "\xa0" or character in "\u202e\u2066\u2028" for character in shown):
        raise Broken(f"{shown!r} can drive a terminal")


def _parse(name: str) -> Feed:
    def feed(content: bytes, bench: Bench) -> str:
        document = Document(DocumentRef(DocumentId(name), f"file:///{name}"), content)
        try:
            for parsed in bench.parser.parse(document):
                if not isinstance(parsed, ParsedDocument):
                    require_harmless(str(parsed))
                    continue
                # Raises for a lone surrogate, which no request can hold.
                "".join((parsed.text, parsed.title or "", *map(str, parsed.metadata.values()))).encode()
        except UnreadableDocument as error:
            require_harmless(error.code)
            if ingredients.CANARY in str(error):
                raise Broken("the message holds a text") from error
            return "dead letter"
        except UnsupportedDocument:
            return "skipped"
        return "parsed"

    return feed


def _configure(content: bytes, bench: Bench) -> str:
    file = bench.folder / "source.yaml"
    file.write_bytes(content)
    try:
        load_sources([file])
    except ConfigurationError as error:
        for line in str(error).splitlines():
            require_harmless(line)
        if ingredients.PASSWORD in str(error):
            raise Broken("the message holds a password") from error
        return "clear error"
    return "parsed"


def _read_letter(content: bytes, bench: Bench) -> str:
    path = bench.folder / "letters.jsonl"
    path.write_bytes(content)
    try:
        letter_json.from_json(content)
        outcome = "parsed"
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        outcome = "clear error"
    anyio.run(JsonLinesFile(path, "docs").rewrite, [])
    return outcome


SENT = orjson.dumps([{"requestIdentifier": "key", "content": {"text": f"a text with {ingredients.CANARY} in it"}}])
BATCH = Batch(
    ClientToken("token"), Op.CREATE, (Entry(RecordKey("key"), DocumentId("a"), "/", "digest", 1.0),), SENT, 0.0
)


def _answer(content: bytes, _bench: Bench) -> str:
    """As the adapter does with what the client has parsed."""
    try:
        with service_errors("the call", SENT):
            answer = orjson.loads(content)
            if isinstance(answer, dict) and "Error" in answer:
                raise ClientError(answer, "BatchCreateMemoryRecords")
            result = read_answer(BATCH, answer)
    except DestinationError as error:
        require_harmless(str(error))
        if ingredients.CANARY in str(error):
            raise Broken("the message holds a text") from error
        return "clear error"
    if len(result.succeeded) + len(result.failed) + len(result.unknown) != 1:
        raise Broken("the record is not in exactly one class")
    if any(ingredients.CANARY in failure.message for failure in result.failed):
        raise Broken("the message holds a text")
    return "dead letter" if result.failed else "parsed"


def _list(name: bytes, bench: Bench) -> str:
    with tempfile.TemporaryDirectory(dir=bench.folder) as made:
        root = Path(made) / "root"
        root.mkdir()
        try:
            ingredients.plant(root, name)
        except (OSError, ValueError):
            return "skipped"  # the system itself takes no such name
        return anyio.run(_scan, root)


async def _scan(root: Path) -> str:
    connector = FilesystemConnector(FilesystemSettings(type="filesystem", path=root, hidden=True), root)
    outcomes = []
    async for events in connector.scan(None):
        for event in events:
            if isinstance(event, DocumentSkipped):
                require_harmless(event.id)
                outcomes.append("skipped")
            elif isinstance(event, DocumentRef):
                require_harmless(event.id)
                try:
                    document = await connector.fetch(event)
                except UnreadableDocument:
                    outcomes.append("dead letter")
                    continue
                if ingredients.OUTSIDE in document.content:
                    raise Broken("a file outside of the folder was read")
                if await connector.locate(event.id) is None:
                    raise Broken("a listed file cannot be located")
                outcomes.append("parsed")
    return outcomes[0] if outcomes else "skipped"


KINDS: Mapping[str, tuple[ingredients.Make, Feed]] = {
    "Markdown": (ingredients.markdown, _parse("a.md")),
    "front matter": (ingredients.front_matter, _parse("a.md")),
    "HTML": (ingredients.html, _parse("a.html")),
    "JSON Lines": (ingredients.json_lines, _parse("a.jsonl")),
    "CSV": (ingredients.csv, _parse("a.csv")),
    "text": (ingredients.text, _parse("a.txt")),
    "YAML configuration": (ingredients.configuration, _configure),
    "dead-letter lines": (ingredients.letter, _read_letter),
    "service answers": (ingredients.answer, _answer),
    "file names": (ingredients.name, _list),
}


@dataclass
class Result:
    """What came of all inputs."""

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    slowest_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    grown_bytes: int = 0

    def table(self) -> str:
        lines = [f"{'kind':<20}" + "".join(f"{outcome:>13}" for outcome in KINDS_OF_OUTCOME) + f"{'slowest':>12}"]
        for kind, counts in self.outcomes.items():
            numbers = "".join(f"{counts[outcome]:>13,}" for outcome in KINDS_OF_OUTCOME)
            lines.append(f"{kind:<20}{numbers}{self.slowest_s[kind] * 1000:>9.0f} ms")
        total = sum(counts.total() for counts in self.outcomes.values())
        lines.append(f"{total:,} inputs, no other outcome; memory grew by {self.grown_bytes / 1024**2:.0f} MiB")
        return "\n".join(lines)


def run(inputs: int, seed: int) -> Result:
    """Feed so many inputs, of all kinds in turn.

    Raises:
        Broken: one of them had another outcome.
    """
    result = Result()
    with tempfile.TemporaryDirectory(prefix="memsync-hostile-") as folder:
        bench = Bench(Path(folder))
        at_start = _peak_bytes()
        for number in range(inputs):
            kind = list(KINDS)[number % len(KINDS)]
            outcome, seconds = _feed(kind, f"{seed}:{number}", bench)
            result.outcomes[kind][outcome] += 1
            result.slowest_s[kind] = max(result.slowest_s[kind], seconds)
            result.grown_bytes = _peak_bytes() - at_start
            if result.grown_bytes > GROWTH_BYTES_MAX:
                raise Broken(f"{kind}, {seed}:{number}: memory grew by {result.grown_bytes:,} bytes")
    return result


def _feed(kind: str, seed: str, bench: Bench) -> tuple[str, float]:
    make, feed = KINDS[kind]
    made = make(random.Random(f"{kind}:{seed}"))
    if sys.stderr is sys.__stderr__:  # a test has a limit of its own
        faulthandler.dump_traceback_later(INPUT_S_MAX, exit=True)
    start = time.perf_counter()
    try:
        outcome = feed(made, bench)
    except (Exception, SyncError) as error:
        raise Broken(f"{kind}, {seed}: {type(error).__name__}: {error} for {made[:200]!r}") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
    seconds = time.perf_counter() - start
    assert outcome in KINDS_OF_OUTCOME
    if seconds > INPUT_S_MAX:
        raise Broken(f"{kind}, {seed}: took {seconds:.1f} s")
    return outcome, seconds


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.pop("AWS_PROFILE", None)
    print(run(arguments.inputs, arguments.seed).table())  # noqa: T201


if __name__ == "__main__":
    main()
