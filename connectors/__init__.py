"""Which connector a `type` in the configuration means.

A connector is a class in a file of this package, or one that another distribution names as an entry point:

    [project.entry-points."memsync.connectors"]
    wiki = "my_package.wiki:WikiConnector"
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipeline.errors import ConfigurationError
from pipeline.protocols import SourceConnector

if TYPE_CHECKING:
    from pydantic import BaseModel

GROUP = "memsync.connectors"

BUILT_IN = {
    "feed": "connectors.feed.connector:FeedConnector",
    "filesystem": "connectors.filesystem:FilesystemConnector",
    "fsspec": "connectors.fsspec.connector:FsspecConnector",
    "git": "connectors.git.connector:GitConnector",
    "imap": "connectors.imap.connector:ImapConnector",
    "rest": "connectors.rest.connector:RestConnector",
    "s3": "connectors.s3:S3Connector",
    "singer": "connectors.singer.connector:SingerConnector",
    "sql": "connectors.sql.connector:SqlConnector",
    "web": "connectors.web.connector:WebConnector",
}


class ConnectorType(Protocol):
    """A connector's class: the model of its settings, and called with them, the connector.

    Paths in the settings are relative to `base_folder`, the folder of the YAML file.
    """

    @property
    def settings_model(self) -> "type[BaseModel]": ...

    def __call__(self, settings: Any, base_folder: Path) -> SourceConnector: ...


@runtime_checkable
class NeedsPackages(Protocol):
    """A connector's class that needs packages which are not installed with it."""

    def missing_packages(self, settings: Any) -> Sequence[str]:
        """What to tell `pip install`, as it is typed, so that a source with these settings can be read.

        The settings are as they are written: with references in them, and not always valid.
        """
        ...


class _ConnectorTypes(Mapping[str, ConnectorType]):
    """Imports a connector when it is looked up, so that no run pays for libraries that it does not use.

    Nor for a look at all that is installed, unless a connector is not one of ours.
    """

    @cached_property
    def _entry_point_by_type(self) -> Mapping[str, EntryPoint]:
        return {**{found.name: found for found in entry_points(group=GROUP)}, **_built_in()}

    def __getitem__(self, type_name: str) -> ConnectorType:
        entry_point = _built_in().get(type_name) or self._entry_point_by_type[type_name]
        try:
            connector_type: ConnectorType = entry_point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"The connector {type_name!r} cannot be loaded from {entry_point.value!r}: {error}"
            ) from error
        return connector_type

    def __iter__(self) -> Iterator[str]:
        return iter(self._entry_point_by_type)

    def __len__(self) -> int:
        return len(self._entry_point_by_type)


def connector_types() -> Mapping[str, ConnectorType]:
    """Return the connectors by the `type` that names them; a built-in one keeps its name."""
    return _ConnectorTypes()


def distribution_of(type_name: str) -> str | None:
    """The name of the installed distribution that brings a connector; None for a built-in one."""
    if type_name in BUILT_IN:
        return None
    found = next((found for found in entry_points(group=GROUP) if found.name == type_name), None)
    return found.dist.name if found is not None and found.dist is not None else None


def _built_in() -> dict[str, EntryPoint]:
    return {name: EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()}
