"""A source that is edited while it is read, and whose listings break, lie and end too early."""

import hashlib
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio

from pipeline.errors import DocumentVanished, SourceError, UnreadableDocument
from pipeline.model import (
    Checkpoint,
    Document,
    DocumentId,
    DocumentRef,
    DocumentRemoved,
    Fingerprint,
    ScanComplete,
    ScanError,
    ScanIncremental,
    SourceEvent,
)
from tests.simulation.world import World

MODIFIED_AT = datetime(2024, 1, 1, tzinfo=UTC)
FOLDERS = ("a/", "b/")
LISTED_AT_ONCE = 3
LIES = ("source: looks empty", "source: document forgotten", "source: vanished")

Content = dict[str, str]  # paragraphs, or lines, by a name that stays
RecordName = tuple[str, str]  # the id of the document that a record is of, and its text


@dataclass
class Source:
    """Documents are Markdown, of paragraphs that are too long for two to share a chunk, or JSON Lines.

    `held_since` tells since when each record is wanted without a break, `versions` when it was wanted at all. With
    `is_journal`, a listing shows what has changed since the last one, and everything if it is not told which that was.
    """

    world: World
    documents: dict[str, Content] = field(default_factory=dict)
    held_since: dict[RecordName, float] = field(default_factory=dict)
    newest_version: dict[RecordName, int] = field(default_factory=dict)
    oldest_version: dict[RecordName, int] = field(default_factory=dict)
    changed_at: dict[str, float] = field(default_factory=dict)
    faults: dict[str, float] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  # that are there and that nobody can see: a disk is not mounted
    truncated: set[str] = field(default_factory=set)  # whose text nobody can see
    shut: str | None = None  # a folder that cannot be listed
    lied_at: float = 0.0  # when it last said that something is not there which is
    is_journal: bool = False
    changes: dict[str, int] = field(default_factory=dict)  # the version in which each document changed last
    _version: int = 0
    _made: int = 0

    # ------------------------------------------------------------------------------------------- editing

    def paragraph(self, marker: str = "") -> str:
        self._made += 1
        return f"Paragraph {self._made} {marker} says what it says and nothing else, in words. End {self._made}."

    def put(self, name: str, content: Content | None) -> None:
        """Give a document this content; None removes it."""
        before = self.names_of(name, self.documents.get(name))
        after = self.names_of(name, content)
        now = self.world.now()
        self._version += 1
        self.changed_at[name] = now
        self.changes[name] = self._version
        for gone in before - after:
            self.held_since.pop(gone, None)
        for wanted in after:
            self.held_since.setdefault(wanted, now)
            self.newest_version[wanted] = self._version
            self.oldest_version.setdefault(wanted, self._version)
        if content is None:
            self.documents.pop(name, None)
        else:
            self.documents[name] = dict(content)
        self.world.note(f"source: {name} has {'no more' if content is None else len(content)}")

    def edit_something(self) -> None:
        """One change that people make."""
        rng, names = self.world.rng, sorted(self.documents)
        kind = rng.choice(("add", "add", "remove", "edit", "edit", "edit", "insert", "cut", "undo", "rename", "touch"))
        if kind == "add" or not names:
            suffix = "jsonl" if rng.random() < 0.25 else "md"
            self._made += 1
            name = f"{rng.choice(FOLDERS)}{self._made}.{suffix}"
            self.put(name, {f"p{n}": self.paragraph() for n in range(rng.randint(1, 5))})
            return
        name = rng.choice(names)
        content = dict(self.documents[name])
        if kind == "remove":
            self.put(name, None)
        elif kind == "rename":
            self.rename(name, self.other_name(name))
        elif kind == "touch":
            self.put(name, content)
        elif kind == "insert":
            self._made += 1
            items = list(content.items())
            items.insert(rng.randint(0, len(items)), (f"q{self._made}", self.paragraph()))
            self.put(name, dict(items))
        elif kind == "cut" and len(content) > 1:
            content.pop(rng.choice(sorted(content)))
            self.put(name, content)
        elif kind == "undo":
            place = rng.choice(sorted(content))
            before = content[place]
            self.put(name, {**content, place: self.paragraph()})
            if rng.random() < 0.5:
                self.world.nursery.start_soon(self._undo_later, name, place, before)
        else:
            self.put(name, {**content, rng.choice(sorted(content)): self.paragraph()})

    def rename(self, name: str, now: str) -> None:
        """Call a document otherwise; one that is called so already swaps names with it."""
        content = self.documents[name]
        self.put(name, self.documents.get(now))
        self.put(now, content)

    def other_name(self, name: str) -> str:
        """A new name for a document, or one that a document has or had before."""
        rng, suffix = self.world.rng, name.rpartition(".")[2]
        taken = sorted(other for other in self.changes if other.endswith(suffix) and other != name)
        if taken and rng.random() < 0.4:
            return rng.choice(taken)
        self._made += 1
        return f"{rng.choice(FOLDERS)}{self._made}.{suffix}"

    async def _undo_later(self, name: str, place: str, before: str) -> None:
        await trio.sleep(self.world.rng.uniform(0, 60))
        if place in self.documents.get(name, {}):
            self.put(name, {**self.documents[name], place: before})

    @staticmethod
    def names_of(name: str, content: Content | None) -> set[RecordName]:
        """The records that this content of a document is to become."""
        if content is None:
            return set()
        if name.endswith(".jsonl"):
            return {(f"{name}#{place}", text) for place, text in content.items()}
        return {(name, text) for text in content.values()}

    def wanted(self) -> set[RecordName]:
        return {wanted for name, content in self.documents.items() for wanted in self.names_of(name, content)}

    # --------------------------------------------------------------------------------- what the pipeline sees

    async def scan(self, since: Checkpoint | None) -> AsyncGenerator[Sequence[SourceEvent], None]:
        strikes = self._strikes
        await trio.lowlevel.checkpoint()
        if strikes("source: missing"):
            raise SourceError("The simulated source is missing.")
        version = Checkpoint(str(self._version))
        if self.is_journal and since is not None:
            async for events in self._changes_since(int(since.value)):
                yield events
            yield [] if strikes("source: end not said") else [ScanIncremental(), version]
            return
        shut = self.world.rng.choice(FOLDERS) if strikes("source: folder shut") else self.shut
        is_empty = strikes("source: looks empty")
        seen: set[str] = set()
        if shut is not None:
            yield [ScanError(shut, "PermissionError", "not listed")]
        page: list[SourceEvent] = []
        while not is_empty and (name := self._next(seen)) is not None:
            seen.add(name)
            if shut is not None and name.startswith(shut):
                continue
            if strikes("source: listing breaks"):
                raise SourceError("The simulated listing broke off.")
            if self.is_journal or not strikes("source: document forgotten"):
                page.append(self._ref(name))
            if strikes("source: listed twice"):
                page.append(self._ref(name))
            if len(page) >= LISTED_AT_ONCE:
                yield page
                page = []
                await trio.sleep(self.world.rng.uniform(0, 2) if self.world.has_faults else 0)
        if not strikes("source: end not said"):
            page.append(ScanComplete(""))
            if self.is_journal and not is_empty and shut is None:
                page.append(version)
        yield page

    async def _changes_since(self, version: int) -> AsyncGenerator[Sequence[SourceEvent], None]:
        for name in sorted(
            (name for name in self.changes if self.changes[name] > version), key=self.changes.__getitem__
        ):
            if self._strikes("source: listing breaks"):
                raise SourceError("The simulated listing broke off.")
            yield [self._ref(name) if name in self.documents else DocumentRemoved(DocumentId(name))]
            await trio.sleep(self.world.rng.uniform(0, 2) if self.world.has_faults else 0)

    def _next(self, seen: set[str]) -> str | None:
        return min((name for name in self.documents if name not in seen and name not in self.hidden), default=None)

    async def fetch(self, ref: DocumentRef) -> Document:
        await trio.lowlevel.checkpoint()
        is_denied = not self.is_journal and self._strikes("source: vanished")
        if ref.id not in self.documents or ref.id in self.hidden or is_denied:
            raise DocumentVanished("It was listed and is not there.")
        if self._strikes("source: unreadable"):
            raise UnreadableDocument("PermissionError", "The simulated document cannot be read.")
        return Document(self._ref(ref.id), self._bytes(ref.id))

    async def locate(self, document: DocumentId) -> DocumentRef | None:
        await trio.lowlevel.checkpoint()
        if self._strikes("source: cannot tell"):
            raise SourceError("The simulated source cannot tell.")
        return self._ref(document) if document in self.documents and document not in self.hidden else None

    def trace(self, ref: DocumentRef) -> str | None:
        return ref.fingerprint

    def _strikes(self, fault: str) -> bool:
        strikes = self.world.happens(fault, self.faults.get(fault, 0.0))
        if strikes and fault in LIES:
            self.lied_at = self.world.now()
        return strikes

    def _bytes(self, name: str) -> bytes:
        content = {} if name in self.truncated else self.documents[name]
        if name.endswith(".jsonl"):
            return "".join(json.dumps({"id": place, "text": text}) + "\n" for place, text in content.items()).encode()
        return "\n\n".join(content.values()).encode()

    def _ref(self, name: str) -> DocumentRef:
        content = self._bytes(name)
        return DocumentRef(
            id=DocumentId(name),
            uri=f"sim:///{name}",
            fingerprint=Fingerprint(hashlib.sha256(content).hexdigest()),
            size_bytes=len(content),
            modified_at=MODIFIED_AT,
        )
