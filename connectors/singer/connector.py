"""Documents that are rows which a Singer tap reads: several hundred kinds of sources, by programs of others."""

import json
import re
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from anyio import CancelScope, Lock
from anyio.to_thread import run_sync
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.files import reason
from connectors.kit.one_or_more import OneOrMore
from connectors.kit.row_values import Fault, MediaType, NamesOfColumns
from connectors.kit.secrets import from_environment
from connectors.singer.listing import Event, Listing, ReplicationMethod, State, scope_of
from connectors.singer.tap import Tap
from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)
from pipeline.references import plain_part

Answer = TypeVar("Answer")
Word = Annotated[str, Field(min_length=1)]

# Keys of a tap's configuration whose values are secrets, by how taps name them, and URLs with a password.
_IS_SECRET = re.compile(
    r"(passw(or)?d|pwd|passphrase|secret|token|api_?key|access_?key|private_?key|credentials)$", re.IGNORECASE
).search
_HAS_PASSWORD = re.compile(r"[^:/\s]*://[^:/\s]*:[^@\s]+@").match


class StreamSettings(BaseModel):
    """Which rows of a stream are documents, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: NamesOfColumns | None = Field(
        default=None,
        description="The field that identifies a row, or a list of them; null: those that the tap names as its key.",
    )
    text: NamesOfColumns | None = Field(
        default=None,
        description="The field with the text, or a list of them; null: all fields of words but those below.",
    )
    title: Word | None = Field(default=None, description="The field with the title.")
    modified_at: Word | None = Field(
        default=None, description="The field with the time of the last change; a time without a zone counts as UTC."
    )
    metadata: Annotated[tuple[Word, ...], OneOrMore] = Field(
        default=(), description="Fields that go along, for `record.metadata` and `record.namespace` to use."
    )
    media_type: MediaType = Field(
        default="plain", description="What the text is: plain, markdown or html. The latter two for one field only."
    )
    replication_method: ReplicationMethod = Field(
        default="FULL_TABLE",
        description=(
            "FULL_TABLE: each run reads all rows, and what is not among them is removed. INCREMENTAL, LOG_BASED: a run "
            "reads what is new since the last one."
        ),
    )
    replication_key: Word | None = Field(
        default=None, description="The field that INCREMENTAL goes by, if the tap does not know by itself."
    )

    @model_validator(mode="after")
    def _is_unambiguous(self) -> "StreamSettings":
        if self.media_type != "plain" and (self.text is None or len(self.text) > 1):
            raise ValueError(f"`media_type: {self.media_type}` needs a `text` of one field")
        for name, fields in (("id", self.id), ("text", self.text), ("metadata", self.metadata)):
            if len(set(fields or ())) < len(fields or ()):
                raise ValueError(f"`{name}` should name each field once")
        return self


_Streams = Annotated[dict[Word, StreamSettings | None], Field(min_length=1)]  # as they may be written


class SingerSettings(BaseModel):
    """Which streams of which tap are documents."""

    # What is refused may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["singer"]
    command: Annotated[tuple[Word, ...], Field(min_length=1), OneOrMore] = Field(
        description=(
            "The tap's program, found in PATH or by its path, which is relative to the folder of this file; or a list "
            "of it and its first arguments. It lives in an environment of its own."
        )
    )
    config: dict[str, Any] = Field(
        default={},
        description="The tap's own configuration, as its documentation has it. Never with a secret, but by "
        "reference: `{token: ${env:NAME}}`.",
    )
    config_variables: dict[Word, Word] = Field(
        default={},
        description=(
            "Secrets of the configuration: a key of it (`credentials.token` is `token` within `credentials`, "
            "`accounts.0.token` that within the first of the list `accounts`), and the name of the environment "
            "variable that holds its value."
        ),
    )
    catalog: Word | None = Field(
        default=None,
        description=(
            "A file with the tap's catalog, relative to the folder of this file; null: each run asks the tap for it."
        ),
    )
    discovers: bool = Field(
        default=True, description="Whether the tap can be asked for its catalog; false for one that has none."
    )
    streams: Annotated[dict[Word, StreamSettings], Field(min_length=1)] = Field(
        description=(
            "The streams to read, by the tap's names for them (`public-pages: {}`), and of each, if there is more to "
            "say: `id`, `text`, `title`, `modified_at`, `metadata`, `media_type`, `replication_method`, "
            "`replication_key`."
        )
    )
    silence_s: float = Field(
        default=1800.0, gt=0, description="Seconds after which a tap that prints nothing is ended, its listing broken."
    )
    max_bytes: int = Field(
        default=50 * 1024 * 1024, gt=0, description="A row that takes more ends the tap, its listing broken."
    )

    @field_validator(
        "streams",
        mode="before",
        json_schema_input_type=Annotated[dict[Word, StreamSettings | None], Field(min_length=1)],
    )
    @classmethod
    def _may_say_nothing(cls, streams: object) -> object:
        if not isinstance(streams, Mapping):
            return streams
        return {name: {} if options is None else options for name, options in streams.items()}

    @model_validator(mode="after")
    def _has_no_secret(self) -> "SingerSettings":
        for path, value in _leaves(self.config):
            written = plain_part(value) if isinstance(value, str) else ""
            if written and (_IS_SECRET(path) or _HAS_PASSWORD(written)):
                raise ValueError(
                    f"`config.{path}` looks like a secret, which must not stand here; put a reference there, such as"
                    f" ${{env:NAME}}, or the name of an environment variable into `config_variables`: {{{path}: NAME}}"
                )
        for path in self.config_variables:
            if path in dict(_leaves(self.config)):
                raise ValueError(f"one of `config.{path}` and `config_variables.{path}` should be given")
        return self


class SingerConnector:
    """Every row of the streams is a document; the stream's name and the row's key are its id.

    A tap cannot be asked for one row, so what it prints is kept in a temporary file until the run is over: documents
    are fetched as they were listed. An edit shows by a digest of all that is read of a row.

    A stream of all rows was listed to its end once the tap has ended well. What is gone from it was missing twice: a
    tap is run once more before anything is concluded from absence, since many read pages that move meanwhile. A stream
    of changes shows what is gone only by marks (`_sdc_deleted_at`). The checkpoint is the tap's STATE.
    """

    settings_model: ClassVar[type[SingerSettings]] = SingerSettings

    def __init__(self, settings: SingerSettings, base_folder: Path) -> None:
        self._settings = settings
        self._base_folder = base_folder
        self._name = Path(settings.command[0]).name
        self._is_incremental = {options.replication_method != "FULL_TABLE" for options in settings.streams.values()}
        self._listing: Listing | None = None  # that of the last scan
        self._second: Listing | None = None  # and the one that says what is not there
        self._folder: Path | None = None
        self._one_at_a_time = Lock()
        self._listing_again = Lock()

    async def aclose(self) -> None:
        """Remove what was kept."""
        with CancelScope(shield=True):
            await self._ask(self._forget)

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        """Yield the rows in the order in which the tap prints them."""
        await self._ask(self._forget)
        is_listing = False
        try:
            listing = self._listing = await self._ask(self._new_listing)
            async with aclosing(self._run(listing, self._state_of(since))) as lists:
                async for events in lists:
                    is_listing = True
                    yield [self._checkpoint(event) if isinstance(event, State) else event for event in events]
        except Fault as fault:
            message = f"Cannot list {self._name}: {fault}. Nothing was concluded from that"
            if not is_listing:
                raise SourceError(f"{message}. Check `source` and what the tap needs; then run again.") from fault
            message += " but what came before; the next run lists it anew."
            yield [ScanError(scope, fault.code, message) for scope in self._scopes]
            return
        problems = [problem for name in listing.streams for problem in listing.problems(name)]
        if not is_listing and all(stream.reader is None for stream in listing.streams.values()):
            raise SourceError(problems[0].message)
        yield [*problems, *self._last_words()]

    async def fetch(self, ref: DocumentRef) -> Document:
        """Return the row as it was listed."""
        found = await self._find(ref.id)
        if found is None:
            await self.locate(ref.id)
            found = await self._find(ref.id)
        if found is None:
            raise DocumentVanished(f"{ref.id!r} is not there any more.")
        return found

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        """Return the row as a run of the tap showed it; None if that showed all rows and not this one.

        What the run that listed the documents did not show, another one is asked for.
        """
        try:
            return await self._locate(document)
        except Fault as fault:
            raise SourceError(f"Cannot tell whether {document!r} is still there: {fault}.") from fault

    async def _locate(self, document: DocumentId) -> DocumentRef | None:
        if self._listing is not None and await self._ask(partial(self._listing.has, document)) is not None:
            found = await self._ask(partial(self._listing.document, document))
            return None if found is None else found.ref  # it said so itself
        scope = next((scope for scope in self._scope_by_stream.values() if document.startswith(scope)), None)
        if scope is None:
            return None  # the settings leave it out
        second = await self._listed_again()
        found = await self._ask(partial(second.document, document))
        if found is not None:
            return found.ref
        name = next(name for name, its_scope in self._scope_by_stream.items() if its_scope == scope)
        if not second.streams[name].is_full or [*second.problems(name)]:
            raise SourceError(
                f"Cannot tell whether {document!r} is still there: the tap does not list all rows of {name!r}."
            )
        return None

    # ------------------------------------------------------------------------------------------------ listing

    @property
    def _scope_by_stream(self) -> dict[str, str]:
        return {name: scope_of(name) for name in self._settings.streams}

    @property
    def _scopes(self) -> list[str]:
        """The scopes that a run speaks of: everything, unless some of it is listed as a whole and some is not."""
        return [""] if len(self._is_incremental) == 1 else list(self._scope_by_stream.values())

    def _last_words(self) -> Iterator[SourceEvent]:
        if len(self._is_incremental) == 1:
            yield ScanIncremental() if True in self._is_incremental else ScanComplete()
            return
        for name, scope in self._scope_by_stream.items():
            is_full = self._settings.streams[name].replication_method == "FULL_TABLE"
            yield ScanComplete(scope) if is_full else ScanIncremental(scope)

    async def _run(self, listing: Listing, state: object) -> AsyncGenerator[list[Event], None]:
        """Run the tap; yield what it prints in lists that are not empty.

        Raises:
            Fault: it did not run to its end.
            SourceError: it cannot be run at all.
        """
        tap = self._tap()
        catalog = await self._catalog(tap)
        fault: Fault | None = None
        try:
            async with aclosing(tap.lines(catalog, state)) as printed:
                async for lines in printed:
                    lists, fault = await self._ask(partial(listing.take, lines))
                    for events in lists:
                        yield events
                    if fault is not None:
                        break
        except Fault as error:
            fault = error
        for events in await self._ask(listing.rest):
            yield events
        if fault is not None:
            raise fault

    async def _listed_again(self) -> Listing:
        """A listing of all, made at most once.

        Raises:
            Fault, SourceError: there is none.
        """
        async with self._listing_again:
            if self._second is None:
                second = await self._ask(self._new_listing)
                try:
                    async with aclosing(self._run(second, None)) as lists:
                        async for _ in lists:
                            pass
                except BaseException:
                    second.close()
                    raise
                self._second = second
        return self._second

    def _new_listing(self) -> Listing:
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="memsync-rows-"))
            number = len(list(self._folder.iterdir()))
            file = self._folder / f"{number}.sqlite3"
            return Listing(file, self._settings.streams, f"singer://{self._name}/")
        except OSError as error:
            raise SourceError(
                f"What {self._name} prints cannot be kept in a temporary file: {reason(error)}. Nothing was done."
            ) from error

    def _forget(self) -> None:
        for listing in (self._listing, self._second):
            if listing is not None:
                listing.close()
        self._listing = self._second = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    async def _find(self, document: DocumentId) -> Document | None:
        for listing in (self._listing, self._second):
            if listing is not None:
                try:
                    found = await self._ask(partial(listing.document, document))
                except Fault as fault:
                    raise UnreadableDocument(fault.code, f"Cannot read {document!r}: {fault}.") from fault
                if found is not None:
                    return found
        return None

    async def _ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer, by a thread, while no other asks."""
        async with self._one_at_a_time:
            return await run_sync(question)

    # ------------------------------------------------------------------------------------- what the tap is told

    def _tap(self) -> Tap:
        config = deepcopy(self._settings.config)
        secrets: list[str] = []
        for path, variable in self._settings.config_variables.items():
            value = from_environment(f"config_variables.{path}", variable)
            _put(config, path.split("."), value)
            secrets.append(value)
        return Tap(
            self._settings.command,
            config,
            secrets,
            base_folder=self._base_folder,
            silence_s=self._settings.silence_s,
            line_bytes_max=self._settings.max_bytes,
        )

    async def _catalog(self, tap: Tap) -> dict[str, Any] | None:
        """The catalog with just our streams selected."""
        if self._settings.catalog is not None:
            catalog = await run_sync(_read_catalog, self._base_folder, self._settings.catalog)
        elif self._settings.discovers:
            catalog = await tap.discover()
        else:
            return None
        return _selected(catalog, self._settings.streams)

    # ------------------------------------------------------------------------------------------- checkpoints

    def _checkpoint(self, state: State) -> Checkpoint:
        return Checkpoint(json.dumps(state.value, default=str))

    def _state_of(self, since: Checkpoint | None) -> object:
        """What the tap is to begin at; None for the beginning.

        Streams of all rows are left out of it: a tap would go on where it stopped, and the rows before be missing.
        """
        if since is None or True not in self._is_incremental:
            return None
        try:
            state = json.loads(since.value)
        except ValueError:
            return None
        if not isinstance(state, dict):
            return None
        state = {name: value for name, value in state.items() if name != "currently_syncing"}
        if False in self._is_incremental:
            bookmarks = state.get("bookmarks")
            if not isinstance(bookmarks, dict):
                return None
            full = {n for n, options in self._settings.streams.items() if options.replication_method == "FULL_TABLE"}
            state = {"bookmarks": {name: value for name, value in bookmarks.items() if name not in full}}
        return state


