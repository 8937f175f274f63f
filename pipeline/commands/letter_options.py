"""How commands are told which dead letters are meant, and how they find them."""

import re
import time
from collections.abc import Callable, Sequence
from functools import reduce, wraps
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.configuration.settings import SourceSettings
    from pipeline.letter_filter import LetterFilter
    from pipeline.model import DeadLetter

STAGES = ("scan", "fetch", "parse", "derive", "write")
SECONDS_BY_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Age(click.ParamType[float]):
    """A time such as `90m`, `12h` or `2d`, in seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhdw])", str(value))
        if not found:
            self.fail(f"{value!r} is no age such as 90m, 12h, 2d or 1w.", param, ctx)
        return float(found[1]) * SECONDS_BY_UNIT[found[2]]


_OPTIONS = (
    click.option("--id", "ids", metavar="ID", multiple=True, help="The one whose id begins with this; repeatable."),
    click.option("--reason", "codes", metavar="CODE", multiple=True, help="With this code, as 429; repeatable."),
    click.option("--stage", "stages", type=click.Choice(STAGES), multiple=True, help="Of this stage; repeatable."),
    click.option(
        "--document", "documents", metavar="GLOB", multiple=True, help="Of documents like `faq/*`; repeatable."
    ),
    click.option(
        "--older-than", "older_than_s", metavar="AGE", type=Age(), help="First failed longer ago: 90m, 12h, 2d."
    ),
    click.option("--quarantined", "is_quarantined", is_flag=True, help="That no run sends again by itself any more."),
)


def letter_filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose letters; the command gets them as one `LetterFilter`, named `wanted`."""

    @wraps(function)
    def with_filter(*arguments: Any, **named: Any) -> Any:
        from pipeline.letter_filter import LetterFilter

        members = {name: named.pop(name) for name in LetterFilter.__dataclass_fields__}
        return function(*arguments, wanted=LetterFilter(**members), **named)

    return reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), with_filter)


async def choose_letters(
    sources: "Sequence[SourceSettings]", wanted: "LetterFilter", *, with_dropped: bool = False
) -> "dict[str, list[DeadLetter]]":
    """The letters of each source that are like `wanted`, without their records.

    Raises:
        ConfigurationError: an id of `wanted` names no letter, or more than one.
    """
    from pipeline.letter_filter import require_each_named
    from pipeline.runs.parts import auto_replay, open_source_state

    letters: dict[str, list[DeadLetter]] = {}
    for settings in sources:
        async with open_source_state(settings, is_read_only=True) as state:
            letters[settings.name] = [*await state.letters(with_dropped=with_dropped, with_records=False)]
    require_each_named([each for some in letters.values() for each in some], wanted.ids)
    now = time.time()
    return {settings.name: wanted.chosen(letters[settings.name], auto_replay(settings), now) for settings in sources}


async def find_letter(sources: "Sequence[SourceSettings]", id_start: str) -> "tuple[SourceSettings, DeadLetter]":
    """The one letter, dropped or not, whose id begins with `id_start`, and its source.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    from pipeline.letter_filter import one_letter
    from pipeline.runs.parts import open_source_state

    found: list[tuple[SourceSettings, DeadLetter]] = []
    for settings in sources:
        async with open_source_state(settings, is_read_only=True) as state:
            found += [(settings, letter) for letter in await state.letters(with_dropped=True)]
    chosen = one_letter([letter for _, letter in found], id_start)
    return next((settings, letter) for settings, letter in found if letter.id == chosen.id)


def require_choice(wanted: "LetterFilter", *, is_all: bool) -> None:
    """Let nobody mean all letters by leaving something out.

    Raises:
        ConfigurationError: nothing says which.
    """
    if wanted.is_empty and not is_all:
        raise ConfigurationError(
            "nothing says which dead letters are meant: --id, --reason, --stage, --document, --older-than and"
            " --quarantined choose some, --all means all of them"
        )
