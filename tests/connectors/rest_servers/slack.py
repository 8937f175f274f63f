"""Slack, Web API: channels, their messages and threads. It says with status 200 what went wrong."""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .api import FakeApi, after_cursor, is_bearer, reply

Message = dict[str, Any]


@dataclass
class Slack(FakeApi):
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, dict[str, Message]] = field(default_factory=dict)  # by channel and time
    threads: dict[tuple[str, str], list[Message]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)

    def channel(self, name: str, *, is_member: bool = True) -> str:
        channel = f"C{next(self.numbers):08}"
        self.channels[channel] = {"id": channel, "name": name, "is_member": is_member, "is_archived": False}
        self.messages[channel] = {}
        return channel

    def say(self, channel: str, text: str, **said: Any) -> str:
        ts = f"{next(self.times)}.{next(self.numbers):06}"
        self.messages[channel][ts] = {"type": "message", "user": "U1", "text": text, "ts": ts, **said}
        return ts

    def reply(self, channel: str, ts: str, text: str) -> Message:
        thread = self.threads.setdefault((channel, ts), [])
        said = f"{next(self.times)}.{next(self.numbers):06}"
        thread.append({"type": "message", "user": "U2", "text": text, "ts": said, "thread_ts": ts})
        self.messages[channel][ts] |= {"thread_ts": ts, "reply_count": len(thread), "latest_reply": said}
        return thread[-1]

    def unauthorized(self, request: web.Request) -> web.Response | None:
        if "Authorization" not in request.headers:
            return _error("not_authed")
        return None if is_bearer(request) else _error("invalid_auth")

    def not_found(self) -> web.Response:
        return _error("unknown_method")

    async def respond(self, request: web.Request) -> web.StreamResponse:
        channel, ts = request.query.get("channel", ""), request.query.get("ts", "")
        method = request.path.rpartition("/")[2]
        if method == "conversations.list":
            found = [item for _, item in sorted(self.channels.items()) if not item["is_archived"]]
            return _page_of(request, "channels", found, lambda item: item["id"])
        if channel not in self.channels:
            return _error("channel_not_found")
        if channel in self.closed or not self.channels[channel]["is_member"]:
            return _error("not_in_channel")
        if method == "conversations.history":
            newest_first = [item for _, item in sorted(self.messages[channel].items(), reverse=True)]
            return _page_of(request, "messages", newest_first, lambda item: -float(item["ts"]), has_more=True)
        if method == "conversations.replies":
            if ts not in self.messages[channel]:
                return _error("thread_not_found")
            thread = [self.messages[channel][ts], *self.threads.get((channel, ts), ())]
            return _page_of(request, "messages", thread, lambda item: float(item["ts"]), has_more=True)
        return self.not_found()


def _page_of(
    request: web.Request, name: str, items: list[Message], key: Any, *, has_more: bool = False
) -> web.Response:
    limit = int(request.query.get("limit", 100))
    page, cursor = after_cursor(items, request.query.get("cursor") or None, limit, key)
    said = {"has_more": cursor is not None} if has_more else {}
    following = {} if has_more and cursor is None else {"response_metadata": {"next_cursor": cursor or ""}}
    return reply({"ok": True, name: page, **said, **following})


def _error(code: str) -> web.Response:
    return reply({"ok": False, "error": code})
