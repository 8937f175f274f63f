"""The client of sources on the web: whom it asks, how often, and what it takes for an answer."""

import gzip
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate

import anyio
import pytest
from aiohttp import web
from multidict import CIMultiDict

from connectors.kit.http import ATTEMPTS_MAX, RETRY_AFTER_MAX_S, HttpClient, HttpFault, HttpSettings, check_url
from connectors.kit.paging import LoopingListing, pages

from .web_server import WebServer, web_server

NOW = 1_790_000_000.0


@dataclass
class Clock:
    """Time that only passes where somebody sleeps."""

    now: float = NOW
    slept: list[float] = field(default_factory=list)
    set_forward_s: float = 0.0  # since the start, the time of day alone

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


Answer = Callable[[web.Request], web.StreamResponse]


@asynccontextmanager
async def asking(answer: Answer, **settings: object) -> AsyncIterator[tuple[HttpClient, WebServer, Clock]]:
    async def answering(request: web.Request) -> web.StreamResponse:
        return answer(request)

    async with web_server(answering) as server:
        clock = Clock()
        settings = {"allow_private_hosts": True, "requests_per_s": 1000, **settings}
        client = HttpClient(
            HttpSettings.model_validate(settings), [server.url],
            sleep=clock.sleep, clock=lambda: clock.now, now=lambda: clock.now + clock.set_forward_s, chance=lambda: 0.5,
        )  # fmt: skip
        try:
            yield client, server, clock
        finally:
            await client.aclose()


def asking_for_statuses(
    *statuses: int, **headers: str
) -> AbstractAsyncContextManager[tuple[HttpClient, WebServer, Clock]]:
    left = list(statuses)
    return asking(lambda _: web.Response(status=left.pop(0), text="text", headers=headers))


# ------------------------------------------------------------------------------------------------ patience


async def test_an_answer_comes_whole_with_what_the_server_says_of_it() -> None:
    async with asking(lambda _: web.Response(body=b"text" * 100_000, headers={"ETag": '"1"'})) as (client, server, _):
        response = await client.get(server.url + "/a?b=c", bytes_max=10**6)

    assert (response.status, response.content) == (200, b"text" * 100_000)
    assert response.headers["etag"] == '"1"'
    assert server.requests == ["GET /a?b=c"]


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 410, 501])
async def test_a_refusal_that_is_about_the_document_is_an_answer(status: int) -> None:
    async with asking_for_statuses(status) as (client, server, clock):
        response = await client.get(server.url, bytes_max=100)

    assert response.status == status
    assert clock.slept == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_passing_failure_is_asked_again_longer_apart_each_time(status: int) -> None:
    async with asking_for_statuses(status, status, status, 200) as (client, server, clock):
        response = await client.get(server.url, bytes_max=100)

    assert response.status == 200
    assert [wait for wait in clock.slept if wait >= 0.5] == [0.5, 1.0, 2.0]


async def test_what_goes_on_failing_is_a_fault_in_the_end() -> None:
    """An error page must never be taken for the document."""
    async with asking(lambda _: web.Response(status=503)) as (client, server, _):
        with pytest.raises(HttpFault, match="503 Service Unavailable") as raised:
            await client.get(server.url + "/page?token=secret", bytes_max=100)

    assert raised.value.is_passing
    assert "secret" not in str(raised.value)
    assert len(server.requests) == ATTEMPTS_MAX


@pytest.mark.parametrize("said", ["7", formatdate(NOW + 7, usegmt=True)])
async def test_the_servers_own_wish_to_be_left_alone_is_obeyed(said: str) -> None:
    left = [429, 200]
    async with asking(lambda _: web.Response(status=left.pop(0), headers={"Retry-After": said})) as (
        client,
        server,
        clock,
    ):
        await client.get(server.url, bytes_max=100)

    assert clock.now == pytest.approx(NOW + 7, abs=0.1)


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "0"},
        {"Retry-After": formatdate(NOW - 7, usegmt=True)},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"},
    ],
)
async def test_a_server_that_names_a_time_that_is_over_is_not_pressed(headers: dict[str, str]) -> None:
    """As many say `Retry-After: 0`, or the seconds that are left where others say when."""
    left = [503, 503, 503, 200]
    async with asking(lambda _: web.Response(status=left.pop(0), headers=headers)) as (client, server, clock):
        await client.get(server.url, bytes_max=100)

    assert clock.now >= NOW + 0.5 + 1 + 2


