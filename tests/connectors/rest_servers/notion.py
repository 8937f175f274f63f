"""Notion, API of 2022-06-28: pages by search, and their blocks."""

import uuid
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .api import FakeApi, is_bearer, reply


def rich_text(text: str) -> list[dict[str, Any]]:
    styles = {"bold": False, "italic": False, "strikethrough": False, "underline": False, "code": False}
    return [
        {"type": "text", "text": {"content": text}, "annotations": styles, "plain_text": text, "href": None},
    ]


@dataclass
class Notion(FakeApi):
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    blocks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # by what they are in

    def put(self, title: str, *blocks: dict[str, Any], at: str | None = None) -> str:
        """Add the page with this title or edit it; its id."""
        found = next((page for page, it in self.pages.items() if _title(it) == title), None)
        page = found or self.new_id()
        at = at or self.now()
        self.pages[page] = {
            "object": "page",
            "id": page,
            "created_time": at,
            "last_edited_time": at,
            "archived": False,
            "in_trash": False,
            "url": f"https://www.notion.so/{page.replace('-', '')}",
            "parent": {"type": "workspace", "workspace": True},
            "properties": {"Name": {"id": "title", "type": "title", "title": rich_text(title)}},
        }
        self.blocks[page] = list(blocks)
        return page

    def block(self, kind: str, text: str, *below: dict[str, Any], **said: Any) -> dict[str, Any]:
        block = self.new_id()
        self.blocks[block] = list(below)
        content = {"rich_text": rich_text(text), **said}
        return {"object": "block", "id": block, "type": kind, "has_children": bool(below), kind: content}

    def new_id(self) -> str:
        return str(uuid.UUID(int=next(self.numbers) << 64))

    def trash(self, page: str) -> None:
        self.pages[page] |= {"archived": True, "in_trash": True, "last_edited_time": self.now()}

    def unauthorized(self, request: web.Request) -> web.Response | None:
        if not is_bearer(request):
            return _error(401, "unauthorized", "API token is invalid.")
        if "Notion-Version" not in request.headers:
            return _error(400, "missing_version", "Notion-Version header failed validation.")
        return None

    def not_found(self) -> web.Response:
        return _error(
            404, "object_not_found", "Could not find the object. Make sure it is shared with the integration."
        )

    async def respond(self, request: web.Request) -> web.StreamResponse:
        match request.path.strip("/").split("/"), request.method:
            case ["v1", "search"], "POST":
                asked = await request.json()
                found = [page for page in self.pages.values() if not page["in_trash"]]
                return _page_of(found, asked.get("start_cursor"), asked.get("page_size", 100))
            case ["v1", "pages", page], "GET" if page in self.pages:
                return reply(self.pages[page])
            case ["v1", "blocks", above, "children"], "GET" if above in self.blocks:
                size = int(request.query.get("page_size", 100))
                return _page_of(self.blocks[above], request.query.get("start_cursor"), size)
        return self.not_found()


def _title(page: dict[str, Any]) -> str:
    return str(page["properties"]["Name"]["title"][0]["plain_text"])


def _page_of(items: list[dict[str, Any]], start: str | None, size: int) -> web.Response:
    if not 1 <= size <= 100:
        return _error(400, "validation_error", "page_size should be between 1 and 100.")
    ids = [item["id"] for item in items]
    if start is not None and start not in ids:
        return _error(400, "validation_error", "The start_cursor provided is invalid.")
    first = ids.index(start) if start else 0
    following = ids[first + size] if first + size < len(ids) else None
    return reply(
        {
            "object": "list",
            "results": items[first : first + size],
            "next_cursor": following,
            "has_more": following is not None,
        }
    )


def _error(status: int, code: str, message: str) -> web.Response:
    return reply({"object": "error", "status": status, "code": code, "message": message}, status)
