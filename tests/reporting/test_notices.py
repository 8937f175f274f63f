"""When people are told of a source, and in which words."""

from collections.abc import Collection, Sequence

import pytest

from pipeline.report import DocumentCounts, RecordCounts, SourceReport, Status
from pipeline.reporting.notices import Due, Notice, Occasion, Told, due, note, notice, told

EVERYTHING: Sequence[Occasion] = ("failed", "guarded", "dead_letters", "recovered")
HOUR_S = 3600.0
START_S = 1_700_000_000.0


def story(
    *statuses: Status,
    on: Collection[Occasion] = EVERYTHING,
    remind_every_h: float = 24.0,
    is_delivered: Sequence[bool] = (),
) -> list[str]:
    """What people are told by runs an hour apart: of each run the occasion, `still …` for a reminder, or `-`."""
    stands, said = Told(), []
    for number, status in enumerate(statuses):
        now = START_S + number * HOUR_S
        stands = note(stands, status, on=on, now=now)
        news = due(stands, on=on, remind_every_s=remind_every_h * HOUR_S, now=now)
        said.append("-" if news is None else f"{'still ' if news.is_reminder else ''}{news.occasion}")
        if news is not None and (is_delivered[number] if number < len(is_delivered) else True):
            stands = told(stands, news.occasion, now)
    return said


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["in_sync", "in_sync"], ["-", "-"]),
        (["failed", "failed", "failed", "in_sync", "in_sync"], ["failed", "-", "-", "recovered", "-"]),
        (["failed", "in_sync", "failed"], ["failed", "recovered", "failed"]),
        (["dead_letters", "failed", "failed", "dead_letters"], ["dead_letters", "failed", "-", "dead_letters"]),
        (["failed", "locked", "interrupted", "failed"], ["failed", "-", "-", "-"]),
        (["guarded", "guarded", "in_sync"], ["guarded", "-", "recovered"]),
    ],
)
def test_people_are_told_when_it_changes(statuses: list[Status], expected: list[str]) -> None:
    """A message an hour is soon read by nobody; and what was told must be taken back when it is over."""
    assert story(*statuses) == expected


def test_what_lasts_is_told_again_now_and_then() -> None:
    """The first message may have come at night."""
    assert story(*["failed"] * 7, remind_every_h=3.0) == [  # type: ignore[arg-type]
        "failed", "-", "-", "still failed", "-", "-", "still failed",
    ]  # fmt: skip
    assert story(*["failed"] * 7, remind_every_h=0.0) == ["failed", *["-"] * 6]  # type: ignore[arg-type]


def test_only_what_is_wanted_is_told() -> None:
    """Dead letters are every day's business for some; and who was not told of trouble need not hear of its end."""
    assert story("dead_letters", "in_sync", "failed", "in_sync", on=["failed", "recovered"]) == [
        "-", "-", "failed", "recovered",
    ]  # fmt: skip
    assert story("failed", "in_sync", "failed", on=["failed"]) == ["failed", "-", "failed"]


def test_what_could_not_be_sent_is_told_by_the_next_run() -> None:
    """A chat that is down for an hour must not cost the one message that there would have been."""
    assert story("failed", "failed", "failed", is_delivered=[False, True]) == ["failed", "failed", "-"]
    assert story("failed", "in_sync", "in_sync", "in_sync", is_delivered=[True, False]) == [
        "failed", "recovered", "recovered", "-",
    ]  # fmt: skip


def written(occasion: Occasion, *, is_reminder: bool = False, **report: object) -> Notice:
    news = Due(occasion, is_reminder, since=START_S - 2 * HOUR_S)
    full = SourceReport("handbook", **report)  # type: ignore[arg-type]
    return notice(news, full, path="my docs.yaml", host="worker-1", now=START_S)


def test_a_notice_says_which_source_what_why_and_what_to_do() -> None:
    """Whoever reads it on a telephone should know whether to get up."""
    failed = written("failed", error="The source could not be read: connection refused.")

    assert failed.title == "memsync: handbook failed"
    assert failed.body.splitlines() == [
        "The source could not be read: connection refused.",
        "Nothing is lost.",
        "Not in sync since 2023-11-14 20:13 UTC.",
        "Once that is mended:",
        "  memsync run 'my docs.yaml'",
        "worker-1, 2023-11-14 22:13 UTC",
    ]


def test_each_occasion_has_its_words() -> None:
    """The commands are those that the summary of a run names."""
    letters = written(
        "dead_letters", is_reminder=True, records=RecordCounts(dead_lettered=3), dead_letters_by_code={"400": 3}
    )
    guarded = written("guarded", withheld_documents=12, documents=DocumentCounts(seen=5))
    recovered = written("recovered")

    assert letters.title == "memsync: handbook has 3 dead letters, still"
    assert "Given up on: 3 x 400." in letters.body
    assert "memsync replay 'my docs.yaml'" in letters.body
    assert guarded.title == "memsync: handbook withheld deletions"
    assert "12 documents are gone from the source" in guarded.body
    assert "--allow-mass-delete" in guarded.body
    assert recovered.title == "memsync: handbook is in sync again"
    assert "It was not for 2 h 0 min." in recovered.body


def test_words_of_others_call_nobody_and_mark_up_nothing() -> None:
    """A chat would ring everybody for a document that is named like this; a password in an address is masked."""
    body = written("failed", error="<!channel> @everyone `x` \x1b[2J <b> ftp://me:hunter2@host/").body

    assert not set("<>@`\x1b") & set(body)
    assert "hunter2" not in body
