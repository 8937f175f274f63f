"""Draws the results, `docs/performance.json`, as pictures beside it. Runs with the Python of `.venv-peers`."""

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Each colour on a light page, and what it becomes on a dark one.
PAPER, INK, FAINT = "#ffffff", "#1f2328", "#d1d9e0"
OURS, OTHERS, MISSED = "#0969da", "#9198a1", "#d1242f"
DARK = {PAPER: "#0d1117", INK: "#e6edf3", FAINT: "#3d444d", OURS: "#4493f8", OTHERS: "#7d8590", MISSED: "#f85149"}

STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": PAPER,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.left": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "memsync",  # the same results are the same file
}


def main() -> None:
    file = Path(sys.argv[1])
    results = json.loads(file.read_text("utf-8"))
    mpl.rcParams.update(STYLE)
    figures = [figure for result in results.values() for figure in result["figures"] if figure["goal"] is not None]
    save(goals(figures), file.with_name(f"{file.stem}-goals.svg"))
    if "peers" in results:
        save(speeds(results["peers"]["speeds"]), file.with_name(f"{file.stem}-peers.svg"))


def goals(figures: Sequence[Mapping[str, Any]]) -> Figure:
    """Each figure as a multiple of its goal, turned so that more is better: a dot, with the spread as a line."""
    drawing = Figure(figsize=(12, 1.4 + 0.27 * len(figures)), layout="constrained")
    drawing.suptitle(
        "Times better than the goal, which is the line: a dot is the median, a bar the spread of the rounds",
        x=0.01, ha="left", fontsize=10, fontweight="bold",
    )  # fmt: skip
    axes = drawing.subplots()
    rows = range(len(figures) - 1, -1, -1)
    for row, figure in zip(rows, figures, strict=True):
        ratios = [times_better(ratio, figure) for ratio in figure["ratios"]]
        middle = statistics.median(ratios)
        colour = OURS if middle >= 1 else MISSED
        axes.plot([min(ratios), max(ratios)], [row, row], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(middle, row, "o", color=colour, markersize=7)
    axes.axvline(1, color=INK, linewidth=1.2, zorder=0)
    logarithmic(axes, lambda value: f"{value:g}×")
    lowest, highest = axes.get_xlim()
    axes.set_xlim(min(lowest, 0.09), max(highest, 11))
    axes.set_yticks(rows, [figure["name"].replace("`", "") for figure in figures])
    axes.set_ylim(-0.7, len(figures) - 0.3)
    axes.grid(axis="y", linewidth=0.4)

    medians = axes.secondary_yaxis("right")
    medians.set_yticks(rows, [median_and_goal(figure) for figure in figures])
    medians.spines["right"].set_visible(False)
    medians.tick_params(right=False)
    return drawing


def times_better(ratio: float, figure: Mapping[str, Any]) -> float:
    ratio = max(ratio, 0.001)  # nothing at all cannot be drawn on this scale
    return ratio / figure["goal"] if figure["is_least"] else figure["goal"] / ratio


def median_and_goal(figure: Mapping[str, Any]) -> str:
    sign = "≥" if figure["is_least"] else "≤"
    return f"{statistics.median(figure['ratios']):.2f} ({sign} {figure['goal']:g})"


def speeds(measured: Sequence[Mapping[str, Any]]) -> Figure:
    """Documents a second of each program at each run, and the most memory that it had: bars, on a logarithmic scale."""
    runs = list(dict.fromkeys(speed["run"] for speed in measured))
    by_run = {run: {one["program"]: one for one in measured if one["run"] == run} for run in runs}
    programs = sorted(
        by_run[runs[0]], key=lambda program: statistics.median(by_run[runs[0]][program]["documents_per_second"])
    )
    fastest = max(max(speed["documents_per_second"]) for speed in measured)

    drawing = Figure(figsize=(10, 5.2), layout="constrained")
    panels = drawing.subplots(2, 2, sharey=True).flat
    for axes, run in zip(panels, runs, strict=False):
        bars(axes, {program: by_run[run][program]["documents_per_second"] for program in programs})
        axes.set_title(f"{run}, documents a second")
        axes.set_xlim(100, 3 * fastest)  # the same in each panel, with room for the number
    axes = drawing.axes[-1]
    bars(axes, {program: by_run[runs[0]][program]["peak_mb"] for program in programs})
    axes.set_title(f"{runs[0]}, peak memory in MB (less is better)")
    axes.set_xlim(10, 2 * axes.get_xlim()[1])
    return drawing


def bars(axes: Axes, values: Mapping[str, Sequence[float]]) -> None:
    """The median of each program's values, with their spread as a line."""
    logarithmic(axes, lambda value: f"{value:,.0f}")
    medians = [statistics.median(rounds) for rounds in values.values()]
    colours = [OURS if program == "memsync" else OTHERS for program in values]
    axes.barh(list(values), medians, color=colours, height=0.68)
    for row, (rounds, median) in enumerate(zip(values.values(), medians, strict=True)):
        axes.plot([min(rounds), max(rounds)], [row, row], color=INK, linewidth=1)
        axes.text(max(rounds) * 1.08, row, f"{median:,.0f}", va="center", fontsize=9)


def logarithmic(axes: Axes, name: Any) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: name(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", bottom=False)
    axes.grid(axis="x")


def save(drawing: Figure, file: Path) -> None:
    """Write `drawing`, with its colours exchanged where the reader's page is dark."""
    drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media(prefers-color-scheme:dark){{{rules}}}</style>"
    svg = re.sub(r"(<svg .*?>)", rf"\1{style}", file.read_text("utf-8"), count=1, flags=re.DOTALL)
    file.write_text(svg, encoding="utf-8")


main()
