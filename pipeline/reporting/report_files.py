"""Where reports are kept: one JSON file for each run, and the page made of it beside it."""

import errno
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import StateError
from pipeline.files import make_folder
from pipeline.reporting.recorder import SCHEMA

# By their names, files stand in the order in which their runs began, of which a second may see several.
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-(?P<run_id>[A-Za-z0-9_-]+)\.json")


def report_name(run_id: str, started_at: float) -> str:
    """The name of a report's file; `started_at` is in seconds since the epoch."""
    return f"{datetime.fromtimestamp(started_at, UTC):%Y%m%dT%H%M%S.%fZ}-{run_id}.json"


@dataclass(frozen=True, slots=True)
class ReportFolder:
    """The reports of one source. They can be read by their owner only."""

    path: Path

    def save(self, report: Mapping[str, Any], is_whole: bool) -> None:
        """Write a report, in place of an earlier one of the same run. A draft may be lost in a power cut.

        Raises:
            OSError: it cannot be written.
        """
        make_folder(self.path)
        name = report_name(report["run_id"], report["started_at"])
        write_for_owner(self.path / name, json.dumps(report).encode(), is_durable=is_whole)

    def files(self) -> list[Path]:
        """The reports, the newest first.

        Raises:
            StateError: the folder cannot be read.
        """
        try:
            found = [file for file in self.path.iterdir() if _NAME.fullmatch(file.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"The folder of reports {self.path} cannot be read: {error.strerror}.") from error
        return sorted(found, reverse=True)

    def prune(self, keep: int) -> None:
        """Remove all but the last `keep` reports, with their pages.

        Raises:
            StateError, OSError: the folder cannot be read, or a file not removed.
        """
        for file in self.files()[keep:]:
            for old in (file, file.with_suffix(".html")):
                with suppress(FileNotFoundError):  # another run tidies up as well
                    old.unlink()


def run_id_of(file: Path) -> str:
    """The run that a file of `ReportFolder.files` is of."""
    found = _NAME.fullmatch(file.name)
    assert found is not None
    return found["run_id"]


def read_report(file: Path) -> dict[str, Any]:
    """The report in `file`.

    Raises:
        StateError: it cannot be read, or is not one that this version knows.
    """
    try:
        report = json.loads(file.read_bytes())
    except OSError as error:
        raise StateError(f"The report {file} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise StateError(
            f"The report {file} is damaged, as by a power cut. Those of other runs can be shown."
        ) from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise StateError(f"The report {file} is of another version of memsync, or none of its files.")
    if not (isinstance(report.get("run_id"), str) and isinstance(report.get("account"), dict) and "status" in report):
        raise StateError(f"The report {file} is not as memsync writes them: somebody or something has changed it.")
    return report


def write_for_owner(path: Path, content: bytes, *, is_durable: bool = True) -> None:
    """Write a file that nobody else can read, whole or not at all. A link in its place is replaced, not followed.

    Raises:
        OSError: it cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)  # of a run that was cut off, or whatever else bears the name
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