async def test_a_used_up_quota_is_waited_for_until_it_is_renewed() -> None:
    """GitHub says 403, and when to come again."""
    left = [403, 200]
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NOW) + 60)}
    async with asking(lambda _: web.Response(status=left.pop(0), headers=headers)) as (client, server, clock):
        response = await client.get(server.url, bytes_max=100)

    assert response.status == 200
    assert clock.now == pytest.approx(NOW + 60, abs=0.1)


async def test_a_wish_that_is_too_long_is_left_to_the_next_run() -> None:
    headers = {"Retry-After": str(RETRY_AFTER_MAX_S + 1)}
    async with asking(lambda _: web.Response(status=429, headers=headers)) as (client, server, clock):
        with pytest.raises(HttpFault, match="left alone for 301 s") as raised:
            await client.get(server.url, bytes_max=100)

    assert raised.value.retry_after_s == RETRY_AFTER_MAX_S + 1
    assert clock.slept == []


async def test_one_request_that_is_throttled_makes_all_wait() -> None:
    """The others would only be refused, too."""
    left = [429, 200, 200]
    async with asking(lambda _: web.Response(status=left.pop(0), headers={"Retry-After": "7"})) as (
        client,
        server,
        clock,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: client.get(server.url + "/a", bytes_max=100))
        assert clock.now >= NOW + 7
        before = clock.now
        await client.get(server.url + "/b", bytes_max=100)

    assert clock.now < before + 1


async def test_requests_begin_no_faster_than_the_settings_allow() -> None:
    async with asking(lambda _: web.Response(text="text"), requests_per_s=2) as (client, server, clock):
        for _ in range(11):
            await client.get(server.url, bytes_max=100)

    assert clock.now - NOW == pytest.approx(5)


async def test_what_a_redirect_leads_to_is_a_request_like_others() -> None:
    def answer(request: web.Request) -> web.Response:
        step = int(request.path[1:])
        return web.Response(status=302, headers={"Location": f"/{step + 1}"}) if step < 4 else web.Response(text="text")

    async with asking(answer, requests_per_s=2) as (client, server, clock):
        await client.get(server.url + "/0", bytes_max=100)

    assert len(server.requests) == 5
    assert clock.now - NOW == pytest.approx(2)


async def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    async with asking(lambda _: web.Response(text="text")) as (client, server, clock):
        await client.get(server.url, bytes_max=100)
        clock.set_forward_s = -3600.0
        await client.get(server.url, bytes_max=100)

    assert sum(clock.slept) < 1


async def test_requests_begin_as_far_apart_as_the_server_wishes() -> None:
    """As its robots.txt may say; never closer than the settings allow."""
    async with asking(lambda _: web.Response(text="text"), requests_per_s=2) as (client, server, clock):
        client.keep_apart(3)
        client.keep_apart(0.1)
        for _ in range(3):
            await client.get(server.url, bytes_max=100)

    assert clock.now - NOW == pytest.approx(6)


async def test_no_more_requests_are_under_way_than_the_settings_allow() -> None:
    under_way = most = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        under_way -= 1
        return web.Response(text="text")

    async with web_server(answer) as server:
        settings = HttpSettings(connections=3, requests_per_s=1000, allow_private_hosts=True)
        client = HttpClient(settings, [server.url])
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(lambda: client.get(server.url, bytes_max=100))
        await client.aclose()

    assert most <= 3


async def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    broken = True

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal broken
        if not broken:
            return web.Response(text="whole text")
        broken = False
        response = web.StreamResponse()
        response.content_length = 10
        await response.prepare(request)
        await response.write(b"whole")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with web_server(answer) as server:
        client = HttpClient(HttpSettings(allow_private_hosts=True), [server.url], sleep=Clock().sleep)
        response = await client.get(server.url, bytes_max=100)
        await client.aclose()

    assert response.content == b"whole text"


TEXT = b"".join(b"line %d\n" % number for number in range(2_000))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)[2:-4]),
        ("identity", TEXT),
    ],
)
async def test_what_is_packed_is_unpacked(encoding: str, packed: bytes) -> None:
    headers = {"Content-Encoding": encoding}
    async with asking(lambda _: web.Response(body=packed, headers=headers)) as (client, server, _):
        assert (await client.get(server.url, bytes_max=len(TEXT))).content == TEXT


