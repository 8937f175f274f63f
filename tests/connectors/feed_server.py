"""A site with feeds, written and served by Django."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings
from django.contrib.syndication.views import Feed
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path
from django.utils.feedgenerator import Atom1Feed, Rss201rev2Feed

PUBLISHED_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@dataclass
class Site:
    """`feeds` are texts by name; feeds are at `NAME.rss` and `NAME.atom` below `url`, and each text has a page.

    A feed has `entries_per_page` of them, if that is not 0, and leads to the page with older ones. `pages` are those of
    entries whose page says something else. Targets in `statuses`, and feeds that it names, are answered with that
    status. `requests` are the targets that were asked for.
    """

    url: str = ""
    feeds: dict[str, dict[str, str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    entries_per_page: int = 0
    requests: list[str] = field(default_factory=list)
    authorization: str | None = None  # None: nobody is asked for it


SITES: dict[str, Site] = {}
_NAMES = (f"site-{number}" for number in itertools.count())


class _Shown(NamedTuple):
    """A page of a feed."""

    site: Site
    name: str
    page: int
    address: str


class _Entry(NamedTuple):
    site: Site
    feed: str
    name: str


class _RssPages(Rss201rev2Feed):  # type: ignore[misc]
    def add_root_elements(self, handler: Any) -> None:
        super().add_root_elements(handler)
        if self.feed["older"]:
            handler.addQuickElement("atom:link", None, {"rel": "next", "href": self.feed["older"]})


class _AtomPages(Atom1Feed):  # type: ignore[misc]
    def add_root_elements(self, handler: Any) -> None:
        super().add_root_elements(handler)
        if self.feed["older"]:
            handler.addQuickElement("link", None, {"rel": "next", "href": self.feed["older"]})


class _Entries(Feed):  # type: ignore[misc]
    title = "Entries"
    link = "/"
    description = "What was written"
    feed_type = _RssPages
    item_guid_is_permalink = False
    item_pubdate = PUBLISHED_AT
    item_author_name = "Ann Author"
    item_categories = ("news", "docs")

    def get_object(self, request: HttpRequest, site: str, name: str) -> _Shown:
        if name not in SITES[site].feeds:
            raise Http404
        return _Shown(SITES[site], name, int(request.GET.get("page", "0")), request.path)

    def items(self, shown: _Shown) -> Sequence[_Entry]:
        site, name, page, _ = shown
        names = list(site.feeds[name])
        count = site.entries_per_page or len(names)
        return [_Entry(site, name, each) for each in names[page * count : (page + 1) * count]]

    def feed_extra_kwargs(self, shown: _Shown) -> dict[str, Any]:
        following = (shown.page + 1) * shown.site.entries_per_page
        has_older = 0 < following < len(shown.site.feeds[shown.name])
        return {"older": f"{shown.address}?page={shown.page + 1}" if has_older else None}

    def item_title(self, entry: _Entry) -> str:
        return entry.site.titles.get(entry.name, "")

    def item_description(self, entry: _Entry) -> str:
        return entry.site.feeds[entry.feed][entry.name]

    def item_link(self, entry: _Entry) -> str:
        return f"{entry.site.url}pages/{entry.feed}/{quote(entry.name, safe='')}"

    def item_guid(self, entry: _Entry) -> str:
        return entry.name


class _AtomEntries(_Entries):
    feed_type = _AtomPages
    subtitle = _Entries.description


def _answer_page(request: HttpRequest, site: str, feed: str, name: str) -> HttpResponse:
    text = SITES[site].pages.get(name, SITES[site].feeds.get(feed, {}).get(name))
    if text is None:
        return HttpResponse(status=404)
    return HttpResponse(text, content_type=f"text/{'html' if '<' in text else 'plain'}; charset=utf-8")


class _Answering:
    """Notes what is asked, and refuses what a test wants refused."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        _, name, rest = request.get_full_path().split("/", 2)
        site = SITES[name]
        site.requests.append(rest)
        status = site.statuses.get(rest, site.statuses.get(rest.partition(".")[0]))
        if site.authorization not in (None, request.headers.get("Authorization")):
            status = 401
        response: HttpResponseBase = HttpResponse(status=status) if status else self._get_response(request)
        return response


urlpatterns = [
    path("<site>/<name>.rss", _Entries()),
    path("<site>/<name>.atom", _AtomEntries()),
    path("<site>/pages/<feed>/<path:name>", _answer_page),
]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def feed_server() -> Iterator[str]:
    """Yield the URL of a running server without sites."""
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["127.0.0.1"],
            ROOT_URLCONF=__name__,
            MIDDLEWARE=[f"{__name__}._Answering", "django.middleware.http.ConditionalGetMiddleware"],
            USE_TZ=True,
            LOGGING_CONFIG=None,
        )
        django.setup()
    with make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def new_site(server: str) -> Site:
    name = next(_NAMES)
    site = SITES[name] = Site(f"{server}/{name}/")
    return site
