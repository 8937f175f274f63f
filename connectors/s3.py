"""Documents that are objects in a bucket of Amazon S3, or of a store that speaks its language."""

import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

from anyio import Lock
from pydantic import BaseModel, ConfigDict, Field, field_validator

from connectors.kit.budget import ErrorBudget
from connectors.kit.one_or_more import OneOrMore
from connectors.kit.paging import LoopingListing, pages
from connectors.kit.refusals import too_large
from connectors.patterns import PatternList, Patterns
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument, UnsupportedDocument
from pipeline.hosts import is_loopback
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    Fingerprint,
    ScanComplete,
    ScanError,
    SourceEvent,
)

KEYS_PER_PAGE = 1000  # the most that stores give
CONNECTIONS_MAX = 32
ATTEMPTS_MAX = 6  # of one request; botocore waits longer before each, and does what Retry-After says
READS_MAX = 3  # of one object whose content breaks off

# What an error means for the source as a whole, whatever request it answers.
NO_BUCKET = {"NoSuchBucket", "PermanentRedirect", "IllegalLocationConstraintException", "AuthorizationHeaderMalformed"}
NOT_LET_IN = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "AccountProblem",
}
ARCHIVED = {"InvalidObjectState"}
GONE = {"NoSuchKey", "404", "NotFound"}

NO_ANSWER, BROKEN_OFF, LOOPING = "no_answer", "broken_off", "looping_listing"


