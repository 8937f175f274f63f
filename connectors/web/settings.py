"""Which pages of which site are documents."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.kit.http import HttpSettings, WebUrl
from connectors.kit.one_or_more import OneOrMore
from connectors.patterns import PatternList
from connectors.web.addresses import Scope, folder_of, normalise, origin_of

Address = Annotated[WebUrl, AfterValidator(normalise)]
Addresses = Annotated[tuple[Address, ...], OneOrMore]

# What says where a visitor came from, or who he is, and not what he sees.
TRACKING = (
    "utm_*",
    "mtm_*",
    "pk_*",
    "gclid",
    "dclid",
    "fbclid",
    "msclkid",
    "yclid",
    "igshid",
    "mc_cid",
    "mc_eid",
    "phpsessid",
    "jsessionid",
    "sessionid",
    "sid",
)


class WebSettings(BaseModel):
    """Which pages of which site are documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["web"]
    sitemaps: Addresses = Field(
        default=(),
        description=(
            "Sitemaps or indexes of sitemaps, also packed (.gz), whose pages are taken; the address of a robots.txt "
            "stands for the sitemaps that it names."
        ),
    )
    start: Addresses = Field(
        default=(),
        description="Pages from which links are followed, as are those of pages in `sitemaps` then; empty: none are.",
    )
    prefixes: Addresses = Field(
        default=(),
        description=(
            "What the addresses of pages begin with; others are neither asked nor taken. Empty: the folders of `start` "
            "and the hosts of `sitemaps`."
        ),
    )
    include: PatternList = Field(
        default=["**/*"],
        min_length=1,
        description=(
            "Patterns of the pages to take, by the path of their address, in the language of .gitignore; the last that "
            "matches decides. Links of other pages are followed all the same."
        ),
    )
    exclude: PatternList = Field(
        default=[],
        description="Patterns of pages to leave out; they always win, and such pages are not even asked for.",
    )
    query_keep: tuple[str, ...] | None = Field(
        default=None, description="Parameters behind the `?` of an address that are kept: `page`, `id*`; null: all."
    )
    query_drop: tuple[str, ...] = Field(
        default=TRACKING, description="Parameters that are dropped, whatever query_keep says; in small letters."
    )
    max_pages: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="How many addresses are asked in one run; if there are more, nothing is deleted.",
    )
    max_depth: int = Field(default=50, ge=0, description="How many links away from `start` a page may be.")
    max_bytes: int = Field(
        default=20 * 1024 * 1024, gt=0, description="A larger page is not read; it becomes a dead letter."
    )
    trust_lastmod: bool = Field(
        default=False,
        description=(
            "Do not ask for a page whose `lastmod` in the sitemap is as it was, and before yesterday. Few sites keep it"
            " honestly."
        ),
    )
    respect_robots_txt: bool = Field(
        default=True, description="Leave alone what robots.txt asks crawlers to leave alone, and obey its Crawl-delay."
    )
    respect_noindex: bool = Field(
        default=True, description="Leave out pages that say `noindex` in their head or in X-Robots-Tag."
    )
    http: HttpSettings = Field(default=HttpSettings(), description="How the site's servers are asked.")

    @model_validator(mode="after")
    def _has_pages(self) -> "WebSettings":
        if not self.sitemaps and not self.start:
            raise ValueError("should name `sitemaps`, or pages to `start` from")
        for url in self.start:
            if not url.startswith(self.all_prefixes):
                raise ValueError(f"`start` has {url}, which begins with none of `prefixes`")
        return self

    @property
    def all_prefixes(self) -> tuple[str, ...]:
        return self.prefixes or tuple(
            dict.fromkeys([*map(folder_of, self.start), *(origin_of(url) for url in self.sitemaps)])
        )

    def scope(self) -> Scope:
        return Scope(self.all_prefixes, self.include, self.exclude, self.query_keep, self.query_drop)


def is_robots_txt(url: str) -> bool:
    return urlsplit(url).path == "/robots.txt"
