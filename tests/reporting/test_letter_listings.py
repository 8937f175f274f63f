"""What the commands about dead letters print."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.auto_replay import Outlook
from pipeline.model import DeadLetter, DocumentId, Operation, RecordContent, RecordKey
from pipeline.reporting.letter_listings import next_words, render_dead_letter, render_dead_letters, render_dropped
from pipeline.reporting.reasons import BROKEN, BY_STAGE, ILL_MEMORY, REASONS, reason_of

PROJECT = Path(__file__).parents[2]
PATHS = {"handbook": "handbook.yaml"}
HOSTILE = "evil\x1b[2J\nNo dead letters.\u202e\ud800"


def letter(
    document: str, *, code: str = "limit", message: str = "too long", at: float = 0.0, **members: Any
) -> DeadLetter:
    made = DeadLetter(
        id=f"id-of-{document}",
        source="handbook",
        document_id=DocumentId(document),
        stage="derive",
        code=code,
        message=message,
        attempts=2,
        first_failed_at=at,
        last_failed_at=at + 60,
        run_id="run-1",
    )
    return replace(made, **members)


def refused(**members: Any) -> DeadLetter:
    """A letter about a record that the memory did not want."""
    of_record = {"key": RecordKey("key"), "operation": Operation.CREATE, "record": b"{}"}
    answer = {"stage": "write", "code": "400", "message": "unwanted"}
    return replace(letter("a.md"), **{**of_record, **answer, **members})


# ------------------------------------------------------------------------------------------------- the list


def test_letters_of_one_reason_are_told_once_with_what_to_do() -> None:
    """Messages that differ in numbers or in the document they name are one reason; five examples suffice."""
    letters = [letter(f"{n}.md", message=f"{n}.md has {16_000 + n:,} characters", at=n * 3_600) for n in range(7)]

    text = render_dead_letters([letter("x.pdf", stage="parse", code="broken_pdf"), *letters], paths=PATHS)

    limit = REASONS["derive", "limit"]
    assert text.splitlines() == [
        "7 x limit (derive)",
        "    0.md has 16,000 characters",
        f"    why: {limit.cause}",
        f"    do:  {limit.cure}",
        *(f"      id-of-{n}.md  handbook: {n}.md" for n in range(5)),
        "      and 2 more",
        "    first 1970-01-01 00:00 UTC, last 1970-01-01 06:01 UTC, up to 2 attempts",
        "",
        "1 x broken_pdf (parse)",
        "    too long",
        f"    why: {BROKEN.cause}",
        f"    do:  {BROKEN.cure}",
        "      id-of-x.pd  handbook: x.pdf",
        "    first 1970-01-01 00:00 UTC, last 1970-01-01 00:01 UTC, up to 2 attempts",
        "",
        "8 dead letters for 2 reasons.",
        "To look at one; `edit` and `drop` take it in hand:",
        "  memsync dead-letters show handbook.yaml id-of-0.md",
        "To send them again once the cause is gone:",
        "  memsync replay handbook.yaml",
    ]


def test_a_reason_tells_what_becomes_of_its_letters_by_itself() -> None:
    """Whoever reads it decides whether to wait or to act."""
    letters = [letter(name) for name in ("a.md", "b.md", "c.md", "d.md")]
    outlooks = {
        "id-of-a.md": Outlook(7_200.0),
        "id-of-b.md": Outlook(3_600.0),
        "id-of-c.md": Outlook(is_quarantined=True),
    }

    lines = render_dead_letters(letters, outlooks=outlooks).splitlines()

    assert "    2 sent again by a run from 1970-01-01 01:00 UTC on" in lines
    assert "    1 quarantined: sent again in vain too often, and by itself no more" in lines


def test_of_dropped_letters_only_one_is_offered_to_be_sent() -> None:
    """A replay without a choice leaves them alone."""
    text = render_dead_letters([letter("a.md", dropped_at=9.0)], paths=PATHS)

    assert text.endswith("To send one again after all:\n  memsync replay handbook.yaml --id id-of-a.md")


def test_no_letters_are_told_in_a_line() -> None:
    """An empty answer must not look like a fault."""
    assert render_dead_letters([]) == "No dead letters."


# -------------------------------------------------------------------------------------------------- one letter


def test_one_letter_tells_everything_but_its_text_and_what_can_follow() -> None:
    """The text of a document is shown to whoever asks for it, and to nobody else."""
    content = RecordContent("The secret text.", {"team": "secret team", "memsync-key": "key"})

    text = render_dead_letter(refused(), content, path="handbook.yaml")
    whole = render_dead_letter(refused(), content, path="handbook.yaml", with_text=True)

    assert "secret" not in text
    assert text.splitlines()[0] == "handbook: a.md  id-of-a.md"
    assert "    failed   write, 400: unwanted" in text.splitlines()
    assert "    record   create of 16 characters" in text.splitlines()
    assert "    metadata team" in text.splitlines()
    assert text.splitlines()[-4:] == [
        "  memsync dead-letters show handbook.yaml id-of-a.md --text",
        "  memsync dead-letters edit handbook.yaml id-of-a.md",
        "  memsync replay handbook.yaml --id id-of-a.md",
        "  memsync dead-letters drop handbook.yaml --id id-of-a.md",
    ]
    assert "    metadata team: secret team" in whole.splitlines()
    assert "    The secret text." in whole.splitlines()
    assert "memsync-key" not in whole


@pytest.mark.parametrize(
    ("of", "outlook", "words"),
    [
        (refused(), Outlook(), "it waits for a person, or for another version of its document"),
        (refused(), Outlook(60.0), "the first run after 1970-01-01 00:01 UTC sends it again by itself"),
        (refused(), Outlook(is_quarantined=True), "quarantined: "),
        (refused(dropped_at=60.0), Outlook(), "never: it was dropped by hand, 1970-01-01 00:01 UTC, "),
        (letter("a.md", stage="fetch"), Outlook(), "every run tries again by itself"),
        (letter("a/", stage="scan"), Outlook(), "every run tries again by itself"),
    ],
)
def test_a_letter_tells_when_it_is_sent_again(of: DeadLetter, outlook: Outlook, words: str) -> None:
    """That is what everybody wants to know first."""
    assert next_words(of, outlook).startswith(words)


@pytest.mark.parametrize(
    ("of", "commands"),
    [
        (letter("a/", stage="scan"), []),
        (letter("a.md", stage="fetch"), ["replay"]),
        (letter("a.md", stage="parse"), ["replay", "drop"]),
        (letter("a.md", stage="write", operation=Operation.DELETE), ["replay"]),
        (letter("a.md", stage="parse", dropped_at=1.0), ["replay"]),
    ],
)
def test_only_commands_that_would_do_something_are_offered(of: DeadLetter, commands: list[str]) -> None:
    """One that is refused would be worse than none."""
    text = render_dead_letter(of, path="handbook.yaml")

    assert re.findall(r"^  memsync (?:dead-letters )?(\w+)", text, re.MULTILINE) == commands


def test_what_was_not_dropped_is_named_with_the_reason() -> None:
    """Nobody should believe it gone."""
    kept = [letter(f"{n}.md", stage="fetch", code="PermissionError") for n in range(7)]

    lines = render_dropped(0, kept, paths=PATHS).splitlines()

    assert lines[:3] == [
        "No dead letter was dropped.",
        "7 dead letters cannot be dropped, since runs try again anyway:",
        "  handbook: 0.md (fetch, PermissionError)",
    ]
    assert "  and 2 more" in lines


@pytest.mark.parametrize(
    "text",
    [
        render_dead_letters([letter(HOSTILE, code=HOSTILE, message=HOSTILE)], paths={"handbook": HOSTILE}),
        render_dead_letter(
            refused(document_id=DocumentId(HOSTILE), code=HOSTILE, message=HOSTILE, id=HOSTILE, source=HOSTILE),
            RecordContent(HOSTILE, {HOSTILE: HOSTILE, "list": (HOSTILE,)}),
            path=HOSTILE,
            with_text=True,
        ),
        render_dropped(1, [letter(HOSTILE, code=HOSTILE)], paths={"handbook": HOSTILE}),
    ],
    ids=["list", "show", "drop"],
)
def test_what_came_from_outside_cannot_drive_a_terminal(text: str) -> None:
    """Names and messages are shown escaped, and no line of theirs stands at the margin."""
    assert all(line.isprintable() for line in text.splitlines())
    assert "No dead letters." not in text.splitlines()


# ------------------------------------------------------------------------------------------------- the reasons


def test_a_memory_that_failed_is_told_from_one_that_refused() -> None:
    """For the one, wait; for the other, do something."""
    assert reason_of(refused(code="503")) is ILL_MEMORY
    assert reason_of(refused(code="400")) is REASONS["write", "400"]


def test_an_unknown_code_has_the_reason_of_its_stage() -> None:
    """Sources have codes of their own, and their messages name the cause."""
    for stage in BY_STAGE:
        assert reason_of(letter("a.md", stage=stage, code="never heard of")) is BY_STAGE[stage]


def test_every_code_of_the_parsers_is_explained() -> None:
    """A new code needs a cause and a cure, here and in the documentation."""
    raised = {
        code
        for file in (PROJECT / "pipeline" / "parsing").glob("*.py")
        for code in re.findall(r'UnreadableDocument\(\s*f?"([a-z_]+)"', file.read_text())
    }

    assert len(raised) > 15
    assert {code for code in raised if reason_of(letter("a", stage="parse", code=code)) is BY_STAGE["parse"]} == set()


def test_the_documentation_explains_every_code() -> None:
    """Whoever has a code from a log looks there, and finds what the command says."""
    page = (PROJECT / "docs" / "dead-letters.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]

    for (_, code), reason in REASONS.items():
        assert any(f"`{code}`" in row and f"| {reason.cause} | {reason.cure} |" in row for row in rows), code
    for reason in (*BY_STAGE.values(), BROKEN, ILL_MEMORY):
        assert any(f"| {reason.cause} | {reason.cure} |" in row for row in rows), reason
