"""Confluence Cloud, REST API v2: spaces and the pages in them."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .api import FakeApi, after_cursor, is_basic, reply


@dataclass
class Confluence(FakeApi):
    spaces: dict[int, dict[str, Any]] = field(default_factory=dict)
    pages: dict[int, dict[str, Any]] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)  # spaces that may not be read

    def space(self, key: str) -> int:
        found = next((number for number, space in self.spaces.items() if space["key"] == key), None)
        if found is None:
            found = next(self.numbers)
            self.spaces[found] = {"id": str(found), "key": key, "name": key, "type": "global", "status": "current"}
        return found

    def put(self, space: str, title: str, body: str) -> int:
        """Add the page with this title or edit it; its number."""
        at = self.space(space)
        found = next(
            (n for n, page in self.pages.items() if page["title"] == title and page["spaceId"] == str(at)), None
        )
        number = found or next(self.numbers)
        version = self.pages[number]["version"]["number"] + 1 if found else 1
        self.pages[number] = {
            "id": str(number),
            "status": "current",
            "title": title,
            "spaceId": str(at),
            "parentId": None,
            "authorId": "5b10a2844c20165700ede21g",
            "createdAt": self.now(),
            "version": {"createdAt": self.now(), "message": "", "number": version, "minorEdit": False},
            "body": {},
            "_links": {"webui": f"/spaces/{space}/pages/{number}/{title}", "editui": "", "tinyui": ""},
            "text": body,
        }
        return number

    def trash(self, number: int) -> None:
        self.pages[number]["status"] = "trashed"

    def unauthorized(self, request: web.Request) -> web.Response | None:
        return None if is_basic(request, "reader@example.com") else reply({"message": "Unauthorized"}, 401)

    def not_found(self) -> web.Response:
        return reply({"errors": [{"status": 404, "code": "NOT_FOUND", "title": "Not Found", "detail": None}]}, 404)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        match request.path.strip("/").split("/")[1:]:
            case ["api", "v2", "spaces"]:
                return self._page_of(request, [self.spaces[number] for number in sorted(self.spaces)])
            case ["api", "v2", "spaces", space, "pages"] if int(space) in self.closed:
                return reply({"errors": [{"status": 403, "code": "FORBIDDEN", "title": "Forbidden"}]}, 403)
            case ["api", "v2", "spaces", space, "pages"] if int(space) in self.spaces:
                found = [page for _, page in sorted(self.pages.items()) if page["spaceId"] == space]
                current = [page for page in found if page["status"] == request.query.get("status", "current")]
                return self._page_of(request, [_without_text(page) for page in current])
            case ["api", "v2", "pages", page] if int(page) in self.pages and not self._hides(self.pages[int(page)]):
                form = request.query["body-format"]
                whole = self.pages[int(page)]
                body = {form: {"representation": form, "value": whole["text"]}}
                return reply({**_without_text(whole), "body": body})
        return self.not_found()

    def _hides(self, page: dict[str, Any]) -> bool:
        """Whether it may not be read; this is not told from a page that is not there."""
        return int(page["spaceId"]) in self.closed

    def _page_of(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        limit = min(int(request.query.get("limit", 25)), 250)
        page, cursor = after_cursor(items, request.query.get("cursor"), limit, lambda item: int(item["id"]))
        links = {"base": "https://example.atlassian.net/wiki"}
        if cursor is None:
            return reply({"results": page, "_links": links})
        following = str(request.rel_url.update_query(cursor=cursor))
        content = {"results": page, "_links": {"next": following, **links}}
        return reply(content, headers={"Link": f'<{following}>; rel="next", <{links["base"]}>; rel="base"'})


def _without_text(page: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in page.items() if name != "text"}