def _leaves(config: Mapping[str, Any] | list[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items() if isinstance(config, Mapping) else enumerate(config):
        if isinstance(value, Mapping | list):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _put(config: dict[str, Any], path: Sequence[str], value: str) -> None:
    *folders, name = path
    at: Any = config
    try:
        for folder in folders:
            at = at[int(folder)] if isinstance(at, list) else at.setdefault(folder, {})
        at.update({name: value})
    except (AttributeError, ValueError, IndexError):
        raise SourceError(
            f"`source.config_variables` goes into `{'.'.join(folders)}`, which is no mapping. Nothing was done."
        ) from None


def _read_catalog(base_folder: Path, name: str) -> dict[str, Any]:
    file = base_folder / Path(name).expanduser()
    try:
        catalog = json.loads(file.read_bytes())
    except OSError as error:
        raise SourceError(f"The catalog {str(file)!r} cannot be read: {reason(error)}. Nothing was done.") from error
    except (ValueError, RecursionError):
        catalog = None
    if not isinstance(catalog, dict) or not isinstance(catalog.get("streams"), list):
        raise SourceError(f"The file {str(file)!r} is no catalog of a tap. Nothing was done; check `source.catalog`.")
    return catalog


def _selected(catalog: dict[str, Any], streams: Mapping[str, StreamSettings]) -> dict[str, Any]:
    """`catalog` with just these streams selected, each with all its fields.

    Said in all the ways that taps listen to.

    Raises:
        SourceError: a stream is not there.
    """
    known: dict[str, dict[str, Any]] = {}
    for entry in catalog["streams"]:
        if isinstance(entry, dict):
            _select(entry, None)
            for name in (entry.get("stream"), entry.get("tap_stream_id")):
                if isinstance(name, str):
                    known[name] = entry
    for name, options in streams.items():
        if name not in known:
            names = ", ".join(sorted(repr(each) for each in known)) or "none"
            raise SourceError(f"The tap has no stream {name!r}, but {names}. Nothing was done; check `source.streams`.")
        _select(known[name], options)
    return catalog


def _select(entry: dict[str, Any], options: StreamSettings | None) -> None:
    said: dict[str, Any] = {"selected": options is not None}
    if options is not None:
        entry["replication_method"] = said["replication-method"] = options.replication_method
        if options.replication_key is not None:
            entry["replication_key"] = said["replication-key"] = options.replication_key
    if isinstance(entry.get("schema"), dict):
        entry["schema"]["selected"] = options is not None
    metadata = entry.get("metadata")
    entry["metadata"] = metadata = metadata if isinstance(metadata, list) else []
    metadata = [each for each in metadata if isinstance(each, dict) and isinstance(each.get("metadata"), dict)]
    for each in metadata:
        if each.get("breadcrumb") == []:
            each["metadata"].update(said)
        elif each["metadata"].get("inclusion") != "unsupported":
            each["metadata"]["selected"] = options is not None
    if not any(each.get("breadcrumb") == [] for each in metadata):
        entry["metadata"].append({"breadcrumb": [], "metadata": said})
