"""`type` in the configuration finds its connector."""

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import connectors
from connectors import connector_types
from connectors.filesystem import FilesystemConnector, FilesystemSettings
from pipeline.errors import ConfigurationError


def install(monkeypatch: pytest.MonkeyPatch, **value_by_name: str) -> None:
    """Make it look as if other distributions had brought these connectors along."""
    found = EntryPoints(EntryPoint(name, value, connectors.GROUP) for name, value in value_by_name.items())
    monkeypatch.setattr(connectors, "entry_points", lambda group: found.select(group=group))


def test_a_type_gives_its_settings_and_its_connector(tmp_path: Path) -> None:
    """The command line needs the model first, to say where a setting is wrong."""
    filesystem = connector_types()["filesystem"]

    settings = filesystem.settings_model.model_validate({"type": "filesystem", "path": "."})

    assert settings == FilesystemSettings(type="filesystem", path=Path())
    assert isinstance(filesystem(settings, tmp_path), FilesystemConnector)


def test_other_distributions_add_types_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connector for one company's wiki needs no change here."""
    install(monkeypatch, wiki="connectors.filesystem:FilesystemConnector")

    types = connector_types()

    assert set(types) == {*connectors.BUILT_IN, "wiki"}
    assert types["wiki"] is FilesystemConnector


def test_no_other_distribution_takes_the_place_of_a_built_in_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing a package must not change what a configuration means."""
    install(monkeypatch, filesystem="somewhere.else:Connector")

    assert connector_types()["filesystem"] is FilesystemConnector


def test_a_connector_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user must learn which package to repair."""
    install(monkeypatch, wiki="not_installed_anywhere:Connector")

    with pytest.raises(ConfigurationError, match=r"'wiki'.*not_installed_anywhere"):
        connector_types()["wiki"]


def test_an_unknown_type_is_a_missing_key() -> None:
    """It is a mapping like any other."""
    assert "nonsense" not in connector_types()


def test_listing_the_types_imports_no_connector() -> None:
    """No run pays for the libraries of connectors that it does not use."""
    script = "import sys, connectors; list(connectors.connector_types()); print('pathspec' in sys.modules)"

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert printed.stdout.strip() == "False"
