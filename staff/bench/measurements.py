"""The record of a benchmark: the lines of its table, its contests, and the curves of its chart."""

import math
from dataclasses import dataclass, field

from staff.bench.intervals import Ratio

Curves = dict[str, dict[str, dict[int, float]]]  # chart → label of a curve → x → y


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    what: str
    value: float
    unit: str
    bound: float | None = None  # the value should be at least this; or at most -bound, if bound is negative
    note: str = ""
    interval: tuple[float, float] | None = None  # of a ratio, see intervals.py

    @property
    def met(self) -> bool | None:
        """Whether the value keeps to its bound; None if there is no bound, or if that is not settled."""
        if self.bound is None or math.isnan(self.value):
            return None
        if self.interval and self.interval[0] < abs(self.bound) < self.interval[1]:
            return None
        return self.value >= self.bound if self.bound > 0 else self.value <= -self.bound

    @property
    def verdict(self) -> str:
        """What is said of the bound."""
        if self.bound is None:
            return ""
        return {None: "not settled", True: "met", False: "missed"}[self.met]


@dataclass(frozen=True)
class Entry:
    """A contender in a contest: its time, and that time divided by ours."""

    label: str
    minimum: float = math.nan  # seconds a token
    median: float = math.nan
    ratio: Ratio | None = None  # None for ours, and if nothing was measured
    computes: str = ""  # how far its next-token distribution is from ours
    error: str = ""
    is_limit: bool = False  # a limit of the machine, not an implementation

    @property
    def claim(self) -> str:
        """What may be said of our model, compared with this."""
        return "" if self.ratio is None or self.is_limit else self.ratio.claim or "not settled"


@dataclass(frozen=True)
class Contest:
    """Implementations that decoded the same prompts in turn, block by block."""

    what: str
    entries: tuple[Entry, ...]
    discarded: tuple[int, int]  # how many blocks, and of how many


@dataclass
class Measurements:
    """Everything that a section has measured."""

    began: str = ""  # date and time, UTC
    minutes: float = math.nan
    rounds: int = 0
    lines: list[Line] = field(default_factory=list)
    contests: list[Contest] = field(default_factory=list)
    curves: Curves = field(default_factory=dict)

    def add(self, what: str, value: float, unit: str, bound: float | None = None, note: str = "") -> None:
        """Add a `Line`, and print it."""
        self._add(Line(what, value, unit, bound, note))

    def add_ratio(self, what: str, ratio: Ratio, unit: str, bound: float | None = None, note: str = "") -> None:
        """Add the `Line` of a ratio with its interval, and print it."""
        self._add(Line(what, ratio.value, unit, bound, note, (ratio.low, ratio.high)))

    def _add(self, line: Line) -> None:
        self.lines.append(line)
        print(text_of(line), flush=True)

    def add_contest(self, contest: Contest) -> None:
        """Add a `Contest`, and print its table."""
        self.contests.append(contest)
        print(text_of_contest(contest), flush=True)

    def add_curve(self, chart: str, label: str, points: dict[int, float]) -> None:
        """Add a curve to a chart."""
        self.curves.setdefault(chart, {})[label] = points


def text_of(line: Line) -> str:
    """The line as it is printed."""
    interval = "" if line.interval is None else "[{:.3g}, {:.3g}]".format(*line.interval)
    bound = "" if line.bound is None else f"{'at least' if line.bound > 0 else 'at most'} {abs(line.bound):g}"
    verdict = line.verdict.replace("missed", "MISSED")
    text = f"{line.what:<66} {line.value:>9.3g} {interval:<14} {line.unit:<10} {bound:<14} {verdict:<12}{line.note}"
    return text.rstrip()


HEAD = ("", "ms a token: least", "median", "times ours", "95 % interval", "ours is", "next token")


def cells(entry: Entry) -> tuple[str, ...]:
    """The row of a contender, under HEAD."""
    if entry.error:
        return (entry.label, "", "", "", "", "", f"error: {entry.error}")
    measured = (f"{entry.minimum * 1e3:.2f}", f"{entry.median * 1e3:.2f}")
    if entry.ratio is None:
        return (entry.label, *measured, "", "", "", entry.computes)
    if not entry.ratio.rounds:
        return (entry.label, *measured, "", "", "never quiet", entry.computes)
    interval = f"{entry.ratio.low:.2f} to {entry.ratio.high:.2f}"
    return (entry.label, *measured, f"{entry.ratio.value:.2f}", interval, entry.claim, entry.computes)


def heading(contest: Contest) -> str:
    """What was measured, and how many blocks do not count."""
    busy, blocks = contest.discarded
    return f"{contest.what}; {busy} of {blocks} blocks discarded, because memory was slower to read than usual"


def text_of_contest(contest: Contest) -> str:
    """The contest as it is printed."""
    rows = [HEAD, *map(cells, contest.entries)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD) - 1)]
    lines = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]).rstrip() for row in rows]
    return "\n".join(["", heading(contest), *lines])
