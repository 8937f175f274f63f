"""Which of many dead letters somebody means. Pure computation: the time is passed in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipeline.auto_replay import AutoReplay
from pipeline.errors import ConfigurationError
from pipeline.model import DeadLetter

SHORT_ID_CHARACTERS = (
    10  # of a letter's id, where it is shown: a million letters have two of that name in one case of two
)
NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """What letters must be like. Of several values of one kind one must hold, of several kinds each.

    `ids` are beginnings of ids, `documents` patterns in which `*` stands for anything, slashes too. `older_than_s` is
    the time since the first failure.
    """

    ids: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    older_than_s: float | None = None
    is_quarantined: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether every letter is like that."""
        return self == LetterFilter()

    def chosen(self, letters: Iterable[DeadLetter], rule: AutoReplay, now: float) -> list[DeadLetter]:
        """Those of `letters` that are like that, in their order."""
        return [letter for letter in letters if self._matches(letter, rule, now)]

    def _matches(self, letter: DeadLetter, rule: AutoReplay, now: float) -> bool:
        return (
            (not self.ids or letter.id.startswith(self.ids))
            and (not self.codes or letter.code in self.codes)
            and (not self.stages or letter.stage in self.stages)
            and (not self.documents or any(fnmatchcase(letter.document_id, each) for each in self.documents))
            and (self.older_than_s is None or letter.first_failed_at + self.older_than_s <= now)
            and (not self.is_quarantined or rule.is_quarantined(letter))
        )


def require_each_named(letters: Sequence[DeadLetter], ids: Iterable[str]) -> None:
    """Make sure that each of `ids` begins the id of one letter.

    Raises:
        ConfigurationError: one begins none, or more than one.
    """
    for each in ids:
        one_letter(letters, each)


def one_letter(letters: Sequence[DeadLetter], id_start: str) -> DeadLetter:
    """The letter whose id begins with `id_start`.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    found = [letter for letter in letters if letter.id.startswith(id_start)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigurationError(
            f"no dead letter has an id that begins with {id_start!r}. It may have been stored or overtaken meanwhile;"
            " `memsync dead-letters` lists those that there are."
        )
    named = ", ".join(f"{letter.id[:SHORT_ID_CHARACTERS]} ({letter.document_id})" for letter in found[:NAMED_MAX])
    more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    raise ConfigurationError(f"{len(found)} dead letters have an id that begins with {id_start!r}: {named}{more}")
