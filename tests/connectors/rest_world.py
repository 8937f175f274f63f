"""The example configurations, pointed at servers that answer as the vendors' own do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import pytest

from connectors.rest.connector import RestConnector
from connectors.rest.settings import RestSettings
from pipeline.configuration.yaml_source import read_yaml

from .rest_servers.api import SECRET, FakeApi
from .web_server import WebServer, web_server

CONFIGS = Path(__file__).parents[2] / "configs"
VARIABLES = ("CONFLUENCE_TOKEN", "JIRA_TOKEN", "GITHUB_TOKEN", "NOTION_TOKEN", "SLACK_TOKEN", "ZENDESK_TOKEN")
PAGE_SIZES = ("limit", "per_page", "page_size", "maxResults", "page[size]")

ApiT = TypeVar("ApiT", bound=FakeApi)


def give_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, SECRET)


def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails for a passing reason is not asked for again."""
    monkeypatch.setattr("connectors.kit.http.ATTEMPTS_MAX", 1)


def example(file: str, url: str, *, page_size: int | None = None, **options: Any) -> dict[str, Any]:
    """The section `source` of an example, for the server at `url`."""
    values: dict[str, Any] = read_yaml(CONFIGS / file).values["source"]
    values["base_url"] = url + urlsplit(values["base_url"]).path
    values["http"] = {"allow_private_hosts": True, "requests_per_s": 1000}
    if page_size is not None:
        _set_sizes(values, page_size)
    return {**values, **options}


def _set_sizes(values: Any, size: int) -> None:
    if isinstance(values, dict):
        for name, value in values.items():
            if name in PAGE_SIZES:
                values[name] = size
            else:
                _set_sizes(value, size)
    elif isinstance(values, list):
        for value in values:
            _set_sizes(value, size)


@dataclass
class RestWorld(Generic[ApiT]):
    """An API and connectors that read it as the example says."""

    api: ApiT
    server: WebServer
    file: str
    opened: list[RestConnector] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url

    def connector(self, *, url: str | None = None, page_size: int | None = None, **options: Any) -> RestConnector:
        return self.connector_of(example(self.file, url or self.url, page_size=page_size, **options))

    def connector_of(self, values: dict[str, Any], **arguments: Any) -> RestConnector:
        connector = RestConnector(RestSettings.model_validate(values), Path("/"), **arguments)
        self.opened.append(connector)
        return connector

    def requests(self) -> list[str]:
        """What was asked for since the last call, without the host."""
        asked, self.server.requests = self.server.requests, []
        return asked


@asynccontextmanager
async def rest_world(api: ApiT, file: str) -> AsyncIterator[RestWorld[ApiT]]:
    async with web_server(api.answer) as server:
        api.url = server.url
        world = RestWorld(api, server, file)
        try:
            yield world
        finally:
            for connector in world.opened:
                await connector.aclose()
