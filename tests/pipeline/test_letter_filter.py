"""Which dead letters somebody means: neither one more nor one less."""

from dataclasses import replace
from typing import Any

import pytest

from pipeline.auto_replay import AutoReplay
from pipeline.errors import ConfigurationError
from pipeline.letter_filter import LetterFilter, one_letter, require_each_named
from pipeline.model import DeadLetter, DocumentId

NOW = 100_000.0
RULE = AutoReplay(replays_max=1)


def letter(name: str, **members: Any) -> DeadLetter:
    made = DeadLetter(
        id=name,
        source="docs",
        document_id=DocumentId(f"{name}.md"),
        stage="write",
        code="400",
        message="no",
        attempts=1,
        first_failed_at=NOW - 10,
        last_failed_at=NOW - 10,
        run_id="run",
    )
    return replace(made, **members)


LETTERS = [
    letter("aa1"),
    letter("aa2", code="500", is_retryable=True, rounds=2),
    letter("bb1", stage="derive", code="limit", document_id=DocumentId("faq/deep/q.md")),
    letter("cc1", first_failed_at=NOW - 86_400.0),
]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (LetterFilter(), ["aa1", "aa2", "bb1", "cc1"]),
        (LetterFilter(ids=("aa",)), ["aa1", "aa2"]),
        (LetterFilter(ids=("aa1", "cc")), ["aa1", "cc1"]),
        (LetterFilter(codes=("500", "limit")), ["aa2", "bb1"]),
        (LetterFilter(stages=("derive",)), ["bb1"]),
        (LetterFilter(documents=("faq/*",)), ["bb1"]),
        (LetterFilter(documents=("*1.md", "aa?.md")), ["aa1", "aa2", "cc1"]),
        (LetterFilter(older_than_s=86_400.0), ["cc1"]),
        (LetterFilter(older_than_s=0.0), ["aa1", "aa2", "bb1", "cc1"]),
        (LetterFilter(is_quarantined=True), ["aa2"]),
        (LetterFilter(ids=("aa",), codes=("400",)), ["aa1"]),
        (LetterFilter(codes=("4",)), []),
    ],
)
def test_a_filter_chooses_what_it_says(wanted: LetterFilter, names: list[str]) -> None:
    """What is dropped or sent by mistake is a wrong memory."""
    assert [each.id for each in wanted.chosen(LETTERS, RULE, NOW)] == names
    assert wanted.is_empty is (wanted == LetterFilter())


def test_an_id_can_be_shortened_as_long_as_it_names_one() -> None:
    """Nobody types forty digits."""
    assert one_letter(LETTERS, "b").id == "bb1"
    require_each_named(LETTERS, ["b", "aa2"])


@pytest.mark.parametrize(
    ("id_start", "said"),
    [
        ("x", "no dead letter has an id that begins with 'x'"),
        ("aa", "2 dead letters have .* aa1 .* aa2"),
        ("", "4 dead"),
    ],
)
def test_an_id_that_names_none_or_several_is_refused(id_start: str, said: str) -> None:
    """To guess would be to send or to drop what nobody meant."""
    with pytest.raises(ConfigurationError, match=said):
        one_letter(LETTERS, id_start)
