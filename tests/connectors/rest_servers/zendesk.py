"""Zendesk, Help Center API and Ticketing API: articles, and tickets with their comments."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .api import FakeApi, after_cursor, encode_cursor, is_basic, reply


@dataclass
class Zendesk(FakeApi):
    articles: dict[int, dict[str, Any]] = field(default_factory=dict)
    tickets: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def article(self, title: str, body: str, *, draft: bool = False) -> int:
        """Add the article with this title or edit it; its number."""
        number = next((n for n, item in self.articles.items() if item["title"] == title), None) or next(self.numbers)
        self.articles[number] = {
            "id": number,
            "title": title,
            "body": body,
            "draft": draft,
            "locale": "en-us",
            "label_names": ["docs"],
            "html_url": f"https://example.zendesk.com/hc/en-us/articles/{number}",
            "edited_at": self.now(),
            "updated_at": self.now(),
        }
        return number

    def ticket(self, subject: str, text: str) -> int:
        number = next(self.numbers)
        self.tickets[number] = {"id": number, "subject": subject, "status": "open", "tags": ["a"]}
        self.comments[number] = []
        self.comment(number, text)
        return number

    def comment(self, ticket: int, text: str, *, public: bool = True) -> None:
        said = {"id": next(self.numbers), "plain_body": text, "public": public, "type": "Comment"}
        self.comments[ticket].append(said)
        self.tickets[ticket]["updated_at"] = self.now()

    def unauthorized(self, request: web.Request) -> web.Response | None:
        if is_basic(request, "reader@example.com/token"):
            return None
        return reply({"error": "Couldn't authenticate you"}, 401)

    def not_found(self) -> web.Response:
        return reply({"error": "RecordNotFound", "description": "Not found"}, 404)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        match request.path.strip("/").split("/")[2:]:
            case ["help_center", "articles"]:
                return self._page_of(request, "articles", [self.articles[n] for n in sorted(self.articles)])
            case ["help_center", "articles", number] if int(number) in self.articles:
                return reply({"article": self.articles[int(number)]})
            case ["tickets"]:
                return self._page_of(request, "tickets", [self.tickets[n] for n in sorted(self.tickets)])
            case ["tickets", number] if int(number) in self.tickets:
                return reply({"ticket": self.tickets[int(number)]})
            case ["tickets", number, "comments"] if int(number) in self.tickets:
                return self._page_of(request, "comments", self.comments[int(number)])
        return self.not_found()

    def _page_of(self, request: web.Request, name: str, items: list[dict[str, Any]]) -> web.Response:
        size = min(int(request.query.get("page[size]", 100)), 100)
        cursor = request.query.get("page[after]")
        page, following = after_cursor(items, cursor, size, lambda item: int(item["id"]))
        # As the real one: the last page has an address of a next one, too, which is empty.
        after = following or (cursor if not page else _cursor_of(page))
        links = {"prev": None, "next": f"{self.url}{request.rel_url.update_query({'page[after]': after or ''})}"}
        meta = {"has_more": following is not None, "after_cursor": after, "before_cursor": None}
        return reply({name: page, "meta": meta, "links": links})


def _cursor_of(page: Any) -> str:
    return encode_cursor(int(page[-1]["id"]))
