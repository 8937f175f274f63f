"""Listings of an API, page by page to their end."""

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin

from connectors.kit.paging import LoopingListing, pages
from connectors.rest.api import Answer, Api, Fault, Question, find, where, with_param
from connectors.rest.settings import (
    CursorPaging,
    LinkHeaderPaging,
    Listing,
    NextUrlPaging,
    NoPaging,
    OffsetPaging,
    PagePaging,
    Paging,
)

EMPTY_PAGES_MAX = 1000  # one after the other

LOOPING, MOVED, NO_RECORDS = "looping_listing", "moved", "no_records"

_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[^\s=;,"]+\s*(?:=\s*(?:"[^"]*"|[^\s;,"]*))?)*)')
_RELATION = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]*))', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listing goes on: a number, a token or an address."""

    at: int | str


@dataclass(frozen=True, slots=True)
class Page:
    """Records as they came, and when they were said, in seconds since the epoch."""

    records: list[Any]
    at: float


async def list_records(
    api: Api, listing: Listing, style: Paging, ids: Mapping[str, str], *, id_path: str = "@", total: str | None = None
) -> AsyncGenerator[Page, None]:
    """Yield the pages of a listing to its end.

    Raises:
        Fault: it was not listed to its end, or changed meanwhile, after what was yielded.
        SourceError: the API does not let us in.
    """
    walk = _Walk(api, api.question(listing, ids), style, listing.records, id_path, total)
    try:
        async with aclosing(pages(walk.page)) as listed:
            async for page in listed:
                yield page
    except LoopingListing:
        raise Fault(LOOPING, "the API says that there is more, and leads round in circles") from None
    walk.require_whole()


