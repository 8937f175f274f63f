"""What `type: rest` can be told."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from connectors.kit.http import HttpSettings, WebUrl
from connectors.kit.one_or_more import OneOrMore
from connectors.kit.secrets import SECRET_PARAMETER, SecretByReference, require_one

# `{pages}` is the id of a record of the resource `pages`; `{+pages}` leaves the slashes in it as they are.
PLACEHOLDER = re.compile(r"\{(\+?)([a-z][a-z0-9_-]*)\}")
NAME = r"^[a-z][a-z0-9_-]*$"

_SECRET_HEADERS = re.compile(
    r"authorization|cookie|(^|[-_])((api|access|auth|functions|subscription)[-_]?key|token|secret|password|signature)$",
    re.IGNORECASE,
)


@lru_cache(maxsize=512)
def compiled(expression: str) -> Any:
    """The expression, ready to `search` with.

    Raises:
        ValueError: it is none of JMESPath.
    """
    import jmespath  # noqa: PLC0415 - only a source of this type needs it

    try:
        return jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).partition("\n")[0].removeprefix("Invalid jmespath expression: ").rstrip(":")
    raise ValueError(f"is no path of JMESPath: {reason}")


def _check_expression(expression: str) -> str:
    compiled(expression)
    return expression


Expression = Annotated[str, Field(min_length=1), AfterValidator(_check_expression)]
Expressions = Annotated[tuple[Expression, ...], Field(min_length=1), OneOrMore]
# In capitals: a secret that somebody puts here instead must not show as the name of a variable that is not set.
Variable = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]


class _Model(BaseModel):
    # What is refused may hold a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


# ---------------------------------------------------------------------------------------------------- logging in


class BearerAuth(_Model):
    """`Authorization: Bearer TOKEN`."""

    type: Literal["bearer"]
    token: SecretByReference | None = Field(default=None, description="The token, by reference: `${env:NAME}`.")
    token_variable: Variable | None = Field(
        default=None, description="Instead of `token`: the name of the environment variable that holds it."
    )

    @model_validator(mode="after")
    def _has_token(self) -> "BearerAuth":
        require_one("token", self.token, self.token_variable)
        return self


class BasicAuth(_Model):
    """`Authorization: Basic …`, of a user and a password or an API token."""

    type: Literal["basic"]
    user: str = Field(min_length=1, pattern=r"^[^:]+$", description="The user; for many APIs an e-mail address.")
    password: SecretByReference | None = Field(
        default=None, description="The password or the API token, by reference: `${env:NAME}`."
    )
    password_variable: Variable | None = Field(
        default=None, description="Instead of `password`: the name of the environment variable that holds it."
    )

    @model_validator(mode="after")
    def _has_password(self) -> "BasicAuth":
        require_one("password", self.password, self.password_variable)
        return self


class ApiKeyAuth(_Model):
    """A key in a header or in the query."""

    type: Literal["api_key"]
    name: str = Field(min_length=1, pattern=r"^[!-~]+$", description="The name of the header or of the parameter.")
    location: Literal["header", "query"] = Field(default="header", description="Where the key goes.")
    prefix: str = Field(default="", description="What stands before the key, such as `Token `.")
    key: SecretByReference | None = Field(default=None, description="The key, by reference: `${env:NAME}`.")
    key_variable: Variable | None = Field(
        default=None, description="Instead of `key`: the name of the environment variable that holds it."
    )

    @model_validator(mode="after")
    def _has_key(self) -> "ApiKeyAuth":
        require_one("key", self.key, self.key_variable)
        return self


class OAuth2Auth(_Model):
    """OAuth 2.0 with client credentials (RFC 6749, 4.4); a token is asked for anew when it ends."""

    type: Literal["oauth2"]
    token_url: WebUrl = Field(description="Where tokens are given out.")
    client_id: str = Field(min_length=1, description="The client's id.")
    client_secret: SecretByReference | None = Field(
        default=None, description="The client's secret, by reference: `${env:NAME}`."
    )
    client_secret_variable: Variable | None = Field(
        default=None, description="Instead of `client_secret`: the name of the environment variable that holds it."
    )
    params: dict[str, str] = Field(default={}, description="What else is said there, such as `scope` or `audience`.")

    @model_validator(mode="after")
    def _has_secret(self) -> "OAuth2Auth":
        require_one("client_secret", self.client_secret, self.client_secret_variable)
        return self


Auth = Annotated[BearerAuth | BasicAuth | ApiKeyAuth | OAuth2Auth, Field(discriminator="type")]


# ------------------------------------------------------------------------------------------------------- paging


class _Paging(_Model):
    has_more: Expression | None = Field(
        default=None, description="Where an answer says whether there is more; without it, the end is found otherwise."
    )


class NoPaging(_Model):
    """One answer has all."""

    type: Literal["none"]


class PagePaging(_Paging):
    """Pages by number, up to one that is empty."""

    type: Literal["page"]
    param: str = Field(default="page", min_length=1, description="The parameter with the number.")
    start: int = Field(default=1, ge=0, description="The first page's number.")


class OffsetPaging(_Paging):
    """Pages by the number of records before them. The last record of each is asked for again with the next, to see
    whether the listing has moved."""

    type: Literal["offset"]
    param: str = Field(default="offset", min_length=1, description="The parameter with the offset.")


class CursorPaging(_Paging):
    """Each answer holds a token for the next."""

    type: Literal["cursor"]
    param: str = Field(
        default="cursor",
        min_length=1,
        description="The parameter with the token: of the query, or, for POST, of the body, with dots if it is nested.",
    )
    path: Expression = Field(description="Where the answer holds the token; none or an empty one is the end.")


class NextUrlPaging(_Paging):
    """Each answer holds the address of the next."""

    type: Literal["next_url"]
    path: Expression = Field(description="Where the answer holds the address; none or an empty one is the end.")


class LinkHeaderPaging(_Model):
    """The header Link (RFC 8288) of each answer has the address of the next."""

    type: Literal["link_header"]


Paging = Annotated[
    NoPaging | PagePaging | OffsetPaging | CursorPaging | NextUrlPaging | LinkHeaderPaging,
    Field(discriminator="type"),
]


# ---------------------------------------------------------------------------------------------------- resources

Param = str | int | float | bool
Params = Mapping[str, Param | tuple[Param, ...]]
Format = Literal["plain", "markdown", "html", "adf", "notion"]


class Request(_Model):
    """What is asked for."""

    path: str = Field(
        pattern=r"^/?[!-~]*$", description="Below `base_url`. `{pages}` stands for the id of a record of `pages`."
    )
    params: Params = Field(default={}, description="What goes into the query; placeholders as in `path`.")


class Listing(Request):
    """A listing of records, in pages."""

    method: Literal["GET", "POST"] = Field(default="GET", description="POST for listings that are searches.")
    body: Mapping[str, JsonValue] | None = Field(
        default=None, description="What POST sends, as JSON; placeholders as in `path`."
    )
    records: Expression = Field(default="@", description="Where an answer holds its list of records.")
    pagination: Paging | None = Field(default=None, description="How the next page is asked for; null: as the source.")

    @model_validator(mode="after")
    def _has_body_with_post_only(self) -> "Listing":
        if self.body is not None and self.method != "POST":
            raise ValueError("a `body` goes with `method: POST`")
        return self


class Detail(Request):
    """The request for one record; 404 or 410 says that there is none."""

    record: Expression = Field(default="@", description="Where the answer holds the record.")


class Parts(Listing):
    """A listing whose records are the text of one document, as the blocks of a page or the replies of a thread."""

    text: Expressions = Field(description="Where a part holds its text; several are joined.")
    where: Expression | None = Field(default=None, description="True of the parts to take; null: all.")
    needed: Expression | None = Field(
        default=None, description="True of the records that have parts at all; null: of all. Others are not asked for."
    )
    nested: Expression | None = Field(
        default=None, description="True of a part that has parts itself, listed by its own id in the record's place."
    )
    nested_id: Expression = Field(default="id", description="Where a part holds its id.")


class Resource(Listing):
    """One kind of records."""

    name: str = Field(pattern=NAME, description="Its name; the ids of its documents begin with it.")
    for_each: str | None = Field(
        default=None, description="The resource, named before, for each record of which this one is listed."
    )
    parent: Expression | None = Field(
        default=None,
        description=(
            "Where a record holds the id of the one that it is listed for: one that `detail` finds with another has"
            " moved, and is another document. null: records do not move."
        ),
    )
    documents: bool = Field(
        default=True, description="Whether its records are documents, and not only what others are listed for."
    )
    id: Expression = Field(default="id", description="Where a record holds what identifies it, a word or a number.")
    where: Expression | None = Field(default=None, description="True of the records to take; null: all.")
    total: Expression | None = Field(
        default=None, description="Where an answer holds the number of all records; it is held against what came."
    )
    version: Expression | None = Field(
        default=None,
        description="What changes with every change of the record; null: title, text, address and metadata are.",
    )
    version_grain_s: float = Field(
        default=0,
        ge=0,
        description="If `version` is a time, its grain in seconds: a record that changed so lately is read again.",
    )
    title: Expression | None = Field(default=None, description="Where a record holds its title.")
    text: Expressions | None = Field(default=None, description="Where a record holds its text; several are joined.")
    format: Format = Field(
        default="plain",
        description="What the text is: plain, markdown, html, adf (of Atlassian), or notion (blocks).",
    )
    uri: str | None = Field(
        default=None,
        min_length=1,
        description="Where a record holds its address for readers; or that address, with placeholders.",
    )
    modified_at: Expression | None = Field(
        default=None, description="Where a record holds the time of its last change; without a zone it counts as UTC."
    )
    metadata: Mapping[str, Expression] = Field(default={}, description="Metadata, and where a record holds them.")
    detail: Detail | None = Field(default=None, description="The request for one record.")
    listing_has_text: bool | None = Field(
        default=None, description="Whether the text comes with the listing; null: if there is no `detail`."
    )
    parts: Parts | None = Field(default=None, description="A listing of what else the text consists of.")

    @field_validator("uri")
    @classmethod
    def _is_address_or_expression(cls, uri: str | None) -> str | None:
        return uri if uri is None or is_template(uri) else _check_expression(uri)

    @model_validator(mode="after")
    def _can_be_read(self) -> "Resource":
        if self.documents and self.text is None and self.parts is None:
            raise ValueError("`text` or `parts` should say where the text is, or `documents: false` that there is none")
        if self.listing_has_text is False and self.detail is None:
            raise ValueError("without `detail` the text must come with the listing")
        if self.parent is not None and (self.for_each is None or self.detail is None):
            raise ValueError("`parent` needs `for_each` and `detail`")
        if self.version_grain_s and self.version is None:
            raise ValueError("`version_grain_s` needs a `version`")
        return self

    @property
    def is_read_from_listing(self) -> bool:
        """Whether a document is made of the record that the listing showed."""
        return self.detail is None if self.listing_has_text is None else self.listing_has_text

    @property
    def scope(self) -> str:
        """What the ids of its documents begin with."""
        return f"{self.name}/"


class RestSettings(_Model):
    """Records of an API that answers with JSON, described by the settings."""

    type: Literal["rest"]
    base_url: WebUrl = Field(description="What the paths of all requests are below; no other host hears a secret.")
    auth: Auth | None = Field(default=None, description="How to log in: bearer, basic, api_key or oauth2; null: not.")
    headers: dict[str, str] = Field(default={}, description="Sent with every request; no secrets.")
    error: Expression | None = Field(
        default=None, description="Where an answer with status 200 holds an error, for APIs that do so; else null."
    )
    pagination: Paging = Field(
        default=NoPaging(type="none"),
        description="How listings go on: none, page, offset, cursor, next_url or link_header.",
    )
    resources: Annotated[tuple[Resource, ...], Field(min_length=1)] = Field(
        description="What is listed, one after the other; docs/rest.md has all that each can be told."
    )
    max_bytes: int = Field(
        default=50 * 1024 * 1024,
        gt=0,
        description="A larger answer is not read; nor is a document of more, which becomes a dead letter.",
    )
    http: HttpSettings = Field(default=HttpSettings(), description="How the servers are asked.")

    @field_validator("headers")
    @classmethod
    def _have_no_secret(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _SECRET_HEADERS.search(name):
                raise ValueError(f"{name!r} is for a secret, which must not stand here; `auth` takes it")
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isprintable():
                raise ValueError(f"{name!r} is no header, or its value cannot be sent")
        return headers

    @model_validator(mode="after")
    def _keeps_secrets(self) -> "RestSettings":
        for resource in self.resources:
            for request in requests_of(resource):
                if name := next(filter(SECRET_PARAMETER.fullmatch, request.params), None):
                    raise ValueError(
                        f"the parameter {name!r} of {resource.name!r} is for a secret, which must not stand here;"
                        " `auth` takes it"
                    )
        if self.auth is not None:
            self.http.require_safe([self.base_url])
        if isinstance(self.auth, OAuth2Auth):
            self.http.require_safe([self.auth.token_url])
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> "RestSettings":
        ancestors: dict[str, set[str]] = {}
        for resource in self.resources:
            if resource.name in ancestors:
                raise ValueError(f"two resources are named {resource.name!r}")
            if resource.for_each is not None and resource.for_each not in ancestors:
                raise ValueError(
                    f"`for_each` of {resource.name!r} should name a resource that stands before it, not"
                    f" {resource.for_each!r}"
                )
            parent = resource.for_each
            above = ancestors[parent] | {parent} if parent else set()
            ancestors[resource.name] = above
            _check_placeholders(resource, above)
        return self


def _check_placeholders(resource: "Resource", above: set[str]) -> None:
    own = above | {resource.name}
    used = [(placeholders_of(request), above if request is resource else own) for request in requests_of(resource)]
    if resource.uri is not None and is_template(resource.uri):
        used.append(({name for _, name in PLACEHOLDER.findall(resource.uri)}, own))
    for names, allowed in used:
        for unknown in sorted(names - allowed):
            known = ", ".join(f"{{{name}}}" for name in sorted(allowed)) or "no placeholder"
            raise ValueError(f"{{{unknown}}} in {resource.name!r} stands for nothing; it can be {known}")


def is_template(uri: str) -> bool:
    """Whether it is an address, and no path to one."""
    return uri.startswith(("https://", "http://"))


def requests_of(resource: Resource) -> Iterator[Request]:
    yield resource
    yield from (request for request in (resource.detail, resource.parts) if request is not None)


def placeholders_of(request: Request) -> set[str]:
    """The names that stand in braces in path and query. Those of a body may mean something else: it can be GraphQL."""
    values = [
        value for values in request.params.values() for value in (values if isinstance(values, tuple) else [values])
    ]
    written = [request.path, *(value for value in values if isinstance(value, str))]
    return {name for text in written for _, name in PLACEHOLDER.findall(text)}
