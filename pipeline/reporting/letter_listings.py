"""What `memsync dead-letters` prints."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.auto_replay import Outlook
from pipeline.letter_filter import SHORT_ID_CHARACTERS
from pipeline.model import DeadLetter, RecordContent
from pipeline.provenance import own_metadata
from pipeline.reporting.reasons import Kind, kind_of, reason_of
from pipeline.reporting.text import PLAIN, Style, amount, moment

_LETTERS_PER_REASON_MAX = 5
_MESSAGE_CHARACTERS_MAX = 500
_NO_OUTLOOK = Outlook()

Outlooks = Mapping[str, Outlook]


def render_dead_letters(
    letters: Sequence[DeadLetter],
    *,
    paths: Mapping[str, str] | None = None,
    outlooks: Outlooks | None = None,
    style: Style = PLAIN,
) -> str:
    """Return the letters grouped by their reason, the most frequent first.

    Messages that differ only in numbers, or in the document that they name, are one reason. `paths` names the
    configuration file of each source, for the commands to be typed next; `outlooks` are by the ids of letters.
    """
    if not letters:
        return "No dead letters."
    groups: dict[Kind, list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault(kind_of(letter), []).append(letter)
    by_count = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    blocks = ["\n".join(_reason_block(group, outlooks or {}, style)) for _, group in by_count]
    count = f"{amount(len(letters), 'dead letter')} for {amount(len(groups), 'reason')}."
    return "\n\n".join([*blocks, "\n".join([count, *_next_lines(by_count[0][1][0], letters, paths or {}, style)])])


def _reason_block(letters: Sequence[DeadLetter], outlooks: Outlooks, style: Style) -> Iterator[str]:
    example = letters[0]
    reason = reason_of(example)
    title = style.paint(f"{len(letters):,} x {style.text(example.code)}", "bold")
    yield f"{title} ({style.text(example.stage)})"
    yield f"    {style.text(example.message, characters_max=_MESSAGE_CHARACTERS_MAX)}"
    yield f"    why: {reason.cause}"
    yield f"    do:  {reason.cure}"
    for letter in letters[:_LETTERS_PER_REASON_MAX]:
        name = style.paint(style.text(letter.id[:SHORT_ID_CHARACTERS]), "dim")
        yield f"      {name}  {style.text(letter.source)}: {style.text(letter.document_id)}"
    if len(letters) > _LETTERS_PER_REASON_MAX:
        yield f"      and {len(letters) - _LETTERS_PER_REASON_MAX:,} more"
    first_s = min(letter.first_failed_at for letter in letters)
    last_s = max(letter.last_failed_at for letter in letters)
    attempts = max(letter.attempts for letter in letters)
    yield f"    first {moment(first_s)}, last {moment(last_s)}, up to {amount(attempts, 'attempt')}"
    yield from _outlook_lines([outlooks.get(letter.id, _NO_OUTLOOK) for letter in letters])


def _outlook_lines(outlooks: Sequence[Outlook]) -> Iterator[str]:
    """What becomes of letters of one reason by itself; nothing, if nothing does."""
    due_at = [outlook.next_attempt_at for outlook in outlooks if outlook.next_attempt_at is not None]
    if due_at:
        yield f"    {len(due_at):,} sent again by a run from {moment(min(due_at))} on"
    if quarantined := sum(outlook.is_quarantined for outlook in outlooks):
        yield f"    {quarantined:,} quarantined: sent again in vain too often, and by itself no more"


def _next_lines(
    first: DeadLetter, letters: Sequence[DeadLetter], paths: Mapping[str, str], style: Style
) -> Iterator[str]:
    used_paths = dict.fromkeys(paths[letter.source] for letter in letters if letter.source in paths)
    if first.source not in paths:
        return
    yield "To look at one; `edit` and `drop` take it in hand:"
    yield f"  {style.command('dead-letters', 'show', paths[first.source], first.id[:SHORT_ID_CHARACTERS])}"
    if any(letter.dropped_at is None for letter in letters):
        yield "To send them again once the cause is gone:"
        yield f"  {style.command('replay', *used_paths)}"
    else:
        yield "To send one again after all:"
        yield f"  {style.command('replay', *used_paths, '--id', first.id[:SHORT_ID_CHARACTERS])}"


# ---------------------------------------------------------------------------------------------------- one letter


def render_dead_letter(
    letter: DeadLetter,
    content: RecordContent | None = None,
    *,
    path: str,
    outlook: Outlook = _NO_OUTLOOK,
    with_text: bool = False,
    style: Style = PLAIN,
) -> str:
    """Return all that is known of a letter, and the commands that can follow; `path` is its configuration file.

    `content` is what its record says, if it has one. It is shown only `with_text`; else how much it is.
    """
    reason = reason_of(letter)
    document = f"{style.text(letter.source)}: {style.text(letter.document_id)}"
    lines = [f"{style.paint(document, 'bold')}  {style.paint(style.text(letter.id), 'dim')}"]
    rows = [
        ("failed", f"{letter.stage}, {style.text(letter.code)}: {style.text(letter.message)}"),
        ("why", reason.cause),
        ("do", reason.cure),
        ("tried", _tried_words(letter)),
        ("next", next_words(letter, outlook)),
    ]
    if content is not None:
        rows += list(_content_rows(letter, content, with_text=with_text, style=style))
    lines += [f"    {name:<9}{words}" for name, words in rows]
    if content is not None and with_text:
        lines += ["", *(f"    {style.text(line)}".rstrip() for line in content.text.split("\n"))]
    return "\n".join([*lines, "", *_one_next_lines(letter, content, path, with_text=with_text, style=style)])


def next_words(letter: DeadLetter, outlook: Outlook) -> str:
    """When a letter is sent again, and by whom."""
    if letter.dropped_at is not None:
        return f"never: it was dropped by hand, {moment(letter.dropped_at)}, and stays so until its document changes"
    if letter.stage in ("scan", "fetch"):
        return "every run tries again by itself"
    if outlook.is_quarantined:
        return "quarantined: it was sent again in vain too often, and by itself no more"
    if outlook.next_attempt_at is not None:
        return f"the first run after {moment(outlook.next_attempt_at)} sends it again by itself"
    return "it waits for a person, or for another version of its document"


def _tried_words(letter: DeadLetter) -> str:
    rounds = amount(letter.rounds, "round")
    times = f"first {moment(letter.first_failed_at)}, last {moment(letter.last_failed_at)}"
    return f"{amount(letter.attempts, 'attempt')} in {rounds}; {times}"


def _content_rows(
    letter: DeadLetter, content: RecordContent, *, with_text: bool, style: Style
) -> Iterator[tuple[str, str]]:
    edited = ", as it was edited by hand" if letter.is_edited else ""
    yield "record", f"{letter.operation} of {amount(len(content.text), 'character')}{edited}"
    own = own_metadata(content.metadata)
    if with_text:
        for number, (key, value) in enumerate(own.items()):
            yield ("" if number else "metadata"), f"{style.text(key)}: {style.text(str(value))}"
    elif own:
        yield "metadata", ", ".join(style.text(key) for key in own)


def _one_next_lines(
    letter: DeadLetter, content: RecordContent | None, path: str, *, with_text: bool, style: Style
) -> Iterator[str]:
    name = letter.id[:SHORT_ID_CHARACTERS]
    if content is not None and not with_text:
        yield f"  {style.command('dead-letters', 'show', path, name, '--text')}"
    if content is not None:
        yield f"  {style.command('dead-letters', 'edit', path, name)}"
    if letter.stage != "scan":
        yield f"  {style.command('replay', path, '--id', name)}"
    if letter.can_be_dropped and letter.dropped_at is None:
        yield f"  {style.command('dead-letters', 'drop', path, '--id', name)}"


# ------------------------------------------------------------------------------------------------------ dropping


def render_dropped(dropped: int, kept: Sequence[DeadLetter], *, paths: Mapping[str, str], style: Style = PLAIN) -> str:
    """Return what was given up for good, and why the `kept` ones were not."""
    lines = [f"{amount(dropped, 'dead letter')} dropped." if dropped else "No dead letter was dropped."]
    if dropped:
        lines += [
            "No run sends them until their documents change. To list them:",
            f"  {style.command('dead-letters', 'list', *dict.fromkeys(paths.values()), '--dropped')}",
        ]
    if kept:
        lines.append(f"{amount(len(kept), 'dead letter')} cannot be dropped, since runs try again anyway:")
        lines += [
            f"  {style.text(f'{letter.source}: {letter.document_id} ({letter.stage}, {letter.code})')}"
            for letter in kept[:_LETTERS_PER_REASON_MAX]
        ]
        if len(kept) > _LETTERS_PER_REASON_MAX:
            lines.append(f"  and {len(kept) - _LETTERS_PER_REASON_MAX:,} more")
        lines.append("Leave such documents out with `source.exclude`, or mend what their messages name.")
    return "\n".join(lines)
