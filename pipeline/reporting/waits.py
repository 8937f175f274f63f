"""What a run waits for, and for how long already: what tells a run that waits from one that is stuck."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.events import RunEvent, Wait, WaitEnded, WaitingStage, WaitReason, WaitStarted
from pipeline.model import DocumentId
from pipeline.reporting.text import amount, duration, printable

SECONDS_PER_MINUTE = 60

_DOCUMENT_CHARACTERS_MAX = 80

# What a person can do about a wait that lasts.
_ADVICE: dict[WaitReason, str] = {
    "source": "see whether the source answers",
    "parser": "a large document takes long; parsing.limits.document_s ends what takes longer than that",
    "disk": "see whether the disk of the state folder answers, and who else uses it",
    "pacer": "nothing is lost; see who else uses the memory's quota, or have it raised",
    "service": "see whether the memory can be reached",
    "backoff": "nothing is lost, and it is tried again by itself; see whether the memory can be reached",
    "late_writes": "it ends by itself",
}
ADVICE_ELSE = "it may be computing; if it stays like this, stop it with Ctrl-C, run again, and report it"


@dataclass(frozen=True, slots=True)
class WaitGroup:
    """`count` waits of one stage for one reason. Times are in seconds; `left_s` is None if nobody can tell.

    `document` is that of the longest of them.
    """

    stage: WaitingStage
    reason: WaitReason
    count: int
    longest_s: float
    left_s: float | None = None
    document: DocumentId | None = None


@dataclass(slots=True)
class Waits:
    """The waits of one run that have not ended. Times are the caller's clock, in seconds."""

    _since_s: dict[Wait, float] = field(default_factory=dict)  # in the order in which they began

    def hear(self, event: RunEvent, now_s: float) -> None:
        match event:
            case WaitStarted(wait):
                self._since_s[wait] = now_s
            case WaitEnded(wait):
                self._since_s.pop(wait, None)
            case _:
                pass

    def groups(self, now_s: float) -> list[WaitGroup]:
        """What is waited for now, the longest wait first."""
        by_kind: dict[tuple[WaitingStage, WaitReason], list[tuple[Wait, float]]] = {}
        for wait, since_s in self._since_s.items():
            by_kind.setdefault((wait.stage, wait.reason), []).append((wait, since_s))
        groups = [_grouped(waits, now_s) for waits in by_kind.values()]
        return sorted(groups, key=lambda group: -group.longest_s)


def _grouped(waits: Sequence[tuple[Wait, float]], now_s: float) -> WaitGroup:
    first, since_s = waits[0]
    ends_s = [since_s + wait.seconds for wait, since_s in waits if wait.seconds is not None]
    return WaitGroup(
        first.stage,
        first.reason,
        count=len(waits),
        longest_s=now_s - since_s,
        left_s=max(0.0, min(ends_s) - now_s) if ends_s else None,
        document=first.document,
    )


def words(group: WaitGroup) -> str:
    """What a group of waits is for, and how long it has been, in one line that is safe to show."""
    parts = [_subject(group), f"for {whole_seconds(group.longest_s)}"]
    if group.left_s:
        parts.append(f"{whole_seconds(group.left_s)} more at least")
    return ", ".join(parts)


def whole_seconds(seconds: float) -> str:
    """`4 s`, `3 min 20 s`: tenths would flicker in a display."""
    return f"{seconds:.0f} s" if seconds < SECONDS_PER_MINUTE else duration(seconds)


def _subject(group: WaitGroup) -> str:
    document = printable(group.document, characters_max=_DOCUMENT_CHARACTERS_MAX) if group.document else None
    others = f" and {group.count - 1:,} more" if group.count > 1 else ""
    match group.reason:
        case "source":
            return f"the source to send {document}{others}" if document else "the source to list more"
        case "parser":
            return f"{document or 'documents'}{others if document else ''} to be parsed"
        case "disk":
            return "the disk of the state folder"
        case "pacer":
            return f"the memory's pace, with {amount(group.count, 'request')}"
        case "service":
            return f"the memory to answer {amount(group.count, 'request')}"
        case "backoff":
            return f"another try of {amount(group.count, 'request')} to the memory"
        case "late_writes":
            return "requests without an answer that may still be carried out"


def advice(groups: Sequence[WaitGroup]) -> str:
    """What to do if this lasts: about the longest wait."""
    return _ADVICE[groups[0].reason] if groups else ADVICE_ELSE
