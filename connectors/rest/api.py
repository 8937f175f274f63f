"""What is asked of an API: one request, and what its answer says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import orjson

from connectors.kit.http import HttpClient, HttpFault, HttpResponse
from connectors.rest.login import Login
from connectors.rest.settings import PLACEHOLDER, Listing, OAuth2Auth, Request, RestSettings, compiled
from pipeline.errors import SourceError

WORDS_MAX = 200  # characters of what an API says to an error

NO_JSON = "no_json"


class Fault(Exception):
    """The API refused a request, or what it answered cannot be used; `code` is its word for that, or ours.

    `is_passing` tells that it says nothing of what was asked for.
    """

    def __init__(self, code: str, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_passing = is_passing


def find(expression: str, value: object) -> Any:
    """What stands at a path of JMESPath; None if nothing does, or if one of its functions does not take it."""
    from jmespath.exceptions import JMESPathError  # noqa: PLC0415 - see `compiled`

    try:
        return compiled(expression).search(value)
    except JMESPathError:  # whose words hold the value
        return None


def is_true(value: object) -> bool:
    """What JMESPath takes for true: everything but false, null and what is empty."""
    return (value == 0 and not isinstance(value, bool)) or bool(value)


@dataclass(frozen=True, slots=True)
class Question:
    """A request with nothing left open in it."""

    url: str
    method: str = "GET"
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`content` is what the JSON says, `at` when it was said, in seconds since the epoch, by the server's clock."""

    url: str
    headers: Mapping[str, str]
    content: Any
    at: float


class Api:
    """Asks the API that the settings describe. `now` is in seconds since the epoch."""

    def __init__(self, settings: RestSettings, *, now: Callable[[], float] = time) -> None:
        self._settings = settings
        self._now = now
        token_urls = [settings.auth.token_url] if isinstance(settings.auth, OAuth2Auth) else []
        self._client = HttpClient(settings.http, [settings.base_url, *token_urls])
        self._login = Login(settings.auth, self._client, now)
        says_what_it_accepts = any(name.lower() == "accept" for name in settings.headers)
        self._headers = {**({} if says_what_it_accepts else {"Accept": "application/json"}), **settings.headers}
        self._base_url = settings.base_url.rstrip("/")

    async def aclose(self) -> None:
        await self._client.aclose()

    def question(self, request: Request, ids: Mapping[str, str]) -> Question:
        """What `request` asks for if its placeholders stand for these ids."""
        path = _filled(request.path, ids, _in_path).lstrip("/")
        url = f"{self._base_url}/{path}" if path else self._base_url  # not `urljoin`: it takes `notes:search` for a URL
        url = _with_params(url, {name: _filled_values(value, ids) for name, value in request.params.items()})
        if isinstance(request, Listing) and request.method == "POST":
            return Question(url, "POST", _filled_body(request.body or {}, ids))
        return Question(url)

    async def ask(self, question: Question) -> Answer:
        """The answer to a question, which has a status of success and is JSON.

        Raises:
            Fault: there is no such answer.
            SourceError: the API does not let us in.
        """
        if _origin(question.url) != _origin(self._base_url):
            raise Fault("other_host", f"{where(question.url)} is not where `base_url` is and was not asked")
        for is_second in (False, True):
            headers, params = await self._login.headers_and_params()
            response = await self._send(question, headers, params)
            if response.status == 401 and not is_second and self._login.can_be_renewed:
                self._login.forget(headers)
                continue
            break
        if response.status == 401:
            raise SourceError(
                f"{where(question.url)} does not let us in: 401 Unauthorized{self._words(response)}. Nothing was"
                f" concluded from that. {self._login.advice}"
            )
        if not 200 <= response.status < 300:
            raise Fault(
                str(response.status), f"{where(question.url)} answered {response.status}{self._words(response)}"
            )
        content = self._json(question, response)
        self._require_no_error(question, content)
        return Answer(response.url, response.headers, content, self._said_at(response))

    async def _send(self, question: Question, headers: Mapping[str, str], params: Mapping[str, str]) -> HttpResponse:
        try:
            return await self._client.request(
                question.method,
                _with_params(question.url, params),
                bytes_max=self._settings.max_bytes,
                headers={**self._headers, **headers},
                json=question.body,
            )
        except HttpFault as fault:
            raise Fault(fault.code, self._login.hidden(str(fault)), is_passing=fault.is_passing) from None

    def _json(self, question: Question, response: HttpResponse) -> Any:
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError:
            kind = (response.media_type or "of no type").partition(";")[0]
            raise Fault(NO_JSON, f"what {where(question.url)} answered is no JSON ({kind})") from None

    def _require_no_error(self, question: Question, content: Any) -> None:
        said = None if self._settings.error is None else find(self._settings.error, content)
        if is_true(said):
            words = self._shown(said)
            raise Fault(_as_code(words), f"{where(question.url)} answered with an error: {words}")

    def _words(self, response: HttpResponse) -> str:
        """What the API says to an error, if it is JSON of a usual form."""
        try:
            said = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            return ""
        if isinstance(said, dict):
            words = next((said[name] for name in ("message", "error", "detail", "title") if said.get(name)), None)
            if isinstance(words, dict):
                words = words.get("message")
            if isinstance(words, str):
                return f": {self._shown(words)}"
        return ""

    def _shown(self, said: object) -> str:
        words = " ".join(said.split()) if isinstance(said, str) else type(said).__name__
        return self._login.hidden(words)[:WORDS_MAX].rstrip(".")

    def _said_at(self, response: HttpResponse) -> float:
        try:
            return parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, OverflowError):
            return self._now()