@pytest.mark.parametrize(
    ("encoding", "packed", "code"),
    [
        ("gzip", gzip.compress(TEXT)[:-1], "no_answer"),
        ("gzip", gzip.compress(TEXT)[:3_000], "no_answer"),
        ("gzip", gzip.compress(TEXT)[:3], "no_answer"),
        ("gzip", gzip.compress(TEXT) + b"more", "no_answer"),
        ("gzip", TEXT, "no_answer"),
        ("deflate", zlib.compress(TEXT)[:3_000], "no_answer"),
        ("gzip", gzip.compress(TEXT + b"x"), "too_large"),
        ("br", b"text", "encoding"),
        ("gzip, deflate", b"text", "encoding"),
    ],
)
async def test_what_cannot_be_unpacked_to_its_end_is_no_answer(encoding: str, packed: bytes, code: str) -> None:
    """Its length may be just what the server said, as where a proxy stored what broke off."""
    headers = {"Content-Encoding": encoding}
    async with asking(lambda _: web.Response(body=packed, headers=headers)) as (client, server, _):
        with pytest.raises(HttpFault) as raised:
            await client.get(server.url, bytes_max=len(TEXT))

    assert raised.value.code == code


async def test_a_server_that_is_not_there_is_a_fault() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = HttpClient(HttpSettings(allow_private_hosts=True), [url], sleep=Clock().sleep)
        with pytest.raises(HttpFault, match=r"no whole answer: no connection: Connection refused$") as raised:
            await client.get(url, bytes_max=100)
        await client.aclose()

    assert raised.value.code == "no_answer"


@pytest.mark.parametrize("is_packed", [False, True])
async def test_no_more_is_read_than_allowed(is_packed: bool) -> None:
    """Also of what unpacks to more than it looks."""

    def answer(_: web.Request) -> web.Response:
        response = web.Response(body=b"0" * 10_000_000)
        if is_packed:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async with asking(answer) as (client, server, _):
        with pytest.raises(HttpFault, match="more than 1,000,000 bytes") as raised:
            await client.get(server.url, bytes_max=1_000_000)

    assert not raised.value.is_passing
    assert len(server.requests) == 1


async def test_a_header_may_be_as_long_as_browsers_take_it() -> None:
    """Policies of what a page may load have more than 8 KB on some sites."""
    headers = {"Content-Security-Policy": "x" * 30_000}
    async with asking(lambda _: web.Response(text="text", headers=headers)) as (client, server, _):
        assert (await client.get(server.url, bytes_max=100)).content == b"text"


async def test_a_header_that_comes_twice_is_heard_whole() -> None:
    """Of two headers Link, either may say that there is a next page."""
    headers = CIMultiDict([("Link", '</2>; rel="next"'), ("Link", '</9>; rel="last"')])
    async with asking(lambda _: web.Response(headers=headers)) as (client, server, _):
        response = await client.get(server.url, bytes_max=100)

    assert response.headers["link"] == '</2>; rel="next", </9>; rel="last"'


# ---------------------------------------------------------------------------------------------- whom it asks


async def test_a_redirect_is_followed_and_told() -> None:
    def answer(request: web.Request) -> web.Response:
        return (
            web.Response(text="text") if request.path == "/b" else web.Response(status=301, headers={"Location": "b"})
        )

    async with asking(answer) as (client, server, _):
        response = await client.get(server.url + "/a", bytes_max=100)

    assert (response.url, response.content) == (server.url + "/b", b"text")


