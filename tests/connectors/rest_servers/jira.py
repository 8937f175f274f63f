"""Jira Cloud, REST API v3: issues with their comments."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .api import FakeApi, after_cursor, is_basic, reply


def adf(*paragraphs: str) -> dict[str, Any]:
    """A document of the Atlassian Document Format."""
    content = [{"type": "paragraph", "content": [{"type": "text", "text": text}]} for text in paragraphs]
    return {"type": "doc", "version": 1, "content": content}


@dataclass
class Jira(FakeApi):
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)

    def put(self, summary: str, *paragraphs: str) -> int:
        """Add the issue with this summary or edit it; its number."""
        found = next((n for n, issue in self.issues.items() if issue["fields"]["summary"] == summary), None)
        number = found or 10_000 + next(self.numbers)
        fields = self.issues[number]["fields"] if found else {"comment": _comments([]), "labels": ["docs"]}
        self.issues[number] = {
            "expand": "operations",
            "id": str(number),
            "key": f"DOCS-{number - 10_000}",
            "self": f"https://example.atlassian.net/rest/api/3/issue/{number}",
            "fields": {
                **fields,
                "summary": summary,
                "description": adf(*paragraphs) if paragraphs else None,
                "updated": self.now().replace("Z", "+0000"),
                "status": {"name": "Open", "id": "1"},
                "project": {"id": "10000", "key": "DOCS"},
            },
        }
        return number

    def move(self, number: int, project: str) -> None:
        """Move the issue to another project, in which it has another key."""
        self.issues[number]["key"] = f"{project}-1"
        self.issues[number]["fields"]["project"] = {"id": "10001", "key": project}

    def comment(self, number: int, text: str) -> None:
        fields = self.issues[number]["fields"]
        fields["comment"] = _comments([*(said["body"] for said in fields["comment"]["comments"]), adf(text)])
        fields["updated"] = self.now().replace("Z", "+0000")

    def unauthorized(self, request: web.Request) -> web.Response | None:
        if is_basic(request, "reader@example.com"):
            return None
        return web.Response(status=401, text="Client must be authenticated to access this resource.")

    def not_found(self) -> web.Response:
        message = "Issue does not exist or you do not have permission to see it."
        return reply({"errorMessages": [message], "errors": {}}, 404)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        names = {name for said in request.query.getall("fields", []) for name in said.split(",")}
        match request.path.strip("/").split("/"):
            case ["rest", "api", "3", "search", "jql"]:
                if not request.query.get("jql", "").strip() or request.query["jql"].lower().startswith("order"):
                    return reply({"errorMessages": ["Unbounded JQL queries are not allowed here."], "errors": {}}, 400)
                limit = min(int(request.query.get("maxResults", 50)), 100)
                project = request.query["jql"].removeprefix("project = ").partition(" ")[0]
                items = [
                    (number, issue)
                    for number, issue in sorted(self.issues.items())
                    if issue["fields"]["project"]["key"] == project
                ]
                page, token = after_cursor(items, request.query.get("nextPageToken"), limit, lambda item: item[0])
                following = {"nextPageToken": token} if token else {}
                issues = [_with_fields(issue, names) for _, issue in page]
                return reply({"issues": issues, **following, "isLast": token is None})
            case ["rest", "api", "3", "issue", name]:
                found = next((issue for issue in self.issues.values() if name in (issue["id"], issue["key"])), None)
                return self.not_found() if found is None else reply(_with_fields(found, names))
        return self.not_found()


def _comments(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    comments = [{"id": str(number), "body": body} for number, body in enumerate(bodies)]
    return {"comments": comments, "maxResults": len(bodies), "total": len(bodies), "startAt": 0}


def _with_fields(issue: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {**issue, "fields": {name: value for name, value in issue["fields"].items() if name in names}}