class S3Settings(BaseModel):
    """Which objects of which bucket are documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["s3"]
    bucket: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$",
        description="The bucket's name, or the alias of an access point.",
    )
    prefixes: Annotated[tuple[str, ...], Field(min_length=1), OneOrMore] = Field(
        default=("",),
        description=(
            "What the keys of documents begin with: `docs/`. Each is listed by itself, so that one that may not be "
            "listed does not keep the others from being complete."
        ),
    )
    include: PatternList = Field(
        default=["**/*"],
        min_length=1,
        description="Patterns of the keys to take, in the language of .gitignore; the last that matches decides.",
    )
    exclude: PatternList = Field(default=[], description="Patterns of keys to leave out; they always win.")
    region: str | None = Field(default=None, description="The bucket's AWS region; null: the usual AWS way.")
    profile: str | None = Field(default=None, description="Profile of the AWS configuration; null: the usual AWS way.")
    anonymous: bool = Field(default=False, description="Ask without credentials, as for a public bucket.")
    requester_pays: bool = Field(default=False, description="Agree to pay for the requests, where the owner asks it.")
    allow_http: bool = Field(default=False, description="Permit an endpoint_url without encryption on another machine.")
    endpoint_url: str | None = Field(
        default=None, description="null: AWS; or the URL of a store that speaks S3 (MinIO, Ceph, R2 ...)."
    )
    path_style: bool | None = Field(
        default=None,
        description="Whether the bucket stands in the path instead of the host; null: where endpoint_url is set.",
    )
    max_bytes: int = Field(
        default=50 * 1024 * 1024,
        gt=0,
        description="A larger object is not read, nor one that unpacks to more; it becomes a dead letter.",
    )

    @field_validator("prefixes")
    @classmethod
    def _are_apart(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        for position, prefix in enumerate(prefixes):
            others = prefixes[:position] + prefixes[position + 1 :]
            if any(prefix.startswith(other) for other in others):
                raise ValueError(f"{prefix!r} lies within another prefix, so its documents would be listed twice")
        return prefixes

    @field_validator("endpoint_url")
    @classmethod
    def _is_safe(cls, url: str | None, info: Any) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("should be a URL such as https://HOST, without user and password")
        if parts.scheme == "http" and not is_loopback(parts.hostname) and not info.data.get("allow_http"):
            raise ValueError("should begin with `https://`; `allow_http: true` permits reading documents unencrypted")
        return url


class S3Connector:
    """Every object below the prefixes whose key the settings take in is a document; its key is its id.

    The ETag tells that an object is unchanged, without reading it: each write gives another one, unless it writes
    the same content. What is gone is what a complete listing of its prefix does not show, and what is not there when it
    is asked for once more. There are no checkpoints: listing a million keys takes a thousand requests.

    Objects whose key ends with a slash and that are empty are folders, as consoles make them, and left out. An
    archived object counts as it was before; a new one is left out until it is restored.
    """

    settings_model: ClassVar[type[S3Settings]] = S3Settings

    def __init__(self, settings: S3Settings, base_folder: Path) -> None:  # noqa: ARG002 - nothing is relative to it
        self._settings = settings
        self._include = None if settings.include == ["**/*"] else Patterns(settings.include)
        self._exclude = Patterns(settings.exclude)
        self._payer = {"RequestPayer": "requester"} if settings.requester_pays else {}
        self._budget = ErrorBudget(f"The bucket {settings.bucket!r}")
        self._resources = AsyncExitStack()
        self._opening = Lock()
        self._opened: Any = None

    async def aclose(self) -> None:
        """Close the connections. It opens them again if it is asked for more."""
        await self._resources.aclose()
        self._opened = None

    # ------------------------------------------------------------------------------------------- listing

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the objects prefix by prefix, in the store's order."""
        listed = 0
        faults: list[ScanError] = []
        for prefix in self._settings.prefixes:
            try:
                async with aclosing(self._list(prefix)) as pages:
                    async for refs in pages:
                        listed += 1
                        if refs:
                            yield refs
            except _Fault as fault:
                faults.append(ScanError(prefix, fault.code, f"Cannot list {self._where(prefix)}: {fault}."))
                yield [faults[-1]]
            else:
                listed += 1
                yield [ScanComplete(prefix)]
        if not listed:  # not a single page: the source is not there, rather than a part of it
            raise SourceError(
                f"{faults[0].message} Nothing was concluded from that. Check `source.bucket`, the region, and that the"
                " credentials may do s3:ListBucket."
            )

    async def _list(self, prefix: str) -> AsyncGenerator[list[DocumentRef], None]:
        """The documents below `prefix`, in pages.

        Raises:
            _Fault: it could not be listed to its end.
        """
        try:
            async with aclosing(pages(partial(self._page, prefix))) as listed:
                async for refs in listed:
                    yield refs
        except LoopingListing as error:
            raise _Fault(LOOPING, "the store says that there is more, and leads round in circles") from error

    async def _page(self, prefix: str, token: str | None) -> tuple[list[DocumentRef], str | None]:
        """The documents of one page, and the token of the next, if there is one."""
        place = {"ContinuationToken": token} if token else {}
        page = await self._ask("list_objects_v2", Prefix=prefix, MaxKeys=KEYS_PER_PAGE, **self._payer, **place)
        if "IsTruncated" not in page:  # an answer without a body is read as a listing without anything
            raise _Fault("broken_listing", "the store's answer is no listing")
        following = page.get("NextContinuationToken") if page["IsTruncated"] else None
        if page["IsTruncated"] and not following:
            raise _Fault(LOOPING, "the store says that there is more, but not how to go on")
        return [ref for item in page.get("Contents", ()) if (ref := self._listed(item)) is not None], following

    def _listed(self, item: Mapping[str, Any]) -> DocumentRef | None:
        try:
            key, size = item["Key"], item["Size"]
        except KeyError as error:
            raise _Fault("broken_listing", "the store's answer is no listing") from error
        return None if self._leaves_out(key, size) else self._ref(key, item, size)

    def _leaves_out(self, key: str, size: int) -> bool:
        if key.endswith("/") and size == 0:
            return True
        if self._include and not self._include.last_match(key, or_above=True):
            return True
        return bool(self._exclude.last_match(key, or_above=True))

    def _ref(self, key: str, said: Mapping[str, Any], size: int) -> DocumentRef:
        if "LastModified" not in said:  # which every store tells: this is the page of a proxy, or the like
            raise _Fault("broken_answer", "the answer does not come from a store")
        tag = said.get("ETag", "").strip('"')
        return DocumentRef(
            DocumentId(key),
            f"s3://{self._settings.bucket}/{quote(key)}",
            Fingerprint(f"{tag}-{size}") if tag else None,
            size,
            said["LastModified"].replace(microsecond=0),  # of which a listing tells more than the object itself
        )

    def trace(self, ref: DocumentRef) -> str | None:
        return ref.fingerprint  # of its content, whatever its key; but for what was uploaded in parts

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the object as a scan would list it now; None if a scan would not."""
        if not any(document.startswith(prefix) for prefix in self._settings.prefixes):
            return None
        try:
            said = await self._ask("head_object", Key=document, **self._payer)
        except _Fault as fault:
            if fault.code not in GONE:
                raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault
            await self._require_bucket(document)
            return None
        size = said["ContentLength"]
        try:
            ref = self._ref(document, said, size)
        except _Fault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault
        return None if self._leaves_out(document, size) else ref

    async def _require_bucket(self, document: DocumentId) -> None:
        """Make sure that an object that is not there is missing from a bucket that is."""
        try:
            await self._ask("head_bucket")
        except _Fault as fault:
            raise SourceError(
                f"Cannot tell whether {document!r} is still there: the bucket {self._settings.bucket!r} cannot be"
                f" asked: {fault}."
            ) from fault

    # ------------------------------------------------------------------------------------------ fetching

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the object's content; the document's ref has the ETag of just that content."""
        for attempt in range(1, READS_MAX + 1):
            try:
                document = await self._fetch_once(ref)
            except _Fault as fault:
                if fault.code in GONE:
                    await self._require_bucket(ref.id)
                    raise DocumentVanished(f"{ref.id!r} was listed and is not there any more.") from fault
                if fault.code in ARCHIVED:
                    raise UnsupportedDocument("archived object") from fault
                if fault.code != BROKEN_OFF or attempt == READS_MAX:
                    if fault.code in (NO_ANSWER, BROKEN_OFF):
                        self._budget.failed(fault)
                    raise UnreadableDocument(fault.code, f"Cannot read {ref.id!r}: {fault}.") from fault
            else:
                self._budget.succeeded()
                return document
        raise AssertionError("the last attempt returns or raises")

    async def _fetch_once(self, ref: DocumentRef) -> Document:
        answer = await self._ask("get_object", Key=ref.id, **self._payer)
        async with answer["Body"] as body:
            size = answer["ContentLength"]
            if size > self._settings.max_bytes:
                raise too_large(ref.id, size, self._settings.max_bytes)
            with _faults_of_the_network(BROKEN_OFF):
                content = await body.read()
        if len(content) != size:
            raise _Fault(BROKEN_OFF, f"{len(content):,} of {size:,} bytes came")
        found = self._ref(ref.id, answer, size)
        return Document(found, self._unpacked(ref.id, content, answer), answer.get("ContentType"))

    def _unpacked(self, document: DocumentId, content: bytes, answer: Mapping[str, Any]) -> bytes:
        encodings = {part.strip().lower() for part in answer.get("ContentEncoding", "").split(",")}
        match sorted(encodings - {"", "identity", "aws-chunked"}):
            case []:
                return content
            case ["gzip"]:
                return self._unzipped(document, content)
            case others:
                raise UnsupportedDocument(f"content encoding {', '.join(others)}")

    def _unzipped(self, document: DocumentId, content: bytes) -> bytes:
        unzip = zlib.decompressobj(wbits=31)
        try:
            unpacked = unzip.decompress(content, self._settings.max_bytes + 1)
        except zlib.error as error:
            raise UnreadableDocument("broken_gzip", f"{document!r} is said to be gzip and is not.") from error
        if len(unpacked) > self._settings.max_bytes:
            raise UnreadableDocument(
                "too_large",
                f"{document!r} unpacks to more than the {self._settings.max_bytes:,} bytes that"
                " `source.max_bytes` allows.",
            )
        if not unzip.eof:
            raise UnreadableDocument("broken_gzip", f"{document!r} breaks off in the middle.")
        return unpacked

    # -------------------------------------------------------------------------------------------- asking

    def _where(self, prefix: str) -> str:
        return f"s3://{self._settings.bucket}/{prefix}"

    async def _ask(self, method: str, **parameters: Any) -> Any:
        """The store's answer.

        Raises:
            _Fault: it refused, and its code says what.
            SourceError: nothing can be learnt from it: no bucket, no credentials, no network.
        """
        from botocore.exceptions import ClientError  # noqa: PLC0415 - settings are checked without the client

        client = await self._client()
        try:
            with _faults_of_the_network(NO_ANSWER):
                return await getattr(client, method)(Bucket=self._settings.bucket, **parameters)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            message = str(error.response.get("Error", {}).get("Message", "")) or code
            if code in NO_BUCKET or code in NOT_LET_IN:
                raise SourceError(
                    f"The bucket {self._settings.bucket!r} cannot be read: {code}. Nothing was concluded from that."
                    " Check `source.bucket`, its region and the credentials."
                ) from error
            raise _Fault(code, f"{code}: {message}" if message != code else code) from error

    async def _client(self) -> Any:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - see above
        from aiobotocore.session import get_session  # noqa: PLC0415
        from botocore import UNSIGNED  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        async with self._opening:
            if self._opened is None:
                settings = self._settings
                has_bucket_in_path = settings.path_style if settings.path_style is not None else settings.endpoint_url
                config = AioConfig(
                    max_pool_connections=CONNECTIONS_MAX,
                    retries={"mode": "standard", "max_attempts": ATTEMPTS_MAX},
                    signature_version=UNSIGNED if settings.anonymous else None,
                    s3={"addressing_style": "path" if has_bucket_in_path else "auto"},
                )
                try:
                    session = get_session()
                    if settings.profile:
                        session.set_config_variable("profile", settings.profile)
                    client = session.create_client(
                        "s3", region_name=settings.region, endpoint_url=settings.endpoint_url, config=config
                    )
                    self._opened = await self._resources.enter_async_context(client)
                except BotoCoreError as error:
                    raise SourceError(f"S3 cannot be asked: {error} Nothing was concluded from that.") from error
            return self._opened


class _Fault(Exception):
    """The store refused a request, or did not answer it; `code` is its word for that, or ours."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def _faults_of_the_network(code: str) -> Iterator[None]:
    import aiohttp  # noqa: PLC0415 - see above
    from botocore.exceptions import BotoCoreError, CredentialRetrievalError, NoCredentialsError  # noqa: PLC0415

    try:
        yield
    except (NoCredentialsError, CredentialRetrievalError) as error:
        raise SourceError(
            f"S3 cannot be asked: {error} Nothing was concluded from that. Configure credentials the usual AWS way, or"
            " set `source.anonymous` for a public bucket."
        ) from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
        # The client's words can hold parts of an address and never a secret.
        raise _Fault(code, f"{type(error).__name__}: {error}") from error
