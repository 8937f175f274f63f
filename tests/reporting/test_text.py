"""Words for people."""

import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting.text import Style, amount, duration, has_color, moment, printable

HOSTILE_NAMES = {
    "evil\x1b[2J.md": r"evil\x1b[2J.md",
    "a\nb\r\tc": r"a\nb\r\tc",
    "invoice\u202efdp.exe": r"invoice\u202efdp.exe",
    "half\ud800": r"half\ud800",
    "c1\x9b31m": r"c1\x9b31m",
    "tag\U000e0041": r"tag\U000e0041",
    "line\u2028separator": r"line\u2028separator",
}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("name", "shown"), HOSTILE_NAMES.items(), ids=ascii)
def test_a_hostile_name_is_shown_escaped(name: str, shown: str) -> None:
    """A document may be named by anybody."""
    assert printable(name) == shown


def test_honest_text_stays_as_it_is() -> None:
    """Other scripts, emoji and the joiners that they need are no attack."""
    text = "Größe 日本語 می\u200cخواهم 👩\u200d💻 C:\\notes"

    assert printable(text) == text


@given(st.text(st.characters(codec=None)))
def test_printable_text_is_one_line_and_can_be_encoded(text: str) -> None:
    """Nothing that comes from outside may break a line or the stream."""
    shown = printable(text)

    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


def test_a_long_text_is_cut_before_it_is_escaped() -> None:
    """An escape must not be cut in two."""
    assert printable("ab\x1bcd", characters_max=3) == r"ab\x1b..."


@pytest.mark.parametrize(
    ("stream", "environ", "expected"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_only_a_terminal_that_did_not_opt_out_gets_colour(
    stream: io.StringIO, environ: dict[str, str], expected: bool
) -> None:
    """See https://no-color.org: set and not empty means no colour."""
    assert has_color(stream, environ) is expected


def test_a_stream_of_few_characters_gets_escapes_and_plain_signs() -> None:
    """A summary must not fail because of the stream it goes to."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    style = Style.of(stream, {})

    assert style.text("Größe") == r"Gr\xf6\xdfe"
    assert [style.sign(verdict) for verdict in ("good", "warning", "bad")] == ["+", "!", "x"]


def test_a_command_can_be_pasted_into_a_shell() -> None:
    """Paths have spaces and quotes."""
    command = Style().command("run", "my docs/it's.yaml", "--allow-mass-delete")

    assert command == """memsync run 'my docs/it'"'"'s.yaml' --allow-mass-delete"""


def test_a_table_is_aligned_by_the_cells_that_characters_take() -> None:
    """Characters of East Asia take two cells; numbers stand to the right, and nothing is cut."""
    lines = Style().table(("NAME", "COUNT"), [("日本", "1,000"), ("a" * 200, "7")])

    assert lines == [
        "NAME" + " " * 196 + "  COUNT",
        "日本" + " " * 196 + "  1,000",
        "a" * 200 + "      7",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")],
)
def test_durations_are_told_in_two_units_at_most(seconds: float, words: str) -> None:
    """Nobody needs the seconds of an hour."""
    assert duration(seconds) == words


def test_amounts_and_moments_read_as_words() -> None:
    """Times are in UTC, whatever the machine."""
    assert [amount(1, "record"), amount(1240, "record"), amount(2, "batch")] == [
        "1 record",
        "1,240 records",
        "2 batches",
    ]
    assert moment(1_790_000_000) == "2026-09-21 14:13 UTC"


def test_words_alone_load_neither_rich_nor_structlog() -> None:
    """They cost 0.2 s, which `memsync status` and its like need not pay."""
    modules = ", ".join(f"pipeline.reporting.{name}" for name in ("tally", "summary", "listings", "progress"))
    script = f"import sys, {modules}; sys.exit(bool({{'rich', 'structlog'}} & set(sys.modules)))"

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    finished = subprocess.run([sys.executable, "-c", script], check=False, env=environment)

    assert finished.returncode == 0
