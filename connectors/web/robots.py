"""What the servers of a site wish crawlers to leave alone: RFC 9309."""

from typing import TYPE_CHECKING

import anyio

from connectors.kit.http import HttpClient, HttpFault
from connectors.web.addresses import origin_of
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from protego import Protego

ROBOTS_BYTES_MAX = 1024 * 1024
CRAWL_DELAY_MAX_S = 30.0  # longer ones stand in files that were copied; a run would take weeks


class Robots:
    """The rules of each server, asked for when they are first needed."""

    def __init__(self, client: HttpClient, user_agent: str) -> None:
        self._client = client
        self._user_agent = user_agent or "memsync"
        self._rules: dict[str, Protego | HttpFault] = {}
        self._asking = anyio.Lock()

    def forget(self) -> None:
        """Ask again from now on."""
        self._rules.clear()

    async def may_ask(self, url: str) -> bool:
        """Whether the server permits that we ask for `url`.

        Raises:
            HttpFault: it does not tell; then nothing may be asked.
        """
        rules = await self._rules_of(origin_of(url))
        return bool(rules.can_fetch(url, self._user_agent))

    async def sitemaps(self, url: str) -> list[str]:
        """The sitemaps that the robots.txt at `url` names.

        Raises:
            HttpFault: there is no such file, or it cannot be read.
        """
        response = await self._client.get(url, bytes_max=ROBOTS_BYTES_MAX)
        if response.status != 200:
            raise _no_rules(url, response.status)
        return list(_rules_in(response.content).sitemaps)

    async def _rules_of(self, origin: str) -> "Protego":
        async with self._asking:
            if origin not in self._rules:
                self._rules[origin] = await self._ask(origin + "robots.txt")
        rules = self._rules[origin]
        if isinstance(rules, HttpFault):
            raise rules
        return rules

    async def _ask(self, url: str) -> "Protego | HttpFault":
        try:
            response = await self._client.get(url, bytes_max=ROBOTS_BYTES_MAX)
        except HttpFault as fault:
            return fault
        if response.status != 200 and not 400 <= response.status < 500:
            return _no_rules(url, response.status)
        rules = _rules_in(response.content if response.status == 200 else b"")
        delay_s = rules.crawl_delay(self._user_agent)
        if delay_s:
            self._client.keep_apart(min(delay_s, CRAWL_DELAY_MAX_S))
        return rules


def _no_rules(url: str, status: int) -> HttpFault:
    return HttpFault(str(status), f"{url} answered {status}", is_passing=False)


def _rules_in(content: bytes) -> "Protego":
    try:
        from protego import Protego  # noqa: PLC0415 - only this type of source needs it
    except ImportError as error:
        raise ConfigurationError(
            "Reading websites needs Protego, which is not installed: pip install 'agentcore-memory-sync[web]'"
        ) from error
    return Protego.parse(content.decode("utf-8-sig", "replace"))
