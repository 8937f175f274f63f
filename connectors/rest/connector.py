"""Documents that are records of an API that answers with JSON, described by the settings."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, ClassVar
from urllib.parse import unquote, urljoin

from anyio import Lock

from connectors.kit.budget import ErrorBudget
from connectors.kit.row_values import MEDIA_TYPES, as_time, write_id
from connectors.rest.api import Api, Fault, filled_uri, find, is_true, where
from connectors.rest.listing import Page, list_records
from connectors.rest.records import (
    Kept,
    Key,
    as_title,
    document_id,
    fingerprint,
    has_parts,
    id_of,
    is_absent,
    is_taken,
    join_parts,
    path_of,
    shape_of,
    without_ending,
)
from connectors.rest.settings import Parts, Resource, RestSettings, is_template
from connectors.rest.spool import Spool
from connectors.rest.text import NoText, as_text
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    ScanComplete,
    ScanError,
    SourceEvent,
)

EVENTS_PER_LIST_MAX = 1000
PARTS_DEPTH_MAX = 20
LOOKED_AGAIN_S = 60.0  # for so long (or as long as it took), one look answers for all documents that are missing
WITHOUT_TEXT_MAX = 20  # documents, one after the other: then it is the path to the text that is wrong

GONE = {"404", "410"}


class RestConnector:
    """Every record of each resource that the settings take in is a document; its id is that of the resource with the
    ids of the records above it and its own.

    An edit shows by `version`; where there is none, by a digest of what a document is made of, if that comes with the
    listing, and else each document is read on every run. What is gone is what a listing to its end does not show, and
    what is not there when it is asked for once more: by the request for one record, or else by listing its scope
    again. There are no checkpoints: an API seldom tells what was removed.

    What a listing shows is kept in a file of no name until it is asked for.
    """

    settings_model: ClassVar[type[RestSettings]] = RestSettings

    def __init__(
        self,
        settings: RestSettings,
        base_folder: Path,  # noqa: ARG002 - nothing is relative to it
        *,
        now: Callable[[], float] = time,
    ) -> None:
        self._settings = settings
        self._resources = {resource.name: resource for resource in settings.resources}
        self._shapes = {resource.name: shape_of(resource) for resource in settings.resources}
        self._now = now
        self._api = Api(settings, now=now)
        self._budget = ErrorBudget(f"The API at {settings.base_url}")
        self._spool = Spool()
        self._listings = 0
        self._looks: dict[str, _Look] = {}
        self._looking = Lock()
        self._without_text = dict.fromkeys(self._resources, 0)  # how many records had none; -1 once one had

    async def aclose(self) -> None:
        """Close the connections, and let go of what was listed. It opens them again if it is asked for more."""
        self._spool.clear()
        await self._api.aclose()

    # ------------------------------------------------------------------------------------------- listing

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:  # noqa: ARG002
        """Yield the documents resource by resource, in the API's order."""
        self._spool.clear()
        self._looks.clear()
        scan = _Scan(parents={resource.for_each for resource in self._settings.resources})
        for resource in self._settings.resources:
            async with aclosing(self._list_resource(resource, scan)) as listed:
                async for refs in listed:
                    yield refs
            for errors in _in_lists(scan.take_errors() if scan.is_listed else []):
                yield errors
        if not scan.is_listed and scan.first_problem:  # not a single page: it is the source that is not there
            raise SourceError(
                f"{scan.first_problem} Nothing was concluded from that. Check `source.base_url`, the paths and"
                " `source.auth`."
            )
        yield [ScanComplete()]

    async def _list_resource(self, resource: Resource, scan: "_Scan") -> AsyncGenerator[list[SourceEvent], None]:
        """The documents of a resource, below each record of the one that it is listed for."""
        keys = scan.keys[resource.name] = []
        if resource.for_each in scan.broken:
            scan.broken[resource.name] = code = scan.broken[resource.for_each]
            message = f"What is below {resource.for_each!r} was not listed whole, so nor was {resource.name!r}."
            scan.errors.append(ScanError(resource.scope, code, message))
        for parent in scan.keys[resource.for_each] if resource.for_each else [()]:
            scope = _Scope(resource, parent, self._next_listing())
            async with aclosing(self._list(scope)) as pages:
                async for page in pages:
                    scan.is_listed = True
                    if resource.name in scan.parents:
                        keys += [key for key, _ in page]
                    if resource.documents:
                        for refs in _in_lists([ref for _, ref in page]):
                            yield refs
            if scope.problems:
                code, problem = next(iter(scope.problems.items()))
                scan.broken[resource.name] = code
                scan.first_problem = scan.first_problem or problem
                scan.errors += scope.errors

    def _next_listing(self) -> int:
        self._listings += 1
        return self._listings

    async def _list(self, scope: "_Scope") -> AsyncGenerator[list[tuple[Key, DocumentRef]], None]:
        """The records of a scope, page by page, each once. What kept it from being complete is noted there."""
        try:
            async with aclosing(self._records(scope)) as pages:
                async for page in pages:
                    yield self._page(scope, page.records, page.at)
        except Fault as fault:
            scope.note(fault.code, f"Cannot list {scope.path} to its end: {fault}.")

    def _records(self, scope: "_Scope") -> AsyncGenerator[Page, None]:
        resource = scope.resource
        # The parents' names come first; a scope has no record of its own.
        ids = self._ids(resource, scope.parent)
        style = resource.pagination or self._settings.pagination
        return list_records(self._api, resource, style, ids, id_path=resource.id, total=resource.total)

    def _page(self, scope: "_Scope", records: Sequence[Any], at: float) -> list[tuple[Key, DocumentRef]]:
        found: list[tuple[Key, DocumentRef]] = []
        repeated = 0
        for record in records:
            own = id_of(find(scope.resource.id, record))
            if own is None:
                scope.note("no_id", f"Records of {scope.path} have no word or number at `id: {scope.resource.id}`.")
            elif is_taken(scope.resource, record):
                key = (*scope.parent, own)
                try:
                    ref = self._ref(scope.resource, key, record, at)
                    kept = Kept(record, at).encoded() if scope.resource.is_read_from_listing else b""
                except Fault as fault:
                    scope.note(
                        fault.code, f"{document_id(scope.resource, key)!r} cannot be read and was left out: {fault}."
                    )
                    continue
                if self._spool.put(document_id(scope.resource, key), scope.number, kept):
                    found.append((key, ref))
                else:
                    repeated += 1
        if repeated:
            scope.note(
                "duplicate_id",
                f"{scope.path} shows an `id: {scope.resource.id}` twice: either it does not tell records apart, or the"
                " listing moved while it was read.",
            )
            if repeated == len(records):
                raise Fault("looping_listing", "a page shows only what pages before it showed")
        return found

    def _ids(self, resource: Resource, key: Key) -> dict[str, str]:
        """What the placeholders stand for: the names of `resource` and of those above it, as far as `key` goes."""
        names = [resource.name]
        while (above := self._resources[names[0]].for_each) is not None:
            names.insert(0, above)
        return dict(zip(names, key, strict=False))

    def _ref(self, resource: Resource, key: Key, record: Any, at: float) -> DocumentRef:
        uri = self._uri(resource, key, record)
        return DocumentRef(
            document_id(resource, key),
            uri,
            fingerprint(resource, record, self._shapes[resource.name], uri, at),
            modified_at=None if resource.modified_at is None else as_time(find(resource.modified_at, record)),
            title=as_title(resource, record),
        )

    def _uri(self, resource: Resource, key: Key, record: Any) -> str:
        ids = self._ids(resource, key)
        base_url = self._settings.base_url.rstrip("/")
        if resource.uri is not None:
            found = filled_uri(resource.uri, ids) if is_template(resource.uri) else find(resource.uri, record)
            if isinstance(found, str) and found:
                with suppress(ValueError):  # it is no address
                    return without_ending(urljoin(f"{base_url}/", found))
        if resource.detail is not None:
            return without_ending(f"{base_url}/{filled_uri(resource.detail.path, ids).lstrip('/')}")
        return f"{base_url}/{filled_uri(resource.path, ids).lstrip('/')}#{write_id(key[-1:])}"

    # ------------------------------------------------------------------------------------------ locating

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the record as a scan would list it now; None if there is none."""
        found = self._resource_and_key(document)
        if found is None:
            return None
        resource, key = found
        try:
            return await self._locate(resource, key) if resource.documents else None
        except Fault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault

    async def _locate(self, resource: Resource, key: Key) -> DocumentRef | None:
        if resource.for_each is not None and not await self._has(self._resources[resource.for_each], key[:-1]):
            return None
        if resource.detail is not None:
            found = await self._ask_for(resource, key)
            if found is None:
                await self._require_listing(resource, key)
                return None
            if not is_taken(resource, found.record):
                return None
            if resource.is_read_from_listing:
                self._spool.put(document_id(resource, key), self._next_listing(), found.encoded())
            return self._ref(resource, key, found.record, found.at)
        listing = await self._look_again(resource, key)
        shown = self._spool.get(document_id(resource, key))
        if shown is None or shown.listing != listing:
            return None
        kept = Kept.decoded(shown.content)
        return self._ref(resource, key, kept.record, kept.at)

    async def _has(self, resource: Resource, key: Key) -> bool:
        """Whether there is a record that others are listed for."""
        look = self._recent(document_id(resource, key))
        if look is None:
            is_there = await self._locate(resource, key) is not None
            look = self._looks[document_id(resource, key)] = self._look_since(self._now(), int(is_there))
        return bool(look.found)

    async def _require_listing(self, resource: Resource, key: Key) -> None:
        """Make sure that a record that is not there is missing from a listing that is.

        Raises:
            Fault: the listing cannot be read.
        """
        path = path_of(resource, key[:-1])
        if self._recent(f"first page of {path}") is None:
            async with aclosing(self._records(_Scope(resource, key[:-1], 0))) as pages:
                async for _ in pages:
                    break
            self._looks[f"first page of {path}"] = self._look_since(self._now(), 1)

    async def _look_again(self, resource: Resource, key: Key) -> int:
        """List the scope of a record to its end, unless that was done just now; the number of the listing.

        Raises:
            Fault: it cannot be listed to its end.
        """
        path = path_of(resource, key[:-1])
        async with self._looking:
            look = self._recent(path)
            if look is None:
                began_at = self._now()
                scope = _Scope(resource, key[:-1], self._next_listing())
                async with aclosing(self._list(scope)) as pages:
                    async for _ in pages:
                        pass
                for code, message in scope.problems.items():
                    raise Fault(code, message.rstrip("."))
                look = self._looks[path] = self._look_since(began_at, scope.number)
        return look.found

    def _recent(self, what: str) -> "_Look | None":
        look = self._looks.get(what)
        return look if look is not None and self._now() < look.until else None

    def _look_since(self, began_at: float, found: int) -> "_Look":
        """A look that ends now. What took long holds as long: or else each missing document would cost a listing."""
        ended_at = self._now()
        return _Look(ended_at + max(LOOKED_AGAIN_S, ended_at - began_at), found)

    def _resource_and_key(self, document: DocumentId) -> tuple[Resource, Key] | None:
        """What an id means; None if none of ours is written so."""
        name, _, rest = document.partition("/")
        resource = self._resources.get(name)
        if resource is None:
            return None
        key = tuple("" if part == "%" else unquote(part) for part in rest.split("/"))
        is_ours = len(self._ids(resource, key)) == len(key) and document_id(resource, key) == document
        return (resource, key) if is_ours else None

    # ------------------------------------------------------------------------------------------ fetching

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the record's text; from the request for one record as it is now, else as the listing showed it."""
        try:
            document = await self._read(ref.id)
        except Fault as fault:
            if fault.is_passing:
                self._budget.failed(fault)
            raise UnreadableDocument(fault.code, f"Cannot read {ref.id!r}: {fault}.") from fault
        self._budget.succeeded()
        return document

    async def _read(self, document: DocumentId) -> Document:
        resource, key = self._resource_and_key(document) or (None, ())
        kept = None if resource is None else await self._record(resource, key)
        if resource is None or kept is None or not is_taken(resource, kept.record):
            raise DocumentVanished(f"{document!r} was listed and is not there any more.")
        try:
            text = await self._text(resource, key, kept.record)
        except NoText as error:
            raise UnreadableDocument("no_text", f"Cannot read {document!r}: {error}.") from None
        except RecursionError:
            raise UnreadableDocument("no_text", f"Cannot read {document!r}: it is nested too deeply.") from None
        content = text.encode(errors="replace")
        if len(content) > self._settings.max_bytes:
            raise _too_large(document, self._settings.max_bytes)
        values = {name: find(path, kept.record) for name, path in resource.metadata.items()}
        return Document(
            self._ref(resource, key, kept.record, kept.at),
            content,
            f"{MEDIA_TYPES.get(resource.format, MEDIA_TYPES['markdown'])}; charset=utf-8",
            {name: value for name, value in values.items() if value is not None},
        )

    async def _record(self, resource: Resource, key: Key) -> "Kept | None":
        """The record that a document is made of; None if it is not there any more."""
        document = document_id(resource, key)
        if resource.is_read_from_listing:
            shown = self._spool.get(document)
            if shown is None and await self.locate(document) is not None:  # nothing was listed before, as in a replay
                shown = self._spool.get(document)
            return None if shown is None else Kept.decoded(shown.content)
        found = await self._ask_for(resource, key)
        if found is None:
            try:
                await self._require_listing(resource, key)
            except Fault as fault:
                raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault
            assert resource.detail is not None
            # One may go at any time; many, one after the other, tell of a path that leads nowhere.
            self._budget.failed(Fault("404", f"`detail` of {resource.name!r} finds nothing at {resource.detail.path}"))
            raise DocumentVanished(f"{document!r} was listed and is not there any more.")
        return found

    async def _ask_for(self, resource: Resource, key: Key) -> "Kept | None":
        """The record, as the request for one gives it; None if the API says that there is none."""
        detail = resource.detail
        assert detail is not None
        question = self._api.question(detail, self._ids(resource, key))
        try:
            answer = await self._api.ask(question)
        except Fault as fault:
            if fault.code in GONE:
                return None
            raise
        record = find(detail.record, answer.content)
        own = id_of(find(resource.id, record))
        parent = None if resource.parent is None else id_of(find(resource.parent, record))
        if own == key[-1]:
            return Kept(record, answer.at) if parent in (None, *key[-2:-1]) else None  # it was moved to another one
        if own is not None and where(answer.url) != where(question.url):  # it was moved, and is another record now
            return None
        raise Fault(
            "other_record", f"the answer to `detail` has another `id: {resource.id}` than was asked for, or none"
        )

    # ---------------------------------------------------------------------------------------------- text

    async def _text(self, resource: Resource, key: Key, record: Any) -> str:
        self._note_text(resource, record)
        texts = [as_text(find(path, record), resource.format) for path in resource.text or ()]
        parts = resource.parts
        if parts is not None and has_parts(resource, record):
            texts.append(join_parts([text async for text in self._parts(resource, parts, self._ids(resource, key))]))
        return "\n\n".join(text for text in texts if text and text.strip())

    async def _parts(
        self, resource: Resource, parts: Parts, ids: Mapping[str, str], above: Key = ()
    ) -> AsyncGenerator[str, None]:
        """The texts of the parts below a record or a part, in their order."""
        style = parts.pagination or self._settings.pagination
        size = 0
        async with aclosing(list_records(self._api, parts, style, ids, id_path=parts.nested_id)) as pages:
            async for page in pages:
                for part in page.records:
                    if parts.where is not None and not is_true(find(parts.where, part)):
                        continue
                    texts = (as_text(find(path, part), resource.format) for path in parts.text)
                    text = "\n\n".join(text for text in texts if text and text.strip())
                    size += len(text)
                    if size > self._settings.max_bytes:
                        raise _too_large(document_id(resource, tuple(ids.values())), self._settings.max_bytes)
                    if text:
                        yield text
                    if parts.nested is not None and is_true(find(parts.nested, part)):
                        own = id_of(find(parts.nested_id, part))
                        if own is None or own in above or len(above) >= PARTS_DEPTH_MAX:
                            raise Fault("too_deep", "its parts lie too deep within each other, or within themselves")
                        async for below in self._parts(resource, parts, {**ids, resource.name: own}, (*above, own)):
                            size += len(below)
                            yield below

    def _note_text(self, resource: Resource, record: Any) -> None:
        """Tell paths that are wrong from records that have no text.

        Raises:
            SourceError: many records in a row had nothing there, not even null, and none before them had.
        """
        paths = resource.text or ()
        if not paths or not all(is_absent(path, record) for path in paths):
            self._without_text[resource.name] = -1  # they lead somewhere
        elif self._without_text[resource.name] >= 0:
            self._without_text[resource.name] += 1
        if self._without_text[resource.name] >= WITHOUT_TEXT_MAX:
            raise SourceError(
                f"The first {WITHOUT_TEXT_MAX} records of {resource.name!r} have nothing at `text: {', '.join(paths)}`."
                " Nothing was concluded from that. Correct the path; `memsync preview` shows what one document becomes."
            )


