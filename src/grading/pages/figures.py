"""The geometry of a chart: what is drawn where, for the template to write as SVG.

Heights are in pixels and widths in percent, so that a figure fills a page of any width and its text keeps its size.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from src.grading.chart import AnyChart, Chart, Histogram

TOP, HEIGHT = 12, 168  # pixels above the plot, and of it
LEFT = 10.0  # percent, for the numbers at the axis
BINS = 40
LARGEST, SMALLEST = 1e6, 1e-9  # values beyond cannot be drawn beside others; differences below are none
FEW_LABELS = 8  # so many fit below the bars as they are
WIDEST = 16.0  # percent, of a bar


@dataclass(frozen=True)
class Bar:
    """A rectangle: x and width in percent, y and height in pixels."""

    kind: str  # "expected", "got", or "series0", …
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Tick:
    """A number at an axis, or a label below a bar."""

    at: float  # percent or pixels
    text: str


@dataclass(frozen=True)
class Figure:
    """All of it."""

    title: str
    description: str  # for those who do not see it
    legend: tuple[tuple[str, str], ...]  # kind and text
    bars: tuple[Bar, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    caption: str  # of the labels
    columns: tuple[str, ...]  # of the table that says the same
    rows: tuple[tuple[str, ...], ...]
    unit: str = ""
    top: int = TOP
    height: int = HEIGHT
    left: float = LEFT
    zero: float = field(default=float(TOP + HEIGHT))  # where 0 is, in pixels


def figure(chart: AnyChart) -> Figure | None:
    """How to draw `chart`; None where there is nothing to draw."""
    if isinstance(chart, Histogram):
        return _histogram(chart)
    return _bars(chart) if chart.labels else None


def _bars(chart: Chart) -> Figure:
    most = max((abs(value) for value in chart.expected), default=0.0)
    most = most if most > SMALLEST else 1.0
    got = [min(max(value, -2 * most), 2 * most) if not math.isnan(value) else 0.0 for value in chart.got]
    scale = _Scale(min(0.0, *chart.expected, *got), max(0.0, *chart.expected, *got))
    slot, bars = (100 - LEFT) / len(chart.labels), []
    width = min(0.8 * slot, WIDEST)
    for i, (right, value) in enumerate(zip(chart.expected, got, strict=True)):
        middle = LEFT + (i + 0.5) * slot
        bars.append(scale.bar("expected", middle - width / 2, width, right))
        bars.append(scale.bar("got", middle - width / 4, width / 2, value))
    labels, caption = _short(chart.labels)
    step = math.ceil(len(labels) / 12)
    x_ticks = tuple(Tick(LEFT + (i + 0.5) * slot, label) for i, label in enumerate(labels) if i % step == 0)
    rows = zip(chart.labels, map(_number, chart.expected), map(_number, chart.got), strict=True)
    return Figure(
        title=chart.title, description=_difference(chart), legend=(("expected", "expected"), ("got", "yours")),
        bars=tuple(bars), y_ticks=scale.ticks(), x_ticks=x_ticks, caption=caption,
        columns=("", "expected", "yours"), rows=tuple(rows), unit=chart.unit, zero=scale.y(0.0),
    )  # fmt: skip


def _histogram(chart: Histogram) -> Figure | None:
    drawn = [[v for v in series.values if abs(v) <= LARGEST] for series in chart.series]  # no NaN, either
    everything = list(itertools.chain(*drawn))
    if not everything:
        return None
    around = 1.0 if min(everything) == max(everything) else 0.0  # one bar, in the middle
    ticks = _nice(min(everything) - around, max(everything) + around)
    low, high = ticks[0], ticks[-1]
    bins = int(high - low) if 8 <= high - low <= BINS else BINS  # of whole numbers where there are few
    counts = [_counted(values, low, high, bins) for values in drawn]
    scale, slot, bars = _Scale(0.0, max(map(max, counts))), (100 - LEFT) / bins, []
    for i, of_series in enumerate(counts):
        bars += [scale.bar(f"series{i}", LEFT + b * slot, slot, float(n)) for b, n in enumerate(of_series) if n]
    x_ticks = tuple(Tick(LEFT + (100 - LEFT) * (tick - low) / (high - low), _number(tick)) for tick in ticks[1:-1])
    stats = [_statistics(values) for values in drawn]
    rows = [(s.label, f"{len(s.values)}", *each) for s, each in zip(chart.series, stats, strict=True)]
    means = "; ".join(f"{label}: {mean} on average" for label, _, _, mean, _ in rows)
    missing = sum(len(series.values) for series in chart.series) - len(everything)
    note = f"; {missing} not drawn, since they are no numbers of a usual size" if missing else ""
    return Figure(
        title=chart.title, description=f"{means}{note}.",
        legend=tuple((f"series{i}", series.label) for i, series in enumerate(chart.series)), bars=tuple(bars),
        y_ticks=scale.ticks(), x_ticks=x_ticks, caption=chart.unit + note,
        columns=("", "how many", "smallest", "mean", "largest"), rows=tuple(rows), unit=chart.unit,
    )  # fmt: skip


class _Scale:
    """From values to pixels; its ends are round numbers."""

    def __init__(self, low: float, high: float):
        self._values = _nice(low, high)
        self._low, self._high = self._values[0], self._values[-1]

    def y(self, value: float) -> float:
        """Where `value` is."""
        return round(TOP + HEIGHT * (self._high - value) / (self._high - self._low), 1)

    def bar(self, kind: str, x: float, width: float, value: float) -> Bar:
        """The bar from 0 to `value`; never so low that nobody sees it."""
        ends = sorted((self.y(0.0), self.y(value)))
        return Bar(kind, round(x, 2), ends[0], round(width, 2), round(max(1.0, ends[1] - ends[0]), 1))

    def ticks(self) -> tuple[Tick, ...]:
        """The numbers at the axis."""
        return tuple(Tick(self.y(value), _number(value)) for value in self._values)


def _nice(low: float, high: float) -> list[float]:
    """Three to seven round numbers in equal steps, from at most `low` to at least `high`."""
    if high - low < SMALLEST:
        high = low + 1.0
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 12) for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _counted(values: Sequence[float], low: float, high: float, bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    return counts


def _statistics(values: Sequence[float]) -> tuple[str, str, str]:
    if not values:
        return ("–", "–", "–")
    return (_number(min(values)), _number(sum(values) / len(values)), _number(max(values)))


def _short(labels: Sequence[str]) -> tuple[list[str], str]:
    """The labels without their first word, and that word, where there are many of them and all share it."""
    words = {label.partition(" ")[0] for label in labels}
    if len(labels) <= FEW_LABELS or len(words) > 1:
        return list(labels), ""
    return [label.partition(" ")[2] for label in labels], words.pop()


def _difference(chart: Chart) -> str:
    """Where the values differ most, in words."""
    differences = [
        math.inf if math.isnan(value) else abs(value - right)
        for value, right in zip(chart.got, chart.expected, strict=True)
    ]
    i = differences.index(max(differences))
    unit = f" {chart.unit}" if chart.unit else ""
    return (
        f"They differ most for {chart.labels[i]}: expected {_number(chart.expected[i])}{unit}, "
        f"yours {_number(chart.got[i])}{unit}."
    )


def _number(value: float) -> str:
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    return f"{value:.4g}".replace("-", "−")
