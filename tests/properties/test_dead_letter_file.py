"""A dead-letter file that a crash tore at any byte: whoever reads or writes it next loses nothing else."""
# ruff: noqa: ASYNC240 - a test may look at a small file while nothing else waits

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from anyio import run
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import letters as letter_json
from pipeline.dead_letters import JsonLinesFile
from pipeline.model import DeadLetter
from tests.contract.state_store import letter

SOURCE, OTHER = "handbook", "other"
texts = st.text(st.characters(), max_size=20)
letters = st.builds(
    lambda name, message, source: letter(name, message=message, source=source),
    st.text("abc", min_size=1, max_size=4),
    texts,
    st.sampled_from([SOURCE, OTHER]),
)


def lines(some: list[DeadLetter]) -> bytes:
    return b"".join(letter_json.to_json(written) + b"\n" for written in some)


def readable(content: bytes) -> list[DeadLetter]:
    """The letters in `content`; a line that a crash tore is left out."""
    found = []
    for line in content.split(b"\n"):
        try:
            found.append(letter_json.from_json(line))
        except (ValueError, KeyError, TypeError):
            continue
    return found


@settings(max_examples=4)
@given(whole=st.lists(letters, max_size=2), torn=letters, new=letters)
def test_a_line_that_is_torn_anywhere_costs_no_other(
    whole: list[DeadLetter], torn: DeadLetter, new: DeadLetter
) -> None:
    """The file is only appended to: a crash can leave its last line cut after any byte."""
    last = lines([torn])

    async def check() -> None:
        for kept in range(len(last) + 1):
            path.write_bytes(lines(whole) + last[:kept])
            await file.append([new])

            after = path.read_bytes()
            assert after.startswith(lines(whole) + last[:kept])
            expected = [*whole, *([torn] if kept >= len(last) - 1 else []), new]
            assert readable(after) == expected
            assert after.endswith(lines([new]))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "dead-letters.jsonl")
        file = JsonLinesFile(path, SOURCE)
        run(check)


@settings(max_examples=4)
@given(whole=st.lists(letters, max_size=2), torn=letters, kept=st.lists(letters, max_size=2))
def test_rewriting_a_torn_file_keeps_what_other_sources_have_in_it(
    whole: list[DeadLetter], torn: DeadLetter, kept: list[DeadLetter]
) -> None:
    """Several sources may share a file; of ours it holds what the ledger says and nothing that was torn."""
    ours = [replace(written, source=SOURCE) for written in kept]
    last = lines([torn])

    async def check() -> None:
        for cut in range(0, len(last) + 1, 7):
            path.write_bytes(lines(whole) + last[:cut])
            await file.rewrite(ours)

            others = [written for written in readable(lines(whole) + last[:cut]) if written.source == OTHER]
            after = path.read_bytes()
            assert readable(after) == [*others, *ours]
            assert all(isinstance(json.loads(line), dict) for line in after.splitlines())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "dead-letters.jsonl")
        file = JsonLinesFile(path, SOURCE)
        run(check)
