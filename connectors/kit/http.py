"""A client that asks the web servers of a source: politely, patiently, and nobody else."""

import ipaddress
import os
import random
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from time import monotonic, time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urljoin, urlsplit

import anyio
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

REDIRECTS_MAX = 5
ATTEMPTS_MAX = 5  # of one request
BACKOFF_S, BACKOFF_MAX_S = 0.5, 30.0  # before the second attempt, doubled before each further one
RETRY_AFTER_MAX_S = 300.0  # a source that wants to be left alone for longer is left to the next run
SLOW_FACTOR = 10  # how many times the allowed silence a whole answer may take
YOUNG = timedelta(seconds=2)  # a time in whole seconds, and a tag made of it, hide an edit in the same second
HEADER_BYTES_MAX = 64 * 1024  # of one
USUAL_PORTS = {80, 443}

# Statuses that say nothing of what was asked for, only of the moment.
PASSING = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
THROTTLED = {403, 429, 503}  # with a word about when to come again; 403 is how GitHub says it
REDIRECTS = {301, 302, 303, 307, 308}

NO_ANSWER, TOO_LARGE, NOT_ALLOWED, BAD_REDIRECT = "no_answer", "too_large", "not_allowed", "bad_redirect"

# Where clouds keep the credentials of a machine; no source lies there.
NEVER = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fd00:ec2::/32"))


