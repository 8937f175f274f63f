"""The HTTP side of the local memory: one request in, one answer out, and faults in between."""

import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
from aiohttp import web

from pipeline.local_memory.api import Api, Call, load_api
from pipeline.local_memory.errors import ServiceError
from pipeline.local_memory.faults import Faults, Misfortune, Mishap
from pipeline.local_memory.operations import DEFAULT_INDEXED_KEYS, Operations
from pipeline.local_memory.store import Selection, Store, StoredRecord

__all__ = ("LocalMemory", "serve_forever")

# A hundred records of 16,000 characters, each written as a pair of \uXXXX escapes, fit in. What AWS allows
# is not known.
BODY_BYTES_MAX = 32 * 1024 * 1024
TOKEN_MEMORY_S = 8 * 3600.0
SHUTDOWN_TIMEOUT_S = 0.2  # only requests that a fault delays are ever under way for longer

DROPPED = 0
"""The status under which `LocalMemory.requests` counts a request whose connection was dropped."""

ERROR_ANSWERS = {
    Mishap.THROTTLE: (429, "ThrottledException", "Rate exceeded"),
    Mishap.ERROR_BEFORE_WRITE: (500, "ServiceException", "Internal server error"),
    Mishap.ERROR_AFTER_WRITE: (500, "ServiceException", "Internal server error"),
    Mishap.QUOTA_EXCEEDED: (402, "ServiceQuotaExceededException", "A quota of this memory is used up"),
    Mishap.ACCESS_DENIED: (403, "AccessDeniedException", "You are not authorized to perform this operation"),
}


class LocalMemory:
    """A running local memory. Made by `LocalMemory.serve`."""

    url: str
    """Where clients reach it, as `endpoint_url`; for both `bedrock-agentcore` and its control plane."""

    requests: Counter[tuple[str, int]]
    """How many requests were answered, by operation and HTTP status; `DROPPED` stands for no answer."""

    def __init__(self, api: Api, operations: Operations, store: Store, clock: Callable[[], float]) -> None:
        self.url = ""
        self.requests = Counter()
        self._api = api
        self._operations = operations
        self._store = store
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def serve(
        cls,
        data: Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults = Faults(),  # noqa: B008 (frozen)
        memories: Collection[str] = (),
        adopt_first: bool = False,
        clock: Callable[[], float] = time.time,
        token_memory_s: float = TOKEN_MEMORY_S,
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> AsyncIterator["LocalMemory"]:
        """Serve the memory in the file `data`, or one that is gone afterwards if that is None.

        Args:
            data: created if missing, readable by its owner only.
            port: 0 takes a free one; see `url`.
            faults: what goes wrong; `server.faults = …` changes it at any time.
            memories: ids of memories that are created if the file does not hold them, with
                `DEFAULT_INDEXED_KEYS`.
            adopt_first: while there is no memory at all, the first id that a request names is created, so
                that a client's configuration need not be told here.
            clock: epoch seconds.
            token_memory_s: how long a client token is remembered.
            body_bytes_max: a larger request is answered with 413.

        Raises:
            UnreadableStoreError: `data` is some other file.
            OSError: the port is taken.
        """
        store = Store(data)
        try:
            operations = Operations(store, clock, adopt_first=adopt_first, token_memory_s=token_memory_s)
            server = cls(load_api(), operations, store, clock)
            server.faults = faults
            for memory_id in memories:
                server.create_memory(memory_id)
            async with server._listening(host, port, body_bytes_max):
                yield server
        finally:
            store.close()

    @property
    def faults(self) -> Faults:
        """What goes wrong. Setting it starts its dice, buckets and script afresh."""
        return self._operations.misfortune.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._operations.misfortune = Misfortune(faults, self._clock)

    def create_memory(self, memory_id: str, indexed_keys: Mapping[str, str] = DEFAULT_INDEXED_KEYS) -> None:
        """Create an empty memory; `indexed_keys` are keys with their types STRING, STRINGLIST or NUMBER.

        Does nothing if the memory exists.
        """
        self._operations.add_memory(memory_id, indexed_keys)

    def records(self, memory_id: str) -> list[StoredRecord]:
        """What the memory holds now, in the order of creation, with no lag; expired records too.

        Like every method here, to be called on the thread that serves.
        """
        return [record for _, record in self._store.select(Selection("memory_id = ?", (memory_id,)))]

    @asynccontextmanager
    async def _listening(self, host: str, port: int, body_bytes_max: int) -> AsyncIterator[None]:
        app = web.Application(client_max_size=body_bytes_max)
        app.router.add_route("*", "/{path:.*}", self._respond)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            bound_host, bound_port = runner.addresses[0][:2]
            url_host = f"[{bound_host}]" if ":" in bound_host else bound_host
            self.url = f"http://{url_host}:{bound_port}"
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    async def _respond(self, request: web.Request) -> web.Response:
        call = self._api.find(request.method, request.raw_path.partition("?")[0])
        if call is None:
            message = f"The local memory does not offer {request.method} {request.path}"
            response = _error_response(ServiceError(404, "UnknownOperationException", message))
            self.requests["UnknownOperation", response.status] += 1
            return response
        try:
            response = _json_response(call.operation.success_status, await self._answer(call, request))
        except ServiceError as error:
            response = _error_response(error)
        except _ConnectionDroppedError:
            self.requests[call.operation.name, DROPPED] += 1
            if request.transport is not None:  # None: the client is gone already
                request.transport.abort()
            return web.Response()  # goes nowhere
        self.requests[call.operation.name, response.status] += 1
        return response

    async def _answer(self, call: Call, request: web.Request) -> dict[str, Any]:
        misfortune = self._operations.misfortune
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise ServiceError(413, "RequestEntityTooLargeException", "Request is too long") from error
        if misfortune.faults.latency_s:
            await anyio.sleep(misfortune.faults.latency_s)
        mishap = misfortune.strike(call.operation.name)
        match mishap:
            case Mishap.DROP_BEFORE_WRITE:
                raise _ConnectionDroppedError
            case Mishap.THROTTLE | Mishap.ERROR_BEFORE_WRITE | Mishap.QUOTA_EXCEEDED | Mishap.ACCESS_DENIED:
                raise ServiceError(*ERROR_ANSWERS[mishap])
        answer = self._operations.answer(call.operation.name, call.read(request.query, body))
        match mishap:
            case Mishap.DROP_AFTER_WRITE:
                raise _ConnectionDroppedError
            case Mishap.ERROR_AFTER_WRITE:
                raise ServiceError(*ERROR_ANSWERS[mishap])
            case Mishap.OMIT_RECORD if "successfulRecords" in answer:
                return {**answer, "successfulRecords": answer["successfulRecords"][:-1]}
        return answer


async def serve_forever(
    data: Path | None,
    host: str,
    port: int,
    faults: Faults,
    memories: Collection[str],
    adopt_first: bool,
    *,
    on_ready: Callable[[str], None],
) -> None:
    """Serve until cancelled; `on_ready` is given the URL as soon as clients can connect."""
    async with LocalMemory.serve(
        data, host=host, port=port, faults=faults, memories=memories, adopt_first=adopt_first
    ) as server:
        on_ready(server.url)
        await anyio.sleep_forever()


class _ConnectionDroppedError(Exception):
    """The client gets no answer at all."""


def _json_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers={"x-amzn-RequestId": str(uuid.uuid4()), **(headers or {})},
    )


def _error_response(error: ServiceError) -> web.Response:
    return _json_response(error.status, error.body, headers={"x-amzn-errortype": error.code})
