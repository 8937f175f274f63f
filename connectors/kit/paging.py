"""Listings that come in pages."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import TypeVar

Page = TypeVar("Page")
Place = TypeVar("Place", bound=Hashable)


class LoopingListing(Exception):
    """A source says that there is more, and that it is where we have been already."""


async def pages(
    ask: Callable[[Place | None], Awaitable[tuple[Page, Place | None]]],
) -> AsyncGenerator[Page, None]:
    """Yield the pages that `ask` returns, each with the place of the next (a token, a number, an address).

    `ask` gets None for the first page, and returns None as the place behind the last.

    Raises:
        LoopingListing: a place came again. Without this, a broken listing would never end.
    """
    seen: set[Place] = set()
    place: Place | None = None
    while True:
        page, place = await ask(place)
        yield page
        if place is None:
            return
        if place in seen:
            raise LoopingListing
        seen.add(place)
