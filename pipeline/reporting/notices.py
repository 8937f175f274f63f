"""What people are told of the runs of a source, and when: as it turns bad, now and then while it is, as it recovers."""

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.report import SourceReport, Status
from pipeline.reporting.text import amount, duration, moment, printable

Trouble = Literal["failed", "guarded", "dead_letters"]
Occasion = Literal[Trouble, "recovered"]

_MESSAGE_CHARACTERS_MAX = 500
_CODES_MAX = 5
# What a service may take for markup, or for the name of somebody to call, in words that are not ours.
_DISARMED = str.maketrans({"<": "‹", ">": "›", "@": "＠", "`": "'"})
_PASSWORD_IN_URL = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")


@dataclass(frozen=True, slots=True)
class Told:
    """How a source stands, and what people know of it. Times are in seconds since the epoch.

    `trouble` is what its last run left it with, None if it is in sync. `told` is the trouble that they were told of
    last and do not know to be over, and `told_at` when. `since` is when the trouble began, its own or theirs.
    """

    trouble: Trouble | None = None
    since: float | None = None
    told: Trouble | None = None
    told_at: float | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """Something to tell. A reminder is of what was told before; `since` is when the trouble began."""

    occasion: Occasion
    is_reminder: bool
    since: float


def note(before: Told, status: Status, *, on: Collection[Occasion], now: float) -> Told:
    """How the source stands after a run that ended with `status`.

    One that was interrupted, or that found the source held by another, says nothing of it.
    """
    match status:
        case "in_sync":
            return replace(before, trouble=None) if before.told and "recovered" in on else Told()
        case "failed" | "guarded" | "dead_letters":
            return replace(before, trouble=status, since=now if before.since is None else before.since)
        case _:
            return before


def due(stands: Told, *, on: Collection[Occasion], remind_every_s: float, now: float) -> Due | None:
    """What is to be told of a source that stands like this. 0 never reminds."""
    since = now if stands.since is None else stands.since
    if stands.trouble is None:
        return Due("recovered", is_reminder=False, since=since) if stands.told else None
    if stands.trouble not in on:
        return None
    is_reminder = stands.told == stands.trouble
    if is_reminder and not (remind_every_s and now - (stands.told_at or 0.0) >= remind_every_s):
        return None
    return Due(stands.trouble, is_reminder, since)


def told(stands: Told, occasion: Occasion, now: float) -> Told:
    """How it stands once people have been told."""
    return Told() if occasion == "recovered" else replace(stands, told=occasion, told_at=now)


# ------------------------------------------------------------------------------------------------ in words


@dataclass(frozen=True, slots=True)
class Notice:
    """What is sent: plain text."""

    occasion: Occasion
    title: str
    body: str


def notice(due: Due, report: SourceReport, *, path: str, host: str, now: float, is_tried_again: bool = False) -> Notice:
    """Say which source, what, why and what to do. `path` is its configuration file, on the machine `host`.

    `is_tried_again`: another run is under way, so that there is nothing to do but to look.
    """
    name = report.name
    words = {
        "failed": f"{name} failed",
        "guarded": f"{name} withheld deletions",
        "dead_letters": f"{name} has {amount(_letters(report), 'dead letter')}",
        "recovered": f"{name} is in sync again",
    }[due.occasion]
    title = f"memsync: {words}{', still' if due.is_reminder else ''}"
    lines = [
        *_why(due, report, now),
        *_what_to_do(due.occasion, path, is_tried_again=is_tried_again),
        f"{host}, {moment(now)}",
    ]
    return Notice(due.occasion, title, "\n".join(lines))


def _why(due: Due, report: SourceReport, now: float) -> list[str]:
    lasted = f"Not in sync since {moment(due.since)}."
    match due.occasion:
        case "failed":
            return [_disarmed(report.error or "The log tells why."), "Nothing is lost.", lasted]
        case "guarded":
            verb = "is" if report.withheld_documents == 1 else "are"
            reason = "it listed nothing at all" if not report.documents.seen else "too many to be believed at once"
            return [
                f"{amount(report.withheld_documents, 'document')} {verb} gone from the source: {reason}.",
                "Their records were not deleted; everything else was done.",
                lasted,
            ]
        case "dead_letters":
            by_count = sorted(report.dead_letters_by_code.items(), key=lambda item: (-item[1], item[0]))
            codes = ", ".join(f"{count:,} x {_disarmed(code)}" for code, count in by_count[:_CODES_MAX])
            more = ", and others" if len(by_count) > _CODES_MAX else ""
            return [f"Given up on: {codes}{more}. Everything else is in the memory.", lasted]
        case "recovered":
            return [f"It was not for {duration(now - due.since)}."]


def _what_to_do(occasion: Occasion, path: str, *, is_tried_again: bool) -> list[str]:
    def command(*words: str) -> str:
        return f"  {printable(shlex.join(['memsync', *words]))}"

    match occasion:
        case "failed" if is_tried_again:
            return ["To see how that one does:", command("status", path)]
        case "failed":
            return ["Once that is mended:", command("run", path)]
        case "guarded":
            return ["If they are really gone:", command("run", path, "--allow-mass-delete")]
        case "dead_letters":
            return [
                "To see why, and to send them again once the cause is gone:",
                command("dead-letters", path),
                command("replay", path),
            ]
        case "recovered":
            return []


def _letters(report: SourceReport) -> int:
    return max(report.records.dead_lettered, sum(report.dead_letters_by_code.values()))


def _disarmed(text: str) -> str:
    """`text` that came from outside, on one line, harmless wherever it is shown, without passwords in addresses."""
    plain = _PASSWORD_IN_URL.sub(r"\1***", text)
    return printable(plain, characters_max=_MESSAGE_CHARACTERS_MAX).translate(_DISARMED)
