"""Singer taps to run: one of our own, and real ones, each installed in an environment of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from connectors.kit.row_values import write_id
from connectors.singer.connector import SingerConnector, SingerSettings
from connectors.singer.listing import scope_of
from pipeline.model import DocumentId

SCRIPT = Path(__file__).with_name("singer_tap_script.py")
INSTALL_S = 80
_REFUSED: dict[str, str] = {}
TAPS = Path(sys.prefix) / "taps"  # beside what the tests themselves need, so that each is installed once


def installed_tap(requirement: str, program: str) -> str:
    """The path of a tap from PyPI; skips the test, and says why, if it cannot be installed in good time."""
    if requirement in _REFUSED:
        pytest.skip(_REFUSED[requirement])
    TAPS.mkdir(exist_ok=True)
    place = TAPS / requirement
    with FileLock(TAPS / f"{requirement}.lock"):
        if not (place / "ready").exists():
            new = [sys.executable, "-m", "venv", "--without-pip", "--clear", str(place)]
            pip = [sys.executable, "-m", "pip", f"--python={place}/bin/python", "install", "--quiet", requirement]
            try:
                for command in (new, pip):
                    subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL_S)
            except subprocess.SubprocessError as error:
                _REFUSED[requirement] = f"{requirement} was NOT tested, as it cannot be installed: {error}"
                pytest.skip(_REFUSED[requirement])
            (place / "ready").touch()
    return str(place / "bin" / program)


def page_id(name: object, stream: str = "pages") -> DocumentId:
    return DocumentId(scope_of(stream) + write_id([name]))


def lives(process: int) -> bool:
    """Whether a process that was killed is still there: it may take a moment to be buried."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@dataclass
class ScriptWorld:
    """Rows in a file that our own tap reads."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    streams: Mapping[str, Any] = field(default_factory=lambda: {"pages": {"text": "text"}})
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"pages": []})
    seq: int = 0
    faults: tuple[str, ...] = ()
    opened: list[SingerConnector] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.save()

    def connector(self, **options: Any) -> SingerConnector:
        settings = {
            "type": "singer",
            "command": [sys.executable, "-S", str(SCRIPT)],
            "config": {"folder": str(self.folder), **options.pop("config", {})},
            "discovers": False,
            "streams": self.streams,
            **self.options,
            **options,
        }
        connector = SingerConnector(SingerSettings.model_validate(settings), self.folder)
        self.opened.append(connector)
        return connector

    async def aclose(self) -> None:
        for connector in self.opened:
            await connector.aclose()

    def save(self) -> None:
        (self.folder / "rows.json").write_text(json.dumps(self.rows))

    def add(self, id: object, stream: str = "pages", **values: Any) -> DocumentId:  # noqa: A002 - the field's name
        """Add a row or change it."""
        self.rows.setdefault(stream, [])
        self.rows[stream] = [row for row in self.rows[stream] if row["id"] != id]
        self.seq += 1
        self.rows[stream].append({"id": id, "seq": self.seq, **values})
        self.save()
        return page_id(id, stream) if isinstance(id, str | int) else DocumentId("")

    def put(self, name: str, content: bytes) -> DocumentId:
        return self.add(name, text=content.decode())

    def remove(self, name: object, stream: str = "pages") -> None:
        self.rows[stream] = [row for row in self.rows[stream] if row["id"] != name]
        self.save()

    def remove_root(self) -> None:
        (self.folder / "rows.json").unlink()

    def make_unlistable(self, folder: str) -> None:
        pytest.skip("a stream is listed as a whole or not")

    @property
    def was_spoilt(self) -> bool:
        return (self.folder / "struck").exists()

    def spoil(self, kind: str, line: int) -> None:
        (self.folder / "struck").unlink(missing_ok=True)
        (self.folder / "fault.json").write_text(json.dumps({"kind": kind, "line": line}))

    def heal(self) -> None:
        (self.folder / "fault.json").unlink(missing_ok=True)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """How the tap was called, each time."""
        file = self.folder / "runs.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