def check_url(url: str) -> str:
    """Return `url` if it is one of a web server, without user and password.

    Raises:
        ValueError: it is not.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or not url.isprintable() or " " in url:
        raise ValueError("should be a URL such as https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError("should have no user and password in it")
    return url


WebUrl = Annotated[
    str, AfterValidator(check_url), WithJsonSchema({"type": "string", "pattern": r"^https?://[^/@]+([/?#].*)?$"})
]


class HttpSettings(BaseModel):
    """How a source's servers are asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int = Field(default=4, ge=1, le=64, description="How many requests may be under way at once.")
    requests_per_s: float = Field(
        default=10.0, gt=0, le=1000, description="How many requests begin in a second, at the most."
    )
    timeout_s: float = Field(default=60.0, gt=0, description="After how many seconds of silence a request is given up.")
    allow_private_hosts: bool = Field(
        default=False,
        description="Permit that the source's own hosts have addresses that only your network or machine can reach.",
    )
    user_agent: str = Field(
        default="",
        max_length=256,
        pattern=r"^[ -~]*$",
        description="How memsync introduces itself to the servers; empty: `memsync/VERSION`.",
    )

    def require_safe(self, urls: Iterable[str]) -> None:
        """See that a secret may be sent to `urls`.

        Raises:
            ValueError: anybody on the way could read it.
        """
        if not self.allow_private_hosts and any(urlsplit(url).scheme != "https" for url in urls):
            raise ValueError("secrets go to addresses with `https://` only, or with `http.allow_private_hosts: true`")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, whole. `url` is where it came from after redirects; names in `headers` are in small letters.

    Of a header that came several times, the values are one, with commas between them (RFC 9110, 5.3).
    """

    status: int
    url: str
    headers: Mapping[str, str]
    content: bytes

    @property
    def media_type(self) -> str | None:
        return self.headers.get("content-type")


class HttpFault(Exception):
    """A request got no answer that could be used; `code` is one word for why, such as `no_answer`.

    `is_passing` tells that it says nothing of what was asked for: it may be there and fine. `retry_after_s` is the
    server's own wish that was too long to wait for.
    """

    def __init__(self, code: str, message: str, *, is_passing: bool = True, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.is_passing = is_passing
        self.retry_after_s = retry_after_s


class HttpClient:
    """Asks the servers of one source.

    - At most so many requests at once and in a second; one that is throttled makes all wait.
    - What fails for a passing reason is asked again, longer apart each time; `Retry-After` is obeyed.
    - Only `own_hosts` may have private addresses, and only if the settings allow it; no redirect, no name that changes
      its address meanwhile, leads anywhere else inside of your network. Proxies of the environment are not used.
    - An answer is whole or none: what breaks off is asked for again, also if it is only what was packed that does.

    `sleep`, `clock` (seconds, never set back), `now` (seconds since the epoch) and `chance` (from 0 to 1) are there for
    tests.
    """

    def __init__(
        self,
        settings: HttpSettings,
        own_urls: Collection[str],
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], float] = time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._own_hosts = {urlsplit(url).hostname for url in own_urls}
        self._own_ports = {urlsplit(url).port for url in own_urls} | USUAL_PORTS | {None}
        self._sleep, self._clock, self._now, self._chance = sleep, clock, now, chance
        self._limiter = anyio.CapacityLimiter(settings.connections)
        self._next_at = 0.0  # when the next request may begin, by the clock
        self._apart_s = 1 / settings.requests_per_s
        self._resources = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close the connections. It opens them again if it is asked for more."""
        self._session = None
        await self._resources.aclose()

    def keep_apart(self, seconds: float) -> None:
        """Let at least `seconds` pass between the beginnings of two requests from now on."""
        self._apart_s = max(self._apart_s, seconds)

    async def get(
        self, url: str, *, bytes_max: int, headers: Mapping[str, str] | None = None, follows_redirects: bool = True
    ) -> HttpResponse:
        """Return what `request` does. Without `follows_redirects`, a redirect is an answer like any other."""
        return await self.request(
            "GET", url, bytes_max=bytes_max, headers=headers, redirects_max=REDIRECTS_MAX if follows_redirects else 0
        )

    async def request(
        self,
        method: str,
        url: str,
        *,
        bytes_max: int,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        data: Mapping[str, str] | None = None,
        redirects_max: int = REDIRECTS_MAX,
    ) -> HttpResponse:
        """Return the answer, of whatever status that is about what was asked for: 404 is an answer, 503 is none.

        Redirects are followed, unless `redirects_max` is 0. Only for requests that may be repeated. `headers` may hold
        secrets: they go to the host of `url` alone.

        Raises:
            HttpFault: there is no such answer, also after several attempts; or it is larger than `bytes_max`; or `url`,
                or where it leads to, may not be asked.
        """
        send = partial(
            self._follow,
            method,
            url,
            bytes_max=bytes_max,
            headers=headers or {},
            json=json,
            data=data,
            redirects_max=redirects_max,
        )
        for attempt in range(1, ATTEMPTS_MAX + 1):
            wait_s = min(BACKOFF_S * 2 ** (attempt - 1), BACKOFF_MAX_S) * (0.5 + self._chance())
            try:
                async with self._limiter:
                    response = await send()
            except HttpFault as fault:
                if not fault.is_passing or attempt == ATTEMPTS_MAX:
                    raise
            else:
                asked_s = _retry_after_s(response, self._now())
                if response.status not in PASSING and not (response.status in THROTTLED and asked_s is not None):
                    return response
                if asked_s is not None:
                    if asked_s > RETRY_AFTER_MAX_S:
                        raise _throttled(url, response, asked_s)
                    wait_s = max(wait_s, asked_s)  # some name a time that is over
                if response.status in THROTTLED:  # it is the client that is too fast, and not this request
                    self._next_at = max(self._next_at, self._clock() + wait_s)
                if attempt == ATTEMPTS_MAX:
                    raise HttpFault(str(response.status), f"{_where(url)} answered {_status(response.status)}")
            await self._sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _wait_for_turn(self) -> None:
        now = self._clock()
        at = max(self._next_at, now)
        self._next_at = at + self._apart_s
        if at > now:
            await self._sleep(at - now)

    async def _follow(
        self,
        method: str,
        url: str,
        *,
        bytes_max: int,
        headers: Mapping[str, str],
        json: object,
        data: Mapping[str, str] | None,
        redirects_max: int,
    ) -> HttpResponse:
        at = url
        for _ in range(redirects_max + 1):
            self._require_allowed(at)
            await self._wait_for_turn()
            sent = headers if _origin(at) == _origin(url) else {}
            response = await self._send(method, at, bytes_max=bytes_max, headers=sent, json=json, data=data)
            if response.status not in REDIRECTS or redirects_max == 0:
                return response
            target = _target(at, response)
            if urlsplit(at).scheme == "https" and urlsplit(target).scheme != "https":
                raise HttpFault(BAD_REDIRECT, f"{_where(url)} leads away from https", is_passing=False)
            if method != "GET" or target == at:
                raise HttpFault(BAD_REDIRECT, f"{_where(url)} answered {_status(response.status)}", is_passing=False)
            at = target
        raise HttpFault(BAD_REDIRECT, f"{_where(url)} leads from one address to the next", is_passing=False)

    def _require_allowed(self, url: str) -> None:
        try:
            # Digits of other scripts have become an address in it.
            host = (_as_sent(check_url(url)).raw_host or "").lower()
        except ValueError:
            raise HttpFault(NOT_ALLOWED, "it leads to something that is no web address", is_passing=False) from None
        parts = urlsplit(url)
        if parts.port not in self._own_ports:
            raise HttpFault(NOT_ALLOWED, f"it leads to port {parts.port} of {parts.hostname}", is_passing=False)
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return  # a name: the resolver looks at its addresses
        if not self._may_ask(host, address):
            raise _private(host)

    def _may_ask(self, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if any(address in network for network in NEVER if network.version == address.version):
            return False
        if address.is_global and not address.is_multicast:
            return True
        return self._settings.allow_private_hosts and host in self._own_hosts

    async def _send(
        self,
        method: str,
        url: str,
        *,
        bytes_max: int,
        headers: Mapping[str, str],
        json: object,
        data: Mapping[str, str] | None,
    ) -> HttpResponse:
        import aiohttp  # noqa: PLC0415 - settings are checked without the client

        session = await self._open_session()
        try:
            async with session.request(
                method, _as_sent(url), headers=headers, json=json, data=data, allow_redirects=False
            ) as answer:
                content = await _read(answer, bytes_max) if answer.status not in REDIRECTS else b""
                named = {name.lower(): ", ".join(answer.headers.getall(name)) for name in answer.headers}
                return HttpResponse(answer.status, url, named, content)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                words = f"no connection: {_reason(error.os_error)}"
            else:
                words = str(error) if isinstance(error, aiohttp.ClientConnectionError) else ""
            raise HttpFault(
                NO_ANSWER, f"{_where(url)} gave no whole answer: {words or type(error).__name__}"
            ) from error

    async def _open_session(self) -> "aiohttp.ClientSession":
        if self._session is None:
            import aiohttp  # noqa: PLC0415 - see above

            self._session = session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.connections, resolver=self._resolver()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=self._settings.timeout_s * SLOW_FACTOR,
                    sock_connect=self._settings.timeout_s,
                    sock_read=self._settings.timeout_s,
                ),
                headers={
                    "User-Agent": self._settings.user_agent or f"memsync/{_own_version()}",
                    "Accept-Encoding": "gzip, deflate",
                },
                max_line_size=HEADER_BYTES_MAX,
                max_field_size=HEADER_BYTES_MAX,
                auto_decompress=False,  # it takes a packed body that breaks off for a whole one
            )
            self._resources.push_async_callback(session.close)
        return self._session

    def _resolver(self) -> Any:
        from aiohttp import ThreadedResolver  # noqa: PLC0415 - see above
        from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415

        may_ask = self._may_ask

        class CheckingResolver(AbstractResolver):
            """Connections go to the very addresses that were looked at here: there is no second look-up."""

            def __init__(self) -> None:
                self._inner = ThreadedResolver()

            async def resolve(
                self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
            ) -> list[ResolveResult]:
                found = await self._inner.resolve(host, port, family)
                allowed = [one for one in found if may_ask(host, ipaddress.ip_address(one["host"].partition("%")[0]))]
                if found and not allowed:
                    raise _private(host)
                return allowed

            async def close(self) -> None:
                await self._inner.close()

        return CheckingResolver()


