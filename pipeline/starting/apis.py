"""What an answer in JSON says of the API that gave it: where its records are, and what is in which of their fields."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from connectors.kit.secrets import SECRET_PARAMETER
from pipeline.starting.draft import Setting, source_setting

DEPTH_MAX = 4
RECORDS_LOOKED_AT = 20

IDS = ("id", "uuid", "key", "slug", "_id", "number")
TITLES = ("title", "name", "subject", "headline", "summary")
TEXTS = ("body", "content", "text", "description", "message", "markdown", "html", "excerpt")
TIMES = ("updated_at", "updatedAt", "modified_at", "modifiedAt", "last_modified", "modified", "updated")
NEXT_ADDRESSES = ("next", "next_url", "nexturl", "next_page", "@odata.nextlink", "nextlink")
PARAMETER_BY_CURSOR = {
    "next_cursor": "cursor",
    "nextcursor": "cursor",
    "next_page_token": "page_token",
    "nextpagetoken": "pageToken",
    "continuation_token": "continuation_token",
}
ADDRESSES = ("html_url", "web_url", "permalink", "link", "url")

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # what JMESPath takes without quotes
_HTML = re.compile(r"<(p|div|h[1-6]|ul|br|a)\b", re.IGNORECASE)


def described_api(url: str, answer: object, link_header: str = "") -> tuple[Setting, ...]:
    """The settings of an API whose listing at `url` gave `answer`, as far as one answer can tell."""
    parts = urlsplit(url)
    folder, _, last = parts.path.rpartition("/")
    base_url = urlunsplit((parts.scheme, parts.netloc, f"{folder}/", "", ""))
    params = {name: value for name, value in parse_qsl(parts.query) if not is_secret(name)}
    records, found = next(iter(sorted(_lists(answer), key=lambda each: -len(each[1]))), ("@", ()))
    resource = {
        "name": re.sub(r"[^a-z0-9_-]+", "-", last.partition(".")[0].lower()).strip("-_0123456789") or "records",
        "path": last,
        **({"params": params} if params else {}),
        **({} if records == "@" else {"records": records}),
        **fields_of(found[:RECORDS_LOOKED_AT]),
    }
    paging = paging_of(answer, link_header)
    how = (
        "as the answer goes on"
        if paging
        else "one answer is all; if it is not, see docs/rest.md: what is missing there is deleted"
    )
    return (
        source_setting("base_url", base_url, "what the paths of all requests are below"),
        source_setting("pagination", paging or {"type": "none"}, how),
        source_setting(
            "resources",
            [resource],
            "as one answer looked: are id, title and text right? docs/rest.md has what else can be said",
        ),
    )


def is_secret(parameter: str) -> bool:
    """Whether what an address says under this name is no business of a file."""
    return parameter.lower() == "key" or SECRET_PARAMETER.fullmatch(parameter) is not None


def secret_of(url: str) -> tuple[Setting, str] | None:
    """How the secret in an address is sent instead, and the secret itself; None if there is none."""
    for name, value in parse_qsl(urlsplit(url).query):
        if is_secret(name) and value:
            return Setting(("source", "auth"), {"type": "api_key", "name": name, "location": "query"}), value
    return None


def paging_of(answer: object, link_header: str) -> dict[str, str] | None:
    """How the answer says that there is more; None if it does not."""
    if 'rel="next"' in link_header or "rel=next" in link_header:
        return {"type": "link_header"}
    for path, name, value in _words(answer):
        if name.lower() in NEXT_ADDRESSES and value.startswith(("http://", "https://", "/")):
            return {"type": "next_url", "path": path}
        if name.lower() in PARAMETER_BY_CURSOR and value:
            return {"type": "cursor", "param": PARAMETER_BY_CURSOR[name.lower()], "path": path}
    return None


def fields_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which fields of the records are what, told from their names and from what is in them."""
    if not records:
        return {"text": "text"}
    names = [name for name in records[0] if all(name in record for record in records)]
    ids = [name for name in names if all(isinstance(record[name], str | int) for record in records)]
    words = [name for name in names if all(isinstance(record[name], str | None) for record in records)]
    lengths = {name: sum(len(record[name] or "") for record in records) / len(records) for name in words}
    text = _first(TEXTS, words) or max(words, key=lambda name: lengths[name], default="text")
    named = {
        "id": _first(IDS, ids) or "id",
        "title": _first(TITLES, [name for name in words if name != text]),
        "text": text,
        "modified_at": _first(TIMES, names),
        "uri": _first(ADDRESSES, [name for name in words if str(records[0][name]).startswith("http")]),
    }
    found: dict[str, Any] = {key: _path(name) for key, name in named.items() if name}
    if any(_HTML.search(str(record.get(text))) for record in records):
        found["format"] = "html"
    return found


def _lists(answer: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """The lists of objects in an answer, each with its path."""
    if isinstance(answer, list) and answer and all(isinstance(each, dict) for each in answer):
        yield path or "@", answer
    elif isinstance(answer, dict) and depth < DEPTH_MAX:
        for name, value in answer.items():
            yield from _lists(value, f"{path}.{_path(name)}" if path else _path(name), depth + 1)


def _words(answer: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """The path, the name and the value of each word that stands beside the records, and not in them."""
    if isinstance(answer, dict) and depth < DEPTH_MAX:
        for name, value in answer.items():
            here = f"{path}.{_path(name)}" if path else _path(name)
            if isinstance(value, str):
                yield here, name, value
            yield from _words(value, here, depth + 1)


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    by_letters = {name.lower(): name for name in names}
    return next((by_letters[name.lower()] for name in wanted if name.lower() in by_letters), None)


def _path(name: str) -> str:
    if _BARE.fullmatch(name):
        return name
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'