async def test_a_redirect_is_an_answer_for_those_who_follow_themselves() -> None:
    """A crawler asks robots.txt before each step."""
    headers = {"Location": "/b"}
    async with asking(lambda _: web.Response(status=308, headers=headers)) as (client, server, _):
        response = await client.get(server.url + "/a", bytes_max=100, follows_redirects=False)

    assert (response.status, response.url, response.headers["location"]) == (308, server.url + "/a", "/b")
    assert server.requests == ["GET /a"]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/a", "bad_redirect"),
        ("/a?again", "bad_redirect"),
        ("", "bad_redirect"),
        ("http://[broken/", "not_allowed"),
        ("file:///etc/passwd", "not_allowed"),
        ("ftp://example.org/", "not_allowed"),
        ("http://user:password@example.org/", "not_allowed"),
        ("http://example.org:22/", "not_allowed"),
        ("http://169.254.169.254/latest/meta-data/", "not_allowed"),
        ("http://[fd00:ec2::254]/", "not_allowed"),
        ("http://[::ffff:169.254.169.254]/", "not_allowed"),
        ("http://10.0.0.1/", "not_allowed"),
        ("http://[::1]/", "not_allowed"),
        ("http://localhost/", "not_allowed"),
        ("http://0xA9FEA9FE/", "not_allowed"),
        ("http://\uff11\uff16\uff19.254.169.254/", "not_allowed"),
        ("http://169\u3002254\u3002169\u3002254/", "not_allowed"),
        ("http://2852039166/", "no_answer"),
        ("http://0/", "no_answer"),
    ],
)
async def test_a_redirect_leads_to_no_place_that_is_not_for_us(target: str, code: str) -> None:
    """Neither round in circles, nor to what only this machine can reach: credentials lie there."""
    async with asking(lambda _: web.Response(status=302, headers={"Location": target})) as (client, server, _):
        with pytest.raises(HttpFault) as raised:
            await client.get(server.url + "/a?again", bytes_max=100)

    assert raised.value.code == code
    assert set(server.requests) == {"GET /a?again"} | ({"GET /a"} if target == "/a" else set())


async def test_a_private_address_must_be_permitted() -> None:
    async with asking(lambda _: web.Response(), allow_private_hosts=False) as (client, server, _):
        with pytest.raises(HttpFault, match=r"http\.allow_private_hosts: true"):
            await client.get(server.url, bytes_max=100)
        with pytest.raises(HttpFault, match=r"http\.allow_private_hosts: true"):
            await client.get(server.url.replace("127.0.0.1", "localhost"), bytes_max=100)

    assert server.requests == []


async def test_a_name_whose_address_is_private_is_asked_only_if_it_is_the_sources_own() -> None:
    """Whatever it resolves to by now: the connection goes to the address that was looked at."""
    async with asking(lambda _: web.Response()) as (client, server, _):
        with pytest.raises(HttpFault) as raised:
            await client.get(server.url.replace("127.0.0.1", "localhost"), bytes_max=100)

    assert raised.value.code == "not_allowed"
    assert server.requests == []


async def test_a_secret_goes_to_the_host_that_it_is_for_and_no_other() -> None:
    heard: list[str | None] = []

    async def other(request: web.Request) -> web.StreamResponse:
        heard.append(request.headers.get("Authorization"))
        return web.Response(text="text")

    async with web_server(other) as elsewhere:

        async def answer(request: web.Request) -> web.StreamResponse:
            heard.append(request.headers.get("Authorization"))
            return web.Response(status=302, headers={"Location": elsewhere.url})

        async with web_server(answer) as server:
            client = HttpClient(HttpSettings(allow_private_hosts=True), [server.url, elsewhere.url])
            await client.get(server.url, bytes_max=100, headers={"Authorization": "Bearer secret"})
            await client.aclose()

    assert heard == ["Bearer secret", None]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "file:///x",
        "http://",
        "https://user@example.org",
        "http://a b/",
        "http://x:99999/",
        "http://x:0/",
    ],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"should|is not"):
        check_url(url)


async def test_it_can_be_asked_again_after_it_was_closed() -> None:
    async with asking(lambda _: web.Response()) as (client, server, _):
        await client.get(server.url, bytes_max=100)
        await client.aclose()
        assert (await client.get(server.url, bytes_max=100)).status == 200


# ------------------------------------------------------------------------------------------------- paging


async def test_pages_come_in_order_until_there_are_no_more() -> None:
    async def ask(place: int | None) -> tuple[str, int | None]:
        number = place or 0
        return f"page {number}", number + 1 if number < 3 else None

    assert [page async for page in pages(ask)] == ["page 0", "page 1", "page 2", "page 3"]


async def test_pages_that_lead_round_in_circles_end_with_an_error() -> None:
    async def ask(place: int | None) -> tuple[str, int | None]:
        return f"page {place}", {None: 1, 1: 2, 2: 1}[place]

    with pytest.raises(LoopingListing):
        [page async for page in pages(ask)]