async def _read(answer: "aiohttp.ClientResponse", bytes_max: int) -> bytes:
    """The body, unpacked.

    Raises:
        HttpFault: it has more than `bytes_max`, of which no more was read; or it cannot be unpacked to its end.
    """
    encodings = {part.strip().lower() for part in answer.headers.get("Content-Encoding", "").split(",")}
    unpacking = _Unpacking(encodings - {"", "identity"})
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += unpacking.take(piece, bytes_max + 1 - len(content))
        if len(content) > bytes_max:
            raise HttpFault(TOO_LARGE, f"the answer has more than {bytes_max:,} bytes", is_passing=False)
    if not unpacking.is_whole:
        raise HttpFault(NO_ANSWER, "the answer is packed and breaks off")
    return bytes(content)


class _Unpacking:
    """Unpacks a body piece by piece."""

    def __init__(self, encodings: Collection[str]) -> None:
        self._kind = "".join(encodings).removeprefix("x-")
        if len(encodings) > 1 or self._kind not in ("", "gzip", "deflate"):
            raise HttpFault("encoding", f"the answer has the content encoding {', '.join(encodings)}", is_passing=False)
        self._unzip: zlib._Decompress | None = None

    @property
    def is_whole(self) -> bool:
        return self._unzip is None or self._unzip.eof

    def take(self, piece: bytes, length_max: int) -> bytes:
        """What `piece` unpacks to, up to `length_max` bytes, behind which nothing more may be asked for."""
        if not self._kind:
            return piece
        unpacked = bytearray()
        while piece and len(unpacked) < length_max:
            if self._unzip is None or self._unzip.eof:  # gzip may have several parts
                self._unzip = zlib.decompressobj(self._window_bits(piece))
            try:
                unpacked += self._unzip.decompress(piece, length_max - len(unpacked))
            except zlib.error as error:
                raise HttpFault(NO_ANSWER, f"the answer is said to be {self._kind} and is not") from error
            piece = self._unzip.unused_data
        return bytes(unpacked)

    def _window_bits(self, start: bytes) -> int:
        if self._kind == "gzip":
            return 31
        return 15 if start[0] & 0x0F == zlib.DEFLATED else -15  # servers differ in what they call deflate


