"""The YAML file of a source together with the files that it extends.

    extends: ../shared.yaml        # or a list of files; of two, the later one wins

Mappings are merged, however deep; of anything else the file's own value wins, and a list replaces a list. The name of a
file stands relative to the one that extends it. All other paths are relative to the file that is run.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.configuration.yaml_source import Place, YamlDocument, read_yaml
from pipeline.errors import ConfigurationError

EXTENDS = "extends"
FILES_MAX = 32


class FilePlace(NamedTuple):
    """A place in one of the files."""

    path: Path
    place: Place


@dataclass(frozen=True)
class SourceFile:
    """What the files say together; `documents` begins with the file that is run, and earlier ones win."""

    documents: tuple[YamlDocument, ...]

    @property
    def path(self) -> Path:
        """The file that is run."""
        return self.documents[0].path

    @cached_property
    def values(self) -> dict[str, Any]:
        """The settings, merged."""
        values: dict[str, Any] = {}
        for document in reversed(self.documents):
            values = merged(values, {key: value for key, value in document.values.items() if key != EXTENDS})
        return values

    def place(self, location: Sequence[str | int], *, of_key: bool = False) -> FilePlace:
        """Where the value at `location` stands, or its key; if it is missing, the key of what is around it."""
        documents = [(document, document.values) for document in self.documents]
        for step in location:
            below = list(_below(documents, step))
            if below:
                documents = below
        document = documents[0][0]
        return FilePlace(document.path, document.place(location, of_key=of_key))

    def has(self, location: Sequence[str | int]) -> bool:
        """Whether one of the files says what is at `location`."""
        documents: list[tuple[YamlDocument, Any]] = [(document, document.values) for document in self.documents]
        for step in location:
            documents = list(_below(documents, step))
        return bool(documents)


def _below(documents: Sequence[tuple[YamlDocument, Any]], step: str | int) -> Iterator[tuple[YamlDocument, Any]]:
    """Those that say something at `step`, as far as they are merged: what stands below something else is hidden."""
    first = documents[0][1] if documents else None
    if isinstance(first, list):
        if isinstance(step, int) and step < len(first):
            yield documents[0][0], first[step]
        return
    for document, values in documents:
        if not isinstance(values, Mapping):
            return
        if step in values:
            yield document, values[step]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one; where they differ, what `above` says."""
    result = dict(below)
    for key, value in above.items():
        before = result.get(key)
        is_deep = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merged(before, value) if is_deep else value  # type: ignore[arg-type]
    return result


def read_source_file(path: Path) -> SourceFile:
    """Read the file at `path` and all that it extends.

    Raises:
        ConfigurationError: one of them cannot be read, or extends itself in the end.
    """
    return with_extended(read_yaml(path))


def with_extended(document: YamlDocument) -> SourceFile:
    """`document` and all that it extends.

    Raises:
        ConfigurationError: as for `read_source_file`.
    """
    return SourceFile(tuple(_read({}, document, ())))


def extended_by(document: YamlDocument) -> list[tuple[Sequence[str | int], Path]]:
    """The files that `document` names, each with where it names it.

    Raises:
        ConfigurationError: what it says is no list of files.
    """
    if EXTENDS not in document.values:
        return []
    said = document.values[EXTENDS]
    names: list[tuple[Sequence[str | int], Any]] = [((EXTENDS,), said)] if isinstance(said, str) else []
    if isinstance(said, list):
        names = [((EXTENDS, number), name) for number, name in enumerate(said)]
    if not names or not all(isinstance(name, str) and name and "\0" not in name for _, name in names):
        raise _fault("`extends` should be a file, such as `extends: ../shared.yaml`, or a list of files", document)
    folder = document.path.parent
    return [(location, folder / _expanded(name, document, location)) for location, name in names]


def _expanded(name: str, document: YamlDocument, location: Sequence[str | int]) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise _fault("`extends` begins with `~`, and that home folder cannot be found", document, location) from error


def _read(known: dict[str, YamlDocument], document: YamlDocument, above: tuple[Path, ...]) -> Iterator[YamlDocument]:
    """`document` and what it extends, each once, in the order in which they win."""
    above = (*above, document.path)
    known[os.path.realpath(document.path)] = document
    yield document
    for location, path in reversed(extended_by(document)):
        real_path = os.path.realpath(path)
        if real_path in map(os.path.realpath, above):
            way = " → ".join(each.name for each in (*above, path))
            raise _fault(f"`extends` goes round in a circle: {way}", document, location)
        if real_path in known:  # it wins already over what stands behind
            continue
        if len(known) >= FILES_MAX:
            raise _fault(f"`extends` leads to more than {FILES_MAX} files", document, location)
        try:
            extended = read_yaml(path)
        except ConfigurationError as error:
            if error.line is not None:
                raise
            raise _fault(f"`extends` names {path}, which {error.problem}", document, location) from error
        yield from _read(known, extended, above)


def _fault(problem: str, document: YamlDocument, location: Sequence[str | int] = (EXTENDS,)) -> ConfigurationError:
    return ConfigurationError(problem, path=str(document.path), **document.place(location)._asdict())
