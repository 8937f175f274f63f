"""Results as data: `docs/performance.json` holds what each benchmark measured last, and on what machine."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiobotocore import __version__ as client_version

from tests.benchmarks.figures import Figure, Measured, Speed

FILE = Path(__file__).parents[2] / "docs" / "performance.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark measured, the day, and the machine with the versions on it."""

    date: str
    machine: Mapping[str, str]
    measured: Measured


@dataclass(frozen=True, slots=True)
class Results:
    """The last result of each benchmark, by its name."""

    by_benchmark: Mapping[str, Result] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path = FILE) -> "Results":
        """What is stored in `file`; nothing, if there is none yet."""
        if not file.exists():
            return cls()
        return cls({name: _from_json(stored) for name, stored in json.loads(file.read_text("utf-8")).items()})

    def save(self, file: Path = FILE) -> None:
        stored = {name: _to_json(result) for name, result in self.by_benchmark.items()}
        file.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def replaced(self, new: Mapping[str, Result], order: Sequence[str]) -> "Results":
        """These results with `new` ones in the place of older ones of the same benchmarks, in `order`."""
        merged = {**self.by_benchmark, **new}
        return Results({name: merged[name] for name in order if name in merged})


def machine() -> dict[str, str]:
    """What the figures depend on, as far as the machine tells."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_gib:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "aiobotocore": client_version,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _to_json(result: Result) -> dict[str, Any]:
    return {
        "date": result.date,
        "machine": dict(result.machine),
        "figures": [
            {
                "name": figure.name,
                "ratios": [_rounded(ratio) for ratio in figure.ratios],
                "goal": figure.goal,
                "is_least": figure.is_least,
            }
            for figure in result.measured.figures
        ],
        "speeds": [
            {
                "program": speed.program,
                "run": speed.run,
                "documents_per_second": [_rounded(value) for value in speed.documents_per_second],
                "peak_mb": [_rounded(value) for value in speed.peak_mb],
            }
            for speed in result.measured.speeds
        ],
    }


def _rounded(value: float) -> float:
    """`value` to four digits: more would be noise, and make every change of the file look large."""
    return float(f"{value:.4g}")


def _from_json(stored: Mapping[str, Any]) -> Result:
    figures = [Figure(**figure) for figure in stored["figures"]]
    speeds = [Speed(**speed) for speed in stored["speeds"]]
    return Result(stored["date"], stored["machine"], Measured(figures, speeds))
