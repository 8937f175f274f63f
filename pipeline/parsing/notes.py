"""What a speaker noted below the slides of a presentation; the library for office documents leaves it out."""

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.parsing.decoding import clean
from pipeline.parsing.xml import walk

_NOTES = re.compile(r"ppt/notesSlides/notesSlide\d+\.xml")
_SLIDE_NUMBER = re.compile(r"slide(\d+)\.xml")
NOTES_BYTES_MAX = 10 * 1024**2


def speaker_notes(presentation: bytes) -> str:
    """A Markdown section with the notes of each slide that has some, in their order; nothing if none has.

    Raises:
        UnreadableDocument, zipfile.BadZipFile, OSError: the presentation is broken.
    """
    with zipfile.ZipFile(io.BytesIO(presentation)) as package:
        found = sorted(_notes(package))
    sections = [f"### Slide {number}\n\n{text}" for number, text in found]
    return "\n\n".join(["## Notes", *sections]) if sections else ""


def _notes(package: zipfile.ZipFile) -> Iterator[tuple[int, str]]:
    names = set(package.namelist())
    for name in sorted(filter(_NOTES.fullmatch, names)):
        folder, file = posixpath.split(name)
        relations = f"{folder}/_rels/{file}.rels"
        slide = _SlideOfNotes()
        if relations in names:
            walk(_read(package, relations), slide)
        notes = _Notes()
        walk(_read(package, name), notes)
        text = "\n\n".join(clean("".join(words)).strip() for words in notes.paragraphs)
        if text.strip():
            yield slide.number, text.strip()


def _read(package: zipfile.ZipFile, name: str) -> bytes:
    with package.open(name) as file:
        return file.read(NOTES_BYTES_MAX)


@dataclass(slots=True)
class _SlideOfNotes:
    number: int = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship" and attributes.get("Type", "").endswith("/slide"):
            found = _SLIDE_NUMBER.search(attributes.get("Target", ""))
            self.number = int(found[1]) if found else 0

    def end(self, name: str) -> None: ...

    def add(self, text: str) -> None: ...


@dataclass(slots=True)
class _Notes:
    """The paragraphs in the shape that is for the notes; others hold the slide's picture and its number."""

    paragraphs: list[list[str]] = field(default_factory=list)
    _is_for_notes: bool = False
    _is_text: bool = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match name:
            case "p:sp":
                self._is_for_notes = False
            case "p:ph":
                self._is_for_notes = attributes.get("type") == "body"
            case "a:p" if self._is_for_notes:
                self.paragraphs.append([])
            case "a:t":
                self._is_text = self._is_for_notes and bool(self.paragraphs)

    def end(self, name: str) -> None:
        if name == "a:t":
            self._is_text = False

    def add(self, text: str) -> None:
        if self._is_text:
            self.paragraphs[-1].append(text)
