"""One AWS account and one memory, as the checks see them: each question that several have is asked once."""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import anyio

from pipeline.destinations.agentcore import CONTROL_SERVICE, DATA_SERVICE, AgentCoreConnection, service_errors
from pipeline.destinations.quotas import read_quotas
from pipeline.doctor.checks import Once
from pipeline.errors import DestinationError, FatalError
from pipeline.model import Call

# Of one request. A check has time for a few of them.
CONNECT_TIMEOUT_S = 4.0
READ_TIMEOUT_S = 8.0
NO_CREDENTIALS = {"CredentialRetrievalError", "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}
NO_ANSWER = {
    "ConnectTimeoutError",
    "ConnectionError",
    "EndpointConnectionError",
    "ReadTimeoutError",
    "UnknownEndpointError",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
OF_THE_MEMORY = {DATA_SERVICE, CONTROL_SERVICE}  # what destination.endpoint_url stands for


class Credentials(NamedTuple):
    """Where they come from, in botocore's word, and when they end; None: they do not, or it is not known.

    `renew_themselves` tells that botocore fetches new ones.
    """

    method: str
    expire_at: datetime | None
    renew_themselves: bool


class Caller(NamedTuple):
    """Who the credentials are, as STS says."""

    account: str
    arn: str


class Account:
    """Made by `open_account`. Answers are kept, also those that are errors.

    Raises, whatever is asked:
        DestinationError: it could not be asked; `code` is AWS's word for why, or botocore's.
    """

    def __init__(self, connection: AgentCoreConnection, session: Any, now: Callable[[], float]) -> None:
        self.connection = connection
        self.memory_id = connection.memory_id
        # How far this machine's clock is ahead of the service's; None: no answer has told the time yet.
        self.clock_ahead_s: float | None = None
        self.credentials = Once(self._credentials)
        self.caller = Once(self._caller)
        self.memory = Once(self._memory)
        self.quotas = Once(self._quotas)
        self._session = session
        self._now = now
        self._clients: dict[str, Any] = {}
        self._client_made = anyio.Lock()
        self._closing = AsyncExitStack()

    @property
    def region(self) -> str | None:
        """The region that is asked; None if none is set anywhere.

        Raises:
            FatalError: the profile that names it is not there.
        """
        with service_errors("The AWS configuration"):
            region: str | None = self.connection.region or self._session.get_config_variable("region")
            return region

    @property
    def known_regions(self) -> set[str]:
        """The regions of all partitions that the installed botocore knows.

        Raises:
            FatalError: as `region`.
        """
        with service_errors("The AWS configuration"):
            partitions = self._session.get_component("data_loader").load_data("partitions")["partitions"]
        return {region for partition in partitions for region in partition["regions"]}

    async def other_endpoint(self) -> str | None:
        """Where the memory is asked, if that is not AWS's own endpoint: the settings, or a variable, may say so."""
        with service_errors("The AWS configuration"):
            url: str = (await self.client(CONTROL_SERVICE)).meta.endpoint_url
        return None if re.fullmatch(r"https://[\w.-]+\.(amazonaws\.com(\.cn)?|api\.aws)", url) else url

    async def ask(self, service: str, method: str, **parameters: Any) -> Any:
        """The answer of one call, given botocore's name of its method."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.6 s

        with service_errors(_operation(method)):
            client = await self.client(service)
            try:
                answer = await getattr(client, method)(**parameters)
            except ClientError as error:
                self._note_time(error.response)
                raise
            self._note_time(answer)
            return answer

    async def client(self, service: str) -> Any:
        async with self._client_made:
            if service not in self._clients:
                opening = self._create_client(service)
                self._clients[service] = await self._closing.enter_async_context(opening)
        return self._clients[service]

    def _create_client(self, service: str) -> Any:
        from aiobotocore.config import AioConfig  # noqa: PLC0415 - see above

        key_id, secret = self.connection.credentials or (None, None)
        return self._session.create_client(
            service,
            region_name=self.connection.region,
            endpoint_url=self.connection.endpoint_url if service in OF_THE_MEMORY else None,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=AioConfig(
                retries={"total_max_attempts": 2, "mode": "standard"},
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                user_agent_extra="memsync-doctor",
            ),
        )

    def _note_time(self, answer: Mapping[str, Any]) -> None:
        said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            there = parsedate_to_datetime(said)
        except (TypeError, ValueError):  # none, or no time
            return
        self.clock_ahead_s = self._now() - there.timestamp()

    # ------------------------------------------------------------------------------------------- questions

    async def _credentials(self) -> Credentials:
        with service_errors("The AWS credentials"):
            found = await self._session.get_credentials()
        if found is None:
            raise FatalError(
                "No AWS credentials were found. Set them the usual AWS way: environment, profile"
                " (destination.profile) or role.",
                code="NoCredentialsError",
            )
        with service_errors("The AWS credentials"):
            await found.get_frozen_credentials()  # those that have to be fetched first say now whether they can be
        # botocore tells the end of those that it renews by this member only.
        expire_at = getattr(found, "_expiry_time", None)
        return Credentials(found.method, expire_at.astimezone(UTC) if expire_at else None, expire_at is not None)

    async def _caller(self) -> Caller:
        answer = await self.ask("sts", "get_caller_identity")
        return Caller(answer["Account"], answer["Arn"])

    async def _memory(self) -> Mapping[str, Any]:
        memory: Mapping[str, Any] = (await self.ask(CONTROL_SERVICE, "get_memory", memoryId=self.memory_id))["memory"]
        return memory

    async def _quotas(self) -> dict[Call, float]:
        with service_errors("ListServiceQuotas"):
            return await read_quotas(await self.client("service-quotas"))

    async def aclose(self) -> None:
        await self._closing.aclose()


@asynccontextmanager
async def open_account(connection: AgentCoreConnection, now: Callable[[], float] = time.time) -> AsyncIterator[Account]:
    from aiobotocore.session import AioSession  # noqa: PLC0415 - see above

    account = Account(connection, AioSession(profile=connection.profile), now)
    try:
        yield account
    finally:
        with anyio.CancelScope(shield=True):
            await account.aclose()


def _operation(method: str) -> str:
    """`GetMemory` of `get_memory`."""
    return "".join(word.title() for word in method.split("_"))


def reason_elsewhere(error: DestinationError) -> str:
    """Why nothing could be asked, where another check tells of that with its cure; empty if none does."""
    if error.code in NO_CREDENTIALS:
        return "cannot be asked without credentials"
    return "cannot be asked without a region" if error.code == "NoRegionError" else ""


def has_no_agentcore(error: DestinationError) -> bool:
    """Whether nobody answers for the memory, or somebody who is no AgentCore: of that the region tells."""
    # botocore takes the HTTP status for the code where the answer has none, as the page of a proxy.
    return error.code in NO_ANSWER or error.code == "bad_answer" or re.fullmatch(r"4\d\d", error.code) is not None