# -------------------------------------------------------------------------------------------------- placeholders


def _filled(template: str, ids: Mapping[str, str], written: Callable[[str, bool], str]) -> str:
    return PLACEHOLDER.sub(lambda found: written(ids[found[2]], bool(found[1])), template)


def filled_uri(template: str, ids: Mapping[str, str]) -> str:
    """The address that a template with placeholders stands for."""
    return _filled(template, ids, lambda text, keeps_slashes: quote(text, safe="/" if keeps_slashes else ""))


def _in_path(text: str, keeps_slashes: bool) -> str:
    if any(step in ("", ".", "..") for step in (text.split("/") if keeps_slashes else [text])):
        raise Fault("unusable_id", "an id cannot stand in a path")
    return quote(text, safe="/" if keeps_slashes else "")


def _filled_values(value: Any, ids: Mapping[str, str]) -> list[str]:
    values = value if isinstance(value, tuple | list) else [value]
    return [_filled(item, ids, _as_it_is) if isinstance(item, str) else _plain(item) for item in values]


def _as_it_is(text: str, _: bool) -> str:
    return text


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filled_body(value: Any, ids: Mapping[str, str]) -> Any:
    match value:
        case str():
            return PLACEHOLDER.sub(lambda found: ids.get(found[2], found[0]), value)
        case list() | tuple():
            return [_filled_body(item, ids) for item in value]
        case Mapping():
            return {name: _filled_body(item, ids) for name, item in value.items()}
        case _:
            return value


def with_param(question: Question, name: str, value: object) -> Question:
    return replace(question, url=_with_params(question.url, {name: [str(value)]}))


def _with_params(url: str, params: Mapping[str, Any]) -> str:
    """`url` with these parameters in the place of those of the same names."""
    if not params:
        return url
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in params]
    added = [
        (name, item) for name, values in params.items() for item in ([values] if isinstance(values, str) else values)
    ]
    return urlunsplit(parts._replace(query=urlencode(kept + added, quote_via=quote)))


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", None, None


def where(url: str) -> str:
    return url.partition("?")[0]


def _as_code(words: str) -> str:
    return words if words.replace("_", "").isalnum() else "error"