def _retry_after_s(response: HttpResponse, now: float) -> float | None:
    """How long the server wishes to be left alone, in seconds; None if it says nothing of it."""
    headers = response.headers
    said = headers.get("retry-after", "").strip()
    if said.replace(".", "", 1).isdecimal():
        return float(said)
    if said:
        try:
            return max(parsedate_to_datetime(said).astimezone(UTC).timestamp() - now, 0.0)
        except (ValueError, OverflowError):
            return None
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return max(float(reset) - now, 0.0)
    return None


def _throttled(url: str, response: HttpResponse, wait_s: float) -> HttpFault:
    return HttpFault(
        str(response.status),
        f"{_where(url)} answered {_status(response.status)} and wants to be left alone for {wait_s:,.0f} s",
        retry_after_s=wait_s,
    )


def _private(host: str) -> HttpFault:
    return HttpFault(
        NOT_ALLOWED,
        f"{host} has an address that only your network or machine can reach; `http.allow_private_hosts: true` permits"
        " that for the hosts that the settings name",
        is_passing=False,
    )


def _reason(error: OSError) -> str:
    """What the operating system says, and not how that was asked."""
    if error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _where(url: str) -> str:
    """The address without its query, which can hold a secret."""
    return url.partition("?")[0]


def _target(url: str, redirect: HttpResponse) -> str:
    """Where a redirect leads from `url`."""
    location = redirect.headers.get("location", "")
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # no web address, as whoever asks for it finds


def _as_sent(url: str) -> "URL":
    """The address as the client asks for it: one in ASCII as it stands.

    Raises:
        ValueError: it cannot be asked for.
    """
    from yarl import URL  # noqa: PLC0415 - see above

    return URL(url, encoded=url.isascii())


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _own_version() -> str:
    try:
        return version("agentcore-memory-sync")
    except PackageNotFoundError:
        return "0"


def http_time(text: str | None) -> datetime | None:
    """The moment that a header such as Last-Modified tells; None if it tells none."""
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None


def validators_of(response: HttpResponse) -> tuple[str | None, str | None]:
    """ETag and Last-Modified to ask with the next time, if they will tell the next edit, too."""
    headers = response.headers
    at, now = http_time(headers.get("last-modified")), http_time(headers.get("date"))
    if at is not None and (now is None or now - at < YOUNG):
        return None, None
    return headers.get("etag"), headers.get("last-modified") if at is not None else None
