"""Records of an API as documents, from servers whose answers a test writes."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path
from time import time
from typing import Any

import anyio
import pytest
from aiohttp import web
from pydantic import ValidationError

from connectors.kit.contract import scan_all, scan_refs
from connectors.rest.connector import WITHOUT_TEXT_MAX, RestConnector
from connectors.rest.settings import RestSettings
from pipeline.errors import DocumentVanished, SourceError, SyncError, UnreadableDocument
from pipeline.model import DocumentId, DocumentRef, ScanComplete, ScanError, SourceEvent

from .rest_world import without_patience
from .web_server import WebServer, web_server

SECRET = "canary-5521"
NOTES = {"name": "notes", "path": "/notes", "text": "text"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    without_patience(monkeypatch)
    monkeypatch.setenv("TOKEN", SECRET)


def notes(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": number, "text": f"text {number}"} for number in numbers]


def settings(resource: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    resources = [{**NOTES, **(resource or {})}]
    return {"type": "rest", "base_url": "https://api.example.com", "resources": resources, **options}


Answering = Callable[[web.Request], Any]


@dataclass
class Api:
    """`answers` to each path: something that becomes JSON, a response, or a function of the request."""

    server: WebServer
    answers: dict[str, Any] = field(default_factory=dict)
    bodies: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    opened: list[RestConnector] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url

    def connector(
        self, resource: dict[str, Any] | None = None, *, now: Callable[[], float] = time, **options: Any
    ) -> RestConnector:
        http = {"allow_private_hosts": True, "requests_per_s": 1000}
        values = {**settings(resource), "base_url": self.url, "http": http, **options}
        connector = RestConnector(RestSettings.model_validate(values), Path("/"), now=now)
        self.opened.append(connector)
        return connector

    def queries(self) -> list[str]:
        return [request.partition("?")[2] for request in self.server.requests]


@asynccontextmanager
async def serving(answers: dict[str, Any]) -> AsyncIterator[Api]:
    async def answer(request: web.Request) -> web.StreamResponse:
        api.headers.append(dict(request.headers))
        if request.can_read_body:
            text = await request.text()
            api.bodies.append(json.loads(text) if request.content_type == "application/json" else text)
        said = api.answers.get(request.path)
        said = said(request) if callable(said) else said
        said = await said if isawaitable(said) else said
        if said is None:
            return web.json_response({"message": "no such thing"}, status=404)
        return said if isinstance(said, web.StreamResponse) else web.json_response(said)

    async with web_server(answer) as server:
        api = Api(server, answers)
        try:
            yield api
        finally:
            for connector in api.opened:
                await connector.aclose()


def ids_of(events: list[SourceEvent]) -> list[str]:
    return [event.id.rpartition("/")[2] for event in events if isinstance(event, DocumentRef)]


def problems_of(events: list[SourceEvent]) -> list[tuple[str, str]]:
    return [(event.scope, event.code) for event in events if isinstance(event, ScanError)]


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "ftp://example.com"}, "should be a URL"),
        ({"base_url": "https://reader:canary@example.com"}, "no user and password"),
        ({"headers": {"Authorization": "Bearer canary"}}, "'Authorization' is for a secret"),
        ({"headers": {"X-Api-Key": "canary"}}, "'X-Api-Key' is for a secret"),
        ({"headers": {"PRIVATE-TOKEN": "canary"}}, "'PRIVATE-TOKEN' is for a secret"),
        ({"headers": {"Ocp-Apim-Subscription-Key": "canary"}}, "is for a secret"),
        ({"headers": {"X y": "canary"}}, "no header"),
        ({"auth": {"type": "bearer", "token": "canary"}}, "should be a reference"),
        ({"auth": {"type": "bearer", "token_variable": "ghp_canary-1"}}, "token_variable"),
        ({"auth": {"type": "bearer", "token_variable": "ghp_canary1"}}, "token_variable"),
        ({"auth": {"type": "bearer", "token_variable": "T"}, "base_url": "http://example.com"}, "`https://` only"),
        ({"error": "!!"}, "no path of JMESPath"),
        ({"resources": []}, "resources"),
        ({"resources": [NOTES, NOTES]}, "two resources are named 'notes'"),
        ({"resources": [{**NOTES, "for_each": "spaces"}]}, "should name a resource that stands before it"),
        ({"resources": [{**NOTES, "for_each": "notes"}]}, "should name a resource that stands before it"),
        ({"resources": [{**NOTES, "path": "/{spaces}/notes"}]}, r"\{spaces\} in 'notes' stands for nothing"),
        ({"resources": [{**NOTES, "path": "/{notes}"}]}, r"\{notes\} in 'notes' stands for nothing"),
        ({"resources": [{**NOTES, "params": {"of": "{x}"}}]}, r"\{x\} in 'notes' stands for nothing"),
        ({"resources": [{**NOTES, "uri": "https://example.com/{x}"}]}, r"\{x\} in 'notes' stands for nothing"),
        ({"resources": [{**NOTES, "params": {"api_key": "canary"}}]}, "'api_key' of 'notes' is for a secret"),
        ({"resources": [{**NOTES, "params": {"private_token": "canary"}}]}, "is for a secret"),
        ({"resources": [{**NOTES, "params": {"sig": "canary"}}]}, "is for a secret"),
        ({"resources": [{**NOTES, "detail": {"path": "/", "params": {"access_token": "x"}}}]}, "is for a secret"),
        ({"resources": [{"name": "notes", "path": "/notes"}]}, "`text` or `parts`"),
        ({"resources": [{**NOTES, "listing_has_text": False}]}, "must come with the listing"),
        ({"resources": [{**NOTES, "version_grain_s": 60}]}, "needs a `version`"),
        ({"resources": [{**NOTES, "parent": "space"}]}, "needs `for_each` and `detail`"),
        ({"resources": [{**NOTES, "body": {"a": 1}}]}, "goes with `method: POST`"),
        ({"resources": [{**NOTES, "id": "a["}]}, "no path of JMESPath"),
        ({"resources": [{**NOTES, "name": "No tes"}]}, "name"),
        ({"resources": [{**NOTES, "format": "docx"}]}, "format"),
        ({"resources": [{**NOTES, "pagination": {"type": "pages"}}]}, "pagination"),
        ({"resources": [{**NOTES, "textt": "a"}]}, "textt"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], message: str) -> None:
    """What is misspelt would list something else; and what is refused may be a secret."""
    with pytest.raises(ValidationError, match=message) as caught:
        RestSettings.model_validate({**settings(), **changes})

    assert "canary" not in str(caught.value)


# -------------------------------------------------------------------------------------------------- paging


def by_page(size: int, count: int) -> Answering:
    def answer(request: web.Request) -> Any:
        first = (int(request.query["page"]) - 1) * size
        return {"items": notes(*range(first, min(first + size, count))), "total": count}

    return answer


def by_offset(size: int, count: int) -> Answering:
    def answer(request: web.Request) -> Any:
        first = int(request.query["offset"])
        return {"items": notes(*range(first, min(first + size, count))), "total": count}

    return answer


PAGE, OFFSET = {"type": "page"}, {"type": "offset"}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("total", [None, "total"])
@pytest.mark.parametrize(("style", "answer"), [(PAGE, by_page), (OFFSET, by_offset)], ids=["page", "offset"])
async def test_pages_by_number_are_listed_to_their_end(
    style: dict[str, Any], answer: Callable[[int, int], Answering], total: str | None, size: int, count: int
) -> None:
    async with serving({"/notes": answer(size, count)}) as api:
        events = await scan_all(api.connector({"records": "items", "pagination": style, "total": total}))

        assert ids_of(events) == [str(number) for number in range(count)]
        assert problems_of(events) == []
        assert len(api.server.requests) <= (2 * count if size == 1 else count // (size - 1)) + 3


@pytest.mark.parametrize("count", [4, 5])
async def test_an_empty_page_by_number_is_no_end_if_the_answer_says_that_there_is_more(count: int) -> None:
    """As of an API that leaves out of each page what may not be read."""

    def answer(request: web.Request) -> Any:
        first = (int(request.query["page"]) - 1) * 2
        page = range(first, min(first + 2, count))
        return {"items": notes(*(number for number in page if number not in (2, 3))), "more": first + 2 < count}

    style = {**PAGE, "has_more": "more"}
    async with serving({"/notes": answer}) as api:
        events = await scan_all(api.connector({"records": "items", "pagination": style}))

    assert ids_of(events) == [str(number) for number in range(count) if number not in (2, 3)]
    assert problems_of(events) == []


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ({"type": "cursor", "path": "next"}, [None, 0]),
        ({"type": "cursor", "path": "next"}, [""]),
        ({"type": "cursor", "path": "next", "has_more": "more"}, [None, "x"]),
        ({"type": "next_url", "path": "next"}, [None, ""]),
    ],
)
@pytest.mark.parametrize("has_empty_page", [False, True])
async def test_a_listing_goes_on_where_the_answer_says(
    style: dict[str, Any], said: list[Any], has_empty_page: bool
) -> None:
    """An empty page in the middle is no end."""

    def answer(request: web.Request) -> Any:
        number = int(request.query.get("cursor", "t1")[1:])
        following = f"t{number + 1}" if style["type"] == "cursor" else f"?cursor=t{number + 1}"
        items = [] if has_empty_page and number == 2 else notes(number)
        is_last = number == 4
        return {"items": items, "more": not is_last, **({"next": said[0]} if is_last else {"next": following})}

    async with serving({"/notes": answer}) as api:
        events = await scan_all(api.connector({"records": "items", "pagination": style}))

    assert ids_of(events) == ["1", "3", "4"] if has_empty_page else ["1", "2", "3", "4"]
    assert events[-1] == ScanComplete()


@pytest.mark.parametrize(
    "link",
    [
        '<{url}/notes?p=2>; rel="next"',
        "</notes?p=2>; rel=next",
        '</notes?p=1>; rel="first", </notes?p=2>; title="a, b; c"; rel="last next"',
        '</notes?p=2>; REL="NEXT"; type="x"',
    ],
)
async def test_the_header_link_is_followed(link: str) -> None:
    def answer(request: web.Request) -> Any:
        if "p" in request.query:
            return web.json_response(notes(2), headers={"Link": '</notes>; rel="first"'})
        return web.json_response(notes(1), headers={"Link": link.format(url=api.url)})

    async with serving({"/notes": answer}) as api:
        events = await scan_all(api.connector({"pagination": {"type": "link_header"}}))

    assert ids_of(events) == ["1", "2"]


async def test_a_search_is_posted_and_its_token_goes_into_the_body() -> None:
    """As deep as the API wants it; what else stands there, braces too, is sent as it is."""

    def answer(_: web.Request) -> Any:
        number = api.bodies[-1]["page"].get("after", 1)
        return {"items": notes(number), "next": number + 1 if number < 3 else None}

    resource = {
        "method": "POST", "records": "items", "body": {"query": "{ notes { id } }", "page": {"size": 1}},
        "pagination": {"type": "cursor", "param": "page.after", "path": "next"},
    }  # fmt: skip
    async with serving({"/notes": answer}) as api:
        events = await scan_all(api.connector(resource))

        assert ids_of(events) == ["1", "2", "3"]
        assert api.bodies[2] == {"query": "{ notes { id } }", "page": {"size": 1, "after": 3}}


async def test_params_are_sent_as_they_are_meant() -> None:
    params = {"a": "x y&z", "b": True, "c": 1, "d": ["p", "q"], "e[f]": ""}
    async with serving({"/notes": []}) as api:
        await scan_all(api.connector({"params": params}))

        assert api.queries() == ["a=x%20y%26z&b=true&c=1&d=p&d=q&e%5Bf%5D="]


# ------------------------------------------------------------------------------- listings that are not complete

BY_CURSOR = {"type": "cursor", "path": "next"}
CURSOR = {"records": "items", "pagination": BY_CURSOR}


def always(said: Any) -> Answering:
    return lambda _: said


def once_and_then(first: Any, then: Any) -> Answering:
    left = [first]
    return lambda _: left.pop() if left else then


BROKEN: dict[str, tuple[dict[str, Any], Answering, str]] = {
    "a token that leads back": (CURSOR, always({"items": [], "next": "t"}), "looping_listing"),
    "the same page again and again": (
        {"records": "items", "pagination": PAGE}, always({"items": notes(1, 2)}), "looping_listing",
    ),
    "the same page at each offset": (
        {"records": "items", "pagination": OFFSET}, always({"items": notes(1, 2)}), "looping_listing",
    ),
    "the same record at each offset": (
        {"records": "items", "pagination": OFFSET}, always({"items": notes(1)}), "looping_listing",
    ),
    "more, but an empty page at an offset": (
        {"records": "items", "pagination": {**OFFSET, "has_more": "more"}},
        lambda request: {"items": notes(1, 2)[int(request.query["offset"]) :], "more": True}, "no_next",
    ),
    "no list": (CURSOR, once_and_then({"items": notes(1), "next": "t"}, {"items": {"id": 1}}), "no_records"),
    "nothing there": (CURSOR, once_and_then({"items": notes(1), "next": "t"}, {}), "no_records"),
    "a token of no kind": (CURSOR, always({"items": notes(1), "next": {"a": 1}}), "no_next"),
    "more, but nowhere": (
        {"records": "items", "pagination": {**BY_CURSOR, "has_more": "more"}},
        always({"items": notes(1), "more": True}), "no_next",
    ),
    "not said whether there is more": (
        {"records": "items", "pagination": {**BY_CURSOR, "has_more": "more"}},
        always({"items": notes(1), "next": "t"}), "no_has_more",
    ),
    "a total that differs": (
        {"records": "items", "total": "total"}, always({"items": notes(1), "total": 2}), "total_differs",
    ),
    "a total that is none": ({"records": "items", "total": "total"}, always({"items": notes(1)}), "no_total"),
    "a total that changes": (
        {**CURSOR, "total": "total"},
        once_and_then({"items": notes(1), "total": 2, "next": "t"}, {"items": notes(2, 3), "total": 3}), "moved",
    ),
    "a record without id": ({}, always([*notes(1), {"text": "x"}]), "no_id"),
    "an id that is none": ({}, always([*notes(1), {"id": [1], "text": "x"}]), "no_id"),
    "an id that is a fraction": ({}, always([*notes(1), {"id": 1.5, "text": "x"}]), "no_id"),
    "a record that is none": ({}, always([*notes(1), "x"]), "no_id"),
    "the same id twice": ({}, always(notes(1, 2, 1)), "duplicate_id"),
    "another host": (
        {"records": "items", "pagination": {"type": "next_url", "path": "next"}},
        always({"items": notes(1), "next": "http://127.0.0.2:1/"}), "other_host",
    ),
    "no address": (
        {"records": "items", "pagination": {"type": "next_url", "path": "next"}},
        always({"items": notes(1), "next": "http://[x"}), "no_next",
    ),
    "a Link that cannot be read": (
        {"pagination": {"type": "link_header"}},
        lambda _: web.json_response(notes(1), headers={"Link": "next page: 2"}), "no_next",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
async def test_a_listing_that_is_not_whole_says_so_and_why(case: str) -> None:
    """Nothing is deleted in its scope; what was listed goes on its way."""
    resource, answer, code = BROKEN[case]
    async with serving({"/notes": answer}) as api:
        events = await scan_all(api.connector(resource))

    assert code in [code for _, code in problems_of(events)]
    assert {scope for scope, _ in problems_of(events)} == {"notes/"}
    assert len(set(ids_of(events))) == len(ids_of(events))
    if "[" not in case and case != "a token that leads back":
        assert "1" in ids_of(events)


@pytest.mark.parametrize("change", ["removed", "added"])
async def test_a_listing_by_offset_that_moves_is_not_complete(change: str) -> None:
    """A record would be passed over unseen; the one before each page tells."""
    left = notes(*range(10))

    def answer(request: web.Request) -> Any:
        first = int(request.query["offset"])
        page = left[first : first + 4]
        if first == 0:
            left[:] = left[1:] if change == "removed" else [*notes(99), *left]
        return {"items": page}

    async with serving({"/notes": answer}) as api:
        events = await scan_all(api.connector({"records": "items", "pagination": OFFSET}))

    assert ("notes/", "moved") in problems_of(events)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, r"/notes answered 404: no such thing.*Check `source\.base_url`"),
        ({"items": [], "error": "x"}, r"has nothing at `records: data`, where a list should be"),
        ({"data": {"a": 1}}, r"has a value of type dict at `records: data`"),
        (lambda _: web.Response(text="<html>", content_type="text/html"), r"is no JSON \(text/html\)"),
        (lambda _: web.Response(body=b"\xff"), "is no JSON"),
        (lambda _: web.json_response({"error": {"message": "quota\nexceeded"}}, status=403), "403: quota exceeded"),
        (lambda _: web.json_response({}, status=401), r"401 Unauthorized.*Say with `source\.auth` how to log in"),
        (lambda _: web.Response(status=204), "is no JSON"),
    ],
)
async def test_a_source_that_is_not_there_is_an_error_and_never_an_empty_source(answer: Any, message: str) -> None:
    """In words that tell what to do."""
    async with serving({"/notes": answer} if answer is not None else {}) as api:
        with pytest.raises(SourceError, match=message):
            await scan_all(api.connector({"records": "data"}))


async def test_an_error_with_status_200_is_an_error() -> None:
    async with serving({"/notes": {"items": [], "fault": "over quota"}}) as api:
        with pytest.raises(SourceError, match=r"/notes answered with an error: over quota"):
            await scan_all(api.connector({"records": "items"}, error="fault"))


async def test_one_resource_that_cannot_be_listed_does_not_keep_the_others_from_being_complete() -> None:
    resources = [NOTES, {**NOTES, "name": "others", "path": "/others"}]
    async with serving({"/others": notes(1)}) as api:
        events = await scan_all(api.connector(resources=resources))

    assert problems_of(events) == [("notes/", "404")]
    assert events[-1] == ScanComplete()


# ------------------------------------------------------------------------------------------- parents and children

FOLDERS = {"name": "folders", "path": "/folders", "documents": False, "pagination": {"type": "cursor", "path": "next"},
           "records": "items"}  # fmt: skip
FILES = {**NOTES, "for_each": "folders", "path": "/folders/{folders}/notes"}


async def test_a_parent_that_was_not_listed_whole_leaves_all_below_it_alone() -> None:
    """What is below the parents that were not seen would be missing."""
    answers = {"/folders": once_and_then({"items": [{"id": "a b"}], "next": "t"}, {}), "/folders/a b/notes": notes(1)}
    async with serving(answers) as api:
        events = await scan_all(api.connector(resources=[FOLDERS, FILES]))

    assert [event.id for event in events if isinstance(event, DocumentRef)] == ["notes/a%20b/1"]
    assert problems_of(events) == [("folders/", "no_records"), ("notes/", "no_records")]


async def test_a_child_that_cannot_be_listed_leaves_only_its_own_alone() -> None:
    answers = {"/folders": {"items": [{"id": "a"}, {"id": "b"}]}, "/folders/b/notes": notes(1)}
    async with serving(answers) as api:
        connector = api.connector(resources=[FOLDERS, FILES])
        events = await scan_all(connector)

        assert problems_of(events) == [("notes/a/", "404")]
        assert await connector.locate(DocumentId("notes/b/2")) is None
        with pytest.raises(SourceError, match="Cannot tell whether 'notes/a/1' is still there"):
            await connector.locate(DocumentId("notes/a/1"))


async def test_what_is_below_a_parent_that_is_gone_is_gone() -> None:
    answers: dict[str, Any] = {"/folders": {"items": [{"id": "a"}]}, "/folders/b/notes": notes(1)}
    async with serving(answers) as api:
        connector = api.connector(resources=[FOLDERS, FILES])

        assert await connector.locate(DocumentId("notes/b/1")) is None
        assert await connector.locate(DocumentId("folders/a")) is None  # is no document


@pytest.mark.parametrize("hostile", ["..", ".", "../../admin", "a/../../admin"])
@pytest.mark.parametrize("placeholder", ["{folders}", "{+folders}"])
async def test_an_id_leads_to_no_other_path(hostile: str, placeholder: str) -> None:
    """It is the source that says it."""
    files = {**FILES, "path": f"/folders/{placeholder}/notes"}
    async with serving({"/folders": {"items": [{"id": hostile}]}, "/admin/notes": notes(1)}) as api:
        events = await scan_all(api.connector(resources=[FOLDERS, files]))

        assert ids_of(events) == []
        assert not any("admin/notes" in request and "%2F" not in request for request in api.server.requests)


async def test_a_placeholder_with_a_plus_keeps_its_slashes() -> None:
    files = {**FILES, "path": "/repos/{+folders}/notes"}
    async with serving({"/folders": {"items": [{"id": "a/b"}]}, "/repos/a/b/notes": notes(1)}) as api:
        connector = api.connector(resources=[FOLDERS, files])
        (document,) = await scan_refs(connector)

        assert document == "notes/a%2Fb/1"
        assert (await connector.locate(document)) is not None


# ------------------------------------------------------------------------------------------------- logging in


@pytest.mark.parametrize(
    ("auth", "header", "query"),
    [
        ({"type": "bearer", "token_variable": "TOKEN"}, ("Authorization", f"Bearer {SECRET}"), ""),
        (
            {"type": "basic", "user": "me", "password_variable": "TOKEN"},
            ("Authorization", "Basic bWU6Y2FuYXJ5LTU1MjE="), "",
        ),
        ({"type": "api_key", "name": "X-Key", "key_variable": "TOKEN"}, ("X-Key", SECRET), ""),
        ({"type": "api_key", "name": "X-Key", "prefix": "T=", "key_variable": "TOKEN"}, ("X-Key", f"T={SECRET}"), ""),
        ({"type": "api_key", "name": "k", "location": "query", "key_variable": "TOKEN"}, None, f"k={SECRET}"),
    ],
    ids=["bearer", "basic", "header", "prefix", "query"],
)  # fmt: skip
async def test_each_way_of_logging_in(auth: dict[str, Any], header: tuple[str, str] | None, query: str) -> None:
    async with serving({"/notes": notes(1)}) as api:
        await scan_all(api.connector(auth=auth))

        assert header is None or api.headers[0][header[0]] == header[1]
        assert api.queries() == [query]


async def test_a_key_in_the_query_goes_with_every_page_and_into_no_message() -> None:
    def answer(request: web.Request) -> Any:
        if "p" in request.query:
            return web.json_response({"message": f"wrong key {request.query['k']}"}, status=403)
        return {"items": notes(1), "next": "?p=2"}

    resource = {"records": "items", "pagination": {"type": "next_url", "path": "next"}}
    auth = {"type": "api_key", "name": "k", "location": "query", "key_variable": "TOKEN"}
    async with serving({"/notes": answer}) as api:
        connector = api.connector(resource, auth=auth)
        events = await scan_all(connector)

        assert api.queries() == [f"k={SECRET}", f"p=2&k={SECRET}"]
        assert SECRET not in repr(events)
        assert "wrong key …" in repr(events)


async def test_a_token_is_asked_for_with_the_clients_credentials_and_again_when_it_ends() -> None:
    tokens = iter(["one", "two", "three"])
    left = ["one", "two", "three"]

    def answer(request: web.Request) -> Any:
        is_let_in = request.headers["Authorization"] == f"Bearer {left[0]}"
        return notes(1) if is_let_in else web.json_response({}, status=401)

    auth: dict[str, Any] = {
        "type": "oauth2",
        "client_id": "me",
        "client_secret_variable": "TOKEN",
        "params": {"scope": "read"},
    }
    async with serving({"/notes": answer}) as api:
        api.answers["/token"] = lambda _: {"access_token": next(tokens), "expires_in": 3600}
        connector = api.connector(auth={**auth, "token_url": f"{api.url}/token"})
        await scan_all(connector)
        await scan_all(connector)
        assert api.bodies == [f"grant_type=client_credentials&scope=read&client_id=me&client_secret={SECRET}"]

        left.pop(0)
        await scan_all(connector)
        assert len(api.bodies) == 2


async def test_a_new_token_is_not_let_go_of_because_an_old_one_was_refused() -> None:
    """Servers that know one token of each client refuse the one before when they give out the next."""
    tokens: list[str] = []
    has_new_token, is_asked_again = anyio.Event(), anyio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        sent = request.headers["Authorization"].removeprefix("Bearer ")
        if request.path == "/notes/1":
            if sent == "t1":
                await has_new_token.wait()
            else:
                is_asked_again.set()
        elif sent == "t2":
            has_new_token.set()
            await is_asked_again.wait()
        is_let_in = sent == tokens[-1] and len(tokens) > 1
        record = {"id": int(request.path[-1]), "text": "x"}
        return web.json_response(record) if is_let_in else web.json_response({}, status=401)

    def give_token(_: web.Request) -> Any:
        tokens.append(f"t{len(tokens) + 1}")
        return {"access_token": tokens[-1]}

    answers = {"/notes/1": answer, "/notes/2": answer, "/token": give_token}
    async with serving(answers) as api:
        auth = {"type": "oauth2", "client_id": "me", "client_secret_variable": "TOKEN", "token_url": f"{api.url}/token"}
        connector = api.connector({"detail": {"path": "/notes/{notes}"}}, auth=auth)
        async with anyio.create_task_group() as tasks:
            for number in (1, 2):
                tasks.start_soon(connector.locate, DocumentId(f"notes/{number}"))

    assert tokens == ["t1", "t2"]


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"access_token": 1}, lambda _: web.json_response({"error": SECRET}, status=400), None, [],
        {"access_token": "a\nb"},
    ],
)  # fmt: skip
async def test_a_token_that_does_not_come_is_an_error_without_the_secret(answer: Any) -> None:
    async with serving({"/notes": notes(1), **({"/token": answer} if answer is not None else {})}) as api:
        auth = {"type": "oauth2", "client_id": "me", "client_secret_variable": "TOKEN", "token_url": f"{api.url}/token"}
        with pytest.raises(SourceError, match=r"No token could be had.*TOKEN holds") as caught:
            await scan_all(api.connector(auth=auth))

    assert SECRET not in str(caught.value)


async def test_no_other_host_hears_the_secret() -> None:
    async with serving({}) as other:

        def answer(_: web.Request) -> Any:
            return web.Response(status=302, headers={"Location": f"{other.url}/notes"})

        other.answers["/notes"] = notes(1)
        async with serving({"/notes": answer}) as api:
            auth = {"type": "bearer", "token_variable": "TOKEN"}
            with pytest.raises(SyncError):
                await scan_all(
                    api.connector(auth=auth, http={"allow_private_hosts": False}, base_url="https://a.invalid")
                )
            await _scan_whatever_comes(api.connector(auth=auth))

        assert not any(SECRET in str(headers) for headers in other.headers)


async def _scan_whatever_comes(connector: RestConnector) -> None:
    try:
        await scan_all(connector)
    except SourceError:
        return


# -------------------------------------------------------------------------------------- documents and their text


async def test_fields_that_are_lists_and_numbers_become_text() -> None:
    record = {"id": 1, "a": ["x", "y"], "b": 7, "c": True, "d": None, "e": "  "}
    async with serving({"/notes": [record]}) as api:
        connector = api.connector({"text": ["a", "b", "c", "d", "e", "f"], "title": "a"})
        (ref,) = (await scan_refs(connector)).values()

        assert (await connector.fetch(ref)).content == b"x\ny\n\n7\n\ntrue"
        assert ref.title == "xy"


async def test_a_text_that_is_an_object_says_so() -> None:
    async with serving({"/notes": [{"id": 1, "text": {"secret": "words"}}]}) as api:
        connector = api.connector()
        (ref,) = (await scan_refs(connector)).values()
        with pytest.raises(UnreadableDocument, match="has an object where `format: plain` needs text") as caught:
            await connector.fetch(ref)

    assert "words" not in str(caught.value)


def nested(depth: int) -> str:
    return f'{{"id": 1, "text": {"[" * depth}"x"{"]" * depth}}}'


@pytest.mark.parametrize("options", [{}, {"version": "text"}])
async def test_a_record_that_is_nested_too_deeply_to_be_kept_is_left_out(options: dict[str, Any]) -> None:
    """And is not taken for one that is gone."""
    body = f'[{nested(300)}, {{"id": 2, "text": "words"}}]'
    async with serving({"/notes": lambda _: web.Response(text=body, content_type="application/json")}) as api:
        connector = api.connector(options)
        events = await scan_all(connector)
        with pytest.raises(SourceError, match="nested too deeply"):
            await connector.locate(DocumentId("notes/1"))

    assert ids_of(events) == ["2"]
    assert problems_of(events) == [("notes/", "unusable_record")]


async def test_a_text_that_is_nested_too_deeply_is_one_dead_letter() -> None:
    async with serving({"/notes": notes(1)}) as api:
        api.answers["/notes/1"] = lambda _: web.Response(text=nested(900), content_type="application/json")
        connector = api.connector({"detail": {"path": "/notes/{notes}"}})
        (ref,) = (await scan_refs(connector)).values()
        with pytest.raises(UnreadableDocument, match="nested too deeply"):
            await connector.fetch(ref)


async def test_a_path_to_the_text_that_finds_nothing_ends_the_run() -> None:
    """Documents without a text would be no error, but not all of them."""
    async with serving({"/notes": notes(*range(WITHOUT_TEXT_MAX))}) as api:
        connector = api.connector({"text": ["body", "deep.body"]})
        *first, last = (await scan_refs(connector)).values()
        for ref in first:
            assert (await connector.fetch(ref)).content == b""
        with pytest.raises(SourceError, match=r"have nothing at `text: body, deep\.body`"):
            await connector.fetch(last)


@pytest.mark.parametrize("text", ["text", "deep.text", "list[].text"])
async def test_documents_that_have_no_text_are_none_the_less_documents(text: str) -> None:
    """As issues that nobody has described."""
    records = [{"id": number, "text": None, "deep": None} for number in range(30)]
    async with serving({"/notes": records}) as api:
        connector = api.connector({"text": text})
        for ref in (await scan_refs(connector)).values():
            assert (await connector.fetch(ref)).content == b""


async def test_a_path_that_looks_like_a_url_is_none() -> None:
    """Some APIs have such."""
    async with serving({"/notes:search": notes(1), "/v1/": notes(2), "/v1": notes(3)}) as api:
        assert ids_of(await scan_all(api.connector({"path": "notes:search"}))) == ["1"]
        assert ids_of(await scan_all(api.connector({"path": ""}, base_url=f"{api.url}/v1/"))) == ["3"]


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        ({"text": "other"}, True),
        ({"title": "other"}, True),
        ({"url": "/other"}, True),
        ({"tags": ["b"]}, True),
        ({"votes": 8}, False),
        ({"at": "2026-02-02"}, False),
    ],
)
async def test_without_a_version_an_edit_of_what_is_used_shows_and_of_nothing_else(
    change: dict[str, Any], is_seen: bool
) -> None:
    record = {"id": 1, "text": "t", "title": "T", "url": "/a", "tags": ["a"], "votes": 7, "at": "2026-01-01"}
    resource = {"title": "title", "uri": "url", "metadata": {"tags": "tags"}, "modified_at": "at"}
    async with serving({"/notes": [record]}) as api:
        (before,) = (await scan_refs(api.connector(resource))).values()
        record.update(change)
        (after,) = (await scan_refs(api.connector(resource))).values()

    assert (before.fingerprint != after.fingerprint) is is_seen
    assert before.fingerprint is not None


@pytest.mark.parametrize(
    "change", [{"title": "id"}, {"format": "html"}, {"metadata": {"a": "id"}}, {"text": ["text", "id"]}]
)
async def test_a_change_of_the_settings_reads_every_document_again(change: dict[str, Any]) -> None:
    """Also with a version, which knows nothing of them."""
    async with serving({"/notes": [{**notes(1)[0], "v": 1}]}) as api:
        (before,) = (await scan_refs(api.connector({"version": "v"}))).values()
        (after,) = (await scan_refs(api.connector({"version": "v", **change}))).values()

    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("version", ["v", "[v, w]", "{v: v, w: w}"])
async def test_a_record_without_its_version_is_read_each_time(version: str) -> None:
    async with serving({"/notes": notes(1)}) as api:
        (ref,) = (await scan_refs(api.connector({"version": version}))).values()

    assert ref.fingerprint is None


async def test_an_answer_that_is_too_large_is_one_dead_letter() -> None:
    answers = {"/notes": notes(1), "/notes/1": {"id": 1, "text": "x" * 5_000}}
    async with serving(answers) as api:
        connector = api.connector({"detail": {"path": "/notes/{notes}"}}, max_bytes=2_000)
        (ref,) = (await scan_refs(connector)).values()
        with pytest.raises(UnreadableDocument) as caught:
            await connector.fetch(ref)

    assert caught.value.code == "too_large"


@pytest.mark.parametrize("answer", [{"id": 2, "text": "x"}, {"text": "x"}, [], "x", None])
async def test_another_record_than_was_asked_for_is_no_document_and_no_proof(answer: Any) -> None:
    """As from a cache that mixes up its answers."""
    async with serving({"/notes": notes(1)}) as api:
        api.answers["/notes/1"] = lambda _: web.Response(text=json.dumps(answer), content_type="application/json")
        connector = api.connector({"detail": {"path": "/notes/{notes}"}})
        (ref,) = (await scan_refs(connector)).values()
        with pytest.raises(UnreadableDocument, match="another `id: id`"):
            await connector.fetch(ref)
        with pytest.raises(SourceError, match="another `id: id`"):
            await connector.locate(ref.id)


async def test_a_request_for_one_record_that_never_finds_any_ends_the_run() -> None:
    """It is its path that is wrong; that all documents have vanished would be hard to believe."""
    async with serving({"/notes": notes(*range(25))}) as api:
        connector = api.connector({"detail": {"path": "/wrong/{notes}"}})
        refs = list((await scan_refs(connector)).values())
        for ref in refs[:19]:
            with pytest.raises(DocumentVanished):
                await connector.fetch(ref)
        with pytest.raises(SourceError, match=r"`detail` of 'notes' finds nothing at /wrong/\{notes\}"):
            await connector.fetch(refs[19])


async def test_an_api_that_stops_answering_ends_the_run() -> None:
    async with serving({"/notes": notes(*range(25))}) as api:
        connector = api.connector({"detail": {"path": "/notes/{notes}"}})
        refs = list((await scan_refs(connector)).values())
        for number in range(25):
            api.answers[f"/notes/{number}"] = lambda _: web.Response(status=500)
        for ref in refs[:19]:
            with pytest.raises(UnreadableDocument):
                await connector.fetch(ref)
        with pytest.raises(SourceError, match="failed 20 times in a row"):
            await connector.fetch(refs[19])


async def test_what_was_not_listed_is_fetched_by_looking_for_it() -> None:
    """As in a replay, which lists nothing."""
    async with serving({"/notes": notes(1, 2)}) as api:
        (_, listed) = (await scan_refs(api.connector())).values()
        connector = api.connector()

        assert await connector.locate(listed.id) == listed
        assert (await connector.fetch(listed)).content == b"text 2"
        assert (await api.connector().fetch(listed)).content == b"text 2"


async def test_what_was_removed_since_it_was_listed_is_not_found_in_what_is_kept() -> None:
    left = notes(1, 2)
    async with serving({"/notes": left}) as api:
        connector = api.connector()
        await scan_all(connector)
        left.pop()

        assert await connector.locate(DocumentId("notes/2")) is None
        assert await connector.locate(DocumentId("notes/1")) is not None


async def test_a_thousand_that_are_missing_are_looked_for_by_one_listing() -> None:
    async with serving({"/notes": notes(1)}) as api:
        connector = api.connector()
        await scan_all(connector)
        for number in range(2, 1_000):
            assert await connector.locate(DocumentId(f"notes/{number}")) is None

        assert len(api.server.requests) == 2


async def test_a_listing_that_takes_long_is_not_made_for_each_that_is_missing() -> None:
    now = [0.0]

    def answer(_: web.Request) -> Any:
        now[0] += 300
        return notes(1)

    async with serving({"/notes": answer}) as api:
        connector = api.connector(now=lambda: now[0])
        await scan_all(connector)
        for number in range(2, 200):
            assert await connector.locate(DocumentId(f"notes/{number}")) is None
            now[0] += 1

        assert len(api.server.requests) == 2


async def test_ids_that_are_not_written_as_ours_are_nowhere() -> None:
    async with serving({"/notes": notes(1)}) as api:
        connector = api.connector()
        for document in ("notes", "notes/", "notes/1/2", "notes/%31", "other/1", "notes/a.b", ""):
            assert await connector.locate(DocumentId(document)) is None

        assert api.server.requests == []


PARTS = {"parts": {"path": "/notes/{notes}/parts", "text": "text", "nested": "more", "records": "@"}}


async def test_parts_within_parts_come_in_their_order() -> None:
    parts: dict[str, Any] = {
        "/notes/1/parts": [{"id": 10, "text": "a", "more": True}, {"id": 11, "text": "d"}, {"id": 12}],
        "/notes/10/parts": [{"id": 20, "text": "b", "more": True}],
        "/notes/20/parts": [{"id": 30, "text": "c"}],
    }
    async with serving({"/notes": notes(1), **parts}) as api:
        connector = api.connector({**PARTS})
        (ref,) = (await scan_refs(connector)).values()

        assert (await connector.fetch(ref)).content == b"text 1\n\na\n\nb\n\nc\n\nd"
        assert ref.fingerprint is None


async def test_parts_that_never_end_are_one_dead_letter() -> None:
    endless = [{"id": 1, "text": "a", "more": True}]
    async with serving({"/notes": notes(1), "/notes/1/parts": endless}) as api:
        connector = api.connector({**PARTS})
        (ref,) = (await scan_refs(connector)).values()
        with pytest.raises(UnreadableDocument, match="too deep"):
            await connector.fetch(ref)


@pytest.mark.parametrize("style", [PAGE, OFFSET], ids=["page", "offset"])
async def test_parts_that_come_again_and_again_are_one_dead_letter(style: dict[str, Any]) -> None:
    """An API that does not know the parameter gives the first page for each."""
    async with serving({"/notes": notes(1), "/notes/1/parts": notes(10, 11)}) as api:
        parts = {**PARTS["parts"], "pagination": style}
        connector = api.connector({"parts": parts})
        (ref,) = (await scan_refs(connector)).values()
        with pytest.raises(UnreadableDocument) as caught:
            await connector.fetch(ref)

    assert caught.value.code == "looping_listing"


async def test_parts_that_are_not_listed_whole_are_one_dead_letter_and_never_half_a_document() -> None:
    async with serving({"/notes": notes(1), "/notes/1/parts": {"message": "maintenance"}}) as api:
        connector = api.connector({**PARTS})
        (ref,) = (await scan_refs(connector)).values()
        with pytest.raises(UnreadableDocument) as caught:
            await connector.fetch(ref)

    assert caught.value.code == "no_records"


async def test_a_connector_that_was_closed_can_be_asked_again() -> None:
    async with serving({"/notes": notes(1)}) as api:
        connector = api.connector()
        (ref,) = (await scan_refs(connector)).values()
        await connector.aclose()
        await connector.aclose()

        assert (await connector.fetch(ref)).content == b"text 1"
