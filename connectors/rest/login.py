"""What is sent to an API so that it lets us in."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import orjson
from anyio import Lock
from pydantic import SecretStr

from connectors.kit.http import HttpClient, HttpFault
from connectors.kit.secrets import secret_of
from connectors.rest.settings import ApiKeyAuth, Auth, BasicAuth, BearerAuth, OAuth2Auth
from pipeline.errors import SourceError

TOKEN_BYTES_MAX = 1024 * 1024
TOKEN_LIFE_S = 3600.0  # of a token that does not tell
TOKEN_SPARE_S = 30.0  # before its end, a token is asked for anew


@dataclass
class Login:
    """What is sent so that we are let in."""

    auth: Auth | None
    client: HttpClient
    now: Callable[[], float]
    _token: str | None = None
    _ends_at: float = 0.0
    _asking: Lock = field(default_factory=Lock)
    _secrets: set[str] = field(default_factory=set)

    @property
    def can_be_renewed(self) -> bool:
        return isinstance(self.auth, OAuth2Auth)

    @property
    def advice(self) -> str:
        match self.auth:
            case None:
                return "Say with `source.auth` how to log in."
            case BearerAuth(token_variable=variable) | ApiKeyAuth(key_variable=variable):
                pass
            case BasicAuth(password_variable=variable) | OAuth2Auth(client_secret_variable=variable):
                pass
        held = "its reference stands for" if variable is None else f"the environment variable {variable} holds"
        return f"Check `source.auth` and what {held}."

    def hidden(self, words: str) -> str:
        """`words` without the secrets that were sent."""
        for secret in self._secrets:
            words = words.replace(secret, "…").replace(quote(secret, safe=""), "…")
        return words

    def forget(self, refused: Mapping[str, str]) -> None:
        """Let go of the token of these headers, unless another has had a new one meanwhile."""
        if refused == _bearer(self._token or ""):
            self._token = None

    async def headers_and_params(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        match self.auth:
            case None:
                return {}, {}
            case BearerAuth() as auth:
                return _bearer(self._secret("token", auth.token, auth.token_variable)), {}
            case BasicAuth() as auth:
                password = self._secret("password", auth.password, auth.password_variable)
                pair = base64.b64encode(f"{auth.user}:{password}".encode()).decode()
                self._secrets.add(pair)
                return {"Authorization": f"Basic {pair}"}, {}
            case ApiKeyAuth() as auth:
                key = auth.prefix + self._secret("key", auth.key, auth.key_variable)
                return ({auth.name: key}, {}) if auth.location == "header" else ({}, {auth.name: key})
            case OAuth2Auth() as auth:
                async with self._asking:
                    if self._token is None or self.now() >= self._ends_at:
                        await self._ask_for_token(auth)
                    return _bearer(self._token or ""), {}

    def _secret(self, setting: str, given: SecretStr | None, variable: str | None) -> str:
        secret = secret_of(f"auth.{setting}", given, variable).strip()
        if not secret.isprintable():
            raise SourceError(f"The secret holds characters that cannot be sent. Nothing was done. {self.advice}")
        self._secrets.add(secret)
        return secret

    async def _ask_for_token(self, auth: OAuth2Auth) -> None:
        secret = self._secret("client_secret", auth.client_secret, auth.client_secret_variable)
        said = {"grant_type": "client_credentials", **auth.params, "client_id": auth.client_id, "client_secret": secret}
        try:
            response = await self.client.request(
                "POST", auth.token_url, bytes_max=TOKEN_BYTES_MAX, headers={"Accept": "application/json"}, data=said
            )
            problem = f"{response.status}" if response.status != 200 else "no token"
        except HttpFault as fault:
            raise SourceError(
                f"No token could be had from {auth.token_url}: {self.hidden(str(fault))}. Nothing was concluded from"
                " that."
            ) from None
        try:
            answer = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            answer = None
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if response.status != 200 or not isinstance(token, str) or not token.isprintable():
            raise SourceError(
                f"No token could be had from {auth.token_url}: it answered {problem}. Nothing was concluded from that."
                f" {self.advice}"
            )
        life = answer.get("expires_in")
        self._secrets.add(token)
        self._token = token
        life_s = float(life) if isinstance(life, int | float) else TOKEN_LIFE_S
        self._ends_at = self.now() + life_s - TOKEN_SPARE_S


def _bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}