# --------------------------------------------------------------------------------------------------------- values


@dataclass(slots=True)
class _Scan:
    """How far a scan came.

    `keys` are those of the records that others are listed for, by resource; `parents` are such resources. `broken` are
    the resources that were not listed whole, with the first reason. `errors` are those that were not told yet.
    """

    parents: set[str | None]
    keys: dict[str, list[Key]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    errors: list[ScanError] = field(default_factory=list)
    first_problem: str = ""
    is_listed: bool = False

    def take_errors(self) -> list[ScanError]:
        errors, self.errors = self.errors, []
        return errors


@dataclass(slots=True)
class _Scope:
    """The records of a resource below those of `parent`, and what kept their listing from being complete."""

    resource: Resource
    parent: Key
    number: int
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return path_of(self.resource, self.parent)

    @property
    def errors(self) -> list[ScanError]:
        return [
            ScanError(self.path, code, f"{message} Nothing is deleted there until it is listed whole.")
            for code, message in self.problems.items()
        ]

    def note(self, code: str, message: str) -> None:
        """Note what is wrong, once for each code."""
        self.problems.setdefault(code, message)


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found when something was looked for, and until when that holds, in seconds since the epoch."""

    until: float
    found: int


def _in_lists(events: Sequence[SourceEvent]) -> Iterable[list[SourceEvent]]:
    for start in range(0, len(events), EVENTS_PER_LIST_MAX):
        yield list(events[start : start + EVENTS_PER_LIST_MAX])


def _too_large(document: DocumentId, bytes_max: int) -> UnreadableDocument:
    return UnreadableDocument(
        "too_large", f"{document!r} has more than the {bytes_max:,} bytes that `source.max_bytes` allows."
    )
