"""GitHub, REST API: the issues of a repository and the comments on them."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .api import FakeApi, is_bearer, reply

REPOSITORY = "/repos/example/handbook"


@dataclass
class GitHub(FakeApi):
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    moved: dict[int, int] = field(default_factory=dict)  # transferred issues, and what they are now

    def put(self, title: str, body: str | None, *, is_pull_request: bool = False) -> int:
        """Add the issue with this title or edit it; its number."""
        number = next((n for n, issue in self.issues.items() if issue["title"] == title), None) or next(self.numbers)
        self.issues[number] = {
            "id": 9_000_000 + number,
            "number": number,
            "title": title,
            "body": body,
            "state": "open",
            "labels": [{"id": 1, "name": "docs"}],
            "user": {"login": "octocat"},
            "html_url": f"https://github.com/example/handbook/issues/{number}",
            "created_at": self.now(),
            "updated_at": self.now(),
            **({"pull_request": {"url": ""}} if is_pull_request else {}),
        }
        return number

    def comment(self, issue: int, body: str) -> int:
        number = 5_000_000 + next(self.numbers)
        url = f"https://github.com/example/handbook/issues/{issue}#issuecomment-{number}"
        user = {"login": "octocat"}
        self.comments[number] = {"id": number, "body": body, "html_url": url, "user": user, "updated_at": self.now()}
        return number

    def remove(self, number: int) -> None:
        del self.issues[number]
        self.deleted.add(number)

    def unauthorized(self, request: web.Request) -> web.Response | None:
        if is_bearer(request):
            return None
        return reply({"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}, 401)

    def not_found(self) -> web.Response:
        return reply(
            {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}, 404
        )

    async def respond(self, request: web.Request) -> web.StreamResponse:
        match request.path.removeprefix(REPOSITORY).strip("/").split("/"):
            case ["issues"]:
                return self._page_of(request, [self.issues[number] for number in sorted(self.issues)])
            case ["issues", "comments"]:
                return self._page_of(request, [self.comments[number] for number in sorted(self.comments)])
            case ["issues", "comments", number] if int(number) in self.comments:
                return reply(self.comments[int(number)])
            case ["issues", number] if int(number) in self.issues:
                return reply(self.issues[int(number)])
            case ["issues", number] if int(number) in self.deleted:
                return reply({"message": "This issue was deleted", "documentation_url": "https://docs.github.com"}, 410)
            case ["issues", number] if int(number) in self.moved:
                to = f"{self.url}{REPOSITORY}/issues/{self.moved[int(number)]}"
                return web.Response(status=301, headers={"Location": to})
        return self.not_found()

    def _page_of(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        size = min(int(request.query.get("per_page", 30)), 100)
        number = int(request.query.get("page", 1))
        last = max((len(items) + size - 1) // size, 1)
        links = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
        if number == 1:
            del links["prev"], links["first"]
        if number >= last:
            del links["next"], links["last"]
        written = ", ".join(
            f'<{self.url}{request.rel_url.update_query(page=n)}>; rel="{rel}"' for rel, n in links.items()
        )
        headers = {"Link": written} if written else {}
        return reply(items[(number - 1) * size : number * size], headers={"X-RateLimit-Remaining": "4999", **headers})