@dataclass
class _Walk:
    """The way through a listing."""

    api: Api
    question: Question
    style: Paging
    records_path: str
    id_path: str
    total_path: str | None
    total: int | None = None
    count: int = 0
    empty_pages: int = 0
    previous: list[Any] = field(default_factory=list)
    problem: Fault | None = None

    async def page(self, place: Place | None) -> tuple[Page, Place | None]:
        page, following = await self._page(None if place is None else place.at)
        return page, None if following is None else Place(following)

    async def _page(self, place: int | str | None) -> tuple[Page, int | str | None]:
        if isinstance(self.style, OffsetPaging):
            return await self._page_by_offset(self.style, int(place or 0))
        answer, records = await self._ask(self._question_at(place))
        if isinstance(self.style, PagePaging):
            self._require_other_than_before(records, self.style.param)
        self._note(answer, records)
        return Page(records, answer.at), self._where_next(lambda: self._following(answer, place, len(records)))

    async def _page_by_offset(self, style: OffsetPaging, offset: int) -> tuple[Page, int | str | None]:
        """The page behind `offset`. The record before it is asked for again: another one there tells that the listing
        has moved, and may have been passed over."""
        overlap = 1 if offset and self.previous else 0
        last = self.previous[-1:] if overlap else []
        answer, records = await self._ask(self._question_at(offset - overlap))
        following = offset - overlap + len(records)
        if overlap:
            if records and self._id(records[0]) == self._id(last[0]):
                records = records[1:]
            else:
                self._moved("another record than before")
            if not records and following == offset and not self._is_all():  # a server may give one record a page
                answer, records = await self._ask(self._question_at(offset))
                following = offset + len(records)
            self._require_other_than_before(records, style.param)
        self._note(answer, records)
        return Page(records, answer.at), self._where_next(lambda: self._following(answer, following, len(records)))

    def _where_next(self, look: Callable[[], int | str | None]) -> int | str | None:
        """Where the listing goes on; if that cannot be told, it ends, which is told once its records were given."""
        try:
            return look()
        except Fault as fault:
            self.problem = self.problem or fault
            return None

    def _require_other_than_before(self, records: list[Any], param: str) -> None:
        if records and records == self.previous:
            raise Fault(LOOPING, f"a page shows the same as the one before; is {param!r} the parameter for it?")

    def _id(self, record: Any) -> Any:
        return find(self.id_path, record)

    def _is_all(self) -> bool:
        return self.total is not None and self.count >= self.total

    async def _ask(self, question: Question) -> tuple[Answer, list[Any]]:
        answer = await self.api.ask(question)
        records = find(self.records_path, answer.content)
        if not isinstance(records, list):
            what = "nothing" if records is None else f"a value of type {type(records).__name__}"
            raise Fault(
                NO_RECORDS,
                f"the answer of {where(question.url)} has {what} at `records: {self.records_path}`, where a list"
                " should be",
            )
        return answer, records

    def _question_at(self, place: int | str | None) -> Question:
        question, style = self.question, self.style
        match style:
            case NextUrlPaging() | LinkHeaderPaging() if place is not None:
                return replace(question, url=str(place))
            case PagePaging():
                return with_param(question, style.param, style.start if place is None else place)
            case OffsetPaging():
                return with_param(question, style.param, place or 0)
            case CursorPaging() if place is not None:
                if question.method == "POST":
                    return replace(question, body=_with_value(question.body or {}, style.param.split("."), place))
                return with_param(question, style.param, place)
        return question

    def _note(self, answer: Answer, records: list[Any]) -> None:
        self.count += len(records)
        self.previous = records or self.previous
        self.empty_pages = 0 if records else self.empty_pages + 1
        if self.empty_pages > EMPTY_PAGES_MAX:
            raise Fault(LOOPING, f"{EMPTY_PAGES_MAX} pages one after the other were empty")
        if self.total_path is not None:
            total = find(self.total_path, answer.content)
            if not isinstance(total, int):
                self.problem = self.problem or Fault(
                    "no_total", f"the answer has no number at `total: {self.total_path}`"
                )
                return
            if self.total not in (None, total):
                self._moved(f"{total} records instead of {self.total}")
            self.total = total

    def _moved(self, what: str) -> None:
        self.problem = self.problem or Fault(MOVED, f"the listing changed while it was read: it showed {what}")

    def _goes_on(self, answer: Answer) -> bool | None:
        """Whether the answer says that there is more; None if it is not asked."""
        path = None if isinstance(self.style, NoPaging | LinkHeaderPaging) else self.style.has_more
        if path is None:
            return None
        said = find(path, answer.content)
        if not isinstance(said, bool):
            raise Fault("no_has_more", f"the answer has neither true nor false at `has_more: {path}`")
        return said

    def _following(self, answer: Answer, place: int | str | None, count: int) -> int | str | None:
        """Where the listing goes on behind an answer with `count` new records, which came from `place`; with offsets,
        `place` is the one behind them. None at the end."""
        goes_on = self._goes_on(answer)
        if goes_on is False:
            return None
        is_at_end = goes_on is None and (count == 0 or self._is_all())  # of pages by number
        match self.style:
            case PagePaging(start=start):
                number = start if place is None else int(place)
                return None if is_at_end else number + 1
            case OffsetPaging():
                if count == 0 and not is_at_end:
                    raise Fault("no_next", "there is more, but a page is empty")
                return None if is_at_end else place
            case LinkHeaderPaging():
                return _next_of(answer)
            case CursorPaging(path=path) | NextUrlPaging(path=path):
                found = find(path, answer.content)
                if isinstance(found, bool) or not isinstance(found, str | int | None):
                    raise Fault("no_next", f"what the answer has at `path: {path}` is no place to go on")
                if found in (None, ""):
                    if self.style.has_more is not None:
                        raise Fault("no_next", f"there is more, but the answer has nothing at `path: {path}`")
                    return None
                return _address(answer, str(found)) if isinstance(self.style, NextUrlPaging) else found
        return None

    def require_whole(self) -> None:
        if self.problem is not None:
            raise self.problem
        if self.total is not None and self.count != self.total:
            raise Fault("total_differs", f"the API counts {self.total} records and listed {self.count}")


def _address(answer: Answer, said: str) -> str:
    try:
        return urljoin(answer.url, said)
    except ValueError:
        raise Fault("no_next", "what should be the address of the next page is none") from None


def _next_of(answer: Answer) -> str | None:
    """The address with `rel=next` in the header Link (RFC 8288)."""
    said = answer.headers.get("link", "")
    links = list(_LINK.finditer(said))
    if said.strip() and not links:
        raise Fault("no_next", "the header Link cannot be read")
    for link in links:
        relations = _RELATION.search(link[2])
        if relations and "next" in (relations[1] or relations[2] or "").lower().split():
            return _address(answer, str(link[1]))
    return None


def _with_value(body: Mapping[str, Any], steps: list[str], value: object) -> dict[str, Any]:
    first, *rest = steps
    inner = body.get(first)
    return {**body, first: _with_value(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}
