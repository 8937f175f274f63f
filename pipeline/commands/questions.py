"""Questions to whoever sits at the terminal; where nobody does, what would be proposed is taken."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, cast

import click

from pipeline.reporting.text import Style, printable

Answer = TypeVar("Answer")


class Questions:
    """Asks on a terminal. Elsewhere, or if nothing `is_to_be_asked`, proposals are taken, and what has none is a usage
    error that names the option to give.

    What is asked goes to stderr, so that a result can be piped.
    """

    def __init__(self, style: Style, *, is_to_be_asked: bool) -> None:
        self._style = style
        self.are_asked = is_to_be_asked and sys.stdin.isatty() and sys.stderr.isatty()

    def text(
        self,
        words: str,
        option: str,
        *,
        default: str | None = None,
        meaning: Callable[[str], Any] = str,
    ) -> Any:
        """What is typed, as `meaning` reads it, which raises ValueError with what is wrong."""
        if self.are_asked:
            shown = None if default is None else printable(default)
            return click.prompt(
                self._words(words),
                default=shown,
                value_proc=lambda typed: _meant(meaning, default if default and typed == shown else typed),
                err=True,
            )
        if default is None:
            _refuse(words, option)
        try:
            return meaning(default)
        except ValueError as error:
            raise click.UsageError(f"{printable(str(error))}. {option} can say something else.") from None

    def choice(
        self, words: str, option: str, answers: Sequence[tuple[Answer, str]], *, default: Answer | None = None
    ) -> Answer:
        """One of `answers`, each with the words for it, by its number."""
        values = [value for value, _ in answers]
        if not self.are_asked:
            if default is None:
                _refuse(words, option)
            return default
        click.echo(self._words(f"{words}:"), err=True)
        for number, (_, label) in enumerate(answers, start=1):
            click.echo(f"  {number:2}  {self._style.text(label)}", err=True)

        def chosen(typed: str) -> Answer:
            if typed.isascii() and typed.isdigit() and 1 <= int(typed) <= len(values):
                return values[int(typed) - 1]
            raise click.UsageError(f"a number from 1 to {len(values)}, please")

        proposed = None if default is None else str(values.index(default) + 1)
        return cast("Answer", click.prompt("Number", default=proposed, value_proc=cast("Any", chosen), err=True))

    def agreed(self, words: str, *, default: bool) -> bool:
        return click.confirm(self._words(words), default=default, err=True) if self.are_asked else default

    def _words(self, words: str) -> str:
        return self._style.paint(self._style.text(words), "bold")


def _meant(meaning: Callable[[str], Any], typed: str) -> Any:
    try:
        return meaning(typed.strip())
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from None


def _refuse(words: str, option: str) -> NoReturn:
    raise click.UsageError(f"{option} is needed, as there is nobody to ask. {printable(words)}")
