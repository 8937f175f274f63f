"""Where the lines and bars of a chart go. Plain geometry in the units of an SVG's viewBox; the page draws it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from pipeline.reporting.text import duration

WIDTH = 720.0
LEFT, RIGHT = 58.0, 712.0
TOP = 12.0
PLOT_HEIGHT = 150.0
AXIS_HEIGHT = 24.0
ROW_HEIGHT = 26.0
LABEL_WIDTH = 236.0
TICKS = 4
BAR_GAP = 0.25  # of the room of one bar

# What an axis of time is divided by, in seconds.
_TIME_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """`kind` names its colour, `title` is what is told of it; `href` leads somewhere, if there is one."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """`path` as in an SVG path's `d`; `area` is the same, closed at the foot."""

    path: str
    kind: str
    area: str | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    height: float
    x_ticks: Sequence[Tick] = ()
    y_ticks: Sequence[Tick] = ()
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    labels: Sequence[Tick] = field(default=())  # of rows, at the left
    width: float = WIDTH
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = TOP + PLOT_HEIGHT


# ------------------------------------------------------------------------------------------------- scales


def nice_ceiling(value: float) -> float:
    """The least of 1, 2, 4, 5, 8 or 10 times a power of ten that is not below `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power > value:
        power /= 10
    return next(step * power for step in (1, 2, 4, 5, 8, 10, 20) if step * power >= value * (1 - 1e-9))


def y_scale(value_max: float) -> tuple[Callable[[float], float], list[Tick]]:
    """Where a value stands, 0 at the foot, and the ticks of the axis."""
    top = nice_ceiling(value_max)

    def at(value: float) -> float:
        return round(TOP + PLOT_HEIGHT * (1 - min(value, top) / top), 2)

    return at, [Tick(at(top * step / TICKS), number(top * step / TICKS)) for step in range(TICKS + 1)]


def number(value: float) -> str:
    """`0`, `2.5`, `120`, `12k`, `3.5M`."""
    for unit, size in (("M", 1_000_000), ("k", 10_000)):
        if value >= size:
            return f"{value / (1_000 if unit == 'k' else size):g}{unit}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def time_ticks(seconds: float, left: float, right: float) -> list[Tick]:
    """Some four to eight round moments between 0 and `seconds`."""
    step = next((step for step in _TIME_STEPS_S if seconds / step <= 8), max(86_400.0, seconds / 8))
    moments = [index * step for index in range(int(seconds / step) + 1)]
    return [Tick(round(left + (right - left) * at_s / seconds, 2), _clock(at_s, step)) for at_s in moments]


def _clock(seconds: float, step: float) -> str:
    if seconds == 0:
        return "0"
    if step < 60 and seconds < 60:
        return f"{seconds:g} s"
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min" if minutes_left else f"{hours} h"
    return f"{minutes} min {rest_s} s" if rest_s else f"{minutes} min"


# ------------------------------------------------------------------------------------------------- charts


@dataclass(frozen=True, slots=True)
class Buckets:
    """Counts over time: each bucket lasts `bucket_s`, but for the last, which ends with the run."""

    bucket_s: float
    seconds: float

    def rates(self, counts: Sequence[int]) -> list[float]:
        """`counts` as numbers a second."""
        lengths = [self.bucket_s] * len(counts)
        if counts:
            # A few milliseconds would make a peak of a single count.
            rest = self.seconds - self.bucket_s * (len(counts) - 1)
            lengths[-1] = min(self.bucket_s, max(rest, self.bucket_s / 2))
        return [count / length for count, length in zip(counts, lengths, strict=True)]

    @property
    def end_s(self) -> float:
        return max(self.seconds, self.bucket_s)

    def x(self, index: float) -> float:
        """Where a bucket begins."""
        return round(LEFT + (RIGHT - LEFT) * min(1.0, index * self.bucket_s / self.end_s), 2)


def steps_chart(buckets: Buckets, rates: Sequence[float], kind: str, unit: str) -> Chart:
    """A rate over time, as steps with what is below them filled."""
    at, y_ticks = y_scale(max(rates, default=0.0))
    bars = [
        _hover(buckets, index, f"{number(round(rate, 1))} {unit}", TOP, TOP + PLOT_HEIGHT)
        for index, rate in enumerate(rates)
    ]
    line = _steps(buckets, [at(rate) for rate in rates], kind, is_filled=True)
    return Chart(
        TOP + PLOT_HEIGHT + AXIS_HEIGHT, time_ticks(buckets.end_s, LEFT, RIGHT), y_ticks, [line] if line else [], bars
    )


def _hover(buckets: Buckets, index: int, what: str, top: float, bottom: float) -> Bar:
    """An invisible bar that tells of its bucket when it is pointed at."""
    left, right = buckets.x(index), buckets.x(index + 1)
    title = f"{duration(index * buckets.bucket_s)} after the start: {what}"
    return Bar(left, top, round(max(right - left, 0.1), 2), bottom - top, "hover", title)


def _steps(buckets: Buckets, heights: Sequence[float | None], kind: str, *, is_filled: bool = False) -> Line | None:
    """A line with a step for each height; where there is none, it is interrupted."""
    parts: list[str] = []
    is_open = False
    for index, y in enumerate(heights):
        if y is None:
            is_open = False
            continue
        parts.append(f"{'L' if is_open else 'M'}{buckets.x(index):g} {y:g}H{buckets.x(index + 1):g}")
        is_open = True
    if not parts:
        return None
    path = "".join(parts)
    foot = TOP + PLOT_HEIGHT
    area = f"M{LEFT:g} {foot:g}L{path[1:]}V{foot:g}Z" if is_filled else None
    return Line(path, kind, area)


def requests_chart(
    buckets: Buckets, requests: Sequence[int], again: Sequence[int], allowed: Sequence[float | None]
) -> tuple[Chart, bool]:
    """Requests a second: those that were taken, above them those that had to be sent again, and what was allowed.

    Returns also whether the allowed rate is drawn: one far above all that was sent would flatten the rest.
    """
    sent, repeated = buckets.rates(requests), buckets.rates(again)
    peak = max(sent, default=0.0)
    known = [rate for rate in allowed if rate is not None]
    draws_allowed = bool(known) and max(known) <= 4 * max(peak, 1.0)
    at, y_ticks = y_scale(max(peak, max(known) if draws_allowed else 0.0))
    foot = TOP + PLOT_HEIGHT
    bars: list[Bar] = []
    for index, (rate, again_rate) in enumerate(zip(sent, repeated, strict=True)):
        left, right = buckets.x(index), buckets.x(index + 1)
        width = round(max((right - left) * 0.9, 0.3), 2)
        taken = max(0.0, rate - again_rate)
        if taken:
            bars.append(Bar(left, at(taken), width, round(foot - at(taken), 2), "taken", ""))
        if again_rate:
            bars.append(Bar(left, at(rate), width, round(at(taken) - at(rate), 2), "again", ""))
        told = f"{number(round(rate, 1))} requests/s, {number(round(again_rate, 1))} of them sent again"
        bars.append(_hover(buckets, index, told, TOP, foot))
    line = (
        _steps(buckets, [None if rate is None else at(rate) for rate in allowed], "allowed") if draws_allowed else None
    )
    chart = Chart(foot + AXIS_HEIGHT, time_ticks(buckets.end_s, LEFT, RIGHT), y_ticks, [line] if line else [], bars)
    return chart, draws_allowed


def spans_chart(spans: Sequence[tuple[str, float, float]], seconds: float) -> Chart:
    """Rows of a label and when, from and to, in seconds since the start."""
    end_s = max([seconds, 0.001, *(to_s for _, _, to_s in spans)])
    left, right = LABEL_WIDTH, RIGHT

    def x(at_s: float) -> float:
        return round(left + (right - left) * at_s / end_s, 2)

    tops = list(accumulate([ROW_HEIGHT] * len(spans), initial=TOP))
    bars = [
        Bar(
            x(from_s),
            top + 5,
            max(round(x(to_s) - x(from_s), 2), 2.0),
            ROW_HEIGHT - 10,
            "span",
            f"{label}: {_span(from_s, to_s)}",
        )
        for (label, from_s, to_s), top in zip(spans, tops, strict=False)
    ]
    labels = [
        Tick(top + ROW_HEIGHT / 2, f"{label}, {duration(to_s - from_s)}")
        for (label, from_s, to_s), top in zip(spans, tops, strict=False)
    ]
    bottom = tops[-1]
    return Chart(
        bottom + AXIS_HEIGHT,
        time_ticks(end_s, left, right),
        (),
        (),
        bars,
        labels,
        left=left,
        right=right,
        bottom=bottom,
    )


def _span(from_s: float, to_s: float) -> str:
    return f"from {duration(from_s)} to {duration(to_s)} after the start"


def trend_chart(values: Sequence[tuple[float, str, str]], *, marked: int | None) -> Chart:
    """A bar for each value with its kind and title, the oldest at the left; below `marked`, a mark."""
    at, y_ticks = y_scale(max((value for value, _, _ in values), default=0.0))
    foot = TOP + PLOT_HEIGHT
    room = (RIGHT - LEFT) / max(len(values), 12)
    bars = []
    for index, (value, kind, title) in enumerate(values):
        # A run that changed nothing is one as well: its foot tells that it was there, and how it ended.
        top = min(at(value), foot - 3.0)
        left = round(LEFT + room * (index + BAR_GAP / 2), 2)
        bars.append(Bar(left, top, round(room * (1 - BAR_GAP), 2), round(foot - top, 2), kind, title))
    marks = [] if marked is None else [Tick(round(LEFT + room * (marked + 0.5), 2), "this run")]
    return Chart(foot + AXIS_HEIGHT, marks, y_ticks, (), bars)
