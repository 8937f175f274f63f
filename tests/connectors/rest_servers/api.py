"""What the servers here have in common: they answer as an API's description says, of what a test has put into them."""

import base64
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from aiohttp import web

Item = TypeVar("Item")

SECRET = "canary-7f3c-secret"

Answering = Callable[[web.Request], Any]


@dataclass
class FakeApi:
    """A server's memory. `refused` answers are given before any other, one after the other.

    `times` are a clock of its own, a minute apart: no two changes share a time.
    """

    url: str = ""
    refused: list[web.Response] = field(default_factory=list)
    is_gone: bool = False  # every path answers 404, as after a move
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    times: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1_700_000_000, 60))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.refused:
            return self.refused.pop(0)
        if self.is_gone:
            return self.not_found()
        return self.unauthorized(request) or await self.respond(request)

    def unauthorized(self, request: web.Request) -> web.Response | None:
        """The answer to who is not let in; None for who is."""
        raise NotImplementedError

    async def respond(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    def not_found(self) -> web.Response:
        raise NotImplementedError

    def now(self) -> str:
        return iso(next(self.times))


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def is_bearer(request: web.Request) -> bool:
    return request.headers.get("Authorization") == f"Bearer {SECRET}"


def is_basic(request: web.Request, user: str) -> bool:
    pair = base64.b64encode(f"{user}:{SECRET}".encode()).decode()
    return request.headers.get("Authorization") == f"Basic {pair}"


def after_cursor(
    items: Sequence[Item], cursor: str | None, limit: int, key: Callable[[Item], Any]
) -> tuple[Sequence[Item], str | None]:
    """The items behind a cursor, which names the last one seen, and the next cursor; `items` are sorted by `key`."""
    after = json.loads(base64.urlsafe_b64decode(cursor))["after"] if cursor else None
    rest = [item for item in items if after is None or key(item) > after]
    page = rest[:limit]
    return page, encode_cursor(key(page[-1])) if len(rest) > limit else None


def encode_cursor(after: object) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": after}).encode()).decode()


def reply(content: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(content, status=status, headers=headers)
